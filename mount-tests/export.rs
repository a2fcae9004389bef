//! Exports: what GNU tar and bsdtar restore from an archive is what was backed up.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::{Lab, Need, Ran, assert_same_trees, can, copy_of, flip_largest_pack, noise, succeed};
use crate::trees;

const NEEDS: [Need; 8] = [
    Need::Root,
    Need::Tool("tar"),
    Need::Tool("bsdtar"),
    Need::Tool("rsync"),
    Need::Tool("setfattr"),
    Need::Tool("getfattr"),
    Need::Tool("setfacl"),
    Need::Tool("setcap"),
];

/// Every option with which GNU tar restores everything.
const GNU_TAR: [&str; 5] = ["tar", "--acls", "--xattrs", "--xattrs-include=*", "-xpf"];

/// Backs up `path` as `tree`, and exports it to a file in the laboratory.
fn export(lab: &Lab, path: &Path) -> (PathBuf, Ran) {
    lab.run([Path::new("ingest"), path, Path::new("--source"), Path::new("tree")]).succeeds();
    let archive = lab.path("archive.tar");
    let mut command = lab.command(["export", "latest:tree"]);
    let ran = Ran::of(command.stdout(File::create(&archive).unwrap()));
    ran.succeeds();
    (archive, ran)
}

/// Extracts an archive with a tool; returns the new folder.
fn extract(lab: &Lab, archive: &Path, tool: &[&str]) -> PathBuf {
    let folder = lab.path(tool[0]);
    fs::create_dir(&folder).unwrap();
    let ran = Ran::of(Command::new(tool[0]).args(&tool[1..]).arg(archive).current_dir(&folder));
    ran.succeeds();
    folder
}

/// What the trees of all tests lack and archives have to carry.
fn more(directory: &Path) {
    fs::create_dir_all(directory.join("only a default ACL")).unwrap();
    let raw = [&[0xe9; 180][..], b".txt"].concat();
    fs::write(directory.join(OsStr::from_bytes(&raw)), "a long name that is not UTF-8").unwrap();
    std::os::unix::fs::symlink(OsStr::from_bytes(&raw), directory.join("to it")).unwrap();
    fs::hard_link(directory.join("to it"), directory.join("to it, too")).unwrap();
    fs::write(directory.join("ü".repeat(100)), "a long name that is UTF-8").unwrap();
    fs::write(directory.join("capable"), "x").unwrap();
    succeed(Command::new("setcap").arg("cap_net_raw+ep").arg(directory.join("capable")));
    fs::write(directory.join("of nobody here"), "x").unwrap();
    std::os::unix::fs::chown(directory.join("of nobody here"), Some(4_000_000_000), Some(3_999_999_999))
        .unwrap();
    let tagged = directory.join("tagged");
    fs::write(&tagged, "x").unwrap();
    for (name, value) in [("user.lines", "0x0a32203d0a00"), ("user.50%", "0x31"), ("trusted.y", "0x32")] {
        succeed(Command::new("setfattr").args(["-n", name, "-v", value]).arg(&tagged));
    }
    succeed(Command::new("setfattr").args(["-n", "user.empty"]).arg(&tagged));
    succeed(Command::new("setfacl").args(["-d", "-m", "g:4321:x"]).arg(directory.join("only a default ACL")));
}

/// Sockets are not in archives: copies the one of the tree, so that the rest can be compared.
fn copy_socket(tree: &Path, copy: &Path) {
    let (from, to) = (tree.join("special"), copy.join("special"));
    assert!(!to.join("socket").exists());
    succeed(Command::new("cp").arg("-a").args([from.join("socket"), to.join("socket")]));
    succeed(Command::new("touch").arg("-r").args([from, to]));
}

