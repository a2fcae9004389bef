//! A collector that dies at any step: the next one goes on, and nothing is lost.

use super::*;

/// A store where a collection has everything to do: packs that are dead, packs to write anew, snapshots to drop.
fn world() -> World {
    let mut world = World::new();
    let first = world.commit(&files(0..6));
    world.commit(&files([2, 20, 21]));
    let third = world.commit(&files(30..33));
    world.commit(&files([2, 31]));
    world.forget(&first);
    world.forget(&third);
    world
}

#[test]
fn a_collector_may_die_at_any_step() {
    let steps = {
        let world = world();
        world.fixture.store.clear_calls();
        world.collect();
        world.judge();
        world.fixture.store.calls().iter().filter(|call| call.operation.is_mutating()).count()
    };
    assert!(steps > 30, "{steps}");
    // The races of the probe come first.
    for mutations in 17..steps {
        let world = world();
        let other = world.fixture.on_another_host();
        other.store.die_after(mutations);
        let alone = GcOptions { writers: OtherWriters::None, ..AT_ONCE };
        drop(collect(&other.repo, &AT_ONCE, &Silent).unwrap_err());
        let before = world.fixture.on_another_host();
        assert_eq!(before.repo.snapshots().unwrap().len(), 2, "{mutations}");
        let stats = collect(&world.fixture.repo, &alone, &Silent).unwrap();
        assert_eq!(stats.waiting_for, [], "{mutations}");
        world.judge();
        let left = world.plan();
        assert!(left.dead.is_empty() && left.snapshots.is_empty(), "{mutations}: {left:?}");
    }
}

/// Whatever reply is lost, the collector fails or goes on, and the next one ends the work.
#[test]
fn any_reply_may_be_lost() {
    for nth in (17..60).step_by(3) {
        let world = world();
        let other = world.fixture.on_another_host();
        let mut seen = 0;
        other.store.script(move |call| {
            seen += usize::from(call.operation.is_mutating());
            (call.operation.is_mutating() && seen == nth)
                .then_some(Fault::FailAfter(StoreErrorKind::Unavailable))
        });
        drop(collect(&other.repo, &AT_ONCE, &Silent));
        let alone = GcOptions { writers: OtherWriters::None, ..AT_ONCE };
        collect(&world.fixture.repo, &alone, &Silent).unwrap();
        world.judge();
    }
}
