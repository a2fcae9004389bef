//! Finds paths by name, kind, size and time, in many snapshots at once.

use std::ffi::OsStr;
use std::ops::{Range, RangeInclusive};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};

use super::compare::{MetadataScope, compare};
use super::versions::{Found, SnapshotSet, Variant, VersionsError, Visit, Walk, WalkStats, series_of};
use crate::crypto::hash::IdKeys;
use crate::format::tree::{Entry, EntryKind, Time};
use crate::path::{TreePath, escape};
use crate::repo::Repository;
use crate::repo::snapshots::Snapshot;

/// A pattern that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{pattern} is not a pattern")]
pub struct NamePatternError {
    /// The pattern, safe for terminals.
    pattern: String,
    /// What is wrong with it.
    source: globset::Error,
}

/// Whether ASCII letters of the other case match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetterCase {
    /// They do not.
    Exact,
    /// They do.
    Ignored,
}

/// A pattern for names, or for whole paths if it holds a `/`.
///
/// `*` and `?` match within a name, `**` across names; `[…]` and `{…,…}` choose. A pattern for paths begins at the
/// root.
#[derive(Debug, Clone)]
pub struct NamePattern {
    matcher: GlobMatcher,
    is_for_paths: bool,
}

impl NamePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Refuses what is no pattern.
    pub fn new(text: &str, case: LetterCase) -> Result<Self, NamePatternError> {
        let glob = GlobBuilder::new(text.strip_prefix('/').unwrap_or(text))
            .literal_separator(true)
            .case_insensitive(case == LetterCase::Ignored)
            .build()
            .map_err(|source| NamePatternError { pattern: escape(text.as_bytes()), source })?;
        Ok(Self { matcher: glob.compile_matcher(), is_for_paths: text.contains('/') })
    }

    fn matches(&self, found: &Found) -> bool {
        if self.is_for_paths {
            self.matches_bytes(&found.path().to_bytes())
        } else {
            self.matches_bytes(found.name().as_bytes())
        }
    }

    fn matches_bytes(&self, bytes: &[u8]) -> bool {
        self.matcher.is_match(Path::new(OsStr::from_bytes(bytes)))
    }
}

/// A kind of entries to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WantedKind {
    /// Regular files.
    File,
    /// Directories.
    Directory,
    /// Symbolic links.
    Symlink,
    /// Fifos.
    Fifo,
    /// Sockets.
    Socket,
    /// Character and block devices.
    Device,
}

impl WantedKind {
    fn of(kind: &EntryKind) -> Self {
        match kind {
            EntryKind::File(_) => Self::File,
            EntryKind::Directory(_) => Self::Directory,
            EntryKind::Symlink(_) => Self::Symlink,
            EntryKind::Fifo => Self::Fifo,
            EntryKind::CharDevice(_) | EntryKind::BlockDevice(_) => Self::Device,
            EntryKind::Socket => Self::Socket,
        }
    }
}

/// What to find: all that is given must hold.
#[derive(Debug, Clone, Default)]
pub struct FindOptions {
    /// Where to begin; what stands there can be found, too.
    pub path: TreePath,
    /// What it is called.
    pub pattern: Option<NamePattern>,
    /// What it is: one of these; anything if there are none.
    pub kinds: Vec<WantedKind>,
    /// How many bytes a file may have, in all of these; nothing else has a size.
    pub sizes: Vec<RangeInclusive<u64>>,
    /// Changed at this time or later.
    pub newer: Option<Time>,
    /// Changed before this time.
    pub older: Option<Time>,
}

impl FindOptions {
    fn wants(&self, entry: &Entry) -> bool {
        let mtime = entry.attributes.mtime;
        let has_size = || {
            matches!(entry.kind, EntryKind::File(_))
                && self.sizes.iter().all(|sizes| sizes.contains(&entry.size()))
        };
        (self.kinds.is_empty() || self.kinds.contains(&WantedKind::of(&entry.kind)))
            && (self.sizes.is_empty() || has_size())
            && self.newer.is_none_or(|newer| mtime >= newer)
            && self.older.is_none_or(|older| mtime < older)
    }
}

/// A path that was found.
#[derive(Debug, Clone)]
pub struct FoundPath {
    /// The path.
    pub path: TreePath,
    /// Its versions that were wanted, those of each series by themselves, by the first snapshot that holds them; at
    /// least one. Versions that differ in nothing that somebody set are one, shown as in its last snapshot.
    pub versions: Vec<Variant>,
}

