//! Fidelity: everything awkward comes back as it was, by the judgement of the tools that people trust.

mod awkward;
pub(crate) mod portrait;
mod tools;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{FEW_PAGES_BYTES, Lab, Need, Ran, SystemMount, can, copy_of, succeed};
use awkward::{Amounts, LINKED_OUTSIDE};
use portrait::{Copy, Portrait};

const SMALL: Amounts = Amounts { files_in_one_directory: 300, large_bytes: 2 << 20 };
const LARGE: Amounts = Amounts { files_in_one_directory: 3000, large_bytes: 16 << 20 };

fn can_compare(more: &[Need]) -> bool {
    can(&[&tools::NEEDS, more].concat())
}

/// Makes the awkward tree in a folder. The file system there must take nearly all of it: most have no room for large
/// attributes, and overlayfs keeps some for itself.
fn build(folder: &Path, amounts: Amounts) -> (PathBuf, Portrait) {
    let tree = folder.join("tree");
    let refused = awkward::build(&tree, &folder.join("outside"), amounts).0;
    let may_be = |refusal: &String| ["user.large ", "trusted."].iter().any(|name| refusal.starts_with(name));
    assert!(refused.iter().all(may_be), "{refused:?}");
    let portrait = Portrait::of(&tree);
    assert!(portrait.len() > amounts.files_in_one_directory + 650, "{} names", portrait.len());
    (tree, portrait)
}

fn ingest(lab: &Lab, tree: &Path) {
    let ran = lab.run(["ingest", tree.to_str().unwrap(), "--source", "tree", "--json"]);
    assert_eq!(ran.json()["state"], "complete", "{}", ran.stderr);
}

#[test]
fn everything_awkward_comes_back_by_mount_and_by_copies_from_it() {
    if !can_compare(&[Need::Fuse]) {
        return;
    }
    let lab = Lab::new();
    let (tree, portrait) = build(&lab.path(""), LARGE);
    ingest(&lab, &tree);
    let again = lab.run(["ingest", tree.to_str().unwrap(), "--source", "tree", "--json"]).json();
    assert!(again["added_bytes"].as_u64().unwrap() < FEW_PAGES_BYTES, "{again}");

    let mount = lab.mount(&["--snapshot", "latest"]);
    let mounted = copy_of(&mount.path(""), &tree);
    portrait.assert_same(&Portrait::of(&mounted), Copy::Mounted);
    tools::assert_same(&tree, &mounted, Copy::Mounted);
    tools::assert_same_stream(&tree, &mounted);
    assert_eq!(tools::tar_compare(&tree, &mounted), "");

    let copied = lab.path("copied");
    succeed(Command::new("cp").arg("-a").args([&mounted, &copied]));
    // Not by its holes: `cp` makes some of its own where zeros were written.
    assert_eq!(tools::rsync(&tree, &copied, Copy::Restored), "");
    let synced = lab.path("synced");
    succeed(Command::new("rsync").args(["-aHAXS", "--numeric-ids"]).arg(mounted.join("")).arg(&synced));
    assert_eq!(tools::rsync(&tree, &synced, Copy::Restored), "");
}

#[test]
fn everything_awkward_comes_back_by_restore() {
    if !can_compare(&[]) {
        return;
    }
    let lab = Lab::new();
    let (tree, portrait) = build(&lab.path(""), LARGE);
    ingest(&lab, &tree);
    let target = lab.path("restored");
    lab.run(["restore", "latest", "--to", target.to_str().unwrap()]).succeeds();
    let restored = copy_of(&target, &tree);
    portrait.assert_same(&Portrait::of(&restored), Copy::Restored);
    tools::assert_same(&tree, &restored, Copy::Restored);
    tools::assert_same_stream(&tree, &restored);
    assert_eq!(tools::tar_compare(&tree, &restored), "");
}

