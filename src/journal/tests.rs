//! The journal as its callers see it.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::id::PackId;

const STORE: StoreId = StoreId::from_bytes([7; 16]);

impl Journal {
    /// Makes every further call about packs fail.
    pub(crate) fn forget_the_table_of_packs(&self) {
        self.connection().execute_batch("DROP TABLE verified_packs").unwrap();
    }
}

fn start(operation: &'static str, source: &'static str) -> RunStart<'static> {
    RunStart { store: Some(STORE), place: "/srv/backup", operation, source }
}

fn end(outcome: RunOutcome, message: &str) -> RunEnd {
    RunEnd { outcome, snapshot: None, bytes: 10, added_bytes: 5, message: message.to_owned() }
}

#[test]
fn runs_are_listed_newest_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state/journal.sqlite");
    let journal = Journal::open(&path).unwrap();
    let snapshot: SnapshotId = "20261121T053106Z-0123456789abcdef0123456789abcdef".parse().unwrap();
    let first = journal.begin(&start("ingest", "etc")).unwrap();
    let done = RunEnd { snapshot: Some(snapshot), ..end(RunOutcome::Partial, "2 files failed") };
    journal.finish(first, &done).unwrap();
    let second = journal.begin(&start("verify", "")).unwrap();

    let again = Journal::open(&path).unwrap();
    assert_eq!(again.set_aside(), None);
    let runs = again.recent(10).unwrap();
    assert_eq!(runs.iter().map(|run| run.id).collect::<Vec<_>>(), [second, first]);
    assert_eq!((runs[0].outcome, runs[0].finished), (RunOutcome::Running, None));
    let run = &runs[1];
    assert_eq!((run.store, run.operation.as_str(), run.source.as_str()), (Some(STORE), "ingest", "etc"));
    assert_eq!((run.outcome, run.snapshot), (RunOutcome::Partial, Some(snapshot)));
    assert_eq!((run.bytes, run.added_bytes, run.message.as_str()), (10, 5, "2 files failed"));
    assert!(run.finished.unwrap() >= run.started);
    assert_eq!(again.recent(1).unwrap().len(), 1);
}

#[test]
fn a_run_may_begin_before_its_store_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(&folder.path().join("journal.sqlite")).unwrap();
    let unopened = RunStart { store: None, ..start("ingest", "etc") };
    let [first, second] = [(); 2].map(|()| journal.begin(&unopened).unwrap());
    assert_eq!(first.to_string().parse(), Ok(first));
    journal.adopt(first, STORE).unwrap();
    journal.finish(first, &end(RunOutcome::Suspicious, "cut short")).unwrap();
    assert!(matches!(journal.adopt(first, STORE), Err(JournalError::NotRunning { .. })));
    journal.finish(second, &end(RunOutcome::Failed, "no store there")).unwrap();
    let run = journal.run(first).unwrap().unwrap();
    assert_eq!(
        (run.store, run.outcome, run.place.as_str()),
        (Some(STORE), RunOutcome::Suspicious, "/srv/backup")
    );
    assert_eq!(journal.run(second).unwrap().unwrap().store, None);
}

#[test]
fn runs_are_found_by_source_and_by_place() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(&folder.path().join("journal.sqlite")).unwrap();
    let [etc, shop, other] =
        ["etc", "shop", "etc"].map(|source| journal.begin(&start("ingest", source)).unwrap());
    let elsewhere = journal.begin(&RunStart { place: "/mnt/disk", ..start("verify", "") }).unwrap();
    let ids = |runs: Vec<Run>| runs.into_iter().map(|run| run.id).collect::<Vec<_>>();
    let of = |source, since, limit| ids(journal.runs_of("ingest", source, since, limit).unwrap());
    assert_eq!(of("etc", Timestamp::UNIX_EPOCH, 9), [other, etc]);
    assert_eq!(of("etc", Timestamp::UNIX_EPOCH, 1), [other]);
    assert_eq!(of("etc", Timestamp::MAX, 9), []);
    assert_eq!(of("shop", Timestamp::UNIX_EPOCH, 9), [shop]);
    assert_eq!(ids(journal.runs_at("verify", "/mnt/disk", 9).unwrap()), [elsewhere]);
    assert_eq!(ids(journal.runs_at("ingest", "/srv/backup", 9).unwrap()), [other, shop, etc]);
}

