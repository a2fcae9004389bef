//! `yester stats`: says what a store holds, what that takes, and what each series added.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::{Value, json};

use super::context::Context;
use super::exit::CommandError;
use super::output::{self, Align, Table};
use super::select::SeriesFilter;
use crate::human;
use crate::index::{FrameSums, IndexTotals, Sum};
use crate::ops::stats::{SeriesStats, StoreStats, stats};
use crate::path::escape;
use crate::store::key::Prefix;

/// Say what the store holds, what that takes, and what each series added
#[derive(Debug, Args)]
#[command(after_help = "\
Sums up the whole store, and then each series. SNAP, --source and --host choose what is summed up
by series. Reads no packs.

Examples:
  yester stats
  yester stats --source shop --json | jq '.series[].stored_bytes'")]
pub(super) struct StatsArgs {
    /// Of these snapshots: the beginning of an id, latest:SOURCE, latest, or a time [default: all]
    #[arg(value_name = "SNAP")]
    snapshots: Vec<String>,
    #[command(flatten)]
    filter: SeriesFilter,
}

/// Sums up.
pub(super) fn run(context: &Context, args: &StatsArgs) -> Result<(), CommandError> {
    let repo = context.open()?;
    let named = args.snapshots.iter().map(|name| Ok(repo.find_snapshot(name)?.manifest.id));
    let named: BTreeSet<_> = named.collect::<Result<_, CommandError>>()?;
    let stats = stats(&repo, &|snapshot| {
        let manifest = &snapshot.manifest;
        (named.is_empty() || named.contains(&manifest.id)) && args.filter.matches(manifest)
    })?;
    if context.json() {
        return output::print_json(&document(&stats, &context.requests()));
    }
    let parts =
        [sums(&stats, context.monthly_price(stats.all_objects().bytes)), objects(&stats), series(&stats)];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    output::print(&parts.join("\n"))?;
    context.tell_requests();
    Ok(())
}

/// Returns the store as a whole, a line for each thing to know.
fn sums(stats: &StoreStats, price: Option<String>) -> String {
    let mut table = Table::new(&[("STORE", Align::Left), ("", Align::Left)]);
    let mut line = |what: &str, text: String| table.push(vec![what.to_owned(), text]);
    line(
        "snapshots",
        format!(
            "{} with {}, {}",
            human::count(stats.snapshots.count),
            human::counted(stats.files, "file"),
            human::bytes(stats.snapshots.bytes)
        ),
    );
    let (unique, index) = (stats.unique_data(), &stats.index);
    let deduplicated = ratio(stats.snapshots.bytes, unique.bytes, "deduplicated");
    line("data", format!("{}{deduplicated}", sum_text(unique, "chunk")));
    line("metadata", sum_text(index.tree_chunks, "chunk"));
    let frames = all_frames(index);
    let stored = Sum { count: frames.count, bytes: frames.stored_bytes };
    let compressed = ratio(frames.plain_bytes, frames.stored_bytes, "compressed");
    line("stored", format!("{}{compressed}", sum_text(stored, "frame")));
    let deltas = &index.delta_frames;
    if deltas.count > 0 {
        let (stored, frames) = (human::bytes(deltas.stored_bytes), human::counted(deltas.count, "frame"));
        let alone = human::bytes(stats.deltas_alone_bytes());
        line("deltas", format!("{stored} in {frames}, which would take about {alone} alone"));
    }
    let dumps = stats.compressed_dumps;
    if dumps.count > 0 {
        let text = format!("{} in {}", human::bytes(dumps.bytes), human::counted(dumps.count, "dump"));
        line("compressed", format!("{text} that came so; uncompressed, they would share data"));
    }
    let twice = Sum {
        count: index.duplicate_data_chunks.count + index.duplicate_tree_chunks.count,
        bytes: index.duplicate_data_chunks.bytes.saturating_add(index.duplicate_tree_chunks.bytes),
    };
    if twice.count > 0 {
        let text = format!("{} in {}", human::bytes(twice.bytes), human::counted(twice.count, "chunk"));
        line("stored again", format!("{text} that are stored more than once"));
    }
    let all = stats.all_objects();
    let text = format!("{} for {}", human::bytes(all.bytes), human::bytes(stats.snapshots.bytes));
    line("in all", format!("{text} of snapshots{}", ratio(stats.snapshots.bytes, all.bytes, "that is")));
    if let Some(price) = price {
        line("a month", price);
    }
    table.render()
}

