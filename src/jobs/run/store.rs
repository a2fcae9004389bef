//! What is done with a store once backups are there: retention, copies, verification, garbage.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::time::Duration;

use jiff::Span;

use super::worker::Work;
use super::{Operation, Run, RunOptions, Selection, StepOutcome, StepStats, preflight};
use crate::jobs::config::{SourceConfig, StoreConfig};
use crate::jobs::probe::{Answer, Probe, holders};
use crate::ops::forget::policy::Policy;

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
        let thinned =
            self.policies(store).into_iter().filter(|(source, _)| self.needs_thinning(store, source));
        let thinned: Vec<_> = thinned.collect();
        if self.is_ingest_only(store) && !thinned.is_empty() {
            self.leave_to_others(Operation::Forget, store);
        } else {
            for (source, policy) in thinned {
                let arguments =
                    forget_arguments(&source.name, &self.options.host, policy, self.config.suspicious_within);
                self.work_on(Operation::Forget, store, Some(source), arguments);
            }
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
    fn with_full_key(&self, operation: Operation, store: &StoreConfig, arguments: Vec<OsString>) {
        if !self.is_ingest_only(store) {
            self.work_on(operation, store, None, arguments);
        } else {
            self.leave_to_others(operation, store);
        }
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

    fn is_ingest_only(&self, store: &StoreConfig) -> bool {
        self.options.ingest_only.contains(&store.name)
    }

    fn work_on(
        &self,
        operation: Operation,
        store: &StoreConfig,
        source: Option<&SourceConfig>,
        mut arguments: Vec<OsString>,
    ) {
        arguments.insert(0, "--quiet".into());
        let subject = source.map_or(&store.name, |source| &source.name);
        self.step(operation, subject, |step| {
            let begun = self.record(operation, store, source.map_or("", |source| &source.name));
            let work = Work { store, source, arguments, timeout: TIMEOUT };
            let stats = self.work(&begun, &work, step).0;
            self.finish(&begun, &stats);
            stats
        });
    }

    /// Returns the sources of a store that have a policy there, with it.
    fn policies<'s>(&'s self, store: &'s StoreConfig) -> Vec<(&'s SourceConfig, &'s Policy)> {
        let policy = |source: &'s SourceConfig| Some((source, self.config.policy(store, source)?));
        match store.copy_from {
            Some(_) => self.config.copied_sources(store).filter_map(policy).collect(),
            None => {
                let own = self.config.sources.iter().filter(|source| source.store == store.name);
                own.filter_map(policy).collect()
            }
        }
    }

    /// Tells whether this run brought a store something by which a policy may keep less of the rest.
    fn needs_thinning(&self, store: &StoreConfig, source: &SourceConfig) -> bool {
        match store.copy_from {
            Some(_) => self.has_done(Operation::Copy, &store.name),
            None => self.has_done(Operation::Ingest, &source.name),
        }
    }
}

fn forget_arguments(source: &str, host: &str, policy: &Policy, suspicious: Option<Span>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = ["forget", "--source", source, "--host", host].map(Into::into).into();
    let mut option = |name: &str, value: String| arguments.extend([name.into(), value.into()]);
    let Policy { last, hourly, daily, weekly, monthly, yearly, within, tags, suspicious_within: _ } = policy;
    for (name, number) in [
        ("--keep-last", last),
        ("--keep-hourly", hourly),
        ("--keep-daily", daily),
        ("--keep-weekly", weekly),
        ("--keep-monthly", monthly),
        ("--keep-yearly", yearly),
    ] {
        if *number > 0 {
            option(name, number.to_string());
        }
    }
    if let Some(within) = within {
        option("--keep-within", within.to_string());
    }
    tags.iter().for_each(|tag| option("--keep-tag", tag.clone()));
    if let Some(suspicious) = suspicious {
        option("--expire-suspicious", suspicious.to_string());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;

    use super::*;
    use crate::human;

    #[test]
    fn a_policy_becomes_options() {
        let policy = Policy {
            daily: 7,
            monthly: 12,
            within: Some(36.hours()),
            tags: vec!["x".to_owned()],
            ..Policy::default()
        };
        let arguments = forget_arguments("shop", "web1", &policy, Some(30.days()));
        let words: Vec<_> = arguments.iter().map(|word| word.to_str().unwrap()).collect();
        assert_eq!(
            words.join(" "),
            "forget --source shop --host web1 --keep-daily 7 --keep-monthly 12 --keep-within PT36H --keep-tag x \
             --expire-suspicious P30D"
        );
        assert!(human::parse_span("PT36H").is_ok() && human::parse_span("P30D").is_ok());
    }
}
