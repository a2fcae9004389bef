//! Index objects: which packs a session wrote, their keys and directories, and where each chunk is.
//!
//! ```text
//! header                      see `header`, kind 3
//! block 0 … p-1               the directory of each pack (CBOR), sealed as Part::Block with its number
//! block p … p+l-1             lookup blocks: sorted 16-byte records, sealed likewise
//! root                        CBOR, sealed as Part::Body
//! trailer                     16 bytes: root length (u64 le) ‖ magic 'YSTRINDX'
//! ```
//! aad of every part: header hash ‖ the object's store key. A lookup record is: first 8 bytes of the chunk
//! id ‖ pack number (u32 le) ‖ frame number (u32 le), sorted bytewise. Every lookup block but the last holds
//! 4,096 records. Blocks lie back to back, so that a distant reader fetches the root and only the blocks it
//! needs. The CBOR of the root is `root`'s.

mod root;
#[cfg(test)]
mod tests;

use super::FormatError;
use super::header::{Header, HeaderHash, ObjectKind, crypto};
use super::pack::{self, Directory};
use crate::crypto::seal::{Part, SealKey};
use crate::crypto::secrets::{DomainKeys, Writer};
use crate::id::PackId;
use root::{LookupBlock, Root, RootPack};

pub use root::{INDEX_MAX_PACKS, INDEX_MAX_SUPERSEDED};

const WHAT: &str = "index object";
const INDEX_MAGIC: &[u8; 8] = b"YSTRINDX";
const ROOT_MAX_BYTES: usize = 64 << 20;
const LOOKUP_BLOCK_RECORDS: usize = 4096;
const RECORD_BYTES: usize = 16;

/// One pack as an index object lists it.
#[derive(Clone)]
pub struct IndexedPack {
    /// Its name.
    pub id: PackId,
    /// `DataPack` or `TreePack`.
    pub kind: ObjectKind,
    /// Its whole length in bytes.
    pub bytes: u64,
    /// Who made it.
    pub writer: Writer,
    /// The hash of its header.
    pub header_hash: HeaderHash,
    /// The length of its header: where frame 0 begins.
    pub header_bytes: u32,
    /// Its key.
    pub key: SealKey,
    /// Its frames.
    pub directory: Directory,
}

/// A decoded index object.
#[derive(Clone, Default)]
pub struct IndexObject {
    /// Store keys of the index objects that this one replaces.
    pub supersedes: Vec<String>,
    /// The packs, sorted by id.
    pub packs: Vec<IndexedPack>,
}

impl IndexObject {
    /// Most bytes of a whole index object.
    pub const MAX_BYTES: u64 = 1 << 30;

    /// Seals as `writer` for `store_key`. The packs may stand in any order.
    ///
    /// # Errors
    /// Refuses what readers would refuse: too many or too long packs, a pack that is listed twice, and packs
    /// that an ingest-only writer did not make. Fails if `keys` cannot write as `writer`.
    pub fn seal(&self, keys: &DomainKeys, writer: &Writer, store_key: &str) -> Result<Vec<u8>, FormatError> {
        let mut packs: Vec<_> = self.packs.iter().collect();
        packs.sort_unstable_by_key(|pack| pack.id);
        let (mut object, hash, key) = Header::create(ObjectKind::Index, keys, writer)?;
        let parts = Parts { key, aad: associated_data(&hash, store_key) };
        let mut blocks = 0..u32::MAX;
        let mut seal_block = |block: Vec<u8>| -> Result<u32, FormatError> {
            let number = blocks.next().ok_or_else(|| malformed("it has too many blocks"))?;
            let sealed = parts.seal(Part::Block, number, block)?;
            object.extend_from_slice(&sealed);
            u32::try_from(sealed.len()).map_err(|_| malformed("a block is too long"))
        };
        let mut root = Root { supersedes: self.supersedes.clone(), ..Root::default() };
        for pack in &packs {
            root.packs.push(RootPack::new(pack, seal_block(pack.directory.encode())?)?);
        }
        for records in lookup_records(packs.iter().map(|pack| &pack.directory)).chunks(LOOKUP_BLOCK_RECORDS) {
            let block_bytes = seal_block(records.as_flattened().to_vec())?;
            root.lookup.push(LookupBlock { block_bytes, records: number(records.len())? });
        }
        root.check(writer).map_err(malformed)?;
        for (pack, listed) in packs.iter().zip(&root.packs) {
            listed.check_directory(&pack.directory)?;
        }
        let mut sealed = parts.seal(Part::Body, 0, root.encode())?;
        if sealed.len() > ROOT_MAX_BYTES {
            return Err(malformed("its root is too long"));
        }
        pack::append_trailer(&mut sealed, INDEX_MAGIC);
        object.append(&mut sealed);
        check_length(object.len())?;
        Ok(object)
    }

