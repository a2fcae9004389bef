//! The clear header that every sealed object starts with, and the seal of small objects.
//!
//! ```text
//! offset  size
//!      0     8  magic: 89 59 53 54 52 0d 0a 1a
//!      8     1  format version: 1
//!      9     1  object kind
//!     10     1  suite: 1 = HPKE PSK (X25519, HKDF-SHA256, AES-256-GCM), AES-256-GCM parts
//!     11     1  writer class: 1 full, 2 ingest-only
//!     12    16  domain id
//!     28    16  writer id
//!     44     1  length h of the host name, 1 to 255
//!     45     h  host name, UTF-8
//!   45+h    32  HPKE encapsulated key
//!   77+h    48  object key, sealed
//! ```
//! The header hash is BLAKE3 of these 125+h bytes; it is the associated data of every part of the object.

use super::FormatError;
use crate::crypto::CryptoError;
use crate::crypto::seal::{Part, SealKey, TAG_BYTES};
use crate::crypto::secrets::{DomainKeys, SealedKey, Writer, WriterClass};
use crate::id::{DomainId, WriterId};

const MAGIC: [u8; 8] = [0x89, b'Y', b'S', b'T', b'R', 0x0d, 0x0a, 0x1a];
const VERSION: u8 = 1;
const SUITE: u8 = 1;
const WHAT: &str = "object header";

/// What a sealed object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    /// 1: a pack of data chunks.
    DataPack,
    /// 2: a pack of trees, spilled values and list nodes.
    TreePack,
    /// 3: an index object.
    Index,
    /// 4: a mark of a session.
    SessionMark,
    /// 5: a snapshot's manifest or a tombstone.
    Snapshot,
    /// 6: a mark of a snapshot.
    Mark,
}

impl ObjectKind {
    const ALL: [Self; 6] =
        [Self::DataPack, Self::TreePack, Self::Index, Self::SessionMark, Self::Snapshot, Self::Mark];

    pub(super) const fn code(self) -> u8 {
        match self {
            Self::DataPack => 1,
            Self::TreePack => 2,
            Self::Index => 3,
            Self::SessionMark => 4,
            Self::Snapshot => 5,
            Self::Mark => 6,
        }
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// Returns what messages call such an object.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DataPack => "data pack",
            Self::TreePack => "tree pack",
            Self::Index => "index object",
            Self::SessionMark => "session mark",
            Self::Snapshot => "snapshot",
            Self::Mark => "mark",
        }
    }
}

/// The decoded header of a sealed object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// What the object is.
    pub kind: ObjectKind,
    /// Its domain.
    pub domain: DomainId,
    /// Who made it.
    pub writer: Writer,
    /// Its key, sealed.
    pub sealed_key: SealedKey,
}

/// BLAKE3 of a header's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderHash(pub [u8; 32]);

impl HeaderHash {
    fn of(header: &[u8]) -> Self {
        Self(*blake3::hash(header).as_bytes())
    }
}

impl Header {
    /// Longest header in bytes.
    pub const MAX_BYTES: usize = 125 + 255;

    /// Makes the header of a new object with a fresh key; returns its bytes, their hash and the key.
    ///
    /// # Errors
    /// Fails if `keys` cannot write as `writer`, or the cryptographic library fails.
    pub fn create(
        kind: ObjectKind,
        keys: &DomainKeys,
        writer: &Writer,
    ) -> Result<(Vec<u8>, HeaderHash, SealKey), FormatError> {
        let mut bytes = encode_prefix(kind, keys.domain(), writer)?;
        let (key, sealed) = keys.seal_key(writer, &bytes).map_err(|source| crypto(kind.name(), source))?;
        bytes.extend_from_slice(&sealed.encapsulated);
        bytes.extend_from_slice(&sealed.ciphertext);
        let hash = HeaderHash::of(&bytes);
        Ok((bytes, hash, key))
    }

