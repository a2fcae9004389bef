//! Where objects lie: the contract of a store, and its implementations.
//!
//! This file owns the contract, [`key`] the names of objects, [`local`], [`s3`] and [`memory`] the places that hold
//! them, [`location`] how people write where one is, [`probe`] the question whether a place keeps the part of the contract that collecting garbage rests on,
//! [`ahead`] fewer and larger requests to a distant place, and [`fault`] a wrapper for tests that fails as places fail.
//! What the bytes of an object mean is left to `format`, and when an object is created or deleted to `repo` and `ops`.

pub mod ahead;
#[cfg(test)]
mod conformance;
pub mod fault;
pub mod key;
pub mod local;
pub mod location;
pub mod memory;
pub mod probe;
pub mod retry;
mod runtime;
pub mod s3;
mod throttle;
pub mod traffic;

use std::fs::File;
use std::io;
use std::ops::Range;

use key::{ObjectKey, Prefix};
use traffic::Traffic;

/// A place that holds immutable objects, each created once under a key and never changed.
///
/// What follows holds for every implementation, between threads, processes and hosts alike; the conformance
/// suite checks it, and the layers above rely on nothing else.
///
/// - **Durable.** Once [`create`](Self::create) has returned `Ok`, with either [`Creation`], the object under
///   that key survives a loss of power. Once [`delete`](Self::delete) has returned `Ok`, the object stays gone.
///   Whatever a finished [`list`](Self::list) has shown is durable before any object that the same store creates
///   later becomes visible: nobody can build on an object that a power loss takes back.
/// - **All or nothing.** Readers and listings see the whole object, or none. A failed `create` leaves either,
///   never a part, and nothing that a listing shows; the caller that must know reads the key back.
/// - **Create-once.** `create` never overwrites or changes an object. Of any number of racing creations of a
///   key, exactly one returns [`Creation::Created`], and the object holds the winner's bytes. This is the only
///   clause a place may lack: [`probe::conditional_create`] finds out.
/// - **Current.** An object is visible to `get`, `size` and `list` from the moment its creation returned until
///   its deletion began. There is no delay, and no cache in between.
/// - **Failures are failures.** Whoever cannot see an object because of an error is told so. In particular an
///   error while listing never looks like an empty or a short list.
/// - **Only `delete` deletes.** No other operation removes or replaces an object, on no path.
pub trait ObjectStore: Send + Sync {
    /// Stores an object under a key that has none, or leaves the one that is there.
    ///
    /// A payload that turns out shorter than announced fails and stores nothing.
    fn create(&self, key: &ObjectKey, payload: Payload<'_>) -> Result<Creation, StoreError>;

    /// Returns the bytes of an object in `range`, or all of them: exactly as many as were asked for.
    ///
    /// A range that is inverted or reaches beyond the end is [`StoreErrorKind::Truncated`], and is found out
    /// before its length is allocated; one that is empty and lies within the object gives no bytes. Without a
    /// range the object's own length is allocated: who expects a small object and does not trust the place asks
    /// for its [`size`](Self::size) first.
    fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Vec<u8>, StoreError>;

    /// Returns the length of an object in bytes.
    fn size(&self, key: &ObjectKey) -> Result<u64, StoreError>;

    /// Visits every object whose key has the prefix, each once, in no order.
    ///
    /// The visitor may use the store. Objects that are created or deleted meanwhile may be visited or not. Temporary
    /// files and whatever else is no object are never visited. When this fails, what was visited so far is a part that
    /// means nothing.
    fn list(&self, prefix: Prefix, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError>;

    /// Deletes an object; that it is absent already is no error.
    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError>;

    /// Returns how people name this store: a path or URL, for messages only.
    fn location(&self) -> String;

    /// Returns how many requests are worth having under way at a time, at least 1: a disk serves as many as there are
    /// cores to ask it, and a distant place takes long for each but serves many.
    fn requests_at_once(&self) -> usize;

    /// Returns the bytes of an object in a range that is not empty: fewer than were asked for where the object ends before.
    /// One that begins at the end or behind it is [`StoreErrorKind::Truncated`].
    fn get_within(&self, key: &ObjectKey, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let end = range.end.min(self.size(key)?);
        self.get(key, Some(range.start..end.max(range.start + 1)))
    }

    /// Lets go of what was kept of an object on the way here, if anything was: the next read asks the place itself.
    fn forget(&self, _key: &ObjectKey) {}

    /// Returns what was asked for over the network since this store was opened; nothing where there is no network.
    fn traffic(&self) -> Option<Traffic> {
        None
    }
}

/// The bytes of a new object: in memory, or in a spooled file from its start.
#[derive(Debug, Clone, Copy)]
pub enum Payload<'a> {
    /// Bytes in memory.
    Bytes(&'a [u8]),
    /// A file, read from its start; its position is neither used nor changed.
    File {
        /// Open for reading.
        file: &'a File,
        /// Bytes to store.
        bytes: u64,
    },
}

/// How a creation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// The object is new and ours.
    Created,
    /// There was an object under this key; it was left as it is.
    AlreadyExists,
}

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its key.
    pub key: ObjectKey,
    /// Its length, where the place tells it while it lists: a file system would have to be asked for each.
    pub bytes: Option<u64>,
}