#[test]
fn tar_and_bsdtar_restore_what_was_backed_up() {
    if !can(&NEEDS) {
        return;
    }
    let lab = Lab::new();
    let tree = lab.path("tree");
    trees::ordinary(&tree, 200);
    trees::odd(&tree);
    more(&tree.join("more"));
    let (archive, ran) = export(&lab, &tree);
    let socket = tree.join("special/socket");
    let note = format!("left out: {}: an archive cannot hold a socket\n", socket.display());
    assert!(ran.stderr.contains(&note), "{}", ran.stderr);
    assert!(fs::metadata(&archive).unwrap().len() < 8 << 20, "holes take no space");

    let copy = copy_of(&extract(&lab, &archive, &GNU_TAR), &tree);
    copy_socket(&tree, &copy);
    assert_same_trees(&tree, &copy);
    assert_same_holes(&tree, &copy);

    let copy = copy_of(&extract(&lab, &archive, &["bsdtar", "-xpf"]), &tree);
    copy_socket(&tree, &copy);
    // bsdtar 3.6 adds the fraction of a time before 1970 instead of subtracting it.
    let before = "times/before 1970";
    assert_eq!(fs::metadata(copy.join(before)).unwrap().mtime(), -86_399);
    succeed(Command::new("touch").arg("-r").args([tree.join(before), copy.join(before)]));
    assert_same_trees(&tree, &copy);
    assert_same_holes(&tree, &copy);
}

#[track_caller]
fn assert_same_holes(tree: &Path, copy: &Path) {
    for name in ["contents/sparse", "contents/only a hole"] {
        let blocks = |root: &Path| fs::metadata(root.join(name)).unwrap().blocks();
        assert!(blocks(copy) <= blocks(tree) + 8, "{name}: {} blocks", blocks(copy));
    }
}

#[test]
fn tar_finds_no_difference_to_what_was_backed_up() {
    if !can(&NEEDS) {
        return;
    }
    let lab = Lab::new();
    let tree = lab.path("tree");
    trees::ordinary(&tree, 20);
    trees::odd(&tree);
    more(&tree.join("more"));
    fs::write(tree.join("more/equal"), "x").unwrap();
    succeed(Command::new("setfattr").args(["-n", "user.a=b", "-v", "c"]).arg(tree.join("more/equal")));
    let (archive, _) = export(&lab, &tree);
    // Only below the tree: other tests make folders beside the laboratory.
    let mut compare = Command::new("tar");
    compare.args(["--acls", "--xattrs", "--xattrs-include=*", "-df"]).arg(&archive).args(["-C", "/"]);
    let said = succeed(compare.arg(tree.strip_prefix("/").unwrap()));
    assert_eq!(said, "");
    let copy = copy_of(&extract(&lab, &archive, &GNU_TAR), &tree);
    let get = Command::new("getfattr")
        .args(["--only-values", "-n", "user.a=b"])
        .arg(copy.join("more/equal"))
        .output();
    assert_eq!(get.unwrap().stdout, b"c");
}

#[test]
fn a_hundred_gigabytes_of_holes_are_exported_at_once() {
    if !can(&NEEDS) {
        return;
    }
    let lab = Lab::new();
    let tree = lab.path("tree");
    fs::create_dir(&tree).unwrap();
    let huge = File::create(tree.join("huge")).unwrap();
    huge.set_len(100 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&huge, b"in the middle", 50 << 30).unwrap();
    let (archive, _) = export(&lab, &tree);
    assert!(fs::metadata(&archive).unwrap().len() < 100_000);
    for tool in [&GNU_TAR[..], &["bsdtar", "-xpf"]] {
        let copy = copy_of(&extract(&lab, &archive, tool), &tree).join("huge");
        let found = fs::metadata(&copy).unwrap();
        assert_eq!((found.len(), found.blocks() < 64), (100 << 30, true), "{tool:?}");
        let mut middle = [0; 13];
        std::os::unix::fs::FileExt::read_exact_at(&File::open(copy).unwrap(), &mut middle, 50 << 30).unwrap();
        assert_eq!(&middle, b"in the middle");
    }
}