fn sum_text(sum: Sum, noun: &str) -> String {
    let average = sum.bytes.checked_div(sum.count).map(human::bytes);
    let average = average.map(|bytes| format!(" of {bytes} on average")).unwrap_or_default();
    format!("{} in {}{average}", human::bytes(sum.bytes), human::counted(sum.count, noun))
}

/// Returns `, compressed 2.31 : 1`; nothing where there is nothing.
fn ratio(before: u64, after: u64, what: &str) -> String {
    match (u128::from(before) * 100).checked_div(after.into()) {
        Some(hundredths) if before > 0 => {
            format!(", {what} {}.{:02} : 1", hundredths / 100, hundredths % 100)
        }
        _ => String::new(),
    }
}

fn all_frames(index: &IndexTotals) -> FrameSums {
    let (base, delta) = (index.base_frames, index.delta_frames);
    FrameSums {
        count: base.count.saturating_add(delta.count),
        plain_bytes: base.plain_bytes.saturating_add(delta.plain_bytes),
        stored_bytes: base.stored_bytes.saturating_add(delta.stored_bytes),
    }
}

fn objects(stats: &StoreStats) -> String {
    let mut table = Table::new(&[("OBJECTS", Align::Left), ("NUMBER", Align::Right), ("SIZE", Align::Right)]);
    for (name, sum) in named_objects(stats) {
        table.push(vec![name.to_owned(), human::count(sum.count), human::bytes(sum.bytes)]);
    }
    table.render()
}

/// Returns what is in the store by what it is called here; packs that no index object names stand apart.
fn named_objects(stats: &StoreStats) -> Vec<(&'static str, Sum)> {
    let mut named = Vec::new();
    for (prefix, sum) in &stats.objects {
        if *prefix != Prefix::Packs {
            named.push((prefix.as_str().trim_end_matches('/'), *sum));
            continue;
        }
        let (data, tree) = (stats.index.data_packs, stats.index.tree_packs);
        let unnamed = Sum {
            count: sum.count.saturating_sub(data.count).saturating_sub(tree.count),
            bytes: sum.bytes.saturating_sub(data.bytes).saturating_sub(tree.bytes),
        };
        named.extend([("data packs", data), ("tree packs", tree)]);
        if unnamed.count > 0 {
            named.push(("packs of unfinished sessions", unnamed));
        }
    }
    named
}

fn series(stats: &StoreStats) -> String {
    if stats.series.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[
        ("SOURCE", Align::Left),
        ("HOST", Align::Left),
        ("SNAPSHOTS", Align::Right),
        ("OLDEST", Align::Left),
        ("NEWEST", Align::Left),
        ("SIZE", Align::Right),
        ("ALL SIZES", Align::Right),
        ("NEW", Align::Right),
        ("STORED", Align::Right),
    ]);
    for series in &stats.series {
        table.push(vec![
            series.source.clone(),
            escape(series.host.as_bytes()),
            human::count(series.snapshots.count),
            human::time(series.oldest),
            human::time(series.newest),
            human::bytes(series.newest_bytes),
            human::bytes(series.snapshots.bytes),
            human::bytes(series.added_bytes),
            human::bytes(series.stored_bytes),
        ]);
    }
    let compressed = stats.series.iter().filter(|series| series.compressed_dumps.count > 0);
    table.render() + &compressed.map(compressed_line).collect::<String>()
}

fn compressed_line(series: &SeriesStats) -> String {
    format!(
        "{} on {}: {} of {} came compressed, {}\n",
        series.source,
        escape(series.host.as_bytes()),
        human::count(series.compressed_dumps.count),
        human::counted(series.snapshots.count, "snapshot"),
        human::bytes(series.compressed_dumps.bytes)
    )
}

fn document(stats: &StoreStats, requests: &Value) -> Value {
    let index = &stats.index;
    let objects: serde_json::Map<String, Value> = stats
        .objects
        .iter()
        .map(|(prefix, sum)| (prefix.as_str().trim_end_matches('/').to_owned(), sum_document(*sum)))
        .collect();
    json!({
        "snapshots": stats.snapshots.count,
        "files": stats.files,
        "bytes": stats.snapshots.bytes,
        "stored_bytes": stats.all_objects().bytes,
        "unique_data": sum_document(stats.unique_data()),
        "data_chunks": sum_document(index.data_chunks),
        "tree_chunks": sum_document(index.tree_chunks),
        "duplicate_data_chunks": sum_document(index.duplicate_data_chunks),
        "duplicate_tree_chunks": sum_document(index.duplicate_tree_chunks),
        "base_frames": frames_document(&index.base_frames),
        "delta_frames": deltas_document(stats),
        "compressed_dumps": sum_document(stats.compressed_dumps),
        "data_packs": sum_document(index.data_packs),
        "tree_packs": sum_document(index.tree_packs),
        "objects": objects,
        "requests": requests,
        "series": stats.series.iter().map(series_document).collect::<Vec<_>>(),
    })
}

