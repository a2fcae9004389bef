//! Collections against a store in memory: what goes, what stays, who is waited for, and deaths at every step.

mod deaths;
mod flaws;
mod liars;
mod overtaken;

use super::*;
use crate::crypto::hash::ChunkKind;
use crate::format::snapshot::MarkState;
use crate::format::tree::Entry;
use crate::index::ChunkPlace;
use crate::ops::oracle::{Acknowledged, read};
use crate::ops::restore::fixture::{Fixture, Maker, noise};
use crate::progress::Silent;
use crate::repo::readers::Hold;
use crate::repo::session::{SessionOptions, SessionWriter};
use crate::repo::snapshots::Snapshot;
use crate::store::fault::{Fault, Operation};
use crate::store::key::Prefix;
use crate::store::{ObjectStore, Payload, StoreErrorKind};

const AT_ONCE: GcOptions =
    GcOptions { grace: SignedDuration::ZERO, wait: Duration::ZERO, writers: OtherWriters::Any, threads: 1 };

type Files = Vec<(String, Vec<u8>)>;

/// Files of 40 kB, each of its own bytes.
fn files(seeds: impl IntoIterator<Item = u64>) -> Files {
    seeds.into_iter().map(|seed| (format!("file-{seed}"), noise(seed, 40_000))).collect()
}

fn entries(maker: &Maker<'_>, files: &Files) -> Vec<Entry> {
    files.iter().map(|(name, bytes)| maker.file(name, bytes)).collect()
}

/// A store and what was acknowledged of it.
struct World {
    fixture: Fixture,
    acknowledged: Acknowledged,
}

impl World {
    fn new() -> Self {
        Self { fixture: Fixture::new(), acknowledged: Acknowledged::default() }
    }

    fn commit(&mut self, files: &Files) -> Snapshot {
        let snapshot = self.fixture.commit(|maker| entries(maker, files));
        self.acknowledged.commit(snapshot.manifest.id, files.clone());
        snapshot
    }

    /// Commits files of one chunk each.
    fn commit_chunks(&mut self, files: &[(&str, &[u8])]) -> Snapshot {
        let entries = |maker: &Maker<'_>| {
            files.iter().map(|(name, bytes)| maker.sparse_file(name, vec![Ok(bytes)])).collect()
        };
        let snapshot = self.fixture.commit(entries);
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec()));
        self.acknowledged.commit(snapshot.manifest.id, files);
        snapshot
    }

    /// Returns where a chunk of data lies.
    fn place(&self, plain: &[u8]) -> ChunkPlace {
        let id = self.fixture.repo.keys().ids().chunk_id(ChunkKind::Data, plain);
        self.fixture.repo.index().places(&id).unwrap()[0]
    }

    fn forget(&mut self, snapshot: &Snapshot) {
        self.acknowledged.forget(snapshot.manifest.id);
        self.fixture.repo.mark(snapshot.manifest.id, MarkState::Forgotten).unwrap();
    }

    fn collect(&self) -> GcStats {
        collect(&self.fixture.repo, &AT_ONCE, &Silent).unwrap()
    }

    fn plan(&self) -> GcPlan {
        GcPlan::new(&self.fixture.repo, &AT_ONCE, &Silent).unwrap()
    }

    fn judge(&self) {
        self.acknowledged.judge(&self.fixture);
    }

    fn count(&self, prefix: Prefix) -> usize {
        self.fixture.keys(prefix).len()
    }

    fn pack_bytes(&self) -> u64 {
        let packs = self.fixture.keys(Prefix::Packs);
        packs.iter().map(|key| self.fixture.memory.size(key).unwrap()).sum()
    }
}

#[test]
fn what_only_forgotten_snapshots_need_goes() {
    let mut world = World::new();
    let first = world.commit(&files(0..10));
    world.commit(&files(10..20));
    assert_eq!(world.collect(), GcStats::default(), "there is no garbage yet");
    let before = world.pack_bytes();
    world.forget(&first);
    let plan = world.plan();
    assert_eq!((plan.snapshots.len(), plan.dead.len(), plan.rewritten.len()), (1, 2, 0));
    let stats = world.collect();
    assert_eq!((stats.dropped_snapshots, stats.deleted_packs, stats.rewritten_packs), (1, 2, 0));
    assert_eq!(stats.deleted_bytes, plan.dead.iter().map(|pack| pack.bytes).sum::<u64>());
    assert_eq!(world.pack_bytes(), before - stats.deleted_bytes);
    assert_eq!((world.count(Prefix::Snapshots), world.count(Prefix::Marks)), (1, 0));
    world.judge();
    assert!(world.plan().is_empty(), "once is enough");
}

