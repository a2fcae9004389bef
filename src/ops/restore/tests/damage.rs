//! What is left of damaged files and directories, and what reading back finds.

use super::*;
use crate::crypto::hash::ChunkKind;
use crate::format::content::{Content, ListNode};
use crate::format::tree::{EntryKind, Page, PageRef, TreeRef};
use crate::id::ChunkId;
use crate::ops::restore::fixture::{Maker, entry};
use crate::path::Name;
use crate::store::key::ObjectKey;

/// Frames hold four chunks of 5,000 bytes, so that damage to the first one leaves the rest of a file.
const FRAME: usize = 20_000;

fn one_thread(target: &Path) -> RestoreOptions {
    RestoreOptions { threads: 1, ..options(target) }
}

fn names_in(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// Damages the first frame of the pack that holds `content`, and opens the store anew.
fn damage(fixture: &mut Fixture, content: &[u8]) {
    let pack = fixture.pack_of(ChunkKind::Data, &content[..5000]);
    fixture.tamper(&pack, |bytes| bytes[FRAME / 2] ^= 1);
    fixture.reopen();
}

#[test]
fn what_can_be_read_of_a_damaged_file_is_kept_beside_it() {
    let mut fixture = Fixture::new();
    let bad = noise(7, 30_000);
    let first = fixture.commit(|maker| vec![maker.file("good", b"good"), maker.file("other", b"other")]);
    let second = fixture.commit(|maker| {
        let names = [linked(maker.file("bad", &bad), 1, 2), linked(maker.file("bad too", &bad), 1, 2)];
        names.into_iter().chain([maker.file("good", b"good")]).collect()
    });
    damage(&mut fixture, &bad);
    let folder = Folder::new();
    let stats = restore_to(&fixture, &second, &one_thread(folder.path()));
    assert_eq!(
        (stats.files, stats.failed, stats.damaged, stats.partial),
        (1, 2, 2, 1),
        "{:?}",
        stats.failures
    );
    assert!(stats.failures.iter().all(|failure| failure.damaged));
    let partial = stats.failures[0].partial.as_ref().unwrap();
    assert_eq!((partial.missing_bytes, partial.read_bytes, partial.gap_count), (20_000, 10_000, 1));
    assert_eq!(partial.path, Some(path("bad.partial")));
    assert_eq!((partial.gaps[0].offset, partial.gaps[0].length), (0, 20_000));
    assert!(stats.failures[1].reason.contains("/bad.partial"), "{}", stats.failures[1].reason);

    assert_eq!(names_in(folder.path()), ["bad.partial", "bad.partial.gaps", "good"]);
    let kept = fs::read(folder.path().join("bad.partial")).unwrap();
    assert!(kept[..FRAME].iter().all(|byte| *byte == 0));
    assert!(kept[FRAME..] == bad[FRAME..]);
    assert_attributes(&folder.path().join("bad.partial"), 0o640);
    let list = fs::read_to_string(folder.path().join("bad.partial.gaps")).unwrap();
    assert!(list.lines().nth(2).unwrap().starts_with("0 20000 "), "{list}");

    let other = folder.path().join("first");
    assert_eq!(restore_to(&fixture, &first, &options(&other)).files, 2);
}

#[test]
fn names_of_parts_are_never_those_of_something_else() {
    let mut fixture = Fixture::new();
    let bad = noise(7, 30_000);
    let snapshot = fixture.commit(|maker| {
        let executable = entry("bad", 0o6755, maker.file("unused", &bad).kind);
        vec![executable, maker.file("bad.partial", b"a file of that name")]
    });
    damage(&mut fixture, &bad);
    let folder = Folder::new();
    fs::write(folder.path().join("bad.partial.1.gaps"), b"mine").unwrap();
    let stats = restore_to(&fixture, &snapshot, &options(folder.path()));
    assert_eq!((stats.files, stats.kept, stats.damaged), (1, 0, 1), "{stats:?}");
    let expected = ["bad.partial", "bad.partial.1.gaps", "bad.partial.2", "bad.partial.2.gaps"];
    assert_eq!(names_in(folder.path()), expected);
    assert_eq!(fs::read(folder.path().join("bad.partial")).unwrap(), b"a file of that name");
    assert_eq!(fs::read(folder.path().join("bad.partial.1.gaps")).unwrap(), b"mine");
    assert_attributes(&folder.path().join("bad.partial.2"), 0o755);
}

#[test]
fn a_file_of_which_nothing_is_left_leaves_nothing() {
    let mut fixture = Fixture::new();
    let bad = noise(7, 15_000);
    let snapshot = fixture.commit(|maker| vec![maker.file("bad", &bad)]);
    damage(&mut fixture, &bad);
    let folder = Folder::new();
    let stats = restore_to(&fixture, &snapshot, &options(folder.path()));
    assert_eq!((stats.damaged, stats.partial), (1, 0));
    assert_eq!(stats.failures[0].partial.as_ref().unwrap().path, None);
    assert_eq!(names_in(folder.path()), [""; 0]);
}

#[test]
fn a_lost_part_of_a_list_is_one_gap_however_long() {
    let fixture = Fixture::new();
    let lost = 5 << 40;
    let snapshot = fixture.commit(|maker| {
        let (one, two) =
            (maker.list(&ListNode::Items(vec![maker.data(b"begin")])), ChunkId::from_bytes([9; 32]));
        let three = maker.list(&ListNode::Items(vec![maker.data(b"end")]));
        let children = vec![(one, 5), (two, lost), (three, 3)];
        let node = maker.list(&ListNode::Children { level: 1, children });
        vec![entry("bad", 0o600, EntryKind::File(Content::List { node, length: lost + 8 }))]
    });
    let folder = Folder::new();
    let stats = restore_to(&fixture, &snapshot, &options(folder.path()));
    let partial = stats.failures[0].partial.as_ref().unwrap();
    assert_eq!((partial.missing_bytes, partial.read_bytes, partial.gap_count), (lost, 8, 1), "{partial:?}");
    assert_eq!((partial.gaps[0].offset, partial.gaps[0].length), (5, lost));
    let file = File::open(folder.path().join("bad.partial")).unwrap();
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, lost + 4).unwrap();
    assert_eq!(&bytes, b"\0end");
}

