//! Restore: brings a snapshot or parts of it back, never outside the target.
//!
//! [`selection`] says what is restored. One thread walks it in order and makes the directories ([`walk`]); a pool
//! of workers restores everything else ([`pool`], [`write`], [`content`]); [`policy`] decides what becomes of what
//! is there and [`owners`] whose it will be; [`target`] confines what they do, [`links`] keeps hard links together,
//! and [`attributes`] sets owners, modes and times once the content is there. [`partial`] keeps what can be read
//! of damaged files, [`readback`] compares what was written, and [`plan`] does none of this and says what would be
//! done. Reading belongs to `repo`.

mod attributes;
mod content;
#[cfg(test)]
pub(in crate::ops) mod fixture;
mod links;
mod owners;
mod partial;
mod plan;
mod policy;
mod pool;
mod readback;
mod selection;
mod target;
#[cfg(test)]
mod tests;
mod walk;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::ops::patterns::ExcludePatterns;
use crate::path::TreePath;
use crate::progress::{Event, Progress};
use crate::repo::snapshots::Snapshot;
use crate::repo::{RepoError, Repository};
pub use owners::{OwnerChange, OwnerKind, Ownership};
pub use partial::{Gap, PartialFile};
use plan::Planner;
pub use plan::{PlanListener, PlannedAction};
use pool::Run;
use selection::{Scope, Selection};
use target::Directory;
use walk::Counts;

/// Most failures that are kept one by one; beyond, they are only counted.
pub const FAILURES_MAX: usize = 10_000;

/// Most things kept in the target that are named.
pub const KEPT_NAMED_MAX: usize = 100;

/// What becomes of things that stand in the target already. Directories are always kept and filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// They stay as they are, and are counted as kept unless they look the same.
    #[default]
    Never,
    /// Files that differ in size, time, mode or owner are replaced, and so is everything that is no file.
    IfChanged,
    /// They are replaced.
    Always,
}

/// Whether what was written is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verification {
    /// It is not.
    #[default]
    None,
    /// Every file is read back from the disk and compared with the hashes of the snapshot.
    ReadBack,
}

/// How a restore is done.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// The directory below which everything is restored; made if it is missing.
    pub target: PathBuf,
    /// What becomes of what is there.
    pub overwrite: Overwrite,
    /// To whom things belong then.
    pub ownership: Ownership,
    /// What is left out; a directory that is left out is not looked into.
    pub exclude: ExcludePatterns,
    /// So many leading directories are not restored themselves; there must be only one at each of their levels.
    pub strip_components: usize,
    /// Whether what was written is read again.
    pub verification: Verification,
    /// Threads that restore files, at least 1.
    pub threads: usize,
    /// Somebody sets this to end the restore early: nothing more is begun, and what was made gets its attributes.
    pub stop: Arc<AtomicBool>,
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
    /// What was kept of a damaged file.
    pub partial: Option<PartialFile>,
}

/// What came of a restore, or would come of it.
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
    /// How many of the above took the place of something.
    pub replaced: u64,
    /// Names that were taken by something else and are kept as they were ([`Overwrite::Never`]).
    pub kept: u64,
    /// The first [`KEPT_NAMED_MAX`] that were met, in order of their paths.
    pub kept_named: Vec<TreePath>,
    /// What was there already and looks the same.
    pub unchanged: u64,
    /// Entries that were excluded, or that stand beside the directories which are stripped off.
    pub left_out: u64,
    /// Damaged files of which a part was kept.
    pub partial: u64,
    /// Files whose bytes were read back and are right; a file with several names counts once.
    pub verified_files: u64,
    /// Their bytes, holes included.
    pub verified_bytes: u64,
    /// Files whose bytes were read back and are wrong. They are among the failures.
    pub differing: u64,
    /// Owners that have another number or no name here, each once.
    pub owner_changes: Vec<OwnerChange>,
    /// Extended attributes left out because only root may set them.
    pub privileged_xattrs: u64,
    /// Files and directories that lost their set-id bits with their owner.
    pub set_ids: u64,
    /// Times that the target's file system cannot hold, so that it keeps the nearest that it can.
    pub clamped_times: u64,
    /// How many failures there were; `failures` holds the first [`FAILURES_MAX`].
    pub failed: u64,
    /// How many of them were damage.
    pub damaged: u64,
    /// What could not be restored, in order of the paths.
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
    /// Leading directories cannot be stripped off: there are several. Nothing was restored.
    #[error("cannot strip off {first}: what is in it would mix with what is in {second}")]
    StripMixes {
        /// One directory.
        first: TreePath,
        /// Another one on the same level.
        second: TreePath,
    },
    /// Leading directories cannot be stripped off: there are not so many. Nothing was restored.
    #[error("nothing is left to restore: there is no directory in {path} to strip off")]
    StripLeavesNothing {
        /// The last directory that could be.
        path: TreePath,
    },
    /// Something that was asked for is no directory and would be stripped off itself. Nothing was restored.
    #[error("nothing would be left of {path}: it is no directory, and its own name would be stripped off")]
    StripsAsked {
        /// It.
        path: TreePath,
    },
    /// It was told to end.
    #[error("the restore was interrupted")]
    Interrupted,
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
/// A file has its name only once it is whole; what could be read of a damaged one is kept as `NAME.partial`, and
/// where its gaps are as `NAME.partial.gaps`. Directories above `paths` are made with their own attributes where
/// they are missing. A hard link that the target cannot have becomes a file of its own. What is restored is on the
/// disk when this returns.
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
    let scope = Scope::find(repo, manifest, paths, options)?;
    let target = Directory::create_target(&options.target).map_err(cannot_open(&options.target))?;
    let is_whole = scope.selection == Selection::All && scope.path.is_root() && options.exclude.is_empty();
    let counts = if is_whole { Counts::Known } else { Counts::AsFound };
    if is_whole {
        progress.event(Event::Found { files: manifest.totals.files, bytes: manifest.totals.bytes });
        progress.event(Event::FoundAll);
    }
    let run = Run::new(repo, options, progress, target, &scope);
    pool::with_workers(&run, |queue| walk::walk(&run, scope, counts, queue))?;
    let mut stats = run.finish()?;
    stats.elapsed = started.elapsed();
    Ok(stats)
}

/// Says what [`restore`] would do and writes nothing; `listener` hears of every entry. Damaged content is not
/// foreseen, since no content is read.
///
/// # Errors
/// Fails as [`RestoreError`] says: when a path is not in the snapshot, or the target is no directory.
pub fn plan<'a>(
    repo: &'a Repository,
    snapshot: &Snapshot,
    paths: &[TreePath],
    options: &'a RestoreOptions,
    listener: &'a mut PlanListener<'a>,
) -> Result<RestoreStats, RestoreError> {
    let started = Instant::now();
    let scope = Scope::find(repo, &snapshot.manifest, paths, options)?;
    let target = Directory::open_target(&options.target).map_err(cannot_open(&options.target))?;
    let mut stats = Planner::new(repo, options, listener).plan(scope, target)?;
    stats.elapsed = started.elapsed();
    Ok(stats)
}

fn cannot_open(target: &Path) -> impl FnOnce(std::io::Error) -> RestoreError {
    move |source| RestoreError::Target {
        path: crate::path::escape(target.as_os_str().as_encoded_bytes()),
        source,
    }
}
