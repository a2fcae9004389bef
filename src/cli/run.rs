//! `yester run`: does what the configuration says is due.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use clap::Args;
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::context::{Context, validate_label};
use super::exit::{CommandError, ErrorKind};
use super::present::Present;
use super::{output, process, record};
use crate::human;
use crate::jobs::alert::Ping;
use crate::jobs::check::{Finding, exposure};
use crate::jobs::run::{
    LockError, Operation, RunError, RunOptions, RunStats, Selection, Step, StepOutcome, StepStats, Watch,
    run as run_jobs,
};

/// Where programs are that cron and systemd do not look for.
const USUAL_PATH: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// Lines that are shown of what a failed step said.
const LOG_LINES: usize = 8;

/// Do what the configuration says is due
#[derive(Debug, Args)]
#[command(after_help = "\
Backs up the sources that are due, thins out what their policies do not keep, copies to further
stores, verifies a part and collects garbage, each as far as that is due. What fails keeps
nothing else from being done, and is tried again. What was missed while the machine was off is
due at once, and at a terminal so is what failed the last time.

Each step is a worker: a `yester` command in a process of its own, with a time limit. Says
nothing if all went well and nobody watches, so that cron sends a mail exactly when something is
wrong.

Never creates a store. A second run waits for the first one: exit code 11 if that takes longer
than --wait. Exit code 3 if some of it failed, 1 if all of it did.

Examples:
  yester run
  yester run --all
  yester run shop --tag before-update --protect")]
pub(super) struct RunArgs {
    /// Back up these sources, due or not
    #[arg(value_name = "SOURCE", conflicts_with = "all")]
    sources: Vec<String>,
    /// Back up all sources, due or not
    #[arg(long)]
    all: bool,
    /// Attach a tag to what is backed up; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Protect what is backed up, so that no rule forgets it
    #[arg(long)]
    protect: bool,
    /// Wait so long for another run
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = human::parse_duration)]
    wait: SignedDuration,
}

/// Does what is due.
pub(super) fn run(context: &Context, args: RunArgs) -> Result<(), CommandError> {
    let config = context.configuration()?;
    args.tags.iter().try_for_each(|tag| validate_label("tag", tag))?;
    if let Some(Finding { message, advice, .. }) = exposure(config) {
        output::tell(&format!("warning: {message}; {}", advice.join(", ")));
    }
    let journal = record::open_journal(context)?;
    let options = options(context, args)?;
    let told_to_end =
        process::told_to_end().map_err(|source| CommandError::io("cannot listen to signals", source))?;
    let present = Present::new(context, &journal)?;
    let teller = Teller::new(context, &present);
    let stats = run_jobs(config, &journal, &options, &teller, &told_to_end)?;
    let ended = verdict(&stats);
    if !stats.is_empty() {
        let summary = summary(&stats);
        present.ping(if ended.is_ok() { Ping::Success(&summary) } else { Ping::Failure(&summary) })?;
    }
    present.publish()?;
    if context.json() {
        output::print_json(&document(&stats))?;
    } else if stats.is_empty() {
        tell_idle(context, &teller);
    }
    ended
}

fn options(context: &Context, args: RunArgs) -> Result<RunOptions, CommandError> {
    let program = std::env::current_exe()
        .map_err(|source| CommandError::io("cannot find this program's own file", source))?;
    Ok(RunOptions {
        selection: match args.sources {
            _ if args.all => Selection::All,
            sources if sources.is_empty() && std::io::stdin().is_terminal() => Selection::DueOrFailed,
            sources if sources.is_empty() => Selection::Due,
            sources => Selection::Named(sources),
        },
        tags: args.tags,
        protect: args.protect,
        host: context.configured_host()?,
        program,
        worker_options: context.options_of_workers(),
        ingest_only: context.ingest_only_stores()?,
        state: context.folders().state.clone(),
        wait: Duration::try_from(args.wait).unwrap_or_default(),
        path: search_path(std::env::var_os("PATH")),
        zone: TimeZone::try_system().unwrap_or(TimeZone::UTC),
    })
}

/// Returns where workers look for programs: where this process does, and then in the usual places.
pub(super) fn search_path(given: Option<OsString>) -> OsString {
    let mut path = given.unwrap_or_default();
    let known: Vec<_> = std::env::split_paths(&path).collect();
    for folder in USUAL_PATH.iter().filter(|folder| !known.iter().any(|path| path.as_os_str() == **folder)) {
        if !path.is_empty() {
            path.push(":");
        }
        path.push(folder);
    }
    path
}

/// Says what is next where nothing was due.
fn tell_idle(context: &Context, teller: &Teller<'_>) {
    if teller.is_watched {
        context.tell("nothing is due; `yester status` says when it is, and `yester run --all` does it now");
    }
}

