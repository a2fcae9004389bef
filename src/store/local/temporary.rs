//! Files that are no objects yet: written and flushed under a name of their own, then published or gone.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::HEXLOWER;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::store::{Creation, Payload, short_payload};
use crate::uncached::UncachedWriter;

const NAME_DIGITS: usize = 32;
const COPY_BYTES: usize = 1 << 20;

/// Longer than any single creation takes. A live writer whose file goes nevertheless fails to publish it.
const STALE: Duration = Duration::from_secs(7 * 24 * 3600);

/// A flushed file in `tmp/`; its name there goes with it.
#[derive(Debug)]
pub(super) struct TemporaryFile {
    directory: OwnedFd,
    name: String,
    file: File,
}

impl TemporaryFile {
    /// Writes and flushes the payload to a new file in `directory`.
    pub(super) fn write(directory: OwnedFd, payload: Payload<'_>) -> io::Result<Self> {
        let mut random = [0; NAME_DIGITS / 2];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let name = HEXLOWER.encode(&random);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&directory, &name, flags, Mode::RUSR | Mode::WUSR)?.into();
        let mut temporary = Self { directory, name, file };
        temporary.fill(payload)?;
        temporary.file.sync_all()?;
        Ok(temporary)
    }

    /// Gives the file its final name, unless that is taken. The caller flushes `directory`.
    pub(super) fn publish(self, directory: &OwnedFd, name: &str) -> io::Result<Creation> {
        match rustix::fs::linkat(&self.directory, &self.name, directory, name, AtFlags::empty()) {
            Ok(()) => Ok(Creation::Created),
            Err(Errno::EXIST) => self.lost_or_linked(),
            // File systems without hard links answer with any of these.
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => {
                self.publish_by_rename(directory, name)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn fill(&mut self, payload: Payload<'_>) -> io::Result<()> {
        match payload {
            Payload::Bytes(bytes) => self.file.write_all(bytes),
            Payload::File { file, bytes } => copy(file, bytes, &self.file),
        }
    }

    /// Tells who owns the name that is taken. Over NFS it may be us: the server had linked the file, but its
    /// reply was lost, and the client asked again. Then the file has two names; nobody else knows the first.
    fn lost_or_linked(&self) -> io::Result<Creation> {
        match rustix::fs::fstat(&self.file)?.st_nlink {
            2.. => Ok(Creation::Created),
            _ => Ok(Creation::AlreadyExists),
        }
    }

    fn publish_by_rename(&self, directory: &OwnedFd, name: &str) -> io::Result<Creation> {
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(&self.directory, &self.name, directory, name, flags) {
            Ok(()) => {
                // vfat keeps a file's place and length in its directory entry, and the new entry gets them
                // only when the file itself is flushed.
                self.file.sync_all()?;
                Ok(Creation::Created)
            }
            Err(Errno::EXIST) => Ok(Creation::AlreadyExists),
            Err(Errno::INVAL | Errno::NOSYS) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "this file system can neither link files nor rename them without replacing others",
            )),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // After a rename there is nothing to remove; any other failure leaves the file to a later sweep.
        let _ = rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty());
    }
}

/// Removes what writers that died long ago have left in `tmp/`, as far as possible.
pub(super) fn sweep(directory: &OwnedFd) {
    let Ok(entries) = Dir::read_from(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_str().unwrap_or_default();
        if is_temporary_name(name)
            && is_stale(directory, name)
            && rustix::fs::unlinkat(directory, name, AtFlags::empty()).is_ok()
        {
            tracing::debug!(name, "removed a stale temporary file");
        }
    }
}

fn copy(source: &File, bytes: u64, target: &File) -> io::Result<()> {
    let writer = UncachedWriter::new(target.as_fd(), bytes);
    let mut buffer = vec![0; COPY_BYTES];
    let mut done = 0;
    while done < bytes {
        let wanted = usize::try_from(bytes - done).unwrap_or(COPY_BYTES).min(COPY_BYTES);
        let part = buffer.get_mut(..wanted).unwrap_or_default();
        let read = match source.read_at(part, done) {
            Ok(0) => return Err(short_payload(bytes)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        writer.write_all_at(part.get(..read).unwrap_or_default(), done)?;
        done += read as u64;
    }
    Ok(())
}

/// Only names as we give them: whatever else lies there is not ours to remove.
fn is_temporary_name(name: &str) -> bool {
    name.len() == NAME_DIGITS && HEXLOWER.decode(name.as_bytes()).is_ok()
}

fn is_stale(directory: &OwnedFd, name: &str) -> bool {
    let Ok(stat) = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else { return false };
    let changed = u64::try_from(stat.st_mtime).ok().map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
    let age = changed.and_then(|changed| SystemTime::now().duration_since(changed).ok());
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && age.is_some_and(|age| age > STALE)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use rustix::fs::{CWD, openat};

    use super::*;

    fn opened(path: &Path) -> OwnedFd {
        openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    fn written(directory: &Path, bytes: &[u8]) -> TemporaryFile {
        TemporaryFile::write(opened(directory), Payload::Bytes(bytes)).unwrap()
    }

    #[test]
    fn names_are_given_once_by_link_or_rename() {
        let (spool, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let directory = opened(target.path());
        let by_link = |bytes, name| written(spool.path(), bytes).publish(&directory, name).unwrap();
        let by_rename =
            |bytes, name| written(spool.path(), bytes).publish_by_rename(&directory, name).unwrap();
        assert_eq!(by_link(b"1", "linked"), Creation::Created);
        assert_eq!(by_rename(b"2", "renamed"), Creation::Created);
        for name in ["linked", "renamed"] {
            assert_eq!(by_link(b"3", name), Creation::AlreadyExists);
            assert_eq!(by_rename(b"4", name), Creation::AlreadyExists);
        }
        assert_eq!(fs::read(target.path().join("linked")).unwrap(), b"1");
        assert_eq!(fs::read(target.path().join("renamed")).unwrap(), b"2");
        assert_eq!(fs::read_dir(spool.path()).unwrap().count(), 0);
    }

    /// The reply to a link request was lost, and the client asked again.
    #[test]
    fn a_name_that_is_taken_by_the_same_file_is_ours() {
        let directory = tempfile::tempdir().unwrap();
        let temporary = written(directory.path(), b"1");
        fs::hard_link(directory.path().join(&temporary.name), directory.path().join("object")).unwrap();
        assert_eq!(temporary.publish(&opened(directory.path()), "object").unwrap(), Creation::Created);
        assert_eq!(fs::read(directory.path().join("object")).unwrap(), b"1");
    }
}
