//! What signals do to an ingest of several commands. They are sent to the watch: a real one would meet all tests.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, test_kill_process};

use super::super::tests::options;
use super::*;
use crate::path::Name;
use crate::progress::Silent;
use crate::repo::session::SessionOptions;
use crate::repo::testing::TestStore;

fn line(name: &str, script: &str) -> CommandLine {
    let argv = ["sh", "-c", script].map(OsString::from).to_vec();
    CommandLine::new(Name::new(name.as_bytes()).unwrap(), argv)
}

/// Waits until processes have noted their ids in a file, a line each.
fn noted(file: &Path, count: usize) -> Vec<Pid> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let text = fs::read_to_string(file).unwrap_or_default();
        let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        let found: Vec<_> = lines.filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect();
        if found.len() == count {
            return found;
        }
        assert!(Instant::now() < deadline, "the command has not started");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_signal_ends_the_group_of_the_command_that_runs_and_those_that_follow() {
    let (test, folder) = (TestStore::new(), tempfile::tempdir().unwrap());
    let (pids, third) = (folder.path().join("pids"), folder.path().join("third"));
    let second = format!("echo half; sleep 100 & echo $! >> {0}; echo $$ >> {0}; wait", pids.display());
    let lines = [
        line("a", "echo one"),
        line("b", &second),
        line("c", &format!("echo > {}; echo c", third.display())),
    ];
    let repo = test.open();
    let session = SessionWriter::open(&repo, SessionOptions::new("test")).unwrap();
    let watch = Watch::begin().unwrap();
    let (taken, members) = std::thread::scope(|scope| {
        let signal = scope.spawn(|| {
            let members = noted(&pids, 2);
            watch.interrupt();
            members
        });
        let taken = take_watched(&watch, &repo, &session, &lines, &options(), &Silent);
        (taken, signal.join().unwrap())
    });
    assert!(matches!(taken, Err(IngestError::Interrupted)));
    assert!(watch.end() && !third.exists());
    let deadline = Instant::now() + Duration::from_secs(60);
    // Who has no parent any more is reaped by another process, whenever that comes to it.
    let is_gone = |member: &Pid| {
        let stat = fs::read_to_string(format!("/proc/{member}/stat")).unwrap_or_default();
        test_kill_process(*member).is_err() || stat.contains(") Z ")
    };
    while !members.iter().all(is_gone) {
        assert!(Instant::now() < deadline, "the command's processes go on");
        std::thread::sleep(Duration::from_millis(10));
    }
    session.abandon().unwrap();
    assert!(repo.snapshots().unwrap().is_empty());
}

#[test]
fn a_signal_between_two_commands_ends_all() {
    let test = TestStore::new();
    let repo = test.open();
    let session = SessionWriter::open(&repo, SessionOptions::new("test")).unwrap();
    let watch = Watch::begin().unwrap();
    let run = |line| run(&watch, &repo, &session, &line, &options(), &Silent);
    assert!(run(line("a", "echo one")).is_ok());
    watch.interrupt();
    let second = run(line("b", "echo two"));
    assert!(matches!(second, Err(IngestError::Interrupted)));
    assert!(watch.end());
    session.abandon().unwrap();
}

#[test]
fn a_signal_after_the_last_command_counts_until_the_watch_ends() {
    let watch = Watch::begin().unwrap();
    watch.interrupt();
    assert!(watch.is_interrupted());
    assert!(watch.end());
    assert!(!Watch::begin().unwrap().end(), "the next backup is not concerned");
}
