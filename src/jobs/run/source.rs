//! Backing up a source: what runs before, the worker, what is tried again, and what runs after.

use std::ffi::OsString;
use std::process::Command;
use std::time::{Duration, Instant};

use super::worker::{Begun, Work};
use super::{Operation, Run, Step, StepOutcome, StepStats, preflight};
use crate::human;
use crate::jobs::config::{SourceConfig, StoreConfig};
use crate::jobs::outside::{self, End};
use crate::path::escape;

/// How a hook learns what it is about.
const SOURCE_VARIABLE: &str = "YESTER_SOURCE";
const OUTCOME_VARIABLE: &str = "YESTER_OUTCOME";
const MESSAGE_VARIABLE: &str = "YESTER_MESSAGE";

/// Exit codes after which trying again is of no use: the command line, no store, no key, damage.
const FINAL: [i32; 4] = [2, 10, 12, 13];

impl Run<'_> {
    /// Backs up a source. It is one run of the journal, however often it is tried.
    pub(super) fn back_up_source(&self, source: &SourceConfig, step: Step) -> StepStats {
        let Some(store) = self.config.store(&source.store) else {
            return StepStats::new(
                step,
                StepOutcome::Failed,
                format!("there is no store {:?}", source.store),
            );
        };
        let begun = self.record(Operation::Ingest, store, &source.name);
        let mut stats = self.between_hooks(source, store, &begun, &step);
        self.finish(&begun, &stats);
        if matches!(stats.outcome, StepOutcome::Failed | StepOutcome::Suspicious)
            && let Err(why) = self.hook(source, "on-failure", source.on_failure.as_deref(), Some(&stats))
        {
            add(&mut stats.message, &why);
        }
        stats
    }

    fn between_hooks(
        &self,
        source: &SourceConfig,
        store: &StoreConfig,
        begun: &Begun,
        step: &Step,
    ) -> StepStats {
        let failed = |message: String| StepStats::new(step.clone(), StepOutcome::Failed, message);
        if let Some(objection) = preflight::objection(store, self.config.preflight) {
            return failed(objection);
        }
        if let Err(why) = self.hook(source, "before", source.before.as_deref(), None) {
            return failed(why);
        }
        let mut stats = self.try_source(source, store, begun, step);
        if let Err(why) = self.hook(source, "after", source.after.as_deref(), Some(&stats)) {
            if stats.outcome == StepOutcome::Done {
                stats.outcome = StepOutcome::Partial;
            }
            add(&mut stats.message, &why);
        }
        stats
    }

    /// Runs the worker, again if that may help.
    fn try_source(
        &self,
        source: &SourceConfig,
        store: &StoreConfig,
        begun: &Begun,
        step: &Step,
    ) -> StepStats {
        let mut arguments: Vec<OsString> =
            ["--quiet", "ingest", "--configured", &source.name].map(Into::into).into();
        for tag in &self.options.tags {
            arguments.extend(["--tag".into(), tag.into()]);
        }
        if self.options.protect {
            arguments.push("--protect".into());
        }
        let work = Work {
            store,
            source: Some(source),
            arguments,
            timeout: Duration::try_from(source.timeout).unwrap_or_default(),
        };
        let mut tried = 0;
        loop {
            let (mut stats, end) = self.work(begun, &work, step.clone());
            let is_final = match end {
                Some(End::Exited(code)) => FINAL.contains(&code),
                Some(End::TimedOut | End::Interrupted) => true,
                Some(End::Killed(_)) | None => false,
            };
            let is_good = stats.is_good();
            if is_good || is_final || tried >= source.retries || !self.pause_before_retry() {
                if tried > 0 && !is_good {
                    add(&mut stats.message, &format!("tried {} times", tried + 1));
                }
                return stats;
            }
            tried += 1;
            self.again(begun);
        }
    }

    /// Waits before another attempt; tells whether there is to be one.
    fn pause_before_retry(&self) -> bool {
        let delay = Duration::try_from(self.config.retry_delay).unwrap_or_default();
        let until = Instant::now() + delay;
        while Instant::now() < until && !self.is_told_to_end() {
            std::thread::sleep(
                Duration::from_millis(50).min(until.saturating_duration_since(Instant::now())),
            );
        }
        !self.is_told_to_end()
    }

    /// Runs a hook of a source; returns what is to be said if it failed.
    fn hook(
        &self,
        source: &SourceConfig,
        name: &str,
        argv: Option<&[String]>,
        stats: Option<&StepStats>,
    ) -> Result<(), String> {
        let Some((program, arguments)) = argv.and_then(<[String]>::split_first) else { return Ok(()) };
        let mut command = Command::new(program);
        command.args(arguments).env("PATH", &self.options.path).env(SOURCE_VARIABLE, &source.name);
        if let Some(stats) = stats {
            command.env(OUTCOME_VARIABLE, stats.outcome.name()).env(MESSAGE_VARIABLE, &stats.message);
        }
        let failed = |why: String| format!("{name} ({program}) failed: {why}");
        let timeout = Duration::try_from(source.timeout).unwrap_or_default();
        let ended = outside::run(&mut command, timeout, self.told_to_end)
            .map_err(|error| failed(error.to_string()))?;
        match ended.end {
            End::Exited(0) => Ok(()),
            End::TimedOut => Err(failed(format!("it took longer than {}", human::duration(timeout)))),
            end => {
                let log = ended.log();
                let said = log.lines().rev().find(|line| !line.trim().is_empty());
                let said = said.map(|line| format!(": {}", escape(line.as_bytes()))).unwrap_or_default();
                Err(failed(format!("{end}{said}")))
            }
        }
    }
}

/// Adds a sentence.
fn add(message: &mut String, more: &str) {
    if !message.is_empty() {
        message.push_str("; ");
    }
    message.push_str(more);
}
