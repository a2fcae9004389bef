//! Frozen test data of format version 1, and the values that it stands for.
//!
//! The files beside this one were written once and must be readable for ever. They never change; what is
//! added to the format gets files of its own. `docs/format.md` says what lies in which file. This file owns
//! pages, lists, directories, packs and index objects, and how files are found and made; [`collections`] and
//! [`json_objects`] own the rest.

mod collections;
mod json_objects;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;

use super::FormatError;
use super::content::{Content, ContentItem, ListNode};
use super::frame::{self, Encoding, Features, FrameChunk, FrameEntry};
use super::header::{Header, ObjectKind};
use super::index_object::{IndexObject, IndexedPack};
use super::pack::{self, Directory, OpenedPack};
use super::tree::{
    Attributes, Device, Entry, EntryKind, LinkGroup, Page, PageRef, Time, TreeRef, Value, Xattr,
};
use crate::crypto::hash::ChunkKind;
use crate::crypto::seal::TAG_BYTES;
use crate::crypto::secrets::{DomainKeys, RootSecret, Writer, WriterClass};
use crate::id::{ChunkId, DomainId, FrameId, PackId, WriterId};
use crate::path::Name;

/// The store key that the frozen index objects were sealed for.
pub(super) const INDEX_KEY: &str = "index/20261121T053106Z-0123456789abcdef0123456789abcdef.0";

const SUPERSEDED_KEY: &str = "index/20260101T000000Z-00000000000000000000000000000000.7";

/// The names of the sets of sealed vectors: what their files begin with.
const SETS: [&str; 2] = ["encrypted", "public"];

/// Returns the root secret of the encrypted vectors: 00 01 … 1f.
fn encrypted_root() -> RootSecret {
    RootSecret::from_bytes(std::array::from_fn(|i| u8::try_from(i).unwrap()))
}

/// Returns the keys of the encrypted vectors.
pub(super) fn encrypted_keys() -> DomainKeys {
    DomainKeys::full(&encrypted_root(), DomainId::from_bytes([0xd0; 16])).unwrap()
}

/// Returns the keys of the vectors without encryption.
pub(super) fn public_keys() -> DomainKeys {
    DomainKeys::full(&RootSecret::public(), DomainId::from_bytes([0xd1; 16])).unwrap()
}

/// Returns the keys of a set of sealed vectors.
fn keys_of(set: &str) -> DomainKeys {
    if set == "encrypted" { encrypted_keys() } else { public_keys() }
}

/// Returns the writer of all vectors.
pub(super) fn writer() -> Writer {
    Writer { class: WriterClass::Full, host: "db1".into(), id: WriterId::from_bytes([0x77; 16]) }
}

/// A frame with its plain bytes and how it is to be encoded.
pub(super) struct PlainFrame {
    pub(super) chunks: Vec<(ChunkKind, Vec<u8>)>,
    pub(super) features: Option<Features>,
    /// The number of its base in the same pack, for a delta.
    pub(super) base: Option<usize>,
}

impl PlainFrame {
    pub(super) fn plain(&self) -> Vec<u8> {
        self.chunks.iter().flat_map(|(_, plain)| plain.clone()).collect()
    }

    pub(super) fn id(&self, keys: &DomainKeys) -> FrameId {
        keys.ids().frame_id(self.listed(keys).iter().map(|chunk| (chunk.id, chunk.length)))
    }

    fn listed(&self, keys: &DomainKeys) -> Vec<FrameChunk> {
        let listed = |(kind, plain): &(ChunkKind, Vec<u8>)| FrameChunk {
            kind: *kind,
            id: keys.ids().chunk_id(*kind, plain),
            length: u32::try_from(plain.len()).unwrap(),
        };
        self.chunks.iter().map(listed).collect()
    }
}

