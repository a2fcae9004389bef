//! What goes in the end: marks of sessions that are decided, and, 30 days later, what kept sleepers from harm.

use crate::model::World;
use crate::model::flaw::Flaw;
use crate::model::set::Set;
use crate::model::store::{Collection, Decision, Marks, Number, Session};

/// What expires next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::model) enum Expiry {
    /// Lists `sessions/`, `snapshots/` and `gc/`, and deletes `sessions/<id>.*` of those that are decided.
    Begin,
    /// Deletes old tombstones, and `snapshots/<id>` of the snapshots that any collection dropped.
    DropSnapshots { old: Vec<Number> },
    /// Deletes `marks/<id>.*` where there is no snapshot any more.
    DropMarks { old: Vec<Number> },
    /// Deletes their `gc/<n>.final`.
    DropFinals { old: Vec<Number> },
}

/// Takes the next step; returns what comes then.
pub(super) fn advance(
    world: &mut World,
    number: usize,
    expiry: Expiry,
    flaw: Option<Flaw>,
) -> Option<Expiry> {
    match expiry {
        Expiry::Begin => {
            let decided = Set::of(world.store.snapshots.keys().copied());
            world.store.sessions = world.store.sessions.without(decided);
            let old = old_collections(world, number, flaw);
            Some(match flaw {
                Some(Flaw::DropsFinalFirst) => Expiry::DropFinals { old },
                _ => Expiry::DropSnapshots { old },
            })
        }
        Expiry::DropSnapshots { old } => {
            drop_snapshots(world, flaw);
            Some(Expiry::DropMarks { old })
        }
        Expiry::DropMarks { old } => {
            let there = Set::of(world.store.snapshots.keys().copied());
            let Marks { forgotten, protected } = world.store.marks;
            world.store.marks = Marks { forgotten: forgotten.and(there), protected: protected.and(there) };
            (flaw != Some(Flaw::DropsFinalFirst)).then_some(Expiry::DropFinals { old })
        }
        Expiry::DropFinals { old } => {
            world.store.gc.retain(|number, _| !old.contains(number));
            (flaw == Some(Flaw::DropsFinalFirst)).then_some(Expiry::DropSnapshots { old })
        }
    }
}

/// Returns the collections that are older than anybody's memory: sessions are too old to commit or to name packs, and
/// no other collector works at one. One whose packs are named still stays, since they would count as usable; and so
/// does the last one, so that no number comes twice.
fn old_collections(world: &World, number: usize, flaw: Option<Flaw>) -> Vec<Number> {
    let all_ended = world.writers.iter().all(|writer| writer.has_ended() || !writer.has_begun());
    let others = || world.collectors.iter().enumerate().filter(|(other, _)| *other != number);
    let named = if flaw == Some(Flaw::DropsFinalOfNamed) { Set::EMPTY } else { world.store.named() };
    let is_named = |collection: &Collection| {
        collection.verdict.is_some_and(|verdict| !verdict.packs.and(named).is_empty())
    };
    let done = world.store.gc.iter().filter(|(_, collection)| collection.is_done && !is_named(collection));
    let done = done.map(|(number, _)| *number);
    let last = world.store.gc.keys().next_back().copied();
    done.filter(|done| {
        all_ended && Some(*done) != last && others().all(|(_, other)| other.works_at() != Some(*done))
    })
    .collect()
}

fn drop_snapshots(world: &mut World, flaw: Option<Flaw>) {
    let too_old = |session: &Session| {
        let mut writers = world.writers.iter().filter(|writer| writer.session == *session);
        writers.all(|writer| writer.has_ended()) || flaw == Some(Flaw::DropsTombstones)
    };
    let is_over = |(session, decision): (&Session, &Decision)| {
        (*decision == Decision::Tombstone && too_old(session)).then_some(*session)
    };
    let tombstones = Set::of(world.store.snapshots.iter().filter_map(is_over));
    let dropped = match flaw {
        Some(Flaw::DropsWhatMarksSay) => world.store.marks.forgets(),
        _ => world.store.verdicts().snapshots,
    };
    world.store.snapshots.retain(|session, _| !tombstones.or(dropped).has(*session));
}
