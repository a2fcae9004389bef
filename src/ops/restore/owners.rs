//! To whom restored files belong: the owners of the snapshot, found on this host by name or taken by number.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::format::tree::Attributes;
use crate::path::escape;

/// Owners that are remembered before the table is begun anew: more than any host has, and few enough for a
/// snapshot that was made up.
const KNOWN_MAX: usize = 20_000;
/// Most changes that are kept one by one.
const CHANGES_MAX: usize = 100;

/// To whom restored files belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// To the user and group of the stored names; to the stored numbers where a name is unknown here.
    ByName,
    /// To the stored numbers.
    ByNumber,
    /// To whoever restores.
    Restorer,
}

/// What a number belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OwnerKind {
    /// A user.
    User,
    /// A group.
    Group,
}

/// An owner that has not the same number and name here as in the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerChange {
    /// User or group.
    pub kind: OwnerKind,
    /// The name, safe for terminals.
    pub name: String,
    /// The number in the snapshot.
    pub stored: u32,
    /// The number that the name has here; nothing if it is unknown, so that the stored number was taken.
    pub here: Option<u32>,
}

/// Numbers of a user and a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// Finds the number of a name.
type LookUp = fn(&str) -> Option<u32>;

/// Finds owners, and asks the system once for each name.
pub(super) struct Owners {
    ownership: Ownership,
    users: Mutex<Table>,
    groups: Mutex<Table>,
}

struct Table {
    kind: OwnerKind,
    look_up: LookUp,
    /// For each stored number the names that came with it, and what they mean here.
    known: HashMap<u32, Vec<(Vec<u8>, u32)>>,
    changes: Vec<OwnerChange>,
}

impl Owners {
    /// Prepares to ask this host.
    pub(super) fn of_this_host(ownership: Ownership) -> Self {
        // A directory service that cannot be asked now knows nobody: the number is what is left.
        let user =
            |name: &str| nix::unistd::User::from_name(name).ok().flatten().map(|user| user.uid.as_raw());
        let group =
            |name: &str| nix::unistd::Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw());
        Self::new(ownership, user, group)
    }

    fn new(ownership: Ownership, user: LookUp, group: LookUp) -> Self {
        let table =
            |kind, look_up| Mutex::new(Table { kind, look_up, known: HashMap::new(), changes: Vec::new() });
        Self { ownership, users: table(OwnerKind::User, user), groups: table(OwnerKind::Group, group) }
    }

    /// Returns whom something belongs to; nothing if its owner is not to be set.
    pub(super) fn owner_of(&self, attributes: &Attributes) -> Option<Owner> {
        let Attributes { uid, gid, user, group, .. } = attributes;
        match self.ownership {
            Ownership::Restorer => None,
            Ownership::ByNumber => Some(Owner { uid: *uid, gid: *gid }),
            Ownership::ByName => Some(Owner {
                uid: number_of(&self.users, *uid, user.as_deref()),
                gid: number_of(&self.groups, *gid, group.as_deref()),
            }),
        }
    }

    /// Returns whose number is another one here, or whose name is unknown.
    pub(super) fn into_changes(self) -> Vec<OwnerChange> {
        let tables = [self.users, self.groups];
        let changes = tables.map(|table| table.into_inner().unwrap_or_else(PoisonError::into_inner).changes);
        changes.concat()
    }
}

fn number_of(table: &Mutex<Table>, stored: u32, name: Option<&[u8]>) -> u32 {
    let Some(name) = name else { return stored };
    let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, here)) =
        table.known.get(&stored).and_then(|names| names.iter().find(|(known, _)| known == name))
    {
        return *here;
    }
    let found = std::str::from_utf8(name).ok().and_then(table.look_up);
    if found != Some(stored) && table.changes.len() < CHANGES_MAX {
        let change = OwnerChange { kind: table.kind, name: escape(name), stored, here: found };
        table.changes.push(change);
    }
    if table.known.len() >= KNOWN_MAX {
        table.known.clear();
    }
    let here = found.unwrap_or(stored);
    let names = table.known.entry(stored).or_default();
    if names.len() >= KNOWN_MAX {
        names.clear();
    }
    names.push((name.to_vec(), here));
    here
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(uid: u32, user: &str, gid: u32, group: Option<&str>) -> Attributes {
        Attributes {
            uid,
            gid,
            user: Some(user.into()),
            group: group.map(Into::into),
            ..Attributes::default()
        }
    }

    fn owners(ownership: Ownership) -> Owners {
        let look_up: LookUp = |name| (name == "postgres").then_some(998);
        Owners::new(ownership, look_up, look_up)
    }

    #[test]
    fn names_count_before_numbers() {
        let owners = owners(Ownership::ByName);
        for _ in 0..2 {
            let found = owners.owner_of(&attributes(112, "postgres", 120, Some("postgres"))).unwrap();
            assert_eq!(found, Owner { uid: 998, gid: 998 });
            let found = owners.owner_of(&attributes(1005, "gone", 112, None)).unwrap();
            assert_eq!(found, Owner { uid: 1005, gid: 112 });
        }
        let change = |kind, name: &str, stored, here| OwnerChange { kind, name: name.into(), stored, here };
        let expected = [
            change(OwnerKind::User, "postgres", 112, Some(998)),
            change(OwnerKind::User, "gone", 1005, None),
            change(OwnerKind::Group, "postgres", 120, Some(998)),
        ];
        assert_eq!(owners.into_changes(), expected);
    }

    #[test]
    fn numbers_are_taken_as_they_are_and_nobody_is_asked() {
        let stored = attributes(112, "postgres", 120, Some("postgres"));
        let by_number = owners(Ownership::ByNumber);
        assert_eq!(by_number.owner_of(&stored), Some(Owner { uid: 112, gid: 120 }));
        assert_eq!(owners(Ownership::Restorer).owner_of(&stored), None);
        assert_eq!(by_number.into_changes(), []);
    }

    #[test]
    fn this_host_knows_root() {
        let owners = Owners::of_this_host(Ownership::ByName);
        let found = owners.owner_of(&attributes(7, "root", 7, Some("no such group of ours"))).unwrap();
        assert_eq!(found, Owner { uid: 0, gid: 7 });
    }
}
