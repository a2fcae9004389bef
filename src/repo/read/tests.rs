//! Delta frames, read through the index, as sessions write them and as none does: packs are made by hand.

mod moving;

use std::io::Write as _;
use std::os::unix::fs::FileExt as _;

use super::*;
use crate::format::frame::{DeltaBase, Encoding, FrameChunk, FrameEncoder};
use crate::id::{FrameId, SessionId};
use crate::repo::frames::FrameCheck;
use crate::repo::testing::{TestStore, put_pack};
use crate::store::fault::{Fault, FaultStore, Operation};
use crate::store::key::ObjectKey;
use crate::store::{ObjectStore, Payload};

/// Some 100 KB that do not compress, and the same with a few bytes changed.
fn base_and_variant() -> (Vec<u8>, Vec<u8>) {
    let mut base = vec![0; 100_000];
    blake3::Hasher::new().finalize_xof().fill(&mut base);
    let mut variant = base.clone();
    variant[50_000..50_010].fill(0);
    (base, variant)
}

fn chunk_of(repo: &Repository, plain: &[u8]) -> FrameChunk {
    let id = repo.keys().ids().chunk_id(ChunkKind::Data, plain);
    FrameChunk { kind: ChunkKind::Data, id, length: u32::try_from(plain.len()).unwrap() }
}

fn frame_id_of(repo: &Repository, chunk: &FrameChunk) -> FrameId {
    repo.keys().ids().frame_id([(chunk.id, chunk.length)])
}

/// Writes a pack of one frame for each of `frames`, and the index object that names it.
fn write_pack(repo: &Repository, frames: Vec<(FrameChunk, Encoding, Vec<u8>)>) {
    put_pack(repo, &ObjectKey::index(SessionId::random(jiff::Timestamp::now()).unwrap(), 0), frames);
}

#[test]
fn a_delta_frame_is_read_with_its_base_from_another_pack() {
    let test = TestStore::new();
    let repo = test.open();
    let (base, variant) = base_and_variant();
    let (base_chunk, variant_chunk) = (chunk_of(&repo, &base), chunk_of(&repo, &variant));
    let mut encoder = FrameEncoder::new(3).unwrap();
    let (encoding, encoded) = encoder.encode(&base).unwrap();
    write_pack(&repo, vec![(base_chunk, encoding, encoded)]);
    let delta = encoder.encode_delta(&variant, &base).unwrap();
    assert!(delta.len() < 1000, "{} bytes", delta.len());
    write_pack(
        &repo,
        vec![(variant_chunk, Encoding::Delta { base: frame_id_of(&repo, &base_chunk).into() }, delta)],
    );
    assert_eq!(&*repo.chunk(ChunkKind::Data, &variant_chunk.id).unwrap(), variant);
    assert_eq!(&*repo.chunk(ChunkKind::Data, &base_chunk.id).unwrap(), base);
}

#[test]
fn a_frame_that_was_damaged_on_its_way_is_read_once_more() {
    let test = TestStore::new();
    let (base, _) = base_and_variant();
    let faulty = Arc::new(FaultStore::new(Arc::clone(&test.store) as Arc<dyn ObjectStore>));
    let repo = test.open_through(Arc::clone(&faulty) as Arc<dyn ObjectStore>);
    let chunk = chunk_of(&repo, &base);
    let (encoding, encoded) = FrameEncoder::new(3).unwrap().encode(&base).unwrap();
    write_pack(&repo, vec![(chunk, encoding, encoded)]);
    let flips = |most: usize| {
        faulty.clear_calls();
        faulty.script(move |call| {
            (call.operation == Operation::Get && call.earlier < most).then_some(Fault::FlipBit(999))
        });
    };
    repo.refresh().unwrap();
    let record = repo.index().frame(repo.index().homes(&chunk.id).unwrap()[0].frame).unwrap().unwrap();
    flips(1);
    assert_eq!(repo.frames().read_frame(&record, FrameCheck::Seal).unwrap().plain(), base);
    flips(1);
    assert_eq!(&*repo.chunk(ChunkKind::Data, &chunk.id).unwrap(), base);
    flips(2);
    assert!(matches!(repo.frames().read_frame(&record, FrameCheck::Seal), Err(RepoError::Damaged { .. })));
    assert_eq!(faulty.count(Operation::Get), 2, "it is not tried for ever");
}

