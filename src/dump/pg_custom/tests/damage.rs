//! Archives that are cut, damaged or put together wrongly: each is broken, each says how, and none ends in a panic.

use super::build::{Archive, NO_DATA, NOT_SET, int, large_objects, table};
use super::*;

fn two() -> Archive {
    Archive::new(14)
        .entry(2, "TABLE", "users", NO_DATA)
        .table(3, "orders")
        .table(4, "users")
        .entry(5, "BLOBS", "BLOBS", NOT_SET)
}

fn why(archive: &Archive) -> String {
    let bytes = archive.bytes();
    walk(&head_of(&bytes), &bytes).unwrap_err()
}

#[test]
fn every_truncation_is_broken() {
    for pair in PAIRS {
        for bytes in [pair.piped, pair.file] {
            let head = head_of(bytes);
            let mut reader = HeadReader::default();
            for length in 0..head.length {
                assert_eq!(
                    reader.read(&bytes[..length]),
                    HeadParse::NeedMore,
                    "{} cut at {length}",
                    pair.name
                );
            }
            assert_eq!(head_of(&bytes[..head.length]), head);
            for length in head.length..bytes.len() {
                assert!(walk(&head, &bytes[..length]).is_err(), "{} cut at {length}", pair.name);
            }
        }
    }
}

#[test]
fn a_cut_names_what_it_cut() {
    let bytes =
        two().block(&table(3, &[1_000; 1_300])).block(&table(4, &[9])).block(&large_objects(5, &[])).bytes();
    let head = head_of(&bytes);
    let cut = |length: usize| walk(&head, &bytes[..length]).unwrap_err();
    let within = |label: &str, length: usize| {
        format!("it ends within the data of {label}, after {} bytes", label::count(length as u64))
    };
    assert_eq!(cut(1_234_567), "it ends within the data of TABLE DATA orders, after 1,234,567 bytes");
    let (start, end) = (head.length, bytes.len());
    assert_eq!(cut(end - 1), within("BLOBS", end - 1));
    assert_eq!(cut(end - 11), "the data of BLOBS is missing");
    assert_eq!(cut(end - 10), "the data of BLOBS is missing");
    assert_eq!(cut(end - 12), within("TABLE DATA users", end - 12));
    assert_eq!(cut(end - 40), within("TABLE DATA orders", end - 40));
    assert_eq!(
        cut(start),
        format!("the data of TABLE DATA orders and of 2 others is missing: it ends after {start} bytes")
    );
}

#[test]
fn missing_data_is_named() {
    let objects = large_objects(5, &[(8, vec![1])]);
    assert_eq!(why(&two().block(&table(3, &[9])).block(&objects)), "the data of TABLE DATA users is missing");
    let archive = two().block(&objects);
    let length = archive.bytes().len();
    assert_eq!(
        why(&archive),
        format!(
            "the data of TABLE DATA orders and of 1 other entry is missing: it ends after {length} bytes"
        )
    );
}

#[test]
fn what_stands_behind_the_last_block_is_counted() {
    let all = || two().block(&table(3, &[9])).block(&table(4, &[9])).block(&large_objects(5, &[]));
    assert_eq!(why(&all().block(&[7; 42])), "42 bytes stand behind its last block");
    assert_eq!(why(&all().block(b"\n")), "1 byte stands behind its last block");
    assert_eq!(why(&all().block(&[1; 5])), "5 bytes stand behind its last block");
    assert_eq!(why(&all().block(&[0; 2_000])), "2,000 bytes stand behind its last block");
    assert_eq!(why(&all().block(&table(77, &[1]))), "17 bytes stand behind its last block");
    assert_eq!(why(&all().block(&table(2, &[1]))), "17 bytes stand behind its last block");
    for pair in PAIRS {
        for bytes in [pair.piped, pair.file] {
            let mut longer = bytes.to_vec();
            longer.push(b'\n');
            assert_eq!(complete(&mut longer), Err("1 byte stands behind its last block".to_owned()));
        }
    }
}

#[test]
fn data_that_is_there_twice_is_named() {
    let first = two().block(&table(3, &[9]));
    let at = first.bytes().len();
    let again = format!("the data of TABLE DATA orders is there twice, at byte {at} again");
    assert_eq!(why(&first.block(&table(3, &[9])).block(&table(4, &[9]))), again);
    let all = two().block(&table(3, &[9])).block(&table(4, &[9])).block(&large_objects(5, &[]));
    let at = all.bytes().len();
    assert_eq!(
        why(&all.block(&large_objects(5, &[]))),
        format!("the data of BLOBS is there twice, at byte {at} again")
    );
}

#[test]
fn data_of_an_entry_that_has_none_or_is_unknown_is_named() {
    let at = two().bytes().len();
    assert_eq!(
        why(&two().block(&table(77, &[9]))),
        format!("at byte {at} begins data of an entry that its table of contents does not have")
    );
    assert_eq!(
        why(&two().block(&table(2, &[9]))),
        format!("at byte {at} begins data of entry 2, which should have none")
    );
    assert_eq!(
        why(&two().block(&[0x42; 100])),
        format!("at byte {at} a data block should begin, and does not")
    );
}

