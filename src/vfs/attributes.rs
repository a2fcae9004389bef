//! What `stat` shows of a node: pure functions of stored metadata and the chosen ownership.

use super::{Lifetime, Ownership};
use crate::format::tree::{Attributes, Device, EntryKind, Time};

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A socket.
    Socket,
}

impl NodeKind {
    /// Returns what `entry` is.
    #[must_use]
    pub fn of(entry: &EntryKind) -> Self {
        match entry {
            EntryKind::File(_) => Self::File,
            EntryKind::Directory(_) => Self::Directory,
            EntryKind::Symlink(_) => Self::Symlink,
            EntryKind::Fifo => Self::Fifo,
            EntryKind::CharDevice(device) => Self::CharDevice(*device),
            EntryKind::BlockDevice(device) => Self::BlockDevice(*device),
            EntryKind::Socket => Self::Socket,
        }
    }
}

/// What `stat` shows of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeAttributes {
    /// Inode number: below 2^63, the same for all names of one file in one snapshot.
    pub inode: u64,
    /// What it is.
    pub kind: NodeKind,
    /// The low 12 bits of `st_mode`.
    pub mode: u16,
    /// Names of the file in its snapshot; 1 for directories, whose subdirectories nobody counted.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of a file or of a symlink's target; entries of a directory.
    pub size: u64,
    /// Units of 512 bytes that are not holes.
    pub blocks: u64,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// How long all of this holds.
    pub lifetime: Lifetime,
}

/// The parts of [`NodeAttributes`] that do not come from stored metadata.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub(super) links: u32,
    pub(super) size: u64,
    pub(super) blocks: u64,
    pub(super) lifetime: Lifetime,
}

/// Returns what is shown of a node with stored metadata.
pub(super) fn stored(
    inode: u64,
    kind: NodeKind,
    attributes: &Attributes,
    extent: Extent,
    ownership: Ownership,
) -> NodeAttributes {
    let (mode, uid, gid) = match ownership {
        Ownership::AsStored => (attributes.mode & 0o7777, attributes.uid, attributes.gid),
        Ownership::Of { uid, gid } => (owner_mode(kind, attributes.mode), uid, gid),
    };
    NodeAttributes {
        inode,
        kind,
        mode,
        links: extent.links,
        uid,
        gid,
        size: extent.size,
        blocks: extent.blocks,
        mtime: attributes.mtime,
        ctime: attributes.ctime,
        lifetime: extent.lifetime,
    }
}

/// Returns what is shown of a directory or link that only the view knows.
pub(super) fn synthetic(
    inode: u64,
    kind: NodeKind,
    size: u64,
    time: Time,
    ownership: Ownership,
) -> NodeAttributes {
    let attributes = Attributes {
        mode: if kind == NodeKind::Symlink { 0o777 } else { 0o555 },
        mtime: time,
        ctime: time,
        ..Attributes::default()
    };
    let extent = Extent { links: 1, size, blocks: 0, lifetime: Lifetime::Brief };
    stored(inode, kind, &attributes, extent, ownership)
}

/// Returns a mode under which the owner reads everything and nobody else does anything.
fn owner_mode(kind: NodeKind, stored: u16) -> u16 {
    match kind {
        NodeKind::Symlink => 0o777,
        NodeKind::Directory => 0o500,
        _ if stored & 0o111 != 0 => 0o500,
        _ => 0o400,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXTENT: Extent = Extent { links: 1, size: 0, blocks: 0, lifetime: Lifetime::Unlimited };

    fn mode_of(kind: NodeKind, mode: u16, ownership: Ownership) -> u16 {
        let attributes = Attributes { mode, uid: 1, gid: 2, ..Attributes::default() };
        stored(7, kind, &attributes, EXTENT, ownership).mode
    }

    #[test]
    fn stored_modes_are_shown_with_all_twelve_bits() {
        assert_eq!(mode_of(NodeKind::File, 0o6755, Ownership::AsStored), 0o6755);
        assert_eq!(mode_of(NodeKind::Directory, 0o1777, Ownership::AsStored), 0o1777);
    }

    #[test]
    fn one_owner_reads_everything_and_nobody_else_does() {
        let owner = Ownership::Of { uid: 70, gid: 71 };
        assert_eq!(mode_of(NodeKind::File, 0o000, owner), 0o400);
        assert_eq!(mode_of(NodeKind::File, 0o4755, owner), 0o500);
        assert_eq!(mode_of(NodeKind::Directory, 0o000, owner), 0o500);
        assert_eq!(mode_of(NodeKind::Symlink, 0o777, owner), 0o777);
        let view = synthetic(9, NodeKind::Directory, 3, Time::default(), owner);
        assert_eq!((view.uid, view.gid, view.mode), (70, 71, 0o500));
    }
}
