//! The keys of a store: its slots as people manage them, and ingest-only keys for hosts.
//!
//! How a slot lies in the store and opens is owned by [`slots`](super::slots). A new slot counts only once it was read
//! back and opened, and none is removed before that.

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::{RepoError, Repository, slots};
use crate::crypto::secrets::{Writer, WriterClass};
use crate::crypto::slot::{Argon2Params, Credential, WrappedRoot};
use crate::crypto::{CryptoError, ingest_key};
use crate::format::config::Encryption;
use crate::format::keys::{KeySlot, SLOTS_MAX, SlotKind};
use crate::id::{SlotId, WriterId};
use crate::store::key::ObjectKey;

/// Why keys cannot be managed as was asked.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The store is not encrypted.
    #[error("the store at {0} is not encrypted: it has no keys")]
    Plain(String),
    /// There are as many slots as a store may have.
    #[error("the store has {SLOTS_MAX} keys, which is the most there can be")]
    TooMany,
    /// The credential opens a slot already.
    #[error("this passphrase or key opens the store already, as key {0}")]
    OpensAlready(SlotId),
    /// There is no slot of this id.
    #[error("the store has no key {0}")]
    NoSlot(SlotId),
    /// Without this slot, nothing but recovery keys would open the store.
    #[error("key {0} is the last one besides recovery keys")]
    Last(SlotId),
    /// The slot was opened by this very run.
    #[error("key {0} is the one in use")]
    InUse(SlotId),
    /// A new slot does not open when it is read back.
    #[error("key {0} was written, but does not open when it is read back")]
    Unproven(SlotId),
    /// The new slot of a rotation opens the store, and not every old one could be removed.
    #[error("key {added} was added and opens the store, but the old one cannot be removed")]
    OldStays {
        /// The new slot.
        added: SlotId,
        /// Why the old one stays.
        source: Box<KeyError>,
    },
    /// The store or the keys failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

impl From<CryptoError> for KeyError {
    fn from(error: CryptoError) -> Self {
        Self::Repo(error.into())
    }
}

/// A key slot as a store lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotSummary {
    /// Its id.
    pub id: SlotId,
    /// What it is for; nothing if no copy of it can be read.
    pub kind: Option<SlotKind>,
    /// When it was made, by the clock of who made it.
    pub created: Option<Timestamp>,
    /// Copies that can be read; two are written.
    pub copies: usize,
    /// Whether this run opened the store with it.
    pub in_use: bool,
}

/// Whether the slot that opened the store may be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InUse {
    /// It stays.
    Refuse,
    /// It goes as well.
    Allow,
}

impl Repository {
    /// Lists the key slots, in order of id.
    ///
    /// # Errors
    /// [`KeyError::Plain`] for a store without encryption; else any failure of the store.
    pub fn key_slots(&self) -> Result<Vec<SlotSummary>, KeyError> {
        self.require_slots()?;
        let store = self.store.as_ref();
        let mut summaries = Vec::new();
        for (id, copies) in slots::list(store)? {
            let mut read: Vec<KeySlot> = Vec::new();
            for (key, length) in copies {
                match slots::read(store, &key, length) {
                    Ok(slot) if slot.domain == self.keys.domain() => read.push(slot),
                    Ok(_) => {}
                    Err(error) if error.is_damage() => tracing::warn!("{key} cannot be used: {error}"),
                    Err(error) => return Err(error.into()),
                }
            }
            summaries.push(SlotSummary {
                id,
                kind: read.first().map(|slot| slot.kind),
                created: read.first().map(|slot| slot.created),
                copies: read.len(),
                in_use: self.slot == Some(id),
            });
        }
        Ok(summaries)
    }

