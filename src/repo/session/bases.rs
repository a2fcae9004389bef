//! Finding bases: stored frames that a new frame resembles, for deltas.

use std::sync::Arc;

use super::{RepoError, Shared};
use crate::format::frame::Features;
use crate::id::FrameId;
use crate::index::{FrameRecord, SimilarFrame};
use crate::repo::frames::DecodedFrame;

/// A stored frame against which a new one may be encoded.
pub(super) struct Base {
    pub(super) id: FrameId,
    pub(super) frame: Arc<DecodedFrame>,
    /// What it takes in its pack.
    pub(super) stored_bytes: u64,
}

impl Base {
    /// Estimates what `plain_bytes` that resemble the base would take alone.
    pub(super) fn estimate_alone(&self, plain_bytes: u64) -> u64 {
        let base_bytes = self.frame.plain().len() as u64;
        (self.stored_bytes * plain_bytes).checked_div(base_bytes).unwrap_or(plain_bytes)
    }
}

/// Returns the stored frame that resembles one of these features most, whole and decoded; nothing where there is none.
///
/// A candidate that cannot be read is no reason to go without a backup: it is passed over, and `verify` tells of it.
pub(super) fn find(shared: &Shared, features: &Features) -> Result<Option<Base>, RepoError> {
    for similar in shared.index.similar_frames(features)? {
        if let Some(base) = open(shared, &similar)? {
            return Ok(Some(base));
        }
    }
    Ok(None)
}

fn open(shared: &Shared, similar: &SimilarFrame) -> Result<Option<Base>, RepoError> {
    if !shared.is_trusted(similar.frame.pack)? {
        return Ok(None);
    }
    let Some(record) = shared.index.frame(similar.frame)? else { return Ok(None) };
    match shared.frames.cached_frame(similar.frame) {
        Ok(frame) => {
            let stored_bytes = record.entry.stored_length.into();
            Ok(Some(Base { id: frame_id(shared, &record), frame, stored_bytes }))
        }
        Err(error @ RepoError::Index(_)) => Err(error),
        Err(error) => {
            tracing::debug!("a frame of pack {} is no base for a delta: {error}", record.pack.id);
            Ok(None)
        }
    }
}

fn frame_id(shared: &Shared, record: &FrameRecord) -> FrameId {
    shared.keys.ids().frame_id(record.entry.chunks.iter().map(|chunk| (chunk.id, chunk.length)))
}
