//! Where a store is, as people write it: a path or a URL.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::s3::S3Place;

/// The place of a store that this version can open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A directory, by its absolute path.
    Directory(PathBuf),
    /// A bucket, or a part of one.
    S3(S3Place),
}

/// Why a text names no place for a store.
#[derive(Debug, thiserror::Error)]
pub enum LocationError {
    /// It names nothing.
    #[error("the name of the store is empty")]
    Empty,
    /// A file URL without an absolute path.
    #[error("a file URL names an absolute path, such as file:///srv/backup")]
    FileUrl,
    /// No bucket, or none that can be.
    #[error("{url} is no place for a store: {why}")]
    Bucket {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A kind of store that is known, but not to this version.
    #[error("sftp stores are not built into this version of yester")]
    Sftp,
    /// A kind of store that nobody knows.
    #[error("{0:?} is no kind of store")]
    UnknownKind(String),
    /// A relative path, and no working directory.
    #[error("cannot find {0}")]
    WorkingDirectory(String, #[source] io::Error),
}

impl Location {
    /// Parses a path, relative to the working directory, or a URL.
    ///
    /// # Errors
    /// See [`LocationError`].
    pub fn parse(text: &OsStr) -> Result<Self, LocationError> {
        let path = match text.to_str().and_then(|text| text.split_once("://")) {
            Some(("file", path)) if path.starts_with('/') => Path::new(path),
            Some(("file", _)) => return Err(LocationError::FileUrl),
            Some(("s3", place)) => {
                let bucket = |why| LocationError::Bucket { url: format!("s3://{place}"), why };
                return S3Place::parse(place).map(Self::S3).map_err(bucket);
            }
            Some(("sftp", _)) => return Err(LocationError::Sftp),
            Some((scheme, _)) => return Err(LocationError::UnknownKind(scheme.to_owned())),
            None => Path::new(text),
        };
        if path.as_os_str().is_empty() {
            return Err(LocationError::Empty);
        }
        let absolute = std::path::absolute(path).map(Self::Directory);
        absolute.map_err(|source| LocationError::WorkingDirectory(path.display().to_string(), source))
    }

    /// Returns the directory, if it is one.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) => Some(path),
            Self::S3(_) => None,
        }
    }

    /// Tells whether a network lies between here and there.
    pub fn is_distant(&self) -> bool {
        matches!(self, Self::S3(_))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::S3(place) => place.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_file_urls_are_the_same_place() {
        let expected = Location::Directory(PathBuf::from("/srv/back up"));
        assert_eq!(Location::parse(OsStr::new("/srv/back up")).unwrap(), expected);
        assert_eq!(Location::parse(OsStr::new("file:///srv/back up")).unwrap(), expected);
        assert!(Location::parse(OsStr::new("here")).unwrap().directory().unwrap().is_absolute());
    }

    #[test]
    fn buckets_are_places() {
        let location = Location::parse(OsStr::new("s3://acme/db0")).unwrap();
        assert!(location.is_distant() && location.directory().is_none());
        assert_eq!(location.to_string(), "s3://acme/db0");
    }

    #[test]
    fn what_cannot_be_opened_is_refused() {
        for text in ["s3:///prefix", "s3://a b/c", "sftp://u@h/p", "http://x", "file://host/x", ""] {
            assert!(Location::parse(OsStr::new(text)).is_err(), "{text}");
        }
    }
}
