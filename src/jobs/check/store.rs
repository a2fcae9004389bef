//! Whether a store is there, opens, can be written and has room.

use std::path::Path;

use rustix::fs::{Access, access, statvfs};

use super::{CheckOptions, Finding, files};
use crate::human;
use crate::jobs::config::{Config, KeyPlace, StoreConfig};
use crate::jobs::outside::{End, Ended};
use crate::jobs::probe::{Answer, Probe, holders};
use crate::jobs::run::preflight;

/// Checks a store: a worker opens it, and writes to it what is deleted again.
pub(super) fn check(
    subject: &str,
    store: &StoreConfig,
    config: &Config,
    options: &CheckOptions,
) -> Vec<Finding> {
    if store.removable && !preflight::is_there(store) {
        return vec![Finding::ok(subject, format!("nothing is at {} now, and need not be", store.location))];
    }
    let CheckOptions { program, worker_options, path, .. } = options;
    let probe = Probe { program, config, worker_options, path, timeout: options.timeout };
    let mut findings = Vec::new();
    match probe.ask(store) {
        Ok(Ok(Answer::Absent)) => return vec![absent(subject, store, config)],
        Ok(Ok(Answer::Writable)) => {
            let message = format!("{}: opens and can be written{}", store.location, room(store));
            findings.push(Finding::ok(subject, message));
        }
        Ok(Ok(Answer::IngestOnly { full_key_hosts })) => {
            let message = format!(
                "{}: opens by an ingest-only key; retention and garbage are for {}{}",
                store.location,
                holders(&full_key_hosts),
                room(store)
            );
            findings.push(Finding::ok(subject, message));
        }
        Ok(Err(ended)) => findings.push(failure(subject, store, &ended, options)),
        Err(error) => {
            let message = format!("cannot start {}: {error}", options.program.display());
            findings.push(Finding::problem(subject, message));
        }
    }
    if let Some(objection) = preflight::objection(store, config.preflight) {
        findings.push(Finding::problem(subject, objection));
    }
    if let Some(KeyPlace::KeyFile(path)) = &store.key {
        findings.extend(files::private(subject, "the key file", path));
    }
    findings
}

/// Describes a store that is still to be made.
fn absent(subject: &str, store: &StoreConfig, config: &Config) -> Finding {
    let file = config.path.display();
    let like = store.copy_from.as_ref().map(|from| format!(" --like {from}")).unwrap_or_default();
    let init = format!("create it: yester --config {file} --store {} init{like}", store.name);
    let finding = Finding::warning(subject, format!("there is no store at {} yet", store.location));
    let parent = store.location.directory().and_then(Path::parent);
    match parent {
        Some(parent) if !parent.is_dir() => {
            finding.advise(format!("make {} first, or mount the disk there", parent.display())).advise(init)
        }
        Some(parent) if access(parent, Access::WRITE_OK).is_err() => {
            finding.advise(format!("{} cannot be written by this user", parent.display())).advise(init)
        }
        _ => finding.advise(init),
    }
}

/// Tells what the worker said.
fn failure(subject: &str, store: &StoreConfig, ended: &Ended, options: &CheckOptions) -> Finding {
    let errors = || ended.errors.lines().filter_map(|line| line.strip_prefix("yester: "));
    let message = match (ended.end, errors().next_back()) {
        (End::TimedOut, _) => {
            format!("{} did not answer within {}", store.location, human::duration(options.timeout))
        }
        (_, Some(error)) => error.to_owned(),
        (end, None) => format!("cannot be opened: {end}"),
    };
    let hints = ended.errors.lines().filter_map(|line| line.strip_prefix("hint: "));
    hints.fold(Finding::problem(subject, message), Finding::advise)
}

fn room(store: &StoreConfig) -> String {
    let Some(system) = store.location.directory().and_then(|path| statvfs(path).ok()) else {
        return String::new();
    };
    let free = system.f_bavail.saturating_mul(system.f_frsize);
    let percent = system.f_bavail.saturating_mul(100).checked_div(system.f_blocks).unwrap_or_default();
    format!("; {} free, {percent}%", human::bytes(free))
}
