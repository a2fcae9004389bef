//! Frozen configs, key slots, snapshots and marks: what a store holds as JSON, signed, clear or sealed.

use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use super::{Recipe, SETS, chunk_id, encrypted_keys, encrypted_root, frozen, keys_of, leaf_page, writer};
use crate::chunker::ChunkerParams;
use crate::crypto::secrets::{DomainKeys, RootSecret, Writer};
use crate::crypto::slot::{Argon2Params, Credential, FileKey, SlotKdf, WrappedRoot};
use crate::format::FormatError;
use crate::format::config::{Config, Encryption};
use crate::format::keys::{KeySlot, SlotKind};
use crate::format::snapshot::{
    Completeness, Dump, DumpCheck, Manifest, Mark, MarkState, Output, SessionMark, SnapshotObject,
    SnapshotTotals,
};
use crate::format::tree::{Attributes, Page, TreeRef};
use crate::id::{PackId, SessionId, SlotId, StoreId};
use crate::process::Process;

const SESSION: &str = "20261121T053106Z-0123456789abcdef0123456789abcdef";
const PROGRESS_MARK: u32 = 1;
const SNAPSHOT_MARK: u32 = 2;

const SLOTS: [&str; 3] = ["passphrase", "key-file", "recovery"];
const SLOT_SALT: [u8; 16] = [0x5a; 16];
const PASSPHRASE: &str = "correct horse";
/// The bytes 00 01 … 1f.
const FILE_KEY: &str = "YESTERKEY1-AAAQE-AYEAU-DAOCA-JBIFQ-YDIOB-4IBCE-QTCQK-RMFYY-DENBW-HA5DY-P6KKH-JK4";

/// Returns the files of this module.
pub(super) fn recipes() -> Vec<(String, Recipe)> {
    let mut recipes: Vec<(String, Recipe)> = Vec::new();
    for name in SLOTS {
        recipes.push((format!("{name}.key-slot.json"), Box::new(move || slot(name).encode())));
    }
    for set in SETS {
        recipes
            .push((format!("{set}.config.json"), Box::new(move || config(set).seal(&keys_of(set)).unwrap())));
        for sealed in SEALED {
            let make = move || (sealed.seal)(&keys_of(set)).unwrap();
            recipes.push((format!("{set}.{}", sealed.name), Box::new(make)));
        }
    }
    recipes
}

fn session() -> SessionId {
    SESSION.parse().unwrap()
}

fn time() -> jiff::Timestamp {
    "2026-11-21T05:31:06.25Z".parse().unwrap()
}

fn config(set: &str) -> Config {
    Config {
        version: 1,
        domain: keys_of(set).domain(),
        store: StoreId::from_bytes([0x50; 16]),
        encryption: if set == "encrypted" { Encryption::Sealed } else { Encryption::None },
        chunker: ChunkerParams::DEFAULT,
        read_features: vec![],
        write_features: vec![],
        collect_features: vec![],
        created: "2026-11-21T05:31:06Z".parse().unwrap(),
    }
}

/// Returns a key slot. Its commitment and seal follow from its salt, its credential and the root secret.
fn slot(name: &str) -> KeySlot {
    let argon2 = || SlotKdf::Argon2id {
        params: Argon2Params { memory_kib: 8192, passes: 1, lanes: 1 },
        salt: SLOT_SALT,
    };
    let file_key = || SlotKdf::FileKey { salt: SLOT_SALT };
    let (number, kind, kdf) = match name {
        "passphrase" => (1, SlotKind::Passphrase, argon2()),
        "key-file" => (2, SlotKind::KeyFile, file_key()),
        _ => (3, SlotKind::Recovery, file_key()),
    };
    let (commitment, sealed) = match kind {
        SlotKind::Passphrase => (
            "df7671f903b11181c4866354156faa9e114d5ad8ca7416e38c613e64b7257f87",
            "0c40e49a44b2741851f6c249148f997f56c97ce4a99b54e48bbd3006c1d0d4d8ee301785e2b2d66882c868d2dd0f4fca",
        ),
        SlotKind::KeyFile | SlotKind::Recovery => (
            "f866ecf93185e927c32880adfeed7c95f6c8c3fc2c7d3de23ce6657819b67233",
            "f042bdf82b3b75c1d6527e71513131ef479573ab2747aa7b17dfff08dc0a49637d674fed5eb9e7624742c9080682ab41",
        ),
    };
    let hex = |digits: &str| HEXLOWER.decode(digits.as_bytes()).unwrap();
    KeySlot {
        id: SlotId::from_bytes([number; 8]),
        domain: encrypted_keys().domain(),
        kind,
        created: time(),
        root: WrappedRoot {
            kdf,
            commitment: hex(commitment).try_into().unwrap(),
            sealed: hex(sealed).try_into().unwrap(),
        },
    }
}

