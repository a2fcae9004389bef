//! What references say of pages and list nodes, held against what these are.

use crate::format::content::{ContentItem, ListNode};
use crate::format::tree::{Entry, EntryKind, Page, PageRef, TreeRef};
use crate::id::ChunkId;
use crate::path::Name;
use crate::progress::error_chain;

/// A reference to a page, with all that it says of it.
#[derive(Hash)]
pub(super) struct PageClaim {
    pub(super) page: ChunkId,
    entries: u64,
    bytes: u64,
    /// What only the page above knows; the topmost page may be of any level.
    below: Option<BelowPage>,
}

#[derive(Hash)]
struct BelowPage {
    level: u8,
    last_name: Name,
    /// The last name of the page before.
    after: Option<Name>,
}

/// A reference to a list node, with all that it says of it; the topmost node may be of any level.
#[derive(Hash)]
pub(super) struct NodeClaim {
    pub(super) node: ChunkId,
    pub(super) length: u64,
    pub(super) level: Option<u8>,
}

/// What is to be walked of a page.
pub(super) enum Step {
    Page(PageClaim),
    Entry(Box<Entry>),
}

impl PageClaim {
    /// Returns what is said of the topmost page of a directory.
    pub(super) fn topmost(tree: &TreeRef) -> Self {
        Self { page: tree.page, entries: tree.entries, bytes: tree.bytes, below: None }
    }

    /// Decodes the page, holds it against the claim, and returns what is to be walked of it.
    pub(super) fn steps(&self, bytes: &[u8]) -> Result<Vec<Step>, String> {
        let page = Page::decode(bytes).map_err(|error| error_chain(&error))?;
        let level = match &page {
            Page::Entries(_) => 0,
            Page::Pages { level, .. } => *level,
        };
        if self.below.as_ref().is_some_and(|below| below.level != level) {
            return Err(format!("it is a page of level {level} where another belongs"));
        }
        let (first, last) = names(&page);
        if let Some(below) = &self.below
            && (last != Some(&below.last_name) || first <= below.after.as_ref())
        {
            return Err("its names are not those that the page above it says".into());
        }
        if totals(&page) != (self.entries, self.bytes) {
            return Err("it has not as many entries or bytes as is said where it belongs".into());
        }
        Ok(match page {
            Page::Entries(entries) => entries.into_iter().map(|entry| Step::Entry(Box::new(entry))).collect(),
            Page::Pages { level, pages } => self.children(level, pages),
        })
    }

    fn children(&self, level: u8, pages: Vec<PageRef>) -> Vec<Step> {
        let mut after = self.below.as_ref().and_then(|below| below.after.clone());
        let step = |child: PageRef| {
            let after = after.replace(child.last_name.clone());
            let below = BelowPage { level: level.saturating_sub(1), last_name: child.last_name, after };
            Step::Page(Self { below: Some(below), ..Self::topmost(&child.tree) })
        };
        pages.into_iter().map(step).collect()
    }
}

/// Returns the first and the last name that a page itself holds.
fn names(page: &Page) -> (Option<&Name>, Option<&Name>) {
    match page {
        Page::Entries(entries) => {
            (entries.first().map(|entry| &entry.name), entries.last().map(|entry| &entry.name))
        }
        Page::Pages { pages, .. } => {
            (pages.first().map(|child| &child.last_name), pages.last().map(|child| &child.last_name))
        }
    }
}

/// Returns how many entries are below a page, and how many bytes the files among them have.
fn totals(page: &Page) -> (u64, u64) {
    let add = |(entries, bytes): (u64, u64), (more_entries, more_bytes)| {
        (entries.saturating_add(more_entries), bytes.saturating_add(more_bytes))
    };
    match page {
        Page::Entries(entries) => {
            let of_entry = |entry: &Entry| match &entry.kind {
                EntryKind::File(content) => (1, content.length()),
                _ => (1, 0),
            };
            entries.iter().map(of_entry).fold((0, 0), add)
        }
        Page::Pages { pages, .. } => {
            pages.iter().map(|child| (child.tree.entries, child.tree.bytes)).fold((0, 0), add)
        }
    }
}

impl NodeClaim {
    /// Decodes the node and holds it against the claim.
    pub(super) fn decode(&self, bytes: &[u8]) -> Result<ListNode, String> {
        let node = ListNode::decode(bytes).map_err(|error| error_chain(&error))?;
        let (level, length) = match &node {
            ListNode::Items(items) => (0, items.iter().map(ContentItem::length).fold(0, u64::saturating_add)),
            ListNode::Children { level, children } => {
                (*level, children.iter().map(|(_, length)| *length).fold(0, u64::saturating_add))
            }
        };
        if length != self.length || self.level.is_some_and(|expected| expected != level) {
            return Err("it is not the list of pieces that belongs there".into());
        }
        Ok(node)
    }
}
