//! What policies keep, in ordinary weeks and where clocks change.

use jiff::ToSpan;
use jiff::tz::TimeZone;

use super::*;
use crate::format::snapshot::{Completeness, Manifest, Marks, SnapshotTotals};
use crate::format::tree::{Attributes, TreeRef};
use crate::id::{ChunkId, SessionId};

fn snapshot(time: &str) -> Snapshot {
    let time: Timestamp = time.parse().unwrap();
    let manifest = Manifest {
        id: SessionId::random(time).unwrap(),
        time,
        finished: time,
        source: "db".to_owned(),
        host: "web1".to_owned(),
        tags: Vec::new(),
        paths: Vec::new(),
        command: None,
        completeness: Completeness::Complete,
        root_attributes: Attributes::default(),
        root: TreeRef { page: ChunkId::from_bytes([0; 32]), entries: 0, bytes: 0 },
        tree_packs: Vec::new(),
        totals: SnapshotTotals::default(),
        dump: None,
        outputs: Vec::new(),
        program: "test".to_owned(),
        origin: None,
    };
    Snapshot { manifest, marks: Marks::default(), forgotten_since: None }
}

/// Makes snapshots at regular times, the first at `first`.
fn every(minutes: i64, count: usize, first: &str) -> Vec<Snapshot> {
    let first: Timestamp = first.parse().unwrap();
    let time = |nth: usize| first + (minutes * i64::try_from(nth).unwrap()).minutes();
    (0..count).map(|nth| snapshot(&time(nth).to_string())).collect()
}

fn berlin() -> TimeZone {
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
}

/// A time in Berlin, long after all of these snapshots.
fn now() -> Zoned {
    "2030-01-01T00:00:00Z".parse::<Timestamp>().unwrap().to_zoned(berlin())
}

/// Returns the times of what is kept, as clocks in Berlin show them.
fn kept(policy: &Policy, snapshots: &[Snapshot]) -> Vec<String> {
    let reasons = decide(policy, snapshots, &now()).unwrap();
    let kept = snapshots.iter().zip(&reasons).filter(|(_, reasons)| !reasons.is_empty());
    kept.map(|(snapshot, _)| snapshot.manifest.time.to_zoned(berlin()).strftime("%m-%d %H:%M%:z").to_string())
        .collect()
}

#[test]
fn rules_keep_the_last_of_each_period_each_by_itself() {
    let daily = every(24 * 60, 70, "2026-01-01T01:00:00Z");
    let policy = Policy { daily: 2, weekly: 2, monthly: 2, yearly: 5, ..Policy::default() };
    // March 11, 2026 is a Wednesday.
    assert_eq!(
        kept(&policy, &daily),
        ["02-28 02:00+01:00", "03-08 02:00+01:00", "03-10 02:00+01:00", "03-11 02:00+01:00"]
    );
    let reasons = decide(&policy, &daily, &now()).unwrap();
    let latest = [Reason::Daily(1), Reason::Weekly(1), Reason::Monthly(1), Reason::Yearly(1)];
    assert_eq!(reasons.last().unwrap(), &latest);
    assert_eq!(kept(&Policy { last: 3, ..Policy::default() }, &daily).len(), 3);
    assert_eq!(kept(&Policy { last: 300, ..Policy::default() }, &daily).len(), 70);
}

#[test]
fn days_without_a_snapshot_do_not_count() {
    let mut snapshots = every(24 * 60, 3, "2026-01-01T01:00:00Z");
    snapshots.extend(every(24 * 60, 2, "2026-06-01T01:00:00Z"));
    let policy = Policy { daily: 3, ..Policy::default() };
    assert_eq!(kept(&policy, &snapshots), ["01-03 02:00+01:00", "06-01 03:00+02:00", "06-02 03:00+02:00"]);
}

#[test]
fn weeks_begin_on_monday_and_cross_years() {
    // December 28, 2026 is a Monday, and January 3, 2027 the Sunday of the same week.
    let daily = every(24 * 60, 9, "2026-12-27T12:00:00Z");
    let policy = Policy { weekly: 3, ..Policy::default() };
    assert_eq!(kept(&policy, &daily), ["12-27 13:00+01:00", "01-03 13:00+01:00", "01-04 13:00+01:00"]);
}

