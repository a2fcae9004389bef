//! The directory store on real file systems: conformance, full disks, power losses, and no hard links.

mod guest;
mod mount;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use self::mount::{Mount, able, run};
use super::*;
use crate::id::PackId;
use crate::store::{StoreErrorKind, conformance};

#[test]
fn conforms() {
    let directory = tempfile::tempdir().unwrap();
    conformance::check(|name| Box::new(LocalStore::create(&directory.path().join(name)).unwrap()));
}

#[test]
fn stores_are_opened_where_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let (absent, file) = (directory.path().join("absent"), directory.path().join("file"));
    fs::write(&file, b"").unwrap();
    assert_eq!(LocalStore::open(&absent).unwrap_err().kind(), StoreErrorKind::NotFound);
    assert_eq!(LocalStore::open(&file).unwrap_err().kind(), StoreErrorKind::NotAStore);
    assert_eq!(LocalStore::create(&file).unwrap_err().kind(), StoreErrorKind::NotAStore);
    assert_eq!(LocalStore::create(&absent.join("below")).unwrap_err().kind(), StoreErrorKind::NotFound);

    let store = LocalStore::create(&absent).unwrap();
    assert_eq!(fs::metadata(&absent).unwrap().mode() & 0o777, 0o700);
    assert_eq!(store.location(), absent.to_str().unwrap());
    put(&store, 1).unwrap();
    for again in [LocalStore::create(&absent).unwrap(), LocalStore::open(&absent).unwrap()] {
        assert_eq!(listed(&again), [pack(1)]);
    }
    let link = directory.path().join("link");
    symlink(&absent, &link).unwrap();
    assert_eq!(listed(&LocalStore::open(&link).unwrap()), [pack(1)]);
}

#[test]
fn objects_are_plain_files_of_their_owner() {
    let (directory, store) = fresh();
    put(&store, 1).unwrap();
    let metadata = fs::metadata(directory.path().join(pack(1).as_str())).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.nlink(), metadata.len()), (0o600, 1, 4));
    assert_eq!(temporary_files(directory.path()), 0);
}

#[test]
fn what_is_no_object_is_not_listed() {
    let (directory, store) = fresh();
    put(&store, 1).unwrap();
    for stray in ["tmp/0123", "packs/.DS_Store", "packs/01/.nfs0001", "packs/01/a b", "packs/ä", "other"] {
        fs::write(directory.path().join(stray), b"stray").unwrap();
    }
    fs::create_dir_all(directory.path().join("packs/01/deep/deeper/deepest")).unwrap();
    fs::write(directory.path().join("packs/01/deep/deeper/object"), b"five segments").unwrap();
    assert_eq!(listed(&store), [pack(1)]);
}

#[test]
fn a_listing_that_cannot_see_fails() {
    let (directory, store) = fresh();
    put(&store, 1).unwrap();
    let elsewhere = directory.path().join("elsewhere");
    fs::rename(directory.path().join("packs"), &elsewhere).unwrap();
    symlink(&elsewhere, directory.path().join("packs")).unwrap();
    assert!(store.list(Prefix::Packs, &mut |_| {}).is_err(), "packs/ is a link");
    assert!(store.get(&pack(1), None).is_err());

    fs::remove_file(directory.path().join("packs")).unwrap();
    fs::create_dir(directory.path().join("packs")).unwrap();
    symlink(elsewhere.join("01"), directory.path().join("packs/01")).unwrap();
    let error = store.list(Prefix::Packs, &mut |_| {}).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "packs/01 is a link");

    fs::write(directory.path().join("index"), b"a file").unwrap();
    let error = store.list(Prefix::Index, &mut |_| {}).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::NotAStore);
}

#[test]
fn a_store_that_was_removed_is_not_an_empty_one() {
    let (directory, store) = fresh();
    directory.close().unwrap();
    assert!(store.list(Prefix::Packs, &mut |_| {}).is_err());
    assert!(store.delete(&pack(1)).is_err());
    assert!(put(&store, 1).is_err());
}

