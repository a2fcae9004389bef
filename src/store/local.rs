//! A store in a directory of a local or network file system.
//!
//! An object is a file at its key's path. It is written to `tmp/`, flushed, and only then given its name by a
//! call that fails if the name is taken; then the directory is flushed. `temporary.rs` owns the part until
//! the name. Everything is reached from one open directory, a segment at a time and never through a
//! symbolic link, so that nothing in the directory can lead outside.
//!
//! A known limit: where there are no hard links (vfat, exFAT), an object is flushed once more after it got its
//! name. If a second process sees it in between, power must not fail before that flush has ended.

mod temporary;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, PoisonError};

use rustix::fs::{AtFlags, Dir, DirEntry, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use self::temporary::TemporaryFile;
use super::key::{ObjectKey, Prefix};
use super::{Creation, ObjectInfo, ObjectStore, Payload, StoreError, range_within};

const TEMPORARY: &str = "tmp";
const DIRECTORY_MODE: Mode = Mode::RWXU;

/// A store in a directory. Reading it needs no right to write.
#[derive(Debug)]
pub struct LocalStore {
    path: PathBuf,
    root: OwnedFd,
    /// Directories whose own names this process has made durable.
    settled: Mutex<BTreeSet<String>>,
    /// Directories that were listed since they were last flushed: another process may have shown an object
    /// there that it has not flushed yet.
    shown: Mutex<BTreeSet<String>>,
    sweep: Once,
}

impl LocalStore {
    /// Opens the store in an existing directory.
    ///
    /// # Errors
    /// `NotFound` if nothing is there, `NotAStore` if it is no directory.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::try_open(path)
            .map_err(|error| StoreError::from_io("open store", path.display().to_string(), error))
    }

    /// Makes the directory, accessible to its owner alone, unless it exists, and opens the store in it.
    ///
    /// The parent directory must exist: to make it up would write to an empty mount point. Whether what is in
    /// an existing directory may become a store is for the caller to decide.
    ///
    /// # Errors
    /// `NotFound` if the parent directory is absent, `NotAStore` if something else is there.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        Self::try_create(path)
            .map_err(|error| StoreError::from_io("create store", path.display().to_string(), error))
    }

    fn try_open(path: &Path) -> io::Result<Self> {
        // The last segment may be a symbolic link: this path is the user's, not the store's.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            path: std::path::absolute(path)?,
            root: rustix::fs::open(path, flags, Mode::empty())?,
            settled: Mutex::default(),
            shown: Mutex::default(),
            sweep: Once::new(),
        })
    }

    fn try_create(path: &Path) -> io::Result<Self> {
        match rustix::fs::mkdir(path, DIRECTORY_MODE) {
            Err(Errno::EXIST) => Self::try_open(path),
            Err(error) => Err(error.into()),
            Ok(()) => {
                let store = Self::try_open(path)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                sync_directory(&rustix::fs::openat(&store.root, "..", flags, Mode::empty())?)?;
                Ok(store)
            }
        }
    }

    fn create_object(&self, key: &ObjectKey, payload: Payload<'_>) -> io::Result<Creation> {
        let (path, name) = split(key);
        let directory = self.make_directory(path)?;
        if object_bytes(&directory, name)?.is_some() {
            // Its creator may not have flushed the name yet.
            sync_directory(&directory)?;
            return Ok(Creation::AlreadyExists);
        }
        let spool = self.make_directory(TEMPORARY)?;
        self.sweep.call_once(|| temporary::sweep(&spool));
        let temporary = TemporaryFile::write(spool, payload)?;
        self.flush_shown()?;
        let creation = temporary.publish(&directory, name)?;
        sync_directory(&directory)?;
        Ok(creation)
    }

    fn read_object(&self, key: &ObjectKey, range: Option<Range<u64>>) -> io::Result<Vec<u8>> {
        let (path, name) = split(key);
        let directory = self.open_directory(path)?;
        // Without `NONBLOCK`, to open a named pipe would wait for a writer for ever.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut file = File::from(rustix::fs::openat(&directory, name, flags, Mode::empty())?);
        let bytes = regular_bytes(&rustix::fs::fstat(&file)?)?.ok_or(io::ErrorKind::NotFound)?;
        let range = range_within(range, bytes)?;
        let length = range.end - range.start;
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(usize::try_from(length).map_err(io::Error::other)?)?;
        file.seek(SeekFrom::Start(range.start))?;
        let read = file.take(length).read_to_end(&mut buffer)?;
        if read as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(buffer)
    }

    fn list_directory(&self, path: &str, visit: &mut dyn FnMut(ObjectInfo)) -> io::Result<()> {
        let directory = match self.open_directory(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.check_root(),
            other => other?,
        };
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name().to_str().unwrap_or_default();
            let Some(key) = ObjectKey::parse(&format!("{path}/{name}")) else { continue };
            match file_type(&directory, &entry)? {
                None => {}
                Some(FileType::RegularFile) => visit(ObjectInfo { key, bytes: None }),
                Some(FileType::Directory) => self.list_directory(key.as_str(), visit)?,
                Some(other) => return Err(name_entry(&key, &not_an_object(other))),
            }
        }
        // Only now: a flush before the last entry was read would not cover it.
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
        Ok(())
    }

    fn delete_object(&self, key: &ObjectKey) -> io::Result<()> {
        let (path, name) = split(key);
        let directory = match self.open_directory(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.check_root(),
            other => other?,
        };
        match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
            // Flushed in both cases: who deleted it before us may not have done so.
            Ok(()) | Err(Errno::NOENT) => sync_directory(&directory),
            Err(error) => Err(error.into()),
        }
    }

    /// Fails if the store's directory itself was removed: then an absent object or prefix says nothing.
    fn check_root(&self) -> io::Result<()> {
        match rustix::fs::fstat(&self.root)?.st_nlink {
            0 => Err(io::Error::other("the directory of the store was removed")),
            _ => Ok(()),
        }
    }

    /// Opens a directory below the root, which may be the root itself (an empty path).
    fn open_directory(&self, path: &str) -> io::Result<OwnedFd> {
        let mut directory = self.root.try_clone()?;
        for segment in path.split_terminator('/') {
            directory = open_directory_at(&directory, segment)?;
        }
        Ok(directory)
    }

    /// Opens a directory below the root, made where it is absent, and makes sure that it is durable.
    fn make_directory(&self, path: &str) -> io::Result<OwnedFd> {
        let mut directory = self.root.try_clone()?;
        let mut made = String::new();
        for segment in path.split_terminator('/') {
            made = if made.is_empty() { segment.to_owned() } else { format!("{made}/{segment}") };
            let settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner).contains(&made);
            let next = if settled { open_directory_at(&directory, segment) } else { Err(Errno::NOENT) };
            directory = match next {
                Err(Errno::NOENT) => self.settle_directory(&directory, segment, &made)?,
                other => other?,
            };
        }
        Ok(directory)
    }

    fn settle_directory(&self, parent: &OwnedFd, name: &str, path: &str) -> io::Result<OwnedFd> {
        match rustix::fs::mkdirat(parent, name, DIRECTORY_MODE) {
            // Flushed in both cases: who made it before us may not have done so.
            Ok(()) | Err(Errno::EXIST) => sync_directory(parent)?,
            Err(error) => return Err(error.into()),
        }
        let directory = open_directory_at(parent, name)?;
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
        Ok(directory)
    }

    /// Flushes what listings have shown, so that nothing durable is built on what is not.
    fn flush_shown(&self) -> io::Result<()> {
        // Locked throughout: a second creation must not overtake the flush that the first one began.
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for path in shown.iter() {
            match self.open_directory(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                directory => sync_directory(&directory?)?,
            }
        }
        shown.clear();
        Ok(())
    }
}

