//! A run: what is due is backed up, thinned out, copied and verified.
//!
//! The run is a supervisor. It opens no store: each step is a worker, the same program with an ordinary command, in a
//! process of its own with a time limit. A worker that hangs, or that the system kills for want of memory, takes
//! nothing else along, and is recorded all the same. What a run did can be typed by hand.

mod due;
mod lock;
pub(super) mod preflight;
mod source;
mod store;
mod worker;

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::config::{Config, SourceConfig, StoreConfig};
use crate::id::SnapshotId;
use crate::journal::{Journal, JournalError};
use lock::RunLock;

pub use lock::LockError;
pub use worker::{RUN_VARIABLE, run_to_adopt};

/// What is to be done.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Which sources.
    pub selection: Selection,
    /// Attached to the snapshots besides what the configuration says.
    pub tags: Vec<String>,
    /// Whether the snapshots are protected.
    pub protect: bool,
    /// The host that backups belong to.
    pub host: String,
    /// The program whose commands are the workers.
    pub program: PathBuf,
    /// Options of every command that are handed on to the workers.
    pub worker_options: Vec<OsString>,
    /// The stores, by their names, that are opened by an ingest-only key: it writes backups and reads nothing.
    pub ingest_only: BTreeSet<String>,
    /// The folder for the lock that keeps runs apart.
    pub state: PathBuf,
    /// How long to wait for another run.
    pub wait: Duration,
    /// Where workers and hooks look for programs.
    pub path: OsString,
    /// Whose days count.
    pub zone: TimeZone,
}

/// Which sources are backed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Those that their schedule says.
    Due,
    /// Those, and those that failed the last time: somebody is there who has mended something.
    DueOrFailed,
    /// All.
    All,
    /// These.
    Named(Vec<String>),
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Backs up a source.
    Ingest,
    /// Forgets what a policy does not keep.
    Forget,
    /// Copies to a store.
    Copy,
    /// Verifies a part of a store.
    Verify,
    /// Collects the garbage of a store.
    Gc,
}

impl Operation {
    /// Returns its name, as the journal has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Forget => "forget",
            Self::Copy => "copy",
            Self::Verify => "verify",
            Self::Gc => "gc",
        }
    }
}

/// A part of a run: an operation on a source or on a store, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub operation: Operation,
    /// To what: the name of a source where it is one, else of a store.
    pub subject: String,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepOutcome {
    /// Well.
    Done,
    /// Some of it was done.
    Partial,
    /// There is a snapshot of a dump that may not be good.
    Suspicious,
    /// Nothing was done, and nothing had to be: why is said.
    Skipped,
    /// It was ended before it came to anything, and is still to be done.
    Unfinished,
    /// It failed.
    Failed,
}

impl StepOutcome {
    /// Returns the word for it, for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Partial => "partial",
            Self::Suspicious => "suspicious",
            Self::Skipped => "skipped",
            Self::Unfinished => "unfinished",
            Self::Failed => "failed",
        }
    }
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepStats {
    /// The step.
    pub step: Step,
    /// How it ended.
    pub outcome: StepOutcome,
    /// What people should know of it, as one sentence; empty if nothing.
    pub message: String,
    /// What its programs said, or the end of that.
    pub log: String,
    /// How long it took.
    pub elapsed: Duration,
    /// Bytes that it looked at.
    pub bytes: u64,
    /// Plain bytes that were new to the store.
    pub added_bytes: u64,
    /// The snapshot that it made.
    pub snapshot: Option<SnapshotId>,
}

impl StepStats {
    fn new(step: Step, outcome: StepOutcome, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            step,
            outcome,
            message,
            log: String::new(),
            elapsed: Duration::ZERO,
            bytes: 0,
            added_bytes: 0,
            snapshot: None,
        }
    }

    /// Tells whether it did what it should, if not all of it.
    fn is_good(&self) -> bool {
        matches!(self.outcome, StepOutcome::Done | StepOutcome::Partial)
    }
}

/// What came of a run.
#[derive(Debug, Clone, Default)]
pub struct RunStats {
    /// Its steps, in the order in which they ended.
    pub steps: Vec<StepStats>,
    /// Whether it was told to end before it had done all.
    pub interrupted: bool,
}

impl RunStats {
    /// Returns the steps of an operation.
    pub fn of(&self, operation: Operation) -> impl Iterator<Item = &StepStats> {
        self.steps.iter().filter(move |stats| stats.step.operation == operation)
    }

    /// Tells whether nothing was due.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// Why there was no run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A source was named that is not configured.
    #[error("there is no source {0:?} in the configuration")]
    NoSource(String),
    /// Another run goes on.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// It is not known what ran before, so that it is not known what is due.
    #[error("cannot tell what is due")]
    Journal(#[from] JournalError),
}

/// Is told what a run does, from any thread.
pub trait Watch: Send + Sync {
    /// Another run goes on, which is waited for: its process, or nothing if that is not known.
    fn waits(&self, other: &str);
    /// A step begins.
    fn begins(&self, step: &Step);
    /// A step has ended.
    fn ended(&self, stats: &StepStats);
}

/// What the steps of a run share.
struct Run<'a> {
    config: &'a Config,
    journal: &'a Journal,
    options: &'a RunOptions,
    watch: &'a dyn Watch,
    /// Set once somebody wants this process to end.
    told_to_end: &'a AtomicBool,
    done: Mutex<Vec<StepStats>>,
}

