//! Why the index cannot be used, and which failures mean that its file is damaged.

use std::path::Path;

use rusqlite::ErrorCode;

use crate::crypto::CryptoError;
use crate::id::PackId;

/// Why the index cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// SQLite failed, or a row holds what no row should.
    #[error("cannot {operation} the index {path}")]
    Database {
        /// What was tried: `open`, `read`, `update`.
        operation: &'static str,
        /// The file.
        path: String,
        /// The failure.
        source: rusqlite::Error,
    },
    /// The folder or the lock file of the index cannot be prepared.
    #[error("cannot prepare the folder of the index {path}")]
    Folder {
        /// The file of the index.
        path: String,
        /// The failure.
        source: std::io::Error,
    },
    /// Another process found the file damaged and made it anew.
    #[error("the index {path} was replaced by another process")]
    Replaced {
        /// The file.
        path: String,
    },
    /// An index object lists what the index has no room for.
    #[error("cannot take pack {pack} into the index: {why}")]
    Unfit {
        /// The pack.
        pack: PackId,
        /// What does not fit.
        why: &'static str,
    },
    /// There is no key to wrap the keys of packs with.
    #[error("cannot make a key for the index")]
    Key(#[from] CryptoError),
}

impl IndexError {
    /// Tells whether the file is of no use any more: [`super::Index::reset`] it and fill it again.
    #[must_use]
    pub fn is_corrupt(&self) -> bool {
        match self {
            Self::Database { source, .. } => is_damage(source),
            Self::Replaced { .. } => true,
            Self::Folder { .. } | Self::Unfit { .. } | Self::Key(_) => false,
        }
    }

    /// Returns what turns a failure of SQLite into an error of this module.
    pub(super) fn database(operation: &'static str, path: &Path) -> impl FnOnce(rusqlite::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Database { operation, path, source }
    }

    /// Returns what turns a failure of the file system into an error of this module.
    pub(super) fn folder(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Folder { path, source }
    }
}

/// A row that holds what was never written there.
#[derive(Debug, thiserror::Error)]
#[error("a row of the index holds no valid {0}")]
struct BadRow(&'static str);

/// Returns the error of a row whose `what` does not decode.
pub(super) fn bad_row(what: &'static str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, Box::new(BadRow(what)))
}

/// Tells whether a failure comes from the file's content. A statement that does not fit the schema counts:
/// the statements are fixed, so the schema is not ours.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error as E;
    match error {
        E::SqliteFailure(failure, _) | E::SqlInputError { error: failure, .. } => matches!(
            failure.code,
            ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::TypeMismatch
                | ErrorCode::ConstraintViolation
                | ErrorCode::Unknown
        ),
        E::FromSqlConversionFailure(..)
        | E::IntegralValueOutOfRange(..)
        | E::Utf8Error(..)
        | E::InvalidColumnType(..)
        | E::InvalidColumnIndex(..)
        | E::QueryReturnedNoRows => true,
        _ => false,
    }
}
