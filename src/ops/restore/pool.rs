//! What the threads of one restore share: the queue of entries, the sums, the failures, and the end of it all.
//!
//! Entries go through one bounded queue, nearly in the order of the snapshot, since small neighbours share frames; a few
//! of a directory at a time, since threads that make files in one directory wait for each other.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::io::Errno;

use super::attributes::{self, Subject, Unset, Wanted};
use super::links::LinkTable;
use super::partial::PartialFile;
use super::policy::Policy;
use super::readback::Readback;
use super::selection::Scope;
use super::target::Directory;
use super::write::{self, EntryError};
use super::{FAILURES_MAX, KEPT_NAMED_MAX, RestoreError, RestoreFailure, RestoreOptions, RestoreStats};
use crate::format::tree::{Attributes, Entry, TreeRef};
use crate::path::{Name, TreePath};
use crate::progress::{Progress, error_chain};
use crate::repo::{RepoError, Repository};

/// Batches that wait for each worker: enough to hide the walk, few enough to bound open directories.
const QUEUED_PER_WORKER: usize = 4;

/// A directory of the target that is being filled.
///
/// Held by the walk, by queued entries and by the directories below it; whoever is the last to [`release`] it
/// sets its attributes, which must come after everything in it.
pub(super) struct OpenDirectory {
    /// The directory.
    pub directory: Directory,
    /// Its path in the snapshot.
    pub path: TreePath,
    /// Its pages in the snapshot.
    pub tree: TreeRef,
    /// What to set in the end; nothing for the target itself and for directories that are not to be changed.
    pub attributes: Option<Attributes>,
    /// The mode to set in the end where nothing else is set, since the directory was closed to its owner.
    pub closed_mode: Option<u16>,
    /// The one above.
    pub parent: Option<Arc<OpenDirectory>>,
    /// Whether its owner can come here by path again once all attributes are set.
    pub reachable: bool,
}

/// Entries of one directory to restore.
pub(super) struct Batch {
    /// Where.
    pub directory: Arc<OpenDirectory>,
    /// What; never a directory.
    pub entries: Vec<Entry>,
}

/// One restore.
pub(super) struct Run<'a> {
    /// What is read.
    pub repo: &'a Repository,
    /// How.
    pub options: &'a RestoreOptions,
    /// Who listens.
    pub progress: &'a dyn Progress,
    /// What is decided.
    pub policy: Policy,
    /// Hard links.
    pub links: LinkTable,
    /// Sums.
    pub tally: Tally,
    /// The target.
    pub target: Arc<OpenDirectory>,
    /// Files that are to be read again.
    pub readback: Readback,
    failures: Mutex<Failures>,
    kept_named: Mutex<Vec<TreePath>>,
    /// A descriptor of every file system that is written to.
    file_systems: Mutex<BTreeMap<u64, OwnedFd>>,
    stopped: AtomicBool,
    stopped_by: Mutex<Option<RestoreError>>,
}

/// Failures, and how many gaps they hold.
#[derive(Debug, Default)]
struct Failures {
    list: Vec<RestoreFailure>,
    gaps: usize,
}

/// The sums of [`RestoreStats`] while they grow.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub files: AtomicU64,
    pub directories: AtomicU64,
    pub others: AtomicU64,
    pub bytes: AtomicU64,
    pub replaced: AtomicU64,
    pub unchanged: AtomicU64,
    pub left_out: AtomicU64,
    pub verified_files: AtomicU64,
    pub verified_bytes: AtomicU64,
    pub differing: AtomicU64,
    kept: AtomicU64,
    failed: AtomicU64,
    damaged: AtomicU64,
    partial: AtomicU64,
    privileged_xattrs: AtomicU64,
    set_ids: AtomicU64,
    clamped_times: AtomicU64,
}

impl Tally {
    /// Adds to one of the sums.
    pub(super) fn add(sum: &AtomicU64, more: u64) {
        sum.fetch_add(more, Ordering::Relaxed);
    }
}

