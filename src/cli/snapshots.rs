//! `yester snapshots`: lists the snapshots of a store.

use clap::Args;
use serde_json::{Map, Value, json};

use super::context::Context;
use super::exit::CommandError;
use super::output::{self, Align, Table, json_bytes};
use super::select::SnapshotFilter;
use crate::format::snapshot::{Completeness, Dump, DumpCheck, Manifest, Marks, Output};
use crate::human;
use crate::path::escape;
use crate::repo::Repository;
use crate::repo::snapshots::Snapshot;

/// List the snapshots, oldest first
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  yester snapshots --source shop --json | jq '.[-1].id'
  yester snapshots --forgotten")]
pub(super) struct SnapshotsArgs {
    /// Only those that were forgotten and that `yester forget --undo` can bring back, with since when
    #[arg(long)]
    forgotten: bool,
    #[command(flatten)]
    filter: SnapshotFilter,
}

/// Lists the snapshots.
pub(super) fn run(context: &Context, args: &SnapshotsArgs) -> Result<(), CommandError> {
    let repo = context.open_as_writer(None)?;
    if args.forgotten {
        // Marks are among what an ingest-only key cannot read.
        repo.require_full()?;
    }
    if repo.is_ingest_only() {
        tell_of_others(context, &repo)?;
    }
    let mut snapshots = if args.forgotten { repo.forgotten_snapshots()? } else { repo.snapshots()? };
    let all = snapshots.len();
    snapshots.retain(|snapshot| args.filter.matches(&snapshot.manifest));
    if context.json() {
        let documents: Vec<_> = snapshots.iter().map(listed_document).collect();
        return output::print_json(&documents);
    }
    if snapshots.is_empty() {
        context.tell(&match (all, args.forgotten) {
            (0, false) if repo.is_ingest_only() => "this host made no snapshots that it knows of".to_owned(),
            (0, false) => "there are no snapshots yet; `yester ingest` makes them".to_owned(),
            (0, true) => "there is no forgotten snapshot that can be brought back".to_owned(),
            (all, false) => {
                format!("none of the {all} snapshots here is like that; without options all are listed")
            }
            (all, true) => format!("none of the {all} forgotten snapshots is like that"),
        });
        return Ok(());
    }
    output::print(&if args.forgotten { forgotten_table(&snapshots) } else { table(&snapshots) })
}

/// Returns what a listing says of a snapshot, with the time since which it is forgotten, if it is.
fn listed_document(snapshot: &Snapshot) -> Map<String, Value> {
    let mut document = full_document(snapshot);
    if let Some(since) = snapshot.forgotten_since {
        document.insert("forgotten".to_owned(), since.to_string().into());
    }
    document
}

/// Says what an ingest-only key does not see.
fn tell_of_others(context: &Context, repo: &Repository) -> Result<(), CommandError> {
    let others = repo.snapshots_of_others()?;
    if others > 0 {
        context.tell(&format!(
            "the store holds {} that this ingest-only key cannot read: of other hosts, or older than this host's cache",
            human::counted(others as u64, "more snapshot")
        ));
    }
    Ok(())
}

