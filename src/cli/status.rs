//! `yester status`: says how the backups are.

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::context::Context;
use super::exit::CommandError;
use super::output::{self, Align, Table};
use super::present::Present;
use super::record;
use crate::human;
use crate::jobs::config::Severity;
use crate::jobs::health::{Finding, Health, SourceHealth, StoreHealth};
use crate::journal::Run;

/// Columns that people see.
const WIDTH: usize = 100;
/// Backups that a sparkline shows.
const SPARKS: usize = 12;

/// Say how the backups are
#[derive(Debug, Args)]
#[command(after_help = "\
Holds the rules of the configuration against what the journal of this host knows: a line for each
source and store, then what is wrong and what to do. TREND shows the sizes of the last backups,
LAST GOOD how old the last good one is, COPIED whether further stores have everything.

Exit code 0: all is well, or only worth knowing. 1: something to look at. 2: something critical.

--alert tells whoever the configuration names, and prints nothing unless that fails: each of them
hears of each thing once. Started by cron or a timer, it notices as well that nothing runs any
more.

Examples:
  yester status
  yester status --json | jq '.findings'
  yester status --alert")]
pub(super) struct StatusArgs {
    /// Tell whoever is to be told and was not yet, and print nothing
    #[arg(long)]
    alert: bool,
}

/// How everything is at one time.
struct Shown {
    health: Health,
    now: Timestamp,
    host: String,
}

/// Says how everything is, or has people told.
pub(super) fn run(context: &Context, args: &StatusArgs) -> Result<(), CommandError> {
    context.configuration()?;
    let journal = record::open_journal(context)?;
    let present = Present::new(context, &journal)?;
    if args.alert {
        return present.publish();
    }
    let health = present.assess()?;
    let worst = health.worst();
    let shown = Shown { health, now: Timestamp::now(), host: context.configured_host()? };
    if context.json() {
        output::print_json(&document(&shown))?;
    } else {
        output::print(&page(&shown))?;
    }
    match worst {
        None | Some(Severity::Info) => Ok(()),
        Some(Severity::Warning) => Err(CommandError::silent(1)),
        Some(Severity::Critical) => Err(CommandError::silent(2)),
    }
}

/// Returns what people see.
fn page(shown: &Shown) -> String {
    let Shown { health, now, .. } = shown;
    let mut parts = vec![sources(health, *now), stores(health, *now)];
    let said: String = health.findings.iter().map(finding).collect();
    parts.push(if said.is_empty() { "All is well.\n".to_owned() } else { said });
    parts.join("\n")
}

fn sources(health: &Health, now: Timestamp) -> String {
    use Align::{Left, Right};
    if health.sources.is_empty() {
        return "No sources are configured.\n".to_owned();
    }
    let mut table = Table::new(&[
        ("SOURCE", Left),
        ("HEALTH", Left),
        ("LAST GOOD", Right),
        ("TOOK", Right),
        ("SIZE", Right),
        ("TREND", Left),
        ("VERIFIED", Right),
        ("COPIED", Left),
        ("NEXT", Right),
    ]);
    for source in &health.sources {
        let store = health.stores.iter().find(|store| store.name == source.store);
        let good = source.last_good.as_ref();
        table.push(vec![
            source.name.clone(),
            state(source).to_owned(),
            good.map_or_else(|| "never".to_owned(), |run| age(ended(run), now)),
            good.and_then(took).map(short).unwrap_or_default(),
            good.map(|run| human::bytes(run.bytes)).unwrap_or_default(),
            sparkline(&source.sizes),
            store
                .and_then(|store| store.last_verified.as_ref())
                .map_or_else(|| "never".to_owned(), |run| age(ended(run), now)),
            copied(health, source),
            source.next.map(|time| short(time.duration_since(now))).unwrap_or_default(),
        ]);
    }
    table.render()
}

fn state(source: &SourceHealth) -> &'static str {
    match source.worst {
        Some(severity) => severity.word(),
        None if source.is_running() => "running",
        None if source.last_good.is_none() => "new",
        None => "ok",
    }
}

/// Returns whether the stores of copies have all snapshots of a source; nothing if it is not copied.
fn copied(health: &Health, source: &SourceHealth) -> String {
    let behind: Vec<u64> =
        health.stores.iter().filter_map(|store| store.behind.get(&source.name).copied()).collect();
    match behind.iter().max() {
        None => String::new(),
        Some(0) => "all".to_owned(),
        Some(most) => format!("{most} short"),
    }
}