/// Builds a whole pack.
pub(super) fn build_pack(
    keys: &DomainKeys,
    writer: &Writer,
    kind: ObjectKind,
    frames: &[PlainFrame],
) -> Vec<u8> {
    let (mut pack, hash, key) = Header::create(kind, keys, writer).unwrap();
    let mut directory = Directory::default();
    for (number, frame) in (0..).zip(frames) {
        let (encoding, mut stored) = match frame.base.map(|base| &frames[base]) {
            None => frame::encode(&frame.plain(), 3).unwrap(),
            Some(base) => {
                let delta = frame::encode_delta(&frame.plain(), &base.plain()).unwrap();
                (Encoding::Delta { base: base.id(keys).into() }, delta)
            }
        };
        frame::seal(&key, &hash, number, encoding, &mut stored).unwrap();
        let stored_length = u32::try_from(stored.len()).unwrap();
        let (features, chunks) = (frame.features, frame.listed(keys));
        directory.frames.push(FrameEntry { stored_length, encoding, features, chunks });
        pack.append(&mut stored);
    }
    pack.append(&mut pack::seal_directory(&key, &hash, &directory).unwrap());
    pack
}

/// Describes a pack as an index object lists it.
pub(super) fn indexed(keys: &DomainKeys, bytes: &[u8]) -> IndexedPack {
    let OpenedPack { header, header_hash, header_bytes, key, directory } =
        pack::open_pack(keys, bytes).unwrap();
    IndexedPack {
        id: PackId::from_bytes(*blake3::hash(bytes).as_bytes()),
        kind: header.kind,
        bytes: bytes.len() as u64,
        writer: header.writer,
        header_hash,
        header_bytes: u32::try_from(header_bytes).unwrap(),
        key,
        directory,
    }
}

/// Decodes a frame of `pack` and checks the ids of its chunks.
pub(super) fn read_frame(
    keys: &DomainKeys,
    pack: &IndexedPack,
    bytes: &[u8],
    number: usize,
    base: Option<&[u8]>,
) -> Result<Vec<u8>, FormatError> {
    let lengths = pack.directory.frames.iter().map(|frame| frame.stored_length as usize);
    let start = pack.header_bytes as usize + lengths.take(number).sum::<usize>();
    let entry = &pack.directory.frames[number];
    let mut stored = bytes[start..start + entry.stored_length as usize].to_vec();
    let number = u32::try_from(number).unwrap();
    let encoded = frame::open(&pack.key, &pack.header_hash, number, entry.encoding, &mut stored)?;
    let plain = frame::decode(entry.encoding, encoded, entry.plain_length(), base)?;
    let mut rest = &plain[..];
    for chunk in &entry.chunks {
        let (bytes, after) = rest.split_at(chunk.length as usize);
        assert_eq!(keys.ids().chunk_id(chunk.kind, bytes), chunk.id);
        rest = after;
    }
    Ok(plain)
}

/// Returns the frames of the frozen data pack: raw, zstd of two chunks, and a delta of the latter.
pub(super) fn data_frames() -> Vec<PlainFrame> {
    let mut noise = vec![0; 100];
    blake3::Hasher::new().update(b"yester").finalize_xof().fill(&mut noise);
    let rows =
        |from: u32, to| (from..to).flat_map(|row| format!("{row}\trow {}\n", row * 7 % 100).into_bytes());
    let (first, second): (Vec<u8>, Vec<u8>) = (rows(0, 200).collect(), rows(200, 300).collect());
    let mut changed = first.clone();
    changed.splice(700..707, *b"a change");
    vec![
        PlainFrame { chunks: vec![(ChunkKind::Data, noise)], features: None, base: None },
        PlainFrame {
            chunks: vec![(ChunkKind::Data, first), (ChunkKind::Data, second)],
            features: Some(Features([1, 2, u64::MAX])),
            base: None,
        },
        PlainFrame { chunks: vec![(ChunkKind::Data, changed)], features: None, base: Some(1) },
    ]
}

