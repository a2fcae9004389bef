//! Key slots in a store: writing them, and opening the root secret with one of them.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{RepoError, get_small};
use crate::crypto::CryptoError;
use crate::crypto::secrets::RootSecret;
use crate::crypto::slot::{Credential, SlotKdf, WrappedRoot};
use crate::format::keys::{KeySlot, SLOT_MAX_BYTES, SLOTS_MAX, SlotKind};
use crate::id::{DomainId, SlotId};
use crate::store::key::{ObjectKey, Prefix};
use crate::store::{ObjectStore, Payload};

/// Each key slot is stored this often, so that one damaged object locks nobody out.
pub(crate) const SLOT_COPIES: u8 = 2;

/// Writes all copies of a new slot.
pub(super) fn create(
    store: &dyn ObjectStore,
    domain: DomainId,
    kind: SlotKind,
    root: WrappedRoot,
) -> Result<(), RepoError> {
    let slot = KeySlot { id: SlotId::random()?, domain, kind, created: Timestamp::now(), root };
    let bytes = slot.encode();
    for copy in 0..SLOT_COPIES {
        store.create(&ObjectKey::key_slot(slot.id, copy), Payload::Bytes(&bytes))?;
    }
    Ok(())
}

/// Opens the root secret with the first key slot that fits. A copy that is damaged or cannot be read is passed
/// over for the other one.
pub(super) fn unlock(
    store: &dyn ObjectStore,
    domain: DomainId,
    credential: &Credential,
) -> Result<RootSecret, RepoError> {
    let mut copies: BTreeMap<SlotId, Vec<(ObjectKey, Option<u64>)>> = BTreeMap::new();
    store.list(Prefix::Keys, &mut |object| {
        if let Some((id, _)) = object.key.as_key_slot() {
            copies.entry(id).or_default().push((object.key, object.bytes));
        }
    })?;
    let mut whole = 0;
    let mut unread = None;
    for copies in copies.into_values().take(SLOTS_MAX) {
        let mut tried: Vec<KeySlot> = Vec::new();
        for (key, length) in copies {
            let slot = match read(store, &key, length) {
                Ok(slot) if slot.domain == domain => slot,
                Ok(_) => continue,
                Err(error) => {
                    tracing::warn!("{key} was passed over: {error}");
                    unread = Some(error);
                    continue;
                }
            };
            // The copies are the same, unless one is damaged: then the credential may open the other one alone.
            if tried.contains(&slot) {
                continue;
            }
            if fits(&slot.root.kdf, credential) {
                match slot.root.unwrap_root(domain, credential) {
                    Ok(root) => return Ok(root),
                    Err(CryptoError::WrongKey) => whole += 1,
                    Err(CryptoError::Open | CryptoError::Parameters(_)) => {
                        tracing::warn!("{key} is damaged and was passed over");
                    }
                    Err(error) => return Err(error.into()),
                }
            } else {
                whole += 1;
            }
            tried.push(slot);
        }
    }
    let location = store.location();
    Err(match unread {
        // What could not be read may have been the slot that fits.
        Some(error @ RepoError::Store(_)) => error,
        _ if whole == 0 => RepoError::NoKeySlot(location),
        _ => RepoError::WrongKey(location),
    })
}

fn read(store: &dyn ObjectStore, key: &ObjectKey, length: Option<u64>) -> Result<KeySlot, RepoError> {
    KeySlot::decode(&get_small(store, key, length, SLOT_MAX_BYTES)?)
        .map_err(|error| RepoError::Damaged { object: key.to_string(), source: Some(error) })
}

fn fits(kdf: &SlotKdf, credential: &Credential) -> bool {
    matches!(
        (kdf, credential),
        (SlotKdf::Argon2id { .. }, Credential::Passphrase(_))
            | (SlotKdf::FileKey { .. }, Credential::FileKey(_))
    )
}
