//! Bringing the local index up to date with the store as a whole, and making it anew when it is damaged.
//!
//! This is for those who must know all of it: sessions, collections, `verify`. Readers take of it what they need, through
//! `feed`.

use std::time::Duration;

use super::index_objects::{Brought, Damaged, Haste};
use super::{RepoError, Repository};
use crate::crypto::secrets::Writer;
use crate::format::index_object::IndexObject;
use crate::id::PackId;
use crate::store::StoreErrorKind;
use crate::store::key::ObjectKey;

/// How often all index objects are listed and read anew, where some are replaced meanwhile.
const ATTEMPTS_MAX: usize = 10;

impl Repository {
    /// Brings the index up to date with the index objects that the store lists.
    ///
    /// An index object that does not open is left out with a warning: `verify` reports it, and what the others
    /// name stays readable. An ingest-only host can open none, its own neither: it knows those that its sessions put into
    /// the index themselves, as long as the store lists them.
    ///
    /// # Errors
    /// Fails if the store cannot be listed or the index not be written.
    pub fn refresh(&self) -> Result<(), RepoError> {
        #[cfg(test)]
        if super::flaw::Flaw::TrustsOldIndex.is_back() {
            return Ok(());
        }
        match self.bring_up_to_date(Damaged::LeftOut) {
            Err(error) if self.mend(&error)? => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Begins to bring the index up to date as [`Self::refresh`] does, while others read.
    pub fn follow(&self) {
        self.feed.follow();
    }

    /// Waits until what [`Self::follow`] began is done, at most so long.
    pub fn wait_until_followed(&self, patience: Duration) {
        self.feed.wait_until_followed(patience);
    }

    /// Brings the index up to date as [`Self::refresh`] does, and leaves nothing out: until every index object of one
    /// listing was read.
    ///
    /// # Errors
    /// [`RepoError::Damaged`] if an index object does not open, [`RepoError::StaleIndex`] if they are replaced faster
    /// than they are read.
    pub fn refresh_strictly(&self) -> Result<(), RepoError> {
        for _ in 0..ATTEMPTS_MAX {
            let brought = match self.bring_up_to_date(Damaged::Refused) {
                Err(error) if self.mend(&error)? => self.bring_up_to_date(Damaged::Refused)?,
                other => other?,
            };
            if brought == Brought::All {
                return Ok(());
            }
        }
        Err(RepoError::StaleIndex)
    }

    /// Makes the index anew from the store if `error` says that it is damaged. Tells whether it did: what failed
    /// can be tried again then.
    ///
    /// # Errors
    /// Fails if the store cannot be listed or the index not be written.
    pub fn mend(&self, error: &RepoError) -> Result<bool, RepoError> {
        match error {
            RepoError::Index(error) if error.is_corrupt() => {
                tracing::warn!("the local index is damaged and is made anew: {error}");
                if self.is_ingest_only() {
                    tracing::warn!(
                        "the next backup uploads everything once more: this key reads nothing back"
                    );
                }
                self.index.reset()?;
                self.bring_up_to_date(Damaged::LeftOut)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn bring_up_to_date(&self, damaged: Damaged) -> Result<Brought, RepoError> {
        self.index.hear_distrust()?;
        let new = self.index_objects.list_new()?;
        self.index_objects.bring(new, damaged, Haste::None, &mut || {})
    }

    /// Reads an index object from the store, of such a length if a listing told it; nothing if it is gone.
    ///
    /// # Errors
    /// [`RepoError::Damaged`] if it does not open, else any failure of the store.
    pub fn index_object(
        &self,
        key: &ObjectKey,
        listed_bytes: Option<u64>,
    ) -> Result<Option<IndexObject>, RepoError> {
        match self.index_objects.open(key, listed_bytes, Damaged::Refused) {
            Err(RepoError::Store(error)) if error.kind() == StoreErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    /// Returns the packs that an ingest-only writer lists as its own and that are not: see
    /// [`super::index_objects::IndexObjects::false_claims`].
    ///
    /// # Errors
    /// Any failure of the store but that a pack is not there, or cut short.
    pub(crate) fn false_claims(
        &self,
        writer: &Writer,
        object: &IndexObject,
    ) -> Result<Vec<PackId>, RepoError> {
        self.index_objects.false_claims(writer, object)
    }
}
