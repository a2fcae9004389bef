//! `restore` as people use it: plans, ordinary users, full disks, damaged files, and what is left out.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{
    Lab, Need, Process, Ran, SystemMount, YESTER, can, copy_of, eventually, flip_largest_pack, noise, succeed,
};
use crate::trees;

/// A user that owns nothing: `nobody`.
const ORDINARY_USER: u32 = 65_534;

/// Makes a small tree and backs it up as the source `tree`.
fn backed_up(lab: &Lab) -> PathBuf {
    let tree = lab.path("tree");
    fs::create_dir_all(tree.join("sub")).unwrap();
    fs::write(tree.join("one"), "one").unwrap();
    fs::write(tree.join("sub/two"), noise(2, 300_000)).unwrap();
    fs::write(tree.join("sub/three.log"), "three").unwrap();
    lab.run(["ingest", tree.to_str().unwrap(), "--source", "tree"]).succeeds();
    tree
}

fn restore(lab: &Lab, target: &Path, arguments: &[&str]) -> Ran {
    let mut command = lab.command(["restore", "latest:tree", "--to"]);
    Ran::of(command.arg(target).args(arguments))
}

/// Returns the JSON document of a run that ended with `code`.
#[track_caller]
fn document(ran: &Ran, code: i32) -> Value {
    if code == 0 {
        ran.succeeds();
    } else {
        ran.fails(code);
    }
    serde_json::from_slice(&ran.stdout).unwrap()
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let lab = Lab::new();
    let tree = backed_up(&lab);
    let target = lab.path("target");
    let planned = restore(&lab, &target, &["--dry-run"]);
    assert_eq!(planned.succeeds(), "");
    assert!(planned.stderr.contains("would restore 3 files"), "{}", planned.stderr);
    assert!(!target.exists());

    restore(&lab, &target, &[]).succeeds();
    let copy = copy_of(&target, &tree);
    fs::write(copy.join("one"), "mine").unwrap();
    fs::remove_file(copy.join("sub/two")).unwrap();
    let listed = restore(&lab, &target, &["-n", "-v", "--overwrite", "if-changed"]).succeeds();
    for (action, name) in [("replace", "one"), ("make", "sub/two"), ("unchanged", "sub/three.log")] {
        let line = format!("{action:<9} {}", tree.join(name).display());
        assert!(listed.lines().any(|found| found == line), "{line}\n{listed}");
    }
    let planned = document(&restore(&lab, &target, &["--dry-run", "-v", "--json"]), 0);
    assert_eq!([&planned["kept"], &planned["files"], &planned["unchanged"]], [1, 1, 1], "{planned}");
    assert_eq!(planned["dry_run"], true);
    let of = |name: &str| {
        let path = tree.join(name).strip_prefix("/").unwrap().to_str().unwrap().to_owned();
        let entries = planned["entries"].as_array().unwrap();
        entries.iter().find(|entry| entry["path"] == path.as_str()).unwrap()["action"].clone()
    };
    assert_eq!([of("one"), of("sub/two"), of("sub/three.log")], ["keep", "make", "unchanged"]);
    let plain = document(&restore(&lab, &target, &["--dry-run", "--json"]), 0);
    assert_eq!([&plain["bytes"], &plain["entries"]], [&Value::from(300_000), &Value::Null]);
    assert_eq!(fs::read(copy.join("one")).unwrap(), b"mine");
    assert!(!copy.join("sub/two").exists());
}

#[test]
fn what_is_kept_is_named_and_the_exit_code_says_so() {
    let lab = Lab::new();
    let tree = backed_up(&lab);
    let target = lab.path("target");
    restore(&lab, &target, &[]).succeeds();
    // What is the same is nothing to worry about.
    restore(&lab, &target, &[]).succeeds();
    let one = copy_of(&target, &tree).join("one");
    fs::write(&one, "mine").unwrap();
    let ran = restore(&lab, &target, &["--json"]);
    assert_eq!(document(&ran, 3)["kept"], 1);
    assert!(ran.stderr.contains(&format!("kept: {}/one", tree.display())), "{}", ran.stderr);
    assert!(ran.stderr.contains("--overwrite if-changed"), "{}", ran.stderr);
    assert_eq!(fs::read(&one).unwrap(), b"mine");
    let ran = restore(&lab, &target, &["--json", "--overwrite", "if-changed"]);
    assert_eq!(document(&ran, 0)["replaced"], 1);
    assert_eq!(fs::read(&one).unwrap(), b"one");
}

