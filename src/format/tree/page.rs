//! Pages: sorted runs of entries, and of pages below them.

use super::super::FormatError;
use super::super::cbor::{self, CborReader, CborWriter, Encoded};
use super::wire::{read_entry, read_name, read_tree_ref, write_entry, write_tree_ref};
use super::{Entry, PAGE_MAX_BYTES, PAGE_MAX_LEVEL, TreeRef};
use crate::path::Name;

/// One child of an inner page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRef {
    /// The last name below it.
    pub last_name: Name,
    /// What is below it.
    pub tree: TreeRef,
}

/// A page of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Page {
    /// Level 0: entries, strictly sorted by name.
    Entries(Vec<Entry>),
    /// A level above: pages of one level less.
    Pages {
        /// 1 to [`PAGE_MAX_LEVEL`].
        level: u8,
        /// Strictly sorted by last name, at least 1.
        pages: Vec<PageRef>,
    },
}

impl Page {
    /// Encodes as CBOR.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        cbor::encode(|writer| match self {
            Self::Entries(entries) => {
                writer.array(2)?.u8(0)?;
                cbor::write_list(writer, entries, write_entry)
            }
            Self::Pages { level, pages } => {
                writer.array(2)?.u8(*level)?;
                cbor::write_list(writer, pages, write_page_ref)
            }
        })
    }

    /// Decodes and checks every rule.
    ///
    /// # Errors
    /// Refuses a page that is too long, not sorted, or holds what breaks a rule of entries.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = CborReader::new("tree page", bytes)?;
        if bytes.len() > PAGE_MAX_BYTES {
            return Err(reader.malformed("it is too long"));
        }
        let page = reader.record(2, |reader| match reader.u8()? {
            0 => reader.list(0, PAGE_MAX_BYTES, read_entry).map(Self::Entries),
            level @ 1..=PAGE_MAX_LEVEL => {
                let pages = reader.list(1, PAGE_MAX_BYTES, read_page_ref)?;
                Ok(Self::Pages { level, pages })
            }
            level => Err(reader.malformed(format!("its level {level} is too great"))),
        })?;
        let sorted = match &page {
            Self::Entries(entries) => entries.is_sorted_by(|before, after| before.name < after.name),
            Self::Pages { pages, .. } => {
                pages.is_sorted_by(|before, after| before.last_name < after.last_name)
            }
        };
        if sorted { Ok(page) } else { Err(reader.malformed("names are not strictly sorted")) }
    }
}

/// Writes `[last name, [page, entries, bytes]]`.
pub(super) fn write_page_ref(writer: &mut CborWriter<'_>, page: &PageRef) -> Encoded {
    writer.array(2)?.bytes(page.last_name.as_bytes())?;
    write_tree_ref(writer, &page.tree)
}

fn read_page_ref(reader: &mut CborReader<'_>) -> Result<PageRef, FormatError> {
    let page = reader
        .record(2, |reader| Ok(PageRef { last_name: read_name(reader)?, tree: read_tree_ref(reader)? }))?;
    if page.tree.entries == 0 { Err(reader.malformed("a page below it is empty")) } else { Ok(page) }
}
