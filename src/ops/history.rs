//! The history of one path: its versions over every series that holds it.

use std::ops::Range;

use super::compare::{Aspect, MetadataScope, compare};
use super::versions::{Place, SnapshotSet, VersionsError, series_of};
use crate::crypto::hash::IdKeys;
use crate::format::tree::{Entry, EntryKind};
use crate::path::TreePath;
use crate::repo::Repository;
use crate::repo::snapshots::Snapshot;

/// The history of a path.
#[derive(Debug)]
pub struct History {
    /// The series that hold it, in the order of the snapshots.
    pub series: Vec<SeriesHistory>,
    /// What could not be read on the way to it.
    pub damage: Vec<VersionsError>,
}

/// The history of a path in one series.
#[derive(Debug)]
pub struct SeriesHistory {
    /// Its versions, oldest first; the first is present or unreadable.
    pub versions: Vec<PathVersion>,
}

/// Snapshots in a row that hold a path in one state.
#[derive(Debug)]
pub struct PathVersion {
    /// The snapshots, as positions in the list that was given.
    pub snapshots: Range<usize>,
    /// What stands there, as the last of the snapshots has it; nothing if it is absent or cannot be read.
    pub entry: Option<Entry>,
    /// What makes it another version than the one before.
    pub step: Step,
}

/// What came between two versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It is there in the oldest snapshot that can be read.
    FirstSeen,
    /// It differs in this. Nothing differs where snapshots that cannot be read stand between.
    Changed(Vec<Aspect>),
    /// The path is no longer there.
    Gone,
    /// The path is there, and was not before.
    Appeared,
    /// It cannot be read: the store is damaged.
    Unreadable,
}

/// Follows `path`, which is not the root, through `snapshots`, of which those of one series stand together, oldest
/// first.
///
/// # Errors
/// [`VersionsError::NotFound`] if no snapshot holds the path; [`VersionsError::Repo`] if the store cannot be read.
pub fn history(repo: &Repository, snapshots: &[Snapshot], path: &TreePath) -> Result<History, VersionsError> {
    let place = Place::find(repo, snapshots, path)?;
    if place.is_nowhere() {
        return Err(VersionsError::NotFound { path: path.clone() });
    }
    let ids = repo.keys().ids();
    let states = states(&place, snapshots.len());
    let mut series = Vec::new();
    for range in series_of(snapshots) {
        let versions = versions(ids, states.get(range.clone()).unwrap_or_default(), range.start);
        if !versions.is_empty() {
            series.push(SeriesHistory { versions });
        }
    }
    let damage = place.unreadable.into_iter().map(|(_, error)| error).collect();
    Ok(History { series, damage })
}

/// What one snapshot has at the path.
#[derive(Debug, Clone, Copy)]
enum State<'a> {
    Absent,
    Unreadable,
    Present(&'a Entry),
}

fn states(place: &Place, snapshots: usize) -> Vec<State<'_>> {
    let mut states = vec![State::Absent; snapshots];
    let mut set = |among: &SnapshotSet, state| {
        for position in among.positions() {
            if let Some(place) = states.get_mut(position) {
                *place = state;
            }
        }
    };
    for variant in &place.variants {
        set(&variant.snapshots, State::Present(&variant.entry));
    }
    for (among, _) in &place.unreadable {
        set(among, State::Unreadable);
    }
    states
}

