//! Key slot objects: `keys/<id>.<copy>.json`, copies 0 and 1 alike.
//!
//! They are neither sealed nor signed: what they hold proves itself when it is opened (`crypto::slot`).

use serde::Deserialize;
use serde_json::{Value, json};

use super::FormatError;
use super::json::{self, Hex, Text};
use crate::crypto::slot::{Argon2Params, SlotKdf, WrappedRoot};
use crate::id::{DomainId, SlotId};

/// Most key slots of a store.
pub const SLOTS_MAX: usize = 64;
/// Most bytes of a key slot object.
pub const SLOT_MAX_BYTES: usize = 16 << 10;

const VERSION: u64 = 1;
const WHAT: &str = "key slot";
const ARGON2ID: &str = "argon2id";
const KEY_FILE: &str = "key-file";

/// What a slot is for, as people see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotKind {
    /// A passphrase.
    Passphrase,
    /// A key file.
    KeyFile,
    /// The recovery key printed by `init`.
    Recovery,
}

impl SlotKind {
    const ALL: [Self; 3] = [Self::Passphrase, Self::KeyFile, Self::Recovery];

    /// Returns what stands for this kind in a store and in lists.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passphrase => "passphrase",
            Self::KeyFile => "key-file",
            Self::Recovery => "recovery",
        }
    }
}

/// A decoded key slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySlot {
    /// Its id.
    pub id: SlotId,
    /// Its domain.
    pub domain: DomainId,
    /// What it is for.
    pub kind: SlotKind,
    /// When it was made.
    pub created: jiff::Timestamp,
    /// The root secret.
    pub root: WrappedRoot,
}

#[derive(Deserialize)]
struct Stored {
    id: Text<SlotId>,
    domain: Text<DomainId>,
    kind: String,
    created: Text<jiff::Timestamp>,
    kdf: Value,
    commitment: Hex<32>,
    sealed: Hex<48>,
}

#[derive(Deserialize)]
struct StoredArgon2 {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: Hex<16>,
}

#[derive(Deserialize)]
struct StoredKeyFile {
    salt: Hex<16>,
}

impl KeySlot {
    /// Encodes as JSON.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let kdf = match &self.root.kdf {
            SlotKdf::Argon2id { params, salt } => json!({
                "algorithm": ARGON2ID,
                "memory_kib": params.memory_kib,
                "passes": params.passes,
                "lanes": params.lanes,
                "salt": Hex(*salt),
            }),
            SlotKdf::FileKey { salt } => json!({ "algorithm": KEY_FILE, "salt": Hex(*salt) }),
        };
        let slot = json!({
            "version": VERSION,
            "id": Text(self.id),
            "domain": Text(self.domain),
            "kind": self.kind.name(),
            "created": Text(self.created),
            "kdf": kdf,
            "commitment": Hex(self.root.commitment),
            "sealed": Hex(self.root.sealed),
        });
        format!("{slot:#}\n").into_bytes()
    }

    /// Decodes and checks. Whether the Argon2 parameters are accepted is found when the slot is opened.
    ///
    /// # Errors
    /// Refuses what is no key slot, and versions and algorithms that this program does not know.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let value: Value = json::decode(WHAT, bytes, SLOT_MAX_BYTES)?;
        match value.get("version").and_then(Value::as_u64) {
            Some(VERSION) => {}
            Some(version) if version > VERSION => return Err(too_new(format!("version {version}"))),
            _ => return Err(FormatError::malformed(WHAT, "it names no version")),
        }
        let stored: Stored = from_value(value)?;
        let kind = SlotKind::ALL.into_iter().find(|kind| kind.name() == stored.kind);
        let kind = kind.ok_or_else(|| too_new(format!("key slots of kind {:?}", stored.kind)))?;
        let kdf = decode_kdf(stored.kdf)?;
        if matches!(kdf, SlotKdf::Argon2id { .. }) != (kind == SlotKind::Passphrase) {
            return Err(FormatError::malformed(WHAT, "its algorithm is not one of its kind"));
        }
        let root = WrappedRoot { kdf, commitment: stored.commitment.0, sealed: stored.sealed.0 };
        Ok(Self { id: stored.id.0, domain: stored.domain.0, kind, created: stored.created.0, root })
    }
}

fn decode_kdf(value: Value) -> Result<SlotKdf, FormatError> {
    let algorithm = value.get("algorithm").and_then(Value::as_str).unwrap_or_default();
    match algorithm {
        ARGON2ID => {
            let StoredArgon2 { memory_kib, passes, lanes, salt } = from_value(value)?;
            let params = Argon2Params { memory_kib, passes, lanes };
            Ok(SlotKdf::Argon2id { params, salt: salt.0 })
        }
        KEY_FILE => Ok(SlotKdf::FileKey { salt: from_value::<StoredKeyFile>(value)?.salt.0 }),
        "" => Err(FormatError::malformed(WHAT, "it names no algorithm")),
        other => Err(too_new(format!("algorithm {other:?}"))),
    }
}