    /// Adds a slot for a credential, reads all copies of it back and opens them.
    ///
    /// # Errors
    /// [`KeyError::OpensAlready`] if another slot opens with it, [`KeyError::TooMany`], [`KeyError::Unproven`]; else any
    /// failure of the store.
    pub fn add_key(&self, kind: SlotKind, credential: &Credential) -> Result<SlotId, KeyError> {
        self.require_slots()?;
        let (store, domain) = (self.store.as_ref(), self.keys.domain());
        match slots::unlock(store, domain, credential) {
            Ok((id, _)) => return Err(KeyError::OpensAlready(id)),
            Err(RepoError::WrongKey(_)) => {}
            Err(error) => return Err(error.into()),
        }
        if slots::list(store)?.len() >= SLOTS_MAX {
            return Err(KeyError::TooMany);
        }
        let root = self.keys.root()?;
        let wrapped = WrappedRoot::wrap(root, domain, credential, Argon2Params::DEFAULT)?;
        let id = slots::create(store, domain, kind, wrapped)?;
        for copy in 0..slots::SLOT_COPIES {
            let read = slots::read(store, &ObjectKey::key_slot(id, copy), None)?;
            match read.root.unwrap_root(domain, credential) {
                Ok(opened) if opened.expose() == root.expose() => {}
                _ => return Err(KeyError::Unproven(id)),
            }
        }
        Ok(id)
    }

    /// Removes all copies of a slot. A copy of the store that was made before still opens with it.
    ///
    /// # Errors
    /// [`KeyError::NoSlot`]; [`KeyError::Last`] if only recovery keys would be left, [`KeyError::InUse`] unless that is
    /// allowed; else any failure of the store.
    pub fn remove_key(&self, id: SlotId, in_use: InUse) -> Result<(), KeyError> {
        let listed = self.key_slots()?;
        let slot = listed.iter().find(|slot| slot.id == id).ok_or(KeyError::NoSlot(id))?;
        let is_lasting = |kind| matches!(kind, Some(SlotKind::Passphrase | SlotKind::KeyFile));
        if !listed.iter().any(|other| other.id != id && is_lasting(other.kind)) {
            return Err(KeyError::Last(id));
        }
        if slot.in_use && in_use == InUse::Refuse {
            return Err(KeyError::InUse(id));
        }
        self.delete_slot(id)
    }

    /// Replaces every slot that `old` opens by one for `new`: the new one is added and proven first. Returns its id, and
    /// those that were removed.
    ///
    /// The root secret stays what it is: who knows `old` and has a copy of an old slot still opens the store.
    ///
    /// # Errors
    /// As for [`Self::add_key`]; [`KeyError::OldStays`] for whatever fails once the new slot opens the store.
    pub fn rotate_key(
        &self,
        old: &Credential,
        kind: SlotKind,
        new: &Credential,
    ) -> Result<(SlotId, Vec<SlotId>), KeyError> {
        let added = self.add_key(kind, new)?;
        match self.remove_all(old) {
            Ok(removed) => Ok((added, removed)),
            // Whatever went wrong: the new key opens the store, and may be the only one that does.
            Err(source) => Err(KeyError::OldStays { added, source: Box::new(source) }),
        }
    }

    /// Makes an ingest-only key for a host, and returns its text. The store keeps no record of it.
    ///
    /// # Errors
    /// [`KeyError::Plain`] for a store without encryption; [`RepoError::IngestOnly`] without full keys.
    pub fn export_ingest_key(&self, host: &str) -> Result<Zeroizing<String>, KeyError> {
        self.require_slots()?;
        let id = WriterId::random().map_err(RepoError::Random)?;
        let keys =
            self.keys.ingest_only(&Writer { class: WriterClass::IngestOnly, host: host.to_owned(), id })?;
        ingest_key::to_text(&keys).ok_or_else(|| CryptoError::IngestOnly.into())
    }

    fn require_slots(&self) -> Result<(), KeyError> {
        self.require_full()?;
        match self.config.encryption {
            Encryption::Sealed => Ok(()),
            Encryption::None => Err(KeyError::Plain(self.store.location())),
        }
    }

    /// Removes every slot that a credential opens.
    fn remove_all(&self, credential: &Credential) -> Result<Vec<SlotId>, KeyError> {
        let mut removed = Vec::new();
        loop {
            match slots::unlock(self.store.as_ref(), self.keys.domain(), credential) {
                Ok((id, _)) => {
                    self.delete_slot(id)?;
                    removed.push(id);
                }
                Err(RepoError::WrongKey(_)) => return Ok(removed),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn delete_slot(&self, id: SlotId) -> Result<(), KeyError> {
        let listed = slots::list(self.store.as_ref())?.remove(&id).unwrap_or_default();
        for (key, _) in listed {
            self.store.delete(&key).map_err(RepoError::Store)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
