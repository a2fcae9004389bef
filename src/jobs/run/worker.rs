//! Workers: commands of this program that do the steps of a run.

use std::ffi::OsString;
use std::io;
use std::process::Command;
use std::time::Duration;

use super::{Operation, Run, Step, StepOutcome, StepStats};
use crate::human;
use crate::jobs::config::{SourceConfig, StoreConfig};
use crate::jobs::outside::{self, End, Ended};
use crate::jobs::sources;
use crate::journal::{RunEnd, RunId, RunOutcome, RunStart};
use crate::path::escape;
use crate::progress::error_chain;

/// The variable by which a worker learns which run of the journal it does the work of, and for which process.
pub const RUN_VARIABLE: &str = "YESTER_RUN";

/// Returns the run that a process is to do the work of whose parent is `parent`, given the variable.
///
/// What a worker starts inherits the variable: a command of this program in a script of a source is a run of its own.
#[must_use]
pub fn run_to_adopt(variable: &str, parent: u32) -> Option<RunId> {
    let (run, supervisor) = variable.split_once('@')?;
    if supervisor.parse() == Ok(parent) { run.parse().ok() } else { None }
}

/// What is not meant for a worker: it is told its store.
const REMOVED: [&str; 2] = ["YESTER_STORE", "YESTER_CONFIG"];

/// Exit codes of this program by which a step ends.
const PARTIAL: i32 = 3;

/// What a worker is to do.
pub(super) struct Work<'a> {
    /// The store that it works on, or copies from.
    pub(super) store: &'a StoreConfig,
    /// The source that it backs up.
    pub(super) source: Option<&'a SourceConfig>,
    /// The command and its arguments.
    pub(super) arguments: Vec<OsString>,
    pub(super) timeout: Duration,
}

/// A run of the journal that a worker is to finish.
pub(super) struct Begun {
    pub(super) run: Option<RunId>,
}

impl Run<'_> {
    /// Records that a worker is to begin. What cannot be recorded is done all the same.
    pub(super) fn record(&self, operation: Operation, store: &StoreConfig, source: &str) -> Begun {
        let place = store.location.to_string();
        let start = RunStart { store: None, place: &place, operation: operation.name(), source };
        let begun = self.journal.begin(&start);
        Begun { run: begun.map_err(|error| complain(&error)).ok() }
    }

    /// Opens a run of the journal again, for another attempt.
    pub(super) fn again(&self, begun: &Begun) {
        if let Some(Err(error)) = begun.run.map(|run| self.journal.again(run)) {
            complain(&error);
        }
    }

    /// Runs a worker, and finds out what came of it and how it ended; the latter is nothing if it could not be started.
    pub(super) fn work(&self, begun: &Begun, work: &Work<'_>, step: Step) -> (StepStats, Option<End>) {
        let ended = outside::run(&mut self.command(begun, work), work.timeout, self.told_to_end);
        match ended {
            Ok(ended) => {
                let end = ended.end;
                (self.read(begun, work, step, ended), Some(end))
            }
            Err(error) => {
                let message = start_failure(&self.options.program, &error);
                (StepStats::new(step, StepOutcome::Failed, message), None)
            }
        }
    }

    fn command(&self, begun: &Begun, work: &Work<'_>) -> Command {
        let mut argv: Vec<OsString> = Vec::new();
        if self.config.low_priority {
            argv.extend(["nice", "-n", "10", "ionice", "-c", "3", "-t"].map(OsString::from));
        }
        argv.push(self.options.program.clone().into());
        argv.extend(["--config".into(), self.config.path.clone().into()]);
        argv.extend(["--store".into(), work.store.name.clone().into()]);
        argv.extend(self.options.worker_options.iter().cloned());
        argv.extend(work.arguments.iter().cloned());
        let mut words = argv.into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).env("PATH", &self.options.path);
        for name in REMOVED {
            command.env_remove(name);
        }
        if let Some(run) = begun.run {
            command.env(RUN_VARIABLE, format!("{run}@{}", std::process::id()));
        }
        command
    }

    /// Finds out what a worker did: from the journal if it got so far, else from how it ended.
    fn read(&self, begun: &Begun, work: &Work<'_>, step: Step, ended: Ended) -> StepStats {
        let log = self.redact(work, &ended.log());
        let recorded = begun.run.and_then(|run| self.journal.run(run).ok().flatten());
        let recorded = recorded.filter(|run| run.finished.is_some());
        let outcome = match (ended.end, recorded.as_ref().map(|run| run.outcome)) {
            (End::Exited(0), _) => StepOutcome::Done,
            (End::Exited(PARTIAL), Some(RunOutcome::Suspicious)) => StepOutcome::Suspicious,
            (End::Exited(PARTIAL), _) => StepOutcome::Partial,
            (End::Interrupted, _) | (End::Exited(_), Some(RunOutcome::Unfinished)) => StepOutcome::Unfinished,

            _ => StepOutcome::Failed,
        };
        let told =
            recorded.as_ref().map(|run| self.redact(work, &run.message)).filter(|told| !told.is_empty());
        let message = match (ended.end, told) {
            (End::TimedOut, _) => {
                format!("took longer than {}, and was ended", human::duration(work.timeout))
            }
            (End::Interrupted, _) => ended.end.to_string(),
            (End::Killed(signal), _) => format!("was {}{}", ended.end, hint_of(signal)),
            (End::Exited(0), told) => told.unwrap_or_default(),
            (End::Exited(_), Some(told)) => match last_word_of_others(&log) {
                Some(said) if outcome == StepOutcome::Failed && !told.contains(&said) => {
                    format!("{told}: {said}")
                }
                _ => told,
            },
            (End::Exited(_), None) => last_error(&log).unwrap_or_else(|| ended.end.to_string()),
        };
        let mut stats = StepStats { log, ..StepStats::new(step, outcome, message) };
        if let Some(run) = recorded {
            (stats.bytes, stats.added_bytes, stats.snapshot) = (run.bytes, run.added_bytes, run.snapshot);
        }
        stats
    }

    /// Finishes the run of the journal. What the worker said of its end counts, unless this process knows more: that a
    /// limit of time ended it, or that what had to come after it failed.
    pub(super) fn finish(&self, begun: &Begun, stats: &StepStats) {
        let Some(run) = begun.run else { return };
        let end = RunEnd {
            outcome: match stats.outcome {
                StepOutcome::Done | StepOutcome::Skipped => RunOutcome::Succeeded,
                StepOutcome::Partial => RunOutcome::Partial,
                StepOutcome::Suspicious => RunOutcome::Suspicious,
                StepOutcome::Unfinished => RunOutcome::Unfinished,
                StepOutcome::Failed => RunOutcome::Failed,
            },
            snapshot: stats.snapshot,
            bytes: stats.bytes,
            added_bytes: stats.added_bytes,
            message: stats.message.clone(),
        };
        let recorded = self.journal.run(run).ok().flatten().filter(|run| run.finished.is_some());
        match recorded {
            Some(recorded) if (recorded.outcome, &recorded.message) == (end.outcome, &end.message) => return,
            Some(_) => self.again(begun),
            None => {}
        }
        if let Err(error) = self.journal.finish(run, &end) {
            complain(&error);
        }
    }

    /// Takes the passwords of a source out of what programs say.
    fn redact(&self, work: &Work<'_>, text: &str) -> String {
        let secrets = work.source.map(sources::passwords).unwrap_or_default();
        secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
    }
}

