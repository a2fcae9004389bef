//! Reading frames: from the store or from what was decoded lately, verified, each delta with its base.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::RepoError;
use super::base_cache::BaseCache;
use super::buffers::Buffers;
use super::cache::DecodedCache;
use super::whole;
use crate::crypto::hash::IdKeys;
use crate::crypto::secrets::WriterClass;
use crate::format::FormatError;
use crate::format::frame::{self, DELTA_CHAIN_MAX, Encoding, FRAME_MAX_BYTES, FrameDecoder};
use crate::id::{ChunkId, FrameId, PackId};
use crate::index::{ChunkHome, FrameRecord, FrameRef, Index};
use crate::store::key::ObjectKey;
use crate::store::{ObjectStore, StoreErrorKind};

/// The plain bytes of a frame.
pub struct DecodedFrame {
    plain: Vec<u8>,
    /// Deltas of its chain, itself included.
    deltas: u8,
    /// Where the buffer of its bytes goes to at the end.
    buffers: Arc<Buffers>,
}

impl Drop for DecodedFrame {
    fn drop(&mut self) {
        self.buffers.give(std::mem::take(&mut self.plain));
    }
}

impl DecodedFrame {
    pub(super) fn new(plain: Vec<u8>, deltas: u8, buffers: &Arc<Buffers>) -> Self {
        Self { plain, deltas, buffers: Arc::clone(buffers) }
    }

    /// Returns the plain bytes of all its chunks, back to back.
    #[must_use]
    pub fn plain(&self) -> &[u8] {
        &self.plain
    }

    /// Returns what its buffer takes.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.plain.capacity() as u64
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
    pub(super) buffers: Arc<Buffers>,
    /// Copies of packs that this host wrote lately, where the store is far away.
    pub(super) bases: Option<BaseCache>,
    /// Packs that were looked at since a frame of them could not be read.
    pub(super) suspects: Mutex<HashSet<PackId>>,
}

impl FrameReader {
    /// Returns a frame that the index knows, from the cache if it was decoded lately, or from a local copy of its pack.
    ///
    /// # Errors
    /// [`RepoError::StaleIndex`] if its row is gone; else as [`Self::read_frame`].
    pub fn cached_frame(&self, frame: FrameRef) -> Result<Arc<DecodedFrame>, RepoError> {
        self.decoded.frame(frame, || {
            let record = self.index.frame(frame)?.ok_or(RepoError::StaleIndex)?;
            // Who loads a frame never waits for another one, since a damaged store may lead in a circle: of its base,
            // what others are loading just now is loaded once more.
            let base = self.base_of(&record, 0)?;
            let decoded = self.open_and_decode(&record, base.as_deref(), Some(FrameCheck::Seal))?;
            let mut offset = 0;
            for chunk in &record.entry.chunks {
                self.decoded.keep_home(chunk.id, ChunkHome { frame, offset, length: chunk.length });
                offset += chunk.length;
            }
            Ok(decoded)
        })
    }

    /// Distrusts a pack of which a frame could not be read, once its bytes turn out not to have its hash: a damaged index, or
    /// a bit that was flipped on the way here, must not have whole packs stored anew.
    pub(super) fn suspect(&self, pack: Option<PackId>) {
        let Some(pack) = pack.filter(|pack| !self.index.is_distrusted(pack)) else { return };
        if !self.suspects.lock().unwrap_or_else(PoisonError::into_inner).insert(pack) {
            return;
        }
        match whole::is_whole(self.store.as_ref(), &pack) {
            Ok(true) => tracing::debug!("pack {pack} is whole, though a frame of it could not be read"),
            Ok(false) => self.distrust(Some(pack)),
            Err(error) => tracing::debug!("whether pack {pack} is whole is not known: {error}"),
        }
    }

    /// Takes note that a pack is damaged or missing, so that sessions of this host store anew what it holds.
    pub(super) fn distrust(&self, pack: Option<PackId>) {
        let Some(pack) = pack else { return };
        if let Err(error) = self.index.distrust(&[pack]) {
            tracing::debug!("it is not remembered that pack {pack} is damaged: {error}");
        }
    }

