//! Key slots in a store: writing them, and opening the root secret with one of them.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{RepoError, get_small, parallel};
use crate::crypto::CryptoError;
use crate::crypto::secrets::RootSecret;
use crate::crypto::slot::{Credential, SlotKdf, WrappedRoot};
use crate::format::keys::{KeySlot, SLOT_MAX_BYTES, SLOTS_MAX, SlotKind};
use crate::id::{DomainId, SlotId};
use crate::store::key::{ObjectKey, Prefix};
use crate::store::{ObjectStore, Payload};

/// Each key slot is stored this often, so that one damaged object locks nobody out.
pub(crate) const SLOT_COPIES: u8 = 2;

/// The copies of one slot.
pub(super) type ListedCopies = Vec<(ObjectKey, Option<u64>)>;

/// Writes all copies of a new slot. One alone opens the store as well, should this end in between.
pub(super) fn create(
    store: &dyn ObjectStore,
    domain: DomainId,
    kind: SlotKind,
    root: WrappedRoot,
) -> Result<SlotId, RepoError> {
    let slot = KeySlot { id: SlotId::random()?, domain, kind, created: Timestamp::now(), root };
    let bytes = slot.encode();
    for copy in 0..SLOT_COPIES {
        store.create(&ObjectKey::key_slot(slot.id, copy), Payload::Bytes(&bytes))?;
    }
    Ok(slot.id)
}

/// Copies all key slots of a domain into a new store, each from a copy that can be read.
pub(super) fn copy_all(
    from: &dyn ObjectStore,
    domain: DomainId,
    to: &dyn ObjectStore,
) -> Result<(), RepoError> {
    let mut whole = 0;
    for (id, copies) in list(from)? {
        let mut slots = copies.iter().filter_map(|(key, length)| match read(from, key, *length) {
            Ok(slot) => (slot.domain == domain && slot.id == id).then_some(Ok(slot)),
            Err(error) if error.is_damage() => {
                tracing::warn!("{key} was passed over: {error}");
                None
            }
            Err(error) => Some(Err(error)),
        });
        let Some(slot) = slots.next().transpose()? else { continue };
        let bytes = slot.encode();
        for copy in 0..SLOT_COPIES {
            to.create(&ObjectKey::key_slot(id, copy), Payload::Bytes(&bytes))?;
        }
        whole += 1;
    }
    if whole == 0 { Err(RepoError::NoKeySlot(from.location())) } else { Ok(()) }
}

/// Lists the copies of all key slots: their keys, and their lengths where the store tells them.
pub(super) fn list(store: &dyn ObjectStore) -> Result<BTreeMap<SlotId, ListedCopies>, RepoError> {
    let mut copies: BTreeMap<SlotId, ListedCopies> = BTreeMap::new();
    store.list(Prefix::Keys, &mut |object| {
        if let Some((id, _)) = object.key.as_key_slot() {
            copies.entry(id).or_default().push((object.key, object.bytes));
        }
    })?;
    Ok(copies)
}

/// Opens the root secret with the first key slot that fits, and says which one it was. A copy that is damaged or cannot be
/// read is passed over for the other one.
pub(super) fn unlock(
    store: &dyn ObjectStore,
    domain: DomainId,
    credential: &Credential,
) -> Result<(SlotId, RootSecret), RepoError> {
    let listed = list(store)?;
    let mut attempt = Attempt { domain, credential, whole: 0, unread: None, tried: BTreeMap::new() };
    // The first copy of each at the same time. The others are asked for only if none of these fits.
    for copy in 0..usize::from(u8::MAX) {
        let copies: Vec<_> = listed
            .iter()
            .take(SLOTS_MAX)
            .filter_map(|(id, copies)| Some((*id, copies.get(copy)?.clone())))
            .map(|object| (object, 0))
            .collect();
        if copies.is_empty() {
            break;
        }
        let fetch = |(id, (key, length))| Ok::<_, RepoError>((id, read(store, &key, length), key));
        let mut opened = None;
        parallel::in_order(store.requests_at_once(), u64::MAX, copies, fetch, |(id, slot, key)| {
            if opened.is_none() {
                opened = attempt.open(id, &key, slot)?.map(|root| (id, root));
            }
            Ok(())
        })?;
        if let Some(opened) = opened {
            return Ok(opened);
        }
    }
    let Attempt { whole, unread, .. } = attempt;
    let location = store.location();
    Err(match unread {
        // What could not be read may have been the slot that fits.
        Some(error @ RepoError::Store(_)) => error,
        _ if whole == 0 => RepoError::NoKeySlot(location),
        _ => RepoError::WrongKey(location),
    })
}

/// One credential that is tried with slot after slot.
struct Attempt<'a> {
    domain: DomainId,
    credential: &'a Credential,
    /// Slots that are whole, and that it does not open.
    whole: usize,
    /// Why a slot was not read.
    unread: Option<RepoError>,
    tried: BTreeMap<SlotId, Vec<KeySlot>>,
}

impl Attempt<'_> {
    /// Returns what is in a slot if the credential opens it.
    fn open(
        &mut self,
        id: SlotId,
        key: &ObjectKey,
        slot: Result<KeySlot, RepoError>,
    ) -> Result<Option<RootSecret>, RepoError> {
        let slot = match slot {
            Ok(slot) if slot.domain == self.domain => slot,
            Ok(_) => return Ok(None),
            Err(error) => {
                tracing::warn!("{key} was passed over: {error}");
                self.unread = Some(error);
                return Ok(None);
            }
        };
        let tried = self.tried.entry(id).or_default();
        // The copies are the same, unless one is damaged: then the credential may open the other one alone.
        if tried.contains(&slot) {
            return Ok(None);
        }
        if fits(&slot.root.kdf, self.credential) {
            match slot.root.unwrap_root(self.domain, self.credential) {
                Ok(root) => return Ok(Some(root)),
                Err(CryptoError::WrongKey) => self.whole += 1,
                Err(CryptoError::Open | CryptoError::Parameters(_)) => {
                    tracing::warn!("{key} is damaged and was passed over");
                }
                Err(error) => return Err(error.into()),
            }
        } else {
            self.whole += 1;
        }
        tried.push(slot);
        Ok(None)
    }
}

pub(super) fn read(
    store: &dyn ObjectStore,
    key: &ObjectKey,
    length: Option<u64>,
) -> Result<KeySlot, RepoError> {
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
