//! Collectors. Any number of them may work at once, at the same collection or at others; each may die at any step, and
//! sleep as long as it likes.

mod expire;
mod mark;

use std::collections::btree_map::Entry;

use super::World;
use super::flaw::Flaw;
use super::set::Set;
use super::store::{Collection, Decision, Number, Session, Verdict};
pub(super) use expire::Expiry;
pub(super) use mark::{Heard, live};

/// What a collector does next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum CollectorStep {
    /// Lists `gc/`, and goes on with a collection that is not done; else begins one.
    Begin,
    /// Creates `gc/<n>.condemned`, unless it is there.
    Condemn { number: Number, open: Option<Set> },
    /// Lists `sessions/`, and then `snapshots/`, for those that are open.
    ListSessions { number: Number, condemned: Set, open: Option<Set> },
    /// Waits for each session that was open, or puts a tombstone.
    Settle { number: Number, condemned: Set, open: Set },
    /// Lists `marks/`, `snapshots/`, `gc/` and `index/`, in this order.
    Mark { number: Number, condemned: Set, heard: Heard },
    /// Creates `gc/<n>.final`, unless it is there.
    Decide { number: Number, verdict: Verdict },
    /// Lists `index/` for the objects that name what is dead.
    ListIndex { number: Number, dead: Set },
    /// Puts an index object that names the rest of what they name.
    Replace { number: Number, dead: Set, old: Vec<Session>, rest: Set },
    /// Deletes them, one after the other.
    Supersede { number: Number, dead: Set, old: Vec<Session> },
    /// Deletes the dead packs.
    DeletePacks { number: Number, dead: Set },
    /// Deletes `gc/<n>.condemned`.
    End { number: Number },
    /// Deletes what nobody needs any more, in some steps.
    Expire(Expiry),
    /// Nothing.
    Rest,
}

/// A collector.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Collector {
    pub(super) step: CollectorStep,
    /// How often it runs from the beginning to the end.
    pub(super) runs: u8,
    /// The session id under which it puts index objects next.
    pub(super) session: Session,
}

impl Collector {
    /// Returns the collection that it works at, even if it sleeps.
    pub(super) fn works_at(&self) -> Option<Number> {
        match self.step {
            CollectorStep::Begin | CollectorStep::Expire(_) | CollectorStep::Rest => None,
            CollectorStep::Condemn { number, .. }
            | CollectorStep::ListSessions { number, .. }
            | CollectorStep::Settle { number, .. }
            | CollectorStep::Mark { number, .. }
            | CollectorStep::Decide { number, .. }
            | CollectorStep::ListIndex { number, .. }
            | CollectorStep::Replace { number, .. }
            | CollectorStep::Supersede { number, .. }
            | CollectorStep::DeletePacks { number, .. }
            | CollectorStep::End { number } => Some(number),
        }
    }
}

/// Takes the next step of a collector, but for those that leave a choice: [`condemn`] and [`settle`].
pub(super) fn advance(world: &mut World, number: usize, flaw: Option<Flaw>) {
    let Some(mut collector) = world.collectors.get(number).cloned() else { return };
    let prefers_oldest = number.is_multiple_of(2);
    collector.step = match collector.step {
        CollectorStep::Begin => begin(world, flaw),
        CollectorStep::ListSessions { number, condemned, open } => {
            let open = open.unwrap_or_else(|| world.store.undecided());
            let open = if flaw == Some(Flaw::WaitsForNobody) { Set::EMPTY } else { open };
            CollectorStep::Settle { number, condemned, open }
        }
        CollectorStep::Settle { number, condemned, .. } if flaw == Some(Flaw::MarksOnce) => {
            let verdict = Verdict { packs: condemned, snapshots: world.store.marks.forgets() };
            CollectorStep::Decide { number, verdict }
        }
        CollectorStep::Settle { number, condemned, .. } => {
            CollectorStep::Mark { number, condemned, heard: Heard::default() }
        }
        CollectorStep::Mark { number, condemned, heard } => {
            mark::listen(world, number, condemned, heard, prefers_oldest, flaw)
        }
        CollectorStep::Decide { number, verdict } => decide(world, number, verdict, flaw),
        CollectorStep::ListIndex { number, dead } => list_index(world, number, dead, flaw),
        CollectorStep::Replace { number, dead, old, rest } => {
            if !rest.is_empty() {
                let shared = flaw == Some(Flaw::SharesReplacement);
                let key = if shared { SHARED_REPLACEMENTS + number } else { collector.session };
                world.store.index.entry(key).or_insert(rest);
                collector.session += COLLECTORS_MAX;
            }
            CollectorStep::Supersede { number, dead, old }
        }
        CollectorStep::Supersede { number, dead, mut old } => match old.pop() {
            Some(session) => {
                world.store.index.remove(&session);
                CollectorStep::Supersede { number, dead, old }
            }
            None => CollectorStep::DeletePacks { number, dead },
        },
        CollectorStep::DeletePacks { number, dead } => {
            world.store.packs = world.store.packs.without(dead);
            CollectorStep::End { number }
        }
        CollectorStep::End { number } => {
            end(world, number, flaw);
            CollectorStep::Expire(Expiry::Begin)
        }
        CollectorStep::Expire(expiry) => {
            let next = expire::advance(world, number, expiry, flaw);
            next.map_or(CollectorStep::Rest, CollectorStep::Expire)
        }
        step @ (CollectorStep::Condemn { .. } | CollectorStep::Rest) => step,
    };
    if collector.step == CollectorStep::Rest && collector.runs > 1 {
        collector.runs -= 1;
        collector.step = CollectorStep::Begin;
    }
    world.collectors[number] = collector;
}

