//! Inode numbers: how a node gets one, and which nodes the kernel holds at present.
//!
//! A number is 63 bits of a hash of the snapshot and the path inside it, or of the snapshot and the link
//! group. It is the same in every mount, and two snapshots never share one: the kernel keeps cached pages by
//! inode, and files of one path have different bytes in different snapshots.

use std::sync::{Arc, Mutex};

use super::dense_map::DenseMap;
use super::directory::Directory;
use super::lock;
use super::short_name::ShortName;
use crate::format::tree::Time;
use crate::id::SnapshotId;
use crate::path::Name;

/// The number of the root of a view, as the kernel demands it.
pub const ROOT_INODE: u64 = 1;

/// Numbers below this are never given out by hashing.
const FIRST_HASHED: u64 = 1 << 16;

/// The hash that names a node, in every mount of every store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NodeKey([u8; 32]);

impl NodeKey {
    /// Names a directory of a view.
    pub(super) fn view(path: &[Name]) -> Self {
        Self::hash(b'v', &[], path.iter().map(Name::as_bytes))
    }

    /// Names a link of a view. The target is part of it, since the kernel caches the target by inode.
    pub(super) fn link(path: &[Name], target: &[u8]) -> Self {
        Self::hash(b'l', &[], path.iter().map(Name::as_bytes).chain([target]))
    }

    /// Names the root of a snapshot.
    pub(super) fn snapshot(id: SnapshotId) -> Self {
        Self::hash(b's', &[], [id.to_string().as_bytes()])
    }

    /// Names all entries of one link group of a snapshot.
    pub(super) fn link_group(id: SnapshotId, group: u64) -> Self {
        Self::hash(b'g', &group.to_le_bytes(), [id.to_string().as_bytes()])
    }

    /// Names the entry `name` of the directory that `self` names.
    pub(super) fn child(&self, name: &Name) -> Self {
        Self::hash(b'c', &self.0, [name.as_bytes()])
    }

    fn hash<'a>(kind: u8, prefix: &[u8], parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[kind]).update(prefix);
        for part in parts {
            // No part holds a zero byte, so it ends one without ambiguity.
            hasher.update(part).update(&[0]);
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// Returns the inode number, if no other node has it.
    pub(super) fn inode(&self) -> u64 {
        let hash = u64::from_le_bytes(part(&self.0, 0)) >> 1;
        if hash < FIRST_HASHED { hash + FIRST_HASHED } else { hash }
    }

    /// Returns what tells the node that was given this number from all others.
    pub(super) fn identity(&self, inode: u64) -> Identity {
        Identity { inode, rest: self.rest() }
    }

    /// Returns what tells nodes apart whose numbers collide.
    fn rest(&self) -> u32 {
        // The number has 63 bits of the hash already.
        u32::from_le_bytes(part(&self.0, 8))
    }
}

/// Tells nodes apart, collisions of numbers included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    inode: u64,
    rest: u32,
}

/// Returns some bytes of a hash, from `start` on.
fn part<const N: usize>(bytes: &[u8; 32], start: usize) -> [u8; N] {
    let mut part = [0; N];
    part.iter_mut().zip(bytes.iter().skip(start)).for_each(|(to, from)| *to = *from);
    part
}

/// Where a node stands: what is needed to find its metadata again.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// A directory of a view.
    View(Arc<[Name]>),
    /// A link of a view.
    Link(Arc<ViewLink>),
    /// A directory in a snapshot.
    Directory(Arc<Directory>),
    /// Any other entry of a directory in a snapshot.
    Entry {
        /// The directory.
        parent: Arc<Directory>,
        /// Its name there (one of its names).
        name: ShortName,
    },
}

/// A link of a view, as it was when it was looked up.
#[derive(Debug)]
pub(super) struct ViewLink {
    /// Where it leads.
    pub(super) target: Arc<[u8]>,
    /// The time it shows.
    pub(super) time: Time,
}

struct Slot {
    place: Place,
    rest: u32,
    /// A node that was looked up this often is kept for good.
    lookups: u32,
}

/// The nodes that the kernel knows. One is dropped when the kernel has forgotten every lookup of it.
///
/// The kernel forgets when it needs the memory, so that there may be millions.
pub(super) struct InodeTable {
    slots: Mutex<DenseMap<Slot>>,
}

impl InodeTable {
    /// Starts with the root, which is never dropped.
    pub(super) fn new(root: Place, key: &NodeKey) -> Self {
        let mut slots = DenseMap::new();
        slots.insert(ROOT_INODE, Slot { rest: key.rest(), lookups: 0, place: root });
        Self { slots: Mutex::new(slots) }
    }

