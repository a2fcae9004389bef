//! Reading and writing large files without pushing out what others keep in the page cache.
//!
//! What a read or a write brought there is dropped again, and what was there before stays (`RWF_DONTCACHE`: ext4 and XFS
//! know it since Linux 6.17; elsewhere all goes as usual). It also saves the kernel looking for memory: in a virtual
//! machine, that takes longer than all the rest of writing does.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{Errno, ReadWriteFlags, preadv2, pwrite, pwritev2};

/// From this length on, files are written past the page cache: what is small may be read again soon, and takes little.
/// Files that are backed up are read ahead from here on.
pub const LARGE_BYTES: u64 = 8 << 20;

const DONT_CACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);
/// Stands for the position of the file, which moves on.
const POSITION: u64 = u64::MAX;

/// Reads a file from its position on, past the page cache where the kernel and the file system can do that: a backup
/// reads everything once, and what it brings there takes the place of what is used all the time.
pub struct UncachedReader<'a> {
    file: &'a File,
    is_refused: bool,
}

impl<'a> UncachedReader<'a> {
    /// Reads from where the file stands.
    #[must_use]
    pub fn new(file: &'a File) -> Self {
        Self { file, is_refused: false }
    }
}

impl Read for UncachedReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.is_refused {
            match preadv2(self.file, &mut [IoSliceMut::new(buffer)], POSITION, DONT_CACHE) {
                Err(error) if is_refusal(error) => self.is_refused = true,
                read => return Ok(read?),
            }
        }
        self.file.read(buffer)
    }
}

/// Writes at any places of a file, past the page cache if the file is large and the kernel and the file system can do
/// that. Threads may share it.
pub struct UncachedWriter<'a> {
    file: BorrowedFd<'a>,
    is_cached: AtomicBool,
}

impl<'a> UncachedWriter<'a> {
    /// Writes to a file that will be `length` bytes long.
    #[must_use]
    pub fn new(file: BorrowedFd<'a>, length: u64) -> Self {
        Self { file, is_cached: (length < LARGE_BYTES).into() }
    }

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// Those of the system; a write that was interrupted goes on.
    pub fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> Result<(), Errno> {
        while !bytes.is_empty() {
            match self.write_at(bytes, offset) {
                Ok(0) => return Err(Errno::IO),
                Ok(written) => {
                    bytes = bytes.get(written..).unwrap_or_default();
                    offset += written as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
        if !self.is_cached.load(Ordering::Relaxed) {
            match pwritev2(self.file, &[IoSlice::new(bytes)], offset, DONT_CACHE) {
                Err(error) if is_refusal(error) => self.is_cached.store(true, Ordering::Relaxed),
                written => return written,
            }
        }
        pwrite(self.file, bytes, offset)
    }
}

/// Tells whether a kernel or a file system does not know [`DONT_CACHE`].
fn is_refusal(error: Errno) -> bool {
    matches!(error, Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS)
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_file_is_read_from_its_position_on() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        file.write_all(&bytes).unwrap();
        file.seek(SeekFrom::Start(1000)).unwrap();
        let mut read = Vec::new();
        UncachedReader::new(&file).take(100_000).read_to_end(&mut read).unwrap();
        assert!(read == bytes[1000..101_000]);
        UncachedReader::new(&file).read_to_end(&mut read).unwrap();
        assert!(read == bytes[1000..]);
    }

    #[test]
    fn what_a_file_system_refuses_is_read_as_usual() {
        let file = File::open("/proc/self/stat").unwrap();
        let mut reader = UncachedReader::new(&file);
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert!(reader.is_refused, "files of /proc have no page cache");
        assert!(read.starts_with(&std::process::id().to_string()), "{read}");
    }

    #[test]
    fn what_is_written_lies_where_it_should() {
        let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        for length in [0, LARGE_BYTES] {
            let mut file = tempfile::tempfile().unwrap();
            let writer = UncachedWriter::new(file.as_fd(), length);
            writer.write_all_at(&bytes[100_000..], 100_000).unwrap();
            writer.write_all_at(&bytes[..100_000], 0).unwrap();
            writer.write_all_at(&[], 1 << 40).unwrap();
            let mut read = Vec::new();
            file.read_to_end(&mut read).unwrap();
            assert!(read == bytes, "{length}");
        }
    }

    #[test]
    fn where_all_lies_in_memory_it_is_written_as_usual() {
        let memory = rustix::fs::memfd_create("uncached", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let writer = UncachedWriter::new(memory.as_fd(), LARGE_BYTES);
        writer.write_all_at(b"one, ", 0).unwrap();
        assert!(writer.is_cached.into_inner(), "memory is its own page cache");
        UncachedWriter::new(memory.as_fd(), LARGE_BYTES).write_all_at(b"two", 5).unwrap();
        let mut read = String::new();
        File::from(memory).read_to_string(&mut read).unwrap();
        assert_eq!(read, "one, two");
    }

    #[test]
    fn errors_are_told() {
        let closed = File::open("/dev/null").unwrap();
        let refused = UncachedWriter::new(closed.as_fd(), LARGE_BYTES).write_all_at(b"?", 0);
        assert_eq!(refused, Err(Errno::BADF), "it is open for reading alone");
        let folder = tempfile::tempdir().unwrap();
        let folder = File::open(folder.path()).unwrap();
        let error = UncachedReader::new(&folder).read(&mut [0; 10]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    }
}
