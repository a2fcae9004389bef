//! What was found damaged or missing is not relied on any more: the next backup stores it anew.
//!
//! Once, a damaged pack stayed trusted for ever: each backup that came after it relied on it, and was damaged from the
//! moment of its commit on.

use super::*;
use crate::ops::gc::{GcOptions, OtherWriters, collect};
use crate::ops::oracle::read;

/// Files whose data makes one pack.
fn files(maker: &Maker<'_>) -> Vec<Entry> {
    (0..5).map(|seed| maker.file(&format!("file-{seed}"), &noise(seed, 30_000))).collect()
}

fn verify_one(fixture: &Fixture, snapshot: &Snapshot) -> Vec<Damage> {
    verify(&fixture.repo, Scope::Snapshot(snapshot), &OPTIONS, &Silent).unwrap().damaged
}

/// Asserts that a snapshot is whole for its host and for one that knows nothing.
fn assert_whole(fixture: &Fixture, snapshot: &Snapshot) {
    let cold = fixture.on_another_host();
    cold.repo.refresh().unwrap();
    assert_eq!(verify_one(fixture, snapshot), [], "it knows which packs are of no use");
    for damage in verify_one(&cold, snapshot) {
        assert_eq!(damage.files_touched, 0, "{damage:?}");
    }
    for host in [fixture, &cold] {
        for seed in 0..5 {
            let content = read(&host.repo, &snapshot.manifest, &format!("file-{seed}"));
            assert_eq!(content, noise(seed, 30_000), "file-{seed}");
        }
    }
}

/// Takes a pack from a store, or a part of it.
type Loss = fn(&Fixture, &ObjectKey);