    /// Decodes a header from the start of `bytes`; returns it, its hash and its length.
    ///
    /// # Errors
    /// Refuses what is no header, and versions and suites that this program does not know.
    pub fn decode(bytes: &[u8]) -> Result<(Self, HeaderHash, usize), FormatError> {
        let mut rest = bytes;
        if take(&mut rest)? != MAGIC {
            return Err(FormatError::malformed(WHAT, "it does not start with the magic bytes"));
        }
        let [version, kind, suite, class] = take(&mut rest)?;
        match version {
            VERSION => {}
            0 => return Err(FormatError::malformed(WHAT, "version 0 does not exist")),
            newer => return Err(too_new(format!("format version {newer}"))),
        }
        if suite != SUITE {
            return Err(too_new(format!("cipher suite {suite}")));
        }
        let kind = ObjectKind::from_code(kind)
            .ok_or_else(|| FormatError::malformed(WHAT, format!("object kind {kind} does not exist")))?;
        let class = WriterClass::from_code(class)
            .ok_or_else(|| FormatError::malformed(WHAT, format!("writer class {class} does not exist")))?;
        let domain = DomainId::from_bytes(take(&mut rest)?);
        let id = WriterId::from_bytes(take(&mut rest)?);
        let host = take_host(&mut rest)?;
        let sealed_key = SealedKey { encapsulated: take(&mut rest)?, ciphertext: take(&mut rest)? };
        let length = bytes.len() - rest.len();
        let hash = HeaderHash::of(bytes.get(..length).unwrap_or_default());
        Ok((Self { kind, domain, writer: Writer { class, host, id }, sealed_key }, hash, length))
    }

    /// Opens the object key; refuses another domain or kind than expected.
    ///
    /// # Errors
    /// [`FormatError::Seal`] if the writer that the header names did not seal it for this domain.
    pub fn open(&self, kind: ObjectKind, keys: &DomainKeys) -> Result<SealKey, FormatError> {
        self.require(kind)?;
        if self.domain != keys.domain() {
            let why = format!("it is of domain {}, not {}", self.domain, keys.domain());
            return Err(FormatError::malformed(WHAT, why));
        }
        let prefix = encode_prefix(self.kind, self.domain, &self.writer)?;
        keys.open_key(&self.writer, &prefix, &self.sealed_key).map_err(|source| crypto(kind.name(), source))
    }

    fn require(&self, kind: ObjectKind) -> Result<(), FormatError> {
        if self.kind == kind {
            return Ok(());
        }
        let why = format!("it is a {}, not a {}", self.kind.name(), kind.name());
        Err(FormatError::malformed(WHAT, why))
    }
}

/// What finds the key of an object: the keys of its domain, or that key itself, where it was found before.
pub trait ObjectKeys {
    /// Returns the key of an object with this header; refuses another kind than expected.
    ///
    /// # Errors
    /// [`FormatError::Seal`] if the writer that the header names did not seal it for this domain.
    fn key_of(&self, header: &Header, kind: ObjectKind) -> Result<SealKey, FormatError>;
}

impl ObjectKeys for DomainKeys {
    fn key_of(&self, header: &Header, kind: ObjectKind) -> Result<SealKey, FormatError> {
        header.open(kind, self)
    }
}

impl ObjectKeys for SealKey {
    fn key_of(&self, header: &Header, kind: ObjectKind) -> Result<SealKey, FormatError> {
        header.require(kind)?;
        Ok(self.clone())
    }
}

/// Finds the key of a small object, with which it opens faster the next time.
///
/// # Errors
/// As [`Header::decode`] and [`Header::open`].
pub fn object_key(kind: ObjectKind, keys: &DomainKeys, bytes: &[u8]) -> Result<SealKey, FormatError> {
    Header::decode(bytes)?.0.open(kind, keys)
}

/// Seals a small object as one: header, then body under [`Part::Body`]. Returns its key as well.
///
/// The associated data of the body is the header hash ‖ the store key of the object.
///
/// # Errors
/// Fails if `keys` cannot write as `writer`, or the cryptographic library fails.
pub fn seal_object(
    kind: ObjectKind,
    keys: &DomainKeys,
    writer: &Writer,
    store_key: &str,
    body: &[u8],
) -> Result<(Vec<u8>, SealKey), FormatError> {
    let (mut object, hash, key) = Header::create(kind, keys, writer)?;
    let mut sealed = Vec::with_capacity(body.len() + TAG_BYTES);
    sealed.extend_from_slice(body);
    key.seal(Part::Body, 0, &body_aad(hash, store_key), &mut sealed)
        .map_err(|source| crypto(kind.name(), source))?;
    object.append(&mut sealed);
    Ok((object, key))
}

/// Opens what [`seal_object`] made, and says who made it.
///
/// # Errors
/// Fails unless `bytes` are exactly what was sealed for this domain, kind and store key.
pub fn open_object(
    kind: ObjectKind,
    keys: &impl ObjectKeys,
    store_key: &str,
    bytes: &[u8],
) -> Result<(Writer, Vec<u8>), FormatError> {
    let (header, hash, length) = Header::decode(bytes)?;
    let key = keys.key_of(&header, kind)?;
    let mut body = bytes.get(length..).unwrap_or_default().to_vec();
    let plain_bytes = key
        .open(Part::Body, 0, &body_aad(hash, store_key), &mut body)
        .map_err(|source| crypto(kind.name(), source))?
        .len();
    body.truncate(plain_bytes);
    Ok((header.writer, body))
}

