//! Tests of verifications as a whole: one thing in a store in memory is damaged, and must be found.

mod trust;

use super::*;
use crate::crypto::hash::ChunkKind;
use crate::format::collection::{Collection, Stage};
use crate::format::content::Content;
use crate::format::snapshot::MarkState;
use crate::format::tree::{Entry, EntryKind, Page, PageRef, TreeRef};
use crate::journal::PackState;
use crate::ops::restore::fixture::{Fixture, Maker, entry, every_kind, noise, path};
use crate::path::Name;
use crate::progress::Silent;
use crate::store::fault::{Fault, Operation};
use crate::store::key::{ObjectKey, Prefix};
use crate::store::{ObjectStore, StoreErrorKind};

const OPTIONS: VerifyOptions<'_> = VerifyOptions { threads: 2, journal: None };

fn verify_whole(fixture: &Fixture) -> VerifyStats {
    verify(&fixture.repo, Scope::All, &OPTIONS, &Silent).unwrap()
}

fn flip(bytes: &mut [u8], at: usize) {
    let at = at % bytes.len();
    bytes[at] ^= 0x40;
}

#[test]
fn a_sound_store_has_no_damage() {
    let fixture = Fixture::new();
    let snapshot = fixture.commit(every_kind);
    fixture.commit(every_kind);
    let stats = verify_whole(&fixture);
    assert_eq!(stats.damaged, []);
    assert_eq!((stats.packs, stats.snapshots), (2, 2));
    // One config object, two copies of two key slots, and of each session a mark and a snapshot; all chunks of
    // the second were known, so that it has no index object.
    assert_eq!(stats.objects, 1 + 4 + 2 * 2 + 1);
    assert!(stats.chunks > stats.frames && stats.frames > 10, "{stats:?}");
    assert!(stats.bytes_read > 250_000, "{stats:?}");

    let one = verify(&fixture.repo, Scope::Snapshot(&snapshot), &OPTIONS, &Silent).unwrap();
    assert_eq!(one.damaged, []);
    assert_eq!((one.frames, one.chunks, one.snapshots), (stats.frames, stats.chunks, 1));
}

#[test]
fn a_collection_that_does_not_open_is_found() {
    let fixture = Fixture::new();
    fixture.commit(every_kind);
    let store = fixture.repo.config().store;
    let (stage, time) = (Stage::Final, jiff::Timestamp::now());
    let collection = Collection { store, number: 3, stage, time, packs: Vec::new(), snapshots: Vec::new() };
    fixture.repo.put_collection(&collection).unwrap();
    assert_eq!(verify_whole(&fixture).damaged, []);
    fixture.tamper(&ObjectKey::gc(3, stage), |bytes| flip(bytes, 20));
    let damaged = verify_whole(&fixture).damaged;
    let objects: Vec<_> = damaged.iter().map(|damage| damage.object.as_str()).collect();
    assert_eq!(objects, ["gc/3.final"]);
}

#[test]
fn a_host_that_knows_nothing_yet_finds_a_sound_snapshot_sound() {
    let mut fixture = Fixture::new();
    let snapshot = fixture.commit(every_kind);
    fixture.reopen();
    let stats = verify(&fixture.repo, Scope::Snapshot(&snapshot), &OPTIONS, &Silent).unwrap();
    assert_eq!(stats.damaged, []);
    assert!(stats.chunks > 0, "{stats:?}");
}

#[test]
fn a_forgotten_snapshot_is_passed_over_unless_it_is_protected() {
    use MarkState::{Accepted, Forgotten, Protected, Restored, Unprotected};

    let fixture = Fixture::new();
    let id = fixture.commit(|maker| vec![maker.file("file", b"content")]).manifest.id;
    for (state, walked) in [(Forgotten, 0), (Accepted, 0), (Protected, 1), (Unprotected, 0), (Restored, 1)] {
        fixture.repo.mark(id, state).unwrap();
        let stats = verify_whole(&fixture);
        assert_eq!((stats.snapshots, stats.damaged), (walked, vec![]), "{state:?}");
    }
}

