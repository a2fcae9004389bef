//! When a request that failed is sent again: ever later, at random, until patience ends.

use std::time::Duration;

/// The longest delay after the first failure; it doubles with each.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);

/// How long it is worth trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience(Duration);

impl Patience {
    /// A store that answers nothing, or refuses everybody, for a minute is waited for.
    pub const DEFAULT: Self = Self(Duration::from_mins(2));

    /// Tries again for so long.
    #[must_use]
    pub const fn new(time: Duration) -> Self {
        Self(time)
    }

    /// Returns how long a request may make no progress at all: no byte sent, none received.
    #[must_use]
    pub fn silence(self) -> Duration {
        (self.0 / 4).clamp(Duration::from_millis(100), Duration::from_secs(30))
    }

    /// Returns the delay before a request is sent again that failed `failures` times and was begun `elapsed` ago; nothing
    /// if it is to fail. `random` is evenly distributed: many clients of a server that was down must not come back at once.
    pub(super) fn delay(self, failures: u32, elapsed: Duration, random: u64) -> Option<Duration> {
        let most = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST);
        let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX).max(1);
        // Half of it at least: a delay of nothing is none.
        let delay = Duration::from_nanos(nanos / 2 + random % nanos.div_ceil(2));
        (elapsed + delay <= self.0).then_some(delay)
    }
}

/// Returns a random number, or a constant where there are none: then clients come back together.
pub(super) fn random() -> u64 {
    getrandom::u64().unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_bound_and_end_with_patience() {
        let patience = Patience::new(Duration::from_secs(60));
        for (failures, least, most) in
            [(1, 50, 100), (2, 100, 200), (5, 800, 1600), (8, 5000, 10_000), (99, 5000, 10_000)]
        {
            for random in [0, 1, u64::MAX / 3, u64::MAX] {
                let delay = patience.delay(failures, Duration::ZERO, random).unwrap();
                assert!(
                    delay >= Duration::from_millis(least) && delay <= Duration::from_millis(most),
                    "{delay:?}"
                );
            }
        }
        assert_eq!(patience.delay(1, Duration::from_secs(60), 0), None);
        assert_eq!(Patience::new(Duration::ZERO).delay(1, Duration::ZERO, 0), None);
    }

    #[test]
    fn a_minute_of_refusals_is_survived() {
        let (mut elapsed, mut failures) = (Duration::ZERO, 0);
        while elapsed < Duration::from_secs(60) {
            failures += 1;
            elapsed += Patience::DEFAULT.delay(failures, elapsed, u64::MAX).unwrap();
        }
        assert!(failures < 20);
    }
}
