//! Looking into many snapshots: `find`, `log` and `ls` through the real binary.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use crate::harness::{Lab, Ran};

/// The objects that a backup added to `packs/`.
pub(crate) fn packs(lab: &Lab) -> BTreeSet<PathBuf> {
    let mut folders = vec![lab.store().join("packs")];
    let mut packs = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { _ = packs.insert(path) }
        }
    }
    packs
}

/// Backs up a folder; returns the beginning of the snapshot's id.
pub(crate) fn ingest(lab: &Lab, folder: &Path, source: &str) -> String {
    let run = lab.run(["ingest", folder.to_str().unwrap(), "--source", source, "--host", "h", "--json"]);
    run.json()["id"].as_str().unwrap()[..8].to_owned()
}

/// Writes a file that was last changed `day` days after the year 2020 began.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>, day: i64) {
    fs::write(path, content).unwrap();
    let time = Timespec { tv_sec: 1_577_836_800 + day * 86_400, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::empty()).unwrap();
}

/// A folder that was backed up three times: `a.conf` changed once, `d/b.conf` came and went.
struct Backups {
    lab: Lab,
    tree: PathBuf,
    ids: Vec<String>,
}

fn backups() -> Backups {
    let lab = Lab::new();
    let tree = lab.path("tree");
    fs::create_dir_all(tree.join("d")).unwrap();
    write(&tree.join("a.conf"), "one", 0);
    symlink("a.conf", tree.join("link")).unwrap();
    let mut ids = vec![ingest(&lab, &tree, "s")];
    write(&tree.join("a.conf"), "number two", 1);
    write(&tree.join("d/b.conf"), [b'b'; 2048], 2);
    ids.push(ingest(&lab, &tree, "s"));
    fs::remove_file(tree.join("d/b.conf")).unwrap();
    ids.push(ingest(&lab, &tree, "s"));
    Backups { lab, tree, ids }
}

impl Backups {
    fn find(&self, arguments: &[&str]) -> Ran {
        self.lab.run([&["find"], arguments].concat())
    }

    /// Returns the lines found, with one space between columns, and the folder called `T`.
    fn lines(&self, arguments: &[&str]) -> Vec<String> {
        let found = self.find(arguments).succeeds().replace(self.tree.to_str().unwrap(), "T");
        found.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }
}

#[test]
fn versions_are_found_in_the_snapshots_that_hold_them() {
    let backups = backups();
    let [first, second, third] = &backups.ids[..] else { panic!("three backups") };
    let one = format!("3 B 2020-01-01T00:00:00Z {first} 1 T/a.conf");
    let two = format!("10 B 2020-01-02T00:00:00Z {second}..{third} 2 T/a.conf");
    let other = format!("2.05 kB 2020-01-03T00:00:00Z {second} 1 T/d/b.conf");
    let (one, two, other) = (one.as_str(), two.as_str(), other.as_str());
    let both = [one, two, other];
    let tree = backups.tree.to_str().unwrap();
    assert_eq!(backups.lines(&["*.conf"]), both);
    assert_eq!(backups.lines(&["*.CONF", "-i"]), both);
    assert_eq!(backups.lines(&[&format!("{tree}/*.conf")]), [one, two]);
    assert_eq!(backups.lines(&["**/d/*.conf"]), [other]);
    assert_eq!(backups.lines(&["*.conf", "--newer", "2020-01-02"]), [two, other]);
    assert_eq!(backups.lines(&["*.conf", "--older", "2020-01-02T00:00:00Z"]), [one]);
    assert_eq!(backups.lines(&["*.conf", "--size", "-1K"]), [one, two]);
    assert_eq!(backups.lines(&["--kind", "file", "--size", "+3", "--size", "-1K"]), [two]);
    assert_eq!(backups.lines(&["*.conf", "--snapshot", third]).len(), 1);
    assert_eq!(backups.lines(&["*.conf", "--path", &format!("{tree}/d")]), [other]);
    let link = &backups.lines(&["--kind", "symlink", "--path", tree])[0];
    assert!(link.starts_with("- 20") && link.ends_with("3 T/link -> a.conf"), "{link}");
    let directory = &backups.lines(&["tree", "--kind", "d"])[0];
    assert!(directory.ends_with(&format!("{first}..{third} 3 T/")), "{directory}");
}

