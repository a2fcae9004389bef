//! Options for stores over a network, and how a place becomes a store.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use jiff::SignedDuration;

use super::exit::CommandError;
use crate::human;
use crate::repo::open::absent;
use crate::store::ahead::ReadAhead;
use crate::store::local::LocalStore;
use crate::store::location::Location;
use crate::store::retry::Patience;
use crate::store::s3::{S3Options, S3Store, ServerSideEncryption};
use crate::store::{ObjectStore, StoreErrorKind};

/// Options for stores over a network; a directory takes no notice of them.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Stores over a network")]
pub(super) struct NetworkArgs {
    /// Requests under way at the same time
    #[arg(long, global = true, value_name = "N", default_value_t = 8,
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(super) connections: u16,
    /// Send at most so many bytes a second
    #[arg(long, global = true, value_name = "SIZE", value_parser = human::parse_bytes)]
    limit_upload: Option<u64>,
    /// Receive at most so many bytes a second
    #[arg(long, global = true, value_name = "SIZE", value_parser = human::parse_bytes)]
    limit_download: Option<u64>,
    /// How long to try again what fails or hangs
    #[arg(long, global = true, value_name = "TIME", default_value = "2m", value_parser = human::parse_duration)]
    store_timeout: SignedDuration,
    /// Storage class of packs in S3, such as STANDARD_IA
    #[arg(long, global = true, value_name = "CLASS", value_parser = parse_storage_class)]
    storage_class: Option<String>,
    /// How S3 encrypts objects, which are sealed anyway: AES256, aws:kms, or aws:kms:KEY
    #[arg(long, global = true, value_name = "HOW")]
    sse: Option<Sse>,
}

/// `--sse` as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sse(ServerSideEncryption);

impl FromStr for Sse {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.strip_prefix("aws:kms:")) {
            ("AES256", _) => Ok(Self(ServerSideEncryption::S3)),
            ("aws:kms", _) => Ok(Self(ServerSideEncryption::Kms(None))),
            (_, Some(key)) if !key.is_empty() => Ok(Self(ServerSideEncryption::Kms(Some(key.to_owned())))),
            _ => Err("one of AES256, aws:kms and aws:kms:KEY"),
        }
    }
}

/// Refuses what could not be read when it is needed.
fn parse_storage_class(text: &str) -> Result<String, String> {
    let is_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    match text {
        "GLACIER" | "DEEP_ARCHIVE" => {
            Err("nothing can be read from an archive while a backup is needed; GLACIER_IR can be".to_owned())
        }
        "" => Err("it is empty".to_owned()),
        _ if text.bytes().all(is_name) => Ok(text.to_owned()),
        _ => Err("such as STANDARD_IA or GLACIER_IR".to_owned()),
    }
}

impl NetworkArgs {
    /// Opens the place where a store is or is to be.
    /// What `state` remembers is told where there is none.
    pub(super) fn open(
        &self,
        location: &Location,
        state: &Path,
    ) -> Result<Arc<dyn ObjectStore>, CommandError> {
        match location {
            Location::Directory(path) => match LocalStore::open(path) {
                Err(error) if error.kind() == StoreErrorKind::NotFound => {
                    Err(absent(state, &location.to_string())?.into())
                }
                opened => Ok(Arc::new(opened?)),
            },
            Location::S3(place) => {
                let store = Arc::new(S3Store::connect(place.clone(), self.s3_options())?);
                let ahead = ReadAhead::new(store)
                    .map_err(|source| CommandError::io(format!("cannot read from {location}"), source))?;
                Ok(Arc::new(ahead))
            }
        }
    }

    fn s3_options(&self) -> S3Options {
        S3Options {
            connections: self.connections.into(),
            upload_limit: self.limit_upload,
            download_limit: self.limit_download,
            patience: Patience::new(Duration::try_from(self.store_timeout).unwrap_or_default()),
            storage_class: self.storage_class.clone(),
            encryption: self.sse.clone().map(|Sse(how)| how),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encryption_is_named_as_aws_names_it() {
        let key = "arn:aws:kms:eu-central-1:1:key/2".to_owned();
        for (text, how) in [
            ("AES256", ServerSideEncryption::S3),
            ("aws:kms", ServerSideEncryption::Kms(None)),
            ("aws:kms:arn:aws:kms:eu-central-1:1:key/2", ServerSideEncryption::Kms(Some(key))),
        ] {
            assert_eq!(text.parse(), Ok(Sse(how)));
        }
        for text in ["", "aes", "aws:kms:"] {
            assert!(text.parse::<Sse>().is_err(), "{text}");
        }
    }

    #[test]
    fn archives_are_no_place_for_packs() {
        assert!(parse_storage_class("STANDARD_IA").is_ok());
        for text in ["GLACIER", "DEEP_ARCHIVE", "", "standard", "A B"] {
            assert!(parse_storage_class(text).is_err(), "{text}");
        }
    }
}
