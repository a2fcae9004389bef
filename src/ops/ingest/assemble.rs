//! Assembles the trees of a snapshot from what the walker finds and the readers read.

use std::collections::HashSet;
use std::collections::hash_map::{self, HashMap};
use std::os::fd::AsFd;

use crossbeam_channel::Receiver;
use jiff::Timestamp;
use rustix::fs::{Mode, OFlags};

use super::failures::{Failures, ReadError};
use super::file::{self, ReadFile};
use super::metadata::{self, FileIdentity, FileStat, OwnerNames};
use super::selection::Selection;
use super::walk::{FileSource, Found, Stop, Walker, series};
use super::{IngestError, IngestOptions, Taken, known};
use crate::crypto::hash::ChunkKind;
use crate::format::content::Content;
use crate::format::snapshot::SnapshotTotals;
use crate::format::tree::{Attributes, Entry, EntryKind, LinkGroup, TreeBuilder, TreeRef};
use crate::id::ChunkId;
use crate::index::{KnownDirectory, KnownFile};
use crate::path::{Name, escape};
use crate::progress::{Event, Progress};
use crate::repo::session::SessionWriter;
use crate::repo::{RepoError, Repository};

/// How far the walker may run ahead of the readers, in entries.
const ENTRIES_AHEAD: usize = 4096;
/// Waiting for a cold disk costs readers no processor, so there are more of them than cores.
const READERS_PER_THREAD: usize = 2;
/// Files that wait for a reader. Each holds its directory open, of which a process may have about a thousand.
const FILES_AHEAD: usize = 256;
/// What is known of the files of this many directories is written to the index at once.
const DIRECTORIES_PER_BATCH: usize = 512;

/// Reads a selection into the session.
pub(super) fn take_paths(
    repo: &Repository,
    session: &SessionWriter,
    selection: &Selection,
    options: &IngestOptions,
    progress: &dyn Progress,
) -> Result<Taken, IngestError> {
    let path_error = |source| IngestError::Path { path: "/".to_owned(), source };
    let root = rustix::fs::open("/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| path_error(error.into()))?;
    let mut owners = OwnerNames::default();
    let mut root_attributes = owners.attributes(&FileStat::of(root.as_fd()).map_err(path_error)?);
    root_attributes.xattrs =
        metadata::xattrs(b"/", |value| metadata::spill(session, value)).map_err(|error| match error {
            ReadError::File(source) => path_error(source),
            ReadError::Fatal(error) => error,
        })?;
    metadata::check_proc()
        .map_err(|source| IngestError::Path { path: "/proc/self/fd".to_owned(), source })?;
    std::thread::scope(|scope| {
        let (job_sender, jobs) = crossbeam_channel::bounded(FILES_AHEAD);
        let (found_sender, found) = crossbeam_channel::bounded(ENTRIES_AHEAD);
        for _ in 0..READERS_PER_THREAD * options.threads.max(1) {
            let jobs = jobs.clone();
            scope.spawn(move || file::run(repo, session, &jobs));
        }
        drop(jobs);
        let walker = Walker {
            repo,
            session,
            selection,
            options,
            progress,
            jobs: job_sender,
            found: found_sender,
            owners,
            linked: Default::default(),
        };
        let walk = scope.spawn(move || walker.run(root));
        let mut assembler = Assembler::new(repo, session, options, progress);
        let assembled = assembler.run(found);
        let walked = walk.join().map_err(|_| IngestError::Repo(RepoError::SessionFailed))?;
        let root = assembled?;
        match walked {
            Ok(()) => {}
            Err(Stop::Failed(error)) => return Err(error),
            Err(Stop::Closed) => return Err(RepoError::SessionFailed.into()),
        }
        assembler.forget_what_was_not_met()?;
        Ok(Taken {
            paths: selection.paths(),
            root_attributes,
            root,
            totals: assembler.totals,
            failures: assembler.failures,
        })
    })
}

/// A directory that is not complete yet.
struct OpenDirectory {
    name: Option<Name>,
    attributes: Attributes,
    builder: TreeBuilder,
    path: Vec<u8>,
    known: Vec<(Vec<u8>, KnownFile)>,
}

struct Assembler<'a> {
    repo: &'a Repository,
    session: &'a SessionWriter,
    options: &'a IngestOptions,
    progress: &'a dyn Progress,
    run_seconds: i64,
    open: Vec<OpenDirectory>,
    /// Contents of files with several names, and how many names are still to come; no content for one that could
    /// not be read.
    linked: HashMap<FileIdentity, (Option<Content>, u32)>,
    known: Vec<KnownDirectory>,
    /// Hashes of the paths of all directories that were met.
    met: HashSet<u64>,
    totals: SnapshotTotals,
    failures: Failures,
}

