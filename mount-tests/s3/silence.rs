//! Connections on which nothing comes any more, and people who end what takes too long.

use std::fs;
use std::io;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Signal, kill_process};
use s3_server::{Fault, Operation, When};

use super::{Site, tree_of};
use crate::harness::{Need, Process, can, copy_of, eventually, is_running};

/// Reads a file in another thread.
fn read_aside(path: std::path::PathBuf) -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(fs::read(path)));
    receiver
}

#[test]
fn a_connection_that_is_stuck_is_left_for_another() {
    let site = Site::new();
    site.ingest(1);
    for fault in [Fault::Hang, Fault::HangInBody] {
        let rule = site.server.faults().add(When::on(Operation::Get).key("/packs/").times(1), fault);
        site.lab.cool();
        site.run(&["verify"]).succeeds();
        assert_eq!(rule.hits(), 1);
    }
    site.server.faults().add(When::on(Operation::Put).key("/packs/").times(1), Fault::Hang);
    site.ingest(2);
    site.is_whole();
}

#[test]
fn a_mount_whose_store_is_stuck_fails_to_read_and_still_ends() {
    if !can(&[Need::Root, Need::Fuse]) {
        return;
    }
    let site = Site::new();
    site.ingest(1);
    site.lab.cool();
    let mount = site.lab.mount(&["--store-timeout", "3s"]);
    let copy = copy_of(&mount.path("sources/tree/latest"), &site.tree());
    let expected = tree_of(1);
    let names: Vec<String> = fs::read_dir(copy.join("folder"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len(), expected.len());
    site.server.faults().add(When::on(Operation::Get), Fault::HangInBody);
    let started = Instant::now();
    let error = fs::read(copy.join("folder/0")).unwrap_err();
    assert_eq!(Errno::from_io_error(&error), Some(Errno::IO));
    let waited = started.elapsed();
    assert!(waited < Duration::from_secs(20), "{waited:?}");
    // The store comes back, and so do the files.
    site.server.faults().clear();
    assert!(fs::read(copy.join("folder/0")).unwrap() == expected["folder/0"]);
    drop(mount);
    site.is_whole();
}

#[test]
fn a_mount_whose_store_is_stuck_can_be_ended() {
    if !can(&[Need::Root, Need::Fuse]) {
        return;
    }
    let site = Site::new();
    site.ingest(1);
    for by_signal in [false, true] {
        site.lab.cool();
        // After a signal nobody waits, however patient it is; after an unmount, whoever reads is told first.
        let mount = site.lab.mount(if by_signal { &[] } else { &["--store-timeout", "4s"] });
        let copy = copy_of(&mount.path("sources/tree/latest"), &site.tree());
        let rule = site.server.faults().add(When::on(Operation::Get).key("/packs/"), Fault::Hang);
        let read = read_aside(copy.join("folder/3"));
        eventually("a read hangs", || rule.hits() > 0);
        let (server, started) = (mount.server(), Instant::now());
        if by_signal {
            kill_process(server, Signal::TERM).unwrap();
        } else {
            site.lab.run(["umount", mount.path("").to_str().unwrap()]).succeeds();
        }
        eventually("it is unmounted", || !mount.is_listed());
        assert!(started.elapsed() < Duration::from_secs(4));
        assert!(read.recv_timeout(Duration::from_secs(10)).unwrap().is_err());
        eventually("its server has ended", || !is_running(server));
        assert!(started.elapsed() < Duration::from_secs(12));
        site.server.faults().clear();
    }
    site.is_whole();
}

#[test]
fn whoever_interrupts_a_slow_upload_loses_nothing() {
    let site = Site::new();
    site.ingest(1);
    // As patient as by default.
    let upload = |more: &[&str]| interruptible(site.ingest_command(7, "2m").args(more));
    // At most 50 kB a second: it would take a quarter of a minute.
    let slow = upload(&["--limit-upload", "50k"]);
    let puts = || site.server.counts().now().received_bytes;
    let before = puts();
    eventually("bytes of a pack come", || puts() > before + 60_000);
    ends_soon(slow, Signal::INT);
    for (part, signal) in [("/packs/", Signal::INT), ("/snapshots/", Signal::TERM)] {
        let rule = site.server.faults().add(When::on(Operation::Put).key(part), Fault::Hang);
        let stuck = upload(&[]);
        eventually("it is stuck", || rule.hits() > 0);
        ends_soon(stuck, signal);
        site.server.faults().clear();
    }
    site.is_whole();
}

#[test]
fn whoever_interrupts_a_stuck_read_waits_no_longer() {
    let site = Site::new();
    site.ingest(1);
    for arguments in [&["verify"][..], &["snapshots"], &["gc"]] {
        let rule = site.server.faults().add(When::always().after(2), Fault::Hang);
        let stuck = interruptible(site.lab.command(arguments).env("COLUMNS", "80"));
        eventually("it is stuck", || rule.hits() > 0);
        ends_soon(stuck, Signal::INT);
        site.server.faults().clear();
    }
    site.is_whole();
}

/// Starts a process that an interrupt ends, though whoever runs the tests may have it ignored, as a shell does in the
/// background.
fn interruptible(command: &Command) -> Process {
    let mut unchanged = Command::new("env");
    unchanged.arg("--default-signal=INT").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => unchanged.env(name, value),
            None => unchanged.env_remove(name),
        };
    }
    Process::start(&mut unchanged)
}

/// Expects that a process ends because of a signal, and not long after it.
#[track_caller]
fn ends_soon(process: Process, signal: Signal) {
    let started = Instant::now();
    process.signal(signal);
    let ran = process.end();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
}
