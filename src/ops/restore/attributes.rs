//! Owners, modes, extended attributes and times of what was restored, set in the one order that works.
//!
//! Content comes first: writing clears set-id bits and file capabilities, and changes times. Then the owner,
//! whose change clears them too; then extended attributes, while the owner still has all rights; then the mode;
//! then the times. What the system refuses is returned, and the rest is still set.

use rustix::fs::{AtFlags, Gid, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use super::owners::Owner;
use super::target::{Handle, inode_path};
use crate::format::tree::{Attributes, Time};
use crate::path::escape;

/// The set-user-id and set-group-id bits.
pub(super) const SET_ID: u16 = 0o6000;

/// The access rights beyond the mode, and those that new entries of a directory begin with.
const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

/// Extended attributes that ordinary users may not set.
const PRIVILEGED: [&[u8]; 2] = [b"security.", b"trusted."];

/// As whom a restore runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    uid: u32,
    gid: u32,
}

/// What the attributes are set on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// A directory, which may lend access rights to what is made in it.
    Directory,
    /// A symbolic link: Linux gives it no mode.
    Symlink,
    /// Anything else.
    Other,
}

/// What is to be set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// Everything but the two below.
    pub attributes: &'a Attributes,
    /// The extended attributes, with their values at hand.
    pub xattrs: &'a [(&'a [u8], Vec<u8>)],
    /// The owner on this host, if it is to be set.
    pub owner: Option<Owner>,
}

/// What could not be set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Unset {
    /// What the system refused, one sentence each.
    pub refused: Vec<String>,
    /// Extended attributes that only root may set, left out since somebody else restores.
    pub privileged_xattrs: u64,
    /// Whether set-id bits were left out, since the owner is not the right one.
    pub set_id: bool,
    /// Whether the file system cannot hold the time and keeps the nearest that it can.
    pub clamped_time: bool,
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

    /// Returns the user.
    pub(super) fn uid(self) -> u32 {
        self.uid
    }
}

/// Returns the mode that is right for a file that may not have got its owner: a set-id bit would lend the rights of
/// whoever restores or of the directory's group, so it stays only where the owner that is `found` is the right one.
pub(super) fn permitted_mode(attributes: &Attributes, wanted: Option<Owner>, found: Option<Owner>) -> u16 {
    let right = wanted.unwrap_or(Owner { uid: attributes.uid, gid: attributes.gid });
    if found == Some(right) { attributes.mode } else { attributes.mode & !SET_ID }
}

/// Sets what is `wanted`, and returns what could not be set.
pub(super) fn apply(handle: Handle<'_>, wanted: &Wanted<'_>, subject: Subject, identity: Identity) -> Unset {
    let attributes = wanted.attributes;
    let mut unset = Unset::default();
    if let Some(owner) = wanted.owner
        && let Err(error) = set_owner(handle, owner)
    {
        let Owner { uid, gid } = owner;
        unset.refused.push(format!("cannot set its owner to {uid}:{gid}: {}", describe(error)));
    }
    if subject != Subject::Symlink {
        remove_inherited(handle, wanted.xattrs, subject);
    }
    for (name, value) in wanted.xattrs {
        match set_xattr(handle, name, value) {
            Ok(()) => {}
            Err(_) if !identity.is_root() && PRIVILEGED.iter().any(|prefix| name.starts_with(prefix)) => {
                unset.privileged_xattrs += 1;
            }
            Err(error) => {
                unset.refused.push(format!("cannot set its attribute {}: {}", escape(name), describe(error)))
            }
        }
    }
    if subject != Subject::Symlink {
        // Only set-id bits ask for the owner.
        let found =
            if attributes.mode & SET_ID == 0 { None } else { stat(handle).ok().as_ref().map(owner_of) };
        let mode = permitted_mode(attributes, wanted.owner, found);
        unset.set_id = mode != attributes.mode;
        if let Err(error) = set_mode(handle, mode) {
            unset.refused.push(format!("cannot set its mode: {}", describe(error)));
        }
    }
    match set_mtime(handle, attributes.mtime) {
        Ok(()) => unset.clamped_time = is_clamped(handle, attributes.mtime),
        Err(error) => unset.refused.push(format!("cannot set its time: {}", describe(error))),
    }
    unset
}

