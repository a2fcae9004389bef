//! Reading chunks: through the index, the store and the frame cache, verified.

use std::ops::Deref;
use std::sync::Arc;

use super::feed::News;
use super::frames::{DecodedFrame, damaged_chunk, weightier};
use super::index_objects::Brought;
use super::{RepoError, Repository};
use crate::crypto::hash::ChunkKind;
use crate::id::{ChunkId, PackId};
use crate::index::{ChunkHome, FrameRef};
use crate::store::StoreErrorKind;

/// How often the index objects of the store are listed for a chunk that is nowhere, and how often where some were replaced
/// each time.
const LOOKS_MIN: u32 = 2;
const LOOKS_MAX: u32 = 10;

/// A verified chunk: a slice of a decoded frame, cheap to clone.
///
/// `start..end` lies inside the frame.
#[derive(Clone)]
pub struct Chunk {
    frame: Arc<DecodedFrame>,
    start: usize,
    end: usize,
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.frame.plain().get(self.start..self.end).unwrap_or_default()
    }
}

impl Repository {
    /// Returns the chunk, verified. Tries every home of it, and looks at the store's index objects again if its packs are
    /// gone.
    ///
    /// # Errors
    /// [`RepoError::MissingChunk`] if no pack holds it, [`RepoError::Damaged`] if none of them gives it whole.
    pub fn chunk(&self, kind: ChunkKind, id: &ChunkId) -> Result<Chunk, RepoError> {
        match self.chunk_from_homes(kind, id) {
            Err(error) if is_stale(&error) => self.chunk_that_moved(kind, id),
            Err(error) if self.mend(&error)? => self.chunk_from_homes(kind, id),
            other => other,
        }
    }

    /// Returns a chunk that is not where the index has it, once the index objects came that have it. The store is listed
    /// twice at least: a listing that runs while a collector replaces an index object may show neither the old one nor the
    /// new one, but the next listing shows the new one.
    fn chunk_that_moved(&self, kind: ChunkKind, id: &ChunkId) -> Result<Chunk, RepoError> {
        let mut looks = 0;
        let mut wait = self.feed.wait();
        loop {
            let is_last = match wait.news() {
                Ok(News::Came) => false,
                Ok(News::LookedThrough(brought)) => {
                    looks += 1;
                    looks >= LOOKS_MAX || (looks >= LOOKS_MIN && brought == Brought::All)
                }
                Err(error) if self.mend(&error)? => false,
                Err(error) => return Err(error),
            };
            match self.chunk_from_homes(kind, id) {
                Err(error) if is_stale(&error) && !is_last => {}
                Err(error) => {
                    // The index is as the store is, so that the pack is missing and has not moved.
                    self.frames.distrust(error.damaged_pack());
                    return Err(error);
                }
                found => return found,
            }
        }
    }

    /// Decodes the frames behind the one that holds a chunk, if that was decoded lately, so that they are kept: what was
    /// stored together is read together. Errors are left to who needs the frames.
    pub fn decode_behind(&self, id: &ChunkId, frames: u32) {
        let Some(home) = self.frames.decoded.home(id) else { return };
        for number in (1..=frames).filter_map(|step| home.frame.number.checked_add(step)) {
            if self.frames.cached_frame(FrameRef { number, ..home.frame }).is_err() {
                return;
            }
        }
    }

    /// Asks the index only for chunks whose frame was not decoded lately: small files lie next to each other.
    fn chunk_from_homes(&self, kind: ChunkKind, id: &ChunkId) -> Result<Chunk, RepoError> {
        // A place that is no longer right is looked up anew.
        if let Some(chunk) = self.frames.decoded.home(id).and_then(|home| self.chunk_at(kind, id, home).ok())
        {
            return Ok(chunk);
        }
        let mut failure = RepoError::MissingChunk(*id);
        for home in self.index.homes(id)? {
            match self.chunk_at(kind, id, home) {
                Ok(chunk) => return Ok(chunk),
                Err(error) => failure = weightier(failure, error),
            }
        }
        Err(failure)
    }

    fn chunk_at(&self, kind: ChunkKind, id: &ChunkId, home: ChunkHome) -> Result<Chunk, RepoError> {
        let frame = self.frames.cached_frame(home.frame).inspect_err(|error| {
            // A pack that is gone may have moved, and nobody distrusts it for that.
            if let RepoError::Damaged { .. } = error {
                self.frames.suspect(error.damaged_pack().or_else(|| self.pack_of(home)));
            }
        })?;
        let start = home.offset as usize;
        let end = start + home.length as usize;
        // Metadata is small and leads everywhere, so it is hashed each time, which also finds a damaged index.
        let sound = frame
            .plain()
            .get(start..end)
            .is_some_and(|plain| kind == ChunkKind::Data || self.keys.ids().chunk_id(kind, plain) == *id);
        if sound { Ok(Chunk { frame, start, end }) } else { Err(damaged_chunk(id)) }
    }

    fn pack_of(&self, home: ChunkHome) -> Option<PackId> {
        Some(self.index.pack(home.frame.pack).ok()??.id)
    }
}

/// Tells whether an error may only mean that the index is behind the store: a chunk that it does not know, a pack
/// that is gone, or a row that went meanwhile.
fn is_stale(error: &RepoError) -> bool {
    match error {
        RepoError::MissingChunk(_) | RepoError::MissingBase(_) | RepoError::StaleIndex => true,
        RepoError::Store(error) => error.kind() == StoreErrorKind::NotFound,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
