//! What is done with a store once backups are there: retention, copies, verification, garbage.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::time::Duration;

use super::worker::Work;
use super::{Operation, Run, RunOptions, Selection, StepOutcome, StepStats, preflight};
use crate::jobs::config::{SourceConfig, StoreConfig};
use crate::jobs::probe::{Answer, Probe, holders};

/// How long a step on a store may take: whoever reads a large bucket needs days.
const TIMEOUT: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long to wait for the names of hosts, which are only worth saying.
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);

impl Run<'_> {
    /// Thins out a store, verifies a part of it and collects its garbage, as far as that is due.
    pub(super) fn tend(&self, store: &StoreConfig) {
        // That there is none was said where it was needed.
        if !preflight::is_there(store) {
            return;
        }
        let thinned: Vec<&str> = self.to_be_thinned(store).collect();
        if !thinned.is_empty() {
            let sources = thinned.into_iter().flat_map(|name| ["--source".into(), name.into()]);
            let arguments = ["forget", "--configured"].map(OsString::from).into_iter().chain(sources);
            self.with_full_key(Operation::Forget, store, arguments.collect());
        }
        let now = Self::now();
        // What cannot be read from the journal was told when the run began.
        if self.verify_is_due(store, now).unwrap_or_default()
            && let Some(share) = store.verify.sample
        {
            self.with_full_key(
                Operation::Verify,
                store,
                vec!["verify".into(), "--sample".into(), share.to_string().into()],
            );
        }
        if self.gc_is_due(store, now).unwrap_or_default() {
            self.with_full_key(Operation::Gc, store, vec!["gc".into()]);
        }
    }

    /// Copies to a store what it lacks. That one cannot be reached is made up for by the next run.
    pub(super) fn copy(&self, store: &StoreConfig) {
        let Some(from) = store.copy_from.as_deref().and_then(|name| self.config.store(name)) else { return };
        let is_asked_for = self.options.selection == Selection::All;
        if !is_asked_for && !self.copy_is_due(store, Self::now()).unwrap_or_default() {
            return;
        }
        if store.removable && !preflight::is_there(store) {
            return;
        }
        let mut arguments: Vec<OsString> =
            ["--quiet", "copy", "--no-create", "--kept", "--to", &store.name].map(Into::into).into();
        for (option, values) in [("--source", &store.select.sources), ("--tag", &store.select.tags)] {
            arguments.extend(values.iter().flat_map(|value| [option.into(), value.into()]));
        }
        if let Some(last) = store.select.last {
            arguments.extend(["--last".into(), last.to_string().into()]);
        }
        self.step(Operation::Copy, &store.name, |step| {
            let begun = self.record(Operation::Copy, store, "");
            let objection = preflight::objection(store, self.config.preflight);
            let stats = match objection {
                Some(objection) => StepStats::new(step, StepOutcome::Failed, objection),
                None => {
                    let work = Work { store: from, source: None, arguments, timeout: TIMEOUT };
                    self.work(&begun, &work, step).0
                }
            };
            self.finish(&begun, &stats);
            stats
        });
    }

    /// Does what an ingest-only key cannot; says so where there is no other.
    fn with_full_key(&self, operation: Operation, store: &StoreConfig, mut arguments: Vec<OsString>) {
        if self.options.ingest_only.contains(&store.name) {
            self.leave_to_others(operation, store);
            return;
        }
        arguments.insert(0, "--quiet".into());
        self.step(operation, &store.name, |step| {
            let begun = self.record(operation, store, "");
            let work = Work { store, source: None, arguments, timeout: TIMEOUT };
            let stats = self.work(&begun, &work, step).0;
            self.finish(&begun, &stats);
            stats
        });
    }

    fn leave_to_others(&self, operation: Operation, store: &StoreConfig) {
        self.step(operation, &store.name, |step| {
            let whose = match operation {
                // What nobody does for long fills the store: so it is worth asking.
                Operation::Gc => holders(&self.full_key_hosts(store)),
                _ => holders(&BTreeSet::new()),
            };
            let message = format!("{} has an ingest-only key: this is for {whose}", self.options.host);
            StepStats::new(step, StepOutcome::Skipped, message)
        });
    }

    fn full_key_hosts(&self, store: &StoreConfig) -> BTreeSet<String> {
        let RunOptions { program, worker_options, path, .. } = self.options;
        let probe = Probe { program, config: self.config, worker_options, path, timeout: PROBE_TIMEOUT };
        match probe.ask(store) {
            Ok(Ok(Answer::IngestOnly { full_key_hosts })) => full_key_hosts,
            _ => BTreeSet::new(),
        }
    }

    /// Returns the sources of which a store keeps not all, and to which this run added something.
    fn to_be_thinned<'s>(&'s self, store: &'s StoreConfig) -> impl Iterator<Item = &'s str> {
        let has_new = |source: &SourceConfig| match store.copy_from {
            Some(_) => self.has_done(Operation::Copy, &store.name),
            None => self.has_done(Operation::Ingest, &source.name),
        };
        let policies = self.config.policies(store, &self.options.host);
        self.config
            .sources_in(store)
            .filter(move |source| policies.keys().any(|(name, _)| *name == source.name) && has_new(source))
            .map(|source| source.name.as_str())
    }
}
