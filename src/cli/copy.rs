//! `yester copy`: copies snapshots to a second store.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde_json::{Value, json};

use super::context::Context;
use super::exit::{CommandError, ErrorKind};
use super::output::{Align, Table};
use super::process::peak_memory_bytes;
use super::record::Record;
use super::second::{self, SecondKey};
use super::select::SnapshotFilter;
use super::{output, snapshots};
use crate::format::snapshot::Manifest;
use crate::human;
use crate::journal::{RunEnd, RunOutcome};
use crate::ops::copy::{CopyError, CopyOptions, CopyPlan, CopyStats, ReadBack, check, copy};
use crate::path::escape;
use crate::progress::error_chain;
use crate::repo::Repository;
use crate::repo::snapshots::Snapshot;
use crate::store::location::Location;

/// Copy snapshots to a second store
#[derive(Debug, Args)]
#[command(after_help = "\
Copies what the other store lacks: all snapshots that are not forgotten, oldest first, or those
that are named or chosen. Each copy has an id of its own and keeps that of its origin, by which
it is found, too; copying again, on, or back makes nothing twice. A copy that was interrupted is
taken up by the next one.

Where there is no store yet, one is created that is opened by what opens the first one; `yester
init --like` does the same. Between two such stores packs are copied as they are. Into any other
store everything is read and sealed anew. The second store's key is the first one's unless told
otherwise.

What was copied is looked for in the other store, and read back where that is a directory, before
a snapshot is committed. A snapshot of which something is damaged here is not copied: exit code
13.

Examples:
  yester copy --to /mnt/disk/backup
  yester copy --to /mnt/disk/backup --source shop --last 7
  yester copy --to /srv/other --to-key-file /root/other.key 3fa92c11")]
