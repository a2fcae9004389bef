//! Owners, modes, extended attributes and times of what was restored, set in the one order that works.
//!
//! Content comes first: writing clears set-id bits and file capabilities, and changes times. Then the owner,
//! whose change clears them too; then extended attributes, while the owner still has all rights; then the mode;
//! then the times. What the system refuses is returned, and the rest is still set.

use std::os::fd::AsRawFd;

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use super::target::Handle;
use crate::format::tree::{Attributes, Time};
use crate::path::escape;

/// The set-user-id and set-group-id bits.
const SET_ID: u16 = 0o6000;

/// As whom a restore runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    uid: u32,
    gid: u32,
}

/// Whether the mode of an entry can be set: Linux gives symbolic links none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HasMode {
    /// It can.
    Yes,
    /// It is a symbolic link.
    No,
}

impl Identity {
    /// Returns that of this process.
    pub(super) fn current() -> Self {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        Self { uid: uid.as_raw(), gid: gid.as_raw() }
    }

    /// Tells whether owners and devices can be restored, and rights do not stand in the way.
    pub(super) fn is_root(self) -> bool {
        self.uid == 0
    }

    /// Returns the mode that is right for a file that may not have got its owner: a set-id bit would lend the
    /// rights of whoever restores, so it stays only where the owner is the right one.
    fn permitted_mode(self, attributes: &Attributes, owned: bool) -> u16 {
        let mine = attributes.uid == self.uid && attributes.gid == self.gid;
        if owned || mine { attributes.mode } else { attributes.mode & !SET_ID }
    }
}

/// Sets everything in `attributes` but its extended attributes, which are `xattrs` with their values at hand.
/// Returns what could not be set, one sentence each.
pub(super) fn apply(
    handle: Handle<'_>,
    attributes: &Attributes,
    xattrs: &[(&[u8], Vec<u8>)],
    has_mode: HasMode,
    identity: Identity,
) -> Vec<String> {
    let mut refused = Vec::new();
    let mut owned = false;
    if identity.is_root() {
        match set_owner(handle, attributes.uid, attributes.gid) {
            Ok(()) => owned = true,
            Err(error) => refused.push(format!(
                "cannot set its owner to {}:{}: {}",
                attributes.uid,
                attributes.gid,
                describe(error)
            )),
        }
    }
    for (name, value) in xattrs {
        if let Err(error) = set_xattr(handle, name, value) {
            refused.push(format!("cannot set its attribute {}: {}", escape(name), describe(error)));
        }
    }
    if has_mode == HasMode::Yes
        && let Err(error) = set_mode(handle, identity.permitted_mode(attributes, owned))
    {
        refused.push(format!("cannot set its mode: {}", describe(error)));
    }
    if let Err(error) = set_mtime(handle, attributes.mtime) {
        refused.push(format!("cannot set its time: {}", describe(error)));
    }
    refused
}

fn set_owner(handle: Handle<'_>, uid: u32, gid: u32) -> Result<(), Errno> {
    // The system reads this number as "leave it as it is".
    if uid == u32::MAX || gid == u32::MAX {
        return Err(Errno::INVAL);
    }
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    match handle {
        Handle::Open(fd) => rustix::fs::fchown(fd, uid, gid),
        Handle::Inode(fd) => rustix::fs::chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH),
    }
}

fn set_xattr(handle: Handle<'_>, name: &[u8], value: &[u8]) -> Result<(), Errno> {
    match handle {
        Handle::Open(fd) => rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()),
        Handle::Inode(_) => rustix::fs::setxattr(inode_path(handle), name, value, XattrFlags::empty()),
    }
}

fn set_mode(handle: Handle<'_>, mode: u16) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(u32::from(mode));
    match handle {
        Handle::Open(fd) => rustix::fs::fchmod(fd, mode),
        Handle::Inode(_) => rustix::fs::chmod(inode_path(handle), mode),
    }
}

fn set_mtime(handle: Handle<'_>, mtime: Time) -> Result<(), Errno> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() },
    };
    match handle {
        Handle::Open(fd) => rustix::fs::futimens(fd, &times),
        Handle::Inode(fd) => rustix::fs::utimensat(fd, c"", &times, AtFlags::EMPTY_PATH),
    }
}