/// Says what a failure of the keys means for the object: a seal that does not open is damage.
pub(super) fn crypto(what: &'static str, source: CryptoError) -> FormatError {
    match source {
        CryptoError::Open => FormatError::Seal { what },
        source => FormatError::Keys { what, source },
    }
}

fn too_new(why: String) -> FormatError {
    FormatError::TooNew { what: WHAT, why }
}

fn body_aad(hash: HeaderHash, store_key: &str) -> Vec<u8> {
    [&hash.0, store_key.as_bytes()].concat()
}

/// Encodes all of a header before the sealed key, which authenticates it.
fn encode_prefix(kind: ObjectKind, domain: DomainId, writer: &Writer) -> Result<Vec<u8>, FormatError> {
    let host = writer.host.as_bytes();
    let host_bytes = u8::try_from(host.len()).ok().filter(|length| *length > 0);
    let host_bytes =
        host_bytes.ok_or_else(|| FormatError::malformed(WHAT, "the host name must have 1 to 255 bytes"))?;
    let mut bytes = Vec::with_capacity(Header::MAX_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[VERSION, kind.code(), SUITE, writer.class.code()]);
    bytes.extend_from_slice(domain.as_bytes());
    bytes.extend_from_slice(writer.id.as_bytes());
    bytes.push(host_bytes);
    bytes.extend_from_slice(host);
    Ok(bytes)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], FormatError> {
    let (taken, after) = rest.split_first_chunk::<N>().ok_or_else(cut_short)?;
    *rest = after;
    Ok(*taken)
}

fn take_host(rest: &mut &[u8]) -> Result<String, FormatError> {
    let [length] = take(rest)?;
    if length == 0 {
        return Err(FormatError::malformed(WHAT, "the host name is empty"));
    }
    let (taken, after) = rest.split_at_checked(length.into()).ok_or_else(cut_short)?;
    *rest = after;
    let host =
        std::str::from_utf8(taken).map_err(|_| FormatError::malformed(WHAT, "the host name is not UTF-8"))?;
    Ok(host.to_owned())
}

