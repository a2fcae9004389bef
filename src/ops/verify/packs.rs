//! Verifies packs: that they are there, are what their names say, and that every frame and chunk in them is whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Run, VerifyError, add, parallel};
use crate::format::frame::FrameEntry;
use crate::format::pack::{self, OpenedPack, PACK_MAX_BYTES};
use crate::id::PackId;
use crate::index::{FrameRecord, FrameRef, PackRecord, PackRow};
use crate::progress::{Event, error_chain};
use crate::repo::RepoError;
use crate::repo::read::FrameCheck;
use crate::store::key::{ObjectKey, Prefix};

/// Most frames of a pack that a message names.
const FRAMES_NAMED: usize = 8;

/// A pack that the store lists, the index, or both.
struct PackJob {
    id: PackId,
    listed_bytes: Option<u64>,
    indexed: Option<(PackRow, PackRecord)>,
}

/// Reads every pack of the store whole.
pub(super) fn verify_all(run: &Run<'_>) -> Result<(), VerifyError> {
    let mut jobs: BTreeMap<PackId, PackJob> = BTreeMap::new();
    run.repo
        .index()
        .packs(&mut |row, record| {
            let id = record.id;
            jobs.insert(id, PackJob { id, listed_bytes: None, indexed: Some((row, record)) });
        })
        .map_err(RepoError::from)?;
    let mut unknown = Vec::new();
    let mut all_bytes = 0;
    run.repo
        .store()
        .list(Prefix::Packs, &mut |object| match object.key.as_pack() {
            Some(id) => {
                all_bytes += object.bytes;
                let job = jobs.entry(id).or_insert(PackJob { id, listed_bytes: None, indexed: None });
                job.listed_bytes = Some(object.bytes);
            }
            None => unknown.push(object.key),
        })
        .map_err(RepoError::from)?;
    for key in unknown {
        run.progress.event(Event::Warning(&format!("{key} is nothing that this version knows")));
    }
    run.progress.event(Event::Found { files: jobs.len() as u64, bytes: all_bytes });
    run.progress.event(Event::FoundAll);
    parallel::for_each(run.threads, jobs.into_values(), |job| verify_pack(run, &job))
}

fn verify_pack(run: &Run<'_>, job: &PackJob) -> Result<(), RepoError> {
    let key = ObjectKey::pack(&job.id);
    let listed_bytes = job.listed_bytes.unwrap_or(0);
    match read_whole(run, &key, job)? {
        Err(what) => {
            let frames = match &job.indexed {
                Some((row, _)) => run.repo.index().frames_of(*row)?,
                None => Vec::new(),
            };
            run.report.bad_frames(
                key.as_str(),
                what,
                frames.iter().filter_map(|record| frame_ref(job, record)),
            );
        }
        Ok(bytes) => verify_bytes(run, &key, job, bytes)?,
    }
    run.progress.event(Event::Done { files: 1, bytes: listed_bytes });
    Ok(())
}

fn frame_ref(job: &PackJob, record: &FrameRecord) -> Option<FrameRef> {
    job.indexed.as_ref().map(|(row, _)| FrameRef { pack: *row, number: record.number })
}

/// Reads a pack; returns what is wrong with it where it is not there as a whole.
fn read_whole(run: &Run<'_>, key: &ObjectKey, job: &PackJob) -> Result<Result<Vec<u8>, String>, RepoError> {
    let Some(listed) = job.listed_bytes else {
        return Ok(Err("it is missing from the store".into()));
    };
    if listed > PACK_MAX_BYTES {
        return Ok(Err(format!("it is {listed} bytes long, more than a pack can be")));
    }
    add(&run.counts.packs, 1);
    match run.repo.store().get(key, None).map_err(RepoError::from) {
        Ok(bytes) => {
            add(&run.counts.bytes_read, bytes.len() as u64);
            Ok(Ok(bytes))
        }
        Err(error) if error.is_damage() => Ok(Err(error_chain(&error))),
        Err(error) => Err(error),
    }
}

/// Verifies a pack's bytes. Where the pack as such is not what it should be, its frames are still tried one by
/// one: their own seals tell which of them are good.
fn verify_bytes(run: &Run<'_>, key: &ObjectKey, job: &PackJob, mut bytes: Vec<u8>) -> Result<(), RepoError> {
    let mut wrong = Vec::new();
    if let Some((_, record)) = &job.indexed
        && record.bytes != bytes.len() as u64
    {
        wrong.push(format!("it is {} bytes long, but was {}", bytes.len(), record.bytes));
    }
    let mut opened = None;
    if blake3::hash(&bytes).as_bytes() == job.id.as_bytes() {
        match pack::open_pack(run.repo.keys(), &bytes) {
            Ok(found) => opened = Some(found),
            Err(error) => wrong.push(error_chain(&error)),
        }
    } else {
        wrong.push("its bytes do not have its hash".into());
    }
    let indexed = match &job.indexed {
        Some((row, record)) => Some((record, run.repo.index().frames_of(*row)?)),
        None => None,
    };
    // Rows go with an index object that was superseded meanwhile; then the pack's own directory is all there is.
    let records = match (indexed.filter(|(_, records)| !records.is_empty()), opened) {
        (Some((record, records)), opened) => {
            if opened.is_some_and(|opened| !is_as_indexed(&opened, record, &records)) {
                wrong.push("its directory is not what the index says".into());
            }
            records
        }
        (None, Some(opened)) => records_of(job.id, bytes.len() as u64, opened),
        (None, None) => Vec::new(),
    };
    let mut bad = Vec::new();
    for record in &records {
        let end = record.offset.saturating_add(record.entry.stored_length.into());
        let range =
            usize::try_from(record.offset).unwrap_or(usize::MAX)..usize::try_from(end).unwrap_or(usize::MAX);
        let checked = match bytes.get_mut(range) {
            Some(stored) => {
                check(run, record, |check| run.repo.decode_frame(record, stored, check).map(|_| ()))?
            }
            None => Err("it lies beyond the end of the pack".into()),
        };
        if let Err(what) = checked {
            bad.push((record.number, what));
        }
    }
    note(run, key, job.indexed.as_ref().map(|(row, _)| *row), wrong, &bad);
    Ok(())
}

