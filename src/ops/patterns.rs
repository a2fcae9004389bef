//! Patterns that leave things out, in the syntax of `.gitignore` files: what ingest, restore and export share.
//!
//! The crate `ignore` knows the syntax; this file owns where patterns are anchored and how one that is wrong is
//! named.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::path::{TreePath, escape};

/// Why a pattern cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    /// It is not UTF-8.
    #[error("{place}: a pattern is not UTF-8")]
    NotUtf8 {
        /// Where it stands.
        place: String,
    },
    /// It is empty or a comment, which leaves out nothing.
    #[error("{place}: {pattern:?} leaves out nothing")]
    Nothing {
        /// Where it stands.
        place: String,
        /// The pattern, safe for terminals.
        pattern: String,
    },
    /// It is no pattern.
    #[error("{place}: {pattern} is not a pattern")]
    Bad {
        /// Where it stands.
        place: String,
        /// The pattern, safe for terminals.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: ignore::Error,
    },
}

/// Whether a path is a directory: a pattern that ends in `/` matches nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    /// It is one.
    Directory,
    /// It is anything else; a symbolic link is never followed.
    Other,
}

/// Patterns in the order in which they were given: the last that matches decides.
///
/// A pattern with a `/` before its end is anchored at the root of the snapshot, which is `/` of the host; others
/// match a name at any depth. `!` takes something back in, unless a directory above it is left out.
#[derive(Debug, Clone)]
pub struct ExcludePatterns {
    patterns: Gitignore,
}

impl ExcludePatterns {
    /// Returns patterns that leave out nothing.
    #[must_use]
    pub fn none() -> Self {
        Self { patterns: Gitignore::empty() }
    }

    /// Tells whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Tells whether `path` itself is left out. What lies below a directory that is left out is not asked for.
    #[must_use]
    pub fn exclude(&self, path: &TreePath, kind: PathKind) -> bool {
        !self.is_empty() && self.exclude_bytes(&path.to_bytes(), kind)
    }

    /// Like [`Self::exclude`], for raw bytes: a path from the root down, with or without a leading `/`.
    #[must_use]
    pub fn exclude_bytes(&self, path: &[u8], kind: PathKind) -> bool {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        if self.is_empty() || path.is_empty() {
            return false;
        }
        self.patterns.matched(Path::new(OsStr::from_bytes(path)), kind == PathKind::Directory).is_ignore()
    }
}

/// Collects patterns.
#[derive(Debug)]
pub struct ExcludePatternsBuilder {
    builder: GitignoreBuilder,
}

impl Default for ExcludePatternsBuilder {
    fn default() -> Self {
        let mut builder = GitignoreBuilder::new("");
        // A pattern that is cut short should be told, and not match some other name.
        builder.allow_unclosed_class(false);
        Self { builder }
    }
}

impl ExcludePatternsBuilder {
    /// Adds one pattern; `place` says in errors where it stands.
    ///
    /// # Errors
    /// Refuses what is no pattern, and what would be a comment in a file.
    pub fn add(&mut self, place: &str, pattern: &OsStr) -> Result<(), PatternError> {
        let bytes = pattern.as_bytes();
        if bytes.starts_with(b"#") || bytes.trim_ascii().is_empty() {
            return Err(PatternError::Nothing { place: place.to_owned(), pattern: escape(bytes) });
        }
        self.add_line(place, pattern)
    }

    fn add_line(&mut self, place: &str, pattern: &OsStr) -> Result<(), PatternError> {
        let text = pattern.to_str().ok_or_else(|| PatternError::NotUtf8 { place: place.to_owned() })?;
        self.builder.add_line(None, text).map(drop).map_err(|source| PatternError::Bad {
            place: place.to_owned(),
            pattern: escape(text.as_bytes()),
            source,
        })
    }

    /// Adds the lines of a file, in which blank ones and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// Refuses what is no pattern, and names its line.
    pub fn add_lines(&mut self, file: &str, content: &[u8]) -> Result<(), PatternError> {
        let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
        for (number, line) in content.split(|byte| *byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            self.add_line(&format!("{file}:{}", number + 1), OsStr::from_bytes(line))?;
        }
        Ok(())
    }

    /// Returns the patterns, ready to match.
    ///
    /// # Errors
    /// Fails if all together are too large to match.
    pub fn finish(self) -> Result<ExcludePatterns, PatternError> {
        let patterns = self.builder.build().map_err(|source| PatternError::Bad {
            place: "all patterns".to_owned(),
            pattern: "what was given".to_owned(),
            source,
        })?;
        Ok(ExcludePatterns { patterns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(lines: &str) -> ExcludePatterns {
        let mut builder = ExcludePatternsBuilder::default();
        builder.add_lines("list", lines.as_bytes()).unwrap();
        builder.finish().unwrap()
    }

    fn excludes(lines: &str, path: &str) -> bool {
        let kind = if path.ends_with('/') { PathKind::Directory } else { PathKind::Other };
        patterns(lines).exclude(&TreePath::parse(path.as_bytes()).unwrap(), kind)
    }

    #[test]
    fn patterns_follow_gitignore() {
        for (lines, path, expected) in [
            ("*.tmp", "/home/a/x.tmp", true),
            ("*.tmp", "/home/a/x.tmpl", false),
            ("/var/cache", "/var/cache", true),
            ("/var/cache", "/srv/var/cache", false),
            ("var/cache", "/srv/var/cache", false),
            ("**/cache/*.db", "/srv/cache/a.db", true),
            ("build/", "/src/build/", true),
            ("build/", "/src/build", false),
            ("*.log\n!keep.log", "/a/keep.log", false),
            ("*.log\n!keep.log", "/a/other.log", true),
            ("# a comment\r\n\r\n*.o\r\n", "/a/b.o", true),
            ("\\#real", "/a/#real", true),
            ("*", "/", false),
        ] {
            assert_eq!(excludes(lines, path), expected, "{lines:?} on {path}");
        }
    }

    #[test]
    fn names_that_are_not_utf8_match() {
        let path = TreePath::parse(b"a/\xff.tmp").unwrap();
        assert!(patterns("*.tmp").exclude(&path, PathKind::Other));
        assert!(patterns("a/?.tmp").exclude(&path, PathKind::Other));
        assert!(patterns("/a/*.tmp").exclude_bytes(b"/a/\xff.tmp", PathKind::Other));
        assert!(!patterns("*").exclude_bytes(b"/", PathKind::Directory));
    }

    #[test]
    fn a_lone_pattern_leaves_something_out() {
        let add = |pattern: &str| ExcludePatternsBuilder::default().add("--exclude", OsStr::new(pattern));
        assert!(matches!(add("#recycle"), Err(PatternError::Nothing { .. })));
        assert!(matches!(add(" "), Err(PatternError::Nothing { .. })));
        assert!(add("\\#recycle").is_ok());
    }

    #[test]
    fn a_wrong_pattern_is_named_with_its_line() {
        let mut builder = ExcludePatternsBuilder::default();
        let error = builder.add_lines("list", b"*.o\n[a").unwrap_err();
        assert_eq!(error.to_string(), "list:2: [a is not a pattern");
        let error = builder.add_lines("list", b"\xff").unwrap_err();
        assert_eq!(error.to_string(), "list:1: a pattern is not UTF-8");
    }
}