fn credential(kind: SlotKind) -> Credential {
    match kind {
        SlotKind::Passphrase => Credential::Passphrase(Zeroizing::new(PASSPHRASE.into())),
        SlotKind::KeyFile | SlotKind::Recovery => Credential::FileKey(FileKey::parse(FILE_KEY).unwrap()),
    }
}

/// Opens a slot as it is opened in a store: one of another domain is passed over.
fn root_of(slot: &KeySlot) -> Option<RootSecret> {
    let domain = encrypted_keys().domain();
    let root = slot.root.unwrap_root(domain, &credential(slot.kind)).ok();
    root.filter(|_| slot.domain == domain)
}

/// Returns the first frozen manifest, which is older than the field `dump`.
fn manifest() -> SnapshotObject {
    SnapshotObject::Manifest(Box::new(manifest_with(None)))
}

fn manifest_with_dump() -> SnapshotObject {
    SnapshotObject::Manifest(Box::new(manifest_with(Some(Dump {
        formats: vec!["gzip".into(), "pg-custom".into(), "later".into()],
        check: DumpCheck::Broken,
        reason: "it ends before its \"end\"\n(ä)".into(),
        compressed: true,
        filled_offsets: u64::MAX,
    }))))
}

/// Returns the frozen manifest of a copy.
fn manifest_of_copy() -> SnapshotObject {
    let origin = "20260707T070707Z-07070707070707070707070707070707".parse().unwrap();
    SnapshotObject::Manifest(Box::new(Manifest { origin: Some(origin), ..manifest_with(None) }))
}

/// Returns the frozen manifest of several commands.
fn manifest_of_commands() -> SnapshotObject {
    let broken = Dump {
        formats: vec!["pg-sql".into()],
        check: DumpCheck::Broken,
        reason: "it ends without pg_dump's closing comment".into(),
        compressed: false,
        filled_offsets: 0,
    };
    let whole = Dump {
        formats: vec!["pg-custom".into()],
        check: DumpCheck::Whole,
        reason: String::new(),
        filled_offsets: 5,
        ..broken.clone()
    };
    let outputs = vec![
        Output {
            name: b"shop.dump".to_vec(),
            command: vec![b"pg_dump".to_vec(), b"--file=\xfe\x00".to_vec(), vec![]],
            dump: whole,
        },
        Output { name: b"\xff.sql".to_vec(), command: vec![b"pg_dumpall".to_vec()], dump: broken.clone() },
    ];
    let paths = outputs.iter().map(|output| output.name.clone()).collect();
    SnapshotObject::Manifest(Box::new(Manifest { paths, outputs, ..manifest_with(Some(broken)) }))
}

/// Returns a manifest in which every other field is used, also with bytes that are no text.
fn manifest_with(dump: Option<Dump>) -> Manifest {
    Manifest {
        id: session(),
        time: time(),
        finished: "2026-11-21T05:33:00.000000001Z".parse().unwrap(),
        source: "shop-db_2.main".into(),
        host: "db1".into(),
        tags: vec!["Büro \"2\"".into(), "nightly".into(), "pg".into()],
        paths: vec![b"/srv/shop".to_vec(), b"/srv/\xff".to_vec(), "/srv/ä\n".into()],
        command: Some(vec![b"pg_dump".to_vec(), b"--file=\xfe\x00".to_vec(), vec![]]),
        completeness: Completeness::Suspicious,
        root_attributes: full_attributes(),
        root: TreeRef { page: chunk_id(6), entries: u64::MAX, bytes: 1 << 63 },
        tree_packs: vec![PackId::from_bytes([8; 32]), PackId::from_bytes([7; 32])],
        totals: SnapshotTotals {
            files: 1,
            directories: 2,
            others: 3,
            bytes: u64::MAX,
            added_bytes: 5,
            stored_bytes: 6,
            failed_files: 7,
        },
        dump,
        outputs: Vec::new(),
        program: "yester 0.1.0".into(),
        origin: None,
    }
}

/// Returns the attributes of the first entry of the frozen leaf page: every field is used, with spilled,
/// inline and empty extended attributes.
fn full_attributes() -> Attributes {
    let Page::Entries(entries) = leaf_page() else { unreachable!() };
    entries.into_iter().next().unwrap().attributes
}

fn tombstone() -> SnapshotObject {
    SnapshotObject::Tombstone { time: time() }
}

fn session_mark() -> SessionMark {
    SessionMark {
        time: time(),
        source: "shop-db".into(),
        process: Process { pid: u32::MAX, start: 0, boot: String::new() },
    }
}

fn snapshot_mark() -> Mark {
    Mark { time: time(), state: MarkState::Protected }
}

/// A kind of sealed object: how it is made, and who made it if it opens to the expected value.
#[derive(Clone, Copy)]
struct Sealed {
    name: &'static str,
    seal: fn(&DomainKeys) -> Result<Vec<u8>, FormatError>,
    open: fn(&DomainKeys, &[u8]) -> Result<Writer, FormatError>,
}

