//! Whether a store is there, opens, can be written and has room.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;

use rustix::fs::{Access, access, statvfs};

use super::{CheckOptions, Finding, files};
use crate::human;
use crate::jobs::config::{Config, KeyPlace, StoreConfig};
use crate::jobs::run::outside::{self, End, Ended};
use crate::jobs::run::preflight;

/// What the worker prints that finds no store, and none that was there before.
pub const ABSENT: &str = "absent";
/// What the worker prints that opened a store by an ingest-only key, and wrote nothing.
pub const INGEST_ONLY: &str = "ingest-only";

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
    let mut command = Command::new(&options.program);
    command.arg("--config").arg(&config.path).args(["--quiet", "--store", &store.name]);
    command.args([
        "--store-timeout",
        &format!("{}s", options.timeout.as_secs().max(2) / 2),
        "config",
        "probe",
    ]);
    command.env("PATH", &options.path).env_remove("YESTER_STORE").env_remove("YESTER_CONFIG");
    let mut findings = Vec::new();
    match outside::run(&mut command, options.timeout, &AtomicBool::new(false)) {
        Ok(ended) if ended.end == End::Exited(0) && ended.output.trim() == ABSENT => {
            return vec![absent(subject, store, config)];
        }
        Ok(ended) if ended.end == End::Exited(0) => {
            let what = match ended.output.trim() {
                INGEST_ONLY => "opens by an ingest-only key; retention and garbage are for another host",
                _ => "opens and can be written",
            };
            findings.push(Finding::ok(subject, format!("{}: {what}{}", store.location, room(store))));
        }
        Ok(ended) => findings.push(failure(subject, store, &ended, options)),
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
        (end, None) => format!("cannot be opened: {end:?}"),
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
