//! What every command shares: the global options, and how the store is opened.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use clap::{Args, ValueEnum, ValueHint};

use super::configuration::{ConfigFile, named_store, store_at};
use super::credentials::{self, KeySource};
use super::exit::{CommandError, ErrorKind};
use super::folders::local_folders;
use super::network::NetworkArgs;
use super::output;
use super::progress::{Reporter, Show};
use crate::crypto::slot::Credential;
use crate::format::config::Encryption;
use crate::human;
use crate::jobs::config::{Config, StoreConfig};
use crate::ops::forget::policy::Policy;
use crate::path::Name;
use crate::repo::open::{LocalFolders, OpenOptions};
use crate::repo::{RepoError, Repository};
use crate::store::ObjectStore;
use crate::store::location::Location;
use crate::store::traffic::Traffic;

/// The variables that stand for the two options that every run needs.
const STORE: &str = "YESTER_STORE";
const KEY_FILE: &str = "YESTER_KEY_FILE";

/// Memory for decoded frames where nobody says otherwise.
const CACHE_SIZE: &str = "48M";
/// How hard zstd compresses where nobody says otherwise.
const LEVEL: i32 = 3;

/// How often a person may mistype the passphrase.
const PROMPT_ATTEMPTS: usize = 3;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
}

/// Options that every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct GlobalArgs {
    /// The store: a directory, s3://BUCKET/PREFIX, or the name of a configured one [env: YESTER_STORE]
    #[arg(long, global = true, value_name = "STORE", value_hint = ValueHint::DirPath)]
    pub(super) store: Option<OsString>,
    /// Open the store with the key in this file [env: YESTER_KEY_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) key_file: Option<PathBuf>,
    /// The configuration [env: YESTER_CONFIG] [default: /etc/yester/config.toml]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) config: Option<PathBuf>,
    /// Answer with one JSON document
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Say more; twice for details
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
    /// Say nothing but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(super) quiet: bool,
    /// Log lines as text, or as one JSON object each
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value = "text")]
    pub(super) log_format: LogFormat,
    /// Memory for decoded frames
    #[arg(long, global = true, value_name = "SIZE", value_parser = human::parse_bytes, default_value = CACHE_SIZE)]
    pub(super) cache_size: u64,
    /// Threads that compress, decode and hash [default: the number of cores]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(super) threads: Option<u16>,
    /// How hard zstd compresses what is written
    #[arg(long, global = true, value_name = "N", default_value_t = LEVEL,
          value_parser = clap::value_parser!(i32).range(1..=19))]
    pub(super) level: i32,
    #[command(flatten)]
    pub(super) network: NetworkArgs,
}

/// The global options of one run, and what follows from them.
pub(super) struct Context {
    global: GlobalArgs,
    folders: LocalFolders,
    config_file: ConfigFile,
    /// What that says, once somebody asked; nothing if there is none.
    config: OnceLock<Option<Config>>,
    /// The places that were opened, by where they are.
    opened: Mutex<Vec<(Location, Arc<dyn ObjectStore>)>>,
}

impl Context {
    /// Takes over the global options, and what the environment says where they are absent.
    pub(super) fn new(mut global: GlobalArgs) -> Result<Self, CommandError> {
        // Read here rather than by clap: an empty variable is none, and its usage messages name what was typed alone.
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        global.store = global.store.or_else(|| variable(STORE));
        let config_file = ConfigFile::find(global.config.take());
        Ok(Self {
            global,
            folders: local_folders()?,
            config_file,
            config: OnceLock::new(),
            opened: Mutex::default(),
        })
    }

    /// Returns where the configuration is, or would be.
    pub(super) fn config_path(&self) -> &Path {
        self.config_file.path()
    }

