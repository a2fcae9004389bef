//! The rules of sources.

use super::*;
use RunOutcome::{Failed, Partial, Running, Succeeded, Suspicious, Unfinished};

#[test]
fn failures_in_a_row_count_until_a_success() {
    let mut past = Past::new("schedule = \"03:30\"", "");
    let now = "2026-11-10 04:00";
    past.ran("2026-11-05 03:30", Failed).ran("2026-11-06 03:30", Partial);
    assert_eq!(past.found("failures", now), None);
    past.ran("2026-11-07 03:30", Failed);
    assert_eq!(past.found("failures", now), WARNING);
    past.ran("2026-11-08 03:30", Suspicious);
    assert_eq!(past.found("failures", now), WARNING);
    past.ran("2026-11-09 03:30", Unfinished);
    assert_eq!(past.found("failures", now), CRITICAL);
    past.ran("2026-11-10 03:30", Running);
    assert_eq!(past.found("failures", now), CRITICAL);
    let health = past.health(past.at(now));
    assert_eq!((health.sources[0].failures, health.sources[0].is_running()), (3, true));
    past.ran("2026-11-10 03:40", Succeeded);
    assert_eq!(past.found("failures", now), None);
}

#[test]
fn a_failure_says_what_since_when_and_what_to_do() {
    let mut past = Past::new("", "");
    past.ran("2026-11-21 03:30", Failed);
    let now = past.at("2026-11-21 04:00");
    insta::assert_snapshot!(
        past.finding("failures", now).unwrap().text,
        @"The last backup failed at 2026-11-21 03:30 UTC: cannot connect. `yester run shop` tries again."
    );
    past.ran("2026-11-22 03:30", Unfinished);
    insta::assert_snapshot!(
        past.finding("failures", now).unwrap().text,
        @"2 backups in a row have failed, the first at 2026-11-21 03:30 UTC, the last at 2026-11-22 03:30 UTC: it never came to its end: it was interrupted or killed, or the machine went down. `yester run shop` tries again."
    );
}

#[test]
fn rules_of_one_source_leave_others_alone() {
    let mut past = Past::new(
        "rules = { failures = { critical = 1 } }\n[source.etc]\npaths = [\"/etc\"]",
        "[rules]\nfailures = false\n",
    );
    let time = past.at("2026-11-21 03:30");
    for source in ["shop", "etc"] {
        past.run(source, time, Failed, 1, 1);
    }
    let health = past.health(time);
    assert_eq!(health.findings.len(), 1);
    assert_eq!((health.findings[0].subject.as_str(), health.worst()), ("shop", CRITICAL));
}

#[test]
fn a_backup_is_too_old_after_its_interval_and_a_quarter() {
    let mut past = Past::new("schedule = \"03:30\"", "");
    past.ran("2026-11-20 03:30", Succeeded);
    assert_eq!(past.found("max-age", "2026-11-21 09:30:59"), None);
    assert_eq!(past.found("max-age", "2026-11-21 09:31"), WARNING);
    assert_eq!(past.found("max-age", "2026-11-22 03:30:59"), WARNING);
    assert_eq!(past.found("max-age", "2026-11-22 03:31"), CRITICAL);
    past.ran("2026-11-22 03:32", Partial);
    assert_eq!(past.found("max-age", "2026-11-22 04:00"), None);
}

#[test]
fn a_backup_that_began_in_time_is_not_late_while_it_runs() {
    let mut past = Past::new("schedule = \"03:30\"\nrules = { max-age = { warning = \"24h\" } }", "");
    past.ran("2026-11-20 03:30", Succeeded);
    assert_eq!(past.found("max-age", "2026-11-21 03:31"), WARNING);
    past.ran("2026-11-21 03:30", Running);
    assert_eq!(past.found("max-age", "2026-11-21 03:59"), None);
    // That it never ends is told by another rule.
    assert_eq!(past.found("max-duration", "2026-11-21 04:00"), WARNING);
    past.ran("2026-11-21 03:31", Running);
    assert_eq!(past.found("max-age", "2026-11-21 03:59"), WARNING, "that began too late");
}

#[test]
fn schedules_with_gaps_are_given_their_gaps() {
    let mut past = Past::new("schedule = \"Mon..Fri 22:00\"", "");
    // A Friday: the next is on Monday, 72 hours later.
    past.ran("2026-11-20 22:00", Succeeded);
    assert_eq!(past.found("max-age", "2026-11-24 16:00:59"), None);
    assert_eq!(past.found("max-age", "2026-11-24 16:01"), WARNING);
    // A Tuesday: the next is on Wednesday.
    past.ran("2026-11-24 22:00", Succeeded);
    assert_eq!(past.found("max-age", "2026-11-26 04:00:59"), None);
    assert_eq!(past.found("max-age", "2026-11-26 04:01"), WARNING);
}

