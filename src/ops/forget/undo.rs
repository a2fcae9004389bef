//! Undoing that a snapshot was forgotten.
//!
//! Packs that it needs may be about to go, and whoever deletes them may sleep at any step. So an undo is a session
//! like any other: it sees to it that all it needs can be relied on, and commits the old tree as a new snapshot, with
//! the time and all else of the old one. The old one stays forgotten.

use std::collections::HashSet;

use crate::format::snapshot::{Manifest, Marks};
use crate::ops::accept::accept;
use crate::ops::reach::{self, Below};
use crate::repo::session::{DamagedPacks, SessionOptions, SessionWriter};
use crate::repo::snapshots::Snapshot;
use crate::repo::{RepoError, Repository};

/// What came of an undo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undone {
    /// It is back as this new snapshot.
    Now(Snapshot),
    /// It was brought back before, as this one, and nothing was committed.
    Before(Snapshot),
}

impl Undone {
    /// Returns the snapshot that has its tree now.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        match self {
            Self::Now(snapshot) | Self::Before(snapshot) => snapshot,
        }
    }

    fn snapshot_mut(&mut self) -> &mut Snapshot {
        match self {
            Self::Now(snapshot) | Self::Before(snapshot) => snapshot,
        }
    }
}

/// Why a snapshot cannot be brought back.
#[derive(Debug, thiserror::Error)]
pub enum UndoError {
    /// It was not forgotten.
    #[error("snapshot {0} was not forgotten")]
    NotForgotten(String),
    /// A part of it has been collected, or is about to be.
    #[error("snapshot {0} cannot be brought back: a garbage collection has taken some of it, or is about to")]
    Collected(String),
    /// The store or the index failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

/// Brings a forgotten snapshot back, unless it is back already. If it was accepted, what has its tree now is, too.
///
/// # Errors
/// [`UndoError::NotForgotten`], [`UndoError::Collected`], or a failure of the store.
pub fn undo(repo: &Repository, forgotten: &Snapshot) -> Result<Undone, UndoError> {
    let old = &forgotten.manifest;
    if !forgotten.marks.is_forgotten() {
        return Err(UndoError::NotForgotten(old.id.short()));
    }
    let twin = repo.snapshots()?.into_iter().find(|snapshot| is_twin(&snapshot.manifest, old));
    let mut undone = match twin {
        Some(twin) => Undone::Before(twin),
        None => Undone::Now(Snapshot {
            manifest: commit_again(repo, old)?,
            marks: Marks::default(),
            forgotten_since: None,
        }),
    };
    // Also if it was back before: an earlier undo may have ended between its commit and this mark.
    if forgotten.marks.accepted {
        accept(repo, undone.snapshot_mut())?;
    }
    Ok(undone)
}

/// Tells whether `other` is what an undo makes of `old`.
fn is_twin(other: &Manifest, old: &Manifest) -> bool {
    other.root == old.root && other.time == old.time && other.source == old.source && other.host == old.host
}

/// Commits the tree of a snapshot under a new id.
fn commit_again(repo: &Repository, old: &Manifest) -> Result<Manifest, UndoError> {
    // What is damaged is as readable under the new name as it was under the old one.
    let damaged = DamagedPacks::Keep;
    let options = SessionOptions { threads: 1, damaged, ..SessionOptions::new(&old.source) };
    let session = SessionWriter::open(repo, options)?;
    if !is_usable(repo, &session, old)? {
        session.abandon()?;
        return Err(UndoError::Collected(old.id.short()));
    }
    // Copies of it in other stores are copies of the new one as well.
    let (manifest, _) = session.commit(Manifest { origin: Some(old.identity()), ..old.clone() })?;
    Ok(manifest)
}

/// Tells whether everything that a snapshot needs may be relied on by a session.
fn is_usable(repo: &Repository, session: &SessionWriter, manifest: &Manifest) -> Result<bool, RepoError> {
    let mut seen = HashSet::new();
    let mut usable = true;
    let walked = reach::each_chunk(repo, manifest, &mut |_, id| {
        if !usable || !seen.insert(*id) {
            return Ok(Below::Skip);
        }
        usable = session.contains(id)?;
        Ok(if usable { Below::Visit } else { Below::Skip })
    });
    match walked {
        Ok(()) => Ok(usable),
        Err(error) if error.is_damage() => Ok(false),
        Err(error) => Err(error),
    }
}
