//! What the real code does in turns, or at once, replayed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::record::{Actor, Event, Record, What};
use super::{Known, Purpose, replay};
use crate::chunker::ChunkerParams;
use crate::crypto::hash::ChunkKind;
use crate::crypto::slot::{Credential, FileKey};
use crate::format::content::{Content, ContentItem};
use crate::format::snapshot::{Completeness, Manifest, MarkState, SnapshotTotals};
use crate::format::tree::{Attributes, Entry, EntryKind, TreeBuilder};
use crate::id::{ChunkId, SessionId};
use crate::ops::forget::undo;
use crate::ops::gc::{self, GcOptions, GcStats, OtherWriters};
use crate::path::Name;
use crate::progress::Silent;
use crate::repo::open::{CreateOptions, LocalFolders, OpenOptions};
use crate::repo::session::{SessionOptions, SessionWriter};
use crate::repo::{RepoError, Repository};
use crate::store::ObjectStore;
use crate::store::key::Prefix;
use crate::store::memory::MemoryStore;

/// Those who work on the store, each as on a host of its own.
const FIRST_WRITER: Actor = 0;
const SECOND_WRITER: Actor = 1;
const FIRST_COLLECTOR: Actor = 2;
const SECOND_COLLECTOR: Actor = 3;
const ACTORS: usize = 4;

const ALONE: GcOptions =
    GcOptions { grace: SignedDuration::ZERO, wait: Duration::ZERO, writers: OtherWriters::None, threads: 1 };

/// A store, and what is recorded of it.
struct Stage {
    record: Record,
    hosts: Vec<Repository>,
    snapshots: HashMap<SessionId, (Vec<ChunkId>, Purpose)>,
    _folders: tempfile::TempDir,
}

/// A session that has stored what its snapshot needs.
struct Written {
    session: SessionWriter,
    manifest: Manifest,
}

impl Stage {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let key = FileKey::random().unwrap();
        let credentials = vec![Credential::FileKey(key.clone())];
        let options = CreateOptions { credentials, chunker: ChunkerParams::DEFAULT };
        Repository::create(store.as_ref(), &options).unwrap();
        let (record, folders) = (Record::default(), tempfile::tempdir().unwrap());
        let host = |actor: Actor| {
            let folder = folders.path().join(actor.to_string());
            let options = OpenOptions {
                folders: LocalFolders { cache: folder.join("cache"), state: folder.join("state") },
                host: format!("host{actor}"),
                cache_bytes: 1 << 20,
                base_cache_bytes: None,
            };
            let view: Arc<dyn ObjectStore> = record.view(&store, actor);
            let mut credential = || Ok(Some(Credential::FileKey(key.clone())));
            Repository::open(view, &options, &mut credential).unwrap()
        };
        let hosts = (0..ACTORS).map(host).collect();
        Self { record, hosts, snapshots: HashMap::new(), _folders: folders }
    }

    fn open(&self, actor: Actor) -> SessionWriter {
        let options = SessionOptions { threads: 1, ..SessionOptions::new("s") };
        SessionWriter::open(&self.hosts[actor], options).unwrap()
    }

    /// Stores a snapshot of files, each of which is one chunk of its own.
    fn write(&mut self, session: SessionWriter, files: &str) -> Written {
        let mut needed = Vec::new();
        let ids = self.hosts[FIRST_WRITER].keys().ids().clone();
        let mut builder = TreeBuilder::new(ids);
        let mut pages = Vec::new();
        let mut put_page = |page: Vec<u8>| -> Result<ChunkId, Box<dyn std::error::Error>> {
            let id = session.add(ChunkKind::Tree, &page)?;
            pages.push(id);
            Ok(id)
        };
        for file in files.chars() {
            let bytes = noise(file);
            let id = session.add(ChunkKind::Data, &bytes).unwrap();
            needed.push(id);
            let content = Content::Inline(vec![ContentItem::Data(id, u32::try_from(bytes.len()).unwrap())]);
            let name = Name::new(file.to_string().as_bytes()).unwrap();
            let entry =
                Entry { name, attributes: Attributes::default(), link: None, kind: EntryKind::File(content) };
            builder.push(entry, &mut put_page).unwrap();
        }
        let root = builder.finish(&mut put_page).unwrap();
        needed.append(&mut pages);
        self.snapshots.insert(session.id(), (needed, Purpose::Backup));
        let manifest = Manifest {
            id: session.id(),
            time: Timestamp::now(),
            finished: Timestamp::now(),
            source: "s".to_owned(),
            host: "host".to_owned(),
            tags: Vec::new(),
            paths: Vec::new(),
            command: None,
            completeness: Completeness::Complete,
            root_attributes: Attributes::default(),
            root,
            tree_packs: Vec::new(),
            totals: SnapshotTotals::default(),
            dump: None,
            outputs: Vec::new(),
            program: "test".to_owned(),
            origin: None,
        };
        Written { session, manifest }
    }

    fn commit(&mut self, actor: Actor, files: &str) -> SessionId {
        let session = self.open(actor);
        let Written { session, manifest } = self.write(session, files);
        session.commit(manifest).unwrap().0.id
    }

    fn mark(&self, id: SessionId, state: MarkState) {
        self.hosts[FIRST_WRITER].mark(id, state).unwrap();
    }

    fn forget(&self, id: SessionId) {
        self.mark(id, MarkState::Forgotten);
    }

    /// Brings a snapshot back.
    fn undo(&mut self, id: SessionId) {
        let host = &self.hosts[SECOND_WRITER];
        let forgotten = host.find_forgotten(&id.hex()).unwrap();
        let back = undo(host, &forgotten).unwrap();
        let needed = self.snapshots[&id].0.clone();
        self.snapshots.insert(back.snapshot().manifest.id, (needed, Purpose::Undo));
    }

    fn collect(&self, actor: Actor, options: &GcOptions) -> GcStats {
        let stats = gc::collect(&self.hosts[actor], options, &Silent).unwrap();
        self.record.ended(actor);
        stats
    }

    /// Replays all that happened. A record in which next to nothing is a step of the model would show nothing.
    fn replay(&self, steps_min: usize) {
        let host = &self.hosts[FIRST_WRITER];
        let known = Known {
            keys: host.keys(),
            store: host.config().store,
            collectors: &[FIRST_COLLECTOR, SECOND_COLLECTOR],
            snapshots: &self.snapshots,
        };
        let steps = replay(&self.record.events(), &known);
        assert!(steps >= steps_min, "only {steps} steps");
    }
}

