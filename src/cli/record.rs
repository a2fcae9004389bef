//! Records runs in the journal of this host.
//!
//! A journal that cannot be written is no reason to go without a backup: it is reported, and the run goes on.

use jiff::Timestamp;

use super::context::Context;
use super::exit::CommandError;
use super::output;
use crate::id::{SnapshotId, StoreId};
use crate::jobs::run::{RUN_VARIABLE, run_to_adopt};
use crate::journal::{Journal, JournalError, RunEnd, RunId, RunStart, StoreSize};
use crate::progress::error_chain;
use crate::repo::Repository;

/// File name of the journal in the state folder.
const FILE_NAME: &str = "journal.sqlite";

/// Opens the journal of this host.
pub(super) fn open_journal(context: &Context) -> Result<Journal, CommandError> {
    let journal = Journal::open(&context.folders().state.join(FILE_NAME))?;
    tell_if_set_aside(&journal);
    Ok(journal)
}

fn tell_if_set_aside(journal: &Journal) {
    if let Some(aside) = journal.set_aside() {
        output::tell(&format!(
            "the journal was damaged; it lies at {} now, and a new one begins",
            aside.display()
        ));
    }
}

/// A run that has begun.
pub(super) struct Record {
    begun: Option<(Journal, RunId)>,
}

impl Record {
    /// Records that a run begins. As a worker of `yester run` it takes over what that has recorded already.
    pub(super) fn begin(
        context: &Context,
        store: StoreId,
        place: &str,
        operation: &str,
        source: &str,
    ) -> Self {
        let begin = || -> Result<(Journal, RunId), JournalError> {
            let journal = Journal::open(&context.folders().state.join(FILE_NAME))?;
            let run = match given_run() {
                Some(run) => journal.adopt(run, store).map(|()| run)?,
                None => journal.begin(&RunStart { store: Some(store), place, operation, source })?,
            };
            Ok((journal, run))
        };
        let begun = begin().map_err(|error| complain(&error)).ok();
        if let Some((journal, _)) = &begun {
            tell_if_set_aside(journal);
        }
        Self { begun }
    }

    /// Returns the journal, where it can be used.
    pub(super) fn journal(&self) -> Option<&Journal> {
        self.begun.as_ref().map(|(journal, _)| journal)
    }

    /// Records what a store takes, as far as this host knows it.
    pub(super) fn measure(&self, repo: &Repository, place: &str) {
        // An ingest-only key shows its own packs alone.
        let Some((journal, _)) = self.begun.as_ref().filter(|_| !repo.is_ingest_only()) else { return };
        let Ok(bytes) = repo.index().pack_bytes() else { return };
        if let Err(error) = journal.record_store_size(place, StoreSize { bytes, measured: Timestamp::now() })
        {
            complain(&error);
        }
    }

    /// Records how the run ended.
    pub(super) fn finish(self, end: &RunEnd) {
        if let Some((journal, run)) = self.begun
            && let Err(error) = journal.finish(run, end)
        {
            complain(&error);
        }
    }
}

/// Records that a snapshot was accepted, if this host made it: its backup did not fail after all.
pub(super) fn accept(context: &Context, snapshot: SnapshotId) {
    let journal = Journal::open(&context.folders().state.join(FILE_NAME));
    if let Err(error) = journal.and_then(|journal| journal.accept(snapshot)) {
        output::tell(&format!("warning: {}", error_chain(&error)));
    }
}

/// Returns the run of the journal that this process does the work of.
fn given_run() -> Option<RunId> {
    run_to_adopt(&std::env::var(RUN_VARIABLE).ok()?, std::os::unix::process::parent_id())
}

fn complain(error: &JournalError) {
    let cause = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    output::tell(&format!("the run is missing in the journal: {error}{cause}"));
}
