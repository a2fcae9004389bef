//! Reading frames: from the store or from what was decoded lately, verified, each delta with its base.

use std::cell::RefCell;
use std::sync::Arc;

use super::RepoError;
use super::cache::DecodedCache;
use crate::crypto::hash::IdKeys;
use crate::crypto::secrets::WriterClass;
use crate::format::FormatError;
use crate::format::frame::{self, Encoding, FrameDecoder};
use crate::id::{ChunkId, FrameId};
use crate::index::{ChunkHome, FrameRecord, FrameRef, Index};
use crate::store::key::ObjectKey;
use crate::store::{ObjectStore, StoreErrorKind};

/// The plain bytes of a frame.
pub struct DecodedFrame {
    plain: Vec<u8>,
}

impl DecodedFrame {
    /// Returns the plain bytes of all its chunks, back to back.
    #[must_use]
    pub fn plain(&self) -> &[u8] {
        &self.plain
    }
}

/// How much of a frame is checked when it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameCheck {
    /// The seal; hashes too where the format demands it: delta frames, and frames of ingest-only writers.
    Seal,
    /// The seal and the hash of every chunk.
    Rehash,
}

/// Reads frames of one store. Readers and writing sessions share it with its cache; may be shared by threads.
pub struct FrameReader {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) index: Arc<Index>,
    pub(super) ids: IdKeys,
    pub(super) decoded: DecodedCache,
}

impl FrameReader {
    /// Returns a frame that the index knows, from the cache if it was decoded lately.
    ///
    /// # Errors
    /// [`RepoError::StaleIndex`] if its row is gone; else as [`Self::read_frame`].
    pub fn cached_frame(&self, frame: FrameRef) -> Result<Arc<DecodedFrame>, RepoError> {
        self.decoded.frame(frame, || {
            let record = self.index.frame(frame)?.ok_or(RepoError::StaleIndex)?;
            let decoded = self.read_frame(&record, FrameCheck::Seal)?;
            let mut offset = 0;
            for chunk in &record.entry.chunks {
                self.decoded.keep_home(chunk.id, ChunkHome { frame, offset, length: chunk.length });
                offset += chunk.length;
            }
            Ok(decoded)
        })
    }

    /// Reads and decodes a frame from the store, past the cache.
    ///
    /// # Errors
    /// [`RepoError::Damaged`] names the pack if the frame or its base is not what it should be.
    pub fn read_frame(&self, record: &FrameRecord, check: FrameCheck) -> Result<DecodedFrame, RepoError> {
        let key = ObjectKey::pack(&record.pack.id);
        let end = record.offset + u64::from(record.entry.stored_length);
        let mut stored =
            self.store.get(&key, Some(record.offset..end)).map_err(|error| match error.kind() {
                StoreErrorKind::Truncated => {
                    damaged_pack(&key, FormatError::malformed("a pack", "it is cut short"))
                }
                _ => RepoError::Store(error),
            })?;
        self.decode_frame(record, &mut stored, check)
    }

    /// Opens and decodes the stored bytes of a frame, which are overwritten.
    ///
    /// # Errors
    /// [`RepoError::Damaged`] names the pack if the frame or its base is not what it should be.
    pub fn decode_frame(
        &self,
        record: &FrameRecord,
        stored: &mut [u8],
        check: FrameCheck,
    ) -> Result<DecodedFrame, RepoError> {
        let key = ObjectKey::pack(&record.pack.id);
        let encoding = record.entry.encoding;
        let encoded =
            frame::open(&record.pack.key, &record.pack.header_hash, record.number, encoding, stored)
                .map_err(|error| damaged_pack(&key, error))?;
        let base = match encoding {
            Encoding::Delta { base } => Some(self.base_frame(&base)?),
            Encoding::Raw | Encoding::Zstd => None,
        };
        let base = base.as_deref().map(DecodedFrame::plain);
        let plain = decode(encoding, encoded, record.entry.plain_length(), base)
            .map_err(|error| damaged_pack(&key, error))?;
        if check == FrameCheck::Rehash
            || base.is_some()
            || record.pack.writer.class == WriterClass::IngestOnly
        {
            self.check_hashes(record, &plain)?;
        }
        Ok(DecodedFrame { plain })
    }

    fn base_frame(&self, id: &FrameId) -> Result<Arc<DecodedFrame>, RepoError> {
        let mut failure = RepoError::MissingBase(*id);
        for frame in self.index.frames_by_id(id)? {
            let is_base = self
                .index
                .frame(frame)?
                .is_some_and(|record| !matches!(record.entry.encoding, Encoding::Delta { .. }));
            if !is_base {
                continue;
            }
            match self.cached_frame(frame) {
                Ok(decoded) => return Ok(decoded),
                Err(error) => failure = weightier(failure, error),
            }
        }
        Err(failure)
    }

    fn check_hashes(&self, record: &FrameRecord, plain: &[u8]) -> Result<(), RepoError> {
        let mut rest = plain;
        for chunk in &record.entry.chunks {
            let Some((bytes, after)) = rest.split_at_checked(chunk.length as usize) else {
                return Err(damaged_chunk(&chunk.id));
            };
            if self.ids.chunk_id(chunk.kind, bytes) != chunk.id {
                return Err(damaged_chunk(&chunk.id));
            }
            rest = after;
        }
        Ok(())
    }
}

thread_local! {
    /// Decoding contexts are large and take longer to make than a small frame takes to decode.
    static DECODER: RefCell<Option<FrameDecoder>> = const { RefCell::new(None) };
}

fn decode(
    encoding: Encoding,
    encoded: &[u8],
    plain_length: usize,
    base: Option<&[u8]>,
) -> Result<Vec<u8>, FormatError> {
    DECODER.with_borrow_mut(|kept| {
        let mut decoder = kept.take().map_or_else(FrameDecoder::new, Ok)?;
        let plain = decoder.decode(encoding, encoded, plain_length, base);
        *kept = Some(decoder);
        plain
    })
}

/// Of two failures with homes of one chunk, returns the one to tell: a store that cannot be reached may hold the
/// chunk after all, and a pack that is gone asks for a fresh index, before damage is final.
pub(super) fn weightier(one: RepoError, other: RepoError) -> RepoError {
    let weight = |error: &RepoError| match error {
        RepoError::Store(error) if error.kind() != StoreErrorKind::NotFound => 4,
        RepoError::Index(_) => 3,
        RepoError::Store(_) | RepoError::StaleIndex => 2,
        RepoError::Damaged { .. } => 1,
        _ => 0,
    };
    if weight(&other) >= weight(&one) { other } else { one }
}

fn damaged_pack(key: &ObjectKey, source: FormatError) -> RepoError {
    RepoError::Damaged { object: key.to_string(), source: Some(source) }
}

pub(super) fn damaged_chunk(id: &ChunkId) -> RepoError {
    RepoError::Damaged {
        object: format!("chunk {id}"),
        source: Some(FormatError::malformed("a chunk", "its bytes do not have its hash")),
    }
}
