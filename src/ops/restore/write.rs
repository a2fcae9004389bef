//! Restores one entry that is not a directory: its content, its attributes, and last its name.

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::attributes::{self, Subject, Wanted};
use super::content::write_content;
use super::links::{Place, Turn};
use super::partial::{self, PartialFile};
use super::policy::Verdict;
use super::pool::{OpenDirectory, Run, Tally};
use super::target::{Directory, Existing, Node, Placed, Staged, inode_of, is_directory};
use super::{Overwrite, Verification};
use crate::format::tree::{Device, Entry, EntryKind};
use crate::path::TreePath;
use crate::progress::Event;
use crate::repo::RepoError;

/// A device, and the number of an inode on it.
type Inode = (u64, u64);

/// How an entry ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It stands there as this inode.
    Restored(Inode),
    /// This inode was there.
    Unchanged(Inode),
    Kept,
}

/// Why an entry could not be restored.
#[derive(Debug)]
pub(super) enum EntryError {
    /// The target refused it: what was tried, and what the system said.
    Target(&'static str, io::Error),
    /// It cannot be read from the store.
    Store(RepoError),
    /// It can be read in parts only, which were kept.
    Gaps(Box<PartialFile>),
    /// It is a name of a file that was damaged; what could be read of it stands here, if anything.
    LinkToDamaged(Option<TreePath>),
    /// Other bytes were read back in this range than were written.
    Differs(Range<u64>),
    /// A directory has its name.
    DirectoryInTheWay,
    /// The whole restore has ended.
    Stopped,
}

impl From<RepoError> for EntryError {
    fn from(error: RepoError) -> Self {
        Self::Store(error)
    }
}

/// Says what the target refused.
pub(super) fn refused<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> EntryError {
    move |error| EntryError::Target(what, error.into())
}

/// Restores `entry` in `directory`; what becomes of it is noted in `run`.
pub(super) fn restore_entry(run: &Run<'_>, directory: &Arc<OpenDirectory>, entry: &Entry) {
    let path = directory.path.join(&entry.name);
    run.progress.event(Event::Working(&path.to_bytes()));
    let result = match entry.link {
        Some(link) => match run.links.turn(link) {
            Turn::First(claim) => {
                let result = restore_alone(run, directory, &path, entry);
                match &result {
                    Ok(Outcome::Restored(inode) | Outcome::Unchanged(inode)) => {
                        let held = (!directory.reachable).then(|| Arc::clone(directory));
                        let (above, name) = (directory.path.clone(), entry.name.clone());
                        claim.restored(Place { directory: above, name, inode: *inode, held });
                    }
                    Err(EntryError::Gaps(partial)) => claim.damaged(partial.path.clone()),
                    _ => {}
                }
                result
            }
            Turn::Link(place) => restore_link(run, directory, &path, entry, place),
            Turn::Damaged(partial) => Err(EntryError::LinkToDamaged(partial)),
        },
        None => restore_alone(run, directory, &path, entry),
    };
    note(run, &path, entry, result);
}

fn note(run: &Run<'_>, path: &TreePath, entry: &Entry, result: Result<Outcome, EntryError>) {
    let is_file = matches!(entry.kind, EntryKind::File(_));
    match result {
        Ok(Outcome::Restored(_)) if is_file => Tally::add(&run.tally.files, 1),
        Ok(Outcome::Restored(_)) => Tally::add(&run.tally.others, 1),
        Ok(Outcome::Unchanged(_)) => Tally::add(&run.tally.unchanged, 1),
        Ok(Outcome::Kept) => run.keep(path),
        Err(error) => run.note_error(path, error),
    }
    if is_file {
        run.progress.event(Event::Done { files: 1, bytes: 0 });
    }
}

/// Restores an entry from its own content.
fn restore_alone(
    run: &Run<'_>,
    directory: &OpenDirectory,
    path: &TreePath,
    entry: &Entry,
) -> Result<Outcome, EntryError> {
    let verdict =
        run.policy.judge(&directory.directory, entry).map_err(refused("cannot look what is there"))?;
    match verdict {
        Verdict::New | Verdict::Replace => {}
        Verdict::Unchanged(inode) => return Ok(Outcome::Unchanged(inode)),
        Verdict::Kept => return Ok(Outcome::Kept),
        Verdict::DirectoryInTheWay => return Err(EntryError::DirectoryInTheWay),
    }
    let target = &directory.directory;
    let mut bytes = 0;
    let mut staged = match &entry.kind {
        EntryKind::File(content) => {
            let staged = target.stage_file().map_err(refused("cannot make the file"))?;
            let written = write_content(run, staged.file(), content)?;
            if !written.gaps.is_empty() {
                let kept = partial::keep(run, directory, entry, staged, written)?;
                return Err(EntryError::Gaps(Box::new(kept)));
            }
            bytes = written.length;
            staged
        }
        EntryKind::Symlink(to) => stage_node(target, Node::Symlink(to))?,
        EntryKind::Fifo => stage_node(target, Node::Special(FileType::Fifo))?,
        EntryKind::Socket => stage_node(target, Node::Special(FileType::Socket))?,
        EntryKind::CharDevice(device) => stage_device(target, FileType::CharacterDevice, *device)?,
        EntryKind::BlockDevice(device) => stage_device(target, FileType::BlockDevice, *device)?,
        // The walk makes directories itself.
        EntryKind::Directory(_) => return Err(EntryError::DirectoryInTheWay),
    };
    let is_symlink = matches!(entry.kind, EntryKind::Symlink(_));
    let subject = if is_symlink { Subject::Symlink } else { Subject::Other };
    let xattrs = run.xattrs(path, &entry.attributes);
    let owner = run.policy.owners.owner_of(&entry.attributes);
    let wanted = Wanted { attributes: &entry.attributes, xattrs: &xattrs, owner };
    let unset = attributes::apply(staged.handle(), &wanted, subject, run.policy.identity);
    let inode = staged.inode().map_err(refused("cannot look at the file"))?;
    let placed = staged.place(&entry.name, existing(run)).map_err(refused("cannot name the file"))?;
    if placed == Placed::NameTaken {
        return Ok(Outcome::Kept);
    }
    run.note_unset(path, unset);
    Tally::add(&run.tally.bytes, bytes);
    Tally::add(&run.tally.replaced, u64::from(verdict == Verdict::Replace));
    if let (EntryKind::File(content), Verification::ReadBack) = (&entry.kind, run.options.verification) {
        run.readback.add(run, path, staged.file(), content)?;
    }
    Ok(Outcome::Restored(inode))
}

/// Links an entry to the first name of its file. Where that cannot be, it becomes a file of its own.
fn restore_link(
    run: &Run<'_>,
    directory: &OpenDirectory,
    path: &TreePath,
    entry: &Entry,
    place: Place,
) -> Result<Outcome, EntryError> {
    let linked = link_to(run, &directory.directory, entry, &place);
    if let Some(held) = place.held {
        run.release(held);
    }
    match linked {
        Err(EntryError::Target(_, error)) if is_unlinkable(&error) => {
            restore_alone(run, directory, path, entry)
        }
        other => other,
    }
}

/// Tells whether a link was refused for reasons of its own: another file system, one without links, too many of
/// them, a file of somebody else, or one that nobody finds any more.
fn is_unlinkable(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::XDEV | Errno::MLINK | Errno::PERM | Errno::OPNOTSUPP | Errno::NOENT))
}