    /// Reads and decodes a frame from the store, past all caches: what verifying takes. What it stands on may come from
    /// a cache; it has an entry of its own to be verified by.
    ///
    /// # Errors
    /// [`RepoError::Damaged`] names the pack if the frame or its base is not what it should be.
    pub fn read_frame(&self, record: &FrameRecord, check: FrameCheck) -> Result<DecodedFrame, RepoError> {
        match self.decode_frame(record, &mut self.stored_bytes(record)?, check) {
            Err(RepoError::Damaged { .. }) => {
                self.store.forget(&ObjectKey::pack(&record.pack.id));
                self.decode_frame(record, &mut self.stored_bytes(record)?, check)
            }
            decoded => decoded,
        }
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
        let encoded = open(record, stored)?;
        let base = self.base_of(record, 0)?;
        self.decode(record, encoded, base.as_deref(), Some(check))
    }

    /// Reads what lies under the seal of a frame, past all caches, once it decoded to chunks that have their hashes.
    ///
    /// # Errors
    /// As [`Self::read_frame`].
    pub fn encoded_frame(&self, record: &FrameRecord) -> Result<Vec<u8>, RepoError> {
        let mut stored = self.stored_bytes(record)?;
        let encoded = open(record, &mut stored)?.to_vec();
        let base = self.base_of(record, 0)?;
        self.decode(record, &encoded, base.as_deref(), Some(FrameCheck::Rehash))?;
        Ok(encoded)
    }

    /// Returns a frame to which a number of deltas led. It is neither kept, since whoever reads on needs the next frame's
    /// base, nor re-hashed, since what stands on it is.
    fn frame_in_chain(&self, frame: FrameRef, deltas: u8) -> Result<Arc<DecodedFrame>, RepoError> {
        if let Some(kept) = self.decoded.kept_frame(&frame) {
            return Ok(kept);
        }
        let record = self.index.frame(frame)?.ok_or(RepoError::StaleIndex)?;
        let base = self.base_of(&record, deltas)?;
        self.open_and_decode(&record, base.as_deref(), None).map(Arc::new)
    }

    /// Reads a frame, from the copy of its pack that this host kept if there is one. Nothing of the copy is trusted:
    /// what does not open and decode is as good as not there.
    fn open_and_decode(
        &self,
        record: &FrameRecord,
        base: Option<&DecodedFrame>,
        check: Option<FrameCheck>,
    ) -> Result<DecodedFrame, RepoError> {
        let decode = |mut stored: Vec<u8>| self.decode(record, open(record, &mut stored)?, base, check);
        if let Some(decoded) = self.copied_bytes(record).and_then(|stored| decode(stored).ok()) {
            return Ok(decoded);
        }
        match decode(self.stored_bytes(record)?) {
            // It may have been damaged on its way here, and be whole where it lies.
            Err(RepoError::Damaged { .. }) => {
                self.store.forget(&ObjectKey::pack(&record.pack.id));
                decode(self.stored_bytes(record)?)
            }
            decoded => decoded,
        }
    }

    /// Returns the stored bytes of a frame from the copy of its pack that this host kept, if there is one.
    fn copied_bytes(&self, record: &FrameRecord) -> Option<Vec<u8>> {
        let end = record.offset.checked_add(record.entry.stored_length.into())?;
        self.bases.as_ref()?.get(&record.pack.id, record.offset..end)
    }

    fn stored_bytes(&self, record: &FrameRecord) -> Result<Vec<u8>, RepoError> {
        let key = ObjectKey::pack(&record.pack.id);
        let end = record.offset + u64::from(record.entry.stored_length);
        self.store.get(&key, Some(record.offset..end)).map_err(|error| match error.kind() {
            StoreErrorKind::Truncated => {
                damaged_pack(&key, FormatError::malformed("a pack", "it is cut short"))
            }
            _ => RepoError::Store(error),
        })
    }