#[test]
fn what_another_host_commits_meanwhile_is_no_damage() {
    for moment in ["config/", "keys/", "index/", "sessions/", "snapshots/", "marks/", "packs/"] {
        let fixture = Fixture::new();
        fixture.commit(|maker| vec![maker.file("old", &noise(20, 9000))]);
        let mut other = Some(fixture.on_another_host());
        fixture.store.script(move |call| {
            if call.operation == Operation::List
                && call.object == moment
                && let Some(other) = other.take()
            {
                other.commit(|maker| vec![maker.file("new", &noise(21, 9000))]);
            }
            None
        });
        assert_eq!(verify_whole(&fixture).damaged, [], "committed when {moment} was listed");
        assert_eq!(fixture.keys(Prefix::Snapshots).len(), 2, "{moment} was never listed");
    }
}

#[test]
fn frames_that_left_the_index_are_not_passed_over() {
    let fixture = Fixture::new();
    let snapshot = fixture.commit(every_kind);
    let run = Run {
        repo: &fixture.repo,
        threads: 2,
        progress: &Silent,
        report: Report::default(),
        counts: Counts::default(),
        times: PackTimes::read(None, place(&fixture.repo), &Silent),
        coverage: Mutex::new(None),
        dead: HashSet::new(),
    };
    let mut walker = Walker::new(&run);
    walker.snapshot(&snapshot.manifest).unwrap();
    let frames = walker.into_frames();
    let verify_frames = || packs::verify_frames(&run, frames.clone(), &BTreeSet::new()).unwrap();
    assert_eq!(verify_frames(), Held::All);
    for key in fixture.keys(Prefix::Index) {
        fixture.memory.delete(&key).unwrap();
    }
    fixture.repo.refresh().unwrap();
    assert_eq!(verify_frames(), Held::NotAll);
}

/// Takes the list of `file` for one of another length.
fn with_length(file: &Entry, name: &str, more: u64) -> Entry {
    let EntryKind::File(Content::List { node, length }) = &file.kind else { panic!("its list is short") };
    entry(name, 0o644, EntryKind::File(Content::List { node: *node, length: length + more }))
}

#[test]
fn a_list_that_is_whole_elsewhere_must_still_have_the_length_of_its_file() {
    let fixture = Fixture::new();
    let snapshot = fixture.commit(|maker| {
        let good = maker.file("good", &noise(22, 50 * 5000));
        let (same, bad) = (with_length(&good, "good too", 0), with_length(&good, "longer", 1));
        vec![good, same, bad]
    });
    let [damage] = &verify_whole(&fixture).damaged[..] else { panic!("one list does not belong") };
    assert_eq!(damage.files, [(snapshot.manifest.id, path("longer"))]);
}

#[test]
fn what_a_page_says_of_those_below_must_be_true() {
    let name = |text: &str| Name::new(text.as_bytes()).unwrap();
    let leaf = |maker: &Maker<'_>, names: &[&str]| {
        let page = Page::Entries(names.iter().map(|name| maker.file(name, b"12345")).collect());
        let count = names.len() as u64;
        TreeRef { page: maker.page(&page), entries: count, bytes: 5 * count }
    };
    let inner = |maker: &Maker<'_>, pages: [(&str, TreeRef); 2]| {
        let [(_, first), (_, second)] = pages;
        let pages = pages.map(|(last, tree)| PageRef { last_name: name(last), tree }).to_vec();
        let page = maker.page(&Page::Pages { level: 1, pages });
        TreeRef { page, entries: first.entries + second.entries, bytes: first.bytes + second.bytes }
    };
    let fixture = Fixture::new();
    let snapshot = fixture.commit(|maker| {
        let (ab, cd, bd) = (leaf(maker, &["a", "b"]), leaf(maker, &["c", "d"]), leaf(maker, &["b", "d"]));
        let good = inner(maker, [("b", ab), ("d", cd)]);
        let directories = [
            ("good", good),
            ("last name", inner(maker, [("b", ab), ("e", cd)])),
            ("order", inner(maker, [("b", ab), ("d", bd)])),
            ("entries", inner(maker, [("b", ab), ("d", TreeRef { entries: 3, ..cd })])),
            ("bytes", inner(maker, [("b", ab), ("d", TreeRef { bytes: 11, ..cd })])),
            ("level", inner(maker, [("b", ab), ("d", good)])),
            ("topmost", TreeRef { entries: 5, ..good }),
        ];
        directories.map(|(name, tree)| entry(name, 0o755, EntryKind::Directory(tree))).to_vec()
    });
    let stats = verify_whole(&fixture);
    let mut found: Vec<_> = stats.damaged.iter().flat_map(|damage| damage.files.clone()).collect();
    found.sort();
    let expected = ["bytes", "entries", "last name", "level", "order", "topmost"];
    assert_eq!(found, expected.map(|name| (snapshot.manifest.id, path(name))), "{:#?}", stats.damaged);
}

