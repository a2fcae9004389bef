//! How keys of packs and of small objects lie in the index: wrapped, so that a copy of the file alone opens nothing.
//!
//! ```text
//! offset  size
//!      0    16  random salt
//!     16    48  the key under AES-256-GCM, with its tag
//! ```
//! The wrapping key is BLAKE3, keyed with the domain's cache key, of salt and name: the id of a pack, the store key of
//! another object. So no key and nonce ever
//! seal two values, though the nonce of a body is fixed.
//!
//! A host with an ingest-only key reads nothing back, and whoever steals it shall not either: it wraps the keys of its
//! packs with a key that ends with the process.

use rusqlite::Error::ToSqlConversionFailure;

use super::error::bad_row;
use crate::crypto::CryptoError;
use crate::crypto::seal::{Part, SealKey};
use crate::crypto::secrets::DomainKeys;
use crate::id::PackId;

const SALT_BYTES: usize = 16;

/// How long the keys of packs can be unwrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lasting {
    /// As long as the index.
    WithIndex,
    /// As long as this process, in which what a session wrote is looked at once more.
    WithProcess,
}

/// What wraps the keys of packs.
pub(super) struct PackKeys {
    wrapping: SealKey,
    lasting: Lasting,
}

impl PackKeys {
    pub(super) fn new(keys: &DomainKeys) -> Result<Self, CryptoError> {
        Ok(match keys.ingest_writer() {
            None => Self { wrapping: keys.cache_key(), lasting: Lasting::WithIndex },
            Some(_) => Self { wrapping: SealKey::random()?, lasting: Lasting::WithProcess },
        })
    }

    pub(super) fn wrap(&self, pack: &PackId, key: &SealKey) -> rusqlite::Result<Vec<u8>> {
        wrap(&self.wrapping, pack.as_bytes(), key)
    }

    /// Undoes [`Self::wrap`]; nothing for what another process of an ingest-only host wrapped.
    pub(super) fn unwrap(&self, pack: &PackId, wrapped: &[u8]) -> rusqlite::Result<Option<SealKey>> {
        match (unwrap(&self.wrapping, pack.as_bytes(), wrapped), self.lasting) {
            (Err(_), Lasting::WithProcess) => Ok(None),
            (unwrapped, _) => unwrapped.map(Some),
        }
    }
}

/// Wraps the key of the object with this name.
pub(super) fn wrap(cache_key: &SealKey, name: &[u8], key: &SealKey) -> rusqlite::Result<Vec<u8>> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|error| ToSqlConversionFailure(error.into()))?;
    let mut sealed = key.expose().to_vec();
    wrapping_key(cache_key, name, &salt)
        .seal(Part::Body, 0, name, &mut sealed)
        .map_err(|error| ToSqlConversionFailure(error.into()))?;
    Ok([salt.as_slice(), &sealed].concat())
}

/// Undoes [`wrap`].
pub(super) fn unwrap(cache_key: &SealKey, name: &[u8], wrapped: &[u8]) -> rusqlite::Result<SealKey> {
    let (salt, sealed) = wrapped.split_first_chunk().ok_or_else(|| bad_row("key"))?;
    let mut sealed = sealed.to_vec();
    let plain = wrapping_key(cache_key, name, salt)
        .open(Part::Body, 0, name, &mut sealed)
        .map_err(|_| bad_row("key"))?;
    Ok(SealKey::from_bytes(plain.try_into().map_err(|_| bad_row("key"))?))
}

fn wrapping_key(cache_key: &SealKey, name: &[u8], salt: &[u8; SALT_BYTES]) -> SealKey {
    let mut hasher = blake3::Hasher::new_keyed(cache_key.expose());
    hasher.update(salt).update(name);
    SealKey::from_bytes(hasher.finalize().as_bytes())
}
