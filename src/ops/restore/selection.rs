//! What of a snapshot is restored: the paths that were asked for, without the leading directories that are
//! stripped off.

use std::collections::BTreeMap;
use std::collections::btree_map;

use super::{RestoreError, RestoreOptions};
use crate::format::snapshot::Manifest;
use crate::format::tree::{Entry, EntryKind, TreeRef};
use crate::ops::patterns::PathKind;
use crate::path::{Name, TreePath};
use crate::repo::tree::TreeReader;
use crate::repo::{RepoError, Repository};

/// What of a directory is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Selection {
    /// All of it.
    All,
    /// Only these names, and of them only this.
    Only(BTreeMap<Name, Selection>),
}

/// The directory of the snapshot whose entries come to stand in the target itself.
#[derive(Debug)]
pub(super) struct Scope {
    /// Its path; the root unless components are stripped off.
    pub path: TreePath,
    /// Its pages.
    pub tree: TreeRef,
    /// What of it is restored.
    pub selection: Selection,
    /// Entries next to the directories that are stripped off, which have no place in the target.
    pub left_out: u64,
}

impl Selection {
    fn from_paths(paths: &[TreePath]) -> Self {
        if paths.is_empty() {
            return Self::All;
        }
        let mut selection = Self::Only(BTreeMap::new());
        for path in paths {
            selection.add(path.components());
        }
        selection
    }

    fn add(&mut self, path: &[Name]) {
        match (path.split_first(), self) {
            (None, all) => *all = Self::All,
            (Some(_), Self::All) => {}
            (Some((name, below)), Self::Only(names)) => {
                names.entry(name.clone()).or_insert_with(|| Self::Only(BTreeMap::new())).add(below);
            }
        }
    }
}

impl Scope {
    /// Finds what `paths` (everything, if there are none) are in the snapshot. Each of them must be there.
    pub(super) fn find(
        repo: &Repository,
        manifest: &Manifest,
        paths: &[TreePath],
        options: &RestoreOptions,
    ) -> Result<Self, RestoreError> {
        for path in paths {
            match repo.find_path(manifest, path) {
                Ok(Some(_)) => {}
                Ok(None) => return Err(RestoreError::NotInSnapshot { path: path.clone() }),
                // The walk meets this again and names it, and restores the rest.
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let selection = Selection::from_paths(paths);
        let mut scope = Self { path: TreePath::root(), tree: manifest.root, selection, left_out: 0 };
        for _ in 0..options.strip_components {
            scope = scope.strip(repo, options)?;
        }
        Ok(scope)
    }

    /// Goes down into the only directory there is. Where there are several, their entries would mix in the target.
    fn strip(self, repo: &Repository, options: &RestoreOptions) -> Result<Self, RestoreError> {
        let Self { path: above, tree, selection, mut left_out } = self;
        let mut only: Option<(TreePath, TreeRef, Selection)> = None;
        let mut entries = Entries::of(repo, &tree, selection);
        while let Some(found) = entries.next() {
            let (entry, selection) = found?;
            let path = above.join(&entry.name);
            let EntryKind::Directory(tree) = entry.kind else {
                if !entries.are_below() {
                    return Err(RestoreError::StripsAsked { path });
                }
                left_out += 1;
                continue;
            };
            if entries.are_below() && options.exclude.exclude(&path, PathKind::Directory) {
                left_out += 1;
            } else if let Some((first, ..)) = only {
                return Err(RestoreError::StripMixes { first, second: path });
            } else {
                only = Some((path, tree, selection));
            }
        }
        let (path, tree, selection) = only.ok_or(RestoreError::StripLeavesNothing { path: above })?;
        Ok(Self { path, tree, selection, left_out })
    }
}

/// The entries of a directory that are restored, in order.
pub(super) enum Entries<'a> {
    /// All of them.
    All(TreeReader<'a>),
    /// Those that were asked for.
    Only {
        /// Where they are.
        repo: &'a Repository,
        /// The directory.
        tree: TreeRef,
        /// Their names.
        names: btree_map::IntoIter<Name, Selection>,
    },
}

impl<'a> Entries<'a> {
    /// Begins to read `selection` of a directory.
    pub(super) fn of(repo: &'a Repository, tree: &TreeRef, selection: Selection) -> Self {
        match selection {
            Selection::All => Entries::All(repo.entries(tree, None)),
            Selection::Only(names) => Entries::Only { repo, tree: *tree, names: names.into_iter() },
        }
    }

    /// Tells whether the entries lie below what was asked for. Patterns leave out nothing else.
    pub(super) fn are_below(&self) -> bool {
        matches!(self, Self::All(_))
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<(Entry, Selection), RepoError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::All(reader) => Some(reader.next()?.map(|entry| (entry, Selection::All))),
            Self::Only { repo, tree, names } => loop {
                let (name, selection) = names.next()?;
                match repo.find_entry(tree, &name) {
                    Ok(Some(entry)) => return Some(Ok((entry, selection))),
                    // It was there when the selection was checked, and snapshots do not change.
                    Ok(None) => {}
                    Err(error) => return Some(Err(error)),
                }
            },
        }
    }
}

/// Returns the kind of an entry as patterns know it.
pub(super) fn path_kind(entry: &Entry) -> PathKind {
    if matches!(entry.kind, EntryKind::Directory(_)) { PathKind::Directory } else { PathKind::Other }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::parse(text.as_bytes()).unwrap()
    }

    fn only(names: impl IntoIterator<Item = (&'static str, Selection)>) -> Selection {
        let named = |(name, selection): (&str, _)| (Name::new(name.as_bytes()).unwrap(), selection);
        Selection::Only(names.into_iter().map(named).collect())
    }

    #[test]
    fn a_selection_holds_every_path_once() {
        assert_eq!(Selection::from_paths(&[]), Selection::All);
        assert_eq!(Selection::from_paths(&[path("a"), TreePath::root()]), Selection::All);
        let paths = [path("etc/ssh/key"), path("etc/hosts"), path("etc/ssh"), path("etc/ssh/other")];
        let etc = only([("hosts", Selection::All), ("ssh", Selection::All)]);
        assert_eq!(Selection::from_paths(&paths), only([("etc", etc)]));
    }
}
