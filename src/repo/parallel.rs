//! Requests that are under way at the same time: what a distant store takes long for, it does for many at once.
//!
//! Work is done on threads that live as long as the call. The caller's thread hands out what is to be done and takes what
//! comes back, so that what follows, such as writing to the index, has one writer.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};

/// Items that wait for each thread, so that none is idle.
const WAITING_PER_THREAD: usize = 2;
/// Results, for each thread, that may wait for one before them.
const RESULTS_PER_THREAD: usize = 8;

/// Does `work` for each of `items` on up to `threads` threads, and ends at the first error.
///
/// # Errors
/// The first error of `work`; other items may have been done or not.
pub(crate) fn each<T: Send, E: Send>(
    threads: usize,
    items: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let items = items.into_iter().map(|item| (item, 0));
    let bounds = Bounds { results: usize::MAX, bytes: u64::MAX };
    run(threads, &bounds, items, work, |()| Ok(()))
}

/// Does `work` for each of `items` on up to `threads` threads, and hands the results to `take` in the order of the items.
/// Each item comes with what its result takes in memory; at most `bytes_max` of results are under way or wait for one
/// before them, or a single one that is larger.
///
/// # Errors
/// The first error of `work` or `take`; nothing is taken after it.
pub(crate) fn in_order<T: Send, R: Send, E: Send>(
    threads: usize,
    bytes_max: u64,
    items: impl IntoIterator<Item = (T, u64)>,
    work: impl Fn(T) -> Result<R, E> + Sync,
    take: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    let bounds = Bounds { results: threads.max(1).saturating_mul(RESULTS_PER_THREAD), bytes: bytes_max };
    run(threads, &bounds, items.into_iter(), work, take)
}

/// How much may be begun and not yet taken.
struct Bounds {
    results: usize,
    bytes: u64,
}

/// What a thread answers: the number of the item, and what came of it, or what it panicked with.
type Answer<R, E> = (usize, Result<Result<R, E>, Box<dyn Any + Send>>);

fn run<T: Send, R: Send, E: Send>(
    threads: usize,
    bounds: &Bounds,
    items: impl Iterator<Item = (T, u64)>,
    work: impl Fn(T) -> Result<R, E> + Sync,
    mut take: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    let mut items = items.peekable();
    let mut first = items.next();
    // One alone is no reason to start threads.
    if threads < 2 || items.peek().is_none() {
        return first.into_iter().chain(items).try_for_each(|(item, _)| take(work(item)?));
    }
    let failed = &AtomicBool::new(false);
    thread::scope(|scope| {
        let (jobs, taken) = unbounded();
        let (answers, answered) = unbounded();
        let mut started = 0;
        let mut under_way = UnderWay::default();
        loop {
            while let Some((_, bytes)) = first.as_ref().or_else(|| items.peek())
                && under_way.has_room(bounds, *bytes, threads)
                && let Some((item, bytes)) = first.take().or_else(|| items.next())
            {
                // Where the system has no further thread to give, those that there are do.
                if started < threads {
                    let (taken, answers, work) = (taken.clone(), answers.clone(), &work);
                    let serve = move || serve(&taken, &answers, failed, work);
                    started += usize::from(
                        thread::Builder::new().name("request".into()).spawn_scoped(scope, serve).is_ok(),
                    );
                }
                let number = under_way.begin(bytes);
                if started == 0 {
                    let _ = answers.send((number, Ok(work(item))));
                } else {
                    let _ = jobs.send((number, item));
                }
            }
            if under_way.is_empty() {
                return Ok(());
            }
            // This thread holds a sender, so that there is always an answer to come.
            let Ok((number, answer)) = answered.recv() else { return Ok(()) };
            let result = answer.unwrap_or_else(|panic| {
                failed.store(true, Ordering::Relaxed);
                resume_unwind(panic)
            });
            let outcome = result.and_then(|result| under_way.end(number, result, &mut take));
            if outcome.is_err() {
                failed.store(true, Ordering::Relaxed);
                return outcome;
            }
        }
    })
}

fn serve<T, R, E>(
    taken: &Receiver<(usize, T)>,
    answers: &Sender<Answer<R, E>>,
    failed: &AtomicBool,
    work: &(impl Fn(T) -> Result<R, E> + Sync),
) {
    for (number, item) in taken {
        if failed.load(Ordering::Relaxed) {
            return;
        }
        let answer = catch_unwind(AssertUnwindSafe(|| work(item)));
        if answers.send((number, answer)).is_err() {
            return;
        }
    }
}

