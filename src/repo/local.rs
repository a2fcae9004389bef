//! What this host remembers outside the store: its writer id, and which store it saw at which place.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::RepoError;
use crate::format::config::{Config, Encryption};
use crate::id::WriterId;

/// Name of the folder of pins in the state folder.
const PINS: &str = "pins";

/// Which stores this host saw at a place. All are of one domain.
#[derive(Serialize, Deserialize)]
struct Pin {
    location: String,
    domain: String,
    /// The first one.
    store: String,
    /// Those that took turns with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    others: Vec<String>,
}

impl Pin {
    fn stores(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.store).chain(&self.others)
    }
}

/// What becomes of a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Existing {
    Keep,
    Replace,
}

/// Makes a private folder and those above it.
pub(super) fn make_folder(path: &Path) -> Result<(), RepoError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| local("create the folder", path, source))
}

/// Returns the id under which this installation writes, drawing it at first use.
pub(super) fn writer_id(state: &Path) -> Result<WriterId, RepoError> {
    let path = state.join("writer-id");
    make_folder(state)?;
    // A second process may draw one at the same moment; whoever is first decides.
    for _ in 0..2 {
        match fs::read_to_string(&path) {
            Ok(text) => {
                return text
                    .trim()
                    .parse()
                    .map_err(|error| local("use", &path, io::Error::new(io::ErrorKind::InvalidData, error)));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let id = WriterId::random()?;
                write_whole(&path, format!("{id}\n").as_bytes(), Existing::Keep)
                    .map_err(|source| local("write", &path, source))?;
            }
            Err(source) => return Err(local("read", &path, source)),
        }
    }
    Err(local("read", &path, io::ErrorKind::NotFound.into()))
}

/// Checks that the store at `location` is one that this host saw there before, or remembers it.
///
/// Disks may take turns at one place: another store of the same domain is taken in, and told, where the domain's keys have
/// proven that it is one. The keys of a store without encryption are known to everybody, and prove nothing.
pub(super) fn check_pin(state: &Path, location: &str, config: &Config) -> Result<(), RepoError> {
    make_folder(&state.join(PINS))?;
    let path = pin_path(state, location);
    let (domain, store) = (config.domain.to_string(), config.store.to_string());
    match read_pin(&path)? {
        Some(seen) if seen.location != location || seen.domain != domain => Err(replaced(location, &path)),
        Some(seen) if seen.stores().any(|known| *known == store) => Ok(()),
        Some(_) if config.encryption == Encryption::None => Err(replaced(location, &path)),
        Some(mut seen) => {
            let before = seen.stores().map(String::as_str).collect::<Vec<_>>().join(", ");
            tracing::warn!(
                "store {store} is at {location}, where store {before} was seen before; both are of the same domain"
            );
            seen.others.push(store);
            write_pin(&path, &seen, Existing::Replace)
        }
        None => {
            let pin = Pin { location: location.to_owned(), domain, store, others: Vec::new() };
            write_pin(&path, &pin, Existing::Keep)
        }
    }
}

/// Returns the stores that were seen at a place, for people, and the file that remembers them.
pub(super) fn seen(state: &Path, location: &str) -> Result<Option<(String, String)>, RepoError> {
    let path = pin_path(state, location);
    let describe = |pin: Pin| {
        let stores = pin.stores().map(String::as_str).collect::<Vec<_>>().join(", ");
        (stores, path.display().to_string())
    };
    Ok(read_pin(&path)?.map(describe))
}

fn pin_path(state: &Path, location: &str) -> PathBuf {
    state.join(PINS).join(format!("{}.json", blake3::hash(location.as_bytes()).to_hex()))
}

fn read_pin(path: &Path) -> Result<Option<Pin>, RepoError> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| local("use", path, io::Error::new(io::ErrorKind::InvalidData, error))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(local("read", path, source)),
    }
}

fn write_pin(path: &Path, pin: &Pin, existing: Existing) -> Result<(), RepoError> {
    let bytes = serde_json::to_vec_pretty(pin).map_err(|error| local("write", path, error.into()))?;
    write_whole(path, &bytes, existing).map_err(|source| local("write", path, source))
}

/// Describes a failure with a local file.
pub(super) fn local(operation: &'static str, path: &Path, source: io::Error) -> RepoError {
    RepoError::Local { operation, path: path.display().to_string(), source }
}

fn replaced(location: &str, pin: &Path) -> RepoError {
    RepoError::Replaced { location: location.to_owned(), pin: pin.display().to_string() }
}

/// Writes a file that is seen whole or not at all.
fn write_whole(path: &Path, bytes: &[u8], existing: Existing) -> io::Result<()> {
    let folder = path.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    let written = match existing {
        Existing::Keep => file.persist_noclobber(path),
        Existing::Replace => file.persist(path),
    };
    match written {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunker::ChunkerParams;
    use crate::id::{DomainId, StoreId};

    fn config(domain: u8, store: u8, encryption: Encryption) -> Config {
        Config {
            version: 1,
            domain: DomainId::from_bytes([domain; 16]),
            store: StoreId::from_bytes([store; 16]),
            encryption,
            chunker: ChunkerParams::DEFAULT,
            read_features: Vec::new(),
            write_features: Vec::new(),
            collect_features: Vec::new(),
            created: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn stores_of_one_domain_take_turns_and_no_others() {
        let state = tempfile::tempdir().unwrap();
        let check = |config: &Config| check_pin(state.path(), "/mnt/disk", config);
        assert!(seen(state.path(), "/mnt/disk").unwrap().is_none());
        for store in [1, 2, 3, 1, 2] {
            check(&config(7, store, Encryption::Sealed)).unwrap();
        }
        let (stores, pin) = seen(state.path(), "/mnt/disk").unwrap().unwrap();
        assert_eq!(stores.split(", ").count(), 3, "{stores}");
        assert!(Path::new(&pin).is_file());
        let refused = check(&config(8, 1, Encryption::Sealed));
        assert!(matches!(refused, Err(RepoError::Replaced { .. })), "{refused:?}");
        assert!(seen(state.path(), "/mnt/other").unwrap().is_none());
    }

    /// Anybody can make a store without encryption that is said to be of any domain.
    #[test]
    fn a_plain_store_proves_nothing() {
        let state = tempfile::tempdir().unwrap();
        let check = |config: &Config| check_pin(state.path(), "/mnt/disk", config);
        check(&config(7, 1, Encryption::None)).unwrap();
        check(&config(7, 1, Encryption::None)).unwrap();
        let refused = check(&config(7, 2, Encryption::None));
        assert!(matches!(refused, Err(RepoError::Replaced { .. })), "{refused:?}");
    }

    #[test]
    fn what_older_programs_remembered_counts() {
        let state = tempfile::tempdir().unwrap();
        let sealed = config(7, 1, Encryption::Sealed);
        check_pin(state.path(), "/mnt/disk", &sealed).unwrap();
        let (_, pin) = seen(state.path(), "/mnt/disk").unwrap().unwrap();
        assert!(!fs::read_to_string(&pin).unwrap().contains("others"), "it is as they wrote it");
        check_pin(state.path(), "/mnt/disk", &sealed).unwrap();
    }
}
