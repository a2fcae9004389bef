//! Pages of directories: encoded, decoded, and cut out of a long list of entries.
//!
//! Decoding begins with the check that the bytes are canonical, which stands beside it.

use criterion::{BatchSize, Criterion, Throughput};
use yester::crypto::hash::{ChunkKind, IdKeys};
use yester::format::FormatError;
use yester::format::cbor::check_canonical;
use yester::format::content::{Content, ContentItem};
use yester::format::tree::{Attributes, Entry, EntryKind, Page, PageRef, Time, TreeBuilder, TreeRef};
use yester::id::ChunkId;
use yester::path::Name;

use crate::inputs::Random;

/// What a page of a large directory has on average.
const PAGE_ENTRIES: u32 = 144;
const DIRECTORY_ENTRIES: u32 = 10_000;

pub(crate) fn run(criterion: &mut Criterion) {
    page(criterion, "leaf", &Page::Entries(entries(PAGE_ENTRIES)));
    let pages = (0..PAGE_ENTRIES).map(page_ref).collect();
    page(criterion, "inner", &Page::Pages { level: 1, pages });
    directory(criterion);
}

fn page(criterion: &mut Criterion, name: &str, page: &Page) {
    let encoded = page.encode();
    assert_eq!(Page::decode(&encoded).unwrap(), *page);

    let mut group = criterion.benchmark_group("tree page");
    group.throughput(Throughput::Elements(PAGE_ENTRIES.into()));
    group.bench_function(format!("encode {name}"), |bencher| bencher.iter(|| page.encode()));
    group.bench_function(format!("decode {name}"), |bencher| {
        bencher.iter(|| Page::decode(&encoded).unwrap());
    });
    group.bench_function(format!("check {name}"), |bencher| {
        bencher.iter(|| check_canonical("page", &encoded).unwrap());
    });
    group.finish();
}

fn directory(criterion: &mut Criterion) {
    let ids = IdKeys::new(&[3; 32]);
    let entries = entries(DIRECTORY_ENTRIES);
    let tree = build(&ids, entries.clone());
    assert_eq!((tree.entries, tree), (DIRECTORY_ENTRIES.into(), build(&ids, entries.clone())));

    let mut group = criterion.benchmark_group("tree builder");
    group.throughput(Throughput::Elements(DIRECTORY_ENTRIES.into()));
    group.bench_function("directory", |bencher| {
        bencher.iter_batched(|| entries.clone(), |entries| build(&ids, entries), BatchSize::PerIteration);
    });
    group.finish();
}

/// Cuts entries into pages, and names these as a session does.
fn build(ids: &IdKeys, entries: Vec<Entry>) -> TreeRef {
    let mut emit = |page: Vec<u8>| Ok::<_, FormatError>(ids.chunk_id(ChunkKind::Tree, &page));
    let mut builder = TreeBuilder::new(ids.clone());
    for entry in entries {
        builder.push(entry, &mut emit).unwrap();
    }
    builder.finish(&mut emit).unwrap()
}

/// Returns the files of a directory: each of one chunk, none with extended attributes.
fn entries(count: u32) -> Vec<Entry> {
    (0..count).map(entry).collect()
}

fn entry(number: u32) -> Entry {
    let mut random = Random::new(number.into());
    let time = Time { seconds: 1_795_000_000 + i64::from(number), nanoseconds: number };
    let item = ContentItem::Data(ChunkId::from_bytes(random.id()), 1000 + number);
    let attributes = Attributes {
        mode: 0o644,
        uid: 1000,
        gid: 1000,
        user: Some(b"alice".to_vec()),
        group: Some(b"users".to_vec()),
        mtime: time,
        ctime: time,
        btime: Some(time),
        xattrs: Vec::new(),
    };
    Entry { name: name(number), attributes, link: None, kind: EntryKind::File(Content::Inline(vec![item])) }
}

fn page_ref(number: u32) -> PageRef {
    let page = ChunkId::from_bytes(Random::new(number.into()).id());
    PageRef { last_name: name(number), tree: TreeRef { page, entries: 144, bytes: 1 << 20 } }
}

fn name(number: u32) -> Name {
    Name::new(format!("report-{number:06}.txt").as_bytes()).unwrap()
}
