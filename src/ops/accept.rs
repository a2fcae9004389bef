//! Accepting suspicious snapshots: somebody looked, and found them good.
//!
//! How a mark finds its number is left to `repo`.

use crate::format::snapshot::MarkState;
use crate::repo::marks::Marking;
use crate::repo::snapshots::Snapshot;
use crate::repo::{RepoError, Repository};

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceptance {
    /// It was suspicious, and is accepted now.
    Accepted,
    /// It was accepted before; nothing was written.
    AcceptedBefore,
    /// It is not suspicious; nothing was written.
    NotSuspicious,
}

/// Accepts a snapshot, so that `latest` may mean it; notes in `snapshot` that it is accepted.
///
/// # Errors
/// See [`Repository::mark`].
pub fn accept(repo: &Repository, snapshot: &mut Snapshot) -> Result<Acceptance, RepoError> {
    if !snapshot.is_suspicious() {
        return Ok(Acceptance::NotSuspicious);
    }
    let marking = repo.mark(snapshot.manifest.id, MarkState::Accepted)?;
    snapshot.marks.add(MarkState::Accepted);
    Ok(match marking {
        Marking::Made => Acceptance::Accepted,
        Marking::Stood => Acceptance::AcceptedBefore,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::snapshot::Completeness;
    use crate::repo::testing::TestStore;
    use crate::store::ObjectStore;
    use crate::store::key::Prefix;

    fn marks(test: &TestStore) -> usize {
        let mut count = 0;
        test.store.list(Prefix::Marks, &mut |_| count += 1).unwrap();
        count
    }

    #[test]
    fn a_suspicious_snapshot_is_the_latest_once_it_was_accepted() {
        let test = TestStore::new();
        let repo = test.open();
        let good = test.commit(&repo, "db", Completeness::Complete);
        let suspicious = test.commit(&repo, "db", Completeness::Suspicious);
        let latest = || repo.find_snapshot("latest:db").unwrap().manifest.id;
        assert_eq!(latest(), good.id);
        let mut found = repo.find_snapshot(&suspicious.id.hex()).unwrap();
        assert_eq!(accept(&repo, &mut found).unwrap(), Acceptance::Accepted);
        assert!(found.marks.accepted && found.may_be_latest());
        assert_eq!(latest(), suspicious.id);
        let mut again = repo.find_snapshot("latest:db").unwrap();
        assert_eq!(accept(&repo, &mut again).unwrap(), Acceptance::AcceptedBefore);
        assert_eq!(marks(&test), 1);
    }

    #[test]
    fn what_is_not_suspicious_is_left_as_it_is() {
        let test = TestStore::new();
        let repo = test.open();
        for completeness in [Completeness::Complete, Completeness::Partial] {
            let manifest = test.commit(&repo, "db", completeness);
            let mut found = repo.find_snapshot(&manifest.id.hex()).unwrap();
            assert_eq!(accept(&repo, &mut found).unwrap(), Acceptance::NotSuspicious);
            assert!(!found.marks.accepted);
        }
        assert_eq!(marks(&test), 0);
    }
}