#[test]
fn a_changed_byte_is_found_wherever_it_is() {
    let fixture = Fixture::new();
    fixture.commit(every_kind);
    for prefix in Prefix::ALL {
        for key in fixture.keys(prefix) {
            let length = usize::try_from(fixture.memory.size(&key).unwrap()).unwrap();
            for at in [0, 20, length / 3, length / 2, length - 20, length - 1] {
                fixture.tamper(&key, |bytes| flip(bytes, at));
                let damaged = verify_whole(&fixture).damaged;
                let found = damaged.iter().any(|damage| damage.object == key.as_str());
                // A key slot holds names of fields and white space that carry nothing of their own; the copies
                // are still not the same.
                assert!(found || key.as_key_slot().is_some() && !damaged.is_empty(), "{key} at {at}");
                fixture.tamper(&key, |bytes| flip(bytes, at));
            }
        }
    }
    assert_eq!(verify_whole(&fixture).damaged, []);
}

#[test]
fn a_bad_frame_names_the_files_of_every_snapshot_that_needs_it() {
    let fixture = Fixture::new();
    // So long a chunk has a frame of its own.
    let bad = noise(11, 15_000);
    let fill = |maker: &Maker<'_>| {
        let inside = vec![maker.sparse_file("bad", vec![Ok(&bad)]), maker.file("good", b"good")];
        vec![maker.directory("d", 0o755, inside), maker.file("a", b"a")]
    };
    let first = fixture.commit(fill);
    let second = fixture.commit(|maker| {
        fill(maker)
            .into_iter()
            .chain([maker.sparse_file("again", vec![Ok(&bad)]), maker.file("new", b"new")])
            .collect()
    });
    let pack = fixture.pack_of(ChunkKind::Data, &bad);
    fixture.tamper(&pack, |bytes| flip(bytes, 1000));

    let [damage] = &verify_whole(&fixture).damaged[..] else { panic!("one pack is damaged") };
    assert_eq!(damage.object, pack.as_str());
    assert!(
        damage.what.contains("its bytes do not have its hash; frame 0 cannot be read"),
        "{}",
        damage.what
    );
    let (first, second) = (first.manifest.id, second.manifest.id);
    let expected = [(first, path("d/bad")), (second, path("again")), (second, path("d/bad"))];
    let mut found = damage.files.clone();
    found.sort();
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(damage.files_touched, 3);
    let mut both = vec![first, second];
    both.sort_unstable();
    assert_eq!(damage.snapshots, both);
}

#[test]
fn one_snapshot_alone_finds_its_own_damage_and_no_other() {
    let fixture = Fixture::new();
    let (bad, good) = (noise(13, 4000), noise(14, 4000));
    let sound = fixture.commit(|maker| vec![maker.file("good", &good)]);
    let hurt = fixture.commit(|maker| vec![maker.file("bad", &bad)]);
    let pack = fixture.pack_of(ChunkKind::Data, &bad);
    fixture.tamper(&pack, |bytes| flip(bytes, 1000));
    let one = |snapshot| verify(&fixture.repo, Scope::Snapshot(snapshot), &OPTIONS, &Silent).unwrap();
    assert_eq!(one(&sound).damaged, []);
    let stats = one(&hurt);
    let [damage] = &stats.damaged[..] else { panic!("one pack is damaged") };
    assert_eq!(damage.object, pack.as_str());
    assert_eq!(damage.files, [(hurt.manifest.id, path("bad"))]);
    assert_eq!(stats.snapshots, 1);
}

