//! Chunks that turned out to be usable, so that those beside them need not be looked up.
//!
//! Files that lie side by side were stored side by side: who finds a chunk asks for others of its frame soon.

use crate::id::ChunkId;

/// Places for chunks: half a megabyte, and more than a few thousand files in a row need.
const SLOTS: usize = 1 << 14;

/// A bounded set that may forget what was added to it. Ids are hashes, so that each has its place by itself.
pub(super) struct UsableChunks {
    slots: Vec<Option<ChunkId>>,
}

impl Default for UsableChunks {
    fn default() -> Self {
        Self { slots: vec![None; SLOTS] }
    }
}

impl UsableChunks {
    /// Adds chunks; each takes the place of an older one.
    pub(super) fn add(&mut self, ids: impl IntoIterator<Item = ChunkId>) {
        for id in ids {
            if let Some(slot) = self.slots.get_mut(place(&id)) {
                *slot = Some(id);
            }
        }
    }

    /// Tells whether a chunk was added. `false` says nothing.
    pub(super) fn contains(&self, id: &ChunkId) -> bool {
        self.slots.get(place(id)) == Some(&Some(*id))
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
        assert!(!usable.contains(&id(0, 0)));
        usable.add([id(0, 0), id(1, 0), id(u16::MAX, 0)]);
        assert!(
            usable.contains(&id(0, 0)) && usable.contains(&id(1, 0)) && usable.contains(&id(u16::MAX, 0))
        );
        assert!(!usable.contains(&id(1, 1)), "the same place, another chunk");
        usable.add([id(1, 1)]);
        assert!(usable.contains(&id(1, 1)) && !usable.contains(&id(1, 0)));
    }
}