fn stores(health: &Health, now: Timestamp) -> String {
    use Align::{Left, Right};
    let mut table = Table::new(&[
        ("STORE", Left),
        ("HEALTH", Left),
        ("SIZE", Right),
        ("FREE", Right),
        ("USED", Right),
        ("VERIFIED", Right),
        ("COPIED", Right),
        ("PLACE", Left),
    ]);
    for store in &health.stores {
        let verified = store.last_verified.as_ref().map(|run| age(ended(run), now));
        let copied = store.last_copied.as_ref().map(|run| age(ended(run), now));
        table.push(vec![
            store.name.clone(),
            match store.worst {
                Some(severity) => severity.word(),
                None if store.is_missing => "away",
                None => "ok",
            }
            .to_owned(),
            store.size.map(|size| human::bytes(size.bytes)).unwrap_or_default(),
            store.disk.map(|disk| human::bytes(disk.free_bytes)).unwrap_or_default(),
            store.disk.map(|disk| format!("{}%", disk.used_percent())).unwrap_or_default(),
            verified.unwrap_or_else(|| "never".to_owned()),
            match store.copy_from {
                Some(_) => copied.unwrap_or_else(|| "never".to_owned()),
                None => String::new(),
            },
            store.location.clone(),
        ]);
    }
    table.render()
}

fn finding(finding: &Finding) -> String {
    paragraph(&format!("{}: {}", finding.severity, finding.subject), &finding.text)
}

/// Returns a heading, and text below it in lines of a bearable length.
fn paragraph(heading: &str, text: &str) -> String {
    let mut lines = vec![heading.to_owned()];
    let mut line = String::from(" ");
    for word in text.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > WIDTH && line.trim() != "" {
            lines.push(std::mem::replace(&mut line, String::from(" ")));
        }
        line.push(' ');
        line.push_str(word);
    }
    lines.push(line);
    lines.join("\n") + "\n"
}

fn ended(run: &Run) -> Timestamp {
    run.finished.unwrap_or(run.started)
}

fn took(run: &Run) -> Option<SignedDuration> {
    run.finished.map(|finished| finished.duration_since(run.started))
}

fn age(time: Timestamp, now: Timestamp) -> String {
    short(now.duration_since(time))
}

/// Returns a time in few characters, in its largest unit of which there are two: `25 h`, `3 d`.
fn short(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    let units = [(86_400, "d"), (3600, "h"), (60, "min")];
    let (unit, name) = units.into_iter().find(|(unit, _)| seconds >= 2 * unit).unwrap_or((1, "s"));
    format!("{} {name}", seconds / unit)
}

