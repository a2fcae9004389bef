//! Naming: the id of a chunk, of a large one and of a small one, and BLAKE3 alone on the same bytes in one piece.

use criterion::{Criterion, Throughput};
use yester::crypto::hash::{ChunkKind, IdKeys};

use crate::inputs::{self, FRAME_BYTES};

const SMALL_BYTES: usize = 8 << 10;

pub(crate) fn run(criterion: &mut Criterion) {
    let noise = inputs::noise(FRAME_BYTES);
    for (name, chunk) in [("256 KiB", &noise[..]), ("8 KiB", &noise[..SMALL_BYTES])] {
        name_chunk(criterion, name, chunk);
    }
}

fn name_chunk(criterion: &mut Criterion, name: &str, chunk: &[u8]) {
    let key = [3; 32];
    let ids = IdKeys::new(&key);
    let in_one_piece = [&[ChunkKind::Data.code()], chunk].concat();
    let library = || blake3::keyed_hash(&key, &in_one_piece);
    assert_eq!(ids.chunk_id(ChunkKind::Data, chunk).as_bytes(), library().as_bytes());

    let mut group = criterion.benchmark_group("chunk id");
    group.throughput(Throughput::Bytes(chunk.len() as u64));
    group.bench_function(name, |bencher| bencher.iter(|| ids.chunk_id(ChunkKind::Data, chunk)));
    group.bench_function(format!("{name}, blake3 alone"), |bencher| bencher.iter(library));
    group.finish();
}
