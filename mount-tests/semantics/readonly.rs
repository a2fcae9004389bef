//! Nothing changes a mount, whoever tries and however.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Gid, IFlags, Mode, OFlags, RenameFlags, Timespec, Timestamps,
    Uid, XattrFlags,
};
use rustix::io::Errno;
use rustix::mount::MountFlags;

use super::{NEEDS, copy_of, snapshot_of};
use crate::harness::{Need, can, succeed};

type Results = Vec<(&'static str, Result<(), Errno>)>;

fn small_tree(tree: &Path) {
    fs::create_dir(tree.join("empty")).unwrap();
    fs::write(tree.join("file"), "content").unwrap();
    rustix::fs::setxattr(tree.join("file"), "user.note", b"kept", XattrFlags::empty()).unwrap();
    symlink("file", tree.join("link")).unwrap();
}

#[track_caller]
fn all_refused(what: &str, results: Results) {
    for (call, result) in results {
        assert_eq!(result, Err(Errno::ROFS), "{call} in {what}");
    }
}

#[test]
fn s1_every_call_that_would_change_something_is_refused() {
    if !can(&[Need::Root, Need::Fuse, Need::Tool("perl")]) {
        return;
    }
    let (lab, tree) = snapshot_of(small_tree);
    let mount = lab.mount(&[]);
    let copy = copy_of(&mount, &tree);
    for folder in [mount.path(""), mount.path("snapshots"), mount.path("sources/s"), copy.clone()] {
        all_refused(folder.to_str().unwrap(), making(&folder));
    }
    all_refused("a snapshot", changing_names(&copy));
    all_refused("a snapshot", changing_files(&copy));
    all_refused("a snapshot", changing_metadata(&copy));
    let views = [
        ("rmdir", rustix::fs::rmdir(mount.path("tags"))),
        ("unlink", rustix::fs::unlink(mount.path("latest"))),
    ];
    all_refused("a view", views.into());
    assert_eq!(fs::read_to_string(copy.join("file")).unwrap(), "content");
}

/// Tries every call that makes something new in a folder.
fn making(folder: &Path) -> Results {
    let new = folder.join("new");
    let mode = Mode::from_raw_mode(0o644);
    let open = |path: &Path, flags| rustix::fs::open(path, flags, mode).map(drop);
    let mknod = |kind| rustix::fs::mknodat(CWD, &new, kind, mode, 0);
    let bound = UnixListener::bind(&new).map(drop).map_err(|error| Errno::from_io_error(&error).unwrap());
    vec![
        ("creat", open(&new, OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC)),
        ("open to create and read", open(&new, OFlags::CREATE | OFlags::RDONLY)),
        ("open to create alone", open(&new, OFlags::CREATE | OFlags::EXCL | OFlags::RDWR)),
        ("open without a name", open(folder, OFlags::TMPFILE | OFlags::RDWR)),
        ("mkdir", rustix::fs::mkdir(&new, mode)),
        ("mknod of a file", mknod(FileType::RegularFile)),
        ("mknod of a pipe", mknod(FileType::Fifo)),
        ("mknod of a device", mknod(FileType::CharacterDevice)),
        ("symlink", rustix::fs::symlink("target", &new)),
        ("bind of a socket", bound),
    ]
}

/// Tries every call that changes names.
fn changing_names(tree: &Path) -> Results {
    let (file, new) = (tree.join("file"), tree.join("new"));
    let rename = |to: &Path, flags| rustix::fs::renameat_with(CWD, &file, CWD, to, flags);
    vec![
        ("unlink", rustix::fs::unlink(&file)),
        ("rmdir", rustix::fs::rmdir(tree.join("empty"))),
        ("rename", rustix::fs::rename(&file, &new)),
        ("rename over another", rustix::fs::rename(&file, tree.join("link"))),
        ("rename to a new name alone", rename(&new, RenameFlags::NOREPLACE)),
        ("exchange", rename(&tree.join("link"), RenameFlags::EXCHANGE)),
        ("rename with a whiteout", rename(&new, RenameFlags::WHITEOUT)),
        ("link", rustix::fs::link(&file, &new)),
    ]
}

/// Tries every call that changes bytes.
fn changing_files(tree: &Path) -> Results {
    let file = tree.join("file");
    let open = |flags| rustix::fs::open(&file, flags, Mode::empty()).map(drop);
    vec![
        ("open for writing", open(OFlags::WRONLY)),
        ("open for both", open(OFlags::RDWR)),
        ("open to append", open(OFlags::WRONLY | OFlags::APPEND)),
        ("open to truncate", open(OFlags::WRONLY | OFlags::TRUNC)),
        ("open to read and truncate", open(OFlags::RDONLY | OFlags::TRUNC)),
        ("truncate", truncate(&file)),
    ]
}

/// Tries every call that changes metadata, by name and by what is open.
fn changing_metadata(tree: &Path) -> Results {
    let (file, link) = (tree.join("file"), tree.join("link"));
    let open = File::open(&file).unwrap();
    let now = Timespec { tv_sec: 1, tv_nsec: 2 };
    let times = Timestamps { last_access: now, last_modification: now };
    let mode = Mode::from_raw_mode(0o777);
    let (user, group) = (Some(Uid::from_raw(1)), Some(Gid::from_raw(1)));
    vec![
        ("chmod", rustix::fs::chmod(&file, mode)),
        ("fchmod", rustix::fs::fchmod(&open, mode)),
        ("chown", rustix::fs::chown(&file, user, group)),
        ("fchown", rustix::fs::fchown(&open, user, group)),
        ("lchown", rustix::fs::chownat(CWD, &link, user, group, AtFlags::SYMLINK_NOFOLLOW)),
        ("utimensat", rustix::fs::utimensat(CWD, &file, &times, AtFlags::empty())),
        ("utimensat of a link", rustix::fs::utimensat(CWD, &link, &times, AtFlags::SYMLINK_NOFOLLOW)),
        ("futimens", rustix::fs::futimens(&open, &times)),
        ("setxattr", rustix::fs::setxattr(&file, "user.new", b"x", XattrFlags::empty())),
        ("lsetxattr", rustix::fs::lsetxattr(&link, "trusted.new", b"x", XattrFlags::empty())),
        ("fsetxattr", rustix::fs::fsetxattr(&open, "user.note", b"x", XattrFlags::REPLACE)),
        ("removexattr", rustix::fs::removexattr(&file, "user.note")),
        ("fremovexattr", rustix::fs::fremovexattr(&open, "user.note")),
        ("FS_IOC_SETFLAGS", rustix::fs::ioctl_setflags(&open, IFlags::IMMUTABLE)),
    ]
}

/// Truncates by name, which the libraries at hand do only by an open file.
fn truncate(path: &Path) -> Result<(), Errno> {
    let script = "exit(truncate($ARGV[0], 0) ? 0 : $!+0)";
    let code = Command::new("perl").args(["-e", script]).arg(path).status().unwrap().code().unwrap();
    if code == 0 { Ok(()) } else { Err(Errno::from_raw_os_error(code)) }
}

#[test]
fn s2_a_file_open_for_reading_cannot_be_written_to() {
    if !can(&NEEDS) {
        return;
    }
    let (lab, tree) = snapshot_of(small_tree);
    let mount = lab.mount(&[]);
    let file = File::open(copy_of(&mount, &tree).join("file")).unwrap();
    assert_eq!(rustix::io::write(&file, b"x"), Err(Errno::BADF));
    assert_eq!(rustix::io::pwrite(&file, b"x", 0), Err(Errno::BADF));
    assert_eq!(rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 4096), Err(Errno::BADF));
    assert_eq!(
        rustix::fs::fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, 1),
        Err(Errno::BADF)
    );
    assert_eq!(rustix::fs::ftruncate(&file, 0), Err(Errno::INVAL));
    let source = File::open(tree.join("file")).unwrap();
    assert_eq!(rustix::fs::copy_file_range(&source, None, &file, None, 1), Err(Errno::BADF));
    // These promise that nothing is lost, which nothing is.
    rustix::fs::fsync(&file).unwrap();
    rustix::fs::fdatasync(&file).unwrap();
    rustix::fs::syncfs(&file).unwrap();
}

