//! The threads that read ahead, and hand the kernel what it did not ask for.
//!
//! The kernel reads ahead by itself, but only as far as is harmless for random access. What is read here is
//! decoded into the cache of frames, where the kernel's next requests find it.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::file::ReadFile;
use super::neighbours::{Handover, Neighbours};
use super::pages::Pages;
use crate::repo::Repository;

/// What one job decodes; a window is shared out to the threads in such steps.
const STEP_BYTES: u64 = 1 << 20;
/// Jobs that may wait; more are dropped, since reading ahead is never needed.
const QUEUE_JOBS: usize = 64;

enum Job {
    /// A part of a file that is to be decoded.
    Decode(Arc<ReadFile>, Range<u64>),
    /// Small files that are to go to the kernel.
    HandOver(Arc<Neighbours>, Handover),
    /// What stands around an offset of a file, which is to go to the kernel under its inode.
    HandOverAround(Arc<ReadFile>, u64, u64),
}

/// The threads that read ahead, for all files. They end when this is dropped.
pub(super) struct Prefetcher {
    jobs: Option<Sender<Job>>,
}

impl Prefetcher {
    /// Starts `threads` threads; with none, nothing is read ahead.
    pub(super) fn start(repo: &Arc<Repository>, pages: &Arc<Pages>, threads: usize) -> std::io::Result<Self> {
        if threads == 0 {
            return Ok(Self { jobs: None });
        }
        let (sender, receiver) = bounded::<Job>(QUEUE_JOBS);
        for _ in 0..threads {
            let (repo, pages, jobs) = (Arc::clone(repo), Arc::clone(pages), receiver.clone());
            std::thread::Builder::new()
                .name("yester-prefetch".to_owned())
                .spawn(move || work(&repo, &pages, &jobs))?;
        }
        Ok(Self { jobs: Some(sender) })
    }

    /// Asks for `range` of a file. Returns at once.
    pub(super) fn request(&self, file: &Arc<ReadFile>, range: Range<u64>) {
        let Some(jobs) = &self.jobs else { return };
        for range in steps(range) {
            if jobs.try_send(Job::Decode(Arc::clone(file), range)).is_err() {
                return;
            }
        }
    }

    /// Has what stands around `offset` of a file handed over. Returns at once.
    pub(super) fn hand_over_around(&self, file: &Arc<ReadFile>, inode: u64, offset: u64) {
        if let Some(jobs) = &self.jobs {
            // If too much waits, the kernel asks again.
            let _ = jobs.try_send(Job::HandOverAround(Arc::clone(file), inode, offset));
        }
    }

    /// Has small files handed over. Returns at once.
    pub(super) fn hand_over(&self, neighbours: &Arc<Neighbours>, handover: Handover) {
        let Some(jobs) = &self.jobs else { return };
        let refused = jobs.try_send(Job::HandOver(Arc::clone(neighbours), handover)).err();
        if let Some(Job::HandOver(neighbours, handover)) = refused.map(TrySendError::into_inner) {
            neighbours.drop_handover(&handover);
        }
    }
}

fn work(repo: &Repository, pages: &Pages, jobs: &Receiver<Job>) {
    for job in jobs {
        let run = || match job {
            Job::Decode(file, range) => file.touch(repo, range),
            Job::HandOver(neighbours, handover) => neighbours.hand_over(&handover),
            Job::HandOverAround(file, inode, offset) => file.hand_over_around(repo, pages, inode, offset),
        };
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            tracing::error!("reading ahead failed because of a bug");
        }
    }
}

fn steps(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let mut start = range.start;
    std::iter::from_fn(move || {
        let end = start.saturating_add(STEP_BYTES).min(range.end);
        let step = start..end;
        start = end;
        (!step.is_empty()).then_some(step)
    })
}

#[cfg(test)]
mod tests {
    use super::super::pages::PageCache;
    use super::super::pages::testing::Kept;
    use super::super::support::{Sandbox, contents, directory, file, find, list};
    use super::*;

    /// Holds the thread that hands over until it is let go.
    struct Slow {
        kept: Kept,
        /// Disconnected then.
        held: Receiver<()>,
    }

    impl PageCache for Slow {
        fn store(&self, inode: u64, offset: u64, bytes: &[u8]) {
            self.kept.store(inode, offset, bytes);
            let _ = self.held.recv();
        }
    }

    #[test]
    fn a_window_is_cut_into_steps() {
        let steps: Vec<_> = steps(5..(2 << 20) + 6).collect();
        assert_eq!(
            steps,
            [5..STEP_BYTES + 5, STEP_BYTES + 5..2 * STEP_BYTES + 5, (2 << 20) + 5..(2 << 20) + 6]
        );
    }

    #[test]
    fn files_that_find_the_queue_full_are_handed_over_at_the_next_occasion() {
        let sandbox = Sandbox::new();
        let files = || directory([("x", file("1")), ("y", file("22")), ("z", file("333"))]);
        let root = directory([("a", files()), ("b", files()), ("c", files())]);
        let vfs = sandbox.only(&sandbox.commit("etc", root));
        let kept = Kept::default();
        let (holds, held) = bounded(0);
        vfs.attach(Box::new(Slow { kept: kept.clone(), held }));
        for path in ["a", "b"] {
            list(&vfs, path);
            contents(&vfs, &format!("{path}/x"), 100);
        }
        let inode = find(&vfs, "a/x").inode;
        let busy = vfs.file(inode).unwrap();
        vfs.prefetcher.hand_over_around(&busy, inode, 0);
        kept.wait();
        // The only thread is held by that one; these fill the queue.
        for _ in 0..QUEUE_JOBS {
            vfs.prefetcher.hand_over_around(&busy, inode, 0);
        }
        let refused = list(&vfs, "c");
        drop(holds);
        for _ in 0..QUEUE_JOBS {
            assert_eq!(kept.wait().0, inode);
        }
        contents(&vfs, "c/x", 100);
        contents(&vfs, "c/y", 100);
        assert_eq!(kept.wait(), (refused[2], 0, b"333".to_vec()));
    }
}
