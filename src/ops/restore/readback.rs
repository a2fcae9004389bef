//! Reading back what was written: whether the target really holds the bytes of the snapshot.
//!
//! Files are collected in batches. A full batch is flushed to the disk, the system's memory of each file is
//! dropped, and every piece is read and hashed again, holes included. This proves what the file system gives back
//! from then on; a disk or a server that answers from a cache of its own is believed.

use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Advice, SeekFrom};
use rustix::io::Errno;

use super::content::{Part, Parts};
use super::pool::{Run, Tally};
use super::write::{EntryError, refused};
use crate::crypto::hash::ChunkKind;
use crate::format::content::{Content, ContentItem};
use crate::format::frame::FRAME_MAX_BYTES;
use crate::path::TreePath;
use crate::repo::content::ContentReader;

/// Most bytes of a batch, so that the disk has something to do early on.
const BATCH_BYTES: u64 = 1 << 30;
/// Files that all batches together hold open.
const OPEN_FILES: usize = 1024;
/// Bytes of a hole that are compared at once where the file system keeps it as written zeros.
const ZEROS_BYTES: usize = 256 << 10;

/// Files that wait to be read back.
#[derive(Default)]
pub(super) struct Readback {
    waiting: Mutex<Batch>,
}

#[derive(Default)]
struct Batch {
    files: Vec<Waiting>,
    bytes: u64,
}

struct Waiting {
    path: TreePath,
    file: OwnedFd,
    content: Content,
}

impl Readback {
    /// Takes over a file that has its name. Every so often this reads a batch back.
    pub(super) fn add(
        &self,
        run: &Run<'_>,
        path: &TreePath,
        file: BorrowedFd<'_>,
        content: &Content,
    ) -> Result<(), EntryError> {
        let file = file.try_clone_to_owned().map_err(refused("cannot keep it open to read it back"))?;
        let batch_files = (OPEN_FILES / (run.options.threads + 1)).max(8);
        let full = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.bytes = waiting.bytes.saturating_add(content.length());
            waiting.files.push(Waiting { path: path.clone(), file, content: content.clone() });
            let is_full = waiting.files.len() >= batch_files || waiting.bytes >= BATCH_BYTES;
            is_full.then(|| std::mem::take(&mut *waiting))
        };
        if let Some(batch) = full {
            read_back(run, batch);
        }
        Ok(())
    }

    /// Reads back what still waits.
    pub(super) fn finish(&self, run: &Run<'_>) {
        let rest = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        read_back(run, rest);
    }
}

fn read_back(run: &Run<'_>, batch: Batch) {
    if batch.files.is_empty() || run.is_stopped() {
        return;
    }
    run.flush();
    for Waiting { path, file, content } in batch.files {
        let reader = ContentReader::new(&content);
        let check = Check { run, file: file.as_fd(), reader: &reader };
        match check.whole() {
            Ok(()) => {
                Tally::add(&run.tally.verified_files, 1);
                Tally::add(&run.tally.verified_bytes, reader.length());
            }
            Err(EntryError::Differs(range)) => {
                Tally::add(&run.tally.differing, 1);
                let reason = format!(
                    "was written, and other bytes were read back at {} to {}: the disk or the memory is faulty",
                    range.start, range.end
                );
                run.fail(&path, reason, false);
            }
            Err(error) => run.note_error(&path, error),
        }
    }
}

/// One file and what it should hold.
struct Check<'a> {
    run: &'a Run<'a>,
    file: BorrowedFd<'a>,
    reader: &'a ContentReader,
}

impl Check<'_> {
    fn whole(&self) -> Result<(), EntryError> {
        let length = self.reader.length();
        let stat = rustix::fs::fstat(self.file).map_err(refused("cannot read it back"))?;
        let found = u64::try_from(stat.st_size).unwrap_or(0);
        if found != length {
            return Err(EntryError::Differs(found.min(length)..found.max(length)));
        }
        // Where the system cannot drop what it remembers, memory is compared, which is still worth something.
        let _ = rustix::fs::fadvise(self.file, 0, None, Advice::DontNeed);
        Parts::new(self.run, self.reader).for_each(&|part| match part {
            Part::Pieces(range) => self.pieces(range),
            Part::Hole(range) => self.hole(range),
            Part::Unreadable(_, error) => Err(error.into()),
        })
    }

    /// Checks the pieces that begin in `range`.
    fn pieces(&self, range: Range<u64>) -> Result<(), EntryError> {
        let mut at = range.start;
        let mut buffer = Vec::new();
        while at < range.end {
            if self.run.is_stopped() {
                return Err(EntryError::Stopped);
            }
            let Some(piece) = self.reader.piece_at(self.run.repo, at)? else { return Ok(()) };
            let end = piece.offset.saturating_add(piece.item.length()).max(at + 1);
            if piece.offset >= range.start {
                match piece.item {
                    ContentItem::Hole(_) => self.hole(piece.offset..end)?,
                    ContentItem::Data(id, length) => {
                        // The format's own limit, so that no list makes this large.
                        buffer.resize((length as usize).min(FRAME_MAX_BYTES), 0);
                        let full = self.read_exact_at(&mut buffer, piece.offset)?;
                        let found = self.run.repo.keys().ids().chunk_id(ChunkKind::Data, &buffer);
                        if !full || found != id {
                            return Err(EntryError::Differs(piece.offset..end));
                        }
                    }
                }
            }
            at = end;
        }
        Ok(())
    }

    /// Checks that zeros stand in `range`. What the file system keeps as a hole is not read.
    fn hole(&self, range: Range<u64>) -> Result<(), EntryError> {
        let mut at = range.start;
        let mut buffer = Vec::new();
        loop {
            let data = match rustix::fs::seek(self.file, SeekFrom::Data(at)) {
                Ok(data) => data,
                // Only a hole follows.
                Err(Errno::NXIO) => return Ok(()),
                Err(_) => at,
            };
            if data >= range.end {
                return Ok(());
            }
            let length = usize::try_from(range.end - data).unwrap_or(usize::MAX).min(ZEROS_BYTES);
            buffer.resize(length, 0);
            let full = self.read_exact_at(&mut buffer, data)?;
            at = data + length as u64;
            if !full || buffer.iter().any(|byte| *byte != 0) {
                return Err(EntryError::Differs(data..at));
            }
        }
    }

    /// Fills the buffer; tells whether the file was long enough.
    fn read_exact_at(&self, buffer: &mut [u8], mut offset: u64) -> Result<bool, EntryError> {
        let mut rest = buffer;
        while !rest.is_empty() {
            match rustix::io::pread(self.file, &mut *rest, offset) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    rest = rest.get_mut(count..).unwrap_or_default();
                    offset += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(refused("cannot read it back")(error)),
            }
        }
        Ok(true)
    }
}
