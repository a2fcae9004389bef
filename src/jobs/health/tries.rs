//! Attempts at a backup: runs of the journal, with those taken as one that are the retries of one another.

use jiff::SignedDuration;

use crate::jobs::config::{Config, SourceConfig};
use crate::journal::{Run, RunOutcome};

/// How much later than it was asked for a retry may begin: others may be running.
const LATENESS: SignedDuration = SignedDuration::from_secs(60);

/// One attempt at a backup, with its retries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt<'a> {
    /// The first run.
    pub(super) first: &'a Run,
    /// The last one: what it came to.
    pub(super) last: &'a Run,
}

impl Attempt<'_> {
    pub(super) fn is_good(&self) -> bool {
        is_good(self.last)
    }
}

/// Tells whether a run made a snapshot that is worth something. A partial one is, as far as it goes.
pub(super) fn is_good(run: &Run) -> bool {
    matches!(run.outcome, RunOutcome::Succeeded | RunOutcome::Partial)
}

/// Returns how long a run took; nothing while it runs, or if that was never recorded.
pub(super) fn duration(run: &Run) -> Option<SignedDuration> {
    // A clock that was set back makes no time negative.
    Some(run.finished?.duration_since(run.started).max(SignedDuration::ZERO))
}

/// Returns the attempts that have ended, newest first. A run that is a retry of the one before belongs to it: it began
/// when retries begin, and there are no more of them than the configuration allows.
pub(super) fn attempts<'a>(runs: &'a [Run], config: &Config, source: &SourceConfig) -> Vec<Attempt<'a>> {
    let mut attempts: Vec<Attempt<'a>> = Vec::new();
    let mut retries = 0;
    // Oldest first.
    for run in runs.iter().rev().filter(|run| run.outcome != RunOutcome::Running) {
        let again = attempts.last_mut().filter(|attempt| {
            retries < source.retries && !attempt.is_good() && is_retry(attempt.last, run, config.retry_delay)
        });
        match again {
            Some(attempt) => {
                attempt.last = run;
                retries += 1;
            }
            None => {
                attempts.push(Attempt { first: run, last: run });
                retries = 0;
            }
        }
    }
    attempts.reverse();
    attempts
}

fn is_retry(before: &Run, run: &Run, delay: SignedDuration) -> bool {
    before.finished.is_some_and(|end| {
        let between = run.started.duration_since(end);
        !between.is_negative() && between <= delay.saturating_add(LATENESS)
    })
}
