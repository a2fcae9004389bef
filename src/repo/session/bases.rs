//! Finding bases: stored frames that a new frame resembles, for deltas.

use std::sync::Arc;

use super::trail::{Place, Step};
use super::{RepoError, Shared, lock};
use crate::format::frame::{DELTA_CHAIN_MAX, DeltaBase, Encoding, FRAME_MAX_BYTES, Features};
use crate::id::FrameId;
use crate::index::{FrameRecord, FrameRef, NeighbourHome};
use crate::repo::frames::DecodedFrame;

/// Most deltas in a chain that sessions write. Each makes reading a little slower.
const CHAIN_WRITTEN: u8 = 5;

/// A delta to a frame that is none takes at most this part of what that frame takes.
const BOTTOM_DIVISOR: u64 = 2;

/// A delta to a delta takes at most so many times what that takes. Where the changes since have grown to more, they are
/// compared with what lies below it, and become a better base for the nights to come.
const LINK_FACTOR: u64 = 2;

/// Lineages that are kept. One takes 100 bytes.
const LINEAGES_KEPT: usize = 1 << 16;

/// Frames that a new one resembles, and below them their own bases, down to those that are no deltas.
pub(super) type Ladder = Vec<Candidate>;

/// Frames that may serve as the base of a new one.
pub(super) struct Candidate {
    /// One, or two neighbours.
    frames: Vec<(FrameRef, FrameRecord)>,
    lineage: Lineage,
}

/// A base that was read.
pub(super) struct Base {
    pub(super) ids: DeltaBase,
    frames: Vec<Arc<DecodedFrame>>,
}

impl Base {
    /// Returns the plain bytes.
    pub(super) fn plain(&self) -> std::borrow::Cow<'_, [u8]> {
        match self.frames.as_slice() {
            [one] => one.plain().into(),
            several => several.iter().map(|frame| frame.plain()).collect::<Vec<_>>().concat().into(),
        }
    }
}

/// What a stored frame, or neighbours together, stand on; kept for each frame that was looked at.
#[derive(Debug, Clone, Default)]
pub(super) struct Lineage {
    /// Deltas on the way to the beginning, the frame included.
    deltas: u8,
    /// What the frames at the beginning take, and their plain bytes.
    bottom_stored_bytes: u64,
    bottom_plain_bytes: u64,
    /// Whether anything of it lies in a distant store alone.
    is_distant: bool,
    /// The bases.
    below: Vec<FrameRef>,
}

impl Lineage {
    /// Returns how many deltas there are on the way to the beginning.
    pub(super) fn deltas(&self) -> u8 {
        self.deltas
    }

    /// Adds the lineage of a neighbour, or of one of two bases.
    fn join(&mut self, other: &Self) {
        self.deltas = self.deltas.max(other.deltas);
        self.bottom_stored_bytes += other.bottom_stored_bytes;
        self.bottom_plain_bytes += other.bottom_plain_bytes;
        self.is_distant |= other.is_distant;
    }
}

/// Returns what a frame of `bytes` plain bytes may be compared with, the most promising first: stored frames with
/// features of its own, or where there are none, what follows the base of the frame before it in the stream.
pub(super) fn find(
    shared: &Shared,
    features: &Features,
    bytes: u64,
    step: &mut Step<'_>,
) -> Result<Vec<Ladder>, RepoError> {
    let mut ladders = Vec::new();
    for similar in shared.index.similar_frames(features)? {
        ladders.push(ladder(shared, vec![similar.frame])?);
    }
    ladders.retain(|ladder| !ladder.is_empty());
    if let Some((frame, record)) = ladders.first().and_then(|best| best.first()?.frames.first()) {
        step.found(Place::behind(*frame, record, bytes));
    } else {
        let guessed = step.guess(shared, bytes)?;
        ladders.extend(Some(ladder(shared, guessed)?).filter(|ladder| !ladder.is_empty()));
    }
    Ok(ladders)
}

/// Returns frames and what they stand on, as far as all of it may be used.
fn ladder(shared: &Shared, top: Vec<FrameRef>) -> Result<Ladder, RepoError> {
    let (mut ladder, mut frames) = (Ladder::new(), top);
    while let Some(candidate) = candidate(shared, &frames)? {
        frames = neighbours(&candidate.lineage.below);
        ladder.push(candidate);
        if ladder.len() > DELTA_CHAIN_MAX.into() {
            break;
        }
    }
    Ok(ladder)
}

/// Returns the bases of two neighbours, of which two make a base again.
fn neighbours(below: &[FrameRef]) -> Vec<FrameRef> {
    let mut frames = below.to_vec();
    frames.sort_unstable();
    frames.dedup();
    frames.truncate(2);
    frames
}

/// Looks at frames that may serve as a base together; nothing if there are none or they cannot.
fn candidate(shared: &Shared, frames: &[FrameRef]) -> Result<Option<Candidate>, RepoError> {
    let mut candidate = Candidate { frames: Vec::new(), lineage: Lineage::default() };
    for frame in frames {
        let Some(record) = shared.index.frame(*frame)? else { return Ok(None) };
        if !shared.is_trusted(frame.pack)? {
            return Ok(None);
        }
        let lineage = lineage(shared, *frame, &record, 0)?;
        if lineage.is_distant {
            return Ok(None);
        }
        candidate.lineage.join(&lineage);
        candidate.lineage.below.extend(lineage.below);
        candidate.frames.push((*frame, record));
    }
    let plain_bytes = candidate.frames.iter().map(|(_, record)| record.entry.plain_length()).sum::<usize>();
    Ok((1..=FRAME_MAX_BYTES).contains(&plain_bytes).then_some(candidate))
}

