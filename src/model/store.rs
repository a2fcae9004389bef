//! The objects of a store, as far as the protocol goes.

use std::collections::BTreeMap;

use super::set::Set;

/// A session, by its number. A collector puts its index objects under a session id of its own.
pub(super) type Session = u8;
pub(super) type Pack = u8;
/// The number of a collection.
pub(super) type Number = u8;

/// What a pack holds. It belongs to no state of the store: a pack that is gone held it once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Content {
    pub(super) chunks: Set,
    /// Chunks that all of them are stored as differences to.
    pub(super) bases: Set,
}

/// What `snapshots/<session id>` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Decision {
    /// The session has committed a snapshot of these chunks.
    Commit(Set),
    /// The session may not commit any more, or never wanted to.
    Tombstone,
}

/// What `gc/<n>.*` say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Collection {
    /// Packs of `.condemned`.
    pub(super) condemned: Set,
    /// What `.final` says, once it is there.
    pub(super) verdict: Option<Verdict>,
    /// Whether nothing is left to do: `.condemned` is gone, and `.final` stays.
    pub(super) is_done: bool,
}

/// What `gc/<n>.final` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Verdict {
    /// Packs that may be deleted.
    pub(super) packs: Set,
    /// Snapshots that were forgotten, and are gone from now on.
    pub(super) snapshots: Set,
}

impl Collection {
    /// Packs that nobody may rely on.
    pub(super) fn gone(&self) -> Set {
        self.verdict.map_or(self.condemned, |verdict| verdict.packs)
    }
}

/// All objects of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Store {
    pub(super) sessions: Set,
    pub(super) packs: Set,
    /// Packs that each index object names, by the session that put it.
    pub(super) index: BTreeMap<Session, Set>,
    pub(super) snapshots: BTreeMap<Session, Decision>,
    pub(super) marks: Marks,
    pub(super) gc: BTreeMap<Number, Collection>,
}

/// What `marks/` say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Marks {
    pub(super) forgotten: Set,
    pub(super) protected: Set,
}

impl Marks {
    /// Snapshots that may be collected: of two marks, the one that keeps counts.
    pub(super) fn forgets(self) -> Set {
        self.forgotten.without(self.protected)
    }
}

impl Store {
    /// Packs that an index object names.
    pub(super) fn named(&self) -> Set {
        self.index.values().fold(Set::EMPTY, |all, packs| all.or(*packs))
    }

    /// Packs that a collection other than `number` names.
    pub(super) fn gone_by_others(&self, number: Option<Number>) -> Set {
        let others = self.gc.iter().filter(|(other, _)| Some(**other) != number);
        others.fold(Set::EMPTY, |all, (_, collection)| all.or(collection.gone()))
    }

    /// Everything that `.final` objects say.
    pub(super) fn verdicts(&self) -> Verdict {
        let verdicts = self.gc.values().filter_map(|collection| collection.verdict);
        verdicts.fold(Verdict { packs: Set::EMPTY, snapshots: Set::EMPTY }, |all, verdict| Verdict {
            packs: all.packs.or(verdict.packs),
            snapshots: all.snapshots.or(verdict.snapshots),
        })
    }

    /// Sessions that may still commit.
    pub(super) fn undecided(&self) -> Set {
        Set::of(self.sessions.iter().filter(|session| !self.snapshots.contains_key(session)))
    }

    /// Snapshots with their chunks, gone ones included.
    pub(super) fn commits(&self) -> Vec<(Session, Set)> {
        let commit = |(session, decision): (&Session, &Decision)| match decision {
            Decision::Commit(chunks) => Some((*session, *chunks)),
            Decision::Tombstone => None,
        };
        self.snapshots.iter().filter_map(commit).collect()
    }

    /// Tells whether people can see a snapshot, forgotten or not.
    pub(super) fn has_snapshot(&self, session: Session) -> bool {
        matches!(self.snapshots.get(&session), Some(Decision::Commit(_)))
            && !self.verdicts().snapshots.has(session)
    }
}

/// What each pack that ever was holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Contents(pub(super) BTreeMap<Pack, Content>);

impl Contents {
    /// Returns those of `chunks` that can be read from `packs`, with all that they are differences to.
    pub(super) fn readable(&self, packs: Set, chunks: Set) -> Set {
        Set::of(chunks.iter().filter(|chunk| self.homes(packs, *chunk).next().is_some()))
    }

    /// Returns the packs from which a chunk can be read.
    pub(super) fn homes(&self, packs: Set, chunk: u8) -> impl DoubleEndedIterator<Item = Pack> {
        packs.iter().filter(move |pack| self.is_home(*pack, packs, chunk, Set::EMPTY))
    }

    /// Tells whether a pack has a chunk, and what that is a difference to can be read as well. Nothing may stand on
    /// itself: not on what is `above`.
    fn is_home(&self, pack: Pack, packs: Set, chunk: u8, above: Set) -> bool {
        let above = above.with(chunk);
        self.0.get(&pack).is_some_and(|content| {
            let mut bases = content.bases.iter();
            let is_readable = |base| packs.iter().any(|pack| self.is_home(pack, packs, base, above));
            content.chunks.has(chunk) && bases.all(|base| !above.has(base) && is_readable(base))
        })
    }
}
