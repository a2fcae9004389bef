//! The journal: the local record of runs, of what was wrong and who was told, and of when packs were verified.
//!
//! Owns one SQLite file in the state folder of this host. It cannot be made anew from a store, so it is written
//! durably and never deleted: a damaged file is set aside under another name. What the runs mean for health is
//! left to others.

mod database;
mod incidents;
mod packs;
mod sizes;

use std::fmt;
use std::num::ParseIntError;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use rusqlite::{Connection, Row};

use crate::id::{SnapshotId, StoreId};
use crate::process::Process;

pub use incidents::{Gravity, Incident, IncidentId, Notice, NoticesLock, Observation, Undelivered};
pub use packs::{PackState, StorePlace};
pub use sizes::StoreSize;

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// SQLite failed, or a row holds what no row should.
    #[error("cannot {operation} the journal {path}")]
    Database {
        /// What was tried: `open`, `read`, `update`.
        operation: &'static str,
        /// The file.
        path: String,
        /// The failure.
        source: rusqlite::Error,
    },
    /// The folder or the files of the journal cannot be prepared.
    #[error("cannot prepare the folder of the journal {path}")]
    Folder {
        /// The file of the journal.
        path: String,
        /// The failure.
        source: std::io::Error,
    },
    /// A newer program wrote the file.
    #[error("the journal {path} needs a newer yester")]
    TooNew {
        /// The file.
        path: String,
    },
    /// The run is unknown, or has ended already.
    #[error("run {run} of the journal {path} is not running")]
    NotRunning {
        /// Number of the run.
        run: i64,
        /// The file.
        path: String,
    },
}

impl JournalError {
    fn database(operation: &'static str, path: &Path) -> impl FnOnce(rusqlite::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Database { operation, path, source }
    }

    fn folder(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Folder { path, source }
    }
}

/// Number of a run in this journal, counted upwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(i64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RunId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

/// What a run says when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunStart<'a> {
    /// The store it works on; nothing if it was not opened yet.
    pub store: Option<StoreId>,
    /// Where that store is, as people write it.
    pub place: &'a str,
    /// What it does: `ingest`, `verify`, `gc`, …
    pub operation: &'a str,
    /// The source it works on; empty where there is none.
    pub source: &'a str,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunOutcome {
    /// Everything was done.
    Succeeded,
    /// Some of it was done.
    Partial,
    /// A snapshot was made of a dump that may not be good.
    Suspicious,
    /// Nothing came of it.
    Failed,
    /// It has not ended yet: its process is alive.
    Running,
    /// It was cut off: it says so, or it never said how it ended, and its process is gone.
    Unfinished,
}

impl RunOutcome {
    /// Tells whether a backup ended with a snapshot that is worth something: a partial one is, as far as it goes.
    #[must_use]
    pub fn is_good(self) -> bool {
        matches!(self, Self::Succeeded | Self::Partial)
    }

    /// Returns the word for it, for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Partial => "partial",
            Self::Suspicious => "suspicious",
            Self::Failed => "failed",
            Self::Running => "running",
            Self::Unfinished => "unfinished",
        }
    }
}

/// What a run says when it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    /// How it ended; a run that is `Running` says nothing of that, and counts as `Failed`.
    pub outcome: RunOutcome,
    /// The snapshot that it committed.
    pub snapshot: Option<SnapshotId>,
    /// Bytes that it looked at.
    pub bytes: u64,
    /// Plain bytes that were new to the store.
    pub added_bytes: u64,
    /// What people should know of it: an error, or nothing.
    pub message: String,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its number.
    pub id: RunId,
    /// The store it worked on; nothing if that could not be opened.
    pub store: Option<StoreId>,
    /// Where that store is; empty in what older programs recorded.
    pub place: String,
    /// What it did: `ingest`, `verify`, `gc`, …
    pub operation: String,
    /// The source it worked on; empty where there is none.
    pub source: String,
    /// When it began, to the millisecond.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// How it ended.
    pub outcome: RunOutcome,
    /// The snapshot that it committed.
    pub snapshot: Option<SnapshotId>,
    /// Bytes that it looked at.
    pub bytes: u64,
    /// Plain bytes that were new to the store.
    pub added_bytes: u64,
    /// What people should know of it.
    pub message: String,
}

/// The journal of this host. All methods may be called from any thread, and several processes may write.
pub struct Journal {
    path: PathBuf,
    connection: Mutex<Connection>,
    set_aside: Option<PathBuf>,
}

