//! Snapshots as a read-only filesystem, without FUSE types; testable without a mount.
//!
//! Owns the layout of a mount, inode numbers, lifetimes, and reading ahead. Leaves the kernel's protocol and
//! errno to `fuse`, and the decoding of what is stored to `repo`.

mod attributes;
mod dense_map;
mod directory;
mod error;
mod file;
mod in_use;
mod inodes;
mod listing;
mod neighbours;
mod node;
mod pages;
mod prefetch;
mod readdir;
mod short_name;
mod stored;
mod streams;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tests;
mod views;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::format::snapshot::Manifest;
use crate::format::tree::{EntryKind, Xattr};
use crate::path::{NAME_MAX_BYTES, Name};
use crate::repo::readers::Hold;
use crate::repo::{RepoError, Repository};
use directory::{Cursors, Directory};
use file::{ReadFile, ReadFiles};
use inodes::{InodeTable, NodeKey, Place};
use listing::Listing;
use neighbours::Neighbours;
use node::Node;
use pages::Pages;
use prefetch::Prefetcher;
use stored::EntryCache;
use streams::Advice;

pub use attributes::{NodeAttributes, NodeKind};
pub use error::VfsError;
pub use inodes::ROOT_INODE;
pub use pages::PageCache;
pub use readdir::{DirectoryItem, Visit};

/// So long the size of a store is waited for where the index is still coming.
const SIZE_PATIENCE: Duration = Duration::from_secs(1);
/// How the names of POSIX access control lists begin.
const ACCESS_LIST: &[u8] = b"system.posix_acl_";

/// What stands at the root.
#[derive(Debug, Clone)]
pub enum RootView {
    /// Views over all snapshots (`snapshots/`, `sources/`, `hosts/`, `tags/`, `latest`), kept up to date.
    All,
    /// The root directory of this one snapshot.
    Snapshot(Box<Manifest>),
}

/// Whose files are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// Owner, group and mode are those that were stored.
    AsStored,
    /// Everything belongs to this user and group; only the owner may read, and nobody else enters.
    Of {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
    },
}

/// How a store is shown.
#[derive(Debug, Clone)]
pub struct VfsOptions {
    /// What stands at the root.
    pub root: RootView,
    /// Whose files are shown.
    pub ownership: Ownership,
    /// Threads that read ahead of streams; 0 reads nothing ahead.
    pub prefetch_threads: usize,
}

/// How long an answer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Less than a second: views follow the list of snapshots.
    Brief,
    /// For ever: what is inside a snapshot never changes.
    Unlimited,
}

/// What a lookup found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// A node, one of whose lookups the caller holds now.
    Found(NodeAttributes),
    /// There is no such name, for this long.
    Absent(Lifetime),
}

/// What is sought in a file with holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// The next byte that is data.
    Data,
    /// The next byte that is a hole; the end of the file counts as one.
    Hole,
}

/// What `df` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistics {
    /// Bytes that the store or the snapshot takes.
    pub bytes: u64,
    /// Files, directories and everything else.
    pub files: u64,
}

/// A store as a read-only filesystem. All methods may be called from any thread.
pub struct Vfs {
    repo: Arc<Repository>,
    ownership: Ownership,
    root: Root,
    inodes: Arc<InodeTable>,
    entries: EntryCache,
    files: ReadFiles,
    cursors: Cursors,
    pages: Arc<Pages>,
    neighbours: Arc<Neighbours>,
    prefetcher: Prefetcher,
}

/// What stands at the root, as it is kept.
enum Root {
    All(Listing),
    Snapshot(Arc<Directory>),
}

