//! What goes wrong in real life: two writers, a killed writer, a full disk, keys and stores that do not fit.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Lab, Need, Ran, SystemMount, can, noise, succeed};
use crate::trees;

#[test]
fn two_ingests_at_once_both_commit() {
    let lab = Lab::new();
    let trees: Vec<_> = (0..2_u64)
        .map(|number| {
            let tree = lab.path(format!("tree{number}"));
            trees::ordinary(&tree, 300);
            fs::write(tree.join("own"), noise(number + 10, 4_000_000)).unwrap();
            tree
        })
        .collect();
    thread::scope(|scope| {
        for tree in &trees {
            scope.spawn(|| lab.run([Path::new("ingest"), tree.as_path()]).succeeds());
        }
    });
    assert_eq!(lab.snapshots().len(), 2);
    lab.run(["verify"]).succeeds();
    lab.cool();
    lab.run(["verify"]).succeeds();
}

#[test]
fn a_killed_ingest_does_no_harm() {
    let lab = Lab::new();
    let tree = lab.path("tree");
    trees::ordinary(&tree, 500);
    let ingest = ["ingest", tree.to_str().unwrap(), "--source", "tree"];
    fs::write(tree.join("new"), noise(99, 12_000_000)).unwrap();
    let started = Instant::now();
    lab.run(ingest).succeeds();
    let usual = started.elapsed();
    for moment in 0..10_u32 {
        fs::write(tree.join("new"), noise(100 + u64::from(moment), 12_000_000)).unwrap();
        let mut child = lab.command(ingest).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(usual * moment / 10 + Duration::from_millis(2));
        // It may have ended by itself, which is no harm either.
        let _ = child.kill();
        child.wait().unwrap();
        lab.run(ingest).succeeds();
    }
    assert!(lab.snapshots().len() >= 11);
    lab.run(["verify"]).succeeds();
    lab.cool();
    lab.run(["verify"]).succeeds();
    let copy = lab.run(["cat", "latest", tree.join("new").to_str().unwrap()]);
    assert!(copy.stdout == fs::read(tree.join("new")).unwrap());
}

#[test]
fn a_full_disk_loses_nothing() {
    if !can(&[Need::Root]) {
        return;
    }
    let lab = Lab::empty();
    let disk = SystemMount::new(&["-t", "tmpfs", "-o", "size=12m", "tmpfs"], lab.path("disk"));
    let store = lab.path("disk/store");
    let run = |arguments: &[&str]| Ran::of(lab.command(arguments).env("YESTER_STORE", &store));
    run(&["init"]).succeeds();
    let small = lab.path("small");
    fs::write(&small, noise(1, 1_000_000)).unwrap();
    run(&["ingest", small.to_str().unwrap()]).succeeds();
    let big = lab.path("big");
    fs::write(&big, noise(2, 30_000_000)).unwrap();
    let failed = run(&["ingest", big.to_str().unwrap()]);
    let error = failed.fails(1);
    assert!(error.contains("No space left") && error.contains("make room"), "{error}");

    run(&["verify"]).succeeds();
    assert!(run(&["cat", "latest", small.to_str().unwrap()]).stdout == fs::read(&small).unwrap());
    succeed(Command::new("mount").args(["-o", "remount,size=200m"]).arg(lab.path("disk")));
    run(&["ingest", big.to_str().unwrap()]).succeeds();
    run(&["verify"]).succeeds();
    drop(disk);
}

#[test]
fn a_store_opens_for_the_right_key_alone() {
    let lab = Lab::empty();
    let run = |passphrase: Option<&str>, arguments: &[&str]| {
        let mut command = lab.command(arguments);
        command.env_remove("YESTER_KEY_FILE");
        if let Some(passphrase) = passphrase {
            command.env("YESTER_PASSPHRASE", passphrase);
        }
        Ran::of(&mut command)
    };
    let recovery_key = run(Some("correct horse"), &["init"]).succeeds();
    run(Some("correct horse"), &["snapshots"]).succeeds();
    run(Some(recovery_key.trim()), &["snapshots"]).succeeds();
    let missing = run(None, &["snapshots"]);
    assert!(missing.fails(12).contains("YESTER_PASSPHRASE"), "{}", missing.stderr);
    let wrong = run(Some("battery staple"), &["snapshots"]);
    assert!(wrong.fails(12).contains("wrong passphrase"), "{}", wrong.stderr);

    let with = |variable: &str, value: &str| {
        Ran::of(lab.command(["snapshots"]).env_remove("YESTER_KEY_FILE").env(variable, value))
    };
    let file = lab.path("passphrase");
    fs::write(&file, "correct horse\n").unwrap();
    with("YESTER_PASSPHRASE_FILE", file.to_str().unwrap()).succeeds();
    with("YESTER_PASSPHRASE_FILE", "/nonexistent").fails(12);
    with("YESTER_PASSPHRASE_COMMAND", "echo 'correct horse'").succeeds();
    with("YESTER_PASSPHRASE_COMMAND", "echo 'correct horse'; exit 1").fails(12);
    with("YESTER_KEY_FILE", file.to_str().unwrap()).fails(12);
}

