//! What a snapshot reaches: every chunk that reading it takes, in the order of its tree.

use crate::crypto::hash::ChunkKind;
use crate::format::FormatError;
use crate::format::content::{Content, ContentItem, ListNode};
use crate::format::snapshot::Manifest;
use crate::format::tree::{Attributes, Entry, EntryKind, Page, Value};
use crate::id::ChunkId;
use crate::repo::{RepoError, Repository};

/// Whether what a page or a list names is to be visited, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Below {
    /// It is.
    Visit,
    /// It was, and one name for all of it is enough: a chunk is named by its bytes.
    Skip,
}

/// A page or list that waits to be read.
type Waiting = (ChunkKind, ChunkId);

/// Visits every chunk that a snapshot needs, as often as it is named. What was visited before may be skipped with all
/// below it; for chunks of data and spilled values the answer means nothing.
///
/// # Errors
/// Fails if a page or list cannot be read, or as `visit` does.
pub fn each_chunk(
    repo: &Repository,
    manifest: &Manifest,
    visit: &mut dyn FnMut(ChunkKind, &ChunkId) -> Result<Below, RepoError>,
) -> Result<(), RepoError> {
    let mut waiting: Vec<Waiting> = Vec::new();
    spilled(&manifest.root_attributes, visit)?;
    waiting.push((ChunkKind::Tree, manifest.root.page));
    while let Some((kind, id)) = waiting.pop() {
        if visit(kind, &id)? == Below::Skip {
            continue;
        }
        let bytes = repo.chunk(kind, &id)?;
        let damaged = |source| RepoError::Damaged { object: format!("chunk {id}"), source: Some(source) };
        let first = waiting.len();
        if kind == ChunkKind::Tree {
            page(&bytes, visit, &mut waiting).map_err(|error| error.into_repo_error(damaged))?;
        } else {
            list(&bytes, visit, &mut waiting).map_err(|error| error.into_repo_error(damaged))?;
        }
        // The last one is taken first.
        waiting.get_mut(first..).unwrap_or_default().reverse();
    }
    Ok(())
}

/// Why a page or list could not be walked.
enum WalkError {
    Format(FormatError),
    Repo(RepoError),
}

impl WalkError {
    fn into_repo_error(self, damaged: impl FnOnce(FormatError) -> RepoError) -> RepoError {
        match self {
            Self::Format(source) => damaged(source),
            Self::Repo(error) => error,
        }
    }
}

impl From<FormatError> for WalkError {
    fn from(error: FormatError) -> Self {
        Self::Format(error)
    }
}

impl From<RepoError> for WalkError {
    fn from(error: RepoError) -> Self {
        Self::Repo(error)
    }
}

type Visit<'a> = dyn FnMut(ChunkKind, &ChunkId) -> Result<Below, RepoError> + 'a;

fn page(bytes: &[u8], visit: &mut Visit<'_>, waiting: &mut Vec<Waiting>) -> Result<(), WalkError> {
    match Page::decode(bytes)? {
        Page::Entries(entries) => entries.iter().try_for_each(|entry| self::entry(entry, visit, waiting))?,
        Page::Pages { pages, .. } => {
            waiting.extend(pages.into_iter().map(|child| (ChunkKind::Tree, child.tree.page)));
        }
    }
    Ok(())
}

fn entry(entry: &Entry, visit: &mut Visit<'_>, waiting: &mut Vec<Waiting>) -> Result<(), RepoError> {
    spilled(&entry.attributes, visit)?;
    match &entry.kind {
        EntryKind::File(Content::Inline(items)) => data(items, visit)?,
        EntryKind::File(Content::List { node, .. }) => waiting.push((ChunkKind::List, *node)),
        EntryKind::Directory(tree) => waiting.push((ChunkKind::Tree, tree.page)),
        _ => {}
    }
    Ok(())
}

fn list(bytes: &[u8], visit: &mut Visit<'_>, waiting: &mut Vec<Waiting>) -> Result<(), WalkError> {
    match ListNode::decode(bytes)? {
        ListNode::Items(items) => data(&items, visit)?,
        ListNode::Children { children, .. } => {
            waiting.extend(children.into_iter().map(|(node, _)| (ChunkKind::List, node)));
        }
    }
    Ok(())
}

fn data(items: &[ContentItem], visit: &mut Visit<'_>) -> Result<(), RepoError> {
    for item in items {
        if let ContentItem::Data(id, _) = item {
            visit(ChunkKind::Data, id)?;
        }
    }
    Ok(())
}

fn spilled(attributes: &Attributes, visit: &mut Visit<'_>) -> Result<(), RepoError> {
    for xattr in &attributes.xattrs {
        if let Value::Spilled { chunk, .. } = &xattr.value {
            visit(ChunkKind::Tree, chunk)?;
        }
    }
    Ok(())
}
