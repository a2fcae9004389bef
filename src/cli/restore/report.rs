//! What is told of a restore, or of a plan of one: lines for people, one JSON document, and the exit code.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::super::context::Context;
use super::super::exit::{CommandError, ErrorKind};
use super::super::output::{self, json_bytes};
use super::super::process::peak_memory_bytes;
use crate::human;
use crate::ops::restore::{
    Gap, OwnerChange, OwnerKind, PartialFile, PlannedAction, RestoreFailure, RestoreOptions, RestoreStats,
    Verification,
};
use crate::path::{TreePath, escape};

/// Most lines of one kind, unless people want to hear more: beyond, they hide what comes after them.
const LINES_SHOWN: usize = 20;
/// Most gaps of one file that are named.
const GAPS_SHOWN: usize = 3;

/// Names the entries of a plan on standard output as they come, if that is wanted: a line each, or the elements of
/// an array in the JSON document.
pub(super) struct PlanLines {
    out: Option<io::BufWriter<io::StdoutLock<'static>>>,
    json: bool,
    is_first: bool,
    failed: io::Result<()>,
}

impl PlanLines {
    /// Prepares to name entries where `-v` asks for it.
    pub(super) fn new(context: &Context) -> Self {
        let out = context.verbose().then(|| io::BufWriter::new(io::stdout().lock()));
        Self { out, json: context.json(), is_first: true, failed: Ok(()) }
    }

    /// Names one.
    pub(super) fn push(&mut self, path: &TreePath, action: PlannedAction) {
        let Some(out) = self.out.as_mut().filter(|_| self.failed.is_ok()) else { return };
        let word = action_word(action);
        self.failed = if self.json {
            let opening = if self.is_first { "{\n\"entries\": [\n" } else { ",\n" };
            let element = json!({ "path": json_bytes(&path.to_bytes()), "action": word });
            write!(out, "{opening}{element}")
        } else {
            writeln!(out, "{word:<9} {path}")
        };
        self.is_first = false;
    }

    /// Ends the list, in JSON with the sums behind it.
    fn finish(mut self, sums: &Value) -> Result<(), CommandError> {
        let Some(out) = self.out.as_mut().filter(|_| !(self.json && self.is_first)) else {
            drop(self.out);
            return if self.json { output::print_json(sums) } else { Ok(()) };
        };
        let written = std::mem::replace(&mut self.failed, Ok(())).and_then(|()| {
            if self.json {
                let sums = serde_json::to_string_pretty(sums).map_err(io::Error::other)?;
                writeln!(out, "\n],{}", sums.strip_prefix('{').unwrap_or_default())?;
            }
            out.flush()
        });
        written.or_else(output::forgive_closed_pipe)
    }
}

fn action_word(action: PlannedAction) -> &'static str {
    match action {
        PlannedAction::Make => "make",
        PlannedAction::Replace => "replace",
        PlannedAction::Leave => "unchanged",
        PlannedAction::Keep => "keep",
        PlannedAction::Fail => "fail",
    }
}

/// Tells what a restore would do.
pub(super) fn planned(
    context: &Context,
    stats: &RestoreStats,
    target: &Path,
    lines: PlanLines,
) -> Result<(), CommandError> {
    let mut sums = document(stats);
    if let Some(map) = sums.as_object_mut() {
        map.insert("dry_run".to_owned(), true.into());
    }
    lines.finish(&sums)?;
    tell_failures(context, stats, "would not be restored");
    context.tell(&format!(
        "would restore {} ({}) to {}",
        human::counted(stats.files, "file"),
        human::bytes(stats.bytes),
        escape(target.as_os_str().as_encoded_bytes()),
    ));
    if stats.replaced > 0 {
        context.tell(&format!("  {} would take the place of what is there", human::count(stats.replaced)));
    }
    tell_sums(context, stats);
    outcome(stats, "would not be restored")
}

