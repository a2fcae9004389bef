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

/// Lets another collector do everything while a first one waits at a call.
fn overtake(waits_at: fn(&Call) -> bool) {
    let world = world();
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
        let stats = world.collect();
        assert!(stats.rewritten_packs == 1 && stats.waiting_for.is_empty(), "{stats:?}");
        gate.release();
        let stats = collected.join().unwrap().unwrap();
        assert_eq!((stats.deleted_packs, stats.dropped_snapshots), (0, 0));
    });
    world.judge();
}

#[test]
fn before_it_writes_anew() {
    overtake(|call| call.operation == Operation::Create && call.object.starts_with("sessions/"));
}

#[test]
fn while_it_looks() {
    overtake(|call| call.operation == Operation::List && call.object == Prefix::Packs.as_str());
}