/// What was begun, and what of it waits for something before it.
struct UnderWay<R> {
    begun: usize,
    answered: usize,
    taken: usize,
    bytes: u64,
    sizes: BTreeMap<usize, u64>,
    waiting: BTreeMap<usize, R>,
}

impl<R> Default for UnderWay<R> {
    fn default() -> Self {
        Self { begun: 0, answered: 0, taken: 0, bytes: 0, sizes: BTreeMap::new(), waiting: BTreeMap::new() }
    }
}

impl<R> UnderWay<R> {
    fn is_empty(&self) -> bool {
        self.begun == self.taken
    }

    fn has_room(&self, bounds: &Bounds, bytes: u64, threads: usize) -> bool {
        let fits = self.begun - self.taken < bounds.results
            && self.begun - self.answered < threads.saturating_mul(WAITING_PER_THREAD)
            && self.bytes.saturating_add(bytes) <= bounds.bytes;
        fits || self.is_empty()
    }

    fn begin(&mut self, bytes: u64) -> usize {
        let number = self.begun;
        self.begun += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        self.sizes.insert(number, bytes);
        number
    }

    /// Takes this result and those that waited for it, or lets it wait.
    fn end<E>(
        &mut self,
        number: usize,
        result: R,
        take: &mut impl FnMut(R) -> Result<(), E>,
    ) -> Result<(), E> {
        self.answered += 1;
        self.waiting.insert(number, result);
        while let Some(result) = self.waiting.remove(&self.taken) {
            self.bytes = self.bytes.saturating_sub(self.sizes.remove(&self.taken).unwrap_or(0));
            self.taken += 1;
            take(result)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU64, AtomicUsize};
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_item_is_done_once() {
        for threads in [0, 1, 3] {
            let sum = AtomicU64::new(0);
            let add = |item| {
                sum.fetch_add(item, Ordering::Relaxed);
                Ok::<_, ()>(())
            };
            each(threads, 1..=100_u64, add).unwrap();
            assert_eq!(sum.into_inner(), 5050);
        }
    }

    #[test]
    fn the_first_error_ends_it() {
        let done = AtomicUsize::new(0);
        let result = each(2, 0..1_000_000, |_| {
            done.fetch_add(1, Ordering::Relaxed);
            Err("no")
        });
        assert_eq!(result, Err("no"));
        assert!(done.into_inner() < 10);
        let mut taken = Vec::new();
        let result = in_order(3, 100, (0..100).map(|item| (item, 1)), Ok, |item| {
            taken.push(item);
            if item == 5 { Err("enough") } else { Ok(()) }
        });
        assert_eq!((result, taken), (Err("enough"), (0..=5).collect()));
    }

    #[test]
    fn items_are_done_at_the_same_time() {
        let together = Barrier::new(4);
        each(4, 0..8, |_| {
            together.wait();
            Ok::<_, ()>(())
        })
        .unwrap();
    }

    #[test]
    fn results_come_in_order_whatever_takes_longest() {
        let work = |item: u64| {
            std::thread::sleep(Duration::from_millis(if item.is_multiple_of(5) { 20 } else { 1 }));
            Ok::<_, ()>(item)
        };
        let mut taken = Vec::new();
        in_order(4, u64::MAX, (0..40).map(|item| (item, 1)), work, |item| {
            taken.push(item);
            Ok(())
        })
        .unwrap();
        assert!(taken.into_iter().eq(0..40));
    }

    #[test]
    fn what_is_under_way_is_bounded_by_bytes() {
        let (now, most) = (AtomicU64::new(0), AtomicU64::new(0));
        let work = |bytes: u64| {
            let sum = now.fetch_add(bytes, Ordering::SeqCst) + bytes;
            most.fetch_max(sum, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(1));
            Ok::<_, ()>(bytes)
        };
        // The third is larger than all that may be under way, and goes alone.
        let sizes = [40, 60, 500, 30, 30, 30, 30, 100];
        in_order(8, 100, sizes.map(|bytes| (bytes, bytes)), work, |bytes| {
            now.fetch_sub(bytes, Ordering::SeqCst);
            Ok(())
        })
        .unwrap();
        assert_eq!(most.into_inner(), 500);
    }

    #[test]
    #[should_panic(expected = "a bug")]
    fn a_panic_of_a_thread_is_the_callers() {
        let _ = each(2, 0..10, |item| if item == 3 { panic!("a bug") } else { Ok::<_, ()>(()) });
    }
}
