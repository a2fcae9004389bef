//! Finds out that a request hangs: no byte was sent or received for some time.
//!
//! A bound for the whole request would have to allow for the slowest line and the largest object, and a stuck connection
//! would then be noticed after an hour.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Beats whenever a request moves on.
#[derive(Debug, Clone, Default)]
pub(super) struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Tells that the request moves on.
    pub(super) fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits for `request`, as long as the pulse beats; nothing if it was silent for between once and twice that time.
    pub(super) async fn watch<T>(&self, silence: Duration, request: impl Future<Output = T>) -> Option<T> {
        let mut request = pin!(request);
        let mut beats = self.0.load(Ordering::Relaxed);
        loop {
            if let Ok(done) = tokio::time::timeout(silence, request.as_mut()).await {
                return Some(done);
            }
            let now = self.0.load(Ordering::Relaxed);
            if now == beats {
                return None;
            }
            beats = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::runtime::Runtime;

    #[test]
    fn a_slow_request_ends_and_a_stuck_one_is_given_up() {
        let runtime = Runtime::start().unwrap();
        let pulse = Pulse::default();
        let slow = async {
            for _ in 0..8 {
                tokio::time::sleep(Duration::from_millis(40)).await;
                pulse.beat();
            }
            "done"
        };
        assert_eq!(runtime.wait(pulse.watch(Duration::from_millis(100), slow)).unwrap(), Some("done"));
        let stuck = std::future::pending::<()>();
        assert_eq!(runtime.wait(pulse.watch(Duration::from_millis(20), stuck)).unwrap(), None);
    }
}
