//! What marks say together, how a new one finds its number, and how many requests all that takes.

use std::sync::Arc;

use super::*;
use crate::crypto::secrets::{Writer, WriterClass};
use crate::format::collection::Stage;
use crate::format::snapshot::Completeness;
use crate::repo::testing::TestStore;
use crate::store::ObjectStore;
use crate::store::fault::{Fault, FaultStore, Gate, Operation};
use crate::store::memory::MemoryStore;

use MarkState::{Accepted, Forgotten, Protected, Restored, Unprotected};

fn seal(repo: &Repository, id: SnapshotId, number: u32, state: MarkState) -> Vec<u8> {
    Mark { time: Timestamp::now(), state }.seal(id, number, repo.keys(), repo.writer()).unwrap()
}

fn put(test: &TestStore, id: SnapshotId, number: u32, bytes: &[u8]) {
    test.store.create(&ObjectKey::mark(id, number), Payload::Bytes(bytes)).unwrap();
}

fn said(repo: &Repository, id: SnapshotId) -> Marks {
    repo.marks(&|_| true).unwrap().get(&id).copied().unwrap_or_default().marks
}

fn numbers(test: &TestStore, id: SnapshotId) -> Vec<u32> {
    let keys = test.store_keys();
    let mut numbers: Vec<u32> = keys
        .iter()
        .filter_map(ObjectKey::as_mark)
        .filter(|(of, _)| *of == id)
        .map(|(_, number)| number)
        .collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn a_mark_leaves_the_other_axes_alone() {
    let test = TestStore::new();
    let repo = test.open();
    let id = test.commit(&repo, "db", Completeness::Suspicious).id;
    for (state, marking) in [
        (Accepted, Marking::Made),
        (Protected, Marking::Made),
        (Accepted, Marking::Stood),
        (Unprotected, Marking::Made),
        (Unprotected, Marking::Stood),
        (Protected, Marking::Made),
        (Restored, Marking::Stood),
    ] {
        assert_eq!(repo.mark(id, state).unwrap(), marking, "{state:?}");
        assert!(repo.find_snapshot("latest:db").unwrap().marks.accepted, "{state:?}");
    }
    let expected = Marks { forgotten: false, protected: true, accepted: true };
    assert_eq!(said(&repo, id), expected);
    assert_eq!(numbers(&test, id), [0, 1, 2, 3]);
    let other = test.commit(&repo, "db", Completeness::Complete).id;
    assert_eq!(said(&repo, other), Marks::default());
}

#[test]
fn what_is_forgotten_is_listed_again_once_it_is_restored_or_protected() {
    let test = TestStore::new();
    let repo = test.open();
    let id = test.commit(&repo, "db", Completeness::Complete).id;
    for (state, listed) in [(Forgotten, 0), (Restored, 1), (Forgotten, 0), (Protected, 1), (Unprotected, 0)] {
        assert_eq!(repo.mark(id, state).unwrap(), Marking::Made);
        assert_eq!(repo.snapshots().unwrap().len(), listed, "{state:?}");
    }
}

#[test]
fn marks_that_do_not_open_count_for_nothing_on_no_axis() {
    let test = TestStore::new();
    let repo = test.open();
    let id = test.commit(&repo, "db", Completeness::Suspicious).id;
    let edge = Writer { class: WriterClass::IngestOnly, ..repo.writer().clone() };
    put(&test, id, 3, &seal(&repo, id, 3, Accepted));
    put(&test, id, 5, b"rubbish");
    put(&test, id, 6, &seal(&repo, id, 7, Forgotten));
    let own = Mark { time: Timestamp::now(), state: Protected };
    put(&test, id, 8, &own.seal(id, 8, repo.keys(), &edge).unwrap());
    put(&test, id, u32::MAX, &vec![0; MARK_MAX_BYTES + 1]);
    assert_eq!(said(&repo, id), Marks { forgotten: false, protected: true, accepted: true });
    // The last number is taken by what says nothing: the mark goes before it, and counts.
    assert_eq!(repo.mark(id, Unprotected).unwrap(), Marking::Made);
    assert_eq!(numbers(&test, id), [3, 5, 6, 8, 9, u32::MAX]);
    assert!(!said(&repo, id).protected);
    put(&test, id, u32::MAX - 1, &seal(&repo, id, u32::MAX - 1, Restored));
    assert!(
        matches!(repo.mark(id, Protected), Err(RepoError::NoFreeMark(_))),
        "none is left behind that one"
    );
}

#[test]
fn each_mark_is_read_once() {
    let mut test = TestStore::new();
    let repo = test.open();
    let id = test.commit(&repo, "db", Completeness::Suspicious).id;
    for state in [Protected, Accepted, Unprotected] {
        repo.mark(id, state).unwrap();
    }
    // The folders of a host that never saw the store.
    drop(test.open_cold());
    let watched = Arc::new(FaultStore::new(Arc::clone(&test.store) as Arc<dyn ObjectStore>));
    let repo = test.open_through(Arc::clone(&watched) as Arc<dyn ObjectStore>);
    for _ in 0..3 {
        repo.snapshots().unwrap();
    }
    let calls = watched.calls();
    let reads: Vec<_> = calls.iter().filter(|call| call.operation == Operation::Get).collect();
    assert_eq!(reads.iter().filter(|call| call.object.starts_with("marks/")).count(), 3, "{reads:?}");
    let listings = calls.iter().filter(|call| call.operation == Operation::List && call.object == "marks/");
    assert_eq!(listings.count(), 3);
}

/// Opens a store in which somebody else puts a mark of this state under the number that is about to be taken, so
/// often.
fn raced(test: &TestStore, id: SnapshotId, state: MarkState, times: usize) -> (Repository, Arc<FaultStore>) {
    let (repo, inner): (_, Arc<MemoryStore>) = (test.open(), Arc::clone(&test.store));
    let faulty = Arc::new(FaultStore::new(Arc::clone(&test.store) as Arc<dyn ObjectStore>));
    let mut left = times;
    faulty.script(move |call| {
        if call.operation == Operation::Create && left > 0 {
            left -= 1;
            let key = ObjectKey::parse(&call.object).unwrap();
            let (_, number) = key.as_mark().unwrap();
            inner.create(&key, Payload::Bytes(&seal(&repo, id, number, state))).unwrap();
        }
        None
    });
    (test.open_through(Arc::clone(&faulty) as Arc<dyn ObjectStore>), faulty)
}

#[test]
fn who_loses_a_race_for_a_number_looks_again() {
    let test = TestStore::new();
    let id = test.commit(&test.open(), "db", Completeness::Suspicious).id;
    let (repo, _) = raced(&test, id, Accepted, 1);
    assert_eq!(repo.mark(id, Accepted).unwrap(), Marking::Stood, "the other one said the same");
    assert_eq!(numbers(&test, id), [0]);
    let (repo, _) = raced(&test, id, Protected, 1);
    repo.mark(id, Unprotected).unwrap();
    assert_eq!(numbers(&test, id), [0]);
    assert_eq!(repo.mark(id, Forgotten).unwrap(), Marking::Made, "the other one said something else");
    assert_eq!(numbers(&test, id), [0, 1, 2]);
    assert_eq!(said(&repo, id), Marks { forgotten: true, protected: true, accepted: true });
}

#[test]
fn who_loses_every_race_gives_up() {
    let test = TestStore::new();
    let id = test.commit(&test.open(), "db", Completeness::Suspicious).id;
    let (repo, faulty) = raced(&test, id, Protected, usize::MAX);
    assert!(matches!(repo.mark(id, Accepted), Err(RepoError::NoFreeMark(_))));
    assert_eq!(faulty.count(Operation::Create), MARK_ATTEMPTS);
}

#[test]
fn of_many_who_accept_at_once_one_makes_the_mark() {
    let test = TestStore::new();
    let repo = test.open();
    let id = test.commit(&repo, "db", Completeness::Suspicious).id;
    let made: usize = std::thread::scope(|scope| {
        let mark = || usize::from(repo.mark(id, Accepted).unwrap() == Marking::Made);
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(mark)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!((made, numbers(&test, id)), (1, vec![0]));
}

#[test]
fn marks_are_made_while_garbage_is_collected() {
    let test = TestStore::new();
    let repo = test.open();
    let id = test.commit(&repo, "db", Completeness::Suspicious).id;
    test.store.create(&ObjectKey::gc(1, Stage::Condemned), Payload::Bytes(b"")).unwrap();
    assert_eq!(repo.mark(id, Accepted).unwrap(), Marking::Made);
}

#[test]
fn a_store_that_needs_a_newer_writer_gets_no_mark() {
    let test = TestStore::new();
    let repo = test.open();
    let id = test.commit(&repo, "db", Completeness::Suspicious).id;
    let newer =
        crate::format::config::Config { write_features: vec!["later".to_owned()], ..repo.config().clone() };
    test.store.create(&ObjectKey::config(2), Payload::Bytes(&newer.seal(repo.keys()).unwrap())).unwrap();
    let repo = test.open();
    assert!(matches!(repo.mark(id, Accepted), Err(RepoError::TooNew { .. })));
    assert!(numbers(&test, id).is_empty());
}

/// Sees each snapshot of a store with a cold cache, with so many requests worth having under way.
fn cold_and_distant(test: &mut TestStore, requests: usize) -> (Repository, Arc<FaultStore>) {
    drop(test.open_cold());
    let distant = Arc::new(FaultStore::distant(Arc::clone(&test.store) as Arc<dyn ObjectStore>, requests));
    let repo = test.open_through(Arc::clone(&distant) as Arc<dyn ObjectStore>);
    distant.clear_calls();
    (repo, distant)
}

#[test]
fn many_are_forgotten_by_one_listing_and_a_mark_each() {
    let mut test = TestStore::new();
    let repo = test.open();
    let ids: BTreeSet<_> = (0..20).map(|_| test.commit(&repo, "db", Completeness::Complete).id).collect();
    let stood = *ids.first().unwrap();
    repo.mark(stood, Forgotten).unwrap();
    let (repo, distant) = cold_and_distant(&mut test, 4);
    let made = repo.mark_all(&ids, Forgotten).unwrap();
    assert_eq!(made, ids.iter().copied().filter(|id| *id != stood).collect());
    let counts =
        [Operation::List, Operation::Get, Operation::Create].map(|operation| distant.count(operation));
    assert_eq!(counts, [1, 1, 19], "the only mark that there was is read");
    assert!(repo.snapshots().unwrap().is_empty());
    assert!(repo.mark_all(&ids, Forgotten).unwrap().is_empty());
}

#[test]
fn manifests_and_marks_are_read_several_at_a_time() {
    let mut test = TestStore::new();
    let repo = test.open();
    for _ in 0..6 {
        let id = test.commit(&repo, "db", Completeness::Complete).id;
        repo.mark(id, Protected).unwrap();
    }
    let (repo, distant) = cold_and_distant(&mut test, 3);
    for prefix in [Prefix::Marks, Prefix::Snapshots] {
        let gate = Gate::new();
        let closed = Arc::clone(&gate);
        distant.script(move |call| {
            let is_held = call.operation == Operation::Get && call.object.starts_with(prefix.as_str());
            is_held.then(|| Fault::Block(Arc::clone(&closed)))
        });
        std::thread::scope(|scope| {
            let listed = scope.spawn(|| repo.snapshots());
            gate.wait_for_arrivals(3).unwrap();
            gate.release();
            assert_eq!(listed.join().unwrap().unwrap().len(), 6);
        });
        distant.clear_script();
        assert_eq!(distant.count(Operation::Get), 12, "each once");
        drop(repo.index().reset());
        distant.clear_calls();
    }
}
