//! What an ingest takes and what it leaves out: patterns, markers, mounts, lists of paths, rights, and plans.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::mount::MountFlags;
use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::harness::{Lab, Need, Process, Ran, SystemMount, can, eventually, succeed};

const CACHE_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n# made by a test\n";

/// Makes files, and the directories that they need.
fn write(root: &Path, files: &[&str]) {
    for file in files {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }
}

/// Ingests `tree` as the source `s`; returns the document.
fn ingest(lab: &Lab, tree: &Path, options: &[&str]) -> Value {
    let mut command = lab.command(["ingest", "--json", "--source", "s"]);
    Ran::of(command.arg(tree).args(options)).json()
}

/// Returns what the latest snapshot holds below `tree`, in order, relative to it; a directory ends in `/`.
fn held(lab: &Lab, tree: &Path) -> Vec<String> {
    let mut command = lab.command(["ls", "-R", "latest"]);
    let listed = Ran::of(command.arg(tree)).succeeds();
    let above = tree.to_str().unwrap().trim_end_matches('/');
    let below = listed.lines().filter_map(|line| line.strip_prefix(above)?.strip_prefix('/'));
    let mut names: Vec<String> = below.filter(|name| !name.is_empty()).map(str::to_owned).collect();
    names.sort();
    names
}

#[test]
fn what_is_excluded_is_left_out_and_counted() {
    let lab = Lab::new();
    let tree = lab.path("tree");
    write(&tree, &["keep", "a.tmp", "b.tmp", "sub/c.tmp", "sub/keep", "build/out", "src/build", "logs/x"]);
    write(&tree, &["cache/CACHEDIR.TAG", "cache/blob", "cache/deep/blob", "fake/CACHEDIR.TAG", "fake/blob"]);
    write(&tree, &["skip/.nobackup", "skip/blob", "skip/deep/blob"]);
    fs::write(tree.join("cache/CACHEDIR.TAG"), CACHE_TAG).unwrap();
    fs::write(tree.join("large"), vec![0; 5000]).unwrap();
    fs::write(tree.join("exact"), vec![0; 4096]).unwrap();
    let list = lab.path("list");
    fs::write(&list, format!("# temporary files\n*.tmp\n\nbuild/\n{}/logs\n", tree.display())).unwrap();
    let options = [
        "--exclude-from",
        list.to_str().unwrap(),
        // After the file, so that it takes one of them back in.
        "--exclude",
        "!b.tmp",
        "--exclude-caches",
        "--exclude-if-present",
        ".nobackup",
        "--exclude-larger-than",
        "4K",
    ];
    let document = ingest(&lab, &tree, &options);
    assert_eq!(
        held(&lab, &tree),
        [
            "b.tmp",
            "cache/",
            "cache/CACHEDIR.TAG",
            "exact",
            "fake/",
            "fake/CACHEDIR.TAG",
            "fake/blob",
            "keep",
            "skip/",
            "skip/.nobackup",
            "src/",
            "src/build",
            "sub/",
            "sub/keep",
        ]
    );
    let excluded = &document["excluded"];
    assert_eq!(
        (&excluded["patterns"], &excluded["marked"], &excluded["larger"]),
        (&4.into(), &2.into(), &1.into())
    );
    assert_eq!(document["state"], "complete");
    let mut command = lab.command(["ingest", "-v", "--source", "s"]);
    let told = Ran::of(command.arg(&tree).args(options));
    told.succeeds();
    assert!(told.stderr.contains("left out: 4 by pattern, 2 by marker, 1 by size"), "{}", told.stderr);
    for path in ["a.tmp", "cache", "skip", "large", "logs"] {
        let shown = tree.join(path);
        assert!(told.stderr.contains(&format!("left out {}: ", shown.display())), "{path}: {}", told.stderr);
    }
    // The other way round the file has the last word.
    ingest(&lab, &tree, &["--exclude", "!b.tmp", "--exclude-from", list.to_str().unwrap()]);
    assert!(!held(&lab, &tree).contains(&"b.tmp".to_owned()));
}

