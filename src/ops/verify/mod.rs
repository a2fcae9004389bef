//! Verify: reads everything, authenticates and re-hashes it, and says what damage touches.
//!
//! First the small objects ([`objects`]), then every pack and frame ([`packs`], [`pack`]), and last the trees of all
//! snapshots ([`walk`]), which find chunks that are nowhere and name the files that damage touches. Damage is
//! collected ([`report`]) and never ends a verification; a store that cannot be read does. Nothing is written to
//! the store; the journal remembers which packs were found whole, so that the next sample takes others
//! ([`sample`]).

mod claim;
mod objects;
mod pack;
mod packs;
mod report;
mod sample;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::format::FormatError;
use crate::format::snapshot::Manifest;
use crate::id::{PackId, SnapshotId};
use crate::journal::{Journal, StorePlace};
use crate::path::TreePath;
use crate::progress::{Event, Progress, error_chain};
use crate::repo::snapshots::Snapshot;
use crate::repo::{RepoError, Repository};
use crate::store::key::{ObjectKey, Prefix};
use packs::Held;
use report::Report;
use sample::PackTimes;
use walk::Walker;

pub use sample::{PackCoverage, Share};

/// Most damaged objects that are reported one by one; one more record stands for all others.
pub const DAMAGE_MAX: usize = 10_000;
/// Most files that are named for one damaged object; beyond, they are only counted.
pub const FILES_MAX: usize = 10_000;
/// How often the frames of a snapshot are looked up if the index objects that name them are replaced meanwhile.
const ATTEMPTS_MAX: usize = 3;

/// What is verified.
///
/// Where a frame is bad, other frames that hold its chunks are read as well, whatever the scope: nothing else tells
/// which of the chunks are lost.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a> {
    /// All that the store holds.
    All,
    /// What one snapshot needs.
    Snapshot(&'a Snapshot),
    /// All small objects and a share of the packs: those that were not verified longest, and on top of it those that
    /// were not whole when they were read last. Trees are walked only to
    /// name what damage touches, so that a chunk that is nowhere is not noticed.
    Sample(Share),
}

/// How a verification is done.
#[derive(Clone, Copy)]
pub struct VerifyOptions<'a> {
    /// Threads that read and decode, at least 1. Each holds a piece of a pack and a frame.
    pub threads: usize,
    /// Where it is remembered when packs were found whole. It may fail without harm to the verification.
    pub journal: Option<&'a Journal>,
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
    /// How much of the packs this is; nothing where one snapshot was verified.
    pub coverage: Option<PackCoverage>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Why a verification could not be ended. Damage is no such reason.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The store or the index cannot be read.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

/// What the parts of one verification share.
struct Run<'a> {
    repo: &'a Repository,
    threads: usize,
    progress: &'a dyn Progress,
    report: Report,
    counts: Counts,
    times: PackTimes<'a>,
    coverage: Mutex<Option<PackCoverage>>,
    /// Packs that a collection has deleted, or is deleting.
    dead: HashSet<PackId>,
}

impl Run<'_> {
    /// Remembers that a pack is whole.
    fn trust(&self, pack: PackId) {
        if let Err(error) = self.repo.index().trust(&[pack]) {
            tracing::debug!("it is not remembered that pack {pack} is whole: {error}");
        }
    }

    /// Remembers that a pack is damaged or missing, so that the next ingest of this host stores anew what it holds.
    fn distrust(&self, pack: PackId) {
        if let Err(error) = self.repo.index().distrust(&[pack]) {
            tracing::debug!("it is not remembered that pack {pack} is damaged: {error}");
        }
    }
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

