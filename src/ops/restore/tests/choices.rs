//! What is chosen: parts of a snapshot, names that are left out or stripped off, owners; and plans.

use std::ffi::OsStr;

use super::*;
use crate::format::tree::Attributes;
use crate::ops::patterns::ExcludePatternsBuilder;
use crate::ops::restore::fixture::{Maker, entry};

fn excluding(patterns: &[&str]) -> ExcludePatterns {
    let mut builder = ExcludePatternsBuilder::default();
    patterns.iter().for_each(|pattern| builder.add("test", OsStr::new(pattern)).unwrap());
    builder.finish().unwrap()
}

fn restore_paths(
    fixture: &Fixture,
    snapshot: &Snapshot,
    paths: &[TreePath],
    options: &RestoreOptions,
) -> RestoreStats {
    let stats = restore(&fixture.repo, snapshot, paths, options, &Silent).unwrap();
    assert_eq!(stats.failures, []);
    stats
}

#[test]
fn what_was_asked_for_is_never_left_out() {
    let fixture = Fixture::new();
    let snapshot = fixture.commit(every_kind);
    let folder = Folder::new();
    let asked = [path("d/small"), path("d/deep")];
    let exclude = excluding(&["d", "small", "deep", "second"]);
    let options = RestoreOptions { exclude, ..options(folder.path()) };
    let stats = restore_paths(&fixture, &snapshot, &asked, &options);
    assert!(folder.path().join("d/small").exists() && folder.path().join("d/deep").exists());
    assert!(!folder.path().join("d/deep/second").exists());
    let planned = plan(&fixture.repo, &snapshot, &asked, &options, &mut |_, _| {}).unwrap();
    assert_eq!((stats.files, planned.unchanged, planned.left_out), (1, 1, stats.left_out));

    let options = RestoreOptions { strip_components: 2, ..options };
    let error = restore(&fixture.repo, &snapshot, &asked, &options, &Silent).unwrap_err();
    assert!(matches!(error, RestoreError::StripsAsked { path } if path == asked[0]));
}

#[test]
fn what_is_excluded_is_not_looked_into() {
    let fixture = Fixture::new();
    let snapshot = fixture.commit(every_kind);
    let folder = Folder::new();
    let exclude = excluding(&["deep/", "/closed", "*e*", "!d/empty"]);
    let stats = restore_to(&fixture, &snapshot, &RestoreOptions { exclude, ..options(folder.path()) });
    // What `deep` and `closed` hold is not counted: nobody looks there.
    assert_eq!((stats.files, stats.failed), (4, 0), "{stats:?}");
    assert!(folder.path().join("d/empty").exists());
    assert!(!folder.path().join("d/deep").exists() && !folder.path().join("closed").exists());
    assert!(!folder.path().join("sparse").exists() && !folder.path().join("socket").exists());
    assert_eq!(stats.left_out, 6);
}

#[test]
fn one_of_several_names_is_a_file_of_its_own() {
    let fixture = Fixture::new();
    let snapshot = fixture.commit(every_kind);
    for name in ["d/first", "d/deep/second", "closed/third"] {
        let folder = Folder::new();
        let stats = restore_paths(&fixture, &snapshot, &[path(name)], &options(folder.path()));
        assert_eq!(stats.files, 1);
        open_up(folder.path());
        let file = folder.path().join(name);
        assert_eq!(fs::read(&file).unwrap(), noise(1, 12_000));
        assert_eq!(fs::metadata(&file).unwrap().nlink(), 1);
    }
}

#[test]
fn leading_directories_are_stripped_off() {
    let fixture = Fixture::new();
    let snapshot = fixture.commit(|maker| {
        let etc = every_kind(maker);
        vec![maker.directory("srv", 0o700, vec![maker.directory("www", 0o700, etc), maker.file("x", b"x")])]
    });
    let folder = Folder::new();
    let strip = |strip_components, name: &str| RestoreOptions {
        strip_components,
        ..options(&folder.path().join(name))
    };
    let stats = restore_paths(&fixture, &snapshot, &[], &strip(2, "target"));
    assert_eq!((stats.files, stats.directories, stats.left_out), (9, 3, 1));
    let target = folder.path().join("target");
    assert_attributes(&target.join("d"), 0o2750);
    assert_eq!(fs::metadata(target.join("d/first")).unwrap().nlink(), 3);

    let stats = restore_paths(&fixture, &snapshot, &[path("srv/www/d/small")], &strip(3, "one"));
    assert_eq!((stats.files, stats.directories), (1, 0));
    assert_eq!(fs::read(folder.path().join("one/small")).unwrap(), b"hello");

    let refused = |paths: &[TreePath], strip_components| {
        let options = strip(strip_components, "never");
        let error = restore(&fixture.repo, &snapshot, paths, &options, &Silent).unwrap_err();
        assert!(!folder.path().join("never").exists());
        error
    };
    let error = refused(&[], 3);
    assert!(
        matches!(&error, RestoreError::StripMixes { first, .. } if *first == path("srv/www/closed")),
        "{error}"
    );
    let error = refused(&[path("srv/x")], 2);
    assert!(
        matches!(&error, RestoreError::StripsAsked { path: asked } if *asked == path("srv/x")),
        "{error}"
    );
    let error = refused(&[path("srv/www/d/deep")], 5);
    assert!(
        matches!(&error, RestoreError::StripLeavesNothing { path: last } if *last == path("srv/www/d/deep")),
        "{error}"
    );
    // What is excluded is in nobody's way.
    let exclude = excluding(&["closed"]);
    let stats = restore_to(&fixture, &snapshot, &RestoreOptions { exclude, ..strip(3, "third") });
    assert_eq!((stats.files, stats.left_out), (5, 8));
}

