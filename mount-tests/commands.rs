//! Backups of a command's output: what is shown, what is kept, and how the command ends with us.

use std::fs;
use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Lab, Process, eventually, is_running};

#[test]
fn what_a_command_complains_about_is_shown() {
    let lab = Lab::new();
    let script = "echo 'pg_dump: warning: circular keys' >&2; echo a dump";
    let ran = lab.run(["--quiet", "ingest", "--as", "dump", "--", "sh", "-c", script]);
    ran.succeeds();
    assert_eq!(ran.stderr, "pg_dump: warning: circular keys\n");
    assert_eq!(lab.run(["cat", "latest:dump", "dump"]).succeeds(), "a dump\n");
}

#[test]
fn commands_that_fail_are_named_with_how_they_ended() {
    let lab = Lab::new();
    let error_of = |arguments: &[&str]| {
        let ran = lab.run([&["ingest", "--as", "dump", "--"], arguments].concat());
        ran.fails(1).to_owned()
    };
    let error = error_of(&["sh", "-c", "echo half; exit 7"]);
    assert!(error.contains("exit code 7") && error.contains("no snapshot was made"), "{error}");
    let error = error_of(&["sh", "-c", "echo half; kill -9 $$"]);
    assert!(error.contains("killed by signal 9") && error.contains("no snapshot was made"), "{error}");
    let error = error_of(&["/nonexistent/pg_dump", "shop"]);
    assert!(error.contains("cannot start /nonexistent/pg_dump shop: No such file"), "{error}");
    let error = error_of(&["/etc/passwd"]);
    assert!(error.contains("cannot start /etc/passwd: Permission denied"), "{error}");
    assert!(lab.snapshots().is_empty());
}

#[test]
fn too_little_is_no_backup() {
    let lab = Lab::new();
    let ingest = |min_size: &str| {
        lab.run(["ingest", "--as", "dump", "--min-size", min_size, "--", "head", "-c", "2048", "/dev/zero"])
    };
    let error = ingest("2049").fails(1).to_owned();
    assert!(error.contains("2048 bytes") && error.contains("--min-size"), "{error}");
    assert!(lab.snapshots().is_empty());
    ingest("2K").succeeds();
    assert_eq!(lab.snapshots()[0]["bytes"], 2048);
}

/// The processes of a command, which end with the test.
struct Family {
    noted: PathBuf,
    members: Vec<Pid>,
}

impl Family {
    /// Waits until `count` processes have noted their ids in a file.
    fn gather(noted: PathBuf, count: usize) -> Self {
        let mut family = Self { noted, members: Vec::new() };
        eventually("the command's processes have started", || {
            family.members = family.read();
            family.members.len() == count
        });
        family
    }

    fn read(&self) -> Vec<Pid> {
        let text = fs::read_to_string(&self.noted).unwrap_or_default();
        // A line that is not ended yet may be half a number.
        let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        lines.filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect()
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        for member in self.members.iter().filter(|member| is_running(**member)) {
            let _ = kill_process(*member, Signal::KILL);
        }
    }
}

/// Interrupts an ingest of a command that started a process of its own; expects all of them to end.
fn interrupt(preparation: &str, signal: Signal) {
    let lab = Lab::new();
    let noted = lab.path("pids");
    let script = format!(
        "{preparation} echo half a dump; sleep 100 & echo $! >> {noted}; echo $$ >> {noted}; sleep 100",
        noted = noted.display()
    );
    let ingest = Process::start(&mut lab.command(["ingest", "--as", "dump", "--", "sh", "-c", &script]));
    let family = Family::gather(noted, 2);
    ingest.signal(signal);
    let ran = ingest.end();
    assert!(ran.fails(1).contains("interrupted; no snapshot was made"), "{}", ran.stderr);
    for member in &family.members {
        eventually("the command's processes have ended", || !is_running(*member));
    }
    assert!(lab.snapshots().is_empty());
    lab.run(["verify"]).succeeds();
}

#[test]
fn a_command_and_what_it_started_end_with_us() {
    interrupt("", Signal::TERM);
    interrupt("", Signal::INT);
}

#[test]
fn a_command_that_ignores_signals_ends_with_us_all_the_same() {
    interrupt("trap '' TERM;", Signal::TERM);
}
