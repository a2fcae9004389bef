//! Micro-benchmarks of what each byte passes on its way into a store and out of it: `cargo bench --bench micro`.
//!
//! One file a subject, and `inputs` makes what they work on. Each subject asserts before it is timed that it does what
//! it should, so that no figure is that of an error. Where a library does the work, the library alone stands beside it.
//! What whole commands take is measured by the scripts next to this folder.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark ends at the first failure")]

mod chunker;
mod distance;
mod frame;
mod hash;
mod index;
mod inputs;
mod similarity;
mod tree;

use std::time::Duration;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    chunker::run(&mut criterion);
    hash::run(&mut criterion);
    similarity::run(&mut criterion);
    frame::run(&mut criterion);
    tree::run(&mut criterion);
    index::run(&mut criterion);
    distance::run(&mut criterion);
    criterion.final_summary();
}
