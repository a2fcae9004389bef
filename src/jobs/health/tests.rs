//! The rules, each on a faked clock, just below its threshold and at it.

mod sources;
mod stores;

use std::path::Path;

use super::*;
use crate::id::StoreId;
use crate::jobs::config::Config;
use crate::journal::{Run, RunOutcome, Undelivered};

/// Runs of a source or store, and the configuration that they are held against.
struct Past {
    config: Config,
    history: History,
    zone: TimeZone,
}

const STORES: &str = "[store.local]\nurl = \"/srv/local\"\n";

impl Past {
    /// Makes one with a source `shop` that nothing has happened to yet, and further tables.
    fn new(shop: &str, more: &str) -> Self {
        let text = format!("{STORES}{more}\n[source.shop]\ncommand = [\"dump\"]\n{shop}\n");
        let config = Config::parse(&text, Path::new("/etc/yester/config.toml")).unwrap();
        Self { config, history: History::default(), zone: TimeZone::UTC }
    }

    /// The same in Berlin, where clocks are set on the last Sundays of March and October.
    fn in_berlin(shop: &str, more: &str) -> Self {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        Self { zone, ..Self::new(shop, more) }
    }

    /// Returns a time by the clocks of this past, such as `2026-11-22 03:30`.
    fn at(&self, text: &str) -> Timestamp {
        let time: jiff::civil::DateTime = text.replace(' ', "T").parse().unwrap();
        time.to_zoned(self.zone.clone()).unwrap().timestamp()
    }

    /// Adds a run of a source that took so many seconds.
    fn run(&mut self, source: &str, started: Timestamp, outcome: RunOutcome, seconds: i64, bytes: u64) {
        let run = run("ingest", source, started, outcome, seconds, bytes);
        let history = self.history.sources.entry(source.to_owned()).or_default();
        if run.outcome.is_good() {
            history.last_good = Some(run.clone());
        }
        history.runs.insert(0, run);
    }

    /// Adds a run of `shop` at a time that took a minute.
    fn ran(&mut self, started: &str, outcome: RunOutcome) -> &mut Self {
        self.run("shop", self.at(started), outcome, 60, 1_000_000);
        self
    }

    /// Adds a good run of `shop` on each day of November, at 03:30, with so many seconds and bytes.
    fn nightly(&mut self, nights: impl IntoIterator<Item = (i64, u64)>) -> &mut Self {
        for (night, (seconds, bytes)) in (1..).zip(nights) {
            let started = self.at(&format!("2026-11-{night:02} 03:30"));
            self.run("shop", started, RunOutcome::Succeeded, seconds, bytes);
        }
        self
    }

    fn health(&self, now: Timestamp) -> Health {
        assess(&self.config, &self.history, now, &self.zone)
    }

    /// Returns how grave what a rule finds at a time is, on the clocks of this past.
    fn found(&self, rule: &str, now: &str) -> Option<Severity> {
        self.severity(rule, self.at(now))
    }

    fn severity(&self, rule: &str, now: Timestamp) -> Option<Severity> {
        self.finding(rule, now).map(|finding| finding.severity)
    }

    fn finding(&self, rule: &str, now: Timestamp) -> Option<Finding> {
        let mut found = self.health(now).findings.into_iter().filter(|finding| finding.rule == rule);
        let first = found.next();
        assert_eq!(found.next(), None);
        first
    }
}

fn run(
    operation: &str,
    source: &str,
    started: Timestamp,
    outcome: RunOutcome,
    seconds: i64,
    bytes: u64,
) -> Run {
    let is_over = !matches!(outcome, RunOutcome::Running | RunOutcome::Unfinished);
    let is_good = outcome.is_good();
    Run {
        id: "1".parse().unwrap(),
        store: Some(StoreId::from_bytes([1; 16])),
        place: "/srv/local".into(),
        operation: operation.into(),
        source: source.into(),
        started,
        finished: is_over.then(|| started + SignedDuration::from_secs(seconds)),
        outcome,
        snapshot: None,
        bytes,
        added_bytes: 0,
        message: if is_good { String::new() } else { "cannot connect\nmore".into() },
    }
}

const WARNING: Option<Severity> = Some(Severity::Warning);
const CRITICAL: Option<Severity> = Some(Severity::Critical);
const INFO: Option<Severity> = Some(Severity::Info);

#[test]
fn the_gravest_comes_first() {
    let mut past = Past::new("schedule = \"03:30\"", "");
    past.ran("2026-11-20 03:30", RunOutcome::Succeeded).ran("2026-11-21 03:30", RunOutcome::Failed);
    let health = past.health(past.at("2026-11-22 03:45"));
    let found: Vec<_> = health.findings.iter().map(|finding| (finding.rule, finding.severity)).collect();
    assert_eq!(found, [("max-age", Severity::Critical), ("failures", Severity::Warning)]);
    assert_eq!((health.worst(), health.sources[0].worst), (CRITICAL, CRITICAL));
    assert_eq!(health.stores[0].worst, None);
}

#[test]
fn an_alert_that_does_not_arrive_is_found_while_it_is_configured() {
    let mut past = Past::new("", "[alert.mail]\nsmtp = \"smtp://mail\"\nto = [\"a@b\"]");
    let now = past.at("2026-11-22 12:00");
    for alert in ["mail", "gone"] {
        past.history.undelivered.push(Undelivered {
            alert: alert.into(),
            since: now,
            attempts: 1,
            error: "mail refused the connection".into(),
        });
    }
    let found = past.finding(UNDELIVERED, now).unwrap();
    assert_eq!((found.subject.as_str(), found.severity), ("mail", Severity::Warning));
    assert!(
        found.text.contains("since 2026-11-22 12:00 UTC: mail refused the connection."),
        "{}",
        found.text
    );
}
