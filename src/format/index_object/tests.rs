//! Tests of index objects.

use proptest::prelude::*;

use super::super::frame::{Encoding, FrameChunk, FrameEntry};
use super::super::vectors::{
    INDEX_KEY, build_pack, data_frames, encrypted_keys, indexed, tree_frames, writer,
};
use super::*;
use crate::crypto::hash::ChunkKind;
use crate::crypto::secrets::WriterClass;
use crate::id::{ChunkId, WriterId};

type IndexChange = fn(&mut IndexObject);
type BlockChange = fn(&mut Root, &mut Vec<u8>);

fn packs() -> Vec<IndexedPack> {
    let keys = encrypted_keys();
    let data = build_pack(&keys, &writer(), ObjectKind::DataPack, &data_frames());
    let tree = build_pack(&keys, &writer(), ObjectKind::TreePack, &tree_frames());
    vec![indexed(&keys, &data), indexed(&keys, &tree)]
}

fn index() -> IndexObject {
    IndexObject { supersedes: vec!["index/a.0".into()], packs: packs() }
}

/// A pack that exists on paper alone, of frames with one chunk each.
fn paper_pack(number: u8, frames: u32) -> IndexedPack {
    let entry = |frame: u32| {
        let id = *blake3::hash(&[&[number], &frame.to_le_bytes()[..]].concat()).as_bytes();
        let chunks = vec![FrameChunk { kind: ChunkKind::Data, id: ChunkId::from_bytes(id), length: 1 }];
        FrameEntry { stored_length: 17, encoding: Encoding::Raw, features: None, chunks }
    };
    IndexedPack {
        id: PackId::from_bytes([number; 32]),
        kind: ObjectKind::DataPack,
        bytes: 128 + u64::from(frames) * 17 + 100,
        writer: writer(),
        header_hash: HeaderHash([number; 32]),
        header_bytes: 128,
        key: SealKey::from_bytes(&[number; 32]),
        directory: Directory { frames: (0..frames).map(entry).collect() },
    }
}

fn seal(index: &IndexObject) -> Result<Vec<u8>, FormatError> {
    index.seal(&encrypted_keys(), &writer(), INDEX_KEY)
}

fn open(bytes: &[u8]) -> Result<IndexObject, FormatError> {
    IndexObject::open(&encrypted_keys(), INDEX_KEY, bytes).map(|(_, index)| index)
}

fn assert_same(left: &IndexObject, right: &IndexObject) {
    assert_eq!(left.supersedes, right.supersedes);
    assert_eq!(left.packs.len(), right.packs.len());
    for (left, right) in left.packs.iter().zip(&right.packs) {
        assert_eq!((left.id, left.kind, left.bytes), (right.id, right.kind, right.bytes));
        assert_eq!((&left.writer, left.header_hash), (&right.writer, right.header_hash));
        assert_eq!((left.header_bytes, left.key.expose()), (right.header_bytes, right.key.expose()));
        assert_eq!(left.directory, right.directory);
    }
}

#[test]
fn packs_come_back_sorted() {
    let mut index = index();
    index.packs.sort_by_key(|pack| std::cmp::Reverse(pack.id));
    let opened = open(&seal(&index).unwrap()).unwrap();
    index.packs.reverse();
    assert_same(&opened, &index);
    let empty = IndexObject::default();
    assert_same(&open(&seal(&empty).unwrap()).unwrap(), &empty);
}

#[test]
fn lookup_records_lie_in_blocks_of_4096() {
    let packs = vec![paper_pack(1, 5000), paper_pack(2, 4000)];
    let index = IndexObject { supersedes: vec![], packs };
    let bytes = seal(&index).unwrap();
    assert_same(&open(&bytes).unwrap(), &index);
    let records = lookup_records(index.packs.iter().map(|pack| &pack.directory));
    assert_eq!(records.len(), 9000);
    assert!(records.is_sorted());
    let record = records[4096];
    let number = |at: usize| u32::from_le_bytes(record[at..at + 4].try_into().unwrap()) as usize;
    let chunk = index.packs[number(8)].directory.frames[number(12)].chunks[0].id;
    assert_eq!(record[..8], chunk.as_bytes()[..8]);
}

