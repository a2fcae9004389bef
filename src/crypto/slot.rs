//! Key slots: how a passphrase or a key file holds the root secret. JSON on the store side is `format::keys`.
//!
//! A credential and the salt make a key-encryption key: Argon2id of the passphrase, or a derivation of the file
//! key. From it derive the wrapping key and the commitment. AES-GCM alone does not commit to its key, so the
//! commitment is what makes a slot open under one credential at most.

use std::fmt;
use std::ops::RangeInclusive;

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroizing;

use super::secrets::{DomainKeys, RootSecret};
use super::{CryptoError, armor, derive, random_bytes};
use crate::id::DomainId;

const FILE_KEY_PREFIX: &str = "YESTERKEY1";

/// 32 random bytes in a file or on paper that open a key slot.
///
/// Written `YESTERKEY1-XXXXX-…`: base32 of the key and the first 4 bytes of its BLAKE3, in groups of 5.
#[derive(Clone)]
pub struct FileKey(Zeroizing<[u8; 32]>);

impl FileKey {
    /// Draws a fresh key.
    ///
    /// # Errors
    /// Fails if the system has no randomness to give.
    pub fn random() -> Result<Self, CryptoError> {
        random_bytes().map(Self)
    }

    /// Parses the text form; case, spaces and dashes do not matter.
    ///
    /// # Errors
    /// [`CryptoError::NotAKey`] says whether the text is of another kind, cut, or mistyped.
    pub fn parse(text: &str) -> Result<Self, CryptoError> {
        let text = armor::normalize(text);
        let digits = text.strip_prefix(FILE_KEY_PREFIX).ok_or_else(|| {
            CryptoError::NotAKey(format!("a key file or recovery key begins with {FILE_KEY_PREFIX}"))
        })?;
        let (found, expected) = (digits.chars().count(), armor::digits_of(32));
        if found != expected {
            return Err(CryptoError::NotAKey(format!("{found} characters where {expected} belong")));
        }
        let bytes = armor::decode(digits)?;
        let key = bytes.as_slice().try_into().map_err(|_| CryptoError::NotAKey("it is cut short".into()))?;
        Ok(Self(Zeroizing::new(key)))
    }

    /// Tells whether a text claims to be such a key (so that a prompt for a passphrase takes a recovery key too).
    #[must_use]
    pub fn looks_like(text: &str) -> bool {
        armor::normalize(text).starts_with(FILE_KEY_PREFIX)
    }

    /// Returns the text form, in groups that people can type.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        armor::encode(FILE_KEY_PREFIX, &self.0[..])
    }
}

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileKey(..)")
    }
}

/// What opens a store.
#[derive(Clone)]
pub enum Credential {
    /// A passphrase, never empty.
    Passphrase(Zeroizing<String>),
    /// The key of a key file, or a recovery key.
    FileKey(FileKey),
    /// An ingest-only key: it opens no slot, and is all that its host has.
    IngestOnly(DomainKeys),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passphrase(_) => "Passphrase(..)",
            Self::FileKey(_) => "FileKey(..)",
            Self::IngestOnly(_) => "IngestOnly(..)",
        })
    }
}

/// Argon2id parameters of a passphrase slot. Accepted: 8 MiB–1 GiB, 1–16 passes, 1–16 lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argon2Params {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Argon2Params {
    /// What new slots use: 64 MiB, 3 passes, 4 lanes.
    pub const DEFAULT: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 4 };

    const MEMORY_KIB: RangeInclusive<u32> = 8 * 1024..=1024 * 1024;
    const PASSES: RangeInclusive<u32> = 1..=16;
    const LANES: RangeInclusive<u32> = 1..=16;

    /// Refuses parameters too weak to protect a passphrase, and those by which a store could exhaust its reader.
    fn check(self) -> Result<(), CryptoError> {
        let ranges = [
            ("memory_kib", self.memory_kib, Self::MEMORY_KIB),
            ("passes", self.passes, Self::PASSES),
            ("lanes", self.lanes, Self::LANES),
        ];
        for (name, value, range) in ranges {
            if !range.contains(&value) {
                let (least, most) = range.into_inner();
                return Err(CryptoError::Parameters(format!("{name} is {value}, not {least} to {most}")));
            }
        }
        Ok(())
    }
}

