//! Damaged files: what could be read of them is kept as `NAME.partial`, with a list of what is missing beside it.
//!
//! Neither ever takes a name that stands in the target or in the snapshot.

use super::attributes::{self, SET_ID, Subject, Wanted};
use super::content::Written;
use super::pool::{OpenDirectory, Run};
use super::target::{Existing, Placed, Staged};
use super::write::{EntryError, refused};
use crate::format::tree::{Attributes, Entry};
use crate::path::{Name, TreePath, escape};
use crate::uncached::UncachedWriter;

/// Most gaps of one file that are kept one by one; beyond, they are only counted.
const GAPS_MAX: usize = 100_000;
/// How many names are tried.
const NAMES_TRIED: u32 = 1000;
/// Longest name that Linux file systems take.
const FILE_NAME_MAX_BYTES: usize = 255;
const LIST_SUFFIX: &str = ".gaps";
/// Extended attribute that would let a file that is not whole run with rights.
const CAPABILITY: &[u8] = b"security.capability";

/// A range of a file that could not be read; zeros stand there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Where it begins.
    pub offset: u64,
    /// Its bytes, at least 1.
    pub length: u64,
    /// Why, as one sentence for people.
    pub reason: String,
}

/// What was kept of a damaged file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartialFile {
    /// Where it was kept: its path in the snapshot, but for the last name; nothing if no byte could be read.
    pub path: Option<TreePath>,
    /// Bytes that are missing.
    pub missing_bytes: u64,
    /// Bytes that were read, holes not counted.
    pub read_bytes: u64,
    /// How many gaps there are; `gaps` may hold fewer.
    pub gap_count: u64,
    /// The gaps in order, as far as they are kept.
    pub gaps: Vec<Gap>,
}

/// The gaps of one file.
#[derive(Debug, Default)]
pub(super) struct GapList {
    gaps: Vec<Gap>,
    count: u64,
    bytes: u64,
}

impl GapList {
    /// Adds one.
    pub(super) fn push(&mut self, gap: Gap) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(gap.length);
        if self.gaps.len() < GAPS_MAX {
            self.gaps.push(gap);
        }
    }

    /// Puts them in order and joins those that touch for the same reason.
    pub(super) fn finish(mut self) -> Self {
        self.gaps.sort_by_key(|gap| gap.offset);
        let before = self.gaps.len();
        self.gaps.dedup_by(|gap, last| {
            let joins = last.offset + last.length == gap.offset && last.reason == gap.reason;
            if joins {
                last.length += gap.length;
            }
            joins
        });
        self.count -= (before - self.gaps.len()) as u64;
        self
    }

    /// Tells whether everything could be read.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the list as it is written beside the file.
    fn to_text(&self, name: &Name) -> String {
        let mut text =
            format!("# {name}: ranges that could not be read; zeros stand there\n# offset length reason\n");
        for gap in &self.gaps {
            text.push_str(&format!("{} {} {}\n", gap.offset, gap.length, escape(gap.reason.as_bytes())));
        }
        let unlisted = self.count.saturating_sub(self.gaps.len() as u64);
        if unlisted > 0 {
            text.push_str(&format!("# {unlisted} more that are not listed\n"));
        }
        text
    }
}

/// Keeps what was written of a damaged file. A file of which nothing was read is not kept.
pub(super) fn keep(
    run: &Run<'_>,
    directory: &OpenDirectory,
    entry: &Entry,
    mut staged: Staged<'_>,
    written: Written,
) -> Result<PartialFile, EntryError> {
    let Written { data_bytes, gaps, .. } = written;
    let path = if data_bytes == 0 {
        None
    } else {
        apply_safely(run, directory, entry, &staged);
        let (name, list_name) = place(run, directory, entry, &mut staged)?;
        write_list(run, directory, entry, &gaps, &list_name)?;
        Some(directory.path.join(&name))
    };
    Ok(PartialFile {
        path,
        missing_bytes: gaps.bytes,
        read_bytes: data_bytes,
        gap_count: gaps.count,
        gaps: gaps.gaps,
    })
}

/// Sets the attributes of the file, without those that let it run with rights.
fn apply_safely(run: &Run<'_>, directory: &OpenDirectory, entry: &Entry, staged: &Staged<'_>) {
    let path = directory.path.join(&entry.name);
    let attributes = Attributes { mode: entry.attributes.mode & !SET_ID, ..entry.attributes.clone() };
    let mut xattrs = run.xattrs(&path, &attributes);
    xattrs.retain(|(name, _)| *name != CAPABILITY);
    let owner = run.policy.owners.owner_of(&attributes);
    let wanted = Wanted { attributes: &attributes, xattrs: &xattrs, owner };
    let unset = attributes::apply(staged.handle(), &wanted, Subject::Other, run.policy.identity);
    run.note_unset(&path, unset);
}

