//! Retention: what policies forget, what they refuse to, what is protected, and how snapshots come back.

use std::fs;
use std::path::Path;
use std::process::Command;

use jiff::Timestamp;
use serde_json::Value;

use crate::harness::{Lab, Need, Ran, can, eventually};
use crate::semantics::NEEDS;

/// Backs up its own time as the file `note` of a source of the host `web1`; returns the snapshot's id.
fn ingest(lab: &Lab, source: &str, time: &str, options: &[&str]) -> String {
    let mut command = lab.command(["ingest", "--as", "note", "--host", "web1", "--json"]);
    command.args(["--source", source, "--time", time]).args(options).args(["--", "echo", time]);
    Ran::of(&mut command).json()["id"].as_str().unwrap().to_owned()
}

/// Backs up a source once a day in January 2026, at 01:00 UTC.
fn daily(lab: &Lab, source: &str, days: std::ops::RangeInclusive<u32>) -> Vec<String> {
    days.map(|day| ingest(lab, source, &format!("2026-01-{day:02}T01:00:00Z"), &[])).collect()
}

/// Prepares `yester forget` where days are those of UTC.
fn forget(lab: &Lab, arguments: &[&str]) -> Command {
    let mut command = lab.command(["forget"]);
    command.args(arguments).env("TZ", "UTC");
    command
}

/// Returns what a table says, without the ids.
fn rows(table: &str) -> Vec<String> {
    let row = |line: &str| match line.split_once("  ") {
        Some((_, rest)) => rest.split_whitespace().collect::<Vec<_>>().join(" "),
        None => line.to_owned(),
    };
    table.lines().map(row).collect()
}

/// Returns the days of the snapshots of a source that are not forgotten.
fn days(lab: &Lab, source: &str) -> Vec<String> {
    let snapshots = lab.snapshots().into_iter().filter(|snapshot| snapshot["source"] == source);
    snapshots.map(|snapshot| snapshot["time"].as_str().unwrap()[8..10].to_owned()).collect()
}

fn marks(lab: &Lab) -> usize {
    fs::read_dir(lab.store().join("marks")).map_or(0, Iterator::count)
}

fn assert_says(ran: &Ran, what: &str) {
    assert!(ran.stderr.contains(what), "{what:?} is not in:\n{}", ran.stderr);
}

