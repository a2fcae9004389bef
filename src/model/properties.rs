//! What shall hold, whatever happens.
//!
//! Safety: every snapshot that people can see can be read as a whole from packs that index objects name; what was
//! acknowledged is there until it is forgotten, and what was protected stays. Liveness: from any state, one collector
//! that works alone leaves no garbage.

use super::World;
use super::collector::{self, Collector, CollectorStep};
use super::marker::{MarkerStep, Wish};
use super::set::Set;
use super::store::Store;
use super::writer::WriterStep;

/// Runs that a lone collector may need: it ends what another one left, drops what nobody needs, and then what that
/// kept.
const RUNS: u8 = 3;
/// More steps than that takes.
const STEPS_MAX: usize = 400;

/// Tells whether each snapshot that people can see can be read.
pub(super) fn snapshots_are_whole(world: &World) -> bool {
    let store = &world.store;
    let readable = store.packs.and(store.named());
    let dropped = store.marks.forgets().or(store.verdicts().snapshots);
    let commits = store.commits();
    let mut seen = commits.iter().filter(|(session, _)| !dropped.has(*session));
    seen.all(|(_, chunks)| world.contents.readable(readable, *chunks) == *chunks)
}

/// Tells whether each session that was told so has its commit, unless somebody forgot it.
pub(super) fn acknowledged_is_there(world: &World) -> bool {
    let was_forgotten = |session| {
        let mut markers = world.markers.iter().filter(|marker| marker.snapshot == session);
        markers.any(|marker| marker.wish == Wish::Forget && marker.step == MarkerStep::Done)
    };
    let mut told =
        world.writers.iter().filter(|writer| writer.step == WriterStep::Done && writer.wants_snapshot());
    told.all(|writer| world.store.has_snapshot(writer.session) || was_forgotten(writer.session))
}

/// Tells whether each snapshot that somebody was told to be protected is there.
pub(super) fn protected_is_there(world: &World) -> bool {
    let mut told =
        world.markers.iter().filter(|marker| marker.wish == Wish::Protect && marker.step == MarkerStep::Done);
    told.all(|marker| world.store.has_snapshot(marker.snapshot))
}

/// Lets one collector work to the end, everybody else being dead, and tells whether it left no garbage.
pub(super) fn can_be_cleaned(world: &World) -> bool {
    let mut world = world.clone();
    for writer in world.writers.iter_mut().filter(|writer| !writer.has_ended()) {
        writer.step = WriterStep::Failed;
    }
    world.collectors = vec![Collector { step: CollectorStep::Begin, runs: RUNS, session: 40 }];
    for _ in 0..STEPS_MAX {
        match &world.collectors[0].step {
            CollectorStep::Rest => return is_clean(&world),
            CollectorStep::Condemn { .. } => {
                let store = &world.store;
                let usable = store.named().without(store.gone_by_others(None));
                let Some(live) = live(&world, usable) else { return false };
                let garbage = store.packs.or(store.named()).without(live);
                collector::condemn(&mut world, 0, garbage);
            }
            CollectorStep::Settle { open, .. } if !open.is_empty() => {
                let Some(session) = open.iter().next() else { return false };
                collector::settle(&mut world, 0, session, None);
            }
            _ => collector::advance(&mut world, 0, None),
        }
    }
    false
}

/// Tells whether there is nothing but what snapshots need, and what the last collection left to warn sleepers.
fn is_clean(world: &World) -> bool {
    let Store { sessions, packs, snapshots, marks, gc, .. } = &world.store;
    let named = world.store.named();
    live(world, named) == Some(*packs)
        && named == *packs
        && marks.forgets().is_empty()
        && gc.values().all(|collection| collection.is_done)
        && gc.len() == 1
        && world.store.commits().len() == snapshots.len()
        && sessions.is_empty()
}

fn live(world: &World, usable: Set) -> Option<Set> {
    let dropped = world.store.marks.forgets().or(world.store.verdicts().snapshots);
    collector::live(world, &world.store.commits(), dropped, usable, true, None)
}
