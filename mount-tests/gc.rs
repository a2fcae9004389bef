//! Garbage collection: what it gives back, for whom it waits, and what it never takes.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Lab, Need, Process, Ran, can, eventually, noise, succeed};

const MOUNTS: [Need; 2] = [Need::Root, Need::Fuse];

/// Backs up a folder with these files, each of 300 kB that are its own; returns the snapshot's id.
fn ingest(lab: &Lab, seeds: &[u64]) -> String {
    let folder = lab.path("tree");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).unwrap();
    for seed in seeds {
        fs::write(folder.join(format!("file-{seed}")), noise(*seed, 300_000)).unwrap();
    }
    let ran =
        lab.run([Path::new("ingest"), &folder, Path::new("--source"), Path::new("s"), Path::new("--json")]);
    ran.json()["id"].as_str().unwrap().to_owned()
}

fn gc(lab: &Lab, options: &[&str]) -> Value {
    lab.run([&["gc", "--json"], options].concat()).json()
}

fn forget(lab: &Lab, id: &str) {
    lab.run(["forget", "--force", id]).succeeds();
}

/// Returns the output of a run that succeeded.
fn whole(ran: Ran) -> Vec<u8> {
    ran.succeeds();
    ran.stdout
}

/// Returns what a file of [`ingest`] holds in a snapshot.
fn file(lab: &Lab, id: &str, seed: u64) -> Vec<u8> {
    let path = format!("{}/file-{seed}", lab.path("tree").display());
    whole(lab.run(["cat", id, &path]))
}

fn pack_bytes(lab: &Lab) -> u64 {
    let mut bytes = 0;
    for folder in fs::read_dir(lab.store().join("packs")).unwrap().flatten() {
        bytes += fs::read_dir(folder.path())
            .unwrap()
            .flatten()
            .map(|pack| pack.metadata().unwrap().len())
            .sum::<u64>();
    }
    bytes
}

/// Returns the number of an integer field.
fn number(document: &Value, field: &str) -> u64 {
    document[field].as_u64().unwrap_or_else(|| panic!("{field} of {document}"))
}

#[test]
fn what_a_dry_run_announces_is_given_back() {
    let lab = Lab::new();
    let first = ingest(&lab, &[1, 2, 3]);
    let second = ingest(&lab, &[3, 4]);
    let before = pack_bytes(&lab);
    forget(&lab, &first);
    let dry = gc(&lab, &["--dry-run"]);
    assert_eq!((number(&dry, "in_grace"), number(&dry, "freed_bytes")), (1, 0), "{dry}");
    let text = lab.run(["gc"]).succeeds().to_owned();
    assert_eq!((text.as_str(), pack_bytes(&lab)), ("", before), "a week is not over");

    let dry = gc(&lab, &["--dry-run", "--grace", "0"]);
    assert_eq!(dry["dropped_snapshots"], serde_json::json!([first]));
    assert_eq!(pack_bytes(&lab), before, "nothing was changed");
    let freed = number(&dry, "freed_bytes");
    assert!((590_000..=620_000).contains(&freed), "{dry}");
    let done = gc(&lab, &["--grace", "0"]);
    assert_eq!((number(&done, "dropped_snapshots"), number(&done, "rewritten_packs")), (1, 1), "{done}");
    let given_back = number(&done, "deleted_bytes") - number(&done, "written_bytes");
    assert_eq!(pack_bytes(&lab), before - given_back);
    assert!(given_back.abs_diff(freed) < 5000, "{given_back} of {freed}");
    assert_eq!(file(&lab, &second, 3), noise(3, 300_000));
    lab.run(["verify"]).succeeds();
    lab.cool();
    lab.run(["verify"]).succeeds();

    let error = lab.run(["forget", "--undo", &first]).fails(1).to_owned();
    assert!(error.contains(&first[..8]), "{error}");
    let run = lab.runs().remove(0);
    assert_eq!(run.operation, "verify");
    let again = gc(&lab, &["--grace", "0"]);
    assert_eq!((number(&again, "deleted_packs"), number(&again, "written_bytes")), (0, 0));
    assert_eq!(lab.runs()[0].operation, "gc");
}

