//! Small sets of small numbers: what states are made of, so that millions of them fit into memory.

use std::fmt;

/// A set of numbers below 16.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Set(u16);

impl Set {
    pub(super) const EMPTY: Self = Self(0);

    pub(super) fn of(items: impl IntoIterator<Item = u8>) -> Self {
        items.into_iter().fold(Self::EMPTY, Self::with)
    }

    pub(super) fn with(self, item: u8) -> Self {
        Self(self.0 | 1 << item)
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) fn has(self, item: u8) -> bool {
        self.0 & 1 << item != 0
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn is_subset(self, other: Self) -> bool {
        self.without(other).is_empty()
    }

    pub(super) fn iter(self) -> impl DoubleEndedIterator<Item = u8> {
        (0..16).filter(move |item| self.has(*item))
    }

    /// All sets that have some of the same numbers, but at least one.
    pub(super) fn parts(self) -> impl Iterator<Item = Self> {
        (1..=self.0).map(Self).filter(move |part| part.is_subset(self))
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.iter()).finish()
    }
}
