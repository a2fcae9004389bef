//! `yester key`: the keys of a store, and ingest-only keys for hosts.
//!
//! What a new key is, and where it comes from, is owned by `new`.

mod new;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::context::{Context, validate_label};
use super::credentials;
use super::exit::{CommandError, ErrorKind};
use super::output::{self, Align, Table};
use crate::crypto::slot::Credential;
use crate::human;
use crate::id::SlotId;
use crate::repo::Repository;
use crate::repo::keys::{InUse, SlotSummary};
use new::{NewKey, NewKeyArgs};

/// Manage what opens the store, and make ingest-only keys for hosts
#[derive(Debug, Args)]
#[command(after_help = "\
Any number of passphrases, key files and recovery keys, up to 64, open a store; each lies in it
as a key of its own. An ingest-only key opens nothing: with it a host makes backups, lists its
own, and reads nothing back. docs/security.md says what each kind of access allows.

Examples:
  yester key list
  yester key add --new-key-file /root/second.key
  yester key export --host db1 --output db1.ingest-key")]
pub(super) struct KeyArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the keys that open the store
    #[command(after_help = "Example:\n  yester key list --json | jq '.[] | select(.in_use).id'")]
    List,
    /// Add a passphrase, a key file or a recovery key
    #[command(after_help = "\
Asks for the new passphrase twice unless told otherwise. The new key is read back and opened
before it is reported.

Examples:
  yester key add
  yester key add --new-key-file /root/second.key")]
    Add {
        #[command(flatten)]
        new: NewKeyArgs,
    },
    /// Remove a key: what it was made for no longer opens the store
    #[command(after_help = "\
The last key besides recovery keys stays, and so does the one in use unless --force is given.
Whoever kept a copy of the store's keys folder can still open the store with what was removed.

Example:
  yester key remove 3fa92c1100112233")]
    Remove {
        /// The key: its id, or the beginning of it
        #[arg(value_name = "ID")]
        id: String,
        /// Remove it even if it is the one in use
        #[arg(long)]
        force: bool,
    },
    /// Replace the passphrase or key in use by a new one
    #[command(after_help = "\
The new key is added and proven to open the store before the old one is removed. The root secret
of the store stays: who knows the old passphrase or key and kept a copy of the store's keys
folder can still read everything, later backups too. Against that only a new store helps.

Examples:
  yester key rotate
  yester key rotate --key-file /root/old.key --new-key-file /root/new.key")]
    Rotate {
        #[command(flatten)]
        new: NewKeyArgs,
    },
    /// Make an ingest-only key for a host
    #[command(after_help = "\
With this key, given by --key-file or YESTER_KEY_FILE, the host makes backups under its own name
and lists those that it made. It reads nothing, not what it wrote either. The store keeps no list
of such keys: to take one back, take away the host's right to write to the store.

Example:
  yester key export --host db1 --output db1.ingest-key")]
    Export {
        /// The host, as its backups name it
        #[arg(long, value_name = "HOST")]
        host: String,
        /// The file to write, which must not be there [default: standard output]
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// Does what is asked for.
pub(super) fn run(context: &Context, args: &KeyArgs) -> Result<(), CommandError> {
    match &args.what {
        What::List => list(context),
        What::Add { new } => add(context, new),
        What::Remove { id, force } => remove(context, id, if *force { InUse::Allow } else { InUse::Refuse }),
        What::Rotate { new } => rotate(context, new),
        What::Export { host, output } => export(context, host, output.as_deref()),
    }
}

fn list(context: &Context) -> Result<(), CommandError> {
    let slots = context.open()?.key_slots()?;
    if context.json() {
        let documents: Vec<_> = slots.iter().map(document).collect();
        return output::print_json(&documents);
    }
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("KIND", Align::Left),
        ("CREATED", Align::Left),
        ("STATE", Align::Left),
    ]);
    for slot in &slots {
        table.push(vec![
            slot.id.to_string(),
            slot.kind.map_or("unknown", |kind| kind.name()).to_owned(),
            slot.created.map_or_else(String::new, human::time),
            state(slot).join(", "),
        ]);
    }
    output::print(&table.render())
}

fn document(slot: &SlotSummary) -> serde_json::Value {
    json!({
        "id": slot.id.to_string(),
        "kind": slot.kind.map(|kind| kind.name()),
        "created": slot.created.map(|time| time.to_string()),
        "copies": slot.copies,
        "in_use": slot.in_use,
    })
}

