//! `yester verify`: reads everything, and says what is damaged and what that touches.

use clap::Args;
use serde_json::{Value, json};

use super::context::Context;
use super::exit::{CommandError, ErrorKind};
use super::output;
use super::output::json_bytes;
use super::record::Record;
use crate::human;
use crate::journal::{RunEnd, RunOutcome};
use crate::ops::verify::{
    DAMAGE_MAX, Damage, PackCoverage, Scope, Share, VerifyError, VerifyOptions, VerifyStats, verify,
};
use crate::path::escape;
use crate::progress::error_chain;
use crate::repo::RepoError;
use crate::store::StoreErrorKind;

/// Each thread holds a piece of a pack, so that more of them cost memory rather than save time.
const THREADS_MAX: usize = 4;
/// Files that are named for one damaged object; `--json` names more.
const FILES_SHOWN: usize = 20;

/// Read, authenticate and re-hash what is stored
#[derive(Debug, Args)]
#[command(after_help = "\
Names what is damaged, and the snapshots and files that it touches: exit code 13. Changes nothing
in the store.

A sample reads every small object and some of the packs, where the data is: those first that this
host has not found whole for the longest time, and on top of them those that were damaged when
they were read last. Twenty runs with 5% read everything once. Whether every chunk of every
snapshot is in some pack is checked by a run without --sample alone.

Examples:
  yester verify
  yester verify --sample 5%
  yester verify latest:shop --json")]
pub(super) struct VerifyArgs {
    /// Only what this snapshot needs: the beginning of its id, latest:SOURCE, latest, or a time
    #[arg(value_name = "SNAP", conflicts_with = "sample")]
    snapshot: Option<String>,
    /// Only so many percent of what is stored, what was not verified for the longest time
    #[arg(long, value_name = "PERCENT")]
    sample: Option<Share>,
}

/// Verifies the store, a part of it, or what one snapshot needs.
pub(super) fn run(context: &Context, args: &VerifyArgs) -> Result<(), CommandError> {
    let repo = context.open()?;
    let snapshot = args.snapshot.as_deref().map(|name| repo.find_snapshot(name)).transpose()?;
    let scope = match (&snapshot, args.sample) {
        (Some(snapshot), _) => Scope::Snapshot(snapshot),
        (None, Some(share)) => Scope::Sample(share),
        (None, None) => Scope::All,
    };
    let source = snapshot.as_ref().map_or("", |snapshot| &snapshot.manifest.source);
    let location = context.location()?;
    let record = Record::begin(context, repo.config().store, &location.to_string(), "verify", source);
    let options =
        VerifyOptions { threads: context.reading_threads(&repo).min(THREADS_MAX), journal: record.journal() };
    let reporter = context.reporter();
    let verified = verify(&repo, scope, &options, &reporter);
    reporter.finish();
    let end = run_end(&verified, location.is_distant());
    record.finish(&end);
    let stats = verified?;
    for damage in &stats.damaged {
        describe(damage);
    }
    if context.json() {
        output::print_json(&document(context, &stats))?;
    } else {
        summarise(context, scope, &stats);
    }
    if stats.damaged.is_empty() {
        return Ok(());
    }
    Err(CommandError::message(ErrorKind::Damaged, end.message).hints(hints(scope, &stats.damaged)))
}