pub(super) struct CopyArgs {
    /// The store to copy to; created if there is none in an empty place
    #[arg(long, value_name = "STORE")]
    to: OsString,
    /// Only these snapshots: the beginning of an id, latest:SOURCE, a time, or the name in a mount
    #[arg(value_name = "SNAP", conflicts_with_all = ["source", "host", "tags", "last", "within"])]
    snapshots: Vec<String>,
    #[command(flatten)]
    filter: SnapshotFilter,
    /// Only the last N of each series
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    last: Option<u32>,
    /// Only those that are at most so much older than the latest of their series, such as 30d
    #[arg(long, value_name = "TIME", value_parser = human::parse_span)]
    within: Option<Span>,
    /// Leave out what would be forgotten there, by what the configuration says of that store
    #[arg(long, conflicts_with = "snapshots")]
    kept: bool,
    /// Create no store where there is none
    #[arg(long)]
    no_create: bool,
    /// Open the other store with the key in this file
    #[arg(long, value_name = "FILE")]
    to_key_file: Option<PathBuf>,
    /// Open the other store with the passphrase in the first line of this file
    #[arg(long, value_name = "FILE", conflicts_with = "to_key_file")]
    to_passphrase_file: Option<PathBuf>,
    /// Read back what was copied [default for a directory]
    #[arg(long, conflicts_with = "no_read_back")]
    read_back: bool,
    /// Only look for what was copied
    #[arg(long)]
    no_read_back: bool,
    /// Say what would be copied, and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Copies, or says what that would do.
pub(super) fn run(context: &Context, args: &CopyArgs) -> Result<(), CommandError> {
    let started = Instant::now();
    let location = context.resolve(&args.to)?;
    let (repo, credential) = context.open_keeping_credential()?;
    let chosen = choose(&repo, args)?;
    let key = SecondKey {
        key_file: ("--to-key-file", args.to_key_file.as_ref()),
        passphrase_file: ("--to-passphrase-file", args.to_passphrase_file.as_ref()),
    };
    let (destination, created) = match second::open(context, &location, &key, credential.as_ref()) {
        Err(error) if error.kind() == ErrorKind::NoStore && !args.no_create => {
            second::require_unseen(context, &location)?;
            if args.dry_run {
                (None, false)
            } else {
                second::create_like(context, &location, &repo)?;
                (Some(second::open(context, &location, &key, credential.as_ref())?), true)
            }
        }
        opened => (Some(opened?), false),
    };
    if let Some(destination) = &destination {
        check(&repo, destination)?;
    }
    let mut plan = CopyPlan::new(destination.as_ref(), chosen)?;
    if args.kept {
        let policies = context.policies(&location)?;
        let policy = |manifest: &Manifest| policies.get(&(manifest.source.clone(), manifest.host.clone()));
        let now = Timestamp::now().to_zoned(TimeZone::try_system().unwrap_or(TimeZone::UTC));
        plan.leave_out_unkept(destination.as_ref(), policy, &now)?;
    }
    let Some(destination) = destination.filter(|_| !args.dry_run) else {
        return tell_plan(context, &location, &plan);
    };
    let is_read_back = args.read_back || (!args.no_read_back && !location.is_distant());
    let options = CopyOptions {
        level: context.level(),
        threads: context.threads(),
        read_back: if is_read_back { ReadBack::Bytes } else { ReadBack::Lengths },
    };
    let record = Record::begin(context, repo.config().store, &location.to_string(), "copy", "");
    let reporter = context.reporter();
    let copied = copy(&repo, &destination, &plan, &options, &reporter);
    reporter.finish();
    record.measure(&destination, &location.to_string());
    record.finish(&run_end(&copied));
    let stats = copied?;
    let report =
        Report { location: &location, destination: &destination, created, plan: &plan, stats: &stats };
    report.show(context, started.elapsed())?;
    match stats.damaged.len() as u64 {
        0 => Ok(()),
        damaged => Err(CommandError::message(
            ErrorKind::Damaged,
            format!("{} not copied, since something is damaged here", were(damaged, "snapshot")),
        )
        .hint("`yester verify` says what is damaged; all others were copied")
        .hint("`yester repair --from STORE` brings damaged packs back from a store that has them")),
    }
}

fn were(number: u64, noun: &str) -> String {
    let was = if number == 1 { "was" } else { "were" };
    format!("{} {was}", human::counted(number, noun))
}

/// Returns the snapshots that are to be in the other store.
fn choose(repo: &Repository, args: &CopyArgs) -> Result<Vec<Snapshot>, CommandError> {
    if !args.snapshots.is_empty() {
        let mut seen = BTreeSet::new();
        let mut named = Vec::new();
        for name in &args.snapshots {
            let snapshot = repo.find_snapshot(name)?;
            if seen.insert(snapshot.manifest.id) {
                named.push(snapshot);
            }
        }
        return Ok(named);
    }
    let mut series: BTreeMap<(String, String), Vec<Snapshot>> = BTreeMap::new();
    for snapshot in repo.snapshots()?.into_iter().filter(|snapshot| args.filter.matches(&snapshot.manifest)) {
        let manifest = &snapshot.manifest;
        series.entry((manifest.source.clone(), manifest.host.clone())).or_default().push(snapshot);
    }
    let mut chosen = Vec::new();
    for mut snapshots in series.into_values() {
        if let (Some(within), Some(latest)) = (args.within, snapshots.last()) {
            let latest = latest.manifest.time.to_zoned(TimeZone::UTC);
            let oldest = latest
                .checked_sub(within)
                .map_err(|error| CommandError::usage(format!("--within: {error}")))?;
            snapshots.retain(|snapshot| snapshot.manifest.time >= oldest.timestamp());
        }
        let last = args.last.and_then(|last| usize::try_from(last).ok()).unwrap_or(usize::MAX);
        let surplus = snapshots.len().saturating_sub(last);
        chosen.extend(snapshots.drain(surplus..));
    }
    Ok(chosen)
}

fn tell_plan(context: &Context, location: &Location, plan: &CopyPlan) -> Result<(), CommandError> {
    if context.json() {
        let documents = plan.missing.iter().map(snapshots::full_document).collect::<Vec<_>>();
        return output::print_json(&json!({
            "dry_run": true,
            "to": location.to_string(),
            "missing": documents,
            "present": plan.present.len(),
            "unkept": plan.unkept.len(),
        }));
    }
    output::print(&table(
        plan.missing.iter().map(|snapshot| (snapshot.manifest.id.short(), &snapshot.manifest)),
    ))?;
    context.tell(&format!(
        "would copy {} to {location}; {} there already{}; nothing was changed",
        human::counted(plan.missing.len() as u64, "snapshot"),
        are(plan.present.len() as u64),
        unkept(plan)
    ));
    Ok(())
}

/// Says how many snapshots are left out, if any are.
fn unkept(plan: &CopyPlan) -> String {
    match plan.unkept.len() as u64 {
        0 => String::new(),
        number => format!("; {} would not be kept there", human::count(number)),
    }
}

fn are(number: u64) -> String {
    let are = if number == 1 { "is" } else { "are" };
    format!("{} {are}", human::count(number))
}

/// Makes a table of snapshots, each with the id that it has where it came from.
fn table<'a>(rows: impl Iterator<Item = (String, &'a Manifest)>) -> String {
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("TIME", Align::Left),
        ("SOURCE", Align::Left),
        ("HOST", Align::Left),
        ("FILES", Align::Right),
        ("SIZE", Align::Right),
        ("ORIGIN", Align::Left),
    ]);
    for (id, manifest) in rows {
        table.push(vec![
            id,
            human::time(manifest.time),
            manifest.source.clone(),
            escape(manifest.host.as_bytes()),
            human::count(manifest.totals.files),
            human::bytes(manifest.totals.bytes),
            manifest.identity().short(),
        ]);
    }
    table.render()
}

