//! Change detection: which files need not be read again.

use super::metadata::FileStat;
use crate::crypto::hash::ChunkKind;
use crate::format::content::{Content, ContentItem, ListNode};
use crate::id::ChunkId;
use crate::index::KnownFile;
use crate::repo::session::SessionWriter;
use crate::repo::{RepoError, Repository};

/// A file that changed this shortly before the run may change again without another time stamp, on file systems
/// that count whole or even seconds only.
const TIME_STAMP_SECONDS: i64 = 2;

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
pub(super) fn is_usable(
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
