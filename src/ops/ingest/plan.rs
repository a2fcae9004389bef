//! Says what an ingest of paths would do, without reading content and without writing anything anywhere.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{Access, AtFlags, accessat};
use rustix::io::Errno;

use super::batch;
use super::exclude::ExcludedStats;
use super::failures::{Failures, ReadError, Stop};
use super::metadata::{FileIdentity, FileStat};
use super::selection::Selection;
use super::walk::{FileSource, Found, Purpose, Walker};
use super::{IngestError, IngestOptions, open_root};
use crate::format::content::Content;
use crate::format::tree::Xattr;
use crate::path::{Name, escape};
use crate::progress::{Event, Progress};
use crate::repo::{RepoError, Repository};

/// How far the walker may run ahead, in entries.
const ENTRIES_AHEAD: usize = 1024;

/// What an ingest would take.
#[derive(Debug, Default)]
pub struct IngestPlan {
    /// The resolved paths.
    pub paths: Vec<Vec<u8>>,
    /// Regular files that would be in the snapshot, all names of a file counted.
    pub files: u64,
    /// Directories, those above the given paths included.
    pub directories: u64,
    /// Symbolic links, devices and the like.
    pub others: u64,
    /// Files that are as this host last saw them: they would not be read.
    pub unchanged: Amount,
    /// Files that are new, or changed, or changed too shortly before the last ingest to be sure.
    pub to_read: Amount,
    /// What would be left out on purpose.
    pub excluded: ExcludedStats,
    /// What could not be read; one sentence each, safe for terminals. At most 10,000.
    pub failures: Vec<String>,
    /// The number of all paths that failed.
    pub failed: u64,
    /// How long it took to find out.
    pub elapsed: Duration,
}

/// A number of files and of their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// The files, each counted once however many names it has.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// Walks what was given and counts what an ingest with the same options would do. The store is not asked: what is
/// unchanged follows from what this host knows of the last snapshot of the series.
///
/// # Errors
/// See [`IngestError`].
pub fn plan(
    repo: &Repository,
    given: &[PathBuf],
    options: &IngestOptions,
    progress: &dyn Progress,
) -> Result<IngestPlan, IngestError> {
    let started = Instant::now();
    let selection = Selection::new(given, &options.left_out)?;
    let root = open_root()?;
    let mut planner = Planner {
        progress,
        plan: IngestPlan::default(),
        failures: Failures::default(),
        open: Vec::new(),
        unreadable: HashSet::new(),
    };
    let walked = std::thread::scope(|scope| {
        let (found_sender, found) = batch::bounded(ENTRIES_AHEAD);
        let walker = Walker::new(repo, &selection, options, progress, Looking, found_sender);
        let walk = scope.spawn(move || walker.run(root));
        planner.run(found);
        walk.join().unwrap_or(Err(Stop::Closed))
    });
    let excluded = walked.map_err(Stop::into_error)?;
    Ok(IngestPlan {
        paths: selection.paths(),
        excluded,
        failures: planner.failures.told,
        failed: planner.failures.count,
        elapsed: started.elapsed(),
        ..planner.plan
    })
}

/// Only looks at what the walker finds.
struct Looking;

impl Purpose for Looking {
    /// Whether this user may read the file.
    type Reading = io::Result<()>;

    fn xattrs(&self, _path: &[u8]) -> Result<Vec<Xattr>, ReadError> {
        Ok(Vec::new())
    }

    fn is_usable(&self, _content: &Content) -> Result<bool, RepoError> {
        Ok(true)
    }

    fn read(&self, directory: &Arc<OwnedFd>, name: &Name, _stat: &FileStat) -> Result<io::Result<()>, Stop> {
        match accessat(directory.as_fd(), name.as_bytes(), Access::READ_OK, AtFlags::EACCESS) {
            Err(error @ (Errno::ACCESS | Errno::PERM)) => Ok(Err(error.into())),
            // Whatever else there is will be seen when it is read.
            _ => Ok(Ok(())),
        }
    }
}

struct Planner<'a> {
    progress: &'a dyn Progress,
    plan: IngestPlan,
    failures: Failures,
    /// Paths of the directories that have not ended.
    open: Vec<Vec<u8>>,
    /// Files with several names that cannot be read.
    unreadable: HashSet<FileIdentity>,
}

impl Planner<'_> {
    fn run(&mut self, found: impl Iterator<Item = Found<io::Result<()>>>) {
        for found in found {
            match found {
                Found::Enter { path, .. } => {
                    self.plan.directories += 1;
                    self.open.push(path);
                }
                Found::Leave => drop(self.open.pop()),
                Found::Other(_) => self.plan.others += 1,
                Found::Failure(text, paths) => self.fail_many(text, paths),
                Found::File { name, stat, source, .. } => self.file(&name, &stat, source),
            }
        }
    }

    fn file(&mut self, name: &Name, stat: &FileStat, source: FileSource<io::Result<()>>) {
        match source {
            FileSource::SameAsBefore | FileSource::ChangedSince
                if self.unreadable.contains(&stat.identity()) =>
            {
                return self.fail_at(name, "it is another name of a file that failed");
            }
            FileSource::SameAsBefore | FileSource::ChangedSince => {}
            FileSource::Known(_) => self.plan.unchanged.add(stat.bytes),
            FileSource::Reading(Ok(())) => self.plan.to_read.add(stat.bytes),
            FileSource::Reading(Err(error)) => {
                if stat.links > 1 {
                    self.unreadable.insert(stat.identity());
                }
                return self.fail_at(name, &error.to_string());
            }
        }
        self.plan.files += 1;
        self.progress.event(Event::Done { files: 1, bytes: stat.bytes });
    }

    fn fail_at(&mut self, name: &Name, why: &str) {
        let directory = self.open.last().map(|path| escape(path)).unwrap_or_default();
        self.fail(format!("cannot read {directory}/{name}: {why}"));
    }

    fn fail(&mut self, text: String) {
        self.fail_many(text, 1);
    }

    fn fail_many(&mut self, text: String, paths: u64) {
        self.progress.event(Event::Warning(&text));
        self.failures.add(text, paths);
    }
}
