//! Delta frames as sessions write them, and what makes one go without.

use super::*;
use crate::format::frame::Encoding;
use crate::format::frame::FrameEntry;
use crate::store::fault::Call;

/// Rows of text, each of its own version.
fn versions(of: impl Fn(usize) -> u64) -> Vec<u8> {
    let mut text = Vec::new();
    for row in 0..2000_usize {
        let hash = blake3::hash(format!("{row} of {}", of(row)).as_bytes()).to_hex();
        text.extend_from_slice(format!("{row}\t{hash}\tsome words that stand in each row\n").as_bytes());
    }
    text
}

/// Rows of text, of which `changed` differ from those of every other version.
fn rows(version: u64, changed: impl Fn(usize) -> bool) -> Vec<u8> {
    versions(|row| if changed(row) { version } else { 0 })
}

/// Rows of text of which each night changes 20, other ones each time.
fn night(number: u64) -> Vec<u8> {
    versions(|row| {
        (1..=number).rev().find(|night| (row as u64 + 41 * night).is_multiple_of(100)).unwrap_or(0)
    })
}

/// Adds chunks in a session of their own and commits it.
fn commit_all(repo: &Repository, deltas: Deltas, chunks: &[(ChunkKind, &[u8])]) -> SessionStats {
    let options = SessionOptions { deltas, ..SessionOptions::new("test") };
    let session = SessionWriter::open(repo, options).unwrap();
    for (kind, plain) in chunks {
        session.add(*kind, plain).unwrap();
    }
    let prepared = manifest(&session, repo);
    session.commit(prepared).unwrap().1
}

fn entry_of(repo: &Repository, kind: ChunkKind, plain: &[u8]) -> FrameEntry {
    let home = repo.index().homes(&repo.keys().ids().chunk_id(kind, plain)).unwrap()[0];
    repo.index().frame(home.frame).unwrap().unwrap().entry
}

/// Reads chunks with nothing in any cache.
fn must_come_back(test: &mut TestStore, chunks: impl IntoIterator<Item = impl AsRef<[u8]>>) {
    let cold = test.open_cold();
    cold.refresh().unwrap();
    for chunk in chunks {
        let id = cold.keys().ids().chunk_id(ChunkKind::Data, chunk.as_ref());
        assert!(&*cold.chunk(ChunkKind::Data, &id).unwrap() == chunk.as_ref());
    }
}

fn is_delta(entry: &FrameEntry) -> bool {
    matches!(entry.encoding, Encoding::Delta { .. })
}

#[test]
fn what_resembles_a_stored_frame_is_stored_as_its_difference() {
    let mut test = TestStore::new();
    let repo = test.open();
    let (first, second) = (rows(1, |_| false), rows(2, |row| row % 200 == 7));
    let stats = commit_all(&repo, Deltas::WherePays, &[(ChunkKind::Data, &first)]);
    assert_eq!(stats.deltas, DeltaStats::default());
    let alone = stats.stored_bytes;
    let stats = commit_all(&repo, Deltas::WherePays, &[(ChunkKind::Data, &second)]);
    assert_eq!((stats.deltas.frames, stats.deltas.plain_bytes), (1, second.len() as u64));
    assert!(stats.deltas.stored_bytes < 2000, "{stats:?}");
    assert!(stats.deltas.alone_bytes > 50 * 1024 && stats.stored_bytes * 10 < alone, "{stats:?}");
    let base = entry_of(&repo, ChunkKind::Data, &first);
    assert!(base.features.is_some() && !is_delta(&base));
    let delta = entry_of(&repo, ChunkKind::Data, &second);
    assert!(delta.features.is_some() && is_delta(&delta), "it is a base for the next");
    must_come_back(&mut test, [&second]);
}

/// Returns how many deltas lead to the beginning of a chunk's chain.
fn chain_of(repo: &Repository, plain: &[u8]) -> u8 {
    let mut entry = entry_of(repo, ChunkKind::Data, plain);
    let mut deltas = 0;
    while let Encoding::Delta { base } = entry.encoding {
        let id = base.frames().next().unwrap();
        let frame = repo.index().frames_by_id(&id).unwrap()[0];
        entry = repo.index().frame(frame).unwrap().unwrap().entry;
        deltas += 1;
    }
    deltas
}

/// Each delta of a chain makes the last one slower to read, so that sessions end them; readers follow them all.
#[test]
fn a_series_of_nights_has_chains_that_end() {
    let mut test = TestStore::new();
    let repo = test.open();
    let nights: Vec<Vec<u8>> = (0..24).map(night).collect();
    let mut stored = Vec::new();
    for version in &nights {
        let stats = commit_all(&repo, Deltas::WherePays, &[(ChunkKind::Data, version)]);
        assert_eq!(stats.deltas.frames, u64::from(!stored.is_empty()));
        stored.push(stats.deltas.stored_bytes);
    }
    let chains: Vec<u8> = nights.iter().map(|version| chain_of(&repo, version)).collect();
    assert_eq!(chains.iter().max(), Some(&5), "{chains:?}");
    assert!(chains.iter().filter(|chain| **chain == 1).count() <= 4, "{chains:?}");
    // The last night differs from the first in 23 times as many rows as from the one before.
    let (first, last) = (stored[1], stored[12..].iter().sum::<u64>() / 12);
    assert!(last < 8 * first, "{stored:?}");
    must_come_back(&mut test, &nights);
}

