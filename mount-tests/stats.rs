//! What `stats` says of a store is what lies in it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::{Lab, noise, succeed};

fn ingest(lab: &Lab, path: &Path, source: &str, host: &str) {
    let mut command = lab.command(["ingest", "--source", source, "--host", host]);
    succeed(command.arg(path));
}

#[test]
fn sums_are_those_of_the_store() {
    let lab = Lab::new();
    let tree = lab.path("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("same"), noise(1, 600_000)).unwrap();
    fs::write(tree.join("text"), "a line that compresses well\n".repeat(10_000)).unwrap();
    ingest(&lab, &tree, "first", "alpha");
    ingest(&lab, &tree, "first", "alpha");
    fs::write(tree.join("more"), noise(2, 100_000)).unwrap();
    ingest(&lab, &tree, "second", "beta");

    lab.cool();
    let stats = lab.run(["stats", "--json"]).json();
    assert_eq!((&stats["snapshots"], &stats["files"]), (&3.into(), &7.into()));
    assert_eq!(stats["bytes"], 3 * 880_000 + 100_000);
    assert_eq!(stats["unique_data"]["bytes"], 980_000);
    let mut find = Command::new("find");
    let sizes = succeed(find.arg(lab.store()).args(["-type", "f", "-printf", "%P %s\\n"]));
    let of = |folder: &str| -> u64 {
        let lines = sizes.lines().filter(|line| line.starts_with(folder));
        lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
    };
    for folder in ["packs", "index", "snapshots", "keys"] {
        assert_eq!(stats["objects"][folder]["bytes"], of(&format!("{folder}/")), "{folder}");
    }
    assert_eq!(
        stats["data_packs"]["bytes"].as_u64().unwrap() + stats["tree_packs"]["bytes"].as_u64().unwrap(),
        of("packs/")
    );
    let snapshots = lab.snapshots();
    let added = |numbers: &[usize]| -> u64 {
        numbers.iter().map(|number| snapshots[*number]["added_bytes"].as_u64().unwrap()).sum()
    };
    let series = stats["series"].as_array().unwrap();
    assert_eq!(
        (series.len(), &series[0]["source"], &series[1]["host"]),
        (2, &"first".into(), &"beta".into())
    );
    assert_eq!((&series[0]["snapshots"], &series[0]["added_bytes"]), (&2.into(), &added(&[0, 1]).into()));
    assert_eq!(
        (&series[1]["newest_bytes"], &series[1]["added_bytes"]),
        (&980_000.into(), &added(&[2]).into())
    );

    let text = lab.run(["stats"]).succeeds();
    assert!(text.contains("3 with 7 files, 2.74 MB\n"), "{text}");
    assert!(text.contains("deduplicated 2.79 : 1\n"), "{text}");
    assert!(text.contains(", compressed 1."), "{text}");
    assert!(text.contains("\ndata packs"), "{text}");
}

#[test]
fn series_are_chosen() {
    let lab = Lab::new();
    let file = lab.path("file");
    fs::write(&file, "x").unwrap();
    ingest(&lab, &file, "a", "alpha");
    ingest(&lab, &file, "b", "alpha");
    ingest(&lab, &file, "a", "beta");
    let series = |arguments: &[&str]| {
        let stats = lab.run([&["stats", "--json"], arguments].concat()).json();
        assert_eq!(stats["snapshots"], 3, "the store is always summed up as a whole");
        let names = stats["series"].as_array().unwrap().iter();
        names
            .map(|series| format!("{}/{}", series["host"], series["source"]).replace('"', ""))
            .collect::<Vec<_>>()
    };
    assert_eq!(series(&[]), ["alpha/a", "alpha/b", "beta/a"]);
    assert_eq!(series(&["--source", "a"]), ["alpha/a", "beta/a"]);
    assert_eq!(series(&["--source", "a", "--host", "beta"]), ["beta/a"]);
    assert_eq!(series(&["latest:alpha/b", "latest:beta/a"]), ["alpha/b", "beta/a"]);
    lab.run(["stats", "latest:no"]).fails(1);
}

#[test]
fn an_empty_store_has_stats_too() {
    let lab = Lab::new();
    let text = lab.run(["stats"]).succeeds();
    assert!(text.contains("0 with 0 files, 0 B") && !text.contains("SOURCE"), "{text}");
    assert_eq!(lab.run(["stats", "--json"]).json()["snapshots"], 0);
}