/// Stores a chunk from two hosts at once; returns the snapshot of one of them and the packs that hold the chunk.
fn commit_from_two_hosts(fixture: &Fixture, content: &[u8]) -> (Snapshot, Vec<ObjectKey>) {
    let other = fixture.on_another_host();
    let snapshot = fixture.commit(|maker| {
        // The session of the one has begun: it does not learn what the other stores.
        other.commit(|maker| vec![maker.file("theirs", content)]);
        vec![maker.file("mine", content)]
    });
    let index = fixture.repo.index();
    let homes = index.homes(&fixture.repo.keys().ids().chunk_id(ChunkKind::Data, content)).unwrap();
    let packs = homes.iter().map(|home| index.pack(home.frame.pack).unwrap().unwrap().id);
    let packs: Vec<ObjectKey> = packs.map(|id| ObjectKey::pack(&id)).collect();
    assert_eq!(packs.len(), 2);
    (snapshot, packs)
}

fn assert_damaged(stats: &VerifyStats, packs: &[ObjectKey]) {
    let found: BTreeSet<&str> = stats.damaged.iter().map(|damage| damage.object.as_str()).collect();
    let expected: BTreeSet<&str> = packs.iter().map(ObjectKey::as_str).collect();
    assert_eq!(found, expected, "{:?}", stats.damaged);
}

#[test]
fn a_chunk_is_lost_only_if_it_is_bad_in_every_pack_that_holds_it() {
    let fixture = Fixture::new();
    let (snapshot, packs) = commit_from_two_hosts(&fixture, &noise(50, 4000));
    let one = || verify(&fixture.repo, Scope::Snapshot(&snapshot), &OPTIONS, &Silent).unwrap();
    let files = |stats: &VerifyStats| -> Vec<(SnapshotId, TreePath)> {
        stats.damaged.iter().flat_map(|damage| damage.files.clone()).collect()
    };
    let stats = one();
    assert_eq!((stats.packs, stats.damaged), (2, vec![]), "the pack of trees, and one for the chunk");
    fixture.tamper(&packs[0], |bytes| flip(bytes, 1000));
    let stats = one();
    assert_damaged(&stats, &packs[..1]);
    assert_eq!((stats.packs, files(&stats)), (3, vec![]), "the chunk is whole in the second");
    fixture.tamper(&packs[1], |bytes| flip(bytes, 1000));
    let stats = one();
    assert_damaged(&stats, &packs);
    assert_eq!(files(&stats), [(snapshot.manifest.id, path("mine"))]);
    assert_eq!((stats.packs, stats.snapshots), (3, 1));
}

#[test]
fn a_missing_pack_is_damage() {
    let fixture = Fixture::new();
    let content = noise(15, 4000);
    let snapshot = fixture.commit(|maker| vec![maker.file("file", &content)]);
    let pack = fixture.pack_of(ChunkKind::Data, &content);
    fixture.memory.delete(&pack).unwrap();
    let stats = verify_whole(&fixture);
    let [damage] = &stats.damaged[..] else { panic!("one pack is missing") };
    assert_eq!(
        (damage.object.as_str(), damage.what.as_str()),
        (pack.as_str(), "it is missing from the store")
    );
    assert_eq!(damage.files, [(snapshot.manifest.id, path("file"))]);
}

#[test]
fn a_lost_tree_is_named_by_its_directory() {
    let mut fixture = Fixture::new();
    let snapshot = fixture.commit(|maker| vec![maker.directory("d", 0o755, vec![maker.file("file", b"x")])]);
    let pack = ObjectKey::pack(&snapshot.manifest.tree_packs[0]);
    fixture.memory.delete(&pack).unwrap();
    fixture.reopen();
    let stats = verify_whole(&fixture);
    let damage = stats.damaged.iter().find(|damage| damage.object == pack.as_str()).unwrap();
    assert_eq!(damage.files, [(snapshot.manifest.id, path("/"))]);
}

