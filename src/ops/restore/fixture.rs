//! A store in memory with a snapshot of every kind of entry, for the tests of all that reads snapshots.

use std::sync::Arc;

use jiff::Timestamp;

use crate::chunker::ChunkerParams;
use crate::crypto::hash::ChunkKind;
use crate::crypto::ingest_key;
use crate::crypto::slot::{Credential, FileKey};
use crate::format::content::{ContentBuilder, ContentItem, ListNode};
use crate::format::snapshot::{Completeness, Manifest, Marks, SnapshotTotals};
use crate::format::tree::{
    Attributes, Device, Entry, EntryKind, LinkGroup, Page, Time, TreeBuilder, TreeRef, Value, Xattr,
};
use crate::id::ChunkId;
use crate::path::{Name, TreePath};
use crate::repo::open::{CreateOptions, LocalFolders, OpenOptions};
use crate::repo::session::{SessionOptions, SessionWriter};
use crate::repo::snapshots::Snapshot;
use crate::repo::{RepoError, Repository};
use crate::store::fault::FaultStore;
use crate::store::key::{ObjectKey, Prefix};
use crate::store::memory::MemoryStore;
use crate::store::{ObjectStore, Payload};

pub(in crate::ops) type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// The modification time of every entry.
pub(in crate::ops) const MTIME: Time = Time { seconds: 1_700_000_000, nanoseconds: 123_456_789 };
pub(in crate::ops) const SYMLINK_TARGET: &[u8] = b"../nowhere/at all";
const SMALL_CHUNK: usize = 5000;

/// A store, opened.
pub(in crate::ops) struct Fixture {
    pub memory: Arc<MemoryStore>,
    pub store: Arc<FaultStore>,
    pub repo: Repository,
    key: FileKey,
    local: tempfile::TempDir,
}

impl Fixture {
    /// Creates an empty, encrypted store.
    pub(in crate::ops) fn new() -> Self {
        let memory = Arc::new(MemoryStore::new());
        let key = FileKey::random().unwrap();
        let credentials = vec![Credential::FileKey(key.clone())];
        let options = CreateOptions { credentials, chunker: ChunkerParams::DEFAULT };
        Repository::create(memory.as_ref(), &options).unwrap();
        let local = tempfile::tempdir().unwrap();
        let (store, repo) = open(&memory, &key, &local);
        Self { memory, store, repo, key, local }
    }

    /// Opens the store as if on another host: with no cache, and with what lies in it now.
    pub(in crate::ops) fn reopen(&mut self) {
        self.local = tempfile::tempdir().unwrap();
        (self.store, self.repo) = open(&self.memory, &self.key, &self.local);
    }

    /// Opens the same store on one more host.
    pub(in crate::ops) fn on_another_host(&self) -> Self {
        let local = tempfile::tempdir().unwrap();
        let (store, repo) = open(&self.memory, &self.key, &local);
        Self { memory: Arc::clone(&self.memory), store, repo, key: self.key.clone(), local }
    }

    /// Opens the same store once more, with the folders that this host has.
    pub(in crate::ops) fn in_another_process(&self) -> Self {
        let (store, repo) = open(&self.memory, &self.key, &self.local);
        // Lives as long as this one does, which keeps the folders.
        let local = tempfile::tempdir().unwrap();
        Self { memory: Arc::clone(&self.memory), store, repo, key: self.key.clone(), local }
    }

    /// Opens the same store on one more host, far from it: so many requests are worth having under way.
    pub(in crate::ops) fn at_a_distance(&self, requests: usize) -> Self {
        let local = tempfile::tempdir().unwrap();
        let memory = Arc::clone(&self.memory) as Arc<dyn ObjectStore>;
        let store = Arc::new(FaultStore::distant(memory, requests));
        let repo = open_through(&store, Credential::FileKey(self.key.clone()), &local);
        Self { memory: Arc::clone(&self.memory), store, repo, key: self.key.clone(), local }
    }

    /// Creates a second store of the same domain, on another host.
    pub(in crate::ops) fn second_store(&self) -> Self {
        let memory = Arc::new(MemoryStore::new());
        self.repo.create_like(memory.as_ref()).unwrap();
        let local = tempfile::tempdir().unwrap();
        let (store, repo) = open(&memory, &self.key, &local);
        Self { memory, store, repo, key: self.key.clone(), local }
    }

    /// Opens the same store on a host with an ingest-only key.
    pub(in crate::ops) fn on_ingest_only_host(&self, host: &str) -> Self {
        let local = tempfile::tempdir().unwrap();
        let text = self.repo.export_ingest_key(host).unwrap();
        let credential = Credential::IngestOnly(ingest_key::parse(&text).unwrap());
        let (store, repo) = open_with(&self.memory, credential, &local);
        Self { memory: Arc::clone(&self.memory), store, repo, key: self.key.clone(), local }
    }

