//! How many requests there were, and how many bytes went each way.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::request::{Operation, Request};

/// Requests that are remembered; older ones are counted alone.
const REMEMBERED: usize = 100_000;

/// What the server was asked for since it started, or since its counts were reset.
#[derive(Debug, Default)]
pub struct Counts {
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    requests: Mutex<Requests>,
}

#[derive(Debug, Default)]
struct Requests {
    by_operation: BTreeMap<Operation, u64>,
    /// The number of the first one that is remembered.
    first: u64,
    remembered: VecDeque<Request>,
}

/// A copy of the counts at one time. It displays as a JSON object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counted {
    /// Requests by what they asked for.
    pub requests: BTreeMap<Operation, u64>,
    /// Bytes of the bodies of requests.
    pub received_bytes: u64,
    /// Bytes of the bodies of replies.
    pub sent_bytes: u64,
}

impl Counts {
    /// Counts a request; returns its number.
    pub(crate) fn begin(&self, request: &Request) -> u64 {
        let mut requests = self.requests();
        *requests.by_operation.entry(request.operation).or_default() += 1;
        requests.remembered.push_back(request.clone());
        let number = requests.first + requests.remembered.len() as u64 - 1;
        if requests.remembered.len() > REMEMBERED {
            requests.remembered.pop_front();
            requests.first += 1;
        }
        number
    }

    /// Adds to a remembered request what became of it.
    pub(crate) fn amend(&self, number: u64, amend: impl FnOnce(&mut Request)) {
        let mut requests = self.requests();
        let place = number.checked_sub(requests.first).and_then(|place| usize::try_from(place).ok());
        if let Some(request) = place.and_then(|place| requests.remembered.get_mut(place)) {
            amend(request);
        }
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Returns the counts as they are now.
    pub fn now(&self) -> Counted {
        Counted {
            requests: self.requests().by_operation.clone(),
            received_bytes: self.received_bytes.load(Ordering::Relaxed),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
        }
    }

    /// Begins to count from nothing, and forgets the requests that it remembered.
    pub fn reset(&self) {
        let mut requests = self.requests();
        // Numbers go on, so that a request which still runs amends no other one.
        let first = requests.first + requests.remembered.len() as u64;
        *requests = Requests { first, ..Requests::default() };
        self.received_bytes.store(0, Ordering::Relaxed);
        self.sent_bytes.store(0, Ordering::Relaxed);
    }

    /// Returns the last requests, at most 100,000, in the order in which their heads came in.
    pub fn log(&self) -> Vec<Request> {
        self.requests().remembered.iter().cloned().collect()
    }

    fn requests(&self) -> std::sync::MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    /// Returns how many requests there were for an operation.
    #[must_use]
    pub fn of(&self, operation: Operation) -> u64 {
        self.requests.get(&operation).copied().unwrap_or(0)
    }

    /// Returns how many requests there were.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.requests.values().sum()
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("{")?;
        for operation in Operation::ALL {
            write!(formatter, r#""{operation}":{},"#, self.of(operation))?;
        }
        write!(formatter, r#""requests":{},"#, self.total())?;
        write!(formatter, r#""received_bytes":{},"sent_bytes":{}}}"#, self.received_bytes, self.sent_bytes)
    }
}