#[test]
fn s3_a_remount_read_write_changes_nothing() {
    if !can(&[Need::Root, Need::Fuse, Need::Tool("perl")]) {
        return;
    }
    let (lab, tree) = snapshot_of(small_tree);
    let mount = lab.mount(&[]);
    rustix::mount::mount_remount(mount.path(""), MountFlags::empty(), c"").unwrap();
    let copy = copy_of(&mount, &tree);
    // The kernel knows better than to ask about these.
    let kernel_refuses = ["open without a name", "FS_IOC_SETFLAGS", "rename with a whiteout"];
    let asked = |results: Results| {
        results.into_iter().filter(|(call, _)| !kernel_refuses.contains(call)).collect::<Results>()
    };
    for folder in [mount.path("snapshots"), copy.clone()] {
        all_refused(folder.to_str().unwrap(), asked(making(&folder)));
    }
    all_refused("a snapshot", asked(changing_names(&copy)));
    all_refused("a snapshot", asked(changing_files(&copy)));
    all_refused("a snapshot", asked(changing_metadata(&copy)));
    let open = File::open(copy.join("file")).unwrap();
    assert!(rustix::fs::ioctl_setflags(&open, IFlags::IMMUTABLE).is_err());
    assert_eq!(fs::read_to_string(copy.join("file")).unwrap(), "content");
    assert_eq!(fs::read_dir(&copy).unwrap().count(), 3);
}

#[test]
fn s4_reading_changes_nothing() {
    if !can(&NEEDS) {
        return;
    }
    let (lab, tree) = snapshot_of(small_tree);
    let mount = lab.mount(&[]);
    let path = copy_of(&mount, &tree).join("file");
    let times = || {
        let metadata = fs::metadata(&path).unwrap();
        (metadata.atime(), metadata.atime_nsec(), metadata.mtime(), metadata.mtime_nsec())
    };
    let before = times();
    assert_eq!((before.0, before.1), (before.2, before.3), "the access time is that of the last change");
    let file = File::open(&path).unwrap();
    rustix::io::read(file.as_fd(), &mut [0; 10]).unwrap();
    succeed(Command::new("cat").arg(&path));
    assert_eq!(times(), before);
}
