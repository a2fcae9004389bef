//! How the frozen stores of `mount-tests/stores` were made: whole stores of format version 1 that must be readable
//! for ever.
//!
//! This file owns what each of them holds; [`workshop`] puts it into a store, and [`maker`] makes entries and notes
//! what is expected of them. `mount-tests/frozen.rs` reads the stores, with the program and with a reader that shares
//! no code with it.

mod maker;
mod workshop;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::crypto::hash::ChunkKind;
use crate::crypto::secrets::WriterClass;
use crate::format::header::ObjectKind;
use crate::format::snapshot::{Completeness, MarkState};
use crate::format::tree::{Device, EntryKind};
use maker::{Made, Maker, Piece, Stands, noise};
use workshop::{Draft, Frame, Secrets, Workshop};

/// A frozen store: its name, what opens it, and what fills it.
type Recipe = (&'static str, Secrets, fn(&Workshop));

const STORES: [Recipe; 6] = [
    ("encrypted", Secrets::All, fill_encrypted),
    ("plain", Secrets::None, fill_plain),
    ("deltas", Secrets::KeyFile, fill_deltas),
    ("trees", Secrets::None, fill_trees),
    ("marks", Secrets::None, fill_marks),
    ("chains", Secrets::KeyFile, fill_chains),
];

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "mount-tests", "stores"].iter().collect()
}

/// With `YESTER_WRITE_VECTORS=1` in the environment, stores that are missing are written first. None is ever
/// overwritten: what is added to the format gets a store of its own.
#[test]
fn every_frozen_store_is_there_and_has_its_recipe() {
    if std::env::var_os("YESTER_WRITE_VECTORS").is_some_and(|value| value == "1") {
        for (name, secrets, fill) in STORES {
            if !folder().join(name).exists() {
                let workshop = Workshop::new(folder().join(name), secrets);
                fill(&workshop);
                workshop.write_expected();
            }
        }
    }
    let expected: BTreeSet<_> = STORES.iter().map(|(name, ..)| (*name).to_owned()).collect();
    let folders = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap());
    let found: BTreeSet<_> = folders
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, expected);
}

/// Every kind of small object; sessions of the program itself, and of an ingest-only writer; marks, a fenced
/// session, later configs, and objects that mean nothing.
fn fill_encrypted(workshop: &Workshop) {
    let first = workshop.ingest(&Draft::new("docs"), &|maker| documents(maker, b"first"));
    let second = workshop.ingest(&Draft { tags: vec!["nightly"], ..Draft::new("docs") }, &|maker| {
        documents(maker, b"second, and longer")
    });
    let stream = Draft {
        paths: vec![&b"app.dump"[..]],
        command: Some(vec![&b"pg_dump"[..], &b"--file=\xff"[..]]),
        completeness: Completeness::Suspicious,
        ..Draft::new("app.dump")
    };
    let edge = Workshop::writer("edge1", WriterClass::IngestOnly);
    let third = workshop.by_hand(&edge, 3, &stream, &|maker| vec![maker.file("app.dump", &noise(31, 3000))]);
    let main = Workshop::writer("db1", WriterClass::Full);
    let partial = Draft { completeness: Completeness::Partial, ..Draft::new("docs") };
    let fourth = workshop.by_hand(&main, 4, &partial, &|maker| documents(maker, b"fourth"));

    workshop.mark(&main, first, 0, MarkState::Protected);
    workshop.mark(&main, first, 1, MarkState::Unprotected);
    workshop.mark(&main, second, 0, MarkState::Forgotten);
    // A gap in the numbers, and more than one digit: the highest number counts, not the last in the alphabet.
    workshop.mark(&main, third, 9, MarkState::Unprotected);
    workshop.mark(&main, third, 10, MarkState::Accepted);
    workshop.mark(&main, fourth, 0, MarkState::Forgotten);
    workshop.mark(&main, fourth, 1, MarkState::Restored);
    let fifth = workshop.by_hand(&edge, 5, &Draft::new("empty"), &|_| Vec::new());
    workshop.mark(&edge, fifth, 0, MarkState::Protected);
    workshop.fence(&main, 6);
    workshop.add_later_configs();
    workshop.add_stray_objects();
}

