//! What the threads of one restore share: the queue of entries, the sums, the failures, and the end of it all.
//!
//! Entries go through one bounded queue in the order of the snapshot, since small neighbours share frames.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::io::Errno;

use super::attributes::{self, HasMode, Identity};
use super::links::LinkTable;
use super::target::Directory;
use super::write;
use super::{FAILURES_MAX, RestoreError, RestoreFailure, RestoreOptions, RestoreStats};
use crate::format::tree::{Attributes, Entry};
use crate::path::TreePath;
use crate::progress::{Event, Progress, error_chain};
use crate::repo::{RepoError, Repository};

/// Entries that wait for each worker: enough to hide the walk, few enough to bound open directories.
const QUEUED_PER_WORKER: usize = 32;

/// A directory of the target that is being filled.
///
/// Held by the walk, by queued entries and by the directories below it; whoever is the last to [`release`] it
/// sets its attributes, which must come after everything in it.
pub(super) struct OpenDirectory {
    /// The directory.
    pub directory: Directory,
    /// Its path in the snapshot.
    pub path: TreePath,
    /// What to set in the end; nothing for the target itself and for directories that are not to be changed.
    pub attributes: Option<Attributes>,
    /// The one above.
    pub parent: Option<Arc<OpenDirectory>>,
    /// Whether its owner can come here by path again once all attributes are set.
    pub reachable: bool,
}

/// An entry to restore.
pub(super) struct Job {
    /// Where.
    pub directory: Arc<OpenDirectory>,
    /// What; never a directory.
    pub entry: Entry,
}

/// One restore.
pub(super) struct Run<'a> {
    /// What is read.
    pub repo: &'a Repository,
    /// How.
    pub options: &'a RestoreOptions,
    /// Who listens.
    pub progress: &'a dyn Progress,
    /// As whom.
    pub identity: Identity,
    /// Hard links.
    pub links: LinkTable,
    /// Sums.
    pub tally: Tally,
    /// The target.
    pub target: Arc<OpenDirectory>,
    failures: Mutex<Vec<RestoreFailure>>,
    stopped: AtomicBool,
    stopped_by: Mutex<Option<RestoreError>>,
}

/// The sums of [`RestoreStats`] while they grow.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub files: AtomicU64,
    pub directories: AtomicU64,
    pub others: AtomicU64,
    pub bytes: AtomicU64,
    pub kept: AtomicU64,
    pub unchanged: AtomicU64,
    failed: AtomicU64,
    damaged: AtomicU64,
}

impl Tally {
    /// Adds to one of the sums.
    pub(super) fn add(sum: &AtomicU64, more: u64) {
        sum.fetch_add(more, Ordering::Relaxed);
    }
}

impl<'a> Run<'a> {
    /// Prepares a restore into an open target.
    pub(super) fn new(
        repo: &'a Repository,
        options: &'a RestoreOptions,
        progress: &'a dyn Progress,
        target: Directory,
    ) -> Self {
        let target = OpenDirectory {
            directory: target,
            path: TreePath::root(),
            attributes: None,
            parent: None,
            reachable: true,
        };
        Self {
            repo,
            options,
            progress,
            identity: Identity::current(),
            links: LinkTable::default(),
            tally: Tally::default(),
            target: Arc::new(target),
            failures: Mutex::default(),
            stopped: AtomicBool::new(false),
            stopped_by: Mutex::default(),
        }
    }

