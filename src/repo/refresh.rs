//! Bringing the local index up to date with the store, and making it anew when it is damaged.

use std::collections::BTreeMap;

use super::{RepoError, Repository, get_small};
use crate::crypto::secrets::{Writer, WriterClass};
use crate::format::FormatError;
use crate::format::header::Header;
use crate::format::index_object::IndexObject;
use crate::id::PackId;
use crate::store::StoreErrorKind;
use crate::store::key::{ObjectKey, Prefix};

/// How often all index objects are listed and read anew, where some are replaced meanwhile.
const ATTEMPTS_MAX: usize = 10;

/// What becomes of an index object that does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damaged {
    /// It is left out, with a warning.
    LeftOut,
    /// It is an error.
    Refused,
}

/// Whether every index object that was listed was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Brought {
    All,
    /// Some were superseded since, and what replaces them may not have been listed.
    NotAll,
}

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
        self.refresh_once().map(|_| ())
    }

    /// Does what [`Self::refresh`] does, and tells whether that was all.
    pub(super) fn refresh_once(&self) -> Result<Brought, RepoError> {
        match self.bring_up_to_date(Damaged::LeftOut) {
            Err(error) if self.mend(&error)? => Ok(Brought::All),
            other => other,
        }
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
        // In this order: what a session of this host applies in between is listed, and is not taken for gone.
        let mut gone = self.index.applied()?;
        let mut new = BTreeMap::new();
        self.store.list(Prefix::Index, &mut |object| {
            if !gone.remove(object.key.as_str()) {
                new.insert(object.key, object.bytes);
            }
        })?;
        if !gone.is_empty() {
            self.index.retract(&gone.into_iter().collect::<Vec<_>>())?;
        }
        if self.is_ingest_only() {
            return Ok(Brought::All);
        }
        let mut brought = Brought::All;
        for (key, length) in new {
            if self.apply_index_object(&key, length, damaged)? == Brought::NotAll {
                brought = Brought::NotAll;
            }
        }
        Ok(brought)
    }

    fn apply_index_object(
        &self,
        key: &ObjectKey,
        length: Option<u64>,
        damaged: Damaged,
    ) -> Result<Brought, RepoError> {
        match self.open_index_object(key, length, damaged) {
            Ok(object) => {
                self.index.apply(key.as_str(), &object)?;
                Ok(Brought::All)
            }
            // Superseded since it was listed.
            Err(RepoError::Store(error)) if error.kind() == StoreErrorKind::NotFound => Ok(Brought::NotAll),
            Err(RepoError::Damaged { object, source }) if damaged == Damaged::LeftOut => {
                let why = source.map(|source| format!(": {source}")).unwrap_or_default();
                tracing::warn!("{object} is damaged and was left out{why}; run `yester verify`");
                Ok(Brought::All)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads an index object from the store; nothing if it is gone.
    ///
    /// # Errors
    /// [`RepoError::Damaged`] if it does not open, else any failure of the store.
    pub fn index_object(&self, key: &ObjectKey) -> Result<Option<IndexObject>, RepoError> {
        match self.open_index_object(key, None, Damaged::Refused) {
            Err(RepoError::Store(error)) if error.kind() == StoreErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    fn open_index_object(
        &self,
        key: &ObjectKey,
        length: Option<u64>,
        damaged: Damaged,
    ) -> Result<IndexObject, RepoError> {
        let max_bytes = usize::try_from(IndexObject::MAX_BYTES).unwrap_or(usize::MAX);
        let bytes = get_small(self.store.as_ref(), key, length, max_bytes)?;
        let (writer, mut object) = IndexObject::open(&self.keys, key.as_str(), &bytes)
            .map_err(|error| RepoError::Damaged { object: key.to_string(), source: Some(error) })?;
        let false_claims = self.false_claims(&writer, &object)?;
        if let Some(pack) = false_claims.first() {
            if damaged == Damaged::Refused {
                return Err(RepoError::Damaged { object: key.to_string(), source: Some(not_its_own(pack)) });
            }
            tracing::warn!(
                "{key} was made on host {:?} and lists packs that are not its own: they were left out",
                writer.host
            );
            object.packs.retain(|pack| !false_claims.contains(&pack.id));
        }
        Ok(object)
    }

    /// Returns the packs that an ingest-only writer lists as its own and that are not, as their headers prove. What it
    /// said of them would stand beside what their writers say, and they might be deleted for it.
    ///
    /// # Errors
    /// Any failure of the store but that a pack is not there, or cut short: nothing of it can be read then.
    pub(crate) fn false_claims(
        &self,
        writer: &Writer,
        object: &IndexObject,
    ) -> Result<Vec<PackId>, RepoError> {
        let mut found = Vec::new();
        if writer.class == WriterClass::Full {
            return Ok(found);
        }
        for pack in &object.packs {
            let header =
                match self.store.get(&ObjectKey::pack(&pack.id), Some(0..u64::from(pack.header_bytes))) {
                    Err(error)
                        if matches!(error.kind(), StoreErrorKind::NotFound | StoreErrorKind::Truncated) =>
                    {
                        continue;
                    }
                    header => header?,
                };
            let is_its_own = Header::decode(&header).is_ok_and(|(header, hash, _)| {
                let key = header.open(pack.kind, &self.keys);
                header.writer == *writer
                    && hash == pack.header_hash
                    && key.is_ok_and(|key| key.expose() == pack.key.expose())
            });
            if !is_its_own {
                found.push(pack.id);
            }
        }
        Ok(found)
    }
}

/// Describes an index object of which one pack is not its writer's.
pub(crate) fn not_its_own(pack: &PackId) -> FormatError {
    FormatError::malformed("an index object", format!("it lists pack {pack}, which its writer did not make"))
}