/// Returns the frames of the frozen tree pack: a page, list nodes of both levels and a spilled value.
pub(super) fn tree_frames() -> Vec<PlainFrame> {
    let chunks = vec![
        (ChunkKind::Tree, leaf_page().encode()),
        (ChunkKind::Tree, inner_page().encode()),
        (ChunkKind::List, list_items().encode()),
        (ChunkKind::List, list_children().encode()),
        (ChunkKind::Tree, vec![b'v'; 5000]),
    ];
    vec![PlainFrame { chunks, features: None, base: None }]
}

/// Returns the frames of the frozen tree pack with a delta: a page, and the page after an entry was removed.
fn tree_delta_frames() -> Vec<PlainFrame> {
    let Page::Entries(mut entries) = leaf_page() else { unreachable!() };
    entries.remove(1);
    let frame = |page: Page, base| {
        let chunks = vec![(ChunkKind::Tree, page.encode())];
        PlainFrame { chunks, features: None, base }
    };
    vec![frame(leaf_page(), None), frame(Page::Entries(entries), Some(0))]
}

fn chunk_id(byte: u8) -> ChunkId {
    ChunkId::from_bytes([byte; 32])
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

/// Returns the frozen leaf page: an entry of every kind, with everything an entry can hold.
pub(super) fn leaf_page() -> Page {
    let full = Attributes {
        mode: 0o7644,
        uid: 1000,
        gid: u32::MAX,
        user: Some(b"postgres".to_vec()),
        group: Some(b"staff\xff".to_vec()),
        mtime: Time { seconds: 1_795_239_066, nanoseconds: 999_999_999 },
        ctime: Time { seconds: i64::MAX, nanoseconds: 1 },
        btime: Some(Time { seconds: -1, nanoseconds: 500_000_000 }),
        xattrs: vec![
            Xattr {
                name: b"security.selinux".to_vec(),
                value: Value::Spilled { chunk: chunk_id(5), length: 5000 },
            },
            Xattr { name: b"user.comment".to_vec(), value: Value::Inline(b"\0raw\xff".to_vec()) },
            Xattr { name: b"user.empty".to_vec(), value: Value::Inline(vec![]) },
        ],
    };
    let data = ContentItem::Data(chunk_id(1), 65_536);
    let list = Content::List { node: chunk_id(2), length: 1 << 40 };
    let tree = TreeRef { page: chunk_id(3), entries: 7, bytes: 1 << 33 };
    let device = Device { major: 8, minor: 65_537 };
    let kinds = [
        ("a-file", EntryKind::File(Content::Inline(vec![data, ContentItem::Hole(4096), data]))),
        ("b-long-file", EntryKind::File(list)),
        ("c-empty-file", EntryKind::File(Content::Inline(vec![]))),
        ("d-directory", EntryKind::Directory(tree)),
        ("e-symlink", EntryKind::Symlink(b"../target\xff".to_vec())),
        ("f-fifo", EntryKind::Fifo),
        ("g-char-device", EntryKind::CharDevice(device)),
        ("h-block-device", EntryKind::BlockDevice(device)),
        ("i-socket", EntryKind::Socket),
    ];
    let entry = |(text, kind)| {
        let attributes = if text == "a-file" { full.clone() } else { Attributes::default() };
        let link = (text == "b-long-file").then_some(LinkGroup { group: 1 << 63, links: 2 });
        Entry { name: name(text), attributes, link, kind }
    };
    Page::Entries(kinds.into_iter().map(entry).collect())
}

/// Returns the frozen inner page.
pub(super) fn inner_page() -> Page {
    let page = |text, byte| PageRef {
        last_name: name(text),
        tree: TreeRef { page: chunk_id(byte), entries: u64::from(byte), bytes: 1 << byte },
    };
    Page::Pages { level: 8, pages: vec![page("m", 1), page("z", 63)] }
}

/// Returns the frozen list node of level 0.
pub(super) fn list_items() -> ListNode {
    ListNode::Items(vec![
        ContentItem::Hole(1),
        ContentItem::Data(chunk_id(1), 1),
        ContentItem::Data(chunk_id(2), 4 << 20),
        ContentItem::Hole(1 << 40),
    ])
}

/// Returns the frozen list node of a level above.
pub(super) fn list_children() -> ListNode {
    ListNode::Children { level: 1, children: vec![(chunk_id(1), 1 << 50), (chunk_id(2), 1)] }
}

/// Returns the frozen directory: a raw, a zstd and a delta frame.
pub(super) fn directory() -> Directory {
    let chunk = |kind, byte, length| FrameChunk { kind, id: chunk_id(byte), length };
    let base = FrameId::from_bytes([9; 32]);
    let tag = u32::try_from(TAG_BYTES).unwrap();
    Directory {
        frames: vec![
            FrameEntry {
                stored_length: 100 + tag,
                encoding: Encoding::Raw,
                features: None,
                chunks: vec![chunk(ChunkKind::Data, 1, 100)],
            },
            FrameEntry {
                stored_length: 70_000 + tag,
                encoding: Encoding::Zstd,
                features: Some(Features([1, 2, u64::MAX])),
                chunks: vec![chunk(ChunkKind::Tree, 2, 65_536), chunk(ChunkKind::List, 3, 65_536)],
            },
            FrameEntry {
                stored_length: 1 + tag,
                encoding: Encoding::Delta { base: base.into() },
                features: None,
                chunks: vec![chunk(ChunkKind::Data, 4, 4 << 20)],
            },
        ],
    }
}

/// How a file is made if it is not there yet.
type Recipe = Box<dyn Fn() -> Vec<u8>>;

/// Returns every frozen file. An index object is made of the packs as they lie there, so they come first.
fn recipes() -> Vec<(String, Recipe)> {
    let mut recipes: Vec<(String, Recipe)> = vec![
        ("leaf-page.cbor".into(), Box::new(|| leaf_page().encode())),
        ("inner-page.cbor".into(), Box::new(|| inner_page().encode())),
        ("list-items.cbor".into(), Box::new(|| list_items().encode())),
        ("list-children.cbor".into(), Box::new(|| list_children().encode())),
        ("directory.cbor".into(), Box::new(|| directory().encode())),
    ];
    for set in SETS {
        let pack = |kind, frames: fn() -> Vec<PlainFrame>| -> Recipe {
            Box::new(move || build_pack(&keys_of(set), &writer(), kind, &frames()))
        };
        recipes.push((format!("{set}.data-pack"), pack(ObjectKind::DataPack, data_frames)));
        recipes.push((format!("{set}.tree-pack"), pack(ObjectKind::TreePack, tree_frames)));
        recipes.push((format!("{set}.tree-pack-with-delta"), pack(ObjectKind::TreePack, tree_delta_frames)));
        recipes.push((format!("{set}.index"), Box::new(move || build_index(set))));
    }
    recipes.append(&mut json_objects::recipes());
    recipes.append(&mut collections::recipes());
    recipes
}

fn build_index(set: &str) -> Vec<u8> {
    let keys = keys_of(set);
    let packs = ["data-pack", "tree-pack"].map(|pack| indexed(&keys, &frozen(&format!("{set}.{pack}"))));
    let index = IndexObject { supersedes: vec![SUPERSEDED_KEY.into()], packs: packs.into() };
    index.seal(&keys, &writer(), INDEX_KEY).unwrap()
}

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "src", "format", "vectors"].iter().collect()
}