/// Verifies what `scope` says.
///
/// # Errors
/// Fails as [`VerifyError`] says. Damage is not an error: it is in the result.
pub fn verify(
    repo: &Repository,
    scope: Scope<'_>,
    options: &VerifyOptions<'_>,
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
            times: PackTimes::read(options.journal, place(repo), progress),
            coverage: Mutex::new(None),
            dead: dead_packs(repo),
        };
        match scope {
            Scope::All => verify_all(run),
            Scope::Snapshot(snapshot) => verify_one(run, snapshot),
            Scope::Sample(share) => verify_sample(run, share),
        }
    };
    let attempt = || match attempt() {
        // A damaged index says nothing about the store.
        Err(VerifyError::Repo(error)) if repo.mend(&error)? => attempt(),
        ended => ended,
    };
    let before = moving_objects(repo)?;
    let Run { mut counts, report, mut coverage, .. } = attempt()?;
    let mut damaged = report.into_damage();
    let between = if damaged.is_empty() { BTreeSet::new() } else { moving_objects(repo)? };
    if !damaged.is_empty() && !before.is_subset(&between) {
        progress.event(Event::Warning(
            "garbage was collected meanwhile: all is read once more, to tell what moved from what is damaged",
        ));
        let again = attempt()?;
        (counts, coverage) = (again.counts, again.coverage);
        let first = std::mem::replace(&mut damaged, again.report.into_damage());
        // What is damaged is so both times, and what another collection moves is not.
        if !between.is_subset(&moving_objects(repo)?) {
            damaged.retain(|damage| first.iter().any(|other| other.object == damage.object));
        }
    }
    if damaged.iter().any(|damage| damage.object.starts_with(Prefix::Index.as_str()))
        && let Err(error) = distrust_what_others_cannot_find(repo, &damaged)
    {
        tracing::debug!("it is not remembered which packs other hosts cannot find: {error}");
    }
    Ok(VerifyStats {
        objects: counts.objects.into_inner(),
        packs: counts.packs.into_inner(),
        frames: counts.frames.into_inner(),
        chunks: counts.chunks.into_inner(),
        snapshots: counts.snapshots.into_inner(),
        bytes_read: counts.bytes_read.into_inner(),
        damaged,
        coverage: coverage.into_inner().unwrap_or_else(PoisonError::into_inner),
        elapsed: started.elapsed(),
    })
}

/// Distrusts the packs that damaged index objects alone name: this host knows them still, and no other one will.
fn distrust_what_others_cannot_find(repo: &Repository, damaged: &[Damage]) -> Result<(), RepoError> {
    let is_damaged = |key: &str| damaged.iter().any(|damage| damage.object == key);
    let (lost, whole): (Vec<_>, Vec<_>) =
        repo.index().listed_objects()?.into_iter().partition(|object| is_damaged(&object.key));
    if lost.is_empty() {
        return Ok(());
    }
    let named: HashSet<PackId> = whole.into_iter().flat_map(|object| object.packs).collect();
    let lost: Vec<PackId> =
        lost.into_iter().flat_map(|object| object.packs).filter(|pack| !named.contains(pack)).collect();
    Ok(repo.index().distrust(&lost)?)
}

/// Lists what collections delete, or what shows that they did: where none of this is gone, nothing was collected.
fn moving_objects(repo: &Repository) -> Result<BTreeSet<ObjectKey>, RepoError> {
    let mut keys = BTreeSet::new();
    for prefix in [Prefix::Index, Prefix::Snapshots, Prefix::Gc] {
        repo.store().list(prefix, &mut |object| {
            keys.insert(object.key);
        })?;
    }
    Ok(keys)
}

/// Returns the packs that may be missing. What does not open under `gc/` says nothing of them.
fn dead_packs(repo: &Repository) -> HashSet<PackId> {
    match repo.collections() {
        Ok(collections) => collections.dead_packs(),
        Err(error) => {
            tracing::warn!("nobody knows which packs were collected: {}", error_chain(&error));
            HashSet::new()
        }
    }
}

fn place(repo: &Repository) -> StorePlace {
    StorePlace { store: repo.config().store, location: repo.store().location() }
}

fn verify_all(run: Run<'_>) -> Result<Run<'_>, VerifyError> {
    // Others may commit meanwhile. What a snapshot needs was there before it, and so was all that an index object
    // names: in this order, what a later list lacks is missing.
    let manifests = objects::verify(&run)?;
    run.repo.refresh()?;
    packs::verify_packs(&run, None)?;
    walk(&run, &manifests)?;
    Ok(run)
}

fn verify_sample(run: Run<'_>, share: Share) -> Result<Run<'_>, VerifyError> {
    let manifests = objects::verify(&run)?;
    run.repo.refresh()?;
    let taken = packs::verify_packs(&run, Some(share))?;
    if run.report.has_damaged_frames() {
        let others = packs::other_homes(&run, run.report.known_bad_frames())?;
        // What left the index meanwhile is told by the next sample, which takes the damaged packs again.
        packs::verify_frames(&run, others, &taken)?;
        walk(&run, &manifests)?;
    }
    Ok(run)
}

fn walk(run: &Run<'_>, manifests: &[Manifest]) -> Result<(), RepoError> {
    let mut walker = Walker::new(run);
    manifests.iter().try_for_each(|manifest| walker.snapshot(manifest))
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
        if packs::verify_frames(&run, frames, &BTreeSet::new())? == Held::All {
            return Ok(run);
        }
        run = Run { report: Report::default(), counts: Counts::default(), ..run };
    }
    let why = FormatError::malformed("a frame", "it left the index again and again while it was to be read");
    Err(RepoError::Damaged { object: "the index".into(), source: Some(why) }.into())
}
