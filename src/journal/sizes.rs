//! What stores take, as it was measured last.

use jiff::Timestamp;
use rusqlite::OptionalExtension;

use super::{Journal, JournalError, clamp, time};

/// What a store takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreSize {
    /// Bytes of its packs; all else is small.
    pub bytes: u64,
    /// When that was measured.
    pub measured: Timestamp,
}

impl Journal {
    /// Records what the store at a place takes.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn record_store_size(&self, place: &str, size: StoreSize) -> Result<(), JournalError> {
        let sql = "INSERT INTO store_sizes (place, measured, bytes) VALUES (?1, ?2, ?3)
                   ON CONFLICT DO UPDATE SET measured = excluded.measured, bytes = excluded.bytes";
        let connection = self.connection();
        connection
            .prepare_cached(sql)
            .and_then(|mut statement| {
                statement.execute((place, size.measured.as_millisecond(), clamp(size.bytes)))
            })
            .map(drop)
            .map_err(JournalError::database("update", &self.path))
    }

    /// Returns what the store at a place took when that was measured last.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is damaged.
    pub fn store_size(&self, place: &str) -> Result<Option<StoreSize>, JournalError> {
        let sql = "SELECT measured, bytes FROM store_sizes WHERE place = ?1";
        let connection = self.connection();
        connection
            .prepare_cached(sql)
            .and_then(|mut statement| {
                let read = |row: &rusqlite::Row<'_>| {
                    Ok(StoreSize { measured: time(row.get(0)?), bytes: row.get(1)? })
                };
                statement.query_row((place,), read).optional()
            })
            .map_err(JournalError::database("read", &self.path))
    }
}
