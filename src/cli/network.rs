//! Options for stores over a network, and how a place becomes a store.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use jiff::SignedDuration;

use super::exit::CommandError;
use crate::human;
use crate::jobs::config::Network;
use crate::repo::open::absent;
use crate::store::ahead::ReadAhead;
use crate::store::local::LocalStore;
use crate::store::location::Location;
use crate::store::retry::Patience;
use crate::store::s3::{self, S3Options, S3Store, ServerSideEncryption};
use crate::store::{ObjectStore, StoreErrorKind};

/// Options for stores over a network; a directory takes no notice of them.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Stores over a network")]
pub(super) struct NetworkArgs {
    /// Requests under way at the same time [default: 8]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(super) connections: Option<u16>,
    /// Send at most so many bytes a second
    #[arg(long, global = true, value_name = "SIZE", value_parser = human::parse_bytes)]
    limit_upload: Option<u64>,
    /// Receive at most so many bytes a second
    #[arg(long, global = true, value_name = "SIZE", value_parser = human::parse_bytes)]
    limit_download: Option<u64>,
    /// How long to try again what fails or hangs [default: 2m]
    #[arg(long, global = true, value_name = "TIME", value_parser = human::parse_duration)]
    store_timeout: Option<SignedDuration>,
    /// Storage class of packs in S3, such as STANDARD_IA
    #[arg(long, global = true, value_name = "CLASS", value_parser = s3::parse_storage_class)]
    storage_class: Option<String>,
    /// How S3 encrypts objects, which are sealed anyway: AES256, aws:kms, or aws:kms:KEY
    #[arg(long, global = true, value_name = "HOW")]
    sse: Option<ServerSideEncryption>,
}

impl NetworkArgs {
    /// Opens the place where a store is or is to be; what is not said here is as `configured`.
    /// What `state` remembers is told where there is none.
    pub(super) fn open(
        &self,
        location: &Location,
        configured: Option<&Network>,
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
                let options = self.s3_options(&configured.cloned().unwrap_or_default());
                let store = Arc::new(S3Store::connect(place.clone(), options)?);
                let ahead = ReadAhead::new(store)
                    .map_err(|source| CommandError::io(format!("cannot read from {location}"), source))?;
                Ok(Arc::new(ahead))
            }
        }
    }

    /// Returns the options that were typed, as they can be typed again.
    pub(super) fn typed(&self) -> [(&'static str, Option<OsString>); 6] {
        let number = |number: Option<u64>| number.map(|number| number.to_string().into());
        [
            ("--connections", number(self.connections.map(u64::from))),
            ("--limit-upload", number(self.limit_upload)),
            ("--limit-download", number(self.limit_download)),
            ("--store-timeout", self.store_timeout.map(|time| format!("{}s", time.as_secs()).into())),
            ("--storage-class", self.storage_class.clone().map(OsString::from)),
            ("--sse", self.sse.as_ref().map(|how| how.to_string().into())),
        ]
    }

    fn s3_options(&self, configured: &Network) -> S3Options {
        let usual = S3Options::default();
        let timeout = self.store_timeout.or(configured.timeout);
        S3Options {
            connections: self.connections.or(configured.connections).map_or(usual.connections, usize::from),
            upload_limit: self.limit_upload.or(configured.limit_upload),
            download_limit: self.limit_download.or(configured.limit_download),
            patience: timeout.map_or(usual.patience, |timeout| {
                Patience::new(Duration::try_from(timeout).unwrap_or_default())
            }),
            storage_class: self.storage_class.clone().or_else(|| configured.storage_class.clone()),
            encryption: self.sse.clone().or_else(|| configured.sse.clone()),
            access: configured.access.clone(),
        }
    }
}
