//! A map from numbers to values that holds millions of them in little memory.

use hashbrown::HashTable;

/// Values that are allocated together.
const SEGMENT_SLOTS: usize = 4096;

/// Values by number. They lie without gaps in segments, and a hash table of their positions finds them.
///
/// A hash table is half empty after it grew, so that it is kept to four bytes a value. The segments never move:
/// a vector that grows leaves its old memory behind. The numbers have to be hashes: they are used as they are.
pub(super) struct DenseMap<V> {
    /// All segments but the last are full, and the last is not empty.
    segments: Vec<Vec<(u64, V)>>,
    /// Where a number stands in the segments. The 2^32nd value and those after it would not be found.
    positions: HashTable<u32>,
}

impl<V> DenseMap<V> {
    pub(super) fn new() -> Self {
        Self { segments: Vec::new(), positions: HashTable::new() }
    }

    pub(super) fn get(&self, number: u64) -> Option<&V> {
        let position =
            self.positions.find(hash(number), |&held| number_at(&self.segments, held) == Some(number))?;
        let slot = slot_at(&self.segments, *position)?;
        Some(&slot.1)
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut V> {
        let segments = &self.segments;
        let &position =
            self.positions.find(hash(number), |&held| number_at(segments, held) == Some(number))?;
        let (segment, slot) = place(position)?;
        let slot = self.segments.get_mut(segment)?.get_mut(slot)?;
        Some(&mut slot.1)
    }

    /// Adds a value, whose number no other may have.
    pub(super) fn insert(&mut self, number: u64, value: V) {
        let position = u32::try_from(self.len()).unwrap_or(u32::MAX);
        match self.segments.last_mut() {
            Some(segment) if segment.len() < SEGMENT_SLOTS => segment.push((number, value)),
            _ => {
                let mut segment = Vec::with_capacity(SEGMENT_SLOTS);
                segment.push((number, value));
                self.segments.push(segment);
            }
        }
        let segments = &self.segments;
        self.positions
            .insert_unique(hash(number), position, |&held| number_at(segments, held).map_or(0, hash));
    }

    /// Takes a value out. The last one takes its position.
    pub(super) fn remove(&mut self, number: u64) -> Option<V> {
        let segments = &self.segments;
        let same = |&held: &u32| number_at(segments, held) == Some(number);
        let (position, _) = self.positions.find_entry(hash(number), same).ok()?.remove();
        let last = self.segments.last_mut()?;
        let mut removed = last.pop()?;
        if last.is_empty() {
            self.segments.pop();
        }
        let moved_from = u32::try_from(self.len()).unwrap_or(u32::MAX);
        if position != moved_from {
            let (segment, slot) = place(position)?;
            let moved = removed.0;
            std::mem::swap(self.segments.get_mut(segment)?.get_mut(slot)?, &mut removed);
            *self.positions.find_mut(hash(moved), |&held| held == moved_from)? = position;
        }
        if self.positions.len() < self.positions.capacity() / 4 {
            let segments = &self.segments;
            self.positions.shrink_to(0, |&held| number_at(segments, held).map_or(0, hash));
        }
        Some(removed.1)
    }

    pub(super) fn len(&self) -> usize {
        self.segments.last().map_or(0, |last| (self.segments.len() - 1) * SEGMENT_SLOTS + last.len())
    }
}

/// Returns which segment a position is in, and where in it.
fn place(position: u32) -> Option<(usize, usize)> {
    let position = usize::try_from(position).ok()?;
    Some((position / SEGMENT_SLOTS, position % SEGMENT_SLOTS))
}

fn slot_at<V>(segments: &[Vec<(u64, V)>], position: u32) -> Option<&(u64, V)> {
    let (segment, slot) = place(position)?;
    segments.get(segment)?.get(slot)
}

fn number_at<V>(segments: &[Vec<(u64, V)>], position: u32) -> Option<u64> {
    slot_at(segments, position).map(|slot| slot.0)
}

/// Returns the hash of a number: itself, with its 63 bits moved to where the table looks first.
fn hash(number: u64) -> u64 {
    number.rotate_left(1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_does_what_a_tree_does(steps in prop::collection::vec((any::<bool>(), 0_u64..40, any::<u32>()), 0..400)) {
            let (mut map, mut tree) = (DenseMap::new(), BTreeMap::new());
            for (put, number, value) in steps {
                if put && tree.insert(number, value).is_none() {
                    map.insert(number, value);
                } else if put {
                    *map.get_mut(number).unwrap() = value;
                } else {
                    prop_assert_eq!(map.remove(number), tree.remove(&number));
                }
                prop_assert_eq!(map.len(), tree.len());
                for number in 0..40 {
                    prop_assert_eq!(map.get(number), tree.get(&number));
                }
            }
        }
    }

    #[test]
    fn memory_is_given_back() {
        let mut map = DenseMap::new();
        let numbers = || (0..100_000_u64).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1);
        numbers().for_each(|number| map.insert(number, number));
        assert!(numbers().all(|number| map.get(number) == Some(&number)));
        numbers().skip(10).for_each(|number| assert_eq!(map.remove(number), Some(number)));
        assert!(numbers().take(10).all(|number| map.get(number) == Some(&number)));
        assert!(map.segments.len() == 1 && map.positions.capacity() < 100);
    }
}
