//! Copies that die, meet damage, or run while garbage is collected.

use super::*;
use crate::ops::verify::{Scope, VerifyOptions, verify};
use crate::store::fault::{Fault, Operation};
use crate::store::{Payload, StoreErrorKind};

fn flip(store: &Fixture, key: &ObjectKey) {
    store.tamper(key, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
}

#[test]
fn a_copy_may_die_at_any_step_and_is_taken_up() {
    let first = Fixture::new();
    let snapshots = [commit(&first, 0..3), commit(&first, 2..5), commit(&first, [7])];
    first.repo.mark(snapshots[1].manifest.id, MarkState::Protected).unwrap();
    let expected: [(&Snapshot, &[u64]); 3] =
        [(&snapshots[0], &[0, 1, 2]), (&snapshots[1], &[2, 3, 4]), (&snapshots[2], &[7])];
    let steps = {
        let second = first.second_store();
        second.store.clear_calls();
        copy_all(&first, &second);
        judge(&second, &expected);
        second.store.calls().iter().filter(|call| call.operation.is_mutating()).count()
    };
    assert!(steps >= 15, "{steps}");
    for mutations in 0..steps {
        let second = first.second_store();
        let dying = second.on_another_host();
        dying.store.die_after(mutations);
        drop(try_copy_all(&first, &dying).unwrap_err());
        let packs = second.keys(Prefix::Packs).len();
        let committed = second.on_another_host().repo.snapshots().unwrap().len();
        let stats = copy_all(&first, &second);
        assert_eq!(committed + stats.copied.len(), 3, "{mutations}");
        assert!(copy_of(&second, &snapshots[1]).marks.protected, "{mutations}");
        judge(&second, &expected);
        // What no index object named yet was sent again under the same names.
        let all = second.keys(Prefix::Packs).len();
        assert!(packs <= all && all <= first.keys(Prefix::Packs).len() + 2, "{mutations}: {packs}, {all}");
    }
}

#[test]
fn a_collection_may_come_between_any_two_steps() {
    let first = Fixture::new();
    let snapshots = [commit(&first, 0..3), commit(&first, 2..5)];
    let steps = {
        let second = first.second_store();
        second.store.clear_calls();
        copy_all(&first, &second);
        second.store.calls().len()
    };
    for nth in 0..steps {
        let second = first.second_store();
        // Nobody needs the very packs that are to come, so that the collector takes what the copy finds usable.
        leave_packs(&first, &second, &snapshots);
        let collector = second.on_another_host();
        let mut collected = Some(collector);
        let mut seen = 0;
        let disturbed = second.on_another_host();
        disturbed.store.script(move |_| {
            seen += 1;
            if seen > nth
                && let Some(collector) = collected.take()
            {
                collect(&collector);
            }
            None
        });
        assert_eq!(copy_all(&first, &disturbed).copied.len(), 2, "{nth}");
        disturbed.store.clear_script();
        collect(&second);
        collect(&second);
        judge(&second, &[(&snapshots[0], &[0, 1, 2]), (&snapshots[1], &[2, 3, 4])]);
    }
}

/// Leaves in a store what a copy leaves that ends before its commit.
fn leave_packs(from: &Fixture, to: &Fixture, snapshots: &[Snapshot]) {
    let mut packs = PackCopier::new(&from.repo, &to.repo).unwrap();
    snapshots.iter().for_each(|snapshot| packs.find(&snapshot.manifest).unwrap());
    let session = SessionWriter::open(&to.repo, SessionOptions::new("test")).unwrap();
    packs.fill(&session, &mut CopyStats::default(), &Silent).unwrap();
    session.abandon().unwrap();
    assert_eq!(to.keys(Prefix::Packs).len(), from.keys(Prefix::Packs).len());
}

/// A pack that was collected is gone for whoever reads what lies under `gc/`, and must not come back under its name.
#[test]
fn what_was_collected_comes_back_in_other_packs() {
    let first = Fixture::new();
    let one = commit(&first, 0..4);
    let second = first.second_store();
    copy_all(&first, &second);
    forget(&second, copy_of(&second, &one).manifest.id);
    assert_eq!(collect(&second).deleted_packs, 2);
    let stats = copy_all(&first, &second);
    assert_eq!((stats.copied.len(), stats.whole_packs), (1, 0), "{stats:?}");
    let packs = |store: &Fixture| store.keys(Prefix::Packs).into_iter().collect::<BTreeSet<_>>();
    assert!(packs(&first).is_disjoint(&packs(&second)));
    collect(&second);
    judge(&second, &[(&one, &[0, 1, 2, 3])]);
    let again = commit(&first, 0..4);
    assert_eq!(copy_all(&first, &second).written_packs, 0);
    judge(&second, &[(&one, &[0, 1, 2, 3]), (&again, &[0, 1, 2, 3])]);
}

#[test]
fn what_is_damaged_here_is_not_copied_and_all_else_is() {
    for whole in [true, false] {
        let first = Fixture::new();
        let one = commit(&first, 0..3);
        let lost = commit(&first, [50]);
        let three = commit(&first, 2..6);
        let pack = first.pack_of(ChunkKind::Data, &noise(50, 40_000)[..5000]);
        if whole {
            flip(&first, &pack)
        } else {
            first.memory.delete(&pack).unwrap()
        };
        let second = first.second_store();
        let stats = copy_all(&first, &second);
        assert_eq!((stats.copied.len(), stats.damaged.len()), (2, 1), "{stats:?}");
        assert_eq!(stats.damaged[0].0.id, lost.manifest.id);
        assert_eq!(second.repo.snapshots().unwrap().len(), 2);
        judge(&second, &[(&one, &[0, 1, 2]), (&three, &[2, 3, 4, 5])]);
    }
}

/// Two hosts stored the same at once; one of their packs is damaged.
#[test]
fn what_lies_elsewhere_as_well_is_copied_from_there() {
    let first = Fixture::new();
    let other = first.on_another_host();
    let sessions = [&first, &other].map(|host| {
        SessionWriter::open(&host.repo, SessionOptions { threads: 1, ..SessionOptions::new("test") }).unwrap()
    });
    let [one, two] = sessions;
    let one = first.commit_through(one, |maker| files(maker, 0..3));
    let two = other.commit_through(two, |maker| files(maker, 0..3));
    first.repo.refresh().unwrap();
    flip(&first, &first.pack_of(ChunkKind::Data, &noise(0, 40_000)[..5000]));
    let second = first.second_store();
    let stats = copy_all(&first, &second);
    assert_eq!((stats.copied.len(), stats.damaged.len()), (2, 0), "{stats:?}");
    judge(&second, &[(&one, &[0, 1, 2]), (&two, &[0, 1, 2])]);
}

#[test]
fn what_is_whole_of_a_damaged_pack_is_copied() {
    let first = Fixture::new();
    let all = commit(&first, 0..10);
    let whole = commit(&first, [0, 9]);
    flip(&first, &first.pack_of(ChunkKind::Data, &noise(0, 40_000)[..5000]));
    let second = first.second_store();
    let stats = copy_all(&first, &second);
    assert_eq!(stats.damaged.iter().map(|(manifest, _)| manifest.id).collect::<Vec<_>>(), [all.manifest.id]);
    judge(&second, &[(&whole, &[0, 9])]);
}

#[test]
fn what_is_damaged_or_missing_there_is_brought_anew() {
    for lost in [true, false] {
        let first = Fixture::new();
        let one = commit(&first, 0..3);
        let second = first.second_store();
        copy_all(&first, &second);
        let pack = second.pack_of(ChunkKind::Data, &noise(0, 40_000)[..5000]);
        if lost {
            second.memory.delete(&pack).unwrap();
        } else {
            flip(&second, &pack);
            let options = VerifyOptions { threads: 1, journal: None };
            assert_eq!(verify(&second.repo, Scope::All, &options, &Silent).unwrap().damaged.len(), 1);
        }
        let two = commit(&first, 0..4);
        copy_all(&first, &second);
        for (snapshot, last) in [(&one, 2), (&two, 3)] {
            let copy = copy_of(&second, snapshot);
            for seed in 0..=last {
                let content = read(&second.repo, &copy.manifest, &format!("file-{seed}"));
                assert_eq!(content, noise(seed, 40_000), "{lost} {seed}");
            }
        }
        if lost {
            judge(&second, &[(&one, &[0, 1, 2]), (&two, &[0, 1, 2, 3])]);
        }
    }
}

#[test]
fn nothing_is_committed_that_does_not_come_back() {
    let first = Fixture::new();
    commit(&first, 0..3);
    let second = first.second_store();
    second.store.script(|call| {
        let is_read_back = call.operation == Operation::Get && call.object.starts_with("packs/");
        is_read_back.then_some(Fault::FlipBit(40_000))
    });
    let refused = try_copy_all(&first, &second);
    assert!(matches!(refused, Err(CopyError::ReadBack { .. })), "{refused:?}");
    second.store.clear_script();
    assert!(second.repo.snapshots().unwrap().is_empty());
    // What is there is not trusted, and what is sent is sent anew.
    let one = copy_all(&first, &second).copied;
    assert_eq!(one.len(), 1);
    Acknowledged::default().judge(&second);
}

#[test]
fn an_object_in_the_place_of_a_pack_is_not_taken_for_it() {
    let first = Fixture::new();
    let one = commit(&first, 0..3);
    let second = first.second_store();
    for key in first.keys(Prefix::Packs) {
        second.memory.create(&key, Payload::Bytes(b"rubbish")).unwrap();
    }
    let stats = copy_all(&first, &second);
    assert_eq!((stats.copied.len(), stats.whole_packs), (1, 0));
    let copy = copy_of(&second, &one);
    assert_eq!(read(&second.repo, &copy.manifest, "file-1"), noise(1, 40_000));
}

/// A collector writes anew what is left of a pack, between the look for it and its copy.
#[test]
fn what_moves_while_it_is_copied_is_found() {
    let first = Fixture::new();
    let large = commit(&first, 0..20);
    let small = commit(&first, [3, 17]);
    forget(&first, large.manifest.id);
    let second = first.second_store();
    let collector = first.on_another_host();
    let mut collected = false;
    first.store.script(move |call| {
        if call.operation == Operation::Get && call.object.starts_with("packs/") && !collected {
            collected = true;
            assert!(super::collect(&collector).rewritten_packs > 0);
        }
        None
    });
    let stats = copy_all(&first, &second);
    assert_eq!((stats.copied.len(), stats.damaged.len()), (1, 0), "{stats:?}");
    judge(&second, &[(&small, &[3, 17])]);
}

#[test]
fn a_store_that_fails_is_no_damage() {
    let first = Fixture::new();
    commit(&first, 0..3);
    let second = first.second_store();
    first.store.script(|call| {
        let fails = call.operation == Operation::Get && call.object.starts_with("packs/");
        fails.then_some(Fault::Fail(StoreErrorKind::Unavailable))
    });
    let failed = try_copy_all(&first, &second);
    assert!(matches!(failed, Err(CopyError::Source(_))), "{failed:?}");
    first.store.clear_script();
    assert_eq!(copy_all(&first, &second).copied.len(), 1);
}