#[test]
fn a_night_of_23_hours_or_25_is_a_night() {
    // At the end of March, a night has 23 hours, a quarter more is 28 h 45 min; in October, 25 hours and 31 h 15 min.
    let mut past = Past::in_berlin("schedule = \"03:30\"", "");
    past.ran("2026-03-28 03:30", Succeeded);
    let end = past.at("2026-03-28 03:31");
    let later = |from: Timestamp, minutes: i64| from + SignedDuration::from_mins(minutes);
    assert_eq!(past.severity("max-age", later(end, 28 * 60 + 45 - 1)), None);
    assert_eq!(past.severity("max-age", later(end, 28 * 60 + 45)), WARNING);
    assert_eq!(past.found("max-age", "2026-03-29 09:15"), None);
    assert_eq!(past.found("max-age", "2026-03-29 09:16"), WARNING);
    assert_eq!(past.severity("max-age", later(end, 46 * 60)), CRITICAL);

    let mut past = Past::in_berlin("schedule = \"03:30\"", "");
    past.ran("2026-10-24 03:30", Succeeded);
    let end = past.at("2026-10-24 03:31");
    assert_eq!(past.severity("max-age", later(end, 31 * 60 + 15 - 1)), None);
    assert_eq!(past.severity("max-age", later(end, 31 * 60 + 15)), WARNING);
    assert_eq!(past.severity("max-age", later(end, 50 * 60 - 1)), WARNING);
    assert_eq!(past.severity("max-age", later(end, 50 * 60)), CRITICAL);
}

#[test]
fn a_time_that_is_skipped_in_spring_is_not_missed() {
    // 02:30 does not come on 29 March: from Saturday to Monday are 47 hours.
    let mut past = Past::in_berlin("schedule = \"02:30\"", "");
    past.ran("2026-03-28 02:30", Succeeded);
    assert_eq!(past.found("max-age", "2026-03-29 18:00"), None);
    assert_eq!(past.found("max-age", "2026-03-30 14:15"), None);
    assert_eq!(past.found("max-age", "2026-03-30 14:16"), WARNING);
    // In autumn it comes twice, and the first counts: 24 hours before it, 25 after.
    let mut past = Past::in_berlin("schedule = \"02:30\"", "");
    past.ran("2026-10-24 02:30", Succeeded);
    assert_eq!(past.found("max-age", "2026-10-25 07:30"), None);
    assert_eq!(past.found("max-age", "2026-10-25 07:31"), WARNING);
    past.ran("2026-10-25 02:30", Succeeded);
    assert_eq!(past.found("max-age", "2026-10-26 08:45"), None);
    assert_eq!(past.found("max-age", "2026-10-26 08:46"), WARNING);
}

#[test]
fn a_source_that_never_succeeded_is_late_as_well() {
    let mut past = Past::new("schedule = \"03:30\"", "");
    assert_eq!(past.found("max-age", "2026-11-22 12:00"), None, "nothing is known of when it began");
    past.history.configured = Some(past.at("2026-11-20 12:00"));
    assert_eq!(past.found("max-age", "2026-11-21 17:59"), None);
    assert_eq!(past.found("max-age", "2026-11-21 18:00"), WARNING);
    let told = past.finding("max-age", past.at("2026-11-21 18:00")).unwrap().text;
    assert!(told.contains("no good backup yet") && told.contains("Nothing has run"), "{told}");
    // An attempt came before the file was edited.
    past.ran("2026-11-19 12:00", Failed);
    assert_eq!(past.found("max-age", "2026-11-20 18:00"), WARNING);
}

#[test]
fn without_a_schedule_only_fixed_ages_are_too_old() {
    let mut past = Past::new("rules = { max-age = { warning = \"interval\", critical = \"25h\" } }", "");
    past.ran("2026-11-20 03:30", Succeeded);
    assert_eq!(past.found("max-age", "2026-11-21 04:30:59"), None);
    assert_eq!(past.found("max-age", "2026-11-21 04:31"), CRITICAL);
}

#[test]
fn a_backup_that_is_older_than_the_window_is_still_the_last() {
    let mut past = Past::new("schedule = \"monthly\"", "");
    let started = past.at("2026-10-01 00:00");
    past.run("shop", started, Succeeded, 60, 1);
    past.history.sources.get_mut("shop").unwrap().runs.clear();
    // 31 days and a quarter.
    assert_eq!(past.found("max-age", "2026-11-08 18:00:59"), None);
    assert_eq!(past.found("max-age", "2026-11-08 18:01"), WARNING);
}