#[test]
fn a_named_pipe_does_not_block_a_reader() {
    let (directory, store) = fresh();
    put(&store, 1).unwrap();
    let pipe = directory.path().join(pack(1).as_str()).with_file_name("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
    let key = ObjectKey::parse("packs/01/pipe").unwrap();
    assert_eq!(store.get(&key, None).unwrap_err().kind(), StoreErrorKind::Unavailable);
    assert_eq!(store.size(&key).unwrap_err().kind(), StoreErrorKind::Unavailable);
}

#[test]
fn directories_that_vanish_are_made_again() {
    let (directory, store) = fresh();
    put(&store, 1).unwrap();
    store.delete(&pack(1)).unwrap();
    fs::remove_dir_all(directory.path().join("packs")).unwrap();
    fs::remove_dir(directory.path().join("tmp")).unwrap();
    assert_eq!(put(&store, 1).unwrap(), Creation::Created);
}

#[test]
fn only_stale_files_of_dead_writers_are_swept() {
    const STALE: &str = "00112233445566778899aabbccddeeff";
    const FRESH: &str = "ffeeddccbbaa99887766554433221100";
    let (directory, store) = fresh();
    let spool = directory.path().join("tmp");
    fs::create_dir(&spool).unwrap();
    let day = Duration::from_secs(24 * 3600);
    for (name, age) in [(STALE, 8 * day), (FRESH, 6 * day), ("notes.txt", 800 * day)] {
        let file = fs::File::create(spool.join(name)).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }
    assert!(listed(&store).is_empty());
    assert!(spool.join(STALE).exists(), "reading changes nothing");
    put(&store, 1).unwrap();
    assert!(!spool.join(STALE).exists());
    assert!(spool.join(FRESH).exists());
    assert!(spool.join("notes.txt").exists());
}

#[test]
fn a_failed_creation_leaves_nothing() {
    let (directory, store) = fresh();
    let file = tempfile::tempfile().unwrap();
    store.create(&pack(1), Payload::File { file: &file, bytes: 1 }).unwrap_err();
    assert_eq!(temporary_files(directory.path()), 0);
    assert!(listed(&store).is_empty());
}

#[test]
fn what_a_listing_showed_is_flushed_before_the_next_creation() {
    let (directory, store) = fresh();
    put(&store, 1).unwrap();
    let other = LocalStore::open(directory.path()).unwrap();
    assert_eq!(listed(&other), [pack(1)]);
    assert_eq!(other.shown.lock().unwrap().iter().collect::<Vec<_>>(), ["packs", "packs/01"]);
    put(&other, 2).unwrap();
    assert!(other.shown.lock().unwrap().is_empty());
}

#[test]
fn a_vfat_file_system_conforms() {
    let Some(mount) = vfat("a_vfat_file_system_conforms") else { return };
    fs::write(mount.path().join("file"), b"").unwrap();
    let linked = fs::hard_link(mount.path().join("file"), mount.path().join("link"));
    assert!(linked.is_err(), "there is no need for a rename");
    conformance::check(|name| Box::new(LocalStore::create(&mount.path().join(name)).unwrap()));
}

#[test]
fn objects_on_vfat_survive_a_power_loss() {
    let Some(mount) = vfat("objects_on_vfat_survive_a_power_loss") else { return };
    objects_survive_a_power_loss(&mount);
}

#[test]
fn objects_on_ext4_survive_a_power_loss() {
    let Some(mount) = Mount::device("mkfs.ext4", &[]) else { return };
    objects_survive_a_power_loss(&mount);
}

#[test]
fn objects_without_a_file_system_journal_survive_a_power_loss() {
    let Some(mount) = Mount::device("mkfs.ext4", &["-O", "^has_journal"]) else { return };
    objects_survive_a_power_loss(&mount);
}

fn objects_survive_a_power_loss(mount: &Mount) {
    let store = LocalStore::create(&mount.path().join("store")).unwrap();
    for number in 0..4 {
        assert_eq!(put(&store, number).unwrap(), Creation::Created);
        let after = mount.after_power_loss();
        let store = LocalStore::open(&after.path().join("store")).unwrap();
        assert_eq!(listed(&store), (0..=number).map(pack).collect::<Vec<_>>());
        for number in 0..=number {
            assert_eq!(store.get(&pack(number), None).unwrap(), [number; 4]);
        }
    }
    store.delete(&pack(0)).unwrap();
    let after = mount.after_power_loss();
    let store = LocalStore::open(&after.path().join("store")).unwrap();
    assert_eq!(listed(&store), [1, 2, 3].map(pack));
}

#[test]
fn a_full_disk_is_told_and_left_clean() {
    let Some(mount) = Mount::tmpfs("size=1m") else { return };
    let store = LocalStore::open(mount.path()).unwrap();
    put(&store, 1).unwrap();
    let error = store.create(&pack(2), Payload::Bytes(&vec![1; 2 << 20])).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Full);
    assert_eq!(temporary_files(mount.path()), 0);
    assert_eq!(listed(&store), [pack(1)]);
    assert_eq!(store.create(&pack(2), Payload::Bytes(&vec![1; 500_000])).unwrap(), Creation::Created);
}

