//! Tests of exports below the command line, read back by crate `tar`.

use std::io::Read;

use tar::{Archive, EntryType};

use super::*;
use crate::crypto::hash::ChunkKind;
use crate::format::tree::{Device, Entry, EntryKind, Value, Xattr};
use crate::id::ChunkId;
use crate::ops::patterns::ExcludePatternsBuilder;
use crate::ops::restore::fixture::{
    Fixture, MTIME, SYMLINK_TARGET, entry, every_kind, linked, noise, null_device, path, with_xattr,
};
use crate::progress::Silent;

/// A member of an archive, as far as tests look at it.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    path: String,
    kind: EntryType,
    link: Option<String>,
    content: Vec<u8>,
}

fn options(paths: &[&str], excludes: &[&str]) -> ExportOptions {
    let mut builder = ExcludePatternsBuilder::default();
    for pattern in excludes {
        builder.add("test", pattern.as_ref()).unwrap();
    }
    ExportOptions {
        paths: paths.iter().map(|text| path(text)).collect(),
        excludes: builder.finish().unwrap(),
    }
}

fn export_bytes(fixture: &Fixture, snapshot: &Snapshot, options: &ExportOptions) -> (Vec<u8>, ExportStats) {
    let mut bytes = Vec::new();
    let stats = export(&fixture.repo, snapshot, options, &mut bytes, &Silent).unwrap();
    assert_eq!((bytes.len() as u64, bytes.len() % 10_240), (stats.archive_bytes, 0));
    assert!(bytes.ends_with(&[0; 1024]));
    (bytes, stats)
}

fn members(archive: &[u8]) -> Vec<Found> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let read = |entry: std::io::Result<tar::Entry<'_, _>>| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        Found {
            path: text(&entry.path_bytes()),
            kind: entry.header().entry_type(),
            link: entry.link_name_bytes().map(|target| text(&target)),
            content,
        }
    };
    Archive::new(archive).entries().unwrap().map(read).collect()
}

fn paths(archive: &[u8]) -> Vec<String> {
    members(archive).into_iter().map(|member| member.path).collect()
}

#[test]
fn every_kind_of_entry_is_written() {
    let fixture = Fixture::new();
    let snapshot = fixture.commit(|maker| {
        let mut entries = every_kind(maker);
        entries.push(null_device());
        entries
    });
    let (bytes, stats) = export_bytes(&fixture, &snapshot, &options(&[], &[]));
    let found = members(&bytes);
    let list: Vec<_> = found.iter().map(|found| (found.path.as_str(), found.kind)).collect();
    assert_eq!(
        list,
        [
            ("closed/", EntryType::Directory),
            ("closed/third", EntryType::Regular),
            ("d/", EntryType::Directory),
            ("d/deep/", EntryType::Directory),
            ("d/deep/second", EntryType::Link),
            ("d/empty", EntryType::Regular),
            ("d/first", EntryType::Link),
            ("d/long", EntryType::Regular),
            ("d/small", EntryType::Regular),
            ("fifo", EntryType::Fifo),
            ("link", EntryType::Symlink),
            ("null", EntryType::Char),
            ("set-id", EntryType::Regular),
            ("GNUSparseFile.0/sparse", EntryType::Regular),
            ("tagged", EntryType::Regular),
        ]
    );
    assert_eq!(found[1].content, noise(1, 12_000));
    assert_eq!(found[4].link.as_deref(), Some("closed/third"));
    assert_eq!(found[6].link.as_deref(), Some("closed/third"));
    assert_eq!(found[7].content, noise(2, 250_017));
    assert_eq!(found[10].link.as_deref().unwrap().as_bytes(), SYMLINK_TARGET);
    assert_eq!((stats.files, stats.directories, stats.others), (9, 3, 3));
    assert_eq!((stats.sockets, stats.sockets_left_out, stats.failed), (vec![path("socket")], 1, 0));
    assert_eq!(stats.bytes, 12_000 + 250_017 + 5 + 2 + (40 << 20) + 9 + 6);
    // The same snapshot gives the same bytes.
    assert_eq!(export_bytes(&fixture, &snapshot, &options(&[], &[])).0, bytes);
}

