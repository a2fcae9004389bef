//! Processes to which something happens while they run.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::choice::Chooser;
use crate::lab::{Ran, Running};

/// What happens to a process, so long after it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Undisturbed,
    Killed {
        after: Duration,
    },
    /// It is stopped, and goes on later.
    Paused {
        after: Duration,
        length: Duration,
    },
    /// It is stopped, and goes on in the next round.
    Asleep {
        after: Duration,
    },
}

/// How likely the fates are, in percent; the rest is undisturbed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Odds {
    pub(crate) killed: u64,
    pub(crate) paused: u64,
    pub(crate) asleep: u64,
}

impl Odds {
    /// Chooses a fate for a process that runs for about `most_ms`.
    pub(crate) fn fate(self, chooser: &mut Chooser, most_ms: u64) -> Fate {
        let (lot, after, length) = (chooser.below(100), chooser.time(most_ms), chooser.time(400));
        match lot {
            lot if lot < self.killed => Fate::Killed { after },
            lot if lot < self.killed + self.paused => Fate::Paused { after, length },
            lot if lot < self.killed + self.paused + self.asleep => Fate::Asleep { after },
            _ => Fate::Undisturbed,
        }
    }
}

/// What became of a process.
pub(crate) enum Outcome {
    /// It ended by itself, or its death came too late.
    Ended(Ran),
    Killed,
    Asleep(Running),
}

/// Runs a command to its end, or to what happens to it.
pub(crate) fn run(command: Command, fate: Fate) -> Outcome {
    let running = Running::start(command);
    match fate {
        Fate::Undisturbed => {}
        Fate::Killed { after } => {
            thread::sleep(after);
            signal(&running, Signal::KILL);
        }
        Fate::Paused { after, length } => {
            thread::sleep(after);
            signal(&running, Signal::STOP);
            thread::sleep(length);
            signal(&running, Signal::CONT);
        }
        Fate::Asleep { after } => {
            thread::sleep(after);
            signal(&running, Signal::STOP);
            return Outcome::Asleep(running);
        }
    }
    end(running)
}

/// Lets a process that was stopped go on to its end.
pub(crate) fn wake(running: Running) -> Outcome {
    signal(&running, Signal::CONT);
    end(running)
}

fn end(mut running: Running) -> Outcome {
    let status = running.child.wait().unwrap();
    if status.signal() == Some(Signal::KILL.as_raw()) {
        return Outcome::Killed;
    }
    Outcome::Ended(running.ended(status.code()))
}

/// Sends a signal. A process that has ended is not reaped before, so that its number is still its own.
fn signal(running: &Running, signal: Signal) {
    kill_process(Pid::from_child(&running.child), signal).unwrap();
}
