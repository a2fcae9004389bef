//! Signals that ask this process to end while commands run: the one that runs is ended, and no other starts.
//!
//! Handlers stay in place for the rest of a process, and belong to all of it. So there is one thread that receives
//! signals, and it serves every watch there is; when there is none, it does what the signal would have done.

use std::io;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// How long a process group may take to end by itself before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// All watches of this process.
static WATCHES: Mutex<Watches> = Mutex::new(Watches { has_thread: false, watched: Vec::new() });

struct Watches {
    has_thread: bool,
    watched: Vec<Arc<Mutex<Watched>>>,
}

/// What the thread that receives signals knows of the commands of one backup.
#[derive(Default)]
struct Watched {
    interrupted: bool,
    /// The process group of the command that runs.
    group: Option<Pid>,
}

/// As long as it lasts, signals end the command that was started under it, and not this process.
pub(super) struct Watch(Arc<Mutex<Watched>>);

impl Watch {
    /// Begins to watch.
    ///
    /// # Errors
    /// Fails if signals cannot be received.
    pub(super) fn begin() -> io::Result<Self> {
        let mut watches = lock(&WATCHES);
        if !watches.has_thread {
            start_thread()?;
            watches.has_thread = true;
        }
        let watched = Arc::default();
        watches.watched.push(Arc::clone(&watched));
        Ok(Self(watched))
    }

    /// Tells whether a signal came.
    pub(super) fn is_interrupted(&self) -> bool {
        lock(&self.0).interrupted
    }

    /// Starts a command in a process group of its own with `spawn`; nothing is started after a signal.
    ///
    /// # Errors
    /// Fails if `spawn` does.
    pub(super) fn start(
        &self,
        spawn: impl FnOnce() -> io::Result<Child>,
    ) -> io::Result<Option<(Child, Option<Pid>)>> {
        // A signal that comes before the command runs waits for the lock, and then ends it.
        let mut watched = lock(&self.0);
        if watched.interrupted {
            return Ok(None);
        }
        let child = spawn()?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        watched.group = group;
        Ok(Some((child, group)))
    }

    /// Takes note that the command is gone.
    pub(super) fn command_ended(&self) {
        lock(&self.0).group = None;
    }

    /// Ends the watch, and tells whether a signal came before: one that comes later ends this process.
    pub(super) fn end(self) -> bool {
        self.remove();
        self.is_interrupted()
    }

    fn remove(&self) {
        lock(&WATCHES).watched.retain(|watched| !Arc::ptr_eq(watched, &self.0));
    }

    /// Does what a signal does.
    #[cfg(test)]
    pub(super) fn interrupt(&self) {
        let watched = [Arc::clone(&self.0)];
        note(&watched);
        end_commands(&watched);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.remove();
    }
}

fn start_thread() -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for number in signals.forever() {
            // Under one lock: a watch that ends meanwhile knows of the signal, or leaves it to this thread.
            let watches = lock(&WATCHES);
            let watched = watches.watched.clone();
            let is_heard = note(&watched);
            drop(watches);
            if is_heard {
                end_commands(&watched);
            } else {
                // Of the signals above, each ends the process.
                let _ = signal_hook::low_level::emulate_default_handler(number);
            }
        }
    })?;
    Ok(())
}

/// Takes note of a signal; tells whether that helps: not if all knew of one before and have no command any more, but
/// go on with something else.
fn note(watched: &[Arc<Mutex<Watched>>]) -> bool {
    let mut helps = false;
    for watched in watched {
        let mut watched = lock(watched);
        helps |= !watched.interrupted || watched.group.is_some();
        watched.interrupted = true;
    }
    helps
}

/// Asks the commands that run to end, then makes them.
fn end_commands(watched: &[Arc<Mutex<Watched>>]) {
    let groups = || watched.iter().filter_map(|watched| lock(watched).group);
    groups().for_each(|group| signal(Some(group), Signal::TERM));
    // Whoever of a group does not listen keeps our end of the pipe waiting for more.
    if !happens_in_time(|| groups().next().is_none()) {
        groups().for_each(|group| signal(Some(group), Signal::KILL));
    }
}

/// Tells whether something becomes true within the time that a process group gets.
pub(super) fn happens_in_time(mut happened: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + GRACE;
    while !happened() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// Signals a process group; one that is gone already needs no signal.
pub(super) fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        let _ = kill_process_group(group, signal);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use super::*;

    fn sleeper() -> io::Result<Child> {
        Command::new("sleep").arg("100").stdin(Stdio::null()).process_group(0).spawn()
    }

    #[test]
    fn one_thread_serves_all_watches() {
        let watches: Vec<_> = (0..5).map(|_| Watch::begin().unwrap()).collect();
        drop(watches);
        let last = Watch::begin().unwrap();
        let tasks = fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
        assert_eq!(names.filter(|name| name == "signals\n").count(), 1);
        assert!(!last.end());
    }

    #[test]
    fn a_signal_ends_the_command_that_runs_and_no_other_starts() {
        let watch = Watch::begin().unwrap();
        let (mut child, group) = watch.start(sleeper).unwrap().unwrap();
        assert_eq!(group.map(|group| group.as_raw_nonzero().get().unsigned_abs()), Some(child.id()));
        std::thread::scope(|scope| {
            scope.spawn(|| watch.interrupt());
            assert!(!child.wait().unwrap().success());
            watch.command_ended();
        });
        assert!(watch.start(|| panic!("it is started")).unwrap().is_none());
        assert!(watch.end());
    }

    #[test]
    fn a_second_signal_helps_only_where_a_command_runs() {
        let watched = [Arc::default()];
        assert!(note(&watched), "the first one keeps the next command from starting");
        assert!(!note(&watched));
        lock(&watched[0]).group = Pid::from_raw(1 << 29);
        assert!(note(&watched));
        assert!(!note(&[]), "no command, no watch: the process ends");
    }
}
