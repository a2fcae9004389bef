//! From inode numbers to nodes and back: resolving places, giving out numbers, and what `stat` shows.

use std::sync::Arc;

use super::attributes::{Extent, NodeAttributes, NodeKind, stored, synthetic};
use super::directory::Directory;
use super::inodes::{Identity, NodeKey, Place, ViewLink};
use super::listing::{Generation, Listing, Views};
use super::short_name::ShortName;
use super::stored::StoredEntry;
use super::views::{ViewDirectory, ViewNode, arrange};
use super::{Lifetime, Root, Vfs, VfsError};
use crate::format::snapshot::{Marks, SnapshotTotals};
use crate::format::tree::{Attributes, EntryKind, Time};
use crate::id::SnapshotId;
use crate::path::Name;
use crate::repo::snapshots::Snapshot;
use crate::repo::{RepoError, Repository};

/// A node with its metadata.
pub(super) enum Node {
    /// A directory of a view.
    View { path: Arc<[Name]>, directory: Arc<ViewDirectory> },
    /// A link of a view.
    Link(Arc<ViewLink>),
    /// The root of a snapshot.
    Root(Arc<Directory>),
    /// An entry of a directory. A hard link has the metadata of the name by which the file was looked up first.
    Entry { parent: Arc<Directory>, name: Name, stored: Arc<StoredEntry> },
}

impl Node {
    /// Returns the node's path, for messages.
    pub(super) fn label(&self) -> String {
        match self {
            Self::View { path, .. } => view_label(path),
            Self::Link(link) => format!("the link to {}", crate::path::escape(&link.target)),
            Self::Root(directory) => directory.label(),
            Self::Entry { parent, name, .. } => parent.label_of(name),
        }
    }

    /// Returns the stored metadata, which only what is inside a snapshot has.
    pub(super) fn stored_attributes(&self) -> Option<&Attributes> {
        match self {
            Self::View { .. } | Self::Link(_) => None,
            Self::Root(directory) => Some(&directory.snapshot.root_attributes),
            Self::Entry { stored, .. } => Some(&stored.entry.attributes),
        }
    }
}

impl Vfs {
    /// Returns where a node stands, for somebody who reads it.
    pub(super) fn place(&self, inode: u64) -> Result<(Identity, Place), VfsError> {
        let (identity, place) = self.inodes.get(inode).ok_or(VfsError::Stale(inode))?;
        match &place {
            Place::Directory(directory) => directory.snapshot.note_use(&self.repo),
            Place::Entry { parent, .. } => parent.snapshot.note_use(&self.repo),
            Place::View(_) | Place::Link(_) => {}
        }
        Ok((identity, place))
    }

    /// Returns a node with its metadata, from memory or from its page.
    pub(super) fn node(&self, inode: u64) -> Result<Node, VfsError> {
        let (identity, place) = self.place(inode)?;
        self.node_at(identity, place)
    }

    /// Returns the node that stands at a place.
    pub(super) fn node_at(&self, identity: Identity, place: Place) -> Result<Node, VfsError> {
        match place {
            Place::View(path) => Ok(Node::View { directory: self.view(&path)?.1, path }),
            Place::Link(link) => Ok(Node::Link(link)),
            Place::Directory(directory) => match &directory.above {
                None => Ok(Node::Root(directory)),
                Some((parent, name)) => self.entry(identity, parent, name),
            },
            Place::Entry { parent, name } => self.entry(identity, &parent, &name.name()?),
        }
    }

    /// Returns the newest list of a view, and of which generation it is.
    pub(super) fn view(&self, path: &[Name]) -> Result<(Generation, Arc<ViewDirectory>), VfsError> {
        let found = match &self.root {
            Root::All(listing) => {
                let views = listing.current();
                views.root.directory(path).map(|directory| (views.generation, directory))
            }
            Root::Snapshot(_) => None,
        };
        found.ok_or_else(|| VfsError::NotFound(view_label(path)))
    }