/// Session ids of collectors' index objects: each collector has every one in so many.
pub(super) const COLLECTORS_MAX: u8 = 4;
/// Keys of index objects, where those who work at one collection share them.
const SHARED_REPLACEMENTS: u8 = 200;

fn begin(world: &World, flaw: Option<Flaw>) -> CollectorStep {
    let collections = &world.store.gc;
    let unfinished = collections.iter().find(|(_, collection)| !collection.is_done);
    match unfinished {
        Some((number, Collection { verdict: Some(verdict), .. })) => {
            CollectorStep::ListIndex { number: *number, dead: verdict.packs }
        }
        Some((number, Collection { condemned, .. })) => {
            CollectorStep::ListSessions { number: *number, condemned: *condemned, open: None }
        }
        None => {
            let open = (flaw == Some(Flaw::ListsSessionsTooEarly)).then(|| world.store.undecided());
            CollectorStep::Condemn { number: collections.keys().next_back().map_or(0, |last| last + 1), open }
        }
    }
}

/// Creates `gc/<n>.condemned` with any packs: whatever the first mark says, the second one has to save what is needed.
pub(super) fn condemn(world: &mut World, number: usize, packs: Set) {
    let CollectorStep::Condemn { number: collection, open } = world.collectors[number].step else { return };
    world.collectors[number].step = match world.store.gc.entry(collection) {
        // Another one was first, and its collection is to be ended.
        Entry::Occupied(_) => CollectorStep::Begin,
        Entry::Vacant(place) => {
            place.insert(Collection { condemned: packs, verdict: None, is_done: false });
            CollectorStep::ListSessions { number: collection, condemned: packs, open }
        }
    };
}

/// Settles one session that was open: it is decided, or gets a tombstone.
pub(super) fn settle(world: &mut World, number: usize, session: Session, flaw: Option<Flaw>) {
    let CollectorStep::Settle { open, .. } = &mut world.collectors[number].step else { return };
    *open = open.without(Set::EMPTY.with(session));
    if flaw != Some(Flaw::LeavesNoTombstone) {
        world.store.snapshots.entry(session).or_insert(Decision::Tombstone);
    }
}

fn decide(world: &mut World, number: Number, verdict: Verdict, flaw: Option<Flaw>) -> CollectorStep {
    match world.store.gc.get_mut(&number) {
        Some(collection) if !collection.is_done => {
            if flaw == Some(Flaw::OverrulesFinal) {
                collection.verdict = Some(verdict);
            }
            let decided = *collection.verdict.get_or_insert(verdict);
            CollectorStep::ListIndex { number, dead: decided.packs }
        }
        // Another one has ended it.
        _ => CollectorStep::Rest,
    }
}

fn list_index(world: &mut World, number: Number, dead: Set, flaw: Option<Flaw>) -> CollectorStep {
    // A session that was fenced may have named packs after they went.
    let gone = world.store.verdicts().packs.or(dead);
    let is_old = |(_, packs): &(&Session, &Set)| !packs.and(gone).is_empty();
    let named: Vec<_> =
        world.store.index.iter().filter(is_old).map(|(session, packs)| (*session, *packs)).collect();
    let rest = named.iter().fold(Set::EMPTY, |all, (_, packs)| all.or(*packs)).without(gone);
    let old: Vec<_> = named.into_iter().map(|(session, _)| session).collect();
    if flaw == Some(Flaw::SupersedesFirst) {
        world.store.index.retain(|session, _| !old.contains(session));
    }
    CollectorStep::Replace { number, dead, old, rest }
}

fn end(world: &mut World, number: Number, flaw: Option<Flaw>) {
    if flaw == Some(Flaw::DropsFinal) {
        world.store.gc.remove(&number);
    } else if let Some(collection) = world.store.gc.get_mut(&number) {
        collection.is_done = true;
    }
}