#[test]
fn a_policy_explains_itself_and_does_what_it_says() {
    let lab = Lab::new();
    daily(&lab, "shop", 5..=9);
    ingest(&lab, "shop", "2026-01-09T12:00:00Z", &["--tag", "release"]);
    ingest(&lab, "shop", "2026-01-09T13:00:00Z", &[]);
    daily(&lab, "etc", 1..=2);
    // January 5, 2026 is a Monday.
    let policy = ["--keep-daily", "2", "--keep-weekly", "2", "--keep-tag", "release"];
    let dry = Ran::of(forget(&lab, &policy).arg("--dry-run"));
    let expected = [
        "etc from web1:",
        "TIME WHY STATE",
        "2026-01-01T01:00:00+00:00 keep day 2 complete",
        "2026-01-02T01:00:00+00:00 keep day 1, week 1 complete",
        "",
        "shop from web1:",
        "TIME WHY STATE",
        "2026-01-05T01:00:00+00:00 forget nothing keeps it complete",
        "2026-01-06T01:00:00+00:00 forget nothing keeps it complete",
        "2026-01-07T01:00:00+00:00 forget nothing keeps it complete",
        "2026-01-08T01:00:00+00:00 keep day 2 complete",
        "2026-01-09T01:00:00+00:00 forget nothing keeps it complete",
        "2026-01-09T12:00:00+00:00 keep tag release complete",
        "2026-01-09T13:00:00+00:00 keep day 1, week 1 complete",
    ];
    assert_eq!(rows(&dry.succeeds()), expected);
    assert_says(&dry, "would forget 4 snapshots; nothing was changed");
    assert_eq!((marks(&lab), lab.snapshots().len()), (0, 9));

    let planned = Ran::of(forget(&lab, &policy).args(["--dry-run", "--json"])).json();
    let done = Ran::of(forget(&lab, &policy).arg("--json")).json();
    assert_eq!((&planned["dry_run"], &done["dry_run"]), (&true.into(), &false.into()));
    assert_eq!((&planned["series"], &planned["time_zone"]), (&done["series"], &"UTC".into()));
    assert_eq!((&done["forgotten"], &done["series"][1]["source"]), (&4.into(), &"shop".into()));
    let latest = &done["series"][1]["snapshots"][6];
    assert_eq!(
        (&latest["kept"], latest["reasons"].to_string()),
        (&true.into(), r#"["day 1","week 1"]"#.into())
    );
    assert_eq!(
        (marks(&lab), days(&lab, "shop"), days(&lab, "etc")),
        (4, ["08", "09", "09"].map(str::to_owned).to_vec(), ["01", "02"].map(str::to_owned).to_vec())
    );

    let again = Ran::of(&mut forget(&lab, &policy));
    assert_eq!((again.succeeds().as_str(), marks(&lab)), ("", 4));
    assert_says(&again, "there is nothing to forget");
}

#[test]
fn each_series_keeps_its_own() {
    let lab = Lab::new();
    daily(&lab, "shop", 1..=4);
    daily(&lab, "etc", 1..=3);
    let ran = Ran::of(&mut forget(&lab, &["--source", "etc", "--keep-last", "1"]));
    ran.succeeds();
    assert_says(&ran, "forgot 2 snapshots; after a week, `yester gc` gives back what they alone take");
    assert_eq!((days(&lab, "shop").len(), days(&lab, "etc").len()), (4, 1));
    Ran::of(&mut forget(&lab, &["--keep-within", "1d"])).succeeds();
    assert_eq!((days(&lab, "shop").len(), days(&lab, "etc").len()), (2, 1));
    let ran = Ran::of(&mut forget(&lab, &["--source", "shpo", "--keep-last", "1"]));
    ran.succeeds();
    assert_says(&ran, "none of the 3 snapshots here is of that source");
}

#[test]
fn days_are_those_of_the_time_zone() {
    if !can(&[Need::TimeZones]) {
        return;
    }
    let lab = Lab::new();
    for time in
        ["2026-01-10T22:30:00Z", "2026-01-10T23:30:00Z", "2026-07-10T21:30:00Z", "2026-07-10T22:30:00Z"]
    {
        ingest(&lab, "shop", time, &[]);
    }
    let shown = |zone: &str| {
        let arguments = ["--keep-daily", "9", "--dry-run"];
        let ran = Ran::of(forget(&lab, &arguments).env("TZ", zone));
        let kept = rows(&ran.succeeds()).into_iter().filter(|row| row.contains(" keep "));
        (kept.map(|row| row[5..25].to_owned()).collect::<Vec<_>>(), ran)
    };
    assert_eq!(shown("UTC").0, ["01-10T23:30:00+00:00", "07-10T22:30:00+00:00"]);
    let berlin =
        ["01-10T23:30:00+01:00", "01-11T00:30:00+01:00", "07-10T23:30:00+02:00", "07-11T00:30:00+02:00"];
    let (kept, ran) = shown("Europe/Berlin");
    assert_eq!(kept, berlin);
    assert!(!ran.stderr.contains("warning"), "{}", ran.stderr);
    // A zone that the system does not know is UTC, and that is said.
    let (kept, ran) = shown("Europe/Atlantis");
    assert_eq!(kept.len(), 2);
    assert_says(&ran, "warning: days are counted in UTC");
    assert_says(&ran, "tzdata");
}

#[test]
fn a_burst_pushes_nothing_out_unless_somebody_insists() {
    let lab = Lab::new();
    daily(&lab, "shop", 1..=8);
    daily(&lab, "etc", 1..=3);
    for minute in 10..14 {
        ingest(&lab, "shop", &format!("2026-01-08T01:{minute}:00Z"), &[]);
    }
    let policy = ["--keep-last", "3"];
    let ran = Ran::of(&mut forget(&lab, &policy));
    ran.fails(1);
    assert_says(
        &ran,
        "yester: 5 snapshots of shop from web1 came within 24 hours, and the rules would keep none older",
    );
    assert_says(&ran, "hint: nothing was forgotten");
    assert_says(&ran, "--force");
    let dry = Ran::of(forget(&lab, &policy).arg("--dry-run"));
    dry.fails(1);
    assert_says(&dry, "this is why nothing would be forgotten without --dry-run, either");
    let table = String::from_utf8(dry.stdout).unwrap();
    assert_eq!(rows(&table).iter().filter(|row| row.contains(" forget ")).count(), 9, "{table}");
    let dry = Ran::of(forget(&lab, &policy).args(["--dry-run", "--json"]));
    dry.fails(1);
    let document: Value = serde_json::from_slice(&dry.stdout).unwrap();
    assert_eq!(
        (&document["series"][0]["refused"], &document["series"][1]["refused"]),
        (&Value::Null, &"burst".into())
    );
    assert_eq!(marks(&lab), 0);

    // Rules that keep older ones are no cause for alarm.
    Ran::of(&mut forget(&lab, &["--keep-daily", "7", "--dry-run"])).succeeds();
    Ran::of(forget(&lab, &policy).args(["--force", "--dry-run"])).succeeds();
    Ran::of(forget(&lab, &policy).arg("--force")).succeeds();
    assert_eq!((days(&lab, "shop").len(), days(&lab, "etc").len(), marks(&lab)), (3, 3, 9));
}

#[test]
fn a_configured_source_that_is_refused_keeps_no_other_from_being_thinned_out() {
    let lab = Lab::new();
    for source in ["shop", "etc", "archive"] {
        daily(&lab, source, 1..=5);
    }
    for minute in 10..14 {
        ingest(&lab, "shop", &format!("2026-01-05T01:{minute}:00Z"), &[]);
    }
    ingest(&lab, "unknown", "2026-01-05T01:00:00Z", &[]);
    let config = lab.path("config.toml");
    let text = format!(
        "host = \"web1\"\nkeep = {{ last = 3 }}\n[store.local]\nurl = {:?}\n[source.shop]\npaths = [\"/x\"]\n\
         [source.etc]\npaths = [\"/x\"]\n[source.archive]\npaths = [\"/x\"]\nkeep = false\n",
        lab.store()
    );
    fs::write(&config, text).unwrap();
    let configured = |more: &[&str]| {
        let mut command = forget(&lab, &["--configured"]);
        Ran::of(command.arg("--config").arg(&config).args(more))
    };
    configured(&["--dry-run"]).fails(1);
    let ran = configured(&[]);
    ran.fails(3);
    assert_says(&ran, "5 snapshots of shop from web1 came within 24 hours");
    assert_says(&ran, "all other series were thinned out");
    let left = || ["shop", "etc", "archive", "unknown"].map(|source| days(&lab, source).len());
    assert_eq!(left(), [9, 3, 5, 1]);
    configured(&["--source", "etc"]).succeeds();
    configured(&["--source", "shop", "--force"]).succeeds();
    assert_eq!(left(), [3, 3, 5, 1]);
    Ran::of(&mut forget(&lab, &["--configured", "--keep-last", "1"])).fails(2);
}

#[test]
fn the_last_one_is_kept() {
    let lab = Lab::new();
    let ids = daily(&lab, "shop", 1..=2);
    Ran::of(&mut forget(&lab, &["--keep-tag", "none"])).succeeds();
    assert_eq!(days(&lab, "shop"), ["02"]);
    let ran = lab.run(["forget", &ids[1]]);
    ran.fails(1);
    assert_says(&ran, "no good snapshot of shop from web1 would be left");
    // A suspicious one is no reason to let the last good one go.
    let mut cut = lab.command(["ingest", "--as", "x.sql", "--source", "shop", "--host", "web1"]);
    let dump = "--\n-- PostgreSQL database dump\n--\n\nSELECT 1;\n";
    Ran::of(cut.args(["--", "printf", "%s", dump])).fails(3);
    lab.run(["forget", &ids[1], "--dry-run"]).fails(1);
    assert_eq!(lab.snapshots().len(), 2);
    lab.run(["forget", &ids[1], "--force"]).succeeds();
    assert_eq!(lab.snapshots().len(), 1);
}

#[test]
fn what_is_protected_stays() {
    let lab = Lab::new();
    let protected = ingest(&lab, "shop", "2026-01-01T01:00:00Z", &["--protect"]);
    let others = daily(&lab, "shop", 2..=4);
    let table = lab.run(["snapshots"]).succeeds();
    assert!(table.lines().nth(1).unwrap().ends_with("complete, protected"), "{table}");
    let ran = lab.run(["forget", &others[0], &protected]);
    ran.fails(1);
    assert_says(&ran, "is protected, and nothing was forgotten");
    assert_says(&ran, "hint: `yester protect --end` ends that");
    lab.run(["forget", &protected, "--force"]).fails(1);
    Ran::of(&mut forget(&lab, &["--keep-last", "2"])).succeeds();
    assert_eq!(days(&lab, "shop"), ["01", "03", "04"]);

    let again = lab.run(["protect", &protected, &others[1], "--json"]);
    assert_says(&again, "was protected before");
    assert_eq!((&again.json()[0]["changed"], &again.json()[1]["changed"]), (&false.into(), &true.into()));
    let ended = lab.run(["protect", "--end", &protected]);
    ended.succeeds();
    assert_says(&ended, "is no longer protected");
    Ran::of(&mut forget(&lab, &["--keep-last", "1"])).succeeds();
    assert_eq!(days(&lab, "shop"), ["03", "04"]);
    let gone = lab.run(["protect", &protected]);
    gone.fails(1);
    assert_says(&gone, "was forgotten");
    assert_says(&gone, "hint: `yester forget --undo ID` brings it back");
}

#[test]
fn what_was_forgotten_comes_back_as_it_was() {
    let lab = Lab::new();
    fs::create_dir(lab.path("tree")).unwrap();
    let before = Timestamp::now();
    let mut ids = Vec::new();
    for content in ["first", "second"] {
        fs::write(lab.path("tree/file"), content).unwrap();
        let mut command = lab.command(["ingest", "--source", "tree", "--tag", "x", "--json"]);
        ids.push(Ran::of(command.arg(lab.path("tree"))).json()["id"].as_str().unwrap().to_owned());
    }
    let old = lab.snapshots().remove(0);
    let file = lab.path("tree/file");
    let file = file.to_str().unwrap();
    Ran::of(&mut forget(&lab, &["--keep-last", "1"])).succeeds();
    for arguments in
        [&["cat", &ids[0], file][..], &["ls", &ids[0][..8]], &["restore", &ids[0], "--to", "/nowhere"]]
    {
        let ran = lab.run(arguments);
        ran.fails(1);
        assert_says(&ran, "was forgotten: ");
    }
    let named = lab.run(["forget", &ids[0], "--json"]);
    assert_says(&named, "was forgotten before");
    assert_eq!(
        (&named.json()["forgotten_before"][0], &named.json()["forgotten"]),
        (&ids[0].clone().into(), &0.into())
    );

    let listed = lab.run(["snapshots", "--forgotten", "--json"]).json();
    let since: Timestamp = listed[0]["forgotten"].as_str().unwrap().parse().unwrap();
    assert!(before < since && since <= Timestamp::now(), "{listed}");
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["id"]), (1, &ids[0].clone().into()));
    let table = lab.run(["snapshots", "--forgotten"]).succeeds();
    assert!(table.contains("  FORGOTTEN  ") && table.contains(&ids[0][..8]), "{table}");

    let undone = lab.run(["forget", "--undo", &ids[0][..8], "--json"]);
    let new = undone.json()[0].clone();
    assert_eq!((&new["outcome"], &new["undone_id"]), (&"brought_back".into(), &ids[0].clone().into()));
    let new_id = new["id"].as_str().unwrap().to_owned();
    assert_says(&undone, &format!("is back as {}", &new_id[..8]));
    let back = lab.snapshots().remove(0);
    for field in
        ["time", "source", "host", "tags", "paths", "files", "bytes", "added_bytes", "stored_bytes", "marks"]
    {
        assert_eq!(back[field], old[field], "{field}");
    }
    assert_eq!(back["id"], new["id"]);
    assert_eq!(lab.run(["cat", &new_id, file]).succeeds(), "first");
    let target = lab.path("restored");
    lab.run(["restore", &new_id, "--to", target.to_str().unwrap()]).succeeds();
    let restored = target.join(Path::new(file).strip_prefix("/").unwrap());
    assert_eq!(fs::read_to_string(restored).unwrap(), "first");
    assert_eq!(lab.run(["verify", "--json"]).json()["damaged"].as_array().unwrap().len(), 0);

    let again = lab.run(["forget", "--undo", &ids[0], "--json"]);
    assert_says(&again, &format!("is back already, as {}", &new_id[..8]));
    assert_eq!(again.json()[0]["outcome"], "brought_back_before");
    assert_eq!(lab.snapshots().len(), 2);
}

