//! Cores that stay awake while requests come thick.
//!
//! Each request wakes two threads, mostly on another core: one of ours, then the program's. Where a virtual machine halts
//! idle cores at once, each of these goes through the host and takes longer than the answer. Kernels poll for 200 µs
//! before they halt a core, unless `guest_halt_poll_ns` forbids it; where it does, they are asked to poll while it helps.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

/// Whoever holds it open says how many microseconds a core may take to wake; it is root's.
const LATENCY_DEVICE: &str = "/dev/cpu_dma_latency";
/// Tells which part of the kernel decides how deep idle cores sleep.
const IDLE_GOVERNOR: &str = "/sys/devices/system/cpu/cpuidle/current_governor";
/// How long a core of a virtual machine polls before it halts, in nanoseconds.
const HALT_POLL: &str = "/sys/module/haltpoll/parameters/guest_halt_poll_ns";

/// Requests that make a burst.
const BURST_REQUESTS: u32 = 32;
/// Cores may sleep when this time brought no burst.
const QUIET: Duration = Duration::from_millis(50);

/// Counts requests, and keeps cores awake while they are many.
pub(super) struct Wakefulness {
    requests: AtomicU32,
    bursts: Sender<()>,
}

impl Wakefulness {
    /// Starts to watch for bursts of requests; the watch ends when this is dropped. Returns nothing where it would not
    /// help or is not allowed.
    pub(super) fn start() -> Option<Self> {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        if !halts_at_once(&read(IDLE_GOVERNOR), &read(HALT_POLL)) {
            return None;
        }
        let (bursts, watched) = bounded(1);
        // Asked once now, to find out whether it is allowed.
        let started = stay_awake().and_then(|_| {
            let watch = move || watch(&watched, QUIET, stay_awake);
            std::thread::Builder::new().name("yester-awake".to_owned()).spawn(watch)
        });
        match started {
            Ok(_) => Some(Self { requests: AtomicU32::new(0), bursts }),
            Err(error) => {
                tracing::debug!(%error, "cores halt between requests");
                None
            }
        }
    }

    /// Counts a request.
    pub(super) fn request(&self) {
        if self.requests.fetch_add(1, Ordering::Relaxed).is_multiple_of(BURST_REQUESTS) {
            // Where one waits to be noticed already, another adds nothing.
            let _ = self.bursts.try_send(());
        }
    }
}

/// Tells whether a kernel with these settings halts cores as soon as they are idle.
fn halts_at_once(idle_governor: &str, halt_poll: &str) -> bool {
    idle_governor.trim() == "haltpoll" && halt_poll.trim() == "0"
}

/// Asks the kernel not to let cores sleep for as long as the file is held.
fn stay_awake() -> io::Result<File> {
    let mut device = OpenOptions::new().write(true).open(LATENCY_DEVICE)?;
    device.write_all(&0_i32.to_ne_bytes())?;
    Ok(device)
}

/// Holds what `hold` returns from each burst until a time of `quiet`.
fn watch<T>(bursts: &Receiver<()>, quiet: Duration, hold: impl Fn() -> io::Result<T>) {
    while bursts.recv().is_ok() {
        let held = hold();
        while bursts.recv_timeout(quiet).is_ok() {}
        drop(held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tells when it begins and ends to be held.
    struct Held(Sender<&'static str>);

    impl Drop for Held {
        fn drop(&mut self) {
            self.0.send("released").unwrap();
        }
    }

    fn watched(quiet: Duration) -> (Sender<()>, Receiver<&'static str>) {
        let (burst, bursts) = bounded(1);
        let (told, tells) = bounded(16);
        let hold = move || {
            told.send("held").unwrap();
            Ok(Held(told.clone()))
        };
        std::thread::spawn(move || watch(&bursts, quiet, hold));
        (burst, tells)
    }

    #[test]
    fn cores_stay_awake_from_a_burst_until_it_is_quiet() {
        let (burst, tells) = watched(Duration::from_millis(1));
        for _ in 0..2 {
            burst.send(()).unwrap();
            assert_eq!(tells.recv(), Ok("held"));
            assert_eq!(tells.recv(), Ok("released"));
        }
        drop(burst);
        tells.recv().unwrap_err();
    }

    #[test]
    fn cores_may_sleep_when_the_mount_ends() {
        let (burst, tells) = watched(Duration::from_secs(3600));
        burst.send(()).unwrap();
        assert_eq!(tells.recv(), Ok("held"));
        burst.send(()).unwrap();
        drop(burst);
        assert_eq!(tells.recv(), Ok("released"));
        tells.recv().unwrap_err();
    }

    #[test]
    fn bursts_are_counted_by_requests() {
        let (bursts, watched) = bounded(1);
        let wakefulness = Wakefulness { requests: AtomicU32::new(1), bursts };
        (1..BURST_REQUESTS).for_each(|_| wakefulness.request());
        assert!(watched.is_empty());
        (0..2 * BURST_REQUESTS).for_each(|_| wakefulness.request());
        assert_eq!(watched.len(), 1);
    }

    #[test]
    fn only_machines_that_halt_at_once_are_asked() {
        assert!(halts_at_once("haltpoll\n", "0\n"));
        assert!(!halts_at_once("haltpoll\n", "200000\n"));
        assert!(!halts_at_once("menu\n", "0\n"));
        assert!(!halts_at_once("", ""));
    }
}
