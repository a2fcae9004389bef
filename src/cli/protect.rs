//! `yester protect`: protects snapshots from being forgotten.

use clap::Args;
use serde_json::{Map, Value};

use super::context::Context;
use super::exit::{CommandError, ErrorKind};
use super::output;
use super::snapshots::full_document;
use crate::human;
use crate::ops::protect::{self, ProtectError};
use crate::repo::marks::Marking;
use crate::repo::snapshots::Snapshot;

/// Protect snapshots from being forgotten
#[derive(Debug, Args)]
#[command(after_help = "\
No rule of `yester forget` forgets a protected snapshot, nor do they count it: they keep others
as if it were not there. --end ends that.

What is forgotten already cannot be protected: `yester forget --undo` brings it back first.

Examples:
  yester protect latest:shop
  yester protect --end 3fa92c11")]
pub(super) struct ProtectArgs {
    /// The snapshots: the beginning of an id, latest:SOURCE, latest, a time, or the name in a mount
    #[arg(value_name = "SNAP", required = true)]
    snapshots: Vec<String>,
    /// End their protection
    #[arg(long)]
    end: bool,
}

/// Protects the snapshots, or ends that, once all their names are found to mean one.
pub(super) fn run(context: &Context, args: &ProtectArgs) -> Result<(), CommandError> {
    let repo = context.open()?;
    let all = repo.snapshots()?;
    let mut snapshots = Vec::new();
    for name in &args.snapshots {
        snapshots.push(repo.find_among(all.clone(), name)?);
    }
    let mut documents = Vec::new();
    for snapshot in &mut snapshots {
        let marking = match args.end {
            false => protect::protect(&repo, snapshot)?,
            true => protect::end(&repo, snapshot)?,
        };
        context.tell(&line(snapshot, marking));
        documents.push(document(snapshot, marking));
    }
    if context.json() { output::print_json(&documents) } else { Ok(()) }
}

fn line(snapshot: &Snapshot, marking: Marking) -> String {
    let manifest = &snapshot.manifest;
    let name =
        format!("snapshot {} of {}, {}", manifest.id.short(), manifest.source, human::time(manifest.time));
    match (snapshot.marks.protected, marking) {
        (true, Marking::Made) => format!("protected {name}"),
        (true, Marking::Stood) => format!("{name}, was protected before"),
        // Somebody forgot it while it was protected.
        (false, Marking::Made) if snapshot.marks.is_forgotten() => {
            format!("{name}, is no longer protected, and so it is forgotten")
        }
        (false, Marking::Made) => format!("{name}, is no longer protected"),
        (false, Marking::Stood) => format!("{name}, was not protected"),
    }
}

fn document(snapshot: &Snapshot, marking: Marking) -> Map<String, Value> {
    let mut document = full_document(snapshot);
    document.insert("changed".to_owned(), (marking == Marking::Made).into());
    document
}

impl From<ProtectError> for CommandError {
    fn from(error: ProtectError) -> Self {
        match error {
            ProtectError::Repo(error) => error.into(),
            error @ ProtectError::Forgotten(_) => Self::new(ErrorKind::Busy, error)
                .hint("`yester forget --undo` brings it back, and then it can be protected"),
        }
    }
}