impl ObjectInfo {
    /// Returns its length, and asks the store where the listing did not tell; nothing if it is gone by now.
    ///
    /// # Errors
    /// Fails if the store cannot tell.
    pub fn size(&self, store: &dyn ObjectStore) -> Result<Option<u64>, StoreError> {
        match self.bytes.map_or_else(|| store.size(&self.key), Ok) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == StoreErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Visits every object whose key has the prefix with its length, as [`ObjectStore::list`] does.
///
/// # Errors
/// Fails if the store cannot be listed, or cannot tell a length.
pub fn list_with_lengths(
    store: &dyn ObjectStore,
    prefix: Prefix,
    visit: &mut dyn FnMut(ObjectKey, u64),
) -> Result<(), StoreError> {
    let mut failed = None;
    store.list(prefix, &mut |object| {
        if failed.is_some() {
            // Each further question might wait as long as the one that failed.
            return;
        }
        match object.size(store) {
            Ok(Some(bytes)) => visit(object.key, bytes),
            Ok(None) => {}
            Err(error) => failed = Some(error),
        }
    })?;
    failed.map_or(Ok(()), Err)
}

/// What went wrong, for callers that decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// There is no such object, or no such store.
    NotFound,
    /// The object is shorter than the range that was asked for.
    Truncated,
    /// No space or quota is left.
    Full,
    /// The store is mounted read-only or its medium is.
    ReadOnly,
    /// No right to do this.
    Denied,
    /// The place is not a directory, or a key is not valid there.
    NotAStore,
    /// Anything else: input and output errors, time-outs.
    Unavailable,
}

/// A failed operation of a store: kind, operation, object, cause.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {object}")]
pub struct StoreError {
    kind: StoreErrorKind,
    operation: &'static str,
    object: String,
    source: Option<io::Error>,
    advice: Option<&'static str>,
}

impl StoreError {
    /// Describes a failure.
    #[must_use]
    pub fn new(
        kind: StoreErrorKind,
        operation: &'static str,
        object: String,
        source: Option<io::Error>,
    ) -> Self {
        Self { kind, operation, object, source, advice: None }
    }

    /// Describes a failure whose kind follows from its cause.
    #[must_use]
    pub fn from_io(operation: &'static str, object: String, source: io::Error) -> Self {
        Self::new(kind_of(&source), operation, object, Some(source))
    }

    /// Adds what people can do about it, where that is more than the kind says.
    #[must_use]
    pub fn advise(mut self, advice: &'static str) -> Self {
        self.advice = Some(advice);
        self
    }

    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Returns what people can do about it, where the store knows more than the kind says.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        self.advice
    }