#[test]
fn metadata_is_that_of_the_snapshot() {
    let fixture = Fixture::new();
    let snapshot = fixture.commit(every_kind);
    let (bytes, _) = export_bytes(&fixture, &snapshot, &options(&["tagged"], &[]));
    let mut archive = Archive::new(&bytes[..]);
    let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(entry.header().mode().unwrap(), 0o640);
    let records: Vec<_> = entry
        .pax_extensions()
        .unwrap()
        .unwrap()
        .map(|record| {
            record.map(|record| (record.key().unwrap().to_owned(), record.value_bytes().to_vec())).unwrap()
        })
        .collect();
    let time = format!("{}.{:09}", MTIME.seconds, MTIME.nanoseconds);
    assert_eq!(records[0], ("mtime".to_owned(), time.into_bytes()));
    assert_eq!(records[1], ("SCHILY.xattr.user.yester".to_owned(), b"value\0\xff".to_vec()));
}

#[test]
fn holes_take_no_space() {
    let fixture = Fixture::new();
    let snapshot = fixture.commit(|maker| {
        vec![
            maker.sparse_file("all", vec![Err(1 << 40)]),
            maker.sparse_file("middle", vec![Err(700), Ok(b"abc"), Err(5000), Ok(b"end")]),
            maker.sparse_file("tail", vec![Ok(b"start"), Err(1 << 30)]),
        ]
    });
    let (bytes, stats) = export_bytes(&fixture, &snapshot, &options(&[], &[]));
    assert!(bytes.len() < 20_000, "{}", bytes.len());
    assert_eq!(stats.bytes, (1 << 40) + 5706 + (1 << 30) + 5);
    let found = members(&bytes);
    let map = |found: &Found| {
        let end = found.content[..512].iter().position(|byte| *byte == 0).unwrap();
        String::from_utf8(found.content[..end].to_vec()).unwrap()
    };
    assert_eq!(map(&found[0]), "1\n1099511627776\n0\n");
    assert_eq!(map(&found[1]), "2\n512\n512\n5632\n74\n");
    assert_eq!(map(&found[2]), "2\n0\n512\n1073741829\n0\n");
    let mut data = vec![0; 512 + 74];
    data[188..191].copy_from_slice(b"abc");
    data[512 + 71..].copy_from_slice(b"end");
    assert_eq!(found[1].content[512..], data);
}

#[test]
fn a_selection_comes_with_the_directories_above_it() {
    let fixture = Fixture::new();
    let snapshot = fixture.commit(every_kind);
    let export_paths = |paths: &[&str], excludes: &[&str]| {
        self::paths(&export_bytes(&fixture, &snapshot, &options(paths, excludes)).0)
    };
    assert_eq!(
        export_paths(&["d/small", "d/deep", "d/deep/second"], &[]),
        ["d/", "d/deep/", "d/deep/second", "d/small"]
    );
    assert_eq!(export_paths(&["closed", "/"], &["d", "s*", "f*", "t*"]), ["closed/", "link"]);
    assert_eq!(export_paths(&["d"], &["deep/", "long"]), ["d/", "d/empty", "d/first", "d/small"]);
    // What was asked for is never left out.
    assert_eq!(export_paths(&["d/deep/second"], &["deep/", "second"]), ["d/", "d/deep/", "d/deep/second"]);
    // The first name that is taken carries the content.
    let (bytes, _) = export_bytes(&fixture, &snapshot, &options(&["d"], &["deep"]));
    let found = members(&bytes);
    assert_eq!((found[2].kind, found[2].content.len()), (EntryType::Regular, 12_000));
}

#[test]
fn an_absent_path_is_told_before_the_first_byte() {
    let fixture = Fixture::new();
    let snapshot = fixture.commit(every_kind);
    let mut bytes = Vec::new();
    let error =
        export(&fixture.repo, &snapshot, &options(&["d", "no"], &[]), &mut bytes, &Silent).unwrap_err();
    assert!(matches!(error, ExportError::List(ListError::NotFound { .. })), "{error}");
    assert!(bytes.is_empty());
}

