//! What system calls see of a mount: nothing changes it, and metadata is as programs expect it.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, SeekFrom, Timespec, Timestamps, XattrFlags,
};
use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::harness::{Lab, Mount, Need, can, noise, succeed};

const NEEDS: [Need; 2] = [Need::Root, Need::Fuse];

/// Makes a laboratory with one snapshot of a small tree; returns the tree.
fn lab_with_tree() -> (Lab, PathBuf) {
    let lab = Lab::new();
    let tree = lab.path("tree");
    fs::create_dir_all(tree.join("folder")).unwrap();
    fs::create_dir(tree.join("empty")).unwrap();
    fs::write(tree.join("file"), "content").unwrap();
    rustix::fs::setxattr(tree.join("file"), "user.note", b"kept", XattrFlags::empty()).unwrap();
    fs::hard_link(tree.join("file"), tree.join("folder/second name")).unwrap();
    symlink("file", tree.join("link")).unwrap();
    let sparse = File::create(tree.join("sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, &noise(4, 1 << 20), 4 << 20).unwrap();
    lab.run([Path::new("ingest"), &tree, Path::new("--source"), Path::new("s")]).succeeds();
    (lab, tree)
}

fn copy_of(mount: &Mount<'_>, tree: &Path) -> PathBuf {
    mount.path("sources/s/latest").join(tree.strip_prefix("/").unwrap())
}

#[test]
fn nothing_changes_a_mount() {
    if !can(&NEEDS) {
        return;
    }
    let (lab, tree) = lab_with_tree();
    let mount = lab.mount(&[]);
    for way in ["mounted read-only", "remounted read-write by root"] {
        if way == "remounted read-write by root" {
            rustix::mount::mount_remount(mount.path(""), MountFlags::empty(), c"").unwrap();
        }
        let folders =
            [mount.path(""), mount.path("snapshots"), mount.path("sources/s"), copy_of(&mount, &tree)];
        for folder in folders {
            for (call, result) in making(&folder) {
                assert_eq!(result, Err(Errno::ROFS), "{way}: {call} in {}", folder.display());
            }
        }
        for (call, result) in changing(&copy_of(&mount, &tree)) {
            assert_eq!(result, Err(Errno::ROFS), "{way}: {call}");
        }
        // These need a file that is open for writing, which there is none of.
        let file = File::open(copy_of(&mount, &tree).join("file")).unwrap();
        let allocated = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 4096);
        assert_eq!(allocated, Err(Errno::BADF), "{way}");
        assert_eq!(rustix::io::write(&file, b"x"), Err(Errno::BADF), "{way}");
        assert_eq!(rustix::fs::ftruncate(&file, 0), Err(Errno::INVAL), "{way}");
    }
    assert_eq!(fs::read_to_string(copy_of(&mount, &tree).join("file")).unwrap(), "content");
}

type Results = Vec<(&'static str, Result<(), Errno>)>;

/// Tries every call that makes something new in a folder.
fn making(folder: &Path) -> Results {
    let new = folder.join("new");
    let mode = Mode::from_raw_mode(0o644);
    let mknod = |kind| rustix::fs::mknodat(CWD, &new, kind, mode, 0);
    vec![
        ("creat", rustix::fs::open(&new, OFlags::CREATE | OFlags::WRONLY, mode).map(drop)),
        ("mkdir", rustix::fs::mkdir(&new, mode)),
        ("mknod of a file", mknod(FileType::RegularFile)),
        ("mknod of a pipe", mknod(FileType::Fifo)),
        ("symlink", rustix::fs::symlink("target", &new)),
    ]
}

/// Tries every call that changes what is there.
fn changing(tree: &Path) -> Results {
    let (file, new) = (tree.join("file"), tree.join("new"));
    let open = |flags| rustix::fs::open(&file, flags, Mode::empty()).map(drop);
    let now = Timespec { tv_sec: 1, tv_nsec: 2 };
    let times = Timestamps { last_access: now, last_modification: now };
    vec![
        ("open for writing", open(OFlags::WRONLY)),
        ("open for both", open(OFlags::RDWR)),
        ("open to append", open(OFlags::WRONLY | OFlags::APPEND)),
        ("open to truncate", open(OFlags::WRONLY | OFlags::TRUNC)),
        ("unlink", rustix::fs::unlink(&file)),
        ("rmdir", rustix::fs::rmdir(tree.join("empty"))),
        ("rename", rustix::fs::rename(&file, &new)),
        ("rename over another", rustix::fs::rename(&file, tree.join("link"))),
        ("link", rustix::fs::link(&file, &new)),
        ("chmod", rustix::fs::chmod(&file, Mode::from_raw_mode(0o777))),
        ("chown", rustix::fs::chown(&file, Some(rustix::fs::Uid::from_raw(1)), None)),
        ("utimensat", rustix::fs::utimensat(CWD, &file, &times, AtFlags::empty())),
        (
            "utimensat of a link",
            rustix::fs::utimensat(CWD, tree.join("link"), &times, AtFlags::SYMLINK_NOFOLLOW),
        ),
        ("setxattr", rustix::fs::setxattr(&file, "user.new", b"x", XattrFlags::empty())),
        ("removexattr", rustix::fs::removexattr(&file, "user.note")),
        ("truncate", truncate(&file)),
    ]
}

/// Truncates by path, which the libraries at hand do only by an open file.
fn truncate(path: &Path) -> Result<(), Errno> {
    let result = fs::OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(0));
    result.map_err(|error| Errno::from_io_error(&error).unwrap())
}

#[test]
fn metadata_is_what_programs_expect() {
    if !can(&NEEDS) {
        return;
    }
    let (lab, tree) = lab_with_tree();
    let mount = lab.mount(&[]);
    let copy = copy_of(&mount, &tree);
    let file = fs::metadata(copy.join("file")).unwrap();
    let second = fs::metadata(copy.join("folder/second name")).unwrap();
    assert_eq!((file.ino(), file.nlink()), (second.ino(), 2));
    let ids = ["file", "link", "sparse", "folder", "empty"].map(|name| copy.join(name));
    let ids: std::collections::BTreeSet<u64> =
        ids.iter().map(|path| fs::symlink_metadata(path).unwrap().ino()).collect();
    assert_eq!(ids.len(), 5, "different files have different inodes");
    for entry in fs::read_dir(&copy).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(std::os::unix::fs::DirEntryExt::ino(&entry), entry.metadata().unwrap().ino());
    }

    let mut value = [0; 16];
    let length = rustix::fs::getxattr(copy.join("file"), "user.note", &mut value).unwrap();
    assert_eq!(&value[..length], b"kept");
    let absent = rustix::fs::getxattr(copy.join("file"), "user.none", &mut value);
    assert_eq!(absent, Err(Errno::NODATA));
    let mut names = [0; 256];
    let length = rustix::fs::listxattr(copy.join("file"), &mut names).unwrap();
    assert_eq!(&names[..length], b"user.note\0");

    let whole = rustix::fs::statvfs(mount.path("")).unwrap();
    assert_eq!((whole.f_bavail, whole.f_bfree, whole.f_namemax), (0, 0, 255));
    assert!(whole.f_blocks * whole.f_frsize >= 1 << 20, "the noise does not compress");
    succeed(Command::new("df").arg(mount.path("")));
}

