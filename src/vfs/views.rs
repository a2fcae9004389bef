//! The directories above the snapshots: a pure function of the list of snapshots.
//!
//! `snapshots/` holds the snapshots themselves; every other view holds symbolic links into it, so that a
//! file has one inode and one place in the page cache, whichever way it is reached.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::listing::Generation;
use crate::format::snapshot::Manifest;
use crate::format::tree::Time;
use crate::path::Name;
use crate::repo::snapshots::Snapshot;

/// Nanoseconds of a second.
const NANOSECONDS: u64 = 1_000_000_000;
/// The view that holds the snapshots themselves.
const SNAPSHOTS: &str = "snapshots";

/// What stands in a view.
#[derive(Debug, Clone)]
pub(super) enum ViewNode {
    /// Another view.
    Directory(Arc<ViewDirectory>),
    /// A symbolic link: its target, and the time of the snapshot it leads to.
    Link { target: Arc<[u8]>, time: Time },
    /// A snapshot.
    Snapshot(Arc<Manifest>),
}

/// One directory of a view, sorted by name.
#[derive(Debug, Default)]
pub(super) struct ViewDirectory {
    nodes: BTreeMap<Name, ViewNode>,
    /// The time of the newest snapshot that it shows, in whole seconds. The nanoseconds are those of the generation: the
    /// kernel keeps a list for as long as the time of the directory is the same.
    time: Time,
}

impl ViewDirectory {
    pub(super) fn nodes(&self) -> &BTreeMap<Name, ViewNode> {
        &self.nodes
    }

    pub(super) fn time(&self) -> Time {
        self.time
    }

    /// Returns the view that lies at `path` below this one.
    pub(super) fn directory(self: &Arc<Self>, path: &[Name]) -> Option<Arc<Self>> {
        path.iter().try_fold(Arc::clone(self), |directory, name| match directory.nodes.get(name)? {
            ViewNode::Directory(inner) => Some(Arc::clone(inner)),
            ViewNode::Link { .. } | ViewNode::Snapshot(_) => None,
        })
    }
}

/// Arranges `snapshots` (oldest first) as the directories of a mount. Those of two generations have different times.
pub(super) fn arrange(snapshots: &[Snapshot], generation: Generation) -> Arc<ViewDirectory> {
    let clashing = clashing_sources(snapshots);
    let mut root = Draft::default();
    for view in [SNAPSHOTS, "sources", "hosts", "tags"] {
        root.directory(&[component(view)]);
    }
    let mut taken = BTreeSet::new();
    let mut latest = None;
    for snapshot in snapshots {
        let manifest = Arc::new(snapshot.manifest.clone());
        let name = snapshot_name(snapshot, &mut taken);
        let place = Placement { manifest: &manifest, name: &name, latest: snapshot.may_be_latest() };
        let (source, host) = (component(&manifest.source), component(&manifest.host));
        root.directory(&[snapshots_directory()]).insert(name.clone(), place.node());
        let series = if clashing.contains(manifest.source.as_str()) {
            vec![component("sources"), host.clone(), source.clone()]
        } else {
            vec![component("sources"), source.clone()]
        };
        place.link_in(&mut root, &series);
        place.link_in(&mut root, &[component("hosts"), host, source]);
        for tag in &manifest.tags {
            place.link_in(&mut root, &[component("tags"), component(tag)]);
        }
        if place.latest {
            latest = Some(link_to(&manifest, &name, 0));
        }
    }
    if let Some(latest) = latest.filter(|_| single_series(snapshots)) {
        root.insert(component("latest"), latest);
    }
    let newest = snapshots.iter().map(|snapshot| snapshot_time(&snapshot.manifest)).max().unwrap_or_default();
    let nanoseconds = u32::try_from(generation % NANOSECONDS).unwrap_or_default();
    Arc::new(root.finish(Time { nanoseconds, ..newest }))
}

/// Returns the name of the view that holds the snapshots themselves.
pub(super) fn snapshots_directory() -> Name {
    component(SNAPSHOTS)
}

/// A view that is being filled.
#[derive(Debug, Default)]
struct Draft {
    directories: BTreeMap<Name, Draft>,
    nodes: BTreeMap<Name, ViewNode>,
}

impl Draft {
    fn directory(&mut self, path: &[Name]) -> &mut Self {
        path.iter().fold(self, |draft, name| draft.directories.entry(name.clone()).or_default())
    }

    fn insert(&mut self, name: Name, node: ViewNode) {
        self.nodes.insert(name, node);
    }