#[test]
fn a_damaged_page_costs_its_own_entries() {
    let fixture = Fixture::new();
    let leaf = |maker: &Maker<'_>, name: &str| {
        let page = maker.page(&Page::Entries(vec![maker.file(name, b"12345")]));
        let last_name = Name::new(name.as_bytes()).unwrap();
        PageRef { last_name, tree: TreeRef { page, entries: 1, bytes: 5 } }
    };
    let snapshot = fixture.commit(|maker| {
        let mut pages = vec![leaf(maker, "a"), leaf(maker, "b"), leaf(maker, "c")];
        pages[1].tree.page = ChunkId::from_bytes([9; 32]);
        let page = maker.page(&Page::Pages { level: 1, pages });
        let directory = EntryKind::Directory(TreeRef { page, entries: 3, bytes: 15 });
        vec![entry("d", 0o755, directory), maker.file("e", b"after")]
    });
    let folder = Folder::new();
    let stats = restore_to(&fixture, &snapshot, &options(folder.path()));
    assert_eq!((stats.files, stats.damaged), (3, 1), "{stats:?}");
    assert_eq!(stats.failures[0].path, path("d"));
    assert_eq!(names_in(&folder.path().join("d")), ["a", "c"]);

    // A path behind the damage is named, and the others are restored.
    let target = folder.path().join("again");
    let wanted = [path("d/b"), path("d/c"), path("e")];
    let stats = restore(&fixture.repo, &snapshot, &wanted, &options(&target), &Silent).unwrap();
    assert_eq!((stats.files, stats.damaged), (2, 1), "{stats:?}");
}

