//! Keeps runs of one host apart: two at once would do the same work twice.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// File name in the state folder.
const FILE_NAME: &str = "run.lock";
/// How often it is looked whether the other run has ended.
const PAUSE: Duration = Duration::from_millis(200);

/// Why a run could not begin.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another run goes on.
    #[error("another run goes on{}", describe(other))]
    Busy {
        /// What that said of itself: its process.
        other: String,
    },
    /// The file cannot be locked.
    #[error("cannot lock {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn describe(other: &str) -> String {
    if other.is_empty() { String::new() } else { format!(", as process {other}") }
}

/// Held while a run goes on.
pub(super) struct RunLock {
    _file: File,
}

impl RunLock {
    /// Waits for another run to end, for `wait` at most; `waits` is told which, once.
    pub(super) fn take(
        state: &Path,
        wait: Duration,
        told_to_end: &AtomicBool,
        waits: &dyn Fn(&str),
    ) -> Result<Self, LockError> {
        let path = state.join(FILE_NAME);
        let failed = |source| LockError::File { path: path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(failed)?;
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let deadline = Instant::now() + wait;
        let mut has_told = false;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock)
                    if Instant::now() < deadline && !told_to_end.load(Ordering::SeqCst) =>
                {
                    if !std::mem::replace(&mut has_told, true) {
                        waits(&holder(&file));
                    }
                    std::thread::sleep(PAUSE.min(deadline.saturating_duration_since(Instant::now())));
                }
                Err(TryLockError::WouldBlock) => return Err(LockError::Busy { other: holder(&file) }),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// Returns what the holder of the lock wrote of itself: its process.
fn holder(mut file: &File) -> String {
    let mut text = String::new();
    // Who it is only helps to find it.
    let _ = file.rewind().and_then(|()| file.take(20).read_to_string(&mut text));
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let no = AtomicBool::new(false);
        let silent = |_: &str| {};
        let first = RunLock::take(&state, Duration::ZERO, &no, &silent).unwrap();
        let error = RunLock::take(&state, Duration::from_millis(1), &no, &silent).err().unwrap();
        assert_eq!(error.to_string(), format!("another run goes on, as process {}", std::process::id()));
        std::thread::scope(|scope| {
            let (sender, told) = crossbeam_channel::unbounded();
            let waits = move |other: &str| sender.send(other.to_owned()).unwrap();
            let (state, no) = (&state, &no);
            let second =
                scope.spawn(move || RunLock::take(state, Duration::from_secs(60), no, &waits).map(drop));
            assert_eq!(told.recv().unwrap(), std::process::id().to_string());
            drop(first);
            second.join().unwrap().unwrap();
            assert!(told.recv().is_err(), "it is told once");
        });
    }
}
