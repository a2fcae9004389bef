//! Disks that fail: what cannot be written or flushed, from some call on, and what is full.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use crate::choice::Chooser;
use crate::lab::{Lab, Ran, Running, can, has_program};
use crate::scenario::{Case, Scenario};

/// What fails, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// A flush says that what was written is not on the disk.
    Flush,
    /// There is no room.
    Room,
}

impl Fault {
    fn calls(self) -> &'static str {
        match self {
            Self::Flush => "fsync,fdatasync",
            Self::Room => "write,pwrite64,pwritev2,fallocate,linkat,mkdirat",
        }
    }

    fn error(self) -> &'static str {
        match self {
            Self::Flush => "EIO",
            Self::Room => "ENOSPC",
        }
    }
}

/// Runs so many commands whose n-th call of a kind fails, once or for ever.
pub(crate) fn run(seed: u64, faults: u64) {
    if !can("strace", has_program("strace")) {
        return;
    }
    let started = Instant::now();
    let scenario = Scenario::new(seed, Lab::new());
    let (mut injected, mut refused) = (0, 0);
    for nth in 0..faults {
        let mut chooser = Chooser::new(seed, &[2, nth]);
        let case = Case::ALL[usize::try_from(nth % 8).unwrap()];
        let fault = if chooser.percent(50) { Fault::Flush } else { Fault::Room };
        let when = format!("{}{}", 1 + chooser.below(14), if chooser.percent(50) { "+" } else { "" });
        let _again = Again { seed, faults, what: format!("{fault:?} at {when} of {case:?}") };
        let (ran, hits) = fail(&scenario, case, fault, &when, &mut chooser);
        injected += u64::from(hits > 0);
        refused += u64::from(ran.code != Some(0));
    }
    assert!(injected * 2 > faults, "too few calls failed: {injected}");
    let seconds = started.elapsed().as_secs_f64();
    let line = format!(
        "faults: seed {seed}: {injected} of {faults} commands met a failing call, and {refused} failed, in {seconds:.0} s, \
         nothing lost\n"
    );
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Says how to run again what failed.
struct Again {
    seed: u64,
    faults: u64,
    what: String,
}

impl Drop for Again {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { seed, faults, what } = self;
            println!("{what} failed; again: scripts/stress/kill --faults {faults} --seed {seed}");
        }
    }
}

/// Runs a command that meets a fault, and judges; returns how it ended, and how many calls failed.
fn fail(scenario: &Scenario, case: Case, fault: Fault, when: &str, chooser: &mut Chooser) -> (Ran, usize) {
    let attempt = scenario.attempt(case);
    let log = scenario.lab.path().join("strace.log");
    let calls = fault.calls();
    let words = ["-f", "-qq", "-y", "-o", log.to_str().unwrap(), "-e", &format!("trace={calls}"), "-e"];
    let mut words: Vec<String> = words.map(str::to_owned).into();
    words.push(format!("inject={calls}:error={}:when={when}", fault.error()));
    let mut command = attempt.host.command_under("strace", &words, &attempt.arguments);
    command.stdin(fs::File::open(&attempt.stdin).unwrap());
    let ran = Running::start(command).end();
    attempt.heard(&ran);
    let log = fs::read_to_string(&log).unwrap();
    let hits: Vec<&str> = log.lines().filter(|line| line.contains("(INJECTED)")).collect();
    let store = scenario.lab.store();
    let of_store = hits.iter().find(|line| line.contains(&format!("<{}/", store.display())));
    // What cannot be flushed may not be reported as done, however often it was tried.
    if fault == Fault::Flush
        && when.ends_with('+')
        && let Some(line) = of_store
    {
        assert_ne!(ran.code, Some(0), "{} says that it is done\n{line}", ran.line);
    }
    attempt.judge(&scenario.lab, chooser);
    (ran, hits.len())
}

/// Runs commands on a disk that has so little room left.
pub(crate) fn run_full(seed: u64, disks: u64) {
    if !can("root", rustix::process::geteuid().is_root()) {
        return;
    }
    let started = Instant::now();
    let mut refused = 0;
    let lab = Lab::empty();
    let disk = FullDisk::mount(lab.store());
    lab.host("init").run(&["init"]).succeeds();
    // The disk goes before the folder that it is mounted in: what is bound last is dropped first.
    let (scenario, disk) = (Scenario::new(seed, lab), disk);
    for nth in 0..disks {
        let mut chooser = Chooser::new(seed, &[3, nth]);
        let case = [Case::Ingest, Case::IngestOfStream, Case::Collect, Case::ForgetByRules]
            [usize::try_from(nth % 4).unwrap()];
        let room = chooser.below(80) * 1024;
        let attempt = scenario.attempt(case);
        disk.fill(room);
        let mut command = attempt.host.command(&attempt.arguments);
        command.stdin(fs::File::open(&attempt.stdin).unwrap());
        let ran = Running::start(command).end();
        attempt.heard(&ran);
        refused += u64::from(ran.code != Some(0));
        // What was acknowledged is there while the disk is full, too.
        attempt.ledger.judge(&scenario.lab, &attempt.host, crate::oracle::Depth::Sample(1), &mut chooser);
        disk.clear();
        attempt.judge(&scenario.lab, &mut chooser);
    }
    assert!(refused > 0, "no disk was too full");
    let seconds = started.elapsed().as_secs_f64();
    let line = format!(
        "full disk: seed {seed}: {refused} of {disks} commands failed, in {seconds:.0} s, nothing lost\n"
    );
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// A small file system, unmounted in the end.
struct FullDisk(PathBuf);

impl FullDisk {
    fn mount(folder: PathBuf) -> Self {
        fs::create_dir_all(&folder).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m,mode=700", "none"])
            .arg(&folder)
            .status();
        assert!(mounted.unwrap().success(), "cannot mount a tmpfs");
        Self(folder)
    }

    /// Fills it, but for so many bytes.
    fn fill(&self, room_bytes: u64) {
        let mut filler = fs::File::create(self.filler()).unwrap();
        let block = [0; 4096];
        while filler.write_all(&block).is_ok() {}
        let filled = filler.metadata().unwrap().len();
        filler.set_len(filled.saturating_sub(room_bytes)).unwrap();
    }

    fn clear(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