#[test]
fn a_damaged_directory_costs_what_is_in_it() {
    let mut fixture = Fixture::new();
    let snapshot = fixture.commit(|maker| {
        let inside = (0..3).map(|number| maker.file(&format!("file {number}"), b"x")).collect();
        vec![maker.directory("broken", 0o755, inside), maker.file("whole", b"whole")]
    });
    // All trees of so small a snapshot share one pack; the page of `broken` was written first.
    let tree_pack = ObjectKey::pack(&snapshot.manifest.tree_packs[0]);
    fixture.tamper(&tree_pack, |bytes| bytes.truncate(bytes.len() - 40));
    fixture.reopen();
    let folder = Folder::new();
    let result = restore(&fixture.repo, &snapshot, &[], &options(folder.path()), &Silent);
    // The frames of a pack that lost its directory are whole, and the index says where they are.
    assert_eq!(result.unwrap().files, 4);
    fixture.tamper(&tree_pack, |bytes| bytes.truncate(bytes.len() / 3));
    fixture.reopen();
    let target = folder.path().join("again");
    let stats = restore_to(&fixture, &snapshot, &options(&target));
    assert!(stats.damaged > 0 && stats.files == 0, "{stats:?}");
}

#[test]
fn what_is_read_back_is_counted_and_wrong_bytes_are_found() {
    let fixture = Fixture::new();
    let snapshot = fixture.commit(every_kind);
    let folder = Folder::new();
    let reading_back = RestoreOptions { verification: Verification::ReadBack, ..options(folder.path()) };
    let stats = restore_to(&fixture, &snapshot, &reading_back);
    // Three of the nine names are those of one file.
    assert_eq!((stats.verified_files, stats.differing, stats.failed), (7, 0, 0), "{stats:?}");
    assert_eq!(stats.verified_bytes, stats.bytes);

    let long = fixture.repo.find_path(&snapshot.manifest, &path("d/long")).unwrap().unwrap();
    let sparse = fixture.repo.find_path(&snapshot.manifest, &path("sparse")).unwrap().unwrap();
    let check = |node: &crate::repo::tree::Node, name: &str, spoil: &dyn Fn(&File)| {
        let crate::repo::tree::Node::Entry(entry) = node else { panic!("no entry") };
        let EntryKind::File(content) = &entry.kind else { panic!("no file") };
        let file = File::options().read(true).write(true).open(folder.path().join(name)).unwrap();
        spoil(&file);
        let scope = Scope::find(&fixture.repo, &snapshot.manifest, &[], &reading_back).unwrap();
        let target = Directory::create_target(folder.path()).unwrap();
        let run = Run::new(&fixture.repo, &reading_back, &Silent, target, &scope);
        let file: std::os::fd::OwnedFd = file.into();
        run.readback.add(&run, &path(name), std::os::fd::AsFd::as_fd(&file), content).unwrap();
        let stats = run.finish().unwrap();
        (stats.verified_files, stats.differing, stats.failed)
    };
    assert_eq!(check(&long, "d/long", &|_| {}), (1, 0, 0));
    assert_eq!(check(&long, "d/long", &|file| file.write_all_at(b"?", 123_456).unwrap()), (0, 1, 1));
    assert_eq!(check(&sparse, "sparse", &|_| {}), (1, 0, 0));
    assert_eq!(check(&sparse, "sparse", &|file| file.write_all_at(b"\0", 30 << 20).unwrap()), (1, 0, 0));
    assert_eq!(check(&sparse, "sparse", &|file| file.write_all_at(b"?", 30 << 20).unwrap()), (0, 1, 1));
    assert_eq!(check(&sparse, "sparse", &|file| file.set_len(30 << 20).unwrap()), (0, 1, 1));
}

#[test]
fn holes_cost_nothing_however_long() {
    let fixture = Fixture::new();
    let hole = 1 << 30;
    let snapshot = fixture.commit(|maker| {
        let islands = (0..100).flat_map(|_| [Err(hole), Ok(&b"island"[..])]);
        vec![maker.sparse_file("holes", islands.chain([Err(hole)]).collect())]
    });
    let folder = Folder::new();
    let reading_back = RestoreOptions { verification: Verification::ReadBack, ..options(folder.path()) };
    let stats = restore_to(&fixture, &snapshot, &reading_back);
    let length = 101 * hole + 600;
    assert_eq!(
        (stats.bytes, stats.verified_bytes, stats.failed),
        (length, length, 0),
        "{:?}",
        stats.failures
    );
    let found = fs::metadata(folder.path().join("holes")).unwrap();
    assert_eq!(found.len(), length);
    assert!(found.blocks() * 512 <= 100 * 65_536, "{} blocks", found.blocks());
}
