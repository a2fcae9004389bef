//! Suspicious snapshots: how they are shown, what reads them, and how somebody accepts them.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{Lab, Ran, can, eventually, succeed};
use crate::semantics::NEEDS;

const WHOLE: &str =
    "--\n-- PostgreSQL database dump\n--\n\nSELECT 1;\n\n--\n-- PostgreSQL database dump complete\n--\n\n";
const CUT: &str = "--\n-- PostgreSQL database dump\n--\n\nSELECT 1;\n";

/// Backs up a stream of the source `shop`; a dump that is cut short ends with exit code 3.
fn ingest(lab: &Lab, dump: &str) -> Ran {
    let mut command = lab.command(["ingest", "--as", "x.sql", "--source", "shop"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(dump.as_bytes()).unwrap();
    Ran::from_output("ingest".to_owned(), child.wait_with_output().unwrap())
}

/// Returns the id of a snapshot of a dump that is cut short.
fn suspicious(lab: &Lab) -> String {
    ingest(lab, CUT).fails(3);
    let newest = lab.snapshots().pop().unwrap();
    assert_eq!((&newest["state"], &newest["marks"]), (&"suspicious".into(), &Value::Array(vec![])));
    newest["id"].as_str().unwrap().to_owned()
}

fn marks(lab: &Lab) -> usize {
    fs::read_dir(lab.store().join("marks")).map_or(0, Iterator::count)
}

#[test]
fn latest_means_a_suspicious_snapshot_only_once_it_was_accepted() {
    let lab = Lab::new();
    let first = suspicious(&lab);
    for name in ["latest:shop", "latest"] {
        let error = lab.run(["cat", name, "x.sql"]).fails(1).to_owned();
        assert!(
            error.contains(&format!("{name} means no snapshot: there are some, but all are suspicious")),
            "{error}"
        );
        assert!(error.contains(&first[..8]) && error.contains("`yester accept ID`"), "{error}");
    }
    ingest(&lab, WHOLE).succeeds();
    let whole = lab.snapshots().pop().unwrap()["id"].as_str().unwrap().to_owned();
    let id = suspicious(&lab);
    assert_eq!(lab.run(["cat", "latest:shop", "x.sql"]).succeeds(), WHOLE);

    let accepted = lab.run(["accept", &id[..8], "--json"]).json();
    let shown = |position: usize| accepted[position].clone();
    assert_eq!((&shown(0)["id"], &shown(0)["outcome"]), (&id.clone().into(), &"accepted".into()));
    assert_eq!(lab.run(["cat", "latest:shop", "x.sql"]).succeeds(), CUT);
    let newest = lab.snapshots().pop().unwrap();
    assert_eq!(
        (&newest["state"], newest["marks"].to_string()),
        (&"suspicious".into(), r#"["accepted"]"#.into())
    );
    let table = lab.run(["snapshots"]).succeeds();
    let states: Vec<_> = table.lines().map(|line| line.split_whitespace().last().unwrap()).collect();
    assert_eq!(states[1..], ["suspicious", "complete", "accepted"], "{table}");

    // Once more, and one that needs no accepting: both are told, and nothing is written.
    let again = lab.run(["accept", &id, &whole]);
    again.succeeds();
    assert!(again.stderr.contains("was accepted before"), "{}", again.stderr);
    assert!(again.stderr.contains("is complete: there is nothing to accept"), "{}", again.stderr);
    let outcomes = lab.run(["--quiet", "accept", &id, &whole, "--json"]);
    assert_eq!((&outcomes.json()[0]["outcome"], outcomes.stderr.as_str()), (&"accepted_before".into(), ""));
    assert_eq!(outcomes.json()[1]["outcome"], "not_suspicious");
    assert_eq!(marks(&lab), 1);
}

#[test]
fn only_names_of_one_snapshot_are_accepted() {
    let lab = Lab::new();
    let id = suspicious(&lab);
    for name in ["latest", "latest:shop"] {
        let error = lab.run(["accept", name]).fails(2).to_owned();
        assert!(error.contains("hint: `yester snapshots`"), "{error}");
    }
    lab.run(["accept"]).fails(2);
    // The first is accepted only if the second has a meaning, too.
    assert!(lab.run(["accept", &id, "ffff0000"]).fails(1).contains("no snapshot is called ffff0000"));
    assert_eq!(marks(&lab), 0);
    let time = lab.snapshots().pop().unwrap()["time"].as_str().unwrap().to_owned();
    lab.run(["accept", &time]).succeeds();
    assert_eq!(marks(&lab), 1);
}

#[test]
fn a_suspicious_snapshot_can_be_read_by_its_id() {
    let lab = Lab::new();
    let id = &suspicious(&lab)[..8];
    assert_eq!(lab.run(["cat", id, "x.sql"]).succeeds(), CUT);
    assert_eq!(lab.run(["ls", id]).succeeds(), "/x.sql\n");
    let target = lab.path("restored");
    lab.run(["restore", id, "--to", target.to_str().unwrap()]).succeeds();
    assert_eq!(fs::read_to_string(target.join("x.sql")).unwrap(), CUT);
    let archive = lab.path("archive.tar");
    fs::write(&archive, lab.run(["export", id]).stdout).unwrap();
    assert!(succeed(Command::new("tar").arg("-xOf").arg(&archive)) == CUT);
    lab.run(["verify", id]).succeeds();
    assert_eq!(lab.run(["verify", "--json"]).json()["damaged"].as_array().unwrap().len(), 0);
}

#[test]
fn a_mount_shows_suspicious_snapshots_and_follows_their_acceptance() {
    if !can(&NEEDS) {
        return;
    }
    let lab = Lab::new();
    ingest(&lab, WHOLE).succeeds();
    let id = suspicious(&lab);
    let mount = lab.mount(&[]);
    let name_in = |folder: &str| {
        let names = fs::read_dir(mount.path(folder)).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).find(|name| name.ends_with(&id[..8])).unwrap()
    };
    let name = name_in("snapshots");
    assert_eq!(name_in("sources/shop"), name);
    assert_eq!(fs::read_to_string(mount.path("snapshots").join(&name).join("x.sql")).unwrap(), CUT);
    for latest in ["latest", "sources/shop/latest"] {
        assert_eq!(fs::read_to_string(mount.path(latest).join("x.sql")).unwrap(), WHOLE);
    }
    lab.run(["accept", &name]).succeeds();
    for latest in ["latest", "sources/shop/latest"] {
        eventually("latest is the accepted one", || {
            fs::read_link(mount.path(latest)).unwrap().file_name() == Path::new(&name).file_name()
        });
        assert_eq!(fs::read_to_string(mount.path(latest).join("x.sql")).unwrap(), CUT);
    }
    drop(mount);
    let mount = lab.mount(&["--snapshot", &id]);
    assert_eq!(fs::read_to_string(mount.path("x.sql")).unwrap(), CUT);
}

#[test]
fn of_two_who_accept_at_once_one_makes_the_mark() {
    let lab = Lab::new();
    let id = suspicious(&lab);
    let start = || {
        let mut command = lab.command(["accept", &id, "--json"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children = [(); 4].map(|()| start());
    let outcomes = children.map(|child| {
        let ran = Ran::from_output("accept".to_owned(), child.wait_with_output().unwrap());
        ran.json()[0]["outcome"].as_str().unwrap().to_owned()
    });
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "accepted").count(), 1, "{outcomes:?}");
    assert_eq!(marks(&lab), 1);
}
