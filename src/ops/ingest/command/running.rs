//! A command that runs: what it reads and writes, and how it ends.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use rustix::fs::{MemfdFlags, Mode, fchmod, memfd_create};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use super::line::CommandLine;
use super::signals::{Watch, happens_in_time, signal};

/// What a command reads may be opened once more, as `/dev/stdin`, also where it runs as another user.
const INPUT_MODE: u32 = 0o444;

/// A command in a process group of its own, which ends when this is dropped or when we are told to end.
pub(super) struct Running<'a> {
    child: Child,
    group: Option<Pid>,
    reaped: bool,
    watch: &'a Watch,
}

impl<'a> Running<'a> {
    /// Starts a command; nothing if we were told to end. Its standard error goes where ours goes.
    ///
    /// # Errors
    /// Fails if it cannot be started.
    pub(super) fn start(watch: &'a Watch, line: &CommandLine) -> io::Result<Option<Self>> {
        let (program, arguments) = line.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let stdin = match &line.input {
            Some(input) => Stdio::from(input_file(input)?),
            None => Stdio::null(),
        };
        let mut command = Command::new(program);
        command.args(arguments).stdin(stdin).stdout(Stdio::piped()).process_group(0);
        for (variable, value) in &line.environment {
            command.env(variable, value.as_str());
        }
        let started = watch.start(|| command.spawn())?;
        Ok(started.map(|(child, group)| Self { child, group, reaped: false, watch }))
    }

    /// Returns our end of the pipe into which it writes, once.
    pub(super) fn output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Waits until the command itself has ended.
    ///
    /// # Errors
    /// Fails if the system does not say how.
    pub(super) fn wait(&mut self) -> io::Result<ExitStatus> {
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

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.reaped {
            // The command itself is gone; what it left behind in its group has nobody to write to.
            signal(self.group, Signal::TERM);
        } else {
            self.end();
        }
        self.watch.command_ended();
    }
}

/// Returns a file in memory, without a name, that holds what a command reads.
///
/// Unlike a pipe it takes all of it at once, however much or little the command reads and whenever; so nobody has to
/// write while the output is read.
fn input_file(input: &[u8]) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC;
    let memory = match memfd_create("input", flags | MemfdFlags::NOEXEC_SEAL) {
        // Linux before 6.3 does not know that, and later ones may demand it.
        Err(Errno::INVAL) => memfd_create("input", flags),
        created => created,
    }?;
    fchmod(&memory, Mode::from_raw_mode(INPUT_MODE))?;
    let mut file = File::from(memory);
    file.write_all(input)?;
    file.rewind()?;
    Ok(file)
}

/// Returns how a command ended.
pub(super) fn describe_status(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "unknown end".to_owned(),
    }
}