#[test]
fn a_lost_index_object_is_found_through_its_chunks() {
    let mut fixture = Fixture::new();
    let snapshot = fixture.commit(|maker| vec![maker.file("file", b"x")]);
    for key in fixture.keys(Prefix::Index) {
        fixture.memory.delete(&key).unwrap();
    }
    fixture.reopen();
    let stats = verify_whole(&fixture);
    let [damage] = &stats.damaged[..] else { panic!("{:?}", stats.damaged) };
    assert!(damage.object.starts_with("chunk "), "{damage:?}");
    assert_eq!(damage.snapshots, [snapshot.manifest.id]);
    assert_eq!(stats.packs, 2, "packs that no index object names are verified too");
}

#[test]
fn a_lost_copy_of_a_key_slot_is_damage() {
    let fixture = Fixture::new();
    let key = fixture.keys(Prefix::Keys)[0].clone();
    fixture.memory.delete(&key).unwrap();
    let stats = verify_whole(&fixture);
    assert_eq!(stats.damaged.len(), 1);
    assert_eq!(stats.damaged[0].object, key.as_str());
}

#[test]
fn a_store_that_cannot_be_read_is_an_error_and_no_damage() {
    let fixture = Fixture::new();
    fixture.commit(every_kind);
    for (operation, prefix) in
        [(Operation::Get, "packs/"), (Operation::Get, "snapshots/"), (Operation::List, "")]
    {
        fixture.store.script(move |call| {
            (call.operation == operation && call.object.starts_with(prefix))
                .then_some(Fault::Fail(StoreErrorKind::Unavailable))
        });
        let error = verify(&fixture.repo, Scope::All, &OPTIONS, &Silent).unwrap_err();
        assert!(matches!(error, VerifyError::Repo(RepoError::Store(_))), "{error:?}");
    }
}

#[test]
fn a_read_that_is_cut_short_is_damage() {
    let fixture = Fixture::new();
    let content = noise(16, 4000);
    fixture.commit(|maker| vec![maker.file("file", &content)]);
    let pack = fixture.pack_of(ChunkKind::Data, &content).to_string();
    let object = pack.clone();
    fixture.store.script(move |call| (call.object == object).then_some(Fault::Truncate(2000)));
    let stats = verify_whole(&fixture);
    let [damage] = &stats.damaged[..] else { panic!("{:?}", stats.damaged) };
    assert_eq!(damage.object, pack);
    assert_eq!(damage.files.len(), 1);
}

/// Commits files that lie in packs of their own; returns their packs.
fn commit_packs(fixture: &Fixture, files: u64) -> Vec<ObjectKey> {
    let contents: Vec<_> = (0..files).map(|number| noise(30 + number, 4000)).collect();
    for (number, content) in contents.iter().enumerate() {
        fixture.commit(|maker| vec![maker.file(&format!("file {number}"), content)]);
    }
    contents.iter().map(|content| fixture.pack_of(ChunkKind::Data, content)).collect()
}

fn journal() -> (tempfile::TempDir, Journal) {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(&folder.path().join("journal.sqlite")).unwrap();
    (folder, journal)
}

fn sample(fixture: &Fixture, journal: &Journal, percent: u32) -> VerifyStats {
    let options = VerifyOptions { journal: Some(journal), ..OPTIONS };
    let share = Share::from_millionths(percent * 10_000).unwrap();
    verify(&fixture.repo, Scope::Sample(share), &options, &Silent).unwrap()
}

