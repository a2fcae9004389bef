//! Repairs of stores in memory: what comes back from where, what is lost and told, and what disturbs a repair.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::crypto::hash::ChunkKind;
use crate::format::collection::Stage;
use crate::format::tree::Entry;
use crate::ops::copy::{CopyOptions, CopyPlan, ReadBack, copy};
use crate::ops::gc::{self, GcOptions, OtherWriters};
use crate::ops::oracle::{Acknowledged, read};
use crate::ops::restore::fixture::{Fixture, Maker, noise};
use crate::ops::verify::{Scope, VerifyOptions, verify};
use crate::progress::Silent;
use crate::store::fault::{Fault, Operation};
use crate::store::key::Prefix;
use crate::store::{ObjectStore, Payload};

const OPTIONS: RepairOptions =
    RepairOptions { read: ReadPacks::All, unreadable: Unreadable::Keep, level: 3, threads: 1 };
const AT_ONCE: GcOptions = GcOptions {
    grace: jiff::SignedDuration::ZERO,
    wait: Duration::ZERO,
    writers: OtherWriters::Any,
    threads: 1,
};
/// As above, while nobody else writes.
const ALONE: GcOptions = GcOptions { writers: OtherWriters::None, ..AT_ONCE };
const DISCARD: RepairOptions = RepairOptions { unreadable: Unreadable::Discard, ..OPTIONS };

fn files(maker: &Maker<'_>, seeds: impl IntoIterator<Item = u64>) -> Vec<Entry> {
    seeds.into_iter().map(|seed| maker.file(&format!("file-{seed}"), &noise(seed, 40_000))).collect()
}

fn commit(store: &Fixture, seeds: impl IntoIterator<Item = u64>) -> Snapshot {
    store.commit(|maker| files(maker, seeds))
}

fn repair(store: &Fixture, from: Option<&Fixture>) -> RepairStats {
    repair_with(store, from, &OPTIONS).unwrap()
}

fn repair_with(
    store: &Fixture,
    from: Option<&Fixture>,
    options: &RepairOptions,
) -> Result<RepairStats, RepairError> {
    let plan = RepairPlan::new(&store.repo, options, &Silent)?;
    plan.execute(&store.repo, from.map(|from| &from.repo), options, &Silent)
}

/// Makes a second store that has copies of all snapshots.
fn copied(store: &Fixture) -> Fixture {
    let second = store.second_store();
    let plan = CopyPlan::new(Some(&second.repo), store.repo.snapshots().unwrap()).unwrap();
    let options = CopyOptions { level: 3, threads: 1, read_back: ReadBack::Lengths };
    assert!(copy(&store.repo, &second.repo, &plan, &options, &Silent).unwrap().damaged.is_empty());
    second
}

