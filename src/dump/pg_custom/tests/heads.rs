//! Heads: which are known, which are damaged, and that they may come step by step.

use super::build::{Archive, NO_DATA, NOT_SET, int, start, string};
use super::*;

fn unknown(bytes: &[u8]) -> String {
    match parse_head(bytes) {
        HeadParse::Unknown(why) => why,
        other => panic!("{other:?}"),
    }
}

fn broken(bytes: &[u8]) -> String {
    match parse_head(bytes) {
        HeadParse::Broken(why) => why,
        other => panic!("{other:?}"),
    }
}

fn with(index: usize, value: u8) -> Vec<u8> {
    let mut bytes = PAIRS[0].piped.to_vec();
    bytes[index] = value;
    bytes
}

#[test]
fn what_is_no_archive_that_is_known_is_named() {
    assert_eq!(unknown(b"hello, world"), "it does not begin with PGDMP");
    assert_eq!(unknown(b"PGDMX"), "it does not begin with PGDMP");
    assert_eq!(unknown(&with(6, 17)), "archive version 1.17-0 is not known, only 1.14, 1.15 and 1.16 are");
    assert_eq!(unknown(&with(6, 13)), "archive version 1.13-0 is not known, only 1.14, 1.15 and 1.16 are");
    assert_eq!(unknown(&with(5, 2)), "archive version 2.14-0 is not known, only 1.14, 1.15 and 1.16 are");
    assert_eq!(unknown(&with(7, 1)), "archive version 1.14-1 is not known, only 1.14, 1.15 and 1.16 are");
    assert_eq!(unknown(&with(8, 8)), "its integers take 8 bytes and its offsets 8, only 4 and 8 are known");
    assert_eq!(unknown(&with(9, 4)), "its integers take 4 bytes and its offsets 4, only 4 and 8 are known");
    assert_eq!(unknown(&with(10, 3)), "it is the table of contents of a tar archive, without data");
    assert_eq!(unknown(&with(10, 5)), "it is the table of contents of a directory dump, without data");
    assert_eq!(unknown(&with(10, 9)), "archive format 9 is not known");
    let mut method = PAIRS[2].piped.to_vec();
    method[11] = 4;
    assert_eq!(unknown(&method), "compression method 4 is not known");
}

#[test]
fn every_beginning_of_a_head_needs_more() {
    for pair in [&PAIRS[0], &PAIRS[2]] {
        let head = head_of(pair.piped);
        for length in 0..head.length {
            assert_eq!(parse_head(&pair.piped[..length]), HeadParse::NeedMore, "{} {length}", pair.name);
        }
        assert_eq!(head_of(&pair.piped[..head.length]), head);
    }
}

#[test]
fn a_head_that_comes_step_by_step_is_the_same() {
    for pair in PAIRS {
        let whole = parse_head(pair.piped);
        for step in [1, 7, 100, 4096] {
            let mut reader = HeadReader::default();
            let mut end = 0;
            let parse = loop {
                end += step;
                match reader.read(&pair.piped[..end.min(pair.piped.len())]) {
                    HeadParse::NeedMore => {}
                    parse => break parse,
                }
            };
            assert_eq!(parse, whole, "{} {step}", pair.name);
            assert_eq!(reader.read(pair.file), parse_head(pair.file), "a reader begins anew");
        }
    }
}

#[test]
fn a_table_of_contents_that_comes_in_small_steps_is_read_once() {
    const ENTRIES: usize = 3_000;
    let mut archive = Archive::new(16);
    for id in 1..=3_000 {
        archive = archive.entry(id, "TABLE", "t", NO_DATA);
    }
    let mut bytes = archive.bytes();
    let first = start(16).len() + 5;
    let (entry, rest) = ((bytes.len() - first) / ENTRIES, (bytes.len() - first) % ENTRIES);
    assert_eq!(rest, 0);
    let mut reader = HeadReader::default();
    for end in (64..bytes.len()).step_by(64) {
        assert_eq!(reader.read(&bytes[..end]), HeadParse::NeedMore);
        // What was read is spoilt: whoever reads it again finds damage.
        let read = (end.max(first) - first) / entry * entry;
        bytes[first..first + read].fill(0xff);
    }
    assert!(matches!(reader.read(&bytes), HeadParse::Head(head) if head.entries.len() == ENTRIES));
}

