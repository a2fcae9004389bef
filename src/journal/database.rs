//! The file of the journal: its tables, its migrations, and what happens to a damaged one.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::JournalError;

/// Marks the file as a journal of this program: `YSTJ`.
const APPLICATION_ID: i32 = 0x5953_544a;
/// How long a writer waits for another one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(60);

/// Step n brings a file from `user_version` n to n + 1.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE runs (
        id            INTEGER PRIMARY KEY AUTOINCREMENT,
        store         BLOB NOT NULL,
        operation     TEXT NOT NULL,
        source        TEXT NOT NULL,
        started       INTEGER NOT NULL, -- milliseconds since 1970
        finished      INTEGER,
        outcome       INTEGER,          -- 1 succeeded, 2 partial, 3 failed; NULL until it ended
        snapshot      TEXT,
        bytes         INTEGER NOT NULL DEFAULT 0,
        added_bytes   INTEGER NOT NULL DEFAULT 0,
        message       TEXT NOT NULL DEFAULT '',
        pid           INTEGER NOT NULL,
        process_start INTEGER NOT NULL,
        boot          TEXT NOT NULL
    ) STRICT;
",
    "
    CREATE TABLE verified_packs (
        store    BLOB NOT NULL,
        location TEXT NOT NULL,
        pack     BLOB NOT NULL,
        whole    INTEGER,          -- milliseconds since 1970; NULL if it never was
        suspect  INTEGER NOT NULL, -- 1 if it was damaged or could not be read when that was tried last
        PRIMARY KEY (store, location, pack)
    ) STRICT, WITHOUT ROWID;
",
    // Outcome 4 is new: a suspicious dump. Of a store that was not opened the id is empty.
    "
    ALTER TABLE runs ADD COLUMN place TEXT NOT NULL DEFAULT '';
    CREATE INDEX runs_by_source ON runs (operation, source, started);
    CREATE TABLE incidents (
        id       INTEGER PRIMARY KEY AUTOINCREMENT,
        rule     TEXT NOT NULL,
        subject  TEXT NOT NULL,
        severity INTEGER NOT NULL, -- 1 info, 2 warning, 3 critical
        began    INTEGER NOT NULL, -- milliseconds since 1970, as all times
        since    INTEGER NOT NULL, -- when it became of this severity
        ended    INTEGER,
        text     TEXT NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX open_incidents ON incidents (rule, subject) WHERE ended IS NULL;
    CREATE TABLE notices (
        incident INTEGER NOT NULL REFERENCES incidents (id),
        alert    TEXT NOT NULL,
        severity INTEGER NOT NULL, -- the gravest that was told; 0 for its end
        told     INTEGER NOT NULL,
        PRIMARY KEY (incident, alert, severity)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE undelivered (
        alert    TEXT PRIMARY KEY,
        since    INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        error    TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE store_sizes (
        place    TEXT PRIMARY KEY,
        measured INTEGER NOT NULL,
        bytes    INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
",
];

/// What a file was found to be.
enum Found {
    /// A journal at the newest schema.
    Ready,
    /// A journal of a newer program.
    TooNew,
    /// A database of another kind.
    Foreign,
}

/// Opens or creates the file; returns where a damaged one was put.
pub(super) fn open(path: &Path) -> Result<(Connection, Option<PathBuf>), JournalError> {
    let folder_error = || JournalError::folder(path);
    create_folder(path).map_err(folder_error())?;
    let _lock = lock_file(path).map_err(folder_error())?;
    create_file(path).map_err(folder_error())?;
    match open_database(path) {
        Ok((connection, Found::Ready)) => return Ok((connection, None)),
        Ok((_, Found::TooNew)) => return Err(JournalError::TooNew { path: path.display().to_string() }),
        Ok((connection, Found::Foreign)) => drop(connection),
        Err(error) if is_damage(&error) => {}
        Err(error) => return Err(JournalError::database("open", path)(error)),
    }
    let set_aside = rename_files(path).map_err(folder_error())?;
    create_file(path).map_err(folder_error())?;
    let (connection, _) = open_database(path).map_err(JournalError::database("open", path))?;
    Ok((connection, Some(set_aside)))
}

/// `synchronous = FULL`: what a finished run said must survive a power cut, and runs are few.
fn open_database(path: &Path) -> rusqlite::Result<(Connection, Found)> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    let found = migrate(&mut connection)?;
    Ok((connection, found))
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<Found> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let application: i32 = transaction.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: usize = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: u32 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let new = application == 0 && version == 0 && tables == 0;
    if !new && application != APPLICATION_ID {
        return Ok(Found::Foreign);
    }
    let Some(steps) = MIGRATIONS.get(version..) else { return Ok(Found::TooNew) };
    for step in steps {
        transaction.execute_batch(step)?;
    }
    transaction.query_row("SELECT count(*) FROM (SELECT id FROM runs LIMIT 1)", [], |_| Ok(()))?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", MIGRATIONS.len())?;
    transaction.commit()?;
    Ok(Found::Ready)
}

fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error as E;
    match error {
        E::SqliteFailure(failure, _) | E::SqlInputError { error: failure, .. } => {
            matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown)
        }
        E::FromSqlConversionFailure(..) | E::IntegralValueOutOfRange(..) | E::InvalidColumnType(..) => true,
        _ => false,
    }
}

fn create_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)
        }
        _ => Ok(()),
    }
}

/// Keeps other processes from opening or renaming the file until the result is dropped.
fn lock_file(path: &Path) -> io::Result<File> {
    let lock = with_suffix(path, ".lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(lock)?;
    file.lock()?;
    Ok(file)
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

/// Renames the file and its write-ahead log, so that tools can salvage both, and returns the new name.
fn rename_files(path: &Path) -> io::Result<PathBuf> {
    let time = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let free = |suffix: &String| !with_suffix(path, suffix).exists();
    let suffix = std::iter::once(format!(".damaged-{time}"))
        .chain((1..).map(|number: u32| format!(".damaged-{time}-{number}")))
        .find(free)
        .unwrap_or_default();
    let target = with_suffix(path, &suffix);
    // The log goes first: beside a new, empty file SQLite would delete it.
    for (from, to) in [("-wal", "-wal"), ("-shm", "-shm"), ("", "")] {
        match std::fs::rename(with_suffix(path, from), with_suffix(&target, to)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(target)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut text = OsString::from(path);
    text.push(suffix);
    text.into()
}
