//! What `stat`, `readlink`, `getfattr`, `getfacl`, `df` and `du` show.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, StatVfsMountFlags, StatxFlags, Timespec, Timestamps, XattrFlags,
};
use rustix::io::Errno;

use super::{NEEDS, copy_of, snapshot_of};
use crate::harness::{can, noise, succeed};

#[test]
fn s10_names_are_raw_bytes() {
    if !can(&NEEDS) {
        return;
    }
    let long = [b'n'; 255];
    let names: [&[u8]; 7] =
        [b" space ", b"new\nline", b"\xff\xfe", b"-rf", b"*", "m\u{fc}de \u{202e}".as_bytes(), &long];
    let (lab, tree) = snapshot_of(|tree| {
        for name in names {
            fs::write(tree.join(OsStr::from_bytes(name)), name).unwrap();
        }
    });
    let mount = lab.mount(&[]);
    let copy = copy_of(&mount, &tree);
    for name in names {
        assert_eq!(fs::read(copy.join(OsStr::from_bytes(name))).unwrap(), name);
    }
    let mut listed: Vec<_> =
        fs::read_dir(&copy).unwrap().map(|entry| entry.unwrap().file_name().as_bytes().to_vec()).collect();
    listed.sort();
    let mut expected: Vec<_> = names.map(<[u8]>::to_vec).into();
    expected.sort();
    assert_eq!(listed, expected);
    let too_long = copy.join("n".repeat(1025));
    assert_eq!(rustix::fs::stat(&too_long).unwrap_err(), Errno::NAMETOOLONG);
}

