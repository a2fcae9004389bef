//! Frames: the decode unit. What a directory says of one, and its seal.
//!
//! Compression and its inverse are `codec`'s. Which chunks share a frame, and which base a delta takes, is
//! decided by writers; the directory that lists frames is `pack`'s.

mod codec;
#[cfg(test)]
pub(super) mod tests;

use super::FormatError;
use super::cbor::{self, CborReader, CborWriter, Encoded};
use super::header::{HeaderHash, crypto};
use crate::crypto::hash::ChunkKind;
use crate::crypto::seal::{Part, SealKey, TAG_BYTES};
use crate::id::{ChunkId, FrameId};

pub use codec::{DELTA_LEVEL_MIN, FrameDecoder, FrameEncoder, WINDOW_LOG_MAX, decode, encode, encode_delta};

/// Most plain bytes of a frame.
pub const FRAME_MAX_BYTES: usize = 4 << 20;
/// Most deltas of which each is the base of the next, the last one included.
pub const DELTA_CHAIN_MAX: u8 = 8;

const RAW: u8 = 0;
const ZSTD: u8 = 1;
const DELTA: u8 = 2;

/// How the plain bytes of a frame are encoded before they are sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// 0: as they are.
    Raw,
    /// 1: one zstd frame.
    Zstd,
    /// 2: one zstd frame whose prefix is the plain bytes of its base.
    Delta {
        /// The base.
        base: DeltaBase,
    },
}

/// What a delta is compressed against: one frame, or two of which the plain bytes stand one behind the other. Together
/// they have at most [`FRAME_MAX_BYTES`] plain bytes. A base may be a delta itself, up to [`DELTA_CHAIN_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaBase {
    first: FrameId,
    second: Option<FrameId>,
}

impl DeltaBase {
    /// Names one frame as the base.
    #[must_use]
    pub const fn one(first: FrameId) -> Self {
        Self { first, second: None }
    }

    /// Names two frames as the base.
    #[must_use]
    pub fn pair(first: FrameId, second: FrameId) -> Self {
        Self { first, second: Some(second) }
    }

    /// Returns the frames in order.
    pub fn frames(&self) -> impl Iterator<Item = FrameId> {
        std::iter::once(self.first).chain(self.second)
    }

    /// Returns their ids, one behind the other: 32 or 64 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.frames().flat_map(|id| *id.as_bytes()).collect()
    }

    /// Reads what [`Self::to_bytes`] wrote; nothing if it is no such thing.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes.as_chunks() {
            ([first], []) => Some(FrameId::from_bytes(*first).into()),
            ([first, second], []) => {
                Some(Self::pair(FrameId::from_bytes(*first), FrameId::from_bytes(*second)))
            }
            _ => None,
        }
    }
}

impl From<FrameId> for DeltaBase {
    fn from(first: FrameId) -> Self {
        Self::one(first)
    }
}

impl Encoding {
    fn number(self) -> u8 {
        match self {
            Self::Raw => RAW,
            Self::Zstd => ZSTD,
            Self::Delta { .. } => DELTA,
        }
    }

    fn base(self) -> Option<DeltaBase> {
        match self {
            Self::Raw | Self::Zstd => None,
            Self::Delta { base } => Some(base),
        }
    }
}

/// One chunk of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameChunk {
    /// What the chunk holds.
    pub kind: ChunkKind,
    /// Its name.
    pub id: ChunkId,
    /// Its plain length in bytes, at least 1 (empty files have no chunk).
    pub length: u32,
}

/// The three super-features of a frame, for finding similar ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features(pub [u64; 3]);

/// What a pack's directory says of one frame. Its offset follows from the lengths before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameEntry {
    /// Length in the pack, seal included.
    pub stored_length: u32,
    /// How it is encoded.
    pub encoding: Encoding,
    /// Super-features, by which frames that resemble it are found.
    pub features: Option<Features>,
    /// Its chunks in order, at least one.
    pub chunks: Vec<FrameChunk>,
}

