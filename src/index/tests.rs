//! The index as its callers see it, and held against a model.

mod similar;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use proptest::prelude::{Strategy, any, prop_assert_eq, prop_oneof, proptest};
use proptest::test_runner::{Config as ProptestConfig, TestCaseError};

use super::*;
use crate::crypto::hash::ChunkKind;
use crate::crypto::secrets::{RootSecret, WriterClass};
use crate::format::content::ContentItem;
use crate::format::frame::{Encoding, Features, FrameChunk};
use crate::format::index_object::{IndexObject, IndexedPack};
use crate::format::pack::Directory;
use crate::id::{ChunkId, DomainId, FrameId, WriterId};

const STORE: StoreId = StoreId::from_bytes([7; 16]);

fn keys() -> DomainKeys {
    DomainKeys::full(&RootSecret::from_bytes([1; 32]), DomainId::from_bytes([2; 16])).unwrap()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("cache/index.sqlite")
    }

    fn open(&self) -> Index {
        Index::open(&self.path(), STORE, &keys()).unwrap()
    }
}

fn id(number: u64) -> [u8; 32] {
    *blake3::hash(&number.to_le_bytes()).as_bytes()
}

fn chunk(number: u64) -> ChunkId {
    ChunkId::from_bytes(id(number))
}

/// A pack whose frames hold the chunks of these numbers; its id follows from them.
fn pack(frames: &[Vec<u64>]) -> IndexedPack {
    let entry = |chunks: &Vec<u64>| FrameEntry {
        stored_length: 100 + u32::try_from(chunks.len()).unwrap(),
        encoding: if chunks.len() > 2 { Encoding::Zstd } else { Encoding::Raw },
        features: (chunks.len() > 2).then_some(Features([chunks[0] << 20, 2 << 20, u64::MAX])),
        chunks: chunks
            .iter()
            .map(|number| FrameChunk { kind: ChunkKind::Data, id: chunk(*number), length: length(*number) })
            .collect(),
    };
    IndexedPack {
        id: PackId::from_bytes(*blake3::hash(format!("{frames:?}").as_bytes()).as_bytes()),
        kind: ObjectKind::DataPack,
        bytes: 1 << 20,
        writer: Writer {
            class: WriterClass::Full,
            host: "alpha".to_owned(),
            id: WriterId::from_bytes([9; 16]),
        },
        header_hash: HeaderHash([4; 32]),
        header_bytes: 130,
        key: SealKey::from_bytes(&[5; 32]),
        directory: Directory { frames: frames.iter().map(entry).collect() },
    }
}

fn length(number: u64) -> u32 {
    u32::try_from(number % 1000).unwrap() + 1
}

fn object(packs: &[Vec<Vec<u64>>]) -> IndexObject {
    IndexObject { supersedes: Vec::new(), packs: packs.iter().map(|frames| pack(frames)).collect() }
}

/// Returns homes as (pack id, frame number, offset, length): what does not depend on row numbers.
fn homes(index: &Index, number: u64) -> BTreeSet<(PackId, u32, u32, u32)> {
    let homes = index.homes(&chunk(number)).unwrap();
    let found: BTreeSet<_> = homes
        .iter()
        .map(|home| {
            let pack = index.pack(home.frame.pack).unwrap().unwrap();
            (pack.id, home.frame.number, home.offset, home.length)
        })
        .collect();
    assert_eq!(found.len(), homes.len(), "a home was listed twice");
    found
}

