//! Directories of snapshots, and reading them in order from any position in bounded memory.

use std::sync::{Arc, Mutex};

use quick_cache::UnitWeighter;
use quick_cache::sync::Cache;

use super::VfsError;
use super::inodes::{Identity, NodeKey};
use super::stored::StoredEntry;
use crate::format::snapshot::Manifest;
use crate::format::tree::{EntryKind, TreeRef};
use crate::path::{Name, TreePath};
use crate::recent;
use crate::repo::{RepoError, Repository};

/// Entries that a cursor holds at a time.
const BATCH_ENTRIES: usize = 512;
/// Directories that are read at a time before one has to be looked for anew.
const CURSORS: u64 = 32;

/// A directory of a snapshot. Keeps those above it alive, so that the kernel may forget in any order.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) inode: u64,
    pub(super) key: NodeKey,
    pub(super) tree: TreeRef,
    pub(super) snapshot: Arc<Manifest>,
    /// The directory that it is an entry of, and its name there; nothing for the root of a snapshot.
    pub(super) above: Option<(Arc<Directory>, Name)>,
}

impl Directory {
    /// Returns the root directory of a snapshot.
    pub(super) fn root(inode: u64, snapshot: Arc<Manifest>) -> Self {
        Self { inode, key: NodeKey::snapshot(snapshot.id), tree: snapshot.root, snapshot, above: None }
    }

    /// Returns the directory under `name` in `parent`.
    pub(super) fn child(inode: u64, key: NodeKey, parent: &Arc<Self>, name: Name, tree: TreeRef) -> Self {
        let snapshot = Arc::clone(&parent.snapshot);
        Self { inode, key, tree, snapshot, above: Some((Arc::clone(parent), name)) }
    }

    /// Returns the key of an entry: all names of one file have the same.
    pub(super) fn key_of(&self, stored: &StoredEntry) -> NodeKey {
        match stored.entry.link {
            Some(link) if !matches!(stored.entry.kind, EntryKind::Directory(_)) => {
                NodeKey::link_group(self.snapshot.id, link.group)
            }
            _ => self.key.child(&stored.entry.name),
        }
    }

    /// Returns `<id8>:/path`, for messages.
    pub(super) fn label(&self) -> String {
        self.label_below(Vec::new())
    }

    /// Returns the label of the entry `name`.
    pub(super) fn label_of(&self, name: &Name) -> String {
        self.label_below(vec![name])
    }

    fn label_below<'a>(&'a self, mut reversed: Vec<&'a Name>) -> String {
        let mut directory = self;
        while let Some((above, name)) = &directory.above {
            reversed.push(name);
            directory = above;
        }
        let joined: Vec<_> = reversed.iter().rev().map(|name| name.as_bytes()).collect();
        let path = TreePath::parse(&joined.join(&b'/')).unwrap_or_default();
        format!("{}:{path}", self.snapshot.id.short())
    }
}

/// A position in a directory of a snapshot, with a batch of entries around it.
///
/// The ordinal of an entry is its place in the order of names. It never changes, since the directory never
/// does: that makes it a cookie that stays valid for `seekdir` and across calls.
pub(super) struct DirectoryCursor {
    directory: Arc<Directory>,
    /// Number of the batch that is held.
    number: usize,
    batch: Vec<Arc<StoredEntry>>,
    /// The last name of each batch that was ever read, so that a seek starts at the right page.
    last_names: Vec<Name>,
}

impl DirectoryCursor {
    pub(super) fn new(directory: Arc<Directory>) -> Self {
        Self { directory, number: usize::MAX, batch: Vec::new(), last_names: Vec::new() }
    }

    /// Returns the entry with this ordinal, nothing beyond the last.
    pub(super) fn entry(
        &mut self,
        repo: &Repository,
        ordinal: u64,
    ) -> Result<Option<Arc<StoredEntry>>, VfsError> {
        let Ok(ordinal) = usize::try_from(ordinal) else { return Ok(None) };
        self.load(repo, ordinal / BATCH_ENTRIES)?;
        Ok(self.batch.get(ordinal % BATCH_ENTRIES).cloned())
    }

    /// Returns the entries that are held: after the last one was asked for, those before the end.
    pub(super) fn batch(&self) -> &[Arc<StoredEntry>] {
        &self.batch
    }

    /// Makes `number` the batch that is held. After a jump ahead, it walks through those between.
    fn load(&mut self, repo: &Repository, number: usize) -> Result<(), VfsError> {
        while self.number != number {
            let next = number.min(self.last_names.len());
            let after = next.checked_sub(1).and_then(|before| self.last_names.get(before));
            let batch = self.read_batch(repo, after)?;
            let Some(last) = batch.last() else {
                // The directory ends earlier than its tree says: there is nothing at this position.
                (self.number, self.batch) = (number, batch);
                return Ok(());
            };
            if next == self.last_names.len() {
                self.last_names.push(last.entry.name.clone());
            }
            (self.number, self.batch) = (next, batch);
        }
        Ok(())
    }

    fn read_batch(&self, repo: &Repository, after: Option<&Name>) -> Result<Vec<Arc<StoredEntry>>, VfsError> {
        let read = || -> Result<Vec<_>, RepoError> {
            let entries = repo.entries(&self.directory.tree, after).take(BATCH_ENTRIES);
            entries.map(|entry| Ok(Arc::new(StoredEntry::new(entry?)))).collect()
        };
        read().map_err(VfsError::unreadable(|| self.directory.label()))
    }
}

/// Where directories were read last. The kernel opens and closes them without a word, so that a cursor is kept by its
/// directory, for as long as others do not push it out.
pub(super) struct Cursors(Cache<Identity, Arc<Mutex<DirectoryCursor>>, UnitWeighter>);

impl Cursors {
    pub(super) fn new() -> Self {
        Self(recent::cache(CURSORS, 1, UnitWeighter))
    }

    /// Returns the cursor of a directory.
    pub(super) fn of(&self, identity: Identity, directory: &Arc<Directory>) -> Arc<Mutex<DirectoryCursor>> {
        self.0.get(&identity).unwrap_or_else(|| {
            let cursor = Arc::new(Mutex::new(DirectoryCursor::new(Arc::clone(directory))));
            self.0.insert(identity, Arc::clone(&cursor));
            cursor
        })
    }
}
