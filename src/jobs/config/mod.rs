//! The configuration file: what is backed up where and when, and who is told what.
//!
//! Owns its keys, their defaults, and what is said of mistakes: all of them at once, each with its line and key. Holds
//! no secrets, only their places. Whether stores and sources can be reached is left to `check`.

mod alert;
mod error;
mod reader;
mod rules;
mod secret;
mod source;
mod store;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Span, ToSpan};
use toml::de::DeTable;

use crate::human;
use crate::jobs::calendar::Schedule;
use crate::ops::forget::policy::Policy;
use reader::{Item, Problems, Section};
use source::SourceDefaults;
use store::StoreDefaults;

pub use alert::{AlertConfig, Channel};
pub use error::{ConfigError, Problem};
pub use rules::{Age, Levels, Rules, Severity};
pub use secret::{Address, KeyPlace, SecretPlace, Text};
pub use source::{Databases, Paths, Postgres, SourceConfig, SourceKind};
pub use store::{Keep, Network, Select, StoreConfig, Verify};

/// When garbage is collected where nobody says otherwise.
pub const GC_SCHEDULE: &str = "weekly";
/// When a part of a store is verified where nobody says otherwise.
pub const VERIFY_SCHEDULE: &str = "daily";
/// How long a backup may take where nobody says otherwise.
const TIMEOUT: SignedDuration = SignedDuration::from_hours(12);
/// How often a failed backup is tried again.
const RETRIES: u32 = 2;
/// How long to wait before that.
const RETRY_DELAY: SignedDuration = SignedDuration::from_secs(60);

/// A configuration.
///
/// Every store and source it refers to is in it; at least one store is backed up to. Names are unique within their
/// kind.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file.
    pub path: PathBuf,
    /// The host that backups belong to; nothing means this machine's name.
    pub host: Option<String>,
    /// When sources are due that say nothing of their own.
    pub schedule: Option<Schedule>,
    /// How long after that a run begins at the latest, so that not all hosts come at once.
    pub random_delay: SignedDuration,
    /// What a run makes sure of before it begins.
    pub preflight: Preflight,
    /// So many sources are backed up at once.
    pub jobs: u32,
    /// How long to wait before a failed backup is tried again.
    pub retry_delay: SignedDuration,
    /// Whether backups let everything else go first.
    pub low_priority: bool,
    /// Folders that commands of the configuration write to.
    pub writable: Vec<PathBuf>,
    /// How long dumps are kept that are not whole; nothing means as long as others.
    pub suspicious_within: Option<Span>,
    /// The stores, in the order of the file; at least one.
    pub stores: Vec<StoreConfig>,
    /// The sources, in the order of the file.
    pub sources: Vec<SourceConfig>,
    /// Who is told.
    pub alerts: Vec<AlertConfig>,
    /// The rules of health.
    pub rules: Rules,
    /// Where metrics go.
    pub metrics: Option<Metrics>,
}

/// What has to be free where a store is, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preflight {
    /// Of the space.
    pub disk_free_percent: u32,
    /// Of the inodes.
    pub inodes_free_percent: u32,
}

impl Default for Preflight {
    fn default() -> Self {
        Self { disk_free_percent: 5, inodes_free_percent: 2 }
    }
}

