//! A tree of everything awkward that a file system can hold: what backup programs are known to lose.
//!
//! What the file system under the tree refuses is left out and named. Comparing belongs to `portrait` and `tools`.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags, makedev, mknodat,
    utimensat,
};

use crate::harness::{noise, succeed};

/// The block of most file systems: holes are made of whole blocks.
const BLOCK: u64 = 4096;

/// The longest target that Linux takes.
const TARGET_MAX_BYTES: usize = 4095;

/// A file capability as the kernel stores it: version 2, effective, `CAP_NET_RAW` permitted.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// The name, in every tree, of a file whose other name lies outside of it.
pub(crate) const LINKED_OUTSIDE: &str = "links/its other name is outside";

/// How much of everything there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amounts {
    /// Files in the large directory.
    pub(crate) files_in_one_directory: usize,
    /// Bytes of the file of many chunks, and of the one of zeros.
    pub(crate) large_bytes: usize,
}

/// What the file system did not take.
#[derive(Debug, Default)]
pub(crate) struct Refused(pub(crate) Vec<String>);

impl Refused {
    fn note(&mut self, what: &str, result: io::Result<()>) {
        if let Err(error) = result {
            self.0.push(format!("{what}: {error}"));
        }
    }
}

/// Makes the tree `root`; `outside` becomes a further name of one of its files. Needs root.
pub(crate) fn build(root: &Path, outside: &Path, amounts: Amounts) -> Refused {
    let mut refused = Refused::default();
    names(&root.join("names"));
    order(&root.join("order"));
    contents(&root.join("contents"), amounts.large_bytes);
    holes(&root.join("holes"), &mut refused);
    links(&root.join("links"), outside);
    modes(&root.join("modes"));
    owners(&root.join("owners"));
    special(&root.join("special"));
    attributes(&root.join("attributes"), &mut refused);
    lists(&root.join("access lists"));
    crowd(&root.join("crowd"), amounts.files_in_one_directory);
    fs::create_dir(root.join("an empty directory")).unwrap();
    // Last, since everything that is made in a directory changes its time.
    times(&root.join("times"));
    refused
}

/// Makes a file and directories at a path that is longer than any system call takes.
pub(crate) fn build_deep(root: &Path) {
    fs::create_dir_all(root).unwrap();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut directory: OwnedFd = File::open(root).unwrap().into();
    for level in 0..60 {
        let name = format!("{level:02} {}", "deep ".repeat(19));
        rustix::fs::mkdirat(directory.as_fd(), &name, Mode::from_raw_mode(0o755)).unwrap();
        let below = rustix::fs::openat(directory.as_fd(), &name, flags, Mode::empty()).unwrap();
        rustix::fs::symlinkat("..", &below, "up").unwrap();
        directory = below;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&directory, "at the bottom", flags, Mode::from_raw_mode(0o640)).unwrap();
    rustix::io::write(&file, b"deep").unwrap();
    rustix::fs::fsetxattr(&file, "user.note", b"deep as well", XattrFlags::empty()).unwrap();
    rustix::fs::linkat(&directory, "at the bottom", &directory, "its other name", AtFlags::empty()).unwrap();
}

fn made(directory: &Path) -> &Path {
    fs::create_dir_all(directory).unwrap();
    directory
}

/// Every byte that a name may hold, names of the greatest length, and names that mean something to shells, terminals
/// and tools that read lists.
fn names(directory: &Path) {
    made(directory);
    let bytes: Vec<_> = (1..=255_u8).filter(|byte| !b"./".contains(byte)).map(|byte| vec![byte]).collect();
    let long: [Vec<u8>; 3] = [vec![b'n'; 255], vec![0xff; 255], "\u{20ac}".repeat(85).into_bytes()];
    let curious = [
        &b"new\nline"[..],
        b"\n",
        b"two\n\nlines\n",
        b"\xff\xfenot utf-8",
        b"half a character \xe2\x82",
        b"-rf",
        b"--delete",
        b"'quotes\"",
        b"back\\slash",
        b"\\012",
        b"*?[a-z]{b,c}",
        b"$(id)`id`",
        b"\x1b[31mred\x1b[0m",
        b"trailing space ",
        b" leading space",
        b"tab\t",
        b"...",
        b".hidden",
        b"#comment",
        b"~",
        b"name=value",
        b"100%",
        b"a:b",
        b"README",
        b"readme",
        "\u{e9}".as_bytes(),
        "e\u{301}".as_bytes(),
        "right to left \u{202e}txt".as_bytes(),
    ];
    for name in bytes.iter().chain(&long).map(Vec::as_slice).chain(curious) {
        fs::write(directory.join(OsStr::from_bytes(name)), name).unwrap();
    }
    fs::create_dir(directory.join(OsStr::from_bytes(b"directory\n\xff"))).unwrap();
    fs::write(directory.join(OsStr::from_bytes(b"directory\n\xff/file")), "x").unwrap();
}

