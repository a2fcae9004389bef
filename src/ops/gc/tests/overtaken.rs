//! A collector that is slow, and finds done by another one what it planned.

use super::*;
use crate::store::fault::{Call, Gate};

/// A store where packs are to be deleted, and others to be written anew first.
fn world() -> World {
    let mut world = World::new();
    let first = world.commit(&files(0..20));
    world.commit(&files([3, 17]));
    world.forget(&first);
    world
}

/// Lets others do something while a collector waits at a call; returns what that did in the end.
fn while_waiting(world: &World, waits_at: fn(&Call) -> bool, others: impl FnOnce()) -> GcStats {
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
        let collected = scope.spawn(|| collect(&slow.repo, &AT_ONCE, &Silent));
        gate.wait_for_arrivals(1).unwrap();
        others();
        gate.release();
        collected.join().unwrap().unwrap()
    })
}

fn lists_packs(call: &Call) -> bool {
    call.operation == Operation::List && call.object == Prefix::Packs.as_str()
}

/// Lets another collector do everything while a first one waits.
fn overtake(waits_at: fn(&Call) -> bool) {
    let world = world();
    let stats = while_waiting(&world, waits_at, || {
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
    let stats = while_waiting(&world, lists_packs, || assert_eq!(world.collect().waiting_for.len(), 1));
    assert_eq!(stats.waiting_for.len(), 1);
    assert_eq!(world.count(Prefix::Gc), 1);
    let relied_on = other.commit_through(session, |maker| entries(maker, &files(0..20)));
    world.acknowledged.commit(relied_on.manifest.id, files(0..20));
    assert_eq!(world.collect().waiting_for, []);
    world.judge();
}
