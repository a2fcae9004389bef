//! Which snapshots are read on this host just now, so that a collector on it does not take them from under their readers.
//!
//! Each process that reads for long keeps a file in the state folder, under a lock that ends with the process, and appends
//! a line for each snapshot: its id, and until when it counts.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::local::make_folder;
use super::{RepoError, Repository};
use crate::id::SnapshotId;
use crate::progress::error_chain;

/// What was read is held for so long.
const HELD: SignedDuration = SignedDuration::from_hours(24);
/// What is read again is noted anew after so long.
const NOTED_AGAIN: SignedDuration = SignedDuration::from_hours(1);
/// What stands for the life of a process in a line.
const WHILE_ALIVE: &str = "-";

/// How long a snapshot is held for its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// For a day, and another one whenever it is read again.
    ForADay,
    /// As long as the process lives.
    WhileAlive,
}

/// The readers of one store on this host.
pub struct Readers {
    folder: PathBuf,
    own: Mutex<Own>,
}

/// What this process reads.
#[derive(Default)]
struct Own {
    file: Option<File>,
    noted: HashMap<SnapshotId, Timestamp>,
}

impl Readers {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, own: Mutex::default() }
    }

    /// Holds a snapshot for this process, from before it is read.
    ///
    /// # Errors
    /// Fails if the state folder cannot be written.
    pub fn hold(&self, id: SnapshotId, hold: Hold) -> Result<(), RepoError> {
        let now = Timestamp::now();
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let is_noted = |noted: &Timestamp| now.duration_since(*noted) < NOTED_AGAIN;
        if own.noted.get(&id).is_some_and(is_noted) {
            return Ok(());
        }
        let until = match hold {
            Hold::ForADay => now.checked_add(HELD).unwrap_or(Timestamp::MAX).as_second().to_string(),
            Hold::WhileAlive => WHILE_ALIVE.to_owned(),
        };
        let file = match &mut own.file {
            Some(file) => file,
            none => none.insert(self.create()?),
        };
        // In one piece: who reads it meanwhile sees all of a line or none.
        file.write_all(format!("{id} {until}\n").as_bytes())
            .map_err(|error| self.failed("write to", error))?;
        own.noted.insert(id, if hold == Hold::WhileAlive { Timestamp::MAX } else { now });
        Ok(())
    }

    /// Returns the snapshots that any process of this host holds. Files of processes that ended are deleted.
    ///
    /// # Errors
    /// Fails if the state folder cannot be read.
    pub fn held(&self) -> Result<BTreeSet<SnapshotId>, RepoError> {
        let now = Timestamp::now();
        let mut held = BTreeSet::new();
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(held),
            Err(error) => return Err(self.failed("list", error)),
        };
        for entry in entries {
            let path = entry.map_err(|error| self.failed("list", error))?.path();
            let Some(text) = read_if_alive(&path).map_err(|error| self.failed("read", error))? else {
                continue;
            };
            held.extend(text.lines().filter_map(|line| held_by(line, now)));
        }
        Ok(held)
    }

    /// Creates the file of this process, and locks it.
    fn create(&self) -> Result<File, RepoError> {
        make_folder(&self.folder)?;
        loop {
            let name = format!("{:016x}", getrandom::u64()?);
            let path = self.folder.join(name);
            let file = OpenOptions::new()
                .append(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
                .map_err(|error| self.failed("create a file in", error))?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // Before it was locked, a collector may have taken it for one that nobody holds.
                Ok(()) if path.exists() => return Ok(file),
                Ok(()) | Err(Errno::WOULDBLOCK) => {}
                Err(error) => return Err(self.failed("lock a file in", error.into())),
            }
        }
    }

    fn failed(&self, operation: &'static str, source: io::Error) -> RepoError {
        RepoError::Local { operation, path: self.folder.display().to_string(), source }
    }
}

/// Returns the lines of a process that runs; deletes the file of one that ended.
fn read_if_alive(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            // Another collector may have been faster.
            let _ = fs::remove_file(path);
            Ok(None)
        }
        Err(Errno::WOULDBLOCK) => io::read_to_string(file).map(Some),
        Err(error) => Err(error.into()),
    }
}

fn held_by(line: &str, now: Timestamp) -> Option<SnapshotId> {
    let (id, until) = line.split_once(' ')?;
    let counts = until == WHILE_ALIVE || until.parse::<i64>().is_ok_and(|until| now.as_second() < until);
    id.parse().ok().filter(|_| counts)
}

impl Repository {
    /// Returns what is read of this store on this host.
    #[must_use]
    pub fn readers(&self) -> &Readers {
        &self.readers
    }

    /// Holds a snapshot that is about to be read. Where that cannot be noted, reading goes on: it takes a collection on
    /// this host to do harm.
    pub fn hold(&self, id: SnapshotId, hold: Hold) {
        self.feed.prefer(id);
        if let Err(error) = self.readers.hold(id, hold) {
            tracing::warn!(
                "a garbage collection on this host will not know that snapshot {} is read: {}",
                id.short(),
                error_chain(&error)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> SnapshotId {
        format!("20261121T053106Z-{number:032x}").parse().unwrap()
    }

    #[test]
    fn what_a_process_reads_is_held_until_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Readers::new(folder.path().join("readers"));
        assert!(open().held().unwrap().is_empty());
        let (first, second) = (open(), open());
        first.hold(id(1), Hold::ForADay).unwrap();
        second.hold(id(2), Hold::WhileAlive).unwrap();
        assert_eq!(open().held().unwrap(), BTreeSet::from([id(1), id(2)]));
        drop(second);
        assert_eq!(open().held().unwrap(), BTreeSet::from([id(1)]));
        drop(first);
        assert!(open().held().unwrap().is_empty());
        assert_eq!(fs::read_dir(folder.path().join("readers")).unwrap().count(), 0);
    }

    #[test]
    fn what_is_read_all_the_time_is_noted_now_and_then() {
        let folder = tempfile::tempdir().unwrap();
        let readers = Readers::new(folder.path().to_owned());
        for _ in 0..100 {
            readers.hold(id(1), Hold::ForADay).unwrap();
            readers.hold(id(2), Hold::WhileAlive).unwrap();
        }
        let file = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        assert_eq!(fs::read_to_string(file).unwrap().lines().count(), 2);
    }

    #[test]
    fn a_line_counts_for_its_time() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let line = |until: &str| held_by(&format!("{} {until}", id(7)), now).is_some();
        assert!(line("1800000001") && line(WHILE_ALIVE));
        assert!(!line("1800000000") && !line("") && !line("18000x"));
        assert_eq!(held_by("20261121T0531", now), None, "it was cut short");
    }
}
