//! `yester diff`: compares two snapshots.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::context::Context;
use super::entries::{Damage, Form, Records, document, kind_word, owner_text, path_text, target_text};
use super::exit::CommandError;
use super::output::{self, Align, Table, forgive_closed_pipe, json_bytes};
use crate::format::tree::{Entry, EntryKind};
use crate::human;
use crate::ops::compare::{Aspect, MetadataScope};
use crate::ops::diff::{Change, Diff, DiffOptions, DiffStats, Difference, PathTotals, diff};
use crate::ops::versions::VersionsError;
use crate::path::TreePath;

/// Compare two snapshots
#[derive(Debug, Args)]
#[command(after_help = "\
Prints a line for each path that differs:
  +  only the second snapshot holds it       M  its content differs
  -  only the first snapshot holds it        m  its metadata alone differs
  T  it is of another kind
Contents are compared as they are stored: a hole and zeros that were written are different. The exit
code is 0 whether or not there are differences.

Examples:
  yester diff 3fa92c11 latest:system /etc
  yester diff 2026-11-20T02:00:07Z 2026-11-21T02:00:05Z --stat")]
pub(super) struct DiffArgs {
    /// The first snapshot: the beginning of its id, latest:SOURCE, latest, or a time
    #[arg(value_name = "SNAP")]
    before: String,
    /// The second snapshot, named likewise
    #[arg(value_name = "SNAP")]
    after: String,
    /// What to compare
    #[arg(value_name = "PATH", default_value = "/")]
    path: OsString,
    /// Which metadata to compare: none, the usual, or all with ctime, btime and mtime of directories
    #[arg(long, value_enum, value_name = "WHICH", default_value = "usual")]
    metadata: Metadata,
    /// Print the sums alone
    #[arg(long)]
    stat: bool,
}

/// Which metadata counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Metadata {
    None,
    Usual,
    All,
}

/// Prints the differences, each as soon as it is found, or their sums.
pub(super) fn run(context: &Context, args: &DiffArgs) -> Result<(), CommandError> {
    let options = DiffOptions {
        path: TreePath::parse(args.path.as_bytes())?,
        metadata: match args.metadata {
            Metadata::None => MetadataScope::Nothing,
            Metadata::Usual => MetadataScope::Usual,
            Metadata::All => MetadataScope::Everything,
        },
    };
    let form = Form::of(context, Form::Lines)?;
    let repo = context.open()?;
    let pair = [repo.find_snapshot(&args.before)?, repo.find_snapshot(&args.after)?];
    let differences = diff(&repo, &pair, &options)?;
    if args.stat { sums(form, differences) } else { lines(context, form, differences) }
}

fn lines(context: &Context, form: Form, mut differences: Diff<'_>) -> Result<(), CommandError> {
    let (mut records, mut damage) = (Records::new(form), Damage::default());
    let mut stats = DiffStats::default();
    for found in differences.by_ref() {
        match found {
            Ok(found) => {
                stats.add(&found);
                let pushed =
                    records.push(&found.path, || difference_line(&found), || difference_document(&found));
                if let Err(error) = pushed {
                    return forgive_closed_pipe(error);
                }
            }
            Err(error @ VersionsError::Damaged { .. }) => damage.add(error),
            Err(error) => return Err(error.into()),
        }
    }
    records.finish().or_else(forgive_closed_pipe)?;
    tracing::info!("{} pages of directories were read", differences.stats().pages_read);
    if form == Form::Lines {
        context.tell(&summary(&stats));
    }
    damage.outcome("compared")
}

fn sums(form: Form, differences: Diff<'_>) -> Result<(), CommandError> {
    let (mut stats, mut damage) = (DiffStats::default(), Damage::default());
    for found in differences {
        match found {
            Ok(found) => stats.add(&found),
            Err(error @ VersionsError::Damaged { .. }) => damage.add(error),
            Err(error) => return Err(error.into()),
        }
    }
    match form {
        Form::Json => output::print_json(&stats_document(&stats))?,
        Form::Lines | Form::Paths => output::print(&stats_table(&stats))?,
    }
    damage.outcome("compared")
}

/// Returns the word for something in which entries differ.
pub(super) fn aspect_word(aspect: Aspect) -> &'static str {
    match aspect {
        Aspect::Kind => "kind",
        Aspect::Content => "content",
        Aspect::Below => "below",
        Aspect::Mode => "mode",
        Aspect::Owner => "owner",
        Aspect::Mtime => "mtime",
        Aspect::Xattrs => "xattrs",
        Aspect::Links => "links",
        Aspect::Ctime => "ctime",
        Aspect::Btime => "btime",
    }
}

fn mark(change: Change) -> char {
    match change {
        Change::Added => '+',
        Change::Removed => '-',
        Change::Kind => 'T',
        Change::Content => 'M',
        Change::Metadata => 'm',
    }
}

fn change_word(change: Change) -> &'static str {
    match change {
        Change::Added => "added",
        Change::Removed => "removed",
        Change::Kind => "kind",
        Change::Content => "content",
        Change::Metadata => "metadata",
    }
}

