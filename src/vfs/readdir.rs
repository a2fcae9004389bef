//! Reading directories, with and without the attributes of their entries.
//!
//! A cookie counts the entries before a position: 0 is the start, 1 stands behind `.`, 2 behind `..`. Inside
//! a snapshot it stays valid for ever. In a view its upper half names the list that it counts in: the one that was
//! shown when reading began.

use std::sync::Arc;

use super::attributes::synthetic;
use super::directory::Directory;
use super::inodes::{Identity, NodeKey, Place, ROOT_INODE};
use super::listing::Generation;
use super::node::view_key;
use super::stored::StoredEntry;
use super::views::{ViewDirectory, ViewNode, snapshots_directory};
use super::{NodeAttributes, NodeKind, Root, Vfs, VfsError, lock};
use crate::format::tree::Time;
use crate::path::Name;

/// Entries before the first one that has a name of its own: `.` and `..`.
const DOTS: u64 = 2;
/// Bits of a view's cookie that count entries.
const POSITION_BITS: u32 = 32;

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

impl Vfs {
    /// Visits the entries behind `cookie` in order, until the visitor is full or there are no more.
    ///
    /// # Errors
    /// Fails if the node is no directory, or the entry at `cookie` cannot be read; an unreadable one further on just
    /// ends the visit. Where a page of the directory is damaged, that is after all entries that can be read.
    pub fn read_directory(
        &self,
        inode: u64,
        cookie: u64,
        visit: &mut dyn FnMut(&DirectoryItem<'_>) -> Visit,
    ) -> Result<(), VfsError> {
        self.walk(inode, cookie, &mut |found, cookie| {
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
        inode: u64,
        cookie: u64,
        visit: &mut dyn FnMut(&DirectoryItem<'_>, &NodeAttributes) -> Visit,
    ) -> Result<(), VfsError> {
        self.walk(inode, cookie, &mut |found, cookie| {
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

    /// Visits what is found behind `cookie`, each with the cookie behind it.
    fn walk(&self, inode: u64, cookie: u64, visit: &mut Visitor<'_>) -> Result<(), VfsError> {
        let (identity, place) = self.place(inode)?;
        match place {
            Place::View(path) => self.walk_view(inode, &path, cookie, visit),
            Place::Directory(directory) => self.walk_stored(identity, inode, &directory, cookie, visit),
            Place::Link(_) => Err(VfsError::NotADirectory("a link".to_owned())),
            Place::Entry { parent, name } => Err(VfsError::NotADirectory(parent.label_of(&name.name()?))),
        }
    }

    fn walk_stored(
        &self,
        identity: Identity,
        inode: u64,
        directory: &Arc<Directory>,
        cookie: u64,
        visit: &mut Visitor<'_>,
    ) -> Result<(), VfsError> {
        let above = match (&directory.above, &self.root) {
            (Some((above, _)), _) => above.inode,
            (None, Root::Snapshot(_)) => ROOT_INODE,
            (None, Root::All(_)) => NodeKey::view(&[snapshots_directory()]).inode(),
        };
        let cursor = self.cursors.of(identity, directory);
        let mut cursor = lock(&cursor);
        let mut visited = 0;
        let mut visit = |found: &Found, position| {
            visited += 1;
            visit(found, position)
        };
        walk_from(cookie, inode, above, &mut visit, &mut |ordinal| {
            let stored = cursor.entry(&self.repo, ordinal)?;
            Ok(stored.map(|stored| Found::Stored(Arc::clone(directory), stored)))
        })?;
        if visited == 0
            && let Some(handover) = self.neighbours.note_listed(directory, cursor.small_files())
        {
            self.prefetcher.hand_over(&self.neighbours, handover);
        }
        Ok(())
    }

    fn walk_view(
        &self,
        inode: u64,
        path: &Arc<[Name]>,
        cookie: u64,
        visit: &mut Visitor<'_>,
    ) -> Result<(), VfsError> {
        let above = match path.split_last() {
            None | Some((_, [])) => ROOT_INODE,
            Some((_, above)) => NodeKey::view(above).inode(),
        };
        let position = cookie & ((1 << POSITION_BITS) - 1);
        let (generation, view) =
            self.view_to_read(path, (position > 0).then_some(cookie >> POSITION_BITS))?;
        let first = usize::try_from(position.saturating_sub(DOTS)).unwrap_or(usize::MAX);
        let mut nodes = view.nodes().iter().skip(first);
        let mut visit = |found: &Found, position| visit(found, generation << POSITION_BITS | position);
        walk_from(position, inode, above, &mut visit, &mut |_| {
            let node = nodes.next();
            Ok(node.map(|(name, node)| Found::View(Arc::clone(path), name.clone(), node.clone())))
        })
    }

    /// Returns the list of a view as it was in a generation, or as it is now, with its generation.
    fn view_to_read(
        &self,
        path: &[Name],
        generation: Option<Generation>,
    ) -> Result<(Generation, Arc<ViewDirectory>), VfsError> {
        let past = match &self.root {
            Root::All(listing) => generation.and_then(|generation| listing.past(generation)),
            Root::Snapshot(_) => None,
        };
        match past.and_then(|views| Some((views.generation, views.root.directory(path)?))) {
            Some(found) => Ok(found),
            None => self.view(path),
        }
    }
}

type Visitor<'a> = dyn FnMut(&Found, u64) -> Visit + 'a;

/// Visits `.`, `..` and what stands at the ordinals behind them, from a position on.
fn walk_from(
    start: u64,
    inode: u64,
    above: u64,
    visit: &mut Visitor<'_>,
    at: &mut dyn FnMut(u64) -> Result<Option<Found>, VfsError>,
) -> Result<(), VfsError> {
    let mut position = start;
    loop {
        let found = match position {
            0 => Some(Found::Dot(b".", inode)),
            1 => Some(Found::Dot(b"..", above)),
            _ => match at(position - DOTS) {
                Ok(found) => found,
                Err(error) if position == start => return Err(error),
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

fn kind_of(node: &ViewNode) -> NodeKind {
    match node {
        ViewNode::Directory(_) | ViewNode::Snapshot(_) => NodeKind::Directory,
        ViewNode::Link { .. } => NodeKind::Symlink,
    }
}
