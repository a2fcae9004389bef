//! The reader threads: open files, cut them into chunks, and hand these to the session.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::IngestError;
use super::blocks::read_ahead;
use super::failures::{ReadError, out_of_files};
use super::metadata::FileStat;
use crate::chunker::Chunker;
use crate::crypto::hash::ChunkKind;
use crate::format::content::{Content, ContentBuilder, ContentItem};
use crate::id::ChunkId;
use crate::path::Name;
use crate::repo::Repository;
use crate::repo::session::SessionWriter;
use crate::uncached::{LARGE_BYTES, UncachedReader};

/// A regular file that is to be read.
pub(super) struct FileJob {
    /// Its directory.
    pub(super) directory: Arc<OwnedFd>,
    /// Its name there.
    pub(super) name: Name,
    /// What was seen when it was found.
    pub(super) stat: FileStat,
    /// Takes the one answer.
    pub(super) reply: Sender<Result<ReadFile, ReadError>>,
}

/// A file that was read.
pub(super) struct ReadFile {
    /// Where its bytes are now.
    pub(super) content: Content,
    /// The number of its bytes.
    pub(super) bytes: u64,
    /// Whether it changed between the first look and the end of reading.
    pub(super) changed: bool,
}

/// Reads files until the queue of jobs closes.
pub(super) fn run(repo: &Repository, session: &SessionWriter, jobs: &Receiver<FileJob>) {
    for job in jobs {
        let outcome = read(repo, session, &job).map_err(|error| match error {
            ReadError::File(source) if out_of_files(&source) => {
                ReadError::Fatal(IngestError::OpenFiles { path: job.name.to_string(), source })
            }
            error => error,
        });
        // Nobody waits any more if the run has failed elsewhere.
        let _ = job.reply.send(outcome);
    }
}

fn read(repo: &Repository, session: &SessionWriter, job: &FileJob) -> Result<ReadFile, ReadError> {
    let file = open(&job.directory, &job.name)?;
    let opened = FileStat::of(file.as_fd())?;
    if FileType::from_raw_mode(u32::from(opened.mode)) != FileType::RegularFile {
        return Err(io::Error::other("it is no regular file any more").into());
    }
    let mut writer = ContentWriter::new(repo, session);
    if has_hole(&file, opened.bytes)? {
        read_sparse(&mut writer, &file, opened.bytes)?;
    } else {
        append_data(&mut writer, UncachedReader::new(&file), opened.bytes)?;
    }
    let (content, bytes) = writer.finish()?;
    let changed = job.stat.content_differs(&FileStat::of(file.as_fd())?);
    Ok(ReadFile { content, bytes, changed })
}

/// Appends all that `reader` yields, as it seems `length` bytes; returns how many they were. Where they are many, a
/// thread of its own reads ahead.
fn append_data(
    writer: &mut ContentWriter<'_>,
    mut reader: impl Read + Send,
    length: u64,
) -> Result<u64, ReadError> {
    if length < LARGE_BYTES {
        return writer.append(&mut reader);
    }
    read_ahead(reader, |mut blocks| writer.append(&mut blocks))?
}

/// Reads the islands of a file with holes, and never the holes themselves.
fn read_sparse(writer: &mut ContentWriter<'_>, mut file: &File, length: u64) -> Result<(), ReadError> {
    let mut offset = 0;
    while offset < length {
        let island = next_island(|place| rustix::fs::seek(file, place), offset, length)?;
        writer.append_hole(island.start - offset)?;
        file.seek(SeekFrom::Start(island.start))?;
        let wanted = island.end - island.start;
        let read = append_data(writer, UncachedReader::new(file).take(wanted), wanted)?;
        if read < wanted {
            // The file was cut meanwhile; its change is noticed by the caller.
            break;
        }
        offset = island.end;
    }
    Ok(())
}

/// Returns where the next data of a file of `length` bytes lies, at `offset` or behind it; an empty range at the end
/// if there is none. Where the file system does not know holes, all the rest is data.
fn next_island(
    seek: impl Fn(rustix::fs::SeekFrom) -> Result<u64, Errno>,
    offset: u64,
    length: u64,
) -> io::Result<Range<u64>> {
    let start = match seek(rustix::fs::SeekFrom::Data(offset)) {
        Ok(start) => start.clamp(offset, length),
        // No data follows.
        Err(Errno::NXIO) => length,
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => return Ok(offset..length),
        Err(error) => return Err(error.into()),
    };
    if start == length {
        return Ok(length..length);
    }
    let end = match seek(rustix::fs::SeekFrom::Hole(start)) {
        // An island without an end would never be left.
        Ok(end) if end > start => end.min(length),
        Ok(_) | Err(Errno::NXIO | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => length,
        Err(error) => return Err(error.into()),
    };
    Ok(start..end)
}

/// Opens a regular file without following links, without waiting for a FIFO's other end, and without
/// changing its access time where the system allows that.
fn open(directory: &OwnedFd, name: &Name) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let name = name.as_bytes();
    let opened = match rustix::fs::openat(directory, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::openat(directory, name, flags, Mode::empty()),
        other => other,
    };
    Ok(File::from(opened?))
}