/// Returns what a snapshot is, as programs see it.
pub(super) fn document(manifest: &Manifest) -> Map<String, Value> {
    let totals = &manifest.totals;
    let paths: Vec<Value> = manifest.paths.iter().map(|path| json_bytes(path)).collect();
    let command = manifest.command.as_ref().map(|words| command_document(words));
    let document = json!({
        "id": manifest.id.hex(),
        "time": manifest.time.to_string(),
        "finished": manifest.finished.to_string(),
        "source": manifest.source,
        "host": manifest.host,
        "tags": manifest.tags,
        "paths": paths,
        "command": command,
        "state": state(manifest.completeness),
        "files": totals.files,
        "directories": totals.directories,
        "others": totals.others,
        "failed_files": totals.failed_files,
        "bytes": totals.bytes,
        "added_bytes": totals.added_bytes,
        "stored_bytes": totals.stored_bytes,
        "dump": manifest.dump.as_ref().map(dump_document),
        "origin": manifest.origin.map(|origin| origin.hex()),
    });
    let mut document = match document {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    if !manifest.outputs.is_empty() {
        let outputs = manifest.outputs.iter().map(output_document).collect::<Vec<_>>();
        document.insert("outputs".to_owned(), outputs.into());
    }
    document
}

fn command_document(words: &[Vec<u8>]) -> Vec<Value> {
    words.iter().map(|word| json_bytes(word)).collect()
}

/// Returns what one of several commands wrote.
fn output_document(output: &Output) -> Value {
    json!({
        "name": json_bytes(&output.name),
        "command": command_document(&output.command),
        "dump": dump_document(&output.dump),
    })
}

/// Returns what was found out about a stream.
fn dump_document(dump: &Dump) -> Value {
    json!({
        "formats": dump.formats,
        "check": match dump.check {
            DumpCheck::Whole => "whole",
            DumpCheck::Unchecked => "unchecked",
            DumpCheck::Broken => "broken",
        },
        "reason": dump.reason,
        "compressed": dump.compressed,
        "filled_offsets": dump.filled_offsets,
    })
}

/// Returns what a snapshot is and what its marks say, as programs see it.
pub(super) fn full_document(snapshot: &Snapshot) -> Map<String, Value> {
    let mut map = document(&snapshot.manifest);
    map.insert("marks".to_owned(), mark_words(snapshot.marks).into());
    map
}

fn table(snapshots: &[Snapshot]) -> String {
    table_with(("NEW", Align::Right), snapshots, |snapshot| {
        (human::bytes(snapshot.manifest.totals.added_bytes), state_words(snapshot))
    })
}

fn forgotten_table(snapshots: &[Snapshot]) -> String {
    table_with(("FORGOTTEN", Align::Left), snapshots, |snapshot| {
        let since = snapshot.forgotten_since.map(human::time).unwrap_or_default();
        (since, completeness_word(snapshot).to_owned())
    })
}

/// Makes a table with a column of its own; `cells` returns what stands there, and the state.
fn table_with(
    own: (&str, Align),
    snapshots: &[Snapshot],
    cells: impl Fn(&Snapshot) -> (String, String),
) -> String {
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("TIME", Align::Left),
        ("SOURCE", Align::Left),
        ("HOST", Align::Left),
        ("FILES", Align::Right),
        ("SIZE", Align::Right),
        own,
        ("STATE", Align::Left),
        ("TAGS", Align::Left),
    ]);
    for snapshot in snapshots {
        let manifest = &snapshot.manifest;
        let (cell, state) = cells(snapshot);
        table.push(vec![
            manifest.id.short(),
            human::time(manifest.time),
            manifest.source.clone(),
            escape(manifest.host.as_bytes()),
            human::count(manifest.totals.files),
            human::bytes(manifest.totals.bytes),
            cell,
            state,
            escape(manifest.tags.join(", ").as_bytes()),
        ]);
    }
    table.render()
}

/// Returns what people should know of a snapshot: `accepted` takes the place of `suspicious`.
pub(super) fn state_words(snapshot: &Snapshot) -> String {
    let Marks { forgotten, protected, .. } = snapshot.marks;
    let marks = mark_words(Marks { forgotten, protected, accepted: false });
    std::iter::once(completeness_word(snapshot)).chain(marks).collect::<Vec<_>>().join(", ")
}

fn completeness_word(snapshot: &Snapshot) -> &'static str {
    match snapshot.is_suspicious() && snapshot.may_be_latest() {
        true => "accepted",
        false => state(snapshot.manifest.completeness),
    }
}

/// Returns what a snapshot was committed as.
pub(super) fn state(completeness: Completeness) -> &'static str {
    match completeness {
        Completeness::Complete => "complete",
        Completeness::Partial => "partial",
        Completeness::Suspicious => "suspicious",
    }
}

pub(super) fn mark_words(marks: Marks) -> Vec<&'static str> {
    let Marks { forgotten, protected, accepted } = marks;
    let words = [(forgotten, "forgotten"), (protected, "protected"), (accepted, "accepted")];
    words.into_iter().filter(|(said, _)| *said).map(|(_, word)| word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::testing::TestStore;

    #[test]
    fn what_several_commands_wrote_is_listed_and_of_one_nothing_more() {
        let test = TestStore::new();
        let mut manifest = test.commit(&test.open(), "shop", Completeness::Complete);
        assert!(!document(&manifest).contains_key("outputs"));
        let dump = Dump {
            formats: vec!["pg-sql".to_owned()],
            check: DumpCheck::Broken,
            reason: "why".to_owned(),
            compressed: false,
            filled_offsets: 0,
        };
        let command = vec![b"pg_dumpall".to_vec(), b"\xff".to_vec()];
        manifest.outputs = vec![Output { name: b"globals.sql".to_vec(), command, dump: dump.clone() }];
        let expected = json!([{
            "name": "globals.sql",
            "command": ["pg_dumpall", json_bytes(b"\xff")],
            "dump": dump_document(&dump),
        }]);
        assert_eq!(document(&manifest)["outputs"], expected);
    }
}
