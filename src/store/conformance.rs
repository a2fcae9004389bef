//! What every store must pass: the contract of [`ObjectStore`], clause by clause.
//!
//! A store's own tests call [`check`], and add what only they can know: durability, full disks, rights.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::key::{ObjectKey, Prefix};
use super::{Creation, ObjectStore, Payload, StoreErrorKind, list_with_lengths, probe};
use crate::id::PackId;

type Check = fn(&dyn ObjectStore);

const CHECKS: &[(&str, Check)] = &[
    ("an-object-is-kept", an_object_is_kept),
    ("an-empty-object-is-kept", an_empty_object_is_kept),
    ("ranges-are-exact", ranges_are_exact),
    ("ranges-beyond-the-end-fail", ranges_beyond_the_end_fail),
    ("absent-objects-are-not-found", absent_objects_are_not_found),
    ("nothing-is-overwritten", nothing_is_overwritten),
    ("deleted-objects-are-gone", deleted_objects_are_gone),
    ("a-large-file-is-kept", a_large_file_is_kept),
    ("a-short-file-stores-nothing", a_short_file_stores_nothing),
    ("listings-show-one-prefix", listings_show_one_prefix),
    ("listings-are-complete", listings_are_complete),
    ("one-racer-wins", one_racer_wins),
    ("the-probe-passes", the_probe_passes),
    ("writers-do-not-disturb-each-other", writers_do_not_disturb_each_other),
    ("listings-during-creations-show-whole-objects", listings_during_creations_show_whole_objects),
    ("readers-see-all-or-nothing", readers_see_all_or_nothing),
];

/// What rests on creations that are conditional: a place may lack it, and `probe` finds out.
const CONDITIONAL: [&str; 2] = ["one-racer-wins", "the-probe-passes"];

/// Runs every check, each on a fresh and empty store; `fresh` is told a name to keep stores apart by.
pub(super) fn check(fresh: impl FnMut(&str) -> Box<dyn ObjectStore>) {
    check_those(|_| true, fresh);
}

/// Runs the checks that a place passes which creates unconditionally.
pub(super) fn check_unconditional(fresh: impl FnMut(&str) -> Box<dyn ObjectStore>) {
    check_those(|name| !CONDITIONAL.contains(&name), fresh);
}

fn check_those(wanted: impl Fn(&str) -> bool, mut fresh: impl FnMut(&str) -> Box<dyn ObjectStore>) {
    for (name, check) in CHECKS.iter().filter(|(name, _)| wanted(name)) {
        eprintln!("{name}");
        check(&*fresh(name));
    }
}

fn an_object_is_kept(store: &dyn ObjectStore) {
    let bytes: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    for key in [ObjectKey::config(1), pack(1), key("marks/a-b.c_D.1")] {
        assert_eq!(put(store, &key, &bytes), Creation::Created);
        assert_eq!(store.get(&key, None).unwrap(), bytes);
        assert_eq!(store.size(&key).unwrap(), 512);
    }
    assert!(!store.location().is_empty());
}

fn an_empty_object_is_kept(store: &dyn ObjectStore) {
    let key = ObjectKey::config(1);
    assert_eq!(put(store, &key, b""), Creation::Created);
    assert_eq!(store.get(&key, None).unwrap(), b"");
    assert_eq!(store.get(&key, Some(0..0)).unwrap(), b"");
    assert_eq!(store.size(&key).unwrap(), 0);
    assert_eq!(listing(store, Prefix::Config), [(key.to_string(), 0)].into());
    assert_eq!(put(store, &key, b"later"), Creation::AlreadyExists);
}

fn ranges_are_exact(store: &dyn ObjectStore) {
    let (key, bytes) = (pack(1), pattern(1, 10_000));
    put(store, &key, &bytes);
    for range in [0..0, 0..1, 0..10_000, 1..9_999, 4_095..4_097, 9_999..10_000, 10_000..10_000] {
        let expected = &bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
        assert_eq!(store.get(&key, Some(range.clone())).unwrap(), expected, "{range:?}");
    }
}

fn ranges_beyond_the_end_fail(store: &dyn ObjectStore) {
    let key = pack(1);
    put(store, &key, b"0123456789");
    for range in
        [0..11, 9..11, 10..11, 11..11, 50..60, 0..u64::MAX, u64::MAX..u64::MAX, Range { start: 5, end: 4 }]
    {
        let error = store.get(&key, Some(range.clone())).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Truncated, "{range:?}");
    }
}

