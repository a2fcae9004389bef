//! The root of an index object: its CBOR and the rules of what it lists.

use super::super::FormatError;
use super::super::cbor::{self, CborReader, CborWriter, Encoded};
use super::super::header::{Header, HeaderHash, ObjectKind};
use super::super::pack::{Directory, PACK_MAX_BYTES, PACK_MAX_FRAMES, TRAILER_BYTES};
use super::{IndexedPack, WHAT, malformed, number};
use crate::crypto::seal::{SealKey, TAG_BYTES};
use crate::crypto::secrets::{HOST_MAX_BYTES, Writer, WriterClass};
use crate::id::{PackId, WriterId};

/// Most packs of one index object.
pub const INDEX_MAX_PACKS: usize = 65_536;
/// Most index objects that one replaces.
pub const INDEX_MAX_SUPERSEDED: usize = 65_536;

const LOOKUP_BLOCKS_MAX: usize = 1 << 20;
const STORE_KEY_MAX_BYTES: usize = 403;
/// What a header takes besides the host name.
const HEADER_FIXED_BYTES: usize = Header::MAX_BYTES - HOST_MAX_BYTES;

/// The root of an index object: what its blocks are.
#[derive(Default)]
pub(super) struct Root {
    pub(super) supersedes: Vec<String>,
    pub(super) packs: Vec<RootPack>,
    pub(super) lookup: Vec<LookupBlock>,
}

/// A pack without its directory, which is a block.
pub(super) struct RootPack {
    pub(super) id: PackId,
    pub(super) kind: ObjectKind,
    pub(super) bytes: u64,
    pub(super) writer: Writer,
    pub(super) header_hash: HeaderHash,
    pub(super) header_bytes: u32,
    pub(super) key: SealKey,
    pub(super) block_bytes: u32,
    pub(super) frames: u32,
}

pub(super) struct LookupBlock {
    pub(super) block_bytes: u32,
    pub(super) records: u32,
}

impl Root {
    pub(super) fn encode(&self) -> Vec<u8> {
        cbor::encode(|writer| {
            writer.array(3)?;
            cbor::write_list(writer, &self.supersedes, |writer, key| writer.str(key)?.ok())?;
            cbor::write_list(writer, &self.packs, |writer, pack| pack.write(writer))?;
            cbor::write_list(writer, &self.lookup, |writer, block| {
                writer.array(2)?.u32(block.block_bytes)?.u32(block.records)?.ok()
            })
        })
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        CborReader::new(WHAT, bytes)?.record(3, |reader| {
            Ok(Self {
                supersedes: reader.list(0, INDEX_MAX_SUPERSEDED, |reader| {
                    reader.text(1, STORE_KEY_MAX_BYTES).map(str::to_owned)
                })?,
                packs: reader.list(0, INDEX_MAX_PACKS, RootPack::read)?,
                lookup: reader.list(0, LOOKUP_BLOCKS_MAX, |reader| {
                    reader.record(2, |reader| {
                        Ok(LookupBlock { block_bytes: reader.u32()?, records: reader.u32()? })
                    })
                })?,
            })
        })
    }

    /// Checks the rules that every root of `writer` follows, decoded or about to be encoded.
    pub(super) fn check(&self, writer: &Writer) -> Result<(), &'static str> {
        let is_index = |key: &String| key.starts_with("index/") && key.len() <= STORE_KEY_MAX_BYTES;
        if self.supersedes.len() > INDEX_MAX_SUPERSEDED || !self.supersedes.iter().all(is_index) {
            return Err("it replaces what is no index object");
        }
        if self.packs.len() > INDEX_MAX_PACKS || self.lookup.len() > LOOKUP_BLOCKS_MAX {
            return Err("it lists too much");
        }
        if !self.packs.is_sorted_by(|before, after| before.id < after.id) {
            return Err("its packs are not strictly sorted");
        }
        // Otherwise a writer that may only add could hide the packs of others, or pass its own for theirs.
        let own = self.supersedes.is_empty() && self.packs.iter().all(|pack| pack.writer == *writer);
        if writer.class == WriterClass::IngestOnly && !own {
            return Err("an ingest-only writer speaks for others");
        }
        self.packs.iter().try_for_each(RootPack::check)
    }
}