#[test]
fn what_is_given_is_taken_whatever_the_patterns_say() {
    let lab = Lab::new();
    let tree = lab.path("tree");
    write(
        &tree,
        &["out/deep/given/file", "out/deep/other", "out/x", "in/x", "cache/CACHEDIR.TAG", "cache/blob"],
    );
    fs::write(tree.join("cache/CACHEDIR.TAG"), CACHE_TAG).unwrap();
    let given = [tree.clone(), tree.join("out/deep/given"), tree.join("cache/blob")];
    let mut command = lab.command(["ingest", "--source", "s", "--exclude-caches", "--exclude", "out"]);
    // The directory above all of it matches as well, and is given.
    Ran::of(command.args(["--exclude", "tree"]).args(&given)).succeeds();
    let expected = [
        "cache/",
        "cache/CACHEDIR.TAG",
        "cache/blob",
        "in/",
        "in/x",
        "out/",
        "out/deep/",
        "out/deep/given/",
        "out/deep/given/file",
    ];
    assert_eq!(held(&lab, &tree), expected);
    // A cache that was given itself is a backup that somebody wants.
    ingest(&lab, &tree.join("cache"), &["--exclude-caches"]);
    assert_eq!(held(&lab, &tree.join("cache")), ["CACHEDIR.TAG", "blob"]);
}

#[test]
fn other_file_systems_stay_outside() {
    if !can(&[Need::Root]) {
        return;
    }
    let lab = Lab::new();
    let tree = lab.path("tree");
    write(&tree, &["file", "below/hidden"]);
    let mounted = SystemMount::new(&["-t", "tmpfs", "-o", "mode=751", "tmpfs"], tree.join("below"));
    let bound = SystemMount::new(&["--bind", tree.join("below").to_str().unwrap()], tree.join("bound"));
    write(&tree, &["below/inside", "below/sub/inside"]);
    ingest(&lab, &tree, &[]);
    let whole = ["below/", "below/inside", "below/sub/", "below/sub/inside", "bound/", "bound/inside"];
    assert_eq!(held(&lab, &tree)[..6], whole);

    let document = ingest(&lab, &tree, &["--one-file-system"]);
    assert_eq!(held(&lab, &tree), ["below/", "bound/", "file"]);
    assert_eq!(document["excluded"]["file_systems"], 2);
    let mode = lab.run(["ls", "-l", "latest", tree.to_str().unwrap()]).succeeds();
    assert!(mode.lines().any(|line| line.starts_with("drwxr-x--x") && line.contains("below")), "{mode}");

    let mut both = lab.command(["ingest", "-x", "--source", "s"]);
    Ran::of(both.args([&tree, &tree.join("below/sub")])).succeeds();
    assert_eq!(held(&lab, &tree), ["below/", "below/sub/", "below/sub/inside", "bound/", "file"]);
    ingest(&lab, &tree.join("below"), &["-x"]);
    assert_eq!(held(&lab, &tree.join("below")), ["inside", "sub/", "sub/inside"]);
    drop((bound, mounted));
}

#[test]
fn file_systems_of_the_kernel_are_left_out_unless_given() {
    if !can(&[Need::Root]) {
        return;
    }
    let lab = Lab::new();
    let tree = lab.path("tree");
    write(&tree, &["file"]);
    let mounted = SystemMount::new(&["-t", "proc", "proc"], tree.join("kernel"));
    let document = ingest(&lab, &tree, &[]);
    assert_eq!(held(&lab, &tree), ["file", "kernel/"]);
    assert_eq!(document["excluded"]["system"], 1);
    let given = tree.join("kernel/sys/kernel/ostype");
    let mut both = lab.command(["ingest", "--source", "s"]);
    Ran::of(both.args([&tree, &given])).succeeds();
    assert_eq!(lab.run(["cat", "latest", given.to_str().unwrap()]).succeeds(), "Linux\n");
    assert_eq!(held(&lab, &tree).len(), 5, "the way there, and nothing else of it");
    drop(mounted);
}

