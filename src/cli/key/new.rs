//! What a new key is: a passphrase that is asked for twice, a fresh key file, or a fresh recovery key.

use std::path::PathBuf;

use clap::Args;
use zeroize::Zeroizing;

use super::super::credentials::{self, KeySource};
use super::super::exit::{CommandError, ErrorKind};
use crate::crypto::slot::{Credential, FileKey};
use crate::format::keys::SlotKind;
use crate::repo::keys::KeyError;

/// What the new key is to be.
#[derive(Debug, Args)]
pub(super) struct NewKeyArgs {
    /// A passphrase: the first line of this file
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
    /// A key file, which is made and must not be there
    #[arg(long, value_name = "FILE", conflicts_with = "new_passphrase_file")]
    new_key_file: Option<PathBuf>,
    /// A recovery key, which is shown once
    #[arg(long, conflicts_with_all = ["new_passphrase_file", "new_key_file"])]
    recovery: bool,
}

impl NewKeyArgs {
    /// Tells whether a person is to be asked.
    pub(super) fn is_prompt(&self) -> bool {
        self.new_passphrase_file.is_none() && self.new_key_file.is_none() && !self.recovery
    }
}

/// A key that is to be added.
pub(super) enum NewKey {
    Passphrase(Credential),
    File(Credential, PathBuf),
    Recovery(Credential, FileKey),
}

impl NewKey {
    /// Makes the key; a key file is written before the store knows it.
    pub(super) fn make(args: &NewKeyArgs) -> Result<Self, CommandError> {
        if let Some(path) = &args.new_key_file {
            let key = credentials::create_key_file(path)?;
            return Ok(Self::File(Credential::FileKey(key), path.clone()));
        }
        if args.recovery {
            let key = FileKey::random().map_err(|source| CommandError::new(ErrorKind::Failed, source))?;
            return Ok(Self::Recovery(Credential::FileKey(key.clone()), key));
        }
        let passphrase = match &args.new_passphrase_file {
            Some(path) => KeySource::File(path.clone()).passphrase("new passphrase")?,
            None => credentials::prompt_twice("new passphrase")?,
        };
        if passphrase.is_empty() {
            return Err(CommandError::usage("the new passphrase is empty"));
        }
        Ok(Self::Passphrase(Credential::Passphrase(passphrase)))
    }

    /// Returns what it is for.
    pub(super) fn kind(&self) -> SlotKind {
        match self {
            Self::Passphrase(_) => SlotKind::Passphrase,
            Self::File(..) => SlotKind::KeyFile,
            Self::Recovery(..) => SlotKind::Recovery,
        }
    }

    /// Returns what opens the store with it.
    pub(super) fn credential(&self) -> &Credential {
        match self {
            Self::Passphrase(credential) | Self::File(credential, _) | Self::Recovery(credential, _) => {
                credential
            }
        }
    }

    /// Returns what people call it.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Passphrase(_) => "a passphrase".to_owned(),
            Self::File(_, path) => format!("the key file {}", path.display()),
            Self::Recovery(..) => "a recovery key".to_owned(),
        }
    }

    /// Returns the text that is shown only now.
    pub(super) fn text_to_show(&self) -> Option<Zeroizing<String>> {
        match self {
            Self::Recovery(_, key) => Some(key.to_text()),
            Self::Passphrase(_) | Self::File(..) => None,
        }
    }

    /// Removes a key file that opens nothing, where adding it failed.
    pub(super) fn undo_unless<T>(&self, added: Result<T, KeyError>) -> Result<T, CommandError> {
        if let (Self::File(_, path), Err(error)) = (self, &added)
            && !matches!(error, KeyError::OldStays { .. })
        {
            // It is fresh, and should it stay: it opens nothing.
            let _ = std::fs::remove_file(path);
        }
        added.map_err(CommandError::from)
    }
}
