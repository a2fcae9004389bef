//! Sets of snapshots, as positions in the list that a walk was given.

use std::ops::Range;

/// Some of the snapshots of a walk, by their positions in its list.
///
/// Holds ranges that are sorted and neither empty nor touching: what stays unchanged from one snapshot of a series
/// to the next costs as much for thousands of snapshots as for two.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SnapshotSet {
    ranges: Vec<Range<usize>>,
}

impl SnapshotSet {
    /// Returns the set of one snapshot.
    #[must_use]
    pub fn one(position: usize) -> Self {
        Self { ranges: std::iter::once(position..position.saturating_add(1)).collect() }
    }

    /// Returns everything that is in one of `sets`.
    #[must_use]
    pub fn union<'s>(sets: impl IntoIterator<Item = &'s Self>) -> Self {
        let mut all: Vec<Range<usize>> =
            sets.into_iter().flat_map(|set| set.ranges.iter().cloned()).collect();
        all.sort_unstable_by_key(|range| range.start);
        let mut ranges: Vec<Range<usize>> = Vec::with_capacity(all.len());
        for range in all {
            match ranges.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => ranges.push(range),
            }
        }
        ranges.shrink_to_fit();
        Self { ranges }
    }

    /// Cuts the set where `series`, which cover the list in order, end: returns what lies in each, by its number.
    pub(in crate::ops) fn split(&self, series: &[Range<usize>]) -> Vec<(usize, Self)> {
        let mut parts: Vec<(usize, Self)> = Vec::new();
        for range in &self.ranges {
            let mut start = range.start;
            let first = series.partition_point(|one| one.end <= start);
            for (number, one) in series.iter().enumerate().skip(first) {
                if start >= range.end {
                    break;
                }
                let piece = start..range.end.min(one.end);
                start = piece.end;
                match parts.last_mut() {
                    Some((last, set)) if *last == number => set.ranges.push(piece),
                    _ => parts.push((number, Self { ranges: std::iter::once(piece).collect() })),
                }
            }
        }
        parts
    }

    /// Returns how many snapshots these are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranges.iter().map(ExactSizeIterator::len).sum()
    }

    /// Tells whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Tells whether the snapshot at `position` is among them.
    #[must_use]
    pub fn contains(&self, position: usize) -> bool {
        let at = self.ranges.partition_point(|range| range.end <= position);
        self.ranges.get(at).is_some_and(|range| range.contains(&position))
    }

    /// Returns the position of the first.
    #[must_use]
    pub fn first(&self) -> Option<usize> {
        self.ranges.first().map(|range| range.start)
    }

    /// Returns the position of the last.
    #[must_use]
    pub fn last(&self) -> Option<usize> {
        self.ranges.last().and_then(|range| range.end.checked_sub(1))
    }

    /// Returns the positions in order.
    pub fn positions(&self) -> impl Iterator<Item = usize> + '_ {
        self.ranges.iter().cloned().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn set(positions: &[usize]) -> SnapshotSet {
        let single: Vec<_> = positions.iter().map(|position| SnapshotSet::one(*position)).collect();
        SnapshotSet::union(&single)
    }

    #[test]
    fn unions_are_those_of_sets() {
        let (left, right) = (set(&[9, 1, 2, 3]), set(&[4, 2, 7]));
        let union = SnapshotSet::union([&left, &right]);
        assert_eq!(union.positions().collect::<Vec<_>>(), [1, 2, 3, 4, 7, 9]);
        assert_eq!((union.len(), union.first(), union.last()), (6, Some(1), Some(9)));
        let members: BTreeSet<usize> = (0..12).filter(|position| union.contains(*position)).collect();
        assert_eq!(members, [1, 2, 3, 4, 7, 9].into());
        assert!(SnapshotSet::default().is_empty() && SnapshotSet::default().first().is_none());
    }

    #[test]
    fn sets_are_split_where_series_end() {
        let split: Vec<(usize, Vec<usize>)> = set(&[0, 2, 3, 4, 5, 9])
            .split(&[0..3, 3..4, 4..8, 8..9, 9..10])
            .into_iter()
            .map(|(number, set)| (number, set.positions().collect()))
            .collect();
        assert_eq!(split, [(0, vec![0, 2]), (1, vec![3]), (2, vec![4, 5]), (4, vec![9])]);
    }

    #[test]
    fn neighbours_cost_one_range() {
        assert_eq!(set(&(0..5000).collect::<Vec<_>>()).ranges.len(), 1);
    }
}