#[test]
fn a_string_or_count_of_two_gigabytes_takes_no_memory() {
    let huge = int(i64::from(i32::MAX));
    assert_eq!(parse_head(&[start(14), huge.clone()].concat()), HeadParse::NeedMore);
    let tag =
        [start(14), huge.clone(), int(1), int(0), string(Some(b"0")), string(Some(b"0")), huge].concat();
    assert_eq!(parse_head(&tag), HeadParse::NeedMore);
    assert_eq!(parse_head(&[tag, vec![b'x'; 10_000]].concat()), HeadParse::NeedMore);
}

#[test]
fn a_damaged_head_says_where() {
    let good = || Archive::new(16).entry(4, "TABLE", "users", NO_DATA);
    assert_eq!(
        broken(&good().entry(0, "TABLE", "orders", NO_DATA).bytes()),
        "entry 2 of 2 in its table of contents is damaged (number 0 before byte 247)"
    );
    assert!(broken(&good().entry(-5, "TABLE", "t", NO_DATA).bytes()).contains("number -5 before"));
    assert!(broken(&good().entry_marked(5, "TABLE", "t", NO_DATA, 2).bytes()).contains("mark 2 for data"));
    for (offset, mark) in [(NO_DATA, 1), (NOT_SET, 0), ((2, 9), 0)] {
        let why = broken(&good().entry_marked(5, "TABLE DATA", "t", offset, mark).bytes());
        assert!(why.contains("an offset that contradicts its mark for data"), "{why}");
    }
    let why = broken(&good().entry(5, "TABLE DATA", "t", (4, 0)).bytes());
    assert!(why.contains("mark 4 for its offset"), "{why}");
    let twice = good().entry(5, "TABLE", "t", NO_DATA).entry(4, "TABLE", "t", NO_DATA);
    assert_eq!(broken(&twice.bytes()), "its table of contents has two entries of number 4");
    assert!(broken(&[start(14), int(-1)].concat()).contains("a negative number of entries"));
}

#[test]
fn impossible_numbers_and_times_are_damage() {
    let mut sign = start(14);
    sign[16] = 2;
    assert!(broken(&sign).contains("a number with an impossible sign before byte 21"));
    for (part, value) in [(0, 62), (1, 60), (2, 24), (3, 0), (3, 32), (4, 12), (6, 2)] {
        let mut bytes = start(14);
        bytes[16 + part * 5 + 1] = value;
        assert!(broken(&bytes).contains("in its time stamp"), "{part} {value}");
    }
    let mut level = start(14);
    level[12] = 10;
    assert!(broken(&level).contains("compression level 10"));
}

/// Does what a terminal does on the way.
fn with_crlf(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| if *byte == b'\n' { vec![b'\r', b'\n'] } else { vec![*byte] }).collect()
}

#[test]
fn line_feeds_that_became_cr_lf_are_broken() {
    for pair in PAIRS {
        for bytes in [pair.piped, pair.file] {
            broken(&with_crlf(bytes));
            // A time stamp may have line feeds of its own, and then all that follows is shifted.
            let second = if pair.version.1 < 15 { 17 } else { 13 };
            for shifted in [0, 5, 10, 15, 20].map(|part| second + part) {
                let mut bytes = bytes.to_vec();
                bytes[shifted] = b'\n';
                head_of(&bytes);
                let parse = parse_head(&with_crlf(&bytes));
                assert!(matches!(parse, HeadParse::Broken(_)), "{} {shifted}: {parse:?}", pair.name);
            }
        }
    }
}