#[test]
fn samples_take_turns_until_all_packs_were_read() {
    let fixture = Fixture::new();
    commit_packs(&fixture, 5);
    let (_folder, journal) = journal();
    let mut packs_read = 0;
    for run in 0..20 {
        let stats = sample(&fixture, &journal, 5);
        let coverage = stats.coverage.unwrap();
        assert_eq!((stats.damaged, stats.snapshots, stats.packs), (vec![], 0, coverage.packs_taken));
        assert!(coverage.bytes_taken * 20 >= coverage.bytes && coverage.packs_taken < 5, "{coverage:?}");
        packs_read += stats.packs;
        assert_eq!(
            (coverage.packs, coverage.packs_never),
            (10, 10_u64.saturating_sub(packs_read)),
            "run {run}"
        );
    }
    // A whole verification counts as well.
    let before = jiff::Timestamp::now();
    let options = VerifyOptions { journal: Some(&journal), ..OPTIONS };
    let stats = verify(&fixture.repo, Scope::All, &options, &Silent).unwrap();
    let coverage = stats.coverage.unwrap();
    assert_eq!((coverage.packs_taken, coverage.packs_never), (10, 0));
    let states = journal.verified_packs(&place(&fixture.repo)).unwrap();
    // Times are kept to the millisecond.
    let is_new = |state: &PackState| state.whole.unwrap().as_millisecond() >= before.as_millisecond();
    assert!(states.len() == 10 && states.values().all(is_new));
}

#[test]
fn a_damaged_pack_is_never_taken_for_a_verified_one() {
    let fixture = Fixture::new();
    let packs = commit_packs(&fixture, 3);
    let (_folder, journal) = journal();
    assert_eq!(sample(&fixture, &journal, 100).damaged, []);
    fixture.tamper(&packs[1], |bytes| flip(bytes, 1000));
    let found =
        (0..20).map(|_| sample(&fixture, &journal, 20)).find(|stats| !stats.damaged.is_empty()).unwrap();
    assert_eq!(found.damaged[0].object, packs[1].as_str());
    assert_eq!(found.damaged[0].files.len(), 1, "what it touches is named");
    assert_eq!(found.snapshots, 3, "every snapshot was walked for that");
    // From now on it is in every sample, and keeps no other pack from its turn.
    let before = jiff::Timestamp::now();
    for _ in 0..20 {
        let stats = sample(&fixture, &journal, 5);
        assert_eq!(stats.damaged.len(), 1);
        assert!((2..5).contains(&stats.packs), "{stats:?}");
    }
    let is_old = |state: &PackState| state.whole.unwrap().as_millisecond() < before.as_millisecond();
    let states = journal.verified_packs(&place(&fixture.repo)).unwrap();
    assert_eq!((states.len(), states.values().filter(|state| is_old(state)).count()), (6, 1));
    fixture.tamper(&packs[1], |bytes| flip(bytes, 1000));
    assert_eq!(sample(&fixture, &journal, 5).damaged, []);
}

#[test]
fn a_sample_tells_what_is_lost_though_it_is_held_by_packs_that_had_no_turn() {
    let fixture = Fixture::new();
    let (_, packs) = commit_from_two_hosts(&fixture, &noise(51, 4000));
    let (_folder, journal) = journal();
    for pack in &packs {
        fixture.tamper(pack, |bytes| flip(bytes, 1000));
    }
    let found =
        (0..4).map(|_| sample(&fixture, &journal, 1)).find(|stats| !stats.damaged.is_empty()).unwrap();
    assert_eq!((found.coverage.unwrap().packs_taken, found.packs), (1, 2));
    assert_damaged(&found, &packs);
    assert_eq!(found.damaged.iter().map(|damage| damage.files_touched).sum::<u64>(), 2);
    // The other pack is in every sample from now on as well.
    let states = journal.verified_packs(&place(&fixture.repo)).unwrap();
    assert_eq!(states.values().filter(|state| state.is_suspect).count(), 2);
}

#[test]
fn a_pack_that_the_store_fails_to_read_keeps_no_other_from_its_turn() {
    let fixture = Fixture::new();
    let packs = commit_packs(&fixture, 3);
    let (_folder, journal) = journal();
    let bad = packs[1].to_string();
    fixture.store.script(move |call| {
        (call.operation == Operation::Get && call.object == bad)
            .then_some(Fault::Fail(StoreErrorKind::Unavailable))
    });
    let options = VerifyOptions { threads: 1, journal: Some(&journal) };
    for _ in 0..20 {
        let share = Share::from_millionths(50_000).unwrap();
        let _ = verify(&fixture.repo, Scope::Sample(share), &options, &Silent);
    }
    let states = journal.verified_packs(&place(&fixture.repo)).unwrap();
    let bad = PackState { whole: None, is_suspect: true };
    assert_eq!(states.values().filter(|state| **state == bad).count(), 1);
    assert_eq!(states.values().filter(|state| state.whole.is_some()).count(), 5);
}

