//! The walk over many snapshots, held against naive lists of each.

use std::collections::BTreeMap;

use proptest::collection::{btree_map as random_map, btree_set, vec};
use proptest::prelude::{BoxedStrategy, Just, Strategy, prop_oneof};
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::format::tree::Attributes;
use crate::ops::compare::{MetadataScope, compare};
use crate::ops::diff::{DiffOptions, Difference, diff};
use crate::ops::find::{FindOptions, WantedKind, find};
use crate::ops::list::{Recursion, list};
use crate::ops::restore::fixture::{Fixture, Maker, entry, path, with_xattr};
use crate::store::fault::Operation;

/// Runs of each property; every one makes a store.
const CASES: u32 = 16;

/// Damages the frame that holds a directory, and opens the store anew.
pub(in crate::ops) fn break_tree(fixture: &mut Fixture, tree: &TreeRef) {
    let home = fixture.repo.index().homes(&tree.page).unwrap()[0];
    let record = fixture.repo.index().frame(home.frame).unwrap().unwrap();
    let at = usize::try_from(record.offset).unwrap();
    fixture.tamper(&crate::store::key::ObjectKey::pack(&record.pack.id), |bytes| bytes[at] ^= 1);
    fixture.reopen();
}

/// A directory to be made: modes and what stands there, by name.
type Model = BTreeMap<u8, (u16, Thing)>;

#[derive(Debug, Clone)]
enum Thing {
    File(u8),
    Link(u8),
    Fifo,
    Directory(Model),
}

/// Few names and contents, so that trees have much in common and little the same.
fn any_tree() -> BoxedStrategy<Model> {
    let leaf =
        prop_oneof![(0_u8..3).prop_map(Thing::File), (0_u8..2).prop_map(Thing::Link), Just(Thing::Fifo)];
    let named = |thing: BoxedStrategy<Thing>| {
        let mode = prop_oneof![4 => Just(0o644_u16), 1 => Just(0o600)];
        random_map(0_u8..5, (mode, thing), 0..5)
    };
    let thing =
        leaf.prop_recursive(3, 30, 5, move |inner| named(inner.boxed()).prop_map(Thing::Directory).boxed());
    named(thing.boxed()).boxed()
}

fn make(maker: &Maker<'_>, model: &Model) -> Vec<Entry> {
    let thing = |(name, (mode, thing)): (&u8, &(u16, Thing))| {
        let name = format!("n{name}");
        let made = match thing {
            Thing::File(content) => maker.file(&name, &[*content; 9]),
            Thing::Link(target) => entry(&name, 0, EntryKind::Symlink(vec![b'a' + target])),
            Thing::Fifo => entry(&name, 0, EntryKind::Fifo),
            Thing::Directory(below) => maker.directory(&name, 0, make(maker, below)),
        };
        Entry { attributes: Attributes { mode: *mode, ..made.attributes.clone() }, ..made }
    };
    model.iter().map(thing).collect()
}

fn naive(fixture: &Fixture, snapshot: &Snapshot) -> BTreeMap<TreePath, Entry> {
    list(&fixture.repo, snapshot, &TreePath::root(), Recursion::All).unwrap().map(Result::unwrap).collect()
}

/// Holds the walk and the search against the list of each snapshot.
fn check_walk(fixture: &Fixture, snapshots: &[Snapshot]) {
    let expected: Vec<_> = snapshots.iter().map(|snapshot| naive(fixture, snapshot)).collect();
    let mut walked: Vec<BTreeMap<TreePath, Entry>> = vec![BTreeMap::new(); snapshots.len()];
    let mut last = TreePath::root();
    for found in Walk::open(&fixture.repo, snapshots, &TreePath::root(), Visit::All).unwrap() {
        let found = found.unwrap();
        assert!(last < found.path(), "{last} comes before {}", found.path());
        last = found.path();
        for (position, variant) in found
            .variants
            .iter()
            .flat_map(|variant| variant.snapshots.positions().map(move |at| (at, variant)))
        {
            assert!(walked[position].insert(found.path(), variant.entry.clone()).is_none());
        }
    }
    assert_eq!(walked, expected);
    for kinds in [vec![], vec![WantedKind::File], vec![WantedKind::Directory, WantedKind::Fifo]] {
        check_find(fixture, snapshots, &expected, kinds);
    }
}

