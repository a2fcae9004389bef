//! The config object: what a store is and what a program must know to use it.
//!
//! JSON, signed with the domain's Ed25519 key.
//! `config/<n>.json`: `{"body": {…}, "signature": "<base64>"}`; the signature covers `"yester config 1\n"` ‖ the
//! body as canonical JSON (keys sorted, no spaces, ASCII).

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::FormatError;
use super::header;
use super::json::{self, Base64, Text};
use crate::chunker::ChunkerParams;
use crate::crypto::secrets::DomainKeys;
use crate::id::{DomainId, StoreId};

/// Version of the store format that this program writes.
pub const FORMAT_VERSION: u32 = 1;
/// Most bytes of a config object.
pub const CONFIG_MAX_BYTES: usize = 64 << 10;

const WHAT: &str = "store config";
const SIGNED_PREFIX: &str = "yester config 1\n";
const KNOWN_FEATURES: [&str; 0] = [];

/// Whether a store is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// Sealed under the domain's secret root (`"aes-256-gcm"`).
    Sealed,
    /// Sealed under a root that everyone knows (`"none"`).
    None,
}

/// What a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Format version.
    pub version: u32,
    /// Key domain.
    pub domain: DomainId,
    /// This store.
    pub store: StoreId,
    /// Whether it is encrypted.
    pub encryption: Encryption,
    /// Chunk sizes of writers.
    pub chunker: ChunkerParams,
    /// Features a program must know to read, to write, to collect garbage. Version 1 defines none.
    pub read_features: Vec<String>,
    /// To write.
    pub write_features: Vec<String>,
    /// To collect garbage.
    pub collect_features: Vec<String>,
    /// When the store was made.
    pub created: jiff::Timestamp,
}

#[derive(Deserialize)]
struct Stored {
    /// Kept as it came, since the signature covers fields that this program does not know, too.
    body: Value,
    signature: Base64,
}

#[derive(Serialize, Deserialize)]
struct Body {
    version: u32,
    domain: Text<DomainId>,
    store: Text<StoreId>,
    encryption: String,
    chunker: Sizes,
    features: Features,
    created: Text<jiff::Timestamp>,
}

#[derive(Serialize, Deserialize)]
struct Sizes {
    min: u32,
    average: u32,
    max: u32,
}

#[derive(Serialize, Deserialize)]
struct Features {
    read: Vec<String>,
    write: Vec<String>,
    collect: Vec<String>,
}

impl Config {
    /// Encodes and signs.
    ///
    /// # Errors
    /// Fails if the config breaks a rule, is of another domain than `keys`, or these are not full keys.
    pub fn seal(&self, keys: &DomainKeys) -> Result<Vec<u8>, FormatError> {
        self.check()?;
        self.check_domain(keys)?;
        let body = serde_json::to_value(self.to_body()).map_err(|error| json::malformed(WHAT, &error))?;
        let signature = keys.sign(&signed_message(&body)?).map_err(|source| header::crypto(WHAT, source))?;
        let stored = json!({ "body": body, "signature": Base64(signature.to_vec()) });
        Ok(format!("{stored:#}\n").into_bytes())
    }

    /// Decodes without checking the signature: the domain id is needed to derive the keys that check it.
    ///
    /// # Errors
    /// Refuses what is no config, or one that this program is too old for.
    pub fn decode_unverified(bytes: &[u8]) -> Result<Self, FormatError> {
        Self::from_body(decode_stored(bytes)?.body)
    }

    /// Checks the signature and decodes.
    ///
    /// # Errors
    /// [`FormatError::Seal`] if the domain did not sign it.
    pub fn open(keys: &DomainKeys, bytes: &[u8]) -> Result<Self, FormatError> {
        let stored = decode_stored(bytes)?;
        let signature = stored.signature.0.as_slice().try_into();
        let signature =
            signature.map_err(|_| FormatError::malformed(WHAT, "its signature has not 64 bytes"))?;
        keys.verify(&signed_message(&stored.body)?, signature)
            .map_err(|source| header::crypto(WHAT, source))?;
        let config = Self::from_body(stored.body)?;
        config.check_domain(keys)?;
        Ok(config)
    }

    /// Refuses to read (`TooNew`) where a read feature is unknown; likewise for the others.
    ///
    /// # Errors
    /// Names the first feature that is not known.
    pub fn require_readable(&self) -> Result<(), FormatError> {
        require_known("reading this store", &self.read_features)
    }