/// Reads and checks one frame through `read`; returns what is wrong with it.
fn check(
    run: &Run<'_>,
    record: &FrameRecord,
    read: impl FnOnce(FrameCheck) -> Result<(), RepoError>,
) -> Result<Result<(), String>, RepoError> {
    match read(FrameCheck::Rehash) {
        Ok(()) => {
            add(&run.counts.frames, 1);
            add(&run.counts.chunks, record.entry.chunks.len() as u64);
            Ok(Ok(()))
        }
        Err(error) if error.is_damage() => Ok(Err(error_chain(&error))),
        Err(error) => Err(error),
    }
}

/// Notes what is wrong with a pack and with frames of it, as one record.
fn note(run: &Run<'_>, key: &ObjectKey, row: Option<PackRow>, mut wrong: Vec<String>, bad: &[(u32, String)]) {
    if let Some((number, what)) = bad.first() {
        let mut named: Vec<String> =
            bad.iter().take(FRAMES_NAMED).map(|(number, _)| number.to_string()).collect();
        if bad.len() > FRAMES_NAMED {
            named.push(format!("and {} more", bad.len() - FRAMES_NAMED));
        }
        match bad.len() {
            1 => wrong.push(format!("frame {number} cannot be read: {what}")),
            count => {
                wrong
                    .push(format!("{count} frames cannot be read ({}); the first: {what}", named.join(", ")));
            }
        }
    }
    if !wrong.is_empty() {
        let frames = bad.iter().filter_map(|(number, _)| row.map(|pack| FrameRef { pack, number: *number }));
        run.report.bad_frames(key.as_str(), wrong.join("; "), frames);
    }
}

fn is_as_indexed(opened: &OpenedPack, record: &PackRecord, records: &[FrameRecord]) -> bool {
    opened.header.kind == record.kind
        && opened.header.writer == record.writer
        && opened.header_hash == record.header_hash
        && opened.header_bytes as u64 == u64::from(record.header_bytes)
        && opened.directory.frames.iter().eq(records.iter().map(|record| &record.entry))
}

/// Describes the frames of a pack that no index object names (yet): what an interrupted session left.
fn records_of(id: PackId, bytes: u64, opened: OpenedPack) -> Vec<FrameRecord> {
    let record = PackRecord {
        id,
        kind: opened.header.kind,
        bytes,
        writer: opened.header.writer,
        header_hash: opened.header_hash,
        header_bytes: u32::try_from(opened.header_bytes).unwrap_or(u32::MAX),
        key: opened.key,
    };
    let mut offset = opened.header_bytes as u64;
    let describe = |(number, entry): (u32, FrameEntry)| {
        let start = offset;
        offset += u64::from(entry.stored_length);
        FrameRecord { pack: record.clone(), number, offset: start, entry }
    };
    (0..).zip(opened.directory.frames).map(describe).collect()
}

/// Whether the index still held all frames that were to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// All were read.
    All,
    /// Some lie elsewhere now: the index object that named them is gone.
    NotAll,
}

/// Reads these frames and no others, pack by pack in the order in which they lie.
pub(super) fn verify_frames(run: &Run<'_>, frames: &BTreeSet<FrameRef>) -> Result<Held, VerifyError> {
    let mut packs: BTreeMap<PackRow, Vec<u32>> = BTreeMap::new();
    for frame in frames {
        packs.entry(frame.pack).or_default().push(frame.number);
    }
    run.progress.event(Event::Found { files: packs.len() as u64, bytes: 0 });
    run.progress.event(Event::FoundAll);
    let has_lost = AtomicBool::new(false);
    parallel::for_each(run.threads, packs, |(row, numbers)| {
        let Some(pack) = run.repo.index().pack(row)? else {
            has_lost.store(true, Ordering::Relaxed);
            return Ok(());
        };
        add(&run.counts.packs, 1);
        let mut bad = Vec::new();
        for number in numbers {
            let Some(record) = run.repo.index().frame(FrameRef { pack: row, number })? else {
                has_lost.store(true, Ordering::Relaxed);
                continue;
            };
            add(&run.counts.bytes_read, record.entry.stored_length.into());
            if let Err(what) = check(run, &record, |check| run.repo.read_frame(&record, check).map(|_| ()))? {
                bad.push((number, what));
            }
        }
        note(run, &ObjectKey::pack(&pack.id), Some(row), Vec::new(), &bad);
        run.progress.event(Event::Done { files: 1, bytes: 0 });
        Ok(())
    })?;
    Ok(if has_lost.into_inner() { Held::NotAll } else { Held::All })
}