#[test]
fn what_lists_alone_tell_is_in_every_sample() {
    let fixture = Fixture::new();
    let packs = commit_packs(&fixture, 4);
    let (_folder, journal) = journal();
    fixture.memory.delete(&packs[0]).unwrap();
    fixture.tamper(&packs[1], |bytes| bytes.truncate(2000));
    let stats = sample(&fixture, &journal, 1);
    let mut objects: Vec<_> = stats.damaged.iter().map(|damage| damage.object.as_str()).collect();
    objects.sort_unstable();
    let mut expected = [packs[0].as_str(), packs[1].as_str()];
    expected.sort_unstable();
    assert_eq!(objects, expected);
    assert_eq!(stats.coverage.unwrap().packs, 7);
}

#[test]
fn packs_that_are_gone_are_forgotten() {
    let fixture = Fixture::new();
    let packs = commit_packs(&fixture, 2);
    let (_folder, journal) = journal();
    sample(&fixture, &journal, 100);
    let place = place(&fixture.repo);
    assert_eq!(journal.verified_packs(&place).unwrap().len(), 4);
    fixture.memory.delete(&packs[0]).unwrap();
    for key in fixture.keys(Prefix::Index) {
        fixture.memory.delete(&key).unwrap();
    }
    sample(&fixture, &journal, 100);
    assert_eq!(journal.verified_packs(&place).unwrap().len(), 3);
}

#[test]
fn a_pack_of_many_pieces_is_read_whole() {
    let mut fixture = Fixture::new();
    let content = noise(40, 11 << 20);
    let snapshot = fixture.commit(|maker| vec![maker.file("large", &content), maker.file("x", b"x")]);
    let pack = fixture.pack_of(ChunkKind::Data, &content[..5000]);
    let stats = verify_whole(&fixture);
    assert_eq!(stats.damaged, []);
    let mut bytes = 0;
    for prefix in Prefix::ALL {
        fixture.memory.list(prefix, &mut |object| bytes += object.bytes.unwrap()).unwrap();
    }
    assert_eq!(stats.bytes_read, bytes);
    // One byte of a frame that spans two pieces, one at the very end, and one that only the hash of the pack covers
    // once the index is known.
    let length = fixture.memory.get(&pack, None).unwrap().len();
    for at in [4 << 20, (8 << 20) - 1, length - 1, 3] {
        fixture.tamper(&pack, |bytes| bytes[at] ^= 1);
        let stats = verify_whole(&fixture);
        let [damage] = &stats.damaged[..] else { panic!("{at}: {:?}", stats.damaged) };
        assert_eq!(damage.object, pack.as_str());
        assert!(damage.what.starts_with("its bytes do not have its hash"), "{at}: {}", damage.what);
        let is_in_a_frame = at > 1000 && at < length - 100_000;
        assert_eq!(damage.files_touched, u64::from(is_in_a_frame), "{at}");
        fixture.tamper(&pack, |bytes| bytes[at] ^= 1);
    }
    fixture.tamper(&pack, |bytes| bytes.truncate(5 << 20));
    let stats = verify_whole(&fixture);
    assert!(stats.damaged[0].what.contains("bytes long, but was"), "{:?}", stats.damaged);
    // The small file lies behind the large one.
    let id = snapshot.manifest.id;
    assert_eq!(stats.damaged[0].files, [(id, path("large")), (id, path("x"))]);
    // Without the index nothing but the pack itself tells what is in it.
    for key in fixture.keys(Prefix::Index) {
        fixture.memory.delete(&key).unwrap();
    }
    fixture.reopen();
    assert!(verify_whole(&fixture).damaged.iter().any(|damage| damage.object == pack.as_str()));
}
