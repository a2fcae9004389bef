//! Verify: reads everything, authenticates and re-hashes it, and says what damage touches.
//!
//! First the small objects ([`objects`]), then every pack and frame ([`packs`]), and last the trees of all
//! snapshots ([`walk`]), which find chunks that are nowhere and name the files that damage touches. Damage is
//! collected ([`report`]) and never ends a verification; a store that cannot be read does. Nothing is written.

mod claim;
mod objects;
mod packs;
mod parallel;
mod report;
#[cfg(test)]
mod tests;
mod walk;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::format::FormatError;
use crate::id::SnapshotId;
use crate::path::TreePath;
use crate::progress::Progress;
use crate::repo::snapshots::Snapshot;
use crate::repo::{RepoError, Repository};
use packs::Held;
use report::Report;
use walk::Walker;

/// Most damaged objects that are reported one by one; one more record stands for all others.
pub const DAMAGE_MAX: usize = 10_000;
/// Most files that are named for one damaged object; beyond, they are only counted.
pub const FILES_MAX: usize = 10_000;
/// How often the frames of a snapshot are looked up if the index objects that name them are replaced meanwhile.
const ATTEMPTS_MAX: usize = 3;

/// How a verification is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyOptions {
    /// Threads that read and decode, at least 1. Each holds a whole pack of up to 88 MiB.
    pub threads: usize,
}

/// Something in the store that is not what it should be, and what it touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The key of the object in the store; a chunk that is in no object is named `chunk <id>`.
    pub object: String,
    /// What is wrong with it, as one sentence for people.
    pub what: String,
    /// The snapshots that need it, oldest first.
    pub snapshots: Vec<SnapshotId>,
    /// Files and directories that cannot be read whole because of it: the first [`FILES_MAX`].
    pub files: Vec<(SnapshotId, TreePath)>,
    /// How many there are in all.
    pub files_touched: u64,
}

/// What came of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifyStats {
    /// Objects that are no packs: config, key slots, index objects, snapshots, marks.
    pub objects: u64,
    /// Packs read, wholly or in part.
    pub packs: u64,
    /// Frames opened and decoded.
    pub frames: u64,
    /// Chunks re-hashed.
    pub chunks: u64,
    /// Snapshots walked.
    pub snapshots: u64,
    /// Bytes read from the store, trees read for the walk not counted.
    pub bytes_read: u64,
    /// All damage; empty means that everything is whole. At most [`DAMAGE_MAX`] records and one for the rest.
    pub damaged: Vec<Damage>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Why a verification could not be ended. Damage is no such reason.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The store or the index cannot be read.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The system gives no thread.
    #[error("cannot start a verification thread")]
    Thread {
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// What the parts of one verification share.
struct Run<'a> {
    repo: &'a Repository,
    threads: usize,
    progress: &'a dyn Progress,
    report: Report,
    counts: Counts,
}

/// The sums of [`VerifyStats`] while they grow.
#[derive(Default)]
struct Counts {
    objects: AtomicU64,
    packs: AtomicU64,
    frames: AtomicU64,
    chunks: AtomicU64,
    snapshots: AtomicU64,
    bytes_read: AtomicU64,
}

fn add(sum: &AtomicU64, more: u64) {
    sum.fetch_add(more, Ordering::Relaxed);
}

/// Verifies all that the store holds, or only what one snapshot needs.
///
/// # Errors
/// Fails as [`VerifyError`] says. Damage is not an error: it is in the result.
pub fn verify(
    repo: &Repository,
    snapshot: Option<&Snapshot>,
    options: &VerifyOptions,
    progress: &dyn Progress,
) -> Result<VerifyStats, VerifyError> {
    let started = Instant::now();
    let attempt = || {
        let run = Run {
            repo,
            threads: options.threads.max(1),
            progress,
            report: Report::default(),
            counts: Counts::default(),
        };
        match snapshot {
            None => verify_all(run),
            Some(snapshot) => verify_one(run, snapshot),
        }
    };
    let run = match attempt() {
        // A damaged index says nothing about the store.
        Err(VerifyError::Repo(error)) if repo.mend(&error)? => attempt()?,
        ended => ended?,
    };
    let counts = run.counts;
    Ok(VerifyStats {
        objects: counts.objects.into_inner(),
        packs: counts.packs.into_inner(),
        frames: counts.frames.into_inner(),
        chunks: counts.chunks.into_inner(),
        snapshots: counts.snapshots.into_inner(),
        bytes_read: counts.bytes_read.into_inner(),
        damaged: run.report.into_damage(),
        elapsed: started.elapsed(),
    })
}

fn verify_all(run: Run<'_>) -> Result<Run<'_>, VerifyError> {
    // Others may commit meanwhile. What a snapshot needs was there before it, and so was all that an index object
    // names: in this order, what a later list lacks is missing.
    let manifests = objects::verify(&run)?;
    run.repo.refresh()?;
    packs::verify_all(&run)?;
    let mut walker = Walker::new(&run);
    for manifest in &manifests {
        walker.snapshot(manifest)?;
    }
    Ok(run)
}

fn verify_one<'a>(run: Run<'a>, snapshot: &Snapshot) -> Result<Run<'a>, VerifyError> {
    let run = verify_frames_of(run, snapshot)?;
    if !run.report.has_bad_frames() {
        return Ok(run);
    }
    // Only now is it known which frames are bad: walk again, for the names of the files.
    let run = Run { report: run.report.only_bad_frames(), ..run };
    run.counts.snapshots.store(0, Ordering::Relaxed);
    Walker::new(&run).snapshot(&snapshot.manifest)?;
    Ok(run)
}

/// Walks the snapshot and reads the frames it needs; once more where they move while that is done.
fn verify_frames_of<'a>(mut run: Run<'a>, snapshot: &Snapshot) -> Result<Run<'a>, VerifyError> {
    for _ in 0..ATTEMPTS_MAX {
        run.repo.refresh()?;
        let mut walker = Walker::new(&run);
        walker.snapshot(&snapshot.manifest)?;
        let frames = walker.into_frames();
        if packs::verify_frames(&run, &frames)? == Held::All {
            return Ok(run);
        }
        run = Run { report: Report::default(), counts: Counts::default(), ..run };
    }
    let why = FormatError::malformed("a frame", "it left the index again and again while it was to be read");
    Err(RepoError::Damaged { object: "the index".into(), source: Some(why) }.into())
}
