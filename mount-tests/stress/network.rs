//! A store in a bucket, whose server fails as busy servers and bad networks do.
//!
//! What it never does here: show a listing that is short or old, or ignore a condition. Collecting garbage rests on both,
//! and the tests of S3 say what single listings that lie can do. Everything else may happen to any request, and no command
//! may fail for it.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use s3_server::Fault;

use crate::lab::Lab;
use crate::rounds::{Counts, FULL_EVERY, ROUNDS_PER_STORE, World};

/// One request in so many meets a fault, on average.
const ONE_IN: u64 = 6;

/// What happens to requests. Those that hang are few, since each takes seconds.
fn faults() -> Vec<Fault> {
    let quick = [
        Fault::slow_down(),
        Fault::internal_error(),
        Fault::conflict(),
        Fault::CloseBefore,
        Fault::CloseAfter,
        Fault::CutBody,
        Fault::ErrorInOk,
        Fault::Delay(Duration::from_millis(200)),
    ];
    let mut faults: Vec<Fault> = quick.iter().cycle().take(5 * quick.len()).cloned().collect();
    faults.extend([Fault::Hang, Fault::HangInBody]);
    faults
}

/// Begins to let requests meet faults, where the store is in a bucket.
pub(crate) fn disturb(lab: &Lab, seed: u64) {
    if let Some(server) = lab.server() {
        server.faults().at_random(seed, ONE_IN, &faults());
    }
}

/// Ends that.
pub(crate) fn calm(lab: &Lab) {
    if let Some(server) = lab.server() {
        server.faults().clear();
    }
}

/// Runs rounds until so many requests met a fault.
pub(crate) fn run(seed: u64, wanted: u64) {
    println!("rounds over a network: seed {seed}, {wanted} faults");
    let (started, counts) = (Instant::now(), Counts::default());
    let mut injected: BTreeMap<&'static str, u64> = BTreeMap::new();
    let (mut round, mut requests) = (0, 0);
    while injected.values().sum::<u64>() < wanted {
        let before: u64 = injected.values().sum();
        let mut world = World::new(seed, round / ROUNDS_PER_STORE, Lab::over_network());
        loop {
            let _again = Again { seed, wanted, round };
            world.round(round, &counts, round % FULL_EVERY == FULL_EVERY - 1);
            round += 1;
            let server = world.lab.server().unwrap();
            let met = before + server.faults().injected().values().sum::<u64>();
            if round % 10 == 0 {
                println!(
                    "{round} rounds in {:.0} s, {met} faults: {counts:?}",
                    started.elapsed().as_secs_f64()
                );
            }
            if met >= wanted || round % ROUNDS_PER_STORE == 0 {
                break;
            }
        }
        let server = world.lab.server().unwrap();
        requests += server.counts().now().total();
        for (kind, times) in server.faults().injected() {
            *injected.entry(kind).or_default() += times;
        }
    }
    let met: u64 = injected.values().sum();
    let kinds: Vec<_> = injected.iter().map(|(kind, times)| format!("{times} {kind}")).collect();
    let line = format!(
        "rounds over a network: seed {seed}: {round} rounds in {:.0} s, {met} faults in {requests} requests, nothing lost: \
         {counts:?}; {}\n",
        started.elapsed().as_secs_f64(),
        kinds.join(", ")
    );
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Says how to run again what failed.
struct Again {
    seed: u64,
    wanted: u64,
    round: u64,
}

impl Drop for Again {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { seed, wanted, round } = self;
            println!("round {round} failed; again: scripts/stress/s3 --faults {wanted} --seed {seed}");
        }
    }
}
