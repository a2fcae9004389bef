//! What people call snapshots: finding the one that is meant among those that are listed.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::snapshots::{Snapshot, Which};
use super::{RepoError, Repository};
use crate::format::snapshot::Manifest;
use crate::id::SnapshotId;

impl Repository {
    /// Finds the one snapshot that `name` means: `latest`, `latest:SOURCE`, `latest:HOST/SOURCE`, the beginning of
    /// an id, a time to the second (`2026-11-21T05:31:06Z`), or the name it has in a mount. Where no snapshot has such an
    /// id, the copy is meant whose origin has it.
    ///
    /// # Errors
    /// [`RepoError::NoSnapshot`]; [`RepoError::ForgottenSnapshot`] where only forgotten ones have that name;
    /// [`RepoError::AmbiguousSnapshot`], which lists the candidates; or [`RepoError::OnlySuspicious`] where the latest
    /// of several is meant and none may be that.
    pub fn find_snapshot(&self, name: &str) -> Result<Snapshot, RepoError> {
        let snapshots = self.list_or_mend(Which::Kept, &|id| may_mean(name, id))?;
        let found = match self.find_among(snapshots, name) {
            // Only the manifests of copies say what their origins are called.
            Err(RepoError::NoSnapshot(_) | RepoError::ForgottenSnapshot { .. }) => {
                self.find_among(self.snapshots()?, name)?
            }
            found => found?,
        };
        // Whoever looks for one is about to read it.
        self.feed.prefer(found.manifest.id);
        Ok(found)
    }

    /// Finds the one snapshot that `name` means, as [`Self::find_snapshot`] does, among those that were listed.
    ///
    /// # Errors
    /// As [`Self::find_snapshot`].
    pub fn find_among(&self, snapshots: Vec<Snapshot>, name: &str) -> Result<Snapshot, RepoError> {
        if name == "latest" {
            return only_series(name, snapshots);
        }
        if let Some(series) = name.strip_prefix("latest:") {
            return self.latest_of(snapshots, name, series);
        }
        let mut found = named(snapshots, name);
        let name = name.to_owned();
        match found.len() {
            0 => Err(match named(self.forgotten_that_may_be(&name)?, &name) {
                none if none.is_empty() => RepoError::NoSnapshot(name),
                forgotten => RepoError::ForgottenSnapshot { name, candidates: display_names(&forgotten) },
            }),
            1 => Ok(found.swap_remove(0)),
            _ => Err(RepoError::AmbiguousSnapshot { name, candidates: display_names(&found) }),
        }
    }

    /// Finds the one forgotten snapshot that `name` means: the beginning of an id, a time to the second, or the name
    /// that it had in a mount.
    ///
    /// # Errors
    /// [`RepoError::NoForgotten`], or [`RepoError::AmbiguousForgotten`], which lists the candidates.
    pub fn find_forgotten(&self, name: &str) -> Result<Snapshot, RepoError> {
        let mut found = named(self.forgotten_that_may_be(name)?, name);
        let name = name.to_owned();
        match found.len() {
            0 => Err(RepoError::NoForgotten(name)),
            1 => Ok(found.swap_remove(0)),
            _ => Err(RepoError::AmbiguousForgotten { name, candidates: display_names(&found) }),
        }
    }

    fn forgotten_that_may_be(&self, name: &str) -> Result<Vec<Snapshot>, RepoError> {
        self.list_or_mend(Which::Forgotten, &|id| may_mean(name, id))
    }

    /// This host's series first, else the only host that has one of that name.
    fn latest_of(&self, snapshots: Vec<Snapshot>, name: &str, series: &str) -> Result<Snapshot, RepoError> {
        let wanted: Box<dyn Fn(&Manifest) -> bool> = match series.rsplit_once('/') {
            Some((host, source)) => {
                Box::new(move |manifest| manifest.host == host && manifest.source == source)
            }
            None => {
                let here = &self.writer.host;
                let own = snapshots
                    .iter()
                    .any(|found| found.manifest.source == series && found.manifest.host == *here);
                Box::new(move |manifest| manifest.source == series && (!own || manifest.host == *here))
            }
        };
        let found: Vec<Snapshot> =
            snapshots.into_iter().filter(|snapshot| wanted(&snapshot.manifest)).collect();
        only_series(name, found)
    }
}

/// Tells whether a name may mean the snapshot of this id, as far as the id tells: its manifest need not be read otherwise.
/// All names but times and `latest` end with an id, or with how one begins.
fn may_mean(name: &str, id: SnapshotId) -> bool {
    if name == "latest" || name.starts_with("latest:") || name.parse::<Timestamp>().is_ok() {
        return true;
    }
    let last = name.rsplit('-').next().unwrap_or_default();
    id.hex().starts_with(&last.to_ascii_lowercase())
}

