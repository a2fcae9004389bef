//! Verifies packs: which of them are read whole, and frames that are read alone.
//!
//! What is checked of a pack is owned by [`pack`](super::pack).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};

use super::pack::{Noted, check, note, verify_pack};
use super::{PackCoverage, Run, Share, VerifyError, add};
use crate::format::pack::PACK_MAX_BYTES;
use crate::id::PackId;
use crate::index::{FrameRef, PackRecord, PackRow};
use crate::progress::Event;
use crate::repo::{RepoError, parallel};
use crate::store::key::{ObjectKey, Prefix};
use crate::store::list_with_lengths;

/// A pack that the store lists, the index, or both.
pub(super) struct PackJob {
    pub(super) id: PackId,
    pub(super) listed_bytes: Option<u64>,
    pub(super) indexed: Option<(PackRow, PackRecord)>,
}

impl PackJob {
    /// Tells whether the lists alone say that it is damaged.
    fn is_amiss(&self) -> bool {
        match (&self.indexed, self.listed_bytes) {
            (_, None) => true,
            (Some((_, record)), Some(listed)) => record.bytes != listed,
            (None, Some(listed)) => listed > PACK_MAX_BYTES,
        }
    }
}

/// Reads packs of the store whole: every one, or a share of them, those that were not whole when they were read last,
/// and those of which the lists say that they are damaged. Returns those of them that the index knows.
pub(super) fn verify_packs(run: &Run<'_>, share: Option<Share>) -> Result<BTreeSet<PackRow>, VerifyError> {
    let mut jobs = find_packs(run)?;
    run.times.retain(|id| jobs.contains_key(id));
    let listed: Vec<(PackId, u64)> =
        jobs.values().filter_map(|job| Some((job.id, job.listed_bytes?))).collect();
    let mut last = Vec::new();
    if let Some(share) = share {
        let chosen = run.times.choose(share, listed.iter().copied());
        // A store may fail on what it failed on before: everything else has had its turn then.
        last = chosen.suspect.iter().filter_map(|id| jobs.remove(id)).collect();
        let chosen: BTreeSet<PackId> = chosen.share.into_iter().collect();
        jobs.retain(|id, job| chosen.contains(id) || job.is_amiss());
    }
    let mut jobs: Vec<PackJob> = jobs.into_values().collect();
    // The largest first: one that begins last is read by one thread while the others have nothing to do.
    jobs.sort_by_key(|job| Reverse(job.listed_bytes));
    jobs.extend(last);
    let bytes_of = |bytes: &mut dyn Iterator<Item = u64>| bytes.fold(0, u64::saturating_add);
    let mut coverage = PackCoverage {
        packs: listed.len() as u64,
        bytes: bytes_of(&mut listed.iter().map(|(_, bytes)| *bytes)),
        packs_taken: jobs.iter().filter(|job| job.listed_bytes.is_some()).count() as u64,
        bytes_taken: bytes_of(&mut jobs.iter().filter_map(|job| job.listed_bytes)),
        packs_never: 0,
        oldest: None,
    };
    run.progress.event(Event::Found { files: jobs.len() as u64, bytes: coverage.bytes_taken });
    run.progress.event(Event::FoundAll);
    let rows = jobs.iter().filter_map(|job| job.indexed.as_ref().map(|(row, _)| *row)).collect();
    let verified = parallel::each(run.threads, jobs, |job| verify_pack(run, &job));
    // What was found whole before a store went away stays found.
    run.times.flush();
    verified?;
    run.times.cover(listed.into_iter().map(|(id, _)| id), &mut coverage);
    *run.coverage.lock().unwrap_or_else(PoisonError::into_inner) = Some(coverage);
    Ok(rows)
}

