//! A store in a folder while it is filled: sessions of the program, and sessions made by hand, which can do what the
//! program does not do yet or leaves to other writers.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value as Json, json};
use zeroize::Zeroizing;

use super::super::open::{LocalFolders, OpenOptions};
use super::super::session::{SessionOptions, SessionWriter};
use super::super::{Repository, slots};
use super::maker::{Made, Maker, shown};
use crate::chunker::ChunkerParams;
use crate::crypto::hash::ChunkKind;
use crate::crypto::secrets::{DomainKeys, RootSecret, Writer, WriterClass};
use crate::crypto::slot::{Argon2Params, Credential, FileKey, WrappedRoot};
use crate::format::config::{Config, Encryption, FORMAT_VERSION};
use crate::format::frame::{self, DeltaBase, Encoding, Features, FrameChunk, FrameEntry};
use crate::format::header::{Header, ObjectKind};
use crate::format::index_object::{IndexObject, IndexedPack};
use crate::format::keys::SlotKind;
use crate::format::pack::{self, Directory};
use crate::format::snapshot::{
    Completeness, Manifest, Mark, MarkState, SessionMark, SnapshotObject, SnapshotTotals,
};
use crate::format::tree::{Attributes, TreeRef};
use crate::id::{ChunkId, DomainId, PackId, SessionId, StoreId, WriterId};
use crate::process::Process;
use crate::store::key::{ObjectKey, Prefix};
use crate::store::local::LocalStore;
use crate::store::{Creation, ObjectStore, Payload};

/// The least that a store accepts, so that tests are quick.
const CHEAP: Argon2Params = Argon2Params { memory_kib: 8 * 1024, passes: 1, lanes: 1 };
const PASSPHRASE: &str = "correct horse bättery staple";

/// What opens a frozen store.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Secrets {
    /// Nothing is needed.
    None,
    KeyFile,
    /// A passphrase, a key file and a recovery key.
    All,
}

/// What a snapshot is to say of itself.
pub(super) struct Draft {
    pub(super) source: &'static str,
    pub(super) tags: Vec<&'static str>,
    pub(super) paths: Vec<&'static [u8]>,
    pub(super) command: Option<Vec<&'static [u8]>>,
    pub(super) completeness: Completeness,
}

impl Draft {
    pub(super) fn new(source: &'static str) -> Self {
        let completeness = Completeness::Complete;
        Self { source, tags: Vec::new(), paths: vec![b"/"], command: None, completeness }
    }
}