    /// Returns the number of a node and counts one lookup. `place` is called only for a node that is new.
    pub(super) fn intern(&self, key: &NodeKey, place: impl FnOnce(u64) -> Place) -> u64 {
        let rest = key.rest();
        let mut inode = key.inode();
        let mut slots = lock(&self.slots);
        loop {
            match slots.get_mut(inode) {
                Some(slot) if slot.rest == rest => {
                    slot.lookups = slot.lookups.saturating_add(1);
                    return inode;
                }
                Some(_) => inode = next_inode(inode),
                None => {
                    slots.insert(inode, Slot { rest, lookups: 1, place: place(inode) });
                    return inode;
                }
            }
        }
    }

    /// Returns a node's identity and place.
    pub(super) fn get(&self, inode: u64) -> Option<(Identity, Place)> {
        let slots = lock(&self.slots);
        slots.get(inode).map(|slot| (Identity { inode, rest: slot.rest }, slot.place.clone()))
    }

    /// Takes back `lookups` lookups of a node.
    pub(super) fn forget(&self, inode: u64, lookups: u64) {
        if inode == ROOT_INODE {
            return;
        }
        // The place is dropped outside the lock: it may be the last hold on a chain of directories.
        let _dropped = {
            let mut slots = lock(&self.slots);
            let Some(slot) = slots.get_mut(inode) else { return };
            if slot.lookups < u32::MAX {
                slot.lookups = slot.lookups.saturating_sub(u32::try_from(lookups).unwrap_or(u32::MAX));
            }
            if slot.lookups > 0 {
                return;
            }
            slots.remove(inode)
        };
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        lock(&self.slots).len()
    }
}

/// Returns where a number is looked for when another node has it.
fn next_inode(inode: u64) -> u64 {
    if inode >= u64::MAX >> 1 { FIRST_HASHED } else { inode + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).unwrap()
    }

    fn link(target: &str) -> impl FnOnce(u64) -> Place {
        let target: Arc<[u8]> = target.as_bytes().into();
        move |_| Place::Link(Arc::new(ViewLink { target, time: Time::default() }))
    }

    fn table() -> InodeTable {
        InodeTable::new(Place::View(Arc::new([])), &NodeKey::view(&[]))
    }

    #[test]
    fn numbers_are_stable_and_differ_between_snapshots() {
        let first: SnapshotId = "20261121T053106Z-0123456789abcdef0123456789abcdef".parse().unwrap();
        let second: SnapshotId = "20261121T053106Z-0123456789abcdef0123456789abcdee".parse().unwrap();
        let number = |id| NodeKey::snapshot(id).child(&name("etc")).child(&name("hosts")).inode();
        assert_eq!(number(first), number(first));
        assert_ne!(number(first), number(second));
        assert!(number(first) < 1 << 63);
        assert_eq!(NodeKey::link_group(first, 7), NodeKey::link_group(first, 7));
        assert_ne!(NodeKey::link_group(first, 7), NodeKey::link_group(second, 7));
    }

    #[test]
    fn a_moved_link_is_another_inode() {
        let path = [name("latest")];
        assert_ne!(NodeKey::link(&path, b"snapshots/a"), NodeKey::link(&path, b"snapshots/b"));
    }

    #[test]
    fn nodes_live_as_long_as_the_kernel_holds_them() {
        let table = table();
        let key = NodeKey::link(&[name("x")], b"y");
        let inode = table.intern(&key, link("y"));
        assert_eq!(table.intern(&key, link("y")), inode);
        table.forget(inode, 1);
        assert!(table.get(inode).is_some());
        table.forget(inode, 1);
        assert!(table.get(inode).is_none());
        table.forget(inode, 1);
        table.forget(ROOT_INODE, 1 << 40);
        assert!(table.get(ROOT_INODE).is_some());
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn a_million_nodes_fit_into_memory() {
        assert!(size_of::<(u64, Slot)>() <= 48, "{} bytes", size_of::<(u64, Slot)>());
    }

    #[test]
    fn colliding_numbers_are_told_apart() {
        let table = table();
        let key = NodeKey::link(&[name("x")], b"y");
        let mut same_number = key;
        same_number.0[10] ^= 1;
        let (first, second) = (table.intern(&key, link("a")), table.intern(&same_number, link("b")));
        assert_eq!(second, first + 1);
        assert_eq!(table.intern(&same_number, link("b")), second);
        assert_eq!(table.intern(&key, link("a")), first);
        assert_eq!(next_inode(u64::MAX >> 1), FIRST_HASHED);
    }
}