/// Returns what people should know of a key.
fn state(slot: &SlotSummary) -> Vec<&'static str> {
    let copies = match slot.copies {
        0 => Some("damaged"),
        1 => Some("one copy of two"),
        _ => None,
    };
    slot.in_use.then_some("in use").into_iter().chain(copies).collect()
}

fn add(context: &Context, args: &NewKeyArgs) -> Result<(), CommandError> {
    let repo = context.open()?;
    // Before anybody is asked for a passphrase that a plain store has no use for.
    repo.key_slots()?;
    let new = NewKey::make(args)?;
    let id = new.undo_unless(repo.add_key(new.kind(), new.credential()))?;
    context.tell(&format!("added key {id}: {}; it was read back and opens the store", new.describe()));
    announce(context, &new, json!({ "id": id.to_string(), "kind": new.kind().name() }))
}

fn remove(context: &Context, name: &str, in_use: InUse) -> Result<(), CommandError> {
    let repo = context.open()?;
    let id = find(&repo, name)?;
    repo.remove_key(id, in_use)?;
    context.tell(&format!("removed key {id}"));
    context.tell("who kept a copy of the store's keys folder can still open the store with it");
    if context.json() { output::print_json(&json!({ "removed": id.to_string() })) } else { Ok(()) }
}

/// Finds the key that a beginning of an id means.
fn find(repo: &Repository, name: &str) -> Result<SlotId, CommandError> {
    let slots = repo.key_slots()?;
    let mut found = slots.iter().map(|slot| slot.id).filter(|id| id.to_string().starts_with(name));
    match (found.next(), found.next()) {
        (Some(id), None) if !name.is_empty() => Ok(id),
        (None, _) => Err(CommandError::message(ErrorKind::Failed, format!("the store has no key {name:?}"))
            .hint("`yester key list` shows the ids")),
        _ => Err(CommandError::usage(format!("{name:?} means more than one key"))
            .hint("`yester key list` shows the ids")),
    }
}

fn rotate(context: &Context, args: &NewKeyArgs) -> Result<(), CommandError> {
    let (repo, old) = context.open_keeping_credential()?;
    repo.key_slots()?;
    let old =
        old.ok_or_else(|| CommandError::message(ErrorKind::Failed, "no key was used to open the store"))?;
    if matches!(old, Credential::FileKey(_)) && args.is_prompt() {
        return Err(CommandError::usage("the store was opened with a key file or recovery key").hint(
            "say what is to replace it: --new-key-file FILE, --recovery or --new-passphrase-file FILE",
        ));
    }
    let new = NewKey::make(args)?;
    let (id, removed) = new.undo_unless(repo.rotate_key(&old, new.kind(), new.credential()))?;
    let removed: Vec<String> = removed.iter().map(SlotId::to_string).collect();
    context.tell(&format!("key {id}, {}, is in the place of {}", new.describe(), removed.join(" and ")));
    context.tell(
        "the root secret of the store is what it was: who knows the old passphrase or key and kept a copy",
    );
    context.tell("of the store's keys folder can still read everything. Against that only a new store helps");
    let document = json!({ "id": id.to_string(), "kind": new.kind().name(), "removed": removed });
    announce(context, &new, document)
}

/// Shows a recovery key, or the answer for programs.
fn announce(context: &Context, new: &NewKey, mut document: serde_json::Value) -> Result<(), CommandError> {
    let text = new.text_to_show();
    if context.json() {
        if let Some(text) = text {
            document["recovery_key"] = text.as_str().into();
        }
        return output::print_json(&document);
    }
    let Some(text) = text else { return Ok(()) };
    context.tell("This recovery key is shown only now; keep it on paper or in a password manager, away from the store.");
    output::print(&format!("{}\n", text.as_str()))
}

fn export(context: &Context, host: &str, file: Option<&Path>) -> Result<(), CommandError> {
    validate_label("host name", host)?;
    let text = context.open()?.export_ingest_key(host)?;
    let Some(file) = file else {
        return match context.json() {
            true => output::print_json(&json!({ "host": host, "key": text.as_str() })),
            false => output::print(&format!("{}\n", text.as_str())),
        };
    };
    credentials::write_key_file(file, &text)?;
    context.tell(&format!("wrote an ingest-only key of host {host} to {}", file.display()));
    context.tell("move it to that host; there it is given by --key-file or YESTER_KEY_FILE");
    if context.json() {
        return output::print_json(&json!({ "host": host, "file": file.display().to_string() }));
    }
    Ok(())
}
