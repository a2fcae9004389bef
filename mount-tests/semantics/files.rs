//! Reading files in every way that programs do.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::{NEEDS, copy_of, snapshot_of};
use crate::harness::{Need, can, noise, succeed};

const FILE_BYTES: usize = 3_000_000;

#[test]
fn s23_any_byte_can_be_read_at_any_time() {
    if !can(&NEEDS) {
        return;
    }
    let expected = noise(6, FILE_BYTES);
    let (lab, tree) = snapshot_of(|tree| fs::write(tree.join("file"), &expected).unwrap());
    let mount = lab.mount(&[]);
    let file = File::open(copy_of(&mount, &tree).join("file")).unwrap();
    let mut buffer = vec![0; 200_000];
    // Backwards, so that nothing was read ahead.
    for offset in (0..FILE_BYTES).step_by(333_333).collect::<Vec<_>>().into_iter().rev() {
        let length = file.read_at(&mut buffer, offset as u64).unwrap();
        assert!(length > 0);
        assert!(buffer[..length] == expected[offset..offset + length], "at {offset}");
    }
    assert_eq!(file.read_at(&mut buffer, FILE_BYTES as u64).unwrap(), 0);
    assert_eq!(file.read_at(&mut buffer, 1 << 50).unwrap(), 0);
    assert_eq!(file.read_at(&mut buffer, FILE_BYTES as u64 - 3).unwrap(), 3);
    assert_eq!(rustix::io::read(File::open(mount.path("")).unwrap(), &mut buffer), Err(Errno::ISDIR));
}

#[test]
fn s24_holes_stay_holes() {
    if !can(&NEEDS) {
        return;
    }
    let (lab, tree) = snapshot_of(|tree| {
        let sparse = File::create(tree.join("sparse")).unwrap();
        sparse.set_len(8 << 20).unwrap();
        sparse.write_all_at(&noise(4, 1 << 20), 4 << 20).unwrap();
        fs::write(tree.join("dense"), noise(5, 10_000)).unwrap();
    });
    let mount = lab.mount(&[]);
    let copy = copy_of(&mount, &tree);
    let file = File::open(copy.join("sparse")).unwrap();
    let seek = |from| rustix::fs::seek(file.as_fd(), from);
    assert_eq!(seek(SeekFrom::Data(0)), Ok(4 << 20));
    assert_eq!(seek(SeekFrom::Hole(0)), Ok(0));
    assert_eq!(seek(SeekFrom::Hole(4 << 20)), Ok(5 << 20));
    assert_eq!(seek(SeekFrom::Data(5 << 20)), Err(Errno::NXIO));
    assert_eq!(seek(SeekFrom::Hole(6 << 20)), Ok(6 << 20));
    assert_eq!(seek(SeekFrom::Hole(8 << 20)), Err(Errno::NXIO));
    assert_eq!(seek(SeekFrom::End(0)), Ok(8 << 20));
    let dense = File::open(copy.join("dense")).unwrap();
    assert_eq!(rustix::fs::seek(&dense, SeekFrom::Hole(0)), Ok(10_000), "the end counts as a hole");
    let copied = lab.path("copied");
    succeed(Command::new("cp").args([&copy.join("sparse"), &copied]));
    assert!(fs::metadata(&copied).unwrap().blocks() * 512 < 2 << 20, "cp finds the holes");
    assert!(fs::read(&copied).unwrap() == fs::read(tree.join("sparse")).unwrap());
}

#[test]
fn s25_a_hole_of_a_hundred_gigabytes_costs_nothing() {
    if !can(&NEEDS) {
        return;
    }
    let length = 100_u64 << 30;
    let (lab, tree) = snapshot_of(|tree| {
        let sparse = File::create(tree.join("image")).unwrap();
        sparse.set_len(length).unwrap();
        sparse.write_all_at(&noise(8, 65_536), 50 << 30).unwrap();
    });
    let mount = lab.mount(&[]);
    let path = copy_of(&mount, &tree).join("image");
    let shown = fs::metadata(&path).unwrap();
    assert_eq!((shown.len(), shown.blocks()), (length, 65_536 / 512));
    let copied = lab.path("copied");
    let began = Instant::now();
    succeed(Command::new("timeout").args(["60", "cp", "--sparse=auto"]).args([&path, &copied]));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let found = fs::metadata(&copied).unwrap();
    assert_eq!(found.len(), length);
    assert!(found.blocks() * 512 <= 131_072, "{} blocks", found.blocks());
    let mut bytes = vec![0; 65_536];
    File::open(&copied).unwrap().read_exact_at(&mut bytes, 50 << 30).unwrap();
    assert!(bytes == noise(8, 65_536));
}