fn check_find(
    fixture: &Fixture,
    snapshots: &[Snapshot],
    lists: &[BTreeMap<TreePath, Entry>],
    kinds: Vec<WantedKind>,
) {
    let is_wanted = |entry: &Entry| match entry.kind {
        EntryKind::File(_) => kinds.is_empty() || kinds.contains(&WantedKind::File),
        EntryKind::Symlink(_) => kinds.is_empty(),
        _ => !kinds.contains(&WantedKind::File),
    };
    let mut expected: BTreeMap<(TreePath, usize), Entry> = BTreeMap::new();
    for (position, list) in lists.iter().enumerate() {
        let wanted = list.iter().filter(|(_, entry)| is_wanted(entry));
        expected.extend(wanted.map(|(path, entry)| ((path.clone(), position), entry.clone())));
    }
    let options = FindOptions { kinds: kinds.clone(), ..FindOptions::default() };
    for found in find(&fixture.repo, snapshots, &options).unwrap() {
        let found = found.unwrap();
        for version in &found.versions {
            for position in version.snapshots.positions() {
                let entry = expected.remove(&(found.path.clone(), position)).unwrap();
                let ids = fixture.repo.keys().ids();
                assert_eq!(compare(ids, &entry, &version.entry, MetadataScope::Usual), []);
            }
        }
    }
    assert!(expected.is_empty(), "not found: {expected:?}");
}

/// Holds a diff against the lists of both snapshots.
fn check_diff(fixture: &Fixture, pair: &[Snapshot; 2], metadata: MetadataScope) {
    let (before, after) = (naive(fixture, &pair[0]), naive(fixture, &pair[1]));
    let mut expected: BTreeMap<TreePath, (Option<Entry>, Option<Entry>)> = BTreeMap::new();
    for path in before.keys().chain(after.keys()) {
        let (before, after) = (before.get(path).cloned(), after.get(path).cloned());
        let is_same = matches!((&before, &after), (Some(before), Some(after))
            if compare(fixture.repo.keys().ids(), before, after, metadata).is_empty());
        if !is_same {
            expected.insert(path.clone(), (before, after));
        }
    }
    let options = DiffOptions { path: TreePath::root(), metadata };
    let found: Vec<Difference> = diff(&fixture.repo, pair, &options).unwrap().map(Result::unwrap).collect();
    assert!(found.is_sorted_by(|one, other| one.path < other.path));
    let found: BTreeMap<_, _> =
        found.into_iter().map(|found| (found.path, (found.before, found.after))).collect();
    assert_eq!(found, expected);
}

fn check_all(fixture: &Fixture, snapshots: &[Snapshot]) {
    check_walk(fixture, snapshots);
    for pair in snapshots.windows(2) {
        let pair = [pair[0].clone(), pair[1].clone()];
        for metadata in [MetadataScope::Nothing, MetadataScope::Usual, MetadataScope::Everything] {
            check_diff(fixture, &pair, metadata);
        }
    }
    let same = [snapshots[0].clone(), snapshots[0].clone()];
    check_diff(fixture, &same, MetadataScope::Everything);
}

fn run<S: Strategy>(strategy: &S, test: impl Fn(S::Value)) {
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let tested = TestRunner::new(config).run(strategy, |value| {
        test(value);
        Ok(())
    });
    tested.unwrap();
}

#[test]
fn small_trees_are_as_their_lists() {
    run(&vec(any_tree(), 2..5), |models| {
        let fixture = Fixture::new();
        let snapshots: Vec<_> =
            models.iter().map(|model| fixture.commit(|maker| make(maker, model))).collect();
        check_all(&fixture, &snapshots);
    });
}

