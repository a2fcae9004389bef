//! Small objects, of which there may be many: manifests and marks. Each is read from the store once, several at a time,
//! and kept in the index from then on.

use std::collections::{BTreeMap, BTreeSet};

use super::{RepoError, Repository, get_small, parallel};
use crate::crypto::seal::SealKey;
use crate::format::FormatError;
use crate::format::header::{ObjectKind, object_key};
use crate::index::{CachedObject, NewObject};
use crate::store::StoreErrorKind;
use crate::store::key::{ObjectKey, Prefix};

/// Bytes of small objects that are under way at a time.
const BYTES_UNDER_WAY: u64 = 32 << 20;
/// So many new ones are put into the index at a time.
const KEPT_AT_ONCE: usize = 256;

/// A small object that was listed.
pub(super) enum Small<T> {
    Opened(T),
    /// It was deleted since.
    Gone,
    Damaged(FormatError),
}

impl<T> Small<T> {
    /// Leaves out what does not open, with a warning.
    pub(super) fn or_warn(self, key: &ObjectKey) -> Option<T> {
        match self {
            Self::Opened(value) => Some(value),
            Self::Gone => None,
            Self::Damaged(error) => {
                tracing::warn!("{key} is damaged and was left out: {error}; run `yester verify`");
                None
            }
        }
    }
}

/// What all objects under a prefix have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) prefix: Prefix,
    pub(super) kind: ObjectKind,
    pub(super) max_bytes: u64,
}

/// An object as it was listed.
#[derive(Debug, Clone)]
pub(super) struct Listed<K> {
    /// What it is to who wants it.
    pub(super) what: K,
    pub(super) key: ObjectKey,
    /// Its length, if the listing told it.
    pub(super) bytes: Option<u64>,
}

impl Repository {
    /// Returns small immutable objects as `open` reads them, in the order of `wanted`, from the index or from the store.
    /// Only what opens is kept in the index.
    ///
    /// # Errors
    /// Fails if the store or the index cannot be read.
    pub(super) fn small_objects<K: Send, T: Send>(
        &self,
        form: Form,
        wanted: Vec<Listed<K>>,
        open: impl Fn(&K, &SealKey, &[u8]) -> Result<T, FormatError> + Sync,
    ) -> Result<Vec<(K, Small<T>)>, RepoError> {
        let mut copies = self.index.cached_objects(form.prefix.as_str())?;
        let mut found = BTreeMap::new();
        let mut missing = Vec::new();
        for (number, object) in wanted.into_iter().enumerate() {
            let copy = copies.remove(object.key.as_str());
            match copy.and_then(|CachedObject { bytes, key }| open(&object.what, &key, &bytes).ok()) {
                Some(value) => drop(found.insert(number, (object.what, Small::Opened(value)))),
                // It can be opened with no key of such a host, and what it made itself has a copy.
                None if self.is_ingest_only() => drop(found.insert(number, (object.what, Small::Gone))),
                None => missing.push((number, object)),
            }
        }
        let mut new = Vec::new();
        let items = missing.into_iter().map(|(number, object)| {
            let bytes = object.bytes.unwrap_or(0);
            ((number, object), bytes)
        });
        let fetch = |(number, Listed { what, key, bytes }): (usize, Listed<K>)| {
            let fetched =
                self.fetch_small(form, &key, bytes, |object_key, bytes| open(&what, object_key, bytes))?;
            Ok::<_, RepoError>((number, what, key, fetched))
        };
        parallel::in_order(self.store.requests_at_once(), BYTES_UNDER_WAY, items, fetch, |fetched| {
            let (number, what, key, (opened, object)) = fetched;
            found.insert(number, (what, opened));
            new.extend(object.map(|object| NewObject { store_key: key.to_string(), object }));
            if new.len() >= KEPT_AT_ONCE { self.keep(&mut new) } else { Ok(()) }
        })?;
        self.keep(&mut new)?;
        Ok(found.into_values().collect())
    }

    /// Drops the copies of objects that the store lists no more.
    pub(super) fn retain_copies<K>(&self, form: Form, listed: &[Listed<K>]) -> Result<(), RepoError> {
        let keys: BTreeSet<String> = listed.iter().map(|object| object.key.to_string()).collect();
        // Most often nothing is gone, and then no writer need be waited for.
        let kept = self.index.cached_keys(form.prefix.as_str())?;
        if !kept.is_subset(&keys) {
            self.index.retain_objects(form.prefix.as_str(), &keys)?;
        }
        Ok(())
    }

    /// Reads an object from the store; returns it as `open` reads it, and what is to be kept of it.
    fn fetch_small<T>(
        &self,
        form: Form,
        key: &ObjectKey,
        listed_bytes: Option<u64>,
        open: impl Fn(&SealKey, &[u8]) -> Result<T, FormatError>,
    ) -> Result<(Small<T>, Option<CachedObject>), RepoError> {
        let max_bytes = usize::try_from(form.max_bytes).unwrap_or(usize::MAX);
        let bytes = match get_small(self.store.as_ref(), key, listed_bytes, max_bytes) {
            Err(RepoError::Store(error)) if error.kind() == StoreErrorKind::NotFound => {
                return Ok((Small::Gone, None));
            }
            Err(RepoError::Damaged { source: Some(error), .. }) => return Ok((Small::Damaged(error), None)),
            other => other?,
        };
        let opened = object_key(form.kind, &self.keys, &bytes)
            .and_then(|object_key| open(&object_key, &bytes).map(|value| (object_key, value)));
        Ok(match opened {
            Ok((key, value)) => (Small::Opened(value), Some(CachedObject { bytes, key })),
            Err(error) => (Small::Damaged(error), None),
        })
    }

    fn keep(&self, new: &mut Vec<NewObject>) -> Result<(), RepoError> {
        if !new.is_empty() {
            self.index.cache_objects(new)?;
            new.clear();
        }
        Ok(())
    }
}