const SEALED: [Sealed; 7] = [
    Sealed {
        name: "session-mark",
        seal: |keys| session_mark().seal(session(), PROGRESS_MARK, keys, &writer()),
        open: |keys, bytes| {
            let opened = SessionMark::open(session(), PROGRESS_MARK, keys, bytes);
            opened.map(|(author, mark)| expect(author, &mark, &session_mark()))
        },
    },
    Sealed {
        name: "manifest",
        seal: |keys| manifest().seal(session(), keys, &writer()),
        open: |keys, bytes| {
            let opened = SnapshotObject::open(session(), keys, bytes);
            opened.map(|(author, object)| expect(author, &object, &manifest()))
        },
    },
    Sealed {
        name: "manifest-with-dump",
        seal: |keys| manifest_with_dump().seal(session(), keys, &writer()),
        open: |keys, bytes| {
            let opened = SnapshotObject::open(session(), keys, bytes);
            opened.map(|(author, object)| expect(author, &object, &manifest_with_dump()))
        },
    },
    Sealed {
        name: "manifest-of-copy",
        seal: |keys| manifest_of_copy().seal(session(), keys, &writer()),
        open: |keys, bytes| {
            let opened = SnapshotObject::open(session(), keys, bytes);
            opened.map(|(author, object)| expect(author, &object, &manifest_of_copy()))
        },
    },
    Sealed {
        name: "manifest-of-commands",
        seal: |keys| manifest_of_commands().seal(session(), keys, &writer()),
        open: |keys, bytes| {
            let opened = SnapshotObject::open(session(), keys, bytes);
            opened.map(|(author, object)| expect(author, &object, &manifest_of_commands()))
        },
    },
    Sealed {
        name: "tombstone",
        seal: |keys| tombstone().seal(session(), keys, &writer()),
        open: |keys, bytes| {
            let opened = SnapshotObject::open(session(), keys, bytes);
            opened.map(|(author, object)| expect(author, &object, &tombstone()))
        },
    },
    Sealed {
        name: "mark",
        seal: |keys| snapshot_mark().seal(session(), SNAPSHOT_MARK, keys, &writer()),
        open: |keys, bytes| {
            let opened = Mark::open(session(), SNAPSHOT_MARK, keys, bytes);
            opened.map(|(author, mark)| expect(author, &mark, &snapshot_mark()))
        },
    },
];

fn expect<T: PartialEq + std::fmt::Debug>(author: Writer, found: &T, expected: &T) -> Writer {
    assert_eq!(found, expected);
    author
}

/// Returns `bytes` with each of its bytes changed in turn, and where.
fn altered(bytes: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    (0..bytes.len()).map(|position| {
        let mut altered = bytes.to_vec();
        altered[position] ^= 1;
        (position, altered)
    })
}

#[test]
fn frozen_configs_open_and_none_of_their_bytes_may_change() {
    for set in SETS {
        let (keys, bytes) = (keys_of(set), frozen(&format!("{set}.config.json")));
        assert_eq!(Config::open(&keys, &bytes).unwrap(), config(set));
        assert_eq!(Config::decode_unverified(&bytes).unwrap(), config(set));
        assert_eq!(config(set).seal(&keys).unwrap(), bytes);
        for (position, bytes) in altered(&bytes) {
            assert!(Config::open(&keys, &bytes).is_err(), "{set}: byte {position}");
        }
    }
}

#[test]
fn frozen_key_slots_open() {
    for name in SLOTS {
        let bytes = frozen(&format!("{name}.key-slot.json"));
        let found = KeySlot::decode(&bytes).unwrap();
        assert_eq!(found, slot(name));
        assert_eq!(found.encode(), bytes);
        assert_eq!(root_of(&found).unwrap().expose(), encrypted_root().expose());
    }
}

/// Nothing authenticates the id and the time of a slot, which open nothing; every other byte does its part.
#[test]
fn no_byte_of_a_frozen_key_slot_may_change_unnoticed() {
    for name in SLOTS {
        for (position, bytes) in altered(&frozen(&format!("{name}.key-slot.json"))) {
            let Ok(found) = KeySlot::decode(&bytes) else { continue };
            assert_ne!(found, slot(name), "{name}: byte {position}");
            let labelled = KeySlot { id: slot(name).id, created: slot(name).created, ..found };
            // Stretching a passphrase at every position would take seconds.
            if labelled != slot(name) && name != "passphrase" {
                assert!(root_of(&labelled).is_none(), "{name}: byte {position}");
            }
        }
    }
}

#[test]
fn frozen_sealed_objects_open_and_none_of_their_bytes_may_change() {
    for set in SETS {
        let keys = keys_of(set);
        for Sealed { name, open, .. } in SEALED {
            let bytes = frozen(&format!("{set}.{name}"));
            assert_eq!(open(&keys, &bytes).unwrap(), writer());
            for (position, bytes) in altered(&bytes) {
                assert!(open(&keys, &bytes).is_err(), "{set}.{name}: byte {position}");
            }
        }
    }
}