    fn entry(&self, identity: Identity, parent: &Arc<Directory>, name: &Name) -> Result<Node, VfsError> {
        let stored = match self.entries.get(identity) {
            Some(stored) => stored,
            None => {
                let found = self.repo.find_entry(&parent.tree, name);
                let entry = found
                    .map_err(|error| parent.snapshot.explain(&self.repo, error))
                    .map_err(VfsError::unreadable(|| parent.label_of(name)))?
                    .ok_or_else(|| VfsError::NotFound(parent.label_of(name)))?;
                let stored = Arc::new(StoredEntry::new(entry));
                self.entries.insert(identity, Arc::clone(&stored));
                stored
            }
        };
        Ok(Node::Entry { parent: Arc::clone(parent), name: name.clone(), stored })
    }

    /// Gives a node of a view its number, and counts one lookup.
    pub(super) fn intern_view(&self, path: &[Name], name: &Name, node: &ViewNode) -> NodeAttributes {
        let path: Vec<Name> = path.iter().chain([name]).cloned().collect();
        let key = view_key(&path, node);
        let inode = self.inodes.intern(&key, |inode| match node {
            ViewNode::Directory(_) => Place::View(path.into()),
            ViewNode::Link { target, time } => {
                Place::Link(Arc::new(ViewLink { target: Arc::clone(target), time: *time }))
            }
            ViewNode::Snapshot(manifest) => {
                Place::Directory(Arc::new(Directory::root(inode, Arc::clone(manifest))))
            }
        });
        match node {
            ViewNode::Directory(directory) => self.view_attributes(inode, directory),
            ViewNode::Link { target, time } => self.link_attributes(inode, target, *time),
            ViewNode::Snapshot(manifest) => {
                self.snapshot_attributes(inode, &manifest.root_attributes, manifest.root.entries)
            }
        }
    }

    /// Gives an entry its number, counts one lookup, and keeps its metadata at hand. What is kept already stays: it knows
    /// what was costly to find out.
    pub(super) fn intern_entry(&self, parent: &Arc<Directory>, stored: &Arc<StoredEntry>) -> NodeAttributes {
        let key = parent.key_of(stored);
        let inode = self.inodes.intern(&key, |inode| match &stored.entry.kind {
            EntryKind::Directory(tree) => Place::Directory(Arc::new(Directory::child(
                inode,
                key,
                parent,
                stored.entry.name.clone(),
                *tree,
            ))),
            _ => Place::Entry { parent: Arc::clone(parent), name: ShortName::new(&stored.entry.name) },
        });
        let identity = key.identity(inode);
        let kept = self.entries.get(identity).unwrap_or_else(|| {
            self.entries.insert(identity, Arc::clone(stored));
            Arc::clone(stored)
        });
        self.entry_attributes(inode, &kept)
    }

    /// Returns what `stat` shows of a node.
    pub(super) fn attributes_of(&self, inode: u64, node: &Node) -> NodeAttributes {
        match node {
            Node::View { directory, .. } => self.view_attributes(inode, directory),
            Node::Link(link) => self.link_attributes(inode, &link.target, link.time),
            Node::Root(directory) => {
                let snapshot = &directory.snapshot;
                self.snapshot_attributes(inode, &snapshot.root_attributes, snapshot.root.entries)
            }
            Node::Entry { stored, .. } => self.entry_attributes(inode, stored),
        }
    }

    fn view_attributes(&self, inode: u64, directory: &ViewDirectory) -> NodeAttributes {
        let entries = directory.nodes().len() as u64;
        synthetic(inode, NodeKind::Directory, entries, directory.time(), self.ownership)
    }

    fn link_attributes(&self, inode: u64, target: &[u8], time: Time) -> NodeAttributes {
        synthetic(inode, NodeKind::Symlink, target.len() as u64, time, self.ownership)
    }

    fn snapshot_attributes(&self, inode: u64, attributes: &Attributes, entries: u64) -> NodeAttributes {
        let lifetime = match &self.root {
            Root::All(_) => Lifetime::Brief,
            Root::Snapshot(_) => Lifetime::Unlimited,
        };
        let extent = Extent { links: 1, size: entries, blocks: 0, lifetime };
        stored(inode, NodeKind::Directory, attributes, extent, self.ownership)
    }