#[test]
fn parts_are_chosen_by_paths_patterns_and_depth() {
    let lab = Lab::new();
    let tree = backed_up(&lab);
    let target = lab.path("target");
    let depth = tree.components().count().to_string();
    let sub = tree.join("sub");
    let arguments = [sub.to_str().unwrap(), "--strip-components", &depth, "--exclude", "*.log", "--verify"];
    let ran = restore(&lab, &target, &[&arguments[..], &["--json"]].concat());
    let stats = document(&ran, 0);
    assert_eq!([&stats["files"], &stats["left_out"], &stats["verified_files"]], [1, 1, 1], "{stats}");
    assert!(stats["peak_memory_bytes"].as_u64().unwrap() > 1 << 20);
    assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
    assert!(fs::read(target.join("two")).unwrap() == noise(2, 300_000));

    let refused = restore(&lab, &target, &["--exclude", "[a"]);
    assert!(refused.fails(2).contains("[a is not a pattern"), "{}", refused.stderr);
    let refused = restore(&lab, &lab.path("never"), &["--strip-components", "50"]);
    assert!(refused.fails(2).contains("nothing is left to restore"), "{}", refused.stderr);
    assert!(!lab.path("never").exists());
}

#[test]
fn what_can_be_read_of_a_damaged_file_is_restored() {
    let lab = Lab::new();
    let tree = lab.path("tree");
    fs::create_dir(&tree).unwrap();
    let content = noise(5, 6_000_000);
    let ingest = || lab.run(["ingest", tree.to_str().unwrap(), "--source", "tree"]).succeeds();
    // Backed up before, so that it shares no frame with what will be damaged.
    fs::write(tree.join("good"), "good").unwrap();
    ingest();
    fs::write(tree.join("bad"), &content).unwrap();
    ingest();
    flip_largest_pack(&lab.store());
    lab.cool();

    let target = lab.path("target");
    let ran = restore(&lab, &target, &["--json"]);
    let stats = document(&ran, 13);
    assert!(ran.stderr.contains("missing: ") && ran.stderr.contains("NAME.partial.gaps"), "{}", ran.stderr);
    let copy = copy_of(&target, &tree);
    assert_eq!(fs::read(copy.join("good")).unwrap(), b"good");
    assert!(!copy.join("bad").exists());
    let partial = &stats["failures"][0]["partial"];
    let gaps: Vec<(usize, usize)> = partial["gaps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|gap| (number(&gap["offset"]), number(&gap["length"])))
        .collect();
    let mut expected = content;
    gaps.iter().for_each(|(offset, length)| expected[*offset..offset + length].fill(0));
    assert!(fs::read(copy.join("bad.partial")).unwrap() == expected);
    assert_eq!(number(&partial["missing_bytes"]), gaps.iter().map(|(_, length)| length).sum::<usize>());
    let list = fs::read_to_string(copy.join("bad.partial.gaps")).unwrap();
    let lines: Vec<_> = list.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines.len(), gaps.len());
    for (line, (offset, length)) in lines.iter().zip(&gaps) {
        assert!(line.starts_with(&format!("{offset} {length} ")), "{line}");
    }
    // A second run keeps what the first one left.
    restore(&lab, &target, &["--overwrite", "if-changed"]).fails(13);
    assert!(copy.join("bad.partial").exists() && copy.join("bad.partial.1").exists());
}

fn number(value: &Value) -> usize {
    value.as_u64().unwrap().try_into().unwrap()
}

