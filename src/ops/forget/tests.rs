//! Forgetting in a store, and bringing back.

use jiff::tz::TimeZone;

use super::*;
use crate::format::snapshot::{Completeness, Manifest};
use crate::repo::testing::TestStore;
use crate::store::ObjectStore;
use crate::store::key::Prefix;

/// The snapshots of a test store are of 2027.
fn now() -> Zoned {
    "2030-01-01T00:00:00Z".parse::<Timestamp>().unwrap().to_zoned(TimeZone::UTC)
}

fn by_last(repo: &Repository, last: u32) -> ForgetPlan {
    let policy = Policy { last, ..Policy::default() };
    ForgetPlan::by_policy(repo.snapshots().unwrap(), &policy, &now()).unwrap()
}

#[test]
fn a_series_without_a_policy_is_not_touched() {
    let test = TestStore::new();
    let repo = test.open();
    for source in ["db", "etc", "web", "db", "etc", "web"] {
        test.commit(&repo, source, Completeness::Complete);
    }
    let [one, two] = [1, 2].map(|last| Policy { last, ..Policy::default() });
    let policy = |manifest: &Manifest| match manifest.source.as_str() {
        "db" => Some(&one),
        "web" => Some(&two),
        _ => None,
    };
    let plan = ForgetPlan::by_policies(repo.snapshots().unwrap(), policy, &now()).unwrap();
    assert_eq!(plan.series.iter().map(|series| series.source.as_str()).collect::<Vec<_>>(), ["db", "web"]);
    assert_eq!(
        plan.forgotten().map(|snapshot| snapshot.manifest.source.as_str()).collect::<Vec<_>>(),
        ["db"]
    );
}

#[test]
fn each_series_keeps_its_own() {
    let test = TestStore::new();
    let repo = test.open();
    for source in ["db", "etc", "db", "etc", "db"] {
        test.commit(&repo, source, Completeness::Complete);
    }
    let plan = by_last(&repo, 2);
    let series: Vec<_> =
        plan.series.iter().map(|series| (series.source.as_str(), series.decisions.len())).collect();
    assert_eq!(series, [("db", 3), ("etc", 2)]);
    assert_eq!(plan.execute(&repo).unwrap(), 1);
    assert_eq!(repo.snapshots().unwrap().len(), 4);
    assert_eq!(repo.forgotten_snapshots().unwrap().len(), 1);
    assert_eq!(by_last(&repo, 2).execute(&repo).unwrap(), 0);
}

#[test]
fn names_forget_what_they_mean_and_nothing_else() {
    let test = TestStore::new();
    let repo = test.open();
    let first = test.commit(&repo, "db", Completeness::Complete);
    test.commit(&repo, "db", Completeness::Complete);
    test.commit(&repo, "etc", Completeness::Complete);
    let plan = ForgetPlan::by_name(repo.snapshots().unwrap(), &BTreeSet::from([first.id]));
    assert_eq!(plan.series.len(), 1);
    assert_eq!(plan.execute(&repo).unwrap(), 1);
    let left: Vec<_> = repo.snapshots().unwrap().into_iter().map(|snapshot| snapshot.manifest.id).collect();
    assert!(left.len() == 2 && !left.contains(&first.id));
}

#[test]
fn what_is_brought_back_is_the_same_under_another_id() {
    let test = TestStore::new();
    let repo = test.open();
    let old = test.commit(&repo, "db", Completeness::Complete);
    test.commit(&repo, "db", Completeness::Complete);
    let kept = repo.snapshots().unwrap().remove(0);
    assert!(matches!(undo(&repo, &kept), Err(UndoError::NotForgotten(_))));
    by_last(&repo, 1).execute(&repo).unwrap();
    let forgotten = repo.find_forgotten(&old.id.hex()).unwrap();
    assert!(forgotten.forgotten_since.is_some());
    let Undone::Now(back) = undo(&repo, &forgotten).unwrap() else { panic!("it was not back") };
    let new = back.manifest.clone();
    assert_ne!(new.id, old.id);
    // All else is the same: among others the tree packs, and what it added to the store when it came.
    assert!(!old.tree_packs.is_empty() && old.totals.added_bytes > 0 && old.totals.stored_bytes > 0);
    let Manifest { id, finished, .. } = old.clone();
    assert_eq!(Manifest { id, finished, origin: None, ..new.clone() }, old);
    assert_eq!(new.origin, Some(old.id), "what was copied before is known to be the same");
    assert!(new.finished > old.finished);
    assert_eq!(repo.find_snapshot(&new.id.hex()).unwrap(), back);
    assert_eq!(repo.snapshots().unwrap().len(), 2);

    // The old one stays forgotten, and once more makes no second copy.
    let forgotten = repo.find_forgotten(&old.id.hex()).unwrap();
    assert_eq!(undo(&repo, &forgotten).unwrap(), Undone::Before(back));
    assert_eq!(repo.snapshots().unwrap().len(), 2);
    // What was brought back can be forgotten and brought back like any other.
    repo.mark(new.id, MarkState::Forgotten).unwrap();
    let Undone::Now(third) = undo(&repo, &forgotten).unwrap() else { panic!("it was not back") };
    assert!(third.manifest.id != new.id && third.manifest.id != old.id);
}