    /// Decodes a frame. Without `check`, only what ingest-only writers made is re-hashed.
    fn decode(
        &self,
        record: &FrameRecord,
        encoded: &[u8],
        base: Option<&DecodedFrame>,
        check: Option<FrameCheck>,
    ) -> Result<DecodedFrame, RepoError> {
        let deltas = base.map_or(0, |base| base.deltas + 1);
        let base = base.map(DecodedFrame::plain);
        let plain_length = record.entry.plain_length();
        let buffer = self.buffers.take(plain_length.min(FRAME_MAX_BYTES));
        let mut frame = DecodedFrame::new(buffer, deltas, &self.buffers);
        decode(&mut frame.plain, record.entry.encoding, encoded, plain_length, base)
            .map_err(|error| damaged_pack(&ObjectKey::pack(&record.pack.id), error))?;
        let is_hashed = match check {
            Some(FrameCheck::Rehash) => true,
            Some(FrameCheck::Seal) => base.is_some(),
            None => false,
        };
        if is_hashed || record.pack.writer.class == WriterClass::IngestOnly {
            self.check_hashes(record, frame.plain())?;
        }
        Ok(frame)
    }

    /// Returns the base of a delta to which `deltas` others led; nothing for a frame that is no delta.
    fn base_of(&self, record: &FrameRecord, deltas: u8) -> Result<Option<Arc<DecodedFrame>>, RepoError> {
        let Encoding::Delta { base } = record.entry.encoding else { return Ok(None) };
        let malformed =
            |why| damaged_pack(&ObjectKey::pack(&record.pack.id), FormatError::malformed("frame", why));
        let too_long = "it is at the end of a chain of too many deltas";
        // Ends where a damaged store leads in a circle.
        if deltas >= DELTA_CHAIN_MAX {
            return Err(malformed(too_long));
        }
        let mut frames = base.frames().map(|id| self.base_frame(&id, deltas + 1));
        let (Some(first), second) = (frames.next().transpose()?, frames.next().transpose()?) else {
            return Ok(None);
        };
        let base = match second {
            None => first,
            Some(second) if first.plain.len() + second.plain.len() > FRAME_MAX_BYTES => {
                return Err(malformed("its base is too long"));
            }
            Some(second) => {
                let plain = [first.plain(), second.plain()].concat();
                Arc::new(DecodedFrame::new(plain, first.deltas.max(second.deltas), &self.buffers))
            }
        };
        // What was kept came without a look at its own bases.
        if base.deltas >= DELTA_CHAIN_MAX {
            return Err(malformed(too_long));
        }
        Ok(Some(base))
    }

    fn base_frame(&self, id: &FrameId, deltas: u8) -> Result<Arc<DecodedFrame>, RepoError> {
        let mut failure = RepoError::MissingBase(*id);
        for frame in self.index.frames_by_id(id)? {
            match self.frame_in_chain(frame, deltas) {
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

/// Opens the seal of a frame's stored bytes.
fn open<'a>(record: &FrameRecord, stored: &'a mut [u8]) -> Result<&'a [u8], RepoError> {
    let Some(key) = &record.pack.key else {
        return Err(RepoError::IngestOnly(record.pack.writer.host.clone()));
    };
    frame::open(key, &record.pack.header_hash, record.number, record.entry.encoding, stored)
        .map_err(|error| damaged_pack(&ObjectKey::pack(&record.pack.id), error))
}

thread_local! {
    /// Decoding contexts are large and take longer to make than a small frame takes to decode.
    static DECODER: RefCell<Option<FrameDecoder>> = const { RefCell::new(None) };
}

fn decode(
    plain: &mut Vec<u8>,
    encoding: Encoding,
    encoded: &[u8],
    plain_length: usize,
    base: Option<&[u8]>,
) -> Result<(), FormatError> {
    DECODER.with_borrow_mut(|kept| {
        let mut decoder = kept.take().map_or_else(FrameDecoder::new, Ok)?;
        let decoded = decoder.decode_into(plain, encoding, encoded, plain_length, base);
        *kept = Some(decoder);
        decoded
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