/// Runs what is due.
///
/// A step that fails keeps no other from being tried. `told_to_end` is looked at while workers run: they are ended, and
/// the run with them.
///
/// # Errors
/// See [`RunError`]. What goes wrong with a step is no error of the run, but in its statistics.
pub fn run(
    config: &Config,
    journal: &Journal,
    options: &RunOptions,
    watch: &dyn Watch,
    told_to_end: &AtomicBool,
) -> Result<RunStats, RunError> {
    if let Selection::Named(names) = &options.selection
        && let Some(name) = names.iter().find(|name| config.source(name).is_none())
    {
        return Err(RunError::NoSource(name.clone()));
    }
    let run = Run { config, journal, options, watch, told_to_end, done: Mutex::default() };
    // Who finds nothing to do does not wait for who has.
    if run.is_idle()? {
        return Ok(RunStats::default());
    }
    let _lock = RunLock::take(&options.state, options.wait, told_to_end, &|other| watch.waits(other))?;
    let sources = run.chosen_sources()?;
    run.back_up(&sources);
    for store in config.stores.iter().filter(|store| store.copy_from.is_none()) {
        run.tend(store);
    }
    for store in in_order_of_copies(config) {
        run.copy(store);
        run.tend(store);
    }
    let interrupted = run.is_told_to_end();
    Ok(RunStats { steps: run.done.into_inner().unwrap_or_else(PoisonError::into_inner), interrupted })
}

impl Run<'_> {
    fn now() -> Timestamp {
        Timestamp::now()
    }

    fn is_told_to_end(&self) -> bool {
        self.told_to_end.load(Ordering::SeqCst)
    }

    /// Returns the sources to back up, in the order of the configuration or as they were named.
    fn chosen_sources(&self) -> Result<Vec<&SourceConfig>, JournalError> {
        match &self.options.selection {
            Selection::All => Ok(self.config.sources.iter().collect()),
            Selection::Named(names) => Ok(names.iter().filter_map(|name| self.config.source(name)).collect()),
            Selection::Due | Selection::DueOrFailed => {
                let now = Self::now();
                let sources = self.config.sources.iter();
                let due = sources.map(|source| Ok((self.source_is_due(source, now)?, source)));
                let due: Result<Vec<_>, JournalError> = due.collect();
                Ok(due?.into_iter().filter_map(|(is_due, source)| is_due.then_some(source)).collect())
            }
        }
    }

    /// Backs up sources, so many at once as are configured.
    fn back_up(&self, sources: &[&SourceConfig]) {
        let queue: Mutex<VecDeque<&SourceConfig>> = Mutex::new(sources.iter().copied().collect());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let threads = usize::try_from(self.config.jobs).unwrap_or(1).min(sources.len());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some(source) = next().filter(|_| !self.is_told_to_end()) {
                        self.step(Operation::Ingest, &source.name, |step| self.back_up_source(source, step));
                    }
                });
            }
        });
    }

    /// Does a step, and keeps what came of it.
    fn step(&self, operation: Operation, subject: &str, act: impl FnOnce(Step) -> StepStats) {
        if self.is_told_to_end() {
            return;
        }
        let step = Step { operation, subject: subject.to_owned() };
        self.watch.begins(&step);
        let started = Instant::now();
        let stats = act(step);
        let stats = StepStats { elapsed: started.elapsed(), ..stats };
        self.watch.ended(&stats);
        self.done.lock().unwrap_or_else(PoisonError::into_inner).push(stats);
    }

    /// Tells whether this run has done a step well enough for others to build on.
    fn has_done(&self, operation: Operation, subject: &str) -> bool {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.iter().any(|stats| {
            stats.step.operation == operation && stats.step.subject == subject && stats.is_good()
        })
    }
}

/// Returns the stores of copies, those first that others are copied from.
fn in_order_of_copies(config: &Config) -> Vec<&StoreConfig> {
    let mut ordered: Vec<&StoreConfig> = Vec::new();
    let is_ready = |store: &StoreConfig, ordered: &[&StoreConfig]| {
        let from = store.copy_from.as_deref().and_then(|name| config.store(name));
        from.is_none_or(|from| from.copy_from.is_none() || ordered.iter().any(|done| done.name == from.name))
    };
    let mut waiting: Vec<&StoreConfig> =
        config.stores.iter().filter(|store| store.copy_from.is_some()).collect();
    while let Some(next) = waiting.iter().position(|store| is_ready(store, &ordered)) {
        ordered.push(waiting.remove(next));
    }
    ordered
}

#[cfg(test)]
mod tests;
