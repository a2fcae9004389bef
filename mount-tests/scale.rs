//! Scale: what is large costs time in proportion, and memory hardly at all.
//!
//! `scripts/bench/all` measures the same with more of everything and beside other programs.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use rustix::process::Pid;

use crate::fidelity::portrait::{Copy, Portrait, islands};
use crate::harness::{Lab, Need, can, copy_of, noise, succeed};

const SPARSE_BYTES: u64 = 100_000_000_000;
const ISLANDS: u64 = 40;
const FILES: usize = 30_000;

/// What any process of these tests may take at most; more threads would take more.
const PEAK_BYTES: u64 = 200_000_000;

/// Ingests `path` and returns the summary; the run must not have taken much memory.
#[track_caller]
fn ingest(lab: &Lab, path: &Path) -> serde_json::Value {
    let summary =
        lab.run(["ingest", path.to_str().unwrap(), "--source", "large", "--json", "--threads", "2"]).json();
    assert_eq!(summary["state"], "complete", "{summary}");
    assert!(summary["peak_memory_bytes"].as_u64().unwrap() < PEAK_BYTES, "{summary}");
    summary
}

#[track_caller]
fn assert_small(server: Pid) {
    let status = fs::read_to_string(format!("/proc/{server}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak_kib * 1024 < PEAK_BYTES, "the mount took {peak_kib} KiB");
}

/// Makes a file that is nearly all holes, with data at both ends and at places that are no multiples of a block.
fn make_sparse(path: &Path) {
    let file = File::create(path).unwrap();
    file.set_len(SPARSE_BYTES).unwrap();
    for number in 0..ISLANDS {
        let island = noise(number, 200_000 + 10_007 * usize::try_from(number).unwrap());
        let offset = (SPARSE_BYTES - island.len() as u64) / (ISLANDS - 1) * number;
        let offset = if number + 1 == ISLANDS { SPARSE_BYTES - island.len() as u64 } else { offset };
        file.write_all_at(&island, offset).unwrap();
    }
}

#[test]
fn a_sparse_file_of_100_gb_costs_what_its_data_costs() {
    if !can(&[Need::Root, Need::Fuse]) {
        return;
    }
    let lab = Lab::new();
    let tree = lab.path("tree");
    fs::create_dir(&tree).unwrap();
    let disk = tree.join("disk.img");
    make_sparse(&disk);
    let portrait = Portrait::of(&tree);
    let data = islands(&File::open(&disk).unwrap());
    assert_eq!(data.len() as u64, ISLANDS);
    let data_bytes: u64 = data.iter().map(|(start, end)| end - start).sum();

    let first = ingest(&lab, &tree);
    assert_eq!(first["bytes"], SPARSE_BYTES);
    assert!(first["added_bytes"].as_u64().unwrap() < data_bytes + 1_000_000, "{first}");
    let again = ingest(&lab, &tree);
    assert!(again["added_bytes"].as_u64().unwrap() < 1_000_000, "{again}");

    let mount = lab.mount(&["--snapshot", "latest"]);
    let mounted = copy_of(&mount.path(""), &tree);
    portrait.assert_same(&Portrait::of(&mounted), Copy::Mounted);
    let mounted_file = File::open(mounted.join("disk.img")).unwrap();
    let mut hole = vec![1; 1 << 20];
    mounted_file.read_exact_at(&mut hole, data[3].1 + 5_000_001).unwrap();
    assert!(hole.iter().all(|byte| *byte == 0));
    let copied = lab.path("copied");
    succeed(Command::new("cp").args(["-a", "--sparse=always"]).args([&mounted, &copied]));
    assert_eq!(Portrait::of(&copied).data_blocks(), portrait.data_blocks());
    assert_small(mount.server());
    drop(mounted_file);
    drop(mount);

    let target = lab.path("restored");
    lab.run(["restore", "latest", "--threads", "2", "--to", target.to_str().unwrap()]).succeeds();
    portrait.assert_same(&Portrait::of(&copy_of(&target, &tree)), Copy::Restored);
    assert!(fs::metadata(copy_of(&target, &disk)).unwrap().blocks() * 512 < data_bytes + 1_000_000);
}

#[test]
fn a_directory_of_30_000_files_comes_back() {
    if !can(&[Need::Root, Need::Fuse, Need::Tool("diff")]) {
        return;
    }
    let lab = Lab::new();
    let tree = lab.path("tree");
    fs::create_dir(&tree).unwrap();
    for number in 0..FILES {
        fs::write(tree.join(format!("file {number:06}")), format!("{}\n", number / 3)).unwrap();
    }
    let first = ingest(&lab, &tree);
    assert!(first["files"].as_u64().unwrap() == FILES as u64, "{first}");
    fs::write(tree.join("file 015000 and one more"), "new").unwrap();
    let again = ingest(&lab, &tree);
    assert!(again["added_bytes"].as_u64().unwrap() < 100_000, "one name changes a few pages: {again}");
    let portrait = Portrait::of(&tree);

    let mount = lab.mount(&["--snapshot", again["id"].as_str().unwrap()]);
    let mounted = copy_of(&mount.path(""), &tree);
    let listed = fs::read_dir(&mounted).unwrap().count();
    assert_eq!(listed, FILES + 1);
    portrait.assert_same(&Portrait::of(&mounted), Copy::Mounted);
    assert_small(mount.server());
    drop(mount);

    let target = lab.path("restored");
    lab.run(["restore", "latest", "--threads", "2", "--to", target.to_str().unwrap()]).succeeds();
    portrait.assert_same(&Portrait::of(&copy_of(&target, &tree)), Copy::Restored);
}