#[test]
fn programs_get_documents_or_raw_paths() {
    let backups = backups();
    let found = backups.find(&["a.conf", "--json"]).json();
    assert_eq!(found.as_array().unwrap().len(), 2);
    let path = backups.tree.join("a.conf");
    assert_eq!(format!("/{}", found[0]["path"].as_str().unwrap()), path.to_str().unwrap());
    assert_eq!((&found[0]["kind"], &found[0]["size"]), (&"file".into(), &3.into()));
    let snapshots = &found[1]["snapshots"];
    assert_eq!(snapshots["count"], 2);
    assert!(snapshots["first"]["id"].as_str().unwrap().starts_with(&backups.ids[1]), "{snapshots}");
    assert!(snapshots["last"]["id"].as_str().unwrap().starts_with(&backups.ids[2]), "{snapshots}");
    let raw = backups.find(&["*.conf", "-0"]);
    raw.succeeds();
    let other = backups.tree.join("d/b.conf");
    assert_eq!(raw.stdout, format!("{}\0{}\0", path.display(), other.display()).into_bytes());
}

#[test]
fn to_find_nothing_is_no_failure() {
    let backups = backups();
    let ran = backups.find(&["nowhere"]);
    assert_eq!(ran.succeeds(), "");
    assert_eq!(ran.stderr, "nothing was found in 3 snapshots\n");
    assert_eq!(backups.find(&["*", "--source", "other", "--json"]).succeeds(), "[]\n");
    let ran = backups.find(&["*", "--path", "/nowhere"]);
    assert!(ran.fails(1).contains("no snapshot that was looked at holds /nowhere"), "{}", ran.stderr);
}