fn flip(store: &Fixture, key: &ObjectKey) {
    store.tamper(key, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
}

fn data_pack(store: &Fixture, seed: u64) -> ObjectKey {
    store.pack_of(ChunkKind::Data, &noise(seed, 40_000)[..5000])
}

/// Judges a store that must hold these snapshots with files of these seeds, and nothing that is damaged.
fn judge(store: &Fixture, expected: &[(SnapshotId, &[u64])]) {
    let mut acknowledged = Acknowledged::default();
    for (id, seeds) in expected {
        let files = seeds.iter().map(|seed| (format!("file-{seed}"), noise(*seed, 40_000)));
        acknowledged.commit(*id, files);
    }
    acknowledged.judge(store);
}

fn damage(store: &Fixture) -> usize {
    let options = VerifyOptions { threads: 1, journal: None };
    verify(&store.repo, Scope::All, &options, &Silent).unwrap().damaged.len()
}

#[test]
fn a_sound_store_needs_nothing() {
    let store = Fixture::new();
    commit(&store, 0..3);
    let plan = RepairPlan::new(&store.repo, &OPTIONS, &Silent).unwrap();
    assert!(plan.is_empty() && plan.packs_read == 2, "{plan:?}");
    store.store.clear_calls();
    assert_eq!(repair(&store, None), RepairStats::default());
    assert!(!store.store.calls().iter().any(|call| call.operation.is_mutating()));
}

#[test]
fn packs_come_back_from_the_other_store() {
    let store = Fixture::new();
    let one = commit(&store, 0..3);
    let two = commit(&store, 5..8);
    let second = copied(&store);
    let packs = store.keys(Prefix::Packs);
    assert_eq!(packs.len(), 4);
    flip(&store, &packs[0]);
    store.memory.delete(&packs[1]).unwrap();
    store.tamper(&packs[2], |bytes| bytes.truncate(100));
    flip(&store, &packs[3]);
    let stats = repair(&store, Some(&second));
    assert_eq!((stats.restored_packs.len(), stats.lost_packs.len()), (4, 0), "{stats:?}");
    assert!(stats.is_whole());
    judge(&store, &[(one.manifest.id, &[0, 1, 2]), (two.manifest.id, &[5, 6, 7])]);
    assert_eq!(store.repo.index().distrusted(), std::collections::HashSet::new());
}

/// Without `ReadPacks::All`, what was found damaged before is read, and what lists tell.
#[test]
fn what_was_found_before_is_enough() {
    let store = Fixture::new();
    let one = commit(&store, 0..3);
    let second = copied(&store);
    flip(&store, &data_pack(&store, 0));
    let suspects = RepairOptions { read: ReadPacks::Suspects, ..OPTIONS };
    assert!(RepairPlan::new(&store.repo, &suspects, &Silent).unwrap().is_empty());
    assert_eq!(damage(&store), 1);
    let stats = repair_with(&store, Some(&second), &suspects).unwrap();
    assert_eq!(stats.restored_packs.len(), 1);
    judge(&store, &[(one.manifest.id, &[0, 1, 2])]);
}

#[test]
fn without_another_store_what_is_left_stays_and_the_rest_is_stored_again() {
    let store = Fixture::new();
    let one = commit(&store, 0..10);
    let two = commit(&store, [20]);
    let pack = data_pack(&store, 0);
    flip(&store, &pack);
    let stats = repair(&store, None);
    assert_eq!(stats.lost_packs, [pack.as_pack().unwrap()]);
    assert!(stats.rescued_frames > 15 && (1..=4).contains(&stats.lost_chunks), "{stats:?}");
    let lost: Vec<SnapshotId> = stats.damaged_snapshots.iter().map(|snapshot| snapshot.manifest.id).collect();
    assert_eq!(lost, [one.manifest.id]);
    assert!(store.memory.size(&pack).is_ok(), "what is damaged is not deleted");
    // Every host stores anew what is lost.
    let other = store.on_another_host();
    let again = commit(&other, 0..10);
    let all: Vec<u64> = (0..10).collect();
    let stats = repair(&store, None);
    assert!(stats.is_whole(), "{stats:?}");
    for (snapshot, seeds) in [(&again, &all[..]), (&one, &all[..]), (&two, &[20][..])] {
        for seed in seeds {
            let content = read(&other.repo, &snapshot.manifest, &format!("file-{seed}"));
            assert_eq!(content, noise(*seed, 40_000));
        }
    }
    // The damaged pack is of no use any more, and goes.
    let cold = store.on_another_host();
    gc::collect(&cold.repo, &AT_ONCE, &Silent).unwrap();
    assert!(store.memory.size(&pack).is_err());
    judge(&store, &[(again.manifest.id, &all), (one.manifest.id, &all), (two.manifest.id, &[20])]);
}

/// The other store has the same chunks in other packs; what stands on a lost frame finds it again.
#[test]
fn chunks_come_from_other_packs_of_the_other_store() {
    let store = Fixture::new();
    let second = store.second_store();
    let mut bytes = noise(9, 15_000);
    let mut nights = Vec::new();
    for night in 0..4_u8 {
        bytes[usize::from(night) * 2000] ^= 1;
        let content = bytes.clone();
        let snapshot = store.commit(|maker| vec![maker.sparse_file("dump", vec![Ok(&content)])]);
        // Stored there by itself, so that no pack is the same.
        second.commit(|maker| vec![maker.sparse_file("dump", vec![Ok(&content)])]);
        nights.push((snapshot, content));
    }
    let first = store.pack_of(ChunkKind::Data, &nights[0].1);
    store.memory.delete(&first).unwrap();
    let stats = repair(&store, Some(&second));
    assert_eq!(
        (stats.restored_packs.len(), stats.lost_packs.len(), stats.lost_chunks),
        (0, 1, 0),
        "{stats:?}"
    );
    assert!(stats.is_whole());
    let mut acknowledged = Acknowledged::default();
    for (snapshot, content) in nights {
        acknowledged.commit(snapshot.manifest.id, [("dump".to_owned(), content)]);
    }
    acknowledged.judge(&store);
}

#[test]
fn index_objects_are_made_anew_from_what_packs_say() {
    for (is_lost, is_remembered) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut store = Fixture::new();
        let one = commit(&store, 0..3);
        let two = commit(&store, 5..8);
        for key in store.keys(Prefix::Index) {
            if is_lost {
                store.memory.delete(&key).unwrap()
            } else {
                flip(&store, &key)
            };
        }
        if !is_remembered {
            store.reopen();
        }
        let stats = repair(&store, None);
        assert_eq!((stats.named_packs, stats.replaced_index_objects.len()), (4, if is_lost { 0 } else { 2 }));
        assert!(stats.is_whole(), "{stats:?}");
        judge(&store, &[(one.manifest.id, &[0, 1, 2]), (two.manifest.id, &[5, 6, 7])]);
    }
}