    /// Returns what the operation was tried on: the key of an object, a prefix, or a place.
    #[must_use]
    pub fn object(&self) -> &str {
        &self.object
    }
}

fn kind_of(error: &io::Error) -> StoreErrorKind {
    match error.kind() {
        io::ErrorKind::NotFound => StoreErrorKind::NotFound,
        io::ErrorKind::UnexpectedEof => StoreErrorKind::Truncated,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreErrorKind::Full,
        io::ErrorKind::ReadOnlyFilesystem => StoreErrorKind::ReadOnly,
        io::ErrorKind::PermissionDenied => StoreErrorKind::Denied,
        io::ErrorKind::NotADirectory => StoreErrorKind::NotAStore,
        _ => StoreErrorKind::Unavailable,
    }
}

/// Returns the range to read of an object of `bytes` bytes, if the object has it.
fn range_within(range: Option<Range<u64>>, bytes: u64) -> io::Result<Range<u64>> {
    let range = range.unwrap_or(0..bytes);
    if range.start <= range.end && range.end <= bytes {
        return Ok(range);
    }
    let why = format!("it has {bytes} bytes, not those from {} to {}", range.start, range.end);
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, why))
}

/// Returns why a payload cannot be stored whose file has fewer bytes than announced.
fn short_payload(bytes: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("its payload ends before {bytes} bytes"))
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::sync::Arc;

    use rustix::io::Errno;

    use super::fault::{Fault, FaultStore, Operation};
    use super::local::LocalStore;
    use super::*;

    #[test]
    fn kinds_follow_from_system_errors() {
        for (errno, kind) in [
            (Errno::NOENT, StoreErrorKind::NotFound),
            (Errno::NOSPC, StoreErrorKind::Full),
            (Errno::DQUOT, StoreErrorKind::Full),
            (Errno::ROFS, StoreErrorKind::ReadOnly),
            (Errno::ACCESS, StoreErrorKind::Denied),
            (Errno::PERM, StoreErrorKind::Denied),
            (Errno::NOTDIR, StoreErrorKind::NotAStore),
            (Errno::IO, StoreErrorKind::Unavailable),
            (Errno::STALE, StoreErrorKind::Unavailable),
        ] {
            let error = StoreError::from_io("read", "config/1.json".to_owned(), errno.into());
            assert_eq!(error.kind(), kind, "{errno:?}");
            assert_eq!(error.to_string(), "cannot read config/1.json");
            assert!(error.source().is_some());
        }
    }

    #[test]
    fn a_length_that_cannot_be_told_is_the_last_one_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let store = FaultStore::new(Arc::new(LocalStore::create(&folder.path().join("store")).unwrap()));
        for number in 1..4 {
            store.create(&ObjectKey::config(number), Payload::Bytes(b"{}")).unwrap();
        }
        store.script(|call| {
            (call.operation == Operation::Size).then_some(Fault::Fail(StoreErrorKind::Unavailable))
        });
        let listed = list_with_lengths(&store, Prefix::Config, &mut |key, _| panic!("{key}"));
        assert_eq!(listed.unwrap_err().kind(), StoreErrorKind::Unavailable);
        assert_eq!(store.count(Operation::Size), 1);
    }

    #[test]
    fn ranges_lie_within_the_object() {
        let within = |range, bytes| range_within(range, bytes).ok();
        assert_eq!(within(None, 5), Some(0..5));
        assert_eq!(within(Some(1..5), 5), Some(1..5));
        assert_eq!(within(Some(5..5), 5), Some(5..5));
        assert_eq!(within(Some(6..6), 5), None);
        assert_eq!(within(Some(0..6), 5), None);
        assert_eq!(within(Some(0..u64::MAX), 5), None);
        assert_eq!(within(Some(Range { start: 3, end: 2 }), 5), None);
    }
}