/// What makes the entries of a snapshot's root.
pub(super) type Fill<'a> = &'a dyn Fn(&Maker<'_>) -> Vec<Made>;

/// A frame that is to be written: its chunks, and those of its base if it is to be a delta.
pub(super) struct Frame {
    pub(super) chunks: Vec<(ChunkKind, Vec<u8>)>,
    /// The chunks of the frames that it is the difference to: none, one or two.
    pub(super) bases: Vec<Vec<(ChunkKind, Vec<u8>)>>,
}

/// A store in a folder, what opens it, and what is expected of it.
pub(super) struct Workshop {
    folder: PathBuf,
    store: Arc<LocalStore>,
    repo: Repository,
    expected: RefCell<Vec<(SessionId, Json, Vec<Json>)>>,
    /// Chunks that sessions made by hand have written.
    known: RefCell<HashSet<ChunkId>>,
    /// Removed with the workshop.
    _local: tempfile::TempDir,
}

impl Workshop {
    /// Makes an empty store with its secrets beside it.
    pub(super) fn new(folder: PathBuf, secrets: Secrets) -> Self {
        fs::create_dir_all(&folder).unwrap();
        let store = Arc::new(LocalStore::create(&folder.join("store")).unwrap());
        let root =
            if secrets == Secrets::None { RootSecret::public() } else { RootSecret::random().unwrap() };
        let domain = DomainId::random().unwrap();
        let key = FileKey::random().unwrap();
        let wrap = |kind, credential: &Credential| {
            let wrapped = WrappedRoot::wrap(&root, domain, credential, CHEAP).unwrap();
            slots::create(store.as_ref(), domain, kind, wrapped).unwrap();
        };
        if secrets != Secrets::None {
            wrap(SlotKind::KeyFile, &Credential::FileKey(key.clone()));
            fs::write(folder.join("key"), format!("{}\n", *key.to_text())).unwrap();
        }
        if secrets == Secrets::All {
            wrap(SlotKind::Passphrase, &Credential::Passphrase(Zeroizing::new(PASSPHRASE.into())));
            fs::write(folder.join("passphrase"), format!("{PASSPHRASE}\n")).unwrap();
            let recovery = FileKey::random().unwrap();
            fs::write(folder.join("recovery-key"), format!("{}\n", *recovery.to_text())).unwrap();
            wrap(SlotKind::Recovery, &Credential::FileKey(recovery));
        }
        let config = Config {
            version: FORMAT_VERSION,
            domain,
            store: StoreId::random().unwrap(),
            encryption: if secrets == Secrets::None { Encryption::None } else { Encryption::Sealed },
            chunker: ChunkerParams::DEFAULT,
            read_features: vec![],
            write_features: vec![],
            collect_features: vec![],
            created: time_of(0),
        };
        let keys = DomainKeys::full(&root, domain).unwrap();
        put(store.as_ref(), &ObjectKey::config(1), &config.seal(&keys).unwrap());
        let local = tempfile::tempdir().unwrap();
        let repo = open(&store, local.path(), &key);
        let expected = RefCell::default();
        Self { folder, store, repo, expected, known: RefCell::default(), _local: local }
    }

    /// Writes down what is expected: a snapshot's own fields in a line, and each of its entries in another.
    pub(super) fn write_expected(&self) {
        let snapshot = |(_, own, entries): &(SessionId, Json, Vec<Json>)| {
            let entries: Vec<String> = entries.iter().map(Json::to_string).collect();
            format!("{{\"snapshot\": {own},\n\"entries\": [\n{}\n]}}", entries.join(",\n"))
        };
        let snapshots: Vec<String> = self.expected.borrow().iter().map(snapshot).collect();
        fs::write(self.folder.join("expected.json"), format!("[{}]\n", snapshots.join(",\n"))).unwrap();
    }

    /// Returns a writer other than that of the program's own sessions.
    pub(super) fn writer(host: &str, class: WriterClass) -> Writer {
        Writer { class, host: host.to_owned(), id: WriterId::random().unwrap() }
    }

    /// Commits a snapshot as the program does it.
    pub(super) fn ingest(&self, draft: &Draft, fill: Fill<'_>) -> SessionId {
        let options =
            SessionOptions { threads: 1, frame_target_bytes: 8192, ..SessionOptions::new(draft.source) };
        let session = SessionWriter::open(&self.repo, options).unwrap();
        let add = |kind, plain: &[u8]| session.add(kind, plain).unwrap();
        let maker = Maker { ids: self.repo.keys().ids().clone(), add: &add };
        let (root, entries) = maker.tree(fill(&maker));
        let (lines, host) = (described(&entries), &self.repo.writer().host);
        let manifest = manifest(draft, session.id(), session.id().time(), host, root, &lines);
        let (manifest, _) = session.commit(manifest).unwrap();
        self.expect(&manifest, lines);
        manifest.id
    }

    /// Begins a session that is made by hand.
    pub(super) fn begin(&self, writer: &Writer, number: u8) -> HandSession<'_> {
        let id = session_of(number);
        let session = HandSession {
            workshop: self,
            number,
            id,
            writer: writer.clone(),
            fresh: RefCell::default(),
            packs: vec![],
        };
        session.announce(0);
        session
    }

    /// Commits a snapshot by hand, with small frames and no deltas.
    pub(super) fn by_hand(&self, writer: &Writer, number: u8, draft: &Draft, fill: Fill<'_>) -> SessionId {
        let mut session = self.begin(writer, number);
        let entries = session.make(fill);
        let (data, metadata) = (session.take_data(4), session.take_metadata(8));
        session.pack(ObjectKind::DataPack, &data);
        session.pack(ObjectKind::TreePack, &metadata);
        session.commit(draft, entries)
    }

    /// Marks a snapshot.
    pub(super) fn mark(&self, writer: &Writer, snapshot: SessionId, number: u32, state: MarkState) {
        let mark = Mark { time: time_of(9), state };
        let sealed = mark.seal(snapshot, number, self.repo.keys(), writer).unwrap();
        put(self.store.as_ref(), &ObjectKey::mark(snapshot, number), &sealed);
        let mut expected = self.expected.borrow_mut();
        let (_, own, _) = expected.iter_mut().find(|(id, ..)| *id == snapshot).unwrap();
        own["marks"].as_array_mut().unwrap().push(format!("{state:?}").to_lowercase().into());
    }

    /// Leaves a session that showed signs of life and was fenced by a tombstone.
    pub(super) fn fence(&self, writer: &Writer, number: u8) {
        let session = self.begin(writer, number);
        session.announce(1);
        session.announce(2);
        let tombstone = SnapshotObject::Tombstone { time: time_of(9) };
        let sealed = tombstone.seal(session.id, self.repo.keys(), writer).unwrap();
        put(self.store.as_ref(), &ObjectKey::snapshot(session.id), &sealed);
    }

    /// Lists all packs in a new index object that supersedes all others, and leaves those where they are.
    pub(super) fn replace_index(&self, writer: &Writer, number: u8) {
        let mut replacement = IndexObject::default();
        self.store
            .list(Prefix::Index, &mut |object| replacement.supersedes.push(object.key.to_string()))
            .unwrap();
        for key in &replacement.supersedes {
            let bytes = self.store.get(&ObjectKey::parse(key).unwrap(), None).unwrap();
            replacement.packs.append(&mut IndexObject::open(self.repo.keys(), key, &bytes).unwrap().1.packs);
        }
        let key = ObjectKey::index(session_of(number), 0);
        put(self.store.as_ref(), &key, &replacement.seal(self.repo.keys(), writer, key.as_str()).unwrap());
    }

    /// Writes the config again under numbers of one and two digits.
    pub(super) fn add_later_configs(&self) {
        for number in [2, 10] {
            let config = Config { created: time_of(1), ..self.repo.config().clone() };
            put(self.store.as_ref(), &ObjectKey::config(number), &config.seal(self.repo.keys()).unwrap());
        }
    }

    /// Leaves what an interrupted probe leaves, and files whose names are none of the format.
    pub(super) fn add_stray_objects(&self) {
        put(self.store.as_ref(), &ObjectKey::probe(7), b"");
        for name in ["config/notes.txt", "packs/README", "tmp/leftover", "lost+found/file"] {
            let path = self.folder.join("store").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"no object of the format\n").unwrap();
        }
    }

    fn expect(&self, manifest: &Manifest, lines: Vec<Json>) {
        let own = json!({
            "id": manifest.id.to_string(),
            "time": manifest.time.to_string(),
            "source": manifest.source,
            "host": manifest.host,
            "tags": manifest.tags,
            "paths": manifest.paths.iter().map(|path| shown(path)).collect::<Vec<_>>(),
            "completeness": format!("{:?}", manifest.completeness).to_lowercase(),
            "marks": [],
        });
        self.expected.borrow_mut().push((manifest.id, own, lines));
    }
}