fn difference_line(difference: &Difference) -> String {
    let change = difference.change();
    let shown = difference.after.as_ref().or(difference.before.as_ref());
    let path = shown.map_or_else(String::new, |entry| path_text(&difference.path, entry));
    let details = match (&difference.before, &difference.after) {
        (Some(before), Some(after)) => {
            let told = difference.aspects.iter().filter_map(|aspect| detail(*aspect, change, before, after));
            format!("  {}", told.collect::<Vec<_>>().join(", "))
        }
        _ => shown.map_or_else(String::new, target_text),
    };
    format!("{} {path}{}", mark(change), details.trim_end())
}

/// Returns what an aspect was and is. That the time of changed content differs is not worth a word.
fn detail(aspect: Aspect, change: Change, before: &Entry, after: &Entry) -> Option<String> {
    let links = |entry: &Entry| entry.link.map_or(1, |link| link.links);
    let (old, new) = match aspect {
        Aspect::Kind => (kind_word(&before.kind).to_owned(), kind_word(&after.kind).to_owned()),
        Aspect::Content => match (&before.kind, &after.kind) {
            (EntryKind::File(_), EntryKind::File(_)) if before.size() == after.size() => {
                return Some(format!("still {}", human::bytes(after.size())));
            }
            (EntryKind::File(_), EntryKind::File(_)) => {
                (human::bytes(before.size()), human::bytes(after.size()))
            }
            (EntryKind::Symlink(_), EntryKind::Symlink(_)) => {
                return Some(target_text(after).trim_start().to_owned());
            }
            _ => return Some("number".to_owned()),
        },
        Aspect::Mode => {
            let mode = |entry: &Entry| format!("{:04o}", entry.attributes.mode);
            (format!("mode {}", mode(before)), mode(after))
        }
        Aspect::Owner => (format!("owner {}", owner_text(&before.attributes)), owner_text(&after.attributes)),
        Aspect::Links => (format!("links {}", links(before)), links(after).to_string()),
        Aspect::Mtime if matches!(change, Change::Content | Change::Kind) => return None,
        Aspect::Mtime | Aspect::Xattrs | Aspect::Below | Aspect::Ctime | Aspect::Btime => {
            return Some(aspect_word(aspect).to_owned());
        }
    };
    Some(format!("{old} -> {new}"))
}

fn difference_document(difference: &Difference) -> Value {
    let path = &difference.path;
    let aspects: Vec<&str> = difference.aspects.iter().map(|aspect| aspect_word(*aspect)).collect();
    json!({
        "path": json_bytes(&path.to_bytes()),
        "change": change_word(difference.change()),
        "changed": aspects,
        "before": difference.before.as_ref().map(|entry| document(path, entry)),
        "after": difference.after.as_ref().map(|entry| document(path, entry)),
    })
}

fn paths(totals: &PathTotals) -> u64 {
    totals.files + totals.directories + totals.others
}

/// Returns one line that says how much differs.
fn summary(stats: &DiffStats) -> String {
    let parts: Vec<String> = [
        (paths(&stats.added), "added"),
        (paths(&stats.removed), "removed"),
        (stats.kind, "of another kind"),
        (paths(&stats.content_after), "with other content"),
        (paths(&stats.metadata), "with other metadata"),
    ]
    .into_iter()
    .filter(|(number, _)| *number > 0)
    .map(|(number, what)| format!("{} {what}", human::count(number)))
    .collect();
    if parts.is_empty() { "no differences".to_owned() } else { parts.join(", ") }
}

fn stats_table(stats: &DiffStats) -> String {
    let mut table = Table::new(&[
        ("CHANGE", Align::Left),
        ("FILES", Align::Right),
        ("DIRECTORIES", Align::Right),
        ("OTHERS", Align::Right),
        ("SIZE", Align::Right),
    ]);
    let mut push = |what: &str, totals: &PathTotals, size: String| {
        let counts = [totals.files, totals.directories, totals.others].map(human::count);
        table.push(std::iter::once(what.to_owned()).chain(counts).chain([size]).collect());
    };
    let bytes = |totals: &PathTotals| human::bytes(totals.bytes);
    push("added", &stats.added, bytes(&stats.added));
    push("removed", &stats.removed, bytes(&stats.removed));
    let sizes = format!("{} -> {}", bytes(&stats.content_before), bytes(&stats.content_after));
    push("content", &stats.content_after, sizes);
    push("metadata", &stats.metadata, bytes(&stats.metadata));
    table.push(vec!["kind".to_owned(), human::count(stats.kind)]);
    table.render()
}

fn stats_document(stats: &DiffStats) -> Value {
    let totals = |totals: &PathTotals| {
        json!({
            "files": totals.files,
            "directories": totals.directories,
            "others": totals.others,
            "bytes": totals.bytes,
        })
    };
    json!({
        "added": totals(&stats.added),
        "removed": totals(&stats.removed),
        "content_before": totals(&stats.content_before),
        "content_after": totals(&stats.content_after),
        "metadata": totals(&stats.metadata),
        "kind": stats.kind,
    })
}
