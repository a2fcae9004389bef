//! Protecting snapshots, so that no policy forgets them.

use crate::format::snapshot::MarkState;
use crate::repo::marks::Marking;
use crate::repo::snapshots::Snapshot;
use crate::repo::{RepoError, Repository};

/// Why a snapshot is not protected.
#[derive(Debug, thiserror::Error)]
pub enum ProtectError {
    /// Somebody forgot it at the same time, so that it may be collected all the same.
    #[error("snapshot {0} was forgotten meanwhile")]
    Forgotten(String),
    /// The store or the index failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

/// Protects a snapshot that is not forgotten; notes in `snapshot` that it is protected.
///
/// # Errors
/// [`ProtectError::Forgotten`], or see [`Repository::mark`].
pub fn protect(repo: &Repository, snapshot: &mut Snapshot) -> Result<Marking, ProtectError> {
    let id = snapshot.manifest.id;
    let marking = repo.mark(id, MarkState::Protected)?;
    // A collector that looked before the mark was there does not know of it: what counts is whether it had reason to
    // take the snapshot for forgotten. It had none if the protection stood before.
    let again = repo.snapshots()?.into_iter().find(|other| other.manifest.id == id);
    match again {
        Some(again) if !again.marks.forgotten || marking == Marking::Stood => {}
        None => return Err(ProtectError::Forgotten(id.short())),
        Some(_) => {
            // Nobody is to take it for protected, and an undo is to find it.
            repo.mark(id, MarkState::Unprotected)?;
            return Err(ProtectError::Forgotten(id.short()));
        }
    }
    snapshot.marks.add(MarkState::Protected);
    Ok(marking)
}

/// Ends the protection of a snapshot; notes in `snapshot` that it did.
///
/// # Errors
/// See [`Repository::mark`].
pub fn end(repo: &Repository, snapshot: &mut Snapshot) -> Result<Marking, RepoError> {
    let marking = repo.mark(snapshot.manifest.id, MarkState::Unprotected)?;
    snapshot.marks.add(MarkState::Unprotected);
    Ok(marking)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::snapshot::Completeness;
    use crate::repo::testing::TestStore;

    #[test]
    fn protection_begins_and_ends() {
        let test = TestStore::new();
        let repo = test.open();
        let id = test.commit(&repo, "db", Completeness::Complete).id;
        let find = || repo.find_snapshot(&id.hex()).unwrap();
        let mut snapshot = find();
        assert_eq!(protect(&repo, &mut snapshot).unwrap(), Marking::Made);
        assert!(snapshot.marks.protected && find().marks.protected);
        assert_eq!(protect(&repo, &mut snapshot).unwrap(), Marking::Stood);
        assert_eq!(end(&repo, &mut snapshot).unwrap(), Marking::Made);
        assert!(!snapshot.marks.protected && !find().marks.protected);
        assert_eq!(end(&repo, &mut snapshot).unwrap(), Marking::Stood);
    }

    #[test]
    fn what_was_forgotten_meanwhile_is_told() {
        let test = TestStore::new();
        let repo = test.open();
        let id = test.commit(&repo, "db", Completeness::Complete).id;
        let mut snapshot = repo.find_snapshot(&id.hex()).unwrap();
        repo.mark(id, MarkState::Forgotten).unwrap();
        assert!(matches!(protect(&repo, &mut snapshot), Err(ProtectError::Forgotten(_))));
        assert!(!snapshot.marks.protected);
        // It is forgotten as before, so that an undo finds it.
        assert!(repo.snapshots().unwrap().is_empty());
        assert!(repo.find_forgotten(&id.hex()).is_ok());
    }

    #[test]
    fn what_somebody_forgot_all_the_same_stays_protected() {
        let test = TestStore::new();
        let repo = test.open();
        let id = test.commit(&repo, "db", Completeness::Complete).id;
        let mut snapshot = repo.find_snapshot(&id.hex()).unwrap();
        protect(&repo, &mut snapshot).unwrap();
        repo.mark(id, MarkState::Forgotten).unwrap();
        assert_eq!(protect(&repo, &mut snapshot).unwrap(), Marking::Stood);
        assert!(repo.find_snapshot(&id.hex()).unwrap().marks.protected);
    }
}
