//! The sources of a configuration: what is backed up, and what happens before and after.

use std::path::PathBuf;

use jiff::SignedDuration;

use super::reader::{Item, Section};
use super::rules::Rules;
use super::secret::Address;
use super::values;
use crate::human;
use crate::jobs::calendar::Schedule;
use crate::ops::forget::policy::Policy;

/// A source.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// Its name, as snapshots have it.
    pub name: String,
    /// What it is.
    pub kind: SourceKind,
    /// What the programs of a database are started by, such as `docker exec -i NAME`.
    pub exec: Vec<String>,
    /// Run before it; if that fails, there is no backup.
    pub before: Option<Vec<String>>,
    /// Run after it, whether it succeeded or not, if what stands before it succeeded.
    pub after: Option<Vec<String>>,
    /// Run if there is no backup in the end.
    pub on_failure: Option<Vec<String>>,
    /// Fewer bytes are no backup.
    pub min_bytes: u64,
    /// When it is due.
    pub schedule: Option<Schedule>,
    /// What is kept of it; nothing means all.
    pub keep: Option<Policy>,
    /// Attached to its snapshots.
    pub tags: Vec<String>,
    /// The store that it is backed up to.
    pub store: String,
    /// How long a backup may take.
    pub timeout: SignedDuration,
    /// How often a failed one is tried again.
    pub retries: u32,
    /// The rules of its health.
    pub rules: Rules,
}

/// What is backed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    /// A PostgreSQL server, by `pg_dump` and `pg_dumpall`.
    Postgres(Postgres),
    /// A Redis server, by `redis-cli --rdb`: its URL.
    Redis(Address),
    /// A MongoDB server, by `mongodump --archive`.
    Mongodb {
        /// Its URI.
        uri: Address,
        /// Whether what changes meanwhile is dumped as well, for one point in time: of a replica set alone.
        oplog: bool,
    },
    /// Files and directories.
    Paths(Paths),
    /// What a command prints.
    Command {
        /// The program and its arguments; at least the program.
        argv: Vec<String>,
        /// The name of the file that holds it.
        output: String,
    },
}

/// Databases of PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Postgres {
    /// A database, a connection URL, or `service=NAME`.
    pub connection: Address,
    /// Which databases.
    pub databases: Databases,
    /// Whether roles and tablespaces are dumped as well.
    pub globals: bool,
}

/// Which databases of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Databases {
    /// The one that the connection names.
    Connected,
    /// These.
    Named(Vec<String>),
    /// All but templates.
    All,
}

/// File trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Where they begin; at least one.
    pub paths: Vec<PathBuf>,
    /// Patterns of what is left out.
    pub exclude: Vec<String>,
    /// Whether directories with a `CACHEDIR.TAG` are left out.
    pub exclude_caches: bool,
    /// Whether other file systems are left out.
    pub one_file_system: bool,
}

/// What holds for a source that says nothing of its own.
pub(super) struct SourceDefaults<'a> {
    pub(super) schedule: Option<&'a Schedule>,
    pub(super) keep: Option<&'a Policy>,
    pub(super) timeout: SignedDuration,
    pub(super) retries: u32,
    pub(super) rules: &'a Rules,
    /// The first store that is backed up to.
    pub(super) store: Option<&'a str>,
}

impl SourceConfig {
    pub(super) fn read(name: &str, section: Section<'_>, defaults: &SourceDefaults<'_>) -> Option<Self> {
        if let Err(why) = values::name(name) {
            section.report(why);
        }
        let kind = kind(name, &section);
        let source = Self::of_kind(kind, name, &section, defaults);
        section.finish();
        source
    }

    /// Reads all keys that have nothing to do with the kind, whether that is known or not.
    fn of_kind(
        kind: Option<SourceKind>,
        name: &str,
        section: &Section<'_>,
        defaults: &SourceDefaults<'_>,
    ) -> Option<Self> {
        let exec = section.item("exec");
        if let (Some(SourceKind::Paths(_)), Some(exec)) = (&kind, &exec) {
            exec.report("this is for programs of databases; paths are read as they are");
        }
        let words = |name| section.item(name).and_then(|item| item.texts());
        Some(Self {
            name: name.to_owned(),
            exec: exec.and_then(|item| item.texts()).unwrap_or_default(),
            before: words("before"),
            after: words("after"),
            on_failure: words("on-failure"),
            min_bytes: section.parse("min-size", parse_size).unwrap_or(1),
            schedule: match section.item("schedule") {
                Some(item) => values::schedule(&item),
                None => defaults.schedule.cloned(),
            },
            keep: values::switchable(section.item("keep"), defaults.keep.cloned(), values::keep),
            tags: words("tags").unwrap_or_default(),
            store: section
                .parse("store", values::name)
                .or(defaults.store.map(str::to_owned))
                .unwrap_or_default(),
            timeout: section.parse("timeout", values::limit).unwrap_or(defaults.timeout),
            retries: section
                .item("retries")
                .and_then(|item| item.number(0..=100))
                .unwrap_or(defaults.retries),
            rules: match section.item("rules").and_then(|item| item.section()) {
                Some(section) => Rules::read(section, defaults.rules),
                None => defaults.rules.clone(),
            },
            kind: kind?,
        })
    }
}

