//! What stays as it is, and what follows the store.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use yester::crypto::slot::{Credential, FileKey};
use yester::format::snapshot::{Mark, MarkState};
use yester::repo::Repository;
use yester::repo::open::{LocalFolders, OpenOptions};
use yester::store::key::ObjectKey;
use yester::store::local::LocalStore;
use yester::store::{ObjectStore, Payload};

use super::{NEEDS, copy_of, ingest, snapshot_of};
use crate::harness::{Lab, can, noise, succeed};

/// What the document promises, and time for a loaded machine.
const SEEN_WITHIN: Duration = Duration::from_secs(2 + 4);

fn list(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// Describes all that `find` and `sha256sum` see below a folder.
fn fingerprint(folder: &Path) -> String {
    let format = "%P %i %m %U %G %s %b %n %T@ %C@ %y %l\\n";
    let found = succeed(Command::new("find").arg(folder).args(["-printf", format]));
    let script = "find . -type f -print0 | sort -z | xargs -0 sha256sum";
    found + &succeed(Command::new("sh").args(["-c", script]).current_dir(folder))
}

fn some_files(tree: &Path) {
    for number in 0..5_u64 {
        fs::create_dir_all(tree.join("below")).unwrap();
        fs::write(tree.join(format!("below/{number}")), noise(number, 70_000)).unwrap();
    }
}

#[test]
fn s5_a_snapshot_never_changes() {
    if !can(&NEEDS) {
        return;
    }
    let (lab, tree) = snapshot_of(some_files);
    let mount = lab.mount(&[]);
    let first = mount.path("snapshots").join(&list(&mount.path("snapshots"))[0]);
    let before = fingerprint(&first);
    assert!(before.lines().count() > 10);
    fs::write(tree.join("below/0"), "changed").unwrap();
    fs::remove_file(tree.join("below/1")).unwrap();
    ingest(&lab, &tree);
    assert_eq!(fingerprint(&first), before);
    drop(mount);
    lab.cool();
    let mount = lab.mount(&[]);
    assert!(list(&mount.path("snapshots")).len() == 2);
    assert_eq!(fingerprint(&first), before, "in another mount, with no cache");
}

#[test]
fn s6_new_snapshots_appear_by_themselves() {
    if !can(&NEEDS) {
        return;
    }
    let (lab, tree) = snapshot_of(some_files);
    let mount = lab.mount(&[]);
    let latest = fs::read_link(mount.path("sources/s/latest")).unwrap();
    assert!(!mount.path("sources/other").exists(), "and the kernel remembers that it is not there");
    fs::write(tree.join("below/new"), "new").unwrap();
    ingest(&lab, &tree);
    lab.run([Path::new("ingest"), &tree, Path::new("--source"), Path::new("other")]).succeeds();
    let committed = Instant::now();
    let seen = |happened: &dyn Fn() -> bool, what: &str| {
        while !happened() {
            assert!(committed.elapsed() < SEEN_WITHIN, "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    seen(&|| mount.path("sources/other/latest").exists(), "a name that was absent");
    seen(&|| list(&mount.path("snapshots")).len() == 3, "the list");
    seen(&|| fs::read_link(mount.path("sources/s/latest")).unwrap() != latest, "the newest of its source");
    assert_eq!(fs::read_to_string(copy_of(&mount, &tree).join("below/new")).unwrap(), "new");
}

#[test]
fn s7_what_is_not_there_is_not_there() {
    if !can(&NEEDS) {
        return;
    }
    let (lab, tree) = snapshot_of(some_files);
    let mount = lab.mount(&[]);
    let copy = copy_of(&mount, &tree);
    for path in [mount.path("none"), mount.path("snapshots/none"), copy.join("none"), copy.join("below/0 ")] {
        for _ in 0..2 {
            let error = fs::symlink_metadata(&path).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{}", path.display());
        }
    }
    let through_a_file = fs::symlink_metadata(copy.join("below/0/x")).unwrap_err();
    assert_eq!(through_a_file.kind(), std::io::ErrorKind::NotADirectory);
}

#[test]
fn s8_a_forgotten_snapshot_leaves_the_lists_and_stays_with_who_reads_it() {
    if !can(&NEEDS) {
        return;
    }
    let (lab, tree) = snapshot_of(|tree| fs::write(tree.join("large"), noise(9, 4_000_000)).unwrap());
    fs::write(tree.join("small"), "").unwrap();
    ingest(&lab, &tree);
    let mount = lab.mount(&[]);
    let names = list(&mount.path("snapshots"));
    let first = mount.path("snapshots").join(&names[0]);
    let mut file = File::open(first.join(tree.strip_prefix("/").unwrap()).join("large")).unwrap();
    forget(&lab, &names[0]);
    let forgotten = Instant::now();
    while list(&mount.path("snapshots")).len() != 1 || first.exists() {
        assert!(forgotten.elapsed() < SEEN_WITHIN);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(list(&mount.path("snapshots")), names[1..]);
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    assert!(bytes == noise(9, 4_000_000));
}

/// Marks a snapshot as forgotten, as another host would.
fn forget(lab: &Lab, name: &str) {
    let store: std::sync::Arc<dyn ObjectStore> = std::sync::Arc::new(LocalStore::open(&lab.store()).unwrap());
    let folders = LocalFolders { cache: lab.path("other cache"), state: lab.path("other state") };
    let options =
        OpenOptions { folders, host: "other".to_owned(), cache_bytes: 1 << 20, base_cache_bytes: None };
    let key = fs::read_to_string(lab.path("key")).unwrap();
    let mut credential = || Ok(Some(Credential::FileKey(FileKey::parse(key.trim()).unwrap())));
    let repo = Repository::open(store, &options, &mut credential).unwrap();
    let snapshots = repo.snapshots().unwrap();
    let id = snapshots.iter().find(|snapshot| snapshot.display_name() == name).unwrap().manifest.id;
    let mark = Mark { time: jiff::Timestamp::now(), state: MarkState::Forgotten };
    let sealed = mark.seal(id, 1, repo.keys(), repo.writer()).unwrap();
    repo.store().create(&ObjectKey::mark(id, 1), Payload::Bytes(&sealed)).unwrap();
}

#[test]
fn s9_inode_numbers_are_those_of_every_mount() {
    if !can(&NEEDS) {
        return;
    }
    let (lab, tree) = snapshot_of(some_files);
    ingest(&lab, &tree);
    let numbers = |snapshot: &Path| -> Vec<(PathBuf, u64)> {
        let folder = snapshot.join(tree.strip_prefix("/").unwrap()).join("below");
        let entries = fs::read_dir(folder).unwrap().map(|entry| {
            let entry = entry.unwrap();
            let number = entry.metadata().unwrap().ino();
            assert_eq!(std::os::unix::fs::DirEntryExt::ino(&entry), number, "readdir and stat agree");
            (entry.file_name().into(), number)
        });
        entries.collect()
    };
    let mount = lab.mount(&[]);
    let names = list(&mount.path("snapshots"));
    let both: Vec<_> = names.iter().map(|name| numbers(&mount.path("snapshots").join(name))).collect();
    let distinct: BTreeSet<u64> = both.iter().flatten().map(|(_, number)| *number).collect();
    assert_eq!(distinct.len(), 10, "two snapshots share none, though their files are the same");
    drop(mount);
    let mount = lab.mount(&["--snapshot", &names[0]]);
    assert_eq!(numbers(&mount.path("")), both[0]);
}