#[test]
fn what_was_forgotten_lately_stays() {
    let mut world = World::new();
    let first = world.commit(&files(0..3));
    world.forget(&first);
    let options = GcOptions { grace: SignedDuration::from_hours(1), ..AT_ONCE };
    let kept = GcStats { in_grace: 1, ..GcStats::default() };
    assert_eq!(collect(&world.fixture.repo, &options, &Silent).unwrap(), kept);
    assert_eq!(world.fixture.repo.forgotten_snapshots().unwrap().len(), 1);
    assert_eq!(read(&world.fixture.repo, &first.manifest, "file-2"), noise(2, 40_000));
    assert_eq!(world.collect().dropped_snapshots, 1);
    assert!(world.fixture.repo.forgotten_snapshots().unwrap().is_empty());
    world.judge();
}

#[test]
fn what_is_left_of_mostly_dead_packs_is_written_anew() {
    let mut world = World::new();
    let first = world.commit(&files(0..20));
    world.commit(&files([3, 17]));
    let before = world.pack_bytes();
    world.forget(&first);
    let plan = world.plan();
    assert_eq!(plan.rewritten.len(), 1, "the data of both");
    let stats = world.collect();
    assert_eq!(stats.rewritten_packs, 1);
    assert!(world.pack_bytes() < before / 5, "{} of {before}", world.pack_bytes());
    world.judge();
    assert!(world.plan().is_empty(), "what was written anew stays");
}

/// Packs of which a third is garbage are worth it where there is much of them, and not where there is little.
#[test]
fn a_tenth_of_garbage_stays() {
    let mut world = World::new();
    let first = world.commit(&files(0..12));
    world.commit(&files((0..12).filter(|file| file % 3 > 0)));
    world.forget(&first);
    let plan = world.plan();
    assert_eq!((plan.rewritten.len(), plan.dead.len()), (1, 1), "the data, and the old tree");
    let clean = world.commit(&files(100..160));
    assert_eq!(world.plan().rewritten.len(), 0, "of all the data, a tenth is not");
    assert_eq!(world.collect().rewritten_packs, 0);
    world.judge();
    world.forget(&clean);
    assert_eq!(world.collect().rewritten_packs, 1);
    world.judge();
}

/// A frame of which little is needed is taken apart; one of which most is needed stays as it is.
#[test]
fn frames_are_taken_apart_where_it_pays() {
    let mut world = World::new();
    let small = |seeds: std::ops::Range<u64>| -> Files {
        seeds.map(|seed| (format!("file-{seed}"), noise(seed, 1000))).collect()
    };
    let first = world.commit(&small(0..200));
    // Frames hold twenty files: all of the first two, and one of each of the others.
    let kept = small(0..200).into_iter().enumerate().filter(|(nth, _)| *nth < 40 || nth % 20 == 7);
    world.commit(&kept.map(|(_, file)| file).collect());
    world.forget(&first);
    let stats = world.collect();
    assert_eq!(stats.rewritten_packs, 1);
    assert!(stats.written_bytes < 55_000, "{stats:?}");
    world.judge();
}

#[test]
fn small_packs_are_joined_once_there_are_many() {
    let mut world = World::new();
    for night in 0..63 {
        world.commit(&files([night]));
    }
    assert_eq!(world.collect().rewritten_packs, 0);
    world.commit(&files([63]));
    let stats = world.collect();
    assert_eq!((stats.rewritten_packs, stats.deleted_packs), (128, 128));
    assert_eq!(world.count(Prefix::Packs), 2, "one of data and one of trees");
    assert!(world.count(Prefix::Index) < 16, "index objects were joined as well");
    world.judge();
}