/// Ways in which a pack is lost.
fn losses() -> [(&'static str, Loss); 3] {
    [
        ("flipped", |fixture, key| fixture.tamper(key, |bytes| flip(bytes, 700))),
        ("cut short", |fixture, key| fixture.tamper(key, |bytes| bytes.truncate(900))),
        ("deleted", |fixture, key| fixture.memory.delete(key).unwrap()),
    ]
}

#[test]
fn what_verify_found_damaged_is_stored_anew() {
    for (what, lose) in losses() {
        for kind in ["data", "tree"] {
            let fixture = Fixture::new();
            let first = fixture.commit(files);
            let data = fixture.pack_of(ChunkKind::Data, &noise(0, 30_000)[..5000]);
            let packs = fixture.keys(Prefix::Packs);
            let tree = packs.into_iter().find(|key| *key != data).unwrap();
            lose(&fixture, if kind == "data" { &data } else { &tree });
            assert_eq!(verify_whole(&fixture).damaged.len(), 1, "{what}");
            let second = fixture.commit(files);
            assert_whole(&fixture, &second);
            assert_whole(&fixture, &first);
            let before = fixture.keys(Prefix::Packs).len();
            fixture.commit(files);
            assert_eq!(fixture.keys(Prefix::Packs).len(), before, "{what} {kind}: once is enough");
        }
    }
}

#[test]
fn what_a_reader_found_damaged_is_stored_anew() {
    for (what, lose) in losses() {
        let mut fixture = Fixture::new();
        let first = fixture.commit(files);
        let data = fixture.pack_of(ChunkKind::Data, &noise(0, 30_000)[..5000]);
        lose(&fixture, &data);
        fixture.reopen();
        fixture.repo.refresh().unwrap();
        let chunk = fixture.repo.keys().ids().chunk_id(ChunkKind::Data, &noise(0, 30_000)[..5000]);
        assert!(fixture.repo.chunk(ChunkKind::Data, &chunk).err().unwrap().is_damage(), "{what}");
        assert_eq!(fixture.repo.index().distrusted().len(), 1, "{what}");
        let second = fixture.commit(files);
        assert_whole(&fixture, &second);
        assert_whole(&fixture, &first);
    }
}

#[test]
fn a_store_that_does_not_answer_is_no_reason_for_distrust() {
    let mut fixture = Fixture::new();
    fixture.commit(files);
    let bytes = noise(0, 30_000);
    let chunk = fixture.repo.keys().ids().chunk_id(ChunkKind::Data, &bytes[..5000]);
    fixture.reopen();
    fixture.repo.refresh().unwrap();
    fixture.store.script(|call| {
        (call.operation == Operation::Get).then_some(Fault::Fail(StoreErrorKind::Unavailable))
    });
    assert!(!fixture.repo.chunk(ChunkKind::Data, &chunk).err().unwrap().is_damage());
    assert!(fixture.repo.index().distrusted().is_empty());
}

#[test]
fn a_bit_that_was_flipped_on_its_way_is_no_reason_for_distrust() {
    let mut fixture = Fixture::new();
    fixture.commit(files);
    let bytes = noise(0, 30_000);
    let chunk = fixture.repo.keys().ids().chunk_id(ChunkKind::Data, &bytes[..5000]);
    fixture.reopen();
    fixture.repo.refresh().unwrap();
    // A frame that does not open is read twice.
    let mut left = 2;
    fixture.store.script(move |call| {
        let flips = left > 0 && call.operation == Operation::Get && call.object.starts_with("packs/");
        left -= usize::from(flips);
        flips.then_some(Fault::FlipBit(77))
    });
    assert!(fixture.repo.chunk(ChunkKind::Data, &chunk).err().unwrap().is_damage());
    assert!(fixture.repo.index().distrusted().is_empty());
    assert_eq!(*fixture.repo.chunk(ChunkKind::Data, &chunk).unwrap(), bytes[..5000]);
}

#[test]
fn what_is_whole_again_is_trusted_again() {
    let fixture = Fixture::new();
    fixture.commit(files);
    let data = fixture.pack_of(ChunkKind::Data, &noise(0, 30_000)[..5000]);
    fixture.tamper(&data, |bytes| flip(bytes, 700));
    assert_eq!(verify_whole(&fixture).damaged.len(), 1);
    fixture.tamper(&data, |bytes| flip(bytes, 700));
    assert_eq!(verify_whole(&fixture).damaged, []);
    let before = fixture.keys(Prefix::Packs).len();
    fixture.commit(files);
    assert_eq!(fixture.keys(Prefix::Packs).len(), before);
}

#[test]
fn another_process_of_the_host_hears_of_damage() {
    let fixture = Fixture::new();
    fixture.commit(files);
    let data = fixture.pack_of(ChunkKind::Data, &noise(0, 30_000)[..5000]).as_pack().unwrap();
    let other = fixture.in_another_process();
    fixture.repo.index().distrust(&[data]).unwrap();
    assert!(!other.repo.index().is_distrusted(&data));
    other.repo.refresh().unwrap();
    assert!(other.repo.index().is_distrusted(&data));
}

#[test]
fn what_a_damaged_index_object_alone_names_is_stored_anew() {
    let fixture = Fixture::new();
    fixture.commit(files);
    let [key] = &fixture.keys(Prefix::Index)[..] else { panic!("one index object") };
    fixture.tamper(key, |bytes| flip(bytes, 100));
    assert_eq!(verify_whole(&fixture).damaged.len(), 1);
    let second = fixture.commit(files);
    assert_whole(&fixture, &second);
}

/// The damaged pack still holds every chunk, says the index: what was stored anew must not go for that.
#[test]
fn a_collection_keeps_what_was_stored_anew() {
    let fixture = Fixture::new();
    let first = fixture.commit(files);
    let data = fixture.pack_of(ChunkKind::Data, &noise(0, 30_000)[..5000]);
    fixture.tamper(&data, |bytes| flip(bytes, 700));
    verify_whole(&fixture);
    let second = fixture.commit(files);
    let options = GcOptions {
        grace: jiff::SignedDuration::ZERO,
        wait: Duration::ZERO,
        writers: OtherWriters::Any,
        threads: 1,
    };
    let stats = collect(&fixture.repo, &options, &Silent).unwrap();
    assert_eq!(stats.deleted_packs, 1, "the damaged one is of no use any more");
    assert_whole(&fixture, &second);
    assert_whole(&fixture, &first);
    assert_eq!(verify_whole(&fixture).damaged, []);
}