fn link_to(
    run: &Run<'_>,
    directory: &Directory,
    entry: &Entry,
    place: &Place,
) -> Result<Outcome, EntryError> {
    let reopened;
    let from = match &place.held {
        Some(held) => &held.directory,
        None => {
            let opened = run.target.directory.open_path(run.below_target(&place.directory));
            reopened = opened.map_err(refused("cannot open the directory of its first name"))?;
            &reopened
        }
    };
    // Somebody may have put something else there meanwhile.
    let first = from.open_inode(&place.name).map_err(refused("cannot look at its first name"))?;
    let is_first = rustix::fs::fstat(&first).is_ok_and(|stat| inode_of(&stat) == place.inode);
    if !is_first {
        return Err(refused("cannot find its first name")(Errno::NOENT));
    }
    let found = directory.stat(&entry.name).map_err(refused("cannot look what is there"))?;
    if let Some(found) = &found {
        if inode_of(found) == place.inode {
            return Ok(Outcome::Unchanged(place.inode));
        }
        if is_directory(found) {
            return Err(EntryError::DirectoryInTheWay);
        }
        if run.options.overwrite == Overwrite::Never {
            let verdict = run.policy.judge(directory, entry).map_err(refused("cannot look what is there"))?;
            return Ok(match verdict {
                Verdict::Unchanged(inode) => Outcome::Unchanged(inode),
                _ => Outcome::Kept,
            });
        }
    }
    let placed = directory.link(first.as_fd(), &entry.name, existing(run));
    match placed.map_err(refused("cannot make the hard link"))? {
        Placed::Done => {
            Tally::add(&run.tally.replaced, u64::from(found.is_some()));
            Ok(Outcome::Restored(place.inode))
        }
        Placed::NameTaken => Ok(Outcome::Kept),
    }
}

fn existing(run: &Run<'_>) -> Existing {
    match run.options.overwrite {
        Overwrite::Never => Existing::Keep,
        Overwrite::IfChanged | Overwrite::Always => Existing::Replace,
    }
}

fn stage_node<'a>(directory: &'a Directory, node: Node<'_>) -> Result<Staged<'a>, EntryError> {
    directory.stage_node(node).map_err(refused("cannot make it"))
}

fn stage_device(directory: &Directory, kind: FileType, device: Device) -> Result<Staged<'_>, EntryError> {
    let number = rustix::fs::makedev(device.major, device.minor);
    directory.stage_node(Node::Device(kind, number)).map_err(refused("cannot make the device file"))
}
