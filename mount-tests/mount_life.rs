//! How a mount begins and ends: readiness, signals, `umount`, users that are in the way, and dead servers.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Lab, Mount, Need, Process, SystemMount, can, eventually, is_running, noise, succeed};

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
fn s45_a_mount_is_ready_when_the_command_returns() {
    if !can(&NEEDS) {
        return;
    }
    let lab = lab_with_file();
    for _ in 0..5 {
        let mount = lab.mount(&[]);
        assert!(mount.is_listed());
        assert!(mount.path("snapshots").is_dir());
        let server = mount.server();
        assert!(is_running(server));
        drop(mount);
        eventually("the server has ended", || !is_running(server));
    }
}

#[test]
fn s47_signals_end_a_mount_busy_or_not() {
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
fn s46_umount_lets_users_finish() {
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
fn s48_a_dead_mount_is_replaced_by_mounting_again() {
    if !can(&NEEDS) {
        return;
    }
    let lab = lab_with_file();
    let first = lab.mount(&[]);
    let server = first.server();
    let _reader = open_file(&lab, &first);
    kill_process(server, Signal::KILL).unwrap();
    eventually("the server has ended", || !is_running(server));
    let ran = lab.run([Path::new("mount"), &first.path("")]);
    ran.succeeds();
    assert!(ran.stderr.contains("had lost its server and was taken away"), "{}", ran.stderr);
    assert!(first.path("snapshots").is_dir());
    assert_ne!(first.server(), server);
    lab.run([Path::new("umount"), &first.path("")]).succeeds();
    assert!(!first.is_listed(), "nothing lies below it");
}

/// Tells whether all threads of a process have stopped.
fn is_stopped(pid: Pid) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let state = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
    threads.map(state).all(|stat| stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T')))
}

#[test]
fn s49_a_mount_that_is_served_is_not_covered() {
    if !can(&NEEDS) {
        return;
    }
    let lab = lab_with_file();
    let mount = lab.mount(&[]);
    let server = mount.server();
    let refused = || {
        let again = lab.run([Path::new("mount"), &mount.path("")]);
        let error = again.fails(11);
        assert!(error.contains("already served") && error.contains("yester umount"), "{error}");
    };
    refused();
    // One that only hangs is not dead.
    kill_process(server, Signal::STOP).unwrap();
    // A thread that takes a request before it stops keeps who asks from ending, whatever signal comes.
    eventually("the server has stopped", || is_stopped(server));
    refused();
    kill_process(server, Signal::CONT).unwrap();
    assert_eq!(mount.server(), server);
    assert!(mount.path("snapshots").is_dir());
}

#[test]
fn s54_a_mount_hides_nothing() {
    if !can(&NEEDS) {
        return;
    }
    let lab = lab_with_file();
    let mountpoint = lab.path("mnt");
    fs::create_dir(&mountpoint).unwrap();
    fs::write(mountpoint.join("something"), "").unwrap();
    let ran = lab.run([Path::new("mount"), &mountpoint]);
    let error = ran.fails(1);
    assert!(error.contains("is not empty") && error.contains("would hide"), "{error}");
    fs::remove_file(mountpoint.join("something")).unwrap();
    // An empty file system of another kind is as good as an empty directory.
    let _below = SystemMount::new(&["-t", "tmpfs", "tmpfs"], mountpoint.clone());
    drop(lab.mount(&[]));
}

#[test]
fn s55_supervisors_hear_when_a_mount_is_there_and_when_it_ends() {
    if !can(&NEEDS) {
        return;
    }
    let lab = lab_with_file();
    let mountpoint = lab.path("mnt");
    fs::create_dir(&mountpoint).unwrap();
    let path = lab.path("notify");
    let abstract_name = format!("yester-test-{}", lab.path("").display());
    let at_path = SocketAddr::from_pathname(&path).unwrap();
    let at_name = SocketAddr::from_abstract_name(&abstract_name).unwrap();
    let sockets = [(at_path, path.to_str().unwrap().to_owned()), (at_name, format!("@{abstract_name}"))];
    for (address, variable) in sockets {
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let heard = || {
            let mut buffer = [0; 100];
            let length = socket.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        let mut command = lab.command([Path::new("mount"), &mountpoint, Path::new("--foreground")]);
        let server = Process::start(command.env("NOTIFY_SOCKET", &variable));
        assert_eq!(heard(), "READY=1");
        assert!(mountpoint.join("snapshots").is_dir(), "it is there by then");
        server.signal(Signal::TERM);
        assert_eq!(heard(), "STOPPING=1");
        server.end().succeeds();
        assert!(!mountpoint.join("snapshots").exists());
    }
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