#[test]
fn undo_speaks_of_forgotten_snapshots() {
    let lab = Lab::new();
    let kept = daily(&lab, "shop", 1..=1);
    for name in ["ffff0000", "latest", "latest:shop"] {
        let ran = lab.run(["forget", "--undo", name]);
        ran.fails(1);
        assert_says(&ran, &format!("no forgotten snapshot is called {name}"));
        assert_says(&ran, "hint: `yester snapshots --forgotten` lists what can be brought back");
    }
    let ran = lab.run(["forget", "--undo", &kept[0], "--json"]);
    assert_says(&ran, "is not forgotten: there is nothing to undo");
    assert_eq!(ran.json()[0]["outcome"], "not_forgotten");
    let ran = lab.run(["snapshots", "--forgotten"]);
    assert_eq!(ran.succeeds(), "");
    assert_says(&ran, "there is no forgotten snapshot");

    let time = "2026-01-02T03:04:05Z";
    let twice = ["shop", "etc"].map(|source| ingest(&lab, source, time, &[]));
    lab.run(["forget", "--force", &twice[0], &twice[1]]).succeeds();
    let ran = lab.run(["forget", "--undo", time]);
    ran.fails(1);
    assert_says(&ran, &format!("{time} means more than one forgotten snapshot: "));
    assert_says(&ran, &twice[0][..8]);
    // None comes back if one of the names is wrong.
    lab.run(["forget", "--undo", &twice[0], "ffff0000"]).fails(1);
    assert_eq!(lab.snapshots().len(), 1);
    lab.run(["forget", "--undo", &twice[0], &twice[1]]).succeeds();
    assert_eq!(lab.snapshots().len(), 3);
}

