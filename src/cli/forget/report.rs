//! What `yester forget` says of its decisions: a table for each series, and a document for programs.

use jiff::Zoned;
use serde_json::{Map, Value, json};

use super::refusal::{Refusal, series_name};
use crate::cli::output::{Align, Table};
use crate::cli::snapshots::{full_document, state_words};
use crate::human;
use crate::ops::forget::policy::Reason;
use crate::ops::forget::{Decision, ForgetPlan, SeriesPlan};
use crate::path::escape;
use crate::repo::snapshots::Snapshot;

/// What was decided, and what came of it.
pub(super) struct Report<'a> {
    pub(super) plan: &'a ForgetPlan,
    /// The local time.
    pub(super) now: &'a Zoned,
    /// Snapshots that were named, and are forgotten already.
    pub(super) forgotten_before: &'a [Snapshot],
    pub(super) refusals: &'a [Refusal<'a>],
}

impl Report<'_> {
    /// Returns the lines that people read at the end.
    pub(super) fn lines(&self, dry_run: bool) -> Vec<String> {
        let before = self.forgotten_before.iter().map(|snapshot| {
            let manifest = &snapshot.manifest;
            let time = human::time(manifest.time);
            format!("snapshot {} of {}, {time}, was forgotten before", manifest.id.short(), manifest.source)
        });
        let mut lines: Vec<String> = before.collect();
        let what = human::counted(self.plan.forgotten().count() as u64, "snapshot");
        match (dry_run, self.plan.forgotten().count()) {
            (_, 0) if lines.is_empty() => lines.push("there is nothing to forget".to_owned()),
            (_, 0) => {}
            (true, _) => lines.push(format!("would forget {what}; nothing was changed")),
            (false, _) => {
                lines.push(format!(
                    "forgot {what}; after a week, `yester gc` gives back what they alone take"
                ));
            }
        }
        lines
    }

    /// Returns a table for each series.
    pub(super) fn tables(&self) -> String {
        let table = |series| format!("{}:\n{}", series_name(series), self.table(series));
        self.plan.series.iter().map(table).collect::<Vec<_>>().join("\n")
    }

    fn table(&self, series: &SeriesPlan) -> String {
        let left = ["ID", "TIME", "", "WHY", "STATE"].map(|heading| (heading, Align::Left));
        let mut table = Table::new(&left);
        for decision in &series.decisions {
            let manifest = &decision.snapshot.manifest;
            let what = if decision.is_kept() { "keep" } else { "forget" };
            table.push(vec![
                manifest.id.short(),
                human::local_time(manifest.time, self.now.time_zone()),
                what.to_owned(),
                why(decision),
                self.state(&decision.snapshot),
            ]);
        }
        table.render()
    }

    fn state(&self, snapshot: &Snapshot) -> String {
        let state = state_words(snapshot);
        let is_ahead = snapshot.manifest.time > self.now.timestamp();
        if is_ahead { format!("{state}, of the future") } else { state }
    }

    /// Returns what programs read.
    pub(super) fn document(&self, dry_run: bool) -> Value {
        let before: Vec<_> =
            self.forgotten_before.iter().map(|snapshot| snapshot.manifest.id.hex()).collect();
        json!({
            "dry_run": dry_run,
            "time_zone": self.now.time_zone().iana_name(),
            "forgotten": self.plan.forgotten().count(),
            "forgotten_before": before,
            "series": self.plan.series.iter().map(|series| self.series_document(series)).collect::<Vec<_>>(),
        })
    }

    fn series_document(&self, series: &SeriesPlan) -> Value {
        let refusal = self.refusals.iter().find(|refusal| std::ptr::eq(refusal.series, series));
        json!({
            "source": series.source,
            "host": series.host,
            "refused": refusal.map(|refusal| refusal.cause.word()),
            "snapshots": series.decisions.iter().map(decision_document).collect::<Vec<_>>(),
        })
    }
}

fn decision_document(decision: &Decision) -> Map<String, Value> {
    let mut document = full_document(&decision.snapshot);
    document.insert("kept".to_owned(), decision.is_kept().into());
    document.insert("reasons".to_owned(), decision.reasons.iter().map(words).collect());
    document
}

/// Returns all reasons to keep a snapshot; if there are none, that no rule does, or that it was named.
fn why(decision: &Decision) -> String {
    let reasons: Vec<String> = decision.reasons.iter().map(words).collect();
    if reasons.is_empty() { "nothing keeps it".to_owned() } else { reasons.join(", ") }
}

fn words(reason: &Reason) -> String {
    match reason {
        Reason::Last(nth) => format!("last {nth}"),
        Reason::Hourly(nth) => format!("hour {nth}"),
        Reason::Daily(nth) => format!("day {nth}"),
        Reason::Weekly(nth) => format!("week {nth}"),
        Reason::Monthly(nth) => format!("month {nth}"),
        Reason::Yearly(nth) => format!("year {nth}"),
        Reason::Within => "young enough".to_owned(),
        Reason::Tag(tag) => format!("tag {}", escape(tag.as_bytes())),
        Reason::Protected => "protected".to_owned(),
        Reason::Latest => "the latest".to_owned(),
        Reason::NotNamed => "not named".to_owned(),
    }
}
