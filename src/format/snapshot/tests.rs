//! Tests of snapshots and marks: their forms are frozen, and every rule is enforced both ways.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::crypto::secrets::RootSecret;
use crate::id::{ChunkId, DomainId, WriterId};

const SID: &str = "20261121T053106Z-0123456789abcdef0123456789abcdef";
const OTHER_SID: &str = "20261121T053106Z-0123456789abcdef0123456789abcdee";

fn sid() -> SessionId {
    SID.parse().unwrap()
}

fn time() -> jiff::Timestamp {
    "2026-11-21T05:31:06.25Z".parse().unwrap()
}

fn before_1970() -> jiff::Timestamp {
    "1969-12-31T23:59:59Z".parse().unwrap()
}

fn keys() -> DomainKeys {
    let root = RootSecret::from_bytes(std::array::from_fn(|i| u8::try_from(i).unwrap()));
    DomainKeys::full(&root, DomainId::from_bytes([0xd0; 16])).unwrap()
}

fn writer(class: WriterClass) -> Writer {
    Writer { class, host: "db1".into(), id: WriterId::from_bytes([0x77; 16]) }
}

fn full() -> Writer {
    writer(WriterClass::Full)
}

fn manifest() -> Manifest {
    Manifest {
        id: sid(),
        time: time(),
        finished: time(),
        source: "shop-db".into(),
        host: "db1".into(),
        tags: vec!["nightly".into(), "pg".into()],
        paths: vec![b"/srv/shop".to_vec(), b"/srv/\xff".to_vec()],
        command: Some(vec![b"pg_dump".to_vec(), b"shop".to_vec()]),
        completeness: Completeness::Partial,
        root_attributes: Attributes { mode: 0o755, uid: 1, gid: 2, ..Attributes::default() },
        root: TreeRef { page: ChunkId::from_bytes([6; 32]), entries: 3, bytes: 4 },
        tree_packs: vec![PackId::from_bytes([7; 32])],
        totals: SnapshotTotals {
            files: 1,
            directories: 2,
            others: 3,
            bytes: 4,
            added_bytes: 5,
            stored_bytes: 6,
            failed_files: 7,
        },
        dump: None,
        outputs: Vec::new(),
        program: "yester 0.1.0".into(),
        origin: None,
    }
}

fn sealed(change: impl FnOnce(&mut Manifest)) -> Result<Vec<u8>, FormatError> {
    let mut manifest = manifest();
    change(&mut manifest);
    SnapshotObject::Manifest(Box::new(manifest)).seal(sid(), &keys(), &full())
}

/// Seals the manifest's JSON with a change that [`SnapshotObject::seal`] would not let through, and opens it.
fn opened(writer: &Writer, change: impl FnOnce(&mut Value)) -> Result<SnapshotObject, FormatError> {
    let object = SnapshotObject::Manifest(Box::new(manifest()));
    let mut value = serde_json::to_value(StoredSnapshot::from(&object)).unwrap();
    change(&mut value);
    let bytes = SNAPSHOT.seal(&keys(), writer, &snapshot_key(sid()), &value)?;
    SnapshotObject::open(sid(), &keys(), &bytes).map(|(_, object)| object)
}

type Change = fn(&mut Manifest);

fn is_malformed<T>(result: &Result<T, FormatError>) -> bool {
    matches!(result, Err(FormatError::Malformed { .. }))
}