/// Another host's index is behind the store when packs were written anew.
#[test]
fn a_host_that_was_away_finds_what_moved() {
    let lab = Lab::new();
    let first = ingest(&lab, &[1, 2, 3]);
    let second = ingest(&lab, &[3]);
    let elsewhere = |arguments: &[&str]| {
        let mut command = lab.command(arguments);
        Ran::of(
            command.env("CACHE_DIRECTORY", lab.path("cache-2")).env("STATE_DIRECTORY", lab.path("state-2")),
        )
    };
    elsewhere(&["verify"]).succeeds();
    forget(&lab, &first);
    assert_eq!(number(&gc(&lab, &["--grace", "0"]), "rewritten_packs"), 1);
    let path = format!("{}/file-3", lab.path("tree").display());
    assert_eq!(whole(elsewhere(&["cat", &second, &path])), noise(3, 300_000));
    let again = elsewhere(&["ingest", lab.path("tree").to_str().unwrap(), "--source", "s", "--json"]).json();
    // The folders above have changed, and no more.
    assert!(number(&again, "added_bytes") < 10_000, "{again}");
}

/// Begins a backup that takes until it is killed, or until its fifo is written to.
fn endless_ingest(lab: &Lab) -> Process {
    let fifo = lab.path("fifo");
    succeed(Command::new("mkfifo").arg(&fifo));
    // If the backup is killed, this stays behind, and must not for ever.
    let script = format!("timeout 60 cat {}", fifo.display());
    let child = Process::start(&mut lab.command(["ingest", "--as", "slow", "--", "sh", "-c", &script]));
    let sessions = lab.store().join("sessions");
    let undecided = || {
        let marks = fs::read_dir(&sessions).into_iter().flatten().flatten();
        let snapshots = lab.store().join("snapshots");
        marks
            .filter(|mark| {
                !snapshots.join(mark.file_name().to_str().unwrap().split('.').next().unwrap()).exists()
            })
            .count()
    };
    eventually("the backup has begun", || undecided() > 0);
    child
}

#[test]
fn a_backup_that_runs_is_waited_for_and_loses_nothing() {
    let lab = Lab::new();
    let first = ingest(&lab, &[1, 2]);
    forget(&lab, &first);
    let slow = endless_ingest(&lab);
    let before = pack_bytes(&lab);
    let waits = lab.run(["gc", "--grace", "0", "--wait", "0"]);
    waits.succeeds();
    assert!(
        waits.stderr.contains("deleted nothing yet") && waits.stderr.contains("a backup of slow on "),
        "{}",
        waits.stderr
    );
    assert_eq!(pack_bytes(&lab), before);
    // It goes on meanwhile, and ends as if nothing were.
    fs::write(lab.path("fifo"), noise(9, 400_000)).unwrap();
    slow.end().succeeds();
    let done = gc(&lab, &["--grace", "0", "--wait", "0"]);
    assert_eq!((number(&done, "deleted_packs"), number(&done, "dropped_snapshots")), (2, 1), "{done}");
    assert_eq!(whole(lab.run(["cat", "latest:slow", "slow"])), noise(9, 400_000));
    lab.run(["verify"]).succeeds();
}

#[test]
fn a_backup_that_was_killed_on_this_host_is_not_waited_for() {
    let lab = Lab::new();
    let first = ingest(&lab, &[1, 2]);
    forget(&lab, &first);
    let killed = endless_ingest(&lab);
    killed.signal(Signal::KILL);
    drop(killed);
    let done = gc(&lab, &["--grace", "0", "--wait", "0"]);
    assert_eq!(
        (done["waiting_for"].as_array().map(Vec::len), number(&done, "dropped_snapshots")),
        (Some(0), 1),
        "{done}"
    );
    lab.run(["verify"]).succeeds();
}

