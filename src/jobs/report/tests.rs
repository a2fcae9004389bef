//! What a month is said to have been like.

use std::path::Path;

use jiff::civil::date;

use super::*;
use crate::journal::{Observation, RunEnd, RunStart};

fn run(started: &str, minutes: i64, outcome: RunOutcome, bytes: u64, message: &str) -> Run {
    let started: Timestamp = started.parse().unwrap();
    Run {
        id: "1".parse().unwrap(),
        store: None,
        place: "/a".to_owned(),
        operation: "ingest".to_owned(),
        source: "shop".to_owned(),
        started,
        finished: Some(started + SignedDuration::from_mins(minutes)),
        outcome,
        snapshot: None,
        bytes,
        added_bytes: bytes / 10,
        message: message.to_owned(),
    }
}

fn berlin() -> TimeZone {
    TimeZone::get("Europe/Berlin").unwrap()
}

fn report() -> Report {
    let runs = [
        run("2026-10-02T02:30:00Z", 3, RunOutcome::Succeeded, 1_000_000, ""),
        run("2026-10-03T02:30:00Z", 1, RunOutcome::Failed, 0, "cannot | <connect>"),
        run("2026-10-04T02:30:00Z", 4, RunOutcome::Partial, 1_500_000, "one file"),
    ];
    let tally = Tally { runs: 30, failed: 1, bytes: 5_000_000, last_good: None };
    Report {
        month: Month::of(date(2026, 10, 31), &berlin()).unwrap(),
        host: "web1".to_owned(),
        written: "2026-11-01T06:00:00Z".parse().unwrap(),
        sources: vec![SourceReport::of("shop", &runs)],
        stores: vec![StoreReport {
            name: "local".to_owned(),
            location: "/srv/backup".to_owned(),
            bytes: Some(2_000_000),
            verified: tally,
            copied: None,
            collected: Tally::default(),
        }],
        incidents: Vec::new(),
    }
}

#[test]
fn a_month_begins_and_ends_by_local_clocks() {
    let month = Month::of(date(2026, 10, 25), &berlin()).unwrap();
    assert_eq!(month.name(), "2026-10");
    // Summer time ends in it.
    assert_eq!(
        (month.begin.to_string(), month.end.to_string()),
        ("2026-09-30T22:00:00Z".into(), "2026-10-31T23:00:00Z".into())
    );
}

#[test]
fn markdown_is_what_people_read() {
    insta::assert_snapshot!(render::markdown(&report(), &berlin()), @r#"
    # Backups of web1 in 2026-10

    2 of 3 backups succeeded (66.6%), with 250.00 kB of new data; 30 verifications in all. Written at 2026-11-01 07:00 CET.

    ## Sources

    | source | good | success | size | grown | new data | longest | last good |
    | --- | --- | --- | --- | --- | --- | --- | --- |
    | shop | 2 of 3 | 66.6% | 1.50 MB | +500.00 kB | 250.00 kB | 4 m 0 s | 2026-10-04 04:34 CEST |

    ## Stores

    | store | place | takes | verified | copied to | garbage collected |
    | --- | --- | --- | --- | --- | --- |
    | local | /srv/backup | 2.00 MB | 30 ×, 1 failed, 5.00 MB | – | 0 ×, 0 B |

    ## What was wrong

    Nothing was found to be wrong.

    ## Backups that failed

    | source | began | why |
    | --- | --- | --- |
    | shop | 2026-10-03 04:30 CEST | cannot \| \<connect\> |
    "#);
}

#[test]
fn html_holds_text_as_text() {
    let page = render::html(&report(), &berlin());
    assert!(page.contains("<td>cannot | &lt;connect&gt;</td>"), "{page}");
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    assert_eq!(page.matches("<table>").count(), page.matches("</table>").count());
}

#[test]
fn the_journal_is_asked_for_a_month() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(&folder.path().join("journal.sqlite")).unwrap();
    let text = "[store.local]\nurl = \"/a\"\n[source.shop]\npaths = [\"/etc\"]\n";
    let config = Config::parse(text, Path::new("/c")).unwrap();
    let begin =
        |operation, source| journal.begin(&RunStart { store: None, place: "/a", operation, source }).unwrap();
    let end = |outcome| RunEnd { outcome, snapshot: None, bytes: 10, added_bytes: 5, message: String::new() };
    for outcome in [RunOutcome::Succeeded, RunOutcome::Failed] {
        journal.finish(begin("ingest", "shop"), &end(outcome)).unwrap();
    }
    begin("ingest", "shop");
    journal.finish(begin("verify", ""), &end(RunOutcome::Succeeded)).unwrap();
    let now = Timestamp::now();
    let found = [Observation {
        rule: "failures",
        subject: "shop",
        gravity: crate::journal::Gravity::new(2),
        text: "x",
    }];
    journal.observe(&found, &|_| true, now).unwrap();
    let today = now.to_zoned(TimeZone::UTC).date();
    let report = |day| {
        let month = Month::of(day, &TimeZone::UTC).unwrap();
        Report::read(&journal, &config, month, "h", now).unwrap()
    };
    let this = report(today);
    // One is still running.
    assert_eq!((this.sources[0].runs, this.sources[0].good, this.sources[0].failed.len()), (2, 1, 1));
    assert_eq!((this.stores[0].verified.runs, this.stores[0].verified.failed), (1, 0));
    assert_eq!(this.incidents.len(), 1);
    let before = report(today.saturating_sub(40.days()));
    assert_eq!((before.sources[0].runs, before.stores[0].verified.runs, before.incidents.len()), (0, 0, 0));
}
