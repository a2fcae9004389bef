//! The text form of an ingest-only key: all that a host with such a key knows of a domain.
//!
//! ```text
//! offset  size
//!      0    16  domain id
//!     16    32  X25519 public key of the domain
//!     48    32  Ed25519 public key of the domain
//!     80    32  id key
//!    112     8  chunker seed, u64 le
//!    120    16  writer id
//!    136    32  writer secret
//!    168     1  length h of the host name, 1 to 255
//!    169     h  host name, UTF-8
//! ```
//! Written `YESTERINGEST1-XXXXX-…`: base32 of these bytes and the first 4 bytes of their BLAKE3, in groups of 5.

use zeroize::Zeroizing;

use super::secrets::{DomainKeys, IngestParts, Writer, WriterClass};
use super::{CryptoError, armor};
use crate::id::{DomainId, WriterId};

const PREFIX: &str = "YESTERINGEST1";
const HOST_OFFSET: usize = 169;

/// Returns the text form of ingest-only keys; nothing for full keys.
#[must_use]
pub fn to_text(keys: &DomainKeys) -> Option<Zeroizing<String>> {
    let parts = keys.ingest_parts()?;
    let host = parts.writer.host.as_bytes();
    // Reserved at once, so that growing leaves no copy of the secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(HOST_OFFSET + host.len()));
    bytes.extend_from_slice(parts.domain.as_bytes());
    bytes.extend_from_slice(&parts.sealing_key);
    bytes.extend_from_slice(&parts.verifying_key);
    bytes.extend_from_slice(&*parts.id_key);
    bytes.extend_from_slice(&parts.chunker_seed.to_le_bytes());
    bytes.extend_from_slice(parts.writer.id.as_bytes());
    bytes.extend_from_slice(&*parts.secret);
    bytes.push(u8::try_from(host.len()).ok()?);
    bytes.extend_from_slice(host);
    Some(armor::encode(PREFIX, &bytes))
}

/// Parses the text form; case, spaces and dashes do not matter.
///
/// # Errors
/// [`CryptoError::NotAKey`] says whether the text is of another kind, cut, or mistyped.
pub fn parse(text: &str) -> Result<DomainKeys, CryptoError> {
    let text = armor::normalize(text);
    let digits = text
        .strip_prefix(PREFIX)
        .ok_or_else(|| CryptoError::NotAKey(format!("an ingest-only key begins with {PREFIX}")))?;
    let bytes = armor::decode(digits)?;
    DomainKeys::from_ingest_parts(
        decode(&bytes)
            .ok_or_else(|| CryptoError::NotAKey("it is no ingest-only key of this version".into()))?,
    )
}

/// Tells whether a text claims to be such a key.
#[must_use]
pub fn looks_like(text: &str) -> bool {
    armor::normalize(text).starts_with(PREFIX)
}

