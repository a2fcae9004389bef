//! What is known of packs from verifying them: what lets a verification of a part begin with what waited longest.

use std::collections::HashMap;

use jiff::Timestamp;
use rusqlite::TransactionBehavior;

use super::{Journal, JournalError, time};
use crate::id::{PackId, StoreId};

/// A store at one place. A copy of it elsewhere has the same id and the same packs, and each of them can be damaged
/// by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorePlace {
    /// The store.
    pub store: StoreId,
    /// Where it is, as its pin has it.
    pub location: String,
}

/// What is known of a pack at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PackState {
    /// When it was last found whole from this host.
    pub whole: Option<Timestamp>,
    /// Whether it was damaged, or could not be read, when that was tried last.
    pub is_suspect: bool,
}

impl Journal {
    /// Returns what is known of each pack of a store.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is damaged.
    pub fn verified_packs(&self, place: &StorePlace) -> Result<HashMap<PackId, PackState>, JournalError> {
        let sql = "SELECT pack, whole, suspect FROM verified_packs WHERE store = ?1 AND location = ?2";
        let connection = self.connection();
        connection
            .prepare_cached(sql)
            .and_then(|mut statement| {
                let read = |row: &rusqlite::Row<'_>| {
                    let whole = row.get::<_, Option<i64>>(1)?.map(time);
                    Ok((PackId::from_bytes(row.get(0)?), PackState { whole, is_suspect: row.get(2)? }))
                };
                statement.query_map((place.store.as_bytes(), &place.location), read)?.collect()
            })
            .map_err(JournalError::database("read", &self.path))
    }

    /// Records that packs of a store were found whole at `time`.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn record_whole(
        &self,
        place: &StorePlace,
        packs: &[PackId],
        time: Timestamp,
    ) -> Result<(), JournalError> {
        let sql =
            "INSERT INTO verified_packs (store, location, pack, whole, suspect) VALUES (?1, ?2, ?3, ?4, 0)
                   ON CONFLICT DO UPDATE SET whole = excluded.whole, suspect = 0";
        let (store, location) = (place.store.as_bytes(), &place.location);
        self.for_each_pack(packs, sql, |pack| (store, location, *pack.as_bytes(), time.as_millisecond()))
    }

    /// Records that packs of a store were damaged or could not be read. When they were whole is kept.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn record_suspect(&self, place: &StorePlace, packs: &[PackId]) -> Result<(), JournalError> {
        let sql =
            "INSERT INTO verified_packs (store, location, pack, whole, suspect) VALUES (?1, ?2, ?3, NULL, 1)
                   ON CONFLICT DO UPDATE SET suspect = 1";
        self.for_each_pack(packs, sql, |pack| (place.store.as_bytes(), &place.location, *pack.as_bytes()))
    }

    /// Forgets packs that the store does not hold any more.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn forget_packs(&self, place: &StorePlace, packs: &[PackId]) -> Result<(), JournalError> {
        let sql = "DELETE FROM verified_packs WHERE store = ?1 AND location = ?2 AND pack = ?3";
        self.for_each_pack(packs, sql, |pack| (place.store.as_bytes(), &place.location, *pack.as_bytes()))
    }

    /// Runs a statement for each pack, in one transaction: all of it is durable at once.
    fn for_each_pack<P: rusqlite::Params>(
        &self,
        packs: &[PackId],
        sql: &str,
        parameters: impl Fn(&PackId) -> P,
    ) -> Result<(), JournalError> {
        let mut connection = self.connection();
        let mut run = || -> rusqlite::Result<()> {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            {
                let mut statement = transaction.prepare_cached(sql)?;
                for pack in packs {
                    statement.execute(parameters(pack))?;
                }
            }
            transaction.commit()
        };
        if packs.is_empty() { Ok(()) } else { run().map_err(JournalError::database("update", &self.path)) }
    }
}
