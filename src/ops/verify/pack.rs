//! Verifies one pack: that it is what its name says, and that every frame and chunk in it is whole.
//!
//! It is read in order and by pieces, so that no more than a piece and a frame of it is in memory.

use std::ops::Range;

use super::packs::PackJob;
use super::{Run, add, dead_packs};
use crate::format::FormatError;
use crate::format::frame::{Encoding, FrameEntry};
use crate::format::pack::{self, OpenedPack, PACK_MAX_BYTES};
use crate::id::PackId;
use crate::index::{FrameRecord, FrameRef, PackRecord, PackRow};
use crate::progress::{Event, error_chain};
use crate::repo::RepoError;
use crate::repo::frames::FrameCheck;
use crate::store::StoreErrorKind;
use crate::store::key::ObjectKey;

/// Most frames of a pack that a message names.
const FRAMES_NAMED: usize = 8;

/// Bytes that are read at a time.
const PIECE_BYTES: u64 = 4 << 20;

/// Verifies a pack, and remembers whether it is whole.
pub(super) fn verify_pack(run: &Run<'_>, job: &PackJob) -> Result<(), RepoError> {
    let verified = verify_listed(run, job);
    match verified {
        Ok(Noted::Nothing) => {
            run.times.found_whole(job.id);
            run.trust(job.id);
        }
        Ok(Noted::Damage) => {
            run.times.found_suspect(job.id);
            run.distrust(job.id);
        }
        Err(_) => run.times.found_suspect(job.id),
    }
    verified?;
    run.progress.event(Event::Done { files: 1, bytes: job.listed_bytes.unwrap_or(0) });
    Ok(())
}

/// Verifies a pack as far as the lists let it be read.
fn verify_listed(run: &Run<'_>, job: &PackJob) -> Result<Noted, RepoError> {
    let key = ObjectKey::pack(&job.id);
    match job.listed_bytes {
        // An index object may name it still, put by a session that was fenced meanwhile; the next collection replaces that.
        None if run.dead.contains(&job.id) => leave(run, &key, job),
        None => lose(run, &key, job, "it is missing from the store".into()),
        Some(listed) if listed > PACK_MAX_BYTES => {
            lose(run, &key, job, format!("it is {listed} bytes long, more than a pack can be"))
        }
        Some(listed) => {
            add(&run.counts.packs, 1);
            verify_bytes(run, &key, job, listed)
        }
    }
}

/// Notes that a pack was collected as garbage, which is damage only if anything needs it.
fn leave(run: &Run<'_>, key: &ObjectKey, job: &PackJob) -> Result<Noted, RepoError> {
    run.report.left_frames(key.as_str(), "it was collected as garbage", frames_of(run, job)?);
    Ok(Noted::Nothing)
}

/// Notes that nothing of a pack can be read.
fn lose(run: &Run<'_>, key: &ObjectKey, job: &PackJob, what: String) -> Result<Noted, RepoError> {
    run.report.bad_frames(key.as_str(), what, frames_of(run, job)?);
    Ok(Noted::Damage)
}

/// Returns the frames of a pack as far as the index knows them.
fn frames_of(run: &Run<'_>, job: &PackJob) -> Result<Vec<FrameRef>, RepoError> {
    let Some((row, _)) = &job.indexed else { return Ok(Vec::new()) };
    let frames = run.repo.index().frames_of(*row)?;
    Ok(frames.iter().map(|record| FrameRef { pack: *row, number: record.number }).collect())
}

/// Verifies a pack's bytes. What a network may have damaged on the way is read once more before anybody hears of it.
fn verify_bytes(run: &Run<'_>, key: &ObjectKey, job: &PackJob, length: u64) -> Result<Noted, RepoError> {
    let mut findings = read_bytes(run, key, job, length)?;
    if !findings.is_whole() && run.repo.store().traffic().is_some() {
        run.repo.store().forget(key);
        findings = read_bytes(run, key, job, length)?;
    }
    match findings {
        Findings::Read { wrong, bad } => {
            Ok(note(run, key, job.indexed.as_ref().map(|(row, _)| *row), wrong, &bad))
        }
        Findings::Unreadable(wrong) => lose(run, key, job, wrong.join("; ")),
        Findings::Collected => leave(run, key, job),
    }
}

/// What reading a pack from end to end gave.
enum Findings {
    /// What is wrong with the pack, and the frames that are bad.
    Read { wrong: Vec<String>, bad: Vec<BadFrame> },
    /// Nothing of it can be read, and why.
    Unreadable(Vec<String>),
    /// It was collected since it was listed.
    Collected,
}

impl Findings {
    fn is_whole(&self) -> bool {
        match self {
            Self::Read { wrong, bad } => wrong.is_empty() && bad.is_empty(),
            Self::Unreadable(_) => false,
            Self::Collected => true,
        }
    }
}

