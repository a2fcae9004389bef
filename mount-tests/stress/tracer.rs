//! Runs a process and kills it before its n-th system call that changes something on a disk, whichever thread makes it.
//!
//! `strace -e inject` counts each kind of call of each thread by itself, so that it cannot reach a commit that comes after
//! the work of other threads. This counts them all in one line, by ptrace(2).

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use nix::libc::{self, c_long};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::lab::{Host, Ran, Running};

/// Whether system calls can be told apart on this machine.
pub(crate) const WORKS: bool = cfg!(all(target_arch = "x86_64", target_env = "gnu"));

/// What became of a process that was traced.
pub(crate) struct Traced {
    /// Nothing if it was killed.
    pub(crate) ran: Option<Ran>,
    /// How many calls that change something were begun.
    pub(crate) calls: u64,
}

/// Runs the binary on a host with `stdin`, and kills it at the entry of the call with this number, if there is one.
pub(crate) fn run(host: &Host, arguments: &[String], stdin: &Path, death: Option<u64>) -> Traced {
    // It waits until it is traced, and becomes the binary then.
    let words = ["-c".to_owned(), "read -r go; exec \"$@\" <\"$0\"".to_owned(), stdin.display().to_string()];
    let mut command = host.command_under("sh", &words, arguments);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let process = Pid::from_raw(i32::try_from(running.child.id()).unwrap());
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    ptrace::seize(process, options).unwrap();
    ptrace::interrupt(process).unwrap();
    let mut go = running.child.stdin.take().unwrap();
    let mut tracing = Tracing { process, death, is_counting: false, calls: 0 };
    let first = wait();
    assert!(matches!(first, WaitStatus::PtraceEvent(pid, ..) if pid == process), "{first:?}");
    tracing.go_on(process, None);
    go.write_all(b"\n").unwrap();
    drop(go);
    let code = tracing.follow();
    let ran = code.map(|code| running.ended(Some(code)));
    Traced { ran, calls: tracing.calls }
}

fn wait() -> WaitStatus {
    // Of this thread's children alone: others run processes of their own.
    waitpid(Pid::from_raw(-1), Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)).unwrap()
}

struct Tracing {
    process: Pid,
    death: Option<u64>,
    /// Whether the shell has become the binary.
    is_counting: bool,
    calls: u64,
}

impl Tracing {
    /// Follows the process to its end; returns its exit code, or nothing if it was killed.
    fn follow(&mut self) -> Option<i32> {
        loop {
            match wait() {
                WaitStatus::Exited(pid, code) if pid == self.process => return Some(code),
                WaitStatus::Signaled(pid, ..) if pid == self.process => return None,
                WaitStatus::PtraceSyscall(pid) => {
                    if self.is_counting && changes_something(pid) {
                        self.calls += 1;
                        if self.death == Some(self.calls) {
                            kill(self.process, Signal::SIGKILL).unwrap();
                            continue;
                        }
                    }
                    self.go_on(pid, None);
                }
                WaitStatus::PtraceEvent(pid, _, event) => {
                    self.is_counting |= event == libc::PTRACE_EVENT_EXEC;
                    self.go_on(pid, None);
                }
                WaitStatus::Stopped(pid, signal) => self.go_on(pid, Some(signal)),
                _ => {}
            }
        }
    }

    fn go_on(&self, pid: Pid, signal: Option<Signal>) {
        match ptrace::syscall(pid, signal) {
            // It was killed meanwhile.
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(error) => panic!("process {pid} of {} does not go on: {error}", self.process),
        }
    }
}

/// Tells whether a thread is about to make a system call that changes something on a disk.
#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
fn changes_something(pid: Pid) -> bool {
    let is_entry = ptrace::syscall_info(pid).is_ok_and(|info| info.op == libc::PTRACE_SYSCALL_INFO_ENTRY);
    let Some(registers) = is_entry.then(|| ptrace::getregs(pid).ok()).flatten() else { return false };
    let creates = |flags: u64| flags & u64::from(libc::O_CREAT.unsigned_abs()) != 0;
    match c_long::try_from(registers.orig_rax).unwrap_or(-1) {
        libc::SYS_openat => creates(registers.rdx),
        libc::SYS_open => creates(registers.rsi),
        call => CHANGES.contains(&call),
    }
}

#[cfg(not(all(target_arch = "x86_64", target_env = "gnu")))]
fn changes_something(_: Pid) -> bool {
    false
}

#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
const CHANGES: [c_long; 19] = [
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_rmdir,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{Lab, can};

    #[test]
    fn every_call_can_be_the_last() {
        if !can("ptrace on x86-64 Linux", WORKS) {
            return;
        }
        let lab = Lab::empty();
        let host = lab.host("one");
        let null = Path::new("/dev/null");
        let init = |death| {
            let _ = std::fs::remove_dir_all(lab.path().join("hosts"));
            let _ = std::fs::remove_dir_all(lab.store());
            let _ = std::fs::remove_file(lab.path().join("key"));
            run(&host, &["init".to_owned()], null, death)
        };
        let whole = init(None);
        assert!(whole.calls > 10, "{}", whole.calls);
        whole.ran.unwrap().succeeds();
        // Threads race, so that one run has a few calls more than another one.
        for death in [1, whole.calls / 4, whole.calls / 2] {
            let traced = init(Some(death));
            assert!(traced.ran.is_none() && traced.calls == death, "{death}");
            let config = lab.store().join("config/1.json");
            assert!(!config.exists(), "it was killed before the end, {death}");
        }
    }
}