/// A local copy of a pack spares the store, and one that is damaged does no harm.
#[test]
fn frames_are_read_from_a_local_copy_of_their_pack() {
    let mut test = TestStore::new();
    test.base_cache_bytes = Some(1 << 20);
    let (base, _) = base_and_variant();
    let repo = test.open();
    let chunk = chunk_of(&repo, &base);
    let (encoding, encoded) = FrameEncoder::new(3).unwrap().encode(&base).unwrap();
    write_pack(&repo, vec![(chunk, encoding, encoded)]);
    assert_eq!(&*repo.chunk(ChunkKind::Data, &chunk.id).unwrap(), base);
    let frame = repo.index().homes(&chunk.id).unwrap()[0].frame;
    let pack = repo.index().pack(frame.pack).unwrap().unwrap();
    let key = ObjectKey::pack(&pack.id);
    let bytes = repo.store().get(&key, None).unwrap();
    let mut spool = tempfile::tempfile().unwrap();
    spool.write_all(&bytes).unwrap();
    repo.frames().bases.as_ref().unwrap().put(&pack.id, &spool, bytes.len() as u64);

    repo.store().delete(&key).unwrap();
    assert_eq!(test.open().frames().cached_frame(frame).unwrap().plain(), base);
    let record = repo.index().frame(frame).unwrap().unwrap();
    assert!(repo.frames().read_frame(&record, FrameCheck::Seal).is_err(), "what is verified is the store's");

    repo.store().create(&key, Payload::Bytes(&bytes)).unwrap();
    let mut damaged = bytes.clone();
    damaged[1000] ^= 1;
    spool.write_all_at(&damaged, 0).unwrap();
    repo.frames().bases.as_ref().unwrap().put(&pack.id, &spool, bytes.len() as u64);
    assert_eq!(test.open().frames().cached_frame(frame).unwrap().plain(), base);
}

#[test]
fn a_delta_frame_whose_base_is_nowhere_is_missing_data() {
    let test = TestStore::new();
    let repo = test.open();
    let (base, variant) = base_and_variant();
    let variant_chunk = chunk_of(&repo, &variant);
    let absent = frame_id_of(&repo, &chunk_of(&repo, &base));
    let delta = FrameEncoder::new(3).unwrap().encode_delta(&variant, &base).unwrap();
    write_pack(&repo, vec![(variant_chunk, Encoding::Delta { base: absent.into() }, delta)]);
    let read = repo.chunk(ChunkKind::Data, &variant_chunk.id).map(|_| ());
    assert!(matches!(read, Err(RepoError::MissingBase(base)) if base == absent));
}

/// A wrong base decodes to other bytes without an error of zstd, so the hashes have to tell.
#[test]
fn a_delta_frame_that_names_a_wrong_base_never_becomes_data() {
    let test = TestStore::new();
    let repo = test.open();
    let (base, variant) = base_and_variant();
    let mut wrong = base.clone();
    wrong.reverse();
    let (wrong_chunk, variant_chunk) = (chunk_of(&repo, &wrong), chunk_of(&repo, &variant));
    let mut encoder = FrameEncoder::new(3).unwrap();
    let (encoding, encoded) = encoder.encode(&wrong).unwrap();
    let delta = encoder.encode_delta(&variant, &base).unwrap();
    let naming_wrong = Encoding::Delta { base: frame_id_of(&repo, &wrong_chunk).into() };
    write_pack(&repo, vec![(wrong_chunk, encoding, encoded), (variant_chunk, naming_wrong, delta)]);
    let read = repo.chunk(ChunkKind::Data, &variant_chunk.id).map(|_| ());
    assert!(matches!(read, Err(RepoError::Damaged { .. })));
}

#[test]
fn a_chain_of_deltas_is_read_to_its_end() {
    let test = TestStore::new();
    let repo = test.open();
    let (base, variant) = base_and_variant();
    let mut third = variant.clone();
    third[1000] ^= 1;
    let chunks = [&base, &variant, &third].map(|plain| chunk_of(&repo, plain));
    let mut encoder = FrameEncoder::new(3).unwrap();
    let (encoding, encoded) = encoder.encode(&base).unwrap();
    let first = encoder.encode_delta(&variant, &base).unwrap();
    let second = encoder.encode_delta(&third, &variant).unwrap();
    let delta_of = |chunk: &FrameChunk| Encoding::Delta { base: frame_id_of(&repo, chunk).into() };
    write_pack(
        &repo,
        vec![
            (chunks[0], encoding, encoded),
            (chunks[1], delta_of(&chunks[0]), first),
            (chunks[2], delta_of(&chunks[1]), second),
        ],
    );
    assert_eq!(&*repo.chunk(ChunkKind::Data, &chunks[1].id).unwrap(), variant);
    assert_eq!(&*repo.chunk(ChunkKind::Data, &chunks[2].id).unwrap(), third);
}

