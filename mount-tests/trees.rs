//! Trees to back up: an ordinary one with many files, and one of everything odd that a file system can hold.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, makedev, mknodat, utimensat};

use crate::harness::{noise, succeed};

/// Makes `files` small files in directories of 100, and one of three megabytes.
pub(crate) fn ordinary(root: &Path, files: usize) {
    for number in 0..files {
        let directory = root.join(format!("d{:03}", number / 100));
        fs::create_dir_all(&directory).unwrap();
        let text = format!("file {number}\n").repeat(number % 97);
        fs::write(directory.join(format!("f{number:05}.txt")), text).unwrap();
    }
    fs::write(root.join("large.bin"), noise(1, 3_000_000)).unwrap();
}

/// Makes everything odd. Needs root for owners, devices and set-id bits.
pub(crate) fn odd(root: &Path) {
    names(&root.join("names"));
    contents(&root.join("contents"));
    links(&root.join("links"));
    modes(&root.join("modes"));
    special(&root.join("special"));
    attributes(&root.join("attributes"));
    deep(&root.join("deep"));
    // Last, since everything made in a directory changes its time.
    times(&root.join("times"));
}

fn names(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    let long = "n".repeat(255);
    for name in [
        &b"with space"[..],
        b"new\nline",
        b"\xff\xfenot utf-8",
        b"-dash",
        b"'quotes\"",
        b"back\\slash",
        b"*?[",
        b"\x1b[31mred",
        "m\u{fc}de \u{202e}".as_bytes(),
        long.as_bytes(),
    ] {
        fs::write(directory.join(OsStr::from_bytes(name)), name).unwrap();
    }
    fs::create_dir(directory.join("an empty directory")).unwrap();
}

fn contents(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    for length in [0, 1, 65_535, 65_536, 1_048_577] {
        fs::write(directory.join(format!("{length} bytes")), noise(length as u64, length)).unwrap();
    }
    fs::write(directory.join("zeros"), vec![0; 500_000]).unwrap();
    let mut sparse = File::create(directory.join("sparse")).unwrap();
    sparse.seek(SeekFrom::Start(5 << 20)).unwrap();
    sparse.write_all(&noise(7, 100_000)).unwrap();
    sparse.set_len(20 << 20).unwrap();
    File::create(directory.join("only a hole")).unwrap().set_len(3 << 20).unwrap();
}

fn links(directory: &Path) {
    fs::create_dir_all(directory.join("below")).unwrap();
    fs::write(directory.join("file"), "one file, three names").unwrap();
    fs::hard_link(directory.join("file"), directory.join("second name")).unwrap();
    fs::hard_link(directory.join("file"), directory.join("below/third name")).unwrap();
    symlink("file", directory.join("relative")).unwrap();
    symlink("/nowhere/at all", directory.join("dangling")).unwrap();
    symlink("..", directory.join("below/up")).unwrap();
    symlink(OsStr::from_bytes(b"\xff"), directory.join("not utf-8")).unwrap();
    symlink("t".repeat(4000), directory.join("long")).unwrap();
}

fn modes(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    for mode in [0o000, 0o400, 0o644, 0o755, 0o1777, 0o2755, 0o4755, 0o7777] {
        let path = directory.join(format!("{mode:04o}"));
        fs::write(&path, "x").unwrap();
        std::os::unix::fs::chown(&path, Some(1234), Some(4321)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn special(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    let make = |name: &str, kind, device| {
        mknodat(CWD, directory.join(name), kind, Mode::from_raw_mode(0o640), device).unwrap();
    };
    make("fifo", FileType::Fifo, 0);
    make("socket", FileType::Socket, 0);
    make("character device", FileType::CharacterDevice, makedev(1, 3));
    make("block device", FileType::BlockDevice, makedev(7, 200));
}

fn attributes(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    let file = directory.join("file");
    fs::write(&file, "x").unwrap();
    succeed(Command::new("setfattr").args(["-n", "user.note", "-v", "kept"]).arg(&file));
    succeed(Command::new("setfattr").args(["-n", "user.binary", "-v", "0x00ff0a"]).arg(&file));
    succeed(Command::new("setfacl").args(["-m", "u:1234:rw,g:4321:r"]).arg(&file));
    succeed(Command::new("setfacl").args(["-d", "-m", "u:1234:rwx"]).arg(directory));
}

fn deep(directory: &Path) {
    let mut path: PathBuf = directory.to_owned();
    for level in 0..40 {
        path.push(format!("level {level}"));
    }
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("at the bottom"), "deep").unwrap();
}

fn times(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    for (name, seconds, nanoseconds) in [
        ("before 1970", -86_400, 5),
        ("nanoseconds", 1_000_000_000, 123_456_789),
        ("after 2038", 4_000_000_000, 999_999_999),
    ] {
        let path = directory.join(name);
        fs::write(&path, "x").unwrap();
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, &path, &times, AtFlags::empty()).unwrap();
    }
}
