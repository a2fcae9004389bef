//! Readers on a host with an empty cache, far from the store: what they read of the index, and when.

use std::sync::Barrier;
use std::thread;

use super::*;
use crate::crypto::hash::ChunkKind;
use crate::format::frame::{FrameChunk, FrameEncoder};
use crate::id::ChunkId;
use crate::repo::Repository;
use crate::repo::testing::{TestStore, put_pack};
use crate::store::fault::{Call, Fault, FaultStore, Gate, Operation};
use crate::store::key::{ObjectKey, Prefix};
use crate::store::{ObjectStore, StoreErrorKind};

const SESSIONS: u64 = 100;
const AT_ONCE: usize = 4;

fn session(number: u64) -> SessionId {
    format!("20261121T{:02}{:02}00Z-{number:032x}", number / 60, number % 60).parse().unwrap()
}

fn plain(number: u64) -> Vec<u8> {
    format!("the chunk of session {number}").into_bytes()
}

fn id(repo: &Repository, number: u64) -> ChunkId {
    repo.keys().ids().chunk_id(ChunkKind::Data, &plain(number))
}

/// A store to which each of many sessions added one chunk, seen by a host that knows nothing of it.
struct World {
    /// Holds the folders.
    _test: TestStore,
    store: Arc<FaultStore>,
    repo: Repository,
}

impl World {
    fn new() -> Self {
        let mut test = TestStore::new();
        let repo = test.open();
        let mut encoder = FrameEncoder::new(3).unwrap();
        for number in 0..SESSIONS {
            let plain = plain(number);
            let (encoding, encoded) = encoder.encode(&plain).unwrap();
            let length = u32::try_from(plain.len()).unwrap();
            let chunk = FrameChunk { kind: ChunkKind::Data, id: id(&repo, number), length };
            put_pack(&repo, &ObjectKey::index(session(number), 0), vec![(chunk, encoding, encoded)]);
        }
        drop(test.open_cold());
        let store = Arc::new(FaultStore::distant(Arc::clone(&test.store) as Arc<dyn ObjectStore>, AT_ONCE));
        let repo = test.open_through(Arc::clone(&store) as Arc<dyn ObjectStore>);
        store.clear_calls();
        Self { _test: test, store, repo }
    }

    fn read(&self, number: u64) -> Result<Vec<u8>, RepoError> {
        self.repo.chunk(ChunkKind::Data, &id(&self.repo, number)).map(|chunk| chunk.to_vec())
    }

    fn listings(&self) -> usize {
        self.store.calls().iter().filter(|call| call.operation == Operation::List).count()
    }

    /// Returns the sessions whose index objects were read, in the order in which they were asked for.
    fn index_objects_read(&self) -> Vec<SessionId> {
        let calls = self.store.calls();
        calls.iter().filter(|call| is_index_get(call)).map(|call| session_of(&call.object)).collect()
    }

