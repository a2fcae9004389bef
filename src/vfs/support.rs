//! What the tests of this module stand on: a store in memory, and snapshots sketched by hand.

use std::sync::Arc;

use jiff::Timestamp;

use super::{DirectoryItem, Lookup, NodeAttributes, Ownership, ROOT_INODE, RootView, Vfs, VfsOptions, Visit};
use crate::chunker::ChunkerParams;
use crate::crypto::hash::ChunkKind;
use crate::format::FormatError;
use crate::format::content::{Content, ContentBuilder, ContentItem};
use crate::format::snapshot::{Completeness, Manifest, SnapshotTotals};
use crate::format::tree::{Attributes, Entry, EntryKind, LinkGroup, Time, TreeBuilder, TreeRef};
use crate::id::{ChunkId, SnapshotId};
use crate::path::Name;
use crate::repo::Repository;
use crate::repo::open::{CreateOptions, LocalFolders, OpenOptions};
use crate::repo::session::{SessionOptions, SessionWriter};
use crate::store::ObjectStore;
use crate::store::fault::FaultStore;
use crate::store::memory::MemoryStore;

/// Chunks are small here, so that small files have long content lists.
const CHUNK_BYTES: usize = 4096;

/// What a test puts under a name.
pub(super) enum Sketch {
    File(Vec<u8>),
    /// Pieces: bytes, or a hole of that length.
    Pieces(Vec<Result<Vec<u8>, u64>>),
    Directory(Vec<(String, Sketch)>),
    /// A directory whose page of this number was lost.
    WithoutPage(usize, Vec<(String, Sketch)>),
    Symlink(&'static str),
    /// A name of the file that is linked under this number.
    Linked(u64, Vec<u8>),
    /// An entry as it is.
    Raw(Attributes, EntryKind),
}

/// Returns a directory.
pub(super) fn directory(entries: impl IntoIterator<Item = (&'static str, Sketch)>) -> Sketch {
    Sketch::Directory(entries.into_iter().map(|(name, sketch)| (name.to_owned(), sketch)).collect())
}

/// Returns a file with this text.
pub(super) fn file(text: &str) -> Sketch {
    Sketch::File(text.as_bytes().to_vec())
}

/// Returns bytes that look different everywhere.
pub(super) fn noise(length: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

/// An open repository in memory, with its local folders.
pub(super) struct Sandbox {
    pub(super) repo: Arc<Repository>,
    store: Arc<MemoryStore>,
    folder: tempfile::TempDir,
}

impl Sandbox {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(MemoryStore::new());
        let create = CreateOptions { credentials: Vec::new(), chunker: ChunkerParams::DEFAULT };
        Repository::create(store.as_ref(), &create).unwrap();
        Self { repo: open(&store, &folder), store, folder }
    }

    /// Opens the store as if on another host, with no cache.
    pub(super) fn reopen(&mut self) {
        self.folder = tempfile::tempdir().unwrap();
        self.repo = open(&self.store, &self.folder);
    }

    /// Opens the store as [`Self::reopen`] does, and returns what shows each call of it.
    pub(super) fn reopen_observed(&mut self) -> Arc<FaultStore> {
        let observed = Arc::new(FaultStore::new(Arc::clone(&self.store) as Arc<dyn ObjectStore>));
        self.folder = tempfile::tempdir().unwrap();
        self.repo = open(&observed, &self.folder);
        observed
    }

    /// Commits a snapshot of `root` for a source of the host `here`.
    pub(super) fn commit(&self, source: &str, root: Sketch) -> Manifest {
        self.commit_as(Completeness::Complete, source, root)
    }

    /// Commits a snapshot that may be a suspicious one.
    pub(super) fn commit_as(&self, completeness: Completeness, source: &str, root: Sketch) -> Manifest {
        let options = SessionOptions { threads: 1, ..SessionOptions::new(source) };
        let session = SessionWriter::open(&self.repo, options).unwrap();
        let Sketch::Directory(entries) = root else { panic!("a root is a directory") };
        let root = write_directory(&self.repo, &session, entries, None);
        let draft = Manifest { completeness, ..manifest(session.id(), "here", source, root) };
        session.commit(draft).unwrap().0
    }

    /// Returns a view of all snapshots.
    pub(super) fn all(&self) -> Vfs {
        self.view(RootView::All, Ownership::AsStored)
    }

    /// Returns a view of one snapshot.
    pub(super) fn only(&self, manifest: &Manifest) -> Vfs {
        self.view(RootView::Snapshot(Box::new(manifest.clone())), Ownership::AsStored)
    }

    pub(super) fn view(&self, root: RootView, ownership: Ownership) -> Vfs {
        Vfs::new(Arc::clone(&self.repo), VfsOptions { root, ownership, prefetch_threads: 1 }).unwrap()
    }
}

fn open(store: &Arc<impl ObjectStore + 'static>, folder: &tempfile::TempDir) -> Arc<Repository> {
    let folders = LocalFolders { cache: folder.path().join("cache"), state: folder.path().join("state") };
    let options =
        OpenOptions { folders, host: "here".to_owned(), cache_bytes: 64 << 20, base_cache_bytes: None };
    let store = Arc::clone(store) as Arc<dyn ObjectStore>;
    Arc::new(Repository::open(store, &options, &mut || Ok(None)).unwrap())
}

/// Returns a manifest with nothing special in it.
pub(super) fn manifest(id: SnapshotId, host: &str, source: &str, root: TreeRef) -> Manifest {
    Manifest {
        id,
        time: id.time(),
        finished: Timestamp::UNIX_EPOCH,
        source: source.to_owned(),
        host: host.to_owned(),
        tags: Vec::new(),
        paths: Vec::new(),
        command: None,
        completeness: Completeness::Complete,
        root_attributes: attributes(0o755),
        root,
        tree_packs: Vec::new(),
        totals: SnapshotTotals {
            files: 3,
            directories: 2,
            others: 1,
            bytes: 10_000,
            ..SnapshotTotals::default()
        },
        dump: None,
        outputs: Vec::new(),
        program: "test".to_owned(),
        origin: None,
    }
}

/// Returns attributes of user 10 and group 20.
pub(super) fn attributes(mode: u16) -> Attributes {
    let mtime = Time { seconds: 1_700_000_000, nanoseconds: 5 };
    Attributes { mode, uid: 10, gid: 20, mtime, ctime: mtime, ..Attributes::default() }
}

/// Finds what stands at `path` below the root.
pub(super) fn find(vfs: &Vfs, path: &str) -> NodeAttributes {
    let root = vfs.attributes(ROOT_INODE).unwrap();
    path.split('/').filter(|part| !part.is_empty()).fold(root, |node, name| {
        match vfs.lookup(node.inode, name.as_bytes()).unwrap() {
            Lookup::Found(found) => found,
            Lookup::Absent(_) => panic!("{name} of {path} is absent"),
        }
    })
}

/// Reads a directory from `cookie` on, `step` entries at most; returns names and the cookie behind each.
pub(super) fn read_some(vfs: &Vfs, inode: u64, cookie: u64, step: usize) -> Vec<(String, u64)> {
    let mut items = Vec::new();
    let mut visit = |item: &DirectoryItem<'_>| {
        if items.len() == step {
            return Visit::Full;
        }
        items.push((String::from_utf8(item.name.to_vec()).unwrap(), item.cookie));
        Visit::Taken
    };
    vfs.read_directory(inode, cookie, &mut visit).unwrap();
    items
}

/// Returns all names of the directory at `path`, without `.` and `..`.
pub(super) fn names(vfs: &Vfs, path: &str) -> Vec<String> {
    let inode = find(vfs, path).inode;
    let mut names = Vec::new();
    let mut cookie = 0;
    loop {
        let items = read_some(vfs, inode, cookie, 100);
        let Some((_, last)) = items.last() else { break };
        cookie = *last;
        names.extend(items.into_iter().map(|(name, _)| name));
    }
    names.drain(..2);
    names
}

/// Lists the directory at `path` as the kernel does, which looks its entries up; returns their inodes.
pub(super) fn list(vfs: &Vfs, path: &str) -> Vec<u64> {
    let directory = find(vfs, path).inode;
    let (mut inodes, mut cookie) = (Vec::new(), 0);
    loop {
        let start = cookie;
        let mut visit = |item: &DirectoryItem<'_>, _: &NodeAttributes| {
            inodes.push(item.inode);
            cookie = item.cookie;
            Visit::Taken
        };
        vfs.read_directory_plus(directory, start, &mut visit).unwrap();
        if cookie == start {
            inodes.drain(..2);
            return inodes;
        }
    }
}

