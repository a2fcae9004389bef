//! `yester verify`: reads everything, and says what is damaged and what that touches.

use clap::Args;
use serde_json::{Value, json};

use super::context::Context;
use super::exit::{CommandError, ErrorKind};
use super::output::json_bytes;
use super::{human, output};
use crate::ops::verify::{Damage, VerifyError, VerifyOptions, VerifyStats, verify};
use crate::path::escape;

/// Each thread holds a whole pack, so that more of them cost memory rather than save time.
const THREADS_MAX: usize = 4;
/// Files that are named for one damaged object; `--json` names more.
const FILES_SHOWN: usize = 20;

/// Read, authenticate and re-hash what is stored
#[derive(Debug, Args)]
#[command(after_help = "\
Names what is damaged, and the snapshots and files that it touches: exit code 13. Changes nothing.

Examples:
  yester verify
  yester verify latest:shop --json")]
pub(super) struct VerifyArgs {
    /// Only what this snapshot needs: the beginning of its id, latest:SOURCE, latest, or a time
    #[arg(value_name = "SNAP")]
    snapshot: Option<String>,
}

/// Verifies the store, or what one snapshot needs.
pub(super) fn run(context: &Context, args: &VerifyArgs) -> Result<(), CommandError> {
    let repo = context.open()?;
    let snapshot = args.snapshot.as_deref().map(|name| repo.find_snapshot(name)).transpose()?;
    let options = VerifyOptions { threads: context.threads().min(THREADS_MAX) };
    let reporter = context.reporter();
    let verified = verify(&repo, snapshot.as_ref(), &options, &reporter);
    reporter.finish();
    let stats = verified?;
    for damage in &stats.damaged {
        describe(damage);
    }
    if context.json() {
        output::print_json(&document(&stats))?;
    } else {
        summarise(context, &stats);
    }
    if stats.damaged.is_empty() {
        return Ok(());
    }
    let number = u64::try_from(stats.damaged.len()).unwrap_or(u64::MAX);
    Err(CommandError::message(
        ErrorKind::Damaged,
        format!("found {}", human::counted(number, "damaged object")),
    )
    .hint("what is not named above is whole and can be restored")
    .hint("keep the store as it is, and make a new backup of what was damaged to a new store"))
}

fn describe(damage: &Damage) {
    output::tell(&format!("damaged: {}: {}", escape(damage.object.as_bytes()), damage.what));
    for snapshot in &damage.snapshots {
        output::tell(&format!("  touches snapshot {}", snapshot.short()));
    }
    for (snapshot, path) in damage.files.iter().take(FILES_SHOWN) {
        output::tell(&format!("  touches {}:{path}", snapshot.short()));
    }
    let shown = u64::try_from(damage.files.len().min(FILES_SHOWN)).unwrap_or(u64::MAX);
    let rest = damage.files_touched.saturating_sub(shown);
    if rest > 0 {
        output::tell(&format!("  and {} more", human::counted(rest, "path")));
    }
}

fn summarise(context: &Context, stats: &VerifyStats) {
    context.tell(&format!(
        "verified {}, {} with {} and {}, and {}",
        human::counted(stats.snapshots, "snapshot"),
        human::counted(stats.packs, "pack"),
        human::counted(stats.frames, "frame"),
        human::counted(stats.chunks, "chunk"),
        human::counted(stats.objects, "other object")
    ));
    context.tell(&format!(
        "  {} in {}, {}",
        human::bytes(stats.bytes_read),
        human::duration(stats.elapsed),
        human::rate(stats.bytes_read, stats.elapsed)
    ));
    if stats.damaged.is_empty() {
        context.tell("no damage found");
    }
}

fn document(stats: &VerifyStats) -> Value {
    let damaged: Vec<Value> = stats.damaged.iter().map(damage_document).collect();
    json!({
        "objects": stats.objects,
        "packs": stats.packs,
        "frames": stats.frames,
        "chunks": stats.chunks,
        "snapshots": stats.snapshots,
        "bytes_read": stats.bytes_read,
        "elapsed_seconds": stats.elapsed.as_secs_f64(),
        "damaged": damaged,
    })
}

fn damage_document(damage: &Damage) -> Value {
    let files: Vec<Value> = damage
        .files
        .iter()
        .map(|(snapshot, path)| json!({ "snapshot": snapshot.hex(), "path": json_bytes(&path.to_bytes()) }))
        .collect();
    json!({
        "object": damage.object,
        "what": damage.what,
        "snapshots": damage.snapshots.iter().map(|snapshot| snapshot.hex()).collect::<Vec<_>>(),
        "files": files,
        "files_touched": damage.files_touched,
    })
}

impl From<VerifyError> for CommandError {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Repo(error) => Self::from(error),
            VerifyError::Thread { .. } => Self::new(ErrorKind::Failed, error),
        }
    }
}
