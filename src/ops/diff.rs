//! Compares two snapshots, or one path of them.
//!
//! It is the walk over many snapshots, over two of them, that passes over what is the same in both.

use super::compare::{Aspect, MetadataScope, compare};
use super::versions::{Found, VersionsError, Visit, Walk, WalkStats};
use crate::format::tree::{Entry, EntryKind};
use crate::path::TreePath;
use crate::repo::Repository;
use crate::repo::snapshots::Snapshot;

/// Where the older and the newer snapshot stand in the pair that is compared.
const BEFORE: usize = 0;
const AFTER: usize = 1;

/// What to compare.
#[derive(Debug, Clone)]
pub struct DiffOptions {
    /// Where to begin.
    pub path: TreePath,
    /// Which metadata counts.
    pub metadata: MetadataScope,
}

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Only the second snapshot holds it.
    Added,
    /// Only the first snapshot holds it.
    Removed,
    /// It is of another kind.
    Kind,
    /// Its content differs.
    Content,
    /// Its metadata alone differs.
    Metadata,
}

/// A path that differs.
#[derive(Debug, Clone)]
pub struct Difference {
    /// The path.
    pub path: TreePath,
    /// What the first snapshot holds there.
    pub before: Option<Entry>,
    /// What the second snapshot holds there.
    pub after: Option<Entry>,
    /// In what they differ; nothing if one of them is absent.
    pub aspects: Vec<Aspect>,
}

impl Difference {
    /// Returns what became of the path: the weightiest of what differs.
    #[must_use]
    pub fn change(&self) -> Change {
        match (&self.before, &self.after) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            _ if self.aspects.contains(&Aspect::Kind) => Change::Kind,
            _ if self.aspects.contains(&Aspect::Content) => Change::Content,
            _ => Change::Metadata,
        }
    }
}

/// Paths of one sort, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathTotals {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Everything else.
    pub others: u64,
    /// Bytes of the regular files; every name of a file counts.
    pub bytes: u64,
}

impl PathTotals {
    fn add(&mut self, entry: &Entry) {
        match entry.kind {
            EntryKind::File(_) => {
                self.files += 1;
                self.bytes = self.bytes.saturating_add(entry.size());
            }
            EntryKind::Directory(_) => self.directories += 1,
            _ => self.others += 1,
        }
    }
}

/// The sums of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiffStats {
    /// What only the second snapshot holds.
    pub added: PathTotals,
    /// What only the first snapshot holds.
    pub removed: PathTotals,
    /// What has other content, as the first snapshot holds it.
    pub content_before: PathTotals,
    /// What has other content, as the second snapshot holds it.
    pub content_after: PathTotals,
    /// Paths that are of another kind.
    pub kind: u64,
    /// What has other metadata alone, as the second snapshot holds it.
    pub metadata: PathTotals,
}

impl DiffStats {
    /// Counts a difference.
    pub fn add(&mut self, difference: &Difference) {
        let (before, after) = match difference.change() {
            Change::Added => (None, Some(&mut self.added)),
            Change::Removed => (Some(&mut self.removed), None),
            Change::Content => (Some(&mut self.content_before), Some(&mut self.content_after)),
            Change::Metadata => (None, Some(&mut self.metadata)),
            Change::Kind => {
                self.kind += 1;
                (None, None)
            }
        };
        for (totals, entry) in [(before, &difference.before), (after, &difference.after)] {
            if let (Some(totals), Some(entry)) = (totals, entry) {
                totals.add(entry);
            }
        }
    }
}

/// The differences between two snapshots, in order of paths.
///
/// A directory that cannot be read in one of them yields an error; nothing more is said of what it holds, and the
/// comparison goes on behind it.
pub struct Diff<'a> {
    repo: &'a Repository,
    walk: Walk<'a>,
    metadata: MetadataScope,
}

/// Compares the second snapshot with the first.
///
/// # Errors
/// [`VersionsError::NotFound`] if neither holds the path; [`VersionsError::Damaged`] if the way to it cannot be read.
pub fn diff<'a>(
    repo: &'a Repository,
    pair: &'a [Snapshot; 2],
    options: &DiffOptions,
) -> Result<Diff<'a>, VersionsError> {
    let walk = Walk::open(repo, pair, &options.path, Visit::Differences)?;
    Ok(Diff { repo, walk, metadata: options.metadata })
}

impl Diff<'_> {
    /// Returns what the comparison cost so far.
    #[must_use]
    pub fn stats(&self) -> WalkStats {
        self.walk.stats()
    }

    /// Returns the difference at a path, if what the walk found is one.
    fn judge(&self, found: &Found) -> Option<Difference> {
        let holding = |position| {
            let variant = found.variants.iter().find(|variant| variant.snapshots.contains(position));
            variant.map(|variant| &variant.entry)
        };
        let (before, after) = (holding(BEFORE), holding(AFTER));
        let mut aspects = Vec::new();
        if let (Some(before), Some(after)) = (before, after) {
            aspects = compare(self.repo.keys().ids(), before, after, self.metadata);
            if aspects.is_empty() {
                return None;
            }
        }
        let (before, after) = (before.cloned(), after.cloned());
        Some(Difference { path: found.path(), before, after, aspects })
    }
}

impl Iterator for Diff<'_> {
    type Item = Result<Difference, VersionsError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.walk.next()? {
                Ok(found) => {
                    if let Some(difference) = self.judge(&found) {
                        return Some(Ok(difference));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
