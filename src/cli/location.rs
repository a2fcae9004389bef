//! Where a store is, as people write it: a path or a URL.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use super::exit::CommandError;

/// The place of a store that this version can open. Always an absolute path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location(PathBuf);

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
            Some((scheme @ ("s3" | "sftp"), _)) => {
                return Err(CommandError::usage(format!(
                    "{scheme} stores are not built into this version of yester"
                ))
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
            .map(Self)
            .map_err(|source| CommandError::io(format!("cannot find {}", path.display()), source))
    }

    /// Returns the directory.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_file_urls_are_the_same_place() {
        let expected = Location(PathBuf::from("/srv/back up"));
        assert_eq!(Location::parse(OsStr::new("/srv/back up")).unwrap(), expected);
        assert_eq!(Location::parse(OsStr::new("file:///srv/back up")).unwrap(), expected);
        assert!(Location::parse(OsStr::new("here")).unwrap().path().is_absolute());
    }

    #[test]
    fn what_cannot_be_opened_is_refused_as_usage() {
        for text in ["s3://bucket/prefix", "sftp://u@h/p", "http://x", "file://host/x", ""] {
            let error = Location::parse(OsStr::new(text)).unwrap_err();
            assert_eq!(error.kind().code(), 2, "{text}");
        }
    }
}