/// Tells what was restored.
pub(super) fn restored(
    context: &Context,
    stats: &RestoreStats,
    options: &RestoreOptions,
) -> Result<(), CommandError> {
    tell_failures(context, stats, "not restored");
    if context.json() {
        let mut document = document(stats);
        if let Some(map) = document.as_object_mut() {
            map.insert("peak_memory_bytes".to_owned(), peak_memory_bytes().into());
            map.insert("requests".to_owned(), context.requests());
        }
        output::print_json(&document)?;
    }
    context.tell(&format!(
        "restored {} ({}) to {}",
        human::counted(stats.files, "file"),
        human::bytes(stats.bytes),
        escape(options.target.as_os_str().as_encoded_bytes()),
    ));
    let memory =
        peak_memory_bytes().map(|bytes| format!(", peak memory {}", human::bytes(bytes))).unwrap_or_default();
    context.tell(&format!(
        "  {}, {}{memory}",
        human::duration(stats.elapsed),
        human::rate(stats.bytes, stats.elapsed)
    ));
    context.tell_requests();
    if options.verification == Verification::ReadBack {
        context.tell(&format!(
            "  {} ({}) read back and right, {} wrong",
            human::counted(stats.verified_files, "file"),
            human::bytes(stats.verified_bytes),
            human::count(stats.differing)
        ));
    }
    if stats.replaced > 0 {
        context.tell(&format!("  {} took the place of what was there", human::count(stats.replaced)));
    }
    tell_sums(context, stats);
    outcome(stats, "could not be restored")?;
    kept(stats)
}

/// Names failures, and the gaps of files that are restored in part.
fn tell_failures(context: &Context, stats: &RestoreStats, what: &str) {
    let shown = shown(context);
    for RestoreFailure { path, reason, partial, .. } in stats.failures.iter().take(shown) {
        output::tell(&format!("{what}: {path}: {reason}"));
        for line in partial.iter().flat_map(gap_lines) {
            output::tell(&line);
        }
    }
    more(stats.failed, shown.min(stats.failures.len()), what);
}

fn gap_lines(partial: &PartialFile) -> Vec<String> {
    let mut lines: Vec<_> = partial
        .gaps
        .iter()
        .take(GAPS_SHOWN)
        .map(|Gap { offset, length, reason }| {
            format!("  missing: {} at {}: {reason}", human::counted(*length, "byte"), human::count(*offset))
        })
        .collect();
    let rest = partial.gap_count.saturating_sub(lines.len() as u64);
    if rest > 0 {
        lines.push(format!("  missing: {}", human::counted(rest, "more range")));
    }
    lines
}

fn shown(context: &Context) -> usize {
    if context.verbose() { usize::MAX } else { LINES_SHOWN }
}

fn more(count: u64, shown: usize, what: &str) {
    let rest = count.saturating_sub(shown as u64);
    if rest > 0 {
        output::tell(&format!("{what}: {} more; -v or --json names them", human::count(rest)));
    }
}

/// Tells what restores and plans have in common.
fn tell_sums(context: &Context, stats: &RestoreStats) {
    let count = human::count;
    if stats.unchanged > 0 {
        context.tell(&format!("  {} there already, the same", count(stats.unchanged)));
    }
    if stats.left_out > 0 {
        context.tell(&format!("  {} left out", human::counted(stats.left_out, "path")));
    }
    for change in stats.owner_changes.iter().take(shown(context)) {
        context.tell(&format!("  {}", owner_line(change)));
    }
    if stats.set_ids > 0 {
        context.tell(&format!("  {} lost set-id bits, since the owner is another one", count(stats.set_ids)));
    }
    if stats.privileged_xattrs > 0 {
        context.tell(&format!(
            "  {} not set: only root may",
            human::counted(stats.privileged_xattrs, "extended attribute")
        ));
    }
    if stats.clamped_times > 0 {
        context.tell(&format!(
            "  {} beyond what the target can hold: the nearest it can is set",
            human::counted(stats.clamped_times, "time")
        ));
    }
    if stats.kept > 0 {
        context.tell(&format!("  {} kept as they are, since something else has the name", count(stats.kept)));
        for path in stats.kept_named.iter().take(shown(context)) {
            context.tell(&format!("  kept: {path}"));
        }
        let named = shown(context).min(stats.kept_named.len()) as u64;
        if stats.kept > named {
            context.tell(&format!("  kept: {} more", count(stats.kept - named)));
        }
    }
}

