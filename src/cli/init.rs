//! `yester init`: creates a store.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::context::Context;
use super::credentials::{self, KeySource};
use super::exit::{CommandError, ErrorKind};
use super::place::{create_place, refuse_used_directory};
use super::{output, second};
use crate::chunker::ChunkerParams;
use crate::crypto::slot::{Credential, FileKey};
use crate::human;
use crate::repo::open::{CreateOptions, absent};
use crate::repo::{RepoError, Repository};
use crate::store::key::Prefix;
use crate::store::location::Location;

/// Create a store
#[derive(Debug, Args)]
#[command(after_help = "\
Asks for a passphrase twice, or takes it from the environment, and prints a recovery key once.
With --key-file, that file opens the store too; it is made where there is none.

With --like, the new store gets the keys of another one: every passphrase, key file, recovery key
and ingest-only key of that one opens it, and `yester copy` copies packs between the two as they
are. The key that is given or asked for is then that of the other store.

Examples:
  yester init /srv/backup --key-file /root/yester.key
  yester init /mnt/disk/backup --like /srv/backup")]
pub(super) struct InitArgs {
    /// Where the store is to be: an empty or absent directory, or s3://BUCKET/PREFIX [default: --store]
    #[arg(value_name = "STORE")]
    place: Option<OsString>,
    /// Give it the keys of this store
    #[arg(long, value_name = "STORE", conflicts_with_all = ["no_encryption", "chunk_size"])]
    like: Option<OsString>,
    /// Make a new store where this host has seen another one, whose disk may not be mounted
    #[arg(long = "new")]
    is_new: bool,
    /// Let everyone read the store who can read its files
    #[arg(long)]
    no_encryption: bool,
    /// Average size of a chunk: a power of two from 4K to 1M
    #[arg(long, value_name = "SIZE", value_parser = parse_chunk_size, default_value = "256K")]
    chunk_size: u32,
}

/// Creates a store.
pub(super) fn run(context: &Context, args: InitArgs) -> Result<(), CommandError> {
    let location = match &args.place {
        Some(place) => context.resolve(place)?,
        None => context.location()?,
    };
    if let Some(like) = &args.like {
        return create_like(context, &location, &context.resolve(like)?);
    }
    refuse_used_directory(&location)?;
    let former = refuse_known_place(context, &location, &args)?;
    let key_file = match context.key_source_of(&location) {
        KeySource::KeyFile(path) if !path.exists() => Some(path),
        _ => None,
    };
    let credentials = if args.no_encryption {
        refuse_secrets(&context.key_source_of(&location))?
    } else {
        new_credentials(&context.key_source_of(&location))?
    };
    let store = create_place(context, &location)?;
    let options = CreateOptions { credentials, chunker: chunker_params(args.chunk_size) };
    let recovery = Repository::create(store.as_ref(), &options)?;
    if let Some(pin) = former {
        std::fs::remove_file(&pin)
            .map_err(|source| CommandError::io(format!("cannot remove {}", pin.display()), source))?;
    }
    context.tell(&format!("created a store at {location}"));
    if let Some(path) = key_file {
        context.tell(&format!("its key file is {}", path.display()));
    }
    match recovery {
        Some(key) => announce_recovery_key(context, &location, &key),
        None => {
            context.tell("it is NOT encrypted: whoever can read its files can read the backups");
            if context.json() { print_document(&location, None) } else { Ok(()) }
        }
    }
}

/// Creates a store with the keys of another one.
fn create_like(context: &Context, location: &Location, like: &Location) -> Result<(), CommandError> {
    let source = context.key_source_of(like);
    let question = format!("passphrase of {like}");
    let repo =
        context.open_with(like, source.configured().as_deref(), &mut || source.credential(&question))?;
    // Whoever asks for a new store may have put a new disk there, or not have mounted an old one.
    if let RepoError::NotMounted { store, .. } = absent(&context.folders().state, &location.to_string())? {
        output::tell(&format!(
            "this host saw store {store} at {location} before; a new one is created there"
        ));
    }
    second::create_like(context, location, &repo)?;
    if context.json() { print_document(location, None) } else { Ok(()) }
}

/// Refuses a place that has a store, before a key file is made for another one, and one where this host saw a store,
/// unless a new one is asked for; returns by what this host remembers that.
fn refuse_known_place(
    context: &Context,
    location: &Location,
    args: &InitArgs,
) -> Result<Option<PathBuf>, CommandError> {
    let place = match context.open_place(location) {
        Ok(place) => Some(place),
        Err(error) if error.kind() == ErrorKind::NoStore => None,
        Err(error) => return Err(error),
    };
    let mut has_store = false;
    if let Some(place) = place {
        place.list(Prefix::Config, &mut |_| has_store = true)?;
    }
    if has_store {
        return Err(RepoError::StoreExists(location.to_string()).into());
    }
    match absent(&context.folders().state, &location.to_string())? {
        RepoError::NotMounted { pin, .. } if args.is_new => Ok(Some(pin.into())),
        known @ RepoError::NotMounted { .. } => Err(known.into()),
        _ => Ok(None),
    }
}

