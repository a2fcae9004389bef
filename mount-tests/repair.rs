//! Damage and its repair through the binary.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{
    Lab, Ran, assert_same_trees, copy_of, flip_largest_pack, flip_middle, noise, sized_packs,
};

/// Makes a store with two snapshots of a folder, which is returned.
fn lab() -> (Lab, PathBuf) {
    let lab = Lab::new();
    let data = lab.path("data");
    fs::create_dir(&data).unwrap();
    for number in 0..30 {
        fs::write(data.join(format!("file-{number}")), noise(number, 50_000)).unwrap();
    }
    for _ in 0..2 {
        ingest(&lab, &data).succeeds();
        fs::write(data.join("more"), noise(99, 70_000)).unwrap();
    }
    (lab, data)
}

fn ingest(lab: &Lab, data: &Path) -> Ran {
    lab.run(["ingest", data.to_str().unwrap(), "--source", "data"])
}

#[test]
fn what_is_damaged_comes_back_from_the_second_store() {
    let (lab, data) = lab();
    let second = lab.path("second");
    Ran::of(lab.command(["copy", "--to"]).arg(&second)).succeeds();
    let damaged = flip_largest_pack(&lab.store());
    let before = fs::read(&damaged).unwrap();
    assert!(lab.run(["verify"]).fails(13).contains("yester repair --from STORE"));

    let planned = lab.run(["repair", "--dry-run", "--json"]).json();
    assert_eq!(planned["damaged_packs"].as_array().unwrap().len(), 1, "verify has noted it");
    assert_eq!(fs::read(&damaged).unwrap(), before, "a dry run changes nothing");

    let repaired = Ran::of(lab.command(["repair", "--from"]).arg(&second));
    repaired.succeeds();
    assert!(repaired.stderr.contains("1 pack brought back"), "{}", repaired.stderr);
    lab.run(["verify"]).succeeds();
    let target = lab.path("restored");
    lab.run(["restore", "latest", "--to", target.to_str().unwrap()]).succeeds();
    fs::remove_file(copy_of(&target, &data).join("more")).ok();
    fs::remove_file(data.join("more")).unwrap();
    assert_same_trees(&data, &copy_of(&target, &data));

    // Now all packs are gone, and this host has forgotten everything.
    for (_, pack) in sized_packs(&lab.store()) {
        fs::remove_file(pack).unwrap();
    }
    lab.cool();
    let repaired = Ran::of(lab.command(["repair", "--json", "--from"]).arg(&second));
    assert!(repaired.json()["restored_packs"].as_array().unwrap().len() >= 3);
    lab.run(["verify"]).succeeds();
}

#[test]
fn without_a_second_store_the_next_backup_is_whole() {
    let (lab, data) = lab();
    flip_largest_pack(&lab.store());
    lab.cool();
    let repaired = lab.run(["repair", "--read"]);
    let error = repaired.fails(13);
    assert!(error.contains("2 snapshots lost something") && error.contains("the next backup"), "{error}");
    // A host that never heard of the damage stores anew what is lost.
    lab.cool();
    ingest(&lab, &data).succeeds();
    lab.run(["verify", "latest"]).succeeds();
    let target = lab.path("restored");
    lab.run(["restore", "latest", "--to", target.to_str().unwrap()]).succeeds();
    assert_same_trees(&data, &copy_of(&target, &data));
    lab.run(["gc"]).succeeds();
    lab.run(["verify"]).succeeds();
}

#[test]
fn damage_that_verify_found_is_not_relied_on() {
    let (lab, data) = lab();
    flip_largest_pack(&lab.store());
    lab.run(["verify"]).fails(13);
    ingest(&lab, &data).succeeds();
    lab.run(["verify", "latest"]).succeeds();
    lab.run(["gc"]).succeeds();
    lab.run(["verify"]).succeeds();
}

#[test]
fn index_objects_and_snapshots_that_do_not_open_are_mended() {
    let (lab, _) = lab();
    assert_eq!(lab.snapshots().len(), 2, "this host has read both");
    let objects = |folder: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(lab.store().join(folder)).unwrap();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    };
    for path in objects("index").iter().chain(&objects("snapshots")[..1]) {
        flip_middle(path);
    }
    let repaired = lab.run(["repair", "--json"]).json();
    assert_eq!(repaired["replaced_index_objects"].as_array().unwrap().len(), 2);
    assert_eq!(repaired["restored_snapshots"].as_array().unwrap().len(), 1, "this host has a copy of it");
    lab.cool();
    lab.run(["verify"]).succeeds();

    // What nothing can bring back is deleted on demand alone.
    let lost = objects("snapshots").remove(0);
    flip_middle(&lost);
    fs::write(lab.store().join("gc").join("rubbish"), "x")
        .or_else(|_| {
            fs::create_dir(lab.store().join("gc"))
                .and_then(|()| fs::write(lab.store().join("gc/rubbish"), "x"))
        })
        .unwrap();
    lab.cool();
    assert!(lab.run(["gc"]).fails(13).contains("--discard-unreadable"));
    assert!(lab.run(["repair"]).fails(13).contains("--discard-unreadable"));
    assert!(lost.exists());
    let repaired = lab.run(["repair", "--discard-unreadable", "--json"]).json();
    assert_eq!(repaired["discarded"].as_array().unwrap().len(), 2);
    lab.run(["gc"]).succeeds();
    lab.run(["verify"]).succeeds();
    assert_eq!(lab.snapshots().len(), 1);
}

#[test]
fn a_store_of_other_keys_is_of_no_use() {
    let (lab, _) = lab();
    let (other, key) = (lab.path("other"), lab.path("other.key"));
    Ran::of(lab.command(["init"]).arg(&other).env("YESTER_KEY_FILE", &key)).succeeds();
    let refused = Ran::of(lab.command(["repair", "--from"]).arg(&other).arg("--from-key-file").arg(&key));
    assert!(refused.fails(1).contains("of another domain"), "{}", refused.stderr);
    assert!(lab.run(["repair"]).succeeds().is_empty());
}
