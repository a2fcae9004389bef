//! The main job: what goes in comes back the same, through the mount and through `restore`.

use std::fs;

use crate::harness::{FEW_PAGES_BYTES, Lab, Need, assert_same_trees, can, copy_of};
use crate::trees;

const NEEDS: [Need; 6] = [
    Need::Root,
    Need::Fuse,
    Need::Tool("rsync"),
    Need::Tool("diff"),
    Need::Tool("setfattr"),
    Need::Tool("setfacl"),
];

#[test]
fn a_tree_comes_back_the_same() {
    if !can(&NEEDS) {
        return;
    }
    let lab = Lab::new();
    let tree = lab.path("tree");
    trees::ordinary(&tree, 3000);
    trees::odd(&tree);

    let first = lab.run(["ingest", tree.to_str().unwrap(), "--source", "tree", "--json"]).json();
    assert_eq!(first["source"], "tree");
    assert!(first["added_bytes"].as_u64().unwrap() > 3_000_000);
    let second = lab.run(["ingest", tree.to_str().unwrap(), "--source", "tree", "--json"]).json();
    assert!(second["added_bytes"].as_u64().unwrap() < FEW_PAGES_BYTES, "{second}");
    assert_eq!(second["files"], first["files"]);

    let mount = lab.mount(&[]);
    assert_same_trees(&tree, &copy_of(&mount.path("latest"), &tree));
    assert_same_trees(&tree, &copy_of(&mount.path("sources/tree/latest"), &tree));
    drop(mount);

    let restored = lab.path("restored");
    lab.run(["restore", "latest:tree", "--to", restored.to_str().unwrap()]).succeeds();
    assert_same_trees(&tree, &copy_of(&restored, &tree));
    lab.run(["verify"]).succeeds();
}

#[test]
fn a_tree_comes_back_on_a_host_that_never_saw_the_store() {
    if !can(&NEEDS) {
        return;
    }
    let lab = Lab::new();
    let tree = lab.path("tree");
    trees::ordinary(&tree, 200);
    lab.run(["ingest", tree.to_str().unwrap(), "--source", "tree"]).succeeds();
    lab.cool();
    let mount = lab.mount(&["--snapshot", "latest:tree"]);
    assert_same_trees(&tree, &copy_of(&mount.path(""), &tree));
}

#[test]
fn a_mount_shows_new_snapshots_and_its_views() {
    if !can(&[Need::Root, Need::Fuse]) {
        return;
    }
    let lab = Lab::new();
    let file = lab.path("file");
    let ingest = |text: &str, source: &str, tag: &str| {
        fs::write(&file, text).unwrap();
        lab.run(["ingest", file.to_str().unwrap(), "--source", source, "--tag", tag, "--host", "shop1"])
            .succeeds();
    };
    ingest("one", "a", "nightly");
    let mount = lab.mount(&[]);
    let read = |view: &str| fs::read_to_string(copy_of(&mount.path(view), &file));
    assert_eq!(read("latest").unwrap(), "one");
    ingest("two", "b", "manual");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while read("sources/b/latest").is_err() {
        assert!(std::time::Instant::now() < deadline, "the new snapshot did not appear");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(read("sources/a/latest").unwrap(), "one");
    assert_eq!(read("sources/b/latest").unwrap(), "two");
    let snapshots_in = |view: &str| {
        let entries = fs::read_dir(mount.path(view)).unwrap();
        entries.filter(|entry| entry.as_ref().unwrap().file_name() != "latest").count()
    };
    assert_eq!(snapshots_in("snapshots"), 2);
    assert_eq!(snapshots_in("tags/nightly"), 1);
    assert!(mount.path("hosts/shop1").is_dir());
    assert!(fs::write(mount.path("new"), "x").is_err(), "a mount is read-only");
}

#[test]
fn files_come_back_by_name() {
    let lab = Lab::new();
    let tree = lab.path("tree");
    trees::ordinary(&tree, 150);
    lab.run(["ingest", tree.to_str().unwrap(), "--source", "tree"]).succeeds();
    let large = tree.join("large.bin");
    let ran = lab.run(["cat", "latest", large.to_str().unwrap()]);
    ran.succeeds();
    assert_eq!(ran.stdout, fs::read(&large).unwrap());

    let target = lab.path("target");
    let one = tree.join("d001");
    lab.run(["restore", "latest", one.to_str().unwrap(), "--to", target.to_str().unwrap()]).succeeds();
    assert_eq!(fs::read_dir(copy_of(&target, &one)).unwrap().count(), 50);
    assert!(!copy_of(&target, &large).exists());

    let listed = lab.run(["ls", "latest", one.to_str().unwrap()]).succeeds();
    assert_eq!(listed.lines().count(), 50);
    let all = lab.run(["ls", "-R", "--json", "latest"]).json();
    assert!(all.as_array().unwrap().iter().any(|entry| entry["size"] == 3_000_000));
}

#[test]
fn unreadable_paths_are_refused_and_missing_ones_named() {
    let lab = Lab::new();
    let error = lab.run(["ingest", "/nonexistent/path"]).fails(1).to_owned();
    assert!(error.contains("/nonexistent/path"), "{error}");
    assert!(lab.snapshots().is_empty());
}
