//! Rounds: eight writers, two collectors, one who forgets and brings back, one who protects, one who reads. Processes are
//! killed and stopped at any time, and some sleep into the next round.

use std::fmt::Debug;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::actor::{self, Fate, Odds, Outcome};
use crate::choice::Chooser;
use crate::lab::{Host, Lab, Ran, Running};
use crate::network;
use crate::oracle::{Depth, LastCollection, Ledger, Version};

const WRITERS: u64 = 8;
const COLLECTORS: u64 = 2;
/// A store is used for so many rounds.
pub(crate) const ROUNDS_PER_STORE: u64 = 50;
/// Every so many rounds all snapshots are restored, instead of a few.
pub(crate) const FULL_EVERY: u64 = 10;
/// The time in which a process is disturbed, on a disk and over a network.
const PROCESS_MS: u64 = 180;
const PROCESS_OVER_NETWORK_MS: u64 = 500;

/// Runs so many rounds.
pub(crate) fn run(seed: u64, rounds: u64) {
    println!("rounds: seed {seed}, {rounds} rounds");
    let started = Instant::now();
    let counts = Counts::default();
    let mut first = 0;
    while first < rounds {
        let end = (first + ROUNDS_PER_STORE).min(rounds);
        let mut world = World::new(seed, first / ROUNDS_PER_STORE, Lab::new());
        for round in first..end {
            let _again = Again { seed, rounds, round };
            world.round(round, &counts, round % FULL_EVERY == FULL_EVERY - 1 || round + 1 == end);
            if (round + 1) % 10 == 0 {
                println!("{} rounds in {:.0} s: {counts:?}", round + 1, started.elapsed().as_secs_f64());
            }
        }
        first = end;
    }
    let line = format!(
        "rounds: seed {seed}: {rounds} rounds in {:.0} s, nothing lost: {counts:?}\n",
        started.elapsed().as_secs_f64()
    );
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
}

/// Says how to run again what failed.
struct Again {
    seed: u64,
    rounds: u64,
    round: u64,
}

impl Drop for Again {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { seed, rounds, round } = self;
            println!("round {round} failed; again: scripts/stress/rounds --rounds {rounds} --seed {seed}");
        }
    }
}

/// What happened, for the report.
#[derive(Default)]
pub(crate) struct Counts {
    processes: AtomicU64,
    killed: AtomicU64,
    paused: AtomicU64,
    slept: AtomicU64,
    fenced: AtomicU64,
    commits: AtomicU64,
    dropped: AtomicU64,
    deleted_packs: AtomicU64,
    rewritten_packs: AtomicU64,
    brought_back: AtomicU64,
}

impl Debug for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named = [
            ("processes", &self.processes),
            ("killed", &self.killed),
            ("stopped", &self.paused),
            ("asleep over a round", &self.slept),
            ("fenced", &self.fenced),
            ("commits", &self.commits),
            ("brought back", &self.brought_back),
            ("snapshots dropped", &self.dropped),
            ("packs deleted", &self.deleted_packs),
            ("packs written anew", &self.rewritten_packs),
        ];
        let shown: Vec<_> =
            named.iter().map(|(name, count)| format!("{} {name}", count.load(Ordering::Relaxed))).collect();
        f.write_str(&shown.join(", "))
    }
}

fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// Who sleeps into the next round.
enum Sleeper {
    Writer(u64, Running),
    Collector(u64, Running),
}

/// Whether collections of a round fence the sessions of other hosts at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Polite,
    Exclusive,
}

/// A store with those who use it.
pub(crate) struct World {
    pub(crate) lab: Lab,
    ledger: Ledger,
    seed: u64,
    /// The last version of each writer's source.
    versions: Vec<AtomicU64>,
    sleepers: Mutex<Vec<Sleeper>>,
}

impl World {
    pub(crate) fn new(seed: u64, store: u64, lab: Lab) -> Self {
        let versions = (0..WRITERS).map(|_| AtomicU64::new(0)).collect();
        let ledger = Ledger::new(Chooser::new(seed, &[store]).next());
        Self { lab, ledger, seed, versions, sleepers: Mutex::default() }
    }