impl FrameEntry {
    /// Returns the plain length: the sum of the chunks, at most [`FRAME_MAX_BYTES`] (checked when decoded).
    #[must_use]
    pub fn plain_length(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.length as usize).sum()
    }

    /// Writes `[stored length, encoding, ids of the base / null, [feature × 3] / null, [[kind, id, length]…]]`.
    pub(super) fn write(&self, writer: &mut CborWriter<'_>) -> Encoded {
        writer.array(5)?.u32(self.stored_length)?.u8(self.encoding.number())?;
        cbor::write_optional(writer, self.encoding.base().as_ref(), |writer, base| {
            writer.bytes(&base.to_bytes())?.ok()
        })?;
        cbor::write_optional(writer, self.features.as_ref(), |writer, features| {
            cbor::write_list(writer, &features.0, |writer, feature| writer.u64(*feature)?.ok())
        })?;
        cbor::write_list(writer, &self.chunks, |writer, chunk| {
            writer.array(3)?.u8(chunk.kind.code())?.bytes(chunk.id.as_bytes())?.u32(chunk.length)?.ok()
        })
    }

    /// Reads what [`Self::write`] wrote, and checks it.
    pub(super) fn read(reader: &mut CborReader<'_>) -> Result<Self, FormatError> {
        let entry = reader.record(5, |reader| {
            let stored_length = reader.u32()?;
            let number = reader.u8()?;
            let base = reader.optional(read_base)?;
            let encoding = match (number, base) {
                (RAW, None) => Encoding::Raw,
                (ZSTD, None) => Encoding::Zstd,
                (DELTA, Some(base)) => Encoding::Delta { base },
                (RAW..=DELTA, _) => {
                    return Err(reader.malformed("a base stands where none belongs, or is missing"));
                }
                _ => return Err(reader.malformed(format!("{number} is no encoding of a frame"))),
            };
            let features = reader.optional(read_features)?;
            let chunks = reader.list(1, FRAME_MAX_BYTES, read_chunk)?;
            Ok(Self { stored_length, encoding, features, chunks })
        })?;
        entry.check().map_err(|why| reader.malformed(why))?;
        Ok(entry)
    }

    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.chunks.iter().any(|chunk| chunk.length == 0) {
            return Err("a chunk is empty");
        }
        let plain_length = self.chunks.iter().map(|chunk| u64::from(chunk.length)).sum::<u64>();
        if plain_length > FRAME_MAX_BYTES as u64 {
            return Err("a frame is too long");
        }
        let encoded_length = u64::from(self.stored_length).saturating_sub(TAG_BYTES as u64);
        match self.encoding {
            _ if encoded_length == 0 => Err("a frame takes no room"),
            Encoding::Raw if encoded_length != plain_length => {
                Err("a raw frame has another length than its chunks")
            }
            Encoding::Zstd | Encoding::Delta { .. } if encoded_length >= plain_length => {
                Err("a compressed frame is no shorter than its chunks")
            }
            _ => Ok(()),
        }
    }
}

/// Seals an encoded frame in place.
///
/// Associated data: header hash ‖ number (u32, little endian) ‖ encoding byte, and the ids of a delta's base.
///
/// # Errors
/// Fails if the cryptographic library does.
pub fn seal(
    key: &SealKey,
    header: &HeaderHash,
    number: u32,
    encoding: Encoding,
    encoded: &mut Vec<u8>,
) -> Result<(), FormatError> {
    key.seal(Part::Frame, number, &associated_data(header, number, encoding), encoded)
        .map_err(|source| crypto("frame", source))
}

/// Opens a stored frame in place and returns its encoded bytes.
///
/// # Errors
/// Fails if the frame was altered, or belongs to another object, place or base.
pub fn open<'a>(
    key: &SealKey,
    header: &HeaderHash,
    number: u32,
    encoding: Encoding,
    stored: &'a mut [u8],
) -> Result<&'a [u8], FormatError> {
    key.open(Part::Frame, number, &associated_data(header, number, encoding), stored)
        .map_err(|source| crypto("frame", source))
}

fn associated_data(header: &HeaderHash, number: u32, encoding: Encoding) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(header.0.len() + 5 + 2 * FrameId::LEN);
    bytes.extend_from_slice(&header.0);
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.push(encoding.number());
    if let Some(base) = encoding.base() {
        bytes.extend_from_slice(&base.to_bytes());
    }
    bytes
}

fn read_chunk(reader: &mut CborReader<'_>) -> Result<FrameChunk, FormatError> {
    reader.record(3, |reader| {
        let kind =
            ChunkKind::from_code(reader.u8()?).ok_or_else(|| reader.malformed("no such kind of chunk"))?;
        Ok(FrameChunk { kind, id: ChunkId::from_bytes(reader.array_of()?), length: reader.u32()? })
    })
}

fn read_base(reader: &mut CborReader<'_>) -> Result<DeltaBase, FormatError> {
    let bytes = reader.bytes(FrameId::LEN, 2 * FrameId::LEN)?;
    DeltaBase::from_bytes(bytes).ok_or_else(|| reader.malformed("a base is neither one id nor two"))
}

fn read_features(reader: &mut CborReader<'_>) -> Result<Features, FormatError> {
    let features = reader.list(3, 3, CborReader::u64)?;
    features.try_into().map(Features).map_err(|_| reader.malformed("a frame has three features"))
}

fn malformed(why: impl Into<String>) -> FormatError {
    FormatError::malformed("frame", why)
}