fn absent_objects_are_not_found(store: &dyn ObjectStore) {
    let not_found = |key: &ObjectKey| {
        assert_eq!(store.get(key, None).unwrap_err().kind(), StoreErrorKind::NotFound);
        assert_eq!(store.get(key, Some(0..0)).unwrap_err().kind(), StoreErrorKind::NotFound);
        assert_eq!(store.size(key).unwrap_err().kind(), StoreErrorKind::NotFound);
        store.delete(key).unwrap();
    };
    not_found(&pack(1));
    put(store, &pack(1), b"x");
    not_found(&pack(2));
    // The part of a key before a slash is no object, though it may be a directory.
    let error = store.get(&key("packs/01"), None).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::NotFound);
    assert_eq!(store.size(&key("packs/01")).unwrap_err().kind(), StoreErrorKind::NotFound);
    let error = store.get(&key("packs"), None).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::NotFound);
}

fn nothing_is_overwritten(store: &dyn ObjectStore) {
    let key = ObjectKey::config(1);
    assert_eq!(put(store, &key, b"first"), Creation::Created);
    for other in [b"second, longer".as_slice(), b"", b"first"] {
        assert_eq!(put(store, &key, other), Creation::AlreadyExists);
        assert_eq!(store.get(&key, None).unwrap(), b"first");
    }
    let file = spooled(b"from a file");
    let payload = Payload::File { file: &file, bytes: 11 };
    assert_eq!(store.create(&key, payload).unwrap(), Creation::AlreadyExists);
    assert_eq!(store.get(&key, None).unwrap(), b"first");
}

fn deleted_objects_are_gone(store: &dyn ObjectStore) {
    let (gone, stays) = (ObjectKey::config(1), ObjectKey::config(2));
    put(store, &gone, b"a");
    put(store, &stays, b"b");
    store.delete(&gone).unwrap();
    store.delete(&gone).unwrap();
    assert_eq!(store.size(&gone).unwrap_err().kind(), StoreErrorKind::NotFound);
    assert_eq!(listing(store, Prefix::Config), [(stays.to_string(), 1)].into());
    assert_eq!(put(store, &gone, b"anew"), Creation::Created);
    assert_eq!(store.get(&gone, None).unwrap(), b"anew");
}

fn a_large_file_is_kept(store: &dyn ObjectStore) {
    const BYTES: usize = 9 << 20;
    let bytes = pattern(7, BYTES);
    let mut file = spooled(&bytes);
    file.seek(SeekFrom::Start(123)).unwrap();
    let created = store.create(&pack(1), Payload::File { file: &file, bytes: BYTES as u64 }).unwrap();
    assert_eq!(created, Creation::Created);
    assert_eq!(file.stream_position().unwrap(), 123);
    assert_eq!(store.size(&pack(1)).unwrap(), BYTES as u64);
    assert!(store.get(&pack(1), None).unwrap() == bytes);
    let middle = 5_000_000..5_300_000;
    assert!(store.get(&pack(1), Some(5_000_000..5_300_000)).unwrap() == bytes[middle]);
    // Only the announced bytes count: a spool may have been longer.
    store.create(&pack(2), Payload::File { file: &file, bytes: 1000 }).unwrap();
    assert!(store.get(&pack(2), None).unwrap() == bytes[..1000]);
}

fn a_short_file_stores_nothing(store: &dyn ObjectStore) {
    let file = spooled(b"0123456789");
    store.create(&pack(1), Payload::File { file: &file, bytes: 11 }).unwrap_err();
    assert_eq!(store.size(&pack(1)).unwrap_err().kind(), StoreErrorKind::NotFound);
    assert!(listing(store, Prefix::Packs).is_empty());
}

fn listings_show_one_prefix(store: &dyn ObjectStore) {
    for prefix in Prefix::ALL {
        assert!(listing(store, prefix).is_empty());
    }
    for (number, prefix) in (1..).zip(Prefix::ALL) {
        put(store, &key(&format!("{prefix}x.1")), &pattern(number, usize::from(number)));
        put(store, &key(&format!("{prefix}ab/cd/x.2")), b"");
    }
    put(store, &key("configuration"), b"of another sort");
    put(store, &key("gc-2/x"), b"of another sort");
    for (number, prefix) in (1..).zip(Prefix::ALL) {
        let expected = [(format!("{prefix}x.1"), number), (format!("{prefix}ab/cd/x.2"), 0)];
        assert_eq!(listing(store, prefix), expected.into());
    }
}