/// A session whose objects are made one by one.
pub(super) struct HandSession<'a> {
    workshop: &'a Workshop,
    number: u8,
    id: SessionId,
    writer: Writer,
    /// Chunks that were added and are in no pack yet.
    fresh: RefCell<Vec<(ChunkKind, Vec<u8>)>>,
    packs: Vec<IndexedPack>,
}

impl HandSession<'_> {
    /// Makes the entries of the root directory, and all chunks that are new to the store.
    pub(super) fn make(&self, fill: Fill<'_>) -> (TreeRef, Vec<Made>) {
        let ids = self.workshop.repo.keys().ids();
        let add = |kind, plain: &[u8]| {
            let id = ids.chunk_id(kind, plain);
            if self.workshop.known.borrow_mut().insert(id) {
                self.fresh.borrow_mut().push((kind, plain.to_vec()));
            }
            id
        };
        let maker = Maker { ids: ids.clone(), add: &add };
        maker.tree(fill(&maker))
    }

    /// Takes the fresh chunks of data, some for each frame.
    pub(super) fn take_data(&self, chunks_in_frame: usize) -> Vec<Frame> {
        self.take(chunks_in_frame, |kind| kind == ChunkKind::Data)
    }

    /// Takes the fresh chunks of trees and lists, some for each frame; the root page is the last of them.
    pub(super) fn take_metadata(&self, chunks_in_frame: usize) -> Vec<Frame> {
        self.take(chunks_in_frame, |kind| kind != ChunkKind::Data)
    }

    fn take(&self, chunks_in_frame: usize, wanted: impl Fn(ChunkKind) -> bool) -> Vec<Frame> {
        let mut fresh = self.fresh.borrow_mut();
        let (taken, left) = fresh.drain(..).partition::<Vec<_>, _>(|(kind, _)| wanted(*kind));
        *fresh = left;
        taken
            .chunks(chunks_in_frame)
            .map(|chunks| Frame { chunks: chunks.to_vec(), bases: Vec::new() })
            .collect()
    }

    /// Writes a pack, unless it would be empty.
    pub(super) fn pack(&mut self, kind: ObjectKind, frames: &[Frame]) {
        if frames.is_empty() {
            return;
        }
        let keys = self.workshop.repo.keys();
        let (mut bytes, header_hash, key) = Header::create(kind, keys, &self.writer).unwrap();
        let header_bytes = u32::try_from(bytes.len()).unwrap();
        let mut directory = Directory::default();
        for (number, frame) in (0..).zip(frames) {
            let id = |base: &Vec<_>| {
                let chunks = listed(keys, base);
                keys.ids().frame_id(chunks.iter().map(|chunk| (chunk.id, chunk.length)))
            };
            let delta = || frame::encode_delta(&plain(&frame.chunks), &plain(&frame.bases.concat())).unwrap();
            let (encoding, mut encoded) = match frame.bases.as_slice() {
                [] => frame::encode(&plain(&frame.chunks), 3).unwrap(),
                [base] => (Encoding::Delta { base: id(base).into() }, delta()),
                [first, second, ..] => {
                    (Encoding::Delta { base: DeltaBase::pair(id(first), id(second)) }, delta())
                }
            };
            frame::seal(&key, &header_hash, number, encoding, &mut encoded).unwrap();
            let stored_length = u32::try_from(encoded.len()).unwrap();
            let features = frame.bases.is_empty().then_some(Features([number.into(), 2, u64::MAX]));
            directory.frames.push(FrameEntry {
                stored_length,
                encoding,
                features,
                chunks: listed(keys, &frame.chunks),
            });
            bytes.append(&mut encoded);
        }
        bytes.append(&mut pack::seal_directory(&key, &header_hash, &directory).unwrap());
        let id = PackId::from_bytes(*blake3::hash(&bytes).as_bytes());
        put(self.workshop.store.as_ref(), &ObjectKey::pack(&id), &bytes);
        let (bytes, writer) = (bytes.len() as u64, self.writer.clone());
        self.packs.push(IndexedPack { id, kind, bytes, writer, header_hash, header_bytes, key, directory });
    }

    /// Writes the index object and the manifest.
    pub(super) fn commit(self, draft: &Draft, (root, entries): (TreeRef, Vec<Made>)) -> SessionId {
        let (keys, store) = (self.workshop.repo.keys(), self.workshop.store.as_ref());
        let lines = described(&entries);
        let mut manifest = manifest(draft, self.id, time_of(self.number), &self.writer.host, root, &lines);
        let trees = self.packs.iter().filter(|pack| pack.kind == ObjectKind::TreePack);
        manifest.tree_packs = trees.map(|pack| pack.id).collect();
        if !self.packs.is_empty() {
            let index = IndexObject { supersedes: Vec::new(), packs: self.packs };
            let key = ObjectKey::index(self.id, 0);
            put(store, &key, &index.seal(keys, &self.writer, key.as_str()).unwrap());
        }
        let object = SnapshotObject::Manifest(Box::new(manifest.clone()));
        put(store, &ObjectKey::snapshot(self.id), &object.seal(self.id, keys, &self.writer).unwrap());
        self.workshop.expect(&manifest, lines);
        self.id
    }

    fn announce(&self, number: u32) {
        let process = Process { pid: 4711, start: 0, boot: String::new() };
        let mark = SessionMark { time: time_of(self.number), source: "by-hand".into(), process };
        let sealed = mark.seal(self.id, number, self.workshop.repo.keys(), &self.writer).unwrap();
        put(self.workshop.store.as_ref(), &ObjectKey::session(self.id, number), &sealed);
    }
}