#[test]
fn what_deltas_stand_on_stays() {
    let mut world = World::new();
    let mut bytes = noise(9, 15_000);
    let mut nights = Vec::new();
    for night in 0..4_u8 {
        bytes[usize::from(night) * 3000] ^= 1;
        // One chunk, so that the frame of each night resembles that of the night before.
        let content = bytes.clone();
        let snapshot = world.fixture.commit(|maker| vec![maker.sparse_file("dump", vec![Ok(&content)])]);
        world.acknowledged.commit(snapshot.manifest.id, [("dump".to_owned(), content)]);
        nights.push(snapshot);
    }
    for night in &nights[..3] {
        world.forget(night);
    }
    let place = world.place(&bytes[..]);
    assert!(place.base.is_some(), "the last night is a delta");
    assert_eq!(world.collect().dropped_snapshots, 3);
    world.judge();
}

/// A delta that nobody needs may lie in a pack that stays, without what it stands on.
#[test]
fn a_delta_that_nobody_needs_keeps_nothing_and_is_no_damage() {
    let mut world = World::new();
    let (base, large) = (noise(9, 15_000), noise(10, 60_000));
    let mut delta = base.clone();
    delta[7000] ^= 1;
    let first = world.commit_chunks(&[("x", &base)]);
    let second = world.commit_chunks(&[("x", &delta), ("y", &large)]);
    world.commit_chunks(&[("y", &large)]);
    let place = world.place(&delta);
    assert!(place.base.is_some() && place.frame.pack == world.place(&large).frame.pack);
    world.forget(&first);
    world.forget(&second);
    let stats = world.collect();
    assert_eq!((stats.dropped_snapshots, stats.rewritten_packs), (2, 0));
    let index = world.fixture.repo.index();
    let left = world.place(&delta);
    let base = left.base.unwrap().frames().next().unwrap();
    assert!(index.frames_by_id(&base).unwrap().is_empty(), "the base went");
    // Who needs the chunk again stores it again.
    world.commit_chunks(&[("x", &delta)]);
    world.judge();
}

/// A session that was fenced may put its index object when its packs are gone already.
#[test]
fn an_index_object_that_comes_late_is_no_damage() {
    let mut world = World::new();
    let first = world.commit(&files(0..4));
    let late = world.fixture.keys(Prefix::Index);
    let late: Vec<_> =
        late.into_iter().map(|key| (world.fixture.memory.get(&key, None).unwrap(), key)).collect();
    world.forget(&first);
    assert_eq!(world.collect().deleted_packs, 2);
    for (bytes, key) in &late {
        world.fixture.memory.create(key, Payload::Bytes(bytes)).unwrap();
    }
    world.commit(&files(0..4));
    world.judge();
    assert_eq!(world.count(Prefix::Index), 2, "what came late was replaced; one is the judge's");
}

#[test]
fn a_session_that_began_before_is_waited_for_and_keeps_what_it_relies_on() {
    let mut world = World::new();
    let first = world.commit(&files(0..4));
    world.forget(&first);
    let other = world.fixture.on_another_host();
    let session = SessionWriter::open(&other.repo, SessionOptions::new("slow")).unwrap();
    let stats = world.collect();
    let waiting: Vec<_> =
        stats.waiting_for.iter().map(|waits| (waits.session, waits.source.as_str())).collect();
    assert_eq!((waiting, stats.deleted_packs), (vec![(session.id(), "slow")], 0));
    assert_eq!(world.count(Prefix::Gc), 1);
    // It began before anything was condemned, and relies on what is.
    let relied_on = other.commit_through(session, |maker| entries(maker, &files(0..4)));
    world.acknowledged.commit(relied_on.manifest.id, files(0..4));
    let stats = world.collect();
    assert_eq!((stats.waiting_for.len(), stats.deleted_packs, stats.dropped_snapshots), (0, 0, 1));
    world.judge();
}

#[test]
fn a_session_that_begins_afterwards_relies_on_nothing_that_is_condemned() {
    let mut world = World::new();
    let first = world.commit(&files(0..4));
    world.forget(&first);
    let other = world.fixture.on_another_host();
    let sleeper = SessionWriter::open(&other.repo, SessionOptions::new("sleeps")).unwrap();
    assert_eq!(world.collect().waiting_for.len(), 1);
    let packs = world.count(Prefix::Packs);
    world.commit(&files(0..4));
    assert!(world.count(Prefix::Packs) > packs, "all is stored again");
    sleeper.abandon().unwrap();
    assert_eq!(world.collect().deleted_packs, 2);
    world.judge();
}

