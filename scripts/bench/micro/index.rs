//! The index: chunks, frames and similar frames that are looked up among a million chunks, and objects that come in.

use std::path::PathBuf;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, SamplingMode, Throughput};
use tempfile::TempDir;
use yester::crypto::hash::ChunkKind;
use yester::crypto::seal::SealKey;
use yester::crypto::secrets::{DomainKeys, RootSecret, Writer, WriterClass};
use yester::format::frame::{Encoding, Features, FrameChunk, FrameEntry};
use yester::format::header::{HeaderHash, ObjectKind};
use yester::format::index_object::{IndexObject, IndexedPack};
use yester::format::pack::Directory;
use yester::id::{ChunkId, DomainId, PackId, StoreId, WriterId};
use yester::index::{FrameRef, Index};

use crate::inputs::Random;

/// Packs of an index object: what a session lists at once.
const PACKS: u64 = 8;
const PACK_FRAMES: u64 = 512;
const FRAME_CHUNKS: u64 = 16;
const OBJECT_FRAMES: u64 = PACKS * PACK_FRAMES;
const OBJECT_CHUNKS: u64 = OBJECT_FRAMES * FRAME_CHUNKS;
const OBJECTS: u64 = 16;
/// All chunks of the index; those of greater number are not in it.
const CHUNKS: u64 = OBJECTS * OBJECT_CHUNKS;
const FRAMES: u64 = OBJECTS * OBJECT_FRAMES;
/// Lookups in vain after which the index has built its filter.
const MISSES_FOR_FILTER: u64 = 20_000;
/// Lookups in vain of an index that was just opened, far from building its filter.
const MISSES: u64 = 1000;
const CHUNK_BYTES: u32 = 16 << 10;
const NEXT_OBJECT: &str = "index/next";

pub(crate) fn run(criterion: &mut Criterion) {
    let filled = Filled::new();
    let next = object(OBJECTS);
    let mut group = criterion.benchmark_group("index");
    lookups(&mut group, &filled);
    misses(&mut group, &filled);
    group.throughput(Throughput::Elements(OBJECT_CHUNKS));
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.bench_function("apply to a million", |bencher| {
        apply(bencher, &filled.index, &next);
    });
    group.bench_function("apply to none", |bencher| {
        let folder = Folder::new();
        apply(bencher, &folder.open(), &next);
    });
    group.finish();
}

/// Finds what is there, as a mount does.
fn lookups(group: &mut BenchmarkGroup<'_, WallTime>, filled: &Filled) {
    let mut random = Random::new(1);
    group.throughput(Throughput::Elements(1));
    group.bench_function("chunk, hit", |bencher| {
        bencher.iter(|| filled.index.homes(&chunk_id(random.below(CHUNKS))).unwrap());
    });
    group.bench_function("chunk, hit, filter", |bencher| {
        bencher.iter(|| filled.filtered.homes(&chunk_id(random.below(CHUNKS))).unwrap());
    });
    group.bench_function("frame", |bencher| {
        let mut frames = filled.frames.iter().cycle();
        bencher.iter(|| filled.index.frame(*frames.next().unwrap()).unwrap());
    });
    group.bench_function("similar frame, hit", |bencher| {
        bencher.iter(|| filled.index.similar_frames(&features(random.below(FRAMES))).unwrap());
    });
}

/// Does not find what is new, as an ingest does.
fn misses(group: &mut BenchmarkGroup<'_, WallTime>, filled: &Filled) {
    let mut unknown = CHUNKS..;
    group.bench_function("similar frame, miss", |bencher| {
        bencher.iter(|| filled.index.similar_frames(&features(unknown.next().unwrap())).unwrap());
    });
    group.bench_function("chunk, miss, filter", |bencher| {
        bencher.iter(|| filled.filtered.homes(&chunk_id(unknown.next().unwrap())).unwrap());
    });
    group.throughput(Throughput::Elements(MISSES));
    group.bench_function("chunk, miss", |bencher| {
        let look_up = |index: &mut Index| {
            for number in unknown.by_ref().take(usize::try_from(MISSES).unwrap()) {
                assert!(index.homes(&chunk_id(number)).unwrap().is_empty());
            }
        };
        bencher.iter_batched_ref(|| filled.folder.open(), look_up, BatchSize::PerIteration);
    });
}

