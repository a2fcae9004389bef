//! Copies between stores in memory: what comes over, what comes twice, and what happens in between.

mod disturbed;
mod domains;

use super::*;
use crate::crypto::hash::ChunkKind;
use crate::format::tree::Entry;
use crate::ops::gc::{self, GcOptions, GcStats, OtherWriters};
use crate::ops::oracle::{Acknowledged, read};
use crate::ops::restore::fixture::{Fixture, Maker, every_kind, noise};
use crate::progress::Silent;
use crate::store::ObjectStore;
use crate::store::key::Prefix;

const OPTIONS: CopyOptions = CopyOptions { level: 3, threads: 1, read_back: ReadBack::Bytes };

fn files(maker: &Maker<'_>, seeds: impl IntoIterator<Item = u64>) -> Vec<Entry> {
    seeds.into_iter().map(|seed| maker.file(&format!("file-{seed}"), &noise(seed, 40_000))).collect()
}

/// Commits files of 40 kB, each of its own bytes.
fn commit(store: &Fixture, seeds: impl IntoIterator<Item = u64>) -> Snapshot {
    store.commit(|maker| files(maker, seeds))
}

/// Copies all that one store has and the other lacks.
fn copy_all(from: &Fixture, to: &Fixture) -> CopyStats {
    try_copy_all(from, to).unwrap()
}

fn try_copy_all(from: &Fixture, to: &Fixture) -> Result<CopyStats, CopyError> {
    let plan = CopyPlan::new(Some(&to.repo), from.repo.snapshots().map_err(CopyError::Source)?)?;
    copy(&from.repo, &to.repo, &plan, &OPTIONS, &Silent)
}

fn collect(store: &Fixture) -> GcStats {
    let options = GcOptions {
        grace: jiff::SignedDuration::ZERO,
        wait: std::time::Duration::ZERO,
        writers: OtherWriters::Any,
        threads: 1,
    };
    gc::collect(&store.repo, &options, &Silent).unwrap()
}

fn forget(store: &Fixture, id: SnapshotId) {
    store.repo.mark(id, MarkState::Forgotten).unwrap();
}

/// Returns the copy of a snapshot.
fn copy_of(store: &Fixture, snapshot: &Snapshot) -> Snapshot {
    let snapshots = store.repo.snapshots().unwrap();
    let identity = snapshot.manifest.identity();
    let mut copies = snapshots.into_iter().filter(|other| other.manifest.identity() == identity);
    let copy = copies.next().unwrap_or_else(|| panic!("{identity} was not copied"));
    assert_eq!(copies.next(), None, "{identity} was copied twice");
    copy
}

/// Judges a store that must hold these snapshots with files of these seeds, and nothing that is damaged.
fn judge(store: &Fixture, expected: &[(&Snapshot, &[u64])]) {
    let mut acknowledged = Acknowledged::default();
    for (snapshot, seeds) in expected {
        let files = seeds.iter().map(|seed| (format!("file-{seed}"), noise(*seed, 40_000)));
        acknowledged.commit(copy_of(store, snapshot).manifest.id, files);
    }
    acknowledged.judge(store);
}

#[test]
fn a_copy_is_all_of_the_snapshot_under_another_id() {
    let first = Fixture::new();
    let second = first.second_store();
    let snapshot = first.commit(every_kind);
    first.repo.mark(snapshot.manifest.id, MarkState::Protected).unwrap();
    first.repo.mark(snapshot.manifest.id, MarkState::Accepted).unwrap();
    let stats = copy_all(&first, &second);
    let copy = copy_of(&second, &snapshot);
    assert!(copy.manifest.id != snapshot.manifest.id && copy.marks.protected && copy.marks.accepted);
    let expected =
        Manifest { id: copy.manifest.id, origin: Some(snapshot.manifest.id), ..snapshot.manifest.clone() };
    assert_eq!(copy.manifest, expected);
    assert_eq!(first.keys(Prefix::Packs).len(), 2);
    let sorted = |store: &Fixture| store.keys(Prefix::Packs).into_iter().collect::<BTreeSet<_>>();
    assert_eq!(sorted(&first), sorted(&second), "as they are");
    assert_eq!((stats.whole_packs, stats.frames, stats.read_back), (2, 0, 2));
    for name in [snapshot.manifest.id.short(), copy.manifest.id.short()] {
        assert_eq!(second.repo.find_snapshot(&name).unwrap().manifest.id, copy.manifest.id, "{name}");
    }
    Acknowledged::default().judge(&second);
}

