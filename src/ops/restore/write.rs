//! Restores one entry that is not a directory: its content, its attributes, and last its name.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::Overwrite;
use super::attributes::{self, HasMode, Identity};
use super::links::{Place, Turn};
use super::pool::{OpenDirectory, Run, Tally};
use super::target::{Directory, Existing, Node, Placed, Staged, is_directory};
use crate::format::content::Content;
use crate::format::tree::{Device, Entry, EntryKind};
use crate::ops::list::{PieceBytes, for_each_piece};
use crate::path::TreePath;
use crate::progress::Event;
use crate::repo::RepoError;
use crate::repo::content::ContentReader;

/// Files of at least two such segments are written by several threads, one segment at a time each.
const SEGMENT_BYTES: u64 = 16 << 20;

/// How an entry ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Restored,
    Unchanged,
    Kept,
}

/// Why an entry could not be restored.
#[derive(Debug)]
enum EntryError {
    /// The target refused it: what was tried, and what the system said.
    Target(&'static str, io::Error),
    /// It cannot be read from the store.
    Store(RepoError),
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

fn refused<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> EntryError {
    move |error| EntryError::Target(what, error.into())
}

/// Restores `entry` in `directory`; what becomes of it is noted in `run`.
pub(super) fn restore_entry(run: &Run<'_>, directory: &Arc<OpenDirectory>, entry: &Entry) {
    let path = directory.path.join(&entry.name);
    run.progress.event(Event::Working(&path.to_bytes()));
    let result = match entry.link {
        Some(link) => match run.links.turn(link) {
            Turn::First(claim) => restore_alone(run, &directory.directory, &path, entry).inspect(|outcome| {
                if *outcome != Outcome::Kept {
                    let held = (!directory.reachable).then(|| Arc::clone(directory));
                    claim.restored(Place {
                        directory: directory.path.clone(),
                        name: entry.name.clone(),
                        held,
                    });
                }
            }),
            Turn::Link(place) => restore_link(run, &directory.directory, entry, place),
        },
        None => restore_alone(run, &directory.directory, &path, entry),
    };
    note(run, &path, entry, result);
}

fn note(run: &Run<'_>, path: &TreePath, entry: &Entry, result: Result<Outcome, EntryError>) {
    let is_file = matches!(entry.kind, EntryKind::File(_));
    match result {
        Ok(Outcome::Restored) if is_file => Tally::add(&run.tally.files, 1),
        Ok(Outcome::Restored) => Tally::add(&run.tally.others, 1),
        Ok(Outcome::Unchanged) => Tally::add(&run.tally.unchanged, 1),
        Ok(Outcome::Kept) => Tally::add(&run.tally.kept, 1),
        Err(EntryError::Target(what, error)) => run.refused(path, what, error),
        Err(EntryError::Store(error)) => run.unreadable(path, error),
        Err(EntryError::DirectoryInTheWay) => {
            run.fail(path, "a directory is in its place and was left there".into(), false);
        }
        Err(EntryError::Stopped) => {}
    }
    if is_file {
        run.progress.event(Event::Done { files: 1, bytes: 0 });
    }
}

/// Restores an entry from its own content.
fn restore_alone(
    run: &Run<'_>,
    directory: &Directory,
    path: &TreePath,
    entry: &Entry,
) -> Result<Outcome, EntryError> {
    if let Some(outcome) = look(run, directory, entry)? {
        return Ok(outcome);
    }
    let mut bytes = 0;
    let staged = match &entry.kind {
        EntryKind::File(content) => {
            let staged = directory.stage_file().map_err(refused("cannot make the file"))?;
            bytes = write_content(run, staged.file(), content)?;
            staged
        }
        EntryKind::Symlink(target) => stage_node(directory, Node::Symlink(target))?,
        EntryKind::Fifo => stage_node(directory, Node::Special(FileType::Fifo))?,
        EntryKind::Socket => stage_node(directory, Node::Special(FileType::Socket))?,
        EntryKind::CharDevice(device) => stage_device(directory, FileType::CharacterDevice, *device)?,
        EntryKind::BlockDevice(device) => stage_device(directory, FileType::BlockDevice, *device)?,
        // The walk makes directories itself.
        EntryKind::Directory(_) => return Ok(Outcome::Unchanged),
    };
    let has_mode = if matches!(entry.kind, EntryKind::Symlink(_)) { HasMode::No } else { HasMode::Yes };
    let xattrs = run.xattrs(path, &entry.attributes);
    let refusals = attributes::apply(staged.handle(), &entry.attributes, &xattrs, has_mode, run.identity);
    let placed = staged.place(&entry.name, existing(run)).map_err(refused("cannot name the file"))?;
    if placed == Placed::NameTaken {
        return Ok(Outcome::Kept);
    }
    for reason in refusals {
        run.fail(path, reason, false);
    }
    Tally::add(&run.tally.bytes, bytes);
    Ok(Outcome::Restored)
}

/// Links an entry to the first name of its file.
fn restore_link(
    run: &Run<'_>,
    directory: &Directory,
    entry: &Entry,
    place: Place,
) -> Result<Outcome, EntryError> {
    let linked = || -> Result<Outcome, EntryError> {
        if run.options.overwrite == Overwrite::Never && look(run, directory, entry)?.is_some() {
            return Ok(Outcome::Kept);
        }
        let reopened;
        let from = match &place.held {
            Some(held) => &held.directory,
            None => {
                let opened = run.target.directory.open_path(&place.directory);
                reopened = opened.map_err(refused("cannot open the directory of its first name"))?;
                &reopened
            }
        };
        let placed = directory.link(from, &place.name, &entry.name, existing(run));
        match placed.map_err(refused("cannot make the hard link"))? {
            Placed::Done => Ok(Outcome::Restored),
            Placed::NameTaken => Ok(Outcome::Kept),
        }
    }();
    if let Some(held) = place.held {
        run.release(held);
    }
    linked
}

fn existing(run: &Run<'_>) -> Existing {
    match run.options.overwrite {
        Overwrite::Never => Existing::Keep,
        Overwrite::IfChanged | Overwrite::Always => Existing::Replace,
    }
}

/// Looks at what has the name of `entry`; returns how the entry ends if it is not to be restored.
fn look(run: &Run<'_>, directory: &Directory, entry: &Entry) -> Result<Option<Outcome>, EntryError> {
    let found = directory.stat(&entry.name).map_err(refused("cannot look what is there"))?;
    let Some(stat) = found else { return Ok(None) };
    if is_directory(&stat) {
        return Err(EntryError::DirectoryInTheWay);
    }
    Ok(match run.options.overwrite {
        Overwrite::Never => Some(Outcome::Kept),
        Overwrite::IfChanged => is_same(directory, &stat, entry, run.identity).then_some(Outcome::Unchanged),
        Overwrite::Always => None,
    })
}

/// Tells whether what is there looks the same. A look at the content would cost as much as restoring it.
fn is_same(directory: &Directory, stat: &Stat, entry: &Entry, identity: Identity) -> bool {
    let attributes = &entry.attributes;
    let same_owner = !identity.is_root() || (stat.st_uid == attributes.uid && stat.st_gid == attributes.gid);
    let same_time = stat.st_mtime == attributes.mtime.seconds
        && stat.st_mtime_nsec == u64::from(attributes.mtime.nanoseconds);
    let same_kind = match &entry.kind {
        EntryKind::File(_) => {
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && u64::try_from(stat.st_size) == Ok(entry.size())
                && stat.st_mode & 0o7777 == u32::from(attributes.mode)
        }
        EntryKind::Symlink(target) => {
            FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
                && directory.read_link(&entry.name).is_ok_and(|found| found == *target)
        }
        _ => false,
    };
    same_owner && same_time && same_kind
}

fn stage_node<'a>(directory: &'a Directory, node: Node<'_>) -> Result<Staged<'a>, EntryError> {
    directory.stage_node(node).map_err(refused("cannot make it"))
}

fn stage_device(directory: &Directory, kind: FileType, device: Device) -> Result<Staged<'_>, EntryError> {
    let number = rustix::fs::makedev(device.major, device.minor);
    directory.stage_node(Node::Device(kind, number)).map_err(refused("cannot make the device file"))
}

/// Writes the content of a file; holes stay holes. Returns its length.
fn write_content(run: &Run<'_>, file: BorrowedFd<'_>, content: &Content) -> Result<u64, EntryError> {
    let reader = ContentReader::new(content);
    let length = reader.length();
    rustix::fs::ftruncate(file, length).map_err(refused("cannot set its size"))?;
    let segments = length.div_ceil(SEGMENT_BYTES);
    let helpers = usize::try_from(segments / 2).unwrap_or(usize::MAX).min(run.options.threads.max(1));
    let next = AtomicU64::new(0);
    let write = || -> Result<(), EntryError> {
        loop {
            let segment = next.fetch_add(1, Ordering::Relaxed);
            if segment >= segments {
                return Ok(());
            }
            let start = segment * SEGMENT_BYTES;
            let written = write_range(run, file, &reader, start..length.min(start + SEGMENT_BYTES));
            if written.is_err() {
                // The other threads need not go on.
                next.store(segments, Ordering::Relaxed);
            }
            written?;
        }
    };
    if helpers < 2 {
        write()?;
        return Ok(length);
    }
    thread::scope(|scope| {
        let helpers: Vec<_> = (1..helpers).map(|_| scope.spawn(write)).collect();
        let mut result = write();
        for helper in helpers {
            match helper.join() {
                Ok(helped) => result = result.and(helped),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        result
    })?;
    Ok(length)
}

/// Writes the pieces that begin in `range`.
fn write_range(
    run: &Run<'_>,
    file: BorrowedFd<'_>,
    reader: &ContentReader,
    range: std::ops::Range<u64>,
) -> Result<(), EntryError> {
    for_each_piece(run.repo, reader, range, &mut |offset, piece| {
        if run.is_stopped() {
            return Err(EntryError::Stopped);
        }
        if let PieceBytes::Data(chunk) = &piece {
            write_all_at(file, chunk, offset).map_err(refused("cannot write its content"))?;
        }
        run.progress.event(Event::Done { files: 0, bytes: piece.length() });
        Ok(())
    })
}

fn write_all_at(file: BorrowedFd<'_>, mut bytes: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, offset) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => {
                bytes = bytes.get(written..).unwrap_or_default();
                offset += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
