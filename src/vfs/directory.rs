//! Directories of snapshots, and reading them in order from any position in bounded memory.

use std::sync::{Arc, Mutex};

use quick_cache::UnitWeighter;
use quick_cache::sync::Cache;

use super::VfsError;
use super::in_use::MountedSnapshot;
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
    pub(super) snapshot: Arc<MountedSnapshot>,
    /// The directory that it is an entry of, and its name there; nothing for the root of a snapshot.
    pub(super) above: Option<(Arc<Directory>, Name)>,
}

impl Directory {
    /// Returns the root directory of a snapshot.
    pub(super) fn root(inode: u64, snapshot: Arc<Manifest>) -> Self {
        let (key, tree) = (NodeKey::snapshot(snapshot.id), snapshot.root);
        Self { inode, key, tree, snapshot: Arc::new(MountedSnapshot::new(snapshot)), above: None }
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
/// does: that makes it a cookie that stays valid for `seekdir` and across calls. Entries of damaged pages are left out
/// and not counted; the end of the directory fails with what is wrong, so that it is never shown as if it were whole.
pub(super) struct DirectoryCursor {
    directory: Arc<Directory>,
    /// Number of the batch that is held.
    number: usize,
    batch: Vec<Arc<StoredEntry>>,
    /// The last name of each batch that was ever read, so that a seek starts at the right page.
    last_names: Vec<Name>,
    /// Small files in all these batches.
    small_files: usize,
    /// What was wrong with a page.
    damage: Option<RepoError>,
}

impl DirectoryCursor {
    pub(super) fn new(directory: Arc<Directory>) -> Self {
        Self {
            directory,
            number: usize::MAX,
            batch: Vec::new(),
            last_names: Vec::new(),
            small_files: 0,
            damage: None,
        }
    }

    /// Returns the entry with this ordinal, nothing beyond the last.
    pub(super) fn entry(
        &mut self,
        repo: &Repository,
        ordinal: u64,
    ) -> Result<Option<Arc<StoredEntry>>, VfsError> {
        let Ok(ordinal) = usize::try_from(ordinal) else { return Ok(None) };
        self.load(repo, ordinal / BATCH_ENTRIES)?;
        let found = self.batch.get(ordinal % BATCH_ENTRIES).cloned();
        if found.is_none()
            && let Some(damage) = self.damage.take()
        {
            // It is read anew from here on: it may be mended by then.
            *self = Self::new(Arc::clone(&self.directory));
            return Err(self.unreadable(damage));
        }
        Ok(found)
    }

    /// Returns how many small files were met so far.
    pub(super) fn small_files(&self) -> usize {
        self.small_files
    }

    /// Makes `number` the batch that is held. After a jump ahead, it walks through those between.
    fn load(&mut self, repo: &Repository, number: usize) -> Result<(), VfsError> {
        while self.number != number {
            let next = number.min(self.last_names.len());
            let after = next.checked_sub(1).and_then(|before| self.last_names.get(before)).cloned();
            let batch = self.read_batch(repo, after.as_ref())?;
            let Some(last) = batch.last() else {
                // The directory ends earlier than its tree says: there is nothing at this position.
                (self.number, self.batch) = (number, batch);
                return Ok(());
            };
            if next == self.last_names.len() {
                self.last_names.push(last.entry.name.clone());
                self.small_files += batch.iter().filter(|stored| stored.small_content().is_some()).count();
            }
            (self.number, self.batch) = (next, batch);
        }
        Ok(())
    }

    fn read_batch(
        &mut self,
        repo: &Repository,
        after: Option<&Name>,
    ) -> Result<Vec<Arc<StoredEntry>>, VfsError> {
        let mut batch = Vec::new();
        let directory = Arc::clone(&self.directory);
        for entry in repo.entries(&directory.tree, after) {
            match entry {
                Ok(entry) => batch.push(Arc::new(StoredEntry::new(entry))),
                Err(error) if error.is_damage() => self.damage = Some(error),
                Err(error) => return Err(self.unreadable(error)),
            }
            if batch.len() == BATCH_ENTRIES {
                break;
            }
        }
        Ok(batch)
    }

    fn unreadable(&self, error: RepoError) -> VfsError {
        VfsError::unreadable(|| self.directory.label())(error)
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

#[cfg(test)]
mod tests {
    use super::super::support::{Sandbox, Sketch, directory, file, find, read_some};
    use super::super::{DirectoryItem, Vfs, Visit};
    use super::*;
    use crate::format::tree::PAGE_MIN_ENTRIES;

    fn many(files: usize) -> Vec<(String, Sketch)> {
        (0..files).map(|number| (format!("{number:05}"), file("few bytes"))).collect()
    }

    /// Lists a directory in steps; returns its names and why it ended.
    fn list(vfs: &Vfs, inode: u64) -> (Vec<String>, Option<VfsError>) {
        let (mut names, mut cookie) = (Vec::new(), 0);
        loop {
            let (known, from) = (names.len(), cookie);
            let mut visit = |item: &DirectoryItem<'_>| {
                if names.len() == known + 100 {
                    return Visit::Full;
                }
                names.push(String::from_utf8(item.name.to_vec()).unwrap());
                cookie = item.cookie;
                Visit::Taken
            };
            match vfs.read_directory(inode, from, &mut visit) {
                Err(error) => return (names, Some(error)),
                Ok(()) if names.len() == known => return (names, None),
                Ok(()) => {}
            }
        }
    }

    #[test]
    fn a_damaged_page_hides_its_own_entries_and_no_others() {
        let [(sound, sound_inode), (vfs, inode)] =
            [Sketch::Directory(many(1500)), Sketch::WithoutPage(2, many(1500))].map(|sketch| {
                let sandbox = Sandbox::new();
                let vfs = sandbox.only(&sandbox.commit("etc", directory([("many", sketch)])));
                let inode = find(&vfs, "many").inode;
                (vfs, inode)
            });
        let (all, end) = list(&sound, sound_inode);
        assert!(end.is_none() && all.len() == 1502);
        for _ in 0..2 {
            let (names, end) = list(&vfs, inode);
            assert!(matches!(end, Some(VfsError::Unreadable { .. })), "it must not look whole");
            // Where a page ends is chance, by the keys of the sandbox: how long the missing one is, too.
            assert!(names.len() + PAGE_MIN_ENTRIES <= all.len(), "{}", names.len());
            assert_eq!((&names[..52], names.last()), (&all[..52], all.last()));
            let (before, behind) = names.split_at(names.iter().zip(&all).take_while(|(a, b)| a == b).count());
            assert_eq!(before, &all[..before.len()]);
            assert_eq!(behind, &all[all.len() - behind.len()..], "one stretch is missing");
        }
    }

    #[test]
    fn small_files_are_counted_once_wherever_the_directory_ends() {
        for files in [1, BATCH_ENTRIES - 1, BATCH_ENTRIES, BATCH_ENTRIES + 1, 2 * BATCH_ENTRIES] {
            let sandbox = Sandbox::new();
            let manifest = sandbox.commit("etc", directory([("many", Sketch::Directory(many(files)))]));
            let vfs = sandbox.only(&manifest);
            let inode = find(&vfs, "many").inode;
            let (identity, place) = vfs.place(inode).unwrap();
            let super::super::inodes::Place::Directory(many) = place else { panic!("a directory") };
            for _ in 0..2 {
                read_some(&vfs, inode, 0, files + 2);
                let cursor = vfs.cursors.of(identity, &many);
                let mut cursor = super::super::lock(&cursor);
                assert!(cursor.entry(&vfs.repo, files as u64).unwrap().is_none());
                assert_eq!(cursor.small_files(), files);
            }
        }
    }
}