/// A directory with files of no, one and several chunks.
fn documents(maker: &Maker<'_>, changing: &[u8]) -> Vec<Made> {
    let deep = vec![maker.file("short", b"the same bytes"), maker.file("changing", changing)];
    vec![
        maker.file("empty", b""),
        maker.file("text", &b"all work and no play\n".repeat(200)),
        maker.file("noise", &noise(1, 9000)),
        maker.directory("deep", deep),
        maker.entry("link", EntryKind::Symlink(b"deep/short".to_vec())),
    ]
}

/// No encryption, and an index object that supersedes two others, which were not deleted yet.
fn fill_plain(workshop: &Workshop) {
    let writer = Workshop::writer("db1", WriterClass::Full);
    workshop.by_hand(&writer, 1, &Draft::new("docs"), &|maker| documents(maker, b"first"));
    workshop.by_hand(&writer, 2, &Draft::new("docs"), &|maker| documents(maker, b"second"));
    workshop.replace_index(&writer, 3);
}

/// Delta frames of data and of pages: with the base in the same pack, in another pack, and in two packs.
fn fill_deltas(workshop: &Workshop) {
    let writer = Workshop::writer("db1", WriterClass::Full);
    let (log, table) = (noise(10, 8000), noise(11, 6000));
    let settings = |maker: &Maker<'_>| -> Vec<Made> {
        (0..60).map(|number| maker.file(format!("setting-{number:02}"), &[])).collect()
    };

    let mut session = workshop.begin(&writer, 1);
    let entries = session.make(&|maker| {
        let mut entries = settings(maker);
        entries.extend([maker.file("log", &log), maker.file("table", &table)]);
        entries
    });
    // Both files are chunks of 4,096 bytes at most: one frame holds the two of `log`, one those of `table`.
    let data: Vec<Frame> = session.take_data(2);
    let pages = session.take_metadata(1);
    let (base_of_log, base_of_table) = (data[0].chunks.clone(), data[1].chunks.clone());
    let base_page = pages[pages.len() - 1].chunks.clone();
    session.pack(ObjectKind::DataPack, &data);
    session.pack(ObjectKind::TreePack, &pages);
    session.commit(&Draft::new("logs"), entries);

    let mut session = workshop.begin(&writer, 2);
    let (mut log, mut table) = (log, table);
    log[100..110].fill(b'x');
    table[5000] ^= 1;
    let own = noise(12, 3000);
    let mut own_variant = own.clone();
    own_variant[1000..1004].fill(0);
    let entries = session.make(&|maker| {
        let mut entries = settings(maker);
        entries.extend([
            maker.file("log", &log),
            maker.file("own", &own),
            maker.file("own-variant", &own_variant),
        ]);
        entries.push(maker.file("table", &table));
        entries
    });
    let mut data = session.take_data(1);
    assert_eq!(data.len(), 4);
    data[0].bases = vec![base_of_log];
    data[2].bases = vec![data[1].chunks.clone()];
    data[3].bases = vec![base_of_table.clone()];
    let mut pages = session.take_metadata(1);
    let root_page = pages.len() - 1;
    pages[root_page].bases = vec![base_page];
    session.pack(ObjectKind::DataPack, &data);
    session.pack(ObjectKind::TreePack, &pages);
    // A base that was moved whole: the same list of chunks in another pack is the same frame.
    session.pack(ObjectKind::DataPack, &[Frame { chunks: base_of_table, bases: Vec::new() }]);
    session.commit(&Draft::new("logs"), entries);
}