impl Vfs {
    /// Prepares the view; lists the snapshots where all are shown, and follows the list from then on.
    ///
    /// # Errors
    /// Fails if the snapshots cannot be listed or a thread cannot be started.
    pub fn new(repo: Arc<Repository>, options: VfsOptions) -> Result<Self, RepoError> {
        let (root, place, key) = match options.root {
            RootView::All => {
                let listing = node::follow_snapshots(&repo)?;
                (Root::All(listing), Place::View(Arc::new([])), NodeKey::view(&[]))
            }
            RootView::Snapshot(manifest) => {
                repo.hold(manifest.id, Hold::WhileAlive);
                let directory = Arc::new(Directory::root(ROOT_INODE, Arc::new(*manifest)));
                let key = directory.key;
                (Root::Snapshot(Arc::clone(&directory)), Place::Directory(directory), key)
            }
        };
        let pages = Arc::new(Pages::default());
        let prefetcher = Prefetcher::start(&repo, &pages, options.prefetch_threads)
            .map_err(|source| node::thread_error("reading ahead", source))?;
        let inodes = Arc::new(InodeTable::new(place, &key));
        let neighbours =
            Arc::new(Neighbours::new(Arc::clone(&repo), Arc::clone(&inodes), Arc::clone(&pages)));
        Ok(Self {
            repo,
            ownership: options.ownership,
            root,
            inodes,
            entries: EntryCache::new(),
            files: ReadFiles::new(),
            cursors: Cursors::new(),
            pages,
            neighbours,
            prefetcher,
        })
    }

    /// Sets where small files, and what stands around a random read, are handed over to before they are asked for.
    pub fn attach(&self, pages: Box<dyn PageCache>) {
        self.pages.attach(pages);
    }

    /// Finds `name` in a directory. Counts one lookup of what it finds: see [`Self::forget`].
    ///
    /// # Errors
    /// Fails if `parent` is no directory or cannot be read, or the name is longer than any can be.
    pub fn lookup(&self, parent: u64, name: &[u8]) -> Result<Lookup, VfsError> {
        if name.len() > NAME_MAX_BYTES {
            return Err(VfsError::NameTooLong(name.len()));
        }
        let Ok(name) = Name::new(name) else { return Ok(Lookup::Absent(Lifetime::Brief)) };
        match self.place(parent)?.1 {
            Place::View(path) => {
                let Some(node) = self.view(&path)?.1.nodes().get(&name).cloned() else {
                    return Ok(Lookup::Absent(Lifetime::Brief));
                };
                Ok(Lookup::Found(self.intern_view(&path, &name, &node)))
            }
            Place::Directory(directory) => {
                let found = self.repo.find_entry(&directory.tree, &name);
                let found = found.map_err(|error| directory.snapshot.explain(&self.repo, error));
                let entry = found.map_err(VfsError::unreadable(|| directory.label_of(&name)))?;
                let Some(entry) = entry else { return Ok(Lookup::Absent(Lifetime::Unlimited)) };
                let stored = Arc::new(stored::StoredEntry::new(entry));
                Ok(Lookup::Found(self.intern_entry(&directory, &stored)))
            }
            Place::Link(_) => Err(VfsError::NotADirectory("a link".to_owned())),
            Place::Entry { parent, name } => Err(VfsError::NotADirectory(parent.label_of(&name.name()?))),
        }
    }

    /// Takes back `lookups` lookups of a node; its number may be unknown afterwards.
    pub fn forget(&self, inode: u64, lookups: u64) {
        self.inodes.forget(inode, lookups);
    }

    /// Returns what `stat` shows of a node.
    ///
    /// # Errors
    /// Fails if the node is gone or its metadata cannot be read.
    pub fn attributes(&self, inode: u64) -> Result<NodeAttributes, VfsError> {
        Ok(self.attributes_of(inode, &self.node(inode)?))
    }

    /// Returns the target of a symbolic link.
    ///
    /// # Errors
    /// Fails if the node is no link or cannot be read.
    pub fn read_link(&self, inode: u64) -> Result<Vec<u8>, VfsError> {
        let node = self.node(inode)?;
        match &node {
            Node::Link(link) => Ok(link.target.to_vec()),
            Node::Entry { stored, .. } => match &stored.entry.kind {
                EntryKind::Symlink(target) => Ok(target.clone()),
                _ => Err(VfsError::NotALink(node.label())),
            },
            Node::View { .. } | Node::Root(_) => Err(VfsError::NotALink(node.label())),
        }
    }

    /// Returns the names of a node's extended attributes, each followed by a zero byte.
    ///
    /// # Errors
    /// Fails if the node cannot be read.
    pub fn xattr_names(&self, inode: u64) -> Result<Vec<u8>, VfsError> {
        let node = self.node(inode)?;
        Ok(self.shown_xattrs(&node).flat_map(|xattr| xattr.name.iter().copied().chain([0])).collect())
    }

