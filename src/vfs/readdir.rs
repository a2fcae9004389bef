//! Reading directories, with and without the attributes of their entries.
//!
//! A cookie counts the entries before a position: 0 is the start, 1 stands behind `.`, 2 behind `..`. Inside
//! a snapshot it stays valid for ever; in a view it counts in the list as it was when reading began.

use std::sync::{Arc, Mutex};

use super::attributes::synthetic;
use super::directory::{Directory, DirectoryCursor};
use super::inodes::{NodeKey, Place, ROOT_INODE};
use super::node::view_key;
use super::stored::StoredEntry;
use super::views::{ViewNode, snapshots_directory};
use super::{NodeAttributes, NodeKind, Root, Vfs, VfsError, lock};
use crate::format::tree::Time;
use crate::path::Name;
use crate::repo::Repository;

/// Entries before the first one that has a name of its own: `.` and `..`.
const DOTS: u64 = 2;

/// One entry of a directory as `readdir` shows it.
#[derive(Debug, Clone, Copy)]
pub struct DirectoryItem<'a> {
    /// Its name, or `.` or `..`.
    pub name: &'a [u8],
    /// Its inode number. A colliding one may be another than a lookup gives.
    pub inode: u64,
    /// What it is.
    pub kind: NodeKind,
    /// The position behind it.
    pub cookie: u64,
}

/// What a visitor did with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    /// Took it; the next one may follow.
    Taken,
    /// Had no room for it.
    Full,
}

/// A directory that somebody has open.
pub(super) struct OpenDirectory {
    inode: u64,
    above: u64,
    entries: Mutex<Entries>,
}

enum Entries {
    /// The list as it was when it was opened or rewound.
    View {
        path: Arc<[Name]>,
        nodes: Vec<(Name, ViewNode)>,
    },
    Stored(DirectoryCursor),
}

/// An entry at a position.
enum Found {
    Dot(&'static [u8], u64),
    View(Arc<[Name]>, Name, ViewNode),
    Stored(Arc<Directory>, Arc<StoredEntry>),
}

impl Found {
    fn name(&self) -> &[u8] {
        match self {
            Self::Dot(name, _) => name,
            Self::View(_, name, _) => name.as_bytes(),
            Self::Stored(_, stored) => stored.entry.name.as_bytes(),
        }
    }
}

impl Entries {
    fn at(&mut self, repo: &Repository, ordinal: u64) -> Result<Option<Found>, VfsError> {
        match self {
            Self::View { path, nodes } => {
                let node = usize::try_from(ordinal).ok().and_then(|ordinal| nodes.get(ordinal));
                Ok(node.map(|(name, node)| Found::View(Arc::clone(path), name.clone(), node.clone())))
            }
            Self::Stored(cursor) => {
                let stored = cursor.entry(repo, ordinal)?;
                Ok(stored.map(|stored| Found::Stored(Arc::clone(cursor.directory()), stored)))
            }
        }
    }
}

impl Vfs {
    /// Opens a directory and returns its handle, to be released with [`Self::release_directory`].
    ///
    /// # Errors
    /// Fails if the node is no directory, or is gone.
    pub fn open_directory(&self, inode: u64) -> Result<u64, VfsError> {
        let (above, entries) = match self.place(inode)?.1 {
            Place::View(path) => {
                let above = match path.split_last() {
                    None | Some((_, [])) => ROOT_INODE,
                    Some((_, above)) => NodeKey::view(above).inode(),
                };
                (above, Entries::View { nodes: self.view_nodes(&path)?, path })
            }
            Place::Directory(directory) => {
                let above = match (&directory.above, &self.root) {
                    (Some((above, _)), _) => above.inode,
                    (None, Root::Snapshot(_)) => ROOT_INODE,
                    (None, Root::All(_)) => NodeKey::view(&[snapshots_directory()]).inode(),
                };
                (above, Entries::Stored(DirectoryCursor::new(directory)))
            }
            Place::Link(_) => return Err(VfsError::NotADirectory("a link".to_owned())),
            Place::Entry { parent, name } => {
                return Err(VfsError::NotADirectory(parent.label_of(&name.name()?)));
            }
        };
        Ok(self.directories.insert(OpenDirectory { inode, above, entries: Mutex::new(entries) }))
    }