#[test]
fn wrong_command_lines_are_usage_errors() {
    let lab = Lab::new();
    for arguments in [
        &["find", "[a"][..],
        &["find", "--size", "big"],
        &["find", "--newer", "tomorrow"],
        &["find", "--kind", "folder"],
        &["find", "--json", "--print0"],
        &["find", "--path", "../x"],
        &["ls", "latest", "--json", "-0"],
        &["ls", "latest", "-H"],
        &["log", "/"],
        &["log"],
    ] {
        let ran = lab.run(arguments);
        ran.fails(2);
        assert!(ran.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn odd_names_cannot_reach_a_terminal() {
    let lab = Lab::new();
    let tree = lab.path("tree");
    fs::create_dir(&tree).unwrap();
    let name = b"\x1b[31mred\n\xff";
    fs::write(tree.join(OsStr::from_bytes(name)), "x").unwrap();
    let id = ingest(&lab, &tree, "s");
    let shown = lab.run(["find", "*red*"]).succeeds();
    assert!(shown.contains("/\\u{1b}[31mred\\n\\xff\n") && !shown.contains('\x1b'), "{shown:?}");
    let path = tree.join(OsStr::from_bytes(name));
    let shown = lab.run([OsStr::new("log"), path.as_os_str()]).succeeds();
    assert!(shown.contains("first seen"), "{shown}");
    let expected = [path.as_os_str().as_bytes(), b"\0"].concat();
    assert_eq!(lab.run(["find", "*red*", "-0"]).stdout, expected);
    assert_eq!(lab.run(["ls", &id, tree.to_str().unwrap(), "-0"]).stdout, expected);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let backups = backups();
    let tree = backups.tree.to_str().unwrap();
    for arguments in [&["find"][..], &["find", "--json"], &["log", tree], &["ls", "latest", "-R"]] {
        let mut command = backups.lab.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ran = Ran::from_output(format!("{arguments:?}"), child.wait_with_output().unwrap());
        ran.succeeds();
        assert_eq!(ran.stderr, "", "{arguments:?}");
    }
}

#[test]
fn log_shows_what_became_of_a_path() {
    let backups = backups();
    let [first, second, third] = &backups.ids[..] else { panic!("three backups") };
    let rows = |path: &str| -> Vec<Vec<String>> {
        let text = backups.lab.run(["log", backups.tree.join(path).to_str().unwrap()]).succeeds();
        assert!(text.starts_with("s on h\nSINCE"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        let row = |line: &str| line.split_whitespace().skip(1).map(str::to_owned).collect();
        text.lines().skip(2).map(row).collect()
    };
    let text = |rows: Vec<Vec<String>>| rows.iter().map(|row| row.join(" ")).collect::<Vec<_>>();
    let expected = [
        format!("{second} {third} 2 10 B 2020-01-02T00:00:00Z content"),
        format!("{first} {first} 1 3 B 2020-01-01T00:00:00Z first seen"),
    ];
    assert_eq!(text(rows("a.conf")), expected);
    let expected = [
        format!("{third} {third} 1 - - gone"),
        format!("{second} {second} 1 2.05 kB 2020-01-03T00:00:00Z appeared"),
    ];
    assert_eq!(text(rows("d/b.conf")), expected);
    let below: Vec<_> = text(rows("d"));
    assert!(below[0].ends_with("below") && below[2].ends_with("first seen"), "{below:?}");

    let path = backups.tree.join("d/b.conf");
    let document = backups.lab.run(["log", path.to_str().unwrap(), "--json"]).json();
    assert_eq!((&document[0]["source"], &document[0]["host"]), (&"s".into(), &"h".into()));
    let versions = &document[0]["versions"];
    assert_eq!((&versions[0]["step"], &versions[1]["step"]), (&"gone".into(), &"appeared".into()));
    assert_eq!((&versions[0]["entry"], &versions[1]["entry"]["size"]), (&().into(), &2048.into()));
    let nowhere = backups.lab.run(["log", "/nowhere"]);
    assert!(nowhere.fails(1).contains("hint: `yester find NAME`"), "{}", nowhere.stderr);
}

#[test]
fn series_have_histories_of_their_own() {
    let backups = backups();
    let fourth = ingest(&backups.lab, &backups.tree, "other");
    let path = backups.tree.join("a.conf");
    let text = backups.lab.run(["log", path.to_str().unwrap()]).succeeds();
    assert!(text.starts_with("other on h\nSINCE") && text.contains("\n\ns on h\nSINCE"), "{text}");
    let text = backups.lab.run(["log", path.to_str().unwrap(), "--source", "other"]).succeeds();
    assert!(text.contains(&fourth) && text.lines().count() == 3, "{text}");
    assert_eq!(backups.lines(&["a.conf", "--source", "other"]).len(), 1);
}

#[test]
fn damage_is_told_and_the_rest_is_found() {
    let lab = Lab::new();
    let tree = lab.path("tree");
    fs::create_dir(&tree).unwrap();
    write(&tree.join("a"), "one", 0);
    let first = ingest(&lab, &tree, "s");
    let before = packs(&lab);
    write(&tree.join("a"), "number two", 1);
    let second = ingest(&lab, &tree, "s");
    for pack in packs(&lab).difference(&before) {
        fs::remove_file(pack).unwrap();
    }
    let ran = lab.run(["find", "a"]);
    let error = ran.fails(13);
    assert!(error.contains(&format!("cannot read / of snapshot {second}")), "{error}");
    assert!(error.contains("1 place could not be searched"), "{error}");
    let found = String::from_utf8(ran.stdout.clone()).unwrap();
    assert!(found.contains(&first) && found.lines().count() == 1, "{found}");

    let ran = lab.run(["log", tree.join("a").to_str().unwrap()]);
    ran.fails(13);
    let shown = String::from_utf8(ran.stdout.clone()).unwrap();
    assert!(shown.contains("unreadable") && shown.contains("first seen"), "{shown}");

    let ran = lab.run(["diff", &first, &second]);
    assert!(ran.fails(13).contains("1 place could not be compared"), "{}", ran.stderr);
    assert!(ran.stdout.is_empty(), "nothing can be said of what cannot be read");
}

#[test]
fn lists_show_sizes_as_asked() {
    let backups = backups();
    let id = &backups.ids[1];
    let folder = backups.tree.join("d");
    let list =
        |flags: &[&str]| backups.lab.run([&["ls", id, folder.to_str().unwrap()], flags].concat()).succeeds();
    assert!(list(&["-l"]).contains(" 2048 2020-01-03T00:00:00Z "));
    assert!(list(&["-lH"]).contains(" 2.05 kB 2020-01-03T00:00:00Z "));
}

#[test]
fn help_fits_100_columns() {
    let lab = Lab::empty();
    for command in ["ls", "find", "log", "diff"] {
        let help = lab.run([command, "--help"]).succeeds();
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
        assert_eq!(help.lines().filter(|line| line.starts_with("  yester ")).count(), 2, "{help}");
    }
}

#[test]
fn a_file_that_two_series_hold_has_a_line_for_each() {
    let backups = backups();
    // A series whose name comes first, and whose snapshot is the newest.
    let newest = ingest(&backups.lab, &backups.tree, "a");
    let [first, second, third] = &backups.ids[..] else { panic!("three backups") };
    let expected = [
        format!("10 B 2020-01-02T00:00:00Z {newest} 1 T/a.conf"),
        format!("3 B 2020-01-01T00:00:00Z {first} 1 T/a.conf"),
        format!("10 B 2020-01-02T00:00:00Z {second}..{third} 2 T/a.conf"),
    ];
    assert_eq!(backups.lines(&["a.conf"]), expected);
}
