//! Which process began a run, and whether it is still there.

use std::fs;

/// A process of this host, told apart from later ones of the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// When it started, in clock ticks since the boot; 0 if the system did not say.
    pub(super) start: i64,
    /// The boot that it belongs to; empty if the system did not say.
    pub(super) boot: String,
}

impl Process {
    /// Returns this process.
    pub(super) fn current() -> Self {
        let pid = std::process::id();
        Self { pid, start: start_of(pid).unwrap_or(0), boot: boot().unwrap_or_default() }
    }

    /// Tells whether the process still runs. What cannot be known counts as gone.
    pub(super) fn is_alive(&self) -> bool {
        self.start != 0 && start_of(self.pid) == Some(self.start) && boot().as_ref() == Some(&self.boot)
    }
}

/// Reads field 22 of `/proc/<pid>/stat`. The name in field 2 may hold spaces, and ends with the last `)`.
fn start_of(pid: u32) -> Option<i64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn boot() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_told_apart() {
        let process = Process::current();
        assert!(process.is_alive());
        assert!(!Process { start: process.start + 1, ..process.clone() }.is_alive());
        assert!(!Process { boot: "another".to_owned(), ..process.clone() }.is_alive());
        assert!(!Process { pid: u32::MAX, ..process }.is_alive());
    }

    #[test]
    fn an_ended_process_is_gone() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process { pid: child.id(), start: start_of(child.id()).unwrap(), ..Process::current() };
        assert!(process.is_alive());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!process.is_alive());
    }
}
