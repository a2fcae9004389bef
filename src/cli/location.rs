//! Where a store is, as people write it: a path or a URL.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use super::exit::CommandError;
use crate::store::s3::S3Place;

/// The place of a store that this version can open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Location {
    /// A directory, by its absolute path.
    Directory(PathBuf),
    /// A bucket, or a part of one.
    S3(S3Place),
}

impl Location {
    /// Parses a path, relative to the working directory, or a URL.
    pub(super) fn parse(text: &OsStr) -> Result<Self, CommandError> {
        let path = match text.to_str().and_then(|text| text.split_once("://")) {
            Some(("file", path)) if path.starts_with('/') => Path::new(path),
            Some(("file", _)) => {
                return Err(CommandError::usage(
                    "a file URL names an absolute path, such as file:///srv/backup",
                ));
            }
            Some(("s3", place)) => {
                return S3Place::parse(place).map(Self::S3).map_err(|why| {
                    CommandError::usage(format!("s3://{place} is no place for a store: {why}"))
                });
            }
            Some(("sftp", _)) => {
                return Err(CommandError::usage("sftp stores are not built into this version of yester")
                    .hint("a store can be any directory, for instance one that is mounted from elsewhere"));
            }
            Some((scheme, _)) => {
                return Err(CommandError::usage(format!("{scheme:?} is no kind of store")));
            }
            None => Path::new(text),
        };
        if path.as_os_str().is_empty() {
            return Err(CommandError::usage("the name of the store is empty"));
        }
        std::path::absolute(path)
            .map(Self::Directory)
            .map_err(|source| CommandError::io(format!("cannot find {}", path.display()), source))
    }

    /// Returns the directory, if it is one.
    pub(super) fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) => Some(path),
            Self::S3(_) => None,
        }
    }

    /// Tells whether a network lies between here and there.
    pub(super) fn is_distant(&self) -> bool {
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
    fn what_cannot_be_opened_is_refused_as_usage() {
        for text in ["s3:///prefix", "s3://a b/c", "sftp://u@h/p", "http://x", "file://host/x", ""] {
            let error = Location::parse(OsStr::new(text)).unwrap_err();
            assert_eq!(error.kind().code(), 2, "{text}");
        }
    }
}