    /// Commits a snapshot of what `fill` returns as the root directory.
    pub(in crate::ops) fn commit(&self, fill: impl FnOnce(&Maker<'_>) -> Vec<Entry>) -> Snapshot {
        let mut options = SessionOptions::new("test");
        options.threads = 1;
        options.frame_target_bytes = 20_000;
        let session = SessionWriter::open(&self.repo, options).unwrap();
        self.commit_through(session, fill)
    }

    /// Commits what `fill` returns by a session that was opened before.
    pub(in crate::ops) fn commit_through(
        &self,
        session: SessionWriter,
        fill: impl FnOnce(&Maker<'_>) -> Vec<Entry>,
    ) -> Snapshot {
        self.try_commit_through(session, fill).unwrap()
    }

    /// Commits as [`Self::commit_through`] does, if that is possible.
    pub(in crate::ops) fn try_commit_through(
        &self,
        session: SessionWriter,
        fill: impl FnOnce(&Maker<'_>) -> Vec<Entry>,
    ) -> Result<Snapshot, RepoError> {
        let maker = Maker { repo: &self.repo, session: &session };
        let entries = fill(&maker);
        let files = entries.len() as u64;
        let root = maker.tree(entries);
        let manifest = Manifest {
            id: session.id(),
            time: Timestamp::now(),
            finished: Timestamp::now(),
            source: "test".into(),
            host: self.repo.writer().host.clone(),
            tags: Vec::new(),
            paths: vec![b"/".to_vec()],
            command: None,
            completeness: Completeness::Complete,
            root_attributes: Attributes::default(),
            root,
            tree_packs: Vec::new(),
            totals: SnapshotTotals { files, ..SnapshotTotals::default() },
            dump: None,
            outputs: Vec::new(),
            program: "test".into(),
            origin: None,
        };
        let (manifest, _) = session.commit(manifest)?;
        self.repo.refresh().unwrap();
        Ok(Snapshot { manifest, marks: Marks::default(), forgotten_since: None })
    }

    /// Returns the keys of all objects under `prefix`.
    pub(in crate::ops) fn keys(&self, prefix: Prefix) -> Vec<ObjectKey> {
        let mut keys = Vec::new();
        self.memory.list(prefix, &mut |object| keys.push(object.key)).unwrap();
        keys
    }

    /// Changes an object in the store behind everyone's back.
    pub(in crate::ops) fn tamper(&self, key: &ObjectKey, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.memory.get(key, None).unwrap();
        change(&mut bytes);
        self.memory.delete(key).unwrap();
        self.memory.create(key, Payload::Bytes(&bytes)).unwrap();
    }

    /// Returns the pack that holds a chunk of data.
    pub(in crate::ops) fn pack_of(&self, kind: ChunkKind, plain: &[u8]) -> ObjectKey {
        let id = self.repo.keys().ids().chunk_id(kind, plain);
        let home = self.repo.index().homes(&id).unwrap()[0];
        ObjectKey::pack(&self.repo.index().pack(home.frame.pack).unwrap().unwrap().id)
    }
}

fn open(
    memory: &Arc<MemoryStore>,
    key: &FileKey,
    local: &tempfile::TempDir,
) -> (Arc<FaultStore>, Repository) {
    open_with(memory, Credential::FileKey(key.clone()), local)
}

fn open_with(
    memory: &Arc<MemoryStore>,
    credential: Credential,
    local: &tempfile::TempDir,
) -> (Arc<FaultStore>, Repository) {
    let store = Arc::new(FaultStore::new(Arc::clone(memory) as Arc<dyn ObjectStore>));
    let repo = open_through(&store, credential, local);
    (store, repo)
}

fn open_through(store: &Arc<FaultStore>, credential: Credential, local: &tempfile::TempDir) -> Repository {
    let folders = LocalFolders { cache: local.path().join("cache"), state: local.path().join("state") };
    let options = OpenOptions { folders, host: "host".into(), cache_bytes: 16 << 20, base_cache_bytes: None };
    let store = Arc::clone(store) as Arc<dyn ObjectStore>;
    let mut credential = || Ok::<_, RepoError>(Some(credential.clone()));
    Repository::open(store, &options, &mut credential).unwrap()
}

/// Makes entries and stores what they need.
pub(in crate::ops) struct Maker<'a> {
    repo: &'a Repository,
    session: &'a SessionWriter,
}

impl Maker<'_> {
    fn emit(&self, kind: ChunkKind) -> impl FnMut(Vec<u8>) -> Result<ChunkId, AnyError> {
        move |bytes| Ok(self.session.add(kind, &bytes)?)
    }

    fn tree(&self, mut entries: Vec<Entry>) -> TreeRef {
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let mut builder = TreeBuilder::new(self.repo.keys().ids().clone());
        for entry in entries {
            builder.push(entry, &mut self.emit(ChunkKind::Tree)).unwrap();
        }
        builder.finish(&mut self.emit(ChunkKind::Tree)).unwrap()
    }

    pub(in crate::ops) fn directory(&self, name: &str, mode: u16, entries: Vec<Entry>) -> Entry {
        entry(name, mode, EntryKind::Directory(self.tree(entries)))
    }

    /// Stores a page as it is, whether or not it is true.
    pub(in crate::ops) fn page(&self, page: &Page) -> ChunkId {
        self.session.add(ChunkKind::Tree, &page.encode()).unwrap()
    }

    /// Stores a node of a content list as it is, whether or not it is true.
    pub(in crate::ops) fn list(&self, node: &ListNode) -> ChunkId {
        self.session.add(ChunkKind::List, &node.encode()).unwrap()
    }

    /// Gives an entry an extended attribute whose value lies in a chunk of its own.
    pub(in crate::ops) fn spill(&self, entry: &mut Entry, name: &str, value: &[u8]) {
        let chunk = self.session.add(ChunkKind::Tree, value).unwrap();
        let length = u32::try_from(value.len()).unwrap();
        entry.attributes.xattrs.push(Xattr { name: name.into(), value: Value::Spilled { chunk, length } });
    }

    /// Stores a chunk of data.
    pub(in crate::ops) fn data(&self, bytes: &[u8]) -> ContentItem {
        let id = self.session.add(ChunkKind::Data, bytes).unwrap();
        ContentItem::Data(id, u32::try_from(bytes.len()).unwrap())
    }

    pub(in crate::ops) fn file(&self, name: &str, content: &[u8]) -> Entry {
        let items = content.chunks(SMALL_CHUNK).map(Ok).collect();
        self.sparse_file(name, items)
    }

    /// Makes a file of chunks (`Ok`) and holes (`Err`).
    pub(in crate::ops) fn sparse_file(&self, name: &str, pieces: Vec<Result<&[u8], u64>>) -> Entry {
        let mut builder = ContentBuilder::new();
        for piece in pieces {
            let item = match piece {
                Ok(bytes) => self.data(bytes),
                Err(length) => ContentItem::Hole(length),
            };
            builder.push(item, &mut self.emit(ChunkKind::List)).unwrap();
        }
        entry(name, 0o640, EntryKind::File(builder.finish(&mut self.emit(ChunkKind::List)).unwrap()))
    }
}

/// Makes an entry that needs nothing in the store.
pub(in crate::ops) fn entry(name: &str, mode: u16, kind: EntryKind) -> Entry {
    let attributes = Attributes {
        mode,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        mtime: MTIME,
        ..Attributes::default()
    };
    Entry { name: Name::new(name.as_bytes()).unwrap(), attributes, link: None, kind }
}

/// Makes an entry one of several names of a file.
pub(in crate::ops) fn linked(mut entry: Entry, group: u64, links: u32) -> Entry {
    entry.link = Some(LinkGroup { group, links });
    entry
}

/// Gives an entry an extended attribute.
pub(in crate::ops) fn with_xattr(mut entry: Entry, name: &str, value: &[u8]) -> Entry {
    let xattr = Xattr { name: name.into(), value: Value::Inline(value.into()) };
    entry.attributes.xattrs.push(xattr);
    entry
}

/// Returns bytes that compress badly and differ for each seed.
pub(in crate::ops) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// The root directory of a snapshot with every kind of entry but devices.
pub(in crate::ops) fn every_kind(maker: &Maker<'_>) -> Vec<Entry> {
    let shared = noise(1, 12_000);
    let deep = maker.directory("deep", 0o700, vec![linked(maker.file("second", &shared), 9, 3)]);
    let in_d = vec![
        maker.file("empty", b""),
        maker.file("small", b"hello"),
        maker.file("long", &noise(2, 50 * SMALL_CHUNK + 17)),
        linked(maker.file("first", &shared), 9, 3),
        deep,
    ];
    vec![
        maker.directory("d", 0o2750, in_d),
        maker.directory("closed", 0, vec![linked(maker.file("third", &shared), 9, 3)]),
        maker.sparse_file("sparse", vec![Err(20 << 20), Ok(b"middle"), Err(20 << 20), Ok(b"end")]),
        with_xattr(maker.file("tagged", b"tagged"), "user.yester", b"value\0\xff"),
        entry("link", 0o777, EntryKind::Symlink(SYMLINK_TARGET.into())),
        entry("fifo", 0o604, EntryKind::Fifo),
        entry("socket", 0o755, EntryKind::Socket),
        entry("set-id", 0o6755, maker.file("unused", b"#!").kind),
    ]
}

/// A character device like `/dev/null`.
pub(in crate::ops) fn null_device() -> Entry {
    entry("null", 0o666, EntryKind::CharDevice(Device { major: 1, minor: 3 }))
}

pub(in crate::ops) fn path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).unwrap()
}