    /// A directory hides a link of the same name: what lies below it would be out of reach otherwise.
    /// An empty view shows the time of the `newest` snapshot: it was listed then and was empty. All views share its
    /// nanoseconds.
    fn finish(self, newest: Time) -> ViewDirectory {
        let mut nodes = self.nodes;
        for (name, draft) in self.directories {
            nodes.insert(name, ViewNode::Directory(Arc::new(draft.finish(newest))));
        }
        let shown = nodes.values().map(node_time).max().unwrap_or(newest);
        ViewDirectory { nodes, time: Time { nanoseconds: newest.nanoseconds, ..shown } }
    }
}

/// A snapshot on its way into the views.
struct Placement<'a> {
    manifest: &'a Arc<Manifest>,
    name: &'a Name,
    latest: bool,
}

impl Placement<'_> {
    fn node(&self) -> ViewNode {
        ViewNode::Snapshot(Arc::clone(self.manifest))
    }

    fn link_in(&self, root: &mut Draft, path: &[Name]) {
        let link = link_to(self.manifest, self.name, path.len());
        let directory = root.directory(path);
        // Snapshots come oldest first, so the last one to take this name is the newest.
        if self.latest {
            directory.insert(component("latest"), link.clone());
        }
        directory.insert(self.name.clone(), link);
    }
}

fn link_to(manifest: &Manifest, name: &Name, depth: usize) -> ViewNode {
    let mut target = b"../".repeat(depth);
    target.extend_from_slice(SNAPSHOTS.as_bytes());
    target.push(b'/');
    target.extend_from_slice(name.as_bytes());
    ViewNode::Link { target: target.into(), time: snapshot_time(manifest) }
}

fn single_series(snapshots: &[Snapshot]) -> bool {
    let series: BTreeSet<_> = snapshots.iter().map(|s| (&s.manifest.host, &s.manifest.source)).collect();
    series.len() == 1
}

fn clashing_sources(snapshots: &[Snapshot]) -> BTreeSet<&str> {
    let mut hosts: BTreeMap<&str, &str> = BTreeMap::new();
    let mut clashing = BTreeSet::new();
    for Snapshot { manifest, .. } in snapshots {
        if *hosts.entry(&manifest.source).or_insert(&manifest.host) != manifest.host {
            clashing.insert(manifest.source.as_str());
        }
    }
    clashing
}

/// Returns the snapshot's usual name; two snapshots that would share it show their whole id.
fn snapshot_name(snapshot: &Snapshot, taken: &mut BTreeSet<Name>) -> Name {
    let usual = component(&snapshot.display_name());
    let name = if taken.contains(&usual) { component(&snapshot.manifest.id.to_string()) } else { usual };
    taken.insert(name.clone());
    name
}

fn snapshot_time(manifest: &Manifest) -> Time {
    Time { seconds: manifest.time.as_second(), nanoseconds: 0 }
}

fn node_time(node: &ViewNode) -> Time {
    match node {
        ViewNode::Directory(directory) => directory.time,
        ViewNode::Link { time, .. } => *time,
        ViewNode::Snapshot(manifest) => snapshot_time(manifest),
    }
}

/// Returns `text` as a name: hosts and tags may hold what no file name can.
fn component(text: &str) -> Name {
    let replaced: String =
        text.chars().take(200).map(|c| if matches!(c, '/' | '\0') { '_' } else { c }).collect();
    let fallback = || component(&format!("_{replaced}"));
    Name::new(replaced.as_bytes()).unwrap_or_else(|_| fallback())
}

#[cfg(test)]
mod tests {
    use super::super::support::manifest;
    use super::*;
    use crate::format::snapshot::{Completeness, MarkState, Marks};
    use crate::format::tree::TreeRef;
    use crate::id::ChunkId;

    fn snapshot(day: u8, host: &str, source: &str) -> Snapshot {
        let id = format!("202611{day:02}T053106Z-{day:02}23456789abcdef0123456789abcdef").parse().unwrap();
        let root = TreeRef { page: ChunkId::from_bytes([0; 32]), entries: 0, bytes: 0 };
        Snapshot {
            manifest: manifest(id, host, source, root),
            marks: Marks::default(),
            forgotten_since: None,
        }
    }

    /// Returns all paths, with the targets of links.
    fn paths(root: &ViewDirectory) -> Vec<String> {
        let mut paths = Vec::new();
        for (name, node) in root.nodes() {
            match node {
                ViewNode::Snapshot(_) => paths.push(format!("{name}")),
                ViewNode::Link { target, .. } => {
                    paths.push(format!("{name} -> {}", String::from_utf8_lossy(target)));
                }
                ViewNode::Directory(inner) => {
                    paths.push(format!("{name}/"));
                    paths.extend(self::paths(inner).into_iter().map(|path| format!("{name}/{path}")));
                }
            }
        }
        paths
    }

