//! How a mount begins and ends: readiness, signals, `umount`, users that are in the way, and dead servers.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::process::Command;

use rustix::process::{Signal, kill_process};

use crate::harness::{Lab, Mount, Need, Process, can, eventually, is_running, noise, succeed};

const NEEDS: [Need; 2] = [Need::Root, Need::Fuse];

/// Larger than what the kernel reads ahead, so that reading to the end needs the server.
const FILE_BYTES: usize = 4_000_000;

/// Makes a laboratory with one snapshot of `file`.
fn lab_with_file() -> Lab {
    let lab = Lab::new();
    let file = lab.path("file");
    fs::write(&file, noise(3, FILE_BYTES)).unwrap();
    lab.run([Path::new("ingest"), &file, Path::new("--source"), Path::new("s")]).succeeds();
    lab
}

fn open_file(lab: &Lab, mount: &Mount<'_>) -> File {
    File::open(mount.path("latest").join(lab.path("file").strip_prefix("/").unwrap())).unwrap()
}

/// Starts a process that does nothing but stand in a folder of the mount.
fn visitor(mount: &Mount<'_>) -> Process {
    Process::start(Command::new("sleep").arg("60").current_dir(mount.path("snapshots")))
}

#[test]
fn a_mount_is_ready_when_the_command_returns() {
    if !can(&NEEDS) {
        return;
    }
    let lab = lab_with_file();
    for _ in 0..5 {
        let mount = lab.mount(&[]);
        assert!(mount.is_listed());
        assert!(mount.path("snapshots").is_dir());
        assert!(is_running(mount.server()));
    }
}

#[test]
fn signals_end_a_mount_busy_or_not() {
    if !can(&NEEDS) {
        return;
    }
    let lab = lab_with_file();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        for busy in [false, true] {
            let mount = lab.mount(&[]);
            let server = mount.server();
            let users = busy.then(|| (open_file(&lab, &mount), visitor(&mount)));
            kill_process(server, signal).unwrap();
            eventually("the server has ended", || !is_running(server));
            assert!(!mount.is_listed(), "{signal:?}, busy: {busy}");
            assert_eq!(fs::read_dir(mount.path("")).unwrap().count(), 0, "the directory below is seen again");
            if let Some((mut file, _visitor)) = users {
                assert!(file.read_to_end(&mut Vec::new()).is_err(), "nobody is left to answer");
            }
        }
    }
}

#[test]
fn umount_lets_users_finish() {
    if !can(&NEEDS) {
        return;
    }
    let lab = lab_with_file();
    let mount = lab.mount(&[]);
    let server = mount.server();
    let (mut file, visitor) = (open_file(&lab, &mount), visitor(&mount));
    let ran = lab.run([Path::new("umount"), &mount.path("")]);
    ran.succeeds();
    assert!(ran.stderr.contains("was in use"), "{}", ran.stderr);
    assert!(!mount.is_listed());
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    assert!(bytes == noise(3, FILE_BYTES), "who has a file open reads it to its end");
    assert!(is_running(server));
    drop((file, visitor));
    eventually("the server has ended", || !is_running(server));
}

#[test]
fn an_unused_mount_ends_without_a_word() {
    if !can(&NEEDS) {
        return;
    }
    let lab = lab_with_file();
    let mount = lab.mount(&[]);
    let server = mount.server();
    let ran = lab.run([Path::new("umount"), &mount.path("")]);
    assert_eq!((ran.succeeds().as_str(), ran.stderr.as_str()), ("", ""));
    eventually("the server has ended", || !is_running(server));
    let again = lab.run([Path::new("umount"), &mount.path("")]);
    assert!(again.fails(1).contains("is not a yester mount"), "{}", again.stderr);
}

#[test]
fn others_may_unmount_it_too() {
    if !can(&NEEDS) {
        return;
    }
    let lab = lab_with_file();
    for program in [&["umount"][..], &["fusermount3", "-u"]] {
        let mount = lab.mount(&[]);
        let server = mount.server();
        succeed(Command::new(program[0]).args(&program[1..]).arg(mount.path("")));
        eventually("the server has ended", || !is_running(server));
        assert!(!mount.is_listed());
    }
}

#[test]
fn a_mount_in_the_foreground_ends_with_success() {
    if !can(&NEEDS) {
        return;
    }
    let lab = lab_with_file();
    let mountpoint = lab.path("mnt");
    fs::create_dir(&mountpoint).unwrap();
    let mut command = lab.command([Path::new("mount"), &mountpoint, Path::new("--foreground")]);
    let server = Process::start(&mut command);
    eventually("the mount is there", || mountpoint.join("snapshots").is_dir());
    server.signal(Signal::TERM);
    let ran = server.end();
    ran.succeeds();
    assert!(ran.stderr.contains("is mounted at"), "{}", ran.stderr);
    assert!(!mountpoint.join("snapshots").exists());
}

#[test]
fn a_dead_mount_can_be_ended() {
    if !can(&NEEDS) {
        return;
    }
    let lab = lab_with_file();
    let mount = lab.mount(&[]);
    let server = mount.server();
    let file = open_file(&lab, &mount);
    kill_process(server, Signal::KILL).unwrap();
    eventually("the server has ended", || !is_running(server));
    assert!(mount.is_listed());
    // A request that meets the server's last moment is aborted; all later ones find nobody connected.
    eventually("nobody answers for the mount", || {
        fs::read_dir(mount.path("")).is_err_and(|gone| gone.kind() == ErrorKind::NotConnected)
    });
    lab.run([Path::new("umount"), &mount.path("")]).succeeds();
    assert!(!mount.is_listed());
    drop(file);
    drop(mount);
    assert!(lab.mount(&[]).path("snapshots").is_dir(), "the place can be used again");
}

#[test]
fn a_second_mount_covers_the_first_until_it_ends() {
    if !can(&NEEDS) {
        return;
    }
    let lab = lab_with_file();
    let first = lab.mount(&[]);
    let below = first.server();
    let second = lab.mount(&["--snapshot", "latest"]);
    assert!(!second.path("snapshots").exists());
    lab.run([Path::new("umount"), &second.path("")]).succeeds();
    eventually("one server is left", || !is_running(below) || first.path("snapshots").is_dir());
    assert!(is_running(below), "the first mount is untouched");
    drop(second);
    assert!(!first.is_listed());
}

#[test]
fn a_mount_point_must_be_a_directory() {
    if !can(&NEEDS) {
        return;
    }
    let lab = lab_with_file();
    let file = lab.run([Path::new("mount"), &lab.path("file")]);
    assert!(file.fails(1).contains("Not a directory") || file.stderr.contains("not a directory"), "{file:?}");
    let absent = lab.run([Path::new("mount"), &lab.path("absent")]);
    let error = absent.fails(1);
    assert!(error.contains("No such file") && error.contains("mkdir -p"), "{error}");
    assert!(!lab.path("absent").exists());
    let nothing = lab.run([Path::new("umount"), &lab.path("absent")]);
    assert!(nothing.fails(1).contains("is not a yester mount"), "{}", nothing.stderr);
}