/// Names whose order as paths (`a/b` after `a.b`) is not their order as names.
fn order(directory: &Path) {
    made(&directory.join("a"));
    made(&directory.join("a b"));
    for name in ["a/b", "a.b", "a-b", "a0", "a b/c", "ab", "A"] {
        fs::write(directory.join(name), name).unwrap();
    }
}

fn contents(directory: &Path, large_bytes: usize) {
    made(directory);
    for length in [0, 1, 511, 512, 4095, 4096, 4097, 65_535, 65_536, 65_537, 1_048_575, 1_048_576, 1_048_577]
    {
        fs::write(directory.join(format!("{length} bytes")), noise(length as u64, length)).unwrap();
    }
    let large = noise(17, large_bytes);
    fs::write(directory.join("many chunks"), &large).unwrap();
    fs::write(directory.join("many chunks once more"), &large).unwrap();
    fs::write(directory.join("many chunks moved by one byte"), [b"x", large.as_slice()].concat()).unwrap();
    fs::write(directory.join("zeros that were written"), vec![0; large_bytes]).unwrap();
}

fn holes(directory: &Path, refused: &mut Refused) {
    made(directory);
    let sparse = |name: &str, length: u64, islands: &[(u64, usize)]| {
        let file = File::create(directory.join(name)).unwrap();
        file.set_len(length).unwrap();
        for (offset, bytes) in islands {
            file.write_all_at(&noise(*offset + 3, *bytes), *offset).unwrap();
        }
        file
    };
    let (mega, piece) = (1 << 20, 200_000);
    sparse("at the start", 9 * mega, &[(8 * mega, 1 << 20)]);
    sparse("in the middle", 9 * mega, &[(0, piece), (7 * mega, 2 << 20)]);
    sparse("at the end", 9 * mega, &[(0, piece)]);
    sparse("at both ends", 9 * mega + 1, &[(4 * mega, piece)]);
    sparse("nothing else", 5 * mega, &[]);
    sparse("one byte at the end", 5 * mega, &[(5 * mega - 1, 1)]);
    sparse("less than a block", 100, &[]);
    let many: Vec<_> = (0..300).map(|number| (number * 3 * BLOCK, 4096)).collect();
    sparse("many", 300 * 3 * BLOCK, &many);
    let zeros = sparse("zeros were written beside it", 4 * mega, &[]);
    zeros.write_all_at(&vec![0; 1 << 20], mega).unwrap();
    // The blocks of a file do not tell of its hole where something else takes blocks, too.
    let hidden = sparse("a hole that the size hides", 4 * BLOCK, &[(0, 8192), (3 * BLOCK, 4096)]);
    let result = rustix::fs::fsetxattr(&hidden, "user.block", &[7; 1000], XattrFlags::empty());
    refused.note("an attribute of 1,000 bytes", result.map_err(Into::into));
    let kept = sparse("space is kept behind it", 4 * BLOCK, &[(0, 4096), (2 * BLOCK, 8192)]);
    let result = rustix::fs::fallocate(&kept, FallocateFlags::KEEP_SIZE, 4 * BLOCK, 64 * BLOCK);
    refused.note("space behind the end of a file", result.map_err(Into::into));
    let reserved = sparse("reserved and not written", 0, &[]);
    let result = rustix::fs::fallocate(&reserved, FallocateFlags::empty(), 0, 16 * BLOCK);
    refused.note("reserved space", result.map_err(Into::into));
}

