//! Chunks that turned out to be usable, so that those beside them need not be looked up.
//!
//! Files that lie side by side were stored side by side: who finds a chunk asks for others of its frame soon.

use crate::id::ChunkId;

/// Places for chunks: half a megabyte, and more than a few thousand files in a row need.
const SLOTS: usize = 1 << 14;

/// A bounded set that may forget what was added to it. Ids are hashes, so that each has its place by itself.
pub(super) struct UsableChunks {
    slots: Vec<Option<ChunkId>>,
    /// What was distrusted when they were added.
    changes: u64,
}

impl Default for UsableChunks {
    fn default() -> Self {
        Self { slots: vec![None; SLOTS], changes: 0 }
    }
}

impl UsableChunks {
    /// Adds chunks that were found usable as of that many [changes](crate::index::Index::distrust_changes); each takes
    /// the place of an older one.
    pub(super) fn add(&mut self, ids: impl IntoIterator<Item = ChunkId>, changes: u64) {
        if changes != self.changes {
            self.slots.fill(None);
            self.changes = changes;
        }
        for id in ids {
            if let Some(slot) = self.slots.get_mut(place(&id)) {
                *slot = Some(id);
            }
        }
    }

    /// Tells whether a chunk was added, and nothing was distrusted since. `false` says nothing.
    pub(super) fn contains(&self, id: &ChunkId, changes: u64) -> bool {
        changes == self.changes && self.slots.get(place(id)) == Some(&Some(*id))
    }
}

fn place(id: &ChunkId) -> usize {
    let [first, second, ..] = id.as_bytes();
    usize::from(u16::from_le_bytes([*first, *second])) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(place: u16, rest: u8) -> ChunkId {
        let mut bytes = [rest; ChunkId::LEN];
        bytes[..2].copy_from_slice(&place.to_le_bytes());
        ChunkId::from_bytes(bytes)
    }

    #[test]
    fn what_was_added_is_there_until_another_one_takes_its_place() {
        let mut usable = UsableChunks::default();
        assert!(!usable.contains(&id(0, 0), 0));
        usable.add([id(0, 0), id(1, 0), id(u16::MAX, 0)], 0);
        assert!(
            usable.contains(&id(0, 0), 0)
                && usable.contains(&id(1, 0), 0)
                && usable.contains(&id(u16::MAX, 0), 0)
        );
        assert!(!usable.contains(&id(1, 1), 0), "the same place, another chunk");
        usable.add([id(1, 1)], 0);
        assert!(usable.contains(&id(1, 1), 0) && !usable.contains(&id(1, 0), 0));
    }

    #[test]
    fn what_was_found_before_damage_was_is_looked_up_anew() {
        let mut usable = UsableChunks::default();
        usable.add([id(0, 0), id(1, 0)], 3);
        assert!(usable.contains(&id(0, 0), 3) && !usable.contains(&id(0, 0), 4));
        usable.add([id(1, 0)], 4);
        assert!(usable.contains(&id(1, 0), 4) && !usable.contains(&id(0, 0), 4));
    }
}
