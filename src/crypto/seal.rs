//! Sealing the parts of one object: AES-256-GCM under the object's own random key.
//!
//! How that key itself is sealed for the domain is owned by `secrets`.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::{CryptoError, random_bytes};

/// Bytes that a seal adds to what it covers.
pub const TAG_BYTES: usize = 16;

/// The role of a sealed part inside its object; the first byte of its nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A frame of a pack (1), with its number.
    Frame,
    /// The directory of a pack (2), number 0.
    Directory,
    /// The body of an object that is sealed as one (3), number 0.
    Body,
    /// A block of an index object (4), with its number.
    Block,
}

impl Part {
    const fn code(self) -> u8 {
        match self {
            Self::Frame => 1,
            Self::Directory => 2,
            Self::Body => 3,
            Self::Block => 4,
        }
    }
}

/// The random key of one object. Wiped when dropped; cheap to clone.
///
/// Each part and number is sealed at most once under one key, since they make the nonce.
#[derive(Clone)]
pub struct SealKey(Arc<KeyMaterial>);

struct KeyMaterial {
    raw: Zeroizing<[u8; 32]>,
    /// Nothing if the library could not set the key up; found when it is used.
    cipher: Option<LessSafeKey>,
}

impl SealKey {
    /// Returns a fresh key from the system's random source.
    ///
    /// # Errors
    /// Fails if the system has no randomness to give.
    pub fn random() -> Result<Self, CryptoError> {
        Ok(Self::from_bytes(&*random_bytes()?))
    }

    /// Wraps a key that was read from an index object or the index.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        let cipher = UnboundKey::new(&AES_256_GCM, bytes).ok().map(LessSafeKey::new);
        Self(Arc::new(KeyMaterial { raw: Zeroizing::new(*bytes), cipher }))
    }

    /// Returns the raw key, for index objects alone.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0.raw
    }

    /// Seals `buffer` in place and appends the 16-byte tag.
    ///
    /// Nonce: `part` ‖ 7 zero bytes ‖ number (u32, little endian).
    ///
    /// # Errors
    /// Fails if the cryptographic library does; `buffer` is worthless then.
    pub fn seal(&self, part: Part, number: u32, aad: &[u8], buffer: &mut Vec<u8>) -> Result<(), CryptoError> {
        let tag = self
            .cipher()?
            .seal_in_place_separate_tag(nonce(part, number), Aad::from(aad), buffer)
            .map_err(|_| CryptoError::Library("cannot seal with aes-256-gcm".into()))?;
        buffer.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Opens `buffer` (ciphertext and tag) in place and returns the plain bytes, a prefix of it.
    ///
    /// # Errors
    /// [`CryptoError::Open`] if anything differs from what was sealed; `buffer` is worthless then.
    pub fn open<'a>(
        &self,
        part: Part,
        number: u32,
        aad: &[u8],
        buffer: &'a mut [u8],
    ) -> Result<&'a [u8], CryptoError> {
        let plain = self
            .cipher()?
            .open_in_place(nonce(part, number), Aad::from(aad), buffer)
            .map_err(|_| CryptoError::Open)?;
        Ok(plain)
    }

    fn cipher(&self) -> Result<&LessSafeKey, CryptoError> {
        self.0.cipher.as_ref().ok_or_else(|| CryptoError::Library("cannot set up an aes-256-gcm key".into()))
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(..)")
    }
}

fn nonce(part: Part, number: u32) -> Nonce {
    let [a, b, c, d] = number.to_le_bytes();
    let bytes: [u8; NONCE_LEN] = [part.code(), 0, 0, 0, 0, 0, 0, 0, a, b, c, d];
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;

    const PARTS: [Part; 4] = [Part::Frame, Part::Directory, Part::Body, Part::Block];

    #[test]
    fn sealed_bytes_are_frozen() {
        let key = SealKey::from_bytes(&[7; 32]);
        let mut buffer = b"abc".to_vec();
        key.seal(Part::Frame, 258, b"aad", &mut buffer).unwrap();
        assert_eq!(HEXLOWER.encode(&buffer), "f7e304dd3e49aa15fa5c55415daf241fbd9f2f");
    }

    #[test]
    fn parts_numbers_and_associated_data_are_bound() {
        let key = SealKey::random().unwrap();
        let mut sealed = b"abc".to_vec();
        key.seal(Part::Block, 1, b"aad", &mut sealed).unwrap();
        for part in PARTS {
            for number in [0, 1, 256] {
                for aad in [&b"aad"[..], b"aaD", b""] {
                    let opened = key.open(part, number, aad, &mut sealed.clone()).is_ok();
                    assert_eq!(opened, (part, number, aad) == (Part::Block, 1, b"aad"));
                }
            }
        }
        assert!(SealKey::random().unwrap().open(Part::Block, 1, b"aad", &mut sealed).is_err());
    }

    #[test]
    fn short_buffers_do_not_open() {
        let key = SealKey::random().unwrap();
        for length in 0..=TAG_BYTES {
            assert!(key.open(Part::Body, 0, b"", &mut vec![0; length]).is_err());
        }
    }

    #[test]
    fn debug_output_shows_no_key() {
        assert_eq!(format!("{:?}", SealKey::from_bytes(&[7; 32])), "SealKey(..)");
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens(plain: Vec<u8>, aad: Vec<u8>, number: u32, flip: prop::sample::Index) {
            let key = SealKey::random().unwrap();
            let mut buffer = plain.clone();
            key.seal(Part::Frame, number, &aad, &mut buffer).unwrap();
            prop_assert_eq!(buffer.len(), plain.len() + TAG_BYTES);
            let mut altered = buffer.clone();
            altered[flip.index(buffer.len())] ^= 1;
            prop_assert_eq!(key.open(Part::Frame, number, &aad, &mut buffer).unwrap(), &plain[..]);
            prop_assert!(key.open(Part::Frame, number, &aad, &mut altered).is_err());
        }
    }
}