#[test]
fn paths_and_patterns_choose_what_is_exported() {
    let lab = Lab::new();
    let tree = lab.path("tree");
    trees::ordinary(&tree, 300);
    lab.run([Path::new("ingest"), &tree, Path::new("--source"), Path::new("tree")]).succeeds();
    let list = |arguments: &[&OsStr]| {
        let mut command = lab.command(["export", "latest"]);
        let ran = Ran::of(command.args(arguments));
        ran.succeeds();
        let mut tar =
            Command::new("tar").arg("-t").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        tar.stdin.take().unwrap().write_all(&ran.stdout).unwrap();
        let listed = String::from_utf8(tar.wait_with_output().unwrap().stdout).unwrap();
        let above = format!("{}/", tree.strip_prefix("/").unwrap().display());
        listed.lines().filter_map(|line| line.strip_prefix(&above)).map(str::to_owned).collect::<Vec<_>>()
    };
    let one = tree.join("d001/f00142.txt");
    assert_eq!(list(&[one.as_os_str()]), ["", "d001/", "d001/f00142.txt"]);
    let without =
        list(&["--exclude", "d00[02]", "--exclude", "*.bin", "--exclude", "f0011?.txt"].map(OsStr::new));
    assert_eq!(without.len(), 2 + 90);
    let error = lab.run(["export", "latest", "/no/such"]);
    assert!(error.fails(1).contains("the snapshot holds no /no/such"), "{}", error.stderr);
    assert!(error.stdout.is_empty());
    let error = lab.run(["export", "latest", "--exclude", "[a"]);
    assert!(error.fails(2).contains("--exclude: [a is not a pattern"), "{}", error.stderr);
}

#[test]
fn a_damaged_file_is_zeros_where_it_is_damaged_and_says_so() {
    let lab = Lab::new();
    let tree = lab.path("tree");
    fs::create_dir(&tree).unwrap();
    // One by one, so that no two share a frame.
    for number in 0..4 {
        fs::write(tree.join(number.to_string()), noise(number + 90, 400_000)).unwrap();
        lab.run([Path::new("ingest"), &tree, Path::new("--source"), Path::new("tree")]).succeeds();
    }
    flip_largest_pack(&lab.store());
    let ran = lab.run(["export", "latest"]);
    let said = ran.fails(13).to_owned();
    assert!(said.contains("of its 400000 bytes are zeros in the archive ("), "{said}");
    assert!(said.contains("in the archive are not as they were backed up"), "{said}");
    let mut damaged = 0;
    let mut archive =
        Command::new("tar").args(["-x", "-C"]).arg(lab.path("")).stdin(Stdio::piped()).spawn().unwrap();
    archive.stdin.take().unwrap().write_all(&ran.stdout).unwrap();
    assert!(archive.wait().unwrap().success());
    for number in 0..4 {
        let found = fs::read(copy_of(&lab.path(""), &tree).join(number.to_string())).unwrap();
        let expected = noise(number + 90, 400_000);
        assert_eq!(found.len(), expected.len());
        let named = said.contains(&format!("damaged: {}/{number}: ", tree.display()));
        assert_eq!(named, found != expected, "file {number}");
        damaged += u64::from(named);
        assert!(found.iter().zip(&expected).all(|(found, expected)| *found == 0 || found == expected));
    }
    assert_eq!(damaged, 1);
}

#[test]
fn an_archive_whose_reader_goes_away_is_no_success() {
    let lab = Lab::new();
    let tree = lab.path("tree");
    trees::ordinary(&tree, 10);
    lab.run([Path::new("ingest"), &tree, Path::new("--source"), Path::new("tree")]).succeeds();
    let mut child =
        lab.command(["export", "latest"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ran = Ran::from_output("export into nothing".to_owned(), child.wait_with_output().unwrap());
    assert!(ran.fails(1).contains("what was written is not a whole archive"), "{}", ran.stderr);
}

#[test]
fn a_terminal_gets_no_archive() {
    if !can(&[Need::Tool("script")]) {
        return;
    }
    let lab = Lab::new();
    let line = format!("{} export latest", crate::harness::YESTER);
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null());
    for (name, value) in lab.command([""; 0]).get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    let ran = Ran::of(&mut command);
    ran.fails(2);
    assert!(String::from_utf8_lossy(&ran.stdout).contains("standard output is a terminal"));
}
