//! Cutting: a large file read through a [`Chunker`], many small ones, and `fastcdc` alone on bytes in memory.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput};
use fastcdc::v2020::{FastCDC, Normalization};
use yester::chunker::{Chunker, ChunkerParams, ChunkerSetup};

use crate::inputs::{self, Night};

const DUMP_BYTES: usize = 16 << 20;
const FILES: u64 = 500;
const SEED: u64 = 0x0123_4567_89ab_cdef;

pub(crate) fn run(criterion: &mut Criterion) {
    let setup = Arc::new(ChunkerSetup::new(ChunkerParams::DEFAULT, SEED).unwrap());
    let dump = inputs::dump(DUMP_BYTES, Night::First);
    let files = inputs::source_files(FILES);
    check(&dump, &setup);
    files.iter().for_each(|file| check(file, &setup));

    let mut group = criterion.benchmark_group("chunker");
    group.throughput(Throughput::Bytes(dump.len() as u64));
    group.bench_function("dump", |bencher| bencher.iter(|| cut(&dump, &setup)));
    group.bench_function("dump, fastcdc alone", |bencher| bencher.iter(|| library(&dump).count()));
    let bytes: usize = files.iter().map(Vec::len).sum();
    group.throughput(Throughput::Bytes(bytes as u64));
    group.bench_function("source files", |bencher| {
        bencher.iter(|| files.iter().for_each(|file| cut(file, &setup)));
    });
    group.finish();
}

/// Asserts that the chunks are the file again, cut where the library cuts it.
fn check(file: &[u8], setup: &Arc<ChunkerSetup>) {
    let mut chunker = Chunker::new(file, Arc::clone(setup));
    let chunks: Vec<Vec<u8>> = std::iter::from_fn(|| chunker.next_chunk().unwrap()).collect();
    assert!(chunks.iter().map(Vec::len).eq(library(file)));
    assert_eq!(chunks.concat(), file);
}

fn cut(file: &[u8], setup: &Arc<ChunkerSetup>) {
    let mut chunker = Chunker::new(file, Arc::clone(setup));
    while let Some(chunk) = chunker.next_chunk().unwrap() {
        black_box(chunk);
    }
}

/// Returns the lengths of the library's chunks.
fn library(file: &[u8]) -> impl Iterator<Item = usize> {
    let ChunkerParams { min_bytes, average_bytes, max_bytes } = ChunkerParams::DEFAULT;
    let [min, average, max] = [min_bytes, average_bytes, max_bytes].map(|size| size as usize);
    FastCDC::with_level_and_seed(file, min, average, max, Normalization::Level1, SEED)
        .map(|chunk| chunk.length)
}