    pub(crate) fn round(&mut self, round: u64, counts: &Counts, is_full: bool) {
        let mut chooser = Chooser::new(self.seed, &[round]);
        let mode = if chooser.percent(25) { Mode::Exclusive } else { Mode::Polite };
        let sleepers = std::mem::take(self.sleepers.get_mut().unwrap());
        // Their hosts do nothing else: a process that sleeps with a lock in its hand holds up its own host.
        let is_awake = |host: &Host| {
            !sleepers.iter().any(|sleeper| match sleeper {
                Sleeper::Writer(writer, _) => self.writer(*writer).folder() == host.folder(),
                Sleeper::Collector(collector, _) => self.collector(*collector).folder() == host.folder(),
            })
        };
        let writers: Vec<u64> = (0..WRITERS).filter(|writer| is_awake(&self.writer(*writer))).collect();
        let collectors: Vec<u64> =
            (0..COLLECTORS).filter(|collector| is_awake(&self.collector(*collector))).collect();
        let wakes_collector = sleepers.iter().any(|sleeper| matches!(sleeper, Sleeper::Collector(..)));
        let may_fence = mode == Mode::Exclusive || wakes_collector;
        network::disturb(&self.lab, chooser.next());
        let act = Act { world: self, round, mode, may_fence, counts };
        std::thread::scope(|scope| {
            for sleeper in sleepers {
                let act = &act;
                scope.spawn(move || act.wake(sleeper));
            }
            for writer in &writers {
                scope.spawn(|| act.write(*writer));
            }
            for collector in &collectors {
                scope.spawn(|| act.collect(*collector));
            }
            scope.spawn(|| act.forget());
            scope.spawn(|| act.protect());
            scope.spawn(|| act.read());
        });
        network::calm(&self.lab);
        self.judge(&writers, mode, is_full, &mut chooser);
    }

    fn judge(&self, awake: &[u64], mode: Mode, is_full: bool, chooser: &mut Chooser) {
        let sleepers = self.sleepers.lock().unwrap();
        let sleeps = |writer: &u64| {
            sleepers.iter().any(|s| matches!(s, Sleeper::Writer(number, _) if number == writer))
        };
        let awake: Vec<u64> = awake.iter().copied().filter(|writer| !sleeps(writer)).collect();
        let writer = *chooser.pick(&awake).unwrap();
        let host = self.writer(writer);
        let depth = if is_full { Depth::All } else { Depth::Sample(2) };
        self.ledger.judge(&self.lab, &host, depth, chooser);
        let next = Version { writer, version: self.next_version(writer) };
        // Sessions of hosts that died would be waited for a day.
        let last = match mode {
            Mode::Exclusive => LastCollection::Exclusive,
            Mode::Polite if chooser.percent(60) => LastCollection::Exclusive,
            Mode::Polite => LastCollection::Polite,
        };
        self.ledger.work_goes_on(&host, next, last);
        if is_full {
            self.ledger.judge(&self.lab, &host, Depth::Sample(2), chooser);
        }
    }

    fn writer(&self, number: u64) -> Host {
        self.lab.host(&format!("writer-{number}"))
    }

    fn collector(&self, number: u64) -> Host {
        self.lab.host(&format!("collector-{number}"))
    }

    fn next_version(&self, writer: u64) -> u64 {
        self.versions[usize::try_from(writer).unwrap()].fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for sleeper in self.sleepers.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner) {
            let (Sleeper::Writer(_, running) | Sleeper::Collector(_, running)) = sleeper;
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}

/// What everybody does in one round.
struct Act<'a> {
    world: &'a World,
    round: u64,
    mode: Mode,
    /// Whether a collection may fence sessions that live.
    may_fence: bool,
    counts: &'a Counts,
}