impl Journal {
    /// Opens the journal at `path`, or creates it. The folder is created where it is missing.
    ///
    /// A damaged file is renamed to `<path>.damaged-<time>` and a new one begins; [`Journal::set_aside`] tells.
    ///
    /// # Errors
    /// Fails if the file cannot be created or used, or if a newer program wrote it.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let (connection, set_aside) = database::open(path)?;
        Ok(Self { path: path.to_owned(), connection: Mutex::new(connection), set_aside })
    }

    /// Returns where [`Journal::open`] put a damaged file, so that people can be told.
    #[must_use]
    pub fn set_aside(&self) -> Option<&Path> {
        self.set_aside.as_deref()
    }

    /// Records that a run of this process begins.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn begin(&self, start: &RunStart<'_>) -> Result<RunId, JournalError> {
        let process = Process::current();
        let connection = self.connection();
        connection
            .prepare_cached(
                "INSERT INTO runs (store, place, operation, source, started, pid, process_start, boot)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )
            .and_then(|mut statement| {
                let RunStart { store, place, operation, source } = *start;
                let store: &[u8] = store.as_ref().map_or(&[], |store| store.as_bytes().as_slice());
                let started = Timestamp::now().as_millisecond();
                let Process { pid, start, boot } = process;
                statement.insert((store, place, operation, source, started, pid, start, boot))
            })
            .map(RunId)
            .map_err(JournalError::database("update", &self.path))
    }

    /// Records which store a run works on that began before it was opened, and that this process does its work: it goes
    /// on if the process ends that began it.
    ///
    /// # Errors
    /// Fails if the file cannot be written, or if the run is unknown or has ended.
    pub fn adopt(&self, run: RunId, store: StoreId) -> Result<(), JournalError> {
        let Process { pid, start, boot } = Process::current();
        let connection = self.connection();
        let changed = connection
            .prepare_cached(
                "UPDATE runs SET store = ?2, pid = ?3, process_start = ?4, boot = ?5
                 WHERE id = ?1 AND outcome IS NULL",
            )
            .and_then(|mut statement| statement.execute((run.0, store.as_bytes(), pid, start, boot)))
            .map_err(JournalError::database("update", &self.path))?;
        self.expect_running(run, changed)
    }

    /// Opens a run again that has ended: it is tried once more.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn again(&self, run: RunId) -> Result<(), JournalError> {
        let sql =
            "UPDATE runs SET outcome = NULL, finished = NULL, snapshot = NULL, bytes = 0, added_bytes = 0,
                                   message = '' WHERE id = ?1";
        let connection = self.connection();
        connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute((run.0,)))
            .map(drop)
            .map_err(JournalError::database("update", &self.path))
    }

    /// Records how a run ended. When this returns, the record survives a power cut.
    ///
    /// # Errors
    /// Fails if the file cannot be written, or if the run is unknown or has ended before.
    pub fn finish(&self, run: RunId, end: &RunEnd) -> Result<(), JournalError> {
        let connection = self.connection();
        let changed = connection
            .prepare_cached(
                "UPDATE runs SET finished = ?2, outcome = ?3, snapshot = ?4, bytes = ?5, added_bytes = ?6,
                                 message = ?7
                 WHERE id = ?1 AND outcome IS NULL",
            )
            .and_then(|mut statement| {
                statement.execute((
                    run.0,
                    Timestamp::now().as_millisecond(),
                    outcome_column(end.outcome),
                    end.snapshot.map(|snapshot| snapshot.to_string()),
                    clamp(end.bytes),
                    clamp(end.added_bytes),
                    &end.message,
                ))
            })
            .map_err(JournalError::database("update", &self.path))?;
        self.expect_running(run, changed)
    }

    /// Records that somebody found a suspicious snapshot to be good: the run that made it did what it should.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn accept(&self, snapshot: SnapshotId) -> Result<(), JournalError> {
        let connection = self.connection();
        connection
            .prepare_cached("UPDATE runs SET outcome = ?2 WHERE snapshot = ?1 AND outcome = ?3")
            .and_then(|mut statement| {
                let [accepted, before] = [RunOutcome::Succeeded, RunOutcome::Suspicious].map(outcome_column);
                statement.execute((snapshot.to_string(), accepted, before))
            })
            .map(drop)
            .map_err(JournalError::database("update", &self.path))
    }

    fn expect_running(&self, run: RunId, changed: usize) -> Result<(), JournalError> {
        if changed == 1 {
            return Ok(());
        }
        Err(JournalError::NotRunning { run: run.0, path: self.path.display().to_string() })
    }

    /// Returns the last runs, newest first, `limit` at most.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is damaged.
    pub fn recent(&self, limit: u32) -> Result<Vec<Run>, JournalError> {
        self.select("ORDER BY id DESC LIMIT ?1", (limit,))
    }

    /// Returns the runs of an operation on a source that began at `since` or later, newest first, `limit` at most.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is damaged.
    pub fn runs_of(
        &self,
        operation: &str,
        source: &str,
        since: Timestamp,
        limit: u32,
    ) -> Result<Vec<Run>, JournalError> {
        self.select(
            "WHERE operation = ?1 AND source = ?2 AND started >= ?3 ORDER BY id DESC LIMIT ?4",
            (operation, source, since.as_millisecond(), limit),
        )
    }

    /// Returns the runs of an operation on the store at a place, newest first, `limit` at most.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is damaged.
    pub fn runs_at(&self, operation: &str, place: &str, limit: u32) -> Result<Vec<Run>, JournalError> {
        self.select(
            "WHERE operation = ?1 AND place = ?2 ORDER BY id DESC LIMIT ?3",
            (operation, place, limit),
        )
    }

    /// Returns the last run of an operation on a source of the store at a place that did all it should, or some of it.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is damaged.
    pub fn last_good(&self, operation: &str, source: &str, place: &str) -> Result<Option<Run>, JournalError> {
        let which = "WHERE operation = ?1 AND source = ?2 AND place = ?3 AND outcome IN (1, 2)
                     ORDER BY id DESC LIMIT 1";
        Ok(self.select(which, (operation, source, place))?.pop())
    }

    /// Returns one run.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is damaged.
    pub fn run(&self, run: RunId) -> Result<Option<Run>, JournalError> {
        Ok(self.select("WHERE id = ?1", (run.0,))?.pop())
    }

    fn select(&self, which: &str, parameters: impl rusqlite::Params) -> Result<Vec<Run>, JournalError> {
        let sql = format!(
            "SELECT id, store, operation, source, started, finished, outcome, snapshot, bytes, added_bytes,
                    message, pid, process_start, boot, place
             FROM runs {which}"
        );
        let connection = self.connection();
        connection
            .prepare_cached(&sql)
            .and_then(|mut statement| statement.query_map(parameters, read_run)?.collect())
            .map_err(JournalError::database("read", &self.path))
    }

    /// A panic of another thread leaves the connection usable: every method is one statement or transaction.
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn outcome_column(outcome: RunOutcome) -> u8 {
    match outcome {
        RunOutcome::Succeeded => 1,
        RunOutcome::Partial => 2,
        RunOutcome::Suspicious => 4,
        RunOutcome::Failed | RunOutcome::Running => 3,
        RunOutcome::Unfinished => 5,
    }
}

