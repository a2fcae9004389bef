//! `yester gc`: gives back the space of what no snapshot needs.

use std::time::{Duration, Instant};

use clap::Args;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::context::Context;
use super::exit::{CommandError, ErrorKind};
use super::output;
use super::process::peak_memory_bytes;
use super::record::Record;
use crate::human;
use crate::journal::{RunEnd, RunOutcome};
use crate::ops::gc::plan::{GcPlan, PlannedPack};
use crate::ops::gc::{self, GcError, GcOptions, GcStats, OtherWriters, WaitedFor};
use crate::path::escape;
use crate::progress::error_chain;
use crate::repo::{RepoError, Repository};

/// Give back the space of what no snapshot needs
#[derive(Debug, Args)]
#[command(after_help = "\
Deletes the packs that only forgotten snapshots need, and writes anew what is needed of packs
that are mostly garbage, or many and small. A snapshot goes a week after it was forgotten
(--grace); until then `yester forget --undo` brings it back. Nothing is deleted while anything is
missing: exit code 13.

Backups go on meanwhile, from this host and others: nobody is locked out. A backup that began
before may rely on what is to go, so that it is waited for. If it takes longer than --wait,
nothing is deleted yet; the next run goes on where this one stopped, as it does if one is killed.
A host that shows no sign of life for a day is waited for no longer: its backup fails, and is to
be made anew.

Needs a store that creates objects conditionally, and tries that first. For one that does not,
--exclusive asserts that no other host writes: what others began is waited for no longer.

Examples:
  yester gc --dry-run
  yester gc")]
pub(super) struct GcArgs {
    /// Drop snapshots that were forgotten so long ago, such as 7d or 12h; 0 for all
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = human::parse_duration)]
    grace: SignedDuration,
    /// Wait so long for backups that began before
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = human::parse_duration)]
    wait: SignedDuration,
    /// Assert that no other host writes
    #[arg(long)]
    exclusive: bool,
    /// Say what would be deleted, and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Collects garbage, or says what that would do.
pub(super) fn run(context: &Context, args: &GcArgs) -> Result<(), CommandError> {
    let repo = context.open()?;
    let options = GcOptions {
        grace: args.grace,
        wait: args.wait.unsigned_abs(),
        writers: if args.exclusive { OtherWriters::None } else { OtherWriters::Any },
        threads: context.threads(),
    };
    if args.dry_run { plan(context, &repo, &options) } else { collect(context, &repo, &options) }
}

fn plan(context: &Context, repo: &Repository, options: &GcOptions) -> Result<(), CommandError> {
    let reporter = context.reporter();
    let planned = GcPlan::new(repo, options, &reporter);
    reporter.finish();
    let plan = planned?;
    if context.json() {
        return output::print_json(&plan_document(&plan));
    }
    if plan.is_empty() {
        context.tell("there is no garbage");
        tell_in_grace(context, plan.in_grace);
        return Ok(());
    }
    context.tell(&format!("would give back about {}; nothing was changed", human::bytes(freed_bytes(&plan))));
    let dropped = plan.snapshots.len() as u64;
    context.tell(&format!("  {} would be gone for good", human::counted(dropped, "forgotten snapshot")));
    context.tell(&format!("  {} would be deleted", packs_text(&plan.dead)));
    if !plan.rewritten.is_empty() {
        let packs = packs_text(&plan.rewritten);
        context.tell(&format!("  {packs} would be deleted once what is needed of them is written anew"));
    }
    let kept = human::counted(plan.kept_packs, "pack");
    context.tell(&format!("  {kept} with {} would stay as they are", human::bytes(plan.kept_bytes)));
    tell_in_grace(context, plan.in_grace);
    Ok(())
}

/// Says what a later run will drop.
fn tell_in_grace(context: &Context, snapshots: u64) {
    if snapshots > 0 {
        let snapshots = human::counted(snapshots, "forgotten snapshot");
        context.tell(&format!("  {snapshots} can still be brought back, and may go later"));
    }
}

fn packs_text(packs: &[PlannedPack]) -> String {
    let bytes = packs.iter().map(|pack| pack.bytes).sum();
    format!("{} with {}", human::counted(packs.len() as u64, "pack"), human::bytes(bytes))
}

fn freed_bytes(plan: &GcPlan) -> u64 {
    plan.dead.iter().chain(&plan.rewritten).map(|pack| pack.dead_bytes).sum()
}

fn collect(context: &Context, repo: &Repository, options: &GcOptions) -> Result<(), CommandError> {
    let started = Instant::now();
    let record = Record::begin(context, repo.config().store, &context.location()?.to_string(), "gc", "");
    let reporter = context.reporter();
    let collected = gc::collect(repo, options, &reporter);
    reporter.finish();
    record.measure(repo, &context.location()?.to_string());
    record.finish(&run_end(&collected));
    let stats = collected?;
    if context.json() {
        return output::print_json(&document(context, &stats, started.elapsed()));
    }
    summarise(context, &stats, started.elapsed());
    Ok(())
}