#[test]
fn holes_stay_holes() {
    if !can(&NEEDS) {
        return;
    }
    let (lab, tree) = lab_with_tree();
    let mount = lab.mount(&[]);
    let path = copy_of(&mount, &tree).join("sparse");
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.len(), 8 << 20);
    let allocated = metadata.blocks() * 512;
    assert!((1 << 20..=(1 << 20) + 8192).contains(&allocated), "{allocated} bytes are allocated");

    let file = File::open(&path).unwrap();
    let seek = |from| rustix::fs::seek(file.as_fd(), from);
    assert_eq!(seek(SeekFrom::Data(0)), Ok(4 << 20));
    assert_eq!(seek(SeekFrom::Hole(0)), Ok(0));
    assert_eq!(seek(SeekFrom::Hole(4 << 20)), Ok(5 << 20));
    assert_eq!(seek(SeekFrom::Data(5 << 20)), Err(Errno::NXIO));
    assert_eq!(seek(SeekFrom::Hole(6 << 20)), Ok(6 << 20));
    assert_eq!(seek(SeekFrom::End(0)), Ok(8 << 20));

    let copied = lab.path("copied");
    succeed(Command::new("cp").args([&path, &copied]));
    assert!(fs::metadata(&copied).unwrap().blocks() * 512 < 2 << 20, "cp finds the holes");
    assert!(same_content(&copied, &tree.join("sparse")).unwrap());
}

fn same_content(one: &Path, other: &Path) -> io::Result<bool> {
    Ok(fs::read(one)? == fs::read(other)?)
}