/// The paths that are found, in order.
///
/// A directory that cannot be read yields an error, and the search goes on in the snapshots that hold it otherwise.
pub struct Finder<'a> {
    repo: &'a Repository,
    walk: Walk<'a>,
    options: &'a FindOptions,
    /// Where each series stands among the snapshots.
    series: Vec<Range<usize>>,
}

/// Searches all of `snapshots`, of which those of one series stand together, oldest first.
///
/// # Errors
/// [`VersionsError::NotFound`] if no snapshot holds the path to begin with.
pub fn find<'a>(
    repo: &'a Repository,
    snapshots: &'a [Snapshot],
    options: &'a FindOptions,
) -> Result<Finder<'a>, VersionsError> {
    let walk = Walk::open(repo, snapshots, &options.path, Visit::All)?;
    Ok(Finder { repo, walk, options, series: series_of(snapshots) })
}

impl Finder<'_> {
    /// Returns what the search cost so far.
    #[must_use]
    pub fn stats(&self) -> WalkStats {
        self.walk.stats()
    }

    fn judge(&self, mut found: Found) -> Option<FoundPath> {
        if !self.options.pattern.as_ref().is_none_or(|pattern| pattern.matches(&found)) {
            return None;
        }
        found.variants.retain(|variant| self.options.wants(&variant.entry));
        if found.variants.is_empty() {
            return None;
        }
        let path = found.path();
        Some(FoundPath { path, versions: versions(self.repo.keys().ids(), &self.series, found.variants) })
    }
}