impl<'a> Assembler<'a> {
    fn new(
        repo: &'a Repository,
        session: &'a SessionWriter,
        options: &'a IngestOptions,
        progress: &'a dyn Progress,
    ) -> Self {
        let root = OpenDirectory {
            name: None,
            attributes: Attributes::default(),
            builder: TreeBuilder::new(repo.keys().ids().clone()),
            path: Vec::new(),
            known: Vec::new(),
        };
        Self {
            repo,
            session,
            options,
            progress,
            run_seconds: Timestamp::now().as_second(),
            open: vec![root],
            linked: HashMap::new(),
            known: Vec::new(),
            met: HashSet::new(),
            totals: SnapshotTotals::default(),
            failures: Failures::default(),
        }
    }

    /// Takes everything the walker finds and returns the root directory.
    fn run(&mut self, found: Receiver<Found>) -> Result<TreeRef, IngestError> {
        for found in found {
            match found {
                Found::Enter { name, attributes, path } => self.enter(name, attributes, path),
                Found::Leave => self.leave()?,
                Found::File { name, attributes, link, stat, source } => {
                    self.file(name, attributes, link, &stat, source)?;
                }
                Found::Other(entry) => {
                    self.totals.others += 1;
                    self.push(entry)?;
                }
                Found::Failure(text) => self.fail(text),
            }
        }
        let root = self.finish_directory()?;
        self.remember(0)?;
        Ok(root)
    }

    /// Drops from the index what it knows of directories that are not there any more.
    fn forget_what_was_not_met(&self) -> Result<(), IngestError> {
        let met = &self.met;
        self.repo
            .index()
            .retain_known_directories(&series(self.options), &|path| met.contains(&path_hash(path)))
            .map_err(RepoError::from)?;
        Ok(())
    }

    fn enter(&mut self, name: Name, attributes: Attributes, path: Vec<u8>) {
        self.totals.directories += 1;
        let builder = TreeBuilder::new(self.repo.keys().ids().clone());
        self.open.push(OpenDirectory { name: Some(name), attributes, builder, path, known: Vec::new() });
    }

    fn leave(&mut self) -> Result<(), IngestError> {
        let Some((name, attributes)) = self
            .open
            .last_mut()
            .and_then(|open| Some((open.name.take()?, std::mem::take(&mut open.attributes))))
        else {
            return Err(RepoError::SessionFailed.into());
        };
        let tree = self.finish_directory()?;
        self.push(Entry { name, attributes, link: None, kind: EntryKind::Directory(tree) })
    }

    /// Ends the innermost open directory.
    fn finish_directory(&mut self) -> Result<TreeRef, IngestError> {
        let session = self.session;
        let directory = self.open.pop().ok_or(RepoError::SessionFailed)?;
        let tree = directory.builder.finish(&mut |page| add_page(session, &page))?;
        self.met.insert(path_hash(&directory.path));
        self.known.push((directory.path, directory.known));
        self.remember(DIRECTORIES_PER_BATCH)?;
        Ok(tree)
    }

    fn file(
        &mut self,
        name: Name,
        attributes: Attributes,
        link: Option<LinkGroup>,
        stat: &FileStat,
        source: FileSource,
    ) -> Result<(), IngestError> {
        let content = match source {
            FileSource::SameAsBefore => self.content_of_other_name(&name, stat),
            FileSource::Known(content) => {
                self.count(stat.bytes);
                self.remember_file(&name, stat, &content);
                self.expect_other_names(stat, Some(&content));
                Some(content)
            }
            FileSource::Reading(answer) => {
                let outcome = answer.recv().map_err(|_| RepoError::SessionFailed)?;
                let content = self.take_read(&name, stat, outcome)?;
                self.expect_other_names(stat, content.as_ref());
                content
            }
        };
        match content {
            Some(content) => {
                self.totals.files += 1;
                self.push(Entry { name, attributes, link, kind: EntryKind::File(content) })
            }
            None => {
                self.totals.failed_files += 1;
                Ok(())
            }
        }
    }