/// Writes deltas, each of which stands on the one before it; returns all chunks.
fn write_chain(repo: &Repository, deltas: usize) -> Vec<FrameChunk> {
    let mut encoder = FrameEncoder::new(3).unwrap();
    let (mut below, _) = base_and_variant();
    let (encoding, encoded) = encoder.encode(&below).unwrap();
    let mut frames = vec![(chunk_of(repo, &below), encoding, encoded)];
    for number in 0..deltas {
        let mut plain = below.clone();
        plain[number * 100] ^= 1;
        let base = frame_id_of(repo, &frames[number].0).into();
        let delta = encoder.encode_delta(&plain, &below).unwrap();
        frames.push((chunk_of(repo, &plain), Encoding::Delta { base }, delta));
        below = plain;
    }
    let chunks = frames.iter().map(|(chunk, ..)| *chunk).collect();
    write_pack(repo, frames);
    chunks
}

/// Whether what lies below was read before makes no difference.
#[test]
fn chains_of_more_than_eight_deltas_are_refused() {
    let mut test = TestStore::new();
    let chunks = write_chain(&test.open(), 10);
    let refuses = |repo: &Repository, chunk: &FrameChunk| {
        let read = repo.chunk(ChunkKind::Data, &chunk.id).map(|_| ());
        assert!(matches!(read, Err(RepoError::Damaged { .. })), "{read:?}");
    };
    let from_the_top = test.open_cold();
    for chunk in chunks[9..].iter().rev() {
        refuses(&from_the_top, chunk);
    }
    let from_the_bottom = test.open_cold();
    for chunk in &chunks[..9] {
        assert!(from_the_bottom.chunk(ChunkKind::Data, &chunk.id).is_ok());
    }
    for chunk in &chunks[9..] {
        refuses(&from_the_bottom, chunk);
    }
}

#[test]
fn deltas_that_stand_on_each_other_are_refused() {
    let test = TestStore::new();
    let repo = test.open();
    let (one, other) = base_and_variant();
    let chunks = [&one, &other].map(|plain| chunk_of(&repo, plain));
    let mut encoder = FrameEncoder::new(3).unwrap();
    let to_one = encoder.encode_delta(&other, &one).unwrap();
    let to_other = encoder.encode_delta(&one, &other).unwrap();
    let delta_of = |chunk: &FrameChunk| Encoding::Delta { base: frame_id_of(&repo, chunk).into() };
    let frames = vec![(chunks[0], delta_of(&chunks[1]), to_other), (chunks[1], delta_of(&chunks[0]), to_one)];
    write_pack(&repo, frames);
    for chunk in chunks {
        let read = repo.chunk(ChunkKind::Data, &chunk.id).map(|_| ());
        assert!(matches!(read, Err(RepoError::Damaged { .. })), "{read:?}");
    }
}

#[test]
fn two_bases_are_at_most_as_long_as_a_frame() {
    let test = TestStore::new();
    let repo = test.open();
    let long = vec![b'x'; 3 << 20];
    let mut other = long.clone();
    other[0] = b'y';
    let chunks = [&long, &other].map(|plain| chunk_of(&repo, plain));
    let plain = b"delta of both".repeat(10);
    let mut encoder = FrameEncoder::new(3).unwrap();
    let [first, second] = [&long, &other].map(|plain| encoder.encode(plain).unwrap());
    let delta = encoder.encode_delta(&plain, &long).unwrap();
    let [one, two] = chunks.each_ref().map(|chunk| frame_id_of(&repo, chunk));
    let pair = Encoding::Delta { base: DeltaBase::pair(one, two) };
    let chunk = chunk_of(&repo, &plain);
    write_pack(
        &repo,
        vec![(chunks[0], first.0, first.1), (chunks[1], second.0, second.1), (chunk, pair, delta)],
    );
    let read = repo.chunk(ChunkKind::Data, &chunk.id).map(|_| ());
    assert!(matches!(read, Err(RepoError::Damaged { .. })), "{read:?}");
}