/// Deltas that stand on deltas, up to the longest chain, and on two frames, of which one may be a delta too.
fn fill_chains(workshop: &Workshop) {
    let writer = Workshop::writer("db1", WriterClass::Full);
    let (mut log, left, right) = (noise(40, 4000), noise(41, 4000), noise(42, 4000));
    let across = [&left[3000..], &right[..3000]].concat();
    let mut again = [&right[3500..], &across[..3500]].concat();
    again[1000] ^= 1;
    let mut below: Option<Frame> = None;
    for number in 1..=9 {
        let mut session = workshop.begin(&writer, number);
        log[usize::from(number) * 400..][..4].fill(number);
        let entries = session.make(&|maker| {
            let file = |name: &str, bytes: &[u8]| maker.pieces(name, &[Piece::Data(bytes)]);
            let mut entries = Vec::new();
            if number > 1 {
                entries.push(file("across", &across));
            }
            if number > 2 {
                entries.push(file("again", &again));
            }
            entries.extend([file("left", &left), file("log", &log), file("right", &right)]);
            entries
        });
        // Each file is one chunk. Only new ones are left: the log of this night, and one or two more.
        let mut data = session.take_data(1);
        let of = |bytes: &[u8]| vec![(ChunkKind::Data, bytes.to_vec())];
        for frame in &mut data {
            let plain = frame.chunks[0].1.clone();
            if plain == log {
                frame.bases = below.iter().map(|below| below.chunks.clone()).collect();
            } else if plain == across {
                frame.bases = vec![of(&left), of(&right)];
            } else if plain == again {
                frame.bases = vec![of(&right), of(&across)];
            }
        }
        below = Some(Frame { chunks: of(&log), bases: Vec::new() });
        session.pack(ObjectKind::DataPack, &data);
        let pages = session.take_metadata(1);
        session.pack(ObjectKind::TreePack, &pages);
        session.commit(&Draft::new("nights"), entries);
    }
}

/// Everything that trees and content can hold; the ends of some pages and nodes are where no writer puts them.
fn fill_trees(workshop: &Workshop) {
    let writer = Workshop::writer("db1", WriterClass::Full);
    let paths: Vec<&[u8]> =
        vec![b"/content", b"/empty", b"/hand-cut", b"/kinds", b"/later", b"/many", b"/metadata", b"/\xe4"];
    let trees = Draft { paths, ..Draft::new("trees") };
    workshop.by_hand(&writer, 1, &trees, &|maker| {
        let many = (0..300).map(|number| maker.file(format!("file-{number:03}"), &[])).collect();
        let hand_cut = (0..13).map(|number| maker.file(format!("{number:02}"), &[number])).collect();
        let later = maker.file("file", b"with a field that version 1 does not know");
        vec![
            maker.directory("content", contents(maker)),
            maker.directory("empty", Vec::new()),
            maker.directory("kinds", kinds(maker)),
            maker.directory("many", many),
            maker.hand_cut_directory("hand-cut", hand_cut),
            maker.later_directory("later", later),
            maker.directory("metadata", metadata(maker)),
            maker.directory(b"\xe4", vec![maker.file(b"\xff", b"in a directory whose name is no text")]),
        ]
    });
}

/// Marks of several axes in one snapshot, in orders that a rule of the last mark alone would get wrong.
fn fill_marks(workshop: &Workshop) {
    use MarkState::{Accepted, Forgotten, Protected, Restored, Unprotected};

    let main = Workshop::writer("db1", WriterClass::Full);
    let orders: [(u8, &[MarkState]); 8] = [
        (1, &[Accepted, Protected]),
        (2, &[Protected, Accepted]),
        (3, &[Accepted, Protected, Unprotected]),
        (4, &[Forgotten, Accepted]),
        (5, &[Forgotten, Unprotected]),
        (6, &[Protected, Forgotten, Unprotected, Accepted, Restored]),
        (7, &[Forgotten, Restored, Forgotten, Protected]),
        (8, &[Forgotten, Accepted, Protected, Unprotected]),
    ];
    let suspicious = Draft { completeness: Completeness::Suspicious, ..Draft::new("dumps") };
    for (number, states) in orders {
        let snapshot = workshop.by_hand(&main, number, &suspicious, &|_| Vec::new());
        // From 8 on, so that the numbers come to two digits.
        for (mark, state) in (8..).zip(states) {
            workshop.mark(&main, snapshot, mark, *state);
        }
    }
    let edge = Workshop::writer("edge1", WriterClass::IngestOnly);
    let kept = workshop.by_hand(&main, 9, &suspicious, &|_| Vec::new());
    workshop.mark(&main, kept, 0, Forgotten);
    workshop.mark(&edge, kept, 1, Protected);
}