/// Returns the snapshots that have this name: the beginning of an id, a time to the second, or the name in a mount. If there
/// are none, the copies whose origins have it, so that the id in a runbook means the same in every store.
fn named(snapshots: Vec<Snapshot>, name: &str) -> Vec<Snapshot> {
    let time: Option<Timestamp> = name.parse().ok();
    let is_called = |snapshot: &Snapshot, id: SnapshotId| {
        let hex_prefix = name.len() >= 4 && id.hex().starts_with(&name.to_ascii_lowercase());
        hex_prefix || snapshot.display_name_of(id) == name || id.to_string() == name
    };
    let is_meant = |snapshot: &Snapshot| {
        let same_second = time.is_some_and(|time| time.as_second() == snapshot.manifest.time.as_second());
        same_second || is_called(snapshot, snapshot.manifest.id)
    };
    let (found, mut others): (Vec<_>, Vec<_>) = snapshots.into_iter().partition(is_meant);
    if found.is_empty() {
        others.retain(|snapshot| snapshot.manifest.origin.is_some_and(|origin| is_called(snapshot, origin)));
        return others;
    }
    found
}

fn display_names(snapshots: &[Snapshot]) -> String {
    snapshots.iter().map(Snapshot::display_name).collect::<Vec<_>>().join(", ")
}

/// Returns the newest of `snapshots` (sorted by time) if all are of one series; `name` is what was asked for.
fn only_series(name: &str, snapshots: Vec<Snapshot>) -> Result<Snapshot, RepoError> {
    let series: BTreeSet<String> = snapshots
        .iter()
        .map(|snapshot| format!("latest:{}/{}", snapshot.manifest.host, snapshot.manifest.source))
        .collect();
    if series.len() > 1 {
        let candidates = series.into_iter().collect::<Vec<_>>().join(", ");
        return Err(RepoError::AmbiguousSnapshot { name: name.to_owned(), candidates });
    }
    let newest = snapshots.last().map(Snapshot::display_name);
    snapshots.into_iter().rev().find(Snapshot::may_be_latest).ok_or_else(|| match newest {
        Some(newest) => RepoError::OnlySuspicious { name: name.to_owned(), newest },
        None => RepoError::NoSnapshot(name.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::format::snapshot::{Completeness, MarkState};
    use crate::repo::testing::TestStore;
    use crate::store::ObjectStore;
    use crate::store::fault::{FaultStore, Operation};

    #[test]
    fn where_all_are_suspicious_latest_says_so_and_by_which_name() {
        let test = TestStore::new();
        let repo = test.open();
        let error = |name: &str| repo.find_snapshot(name).unwrap_err();
        assert!(matches!(error("latest"), RepoError::NoSnapshot(name) if name == "latest"));
        test.commit(&repo, "db", Completeness::Suspicious);
        let newest = test.commit(&repo, "db", Completeness::Suspicious);
        for asked in ["latest", "latest:db", "latest:testhost/db"] {
            match error(asked) {
                RepoError::OnlySuspicious { name, newest: shown } => {
                    assert_eq!(name, asked);
                    assert!(shown.ends_with(&newest.id.short()), "{shown}");
                }
                other => panic!("{asked}: {other}"),
            }
        }
        assert!(matches!(error("latest:none"), RepoError::NoSnapshot(name) if name == "latest:none"));
        assert!(matches!(error("latest:other/db"), RepoError::NoSnapshot(name) if name == "latest:other/db"));
        for name in [newest.id.hex(), newest.id.short(), newest.time.to_string()] {
            assert_eq!(repo.find_snapshot(&name).unwrap().manifest.id, newest.id);
        }
        test.commit(&repo, "etc", Completeness::Complete);
        assert!(matches!(error("latest"), RepoError::AmbiguousSnapshot { name, .. } if name == "latest"));
    }

    #[test]
    fn of_what_a_name_cannot_mean_nothing_is_read() {
        let mut test = TestStore::new();
        let repo = test.open();
        let all: Vec<_> = (0..5).map(|_| test.commit(&repo, "db", Completeness::Complete)).collect();
        for manifest in &all {
            repo.mark(manifest.id, MarkState::Protected).unwrap();
        }
        let wanted = &all[3];
        let display_name = repo.find_snapshot(&wanted.id.hex()).unwrap().display_name();
        for name in [wanted.id.hex(), wanted.id.short().to_uppercase(), wanted.id.to_string(), display_name] {
            drop(test.open_cold());
            let watched = Arc::new(FaultStore::new(Arc::clone(&test.store) as Arc<dyn ObjectStore>));
            let repo = test.open_through(Arc::clone(&watched) as Arc<dyn ObjectStore>);
            watched.clear_calls();
            assert_eq!(repo.find_snapshot(&name).unwrap().manifest.id, wanted.id, "{name}");
            assert_eq!(watched.count(Operation::Get), 2, "{name}: a manifest and a mark");
        }
        let by_time = repo.find_snapshot(&wanted.time.to_string()).unwrap();
        assert_eq!(by_time.manifest.id, wanted.id);
    }
}