/// What cannot be compressed and changes ever more: the deltas of a chain may grow, up to where readers refuse them.
#[test]
fn no_delta_takes_more_than_the_frame_alone() {
    let mut test = TestStore::new();
    let repo = test.open();
    let mut noise = vec![0; 200_000];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    let mut nights = vec![noise];
    for (number, percent) in [(1, 20), (2, 35), (3, 60), (4, 90), (5, 99)] {
        let mut night = nights[nights.len() - 1].clone();
        // One end stays, so that features do.
        let changed = night.len() * percent / 100;
        blake3::Hasher::new().update(&[number]).finalize_xof().fill(&mut night[..changed]);
        nights.push(night);
    }
    for night in &nights {
        commit_all(&repo, Deltas::WherePays, &[(ChunkKind::Data, night)]);
        let entry = entry_of(&repo, ChunkKind::Data, night);
        assert!(entry.stored_length as usize <= night.len() + 16);
    }
    must_come_back(&mut test, &nights);
}

/// The chunks at the end of a file go with those that wait of its middle, and whole files share their own frames.
#[test]
fn a_file_leaves_nothing_behind_in_the_frames_of_others() {
    let test = TestStore::new();
    let repo = test.open();
    let session = SessionWriter::open(&repo, SessionOptions::new("test")).unwrap();
    let [middle, end, other] = [b"middle", &b"end"[..], b"another file"].map(|text| text.repeat(1000));
    session.add_inner(&middle).unwrap();
    session.add(ChunkKind::Data, &end).unwrap();
    session.add(ChunkKind::Data, &other).unwrap();
    let prepared = manifest(&session, &repo);
    session.commit(prepared).unwrap();
    let frame_of = |plain: &[u8]| {
        repo.index().homes(&repo.keys().ids().chunk_id(ChunkKind::Data, plain)).unwrap()[0].frame
    };
    assert_eq!(frame_of(&middle), frame_of(&end));
    assert_ne!(frame_of(&end), frame_of(&other));
}

/// Another session on this host may have stored the same frame meanwhile.
#[test]
fn no_frame_stands_on_itself() {
    let test = TestStore::new();
    let (first, second) = (test.open(), test.open());
    let chunk = night(0);
    let one = SessionWriter::open(&first, SessionOptions::new("test")).unwrap();
    let other = SessionWriter::open(&second, SessionOptions::new("test")).unwrap();
    // It looks before the first one is committed, and encodes after that.
    let small = vec![7; 100];
    other.add_inner(&small).unwrap();
    other.add_inner(&chunk[..100_000]).unwrap();
    one.add_inner(&small).unwrap();
    one.add_inner(&chunk[..100_000]).unwrap();
    let prepared = manifest(&one, &first);
    one.commit(prepared).unwrap();
    second.refresh().unwrap();
    let prepared = manifest(&other, &second);
    let (_, stats) = other.commit(prepared).unwrap();
    assert_eq!((stats.new_chunks, stats.deltas.frames), (2, 0));
}

/// A frame that is cut at other places than those that are stored is the difference to two neighbours.
#[test]
fn what_lies_across_two_stored_frames_is_their_difference() {
    let mut test = TestStore::new();
    let repo = test.open();
    let all = [rows(1, |_| true), rows(2, |_| true), rows(3, |_| true), rows(4, |_| true)].concat();
    let quarter = all.len() / 4;
    let add = |cuts: &[usize]| {
        let session = SessionWriter::open(&repo, SessionOptions::new("test")).unwrap();
        for ends in cuts.windows(2) {
            session.add_inner(&all[ends[0]..ends[1]]).unwrap();
        }
        let prepared = manifest(&session, &repo);
        session.commit(prepared).unwrap().1
    };
    add(&[0, quarter, 2 * quarter, 3 * quarter, all.len()]);
    // The first one resembles a stored frame, and the others lie where it leads.
    let cuts = [0, quarter * 21 / 20, quarter * 3 / 2, quarter * 5 / 2, all.len()];
    let stats = add(&cuts);
    let middle = &all[cuts[2]..cuts[3]];
    assert_eq!(stats.deltas.frames, 4, "{stats:?}");
    let Encoding::Delta { base } = entry_of(&repo, ChunkKind::Data, middle).encoding else {
        panic!("no delta")
    };
    assert_eq!(base.frames().count(), 2);
    must_come_back(&mut test, [middle]);
}

