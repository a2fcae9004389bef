//! `yester repair`: brings back what is damaged or missing, from a second store where there is one.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::context::Context;
use super::exit::{CommandError, ErrorKind};
use super::output;
use super::record::Record;
use super::second::{self, SecondKey};
use crate::human;
use crate::journal::{RunEnd, RunOutcome};
use crate::ops::repair::{
    BadObject, ReadPacks, RepairError, RepairOptions, RepairPlan, RepairStats, Unreadable,
    require_same_domain,
};
use crate::progress::error_chain;
use crate::repo::snapshots::Snapshot;

/// Bring back what is damaged or missing
#[derive(Debug, Args)]
#[command(after_help = "\
Looks for packs that are missing or of another length, and reads those that this host found
damaged before; run `yester verify` first, or give --read to read all. With --from, each is
brought back from a store of the same keys, as `yester copy` and `yester init --like` make them:
what comes from there must have the hash that the pack's name is.

What nothing can bring back is taken out of the index: what is left of such a pack is written
anew, and the next backup of every host stores again what is lost, if it still has it. Snapshots
that need what is lost are named: exit code 13. Index objects that do not open are made anew from
what the packs say of themselves. A snapshot that does not open is put back from this host's
cache, or copied from the other store, under a new id.

Backups and collections may run meanwhile.

What does not open under gc/, and snapshots that nothing can bring back, stop every collection.
They are deleted with --discard-unreadable alone, which asserts that nobody else uses the store
just now, and that no newer program wrote them.

Examples:
  yester repair --dry-run
  yester repair --from /mnt/disk/backup")]
