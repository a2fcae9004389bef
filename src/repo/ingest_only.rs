//! Hosts with an ingest-only key: what they can do, and what they cannot do to others.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

use super::keys::KeyError;
use super::open::{LocalFolders, OpenOptions};
use super::session::{SessionOptions, SessionWriter};
use super::testing::{TestStore, indexed_packs};
use super::{RepoError, Repository};
use crate::crypto::hash::ChunkKind;
use crate::crypto::ingest_key;
use crate::crypto::seal::SealKey;
use crate::crypto::secrets::{Writer, WriterClass};
use crate::crypto::slot::Credential;
use crate::format::FormatError;
use crate::format::header::{Header, ObjectKind, open_object, seal_object};
use crate::format::index_object::{IndexObject, IndexedPack};
use crate::format::snapshot::{Completeness, MarkState, SnapshotObject};
use crate::id::{ChunkId, SessionId};
use crate::store::key::{ObjectKey, Prefix};
use crate::store::memory::MemoryStore;
use crate::store::{Creation, ObjectInfo, ObjectStore, Payload, StoreError, StoreErrorKind};

/// A host with an ingest-only key, and what it keeps.
struct Edge {
    credential: Credential,
    folders: tempfile::TempDir,
}

impl Edge {
    fn new(test: &TestStore, host: &str) -> Self {
        let text = test.open().export_ingest_key(host).unwrap();
        let credential = Credential::IngestOnly(ingest_key::parse(&text).unwrap());
        Self { credential, folders: tempfile::tempdir().unwrap() }
    }

    fn try_open(&self, store: Arc<dyn ObjectStore>) -> Result<Repository, RepoError> {
        let folder = |name: &str| self.folders.path().join(name);
        let options = OpenOptions {
            folders: LocalFolders { cache: folder("cache"), state: folder("state") },
            host: "what the machine is called".to_owned(),
            cache_bytes: 16 << 20,
            base_cache_bytes: None,
        };
        Repository::open(store, &options, &mut || Ok(Some(self.credential.clone())))
    }

    fn open(&self, test: &TestStore) -> Repository {
        self.try_open(Arc::clone(&test.store) as Arc<dyn ObjectStore>).unwrap()
    }
}

/// What a backup adds that finds nothing to rely on: the chunk of [`noise`], and an empty page of a tree.
const WHOLE_BYTES: u64 = 100_003;

/// Commits a snapshot with one chunk of data; returns that and the session's statistics.
fn back_up(test: &TestStore, repo: &Repository, plain: &[u8]) -> (ChunkId, u64) {
    let session = SessionWriter::open(repo, SessionOptions::new("etc")).unwrap();
    let id = session.add(ChunkKind::Data, plain).unwrap();
    let manifest = test.manifest(repo, &session, "etc", Completeness::Complete);
    let (_, stats) = session.commit(manifest).unwrap();
    (id, stats.added_bytes)
}

/// Incompressible bytes that differ with `seed`.
fn noise(seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; 100_000];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

fn is_ingest_only<T>(result: Result<T, RepoError>) -> bool {
    matches!(result, Err(RepoError::IngestOnly(host)) if host == "edge1")
}

/// Lets objects be created, never deleted; a store that creates twice under a key would be found, too.
struct CreateOnly {
    below: Arc<MemoryStore>,
    refused: Mutex<Vec<String>>,
}

impl CreateOnly {
    fn new(below: &Arc<MemoryStore>) -> Arc<Self> {
        Arc::new(Self { below: Arc::clone(below), refused: Mutex::default() })
    }

    fn refuse(&self, operation: &'static str, key: &ObjectKey) -> StoreError {
        self.refused.lock().unwrap().push(format!("{operation} {key}"));
        StoreError::new(StoreErrorKind::Denied, operation, key.to_string(), None)
    }
}

impl ObjectStore for CreateOnly {
    fn create(&self, key: &ObjectKey, payload: Payload<'_>) -> Result<Creation, StoreError> {
        let allowed = ["packs/", "index/", "sessions/", "snapshots/"];
        if !allowed.iter().any(|prefix| key.as_str().starts_with(prefix)) {
            return Err(self.refuse("create", key));
        }
        self.below.create(key, payload)
    }

    fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Vec<u8>, StoreError> {
        // The rights that docs/security.md names: nothing else need be read.
        if key.as_config().is_none() {
            return Err(self.refuse("read", key));
        }
        self.below.get(key, range)
    }

    fn size(&self, key: &ObjectKey) -> Result<u64, StoreError> {
        self.below.size(key)
    }

    fn list(&self, prefix: Prefix, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        self.below.list(prefix, visit)
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        Err(self.refuse("delete", key))
    }

    fn location(&self) -> String {
        self.below.location()
    }

    fn requests_at_once(&self) -> usize {
        self.below.requests_at_once()
    }
}

#[test]
fn it_makes_backups_and_lists_its_own_with_the_right_to_create_alone() {
    let test = TestStore::new();
    let main = test.open();
    back_up(&test, &main, &noise(1));
    let before: Vec<(ObjectKey, Vec<u8>)> = contents(&test);
    let edge = Edge::new(&test, "edge1");
    let store = CreateOnly::new(&test.store);
    let open = || edge.try_open(Arc::clone(&store) as Arc<dyn ObjectStore>).unwrap();
    let repo = open();
    assert_eq!(repo.writer().host, "edge1");
    let (_, added) = back_up(&test, &repo, &noise(2));
    assert_eq!(added, WHOLE_BYTES);
    // In another process, it knows what it wrote.
    drop(repo);
    let repo = open();
    let (_, added) = back_up(&test, &repo, &noise(2));
    assert_eq!(added, 0);
    // What others stored is stored again: it cannot know it.
    let (_, added) = back_up(&test, &repo, &noise(1));
    assert_eq!(added, 100_000);
    let own = repo.snapshots().unwrap();
    assert_eq!(own.iter().map(|snapshot| snapshot.manifest.host.as_str()).collect::<Vec<_>>(), ["edge1"; 3]);
    assert_eq!(repo.snapshots_of_others().unwrap(), 1);
    assert_eq!(*store.refused.lock().unwrap(), Vec::<String>::new());
    // Nothing that was there is gone or changed, and a full key reads all of it.
    let after = contents(&test);
    assert!(before.iter().all(|object| after.contains(object)));
    assert_eq!(main.snapshots().unwrap().len(), 4);
}

#[test]
fn what_the_store_no_longer_lists_it_does_not_list_either() {
    let test = TestStore::new();
    let edge = Edge::new(&test, "edge1");
    let repo = edge.open(&test);
    let (_, _) = back_up(&test, &repo, &noise(1));
    let id = repo.snapshots().unwrap()[0].manifest.id;
    test.store.delete(&ObjectKey::snapshot(id)).unwrap();
    assert!(repo.snapshots().unwrap().is_empty());
    // Nor does it rely on packs whose index object is gone.
    for key in test.store_keys().iter().filter(|key| key.as_str().starts_with("index/")) {
        test.store.delete(key).unwrap();
    }
    assert_eq!(back_up(&test, &repo, &noise(1)).1, WHOLE_BYTES);
}

#[test]
fn it_can_name_hosts_with_the_full_key_where_it_may_read_headers() {
    let test = TestStore::new();
    let edge = Edge::new(&test, "edge1");
    let repo = edge.open(&test);
    back_up(&test, &repo, &noise(1));
    assert!(repo.full_key_hosts().is_empty());
    back_up(&test, &test.open(), &noise(2));
    assert_eq!(repo.full_key_hosts(), ["testhost".to_owned()].into());
    let blind = edge.try_open(CreateOnly::new(&test.store)).unwrap();
    assert!(blind.full_key_hosts().is_empty());
}