#[test]
fn what_was_applied_is_found() {
    let folder = Folder::new();
    let index = folder.open();
    assert!(!index.was_rebuilt());
    let object = object(&[vec![vec![1, 2, 3], vec![4]], vec![vec![5, 1]]]);
    index.apply("index/a.0", &object).unwrap();
    index.apply("index/a.0", &object).unwrap();
    assert_eq!(index.applied().unwrap(), BTreeSet::from(["index/a.0".to_owned()]));
    assert_eq!(
        homes(&index, 1),
        BTreeSet::from([
            (object.packs[0].id, 0, 0, length(1)),
            (object.packs[1].id, 0, length(5), length(1))
        ])
    );
    assert!(index.homes(&chunk(99)).unwrap().is_empty());
    let beside = |number| {
        let frames = index.neighbours(&chunk(number)).unwrap();
        let ids = |chunks: Vec<FrameChunk>| chunks.iter().map(|chunk| chunk.id).collect::<Vec<_>>();
        frames.into_iter().map(|home| ids(home.chunks)).collect::<Vec<_>>()
    };
    assert_eq!(beside(1), [[1, 2, 3].map(chunk).to_vec(), [5, 1].map(chunk).to_vec()]);
    assert_eq!(beside(4), [[4].map(chunk)]);
    assert!(beside(99).is_empty());

    let (row, found) = index.pack_by_id(&object.packs[0].id).unwrap().unwrap();
    assert_eq!(found.key.unwrap().expose(), object.packs[0].key.expose());
    assert_eq!(found.writer, object.packs[0].writer);
    assert_eq!(found.header_hash, object.packs[0].header_hash);
    let frames = index.frames_of(row).unwrap();
    let entries: Vec<_> = frames.iter().map(|frame| frame.entry.clone()).collect();
    assert_eq!(entries, object.packs[0].directory.frames);
    assert_eq!(frames.iter().map(|frame| frame.offset).collect::<Vec<_>>(), [130, 130 + 103]);
    let second = index.frame(FrameRef { pack: row, number: 1 }).unwrap().unwrap();
    assert_eq!((second.offset, second.entry), (233, entries[1].clone()));
    assert!(index.frame(FrameRef { pack: row, number: 2 }).unwrap().is_none());
    assert!(index.frame(FrameRef { pack: row, number: 1 << 16 }).unwrap().is_none());
}

#[test]
fn frames_are_found_by_id() {
    let folder = Folder::new();
    let index = folder.open();
    let mut object = object(&[vec![vec![1, 2, 3], vec![4]]]);
    let base = keys().ids().frame_id([1, 2, 3].map(|number| (chunk(number), length(number))));
    object.packs[0].directory.frames[1].encoding = Encoding::Delta { base: base.into() };
    index.apply("index/a.0", &object).unwrap();
    let row = index.pack_by_id(&object.packs[0].id).unwrap().unwrap().0;
    assert_eq!(index.frames_by_id(&base).unwrap(), [FrameRef { pack: row, number: 0 }]);
    assert!(index.frames_by_id(&FrameId::from_bytes([0; 32])).unwrap().is_empty());
    let delta = index.frame(FrameRef { pack: row, number: 1 }).unwrap().unwrap();
    assert_eq!(delta.entry.encoding, Encoding::Delta { base: base.into() });
}

#[test]
fn a_pack_of_two_index_objects_outlives_one() {
    let folder = Folder::new();
    let index = folder.open();
    let shared = object(&[vec![vec![1, 2], vec![3]]]);
    index.apply("index/a.0", &shared).unwrap();
    index.apply("index/b.0", &shared).unwrap();
    assert_eq!(homes(&index, 1).len(), 1);
    assert_eq!(index.frames_by_id(&keys().ids().frame_id([(chunk(3), length(3))])).unwrap().len(), 1);
    let mut visited = Vec::new();
    index.packs(&mut |row, pack| visited.push((row, pack.id))).unwrap();
    assert_eq!(visited, [(index.pack_by_id(&shared.packs[0].id).unwrap().unwrap().0, shared.packs[0].id)]);

    index.retract(&["index/a.0".to_owned(), "index/unknown.0".to_owned()]).unwrap();
    assert_eq!(homes(&index, 1).len(), 1);
    index.retract(&["index/b.0".to_owned()]).unwrap();
    assert!(homes(&index, 1).is_empty());
    assert!(index.applied().unwrap().is_empty());
    assert!(index.pack_by_id(&shared.packs[0].id).unwrap().is_none());
}

#[test]
fn every_pack_is_visited_in_order() {
    let folder = Folder::new();
    let index = folder.open();
    let object = object(&(0..1300).map(|number| vec![vec![number]]).collect::<Vec<_>>());
    index.apply("index/a.0", &object).unwrap();
    let mut visited = Vec::new();
    index.packs(&mut |row, pack| visited.push((pack.id, index.pack(row).unwrap().unwrap().id))).unwrap();
    let mut expected: Vec<_> = object.packs.iter().map(|pack| (pack.id, pack.id)).collect();
    expected.sort_unstable();
    assert_eq!(visited, expected);
}

