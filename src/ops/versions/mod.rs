//! One walk over many snapshots at once: what the readers of history (find, log, diff) share.
//!
//! At every path the walk holds the distinct trees that the snapshots have there, each with the set of snapshots in
//! which it stands. Each distinct page of each distinct tree is read once, equal entries are grouped, and the walk goes
//! on below. So what did not change is visited once, however many snapshots there are.
//!
//! This file owns the types; one path is looked up by `place`, one directory is merged by `merge`, and the walk
//! from directory to directory is `walk`'s.

mod merge;
mod place;
mod set;
#[cfg(test)]
pub(in crate::ops) mod tests;
mod walk;

use std::collections::HashMap;
use std::collections::hash_map;
use std::ops::Range;

pub use place::Place;
pub use set::SnapshotSet;
pub use walk::{Found, Walk, WalkStats};

use crate::format::tree::{Entry, EntryKind, TreeRef};
use crate::id::ChunkId;
use crate::path::TreePath;
use crate::repo::RepoError;
use crate::repo::snapshots::Snapshot;

/// Why history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum VersionsError {
    /// None of the snapshots holds the path.
    #[error("no snapshot that was looked at holds {path}")]
    NotFound {
        /// What was asked for.
        path: TreePath,
    },
    /// The store is damaged there.
    #[error("cannot read {path} of {whose}")]
    Damaged {
        /// What cannot be read.
        path: TreePath,
        /// The snapshots that hold it so, for people.
        whose: String,
        /// What is damaged.
        #[source]
        source: Box<RepoError>,
    },
    /// The store cannot be read, for another reason than damage.
    #[error(transparent)]
    Repo(RepoError),
}

/// Which entries a walk visits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    /// All of them. What cannot be read in some snapshots is left out of those.
    All,
    /// Those that are not the same in all snapshots; pages that all of them share are not even read. The rest of a
    /// directory that cannot be read in one snapshot is left out of all, since nothing there can be compared.
    Differences,
}

/// An entry, and the snapshots in which it is exactly this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// The entry.
    pub entry: Entry,
    /// The snapshots; at least one.
    pub snapshots: SnapshotSet,
}

/// A directory's content, and the snapshots in which it is exactly this.
#[derive(Debug, Clone)]
struct TreeVersion {
    tree: TreeRef,
    snapshots: SnapshotSet,
}

/// Returns where each series stands in a list in which the snapshots of one series stand together.
pub(super) fn series_of(snapshots: &[Snapshot]) -> Vec<Range<usize>> {
    let is_one_series = |one: &Snapshot, other: &Snapshot| {
        (&one.manifest.host, &one.manifest.source) == (&other.manifest.host, &other.manifest.source)
    };
    let mut start = 0;
    let range = |chunk: &[Snapshot]| {
        let range = start..start + chunk.len();
        start = range.end;
        range
    };
    snapshots.chunk_by(is_one_series).map(range).collect()
}

/// Groups entries that are equal, in the order in which they first come.
fn group<'e>(found: impl IntoIterator<Item = (&'e Entry, &'e SnapshotSet)>) -> Vec<Variant> {
    let mut groups: Vec<(&Entry, Vec<&SnapshotSet>)> = Vec::new();
    for (entry, snapshots) in found {
        match groups.iter_mut().rev().find(|(known, _)| is_equal(known, entry)) {
            Some((_, sets)) => sets.push(snapshots),
            None => groups.push((entry, vec![snapshots])),
        }
    }
    let variant = |(entry, sets): (&Entry, Vec<&SnapshotSet>)| Variant {
        entry: entry.clone(),
        snapshots: SnapshotSet::union(sets),
    };
    groups.into_iter().map(variant).collect()
}

/// Looks first at what differs between versions of a file: there may be thousands of them.
fn is_equal(one: &Entry, other: &Entry) -> bool {
    one.attributes.mtime == other.attributes.mtime
        && one.attributes.ctime == other.attributes.ctime
        && one == other
}

/// Groups trees that are equal, in the order in which they first come.
fn distinct_trees(found: impl IntoIterator<Item = (TreeRef, SnapshotSet)>) -> Vec<TreeVersion> {
    let mut places: HashMap<ChunkId, usize> = HashMap::new();
    let mut groups: Vec<(TreeRef, Vec<SnapshotSet>)> = Vec::new();
    for (tree, snapshots) in found {
        match places.entry(tree.page) {
            hash_map::Entry::Occupied(known) => {
                if let Some((_, sets)) = groups.get_mut(*known.get()) {
                    sets.push(snapshots);
                }
            }
            hash_map::Entry::Vacant(new) => {
                new.insert(groups.len());
                groups.push((tree, vec![snapshots]));
            }
        }
    }
    let version = |(tree, sets): (_, Vec<_>)| TreeVersion { tree, snapshots: SnapshotSet::union(&sets) };
    groups.into_iter().map(version).collect()
}

/// Returns the distinct trees of the directories among `variants`.
fn trees_of(variants: &[Variant]) -> Vec<TreeVersion> {
    distinct_trees(variants.iter().filter_map(|variant| match variant.entry.kind {
        EntryKind::Directory(tree) => Some((tree, variant.snapshots.clone())),
        _ => None,
    }))
}

/// Says what cannot be read, and in which snapshots.
fn unreadable(
    path: &TreePath,
    snapshots: &[Snapshot],
    among: &SnapshotSet,
    source: RepoError,
) -> VersionsError {
    if !source.is_damage() {
        return VersionsError::Repo(source);
    }
    let newest = among.last().and_then(|position| snapshots.get(position));
    let newest = newest.map_or_else(|| "a snapshot".to_owned(), |snapshot| snapshot.manifest.id.short());
    let whose = match among.len() {
        0 | 1 => format!("snapshot {newest}"),
        number => format!("snapshot {newest} and {} more", number - 1),
    };
    VersionsError::Damaged { path: path.clone(), whose, source: Box::new(source) }
}
