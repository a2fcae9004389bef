//! Whether backups are as they should be: the rules of a configuration, held against what the journal says.
//!
//! Owns what each rule means. Pure but for [`History::read`]: what time it is, and how the clocks are set, is told. Who
//! hears of what is found is left to `alert`.

mod ended;
mod history;
mod source;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::config::{Config, Severity};
use crate::human;
use crate::journal::{Run, RunOutcome, StoreSize, Undelivered};

pub(super) use ended::why;
pub use history::{DiskSpace, History, SourceHistory, StoreHistory, disk_space};

/// So many of the last good backups say what is normal.
const NORMAL: usize = 14;

/// How everything is.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// The sources, in the order of the configuration.
    pub sources: Vec<SourceHealth>,
    /// The stores, in the order of the configuration.
    pub stores: Vec<StoreHealth>,
    /// What is wrong, the gravest first.
    pub findings: Vec<Finding>,
}

impl Health {
    /// Returns how grave the gravest finding is.
    #[must_use]
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }
}

/// Something that is wrong. Rule and subject are what tells it from others: the same thing, later, may be graver and
/// have another text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule, by its key in the configuration.
    pub rule: &'static str,
    /// The source, store or alert.
    pub subject: String,
    /// How grave it is.
    pub severity: Severity,
    /// What is wrong, since when, and what to do next: sentences for people.
    pub text: String,
}

/// How a source is.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceHealth {
    /// Its name.
    pub name: String,
    /// The store that it is backed up to.
    pub store: String,
    /// The gravest that is wrong with it; nothing if it is well.
    pub worst: Option<Severity>,
    /// The last good backup.
    pub last_good: Option<Run>,
    /// The last attempt; it may still be running.
    pub last_attempt: Option<Run>,
    /// Attempts in a row that failed since.
    pub failures: u32,
    /// Bytes of the last good backups, oldest first, 14 at most.
    pub sizes: Vec<u64>,
    /// How long these took.
    pub durations: Vec<SignedDuration>,
    /// When it is due next.
    pub next: Option<Timestamp>,
}

impl SourceHealth {
    /// Tells whether it is being backed up.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.last_attempt.as_ref().is_some_and(|run| run.outcome == RunOutcome::Running)
    }
}

/// How a store is.
#[derive(Debug, Clone, PartialEq)]
pub struct StoreHealth {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub location: String,
    /// The store whose snapshots are copied to it.
    pub copy_from: Option<String>,
    /// The gravest that is wrong with it; nothing if it is well.
    pub worst: Option<Severity>,
    /// Whether nothing is where it should be.
    pub is_missing: bool,
    /// What it takes, when that was measured last.
    pub size: Option<StoreSize>,
    /// The file system that it is on; nothing for one that is far away or not there.
    pub disk: Option<DiskSpace>,
    /// The last verification that found all that it read whole.
    pub last_verified: Option<Run>,
    /// Whether the last verification failed.
    pub verify_failed: bool,
    /// The last copy that brought everything.
    pub last_copied: Option<Run>,
    /// Of each source that is copied to it, how many snapshots it lacks.
    pub behind: BTreeMap<String, u64>,
    /// When it is copied to next.
    pub next_copy: Option<Timestamp>,
}

/// What rules are held against.
#[derive(Clone, Copy)]
struct Question<'a> {
    config: &'a Config,
    history: &'a History,
    now: Timestamp,
    zone: &'a TimeZone,
}

/// Says how everything is, at a time and in a zone.
#[must_use]
pub fn assess(config: &Config, history: &History, now: Timestamp, zone: &TimeZone) -> Health {
    let question = Question { config, history, now, zone };
    let mut findings = Vec::new();
    let sources =
        config.sources.iter().map(|source| source::assess(&question, source, &mut findings)).collect();
    let stores = config.stores.iter().map(|store| store::assess(&question, store, &mut findings)).collect();
    findings.extend(undelivered(&question));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Health { sources, stores, findings }
}

/// The rule that nobody configures: an alert that does not arrive is told to the others.
pub const UNDELIVERED: &str = "undelivered";

fn undelivered(question: &Question<'_>) -> Vec<Finding> {
    let known = |name: &str| question.config.alerts.iter().any(|alert| alert.name == name);
    let undelivered = question.history.undelivered.iter().filter(|undelivered| known(&undelivered.alert));
    undelivered.map(|undelivered| undelivered_finding(undelivered, question.zone)).collect()
}

/// Returns what is to be told of an alert that does not arrive.
pub(super) fn undelivered_finding(undelivered: &Undelivered, zone: &TimeZone) -> Finding {
    Finding {
        rule: UNDELIVERED,
        subject: undelivered.alert.clone(),
        severity: Severity::Warning,
        text: format!(
            "This alert has not been delivered since {}: {}. `yester config check --send-test-alert` tries it.",
            clock(undelivered.since, zone),
            undelivered.error
        ),
    }
}

/// Returns a time as people read it on a clock of theirs: `2026-11-22 03:30 CET`.
#[must_use]
pub fn clock(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M %Z").to_string()
}

/// Returns how long ago a time was: `25 hours`.
fn ago(time: Timestamp, now: Timestamp) -> String {
    human::rough(now.duration_since(time).max(SignedDuration::ZERO))
}

/// Returns what went wrong as a part of a sentence: the first line, not too long, fit for a terminal.
fn cause(message: &str) -> String {
    const LENGTH_MAX: usize = 240;
    let line = message.lines().next().unwrap_or_default().trim().trim_end_matches('.');
    let mut text: String = human::reason(line).chars().take(LENGTH_MAX).collect();
    if text.is_empty() {
        "no reason was recorded".clone_into(&mut text);
    }
    text
}

/// Returns the middle of some numbers, the larger one of two; nothing of none.
fn median<T: Ord + Copy>(numbers: &[T]) -> Option<T> {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}
