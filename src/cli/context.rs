//! What every command shares: the global options, and how the store is opened.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use clap::{Args, ValueEnum, ValueHint};

use super::credentials::{self, KeySource};
use super::exit::{CommandError, ErrorKind};
use super::folders::local_folders;
use super::network::NetworkArgs;
use super::output;
use super::progress::{Reporter, Show};
use crate::crypto::slot::Credential;
use crate::format::config::Encryption;
use crate::human;
use crate::path::Name;
use crate::repo::open::{LocalFolders, OpenOptions};
use crate::repo::{RepoError, Repository};
use crate::store::ObjectStore;
use crate::store::location::Location;
use crate::store::traffic::Traffic;

/// The variables that stand for the two options that every run needs.
const STORE: &str = "YESTER_STORE";
const KEY_FILE: &str = "YESTER_KEY_FILE";

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
    /// The store: a directory, or s3://BUCKET/PREFIX [env: YESTER_STORE]
    #[arg(long, global = true, value_name = "STORE", value_hint = ValueHint::DirPath)]
    pub(super) store: Option<OsString>,
    /// Open the store with the key in this file [env: YESTER_KEY_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) key_file: Option<PathBuf>,
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
    #[arg(long, global = true, value_name = "SIZE", value_parser = human::parse_bytes, default_value = "48M")]
    pub(super) cache_size: u64,
    /// Threads that compress, decode and hash [default: the number of cores]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(super) threads: Option<u16>,
    /// How hard zstd compresses what is written
    #[arg(long, global = true, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(i32).range(1..=19))]
    pub(super) level: i32,
    #[command(flatten)]
    pub(super) network: NetworkArgs,
}

/// The global options of one run, and what follows from them.
pub(super) struct Context {
    global: GlobalArgs,
    folders: LocalFolders,
    /// The places that were opened, by where they are.
    opened: Mutex<Vec<(Location, Arc<dyn ObjectStore>)>>,
}

impl Context {
    /// Takes over the global options, and what the environment says where they are absent.
    pub(super) fn new(mut global: GlobalArgs) -> Result<Self, CommandError> {
        // Read here rather than by clap: an empty variable is none, and its usage messages name what was typed alone.
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        global.store = global.store.or_else(|| variable(STORE));
        global.key_file = global.key_file.or_else(|| variable(KEY_FILE).map(PathBuf::from));
        Ok(Self { global, folders: local_folders()?, opened: Mutex::default() })
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
        let store = self.global.network.open(location, &self.folders.state)?;
        opened.push((location.clone(), Arc::clone(&store)));
        Ok(store)
    }

    /// Returns what was asked for over the network so far; nothing if all that was opened are directories.
    pub(super) fn traffic(&self) -> Option<Traffic> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.iter().filter_map(|(_, store)| store.traffic()).reduce(|one, other| one + other)
    }

    /// Returns the number of threads that read a store, at least 1: more than decode at a time if it is so far away that
    /// most of them wait for it.
    pub(super) fn reading_threads(&self, repo: &Repository) -> usize {
        self.threads().max(repo.store().requests_at_once())
    }

    /// Returns this host's folders.
    pub(super) fn folders(&self) -> &LocalFolders {
        &self.folders
    }

    /// Returns the key file that was given.
    pub(super) fn key_file(&self) -> Option<&std::path::Path> {
        self.global.key_file.as_deref()
    }

    /// Returns where the key comes from.
    pub(super) fn key_source(&self) -> KeySource {
        KeySource::find(self.key_file())
    }

    /// Returns where the store is.
    pub(super) fn location(&self) -> Result<Location, CommandError> {
        let text = self.global.store.as_deref().ok_or_else(|| {
            CommandError::usage("no store was given").hint(format!("give --store STORE or set {STORE}"))
        })?;
        Ok(Location::parse(text)?)
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
        let source = self.key_source();
        let question = format!("passphrase of {location}");
        let mut ask = || source.credential(&question);
        self.open_asking(&location, source.configured().as_deref(), base_cache_bytes, &mut ask)
    }

    /// Opens the store as [`Self::open`] does, and returns what opened it; nothing for a store without encryption.
    pub(super) fn open_keeping_credential(&self) -> Result<(Repository, Option<Credential>), CommandError> {
        let location = self.location()?;
        let source = self.key_source();
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