impl RootPack {
    pub(super) fn new(pack: &IndexedPack, block_bytes: u32) -> Result<Self, FormatError> {
        Ok(Self {
            id: pack.id,
            kind: pack.kind,
            bytes: pack.bytes,
            writer: pack.writer.clone(),
            header_hash: pack.header_hash,
            header_bytes: pack.header_bytes,
            key: pack.key.clone(),
            block_bytes,
            frames: number(pack.directory.frames.len())?,
        })
    }

    pub(super) fn into_indexed(self, directory: Directory) -> IndexedPack {
        let Self { id, kind, bytes, writer, header_hash, header_bytes, key, .. } = self;
        IndexedPack { id, kind, bytes, writer, header_hash, header_bytes, key, directory }
    }

    /// Writes `[id, kind, bytes, class, writer id, host, header hash, header bytes, key, block bytes, frames]`.
    fn write(&self, writer: &mut CborWriter<'_>) -> Encoded {
        writer.array(11)?.bytes(self.id.as_bytes())?.u8(self.kind.code())?.u64(self.bytes)?;
        writer.u8(self.writer.class.code())?.bytes(self.writer.id.as_bytes())?.str(&self.writer.host)?;
        writer.bytes(&self.header_hash.0)?.u32(self.header_bytes)?.bytes(self.key.expose())?;
        writer.u32(self.block_bytes)?.u32(self.frames)?.ok()
    }

    fn read(reader: &mut CborReader<'_>) -> Result<Self, FormatError> {
        reader.record(11, |reader| {
            let id = PackId::from_bytes(reader.array_of()?);
            let kind =
                ObjectKind::from_code(reader.u8()?).ok_or_else(|| reader.malformed("no such object kind"))?;
            let bytes = reader.u64()?;
            let class = WriterClass::from_code(reader.u8()?)
                .ok_or_else(|| reader.malformed("no such writer class"))?;
            let writer_id = WriterId::from_bytes(reader.array_of()?);
            let host = reader.text(1, HOST_MAX_BYTES)?.to_owned();
            Ok(Self {
                id,
                kind,
                bytes,
                writer: Writer { class, host, id: writer_id },
                header_hash: HeaderHash(reader.array_of()?),
                header_bytes: reader.u32()?,
                key: SealKey::from_bytes(&reader.array_of()?),
                block_bytes: reader.u32()?,
                frames: reader.u32()?,
            })
        })
    }

    fn check(&self) -> Result<(), &'static str> {
        if !matches!(self.kind, ObjectKind::DataPack | ObjectKind::TreePack) {
            return Err("it lists an object that is no pack");
        }
        if !(1..=HOST_MAX_BYTES).contains(&self.writer.host.len()) {
            return Err("the name of a host is empty or too long");
        }
        if self.header_bytes as usize != HEADER_FIXED_BYTES + self.writer.host.len() {
            return Err("a pack's header has a wrong length");
        }
        if self.bytes > PACK_MAX_BYTES || self.frames as usize > PACK_MAX_FRAMES {
            return Err("a pack is too long");
        }
        Ok(())
    }

    /// Checks that `directory` is of a pack of this kind and length.
    pub(super) fn check_directory(&self, directory: &Directory) -> Result<(), FormatError> {
        directory.check_kind(self.kind)?;
        if directory.frames.len() as u64 != u64::from(self.frames) {
            return Err(malformed("a directory has another number of frames than its pack"));
        }
        let before_directory = u64::from(self.header_bytes) + directory.stored_bytes();
        if before_directory + (TAG_BYTES + TRAILER_BYTES) as u64 >= self.bytes {
            return Err(malformed("a pack is shorter than its frames"));
        }
        Ok(())
    }
}
