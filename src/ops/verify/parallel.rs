//! Does one thing to many items on several threads, and ends at the first error.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crossbeam_channel::bounded;

use super::VerifyError;
use crate::repo::RepoError;

/// Calls `work` for each of `items`, in order but at the same time on up to `threads` threads.
pub(super) fn for_each<T: Send>(
    threads: usize,
    items: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> Result<(), RepoError> + Sync,
) -> Result<(), VerifyError> {
    let failed = AtomicBool::new(false);
    let failure = Mutex::new(None);
    let (sender, receiver) = bounded(threads);
    thread::scope(|scope| -> Result<(), VerifyError> {
        // The sender must be gone before the scope waits for the threads, on every way out.
        let sender = sender;
        for _ in 0..threads {
            let (items, work, failed, failure) = (receiver.clone(), &work, &failed, &failure);
            let serve = move || {
                for item in items {
                    if failed.load(Ordering::Relaxed) {
                        continue;
                    }
                    if let Err(error) = work(item) {
                        failed.store(true, Ordering::Relaxed);
                        failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    }
                }
            };
            thread::Builder::new()
                .name("verify".into())
                .spawn_scoped(scope, serve)
                .map_err(|source| VerifyError::Thread { source })?;
        }
        drop(receiver);
        for item in items {
            if failed.load(Ordering::Relaxed) || sender.send(item).is_err() {
                break;
            }
        }
        Ok(())
    })?;
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(VerifyError::Repo(error)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn every_item_is_done_once() {
        let sum = AtomicU64::new(0);
        for_each(3, 1..=100_u64, |item| {
            sum.fetch_add(item, Ordering::Relaxed);
            Ok(())
        })
        .unwrap();
        assert_eq!(sum.into_inner(), 5050);
    }

    #[test]
    fn the_first_error_ends_it() {
        let done = AtomicU64::new(0);
        let result = for_each(2, 0..1_000_000, |_| {
            done.fetch_add(1, Ordering::Relaxed);
            Err(RepoError::NoStore("here".into()))
        });
        assert!(matches!(result, Err(VerifyError::Repo(RepoError::NoStore(_)))));
        assert!(done.into_inner() < 10);
    }
}
