//! Restore: brings a snapshot or parts of it back, never outside the target.
//!
//! One thread walks the snapshot in order and makes the directories ([`walk`]); a pool of workers restores
//! everything else ([`pool`], [`write`]); [`target`] confines what they do, [`links`] keeps hard links together,
//! and [`attributes`] sets owners, modes and times once the content is there. Reading belongs to `repo`.

mod attributes;
#[cfg(test)]
pub(in crate::ops) mod fixture;
mod links;
mod pool;
mod target;
#[cfg(test)]
mod tests;
mod walk;
mod write;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::path::TreePath;
use crate::progress::{Event, Progress};
use crate::repo::snapshots::Snapshot;
use crate::repo::{RepoError, Repository};
use pool::Run;
use target::Directory;
use walk::Selection;

/// Most failures that are kept one by one; beyond, they are only counted.
pub const FAILURES_MAX: usize = 10_000;

/// What becomes of things that stand in the target already. Directories are always kept and filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// They stay as they are, and are counted as kept.
    #[default]
    Never,
    /// Files that differ in size, time, mode or owner are replaced, and so is everything that is no file.
    IfChanged,
    /// They are replaced.
    Always,
}

/// How a restore is done.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// The directory below which everything is restored; made if it is missing.
    pub target: PathBuf,
    /// What becomes of what is there.
    pub overwrite: Overwrite,
    /// Threads that restore files, at least 1.
    pub threads: usize,
}

/// Something that could not be restored, or not wholly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreFailure {
    /// Its path in the snapshot.
    pub path: TreePath,
    /// What went wrong, as one sentence for people.
    pub reason: String,
    /// Whether the store is damaged there; otherwise the target refused it.
    pub damaged: bool,
}

/// What came of a restore.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RestoreStats {
    /// Regular files restored; each name of a file counts.
    pub files: u64,
    /// Directories made or filled.
    pub directories: u64,
    /// Symbolic links, fifos, sockets and devices restored.
    pub others: u64,
    /// Bytes of the files restored, holes included; hard links count once.
    pub bytes: u64,
    /// Names that were taken and are kept as they were ([`Overwrite::Never`]).
    pub kept: u64,
    /// Files that were there already, the same ([`Overwrite::IfChanged`]).
    pub unchanged: u64,
    /// How many failures there were; `failures` holds the first [`FAILURES_MAX`].
    pub failed: u64,
    /// How many of them were damage.
    pub damaged: u64,
    /// What could not be restored, in no order.
    pub failures: Vec<RestoreFailure>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Why a restore ended early. What was restored until then stays.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The snapshot does not hold what was asked for. Nothing was restored.
    #[error("the snapshot holds no {path}")]
    NotInSnapshot {
        /// What was asked for.
        path: TreePath,
    },
    /// The target cannot be made or opened. Nothing was restored.
    #[error("cannot open the target {path}")]
    Target {
        /// The target.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No space or quota is left where the target is.
    #[error("cannot restore {path}: no space is left in the target")]
    Full {
        /// What could not be written.
        path: TreePath,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The system gives no thread.
    #[error("cannot start a restore thread")]
    Thread {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The store cannot be read, for another reason than damage.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

/// Restores `paths` of a snapshot (all of it if there are none) to `options.target`, at the same paths below it.
///
/// A file that is damaged or that the target refuses is counted among the failures and the rest is restored.
/// A file has its name only once it is whole. Directories above `paths` are made with their own attributes
/// where they are missing; owners are set by root only, by number.
///
/// # Errors
/// Fails as [`RestoreError`] says: when a path is not in the snapshot, or nothing more can be restored at all.
pub fn restore(
    repo: &Repository,
    snapshot: &Snapshot,
    paths: &[TreePath],
    options: &RestoreOptions,
    progress: &dyn Progress,
) -> Result<RestoreStats, RestoreError> {
    let started = Instant::now();
    let manifest = &snapshot.manifest;
    let selection = Selection::of(repo, manifest, paths)?;
    let target = Directory::create_target(&options.target).map_err(|source| RestoreError::Target {
        path: crate::path::escape(options.target.as_os_str().as_encoded_bytes()),
        source,
    })?;
    if selection == Selection::All {
        progress.event(Event::Found { files: manifest.totals.files, bytes: manifest.totals.bytes });
        progress.event(Event::FoundAll);
    }
    let run = Run::new(repo, options, progress, target);
    pool::with_workers(&run, |queue| walk::walk(&run, &manifest.root, selection, queue))?;
    let mut stats = run.finish()?;
    stats.elapsed = started.elapsed();
    Ok(stats)
}
