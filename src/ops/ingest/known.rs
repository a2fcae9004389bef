//! Change detection: which files need not be read again.
//!
//! What is known of a directory lies in the index in pages, so that one of a million files takes the memory of a
//! page. The first page has the directory's path as its key; the key of each further one ends in the last name of
//! the page before. An old page is read before the walk passes it, and a new one is written after that, so that none
//! is lost before it was of use.

use std::collections::HashMap;

use super::metadata::FileStat;
use crate::crypto::hash::ChunkKind;
use crate::format::content::{Content, ContentItem, ListNode};
use crate::id::ChunkId;
use crate::index::{Index, IndexError, KnownFile};
use crate::repo::session::SessionWriter;
use crate::repo::{RepoError, Repository};

/// A file that changed this shortly before the run may change again without another time stamp, on file systems
/// that count whole or even seconds only.
const TIME_STAMP_SECONDS: i64 = 2;

/// Files of one directory that are remembered together.
pub(super) const PAGE_FILES: usize = 2048;

/// Returns the key of the page that follows one whose last name is `last`.
pub(super) fn page_key(directory: &[u8], last: &[u8]) -> Vec<u8> {
    // A path holds no zero byte, so that this is nobody else's.
    [directory, b"\0", last].concat()
}

/// What is known of the files of one directory, for who asks in the order of names.
pub(super) struct KnownFiles {
    directory: Vec<u8>,
    page: HashMap<Vec<u8>, KnownFile>,
    last: Vec<u8>,
    is_last_page: bool,
}

impl KnownFiles {
    /// Reads the first page.
    pub(super) fn open(index: &Index, series: &str, directory: &[u8]) -> Result<Self, IndexError> {
        let mut known = Self {
            directory: directory.to_vec(),
            page: HashMap::new(),
            last: Vec::new(),
            is_last_page: false,
        };
        known.turn(index.known_files(series, directory)?);
        Ok(known)
    }

    /// Returns what is known of a file. Names that come before one that was asked for may be forgotten.
    pub(super) fn find(
        &mut self,
        index: &Index,
        series: &str,
        name: &[u8],
    ) -> Result<Option<&KnownFile>, IndexError> {
        while !self.is_last_page && name > self.last.as_slice() {
            self.turn(index.known_files(series, &page_key(&self.directory, &self.last))?);
        }
        Ok(self.page.get(name))
    }

    fn turn(&mut self, page: HashMap<Vec<u8>, KnownFile>) {
        let last = page.keys().max().cloned().unwrap_or_default();
        self.is_last_page = page.len() < PAGE_FILES || last <= self.last;
        self.last = last;
        self.page = page;
    }
}

/// Tells whether a file is as it was when its content was stored.
pub(super) fn is_unchanged(known: &KnownFile, stat: &FileStat) -> bool {
    (known.bytes, known.mtime, known.ctime, known.inode) == (stat.bytes, stat.mtime, stat.ctime, stat.inode)
}

/// Returns what to remember of a file for the next run; nothing if its time stamps may not tell a change.
pub(super) fn to_remember(stat: &FileStat, content: &Content, run_seconds: i64) -> Option<KnownFile> {
    (stat.ctime.seconds.saturating_add(TIME_STAMP_SECONDS) < run_seconds).then(|| KnownFile {
        bytes: stat.bytes,
        mtime: stat.mtime,
        ctime: stat.ctime,
        inode: stat.inode,
        content: content.clone(),
    })
}

/// Tells whether every chunk of a remembered content is still usable in the store.
pub(in crate::ops) fn is_usable(
    repo: &Repository,
    session: &SessionWriter,
    content: &Content,
) -> Result<bool, RepoError> {
    match content {
        Content::Inline(items) => items_are_usable(session, items),
        Content::List { node, .. } => node_is_usable(repo, session, node),
    }
}

