//! Hard links: which name of a file was restored first, and who waits for it.
//!
//! Whoever comes first restores the content; the others wait for it and link to it. Where the first fails, the
//! next takes its turn. Where the store has the file damaged, what could be read is kept once, for all names.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::pool::OpenDirectory;
use crate::format::tree::LinkGroup;
use crate::path::{Name, TreePath};

/// Where the first name of a file was restored.
#[derive(Clone)]
pub(super) struct Place {
    /// The directory.
    pub directory: TreePath,
    /// The name in it.
    pub name: Name,
    /// The device and the inode that it stood for.
    pub inode: (u64, u64),
    /// The directory itself, where it may not be possible to open it again.
    pub held: Option<Arc<OpenDirectory>>,
}

/// What the holder of a name has to do.
pub(super) enum Turn<'a> {
    /// Restore the file and report it.
    First(Claim<'a>),
    /// Link to what was restored.
    Link(Place),
    /// Nothing: the file is damaged, and what could be read of it stands here, if anything.
    Damaged(Option<TreePath>),
}

enum Group {
    Claimed,
    Decided { outcome: FirstOutcome, names_left: u32 },
}

#[derive(Clone)]
enum FirstOutcome {
    Restored(Place),
    Damaged(Option<TreePath>),
}

/// The link groups of one restore.
#[derive(Default)]
pub(super) struct LinkTable {
    groups: Mutex<HashMap<u64, Group>>,
    decided: Condvar,
}

/// The right, and the duty, to restore the first name of a group. Dropping it passes the turn on.
pub(super) struct Claim<'a> {
    table: &'a LinkTable,
    link: LinkGroup,
}

impl LinkTable {
    /// Returns what to do for one more name of `link`; waits while another thread restores the first.
    ///
    /// Never waits for something that is not yet being worked on: a claim is only held by a running worker.
    pub(super) fn turn(&self, link: LinkGroup) -> Turn<'_> {
        let mut groups = self.lock();
        loop {
            match groups.get_mut(&link.group) {
                None => {
                    groups.insert(link.group, Group::Claimed);
                    return Turn::First(Claim { table: self, link });
                }
                Some(Group::Claimed) => {
                    groups = self.decided.wait(groups).unwrap_or_else(PoisonError::into_inner);
                }
                Some(Group::Decided { outcome, names_left }) => {
                    *names_left = names_left.saturating_sub(1);
                    let (outcome, was_last) = (outcome.clone(), *names_left == 0);
                    let removed = if was_last { groups.remove(&link.group) } else { None };
                    drop(groups);
                    drop(removed);
                    return match outcome {
                        FirstOutcome::Restored(place) => Turn::Link(place),
                        FirstOutcome::Damaged(partial) => Turn::Damaged(partial),
                    };
                }
            }
        }
    }

    /// Returns the directories that are still held for names that never came.
    pub(super) fn into_held(self) -> Vec<Arc<OpenDirectory>> {
        let groups = self.groups.into_inner().unwrap_or_else(PoisonError::into_inner);
        groups
            .into_values()
            .filter_map(|group| match group {
                Group::Decided { outcome: FirstOutcome::Restored(place), .. } => place.held,
                Group::Decided { .. } | Group::Claimed => None,
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Group>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim<'_> {
    /// Reports where the first name stands now.
    pub(super) fn restored(self, place: Place) {
        self.decide(FirstOutcome::Restored(place));
    }

    /// Reports that the file is damaged, and where what could be read of it stands, if anything.
    pub(super) fn damaged(self, partial: Option<TreePath>) {
        self.decide(FirstOutcome::Damaged(partial));
    }

    fn decide(self, outcome: FirstOutcome) {
        // A group of which all names were seen is forgotten, so that the table stays small.
        let names_left = self.link.links.saturating_sub(1);
        if names_left > 0 {
            self.table.lock().insert(self.link.group, Group::Decided { outcome, names_left });
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut groups = self.table.lock();
        if matches!(groups.get(&self.link.group), Some(Group::Claimed)) {
            groups.remove(&self.link.group);
        }
        drop(groups);
        self.table.decided.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const LINK: LinkGroup = LinkGroup { group: 7, links: 4 };

    fn place() -> Place {
        Place { directory: TreePath::root(), name: Name::new(b"first").unwrap(), inode: (1, 2), held: None }
    }

    #[test]
    fn all_but_the_first_link_to_it() {
        let table = LinkTable::default();
        let (first, linked) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| match table.turn(LINK) {
                    Turn::First(claim) => {
                        first.fetch_add(1, Ordering::SeqCst);
                        claim.restored(place());
                    }
                    Turn::Link(place) => {
                        assert_eq!(place.name.as_bytes(), b"first");
                        linked.fetch_add(1, Ordering::SeqCst);
                    }
                    Turn::Damaged(_) => panic!("nothing is damaged"),
                });
            }
        });
        assert_eq!((first.into_inner(), linked.into_inner()), (1, 3));
        assert!(table.lock().is_empty());
    }

    #[test]
    fn a_first_that_fails_passes_its_turn_on() {
        let table = LinkTable::default();
        let Turn::First(claim) = table.turn(LINK) else { panic!("nobody was first") };
        drop(claim);
        assert!(matches!(table.turn(LINK), Turn::First(_)));
    }

    #[test]
    fn what_is_left_of_a_damaged_file_is_kept_once() {
        let table = LinkTable::default();
        let Turn::First(claim) = table.turn(LINK) else { panic!("nobody was first") };
        let partial = TreePath::parse(b"first.partial").unwrap();
        claim.damaged(Some(partial.clone()));
        for _ in 0..3 {
            assert!(matches!(table.turn(LINK), Turn::Damaged(Some(found)) if found == partial));
        }
        assert!(table.lock().is_empty());
    }
}