impl Candidate {
    /// Returns how many bytes a delta to these frames may take for `plain_bytes`; none at the end of a chain.
    pub(super) fn delta_bytes_max(&self, plain_bytes: u64) -> u64 {
        let sum = |of: fn(&FrameRecord) -> u64| self.frames.iter().map(|(_, record)| of(record)).sum::<u64>();
        let stored = sum(|record| record.entry.stored_length.into());
        let plain = sum(|record| record.entry.plain_length() as u64);
        let as_theirs = stored.saturating_mul(plain_bytes).checked_div(plain).unwrap_or(0);
        let max_bytes = match self.lineage.deltas {
            0 => as_theirs / BOTTOM_DIVISOR,
            deltas if deltas < CHAIN_WRITTEN => as_theirs.saturating_mul(LINK_FACTOR),
            _ => 0,
        };
        // A delta that is no shorter than what it stands for is none that readers take.
        max_bytes.min(self.estimate_alone(plain_bytes)).min(plain_bytes.saturating_sub(1))
    }

    /// Estimates what `plain_bytes` that resemble these frames would take alone.
    pub(super) fn estimate_alone(&self, plain_bytes: u64) -> u64 {
        let Lineage { bottom_stored_bytes: stored, bottom_plain_bytes: plain, .. } = self.lineage;
        stored.saturating_mul(plain_bytes).checked_div(plain).unwrap_or(plain_bytes)
    }

    /// Reads the frames; nothing if that fails. An old backup that is damaged is no reason to go without a new one:
    /// `verify` tells of it.
    pub(super) fn read(&self, shared: &Shared) -> Result<Option<Base>, RepoError> {
        let mut frames = Vec::new();
        for (frame, record) in &self.frames {
            match shared.frames.cached_frame(*frame) {
                Ok(decoded) => frames.push(decoded),
                Err(error @ RepoError::Index(_)) => return Err(error),
                Err(error) => {
                    tracing::debug!("a frame of pack {} is no base for a delta: {error}", record.pack.id);
                    return Ok(None);
                }
            }
        }
        let mut ids = self.frames.iter().map(|(_, record)| frame_id(shared, record));
        let ids = match (ids.next(), ids.next()) {
            (Some(first), Some(second)) => DeltaBase::pair(first, second),
            (Some(only), None) => only.into(),
            (None, _) => return Ok(None),
        };
        Ok(Some(Base { ids, frames }))
    }
}

/// Tells whether all that a home of a chunk stands on may be relied on.
pub(super) fn stands(shared: &Shared, home: &NeighbourHome) -> Result<bool, RepoError> {
    if !home.is_delta {
        return Ok(true);
    }
    let Some(record) = shared.index.frame(home.frame)? else { return Ok(false) };
    Ok(lineage(shared, home.frame, &record, 0)?.deltas <= DELTA_CHAIN_MAX)
}

/// Follows the bases of a frame down to those that are no deltas.
fn lineage(shared: &Shared, frame: FrameRef, record: &FrameRecord, above: u8) -> Result<Lineage, RepoError> {
    if let Some(known) = lock(&shared.lineages).get(&frame) {
        return Ok(known.clone());
    }
    let is_distant = shared.is_distant(frame.pack, &record.pack.id);
    let mut lineage = Lineage { is_distant, ..Lineage::default() };
    if let Encoding::Delta { base } = record.entry.encoding {
        for id in base.frames() {
            let (frame, below) = base_lineage(shared, &id, above)?;
            lineage.join(&below);
            lineage.below.extend(frame);
        }
        lineage.deltas = lineage.deltas.saturating_add(1);
    } else {
        lineage.bottom_stored_bytes = record.entry.stored_length.into();
        lineage.bottom_plain_bytes = record.entry.plain_length() as u64;
    }
    // What was too long only because of what lies above may do by itself.
    if above == 0 || lineage.deltas < DELTA_CHAIN_MAX {
        let mut lineages = lock(&shared.lineages);
        if lineages.len() >= LINEAGES_KEPT {
            lineages.clear();
        }
        lineages.insert(frame, lineage.clone());
    }
    Ok(lineage)
}

/// Returns, of the frames of an id that may be relied on, the one with the longest lineage; a lineage too long for a base if there is none.
pub(super) fn base_lineage(
    shared: &Shared,
    id: &FrameId,
    above: u8,
) -> Result<(Option<FrameRef>, Lineage), RepoError> {
    let endless = Lineage { deltas: u8::MAX, ..Lineage::default() };
    if above >= DELTA_CHAIN_MAX {
        return Ok((None, endless));
    }
    let mut longest: Option<(FrameRef, Lineage)> = None;
    for frame in shared.index.frames_by_id(id)? {
        if !shared.is_trusted(frame.pack)? {
            continue;
        }
        let Some(record) = shared.index.frame(frame)? else { continue };
        let found = lineage(shared, frame, &record, above + 1)?;
        if longest.as_ref().is_none_or(|(_, longest)| found.deltas > longest.deltas) {
            longest = Some((frame, found));
        }
    }
    Ok(longest.map_or((None, endless), |(frame, lineage)| (Some(frame), lineage)))
}

fn frame_id(shared: &Shared, record: &FrameRecord) -> FrameId {
    shared.keys.ids().frame_id(record.entry.chunks.iter().map(|chunk| (chunk.id, chunk.length)))
}
