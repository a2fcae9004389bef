//! Open files and directories, by the numbers that the kernel knows them under.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::{VfsError, lock};

/// What is open, by number. Numbers are never used twice.
pub(super) struct HandleTable<T> {
    open: Mutex<HashMap<u64, Arc<T>>>,
    next: AtomicU64,
}

impl<T> HandleTable<T> {
    pub(super) fn new() -> Self {
        Self { open: Mutex::new(HashMap::new()), next: AtomicU64::new(1) }
    }

    pub(super) fn insert(&self, value: T) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.open).insert(number, Arc::new(value));
        number
    }

    pub(super) fn get(&self, number: u64) -> Result<Arc<T>, VfsError> {
        lock(&self.open).get(&number).cloned().ok_or(VfsError::BadHandle(number))
    }

    pub(super) fn remove(&self, number: u64) -> Option<Arc<T>> {
        lock(&self.open).remove(&number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_released_number_never_comes_back() {
        let table = HandleTable::new();
        let first = table.insert("a");
        assert_eq!(*table.get(first).unwrap(), "a");
        assert!(table.remove(first).is_some());
        assert!(matches!(table.get(first), Err(VfsError::BadHandle(number)) if number == first));
        assert_ne!(table.insert("b"), first);
    }
}
