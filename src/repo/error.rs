//! Why an operation on an open store failed.

use crate::crypto::CryptoError;
use crate::format::FormatError;
use crate::id::{ChunkId, FrameId, PackId};
use crate::index::IndexError;
use crate::store::key::ObjectKey;
use crate::store::{StoreError, StoreErrorKind};

/// Why an operation on an open store failed. Callers match on the variants.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// There is no store at this place.
    #[error("there is no yester store at {0}")]
    NoStore(String),
    /// There is no store at this place now, and there was one.
    #[error("there is no yester store at {location} now, but this host saw store {store} there")]
    NotMounted {
        /// The place.
        location: String,
        /// The store, or those, that this host saw there, for people.
        store: String,
        /// The file that remembers it.
        pin: String,
    },
    /// There is a store at this place already.
    #[error("there is a yester store at {0} already")]
    StoreExists(String),
    /// None of the key slots opens with the given credential.
    #[error("wrong passphrase or key for the store at {0}")]
    WrongKey(String),
    /// The store is encrypted and nothing to open it with was given.
    #[error("the store at {0} is encrypted, and no passphrase or key was given")]
    NoCredential(String),
    /// This host holds an ingest-only key, which is not for this.
    #[error(
        "this is an ingest-only key of host {0}: it makes backups and lists its own, and reads nothing back"
    )]
    IngestOnly(String),
    /// The ingest-only key of one host is to write as another one.
    #[error("this is an ingest-only key of host {own}: it cannot make backups of host {asked}")]
    OtherHost {
        /// The host of the key.
        own: String,
        /// The host that was asked for.
        asked: String,
    },
    /// The ingest-only key belongs to the stores of another domain.
    #[error("this ingest-only key is not one of the store at {0}")]
    OtherDomain(String),
    /// No key slot is left whole, so that nothing can open the store.
    #[error("no key slot of the store at {0} can be read")]
    NoKeySlot(String),
    /// The store is not the one that this host saw at this place before.
    #[error("the store at {location} is not the one that was there before")]
    Replaced {
        /// Where the store is.
        location: String,
        /// The file that remembers it; deleting it accepts the new store.
        pin: String,
    },
    /// The store was written by a newer version.
    #[error("the store at {location} needs a newer yester")]
    TooNew {
        /// Where the store is.
        location: String,
        /// What is not known.
        source: FormatError,
    },
    /// Something lies where garbage collections say which packs are about to go, and it does not open, so that nobody
    /// knows which ones these are.
    #[error("{object} says which packs are about to be deleted, and cannot be read")]
    UnknownCollection {
        /// The object.
        object: String,
        /// Why it does not open; nothing where its name alone is unknown.
        source: Option<FormatError>,
    },
    /// An object or a part of it is damaged.
    #[error("{object} is damaged")]
    Damaged {
        /// The object, as its key or as a description.
        object: String,
        /// What is wrong with it.
        source: Option<FormatError>,
    },
    /// Something could not be encoded: faulty memory, or a value beyond the format's limits.
    #[error("cannot encode {object}")]
    Encode {
        /// What was to be written.
        object: String,
        /// Why not.
        source: FormatError,
    },
    /// A chunk is in no pack that the store lists.
    #[error("chunk {0} is in no pack of the store")]
    MissingChunk(ChunkId),
    /// No snapshot has this name.
    #[error("no snapshot is called {0}")]
    NoSnapshot(String),
    /// The snapshot was forgotten, and its space was given back while it was read.
    #[error("snapshot {0} was forgotten and collected as garbage meanwhile")]
    Collected(String),
    /// Several snapshots have this name.
    #[error("{name} means more than one snapshot: {candidates}")]
    AmbiguousSnapshot {
        /// What was asked for.
        name: String,
        /// What it may mean, for people.
        candidates: String,
    },
    /// What this name means was forgotten.
    #[error("what {name} means was forgotten: {candidates}")]
    ForgottenSnapshot {
        /// What was asked for.
        name: String,
        /// The names of the forgotten snapshots that it means, for people.
        candidates: String,
    },
    /// No forgotten snapshot has this name.
    #[error("no forgotten snapshot is called {0}")]
    NoForgotten(String),
    /// Several forgotten snapshots have this name.
    #[error("{name} means more than one forgotten snapshot: {candidates}")]
    AmbiguousForgotten {
        /// What was asked for.
        name: String,
        /// What it may mean, for people.
        candidates: String,
    },
    /// The snapshots that are meant are all suspicious, and nobody accepted one, so that none is the latest.
    #[error("{name} means no snapshot: there are some, but all are suspicious; the newest is {newest}")]
    OnlySuspicious {
        /// What was asked for.
        name: String,
        /// The name of the newest of them.
        newest: String,
    },
    /// Others took every name that was tried for an index object.
    #[error("cannot put the index objects of session {0}: others took every name that was tried")]
    NoFreeIndexName(String),
    /// Others took every number that was tried for a mark.
    #[error("cannot mark snapshot {0}: others took every number that was tried")]
    NoFreeMark(String),
    /// The base of a delta frame is in no pack that the store lists.
    #[error("frame {0}, on which another stands, is in no pack of the store")]
    MissingBase(FrameId),
    /// The index lost a row between two looks: another process brought it up to date.
    #[error("the local index changed while it was read")]
    StaleIndex,
    /// A listing left out what is there.
    #[error("{location} does not list {object}, which is there")]
    ShortListing {
        /// The store.
        location: String,
        /// The object.
        object: String,
    },
    /// The session was fenced by a collection, or is too old to commit.
    #[error("session {session} may not commit: {why}")]
    Fenced {
        /// The session.
        session: String,
        /// Why it may not.
        why: &'static str,
    },
    /// A thread of the session failed before, and said why then.
    #[error("the session has failed already")]
    SessionFailed,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// The index failed.
    #[error("the local index failed")]
    Index(#[from] IndexError),
    /// A key cannot be used.
    #[error("cannot use the keys of the store")]
    Crypto(#[from] CryptoError),
    /// The system has no randomness to give.
    #[error("the system has no randomness to give")]
    Random(#[from] getrandom::Error),
    /// A local file (spool, cache or state folder) failed.
    #[error("cannot {operation} {path}")]
    Local {
        /// What was done.
        operation: &'static str,
        /// To what.
        path: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl RepoError {
    /// Tells whether what is stored is damaged or missing, so that other objects can still be read; all other
    /// errors mean that the store cannot be used at all now.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::MissingChunk(_) | Self::MissingBase(_) => true,
            Self::Store(error) => {
                matches!(error.kind(), StoreErrorKind::NotFound | StoreErrorKind::Truncated)
            }
            _ => false,
        }
    }

    /// Returns the pack that is damaged or missing, if this is why.
    #[must_use]
    pub fn damaged_pack(&self) -> Option<PackId> {
        match self {
            Self::Damaged { object, .. } => ObjectKey::parse(object)?.as_pack(),
            Self::Store(error) if self.is_damage() => ObjectKey::parse(error.object())?.as_pack(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_cannot_be_reached_is_no_damage() {
        let store = |kind| RepoError::Store(StoreError::new(kind, "read", "packs/00/00".into(), None));
        assert!(store(StoreErrorKind::NotFound).is_damage());
        assert!(store(StoreErrorKind::Truncated).is_damage());
        assert!(!store(StoreErrorKind::Unavailable).is_damage());
        assert!(!store(StoreErrorKind::Denied).is_damage());
        assert!(RepoError::Damaged { object: "a pack".into(), source: None }.is_damage());
    }
}
