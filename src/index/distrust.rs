//! Packs that were found damaged or missing: sessions of this host store what they hold anew, and readers try them last.
//!
//! Like all of the index this is a cache: what it says can be found out again by reading the packs, and a pack that was
//! mended is distrusted until somebody reads it. That costs space and never a backup.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use super::{Index, IndexError};
use crate::id::PackId;

/// What is distrusted, as far as this process has heard.
#[derive(Default)]
pub(super) struct Distrust {
    packs: RwLock<HashSet<PackId>>,
    changes: AtomicU64,
}

impl Distrust {
    pub(super) fn lock(&self) -> RwLockReadGuard<'_, HashSet<PackId>> {
        self.packs.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut HashSet<PackId>)) {
        change(&mut self.packs.write().unwrap_or_else(PoisonError::into_inner));
        self.changes.fetch_add(1, Ordering::Release);
    }
}

impl Index {
    /// Takes note that packs are damaged or missing.
    ///
    /// # Errors
    /// Fails if the file cannot be written or is damaged; this process distrusts them all the same.
    pub fn distrust(&self, packs: &[PackId]) -> Result<(), IndexError> {
        if packs.iter().all(|pack| self.is_distrusted(pack)) {
            return Ok(());
        }
        self.distrust.change(|distrusted| distrusted.extend(packs));
        self.pool.write(|transaction| {
            let mut statement = transaction
                .prepare_cached("INSERT INTO distrusted (pack_id) VALUES (?1) ON CONFLICT DO NOTHING")?;
            packs.iter().try_for_each(|pack| statement.execute([pack.as_bytes()]).map(drop))
        })
    }

    /// Takes note that packs were found whole.
    ///
    /// # Errors
    /// Fails if the file cannot be written or is damaged.
    pub fn trust(&self, packs: &[PackId]) -> Result<(), IndexError> {
        if !packs.iter().any(|pack| self.is_distrusted(pack)) {
            return Ok(());
        }
        self.pool.write(|transaction| {
            let mut statement = transaction.prepare_cached("DELETE FROM distrusted WHERE pack_id = ?1")?;
            packs.iter().try_for_each(|pack| statement.execute([pack.as_bytes()]).map(drop))
        })?;
        self.distrust.change(|distrusted| distrusted.retain(|pack| !packs.contains(pack)));
        Ok(())
    }

    /// Tells whether a pack is distrusted, as far as this process has heard.
    #[must_use]
    pub fn is_distrusted(&self, pack: &PackId) -> bool {
        self.distrust.lock().contains(pack)
    }

    /// Returns all packs that are distrusted, as far as this process has heard.
    #[must_use]
    pub fn distrusted(&self) -> HashSet<PackId> {
        self.distrust.lock().clone()
    }

    /// Returns a number that is another one after each change.
    #[must_use]
    pub fn distrust_changes(&self) -> u64 {
        self.distrust.changes.load(Ordering::Acquire)
    }

    /// Hears what other processes have found out.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is damaged.
    pub fn hear_distrust(&self) -> Result<(), IndexError> {
        let heard: HashSet<PackId> = self.pool.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT pack_id FROM distrusted")?;
            let packs = statement.query_map([], |row| row.get(0).map(PackId::from_bytes))?;
            packs.collect()
        })?;
        if *self.distrust.lock() != heard {
            self.distrust.change(|distrusted| *distrusted = heard);
        }
        Ok(())
    }

    /// Forgets all of it, with the rows.
    pub(super) fn clear_distrust(&self) {
        if !self.distrust.lock().is_empty() {
            self.distrust.change(HashSet::clear);
        }
    }
}
