//! `yester restore`: brings a snapshot, or paths of it, back.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::context::Context;
use super::exit::{CommandError, ErrorKind};
use super::output::json_bytes;
use super::{human, output};
use crate::ops::restore::{Overwrite, RestoreError, RestoreOptions, RestoreStats, restore};
use crate::path::TreePath;

/// Bring a snapshot, or paths of it, back
#[derive(Debug, Args)]
#[command(after_help = "\
What is damaged or refused is named, and the rest is restored: exit codes 13 and 3. Nothing is
ever written outside the target.

Examples:
  yester restore latest:system --to /mnt/disk
  yester restore 3fa92c11 /etc/ssh --to / --overwrite if-changed")]
pub(super) struct RestoreArgs {
    /// The snapshot: the beginning of its id, latest:SOURCE, latest, or a time
    #[arg(value_name = "SNAP")]
    snapshot: String,
    /// What to restore [default: everything]
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
    /// The directory below which everything is restored, at its own path
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Replace files that are there already: never, if size, time, mode or owner differ, or always
    #[arg(long, value_enum, value_name = "WHEN", default_value = "never")]
    overwrite: When,
}

/// When a file that is there already is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum When {
    Never,
    IfChanged,
    Always,
}

/// Restores.
pub(super) fn run(context: &Context, args: &RestoreArgs) -> Result<(), CommandError> {
    let paths =
        args.paths.iter().map(|path| TreePath::parse(path.as_bytes())).collect::<Result<Vec<_>, _>>()?;
    let options = RestoreOptions {
        target: args.to.clone(),
        overwrite: match args.overwrite {
            When::Never => Overwrite::Never,
            When::IfChanged => Overwrite::IfChanged,
            When::Always => Overwrite::Always,
        },
        threads: context.threads(),
    };
    let repo = context.open()?;
    let snapshot = repo.find_snapshot(&args.snapshot)?;
    let reporter = context.reporter();
    let restored = restore(&repo, &snapshot, &paths, &options, &reporter);
    reporter.finish();
    let stats = restored?;
    report(context, &stats, &args.to)?;
    outcome(&stats)
}

fn report(context: &Context, stats: &RestoreStats, target: &std::path::Path) -> Result<(), CommandError> {
    for failure in &stats.failures {
        output::tell(&format!("not restored: {}: {}", failure.path, failure.reason));
    }
    if context.json() {
        return output::print_json(&document(stats));
    }
    context.tell(&format!(
        "restored {} ({}) to {} in {}, {}",
        human::counted(stats.files, "file"),
        human::bytes(stats.bytes),
        target.display(),
        human::duration(stats.elapsed),
        human::rate(stats.bytes, stats.elapsed)
    ));
    if stats.kept > 0 {
        context.tell(&format!(
            "  {} that were there already are kept as they were; see --overwrite",
            human::count(stats.kept)
        ));
    }
    if stats.unchanged > 0 {
        context.tell(&format!("  {} were there already, the same", human::count(stats.unchanged)));
    }
    Ok(())
}

fn document(stats: &RestoreStats) -> serde_json::Value {
    let failures: Vec<_> = stats
        .failures
        .iter()
        .map(|failure| {
            json!({
                "path": json_bytes(&failure.path.to_bytes()),
                "reason": failure.reason,
                "damaged": failure.damaged,
            })
        })
        .collect();
    json!({
        "files": stats.files,
        "directories": stats.directories,
        "others": stats.others,
        "bytes": stats.bytes,
        "kept": stats.kept,
        "unchanged": stats.unchanged,
        "failed": stats.failed,
        "damaged": stats.damaged,
        "failures": failures,
        "elapsed_seconds": stats.elapsed.as_secs_f64(),
    })
}

/// Damage outweighs what the target refused.
fn outcome(stats: &RestoreStats) -> Result<(), CommandError> {
    let not_restored = || format!("{} could not be restored", human::counted(stats.failed, "path"));
    if stats.damaged > 0 {
        return Err(CommandError::message(
            ErrorKind::Damaged,
            not_restored() + ", because the store is damaged",
        )
        .hint("run `yester verify` to learn what else is damaged"));
    }
    if stats.failed > 0 {
        return Err(CommandError::message(ErrorKind::Partial, not_restored()));
    }
    Ok(())
}

impl From<RestoreError> for CommandError {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Repo(error) => Self::from(error),
            RestoreError::NotInSnapshot { .. } => {
                Self::new(ErrorKind::Failed, error).hint("`yester ls SNAP PATH` shows what there is")
            }
            RestoreError::Full { .. } => Self::new(ErrorKind::Partial, error).hint(
                "make room and run it again with --overwrite if-changed: what is there is not read again",
            ),
            RestoreError::Target { .. } | RestoreError::Thread { .. } => Self::new(ErrorKind::Failed, error),
        }
    }
}