#[test]
fn an_ordinary_user_restores_what_it_may() {
    if !can(&[Need::Root, Need::Tool("setfacl"), Need::Tool("setfattr")]) {
        return;
    }
    let lab = Lab::new();
    let tree = lab.path("tree");
    trees::odd(&tree);
    fs::create_dir(tree.join("closed")).unwrap();
    fs::write(tree.join("closed/file"), "closed").unwrap();
    succeed(Command::new("setfattr").args(["-n", "trusted.note", "-v", "x"]).arg(tree.join("closed/file")));
    // Its other name comes later, when nobody may list the directory of the first any more.
    fs::create_dir(tree.join("blind")).unwrap();
    fs::write(tree.join("blind/first"), "linked").unwrap();
    fs::hard_link(tree.join("blind/first"), tree.join("second")).unwrap();
    for (name, mode) in [("closed", 0), ("names", 0o500), ("blind", 0o300)] {
        fs::set_permissions(tree.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    lab.run(["ingest", tree.to_str().unwrap(), "--source", "tree"]).succeeds();

    let home = ordinary_home(&lab);
    let target = home.join("target");
    let run = |arguments: &[&str]| {
        let mut command = lab.command(["restore", "latest:tree", "--json", "--to"]);
        command.arg(&target).args(arguments).env("CACHE_DIRECTORY", home.join("cache"));
        command.env("STATE_DIRECTORY", home.join("state"));
        command.uid(ORDINARY_USER).gid(ORDINARY_USER);
        Ran::of(&mut command)
    };
    // Whatever there was: nothing but the two device files is missing.
    for (round, overwrite) in ["never", "never", "if-changed", "always"].into_iter().enumerate() {
        let ran = run(&["--overwrite", overwrite]);
        let stats = document(&ran, 3);
        assert_eq!(
            [&stats["failed"], &stats["kept"], &stats["damaged"]],
            [2, 0, 0],
            "{overwrite}: {}",
            ran.stderr
        );
        let failures = stats["failures"].as_array().unwrap();
        assert!(failures.iter().all(|failure| failure["path"].as_str().unwrap().ends_with(" device")));
        assert!(failures.iter().all(|failure| failure["reason"].as_str().unwrap().contains("device file")));
        if round == 0 || overwrite == "always" {
            assert_eq!([&stats["privileged_xattrs"], &stats["set_ids"]], [1, 3], "{overwrite}: {stats}");
        }
        let copy = copy_of(&target, &tree);
        assert_eq!(fs::metadata(copy.join("closed")).unwrap().mode() & 0o7777, 0);
        assert_eq!(fs::metadata(copy.join("names")).unwrap().mode() & 0o7777, 0o500);
        assert_eq!(fs::metadata(copy.join("blind")).unwrap().mode() & 0o7777, 0o300);
        assert_eq!(fs::metadata(copy.join("second")).unwrap().nlink(), 2);
        assert_eq!(fs::metadata(copy.join("modes/7777")).unwrap().mode() & 0o7777, 0o1777);
        assert_eq!(fs::metadata(copy.join("closed/file")).unwrap().uid(), ORDINARY_USER);
        assert_eq!(fs::metadata(copy.join("links/file")).unwrap().nlink(), 3);
        let diff = Command::new("diff")
            .args(["-r", "--no-dereference", "-x", "special"])
            .args([&tree, &copy])
            .output()
            .unwrap();
        assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stdout));
    }
    let asked = document(&run(&["--overwrite", "always", "--ownership", "by-number"]), 3);
    assert!(asked["failed"].as_u64().unwrap() > 2, "owners that were asked for cannot be given: {asked}");
}