/// SQLite counts to 2^63 - 1; a record of more bytes is worth more than its last digits.
fn clamp(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn read_run(row: &Row<'_>) -> rusqlite::Result<Run> {
    let outcome = match row.get::<_, Option<u8>>(6)? {
        Some(1) => RunOutcome::Succeeded,
        Some(2) => RunOutcome::Partial,
        Some(4) => RunOutcome::Suspicious,
        Some(5) => RunOutcome::Unfinished,
        Some(_) => RunOutcome::Failed,
        None => {
            let process = Process { pid: row.get(11)?, start: row.get(12)?, boot: row.get(13)? };
            if process.is_alive() { RunOutcome::Running } else { RunOutcome::Unfinished }
        }
    };
    let snapshot: Option<String> = row.get(7)?;
    Ok(Run {
        id: RunId(row.get(0)?),
        store: row.get::<_, Vec<u8>>(1)?.try_into().ok().map(StoreId::from_bytes),
        place: row.get(14)?,
        operation: row.get(2)?,
        source: row.get(3)?,
        started: time(row.get(4)?),
        finished: row.get::<_, Option<i64>>(5)?.map(time),
        outcome,
        snapshot: snapshot.and_then(|text| text.parse().ok()),
        bytes: row.get(8)?,
        added_bytes: row.get(9)?,
        message: row.get(10)?,
    })
}

/// A time that no clock shows reads as the epoch: the run is still worth listing.
fn time(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests;
