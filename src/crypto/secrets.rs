//! The secrets of a domain, how they derive from one root, and how they seal object keys and sign.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, HpkeError, Kem, OpModeR, OpModeS, PskBundle, Serializable as _};
use zeroize::Zeroizing;

use super::hash::IdKeys;
use super::seal::SealKey;
use super::{CryptoError, derive, random_bytes};
use crate::id::{DomainId, WriterId};

/// Longest name of a host in bytes; what its length byte can say.
pub const HOST_MAX_BYTES: usize = 255;

type PublicKey = <X25519HkdfSha256 as Kem>::PublicKey;
type PrivateKey = <X25519HkdfSha256 as Kem>::PrivateKey;
type EncappedKey = <X25519HkdfSha256 as Kem>::EncappedKey;

/// The one secret that everything else of a domain derives from.
#[derive(Clone)]
pub struct RootSecret(Zeroizing<[u8; 32]>);

impl RootSecret {
    /// Draws a fresh secret.
    ///
    /// # Errors
    /// Fails if the system has no randomness to give.
    pub fn random() -> Result<Self, CryptoError> {
        random_bytes().map(Self)
    }

    /// Returns the fixed, public secret of stores without encryption.
    #[must_use]
    pub fn public() -> Self {
        Self(derive("yester 1 public root of stores without encryption", &[]))
    }

    /// Wraps raw bytes (from a key slot).
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for RootSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootSecret(..)")
    }
}

/// What a writer may do; part of every object's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WriterClass {
    /// Holds the root secret: reads and writes everything.
    Full,
    /// Holds public keys and its own writer secret: writes, but reads nothing back.
    IngestOnly,
}

impl WriterClass {
    /// Returns the byte that stands for this class in a store.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Full => 1,
            Self::IngestOnly => 2,
        }
    }

    /// Returns the class that `code` stands for, or nothing.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Full),
            2 => Some(Self::IngestOnly),
            _ => None,
        }
    }
}

/// Who made an object: proven by its seal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Writer {
    /// What the writer may do.
    pub class: WriterClass,
    /// Name of its host, 1 to 255 bytes of UTF-8.
    pub host: String,
    /// The installation on that host.
    pub id: WriterId,
}

impl Writer {
    /// Returns the length byte of the host name, or an error where it has none.
    fn host_length(&self) -> Result<u8, CryptoError> {
        match u8::try_from(self.host.len()) {
            Ok(length) if length > 0 => Ok(length),
            _ => Err(self.refused("its name must have 1 to 255 bytes")),
        }
    }

    fn refused(&self, why: &'static str) -> CryptoError {
        CryptoError::Writer { host: self.host.clone(), why }
    }
}

/// The keys of a domain as one host holds them: all of them, or only those to write with. Cheap to clone.
#[derive(Clone)]
pub struct DomainKeys(Arc<Keys>);

struct Keys {
    domain: DomainId,
    ids: IdKeys,
    chunker_seed: u64,
    sealing_key: PublicKey,
    verifying_key: [u8; 32],
    held: Held,
}

/// The secrets that tell the two kinds of key holders apart.
enum Held {
    Full { root: RootSecret, opening_key: PrivateKey, signing_key: Ed25519KeyPair },
    IngestOnly { writer: Writer, secret: Zeroizing<[u8; 32]> },
}

/// What an ingest-only key is made of, as its text form holds it.
pub(super) struct IngestParts {
    pub(super) domain: DomainId,
    pub(super) sealing_key: [u8; 32],
    pub(super) verifying_key: [u8; 32],
    pub(super) id_key: Zeroizing<[u8; 32]>,
    pub(super) chunker_seed: u64,
    pub(super) writer: Writer,
    pub(super) secret: Zeroizing<[u8; 32]>,
}

/// An object key sealed for the domain: what stands in an object's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedKey {
    /// The encapsulated X25519 public key.
    pub encapsulated: [u8; 32],
    /// The object key under HPKE, with its tag.
    pub ciphertext: [u8; 48],
}