#[test]
fn an_index_opens_in_its_place_only() {
    let bytes = seal(&index()).unwrap();
    assert!(IndexObject::open(&encrypted_keys(), "index/other.0", &bytes).is_err());
    assert!(IndexObject::open(&super::super::vectors::public_keys(), INDEX_KEY, &bytes).is_err());
}

#[test]
fn no_byte_may_change() {
    let bytes = seal(&index()).unwrap();
    for position in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[position] ^= 1;
        assert!(open(&altered).is_err(), "{position}");
    }
    for length in (0..bytes.len()).step_by(5) {
        assert!(open(&bytes[..length]).is_err(), "{length}");
    }
}

#[test]
fn an_index_that_breaks_a_rule_is_not_sealed() {
    let with = |change: IndexChange| {
        let mut index = IndexObject { supersedes: vec![], packs: vec![paper_pack(1, 3)] };
        change(&mut index);
        seal(&index).map(drop).map_err(|error| error.to_string())
    };
    let changes: [(&str, IndexChange); 8] = [
        ("strictly sorted", |index| index.packs.push(paper_pack(1, 4))),
        ("replaces", |index| index.supersedes.push("packs/00/x".into())),
        ("replaces", |index| index.supersedes.push(format!("index/{}", "x".repeat(400)))),
        ("no pack", |index| index.packs[0].kind = ObjectKind::Snapshot),
        ("another kind", |index| index.packs[0].kind = ObjectKind::TreePack),
        ("wrong length", |index| index.packs[0].header_bytes += 1),
        ("shorter than its frames", |index| index.packs[0].bytes = 128 + 3 * 17 + 32),
        ("too long", |index| index.packs[0].bytes = u64::MAX),
    ];
    assert_eq!(with(|_| {}), Ok(()));
    for (why, change) in changes {
        let refusal = with(change).unwrap_err();
        assert!(refusal.contains(why), "{refusal}");
    }
}

#[test]
fn an_ingest_only_writer_speaks_for_itself_alone() {
    let own =
        Writer { class: WriterClass::IngestOnly, host: "web".into(), id: WriterId::from_bytes([1; 16]) };
    let keys = encrypted_keys().ingest_only(&own).unwrap();
    let pack = |writer: &Writer| IndexedPack { writer: writer.clone(), ..paper_pack(1, 3) };
    let seal = |supersedes: &[&str], packs| {
        let supersedes = supersedes.iter().map(|key| (*key).to_owned()).collect();
        IndexObject { supersedes, packs }.seal(&keys, &own, INDEX_KEY)
    };
    let bytes = seal(&[], vec![pack(&own)]).unwrap();
    let (author, _) = IndexObject::open(&encrypted_keys(), INDEX_KEY, &bytes).unwrap();
    assert_eq!(author, own);
    assert!(seal(&[], vec![pack(&writer())]).is_err());
    assert!(seal(&["index/a.0"], vec![]).is_err());
    // The same rules hold for what a modified program would seal.
    for root in [
        Root { supersedes: vec!["index/a.0".into()], ..Root::default() },
        Root { packs: vec![RootPack::new(&pack(&writer()), 100).unwrap()], ..Root::default() },
    ] {
        let (mut object, hash, key) = Header::create(ObjectKind::Index, &keys, &own).unwrap();
        let parts = Parts { key, aad: associated_data(&hash, INDEX_KEY) };
        let mut sealed = parts.seal(Part::Body, 0, root.encode()).unwrap();
        pack::append_trailer(&mut sealed, INDEX_MAGIC);
        object.append(&mut sealed);
        let refusal = IndexObject::open(&encrypted_keys(), INDEX_KEY, &object).err().unwrap().to_string();
        assert!(refusal.contains("speaks for others"), "{refusal}");
    }
}