/// Where metrics go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// A file that node_exporter's textfile collector reads.
    pub textfile: PathBuf,
    /// Whether they are written under the names of runbooks as well.
    pub aliases: bool,
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError::Read`] if it cannot be read, [`ConfigError::Wrong`] with all that is wrong with it.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Reads the text of the file `path`.
    ///
    /// # Errors
    /// [`ConfigError::Wrong`] with all that is wrong with it.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let wrong = |problems| ConfigError::Wrong { path: path.to_owned(), problems };
        let problems = Problems::new(text);
        let document = match DeTable::parse(text) {
            Ok(document) => document,
            Err(error) => {
                problems.add(error.span().unwrap_or_default(), "", error.message());
                return Err(wrong(problems.finish()));
            }
        };
        let config = read(Section::document(&problems, &document), path);
        let found = problems.finish();
        if found.is_empty() { Ok(config) } else { Err(wrong(found)) }
    }

    /// Returns a store by its name.
    #[must_use]
    pub fn store(&self, name: &str) -> Option<&StoreConfig> {
        self.stores.iter().find(|store| store.name == name)
    }

    /// Returns a source by its name.
    #[must_use]
    pub fn source(&self, name: &str) -> Option<&SourceConfig> {
        self.sources.iter().find(|source| source.name == name)
    }

    /// Returns the store that commands mean that name none: the first that is backed up to.
    #[must_use]
    pub fn first_store(&self) -> Option<&StoreConfig> {
        self.stores.iter().find(|store| store.copy_from.is_none())
    }

    /// Returns when a store is copied to: by its own schedule, or when any source that is copied is due.
    #[must_use]
    pub fn copy_schedule(&self, store: &StoreConfig) -> Option<Schedule> {
        if store.schedule.is_some() {
            return store.schedule.clone();
        }
        let calendars = self.sources_in(store).filter_map(|source| source.schedule.as_ref());
        let calendars = calendars.flat_map(|schedule| schedule.calendars().iter().cloned()).collect();
        Schedule::new(calendars).ok()
    }

    /// Returns the sources whose snapshots are in a store: they are backed up or copied to it.
    pub fn sources_in<'a>(&'a self, store: &'a StoreConfig) -> impl Iterator<Item = &'a SourceConfig> {
        let chosen = |source: &&SourceConfig| {
            store.select.sources.is_empty() || store.select.sources.contains(&source.name)
        };
        let origin = self.origin(store);
        self.sources.iter().filter(move |source| Some(source.store.as_str()) == origin).filter(chosen)
    }

    /// Returns what a store keeps of each series of a host, by source and host; those are missing of which it keeps
    /// all.
    #[must_use]
    pub fn policies(&self, store: &StoreConfig, host: &str) -> BTreeMap<(String, String), Policy> {
        let kept = self.sources_in(store).filter_map(|source| {
            let policy = store.keep.or(source.keep.as_ref())?.clone();
            let policy = Policy { suspicious_within: self.suspicious_within, ..policy };
            Some(((source.name.clone(), host.to_owned()), policy))
        });
        kept.collect()
    }

    /// Returns the store at the beginning of a chain of copies.
    fn origin<'a>(&'a self, store: &'a StoreConfig) -> Option<&'a str> {
        let mut store = store;
        // A chain is not longer than there are stores.
        for _ in &self.stores {
            match &store.copy_from {
                Some(from) => store = self.store(from)?,
                None => return Some(&store.name),
            }
        }
        None
    }
}

fn read(document: Section<'_>, path: &Path) -> Config {
    let schedule = document.item("schedule").and_then(|item| values::schedule(&item));
    let key = secret::KeyPlace::read(&document);
    let keep = values::switchable(document.item("keep"), None, values::keep);
    let gc = values::switchable(document.item("gc"), Some(values::fixed(GC_SCHEDULE)), values::schedule);
    let verify = document.item("verify").and_then(|item| Verify::read(&item));
    let rules = match document.item("rules").and_then(|item| item.section()) {
        Some(section) => Rules::read(section, &Rules::default()),
        None => Rules::default(),
    };
    let defaults = StoreDefaults { key: key.as_ref(), gc: gc.as_ref(), verify: verify.as_ref() };
    let stores: Vec<StoreConfig> = document
        .named("store")
        .into_iter()
        .filter_map(|(name, section)| StoreConfig::read(&name, section, &defaults))
        .collect();
    let first = stores.iter().find(|store| store.copy_from.is_none()).map(|store| store.name.clone());
    let number =
        |name, range, default| document.item(name).and_then(|item| item.number(range)).unwrap_or(default);
    let time = |name, default| document.parse(name, human::parse_duration).unwrap_or(default);
    let source_defaults = SourceDefaults {
        schedule: schedule.as_ref(),
        keep: keep.as_ref(),
        timeout: document.parse("timeout", values::limit).unwrap_or(TIMEOUT),
        retries: number("retries", 0..=100, RETRIES),
        rules: &rules,
        store: first.as_deref(),
    };
    let sources = document
        .named("source")
        .into_iter()
        .filter_map(|(name, section)| SourceConfig::read(&name, section, &source_defaults))
        .collect();
    let alerts = document
        .named("alert")
        .into_iter()
        .filter_map(|(name, section)| AlertConfig::read(&name, section))
        .collect();
    let config = Config {
        path: path.to_owned(),
        host: document.parse("host", host),
        random_delay: time("random-delay", SignedDuration::ZERO),
        preflight: document.item("preflight").and_then(|item| preflight(&item)).unwrap_or_default(),
        jobs: number("jobs", 1..=64, 1),
        retry_delay: time("retry-delay", RETRY_DELAY),
        low_priority: document.item("low-priority").and_then(|item| item.flag()).unwrap_or_default(),
        writable: document
            .item("writable")
            .and_then(|item| item.list()?.iter().map(Item::path).collect())
            .unwrap_or_default(),
        suspicious_within: values::switchable(document.item("keep-suspicious"), Some(30.days()), |item| {
            item.parse(values::span)
        }),
        metrics: document.item("metrics").and_then(|item| metrics(&item)),
        schedule,
        stores,
        sources,
        alerts,
        rules,
    };
    check_references(&config, &document);
    document.finish();
    config
}

/// Reports what refers to what is not there, and two stores in one place.
fn check_references(config: &Config, document: &Section<'_>) {
    // One that was reported already may have been it.
    let all_read = document.named("store").len() == config.stores.len();
    if all_read && config.first_store().is_none() {
        document.report("there is no store to back up to; add [store.local] with its url");
    }
    let report = |kind: &'static str, name: &str, key: &'static str, message: String| {
        for (found, section) in document.named(kind) {
            if found == name {
                match section.item(key) {
                    Some(item) => item.report(message.clone()),
                    None => section.report(message.clone()),
                }
            }
        }
    };
    for store in &config.stores {
        let Some(from) = &store.copy_from else { continue };
        if config.store(from).is_none() {
            report("store", &store.name, "copy-from", format!("there is no store {from:?}"));
        } else if config.origin(store).is_none() {
            report("store", &store.name, "copy-from", "this leads back to the store itself".to_owned());
        }
        for source in store.select.sources.iter().filter(|source| config.source(source).is_none()) {
            report("store", &store.name, "select", format!("there is no source {source:?}"));
        }
    }
    for source in &config.sources {
        match config.store(&source.store) {
            Some(store) if store.copy_from.is_some() => {
                report("source", &source.name, "store", format!("{:?} is a store of copies", source.store));
            }
            None if !source.store.is_empty() => {
                report("source", &source.name, "store", format!("there is no store {:?}", source.store));
            }
            _ => {}
        }
    }
    // Each would take the other for its own.
    let mut places = BTreeSet::new();
    for store in &config.stores {
        if !places.insert(store.location.to_string()) {
            report("store", &store.name, "url", format!("another store is at {} as well", store.location));
        }
    }
}

fn host(text: &str) -> Result<String, String> {
    match crate::path::Name::new(text.as_bytes()) {
        Ok(_) if text.len() <= 255 && crate::path::escape(text.as_bytes()) == text => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is no name of a host")),
    }
}

fn preflight(item: &Item<'_>) -> Option<Preflight> {
    let section = item.section()?;
    let usual = Preflight::default();
    let percent = |name, default| section.parse(name, |text| values::percent(text, 99)).unwrap_or(default);
    let preflight = Preflight {
        disk_free_percent: percent("disk-free", usual.disk_free_percent),
        inodes_free_percent: percent("inodes-free", usual.inodes_free_percent),
    };
    section.finish();
    Some(preflight)
}

fn metrics(item: &Item<'_>) -> Option<Metrics> {
    let section = item.section()?;
    let textfile = section.item("textfile");
    if textfile.is_none() {
        section.report("it needs a textfile, such as /var/lib/prometheus/node-exporter/yester.prom");
    }
    let textfile = textfile.and_then(|item| item.path());
    let aliases = section.item("aliases").and_then(|item| item.flag()).unwrap_or_default();
    section.finish();
    Some(Metrics { textfile: textfile?, aliases })
}

#[cfg(test)]
mod tests;