#[test]
fn a_plain_store_is_refused_where_a_passphrase_is_configured() {
    let lab = Lab::empty();
    let plain = |arguments: &[&str]| Ran::of(lab.command(arguments).env_remove("YESTER_KEY_FILE"));
    plain(&["init", "--no-encryption"]).succeeds();
    plain(&["snapshots"]).succeeds();
    let refused =
        Ran::of(lab.command(["snapshots"]).env_remove("YESTER_KEY_FILE").env("YESTER_PASSPHRASE", "x"));
    assert!(refused.fails(12).contains("not encrypted"), "{}", refused.stderr);
}

#[test]
fn a_newer_store_is_refused_and_named_so() {
    let lab = Lab::new();
    let config = lab.store().join("config/1.json");
    let text = fs::read_to_string(&config).unwrap();
    let newer = text.replacen("\"version\": 1", "\"version\": 2", 1);
    assert_ne!(text, newer);
    overwrite(&config, newer.as_bytes());
    let refused = lab.run(["snapshots"]);
    assert!(refused.fails(1).contains("newer yester"), "{}", refused.stderr);
}

#[test]
fn what_is_no_store_is_named_so() {
    let lab = Lab::empty();
    let mountpoint = lab.path("mnt");
    fs::create_dir(&mountpoint).unwrap();
    let mountpoint = mountpoint.to_str().unwrap();
    for prepare in ["absent", "file", "empty"] {
        match prepare {
            "file" => fs::write(lab.store(), "not a store").unwrap(),
            "empty" => {
                fs::remove_file(lab.store()).unwrap();
                fs::create_dir(lab.store()).unwrap();
            }
            _ => {}
        }
        for command in [&["snapshots"][..], &["ingest", "/etc/hostname"], &["mount", mountpoint], &["verify"]]
        {
            let refused = lab.run(command);
            assert!(refused.fails(10).contains("store"), "{prepare}: {}", refused.stderr);
        }
    }
    assert_eq!(fs::read_dir(lab.store()).unwrap().count(), 0, "no command but init creates a store");
}

#[test]
fn a_store_replaced_by_another_is_noticed() {
    let lab = Lab::new();
    lab.run(["snapshots"]).succeeds();
    fs::remove_dir_all(lab.store()).unwrap();
    assert!(lab.run(["init"]).fails(10).contains("its disk may not be mounted"));
    // Another host knows nothing of the old one.
    Ran::of(lab.command(["init"]).env("STATE_DIRECTORY", lab.path("elsewhere"))).succeeds();
    let refused = lab.run(["snapshots"]);
    assert!(refused.fails(1).contains("not the one"), "{}", refused.stderr);
}

#[test]
fn a_read_only_store_can_be_read() {
    if !can(&[Need::Root, Need::Fuse]) {
        return;
    }
    let lab = Lab::new();
    let file = lab.path("file");
    fs::write(&file, "kept").unwrap();
    let path = file.to_str().unwrap();
    lab.run(["ingest", path]).succeeds();
    let bound = SystemMount::new(&["--bind", lab.store().to_str().unwrap()], lab.path("read-only"));
    succeed(Command::new("mount").args(["-o", "remount,bind,ro"]).arg(lab.path("read-only")));
    let run = |arguments: &[&str]| Ran::of(lab.command(arguments).env("YESTER_STORE", lab.path("read-only")));
    run(&["snapshots"]).succeeds();
    assert_eq!(run(&["cat", "latest", path]).succeeds(), "kept");
    run(&["verify"]).succeeds();
    run(&["restore", "latest", "--to", lab.path("restored").to_str().unwrap()]).succeeds();
    let refused = run(&["ingest", path]);
    assert!(refused.fails(1).contains("Read-only"), "{}", refused.stderr);
    drop(bound);
}

/// Replaces the content of an object, which the store keeps read-only.
fn overwrite(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}
