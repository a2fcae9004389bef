//! Writes the content of a file: in segments, by several threads where it is long, holes as holes, and past what
//! cannot be read.
//!
//! A hole costs one step however long it is. What is damaged in the store becomes a [`Gap`], and the rest is
//! written.

use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::partial::{Gap, GapList};
use super::pool::Run;
use super::write::{EntryError, refused};
use crate::format::content::{Content, ContentItem};
use crate::ops::list::{PieceBytes, for_each_piece};
use crate::progress::{Event, error_chain};
use crate::repo::RepoError;
use crate::repo::content::{ContentReader, Piece};
use crate::uncached::UncachedWriter;

/// Files of at least two such segments are worked on by several threads, one segment at a time each.
const SEGMENT_BYTES: u64 = 16 << 20;
/// Most threads that work on one file.
const FILE_THREADS_MAX: usize = 16;

/// What was written of a file.
pub(super) struct Written {
    /// The file's length, holes and gaps included.
    pub length: u64,
    /// Bytes that were read from the store and written.
    pub data_bytes: u64,
    /// What could not be read.
    pub gaps: GapList,
}

/// A part of a file, for one thread.
#[derive(Debug)]
pub(super) enum Part {
    /// The pieces that begin in this range.
    Pieces(Range<u64>),
    /// A hole that begins here.
    Hole(Range<u64>),
    /// Nothing is known of this range.
    Unreadable(Range<u64>, RepoError),
}

/// Hands the parts of one file out to threads.
pub(super) struct Parts<'a> {
    run: &'a Run<'a>,
    reader: &'a ContentReader,
    next: Mutex<u64>,
    failed: AtomicBool,
}

/// Writes the content of a file, which is empty and open.
pub(super) fn write_content(
    run: &Run<'_>,
    file: BorrowedFd<'_>,
    content: &Content,
) -> Result<Written, EntryError> {
    let reader = ContentReader::new(content);
    let length = reader.length();
    rustix::fs::ftruncate(file, length).map_err(refused("cannot set its size"))?;
    let file = UncachedWriter::new(file, length);
    let writer = Writer { run, file, reader: &reader, data_bytes: AtomicU64::new(0), gaps: Mutex::default() };
    Parts::new(run, &reader).for_each(&|part| writer.write(part))?;
    let Writer { data_bytes, gaps, .. } = writer;
    let gaps = gaps.into_inner().unwrap_or_else(PoisonError::into_inner).finish();
    Ok(Written { length, data_bytes: data_bytes.into_inner(), gaps })
}

impl<'a> Parts<'a> {
    /// Prepares to hand out the parts of a file.
    pub(super) fn new(run: &'a Run<'a>, reader: &'a ContentReader) -> Self {
        Self { run, reader, next: Mutex::new(0), failed: AtomicBool::new(false) }
    }