/// Gives the file the first name that nobody has; returns it, and the name for its list.
fn place(
    run: &Run<'_>,
    directory: &OpenDirectory,
    entry: &Entry,
    staged: &mut Staged<'_>,
) -> Result<(Name, Name), EntryError> {
    for number in 0..NAMES_TRIED {
        let Some((name, list_name)) = names(&entry.name, number) else { break };
        let is_taken = |name: &Name| -> Result<bool, EntryError> {
            let there = directory.directory.stat(name).map_err(refused("cannot look what is there"))?;
            // A page that cannot be read restores no entry either.
            Ok(there.is_some()
                || run.repo.find_entry(&directory.tree, name).is_ok_and(|found| found.is_some()))
        };
        if is_taken(&name)? || is_taken(&list_name)? {
            continue;
        }
        let placed =
            staged.place(&name, Existing::Keep).map_err(refused("cannot name what could be read"))?;
        if placed == Placed::Done {
            return Ok((name, list_name));
        }
    }
    Err(EntryError::Target("cannot name what could be read", std::io::ErrorKind::AlreadyExists.into()))
}

fn write_list(
    run: &Run<'_>,
    directory: &OpenDirectory,
    entry: &Entry,
    gaps: &GapList,
    name: &Name,
) -> Result<(), EntryError> {
    let failed = "cannot write the list of what is missing";
    let mut staged = directory.directory.stage_file().map_err(refused(failed))?;
    let text = gaps.to_text(&entry.name);
    let length = text.len() as u64;
    UncachedWriter::new(staged.file(), length).write_all_at(text.as_bytes(), 0).map_err(refused(failed))?;
    let stored = &entry.attributes;
    let attributes = Attributes { mode: stored.mode & 0o666, mtime: stored.mtime, ..Attributes::default() };
    let owner = run.policy.owners.owner_of(stored);
    let wanted = Wanted { attributes: &attributes, xattrs: &[], owner };
    // The file itself says already what is refused.
    let _ = attributes::apply(staged.handle(), &wanted, Subject::Other, run.policy.identity);
    match staged.place(name, Existing::Keep).map_err(refused(failed))? {
        Placed::Done => Ok(()),
        Placed::NameTaken => Err(EntryError::Target(failed, std::io::ErrorKind::AlreadyExists.into())),
    }
}

/// Returns the `number`th pair of names for a file and its list. A long name loses its end.
fn names(name: &Name, number: u32) -> Option<(Name, Name)> {
    let suffix = if number == 0 { ".partial".to_owned() } else { format!(".partial.{number}") };
    let room = FILE_NAME_MAX_BYTES - suffix.len() - LIST_SUFFIX.len();
    let bytes = name.as_bytes();
    let mut length = bytes.len().min(room);
    // No character is cut in two.
    while length < bytes.len()
        && bytes.get(length).is_some_and(|byte| byte & 0b1100_0000 == 0b1000_0000)
        && length > 1
    {
        length -= 1;
    }
    let with = |suffix: &str| Name::new(&[bytes.get(..length)?, suffix.as_bytes()].concat()).ok();
    Some((with(&suffix)?, with(&format!("{suffix}{LIST_SUFFIX}"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(offset: u64, length: u64, reason: &str) -> Gap {
        Gap { offset, length, reason: reason.into() }
    }

    #[test]
    fn gaps_that_touch_are_one() {
        let mut list = GapList::default();
        for gap in [gap(20, 5, "b"), gap(10, 10, "a"), gap(0, 10, "a"), gap(30, 1, "b\n")] {
            list.push(gap);
        }
        let list = list.finish();
        assert_eq!(list.gaps, [gap(0, 20, "a"), gap(20, 5, "b"), gap(30, 1, "b\n")]);
        assert_eq!((list.count, list.bytes), (3, 26));
        let text = list.to_text(&Name::new(b"a\x1bb").unwrap());
        let expected = "# a\\u{1b}b: ranges that could not be read; zeros stand there\n# offset length reason\n\
                        0 20 a\n20 5 b\n30 1 b\\n\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn names_are_never_too_long() {
        let of = |name: &[u8], number| {
            let (name, list) = names(&Name::new(name).unwrap(), number).unwrap();
            (name.as_bytes().to_vec(), list.as_bytes().to_vec())
        };
        assert_eq!(of(b"a", 0), (b"a.partial".to_vec(), b"a.partial.gaps".to_vec()));
        assert_eq!(of(b"a", 7), (b"a.partial.7".to_vec(), b"a.partial.7.gaps".to_vec()));
        for name in [vec![b'x'; 255], "ü".repeat(127).into_bytes(), vec![0x80; 255], vec![b'y'; 1024]] {
            for number in [0, 999] {
                let (partial, list) = of(&name, number);
                assert!(list.len() <= 255 && list.len() > 240 || name[0] == 0x80, "{}", list.len());
                let stem = &partial[..partial.iter().rposition(|byte| *byte == b'p').unwrap() - 1];
                assert!(name.starts_with(stem));
                assert_eq!(std::str::from_utf8(&name).is_ok(), std::str::from_utf8(stem).is_ok());
            }
        }
    }
}