/// Removes access rights that the directory above lent to what is new and that the snapshot does not have. Looking
/// first costs less: a removal of nothing is written to the disk, too.
fn remove_inherited(handle: Handle<'_>, xattrs: &[(&[u8], Vec<u8>)], subject: Subject) {
    let inherited: &[&[u8]] =
        if subject == Subject::Directory { &[ACCESS_ACL, DEFAULT_ACL] } else { &[ACCESS_ACL] };
    for acl in inherited.iter().filter(|acl| !xattrs.iter().any(|(name, _)| name == *acl)) {
        let _ = match handle {
            Handle::Open(fd) => rustix::fs::fgetxattr_query(fd, *acl)
                .is_ok_and(|_| rustix::fs::fremovexattr(fd, *acl).is_ok()),
            Handle::Inode(fd) => {
                let path = inode_path(fd);
                rustix::fs::getxattr_query(&path, *acl)
                    .is_ok_and(|_| rustix::fs::removexattr(&path, *acl).is_ok())
            }
        };
    }
}

fn set_owner(handle: Handle<'_>, owner: Owner) -> Result<(), Errno> {
    // The system reads this number as "leave it as it is".
    if owner.uid == u32::MAX || owner.gid == u32::MAX {
        return Err(Errno::INVAL);
    }
    let (uid, gid) = (Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)));
    match handle {
        Handle::Open(fd) => rustix::fs::fchown(fd, uid, gid),
        Handle::Inode(fd) => rustix::fs::chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH),
    }
}

fn set_xattr(handle: Handle<'_>, name: &[u8], value: &[u8]) -> Result<(), Errno> {
    match handle {
        Handle::Open(fd) => rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()),
        Handle::Inode(fd) => rustix::fs::setxattr(inode_path(fd), name, value, XattrFlags::empty()),
    }
}