    /// See [`Self::require_readable`]; a writer must be able to read, too.
    ///
    /// # Errors
    /// Names the first feature that is not known.
    pub fn require_writable(&self) -> Result<(), FormatError> {
        self.require_readable()?;
        require_known("writing to this store", &self.write_features)
    }

    /// See [`Self::require_readable`]; a collector must be able to write, too.
    ///
    /// # Errors
    /// Names the first feature that is not known.
    pub fn require_collectable(&self) -> Result<(), FormatError> {
        self.require_writable()?;
        require_known("collecting garbage in this store", &self.collect_features)
    }

    fn check(&self) -> Result<(), FormatError> {
        if self.version == 0 || self.version > FORMAT_VERSION {
            let why = format!("version {} is not one that this program writes", self.version);
            return Err(FormatError::malformed(WHAT, why));
        }
        self.chunker.check().map_err(|error| FormatError::malformed(WHAT, error.to_string()))?;
        let mut features = [&self.read_features, &self.write_features, &self.collect_features].into_iter();
        if features.any(|names| !names.iter().all(|name| is_feature_name(name))) {
            return Err(FormatError::malformed(WHAT, "a feature has a name other than a-z, 0-9 and dashes"));
        }
        Ok(())
    }

    fn check_domain(&self, keys: &DomainKeys) -> Result<(), FormatError> {
        if self.domain == keys.domain() {
            return Ok(());
        }
        let why = format!("it is of domain {}, not {}", self.domain, keys.domain());
        Err(FormatError::malformed(WHAT, why))
    }

    fn to_body(&self) -> Body {
        Body {
            version: self.version,
            domain: Text(self.domain),
            store: Text(self.store),
            encryption: encryption_name(self.encryption).into(),
            chunker: Sizes {
                min: self.chunker.min_bytes,
                average: self.chunker.average_bytes,
                max: self.chunker.max_bytes,
            },
            features: Features {
                read: self.read_features.clone(),
                write: self.write_features.clone(),
                collect: self.collect_features.clone(),
            },
            created: Text(self.created),
        }
    }

    fn from_body(body: Value) -> Result<Self, FormatError> {
        let body: Body = serde_json::from_value(body).map_err(|error| json::malformed(WHAT, &error))?;
        let encryption = [Encryption::Sealed, Encryption::None]
            .into_iter()
            .find(|known| encryption_name(*known) == body.encryption)
            .ok_or_else(|| too_new(WHAT, format!("encryption {:?}", body.encryption)))?;
        let Sizes { min, average, max } = body.chunker;
        let config = Self {
            version: body.version,
            domain: body.domain.0,
            store: body.store.0,
            encryption,
            chunker: ChunkerParams { min_bytes: min, average_bytes: average, max_bytes: max },
            read_features: body.features.read,
            write_features: body.features.write,
            collect_features: body.features.collect,
            created: body.created.0,
        };
        config.check()?;
        Ok(config)
    }
}

/// Decodes the outer object and looks at the version alone, since a newer one may change everything else.
fn decode_stored(bytes: &[u8]) -> Result<Stored, FormatError> {
    let value: Value = json::decode(WHAT, bytes, CONFIG_MAX_BYTES)?;
    let version = value.pointer("/body/version").and_then(Value::as_u64);
    match version {
        Some(newer) if newer > u64::from(FORMAT_VERSION) => {
            return Err(too_new(WHAT, format!("format version {newer}")));
        }
        None | Some(0) => return Err(FormatError::malformed(WHAT, "it names no format version")),
        Some(_) => {}
    }
    serde_json::from_value(value).map_err(|error| json::malformed(WHAT, &error))
}

/// Returns what the signature covers. `serde_json` writes the keys of its own maps sorted, and no spaces.
fn signed_message(body: &Value) -> Result<Vec<u8>, FormatError> {
    let canonical = body.to_string();
    if !canonical.is_ascii() {
        return Err(FormatError::malformed(WHAT, "a text in it is not ASCII"));
    }
    Ok([SIGNED_PREFIX, &canonical].concat().into_bytes())
}

fn require_known(what: &'static str, features: &[String]) -> Result<(), FormatError> {
    match features.iter().find(|feature| !KNOWN_FEATURES.contains(&feature.as_str())) {
        Some(unknown) => Err(too_new(what, format!("feature {unknown:?}"))),
        None => Ok(()),
    }
}