#[test]
fn a_read_only_store_is_readable() {
    let Some(mount) = Mount::tmpfs("size=1m") else { return };
    put(&LocalStore::open(mount.path()).unwrap(), 1).unwrap();
    run("mount", &["-o", "remount,ro", mount.path().to_str().unwrap()]).unwrap();
    let store = LocalStore::open(mount.path()).unwrap();
    assert_eq!(listed(&store), [pack(1)]);
    assert_eq!(store.get(&pack(1), None).unwrap(), [1; 4]);
    assert_eq!(put(&store, 1).unwrap(), Creation::AlreadyExists);
    assert_eq!(put(&store, 2).unwrap_err().kind(), StoreErrorKind::ReadOnly);
    assert_eq!(store.delete(&pack(1)).unwrap_err().kind(), StoreErrorKind::ReadOnly);
}

#[test]
fn lengths_are_asked_for_when_they_are_wanted() {
    let (_directory, store) = fresh();
    put(&store, 1).unwrap();
    let mut listed = Vec::new();
    store.list(Prefix::Packs, &mut |object| listed.push(object)).unwrap();
    assert_eq!(listed[0].size(&store).unwrap(), Some(4));
    store.delete(&pack(1)).unwrap();
    assert_eq!(listed[0].size(&store).unwrap(), None, "it is gone by now");
}

/// Mounts a vfat file system. Where the kernel has none, the test of this name is run by one that has.
fn vfat(test: &str) -> Option<Mount> {
    match Mount::try_device("mkfs.vfat", &[]) {
        Ok(mount) => return Some(mount),
        Err(why) => able("vfat", guest::test(test).map_err(|guest| format!("{why}; {guest}"))),
    };
    None
}

fn fresh() -> (TempDir, LocalStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = LocalStore::open(directory.path()).unwrap();
    (directory, store)
}

fn pack(number: u8) -> ObjectKey {
    ObjectKey::pack(&PackId::from_bytes([number; 32]))
}

fn put(store: &LocalStore, number: u8) -> Result<Creation, StoreError> {
    store.create(&pack(number), Payload::Bytes(&[number; 4]))
}

fn listed(store: &LocalStore) -> Vec<ObjectKey> {
    let mut keys = Vec::new();
    store.list(Prefix::Packs, &mut |object| keys.push(object.key)).unwrap();
    keys.sort();
    keys
}

fn temporary_files(store: &Path) -> usize {
    fs::read_dir(store.join("tmp")).unwrap().count()
}