/// Makes a directory of many pages without the names in `absent`, and with other modes for those in `changed`.
///
/// The first entries are so large that their pages end where they are full: there, versions come to their next
/// pages at different names.
fn wide(names: u16, absent: &[u16], changed: &[u16]) -> Vec<Entry> {
    let make = |number: u16| {
        let mode = if changed.contains(&number) { 0o600 } else { 0o644 };
        let made = entry(&format!("name {number:05}"), mode, EntryKind::Fifo);
        if number < 150 { with_xattr(made, "user.large", &[b'x'; 3000]) } else { made }
    };
    (0..names).filter(|number| !absent.contains(number)).map(make).collect()
}

#[test]
fn wide_directories_are_as_their_lists() {
    const NAMES: u16 = 600;
    let few = || btree_set(0..NAMES, 0..4);
    let range = (0..NAMES, 0_u16..400).prop_map(|(start, length)| start..(start + length).min(NAMES));
    let version = (few(), few(), prop_oneof![3 => Just(0..0), 1 => range]);
    run(&vec(version, 2..5), |versions| {
        let fixture = Fixture::new();
        let snapshots: Vec<_> = versions
            .into_iter()
            .map(|(absent, changed, range)| {
                let absent: Vec<u16> = absent.into_iter().chain(range).collect();
                let changed: Vec<u16> = changed.into_iter().collect();
                fixture.commit(|_| wide(NAMES, &absent, &changed))
            })
            .collect();
        check_all(&fixture, &snapshots);
    });
}

#[test]
fn what_did_not_change_is_read_once() {
    // Fewer than 16, as the files below: a directory has one page then, whatever the keys of the store.
    const DIRECTORIES: usize = 15;
    const SNAPSHOTS: usize = 50;
    let mut fixture = Fixture::new();
    let commit = |changed: Option<usize>| {
        fixture.commit(|maker| {
            let directory = |number| {
                let content =
                    if changed == Some(number) { format!("new {number}") } else { "old".to_owned() };
                let files = (0..14).map(|file| maker.file(&format!("f{file}"), b"same"));
                let files = files.chain([maker.file("file", content.as_bytes())]).collect();
                maker.directory(&format!("d{number:02}"), 0o755, files)
            };
            (0..DIRECTORIES).map(directory).collect()
        })
    };
    // Each snapshot has one file of its own, and differs from all others in it.
    let mut snapshots = vec![commit(None)];
    snapshots.extend((1..SNAPSHOTS).map(|number| {
        let number = number % DIRECTORIES;
        commit(Some(number))
    }));
    fixture.reopen();
    fixture.repo.refresh().unwrap();
    fixture.store.clear_calls();
    let options = FindOptions::default();
    let mut finder = find(&fixture.repo, &snapshots, &options).unwrap();
    let paths = finder.by_ref().map(Result::unwrap).count();
    assert_eq!(paths, DIRECTORIES * 16);
    // The root of each distinct tree, every directory once, and the changed version of each.
    let distinct_roots = 1 + DIRECTORIES;
    assert_eq!(finder.stats().pages_read, u64::try_from(distinct_roots + 2 * DIRECTORIES).unwrap());
    let reads = fixture.store.count(Operation::Get);
    assert!(reads <= 2 * distinct_roots, "{reads} reads");
}

#[test]
fn what_two_snapshots_share_is_not_read() {
    const NAMES: u16 = 5000;
    let fixture = Fixture::new();
    let pair = [fixture.commit(|_| wide(NAMES, &[], &[])), fixture.commit(|_| wide(NAMES, &[1234], &[4321]))];
    let options = DiffOptions { path: TreePath::root(), metadata: MetadataScope::Usual };
    let mut found = diff(&fixture.repo, &pair, &options).unwrap();
    let paths: Vec<_> = found.by_ref().map(|found| found.unwrap().path.to_string()).collect();
    assert_eq!(paths, ["/name 01234", "/name 04321"]);
    let pages = found.stats().pages_read;
    assert!(pages <= 10, "{pages} pages were read");
}

