//! The super-features of a frame.

use criterion::{BenchmarkId, Criterion, Throughput};
use yester::similarity::super_features;

use crate::inputs::{self, FRAME_BYTES, Night};

pub(crate) fn run(criterion: &mut Criterion) {
    let frames = inputs::frames();
    let features = super_features(&frames[0].1).unwrap();
    let later = super_features(&inputs::dump(FRAME_BYTES, Night::Second)).unwrap();
    assert!(features.iter().zip(&later).any(|(one, other)| one == other), "two nights resemble each other");
    assert!(features.iter().zip(&super_features(&frames[2].1).unwrap()).all(|(one, other)| one != other));

    let mut group = criterion.benchmark_group("similarity");
    for (name, frame) in &frames {
        group.throughput(Throughput::Bytes(frame.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| super_features(frame));
        });
    }
    group.finish();
}
