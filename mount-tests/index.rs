//! The index is a cache: whatever happens to it, a backup costs and shows the same.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{FEW_PAGES_BYTES, Lab, Ran, noise, succeed};
use crate::trees;

/// The unit in which SQLite reads and writes.
const PAGE_BYTES: u64 = 4096;

fn ingest(lab: &Lab, tree: &Path) -> serde_json::Value {
    lab.run(["ingest", tree.to_str().unwrap(), "--source", "tree", "--json"]).json()
}

fn lab_with_tree() -> (Lab, PathBuf) {
    let lab = Lab::new();
    let tree = lab.path("tree");
    trees::ordinary(&tree, 120);
    ingest(&lab, &tree);
    (lab, tree)
}

/// Returns the file of the index in the cache folder.
fn index_file(lab: &Lab) -> PathBuf {
    let mut find = std::process::Command::new("find");
    let found = succeed(find.arg(lab.path("cache")).args(["-name", "index.sqlite"]));
    assert_eq!(found.lines().count(), 1, "{found}");
    PathBuf::from(found.trim_end())
}

/// Expects everything to be as before `damage`, whoever comes first after it.
#[track_caller]
fn survives(damage: impl Fn(&Lab)) {
    let (lab, tree) = lab_with_tree();
    let listed = lab.snapshots();
    let large = tree.join("large.bin");

    damage(&lab);
    assert_eq!(lab.snapshots(), listed);
    damage(&lab);
    assert!(lab.run(["cat", "latest", large.to_str().unwrap()]).stdout == fs::read(&large).unwrap());
    damage(&lab);
    let again = ingest(&lab, &tree);
    assert!(again["added_bytes"].as_u64().unwrap() < FEW_PAGES_BYTES, "{again}");
    assert_eq!(again["files"], listed[0]["files"]);
    damage(&lab);
    lab.run(["verify"]).succeeds();
    assert_eq!(lab.snapshots().len(), 2);
}

fn overwrite_index(lab: &Lab, change: impl Fn(Vec<u8>) -> Vec<u8>) {
    let file = index_file(lab);
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, change(bytes)).unwrap();
}

#[test]
fn a_deleted_cache_is_made_anew() {
    survives(|lab| fs::remove_dir_all(lab.path("cache")).unwrap());
}

#[test]
fn garbage_is_replaced() {
    survives(|lab| overwrite_index(lab, |bytes| noise(8, bytes.len())));
    survives(|lab| overwrite_index(lab, |_| b"not a database".to_vec()));
}

#[test]
fn a_truncated_index_is_replaced() {
    survives(|lab| overwrite_index(lab, |bytes| bytes[..bytes.len() / 2].to_vec()));
    survives(|lab| overwrite_index(lab, |bytes| bytes[..50].to_vec()));
    survives(|lab| overwrite_index(lab, |_| Vec::new()));
}

/// Leaves the pages alone that are read when the file is opened.
fn overwrite_pages(lab: &Lab) {
    overwrite_index(lab, |mut bytes| {
        let after_header = bytes.len().min(8192);
        let length = bytes.len() - after_header;
        bytes[after_header..].copy_from_slice(&noise(9, length));
        bytes
    });
}

#[test]
fn pages_of_garbage_are_noticed() {
    survives(overwrite_pages);
}

#[test]
fn any_damaged_page_is_noticed() {
    let (lab, tree) = lab_with_tree();
    let large = tree.join("large.bin");
    let pages = fs::metadata(index_file(&lab)).unwrap().len() / PAGE_BYTES;
    assert!(pages > 10);
    for page in 0..pages {
        let damage = || {
            overwrite_index(&lab, |mut bytes| {
                let start = usize::try_from(page * PAGE_BYTES).unwrap();
                // Before this are the names and versions that tell whose file it is.
                let start = if page == 0 { 100 } else { start };
                let end = usize::try_from((page + 1) * PAGE_BYTES).unwrap().min(bytes.len());
                bytes[start..end].copy_from_slice(&noise(page, end - start));
                bytes
            });
        };
        damage();
        let copy = lab.run(["cat", "latest:tree", large.to_str().unwrap()]);
        assert!(copy.stdout == fs::read(&large).unwrap(), "page {page}: {copy:?}");
        damage();
        let again = ingest(&lab, &tree);
        assert!(again["added_bytes"].as_u64().unwrap() < FEW_PAGES_BYTES, "page {page}: {again}");
        damage();
        ingest_stream(&lab, &large);
        damage();
        lab.run(["verify"]).succeeds();
    }
}

/// What was read of a stream is lost when the index turns out damaged, so that a second run may be needed.
fn ingest_stream(lab: &Lab, file: &Path) {
    let ingest = || lab.run(["ingest", "--as", "copy", "--json", "--", "cat", file.to_str().unwrap()]);
    let mut ran = ingest();
    if ran.stdout.is_empty() {
        assert!(ran.fails(1).contains("run the same command again"), "{}", ran.stderr);
        ran = ingest();
    }
    assert!(ran.json()["added_bytes"].as_u64().unwrap() < FEW_PAGES_BYTES, "{ran:?}");
}

#[test]
fn what_a_failed_ingest_wrote_is_used_again() {
    let lab = Lab::new();
    let file = lab.path("file");
    fs::write(&file, noise(6, 8_000_000)).unwrap();
    let script = format!("cat {}; exit $0", file.display());
    let ingest = |code: &str| lab.run(["ingest", "--as", "dump", "--json", "--", "sh", "-c", &script, code]);
    ingest("1").fails(1);
    assert!(lab.snapshots().is_empty());
    let whole = ingest("0").json();
    assert_eq!(whole["bytes"], 8_000_000);
    assert!(whole["added_bytes"].as_u64().unwrap() < FEW_PAGES_BYTES, "{whole}");
}

#[test]
fn hosts_share_what_is_in_the_store() {
    let (lab, tree) = lab_with_tree();
    let mut other_host = lab.command(["ingest", tree.to_str().unwrap(), "--host", "other", "--json"]);
    other_host.env("CACHE_DIRECTORY", lab.path("cache2")).env("STATE_DIRECTORY", lab.path("state2"));
    let second = Ran::of(&mut other_host).json();
    assert!(second["added_bytes"].as_u64().unwrap() < FEW_PAGES_BYTES, "{second}");
    assert_eq!(lab.snapshots().len(), 2);
}