/// The automounter of this test never answers, so that whoever wakes it waits for ever.
#[test]
fn nothing_is_mounted_for_a_backup() {
    if !can(&[Need::Root]) {
        return;
    }
    let lab = Lab::new();
    let tree = lab.path("tree");
    let trap = tree.join("trap");
    write(&tree, &["file", "trap/x"]);
    let (requests, answers) = rustix::pipe::pipe().unwrap();
    let group = rustix::process::getpgrp().as_raw_nonzero();
    let data = format!("fd={},pgrp={group},minproto=5,maxproto=5,direct", answers.as_raw_fd());
    let data = CString::new(data).unwrap();
    if rustix::mount::mount("test", &trap, "autofs", MountFlags::empty(), data.as_c_str()).is_err() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "this kernel has no automounter");
        return;
    }
    let unmount = Unmount(trap);
    // Another process group: the kernel takes those of this one for the automounter's own.
    let mut command = lab.command(["ingest", "--source", "s"]);
    Process::start(command.arg(&tree).process_group(0)).end().succeeds();
    assert_eq!(held(&lab, &tree), ["file", "trap/"]);
    drop((unmount, requests));
}

/// Unmounts what a test mounted by a system call.
struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).stderr(Stdio::null()).status();
    }
}

#[test]
fn mounts_of_yester_are_left_out_dead_or_alive() {
    if !can(&[Need::Root, Need::Fuse]) {
        return;
    }
    let lab = Lab::new();
    fs::write(lab.path("file"), "x").unwrap();
    ingest(&lab, &lab.path("file"), &[]);
    let mount = lab.mount(&[]);
    assert!(mount.path("snapshots").is_dir());
    let whole = lab.path("");
    let document = ingest(&lab, &whole, &[]);
    assert_eq!(held(&lab, &whole), ["file", "key", "mnt/"]);
    // The store, the cache and the state are the others.
    assert_eq!(document["excluded"]["own"], 4);
    let given = mount.path("sources/s");
    ingest(&lab, &given, &[]);
    assert!(!held(&lab, &given).is_empty(), "what is given is taken, from a mount as well");

    kill_process(mount.server(), Signal::KILL).unwrap();
    eventually("the mount is dead", || fs::read_dir(mount.path("")).is_err());
    let document = ingest(&lab, &whole, &[]);
    assert_eq!((&document["state"], &document["excluded"]["own"]), (&"complete".into(), &4.into()));
    assert!(held(&lab, &whole).starts_with(&["file".to_owned(), "key".to_owned()]));
}

#[test]
fn lists_of_paths_are_taken_as_they_are() {
    let lab = Lab::new();
    let tree = lab.path("tree");
    write(&tree, &["a", "b c", "d\ne", "*", "not given"]);
    fs::write(tree.join(OsStr::from_bytes(b"\xff")), "odd").unwrap();
    let below = |names: &[&[u8]], separator: u8| {
        let mut list = Vec::new();
        for name in names {
            list.extend_from_slice(tree.as_os_str().as_bytes());
            list.push(b'/');
            list.extend_from_slice(name);
            list.push(separator);
        }
        list
    };
    fs::write(lab.path("lines"), below(&[b"a", b"*", b"\xff"], b'\n')).unwrap();
    fs::write(lab.path("zeros"), below(&[b"d\ne"], 0)).unwrap();
    let mut command = lab.command(["ingest", "--source", "s", "--files-from", "-", "--files-from"]);
    command.arg(lab.path("lines")).arg("--files-from0").arg(lab.path("zeros")).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(&below(&[b"b c"], b'\n')).unwrap();
    Ran::from_output("ingest".to_owned(), child.wait_with_output().unwrap()).succeeds();
    assert_eq!(lab.snapshots()[0]["files"], 5);
    assert_eq!(lab.snapshots()[0]["paths"].as_array().unwrap().len(), 5);

    fs::write(lab.path("empty"), "\n\n").unwrap();
    let mut none = lab.command(["ingest", "--source", "s", "--files-from"]);
    assert!(Ran::of(none.arg(lab.path("empty"))).fails(2).contains("empty"));
    let mut unnamed = lab.command(["ingest", "--files-from"]);
    assert!(Ran::of(unnamed.arg(lab.path("lines"))).fails(2).contains("--source"));
}

