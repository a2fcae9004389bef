//! Stress of the real binary on real folders: many processes at once that are killed and stopped at any time, deaths at
//! every system call that changes something, disks that fail and disks that are full. After each disturbance the same
//! oracle judges the store.
//!
//! `cargo test` runs short forms with a fixed seed. `scripts/stress/rounds` and `scripts/stress/kill` run the long forms,
//! through the environment: `STRESS_SEED`, `STRESS_ROUNDS`, `STRESS_KILLS`, and `STRESS_YESTER`, the binary. The same rounds
//! run on a bucket, whose server fails at random: `scripts/stress/s3`, `STRESS_NETWORK_FAULTS`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests say what they expect by failing")]
#![allow(clippy::print_stdout, reason = "long runs say how far they are")]

mod actor;
mod choice;
mod content;
mod faults;
mod kills;
mod lab;
mod network;
mod oracle;
mod rounds;
mod scenario;
mod tracer;

/// The seed of the short forms.
const SEED: u64 = 20_261_122;

fn number(variable: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(variable) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}"))
}

/// Eight writers, two collectors, and some who forget, bring back and protect, on one store.
#[test]
fn rounds() {
    rounds::run(number("STRESS_SEED", SEED), number("STRESS_ROUNDS", 5));
}

/// The same over a network that fails, until so many requests met a fault.
#[test]
fn rounds_over_network() {
    network::run(number("STRESS_SEED", SEED), number("STRESS_NETWORK_FAULTS", 100));
}

/// Deaths at one system call after the other.
#[test]
fn kills() {
    kills::run(number("STRESS_SEED", SEED), number("STRESS_KILLS", 20));
}

/// A disk that fails to write or to flush, from some call on.
#[test]
fn faults() {
    faults::run(number("STRESS_SEED", SEED), number("STRESS_FAULTS", 8));
}

/// A disk that is full.
#[test]
fn full_disk() {
    faults::run_full(number("STRESS_SEED", SEED), number("STRESS_FULL", 3));
}
