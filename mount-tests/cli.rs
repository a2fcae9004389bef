//! The command line's wiring: help texts, exit codes, and the shape of what programs read.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use yester::journal::RunOutcome;

use crate::harness::{Lab, Need, Ran, can};

const COMMANDS: [&str; 36] = [
    "init",
    "ingest",
    "snapshots",
    "ls",
    "find",
    "log",
    "diff",
    "cat",
    "export",
    "restore",
    "mount",
    "umount",
    "verify",
    "accept",
    "forget",
    "protect",
    "gc",
    "copy",
    "repair",
    "run",
    "config",
    "config check",
    "schedule",
    "schedule install",
    "schedule remove",
    "schedule show",
    "report",
    "status",
    "stats",
    "key",
    "key list",
    "key add",
    "key remove",
    "key rotate",
    "key export",
    "generate",
];

#[test]
fn help_texts_are_as_reviewed() {
    let lab = Lab::empty();
    let mut all = String::new();
    let help = |arguments: &[&str]| {
        let mut command = lab.command(arguments);
        Ran::of(command.env_remove("YESTER_STORE").env_remove("YESTER_KEY_FILE")).succeeds()
    };
    writeln!(all, "$ yester --help\n{}", help(&["--help"])).unwrap();
    for command in COMMANDS {
        writeln!(
            all,
            "$ yester {command} --help\n{}",
            help(&command.split(' ').chain(["--help"]).collect::<Vec<_>>())
        )
        .unwrap();
    }
    assert!(all.lines().all(|line| line.chars().count() <= 100), "a line is longer than 100 characters");
    insta::assert_snapshot!(all);
}

#[test]
fn usage_errors_exit_with_2() {
    let lab = Lab::new();
    for arguments in [
        &["frobnicate"][..],
        &[],
        &["ingest"],
        &["ingest", "/etc", "/usr"],
        &["ingest", "/etc", "--as", "name"],
        &["ingest", "/etc", "--source", "a/b"],
        &["ingest", "/etc", "--source", "x", "--tag", "a/b"],
        &["ingest", "--as", "a/b", "--", "true"],
        &["ingest", "/etc", "--", "true"],
        &["snapshots", "--cache-size", "many"],
        &["snapshots", "--level", "99"],
        &["snapshots", "--store", "s3://bucket//prefix"],
        &["snapshots", "--storage-class", "GLACIER"],
        &["snapshots", "--sse", "rot13"],
        &["snapshots", "--store", "sftp://user@host/path"],
        &["cat", "latest", "../../etc/passwd"],
        &["init", "--chunk-size", "100K"],
    ] {
        let ran = lab.run(arguments);
        ran.fails(2);
        assert!(ran.stdout.is_empty(), "{arguments:?}");
    }
    let mut no_store = lab.command(["snapshots"]);
    assert!(Ran::of(no_store.env_remove("YESTER_STORE")).fails(2).contains("--store"));
}