/// More files in one directory than the index keeps together.
#[test]
fn a_dry_run_tells_what_is_new_and_writes_nothing() {
    let lab = Lab::new();
    let tree = lab.path("tree");
    fs::create_dir(&tree).unwrap();
    for number in 0..5000_u32 {
        fs::write(tree.join(format!("f{number:05}")), number.to_le_bytes()).unwrap();
    }
    write(&tree, &["x.tmp"]);
    // What changed a moment ago is not relied on.
    thread::sleep(Duration::from_millis(3100));
    let plan = || ingest(&lab, &tree, &["--dry-run", "--exclude", "*.tmp"]);
    let objects = || succeed(Command::new("find").arg(lab.store()).args(["-printf", "%p %s %T@\n"]));
    let before = objects();
    let first = plan();
    assert_eq!((&first["dry_run"], &first["new_or_changed"]["files"]), (&true.into(), &5000.into()));
    assert_eq!(first["bytes"], 20_000);
    assert_eq!(objects(), before);
    assert_eq!(lab.runs().len(), 0, "the journal tells of backups");

    ingest(&lab, &tree, &["--exclude", "*.tmp"]);
    let before = objects();
    fs::write(tree.join("f02500"), "changed").unwrap();
    fs::remove_file(tree.join("f04000")).unwrap();
    write(&tree, &["new"]);
    let second = plan();
    assert_eq!(second["files"], 5000);
    assert_eq!(second["unchanged"], serde_json::json!({ "files": 4998, "bytes": 4998 * 4 }));
    assert_eq!(second["new_or_changed"], serde_json::json!({ "files": 2, "bytes": 10 }));
    assert_eq!(second["excluded"]["patterns"], 1);
    assert_eq!(objects(), before);
    assert_eq!((lab.runs().len(), lab.snapshots().len()), (1, 1));

    let told = lab.run(["ingest", tree.to_str().unwrap(), "--source", "s", "-n", "-v", "--exclude", "*.tmp"]);
    assert_eq!(told.succeeds(), "");
    assert!(told.stderr.contains("4,998 unchanged") && told.stderr.contains("x.tmp"), "{}", told.stderr);
    lab.run(["ingest", "--as", "x", "--dry-run", "--", "true"]).fails(2);
}

/// A new directory that nobody else may look into must not become one that everybody may, on its way into a mount.
#[test]
fn directories_above_keep_their_own_rights() {
    if !can(&[Need::Root, Need::Fuse]) {
        return;
    }
    let lab = Lab::new();
    write(&lab.path("private"), &["deep/file"]);
    for (directory, mode) in [("private", 0o700), ("private/deep", 0o711)] {
        let path = lab.path(directory);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        std::os::unix::fs::chown(&path, Some(1234), Some(4321)).unwrap();
    }
    ingest(&lab, &lab.path("private/deep/file"), &[]);
    let mount = lab.mount(&[]);
    for directory in ["private", "private/deep"] {
        use std::os::unix::fs::MetadataExt;

        let expected = fs::metadata(lab.path(directory)).unwrap();
        let shown = mount.path("latest").join(lab.path(directory).strip_prefix("/").unwrap());
        let found = fs::metadata(shown).unwrap();
        assert_eq!((found.mode(), found.uid(), found.gid()), (expected.mode(), 1234, 4321), "{directory}");
        assert_eq!(found.modified().unwrap(), expected.modified().unwrap(), "{directory}");
    }
}

/// A laboratory of a user without rights.
fn lab_of_nobody() -> Lab {
    let lab = Lab::new();
    lab.run(["snapshots"]).succeeds();
    fs::create_dir(lab.path("tree")).unwrap();
    succeed(Command::new("chown").args(["-R", "65534:65534"]).arg(lab.path("")));
    lab
}

/// Runs the binary as that user.
fn run_as_nobody(lab: &Lab, arguments: &[&OsStr]) -> Ran {
    Ran::of(lab.command(arguments).uid(65534).gid(65534).current_dir("/"))
}

