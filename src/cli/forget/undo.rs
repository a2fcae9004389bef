//! `yester forget --undo`: brings forgotten snapshots back.

use serde_json::{Map, Value};

use crate::cli::context::Context;
use crate::cli::exit::{CommandError, ErrorKind};
use crate::cli::output;
use crate::cli::snapshots::full_document;
use crate::human;
use crate::ops::forget::{UndoError, Undone, undo};
use crate::repo::snapshots::Snapshot;
use crate::repo::{RepoError, Repository};

/// What a name means.
enum Meant {
    Forgotten(Snapshot),
    /// It was not forgotten.
    Kept(Snapshot),
}

/// Brings the snapshots back, once all their names are found to mean one.
pub(super) fn run(context: &Context, names: &[String]) -> Result<(), CommandError> {
    let repo = context.open()?;
    let meant: Vec<Meant> = names.iter().map(|name| find(&repo, name)).collect::<Result<_, _>>()?;
    let mut documents = Vec::new();
    for meant in &meant {
        let (line, document) = match meant {
            Meant::Forgotten(forgotten) => bring_back(&repo, forgotten)?,
            Meant::Kept(snapshot) => (
                format!("{}, is not forgotten: there is nothing to undo", name(snapshot)),
                document(snapshot, snapshot, "not_forgotten"),
            ),
        };
        context.tell(&line);
        documents.push(document);
    }
    if context.json() { output::print_json(&documents) } else { Ok(()) }
}

/// Finds the forgotten snapshot of this name, or else the one that was not forgotten. `latest` means none that was.
fn find(repo: &Repository, name: &str) -> Result<Meant, CommandError> {
    let is_latest = name == "latest" || name.starts_with("latest:");
    match repo.find_forgotten(name) {
        Ok(forgotten) => Ok(Meant::Forgotten(forgotten)),
        Err(error @ RepoError::NoForgotten(_)) if !is_latest => {
            repo.find_snapshot(name).map(Meant::Kept).map_err(|_| error.into())
        }
        Err(error) => Err(error.into()),
    }
}

fn bring_back(repo: &Repository, forgotten: &Snapshot) -> Result<(String, Map<String, Value>), CommandError> {
    let undone = undo(repo, forgotten)?;
    let now = undone.snapshot();
    let id = now.manifest.id.short();
    let (line, outcome) = match &undone {
        Undone::Now(_) => (format!("{}, is back as {id}", name(forgotten)), "brought_back"),
        Undone::Before(_) => {
            (format!("{}, is back already, as {id}", name(forgotten)), "brought_back_before")
        }
    };
    Ok((line, document(now, forgotten, outcome)))
}

fn name(snapshot: &Snapshot) -> String {
    let manifest = &snapshot.manifest;
    format!("snapshot {} of {}, {}", manifest.id.short(), manifest.source, human::time(manifest.time))
}

fn document(now: &Snapshot, asked_for: &Snapshot, outcome: &str) -> Map<String, Value> {
    let mut document = full_document(now);
    document.insert("outcome".to_owned(), outcome.into());
    document.insert("undone_id".to_owned(), asked_for.manifest.id.hex().into());
    document
}

impl From<UndoError> for CommandError {
    fn from(error: UndoError) -> Self {
        match error {
            UndoError::Repo(error) => error.into(),
            error @ UndoError::Collected(_) => Self::new(ErrorKind::Failed, error)
                .hint("`yester find` and `yester log` show what other snapshots have of it"),
            error @ UndoError::NotForgotten(_) => Self::new(ErrorKind::Failed, error),
        }
    }
}