#[test]
fn nothing_is_deleted_while_anything_is_missing() {
    let lab = Lab::new();
    let first = ingest(&lab, &[1, 2]);
    ingest(&lab, &[5]);
    forget(&lab, &first);
    let bytes = |pack: &Path| fs::metadata(pack).unwrap().len();
    let packs = || -> Vec<_> {
        let folders = fs::read_dir(lab.store().join("packs")).unwrap().flatten();
        folders
            .flat_map(|folder| fs::read_dir(folder.path()).unwrap().flatten())
            .map(|pack| pack.path())
            .collect()
    };
    // The pack of the second snapshot's data.
    let needed = packs().into_iter().find(|pack| (300_000..400_000).contains(&bytes(pack))).unwrap();
    let aside = lab.path("aside");
    fs::rename(&needed, &aside).unwrap();
    let before = packs().len();
    let error = lab.run(["gc", "--grace", "0"]).fails(13).to_owned();
    assert!(error.contains("is not whole") && error.contains("`yester verify`"), "{error}");
    assert_eq!(packs().len(), before);
    fs::rename(&aside, &needed).unwrap();
    assert_eq!(number(&gc(&lab, &["--grace", "0"]), "dropped_snapshots"), 1);
}

#[test]
fn a_snapshot_is_not_collected_from_under_its_reader_on_this_host() {
    if !can(&MOUNTS) {
        return;
    }
    let lab = Lab::new();
    let first = ingest(&lab, &[1, 2]);
    ingest(&lab, &[3]);
    let mount = lab.mount(&[]);
    let snapshots = fs::read_dir(mount.path("snapshots")).unwrap().flatten();
    let name = snapshots
        .map(|entry| entry.path())
        .find(|path| path.to_str().unwrap().ends_with(&first[..8]))
        .unwrap();
    let folder = name.join(lab.path("tree").strip_prefix("/").unwrap());
    // Whoever stands in a folder goes on reading what was not read before.
    let script = "cat file-1 >/dev/null; touch $LAB/here; until test -e $LAB/go; do sleep 0.02; done; cp file-2 $LAB/copy";
    let mut shell = Command::new("sh");
    let reader = Process::start(shell.args(["-c", script]).current_dir(folder).env("LAB", lab.path("")));
    eventually("the reader is there", || lab.path("here").exists());
    forget(&lab, &first);
    eventually("the list has changed", || !name.exists());
    let kept = gc(&lab, &["--grace", "0"]);
    assert_eq!((number(&kept, "in_grace"), number(&kept, "dropped_snapshots")), (1, 0), "{kept}");
    fs::write(lab.path("go"), "").unwrap();
    reader.end().succeeds();
    assert_eq!(fs::read(lab.path("copy")).unwrap(), noise(2, 300_000));
    drop(mount);
    eventually("nobody reads it any more", || number(&gc(&lab, &["--grace", "0"]), "dropped_snapshots") == 1);
    lab.run(["verify"]).succeeds();
}

#[test]
fn a_reader_elsewhere_is_told_what_became_of_its_snapshot() {
    if !can(&MOUNTS) {
        return;
    }
    let lab = Lab::new();
    let first = ingest(&lab, &[1, 2]);
    ingest(&lab, &[3]);
    let mount = lab.mount(&["--snapshot", &first]);
    let elsewhere = |arguments: &[&str]| {
        let mut command = lab.command(arguments);
        Ran::of(
            command.env("CACHE_DIRECTORY", lab.path("cache-2")).env("STATE_DIRECTORY", lab.path("state-2")),
        )
    };
    elsewhere(&["forget", "--force", &first]).succeeds();
    assert_eq!(number(&elsewhere(&["gc", "--grace", "0", "--json"]).json(), "dropped_snapshots"), 1);
    let file = mount.path(lab.path("tree").strip_prefix("/").unwrap()).join("file-2");
    let error = fs::read(file).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
    let log = fs::read_to_string(lab.path("state/mount.log")).unwrap();
    assert!(log.contains("was forgotten and collected as garbage meanwhile"), "{log}");
}