/// Returns the bytes of the file at `path`, reading `step` bytes at a time.
pub(super) fn contents(vfs: &Vfs, path: &str, step: usize) -> Vec<u8> {
    let inode = find(vfs, path).inode;
    let mut bytes = Vec::new();
    let mut buffer = vec![0xee; step];
    loop {
        let read = vfs.read(inode, bytes.len() as u64, &mut buffer).unwrap();
        bytes.extend_from_slice(&buffer[..read]);
        if read < step {
            return bytes;
        }
    }
}

fn write_directory(
    repo: &Repository,
    session: &SessionWriter,
    sketches: Vec<(String, Sketch)>,
    lost_page: Option<usize>,
) -> TreeRef {
    let mut sketches = sketches;
    sketches.sort_by(|(a, _), (b, _)| a.as_bytes().cmp(b.as_bytes()));
    let mut pages = 0..;
    let mut emit = |page: Vec<u8>| -> Result<ChunkId, FormatError> {
        if pages.next() == lost_page {
            return Ok(repo.keys().ids().chunk_id(ChunkKind::Tree, &page));
        }
        Ok(session.add(ChunkKind::Tree, &page).unwrap())
    };
    let mut builder = TreeBuilder::new(repo.keys().ids().clone());
    for (name, sketch) in sketches {
        let (attributes, link, kind) = write_node(repo, session, sketch);
        let name = Name::new(name.as_bytes()).unwrap();
        builder.push(Entry { name, attributes, link, kind }, &mut emit).unwrap();
    }
    builder.finish(&mut emit).unwrap()
}

