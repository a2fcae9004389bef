//! Hosts with an ingest-only key that say what is not so: a collection deletes nothing on their word.

use super::*;
use crate::format::index_object::IndexObject;
use crate::id::{ChunkId, SessionId};
use crate::repo::testing::indexed_packs;
use crate::store::key::ObjectKey;

/// Puts one more index object of a host's packs, sorted before all others, in which `claimed` stands for what is there.
fn claim(edge: &Fixture, truth: &[u8], claimed: ChunkId) {
    let truth = edge.repo.keys().ids().chunk_id(ChunkKind::Data, truth);
    let mut packs = indexed_packs(&edge.repo);
    let frames = packs.iter_mut().flat_map(|pack| &mut pack.directory.frames);
    for chunk in frames.flat_map(|frame| &mut frame.chunks).filter(|chunk| chunk.id == truth) {
        chunk.id = claimed;
    }
    let early = SessionId::random("1970-01-02T00:00:00Z".parse().unwrap()).unwrap();
    let key = ObjectKey::index(early, 0);
    let object = IndexObject { supersedes: Vec::new(), packs };
    let bytes = object.seal(edge.repo.keys(), edge.repo.writer(), key.as_str()).unwrap();
    edge.memory.create(&key, Payload::Bytes(&bytes)).unwrap();
}

fn id_of(bytes: &[u8], world: &World) -> ChunkId {
    world.fixture.repo.keys().ids().chunk_id(ChunkKind::Data, bytes)
}

/// Commits a file of one chunk on a host with an ingest-only key.
fn commit_on(edge: &Fixture, bytes: &[u8]) -> Snapshot {
    edge.commit(|maker| vec![maker.sparse_file("file", vec![Ok(bytes)])])
}

/// Returns the hosts that say that they have a chunk, in the order in which they are looked at.
fn hosts_of(world: &World, id: ChunkId) -> Vec<String> {
    let index = world.fixture.repo.index();
    let places = index.places(&id).unwrap();
    places.iter().map(|place| index.pack(place.frame.pack).unwrap().unwrap().writer.host).collect()
}

#[test]
fn what_full_writers_stored_stays_whatever_others_claim_to_have() {
    let mut world = World::new();
    let (truth, lie) = (noise(1, 40_000), noise(2, 40_000));
    let snapshot = world.commit_chunks(&[("file", &truth)]);
    let edge = world.fixture.on_ingest_only_host("edge1");
    commit_on(&edge, &lie);
    claim(&edge, &lie, id_of(&truth, &world));
    world.fixture.reopen();
    world.fixture.repo.refresh().unwrap();
    assert_eq!(hosts_of(&world, id_of(&truth, &world)), ["edge1", "host"], "the false one comes first");
    assert_eq!(world.collect().deleted_packs, 0);
    assert_eq!(read(&world.fixture.repo, &snapshot.manifest, "file"), truth);
}

#[test]
fn what_one_of_them_stored_stays_whatever_another_claims_to_have() {
    let mut world = World::new();
    let (truth, lie) = (noise(1, 40_000), noise(2, 40_000));
    let honest = world.fixture.on_ingest_only_host("edge2");
    let snapshot = commit_on(&honest, &truth);
    let edge = world.fixture.on_ingest_only_host("edge1");
    commit_on(&edge, &lie);
    claim(&edge, &lie, id_of(&truth, &world));
    world.fixture.reopen();
    world.fixture.repo.refresh().unwrap();
    assert_eq!(hosts_of(&world, id_of(&truth, &world)), ["edge1", "edge2"], "the false one comes first");
    assert_eq!(world.collect().deleted_packs, 0);
    assert_eq!(read(&world.fixture.repo, &snapshot.manifest, "file"), truth);
}