/// Returns the parts that `bytes` hold, exactly and nothing behind them.
fn decode(bytes: &[u8]) -> Option<IngestParts> {
    let (domain, rest) = bytes.split_first_chunk()?;
    let (sealing_key, rest) = rest.split_first_chunk()?;
    let (verifying_key, rest) = rest.split_first_chunk()?;
    let (id_key, rest) = rest.split_first_chunk()?;
    let (chunker_seed, rest) = rest.split_first_chunk()?;
    let (writer_id, rest) = rest.split_first_chunk()?;
    let (secret, rest) = rest.split_first_chunk()?;
    let (host_bytes, host) = rest.split_first()?;
    if host.is_empty() || host.len() != usize::from(*host_bytes) {
        return None;
    }
    let host = std::str::from_utf8(host).ok()?.to_owned();
    Some(IngestParts {
        domain: DomainId::from_bytes(*domain),
        sealing_key: *sealing_key,
        verifying_key: *verifying_key,
        id_key: Zeroizing::new(*id_key),
        chunker_seed: u64::from_le_bytes(*chunker_seed),
        writer: Writer { class: WriterClass::IngestOnly, host, id: WriterId::from_bytes(*writer_id) },
        secret: Zeroizing::new(*secret),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::secrets::RootSecret;

    fn full() -> DomainKeys {
        let root = RootSecret::from_bytes(std::array::from_fn(|i| u8::try_from(i).unwrap()));
        DomainKeys::full(&root, DomainId::from_bytes([0xd0; 16])).unwrap()
    }

    fn ingest_only(host: &str, id: [u8; 16]) -> DomainKeys {
        let writer =
            Writer { class: WriterClass::IngestOnly, host: host.to_owned(), id: WriterId::from_bytes(id) };
        full().ingest_only(&writer).unwrap()
    }

    fn bytes_of(keys: &DomainKeys) -> Vec<u8> {
        let text = armor::normalize(&to_text(keys).unwrap());
        armor::decode(text.strip_prefix(PREFIX).unwrap()).unwrap().to_vec()
    }

    #[test]
    fn the_text_is_frozen() {
        const FROZEN: &str = "\
            YESTERINGEST1-2DINB-UGQ2D-INBUG-Q2DIN-BUGQ2-CXHTB-LE7YA-MQKRL-YYAZM-DJVS5-V6QSU-RUN7\
            5-BXFZQ-XRW4X-P5JT4-SMD2X-PUZO4-OW3L2-2CQX6-RST5U-LYMJU-XDP5Z-XR2VP-BSO4M-ZP545-MXX7\
            V-3BHB7-73EYB-TNDK7-DE3W4-EXWR2-LDNJM-ECCGD-ZYG6H-AUKCR-SGB3B-ZKXR6-MA435-SWO53-XO53\
            X-O53XO-53XO5-3XO53-XO5UA-6A25N-HKVYT-QP6W5-CHMPQ-DUCS6-O3NCO-FLIOF-VZRXR-DJ76H-IZDK\
            A-3EMIY-UEORS-GE";
        let text = to_text(&ingest_only("db1", [0x77; 16])).unwrap();
        assert_eq!(*text, FROZEN);
        for typed in [text.to_lowercase(), text.replace('-', " "), format!("  {}\n", text.replace('-', ""))] {
            assert!(looks_like(&typed));
            assert_eq!(to_text(&parse(&typed).unwrap()).unwrap(), text);
        }
    }

    #[test]
    fn what_was_passed_on_writes_as_its_writer_alone_and_opens_nothing() {
        let keys = parse(&to_text(&ingest_only("db1", [7; 16])).unwrap()).unwrap();
        let writer = keys.ingest_writer().unwrap().clone();
        assert_eq!((writer.class, writer.host.as_str()), (WriterClass::IngestOnly, "db1"));
        let (key, sealed) = keys.seal_key(&writer, b"header").unwrap();
        let opened = full().open_key(&writer, b"header", &sealed).unwrap();
        assert_eq!(opened.expose(), key.expose());
        assert!(matches!(keys.open_key(&writer, b"header", &sealed), Err(CryptoError::IngestOnly)));
        assert!(matches!(keys.sign(b"x"), Err(CryptoError::IngestOnly)));
        assert!(matches!(keys.root(), Err(CryptoError::IngestOnly)));
        keys.verify(b"x", &full().sign(b"x").unwrap()).unwrap();
        for other in [
            Writer { class: WriterClass::Full, ..writer.clone() },
            Writer { host: "db2".into(), ..writer.clone() },
            Writer { id: WriterId::from_bytes([8; 16]), ..writer.clone() },
        ] {
            assert!(matches!(keys.seal_key(&other, b"header"), Err(CryptoError::Writer { .. })));
        }
    }

    /// Who holds one host's key and writes another host's name into it has a key that seals nothing that opens.
    #[test]
    fn another_name_in_the_text_does_not_speak_for_that_host() {
        let mut bytes = bytes_of(&ingest_only("db1", [7; 16]));
        *bytes.last_mut().unwrap() = b'2';
        let forged = parse(&armor::encode(PREFIX, &bytes)).unwrap();
        let writer = forged.ingest_writer().unwrap().clone();
        assert_eq!(writer.host, "db2");
        let (_, sealed) = forged.seal_key(&writer, b"header").unwrap();
        assert!(matches!(full().open_key(&writer, b"header", &sealed), Err(CryptoError::Open)));
    }

    #[test]
    fn what_is_no_ingest_only_key_says_why() {
        let text = to_text(&ingest_only("db1", [7; 16])).unwrap();
        let why = |text: &str| parse(text).unwrap_err().to_string();
        assert!(why("YESTERKEY1-AAAQE").contains("begins with YESTERINGEST1"));
        assert!(
            why(&text[..text.len() - 9]).contains("checksum") || why(&text[..text.len() - 9]).contains("cut")
        );
        assert!(why(PREFIX).contains("cut short"));
        assert!(why(&text.replacen("-2", "-8", 1)).contains("a character other than"));
        let typed = text.replacen("-2", "-3", 1);
        assert!(typed != *text && why(&typed).contains("mistyped"));
        let bytes = bytes_of(&ingest_only("db1", [7; 16]));
        let mut longer = bytes.clone();
        longer.push(b'x');
        let mut nameless = bytes[..HOST_OFFSET].to_vec();
        nameless[HOST_OFFSET - 1] = 0;
        for wrong in [&longer[..], &nameless, &bytes[..HOST_OFFSET], &bytes[..20], b""] {
            assert!(why(&armor::encode(PREFIX, wrong)).contains("of this version"), "{}", wrong.len());
        }
        assert!(to_text(&full()).is_none());
    }

    proptest! {
        #[test]
        fn keys_survive_their_text_and_one_typo_never_passes(
            host in "[a-zäö.-]{1,60}",
            id: [u8; 16],
            position: prop::sample::Index,
            digit in "[A-Z2-7]",
        ) {
            let keys = ingest_only(&host, id);
            let text = to_text(&keys).unwrap();
            let parsed = parse(&text).unwrap();
            prop_assert_eq!(to_text(&parsed).unwrap(), text.clone());
            prop_assert_eq!(parsed.ingest_writer(), keys.ingest_writer());
            let mut typed = armor::normalize(&text).to_string();
            let at = PREFIX.len() + position.index(typed.len() - PREFIX.len());
            let same = typed[at..=at] == digit;
            typed.replace_range(at..=at, &digit);
            prop_assert_eq!(parse(&typed).is_ok(), same);
        }

        #[test]
        fn parsing_any_text_or_bytes_never_panics(text: String, bytes: Vec<u8>) {
            prop_assert!(parse(&text).is_err());
            prop_assert!(parse(&armor::encode(PREFIX, &bytes)).is_err());
        }
    }
}
