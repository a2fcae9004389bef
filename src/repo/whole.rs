//! Whole packs: fetched to a spool file, held against their names, and described by what lies in them.
//!
//! A pack's name is the hash of its bytes, so that a copy of it can be trusted wherever it comes from.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::RepoError;
use crate::crypto::secrets::DomainKeys;
use crate::format::FormatError;
use crate::format::header::Header;
use crate::format::index_object::IndexedPack;
use crate::format::pack::{self, DIRECTORY_MAX_BYTES, PACK_MAX_BYTES, TRAILER_BYTES};
use crate::id::PackId;
use crate::store::ObjectStore;
use crate::store::key::ObjectKey;

/// Bytes that are read at a time.
const PIECE_BYTES: u64 = 4 << 20;

/// A pack in a spool file, with the bytes that its name says.
pub struct WholePack {
    id: PackId,
    file: File,
    bytes: u64,
}

impl WholePack {
    /// Fetches a pack from a store.
    ///
    /// # Errors
    /// [`RepoError::Damaged`] if its bytes do not have its hash, or a failure of the store or of the spool folder.
    pub fn fetch(store: &dyn ObjectStore, id: &PackId, spool: &Path) -> Result<Self, RepoError> {
        let mut file =
            tempfile::tempfile_in(spool).map_err(|error| spool_error("create a file in", error))?;
        let (found, bytes) = read_pack(store, id, &mut |piece| {
            file.write_all(piece).map_err(|error| spool_error("write to", error))
        })?;
        if found == *id { Ok(Self { id: *id, file, bytes }) } else { Err(not_its_bytes(id)) }
    }

    /// Returns its length.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the spool file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Describes it as an index object does, from its own header and directory; full keys can.
    ///
    /// # Errors
    /// [`RepoError::Damaged`] if these do not open, though its bytes are what they were.
    pub fn describe(&self, keys: &DomainKeys) -> Result<IndexedPack, RepoError> {
        let beginning = self.read(0..self.bytes.min(Header::MAX_BYTES as u64))?;
        let end_bytes = (DIRECTORY_MAX_BYTES + TRAILER_BYTES + Header::MAX_BYTES) as u64;
        let end = self.read(self.bytes.saturating_sub(end_bytes)..self.bytes)?;
        let opened = pack::open_parts(keys, &beginning, &end, self.bytes).map_err(|source| {
            RepoError::Damaged { object: ObjectKey::pack(&self.id).to_string(), source: Some(source) }
        })?;
        Ok(IndexedPack {
            id: self.id,
            kind: opened.header.kind,
            bytes: self.bytes,
            writer: opened.header.writer,
            header_hash: opened.header_hash,
            header_bytes: u32::try_from(opened.header_bytes).unwrap_or(u32::MAX),
            key: opened.key,
            directory: opened.directory,
        })
    }

    /// Returns the spool file alone.
    #[must_use]
    pub fn into_file(self) -> File {
        self.file
    }

    fn read(&self, range: std::ops::Range<u64>) -> Result<Vec<u8>, RepoError> {
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, range.start).map_err(|error| spool_error("read from", error))?;
        Ok(bytes)
    }
}

/// Reads a pack from end to end; tells whether its bytes have its hash. One that is cut short while it is read has not.
///
/// # Errors
/// Any failure of the store; `NotFound` if there is no such pack.
pub fn is_whole(store: &dyn ObjectStore, id: &PackId) -> Result<bool, RepoError> {
    match read_pack(store, id, &mut |_| Ok(())) {
        Ok((found, _)) => Ok(found == *id),
        Err(RepoError::Damaged { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads a pack piece by piece; returns the hash and the number of its bytes.
fn read_pack(
    store: &dyn ObjectStore,
    id: &PackId,
    take: &mut dyn FnMut(&[u8]) -> Result<(), RepoError>,
) -> Result<(PackId, u64), RepoError> {
    let key = ObjectKey::pack(id);
    let length = store.size(&key)?;
    if length > PACK_MAX_BYTES {
        return Err(not_its_bytes(id));
    }
    let mut hasher = blake3::Hasher::new();
    let mut offset = 0;
    while offset < length {
        let end = offset.saturating_add(PIECE_BYTES).min(length);
        let piece = store.get(&key, Some(offset..end))?;
        if piece.len() as u64 != end - offset {
            return Err(not_its_bytes(id));
        }
        hasher.update(&piece);
        take(&piece)?;
        offset = end;
    }
    Ok((PackId::from_bytes(*hasher.finalize().as_bytes()), length))
}

fn not_its_bytes(id: &PackId) -> RepoError {
    let source = Some(FormatError::malformed("a pack", "its bytes do not have its hash"));
    RepoError::Damaged { object: ObjectKey::pack(id).to_string(), source }
}

fn spool_error(operation: &'static str, source: std::io::Error) -> RepoError {
    RepoError::Local { operation, path: "the spool folder (in the cache folder)".to_owned(), source }
}