impl Act<'_> {
    /// Returns the time in which a process is disturbed.
    fn process_ms(&self) -> u64 {
        if self.world.lab.server().is_some() { PROCESS_OVER_NETWORK_MS } else { PROCESS_MS }
    }

    fn chooser(&self, kind: u64, number: u64) -> Chooser {
        Chooser::new(self.world.seed, &[self.round, kind, number])
    }

    fn run(&self, command: std::process::Command, fate: Fate) -> Outcome {
        count(&self.counts.processes, 1);
        let outcome = actor::run(command, fate);
        match (&outcome, fate) {
            (Outcome::Killed, _) => count(&self.counts.killed, 1),
            (_, Fate::Paused { .. }) => count(&self.counts.paused, 1),
            (Outcome::Asleep(_), _) => count(&self.counts.slept, 1),
            _ => {}
        }
        outcome
    }

    fn wake(&self, sleeper: Sleeper) {
        std::thread::sleep(self.chooser(5, 0).time(600));
        match sleeper {
            Sleeper::Writer(_, running) => self.heard_of_ingest(actor::wake(running), true),
            Sleeper::Collector(_, running) => self.heard_of_collection(actor::wake(running)),
        }
    }

    fn write(&self, writer: u64) {
        let mut chooser = self.chooser(1, writer);
        let host = self.world.writer(writer);
        for _ in 0..=chooser.below(2) {
            std::thread::sleep(chooser.time(300));
            let version = Version { writer, version: self.world.next_version(writer) };
            let command = self.world.ledger.ingest_command(&host, version, &[]);
            let fate = Odds { killed: 18, paused: 16, asleep: 6 }.fate(&mut chooser, self.process_ms());
            match self.run(command, fate) {
                Outcome::Asleep(running) => {
                    self.world.sleepers.lock().unwrap().push(Sleeper::Writer(writer, running));
                    return;
                }
                outcome => self.heard_of_ingest(outcome, self.may_fence),
            }
        }
    }

    fn heard_of_ingest(&self, outcome: Outcome, may_be_fenced: bool) {
        let Outcome::Ended(ran) = outcome else { return };
        self.world.ledger.heard_of_ingest(&ran);
        if ran.code == Some(0) {
            count(&self.counts.commits, 1);
        } else if may_be_fenced && ran.stderr.contains("gave it up") {
            count(&self.counts.fenced, 1);
        } else {
            unexpected(&ran);
        }
    }

    fn collect(&self, number: u64) {
        let mut chooser = self.chooser(2, number);
        let host = self.world.collector(number);
        for _ in 0..=chooser.below(2) {
            std::thread::sleep(chooser.time(600));
            // With a grace period, what was forgotten can be brought back while garbage is collected.
            let grace = if chooser.percent(30) { "1h" } else { "0" };
            let mut arguments = vec!["gc", "--grace", grace, "--wait", "1s", "--json"];
            arguments.extend((self.mode == Mode::Exclusive).then_some("--exclusive"));
            let fate = Odds { killed: 25, paused: 20, asleep: 10 }.fate(&mut chooser, self.process_ms());
            match self.run(host.command(&arguments), fate) {
                Outcome::Asleep(running) => {
                    self.world.sleepers.lock().unwrap().push(Sleeper::Collector(number, running));
                    return;
                }
                outcome => self.heard_of_collection(outcome),
            }
        }
    }

    fn heard_of_collection(&self, outcome: Outcome) {
        let Outcome::Ended(ran) = outcome else { return };
        if ran.code != Some(0) {
            unexpected(&ran);
        }
        let said = ran.json();
        for (counter, name) in [
            (&self.counts.dropped, "dropped_snapshots"),
            (&self.counts.deleted_packs, "deleted_packs"),
            (&self.counts.rewritten_packs, "rewritten_packs"),
        ] {
            count(counter, said[name].as_u64().unwrap());
        }
    }

    fn forget(&self) {
        let mut chooser = self.chooser(3, 0);
        let host = self.world.lab.host("forgetter");
        for _ in 0..=chooser.below(3) {
            std::thread::sleep(chooser.time(250));
            let fate = Odds { killed: 15, paused: 15, asleep: 0 }.fate(&mut chooser, self.process_ms() / 2);
            match chooser.below(10) {
                0..5 => self.thin_out(&host, &mut chooser, fate),
                5..7 => self.forget_one(&host, &mut chooser, fate),
                _ => {
                    let ids = self.world.ledger.forgotten_ids();
                    chooser.pick(&ids).into_iter().for_each(|id| self.bring_back(&host, id, fate));
                }
            }
        }
    }

    fn thin_out(&self, host: &Host, chooser: &mut Chooser, fate: Fate) {
        let ledger = &self.world.ledger;
        let writer = chooser.percent(40).then(|| chooser.below(WRITERS));
        let source = writer.map(|writer| format!("w{writer}"));
        // More than a writer commits meanwhile: what is committed from now on is never in doubt.
        let mut arguments = vec!["forget", "--force", "--json", "--keep-last", "4"];
        arguments.extend(source.as_ref().map(|source| ["--source", source]).into_iter().flatten());
        let doubtful = ledger.thinning(writer);
        let Outcome::Ended(ran) = self.run(host.command(&arguments), fate) else { return };
        let said = ran.succeeds().json();
        let series = said["series"].as_array().unwrap();
        for snapshot in series.iter().flat_map(|series| series["snapshots"].as_array().unwrap()) {
            match snapshot["kept"].as_bool().unwrap() {
                true => ledger.kept(&doubtful, snapshot),
                false => ledger.forgotten(snapshot),
            }
        }
    }

    fn forget_one(&self, host: &Host, chooser: &mut Chooser, fate: Fate) {
        let ledger = &self.world.ledger;
        let ids = ledger.acknowledged();
        let Some(id) = chooser.pick(&ids) else { return };
        ledger.forgetting(id);
        let Outcome::Ended(ran) = self.run(host.command(&["forget", "--force", "--json", id]), fate) else {
            return;
        };
        if ran.code == Some(1) && ran.stderr.contains("is protected") {
            return;
        }
        let said = ran.succeeds().json();
        let series = said["series"].as_array().unwrap();
        let snapshots = series.iter().flat_map(|series| series["snapshots"].as_array().unwrap());
        snapshots
            .filter(|snapshot| snapshot["kept"] == false)
            .for_each(|snapshot| ledger.forgotten(snapshot));
        if chooser.percent(60) {
            let fate = Odds { killed: 15, paused: 15, asleep: 0 }.fate(chooser, self.process_ms() / 2);
            self.bring_back(host, id, fate);
        }
    }

    fn bring_back(&self, host: &Host, id: &str, fate: Fate) {
        let ledger = &self.world.ledger;
        let Outcome::Ended(ran) = self.run(host.command(&["forget", "--undo", "--json", id]), fate) else {
            return;
        };
        let is_gone =
            ["cannot be brought back", "no forgotten snapshot"].iter().any(|text| ran.stderr.contains(text));
        let is_fenced = self.may_fence && ran.stderr.contains("gave it up");
        if ran.code == Some(1) && (is_gone || is_fenced) {
            return;
        }
        for snapshot in ran.succeeds().json().as_array().unwrap() {
            ledger.committed(snapshot);
            count(&self.counts.brought_back, 1);
        }
    }

    /// Reads while others collect: what nobody forgets is there all the time, and nothing is called damaged that is not.
    fn read(&self) {
        let mut chooser = self.chooser(6, 0);
        let (host, ledger) = (self.world.lab.host("reader"), &self.world.ledger);
        std::thread::sleep(chooser.time(600));
        let fate = Odds { killed: 5, paused: 35, asleep: 0 }.fate(&mut chooser, self.process_ms() / 2);
        if chooser.percent(40) {
            if let Outcome::Ended(ran) = self.run(host.command(&["verify"]), fate) {
                ran.succeeds();
            }
            return;
        }
        let ids = ledger.acknowledged();
        let Some(id) = chooser.pick(&ids) else { return };
        let target = tempfile::Builder::new().prefix("yester-stress-").tempdir().unwrap();
        let words = ["restore", id, "--to", target.path().to_str().unwrap()];
        let Outcome::Ended(ran) = self.run(host.command(&words), fate) else { return };
        if ran.code != Some(0) && ledger.acknowledged().contains(id) {
            unexpected(&ran);
        }
    }

    fn protect(&self) {
        let mut chooser = self.chooser(4, 0);
        let (host, ledger) = (self.world.lab.host("protector"), &self.world.ledger);
        std::thread::sleep(chooser.time(500));
        let fate = Odds { killed: 15, paused: 15, asleep: 0 }.fate(&mut chooser, self.process_ms() / 2);
        let protected = ledger.protected_ids();
        if protected.len() > 4 {
            let id = chooser.pick(&protected).unwrap();
            ledger.unprotecting(id);
            if let Outcome::Ended(ran) = self.run(host.command(&["protect", "--end", id]), fate) {
                ran.succeeds();
            }
            return;
        }
        let ids = ledger.acknowledged();
        let Some(id) = chooser.pick(&ids) else { return };
        ledger.protecting(id);
        let Outcome::Ended(ran) = self.run(host.command(&["protect", "--json", id]), fate) else { return };
        let too_late = ["was forgotten", "no snapshot"].iter().any(|text| ran.stderr.contains(text));
        if ran.code != Some(0) && too_late {
            return;
        }
        ran.succeeds().json().as_array().unwrap().iter().for_each(|snapshot| ledger.protected(snapshot));
    }
}

/// Fails: nobody disturbed this process, and it did not do its work.
#[track_caller]
fn unexpected(ran: &Ran) {
    panic!("exit code {:?} of {}\n{}", ran.code, ran.line, ran.stderr);
}