#[test]
fn owners_go_by_name_by_number_or_stay() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let fixture = Fixture::new();
    let snapshot = fixture.commit(|maker| {
        let owned = |name: &str, user: Option<&str>, group: Option<&str>| {
            let mut entry = entry(name, 0o6755, maker.file("unused", b"#!").kind);
            let attributes = Attributes {
                uid: 54_321,
                gid: 54_322,
                user: user.map(Into::into),
                group: group.map(Into::into),
                ..entry.attributes
            };
            entry.attributes = attributes;
            entry
        };
        vec![
            owned("known", Some("root"), Some("root")),
            owned("unknown", Some("no such user"), Some("no such group")),
            owned("nameless", None, None),
        ]
    });
    let by_number = (54_321, 54_322, 0o6755);
    for (ownership, expected) in [
        (Ownership::ByName, [(0, 0, 0o6755), by_number, by_number]),
        (Ownership::ByNumber, [by_number; 3]),
        (Ownership::Restorer, [(0, 0, 0o755); 3]),
    ] {
        let folder = Folder::new();
        let options = RestoreOptions { ownership, ..options(folder.path()) };
        let stats = restore_paths(&fixture, &snapshot, &[], &options);
        for (name, expected) in ["known", "unknown", "nameless"].iter().zip(expected) {
            let found = fs::metadata(folder.path().join(name)).unwrap();
            assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), expected, "{ownership:?} {name}");
        }
        assert_eq!(stats.owner_changes.len(), if ownership == Ownership::ByName { 4 } else { 0 });
        assert_eq!(stats.set_ids, if ownership == Ownership::Restorer { 3 } else { 0 });
        let if_changed = RestoreOptions { overwrite: Overwrite::IfChanged, ..options };
        assert_eq!(restore_paths(&fixture, &snapshot, &[], &if_changed).unchanged, 3, "{ownership:?}");
    }
}

#[test]
fn a_plan_writes_nothing_and_foretells_the_restore() {
    let fixture = Fixture::new();
    let snapshot = fixture.commit(every_kind);
    let folder = Folder::new();
    let target = folder.path().join("target");
    let planned = |options: &RestoreOptions| {
        let mut actions = Vec::new();
        let listener = &mut |path: &TreePath, action| actions.push((path.clone(), action));
        let stats = plan(&fixture.repo, &snapshot, &[], options, listener).unwrap();
        (stats, actions)
    };
    let same = |planned: &RestoreStats, restored: &RestoreStats| {
        let sums = |stats: &RestoreStats| {
            let RestoreStats { files, directories, others, bytes, replaced, kept, unchanged, failed, .. } =
                *stats;
            [files, directories, others, bytes, replaced, kept, unchanged, failed]
        };
        assert_eq!(sums(planned), sums(restored));
    };
    let never = options(&target);
    let (stats, actions) = planned(&never);
    assert!(!target.exists());
    assert_eq!(actions.len(), 15);
    assert!(actions.iter().all(|(_, action)| *action == PlannedAction::Make));
    same(&stats, &restore_to(&fixture, &snapshot, &never));

    open_up(&target);
    fs::write(target.join("d/small"), b"mine").unwrap();
    fs::remove_file(target.join("sparse")).unwrap();
    fs::create_dir(target.join("sparse")).unwrap();
    fs::remove_file(target.join("d/deep/second")).unwrap();
    fs::remove_dir(target.join("d/deep")).unwrap();
    fs::write(target.join("d/deep"), b"no directory").unwrap();
    for overwrite in [Overwrite::Never, Overwrite::IfChanged, Overwrite::Always] {
        let options = RestoreOptions { overwrite, ..options(&target) };
        open_up(&target);
        let before = fs::metadata(target.join("d/small")).unwrap();
        let (stats, actions) = planned(&options);
        let after = fs::metadata(target.join("d/small")).unwrap();
        assert_eq!((before.ino(), before.ctime_nsec()), (after.ino(), after.ctime_nsec()));
        let of = |name: &str| actions.iter().find(|(found, _)| *found == path(name)).unwrap().1;
        assert_eq!(of("sparse"), PlannedAction::Fail);
        let expected = match overwrite {
            Overwrite::Never => [PlannedAction::Keep, PlannedAction::Fail, PlannedAction::Leave],
            Overwrite::IfChanged => [PlannedAction::Replace, PlannedAction::Fail, PlannedAction::Leave],
            Overwrite::Always => [PlannedAction::Replace; 3],
        };
        assert_eq!([of("d/small"), of("d/deep"), of("tagged")], expected, "{overwrite:?}");
        same(&stats, &restore_to(&fixture, &snapshot, &options));
    }
}

#[test]
fn a_directory_is_needed_as_target() {
    let fixture = Fixture::new();
    let snapshot = fixture.commit(|maker: &Maker<'_>| vec![maker.file("file", b"x")]);
    let folder = Folder::new();
    let target = folder.path().join("file");
    fs::write(&target, b"mine").unwrap();
    let error = plan(&fixture.repo, &snapshot, &[], &options(&target), &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, RestoreError::Target { .. }));
    let error = restore(&fixture.repo, &snapshot, &[], &options(&target), &Silent).unwrap_err();
    assert!(matches!(error, RestoreError::Target { .. }));
}
