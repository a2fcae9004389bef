//! `yester accept`: accepts suspicious snapshots as good.

use clap::Args;
use serde_json::{Map, Value};

use super::context::Context;
use super::exit::CommandError;
use super::snapshots::{full_document, state};
use super::{output, record};
use crate::format::snapshot::{DumpCheck, Manifest};
use crate::human;
use crate::ops::accept::{Acceptance, accept};
use crate::path::escape;
use crate::repo::snapshots::Snapshot;

/// Accept suspicious snapshots as good
#[derive(Debug, Args)]
#[command(after_help = "\
A snapshot is suspicious if it holds a dump that failed the check of its format, being cut short
or damaged, or an error message in place of a dump. It is kept, and its id reads it as it is, but
`latest` never means it before it is accepted. Restore it somewhere first, and look.

One that was accepted before, or is not suspicious, is named and left as it is: exit code 0.

Examples:
  yester snapshots --source shop
  yester accept 3fa92c11")]
pub(super) struct AcceptArgs {
    /// The snapshots: the beginning of an id, a time, or the name in a mount
    #[arg(value_name = "SNAP", required = true)]
    snapshots: Vec<String>,
}

/// Accepts the snapshots, once all their names are found to mean one.
pub(super) fn run(context: &Context, args: &AcceptArgs) -> Result<(), CommandError> {
    if let Some(name) = args.snapshots.iter().find(|name| *name == "latest" || name.starts_with("latest:")) {
        return Err(CommandError::usage(format!("{name} never means a snapshot that is to be accepted"))
            .hint("`yester snapshots` shows which are suspicious: give the beginning of an id"));
    }
    let repo = context.open()?;
    let all = repo.snapshots()?;
    let mut snapshots = Vec::new();
    for name in &args.snapshots {
        snapshots.push(repo.find_among(all.clone(), name)?);
    }
    let mut documents = Vec::new();
    for snapshot in &mut snapshots {
        let outcome = accept(&repo, snapshot)?;
        if outcome == Acceptance::Accepted {
            record::accept(context, snapshot.manifest.id);
        }
        context.tell(&line(snapshot, outcome));
        documents.push(document(snapshot, outcome));
    }
    if context.json() { output::print_json(&documents) } else { Ok(()) }
}

fn line(snapshot: &Snapshot, outcome: Acceptance) -> String {
    let manifest = &snapshot.manifest;
    let name =
        format!("snapshot {} of {}, {}", manifest.id.short(), manifest.source, human::time(manifest.time));
    match outcome {
        Acceptance::Accepted => {
            let reasons = reasons(manifest);
            let known =
                if reasons.is_empty() { String::new() } else { format!("; its check said: {reasons}") };
            format!("accepted {name}{known}")
        }
        Acceptance::AcceptedBefore => format!("{name}, was accepted before"),
        Acceptance::NotSuspicious => {
            format!("{name}, is {}: there is nothing to accept", state(manifest.completeness))
        }
    }
}

/// Returns why each dump is broken, with its name where there are several; nothing where nobody knows.
fn reasons(manifest: &Manifest) -> String {
    let broken = manifest.dumps().filter(|(_, dump)| dump.check == DumpCheck::Broken);
    let told: Vec<_> = broken
        .map(|(name, dump)| match name {
            Some(name) => format!("{}: {}", escape(name), human::reason(&dump.reason)),
            None => human::reason(&dump.reason),
        })
        .collect();
    told.join("; ")
}

fn document(snapshot: &Snapshot, outcome: Acceptance) -> Map<String, Value> {
    let outcome = match outcome {
        Acceptance::Accepted => "accepted",
        Acceptance::AcceptedBefore => "accepted_before",
        Acceptance::NotSuspicious => "not_suspicious",
    };
    let mut document = full_document(snapshot);
    document.insert("outcome".to_owned(), outcome.into());
    document
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::snapshot::{Completeness, Dump, Output};
    use crate::repo::testing::TestStore;

    #[test]
    fn reasons_are_told_for_each_file_that_is_broken() {
        let test = TestStore::new();
        let mut manifest = test.commit(&test.open(), "shop", Completeness::Suspicious);
        assert_eq!(reasons(&manifest), "");
        let dump = |check, reason: &str| Dump {
            formats: Vec::new(),
            check,
            reason: reason.to_owned(),
            compressed: false,
            filled_offsets: 0,
        };
        manifest.dump = Some(dump(DumpCheck::Broken, "it is cut short"));
        assert_eq!(reasons(&manifest), "it is cut short");
        let output = |name: &[u8], dump| Output { name: name.to_vec(), command: Vec::new(), dump };
        manifest.outputs = vec![
            output(b"a\n", dump(DumpCheck::Broken, "it is cut short")),
            output(b"b", dump(DumpCheck::Unchecked, "its format is not known")),
            output(b"c", dump(DumpCheck::Broken, "its end is missing")),
        ];
        assert_eq!(reasons(&manifest), "a\\n: it is cut short; c: its end is missing");
    }
}