#[test]
fn one_that_takes_half_as_long_again_is_slower() {
    let usual = [(100, 1), (100, 1), (90, 1), (100, 1), (400, 1)];
    let at = |nights: &[(i64, u64)]| {
        let mut past = Past::new("", "");
        past.nightly(nights.iter().copied());
        past.found("slower", "2026-11-22 12:00")
    };
    assert_eq!(at(&[usual.as_slice(), &[(149, 1)]].concat()), None);
    assert_eq!(at(&[usual.as_slice(), &[(150, 1)]].concat()), INFO);
    assert_eq!(at(&[&usual[1..], &[(1000, 1)]].concat()), None, "four are too few to tell");
    // Seconds are noise.
    assert_eq!(at(&[[(10, 1); 6].as_slice(), &[(19, 1)]].concat()), None);
    assert_eq!(at(&[[(10, 1); 6].as_slice(), &[(20, 1)]].concat()), INFO);
    // Only the last 14 before it are usual.
    assert_eq!(at(&[[(1000, 1); 6].as_slice(), &[(100, 1); 14], &[(150, 1)]].concat()), INFO);
}

#[test]
fn a_shrunk_dump_is_told_until_it_is_the_new_normal() {
    let at = |sizes: &[u64]| {
        let mut past = Past::new("", "");
        past.nightly(sizes.iter().map(|bytes| (60, *bytes)));
        past.found("shrunk", "2026-11-22 12:00")
    };
    assert_eq!(at(&[100, 100, 100, 51]), None);
    assert_eq!(at(&[100, 100, 100, 50]), WARNING);
    assert_eq!(at(&[100, 100, 10]), None, "two are too few to tell");
    assert_eq!(at(&[100, 100, 100, 40, 40]), WARNING);
    assert_eq!(at(&[100, 100, 100, 40, 40, 40]), None);
    assert_eq!(at(&[100, 100, 100, 40, 21, 40]), None, "within half of each other");
    assert_eq!(at(&[100, 100, 100, 40, 20, 40]), WARNING, "not within half of each other");
    assert_eq!(at(&[100, 100, 100, 0]), WARNING);
    assert_eq!(at(&[0, 0, 0, 0]), None);
    // The middle of the last 14 is normal, not the largest.
    assert_eq!(at(&[40, 40, 40, 40, 1000, 30]), None);
}

#[test]
fn too_few_successes_in_a_week_are_told() {
    // 20 runs a day, of which the first few failed.
    let at = |failed: u32, of: u32, now: &str| {
        let mut past = Past::new("", "");
        for hour in 0..of {
            let outcome = if hour < failed { Failed } else { Succeeded };
            past.ran(&format!("2026-11-{:02} {:02}:00", 15 + hour / 20, hour % 20), outcome);
        }
        past.found("success-rate", now)
    };
    assert_eq!(at(2, 40, "2026-11-17 12:00"), None, "95% are enough");
    assert_eq!(at(2, 39, "2026-11-17 12:00"), WARNING);
    assert_eq!(at(1, 5, "2026-11-17 12:00"), None, "a single failure is told as such");
    assert_eq!(at(2, 4, "2026-11-17 12:00"), None, "four are too few to tell");
    assert_eq!(at(2, 5, "2026-11-17 12:00"), WARNING);
    // Once the first of two failures is older than a week, only one is left.
    assert_eq!(at(2, 6, "2026-11-22 00:00"), WARNING);
    assert_eq!(at(2, 6, "2026-11-22 00:01"), None);
}

#[test]
fn one_that_takes_too_long_is_told_while_it_runs_and_after() {
    let mut past = Past::new("", "");
    let started = past.at("2026-11-21 03:30");
    past.run("shop", started, Running, 0, 0);
    assert_eq!(past.found("max-duration", "2026-11-21 03:59:59"), None);
    assert_eq!(past.found("max-duration", "2026-11-21 04:00"), WARNING);
    for (seconds, expected) in [(1799, None), (1800, WARNING)] {
        past.run("shop", started, Succeeded, seconds, 1);
        assert_eq!(past.found("max-duration", "2026-11-21 12:00"), expected);
    }
}

#[test]
fn a_clock_that_was_set_back_makes_nothing_negative() {
    let mut past = Past::new("schedule = \"03:30\"", "");
    past.run("shop", past.at("2026-11-21 03:30"), Succeeded, -7200, 1);
    let health = past.health(past.at("2026-11-20 03:30"));
    assert_eq!(health.findings, []);
    assert_eq!(health.sources[0].durations, [SignedDuration::ZERO]);
}

#[test]
fn a_backup_that_lacks_something_is_told_until_the_next() {
    for (rules, expected) in
        [("", WARNING), ("rules = { partial = \"info\" }", INFO), ("rules = { partial = false }", None)]
    {
        let mut past = Past::new(rules, "");
        past.ran("2026-11-20 03:30", RunOutcome::Partial);
        assert_eq!(past.found("partial", "2026-11-20 12:00"), expected, "{rules}");
        past.ran("2026-11-21 03:30", RunOutcome::Failed);
        assert_eq!(past.found("partial", "2026-11-21 12:00"), expected, "{rules}");
        past.ran("2026-11-22 03:30", RunOutcome::Succeeded);
        assert_eq!(past.found("partial", "2026-11-22 12:00"), None);
    }
}
