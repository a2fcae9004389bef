//! The walker: visits the selection in the order of its names and says what it finds.

use std::collections::hash_map::{self, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::ahead::LookAhead;
use super::batch::BatchSender;
use super::exclude::{ExcludedStats, Exclusion, Rules};
use super::failures::{ReadError, Skip, Stop, VANISHED, out_of_files};
use super::known::{self, KnownFiles};
use super::metadata::{self, FileIdentity, FileStat, InodeIdentity, OwnerNames};
use super::part::Part;
use super::selection::{Branch, Selection};
use super::{IngestError, IngestOptions};
use crate::format::content::Content;
use crate::format::tree::{Attributes, Entry, EntryKind, LinkGroup, Xattr};
use crate::ops::patterns::PathKind;
use crate::path::{Name, escape};
use crate::progress::{Event as ProgressEvent, Progress};
use crate::repo::{RepoError, Repository};

/// What the walk is for: to store what is found, or only to count it.
pub(super) trait Purpose {
    /// Where the content of a file that has to be read comes from.
    type Reading;

    /// Reads the extended attributes of what is found, given a path to it.
    fn xattrs(&self, path: &[u8]) -> Result<Vec<Xattr>, ReadError>;

    /// Tells whether remembered content can be relied on.
    fn is_usable(&self, content: &Content) -> Result<bool, RepoError>;

    /// Has a file read.
    fn read(&self, directory: &Arc<OwnedFd>, name: &Name, stat: &FileStat) -> Result<Self::Reading, Stop>;
}

/// What the walker found, in tree order: a directory's entries lie between its `Enter` and its `Leave`.
pub(super) enum Found<R> {
    /// A directory begins.
    Enter { name: Name, attributes: Attributes, path: Vec<u8> },
    /// The directory that was entered last ends.
    Leave,
    /// A regular file.
    File {
        name: Name,
        attributes: Attributes,
        link: Option<LinkGroup>,
        stat: FileStat,
        source: FileSource<R>,
    },
    /// Anything else.
    Other(Entry),
    /// So many paths cannot be backed up; one sentence, safe for terminals.
    Failure(String, u64),
}

/// Where the content of a file comes from.
pub(super) enum FileSource<R> {
    /// It is unchanged since an earlier run.
    Known(Content),
    /// It has to be read.
    Reading(R),
    /// Another name of a file that came before.
    SameAsBefore,
    /// The same, of a file that changed since then; size and time are still those that came before.
    ChangedSince,
}

/// Walks a selection.
pub(super) struct Walker<'a, P: Purpose> {
    repo: &'a Repository,
    selection: &'a Selection,
    progress: &'a dyn Progress,
    purpose: P,
    found: BatchSender<Found<P::Reading>>,
    series: String,
    owners: OwnerNames,
    rules: Rules<'a>,
    excluded: ExcludedStats,
    /// Files with several names that were seen already: the first look, and how many of the names are still to come.
    linked: HashMap<InodeIdentity, (FileIdentity, u32)>,
    ahead: Arc<LookAhead<'a>>,
}

/// A directory that is being walked.
struct Level<'a> {
    directory: Arc<OwnedFd>,
    names: std::vec::IntoIter<Name>,
    part: Part<'a>,
    known: KnownFiles,
    /// Device of the directory.
    device: u64,
    /// Absolute path of the directory, without a `/` at its end; empty for `/`.
    path: Vec<u8>,
    /// The first name that was listed and is gone, and the number of all such.
    vanished: Option<(Name, u64)>,
}

/// A name that is being taken.
struct Visit<'a> {
    name: Name,
    path: Vec<u8>,
    part: Part<'a>,
    /// Whether a pattern leaves it out unless it is a directory.
    out_as_other: bool,
    /// Names in it that an automounter has mounted something at.
    mounted: Vec<Name>,
}

