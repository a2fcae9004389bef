//! What the file system says of a file: attributes, owner names, extended attributes, link groups.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Statx, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::IngestError;
use super::failures::ReadError;
use crate::crypto::hash::ChunkKind;
use crate::format::tree::{Attributes, Device, LinkGroup, SPILL_BYTES, Time, Value, Xattr};
use crate::path::Name;
use crate::repo::session::SessionWriter;

/// Inline values of one entry take at most this many bytes together, so that an entry fits its page unless it has
/// thousands of attributes.
const INLINE_XATTRS_BYTES: usize = 16 << 10;

/// What `statx` says, as far as it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileStat {
    /// Type and permission bits.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) links: u32,
    pub(super) bytes: u64,
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) special: Device,
    /// Whether a file system is mounted here; nothing where the kernel does not say.
    pub(super) mount_root: Option<bool>,
    pub(super) mtime: Time,
    pub(super) ctime: Time,
    pub(super) btime: Option<Time>,
}

impl FileStat {
    /// Looks at a name without following it, and without having anything mounted for the look.
    pub(super) fn at(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<Self> {
        statx(directory, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)
    }

    /// Like [`Self::at`], from what the kernel remembers: answers for a file system that does not.
    pub(super) fn remembered_at(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<Self> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
        statx(directory, name, flags)
    }

    /// Looks at an open file.
    pub(super) fn of(file: BorrowedFd<'_>) -> io::Result<Self> {
        statx(file, b"", AtFlags::EMPTY_PATH)
    }

    /// Returns the group of all names of this file, if it has several. A regular file is in another group once it
    /// changed: who mounts or restores takes all names of a group for one file with one content.
    pub(super) fn link_group(&self) -> Option<LinkGroup> {
        (self.links > 1).then(|| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&self.device.to_le_bytes()).update(&self.inode.to_le_bytes());
            if FileType::from_raw_mode(u32::from(self.mode)) == FileType::RegularFile {
                let Time { seconds, nanoseconds } = self.mtime;
                hasher.update(&self.bytes.to_le_bytes());
                hasher.update(&seconds.to_le_bytes()).update(&nanoseconds.to_le_bytes());
            }
            let mut group = [0; 8];
            hasher.finalize_xof().fill(&mut group);
            LinkGroup { group: u64::from_le_bytes(group), links: self.links }
        })
    }

    /// Tells whether the content may have changed between two looks.
    pub(super) fn content_differs(&self, later: &Self) -> bool {
        self.identity() != later.identity()
    }

    /// Returns what tells a file with one content from all others.
    pub(super) fn identity(&self) -> FileIdentity {
        FileIdentity { device: self.device, inode: self.inode, bytes: self.bytes, mtime: self.mtime }
    }

    /// Returns what tells a file from all others, whatever its content.
    pub(super) fn inode_identity(&self) -> InodeIdentity {
        InodeIdentity { device: self.device, inode: self.inode, btime: self.btime }
    }
}

/// A file with one content, by whatever name. An inode that is given to a new file is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FileIdentity {
    device: u64,
    inode: u64,
    pub(super) bytes: u64,
    pub(super) mtime: Time,
}

/// A file, by whatever name and with whatever content. An inode that is given to a new file is another one where
/// the file system tells times of creation; elsewhere it looks like a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct InodeIdentity {
    device: u64,
    inode: u64,
    btime: Option<Time>,
}

fn statx(directory: BorrowedFd<'_>, name: &[u8], flags: AtFlags) -> io::Result<FileStat> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let stat: Statx = rustix::fs::statx(directory, name, flags, wanted)?;
    let time = |stamp: rustix::fs::StatxTimestamp| Time { seconds: stamp.tv_sec, nanoseconds: stamp.tv_nsec };
    let has_btime = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
    let tells_mounts = stat.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT);
    Ok(FileStat {
        mode: stat.stx_mode,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        links: stat.stx_nlink,
        bytes: stat.stx_size,
        device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
        inode: stat.stx_ino,
        special: Device { major: stat.stx_rdev_major, minor: stat.stx_rdev_minor },
        mount_root: tells_mounts.then(|| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        mtime: time(stat.stx_mtime),
        ctime: time(stat.stx_ctime),
        btime: has_btime.then(|| time(stat.stx_btime)),
    })
}

/// Turns numbers into names, asking the system once for each.
#[derive(Default)]
pub(super) struct OwnerNames {
    users: HashMap<u32, Option<Vec<u8>>>,
    groups: HashMap<u32, Option<Vec<u8>>>,
}

impl OwnerNames {
    /// Returns the attributes of a file, its extended ones excepted.
    pub(super) fn attributes(&mut self, stat: &FileStat) -> Attributes {
        Attributes {
            mode: stat.mode & 0o7777,
            uid: stat.uid,
            gid: stat.gid,
            user: self.user(stat.uid),
            group: self.group(stat.gid),
            mtime: stat.mtime,
            ctime: stat.ctime,
            btime: stat.btime,
            xattrs: Vec::new(),
        }
    }

