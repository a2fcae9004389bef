//! Bringing the local index up to date with the store, and making it anew when it is damaged.

use std::collections::BTreeMap;

use super::{RepoError, Repository, get_small};
use crate::format::index_object::IndexObject;
use crate::store::StoreErrorKind;
use crate::store::key::{ObjectKey, Prefix};

impl Repository {
    /// Brings the index up to date with the index objects that the store lists.
    ///
    /// An index object that does not open is left out with a warning: `verify` reports it, and what the others
    /// name stays readable.
    ///
    /// # Errors
    /// Fails if the store cannot be listed or the index not be written.
    pub fn refresh(&self) -> Result<(), RepoError> {
        match self.bring_up_to_date() {
            Err(error) if self.mend(&error)? => Ok(()),
            other => other,
        }
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
                self.index.reset()?;
                self.bring_up_to_date()?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn bring_up_to_date(&self) -> Result<(), RepoError> {
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
        for (key, length) in new {
            self.apply_index_object(&key, length)?;
        }
        Ok(())
    }

    fn apply_index_object(&self, key: &ObjectKey, length: Option<u64>) -> Result<(), RepoError> {
        let max_bytes = usize::try_from(IndexObject::MAX_BYTES).unwrap_or(usize::MAX);
        let opened = get_small(self.store.as_ref(), key, length, max_bytes).and_then(|bytes| {
            IndexObject::open(&self.keys, key.as_str(), &bytes)
                .map_err(|error| RepoError::Damaged { object: key.to_string(), source: Some(error) })
        });
        match opened {
            Ok((_, object)) => Ok(self.index.apply(key.as_str(), &object)?),
            // Superseded since it was listed.
            Err(RepoError::Store(error)) if error.kind() == StoreErrorKind::NotFound => Ok(()),
            Err(RepoError::Damaged { object, source }) => {
                let why = source.map(|source| format!(": {source}")).unwrap_or_default();
                tracing::warn!("{object} is damaged and was left out{why}; run `yester verify`");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
