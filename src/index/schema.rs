//! Tables of the index, their migrations, and how a file is recognised as this store's.
//!
//! What decides the layout is ten million chunks. A chunk id is 32 bytes, and stands once, in the chunk list of
//! its frame; the tables that are searched by id hold 47 bits of it and the frame's key, which is 22 bytes a
//! row. A match is compared in full in the chunk list, and a false match costs one more read.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::error::bad_row;
use super::similar::fill_features;
use crate::crypto::seal::SealKey;
use crate::id::{DomainId, StoreId};

/// Marks the file as an index of this program: `YSTI`.
const APPLICATION_ID: i32 = 0x5953_5449;

/// Step n brings a file from `user_version` n to n + 1.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE meta (
        one        INTEGER PRIMARY KEY CHECK (one = 1),
        store      BLOB NOT NULL,
        domain     BLOB NOT NULL,
        key_check  BLOB NOT NULL,
        first_pack INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE index_objects (
        id  INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE
    ) STRICT;

    -- Several index objects may name one pack: each has a row of its own, which vanishes with it.
    CREATE TABLE packs (
        id           INTEGER PRIMARY KEY AUTOINCREMENT,
        object       INTEGER NOT NULL REFERENCES index_objects,
        pack_id      BLOB NOT NULL,
        kind         INTEGER NOT NULL,
        bytes        INTEGER NOT NULL,
        class        INTEGER NOT NULL,
        writer_id    BLOB NOT NULL,
        host         TEXT NOT NULL,
        header_hash  BLOB NOT NULL,
        header_bytes INTEGER NOT NULL,
        key          BLOB NOT NULL,
        chunks       INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX packs_by_id ON packs (pack_id);
    CREATE INDEX packs_by_object ON packs (object);

    -- id is packs.id << 16 | number of the frame.
    CREATE TABLE frames (
        id       INTEGER PRIMARY KEY,
        offset   INTEGER NOT NULL,
        stored   INTEGER NOT NULL,
        encoding INTEGER NOT NULL,
        base     BLOB,
        features BLOB,
        chunks   BLOB NOT NULL
    ) STRICT;

    CREATE TABLE frame_names (
        prefix INTEGER NOT NULL,
        frame  INTEGER NOT NULL,
        PRIMARY KEY (prefix, frame)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE chunks (
        prefix INTEGER NOT NULL,
        frame  INTEGER NOT NULL,
        PRIMARY KEY (prefix, frame)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE series (
        id   INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE
    ) STRICT;

    CREATE TABLE known_files (
        id        INTEGER PRIMARY KEY,
        series    INTEGER NOT NULL REFERENCES series,
        directory BLOB NOT NULL,
        files     BLOB NOT NULL,
        UNIQUE (series, directory)
    ) STRICT;

    CREATE TABLE objects (
        id    INTEGER PRIMARY KEY,
        key   TEXT NOT NULL UNIQUE,
        bytes BLOB NOT NULL
    ) STRICT;
",
    // Super-features of the frames that a delta may be based on.
    "
    CREATE TABLE features (
        prefix INTEGER NOT NULL,
        frame  INTEGER NOT NULL,
        PRIMARY KEY (prefix, frame)
    ) STRICT, WITHOUT ROWID;
",
    // Copies of small objects with their keys.
    "
    DROP TABLE objects;
    CREATE TABLE objects (
        id         INTEGER PRIMARY KEY,
        key        TEXT NOT NULL UNIQUE,
        bytes      BLOB NOT NULL,
        object_key BLOB NOT NULL
    ) STRICT;
",
    // Packs that were found damaged or missing.
    "
    CREATE TABLE distrusted (
        pack_id BLOB PRIMARY KEY
    ) STRICT, WITHOUT ROWID;
",
];
/// Files of older versions have their frames' features in no table by themselves.
const FEATURES_VERSION: usize = 2;

/// Whose index a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    store: StoreId,
    domain: DomainId,
    /// Tells whether the key that wraps the keys of objects is the same, and nothing about it.
    key_check: [u8; 32],
}

impl Identity {
    pub(super) fn new(store: StoreId, domain: DomainId, cache_key: &SealKey) -> Self {
        let key_check = *blake3::keyed_hash(cache_key.expose(), b"yester index key check").as_bytes();
        Self { store, domain, key_check }
    }
}

/// What [`prepare`] made of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prepared {
    /// It is ready, at the newest schema.
    Ready,
    /// It is somebody else's, or of a newer program. It was left as it is.
    Foreign,
}

/// Brings the schema up to date, or creates it in an empty file.
pub(super) fn prepare(connection: &mut Connection, identity: &Identity) -> rusqlite::Result<Prepared> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let application: i32 = transaction.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: usize = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: u32 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let new = application == 0 && version == 0 && tables == 0;
    if !new && (application != APPLICATION_ID || version == 0) {
        return Ok(Prepared::Foreign);
    }
    let Some(steps) = MIGRATIONS.get(version..) else { return Ok(Prepared::Foreign) };
    if !new && *identity != read_identity(&transaction)? {
        return Ok(Prepared::Foreign);
    }
    for step in steps {
        transaction.execute_batch(step)?;
    }
    if new {
        write_identity(&transaction, identity)?;
    } else if version < FEATURES_VERSION {
        fill_features(&transaction)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", MIGRATIONS.len())?;
    transaction.commit()?;
    Ok(Prepared::Ready)
}

fn read_identity(connection: &Connection) -> rusqlite::Result<Identity> {
    connection
        .query_row("SELECT store, domain, key_check FROM meta", [], |row| {
            Ok(Identity {
                store: StoreId::from_bytes(row.get(0)?),
                domain: DomainId::from_bytes(row.get(1)?),
                key_check: row.get(2)?,
            })
        })
        .optional()?
        .ok_or_else(|| bad_row("identity"))
}

fn write_identity(connection: &Connection, identity: &Identity) -> rusqlite::Result<()> {
    let first_pack = random_first_pack()?;
    connection.execute(
        "INSERT INTO meta (one, store, domain, key_check, first_pack) VALUES (1, ?1, ?2, ?3, ?4)",
        (identity.store.as_bytes(), identity.domain.as_bytes(), identity.key_check, first_pack),
    )?;
    connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('packs', ?1)", [first_pack - 1])?;
    Ok(())
}

/// Draws where pack rows begin to count: 44 bits, so that neither a frame's key ever overflows nor the rows of
/// two files ever meet.
fn random_first_pack() -> rusqlite::Result<i64> {
    let random = getrandom::u64().map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    Ok((random >> 20).cast_signed() + 1)
}
