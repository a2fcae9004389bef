//! What a run of the journal came to. A backup that is tried several times is one run.

use jiff::SignedDuration;

use crate::journal::{Run, RunOutcome};

/// Tells whether a run made a snapshot that is worth something. A partial one is, as far as it goes.
pub(super) fn is_good(run: &Run) -> bool {
    matches!(run.outcome, RunOutcome::Succeeded | RunOutcome::Partial)
}

/// Returns how long a run took; nothing while it runs, or if that was never recorded.
pub(super) fn duration(run: &Run) -> Option<SignedDuration> {
    // A clock that was set back makes no time negative.
    Some(run.finished?.duration_since(run.started).max(SignedDuration::ZERO))
}