/// Reads a pack and checks it. Where the pack as such is not what it should be, its frames are still tried one by one:
/// their own seals tell which of them are good.
fn read_bytes(run: &Run<'_>, key: &ObjectKey, job: &PackJob, length: u64) -> Result<Findings, RepoError> {
    let mut stream =
        PackStream { run, key, length, window: Vec::new(), start: 0, hasher: blake3::Hasher::new() };
    let mut wrong = Vec::new();
    let indexed = match &job.indexed {
        Some((row, record)) => {
            if record.bytes != length {
                wrong.push(format!("it is {length} bytes long, but was {}", record.bytes));
            }
            Some((record, run.repo.index().frames_of(*row)?))
        }
        None => None,
    };
    // Rows go with an index object that was superseded meanwhile; then the pack's own directory is all there is.
    let checked = match indexed.filter(|(_, records)| !records.is_empty()) {
        Some((record, records)) => verify_indexed(&mut stream, record, &records, &mut wrong),
        None => verify_unknown(&mut stream, job.id, &mut wrong),
    };
    match checked {
        Ok(bad) => Ok(Findings::Read { wrong, bad }),
        Err(RepoError::Store(error))
            if error.kind() == StoreErrorKind::NotFound && dead_packs(run.repo).contains(&job.id) =>
        {
            Ok(Findings::Collected)
        }
        Err(error) if error.is_damage() => {
            wrong.push(error_chain(&error));
            Ok(Findings::Unreadable(wrong))
        }
        Err(error) => Err(error),
    }
}

/// Verifies a pack of which the index knows the frames; returns those that are bad.
fn verify_indexed(
    stream: &mut PackStream<'_>,
    record: &PackRecord,
    records: &[FrameRecord],
    wrong: &mut Vec<String>,
) -> Result<Vec<BadFrame>, RepoError> {
    let beginning = stream.bytes(0..record.header_bytes.into())?.map(|bytes| bytes.to_vec());
    let bad = stream.check_frames(records)?;
    let end_of_frames =
        records.last().map_or(0, |last| last.offset.saturating_add(last.entry.stored_length.into()));
    stream.read_to_end(end_of_frames)?;
    if stream.hash() != record.id {
        wrong.push("its bytes do not have its hash".into());
        return Ok(bad);
    }
    let (keys, length) = (stream.run.repo.keys(), stream.length);
    let end = stream.bytes(end_of_frames..length)?;
    match pack::open_parts(keys, &beginning.unwrap_or_default(), end.unwrap_or_default(), length) {
        Ok(opened) if is_as_indexed(&opened, record, records) => {}
        Ok(_) => wrong.push("its directory is not what the index says".into()),
        Err(error) => wrong.push(error_chain(&error)),
    }
    Ok(bad)
}

/// Verifies a pack of which nothing but its own directory tells what is in it; returns the frames that are bad.
/// There are few such packs, and all of one is read before its first frame is looked at.
fn verify_unknown(
    stream: &mut PackStream<'_>,
    id: PackId,
    wrong: &mut Vec<String>,
) -> Result<Vec<BadFrame>, RepoError> {
    stream.read_to_end(0)?;
    if stream.hash() != id {
        wrong.push("its bytes do not have its hash".into());
        return Ok(Vec::new());
    }
    match pack::open_pack(stream.run.repo.keys(), &stream.window) {
        Ok(opened) => stream.check_frames(&records_of(id, stream.length, opened)),
        Err(error) => {
            wrong.push(error_chain(&error));
            Ok(Vec::new())
        }
    }
}

/// The bytes of a pack, read in order.
struct PackStream<'a> {
    run: &'a Run<'a>,
    key: &'a ObjectKey,
    length: u64,
    /// What was read last.
    window: Vec<u8>,
    /// Where the window begins in the pack.
    start: u64,
    hasher: blake3::Hasher,
}

