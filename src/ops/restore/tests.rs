//! Tests of restores as a whole, from a store in memory into a temporary directory.

mod choices;
mod damage;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::fixture::{
    Fixture, MTIME, SYMLINK_TARGET, every_kind, linked, noise, null_device, path, with_xattr,
};
use super::*;
use crate::progress::Silent;
use crate::store::StoreErrorKind;
use crate::store::fault::{Fault, Operation};

/// A temporary directory that goes away even with a closed directory in it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        for target in ["", "target", "made/on the way"] {
            open_up(&self.path().join(target));
        }
    }
}

/// Lets the owner into the directory of mode 0 that [`every_kind`] has; root gets in anyway.
fn open_up(target: &Path) {
    let _ = fs::set_permissions(target.join("closed"), fs::Permissions::from_mode(0o700));
}

fn options(target: &Path) -> RestoreOptions {
    RestoreOptions {
        target: target.into(),
        overwrite: Overwrite::Never,
        ownership: if rustix::process::geteuid().is_root() { Ownership::ByName } else { Ownership::Restorer },
        exclude: ExcludePatterns::none(),
        strip_components: 0,
        verification: Verification::None,
        threads: 3,
        stop: Arc::default(),
    }
}

fn restore_to(fixture: &Fixture, snapshot: &Snapshot, options: &RestoreOptions) -> RestoreStats {
    restore(&fixture.repo, snapshot, &[], options, &Silent).unwrap()
}

fn assert_attributes(path: &Path, mode: u32) {
    let found = fs::symlink_metadata(path).unwrap();
    assert_eq!(found.mode() & 0o7777, mode, "{path:?}");
    assert_eq!((found.mtime(), found.mtime_nsec()), (MTIME.seconds, MTIME.nanoseconds.into()), "{path:?}");
}

#[test]
fn every_kind_of_entry_comes_back() {
    let fixture = Fixture::new();
    let snapshot = fixture.commit(every_kind);
    let folder = Folder::new();
    let target = folder.path().join("made/on the way");
    let stats = restore_to(&fixture, &snapshot, &options(&target));
    assert_eq!(stats.failures, []);
    assert_eq!((stats.files, stats.directories, stats.others), (9, 3, 3));
    assert_eq!((stats.kept, stats.unchanged, stats.failed, stats.damaged), (0, 0, 0, 0));

    assert_attributes(&target.join("d"), 0o2750);
    assert_attributes(&target.join("d/deep"), 0o700);
    assert_attributes(&target.join("closed"), 0);
    assert_attributes(&target.join("fifo"), 0o604);
    assert_attributes(&target.join("socket"), 0o755);
    assert_attributes(&target.join("set-id"), 0o6755);
    assert_attributes(&target.join("link"), 0o777);
    for name in ["d/empty", "d/small", "d/long", "d/first", "sparse", "tagged"] {
        assert_attributes(&target.join(name), 0o640);
    }
    assert!(fs::symlink_metadata(target.join("fifo")).unwrap().file_type().is_fifo());
    assert!(fs::symlink_metadata(target.join("socket")).unwrap().file_type().is_socket());
    let link = fs::read_link(target.join("link")).unwrap();
    assert_eq!(link.as_os_str().as_encoded_bytes(), SYMLINK_TARGET);
    assert_eq!(fs::read(target.join("d/empty")).unwrap(), b"");
    assert_eq!(fs::read(target.join("d/small")).unwrap(), b"hello");
    assert_eq!(fs::read(target.join("d/long")).unwrap(), noise(2, 250_017));

    let mut value = [0; 16];
    let length = rustix::fs::getxattr(target.join("tagged"), "user.yester", &mut value).unwrap();
    assert_eq!(&value[..length], b"value\0\xff");

    let first = fs::metadata(target.join("d/first")).unwrap();
    let second = fs::metadata(target.join("d/deep/second")).unwrap();
    assert_eq!((first.ino(), first.nlink()), (second.ino(), 3));
    assert_eq!(fs::read(target.join("d/deep/second")).unwrap(), noise(1, 12_000));
}

/// Tells a restore to end as soon as it works on an entry.
struct EndsAt<'a>(&'a str, Arc<AtomicBool>);

