//! Walks what is to be restored, in order: makes the directories and queues everything else.

use std::sync::Arc;

use crossbeam_channel::Sender;

use super::Overwrite;
use super::pool::{Batch, OpenDirectory, Run, Tally};
use super::selection::{Entries, Scope, Selection, path_kind};
use super::target::{Existing, Origin};
use crate::format::tree::{Attributes, Entry, EntryKind, TreeRef};
use crate::path::Name;
use crate::progress::Event;

/// Owner's rights to open a directory again for reading, by its path.
const OWNER_MAY_REOPEN: u16 = 0o500;

/// Entries that are queued together at most.
const BATCH_ENTRIES: usize = 16;
/// Entries are queued together until they hold more than this.
const BATCH_BYTES: u64 = 1 << 20;

struct Level<'a> {
    directory: Arc<OpenDirectory>,
    entries: Entries<'a>,
    /// What waits to be queued.
    waiting: Vec<Entry>,
    waiting_bytes: u64,
}

impl<'a> Level<'a> {
    fn new(directory: Arc<OpenDirectory>, entries: Entries<'a>) -> Self {
        Self { directory, entries, waiting: Vec::new(), waiting_bytes: 0 }
    }

    /// Returns a batch if it is full with `entry`.
    fn add(&mut self, entry: Entry) -> Option<Batch> {
        self.waiting_bytes = self.waiting_bytes.saturating_add(entry.size());
        self.waiting.push(entry);
        let is_full = self.waiting.len() == BATCH_ENTRIES || self.waiting_bytes > BATCH_BYTES;
        if is_full { self.take() } else { None }
    }

    /// Returns what waits.
    fn take(&mut self) -> Option<Batch> {
        self.waiting_bytes = 0;
        let entries = std::mem::take(&mut self.waiting);
        (!entries.is_empty()).then(|| Batch { directory: Arc::clone(&self.directory), entries })
    }
}

/// Walks `scope` and sends every entry that is not a directory to `queue`; `counts` says where sums come from.
pub(super) fn walk(run: &Run<'_>, scope: Scope, counts: Counts, queue: &Sender<Batch>) {
    let entries = Entries::of(run.repo, &scope.tree, scope.selection);
    let mut stack = vec![Level::new(Arc::clone(&run.target), entries)];
    while let Some(level) = stack.last_mut() {
        let next = if run.is_stopped() { None } else { level.entries.next() };
        let (entry, selection) = match next {
            Some(Ok(found)) => found,
            Some(Err(error)) => {
                // What follows may be whole: a damaged page takes its own entries with it.
                run.unreadable(&level.directory.path, error);
                continue;
            }
            None => {
                let last = level.take();
                leave(run, &mut stack);
                if !send(run, queue, last) {
                    break;
                }
                continue;
            }
        };
        if level.entries.are_below() && is_excluded(run, &level.directory, &entry) {
            Tally::add(&run.tally.left_out, 1);
            continue;
        }
        match entry {
            Entry { name, attributes, kind: EntryKind::Directory(tree), .. } => {
                let parent = Arc::clone(&level.directory);
                if let Some(directory) = enter(run, parent, &name, attributes, tree, &selection) {
                    stack.push(Level::new(directory, Entries::of(run.repo, &tree, selection)));
                }
            }
            entry => {
                if counts == Counts::AsFound && matches!(entry.kind, EntryKind::File(_)) {
                    run.progress.event(Event::Found { files: 1, bytes: entry.size() });
                }
                let full = level.add(entry);
                if !send(run, queue, full) {
                    break;
                }
            }
        }
    }
    if counts == Counts::AsFound {
        run.progress.event(Event::FoundAll);
    }
}

/// Where the sums for the progress come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counts {
    /// The snapshot says them.
    Known,
    /// The walk says what it finds.
    AsFound,
}

fn is_excluded(run: &Run<'_>, directory: &OpenDirectory, entry: &Entry) -> bool {
    let exclude = &run.options.exclude;
    !exclude.is_empty() && exclude.exclude(&directory.path.join(&entry.name), path_kind(entry))
}

/// Queues a batch, if there is one. Tells whether there are still workers to restore it.
fn send(run: &Run<'_>, queue: &Sender<Batch>, batch: Option<Batch>) -> bool {
    let Some(Err(unsent)) = batch.map(|batch| queue.send(batch)) else { return true };
    run.release(unsent.into_inner().directory);
    false
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
    tree: TreeRef,
    selection: &Selection,
) -> Option<Arc<OpenDirectory>> {
    let path = parent.path.join(name);
    let overwrite = run.options.overwrite;
    let identity = run.policy.identity;
    let existing = if overwrite == Overwrite::Always { Existing::Replace } else { Existing::Keep };
    let child = match parent.directory.create_child(name, existing, identity.uid()) {
        Ok(child) => child,
        Err(error) => {
            run.refused(&path, "cannot make the directory", error);
            run.release(parent);
            return None;
        }
    };
    match child.origin {
        Origin::Made => {}
        Origin::Replaced => Tally::add(&run.tally.replaced, 1),
        Origin::Found => run.writes_to(&child.directory),
    }
    Tally::add(&run.tally.directories, 1);
    let may_change = *selection == Selection::All && overwrite != Overwrite::Never;
    let sets_attributes = child.origin != Origin::Found || may_change;
    let final_mode = if sets_attributes { Some(attributes.mode) } else { child.closed_mode };
    let reopens =
        identity.is_root() || final_mode.is_none_or(|mode| mode & OWNER_MAY_REOPEN == OWNER_MAY_REOPEN);
    Some(Arc::new(OpenDirectory {
        directory: child.directory,
        path,
        tree,
        attributes: sets_attributes.then_some(attributes),
        closed_mode: child.closed_mode,
        reachable: parent.reachable && reopens,
        parent: Some(parent),
    }))
}
