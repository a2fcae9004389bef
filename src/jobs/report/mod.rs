//! What a month was like: backups, their success and growth, verifications, copies, and what went wrong.
//!
//! Owns what is counted, and [`render`] how it is written. For people who ask whether backups work, and for auditors.

pub mod render;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::config::{Config, SourceConfig, StoreConfig};
use crate::journal::{Incident, Journal, JournalError, Run, RunOutcome};

/// More runs than a month can have: one every minute.
const RUNS_MAX: u32 = 50_000;

/// A month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Month {
    /// Its first day.
    first: Date,
    /// When it begins.
    begin: Timestamp,
    /// When the next one begins.
    end: Timestamp,
}

impl Month {
    /// Returns the month of a day, by the clocks of a zone.
    ///
    /// # Errors
    /// Fails if the calendar ends with it.
    pub fn of(day: Date, zone: &TimeZone) -> Result<Self, jiff::Error> {
        let first = day.first_of_month();
        let next = first.checked_add(1.month())?;
        let begin = first.to_zoned(zone.clone())?.timestamp();
        Ok(Self { first, begin, end: next.to_zoned(zone.clone())?.timestamp() })
    }

    fn contains(&self, time: Timestamp) -> bool {
        (self.begin..self.end).contains(&time)
    }

    /// Returns how people write it: `2026-11`.
    #[must_use]
    pub fn name(&self) -> String {
        self.first.strftime("%Y-%m").to_string()
    }
}

/// What a month was like.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The month.
    pub month: Month,
    /// The host.
    pub host: String,
    /// When this was written.
    pub written: Timestamp,
    /// The sources, in the order of the configuration.
    pub sources: Vec<SourceReport>,
    /// The stores, in the order of the configuration.
    pub stores: Vec<StoreReport>,
    /// What was wrong at some time in it, in the order in which it began.
    pub incidents: Vec<Incident>,
}

/// What became of the backups of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceReport {
    /// Its name.
    pub name: String,
    /// Backups that ended.
    pub runs: u64,
    /// Those of them that made a good snapshot.
    pub good: u64,
    /// Bytes of the first good one, and of the last.
    pub bytes: Option<(u64, u64)>,
    /// Plain bytes that were new to the store, of all together.
    pub added_bytes: u64,
    /// How long the longest good one took.
    pub longest: Option<SignedDuration>,
    /// When the last good one ended.
    pub last_good: Option<Timestamp>,
    /// Those that were not good, oldest first.
    pub failed: Vec<Run>,
}

/// What became of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreReport {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub location: String,
    /// What it takes, when that was measured last.
    pub bytes: Option<u64>,
    /// Verifications.
    pub verified: Tally,
    /// Copies to it; nothing for a store that is not copied to.
    pub copied: Option<Tally>,
    /// Collections of garbage.
    pub collected: Tally,
}

/// How often something was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Times that it ended.
    pub runs: u64,
    /// Times that it failed.
    pub failed: u64,
    /// Bytes that all together looked at or wrote.
    pub bytes: u64,
    /// When the last one that succeeded ended.
    pub last_good: Option<Timestamp>,
}

impl Report {
    /// Reads what the journal knows of a month.
    ///
    /// # Errors
    /// Fails if the journal cannot be read.
    pub fn read(
        journal: &Journal,
        config: &Config,
        month: Month,
        host: &str,
        now: Timestamp,
    ) -> Result<Self, JournalError> {
        let of_source = |source| SourceReport::read(journal, config, source, &month);
        let of_store = |store| StoreReport::read(journal, store, &month);
        let sources = config.sources.iter().map(of_source).collect::<Result<_, _>>()?;
        let stores = config.stores.iter().map(of_store).collect::<Result<_, _>>()?;
        let mut incidents: Vec<Incident> =
            journal.incidents(month.begin)?.into_iter().map(|(incident, _)| incident).collect();
        incidents.retain(|incident| incident.began < month.end);
        incidents.sort_by_key(|incident| incident.began);
        Ok(Self { month, host: host.to_owned(), written: now, sources, stores, incidents })
    }
}

impl SourceReport {
    fn read(
        journal: &Journal,
        config: &Config,
        source: &SourceConfig,
        month: &Month,
    ) -> Result<Self, JournalError> {
        let place = config.store(&source.store).map(|store| store.location.to_string()).unwrap_or_default();
        let mut runs = journal.runs_of("ingest", &source.name, month.begin, RUNS_MAX)?;
        runs.retain(|run| run.place == place);
        Ok(Self::of(&source.name, &ended_in(runs, month)))
    }

    /// Sums up runs, oldest first.
    fn of(name: &str, runs: &[Run]) -> Self {
        let is_good = |run: &&Run| run.outcome.is_good();
        let good: Vec<&Run> = runs.iter().filter(is_good).collect();
        let took = |run: &&Run| Some(run.finished?.duration_since(run.started));
        Self {
            name: name.to_owned(),
            runs: runs.len() as u64,
            good: good.len() as u64,
            bytes: good.first().zip(good.last()).map(|(first, last)| (first.bytes, last.bytes)),
            added_bytes: good.iter().map(|run| run.added_bytes).sum(),
            longest: good.iter().filter_map(took).max(),
            last_good: good.last().and_then(|run| run.finished),
            failed: runs.iter().filter(|run| !is_good(run)).cloned().collect(),
        }
    }
}

impl StoreReport {
    fn read(journal: &Journal, store: &StoreConfig, month: &Month) -> Result<Self, JournalError> {
        let place = store.location.to_string();
        let tally = |operation| {
            let mut runs = journal.runs_at(operation, &place, RUNS_MAX)?;
            runs.retain(|run| run.started >= month.begin);
            Ok::<_, JournalError>(Tally::of(&ended_in(runs, month)))
        };
        Ok(Self {
            name: store.name.clone(),
            bytes: journal.store_size(&place)?.map(|size| size.bytes),
            verified: tally("verify")?,
            copied: if store.copy_from.is_some() { Some(tally("copy")?) } else { None },
            collected: tally("gc")?,
            location: place,
        })
    }
}

impl Tally {
    fn of(runs: &[Run]) -> Self {
        let good = || runs.iter().filter(|run| run.outcome == RunOutcome::Succeeded);
        Self {
            runs: runs.len() as u64,
            failed: (runs.len() - good().count()) as u64,
            bytes: runs.iter().map(|run| run.bytes).sum(),
            last_good: good().filter_map(|run| run.finished).max(),
        }
    }
}

/// Returns what ended of the runs that began in a month, oldest first.
fn ended_in(mut runs: Vec<Run>, month: &Month) -> Vec<Run> {
    runs.retain(|run| month.contains(run.started) && run.outcome != RunOutcome::Running);
    runs.sort_by_key(|run| run.started);
    runs
}

#[cfg(test)]
mod tests;