impl DomainKeys {
    /// Derives all keys of `domain` from its root secret.
    ///
    /// # Errors
    /// Fails if the cryptographic library does.
    pub fn full(root: &RootSecret, domain: DomainId) -> Result<Self, CryptoError> {
        let derived = |context| derive(context, &[root.expose(), domain.as_bytes()]);
        let (opening_key, sealing_key) = X25519HkdfSha256::derive_keypair(&*derived("yester 1 hpke key"));
        let signing_key = Ed25519KeyPair::from_seed_unchecked(&*derived("yester 1 signing key"))
            .map_err(|error| CryptoError::Library(error.to_string()))?;
        let verifying_key = signing_key
            .public_key()
            .as_ref()
            .try_into()
            .map_err(|_| CryptoError::Library("an ed25519 key of a strange length".into()))?;
        let [a, b, c, d, e, f, g, h, ..] = *derived("yester 1 chunker seed");
        Ok(Self(Arc::new(Keys {
            domain,
            ids: IdKeys::new(&derived("yester 1 id key")),
            chunker_seed: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            sealing_key,
            verifying_key,
            held: Held::Full { root: root.clone(), opening_key, signing_key },
        })))
    }

    /// Returns what a host with an ingest-only key holds: it can seal as `writer` and open nothing.
    ///
    /// # Errors
    /// [`CryptoError::IngestOnly`] unless these are full keys, [`CryptoError::Writer`] unless `writer` is
    /// ingest-only.
    pub fn ingest_only(&self, writer: &Writer) -> Result<Self, CryptoError> {
        if writer.class != WriterClass::IngestOnly {
            return Err(writer.refused("an ingest-only key is for an ingest-only writer"));
        }
        let keys = &self.0;
        let secret = writer_secret(self.root()?, keys.domain, writer)?;
        Ok(Self(Arc::new(Keys {
            domain: keys.domain,
            ids: keys.ids.clone(),
            chunker_seed: keys.chunker_seed,
            sealing_key: keys.sealing_key.clone(),
            verifying_key: keys.verifying_key,
            held: Held::IngestOnly { writer: writer.clone(), secret },
        })))
    }

    /// Returns the one writer that ingest-only keys can write as; nothing for full keys.
    #[must_use]
    pub fn ingest_writer(&self) -> Option<&Writer> {
        match &self.0.held {
            Held::Full { .. } => None,
            Held::IngestOnly { writer, .. } => Some(writer),
        }
    }

    /// Returns what an ingest-only key is made of; nothing for full keys.
    pub(super) fn ingest_parts(&self) -> Option<IngestParts> {
        let Held::IngestOnly { writer, secret } = &self.0.held else { return None };
        Some(IngestParts {
            domain: self.0.domain,
            sealing_key: self.0.sealing_key.to_bytes().into(),
            verifying_key: self.0.verifying_key,
            id_key: Zeroizing::new(*self.0.ids.expose()),
            chunker_seed: self.0.chunker_seed,
            writer: writer.clone(),
            secret: secret.clone(),
        })
    }

    /// Puts ingest-only keys together again.
    pub(super) fn from_ingest_parts(parts: IngestParts) -> Result<Self, CryptoError> {
        let sealing_key = PublicKey::from_bytes(&parts.sealing_key).map_err(library)?;
        Ok(Self(Arc::new(Keys {
            domain: parts.domain,
            ids: IdKeys::new(&parts.id_key),
            chunker_seed: parts.chunker_seed,
            sealing_key,
            verifying_key: parts.verifying_key,
            held: Held::IngestOnly { writer: parts.writer, secret: parts.secret },
        })))
    }

    /// Returns the domain.
    #[must_use]
    pub fn domain(&self) -> DomainId {
        self.0.domain
    }

    /// Returns the keys that name chunks and frames.
    #[must_use]
    pub fn ids(&self) -> &IdKeys {
        &self.0.ids
    }

    /// Returns the seed of the chunker.
    #[must_use]
    pub fn chunker_seed(&self) -> u64 {
        self.0.chunker_seed
    }

    /// Returns the key that wraps pack keys and other secrets in the local index. Each key holder has its own.
    #[must_use]
    pub fn cache_key(&self) -> SealKey {
        let own = match &self.0.held {
            Held::Full { root, .. } => root.expose(),
            Held::IngestOnly { secret, .. } => &**secret,
        };
        SealKey::from_bytes(&derive("yester 1 local cache", &[self.0.ids.expose(), own]))
    }