#[test]
fn a_pack_comes_back_though_what_named_it_is_lost_as_well() {
    let store = Fixture::new();
    let one = commit(&store, 0..3);
    let second = copied(&store);
    let pack = data_pack(&store, 0);
    flip(&store, &store.keys(Prefix::Index)[0]);
    store.memory.delete(&pack).unwrap();
    let stats = repair(&store, Some(&second));
    assert_eq!((stats.restored_packs.len(), stats.named_packs), (1, 2), "{stats:?}");
    assert!(stats.is_whole());
    judge(&store, &[(one.manifest.id, &[0, 1, 2])]);
}

#[test]
fn a_snapshot_is_put_back_from_what_this_host_remembers() {
    let store = Fixture::new();
    let one = commit(&store, 0..3);
    store.repo.snapshots().unwrap();
    let key = ObjectKey::snapshot(one.manifest.id);
    let before = store.memory.get(&key, None).unwrap();
    flip(&store, &key);
    let stats = repair(&store, None);
    assert_eq!(stats.restored_snapshots, [one.manifest.id]);
    assert_eq!(store.memory.get(&key, None).unwrap(), before);
    judge(&store, &[(one.manifest.id, &[0, 1, 2])]);
}

#[test]
fn a_snapshot_is_copied_from_the_other_store() {
    let mut store = Fixture::new();
    let one = commit(&store, 0..3);
    let second = copied(&store);
    flip(&store, &ObjectKey::snapshot(one.manifest.id));
    store.reopen();
    let stats = repair(&store, Some(&second));
    let [(old, new)] = stats.copied_snapshots[..] else { panic!("{stats:?}") };
    assert_eq!(old, one.manifest.id);
    assert_eq!(store.repo.find_snapshot(&old.short()).unwrap().manifest.id, new, "it is found by its old id");
    judge(&store, &[(new, &[0, 1, 2])]);
}

#[test]
fn what_nothing_can_bring_back_is_discarded_only_on_demand() {
    let mut store = Fixture::new();
    let one = commit(&store, 0..3);
    let two = commit(&store, [7]);
    let manifest = ObjectKey::snapshot(two.manifest.id);
    flip(&store, &manifest);
    let rubbish = [ObjectKey::gc(3, Stage::Final), ObjectKey::parse("gc/rubbish").unwrap()];
    store.memory.create(&rubbish[0], Payload::Bytes(b"rubbish")).unwrap();
    store.reopen();
    let refused = repair_with(&store, None, &OPTIONS);
    let is_unknown = matches!(refused, Err(RepairError::Repo(RepoError::UnknownCollection { .. })));
    assert!(is_unknown, "{refused:?}");
    store.memory.delete(&rubbish[0]).unwrap();
    let stats = repair(&store, None);
    assert!(!stats.is_whole() && stats.left.len() == 1, "{stats:?}");
    for key in &rubbish {
        store.memory.create(key, Payload::Bytes(b"rubbish")).unwrap();
    }
    let stats = repair_with(&store, None, &DISCARD).unwrap();
    let discarded: BTreeSet<_> = stats.discarded.into_iter().collect();
    assert_eq!(discarded, [manifest].into_iter().chain(rubbish).collect());
    judge(&store, &[(one.manifest.id, &[0, 1, 2])]);
}

