//! What sessions make of collections: which packs they do not rely on, and what they leave behind themselves.

use super::*;
use crate::format::collection::{Collection, Stage};
use crate::id::PackId;

/// Says that packs are about to go, or may go.
fn collect(repo: &Repository, number: u32, stage: Stage, packs: &[PackId]) {
    let mut packs = packs.to_vec();
    packs.sort_unstable();
    let collection = Collection {
        store: repo.config().store,
        number,
        stage,
        time: Timestamp::now(),
        packs,
        snapshots: Vec::new(),
    };
    repo.put_collection(&collection).unwrap();
}

fn packs(repo: &Repository) -> Vec<PackId> {
    let mut packs = Vec::new();
    repo.index().packs(&mut |_, pack| packs.push(pack.id)).unwrap();
    packs
}

fn open(repo: &Repository) -> SessionWriter {
    SessionWriter::open(repo, SessionOptions::new("test")).unwrap()
}

fn contains(repo: &Repository, id: &ChunkId) -> bool {
    open(repo).contains(id).unwrap()
}

#[test]
fn packs_that_are_about_to_go_are_not_relied_on() {
    let test = TestStore::new();
    let repo = test.open();
    let first = open(&repo);
    let id = first.add(ChunkKind::Data, b"a chunk").unwrap();
    first.abandon().unwrap();
    assert!(contains(&repo, &id));
    collect(&repo, 3, Stage::Condemned, &packs(&repo));
    assert!(!contains(&repo, &id));
    let second = open(&repo);
    second.add(ChunkKind::Data, b"a chunk").unwrap();
    assert_eq!(second.abandon().unwrap().new_chunks, 1);
    assert!(contains(&repo, &id), "it has another home now");
    // What the end of a collection does not name was saved.
    collect(&repo, 4, Stage::Condemned, &packs(&repo));
    assert!(!contains(&repo, &id));
    collect(&repo, 4, Stage::Final, &[]);
    assert!(contains(&repo, &id));
}

#[test]
fn packs_that_went_stay_gone_though_an_index_object_names_them() {
    let test = TestStore::new();
    let repo = test.open();
    let first = open(&repo);
    let id = first.add(ChunkKind::Data, b"a chunk").unwrap();
    first.abandon().unwrap();
    collect(&repo, 0, Stage::Final, &packs(&repo));
    assert!(!contains(&repo, &id));
}

#[test]
fn what_stands_on_a_pack_that_is_about_to_go_is_not_relied_on() {
    let test = TestStore::new();
    let repo = test.open();
    let mut plain = noise(5, 100_000);
    let base = open(&repo);
    base.add(ChunkKind::Data, &plain).unwrap();
    base.abandon().unwrap();
    let condemned = packs(&repo);
    plain[50_000] ^= 1;
    let delta = open(&repo);
    let id = delta.add(ChunkKind::Data, &plain).unwrap();
    assert_eq!(delta.abandon().unwrap().deltas.frames, 1);
    assert!(contains(&repo, &id));
    collect(&repo, 0, Stage::Condemned, &condemned);
    assert!(!contains(&repo, &id));
    let again = open(&repo);
    again.add(ChunkKind::Data, &plain).unwrap();
    let stats = again.abandon().unwrap();
    assert_eq!((stats.new_chunks, stats.deltas.frames), (1, 0), "it is no base any more");
}

#[test]
fn what_cannot_be_known_is_refused_before_anything_is_written() {
    let test = TestStore::new();
    let repo = test.open();
    for key in [ObjectKey::gc(1, Stage::Condemned), ObjectKey::parse("gc/later").unwrap()] {
        test.store.create(&key, Payload::Bytes(b"rubbish")).unwrap();
        let before = test.store_keys();
        let refused = SessionWriter::open(&repo, SessionOptions::new("test")).map(|_| ());
        let Err(RepoError::UnknownCollection { object, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(object, key.as_str());
        assert_eq!(test.store_keys(), before);
        test.store.delete(&key).unwrap();
    }
}

#[test]
fn a_session_that_gives_up_leaves_a_tombstone() {
    let test = TestStore::new();
    let repo = test.open();
    let abandoned = open(&repo);
    let dropped = open(&repo);
    let unsettled = open(&repo);
    let ids = [abandoned.id(), dropped.id(), unsettled.id()];
    abandoned.abandon().unwrap();
    drop(dropped);
    drop(unsettled.settle().unwrap());
    for id in ids {
        let bytes = test.store.get(&ObjectKey::snapshot(id), None).unwrap();
        let (_, object) = SnapshotObject::open(id, repo.keys(), &bytes).unwrap();
        assert!(matches!(object, SnapshotObject::Tombstone { .. }));
    }
    assert!(repo.snapshots().unwrap().is_empty());
}