#[test]
fn what_was_accepted_stays_accepted() {
    let test = TestStore::new();
    let repo = test.open();
    test.commit(&repo, "db", Completeness::Complete);
    let [accepted, other] = [(); 2].map(|()| test.commit(&repo, "db", Completeness::Suspicious));
    repo.mark(accepted.id, MarkState::Accepted).unwrap();
    let back = |old: &Manifest| {
        repo.mark(old.id, MarkState::Forgotten).unwrap();
        let forgotten = repo.find_forgotten(&old.id.hex()).unwrap();
        let new = undo(&repo, &forgotten).unwrap().snapshot().clone();
        assert_eq!(repo.find_snapshot(&new.manifest.id.hex()).unwrap(), new);
        new
    };
    assert!(back(&accepted).may_be_latest());
    assert!(!back(&other).may_be_latest());
    // An undo that ended before it made the mark is finished by the next one.
    let old = test.commit(&repo, "db", Completeness::Suspicious);
    let unfinished = back(&old);
    assert!(!unfinished.marks.accepted);
    repo.mark(old.id, MarkState::Accepted).unwrap();
    assert_eq!(back(&old).manifest.id, unfinished.manifest.id);
    assert!(repo.find_snapshot(&unfinished.manifest.id.hex()).unwrap().marks.accepted);
}

#[test]
fn names_of_forgotten_snapshots_say_so() {
    let test = TestStore::new();
    let repo = test.open();
    let [first, second] = [(); 2].map(|()| test.commit(&repo, "db", Completeness::Complete));
    let hex = first.id.hex();
    assert!(matches!(repo.find_forgotten(&hex), Err(RepoError::NoForgotten(_))));
    repo.mark(first.id, MarkState::Forgotten).unwrap();
    let Err(RepoError::ForgottenSnapshot { candidates, .. }) = repo.find_snapshot(&hex) else {
        panic!("it is there")
    };
    assert!(candidates.ends_with(&first.id.short()), "{candidates}");
    assert!(matches!(repo.find_snapshot("ffffffff"), Err(RepoError::NoSnapshot(_))));
    // By its time, what was brought back comes first.
    let time = first.time.to_string();
    assert!(matches!(repo.find_snapshot(&time), Err(RepoError::ForgottenSnapshot { .. })));
    let new = undo(&repo, &repo.find_forgotten(&time).unwrap()).unwrap().snapshot().manifest.id;
    assert_eq!(repo.find_snapshot(&time).unwrap().manifest.id, new);
    assert_eq!(repo.find_forgotten(&time).unwrap().manifest.id, first.id);
    repo.mark(new, MarkState::Forgotten).unwrap();
    repo.mark(second.id, MarkState::Forgotten).unwrap();
    let Err(RepoError::AmbiguousForgotten { candidates, .. }) = repo.find_forgotten(&time) else {
        panic!("it is one")
    };
    assert!(candidates.contains(&first.id.short()) && candidates.contains(&new.short()), "{candidates}");
    assert!(!candidates.contains(&second.id.short()), "{candidates}");
}

#[test]
fn what_has_lost_a_pack_cannot_be_brought_back() {
    let test = TestStore::new();
    let repo = test.open();
    let old = test.commit(&repo, "db", Completeness::Complete);
    repo.mark(old.id, MarkState::Forgotten).unwrap();
    let forgotten = repo.find_forgotten(&old.id.hex()).unwrap();
    let mut keys = Vec::new();
    test.store.list(Prefix::Index, &mut |object| keys.push(object.key)).unwrap();
    test.store.list(Prefix::Packs, &mut |object| keys.push(object.key)).unwrap();
    for key in keys {
        test.store.delete(&key).unwrap();
    }
    assert!(matches!(undo(&repo, &forgotten), Err(UndoError::Collected(_))));
    assert!(repo.snapshots().unwrap().is_empty());
}