fn complain(error: &dyn std::error::Error) {
    tracing::warn!("a step is missing in the journal: {}", error_chain(error));
}

fn start_failure(program: &std::path::Path, error: &io::Error) -> String {
    format!("cannot start {}: {error}", program.display())
}

fn hint_of(signal: i32) -> &'static str {
    if signal == 9 { "; the kernel does that where memory runs out: `dmesg` says so" } else { "" }
}

/// Returns the error that a worker ended with, which is the last thing it said but for hints.
fn last_error(log: &str) -> Option<String> {
    let error = log.lines().rev().find_map(|line| line.strip_prefix("yester: "));
    let last = || log.lines().rev().find(|line| !line.trim().is_empty() && !line.starts_with("hint: "));
    error.or_else(last).map(|line| escape(line.as_bytes()))
}

/// Returns the last thing that a program said which the worker started: why it failed, as a rule.
fn last_word_of_others(log: &str) -> Option<String> {
    let is_ours = |line: &&str| line.starts_with("yester: ") || line.starts_with("hint: ");
    let said = log.lines().rev().find(|line| !line.trim().is_empty() && !is_ours(line));
    said.map(|line| escape(line.trim().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_adopted_by_children_alone() {
        assert_eq!(run_to_adopt("7@100", 100), "7".parse().ok());
        for (variable, parent) in [("7@100", 101), ("7", 7), ("@100", 100), ("", 0), ("x@100", 100)] {
            assert_eq!(run_to_adopt(variable, parent), None, "{variable}");
        }
    }

    #[test]
    fn the_error_of_a_worker_is_its_last_word() {
        let log = "a warning\nyester: cannot open the store at /x: no store\nhint: look there\n";
        assert_eq!(last_error(log).unwrap(), "cannot open the store at /x: no store");
        assert_eq!(last_error("thread panicked\n\n").unwrap(), "thread panicked");
        assert_eq!(last_error(""), None);
        let log = "Could not connect: refused\n\nyester: redis-cli failed\nhint: look there\n";
        assert_eq!(last_word_of_others(log).unwrap(), "Could not connect: refused");
        assert_eq!(last_word_of_others("yester: it failed\n"), None);
    }
}