fn open(store: &Arc<LocalStore>, local: &Path, key: &FileKey) -> Repository {
    let folders = LocalFolders { cache: local.join("cache"), state: local.join("state") };
    let options = OpenOptions { folders, host: "db0".into(), cache_bytes: 16 << 20, base_cache_bytes: None };
    let store = Arc::clone(store) as Arc<dyn ObjectStore>;
    Repository::open(store, &options, &mut || Ok(Some(Credential::FileKey(key.clone())))).unwrap()
}

fn put(store: &dyn ObjectStore, key: &ObjectKey, bytes: &[u8]) {
    assert_eq!(store.create(key, Payload::Bytes(bytes)).unwrap(), Creation::Created, "{key}");
}

fn manifest(
    draft: &Draft,
    id: SessionId,
    time: Timestamp,
    host: &str,
    root: TreeRef,
    lines: &[Json],
) -> Manifest {
    let owned = |texts: &[&[u8]]| texts.iter().map(|text| text.to_vec()).collect::<Vec<_>>();
    Manifest {
        id,
        time,
        finished: time,
        source: draft.source.to_owned(),
        host: host.to_owned(),
        tags: draft.tags.iter().map(|tag| (*tag).to_owned()).collect(),
        paths: owned(&draft.paths),
        command: draft.command.as_ref().map(|command| owned(command)),
        completeness: draft.completeness,
        root_attributes: Attributes { mode: 0o750, ..Attributes::default() },
        root,
        tree_packs: Vec::new(),
        totals: totals(lines),
        dump: None,
        outputs: Vec::new(),
        program: format!("yester {}", env!("CARGO_PKG_VERSION")),
        origin: None,
    }
}