/// Seals an object of one pack whose root and lookup block were changed.
fn sealed_with(change: BlockChange) -> Vec<u8> {
    let listed = paper_pack(1, 3);
    let (mut object, hash, key) = Header::create(ObjectKind::Index, &encrypted_keys(), &writer()).unwrap();
    let parts = Parts { key, aad: associated_data(&hash, INDEX_KEY) };
    let directory = parts.seal(Part::Block, 0, listed.directory.encode()).unwrap();
    let mut lookup = lookup_records([&listed.directory].into_iter()).as_flattened().to_vec();
    let mut root = Root {
        packs: vec![RootPack::new(&listed, number(directory.len()).unwrap()).unwrap()],
        lookup: vec![LookupBlock { block_bytes: 3 * 16 + 16, records: 3 }],
        ..Root::default()
    };
    change(&mut root, &mut lookup);
    object.extend(directory);
    object.extend(parts.seal(Part::Block, 1, lookup).unwrap());
    let mut sealed = parts.seal(Part::Body, 0, root.encode()).unwrap();
    pack::append_trailer(&mut sealed, INDEX_MAGIC);
    object.append(&mut sealed);
    object
}

#[test]
fn roots_and_lookup_blocks_that_lie_are_refused() {
    open(&sealed_with(|_, _| {})).unwrap();
    let changes: [(&str, BlockChange); 7] = [
        ("does not agree", |_, lookup| lookup[0] ^= 1),
        ("does not agree", |_, lookup| lookup.rotate_left(16)),
        ("does not agree", |root, _| root.lookup[0].records = 2),
        ("not those", |root, _| root.lookup.clear()),
        ("shorter than its blocks", |root, _| root.lookup.push(LookupBlock { block_bytes: 17, records: 1 })),
        ("number of frames", |root, _| root.packs[0].frames = 4),
        ("shorter than its frames", |root, _| root.packs[0].bytes = 0),
    ];
    for (why, change) in changes {
        let refusal = open(&sealed_with(change)).err().unwrap().to_string();
        assert!(refusal.contains(why), "{refusal}");
    }
    assert!(open(&sealed_with(|root, _| root.packs[0].block_bytes -= 1)).is_err());
}

#[test]
fn other_encodings_of_a_root_are_refused() {
    let valid = Root::default().encode();
    assert_eq!(valid, [0x83, 0x80, 0x80, 0x80]);
    assert!(Root::decode(&[0x84, 0x80, 0x80, 0x80, 0x00]).is_ok(), "a field of a later version is skipped");
    for other in [&[0x82, 0x80, 0x80][..], &[0x98, 0x03, 0x80, 0x80, 0x80], &[0x83, 0x80, 0x80, 0x80, 0x80]] {
        assert!(Root::decode(other).is_err(), "{other:02x?}");
    }
    assert!(Root::decode(&[0x83, 0x80, 0x80, 0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn an_index_round_trips(
        counts in prop::collection::vec(0..20_u32, 0..4),
        supersedes in prop::collection::vec("index/[a-z]{1,9}", 0..3),
    ) {
        let packs = (0..).zip(counts).map(|(number, frames)| paper_pack(number, frames)).collect();
        let index = IndexObject { supersedes, packs };
        assert_same(&open(&seal(&index).unwrap()).unwrap(), &index);
    }

    #[test]
    fn any_bytes_open_without_a_panic(bytes: Vec<u8>) {
        let _ = Root::decode(&bytes);
        let _ = open(&bytes);
    }

    #[test]
    fn altered_roots_decode_without_a_panic(at: prop::sample::Index, flip in 1..=255_u8) {
        let packs = [1, 2].map(|number| RootPack::new(&paper_pack(number, 2), 7).unwrap()).into();
        let root = Root { packs, lookup: vec![LookupBlock { block_bytes: 1, records: 2 }], ..Root::default() };
        let mut bytes = root.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(root) = Root::decode(&bytes) {
            prop_assert_eq!(root.encode(), bytes);
        }
    }
}
