//! Buffers of decoded frames, used again and again.
//!
//! Frames of a few hundred kilobytes come and go in several threads. If each had memory of its own from the system, the
//! gaps that they leave would take as much as the frames that are kept.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the buffers that wait for the next frame may take; more goes back to the system.
const IDLE_MAX_BYTES: usize = 8 << 20;
/// Capacities are multiples of this, so that a buffer fits frames of about its size.
const STEP_BYTES: usize = 32 << 10;

/// Buffers that nobody uses at present, the newest at the end.
#[derive(Default)]
pub(super) struct Buffers(Mutex<VecDeque<Vec<u8>>>);

impl Buffers {
    /// Returns an empty buffer that `bytes` fit in, and that is not much larger.
    pub(super) fn take(&self, bytes: usize) -> Vec<u8> {
        let capacity = bytes.next_multiple_of(STEP_BYTES);
        let mut idle = self.lock();
        let fitting = idle.iter().rposition(|buffer| (capacity..=2 * capacity).contains(&buffer.capacity()));
        fitting.and_then(|at| idle.remove(at)).unwrap_or_else(|| Vec::with_capacity(capacity))
    }

    /// Takes back a buffer.
    pub(super) fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut idle = self.lock();
        idle.push_back(buffer);
        while idle.iter().map(Vec::capacity).sum::<usize>() > IDLE_MAX_BYTES {
            idle.pop_front();
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_serves_frames_of_about_its_size() {
        let buffers = Buffers::default();
        let mut first = buffers.take(200_000);
        assert!(first.capacity() >= 200_000);
        first.extend([7; 1000]);
        let at = first.as_ptr();
        buffers.give(first);
        let (larger, smaller) = (buffers.take(600_000), buffers.take(1000));
        assert!(larger.as_ptr() != at);
        assert!(smaller.as_ptr() != at, "most of it would lie idle");
        let again = buffers.take(150_000);
        assert_eq!((again.as_ptr(), again.len()), (at, 0));
    }

    #[test]
    fn idle_buffers_are_few() {
        let buffers = Buffers::default();
        for megabytes in [1, 2, 4, 3] {
            buffers.give(Vec::with_capacity(megabytes << 20));
        }
        let kept: Vec<_> = buffers.lock().iter().map(|buffer| buffer.capacity() >> 20).collect();
        assert_eq!(kept, [4, 3], "the oldest ones went");
    }
}