    /// Waits until nothing is brought any more.
    fn settle(&self) {
        let started = Instant::now();
        while self.repo.feed.shared.lock().runs {
            assert!(started.elapsed() < Duration::from_secs(30));
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn is_index_get(call: &Call) -> bool {
    call.operation == Operation::Get && call.object.starts_with(Prefix::Index.as_str())
}

fn session_of(key: &str) -> SessionId {
    ObjectKey::parse(key).unwrap().as_index().unwrap().0
}

#[test]
fn index_objects_come_in_the_order_of_kinship() {
    let mut objects: Vec<ListedObject> = (0..5)
        .flat_map(|of| [0, 1, 10].map(|number| (ObjectKey::index(session(of), number), None)))
        .collect();
    let ordered = |objects: &[ListedObject]| -> Vec<_> {
        objects
            .iter()
            .map(|(key, _)| key.as_index().unwrap())
            .map(|(of, number)| (of.time().as_second() / 60 % 60, number))
            .collect()
    };
    objects.sort_by_cached_key(|object| rank(object, Some(session(2))));
    assert_eq!(ordered(&objects)[..6], [(2, 10), (2, 1), (2, 0), (1, 10), (1, 1), (1, 0)]);
    assert_eq!(ordered(&objects)[9..12], [(4, 10), (4, 1), (4, 0)]);
    objects.sort_by_cached_key(|object| rank(object, None));
    assert_eq!(ordered(&objects)[..4], [(4, 10), (4, 1), (4, 0), (3, 10)]);
}

/// The first read waits for one listing and one index object, though all others hang.
#[test]
fn what_the_snapshots_own_session_wrote_is_read_at_once() {
    let world = World::new();
    let others = Gate::new();
    let closed = Arc::clone(&others);
    world.store.script(move |call| {
        let is_held = is_index_get(call) && session_of(&call.object) != session(70);
        is_held.then(|| Fault::Block(Arc::clone(&closed)))
    });
    world.repo.feed.prefer(session(70));
    assert_eq!(world.read(70).unwrap(), plain(70));
    assert_eq!(world.listings(), 1);
    others.release();
    world.settle();
    let read = world.index_objects_read();
    assert!(read.len() <= 1 + 4 * AT_ONCE, "what was under way: {}", read.len());
    assert!(read.iter().all(|of| *of <= session(70)), "younger ones come last");
    // What was not brought is left for who misses it, without another listing.
    assert_eq!(world.read(0).unwrap(), plain(0));
    assert_eq!(world.listings(), 1);
    world.settle();
    assert!(world.index_objects_read().len() < usize::try_from(SESSIONS).unwrap());
    assert_eq!(world.read(99).unwrap(), plain(99));
    world.settle();
    let mut read = world.index_objects_read();
    read.sort_unstable();
    read.dedup();
    assert_eq!(read.len(), world.index_objects_read().len(), "each is read once");
}

#[test]
fn many_who_miss_something_wait_for_the_same_thread() {
    let world = World::new();
    let gate = Gate::new();
    let closed = Arc::clone(&gate);
    world
        .store
        .script(move |call| (call.operation == Operation::List).then(|| Fault::Block(Arc::clone(&closed))));
    thread::scope(|scope| {
        let numbers = [3, 99, 50, 51, 0, 42, 7, 70];
        let readers = numbers.map(|number| {
            let world = &world;
            scope.spawn(move || assert_eq!(world.read(number).unwrap(), plain(number)))
        });
        let started = Instant::now();
        while world.repo.feed.shared.lock().waiting < numbers.len() {
            assert!(started.elapsed() < Duration::from_secs(30));
            thread::sleep(Duration::from_millis(1));
        }
        gate.release();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    world.settle();
    assert_eq!(world.listings(), 1);
    assert_eq!(world.index_objects_read().len(), usize::try_from(SESSIONS).unwrap());
    assert!(world.repo.index().applied().unwrap().len() == usize::try_from(SESSIONS).unwrap());
}

#[test]
fn several_index_objects_are_under_way_at_a_time() {
    for brings in [|repo: &Repository| repo.refresh_strictly().unwrap(), |repo: &Repository| repo.follow()] {
        let world = World::new();
        let gate = Gate::new();
        let closed = Arc::clone(&gate);
        world.store.script(move |call| is_index_get(call).then(|| Fault::Block(Arc::clone(&closed))));
        thread::scope(|scope| {
            let brought = scope.spawn(|| brings(&world.repo));
            gate.wait_for_arrivals(AT_ONCE).unwrap();
            gate.release();
            brought.join().unwrap();
        });
        world.settle();
        assert_eq!(world.index_objects_read().len(), usize::try_from(SESSIONS).unwrap());
        assert_eq!(world.repo.index().applied().unwrap().len(), usize::try_from(SESSIONS).unwrap());
    }
}

#[test]
fn nothing_is_missing_before_everything_was_looked_at_twice() {
    let world = World::new();
    let error = world.read(SESSIONS).unwrap_err();
    assert!(matches!(error, RepoError::MissingChunk(_)), "{error:?}");
    assert_eq!(world.listings(), 2);
    assert_eq!(world.index_objects_read().len(), usize::try_from(SESSIONS).unwrap());
}

/// What is lost of a listing by a failure does not count as looked at.
#[test]
fn who_waits_is_told_of_a_failure_and_the_next_one_tries_again() {
    let world = World::new();
    world.store.script(|call| {
        let fails = is_index_get(call) && session_of(&call.object) == session(60);
        fails.then_some(Fault::Fail(StoreErrorKind::Unavailable))
    });
    for _ in 0..3 {
        let error = world.read(SESSIONS).unwrap_err();
        assert!(
            matches!(&error, RepoError::Store(error) if error.kind() == StoreErrorKind::Unavailable),
            "{error:?}"
        );
    }
    assert_eq!(world.read(99).unwrap(), plain(99), "what came before is there");
    world.store.clear_script();
    assert_eq!(world.read(60).unwrap(), plain(60));
    assert!(matches!(world.read(SESSIONS), Err(RepoError::MissingChunk(_))));
}

/// Followed by nobody, a failure is a line in the log, and who misses something asks anew.
#[test]
fn a_failure_that_nobody_waits_for_is_no_error_of_the_next_one() {
    let world = World::new();
    world.store.script(|_| Some(Fault::Fail(StoreErrorKind::Unavailable)));
    world.repo.follow();
    world.settle();
    world.store.clear_script();
    assert_eq!(world.read(5).unwrap(), plain(5));
}

#[test]
fn readers_and_writers_bring_the_same_objects_side_by_side() {
    let world = World::new();
    world.store.script(|call| is_index_get(call).then_some(Fault::Delay(Duration::from_millis(2))));
    let together = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            together.wait();
            world.repo.refresh_strictly().unwrap();
        });
        together.wait();
        for number in (0..SESSIONS).rev() {
            assert_eq!(world.read(number).unwrap(), plain(number));
        }
    });
    assert_eq!(world.repo.index().applied().unwrap().len(), usize::try_from(SESSIONS).unwrap());
    assert_eq!(world.repo.index().totals().unwrap().duplicate_data_chunks.count, 0);
}