#[test]
fn everything_awkward_comes_back_by_export_and_gnu_tar() {
    if !can_compare(&[]) {
        return;
    }
    let lab = Lab::new();
    let (tree, portrait) = build(&lab.path(""), SMALL);
    ingest(&lab, &tree);
    let archive = export(&lab);
    let below_root = tree.strip_prefix("/").unwrap();
    let mut compare = Command::new("tar");
    compare.args(["--acls", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-df"]).arg(&archive);
    // Only below the tree: other tests make folders beside the laboratory.
    assert_eq!(succeed(compare.args(["-C", "/"]).arg(below_root)), "");
    let unpacked =
        unpack(&lab, &["tar", "--acls", "--xattrs", "--xattrs-include=*", "--numeric-owner"], &archive);
    let copy = unpacked.join(below_root);
    portrait.assert_same(&Portrait::of(&copy), Copy::Unpacked);
    tools::assert_same(&tree, &copy, Copy::Unpacked);
    tools::assert_same_stream(&tree, &copy);
}

#[test]
fn everything_awkward_comes_back_by_export_and_bsdtar() {
    if !can_compare(&[]) {
        return;
    }
    let lab = Lab::new();
    let (tree, portrait) = build(&lab.path(""), SMALL);
    ingest(&lab, &tree);
    let archive = export(&lab);
    let copy = unpack(&lab, &["bsdtar", "--numeric-owner"], &archive).join(tree.strip_prefix("/").unwrap());
    mend_what_bsdtar_misreads(&tree, &copy);
    portrait.assert_same(&Portrait::of(&copy), Copy::Unpacked);
    tools::assert_same(&tree, &copy, Copy::Unpacked);
    tools::assert_same_stream(&tree, &copy);
}

/// Mends by hand what bsdtar 3.6 is known to misread, so that all the rest can be compared.
fn mend_what_bsdtar_misreads(tree: &Path, copy: &Path) {
    // It adds the fraction of a time before 1970 instead of subtracting it.
    for time in ["before 1970", "just before 1970"] {
        for kind in ["file", "directory", "symlink", "fifo"] {
            let name = format!("times/{time}, {kind}");
            succeed(
                Command::new("touch").args(["-m", "-h", "-r"]).args([tree.join(&name), copy.join(&name)]),
            );
        }
    }
    // It knows nothing of how GNU tar writes a `=` in the name of an attribute.
    let odd = copy.join("attributes/odd names");
    succeed(Command::new("setfattr").args(["-x", "user.a%3Db"]).arg(&odd));
    succeed(Command::new("setfattr").args(["-n", "user.a=b", "-v", "2"]).arg(&odd));
    // It takes no user of an access list beyond 2^31.
    let list = "access lists/users and groups";
    let script = r#"getfacl -n -p "$1" | setfacl --set-file=- "$2""#;
    succeed(Command::new("sh").args(["-c", script, "sh"]).args([tree.join(list), copy.join(list)]));
}

/// Exports the only snapshot to a file.
fn export(lab: &Lab) -> PathBuf {
    let archive = lab.path("archive.tar");
    let exported = Ran::of(lab.command(["export", "latest"]).stdout(File::create(&archive).unwrap()));
    exported.succeeds();
    assert!(
        exported.stderr.contains("special/socket: an archive cannot hold a socket"),
        "{}",
        exported.stderr
    );
    archive
}

/// Unpacks an archive in a new folder.
fn unpack(lab: &Lab, tool: &[&str], archive: &Path) -> PathBuf {
    let folder = lab.path("unpacked");
    fs::create_dir(&folder).unwrap();
    Ran::of(Command::new(tool[0]).args(&tool[1..]).arg("-xpf").arg(archive).current_dir(&folder)).succeeds();
    folder
}

/// A file system in memory takes attributes of 60 KB where others take one block of them, and any time.
#[test]
fn what_a_file_system_in_memory_takes_comes_back_too() {
    if !can_compare(&[Need::Fuse]) {
        return;
    }
    let lab = Lab::new();
    let memory = SystemMount::new(&["-t", "tmpfs", "-o", "size=64m", "tmpfs"], lab.path("memory"));
    let (tree, portrait) = build(&lab.path("memory"), SMALL);
    ingest(&lab, &tree);
    let mount = lab.mount(&["--snapshot", "latest"]);
    let mounted = copy_of(&mount.path(""), &tree);
    portrait.assert_same(&Portrait::of(&mounted), Copy::Mounted);
    tools::assert_same(&tree, &mounted, Copy::Mounted);
    let target = lab.path("memory/restored");
    lab.run(["restore", "latest", "--to", target.to_str().unwrap()]).succeeds();
    let restored = copy_of(&target, &tree);
    portrait.assert_same(&Portrait::of(&restored), Copy::Restored);
    tools::assert_same(&tree, &restored, Copy::Restored);
    drop(memory);
}

#[test]
fn paths_longer_than_a_system_call_takes_come_back() {
    if !can_compare(&[Need::Fuse]) {
        return;
    }
    let lab = Lab::new();
    let tree = lab.path("tree");
    awkward::build_deep(&tree);
    let portrait = Portrait::of(&tree);
    ingest(&lab, &tree);
    let mount = lab.mount(&["--snapshot", "latest"]);
    let mounted = copy_of(&mount.path(""), &tree);
    portrait.assert_same(&Portrait::of(&mounted), Copy::Mounted);
    tools::assert_same_stream(&tree, &mounted);
    let target = lab.path("restored");
    lab.run(["restore", "latest", "--to", target.to_str().unwrap()]).succeeds();
    let restored = copy_of(&target, &tree);
    portrait.assert_same(&Portrait::of(&restored), Copy::Restored);
    tools::assert_same_stream(&tree, &restored);
}

#[test]
fn du_df_stat_and_getfattr_tell_the_truth_of_a_mount() {
    if !can_compare(&[Need::Fuse]) {
        return;
    }
    let lab = Lab::new();
    let (tree, portrait) = build(&lab.path(""), SMALL);
    ingest(&lab, &tree);
    let mount = lab.mount(&["--snapshot", "latest"]);
    let mounted = copy_of(&mount.path(""), &tree);
    let du = |tree: &Path, arguments: &str| -> u64 {
        let script = format!("find . -type f -print0 | du {arguments} -c --files0-from=- | tail -n 1");
        let told = succeed(Command::new("sh").args(["-c", &script]).current_dir(tree));
        told.split_whitespace().next().unwrap().parse().unwrap()
    };
    assert_eq!(du(&mounted, "--apparent-size -B1"), du(&tree, "--apparent-size -B1"));
    assert_eq!(du(&mounted, "--apparent-size -B1"), portrait.file_bytes());
    assert_eq!(du(&mounted, "-B512"), portrait.data_blocks());
    assert!(du(&mounted, "-B512") <= du(&tree, "-B512"));

    let df = |columns: &str| {
        let told = succeed(Command::new("df").args([columns, "-B1"]).arg(&mounted));
        told.lines().nth(1).unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let [size, used, available] = df("--output=size,used,avail").try_into().unwrap();
    assert_eq!((size, available.as_str()), (used.clone(), "0"));
    assert!(used.parse::<u64>().unwrap() >= portrait.file_bytes(), "{used}");
    let [nodes, free, kind] = df("--output=itotal,iavail,fstype").try_into().unwrap();
    assert!(nodes.parse::<usize>().unwrap() >= portrait.len(), "{nodes}");
    assert_eq!((free.as_str(), kind.as_str()), ("0", "fuse.yester"));

    let linked = mounted.join(LINKED_OUTSIDE);
    assert_eq!(succeed(Command::new("stat").args(["-c", "%h"]).arg(linked)), "2\n");
    let none = succeed(Command::new("getfattr").arg("-d").arg(mounted.join("names/README")));
    assert_eq!(none, "");
    let missing =
        Command::new("getfattr").args(["-n", "user.missing"]).arg(mounted.join("names/README")).output();
    assert!(String::from_utf8_lossy(&missing.unwrap().stderr).contains("No such attribute"));
    assert!(fs::read_dir(mounted.join("an empty directory")).unwrap().next().is_none());
}
