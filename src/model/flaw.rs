//! Ways to get the protocol wrong. A model that does not notice them would prove nothing.

/// One step of the protocol left out, or out of its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Flaw {
    /// A session lists first, and puts its open mark then: a collector that begins between the two does not wait for
    /// it.
    OpensAfterListing,
    /// A session relies on packs that are condemned as long as it is not final which of them go.
    ReliesOnCondemned,
    /// A session relies on packs that a `.final` names.
    ReliesOnDead,
    /// A difference stands on a frame that is not usable.
    StandsOnUnusable,
    /// An undo commits without looking whether the packs are still there.
    UndoesUnchecked,
    /// A session commits over a tombstone: a store that ignores the condition of a creation (Garage).
    CommitsOverTombstone,
    /// A session whose commit is refused takes what stands there for its own.
    TakesTombstoneForCommit,
    /// A forgotten snapshot is protected, as if that alone brought it back.
    ProtectsForgotten,
    /// Who protects a snapshot does not look whether it was forgotten meanwhile.
    ProtectsUnchecked,
    /// A collector does not wait for the sessions that are open.
    WaitsForNobody,
    /// A collector takes a session that is slow for dead, and leaves no tombstone (restic #2715, rustic's two-phase
    /// prune).
    LeavesNoTombstone,
    /// A collector lists sessions first, and condemns then.
    ListsSessionsTooEarly,
    /// A collector deletes what the first mark condemned.
    MarksOnce,
    /// An error while listing snapshots is taken for an empty list (restic #4612).
    TakesErrorForEmpty,
    /// What another collection deletes counts as a home of its chunks.
    ReliesOnOthersDead,
    /// What live chunks are differences to does not count as live.
    ForgetsBases,
    /// A collector that resumes a collection overrules its `.final`.
    OverrulesFinal,
    /// Index objects are deleted before what replaces them is there.
    SupersedesFirst,
    /// Two that work at the same collection put their index objects under the same key.
    SharesReplacement,
    /// `.final` is deleted with the rest: the index object of a session that was fenced comes late, and what it names
    /// counts as usable; or a number comes again, and a sleeper speaks for another collection.
    DropsFinal,
    /// `.final` goes while an index object names one of its packs.
    DropsFinalOfNamed,
    /// `.final` goes before the snapshots that it drops.
    DropsFinalFirst,
    /// `.final` names no snapshots, and what marks say at the end is dropped: a session whose answer was lost commits
    /// again.
    DropsWhatMarksSay,
    /// Tombstones go at once, and a session commits in spite of one.
    DropsTombstones,
}

impl Flaw {
    pub(super) const ALL: [Self; 24] = [
        Self::OpensAfterListing,
        Self::ReliesOnCondemned,
        Self::ReliesOnDead,
        Self::StandsOnUnusable,
        Self::UndoesUnchecked,
        Self::CommitsOverTombstone,
        Self::TakesTombstoneForCommit,
        Self::ProtectsForgotten,
        Self::ProtectsUnchecked,
        Self::WaitsForNobody,
        Self::LeavesNoTombstone,
        Self::ListsSessionsTooEarly,
        Self::MarksOnce,
        Self::TakesErrorForEmpty,
        Self::ReliesOnOthersDead,
        Self::ForgetsBases,
        Self::OverrulesFinal,
        Self::SupersedesFirst,
        Self::SharesReplacement,
        Self::DropsFinal,
        Self::DropsFinalOfNamed,
        Self::DropsFinalFirst,
        Self::DropsWhatMarksSay,
        Self::DropsTombstones,
    ];
}
