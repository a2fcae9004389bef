//! A host with an empty cache, far from a store with a million chunks: each request takes 30 ms, and eight may be under way.

use std::sync::Arc;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, SamplingMode, Throughput};
use tempfile::TempDir;
use yester::chunker::ChunkerParams;
use yester::crypto::hash::ChunkKind;
use yester::id::{ChunkId, SnapshotId};
use yester::repo::Repository;
use yester::repo::open::{CreateOptions, LocalFolders, OpenOptions};
use yester::repo::readers::Hold;
use yester::repo::session::{Deltas, SessionOptions, SessionWriter};
use yester::store::ObjectStore;
use yester::store::fault::{Fault, FaultStore};
use yester::store::key::Prefix;
use yester::store::memory::MemoryStore;

use crate::inputs::Random;

const CHUNKS: u64 = 1 << 20;
const CHUNK_BYTES: u64 = 64;
/// As if chunks had 256 KiB: so many fill the packs that an index object names.
const CHUNKS_PER_INDEX_OBJECT: u64 = 2048;
/// What a chunk takes in a pack, about.
const STORED_BYTES: u64 = CHUNK_BYTES + 2;
const REQUEST: Duration = Duration::from_millis(30);
const AT_ONCE: usize = 8;

pub(crate) fn run(criterion: &mut Criterion) {
    let filled = Filled::new();
    let mut group = criterion.benchmark_group("distance");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).throughput(Throughput::Elements(1));
    group.measurement_time(Duration::from_secs(20));
    opening(&mut group, &filled);
    reading(&mut group, &filled, "chunk of the last night", filled.night, filled.chunk_of_night);
    reading(&mut group, &filled, "chunk of the first backup, its last", filled.night, filled.last);
    reading(&mut group, &filled, "chunk of the first backup, its first", filled.night, filled.first);
    group.throughput(Throughput::Elements(CHUNKS));
    group.bench_function("whole index", |bencher| {
        let refresh = |cold: &mut Cold| cold.repo.refresh_strictly().unwrap();
        bencher.iter_batched_ref(|| filled.open(), refresh, BatchSize::PerIteration);
    });
    group.finish();
}

fn opening(group: &mut BenchmarkGroup<'_, WallTime>, filled: &Filled) {
    group.bench_function("open", |bencher| bencher.iter_with_large_drop(|| filled.open()));
}

/// Reads one chunk through an index that is empty.
fn reading(
    group: &mut BenchmarkGroup<'_, WallTime>,
    filled: &Filled,
    name: &str,
    snapshot: SnapshotId,
    chunk: ChunkId,
) {
    group.bench_function(name, |bencher| {
        let read = |cold: &mut Cold| {
            cold.repo.hold(snapshot, Hold::ForADay);
            assert_eq!(cold.repo.chunk(ChunkKind::Data, &chunk).unwrap().len() as u64, CHUNK_BYTES);
        };
        bencher.iter_batched_ref(|| filled.open(), read, BatchSize::PerIteration);
    });
}

/// A store of a large first backup and a small night after it.
struct Filled {
    store: Arc<dyn ObjectStore>,
    night: SnapshotId,
    chunk_of_night: ChunkId,
    first: ChunkId,
    last: ChunkId,
}

/// A store that was just opened on a host that never saw it.
struct Cold {
    repo: Repository,
    _folder: TempDir,
}

impl Filled {
    fn new() -> Self {
        let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
        let create = CreateOptions { credentials: Vec::new(), chunker: ChunkerParams::DEFAULT };
        Repository::create(store.as_ref(), &create).unwrap();
        let Cold { repo, _folder } = open(Arc::clone(&store));
        let (_, first, last) = backup(&repo, 0..CHUNKS);
        let (night, chunk_of_night, _) = backup(&repo, CHUNKS..CHUNKS + 100);
        let mut objects = 0;
        store.list(Prefix::Index, &mut |_| objects += 1).unwrap();
        assert!((CHUNKS / CHUNKS_PER_INDEX_OBJECT).abs_diff(objects) < 100, "{objects} index objects");
        let distant = FaultStore::distant(store, AT_ONCE);
        distant.script(|_| Some(Fault::Delay(REQUEST)));
        Self { store: Arc::new(distant), night, chunk_of_night, first, last }
    }

    fn open(&self) -> Cold {
        open(Arc::clone(&self.store))
    }
}

fn open(store: Arc<dyn ObjectStore>) -> Cold {
    let folder = tempfile::tempdir().unwrap();
    let folders = LocalFolders { cache: folder.path().join("cache"), state: folder.path().join("state") };
    let options =
        OpenOptions { folders, host: "bench".to_owned(), cache_bytes: 48 << 20, base_cache_bytes: None };
    Cold { repo: Repository::open(store, &options, &mut || Ok(None)).unwrap(), _folder: folder }
}

/// Stores chunks of these numbers; returns the session, the first chunk and the last one.
fn backup(repo: &Repository, numbers: std::ops::Range<u64>) -> (SnapshotId, ChunkId, ChunkId) {
    let options = SessionOptions {
        pack_target_bytes: CHUNKS_PER_INDEX_OBJECT * STORED_BYTES / 8,
        frame_target_bytes: 2 << 10,
        deltas: Deltas::Never,
        ..SessionOptions::new("bench")
    };
    let session = SessionWriter::open(repo, options).unwrap();
    let id = session.id();
    let mut ends = None;
    for number in numbers {
        let mut random = Random::new(number);
        let plain = [random.id(), random.id()].concat();
        let chunk = session.add(ChunkKind::Data, &plain).unwrap();
        ends = Some(ends.map_or((chunk, chunk), |(first, _)| (first, chunk)));
    }
    session.abandon().unwrap();
    let (first, last) = ends.unwrap();
    (id, first, last)
}