#[test]
fn the_json_of_a_manifest_is_frozen() {
    let object = SnapshotObject::Manifest(Box::new(manifest()));
    let mut value = serde_json::to_value(StoredSnapshot::from(&object)).unwrap();
    assert!(value["root"]["attributes"].is_string());
    value["root"]["attributes"] = Value::Null;
    let expected = json!({
        "kind": "manifest",
        "id": SID,
        "time": "2026-11-21T05:31:06.25Z",
        "finished": "2026-11-21T05:31:06.25Z",
        "source": "shop-db",
        "host": "db1",
        "tags": ["nightly", "pg"],
        "paths": ["/srv/shop", { "b64": "L3Nydi//" }],
        "command": ["pg_dump", "shop"],
        "completeness": "partial",
        "root": { "page": "06".repeat(32), "entries": 3, "bytes": 4, "attributes": null },
        "tree_packs": ["07".repeat(32)],
        "totals": {
            "files": 1, "directories": 2, "others": 3, "bytes": 4,
            "added_bytes": 5, "stored_bytes": 6, "failed_files": 7,
        },
        "program": "yester 0.1.0",
    });
    assert_eq!(value, expected, "no field stands for a dump that there is not");
    let SnapshotObject::Manifest(older) = opened(&full(), |_| {}).unwrap() else { unreachable!() };
    assert_eq!((older.dump, older.outputs), (None, Vec::new()));
}

