//! Which process began something, whether it is still there, and how long ago anything was.

use std::fs;
use std::time::Duration;

/// A process of this host, told apart from later ones of the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since the boot; 0 if the system did not say.
    pub start: i64,
    /// The boot and the namespace of process numbers that it belongs to; empty if the system did not say.
    pub boot: String,
}

impl Process {
    /// Returns this process.
    #[must_use]
    pub fn current() -> Self {
        let pid = std::process::id();
        Self { pid, start: start_of(pid).unwrap_or(0), boot: boot().unwrap_or_default() }
    }

    /// Tells whether the process still runs. What cannot be known counts as gone.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.start != 0 && start_of(self.pid) == Some(self.start) && boot().as_ref() == Some(&self.boot)
    }

    /// Tells whether the process has certainly ended. What cannot be known counts as alive: a process of another
    /// container, or one whose system did not say enough.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        let (Some((now, namespace)), Some((then, its_namespace))) =
            (boot().and_then(|boot| parts(&boot)), parts(&self.boot))
        else {
            return false;
        };
        now != then
            || (namespace == its_namespace && self.start != 0 && start_of(self.pid) != Some(self.start))
    }
}

/// Returns the time since boot, sleep included: a clock that nobody sets.
#[must_use]
pub fn boot_clock() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Reads field 22 of `/proc/<pid>/stat`; nothing of a process that has ended and only waits to be reaped. The name in
/// field 2 may hold spaces, and ends with the last `)`.
fn start_of(pid: u32) -> Option<i64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

fn boot() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    // Containers have numbers of their own; those of another one mean nothing here.
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", id.trim(), namespace.display()))
}

fn parts(boot: &str) -> Option<(String, String)> {
    boot.split_once(' ').map(|(id, namespace)| (id.to_owned(), namespace.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_told_apart() {
        let process = Process::current();
        assert!(process.is_alive() && !process.is_gone());
        assert!(!Process { start: process.start + 1, ..process.clone() }.is_alive());
        assert!(!Process { boot: "another".to_owned(), ..process.clone() }.is_alive());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let stat = format!("/proc/{}/stat", child.id());
        while !std::fs::read_to_string(&stat).unwrap().contains(") Z ") {
            std::thread::yield_now();
        }
        assert_eq!(start_of(child.id()), None, "it has ended, and is not reaped yet");
        child.wait().unwrap();
        assert!(!Process { pid: u32::MAX, ..process }.is_alive());
    }

    #[test]
    fn what_cannot_be_known_is_neither_alive_nor_gone() {
        let process = Process::current();
        let (boot, _) = process.boot.split_once(' ').unwrap();
        let container = Process { boot: format!("{boot} pid:[1]"), pid: u32::MAX, ..process.clone() };
        assert!(!container.is_alive() && !container.is_gone());
        let unknown = Process { start: 0, boot: String::new(), ..process.clone() };
        assert!(!unknown.is_alive() && !unknown.is_gone());
        let rebooted = Process { boot: "another pid:[1]".to_owned(), ..process };
        assert!(!rebooted.is_alive() && rebooted.is_gone());
    }

    #[test]
    fn an_ended_process_is_gone() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process { pid: child.id(), start: start_of(child.id()).unwrap(), ..Process::current() };
        assert!(process.is_alive());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!process.is_alive() && process.is_gone());
    }
}
