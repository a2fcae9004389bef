//! How fast bytes may pass: one bound for all transfers in one direction.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many blocks pass in a second at the bound, so that transfers that share it take turns.
const BLOCKS_PER_SECOND: u64 = 20;
const BLOCK_MIN_BYTES: usize = 1 << 10;
/// The most that passes at a time.
pub(super) const BLOCK_MAX_BYTES: usize = 128 << 10;

/// Spreads transfers over time. Threads share it.
#[derive(Debug)]
pub(super) struct Throttle {
    bytes_per_second: u64,
    /// When all that was let pass so far has passed.
    busy_until: Mutex<Instant>,
}

impl Throttle {
    /// Lets so many bytes pass in a second, at least one.
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), busy_until: Mutex::new(Instant::now()) }
    }

    /// Returns how many bytes are to pass at a time.
    pub(super) fn block_bytes(&self) -> usize {
        let bytes = self.bytes_per_second / BLOCKS_PER_SECOND;
        usize::try_from(bytes).unwrap_or(usize::MAX).clamp(BLOCK_MIN_BYTES, BLOCK_MAX_BYTES)
    }

    /// Books `bytes` at `now`, and returns how long whoever sends or receives them has to wait.
    pub(super) fn book(&self, bytes: usize, now: Instant) -> Duration {
        let micros = (bytes as u128 * 1_000_000) / u128::from(self.bytes_per_second);
        let takes = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        let mut busy_until = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
        let begins = (*busy_until).max(now);
        *busy_until = begins.checked_add(takes).unwrap_or(begins);
        busy_until.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_pass_at_the_bound_and_idle_time_is_not_saved_up() {
        let throttle = Throttle::new(1000);
        let start = Instant::now() + Duration::from_secs(1);
        assert_eq!(throttle.book(500, start), Duration::from_millis(500));
        assert_eq!(throttle.book(500, start), Duration::from_secs(1));
        let later = start + Duration::from_secs(60);
        assert_eq!(throttle.book(1000, later), Duration::from_secs(1));
    }

    #[test]
    fn blocks_are_short_in_time() {
        assert_eq!(Throttle::new(0).block_bytes(), BLOCK_MIN_BYTES);
        assert_eq!(Throttle::new(1 << 20).block_bytes(), 52_428);
        assert_eq!(Throttle::new(u64::MAX).block_bytes(), BLOCK_MAX_BYTES);
    }
}