impl PackStream<'_> {
    /// Returns bytes of the pack, and reads on to them; nothing if they are not in it, or lie so far back that they
    /// were let go.
    fn bytes(&mut self, range: Range<u64>) -> Result<Option<&mut [u8]>, RepoError> {
        if range.start < self.start || range.start > range.end || range.end > self.length {
            return Ok(None);
        }
        while self.reached() < range.end {
            self.read_piece(range.start)?;
        }
        let place = |offset: u64| usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        let (from, to) = (place(range.start), place(range.end));
        Ok(self.window.get_mut(from..to))
    }

    /// Reads what was not read yet, and keeps what lies at `keep_from` and behind it.
    fn read_to_end(&mut self, keep_from: u64) -> Result<(), RepoError> {
        while self.reached() < self.length {
            self.read_piece(keep_from)?;
        }
        Ok(())
    }

    fn reached(&self) -> u64 {
        self.start + self.window.len() as u64
    }

    fn read_piece(&mut self, keep_from: u64) -> Result<(), RepoError> {
        let reached = self.reached();
        let done = usize::try_from(keep_from.min(reached).saturating_sub(self.start)).unwrap_or(usize::MAX);
        self.window.drain(..done.min(self.window.len()));
        self.start = reached - self.window.len() as u64;
        let end = reached.saturating_add(PIECE_BYTES).min(self.length);
        let piece = self.run.repo.store().get(self.key, Some(reached..end))?;
        if piece.len() as u64 != end - reached {
            let source = Some(FormatError::malformed("a pack", "it is cut short"));
            return Err(RepoError::Damaged { object: self.key.to_string(), source });
        }
        add(&self.run.counts.bytes_read, piece.len() as u64);
        self.hasher.update(&piece);
        self.window.extend_from_slice(&piece);
        Ok(())
    }

    fn hash(&self) -> PackId {
        PackId::from_bytes(*self.hasher.finalize().as_bytes())
    }

    /// Checks frames in the order in which they lie; returns those that are bad.
    fn check_frames(&mut self, records: &[FrameRecord]) -> Result<Vec<BadFrame>, RepoError> {
        let run = self.run;
        let mut bad = Vec::new();
        for record in records {
            let end = record.offset.saturating_add(record.entry.stored_length.into());
            let checked = match self.bytes(record.offset..end)? {
                Some(stored) => check(run, record, |check| {
                    run.repo.frames().decode_frame(record, stored, check).map(|_| ())
                })?,
                None => Some(BadFrame {
                    number: record.number,
                    what: "it lies beyond the end of the pack".into(),
                    is_left: false,
                }),
            };
            bad.extend(checked);
        }
        Ok(bad)
    }
}

/// A frame that cannot be read.
pub(super) struct BadFrame {
    number: u32,
    what: String,
    /// Whether it stands on what is gone, and so is damage only if anything needs it: a collection takes what a delta
    /// stands on, once nobody needs the delta, and leaves the delta itself where its pack is worth keeping.
    is_left: bool,
}

/// Reads and checks one frame through `read`; returns what is wrong with it.
pub(super) fn check(
    run: &Run<'_>,
    record: &FrameRecord,
    read: impl FnOnce(FrameCheck) -> Result<(), RepoError>,
) -> Result<Option<BadFrame>, RepoError> {
    match read(FrameCheck::Rehash) {
        Ok(()) => {
            add(&run.counts.frames, 1);
            add(&run.counts.chunks, record.entry.chunks.len() as u64);
            Ok(None)
        }
        Err(error) if error.is_damage() => {
            let is_delta = matches!(record.entry.encoding, Encoding::Delta { .. });
            let is_left = match &error {
                RepoError::MissingBase(_) => true,
                // A pack that is gone is told by itself.
                RepoError::Store(error) => is_delta && error.kind() == StoreErrorKind::NotFound,
                _ => false,
            };
            Ok(Some(BadFrame { number: record.number, what: error_chain(&error), is_left }))
        }
        Err(error) => Err(error),
    }
}

/// What [`note`] had to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    Damage,
    Nothing,
}

/// Notes what is wrong with a pack and with frames of it, as one record.
pub(super) fn note(
    run: &Run<'_>,
    key: &ObjectKey,
    row: Option<PackRow>,
    mut wrong: Vec<String>,
    bad: &[BadFrame],
) -> Noted {
    let (left, damaged): (Vec<_>, Vec<_>) = bad.iter().partition(|frame| frame.is_left);
    let frames = |bad: &[&BadFrame]| -> Vec<FrameRef> {
        let frames = bad.iter().filter_map(|frame| row.map(|pack| FrameRef { pack, number: frame.number }));
        frames.collect()
    };
    if let Some(what) = describe(&left) {
        run.report.left_frames(key.as_str(), what, frames(&left));
    }
    wrong.extend(describe(&damaged));
    if wrong.is_empty() {
        return Noted::Nothing;
    }
    run.report.bad_frames(key.as_str(), wrong.join("; "), frames(&damaged));
    Noted::Damage
}

/// Describes frames of a pack that cannot be read; nothing if there are none.
fn describe(bad: &[&BadFrame]) -> Option<String> {
    let BadFrame { number, what, .. } = bad.first()?;
    let mut named: Vec<String> =
        bad.iter().take(FRAMES_NAMED).map(|frame| frame.number.to_string()).collect();
    if bad.len() > FRAMES_NAMED {
        named.push(format!("and {} more", bad.len() - FRAMES_NAMED));
    }
    Some(match bad.len() {
        1 => format!("frame {number} cannot be read: {what}"),
        count => format!("{count} frames cannot be read ({}); the first: {what}", named.join(", ")),
    })
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
        key: Some(opened.key),
    };
    let mut offset = opened.header_bytes as u64;
    let describe = |(number, entry): (u32, FrameEntry)| {
        let start = offset;
        offset += u64::from(entry.stored_length);
        FrameRecord { pack: record.clone(), number, offset: start, entry }
    };
    (0..).zip(opened.directory.frames).map(describe).collect()
}
