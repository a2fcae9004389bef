//! Assembles the trees of a snapshot from what the walker finds and the readers read.

use std::collections::HashSet;
use std::collections::hash_map::{self, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use jiff::Timestamp;

use super::failures::{Failures, ReadError, Stop, VANISHED};
use super::file::{self, FileJob, ReadFile};
use super::metadata::{self, FileIdentity, FileStat, OwnerNames};
use super::selection::Selection;
use super::walk::{FileSource, Found, Purpose, Walker, series};
use super::{IngestError, IngestOptions, Taken, batch, known, open_root};
use crate::crypto::hash::ChunkKind;
use crate::format::content::Content;
use crate::format::snapshot::SnapshotTotals;
use crate::format::tree::{Attributes, Entry, EntryKind, LinkGroup, TreeBuilder, TreeRef, Xattr};
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
/// What is known of this many files is written to the index at once, however few their directories are.
const FILES_PER_BATCH: usize = 8192;

/// A file that a reader reads.
type Answer = Receiver<Result<ReadFile, ReadError>>;

/// Reads a selection into the session.
pub(super) fn take_paths(
    repo: &Repository,
    session: &SessionWriter,
    selection: &Selection,
    options: &IngestOptions,
    progress: &dyn Progress,
) -> Result<Taken, IngestError> {
    let root = open_root()?;
    let root_attributes = root_attributes(session, &root)?;
    std::thread::scope(|scope| {
        let (job_sender, jobs) = crossbeam_channel::bounded(FILES_AHEAD);
        let (found_sender, found) = batch::bounded(ENTRIES_AHEAD);
        for _ in 0..READERS_PER_THREAD * options.threads.max(1) {
            let jobs = jobs.clone();
            scope.spawn(move || file::run(repo, session, &jobs));
        }
        drop(jobs);
        let purpose = Storing { repo, session, jobs: job_sender };
        let walker = Walker::new(repo, selection, options, progress, purpose, found_sender);
        let walk = scope.spawn(move || walker.run(root));
        let mut assembler = Assembler::new(repo, session, options, progress);
        let assembled = assembler.run(found);
        let walked = walk.join().map_err(|_| IngestError::Repo(RepoError::SessionFailed))?;
        let root = assembled?;
        let excluded = walked.map_err(Stop::into_error)?;
        assembler.forget_what_was_not_met()?;
        Ok(Taken {
            paths: selection.paths(),
            root_attributes,
            root,
            totals: assembler.totals,
            failures: assembler.failures,
            excluded,
            dumps: Vec::new(),
        })
    })
}

fn root_attributes(session: &SessionWriter, root: &OwnedFd) -> Result<Attributes, IngestError> {
    let path_error = |source| IngestError::Path { path: "/".to_owned(), source };
    let stat = FileStat::of(root.as_fd()).map_err(path_error)?;
    let mut attributes = OwnerNames::default().attributes(&stat);
    let xattrs = metadata::xattrs(b"/", |value| metadata::spill(session, value));
    attributes.xattrs = xattrs.map_err(|error| match error {
        ReadError::File(source) => path_error(source),
        ReadError::Fatal(error) => error,
    })?;
    Ok(attributes)
}

/// Stores what the walker finds.
struct Storing<'a> {
    repo: &'a Repository,
    session: &'a SessionWriter,
    jobs: Sender<FileJob>,
}

impl Purpose for Storing<'_> {
    type Reading = Answer;

    fn xattrs(&self, path: &[u8]) -> Result<Vec<Xattr>, ReadError> {
        metadata::xattrs(path, |value| metadata::spill(self.session, value))
    }

    fn is_usable(&self, content: &Content) -> Result<bool, RepoError> {
        known::is_usable(self.repo, self.session, content)
    }

    fn read(&self, directory: &Arc<OwnedFd>, name: &Name, stat: &FileStat) -> Result<Answer, Stop> {
        let (reply, answer) = crossbeam_channel::bounded(1);
        let job = FileJob { directory: Arc::clone(directory), name: name.clone(), stat: *stat, reply };
        self.jobs.send(job).map_err(|_| Stop::Closed)?;
        Ok(answer)
    }
}

/// A directory that is not complete yet.
struct OpenDirectory {
    name: Option<Name>,
    attributes: Attributes,
    builder: TreeBuilder,
    path: Vec<u8>,
    /// The totals without it.
    totals_before: SnapshotTotals,
    /// What is known of the files of the page at hand, and the key under which the index keeps it.
    known: Vec<(Vec<u8>, KnownFile)>,
    known_key: Vec<u8>,
}