    /// Opens a whole index object and checks it: lookup blocks must agree with the directories.
    ///
    /// # Errors
    /// Refuses what was altered, was sealed for another store key, or breaks a rule of index objects.
    pub fn open(keys: &DomainKeys, store_key: &str, bytes: &[u8]) -> Result<(Writer, Self), FormatError> {
        check_length(bytes.len())?;
        let (header, hash, header_bytes) = Header::decode(bytes)?;
        let key = header.open(ObjectKind::Index, keys)?;
        let parts = Parts { key, aad: associated_data(&hash, store_key) };
        let (before, sealed) = pack::split_trailer(WHAT, bytes, INDEX_MAGIC, ROOT_MAX_BYTES)?;
        let root = Root::decode(&parts.open(Part::Body, 0, sealed)?)?;
        root.check(&header.writer).map_err(malformed)?;
        let rest = before.get(header_bytes..).ok_or_else(|| malformed("its root lies in its header"))?;
        let mut blocks = BlockReader { parts: &parts, rest, number: 0 };
        let mut packs = Vec::new();
        for pack in root.packs {
            let directory = Directory::decode(&blocks.next(pack.block_bytes)?)?;
            pack.check_directory(&directory)?;
            packs.push(pack.into_indexed(directory));
        }
        let records = lookup_records(packs.iter().map(|pack| &pack.directory));
        let mut expected = records.chunks(LOOKUP_BLOCK_RECORDS);
        for block in &root.lookup {
            let found = blocks.next(block.block_bytes)?;
            let agrees = expected.next().is_some_and(|records| {
                records.as_flattened() == found && records.len() as u64 == u64::from(block.records)
            });
            if !agrees {
                return Err(malformed("a lookup block does not agree with the directories"));
            }
        }
        if expected.next().is_some() || !blocks.rest.is_empty() {
            return Err(malformed("its blocks are not those that its root lists"));
        }
        Ok((header.writer, Self { supersedes: root.supersedes, packs }))
    }
}

/// What seals and opens the parts of one object.
struct Parts {
    key: SealKey,
    aad: Vec<u8>,
}

impl Parts {
    fn seal(&self, part: Part, number: u32, mut bytes: Vec<u8>) -> Result<Vec<u8>, FormatError> {
        self.key.seal(part, number, &self.aad, &mut bytes).map_err(|source| crypto(WHAT, source))?;
        Ok(bytes)
    }

    fn open(&self, part: Part, number: u32, sealed: &[u8]) -> Result<Vec<u8>, FormatError> {
        let mut bytes = sealed.to_vec();
        let opened = self.key.open(part, number, &self.aad, &mut bytes);
        let length = opened.map_err(|source| crypto(WHAT, source))?.len();
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// Opens the blocks of an object one after the other.
struct BlockReader<'a> {
    parts: &'a Parts,
    rest: &'a [u8],
    number: u32,
}

impl BlockReader<'_> {
    fn next(&mut self, block_bytes: u32) -> Result<Vec<u8>, FormatError> {
        let (block, rest) = usize::try_from(block_bytes)
            .ok()
            .and_then(|length| self.rest.split_at_checked(length))
            .ok_or_else(|| malformed("it is shorter than its blocks"))?;
        let opened = self.parts.open(Part::Block, self.number, block)?;
        self.rest = rest;
        self.number = self.number.checked_add(1).ok_or_else(|| malformed("it has too many blocks"))?;
        Ok(opened)
    }
}

/// Returns the records of the lookup blocks for packs in their order, sorted.
fn lookup_records<'a>(directories: impl Iterator<Item = &'a Directory>) -> Vec<[u8; RECORD_BYTES]> {
    let mut records = Vec::new();
    for (pack, directory) in (0_u32..).zip(directories) {
        for (frame, entry) in (0_u32..).zip(&directory.frames) {
            for chunk in &entry.chunks {
                let mut record = [0; RECORD_BYTES];
                record[..8].copy_from_slice(&chunk.id.as_bytes()[..8]);
                record[8..12].copy_from_slice(&pack.to_le_bytes());
                record[12..].copy_from_slice(&frame.to_le_bytes());
                records.push(record);
            }
        }
    }
    records.sort_unstable();
    records.dedup();
    records
}

fn associated_data(header: &HeaderHash, store_key: &str) -> Vec<u8> {
    [&header.0, store_key.as_bytes()].concat()
}

fn check_length(length: usize) -> Result<(), FormatError> {
    if length as u64 > IndexObject::MAX_BYTES { Err(malformed("it is too long")) } else { Ok(()) }
}

fn number(count: usize) -> Result<u32, FormatError> {
    u32::try_from(count).map_err(|_| malformed("it lists too much"))
}

fn malformed(why: &'static str) -> FormatError {
    FormatError::malformed(WHAT, why)
}