fn hints(scope: Scope<'_>, damaged: &[Damage]) -> Vec<&'static str> {
    let keep = "`yester repair --from STORE` brings it back from a copy; else `yester repair`, and the next backup stores \
                anew what its source still has";
    match scope {
        Scope::Sample(_) => vec!["`yester verify` without --sample tells what else is damaged", keep],
        Scope::All | Scope::Snapshot(_) if damaged.len() > DAMAGE_MAX => vec![keep],
        Scope::All | Scope::Snapshot(_) if damaged.iter().any(|damage| left_unnamed(damage) > 0) => {
            vec!["`--json` names up to 10,000 paths for each damaged object", keep]
        }
        Scope::All | Scope::Snapshot(_) => {
            vec!["what is not named above is whole and can be restored", keep]
        }
    }
}

/// Returns what the journal keeps of a run.
fn run_end(verified: &Result<VerifyStats, VerifyError>, is_distant: bool) -> RunEnd {
    let (outcome, bytes, message) = match verified {
        Ok(stats) if stats.damaged.is_empty() => (RunOutcome::Succeeded, stats.bytes_read, String::new()),
        Ok(stats) => {
            let number = u64::try_from(stats.damaged.len()).unwrap_or(u64::MAX);
            let message = format!("found {}", human::counted(number, "damaged object"));
            (RunOutcome::Failed, stats.bytes_read, message)
        }
        // A network that is down says nothing of the store; a disk that cannot be read does.
        Err(error @ VerifyError::Repo(RepoError::Store(below)))
            if is_distant && below.kind() == StoreErrorKind::Unavailable =>
        {
            (RunOutcome::Unfinished, 0, error_chain(error))
        }
        Err(error) => (RunOutcome::Failed, 0, error_chain(error)),
    };
    RunEnd { outcome, snapshot: None, bytes, added_bytes: 0, message }
}

fn describe(damage: &Damage) {
    output::tell(&format!("damaged: {}: {}", escape(damage.object.as_bytes()), damage.what));
    for snapshot in &damage.snapshots {
        output::tell(&format!("  touches snapshot {}", snapshot.short()));
    }
    for (snapshot, path) in damage.files.iter().take(FILES_SHOWN) {
        output::tell(&format!("  touches {}:{path}", snapshot.short()));
    }
    let rest = left_unnamed(damage);
    if rest > 0 {
        output::tell(&format!("  and {} more", human::counted(rest, "path")));
    }
}

/// Returns how many paths that damage touches are not shown.
fn left_unnamed(damage: &Damage) -> u64 {
    let shown = u64::try_from(damage.files.len().min(FILES_SHOWN)).unwrap_or(u64::MAX);
    damage.files_touched.saturating_sub(shown)
}

fn summarise(context: &Context, scope: Scope<'_>, stats: &VerifyStats) {
    // A sample walks snapshots only to name what damage touches.
    let snapshots = match scope {
        Scope::Sample(_) => String::new(),
        Scope::All | Scope::Snapshot(_) => human::counted(stats.snapshots, "snapshot") + ", ",
    };
    context.tell(&format!(
        "verified {snapshots}{} with {} and {}, and {}",
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
    context.tell_requests();
    if let (Scope::Sample(_), Some(coverage)) = (scope, &stats.coverage) {
        context.tell(&format!("  {}", coverage_text(coverage)));
    }
    if stats.damaged.is_empty() {
        context.tell("no damage found");
    }
}

/// Returns how much was verified: `5.2 % of the bytes in packs (12 of 240 packs); …`.
fn coverage_text(coverage: &PackCoverage) -> String {
    let share = u128::from(coverage.bytes_taken) * 1000 / u128::from(coverage.bytes.max(1));
    let mut text = format!(
        "{}.{} % of the bytes in packs ({} of {})",
        share / 10,
        share % 10,
        human::count(coverage.packs_taken),
        human::counted(coverage.packs, "pack")
    );
    if let Some(oldest) = coverage.oldest {
        text.push_str(&format!("; oldest verification {}", human::time(oldest)));
    }
    if coverage.packs_never > 0 {
        text.push_str(&format!("; {} never verified", human::counted(coverage.packs_never, "pack")));
    }
    text
}

fn document(context: &Context, stats: &VerifyStats) -> Value {
    let damaged: Vec<Value> = stats.damaged.iter().map(damage_document).collect();
    json!({
        "objects": stats.objects,
        "packs": stats.packs,
        "frames": stats.frames,
        "chunks": stats.chunks,
        "snapshots": stats.snapshots,
        "bytes_read": stats.bytes_read,
        "elapsed_seconds": stats.elapsed.as_secs_f64(),
        "requests": context.requests(),
        "coverage": stats.coverage.as_ref().map(coverage_document),
        "damaged": damaged,
    })
}

fn coverage_document(coverage: &PackCoverage) -> Value {
    json!({
        "packs": coverage.packs,
        "bytes": coverage.bytes,
        "packs_taken": coverage.packs_taken,
        "bytes_taken": coverage.bytes_taken,
        "packs_never_verified": coverage.packs_never,
        "oldest_verification": coverage.oldest.map(|time| time.to_string()),
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
        let VerifyError::Repo(error) = error;
        Self::from(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreError;

    #[test]
    fn only_a_network_that_is_down_proves_nothing() {
        let outcome = |kind, is_distant| {
            let error = StoreError::new(kind, "read", "packs/x".to_owned(), None);
            run_end(&Err(VerifyError::Repo(error.into())), is_distant).outcome
        };
        assert_eq!(outcome(StoreErrorKind::Unavailable, true), RunOutcome::Unfinished);
        assert_eq!(outcome(StoreErrorKind::Unavailable, false), RunOutcome::Failed, "the disk fails");
        for kind in [StoreErrorKind::NotFound, StoreErrorKind::Truncated, StoreErrorKind::Denied] {
            assert_eq!(outcome(kind, true), RunOutcome::Failed, "{kind:?}");
        }
    }

    #[test]
    fn nothing_is_called_whole_where_something_is_not_named() {
        let damage = |files_touched| Damage {
            object: "packs/1".into(),
            what: "it is missing".into(),
            snapshots: Vec::new(),
            files: Vec::new(),
            files_touched,
        };
        let first = |damaged: &[Damage]| hints(Scope::All, damaged)[0];
        assert!(first(&[damage(0)]).contains("not named above is whole"));
        assert!(first(&[damage(0), damage(1)]).starts_with("`--json` names up to 10,000 paths"));
        assert!(first(&vec![damage(0); DAMAGE_MAX + 1]).starts_with("`yester repair"));
    }

    #[test]
    fn coverage_says_what_was_never_read() {
        let coverage = PackCoverage {
            packs: 240,
            bytes: 1000,
            packs_taken: 12,
            bytes_taken: 52,
            packs_never: 228,
            oldest: Some(jiff::Timestamp::UNIX_EPOCH),
        };
        assert_eq!(
            coverage_text(&coverage),
            "5.2 % of the bytes in packs (12 of 240 packs); oldest verification 1970-01-01T00:00:00Z; \
             228 packs never verified"
        );
        assert_eq!(coverage_text(&PackCoverage::default()), "0.0 % of the bytes in packs (0 of 0 packs)");
    }
}