/// Bytes that do not compress, enough for a frame of their own.
fn noise(file: char) -> Vec<u8> {
    let mut bytes = vec![0; 150_000];
    blake3::Hasher::new().update(&[u8::try_from(file).unwrap()]).finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn what_is_forgotten_goes_and_what_others_share_stays() {
    let mut stage = Stage::new();
    let first = stage.commit(FIRST_WRITER, "abc");
    stage.commit(SECOND_WRITER, "bcd");
    stage.commit(FIRST_WRITER, "bcd");
    stage.forget(first);
    let stats = stage.collect(FIRST_COLLECTOR, &ALONE);
    assert_eq!(stats.dropped_snapshots, 1);
    stage.commit(SECOND_WRITER, "ae");
    stage.collect(SECOND_COLLECTOR, &ALONE);
    stage.replay(35);
}

#[test]
fn what_is_left_of_a_pack_is_written_anew() {
    let mut stage = Stage::new();
    let first = stage.commit(FIRST_WRITER, "abcd");
    stage.commit(SECOND_WRITER, "c");
    stage.forget(first);
    let stats = stage.collect(FIRST_COLLECTOR, &ALONE);
    assert_eq!((stats.rewritten_packs, stats.dropped_snapshots), (1, 1));
    stage.commit(SECOND_WRITER, "c");
    stage.replay(25);
}

#[test]
fn a_session_that_began_before_relies_on_what_is_condemned() {
    let mut stage = Stage::new();
    let first = stage.commit(FIRST_WRITER, "ab");
    stage.forget(first);
    let session = stage.open(SECOND_WRITER);
    let waiting = stage.collect(FIRST_COLLECTOR, &GcOptions { writers: OtherWriters::Any, ..ALONE });
    assert_eq!(waiting.waiting_for.len(), 1);
    // This one begins afterwards, and relies on none of it.
    stage.commit(FIRST_WRITER, "b");
    let Written { session, manifest } = stage.write(session, "a");
    session.commit(manifest).unwrap();
    let stats = stage.collect(SECOND_COLLECTOR, &ALONE);
    assert_eq!((stats.waiting_for.len(), stats.dropped_snapshots), (0, 1));
    stage.replay(35);
}

#[test]
fn a_fenced_session_ends_without_a_commit() {
    let mut stage = Stage::new();
    let first = stage.commit(FIRST_WRITER, "ab");
    stage.forget(first);
    let session = stage.open(SECOND_WRITER);
    let Written { session, manifest } = stage.write(session, "ac");
    let settled = session.settle().unwrap();
    stage.collect(FIRST_COLLECTOR, &ALONE);
    assert!(matches!(settled.commit(manifest), Err(RepoError::Fenced { .. })));
    let given_up = stage.open(SECOND_WRITER);
    stage.write(given_up, "c").session.abandon().unwrap();
    stage.commit(SECOND_WRITER, "ac");
    stage.collect(FIRST_COLLECTOR, &ALONE);
    stage.replay(35);
}

#[test]
fn what_is_forgotten_is_brought_back() {
    let mut stage = Stage::new();
    let first = stage.commit(FIRST_WRITER, "ab");
    let second = stage.commit(FIRST_WRITER, "cd");
    stage.forget(first);
    stage.forget(second);
    stage.undo(first);
    let stats = stage.collect(FIRST_COLLECTOR, &ALONE);
    assert_eq!((stats.dropped_snapshots, stats.deleted_packs), (2, 2));
    stage.replay(25);
}

#[test]
fn what_is_protected_stays_though_it_is_forgotten() {
    let mut stage = Stage::new();
    let first = stage.commit(FIRST_WRITER, "ab");
    stage.mark(first, MarkState::Protected);
    stage.forget(first);
    let second = stage.commit(SECOND_WRITER, "bc");
    stage.forget(second);
    assert_eq!(stage.collect(FIRST_COLLECTOR, &ALONE).dropped_snapshots, 1);
    stage.replay(25);
}

/// In any order that comes: each listing, creation and deletion happens alone, and between two of one anything of the
/// others may.
#[test]
fn writers_and_collectors_at_once() {
    for _ in 0..10 {
        let mut stage = Stage::new();
        let first = stage.commit(FIRST_WRITER, "ab");
        let second = stage.commit(SECOND_WRITER, "bc");
        stage.forget(first);
        let session = stage.open(SECOND_WRITER);
        let Written { session, manifest } = stage.write(session, "ad");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let patient =
                    GcOptions { wait: Duration::from_secs(20), writers: OtherWriters::Any, ..ALONE };
                stage.collect(FIRST_COLLECTOR, &patient);
            });
            scope.spawn(|| session.commit(manifest).unwrap());
            scope.spawn(|| stage.mark(second, MarkState::Forgotten));
        });
        stage.collect(SECOND_COLLECTOR, &ALONE);
        stage.replay(25);
    }
}