fn owner_line(change: &OwnerChange) -> String {
    let OwnerChange { kind, name, stored, here } = change;
    let kind = kind_word(*kind);
    match here {
        Some(here) => {
            format!("{kind} {name} is number {here} here and {stored} in the snapshot: went by name")
        }
        None => format!("{kind} {name} is unknown here: went by number {stored}"),
    }
}

fn kind_word(kind: OwnerKind) -> &'static str {
    match kind {
        OwnerKind::User => "user",
        OwnerKind::Group => "group",
    }
}

fn document(stats: &RestoreStats) -> Value {
    let owners: Vec<_> = stats
        .owner_changes
        .iter()
        .map(|change| {
            json!({
                "kind": kind_word(change.kind),
                "name": change.name,
                "stored": change.stored,
                "here": change.here,
            })
        })
        .collect();
    let kept: Vec<_> = stats.kept_named.iter().map(|path| json_bytes(&path.to_bytes())).collect();
    json!({
        "files": stats.files,
        "directories": stats.directories,
        "others": stats.others,
        "bytes": stats.bytes,
        "replaced": stats.replaced,
        "kept": stats.kept,
        "kept_named": kept,
        "unchanged": stats.unchanged,
        "left_out": stats.left_out,
        "partial": stats.partial,
        "verified_files": stats.verified_files,
        "verified_bytes": stats.verified_bytes,
        "differing": stats.differing,
        "owner_changes": owners,
        "privileged_xattrs": stats.privileged_xattrs,
        "set_ids": stats.set_ids,
        "clamped_times": stats.clamped_times,
        "failed": stats.failed,
        "damaged": stats.damaged,
        "failures": stats.failures.iter().map(failure_document).collect::<Vec<_>>(),
        "elapsed_seconds": stats.elapsed.as_secs_f64(),
    })
}

fn failure_document(failure: &RestoreFailure) -> Value {
    json!({
        "path": json_bytes(&failure.path.to_bytes()),
        "reason": failure.reason,
        "damaged": failure.damaged,
        "partial": failure.partial.as_ref().map(partial_document),
    })
}

fn partial_document(partial: &PartialFile) -> Value {
    let gaps: Vec<_> = partial
        .gaps
        .iter()
        .map(|gap| json!({ "offset": gap.offset, "length": gap.length, "reason": gap.reason }))
        .collect();
    json!({
        "path": partial.path.as_ref().map(|path| json_bytes(&path.to_bytes())),
        "missing_bytes": partial.missing_bytes,
        "read_bytes": partial.read_bytes,
        "gap_count": partial.gap_count,
        "gaps": gaps,
    })
}

/// Damage outweighs what the target refused.
fn outcome(stats: &RestoreStats, what: &str) -> Result<(), CommandError> {
    let not_restored = || format!("{} {what}", human::counted(stats.failed, "path"));
    if stats.damaged > 0 {
        let error = CommandError::message(
            ErrorKind::Damaged,
            not_restored() + " whole, because the store is damaged",
        );
        let parts = (stats.partial > 0).then_some(
            "what could be read of damaged files is in NAME.partial, its gaps in NAME.partial.gaps",
        );
        return Err(error.hints(parts).hint("run `yester verify` to learn what else is damaged"));
    }
    if stats.failed > 0 {
        return Err(CommandError::message(ErrorKind::Partial, not_restored()));
    }
    Ok(())
}

/// What is kept is not what the snapshot holds, which a script has to learn.
fn kept(stats: &RestoreStats) -> Result<(), CommandError> {
    if stats.kept == 0 {
        return Ok(());
    }
    let names = format!("{} taken by something else, which is kept", human::counted(stats.kept, "name"));
    Err(CommandError::message(ErrorKind::Partial, names)
        .hint("--overwrite if-changed replaces them; --dry-run -v says what it would do"))
}
