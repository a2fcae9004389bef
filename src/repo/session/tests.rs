//! Sessions against a store in memory, sound and faulty.

use std::sync::Arc;

use jiff::Timestamp;

use super::*;
use crate::crypto::seal::SealKey;
use crate::format::frame::{Encoding, FRAME_MAX_BYTES, FrameEntry};
use crate::format::header::{HeaderHash, ObjectKind};
use crate::format::index_object::{IndexObject, IndexedPack};
use crate::format::pack::Directory;
use crate::format::snapshot::{Completeness, Mark, MarkState, SnapshotTotals};
use crate::format::tree::{Attributes, TreeBuilder};
use crate::id::WriterId;
use crate::repo::testing::TestStore;
use crate::store::StoreErrorKind;
use crate::store::fault::{Fault, FaultStore, Operation};
use crate::store::key::Prefix;

/// Returns bytes that do not compress, different for each seed.
fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

fn manifest(session: &SessionWriter, repo: &Repository) -> Manifest {
    let mut emit = |page: Vec<u8>| session.add(ChunkKind::Tree, &page).map_err(Error::Repo);
    let root = TreeBuilder::new(repo.keys().ids().clone()).finish(&mut emit).unwrap();
    let time = Timestamp::from_second(1_800_000_000).unwrap();
    Manifest {
        id: session.id(),
        time,
        finished: time,
        source: "test".to_owned(),
        host: "testhost".to_owned(),
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
    }
}