const MAP: &str = "
import errno, hashlib, mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
shared = mmap.mmap(fd, 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
for offset in range(len(shared) - 1, 0, -400_009):
    assert shared[offset:offset + 1] == os.pread(fd, 1, offset)
private = mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
private[0:1] = bytes([private[0] ^ 1])
assert private[0] != shared[0]
try:
    mmap.mmap(fd, 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    sys.exit('a shared map can be written to')
except OSError as error:
    assert error.errno == errno.EACCES, error
print(hashlib.sha256(shared).hexdigest())
";

#[test]
fn s26_files_can_be_mapped() {
    if !can(&[Need::Root, Need::Fuse, Need::Tool("python3")]) {
        return;
    }
    let (lab, tree) = snapshot_of(|tree| fs::write(tree.join("file"), noise(6, FILE_BYTES)).unwrap());
    let mount = lab.mount(&[]);
    let mapped = succeed(Command::new("python3").args(["-c", MAP]).arg(copy_of(&mount, &tree).join("file")));
    let expected = succeed(Command::new("sha256sum").arg(tree.join("file")));
    assert_eq!(expected.split(' ').next(), Some(mapped.trim()));
}

#[test]
fn s27_the_page_cache_can_be_passed_by() {
    if !can(&NEEDS) {
        return;
    }
    let expected = noise(6, FILE_BYTES);
    let (lab, tree) = snapshot_of(|tree| fs::write(tree.join("file"), &expected).unwrap());
    let mount = lab.mount(&[]);
    let path = copy_of(&mount, &tree).join("file");
    let file = rustix::fs::open(&path, OFlags::RDONLY | OFlags::DIRECT, Mode::empty()).unwrap();
    let mut found = Vec::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let length = rustix::io::pread(&file, &mut buffer, found.len() as u64).unwrap();
        if length == 0 {
            break;
        }
        found.extend_from_slice(&buffer[..length]);
    }
    assert!(found == expected);
}

#[test]
fn s28_locks_hold_on_this_machine() {
    if !can(&NEEDS) {
        return;
    }
    let (lab, tree) = snapshot_of(|tree| fs::write(tree.join("file"), "locked").unwrap());
    let mount = lab.mount(&[]);
    let path = copy_of(&mount, &tree).join("file");
    let [one, other] = [&path, &path].map(|path| File::open(path).unwrap());
    let flock = |file: &File, operation| rustix::fs::flock(file, operation);
    flock(&one, FlockOperation::NonBlockingLockShared).unwrap();
    flock(&other, FlockOperation::NonBlockingLockShared).unwrap();
    assert_eq!(flock(&one, FlockOperation::NonBlockingLockExclusive), Err(Errno::WOULDBLOCK));
    flock(&other, FlockOperation::Unlock).unwrap();
    flock(&one, FlockOperation::NonBlockingLockExclusive).unwrap();
    assert_eq!(flock(&other, FlockOperation::NonBlockingLockShared), Err(Errno::WOULDBLOCK));
    // Locks of ranges need a file that is open for writing, but for shared ones.
    rustix::fs::fcntl_lock(&other, FlockOperation::NonBlockingLockShared).unwrap();
    assert_eq!(rustix::fs::fcntl_lock(&other, FlockOperation::NonBlockingLockExclusive), Err(Errno::BADF));
}

#[test]
fn s29_the_kernel_can_copy_without_the_program() {
    if !can(&NEEDS) {
        return;
    }
    let expected = noise(6, FILE_BYTES);
    let (lab, tree) = snapshot_of(|tree| fs::write(tree.join("file"), &expected).unwrap());
    let mount = lab.mount(&[]);
    let path = copy_of(&mount, &tree).join("file");
    let source = File::open(&path).unwrap();
    let sent = File::create(lab.path("sent")).unwrap();
    let mut offset = 0;
    while rustix::fs::sendfile(&sent, &source, Some(&mut offset), 1 << 20).unwrap() > 0 {}
    assert!(fs::read(lab.path("sent")).unwrap() == expected);
    fs::copy(&path, lab.path("copied")).unwrap();
    assert!(fs::read(lab.path("copied")).unwrap() == expected);
}