fn is_feature_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=64).contains(&name.len()) && name.bytes().all(allowed)
}

const fn encryption_name(encryption: Encryption) -> &'static str {
    match encryption {
        Encryption::Sealed => "aes-256-gcm",
        Encryption::None => "none",
    }
}

fn too_new(what: &'static str, why: String) -> FormatError {
    FormatError::TooNew { what, why }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::CryptoError;
    use crate::crypto::secrets::{RootSecret, Writer, WriterClass};
    use crate::id::WriterId;

    fn keys_of(domain: [u8; 16]) -> DomainKeys {
        let root = RootSecret::from_bytes(std::array::from_fn(|i| u8::try_from(i).unwrap()));
        DomainKeys::full(&root, DomainId::from_bytes(domain)).unwrap()
    }

    fn keys() -> DomainKeys {
        keys_of([0xd0; 16])
    }

    fn config() -> Config {
        Config {
            version: 1,
            domain: DomainId::from_bytes([0xd0; 16]),
            store: StoreId::from_bytes([0x50; 16]),
            encryption: Encryption::Sealed,
            chunker: ChunkerParams::DEFAULT,
            read_features: vec![],
            write_features: vec![],
            collect_features: vec![],
            created: "2026-11-21T05:31:06Z".parse().unwrap(),
        }
    }

    fn altered(pointer: &str, value: impl Into<Value>) -> Vec<u8> {
        let mut stored: Value = serde_json::from_slice(&config().seal(&keys()).unwrap()).unwrap();
        *stored.pointer_mut(pointer).unwrap() = value.into();
        stored.to_string().into_bytes()
    }

    #[test]
    fn the_text_and_its_signature_are_frozen() {
        let expected = r#"{
  "body": {
    "chunker": {
      "average": 262144,
      "max": 1048576,
      "min": 65536
    },
    "created": "2026-11-21T05:31:06Z",
    "domain": "d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0",
    "encryption": "aes-256-gcm",
    "features": {
      "collect": [],
      "read": [],
      "write": []
    },
    "store": "50505050505050505050505050505050",
    "version": 1
  },
  "signature": "cQLw2WvSI8fxUbgp6v/f2arok4FkF5Y1GtBpWMywyuFnZDbCsAZQWkvnjI4dd8Rt4CzZvoNRaeBT/ytg+zBbCQ=="
}
"#;
        assert_eq!(String::from_utf8(config().seal(&keys()).unwrap()).unwrap(), expected);
    }

    /// Holds as long as no dependency turns on the feature of `serde_json` that keeps the order of keys.
    #[test]
    fn the_signed_form_is_sorted_and_dense() {
        let body: Value = serde_json::from_str(r#"{ "b": [1, 2], "a": { "d": "x", "c": null } }"#).unwrap();
        let message = String::from_utf8(signed_message(&body).unwrap()).unwrap();
        assert_eq!(message, "yester config 1\n{\"a\":{\"c\":null,\"d\":\"x\"},\"b\":[1,2]}");
        assert!(signed_message(&json!({ "a": "é" })).is_err());
    }

    #[test]
    fn every_field_is_signed() {
        for (pointer, value) in [
            ("/body/store", Value::from("51".repeat(16))),
            ("/body/encryption", "none".into()),
            ("/body/chunker/min", 1024.into()),
            ("/body/chunker/average", 131_072.into()),
            ("/body/chunker/max", 2_097_152.into()),
            ("/body/features/read", json!(["x"])),
            ("/body/features/write", json!(["x"])),
            ("/body/features/collect", json!(["x"])),
            ("/body/created", "2026-11-21T05:31:07Z".into()),
            ("/signature", Base64Of([0; 64]).into()),
        ] {
            let bytes = altered(pointer, value);
            assert!(Config::decode_unverified(&bytes).is_ok(), "{pointer}");
            assert!(matches!(Config::open(&keys(), &bytes), Err(FormatError::Seal { .. })), "{pointer}");
        }
    }

    struct Base64Of([u8; 64]);

    impl From<Base64Of> for Value {
        fn from(bytes: Base64Of) -> Self {
            serde_json::to_value(Base64(bytes.0.to_vec())).unwrap()
        }
    }

    #[test]
    fn what_is_newer_is_told_apart_from_what_is_broken() {
        let decode = |pointer, value: Value| Config::decode_unverified(&altered(pointer, value)).unwrap_err();
        let too_new = |pointer, value| matches!(decode(pointer, value), FormatError::TooNew { .. });
        assert!(too_new("/body/version", 2.into()));
        assert!(too_new("/body/encryption", "rot13".into()));
        let malformed = |pointer, value| matches!(decode(pointer, value), FormatError::Malformed { .. });
        assert!(malformed("/body/version", 0.into()));
        assert!(malformed("/body/chunker/min", 65.into()));
        assert!(malformed("/body/chunker/max", (8 << 20).into()));
        assert!(malformed("/body/features/read", json!(["Ä"])));
        assert!(malformed("/body/domain", "00".into()));
        assert!(malformed("/body", Value::Null));
        assert!(malformed("/signature", Value::Null));
        assert!(Config::decode_unverified(&vec![b' '; CONFIG_MAX_BYTES + 1]).is_err());
    }

    #[test]
    fn fields_of_later_programs_are_ignored_but_signed() {
        let keys = keys();
        let mut body = serde_json::to_value(config().to_body()).unwrap();
        body["later"] = "x".into();
        let signature = Base64(keys.sign(&signed_message(&body).unwrap()).unwrap().to_vec());
        let mut stored = json!({ "body": body, "signature": signature });
        assert_eq!(Config::open(&keys, stored.to_string().as_bytes()).unwrap(), config());
        stored["body"]["later"] = "y".into();
        assert!(Config::open(&keys, stored.to_string().as_bytes()).is_err());
    }

    #[test]
    fn only_full_keys_of_the_domain_sign() {
        assert!(matches!(config().seal(&keys_of([1; 16])), Err(FormatError::Malformed { .. })));
        let sealed = config().seal(&keys()).unwrap();
        assert!(matches!(Config::open(&keys_of([1; 16]), &sealed), Err(FormatError::Seal { .. })));
        let writer =
            Writer { class: WriterClass::IngestOnly, host: "db1".into(), id: WriterId::from_bytes([7; 16]) };
        let own = keys().ingest_only(&writer).unwrap();
        assert_eq!(Config::open(&own, &sealed).unwrap(), config());
        let refused = config().seal(&own);
        assert!(matches!(refused, Err(FormatError::Keys { source: CryptoError::IngestOnly, .. })));
    }

    #[test]
    fn unknown_features_refuse_their_class_of_work() {
        let may = |config: &Config| {
            [config.require_readable(), config.require_writable(), config.require_collectable()]
                .map(|result| result.is_ok())
        };
        let unknown = || vec!["time-travel".to_owned()];
        assert_eq!(may(&config()), [true; 3]);
        assert_eq!(may(&Config { collect_features: unknown(), ..config() }), [true, true, false]);
        assert_eq!(may(&Config { write_features: unknown(), ..config() }), [true, false, false]);
        assert_eq!(may(&Config { read_features: unknown(), ..config() }), [false; 3]);
    }

    proptest! {
        #[test]
        fn configs_survive(
            store: [u8; 16],
            plain: bool,
            sizes in (32_u32..1000, 1_u32..1000, 1_u32..1000),
            features in prop::collection::vec("[a-z0-9-]{1,64}", 0..4),
            nanoseconds in 0_i128..253_402_300_799_000_000_000,
        ) {
            let min_bytes = 2 * sizes.0;
            let average_bytes = min_bytes + 2 * sizes.1;
            let max_bytes = average_bytes + 2 * sizes.2;
            let config = Config {
                store: StoreId::from_bytes(store),
                encryption: if plain { Encryption::None } else { Encryption::Sealed },
                chunker: ChunkerParams { min_bytes, average_bytes, max_bytes },
                read_features: features.clone(),
                write_features: features.iter().skip(1).cloned().collect(),
                collect_features: features.into_iter().skip(2).collect(),
                created: jiff::Timestamp::from_nanosecond(nanoseconds).unwrap(),
                ..config()
            };
            let keys = keys();
            let sealed = config.seal(&keys).unwrap();
            prop_assert!(sealed.is_ascii());
            prop_assert_eq!(&Config::open(&keys, &sealed).unwrap(), &config);
            prop_assert_eq!(Config::decode_unverified(&sealed).unwrap(), config);
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            prop_assert!(Config::open(&keys(), &bytes).is_err());
        }
    }
}
