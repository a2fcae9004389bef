//! What is due: by the schedules, and by what the journal says was done.

use jiff::Timestamp;

use super::{Operation, Run, Selection};
use crate::jobs::calendar::Schedule;
use crate::jobs::config::{SourceConfig, StoreConfig};
use crate::journal::{JournalError, Run as Recorded, RunOutcome};

/// So many of the last attempts are looked at: a store that was away for longer is due in any case.
const ATTEMPTS: u32 = 100;

impl Run<'_> {
    /// Tells whether there is nothing to do at all.
    pub(super) fn is_idle(&self) -> Result<bool, JournalError> {
        if !matches!(self.options.selection, Selection::Due | Selection::DueOrFailed) {
            return Ok(false);
        }
        let now = Self::now();
        if !self.chosen_sources()?.is_empty() {
            return Ok(false);
        }
        for store in &self.config.stores {
            let is_due = self.gc_is_due(store, now)?
                || self.verify_is_due(store, now)?
                || store.copy_from.is_some() && self.copy_is_due(store, now)?;
            if is_due {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Tells whether a source was last tried before its schedule said the last time that it should be.
    pub(super) fn source_is_due(&self, source: &SourceConfig, now: Timestamp) -> Result<bool, JournalError> {
        let Some(schedule) = &source.schedule else { return Ok(false) };
        let last = self.journal.runs_of(Operation::Ingest.name(), &source.name, Timestamp::UNIX_EPOCH, 1)?;
        let failed = last.first().is_some_and(|run| {
            matches!(run.outcome, RunOutcome::Failed | RunOutcome::Unfinished | RunOutcome::Suspicious)
        });
        let asked_for = failed && self.options.selection == Selection::DueOrFailed;
        // What was killed, or went down with the machine, was tried by nobody to its end.
        let is_cut_off = last.first().is_some_and(|run| run.outcome == RunOutcome::Unfinished);
        Ok(asked_for || is_cut_off || self.is_due(schedule, last.first(), now))
    }

    pub(super) fn gc_is_due(&self, store: &StoreConfig, now: Timestamp) -> Result<bool, JournalError> {
        let Some(schedule) = &store.gc else { return Ok(false) };
        self.is_due_at(store, Operation::Gc, schedule, now)
    }

    pub(super) fn verify_is_due(&self, store: &StoreConfig, now: Timestamp) -> Result<bool, JournalError> {
        if store.verify.sample.is_none() {
            return Ok(false);
        }
        self.is_due_at(store, Operation::Verify, &store.verify.schedule, now)
    }

    /// Tells whether a store is to be copied to: by its own schedule; without one, whenever it lacks a backup.
    pub(super) fn copy_is_due(&self, store: &StoreConfig, now: Timestamp) -> Result<bool, JournalError> {
        if let Some(schedule) = &store.schedule {
            return self.is_due_at(store, Operation::Copy, schedule, now);
        }
        let place = store.location.to_string();
        // Far more than a store can be behind before somebody was told.
        let copies = self.journal.runs_at(Operation::Copy.name(), &place, 100)?;
        let copied =
            copies.iter().find(|copy| copy.outcome == RunOutcome::Succeeded).map(|copy| copy.started);
        for source in self.config.sources_in(store) {
            let since = copied.unwrap_or(Timestamp::UNIX_EPOCH);
            let newer = self.journal.runs_of(Operation::Ingest.name(), &source.name, since, 100)?;
            if newer.iter().any(|run| run.snapshot.is_some()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_due_at(
        &self,
        store: &StoreConfig,
        operation: Operation,
        schedule: &Schedule,
        now: Timestamp,
    ) -> Result<bool, JournalError> {
        let last = self.journal.runs_at(operation.name(), &store.location.to_string(), ATTEMPTS)?;
        // What never met the store is still to be done.
        let last = last.iter().find(|run| run.store.is_some() || operation == Operation::Copy);
        Ok(self.is_due(schedule, last, now))
    }

    fn is_due(&self, schedule: &Schedule, last: Option<&Recorded>, now: Timestamp) -> bool {
        let Some(last) = last else { return true };
        // A clock that was ahead, and was set right, would keep everything waiting for what it recorded.
        let started = if last.started > now { Timestamp::UNIX_EPOCH } else { last.started };
        schedule.last_at(now, &self.options.zone).is_some_and(|due| due > started)
    }
}