    /// Returns the options for what this command has others do: those that were typed.
    pub(super) fn options_of_workers(&self) -> Vec<OsString> {
        let GlobalArgs { key_file, cache_size, threads, level, network, .. } = &self.global;
        let usual_cache_size = human::parse_bytes(CACHE_SIZE).unwrap_or_default();
        let options = [
            ("--key-file", key_file.clone().map(OsString::from)),
            ("--cache-size", (*cache_size != usual_cache_size).then(|| cache_size.to_string().into())),
            ("--threads", threads.map(|number| number.to_string().into())),
            ("--level", (*level != LEVEL).then(|| level.to_string().into())),
        ];
        let options = options.into_iter().chain(network.typed());
        options.filter_map(|(name, value)| Some([OsString::from(name), value?])).flatten().collect()
    }

    /// Returns the configuration.
    pub(super) fn configuration(&self) -> Result<&Config, CommandError> {
        self.configuration_if_any()?.ok_or_else(|| {
            CommandError::usage(format!("there is no configuration at {}", self.config_path().display()))
                .hint("give --config FILE; docs/guide/configuration.md shows how to write one")
        })
    }

    /// Returns the host that configured backups belong to.
    pub(super) fn configured_host(&self) -> Result<String, CommandError> {
        self.configuration()?.host.clone().map_or_else(host_name, Ok)
    }

    /// Returns the configuration, if there is one.
    fn configuration_if_any(&self) -> Result<Option<&Config>, CommandError> {
        if let Some(config) = self.config.get() {
            return Ok(config.as_ref());
        }
        let config = self.config_file.read()?;
        Ok(self.config.get_or_init(|| config).as_ref())
    }

    /// Returns the place that a text on the command line means: that of a configured store, or as it says.
    pub(super) fn resolve(&self, text: &OsStr) -> Result<Location, CommandError> {
        // What is clearly a place needs no configuration, not even one that can be read.
        let is_name = text.to_str().is_some_and(|text| !text.contains('/'));
        if is_name
            && let Some(config) = self.configuration_if_any()?
            && let Some(store) = named_store(config, text)
        {
            return Ok(store.location.clone());
        }
        Ok(Location::parse(text)?)
    }

    /// Returns what the configuration says of the store at a place; nothing if there is none that can be read: who says
    /// all on the command line needs none.
    pub(super) fn configured(&self, location: &Location) -> Option<&StoreConfig> {
        self.configuration_if_any().ok().flatten().and_then(|config| store_at(config, location))
    }

    /// Tells whether the answer is to be JSON.
    pub(super) fn json(&self) -> bool {
        self.global.json
    }

    /// Tells whether people want to hear more.
    pub(super) fn verbose(&self) -> bool {
        self.global.verbose > 0
    }

    /// Returns the zstd level.
    pub(super) fn level(&self) -> i32 {
        self.global.level
    }

    /// Returns the number of worker threads, at least 1.
    pub(super) fn threads(&self) -> usize {
        self.global.threads.map_or_else(
            || std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            usize::from,
        )
    }