#[test]
fn it_starts_over_once_its_cache_is_lost() {
    let test = TestStore::new();
    let mut edge = Edge::new(&test, "edge1");
    back_up(&test, &edge.open(&test), &noise(1));
    edge.folders = tempfile::tempdir().unwrap();
    let repo = edge.open(&test);
    assert_eq!((repo.snapshots().unwrap().len(), repo.snapshots_of_others().unwrap()), (0, 1));
    assert_eq!(back_up(&test, &repo, &noise(1)).1, WHOLE_BYTES);
    assert_eq!((repo.snapshots().unwrap().len(), repo.snapshots_of_others().unwrap()), (1, 1));
}

/// Not by good manners: with all that lies on the host, nothing of any object opens.
#[test]
fn it_reads_neither_what_others_wrote_nor_what_it_wrote_itself() {
    let test = TestStore::new();
    let main = test.open();
    let (foreign, _) = back_up(&test, &main, &noise(1));
    let edge = Edge::new(&test, "edge1");
    let repo = edge.open(&test);
    let (own, _) = back_up(&test, &repo, &noise(2));
    // As long as the process runs that wrote it, for dumps that are looked at once more before they are committed.
    assert_eq!(&*repo.chunk(ChunkKind::Data, &own).unwrap(), noise(2));
    drop(repo);

    let repo = edge.open(&test);
    assert!(is_ingest_only(repo.require_full()));
    assert!(is_ingest_only(repo.chunk(ChunkKind::Data, &own)));
    assert!(matches!(repo.chunk(ChunkKind::Data, &foreign), Err(RepoError::MissingChunk(_))));
    let mut rows = Vec::new();
    repo.index().packs(&mut |_, pack| rows.push(pack)).unwrap();
    assert!(!rows.is_empty() && rows.iter().all(|pack| pack.key.is_none() && pack.writer.host == "edge1"));
    let mut tried = 0;
    for key in test.store_keys() {
        let bytes = test.store.get(&key, None).unwrap();
        let Ok((header, ..)) = Header::decode(&bytes) else { continue };
        let opened = header.open(header.kind, repo.keys());
        assert!(matches!(opened, Err(FormatError::Keys { .. })), "{key}");
        tried += 1;
    }
    assert!(tried >= 8, "{tried}");
    let id = repo.snapshots().unwrap()[0].manifest.id;
    assert!(is_ingest_only(repo.mark(id, MarkState::Forgotten)));
    assert!(is_ingest_only(repo.mark(id, MarkState::Protected)));
    assert!(matches!(repo.key_slots(), Err(KeyError::Repo(RepoError::IngestOnly(_)))));
    assert!(matches!(repo.export_ingest_key("edge2"), Err(KeyError::Repo(RepoError::IngestOnly(_)))));
}