#[test]
fn what_was_cut_off_is_recorded_as_that() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(&folder.path().join("journal.sqlite")).unwrap();
    let run = journal.begin(&start("ingest", "shop")).unwrap();
    journal.finish(run, &end(RunOutcome::Unfinished, "interrupted")).unwrap();
    let run = journal.run(run).unwrap().unwrap();
    assert_eq!((run.outcome, run.finished.is_some()), (RunOutcome::Unfinished, true));
}

#[test]
fn what_was_accepted_did_not_fail() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(&folder.path().join("journal.sqlite")).unwrap();
    let id = |digit: char| -> SnapshotId {
        format!("20261121T053106Z-{}", digit.to_string().repeat(32)).parse().unwrap()
    };
    let [first, second, other] = [id('1'), id('2'), id('9')];
    for snapshot in [first, second] {
        let run = journal.begin(&start("ingest", "shop")).unwrap();
        let end = RunEnd { snapshot: Some(snapshot), ..end(RunOutcome::Suspicious, "cut short") };
        journal.finish(run, &end).unwrap();
    }
    journal.accept(first).unwrap();
    journal.accept(other).unwrap();
    let outcomes: Vec<_> = journal.recent(2).unwrap().into_iter().map(|run| run.outcome).collect();
    assert_eq!(outcomes, [RunOutcome::Suspicious, RunOutcome::Succeeded]);
}

#[test]
fn a_run_ends_once() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(&folder.path().join("journal.sqlite")).unwrap();
    let run = journal.begin(&start("ingest", "etc")).unwrap();
    journal.finish(run, &end(RunOutcome::Succeeded, "")).unwrap();
    for run in [run, RunId(99)] {
        let error = journal.finish(run, &end(RunOutcome::Failed, "late")).unwrap_err();
        assert!(matches!(error, JournalError::NotRunning { .. }), "{error}");
    }
    assert_eq!(journal.recent(1).unwrap()[0].outcome, RunOutcome::Succeeded);
}

#[test]
fn a_run_whose_process_is_gone_is_unfinished() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(&folder.path().join("journal.sqlite")).unwrap();
    journal.begin(&start("ingest", "etc")).unwrap();
    journal.connection().execute("UPDATE runs SET process_start = process_start + 1", []).unwrap();
    assert_eq!(journal.recent(1).unwrap()[0].outcome, RunOutcome::Unfinished);
}

#[test]
fn huge_sums_are_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(&folder.path().join("journal.sqlite")).unwrap();
    let run = journal.begin(&start("ingest", "etc")).unwrap();
    journal.finish(run, &RunEnd { bytes: u64::MAX, ..end(RunOutcome::Succeeded, "") }).unwrap();
    assert_eq!(journal.recent(1).unwrap()[0].bytes, i64::MAX.cast_unsigned());
}

#[test]
fn a_damaged_journal_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    let damaged = b"not a database at all".repeat(100);
    let mut names = Vec::new();
    for _ in 0..3 {
        std::fs::write(&path, &damaged).unwrap();
        let journal = Journal::open(&path).unwrap();
        let aside = journal.set_aside().unwrap().to_owned();
        assert!(aside.file_name().unwrap().to_str().unwrap().starts_with("journal.sqlite.damaged-2"));
        assert_eq!(std::fs::read(&aside).unwrap(), damaged);
        journal.begin(&start("ingest", "etc")).unwrap();
        assert_eq!(journal.recent(9).unwrap().len(), 1);
        assert!(!names.contains(&aside));
        names.push(aside);
    }
}