impl<'a> Run<'a> {
    /// Prepares to restore `scope` into an open target.
    pub(super) fn new(
        repo: &'a Repository,
        options: &'a RestoreOptions,
        progress: &'a dyn Progress,
        target: Directory,
        scope: &Scope,
    ) -> Self {
        let target = OpenDirectory {
            directory: target,
            path: scope.path.clone(),
            tree: scope.tree,
            attributes: None,
            closed_mode: None,
            parent: None,
            reachable: true,
        };
        let run = Self {
            repo,
            options,
            progress,
            policy: Policy::new(options.overwrite, options.ownership),
            links: LinkTable::default(),
            tally: Tally::default(),
            target: Arc::new(target),
            readback: Readback::default(),
            failures: Mutex::default(),
            kept_named: Mutex::default(),
            file_systems: Mutex::default(),
            stopped: AtomicBool::new(false),
            stopped_by: Mutex::default(),
        };
        run.writes_to(&run.target.directory);
        Tally::add(&run.tally.left_out, scope.left_out);
        run
    }

    /// Returns the names below the target of a directory of the snapshot that is restored.
    pub(super) fn below_target<'b>(&self, path: &'b TreePath) -> &'b [Name] {
        path.components().get(self.target.path.components().len()..).unwrap_or_default()
    }

    /// Remembers the file system of a directory that was there before: it may be another one than the target's.
    pub(super) fn writes_to(&self, directory: &Directory) {
        if let Ok((number, descriptor)) = directory.file_system() {
            self.file_systems
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(number)
                .or_insert(descriptor);
        }
    }

    /// Has everything that was written so far brought to the disk.
    pub(super) fn flush(&self) {
        let file_systems = self.file_systems.lock().unwrap_or_else(PoisonError::into_inner);
        for descriptor in file_systems.values() {
            match rustix::fs::syncfs(descriptor) {
                // One that cannot be told has nothing to bring anywhere.
                Ok(()) | Err(Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP) => {}
                Err(error) => self.refused(&self.target.path, "cannot bring it to the disk", error.into()),
            }
        }
    }

    /// Tells whether the restore has ended early, so that nothing more should be begun.
    pub(super) fn is_stopped(&self) -> bool {
        if self.options.stop.load(Ordering::Relaxed) {
            self.stop(RestoreError::Interrupted);
        }
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

    /// Notes why an entry could not be restored.
    pub(super) fn note_error(&self, path: &TreePath, error: EntryError) {
        match error {
            EntryError::Target(what, error) => self.refused(path, what, error),
            EntryError::Store(error) => self.unreadable(path, error),
            EntryError::Gaps(partial) => self.fail_in_part(path, *partial),
            EntryError::LinkToDamaged(partial) => {
                let kept =
                    partial.map_or_else(String::new, |path| format!("; what could be read is in {path}"));
                self.fail(path, format!("is one more name of a damaged file{kept}"), true);
            }
            EntryError::Differs(range) => {
                self.fail(
                    path,
                    format!("other bytes were read back at {} to {}", range.start, range.end),
                    false,
                );
            }
            EntryError::DirectoryInTheWay => {
                self.fail(path, "a directory is in its place and was left there".into(), false);
            }
            EntryError::Stopped => {}
        }
    }

    /// Notes a failure that does not end the restore.
    pub(super) fn fail(&self, path: &TreePath, reason: String, damaged: bool) {
        self.push_failure(RestoreFailure { path: path.clone(), reason, damaged, partial: None });
    }

    /// Notes a damaged file of which a part was kept.
    fn fail_in_part(&self, path: &TreePath, partial: PartialFile) {
        // The gaps say why, and stand beside this.
        let reason = match &partial.path {
            Some(kept) => {
                format!("{} of its bytes cannot be read; the rest is in {kept}", partial.missing_bytes)
            }
            None => format!("none of its {} bytes of data can be read", partial.missing_bytes),
        };
        Tally::add(&self.tally.partial, partial.path.is_some().into());
        let partial = Some(partial);
        self.push_failure(RestoreFailure { path: path.clone(), reason, damaged: true, partial });
    }

    fn push_failure(&self, mut failure: RestoreFailure) {
        Tally::add(&self.tally.failed, 1);
        Tally::add(&self.tally.damaged, failure.damaged.into());
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.list.len() >= FAILURES_MAX {
            return;
        }
        if let Some(partial) = &mut failure.partial {
            partial.gaps.truncate(FAILURES_MAX.saturating_sub(failures.gaps));
            partial.gaps.shrink_to_fit();
            failures.gaps += partial.gaps.len();
        }
        failures.list.push(failure);
    }

    /// Notes that something stays as it is in the target.
    pub(super) fn keep(&self, path: &TreePath) {
        Tally::add(&self.tally.kept, 1);
        let mut named = self.kept_named.lock().unwrap_or_else(PoisonError::into_inner);
        if named.len() < KEPT_NAMED_MAX {
            named.push(path.clone());
        }
    }

    /// Notes what could not be set of something that is restored.
    pub(super) fn note_unset(&self, path: &TreePath, unset: Unset) {
        Tally::add(&self.tally.privileged_xattrs, unset.privileged_xattrs);
        Tally::add(&self.tally.set_ids, unset.set_id.into());
        Tally::add(&self.tally.clamped_times, unset.clamped_time.into());
        for reason in unset.refused {
            self.fail(path, reason, false);
        }
    }

    /// Sets the attributes of `directory` and of those above it, as far as nobody else needs them any more.
    pub(super) fn release(&self, mut directory: Arc<OpenDirectory>) {
        while let Some(last) = Arc::into_inner(directory) {
            let handle = last.directory.handle();
            if let Some(attributes) = &last.attributes {
                let xattrs = self.xattrs(&last.path, attributes);
                let owner = self.policy.owners.owner_of(attributes);
                let wanted = Wanted { attributes, xattrs: &xattrs, owner };
                let unset = attributes::apply(handle, &wanted, Subject::Directory, self.policy.identity);
                self.note_unset(&last.path, unset);
            } else if let Some(Err(error)) = last.closed_mode.map(|mode| attributes::set_mode(handle, mode)) {
                self.refused(&last.path, "cannot set its mode as it was", error.into());
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

    /// Ends the restore and returns what came of it. What is restored is on the disk then.
    pub(super) fn finish(mut self) -> Result<RestoreStats, RestoreError> {
        for directory in std::mem::take(&mut self.links).into_held() {
            self.release(directory);
        }
        self.readback.finish(&self);
        self.flush();
        if let Some(error) = self.stopped_by.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let tally = self.tally;
        let mut kept_named = self.kept_named.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut failures = self.failures.into_inner().unwrap_or_else(PoisonError::into_inner).list;
        kept_named.sort();
        failures.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(RestoreStats {
            files: tally.files.into_inner(),
            directories: tally.directories.into_inner(),
            others: tally.others.into_inner(),
            bytes: tally.bytes.into_inner(),
            replaced: tally.replaced.into_inner(),
            kept: tally.kept.into_inner(),
            kept_named,
            unchanged: tally.unchanged.into_inner(),
            left_out: tally.left_out.into_inner(),
            partial: tally.partial.into_inner(),
            verified_files: tally.verified_files.into_inner(),
            verified_bytes: tally.verified_bytes.into_inner(),
            differing: tally.differing.into_inner(),
            owner_changes: self.policy.owners.into_changes(),
            privileged_xattrs: tally.privileged_xattrs.into_inner(),
            set_ids: tally.set_ids.into_inner(),
            clamped_times: tally.clamped_times.into_inner(),
            failed: tally.failed.into_inner(),
            damaged: tally.damaged.into_inner(),
            failures,
            elapsed: Duration::ZERO,
        })
    }
}

/// Runs `feed` with the sending end of the queue while the workers restore what comes out of it; returns when
/// all is done.
pub(super) fn with_workers(run: &Run<'_>, feed: impl FnOnce(&Sender<Batch>)) -> Result<(), RestoreError> {
    let workers = run.options.threads.max(1);
    let (sender, receiver) = bounded(workers.saturating_mul(QUEUED_PER_WORKER));
    thread::scope(|scope| {
        // The sender must be gone before the scope waits for the workers, on every way out.
        let sender = sender;
        for _ in 0..workers {
            let batches = receiver.clone();
            thread::Builder::new()
                .name("restore".into())
                .spawn_scoped(scope, move || work(run, &batches))
                .map_err(|source| RestoreError::Thread { source })?;
        }
        drop(receiver);
        feed(&sender);
        Ok(())
    })
}

fn work(run: &Run<'_>, batches: &Receiver<Batch>) {
    for Batch { directory, entries } in batches {
        for entry in entries.iter().take_while(|_| !run.is_stopped()) {
            write::restore_entry(run, &directory, entry);
        }
        run.release(directory);
    }
}