    #[test]
    fn an_empty_store_shows_empty_views() {
        assert_eq!(paths(&arrange(&[], 0)), ["hosts/", "snapshots/", "sources/", "tags/"]);
    }

    #[test]
    fn a_single_series_has_a_latest_at_the_root() {
        let mut tagged = snapshot(2, "h", "etc");
        tagged.manifest.tags = vec!["before/upgrade".to_owned()];
        let root = arrange(&[snapshot(1, "h", "etc"), tagged], 7);
        let (old, new) = ("2026-11-01T05-31-06Z-01234567", "2026-11-02T05-31-06Z-02234567");
        assert_eq!(
            paths(&root),
            [
                "hosts/".to_owned(),
                "hosts/h/".to_owned(),
                "hosts/h/etc/".to_owned(),
                format!("hosts/h/etc/{old} -> ../../../snapshots/{old}"),
                format!("hosts/h/etc/{new} -> ../../../snapshots/{new}"),
                format!("hosts/h/etc/latest -> ../../../snapshots/{new}"),
                format!("latest -> snapshots/{new}"),
                "snapshots/".to_owned(),
                format!("snapshots/{old}"),
                format!("snapshots/{new}"),
                "sources/".to_owned(),
                "sources/etc/".to_owned(),
                format!("sources/etc/{old} -> ../../snapshots/{old}"),
                format!("sources/etc/{new} -> ../../snapshots/{new}"),
                format!("sources/etc/latest -> ../../snapshots/{new}"),
                "tags/".to_owned(),
                "tags/before_upgrade/".to_owned(),
                format!("tags/before_upgrade/{new} -> ../../snapshots/{new}"),
                format!("tags/before_upgrade/latest -> ../../snapshots/{new}"),
            ]
        );
        let newest = snapshot_time(&snapshot(2, "h", "etc").manifest);
        assert_eq!(root.time(), Time { nanoseconds: 7, ..newest });
    }

    #[test]
    fn a_source_of_two_hosts_stands_below_each() {
        let listed =
            paths(&arrange(&[snapshot(1, "a", "etc"), snapshot(2, "b", "etc"), snapshot(3, "b", "db")], 0));
        let sources: Vec<_> =
            listed.iter().filter(|path| path.starts_with("sources/") && path.ends_with('/')).collect();
        assert_eq!(
            sources,
            ["sources/", "sources/a/", "sources/a/etc/", "sources/b/", "sources/b/etc/", "sources/db/"]
        );
        assert!(!listed.iter().any(|path| path.starts_with("latest")));
    }

    #[test]
    fn a_suspicious_snapshot_is_latest_only_once_it_was_accepted() {
        let mut suspicious = snapshot(2, "h", "db");
        suspicious.manifest.completeness = Completeness::Suspicious;
        let latest = |snapshots: &[Snapshot]| {
            let found = paths(&arrange(snapshots, 0));
            found.iter().find(|path| path.starts_with("latest")).cloned()
        };
        let good = snapshot(1, "h", "db");
        let expected = |day| Some(format!("latest -> snapshots/2026-11-{day}T05-31-06Z-{day}234567"));
        assert_eq!(latest(&[good.clone(), suspicious.clone()]), expected("01"));
        assert_eq!(latest(std::slice::from_ref(&suspicious)), None);
        suspicious.marks.add(MarkState::Protected);
        assert_eq!(latest(&[good.clone(), suspicious.clone()]), expected("01"));
        suspicious.marks.add(MarkState::Accepted);
        assert_eq!(latest(&[good, suspicious]), expected("02"));
    }

    #[test]
    fn equal_short_names_are_told_apart() {
        let first = snapshot(1, "h", "db");
        let mut second = first.clone();
        second.manifest.id = "20261101T053106Z-0123456789abcdef0123456789abcdee".parse().unwrap();
        let shown = paths(&arrange(&[first, second], 0));
        assert_eq!(shown.iter().filter(|path| path.starts_with("snapshots/2026")).count(), 2);
    }

    #[test]
    fn any_text_becomes_a_name() {
        for text in ["", ".", "..", "/", "a/b\0c", &"x".repeat(5000)] {
            assert!(!component(text).as_bytes().is_empty());
        }
        assert_eq!(component("a/b").as_bytes(), b"a_b");
    }
}