#[test]
fn a_journal_of_a_newer_program_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    Journal::open(&path).unwrap().connection().pragma_update(None, "user_version", 1000).unwrap();
    let error = Journal::open(&path).map(drop).unwrap_err();
    assert!(matches!(error, JournalError::TooNew { .. }), "{error}");
    assert!(path.exists());
}

#[test]
fn only_the_owner_may_read_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state/journal.sqlite");
    let journal = Journal::open(&path).unwrap();
    journal.begin(&start("ingest", "etc")).unwrap();
    let parent = path.parent().unwrap();
    assert_eq!(parent.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    for file in std::fs::read_dir(parent).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
    }
}

#[test]
fn threads_and_handles_write_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    let handles = [Journal::open(&path).unwrap(), Journal::open(&path).unwrap()];
    std::thread::scope(|scope| {
        for journal in handles.iter().chain(&handles) {
            scope.spawn(move || {
                for _ in 0..5 {
                    let run = journal.begin(&start("ingest", "etc")).unwrap();
                    journal.finish(run, &end(RunOutcome::Succeeded, "")).unwrap();
                }
            });
        }
    });
    let runs = handles[0].recent(100).unwrap();
    assert_eq!(runs.len(), 20);
    assert!(runs.iter().all(|run| run.outcome == RunOutcome::Succeeded));
}

fn place(store: StoreId, location: &str) -> StorePlace {
    StorePlace { store, location: location.to_owned() }
}

#[test]
fn packs_keep_their_last_state_for_each_store_and_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    let here = place(STORE, "/disk");
    let others = [place(STORE, "/second disk"), place(StoreId::from_bytes([8; 16]), "/disk")];
    let packs: Vec<_> = (0..3).map(|number| PackId::from_bytes([number; 32])).collect();
    let at = |second| Timestamp::from_second(second).unwrap();
    let journal = Journal::open(&path).unwrap();
    journal.record_whole(&here, &packs, at(100)).unwrap();
    journal.record_whole(&here, &packs[1..2], at(200)).unwrap();
    for other in &others {
        journal.record_whole(other, &packs[..1], at(300)).unwrap();
        journal.record_suspect(other, &packs[..2]).unwrap();
    }
    journal.forget_packs(&here, &packs[2..]).unwrap();
    journal.forget_packs(&here, &[]).unwrap();

    let journal = Journal::open(&path).unwrap();
    let state = |second: Option<i64>, is_suspect| PackState { whole: second.map(at), is_suspect };
    let found = journal.verified_packs(&here).unwrap();
    let expected = [(packs[0], state(Some(100), false)), (packs[1], state(Some(200), false))];
    assert_eq!(found, HashMap::from(expected));
    for other in &others {
        let expected = [(packs[0], state(Some(300), true)), (packs[1], state(None, true))];
        assert_eq!(journal.verified_packs(other).unwrap(), HashMap::from(expected));
        journal.record_whole(other, &packs[..1], at(400)).unwrap();
        assert_eq!(journal.verified_packs(other).unwrap()[&packs[0]], state(Some(400), false));
    }
}

#[test]
fn a_journal_of_the_first_version_is_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    let journal = Journal::open(&path).unwrap();
    let run = journal.begin(&start("ingest", "etc")).unwrap();
    let back = "DROP TABLE verified_packs; DROP TABLE notices; DROP TABLE incidents; DROP TABLE undelivered;
                DROP TABLE store_sizes; DROP INDEX runs_by_source; ALTER TABLE runs DROP COLUMN place;
                PRAGMA user_version = 1";
    journal.connection().execute_batch(back).unwrap();
    drop(journal);

    let journal = Journal::open(&path).unwrap();
    assert_eq!(journal.set_aside(), None);
    let found = journal.run(run).unwrap().unwrap();
    assert_eq!((found.id, found.source.as_str(), found.place.as_str()), (run, "etc", ""));
    assert!(journal.verified_packs(&place(STORE, "/disk")).unwrap().is_empty());
}