fn described(entries: &[Made]) -> Vec<Json> {
    let mut lines = Vec::new();
    for entry in entries {
        entry.describe(b"", &mut lines);
    }
    lines
}

/// Returns the sums over what is expected; a file of several names counts once.
fn totals(lines: &[Json]) -> SnapshotTotals {
    let mut totals = SnapshotTotals::default();
    let mut groups = HashSet::new();
    for line in lines {
        if line["link_group"].as_str().is_some_and(|group| !groups.insert(group)) {
            continue;
        }
        match line["kind"].as_str().unwrap() {
            "file" => {
                totals.files += 1;
                totals.bytes += line["size"].as_u64().unwrap();
            }
            "directory" => totals.directories += 1,
            _ => totals.others += 1,
        }
    }
    totals
}

/// Returns a session id of a day of its own.
fn session_of(number: u8) -> SessionId {
    format!("202611{:02}T053106Z-{}", number + 10, format!("{number:02x}").repeat(16)).parse().unwrap()
}

fn time_of(number: u8) -> Timestamp {
    format!("2026-11-{:02}T05:31:06.25Z", number + 10).parse().unwrap()
}

fn plain(chunks: &[(ChunkKind, Vec<u8>)]) -> Vec<u8> {
    chunks.iter().flat_map(|(_, plain)| plain.clone()).collect()
}

fn listed(keys: &DomainKeys, chunks: &[(ChunkKind, Vec<u8>)]) -> Vec<FrameChunk> {
    let chunk = |(kind, plain): &(ChunkKind, Vec<u8>)| FrameChunk {
        kind: *kind,
        id: keys.ids().chunk_id(*kind, plain),
        length: u32::try_from(plain.len()).unwrap(),
    };
    chunks.iter().map(chunk).collect()
}