/// A wire or a memory that flips a bit now and then must not have a good pack deleted.
#[test]
fn what_is_whole_when_it_is_read_again_stays() {
    let store = Fixture::new();
    commit(&store, 0..3);
    let second = copied(&store);
    let mut flipped = false;
    store.store.script(move |call| {
        let flips = !flipped && call.operation == Operation::Get && call.object.starts_with("packs/");
        flipped |= flips;
        flips.then_some(Fault::FlipBit(500))
    });
    store.store.clear_calls();
    let stats = repair(&store, Some(&second));
    assert_eq!((stats.whole_packs.len(), stats.restored_packs.len()), (1, 0), "{stats:?}");
    assert_eq!(store.store.count(Operation::Delete), 0);
}

#[test]
fn a_store_of_other_keys_is_refused() {
    let (store, other) = (Fixture::new(), Fixture::new());
    commit(&store, 0..3);
    flip(&store, &data_pack(&store, 0));
    let refused = repair_with(&store, Some(&other), &OPTIONS);
    assert!(matches!(refused, Err(RepairError::OtherDomain(_))), "{refused:?}");
}

/// A store whose two packs of data are damaged, one of which the other store has.
fn disturbed() -> (Fixture, Fixture, [SnapshotId; 2]) {
    let store = Fixture::new();
    let one = commit(&store, 0..3);
    let second = copied(&store);
    let two = commit(&store, 5..15);
    flip(&store, &data_pack(&store, 0));
    // Between the frames: all of them can be rescued.
    store.tamper(&data_pack(&store, 5), |bytes| {
        let last = bytes.len() - 20;
        bytes[last] ^= 1;
    });
    (store, second, [one.manifest.id, two.manifest.id])
}

#[test]
fn a_repair_may_die_at_any_step_and_is_done_again() {
    let seeds: Vec<u64> = (5..15).collect();
    let steps = {
        let (store, second, [one, two]) = disturbed();
        store.store.clear_calls();
        let stats = repair(&store, Some(&second));
        assert_eq!((stats.restored_packs.len(), stats.lost_packs.len(), stats.lost_chunks), (1, 1, 0));
        let steps = store.store.calls().iter().filter(|call| call.operation.is_mutating()).count();
        gc::collect(&store.repo, &ALONE, &Silent).unwrap();
        judge(&store, &[(one, &[0, 1, 2]), (two, &seeds)]);
        steps
    };
    assert!(steps >= 8, "{steps}");
    for mutations in 0..steps {
        let (store, second, [one, two]) = disturbed();
        let dying = store.on_another_host();
        dying.store.die_after(mutations);
        // At the last step, the tombstone alone is missing.
        let _ = repair_with(&dying, Some(&second), &OPTIONS);
        assert!(repair(&store, Some(&second)).is_whole(), "{mutations}");
        // The session that died is waited for no longer, and what is left of the damaged pack goes.
        let sessions = store.keys(Prefix::Sessions);
        sessions.iter().for_each(|key| store.repo.fence(key.as_session().unwrap().0).unwrap());
        gc::collect(&store.repo, &ALONE, &Silent).unwrap();
        judge(&store, &[(one, &[0, 1, 2]), (two, &seeds)]);
    }
}

#[test]
fn a_collection_may_come_between_any_two_steps() {
    let seeds: Vec<u64> = (5..15).collect();
    let steps = {
        let (store, second, _) = disturbed();
        store.store.clear_calls();
        repair(&store, Some(&second));
        store.store.calls().len()
    };
    for nth in (0..steps).step_by(3) {
        let (store, second, [one, two]) = disturbed();
        let repaired = store.on_another_host();
        let mut collectors = vec![store.on_another_host(), store.on_another_host()];
        let mut seen = 0;
        repaired.store.script(move |_| {
            seen += 1;
            // One begins, and another one goes on a little later.
            if (seen == nth + 1 || seen == nth + 9)
                && let Some(collector) = collectors.pop()
            {
                let _ = gc::collect(&collector.repo, &AT_ONCE, &Silent);
            }
            None
        });
        let stats = repair(&repaired, Some(&second));
        assert!(stats.is_whole(), "{nth}: {stats:?}");
        for _ in 0..2 {
            gc::collect(&store.repo, &AT_ONCE, &Silent).unwrap();
        }
        judge(&store, &[(one, &[0, 1, 2]), (two, &seeds)]);
    }
}