fn summarise(context: &Context, stats: &GcStats, elapsed: Duration) {
    let peak =
        peak_memory_bytes().map(|bytes| format!(", peak memory {}", human::bytes(bytes))).unwrap_or_default();
    if stats.deleted_packs == 0 && stats.dropped_snapshots == 0 {
        let nothing =
            if stats.waiting_for.is_empty() { "there was no garbage" } else { "deleted nothing yet" };
        context.tell(nothing);
    } else {
        let given_back = stats.deleted_bytes.saturating_sub(stats.written_bytes);
        context.tell(&format!("gave back {}", human::bytes(given_back)));
        context.tell(&format!(
            "  deleted {} with {}; {} gone for good",
            human::counted(stats.deleted_packs, "pack"),
            human::bytes(stats.deleted_bytes),
            human::counted(stats.dropped_snapshots, "forgotten snapshot")
        ));
    }
    if stats.rewritten_packs > 0 {
        context.tell(&format!(
            "  wrote anew what is needed of {}: {}",
            human::counted(stats.rewritten_packs, "pack"),
            human::bytes(stats.written_bytes)
        ));
    }
    tell_in_grace(context, stats.in_grace);
    context.tell(&format!("  {}{peak}", human::duration(elapsed)));
    context.tell_requests();
    for waited_for in &stats.waiting_for {
        context.tell(&waiting_text(waited_for));
    }
    if !stats.waiting_for.is_empty() {
        context.tell("run `yester gc` again when that has ended; it goes on where this one stopped");
    }
}

fn waiting_text(waited_for: &WaitedFor) -> String {
    let WaitedFor { session, host, source, seen } = waited_for;
    match seen {
        Some(seen) => format!(
            "a backup of {source} on {} began before, and last gave a sign of life at {}",
            escape(host.as_bytes()),
            human::time(*seen)
        ),
        None => format!("session {session} began before, and its mark cannot be read"),
    }
}

/// Returns what the journal keeps of a run.
fn run_end(collected: &Result<GcStats, GcError>) -> RunEnd {
    let (outcome, bytes, added_bytes, message) = match collected {
        Ok(stats) if stats.waiting_for.is_empty() => {
            (RunOutcome::Succeeded, stats.deleted_bytes, stats.written_bytes, String::new())
        }
        Ok(stats) => {
            let waiting = stats.waiting_for.iter().map(waiting_text).collect::<Vec<_>>().join("; ");
            (RunOutcome::Succeeded, stats.deleted_bytes, stats.written_bytes, waiting)
        }
        Err(error) => (RunOutcome::Failed, 0, 0, error_chain(error)),
    };
    RunEnd { outcome, snapshot: None, bytes, added_bytes, message }
}

fn plan_document(plan: &GcPlan) -> Value {
    let packs = |packs: &[PlannedPack]| -> Vec<Value> {
        let document = |pack: &PlannedPack| json!({ "id": pack.id.to_string(), "bytes": pack.bytes, "dead_bytes": pack.dead_bytes });
        packs.iter().map(document).collect()
    };
    json!({
        "dry_run": true,
        "dropped_snapshots": plan.snapshots.iter().map(|id| id.hex()).collect::<Vec<_>>(),
        "dead_packs": packs(&plan.dead),
        "rewritten_packs": packs(&plan.rewritten),
        "in_grace": plan.in_grace,
        "freed_bytes": freed_bytes(plan),
        "kept_packs": plan.kept_packs,
        "kept_bytes": plan.kept_bytes,
    })
}

fn document(context: &Context, stats: &GcStats, elapsed: Duration) -> Value {
    let waiting: Vec<Value> = stats
        .waiting_for
        .iter()
        .map(|WaitedFor { session, host, source, seen }| {
            let seen = seen.map(|seen| seen.to_string());
            json!({ "session": session.hex(), "host": host, "source": source, "seen": seen })
        })
        .collect();
    json!({
        "dry_run": false,
        "dropped_snapshots": stats.dropped_snapshots,
        "in_grace": stats.in_grace,
        "deleted_packs": stats.deleted_packs,
        "deleted_bytes": stats.deleted_bytes,
        "rewritten_packs": stats.rewritten_packs,
        "written_bytes": stats.written_bytes,
        "replaced_index_objects": stats.replaced_objects,
        "waiting_for": waiting,
        "elapsed_seconds": elapsed.as_secs_f64(),
        "peak_memory_bytes": peak_memory_bytes(),
        "requests": context.requests(),
    })
}

impl From<GcError> for CommandError {
    fn from(error: GcError) -> Self {
        match error {
            GcError::Repo(error @ RepoError::StaleIndex) => Self::from(error),
            GcError::Repo(error) => Self::from(error).hint("nothing that any snapshot needs was deleted"),
            GcError::Unconditional(_) => Self::new(ErrorKind::Failed, error)
                .hint("nothing was deleted; if no other host writes to the store, --exclusive asserts that"),
            GcError::StaleListing(_) => Self::new(ErrorKind::Failed, error).hint(
                "nothing was deleted; give the address of the store itself, not that of a cache or a replica",
            ),
            GcError::NotWhole { .. } => Self::new(ErrorKind::Damaged, error)
                .hint("`yester verify` says what is damaged, and what that touches; `yester repair` brings back what can be")
                .hint("once such a snapshot was forgotten for longer than --grace, it is no longer needed"),
            GcError::TooOld => Self::new(ErrorKind::Failed, error).hint("run `yester gc` again"),
            GcError::NoNumber => Self::new(ErrorKind::Failed, error).hint("nothing was deleted"),
        }
    }
}