/// The keys that some kinds of sources have.
const OF_KINDS: [&str; 7] =
    ["databases", "globals", "oplog", "exclude", "exclude-caches", "one-file-system", "output"];

fn kind(name: &str, section: &Section<'_>) -> Option<SourceKind> {
    let given = ["postgres", "redis", "mongodb", "paths", "command"].map(|name| section.item(name));
    let count = given.iter().flatten().count();
    match given {
        _ if count != 1 => {
            section
                .report("it says what is backed up, by one of postgres, redis, mongodb, paths and command");
            // Which further keys it may have follows from that.
            for name in OF_KINDS {
                section.item(name);
            }
            None
        }
        [Some(item), ..] => postgres(&item, section).map(SourceKind::Postgres),
        [_, Some(item), ..] => item.parse(url("redis", &["redis", "rediss"])).map(SourceKind::Redis),
        [_, _, Some(item), ..] => {
            let uri = item.parse(url("mongodb", &["mongodb", "mongodb+srv"]));
            let oplog = section.item("oplog").and_then(|item| item.flag()).unwrap_or_default();
            uri.map(|uri| SourceKind::Mongodb { uri, oplog })
        }
        [_, _, _, Some(item), _] => paths(&item, section).map(SourceKind::Paths),
        [.., item] => item.and_then(|item| command(name, &item, section)),
    }
}

fn postgres(item: &Item<'_>, section: &Section<'_>) -> Option<Postgres> {
    let databases = section.item("databases").and_then(|item| {
        if item.is_text() {
            return item.parse(|text| match text {
                "all" => Ok(Databases::All),
                _ => Err("it is \"all\", or a list of databases".to_owned()),
            });
        }
        item.texts().map(Databases::Named)
    });
    let globals = section.item("globals").and_then(|item| item.flag()).unwrap_or(true);
    let text = item.text()?;
    if text.is_empty() {
        item.report("it is a database, a URL, or service=NAME");
    }
    Some(Postgres {
        connection: Address::new(text),
        databases: databases.unwrap_or(Databases::Connected),
        globals,
    })
}

fn paths(item: &Item<'_>, section: &Section<'_>) -> Option<Paths> {
    let paths: Option<Vec<PathBuf>> = item.list()?.iter().map(Item::path).collect();
    let flag = |name| section.item(name).and_then(|item| item.flag()).unwrap_or_default();
    let found = Paths {
        paths: paths?,
        exclude: section.item("exclude").and_then(|item| item.texts()).unwrap_or_default(),
        exclude_caches: flag("exclude-caches"),
        one_file_system: flag("one-file-system"),
    };
    if found.paths.is_empty() {
        item.report("the list is empty");
    }
    Some(found)
}

fn command(name: &str, item: &Item<'_>, section: &Section<'_>) -> Option<SourceKind> {
    let output = section.parse("output", |text| {
        crate::path::Name::new(text.as_bytes()).map(|_| text.to_owned()).map_err(|error| error.to_string())
    });
    Some(SourceKind::Command { argv: item.texts()?, output: output.unwrap_or_else(|| name.to_owned()) })
}

fn url(what: &'static str, schemes: &'static [&'static str]) -> impl Fn(&str) -> Result<Address, String> {
    move |text| match text.split_once("://") {
        Some((scheme, rest)) if schemes.contains(&scheme) && !rest.is_empty() => Ok(Address::new(text)),
        // What stands there may hold a password.
        _ => Err(format!("it is the URL of a server, such as {what}://HOST")),
    }
}

fn parse_size(text: &str) -> Result<u64, String> {
    human::parse_bytes(&text.replace(' ', ""))
}