#[test]
fn a_silent_session_is_fenced_and_cannot_commit() {
    let mut world = World::new();
    let first = world.commit(&files(0..4));
    world.forget(&first);
    let other = world.fixture.on_another_host();
    let silent = SessionWriter::open(&other.repo, SessionOptions::new("silent")).unwrap();
    let alone = GcOptions { writers: OtherWriters::None, ..AT_ONCE };
    let stats = collect(&world.fixture.repo, &alone, &Silent).unwrap();
    assert_eq!((stats.waiting_for.len(), stats.dropped_snapshots), (0, 1));
    let committed = other.try_commit_through(silent, |maker| entries(maker, &files(0..4)));
    assert!(matches!(committed, Err(RepoError::Fenced { .. })), "{committed:?}");
    world.judge();
}

#[test]
fn what_is_read_on_this_host_is_not_taken_from_under_its_reader() {
    let mut world = World::new();
    let first = world.commit(&files(0..4));
    world.fixture.repo.readers().hold(first.manifest.id, Hold::WhileAlive).unwrap();
    world.forget(&first);
    assert_eq!(world.collect(), GcStats { in_grace: 1, ..GcStats::default() });
    assert_eq!(read(&world.fixture.repo, &first.manifest, "file-2"), noise(2, 40_000));
    // Others do not know of it.
    let elsewhere = world.fixture.on_another_host();
    assert_eq!(collect(&elsewhere.repo, &AT_ONCE, &Silent).unwrap().dropped_snapshots, 1);
    world.judge();
}

#[test]
fn nothing_goes_while_anything_is_missing_or_cannot_be_read() {
    let mut world = World::new();
    let first = world.commit(&files(0..4));
    let second = world.commit(&files(4..8));
    world.forget(&first);
    let packs = world.count(Prefix::Packs);
    let pack = world.fixture.pack_of(ChunkKind::Data, &noise(5, 40_000)[..5000]);
    let refused = |key: &ObjectKey, change: &dyn Fn(&mut Vec<u8>)| {
        let bytes = world.fixture.memory.get(key, None).unwrap();
        world.fixture.tamper(key, change);
        let fresh = world.fixture.on_another_host();
        let error = collect(&fresh.repo, &AT_ONCE, &Silent).unwrap_err();
        world.fixture.tamper(key, |now| *now = bytes);
        error
    };
    let break_it = |bytes: &mut Vec<u8>| bytes[100] ^= 1;
    for key in [world.fixture.keys(Prefix::Index)[0].clone(), ObjectKey::snapshot(second.manifest.id)] {
        let error = refused(&key, &break_it);
        let GcError::Repo(RepoError::Damaged { object, .. }) = error else { panic!("{error:?}") };
        assert_eq!(object, key.as_str());
    }
    world.fixture.memory.create(&ObjectKey::gc(9, Stage::Final), Payload::Bytes(b"rubbish")).unwrap();
    let error = collect(&world.fixture.repo, &AT_ONCE, &Silent).unwrap_err();
    assert!(matches!(error, GcError::Repo(RepoError::UnknownCollection { .. })), "{error:?}");
    world.fixture.memory.delete(&ObjectKey::gc(9, Stage::Final)).unwrap();

    let bytes = world.fixture.memory.get(&pack, None).unwrap();
    world.fixture.memory.delete(&pack).unwrap();
    let error = collect(&world.fixture.repo, &AT_ONCE, &Silent).unwrap_err();
    assert!(matches!(error, GcError::NotWhole { .. }), "{error:?}");
    assert_eq!(world.count(Prefix::Packs), packs - 1);
    world.fixture.memory.create(&pack, Payload::Bytes(&bytes)).unwrap();
    assert_eq!(world.collect().dropped_snapshots, 1);
    world.judge();
}

#[test]
fn a_listing_that_fails_is_no_empty_list() {
    let mut world = World::new();
    let first = world.commit(&files(0..4));
    world.commit(&files(4..8));
    world.forget(&first);
    for prefix in
        [Prefix::Snapshots, Prefix::Marks, Prefix::Gc, Prefix::Index, Prefix::Packs, Prefix::Sessions]
    {
        for visited in [0, 1] {
            world.fixture.store.script(move |call| {
                (call.operation == Operation::List && call.object == prefix.as_str())
                    .then_some(Fault::FailListingAfter(visited, StoreErrorKind::Unavailable))
            });
            collect(&world.fixture.repo, &AT_ONCE, &Silent).unwrap_err();
            world.fixture.store.clear_script();
        }
    }
    assert_eq!(world.collect().dropped_snapshots, 1);
    world.judge();
}