#[derive(Debug)]
enum Error {
    Repo(#[expect(dead_code, reason = "shown by unwrap")] RepoError),
    Format(#[expect(dead_code, reason = "shown by unwrap")] crate::format::FormatError),
}

impl From<crate::format::FormatError> for Error {
    fn from(error: crate::format::FormatError) -> Self {
        Self::Format(error)
    }
}

fn count(test: &TestStore, prefix: Prefix) -> usize {
    let mut count = 0;
    test.store.list(prefix, &mut |_| count += 1).unwrap();
    count
}

#[test]
fn what_was_committed_is_read_back_by_a_host_that_never_saw_the_store() {
    let mut test = TestStore::new();
    let repo = test.open();
    let options = SessionOptions { pack_target_bytes: 1 << 20, ..SessionOptions::new("test") };
    let session = SessionWriter::open(&repo, options).unwrap();
    let chunks: Vec<Vec<u8>> = (0..40).map(|seed| noise(seed, 1 + 3000 * usize::from(seed))).collect();
    let ids: Vec<ChunkId> = chunks.iter().map(|plain| session.add(ChunkKind::Data, plain).unwrap()).collect();
    let again = session.add(ChunkKind::Data, &chunks[7]).unwrap();
    assert_eq!(again, ids[7]);
    let prepared = manifest(&session, &repo);
    let (committed, stats) = session.commit(prepared).unwrap();
    assert_eq!(stats.chunks, 42);
    assert_eq!(stats.new_chunks, 41);
    assert_eq!(stats.packs, u64::try_from(count(&test, Prefix::Packs)).unwrap());
    assert!(stats.packs >= 3, "{stats:?}");
    assert_eq!(committed.tree_packs.len(), 1);

    // Who commits a tree of an older session again keeps what its snapshot says of it, and adds what is new.
    let session = SessionWriter::open(&repo, SessionOptions::new("test")).unwrap();
    session.add(ChunkKind::Tree, b"another page").unwrap();
    let (again, stats) = session.commit(committed.clone()).unwrap();
    assert_eq!(again.tree_packs.len(), 2);
    assert_eq!(again.tree_packs[0], committed.tree_packs[0]);
    assert_eq!(again.totals.added_bytes, committed.totals.added_bytes + stats.added_bytes);
    assert_eq!(again.totals.stored_bytes, committed.totals.stored_bytes + stats.stored_bytes);
    assert!(stats.added_bytes > 0 && stats.stored_bytes > 0);
    test.store.delete(&ObjectKey::snapshot(again.id)).unwrap();

    let cold = test.open_cold();
    cold.refresh().unwrap();
    for (id, plain) in ids.iter().zip(&chunks) {
        assert_eq!(&*cold.chunk(ChunkKind::Data, id).unwrap(), plain.as_slice());
    }
    let snapshots = cold.snapshots().unwrap();
    assert_eq!(snapshots.len(), 1);
    assert_eq!(snapshots[0].manifest, committed);
    assert_eq!(cold.find_snapshot("latest").unwrap().manifest.id, committed.id);
    assert_eq!(cold.find_snapshot("latest:test").unwrap().manifest.id, committed.id);
    assert_eq!(cold.find_snapshot(&committed.id.hex()[..6]).unwrap().manifest.id, committed.id);
    assert!(matches!(cold.find_snapshot("latest:other"), Err(RepoError::NoSnapshot(_))));
}

#[test]
fn an_abandoned_session_leaves_chunks_for_the_next_one_and_no_snapshot() {
    let test = TestStore::new();
    let repo = test.open();
    let session = SessionWriter::open(&repo, SessionOptions::new("test")).unwrap();
    let id = session.add(ChunkKind::Data, b"some bytes").unwrap();
    session.abandon().unwrap();
    assert_eq!(repo.snapshots().unwrap().len(), 0);
    let next = SessionWriter::open(&repo, SessionOptions::new("test")).unwrap();
    assert!(next.contains(&id).unwrap());
    next.add(ChunkKind::Data, b"some bytes").unwrap();
    assert_eq!(next.abandon().unwrap().packs, 0);
}

/// The session remembers each of its chunks until an index object names it.
#[test]
fn an_index_object_is_written_as_soon_as_enough_chunks_wait_for_one() {
    let test = TestStore::new();
    let repo = test.open();
    // Three chunks fill a frame, and each frame fills a pack.
    let options = SessionOptions {
        frame_target_bytes: 30,
        pack_target_bytes: 1,
        chunks_per_index_object: 7,
        ..SessionOptions::new("test")
    };
    let session = SessionWriter::open(&repo, options).unwrap();
    for seed in 0..27 {
        session.add(ChunkKind::Data, &noise(seed, 10)).unwrap();
    }
    assert_eq!(session.abandon().unwrap().packs, 9);
    let mut keys = Vec::new();
    test.store.list(Prefix::Index, &mut |object| keys.push(object.key)).unwrap();
    let waited = keys.iter().map(|key| {
        let bytes = test.store.get(key, None).unwrap();
        let (_, object) = IndexObject::open(repo.keys(), key.as_str(), &bytes).unwrap();
        let frames = object.packs.iter().flat_map(|pack| &pack.directory.frames);
        frames.map(|frame| frame.chunks.len()).sum::<usize>()
    });
    let waited: Vec<usize> = waited.collect();
    assert!(waited.iter().all(|chunks| *chunks < 7 + 3), "the bound and less than a pack: {waited:?}");
    assert_eq!(waited, [9, 9, 9], "as late as that allows");
}

/// The frame that it should have made never comes; the other encoders would go on, and the packer wait, for ever.
#[test]
fn an_encoder_that_fails_ends_the_session() {
    let test = TestStore::new();
    let repo = test.open();
    let options = SessionOptions { threads: 2, ..SessionOptions::new("test") };
    let session = SessionWriter::open(&repo, options).unwrap();
    session.add(ChunkKind::Data, &vec![0; FRAME_MAX_BYTES + 1]).unwrap();
    let refused = (0_u32..1000).find_map(|number| {
        let plain = number.to_le_bytes().repeat(50_000);
        session.add(ChunkKind::Data, &plain).err()
    });
    assert!(matches!(refused, Some(RepoError::SessionFailed)), "{refused:?}");
    let reason = session.abandon().map(|_| ());
    assert!(matches!(reason, Err(RepoError::Encode { .. })), "{reason:?}");
}

#[test]
fn a_fenced_session_fails_loudly_and_leaves_the_fence() {
    let test = TestStore::new();
    let repo = test.open();
    let session = SessionWriter::open(&repo, SessionOptions::new("test")).unwrap();
    let prepared = manifest(&session, &repo);
    let tombstone = SnapshotObject::Tombstone { time: prepared.time };
    let fence = tombstone.seal(session.id(), repo.keys(), repo.writer()).unwrap();
    test.store.create(&ObjectKey::snapshot(session.id()), Payload::Bytes(&fence)).unwrap();
    assert!(matches!(session.commit(prepared), Err(RepoError::Fenced { .. })));
    assert_eq!(repo.snapshots().unwrap().len(), 0);
}

#[test]
fn a_commit_whose_reply_was_lost_counts() {
    let test = TestStore::new();
    let faulty = Arc::new(FaultStore::new(Arc::clone(&test.store) as Arc<dyn ObjectStore>));
    let repo = test.open_through(Arc::clone(&faulty) as Arc<dyn ObjectStore>);
    let session = SessionWriter::open(&repo, SessionOptions::new("test")).unwrap();
    let prepared = manifest(&session, &repo);
    let mut lost = false;
    faulty.script(move |call| {
        let is_commit = call.operation == Operation::Create && call.object.starts_with("snapshots/");
        let first = is_commit && !std::mem::replace(&mut lost, is_commit);
        first.then_some(Fault::FailAfter(StoreErrorKind::Unavailable))
    });
    session.commit(prepared).unwrap();
    assert_eq!(repo.snapshots().unwrap().len(), 1);
}

/// Whatever mutation the store dies at, there is no snapshot, the error is the store's, and the next session works.
#[test]
fn a_store_that_dies_anywhere_leaves_no_half_snapshot() {
    let test = TestStore::new();
    // The first session stores the empty root directory, which the later ones find there.
    let faulty = Arc::new(FaultStore::new(Arc::clone(&test.store) as Arc<dyn ObjectStore>));
    write_one(&test, &faulty, 80, usize::MAX).unwrap();
    let full_run = {
        let faulty = Arc::new(FaultStore::new(Arc::clone(&test.store) as Arc<dyn ObjectStore>));
        write_one(&test, &faulty, 0, usize::MAX).unwrap();
        faulty.calls().iter().filter(|call| call.operation.is_mutating()).count()
    };
    assert!(full_run >= 5, "mark, packs, index object, snapshot: {full_run}");
    for mutations in 0..full_run {
        let faulty = Arc::new(FaultStore::new(Arc::clone(&test.store) as Arc<dyn ObjectStore>));
        let seed = u8::try_from(mutations + 1).unwrap();
        assert!(
            matches!(write_one(&test, &faulty, seed, mutations), Err(RepoError::Store(_))),
            "{mutations}"
        );
    }
    let repo = test.open();
    repo.refresh().unwrap();
    assert_eq!(repo.snapshots().unwrap().len(), 2);
    let faulty = Arc::new(FaultStore::new(Arc::clone(&test.store) as Arc<dyn ObjectStore>));
    write_one(&test, &faulty, 70, usize::MAX).unwrap();
    assert_eq!(repo.snapshots().unwrap().len(), 3);
}

/// Writes a snapshot of several packs on a store that dies after so many mutations.
fn write_one(test: &TestStore, store: &Arc<FaultStore>, seed: u8, mutations: usize) -> Result<(), RepoError> {
    let repo = test.open_through(Arc::clone(store) as Arc<dyn ObjectStore>);
    store.die_after(mutations);
    let options = SessionOptions { pack_target_bytes: 64 << 10, ..SessionOptions::new("test") };
    let session = SessionWriter::open(&repo, options)?;
    for part in 0..3 {
        session.add(ChunkKind::Data, &noise(seed.wrapping_mul(3).wrapping_add(part), 200_000))?;
    }
    let prepared = manifest(&session, &repo);
    session.commit(prepared).map(|_| ())
}

#[test]
fn a_damaged_frame_never_reaches_a_reader() {
    let mut test = TestStore::new();
    let repo = test.open();
    let session = SessionWriter::open(&repo, SessionOptions::new("test")).unwrap();
    let id = session.add(ChunkKind::Data, &noise(1, 100_000)).unwrap();
    session.abandon().unwrap();
    let faulty = Arc::new(FaultStore::new(Arc::clone(&test.store) as Arc<dyn ObjectStore>));
    let _ = test.open_cold();
    let cold = test.open_through(Arc::clone(&faulty) as Arc<dyn ObjectStore>);
    cold.refresh().unwrap();
    for bit in [0, 1, 8 * 50_000, 8 * 100_015] {
        faulty.script(move |call| {
            (call.operation == Operation::Get && call.object.starts_with("packs/"))
                .then_some(Fault::FlipBit(bit))
        });
        assert!(matches!(cold.chunk(ChunkKind::Data, &id), Err(RepoError::Damaged { .. })), "{bit}");
    }
    faulty.clear_script();
    assert_eq!(&*cold.chunk(ChunkKind::Data, &id).unwrap(), noise(1, 100_000).as_slice());
}

#[test]
fn a_chunk_that_cannot_be_read_is_stored_again() {
    let test = TestStore::new();
    let repo = test.open();
    let first = SessionWriter::open(&repo, SessionOptions::new("test")).unwrap();
    let id = first.add(ChunkKind::List, b"a node").unwrap();
    first.abandon().unwrap();
    let second = SessionWriter::open(&repo, SessionOptions::new("test")).unwrap();
    assert!(second.contains(&id).unwrap());
    second.distrust(id);
    assert!(!second.contains(&id).unwrap());
    assert_eq!(second.add(ChunkKind::List, b"a node").unwrap(), id);
    assert!(second.contains(&id).unwrap());
    assert_eq!(second.abandon().unwrap().new_chunks, 1);
}

/// An index that was emptied shows what is answered without it.
#[test]
fn what_lies_beside_a_usable_chunk_is_usable_without_another_look() {
    let test = TestStore::new();
    let repo = test.open();
    let first = SessionWriter::open(&repo, SessionOptions::new("test")).unwrap();
    let ids = [b"one", b"two", b"six"].map(|plain| first.add(ChunkKind::Data, plain).unwrap());
    let elsewhere = first.add(ChunkKind::List, b"a frame of its own").unwrap();
    first.abandon().unwrap();
    let second = SessionWriter::open(&repo, SessionOptions::new("test")).unwrap();
    assert!(second.contains(&ids[0]).unwrap());
    second.distrust(ids[2]);
    repo.index().reset().unwrap();
    assert!(second.contains(&ids[0]).unwrap() && second.contains(&ids[1]).unwrap());
    assert!(!second.contains(&ids[2]).unwrap(), "it turned out to be damaged");
    assert!(!second.contains(&elsewhere).unwrap());
    second.abandon().unwrap();
}

#[test]
fn what_lies_in_the_pack_of_an_ingest_only_writer_is_not_relied_on() {
    let test = TestStore::new();
    let repo = test.open();
    let session = SessionWriter::open(&repo, SessionOptions::new("test")).unwrap();
    let ids = [1, 2].map(|byte| ChunkId::from_bytes([byte; 32]));
    let chunks = ids.map(|id| FrameChunk { kind: ChunkKind::Data, id, length: 5 });
    let frame =
        FrameEntry { stored_length: 30, encoding: Encoding::Raw, features: None, chunks: chunks.to_vec() };
    let pack = |number, class| IndexedPack {
        id: PackId::from_bytes([number; 32]),
        kind: ObjectKind::DataPack,
        bytes: 1000,
        writer: Writer { class, host: "edge1".to_owned(), id: WriterId::from_bytes([number; 16]) },
        header_hash: HeaderHash([0; 32]),
        header_bytes: 100,
        key: SealKey::from_bytes(&[0; 32]),
        directory: Directory { frames: vec![frame.clone()] },
    };
    for (number, class, usable) in [(1, WriterClass::IngestOnly, false), (2, WriterClass::Full, true)] {
        let object = IndexObject { supersedes: Vec::new(), packs: vec![pack(number, class)] };
        repo.index().apply(&format!("index/{number}"), &object).unwrap();
        for id in &ids {
            assert_eq!(session.contains(id).unwrap(), usable, "{class:?}");
        }
    }
    session.abandon().unwrap();
}

#[test]
fn a_mark_that_does_not_open_hides_none_below_it() {
    let test = TestStore::new();
    let repo = test.open();
    let session = SessionWriter::open(&repo, SessionOptions::new("test")).unwrap();
    let prepared = manifest(&session, &repo);
    let (committed, _) = session.commit(prepared).unwrap();
    let forgotten = Mark { time: committed.time, state: MarkState::Forgotten };
    let sealed = forgotten.seal(committed.id, 0, repo.keys(), repo.writer()).unwrap();
    test.store.create(&ObjectKey::mark(committed.id, 0), Payload::Bytes(&sealed)).unwrap();
    test.store.create(&ObjectKey::mark(committed.id, 9), Payload::Bytes(b"rubbish")).unwrap();
    assert!(repo.snapshots().unwrap().is_empty());
}

mod collections;
mod deltas;
