//! Keys through the binary: slots that come and go, and hosts with an ingest-only key.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Lab, Need, Ran, can};
use crate::postgres::Postgres;
use crate::semantics::NEEDS;

/// A host with an ingest-only key and local folders of its own.
struct Edge<'a> {
    lab: &'a Lab,
    host: &'static str,
    key: PathBuf,
}

impl<'a> Edge<'a> {
    fn new(lab: &'a Lab, host: &'static str) -> Self {
        let key = lab.path(format!("{host}.key"));
        let mut command = lab.command(["key", "export", "--host", host, "--output"]);
        Ran::of(command.arg(&key)).succeeds();
        Self { lab, host, key }
    }

    fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.lab.command(arguments);
        for (variable, folder) in [("CACHE_DIRECTORY", "cache"), ("STATE_DIRECTORY", "state")] {
            command.env(variable, self.lab.path(format!("{}-{folder}", self.host)));
        }
        command.env("YESTER_KEY_FILE", &self.key);
        command
    }

    fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Ran {
        Ran::of(&mut self.command(arguments))
    }
}

/// Makes a folder to back up, with one file.
fn folder(lab: &Lab, text: &str) -> String {
    let path = lab.path("data");
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("file"), text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn slots(lab: &Lab) -> Vec<Value> {
    lab.run(["key", "list", "--json"]).json().as_array().unwrap().clone()
}

fn kinds(lab: &Lab) -> Vec<String> {
    let mut kinds: Vec<_> = slots(lab).iter().map(|slot| slot["kind"].as_str().unwrap().to_owned()).collect();
    kinds.sort();
    kinds
}

#[test]
fn keys_are_added_listed_and_removed() {
    let lab = Lab::new();
    assert_eq!(kinds(&lab), ["key-file", "recovery"]);
    let secret = lab.path("passphrase");
    fs::write(&secret, "correct horse\n").unwrap();
    let secret = secret.to_str().unwrap();
    let added = lab.run(["key", "add", "--new-passphrase-file", secret, "--json"]);
    let id = added.json()["id"].as_str().unwrap().to_owned();
    let second = lab.path("second.key");
    lab.run(["key", "add", "--new-key-file", second.to_str().unwrap()]).succeeds();
    assert_eq!(second.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let recovery = lab.run(["key", "add", "--recovery", "--json"]).json();
    assert_eq!(kinds(&lab), ["key-file", "key-file", "passphrase", "recovery", "recovery"]);

    let with_passphrase = |passphrase: &str| {
        let mut command = lab.command(["snapshots"]);
        Ran::of(command.env_remove("YESTER_KEY_FILE").env("YESTER_PASSPHRASE", passphrase))
    };
    with_passphrase("correct horse").succeeds();
    with_passphrase(recovery["recovery_key"].as_str().unwrap()).succeeds();
    lab.run(["snapshots", "--key-file", second.to_str().unwrap()]).succeeds();

    let table = lab.run(["key", "list"]).succeeds().to_owned();
    assert_eq!(table.lines().count(), 6, "{table}");
    assert_eq!(table.lines().filter(|line| line.ends_with("in use")).count(), 1, "{table}");
    assert!(
        lab.run(["key", "add", "--new-passphrase-file", secret]).fails(1).contains("opens the store already")
    );
    lab.run(["key", "remove", &id[..6]]).succeeds();
    with_passphrase("correct horse").fails(12);
    assert!(lab.run(["key", "remove", &id]).fails(1).contains("the store has no key"));
    lab.run(["key", "remove", ""]).fails(2);
}

#[test]
fn what_would_lock_somebody_out_is_refused() {
    let lab = Lab::new();
    let slot = |kind: &str| {
        let listed = slots(&lab);
        listed.iter().find(|slot| slot["kind"] == kind).unwrap()["id"].as_str().unwrap().to_owned()
    };
    let only = slot("key-file");
    let error = lab.run(["key", "remove", &only, "--force"]).fails(1).to_owned();
    assert!(error.contains("is the last one besides recovery keys") && error.contains("hint:"), "{error}");
    let secret = lab.path("passphrase");
    fs::write(&secret, "correct horse\n").unwrap();
    lab.run(["key", "add", "--new-passphrase-file", secret.to_str().unwrap()]).succeeds();
    assert!(lab.run(["key", "remove", &only]).fails(1).contains("is the one in use"));
    lab.run(["key", "remove", &only, "--force"]).succeeds();
    lab.run(["snapshots"]).fails(12);

    // A file that is there stays what it is.
    let lab = Lab::new();
    let file = lab.path("key");
    let before = fs::read(&file).unwrap();
    for command in ["add", "rotate"] {
        let error = lab.run(["key", command, "--new-key-file", file.to_str().unwrap()]).fails(1).to_owned();
        assert!(error.contains("cannot create the key file"), "{error}");
    }
    let mut export = lab.command(["key", "export", "--host", "db1", "--output"]);
    assert!(Ran::of(export.arg(&file)).fails(1).contains("cannot create the key file"));
    assert_eq!(fs::read(&file).unwrap(), before);
    assert_eq!(kinds(&lab), ["key-file", "recovery"]);
    lab.run(["key", "add", "--recovery", "--new-key-file", "x"]).fails(2);
    lab.run(["key", "rotate"]).fails(2);
}

#[test]
fn a_rotation_replaces_the_key_in_use() {
    let lab = Lab::new();
    lab.run(["ingest", &folder(&lab, "text"), "--source", "data"]).succeeds();
    let new = lab.path("new.key");
    let rotated = lab.run(["key", "rotate", "--new-key-file", new.to_str().unwrap()]);
    rotated.succeeds();
    assert!(rotated.stderr.contains("the root secret of the store is what it was"), "{}", rotated.stderr);
    lab.run(["snapshots"]).fails(12);
    fs::rename(&new, lab.path("key")).unwrap();
    assert_eq!(kinds(&lab), ["key-file", "recovery"]);
    assert_eq!(lab.snapshots().len(), 1);
    lab.run(["verify"]).succeeds();
    // Both copies of each slot are there, and nothing else is.
    assert_eq!(fs::read_dir(lab.store().join("keys")).unwrap().count(), 4);
}

#[test]
fn a_store_without_encryption_has_no_keys() {
    let lab = Lab::empty();
    let plain = |arguments: &[&str]| Ran::of(lab.command(arguments).env_remove("YESTER_KEY_FILE"));
    plain(&["init", "--no-encryption"]).succeeds();
    for arguments in
        [&["key", "list"][..], &["key", "add", "--recovery"], &["key", "export", "--host", "db1"]]
    {
        assert!(plain(arguments).fails(1).contains("is not encrypted: it has no keys"));
    }
}

#[test]
fn an_ingest_only_host_makes_backups_and_lists_its_own() {
    let lab = Lab::new();
    let data = folder(&lab, "of everybody");
    lab.run(["ingest", &data, "--source", "data"]).succeeds();
    let edge = Edge::new(&lab, "edge1");
    assert_eq!(edge.key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let first = edge.run(["ingest", &data, "--source", "data", "--json"]).json();
    assert_eq!(first["host"], "edge1");
    assert!(first["added_bytes"].as_u64().unwrap() > 0);
    edge.run(["ingest", &data, "--source", "data", "--host", "edge1"]).succeeds();
    let own = edge.run(["snapshots", "--json"]).json();
    let hosts: Vec<_> = own.as_array().unwrap().iter().map(|snapshot| snapshot["host"].clone()).collect();
    assert_eq!(hosts, ["edge1", "edge1"]);
    let listed = edge.run(["snapshots"]);
    assert!(listed.stderr.contains("the store holds 1 more snapshot that"), "{}", listed.stderr);
    assert_eq!(listed.succeeds().lines().count(), 3, "{listed:?}");
    edge.run(["ingest", &data, "--source", "data", "--dry-run"]).succeeds();
    edge.run(["ingest", "--as", "app.sql", "--source", "app", "--", "echo", "SELECT 1;"]).succeeds();

    // A full key reads all of it, and finds nothing wrong.
    assert_eq!(lab.snapshots().len(), 4);
    let file = format!("{data}/file");
    assert_eq!(lab.run(["cat", "latest:edge1/data", &file]).succeeds(), "of everybody");
    lab.run(["verify"]).succeeds();

    // What it knows of its own lies in its cache alone.
    fs::remove_dir_all(lab.path("edge1-cache")).unwrap();
    assert_eq!(edge.run(["snapshots", "--json"]).json(), Value::Array(vec![]));
    assert!(edge.run(["snapshots"]).stderr.contains("the store holds 4 more snapshots that"));
    let again = edge.run(["ingest", &data, "--source", "data", "--json"]).json();
    assert!(again["added_bytes"].as_u64() >= first["added_bytes"].as_u64(), "{again}");
}

/// What pg_dump could not write into the pipe is filled in, stored, and looked at once more before the commit.
#[test]
fn an_ingest_only_host_looks_at_a_dump_that_it_just_stored() {
    if !can(&[Need::Root, Need::Postgres]) {
        return;
    }
    let postgres = Postgres::start();
    postgres.query(
        "postgres",
        "CREATE TABLE orders AS SELECT id, md5(id::text) FROM generate_series(1, 500) AS id",
    );
    let lab = Lab::new();
    let edge = Edge::new(&lab, "edge1");
    let pg_dump = postgres.program("pg_dump").to_str().unwrap().to_owned();
    let mut ingest = edge.command(["ingest", "--as", "shop", "--json", "--", &pg_dump, "-Fc", "postgres"]);
    postgres.connect(&mut ingest);
    let document = Ran::of(&mut ingest).json();
    assert!(document["dump"]["filled_offsets"].as_u64().unwrap() > 0, "{document}");
    assert_eq!(document["state"], "complete");
    assert!(lab.run(["cat", "latest:edge1/shop", "shop"]).succeeds().starts_with("PGDMP"));
}

#[test]
fn an_ingest_only_host_reads_and_decides_nothing() {
    let lab = Lab::new();
    let data = folder(&lab, "text");
    let edge = Edge::new(&lab, "edge1");
    edge.run(["ingest", &data, "--source", "data"]).succeeds();
    let id = edge.run(["snapshots", "--json"]).json()[0]["id"].as_str().unwrap().to_owned();
    let target = lab.path("target").to_str().unwrap().to_owned();
    let objects = || {
        let listed = Command::new("find").arg(lab.store()).args(["-type", "f"]).output().unwrap();
        listed.stdout.iter().filter(|byte| **byte == b'\n').count()
    };
    let before = objects();
    for arguments in [
        &["ls", &id][..],
        &["cat", &id, "/file"],
        &["find", "*"],
        &["log", "/file"],
        &["diff", &id, &id],
        &["export", &id],
        &["restore", &id, "--to", &target],
        &["verify"],
        &["stats"],
        &["accept", &id],
        &["forget", &id],
        &["protect", &id],
        &["gc"],
        &["snapshots", "--forgotten"],
        &["key", "list"],
        &["key", "add", "--recovery"],
        &["key", "remove", "00", "--force"],
        &["key", "rotate", "--recovery"],
        &["key", "export", "--host", "edge2"],
    ] {
        let ran = edge.run(arguments);
        let error = ran.fails(12);
        assert!(error.contains("this is an ingest-only key of host edge1"), "{arguments:?}: {error}");
        assert!(
            error.contains("hint: to read, to decide on snapshots or to manage keys, use a full key"),
            "{error}"
        );
        assert!(ran.stdout.is_empty(), "{arguments:?}");
    }
    assert_eq!(objects(), before);
    assert!(!lab.path("target").exists());
}

#[test]
fn an_ingest_only_host_mounts_nothing() {
    if !can(&NEEDS) {
        return;
    }
    let lab = Lab::new();
    let edge = Edge::new(&lab, "edge1");
    let mountpoint = lab.path("mnt");
    fs::create_dir(&mountpoint).unwrap();
    for arguments in [&["mount"][..], &["mount", "--foreground"]] {
        let error = Ran::of(edge.command(arguments).arg(&mountpoint)).fails(12).to_owned();
        assert!(error.contains("this is an ingest-only key of host edge1"), "{error}");
    }
    assert_eq!(lab.servers().len(), 0);
}

#[test]
fn keys_of_others_and_damaged_keys_are_refused() {
    let lab = Lab::new();
    let data = folder(&lab, "text");
    let edge = Edge::new(&lab, "edge1");
    let error = edge.run(["ingest", &data, "--source", "data", "--host", "db1"]).fails(12).to_owned();
    assert!(
        error.contains("this is an ingest-only key of host edge1: it cannot make backups of host db1"),
        "{error}"
    );
    assert!(error.contains("key export --host HOST"), "{error}");

    let other = Lab::new();
    let stranger = Edge::new(&other, "edge1");
    let mut command = edge.command(["ingest", &data, "--source", "data"]);
    let error = Ran::of(command.env("YESTER_KEY_FILE", &stranger.key)).fails(12).to_owned();
    assert!(error.contains("is not one of the store at"), "{error}");

    let text = fs::read_to_string(&edge.key).unwrap();
    let first = text.find('-').unwrap() + 1;
    let mut mistyped = text.clone();
    mistyped.replace_range(first..=first, if text[first..].starts_with('A') { "B" } else { "A" });
    for (damaged, why) in [
        (mistyped, "checksum is wrong"),
        (text.trim_end()[..text.len() - 20].to_owned(), "not a yester key"),
        ("YESTERINGEST1\n".to_owned(), "it is cut short"),
    ] {
        fs::write(&edge.key, damaged).unwrap();
        let error = edge.run(["snapshots"]).fails(12).to_owned();
        assert!(error.contains("cannot use the key file") && error.contains(why), "{error}");
    }
    assert_eq!(lab.snapshots().len(), 0);
    // It opens no slot, so it makes none.
    let empty = Lab::empty();
    fs::write(empty.path("key"), &text).unwrap();
    assert!(empty.run(["init"]).fails(12).contains("this key can write backups but not read them"));
}
