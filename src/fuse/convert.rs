//! What fuser calls things: errno, attributes, times and device numbers, from those of [`crate::vfs`].

use std::time::{Duration, SystemTime};

use fuser::{Errno, FileAttr, FileType, INodeNo};

use crate::format::tree::{Device, Time};
use crate::vfs::{Lifetime, NodeAttributes, NodeKind, Seek, VfsError};

/// What the kernel may remember for ever.
const UNLIMITED: Duration = Duration::from_secs(365 * 86_400);
/// What it must ask for again soon: with the age of the list of snapshots, no more than two seconds in all.
const BRIEF: Duration = Duration::from_millis(500);

/// The one mapping to errno.
fn errno(error: &VfsError) -> Errno {
    match error {
        VfsError::Stale(_) => Errno::ESTALE,
        VfsError::NotFound(_) => Errno::ENOENT,
        VfsError::NameTooLong(_) => Errno::ENAMETOOLONG,
        VfsError::NotADirectory(_) => Errno::ENOTDIR,
        VfsError::IsADirectory(_) => Errno::EISDIR,
        VfsError::NotALink(_) | VfsError::NotAFile(_) => Errno::EINVAL,
        VfsError::NoAttribute => Errno::ENODATA,
        VfsError::Unreadable { .. } => Errno::EIO,
    }
}

/// Returns the errno of a failed request; what people must hear of is logged.
pub(super) fn refuse(error: &VfsError) -> Errno {
    if matches!(error, VfsError::Unreadable { .. }) {
        tracing::error!(error = error as &dyn std::error::Error, "a request was answered with EIO");
    }
    errno(error)
}

pub(super) fn time_to_live(lifetime: Lifetime) -> Duration {
    match lifetime {
        Lifetime::Brief => BRIEF,
        Lifetime::Unlimited => UNLIMITED,
    }
}

pub(super) fn file_attr(attributes: &NodeAttributes) -> FileAttr {
    let mtime = system_time(attributes.mtime);
    FileAttr {
        ino: INodeNo(attributes.inode),
        size: attributes.size,
        blocks: attributes.blocks,
        atime: mtime,
        mtime,
        ctime: system_time(attributes.ctime),
        crtime: mtime,
        kind: file_type(attributes.kind),
        perm: attributes.mode,
        nlink: attributes.links,
        uid: attributes.uid,
        gid: attributes.gid,
        rdev: device_number(attributes.kind),
        blksize: 4096,
        flags: 0,
    }
}

pub(super) fn file_type(kind: NodeKind) -> FileType {
    match kind {
        NodeKind::File => FileType::RegularFile,
        NodeKind::Directory => FileType::Directory,
        NodeKind::Symlink => FileType::Symlink,
        NodeKind::Fifo => FileType::NamedPipe,
        NodeKind::CharDevice(_) => FileType::CharDevice,
        NodeKind::BlockDevice(_) => FileType::BlockDevice,
        NodeKind::Socket => FileType::Socket,
    }
}

/// Returns a device number in the 32 bits of the protocol: 12 of the major, 20 of the minor number.
fn device_number(kind: NodeKind) -> u32 {
    match kind {
        NodeKind::CharDevice(Device { major, minor }) | NodeKind::BlockDevice(Device { major, minor }) => {
            (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xfff00) << 12)
        }
        _ => 0,
    }
}

fn system_time(time: Time) -> SystemTime {
    let seconds = Duration::from_secs(time.seconds.unsigned_abs());
    let whole = if time.seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(seconds)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    };
    whole
        .and_then(|whole| whole.checked_add(Duration::from_nanos(u64::from(time.nanoseconds))))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Returns an entry of inode 0: the kernel remembers that there is none.
pub(super) fn absent() -> FileAttr {
    let nothing = NodeAttributes {
        inode: 0,
        kind: NodeKind::File,
        mode: 0,
        links: 0,
        uid: 0,
        gid: 0,
        size: 0,
        blocks: 0,
        mtime: Time::default(),
        ctime: Time::default(),
        lifetime: Lifetime::Unlimited,
    };
    file_attr(&nothing)
}

/// Returns what `lseek(2)` means by `whence`: the kernel answers the other kinds itself.
pub(super) fn seek_of(whence: i32) -> Option<Seek> {
    const SEEK_DATA: i32 = 3;
    const SEEK_HOLE: i32 = 4;
    match whence {
        SEEK_DATA => Some(Seek::Data),
        SEEK_HOLE => Some(Seek::Hole),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_packed_as_the_kernel_unpacks_them() {
        let number = |major, minor| device_number(NodeKind::BlockDevice(Device { major, minor }));
        assert_eq!(number(8, 1), 0x801);
        assert_eq!(number(259, 0x12345), 0x1231_0345);
        assert_eq!(device_number(NodeKind::Fifo), 0);
    }

    #[test]
    fn times_before_1970_keep_their_nanoseconds() {
        let time = system_time(Time { seconds: -2, nanoseconds: 500_000_000 });
        assert_eq!(time, SystemTime::UNIX_EPOCH - Duration::from_millis(1500));
        let last = system_time(Time { seconds: i64::MAX, nanoseconds: 999_999_999 });
        assert!(last > SystemTime::now());
    }

    #[test]
    fn damage_is_an_input_output_error_and_nothing_else_is() {
        let damaged = VfsError::Unreadable {
            path: "x".to_owned(),
            source: Box::new(crate::repo::RepoError::Damaged { object: "pack".to_owned(), source: None }),
        };
        assert_eq!(errno(&damaged), Errno::EIO);
        assert_eq!(errno(&VfsError::NotFound("x".to_owned())), Errno::ENOENT);
        assert_eq!(errno(&VfsError::Stale(1)), Errno::ESTALE);
    }

    #[test]
    fn only_holes_and_data_are_sought() {
        assert_eq!(seek_of(3), Some(Seek::Data));
        assert_eq!(seek_of(4), Some(Seek::Hole));
        assert_eq!(seek_of(0), None);
    }
}