impl<'a, P: Purpose> Walker<'a, P> {
    pub(super) fn new(
        repo: &'a Repository,
        selection: &'a Selection,
        options: &'a IngestOptions,
        progress: &'a dyn Progress,
        purpose: P,
        found: BatchSender<Found<P::Reading>>,
    ) -> Self {
        Self {
            repo,
            selection,
            progress,
            purpose,
            found,
            series: series(options),
            owners: OwnerNames::default(),
            rules: Rules::new(&options.exclude, options.list_mounts),
            excluded: ExcludedStats::default(),
            linked: HashMap::new(),
            ahead: Arc::new(LookAhead::new(selection, &options.exclude)),
        }
    }

    /// Walks everything below an open `/`; returns what was left out.
    pub(super) fn run(self, root: OwnedFd) -> Result<ExcludedStats, Stop> {
        let ahead = Arc::clone(&self.ahead);
        ahead.during(|| self.walk(root))
    }

    fn walk(mut self, root: OwnedFd) -> Result<ExcludedStats, Stop> {
        for failure in self.selection.unreachable() {
            self.send(Found::Failure(failure.clone(), 1))?;
        }
        let root_error = |source| IngestError::Path { path: "/".to_owned(), source };
        let device = FileStat::of(root.as_fd()).map_err(root_error)?.device;
        let first = self.level(Arc::new(root), Part::of(self.selection.root()), Vec::new(), device)?;
        let mut levels = vec![first];
        while let Some(level) = levels.last_mut() {
            match level.names.next() {
                Some(name) => {
                    if let Some(below) = self.visit(level, name)? {
                        levels.push(below);
                    }
                }
                None => {
                    self.tell_vanished(level)?;
                    levels.pop();
                    if !levels.is_empty() {
                        self.send(Found::Leave)?;
                    }
                }
            }
        }
        self.progress.event(ProgressEvent::FoundAll);
        Ok(self.excluded)
    }