fn sum_document(sum: Sum) -> Value {
    json!({ "count": sum.count, "bytes": sum.bytes })
}

fn frames_document(frames: &FrameSums) -> Value {
    json!({ "count": frames.count, "bytes": frames.plain_bytes, "stored_bytes": frames.stored_bytes })
}

fn deltas_document(stats: &StoreStats) -> Value {
    let FrameSums { count, plain_bytes, stored_bytes } = stats.index.delta_frames;
    let saved_bytes = stats.deltas_alone_bytes().saturating_sub(stored_bytes);
    json!({ "count": count, "bytes": plain_bytes, "stored_bytes": stored_bytes, "saved_bytes": saved_bytes })
}

fn series_document(series: &SeriesStats) -> Value {
    json!({
        "source": series.source,
        "host": series.host,
        "snapshots": series.snapshots.count,
        "oldest": series.oldest.to_string(),
        "newest": series.newest.to_string(),
        "newest_bytes": series.newest_bytes,
        "bytes": series.snapshots.bytes,
        "added_bytes": series.added_bytes,
        "stored_bytes": series.stored_bytes,
        "compressed_dumps": sum_document(series.compressed_dumps),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_have_two_places() {
        assert_eq!(ratio(231, 100, "compressed"), ", compressed 2.31 : 1");
        assert_eq!(ratio(1, 3, "x"), ", x 0.33 : 1");
        assert_eq!(ratio(0, 3, "x"), "");
        assert_eq!(ratio(3, 0, "x"), "");
        assert_eq!(ratio(u64::MAX, 1, "x"), format!(", x {}.00 : 1", u64::MAX));
    }

    #[test]
    fn deltas_and_duplicates_are_told_where_there_are_any() {
        let mut stats = StoreStats::default();
        let text = sums(&stats, None);
        assert!(!text.contains("deltas") && !text.contains("stored again"), "{text}");
        stats.index.delta_frames = FrameSums { count: 3, plain_bytes: 30_000, stored_bytes: 100 };
        stats.index.data_chunks = Sum { count: 9, bytes: 90_000 };
        stats.index.data_packs = Sum { count: 1, bytes: 20_100 };
        stats.index.duplicate_data_chunks = Sum { count: 2, bytes: 4000 };
        let text = sums(&stats, None);
        assert!(
            text.contains("deltas        100 B in 3 frames, which would take about 10.00 kB alone"),
            "{text}"
        );
        assert!(text.contains("stored again  4.00 kB in 2 chunks that are stored more than once"), "{text}");
        assert_eq!(document(&stats, &Value::Null)["delta_frames"]["saved_bytes"], 9_900);
    }

    #[test]
    fn compressed_dumps_are_told_where_there_are_any() {
        let time = jiff::Timestamp::UNIX_EPOCH;
        let series_of = |name: &str, count| SeriesStats {
            host: "db1".into(),
            source: name.into(),
            snapshots: Sum { count: 5, bytes: 5000 },
            oldest: time,
            newest: time,
            newest_bytes: 1000,
            added_bytes: 0,
            stored_bytes: 0,
            compressed_dumps: Sum { count, bytes: count * 1000 },
        };
        let mut stats = StoreStats { series: vec![series_of("etc", 0)], ..StoreStats::default() };
        assert!(!sums(&stats, None).contains("compressed ") && !series(&stats).contains("compressed"));
        stats.series.push(series_of("shop", 3));
        stats.compressed_dumps = Sum { count: 3, bytes: 3000 };
        let (sums, series) = (sums(&stats, None), series(&stats));
        assert!(sums.contains("\ncompressed  3.00 kB in 3 dumps that came so"), "{sums}");
        assert!(series.ends_with("\nshop on db1: 3 of 5 snapshots came compressed, 3.00 kB\n"), "{series}");
        assert!(!series.contains("etc on"), "{series}");
        for line in sums.lines().chain(series.lines()) {
            assert!(line.chars().count() <= 100, "{line}");
        }
        let document = document(&stats, &Value::Null);
        assert_eq!(document["compressed_dumps"], json!({ "count": 3, "bytes": 3000 }));
        assert_eq!(document["series"][1]["compressed_dumps"]["count"], 3);
    }
}