/// Returns how a run ends.
fn verdict(stats: &RunStats) -> Result<(), CommandError> {
    if stats.interrupted {
        return Err(CommandError::message(
            ErrorKind::Failed,
            "interrupted; what was committed before is kept",
        ));
    }
    let backups: Vec<_> = stats.of(Operation::Ingest).collect();
    let failed = backups.iter().filter(|stats| stats.outcome == StepOutcome::Failed).count();
    // That a store of copies is away is made up for by the next run; how long that may take, the rules say.
    let tells = |stats: &&StepStats| {
        !matches!(stats.outcome, StepOutcome::Done | StepOutcome::Skipped)
            && stats.step.operation != Operation::Copy
    };
    let wrong = stats.steps.iter().filter(tells).count();
    if failed > 0 && failed == backups.len() {
        let what = if failed == 1 { "the backup failed" } else { "all backups failed" };
        return Err(CommandError::message(ErrorKind::Failed, what));
    }
    if wrong > 0 {
        let message =
            format!("{} of {} had trouble", wrong, human::counted(stats.steps.len() as u64, "step"));
        return Err(CommandError::message(ErrorKind::Partial, message));
    }
    Ok(())
}

/// Tells what a run does: all of it to who watches, else what is wrong.
struct Teller<'a> {
    present: &'a Present<'a>,
    /// Done once it was told that there is something to do.
    started: Once,
    is_watched: bool,
    is_verbose: bool,
    is_silent: bool,
    lines: Mutex<()>,
}

impl<'a> Teller<'a> {
    fn new(context: &Context, present: &'a Present<'a>) -> Self {
        Self {
            present,
            started: Once::new(),
            is_watched: std::io::stderr().is_terminal() || context.verbose(),
            is_verbose: context.verbose(),
            is_silent: context.json(),
            lines: Mutex::default(),
        }
    }
}

impl Watch for Teller<'_> {
    fn waits(&self, other: &str) {
        if self.is_watched && !self.is_silent {
            let process = if other.is_empty() { String::new() } else { format!(", process {other}") };
            output::tell(&format!("another run goes on{process}: waiting for it"));
        }
    }

    fn begins(&self, step: &Step) {
        self.started.call_once(|| {
            if let Err(error) = self.present.ping(Ping::Start) {
                error.report();
            }
        });
        if self.is_verbose && !self.is_silent {
            let _order = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            output::tell(&format!("{} {} …", step.operation.name(), step.subject));
        }
    }

    fn ended(&self, stats: &StepStats) {
        let is_trouble = !matches!(stats.outcome, StepOutcome::Done | StepOutcome::Skipped);
        if self.is_silent || !(is_trouble || self.is_watched) {
            return;
        }
        let _order = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines(stats, is_trouble).iter().for_each(|line| output::tell(line));
    }
}

/// Returns what is said of a step.
fn lines(stats: &StepStats, is_trouble: bool) -> Vec<String> {
    let StepStats { step, outcome, message, log, elapsed, .. } = stats;
    let word = match outcome {
        StepOutcome::Done => "done",
        StepOutcome::Partial => "done in part",
        StepOutcome::Suspicious => "not good",
        StepOutcome::Skipped => "left out",
        StepOutcome::Unfinished => "NOT FINISHED",
        StepOutcome::Failed => "FAILED",
    };
    let what = format!("{} {}", step.operation.name(), step.subject);
    let mut first = format!("{what:<24} {word:<12} {:>10}", human::duration(*elapsed));
    if let Some(snapshot) = stats.snapshot {
        first.push_str(&format!(
            "  {}, {} new, snapshot {}",
            human::bytes(stats.bytes),
            human::bytes(stats.added_bytes),
            snapshot.short()
        ));
    }
    let mut lines = vec![first];
    if !message.is_empty() {
        lines.push(format!("  {message}"));
    }
    if is_trouble {
        let said: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        let shown = said.iter().skip(said.len().saturating_sub(LOG_LINES));
        let is_news = |line: &&&str| !message.contains(line.strip_prefix("yester: ").unwrap_or(line).trim());
        lines.extend(
            shown.filter(is_news).map(|line| format!("  | {}", crate::path::escape(line.as_bytes()))),
        );
    }
    lines
}

fn document(stats: &RunStats) -> Value {
    let step = |stats: &StepStats| {
        json!({
            "operation": stats.step.operation.name(),
            "subject": stats.step.subject,
            "outcome": stats.outcome.name(),
            "message": stats.message,
            "snapshot": stats.snapshot.map(|id| id.hex()),
            "bytes": stats.bytes,
            "added_bytes": stats.added_bytes,
            "elapsed_seconds": stats.elapsed.as_secs_f64(),
        })
    };
    json!({
        "interrupted": stats.interrupted,
        "steps": stats.steps.iter().map(step).collect::<Vec<_>>(),
    })
}

/// Returns what a dead man's switch is told of a run.
fn summary(stats: &RunStats) -> String {
    let lines = stats.steps.iter().flat_map(|stats| lines(stats, false));
    lines.collect::<Vec<_>>().join("\n")
}

impl From<RunError> for CommandError {
    fn from(error: RunError) -> Self {
        let (kind, hint) = match &error {
            RunError::NoSource(_) => (ErrorKind::Usage, Some("`yester config check` lists the sources")),
            RunError::Lock(LockError::Busy { .. }) => {
                (ErrorKind::Busy, Some("what is due then is done by the next run; --wait waits longer"))
            }
            RunError::Lock(LockError::File { .. }) | RunError::Journal(_) => (ErrorKind::Failed, None),
        };
        Self::new(kind, error).hints(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_folders_are_searched_once() {
        assert_eq!(
            search_path(None).to_str(),
            Some("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        );
        let path = search_path(Some("/opt/bin:/usr/bin:/bin".into()));
        assert_eq!(
            path.to_str(),
            Some("/opt/bin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin")
        );
    }
}