fn items_are_usable(session: &SessionWriter, items: &[ContentItem]) -> Result<bool, RepoError> {
    for item in items {
        if let ContentItem::Data(id, _) = item
            && !session.contains(id)?
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn node_is_usable(repo: &Repository, session: &SessionWriter, id: &ChunkId) -> Result<bool, RepoError> {
    if !session.contains(id)? {
        return Ok(false);
    }
    let bytes = match repo.chunk(ChunkKind::List, id) {
        Ok(bytes) => bytes,
        // The file is read again, and the node is stored anew, which mends the store.
        Err(error) if error.is_damage() => {
            session.distrust(*id);
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    match ListNode::decode(&bytes) {
        Ok(ListNode::Items(items)) => items_are_usable(session, &items),
        Ok(ListNode::Children { children, .. }) => {
            for (child, _) in children {
                if !node_is_usable(repo, session, &child)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Err(_) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::format::tree::Time;
    use crate::repo::testing::TestStore;

    /// A file that is told from all others by its length.
    fn file(number: usize) -> KnownFile {
        let time = Time { seconds: 0, nanoseconds: 0 };
        let content = Content::Inline(Vec::new());
        KnownFile { bytes: number as u64, mtime: time, ctime: time, inode: 1, content }
    }

    fn name(number: usize) -> Vec<u8> {
        format!("{number:06}").into_bytes()
    }

    /// Remembers files of `/d` in pages, as an ingest does.
    fn remember(index: &Index, files: &[usize]) {
        let mut key = b"/d".to_vec();
        for page in files.chunks(PAGE_FILES) {
            let next = page_key(b"/d", &name(*page.last().unwrap()));
            let known = page.iter().map(|number| (name(*number), file(*number))).collect();
            index.remember_files("s", &[(std::mem::replace(&mut key, next), known)]).unwrap();
        }
    }

    #[test]
    fn files_are_found_on_whatever_page_they_are() {
        let test = TestStore::new();
        let repo = test.open();
        let index = repo.index();
        let even: Vec<usize> = (0..3 * PAGE_FILES + 7).map(|number| 2 * number).collect();
        remember(index, &even);
        let mut known = KnownFiles::open(index, "s", b"/d").unwrap();
        for number in 0..=2 * even.len() {
            let found = known.find(index, "s", &name(number)).unwrap();
            let expected = (number % 2 == 0 && number < 2 * even.len()).then(|| file(number));
            assert_eq!(found, expected.as_ref(), "{number}");
        }
        let mut known = KnownFiles::open(index, "s", b"/d").unwrap();
        let last = 2 * (even.len() - 1);
        assert_eq!(known.find(index, "s", &name(last)).unwrap(), Some(&file(last)), "over all pages at once");
    }

    #[test]
    fn a_lost_page_ends_the_search() {
        let test = TestStore::new();
        let repo = test.open();
        let index = repo.index();
        let numbers: Vec<usize> = (0..2 * PAGE_FILES + 1).collect();
        remember(index, &numbers);
        index.remember_files("s", &[(page_key(b"/d", &name(PAGE_FILES - 1)), Vec::new())]).unwrap();
        let mut known = KnownFiles::open(index, "s", b"/d").unwrap();
        assert_eq!(known.find(index, "s", &name(5)).unwrap(), Some(&file(5)));
        assert_eq!(known.find(index, "s", &name(2 * PAGE_FILES)).unwrap(), None);
        let mut unknown = KnownFiles::open(index, "s", b"/elsewhere").unwrap();
        assert_eq!(unknown.find(index, "s", b"name").unwrap(), None);
    }

    #[test]
    fn a_file_that_changed_a_moment_ago_is_not_remembered() {
        let stat = FileStat::of(tempfile::tempfile().unwrap().as_fd()).unwrap();
        let content = Content::Inline(Vec::new());
        let changed = stat.ctime.seconds;
        for (run_seconds, remembered) in [(changed, false), (changed + 2, false), (changed + 3, true)] {
            assert_eq!(to_remember(&stat, &content, run_seconds).is_some(), remembered, "{run_seconds}");
        }
    }
}
