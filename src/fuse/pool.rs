//! The threads that decode, so that those which take requests from the kernel never wait for a store.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crossbeam_channel::{Receiver, Sender, bounded};

/// Requests that wait for a thread. When there are more, the event loops wait: the kernel's own queue is next.
const QUEUE_JOBS: usize = 128;

/// One request. It may use the buffer, which keeps its size from job to job.
pub(super) type Job = Box<dyn FnOnce(&mut Vec<u8>) + Send>;

/// A bounded queue and the threads that empty it. They end when the pool is dropped.
pub(super) struct Pool {
    jobs: Sender<Job>,
}

impl Pool {
    /// Starts `threads` threads.
    pub(super) fn start(threads: usize) -> io::Result<Self> {
        let (jobs, receiver) = bounded(QUEUE_JOBS);
        for _ in 0..threads {
            let receiver = receiver.clone();
            std::thread::Builder::new().name("yester-decode".to_owned()).spawn(move || work(&receiver))?;
        }
        Ok(Self { jobs })
    }

    /// Hands a job to the next free thread; waits while the queue is full.
    pub(super) fn submit(&self, job: Job) {
        // Without threads nobody receives: the job is dropped with its reply, which sends EIO.
        let _ = self.jobs.send(job);
    }
}

fn work(jobs: &Receiver<Job>) {
    let mut buffer = Vec::new();
    for job in jobs {
        // A job that panics answers EIO when its reply is dropped; the thread is needed for the next one.
        if catch_unwind(AssertUnwindSafe(|| job(&mut buffer))).is_err() {
            tracing::error!("a request failed because of a bug");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panicking_job_costs_no_thread() {
        let pool = Pool::start(1).unwrap();
        let (sender, received) = bounded(1);
        pool.submit(Box::new(|_| panic!("on purpose")));
        pool.submit(Box::new(move |buffer| {
            buffer.resize(3, 7);
            sender.send(buffer.len()).unwrap();
        }));
        assert_eq!(received.recv(), Ok(3));
    }
}