#[test]
fn the_json_of_tombstones_and_marks_is_frozen() {
    let tombstone = StoredSnapshot::from(&SnapshotObject::Tombstone { time: time() });
    let text = serde_json::to_string(&tombstone).unwrap();
    assert_eq!(text, r#"{"kind":"tombstone","time":"2026-11-21T05:31:06.25Z"}"#);
    let process = Process { pid: 42, start: 0, boot: String::new() };
    let mark = SessionMark { time: time(), source: "etc".into(), process };
    let text = serde_json::to_string(&StoredSessionMark::from(&mark)).unwrap();
    assert_eq!(text, r#"{"time":"2026-11-21T05:31:06.25Z","source":"etc","pid":42}"#);
    let process = Process { pid: 42, start: 7, boot: "b pid:[1]".into() };
    let text = serde_json::to_string(&StoredSessionMark::from(&SessionMark { process, ..mark })).unwrap();
    let whole = r#"{"time":"2026-11-21T05:31:06.25Z","source":"etc","pid":42,"start":7,"boot":"b pid:[1]"}"#;
    assert_eq!(text, whole);
    for (state, name) in STATES {
        let text = serde_json::to_string(&StoredMark::from(&Mark { time: time(), state })).unwrap();
        assert_eq!(text, format!(r#"{{"time":"2026-11-21T05:31:06.25Z","state":"{name}"}}"#));
    }
}

const STATES: [(MarkState, &str); 5] = [
    (MarkState::Forgotten, "forgotten"),
    (MarkState::Restored, "restored"),
    (MarkState::Protected, "protected"),
    (MarkState::Unprotected, "unprotected"),
    (MarkState::Accepted, "accepted"),
];

#[test]
fn a_manifest_survives_and_opens_in_its_place_only() {
    let bytes = sealed(|_| {}).unwrap();
    let (author, object) = SnapshotObject::open(sid(), &keys(), &bytes).unwrap();
    assert_eq!((author, object), (full(), SnapshotObject::Manifest(Box::new(manifest()))));
    let elsewhere = SnapshotObject::open(OTHER_SID.parse().unwrap(), &keys(), &bytes);
    assert!(matches!(elsewhere, Err(FormatError::Seal { .. })));
    assert!(is_malformed(&Mark::open(sid(), 0, &keys(), &bytes)));
}

#[test]
fn the_rules_of_a_manifest_hold_when_it_is_sealed() {
    let broken: [(&str, Change); 14] = [
        ("id", |manifest| manifest.id = OTHER_SID.parse().unwrap()),
        ("time", |manifest| manifest.time = before_1970()),
        ("finished", |manifest| manifest.finished = before_1970()),
        ("no source", |manifest| manifest.source.clear()),
        ("long source", |manifest| manifest.source = "s".repeat(101)),
        ("source", |manifest| manifest.source = "a/b".into()),
        ("no host", |manifest| manifest.host.clear()),
        ("long host", |manifest| manifest.host = "h".repeat(256)),
        ("host", |manifest| manifest.host = "a/b".into()),
        ("empty tag", |manifest| manifest.tags = vec![String::new()]),
        ("tag", |manifest| manifest.tags = vec!["..".into()]),
        ("unsorted tags", |manifest| manifest.tags.reverse()),
        ("double tag", |manifest| manifest.tags = vec!["a".into(), "a".into()]),
        ("double pack", |manifest| manifest.tree_packs = vec![PackId::from_bytes([7; 32]); 2]),
    ];
    for (what, change) in broken {
        assert!(is_malformed(&sealed(change)), "{what}");
    }
    assert!(sealed(|manifest| manifest.source = "s".repeat(100)).is_ok());
    assert!(sealed(|manifest| manifest.host = "h".repeat(255)).is_ok());
}

#[test]
fn the_rules_of_a_manifest_hold_when_it_is_opened() {
    assert!(opened(&full(), |_| {}).is_ok());
    let broken: [(&str, Value); 14] = [
        ("/kind", "other".into()),
        ("/id", OTHER_SID.into()),
        ("/time", "1969-12-31T23:59:59Z".into()),
        ("/finished", "2026-11-21T05:31:06+00:00".into()),
        ("/source", "a b".into()),
        ("/host", "..".into()),
        ("/tags", json!(["b", "a"])),
        ("/paths", json!([{ "b64": "YQ==" }])),
        ("/completeness", "unknown".into()),
        ("/root/page", "00".into()),
        ("/root/entries", (-1).into()),
        ("/root/attributes", "AAAA".into()),
        ("/tree_packs", json!(["07"])),
        ("/totals/files", 1.5.into()),
    ];
    for (pointer, value) in broken {
        let result = opened(&full(), |manifest| *manifest.pointer_mut(pointer).unwrap() = value);
        assert!(is_malformed(&result), "{pointer}");
    }
}

#[test]
fn unknown_fields_are_ignored_and_missing_ones_are_not() {
    let expected = SnapshotObject::Manifest(Box::new(manifest()));
    assert_eq!(opened(&full(), |value| value["later"] = json!({ "x": 1 })).unwrap(), expected);
    let remove = |field: &'static str| {
        opened(&full(), move |value| {
            value.as_object_mut().unwrap().remove(field).unwrap();
        })
    };
    let SnapshotObject::Manifest(without_command) = remove("command").unwrap() else { unreachable!() };
    assert_eq!(without_command.command, None);
    for field in ["kind", "id", "time", "source", "host", "tags", "paths", "root", "totals", "program"] {
        assert!(is_malformed(&remove(field)), "{field}");
    }
}

fn dump(check: DumpCheck) -> Dump {
    Dump {
        formats: vec!["gzip".into(), "pg-sql".into()],
        check,
        reason: "why".into(),
        compressed: true,
        filled_offsets: 5,
    }
}

#[test]
fn what_is_known_of_a_dump_survives_and_its_json_is_frozen() {
    for (check, name) in
        [(DumpCheck::Whole, "whole"), (DumpCheck::Unchecked, "unchecked"), (DumpCheck::Broken, "broken")]
    {
        let with_dump = Manifest { dump: Some(dump(check)), ..manifest() };
        let object = SnapshotObject::Manifest(Box::new(with_dump));
        let value = serde_json::to_value(StoredSnapshot::from(&object)).unwrap();
        let expected = json!({
            "formats": ["gzip", "pg-sql"],
            "check": name,
            "reason": "why",
            "compressed": true,
            "filled_offsets": 5,
        });
        assert_eq!(value["dump"], expected);
        let sealed = object.seal(sid(), &keys(), &full()).unwrap();
        assert_eq!(SnapshotObject::open(sid(), &keys(), &sealed).unwrap().1, object);
        // A later program may say more, and know more formats.
        let later = opened(&full(), |manifest| {
            manifest["dump"] = expected.clone();
            manifest["dump"]["later"] = 1.into();
        });
        assert_eq!(later.unwrap(), object);
    }
}

#[test]
fn a_dump_that_breaks_the_rules_is_refused() {
    let whole = json!({
        "formats": ["later"], "check": "whole", "reason": "", "compressed": false, "filled_offsets": 0,
    });
    let with = |change: &dyn Fn(&mut Value)| {
        opened(&full(), |manifest| {
            manifest["dump"] = whole.clone();
            change(&mut manifest["dump"]);
        })
    };
    assert!(with(&|_| {}).is_ok());
    for field in ["formats", "check", "reason", "compressed", "filled_offsets"] {
        let removed = with(&|dump| drop(dump.as_object_mut().unwrap().remove(field).unwrap()));
        assert!(is_malformed(&removed), "{field}");
        assert!(is_malformed(&with(&|dump| dump[field] = json!({}))), "{field}");
    }
    assert!(is_malformed(&with(&|dump| dump["check"] = "perhaps".into())));
    assert!(is_malformed(&with(&|dump| dump["filled_offsets"] = (-1).into())));
}

fn outputs() -> Vec<Output> {
    let output = |name: &[u8], check| Output {
        name: name.to_vec(),
        command: vec![b"pg_dumpall".to_vec(), b"--\xff".to_vec()],
        dump: dump(check),
    };
    vec![output(b"shop.dump", DumpCheck::Whole), output(b"\xff.sql", DumpCheck::Broken)]
}

#[test]
fn what_is_known_of_several_commands_survives_and_its_json_is_frozen() {
    let manifest = Manifest { dump: Some(dump(DumpCheck::Broken)), outputs: outputs(), ..manifest() };
    let object = SnapshotObject::Manifest(Box::new(manifest));
    let value = serde_json::to_value(StoredSnapshot::from(&object)).unwrap();
    let expected = json!({
        "name": { "b64": "/y5zcWw=" },
        "command": ["pg_dumpall", { "b64": "LS3/" }],
        "dump": value["dump"],
    });
    assert_eq!((&value["outputs"][0]["name"], &value["outputs"][1]), (&"shop.dump".into(), &expected));
    let sealed = object.seal(sid(), &keys(), &full()).unwrap();
    assert_eq!(SnapshotObject::open(sid(), &keys(), &sealed).unwrap().1, object);
    let later = opened(&full(), |manifest| {
        manifest["dump"] = value["dump"].clone();
        manifest["outputs"] = value["outputs"].clone();
        manifest["outputs"][0]["later"] = 1.into();
    });
    assert_eq!(later.unwrap(), object);
    for field in ["name", "command", "dump"] {
        let removed = opened(&full(), |manifest| {
            manifest["outputs"] = value["outputs"].clone();
            drop(manifest["outputs"][1].as_object_mut().unwrap().remove(field).unwrap());
        });
        assert!(is_malformed(&removed), "{field}");
    }
    assert!(is_malformed(&opened(&full(), |manifest| manifest["outputs"] = json!({}))));
}

#[test]
fn each_dump_is_named_where_there_are_several() {
    let one = Manifest { dump: Some(dump(DumpCheck::Whole)), ..manifest() };
    assert_eq!(one.dumps().collect::<Vec<_>>(), [(None, &dump(DumpCheck::Whole))]);
    let several = Manifest { outputs: outputs(), ..one };
    let expected = [(&b"shop.dump"[..], dump(DumpCheck::Whole)), (b"\xff.sql", dump(DumpCheck::Broken))];
    let found: Vec<_> = several.dumps().map(|(name, dump)| (name.unwrap(), dump.clone())).collect();
    assert_eq!(found, expected);
    assert_eq!(manifest().dumps().count(), 0);
}

#[test]
fn an_ingest_only_writer_speaks_for_its_own_host() {
    let own = writer(WriterClass::IngestOnly);
    let keys = keys().ingest_only(&own).unwrap();
    let seal = |host: &str| {
        SnapshotObject::Manifest(Box::new(Manifest { host: host.into(), ..manifest() })).seal(
            sid(),
            &keys,
            &own,
        )
    };
    assert!(seal("db1").is_ok());
    assert!(is_malformed(&seal("db2")));
    assert!(opened(&own, |_| {}).is_ok());
    assert!(is_malformed(&opened(&own, |value| value["host"] = "db2".into())));
    assert!(sealed(|manifest| manifest.host = "db2".into()).is_ok());
}

#[test]
fn tombstones_are_made_by_full_writers() {
    let tombstone = SnapshotObject::Tombstone { time: time() };
    let bytes = tombstone.seal(sid(), &keys(), &full()).unwrap();
    assert_eq!(SnapshotObject::open(sid(), &keys(), &bytes).unwrap(), (full(), tombstone.clone()));
    let own = writer(WriterClass::IngestOnly);
    assert!(is_malformed(&tombstone.seal(sid(), &keys(), &own)));
    let forged = SNAPSHOT.seal(&keys(), &own, &snapshot_key(sid()), &StoredSnapshot::from(&tombstone));
    assert!(is_malformed(&SnapshotObject::open(sid(), &keys(), &forged.unwrap())));
    assert!(is_malformed(&SnapshotObject::Tombstone { time: before_1970() }.seal(sid(), &keys(), &full())));
}

#[test]
fn session_marks_survive_and_open_in_their_place_only() {
    let mark = SessionMark { time: time(), source: "etc".into(), process: Process::current() };
    for author in [full(), writer(WriterClass::IngestOnly)] {
        let bytes = mark.seal(sid(), 1, &keys(), &author).unwrap();
        assert_eq!(SessionMark::open(sid(), 1, &keys(), &bytes).unwrap(), (author, mark.clone()));
        assert!(matches!(SessionMark::open(sid(), 2, &keys(), &bytes), Err(FormatError::Seal { .. })));
        assert!(is_malformed(&Mark::open(sid(), 1, &keys(), &bytes)));
    }
    for broken in [
        SessionMark { source: "..".into(), ..mark.clone() },
        SessionMark { time: before_1970(), ..mark.clone() },
    ] {
        assert!(is_malformed(&broken.seal(sid(), 1, &keys(), &full())));
    }
}

#[test]
fn marks_survive_and_ingest_only_ones_can_only_protect() {
    let own = writer(WriterClass::IngestOnly);
    for (state, _) in STATES {
        let mark = Mark { time: time(), state };
        let bytes = mark.seal(sid(), 3, &keys(), &full()).unwrap();
        assert_eq!(Mark::open(sid(), 3, &keys(), &bytes).unwrap(), (full(), mark.clone()));
        let elsewhere = Mark::open(OTHER_SID.parse().unwrap(), 3, &keys(), &bytes);
        assert!(matches!(elsewhere, Err(FormatError::Seal { .. })));

        let may = state == MarkState::Protected;
        assert_eq!(mark.seal(sid(), 3, &keys(), &own).is_ok(), may, "{state:?}");
        let forged =
            MARK.seal(&keys(), &own, &format!("marks/{sid}.3", sid = sid()), &StoredMark::from(&mark));
        assert_eq!(Mark::open(sid(), 3, &keys(), &forged.unwrap()).is_ok(), may, "{state:?}");
    }
}

/// Every sequence of up to four marks, against the rule itself: on each axis the highest-numbered mark counts.
#[test]
fn each_axis_follows_its_own_highest_mark() {
    let mut sequences: Vec<Vec<MarkState>> = vec![Vec::new()];
    for length in 1..=4 {
        let shorter: Vec<_> = sequences.iter().filter(|found| found.len() == length - 1).cloned().collect();
        for (sequence, (state, _)) in shorter.iter().flat_map(|found| STATES.map(|state| (found, state))) {
            sequences.push(sequence.iter().copied().chain([state]).collect());
        }
    }
    assert_eq!(sequences.len(), 1 + 5 + 25 + 125 + 625);
    for sequence in sequences {
        let highest = |axis: &[MarkState]| sequence.iter().rev().find(|state| axis.contains(state)).copied();
        let expected = Marks {
            forgotten: highest(&[MarkState::Forgotten, MarkState::Restored]) == Some(MarkState::Forgotten),
            protected: highest(&[MarkState::Protected, MarkState::Unprotected]) == Some(MarkState::Protected),
            accepted: highest(&[MarkState::Accepted]).is_some(),
        };
        let marks: Marks = sequence.iter().copied().collect();
        assert_eq!(marks, expected, "{sequence:?}");
        assert_eq!(marks.is_forgotten(), expected.forgotten && !expected.protected, "{sequence:?}");
        for (state, _) in STATES {
            let longer: Marks = sequence.iter().copied().chain([state]).collect();
            assert_eq!(marks.say(state), longer == marks, "{sequence:?} {state:?}");
        }
    }
}

#[test]
fn sizes_are_capped() {
    let long = vec![0; usize::try_from(SnapshotObject::MAX_BYTES).unwrap() + 1];
    assert!(is_malformed(&SnapshotObject::open(sid(), &keys(), &long)));
    assert!(is_malformed(&Mark::open(sid(), 0, &keys(), &long[..=MARK_MAX_BYTES])));
    assert!(is_malformed(&SessionMark::open(sid(), 0, &keys(), &long[..=MARK_MAX_BYTES])));
    assert_eq!(SNAPSHOT.max_bytes as u64, SnapshotObject::MAX_BYTES);
}

#[test]
fn names_are_told_apart() {
    for good in ["a", "shop-db", "etc.d_2", "...", &"s".repeat(100)] {
        assert!(is_source_name(good), "{good}");
    }
    for bad in ["", ".", "..", "a b", "a/b", "ä", "a\0", &"s".repeat(101)] {
        assert!(!is_source_name(bad), "{bad}");
    }
    for (text, good) in [("db1.example", true), ("Büro 2", true), ("", false), (".", false), ("a/b", false)]
    {
        assert_eq!((is_host_name(text), is_tag(text)), (good, good), "{text}");
    }
}

fn any_time() -> impl Strategy<Value = jiff::Timestamp> {
    (0_i128..253_402_300_799_000_000_000).prop_map(|time| jiff::Timestamp::from_nanosecond(time).unwrap())
}

proptest! {
    #[test]
    fn manifests_survive(
        times in (any_time(), any_time()),
        names in ("[A-Za-z0-9_-]{1,100}", "[^/\0.]{1,60}"),
        tags in prop::collection::btree_set("[^/\0.]{1,60}", 0..5),
        paths: Vec<Vec<u8>>,
        command: Option<Vec<Vec<u8>>>,
        root: ([u8; 32], u64, u64),
        packs in prop::collection::btree_set(any::<[u8; 32]>(), 0..5),
        totals: [u64; 7],
        found: Option<(Vec<String>, String, bool, u64)>,
        output_names: Vec<Vec<u8>>,
        program: String,
        origin: Option<bool>,
    ) {
        let [files, directories, others, bytes, added_bytes, stored_bytes, failed_files] = totals;
        let manifest = Manifest {
            time: times.0,
            finished: times.1,
            source: names.0,
            host: names.1,
            tags: tags.into_iter().collect(),
            paths,
            command,
            root: TreeRef { page: ChunkId::from_bytes(root.0), entries: root.1, bytes: root.2 },
            tree_packs: packs.into_iter().map(PackId::from_bytes).collect(),
            totals: SnapshotTotals {
                files, directories, others, bytes, added_bytes, stored_bytes, failed_files,
            },
            dump: found.map(|(formats, reason, compressed, filled_offsets)| {
                Dump { formats, check: DumpCheck::Unchecked, reason, compressed, filled_offsets }
            }),
            outputs: output_names
                .into_iter()
                .map(|name| Output { command: vec![name.clone()], name, dump: dump(DumpCheck::Whole) })
                .collect(),
            program,
            origin: origin.map(|_| sid()),
            ..manifest()
        };
        let object = SnapshotObject::Manifest(Box::new(manifest));
        let sealed = object.seal(sid(), &keys(), &full()).unwrap();
        prop_assert_eq!(SnapshotObject::open(sid(), &keys(), &sealed).unwrap().1, object);
    }

    #[test]
    fn garbage_under_a_valid_seal_never_panics(body: Vec<u8>) {
        let sealed = seal_object(ObjectKind::Mark, &keys(), &full(), &format!("marks/{SID}.0"), &body).unwrap().0;
        prop_assert!(Mark::open(sid(), 0, &keys(), &sealed).is_err());
    }
}
