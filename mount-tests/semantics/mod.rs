//! What a mount promises: a test for every line of `docs/semantics.md`, under the line's number.
//!
//! Lines about the life of a mount have theirs in `mount_life`, those about users in `mount_rights`, and those about
//! `mount(8)` in `mount_helper`.

mod consistency;
mod directories;
mod failure;
mod files;
mod metadata;
mod readonly;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Lab, Mount, Need};

pub(crate) const NEEDS: [Need; 2] = [Need::Root, Need::Fuse];

/// Makes a laboratory with one snapshot, of source `s`, of a tree that `make` fills; returns the tree.
pub(crate) fn snapshot_of(make: impl FnOnce(&Path)) -> (Lab, PathBuf) {
    let lab = Lab::new();
    let tree = lab.path("tree");
    fs::create_dir(&tree).unwrap();
    make(&tree);
    ingest(&lab, &tree);
    (lab, tree)
}

/// Commits another snapshot of the tree.
pub(crate) fn ingest(lab: &Lab, tree: &Path) {
    lab.run([Path::new("ingest"), tree, Path::new("--source"), Path::new("s")]).succeeds();
}

/// Returns where a mount of all snapshots shows the newest copy of a tree.
pub(crate) fn copy_of(mount: &Mount<'_>, tree: &Path) -> PathBuf {
    mount.path("sources/s/latest").join(tree.strip_prefix("/").unwrap())
}

#[test]
fn every_line_of_the_document_has_a_test_and_every_test_a_line() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/semantics.md")).unwrap();
    let mut lines = BTreeSet::new();
    for line in document.lines().filter_map(|line| line.strip_prefix("- **S")) {
        let number: u32 = line.split_once("**").unwrap().0.parse().unwrap();
        assert!(lines.insert(number), "S{number} stands there twice");
    }
    assert!(
        lines.iter().copied().eq(1..=u32::try_from(lines.len()).unwrap()),
        "numbers are missing: {lines:?}"
    );
    let mut tests = BTreeSet::new();
    let folder = root.join("mount-tests");
    for folder in [folder.join("semantics"), folder] {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                tests.extend(numbers_of_tests(&fs::read_to_string(path).unwrap()));
            }
        }
    }
    assert_eq!(lines, tests, "lines of docs/semantics.md and tests named after them");
}

/// Returns the numbers in the names of tests such as `s12_a_name`.
fn numbers_of_tests(code: &str) -> Vec<u32> {
    let mut numbers = Vec::new();
    let mut before = "";
    for line in code.lines() {
        if before == "#[test]" {
            let number = line.strip_prefix("fn s").and_then(|rest| rest.split_once('_'));
            numbers.extend(number.and_then(|(number, _)| number.parse::<u32>().ok()));
        }
        before = line;
    }
    numbers
}