pub(super) struct RepairArgs {
    /// A store of the same keys that has what is damaged here
    #[arg(long, value_name = "STORE")]
    from: Option<OsString>,
    /// Open the other store with the key in this file
    #[arg(long, value_name = "FILE", requires = "from")]
    from_key_file: Option<PathBuf>,
    /// Open the other store with the passphrase in the first line of this file
    #[arg(long, value_name = "FILE", requires = "from", conflicts_with = "from_key_file")]
    from_passphrase_file: Option<PathBuf>,
    /// Read every pack
    #[arg(long)]
    read: bool,
    /// Delete what keeps garbage from being collected and nothing can bring back
    #[arg(long)]
    discard_unreadable: bool,
    /// Say what is damaged, and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Repairs, or says what is to be repaired.
pub(super) fn run(context: &Context, args: &RepairArgs) -> Result<(), CommandError> {
    let started = Instant::now();
    let (repo, credential) = context.open_keeping_credential()?;
    let from = match &args.from {
        Some(from) => {
            let key = SecondKey {
                key_file: ("--from-key-file", args.from_key_file.as_ref()),
                passphrase_file: ("--from-passphrase-file", args.from_passphrase_file.as_ref()),
            };
            let from = second::open(context, &context.resolve(from)?, &key, credential.as_ref())?;
            require_same_domain(&repo, &from)?;
            Some(from)
        }
        None => None,
    };
    let options = RepairOptions {
        read: if args.read { ReadPacks::All } else { ReadPacks::Suspects },
        unreadable: if args.discard_unreadable { Unreadable::Discard } else { Unreadable::Keep },
        level: context.level(),
        threads: context.threads(),
    };
    if args.dry_run {
        let reporter = context.reporter();
        let plan = RepairPlan::new(&repo, &options, &reporter);
        reporter.finish();
        return tell_plan(context, &plan?);
    }
    let record = Record::begin(context, repo.config().store, &context.location()?.to_string(), "repair", "");
    let reporter = context.reporter();
    let repaired = RepairPlan::new(&repo, &options, &reporter)
        .and_then(|plan| Ok((plan.execute(&repo, from.as_ref(), &options, &reporter)?, plan)));
    reporter.finish();
    record.finish(&run_end(&repaired));
    let (stats, plan) = repaired?;
    if context.json() {
        output::print_json(&document(context, &plan, &stats, started.elapsed()))?;
    } else {
        summarise(context, &plan, &stats, started.elapsed());
    }
    if stats.is_whole() {
        return Ok(());
    }
    Err(CommandError::message(ErrorKind::Damaged, lost_text(&stats)).hints(hints(&stats, args)))
}

fn hints(stats: &RepairStats, args: &RepairArgs) -> Vec<String> {
    let mut hints = Vec::new();
    if !stats.damaged_snapshots.is_empty() {
        hints.push("`yester verify` names the files that are lost; all others can be restored".to_owned());
        hints.push("the next backup stores anew what its source still has".to_owned());
        hints.push(
            "no garbage is collected while a snapshot that is not forgotten needs what is lost: `yester forget ID`"
                .to_owned(),
        );
    }
    if !stats.left.is_empty() && !args.discard_unreadable {
        hints.push(
            "if no other store has it, and nobody else uses this one just now: `yester repair --discard-unreadable`"
                .to_owned(),
        );
    }
    if args.from.is_none() {
        hints.push("a copy of the store, if there is one, has more: `yester repair --from STORE`".to_owned());
    }
    hints
}

fn lost_text(stats: &RepairStats) -> String {
    let mut parts = Vec::new();
    if stats.lost_chunks > 0 || !stats.damaged_snapshots.is_empty() {
        let snapshots = human::counted(stats.damaged_snapshots.len() as u64, "snapshot");
        parts.push(format!("{snapshots} lost something"));
    }
    if !stats.left.is_empty() {
        parts.push(format!("{} cannot be read", human::counted(stats.left.len() as u64, "object")));
    }
    parts.join(", and ")
}

fn tell_plan(context: &Context, plan: &RepairPlan) -> Result<(), CommandError> {
    if context.json() {
        return output::print_json(&plan_document(plan, true));
    }
    describe(plan);
    if plan.is_empty() {
        context.tell("nothing to repair was found");
    }
    context.tell("nothing was changed");
    Ok(())
}

/// Says what is damaged.
fn describe(plan: &RepairPlan) {
    for object in plan.collections.iter().chain(&plan.index_objects).chain(&plan.snapshots) {
        output::tell(&format!("damaged: {}: {}", object.key, object.what));
    }
    for pack in &plan.packs {
        output::tell(&format!("damaged: pack {}: {}", pack.id, pack.what));
    }
}

fn summarise(context: &Context, plan: &RepairPlan, stats: &RepairStats, elapsed: Duration) {
    describe(plan);
    if plan.is_empty() && stats.named_packs == 0 {
        context.tell("nothing to repair was found");
    }
    let tell = |number: usize, what: &str, done: &str| {
        if number > 0 {
            context.tell(&format!("  {} {done}", human::counted(number as u64, what)));
        }
    };
    tell(stats.restored_packs.len(), "pack", "brought back from the other store");
    tell(stats.whole_packs.len(), "pack", "found whole when read once more");
    tell(stats.lost_packs.len(), "pack", "taken out of the index: nothing can bring it back whole");
    tell(usize::try_from(stats.rescued_frames).unwrap_or(usize::MAX), "frame", "of such packs written anew");
    tell(usize::try_from(stats.lost_chunks).unwrap_or(usize::MAX), "chunk", "lost");
    tell(stats.replaced_index_objects.len(), "index object", "made anew");
    tell(usize::try_from(stats.named_packs).unwrap_or(usize::MAX), "pack", "named by the index again");
    tell(stats.restored_snapshots.len(), "snapshot", "put back as it was");
    tell(stats.discarded.len(), "unreadable object", "deleted");
    if !stats.lost_packs.is_empty() {
        context.tell("  `yester gc` deletes what lies in their place; until then `yester verify` names them");
    }
    for (old, new) in &stats.copied_snapshots {
        context.tell(&format!("  snapshot {} is back under a new id: {}", old.short(), new.short()));
    }
    for snapshot in &stats.damaged_snapshots {
        output::tell(&format!("  snapshot {} lost something", snapshot.display_name()));
    }
    for object in &stats.left {
        output::tell(&format!("  {} stays, and cannot be read", object.key));
    }
    context.tell(&format!("  {}", human::duration(elapsed)));
    context.tell_requests();
}

fn objects(objects: &[BadObject]) -> Vec<Value> {
    objects.iter().map(|object| json!({ "object": object.key.to_string(), "what": object.what })).collect()
}

fn plan_document(plan: &RepairPlan, dry_run: bool) -> Value {
    let packs: Vec<Value> =
        plan.packs.iter().map(|pack| json!({ "id": pack.id.to_string(), "what": pack.what })).collect();
    json!({
        "dry_run": dry_run,
        "damaged_packs": packs,
        "damaged_index_objects": objects(&plan.index_objects),
        "damaged_snapshots": objects(&plan.snapshots),
        "damaged_collections": objects(&plan.collections),
        "unnamed_packs": plan.unnamed.len(),
        "packs_read": plan.packs_read,
    })
}

fn document(context: &Context, plan: &RepairPlan, stats: &RepairStats, elapsed: Duration) -> Value {
    let texts = |texts: &mut dyn Iterator<Item = String>| texts.collect::<Vec<_>>();
    let mut document = plan_document(plan, false);
    let done = json!({
        "restored_packs": texts(&mut stats.restored_packs.iter().map(ToString::to_string)),
        "whole_packs": texts(&mut stats.whole_packs.iter().map(ToString::to_string)),
        "lost_packs": texts(&mut stats.lost_packs.iter().map(ToString::to_string)),
        "rescued_frames": stats.rescued_frames,
        "lost_chunks": stats.lost_chunks,
        "replaced_index_objects": texts(&mut stats.replaced_index_objects.iter().map(ToString::to_string)),
        "named_packs": stats.named_packs,
        "restored_snapshots": texts(&mut stats.restored_snapshots.iter().map(|id| id.hex())),
        "copied_snapshots": stats.copied_snapshots.iter()
            .map(|(old, new)| json!({ "old": old.hex(), "new": new.hex() })).collect::<Vec<_>>(),
        "discarded": texts(&mut stats.discarded.iter().map(ToString::to_string)),
        "left": objects(&stats.left),
        "snapshots_that_lost_something": texts(&mut stats.damaged_snapshots.iter().map(id_of)),
        "elapsed_seconds": elapsed.as_secs_f64(),
        "requests": context.requests(),
    });
    if let (Value::Object(all), Value::Object(done)) = (&mut document, done) {
        all.extend(done);
    }
    document
}

fn id_of(snapshot: &Snapshot) -> String {
    snapshot.manifest.id.hex()
}

fn run_end(repaired: &Result<(RepairStats, RepairPlan), RepairError>) -> RunEnd {
    let (outcome, message) = match repaired {
        Ok((stats, _)) if stats.is_whole() => (RunOutcome::Succeeded, String::new()),
        Ok((stats, _)) => (RunOutcome::Failed, lost_text(stats)),
        Err(error) => (RunOutcome::Failed, error_chain(error)),
    };
    RunEnd { outcome, snapshot: None, bytes: 0, added_bytes: 0, message }
}

impl From<RepairError> for CommandError {
    fn from(error: RepairError) -> Self {
        match error {
            RepairError::Repo(error) => Self::from(error),
            RepairError::Copy(error) => {
                Self::from(error).context("cannot copy a snapshot from the other store")
            }
            RepairError::Replace(error) => Self::from(*error).context("cannot replace index objects"),
            RepairError::OtherDomain(_) => Self::new(ErrorKind::Failed, error)
                .hint(
                    "a store that `yester copy` or `yester init --like` made from this one has the same keys",
                )
                .hint("from any other store, `yester copy` brings whole snapshots"),
        }
    }
}
