//! Frames that resemble each other: what is offered, in which order, and what never is.

use proptest::prelude::{prop_assert, prop_assert_eq};

use super::*;

/// Returns similar frames as (matches, pack id, frame number), in their order.
fn similar(index: &Index, features: Features) -> Vec<(u8, PackId, u32)> {
    let found = index.similar_frames(&features).unwrap();
    let named = |similar: &SimilarFrame| {
        (similar.matches, index.pack(similar.frame.pack).unwrap().unwrap().id, similar.frame.number)
    };
    found.iter().map(named).collect()
}

fn model_similar(model: &Model, features: Features) -> BTreeSet<(u8, PackId, u32)> {
    let mut similar = BTreeSet::new();
    for pack in model.values().flat_map(|object| &object.packs) {
        for (number, frame) in (0..).zip(&pack.directory.frames) {
            let Some(Features(theirs)) = frame.features else { continue };
            let matches = features.0.iter().zip(theirs).filter(|(one, other)| *one == other).count();
            if matches > 0 {
                similar.insert((u8::try_from(matches).unwrap(), pack.id, number));
            }
        }
    }
    similar
}

/// Asks for features that few frames have, and for some that more have than are offered.
pub(super) fn compare(index: &Index, model: &Model) -> Result<(), TestCaseError> {
    for first in (0..40).step_by(7).map(|number| number << 20) {
        let others = [[50 << 20, 51 << 20], [2 << 20, 51 << 20], [2 << 20, u64::MAX]];
        for features in others.map(|[second, third]| Features([first, second, third])) {
            let (found, expected) = (similar(index, features), model_similar(model, features));
            prop_assert_eq!(found.len(), expected.len().min(8));
            prop_assert!(found.iter().all(|one| expected.contains(one)));
            let mut most: Vec<_> = expected.iter().rev().map(|(matches, ..)| *matches).collect();
            most.truncate(8);
            prop_assert_eq!(found.iter().map(|(matches, ..)| *matches).collect::<Vec<_>>(), most);
        }
    }
    Ok(())
}

/// An index object of one data pack whose frames have these features.
fn object_with_features(first_chunk: u64, features: &[[u64; 3]]) -> IndexObject {
    let frames: Vec<_> = (first_chunk..).take(features.len()).map(|number| vec![number]).collect();
    let mut object = object(&[frames]);
    for (frame, features) in object.packs[0].directory.frames.iter_mut().zip(features) {
        frame.features = Some(Features(*features));
    }
    object
}

#[test]
fn similar_frames_come_in_order_of_worth() {
    let folder = Folder::new();
    let index = folder.open();
    // One has the same values in other places, and one has values of which only the searched bits are the same.
    let near = |value: u64| value | 1;
    let features = [[7 << 20, 1, 0], [7 << 20, 5 << 20, 9 << 20], [0, 5 << 20, 0], [7 << 20, 5 << 20, 0]];
    let decoys = [[5 << 20, 9 << 20, 7 << 20], [near(7 << 20), near(5 << 20), near(9 << 20)]];
    let object = object_with_features(0, &[features.as_slice(), &decoys].concat());
    let id = object.packs[0].id;
    index.apply("index/a.0", &object).unwrap();
    let wanted = Features([7 << 20, 5 << 20, 9 << 20]);
    let expected = [(3, id, 1), (2, id, 3), (1, id, 2), (1, id, 0)];
    assert_eq!(similar(&index, wanted), expected);
    assert!(similar(&index, Features([1, 2, 3])).is_empty());

    // Another index object names the same pack.
    index.apply("index/b.0", &object).unwrap();
    assert_eq!(similar(&index, wanted), expected);
    index.retract(&["index/a.0".to_owned()]).unwrap();
    assert_eq!(similar(&index, wanted), expected);
    index.retract(&["index/b.0".to_owned()]).unwrap();
    assert!(similar(&index, wanted).is_empty());
}

#[test]
fn of_very_many_similar_frames_the_newest_are_offered() {
    let folder = Folder::new();
    let index = folder.open();
    for number in 0..30_u64 {
        let object = object_with_features(number * 100, &[[1 << 20, (100 + number) << 20, 3 << 20]; 10]);
        index.apply(&format!("index/a.{number}"), &object).unwrap();
    }
    let of = |number: u64| pack(&(number * 100..).take(10).map(|chunk| vec![chunk]).collect::<Vec<_>>()).id;
    let found = similar(&index, Features([1 << 20, 0, 3 << 20]));
    assert_eq!(found, (2..10).rev().map(|frame| (2, of(29), frame)).collect::<Vec<_>>());
    // What few old ones have counts for more, and with it what all have.
    let found = similar(&index, Features([0, 102 << 20, 3 << 20]));
    assert_eq!(found, (2..10).rev().map(|frame| (2, of(2), frame)).collect::<Vec<_>>());
    let found = similar(&index, Features([0, 102 << 20, 0]));
    assert_eq!(found, (2..10).rev().map(|frame| (1, of(2), frame)).collect::<Vec<_>>());
}

#[test]
fn what_can_be_no_base_is_never_similar() {
    let folder = Folder::new();
    let index = folder.open();
    let features = [4 << 20, 5 << 20, 6 << 20];
    let mut metadata = object_with_features(10, &[features]);
    metadata.packs[0].kind = ObjectKind::TreePack;
    let mut foreign = object_with_features(20, &[features]);
    foreign.packs[0].writer.class = WriterClass::IngestOnly;
    for (key, object) in [("index/a.0", &metadata), ("index/a.1", &foreign)] {
        index.apply(key, object).unwrap();
        assert!(similar(&index, Features(features)).is_empty(), "{key}");
    }
    index.retract(&["index/a.0", "index/a.1"].map(str::to_owned)).unwrap();
    let rows = rusqlite::Connection::open(folder.path()).unwrap();
    assert_eq!(rows.query_row("SELECT count(*) FROM features", [], |row| row.get(0)), Ok(0));
}

#[test]
fn files_without_the_table_of_features_are_filled() {
    let folder = Folder::new();
    let features = [4 << 20, 5 << 20, 6 << 20];
    let object = object_with_features(0, &[features, [1, 2, 3]]);
    let mut delta = object_with_features(10, &[features]);
    delta.packs[0].directory.frames[0].encoding = Encoding::Delta { base: FrameId::from_bytes(id(9)).into() };
    let before = folder.open();
    before.apply("index/a.0", &object).unwrap();
    before.apply("index/b.0", &delta).unwrap();
    drop(before);
    let old = rusqlite::Connection::open(folder.path()).unwrap();
    old.execute_batch("DROP TABLE features; DROP TABLE distrusted; PRAGMA user_version = 1").unwrap();
    drop(old);
    let index = folder.open();
    assert!(!index.was_rebuilt());
    let expected = [(3, delta.packs[0].id, 0), (3, object.packs[0].id, 0)];
    assert_eq!(similar(&index, Features(features)), expected);
}
