//! Walks what is to be restored, in order: makes the directories and queues everything else.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::pool::{Job, OpenDirectory, Run, Tally};
use super::target::{Existing, Origin};
use super::{Overwrite, RestoreError};
use crate::format::snapshot::Manifest;
use crate::format::tree::{Attributes, Entry, EntryKind, TreeRef};
use crate::path::{Name, TreePath};
use crate::progress::Event;
use crate::repo::tree::TreeReader;
use crate::repo::{RepoError, Repository};

/// Owner's right to enter a directory.
const OWNER_MAY_ENTER: u16 = 0o100;

/// What of a directory is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Selection {
    /// All of it.
    All,
    /// Only these names, and of them only this.
    Only(BTreeMap<Name, Selection>),
}

impl Selection {
    /// Selects `paths`, or all if there are none. Each must be in the snapshot.
    pub(super) fn of(
        repo: &Repository,
        manifest: &Manifest,
        paths: &[TreePath],
    ) -> Result<Self, RestoreError> {
        for path in paths {
            if repo.find_path(manifest, path)?.is_none() {
                return Err(RestoreError::NotInSnapshot { path: path.clone() });
            }
        }
        Ok(Self::from_paths(paths))
    }

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

/// The entries of a directory that are restored, in order.
enum Entries<'a> {
    All(TreeReader<'a>),
    Only { repo: &'a Repository, tree: TreeRef, names: btree_map::IntoIter<Name, Selection> },
}

impl Entries<'_> {
    fn of<'a>(repo: &'a Repository, tree: &TreeRef, selection: Selection) -> Entries<'a> {
        match selection {
            Selection::All => Entries::All(repo.entries(tree, None)),
            Selection::Only(names) => Entries::Only { repo, tree: *tree, names: names.into_iter() },
        }
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

struct Level<'a> {
    directory: Arc<OpenDirectory>,
    entries: Entries<'a>,
}

/// Walks `root` and sends every entry that is not a directory to `queue`.
pub(super) fn walk(run: &Run<'_>, root: &TreeRef, selection: Selection, queue: &Sender<Job>) {
    let counts_ahead = selection != Selection::All;
    let entries = Entries::of(run.repo, root, selection);
    let mut stack = vec![Level { directory: Arc::clone(&run.target), entries }];
    while let Some(level) = stack.last_mut() {
        let next = if run.is_stopped() { None } else { level.entries.next() };
        match next {
            Some(Ok((Entry { name, attributes, kind: EntryKind::Directory(tree), .. }, selection))) => {
                let parent = Arc::clone(&level.directory);
                if let Some(directory) = enter(run, parent, &name, attributes, &selection) {
                    stack.push(Level { directory, entries: Entries::of(run.repo, &tree, selection) });
                }
            }
            Some(Ok((entry, _))) => {
                if counts_ahead && matches!(entry.kind, EntryKind::File(_)) {
                    run.progress.event(Event::Found { files: 1, bytes: entry.size() });
                }
                let job = Job { directory: Arc::clone(&level.directory), entry };
                if let Err(unsent) = queue.send(job) {
                    run.release(unsent.into_inner().directory);
                    return;
                }
            }
            Some(Err(error)) => {
                // What comes after in this directory is lost with it: pages say where pages are.
                run.unreadable(&level.directory.path, error);
                leave(run, &mut stack);
            }
            None => leave(run, &mut stack),
        }
    }
    if counts_ahead {
        run.progress.event(Event::FoundAll);
    }
}

fn leave(run: &Run<'_>, stack: &mut Vec<Level<'_>>) {
    if let Some(level) = stack.pop() {
        run.release(level.directory);
    }
}

/// Makes or opens a directory of the target. Its attributes are set when everything in it is done.
fn enter(
    run: &Run<'_>,
    parent: Arc<OpenDirectory>,
    name: &Name,
    attributes: Attributes,
    selection: &Selection,
) -> Option<Arc<OpenDirectory>> {
    let path = parent.path.join(name);
    let overwrite = run.options.overwrite;
    let existing = if overwrite == Overwrite::Always { Existing::Replace } else { Existing::Keep };
    let (directory, origin) = match parent.directory.create_child(name, existing) {
        Ok(made) => made,
        Err(error) => {
            run.refused(&path, "cannot make the directory", error);
            run.release(parent);
            return None;
        }
    };
    Tally::add(&run.tally.directories, 1);
    let may_change = *selection == Selection::All && overwrite != Overwrite::Never;
    let enterable = run.identity.is_root() || attributes.mode & OWNER_MAY_ENTER != 0;
    Some(Arc::new(OpenDirectory {
        directory,
        path,
        attributes: (origin == Origin::Made || may_change).then_some(attributes),
        reachable: parent.reachable && enterable,
        parent: Some(parent),
    }))
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