#[test]
fn an_hour_that_comes_twice_is_two() {
    let half_hourly = every(30, 8, "2026-10-24T23:00:00Z");
    let policy = Policy { hourly: 10, ..Policy::default() };
    assert_eq!(
        kept(&policy, &half_hourly),
        ["10-25 01:30+02:00", "10-25 02:30+02:00", "10-25 02:30+01:00", "10-25 03:30+01:00"]
    );
}

#[test]
fn an_hour_that_is_left_out_is_none() {
    let half_hourly = every(30, 6, "2026-03-29T00:00:00Z");
    let policy = Policy { hourly: 10, ..Policy::default() };
    assert_eq!(kept(&policy, &half_hourly), ["03-29 01:30+01:00", "03-29 03:30+02:00", "03-29 04:30+02:00"]);
}

#[test]
fn days_of_23_and_25_hours_are_days() {
    for (first, hours, expected) in [
        ("2026-10-23T22:15:00Z", 24 + 25, ["10-24 23:15+02:00", "10-25 23:15+01:00"]),
        ("2026-03-27T23:15:00Z", 24 + 23, ["03-28 23:15+01:00", "03-29 23:15+02:00"]),
    ] {
        let hourly = every(60, hours, first);
        assert_eq!(kept(&Policy { daily: 5, ..Policy::default() }, &hourly), expected, "{first}");
        let within = Policy { within: Some(1.day()), ..Policy::default() };
        // The one at the same time of the day before, and all since then.
        assert_eq!(kept(&within, &hourly).len(), hours - 24 + 1, "{first}");
    }
}

#[test]
fn tags_keep() {
    let mut snapshots = every(60, 5, "2026-01-01T01:00:00Z");
    snapshots[1].manifest.tags = vec!["before-update".to_owned(), "x".to_owned()];
    let tags = vec!["y".to_owned(), "before-update".to_owned()];
    let policy = Policy { last: 1, tags, ..Policy::default() };
    let reasons = decide(&policy, &snapshots, &now()).unwrap();
    assert_eq!(reasons[1], [Reason::Tag("before-update".to_owned())]);
    assert_eq!(reasons.iter().filter(|reasons| !reasons.is_empty()).count(), 2);
}

#[test]
fn protected_ones_stay_and_take_no_place() {
    let mut snapshots = every(60, 5, "2026-01-01T01:00:00Z");
    snapshots[0].marks.protected = true;
    snapshots[4].marks.protected = true;
    let reasons = decide(&Policy { last: 2, ..Policy::default() }, &snapshots, &now()).unwrap();
    let expected = [
        vec![Reason::Protected],
        vec![],
        vec![Reason::Last(2)],
        vec![Reason::Last(1)],
        vec![Reason::Protected],
    ];
    assert_eq!(reasons, expected);
}

#[test]
fn suspicious_ones_push_nothing_out() {
    let mut snapshots = every(60, 6, "2026-01-01T01:00:00Z");
    for snapshot in &mut snapshots[2..] {
        snapshot.manifest.completeness = Completeness::Suspicious;
    }
    snapshots[2].marks.accepted = true;
    let reasons = decide(&Policy { last: 2, ..Policy::default() }, &snapshots, &now()).unwrap();
    let is_kept: Vec<_> = reasons.iter().map(|reasons| !reasons.is_empty()).collect();
    assert_eq!(is_kept, [false, true, true, false, true, true]);
}