impl Iterator for Finder<'_> {
    type Item = Result<FoundPath, VersionsError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.walk.next()? {
                Ok(found) => {
                    if let Some(path) = self.judge(found) {
                        return Some(Ok(path));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Joins variants of one series that are the same but for what nobody can set. Series overlap in time, so that only
/// within one of them the first and the last snapshot say since when and until when.
fn versions(ids: &IdKeys, series: &[Range<usize>], variants: Vec<Variant>) -> Vec<Variant> {
    let mut versions: Vec<(usize, Variant)> = Vec::with_capacity(variants.len());
    for Variant { entry, snapshots } in variants {
        for (number, snapshots) in snapshots.split(series) {
            let is_same = |known: &&mut (usize, Variant)| {
                known.0 == number && is_one_version(ids, &known.1.entry, &entry)
            };
            match versions.iter_mut().rev().find(is_same) {
                Some((_, known)) => {
                    if snapshots.last() > known.snapshots.last() {
                        known.entry = entry.clone();
                    }
                    known.snapshots = SnapshotSet::union([&known.snapshots, &snapshots]);
                }
                None => versions.push((number, Variant { entry: entry.clone(), snapshots })),
            }
        }
    }
    versions.sort_by_key(|(_, version)| version.snapshots.first());
    versions.into_iter().map(|(_, version)| version).collect()
}

/// Looks first at what differs between versions of a file: there may be thousands of them.
fn is_one_version(ids: &IdKeys, one: &Entry, other: &Entry) -> bool {
    let is_directory = matches!(one.kind, EntryKind::Directory(_));
    (is_directory || one.attributes.mtime == other.attributes.mtime)
        && compare(ids, one, other, MetadataScope::Usual).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::restore::fixture::{Fixture, MTIME, every_kind, path};

    fn found(fixture: &Fixture, snapshots: &[Snapshot], options: &FindOptions) -> Vec<String> {
        let finder = find(&fixture.repo, snapshots, options).unwrap();
        finder.map(|found| found.unwrap().path.to_string()).collect()
    }

    #[test]
    fn patterns_match_names_and_paths() {
        for (pattern, bytes, expected) in [
            ("*.conf", &b"a.conf"[..], true),
            ("*.conf", b".conf", true),
            ("*.CONF", b"a.conf", false),
            ("[ab]?", b"bx", true),
            ("{a,b}.c", b"b.c", true),
            ("?", b"\xff", true),
            ("/etc/*.conf", b"etc/a.conf", true),
            ("/etc/*.conf", b"etc/d/a.conf", false),
            ("etc/*.conf", b"srv/etc/a.conf", false),
            ("**/etc/*.conf", b"srv/etc/a.conf", true),
            ("/etc/**", b"etc/d/a.conf", true),
        ] {
            let matcher = NamePattern::new(pattern, LetterCase::Exact).unwrap();
            assert_eq!(matcher.matches_bytes(bytes), expected, "{pattern} on {bytes:?}");
        }
        let any_case = NamePattern::new("*.CONF", LetterCase::Ignored).unwrap();
        assert!(any_case.matches_bytes(b"A.conf"));
        // Names are bytes, so that other alphabets have no cases and `?` is one byte.
        let umlaut = NamePattern::new("?\u{dc}", LetterCase::Ignored).unwrap();
        assert!(umlaut.matches_bytes("a\u{dc}".as_bytes()) && !umlaut.matches_bytes("a\u{fc}".as_bytes()));
        let error = NamePattern::new("[a", LetterCase::Exact).unwrap_err();
        assert_eq!(error.to_string(), "[a is not a pattern");
    }

    #[test]
    fn every_filter_narrows() {
        let fixture = Fixture::new();
        let snapshots = [fixture.commit(every_kind)];
        let all = FindOptions::default();
        assert_eq!(found(&fixture, &snapshots, &all).len(), 15);
        let named = |pattern| FindOptions {
            pattern: Some(NamePattern::new(pattern, LetterCase::Exact).unwrap()),
            ..FindOptions::default()
        };
        assert_eq!(found(&fixture, &snapshots, &named("se*")), ["/d/deep/second", "/set-id"]);
        assert_eq!(found(&fixture, &snapshots, &named("/d/s*")), ["/d/small"]);
        for (kind, expected) in [
            (WantedKind::Directory, &["/closed", "/d", "/d/deep"][..]),
            (WantedKind::Symlink, &["/link"]),
            (WantedKind::Fifo, &["/fifo"]),
            (WantedKind::Socket, &["/socket"]),
            (WantedKind::Device, &[]),
        ] {
            let options = FindOptions { kinds: vec![kind], ..FindOptions::default() };
            assert_eq!(found(&fixture, &snapshots, &options), expected);
        }
        let sizes = |sizes| FindOptions { sizes, ..FindOptions::default() };
        assert_eq!(found(&fixture, &snapshots, &sizes(vec![0..=0])), ["/d/empty"]);
        let ranges = vec![100_000..=u64::MAX, 0..=1_000_000];
        assert_eq!(found(&fixture, &snapshots, &sizes(ranges)), ["/d/long"]);
        let after = Time { nanoseconds: MTIME.nanoseconds + 1, ..MTIME };
        for (newer, older, number) in
            [(Some(MTIME), Some(after), 15), (Some(after), None, 0), (None, Some(MTIME), 0)]
        {
            let options = FindOptions { newer, older, ..FindOptions::default() };
            assert_eq!(found(&fixture, &snapshots, &options).len(), number);
        }
        let below = FindOptions { path: path("d/deep"), ..FindOptions::default() };
        assert_eq!(found(&fixture, &snapshots, &below), ["/d/deep", "/d/deep/second"]);
        let nowhere = FindOptions { path: path("d/no"), ..FindOptions::default() };
        let error = find(&fixture.repo, &snapshots, &nowhere).err().unwrap();
        assert_eq!(error.to_string(), "no snapshot that was looked at holds /d/no");
    }

    #[test]
    fn versions_that_nobody_made_are_one() {
        let fixture = Fixture::new();
        let commit = |content: &'static [u8], ctime| {
            fixture.commit(|maker| {
                let mut file = maker.file("file", content);
                file.attributes.ctime.seconds = ctime;
                vec![file]
            })
        };
        let snapshots =
            [commit(b"one", 1), commit(b"two", 2), commit(b"one", 3), commit(b"three", 4), commit(b"one", 1)];
        let options = FindOptions::default();
        let found = find(&fixture.repo, &snapshots, &options).unwrap().next().unwrap().unwrap();
        let sets: Vec<Vec<usize>> =
            found.versions.iter().map(|version| version.snapshots.positions().collect()).collect();
        assert_eq!(sets, [vec![0, 2, 4], vec![1], vec![3]]);
        // Of those that are one, the last is shown.
        assert_eq!(found.versions[0].entry.attributes.ctime.seconds, 1);
    }

    #[test]
    fn series_have_versions_of_their_own() {
        let fixture = Fixture::new();
        let commit = |source: &str, ctime| {
            let mut snapshot = fixture.commit(|maker| {
                let mut file = maker.file("file", b"same");
                file.attributes.ctime.seconds = ctime;
                vec![file]
            });
            snapshot.manifest.source = source.into();
            snapshot
        };
        // The second series ended before the first began.
        let old = [commit("z", 1), commit("z", 2)];
        let [one, two] = old;
        let snapshots = [commit("a", 3), commit("a", 3), one, two];
        let options = FindOptions::default();
        let found = find(&fixture.repo, &snapshots, &options).unwrap().next().unwrap().unwrap();
        let shown: Vec<(Vec<usize>, i64)> = found
            .versions
            .iter()
            .map(|version| (version.snapshots.positions().collect(), version.entry.attributes.ctime.seconds))
            .collect();
        assert_eq!(shown, [(vec![0, 1], 3), (vec![2, 3], 2)]);
    }
}
