//! Copies of small objects (manifests and marks), sealed as they lie in the store.
//!
//! They are kept sealed, each with its own key, wrapped: the file gives nothing away, and what is read from it is
//! authenticated, without the asymmetric cryptography that takes most of the time where there are a thousand snapshots.
//! Which of them still count is for the caller to say.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;

use super::rows::for_each_row;
use super::{Index, IndexError, wrapped_key};
use crate::crypto::seal::SealKey;

/// The copy of a small object.
pub struct CachedObject {
    /// What lies in the store.
    pub bytes: Vec<u8>,
    /// The key that opens it.
    pub key: SealKey,
}

/// A copy that is to be kept.
pub struct NewObject {
    /// The object's key in the store.
    pub store_key: String,
    /// The copy.
    pub object: CachedObject,
}

impl Index {
    /// Returns all copies whose store key starts with `prefix`, by store key.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is damaged.
    pub fn cached_objects(&self, prefix: &str) -> Result<BTreeMap<String, CachedObject>, IndexError> {
        self.pool.read(|connection| {
            let mut copies = BTreeMap::new();
            let mut statement = connection.prepare_cached(
                "SELECT key, bytes, object_key FROM objects WHERE key >= ?1 AND key < ?1 || char(0x10FFFF)",
            )?;
            for_each_row(statement.query([prefix])?, |row| {
                let store_key: String = row.get(0)?;
                let wrapped = row.get_ref(2)?.as_blob()?;
                // A copy whose key does not unwrap is as good as not there: the object is read from the store again.
                if let Ok(key) = wrapped_key::unwrap(&self.cache_key, store_key.as_bytes(), wrapped) {
                    copies.insert(store_key, CachedObject { bytes: row.get(1)?, key });
                }
                Ok(())
            })?;
            Ok(copies)
        })
    }

    /// Returns the store keys of all copies that start with `prefix`.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is damaged.
    pub fn cached_keys(&self, prefix: &str) -> Result<BTreeSet<String>, IndexError> {
        self.pool.read(|connection| keys_below(connection, prefix))
    }

    /// Keeps copies of objects with the keys that open them, in one transaction.
    ///
    /// # Errors
    /// Fails if the file cannot be written or is damaged.
    pub fn cache_objects(&self, objects: &[NewObject]) -> Result<(), IndexError> {
        self.pool.write(|transaction| {
            let mut statement = transaction.prepare_cached(
                "INSERT INTO objects (key, bytes, object_key) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET bytes = excluded.bytes, object_key = excluded.object_key",
            )?;
            for NewObject { store_key, object } in objects {
                let wrapped = wrapped_key::wrap(&self.cache_key, store_key.as_bytes(), &object.key)?;
                statement.execute((store_key, &object.bytes, wrapped))?;
            }
            Ok(())
        })
    }

    /// Drops all copies whose store key starts with `prefix` and is not in `keep`.
    ///
    /// # Errors
    /// Fails if the file cannot be written or is damaged.
    pub fn retain_objects(&self, prefix: &str, keep: &BTreeSet<String>) -> Result<(), IndexError> {
        self.pool.write(|transaction| {
            for key in keys_below(transaction, prefix)?.difference(keep) {
                transaction.prepare_cached("DELETE FROM objects WHERE key = ?1")?.execute([key])?;
            }
            Ok(())
        })
    }
}

fn keys_below(connection: &Connection, prefix: &str) -> rusqlite::Result<BTreeSet<String>> {
    let mut keys = BTreeSet::new();
    let mut statement = connection
        .prepare_cached("SELECT key FROM objects WHERE key >= ?1 AND key < ?1 || char(0x10FFFF)")?;
    for_each_row(statement.query([prefix])?, |row| {
        keys.insert(row.get(0)?);
        Ok(())
    })?;
    Ok(keys)
}
