//! Small files that are handed to the kernel before it asks for them.
//!
//! Asking for a small file takes longer than decoding it. Whoever copies, packs or searches a tree lists a directory
//! and then reads its files, so once that was seen a few times, the files of a directory go to the kernel's page cache
//! as soon as it was listed. The first one is left to be asked for, which tells that the habit goes on.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::directory::Directory;
use super::inodes::InodeTable;
use super::lock;
use super::pages::{PageCache, Pages};
use super::stored::StoredEntry;
use crate::format::content::{Content, ContentItem};
use crate::id::ChunkId;
use crate::path::Name;
use crate::repo::content::ContentReader;
use crate::repo::{RepoError, Repository};

/// Bytes that are handed over of a directory at first.
const FIRST_WINDOW_BYTES: u64 = 1 << 20;
/// Bytes that are handed over at a time while somebody goes on reading the directory.
const LAST_WINDOW_BYTES: u64 = 8 << 20;
/// Frames that are decoded behind those of the files that were handed over.
const FRAMES_BEHIND: u32 = 2;
/// Directories whose listing and reading is remembered.
const VISITS_KEPT: usize = 16;
/// So many directories whose files were read after they were listed make a habit.
const HABIT: u32 = 2;
/// More than this is not counted, so that a few directories which are only listed end a habit.
const FIRM_HABIT: u32 = 4;

/// Files of a directory that are to be handed over.
pub(super) struct Handover {
    directory: Arc<Directory>,
    /// The name before the first one.
    after: Option<Name>,
    bytes: u64,
}

/// Hands over small files, and decides when.
pub(super) struct Neighbours {
    repo: Arc<Repository>,
    inodes: Arc<InodeTable>,
    pages: Arc<Pages>,
    habits: Mutex<Habits>,
}

impl Neighbours {
    pub(super) fn new(repo: Arc<Repository>, inodes: Arc<InodeTable>, pages: Arc<Pages>) -> Self {
        Self { repo, inodes, pages, habits: Mutex::default() }
    }

    /// Takes note that a directory with so many small files was listed to its end; returns what to hand over.
    pub(super) fn note_listed(&self, directory: &Arc<Directory>, small_files: usize) -> Option<Handover> {
        self.pages.get()?;
        // The first one is left to be asked for.
        if small_files < 2 || !lock(&self.habits).note_listed(directory.inode) {
            return None;
        }
        Some(Handover { directory: Arc::clone(directory), after: None, bytes: FIRST_WINDOW_BYTES })
    }

    /// Takes note that the kernel asked for a file; returns what to hand over.
    pub(super) fn note_read(&self, directory: &Arc<Directory>, stored: &StoredEntry) -> Option<Handover> {
        self.pages.get()?;
        stored.small_content()?;
        if stored.entry.link.is_some() {
            // It may have been looked up under another name, elsewhere.
            return None;
        }
        let name = &stored.entry.name;
        let bytes = lock(&self.habits).note_read(directory.inode, name)?;
        Some(Handover { directory: Arc::clone(directory), after: Some(name.clone()), bytes })
    }

    /// Hands files over. What cannot be read is left to the request that meets it.
    pub(super) fn hand_over(&self, handover: &Handover) {
        let Some(pages) = self.pages.get() else { return };
        let reached = self.hand_over_to(pages, handover);
        lock(&self.habits).note_handed_over(handover.directory.inode, reached);
    }

    /// Takes note that files will not be handed over now, so that they are at the next occasion.
    pub(super) fn drop_handover(&self, handover: &Handover) {
        lock(&self.habits).note_handed_over(handover.directory.inode, None);
    }