/// Makes a folder of the ordinary user in the laboratory, and lets it read the store.
fn ordinary_home(lab: &Lab) -> PathBuf {
    fs::set_permissions(lab.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    succeed(
        Command::new("chown").arg("-R").arg(ORDINARY_USER.to_string()).arg(lab.store()).arg(lab.path("key")),
    );
    let home = lab.path("home");
    fs::create_dir(&home).unwrap();
    chown(&home, Some(ORDINARY_USER), Some(ORDINARY_USER)).unwrap();
    home
}

#[test]
fn a_full_target_says_so_and_is_completed_later() {
    if !can(&[Need::Root]) {
        return;
    }
    let lab = Lab::new();
    let tree = lab.path("tree");
    fs::create_dir(&tree).unwrap();
    for number in 0..12 {
        fs::write(tree.join(format!("{number:02}")), noise(number, 1_000_000)).unwrap();
    }
    lab.run(["ingest", tree.to_str().unwrap(), "--source", "tree"]).succeeds();
    let disk = SystemMount::new(&["-t", "tmpfs", "-o", "size=5m", "tmpfs"], lab.path("disk"));
    let target = lab.path("disk/target");
    let full = restore(&lab, &target, &["--threads", "1"]);
    let error = full.fails(3);
    assert!(error.contains("no space is left") && error.contains("--overwrite if-changed"), "{error}");
    let mut whole = 0;
    for entry in fs::read_dir(copy_of(&target, &tree)).unwrap() {
        let entry = entry.unwrap();
        assert!(fs::read(entry.path()).unwrap() == fs::read(tree.join(entry.file_name())).unwrap());
        whole += 1;
    }
    assert!((1..12).contains(&whole), "{whole} files");
    succeed(Command::new("mount").args(["-o", "remount,size=50m"]).arg(lab.path("disk")));
    let stats = document(&restore(&lab, &target, &["--json", "--overwrite", "if-changed", "--verify"]), 0);
    assert_eq!([&stats["unchanged"], &stats["files"]], [whole, 12 - whole], "{stats}");
    succeed(Command::new("diff").arg("-r").args([&tree, &copy_of(&target, &tree)]));
    drop(disk);
}

#[test]
fn an_interrupted_restore_leaves_things_in_order() {
    let lab = Lab::new();
    let tree = lab.path("tree");
    fs::create_dir_all(tree.join("sub")).unwrap();
    for number in 0..30 {
        fs::write(tree.join(format!("sub/{number:02}")), noise(number, 3_000_000)).unwrap();
    }
    fs::set_permissions(&tree, fs::Permissions::from_mode(0o751)).unwrap();
    lab.run(["ingest", tree.to_str().unwrap(), "--source", "tree"]).succeeds();
    let target = lab.path("target");
    let (copy, asked) = (copy_of(&target, &tree), tree.join("sub"));
    let mut command = lab.command(["restore", "latest:tree", "--threads", "1", "--to"]);
    let running = Process::start(command.arg(&target).arg(&asked));
    eventually("it has begun", || copy.join("sub/00").exists());
    running.signal(Signal::TERM);
    let ended = running.end();
    let error = ended.fails(1);
    assert!(error.contains("interrupted") && error.contains("--overwrite if-changed"), "{error}");
    assert_eq!(fs::metadata(&copy).unwrap().mode() & 0o7777, 0o751);
    let names: Vec<_> =
        fs::read_dir(copy.join("sub")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.len() < 30 && names.iter().all(|name| tree.join("sub").join(name).exists()), "{names:?}");
    let asked = asked.to_str().unwrap();
    restore(&lab, &target, &[asked, "--overwrite", "if-changed"]).succeeds();
    succeed(Command::new("diff").arg("-r").args([&tree, &copy]));
}

#[test]
fn rights_that_the_target_lends_are_not_kept() {
    if !can(&[Need::Tool("setfacl"), Need::Tool("getfacl")]) {
        return;
    }
    let lab = Lab::new();
    let tree = backed_up(&lab);
    let target = lab.path("target");
    fs::create_dir(&target).unwrap();
    succeed(Command::new("setfacl").args(["-d", "-m", "u:1234:rwx"]).arg(&target));
    restore(&lab, &target, &[]).succeeds();
    let rights = |root: &Path| {
        let mut getfacl = Command::new("getfacl");
        succeed(getfacl.args(["-R", "-p", "-n", "--omit-header", "."]).current_dir(root))
    };
    assert_eq!(rights(&copy_of(&target, &tree)), rights(&tree));
}

#[test]
fn a_link_across_file_systems_becomes_a_file_of_its_own() {
    if !can(&[Need::Root]) {
        return;
    }
    let lab = Lab::new();
    let tree = lab.path("tree");
    for name in ["a", "b"] {
        fs::create_dir_all(tree.join(name)).unwrap();
    }
    fs::write(tree.join("a/first"), "one file").unwrap();
    for name in ["a/second", "b/third"] {
        fs::hard_link(tree.join("a/first"), tree.join(name)).unwrap();
    }
    lab.run(["ingest", tree.to_str().unwrap(), "--source", "tree"]).succeeds();
    let target = lab.path("target");
    let copy = copy_of(&target, &tree);
    let disk = SystemMount::new(&["-t", "tmpfs", "tmpfs"], copy.join("b"));
    for expected in [[3, 0], [0, 3]] {
        let stats = document(&restore(&lab, &target, &["--json", "--threads", "1"]), 0);
        assert_eq!([&stats["files"], &stats["unchanged"]], expected, "{stats}");
        let links = |name: &str| fs::metadata(copy.join(name)).unwrap().nlink();
        assert_eq!([links("a/first"), links("a/second"), links("b/third")], [2, 2, 1]);
        assert_eq!(fs::read(copy.join("b/third")).unwrap(), b"one file");
    }
    drop(disk);
}

#[test]
fn a_low_limit_of_open_files_is_raised() {
    let lab = Lab::new();
    let tree = lab.path("tree");
    let bottom = (0..150).fold(tree.clone(), |path, level| path.join(format!("{level}")));
    fs::create_dir_all(&bottom).unwrap();
    fs::write(bottom.join("file"), "deep").unwrap();
    lab.run(["ingest", tree.to_str().unwrap(), "--source", "tree"]).succeeds();
    let target = lab.path("target");
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -Sn 60 && exec \"$0\" \"$@\"", YESTER, "restore", "latest:tree", "--to"]);
    let environment = lab.command(["restore"]);
    limited.envs(environment.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Ran::of(limited.arg(&target)).succeeds();
    assert_eq!(fs::read(copy_of(&target, &bottom).join("file")).unwrap(), b"deep");
}