/// Tells whether a file has a hole; leaves it at its beginning. The blocks that it takes do not say: space that is
/// reserved counts among them, and so does a block of extended attributes.
fn has_hole(mut file: &File, length: u64) -> io::Result<bool> {
    if length == 0 {
        return Ok(false);
    }
    let hole = match rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(0)) {
        Ok(hole) => hole,
        // Cut meanwhile, or of a file system that knows no holes.
        Err(Errno::NXIO | Errno::INVAL | Errno::NOTSUP) => length,
        Err(error) => return Err(error.into()),
    };
    file.rewind()?;
    Ok(hole < length)
}

/// Stores streams and holes one behind the other as one content.
pub(super) struct ContentWriter<'a> {
    repo: &'a Repository,
    session: &'a SessionWriter,
    builder: ContentBuilder,
    bytes: u64,
}

impl<'a> ContentWriter<'a> {
    pub(super) fn new(repo: &'a Repository, session: &'a SessionWriter) -> Self {
        Self { repo, session, builder: ContentBuilder::new(), bytes: 0 }
    }

    /// Appends all that `reader` yields; returns the number of bytes.
    pub(super) fn append(&mut self, reader: &mut impl Read) -> Result<u64, ReadError> {
        let before = self.bytes;
        let (repo, session) = (self.repo, self.session);
        store_chunks(repo, session, reader, &mut |id, length| self.push(ContentItem::Data(id, length)))?;
        Ok(self.bytes - before)
    }

    /// Appends a hole; nothing for an empty one.
    pub(super) fn append_hole(&mut self, length: u64) -> Result<(), ReadError> {
        if length > 0 { self.push(ContentItem::Hole(length)) } else { Ok(()) }
    }

    /// Returns the content and the number of its bytes.
    pub(super) fn finish(self) -> Result<(Content, u64), ReadError> {
        let session = self.session;
        let content = self.builder.finish(&mut |node| add_node(session, &node))?;
        Ok((content, self.bytes))
    }

    /// Appends a piece that is stored already.
    pub(super) fn push(&mut self, item: ContentItem) -> Result<(), ReadError> {
        let session = self.session;
        self.builder.push(item, &mut |node| add_node(session, &node))?;
        self.bytes += item.length();
        Ok(())
    }
}

/// Cuts all that `reader` yields into chunks, adds them to the session, and tells `take` of each with its length.
pub(super) fn store_chunks(
    repo: &Repository,
    session: &SessionWriter,
    reader: &mut impl Read,
    take: &mut dyn FnMut(ChunkId, u32) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let mut chunker = Chunker::new(reader, Arc::clone(repo.chunker()));
    while let Some(plain) = chunker.next_chunk()? {
        let added =
            if chunker.is_done() { session.add(ChunkKind::Data, &plain) } else { session.add_inner(&plain) };
        let id = added.map_err(IngestError::from)?;
        take(id, u32::try_from(plain.len()).unwrap_or(u32::MAX))?;
    }
    Ok(())
}

fn add_node(session: &SessionWriter, node: &[u8]) -> Result<ChunkId, IngestError> {
    Ok(session.add(ChunkKind::List, node)?)
}

#[cfg(test)]
mod tests {
    use rustix::fs::SeekFrom;

    use super::*;

    /// Answers for a file of 100 bytes whose data lies from 20 to 30 and from 60 on.
    fn islands(place: SeekFrom) -> Result<u64, Errno> {
        match place {
            SeekFrom::Data(offset) if offset >= 100 => Err(Errno::NXIO),
            SeekFrom::Data(offset @ (20..30 | 60..)) => Ok(offset),
            SeekFrom::Data(offset) => Ok(if offset < 20 { 20 } else { 60 }),
            SeekFrom::Hole(offset) => Ok(if offset < 30 { 30 } else { 100 }),
            _ => Err(Errno::INVAL),
        }
    }

    #[test]
    fn islands_are_found_one_after_the_other() {
        assert_eq!(next_island(islands, 0, 100).unwrap(), 20..30);
        assert_eq!(next_island(islands, 30, 100).unwrap(), 60..100);
        assert_eq!(next_island(islands, 0, 25).unwrap(), 20..25, "it was longer when it was found");
        assert_eq!(next_island(islands, 30, 50).unwrap(), 50..50);
        assert_eq!(next_island(|_| Err(Errno::NXIO), 7, 100).unwrap(), 100..100, "nothing but a hole");
    }

    #[test]
    fn file_systems_that_know_no_holes_are_read_whole() {
        for refusal in [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP] {
            assert_eq!(next_island(|_| Err(refusal), 10, 100).unwrap(), 10..100);
        }
        assert!(next_island(|_| Err(Errno::IO), 10, 100).is_err());
    }

    /// A file system that answers nonsense must not keep the reader from going on.
    #[test]
    fn every_island_moves_on() {
        assert_eq!(next_island(|_| Ok(5), 10, 100).unwrap(), 10..100);
    }
}
