//! Finding bases: stored frames that a new frame resembles, for deltas.

use std::sync::Arc;

use super::trail::{Place, Step};
use super::{RepoError, Shared, lock};
use crate::format::frame::{DeltaBase, Encoding, FRAME_MAX_BYTES, Features};
use crate::id::FrameId;
use crate::index::{FrameRecord, FrameRef};
use crate::repo::frames::DecodedFrame;

/// Most deltas in a chain that sessions write. Each makes reading a little slower, and without any a series of nights
/// takes ever more until it begins anew.
pub(super) const CHAIN_WRITTEN: u8 = 3;

/// Frames that may serve as the base of a new one.
pub(super) struct Candidate {
    /// One, or two neighbours.
    frames: Vec<(FrameRef, FrameRecord)>,
    /// The longest chain of deltas that ends in one of them.
    pub(super) deltas: u8,
    /// What the frames at the beginning of their chains take, and their plain bytes.
    root_bytes: (u64, u64),
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
            several => several.iter().flat_map(|frame| frame.plain()).copied().collect(),
        }
    }
}

/// Where frames of stored chains begin; kept for each frame that was looked at.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lineage {
    /// Deltas on the way to it.
    deltas: u8,
    root_stored_bytes: u64,
    root_plain_bytes: u64,
}

/// Returns what may serve as a base of a frame of `bytes` plain bytes, the most promising first: stored frames with
/// features of its own, or where there are none, what follows the base of the frame before it in the stream.
pub(super) fn find(
    shared: &Shared,
    features: &Features,
    bytes: u64,
    step: &mut Step<'_>,
) -> Result<Vec<Candidate>, RepoError> {
    let mut found = Vec::new();
    for similar in shared.index.similar_frames(features)? {
        found.extend(candidate(shared, &[similar.frame])?);
    }
    if let Some((frame, record)) = found.first().and_then(|best: &Candidate| best.frames.first()) {
        step.found(Place::behind(*frame, record, bytes));
    } else {
        let guessed = step.guess(shared, bytes)?;
        found.extend(candidate(shared, &guessed)?);
    }
    Ok(found)
}

/// Looks at frames that may serve as a base together; nothing if they cannot.
fn candidate(shared: &Shared, frames: &[FrameRef]) -> Result<Option<Candidate>, RepoError> {
    let mut candidate = Candidate { frames: Vec::new(), deltas: 0, root_bytes: (0, 0) };
    for frame in frames {
        let Some(record) = shared.index.frame(*frame)? else { return Ok(None) };
        let lineage = lineage(shared, *frame, &record, 0)?;
        if !shared.is_trusted(frame.pack)? || lineage.deltas >= CHAIN_WRITTEN {
            return Ok(None);
        }
        candidate.deltas = candidate.deltas.max(lineage.deltas);
        candidate.root_bytes.0 += lineage.root_stored_bytes;
        candidate.root_bytes.1 += lineage.root_plain_bytes;
        candidate.frames.push((*frame, record));
    }
    Ok((!candidate.frames.is_empty()).then_some(candidate))
}

impl Candidate {
    /// Estimates what `plain_bytes` that resemble these frames would take alone.
    pub(super) fn estimate_alone(&self, plain_bytes: u64) -> u64 {
        let (stored, plain) = self.root_bytes;
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
        if frames.iter().map(|frame| frame.plain().len()).sum::<usize>() > FRAME_MAX_BYTES {
            return Ok(None);
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

/// Follows the bases of a frame down to those that are no deltas.
fn lineage(shared: &Shared, frame: FrameRef, record: &FrameRecord, above: u8) -> Result<Lineage, RepoError> {
    if let Some(known) = lock(&shared.lineages).get(&frame) {
        return Ok(*known);
    }
    let mut lineage = Lineage {
        deltas: 0,
        root_stored_bytes: record.entry.stored_length.into(),
        root_plain_bytes: record.entry.plain_length() as u64,
    };
    if let Encoding::Delta { base } = record.entry.encoding {
        lineage = Lineage { deltas: 1, ..Lineage::default() };
        for id in base.frames() {
            let below = base_lineage(shared, &id, above)?;
            lineage.deltas = lineage.deltas.max(below.deltas.saturating_add(1));
            lineage.root_stored_bytes += below.root_stored_bytes;
            lineage.root_plain_bytes += below.root_plain_bytes;
        }
    }
    lock(&shared.lineages).insert(frame, lineage);
    Ok(lineage)
}

/// Returns the longest lineage of the frames of an id; one that is too long for a base where there is none.
fn base_lineage(shared: &Shared, id: &FrameId, above: u8) -> Result<Lineage, RepoError> {
    let endless = Lineage { deltas: u8::MAX, ..Lineage::default() };
    if above >= CHAIN_WRITTEN {
        return Ok(endless);
    }
    let mut longest: Option<Lineage> = None;
    for frame in shared.index.frames_by_id(id)? {
        let Some(record) = shared.index.frame(frame)? else { continue };
        let found = lineage(shared, frame, &record, above + 1)?;
        if longest.is_none_or(|longest| found.deltas > longest.deltas) {
            longest = Some(found);
        }
    }
    Ok(longest.unwrap_or(endless))
}

fn frame_id(shared: &Shared, record: &FrameRecord) -> FrameId {
    shared.keys.ids().frame_id(record.entry.chunks.iter().map(|chunk| (chunk.id, chunk.length)))
}
