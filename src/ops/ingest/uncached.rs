//! Reading files without pushing out what others keep in the page cache.

use std::fs::File;
use std::io::{self, IoSliceMut, Read};

use rustix::io::{Errno, ReadWriteFlags, preadv2};

/// Drops from the page cache what a read brought there, and leaves what was there before (`RWF_DONTCACHE`, since Linux
/// 6.14).
const DONT_CACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);
/// Stands for the position of the file, which moves on.
const POSITION: u64 = u64::MAX;

/// Reads a file from its position on, past the page cache where the kernel and the file system can do that: a backup
/// reads everything once, and what it brings there takes the place of what is used all the time.
pub(super) struct Uncached<'a> {
    file: &'a File,
    is_refused: bool,
}

impl<'a> Uncached<'a> {
    pub(super) fn new(file: &'a File) -> Self {
        Self { file, is_refused: false }
    }
}

impl Read for Uncached<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.is_refused {
            match preadv2(self.file, &mut [IoSliceMut::new(buffer)], POSITION, DONT_CACHE) {
                Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => self.is_refused = true,
                read => return Ok(read?),
            }
        }
        self.file.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use super::*;

    #[test]
    fn a_file_is_read_from_its_position_on() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        file.write_all(&bytes).unwrap();
        file.seek(SeekFrom::Start(1000)).unwrap();
        let mut read = Vec::new();
        Uncached::new(&file).take(100_000).read_to_end(&mut read).unwrap();
        assert!(read == bytes[1000..101_000]);
        Uncached::new(&file).read_to_end(&mut read).unwrap();
        assert!(read == bytes[1000..]);
    }

    #[test]
    fn what_a_file_system_refuses_is_read_as_usual() {
        let file = File::open("/proc/self/stat").unwrap();
        let mut reader = Uncached::new(&file);
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert!(reader.is_refused, "files of /proc have no page cache");
        assert!(read.starts_with(&std::process::id().to_string()), "{read}");
    }

    #[test]
    fn errors_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let folder = File::open(folder.path()).unwrap();
        let error = Uncached::new(&folder).read(&mut [0; 10]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    }
}
