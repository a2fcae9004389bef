//! Walks what is exported, in order, and writes a member for each entry.

use std::collections::HashMap;

use super::header::{self, BLOCK_BYTES, Member, MemberKind, NamedValue, padding};
use super::outlet::{HungUp, Outlet};
use super::{ExportFailure, ExportStats, NAMED_MAX};
use crate::format::tree::{Attributes, Entry, EntryKind, LinkGroup};
use crate::ops::list::{ListError, Lister, Recursion, list};
use crate::ops::patterns::{ExcludePatterns, PathKind};
use crate::path::{TreePath, escape};
use crate::progress::{Event, Progress, error_chain};
use crate::repo::snapshots::Snapshot;
use crate::repo::tree::Node;
use crate::repo::{RepoError, Repository};

/// An archive is as long as a multiple of this: POSIX's default blocking.
const RECORD_BYTES: u64 = 20 * BLOCK_BYTES;
/// Blocks of zeros that end an archive.
const END_BLOCKS: u64 = 2;

/// Why an export ends early.
pub(super) enum Stop {
    /// The writing side went away.
    HungUp,
    /// The store cannot be read, for another reason than damage.
    Repo(RepoError),
    /// The same, said by a list.
    List(ListError),
}

impl From<HungUp> for Stop {
    fn from(_: HungUp) -> Self {
        Self::HungUp
    }
}

impl From<RepoError> for Stop {
    fn from(error: RepoError) -> Self {
        Self::Repo(error)
    }
}

/// Prepares to list each of `paths` once, in order; fails for one that the snapshot does not hold.
pub(super) fn listers<'a>(
    repo: &'a Repository,
    snapshot: &Snapshot,
    paths: &[TreePath],
) -> Result<Vec<(TreePath, Lister<'a>)>, ListError> {
    let mut sorted = if paths.is_empty() { vec![TreePath::root()] } else { paths.to_vec() };
    sorted.sort();
    // What lies below another one comes with it. Sorted, it stands behind it.
    sorted.dedup_by(|path, before| before.contains(path));
    sorted
        .into_iter()
        .map(|path| {
            let lister = list(repo, snapshot, &path, Recursion::All)?;
            Ok((path, lister))
        })
        .collect()
}

/// Writes one archive.
pub(super) struct Exporter<'a> {
    pub(super) repo: &'a Repository,
    excludes: &'a ExcludePatterns,
    pub(super) progress: &'a dyn Progress,
    pub(super) outlet: Outlet,
    /// For each link group, the member that carries the content, and how many names are still to come.
    linked: HashMap<u64, (Vec<u8>, u32)>,
    pub(super) stats: ExportStats,
}

impl<'a> Exporter<'a> {
    pub(super) fn new(
        repo: &'a Repository,
        excludes: &'a ExcludePatterns,
        progress: &'a dyn Progress,
        outlet: Outlet,
    ) -> Self {
        Self { repo, excludes, progress, outlet, linked: HashMap::new(), stats: ExportStats::default() }
    }

