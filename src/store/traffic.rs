//! What a store over a network was asked for: requests and bytes, for summaries and for their price.

use std::ops::Add;
use std::sync::atomic::{AtomicU64, Ordering};

/// Requests and bytes so far. A request that was sent again counts again, as it is charged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests that store an object.
    pub puts: u64,
    /// Requests that read an object or a range of one.
    pub gets: u64,
    /// Requests that look at an object without reading it.
    pub heads: u64,
    /// Requests for a page of a listing.
    pub lists: u64,
    /// Requests that delete an object.
    pub deletes: u64,
    /// Of all those, the ones that were sent again after a failure.
    pub retries: u64,
    /// Bytes of objects that were sent.
    pub sent_bytes: u64,
    /// Bytes of objects that were received.
    pub received_bytes: u64,
    /// Whether AWS was asked, whose prices are known.
    pub is_aws: bool,
}

impl Traffic {
    /// Returns the number of all requests.
    #[must_use]
    pub fn requests(&self) -> u64 {
        [self.puts, self.gets, self.heads, self.lists, self.deletes].into_iter().fold(0, u64::saturating_add)
    }
}

impl Add for Traffic {
    type Output = Self;

    /// Returns what two places were asked for.
    fn add(self, other: Self) -> Self {
        Self {
            puts: self.puts.saturating_add(other.puts),
            gets: self.gets.saturating_add(other.gets),
            heads: self.heads.saturating_add(other.heads),
            lists: self.lists.saturating_add(other.lists),
            deletes: self.deletes.saturating_add(other.deletes),
            retries: self.retries.saturating_add(other.retries),
            sent_bytes: self.sent_bytes.saturating_add(other.sent_bytes),
            received_bytes: self.received_bytes.saturating_add(other.received_bytes),
            is_aws: self.is_aws || other.is_aws,
        }
    }
}

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Put,
    Get,
    Head,
    List,
    Delete,
}

/// Counts requests and bytes; threads share it.
#[derive(Debug, Default)]
pub(super) struct Meter {
    requests: [AtomicU64; 5],
    retries: AtomicU64,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
}

impl Meter {
    /// Counts a request that is about to be sent.
    pub(super) fn request(&self, request: Request) {
        if let Some(count) = self.requests.get(request as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts that a request is sent again.
    pub(super) fn retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts bytes that were handed to the network.
    pub(super) fn sent(&self, bytes: usize) {
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts bytes that came from the network.
    pub(super) fn received(&self, bytes: usize) {
        self.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Returns all that was counted, of AWS or of another server.
    pub(super) fn traffic(&self, is_aws: bool) -> Traffic {
        let count = |request: Request| {
            self.requests.get(request as usize).map_or(0, |count| count.load(Ordering::Relaxed))
        };
        Traffic {
            puts: count(Request::Put),
            gets: count(Request::Get),
            heads: count(Request::Head),
            lists: count(Request::List),
            deletes: count(Request::Delete),
            retries: self.retries.load(Ordering::Relaxed),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
            received_bytes: self.received_bytes.load(Ordering::Relaxed),
            is_aws,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_told_by_kind() {
        let meter = Meter::default();
        for request in
            [Request::Put, Request::Get, Request::Get, Request::Head, Request::List, Request::Delete]
        {
            meter.request(request);
        }
        meter.retry();
        meter.sent(7);
        meter.received(9);
        let before = meter.traffic(true);
        assert_eq!(
            before,
            Traffic {
                puts: 1,
                gets: 2,
                heads: 1,
                lists: 1,
                deletes: 1,
                retries: 1,
                sent_bytes: 7,
                received_bytes: 9,
                is_aws: true,
            }
        );
        assert_eq!(before.requests(), 6);
        let both = before + Traffic { gets: 1, ..Traffic::default() };
        assert_eq!(both, Traffic { gets: 3, ..before });
    }
}