/// Sets the mode of anything but a symbolic link.
pub(super) fn set_mode(handle: Handle<'_>, mode: u16) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(u32::from(mode));
    match handle {
        Handle::Open(fd) => rustix::fs::fchmod(fd, mode),
        Handle::Inode(fd) => rustix::fs::chmod(inode_path(fd), mode),
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

/// Tells whether the file system kept another time than it was given, which it does without a word. Every one can
/// hold the times of 32 bits, so that only others cost a look.
fn is_clamped(handle: Handle<'_>, mtime: Time) -> bool {
    i32::try_from(mtime.seconds).is_err() && stat(handle).is_ok_and(|stat| stat.st_mtime != mtime.seconds)
}

/// Returns whom a file belongs to.
pub(super) fn owner_of(stat: &Stat) -> Owner {
    Owner { uid: stat.st_uid, gid: stat.st_gid }
}

fn stat(handle: Handle<'_>) -> Result<Stat, Errno> {
    let (Handle::Open(fd) | Handle::Inode(fd)) = handle;
    rustix::fs::fstat(fd)
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

    fn wanted<'a>(attributes: &'a Attributes, xattrs: &'a [(&'a [u8], Vec<u8>)]) -> Wanted<'a> {
        Wanted { attributes, xattrs, owner: None }
    }

    #[test]
    fn set_id_bits_need_the_right_owner() {
        let owner = |uid, gid| Some(Owner { uid, gid });
        let attributes = Attributes { uid: 1, gid: 2, ..attributes() };
        assert_eq!(permitted_mode(&attributes, owner(7, 8), owner(7, 8)), 0o4751);
        assert_eq!(permitted_mode(&attributes, owner(7, 8), owner(1, 2)), 0o751);
        assert_eq!(permitted_mode(&attributes, None, owner(1, 2)), 0o4751);
        // As in a directory that lends its group.
        assert_eq!(permitted_mode(&attributes, None, owner(1, 50)), 0o751);
        assert_eq!(permitted_mode(&attributes, None, None), 0o751);
    }

    #[test]
    fn every_kind_of_entry_gets_its_mode_and_time() {
        let folder = tempfile::tempdir().unwrap();
        let target = Directory::create_target(folder.path()).unwrap();
        let identity = Identity::current();
        let mine = Attributes { uid: identity.uid, gid: identity.gid, ..attributes() };
        let kinds = [None, Some(Node::Special(FileType::Fifo)), Some(Node::Special(FileType::Socket))];
        for (number, kind) in kinds.into_iter().enumerate() {
            let mut staged =
                kind.map_or_else(|| target.stage_file(), |node| target.stage_node(node)).unwrap();
            let unset = apply(staged.handle(), &wanted(&mine, &[]), Subject::Other, identity);
            assert_eq!(unset, Unset::default());
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
        let mut staged = target.stage_node(Node::Symlink(b"file")).unwrap();
        let identity = Identity::current();
        let unset = apply(staged.handle(), &wanted(&attributes(), &[]), Subject::Symlink, identity);
        assert_eq!(unset, Unset::default());
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
        let attributes = Attributes { uid: 12, gid: 34, ..attributes() };
        let unset = apply(staged.handle(), &wanted(&attributes, &xattrs), Subject::Other, OTHER);
        assert_eq!(unset.refused.len(), 1, "{unset:?}");
        assert!(unset.refused[0].starts_with("cannot set its attribute nonsense.name"), "{unset:?}");
        assert!(unset.set_id);
        let stat = rustix::fs::fstat(staged.file()).unwrap();
        assert_eq!(stat.st_mode & 0o7777, 0o751);
        assert_eq!(stat.st_mtime, -5);
    }

    #[test]
    fn a_time_beyond_what_the_file_system_holds_becomes_the_nearest() {
        let folder = tempfile::tempdir().unwrap();
        let target = Directory::create_target(folder.path()).unwrap();
        for (seconds, may_clamp) in [(4_000_000_000, false), (-86_400, false), (i64::MAX / 4, true)] {
            let staged = target.stage_file().unwrap();
            let attributes = Attributes { mtime: Time { seconds, nanoseconds: 5 }, ..attributes() };
            let unset = apply(staged.handle(), &wanted(&attributes, &[]), Subject::Other, OTHER);
            assert_eq!(unset.refused, Vec::<String>::new());
            let kept = rustix::fs::fstat(staged.file()).unwrap().st_mtime == seconds;
            assert_eq!(unset.clamped_time, !kept);
            assert!(kept || may_clamp, "{seconds}");
        }
    }

    #[test]
    fn capabilities_and_access_rights_outlive_a_change_of_owner() {
        let folder = tempfile::tempdir().unwrap();
        let target = Directory::create_target(folder.path()).unwrap();
        let identity = Identity::current();
        let staged = target.stage_file().unwrap();
        // cap_net_bind_service, permitted and effective; then user 1234 may read, in the kernel's encodings.
        let mut capability = vec![1, 0, 0, 2];
        capability.extend_from_slice(&[0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut acl = vec![2, 0, 0, 0];
        for (tag, rights, id) in
            [(1_u16, 6_u16, u32::MAX), (2, 4, 1234), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
        {
            acl.extend_from_slice(&tag.to_le_bytes());
            acl.extend_from_slice(&rights.to_le_bytes());
            acl.extend_from_slice(&id.to_le_bytes());
        }
        let xattrs = [(&b"security.capability"[..], capability), (ACCESS_ACL, acl)];
        let attributes = Attributes { mode: 0o640, uid: 12, gid: 34, ..attributes() };
        let owner = identity.is_root().then_some(Owner { uid: 12, gid: 34 });
        let wanted = Wanted { attributes: &attributes, xattrs: &xattrs, owner };
        let unset = apply(staged.handle(), &wanted, Subject::Other, identity);
        // An ordinary user cannot give capabilities; without rights beyond the mode the file system says so.
        assert_eq!(unset.privileged_xattrs, u64::from(!identity.is_root()));
        if unset.refused.is_empty() && identity.is_root() {
            for (name, value) in &xattrs {
                let mut found = [0; 64];
                let length = rustix::fs::fgetxattr(staged.file(), *name, &mut found).unwrap();
                assert_eq!(&found[..length], value);
            }
            assert_eq!(rustix::fs::fstat(staged.file()).unwrap().st_mode & 0o7777, 0o640);
        }
    }

    #[test]
    fn links_and_fifos_carry_extended_attributes_of_their_own() {
        let identity = Identity::current();
        if !identity.is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pointed to"), b"").unwrap();
        let target = Directory::create_target(folder.path()).unwrap();
        let attributes = attributes();
        let xattrs = [(&b"trusted.yester"[..], b"its own".to_vec())];
        let wanted = Wanted { owner: Some(Owner { uid: 12, gid: 34 }), ..wanted(&attributes, &xattrs) };
        for (node, subject) in [
            (Node::Symlink(b"pointed to"), Subject::Symlink),
            (Node::Special(FileType::Fifo), Subject::Other),
        ] {
            let mut staged = target.stage_node(node).unwrap();
            let unset = apply(staged.handle(), &wanted, subject, identity);
            assert_eq!(unset.refused, Vec::<String>::new());
            staged.place(&Name::new(b"name").unwrap(), Existing::Replace).unwrap();
            let path = folder.path().join("name");
            let mut found = [0; 16];
            let length = rustix::fs::lgetxattr(&path, "trusted.yester", &mut found).unwrap();
            assert_eq!(&found[..length], b"its own");
            assert_eq!(std::fs::symlink_metadata(&path).unwrap().uid(), 12);
        }
        assert_eq!(std::fs::metadata(folder.path().join("pointed to")).unwrap().uid(), 0);
    }
}