    /// Returns the name of a user, where the system knows one.
    pub(super) fn user(&mut self, uid: u32) -> Option<Vec<u8>> {
        let look_up =
            || nix::unistd::User::from_uid(uid.into()).ok().flatten().map(|user| user.name.into_bytes());
        self.users.entry(uid).or_insert_with(look_up).clone()
    }

    /// Returns the name of a group, where the system knows one.
    pub(super) fn group(&mut self, gid: u32) -> Option<Vec<u8>> {
        let look_up =
            || nix::unistd::Group::from_gid(gid.into()).ok().flatten().map(|group| group.name.into_bytes());
        self.groups.entry(gid).or_insert_with(look_up).clone()
    }
}

/// Fails where the kernel's `/proc` is missing: without it extended attributes would be lost without a word.
pub(super) fn check_proc() -> io::Result<()> {
    std::fs::symlink_metadata("/proc/self/fd").map(drop)
}

/// Returns a path to a name in an open directory. There is no `listxattrat`; the descriptor's own path pins the
/// directory just as well.
pub(super) fn path_of(directory: BorrowedFd<'_>, name: &Name) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.as_bytes());
    path
}

/// Stores a long value as a chunk.
pub(super) fn spill(session: &SessionWriter, value: &[u8]) -> Result<Value, ReadError> {
    let chunk = session.add(ChunkKind::Tree, value).map_err(IngestError::from)?;
    Ok(Value::Spilled { chunk, length: u32::try_from(value.len()).unwrap_or(u32::MAX) })
}

/// Reads the extended attributes at `path` without following it, sorted. `spill` stores a long value.
pub(super) fn xattrs(
    path: &[u8],
    mut spill: impl FnMut(&[u8]) -> Result<Value, ReadError>,
) -> Result<Vec<Xattr>, ReadError> {
    let mut names = match list_names(path) {
        Ok(names) => names,
        // File systems without extended attributes say so; what vanished is noticed elsewhere.
        Err(Errno::NOTSUP | Errno::NOENT) => return Ok(Vec::new()),
        Err(error) => return Err(io::Error::from(error).into()),
    };
    names.sort();
    names.dedup();
    let mut inline_bytes = 0;
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        let value = match read_value(path, &name) {
            Ok(value) => value,
            // Removed meanwhile, or of a namespace that this user must not read (`trusted.`).
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS | Errno::NOTSUP) => continue,
            Err(error) => return Err(io::Error::from(error).into()),
        };
        let fits = value.len() <= SPILL_BYTES && inline_bytes + value.len() <= INLINE_XATTRS_BYTES;
        let value = if fits {
            inline_bytes += value.len();
            Value::Inline(value)
        } else {
            spill(&value)?
        };
        found.push(Xattr { name, value });
    }
    Ok(found)
}

fn list_names(path: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
    let mut buffer = Vec::new();
    grow_until_it_fits(
        &mut buffer,
        || rustix::fs::llistxattr_query(path),
        |buffer| rustix::fs::llistxattr(path, buffer),
    )?;
    Ok(buffer.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

fn read_value(path: &[u8], name: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut buffer = Vec::new();
    grow_until_it_fits(
        &mut buffer,
        || rustix::fs::lgetxattr_query(path, name),
        |buffer| rustix::fs::lgetxattr(path, name, buffer),
    )?;
    Ok(buffer)
}

/// Asks for the size first; asks again if it grew in between.
fn grow_until_it_fits(
    buffer: &mut Vec<u8>,
    query: impl Fn() -> Result<usize, Errno>,
    call: impl Fn(&mut [u8]) -> Result<usize, Errno>,
) -> Result<(), Errno> {
    loop {
        let needed = query()?;
        if needed == 0 {
            buffer.clear();
            return Ok(());
        }
        buffer.resize(needed, 0);
        match call(buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(());
            }
            Err(Errno::RANGE) => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    /// Where names move during the walk, more of them are met than were counted, and the last is taken for a new file.
    #[test]
    fn a_file_that_changed_is_in_another_link_group() {
        let stat = FileStat { links: 2, ..FileStat::of(tempfile::tempfile().unwrap().as_fd()).unwrap() };
        let written = |stat: FileStat| FileStat {
            mtime: Time { nanoseconds: stat.mtime.nanoseconds ^ 1, ..stat.mtime },
            ..stat
        };
        assert_ne!(written(stat).link_group(), stat.link_group());
        let pipe = FileStat { mode: 0o010_600, ..stat };
        assert_eq!(written(pipe).link_group(), pipe.link_group(), "it holds nothing");
    }
}
