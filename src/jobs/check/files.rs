//! The files of this host that a run needs, and its clock.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;

use jiff::{SignedDuration, Timestamp};
use rustix::fs::{Access, access};

use super::{CheckOptions, Finding, source};
use crate::jobs::config::{AlertConfig, Channel, Config, SecretPlace, Text};
use crate::jobs::{schedule, secret, sources};
use crate::progress::error_chain;

/// No clock that is right shows less.
const EARLIEST_YEAR: i16 = 2025;
const LATEST_YEAR: i16 = 2150;
/// How much clocks may differ.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// Checks who may read and write the configuration.
pub(super) fn configuration(config: &Config) -> Vec<Finding> {
    const SUBJECT: &str = "configuration";
    let path = &config.path;
    let mode = match fs::metadata(path) {
        Ok(found) => found.permissions().mode(),
        Err(error) => {
            return vec![Finding::problem(SUBJECT, format!("cannot look at {}: {error}", path.display()))];
        }
    };
    let repair = format!("run: chmod 600 {}", path.display());
    let has_secrets = config.sources.iter().any(|source| !sources::passwords(source).is_empty());
    if mode & 0o022 != 0 {
        let message = format!("{} can be written by others, who could have anything run", path.display());
        return vec![Finding::problem(SUBJECT, message).advise(repair)];
    }
    if has_secrets && mode & 0o077 != 0 {
        let message = format!("{} holds passwords and can be read by others", path.display());
        return vec![Finding::problem(SUBJECT, message).advise(repair)];
    }
    if config.sources.is_empty() {
        let message = format!("{} has no source: nothing is backed up", path.display());
        return vec![
            Finding::warning(SUBJECT, message)
                .advise("add one, such as [source.etc] with paths = [\"/etc\"]"),
        ];
    }
    let (stores, sources) = (config.stores.len() as u64, config.sources.len() as u64);
    let counted = |number, what| crate::human::counted(number, what);
    let message = format!("{}: {}, {}", path.display(), counted(stores, "store"), counted(sources, "source"));
    vec![Finding::ok(SUBJECT, message)]
}

/// Says that others can read a file with a secret; nothing of one that is not there.
pub(super) fn private(subject: &str, what: &str, path: &Path) -> Option<Finding> {
    let mode = fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o077 != 0).then(|| {
        Finding::problem(subject, format!("{what} {} can be read by others", path.display()))
            .advise(format!("run: chmod 600 {}", path.display()))
    })
}

/// Checks the clock against sense, the journal and the file systems of the stores.
pub(super) fn clock(config: &Config, options: &CheckOptions) -> Vec<Finding> {
    const SUBJECT: &str = "clock";
    let now = options.now.to_zoned(options.zone.clone());
    let shown = now.strftime("%Y-%m-%d %H:%M:%S %Z").to_string();
    let repair = "set it, and let it be set by NTP: timedatectl set-ntp true";
    if !(EARLIEST_YEAR..=LATEST_YEAR).contains(&now.year()) {
        return vec![Finding::problem(SUBJECT, format!("it shows {shown}")).advise(repair)];
    }
    if let Some(newest) = options.newest_run
        && newest.duration_since(options.now) > TOLERANCE
    {
        let message = format!("it shows {shown}, and the newest run of the journal began at {newest}");
        return vec![Finding::warning(SUBJECT, message).advise(repair)];
    }
    for store in &config.stores {
        let Some(path) = store.location.directory() else { continue };
        let Some(changed) = fs::metadata(path).ok().and_then(|found| found.modified().ok()) else { continue };
        if is_ahead(changed, options.now) {
            let message = format!("it shows {shown}, and {} was changed later than that", path.display());
            return vec![Finding::warning(SUBJECT, message).advise(repair)];
        }
    }
    vec![Finding::ok(SUBJECT, format!("it shows {shown}"))]
}

fn is_ahead(time: SystemTime, now: Timestamp) -> bool {
    Timestamp::try_from(time).is_ok_and(|time| time.duration_since(now) > TOLERANCE)
}

/// Checks that what a channel needs is there. Nothing is sent.
pub(super) fn alert(subject: &str, alert: &AlertConfig, options: &CheckOptions) -> Finding {
    let text = |text: &Text| match text {
        Text::Plain(_) => None,
        Text::Secret(place) => Some(place.clone()),
    };
    let places: Vec<SecretPlace> = match &alert.channel {
        Channel::PagerDuty { key, .. } => vec![key.clone()],
        Channel::Smtp { password, .. } => password.clone().into_iter().collect(),
        Channel::Webhook { url, token } | Channel::Ntfy { url, token } => {
            text(url).into_iter().chain(token.clone()).collect()
        }
        Channel::Healthchecks { url } => text(url).into_iter().collect(),
        Channel::Command(argv) => {
            return source::program(subject, argv, options)
                .unwrap_or_else(|| Finding::ok(subject, "its command is there"));
        }
    };
    for place in &places {
        if let Err(error) = secret::read(place, &*options.environment) {
            return Finding::problem(subject, error_chain(&error))
                .advise("nobody would be told by this channel");
        }
        if let SecretPlace::File(path) = place
            && let Some(finding) = private(subject, "the secret in", path)
        {
            return finding;
        }
    }
    Finding::ok(subject, "what it needs is there; nothing was sent")
}

/// Checks that something starts runs.
pub(super) fn schedule(root: &Path) -> Finding {
    const SUBJECT: &str = "schedule";
    if schedule::is_installed(root) {
        return Finding::ok(SUBJECT, "runs are started when something is due");
    }
    Finding::warning(
        SUBJECT,
        "nothing starts `yester run` on this host, but for what you have written yourself",
    )
    .advise("run: yester schedule install")
}

/// Checks that metrics can be written.
pub(super) fn metrics(config: &Config) -> Vec<Finding> {
    const SUBJECT: &str = "metrics";
    let Some(metrics) = &config.metrics else { return Vec::new() };
    let folder = metrics.textfile.parent().unwrap_or(Path::new("/"));
    let finding = match access(folder, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Finding::ok(SUBJECT, format!("can be written to {}", metrics.textfile.display())),
        Err(error) => Finding::problem(SUBJECT, format!("cannot write to {}: {error}", folder.display()))
            .advise("make the folder, or name that of node_exporter's --collector.textfile.directory"),
    };
    vec![finding]
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use jiff::tz::TimeZone;

    use super::super::State;
    use super::*;

    #[test]
    fn clocks_that_cannot_be_right_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("[store.a]\nurl = \"{}\"\n", folder.path().display());
        let config = Config::parse(&text, Path::new("/c")).unwrap();
        let options = |now: &str, newest: Option<&str>| CheckOptions {
            now: now.parse().unwrap(),
            newest_run: newest.map(|time| time.parse().unwrap()),
            zone: TimeZone::UTC,
            path: "/bin".into(),
            environment: Arc::new(|_| None),
            program: "/bin/false".into(),
            root: "/".into(),
            worker_options: Vec::new(),
            timeout: Duration::from_secs(1),
        };
        let state = |now, newest| clock(&config, &options(now, newest))[0].state;
        assert_eq!(state("1970-01-02T00:00:00Z", None), State::Problem);
        // Before the folder of the store was made.
        assert_eq!(state("2025-02-01T00:00:00Z", None), State::Warning);
        assert_eq!(state("2100-02-01T00:00:00Z", Some("2100-02-02T00:00:00Z")), State::Warning);
        assert_eq!(state("2100-02-01T00:00:00Z", Some("2100-02-01T00:01:00Z")), State::Ok);
    }
}