    /// Opens the place where a store is or is to be, once: whoever asks again gets the same connections.
    pub(super) fn open_place(&self, location: &Location) -> Result<Arc<dyn ObjectStore>, CommandError> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, store)) = opened.iter().find(|(place, _)| place == location) {
            return Ok(Arc::clone(store));
        }
        let network = self.configured(location).map(|store| &store.network);
        let store = self.global.network.open(location, network, &self.folders.state)?;
        opened.push((location.clone(), Arc::clone(&store)));
        Ok(store)
    }

    /// Returns what was asked for over the network so far; nothing if all that was opened are directories.
    pub(super) fn traffic(&self) -> Option<Traffic> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.iter().filter_map(|(_, store)| store.traffic()).reduce(|one, other| one + other)
    }

    /// Returns the number of threads that read a store, at least 1: more than decode at a time if it is so far away
    /// that most of them wait for it.
    pub(super) fn reading_threads(&self, repo: &Repository) -> usize {
        self.threads().max(repo.store().requests_at_once())
    }

    /// Returns this host's folders.
    pub(super) fn folders(&self) -> &LocalFolders {
        &self.folders
    }

    /// Returns the key file that was given, on the command line or by the environment.
    pub(super) fn key_file(&self) -> Option<PathBuf> {
        let variable = || std::env::var_os(KEY_FILE).filter(|value| !value.is_empty()).map(PathBuf::from);
        self.global.key_file.clone().or_else(variable)
    }

    /// Returns where the key of a new store comes from.
    pub(super) fn key_source(&self) -> KeySource {
        KeySource::find(self.key_file().as_deref())
    }

    /// Returns where the key of the store at a place comes from: what was typed counts before what is configured for
    /// it, and that before the environment, which may mean another store.
    pub(super) fn key_source_of(&self, location: &Location) -> KeySource {
        let configured = self.configured(location).and_then(|store| store.key.as_ref());
        match (&self.global.key_file, configured) {
            (None, Some(key)) => KeySource::of(key),
            _ => self.key_source(),
        }
    }

    /// Returns what the configuration keeps of each series of this host in the store at a place.
    pub(super) fn policies(
        &self,
        location: &Location,
    ) -> Result<BTreeMap<(String, String), Policy>, CommandError> {
        let config = self.configuration()?;
        let store = self.configured(location).ok_or_else(|| {
            CommandError::usage(format!("the configuration has no store at {location}"))
                .hint("give the name of one that it has, or say on the command line what is kept")
        })?;
        Ok(config.policies(store, &self.configured_host()?))
    }

    /// Returns the names of the configured stores that an ingest-only key opens.
    pub(super) fn ingest_only_stores(&self) -> Result<BTreeSet<String>, CommandError> {
        let stores = self.configuration()?.stores.iter();
        let chosen = stores.filter(|store| self.key_source_of(&store.location).is_ingest_only());
        Ok(chosen.map(|store| store.name.clone()).collect())
    }

    /// Returns where the store is.
    pub(super) fn location(&self) -> Result<Location, CommandError> {
        if let Some(text) = self.global.store.as_deref() {
            return self.resolve(text);
        }
        let first = self.configuration_if_any()?.and_then(Config::first_store);
        first.map(|store| store.location.clone()).ok_or_else(|| {
            CommandError::usage("no store was given")
                .hint(format!("give --store STORE, set {STORE}, or write a configuration"))
        })
    }

    /// Starts to show the progress of an operation.
    pub(super) fn reporter(&self) -> Reporter {
        Reporter::new(if self.global.quiet { Show::Nothing } else { Show::OnTerminal })
    }

    /// Writes a line for people, unless they want to hear nothing.
    pub(super) fn tell(&self, line: &str) {
        if !self.global.quiet {
            output::tell(line);
        }
    }

    /// Opens the store with the key that is configured, or asks for it. An ingest-only key is refused.
    pub(super) fn open(&self) -> Result<Repository, CommandError> {
        let repo = self.open_as_writer(None)?;
        repo.require_full()?;
        Ok(repo)
    }

    /// Opens the store as [`Self::open`] does, with an ingest-only key as well, and with a bound for local copies of
    /// recent packs.
    pub(super) fn open_as_writer(&self, base_cache_bytes: Option<u64>) -> Result<Repository, CommandError> {
        let location = self.location()?;
        let source = self.key_source_of(&location);
        let question = format!("passphrase of {location}");
        let mut ask = || source.credential(&question);
        self.open_asking(&location, source.configured().as_deref(), base_cache_bytes, &mut ask)
    }

    /// Opens the store as [`Self::open`] does, and returns what opened it; nothing for a store without encryption.
    pub(super) fn open_keeping_credential(&self) -> Result<(Repository, Option<Credential>), CommandError> {
        let location = self.location()?;
        let source = self.key_source_of(&location);
        let question = format!("passphrase of {location}");
        let mut kept = None;
        let mut ask = || source.credential(&question).inspect(|credential| kept = Some(credential.clone()));
        let repo = self.open_with(&location, source.configured().as_deref(), &mut ask)?;
        Ok((repo, kept))
    }

    /// Opens the store with full keys from `ask`; asks again where a person may have mistyped, that is, where no key
    /// is `configured`.
    pub(super) fn open_with(
        &self,
        location: &Location,
        configured: Option<&str>,
        ask: &mut dyn FnMut() -> Result<Credential, CommandError>,
    ) -> Result<Repository, CommandError> {
        let repo = self.open_asking(location, configured, None, ask)?;
        repo.require_full()?;
        Ok(repo)
    }

    fn open_asking(
        &self,
        location: &Location,
        configured: Option<&str>,
        base_cache_bytes: Option<u64>,
        ask: &mut dyn FnMut() -> Result<Credential, CommandError>,
    ) -> Result<Repository, CommandError> {
        let attempts = if configured.is_none() { PROMPT_ATTEMPTS } else { 1 };
        let mut attempt = 1;
        let repo = loop {
            let mut answered = false;
            let opened =
                self.try_open(location, base_cache_bytes, &mut || ask().inspect(|_| answered = true));
            match opened {
                // Where nobody could be asked, asking again is of no use.
                Err(error)
                    if error.kind() == ErrorKind::WrongKey
                        && attempt < attempts
                        && (answered || credentials::can_prompt()) =>
                {
                    attempt += 1;
                    output::tell("wrong passphrase, try again");
                }
                Err(error) if error.kind() == ErrorKind::WrongKey => {
                    let tried = configured.filter(|_| answered);
                    return Err(error.hints(tried.map(|configured| format!("this was tried: {configured}"))));
                }
                other => break other?,
            }
        };
        if let (Encryption::None, Some(configured)) = (repo.config().encryption, configured) {
            return Err(CommandError::message(
                ErrorKind::WrongKey,
                format!("the store at {location} is not encrypted, but {configured} is set"),
            )
            .hint("check that this is your store: a plain one may have been put in its place")
            .hint("to use a plain store, unset what is named above"));
        }
        Ok(repo)
    }

    /// Opens a store, with an ingest-only key as well; asks once.
    pub(super) fn try_open(
        &self,
        location: &Location,
        base_cache_bytes: Option<u64>,
        ask: &mut dyn FnMut() -> Result<Credential, CommandError>,
    ) -> Result<Repository, CommandError> {
        let store = self.open_place(location)?;
        let options = OpenOptions {
            folders: self.folders.clone(),
            host: host_name()?,
            cache_bytes: self.global.cache_size,
            base_cache_bytes,
        };
        let mut failed_to_ask = None;
        let opened = Repository::open(store, &options, &mut || match ask() {
            Ok(credential) => Ok(Some(credential)),
            Err(error) => {
                failed_to_ask = Some(error);
                Err(RepoError::NoCredential(location.to_string()))
            }
        });
        match (opened, failed_to_ask) {
            (Err(_), Some(error)) => Err(error),
            (Err(error @ RepoError::Store(_)), _) => {
                Err(CommandError::from(error).context(format!("cannot open the store at {location}")))
            }
            (opened, _) => opened.map_err(CommandError::from),
        }
    }
}

/// Returns the name of this machine.
pub(super) fn host_name() -> Result<String, CommandError> {
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy().into_owned();
    validate_label("host name", &name)?;
    Ok(name)
}

/// Checks a host name or tag: it names a directory of the mount and is shown on terminals.
pub(super) fn validate_label(what: &str, text: &str) -> Result<(), CommandError> {
    let plain = text.len() <= 255 && crate::path::escape(text.as_bytes()) == text;
    if plain && Name::new(text.as_bytes()).is_ok() {
        return Ok(());
    }
    Err(CommandError::usage(format!("{text:?} is not a valid {what}"))
        .hint("1 to 255 bytes without `/`, `\\` and control characters, and neither `.` nor `..`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_safe_as_directory_names() {
        for good in ["nightly", "before update 3", "münchen"] {
            assert!(validate_label("tag", good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a\nb", "a\u{202e}b", "a\\b"] {
            assert!(validate_label("tag", bad).is_err(), "{bad:?}");
        }
    }
}