fn links(directory: &Path, outside: &Path) {
    for folder in ["a", "b/c", "z"] {
        made(&directory.join(folder));
    }
    fs::write(directory.join("b/c/file"), "one file, many names").unwrap();
    for name in ["a/first", "z/last", "beside"] {
        fs::hard_link(directory.join("b/c/file"), directory.join(name)).unwrap();
    }
    for number in 0..200 {
        fs::hard_link(directory.join("b/c/file"), directory.join(format!("a/{number:03}"))).unwrap();
    }
    fs::write(directory.join("empty"), "").unwrap();
    fs::hard_link(directory.join("empty"), directory.join("z/empty")).unwrap();
    fs::write(directory.join("../").join(LINKED_OUTSIDE), "half of it is backed up").unwrap();
    fs::hard_link(directory.join("../").join(LINKED_OUTSIDE), outside).unwrap();
    let target = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    for (name, target) in [
        ("relative", target(b"a/first")),
        ("absolute and dangling", target(b"/nowhere/at all")),
        ("to itself", target(b"to itself")),
        ("up", target(b"../../..")),
        ("not utf-8", target(b"\xff\n\x1b")),
        ("long", target(&vec![b't'; TARGET_MAX_BYTES])),
        ("in many steps", target("../links/".repeat(450).as_bytes())),
        ("to a slash", target(b"a/")),
    ] {
        symlink(target, directory.join(name)).unwrap();
    }
    fs::hard_link(directory.join("relative"), directory.join("z/the symlink's other name")).unwrap();
    mknodat(CWD, directory.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    fs::hard_link(directory.join("fifo"), directory.join("z/the fifo's other name")).unwrap();
}

fn modes(directory: &Path) {
    made(directory);
    for mode in [0o000, 0o001, 0o200, 0o400, 0o644, 0o755, 0o1644, 0o1777, 0o2644, 0o2755, 0o4755, 0o7777] {
        let (file, folder) = (format!("file {mode:04o}"), format!("directory {mode:04o}"));
        fs::write(directory.join(&file), "x").unwrap();
        fs::create_dir(directory.join(&folder)).unwrap();
        fs::write(directory.join(&folder).join("inside"), "x").unwrap();
        for name in [file, folder] {
            let path = directory.join(name);
            chown(&path, Some(12_345), Some(54_321)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}

fn owners(directory: &Path) {
    made(directory);
    for (number, (uid, gid)) in
        [(12_345, 0), (0, 12_345), (65_534, 65_534), (1 << 31, 1), (u32::MAX - 1, u32::MAX - 1)]
            .into_iter()
            .enumerate()
    {
        let path = |kind: &str| directory.join(format!("{kind} {number}"));
        fs::write(path("file"), "x").unwrap();
        fs::create_dir(path("directory")).unwrap();
        symlink("target", path("symlink")).unwrap();
        mknodat(CWD, path("fifo"), FileType::Fifo, Mode::from_raw_mode(0o620), 0).unwrap();
        for kind in ["file", "directory", "symlink", "fifo"] {
            lchown(path(kind), Some(uid), Some(gid)).unwrap();
        }
    }
}

fn special(directory: &Path) {
    made(directory);
    let make = |name: &str, kind, device| {
        mknodat(CWD, directory.join(name), kind, Mode::from_raw_mode(0o640), device).unwrap();
    };
    make("fifo", FileType::Fifo, 0);
    make("socket", FileType::Socket, 0);
    make("null", FileType::CharacterDevice, makedev(1, 3));
    make("what overlayfs calls a whiteout", FileType::CharacterDevice, makedev(0, 0));
    make("loop", FileType::BlockDevice, makedev(7, 200));
    make("large numbers", FileType::BlockDevice, makedev(259, 70_000));
    make("largest numbers", FileType::CharacterDevice, makedev(4095, (1 << 20) - 1));
}

fn attributes(directory: &Path, refused: &mut Refused) {
    made(directory);
    /// A file and its attributes.
    type Attributed<'a> = (&'a str, &'a [(&'a str, &'a [u8])]);
    let long_name = format!("user.{}", "n".repeat(250));
    let several: Vec<_> = (0..40).map(|number| (format!("user.{number}"), vec![number; 20])).collect();
    let everything: [Attributed<'_>; 9] = [
        ("zero bytes", &[("user.zero", b"\0"), ("user.zeros", b"a\0b\0\0"), ("user.newline", b"\n=\n")]),
        ("empty value", &[("user.empty", b"")]),
        (
            "odd names",
            &[("user.with space", b"1"), ("user.a=b", b"2"), ("user.100%", b"3"), ("user.\u{e9}", b"4")],
        ),
        ("long name", &[(&long_name, b"value")]),
        ("trusted", &[("trusted.overlay.opaque", b"y"), ("trusted.zero", b"\0")]),
        ("capability", &[("security.capability", &CAPABILITY)]),
        ("3,500 bytes", &[("user.large", &noise(1, 3500))]),
        ("40,000 bytes", &[("user.large", &noise(2, 40_000))]),
        ("60,000 bytes", &[("user.large", &noise(3, 60_000))]),
    ];
    let mut set = |path: &Path, name: &str, value: &[u8]| {
        let result = rustix::fs::lsetxattr(path, name, value, XattrFlags::empty());
        refused.note(&format!("{name} of {} bytes", value.len()), result.map_err(Into::into));
    };
    for (name, values) in everything {
        let path = directory.join(name);
        fs::write(&path, name).unwrap();
        values.iter().for_each(|(name, value)| set(&path, name, value));
    }
    let path = directory.join("several");
    fs::write(&path, "x").unwrap();
    several.iter().for_each(|(name, value)| set(&path, name, value));
    fs::create_dir(directory.join("of a directory")).unwrap();
    set(&directory.join("of a directory"), "user.note", b"kept");
    symlink("nowhere", directory.join("of a symlink")).unwrap();
    mknodat(CWD, directory.join("of a fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    for name in ["of a symlink", "of a fifo", "of a directory"] {
        set(&directory.join(name), "trusted.note", b"kept");
    }
    let program = directory.join("set by setcap");
    fs::write(&program, "x").unwrap();
    succeed(Command::new("setcap").arg("cap_net_bind_service,cap_dac_override=ep").arg(&program));
}

fn lists(directory: &Path) {
    made(directory);
    let set = |path: &Path, arguments: &[&str]| {
        succeed(Command::new("setfacl").args(arguments).arg(path));
    };
    for (name, list) in [
        ("users and groups", "u:12345:rw,u:4294967294:r,g:54321:x,m::rwx"),
        ("narrow mask", "u:12345:rwx,m::r"),
        ("nothing for the group", "u:12345:-,g::-,o::-"),
    ] {
        let path = directory.join(name);
        fs::write(&path, "x").unwrap();
        set(&path, &["-m", list]);
    }
    let both = directory.join("a directory with both");
    fs::create_dir(&both).unwrap();
    set(&both, &["-m", "u:12345:rwx"]);
    set(&both, &["-d", "-m", "u:12345:rx,g:54321:rwx,o::-"]);
    fs::write(both.join("inherited"), "x").unwrap();
    fs::create_dir(both.join("inherited as well")).unwrap();
    let default = directory.join("a directory with a default alone");
    fs::create_dir(&default).unwrap();
    set(&default, &["-d", "-m", "u::rw,g::r,o::-"]);
    let closed = directory.join("mode 0 and a list");
    fs::write(&closed, "x").unwrap();
    set(&closed, &["-m", "u:12345:r"]);
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
}

fn crowd(directory: &Path, files: usize) {
    made(directory);
    for number in 0..files {
        // Some alike, some empty, some of their own.
        let content = if number % 3 == 0 { String::new() } else { format!("{}\n", number / 2) };
        fs::write(directory.join(format!("file {number:06}")), content).unwrap();
    }
}

fn times(directory: &Path) {
    made(directory);
    for (name, seconds, nanoseconds) in [
        ("1901, the first of ext4", -(1 << 31), 0),
        ("before 1970", -86_400, 5),
        ("just before 1970", -1, 999_999_999),
        ("1970", 0, 0),
        ("one nanosecond", 0, 1),
        ("nanoseconds", 1_000_000_000, 123_456_789),
        ("2038, the first after", 1 << 31, 1),
        ("2106, the first after", 1 << 32, 999_999_999),
        ("2400", 13_569_465_600, 7),
        ("2446, the last of ext4", 15_032_385_535, 0),
    ] {
        let path = |kind: &str| -> PathBuf { directory.join(format!("{name}, {kind}")) };
        fs::write(path("file"), "x").unwrap();
        fs::create_dir(path("directory")).unwrap();
        symlink("nowhere", path("symlink")).unwrap();
        mknodat(CWD, path("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps { last_access: time, last_modification: time };
        for kind in ["file", "directory", "symlink", "fifo"] {
            utimensat(CWD, path(kind), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }
    }
}
