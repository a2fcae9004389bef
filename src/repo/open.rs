//! Creating and opening a store: its config, its pin, and the local folders.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

use super::base_cache::BaseCache;
use super::cache::DecodedCache;
use super::feed::Feed;
use super::frames::FrameReader;
use super::index_objects::IndexObjects;
use super::readers::Readers;
use super::{RepoError, Repository, get_small, local, slots};
use crate::chunker::{ChunkerParams, ChunkerSetup};
use crate::crypto::CryptoError;
use crate::crypto::secrets::{DomainKeys, RootSecret, Writer, WriterClass};
use crate::crypto::slot::{Argon2Params, Credential, FileKey, WrappedRoot};
use crate::format::FormatError;
use crate::format::config::{CONFIG_MAX_BYTES, Config, Encryption, FORMAT_VERSION};
use crate::format::keys::SlotKind;
use crate::id::{DomainId, SlotId, StoreId};
use crate::index::Index;
use crate::store::key::{ObjectKey, Prefix};
use crate::store::{Creation, ObjectStore, Payload, probe};

/// Where this host keeps what it knows of stores.
#[derive(Debug, Clone)]
pub struct LocalFolders {
    /// Indexes and spools; may be deleted at any time.
    pub cache: PathBuf,
    /// Pins, the writer id, the journal.
    pub state: PathBuf,
}

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Local folders.
    pub folders: LocalFolders,
    /// Name of this host as a writer, unless an ingest-only key says it.
    pub host: String,
    /// Bound of the cache of decoded frames.
    pub cache_bytes: u64,
    /// Bound of the local copies of recent packs that deltas are based on; nothing for a store that is as near.
    pub base_cache_bytes: Option<u64>,
}

/// How a store is created.
pub struct CreateOptions {
    /// What opens it; none makes a store without encryption.
    pub credentials: Vec<Credential>,
    /// Chunk sizes.
    pub chunker: ChunkerParams,
}

impl Repository {
    /// Creates a store in an empty place, and returns the recovery key of an encrypted one.
    ///
    /// The config object comes last: before it is there, there is no store.
    ///
    /// # Errors
    /// [`RepoError::StoreExists`] if there is one already.
    pub fn create(store: &dyn ObjectStore, options: &CreateOptions) -> Result<Option<FileKey>, RepoError> {
        if latest_config(store)?.is_some() {
            return Err(RepoError::StoreExists(store.location()));
        }
        let encrypted = !options.credentials.is_empty();
        let root = if encrypted { RootSecret::random()? } else { RootSecret::public() };
        let domain = DomainId::random()?;
        let keys = DomainKeys::full(&root, domain)?;
        let mut recovery = None;
        if encrypted {
            for credential in &options.credentials {
                let kind = match credential {
                    Credential::Passphrase(_) => SlotKind::Passphrase,
                    Credential::FileKey(_) => SlotKind::KeyFile,
                    Credential::IngestOnly(_) => return Err(CryptoError::IngestOnly.into()),
                };
                slots::create(
                    store,
                    domain,
                    kind,
                    WrappedRoot::wrap(&root, domain, credential, Argon2Params::DEFAULT)?,
                )?;
            }
            let key = FileKey::random()?;
            let credential = Credential::FileKey(key.clone());
            let wrapped = WrappedRoot::wrap(&root, domain, &credential, Argon2Params::DEFAULT)?;
            slots::create(store, domain, SlotKind::Recovery, wrapped)?;
            recovery = Some(key);
        }
        let config = Config {
            version: FORMAT_VERSION,
            domain,
            store: StoreId::random()?,
            encryption: if encrypted { Encryption::Sealed } else { Encryption::None },
            chunker: options.chunker,
            read_features: Vec::new(),
            write_features: Vec::new(),
            collect_features: Vec::new(),
            created: Timestamp::now(),
        };
        put_config(store, &config, &keys)?;
        Ok(recovery)
    }

    /// Creates a store of the same domain in an empty place: whatever opens this store opens the new one, and packs are
    /// copied between the two as they are. Key slots are copied, and an ingest-only key works in both.
    ///
    /// # Errors
    /// [`RepoError::StoreExists`] if there is one already, [`RepoError::IngestOnly`] without full keys,
    /// [`RepoError::NoKeySlot`] if no slot of this store can be read.
    pub fn create_like(&self, store: &dyn ObjectStore) -> Result<(), RepoError> {
        self.require_full()?;
        if latest_config(store)?.is_some() {
            return Err(RepoError::StoreExists(store.location()));
        }
        if self.config.encryption == Encryption::Sealed {
            slots::copy_all(self.store.as_ref(), self.config.domain, store)?;
        }
        let config = Config { store: StoreId::random()?, created: Timestamp::now(), ..self.config.clone() };
        put_config(store, &config, &self.keys)
    }