    /// Makes a fresh object key and seals it as `writer`; `header` is all of the header before the sealed key.
    ///
    /// # Errors
    /// [`CryptoError::Writer`] if these keys are ingest-only ones of another writer.
    pub fn seal_key(&self, writer: &Writer, header: &[u8]) -> Result<(SealKey, SealedKey), CryptoError> {
        let secret = self.secret_of(writer)?;
        let key = SealKey::random()?;
        let psk_id = psk_id(writer);
        let mode = OpModeS::Psk(PskBundle::new(&*secret, &psk_id).map_err(library)?);
        // The library draws its own randomness and would panic without any; the key above was drawn from the
        // same source a moment ago, and a source that ever worked does not fail later.
        let (encapsulated, ciphertext) = hpke::single_shot_seal::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &mode,
            &self.0.sealing_key,
            &self.hpke_info(),
            key.expose(),
            header,
        )
        .map_err(library)?;
        let ciphertext = ciphertext
            .try_into()
            .map_err(|_| CryptoError::Library("a sealed key of a strange length".into()))?;
        Ok((key, SealedKey { encapsulated: encapsulated.to_bytes().into(), ciphertext }))
    }

    /// Opens an object key that `writer` sealed. Fails if anyone else did.
    ///
    /// # Errors
    /// [`CryptoError::Open`] if the seal does not open, [`CryptoError::IngestOnly`] without the full keys.
    pub fn open_key(
        &self,
        writer: &Writer,
        header: &[u8],
        sealed: &SealedKey,
    ) -> Result<SealKey, CryptoError> {
        let Held::Full { root, opening_key, .. } = &self.0.held else {
            return Err(CryptoError::IngestOnly);
        };
        let secret = writer_secret(root, self.0.domain, writer)?;
        let psk_id = psk_id(writer);
        let mode = OpModeR::Psk(PskBundle::new(&*secret, &psk_id).map_err(library)?);
        let encapsulated = EncappedKey::from_bytes(&sealed.encapsulated).map_err(|_| CryptoError::Open)?;
        let opened = hpke::single_shot_open::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &mode,
            opening_key,
            &encapsulated,
            &self.hpke_info(),
            &sealed.ciphertext,
            header,
        )
        .map_err(|_| CryptoError::Open)?;
        let raw = Zeroizing::new(opened);
        let raw: &[u8; 32] = raw.as_slice().try_into().map_err(|_| CryptoError::Open)?;
        Ok(SealKey::from_bytes(raw))
    }

    /// Signs `message` with the domain's Ed25519 key (full keys only).
    ///
    /// # Errors
    /// [`CryptoError::IngestOnly`] without the full keys.
    pub fn sign(&self, message: &[u8]) -> Result<[u8; 64], CryptoError> {
        let Held::Full { signing_key, .. } = &self.0.held else {
            return Err(CryptoError::IngestOnly);
        };
        let signature =
            signing_key.try_sign(message).map_err(|_| CryptoError::Library("cannot sign".into()))?;
        signature
            .as_ref()
            .try_into()
            .map_err(|_| CryptoError::Library("a signature of a strange length".into()))
    }

    /// Checks a signature of the domain.
    ///
    /// # Errors
    /// [`CryptoError::Open`] if it is not one.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), CryptoError> {
        UnparsedPublicKey::new(&ED25519, &self.0.verifying_key)
            .verify(message, signature)
            .map_err(|_| CryptoError::Open)
    }

    /// Returns the root secret, which full keys alone hold.
    pub(crate) fn root(&self) -> Result<&RootSecret, CryptoError> {
        match &self.0.held {
            Held::Full { root, .. } => Ok(root),
            Held::IngestOnly { .. } => Err(CryptoError::IngestOnly),
        }
    }

    /// Returns the secret to seal with as `writer`.
    fn secret_of(&self, writer: &Writer) -> Result<Zeroizing<[u8; 32]>, CryptoError> {
        match &self.0.held {
            Held::Full { root, .. } => writer_secret(root, self.0.domain, writer),
            Held::IngestOnly { writer: own, secret } if own == writer => Ok(secret.clone()),
            Held::IngestOnly { .. } => Err(writer.refused("this key is that of another writer")),
        }
    }

    fn hpke_info(&self) -> Vec<u8> {
        [b"yester 1 object key", &self.0.domain.as_bytes()[..]].concat()
    }
}

