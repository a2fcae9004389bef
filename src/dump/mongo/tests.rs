//! Archives that are put together here, with the checksum computed in another way than the check does.

use super::super::{DumpFormat, DumpReader, DumpReport, Treatment};
use super::*;
use proptest::prelude::*;
use std::io::Read;

/// Written after what mongodump 100 writes: two collections, an empty one, a time series, and the log of changes. Its
/// checksums were computed by liblzma.
const ARCHIVE: &[u8] = include_bytes!("../fixtures/mongo.archive");

fn verdict(bytes: &[u8]) -> Verdict {
    verdict_in_pieces(bytes, usize::MAX)
}

fn verdict_in_pieces(bytes: &[u8], length: usize) -> Verdict {
    let mut check = Box::new(MongoCheck::new());
    bytes.chunks(length).for_each(|piece| check.feed(piece));
    check.finish().verdict
}

fn reason(bytes: &[u8]) -> String {
    match verdict(bytes) {
        Verdict::Broken(reason) => reason,
        other => panic!("not broken but {other:?}"),
    }
}

fn document(fields: &[Vec<u8>]) -> Vec<u8> {
    let fields = fields.concat();
    let length = i32::try_from(fields.len() + bson::DOCUMENT_MIN_BYTES).unwrap();
    [&length.to_le_bytes()[..], &fields, &[0]].concat()
}

fn text(name: &str, value: &str) -> Vec<u8> {
    let length = i32::try_from(value.len() + 1).unwrap().to_le_bytes();
    [&b"\x02"[..], name.as_bytes(), &[0], &length, value.as_bytes(), &[0]].concat()
}

fn flag(name: &str, value: bool) -> Vec<u8> {
    [&b"\x08"[..], name.as_bytes(), &[0, u8::from(value)]].concat()
}

fn long(name: &str, value: u64) -> Vec<u8> {
    [&b"\x12"[..], name.as_bytes(), &[0], &value.to_le_bytes()].concat()
}

/// CRC-64 as XZ computes it, bit by bit.
fn checksum(bytes: &[u8]) -> u64 {
    !bytes.iter().fold(u64::MAX, |sum, byte| {
        (0..8).fold(sum ^ u64::from(*byte), |sum, _| (sum >> 1) ^ ((sum & 1) * 0xc96c_5795_d787_0f42))
    })
}

fn prelude(version: &str, collections: &[(&str, &str, &str)]) -> Vec<u8> {
    let announced = |(database, name, kind): &(&str, &str, &str)| {
        document(&[
            text("db", database),
            text("collection", name),
            text("metadata", "{}"),
            text("type", kind),
        ])
    };
    let collections = collections.iter().map(announced).collect::<Vec<_>>().concat();
    [MAGIC, &document(&[text("version", version), text("tool_version", "100.10.0")]), &collections, &MARK]
        .concat()
}

fn part(database: &str, name: &str, documents: &[Vec<u8>]) -> Vec<u8> {
    let head =
        document(&[text("db", database), text("collection", name), flag("EOF", false), long("CRC", 0)]);
    [&head[..], &documents.concat(), &MARK].concat()
}

fn end(database: &str, name: &str, documents: &[Vec<u8>]) -> Vec<u8> {
    let sum = checksum(&documents.concat());
    let head =
        document(&[text("db", database), text("collection", name), flag("EOF", true), long("CRC", sum)]);
    [&head[..], &MARK].concat()
}

fn some_documents() -> Vec<Vec<u8>> {
    ["one", "two", "three"].map(|name| document(&[text("name", name), long("length", 1)])).to_vec()
}

#[test]
fn an_archive_is_whole_and_none_that_is_cut_short() {
    assert_eq!(verdict(ARCHIVE), Verdict::Whole);
    for length in 0..ARCHIVE.len() {
        assert!(matches!(verdict(&ARCHIVE[..length]), Verdict::Broken(_)), "{length} bytes");
    }
    for length in 1..20 {
        assert_eq!(verdict_in_pieces(ARCHIVE, length), Verdict::Whole, "{length}");
    }
}

#[test]
fn it_is_recognised_and_looked_at_when_it_is_compressed() {
    let report = |bytes: &[u8]| -> DumpReport {
        let mut reader = DumpReader::open(bytes, Treatment::CheckAndComplete).unwrap();
        std::io::copy(&mut reader.by_ref(), &mut std::io::sink()).unwrap();
        let (head, report) = reader.finish();
        assert!(head.is_empty(), "nothing is held back");
        report
    };
    let plain = report(ARCHIVE);
    assert_eq!((plain.formats, plain.verdict), (vec![DumpFormat::MongoArchive], Verdict::Whole));
    let packed = report(&zstd::encode_all(ARCHIVE, 3).unwrap());
    assert_eq!(packed.formats, [DumpFormat::Zstd, DumpFormat::MongoArchive]);
    assert_eq!(packed.verdict, Verdict::Whole);
    let packed = report(&zstd::encode_all(&ARCHIVE[..ARCHIVE.len() - 4], 3).unwrap());
    assert!(matches!(packed.verdict, Verdict::Broken(_)), "half an archive, compressed whole");
}