/// What is said of a copy.
struct Report<'a> {
    location: &'a Location,
    destination: &'a Repository,
    created: bool,
    plan: &'a CopyPlan,
    stats: &'a CopyStats,
}

impl Report<'_> {
    fn show(&self, context: &Context, elapsed: Duration) -> Result<(), CommandError> {
        if context.json() {
            return output::print_json(&self.document(context, elapsed));
        }
        let Self { stats, plan, location, .. } = self;
        if !stats.copied.is_empty() {
            output::print(&table(stats.copied.iter().map(|(_, copy)| (copy.id.short(), copy))))?;
        }
        let present = plan.present.len() as u64 + stats.overtaken;
        context.tell(&format!(
            "copied {} to {location}; {present} there already{}",
            human::counted(stats.copied.len() as u64, "snapshot"),
            unkept(plan),
            present = match present {
                1 => "1 was".to_owned(),
                number => format!("{} were", human::count(number)),
            }
        ));
        context.tell(&format!(
            "  {} with {} written, {} of them copied as they are{}",
            human::counted(stats.written_packs, "pack"),
            human::bytes(stats.written_bytes),
            human::count(stats.whole_packs),
            if stats.read_back > 0 { "; all were read back" } else { "" }
        ));
        let peak = peak_memory_bytes()
            .map(|bytes| format!(", peak memory {}", human::bytes(bytes)))
            .unwrap_or_default();
        context.tell(&format!("  {}{peak}", human::duration(elapsed)));
        context.tell_requests();
        Ok(())
    }

    fn document(&self, context: &Context, elapsed: Duration) -> Value {
        let stats = self.stats;
        let copied = stats.copied.iter().map(|(from, copy)| {
            let mut document = snapshots::document(copy);
            document.insert("copied_from".to_owned(), from.hex().into());
            Value::Object(document)
        });
        let damaged =
            stats.damaged.iter().map(|(manifest, what)| json!({ "id": manifest.id.hex(), "what": what }));
        json!({
            "dry_run": false,
            "to": self.location.to_string(),
            "store": self.destination.config().store.to_string(),
            "created": self.created,
            "copied": copied.collect::<Vec<_>>(),
            "present": self.plan.present.len() as u64 + stats.overtaken,
            "unkept": self.plan.unkept.len(),
            "damaged": damaged.collect::<Vec<_>>(),
            "whole_packs": stats.whole_packs,
            "frames": stats.frames,
            "resealed_bytes": stats.resealed_bytes,
            "written_packs": stats.written_packs,
            "written_bytes": stats.written_bytes,
            "read_back_packs": stats.read_back,
            "elapsed_seconds": elapsed.as_secs_f64(),
            "peak_memory_bytes": peak_memory_bytes(),
            "requests": context.requests(),
        })
    }
}

fn run_end(copied: &Result<CopyStats, CopyError>) -> RunEnd {
    let (outcome, bytes, message) = match copied {
        Ok(stats) if stats.damaged.is_empty() => (RunOutcome::Succeeded, stats.written_bytes, String::new()),
        Ok(stats) => {
            let damaged = human::counted(stats.damaged.len() as u64, "damaged snapshot");
            (RunOutcome::Failed, stats.written_bytes, format!("left out {damaged}"))
        }
        Err(error) => (RunOutcome::Failed, 0, error_chain(error)),
    };
    RunEnd { outcome, snapshot: None, bytes, added_bytes: bytes, message }
}

impl From<CopyError> for CommandError {
    fn from(error: CopyError) -> Self {
        let again = "run the same command again; what was copied already is used again";
        match error {
            CopyError::Source(error) => {
                Self::from(error).context("cannot read from the store that is copied from").hint(again)
            }
            CopyError::Destination(error) => {
                Self::from(error).context("cannot copy to the other store").hint(again)
            }
            CopyError::ReadBack { .. } => Self::new(ErrorKind::Damaged, error).hint(
                "the snapshot was not committed there; check that disk, and run the same command again",
            ),
            CopyError::Calendar(_) => Self::new(ErrorKind::Usage, error).hint(
                "`keep` of the other store, or of a source, has a time in `within` that is far too long",
            ),
            CopyError::Plain(_) => Self::new(ErrorKind::Failed, error)
                .hint("nothing was copied; what is sealed here would lie open there"),
            CopyError::SameStore(..) => Self::new(ErrorKind::Usage, error)
                .hint("give another one by --to; a new one is created where there is none"),
            CopyError::NotMarked(ref id, _) => {
                let hint = format!("`yester protect {id}` or `yester accept {id}` there says it again");
                Self::new(ErrorKind::Failed, error).hint(hint)
            }
        }
    }
}