/// Draws the last sizes from nothing to the largest, so that half is half as high.
fn sparkline(sizes: &[u64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let sizes = &sizes[sizes.len().saturating_sub(SPARKS)..];
    let largest = u128::from(sizes.iter().copied().max().unwrap_or_default()).max(1);
    let bar = |size: &u64| {
        let height = u128::from(*size) * (BARS.len() as u128 - 1) / largest;
        usize::try_from(height).ok().and_then(|height| BARS.get(height)).copied().unwrap_or('█')
    };
    sizes.iter().map(bar).collect()
}

/// Returns what programs see.
fn document(shown: &Shown) -> Value {
    let Shown { health, now, host } = shown;
    json!({
        "time": human::time(*now),
        "host": host,
        "worst": health.worst().map(Severity::word),
        "sources": health.sources.iter().map(|source| source_document(health, source)).collect::<Vec<_>>(),
        "stores": health.stores.iter().map(store_document).collect::<Vec<_>>(),
        "findings": health.findings.iter().map(|finding| json!({
            "rule": finding.rule,
            "subject": finding.subject,
            "severity": finding.severity.word(),
            "text": finding.text,
        })).collect::<Vec<_>>(),
    })
}

fn source_document(health: &Health, source: &SourceHealth) -> Value {
    let behind = health
        .stores
        .iter()
        .filter_map(|store| Some((store.name.clone(), json!(store.behind.get(&source.name)?))));
    json!({
        "source": source.name,
        "store": source.store,
        "worst": source.worst.map(Severity::word),
        "running": source.is_running(),
        "failures": source.failures,
        "last_good": source.last_good.as_ref().map(run_document),
        "last_attempt": source.last_attempt.as_ref().map(run_document),
        "sizes": source.sizes,
        "durations_seconds": source.durations.iter().map(SignedDuration::as_secs_f64).collect::<Vec<_>>(),
        "copies_lack": behind.collect::<serde_json::Map<_, _>>(),
        "next": source.next.map(human::time),
    })
}

fn run_document(run: &Run) -> Value {
    json!({
        "outcome": run.outcome.name(),
        "started": human::time(run.started),
        "finished": run.finished.map(human::time),
        "snapshot": run.snapshot.map(|id| id.hex()),
        "bytes": run.bytes,
        "added_bytes": run.added_bytes,
        "message": run.message,
    })
}

fn store_document(store: &StoreHealth) -> Value {
    json!({
        "store": store.name,
        "place": store.location,
        "copy_from": store.copy_from,
        "worst": store.worst.map(Severity::word),
        "missing": store.is_missing,
        "bytes": store.size.map(|size| size.bytes),
        "free_bytes": store.disk.map(|disk| disk.free_bytes),
        "total_bytes": store.disk.map(|disk| disk.total_bytes),
        "last_verified": store.last_verified.as_ref().map(|run| human::time(ended(run))),
        "verify_failed": store.verify_failed,
        "last_copied": store.last_copied.as_ref().map(|run| human::time(ended(run))),
        "lacks": store.behind,
        "next_copy": store.next_copy.map(human::time),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::jobs::health::DiskSpace;
    use crate::journal::{RunOutcome, StoreSize};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn run(started: &str, minutes: i64, outcome: RunOutcome) -> Run {
        let started = at(started);
        Run {
            id: "1".parse().unwrap(),
            store: None,
            place: String::new(),
            operation: "ingest".into(),
            source: "callcentre".into(),
            started,
            finished: Some(started + SignedDuration::from_mins(minutes)),
            outcome,
            snapshot: None,
            bytes: 12_400_000_000,
            added_bytes: 1,
            message: "1 file could not be read".into(),
        }
    }

    #[test]
    fn a_page_has_a_hundred_columns() {
        let callcentre = SourceHealth {
            name: "callcentre".into(),
            store: "local".into(),
            worst: Some(Severity::Critical),
            last_good: Some(run("2026-11-21T02:30:00Z", 12, RunOutcome::Partial)),
            last_attempt: None,
            failures: 3,
            sizes: (1..=14).map(|number| number * 1_000_000_000).collect(),
            durations: Vec::new(),
            next: Some(at("2026-11-23T02:30:00Z")),
        };
        let new = SourceHealth {
            name: "inventory".into(),
            worst: None,
            last_good: None,
            failures: 0,
            sizes: Vec::new(),
            ..callcentre.clone()
        };
        let local = StoreHealth {
            name: "local".into(),
            location: "/backup/store".into(),
            copy_from: None,
            worst: Some(Severity::Warning),
            is_missing: false,
            size: Some(StoreSize { bytes: 88_200_000_000, measured: Timestamp::UNIX_EPOCH }),
            disk: Some(DiskSpace { total_bytes: 100_000_000_000, free_bytes: 9_000_000_000 }),
            last_verified: Some(run("2026-11-22T02:50:00Z", 1, RunOutcome::Succeeded)),
            verify_failed: false,
            last_copied: None,
            behind: BTreeMap::new(),
            next_copy: None,
        };
        let offsite = StoreHealth {
            name: "offsite".into(),
            location: "s3://acme-backups/store".into(),
            copy_from: Some("local".into()),
            worst: None,
            size: None,
            disk: None,
            last_verified: None,
            last_copied: Some(run("2026-11-20T02:50:00Z", 1, RunOutcome::Succeeded)),
            behind: [("callcentre".to_owned(), 2), ("inventory".to_owned(), 0)].into(),
            ..local.clone()
        };
        let text = "3 backups in a row have failed, the first at 2026-11-20 03:30 CET, the last at 2026-11-22 \
                    03:30 CET: cannot connect. `yester run callcentre` tries again.";
        let finding = Finding {
            rule: "failures",
            subject: "callcentre".into(),
            severity: Severity::Critical,
            text: text.into(),
        };
        let health =
            Health { sources: vec![callcentre, new], stores: vec![local, offsite], findings: vec![finding] };
        let now = at("2026-11-22T12:00:00Z");
        let page = page(&Shown { health, now, host: "db1".into() });
        assert!(page.lines().all(|line| line.chars().count() <= WIDTH), "{page}");
        insta::assert_snapshot!(page, @"
        SOURCE      HEALTH    LAST GOOD    TOOK      SIZE  TREND         VERIFIED  COPIED   NEXT
        callcentre  critical       33 h  12 min  12.40 GB  ▂▃▃▄▄▅▅▆▆▇▇█       9 h  2 short  14 h
        inventory   new           never                                       9 h  all      14 h

        STORE    HEALTH       SIZE     FREE  USED  VERIFIED  COPIED  PLACE
        local    warning  88.20 GB  9.00 GB   91%       9 h          /backup/store
        offsite  ok                                   never     2 d  s3://acme-backups/store

        critical: callcentre
          3 backups in a row have failed, the first at 2026-11-20 03:30 CET, the last at 2026-11-22 03:30
          CET: cannot connect. `yester run callcentre` tries again.
        ");
    }

    #[test]
    fn half_is_half_as_high() {
        assert_eq!(sparkline(&[]), "");
        assert_eq!(sparkline(&[0, 50, 100]), "▁▄█");
        assert_eq!(sparkline(&[u64::MAX; 20]).chars().count(), SPARKS);
        assert_eq!(sparkline(&[0, 0]), "▁▁");
    }
}