/// How the wrapping key is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotKdf {
    /// From a passphrase.
    Argon2id {
        /// Cost.
        params: Argon2Params,
        /// Random salt.
        salt: [u8; 16],
    },
    /// From 32 random bytes.
    FileKey {
        /// Random salt.
        salt: [u8; 16],
    },
}

impl SlotKdf {
    /// Makes the key-encryption key; a credential of the other kind is a wrong one.
    fn stretch(&self, credential: &Credential) -> Result<Zeroizing<[u8; 32]>, CryptoError> {
        match (self, credential) {
            (Self::Argon2id { params, salt }, Credential::Passphrase(passphrase)) => {
                argon2id(*params, salt, passphrase.as_bytes())
            }
            (Self::FileKey { salt }, Credential::FileKey(key)) => {
                Ok(derive("yester 1 key file", &[&key.0[..], salt]))
            }
            _ => Err(CryptoError::WrongKey),
        }
    }

    /// Returns what the seal of the root binds besides the root: the domain and how the key is made.
    ///
    /// `"yester 1 slot"` ‖ domain ‖ 1 ‖ memory, passes, lanes (u32, little endian) ‖ salt, or … ‖ 2 ‖ salt.
    fn aad(&self, domain: DomainId) -> Vec<u8> {
        let mut aad = [b"yester 1 slot", &domain.as_bytes()[..]].concat();
        match self {
            Self::Argon2id { params, salt } => {
                aad.push(1);
                for value in [params.memory_kib, params.passes, params.lanes] {
                    aad.extend_from_slice(&value.to_le_bytes());
                }
                aad.extend_from_slice(salt);
            }
            Self::FileKey { salt } => {
                aad.push(2);
                aad.extend_from_slice(salt);
            }
        }
        aad
    }
}

/// A root secret under one credential. Committing: it opens under one key at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedRoot {
    /// How the wrapping key is made.
    pub kdf: SlotKdf,
    /// Tells a wrong key from damage: a BLAKE3 derivation of the wrapping key.
    pub commitment: [u8; 32],
    /// The root secret under AES-256-GCM, with its tag.
    pub sealed: [u8; 48],
}

impl WrappedRoot {
    /// Wraps `root` under `credential`, bound to `domain`. A key file has no use for `params`.
    ///
    /// # Errors
    /// Refuses parameters outside what is accepted and empty passphrases.
    pub fn wrap(
        root: &RootSecret,
        domain: DomainId,
        credential: &Credential,
        params: Argon2Params,
    ) -> Result<Self, CryptoError> {
        let salt = *random_bytes()?;
        let kdf = match credential {
            Credential::Passphrase(passphrase) if passphrase.is_empty() => {
                return Err(CryptoError::NotAKey("the passphrase is empty".into()));
            }
            Credential::Passphrase(_) => SlotKdf::Argon2id { params, salt },
            Credential::FileKey(_) => SlotKdf::FileKey { salt },
            Credential::IngestOnly(_) => return Err(CryptoError::IngestOnly),
        };
        Self::wrap_with(root, domain, credential, kdf)
    }

    /// Opens the slot.
    ///
    /// # Errors
    /// [`CryptoError::WrongKey`] if the credential is not this slot's, [`CryptoError::Open`] if it is damaged,
    /// [`CryptoError::Parameters`] before any memory is allocated for them.
    pub fn unwrap_root(&self, domain: DomainId, credential: &Credential) -> Result<RootSecret, CryptoError> {
        let kek = self.kdf.stretch(credential)?;
        verify_slices_are_equal(&*commitment(&kek), &self.commitment).map_err(|_| CryptoError::WrongKey)?;
        let mut opened = Zeroizing::new(self.sealed);
        let plain = wrapping_key(&kek)?
            .open_in_place(zero_nonce(), Aad::from(self.kdf.aad(domain)), &mut opened[..])
            .map_err(|_| CryptoError::Open)?;
        let root: &[u8; 32] = (&*plain).try_into().map_err(|_| CryptoError::Open)?;
        Ok(RootSecret::from_bytes(*root))
    }