impl ObjectStore for LocalStore {
    fn create(&self, key: &ObjectKey, payload: Payload<'_>) -> Result<Creation, StoreError> {
        self.create_object(key, payload)
            .map_err(|error| StoreError::from_io("create", key.to_string(), error))
    }

    fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Vec<u8>, StoreError> {
        self.read_object(key, range).map_err(|error| StoreError::from_io("read", key.to_string(), error))
    }

    fn size(&self, key: &ObjectKey) -> Result<u64, StoreError> {
        let (path, name) = split(key);
        self.open_directory(path)
            .and_then(|directory| object_bytes(&directory, name))
            .and_then(|bytes| bytes.ok_or_else(|| io::ErrorKind::NotFound.into()))
            .map_err(|error| StoreError::from_io("find", key.to_string(), error))
    }

    fn list(&self, prefix: Prefix, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        self.list_directory(prefix.as_str().trim_end_matches('/'), visit)
            .map_err(|error| StoreError::from_io("list", prefix.to_string(), error))
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.delete_object(key).map_err(|error| StoreError::from_io("delete", key.to_string(), error))
    }

    fn location(&self) -> String {
        self.path.display().to_string()
    }

    fn requests_at_once(&self) -> usize {
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
    }
}

/// Splits a key into the path of its directory, empty for the root, and its file name.
fn split(key: &ObjectKey) -> (&str, &str) {
    key.as_str().rsplit_once('/').unwrap_or(("", key.as_str()))
}

fn open_directory_at(parent: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn sync_directory(directory: &OwnedFd) -> io::Result<()> {
    match rustix::fs::fsync(directory) {
        // SMB and a few others cannot flush directories at all; their servers keep names as they see fit.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Returns the length of the object with this name, or nothing if there is none.
fn object_bytes(directory: &OwnedFd, name: &str) -> io::Result<Option<u64>> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(None),
        stat => regular_bytes(&stat?),
    }
}

/// Returns the type of an entry, which few file systems do not tell while they list; nothing if it is gone by now.
fn file_type(directory: &OwnedFd, entry: &DirEntry) -> io::Result<Option<FileType>> {
    match entry.file_type() {
        FileType::Unknown => {
            match rustix::fs::statat(directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => Ok(None),
                stat => Ok(Some(FileType::from_raw_mode(stat?.st_mode))),
            }
        }
        known => Ok(Some(known)),
    }
}

/// Returns the length of a regular file, and nothing for a directory.
fn regular_bytes(stat: &Stat) -> io::Result<Option<u64>> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => u64::try_from(stat.st_size).map(Some).map_err(io::Error::other),
        FileType::Directory => Ok(None),
        other => Err(not_an_object(other)),
    }
}

/// Skipped, a link to packs that were moved elsewhere would look like no packs.
fn not_an_object(found: FileType) -> io::Error {
    io::Error::other(format!("it is a {found:?}, not a file or directory"))
}

fn name_entry(key: &ObjectKey, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{key}: {error}"))
}