/// Applies an object, and takes it out again between two rounds.
fn apply(bencher: &mut criterion::Bencher<'_>, index: &Index, object: &IndexObject) {
    let known = chunk_id(CHUNKS);
    let key = NEXT_OBJECT.to_owned();
    let retract = || index.retract(std::slice::from_ref(&key)).unwrap();
    bencher.iter_batched(retract, |()| index.apply(&key, object).unwrap(), BatchSize::PerIteration);
    assert_eq!(index.homes(&known).unwrap().len(), 1);
    retract();
    assert!(index.homes(&known).unwrap().is_empty());
}

/// An index of all chunks.
struct Filled {
    folder: Folder,
    /// Has no filter.
    index: Index,
    /// Has built its filter.
    filtered: Index,
    /// Some frames, of any pack.
    frames: Vec<FrameRef>,
}

impl Filled {
    fn new() -> Self {
        let folder = Folder::new();
        let index = folder.open();
        for number in 0..OBJECTS {
            index.apply(&format!("index/{number}"), &object(number)).unwrap();
        }
        let filtered = folder.open();
        for number in CHUNKS..CHUNKS + MISSES_FOR_FILTER {
            assert!(filtered.homes(&chunk_id(number)).unwrap().is_empty());
        }
        let mut random = Random::new(0);
        let frames = (0..10_000).map(|_| find(&index, random.below(CHUNKS))).collect();
        (0..1000).for_each(|number| assert_eq!(find(&filtered, number), find(&index, number)));
        let similar = index.similar_frames(&features(FRAMES - 1)).unwrap();
        assert_eq!((similar.len(), similar[0].frame), (1, find(&index, CHUNKS - 1)));
        assert!(index.similar_frames(&features(FRAMES)).unwrap().is_empty());
        Self { folder, index, filtered, frames }
    }
}

/// Returns the only frame that holds a chunk, which must be in its place there.
fn find(index: &Index, number: u64) -> FrameRef {
    let homes = index.homes(&chunk_id(number)).unwrap();
    let [home] = &homes[..] else { panic!("chunk {number} has {} homes", homes.len()) };
    assert_eq!(u64::from(home.offset), number % FRAME_CHUNKS * u64::from(CHUNK_BYTES));
    assert_eq!(u64::from(home.frame.number), number / FRAME_CHUNKS % PACK_FRAMES);
    let record = index.frame(home.frame).unwrap().unwrap();
    assert!(record.entry.chunks.iter().any(|chunk| chunk.id == chunk_id(number)));
    home.frame
}

/// A folder for an index.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self) -> Index {
        let path: PathBuf = self.0.path().join("index.sqlite");
        let keys = DomainKeys::full(&RootSecret::from_bytes([1; 32]), DomainId::from_bytes([2; 16])).unwrap();
        Index::open(&path, StoreId::from_bytes([7; 16]), &keys).unwrap()
    }
}

/// Returns an index object: its place says which chunks it names.
fn object(number: u64) -> IndexObject {
    let packs = number * PACKS..(number + 1) * PACKS;
    IndexObject { supersedes: Vec::new(), packs: packs.map(pack).collect() }
}

fn pack(number: u64) -> IndexedPack {
    let frames = number * PACK_FRAMES..(number + 1) * PACK_FRAMES;
    let mut id = Random::new(!number).id();
    // Those of an object are sorted.
    id[..8].copy_from_slice(&number.to_be_bytes());
    IndexedPack {
        id: PackId::from_bytes(id),
        kind: ObjectKind::DataPack,
        bytes: 64 << 20,
        writer: Writer {
            class: WriterClass::Full,
            host: "alpha".to_owned(),
            id: WriterId::from_bytes([9; 16]),
        },
        header_hash: HeaderHash([4; 32]),
        header_bytes: 130,
        key: SealKey::from_bytes(&[5; 32]),
        directory: Directory { frames: frames.map(frame).collect() },
    }
}

fn frame(number: u64) -> FrameEntry {
    let chunks = number * FRAME_CHUNKS..(number + 1) * FRAME_CHUNKS;
    let chunk = |number| FrameChunk { kind: ChunkKind::Data, id: chunk_id(number), length: CHUNK_BYTES };
    FrameEntry {
        stored_length: 100_000,
        encoding: Encoding::Zstd,
        features: Some(features(number)),
        chunks: chunks.map(chunk).collect(),
    }
}

fn chunk_id(number: u64) -> ChunkId {
    ChunkId::from_bytes(Random::new(number).id())
}

fn features(number: u64) -> Features {
    let mut random = Random::new(!number);
    Features([(); 3].map(|()| random.number()))
}
