//! The rules of stores: what verifications found, how full disks are, and whether copies keep up.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Finding, Question, StoreHealth, StoreHistory, ago, cause, clock};
use crate::human;
use crate::jobs::config::{Severity, SourceConfig, StoreConfig};
use crate::journal::{Run, RunOutcome};

/// Snapshots of a source that a copy lacks.
struct Missing<'a> {
    source: &'a SourceConfig,
    /// Their backups, newest first; at least one.
    runs: Vec<&'a Run>,
}

/// Holds the rules of a store against its past.
pub(super) fn assess(
    question: &Question<'_>,
    store: &StoreConfig,
    findings: &mut Vec<Finding>,
) -> StoreHealth {
    let history = question.history.stores.get(&store.name).cloned().unwrap_or_default();
    let missing = missing(question, store, &history);
    let rules: [(&'static str, Option<(Severity, String)>); 4] = [
        (MISSING, is_missing(store, &history)),
        ("verify-failed", verify_failed(question, store, &history)),
        ("disk-used", disk_used(question, store, &history)),
        ("copy-behind", copy_behind(question, store, &history, &missing)),
    ];
    let found = rules.into_iter().filter_map(|(rule, found)| {
        let (severity, text) = found?;
        Some(Finding { rule, subject: store.name.clone(), severity, text })
    });
    let found: Vec<Finding> = found.collect();
    let worst = found.iter().map(|finding| finding.severity).max();
    findings.extend(found);
    let mut behind: BTreeMap<String, u64> = match store.copy_from {
        Some(_) => copied(question, store).map(|source| (source.name.clone(), 0)).collect(),
        None => BTreeMap::new(),
    };
    behind.extend(missing.iter().map(|missing| (missing.source.name.clone(), missing.runs.len() as u64)));
    let copy_schedule = store.copy_from.as_ref().and_then(|_| question.config.copy_schedule(store));
    StoreHealth {
        name: store.name.clone(),
        location: store.location.to_string(),
        copy_from: store.copy_from.clone(),
        worst,
        verify_failed: last_verification(&history).is_some_and(|run| run.outcome == RunOutcome::Failed),
        behind,
        next_copy: copy_schedule.and_then(|schedule| schedule.next_after(question.now, question.zone)),
        is_missing: history.is_missing,
        size: history.size,
        disk: history.disk,
        last_verified: history.last_verified,
        last_copied: history.last_copied,
    }
}

/// The rule that nobody configures: without a store there are no backups.
const MISSING: &str = "missing";

fn is_missing(store: &StoreConfig, history: &StoreHistory) -> Option<(Severity, String)> {
    if !history.is_missing || store.removable {
        return None;
    }
    let StoreConfig { name, location, .. } = store;
    let was_there =
        history.size.is_some() || history.last_verified.is_some() || history.last_copied.is_some();
    Some(if was_there {
        let text = format!(
            "There is no store at {location}, where one was: its disk may not be mounted. Until it is there again, \
             nothing is backed up to it. `yester --store {name} snapshots` says more."
        );
        (Severity::Critical, text)
    } else {
        let like = store.copy_from.as_ref().map(|from| format!(" --like {from}")).unwrap_or_default();
        let text =
            format!("There is no store at {location} yet: `yester --store {name} init{like}` makes it.");
        (Severity::Warning, text)
    })
}

/// Returns the last verification that came to something. One that was killed, or that met no store, proves nothing.
fn last_verification(history: &StoreHistory) -> Option<&Run> {
    let is_decided = |run: &&Run| {
        run.store.is_some() && !matches!(run.outcome, RunOutcome::Running | RunOutcome::Unfinished)
    };
    history.verified.iter().find(is_decided)
}

fn verify_failed(
    question: &Question<'_>,
    store: &StoreConfig,
    history: &StoreHistory,
) -> Option<(Severity, String)> {
    let severity = question.config.rules.verify_failed?;
    let last = last_verification(history).filter(|run| run.outcome == RunOutcome::Failed)?;
    let name = &store.name;
    let text = format!(
        "The verification of {} failed: {}. `yester --store {name} verify` says what is damaged; \
         `yester --store {name} repair --from STORE` brings it back from a copy.",
        clock(last.started, question.zone),
        cause(&last.message)
    );
    Some((severity, text))
}

fn disk_used(
    question: &Question<'_>,
    store: &StoreConfig,
    history: &StoreHistory,
) -> Option<(Severity, String)> {
    let disk = history.disk?;
    let (severity, _) = question.config.rules.disk_used.worst(|percent| disk.is_used(*percent))?;
    let text = format!(
        "The file system of {} is {}% full, {} of {} are free. `yester --store {} gc` reclaims space, \
         `yester --store {} forget --dry-run` says what could go.",
        store.location,
        disk.used_percent(),
        human::bytes(disk.free_bytes),
        human::bytes(disk.total_bytes),
        store.name,
        store.name
    );
    Some((severity, text))
}

/// Each source has as long as a copy takes to come round: by the schedule of the store, or else by its own.
fn copy_behind(
    question: &Question<'_>,
    store: &StoreConfig,
    history: &StoreHistory,
    missing: &[Missing<'_>],
) -> Option<(Severity, String)> {
    let Question { config, now, zone, .. } = *question;
    let late = missing.iter().filter_map(|missing| {
        let since = waits_since(question, history, missing)?;
        let schedule = store.schedule.as_ref().or(missing.source.schedule.as_ref());
        let interval = schedule.and_then(|schedule| schedule.interval_at(since, zone));
        let age = now.duration_since(since);
        let (severity, _) = config.rules.copy_behind.worst(|limit| match interval {
            None if limit.is_relative() => false,
            interval => age >= limit.within(interval.unwrap_or_default()),
        })?;
        Some((severity, since))
    });
    let late: Vec<_> = late.collect();
    let (severity, since) = (late.iter().map(|late| late.0).max()?, late.iter().map(|late| late.1).min()?);
    let count: usize = missing.iter().map(|missing| missing.runs.len()).sum();
    let last = match &history.last_copied {
        Some(run) => format!("the last copy that brought everything began at {}", clock(run.started, zone)),
        None => "nothing was ever copied to it from here".to_owned(),
    };
    let next = if store.removable {
        format!("Attach {} and run `yester run`: it copies what is missing.", store.location)
    } else {
        "`yester run` copies what is missing, or says why it cannot.".to_owned()
    };
    let text = format!(
        "It lacks {}, the oldest from {} ({} ago); {last}. {next}",
        human::counted(count as u64, "snapshot"),
        clock(since, zone),
        ago(since, now)
    );
    Some((severity, text))
}

/// Returns since when the oldest snapshot waits to be copied. To a store that is new in the configuration, old ones
/// wait since that was written.
fn waits_since(question: &Question<'_>, history: &StoreHistory, missing: &Missing<'_>) -> Option<Timestamp> {
    let oldest = missing.runs.last()?;
    let made = oldest.finished.unwrap_or(oldest.started);
    match (&history.last_copied, question.history.configured) {
        (None, Some(configured)) => Some(made.max(configured)),
        _ => Some(made),
    }
}

/// Returns what ended after the last good copy began: only what was there before is surely in it.
fn missing<'a>(question: &Question<'a>, store: &'a StoreConfig, history: &StoreHistory) -> Vec<Missing<'a>> {
    if store.copy_from.is_none() {
        return Vec::new();
    }
    let copied_until = history.last_copied.as_ref().map(|run| run.started);
    let is_missing = |run: &&Run| {
        run.outcome.is_good() && copied_until.is_none_or(|until| run.finished.unwrap_or(run.started) > until)
    };
    let most = store.select.last.and_then(|last| usize::try_from(last).ok()).unwrap_or(usize::MAX);
    let of = |source: &'a SourceConfig| {
        let runs = question.history.sources.get(&source.name).map_or(&[][..], |history| &history.runs);
        Missing { source, runs: runs.iter().filter(is_missing).take(most).collect() }
    };
    copied(question, store).map(of).filter(|missing| !missing.runs.is_empty()).collect()
}

/// Returns the sources all of whose snapshots are copied to a store. What a tag chooses must be a tag of the source.
fn copied<'a>(
    question: &Question<'a>,
    store: &'a StoreConfig,
) -> impl Iterator<Item = &'a SourceConfig> + use<'a> {
    let has_tags = |source: &&SourceConfig| store.select.tags.iter().all(|tag| source.tags.contains(tag));
    question.config.sources_in(store).filter(has_tags)
}