#[test]
fn malformed_objects_leave_no_row() {
    let folder = Folder::new();
    let index = folder.open();
    let mut no_pack = object(&[vec![vec![1]], vec![vec![2]]]);
    no_pack.packs[1].kind = ObjectKind::Snapshot;
    let mut empty_frame = object(&[vec![vec![1]]]);
    empty_frame.packs[0].directory.frames[0].chunks.clear();
    let mut too_long = object(&[vec![vec![1]]]);
    too_long.packs[0].bytes = u64::MAX;
    for bad in [no_pack, empty_frame, too_long] {
        let error = index.apply("index/a.0", &bad).unwrap_err();
        assert!(matches!(error, IndexError::Unfit { .. }) && !error.is_corrupt(), "{error}");
    }
    assert!(index.applied().unwrap().is_empty());
    assert!(homes(&index, 1).is_empty());
}

#[test]
fn the_filter_knows_rows_of_other_handles() {
    let folder = Folder::new();
    let mut here = folder.open();
    here.filter = filter::Filter::new(1);
    let there = folder.open();
    there.apply("index/a.0", &object(&[vec![(0..500).collect()]])).unwrap();
    for number in 10_000..10_100 {
        assert!(here.homes(&chunk(number)).unwrap().is_empty());
    }
    for round in 0..30 {
        let first = 1000 + round * 100;
        let key = format!("index/b.{round}");
        there.apply(&key, &object(&[vec![(first..first + 100).collect()]])).unwrap();
        for number in (0..500).step_by(50).chain(first..first + 100) {
            assert_eq!(homes(&here, number).len(), 1, "chunk {number}");
        }
        if round % 7 == 3 {
            there.retract(&[key]).unwrap();
            assert!(homes(&here, first).is_empty());
        }
    }
    there.reset().unwrap();
    let renewed = folder.open();
    renewed.apply("index/c.0", &object(&[vec![vec![77]]])).unwrap();
    assert_eq!(homes(&there, 77).len(), 1);
}

#[test]
fn the_filter_answers_after_enough_misses() {
    let folder = Folder::new();
    let mut index = folder.open();
    index.filter = filter::Filter::new(10);
    index.apply("index/a.0", &object(&[vec![(0..500).collect()]])).unwrap();
    for number in 1000..1010 {
        index.homes(&chunk(number)).unwrap();
    }
    let ruled_out = (2000..3000)
        .filter(|number| {
            let prefix = rows::chunk_prefix(&chunk(*number));
            index.pool.read(|connection| index.filter.rules_out(connection, prefix)).unwrap()
        })
        .count();
    assert!(ruled_out > 900, "only {ruled_out} of 1000 were ruled out");
    assert!((0..500).all(|number| homes(&index, number).len() == 1));
}

#[test]
fn threads_and_handles_write_at_once() {
    let folder = Folder::new();
    let handles = [folder.open(), folder.open()];
    std::thread::scope(|scope| {
        for writer in 0..4_usize {
            let index = &handles[writer % 2];
            scope.spawn(move || {
                for round in 0..5_u64 {
                    let number = writer as u64 * 100 + round;
                    index.apply(&format!("index/{number}.0"), &object(&[vec![vec![number]]])).unwrap();
                    assert_eq!(homes(index, number).len(), 1);
                }
            });
        }
    });
    assert_eq!(handles[0].applied().unwrap().len(), 20);
    assert_eq!(handles[0].applied().unwrap(), handles[1].applied().unwrap());
}

#[test]
fn only_the_owner_may_read_the_files() {
    let folder = Folder::new();
    let index = folder.open();
    index.apply("index/a.0", &object(&[vec![vec![1]]])).unwrap();
    let parent = folder.path().parent().unwrap().to_owned();
    assert_eq!(parent.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    for file in std::fs::read_dir(parent).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
    }
}