/// Where the store is far away, a base is one that lies near: fetching others takes longer than they save.
#[test]
fn bases_for_a_distant_store_come_from_the_copies_kept_here() {
    let versions: Vec<Vec<u8>> = (0..3).map(|night| rows(night, |row| row % 300 == 11)).collect();
    let mut test = TestStore::new();
    test.base_cache_bytes = Some(64 << 20);
    let faulty = Arc::new(FaultStore::new(Arc::clone(&test.store) as Arc<dyn ObjectStore>));
    faulty.script(|call: &Call| {
        let reads_pack = call.operation == Operation::Get && call.object.starts_with("packs/");
        reads_pack.then_some(Fault::Fail(StoreErrorKind::Unavailable))
    });
    let deltas = |test: &TestStore, version: &[u8]| {
        let repo = test.open_through(Arc::clone(&faulty) as Arc<dyn ObjectStore>);
        commit_all(&repo, Deltas::WherePays, &[(ChunkKind::Data, version)]).deltas.frames
    };
    assert_eq!(versions.iter().map(|version| deltas(&test, version)).collect::<Vec<_>>(), [0, 1, 1]);
    // Without room for copies there is nothing near, and nothing is asked of the store.
    test.base_cache_bytes = Some(0);
    let reads = faulty.calls().iter().filter(|call| call.object.starts_with("packs/")).count();
    assert_eq!(deltas(&test, &rows(9, |row| row % 300 == 11)), 0);
    let later = faulty.calls().iter().filter(|call| call.object.starts_with("packs/")).count();
    assert_eq!(later - reads, 1, "one pack was written, and none read");
}

/// A series that drifts away from its base begins a new one by itself.
#[test]
fn a_delta_that_does_not_pay_becomes_the_next_base() {
    let test = TestStore::new();
    let repo = test.open();
    let (first, second) = (rows(1, |_| false), rows(2, |row| row > 600));
    // The same beginning, so that features of it may be the same, but most is new.
    commit_all(&repo, Deltas::WherePays, &[(ChunkKind::Data, &first)]);
    let stats = commit_all(&repo, Deltas::WherePays, &[(ChunkKind::Data, &second)]);
    assert_eq!(stats.deltas.frames, 0);
    assert!(entry_of(&repo, ChunkKind::Data, &second).features.is_some());
    let stats = commit_all(&repo, Deltas::WherePays, &[(ChunkKind::Data, &rows(2, |row| row > 602))]);
    assert_eq!(stats.deltas.frames, 1);
}

#[test]
fn metadata_is_stored_whole() {
    let test = TestStore::new();
    let repo = test.open();
    let (first, second) = (rows(1, |_| false), rows(2, |row| row == 7));
    for kind in [ChunkKind::Tree, ChunkKind::List] {
        commit_all(&repo, Deltas::WherePays, &[(kind, &first)]);
        let stats = commit_all(&repo, Deltas::WherePays, &[(kind, &second)]);
        assert_eq!(stats.deltas, DeltaStats::default());
        assert_eq!(entry_of(&repo, kind, &second).features, None);
    }
}

#[test]
fn deltas_can_be_left_off() {
    let test = TestStore::new();
    let repo = test.open();
    let versions: Vec<Vec<u8>> = (0..3).map(|night| rows(night, |row| row % 300 == 11)).collect();
    commit_all(&repo, Deltas::Never, &[(ChunkKind::Data, &versions[0])]);
    assert_eq!(entry_of(&repo, ChunkKind::Data, &versions[0]).features, None);
    commit_all(&repo, Deltas::WherePays, &[(ChunkKind::Data, &versions[1])]);
    let stats = commit_all(&repo, Deltas::Never, &[(ChunkKind::Data, &versions[2])]);
    assert_eq!(stats.deltas, DeltaStats::default());
    assert!(!is_delta(&entry_of(&repo, ChunkKind::Data, &versions[2])));
}

/// The old backup may be damaged; tonight's must not depend on that.
#[test]
fn a_base_that_cannot_be_read_is_passed_over() {
    let mut test = TestStore::new();
    let (first, second) = (rows(1, |_| false), rows(2, |row| row == 7));
    commit_all(&test.open(), Deltas::WherePays, &[(ChunkKind::Data, &first)]);
    let faulty = Arc::new(FaultStore::new(Arc::clone(&test.store) as Arc<dyn ObjectStore>));
    faulty.script(|call: &Call| {
        let reads_pack = call.operation == Operation::Get && call.object.starts_with("packs/");
        reads_pack.then_some(Fault::Fail(StoreErrorKind::NotFound))
    });
    let repo = test.open_through(Arc::clone(&faulty) as Arc<dyn ObjectStore>);
    let stats = commit_all(&repo, Deltas::WherePays, &[(ChunkKind::Data, &second)]);
    assert_eq!(stats.deltas, DeltaStats::default());
    must_come_back(&mut test, [&second]);
}