/// Returns the versions of one series, whose first snapshot stands at `start`.
fn versions(ids: &IdKeys, states: &[State<'_>], start: usize) -> Vec<PathVersion> {
    let mut versions: Vec<PathVersion> = Vec::new();
    // The last state that could be read, which what follows is held against.
    let mut known = None;
    for (position, state) in (start..).zip(states.iter().copied()) {
        let was_seen = versions.iter().any(|version| version.entry.is_some());
        let before = known;
        if !matches!(state, State::Unreadable) {
            known = Some(state);
        }
        let step = match (before, state) {
            (_, State::Unreadable) => Step::Unreadable,
            (Some(State::Present(before)), State::Present(after)) => {
                Step::Changed(aspects(ids, before, after))
            }
            (None, State::Present(_)) => Step::FirstSeen,
            (_, State::Present(_)) => Step::Appeared,
            // What was never seen is not gone.
            (_, State::Absent) if !was_seen => continue,
            (_, State::Absent) => Step::Gone,
        };
        let entry = match state {
            State::Present(entry) => Some(entry),
            _ => None,
        };
        match versions.last_mut().filter(|last| is_continued(last, position, &step)) {
            Some(last) => {
                last.snapshots.end = position + 1;
                last.entry = entry.cloned();
            }
            None => {
                versions.push(PathVersion { snapshots: position..position + 1, entry: entry.cloned(), step })
            }
        }
    }
    versions
}

/// Tells whether the snapshot at `position` goes on with the version before it.
fn is_continued(last: &PathVersion, position: usize, step: &Step) -> bool {
    match step {
        Step::Changed(aspects) => aspects.is_empty() && last.entry.is_some(),
        Step::Gone => last.step == *step,
        Step::Unreadable => last.step == *step && last.snapshots.end == position,
        Step::FirstSeen | Step::Appeared => false,
    }
}

fn aspects(ids: &IdKeys, before: &Entry, after: &Entry) -> Vec<Aspect> {
    let mut aspects = compare(ids, before, after, MetadataScope::Usual);
    if let (EntryKind::Directory(one), EntryKind::Directory(other)) = (&before.kind, &after.kind)
        && one.page != other.page
    {
        aspects.push(Aspect::Below);
        aspects.sort_unstable();
    }
    aspects
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::restore::fixture::{Fixture, entry, path};
    use crate::ops::versions::tests::break_tree;

    /// Returns each version's number of snapshots and step.
    fn steps(history: &History) -> Vec<Vec<(usize, Step)>> {
        let of = |series: &SeriesHistory| {
            series.versions.iter().map(|version| (version.snapshots.len(), version.step.clone())).collect()
        };
        history.series.iter().map(of).collect()
    }

    fn commit(fixture: &Fixture, content: Option<&[u8]>) -> Snapshot {
        fixture.commit(|maker| {
            let file = content.map(|content| maker.file("file", content));
            vec![maker.directory("d", 0o755, file.into_iter().collect()), entry("other", 0, EntryKind::Fifo)]
        })
    }

    #[test]
    fn a_path_comes_changes_goes_and_comes_back() {
        let fixture = Fixture::new();
        let contents = [None, Some("1"), Some("1"), Some("2"), None, None, Some("2"), Some("2")];
        let snapshots: Vec<_> =
            contents.iter().map(|content| commit(&fixture, content.map(str::as_bytes))).collect();
        let found = history(&fixture.repo, &snapshots, &path("d/file")).unwrap();
        let changed = Step::Changed(vec![Aspect::Content]);
        let expected = [vec![(2, Step::Appeared), (1, changed), (2, Step::Gone), (2, Step::Appeared)]];
        assert_eq!(steps(&found), expected);
        assert_eq!(found.series[0].versions[0].snapshots, 1..3);
        let below = history(&fixture.repo, &snapshots, &path("d")).unwrap();
        let below: Vec<usize> = steps(&below)[0].iter().map(|(number, _)| *number).collect();
        assert_eq!(below, [1, 2, 1, 2, 2]);
        let error = history(&fixture.repo, &snapshots, &path("d/file/x")).unwrap_err();
        assert!(matches!(error, VersionsError::NotFound { .. }), "{error}");
    }

    #[test]
    fn series_are_told_apart() {
        let fixture = Fixture::new();
        let mut snapshots =
            vec![commit(&fixture, Some(b"1")), commit(&fixture, None), commit(&fixture, Some(b"2"))];
        snapshots[1].manifest.source = "second".into();
        snapshots[2].manifest.source = "third".into();
        let found = history(&fixture.repo, &snapshots, &path("d/file")).unwrap();
        assert_eq!(steps(&found), [vec![(1, Step::FirstSeen)], vec![(1, Step::FirstSeen)]]);
        assert_eq!(found.series[1].versions[0].snapshots, 2..3);
    }

    #[test]
    fn what_cannot_be_read_is_not_gone() {
        let mut fixture = Fixture::new();
        let snapshots: Vec<_> =
            ["1", "2", "1"].iter().map(|content| commit(&fixture, Some(content.as_bytes()))).collect();
        break_tree(&mut fixture, &snapshots[1].manifest.root);
        let found = history(&fixture.repo, &snapshots, &path("d/file")).unwrap();
        let expected = [vec![(1, Step::FirstSeen), (1, Step::Unreadable), (1, Step::Changed(Vec::new()))]];
        assert_eq!(steps(&found), expected);
        assert_eq!(found.damage.len(), 1);
        let message = found.damage[0].to_string();
        assert_eq!(message, format!("cannot read / of snapshot {}", snapshots[1].manifest.id.short()));
    }
}