#[test]
fn s11_owners_and_all_twelve_bits_of_the_mode_are_those_of_the_backup() {
    if !can(&NEEDS) {
        return;
    }
    let (lab, tree) = snapshot_of(|tree| {
        for (name, mode) in [("a", 0o6755), ("b", 0o1000), ("c", 0o640)] {
            let path = tree.join(name);
            fs::write(&path, "").unwrap();
            chown(&path, Some(4_000_000_000), Some(77)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
    });
    let mount = lab.mount(&[]);
    for name in ["a", "b", "c"] {
        let [expected, found] = [&tree, &copy_of(&mount, &tree)].map(|root| {
            let metadata = fs::metadata(root.join(name)).unwrap();
            (metadata.mode(), metadata.uid(), metadata.gid())
        });
        assert_eq!(found, expected);
        assert_eq!((found.1, found.2), (4_000_000_000, 77));
    }
}

#[test]
fn s12_times_keep_their_nanoseconds_in_every_century() {
    if !can(&NEEDS) {
        return;
    }
    // As far as the file system of the temporary folder goes.
    let seconds = [-1_000_000_000, -1, 0, 1, 4_000_000_000];
    let (lab, tree) = snapshot_of(|tree| {
        for (number, tv_sec) in seconds.into_iter().enumerate() {
            let path = tree.join(number.to_string());
            fs::write(&path, "").unwrap();
            let time = Timespec { tv_sec, tv_nsec: 123_456_789 };
            let times = Timestamps { last_access: time, last_modification: time };
            rustix::fs::utimensat(CWD, &path, &times, AtFlags::empty()).unwrap();
        }
    });
    let mount = lab.mount(&[]);
    let copy = copy_of(&mount, &tree);
    for (number, second) in seconds.into_iter().enumerate() {
        let [expected, found] =
            [&tree, &copy].map(|root| fs::metadata(root.join(number.to_string())).unwrap());
        assert_eq!((found.mtime(), found.mtime_nsec()), (second, 123_456_789));
        assert_eq!((found.atime(), found.atime_nsec()), (second, 123_456_789));
        assert_eq!((found.ctime(), found.ctime_nsec()), (expected.ctime(), expected.ctime_nsec()));
    }
}

#[test]
fn s13_the_time_of_creation_is_not_shown() {
    if !can(&NEEDS) {
        return;
    }
    let (lab, tree) = snapshot_of(|tree| fs::write(tree.join("file"), "").unwrap());
    let mount = lab.mount(&[]);
    let path = copy_of(&mount, &tree).join("file");
    let flags = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let shown = rustix::fs::statx(CWD, &path, AtFlags::empty(), flags).unwrap();
    assert_eq!(shown.stx_mask & StatxFlags::BTIME.bits(), 0);
    assert_eq!(succeed(Command::new("stat").args(["-c", "%W"]).arg(&path)), "0\n");
}

#[test]
fn s14_sizes_are_exact_and_blocks_are_what_is_no_hole() {
    if !can(&NEEDS) {
        return;
    }
    let sizes = [0_usize, 1, 511, 512, 513, 5000, 70_000, 2_500_000];
    let (lab, tree) = snapshot_of(|tree| {
        for size in sizes {
            fs::write(tree.join(size.to_string()), noise(size as u64, size)).unwrap();
        }
        File::create(tree.join("hole")).unwrap().set_len(1 << 40).unwrap();
    });
    let mount = lab.mount(&[]);
    let copy = copy_of(&mount, &tree);
    for size in sizes {
        let metadata = fs::metadata(copy.join(size.to_string())).unwrap();
        assert_eq!(metadata.len(), size as u64);
        assert_eq!(metadata.blocks(), (size as u64).div_ceil(512), "of {size} bytes");
        assert_eq!(metadata.blksize(), 4096);
    }
    let hole = fs::metadata(copy.join("hole")).unwrap();
    assert_eq!((hole.len(), hole.blocks()), (1 << 40, 0));
}

#[test]
fn s15_a_directory_counts_its_entries_and_one_link() {
    if !can(&NEEDS) {
        return;
    }
    let (lab, tree) = snapshot_of(|tree| {
        for name in ["a", "b", "c"] {
            fs::create_dir(tree.join(name)).unwrap();
        }
        fs::write(tree.join("a/file"), "").unwrap();
    });
    let mount = lab.mount(&[]);
    let copy = copy_of(&mount, &tree);
    let shown = |path: &Path| {
        let metadata = fs::metadata(path).unwrap();
        (metadata.len(), metadata.nlink(), metadata.blocks())
    };
    assert_eq!(shown(&copy), (3, 1, 0));
    assert_eq!(shown(&copy.join("a")), (1, 1, 0));
    assert_eq!(shown(&copy.join("b")), (0, 1, 0));
    assert_eq!(shown(&mount.path("snapshots")), (1, 1, 0));
    // With a link count of 1 programs do not conclude how many directories there are.
    let found = succeed(Command::new("find").arg(&copy).args(["-type", "d"]));
    assert_eq!(found.lines().count(), 4);
}

#[test]
fn s16_hard_links_are_one_file() {
    if !can(&NEEDS) {
        return;
    }
    let (lab, tree) = snapshot_of(|tree| {
        fs::create_dir(tree.join("below")).unwrap();
        fs::write(tree.join("one"), "shared").unwrap();
        fs::hard_link(tree.join("one"), tree.join("two")).unwrap();
        fs::hard_link(tree.join("one"), tree.join("below/three")).unwrap();
        fs::write(tree.join("single"), "shared").unwrap();
        symlink("one", tree.join("link")).unwrap();
        fs::hard_link(tree.join("link"), tree.join("second link")).unwrap();
    });
    let mount = lab.mount(&[]);
    let copy = copy_of(&mount, &tree);
    let shown = |name: &str| {
        let metadata = fs::symlink_metadata(copy.join(name)).unwrap();
        (metadata.ino(), metadata.nlink())
    };
    let one = shown("one");
    assert_eq!(one.1, 3);
    assert_eq!([shown("two"), shown("below/three")], [one; 2]);
    assert_eq!(shown("single").1, 1);
    assert_ne!(shown("single").0, one.0);
    assert_eq!(shown("link").1, 2);
    assert_eq!(shown("link"), shown("second link"));
    let back = lab.path("back");
    succeed(Command::new("cp").arg("-a").args([&copy, &back]));
    assert_eq!(fs::metadata(back.join("one")).unwrap().nlink(), 3);
}

#[test]
fn s17_symbolic_links_are_as_they_were() {
    if !can(&NEEDS) {
        return;
    }
    let long = "x/".repeat(1000);
    let targets: [&[u8]; 5] = [b"file", b"/etc/hostname", b"../..", b"\xff none", long.as_bytes()];
    let (lab, tree) = snapshot_of(|tree| {
        fs::write(tree.join("file"), "").unwrap();
        for (number, target) in targets.into_iter().enumerate() {
            symlink(OsStr::from_bytes(target), tree.join(number.to_string())).unwrap();
        }
    });
    let mount = lab.mount(&[]);
    let copy = copy_of(&mount, &tree);
    for (number, target) in targets.into_iter().enumerate() {
        let path = copy.join(number.to_string());
        assert_eq!(fs::read_link(&path).unwrap().as_os_str().as_bytes(), target);
        assert_eq!(fs::symlink_metadata(&path).unwrap().len(), target.len() as u64);
    }
    assert_eq!(fs::canonicalize(copy.join("1")).unwrap(), fs::canonicalize("/etc/hostname").unwrap());
}

#[test]
fn s18_special_files_are_shown_and_devices_are_dead() {
    if !can(&NEEDS) {
        return;
    }
    let (lab, tree) = snapshot_of(|tree| {
        let mode = Mode::from_raw_mode(0o666);
        let node = |name, kind, device| {
            rustix::fs::mknodat(CWD, tree.join(name), kind, mode, device).unwrap();
        };
        node("pipe", FileType::Fifo, 0);
        node("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
        node("disk", FileType::BlockDevice, rustix::fs::makedev(259, 1_000_000));
        drop(UnixListener::bind(tree.join("socket")).unwrap());
    });
    let mount = lab.mount(&[]);
    let copy = copy_of(&mount, &tree);
    let metadata = |name: &str| fs::symlink_metadata(copy.join(name)).unwrap();
    assert!(metadata("pipe").file_type().is_fifo());
    assert!(metadata("socket").file_type().is_socket());
    assert!(metadata("null").file_type().is_char_device());
    assert!(metadata("disk").file_type().is_block_device());
    assert_eq!(metadata("null").rdev(), rustix::fs::makedev(1, 3));
    assert_eq!(metadata("disk").rdev(), rustix::fs::makedev(259, 1_000_000));
    let open = |name: &str, flags| rustix::fs::open(copy.join(name), flags, Mode::empty()).map(drop);
    assert_eq!(open("null", OFlags::RDONLY), Err(Errno::ACCESS));
    assert_eq!(open("disk", OFlags::RDONLY), Err(Errno::ACCESS));
    // A pipe is a meeting place, which needs no file system.
    assert_eq!(open("pipe", OFlags::RDONLY | OFlags::NONBLOCK), Ok(()));
    let refused = UnixStream::connect(copy.join("socket")).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn s19_extended_attributes_are_whole() {
    if !can(&NEEDS) {
        return;
    }
    let values: [(&str, Vec<u8>); 4] = [
        ("user.empty", Vec::new()),
        ("user.long", noise(5, 2000)),
        ("user.zeros", b"a\0b\0\0".to_vec()),
        ("trusted.overlay.opaque", b"y".to_vec()),
    ];
    let (lab, tree) = snapshot_of(|tree| {
        fs::write(tree.join("file"), "").unwrap();
        fs::create_dir(tree.join("folder")).unwrap();
        fs::write(tree.join("plain"), "").unwrap();
        for (name, value) in &values {
            for path in ["file", "folder"] {
                rustix::fs::setxattr(tree.join(path), *name, value, XattrFlags::empty()).unwrap();
            }
        }
    });
    let mount = lab.mount(&[]);
    let copy = copy_of(&mount, &tree);
    let mut buffer = vec![0; 65_536];
    for path in [copy.join("file"), copy.join("folder")] {
        for (name, value) in &values {
            let length = rustix::fs::getxattr(&path, *name, &mut buffer).unwrap();
            assert_eq!(&buffer[..length], value, "{name}");
        }
        let length = rustix::fs::listxattr(&path, &mut buffer).unwrap();
        assert_eq!(
            &buffer[..length],
            b"trusted.overlay.opaque\0user.empty\0user.long\0user.zeros\0",
            "sorted"
        );
        assert_eq!(rustix::fs::getxattr(&path, "user.none", &mut buffer), Err(Errno::NODATA));
        assert_eq!(rustix::fs::getxattr(&path, "user.long", &mut buffer[..100]), Err(Errno::RANGE));
    }
    assert_eq!(rustix::fs::listxattr(copy.join("plain"), &mut buffer), Ok(0));
    let dump = |root: &Path| {
        let mut getfattr = Command::new("getfattr");
        succeed(getfattr.args(["-R", "-d", "-m", "-", "-e", "hex", "."]).current_dir(root))
    };
    assert_eq!(dump(&copy), dump(&tree));
}

#[test]
fn s20_access_control_lists_are_shown() {
    if !can(&NEEDS) {
        return;
    }
    let (lab, tree) = snapshot_of(|tree| {
        fs::write(tree.join("file"), "").unwrap();
        fs::create_dir(tree.join("folder")).unwrap();
        let set = |what: &str, name: &str| {
            succeed(Command::new("setfacl").args(["-m", what]).arg(tree.join(name)));
        };
        set("u:65534:rw,g:33:r", "file");
        set("d:u:65534:rwx", "folder");
    });
    let mount = lab.mount(&[]);
    let list = |root: &Path| succeed(Command::new("getfacl").args(["-Rn", "."]).current_dir(root));
    let shown = list(&copy_of(&mount, &tree));
    assert!(shown.contains("user:65534:rw-") && shown.contains("default:user:65534:rwx"), "{shown}");
    assert_eq!(shown, list(&tree));
}

#[test]
fn s21_df_shows_what_is_stored_and_nothing_free() {
    if !can(&NEEDS) {
        return;
    }
    let (lab, tree) = snapshot_of(|tree| {
        fs::write(tree.join("one"), noise(1, 1_000_000)).unwrap();
        fs::write(tree.join("two"), noise(1, 1_000_000)).unwrap();
    });
    let mount = lab.mount(&[]);
    let packs =
        succeed(Command::new("find").arg(lab.store().join("packs")).args(["-type", "f", "-printf", "%s\\n"]));
    let stored: u64 = packs.lines().map(|line| line.parse::<u64>().unwrap()).sum();
    let whole = rustix::fs::statvfs(mount.path("")).unwrap();
    assert_eq!((whole.f_blocks, whole.f_frsize), (stored.div_ceil(4096), 4096));
    assert!(stored < 1_500_000, "what is twice there is stored once");
    assert_eq!((whole.f_bfree, whole.f_bavail, whole.f_ffree, whole.f_namemax), (0, 0, 0, 1024));
    assert!(
        whole
            .f_flag
            .contains(StatVfsMountFlags::RDONLY | StatVfsMountFlags::NOSUID | StatVfsMountFlags::NODEV)
    );
    let directories = tree.components().count() as u64 - 1;
    assert_eq!(whole.f_files, 2 + directories, "two files and the directories that lead to them");
    assert!(succeed(Command::new("df").arg(mount.path(""))).contains("100%"));
    drop(mount);
    let mount = lab.mount(&["--snapshot", "latest"]);
    let one = rustix::fs::statvfs(mount.path("")).unwrap();
    assert_eq!(one.f_blocks, 2_000_000_u64.div_ceil(4096), "of a snapshot, the bytes of its files");
}

#[test]
fn s22_du_counts_what_a_copy_would_take() {
    if !can(&NEEDS) {
        return;
    }
    let (lab, tree) = snapshot_of(|tree| {
        fs::write(tree.join("dense"), noise(2, 300_000)).unwrap();
        fs::hard_link(tree.join("dense"), tree.join("again")).unwrap();
        let sparse = File::create(tree.join("sparse")).unwrap();
        sparse.set_len(1 << 33).unwrap();
        sparse.write_all_at(&noise(3, 65_536), 1 << 32).unwrap();
    });
    let mount = lab.mount(&[]);
    let copy = copy_of(&mount, &tree);
    let du = |arguments: &[&str], path: &PathBuf| -> u64 {
        let shown = succeed(Command::new("du").args(["-s", "-B1"]).args(arguments).arg(path));
        shown.split('\t').next().unwrap().parse().unwrap()
    };
    assert_eq!(du(&[], &copy), 300_000_u64.div_ceil(512) * 512 + 65_536);
    let entries = 3;
    assert_eq!(du(&["--apparent-size"], &copy), 300_000 + (1 << 33) + entries);
}