fn announce_recovery_key(context: &Context, location: &Location, key: &FileKey) -> Result<(), CommandError> {
    let text = key.to_text();
    if context.json() {
        return print_document(location, Some(&text));
    }
    context.tell("");
    context.tell(
        "This recovery key opens the store if the passphrase or key file is lost. It is shown only now;",
    );
    context.tell(
        "keep it on paper or in a password manager, away from the store. Without passphrase, key file and",
    );
    context.tell("recovery key nobody can read the backups.");
    context.tell("");
    output::print(&format!("{}\n", text.as_str()))
}

fn print_document(location: &Location, recovery_key: Option<&str>) -> Result<(), CommandError> {
    output::print_json(&json!({ "store": location.to_string(), "recovery_key": recovery_key }))
}

fn refuse_secrets(source: &KeySource) -> Result<Vec<Credential>, CommandError> {
    match source.configured() {
        None => Ok(Vec::new()),
        Some(configured) => {
            Err(CommandError::usage(format!("--no-encryption was given, and {configured} as well"))
                .hint("a plain store is refused where a key is configured, so that nobody can put one in a store's place")
                .hint("leave out --key-file, and unset YESTER_KEY_FILE and YESTER_PASSPHRASE, …_FILE and …_COMMAND"))
        }
    }
}

/// Collects what is to open the new store: a passphrase, a key file, or both.
fn new_credentials(given: &KeySource) -> Result<Vec<Credential>, CommandError> {
    let mut credentials = Vec::new();
    let (key_file, source) = match given {
        KeySource::KeyFile(path) => (Some(path), KeySource::find(None)),
        other => (None, other.clone()),
    };
    match (&source, key_file) {
        // A machine that has a key file needs no passphrase; people without one are asked for it.
        (KeySource::Prompt, Some(_)) if !credentials::can_prompt() => {}
        (KeySource::Prompt, _) if !credentials::can_prompt() => return Err(no_secret()),
        (KeySource::Prompt, _) => credentials.extend(new_passphrase(key_file.is_some())?),
        _ => credentials.push(Credential::Passphrase(source.passphrase("passphrase")?)),
    }
    if let Some(path) = key_file {
        credentials.push(if path.exists() {
            credentials::read_key_file(path)?
        } else {
            Credential::FileKey(credentials::create_key_file(path)?)
        });
    }
    Ok(credentials)
}

fn no_secret() -> CommandError {
    let message = "a new store needs a passphrase or a key file, and there is no terminal to ask at";
    CommandError::message(ErrorKind::WrongKey, message)
        .hint("give --key-file FILE, which is made where there is none, or set YESTER_PASSPHRASE_FILE")
        .hint("or give --no-encryption, for a store that everyone may read who can read its files")
}

/// Asks for a new passphrase twice. An empty one is refused, or means none where a key file was given.
fn new_passphrase(has_key_file: bool) -> Result<Option<Credential>, CommandError> {
    let question =
        if has_key_file { "new passphrase (empty for none besides the key file)" } else { "new passphrase" };
    let passphrase = credentials::prompt_twice(question)?;
    if passphrase.is_empty() && has_key_file {
        return Ok(None);
    }
    if passphrase.is_empty() {
        return Err(CommandError::usage("the passphrase is empty")
            .hint("give one, or --no-encryption for a store that everyone may read"));
    }
    Ok(Some(Credential::Passphrase(passphrase)))
}

fn parse_chunk_size(text: &str) -> Result<u32, String> {
    let bytes = human::parse_bytes(text)?;
    u32::try_from(bytes)
        .ok()
        .filter(|bytes| bytes.is_power_of_two() && (4 << 10..=1 << 20).contains(bytes))
        .ok_or_else(|| "a power of two from 4K to 1M".to_owned())
}

/// A quarter of the average at least, four times it at most.
fn chunker_params(average_bytes: u32) -> ChunkerParams {
    ChunkerParams { min_bytes: average_bytes / 4, average_bytes, max_bytes: average_bytes.saturating_mul(4) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_chunk_size_is_that_of_the_format() {
        assert_eq!(chunker_params(parse_chunk_size("256K").unwrap()), ChunkerParams::DEFAULT);
        for bad in ["0", "100K", "2K", "2M", "x"] {
            assert!(parse_chunk_size(bad).is_err(), "{bad}");
        }
    }
}