/// Names an inode that is held by a descriptor which takes no direct calls. The kernel resolves this path to the
/// inode itself, even where it is a symbolic link.
fn inode_path(handle: Handle<'_>) -> String {
    let (Handle::Open(fd) | Handle::Inode(fd)) = handle;
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn describe(error: Errno) -> String {
    std::io::Error::from(error).to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use rustix::fs::FileType;

    use super::super::target::{Directory, Existing, Node};
    use super::*;
    use crate::path::Name;

    const OTHER: Identity = Identity { uid: 1, gid: 1 };

    fn attributes() -> Attributes {
        Attributes {
            mode: 0o4751,
            mtime: Time { seconds: -5, nanoseconds: 123_456_789 },
            ..Attributes::default()
        }
    }

    #[test]
    fn set_id_bits_need_the_right_owner() {
        assert_eq!(OTHER.permitted_mode(&attributes(), true), 0o4751);
        assert_eq!(OTHER.permitted_mode(&attributes(), false), 0o751);
        let mine = Attributes { uid: 1, gid: 1, ..attributes() };
        assert_eq!(OTHER.permitted_mode(&mine, false), 0o4751);
    }

    #[test]
    fn every_kind_of_entry_gets_its_mode_and_time() {
        let folder = tempfile::tempdir().unwrap();
        let target = Directory::create_target(folder.path()).unwrap();
        let identity = Identity::current();
        let mine = Attributes { uid: identity.uid, gid: identity.gid, ..attributes() };
        let kinds = [None, Some(Node::Special(FileType::Fifo)), Some(Node::Special(FileType::Socket))];
        for (number, kind) in kinds.into_iter().enumerate() {
            let staged = kind.map_or_else(|| target.stage_file(), |node| target.stage_node(node)).unwrap();
            assert_eq!(apply(staged.handle(), &mine, &[], HasMode::Yes, identity), Vec::<String>::new());
            let name = number.to_string();
            staged.place(&Name::new(name.as_bytes()).unwrap(), Existing::Keep).unwrap();
            let found = std::fs::symlink_metadata(folder.path().join(name)).unwrap();
            assert_eq!(found.mode() & 0o7777, 0o4751);
            assert_eq!((found.mtime(), found.mtime_nsec()), (-5, 123_456_789));
        }
    }

    #[test]
    fn a_symlink_gets_its_time_and_what_it_points_to_keeps_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let pointed_to = folder.path().join("file");
        std::fs::write(&pointed_to, b"").unwrap();
        let before = std::fs::metadata(&pointed_to).unwrap();
        let target = Directory::create_target(folder.path()).unwrap();
        let staged = target.stage_node(Node::Symlink(b"file")).unwrap();
        let identity = Identity::current();
        let mine = Attributes { uid: identity.uid, gid: identity.gid, ..attributes() };
        assert!(apply(staged.handle(), &mine, &[], HasMode::No, identity).is_empty());
        staged.place(&Name::new(b"link").unwrap(), Existing::Keep).unwrap();
        let link = std::fs::symlink_metadata(folder.path().join("link")).unwrap();
        assert_eq!((link.mtime(), link.mtime_nsec()), (-5, 123_456_789));
        let after = std::fs::metadata(&pointed_to).unwrap();
        assert_eq!((before.mode(), before.mtime_nsec()), (after.mode(), after.mtime_nsec()));
    }

    #[test]
    fn what_is_refused_is_said_and_the_rest_is_set() {
        let folder = tempfile::tempdir().unwrap();
        let target = Directory::create_target(folder.path()).unwrap();
        let staged = target.stage_file().unwrap();
        let xattrs = [(&b"nonsense.name"[..], b"value".to_vec())];
        let refused = apply(staged.handle(), &attributes(), &xattrs, HasMode::Yes, OTHER);
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(refused[0].starts_with("cannot set its attribute nonsense.name"), "{refused:?}");
        let stat = rustix::fs::fstat(staged.file()).unwrap();
        assert_eq!(stat.st_mode & 0o7777, 0o751);
        assert_eq!(stat.st_mtime, -5);
    }
}
