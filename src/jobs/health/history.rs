//! What the rules need to know of the past: runs, sizes, and the disks that stores are on.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use crate::jobs::config::{Config, SourceConfig, StoreConfig};
use crate::jobs::run::preflight;
use crate::journal::{Journal, JournalError, Run, StoreSize, Undelivered};

/// Runs as old as that are looked at.
const WINDOW: SignedDuration = SignedDuration::from_hours(35 * 24);
/// At least so many of the last runs are looked at, however old they are: a backup may be monthly.
const RUNS_MIN: u32 = 60;
/// No more than so many, however often it runs.
const RUNS_MAX: u32 = 20_000;

/// The past, as far as it matters.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// When the configuration was written, if that is known: before that, nothing could be late.
    pub configured: Option<Timestamp>,
    /// What is known of sources, by their names.
    pub sources: BTreeMap<String, SourceHistory>,
    /// What is known of stores, by their names.
    pub stores: BTreeMap<String, StoreHistory>,
    /// Alerts that did not arrive.
    pub undelivered: Vec<Undelivered>,
}

/// What is known of a source.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SourceHistory {
    /// Its backups to its store, newest first: those of 35 days, and the last 60 in any case.
    pub runs: Vec<Run>,
    /// The last good one, however old it is.
    pub last_good: Option<Run>,
}

/// What is known of a store.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StoreHistory {
    /// Its verifications, newest first.
    pub verified: Vec<Run>,
    /// The last one that found everything whole, however old it is.
    pub last_verified: Option<Run>,
    /// The last copy to it that brought everything.
    pub last_copied: Option<Run>,
    /// What it takes.
    pub size: Option<StoreSize>,
    /// The file system that it is on.
    pub disk: Option<DiskSpace>,
    /// Whether nothing is where it should be.
    pub is_missing: bool,
}

/// How full a file system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// All of it.
    pub total_bytes: u64,
    /// What programs may still write.
    pub free_bytes: u64,
}

impl DiskSpace {
    /// Tells whether so many percent of it are used, or more.
    #[must_use]
    pub fn is_used(&self, percent: u32) -> bool {
        let used = u128::from(self.total_bytes.saturating_sub(self.free_bytes));
        self.total_bytes > 0 && used * 100 >= u128::from(self.total_bytes) * u128::from(percent)
    }

    /// Returns how many percent of it are used, rounded down.
    #[must_use]
    pub fn used_percent(&self) -> u64 {
        let used = u128::from(self.total_bytes.saturating_sub(self.free_bytes));
        (used * 100).checked_div(self.total_bytes.into()).and_then(|share| share.try_into().ok()).unwrap_or(0)
    }
}

/// Returns how full the file system at a path is; nothing if there is none.
#[must_use]
pub fn disk_space(path: &Path) -> Option<DiskSpace> {
    let found = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    // What only root may still fill is no room for backups of others, and `df` counts alike.
    let reserved = found.f_bfree.saturating_sub(found.f_bavail);
    let total = found.f_blocks.saturating_sub(reserved);
    Some(DiskSpace { total_bytes: bytes(total), free_bytes: bytes(found.f_bavail) })
}

impl History {
    /// Reads what the journal knows at `now`, and asks `disk` how full the file systems of stores are.
    ///
    /// # Errors
    /// Fails if the journal cannot be read.
    pub fn read(
        journal: &Journal,
        config: &Config,
        now: Timestamp,
        disk: &dyn Fn(&Path) -> Option<DiskSpace>,
    ) -> Result<Self, JournalError> {
        let written = std::fs::metadata(&config.path).and_then(|found| found.modified()).ok();
        let mut history = Self {
            configured: written.and_then(|time| Timestamp::try_from(time).ok()),
            undelivered: journal.undelivered()?,
            ..Self::default()
        };
        for source in &config.sources {
            let place = config.store(&source.store).map(|store| store.location.to_string());
            let found = SourceHistory::read(journal, source, &place.unwrap_or_default(), now)?;
            history.sources.insert(source.name.clone(), found);
        }
        for store in &config.stores {
            history.stores.insert(store.name.clone(), StoreHistory::read(journal, store, disk)?);
        }
        Ok(history)
    }
}

impl SourceHistory {
    fn read(
        journal: &Journal,
        source: &SourceConfig,
        place: &str,
        now: Timestamp,
    ) -> Result<Self, JournalError> {
        let since = now.saturating_sub(WINDOW).unwrap_or(Timestamp::UNIX_EPOCH);
        let mut runs = journal.runs_of("ingest", &source.name, Timestamp::UNIX_EPOCH, RUNS_MIN)?;
        if runs.last().is_some_and(|oldest| oldest.started > since) {
            runs = journal.runs_of("ingest", &source.name, since, RUNS_MAX)?;
        }
        // A backup of the same name to another store, by hand, says nothing of this one.
        runs.retain(|run| run.place == place);
        let last_good = match runs.iter().find(|run| run.outcome.is_good()) {
            Some(run) => Some(run.clone()),
            None => journal.last_good("ingest", &source.name, place)?,
        };
        Ok(Self { runs, last_good })
    }
}

impl StoreHistory {
    fn read(
        journal: &Journal,
        store: &StoreConfig,
        disk: &dyn Fn(&Path) -> Option<DiskSpace>,
    ) -> Result<Self, JournalError> {
        let place = store.location.to_string();
        Ok(Self {
            verified: journal.runs_at("verify", &place, RUNS_MIN)?,
            last_verified: journal.last_good("verify", "", &place)?,
            last_copied: journal.last_good("copy", "", &place)?,
            size: journal.store_size(&place)?,
            disk: store.location.directory().and_then(disk),
            is_missing: !preflight::is_there(store),
        })
    }
}
