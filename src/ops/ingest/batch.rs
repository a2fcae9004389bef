//! A bounded queue that hands over several items at once: to wake the thread at its other end costs more than most
//! items do.

use crossbeam_channel::Sender;

/// Items that are handed over together.
const BATCH_ITEMS: usize = 64;

/// Nobody receives any more.
#[derive(Debug)]
pub(super) struct Closed;

/// The end that sends. What it holds back is handed over when it is dropped.
pub(super) struct BatchSender<T> {
    batch: Vec<T>,
    batches: Sender<Vec<T>>,
}

/// Makes a queue that holds about `items`.
pub(super) fn bounded<T>(items: usize) -> (BatchSender<T>, impl Iterator<Item = T>) {
    let (batches, received) = crossbeam_channel::bounded(items.div_ceil(BATCH_ITEMS));
    (BatchSender { batch: Vec::new(), batches }, received.into_iter().flatten())
}

impl<T> BatchSender<T> {
    /// Sends an item, now or with those that follow; waits while the queue is full.
    pub(super) fn send(&mut self, item: T) -> Result<(), Closed> {
        if self.batch.is_empty() {
            self.batch.reserve_exact(BATCH_ITEMS);
        }
        self.batch.push(item);
        if self.batch.len() < BATCH_ITEMS { Ok(()) } else { self.hand_over() }
    }

    fn hand_over(&mut self) -> Result<(), Closed> {
        self.batches.send(std::mem::take(&mut self.batch)).map_err(|_| Closed)
    }
}

impl<T> Drop for BatchSender<T> {
    fn drop(&mut self) {
        if !self.batch.is_empty() {
            // Who went away wants nothing.
            let _ = self.hand_over();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_in_order_and_the_last_ones_at_the_end() {
        for count in [0, 1, BATCH_ITEMS, 3 * BATCH_ITEMS + 5] {
            let (mut sender, received) = bounded(BATCH_ITEMS);
            let sending = std::thread::spawn(move || (0..count).try_for_each(|item| sender.send(item)));
            assert_eq!(received.collect::<Vec<_>>(), (0..count).collect::<Vec<_>>());
            sending.join().unwrap().unwrap();
        }
    }

    #[test]
    fn no_more_wait_than_the_queue_holds() {
        let (mut sender, mut received) = bounded(2 * BATCH_ITEMS);
        for item in 0..2 * BATCH_ITEMS {
            sender.send(item).unwrap();
        }
        assert!(sender.batches.is_full());
        assert_eq!(received.next(), Some(0));
    }

    #[test]
    fn a_sender_learns_that_nobody_receives() {
        let (mut sender, received) = bounded(BATCH_ITEMS);
        drop(received);
        let refused = (0..2 * BATCH_ITEMS).find_map(|item| sender.send(item).err());
        assert!(refused.is_some());
    }
}
