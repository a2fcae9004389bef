//! Who is slow, and finds moved by a collector what it was about to read: another collector, or a verification.

use super::*;
use crate::ops::verify::{Scope, VerifyOptions, VerifyStats, verify};
use crate::store::fault::{Call, Gate};

/// A store where packs are to be deleted, and others to be written anew first.
fn world() -> World {
    let mut world = World::new();
    let first = world.commit(&files(0..20));
    world.commit(&files([3, 17]));
    world.forget(&first);
    world
}

/// Lets others do something while one host waits at a call; returns what that did in the end.
fn while_waiting<T: Send>(
    world: &World,
    act: fn(&Repository) -> T,
    waits_at: fn(&Call) -> bool,
    others: impl FnOnce(),
) -> T {
    let slow = world.fixture.on_another_host();
    let gate = Gate::new();
    let at = std::sync::Arc::clone(&gate);
    let mut has_waited = false;
    slow.store.script(move |call| {
        let waits = !has_waited && waits_at(call);
        has_waited |= waits;
        waits.then(|| Fault::Block(std::sync::Arc::clone(&at)))
    });
    std::thread::scope(|scope| {
        let acted = scope.spawn(|| act(&slow.repo));
        gate.wait_for_arrivals(1).unwrap();
        others();
        gate.release();
        acted.join().unwrap()
    })
}

fn collect_at_once(repo: &Repository) -> GcStats {
    collect(repo, &AT_ONCE, &Silent).unwrap()
}

fn verify_all(repo: &Repository) -> VerifyStats {
    verify(repo, Scope::All, &VerifyOptions { threads: 1, journal: None }, &Silent).unwrap()
}

fn lists_packs(call: &Call) -> bool {
    call.operation == Operation::List && call.object == Prefix::Packs.as_str()
}

/// Lets another collector do everything while a first one waits.
fn overtake(waits_at: fn(&Call) -> bool) {
    let world = world();
    let stats = while_waiting(&world, collect_at_once, waits_at, || {
        let stats = world.collect();
        assert!(stats.rewritten_packs == 1 && stats.waiting_for.is_empty(), "{stats:?}");
    });
    assert_eq!((stats.deleted_packs, stats.dropped_snapshots), (0, 0));
    world.judge();
}

#[test]
fn before_it_writes_anew() {
    overtake(|call| call.operation == Operation::Create && call.object.starts_with("sessions/"));
}

#[test]
fn while_it_looks() {
    overtake(lists_packs);
}

/// Of two collections that wait for the same session, each would take for gone what the other one names. What the session
/// relied on would then be nowhere, and no collection could ever decide.
#[test]
fn two_collections_are_never_under_way() {
    let mut world = world();
    let other = world.fixture.on_another_host();
    let session = SessionWriter::open(&other.repo, SessionOptions::new("slow")).unwrap();
    let stats = while_waiting(&world, collect_at_once, lists_packs, || {
        assert_eq!(world.collect().waiting_for.len(), 1)
    });
    assert_eq!(stats.waiting_for.len(), 1);
    assert_eq!(world.count(Prefix::Gc), 1);
    let relied_on = other.commit_through(session, |maker| entries(maker, &files(0..20)));
    world.acknowledged.commit(relied_on.manifest.id, files(0..20));
    // What is condemned and not decided is there: a plan fails where anything is missing.
    drop(world.plan());
    assert_eq!(world.collect().waiting_for, []);
    world.judge();
}

/// Packs that move while a verification reads are no damage.
#[test]
fn what_moves_is_not_damaged() {
    let waits: [fn(&Call) -> bool; 3] = [
        lists_packs,
        |call| call.operation == Operation::Get && call.object.starts_with("packs/"),
        |call| call.operation == Operation::List && call.object == Prefix::Marks.as_str(),
    ];
    for waits_at in waits {
        let world = world();
        let stats = while_waiting(&world, verify_all, waits_at, || drop(world.collect()));
        assert_eq!((stats.damaged, stats.snapshots), (Vec::new(), 1));
    }
}

/// What is damaged is told, whatever moves.
#[test]
fn what_is_damaged_is_told_while_others_collect() {
    let mut world = world();
    world.commit(&files(40..44));
    let pack = world.fixture.pack_of(ChunkKind::Data, &noise(41, 40_000)[..5000]);
    world.fixture.tamper(&pack, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    let stats = while_waiting(&world, verify_all, lists_packs, || drop(world.collect()));
    let objects: Vec<_> = stats.damaged.iter().map(|damage| damage.object.as_str()).collect();
    assert_eq!(objects, [pack.as_str()]);
}
