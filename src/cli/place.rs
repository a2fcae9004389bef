//! Where a new store is to be: the directory that is made for it.

use std::sync::Arc;

use super::context::Context;
use super::exit::{CommandError, ErrorKind};
use crate::store::local::LocalStore;
use crate::store::location::Location;
use crate::store::{ObjectStore, StoreErrorKind};

/// Makes the directory of a store; a bucket must be there.
pub(super) fn create_place(
    context: &Context,
    location: &Location,
) -> Result<Arc<dyn ObjectStore>, CommandError> {
    let Location::Directory(path) = location else { return context.open_place(location) };
    match LocalStore::create(path) {
        Ok(store) => Ok(Arc::new(store)),
        Err(error) if error.kind() == StoreErrorKind::NotFound => {
            Err(CommandError::new(ErrorKind::Failed, error).hint("its parent directory must exist"))
        }
        Err(error) => Err(error.into()),
    }
}

/// A store does not share its directory. What an `init` that broke off left behind is no obstacle.
pub(super) fn refuse_used_directory(location: &Location) -> Result<(), CommandError> {
    let Some(path) = location.directory() else { return Ok(()) };
    let Ok(entries) = std::fs::read_dir(path) else { return Ok(()) };
    let ours = ["config", "keys", "tmp", "lost+found"];
    let stranger =
        entries.flatten().map(|entry| entry.file_name()).find(|name| !ours.iter().any(|own| name == own));
    // Where there is a store already, the library says so.
    if stranger.is_none() || path.join("config").is_dir() {
        return Ok(());
    }
    Err(CommandError::message(
        ErrorKind::Failed,
        format!("cannot create a store at {location}: the directory is not empty"),
    )
    .hint("choose a new or an empty directory"))
}
