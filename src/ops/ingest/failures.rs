//! What goes wrong with single files: which of it ends the run, and how the rest is counted.

use std::io;

use rustix::io::Errno;

use super::IngestError;
use crate::repo::RepoError;

/// Failures beyond this number are counted and no longer told.
const FAILURES_TOLD: usize = 10_000;

/// Why something that was listed cannot be found. It is told and makes a snapshot partial like any failure: it may
/// have got another name that had been passed already, and then the snapshot lacks it.
pub(super) const VANISHED: &str = "it vanished before it was read";

/// Why a file was not read.
pub(super) enum ReadError {
    /// Only this file is affected.
    File(io::Error),
    /// The session cannot go on.
    Fatal(IngestError),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

impl From<IngestError> for ReadError {
    fn from(error: IngestError) -> Self {
        Self::Fatal(error)
    }
}

/// Why the walker stopped early.
pub(super) enum Stop {
    /// Nobody listens any more: the run failed elsewhere.
    Closed,
    /// The index or the session failed.
    Failed(IngestError),
}

impl<E: Into<IngestError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Stop {
    /// Returns the error of the run.
    pub(super) fn into_error(self) -> IngestError {
        match self {
            Self::Failed(error) => error,
            Self::Closed => RepoError::SessionFailed.into(),
        }
    }
}

/// Why a single name was not taken.
pub(super) enum Skip {
    Because(io::Error),
    Stop(Stop),
}

impl From<io::Error> for Skip {
    fn from(error: io::Error) -> Self {
        Self::Because(error)
    }
}

impl From<ReadError> for Skip {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::File(error) => Self::Because(error),
            ReadError::Fatal(error) => Self::Stop(Stop::Failed(error)),
        }
    }
}

impl From<Stop> for Skip {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

/// Tells whether it is the process or the system that has too many files open, so that skipping this one would
/// only lose the next ones too.
pub(super) fn out_of_files(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

impl From<RepoError> for ReadError {
    fn from(error: RepoError) -> Self {
        Self::Fatal(error.into())
    }
}

/// What could not be read: the first ones in words, and their number.
#[derive(Debug, Default)]
pub(super) struct Failures {
    pub(super) told: Vec<String>,
    pub(super) count: u64,
}

impl Failures {
    /// Adds a sentence on so many paths.
    pub(super) fn add(&mut self, text: String, paths: u64) {
        self.count += paths;
        if self.told.len() < FAILURES_TOLD {
            self.told.push(text);
        }
    }
}
