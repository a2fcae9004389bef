//! Deaths: each command that changes a store is killed at one system call after the other, and the oracle judges.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::choice::Chooser;
use crate::lab::{Lab, can};
use crate::scenario::{Attempt, Case, Scenario};
use crate::tracer;

const WORKERS: u64 = 2;

/// Kills so many processes, each at another call.
pub(crate) fn run(seed: u64, kills: u64) {
    if !can("ptrace on x86-64 Linux", tracer::WORKS) {
        return;
    }
    println!("kills: seed {seed}, {kills} kills");
    let started = Instant::now();
    let scenarios: Vec<Scenario> = (0..WORKERS).map(|_| Scenario::new(seed, Lab::new())).collect();
    let calls: BTreeMap<Case, u64> =
        Case::ALL.into_iter().map(|case| (case, count(&scenarios[0], case))).collect();
    println!("calls: {calls:?}");
    let mut points: Vec<(Case, u64)> =
        calls.iter().flat_map(|(case, calls)| (1..=*calls).map(|call| (*case, call))).collect();
    let all = points.len();
    shuffle(&mut points, &mut Chooser::new(seed, &[0]));
    // A run may have fewer calls than the one that was counted, above all where threads wait for each other: who does not
    // come to the call at which it is to die makes room for another one.
    points.truncate(usize::try_from(kills + kills / 2).unwrap());
    let enough = kills.min(u64::try_from(points.len()).unwrap() * 9 / 10);
    let (next, killed) = (AtomicUsize::new(0), Mutex::new(BTreeMap::<Case, u64>::new()));
    std::thread::scope(|scope| {
        for scenario in &scenarios {
            scope.spawn(|| {
                while killed.lock().unwrap().values().sum::<u64>() < enough
                    && let Some((case, call)) = points.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let _again = Again { seed, kills, case: *case, call: *call };
                    if kill(scenario, *case, *call, seed) {
                        *killed.lock().unwrap().entry(*case).or_default() += 1;
                    }
                    let done: u64 = killed.lock().unwrap().values().sum();
                    if done.is_multiple_of(100) {
                        println!("{done} kills in {:.0} s", started.elapsed().as_secs_f64());
                    }
                }
            });
        }
    });
    let killed = killed.into_inner().unwrap();
    let (sum, seconds) = (killed.values().sum::<u64>(), started.elapsed().as_secs_f64());
    assert!(sum >= enough, "too few died: {killed:?}");
    let line = format!(
        "kills: seed {seed}: {sum} kills at as many of {all} calls in {seconds:.0} s, nothing lost: {killed:?}\n"
    );
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Says how to run again what failed.
struct Again {
    seed: u64,
    kills: u64,
    case: Case,
    call: u64,
}

impl Drop for Again {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { seed, kills, case, call } = self;
            println!(
                "call {call} of {case:?} failed; again: scripts/stress/kill --kills {kills} --seed {seed}"
            );
        }
    }
}

/// Counts the calls of a command that nobody disturbs.
fn count(scenario: &Scenario, case: Case) -> u64 {
    let attempt = prepare(scenario, case);
    let traced = tracer::run(&attempt.host, &attempt.arguments, &attempt.stdin, None);
    traced.ran.unwrap().succeeds();
    traced.calls
}

/// Kills a command at a call, and judges; tells whether it died. Threads take turns as they like, so that a run may have
/// fewer calls than another one.
fn kill(scenario: &Scenario, case: Case, call: u64, seed: u64) -> bool {
    let attempt = prepare(scenario, case);
    let traced = tracer::run(&attempt.host, &attempt.arguments, &attempt.stdin, Some(call));
    if let Some(ran) = &traced.ran {
        attempt.heard(ran);
    }
    attempt.judge(&scenario.lab, &mut Chooser::new(seed, &[1, call]));
    traced.ran.is_none()
}

fn prepare(scenario: &Scenario, case: Case) -> Attempt {
    let attempt = scenario.attempt(case);
    if case == Case::CollectAgain {
        // Behind the deletion of the first pack.
        let first = tracer::run(&attempt.host, &attempt.arguments, &attempt.stdin, Some(FIRST_DEATH));
        assert!(first.ran.is_none(), "the first collection has fewer calls");
    }
    attempt
}

/// The call at which the collection before died.
const FIRST_DEATH: u64 = 150;

fn shuffle<T>(of: &mut [T], chooser: &mut Chooser) {
    for last in (1..of.len()).rev() {
        let other = usize::try_from(chooser.below(u64::try_from(last + 1).unwrap())).unwrap();
        of.swap(last, other);
    }
}