#[test]
fn copying_again_on_and_back_makes_nothing_twice() {
    let first = Fixture::new();
    let (second, third) = (first.second_store(), first.second_store());
    let one = commit(&first, 0..3);
    let two = commit(&first, 2..6);
    assert_eq!(copy_all(&first, &second).copied.len(), 2);
    assert_eq!(copy_all(&first, &second).copied.len(), 0);
    assert_eq!(copy_all(&second, &first).copied.len(), 0);
    let own = commit(&second, [2, 9]);
    assert_eq!(copy_all(&second, &first).copied.len(), 1);
    assert_eq!(copy_all(&first, &third).copied.len(), 3);
    assert_eq!(copy_all(&second, &third).copied.len(), 0);
    assert_eq!(copy_all(&third, &second).copied.len(), 0);
    for store in [&first, &second, &third] {
        assert_eq!(store.repo.snapshots().unwrap().len(), 3);
        judge(store, &[(&one, &[0, 1, 2]), (&two, &[2, 3, 4, 5]), (&own, &[2, 9])]);
    }
}

/// Seven nights of one dump: each night is a delta to the one before.
#[test]
fn what_deltas_stand_on_comes_with_them() {
    let first = Fixture::new();
    let mut bytes = noise(9, 15_000);
    let mut last = None;
    for night in 0..7_u8 {
        bytes[usize::from(night) * 2000] ^= 1;
        last = Some(first.commit(|maker| vec![maker.sparse_file("dump", vec![Ok(&bytes)])]));
    }
    let last = last.unwrap();
    let second = first.second_store();
    let plan = CopyPlan::new(Some(&second.repo), vec![last.clone()]).unwrap();
    copy(&first.repo, &second.repo, &plan, &OPTIONS, &Silent).unwrap();
    let copy = copy_of(&second, &last);
    assert_eq!(read(&second.repo, &copy.manifest, "dump"), bytes);
    let id = second.repo.keys().ids().chunk_id(ChunkKind::Data, &bytes);
    assert!(second.repo.index().places(&id).unwrap()[0].base.is_some(), "it came as a delta");
    let mut acknowledged = Acknowledged::default();
    acknowledged.commit(copy.manifest.id, [("dump".to_owned(), bytes)]);
    acknowledged.judge(&second);
}

#[test]
fn of_a_pack_that_is_mostly_not_needed_the_needed_frames_come() {
    let first = Fixture::new();
    let large = commit(&first, 0..20);
    let small = commit(&first, [3, 17]);
    let second = first.second_store();
    let plan = CopyPlan::new(Some(&second.repo), vec![small.clone()]).unwrap();
    let stats = copy(&first.repo, &second.repo, &plan, &OPTIONS, &Silent).unwrap();
    assert!(stats.frames > 0 && stats.written_bytes < 150_000, "{stats:?}");
    let stats = copy_all(&first, &second);
    assert_eq!((stats.copied.len(), stats.whole_packs), (1, 2), "the rest comes whole");
    assert_eq!(copy_all(&second, &first).copied.len(), 0);
    let all: Vec<u64> = (0..20).collect();
    judge(&second, &[(&small, &[3, 17]), (&large, &all)]);
}

#[test]
fn what_the_other_store_has_by_itself_is_not_sent() {
    let first = Fixture::new();
    let second = first.second_store();
    let one = commit(&first, 0..10);
    let own = commit(&second, 0..10);
    let stats = copy_all(&first, &second);
    assert_eq!((stats.written_packs, stats.written_bytes), (0, 0), "{stats:?}");
    let all: Vec<u64> = (0..10).collect();
    judge(&second, &[(&one, &all), (&own, &all)]);
}

#[test]
fn what_was_forgotten_is_left_out_on_either_side() {
    let first = Fixture::new();
    let second = first.second_store();
    let (one, two) = (commit(&first, [1]), commit(&first, [2]));
    forget(&first, one.manifest.id);
    assert_eq!(copy_all(&first, &second).copied.len(), 1);
    forget(&second, copy_of(&second, &two).manifest.id);
    let stats = copy_all(&first, &second);
    assert_eq!(stats.copied.len(), 0, "it was forgotten there on purpose");
}