    fn wrap_with(
        root: &RootSecret,
        domain: DomainId,
        credential: &Credential,
        kdf: SlotKdf,
    ) -> Result<Self, CryptoError> {
        let kek = kdf.stretch(credential)?;
        let mut sealed = [0; 48];
        let (body, tag) = sealed.split_at_mut(32);
        body.copy_from_slice(root.expose());
        let made = wrapping_key(&kek)?
            .seal_in_place_separate_tag(zero_nonce(), Aad::from(kdf.aad(domain)), body)
            .map_err(|_| CryptoError::Library("cannot seal with aes-256-gcm".into()))?;
        tag.copy_from_slice(made.as_ref());
        Ok(Self { commitment: *commitment(&kek), kdf, sealed })
    }
}

fn argon2id(
    params: Argon2Params,
    salt: &[u8; 16],
    passphrase: &[u8],
) -> Result<Zeroizing<[u8; 32]>, CryptoError> {
    params.check()?;
    let mut kek = Zeroizing::new([0; 32]);
    Params::new(params.memory_kib, params.passes, params.lanes, Some(kek.len()))
        .and_then(|params| {
            Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                .hash_password_into(passphrase, salt, &mut *kek)
        })
        .map_err(|error| CryptoError::Library(error.to_string()))?;
    Ok(kek)
}

fn commitment(kek: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    derive("yester 1 slot commitment", &[kek])
}

fn wrapping_key(kek: &[u8; 32]) -> Result<LessSafeKey, CryptoError> {
    UnboundKey::new(&AES_256_GCM, &*derive("yester 1 slot wrap", &[kek]))
        .map(LessSafeKey::new)
        .map_err(|_| CryptoError::Library("cannot set up an aes-256-gcm key".into()))
}

