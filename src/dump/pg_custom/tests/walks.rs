//! Walks over archives that are whole in every way that is allowed, and how splits do not matter.

use proptest::prelude::*;

use super::build::{Archive, NO_DATA, NOT_SET, large_objects, table};
use super::*;

fn whole(archive: &Archive) -> Vec<DataOffset> {
    let bytes = archive.bytes();
    walk(&head_of(&bytes), &bytes).unwrap()
}

#[test]
fn an_archive_without_data_is_whole() {
    assert_eq!(whole(&Archive::new(14)), []);
    assert_eq!(whole(&Archive::new(16).entry(7, "TABLE", "users", NO_DATA)), []);
}

#[test]
fn pieces_of_any_length_are_walked() {
    let lengths = [1, 2, 4, 5, 6, 255, 256, 257, 4095, 4096, 4097, 65_535, 65_536, 65_537];
    for length in lengths {
        let archive = Archive::new(14)
            .table(3, "one")
            .table(4, "two")
            .block(&table(3, &[length, length, 1]))
            .block(&table(4, &[]));
        let head = head_of(&archive.bytes()).length as u64;
        let second = head + 6 + 3 * 5 + 2 * length as u64 + 1 + 5;
        let expected = [DataOffset { dump_id: 3, offset: head }, DataOffset { dump_id: 4, offset: second }];
        assert_eq!(whole(&archive), expected, "{length}");
    }
}

#[test]
fn large_objects_are_walked_whatever_their_ids_are() {
    let objects = [
        (1, vec![10, 20]),
        (i64::from(i32::MAX), vec![]),
        (-i64::from(i32::MAX), vec![1]),
        (i64::from(i32::MIN), vec![3]),
        (-1, vec![5]),
    ];
    let archive = Archive::new(16)
        .entry(9, "BLOBS", "1..2", NOT_SET)
        .entry(8, "BLOBS", "3", NOT_SET)
        .table(7, "last")
        .block(&large_objects(9, &objects))
        .block(&large_objects(8, &[]))
        .block(&table(7, &[100]));
    let ids: Vec<_> = whole(&archive).iter().map(|found| found.dump_id).collect();
    assert_eq!(ids, [9, 8, 7]);
}

#[test]
fn data_in_another_order_is_found_where_it_is() {
    let archive =
        Archive::new(14).table(3, "one").table(4, "two").block(&table(4, &[50])).block(&table(3, &[60]));
    let mut bytes = archive.bytes();
    let start = head_of(&bytes).length as u64;
    assert_eq!(complete(&mut bytes), Ok(2));
    let states: Vec<_> = head_of(&bytes).entries.iter().map(|entry| entry.data).collect();
    assert_eq!(states, [DataState::At(start + 6 + 5 + 50 + 5), DataState::At(start)]);
}

/// Feeds what stands behind the head in pieces of these lengths, over and over.
fn walk_split(head: &Head, bytes: &[u8], lengths: &[usize]) -> Result<Vec<DataOffset>, String> {
    let mut walk = BlockWalk::new(head);
    let mut rest = &bytes[head.length..];
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, behind) = rest.split_at((*length).min(rest.len()));
        walk.feed(piece);
        rest = behind;
    }
    walk.finish()
}

#[test]
fn every_split_of_a_real_dump_gives_the_same() {
    for pair in PAIRS {
        let head = head_of(pair.piped);
        let expected = walk(&head, pair.piped);
        assert_eq!(expected.as_ref().map(Vec::len), Ok(pair.data.len()));
        for step in 1..40 {
            assert_eq!(walk_split(&head, pair.piped, &[step]), expected, "{} {step}", pair.name);
        }
        for first in 1..pair.piped.len() - head.length {
            let lengths = [first, pair.piped.len()];
            assert_eq!(walk_split(&head, pair.piped, &lengths), expected, "{} {first}", pair.name);
        }
    }
}

proptest! {
    #[test]
    fn any_split_of_any_archive_gives_the_same(
        tables in prop::collection::vec(prop::collection::vec(1_usize..300, 0..6), 1..5),
        objects in prop::collection::vec((1_i64..9, prop::collection::vec(1_usize..300, 0..4)), 0..4),
        cut in 0_usize..40,
        change in prop::option::of((0_usize..2_000, any::<u8>())),
        lengths in prop::collection::vec(1_usize..200, 1..8),
    ) {
        let mut archive = Archive::new(16).entry(500, "BLOBS", "b", NOT_SET).block(&large_objects(500, &objects));
        for (id, pieces) in (1_i64..).zip(&tables) {
            archive = archive.table(id, "t").block(&table(id, pieces));
        }
        let mut bytes = archive.bytes();
        let head = head_of(&bytes);
        if let Some((place, value)) = change {
            let body = bytes.len() - head.length;
            bytes[head.length + place % body] = value;
        }
        bytes.truncate(bytes.len() - cut.min(bytes.len() - head.length));
        prop_assert_eq!(walk_split(&head, &bytes, &lengths), walk(&head, &bytes));
        prop_assert!(cut == 0 || change.is_some() || walk(&head, &bytes).is_err());
    }
}