    fn entry_attributes(&self, inode: u64, entry: &StoredEntry) -> NodeAttributes {
        let blocks = entry.blocks(&self.repo);
        let entry = &entry.entry;
        let (links, size) = match &entry.kind {
            EntryKind::Directory(tree) => (1, tree.entries),
            _ => (entry.link.map_or(1, |link| link.links), entry.size()),
        };
        let extent = Extent { links, size, blocks, lifetime: Lifetime::Unlimited };
        stored(inode, NodeKind::of(&entry.kind), &entry.attributes, extent, self.ownership)
    }
}

/// Returns the key of a node of a view.
pub(super) fn view_key(path: &[Name], node: &ViewNode) -> NodeKey {
    match node {
        ViewNode::Directory(_) => NodeKey::view(path),
        ViewNode::Link { target, .. } => NodeKey::link(path, target),
        ViewNode::Snapshot(manifest) => NodeKey::snapshot(manifest.id),
    }
}

fn view_label(path: &[Name]) -> String {
    let names: Vec<_> = path.iter().map(Name::to_string).collect();
    format!("/{}", names.join("/"))
}

/// Lists the snapshots, and starts to follow the list.
pub(super) fn follow_snapshots(repo: &Arc<Repository>) -> Result<Listing, RepoError> {
    let mut seen = Seen::default();
    let views = load_views(repo, &mut seen)?.unwrap_or_else(|| seen.views(&[]));
    let repo = Arc::clone(repo);
    let load = move || load_views(&repo, &mut seen);
    Listing::start(views, Box::new(load)).map_err(|source| thread_error("listing snapshots", source))
}

/// The list that was arranged last.
#[derive(Default)]
struct Seen {
    snapshots: Vec<(SnapshotId, Marks)>,
    generation: Generation,
}

impl Seen {
    fn views(&self, snapshots: &[Snapshot]) -> Views {
        let files = snapshots.iter().map(|s| count_nodes(&s.manifest.totals)).fold(0, u64::saturating_add);
        Views { generation: self.generation, root: arrange(snapshots, self.generation), files }
    }
}

/// Arranges the snapshots that the store lists, unless they are those that were `seen` last.
fn load_views(repo: &Repository, seen: &mut Seen) -> Result<Option<Views>, RepoError> {
    let snapshots = repo.snapshots()?;
    let listed: Vec<_> = snapshots.iter().map(|s| (s.manifest.id, s.marks)).collect();
    if listed == seen.snapshots {
        return Ok(None);
    }
    // Nobody waits for it: who reads what the index does not know yet has it brought first.
    repo.follow();
    *seen = Seen { snapshots: listed, generation: seen.generation + 1 };
    Ok(Some(seen.views(&snapshots)))
}

/// Returns the files, directories and others of a snapshot.
pub(super) fn count_nodes(totals: &SnapshotTotals) -> u64 {
    totals.files.saturating_add(totals.directories).saturating_add(totals.others)
}

/// Describes a thread that did not start.
pub(super) fn thread_error(purpose: &str, source: std::io::Error) -> RepoError {
    RepoError::Local { operation: "start the thread for", path: purpose.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::super::support::{Sandbox, directory};
    use super::*;
    use crate::format::snapshot::{Completeness, MarkState};

    #[test]
    fn the_views_follow_what_is_accepted() {
        let sandbox = Sandbox::new();
        let id = sandbox.commit_as(Completeness::Suspicious, "db", directory([])).id;
        let mut seen = Seen::default();
        let mut has_latest = || {
            let views = load_views(&sandbox.repo, &mut seen).unwrap();
            views.map(|views| views.root.nodes().contains_key(&Name::new(b"latest").unwrap()))
        };
        assert_eq!(has_latest(), Some(false));
        assert_eq!(has_latest(), None, "nothing is new");
        sandbox.repo.mark(id, MarkState::Accepted).unwrap();
        assert_eq!(has_latest(), Some(true));
    }
}
