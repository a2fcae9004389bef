//! What a run of the journal came to. A backup that is tried several times is one run.

use jiff::SignedDuration;

use crate::journal::{Run, RunOutcome};

/// Returns why a backup was not good, in words; `message` is what it said of that.
pub(in crate::jobs) fn why(outcome: RunOutcome, message: String) -> String {
    match outcome {
        RunOutcome::Unfinished => {
            "it never came to its end: it was interrupted or killed, or the machine went down".to_owned()
        }
        RunOutcome::Suspicious => format!("the dump may not be whole: {message}"),
        _ => message,
    }
}

/// Returns how long a run took; nothing while it runs, or if that was never recorded.
pub(super) fn duration(run: &Run) -> Option<SignedDuration> {
    // A clock that was set back makes no time negative.
    Some(run.finished?.duration_since(run.started).max(SignedDuration::ZERO))
}