    /// Returns the last name. Goes past damaged pages, so that they are not met again and again.
    fn hand_over_to(&self, pages: &dyn PageCache, handover: &Handover) -> Option<Name> {
        let Handover { directory, after, bytes } = handover;
        let mut reached = None;
        let mut last_chunk = None;
        let mut buffer = Vec::new();
        let mut left = *bytes;
        let mut is_first = after.is_none();
        for entry in self.repo.entries(&directory.tree, after.as_ref()) {
            let stored = match entry {
                Ok(entry) => StoredEntry::new(entry),
                Err(error) if error.is_damage() => continue,
                Err(_) => break,
            };
            let Some(content) = stored.small_content() else { continue };
            let length = stored.entry.size();
            if length > left {
                break;
            }
            left -= length;
            if !std::mem::take(&mut is_first)
                && let Some(inode) = self.known_inode(directory, &stored)
                && let Ok(bytes) = self.read(content, length, &mut buffer)
            {
                pages.store(inode, 0, bytes);
            }
            last_chunk = last_chunk_of(content).or(last_chunk);
            reached = Some(stored.entry.name);
        }
        if let Some(chunk) = last_chunk {
            // The files of the next directory, as it seems.
            self.repo.decode_behind(&chunk, FRAMES_BEHIND);
        }
        reached
    }

    fn read<'a>(
        &self,
        content: &Content,
        length: u64,
        buffer: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], RepoError> {
        buffer.resize(usize::try_from(length).unwrap_or(0), 0);
        let read = ContentReader::new(content).read_at(&self.repo, 0, buffer)?;
        Ok(buffer.get(..read).unwrap_or_default())
    }

    /// Returns the number under which the kernel knows an entry; nothing where another node has it.
    fn known_inode(&self, directory: &Directory, stored: &StoredEntry) -> Option<u64> {
        let key = directory.key_of(stored);
        let inode = key.inode();
        let (identity, _) = self.inodes.get(inode)?;
        (identity == key.identity(inode)).then_some(inode)
    }
}

fn last_chunk_of(content: &Content) -> Option<ChunkId> {
    match content {
        Content::Inline(items) => items.iter().rev().find_map(|item| match item {
            ContentItem::Data(id, _) => Some(*id),
            ContentItem::Hole(_) => None,
        }),
        Content::List { .. } => None,
    }
}

/// What was seen of a directory.
struct Visit {
    directory: u64,
    /// Requests for its files.
    reads: u32,
    /// What is handed over at the next occasion.
    window_bytes: u64,
    /// The last name that was handed over.
    reached: Option<Name>,
    is_under_way: bool,
}

impl Visit {
    fn new(directory: u64) -> Self {
        Self { directory, reads: 0, window_bytes: FIRST_WINDOW_BYTES, reached: None, is_under_way: false }
    }
}

/// What those who use the mount do with directories.
#[derive(Default)]
struct Habits {
    /// The last one at the end.
    visits: VecDeque<Visit>,
    /// How many directories more had files read than not, lately.
    strength: u32,
}

impl Habits {
    /// Returns whether the files of this directory will be read, as it seems.
    fn note_listed(&mut self, directory: u64) -> bool {
        let is_habit = self.strength >= HABIT;
        self.visit(directory).is_under_way |= is_habit;
        is_habit
    }

    /// Returns how many bytes behind this name are to be handed over.
    fn note_read(&mut self, directory: u64, name: &Name) -> Option<u64> {
        let visit = self.visit(directory);
        visit.reads = visit.reads.saturating_add(1);
        let is_first = visit.reads == 1;
        let is_covered = visit.is_under_way || visit.reached.as_ref().is_some_and(|reached| name <= reached);
        let bytes = (!is_first && !is_covered).then_some(visit.window_bytes);
        if bytes.is_some() {
            visit.is_under_way = true;
            visit.window_bytes = (visit.window_bytes * 2).min(LAST_WINDOW_BYTES);
        }
        if is_first {
            self.strength = (self.strength + 1).min(FIRM_HABIT);
        }
        bytes
    }

    fn note_handed_over(&mut self, directory: u64, reached: Option<Name>) {
        if let Some(visit) = self.visits.iter_mut().find(|visit| visit.directory == directory) {
            visit.is_under_way = false;
            visit.reached = reached.or(visit.reached.take());
        }
    }