#[test]
fn what_no_index_object_names_goes_once_nobody_writes() {
    let mut world = World::new();
    world.commit(&files(0..4));
    let orphan = ObjectKey::pack(&PackId::from_bytes([7; 32]));
    world.fixture.memory.create(&orphan, Payload::Bytes(b"left by a session that died")).unwrap();
    let other = world.fixture.on_another_host();
    let session = SessionWriter::open(&other.repo, SessionOptions::new("slow")).unwrap();
    assert_eq!(world.collect().deleted_packs, 0);
    session.abandon().unwrap();
    assert_eq!(world.collect().deleted_packs, 1);
    world.judge();
}

#[test]
fn two_collectors_at_once_lose_nothing() {
    let mut world = World::new();
    let snapshots: Vec<_> = (0..12).map(|night| world.commit(&files(night..night + 4))).collect();
    for snapshot in snapshots.iter().step_by(2) {
        world.forget(snapshot);
    }
    let other = world.fixture.on_another_host();
    std::thread::scope(|scope| {
        for repo in [&world.fixture.repo, &other.repo] {
            scope.spawn(|| {
                let options = GcOptions { wait: Duration::from_secs(5), ..AT_ONCE };
                collect(repo, &options, &Silent).unwrap();
            });
        }
    });
    world.collect();
    assert_eq!(world.count(Prefix::Snapshots) - tombstones(&world), 6);
    world.judge();
}

fn tombstones(world: &World) -> usize {
    world.fixture.repo.decided().unwrap().tombstones.len()
}

#[test]
fn a_store_that_needs_a_newer_collector_is_left_alone() {
    let mut world = World::new();
    let first = world.commit(&files(0..2));
    world.forget(&first);
    let newer = crate::format::config::Config {
        collect_features: vec!["later".to_owned()],
        ..world.fixture.repo.config().clone()
    };
    let bytes = newer.seal(world.fixture.repo.keys()).unwrap();
    world.fixture.memory.create(&ObjectKey::config(2), Payload::Bytes(&bytes)).unwrap();
    let fresh = world.fixture.on_another_host();
    let error = collect(&fresh.repo, &AT_ONCE, &Silent).unwrap_err();
    assert!(matches!(error, GcError::Repo(RepoError::TooNew { .. })), "{error:?}");
}

/// What is kept for thirty days, and what for longer.
#[test]
fn what_warns_sleepers_goes_when_nobody_can_be_left() {
    let world = World::new();
    let repo = &world.fixture.repo;
    let old = Timestamp::now() - SignedDuration::from_hours(31 * 24);
    let put = |number, time, pack: u8| {
        let packs = vec![PackId::from_bytes([pack; 32])];
        let store = repo.config().store;
        let collection =
            Collection { store, number, stage: Stage::Final, time, packs, snapshots: Vec::new() };
        repo.put_collection(&collection).unwrap();
    };
    put(1, old, 1);
    put(2, Timestamp::now(), 2);
    put(3, old, 3);
    let numbers = || -> Vec<u32> {
        let keys = world.fixture.keys(Prefix::Gc);
        keys.iter().filter_map(|key| key.as_gc()).map(|(number, _)| number).collect()
    };
    world.collect();
    assert_eq!(numbers(), [2, 3], "the last one stays, so that no number comes twice");
    put(4, old, 4);
    world.collect();
    assert_eq!(numbers(), [2, 4]);
}

#[test]
fn many_snapshots_share_what_they_need() {
    let mut world = World::new();
    let night = |night: u64| files((0..8).map(|file| if file == night % 8 { 100 + night } else { file }));
    let nights: Vec<_> = (0..10).map(|number| world.commit(&night(number))).collect();
    for (_, snapshot) in nights.iter().enumerate().filter(|(number, _)| number % 3 != 0) {
        world.forget(snapshot);
    }
    world.collect();
    world.judge();
}