fn listings_are_complete(store: &dyn ObjectStore) {
    let mut expected = BTreeMap::new();
    for number in 0..150_u8 {
        // Half of them share a directory.
        let key = if number % 2 == 0 { pack(number) } else { key(&format!("packs/00/p{number}")) };
        put(store, &key, &pattern(number, usize::from(number)));
        expected.insert(key.to_string(), u64::from(number));
        if number % 50 == 0 {
            assert_eq!(listing(store, Prefix::Packs), expected, "current after creation {number}");
        }
    }
    assert_eq!(listing(store, Prefix::Packs), expected);
}

fn one_racer_wins(store: &dyn ObjectStore) {
    const RACERS: u8 = 16;
    for round in 0..4 {
        let (key, start) = (pack(round), Barrier::new(usize::from(RACERS)));
        let outcomes: Vec<_> = thread::scope(|scope| {
            let racers: Vec<_> = (0..RACERS)
                .map(|racer| {
                    let (key, start) = (&key, &start);
                    scope.spawn(move || {
                        let bytes = pattern(racer, 5000 + usize::from(racer));
                        start.wait();
                        (racer, put(store, key, &bytes))
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        let winners: Vec<_> = outcomes
            .iter()
            .filter(|(_, outcome)| *outcome == Creation::Created)
            .map(|(racer, _)| *racer)
            .collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        assert!(store.get(&key, None).unwrap() == pattern(winners[0], 5000 + usize::from(winners[0])));
    }
}

fn the_probe_passes(store: &dyn ObjectStore) {
    assert!(probe::conditional_create(store).unwrap());
    assert!(listing(store, Prefix::Probe).is_empty());
}

fn writers_do_not_disturb_each_other(store: &dyn ObjectStore) {
    thread::scope(|scope| {
        for writer in 0..8_u8 {
            scope.spawn(move || {
                for number in 0..8 {
                    // All writers make the same few directories.
                    let key = key(&format!("packs/{number:02x}/{writer}"));
                    assert_eq!(put(store, &key, &pattern(writer, 3000)), Creation::Created);
                    assert!(store.get(&key, None).unwrap() == pattern(writer, 3000));
                }
            });
        }
    });
    assert_eq!(listing(store, Prefix::Packs).len(), 64);
}

fn listings_during_creations_show_whole_objects(store: &dyn ObjectStore) {
    const BYTES: usize = 100_000;
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 0..20 {
                put(store, &pack(number), &pattern(number, BYTES));
                if number % 3 == 0 {
                    store.delete(&pack(number)).unwrap();
                }
            }
            ended.store(true, Ordering::SeqCst);
        });
        while !ended.load(Ordering::SeqCst) && !writer.is_finished() {
            let listed = listing(store, Prefix::Packs);
            assert!(listed.values().all(|bytes| *bytes == BYTES as u64), "{listed:?}");
        }
    });
    let expected: BTreeSet<_> =
        (0..20).filter(|number| number % 3 != 0).map(|number| pack(number).to_string()).collect();
    assert_eq!(listing(store, Prefix::Packs).into_keys().collect::<BTreeSet<_>>(), expected);
}

fn readers_see_all_or_nothing(store: &dyn ObjectStore) {
    const BYTES: usize = 1 << 20;
    let (key, bytes) = (pack(1), pattern(3, BYTES));
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            loop {
                match store.get(&key, None) {
                    Ok(read) => break assert!(read == bytes),
                    Err(error) => assert_eq!(error.kind(), StoreErrorKind::NotFound),
                }
            }
        });
        put(store, &key, &bytes);
        reader.join().unwrap();
    });
}

fn put(store: &dyn ObjectStore, key: &ObjectKey, bytes: &[u8]) -> Creation {
    store.create(key, Payload::Bytes(bytes)).unwrap()
}

/// Lists a prefix, without what is deleted meanwhile; a key that is listed twice fails.
fn listing(store: &dyn ObjectStore, prefix: Prefix) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    let mut twice = Vec::new();
    let visit = &mut |key: ObjectKey, bytes| {
        if found.insert(key.to_string(), bytes).is_some() {
            twice.push(key);
        }
    };
    list_with_lengths(store, prefix, visit).unwrap();
    assert!(twice.is_empty(), "listed twice: {twice:?}");
    found
}

fn key(text: &str) -> ObjectKey {
    ObjectKey::parse(text).unwrap()
}

fn pack(number: u8) -> ObjectKey {
    ObjectKey::pack(&PackId::from_bytes([number; 32]))
}

/// Returns bytes that differ by seed and position.
fn pattern(seed: u8, bytes: usize) -> Vec<u8> {
    let mut hash = blake3::Hasher::new();
    hash.update(&[seed]);
    let mut pattern = vec![0; bytes];
    hash.finalize_xof().fill(&mut pattern);
    pattern
}

fn spooled(bytes: &[u8]) -> std::fs::File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}