    /// Returns what is known of a directory; forgets the one that was visited longest ago for a new one.
    fn visit(&mut self, directory: u64) -> &mut Visit {
        let visit = match self.visits.iter().position(|visit| visit.directory == directory) {
            Some(at) => self.visits.remove(at),
            None => None,
        };
        if visit.is_none() && self.visits.len() == VISITS_KEPT {
            let oldest = self.visits.pop_front();
            if oldest.is_some_and(|visit| visit.reads == 0) {
                self.strength = self.strength.saturating_sub(1);
            }
        }
        self.visits.push_back(visit.unwrap_or_else(|| Visit::new(directory)));
        let last = self.visits.len() - 1;
        &mut self.visits[last]
    }
}

#[cfg(test)]
mod tests {
    use super::super::pages::testing::Kept;
    use super::super::support::{Sandbox, directory, file, find, names};
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).unwrap()
    }

    /// Lists directories and reads a file of each.
    fn read_some_of(habits: &mut Habits, directories: std::ops::Range<u64>) {
        for directory in directories {
            habits.note_listed(directory);
            assert_eq!(habits.note_read(directory, &name("a")), None);
        }
    }

    #[test]
    fn who_read_the_files_of_some_directories_will_read_those_of_the_next() {
        let mut habits = Habits::default();
        assert!(!habits.note_listed(1));
        read_some_of(&mut habits, 1..3);
        assert!(habits.note_listed(3));
    }

    #[test]
    fn who_only_lists_is_handed_nothing() {
        let mut habits = Habits::default();
        read_some_of(&mut habits, 0..10);
        let listed = (10..100).filter(|directory| habits.note_listed(*directory)).count();
        assert!(listed < 2 * VISITS_KEPT, "{listed}");
        assert!(!habits.note_listed(100));
    }

    #[test]
    fn who_reads_a_second_file_is_handed_those_behind_it_in_growing_windows() {
        let mut habits = Habits::default();
        assert_eq!(habits.note_read(7, &name("a")), None);
        assert_eq!(habits.note_read(7, &name("b")), Some(FIRST_WINDOW_BYTES));
        assert_eq!(habits.note_read(7, &name("c")), None, "they are on their way");
        habits.note_handed_over(7, Some(name("k")));
        assert_eq!(habits.note_read(7, &name("k")), None, "it was asked for before it came");
        assert_eq!(habits.note_read(7, &name("l")), Some(2 * FIRST_WINDOW_BYTES));
        habits.note_handed_over(7, None);
        assert_eq!(habits.note_read(7, &name("j")), None);
        for n in 0..9_u8 {
            let window = habits.note_read(7, &name(&format!("m{n}")));
            assert!(window.is_some_and(|bytes| bytes <= LAST_WINDOW_BYTES));
            habits.note_handed_over(7, None);
        }
    }

    #[test]
    fn only_files_that_the_kernel_knows_are_handed_over_and_the_first_is_not() {
        let sandbox = Sandbox::new();
        let long = super::super::support::Sketch::File(vec![7; 300 << 10]);
        let below = directory([
            ("a", file("first")),
            ("b", file("second")),
            ("c", long),
            ("d", file("")),
            ("e", file("unknown")),
            ("f", file("last")),
        ]);
        let manifest = sandbox.commit("etc", directory([("below", below)]));
        let vfs = sandbox.only(&manifest);
        let kept = Kept::default();
        vfs.attach(Box::new(kept.clone()));
        assert_eq!(names(&vfs, "below").len(), 6);
        let known = ["a", "b", "c", "d", "f"].map(|name| find(&vfs, &format!("below/{name}")).inode);
        let place = vfs.place(find(&vfs, "below").inode).unwrap().1;
        let super::super::inodes::Place::Directory(below) = place else { panic!("a directory") };
        let handover = |after: Option<&str>, bytes| Handover {
            directory: Arc::clone(&below),
            after: after.map(name),
            bytes,
        };
        vfs.neighbours.hand_over(&handover(None, FIRST_WINDOW_BYTES));
        assert_eq!(kept.take(), [(known[1], 0, b"second".to_vec()), (known[4], 0, b"last".to_vec())]);
        vfs.neighbours.hand_over(&handover(Some("a"), 6));
        assert_eq!(kept.take(), [(known[1], 0, b"second".to_vec())]);
    }
}