fn from_value<T: for<'de> Deserialize<'de>>(value: Value) -> Result<T, FormatError> {
    serde_json::from_value(value).map_err(|error| json::malformed(WHAT, &error))
}

fn too_new(why: String) -> FormatError {
    FormatError::TooNew { what: WHAT, why }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slot() -> KeySlot {
        let params = Argon2Params { memory_kib: 8192, passes: 1, lanes: 2 };
        KeySlot {
            id: SlotId::from_bytes([1; 8]),
            domain: DomainId::from_bytes([2; 16]),
            kind: SlotKind::Passphrase,
            created: "2026-11-21T05:31:06Z".parse().unwrap(),
            root: WrappedRoot {
                kdf: SlotKdf::Argon2id { params, salt: [3; 16] },
                commitment: [4; 32],
                sealed: [5; 48],
            },
        }
    }

    fn altered(change: impl FnOnce(&mut Value)) -> Result<KeySlot, FormatError> {
        let mut value: Value = serde_json::from_slice(&slot().encode()).unwrap();
        change(&mut value);
        KeySlot::decode(value.to_string().as_bytes())
    }

    #[test]
    fn the_text_is_frozen() {
        let expected = r#"{
  "commitment": "0404040404040404040404040404040404040404040404040404040404040404",
  "created": "2026-11-21T05:31:06Z",
  "domain": "02020202020202020202020202020202",
  "id": "0101010101010101",
  "kdf": {
    "algorithm": "argon2id",
    "lanes": 2,
    "memory_kib": 8192,
    "passes": 1,
    "salt": "03030303030303030303030303030303"
  },
  "kind": "passphrase",
  "sealed": "050505050505050505050505050505050505050505050505050505050505050505050505050505050505050505050505",
  "version": 1
}
"#;
        assert_eq!(String::from_utf8(slot().encode()).unwrap(), expected);
    }

    #[test]
    fn what_is_newer_is_told_apart_from_what_is_broken() {
        let too_new = |slot| matches!(slot, Err(FormatError::TooNew { .. }));
        assert!(too_new(altered(|slot| slot["version"] = 2.into())));
        assert!(too_new(altered(|slot| slot["kind"] = "token".into())));
        assert!(too_new(altered(|slot| slot["kdf"]["algorithm"] = "scrypt".into())));
        let malformed = |slot| matches!(slot, Err(FormatError::Malformed { .. }));
        assert!(malformed(altered(|slot| slot["version"] = 0.into())));
        assert!(malformed(altered(|slot| slot["version"] = Value::Null)));
        assert!(malformed(altered(|slot| slot["kind"] = "recovery".into())));
        assert!(malformed(altered(|slot| slot["kdf"]["algorithm"] = KEY_FILE.into())));
        assert!(malformed(altered(|slot| slot["kdf"] = Value::Null)));
        assert!(malformed(altered(|slot| slot["kdf"]["passes"] = (-1).into())));
        for field in ["id", "domain", "created", "commitment", "sealed"] {
            assert!(malformed(altered(|slot| slot[field] = "00".into())), "{field}");
        }
        assert!(malformed(KeySlot::decode(&vec![b' '; SLOT_MAX_BYTES + 1])));
    }

    #[test]
    fn unknown_fields_are_ignored() {
        assert_eq!(altered(|slot| slot["later"] = 1.into()).unwrap(), slot());
    }

    proptest! {
        #[test]
        fn slots_survive(
            id: [u8; 8],
            domain: [u8; 16],
            seconds in 0_i64..253_402_300_799,
            kind in 0_usize..3,
            costs: [u32; 3],
            salt: [u8; 16],
            commitment: [u8; 32],
            seal: [[u8; 24]; 2],
        ) {
            let kind = SlotKind::ALL[kind];
            let [memory_kib, passes, lanes] = costs;
            let kdf = match kind {
                SlotKind::Passphrase => {
                    SlotKdf::Argon2id { params: Argon2Params { memory_kib, passes, lanes }, salt }
                }
                SlotKind::KeyFile | SlotKind::Recovery => SlotKdf::FileKey { salt },
            };
            let sealed = seal.concat().try_into().unwrap();
            let slot = KeySlot {
                id: SlotId::from_bytes(id),
                domain: DomainId::from_bytes(domain),
                kind,
                created: jiff::Timestamp::from_second(seconds).unwrap(),
                root: WrappedRoot { kdf, commitment, sealed },
            };
            prop_assert_eq!(KeySlot::decode(&slot.encode()).unwrap(), slot);
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            prop_assert!(KeySlot::decode(&bytes).is_err());
        }
    }
}
