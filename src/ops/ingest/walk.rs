//! The walker thread: visits the selection in the order of its names and says what it finds.

use std::collections::hash_map::{self, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use rustix::fs::{Dir, FileType, Mode, OFlags};

use super::failures::{ReadError, out_of_files};
use super::file::{FileJob, ReadFile};
use super::known;
use super::metadata::{self, FileIdentity, FileStat, OwnerNames};
use super::selection::{Branch, Selection};
use super::{IngestError, IngestOptions};
use crate::format::content::Content;
use crate::format::tree::{Attributes, Entry, EntryKind, LinkGroup};
use crate::index::KnownFile;
use crate::path::{Name, escape};
use crate::progress::{Event as ProgressEvent, Progress};
use crate::repo::Repository;
use crate::repo::session::SessionWriter;

/// What the walker found, in tree order: a directory's entries lie between its `Enter` and its `Leave`.
pub(super) enum Found {
    /// A directory begins.
    Enter { name: Name, attributes: Attributes, path: Vec<u8> },
    /// The directory that was entered last ends.
    Leave,
    /// A regular file.
    File { name: Name, attributes: Attributes, link: Option<LinkGroup>, stat: FileStat, source: FileSource },
    /// Anything else.
    Other(Entry),
    /// Something cannot be backed up; one sentence, safe for terminals.
    Failure(String),
}

/// Where the content of a file comes from.
pub(super) enum FileSource {
    /// It is unchanged since an earlier run.
    Known(Content),
    /// A reader answers.
    Reading(Receiver<Result<ReadFile, ReadError>>),
    /// Another name of a file that came before.
    SameAsBefore,
}

/// Why the walker stopped early.
pub(super) enum Stop {
    /// Nobody listens any more: the run failed elsewhere.
    Closed,
    /// The index or the session failed.
    Failed(IngestError),
}

impl<E: Into<IngestError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Why a single name was not taken.
enum Skip {
    Because(io::Error),
    Stop(Stop),
}

impl From<io::Error> for Skip {
    fn from(error: io::Error) -> Self {
        Self::Because(error)
    }
}

impl From<ReadError> for Skip {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::File(error) => Self::Because(error),
            ReadError::Fatal(error) => Self::Stop(Stop::Failed(error)),
        }
    }
}

impl From<Stop> for Skip {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

/// Walks a selection.
pub(super) struct Walker<'a> {
    pub(super) repo: &'a Repository,
    pub(super) session: &'a SessionWriter,
    pub(super) selection: &'a Selection,
    pub(super) options: &'a IngestOptions,
    pub(super) progress: &'a dyn Progress,
    pub(super) jobs: Sender<FileJob>,
    pub(super) found: Sender<Found>,
    pub(super) owners: OwnerNames,
    /// Files with several names that were seen already, and how many of the names are still to come.
    pub(super) linked: HashMap<FileIdentity, u32>,
}

/// A directory that is being walked.
struct Level<'a> {
    directory: Arc<OwnedFd>,
    names: std::vec::IntoIter<(Name, &'a Branch)>,
    known: HashMap<Vec<u8>, KnownFile>,
    /// Absolute path of the directory, without a `/` at its end; empty for `/`.
    path: Vec<u8>,
}

impl<'a> Walker<'a> {
    /// Walks everything below an open `/`.
    pub(super) fn run(mut self, root: OwnedFd) -> Result<(), Stop> {
        let first = self.level(Arc::new(root), self.selection.root(), Vec::new())?;
        let mut levels = vec![first];
        while let Some(level) = levels.last_mut() {
            match level.names.next() {
                Some((name, branch)) => {
                    if let Some(below) = self.visit(level, name, branch)? {
                        levels.push(below);
                    }
                }
                None => {
                    levels.pop();
                    if !levels.is_empty() {
                        self.send(Found::Leave)?;
                    }
                }
            }
        }
        self.progress.event(ProgressEvent::FoundAll);
        Ok(())
    }