impl fmt::Debug for DomainKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DomainKeys({}, ..)", self.0.domain)
    }
}

fn library(error: HpkeError) -> CryptoError {
    CryptoError::Library(error.to_string())
}

/// Derives what only `writer` and the holders of the full keys know.
fn writer_secret(
    root: &RootSecret,
    domain: DomainId,
    writer: &Writer,
) -> Result<Zeroizing<[u8; 32]>, CryptoError> {
    let parts: [&[u8]; 6] = [
        root.expose(),
        domain.as_bytes(),
        &[writer.class.code()],
        writer.id.as_bytes(),
        &[writer.host_length()?],
        writer.host.as_bytes(),
    ];
    Ok(derive("yester 1 writer secret", &parts))
}

fn psk_id(writer: &Writer) -> Vec<u8> {
    [&[writer.class.code()], &writer.id.as_bytes()[..], writer.host.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    fn domain() -> DomainId {
        DomainId::from_bytes([0xd0; 16])
    }

    fn root() -> RootSecret {
        RootSecret::from_bytes(std::array::from_fn(|i| u8::try_from(i).unwrap()))
    }

    fn keys() -> DomainKeys {
        DomainKeys::full(&root(), domain()).unwrap()
    }

    fn writer(class: WriterClass, host: &str) -> Writer {
        Writer { class, host: host.into(), id: WriterId::from_bytes([0x77; 16]) }
    }

    #[test]
    fn derived_keys_are_frozen() {
        let keys = keys();
        let hex = |bytes: &[u8]| HEXLOWER.encode(bytes);
        let Held::Full { opening_key, .. } = &keys.0.held else { unreachable!() };
        let secret = |class| hex(&*writer_secret(&root(), domain(), &writer(class, "db1")).unwrap());
        let own = keys.ingest_only(&writer(WriterClass::IngestOnly, "db1")).unwrap();
        let actual = [
            ("id key", hex(keys.ids().expose())),
            ("chunker seed", format!("{:016x}", keys.chunker_seed())),
            ("hpke private key", hex(&opening_key.to_bytes())),
            ("hpke public key", hex(&keys.0.sealing_key.to_bytes())),
            ("verifying key", hex(&keys.0.verifying_key)),
            ("signature of abc", hex(&keys.sign(b"abc").unwrap())),
            ("secret of a full writer", secret(WriterClass::Full)),
            ("secret of an ingest-only writer", secret(WriterClass::IngestOnly)),
            ("cache key", hex(keys.cache_key().expose())),
            ("cache key of an ingest-only writer", hex(own.cache_key().expose())),
            ("public root", hex(RootSecret::public().expose())),
        ];
        let expected = [
            ("id key", "fd761387ffd93019b46af8c9bb7097b474b1b52c208461e706f1c1450a323076"),
            ("chunker seed", "56f6cd01f3f1aa1c"),
            ("hpke private key", "00ff1dcaa8e692b03a80568bbe074d10cebcd984cf7da2d3a4c55e22e83e3447"),
            ("hpke public key", "ae798564fe00c82a2bc601960d35976be84a91a37fd0dcb985e36e5dfd4cf926"),
            ("verifying key", "0f577d32ee3adb5eb4285fd194fb45e189a5c6fee6f1d55e193b8ccbfbceb2f7"),
            (
                "signature of abc",
                "65f3991ea4000e4fb592596480293f4ff8ff665395c78a03a5a90ca372fdeb094810895082feea2e1f16d1b297992877f87a5520df115426fb3072659ee90b0f",
            ),
            ("secret of a full writer", "d05b2c1bbb67d12e601a74581d74ccada62b34daeef9d91fddd2a9ed1f5a5637"),
            (
                "secret of an ingest-only writer",
                "680f035d69d55c4e0ff5ba23b1f01d052f3b6d138ab438b5cc6f11a7fe3a3235",
            ),
            ("cache key", "b78490f2e9e48cf7e66f957910037a6009c647a49a69c7c4e0313592b388fc37"),
            (
                "cache key of an ingest-only writer",
                "06a02d81baf388218d9e12d155e46ed1064097e1b10a5262c96b393ee1306ab5",
            ),
            ("public root", "cf5ca6e33347b4bdea4aab667dc3e287347b580789f17b8dbd9033cee5d70f46"),
        ];
        assert_eq!(actual.each_ref().map(|(name, value)| (*name, value.as_str())), expected);
    }

    #[test]
    fn another_domain_has_other_keys() {
        let other = DomainKeys::full(&root(), DomainId::from_bytes([1; 16])).unwrap();
        assert_ne!(other.ids().expose(), keys().ids().expose());
        assert_ne!(other.chunker_seed(), keys().chunker_seed());
        assert_ne!(other.0.verifying_key, keys().0.verifying_key);
        assert_ne!(other.cache_key().expose(), keys().cache_key().expose());
    }

    #[test]
    fn only_the_writer_that_sealed_opens() {
        let keys = keys();
        let sealer = writer(WriterClass::Full, "db1");
        let (key, sealed) = keys.seal_key(&sealer, b"header").unwrap();
        assert_eq!(keys.open_key(&sealer, b"header", &sealed).unwrap().expose(), key.expose());
        assert!(matches!(keys.open_key(&sealer, b"headeR", &sealed), Err(CryptoError::Open)));
        let other_id = Writer { id: WriterId::from_bytes([0; 16]), ..sealer.clone() };
        for other in [writer(WriterClass::IngestOnly, "db1"), writer(WriterClass::Full, "db2"), other_id] {
            assert!(matches!(keys.open_key(&other, b"header", &sealed), Err(CryptoError::Open)), "{other:?}");
        }
        let stranger = DomainKeys::full(&root(), DomainId::from_bytes([1; 16])).unwrap();
        assert!(matches!(stranger.open_key(&sealer, b"header", &sealed), Err(CryptoError::Open)));
    }

    #[test]
    fn no_byte_of_a_sealed_key_may_change() {
        let keys = keys();
        let sealer = writer(WriterClass::Full, "db1");
        let (_, sealed) = keys.seal_key(&sealer, b"header").unwrap();
        for position in 0..32 {
            let mut altered = sealed.clone();
            altered.encapsulated[position] ^= 1;
            assert!(keys.open_key(&sealer, b"header", &altered).is_err(), "encapsulated key, {position}");
        }
        for position in 0..48 {
            let mut altered = sealed.clone();
            altered.ciphertext[position] ^= 1;
            assert!(keys.open_key(&sealer, b"header", &altered).is_err(), "ciphertext, {position}");
        }
    }

    #[test]
    fn an_ingest_only_key_seals_as_itself_and_opens_nothing() {
        let full = keys();
        let own = writer(WriterClass::IngestOnly, "db1");
        let keys = full.ingest_only(&own).unwrap();
        let (key, sealed) = keys.seal_key(&own, b"header").unwrap();
        assert_eq!(full.open_key(&own, b"header", &sealed).unwrap().expose(), key.expose());
        assert!(matches!(keys.open_key(&own, b"header", &sealed), Err(CryptoError::IngestOnly)));
        assert!(matches!(keys.sign(b"message"), Err(CryptoError::IngestOnly)));
        assert!(matches!(keys.ingest_only(&own), Err(CryptoError::IngestOnly)));
        for other in [writer(WriterClass::Full, "db1"), writer(WriterClass::IngestOnly, "db2")] {
            assert!(matches!(keys.seal_key(&other, b"header"), Err(CryptoError::Writer { .. })));
        }
        let signature = full.sign(b"message").unwrap();
        keys.verify(b"message", &signature).unwrap();
        assert!(keys.verify(b"massage", &signature).is_err());
        assert_eq!(keys.ids().expose(), full.ids().expose());
        assert_eq!(keys.chunker_seed(), full.chunker_seed());
    }

    #[test]
    fn writers_that_cannot_be_are_refused() {
        let keys = keys();
        for host in [String::new(), "h".repeat(256)] {
            let writer = writer(WriterClass::Full, &host);
            assert!(matches!(keys.seal_key(&writer, b""), Err(CryptoError::Writer { .. })));
        }
        assert!(keys.ingest_only(&writer(WriterClass::Full, "db1")).is_err());
    }

    #[test]
    fn debug_output_shows_no_secret() {
        assert_eq!(format!("{:?}", root()), "RootSecret(..)");
        assert_eq!(format!("{:?}", keys()), format!("DomainKeys({}, ..)", "d0".repeat(16)));
    }
}