#[test]
fn rows_and_large_objects_are_not_confused() {
    let at = two().bytes().len();
    assert_eq!(
        why(&two().block(&large_objects(3, &[]))),
        format!("the data of TABLE DATA orders at byte {at} are large objects and should be rows")
    );
    assert_eq!(
        why(&two().block(&table(5, &[1]))),
        format!("the data of BLOBS at byte {at} are rows and should be large objects")
    );
}

#[test]
fn lengths_that_pg_dump_never_writes_are_damage() {
    let at = two().bytes().len() + 6;
    for number in [int(-1), vec![2, 1, 0, 0, 0], vec![0, 0, 0, 0, 0x80], vec![1, 0, 0, 0, 0]] {
        let archive = two().block(&[&[1], &int(3)[..], &number].concat());
        assert_eq!(why(&archive), format!("the data of TABLE DATA orders is damaged at byte {at}"));
    }
    let oid = [&[3], &int(5)[..], &[1, 0, 0, 0, 0]].concat();
    assert_eq!(why(&two().block(&oid)), format!("the data of BLOBS is damaged at byte {at}"));
}

#[test]
fn offsets_that_are_there_and_wrong_are_broken() {
    for pair in PAIRS {
        let head = head_of(pair.file);
        let with_data: Vec<_> = head.entries.iter().filter(|entry| entry.data != DataState::None).collect();
        for entry in with_data {
            let mut bytes = pair.file.to_vec();
            bytes[entry.field + 1] ^= 1;
            let damaged = bytes.clone();
            let why = complete(&mut bytes).unwrap_err();
            let expected = format!("its table of contents has the data of {} at byte", entry.label);
            assert!(why.starts_with(&expected), "{why}");
            assert_eq!(bytes, damaged);
        }
    }
}

#[test]
fn only_what_was_not_set_is_filled_in() {
    let build =
        |offset| Archive::new(14).entry(3, "TABLE DATA", "a", offset).table(4, "b").block(&table(3, &[5]));
    let start = head_of(&build(NOT_SET).bytes()).length as u64;
    let mut half = build((2, start)).block(&table(4, &[])).bytes();
    assert_eq!(complete(&mut half), Ok(1));
    let mut none = build(NOT_SET).block(&table(4, &[])).bytes();
    assert_eq!(complete(&mut none), Ok(2));
    assert_eq!(half, none);
}

#[test]
fn offsets_of_another_archive_change_nothing() {
    let bytes = PAIRS[0].piped.to_vec();
    let head = head_of(&bytes);
    let offsets = walk(&head, &bytes).unwrap();
    let mut changed = bytes.clone();
    assert!(fill_offsets(&mut changed, &head, &offsets[1..]).unwrap_err().ends_with(" is missing"));
    let table = head.entries.iter().find(|entry| entry.data == DataState::None).unwrap();
    let extra = [&offsets[..], &[DataOffset { dump_id: table.dump_id, offset: 9 }]].concat();
    assert!(
        fill_offsets(&mut changed, &head, &extra).unwrap_err().ends_with("has data, and should have none")
    );
    let short = fill_offsets(&mut changed[..100], &head, &offsets).unwrap_err();
    assert!(short.starts_with("the head has no offset of "), "{short}");
    assert_eq!(changed, bytes);
}

/// Changes bytes, takes some out, puts some in, or moves some.
fn mutate(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    for _ in 0..=numbers.below(3) {
        let at = numbers.below(bytes.len());
        let length = numbers.below(12).min(bytes.len() - at - 1);
        match numbers.below(5) {
            0 => bytes[at] ^= 1 << numbers.below(8),
            1 => bytes[at] = [0, 1, 3, 0x7f, 0x80, 0xff][numbers.below(6)],
            2 => drop(bytes.drain(at..at + length)),
            3 => drop(bytes.splice(at..at, (0..length).map(|_| numbers.next().to_le_bytes()[0]))),
            _ => bytes[at..].rotate_left(length),
        }
    }
}

#[test]
fn random_damage_never_panics_and_says_the_same_however_it_is_split() {
    let mut numbers = Numbers(20_261_121);
    let (mut read, mut whole) = (0, 0);
    for round in 0..4_000 {
        let pair = &PAIRS[round % PAIRS.len()];
        let mut bytes = if numbers.below(2) == 0 { pair.piped } else { pair.file }.to_vec();
        mutate(&mut bytes, &mut numbers);
        let HeadParse::Head(head) = parse_head(&bytes) else { continue };
        read += 1;
        let found = walk(&head, &bytes);
        let mut split = BlockWalk::new(&head);
        let mut rest = &bytes[head.length..];
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at((1 + numbers.below(64)).min(rest.len()));
            split.feed(piece);
            rest = behind;
        }
        assert_eq!(split.finish(), found, "round {round}");
        let Ok(offsets) = found else { continue };
        if fill_offsets(&mut bytes, &head, &offsets).is_ok() {
            whole += 1;
            assert_eq!(stored::check(&bytes, head.length), Ok(()), "round {round}");
            assert_eq!(complete(&mut bytes), Ok(0), "round {round}");
        }
    }
    // Damage inside a row or a name cannot be seen here; damage to the shape must be.
    assert!(read > 400 && whole > 80 && whole < read, "{read} heads read, {whole} whole");
}