/// The keys of packs do not lie on its disk, wrapped with anything that does.
#[test]
fn its_cache_is_its_own() {
    let test = TestStore::new();
    let edge = Edge::new(&test, "edge1");
    back_up(&test, &edge.open(&test), &noise(1));
    // A full key that is used on the same host for a while takes nothing away from it.
    let folder = |name: &str| edge.folders.path().join(name);
    let options = OpenOptions {
        folders: LocalFolders { cache: folder("cache"), state: folder("state") },
        host: "edge1".to_owned(),
        cache_bytes: 16 << 20,
        base_cache_bytes: None,
    };
    let store = Arc::clone(&test.store) as Arc<dyn ObjectStore>;
    let full = Repository::open(store, &options, &mut || Ok(Some(test.credential()))).unwrap();
    assert_eq!(full.snapshots().unwrap().len(), 1);
    assert_eq!(
        back_up(&test, &full, &noise(1)).1,
        WHOLE_BYTES,
        "packs of ingest-only writers are not relied on"
    );
    assert_eq!(back_up(&test, &edge.open(&test), &noise(1)).1, 0);
    let folders: Vec<PathBuf> =
        std::fs::read_dir(folder("cache")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(folders.len(), 2);
    assert!(folders.iter().all(|folder| Path::new(folder).join("index.sqlite").is_file()));
}

#[test]
fn it_cannot_speak_for_another_host() {
    let test = TestStore::new();
    let main = test.open();
    let edge = Edge::new(&test, "edge1");
    let repo = edge.open(&test);
    assert!(matches!(
        repo.require_host("db1"),
        Err(RepoError::OtherHost { own, asked }) if (own.as_str(), asked.as_str()) == ("edge1", "db1")
    ));
    // A manifest that names another host, sealed by its own hand, past all checks of this program.
    let session = SessionWriter::open(&repo, SessionOptions::new("etc")).unwrap();
    let mut manifest = test.manifest(&repo, &session, "etc", Completeness::Complete);
    manifest.host = "db1".to_owned();
    let (id, root) = (session.id(), manifest.root);
    let honest =
        SnapshotObject::Manifest(Box::new(manifest.clone())).seal(id, main.keys(), main.writer()).unwrap();
    assert!(matches!(session.commit(manifest), Err(RepoError::Encode { .. })));
    let body = open_object(ObjectKind::Snapshot, main.keys(), ObjectKey::snapshot(id).as_str(), &honest);
    let forged = seal_object(
        ObjectKind::Snapshot,
        repo.keys(),
        repo.writer(),
        ObjectKey::snapshot(id).as_str(),
        &body.unwrap().1,
    );
    test.store.create(&ObjectKey::snapshot(id), Payload::Bytes(&forged.unwrap().0)).unwrap();
    assert!(main.snapshots().unwrap().is_empty());

    // Another writer in a header: the seal does not open, since the secret is that of its own.
    let as_other = Writer { class: WriterClass::Full, host: "db1".to_owned(), id: main.writer().id };
    assert!(Header::create(ObjectKind::Snapshot, repo.keys(), &as_other).is_err());
    let other = SessionId::random(Timestamp::now()).unwrap();
    let manifest = test.manifest_of(&repo, other, "etc", Completeness::Complete, root);
    let mut bytes =
        SnapshotObject::Manifest(Box::new(manifest)).seal(other, repo.keys(), repo.writer()).unwrap();
    let name = bytes.windows(5).position(|bytes| bytes == b"edge1").unwrap();
    bytes[name..name + 5].copy_from_slice(b"edge2");
    test.store.create(&ObjectKey::snapshot(other), Payload::Bytes(&bytes)).unwrap();
    assert!(main.snapshots().unwrap().is_empty());
    assert!(matches!(SnapshotObject::open(other, main.keys(), &bytes), Err(FormatError::Seal { .. })));
}

#[test]
fn keys_of_another_domain_are_refused() {
    let (test, other) = (TestStore::new(), TestStore::new());
    let edge = Edge::new(&other, "edge1");
    let opened = edge.try_open(Arc::clone(&test.store) as Arc<dyn ObjectStore>);
    assert!(matches!(opened, Err(RepoError::OtherDomain(_))));
}

/// A host that lies: its pack holds other bytes than its directory says.
#[test]
fn poisoned_chunks_are_refused_and_relied_on_by_nobody() {
    let test = TestStore::new();
    let edge = Edge::new(&test, "edge1");
    let repo = edge.open(&test);
    let truth = noise(7);
    let claimed = repo.keys().ids().chunk_id(ChunkKind::Data, &truth);
    poison(&test, &repo, claimed);

    // For a reader that knows no other home of the chunk, it is damaged, and never other bytes.
    let main = test.open();
    main.refresh().unwrap();
    assert_eq!(main.index().homes(&claimed).unwrap().len(), 1);
    let read = main.chunk(ChunkKind::Data, &claimed);
    assert!(matches!(read, Err(RepoError::Damaged { object, .. }) if object.contains(&claimed.to_string())));
    // A writer stores the chunk again, and from then on it can be read, whichever home is tried first.
    let (id, added) = back_up(&test, &main, &truth);
    assert_eq!((id, added), (claimed, WHOLE_BYTES));
    assert_eq!(main.index().homes(&claimed).unwrap().len(), 2);
    assert_eq!(&*main.chunk(ChunkKind::Data, &claimed).unwrap(), truth);
}

/// Puts a pack whose directory says that it holds `claimed`, and the index object that names it.
fn poison(test: &TestStore, repo: &Repository, claimed: ChunkId) {
    let session = SessionWriter::open(repo, SessionOptions::new("etc")).unwrap();
    let lie = noise(8);
    let honest = session.add(ChunkKind::Data, &lie).unwrap();
    let key = ObjectKey::index(session.id(), 0);
    session.abandon().unwrap();
    let mut packs = indexed_packs(repo);
    for chunk in
        packs.iter_mut().flat_map(|pack| &mut pack.directory.frames).flat_map(|frame| &mut frame.chunks)
    {
        if chunk.id == honest {
            chunk.id = claimed;
        }
    }
    test.store.delete(&key).unwrap();
    let forged = IndexObject { supersedes: Vec::new(), packs };
    let bytes = forged.seal(repo.keys(), repo.writer(), key.as_str()).unwrap();
    test.store.create(&key, Payload::Bytes(&bytes)).unwrap();
}

/// A host that lies about packs of others: it lists them as its own, with the chunks that it knows are in them, and
/// under the name of a session that sorts before theirs.
#[test]
fn what_it_says_of_the_packs_of_others_is_left_out() {
    let mut test = TestStore::new();
    let main = test.open();
    let (id, _) = back_up(&test, &main, &noise(1));
    // A name of the same length as theirs, so that headers have it, too.
    let edge = Edge::new(&test, "edgehost");
    let liar = edge.open(&test);
    back_up(&test, &liar, &noise(2));
    let mut packs = indexed_packs(&liar);
    packs.extend(indexed_packs(&main).into_iter().map(|pack| IndexedPack {
        writer: liar.writer().clone(),
        key: SealKey::random().unwrap(),
        ..pack
    }));
    packs.sort_by_key(|pack| pack.id);
    let early = SessionId::random("1970-01-02T00:00:00Z".parse().unwrap()).unwrap();
    let key = ObjectKey::index(early, 0);
    let object = IndexObject { supersedes: Vec::new(), packs };
    let bytes = object.seal(liar.keys(), liar.writer(), key.as_str()).unwrap();
    test.store.create(&key, Payload::Bytes(&bytes)).unwrap();

    let reader = test.open_cold();
    reader.refresh().unwrap();
    assert_eq!(reader.index().homes(&id).unwrap().len(), 1);
    assert_eq!(&*reader.chunk(ChunkKind::Data, &id).unwrap(), noise(1));
    assert_eq!(back_up(&test, &reader, &noise(1)).1, 0, "the pack of the full writer is still relied on");
    let mut seen = Vec::new();
    reader.index().packs(&mut |_, pack| seen.push(pack.writer.host)).unwrap();
    seen.sort();
    assert_eq!(seen, ["edgehost", "edgehost", "testhost", "testhost"]);
    // Nothing is decided on the word of a liar.
    let reader = test.open_cold();
    let strict = reader.refresh_strictly();
    assert!(matches!(strict, Err(RepoError::Damaged { object, .. }) if object == key.as_str()));
    assert!(reader.index_object(&key, None).is_err());
}

/// A host that sees the mark of another's session takes the name of its index object.
#[test]
fn a_name_that_was_taken_keeps_nobody_from_committing() {
    let test = TestStore::new();
    let main = test.open();
    let session = SessionWriter::open(&main, SessionOptions::new("etc")).unwrap();
    test.store.create(&ObjectKey::index(session.id(), 0), Payload::Bytes(b"rubbish")).unwrap();
    let id = session.add(ChunkKind::Data, &noise(1)).unwrap();
    let manifest = test.manifest(&main, &session, "etc", Completeness::Complete);
    session.commit(manifest).unwrap();
    let mut test = test;
    let reader = test.open_cold();
    reader.refresh().unwrap();
    assert_eq!(&*reader.chunk(ChunkKind::Data, &id).unwrap(), noise(1));
}

fn contents(test: &TestStore) -> Vec<(ObjectKey, Vec<u8>)> {
    let keys = test.store_keys();
    keys.into_iter().map(|key| (key.clone(), test.store.get(&key, None).unwrap())).collect()
}