    /// Tells whether the entries of a directory never change.
    #[must_use]
    pub fn is_constant_directory(&self, inode: u64) -> bool {
        matches!(self.inodes.get(inode), Some((_, Place::Directory(_))))
    }

    /// Visits the entries behind `cookie` in order, until the visitor is full or there are no more.
    ///
    /// # Errors
    /// Fails if the entry at `cookie` cannot be read; an unreadable one further on just ends the visit.
    pub fn read_directory(
        &self,
        handle: u64,
        cookie: u64,
        visit: &mut dyn FnMut(&DirectoryItem<'_>) -> Visit,
    ) -> Result<(), VfsError> {
        self.walk(handle, cookie, &mut |found, cookie| {
            let (inode, kind) = match found {
                Found::Dot(_, inode) => (*inode, NodeKind::Directory),
                Found::View(path, name, node) => {
                    let path: Vec<Name> = path.iter().chain([name]).cloned().collect();
                    (view_key(&path, node).inode(), kind_of(node))
                }
                Found::Stored(parent, stored) => {
                    (parent.key_of(stored).inode(), NodeKind::of(&stored.entry.kind))
                }
            };
            visit(&DirectoryItem { name: found.name(), inode, kind, cookie })
        })
    }

    /// Visits entries like [`Self::read_directory`], with what `stat` shows of each. Counts one lookup of each
    /// entry that was taken, but for `.` and `..`.
    ///
    /// # Errors
    /// Fails as [`Self::read_directory`] does.
    pub fn read_directory_plus(
        &self,
        handle: u64,
        cookie: u64,
        visit: &mut dyn FnMut(&DirectoryItem<'_>, &NodeAttributes) -> Visit,
    ) -> Result<(), VfsError> {
        self.walk(handle, cookie, &mut |found, cookie| {
            let attributes = match found {
                Found::Dot(_, inode) => {
                    synthetic(*inode, NodeKind::Directory, 0, Time::default(), self.ownership)
                }
                Found::View(path, name, node) => self.intern_view(path, name, node),
                Found::Stored(parent, stored) => self.intern_entry(parent, stored),
            };
            let NodeAttributes { inode, kind, .. } = attributes;
            let visited = visit(&DirectoryItem { name: found.name(), inode, kind, cookie }, &attributes);
            if visited == Visit::Full && !matches!(found, Found::Dot(..)) {
                self.forget(inode, 1);
            }
            visited
        })
    }

    /// Closes a directory.
    pub fn release_directory(&self, handle: u64) {
        self.directories.remove(handle);
    }

    /// Visits what is found behind `cookie`, each with the position behind it.
    fn walk(
        &self,
        handle: u64,
        cookie: u64,
        visit: &mut dyn FnMut(&Found, u64) -> Visit,
    ) -> Result<(), VfsError> {
        let directory = self.directories.get(handle)?;
        let mut entries = lock(&directory.entries);
        if let (0, Entries::View { path, nodes }) = (cookie, &mut *entries) {
            *nodes = self.view_nodes(path)?;
        }
        let mut position = cookie;
        loop {
            let found = match position {
                0 => Some(Found::Dot(b".", directory.inode)),
                1 => Some(Found::Dot(b"..", directory.above)),
                _ => match entries.at(&self.repo, position - DOTS) {
                    Ok(found) => found,
                    Err(error) if position == cookie => return Err(error),
                    Err(_) => None,
                },
            };
            let Some(found) = found else { return Ok(()) };
            position += 1;
            if visit(&found, position) == Visit::Full {
                return Ok(());
            }
        }
    }

    fn view_nodes(&self, path: &[Name]) -> Result<Vec<(Name, ViewNode)>, VfsError> {
        let view = self.view(path)?;
        Ok(view.nodes().iter().map(|(name, node)| (name.clone(), node.clone())).collect())
    }
}

fn kind_of(node: &ViewNode) -> NodeKind {
    match node {
        ViewNode::Directory(_) | ViewNode::Snapshot(_) => NodeKind::Directory,
        ViewNode::Link { .. } => NodeKind::Symlink,
    }
}