    /// Has every part worked on, by several threads where the file is long. Ends at the first error.
    pub(super) fn for_each(
        &self,
        work: &(dyn Fn(Part) -> Result<(), EntryError> + Sync),
    ) -> Result<(), EntryError> {
        let run_to_end = || -> Result<(), EntryError> {
            while !self.failed.load(Ordering::Relaxed) {
                let done = match self.claim() {
                    Ok(None) => return Ok(()),
                    Ok(Some(part)) => work(part),
                    Err(error) => Err(error),
                };
                if done.is_err() {
                    // The other threads need not go on.
                    self.failed.store(true, Ordering::Relaxed);
                }
                done?;
            }
            Ok(())
        };
        let segments = usize::try_from(self.reader.length() / SEGMENT_BYTES / 2).unwrap_or(usize::MAX);
        let threads = segments.min(self.run.options.threads).min(FILE_THREADS_MAX);
        thread::scope(|scope| {
            // Where the system gives no further thread, this one does it all.
            let helpers: Vec<_> = (1..threads)
                .map_while(|_| {
                    thread::Builder::new().name("restore".into()).spawn_scoped(scope, run_to_end).ok()
                })
                .collect();
            let mut result = run_to_end();
            for helper in helpers {
                match helper.join() {
                    Ok(helped) => result = result.and(helped),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            result
        })
    }

    fn claim(&self) -> Result<Option<Part>, EntryError> {
        let length = self.reader.length();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        while *next < length {
            if self.run.is_stopped() {
                return Err(EntryError::Stopped);
            }
            let start = *next;
            let part = match self.reader.piece_at(self.run.repo, start) {
                Ok(Some(Piece { offset, item: ContentItem::Hole(bytes) })) => {
                    *next = offset.saturating_add(bytes).max(start + 1).min(length);
                    // One that begins earlier was met by whoever has the part before.
                    if offset < start {
                        continue;
                    }
                    Part::Hole(start..*next)
                }
                Ok(_) => {
                    *next = start.saturating_add(SEGMENT_BYTES).min(length);
                    Part::Pieces(start..*next)
                }
                Err(error) if error.is_damage() => {
                    let range = self.reader.unreadable_range(self.run.repo, start);
                    *next = range.end.max(start + 1).min(length);
                    Part::Unreadable(start..*next, error)
                }
                Err(error) => return Err(error.into()),
            };
            return Ok(Some(part));
        }
        Ok(None)
    }
}

/// Writes parts of one file.
struct Writer<'a> {
    run: &'a Run<'a>,
    file: UncachedWriter<'a>,
    reader: &'a ContentReader,
    data_bytes: AtomicU64,
    gaps: Mutex<GapList>,
}

impl Writer<'_> {
    fn write(&self, part: Part) -> Result<(), EntryError> {
        match part {
            Part::Pieces(range) => self.write_pieces(range),
            Part::Hole(range) => {
                self.passed(range.end - range.start);
                Ok(())
            }
            Part::Unreadable(range, error) => {
                self.leave_gap(range, &error);
                Ok(())
            }
        }
    }

    /// Writes the pieces that begin in `range`, and goes on behind those that are damaged.
    fn write_pieces(&self, range: Range<u64>) -> Result<(), EntryError> {
        let mut at = range.start;
        while at < range.end {
            let mut reached = at;
            let written = for_each_piece(
                self.run.repo,
                self.reader,
                at..range.end,
                &mut |offset, piece: PieceBytes| {
                    self.write_piece(offset, &piece)?;
                    reached = offset + piece.length();
                    Ok(())
                },
            );
            at = reached;
            match written {
                Ok(()) => return Ok(()),
                Err(EntryError::Store(error)) if error.is_damage() => {
                    at = self.pass_damage(at, range.end, &error)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_piece(&self, offset: u64, piece: &PieceBytes) -> Result<(), EntryError> {
        if self.run.is_stopped() {
            return Err(EntryError::Stopped);
        }
        if let PieceBytes::Data(chunk) = piece {
            self.file.write_all_at(chunk, offset).map_err(refused("cannot write its content"))?;
            self.data_bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
        self.passed(piece.length());
        Ok(())
    }

    /// Notes what is damaged at or right behind `at`; returns where to go on.
    fn pass_damage(&self, at: u64, end: u64, damage: &RepoError) -> Result<u64, EntryError> {
        let gap = match self.reader.piece_at(self.run.repo, at) {
            // It belongs to the part before: the damage is in a piece behind it.
            Ok(Some(piece)) if piece.offset < at => return Ok(end_of(&piece, at)),
            Ok(Some(piece)) => at..end_of(&piece, at),
            Ok(None) => at..end,
            Err(error) if error.is_damage() => {
                let unreadable = self.reader.unreadable_range(self.run.repo, at).end;
                // Whoever has the part behind meets the rest of it.
                at..unreadable.max(at + 1).min(end)
            }
            Err(error) => return Err(error.into()),
        };
        let behind = gap.end;
        self.leave_gap(gap, damage);
        Ok(behind)
    }

    fn leave_gap(&self, range: Range<u64>, error: &RepoError) {
        self.passed(range.end - range.start);
        let gap = Gap { offset: range.start, length: range.end - range.start, reason: error_chain(error) };
        self.gaps.lock().unwrap_or_else(PoisonError::into_inner).push(gap);
    }

    fn passed(&self, bytes: u64) {
        self.run.progress.event(Event::Done { files: 0, bytes });
    }
}

/// Returns where a piece ends, which is behind `at` whatever the store says.
fn end_of(piece: &Piece, at: u64) -> u64 {
    piece.offset.saturating_add(piece.item.length()).max(at + 1)
}
