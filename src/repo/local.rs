//! What this host remembers outside the store: its writer id, and which store it saw at which place.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::RepoError;
use crate::format::config::Config;
use crate::id::WriterId;

#[derive(Serialize, Deserialize, PartialEq, Eq)]
struct Pin {
    location: String,
    domain: String,
    store: String,
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
                create_whole(&path, format!("{id}\n").as_bytes())
                    .map_err(|source| local("write", &path, source))?;
            }
            Err(source) => return Err(local("read", &path, source)),
        }
    }
    Err(local("read", &path, io::ErrorKind::NotFound.into()))
}

/// Checks that the store at `location` is the one this host saw there before, or remembers it.
pub(super) fn check_pin(state: &Path, location: &str, config: &Config) -> Result<(), RepoError> {
    let folder = state.join("pins");
    make_folder(&folder)?;
    let path = folder.join(format!("{}.json", blake3::hash(location.as_bytes()).to_hex()));
    let pin = Pin {
        location: location.to_owned(),
        domain: config.domain.to_string(),
        store: config.store.to_string(),
    };
    match fs::read(&path) {
        Ok(bytes) => {
            let seen: Pin = serde_json::from_slice(&bytes)
                .map_err(|error| local("use", &path, io::Error::new(io::ErrorKind::InvalidData, error)))?;
            if seen == pin { Ok(()) } else { Err(replaced(location, &path)) }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let bytes =
                serde_json::to_vec_pretty(&pin).map_err(|error| local("write", &path, error.into()))?;
            create_whole(&path, &bytes).map_err(|source| local("write", &path, source))
        }
        Err(source) => Err(local("read", &path, source)),
    }
}

/// Describes a failure with a local file.
pub(super) fn local(operation: &'static str, path: &Path, source: io::Error) -> RepoError {
    RepoError::Local { operation, path: path.display().to_string(), source }
}

fn replaced(location: &str, pin: &Path) -> RepoError {
    RepoError::Replaced { location: location.to_owned(), pin: pin.display().to_string() }
}

/// Creates a file that is seen whole or not at all; one that is there already stays.
fn create_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.error),
    }
}