/// A wrapping key seals one value only, since its salt is fresh; so one nonce is enough.
fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;

    const SMALL: Argon2Params = Argon2Params { memory_kib: 8 * 1024, passes: 1, lanes: 1 };
    const SALT: [u8; 16] = [0x5a; 16];

    fn domain() -> DomainId {
        DomainId::from_bytes([0xd0; 16])
    }

    fn root() -> RootSecret {
        RootSecret::from_bytes(counting())
    }

    fn counting() -> [u8; 32] {
        std::array::from_fn(|i| u8::try_from(i).unwrap())
    }

    fn passphrase(text: &str) -> Credential {
        Credential::Passphrase(Zeroizing::new(text.into()))
    }

    fn file_key() -> FileKey {
        FileKey(Zeroizing::new(counting()))
    }

    fn wrapped(kdf: SlotKdf, credential: &Credential) -> WrappedRoot {
        WrappedRoot::wrap_with(&root(), domain(), credential, kdf).unwrap()
    }

    #[test]
    fn a_passphrase_slot_is_frozen() {
        let credential = passphrase("correct horse");
        let slot = wrapped(SlotKdf::Argon2id { params: SMALL, salt: SALT }, &credential);
        assert_eq!(
            [HEXLOWER.encode(&slot.commitment), HEXLOWER.encode(&slot.sealed)],
            [
                "df7671f903b11181c4866354156faa9e114d5ad8ca7416e38c613e64b7257f87",
                "0c40e49a44b2741851f6c249148f997f56c97ce4a99b54e48bbd3006c1d0d4d8ee301785e2b2d66882c868d2dd0f4fca"
            ]
        );
        assert_eq!(slot.unwrap_root(domain(), &credential).unwrap().expose(), root().expose());
    }

    #[test]
    fn a_key_file_slot_is_frozen() {
        let credential = Credential::FileKey(file_key());
        let slot = wrapped(SlotKdf::FileKey { salt: SALT }, &credential);
        assert_eq!(
            [HEXLOWER.encode(&slot.commitment), HEXLOWER.encode(&slot.sealed)],
            [
                "f866ecf93185e927c32880adfeed7c95f6c8c3fc2c7d3de23ce6657819b67233",
                "f042bdf82b3b75c1d6527e71513131ef479573ab2747aa7b17dfff08dc0a49637d674fed5eb9e7624742c9080682ab41"
            ]
        );
        assert_eq!(slot.unwrap_root(domain(), &credential).unwrap().expose(), root().expose());
    }

    #[test]
    fn only_the_right_credential_opens() {
        let slot = WrappedRoot::wrap(&root(), domain(), &passphrase("right"), SMALL).unwrap();
        assert_eq!(slot.unwrap_root(domain(), &passphrase("right")).unwrap().expose(), root().expose());
        for wrong in [passphrase("wrong"), passphrase(""), Credential::FileKey(file_key())] {
            assert!(matches!(slot.unwrap_root(domain(), &wrong), Err(CryptoError::WrongKey)));
        }
        let other_domain = DomainId::from_bytes([1; 16]);
        assert!(matches!(slot.unwrap_root(other_domain, &passphrase("right")), Err(CryptoError::Open)));

        let credential = Credential::FileKey(file_key());
        let slot = WrappedRoot::wrap(&root(), domain(), &credential, SMALL).unwrap();
        assert_eq!(slot.unwrap_root(domain(), &credential).unwrap().expose(), root().expose());
        for wrong in [passphrase("right"), Credential::FileKey(FileKey::random().unwrap())] {
            assert!(matches!(slot.unwrap_root(domain(), &wrong), Err(CryptoError::WrongKey)));
        }
    }

    #[test]
    fn no_byte_of_a_slot_may_change() {
        let credential = Credential::FileKey(file_key());
        let slot = wrapped(SlotKdf::FileKey { salt: SALT }, &credential);
        let expect = |altered: &WrappedRoot, wrong_key: bool| {
            let error = altered.unwrap_root(domain(), &credential).unwrap_err();
            assert_eq!(matches!(error, CryptoError::WrongKey), wrong_key, "{error}");
            assert_eq!(matches!(error, CryptoError::Open), !wrong_key, "{error}");
        };
        for position in 0..48 {
            let mut altered = slot.clone();
            altered.sealed[position] ^= 1;
            expect(&altered, false);
        }
        for position in 0..32 {
            let mut altered = slot.clone();
            altered.commitment[position] ^= 1;
            expect(&altered, true);
        }
        for position in 0..16 {
            let mut salt = SALT;
            salt[position] ^= 1;
            expect(&WrappedRoot { kdf: SlotKdf::FileKey { salt }, ..slot.clone() }, true);
        }
    }

    #[test]
    fn other_argon2_parameters_are_a_wrong_key() {
        let credential = passphrase("right");
        let slot = wrapped(SlotKdf::Argon2id { params: SMALL, salt: SALT }, &credential);
        for params in [Argon2Params { passes: 2, ..SMALL }, Argon2Params { lanes: 2, ..SMALL }] {
            let altered = WrappedRoot { kdf: SlotKdf::Argon2id { params, salt: SALT }, ..slot.clone() };
            assert!(matches!(altered.unwrap_root(domain(), &credential), Err(CryptoError::WrongKey)));
        }
    }

    /// The huge values would abort the test, or take minutes, if they were used before they are refused.
    #[test]
    fn parameters_outside_the_caps_are_refused_unused() {
        let credential = passphrase("right");
        let slot = wrapped(SlotKdf::Argon2id { params: SMALL, salt: SALT }, &credential);
        let with = |memory_kib, passes, lanes| Argon2Params { memory_kib, passes, lanes };
        for params in [
            with(8 * 1024 - 1, 1, 1),
            with(1024 * 1024 + 1, 1, 1),
            with(u32::MAX, 1, 1),
            with(8 * 1024, 0, 1),
            with(8 * 1024, 17, 1),
            with(8 * 1024, u32::MAX, 1),
            with(8 * 1024, 1, 0),
            with(8 * 1024, 1, 17),
        ] {
            let altered = WrappedRoot { kdf: SlotKdf::Argon2id { params, salt: SALT }, ..slot.clone() };
            let opened = altered.unwrap_root(domain(), &credential);
            assert!(matches!(opened, Err(CryptoError::Parameters(_))), "{params:?}");
            let made = WrappedRoot::wrap(&root(), domain(), &credential, params);
            assert!(matches!(made, Err(CryptoError::Parameters(_))), "{params:?}");
        }
        for params in [Argon2Params::DEFAULT, with(8 * 1024, 1, 1), with(1024 * 1024, 16, 16)] {
            params.check().unwrap();
        }
    }

    #[test]
    fn an_empty_passphrase_makes_no_slot() {
        let made = WrappedRoot::wrap(&root(), domain(), &passphrase(""), SMALL);
        assert!(matches!(made, Err(CryptoError::NotAKey(_))));
    }

    #[test]
    fn the_text_of_a_file_key_is_frozen() {
        let text = file_key().to_text();
        assert_eq!(*text, "YESTERKEY1-AAAQE-AYEAU-DAOCA-JBIFQ-YDIOB-4IBCE-QTCQK-RMFYY-DENBW-HA5DY-P6KKH-JK4");
        for typed in [text.to_lowercase(), text.replace('-', " "), format!("  {}\n", text.replace('-', ""))] {
            assert_eq!(FileKey::parse(&typed).unwrap().0, file_key().0);
            assert!(FileKey::looks_like(&typed));
        }
    }

    #[test]
    fn what_is_no_file_key_says_why() {
        let text = file_key().to_text();
        let why = |text: &str| FileKey::parse(text).unwrap_err().to_string();
        assert!(!FileKey::looks_like("correct horse"));
        assert!(why("correct horse").contains("begins with YESTERKEY1"));
        assert!(why(&text[..text.len() - 1]).contains("57 characters where 58 belong"));
        assert!(why(&text.replacen("-A", "-8", 1)).contains("a character other than A to Z and 2 to 7"));
        assert!(why(&text.replacen("-A", "-B", 1)).contains("mistyped"));
        assert!(why(&text.replacen("-JK4", "-JK5", 1)).contains("its last character was mistyped"));
        assert!(why(&text.replacen("-A", "-é", 1)).contains("a character other than"));
    }

    #[test]
    fn debug_output_shows_no_key() {
        let shown = format!("{:?} {:?}", passphrase("secret"), Credential::FileKey(file_key()));
        assert_eq!(shown, "Passphrase(..) FileKey(..)");
        assert_eq!(format!("{:?}", file_key()), "FileKey(..)");
    }

    proptest! {
        #[test]
        fn file_keys_survive_their_text_and_one_typo_never_passes(
            bytes: [u8; 32],
            position in 0_usize..58,
            digit in "[A-Z2-7]",
        ) {
            let key = FileKey(Zeroizing::new(bytes));
            let text = key.to_text();
            prop_assert_eq!(&FileKey::parse(&text).unwrap().0, &key.0);
            let mut typed = armor::normalize(&text).to_string();
            let at = FILE_KEY_PREFIX.len() + position;
            let same = typed[at..=at] == digit;
            typed.replace_range(at..=at, &digit);
            prop_assert_eq!(FileKey::parse(&typed).is_ok(), same);
        }

        #[test]
        fn parsing_any_text_never_panics(text: String) {
            prop_assert!(FileKey::parse(&text).is_err());
        }
    }
}