#[test]
fn it_says_where_an_archive_ends_and_what_is_missing() {
    let documents = some_documents();
    let head = prelude("0.1", &[("shop", "a\x1b", ""), ("shop", "b", ""), ("", "oplog", "")]);
    assert_eq!(reason(&head[..head.len() - 1]), "it is cut short before its first collection");
    assert_eq!(reason(&head), "it ends before the end of oplog and 2 more");
    let open = [&head[..], &part("shop", "b", &documents)].concat();
    assert_eq!(reason(&open[..open.len() - 5]), "it is cut short within shop.b");
    assert_eq!(reason(&open[..open.len() - 1]), "it is cut short within shop.b");
    assert_eq!(reason(&open), "it ends before the end of oplog and 2 more");
    let ended = [&open[..], &end("shop", "b", &documents), &end("", "oplog", &[])].concat();
    assert_eq!(reason(&ended), "it ends before the end of shop.a\\u{1b}");
    assert_eq!(reason(&[&ended[..], &[1]].concat()), "it is cut short between two collections");
    let whole = [&ended[..], &end("shop", "a\x1b", &[])].concat();
    assert_eq!(verdict(&whole), Verdict::Whole);
    assert_eq!(reason(&whole[..whole.len() - 1]), "it is cut short within shop.a\\u{1b}");
    assert_eq!(verdict(&prelude("0.1", &[])), Verdict::Whole, "of an empty database");
}

#[test]
fn checksums_count_over_all_parts_of_a_collection() {
    let documents = some_documents();
    let head = prelude("0.1", &[("shop", "a", "collection"), ("shop", "b", "collection")]);
    let whole = [
        &head[..],
        &part("shop", "a", &documents[..1]),
        &part("shop", "b", &[]),
        &part("shop", "a", &documents[1..]),
        &end("shop", "a", &documents),
        &end("shop", "b", &[]),
    ]
    .concat();
    assert_eq!(verdict(&whole), Verdict::Whole);
    let mut damaged = whole.clone();
    let at = whole.windows(5).position(|bytes| bytes == b"three").unwrap();
    damaged[at] ^= 1;
    assert_eq!(reason(&damaged), "the checksum of shop.a does not match its documents");
    let lacking = [&head[..], &part("shop", "a", &documents[..2]), &end("shop", "a", &documents)].concat();
    assert_eq!(reason(&lacking), "the checksum of shop.a does not match its documents");
    let unsummed = document(&[text("db", "shop"), text("collection", "a"), flag("EOF", true)]);
    let unsummed = [&prelude("0.1", &[]), &unsummed[..], &MARK].concat();
    assert_eq!(verdict(&unsummed), Verdict::Unchecked("its collections have no checksums".to_owned()));
}

#[test]
fn what_mongorestore_refuses_is_broken() {
    let documents = some_documents();
    let head = prelude("0.1", &[("shop", "a", "")]);
    let whole = [&head[..], &part("shop", "a", &documents), &end("shop", "a", &documents)].concat();
    assert_eq!(verdict(&whole), Verdict::Whole);
    for (appended, why) in [
        (MARK.to_vec(), "it is damaged between two collections"),
        (part("shop", "a", &documents), "shop.a goes on behind its end"),
        (end("shop", "a", &documents), "shop.a goes on behind its end"),
        (part("shop", "b", &documents), "it ends before the end of shop.b"),
        (b"mongodump: done\n".to_vec(), "it is damaged between two collections"),
        (document(&[text("db", "shop")]), "it is damaged between two collections"),
        (document(&[text("db", "shop"), text("collection", "")]), "it is damaged between two collections"),
        (documents[0].clone(), "it is damaged between two collections"),
        (vec![4, 0, 0, 0], "it is damaged between two collections"),
        (vec![0, 0, 0, 2], "it is damaged between two collections"),
    ] {
        assert_eq!(reason(&[&whole[..], &appended].concat()), why);
    }
    // Documents behind the end of a collection, before its mark.
    let end = end("shop", "a", &[]);
    let more = [&head[..], &end[..end.len() - 4], &documents[0], &MARK].concat();
    assert_eq!(reason(&more), "shop.a goes on behind its end");
    let mut unended = documents.clone();
    *unended[1].last_mut().unwrap() = 1;
    assert_eq!(reason(&[&head[..], &part("shop", "a", &unended)].concat()), "it is damaged within shop.a");
    assert_eq!(reason(&[MAGIC, &MARK].concat()), "it is damaged before its first collection");
    assert_eq!(reason(&[MAGIC, &document(&[])].concat()), "it is damaged before its first collection");
    assert_eq!(
        verdict(&prelude("0.2\n", &[])),
        Verdict::Unchecked("its version, 0.2\\n, is not known".to_owned())
    );
}

