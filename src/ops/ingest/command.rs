//! Runs a command and reads its output into the session. Only the output of a command that succeeds counts.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::failures::ReadError;
use super::{IngestError, IngestOptions, Taken, pipe, stream};
use crate::path::{Name, escape};
use crate::progress::Progress;
use crate::repo::Repository;
use crate::repo::session::SessionWriter;

/// How long a process group may take to end by itself before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// Reads the output of a command as the file `name`. Its standard error goes where ours goes.
pub(super) fn take(
    repo: &Repository,
    session: &SessionWriter,
    name: &Name,
    argv: &[OsString],
    options: &IngestOptions,
    progress: &dyn Progress,
) -> Result<Taken, IngestError> {
    let command = describe(argv);
    let mut running = Running::start(argv).map_err(|error| IngestError::Start(command.clone(), error))?;
    let mut output = running.child.stdout.take().ok_or(IngestError::Interrupted)?;
    pipe::widen(&output);
    let taken = stream::read(repo, session, &mut output, options, progress);
    drop(output);
    if running.interrupted() {
        return Err(IngestError::Interrupted);
    }
    let streamed = taken.map_err(|error| match error {
        ReadError::File(source) => IngestError::Read(format!("the output of {command}"), source),
        ReadError::Fatal(error) => error,
    })?;
    let status =
        running.wait().map_err(|error| IngestError::Read(format!("the status of {command}"), error))?;
    if running.interrupted() {
        return Err(IngestError::Interrupted);
    }
    if !status.success() {
        return Err(IngestError::CommandFailed { command, status: describe_status(status) });
    }
    stream::check_size(name, streamed.bytes(), options)?;
    stream::snapshot_of(repo, session, name, streamed)
}

/// A command in a process group of its own, which ends when this is dropped or when we are told to end.
struct Running {
    child: Child,
    group: Option<Pid>,
    reaped: bool,
    watched: Arc<Watched>,
}

/// What the thread that receives signals knows of the command.
#[derive(Default)]
struct Watched {
    interrupted: AtomicBool,
    /// The process group, as long as the command runs.
    group: Mutex<Option<Pid>>,
}

impl Running {
    fn start(argv: &[OsString]) -> io::Result<Self> {
        let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let watched = Arc::new(Watched::default());
        // A signal that comes before the command runs waits for the lock, and then ends it.
        let mut slot = lock(&watched.group);
        watch_signals(Arc::clone(&watched))?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        *slot = group;
        drop(slot);
        Ok(Self { child, group, reaped: false, watched })
    }

    fn interrupted(&self) -> bool {
        self.watched.interrupted.load(Ordering::SeqCst)
    }

    fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait()?;
        self.reaped = true;
        Ok(status)
    }

    /// Asks the group to end, then makes it.
    fn end(&mut self) {
        signal(self.group, Signal::TERM);
        happens_in_time(|| !matches!(self.child.try_wait(), Ok(None)));
        signal(self.group, Signal::KILL);
        // It was killed, so this returns; that it had failed is known already.
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.reaped {
            // The command itself is gone; what it left behind in its group has nobody to write to.
            signal(self.group, Signal::TERM);
        } else {
            self.end();
        }
        *lock(&self.watched.group) = None;
    }
}

/// Ends the command at the first signal, and this process at a signal when no command runs: the handlers stay in
/// place for the rest of the process, so what they would have done has to be done here.
fn watch_signals(watched: Arc<Watched>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for number in signals.forever() {
            let group = *lock(&watched.group);
            if group.is_some() {
                watched.interrupted.store(true, Ordering::SeqCst);
                signal(group, Signal::TERM);
                // Whoever of the group does not listen keeps our end of the pipe waiting for more.
                if !happens_in_time(|| lock(&watched.group).is_none()) {
                    signal(group, Signal::KILL);
                }
            } else {
                // Of the signals above, each ends the process.
                let _ = signal_hook::low_level::emulate_default_handler(number);
            }
        }
    })?;
    Ok(())
}

/// Tells whether something becomes true within the time that a process group gets.
fn happens_in_time(mut happened: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + GRACE;
    while !happened() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Signals a process group; one that is gone already needs no signal.
fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        let _ = kill_process_group(group, signal);
    }
}

fn describe(argv: &[OsString]) -> String {
    let words: Vec<String> = argv.iter().map(|word| escape(word.as_encoded_bytes())).collect();
    words.join(" ")
}

fn describe_status(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "unknown end".to_owned(),
    }
}
