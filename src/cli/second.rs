//! The second store of a command: where its key comes from, and how one is created that is like the first.

use std::path::PathBuf;

use super::context::Context;
use super::credentials::{self, KeySource};
use super::exit::{CommandError, ErrorKind};
use super::output;
use super::place::{create_place, refuse_used_directory};
use crate::crypto::slot::Credential;
use crate::repo::open::absent;
use crate::repo::{RepoError, Repository};
use crate::store::location::Location;

/// How often a person may mistype the passphrase.
const PROMPT_ATTEMPTS: usize = 3;

/// How the key of the second store was given.
pub(super) struct SecondKey<'a> {
    /// The option that gives a key file, and what it gave.
    pub(super) key_file: (&'static str, Option<&'a PathBuf>),
    /// The option that gives a file with a passphrase, and what it gave.
    pub(super) passphrase_file: (&'static str, Option<&'a PathBuf>),
}

impl SecondKey<'_> {
    /// Returns where the key comes from that is said for this store, on the command line or in the configuration.
    fn source(&self, context: &Context, location: &Location) -> Option<KeySource> {
        let key_file = self.key_file.1.cloned().map(KeySource::KeyFile);
        let given = key_file.or_else(|| self.passphrase_file.1.cloned().map(KeySource::File));
        given.or_else(|| context.configured(location)?.key.as_ref().map(KeySource::of))
    }

    fn hint(&self) -> String {
        format!(
            "the key of the first store was tried; if this one has another, give {} or {}",
            self.key_file.0, self.passphrase_file.0
        )
    }
}

/// Opens the second store: with the key that was given for it, else with that of the first store, else with what a
/// person types.
pub(super) fn open(
    context: &Context,
    location: &Location,
    key: &SecondKey<'_>,
    first: Option<&Credential>,
) -> Result<Repository, CommandError> {
    let repo = match (key.source(context, location), first) {
        (Some(source), _) => {
            let question = format!("passphrase of {location}");
            context.try_open(location, None, &mut || source.credential(&question))?
        }
        (None, Some(first)) => match context.try_open(location, None, &mut || Ok(first.clone())) {
            Err(error) if error.kind() == ErrorKind::WrongKey && credentials::can_prompt() => {
                ask(context, location)?
            }
            Err(error) if error.kind() == ErrorKind::WrongKey => return Err(error.hint(key.hint())),
            opened => opened?,
        },
        (None, None) => ask(context, location)?,
    };
    repo.require_full()?;
    Ok(repo)
}

fn ask(context: &Context, location: &Location) -> Result<Repository, CommandError> {
    let question = format!("passphrase of {location}");
    let mut attempt = 1;
    loop {
        let opened = context.try_open(location, None, &mut || KeySource::Prompt.credential(&question));
        match opened {
            Err(error)
                if error.kind() == ErrorKind::WrongKey
                    && attempt < PROMPT_ATTEMPTS
                    && credentials::can_prompt() =>
            {
                attempt += 1;
                output::tell("wrong passphrase, try again");
            }
            opened => return opened,
        }
    }
}

/// Refuses to create a store where this host saw one before: its disk may not be mounted, and what would be written
/// there would lie below the mount point.
pub(super) fn require_unseen(context: &Context, location: &Location) -> Result<(), CommandError> {
    match absent(&context.folders().state, &location.to_string())? {
        RepoError::NoStore(_) => Ok(()),
        seen => Err(seen.into()),
    }
}

/// Creates a store in an empty place that is opened by what opens `like`.
pub(super) fn create_like(
    context: &Context,
    location: &Location,
    like: &Repository,
) -> Result<(), CommandError> {
    refuse_used_directory(location)?;
    let store = create_place(context, location)?;
    like.create_like(store.as_ref())?;
    context.tell(&format!("created a store at {location}: what opens {} opens it", like.store().location()));
    Ok(())
}
