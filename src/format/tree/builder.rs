//! Builds the pages of a directory, cutting where the names themselves say so.
//!
//! A cut depends on the names right before it alone, so one new name in a huge directory changes a few pages.

use super::super::FormatError;
use super::super::cbor;
use super::page::write_page_ref;
use super::wire::write_entry;
use super::{Entry, PAGE_MAX_BYTES, PAGE_MAX_LEVEL, PAGE_MIN_ENTRIES, Page, PageRef, TreeRef};
use crate::crypto::hash::IdKeys;
use crate::id::ChunkId;
use crate::path::Name;

/// A page ends after a name whose hash this divides.
const CUT_DIVISOR: u64 = 128;
/// What the heads in front of a page's elements take at most: record, level, list.
const HEAD_MAX_BYTES: usize = 5;

/// Builds the pages of one directory from its entries in order, in bounded memory.
///
/// The result depends on the entries alone. Pages go to `emit`, which stores a chunk of kind tree and returns
/// its id.
pub struct TreeBuilder {
    ids: IdKeys,
    last_name: Option<Name>,
    /// Unfinished pages from the leaves up. The last place takes the reference to a root of the greatest level.
    levels: [Level; PAGE_MAX_LEVEL as usize + 2],
}

/// An unfinished page.
#[derive(Default)]
struct Level {
    /// Its elements, encoded.
    encoded: Vec<u8>,
    elements: usize,
    /// What it covers so far; nothing while it is empty.
    covered: Option<Covered>,
    /// The page that its only element refers to.
    only_page: Option<ChunkId>,
    /// Whether a page of this level was emitted before.
    emitted: bool,
}

/// What a page or an element of it covers.
#[derive(Clone)]
struct Covered {
    last_name: Name,
    entries: u64,
    bytes: u64,
}

/// An encoded element of a page.
struct Element {
    encoded: Vec<u8>,
    covered: Covered,
    /// What an element of an inner page refers to.
    page: Option<ChunkId>,
}

impl TreeBuilder {
    /// Starts an empty directory.
    #[must_use]
    pub fn new(ids: IdKeys) -> Self {
        Self { ids, last_name: None, levels: Default::default() }
    }

    /// Appends an entry; entries must come strictly sorted by name.
    ///
    /// # Errors
    /// Refuses an entry that readers would refuse: out of order, against a rule, or too long for a page.
    /// Passes on what `emit` fails with.
    pub fn push<E: From<FormatError>>(
        &mut self,
        entry: Entry,
        emit: &mut dyn FnMut(Vec<u8>) -> Result<ChunkId, E>,
    ) -> Result<(), E> {
        if self.last_name.as_ref().is_some_and(|last| *last >= entry.name) {
            return Err(malformed(format!("entry {} is out of order", entry.name)).into());
        }
        entry.check().map_err(|why| malformed(format!("entry {}: {why}", entry.name)))?;
        let element = Element {
            encoded: cbor::encode(|writer| write_entry(writer, &entry)),
            covered: Covered { last_name: entry.name.clone(), entries: 1, bytes: entry.file_bytes() },
            page: None,
        };
        self.last_name = Some(entry.name);
        self.append(0, element, emit)
    }

    /// Ends the directory. An empty one is a single empty leaf page.
    ///
    /// # Errors
    /// Passes on what `emit` fails with.
    pub fn finish<E: From<FormatError>>(
        mut self,
        emit: &mut dyn FnMut(Vec<u8>) -> Result<ChunkId, E>,
    ) -> Result<TreeRef, E> {
        if self.last_name.is_none() {
            let page = emit(Page::Entries(Vec::new()).encode())?;
            return Ok(TreeRef { page, entries: 0, bytes: 0 });
        }
        for index in 0..self.levels.len() {
            if let Some(root) = self.levels.get(index).and_then(Level::root) {
                return Ok(root);
            }
            self.end_page(index, emit)?;
        }
        Err(too_deep().into())
    }

    fn append<E: From<FormatError>>(
        &mut self,
        index: usize,
        element: Element,
        emit: &mut dyn FnMut(Vec<u8>) -> Result<ChunkId, E>,
    ) -> Result<(), E> {
        let room = PAGE_MAX_BYTES - HEAD_MAX_BYTES;
        if element.encoded.len() > room {
            return Err(
                malformed(format!("entry {} is too long for a page", element.covered.last_name)).into()
            );
        }
        let level = self.levels.get(index).ok_or_else(too_deep)?;
        if level.encoded.len() + element.encoded.len() > room {
            self.end_page(index, emit)?;
        }
        let number = u8::try_from(index).map_err(|_| too_deep())?;
        let level = self.levels.get_mut(index).ok_or_else(too_deep)?;
        let cut = level.elements + 1 >= PAGE_MIN_ENTRIES
            && self.ids.page_cut(number, element.covered.last_name.as_bytes()).is_multiple_of(CUT_DIVISOR);
        level.append(element);
        if cut { self.end_page(index, emit) } else { Ok(()) }
    }

    fn end_page<E: From<FormatError>>(
        &mut self,
        index: usize,
        emit: &mut dyn FnMut(Vec<u8>) -> Result<ChunkId, E>,
    ) -> Result<(), E> {
        let level = self.levels.get_mut(index).ok_or_else(too_deep)?;
        let Some(covered) = level.covered.take() else { return Ok(()) };
        let number =
            u8::try_from(index).ok().filter(|number| *number <= PAGE_MAX_LEVEL).ok_or_else(too_deep)?;
        let mut encoded =
            cbor::encode(|writer| writer.array(2)?.u8(number)?.array(level.elements as u64)?.ok());
        encoded.append(&mut level.encoded);
        *level = Level { emitted: true, ..Level::default() };
        let page = emit(encoded)?;
        let tree = TreeRef { page, entries: covered.entries, bytes: covered.bytes };
        let reference = PageRef { last_name: covered.last_name.clone(), tree };
        let encoded = cbor::encode(|writer| write_page_ref(writer, &reference));
        self.append(index + 1, Element { encoded, covered, page: Some(page) }, emit)
    }
}

impl Level {
    fn append(&mut self, mut element: Element) {
        self.only_page = if self.elements == 0 { element.page } else { None };
        self.elements += 1;
        self.encoded.append(&mut element.encoded);
        let mut covered = element.covered;
        if let Some(before) = &self.covered {
            covered.entries = covered.entries.saturating_add(before.entries);
            covered.bytes = covered.bytes.saturating_add(before.bytes);
        }
        self.covered = Some(covered);
    }

    /// Returns the root of the directory, if there is nothing but a reference to it on this level.
    fn root(&self) -> Option<TreeRef> {
        let covered = self.covered.as_ref().filter(|_| !self.emitted)?;
        Some(TreeRef { page: self.only_page?, entries: covered.entries, bytes: covered.bytes })
    }
}

fn malformed(why: String) -> FormatError {
    FormatError::malformed("tree", why)
}

fn too_deep() -> FormatError {
    malformed("its pages are nested too deep".to_owned())
}