    /// Takes one name; returns the directory to go on with if it is one.
    fn visit(
        &mut self,
        level: &Level<'a>,
        name: Name,
        branch: &'a Branch,
    ) -> Result<Option<Level<'a>>, Stop> {
        let mut path = level.path.clone();
        path.push(b'/');
        path.extend_from_slice(name.as_bytes());
        match self.take(level, name, branch, &path) {
            Ok(below) => Ok(below),
            Err(Skip::Stop(stop)) => Err(stop),
            Err(Skip::Because(error)) if error.kind() == io::ErrorKind::NotFound => {
                self.fail(&path, "it vanished before it was read")?;
                Ok(None)
            }
            Err(Skip::Because(error)) => {
                self.skip(&path, error)?;
                Ok(None)
            }
        }
    }

    fn take(
        &mut self,
        level: &Level<'a>,
        name: Name,
        branch: &'a Branch,
        path: &[u8],
    ) -> Result<Option<Level<'a>>, Skip> {
        let directory = level.directory.as_fd();
        let stat = FileStat::at(directory, name.as_bytes())?;
        let file_type = FileType::from_raw_mode(u32::from(stat.mode));
        let is_directory = file_type == FileType::Directory;
        if is_directory && self.selection.leaves_out(stat.device, stat.inode) {
            return Ok(None);
        }
        if !is_directory && matches!(branch, Branch::Towards(_)) {
            return Err(io::Error::from(io::ErrorKind::NotADirectory).into());
        }
        let mut attributes = self.owners.attributes(&stat);
        let session = self.session;
        let own_path = metadata::path_of(directory, &name);
        attributes.xattrs = metadata::xattrs(&own_path, |value| metadata::spill(session, value))?;
        if is_directory {
            return Ok(self.enter(level, name, attributes, branch, path)?);
        }
        let link = stat.link_group();
        if file_type == FileType::RegularFile {
            self.take_file(level, name, attributes, link, stat)?;
            return Ok(None);
        }
        let kind = match file_type {
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(directory, name.as_bytes(), Vec::new())
                    .map_err(io::Error::from)?;
                EntryKind::Symlink(target.into_bytes())
            }
            FileType::Fifo => EntryKind::Fifo,
            FileType::Socket => EntryKind::Socket,
            FileType::CharacterDevice => EntryKind::CharDevice(stat.special),
            FileType::BlockDevice => EntryKind::BlockDevice(stat.special),
            _ => return Err(io::Error::other("its type is unknown").into()),
        };
        self.send(Found::Other(Entry { name, attributes, link, kind }))?;
        Ok(None)
    }

    /// Announces a directory and opens it. One that cannot be opened is kept, empty.
    fn enter(
        &mut self,
        level: &Level<'a>,
        name: Name,
        attributes: Attributes,
        branch: &'a Branch,
        path: &[u8],
    ) -> Result<Option<Level<'a>>, Stop> {
        // On the way to a given path the right to pass is enough; the right to read is needed inside only.
        let access = match branch {
            Branch::Whole => OFlags::RDONLY,
            Branch::Towards(_) => OFlags::PATH,
        };
        let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(level.directory.as_fd(), name.as_bytes(), flags, Mode::empty());
        self.send(Found::Enter { name, attributes, path: path.to_vec() })?;
        match opened {
            Ok(directory) => self.level(Arc::new(directory), branch, path.to_vec()).map(Some),
            Err(error) => {
                self.skip(path, error.into())?;
                self.send(Found::Leave)?;
                Ok(None)
            }
        }
    }

    fn level(
        &mut self,
        directory: Arc<OwnedFd>,
        branch: &'a Branch,
        path: Vec<u8>,
    ) -> Result<Level<'a>, Stop> {
        self.progress.event(ProgressEvent::Working(&path));
        let names: Vec<(Name, &Branch)> = match branch {
            Branch::Towards(children) => children.iter().map(|(name, below)| (name.clone(), below)).collect(),
            Branch::Whole => {
                let (names, failure) = read_names(&directory);
                if let Some(error) = failure {
                    self.skip(&path, error)?;
                }
                names.into_iter().map(|name| (name, branch)).collect()
            }
        };
        let known = self
            .repo
            .index()
            .known_files(&series(self.options), &path)
            .map_err(crate::repo::RepoError::from)?;
        Ok(Level { directory, names: names.into_iter(), known, path })
    }

    fn take_file(
        &mut self,
        level: &Level<'a>,
        name: Name,
        attributes: Attributes,
        link: Option<LinkGroup>,
        stat: FileStat,
    ) -> Result<(), Stop> {
        let source = if self.was_seen(&stat) {
            FileSource::SameAsBefore
        } else {
            self.progress.event(ProgressEvent::Found { files: 1, bytes: stat.bytes });
            match level.known.get(name.as_bytes()) {
                Some(known)
                    if known::is_unchanged(known, &stat)
                        && known::is_usable(self.repo, self.session, &known.content)? =>
                {
                    FileSource::Known(known.content.clone())
                }
                _ => {
                    let (reply, answer) = crossbeam_channel::bounded(1);
                    let directory = Arc::clone(&level.directory);
                    let job = FileJob { directory, name: name.clone(), stat, reply };
                    self.jobs.send(job).map_err(|_| Stop::Closed)?;
                    FileSource::Reading(answer)
                }
            }
        };
        self.send(Found::File { name, attributes, link, stat, source })
    }

    /// Tells whether another name of the file was seen, and counts this one.
    fn was_seen(&mut self, stat: &FileStat) -> bool {
        if stat.links < 2 {
            return false;
        }
        match self.linked.entry(stat.identity()) {
            hash_map::Entry::Vacant(first) => {
                first.insert(stat.links - 1);
                false
            }
            hash_map::Entry::Occupied(mut names_left) => {
                *names_left.get_mut() -= 1;
                if *names_left.get() == 0 {
                    names_left.remove();
                }
                true
            }
        }
    }

    /// Goes on without something that cannot be read, unless it is the run itself that lacks something.
    fn skip(&self, path: &[u8], error: io::Error) -> Result<(), Stop> {
        if out_of_files(&error) {
            return Err(Stop::Failed(IngestError::OpenFiles { path: escape(path), source: error }));
        }
        self.fail(path, &error.to_string())
    }

    fn fail(&self, path: &[u8], why: &str) -> Result<(), Stop> {
        self.send(Found::Failure(format!("cannot read {}: {why}", escape(path))))
    }

    fn send(&self, found: Found) -> Result<(), Stop> {
        self.found.send(found).map_err(|_| Stop::Closed)
    }
}

/// Returns how the index names the series that a run belongs to.
pub(super) fn series(options: &IngestOptions) -> String {
    format!("{}/{}", options.host, options.source)
}

/// Returns the sorted names of a directory, as far as they could be read, and what kept the others from it.
fn read_names(directory: &OwnedFd) -> (Vec<Name>, Option<io::Error>) {
    let mut names = Vec::new();
    let mut failure = None;
    let entries = match Dir::read_from(directory) {
        Ok(entries) => entries,
        Err(error) => return (names, Some(error.into())),
    };
    for entry in entries {
        let name = entry.map_err(io::Error::from).and_then(|entry| {
            let bytes = entry.file_name().to_bytes();
            let is_itself = bytes == b"." || bytes == b"..";
            if is_itself { Ok(None) } else { Name::new(bytes).map(Some).map_err(io::Error::other) }
        });
        match name {
            Ok(name) => names.extend(name),
            Err(error) => failure = Some(error),
        }
    }
    names.sort_unstable();
    (names, failure)
}
