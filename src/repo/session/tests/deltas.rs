//! Delta frames as sessions write them, and what makes one go without.

use super::*;
use crate::format::frame::Encoding;
use crate::format::frame::FrameEntry;
use crate::store::fault::Call;

/// Rows of text, of which `changed` differ from those of every other version.
fn rows(version: u64, changed: impl Fn(usize) -> bool) -> Vec<u8> {
    let mut text = Vec::new();
    for row in 0..2000_usize {
        let version = if changed(row) { version } else { 0 };
        let hash = blake3::hash(format!("{row} of {version}").as_bytes()).to_hex();
        text.extend_from_slice(format!("{row}\t{hash}\tsome words that stand in each row\n").as_bytes());
    }
    text
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

    let cold = test.open_cold();
    cold.refresh().unwrap();
    let id = cold.keys().ids().chunk_id(ChunkKind::Data, &second);
    assert_eq!(&*cold.chunk(ChunkKind::Data, &id).unwrap(), second);
}

/// Each delta of a chain makes the last one slower to read, so that sessions end them; readers follow them all.
#[test]
fn chains_of_deltas_end() {
    let mut test = TestStore::new();
    let repo = test.open();
    let versions: Vec<Vec<u8>> = (0..6).map(|night| rows(night, |row| row as u64 % 300 < night)).collect();
    for version in &versions {
        commit_all(&repo, Deltas::WherePays, &[(ChunkKind::Data, version)]);
    }
    let entries: Vec<FrameEntry> =
        versions.iter().map(|version| entry_of(&repo, ChunkKind::Data, version)).collect();
    assert!(!is_delta(&entries[0]) && entries[1..].iter().all(is_delta));
    let last_of_chain: Vec<bool> = entries.iter().map(|entry| entry.features.is_none()).collect();
    assert!(last_of_chain.contains(&true), "{last_of_chain:?}");
    let cold = test.open_cold();
    cold.refresh().unwrap();
    for version in &versions {
        let id = cold.keys().ids().chunk_id(ChunkKind::Data, version);
        assert_eq!(&*cold.chunk(ChunkKind::Data, &id).unwrap(), version);
    }
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
    let cold = test.open_cold();
    cold.refresh().unwrap();
    let id = cold.keys().ids().chunk_id(ChunkKind::Data, &second);
    assert_eq!(&*cold.chunk(ChunkKind::Data, &id).unwrap(), second);
}
