//! Forgetting snapshots, by policy or by name, and bringing them back.
//!
//! [`policy`] says what a series keeps, [`burst`] when that looks wrong, and [`undo`] brings back what was forgotten.
//! To forget is to make a mark: nothing is deleted before a garbage collection finds the mark old enough.

pub mod burst;
pub mod policy;
mod undo;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp, Zoned};

use crate::format::snapshot::{Manifest, MarkState};
use crate::id::SnapshotId;
use crate::repo::snapshots::Snapshot;
use crate::repo::{RepoError, Repository};
use burst::Burst;
use policy::{Policy, Reason};

pub use undo::{UndoError, Undone, undo};

/// A snapshot and why it is kept.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Why it is kept; it is forgotten where there is no reason.
    pub reasons: Vec<Reason>,
}

impl Decision {
    /// Tells whether the snapshot is kept.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// What happens to the snapshots of one source from one host.
#[derive(Debug, Clone)]
pub struct SeriesPlan {
    /// The host.
    pub host: String,
    /// The source.
    pub source: String,
    /// Its snapshots, oldest first.
    pub decisions: Vec<Decision>,
    /// New snapshots that would push out all older ones, if it looks so.
    pub burst: Option<Burst>,
}

/// What is to be forgotten.
#[derive(Debug, Clone, Default)]
pub struct ForgetPlan {
    /// Sorted by source and host.
    pub series: Vec<SeriesPlan>,
}

impl ForgetPlan {
    /// Applies a policy to each series by itself, at a local time. `snapshots` are all that it shall apply to,
    /// forgotten ones left out.
    ///
    /// # Errors
    /// Fails if a span of the policy leads out of the calendar.
    pub fn by_policy(snapshots: Vec<Snapshot>, policy: &Policy, now: &Zoned) -> Result<Self, jiff::Error> {
        Self::by_policies(snapshots, |_| Some(policy), now)
    }

    /// Applies its own policy to each series, as [`by_policy`](Self::by_policy) does. A series without one is not
    /// touched.
    ///
    /// # Errors
    /// Fails if a span of a policy leads out of the calendar.
    pub fn by_policies<'p>(
        snapshots: Vec<Snapshot>,
        policy: impl Fn(&Manifest) -> Option<&'p Policy>,
        now: &Zoned,
    ) -> Result<Self, jiff::Error> {
        let mut all: BTreeMap<(String, String), Vec<Snapshot>> = BTreeMap::new();
        for snapshot in snapshots {
            let series = (snapshot.manifest.source.clone(), snapshot.manifest.host.clone());
            all.entry(series).or_default().push(snapshot);
        }
        let mut plan = Self::default();
        for ((source, host), mut snapshots) in all {
            let Some(policy) = snapshots.first().and_then(|first| policy(&first.manifest)) else { continue };
            snapshots.sort_by_key(|snapshot| (snapshot.manifest.time, snapshot.manifest.id));
            let reasons = policy::decide(policy, &snapshots, now)?;
            let decision = |(snapshot, reasons)| Decision { snapshot, reasons };
            let decisions: Vec<_> = snapshots.into_iter().zip(reasons).map(decision).collect();
            let burst = find_burst(&decisions, now.timestamp());
            plan.series.push(SeriesPlan { host, source, decisions, burst });
        }
        Ok(plan)
    }

    /// Forgets these snapshots, and keeps all others of their series.
    #[must_use]
    pub fn by_name(snapshots: Vec<Snapshot>, names: &BTreeSet<SnapshotId>) -> Self {
        let mut all: BTreeMap<(String, String), Vec<Decision>> = BTreeMap::new();
        for snapshot in snapshots {
            let series = (snapshot.manifest.source.clone(), snapshot.manifest.host.clone());
            let reasons =
                if names.contains(&snapshot.manifest.id) { Vec::new() } else { vec![Reason::NotNamed] };
            all.entry(series).or_default().push(Decision { snapshot, reasons });
        }
        let series = |((source, host), decisions)| SeriesPlan { host, source, decisions, burst: None };
        let is_touched = |series: &SeriesPlan| !series.decisions.iter().all(Decision::is_kept);
        Self { series: all.into_iter().map(series).filter(is_touched).collect() }
    }

    /// Returns the snapshots that are to be forgotten.
    pub fn forgotten(&self) -> impl Iterator<Item = &Snapshot> {
        let decisions = self.series.iter().flat_map(|series| &series.decisions);
        decisions.filter(|decision| !decision.is_kept()).map(|decision| &decision.snapshot)
    }

    /// Forgets what is to be forgotten; returns how many snapshots that are.
    ///
    /// # Errors
    /// See [`Repository::mark`]. What was forgotten before stays so, and the same plan can be carried out again.
    pub fn execute(&self, repo: &Repository) -> Result<u64, RepoError> {
        let ids: BTreeSet<SnapshotId> = self.forgotten().map(|snapshot| snapshot.manifest.id).collect();
        if !ids.is_empty() {
            repo.mark_all(&ids, MarkState::Forgotten)?;
        }
        Ok(ids.len() as u64)
    }
}

/// Looks for a burst among the snapshots that count: the others push nothing out.
fn find_burst(decisions: &[Decision], now: Timestamp) -> Option<Burst> {
    let counted = decisions.iter().filter(|decision| policy::counts(&decision.snapshot, now));
    let times = counted.map(|decision| (decision.snapshot.manifest.time, decision.is_kept()));
    burst::find(&times.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests;