/// Returns the bytes of a frozen file.
fn frozen(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).unwrap_or_else(|error| panic!("cannot read {name}: {error}"))
}

/// With `YESTER_WRITE_VECTORS=1` in the environment, files that are missing are written first: this is how the
/// vectors of what is added to the format are made. No file is ever overwritten.
#[test]
fn every_vector_has_its_file_and_every_file_its_vector() {
    let recipes = recipes();
    if std::env::var_os("YESTER_WRITE_VECTORS").is_some_and(|value| value == "1") {
        for (name, make) in &recipes {
            let path = folder().join(name);
            if !path.exists() {
                File::create_new(path).unwrap().write_all(&make()).unwrap();
            }
        }
    }
    let expected: BTreeSet<_> = recipes.into_iter().map(|(name, _)| name).collect();
    let files = fs::read_dir(folder()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let found: BTreeSet<_> = files.filter(|name| !name.ends_with(".rs")).collect();
    assert_eq!(found, expected);
}

#[test]
fn frozen_pages_lists_and_directories_decode() {
    for (name, page) in [("leaf-page.cbor", leaf_page()), ("inner-page.cbor", inner_page())] {
        let bytes = frozen(name);
        assert_eq!(Page::decode(&bytes).unwrap(), page);
        assert_eq!(page.encode(), bytes);
    }
    for (name, node) in [("list-items.cbor", list_items()), ("list-children.cbor", list_children())] {
        let bytes = frozen(name);
        assert_eq!(ListNode::decode(&bytes).unwrap(), node);
        assert_eq!(node.encode(), bytes);
    }
    let bytes = frozen("directory.cbor");
    assert_eq!(Directory::decode(&bytes).unwrap(), directory());
    assert_eq!(directory().encode(), bytes);
}

#[test]
fn frozen_packs_open_by_themselves() {
    for set in SETS {
        let keys = keys_of(set);
        for (pack, kind, frames) in [
            ("data-pack", ObjectKind::DataPack, data_frames()),
            ("tree-pack", ObjectKind::TreePack, tree_frames()),
            ("tree-pack-with-delta", ObjectKind::TreePack, tree_delta_frames()),
        ] {
            let bytes = frozen(&format!("{set}.{pack}"));
            check_pack(&keys, &indexed(&keys, &bytes), &bytes, kind, &frames);
        }
    }
}

#[test]
fn frozen_packs_open_through_their_index() {
    for set in SETS {
        let keys = keys_of(set);
        let bytes = frozen(&format!("{set}.index"));
        let (author, index) = IndexObject::open(&keys, INDEX_KEY, &bytes).unwrap();
        assert_eq!(author, writer());
        assert_eq!(index.supersedes, [SUPERSEDED_KEY]);
        assert_eq!(index.packs.len(), 2);
        for pack in &index.packs {
            let (name, frames) = match pack.kind {
                ObjectKind::DataPack => ("data-pack", data_frames()),
                _ => ("tree-pack", tree_frames()),
            };
            check_pack(&keys, pack, &frozen(&format!("{set}.{name}")), pack.kind, &frames);
        }
    }
}

fn check_pack(keys: &DomainKeys, pack: &IndexedPack, bytes: &[u8], kind: ObjectKind, frames: &[PlainFrame]) {
    assert_eq!(pack.id.as_bytes(), blake3::hash(bytes).as_bytes());
    assert_eq!((pack.kind, &pack.writer, pack.bytes), (kind, &writer(), bytes.len() as u64));
    assert_eq!(pack.directory.frames.len(), frames.len());
    for (number, (frame, listed)) in frames.iter().zip(&pack.directory.frames).enumerate() {
        let base = frame.base.map(|base| &frames[base]);
        let expected = base.map(|base| Encoding::Delta { base: base.id(keys).into() });
        assert!(expected.is_none_or(|expected| listed.encoding == expected));
        assert_eq!((&listed.chunks, listed.features), (&frame.listed(keys), frame.features));
        let base = base.map(PlainFrame::plain);
        assert_eq!(read_frame(keys, pack, bytes, number, base.as_deref()).unwrap(), frame.plain());
    }
    let encodings = |number: usize| pack.directory.frames[number].encoding;
    if kind == ObjectKind::DataPack {
        assert_eq!((encodings(0), encodings(1)), (Encoding::Raw, Encoding::Zstd));
    }
}
