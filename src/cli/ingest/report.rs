//! What `yester ingest` says: the summary for people, and the documents for programs.

use serde_json::{Value, json};

use super::dump;
use crate::cli::context::Context;
use crate::cli::exit::{CommandError, ErrorKind};
use crate::cli::output::{self, json_bytes};
use crate::cli::process::peak_memory_bytes;
use crate::cli::snapshots;
use crate::format::snapshot::Marks;
use crate::human;
use crate::ops::ingest::exclude::ExcludedStats;
use crate::ops::ingest::plan::IngestPlan;
use crate::ops::ingest::{IngestOptions, IngestStats, Protection};
use crate::repo::session::DeltaStats;

/// Reports a backup that was made.
pub(super) fn done(context: &Context, stats: &IngestStats) -> Result<(), CommandError> {
    tell_failures(&stats.failures);
    summarise(context, stats);
    if !context.json() {
        return Ok(());
    }
    let mut document = snapshots::document(&stats.manifest);
    let marks = Marks { protected: stats.protection == Protection::Protected, ..Marks::default() };
    document.insert("marks".to_owned(), snapshots::mark_words(marks).into());
    document.insert("new_chunks".to_owned(), stats.session.new_chunks.into());
    document.insert("packs".to_owned(), stats.session.packs.into());
    document.insert("elapsed_seconds".to_owned(), stats.elapsed.as_secs_f64().into());
    document.insert("peak_memory_bytes".to_owned(), peak_memory_bytes().into());
    document.insert("requests".to_owned(), context.requests());
    document.insert("excluded".to_owned(), excluded_document(&stats.excluded));
    document.insert("deltas".to_owned(), deltas_document(&stats.session.deltas));
    let advice = dump::advice(&stats.dumps);
    let advice = (!advice.is_empty()).then(|| advice.as_flattened().join(" "));
    document.insert("advice".to_owned(), advice.into());
    document.insert("failures".to_owned(), stats.failures.clone().into());
    output::print_json(&document)
}

/// Reports what a backup would be.
pub(super) fn planned(
    context: &Context,
    plan: &IngestPlan,
    options: &IngestOptions,
) -> Result<(), CommandError> {
    tell_failures(&plan.failures);
    context.tell(&format!(
        "a snapshot of {} on {} would hold {}, {}",
        options.source,
        options.host,
        human::counted(plan.files, "file"),
        human::bytes(plan.unchanged.bytes.saturating_add(plan.to_read.bytes))
    ));
    context.tell(&format!(
        "  {} new or changed, {}; {} unchanged, {}",
        human::count(plan.to_read.files),
        human::bytes(plan.to_read.bytes),
        human::count(plan.unchanged.files),
        human::bytes(plan.unchanged.bytes)
    ));
    tell_excluded(context, &plan.excluded);
    context.tell("  dry run: nothing was read, and nothing was written");
    if !context.json() {
        return Ok(());
    }
    output::print_json(&json!({
        "dry_run": true,
        "source": options.source,
        "host": options.host,
        "tags": options.tags,
        "paths": plan.paths.iter().map(|path| json_bytes(path)).collect::<Vec<_>>(),
        "files": plan.files,
        "directories": plan.directories,
        "others": plan.others,
        "bytes": plan.unchanged.bytes.saturating_add(plan.to_read.bytes),
        "unchanged": { "files": plan.unchanged.files, "bytes": plan.unchanged.bytes },
        "new_or_changed": { "files": plan.to_read.files, "bytes": plan.to_read.bytes },
        "excluded": excluded_document(&plan.excluded),
        "failed": plan.failed,
        "failures": plan.failures,
        "elapsed_seconds": plan.elapsed.as_secs_f64(),
    }))
}

/// Returns how a backup ends that lacks something.
pub(super) fn partial(stats: &IngestStats) -> CommandError {
    CommandError::message(
        ErrorKind::Partial,
        format!(
            "{} could not be backed up; snapshot {} holds the rest",
            human::counted(stats.failed, "path"),
            stats.manifest.id.short()
        ),
    )
}

/// Returns how a dry run ends that met what it could not have read.
pub(super) fn partial_plan(plan: &IngestPlan) -> CommandError {
    CommandError::message(
        ErrorKind::Partial,
        format!("{} could not be backed up", human::counted(plan.failed, "path")),
    )
}

