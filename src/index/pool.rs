//! The connections to the file: one that writes, a few that read, and how the file is opened and replaced.
//!
//! Readers do not wait for each other or for the writer (WAL), so the threads of a mount are not serialised.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::error::{IndexError, is_damage};
use super::schema::{Identity, Prepared, prepare};

/// How long a writer waits for another one: a large index object takes tens of seconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(60);
/// Readers that are kept for the next lookup; more are opened while more threads ask.
const IDLE_READERS_MAX: usize = 8;
/// Page cache of a reader. The kernel caches the file too, and this memory is counted as ours.
const READER_CACHE_KIB: i64 = 2 * 1024;
/// Page cache of the writer: inserts are sorted, so that a page is visited once.
const WRITER_CACHE_KIB: i64 = 16 * 1024;
/// What the write-ahead log is cut back to after a large transaction.
const JOURNAL_LIMIT_BYTES: i64 = 64 << 20;

/// The connections to one file.
pub(super) struct Pool {
    path: PathBuf,
    identity: Identity,
    writer: Mutex<Connection>,
    readers: Mutex<Readers>,
}

/// Readers at rest, all of the same file.
struct Readers {
    file: FileId,
    idle: Vec<Connection>,
}

/// Device and inode: tells whether a path still leads to the file that was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId(u64, u64);

impl FileId {
    fn of(path: &Path) -> io::Result<Self> {
        path.metadata().map(|metadata| Self(metadata.dev(), metadata.ino()))
    }
}

impl Pool {
    /// Opens or creates the file, and tells whether an unusable one was deleted.
    pub(super) fn open(path: &Path, identity: Identity) -> Result<(Self, bool), IndexError> {
        create_folder(path).map_err(IndexError::folder(path))?;
        let _lock = lock_file(path).map_err(IndexError::folder(path))?;
        let (writer, rebuilt) = open_or_replace(path, &identity)?;
        let file = FileId::of(path).map_err(IndexError::folder(path))?;
        let readers = Mutex::new(Readers { file, idle: Vec::new() });
        Ok((Self { path: path.to_owned(), identity, writer: Mutex::new(writer), readers }, rebuilt))
    }

    /// Runs `work` on a reader. Each statement of it sees what was committed before it began.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, IndexError> {
        let (idle, file) = {
            let mut readers = lock(&self.readers);
            (readers.idle.pop(), readers.file)
        };
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.open_reader(file)?,
        };
        let result = work(&mut connection).map_err(IndexError::database("read", &self.path));
        let mut readers = lock(&self.readers);
        if result.is_ok() && readers.file == file && readers.idle.len() < IDLE_READERS_MAX {
            readers.idle.push(connection);
        }
        result
    }

    /// Runs `work` in one transaction, after those of all other writers, and commits it if it succeeds.
    pub(super) fn write<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, IndexError> {
        let mut writer = lock(&self.writer);
        let run = || {
            let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        run().map_err(IndexError::database("update", &self.path))
    }

    /// Deletes the file and makes it anew, unless another process did so already.
    pub(super) fn reset(&self) -> Result<(), IndexError> {
        let mut writer = lock(&self.writer);
        let _lock = lock_file(&self.path).map_err(IndexError::folder(&self.path))?;
        let ours = lock(&self.readers).file;
        if FileId::of(&self.path).is_ok_and(|file| file == ours) {
            delete_files(&self.path).map_err(IndexError::folder(&self.path))?;
        }
        let (connection, _) = open_or_replace(&self.path, &self.identity)?;
        let file = FileId::of(&self.path).map_err(IndexError::folder(&self.path))?;
        *lock(&self.readers) = Readers { file, idle: Vec::new() };
        *writer = connection;
        Ok(())
    }

    fn open_reader(&self, expected: FileId) -> Result<Connection, IndexError> {
        let open = || {
            let connection = open_connection(&self.path, READER_CACHE_KIB)?;
            connection.pragma_update(None, "query_only", true)?;
            Ok(connection)
        };
        let connection = open().map_err(IndexError::database("open", &self.path))?;
        // Checked after opening: a file that is replaced later is still the expected one, under no name.
        if FileId::of(&self.path).map_err(IndexError::folder(&self.path))? != expected {
            return Err(IndexError::Replaced { path: self.path.display().to_string() });
        }
        Ok(connection)
    }
}

/// A panic of another thread leaves the connections usable: an open transaction is rolled back when dropped.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens the file; what cannot be used is deleted, and the second value tells so. Needs the lock file.
fn open_or_replace(path: &Path, identity: &Identity) -> Result<(Connection, bool), IndexError> {
    create_file(path).map_err(IndexError::folder(path))?;
    match open_writer(path, identity) {
        Ok((connection, Prepared::Ready)) => return Ok((connection, false)),
        Ok((connection, Prepared::Foreign)) => drop(connection),
        Err(error) if is_damage(&error) => {}
        Err(error) => return Err(IndexError::database("open", path)(error)),
    }
    delete_files(path).and_then(|()| create_file(path)).map_err(IndexError::folder(path))?;
    match open_writer(path, identity).map_err(IndexError::database("open", path))? {
        (connection, Prepared::Ready) => Ok((connection, true)),
        (_, Prepared::Foreign) => Err(IndexError::Replaced { path: path.display().to_string() }),
    }
}

/// Creates an empty file that only its owner may read; SQLite gives its other files the same mode.
///
/// Never opens a file that exists: closing it would drop the locks that connections of this process hold.
fn create_file(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn open_writer(path: &Path, identity: &Identity) -> rusqlite::Result<(Connection, Prepared)> {
    let mut connection = open_connection(path, WRITER_CACHE_KIB)?;
    let prepared = prepare(&mut connection, identity)?;
    Ok((connection, prepared))
}

/// Opens a connection with the settings that all share.
///
/// `synchronous = NORMAL`: a power cut may lose the last transactions but not damage the file, and what is lost
/// is read again from the store. No memory map: pages of it would count as ours, and a failing disk would
/// end the process with a signal instead of an error.
fn open_connection(path: &Path, cache_kib: i64) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.pragma_update(None, "journal_size_limit", JOURNAL_LIMIT_BYTES)?;
    connection.set_prepared_statement_cache_capacity(32);
    // Without this, statements are compiled anew for each value that is bound, in case it suggests another plan.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(connection)
}

fn create_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)
        }
        _ => Ok(()),
    }
}

/// Keeps other processes from opening or replacing the file until the result is dropped.
fn lock_file(path: &Path) -> io::Result<File> {
    let lock = with_suffix(path, ".lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(lock)?;
    file.lock()?;
    Ok(file)
}

/// Deletes the file and what SQLite keeps beside it. Connections that are open keep the old one, and SQLite
/// does not touch the files of the new one when they close.
fn delete_files(path: &Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        match std::fs::remove_file(with_suffix(path, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(suffix);
    text.into()
}
