//! The oracle on trial: bugs that lost data elsewhere are put back, and it has to notice each of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::*;
use crate::repo::flaw::Flaw;
use crate::store::fault::{Call, Gate};

const ALONE: GcOptions = GcOptions { writers: OtherWriters::None, ..AT_ONCE };

#[test]
fn each_flaw_is_noticed() {
    let missed: Vec<Flaw> = Flaw::ALL.into_iter().filter(|flaw| is_fine(*flaw, Some(*flaw))).collect();
    assert!(missed.is_empty(), "the oracle does not notice: {missed:?}");
}

/// What shows a flaw does no harm without it.
#[test]
fn nothing_is_noticed_without_a_flaw() {
    for flaw in Flaw::ALL {
        assert!(is_fine(flaw, None), "what shows {flaw:?}");
    }
}

/// Disturbs a store in the way that shows a flaw, with it or without it; tells whether the oracle finds nothing.
fn is_fine(shown: Flaw, back: Option<Flaw>) -> bool {
    let mut world = World::new();
    Flaw::while_back(back, || disturbance(shown)(&mut world));
    world.fixture.store.clear_script();
    catch_unwind(AssertUnwindSafe(|| world.judge())).is_ok()
}

fn disturbance(flaw: Flaw) -> fn(&mut World) {
    match flaw {
        Flaw::TakesErrorForEmpty => snapshots_cannot_be_listed,
        Flaw::MarksOnce => a_backup_commits_while_it_is_waited_for,
        Flaw::SupersedesFirst => a_collector_dies_while_it_replaces,
        Flaw::ForgetsBases => the_first_night_is_forgotten,
        Flaw::DropsFinal => an_index_object_comes_late,
        Flaw::ReliesOnCondemned => a_backup_begins_while_a_collector_decides,
        Flaw::CommitsOverTombstone | Flaw::LeavesNoTombstone => a_backup_sleeps,
        Flaw::IgnoresFailures => the_store_is_full,
        Flaw::TrustsOldIndex => a_host_was_away,
    }
}

/// The second listing of each look fails: the first one looks for open sessions.
fn snapshots_cannot_be_listed(world: &mut World) {
    let first = world.commit(&files(0..4));
    world.commit(&files(4..8));
    world.forget(&first);
    let mut listings = 0;
    world.fixture.store.script(move |call| {
        let is_listing = call.operation == Operation::List && call.object == Prefix::Snapshots.as_str();
        listings += usize::from(is_listing);
        (is_listing && listings % 2 == 0).then_some(Fault::Fail(StoreErrorKind::Unavailable))
    });
    drop(collect(&world.fixture.repo, &AT_ONCE, &Silent));
}

fn a_backup_commits_while_it_is_waited_for(world: &mut World) {
    let first = world.commit(&files(0..4));
    world.forget(&first);
    let other = world.fixture.on_another_host();
    let session = SessionWriter::open(&other.repo, SessionOptions::new("slow")).unwrap();
    assert_eq!(world.collect().waiting_for.len(), 1);
    let relied_on = other.commit_through(session, |maker| entries(maker, &files(0..4)));
    world.acknowledged.commit(relied_on.manifest.id, files(0..4));
    drop(collect(&world.fixture.repo, &AT_ONCE, &Silent));
}

/// The index object of the first backup names a pack that is dead, and one that the second backup needs.
fn a_collector_dies_while_it_replaces(world: &mut World) {
    let first = world.commit(&files(0..4));
    world.commit(&files(0..5));
    world.forget(&first);
    world.fixture.store.script(|call| {
        let replaces = call.operation == Operation::Create && call.object.starts_with("index/");
        replaces.then_some(Fault::Fail(StoreErrorKind::Unavailable))
    });
    drop(collect(&world.fixture.repo, &AT_ONCE, &Silent).unwrap_err());
}

fn the_first_night_is_forgotten(world: &mut World) {
    let night = noise(9, 15_000);
    let mut next = night.clone();
    next[3000] ^= 1;
    let first = world.commit_chunks(&[("dump", &night)]);
    world.commit_chunks(&[("dump", &next)]);
    assert!(world.place(&next).base.is_some());
    world.forget(&first);
    drop(collect(&world.fixture.repo, &AT_ONCE, &Silent));
}

fn an_index_object_comes_late(world: &mut World) {
    let first = world.commit(&files(0..4));
    let late = world.fixture.keys(Prefix::Index)[0].clone();
    let bytes = world.fixture.memory.get(&late, None).unwrap();
    world.forget(&first);
    world.collect();
    world.fixture.memory.create(&late, Payload::Bytes(&bytes)).unwrap();
    world.commit(&files(0..4));
}

fn a_backup_begins_while_a_collector_decides(world: &mut World) {
    let first = world.commit(&files(0..4));
    world.forget(&first);
    let (other, gate) = (world.fixture.on_another_host(), Gate::new());
    let at = Arc::clone(&gate);
    let decides = |call: &Call| call.operation == Operation::Create && call.object.ends_with(".final");
    other.store.script(move |call| decides(call).then(|| Fault::Block(Arc::clone(&at))));
    std::thread::scope(|scope| {
        let collected = scope.spawn(|| collect(&other.repo, &AT_ONCE, &Silent));
        gate.wait_for_arrivals(1).unwrap();
        world.commit(&files(0..4));
        gate.release();
        collected.join().unwrap().unwrap();
    });
}

fn a_backup_sleeps(world: &mut World) {
    let first = world.commit(&files(0..4));
    world.forget(&first);
    let other = world.fixture.on_another_host();
    let sleeper = SessionWriter::open(&other.repo, SessionOptions::new("sleeper")).unwrap();
    collect(&world.fixture.repo, &ALONE, &Silent).unwrap();
    if let Ok(snapshot) = other.try_commit_through(sleeper, |maker| entries(maker, &files(0..4))) {
        world.acknowledged.commit(snapshot.manifest.id, files(0..4));
    }
}

fn the_store_is_full(world: &mut World) {
    world.fixture.store.script(|call| {
        let is_pack = call.operation == Operation::Create && call.object.starts_with("packs/");
        is_pack.then_some(Fault::Fail(StoreErrorKind::Full))
    });
    let session = SessionWriter::open(&world.fixture.repo, SessionOptions::new("large")).unwrap();
    if let Ok(snapshot) = world.fixture.try_commit_through(session, |maker| entries(maker, &files(0..4))) {
        world.acknowledged.commit(snapshot.manifest.id, files(0..4));
    }
}

/// It was away for longer than what warned it was kept.
fn a_host_was_away(world: &mut World) {
    let first = world.commit(&files(0..4));
    let away = world.fixture.on_another_host();
    away.repo.refresh_strictly().unwrap();
    world.forget(&first);
    world.collect();
    for key in world.fixture.keys(Prefix::Gc) {
        world.fixture.memory.delete(&key).unwrap();
    }
    let session = SessionWriter::open(&away.repo, SessionOptions::new("away")).unwrap();
    let snapshot = away.commit_through(session, |maker| entries(maker, &files(0..4)));
    world.acknowledged.commit(snapshot.manifest.id, files(0..4));
}