    /// Opens a store. `credential` is asked only if the store is encrypted.
    ///
    /// # Errors
    /// [`RepoError::NoStore`], [`RepoError::NotMounted`], [`RepoError::WrongKey`], [`RepoError::TooNew`] and [`RepoError::Replaced`] say what
    /// they are called; anything else is a failure of the store or of a local folder.
    pub fn open(
        store: Arc<dyn ObjectStore>,
        options: &OpenOptions,
        credential: &mut dyn FnMut() -> Result<Option<Credential>, RepoError>,
    ) -> Result<Self, RepoError> {
        let location = store.location();
        let Some((number, length)) = latest_config(store.as_ref())? else {
            return Err(absent(&options.folders.state, &location)?);
        };
        let bytes = get_small(store.as_ref(), &ObjectKey::config(number), length, CONFIG_MAX_BYTES)?;
        let claimed =
            Config::decode_unverified(&bytes).map_err(|error| config_error(&location, number, error))?;
        let (keys, slot) = match claimed.encryption {
            Encryption::None => (DomainKeys::full(&RootSecret::public(), claimed.domain)?, None),
            Encryption::Sealed => {
                let credential = credential()?.ok_or_else(|| RepoError::NoCredential(location.clone()))?;
                keys_of(store.as_ref(), claimed.domain, &credential)?
            }
        };
        let config = Config::open(&keys, &bytes).map_err(|error| config_error(&location, number, error))?;
        config.require_readable().map_err(|error| config_error(&location, number, error))?;
        local::check_pin(&options.folders.state, &location, &config)?;
        let writer = match keys.ingest_writer() {
            Some(writer) => writer.clone(),
            None => Writer {
                class: WriterClass::Full,
                host: options.host.clone(),
                id: local::writer_id(&options.folders.state)?,
            },
        };
        let chunker = ChunkerSetup::new(config.chunker, keys.chunker_seed()).map_err(|error| {
            config_error(&location, number, FormatError::malformed("the config", error.to_string()))
        })?;
        let cache = options.folders.cache.join(cache_name(&config, &keys));
        let spool = cache.join("spool");
        local::make_folder(&spool)?;
        let index = Arc::new(Index::open(&cache.join("index.sqlite"), config.store, &keys)?);
        if index.was_rebuilt() {
            tracing::info!("the local index could not be used and is made anew");
        }
        let bases = match options.base_cache_bytes {
            Some(bytes) => Some(BaseCache::open(&cache.join("bases"), bytes)?),
            None => None,
        };
        let frames = Arc::new(FrameReader {
            store: Arc::clone(&store),
            index: Arc::clone(&index),
            ids: keys.ids().clone(),
            buffers: Arc::default(),
            decoded: DecodedCache::new(options.cache_bytes),
            bases,
            suspects: Mutex::default(),
        });
        let readers = Readers::new(options.folders.state.join("readers").join(config.store.to_string()));
        let chunker = Arc::new(chunker);
        let index_objects = IndexObjects::new(Arc::clone(&store), keys.clone(), Arc::clone(&index));
        let index_objects = Arc::new(index_objects);
        let feed = Feed::new(Arc::clone(&index_objects));
        Ok(Self {
            store,
            config,
            keys,
            slot,
            writer,
            chunker,
            index,
            index_objects,
            feed,
            frames,
            readers,
            spool,
        })
    }
}

/// Writes the first config object, which makes a store of a place.
fn put_config(store: &dyn ObjectStore, config: &Config, keys: &DomainKeys) -> Result<(), RepoError> {
    let bytes = config
        .seal(keys)
        .map_err(|source| RepoError::Encode { object: "the config object".to_owned(), source })?;
    if !probe::conditional_create(store)? {
        tracing::warn!(
            "{} lets several writers create the same object: backups work, but never collect garbage \
             while another host may write",
            store.location()
        );
    }
    match store.create(&ObjectKey::config(1), Payload::Bytes(&bytes))? {
        Creation::Created => Ok(()),
        Creation::AlreadyExists => Err(RepoError::StoreExists(store.location())),
    }
}

/// Says that there is no store at a place; and which one was there before, if this host remembers one.
///
/// # Errors
/// Fails if what this host remembers cannot be read.
pub fn absent(state: &Path, location: &str) -> Result<RepoError, RepoError> {
    Ok(match local::seen(state, location)? {
        None => RepoError::NoStore(location.to_owned()),
        Some((store, pin)) => RepoError::NotMounted { location: location.to_owned(), store, pin },
    })
}

/// Returns the keys that a credential gives, and the slot that it opens.
fn keys_of(
    store: &dyn ObjectStore,
    domain: DomainId,
    credential: &Credential,
) -> Result<(DomainKeys, Option<SlotId>), RepoError> {
    if let Credential::IngestOnly(keys) = credential {
        return if keys.domain() == domain {
            Ok((keys.clone(), None))
        } else {
            Err(RepoError::OtherDomain(store.location()))
        };
    }
    let (slot, root) = slots::unlock(store, domain, credential)?;
    Ok((DomainKeys::full(&root, domain)?, Some(slot)))
}

/// Returns the name of the folder for what this host knows of a store. What an ingest-only key wrote is known there
/// alone, so that a full key that is used on the same host, as for a restore, has a folder of its own.
fn cache_name(config: &Config, keys: &DomainKeys) -> String {
    match keys.ingest_writer() {
        None => config.store.to_string(),
        Some(writer) => format!("{}-{}", config.store, writer.id),
    }
}

/// Returns the config object with the highest number, and its length; nothing where there is no store.
fn latest_config(store: &dyn ObjectStore) -> Result<Option<(u32, Option<u64>)>, RepoError> {
    let mut latest = None;
    store.list(Prefix::Config, &mut |object| {
        latest = latest.max(object.key.as_config().map(|number| (number, object.bytes)));
    })?;
    Ok(latest)
}

fn config_error(location: &str, number: u32, source: FormatError) -> RepoError {
    match source {
        FormatError::TooNew { .. } => RepoError::TooNew { location: location.to_owned(), source },
        other => RepoError::Damaged { object: ObjectKey::config(number).to_string(), source: Some(other) },
    }
}
