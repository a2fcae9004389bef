//! What a configuration means for the files of a schedule: when they start a run, and what that needs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::ScheduleOptions;
use crate::jobs::calendar::Schedule;
use crate::jobs::config::{
    Channel, Config, GC_SCHEDULE, KeyPlace, SecretPlace, SourceConfig, SourceKind, Text, VERIFY_SCHEDULE,
};
use crate::jobs::secret::Credential;

/// Folders that a service may have of its own, and then does not see those of others.
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];

impl ScheduleOptions {
    /// Returns what the files say for a configuration, which `program` is started with. Looks which stores and
    /// credentials are there.
    #[must_use]
    pub fn of(config: &Config, path: PathBuf, program: PathBuf, mail_to: String) -> Self {
        let directories = config.stores.iter().filter_map(|store| store.location.directory());
        let metrics = config.metrics.as_ref().and_then(|metrics| metrics.textfile.parent());
        let status_writable: Vec<PathBuf> =
            metrics.map(Path::to_owned).into_iter().chain(config.writable.iter().cloned()).collect();
        let stores = directories.map(|directory| existing(directory).to_owned());
        let writable: BTreeSet<PathBuf> = stores.chain(status_writable.iter().cloned()).collect();
        let credentials: BTreeSet<&str> = secrets(config)
            .filter_map(|place| match place {
                SecretPlace::Credential(name) => Some(name.as_str()),
                _ => None,
            })
            .collect();
        Self {
            program,
            config: path,
            schedules: schedules(config),
            writable: writable.into_iter().collect(),
            status_writable,
            credentials: credentials
                .into_iter()
                .map(|name| Credential::of_host(name, Path::new("/")))
                .collect(),
            random_delay: config.random_delay,
            low_priority: config.low_priority,
            runs_commands: runs_commands(config),
            uses_tmp: uses_tmp(config),
            mail_to,
        }
    }
}

/// Returns all schedules: of backups and copies, and of collections of garbage and verifying where somebody chose one.
/// What is due once a day or once a week in any case is done by the next run.
fn schedules(config: &Config) -> Vec<Schedule> {
    let of_sources = config.sources.iter().filter_map(|source| source.schedule.clone());
    let of_stores = config.stores.iter().flat_map(|store| {
        let copies = store.copy_from.as_ref().and_then(|_| config.copy_schedule(store));
        let verify = store.verify.sample.map(|_| store.verify.schedule.clone());
        let chosen = [store.gc.clone(), verify].into_iter().flatten().filter(|schedule| !is_usual(schedule));
        copies.into_iter().chain(chosen)
    });
    of_sources.chain(of_stores).collect()
}

fn is_usual(schedule: &Schedule) -> bool {
    let [calendar] = schedule.calendars() else { return false };
    [GC_SCHEDULE, VERIFY_SCHEDULE].contains(&calendar.to_string().as_str())
}

/// Returns the folder, or the nearest one above it that is there.
fn existing(folder: &Path) -> &Path {
    let root = Path::new("/");
    // The root itself would be no bound at all: then the store's own path stands, and a run says that it is not there.
    folder.ancestors().find(|folder| folder.is_dir()).filter(|found| *found != root).unwrap_or(folder)
}

fn secrets(config: &Config) -> impl Iterator<Item = &SecretPlace> {
    let of_stores = config.stores.iter().filter_map(|store| match &store.key {
        Some(KeyPlace::Passphrase(place)) => Some(place),
        _ => None,
    });
    of_stores.chain(config.alerts.iter().flat_map(|alert| of_channel(&alert.channel)))
}

fn of_channel(channel: &Channel) -> impl Iterator<Item = &SecretPlace> {
    let (place, text) = match channel {
        Channel::PagerDuty { key, .. } => (Some(key), None),
        Channel::Smtp { password, .. } => (password.as_ref(), None),
        Channel::Webhook { url, token } | Channel::Ntfy { url, token } => (token.as_ref(), Some(url)),
        Channel::Healthchecks { url } => (None, Some(url)),
        Channel::Command(_) => (None, None),
    };
    let of_text = text.and_then(|text| match text {
        Text::Plain(_) => None,
        Text::Secret(place) => Some(place),
    });
    place.into_iter().chain(of_text)
}

