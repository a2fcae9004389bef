//! Plans a restore: says what it would do and writes nothing.
//!
//! Asks the same [`Policy`] as the restore itself, entry by entry. What only shows while writing (no space, no
//! right to write, damaged content) is not foreseen.

use std::collections::HashSet;

use super::policy::{Policy, Verdict};
use super::selection::{Entries, Scope, path_kind};
use super::target::{Directory, is_directory};
use super::{
    FAILURES_MAX, KEPT_NAMED_MAX, Overwrite, RestoreError, RestoreFailure, RestoreOptions, RestoreStats,
};
use crate::format::tree::{Entry, EntryKind};
use crate::path::{Name, TreePath};
use crate::progress::error_chain;
use crate::repo::{RepoError, Repository};

/// What a restore would do with one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlannedAction {
    /// It would be made.
    Make,
    /// It would take the place of something else.
    Replace,
    /// It would stay, being the same.
    Leave,
    /// Something else would stay in its place.
    Keep,
    /// It could not be made.
    Fail,
}

/// Receives what a restore would do, in order of the paths. Directories that are there already are passed over.
pub type PlanListener<'a> = dyn FnMut(&TreePath, PlannedAction) + 'a;

/// Plans one restore.
pub(super) struct Planner<'a> {
    repo: &'a Repository,
    options: &'a RestoreOptions,
    listener: &'a mut PlanListener<'a>,
    policy: Policy,
    /// Link groups whose bytes were counted.
    counted: HashSet<u64>,
    stats: RestoreStats,
}

struct Level<'a> {
    path: TreePath,
    /// The directory in the target; nothing where it would be made.
    directory: Option<Directory>,
    entries: Entries<'a>,
}

impl<'a> Planner<'a> {
    /// Prepares a plan.
    pub(super) fn new(
        repo: &'a Repository,
        options: &'a RestoreOptions,
        listener: &'a mut PlanListener<'a>,
    ) -> Self {
        let policy = Policy::new(options.overwrite, options.ownership);
        Self { repo, options, listener, policy, counted: HashSet::new(), stats: RestoreStats::default() }
    }

    /// Walks everything and returns what would come of it.
    pub(super) fn plan(
        mut self,
        scope: Scope,
        target: Option<Directory>,
    ) -> Result<RestoreStats, RestoreError> {
        self.stats.left_out = scope.left_out;
        let entries = Entries::of(self.repo, &scope.tree, scope.selection);
        let mut stack = vec![Level { path: scope.path, directory: target, entries }];
        while let Some(level) = stack.last_mut() {
            let (entry, selection) = match level.entries.next() {
                Some(Ok(found)) => found,
                Some(Err(error)) => {
                    self.unreadable(&level.path, error)?;
                    continue;
                }
                None => {
                    stack.pop();
                    continue;
                }
            };
            let path = level.path.join(&entry.name);
            if level.entries.are_below() && self.options.exclude.exclude(&path, path_kind(&entry)) {
                self.stats.left_out += 1;
            } else if let EntryKind::Directory(tree) = entry.kind {
                if let Some(directory) = self.enter(level.directory.as_ref(), &entry.name, &path) {
                    let entries = Entries::of(self.repo, &tree, selection);
                    stack.push(Level { path, directory, entries });
                }
            } else {
                self.entry(level.directory.as_ref(), &entry, &path);
            }
        }
        self.stats.owner_changes = self.policy.owners.into_changes();
        Ok(self.stats)
    }

    /// Says what becomes of a directory; returns it as it is now, unless nothing can be restored into it.
    fn enter(
        &mut self,
        parent: Option<&Directory>,
        name: &Name,
        path: &TreePath,
    ) -> Option<Option<Directory>> {
        let found = match parent.map(|parent| parent.stat(name)).transpose() {
            Ok(found) => found.flatten(),
            Err(error) => {
                self.fail(path, format!("cannot look what is there: {error}"), false);
                return None;
            }
        };
        let action = match found {
            Some(stat) if is_directory(&stat) => {
                self.stats.directories += 1;
                // The restore lets itself into a directory that is closed to its owner; what is in it is not
                // known before.
                return Some(parent.and_then(|parent| parent.open_child(name).ok()));
            }
            Some(_) if self.options.overwrite == Overwrite::Always => PlannedAction::Replace,
            Some(_) => {
                self.fail(path, "something that is no directory is in its place".into(), false);
                return None;
            }
            None => PlannedAction::Make,
        };
        self.stats.directories += 1;
        self.stats.replaced += u64::from(action == PlannedAction::Replace);
        (self.listener)(path, action);
        Some(None)
    }

    /// Says what becomes of an entry that is no directory.
    fn entry(&mut self, directory: Option<&Directory>, entry: &Entry, path: &TreePath) {
        let verdict = match directory.map(|directory| self.policy.judge(directory, entry)).transpose() {
            Ok(verdict) => verdict.unwrap_or(Verdict::New),
            Err(error) => return self.fail(path, format!("cannot look what is there: {error}"), false),
        };
        let action = match verdict {
            Verdict::New => PlannedAction::Make,
            Verdict::Replace => PlannedAction::Replace,
            Verdict::Unchanged(_) => PlannedAction::Leave,
            Verdict::Kept => PlannedAction::Keep,
            Verdict::DirectoryInTheWay => {
                return self.fail(path, "a directory is in its place and would be left there".into(), false);
            }
        };
        match action {
            PlannedAction::Leave => self.stats.unchanged += 1,
            PlannedAction::Keep => {
                self.stats.kept += 1;
                if self.stats.kept_named.len() < KEPT_NAMED_MAX {
                    self.stats.kept_named.push(path.clone());
                }
            }
            _ => self.count(entry, action),
        }
        (self.listener)(path, action);
    }

    fn count(&mut self, entry: &Entry, action: PlannedAction) {
        self.stats.replaced += u64::from(action == PlannedAction::Replace);
        if !matches!(entry.kind, EntryKind::File(_)) {
            self.stats.others += 1;
            return;
        }
        self.stats.files += 1;
        if entry.link.is_none_or(|link| self.counted.insert(link.group)) {
            self.stats.bytes = self.stats.bytes.saturating_add(entry.size());
        }
    }

    fn unreadable(&mut self, path: &TreePath, error: RepoError) -> Result<(), RestoreError> {
        if !error.is_damage() {
            return Err(error.into());
        }
        self.fail(path, error_chain(&error), true);
        Ok(())
    }

    fn fail(&mut self, path: &TreePath, reason: String, damaged: bool) {
        self.stats.failed += 1;
        self.stats.damaged += u64::from(damaged);
        if self.stats.failures.len() < FAILURES_MAX {
            let failure = RestoreFailure { path: path.clone(), reason, damaged, partial: None };
            self.stats.failures.push(failure);
        }
        (self.listener)(path, PlannedAction::Fail);
    }
}