fn write_node(
    repo: &Repository,
    session: &SessionWriter,
    sketch: Sketch,
) -> (Attributes, Option<LinkGroup>, EntryKind) {
    let file = |pieces| EntryKind::File(write_content(session, pieces));
    match sketch {
        Sketch::File(bytes) => (attributes(0o644), None, file(vec![Ok(bytes)])),
        Sketch::Pieces(pieces) => (attributes(0o644), None, file(pieces)),
        Sketch::Linked(group, bytes) => {
            (attributes(0o644), Some(LinkGroup { group, links: 2 }), file(vec![Ok(bytes)]))
        }
        Sketch::Directory(entries) => {
            (attributes(0o755), None, EntryKind::Directory(write_directory(repo, session, entries, None)))
        }
        Sketch::WithoutPage(page, entries) => {
            let tree = write_directory(repo, session, entries, Some(page));
            (attributes(0o755), None, EntryKind::Directory(tree))
        }
        Sketch::Symlink(target) => (attributes(0o777), None, EntryKind::Symlink(target.as_bytes().to_vec())),
        Sketch::Raw(attributes, kind) => (attributes, None, kind),
    }
}

fn write_content(session: &SessionWriter, pieces: Vec<Result<Vec<u8>, u64>>) -> Content {
    let mut emit =
        |node: Vec<u8>| -> Result<ChunkId, FormatError> { Ok(session.add(ChunkKind::List, &node).unwrap()) };
    let mut builder = ContentBuilder::new();
    for piece in pieces {
        match piece {
            Ok(bytes) => {
                for chunk in bytes.chunks(CHUNK_BYTES) {
                    let id = session.add(ChunkKind::Data, chunk).unwrap();
                    let length = u32::try_from(chunk.len()).unwrap();
                    builder.push(ContentItem::Data(id, length), &mut emit).unwrap();
                }
            }
            Err(length) => builder.push(ContentItem::Hole(length), &mut emit).unwrap(),
        }
    }
    builder.finish(&mut emit).unwrap()
}
