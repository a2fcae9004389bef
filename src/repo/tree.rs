//! Reading directories: pages found by name or walked in order.

use std::sync::Arc;

use super::{RepoError, Repository};
use crate::crypto::hash::ChunkKind;
use crate::format::FormatError;
use crate::format::snapshot::Manifest;
use crate::format::tree::{Entry, EntryKind, Page, PageRef, TreeRef, Value};
use crate::id::ChunkId;
use crate::path::{Name, TreePath};

/// The entries of one directory in order, read page by page.
///
/// A page that is damaged yields an error, and the entries behind it may follow; any other error is the last item.
pub struct TreeReader<'a> {
    repo: &'a Repository,
    /// Pages that were not read yet, the next one last, each with the level it must have.
    ahead: Vec<(ChunkId, Option<u8>)>,
    /// The current page of entries, and how many of them were returned.
    current: Option<(Arc<Page>, usize)>,
    after: Option<Name>,
    /// The last name of the page before, which all others must follow.
    before: Option<Name>,
}

impl TreeReader<'_> {
    fn advance(&mut self, id: &ChunkId, level: Option<u8>) -> Result<(), RepoError> {
        let page = self.repo.page(id, level)?;
        let after = self.after.as_ref();
        match page.as_ref() {
            Page::Entries(entries) => {
                let first = entries.first().map(|entry| &entry.name);
                if first.is_some() && first <= self.before.as_ref() {
                    let why = "its names do not follow those of the page before";
                    return Err(damaged(id, FormatError::malformed("a page", why)));
                }
                self.before = entries.last().map(|entry| entry.name.clone());
                let skip = after.map_or(0, |after| entries.partition_point(|entry| entry.name <= *after));
                self.current = Some((page, skip));
            }
            Page::Pages { level, pages } => {
                let skip = after.map_or(0, |after| pages.partition_point(|child| child.last_name <= *after));
                let ahead =
                    pages.iter().skip(skip).rev().map(|child| (child.tree.page, level.checked_sub(1)));
                self.ahead.extend(ahead);
            }
        }
        Ok(())
    }

    fn next_of_page(&mut self) -> Option<Entry> {
        let (page, position) = self.current.as_mut()?;
        let Page::Entries(entries) = page.as_ref() else { return None };
        let entry = entries.get(*position)?.clone();
        *position += 1;
        Some(entry)
    }
}

impl Iterator for TreeReader<'_> {
    type Item = Result<Entry, RepoError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.next_of_page() {
                return Some(Ok(entry));
            }
            let (page, level) = self.ahead.pop()?;
            if let Err(error) = self.advance(&page, level) {
                self.current = None;
                if !error.is_damage() {
                    self.ahead.clear();
                }
                return Some(Err(error));
            }
        }
    }
}

/// What stands at a path of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// The root directory, which has no entry of its own; the manifest describes it.
    Root,
    /// Anything below.
    Entry(Box<Entry>),
}

impl Repository {
    /// Walks a directory in order of names; with `after`, from the first name behind it, without reading the
    /// pages before.
    #[must_use]
    pub fn entries(&self, tree: &TreeRef, after: Option<&Name>) -> TreeReader<'_> {
        TreeReader {
            repo: self,
            ahead: vec![(tree.page, None)],
            current: None,
            after: after.cloned(),
            before: None,
        }
    }

    /// Finds one entry by name; reads one page a level.
    ///
    /// # Errors
    /// Fails if a page cannot be read whole.
    pub fn find_entry(&self, tree: &TreeRef, name: &Name) -> Result<Option<Entry>, RepoError> {
        let mut page = tree.page;
        let mut expected = None;
        loop {
            match self.page(&page, expected)?.as_ref() {
                Page::Entries(entries) => {
                    let found = entries.binary_search_by(|entry| entry.name.cmp(name));
                    return Ok(found.ok().and_then(|at| entries.get(at)).cloned());
                }
                Page::Pages { level, pages } => match child_for(pages, name) {
                    Some(child) => {
                        page = child.tree.page;
                        expected = level.checked_sub(1);
                    }
                    None => return Ok(None),
                },
            }
        }
    }

    /// Finds what stands at `path`; nothing if a component is absent or a middle one is no directory.
    ///
    /// # Errors
    /// Fails if a page cannot be read whole.
    pub fn find_path(&self, snapshot: &Manifest, path: &TreePath) -> Result<Option<Node>, RepoError> {
        let mut node = Node::Root;
        for name in path.components() {
            let tree = match &node {
                Node::Root => snapshot.root,
                Node::Entry(entry) => match entry.kind {
                    EntryKind::Directory(tree) => tree,
                    _ => return Ok(None),
                },
            };
            match self.find_entry(&tree, name)? {
                Some(entry) => node = Node::Entry(Box::new(entry)),
                None => return Ok(None),
            }
        }
        Ok(Some(node))
    }

    /// Returns a value's bytes, from the entry or from the chunk it spilled to.
    ///
    /// # Errors
    /// Fails if the chunk cannot be read whole or has another length.
    pub fn value(&self, value: &Value) -> Result<Vec<u8>, RepoError> {
        match value {
            Value::Inline(bytes) => Ok(bytes.clone()),
            Value::Spilled { chunk, length } => {
                let bytes = self.chunk(ChunkKind::Tree, chunk)?;
                if bytes.len() == *length as usize {
                    Ok(bytes.to_vec())
                } else {
                    Err(damaged(chunk, FormatError::malformed("a spilled value", "it has another length")))
                }
            }
        }
    }

    /// Reads one page of a directory. A page below another one must be of the next lower level, which also
    /// bounds the depth.
    ///
    /// # Errors
    /// Fails if the page cannot be read whole.
    pub fn page(&self, id: &ChunkId, level: Option<u8>) -> Result<Arc<Page>, RepoError> {
        let page = match self.frames.decoded.page(id) {
            Some(page) => page,
            None => {
                let bytes = self.chunk(ChunkKind::Tree, id)?;
                let page = Arc::new(Page::decode(&bytes).map_err(|error| damaged(id, error))?);
                self.frames.decoded.keep_page(*id, Arc::clone(&page));
                page
            }
        };
        let actual = match page.as_ref() {
            Page::Entries(_) => 0,
            Page::Pages { level, .. } => *level,
        };
        if level.is_some_and(|level| level != actual) {
            return Err(damaged(
                id,
                FormatError::malformed("a page", "it is of another level than its parent says"),
            ));
        }
        Ok(page)
    }
}

fn child_for<'a>(pages: &'a [PageRef], name: &Name) -> Option<&'a PageRef> {
    pages.get(pages.partition_point(|child| child.last_name < *name))
}

fn damaged(chunk: &ChunkId, source: FormatError) -> RepoError {
    RepoError::Damaged { object: format!("tree chunk {chunk}"), source: Some(source) }
}
