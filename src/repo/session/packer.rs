//! The packer thread: seals frames into the open data and tree packs, and hands full packs on.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crossbeam_channel::{Receiver, Sender};

use super::encode::EncodedFrame;
use super::{RepoError, Shared};
use crate::crypto::hash::ChunkKind;
use crate::crypto::seal::SealKey;
use crate::format::FormatError;
use crate::format::frame::{self, FrameEntry};
use crate::format::header::{Header, HeaderHash, ObjectKind};
use crate::format::index_object::IndexedPack;
use crate::format::pack::{self, Directory, PACK_MAX_FRAMES};
use crate::id::PackId;

/// A pack takes no further frame when its directory may have grown to this many bytes.
const DIRECTORY_TARGET_BYTES: usize = 4 << 20;
/// Most bytes that a chunk takes in a directory.
const DIRECTORY_CHUNK_BYTES: usize = 48;
/// Most bytes that a frame takes besides, with two bases and features.
const DIRECTORY_FRAME_BYTES: usize = 112;

/// A pack that is whole and lies in a spool file.
pub(super) struct FinishedPack {
    /// The spool file; gone when it is closed.
    pub(super) file: File,
    /// What an index object says of it.
    pub(super) pack: IndexedPack,
}

/// Where the packer's work goes.
pub(super) struct Output {
    /// Packs that are whole.
    pub(super) packs: Sender<FinishedPack>,
    /// Takes a permit back for each frame that was packed.
    pub(super) permits: Sender<()>,
}

/// Packs frames until the encoders end; then finishes the open packs.
pub(super) fn run(shared: &Shared, spool: &Path, frames: &Receiver<EncodedFrame>, output: &Output) {
    let mut open = OpenPacks { shared, spool, output, data: None, tree: None };
    let result = add_in_order(&mut open, frames).and_then(|()| open.finish());
    if let Err(error) = result {
        shared.fail(error);
    }
}

/// Adds frames in the order of the session: what was read together lies together, and the next session finds it so.
fn add_in_order(open: &mut OpenPacks<'_>, frames: &Receiver<EncodedFrame>) -> Result<(), RepoError> {
    let mut next = 0;
    let mut early = BTreeMap::new();
    for frame in frames {
        early.insert(frame.order, frame);
        while let Some(frame) = early.remove(&next) {
            open.add(frame)?;
            next += 1;
        }
    }
    // An encoder that failed left a gap; what it did not keep from the others serves the next session.
    early.into_values().try_for_each(|frame| open.add(frame))
}

struct OpenPacks<'a> {
    shared: &'a Shared,
    spool: &'a Path,
    output: &'a Output,
    data: Option<PackWriter>,
    tree: Option<PackWriter>,
}

impl OpenPacks<'_> {
    fn add(&mut self, frame: EncodedFrame) -> Result<(), RepoError> {
        let is_data = frame.chunks.iter().all(|chunk| chunk.kind == ChunkKind::Data);
        let (slot, kind) = if is_data {
            (&mut self.data, ObjectKind::DataPack)
        } else {
            (&mut self.tree, ObjectKind::TreePack)
        };
        let mut writer = match slot.take() {
            Some(writer) => writer,
            None => PackWriter::create(kind, self.shared, self.spool)?,
        };
        writer.add(frame)?;
        // Nobody waits for permits any more once the session ends.
        let _ = self.output.permits.try_send(());
        if writer.is_full(self.shared.options.pack_target_bytes) {
            self.send(writer)
        } else {
            *slot = Some(writer);
            Ok(())
        }
    }

    fn finish(mut self) -> Result<(), RepoError> {
        for writer in [self.data.take(), self.tree.take()].into_iter().flatten() {
            self.send(writer)?;
        }
        Ok(())
    }

    fn send(&self, writer: PackWriter) -> Result<(), RepoError> {
        let pack = writer.finish(self.shared)?;
        // The uploader ended first only if it failed, and it has said why.
        self.output.packs.send(pack).map_err(|_| RepoError::SessionFailed)
    }
}

/// One pack while it is being written to its spool file.
struct PackWriter {
    kind: ObjectKind,
    file: BufWriter<File>,
    hasher: blake3::Hasher,
    header_hash: HeaderHash,
    header_bytes: u32,
    key: SealKey,
    bytes: u64,
    directory: Directory,
    directory_bytes: usize,
}

impl PackWriter {
    fn create(kind: ObjectKind, shared: &Shared, spool: &Path) -> Result<Self, RepoError> {
        let file = tempfile::tempfile_in(spool).map_err(|error| spool_error("create a file in", error))?;
        let (header, header_hash, key) =
            Header::create(kind, &shared.keys, &shared.writer).map_err(encode_error)?;
        let mut writer = Self {
            kind,
            file: BufWriter::with_capacity(1 << 20, file),
            hasher: blake3::Hasher::new(),
            header_hash,
            header_bytes: u32::try_from(header.len()).unwrap_or(u32::MAX),
            key,
            bytes: 0,
            directory: Directory::default(),
            directory_bytes: 0,
        };
        writer.write(&header)?;
        Ok(writer)
    }

    fn add(&mut self, frame: EncodedFrame) -> Result<(), RepoError> {
        let EncodedFrame { order: _, encoding, mut encoded, features, chunks } = frame;
        let number = u32::try_from(self.directory.frames.len()).unwrap_or(u32::MAX);
        frame::seal(&self.key, &self.header_hash, number, encoding, &mut encoded).map_err(encode_error)?;
        self.directory_bytes += DIRECTORY_FRAME_BYTES + DIRECTORY_CHUNK_BYTES * chunks.len();
        let stored_length = u32::try_from(encoded.len()).unwrap_or(u32::MAX);
        let entry = FrameEntry { stored_length, encoding, features, chunks };
        // Whatever the encoders do: a pack with an entry that readers refuse would be lost as a whole.
        entry.check().map_err(|why| encode_error(FormatError::malformed("a frame", why)))?;
        self.directory.frames.push(entry);
        self.write(&encoded)
    }

    fn is_full(&self, target_bytes: u64) -> bool {
        self.bytes >= target_bytes
            || self.directory.frames.len() >= PACK_MAX_FRAMES
            || self.directory_bytes >= DIRECTORY_TARGET_BYTES
    }

    fn finish(mut self, shared: &Shared) -> Result<FinishedPack, RepoError> {
        let tail =
            pack::seal_directory(&self.key, &self.header_hash, &self.directory).map_err(encode_error)?;
        self.write(&tail)?;
        let file = self.file.into_inner().map_err(|error| spool_error("write to", error.into_error()))?;
        let pack = IndexedPack {
            id: PackId::from_bytes(*self.hasher.finalize().as_bytes()),
            kind: self.kind,
            bytes: self.bytes,
            writer: shared.writer.clone(),
            header_hash: self.header_hash,
            header_bytes: self.header_bytes,
            key: self.key,
            directory: self.directory,
        };
        Ok(FinishedPack { file, pack })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), RepoError> {
        self.file.write_all(bytes).map_err(|error| spool_error("write to", error))?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

fn spool_error(operation: &'static str, source: io::Error) -> RepoError {
    RepoError::Local { operation, path: "the spool folder (in the cache folder)".to_owned(), source }
}

fn encode_error(source: FormatError) -> RepoError {
    RepoError::Encode { object: "a pack".to_owned(), source }
}