#[test]
fn what_is_forgotten_is_in_no_list_and_no_mount() {
    let lab = Lab::new();
    let ids = daily(&lab, "shop", 1..=3);
    let note = |name: &str| lab.run(["cat", name, "note"]).succeeds();
    assert_eq!(note("latest:shop"), "2026-01-03T01:00:00Z\n");
    lab.run(["forget", &ids[2]]).succeeds();
    assert_eq!(note("latest:shop"), "2026-01-02T01:00:00Z\n");
    let versions = |command: &[&str]| lab.run(command).json().to_string();
    for command in [&["find", "note", "--json"][..], &["log", "/note", "--json"], &["snapshots", "--json"]] {
        let found = versions(command);
        assert!(found.contains(&ids[1]) && !found.contains(&ids[2]), "{command:?}: {found}");
    }
    if !can(&NEEDS) {
        return;
    }
    let mount = lab.mount(&[]);
    let names = || {
        let entries = fs::read_dir(mount.path("sources/shop")).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let is_shown = |id: &str| names().iter().any(|name| name.ends_with(&id[..8]));
    assert!(is_shown(&ids[0]) && is_shown(&ids[1]) && !is_shown(&ids[2]), "{:?}", names());
    lab.run(["forget", &ids[1]]).succeeds();
    eventually("a forgotten snapshot has left the mount", || !is_shown(&ids[1]));
    let latest = || fs::read_to_string(mount.path("sources/shop/latest/note")).unwrap();
    assert_eq!(latest(), "2026-01-01T01:00:00Z\n");
    let back = lab.run(["forget", "--undo", &ids[1], "--json"]).json()[0]["id"].as_str().unwrap().to_owned();
    eventually("what was brought back is in the mount", || is_shown(&back));
    assert_eq!(latest(), "2026-01-02T01:00:00Z\n");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let lab = Lab::new();
    let id = &daily(&lab, "shop", 1..=1)[0];
    for arguments in [
        &["forget"][..],
        &["forget", "--keep-daily", "0"],
        &["forget", "--source", "shop"],
        &["forget", id, "--keep-last", "1"],
        &["forget", id, "--source", "shop"],
        &["forget", "--undo"],
        &["forget", "--undo", id, "--dry-run"],
        &["forget", "--keep-within", "6m"],
        &["forget", "--keep-within", "99999y"],
        &["protect"],
        &["ingest", "/etc/hosts", "--time", "2999-01-01T00:00:00Z"],
        &["ingest", "/etc/hosts", "--time", "yesterday"],
    ] {
        lab.run(arguments).fails(2);
    }
    assert_eq!((marks(&lab), lab.snapshots().len()), (0, 1));
}