    /// Keeps the content of a file for its other names.
    fn expect_other_names(&mut self, stat: &FileStat, content: Option<&Content>) {
        if stat.links > 1 {
            self.linked.insert(stat.identity(), (content.cloned(), stat.links - 1));
        }
    }

    /// Returns the content that was stored under another name of the same file; a failure if there is none.
    fn content_of_other_name(&mut self, name: &Name, stat: &FileStat) -> Option<Content> {
        let mut content = None;
        if let hash_map::Entry::Occupied(mut kept) = self.linked.entry(stat.identity()) {
            content.clone_from(&kept.get().0);
            kept.get_mut().1 -= 1;
            if kept.get().1 == 0 {
                kept.remove();
            }
        }
        if content.is_none() {
            self.fail(format!(
                "cannot read {}: it is another name of a file that failed",
                self.path_of(name)
            ));
        }
        content
    }

    /// Returns the content of a file that was read; nothing, and a failure, if it could not be.
    fn take_read(
        &mut self,
        name: &Name,
        stat: &FileStat,
        outcome: Result<ReadFile, ReadError>,
    ) -> Result<Option<Content>, IngestError> {
        match outcome {
            Ok(read) => {
                self.count(read.bytes);
                if read.changed {
                    self.fail(format!("{} changed while it was read", self.path_of(name)));
                } else {
                    self.remember_file(name, stat, &read.content);
                }
                Ok(Some(read.content))
            }
            Err(ReadError::File(error)) => {
                self.progress.event(Event::Done { files: 1, bytes: stat.bytes });
                self.fail(format!("cannot read {}: {error}", self.path_of(name)));
                Ok(None)
            }
            Err(ReadError::Fatal(error)) => Err(error),
        }
    }

    fn push(&mut self, entry: Entry) -> Result<(), IngestError> {
        let session = self.session;
        let name = entry.name.clone();
        let directory = self.open.last_mut().ok_or(RepoError::SessionFailed)?;
        match directory.builder.push(entry, &mut |page| add_page(session, &page)) {
            // An entry beyond the limits of the format must not keep the others from being backed up.
            Err(IngestError::Format(error)) => {
                self.totals.failed_files += 1;
                self.fail(format!("cannot store {}: {error}", self.path_of(&name)));
                Ok(())
            }
            other => other,
        }
    }

    fn count(&mut self, bytes: u64) {
        self.totals.bytes += bytes;
        self.progress.event(Event::Done { files: 1, bytes });
    }

    fn fail(&mut self, text: String) {
        self.progress.event(Event::Warning(&text));
        self.failures.add(text);
    }

    fn path_of(&self, name: &Name) -> String {
        let directory = self.open.last().map(|open| escape(&open.path)).unwrap_or_default();
        format!("{directory}/{name}")
    }

    fn remember_file(&mut self, name: &Name, stat: &FileStat, content: &Content) {
        let known = known::to_remember(stat, content, self.run_seconds);
        if let (Some(directory), Some(known)) = (self.open.last_mut(), known) {
            directory.known.push((name.as_bytes().to_vec(), known));
        }
    }

    /// Writes to the index what is known of files, if at least `batch` directories wait.
    fn remember(&mut self, batch: usize) -> Result<(), IngestError> {
        if self.known.len() >= batch.max(1) {
            let known = std::mem::take(&mut self.known);
            self.repo.index().remember_files(&series(self.options), &known).map_err(RepoError::from)?;
        }
        Ok(())
    }
}

/// Returns a short stand-in for a path. Should two ever share one, a stale row stays in the index for a while.
fn path_hash(path: &[u8]) -> u64 {
    let mut hash = [0; 8];
    blake3::Hasher::new().update(path).finalize_xof().fill(&mut hash);
    u64::from_le_bytes(hash)
}

fn add_page(session: &SessionWriter, page: &[u8]) -> Result<ChunkId, IngestError> {
    Ok(session.add(ChunkKind::Tree, page)?)
}