    /// Returns the value of an extended attribute.
    ///
    /// # Errors
    /// Fails if the node has none of that name, or it cannot be read.
    pub fn xattr(&self, inode: u64, name: &[u8]) -> Result<Vec<u8>, VfsError> {
        let node = self.node(inode)?;
        let Some(xattr) = self.shown_xattrs(&node).find(|xattr| xattr.name == name) else {
            return Err(VfsError::NoAttribute);
        };
        self.repo.value(&xattr.value).map_err(VfsError::unreadable(|| node.label()))
    }

    /// Access control lists grant rights to users that a view with an owner of its own does not let in.
    fn shown_xattrs<'a>(&self, node: &'a Node) -> impl Iterator<Item = &'a Xattr> {
        let hides_lists = self.ownership != Ownership::AsStored;
        let xattrs = node.stored_attributes().map_or(&[][..], |attributes| &attributes.xattrs);
        xattrs.iter().filter(move |xattr| !(hides_lists && xattr.name.starts_with(ACCESS_LIST)))
    }

    /// Fills `buffer` from `offset` of a regular file; returns fewer bytes only at the end of the file.
    ///
    /// # Errors
    /// Fails if the node is no regular file, or the bytes cannot be read: damaged ones are never returned.
    pub fn read(&self, inode: u64, offset: u64, buffer: &mut [u8]) -> Result<usize, VfsError> {
        let file = self.file(inode)?;
        let advice = file.note_read(offset, buffer.len());
        if let Some(Advice::ReadAhead(range)) = &advice {
            self.prefetcher.request(&file, range.clone());
        }
        if offset == 0
            && let Node::Entry { parent, stored, .. } = file.node()
            && let Some(handover) = self.neighbours.note_read(parent, stored)
        {
            self.prefetcher.hand_over(&self.neighbours, handover);
        }
        let read = file.reader().read_at(&self.repo, offset, buffer);
        if let (Ok(_), Some(Advice::HandOver)) = (&read, advice) {
            self.prefetcher.hand_over_around(&file, inode, offset);
        }
        read.map_err(|error| match file.node() {
            Node::Entry { parent, .. } => parent.snapshot.explain(&self.repo, error),
            _ => error,
        })
        .map_err(VfsError::unreadable(|| file.label()))
    }

    /// Returns the next offset from `offset` on that is data or a hole; nothing beyond the end of the file.
    ///
    /// # Errors
    /// Fails if the node is no regular file or its content list cannot be read.
    pub fn seek(&self, inode: u64, offset: u64, seek: Seek) -> Result<Option<u64>, VfsError> {
        let file = self.file(inode)?;
        let found = match seek {
            Seek::Data => file.reader().seek_data(&self.repo, offset),
            Seek::Hole => file.reader().seek_hole(&self.repo, offset),
        };
        found.map_err(VfsError::unreadable(|| file.label()))
    }

    /// Returns a regular file as it is read: with the state of those who read it lately, if there are any.
    fn file(&self, inode: u64) -> Result<Arc<ReadFile>, VfsError> {
        let (identity, place) = self.place(inode)?;
        if let Some(file) = self.files.get(identity) {
            return Ok(file);
        }
        let file = Arc::new(ReadFile::new(self.node_at(identity, place)?)?);
        self.files.insert(identity, Arc::clone(&file));
        Ok(file)
    }

    /// Returns what `df` shows.
    ///
    /// # Errors
    /// Fails if the index cannot be read.
    pub fn statistics(&self) -> Result<Statistics, VfsError> {
        match &self.root {
            Root::All(listing) => {
                self.repo.wait_until_followed(SIZE_PATIENCE);
                let bytes = self.repo.index().pack_bytes().map_err(RepoError::from);
                let bytes = bytes.map_err(VfsError::unreadable(|| "the local index".to_owned()))?;
                Ok(Statistics { bytes, files: listing.known().files })
            }
            Root::Snapshot(directory) => {
                let totals = &directory.snapshot.totals;
                Ok(Statistics { bytes: totals.bytes, files: node::count_nodes(totals) })
            }
        }
    }
}

/// Locks a mutex whose data stays valid even if a holder panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