#[test]
fn damage_becomes_zeros_and_what_follows_is_whole() {
    let mut fixture = Fixture::new();
    let content = noise(5, 40_000);
    let snapshot = fixture.commit(|maker| {
        vec![
            maker.file("bad", &content),
            maker.sparse_file("bad-sparse", vec![Err(4096), Ok(&content[..5000]), Err(8192)]),
            maker.file("good", b"good"),
        ]
    });
    let pack = fixture.pack_of(ChunkKind::Data, &content[..5000]);
    fixture.tamper(&pack, |bytes| bytes[1000] ^= 1);
    fixture.reopen();
    let (bytes, stats) = export_bytes(&fixture, &snapshot, &options(&[], &[]));
    let found = members(&bytes);
    assert_eq!(
        found.iter().map(|found| found.path.as_str()).collect::<Vec<_>>(),
        ["bad", "GNUSparseFile.0/bad-sparse", "good"]
    );
    assert_eq!(found[0].content.len(), content.len());
    for (found, expected) in found[0].content.iter().zip(&content) {
        assert!(*found == 0 || found == expected, "wrong bytes were written");
    }
    assert!(found[0].content.starts_with(&[0; 5000]));
    assert_eq!(found[2].content, b"good");
    assert_eq!((stats.failed, stats.files), (2, 3));
    assert_eq!(stats.failures[0].path, path("bad"));
    let reason = &stats.failures[0].reason;
    assert!(reason.contains("of its 40000 bytes are zeros in the archive (0 to "), "{reason}");
    assert!(
        stats.failures[1]
            .reason
            .starts_with("5000 of its 17288 bytes are zeros in the archive (4096 to 9095)")
    );
}

#[test]
fn what_cannot_be_described_is_left_out_and_named() {
    let missing = ChunkId::from_bytes([7; 32]);
    let lost = Value::Spilled { chunk: missing, length: 5000 };
    let fixture = Fixture::new();
    let snapshot = fixture.commit(|maker| {
        let mut tagged = with_xattr(maker.file("tagged", b"x"), "user.kept", b"value");
        tagged.attributes.xattrs.insert(0, Xattr { name: b"user.gone".to_vec(), value: lost });
        let content = crate::format::content::Content::List { node: missing, length: 1 << 40 };
        let listless = entry("listless", 0o600, EntryKind::File(content));
        let second = linked(entry("second", 0o600, listless.kind.clone()), 4, 2);
        vec![tagged, linked(listless, 4, 2), second]
    });
    let (bytes, stats) = export_bytes(&fixture, &snapshot, &options(&[], &[]));
    assert_eq!(paths(&bytes), ["tagged"]);
    assert_eq!(stats.failed, 3);
    assert!(stats.failures[0].reason.starts_with("it is left out: "), "{:?}", stats.failures);
    assert!(
        stats.failures[2].reason.starts_with("its attribute user.gone is left out: "),
        "{:?}",
        stats.failures
    );
}

#[test]
fn a_reader_that_goes_away_ends_it() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            if taken == 0 { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(taken) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let fixture = Fixture::new();
    let snapshot = fixture.commit(|maker| vec![maker.file("long", &noise(3, 3_000_000))]);
    for room in [0, 5000, 1_000_000] {
        let options = options(&[], &[]);
        let error = export(&fixture.repo, &snapshot, &options, &mut Full(room), &Silent).unwrap_err();
        assert!(matches!(error, ExportError::Output { .. }), "{error}");
    }
}

#[test]
fn names_of_any_bytes_are_kept() {
    let fixture = Fixture::new();
    let long = |byte: u8| {
        let mut bytes = vec![b'n'; 254];
        bytes.push(byte);
        crate::path::Name::new(&bytes).unwrap()
    };
    let snapshot = fixture.commit(|maker| {
        let named = |name, mut entry: Entry| {
            entry.name = name;
            entry
        };
        let device = EntryKind::BlockDevice(Device { major: 8, minor: 1 });
        vec![named(long(0xff), maker.file("x", b"raw")), named(long(b'\n'), entry("x", 0o600, device))]
    });
    let (bytes, stats) = export_bytes(&fixture, &snapshot, &options(&[], &[]));
    assert_eq!((stats.files, stats.others), (1, 1));
    for name in [long(0xff), long(b'\n')] {
        let record = [b"path=", name.as_bytes(), b"\n"].concat();
        assert!(bytes.windows(record.len()).any(|window| window == record));
    }
}
