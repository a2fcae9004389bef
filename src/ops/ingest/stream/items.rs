//! The list of a stream's chunks, kept until what stands before them is known: in bounded memory, whatever comes.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::format::content::ContentItem;
use crate::id::ChunkId;
use crate::repo::RepoError;

/// How many chunks are kept in memory: those of some 4 GiB, in about 600 KiB.
pub(super) const ITEMS_IN_MEMORY: usize = 16_384;

/// Bytes of an id.
const ID_BYTES: usize = 32;
/// Bytes of a chunk in the file: its id and its length.
const RECORD_BYTES: usize = ID_BYTES + 4;

/// Chunks in the order in which they came. Beyond a number of them, the earlier ones lie in an unnamed file.
pub(super) struct ItemSpool {
    folder: PathBuf,
    in_memory: usize,
    /// The last ones.
    items: Vec<(ChunkId, u32)>,
    spilled: Option<Spilled>,
}

/// The first chunks, in a file that is gone when it is closed.
struct Spilled {
    file: BufWriter<File>,
    count: u64,
    /// A list that is read back wrong would make a snapshot that cannot be restored.
    hash: blake3::Hasher,
}

impl ItemSpool {
    /// Starts an empty list that keeps `in_memory` chunks before it needs a file in `folder`.
    pub(super) fn new(folder: &Path, in_memory: usize) -> Self {
        Self { folder: folder.to_owned(), in_memory, items: Vec::new(), spilled: None }
    }

    /// Appends a chunk of `length` bytes.
    pub(super) fn push(&mut self, id: ChunkId, length: u32) -> Result<(), RepoError> {
        if self.items.len() >= self.in_memory.max(1) {
            self.spill()?;
        }
        self.items.push((id, length));
        Ok(())
    }

    /// Passes all chunks to `take`, the first one first.
    pub(super) fn replay<E: From<RepoError>>(
        self,
        take: &mut dyn FnMut(ContentItem) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Some(spilled) = self.spilled {
            spilled.replay(take)?;
        }
        self.items.into_iter().try_for_each(|(id, length)| take(ContentItem::Data(id, length)))
    }

    fn spill(&mut self) -> Result<(), RepoError> {
        let spilled = match &mut self.spilled {
            Some(spilled) => spilled,
            None => self.spilled.insert(Spilled::create(&self.folder)?),
        };
        for (id, length) in self.items.drain(..) {
            spilled.push(&id, length).map_err(|error| spool_error("write to", error))?;
        }
        Ok(())
    }
}

impl Spilled {
    fn create(folder: &Path) -> Result<Self, RepoError> {
        let file = tempfile::tempfile_in(folder).map_err(|error| spool_error("create a file in", error))?;
        Ok(Self { file: BufWriter::new(file), count: 0, hash: blake3::Hasher::new() })
    }

    fn push(&mut self, id: &ChunkId, length: u32) -> io::Result<()> {
        for part in [&id.as_bytes()[..], &length.to_le_bytes()[..]] {
            self.file.write_all(part)?;
            self.hash.update(part);
        }
        self.count += 1;
        Ok(())
    }

    fn replay<E: From<RepoError>>(self, take: &mut dyn FnMut(ContentItem) -> Result<(), E>) -> Result<(), E> {
        let failed = |error| spool_error("read from", error);
        let mut file = self.file.into_inner().map_err(|error| spool_error("write to", error.into_error()))?;
        file.rewind().map_err(failed)?;
        let mut file = BufReader::new(file);
        let mut hash = blake3::Hasher::new();
        for _ in 0..self.count {
            let (mut id, mut length) = ([0; ID_BYTES], [0; RECORD_BYTES - ID_BYTES]);
            file.read_exact(&mut id).and_then(|()| file.read_exact(&mut length)).map_err(failed)?;
            hash.update(&id).update(&length);
            take(ContentItem::Data(ChunkId::from_bytes(id), u32::from_le_bytes(length)))?;
        }
        if hash.finalize() != self.hash.finalize() {
            let error = io::Error::new(io::ErrorKind::InvalidData, "it is not what was written there");
            return Err(failed(error).into());
        }
        Ok(())
    }
}

fn spool_error(operation: &'static str, source: io::Error) -> RepoError {
    RepoError::Local { operation, path: "the spool folder (in the cache folder)".to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn item(number: u32) -> (ChunkId, u32) {
        (ChunkId::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes()), number + 1)
    }

    fn filled(folder: &Path, in_memory: usize, count: u32) -> ItemSpool {
        let mut spool = ItemSpool::new(folder, in_memory);
        (0..count).map(item).for_each(|(id, length)| spool.push(id, length).unwrap());
        spool
    }

    fn replayed(spool: ItemSpool) -> Result<Vec<ContentItem>, RepoError> {
        let mut items = Vec::new();
        spool.replay(&mut |item| {
            items.push(item);
            Ok::<(), RepoError>(())
        })?;
        Ok(items)
    }

    #[test]
    fn what_comes_is_replayed_in_its_order_and_memory_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        for count in [0, 1, 9, 10, 11, 20, 21, 1000] {
            let spool = filled(folder.path(), 10, count);
            assert!(spool.items.len() <= 10, "{count}: {}", spool.items.len());
            assert_eq!(spool.spilled.is_some(), count > 10, "{count}");
            let expected: Vec<_> =
                (0..count).map(item).map(|(id, length)| ContentItem::Data(id, length)).collect();
            assert_eq!(replayed(spool).unwrap(), expected, "{count}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the file has no name");
    }

    #[test]
    fn a_file_that_is_read_back_wrong_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let altered = |change: fn(&File)| {
            let mut spool = filled(folder.path(), 10, 25);
            let spilled = spool.spilled.as_mut().unwrap();
            spilled.file.flush().unwrap();
            change(spilled.file.get_ref());
            replayed(spool)
        };
        assert_eq!(altered(|_| {}).unwrap().len(), 25);
        let overwrite: fn(&File) = |file| file.write_all_at(b"\0", 100).unwrap();
        let cut: fn(&File) = |file| file.set_len(100).unwrap();
        for change in [overwrite, cut] {
            assert!(matches!(altered(change), Err(RepoError::Local { .. })));
        }
    }

    #[test]
    fn a_spool_that_cannot_be_written_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = ItemSpool::new(&folder.path().join("absent"), 1);
        spool.push(item(0).0, 1).unwrap();
        assert!(matches!(spool.push(item(1).0, 1), Err(RepoError::Local { .. })));
    }
}