    /// Tells whether the restore has ended early, so that nothing more should be begun.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Ends the restore early. The first reason counts.
    pub(super) fn stop(&self, error: RestoreError) {
        self.stopped.store(true, Ordering::Relaxed);
        self.stopped_by.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    /// Notes that the target refused something; ends the restore if it is full.
    pub(super) fn refused(&self, path: &TreePath, what: &str, error: io::Error) {
        let errno = Errno::from_io_error(&error);
        if matches!(errno, Some(Errno::NOSPC | Errno::DQUOT)) {
            self.stop(RestoreError::Full { path: path.clone(), source: error });
        } else {
            self.fail(path, format!("{what}: {error}"), false);
        }
    }

    /// Notes that something cannot be read; ends the restore if that is not because of damage.
    pub(super) fn unreadable(&self, path: &TreePath, error: RepoError) {
        if error.is_damage() {
            self.fail(path, error_chain(&error), true);
        } else {
            self.stop(RestoreError::Repo(error));
        }
    }

    /// Notes a failure that does not end the restore.
    pub(super) fn fail(&self, path: &TreePath, reason: String, damaged: bool) {
        self.progress.event(Event::Warning(&format!("{path}: {reason}")));
        Tally::add(&self.tally.failed, 1);
        Tally::add(&self.tally.damaged, damaged.into());
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < FAILURES_MAX {
            failures.push(RestoreFailure { path: path.clone(), reason, damaged });
        }
    }

    /// Sets the attributes of `directory` and of those above it, as far as nobody else needs them any more.
    pub(super) fn release(&self, mut directory: Arc<OpenDirectory>) {
        while let Some(last) = Arc::into_inner(directory) {
            if let Some(attributes) = &last.attributes {
                let xattrs = self.xattrs(&last.path, attributes);
                let handle = last.directory.handle();
                for reason in attributes::apply(handle, attributes, &xattrs, HasMode::Yes, self.identity) {
                    self.fail(&last.path, reason, false);
                }
            }
            match last.parent {
                Some(parent) => directory = parent,
                None => return,
            }
        }
    }

    /// Returns the extended attributes with their values; those that cannot be read are noted and left out.
    pub(super) fn xattrs<'b>(&self, path: &TreePath, attributes: &'b Attributes) -> Vec<(&'b [u8], Vec<u8>)> {
        let mut values = Vec::with_capacity(attributes.xattrs.len());
        for xattr in &attributes.xattrs {
            match self.repo.value(&xattr.value) {
                Ok(value) => values.push((xattr.name.as_slice(), value)),
                Err(error) => self.unreadable(path, error),
            }
        }
        values
    }

    /// Ends the restore and returns what came of it.
    pub(super) fn finish(mut self) -> Result<RestoreStats, RestoreError> {
        for directory in std::mem::take(&mut self.links).into_held() {
            self.release(directory);
        }
        if let Some(error) = self.stopped_by.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        Ok(RestoreStats {
            files: self.tally.files.into_inner(),
            directories: self.tally.directories.into_inner(),
            others: self.tally.others.into_inner(),
            bytes: self.tally.bytes.into_inner(),
            kept: self.tally.kept.into_inner(),
            unchanged: self.tally.unchanged.into_inner(),
            failed: self.tally.failed.into_inner(),
            damaged: self.tally.damaged.into_inner(),
            failures: self.failures.into_inner().unwrap_or_else(PoisonError::into_inner),
            ..RestoreStats::default()
        })
    }
}

/// Runs `feed` with the sending end of the queue while the workers restore what comes out of it; returns when
/// all is done.
pub(super) fn with_workers(run: &Run<'_>, feed: impl FnOnce(&Sender<Job>)) -> Result<(), RestoreError> {
    let workers = run.options.threads.max(1);
    let (sender, receiver) = bounded(workers.saturating_mul(QUEUED_PER_WORKER));
    thread::scope(|scope| {
        // The sender must be gone before the scope waits for the workers, on every way out.
        let sender = sender;
        for _ in 0..workers {
            let jobs = receiver.clone();
            thread::Builder::new()
                .name("restore".into())
                .spawn_scoped(scope, move || work(run, &jobs))
                .map_err(|source| RestoreError::Thread { source })?;
        }
        drop(receiver);
        feed(&sender);
        Ok(())
    })
}

fn work(run: &Run<'_>, jobs: &Receiver<Job>) {
    for job in jobs {
        if !run.is_stopped() {
            write::restore_entry(run, &job.directory, &job.entry);
        }
        run.release(job.directory);
    }
}
