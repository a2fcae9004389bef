//! Programs that are run with a time limit: workers, hooks, questions to servers, alerts. What they say is kept, up to
//! a bound.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use rustix::process::{Pid, Signal, kill_process_group};

/// How much of what a program says is kept: its end.
const KEPT_BYTES: usize = 64 << 10;
/// How long a program that was told to end may take: a worker ends what it has started.
const GRACE: Duration = Duration::from_secs(20);
/// How long to wait for the rest of what an ended program said, which others may hold open.
const DRAIN: Duration = Duration::from_secs(2);
/// How long to wait at least and at most before it is looked again whether it has ended.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// How a program ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) end: End,
    /// The end of what it wrote to standard output.
    pub(super) output: String,
    /// The end of what it wrote to standard error.
    pub(super) errors: String,
}

/// Why a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Exited(i32),
    Killed(i32),
    /// It took too long.
    TimedOut,
    /// This process was told to end.
    Interrupted,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Killed(signal) => write!(f, "killed by signal {signal}"),
            Self::TimedOut => f.write_str("it took too long"),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl Ended {
    /// Returns all that it said.
    pub(super) fn log(&self) -> String {
        format!("{}{}", self.output, self.errors)
    }
}

/// Runs a program to its end, in a process group of its own. It is ended once this process is told to end.
pub(super) fn run(command: &mut Command, timeout: Duration, told_to_end: &AtomicBool) -> io::Result<Ended> {
    run_with(command, None, timeout, told_to_end)
}

/// Runs a program that is given a few lines and soon ends.
pub(super) fn ask(command: &mut Command, input: Option<&[u8]>, timeout: Duration) -> io::Result<Ended> {
    run_with(command, input, timeout, &AtomicBool::new(false))
}

fn run_with(
    command: &mut Command,
    input: Option<&[u8]>,
    timeout: Duration,
    told_to_end: &AtomicBool,
) -> io::Result<Ended> {
    let mut child = command
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let output = child.stdout.take().map(keep_end);
    let errors = child.stderr.take().map(keep_end);
    if let (Some(mut pipe), Some(input)) = (child.stdin.take(), input) {
        // It fits into the pipe; whoever does not read it says why by its end.
        let _ = pipe.write_all(input);
    }
    let end = wait(&mut child, timeout, told_to_end)?;
    let text = |said| String::from_utf8_lossy(&finish(said)).into_owned();
    Ok(Ended { end, output: text(output), errors: text(errors) })
}

fn wait(child: &mut Child, timeout: Duration, told_to_end: &AtomicBool) -> io::Result<End> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(end_of(status));
        }
        let end = if told_to_end.load(Ordering::SeqCst) {
            End::Interrupted
        } else if started.elapsed() >= timeout {
            End::TimedOut
        } else {
            std::thread::sleep(pause_after(started.elapsed()));
            continue;
        };
        stop(child)?;
        return Ok(end);
    }
}

/// Returns how long to wait before it is looked again: an eighth of what a program took so far. A night is many workers
/// of a few milliseconds each, which must not take twice as long for being waited for.
fn pause_after(elapsed: Duration) -> Duration {
    (elapsed / 8).clamp(PAUSE_MIN, PAUSE_MAX)
}

/// Asks the group of a program to end, then makes it.
fn stop(child: &mut Child) -> io::Result<()> {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let signal = |signal| {
        // Who is gone needs no signal.
        let _ = group.map(|group| kill_process_group(group, signal));
    };
    signal(Signal::TERM);
    let asked = Instant::now();
    while child.try_wait()?.is_none() && asked.elapsed() < GRACE {
        std::thread::sleep(pause_after(asked.elapsed()));
    }
    signal(Signal::KILL);
    child.wait().map(drop)
}

fn end_of(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Exited(code),
        (None, signal) => End::Killed(signal.unwrap_or_default()),
    }
}

/// Reads a pipe to its end on a thread of its own, and keeps the end.
fn keep_end(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = bounded(1);
    let read = move || {
        let mut kept = Vec::new();
        let mut buffer = [0; 8 << 10];
        while let Ok(count) = pipe.read(&mut buffer) {
            let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else { break };
            kept.extend_from_slice(piece);
            if kept.len() > 2 * KEPT_BYTES {
                kept.drain(..kept.len() - KEPT_BYTES);
            }
        }
        let surplus = kept.len().saturating_sub(KEPT_BYTES);
        kept.drain(..surplus);
        // Who waited long enough has gone.
        let _ = sender.send(kept);
    };
    // Without a thread nobody reads: the program gets a broken pipe, and what it said is lost.
    let _ = std::thread::Builder::new().name("outside".to_owned()).spawn(read);
    receiver
}

fn finish(receiver: Option<Receiver<Vec<u8>>>) -> Vec<u8> {
    receiver.and_then(|receiver| receiver.recv_timeout(DRAIN).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn run_for(script: &str, timeout: Duration) -> Ended {
        run(&mut shell(script), timeout, &AtomicBool::new(false)).unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_is_said_is_kept() {
        let ended = run_for("echo out; echo err >&2; exit 3", LONG);
        assert_eq!((ended.end, ended.log().as_str()), (End::Exited(3), "out\nerr\n"));
        let ended = run_for("head -c 300000 /dev/zero; echo last; kill -9 $$", LONG);
        assert_eq!((ended.end, ended.output.len()), (End::Killed(9), KEPT_BYTES));
        assert!(ended.output.ends_with("last\n"));
    }

    #[test]
    fn what_takes_too_long_is_ended_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", file.display());
        let ended = run_for(&script, Duration::from_millis(300));
        assert_eq!(ended.end, End::TimedOut);
        let pid = std::fs::read_to_string(&file).unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z"), "{stat}");
    }

    #[test]
    fn what_this_process_is_told_ends_them_too() {
        let told = AtomicBool::new(true);
        let ended = run(&mut shell("sleep 600"), LONG, &told).unwrap();
        assert_eq!(ended.end, End::Interrupted);
    }

    #[test]
    fn what_ends_soon_is_looked_at_often() {
        let pauses = [0, 20, 80, 160, 3_600_000].map(|ms| pause_after(Duration::from_millis(ms)).as_micros());
        assert_eq!(pauses, [1000, 2500, 10_000, 20_000, 20_000]);
    }

    #[test]
    fn a_child_that_stays_behind_is_not_waited_for() {
        let started = Instant::now();
        let ended = run_for("sleep 30 & echo $!", LONG);
        assert_eq!(ended.end, End::Exited(0));
        assert!(started.elapsed() < Duration::from_secs(20));
    }
}