    /// Writes everything and the end of the archive.
    pub(super) fn run(
        mut self,
        snapshot: &Snapshot,
        listers: Vec<(TreePath, Lister<'a>)>,
    ) -> Result<ExportStats, Stop> {
        let mut before = TreePath::root();
        for (path, lister) in listers {
            if self.above(snapshot, &path, &before)? == Taken::Yes {
                self.below(&path, lister)?;
            }
            before = path;
        }
        self.end()?;
        Ok(self.stats)
    }

    /// Writes the directories on the way to `path`, and `path` itself if it is one, but for those that are on the
    /// way to `before`, too. Tells whether `path` is taken.
    fn above(&mut self, snapshot: &Snapshot, path: &TreePath, before: &TreePath) -> Result<Taken, Stop> {
        let mut above = TreePath::root();
        for name in path.components() {
            above = above.join(name);
            let Some(Node::Entry(entry)) = self.repo.find_path(&snapshot.manifest, &above)? else {
                // It was there when the list began, and snapshots do not change.
                return Ok(Taken::No);
            };
            let EntryKind::Directory(_) = entry.kind else { continue };
            if !above.contains(before) {
                self.entry(&above, &entry)?;
            }
        }
        Ok(Taken::Yes)
    }

    /// Writes what lies below `asked`, or it itself. Patterns do not count for what was asked for.
    fn below(&mut self, asked: &TreePath, mut lister: Lister<'a>) -> Result<(), Stop> {
        while let Some(found) = lister.next() {
            match found {
                Ok((path, entry)) => {
                    let is_directory = matches!(entry.kind, EntryKind::Directory(_));
                    let kind = if is_directory { PathKind::Directory } else { PathKind::Other };
                    if path != *asked && self.excludes.exclude(&path, kind) {
                        lister.skip_below();
                    } else {
                        self.entry(&path, &entry)?;
                    }
                }
                Err(ListError::Damaged { path, source }) => {
                    let why = error_chain(source.as_ref());
                    self.fail(&path, format!("some of what is in this directory is left out: {why}"));
                }
                Err(error) => return Err(Stop::List(error)),
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &TreePath, entry: &Entry) -> Result<(), Stop> {
        let bytes = path.to_bytes();
        self.progress.event(Event::Working(&bytes));
        if self.link(&bytes, entry)? == Taken::Yes {
            return Ok(());
        }
        let kind = match &entry.kind {
            EntryKind::File(content) => {
                if self.file(path, &bytes, &entry.attributes, content)? == Taken::Yes {
                    self.remember(&bytes, entry.link);
                }
                return Ok(());
            }
            EntryKind::Socket => {
                self.stats.sockets_left_out += 1;
                if self.stats.sockets.len() < NAMED_MAX {
                    self.stats.sockets.push(path.clone());
                }
                return Ok(());
            }
            EntryKind::Directory(_) => MemberKind::Directory,
            EntryKind::Symlink(target) => MemberKind::Symlink(target),
            EntryKind::Fifo => MemberKind::Fifo,
            EntryKind::CharDevice(device) => MemberKind::CharDevice(*device),
            EntryKind::BlockDevice(device) => MemberKind::BlockDevice(*device),
        };
        let xattrs = self.xattrs(path, &entry.attributes)?;
        self.header(&Member { path: &bytes, attributes: &entry.attributes, xattrs: &xattrs, kind })?;
        match kind {
            MemberKind::Directory => self.stats.directories += 1,
            _ => self.stats.others += 1,
        }
        self.remember(&bytes, entry.link);
        Ok(())
    }

    /// Writes a further name of a file that the archive holds already; `No` if it does not.
    fn link(&mut self, path: &[u8], entry: &Entry) -> Result<Taken, Stop> {
        let Some(link) = entry.link else { return Ok(Taken::No) };
        let Some((first, names_left)) = self.linked.get_mut(&link.group) else { return Ok(Taken::No) };
        *names_left = names_left.saturating_sub(1);
        let (first, is_last) = (first.clone(), *names_left == 0);
        if is_last {
            self.linked.remove(&link.group);
        }
        let kind = MemberKind::HardLink(&first);
        self.header(&Member { path, attributes: &entry.attributes, xattrs: &[], kind })?;
        match entry.kind {
            EntryKind::File(_) => self.done_file(),
            _ => self.stats.others += 1,
        }
        Ok(Taken::Yes)
    }

    /// Remembers a member for the other names of its file.
    fn remember(&mut self, path: &[u8], link: Option<LinkGroup>) {
        if let Some(link) = link {
            self.linked.insert(link.group, (path.to_vec(), link.links.saturating_sub(1)));
        }
    }

    /// Reads extended attributes; names those that cannot be read.
    pub(super) fn xattrs(
        &mut self,
        path: &TreePath,
        attributes: &Attributes,
    ) -> Result<Vec<NamedValue>, Stop> {
        let mut found = Vec::with_capacity(attributes.xattrs.len());
        for xattr in &attributes.xattrs {
            match self.repo.value(&xattr.value) {
                Ok(value) => found.push((xattr.name.clone(), value)),
                Err(error) if error.is_damage() => {
                    let (name, why) = (escape(&xattr.name), error_chain(&error));
                    self.fail(path, format!("its attribute {name} is left out: {why}"));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(found)
    }

    pub(super) fn header(&mut self, member: &Member<'_>) -> Result<(), Stop> {
        Ok(self.outlet.write(&header::encode(member))?)
    }

    pub(super) fn done_file(&mut self) {
        self.stats.files += 1;
        self.progress.event(Event::Done { files: 1, bytes: 0 });
    }

    pub(super) fn fail(&mut self, path: &TreePath, reason: String) {
        self.stats.failed += 1;
        if self.stats.failures.len() < NAMED_MAX {
            self.stats.failures.push(ExportFailure { path: path.clone(), reason });
        }
    }

    fn end(&mut self) -> Result<(), Stop> {
        self.outlet.write_zeros(END_BLOCKS * BLOCK_BYTES)?;
        let rest = self.outlet.bytes() % RECORD_BYTES;
        self.outlet.write_zeros((RECORD_BYTES - rest) % RECORD_BYTES)?;
        self.outlet.flush()?;
        self.stats.archive_bytes = self.outlet.bytes();
        Ok(())
    }

    /// Fills the last block of a member.
    pub(super) fn pad(&mut self) -> Result<(), Stop> {
        Ok(self.outlet.write_zeros(padding(self.outlet.bytes()))?)
    }
}

/// Whether something is in the archive now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Yes,
    No,
}
