//! `yester log`: shows the versions of one path.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::Args;
use serde_json::{Value, json};

use super::context::Context;
use super::diff::aspect_word;
use super::entries::{Damage, document, size_text, time_text};
use super::exit::CommandError;
use super::output::{self, Align, Table};
use super::select::{SnapshotFilter, range_document, sort_by_series};
use crate::human;
use crate::ops::compare::Aspect;
use crate::ops::history::{PathVersion, SeriesHistory, Step, history};
use crate::path::{TreePath, escape};
use crate::repo::snapshots::Snapshot;

/// Show the versions of one path, newest first
#[derive(Debug, Args)]
#[command(after_help = "\
Shows for each series of snapshots that holds the path: since when a version was seen, the first
and the last snapshot that hold it, how many do, its size and time, and in what it differs from
the version before. For a directory, `below` says that something in it differs; see `yester
diff`. Versions that differ in ctime or btime alone are one.

Examples:
  yester log /etc/passwd
  yester log /srv/shop/orders.db --source shop --json")]
pub(super) struct LogArgs {
    /// The file or directory
    #[arg(value_name = "PATH")]
    path: OsString,
    #[command(flatten)]
    filter: SnapshotFilter,
}

/// Shows the versions.
pub(super) fn run(context: &Context, args: &LogArgs) -> Result<(), CommandError> {
    let path = TreePath::parse(args.path.as_bytes())?;
    if path.is_root() {
        return Err(CommandError::usage("the root of a snapshot has no history of its own")
            .hint("`yester snapshots` lists the snapshots, `yester diff` compares two of them"));
    }
    let repo = context.open()?;
    let mut snapshots = repo.snapshots()?;
    snapshots.retain(|snapshot| args.filter.matches(&snapshot.manifest));
    sort_by_series(&mut snapshots);
    let found = history(&repo, &snapshots, &path)?;
    if context.json() {
        let series: Vec<Value> =
            found.series.iter().map(|series| series_document(&path, &snapshots, series)).collect();
        output::print_json(&series)?;
    } else {
        let tables: Vec<String> = found.series.iter().map(|series| text(&snapshots, series)).collect();
        output::print(&tables.join("\n"))?;
    }
    let mut damage = Damage::default();
    for error in found.damage {
        damage.add(error);
    }
    damage.outcome("read")
}

fn text(snapshots: &[Snapshot], series: &SeriesHistory) -> String {
    let mut table = Table::new(&[
        ("SINCE", Align::Left),
        ("FIRST", Align::Left),
        ("LAST", Align::Left),
        ("COUNT", Align::Right),
        ("SIZE", Align::Right),
        ("MODIFIED", Align::Left),
        ("CHANGE", Align::Left),
    ]);
    let named = |position: usize, name: &dyn Fn(&Snapshot) -> String| {
        snapshots.get(position).map_or_else(String::new, name)
    };
    let id = |snapshot: &Snapshot| snapshot.manifest.id.short();
    for version in series.versions.iter().rev() {
        let entry = version.entry.as_ref();
        table.push(vec![
            named(version.snapshots.start, &|snapshot| human::time(snapshot.manifest.time)),
            named(version.snapshots.start, &id),
            named(version.snapshots.end.saturating_sub(1), &id),
            version.snapshots.len().to_string(),
            entry.map_or_else(|| "-".to_owned(), size_text),
            entry.map_or_else(|| "-".to_owned(), |entry| time_text(entry.attributes.mtime)),
            step_text(&version.step),
        ]);
    }
    let start = series.versions.first().map_or(0, |version| version.snapshots.start);
    let title = |snapshot: &Snapshot| {
        let manifest = &snapshot.manifest;
        format!("{} on {}\n", manifest.source, escape(manifest.host.as_bytes()))
    };
    named(start, &title) + &table.render()
}

/// A change of content brings another time with it, which need not be said.
fn step_text(step: &Step) -> String {
    match step {
        Step::Changed(aspects) if aspects.is_empty() => "same as before".to_owned(),
        Step::Changed(aspects) => {
            let is_told = |aspect: &&Aspect| **aspect != Aspect::Mtime || !aspects.contains(&Aspect::Content);
            aspects.iter().filter(is_told).map(|aspect| aspect_word(*aspect)).collect::<Vec<_>>().join(", ")
        }
        other => step_word(other).to_owned(),
    }
}

fn step_word(step: &Step) -> &'static str {
    match step {
        Step::FirstSeen => "first seen",
        Step::Changed(_) => "changed",
        Step::Gone => "gone",
        Step::Appeared => "appeared",
        Step::Unreadable => "unreadable",
    }
}

fn series_document(path: &TreePath, snapshots: &[Snapshot], series: &SeriesHistory) -> Value {
    let start = series.versions.first().map_or(0, |version| version.snapshots.start);
    let manifest = snapshots.get(start).map(|snapshot| &snapshot.manifest);
    let versions: Vec<Value> =
        series.versions.iter().rev().map(|version| version_document(path, snapshots, version)).collect();
    json!({
        "source": manifest.map(|manifest| &manifest.source),
        "host": manifest.map(|manifest| &manifest.host),
        "versions": versions,
    })
}

fn version_document(path: &TreePath, snapshots: &[Snapshot], version: &PathVersion) -> Value {
    let range = &version.snapshots;
    let last = range.end.checked_sub(1);
    let changed: Vec<&str> = match &version.step {
        Step::Changed(aspects) => aspects.iter().map(|aspect| aspect_word(*aspect)).collect(),
        _ => Vec::new(),
    };
    json!({
        "step": step_word(&version.step).replace(' ', "_"),
        "changed": changed,
        "snapshots": range_document(snapshots, range.len(), Some(range.start), last),
        "entry": version.entry.as_ref().map(|entry| document(path, entry)),
    })
}