fn summarise(context: &Context, stats: &IngestStats) {
    let manifest = &stats.manifest;
    let totals = &manifest.totals;
    context.tell(&format!(
        "snapshot {} of {} on {}, {}",
        manifest.id.short(),
        manifest.source,
        manifest.host,
        human::time(manifest.time)
    ));
    context.tell(&format!(
        "  {}, {}: {} new, {} stored",
        human::counted(totals.files, "file"),
        human::bytes(totals.bytes),
        human::bytes(stats.session.added_bytes),
        human::bytes(stats.session.stored_bytes)
    ));
    if let Some(text) = describe_deltas(&stats.session.deltas) {
        context.tell(&format!("  {text}"));
    }
    // What is not whole is told by the error at the end.
    for line in dump::good(&stats.dumps) {
        context.tell(&format!("  {line}"));
    }
    if stats.protection == Protection::Protected {
        context.tell("  protected: no rule of `yester forget` forgets it");
    }
    tell_excluded(context, &stats.excluded);
    let memory =
        peak_memory_bytes().map(|bytes| format!(", peak memory {}", human::bytes(bytes))).unwrap_or_default();
    context.tell(&format!(
        "  {}, {}{memory}",
        human::duration(stats.elapsed),
        human::rate(totals.bytes, stats.elapsed)
    ));
    context.tell_requests();
    for [cost, remedy] in dump::advice(&stats.dumps) {
        context.tell(&format!("advice: {cost}"));
        context.tell(&format!("        {remedy}"));
    }
}

/// Returns what deltas saved in words; nothing where there are none.
fn describe_deltas(deltas: &DeltaStats) -> Option<String> {
    (deltas.frames > 0).then(|| {
        format!(
            "{} stored as {}: {} instead of about {}",
            human::counted(deltas.frames, "frame"),
            if deltas.frames == 1 { "a difference" } else { "differences" },
            human::bytes(deltas.stored_bytes),
            human::bytes(deltas.alone_bytes)
        )
    })
}

fn deltas_document(deltas: &DeltaStats) -> Value {
    json!({
        "frames": deltas.frames,
        "bytes": deltas.plain_bytes,
        "stored_bytes": deltas.stored_bytes,
        "saved_bytes": deltas.alone_bytes.saturating_sub(deltas.stored_bytes),
    })
}

/// Tells what failed, unless the log did so while it happened.
fn tell_failures(failures: &[String]) {
    if !tracing::enabled!(tracing::Level::WARN) {
        failures.iter().for_each(|failure| output::tell(failure));
    }
}

fn tell_excluded(context: &Context, excluded: &ExcludedStats) {
    let text = describe_excluded(excluded);
    if !text.is_empty() {
        context.tell(&format!("  left out: {text}"));
    }
}

/// Returns what was left out in words; nothing where that is nothing.
fn describe_excluded(excluded: &ExcludedStats) -> String {
    let ExcludedStats { patterns, marked, larger, file_systems, system, own } = *excluded;
    let counts = [
        (patterns, "by pattern"),
        (marked, "by marker"),
        (larger, "by size"),
        (file_systems, "on other file systems"),
        (system, "system mounts"),
        (own, "of yester itself"),
    ];
    let told = counts.iter().filter(|(count, _)| *count > 0);
    told.map(|(count, what)| format!("{} {what}", human::count(*count))).collect::<Vec<_>>().join(", ")
}

fn excluded_document(excluded: &ExcludedStats) -> Value {
    let ExcludedStats { patterns, marked, larger, file_systems, system, own } = *excluded;
    json!({
        "patterns": patterns,
        "marked": marked,
        "larger": larger,
        "file_systems": file_systems,
        "system": system,
        "own": own,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_deltas_saved_fits_a_line() {
        assert_eq!(describe_deltas(&DeltaStats::default()), None);
        let mut deltas = DeltaStats {
            frames: 1204,
            plain_bytes: 308_000_000,
            stored_bytes: 1_200_000,
            alone_bytes: 95_000_000,
        };
        let told = describe_deltas(&deltas).unwrap();
        assert_eq!(told, "1,204 frames stored as differences: 1.20 MB instead of about 95.00 MB");
        let expected = json!({
            "frames": 1204, "bytes": 308_000_000, "stored_bytes": 1_200_000, "saved_bytes": 93_800_000,
        });
        assert_eq!(deltas_document(&deltas), expected);
        deltas.frames = 1;
        assert!(describe_deltas(&deltas).unwrap().starts_with("1 frame stored as a difference: "));
        deltas.alone_bytes = 0;
        assert_eq!(deltas_document(&deltas)["saved_bytes"], 0);
    }

    #[test]
    fn what_was_left_out_fits_a_line() {
        assert_eq!(describe_excluded(&ExcludedStats::default()), "");
        let some = ExcludedStats { patterns: 1204, system: 5, ..ExcludedStats::default() };
        assert_eq!(describe_excluded(&some), "1,204 by pattern, 5 system mounts");
    }
}
