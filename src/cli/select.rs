//! Which snapshots a command looks at, and how a set of them is shown.

use clap::Args;
use serde_json::{Value, json};

use crate::format::snapshot::Manifest;
use crate::ops::versions::SnapshotSet;
use crate::repo::snapshots::Snapshot;

/// Options that choose series.
#[derive(Debug, Args)]
pub(super) struct SeriesFilter {
    /// Only snapshots of this source; may be repeated
    #[arg(long = "source", id = "source", value_name = "SOURCE")]
    sources: Vec<String>,
    /// Only snapshots of this host
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
}

impl SeriesFilter {
    /// Tells whether a snapshot is of a series that is chosen.
    pub(super) fn matches(&self, manifest: &Manifest) -> bool {
        (self.sources.is_empty() || self.sources.contains(&manifest.source))
            && self.host.as_ref().is_none_or(|host| *host == manifest.host)
    }
}

/// Options that choose snapshots by what they are of.
#[derive(Debug, Args)]
pub(super) struct SnapshotFilter {
    #[command(flatten)]
    series: SeriesFilter,
    /// Only snapshots with this tag; if repeated, with all of them
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
}

impl SnapshotFilter {
    /// Tells whether a snapshot is chosen.
    pub(super) fn matches(&self, manifest: &Manifest) -> bool {
        self.series.matches(manifest) && self.tags.iter().all(|tag| manifest.tags.contains(tag))
    }
}

/// Puts the snapshots of a series together, oldest first, and leaves out repetitions.
pub(super) fn sort_by_series(snapshots: &mut Vec<Snapshot>) {
    snapshots.sort_by(|one, other| {
        let (one, other) = (&one.manifest, &other.manifest);
        (&one.source, &one.host, one.time, one.id).cmp(&(&other.source, &other.host, other.time, other.id))
    });
    snapshots.dedup_by_key(|snapshot| snapshot.manifest.id);
}

/// Returns `first..last` as people read it, or the only one.
pub(super) fn span(snapshots: &[Snapshot], first: Option<usize>, last: Option<usize>) -> String {
    let name = |position: Option<usize>| {
        let snapshot = position.and_then(|position| snapshots.get(position));
        snapshot.map_or_else(String::new, |snapshot| snapshot.manifest.id.short())
    };
    if first == last { name(first) } else { format!("{}..{}", name(first), name(last)) }
}

/// Returns how many snapshots a set has, and the first and the last, as programs read it.
pub(super) fn set_document(snapshots: &[Snapshot], set: &SnapshotSet) -> Value {
    range_document(snapshots, set.len(), set.first(), set.last())
}

/// Returns a number of snapshots, and the first and the last, as programs read it.
pub(super) fn range_document(
    snapshots: &[Snapshot],
    count: usize,
    first: Option<usize>,
    last: Option<usize>,
) -> Value {
    let one = |position: Option<usize>| {
        let snapshot = position.and_then(|position| snapshots.get(position));
        snapshot.map(|snapshot| {
            json!({ "id": snapshot.manifest.id.hex(), "time": snapshot.manifest.time.to_string() })
        })
    };
    json!({ "count": count, "first": one(first), "last": one(last) })
}