#[test]
fn suspicious_ones_expire_where_that_is_asked_for() {
    let mut snapshots = every(24 * 60, 40, "2026-01-01T01:00:00Z");
    for nth in [2, 20, 38, 39] {
        snapshots[nth].manifest.completeness = Completeness::Suspicious;
    }
    snapshots[20].marks.accepted = true;
    let last = snapshots[39].manifest.time.to_zoned(TimeZone::UTC);
    let policy = Policy { last: 100, suspicious_within: Some(30.days()), ..Policy::default() };
    let forgotten = |now: &Zoned| -> Vec<usize> {
        let reasons = decide(&policy, &snapshots, now).unwrap();
        (0..40).filter(|nth| reasons[*nth].is_empty()).collect()
    };
    assert_eq!(forgotten(&last), [2]);
    assert_eq!(forgotten(&last.saturating_add(60.days())), [2, 38, 39]);
}

#[test]
fn the_latest_good_one_is_always_kept() {
    let none = Policy { tags: vec!["none".to_owned()], ..Policy::default() };
    let mut snapshots = every(60, 3, "2026-01-01T01:00:00Z");
    let positions = |snapshots: &[Snapshot]| -> Vec<usize> {
        let reasons = decide(&none, snapshots, &now()).unwrap();
        (0..snapshots.len()).filter(|position| reasons[*position] == [Reason::Latest]).collect()
    };
    assert_eq!(positions(&snapshots), [2]);
    // Another one that a rule keeps is no reason to let `latest` go back.
    snapshots[0].manifest.tags = none.tags.clone();
    assert_eq!(positions(&snapshots), [2]);
    snapshots[0].manifest.tags.clear();
    snapshots[2].manifest.completeness = Completeness::Suspicious;
    assert_eq!(positions(&snapshots), [1]);
    for snapshot in &mut snapshots {
        snapshot.manifest.completeness = Completeness::Suspicious;
    }
    assert_eq!(positions(&snapshots), [2]);
    assert_eq!(positions(&[]), [0; 0]);
}

#[test]
fn a_clock_that_is_ahead_pushes_nothing_out() {
    let mut snapshots = every(24 * 60, 10, "2026-01-01T01:00:00Z");
    snapshots.extend(every(24 * 60, 3, "2099-01-01T01:00:00Z"));
    let is_kept = |policy: Policy| -> Vec<bool> {
        let reasons = decide(&policy, &snapshots, &now()).unwrap();
        reasons.iter().map(|reasons| !reasons.is_empty()).collect()
    };
    let expected = |past: usize, future: usize| -> Vec<bool> {
        (0..13).map(|nth| if nth < 10 { nth >= 10 - past } else { nth >= 13 - future }).collect()
    };
    assert_eq!(is_kept(Policy { daily: 2, ..Policy::default() }), expected(2, 2));
    assert_eq!(is_kept(Policy { within: Some(2.days()), ..Policy::default() }), expected(3, 3));
    assert_eq!(is_kept(Policy { tags: vec!["none".to_owned()], ..Policy::default() }), expected(1, 0));
    let all_ahead = decide(&Policy { last: 1, ..Policy::default() }, &snapshots[10..], &now()).unwrap();
    assert_eq!(all_ahead, [vec![], vec![], vec![Reason::Last(1)]]);
}

#[test]
fn a_day_that_goes_on_after_the_next_one_began_is_one() {
    // Until 2011, Newfoundland set its clocks back at one minute past midnight, to 23:01 of the day before.
    let zone = TimeZone::posix("NST3:30NDT,M3.2.0/0:01,M11.1.0/0:01").unwrap();
    let times = ["02:00:00", "02:30:30", "03:00:00", "04:00:00"];
    let snapshots = times.map(|time| snapshot(&format!("2010-11-07T{time}Z")));
    let local = |snapshot: &Snapshot| snapshot.manifest.time.to_zoned(zone.clone());
    let shown = |snapshot: &Snapshot| local(snapshot).strftime("%d %H:%M").to_string();
    assert_eq!(snapshots.each_ref().map(shown), ["06 23:30", "07 00:00", "06 23:30", "07 00:30"]);
    let policy = Policy { daily: 3, ..Policy::default() };
    let reasons = decide(&policy, &snapshots, &now().with_time_zone(zone.clone())).unwrap();
    assert_eq!(reasons, [vec![], vec![], vec![Reason::Daily(2)], vec![Reason::Daily(1)]]);
}
