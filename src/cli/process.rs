//! This process as the system sees it: its limits and its memory.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// More open files than any command needs; a system's own limit may be a billion, which slows down programs that
/// are started from here and close all they might have inherited.
const OPEN_FILES: u64 = 1 << 20;

/// Allows this process as many open files as its user may have. The usual limit of 1,024 is meant for programs that
/// wait with `select`; a walk keeps a descriptor for every level of a tree.
pub(super) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let allowed = limit.maximum.unwrap_or(OPEN_FILES).min(OPEN_FILES);
    if limit.current.is_some_and(|current| current < allowed) {
        // Where this is refused the usual limit holds, which suffices for all but very deep trees.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(allowed), maximum: limit.maximum });
    }
}

/// Returns what the first signal to end sets from now on, so that a command can leave things in order; the second
/// signal ends the process. A signal that was ignored, as `nohup` has it, stays so.
pub(super) fn told_to_end() -> io::Result<Arc<AtomicBool>> {
    let told = Arc::new(AtomicBool::new(false));
    let ignored = ignored_signals();
    for number in [SIGINT, SIGTERM, SIGHUP] {
        if ignored >> (number - 1) & 1 == 0 {
            flag::register_conditional_default(number, Arc::clone(&told))?;
            flag::register(number, Arc::clone(&told))?;
        }
    }
    Ok(told)
}

/// Returns the signals that this process ignores, the first as the lowest bit; none where the system does not tell.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

/// Returns the most memory this process had at once, where the system tells.
pub(super) fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_files_as_allowed_can_be_open() {
        raise_open_files();
        let limit = getrlimit(Resource::Nofile);
        let allowed = limit.maximum.unwrap_or(OPEN_FILES).min(OPEN_FILES);
        assert!(limit.current.is_none_or(|current| current >= allowed), "{limit:?}");
    }

    #[test]
    fn ignored_signals_are_known() {
        // The Rust runtime ignores the one for broken pipes.
        assert_eq!(ignored_signals() >> (signal_hook::consts::SIGPIPE - 1) & 1, 1);
    }

    #[test]
    fn this_process_uses_some_memory() {
        assert!(peak_memory_bytes().unwrap() > 1 << 20);
    }
}
