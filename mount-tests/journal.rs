//! The journal of the state folder tells how every run of this host ended.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use yester::journal::RunOutcome;

use crate::harness::{Lab, eventually};

#[test]
fn ends_of_ingests_are_recorded() {
    let lab = Lab::new();
    let file = lab.path("file");
    fs::write(&file, "content").unwrap();
    let ingested = lab.run(["ingest", file.to_str().unwrap(), "--source", "s", "--json"]).json();
    lab.run(["ingest", "--as", "dump", "--", "false"]).fails(1);

    let runs = lab.runs();
    assert_eq!(runs.len(), 2, "{runs:?}");
    let (failed, succeeded) = (&runs[0], &runs[1]);
    assert_eq!((succeeded.operation.as_str(), succeeded.source.as_str()), ("ingest", "s"));
    assert_eq!((succeeded.outcome, succeeded.message.as_str()), (RunOutcome::Succeeded, ""));
    assert_eq!(succeeded.snapshot.unwrap().hex(), ingested["id"].as_str().unwrap());
    assert_eq!(succeeded.bytes, 7);
    assert_eq!(Some(succeeded.added_bytes), ingested["added_bytes"].as_u64());
    assert!(succeeded.finished.unwrap() >= succeeded.started);
    assert_eq!((failed.outcome, failed.snapshot, failed.source.as_str()), (RunOutcome::Failed, None, "dump"));
    assert!(failed.message.contains("false failed (exit code 1)"), "{}", failed.message);
}

#[test]
fn a_killed_run_is_known_as_unfinished() {
    let lab = Lab::new();
    let mut child = lab.command(["ingest", "--as", "stream"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"the beginning").unwrap();
    // Were the test to fail here, the end of its pipe would end the child.
    eventually("the run is recorded", || {
        lab.path("state/journal.sqlite").exists()
            && lab.runs().first().is_some_and(|run| run.outcome == RunOutcome::Running)
    });
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    assert_eq!(lab.runs()[0].outcome, RunOutcome::Unfinished);
    assert_eq!(lab.runs()[0].finished, None);
}