impl OpenDirectory {
    fn new(repo: &Repository, name: Option<Name>, attributes: Attributes, path: Vec<u8>) -> Self {
        let builder = TreeBuilder::new(repo.keys().ids().clone());
        let known_key = path.clone();
        let totals_before = SnapshotTotals::default();
        Self { name, attributes, builder, path, totals_before, known: Vec::new(), known_key }
    }
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
    /// Pages of what is known that wait to be written to the index, and the number of files on them.
    known: Vec<KnownDirectory>,
    known_files: usize,
    /// Hashes of the keys of all pages, which begin with the paths of all directories that were met.
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
        let root = OpenDirectory::new(repo, None, Attributes::default(), Vec::new());
        Self {
            repo,
            session,
            options,
            progress,
            run_seconds: Timestamp::now().as_second(),
            open: vec![root],
            linked: HashMap::new(),
            known: Vec::new(),
            known_files: 0,
            met: HashSet::new(),
            totals: SnapshotTotals::default(),
            failures: Failures::default(),
        }
    }

    /// Takes everything the walker finds and returns the root directory.
    fn run(&mut self, found: impl Iterator<Item = Found<Answer>>) -> Result<TreeRef, IngestError> {
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
                Found::Failure(text, paths) => self.fail_many(text, paths),
            }
        }
        let root = self.finish_directory()?;
        self.write_known()?;
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
        let directory = OpenDirectory::new(self.repo, Some(name), attributes, path);
        self.open.push(OpenDirectory { totals_before: self.totals, ..directory });
        self.totals.directories += 1;
    }

    fn leave(&mut self) -> Result<(), IngestError> {
        let Some((name, attributes, before)) = self.open.last_mut().and_then(|open| {
            Some((open.name.take()?, std::mem::take(&mut open.attributes), open.totals_before))
        }) else {
            return Err(RepoError::SessionFailed.into());
        };
        let tree = self.finish_directory()?;
        let failed_files = self.totals.failed_files;
        self.push(Entry { name, attributes, link: None, kind: EntryKind::Directory(tree) })?;
        if self.totals.failed_files > failed_files {
            // What lies below is lost with it.
            let lost_files = self.totals.files - before.files;
            let failed_files = self.totals.failed_files + lost_files;
            self.totals = SnapshotTotals { failed_files, ..before };
        }
        Ok(())
    }

    /// Ends the innermost open directory.
    fn finish_directory(&mut self) -> Result<TreeRef, IngestError> {
        let session = self.session;
        let directory = self.open.pop().ok_or(RepoError::SessionFailed)?;
        let tree = directory.builder.finish(&mut |page| add_page(session, &page))?;
        self.keep_known(directory.known_key, directory.known)?;
        Ok(tree)
    }

    fn file(
        &mut self,
        name: Name,
        attributes: Attributes,
        link: Option<LinkGroup>,
        stat: &FileStat,
        source: FileSource<Answer>,
    ) -> Result<(), IngestError> {
        let content = match source {
            FileSource::SameAsBefore => self.content_of_other_name(&name, stat),
            FileSource::ChangedSince => {
                let content = self.content_of_other_name(&name, stat);
                if content.is_some() {
                    self.fail_as_changed(&name);
                }
                content
            }
            FileSource::Known(content) => {
                self.count(stat.bytes);
                self.remember_file(&name, stat, &content)?;
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
                    self.fail_as_changed(name);
                } else {
                    self.remember_file(name, stat, &read.content)?;
                }
                Ok(Some(read.content))
            }
            Err(ReadError::File(error)) => {
                self.progress.event(Event::Done { files: 1, bytes: stat.bytes });
                let vanished = error.kind() == io::ErrorKind::NotFound;
                let why = if vanished { VANISHED.to_owned() } else { error.to_string() };
                self.fail(format!("cannot read {}: {why}", self.path_of(name)));
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

    fn fail_as_changed(&mut self, name: &Name) {
        self.fail(format!("{} changed while it was read", self.path_of(name)));
    }

    fn fail(&mut self, text: String) {
        self.fail_many(text, 1);
    }

    fn fail_many(&mut self, text: String, paths: u64) {
        self.progress.event(Event::Warning(&text));
        self.failures.add(text, paths);
    }

    fn path_of(&self, name: &Name) -> String {
        let directory = self.open.last().map(|open| escape(&open.path)).unwrap_or_default();
        format!("{directory}/{name}")
    }

    fn remember_file(&mut self, name: &Name, stat: &FileStat, content: &Content) -> Result<(), IngestError> {
        let known = known::to_remember(stat, content, self.run_seconds);
        let (Some(directory), Some(known)) = (self.open.last_mut(), known) else { return Ok(()) };
        directory.known.push((name.as_bytes().to_vec(), known));
        if directory.known.len() < known::PAGE_FILES {
            return Ok(());
        }
        let next_key = known::page_key(&directory.path, name.as_bytes());
        let key = std::mem::replace(&mut directory.known_key, next_key);
        let page = std::mem::take(&mut directory.known);
        self.keep_known(key, page)
    }

    /// Has a page of what is known written to the index, together with others.
    fn keep_known(&mut self, key: Vec<u8>, page: Vec<(Vec<u8>, KnownFile)>) -> Result<(), IngestError> {
        self.met.insert(path_hash(&key));
        self.known_files += page.len();
        self.known.push((key, page));
        let enough = self.known.len() >= DIRECTORIES_PER_BATCH || self.known_files >= FILES_PER_BATCH;
        if enough { self.write_known() } else { Ok(()) }
    }

    fn write_known(&mut self) -> Result<(), IngestError> {
        let known = std::mem::take(&mut self.known);
        self.known_files = 0;
        self.repo.index().remember_files(&series(self.options), &known).map_err(RepoError::from)?;
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