#[test]
fn what_a_user_may_not_read_is_named_and_the_rest_kept() {
    if !can(&[Need::Root]) {
        return;
    }
    let lab = lab_of_nobody();
    let tree = lab.path("tree");
    write(&tree, &["good", "secret", "closed/x", "listed/x", "passed/sub/x"]);
    fs::hard_link(tree.join("secret"), tree.join("secret-again")).unwrap();
    for (path, mode) in [("secret", 0o600), ("closed", 0o700), ("listed", 0o744), ("passed", 0o711)] {
        fs::set_permissions(tree.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    let given = [OsStr::new("ingest"), tree.as_os_str(), OsStr::new("--source"), OsStr::new("s")];
    let ran = run_as_nobody(&lab, &given);
    let told = ran.fails(3).to_owned();
    assert!(told.contains("5 paths could not be backed up"), "{told}");
    for path in ["secret", "secret-again", "closed", "listed", "passed"] {
        let line = format!("cannot read {}: ", tree.join(path).display());
        assert_eq!(told.matches(&line).count(), 1, "{path}: {told}");
    }
    let quiet = run_as_nobody(&lab, &[&given[..], &[OsStr::new("--quiet")]].concat());
    assert_eq!(quiet.fails(3).lines().count(), 6, "what failed is told in any case: {}", quiet.stderr);
    assert_eq!(held(&lab, &tree), ["closed/", "good", "listed/", "passed/"]);
    let planned = run_as_nobody(&lab, &[&given[..], &[OsStr::new("--dry-run")]].concat());
    assert!(planned.fails(3).contains("5 paths could not be backed up"), "{}", planned.stderr);

    // What cannot be listed can be passed through.
    let sub = tree.join("passed/sub");
    run_as_nobody(&lab, &[&given[..], &[sub.as_os_str()]].concat()).fails(3);
    assert!(held(&lab, &tree).contains(&"passed/sub/x".to_owned()));

    // A snapshot of nothing would be the latest.
    let count = lab.snapshots().len();
    for alone in ["secret", "closed", "closed/x", "absent"] {
        let path = tree.join(alone);
        let refused = run_as_nobody(&lab, &[OsStr::new("ingest"), path.as_os_str()]);
        assert!(refused.fails(1).contains("cannot back up"), "{alone}: {}", refused.stderr);
    }
    assert_eq!(lab.snapshots().len(), count);
}

#[test]
fn one_path_that_is_gone_does_not_stop_the_others() {
    let lab = Lab::new();
    write(&lab.path("tree"), &["file"]);
    let (tree, absent) = (lab.path("tree"), lab.path("absent"));
    let mut command = lab.command(["ingest", "--source", "s", "--json"]);
    let ran = Ran::of(command.args([&absent, &tree]));
    let told = ran.fails(3);
    assert!(told.contains("absent") && told.contains("1 path could not be backed up"), "{told}");
    assert_eq!(held(&lab, &tree), ["file"]);
    assert_eq!(lab.snapshots()[0]["paths"], serde_json::json!([tree.to_str().unwrap()]));
}

#[test]
fn too_few_open_files_end_the_run_and_say_so() {
    let lab = Lab::new();
    let tree = lab.path("tree");
    fs::create_dir_all(tree.join("d/".repeat(90))).unwrap();
    let run = |limit: &str| {
        let inner = lab.command(["ingest", "--source", "s"]);
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={limit}")).arg(inner.get_program()).args(inner.get_args()).arg(&tree);
        Ran::of(command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?)))))
    };
    let failed = run("64:64");
    assert!(failed.fails(1).contains("no more files can be opened"), "{}", failed.stderr);
    assert!(failed.stderr.contains("ulimit -n"), "{}", failed.stderr);
    assert_eq!(lab.snapshots().len(), 0);
    // Where the system lets it, the program helps itself.
    run("64:4096").succeeds();
}