/// Commits two snapshots with a directory `d` each, of which the second's alone can be damaged.
fn with_damage() -> (Fixture, [Snapshot; 2]) {
    let mut fixture = Fixture::new();
    let tree = |maker: &Maker<'_>, content: &[u8], rest: Vec<Entry>| {
        let files = vec![maker.file("a", content), maker.file("b", b"same")];
        let mut entries = rest;
        entries.push(maker.directory("d", 0o755, files));
        entries
    };
    // Pages that are stored already are not stored again, so the damaged one lies apart.
    let apart = fixture.commit(|maker| tree(maker, b"two", Vec::new()));
    let other = |mode| entry("z", mode, EntryKind::Fifo);
    let pair = [
        fixture.commit(|maker| tree(maker, b"one", vec![other(0o644)])),
        fixture.commit(|maker| tree(maker, b"two", vec![other(0o600)])),
    ];
    break_tree(&mut fixture, &apart.manifest.root);
    (fixture, pair)
}

#[test]
fn damage_in_one_version_hides_no_other() {
    let (fixture, pair) = with_damage();
    let walked: Vec<_> = Walk::open(&fixture.repo, &pair, &TreePath::root(), Visit::All).unwrap().collect();
    let shown: Vec<String> = walked
        .iter()
        .map(|found| match found {
            Ok(found) => format!("{} {}", found.path(), found.variants.len()),
            Err(error) => error.to_string(),
        })
        .collect();
    let damage = format!("cannot read /d of snapshot {}", pair[1].manifest.id.short());
    assert_eq!(shown, ["/d 2", &damage, "/d/a 1", "/d/b 1", "/z 2"]);
}

#[test]
fn what_cannot_be_compared_is_not_called_removed() {
    let (fixture, pair) = with_damage();
    let options = DiffOptions { path: TreePath::root(), metadata: MetadataScope::Usual };
    let found: Vec<_> = diff(&fixture.repo, &pair, &options).unwrap().collect();
    assert!(matches!(&found[0], Err(VersionsError::Damaged { path: at, .. }) if *at == path("d")));
    assert_eq!(found[1].as_ref().unwrap().path, path("z"));
    assert_eq!(found.len(), 2);
    let below = DiffOptions { path: path("d/a"), ..options };
    let error = diff(&fixture.repo, &pair, &below).err().unwrap();
    assert!(matches!(error, VersionsError::Damaged { .. }), "{error}");
}

#[test]
fn a_store_that_cannot_be_reached_is_no_damage() {
    use crate::store::StoreErrorKind;
    use crate::store::fault::Fault;
    let mut fixture = Fixture::new();
    let snapshots = [fixture.commit(|_| wide(3, &[], &[]))];
    fixture.reopen();
    fixture.repo.refresh().unwrap();
    fixture.store.script(|call| {
        (call.operation == Operation::Get).then_some(Fault::Fail(StoreErrorKind::Unavailable))
    });
    let mut walk = Walk::open(&fixture.repo, &snapshots, &TreePath::root(), Visit::All).unwrap();
    assert!(matches!(walk.next(), Some(Err(VersionsError::Repo(_)))));
}

#[test]
fn places_know_every_variant() {
    let fixture = Fixture::new();
    let commit = |content: Option<&[u8]>| {
        fixture.commit(|maker| {
            let file = content.map(|content| maker.file("file", content));
            vec![maker.directory("d", 0o755, file.into_iter().collect())]
        })
    };
    let snapshots = [commit(Some(b"1")), commit(None), commit(Some(b"2")), commit(Some(b"1"))];
    let place = Place::find(&fixture.repo, &snapshots, &path("d/file")).unwrap();
    let sets: Vec<Vec<usize>> =
        place.variants.iter().map(|variant| variant.snapshots.positions().collect()).collect();
    assert_eq!(sets, [vec![0, 3], vec![2]]);
    assert!(!place.is_nowhere());
    assert!(Place::find(&fixture.repo, &snapshots, &path("d/file/x")).unwrap().is_nowhere());
    let by_path: BTreeMap<_, _> = Walk::open(&fixture.repo, &snapshots, &path("d"), Visit::All)
        .unwrap()
        .map(|found| found.map(|found| (found.path(), found.variants.len())).unwrap())
        .collect();
    assert_eq!(by_path, [(path("d"), 3), (path("d/file"), 2)].into());
}
