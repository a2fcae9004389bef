//! Bugs that lost data elsewhere, to be put back for a while: an oracle that does not notice them would prove nothing.
//!
//! For tests alone: nothing of this is compiled into the program.

use std::cell::Cell;

/// A bug, and where it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// An error while snapshots are listed is taken for an empty list, and what they need goes (restic #4612).
    TakesErrorForEmpty,
    /// A collector deletes what its first look condemned, though a backup came in between: lock-free in name only
    /// (duplicacy, forum 9500).
    MarksOnce,
    /// Index objects are deleted before what replaces them is stored: metadata is repaired by destroying it (borg #3444).
    SupersedesFirst,
    /// A collector does not count what differences stand on as needed. Nobody else stores such; this one could get it wrong.
    ForgetsBases,
    /// What warned sleepers goes with the collection, and one writes into what is settled (kopia #1402).
    DropsFinal,
    /// A backup relies on packs that are about to be deleted (rustic's two-phase prune: its documentation, PR 144).
    ReliesOnCondemned,
    /// A backup that was given up commits all the same: the store ignores the condition of a creation (Garage).
    CommitsOverTombstone,
    /// A backup whose packs did not fit on the disk is reported as done (borg 2, notes on its betas).
    IgnoresFailures,
    /// A slow backup is taken for dead, and nobody tells it (restic #2715, where a lock was lost in a sleep).
    LeavesNoTombstone,
    /// A cached index says that something is stored, though the store has lost it since (borg #9748, #9904).
    TrustsOldIndex,
}

thread_local! {
    static BACK: Cell<Option<Flaw>> = const { Cell::new(None) };
}

impl Flaw {
    /// Every flaw.
    pub(crate) const ALL: [Self; 10] = [
        Self::TakesErrorForEmpty,
        Self::MarksOnce,
        Self::SupersedesFirst,
        Self::ForgetsBases,
        Self::DropsFinal,
        Self::ReliesOnCondemned,
        Self::CommitsOverTombstone,
        Self::IgnoresFailures,
        Self::LeavesNoTombstone,
        Self::TrustsOldIndex,
    ];

    /// Tells whether the bug is back on this thread.
    pub(crate) fn is_back(self) -> bool {
        BACK.get() == Some(self)
    }

    /// Puts the bug back on this thread, as long as something is done.
    pub(crate) fn while_back<T>(flaw: Option<Self>, act: impl FnOnce() -> T) -> T {
        BACK.set(flaw);
        let done = act();
        BACK.set(None);
        done
    }
}