#[test]
fn what_an_automounter_has_mounted_is_taken() {
    if !can(&[Need::Root, Need::Tool("automount"), Need::Tool("nsenter"), Need::Tool("unshare")]) {
        return;
    }
    let lab = Lab::new();
    let tree = lab.path("tree");
    write(&tree, &["auto/under", "real"]);
    let path = |name: &str| lab.path(name).to_str().unwrap().to_owned();
    fs::write(lab.path("auto.map"), "alice -fstype=tmpfs :tmpfs\nbob -fstype=tmpfs :tmpfs\n").unwrap();
    let master = format!("{} file:{} --timeout=600\n", path("tree/auto"), path("auto.map"));
    fs::write(lab.path("auto.master"), master).unwrap();
    let daemon =
        format!("exec automount --foreground --pid-file {} {}", path("automount.pid"), path("auto.master"));
    // What it mounts ends with its namespace.
    let automount = Process::start(Command::new("unshare").args(["-m", "sh", "-euc", &daemon]));
    let inside = |command: &mut Command| {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--mount", "--target", &automount.pid().to_string(), "timeout", "30"]);
        nsenter.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => nsenter.env(name, value),
                None => nsenter.env_remove(name),
            };
        }
        Ran::of(&mut nsenter)
    };
    let automounted = path("tree/auto");
    eventually("autofs is there", || {
        inside(Command::new("findmnt").args(["-n", "-o", "FSTYPE", &automounted])).stdout == b"autofs\n"
    });
    inside(Command::new("sh").args(["-c", "echo hers >$0/alice/file", &automounted])).succeeds();
    let ingested = |options: &[&str]| {
        let mut command = lab.command(["ingest", "--source", "s"]);
        inside(command.arg(&tree).args(options)).succeeds();
        held(&lab, &tree)
    };
    assert_eq!(ingested(&[]), ["auto/", "auto/alice/", "auto/alice/file", "real"]);
    assert_eq!(ingested(&["-x"]), ["auto/", "auto/alice/", "real"]);
    assert_eq!(ingested(&["--exclude", "auto/"]), ["real"]);
    automount.signal(Signal::TERM);
    automount.end().succeeds();
}

#[test]
fn a_path_is_taken_as_the_system_reads_it() {
    let lab = Lab::new();
    let tree = lab.path("tree");
    write(&tree, &["real/file", "here/file"]);
    std::os::unix::fs::symlink("real", tree.join("link")).unwrap();
    let ingested = |paths: &[&str], code: i32| {
        let mut command = lab.command(["ingest", "--source", "s"]);
        let ran = Ran::of(command.args(paths).current_dir(tree.join("here")));
        if code == 0 {
            ran.succeeds();
        } else {
            assert!(ran.fails(code).contains("absent"), "{}", ran.stderr);
        }
        held(&lab, &tree)
    };
    assert_eq!(ingested(&["../link/."], 0), ["real/", "real/file"]);
    assert_eq!(ingested(&["../link"], 0), ["link"]);
    assert_eq!(ingested(&["../absent", "."], 3), ["here/", "here/file"]);
}

#[test]
fn holes_are_not_read() {
    let lab = Lab::new();
    let file = File::create(lab.path("disk.img")).unwrap();
    let island = vec![7; 100_000];
    for offset in [1 << 30, 50 << 30, (100 << 30) - 1_000_000] {
        file.write_all_at(&island, offset).unwrap();
    }
    file.set_len(100 << 30).unwrap();
    let document = ingest(&lab, &lab.path("disk.img"), &[]);
    assert_eq!(document["bytes"], 100_u64 << 30);
    assert!(document["added_bytes"].as_u64().unwrap() < 1_000_000);
    let restored = lab.path("restored");
    lab.run(["restore", "latest", "--to", restored.to_str().unwrap()]).succeeds();
    let copy = File::open(restored.join(lab.path("disk.img").strip_prefix("/").unwrap())).unwrap();
    let mut found = vec![0; island.len()];
    copy.read_exact_at(&mut found, 50 << 30).unwrap();
    assert!(found == island);
}

#[test]
fn an_entry_beyond_the_format_is_named_and_the_rest_kept() {
    if !can(&[Need::Root]) {
        return;
    }
    let lab = Lab::new();
    let disk = SystemMount::new(&["-t", "tmpfs", "tmpfs"], lab.path("tree"));
    write(&lab.path("tree"), &["good", "odd"]);
    for number in 0..250 {
        let name = format!("user.{number:0>240}");
        let path = lab.path("tree/odd");
        if rustix::fs::lsetxattr(&path, name, &[b'v'; 60], rustix::fs::XattrFlags::empty()).is_err() {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "tmpfs has no extended attributes here");
            return;
        }
    }
    let mut command = lab.command(["ingest", "--source", "s"]);
    let ran = Ran::of(command.arg(lab.path("tree")));
    assert!(ran.fails(3).contains("cannot store"), "{}", ran.stderr);
    assert_eq!(held(&lab, &lab.path("tree")), ["good"]);
    drop(disk);
}