/// An undo commits under a new id what other stores have copies of.
#[test]
fn what_the_other_store_would_forget_is_left_out() {
    let first = Fixture::new();
    let second = first.second_store();
    let [old, middle, new] = [1, 2, 3].map(|seed| commit(&first, [seed]));
    let two = Policy { last: 2, ..Policy::default() };
    let now = || jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let plan = |destination: Option<&Repository>, policy: Option<&Policy>| {
        let mut plan = CopyPlan::new(destination, first.repo.snapshots().unwrap()).unwrap();
        plan.leave_out_unkept(destination, |_| policy, &now()).unwrap();
        plan
    };
    let ids = |snapshots: &[Snapshot]| -> Vec<SnapshotId> {
        snapshots.iter().map(|snapshot| snapshot.manifest.id).collect()
    };
    for destination in [None, Some(&second.repo)] {
        let plan = plan(destination, Some(&two));
        assert_eq!(ids(&plan.missing), ids(&[middle.clone(), new.clone()]));
        assert_eq!(ids(&plan.unkept), ids(std::slice::from_ref(&old)));
    }
    assert_eq!(plan(Some(&second.repo), None).missing.len(), 3);

    let planned = plan(Some(&second.repo), Some(&two));
    copy(&first.repo, &second.repo, &planned, &OPTIONS, &Silent).unwrap();
    // What was made there counts as well.
    commit(&second, [4]);
    let another = commit(&first, [5]);
    commit(&second, [6]);
    let planned = plan(Some(&second.repo), Some(&two));
    assert_eq!((ids(&planned.missing), planned.present.len()), (ids(&[another]), 2));
    assert_eq!(ids(&planned.unkept), ids(&[old]));

    first.repo.mark(planned.unkept[0].manifest.id, MarkState::Protected).unwrap();
    assert_eq!(plan(Some(&second.repo), Some(&two)).unkept.len(), 0, "what is protected is kept");
}

#[test]
fn what_was_brought_back_is_known_where_it_was_copied() {
    let first = Fixture::new();
    let second = first.second_store();
    let one = commit(&first, [1]);
    copy_all(&first, &second);
    forget(&first, one.manifest.id);
    let forgotten = first.repo.find_forgotten(&one.manifest.id.short()).unwrap();
    let undone = crate::ops::forget::undo(&first.repo, &forgotten).unwrap();
    assert_ne!(undone.snapshot().manifest.id, one.manifest.id);
    assert_eq!(first.repo.find_snapshot(&one.manifest.id.short()).unwrap(), *undone.snapshot());
    assert_eq!(copy_all(&first, &second).copied.len(), 0);
}

#[test]
fn snapshots_of_ingest_only_hosts_are_copied_with_all_that_vouches_for_them() {
    let first = Fixture::new();
    let edges = ["edge1", "edge2"].map(|host| first.on_ingest_only_host(host));
    let snapshots = edges.each_ref().map(|edge| commit(edge, 0..4));
    let second = first.second_store();
    let stats = copy_all(&first, &second);
    assert_eq!((stats.copied.len(), stats.damaged.len()), (2, 0));
    let packs = second.keys(Prefix::Packs).len();
    assert_eq!(packs, first.keys(Prefix::Packs).len(), "neither says that it has what the other one has");
    judge(&second, &[(&snapshots[0], &[0, 1, 2, 3]), (&snapshots[1], &[0, 1, 2, 3])]);
    assert_eq!(copy_all(&first, &second).copied.len(), 0);
}

#[test]
fn a_store_is_no_copy_of_itself() {
    let first = Fixture::new();
    commit(&first, [1]);
    let again = first.on_another_host();
    let refused = try_copy_all(&first, &again);
    assert!(matches!(refused, Err(CopyError::SameStore(..))), "{refused:?}");
}

#[test]
fn whatever_opens_the_first_store_opens_the_second() {
    let first = Fixture::new();
    let second = first.second_store();
    assert_eq!(first.repo.config().domain, second.repo.config().domain);
    assert_ne!(first.repo.config().store, second.repo.config().store);
    assert_eq!(first.keys(Prefix::Keys).len(), second.keys(Prefix::Keys).len());
    let edge = second.on_ingest_only_host("edge");
    commit(&edge, [1]);
    assert_eq!(copy_all(&second, &first).copied.len(), 1);
    let again = first.repo.create_like(second.memory.as_ref());
    assert!(matches!(again, Err(RepoError::StoreExists(_))), "{again:?}");
}