/// Returns the packs that the store lists, the index, or both.
fn find_packs(run: &Run<'_>) -> Result<BTreeMap<PackId, PackJob>, RepoError> {
    let mut jobs: BTreeMap<PackId, PackJob> = BTreeMap::new();
    run.repo.index().packs(&mut |row, record| {
        let id = record.id;
        jobs.insert(id, PackJob { id, listed_bytes: None, indexed: Some((row, record)) });
    })?;
    let mut unknown = Vec::new();
    list_with_lengths(run.repo.store(), Prefix::Packs, &mut |key, bytes| match key.as_pack() {
        Some(id) => {
            let job = jobs.entry(id).or_insert(PackJob { id, listed_bytes: None, indexed: None });
            job.listed_bytes = Some(bytes);
        }
        None => unknown.push(key),
    })?;
    for key in unknown {
        run.progress.event(Event::Warning(&format!("{key} is nothing that this version knows")));
    }
    Ok(jobs)
}

/// Whether the index still held all frames that were to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// All were read.
    All,
    /// Some lie elsewhere now: the index object that named them is gone.
    NotAll,
}

/// Reads these frames, and for every chunk of one that is bad other frames that hold it, until one is whole or all are
/// bad. Leaves out the frames of `packs_read`.
pub(super) fn verify_frames(
    run: &Run<'_>,
    mut frames: BTreeSet<FrameRef>,
    packs_read: &BTreeSet<PackRow>,
) -> Result<Held, VerifyError> {
    let mut read: BTreeSet<FrameRef> = BTreeSet::new();
    loop {
        frames.retain(|frame| !read.contains(frame) && !packs_read.contains(&frame.pack));
        if frames.is_empty() {
            break;
        }
        if read_frames(run, &frames)? == Held::NotAll {
            return Ok(Held::NotAll);
        }
        let others = other_homes(run, frames.iter().copied().filter(|frame| run.report.is_bad(*frame)))?;
        read.append(&mut frames);
        frames = others;
    }
    let packs: BTreeSet<PackRow> = read.iter().map(|frame| frame.pack).collect();
    add(&run.counts.packs, packs.len() as u64);
    Ok(Held::All)
}

/// Returns for every chunk of these bad frames the first frame that holds it and is not known to be bad.
pub(super) fn other_homes(
    run: &Run<'_>,
    bad: impl IntoIterator<Item = FrameRef>,
) -> Result<BTreeSet<FrameRef>, RepoError> {
    let index = run.repo.index();
    let mut others = BTreeSet::new();
    for frame in bad {
        let Some(record) = index.frame(frame)? else { continue };
        for chunk in &record.entry.chunks {
            let homes = index.homes(&chunk.id)?;
            others.extend(homes.iter().map(|home| home.frame).find(|home| !run.report.is_bad(*home)));
        }
    }
    Ok(others)
}

/// Reads these frames and no others, pack by pack in the order in which they lie.
fn read_frames(run: &Run<'_>, frames: &BTreeSet<FrameRef>) -> Result<Held, VerifyError> {
    let mut packs: BTreeMap<PackRow, Vec<u32>> = BTreeMap::new();
    for frame in frames {
        packs.entry(frame.pack).or_default().push(frame.number);
    }
    run.progress.event(Event::Found { files: packs.len() as u64, bytes: 0 });
    run.progress.event(Event::FoundAll);
    let has_lost = AtomicBool::new(false);
    let verified = parallel::each(run.threads, packs, |(row, numbers)| {
        let Some(pack) = run.repo.index().pack(row)? else {
            has_lost.store(true, Ordering::Relaxed);
            return Ok(());
        };
        let mut bad = Vec::new();
        for number in numbers {
            let Some(record) = run.repo.index().frame(FrameRef { pack: row, number })? else {
                has_lost.store(true, Ordering::Relaxed);
                continue;
            };
            add(&run.counts.bytes_read, record.entry.stored_length.into());
            bad.extend(check(run, &record, |check| {
                run.repo.frames().read_frame(&record, check).map(|_| ())
            })?);
        }
        // Samples take it until it is whole.
        if note(run, &ObjectKey::pack(&pack.id), Some(row), Vec::new(), &bad) == Noted::Damage {
            run.times.found_suspect(pack.id);
            run.distrust(pack.id);
        }
        run.progress.event(Event::Done { files: 1, bytes: 0 });
        Ok::<_, RepoError>(())
    });
    run.times.flush();
    verified?;
    Ok(if has_lost.into_inner() { Held::NotAll } else { Held::All })
}