impl Progress for EndsAt<'_> {
    fn event(&self, event: Event<'_>) {
        if matches!(event, Event::Working(path) if path.ends_with(self.0.as_bytes())) {
            self.1.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

#[test]
fn an_interrupted_restore_leaves_things_in_order() {
    let fixture = Fixture::new();
    let snapshot = fixture.commit(every_kind);
    let folder = Folder::new();
    let options = RestoreOptions { threads: 1, ..options(folder.path()) };
    let ends = EndsAt("d/long", Arc::clone(&options.stop));
    let error = restore(&fixture.repo, &snapshot, &[path("d/long")], &options, &ends).unwrap_err();
    assert!(matches!(error, RestoreError::Interrupted), "{error}");
    assert_attributes(&folder.path().join("d"), 0o2750);
    assert_eq!(fs::read_dir(folder.path().join("d")).unwrap().count(), 0);

    let again = RestoreOptions { overwrite: Overwrite::IfChanged, stop: Arc::default(), ..options };
    assert_eq!(restore_to(&fixture, &snapshot, &again).failed, 0);
}

#[test]
fn holes_stay_holes() {
    let fixture = Fixture::new();
    let snapshot = fixture.commit(every_kind);
    let folder = Folder::new();
    let stats =
        restore(&fixture.repo, &snapshot, &[path("sparse")], &options(folder.path()), &Silent).unwrap();
    assert_eq!((stats.files, stats.bytes), (1, (40 << 20) + 9));
    let file = File::open(folder.path().join("sparse")).unwrap();
    let found = file.metadata().unwrap();
    assert_eq!(found.len(), (40 << 20) + 9);
    assert!(found.blocks() * 512 < 1 << 20, "{} blocks", found.blocks());
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, (20 << 20) - 1).unwrap();
    assert_eq!(&bytes, b"\0middle\0");
    file.read_exact_at(&mut bytes[..4], (40 << 20) + 5).unwrap();
    assert_eq!(&bytes[..4], b"\0end");
}

#[test]
fn a_part_comes_with_the_directories_above_it() {
    let fixture = Fixture::new();
    let snapshot = fixture.commit(every_kind);
    let folder = Folder::new();
    let wanted = [path("d/deep"), path("d/small"), path("d/deep/second")];
    let stats = restore(&fixture.repo, &snapshot, &wanted, &options(folder.path()), &Silent).unwrap();
    assert_eq!((stats.files, stats.directories, stats.failed), (2, 2, 0));
    assert_attributes(&folder.path().join("d"), 0o2750);
    assert!(folder.path().join("d/deep/second").exists());
    assert!(!folder.path().join("d/long").exists());
    assert!(!folder.path().join("link").exists());
}

#[test]
fn what_the_snapshot_does_not_hold_is_an_error_before_anything_is_done() {
    let fixture = Fixture::new();
    let snapshot = fixture.commit(every_kind);
    let folder = Folder::new();
    let target = folder.path().join("target");
    let wanted = [path("d"), path("d/absent")];
    let error = restore(&fixture.repo, &snapshot, &wanted, &options(&target), &Silent).unwrap_err();
    assert!(matches!(error, RestoreError::NotInSnapshot { path: absent } if absent == path("d/absent")));
    assert!(!target.exists());
}

#[test]
fn what_is_there_is_kept_replaced_or_compared() {
    let fixture = Fixture::new();
    let snapshot = fixture.commit(every_kind);
    let folder = Folder::new();
    let target = folder.path();
    fs::create_dir(target.join("d")).unwrap();
    fs::write(target.join("d/small"), b"mine").unwrap();
    fs::write(target.join("link"), b"mine").unwrap();

    let stats = restore_to(&fixture, &snapshot, &options(target));
    assert_eq!((stats.kept, stats.failed), (2, 0));
    assert_eq!(stats.kept_named, [path("d/small"), path("link")]);
    open_up(target);
    let again = restore_to(&fixture, &snapshot, &options(target));
    assert_eq!((again.kept, again.unchanged, again.files, again.others), (2, 10, 0, 0));
    assert_eq!(fs::read(target.join("d/small")).unwrap(), b"mine");
    assert_eq!(fs::read(target.join("link")).unwrap(), b"mine");

    open_up(target);
    let if_changed = RestoreOptions { overwrite: Overwrite::IfChanged, ..options(target) };
    let stats = restore_to(&fixture, &snapshot, &if_changed);
    assert_eq!((stats.kept, stats.failed), (0, 0));
    assert_eq!((stats.files, stats.others, stats.replaced, stats.unchanged), (1, 1, 2, 10));
    assert_eq!(fs::read(target.join("d/small")).unwrap(), b"hello");
    assert_attributes(&target.join("d"), 0o2750);

    open_up(target);
    let always = RestoreOptions { overwrite: Overwrite::Always, ..options(target) };
    let stats = restore_to(&fixture, &snapshot, &always);
    assert_eq!((stats.files, stats.others, stats.unchanged, stats.failed), (9, 3, 0, 0));
    assert_eq!(stats.replaced, 12);
    assert_eq!(fs::metadata(target.join("d/first")).unwrap().nlink(), 3);
    assert_eq!(fs::read_dir(target.join("d")).unwrap().count(), 5, "temporary names were left behind");
}

#[test]
fn links_planted_in_the_target_lead_nowhere() {
    let fixture = Fixture::new();
    let snapshot = fixture.commit(every_kind);
    let folder = Folder::new();
    let (outside, target) = (folder.path().join("outside"), folder.path().join("target"));
    fs::create_dir(&outside).unwrap();
    fs::create_dir(&target).unwrap();
    fs::write(outside.join("file"), b"mine").unwrap();
    symlink(&outside, target.join("d")).unwrap();
    symlink(outside.join("file"), target.join("tagged")).unwrap();
    symlink(outside.join("new"), target.join("sparse")).unwrap();
    for overwrite in [Overwrite::Never, Overwrite::IfChanged, Overwrite::Always] {
        restore_to(&fixture, &snapshot, &RestoreOptions { overwrite, ..options(&target) });
        open_up(&target);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{overwrite:?}");
        assert_eq!(fs::read(outside.join("file")).unwrap(), b"mine");
    }
    assert_eq!(fs::read(target.join("d/small")).unwrap(), b"hello");
    assert_eq!(fs::read(target.join("tagged")).unwrap(), b"tagged");
}

#[test]
fn a_directory_in_the_way_of_a_file_is_left() {
    let fixture = Fixture::new();
    let snapshot = fixture.commit(every_kind);
    let folder = Folder::new();
    fs::create_dir_all(folder.path().join("sparse/precious")).unwrap();
    let always = RestoreOptions { overwrite: Overwrite::Always, ..options(folder.path()) };
    let stats = restore_to(&fixture, &snapshot, &always);
    assert_eq!((stats.failed, stats.damaged), (1, 0));
    assert_eq!(stats.failures[0].path, path("sparse"));
    assert!(folder.path().join("sparse/precious").exists());
}

#[test]
fn a_device_comes_back_or_is_a_failure() {
    let fixture = Fixture::new();
    let snapshot = fixture.commit(|_| vec![null_device()]);
    let folder = Folder::new();
    let stats = restore_to(&fixture, &snapshot, &options(folder.path()));
    // Whether devices can be made depends on who runs the tests, and where.
    if stats.failed == 0 {
        let found = fs::symlink_metadata(folder.path().join("null")).unwrap();
        assert!(found.file_type().is_char_device());
        assert_eq!(found.rdev(), rustix::fs::makedev(1, 3));
        assert_attributes(&folder.path().join("null"), 0o666);
    } else {
        assert_eq!((stats.failures[0].path.clone(), stats.others), (path("null"), 0));
    }
}

#[test]
fn a_store_that_cannot_be_reached_ends_the_restore() {
    let mut fixture = Fixture::new();
    let snapshot = fixture.commit(every_kind);
    fixture.reopen();
    fixture.store.script(|call| {
        (call.operation == Operation::Get && call.object.starts_with("packs/"))
            .then_some(Fault::Fail(StoreErrorKind::Unavailable))
    });
    let folder = Folder::new();
    let error = restore(&fixture.repo, &snapshot, &[], &options(folder.path()), &Silent).unwrap_err();
    assert!(matches!(error, RestoreError::Repo(RepoError::Store(_))), "{error:?}");
}

#[test]
fn attributes_that_are_refused_are_failures_of_a_restored_file() {
    let fixture = Fixture::new();
    let snapshot =
        fixture.commit(|maker| vec![with_xattr(maker.file("file", b"content"), "nonsense.name", b"value")]);
    let folder = Folder::new();
    let stats = restore_to(&fixture, &snapshot, &options(folder.path()));
    assert_eq!((stats.files, stats.failed, stats.damaged), (1, 1, 0));
    let mut content = String::new();
    File::open(folder.path().join("file")).unwrap().read_to_string(&mut content).unwrap();
    assert_eq!(content, "content");
}

#[test]
fn a_stream_is_one_file_at_the_root() {
    let fixture = Fixture::new();
    let dump = noise(3, 400_000);
    let snapshot = fixture.commit(|maker| vec![maker.file("app.dump", &dump)]);
    let folder = Folder::new();
    let stats = restore_to(&fixture, &snapshot, &options(folder.path()));
    assert_eq!((stats.files, stats.bytes), (1, 400_000), "{:?}", stats.failures);
    assert_eq!(fs::read(folder.path().join("app.dump")).unwrap(), dump);
    let before = fs::metadata(folder.path()).unwrap();
    assert_ne!(before.mtime(), MTIME.seconds, "the target keeps its own attributes");
}
