//! What stands at one path in many snapshots; every distinct tree on the way is asked once.

use super::{SnapshotSet, TreeVersion, Variant, VersionsError, distinct_trees, group, trees_of, unreadable};
use crate::path::TreePath;
use crate::repo::Repository;
use crate::repo::snapshots::Snapshot;

/// What stands at one path in the snapshots of a list.
#[derive(Debug)]
pub struct Place {
    /// The path.
    pub path: TreePath,
    /// What stands there; nothing for the root, which has no entries.
    pub variants: Vec<Variant>,
    /// The snapshots in which the way to it cannot be read, and why.
    pub unreadable: Vec<(SnapshotSet, VersionsError)>,
    /// The directories that stand there.
    pub(super) trees: Vec<TreeVersion>,
}

impl Place {
    /// Looks for `path` in all of `snapshots`. That it is nowhere is no error.
    ///
    /// # Errors
    /// [`VersionsError::Repo`] if the store cannot be read, for another reason than damage.
    pub fn find(repo: &Repository, snapshots: &[Snapshot], path: &TreePath) -> Result<Self, VersionsError> {
        let roots = snapshots
            .iter()
            .enumerate()
            .map(|(position, snapshot)| (snapshot.manifest.root, SnapshotSet::one(position)));
        let mut trees = distinct_trees(roots);
        let (mut variants, mut failed) = (Vec::new(), Vec::new());
        let mut above = TreePath::root();
        for name in path.components() {
            let mut found = Vec::new();
            for TreeVersion { tree, snapshots: among } in trees {
                match repo.find_entry(&tree, name) {
                    Ok(Some(entry)) => found.push((entry, among)),
                    Ok(None) => {}
                    Err(error) => match unreadable(&above, snapshots, &among, error) {
                        error @ VersionsError::Damaged { .. } => failed.push((among, error)),
                        error => return Err(error),
                    },
                }
            }
            variants = group(found.iter().map(|(entry, among)| (entry, among)));
            trees = trees_of(&variants);
            above = above.join(name);
        }
        Ok(Self { path: above, variants, unreadable: failed, trees })
    }

    /// Tells whether no snapshot holds the path, as far as they can be read.
    #[must_use]
    pub fn is_nowhere(&self) -> bool {
        self.variants.is_empty() && self.trees.is_empty() && self.unreadable.is_empty()
    }
}
