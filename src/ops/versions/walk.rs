//! The walk from directory to directory, over many snapshots at once.

use std::collections::VecDeque;
use std::sync::Arc;

use super::merge::DirectoryMerge;
use super::{Place, TreeVersion, Variant, VersionsError, Visit, trees_of, unreadable};
use crate::path::{Name, TreePath};
use crate::repo::Repository;
use crate::repo::snapshots::Snapshot;

/// What stands at one path.
#[derive(Debug)]
pub struct Found {
    directory: Arc<TreePath>,
    name: Name,
    /// What stands there, at least one.
    pub variants: Vec<Variant>,
}

impl Found {
    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Returns its path.
    #[must_use]
    pub fn path(&self) -> TreePath {
        self.directory.join(&self.name)
    }
}

/// What a walk cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WalkStats {
    /// Pages of directories that were asked for.
    pub pages_read: u64,
}

/// A walk over many snapshots at once, in order of paths; a directory comes right before what it holds.
///
/// Memory is bounded by the depth of the trees and by how many versions a directory has. What cannot be read yields
/// an error, and the walk goes on behind it.
pub struct Walk<'a> {
    repo: &'a Repository,
    snapshots: &'a [Snapshot],
    visit: Visit,
    failures: VecDeque<VersionsError>,
    first: Option<Found>,
    unopened: Option<(Arc<TreePath>, Vec<TreeVersion>)>,
    levels: Vec<(Arc<TreePath>, DirectoryMerge<'a>)>,
    stats: WalkStats,
}

impl<'a> Walk<'a> {
    /// Starts at `path`, which is visited itself unless it is the root.
    ///
    /// # Errors
    /// [`VersionsError::NotFound`] if no snapshot holds the path; [`VersionsError::Repo`] if the store cannot be read.
    /// [`VersionsError::Damaged`] if a snapshot to be compared cannot be read that far.
    pub fn open(
        repo: &'a Repository,
        snapshots: &'a [Snapshot],
        path: &TreePath,
        visit: Visit,
    ) -> Result<Self, VersionsError> {
        let place = Place::find(repo, snapshots, path)?;
        // A store without snapshots has a root all the same: an empty one.
        if place.is_nowhere() && !path.is_root() {
            return Err(VersionsError::NotFound { path: path.clone() });
        }
        let mut failures: VecDeque<_> = place.unreadable.into_iter().map(|(_, error)| error).collect();
        if let (Visit::Differences, Some(error)) = (visit, failures.pop_front()) {
            return Err(error);
        }
        let stats = WalkStats::default();
        let mut walk =
            Self { repo, snapshots, visit, failures, first: None, unopened: None, levels: Vec::new(), stats };
        match path.split_last() {
            None => walk.set_unopened(Arc::new(TreePath::root()), place.trees),
            Some((directory, name)) if !place.variants.is_empty() => {
                let (directory, name) = (Arc::new(directory), name.clone());
                walk.first = Some(Found { directory, name, variants: place.variants });
            }
            Some(_) => {}
        }
        Ok(walk)
    }

    /// Returns what the walk cost so far.
    #[must_use]
    pub fn stats(&self) -> WalkStats {
        self.stats
    }

    fn set_unopened(&mut self, path: Arc<TreePath>, trees: Vec<TreeVersion>) {
        let is_shared = matches!(trees.as_slice(), [only] if only.snapshots.len() == self.snapshots.len());
        let is_wanted = self.visit == Visit::All || !is_shared;
        self.unopened = (is_wanted && !trees.is_empty()).then_some((path, trees));
    }

    fn yield_found(&mut self, found: Found) -> Found {
        let trees = trees_of(&found.variants);
        if !trees.is_empty() {
            self.set_unopened(Arc::new(found.path()), trees);
        }
        found
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Found, VersionsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(failure) = self.failures.pop_front() {
            return Some(Err(failure));
        }
        if let Some(first) = self.first.take() {
            return Some(Ok(self.yield_found(first)));
        }
        if let Some((path, trees)) = self.unopened.take() {
            let merge = DirectoryMerge::new(self.repo, self.visit, self.snapshots.len(), trees);
            self.levels.push((path, merge));
        }
        loop {
            let (directory, merge) = self.levels.last_mut()?;
            let next = merge.next();
            self.stats.pages_read += merge.take_pages_read();
            match next {
                Some(Ok(variants)) => {
                    let Some(name) = variants.first().map(|variant| variant.entry.name.clone()) else {
                        continue;
                    };
                    let found = Found { directory: Arc::clone(directory), name, variants };
                    return Some(Ok(self.yield_found(found)));
                }
                Some(Err((among, error))) => {
                    return Some(Err(unreadable(directory, self.snapshots, &among, error)));
                }
                None => {
                    self.levels.pop();
                }
            }
        }
    }
}