#[test]
fn the_data_of_a_time_series_may_lie_in_its_buckets() {
    let documents = some_documents();
    let head = prelude("0.1", &[("shop", "load", "timeseries")]);
    let data = |name: &str| [part("shop", name, &documents), end("shop", name, &documents)].concat();
    for name in ["load", "system.buckets.load"] {
        assert_eq!(verdict(&[&head[..], &data(name)].concat()), Verdict::Whole, "{name}");
    }
    for name in ["system.buckets.other", "other"] {
        assert_eq!(reason(&[&head[..], &data(name)].concat()), "it ends before the end of shop.load");
    }
    let head = prelude("0.1", &[("shop", "load", "collection")]);
    let other = [&head[..], &data("system.buckets.load")].concat();
    assert_eq!(reason(&other), "it ends before the end of shop.load");
}

#[test]
fn long_names_are_shown_in_part() {
    let reason = reason(&prelude("0.1", &[("shop", &"ä\x1b".repeat(1000), "")]));
    assert!(reason.len() < 1000 && reason.ends_with('…') && !reason.contains('\x1b'), "{reason}");
}

/// Collections with their documents, and the order in which their parts come.
fn any_content() -> impl Strategy<Value = (Vec<Vec<Vec<u8>>>, Vec<prop::sample::Index>)> {
    let one = prop::collection::vec(any::<u8>(), 0..40).prop_map(|noise| {
        // Bytes of any kind, as a document holds them.
        let length = i32::try_from(noise.len()).unwrap().to_le_bytes();
        document(&[[&b"\x05data\0"[..], &length, &[0], &noise].concat()])
    });
    let collections = prop::collection::vec(prop::collection::vec(one, 0..6), 1..5);
    (collections, prop::collection::vec(any::<prop::sample::Index>(), 64))
}

/// Puts an archive together whose parts take turns; returns where each document begins, too.
fn archive(collections: &[Vec<Vec<u8>>], order: &[prop::sample::Index]) -> (Vec<u8>, Vec<usize>) {
    let names: Vec<String> = (0..collections.len()).map(|number| format!("c{number}")).collect();
    let announced: Vec<_> = names.iter().map(|name| ("shop", name.as_str(), "collection")).collect();
    let (mut bytes, mut begins) = (prelude("0.1", &announced), Vec::new());
    let mut rest: Vec<_> =
        collections.iter().zip(&names).map(|(documents, name)| (documents, name, 0)).collect();
    let mut order = order.iter().cycle();
    while !rest.is_empty() {
        let at = order.next().unwrap().index(rest.len());
        let (documents, name, done) = rest[at];
        if done == documents.len() {
            bytes.extend(end("shop", name, documents));
            rest.remove(at);
            continue;
        }
        let part = part("shop", name, &documents[done..=done]);
        begins.push(bytes.len() + part.len() - documents[done].len() - MARK.len());
        bytes.extend(part);
        rest[at].2 += 1;
    }
    (bytes, begins)
}

proptest! {
    #[test]
    fn any_archive_is_whole_and_no_part_of_it(
        (collections, order) in any_content(),
        length in 1..100_usize,
        cut: prop::sample::Index,
        flipped: (prop::sample::Index, prop::sample::Index, u8),
    ) {
        let (bytes, begins) = archive(&collections, &order);
        prop_assert_eq!(verdict_in_pieces(&bytes, length), Verdict::Whole);
        let cut = &bytes[..cut.index(bytes.len())];
        prop_assert!(matches!(verdict(cut), Verdict::Broken(_)), "{} of {} bytes", cut.len(), bytes.len());
        prop_assert_eq!(verdict_in_pieces(cut, length), verdict(cut));
        if !begins.is_empty() {
            let begin = begins[flipped.0.index(begins.len())];
            let length = usize::from(bytes[begin]);
            let mut damaged = bytes.clone();
            damaged[begin + flipped.1.index(length)] ^= 1 << (flipped.2 % 8);
            prop_assert!(matches!(verdict(&damaged), Verdict::Broken(_)), "{:?}", verdict(&damaged));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, places: Vec<(prop::sample::Index, u8)>, length in 1..50_usize) {
        let bytes = [MAGIC, &bytes].concat();
        prop_assert_eq!(verdict_in_pieces(&bytes, length), verdict(&bytes));
        let mut bytes = ARCHIVE.to_vec();
        for (place, byte) in places {
            let at = place.index(bytes.len());
            bytes[at] = byte;
        }
        prop_assert_eq!(verdict_in_pieces(&bytes, length), verdict(&bytes));
    }
}
