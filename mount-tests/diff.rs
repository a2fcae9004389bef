//! Comparing two snapshots through the real binary.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use crate::find::{ingest, write};
use crate::harness::Lab;

/// A folder that was backed up before and after it changed in every way.
struct Changed {
    lab: Lab,
    tree: PathBuf,
    ids: [String; 2],
}

fn changed() -> Changed {
    let lab = Lab::new();
    let tree = lab.path("tree");
    fs::create_dir_all(tree.join("old/below")).unwrap();
    for name in ["content", "longer", "mode", "time", "same", "kind", "old/file", "linked"] {
        write(&tree.join(name), "one", 0);
    }
    symlink("one", tree.join("link")).unwrap();
    let before = ingest(&lab, &tree, "s");
    write(&tree.join("content"), "two", 1);
    write(&tree.join("longer"), [0; 2000], 1);
    fs::set_permissions(tree.join("mode"), fs::Permissions::from_mode(0o600)).unwrap();
    write(&tree.join("time"), "one", 5);
    fs::remove_file(tree.join("kind")).unwrap();
    fs::create_dir(tree.join("kind")).unwrap();
    write(&tree.join("kind/inside"), "new", 0);
    fs::remove_dir_all(tree.join("old")).unwrap();
    fs::remove_file(tree.join("link")).unwrap();
    symlink("two", tree.join("link")).unwrap();
    fs::hard_link(tree.join("linked"), tree.join("second name")).unwrap();
    // Changes nothing but the ctime.
    let permissions = fs::metadata(tree.join("same")).unwrap().permissions();
    fs::set_permissions(tree.join("same"), permissions).unwrap();
    let after = ingest(&lab, &tree, "s");
    Changed { lab, tree, ids: [before, after] }
}

impl Changed {
    /// Compares the folder; returns the lines with the folder called `T`.
    fn lines(&self, flags: &[&str]) -> Vec<String> {
        let [before, after] = &self.ids;
        let tree = self.tree.to_str().unwrap();
        let ran = self.lab.run([&["diff", before, after, tree], flags].concat());
        let text = ran.succeeds().replace(tree, "T");
        // The time of a link cannot be chosen here, and differs or does not.
        text.lines().map(|line| line.trim_end_matches(", mtime").to_owned()).collect()
    }
}

#[test]
fn every_change_has_its_mark() {
    let changed = changed();
    let expected = [
        "M T/content  still 3 B",
        "T T/kind/  file -> directory, mode 0644 -> 0755",
        "+ T/kind/inside",
        "M T/link  -> two",
        "m T/linked  links 1 -> 2",
        "M T/longer  3 B -> 2.00 kB",
        "m T/mode  mode 0644 -> 0600",
        "- T/old/",
        "- T/old/below/",
        "- T/old/file",
        "+ T/second name",
        "m T/time  mtime",
    ];
    assert_eq!(changed.lines(&[]), expected);
    let content: Vec<_> = changed.lines(&["--metadata", "none"]);
    assert!(content.iter().all(|line| !line.starts_with('m')) && content.len() == 9, "{content:?}");
    let all = changed.lines(&["--metadata", "all"]);
    assert!(all.contains(&"m T/same  ctime".to_owned()), "{all:?}");
    assert!(all.iter().any(|line| line.starts_with("m T/  mtime")), "{all:?}");
}

#[test]
fn sums_and_summaries_count_what_differs() {
    let changed = changed();
    let [before, after] = &changed.ids;
    let tree = changed.tree.to_str().unwrap();
    let ran = changed.lab.run(["diff", before, after, tree]);
    ran.succeeds();
    let summary = "2 added, 3 removed, 1 of another kind, 3 with other content, 3 with other metadata\n";
    assert_eq!(ran.stderr, summary);
    let stat = changed.lab.run(["diff", before, after, tree, "--stat"]).succeeds();
    let rows: Vec<String> =
        stat.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let expected = [
        "CHANGE FILES DIRECTORIES OTHERS SIZE",
        "added 2 0 0 6 B",
        "removed 1 2 0 3 B",
        "content 2 0 1 6 B -> 2.00 kB",
        "metadata 3 0 0 9 B",
        "kind 1",
    ];
    assert_eq!(rows, expected);
    let sums = changed.lab.run(["diff", before, after, tree, "--stat", "--json"]).json();
    assert_eq!((&sums["removed"]["directories"], &sums["content_after"]["bytes"]), (&2.into(), &2003.into()));
}

#[test]
fn programs_get_both_sides() {
    let changed = changed();
    let [before, after] = &changed.ids;
    let path = changed.tree.join("mode");
    let found = changed.lab.run(["diff", before, after, path.to_str().unwrap(), "--json"]).json();
    assert_eq!(found.as_array().unwrap().len(), 1);
    assert_eq!((&found[0]["change"], &found[0]["changed"]), (&"metadata".into(), &vec!["mode"].into()));
    assert_eq!((&found[0]["before"]["mode"], &found[0]["after"]["mode"]), (&"0644".into(), &"0600".into()));
    let added = changed.tree.join("kind/inside");
    let found = changed.lab.run(["diff", before, after, added.to_str().unwrap(), "--json"]).json();
    assert_eq!((&found[0]["change"], &found[0]["before"]), (&"added".into(), &().into()));
}

#[test]
fn the_same_snapshot_does_not_differ() {
    let changed = changed();
    let [before, after] = &changed.ids;
    let ran = changed.lab.run(["diff", before, before]);
    assert_eq!((ran.succeeds().as_str(), ran.stderr.as_str()), ("", "no differences\n"));
    assert_eq!(changed.lab.run(["diff", before, before, "--json"]).succeeds(), "[]\n");
    let same = changed.tree.join("same");
    let ran = changed.lab.run(["diff", before, after, same.to_str().unwrap()]);
    assert_eq!((ran.succeeds().as_str(), ran.stderr.as_str()), ("", "no differences\n"));
    let ran = changed.lab.run(["diff", before, after, "/nowhere"]);
    assert!(ran.fails(1).contains("holds /nowhere"), "{}", ran.stderr);
    changed.lab.run(["diff", before]).fails(2);
    changed.lab.run(["diff", before, "0000000000"]).fails(1);
}