#[test]
fn errors_are_one_message_with_hints() {
    let lab = Lab::empty();
    let error = lab.run(["snapshots"]).fails(10).to_owned();
    let store = lab.store();
    insta::assert_snapshot!(error.replace(store.to_str().unwrap(), "STORE"), @r"
    yester: there is no yester store at STORE
    hint: check --store, or create a store there with `yester init`
    ");
}

#[test]
fn init_refuses_what_could_lose_data() {
    let lab = Lab::new();
    lab.run(["init"]).fails(1);
    let used = lab.path("used");
    fs::create_dir(&used).unwrap();
    fs::write(used.join("file"), "x").unwrap();
    assert!(lab.run(["init", used.to_str().unwrap()]).fails(1).contains("not empty"));
    assert!(lab.run(["init", "/nonexistent/store"]).fails(1).contains("parent"));
    let mut empty_passphrase = lab.command(["init", lab.path("other").to_str().unwrap()]);
    empty_passphrase.env_remove("YESTER_KEY_FILE").env("YESTER_PASSPHRASE", "");
    Ran::of(&mut empty_passphrase).fails(12);
    assert!(!lab.path("other").exists(), "nothing is created before there is a key");
    let another_key = lab.path("another-key");
    let again = Ran::of(lab.command(["init"]).env("YESTER_KEY_FILE", &another_key));
    assert!(
        again.fails(1).contains("already") && !another_key.exists(),
        "no key is made for another's store"
    );
}

#[test]
fn a_key_file_is_private() {
    use std::os::unix::fs::PermissionsExt;

    let lab = Lab::new();
    let mode = fs::metadata(lab.path("key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn documents_have_the_documented_fields() {
    let lab = Lab::new();
    let file = lab.path("file");
    fs::write(&file, "content").unwrap();
    let ingested = lab
        .run(["ingest", file.to_str().unwrap(), "--source", "s", "--host", "h", "--tag", "t", "--json"])
        .json();
    let listed = lab.run(["snapshots", "--json"]).json();
    let wanted = ["id", "time", "source", "host", "tags", "paths", "files", "bytes", "added_bytes"];
    for document in [&ingested, &listed[0]] {
        let fields: BTreeSet<&str> = document.as_object().unwrap().keys().map(String::as_str).collect();
        assert!(wanted.iter().all(|field| fields.contains(field)), "{document}");
        assert_eq!(document["tags"][0], "t");
        assert_eq!(document["bytes"], 7);
        assert!(document["time"].as_str().unwrap().ends_with('Z'));
    }
    assert_eq!(ingested["id"], listed[0]["id"]);
    let verified = lab.run(["verify", "--json"]).json();
    assert_eq!(verified["damaged"].as_array().unwrap().len(), 0);
    assert_eq!(lab.run(["snapshots", "--json", "--source", "other"]).json().as_array().unwrap().len(), 0);
}

#[test]
fn summaries_fit_100_columns() {
    let lab = Lab::new();
    for arguments in [&["ingest", "/etc", "--source", "etc"][..], &["snapshots"], &["verify"]] {
        let ran = lab.run(arguments);
        let shown = ran.succeeds() + &ran.stderr;
        assert!(shown.lines().count() >= 2, "{shown}");
        assert!(shown.lines().all(|line| line.chars().count() <= 100), "{shown}");
    }
}

#[test]
fn standard_output_carries_data_alone() {
    let lab = Lab::new();
    let mut child = lab
        .command(["ingest", "--as", "stream", "-vv"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"from a pipe").unwrap();
    let ran = Ran::from_output("ingest".to_owned(), child.wait_with_output().unwrap());
    assert_eq!(ran.succeeds(), "");
    assert!(ran.stderr.contains("snapshot "), "{}", ran.stderr);
    let quiet = lab.run(["--quiet", "ingest", "/etc/hostname"]);
    assert_eq!((quiet.succeeds().as_str(), quiet.stderr.as_str()), ("", ""));
    assert_eq!(lab.run(["cat", "latest:stream", "stream", "-vv"]).succeeds(), "from a pipe");
    assert_eq!(lab.run(["ls", "latest:stream"]).succeeds(), "/stream\n");
}

#[test]
fn what_cannot_be_read_makes_a_backup_partial() {
    if !can(&[Need::Root]) {
        return;
    }
    let lab = Lab::new();
    let tree = lab.path("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("good"), "good").unwrap();
    fs::write(tree.join("bad\nname"), "bad").unwrap();
    let owned = [tree.as_path(), &tree.join("good")];
    for path in owned {
        std::os::unix::fs::chown(path, Some(65_534), Some(65_534)).unwrap();
    }
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(tree.join("bad\nname"), fs::Permissions::from_mode(0o600)).unwrap();
    // Another user, who may read the key and the good file, and write where the test lets them.
    for path in [lab.path(""), lab.path("key"), lab.store()] {
        std::process::Command::new("chown").arg("-R").arg("65534:65534").arg(path).status().unwrap();
    }
    std::os::unix::fs::chown(tree.join("bad\nname"), Some(0), Some(0)).unwrap();
    let run = |arguments: &[&str]| {
        let inner = lab.command(arguments);
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(inner.get_program());
        command.args(inner.get_args());
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Ran::of(command.current_dir("/"))
    };
    let ran = run(&["ingest", tree.to_str().unwrap(), "--source", "tree", "--json"]);
    let error = ran.fails(3);
    assert!(error.contains("bad\\nname"), "{error}");
    let document: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(document["state"], "partial");
    assert_eq!(document["failed_files"], 1);
    let good = tree.join("good");
    assert_eq!(run(&["cat", "latest", good.to_str().unwrap()]).succeeds(), "good");
    let runs = lab.runs();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].outcome, RunOutcome::Partial);
    assert_eq!(runs[0].snapshot.unwrap().hex(), document["id"].as_str().unwrap());
    assert!(runs[0].message.contains("bad\\nname"), "{}", runs[0].message);
}