/// Files whose bytes are stored in every way.
fn contents(maker: &Maker<'_>) -> Vec<Made> {
    let blocks: Vec<Vec<u8>> = (0..7_u8).map(|number| vec![number; 10]).collect();
    let long: Vec<Piece<'_>> = blocks.iter().cycle().map(|block| Piece::Data(block)).take(1100).collect();
    let mut with_holes = Vec::new();
    for _ in 0..40 {
        with_holes.extend([Piece::Data(b"data"), Piece::Hole(5000)]);
    }
    let hand_cut: Vec<Vec<u8>> = (0..11_u8).map(|number| vec![number; 100]).collect();
    let hand_cut: Vec<Piece<'_>> = hand_cut.iter().map(|bytes| Piece::Data(bytes)).collect();
    vec![
        maker.pieces("all-hole", &[Piece::Hole(100_000)]),
        maker.pieces("ends-in-hole", &[Piece::Data(b"beginning"), Piece::Hole(70_000)]),
        maker.pieces("inline-32", &[Piece::Data(b"x"); 32]),
        maker.pieces("list-1100", &long),
        maker.pieces("list-33", &[Piece::Data(b"x"); 33]),
        maker.hand_cut_file("list-by-hand", &hand_cut),
        maker.pieces("list-of-holes", &with_holes),
        maker.pieces("starts-with-hole", &[Piece::Hole(4096), Piece::Data(b"end")]),
    ]
}

/// Every kind of entry, and files with several names.
fn kinds(maker: &Maker<'_>) -> Vec<Made> {
    let device = Device { major: 1, minor: 3 };
    vec![
        maker.entry("block", EntryKind::BlockDevice(Device { major: 7, minor: 1_048_575 })),
        maker.entry("character", EntryKind::CharDevice(device)).mode(0o666),
        maker.entry("fifo", EntryKind::Fifo).link(2, 2),
        maker.entry("fifo-again", EntryKind::Fifo).link(2, 2),
        maker.file("file", b"one file, three names").link(1, 3),
        maker.file("file-again", b"one file, three names").link(1, 3),
        maker.entry("socket", EntryKind::Socket),
        maker.entry("symlink", EntryKind::Symlink(b"\xff\xfe/nowhere".to_vec())),
        maker.entry("symlink-again", EntryKind::Symlink(b"once more".to_vec())).link(u64::MAX, 2),
        maker.directory(
            "below",
            vec![
                maker.file("third-name", b"one file, three names").link(1, 3),
                maker.entry("symlink", EntryKind::Symlink(b"once more".to_vec())).link(u64::MAX, 2),
            ],
        ),
    ]
}

/// Names, owners, modes, times and extended attributes.
fn metadata(maker: &Maker<'_>) -> Vec<Made> {
    vec![
        maker.file(b"\xe4 is no UTF-8", b"1"),
        maker.file("line\nbreak\x1b[31m", b"2"),
        maker.file("n".repeat(255), b"3"),
        maker.file("ümlaut 名前", b"4"),
        maker.file("before-1970", b"").mtime(-2, 999_999_999),
        maker.file("in-2200", b"").mtime(7_258_118_400, 1),
        maker.file("owned", b"").owner(1000, 4_294_967_294, b"somebody\xff", b"some group"),
        maker.file("set-id", b"#!").mode(0o6755),
        maker.directory("sticky", Vec::new()).mode(0o1777),
        maker.directory("closed", vec![maker.file("inside", b"5")]).mode(0),
        maker
            .file("attributes", b"")
            .xattr(maker, "user.empty", b"", Stands::InEntry)
            .xattr(maker, "user.inline", b"value\0\xff", Stands::InEntry)
            .xattr(maker, "user.spilled", &noise(20, 1000), Stands::InChunk),
        maker.directory("attributes-too", Vec::new()).xattr(maker, "user.also", b"here", Stands::InChunk),
    ]
}