    /// Takes one name; returns the directory to go on with if it is one.
    fn visit(&mut self, level: &mut Level<'a>, name: Name) -> Result<Option<Level<'a>>, Stop> {
        let mut path = Vec::with_capacity(level.path.len() + 1 + name.as_bytes().len());
        path.extend_from_slice(&level.path);
        path.push(b'/');
        path.extend_from_slice(name.as_bytes());
        let part = level.part.of_name(&name);
        let out_as_other = part.is_below() && self.rules.match_path(&path, PathKind::Other);
        if out_as_other && part.branch().is_none() && self.rules.match_path(&path, PathKind::Directory) {
            // Not even looked at: it may be the mount point of a server that does not answer.
            self.note(&path, &Exclusion::Pattern);
            return Ok(None);
        }
        let mut visit = Visit { name, path, part, out_as_other, mounted: Vec::new() };
        match self.take(level, &mut visit) {
            Ok(below) => Ok(below),
            Err(Skip::Stop(stop)) => Err(stop),
            Err(Skip::Because(error)) if error.kind() == io::ErrorKind::NotFound && part.is_below() => {
                level.vanished.get_or_insert((visit.name, 0)).1 += 1;
                Ok(None)
            }
            Err(Skip::Because(error)) => {
                self.skip(&visit.path, error)?;
                Ok(None)
            }
        }
    }

    fn take(&mut self, level: &mut Level<'a>, visit: &mut Visit<'a>) -> Result<Option<Level<'a>>, Skip> {
        let directory = level.directory.as_fd();
        let stat = match FileStat::at(directory, visit.name.as_bytes()) {
            Ok(stat) => stat,
            Err(error) => {
                self.leave_out_unreachable(level, visit, error)?;
                return Ok(None);
            }
        };
        let file_type = FileType::from_raw_mode(u32::from(stat.mode));
        let is_directory = file_type == FileType::Directory;
        if is_directory && self.selection.leaves_out(stat.device, stat.inode) {
            self.note(&visit.path, &Exclusion::Own);
            return Ok(None);
        }
        if let Some(exclusion) = self.exclusion(level, visit, &stat, file_type)? {
            self.note(&visit.path, &exclusion);
            let is_mount_point = !matches!(exclusion, Exclusion::Pattern | Exclusion::Larger);
            visit.mounted = self.rules.mounted_below(&visit.path, &exclusion)?;
            match visit.part.branch().filter(|_| is_directory) {
                Some(branch) => visit.part = Part::Towards(branch),
                None if !visit.mounted.is_empty() => visit.part = Part::Towards(Branch::NOTHING),
                None if is_mount_point => {
                    self.keep_empty(level, visit, &stat, &exclusion)?;
                    return Ok(None);
                }
                None => return Ok(None),
            }
        }
        if !is_directory && visit.part.is_towards() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory).into());
        }
        let mut attributes = self.owners.attributes(&stat);
        attributes.xattrs = self.purpose.xattrs(&metadata::path_of(directory, &visit.name))?;
        match file_type {
            FileType::Directory => self.enter(level, visit, &stat, attributes),
            FileType::RegularFile => {
                self.take_file(level, &visit.name, attributes, stat)?;
                Ok(None)
            }
            _ => {
                self.take_other(level, &visit.name, attributes, &stat, file_type)?;
                Ok(None)
            }
        }
    }

    /// Tells why something is left out, if it is. What was given never is, nor what leads to it.
    fn exclusion(
        &mut self,
        level: &Level<'a>,
        visit: &Visit<'a>,
        stat: &FileStat,
        file_type: FileType,
    ) -> io::Result<Option<Exclusion>> {
        if !visit.part.is_below() {
            return Ok(None);
        }
        if file_type == FileType::Directory {
            if self.rules.match_path(&visit.path, PathKind::Directory) {
                return Ok(Some(Exclusion::Pattern));
            }
            return self.rules.at_directory(&visit.path, stat, level.device);
        }
        if visit.out_as_other {
            return Ok(Some(Exclusion::Pattern));
        }
        Ok(self.rules.is_too_large(file_type, stat.bytes).then_some(Exclusion::Larger))
    }

    /// Leaves out what cannot even be looked at, such as the mount point of a process that died. It is a failure
    /// unless it would have been left out anyway.
    fn leave_out_unreachable(
        &mut self,
        level: &Level<'a>,
        visit: &Visit<'a>,
        error: io::Error,
    ) -> Result<(), Skip> {
        if !visit.part.is_below() || error.kind() == io::ErrorKind::NotFound {
            return Err(error.into());
        }
        // Nothing but a mount point refuses to be looked at in a directory that can be read.
        if self.rules.match_path(&visit.path, PathKind::Directory) {
            self.note(&visit.path, &Exclusion::Pattern);
            return Ok(());
        }
        let Some(exclusion) = self.rules.at_unreachable(&visit.path)? else { return Err(error.into()) };
        self.note(&visit.path, &exclusion);
        // What lies below the mount cannot be seen; where the kernel knows nothing either, there is no entry.
        match FileStat::remembered_at(level.directory.as_fd(), visit.name.as_bytes()) {
            Ok(stat) if FileType::from_raw_mode(u32::from(stat.mode)) == FileType::Directory => {
                self.keep_empty(level, visit, &stat, &exclusion)
            }
            _ => Ok(()),
        }
    }

    /// Keeps a mount point as an empty directory, without opening it.
    fn keep_empty(
        &mut self,
        level: &Level<'a>,
        visit: &Visit<'a>,
        stat: &FileStat,
        exclusion: &Exclusion,
    ) -> Result<(), Skip> {
        let mut attributes = self.owners.attributes(stat);
        if *exclusion == Exclusion::OtherFileSystem {
            attributes.xattrs = self
                .purpose
                .xattrs(&metadata::path_of(level.directory.as_fd(), &visit.name))
                .or_else(|error| match error {
                    // Nothing of it is wanted but its being there.
                    ReadError::File(_) => Ok(Vec::new()),
                    fatal @ ReadError::Fatal(_) => Err(fatal),
                })?;
        }
        self.send(Found::Enter { name: visit.name.clone(), attributes, path: visit.path.clone() })?;
        Ok(self.send(Found::Leave)?)
    }

    /// Announces a directory and opens it. One that cannot be opened is kept, empty.
    fn enter(
        &mut self,
        level: &Level<'a>,
        visit: &mut Visit<'a>,
        stat: &FileStat,
        attributes: Attributes,
    ) -> Result<Option<Level<'a>>, Skip> {
        let mut opened = self.open(level, visit);
        let refused = opened.as_ref().err().copied();
        if matches!(refused, Some(Errno::ACCESS | Errno::PERM))
            && let Some(branch) = visit.part.branch().filter(|branch| !branch.children().is_empty())
        {
            // What was given below can be reached all the same.
            visit.part = Part::Towards(branch);
            opened = self.open(level, visit);
        }
        if refused == Some(Errno::NOENT) {
            return Err(io::Error::from(Errno::NOENT).into());
        }
        let (name, path) = (visit.name.clone(), visit.path.clone());
        self.send(Found::Enter { name, attributes, path })?;
        if let Some(error) = refused {
            self.skip(&visit.path, error.into())?;
        }
        match opened {
            Ok(directory) => {
                let path = visit.path.clone();
                let mut below = self.level(Arc::new(directory), visit.part, path, stat.device)?;
                if !visit.mounted.is_empty() {
                    let mut names: Vec<Name> = below.names.chain(visit.mounted.drain(..)).collect();
                    names.sort_unstable();
                    names.dedup();
                    below.names = names.into_iter();
                }
                Ok(Some(below))
            }
            Err(_) => {
                self.send(Found::Leave)?;
                Ok(None)
            }
        }
    }

    fn open(&self, level: &Level<'a>, visit: &Visit<'a>) -> Result<OwnedFd, Errno> {
        // On the way to a given path the right to pass is enough; the right to read is needed inside only.
        let access = if visit.part.is_towards() { OFlags::PATH } else { OFlags::RDONLY };
        let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(level.directory.as_fd(), visit.name.as_bytes(), flags, Mode::empty())
    }

    fn level(
        &mut self,
        directory: Arc<OwnedFd>,
        part: Part<'a>,
        path: Vec<u8>,
        device: u64,
    ) -> Result<Level<'a>, Stop> {
        self.progress.event(ProgressEvent::Working(&path));
        let mut names = Vec::new();
        if !part.is_towards() {
            self.ahead.entered(&directory, &path, device);
            let failure = read_names(&directory, &mut names);
            if let Some(error) = failure {
                self.skip(&path, error)?;
            }
            if part.is_below() && !self.rules.have_no_markers() {
                self.leave_out_marked(&directory, &path, &mut names);
            }
        }
        // What was given is looked for whether it was listed or not.
        let given = part.branch().map(Branch::children);
        if let Some(given) = given.filter(|given| !given.is_empty()) {
            names.extend(given.keys().cloned());
            names.sort_unstable();
            names.dedup();
        }
        let known = KnownFiles::open(self.repo.index(), &self.series, &path).map_err(RepoError::from)?;
        Ok(Level { directory, names: names.into_iter(), part, known, device, path, vanished: None })
    }

    /// Tells of all names that vanished from a directory at once: who deletes a tree deletes many.
    fn tell_vanished(&mut self, level: &Level<'a>) -> Result<(), Stop> {
        let Some((first, count)) = &level.vanished else { return Ok(()) };
        let (directory, others) = (escape(&level.path), count.saturating_sub(1));
        let text = if others == 0 {
            format!("cannot read {directory}/{first}: {VANISHED}")
        } else {
            format!(
                "cannot read {directory}/{first} and {others} more there: they vanished before they were read"
            )
        };
        self.send(Found::Failure(text, *count))
    }

    /// Drops all names but the markers, if there is one.
    fn leave_out_marked(&mut self, directory: &OwnedFd, path: &[u8], names: &mut Vec<Name>) {
        let markers = self.rules.find_markers(directory, names);
        if let Some(marker) = markers.first() {
            names.retain(|name| markers.contains(name));
            self.note(path, &Exclusion::Marked(marker.clone()));
        }
    }

    fn take_file(
        &mut self,
        level: &mut Level<'a>,
        name: &Name,
        mut attributes: Attributes,
        mut stat: FileStat,
    ) -> Result<(), Stop> {
        let source = match self.first_look(&stat) {
            None => self.source_of_first(level, name, &stat)?,
            Some(first) if first == stat.identity() => FileSource::SameAsBefore,
            Some(first) => {
                // Restored as two files, the names would show a state that the source never had. As one, they show
                // what it was at the first look.
                (stat.bytes, stat.mtime) = (first.bytes, first.mtime);
                attributes.mtime = first.mtime;
                FileSource::ChangedSince
            }
        };
        let link = stat.link_group();
        self.send(Found::File { name: name.clone(), attributes, link, stat, source })
    }

    /// Tells where the content of a file comes from that was not seen before.
    fn source_of_first(
        &self,
        level: &mut Level<'a>,
        name: &Name,
        stat: &FileStat,
    ) -> Result<FileSource<P::Reading>, Stop> {
        self.progress.event(ProgressEvent::Found { files: 1, bytes: stat.bytes });
        let known = level
            .known
            .find(self.repo.index(), &self.series, name.as_bytes())
            .map_err(RepoError::from)?
            .filter(|known| known::is_unchanged(known, stat));
        Ok(match known {
            Some(known) if self.purpose.is_usable(&known.content)? => {
                FileSource::Known(known.content.clone())
            }
            _ => FileSource::Reading(self.purpose.read(&level.directory, name, stat)?),
        })
    }

    fn take_other(
        &mut self,
        level: &Level<'a>,
        name: &Name,
        attributes: Attributes,
        stat: &FileStat,
        file_type: FileType,
    ) -> Result<(), Skip> {
        let kind = match file_type {
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(level.directory.as_fd(), name.as_bytes(), Vec::new())
                    .map_err(io::Error::from)?;
                EntryKind::Symlink(target.into_bytes())
            }
            FileType::Fifo => EntryKind::Fifo,
            FileType::Socket => EntryKind::Socket,
            FileType::CharacterDevice => EntryKind::CharDevice(stat.special),
            FileType::BlockDevice => EntryKind::BlockDevice(stat.special),
            _ => return Err(io::Error::other("its type is unknown").into()),
        };
        let entry = Entry { name: name.clone(), attributes, link: stat.link_group(), kind };
        Ok(self.send(Found::Other(entry))?)
    }

    /// Returns what the file was when another of its names was seen, and counts this one; nothing for the first.
    fn first_look(&mut self, stat: &FileStat) -> Option<FileIdentity> {
        if stat.links < 2 {
            return None;
        }
        match self.linked.entry(stat.inode_identity()) {
            hash_map::Entry::Vacant(unseen) => {
                unseen.insert((stat.identity(), stat.links - 1));
                None
            }
            hash_map::Entry::Occupied(mut seen) => {
                seen.get_mut().1 -= 1;
                let (first, names_left) = *seen.get();
                if names_left == 0 {
                    seen.remove();
                }
                Some(first)
            }
        }
    }

    /// Counts what is left out, and tells who wants to know.
    fn note(&mut self, path: &[u8], exclusion: &Exclusion) {
        self.excluded.add(exclusion);
        self.progress.event(ProgressEvent::LeftOut { path, why: &exclusion.describe() });
    }

    /// Goes on without something that cannot be read, unless it is the run itself that lacks something.
    fn skip(&mut self, path: &[u8], error: io::Error) -> Result<(), Stop> {
        if out_of_files(&error) {
            return Err(Stop::Failed(IngestError::OpenFiles { path: escape(path), source: error }));
        }
        let vanished = error.kind() == io::ErrorKind::NotFound;
        let why = if vanished { VANISHED.to_owned() } else { error.to_string() };
        self.send(Found::Failure(format!("cannot read {}: {why}", escape(path)), 1))
    }

    fn send(&mut self, found: Found<P::Reading>) -> Result<(), Stop> {
        self.found.send(found).map_err(|_| Stop::Closed)
    }
}

/// Returns how the index names the series that a run belongs to.
pub(super) fn series(options: &IngestOptions) -> String {
    format!("{}/{}", options.host, options.source)
}

/// Reads the names of a directory in order, as far as that can be done; returns what kept it from the others.
fn read_names(directory: &OwnedFd, names: &mut Vec<Name>) -> Option<io::Error> {
    let mut failure = None;
    let entries = match Dir::read_from(directory) {
        Ok(entries) => entries,
        Err(error) => return Some(error.into()),
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
    failure
}