#[test]
fn unusable_files_are_made_anew() {
    type Spoil<'a> = (&'a str, &'a dyn Fn(&Path));

    let other_keys =
        DomainKeys::full(&RootSecret::from_bytes([3; 32]), DomainId::from_bytes([2; 16])).unwrap();
    let set_pragma = |path: &Path, name: &str, value: i32| {
        rusqlite::Connection::open(path).unwrap().pragma_update(None, name, value).unwrap();
    };
    let spoil: [Spoil<'_>; 7] = [
        ("no database", &|path| std::fs::write(path, "not a database at all".repeat(100)).unwrap()),
        ("a cut file", &|path| {
            let bytes = std::fs::read(path).unwrap();
            std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("a damaged page", &|path| {
            let mut bytes = std::fs::read(path).unwrap();
            bytes[100..4096].fill(0x5a);
            std::fs::write(path, bytes).unwrap();
        }),
        ("another program's", &|path| set_pragma(path, "application_id", 1)),
        ("a newer schema", &|path| set_pragma(path, "user_version", 1000)),
        ("another store's", &|path| {
            Index::open(path, StoreId::from_bytes([8; 16]), &keys()).unwrap();
        }),
        ("another key's", &|path| {
            Index::open(path, STORE, &other_keys).unwrap();
        }),
    ];
    for (what, spoil) in spoil {
        let folder = Folder::new();
        folder.open().apply("index/a.0", &object(&[vec![vec![1]]])).unwrap();
        assert!(!folder.open().was_rebuilt());
        spoil(&folder.path());
        let index = folder.open();
        assert!(index.was_rebuilt(), "{what}");
        assert!(index.applied().unwrap().is_empty(), "{what}");
        index.apply("index/a.0", &object(&[vec![vec![1]]])).unwrap();
        assert_eq!(homes(&index, 1).len(), 1, "{what}");
    }
}

#[test]
fn a_file_cut_to_nothing_is_a_new_one() {
    for length in [0, 1, 99] {
        let folder = Folder::new();
        folder.open().apply("index/a.0", &object(&[vec![vec![1]]])).unwrap();
        std::fs::write(folder.path(), vec![b'x'; length]).unwrap();
        let index = folder.open();
        assert!(index.applied().unwrap().is_empty(), "{length} bytes");
        index.apply("index/a.0", &object(&[vec![vec![1]]])).unwrap();
        assert_eq!(homes(&index, 1).len(), 1, "{length} bytes");
    }
}

#[test]
fn damage_that_shows_later_is_told_and_reset_cures_it() {
    let folder = Folder::new();
    let index = folder.open();
    let object = object(&[vec![vec![1, 2, 3]]]);
    index.apply("index/a.0", &object).unwrap();
    let before = index.homes(&chunk(1)).unwrap()[0].frame.pack;
    let other = rusqlite::Connection::open(folder.path()).unwrap();
    other.execute("UPDATE frames SET chunks = x'00'", []).unwrap();
    let error = index.homes(&chunk(1)).unwrap_err();
    assert!(error.is_corrupt(), "{error}");
    other.execute_batch("DROP TABLE chunks").unwrap();
    assert!(index.homes(&chunk(1)).unwrap_err().is_corrupt());

    index.reset().unwrap();
    assert!(index.applied().unwrap().is_empty());
    index.apply("index/a.0", &object).unwrap();
    let after = index.homes(&chunk(1)).unwrap()[0].frame.pack;
    assert_ne!(before, after, "a row number was used again");
    assert!(index.pack(before).unwrap().is_none());
}

#[test]
fn a_file_that_another_process_replaced_is_noticed() {
    let folder = Folder::new();
    let (mine, other) = (folder.open(), folder.open());
    mine.apply("index/a.0", &object(&[vec![vec![1]]])).unwrap();
    other.reset().unwrap();
    other.apply("index/b.0", &object(&[vec![vec![2]]])).unwrap();
    let error = mine.applied().unwrap_err();
    assert!(matches!(error, IndexError::Replaced { .. }) && error.is_corrupt(), "{error}");
    mine.reset().unwrap();
    assert_eq!(homes(&mine, 2).len(), 1, "reset threw away what the other process had filled");
}

#[test]
fn small_objects_are_kept() {
    let folder = Folder::new();
    let index = folder.open();
    assert!(index.cached_objects("snapshots/").unwrap().is_empty());
    for key in ["marks/a.0", "snapshots/a", "snapshots/b", "snapshots0"] {
        for (bytes, secret) in [(&b"old"[..], [6; 32]), (key.as_bytes(), [7; 32])] {
            let object = CachedObject { bytes: bytes.to_vec(), key: SealKey::from_bytes(&secret) };
            index.cache_objects(&[NewObject { store_key: key.to_owned(), object }]).unwrap();
        }
    }
    index.retain_objects("snapshots/", &BTreeSet::from(["snapshots/b".to_owned()])).unwrap();
    for (prefix, kept) in
        [("marks/", "marks/a.0"), ("snapshots/", "snapshots/b"), ("snapshots0", "snapshots0")]
    {
        let copies = index.cached_objects(prefix).unwrap();
        let copies: Vec<_> =
            copies.into_iter().map(|(key, copy)| (key, copy.bytes, *copy.key.expose())).collect();
        assert_eq!(copies, [(kept.to_owned(), kept.as_bytes().to_vec(), [7; 32])]);
    }
}

fn known_file() -> impl Strategy<Value = KnownFile> {
    let id = any::<[u8; 32]>().prop_map(ChunkId::from_bytes);
    let item = prop_oneof![
        (id.clone(), any::<u32>()).prop_map(|(id, length)| ContentItem::Data(id, length)),
        any::<u64>().prop_map(ContentItem::Hole),
    ];
    let content = prop_oneof![
        proptest::collection::vec(item, 0..4).prop_map(Content::Inline),
        (id, any::<u64>()).prop_map(|(node, length)| Content::List { node, length }),
    ];
    let time =
        || (any::<i64>(), any::<u32>()).prop_map(|(seconds, nanoseconds)| Time { seconds, nanoseconds });
    (any::<u64>(), time(), time(), any::<u64>(), content)
        .prop_map(|(bytes, mtime, ctime, inode, content)| KnownFile { bytes, mtime, ctime, inode, content })
}

#[test]
fn known_files_are_replaced_by_directory() {
    let folder = Folder::new();
    let index = folder.open();
    let file = |inode| KnownFile {
        bytes: 3,
        mtime: Time { seconds: -1, nanoseconds: 5 },
        ctime: Time::default(),
        inode,
        content: Content::Inline(vec![ContentItem::Data(chunk(1), 3)]),
    };
    let batch = [
        (b"etc".to_vec(), vec![(b"a".to_vec(), file(1)), (b"b\xff".to_vec(), file(2))]),
        (b"var".to_vec(), vec![(b"c".to_vec(), file(3))]),
    ];
    index.remember_files("h/s", &batch).unwrap();
    index.remember_files("h/other", &batch).unwrap();
    assert_eq!(index.known_files("h/s", b"etc").unwrap(), batch[0].1.iter().cloned().collect());
    assert!(index.known_files("h/s", b"none").unwrap().is_empty());
    assert!(index.known_files("h/none", b"etc").unwrap().is_empty());

    index.remember_files("h/s", &[(b"etc".to_vec(), vec![(b"a".to_vec(), file(9))])]).unwrap();
    assert_eq!(index.known_files("h/s", b"etc").unwrap(), HashMap::from([(b"a".to_vec(), file(9))]));
    index.remember_files("h/s", &[(b"etc".to_vec(), Vec::new())]).unwrap();
    assert!(index.known_files("h/s", b"etc").unwrap().is_empty());

    index.retain_known_directories("h/other", &|directory| directory == b"etc").unwrap();
    assert_eq!(index.known_files("h/other", b"etc").unwrap().len(), 2);
    assert!(index.known_files("h/other", b"var").unwrap().is_empty());
    assert_eq!(index.known_files("h/s", b"var").unwrap().len(), 1);
}

/// What can happen to an index.
#[derive(Debug, Clone)]
enum Step {
    Apply(u8, Vec<Vec<Vec<u64>>>),
    Retract(u8),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let frame = proptest::collection::vec(0..40_u64, 1..5);
    let packs = proptest::collection::vec(proptest::collection::vec(frame, 1..4), 1..4);
    prop_oneof![
        4 => (0..6_u8, packs).prop_map(|(name, packs)| Step::Apply(name, packs)),
        2 => (0..6_u8).prop_map(Step::Retract),
        1 => proptest::strategy::Just(Step::Reopen),
    ]
}

type Model = BTreeMap<String, IndexObject>;

fn model_homes(model: &Model, number: u64) -> BTreeSet<(PackId, u32, u32, u32)> {
    let mut homes = BTreeSet::new();
    for pack in model.values().flat_map(|object| &object.packs) {
        for (frame_number, frame) in (0..).zip(&pack.directory.frames) {
            let Some(at) = frame.chunks.iter().position(|other| other.id == chunk(number)) else { continue };
            let offset = frame.chunks[..at].iter().map(|chunk| chunk.length).sum();
            homes.insert((pack.id, frame_number, offset, length(number)));
        }
    }
    homes
}

fn compare(index: &Index, model: &Model) -> Result<(), TestCaseError> {
    similar::compare(index, model)?;
    prop_assert_eq!(index.applied().unwrap(), model.keys().cloned().collect());
    for number in 0..45 {
        prop_assert_eq!(homes(index, number), model_homes(model, number));
    }
    let mut packs = BTreeMap::new();
    index.packs(&mut |row, pack| assert!(packs.insert(pack.id, row).is_none())).unwrap();
    let expected: BTreeMap<_, _> =
        model.values().flat_map(|object| &object.packs).map(|pack| (pack.id, pack)).collect();
    prop_assert_eq!(packs.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (id, row) in packs {
        let frames: Vec<_> = index.frames_of(row).unwrap().into_iter().map(|frame| frame.entry).collect();
        prop_assert_eq!(&frames, &expected[&id].directory.frames);
    }
    Ok(())
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(16))]

    #[test]
    fn behaves_as_a_map(steps in proptest::collection::vec(step(), 1..12)) {
        let folder = Folder::new();
        let open = || {
            let mut index = folder.open();
            index.filter = filter::Filter::new(3);
            index
        };
        let mut index = open();
        let mut model = Model::new();
        for step in steps {
            match step {
                Step::Apply(name, packs) => {
                    let key = format!("index/{name}.0");
                    index.apply(&key, &object(&packs)).unwrap();
                    model.entry(key).or_insert_with(|| object(&packs));
                }
                Step::Retract(name) => {
                    let key = format!("index/{name}.0");
                    index.retract(std::slice::from_ref(&key)).unwrap();
                    model.remove(&key);
                }
                Step::Reopen => index = open(),
            }
            compare(&index, &model)?;
        }
    }

    #[test]
    fn known_files_round_trip(files in proptest::collection::hash_map(any::<Vec<u8>>(), known_file(), 1..5)) {
        let folder = Folder::new();
        let index = folder.open();
        index.remember_files("h/s", &[(b"etc".to_vec(), files.clone().into_iter().collect())]).unwrap();
        prop_assert_eq!(index.known_files("h/s", b"etc").unwrap(), files);
    }
}

proptest! {
    // Every case has a file of its own.
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn totals_count_every_pack_once_and_every_chunk_where_it_lies(
        packs in proptest::collection::vec(
            proptest::collection::vec(proptest::collection::btree_set(0..40_u64, 1..6), 1..4), 1..6),
        objects in proptest::collection::vec(proptest::collection::vec(any::<proptest::sample::Index>(), 1..4), 1..5),
    ) {
        let packs: Vec<Vec<Vec<u64>>> = packs
            .into_iter()
            .map(|frames| frames.into_iter().map(|chunks| chunks.into_iter().collect()).collect())
            .collect();
        let folder = Folder::new();
        let index = folder.open();
        let mut known = BTreeSet::new();
        for (number, choices) in objects.iter().enumerate() {
            let named: BTreeSet<_> = choices.iter().map(|choice| choice.get(&packs).clone()).collect();
            let named: Vec<_> = named.into_iter().collect();
            index.apply(&format!("index/a.{number}"), &object(&named)).unwrap();
            known.extend(named);
        }
        let mut expected = IndexTotals::default();
        let mut seen = BTreeSet::new();
        for frames in &known {
            expected.data_packs.add(1 << 20);
            for chunks in frames {
                expected.base_frames.count += 1;
                expected.base_frames.stored_bytes += 100 + chunks.len() as u64;
                for number in chunks {
                    let bytes = u64::from(length(*number));
                    expected.base_frames.plain_bytes += bytes;
                    expected.data_chunks.add(bytes);
                    if !seen.insert(*number) {
                        expected.duplicate_data_chunks.add(bytes);
                    }
                }
            }
        }
        prop_assert_eq!(index.pack_bytes().unwrap(), expected.data_packs.bytes + expected.tree_packs.bytes);
        prop_assert_eq!(index.totals().unwrap(), expected);
    }
}

#[test]
fn totals_know_deltas_and_metadata_apart() {
    let folder = Folder::new();
    let index = folder.open();
    assert_eq!(index.totals().unwrap(), IndexTotals::default());
    let mut object = object(&[vec![vec![1, 2]], vec![vec![3]]]);
    object.packs[0].directory.frames[0].encoding =
        Encoding::Delta { base: FrameId::from_bytes(id(9)).into() };
    object.packs[1].kind = ObjectKind::TreePack;
    object.packs[1].directory.frames[0].chunks[0].kind = ChunkKind::List;
    index.apply("index/a.0", &object).unwrap();
    let totals = index.totals().unwrap();
    let delta = FrameSums { count: 1, plain_bytes: (length(1) + length(2)).into(), stored_bytes: 102 };
    assert_eq!(totals.delta_frames, delta);
    assert_eq!((totals.base_frames.count, totals.base_frames.plain_bytes), (1, length(3).into()));
    assert_eq!(totals.tree_chunks, Sum { count: 1, bytes: length(3).into() });
    assert_eq!((totals.tree_packs.count, totals.data_packs.count), (1, 1));
}
