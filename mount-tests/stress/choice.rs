//! Choices that a seed decides: the same seed, the same plan.

use std::time::Duration;

/// A source of choices (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Chooser(u64);

impl Chooser {
    /// Returns the source that belongs to a seed and to names of what it is for.
    pub(crate) fn new(seed: u64, names: &[u64]) -> Self {
        let mut chooser = Self(seed);
        for name in names {
            chooser.0 = chooser.next() ^ name.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        chooser
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Tells whether something happens that does in so many of 100 cases.
    pub(crate) fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }

    /// Returns a time of at most so many milliseconds.
    pub(crate) fn time(&mut self, most_ms: u64) -> Duration {
        Duration::from_micros(self.below(most_ms * 1000 + 1))
    }

    /// Takes one of several.
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let length = u64::try_from(of.len()).unwrap();
        (length > 0).then(|| &of[usize::try_from(self.below(length)).unwrap()])
    }
}
