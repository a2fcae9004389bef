//! Frames: compressed alone and as deltas, decoded, sealed and opened.
//!
//! Encoding includes its check, which decodes the result. Beside it stands zstd alone, with the memory of the frame
//! before and without a check.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use yester::crypto::seal::SealKey;
use yester::format::frame::{DELTA_LEVEL_MIN, Encoding, FrameDecoder, FrameEncoder, open, seal};
use yester::format::header::HeaderHash;
use yester::id::FrameId;

use crate::inputs::{self, FRAME_BYTES, Night};

/// What `ingest` compresses at unless it is told otherwise.
const LEVEL: i32 = 3;
/// Of two such frames, the delta takes long distance matching.
const LONG_BYTES: usize = 1 << 20;
const SMALL_BYTES: usize = 8 << 10;
/// Few enough that a batch stays in the caches.
const OPENED_AT_ONCE: u64 = 8;

pub(crate) fn run(criterion: &mut Criterion) {
    for (name, plain) in inputs::frames() {
        alone(criterion, name, &plain);
    }
    library(criterion, &inputs::dump(FRAME_BYTES, Night::First));
    for (name, bytes) in [("256 KiB", FRAME_BYTES), ("1 MiB", LONG_BYTES)] {
        let [base, plain] = [Night::First, Night::Second].map(|night| inputs::dump(bytes, night));
        delta(criterion, name, &base, &plain);
    }
    for (name, bytes) in [("256 KiB", FRAME_BYTES), ("8 KiB", SMALL_BYTES)] {
        sealing(criterion, name, &inputs::noise(bytes));
    }
}

fn alone(criterion: &mut Criterion, name: &str, plain: &[u8]) {
    let mut encoder = FrameEncoder::new(LEVEL).unwrap();
    let mut decoder = FrameDecoder::new().unwrap();
    let (encoding, encoded) = encoder.encode(plain).unwrap();
    assert_eq!(encoding, if name == "noise" { Encoding::Raw } else { Encoding::Zstd });
    assert_eq!(decoder.decode(encoding, &encoded, plain.len(), None).unwrap(), plain);

    let mut group = criterion.benchmark_group("frame");
    group.throughput(Throughput::Bytes(plain.len() as u64));
    group.bench_function(BenchmarkId::new("encode", name), |bencher| {
        bencher.iter(|| encoder.encode(plain).unwrap());
    });
    group.bench_function(BenchmarkId::new("decode", name), |bencher| {
        bencher.iter(|| decoder.decode(encoding, &encoded, plain.len(), None).unwrap());
    });
    group.finish();
}

/// What zstd itself takes.
fn library(criterion: &mut Criterion, plain: &[u8]) {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL).unwrap();
    let mut decompressor = zstd::bulk::Decompressor::new().unwrap();
    let mut encoded = Vec::with_capacity(zstd::zstd_safe::compress_bound(plain.len()));
    let mut decoded = Vec::with_capacity(plain.len());
    compressor.compress_to_buffer(plain, &mut encoded).unwrap();
    decompressor.decompress_to_buffer(&encoded, &mut decoded).unwrap();
    assert_eq!(decoded, plain);

    let mut group = criterion.benchmark_group("frame");
    group.throughput(Throughput::Bytes(plain.len() as u64));
    let compressed = encoded.clone();
    group.bench_function("encode/dump, zstd alone", |bencher| {
        bencher.iter(|| compressor.compress_to_buffer(plain, &mut encoded).unwrap());
    });
    group.bench_function("decode/dump, zstd alone", |bencher| {
        bencher.iter(|| decompressor.decompress_to_buffer(&compressed, &mut decoded).unwrap());
    });
    group.finish();
}

fn delta(criterion: &mut Criterion, name: &str, base: &[u8], plain: &[u8]) {
    let mut encoder = FrameEncoder::new(DELTA_LEVEL_MIN).unwrap();
    let mut decoder = FrameDecoder::new().unwrap();
    let encoding = Encoding::Delta { base: FrameId::from_bytes([1; 32]).into() };
    let encoded = encoder.encode_delta(plain, base).unwrap();
    assert!(encoded.len() * 30 < plain.len(), "{} bytes are no small delta", encoded.len());
    assert_eq!(decoder.decode(encoding, &encoded, plain.len(), Some(base)).unwrap(), plain);

    let mut group = criterion.benchmark_group("delta frame");
    group.throughput(Throughput::Bytes(plain.len() as u64));
    group.bench_function(BenchmarkId::new("encode", name), |bencher| {
        bencher.iter(|| encoder.encode_delta(plain, base).unwrap());
    });
    group.bench_function(BenchmarkId::new("decode", name), |bencher| {
        bencher.iter(|| decoder.decode(encoding, &encoded, plain.len(), Some(base)).unwrap());
    });
    group.finish();
}

fn sealing(criterion: &mut Criterion, name: &str, encoded: &[u8]) {
    let key = SealKey::from_bytes(&[7; 32]);
    let header = HeaderHash([4; 32]);
    let mut sealed = encoded.to_vec();
    seal(&key, &header, 0, Encoding::Zstd, &mut sealed).unwrap();
    assert_ne!(&sealed[..encoded.len()], encoded);
    assert_eq!(open(&key, &header, 0, Encoding::Zstd, &mut sealed.clone()).unwrap(), encoded);

    let mut group = criterion.benchmark_group("frame");
    group.throughput(Throughput::Bytes(encoded.len() as u64));
    group.bench_function(BenchmarkId::new("seal", name), |bencher| {
        let mut buffer = sealed.clone();
        bencher.iter(|| {
            buffer.truncate(encoded.len());
            seal(&key, &header, 0, Encoding::Zstd, &mut buffer).unwrap();
        });
    });
    group.bench_function(BenchmarkId::new("open", name), |bencher| {
        bencher.iter_batched_ref(
            || sealed.clone(),
            |stored| open(&key, &header, 0, Encoding::Zstd, stored).unwrap().len(),
            BatchSize::NumIterations(OPENED_AT_ONCE),
        );
    });
    group.finish();
}
