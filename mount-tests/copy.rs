//! Copies in a second store through the binary: what is found where, disks that come and go, and a death in the middle.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Lab, Process, Ran, assert_same_trees, copy_of, eventually, noise, sized_packs};

/// Makes a folder to back up: some files, a link, and what is awkward.
fn folder(lab: &Lab) -> PathBuf {
    let path = lab.path("data");
    fs::create_dir_all(path.join("deep/er")).unwrap();
    fs::write(path.join("file"), noise(1, 700_000)).unwrap();
    fs::write(path.join("deep/er/small"), "text").unwrap();
    if !path.join("second").exists() {
        fs::hard_link(path.join("file"), path.join("second")).unwrap();
        std::os::unix::fs::symlink("file", path.join("link")).unwrap();
    }
    path
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn copy(lab: &Lab, to: &Path, more: &[&str]) -> Ran {
    Ran::of(lab.command(["copy", "--to"]).arg(to).args(more))
}

/// Runs a command on another store of the laboratory.
fn on(lab: &Lab, store: &Path, arguments: &[&str]) -> Ran {
    Ran::of(lab.command(arguments).env("YESTER_STORE", store))
}

fn ids(snapshots: &Value) -> Vec<String> {
    snapshots.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_copy_restores_the_same_under_the_same_names() {
    let lab = Lab::new();
    let data = folder(&lab);
    lab.run(["ingest", text(&data), "--source", "data", "--tag", "a", "--protect"]).succeeds();
    fs::write(data.join("deep/er/small"), "changed").unwrap();
    lab.run(["ingest", text(&data), "--source", "data"]).succeeds();
    lab.run(["ingest", "/etc/hostname", "--source", "other"]).succeeds();
    let second = lab.path("second");

    let planned = copy(&lab, &second, &["--dry-run", "--json"]).json();
    assert_eq!((planned["missing"].as_array().unwrap().len(), planned["present"].as_u64()), (3, Some(0)));
    assert!(!second.exists(), "a dry run creates nothing");

    let copied = copy(&lab, &second, &["--source", "data", "--last", "1", "--json"]).json();
    assert_eq!((copied["created"].as_bool(), copied["copied"].as_array().unwrap().len()), (Some(true), 1));
    assert!(copied["read_back_packs"].as_u64().unwrap() > 0, "a directory is read back");
    let all = copy(&lab, &second, &[]);
    assert!(
        all.stderr.contains("copied 2 snapshots") && all.stderr.contains("1 was there already"),
        "{}",
        all.stderr
    );
    let again = copy(&lab, &second, &["--json"]).json();
    let counts = (again["copied"].as_array().unwrap().len(), again["written_packs"].as_u64());
    assert_eq!((counts, again["present"].as_u64()), ((0, Some(0)), Some(3)));

    let originals = lab.run(["snapshots", "--json"]).json();
    let copies = on(&lab, &second, &["snapshots", "--json"]).json();
    assert_eq!(copies.as_array().unwrap().len(), 3);
    for (original, copy) in originals.as_array().unwrap().iter().zip(copies.as_array().unwrap()) {
        assert_eq!((copy["origin"].as_str(), &copy["time"]), (original["id"].as_str(), &original["time"]));
        assert_eq!((&copy["tags"], &copy["marks"]), (&original["tags"], &original["marks"]));
        assert_ne!(copy["id"], original["id"]);
    }
    assert_eq!(ids(&copies).len(), 3);
    let id = &ids(&originals)[1][..8];
    let target = lab.path("restored");
    on(&lab, &second, &["restore", id, "--to", text(&target)]).succeeds();
    assert_same_trees(&data, &copy_of(&target, &data));
    on(&lab, &second, &["verify"]).succeeds();

    // The second store can be used like the first one, and what is made there comes back.
    fs::write(data.join("new"), noise(3, 1000)).unwrap();
    on(&lab, &second, &["ingest", text(&data), "--source", "data"]).succeeds();
    let back = Ran::of(lab.command(["copy", "--json", "--to"]).arg(lab.store()).env("YESTER_STORE", &second));
    assert_eq!(back.json()["copied"].as_array().unwrap().len(), 1);
    assert_eq!(lab.snapshots().len(), 4);
    lab.run(["verify"]).succeeds();
}

#[test]
fn a_copy_that_was_killed_is_taken_up() {
    let lab = Lab::new();
    for seed in 0..3 {
        let path = lab.path("dump");
        fs::write(&path, noise(seed, 70_000_000)).unwrap();
        lab.run(["ingest", text(&path), "--source", "dump"]).succeeds();
    }
    let second = lab.path("second");
    for packs in 1..4 {
        let process = Process::start(lab.command(["copy", "--to"]).arg(&second));
        eventually("a pack was copied", || {
            second.join("packs").is_dir() && sized_packs(&second).len() >= packs
        });
        process.signal(Signal::KILL);
        drop(process);
    }
    copy(&lab, &second, &[]).succeeds();
    on(&lab, &second, &["verify"]).succeeds();
    let copies = on(&lab, &second, &["snapshots", "--json"]).json();
    assert_eq!(copies.as_array().unwrap().len(), 3, "none is there twice");
    let expected = sized_packs(&lab.store()).len();
    assert!(sized_packs(&second).len() <= expected + 3, "what was copied before was used");
}

#[test]
fn an_absent_disk_is_told_and_nothing_is_written_in_its_place() {
    let lab = Lab::new();
    let data = folder(&lab);
    lab.run(["ingest", text(&data), "--source", "data"]).succeeds();
    let disk = lab.path("disk");
    fs::create_dir(&disk).unwrap();
    let store = disk.join("backup");
    copy(&lab, &store, &[]).succeeds();
    // The disk is taken out: what is left is the mount point.
    fs::rename(&disk, lab.path("in the safe")).unwrap();
    fs::create_dir(&disk).unwrap();
    let absent = copy(&lab, &store, &[]);
    let error = absent.fails(10);
    assert!(error.contains("this host saw store") && error.contains("may not be mounted"), "{error}");
    assert_eq!(fs::read_dir(&disk).unwrap().count(), 0, "nothing was written to the mount point");
    assert!(on(&lab, &store, &["snapshots"]).fails(10).contains("may not be mounted"));
    // It comes back, at another place even.
    fs::remove_dir(&disk).unwrap();
    fs::rename(lab.path("in the safe"), &disk).unwrap();
    copy(&lab, &store, &[]).succeeds();
    let elsewhere = lab.path("elsewhere");
    fs::rename(&disk, &elsewhere).unwrap();
    let moved = copy(&lab, &elsewhere.join("backup"), &["--json"]).json();
    assert_eq!((moved["created"].as_bool(), moved["present"].as_u64()), (Some(false), Some(1)));
}

#[test]
fn disks_take_turns_at_one_place() {
    let lab = Lab::new();
    let data = folder(&lab);
    lab.run(["ingest", text(&data), "--source", "data"]).succeeds();
    let disk = lab.path("disk");
    copy(&lab, &disk, &[]).succeeds();
    fs::rename(&disk, lab.path("monday")).unwrap();
    // A new disk at the same place is made on purpose.
    let made = Ran::of(lab.command(["init"]).arg(&disk).arg("--like").arg(lab.store()));
    made.succeeds();
    assert!(made.stderr.contains("before"), "{}", made.stderr);
    let first = copy(&lab, &disk, &[]);
    first.succeeds();
    assert!(first.stderr.contains("of the same domain"), "the first time, it is told: {}", first.stderr);
    for (out, back) in [("tuesday", "monday"), ("monday", "tuesday")] {
        fs::rename(&disk, lab.path(out)).unwrap();
        fs::rename(lab.path(back), &disk).unwrap();
        fs::write(data.join("file"), noise(out.len() as u64, 9000)).unwrap();
        lab.run(["ingest", text(&data), "--source", "data"]).succeeds();
        let turned = copy(&lab, &disk, &[]);
        turned.succeeds();
        assert!(!turned.stderr.contains("of the same domain"), "{}", turned.stderr);
        on(&lab, &disk, &["verify"]).succeeds();
    }
    // A store of other keys is none of them.
    fs::rename(&disk, lab.path("tuesday")).unwrap();
    let foreign = lab.path("foreign.key");
    let mut elsewhere = lab.command(["init"]);
    elsewhere.env("STATE_DIRECTORY", lab.path("elsewhere")).env("YESTER_KEY_FILE", &foreign);
    Ran::of(elsewhere.arg(&disk)).succeeds();
    let refused = copy(&lab, &disk, &["--to-key-file", text(&foreign)]);
    assert!(refused.fails(1).contains("not the one that was there before"), "{}", refused.stderr);
}

#[test]
fn a_store_of_other_keys_gets_everything_sealed_anew() {
    let lab = Lab::new();
    let data = folder(&lab);
    lab.run(["ingest", text(&data), "--source", "data"]).succeeds();
    let (other, key) = (lab.path("other"), lab.path("other.key"));
    Ran::of(lab.command(["init"]).arg(&other).env("YESTER_KEY_FILE", &key)).succeeds();
    let refused = copy(&lab, &other, &[]);
    assert!(refused.fails(12).contains("--to-key-file"), "{}", refused.stderr);
    let copied = copy(&lab, &other, &["--to-key-file", text(&key), "--json"]).json();
    assert!(copied["resealed_bytes"].as_u64().unwrap() >= 700_000 && copied["whole_packs"] == 0);
    let target = lab.path("restored");
    let mut restore = lab.command(["restore", "latest", "--to", text(&target)]);
    Ran::of(restore.env("YESTER_STORE", &other).env("YESTER_KEY_FILE", &key)).succeeds();
    assert_same_trees(&data, &copy_of(&target, &data));

    let plain = lab.path("plain");
    let mut init = lab.command(["init", "--no-encryption"]);
    Ran::of(init.arg(&plain).env_remove("YESTER_KEY_FILE")).succeeds();
    assert!(copy(&lab, &plain, &[]).fails(1).contains("not encrypted"));
    assert!(copy(&lab, &lab.store(), &[]).fails(2).contains("the same store"));
}

#[test]
fn a_host_that_can_only_write_copies_nothing() {
    let lab = Lab::new();
    let data = folder(&lab);
    let key = lab.path("edge.key");
    Ran::of(lab.command(["key", "export", "--host", "edge", "--output"]).arg(&key)).succeeds();
    let edge = |arguments: &[&str]| {
        let mut command = lab.command(arguments);
        command.env("YESTER_KEY_FILE", &key).env("CACHE_DIRECTORY", lab.path("edge-cache"));
        Ran::of(command.env("STATE_DIRECTORY", lab.path("edge-state")))
    };
    edge(&["ingest", text(&data), "--source", "data"]).succeeds();
    let second = lab.path("second");
    assert!(edge(&["copy", "--to", text(&second)]).fails(12).contains("ingest-only"));
    assert!(!second.exists());
    // Its snapshots are copied by who can read them, and its key works in the second store.
    copy(&lab, &second, &[]).succeeds();
    edge(&["--store", text(&second), "ingest", text(&data), "--source", "data"]).succeeds();
    assert_eq!(on(&lab, &second, &["snapshots", "--json"]).json().as_array().unwrap().len(), 2);
    on(&lab, &second, &["verify"]).succeeds();
}