#[test]
fn a_step_that_is_left_out_is_noticed() {
    let mut stage = Stage::new();
    let first = stage.commit(FIRST_WRITER, "ab");
    stage.commit(SECOND_WRITER, "bc");
    stage.forget(first);
    stage.collect(FIRST_COLLECTOR, &ALONE);
    let host = &stage.hosts[FIRST_WRITER];
    let known = Known {
        keys: host.keys(),
        store: host.config().store,
        collectors: &[FIRST_COLLECTOR],
        snapshots: &stage.snapshots,
    };
    let events = stage.record.events();
    for (actor, prefix) in [
        (FIRST_WRITER, Prefix::Gc),
        (FIRST_WRITER, Prefix::Index),
        (FIRST_COLLECTOR, Prefix::Sessions),
        (FIRST_COLLECTOR, Prefix::Marks),
        (FIRST_COLLECTOR, Prefix::Snapshots),
        (FIRST_COLLECTOR, Prefix::Gc),
        (FIRST_COLLECTOR, Prefix::Index),
    ] {
        let is_it =
            |event: &Event| event.actor == actor && matches!(&event.what, What::Listed(of) if *of == prefix);
        let without: Vec<_> = events.iter().filter(|event| !is_it(event)).cloned().collect();
        let replayed = std::panic::catch_unwind(|| replay(&without, &known));
        assert!(replayed.is_err(), "without the listings of {prefix}");
    }
    replay(&events, &known);
}