fn cut_short() -> FormatError {
    FormatError::malformed(WHAT, "it is cut short")
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::secrets::RootSecret;

    const STORE_KEY: &str = "marks/x.0";

    fn keys() -> DomainKeys {
        let root = RootSecret::from_bytes(std::array::from_fn(|i| u8::try_from(i).unwrap()));
        DomainKeys::full(&root, DomainId::from_bytes([0xd0; 16])).unwrap()
    }

    fn writer(class: WriterClass, host: &str) -> Writer {
        Writer { class, host: host.into(), id: WriterId::from_bytes([0x77; 16]) }
    }

    fn sealed() -> Vec<u8> {
        seal_object(ObjectKind::Mark, &keys(), &writer(WriterClass::Full, "db1"), STORE_KEY, b"body")
            .unwrap()
            .0
    }

    /// Sealed once by the first version of this code; the store keeps such objects for ever.
    #[test]
    fn a_frozen_object_opens() {
        let object = HEXLOWER.decode(b"89595354520d0a1a01060101d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d07777777777777777777777777777777703646231\
                    c4a85d9f9ff989a4dd3988db0430b680ad6e8313a45087bd4f0a5b0c83853874f6949c8f886d213dd6f434596a0a9318\
                    26845ea5ddd0dae7a325e70e864ad89fd4ec38b96d46f74d171ad2349d9e163791f41fe49c26079abab4cb35eabc7329\
                    84290a6a").unwrap();
        let (author, body) = open_object(ObjectKind::Mark, &keys(), STORE_KEY, &object).unwrap();
        assert_eq!((author, &body[..]), (writer(WriterClass::Full, "db1"), &b"body"[..]));
    }

    #[test]
    fn the_layout_is_frozen() {
        let object = sealed();
        let prefix = "89595354520d0a1a01060101d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d077777777777777777777777777777777\
                      03646231";
        assert_eq!(HEXLOWER.encode(&object[..48]), prefix);
        assert_eq!(object.len(), 125 + 3 + b"body".len() + TAG_BYTES);
        let (header, hash, length) = Header::decode(&object).unwrap();
        assert_eq!(length, 128);
        assert_eq!(hash.0, *blake3::hash(&object[..128]).as_bytes());
        assert_eq!(header.sealed_key.encapsulated[..], object[48..80]);
        assert_eq!(header.sealed_key.ciphertext[..], object[80..128]);
    }

    #[test]
    fn no_byte_of_an_object_may_change() {
        let object = sealed();
        for position in 0..object.len() {
            let mut altered = object.clone();
            altered[position] ^= 1;
            assert!(open_object(ObjectKind::Mark, &keys(), STORE_KEY, &altered).is_err(), "{position}");
        }
        for length in 0..object.len() {
            assert!(
                open_object(ObjectKind::Mark, &keys(), STORE_KEY, &object[..length]).is_err(),
                "{length}"
            );
        }
        let longer = [&object[..], &[0]].concat();
        assert!(open_object(ObjectKind::Mark, &keys(), STORE_KEY, &longer).is_err());
    }

    #[test]
    fn an_object_opens_in_its_place_only() {
        let object = sealed();
        let open = |kind, keys: &DomainKeys, key| open_object(kind, keys, key, &object);
        assert!(open(ObjectKind::Mark, &keys(), STORE_KEY).is_ok());
        assert!(matches!(open(ObjectKind::Mark, &keys(), "marks/y.0"), Err(FormatError::Seal { .. })));
        assert!(matches!(open(ObjectKind::Index, &keys(), STORE_KEY), Err(FormatError::Malformed { .. })));
        let root = RootSecret::from_bytes(std::array::from_fn(|i| u8::try_from(i).unwrap()));
        let other_domain = DomainKeys::full(&root, DomainId::from_bytes([1; 16])).unwrap();
        assert!(matches!(
            open(ObjectKind::Mark, &other_domain, STORE_KEY),
            Err(FormatError::Malformed { .. })
        ));
        let other_root =
            DomainKeys::full(&RootSecret::from_bytes([9; 32]), DomainId::from_bytes([0xd0; 16])).unwrap();
        assert!(matches!(open(ObjectKind::Mark, &other_root, STORE_KEY), Err(FormatError::Seal { .. })));
    }

    #[test]
    fn nobody_speaks_for_another_writer() {
        let own = writer(WriterClass::IngestOnly, "db1");
        let object = {
            let keys = keys().ingest_only(&own).unwrap();
            seal_object(ObjectKind::Mark, &keys, &own, STORE_KEY, b"body").unwrap().0
        };
        assert_eq!(open_object(ObjectKind::Mark, &keys(), STORE_KEY, &object).unwrap().0, own);
        let (header, _, length) = Header::decode(&object).unwrap();
        for other in [writer(WriterClass::Full, "db1"), writer(WriterClass::IngestOnly, "db22")] {
            let mut forged = encode_prefix(ObjectKind::Mark, header.domain, &other).unwrap();
            forged.extend_from_slice(&object[length - 80..]);
            let opened = open_object(ObjectKind::Mark, &keys(), STORE_KEY, &forged);
            assert!(matches!(opened, Err(FormatError::Seal { .. })), "{other:?}");
        }
    }

    #[test]
    fn an_ingest_only_key_is_told_apart_from_damage() {
        let keys = keys().ingest_only(&writer(WriterClass::IngestOnly, "db1")).unwrap();
        let opened = open_object(ObjectKind::Mark, &keys, STORE_KEY, &sealed());
        assert!(matches!(opened, Err(FormatError::Keys { source: CryptoError::IngestOnly, .. })));
    }

    #[test]
    fn what_is_newer_is_told_apart_from_what_is_broken() {
        let decode = |position: usize, value: u8| {
            let mut object = sealed();
            object[position] = value;
            Header::decode(&object).unwrap_err()
        };
        assert!(matches!(decode(8, 2), FormatError::TooNew { .. }));
        assert!(matches!(decode(10, 2), FormatError::TooNew { .. }));
        for (position, value) in [(0, b'x'), (8, 0), (9, 0), (9, 7), (11, 0), (11, 3), (44, 0), (45, 0xff)] {
            assert!(matches!(decode(position, value), FormatError::Malformed { .. }), "{position}");
        }
    }

    #[test]
    fn hosts_have_1_to_255_bytes() {
        for (length, fits) in [(0, false), (1, true), (255, true), (256, false)] {
            let writer = writer(WriterClass::Full, &"h".repeat(length));
            let created = Header::create(ObjectKind::DataPack, &keys(), &writer);
            assert_eq!(created.is_ok(), fits, "{length}");
            if let Ok((bytes, hash, _)) = created {
                assert!(bytes.len() <= Header::MAX_BYTES);
                assert_eq!(Header::decode(&bytes).unwrap().1, hash);
            }
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>, keep in 0_usize..=48) {
            let object = [&sealed()[..keep], &bytes].concat();
            prop_assert!(open_object(ObjectKind::Mark, &keys(), STORE_KEY, &object).is_err());
        }
    }
}