fn runs_commands(config: &Config) -> bool {
    let of_source = |source: &SourceConfig| {
        let hooks = [&source.before, &source.after, &source.on_failure];
        !source.exec.is_empty()
            || hooks.iter().any(|hook| hook.is_some())
            || matches!(source.kind, SourceKind::Command { .. })
    };
    config.sources.iter().any(of_source)
        || config.alerts.iter().any(|alert| matches!(alert.channel, Channel::Command(_)))
        || secrets(config).any(|place| matches!(place, SecretPlace::Command(_)))
}

fn uses_tmp(config: &Config) -> bool {
    let meets = |path: &Path| {
        TEMPORARY.iter().any(|folder| path.starts_with(folder) || Path::new(folder).starts_with(path))
    };
    let names =
        |address: &str| address.contains("/tmp") || address.contains("%2Ftmp") || address.contains("%2ftmp");
    let of_source = |source: &SourceConfig| match &source.kind {
        SourceKind::Postgres(postgres) => names(postgres.connection.expose()),
        SourceKind::Redis(address) | SourceKind::Mongodb { uri: address, .. } => names(address.expose()),
        SourceKind::Paths(paths) => paths.paths.iter().any(|path| meets(path)),
        SourceKind::Command { .. } => false,
    };
    config.sources.iter().any(of_source)
        || config.stores.iter().filter_map(|store| store.location.directory()).any(meets)
        || config.metrics.as_ref().is_some_and(|metrics| meets(&metrics.textfile))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::schedule::{Scheduler, files};

    fn options(config: &str) -> ScheduleOptions {
        let config = Config::parse(config, Path::new("/etc/yester/config.toml")).unwrap();
        ScheduleOptions::of(
            &config,
            "/etc/yester/config.toml".into(),
            "/usr/bin/yester".into(),
            "root".to_owned(),
        )
    }

    #[test]
    fn every_schedule_starts_a_run() {
        let options = options(
            "schedule = \"01:00\"\n\
             [store.local]\nurl = \"/srv/backup\"\npassphrase = { credential = \"pass\" }\ngc = \"Sun 05:00\"\n\
             [source.etc]\npaths = [\"/etc\"]\n\
             [source.home]\npaths = [\"/home\"]\nschedule = \"hourly\"\n",
        );
        let texts: Vec<_> = options.schedules.iter().map(ToString::to_string).collect();
        for expected in ["01:00", "hourly", "Sun 05:00"] {
            assert!(texts.iter().any(|text| text == expected), "{expected} in {texts:?}");
        }
        assert_eq!(options.credentials, [Credential::of_host("pass", Path::new("/"))]);
        assert!(!options.runs_commands && !options.uses_tmp);
        assert_eq!(options.status_writable, Vec::<PathBuf>::new());
        assert!(files(Scheduler::Systemd, &options).is_ok());
    }

    #[test]
    fn what_a_source_needs_is_granted() {
        let of_source = |source: &str| {
            options(&format!(
                "schedule = \"daily\"\n[store.local]\nurl = \"/srv/backup\"\nkey-file = \"/root/key\"\n[source.x]\n{source}\n"
            ))
        };
        for source in
            ["paths = [\"/\"]", "paths = [\"/var/tmp/x\"]", "postgres = \"postgresql:///shop?host=/tmp\""]
        {
            assert!(of_source(source).uses_tmp, "{source}");
        }
        for source in ["command = [\"true\"]", "paths = [\"/etc\"]\nbefore = [\"sync\"]"] {
            let options = of_source(source);
            assert!(options.runs_commands && !options.uses_tmp, "{source}");
        }
    }

    #[test]
    fn a_store_that_is_not_there_yet_can_be_made() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(existing(&folder.path().join("a/b")), folder.path());
        assert_eq!(existing(folder.path()), folder.path());
        assert_eq!(existing(Path::new("/nowhere/at/all")), Path::new("/nowhere/at/all"));
    }
}
