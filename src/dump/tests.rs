//! Tests of the whole reader, on small dumps that the real tools wrote (PostgreSQL 15.18, MariaDB 10.11, SQLite 3.40,
//! Redis 7.0) and on archives that are made here.

use super::{DumpFormat, DumpReader, DumpReport, Treatment, Verdict};
use proptest::prelude::*;
use std::io::{self, Read, Write as _};

const POSTGRES_SQL: &[u8] = include_bytes!("fixtures/postgres.sql");
const CLUSTER_SQL: &[u8] = include_bytes!("fixtures/cluster.sql");
const POSTGRES_TAR_GZ: &[u8] = include_bytes!("fixtures/postgres.tar.gz");
const MARIADB_SQL: &[u8] = include_bytes!("fixtures/mariadb.sql");
const SQLITE_SQL: &[u8] = include_bytes!("fixtures/sqlite.sql");
const REDIS_RDB: &[u8] = include_bytes!("fixtures/redis.rdb");
const REDIS_PIPED_RDB: &[u8] = include_bytes!("fixtures/redis-piped.rdb");

/// What is said of a stream that went through a terminal.
const CHANGED: &str =
    "a terminal changed its line ends (docker exec -t, kubectl exec -t or ssh -t); dump without -t";

/// Yields bytes in pieces whose lengths repeat.
struct Pieces<'a> {
    bytes: &'a [u8],
    lengths: std::iter::Cycle<std::slice::Iter<'a, usize>>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = *self.lengths.next().unwrap();
        let length = length.min(buffer.len()).min(self.bytes.len());
        buffer[..length].copy_from_slice(&self.bytes[..length]);
        self.bytes = &self.bytes[length..];
        Ok(length)
    }
}

/// Reads `bytes` through a reader in pieces; everything must come out again.
fn report_in_pieces(bytes: &[u8], lengths: &[usize], buffer: usize) -> DumpReport {
    let pieces = Pieces { bytes, lengths: lengths.iter().cycle() };
    let mut reader = DumpReader::open(pieces, Treatment::Verbatim).unwrap();
    let (mut body, mut buffer) = (Vec::new(), vec![0; buffer]);
    loop {
        match reader.read(&mut buffer).unwrap() {
            0 => break,
            length => body.extend_from_slice(&buffer[..length]),
        }
    }
    let (mut stored, report) = reader.finish();
    stored.extend(body);
    assert!(stored == bytes, "the stream was changed");
    report
}

fn report(bytes: &[u8]) -> DumpReport {
    report_in_pieces(bytes, &[usize::MAX], 64 * 1024)
}

fn reason(bytes: &[u8]) -> String {
    match report(bytes).verdict {
        Verdict::Broken(reason) => reason,
        other => panic!("not broken but {other:?}"),
    }
}

fn whole(formats: &[DumpFormat], compressed: bool) -> DumpReport {
    DumpReport { formats: formats.to_vec(), verdict: Verdict::Whole, compressed, filled_offsets: 0 }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
    plain
}

/// Compresses as the command does, with a checksum.
fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut context = zstd::zstd_safe::CCtx::create();
    context.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true)).unwrap();
    let mut packed = Vec::with_capacity(zstd::zstd_safe::compress_bound(bytes.len()));
    context.compress2(&mut packed, bytes).unwrap();
    packed
}

fn zstd_skippable(content: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x50, 0x2a, 0x4d, 0x18];
    frame.extend(u32::try_from(content.len()).unwrap().to_le_bytes());
    frame.extend(content);
    frame
}

fn with_crlf(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| if *byte == b'\n' { b"\r\n".to_vec() } else { vec![*byte] }).collect()
}

/// Returns the dump as versions before the word of `\restrict` wrote it.
fn without_restrict(sql: &[u8]) -> Vec<u8> {
    let lines = sql.split_inclusive(|byte| *byte == b'\n');
    lines
        .filter(|line| !line.starts_with(b"\\restrict") && !line.starts_with(b"\\unrestrict"))
        .flatten()
        .copied()
        .collect()
}

/// Returns an archive of a few members of all kinds that the crate writes.
fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let long = format!("{}/customers.csv", "a".repeat(150));
    for (name, length) in [("empty", 0_usize), ("orders.csv", 1), (long.as_str(), 512), ("more", 700)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(length as u64);
        builder.append_data(&mut header, name, &vec![7; length][..]).unwrap();
    }
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "link", "orders.csv").unwrap();
    builder.into_inner().unwrap()
}

/// Returns a member of an archive: its header, and its content as it is given.
fn member(change: impl FnOnce(&mut tar::Header), content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path("member").unwrap();
    header.set_size(content.len() as u64);
    change(&mut header);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// Returns every sample with what it is.
fn samples() -> Vec<(&'static str, Vec<u8>, Vec<DumpFormat>)> {
    use DumpFormat::{Gzip, MySql, PgSql, Rdb, SqliteSql, Tar, Zstd};
    let two_members = [gzip(&POSTGRES_SQL[..900]), gzip(&POSTGRES_SQL[900..])].concat();
    let frames = [zstd_skippable(b"x"), zstd(&SQLITE_SQL[..70]), zstd(&SQLITE_SQL[70..])].concat();
    vec![
        ("pg_dump", POSTGRES_SQL.to_vec(), vec![PgSql]),
        ("pg_dumpall", CLUSTER_SQL.to_vec(), vec![PgSql]),
        ("mariadb-dump", MARIADB_SQL.to_vec(), vec![MySql]),
        ("sqlite3", SQLITE_SQL.to_vec(), vec![SqliteSql]),
        ("redis", REDIS_RDB.to_vec(), vec![Rdb]),
        ("pg_dump -Ft", gunzip(POSTGRES_TAR_GZ), vec![Tar]),
        ("pg_dump -Ft | gzip", POSTGRES_TAR_GZ.to_vec(), vec![Gzip, Tar]),
        ("tar", archive(), vec![Tar]),
        ("gzip of two members", two_members, vec![Gzip, PgSql]),
        ("gzip of something", gzip(b"something"), vec![Gzip]),
        ("zstd of three frames", frames, vec![Zstd, SqliteSql]),
        ("zstd of something", zstd(b"something"), vec![Zstd]),
    ]
}

fn is_compressed(formats: &[DumpFormat]) -> bool {
    matches!(formats[0], DumpFormat::Gzip | DumpFormat::Zstd)
}

#[test]
fn what_the_tools_write_is_whole() {
    for (name, bytes, formats) in samples() {
        assert_eq!(report(&bytes), whole(&formats, is_compressed(&formats)), "{name}");
    }
    assert_eq!(report(REDIS_PIPED_RDB), whole(&[DumpFormat::Rdb], false));
}

#[test]
fn every_cut_of_every_format_is_found() {
    for (name, bytes, formats) in samples() {
        // Cuts before are those within what is needed to recognise the stream.
        let recognised = match formats[0] {
            DumpFormat::PgSql => "--\n-- PostgreSQL database ".len(),
            DumpFormat::MySql => 65,
            DumpFormat::SqliteSql => "PRAGMA foreign_keys=OFF;\n".len(),
            DumpFormat::Tar => 263,
            DumpFormat::Zstd if bytes.starts_with(&[0x50]) => 13,
            _ => 5,
        };
        for length in 0..bytes.len() {
            let report = report(&bytes[..length]);
            if length < recognised {
                assert!(report.verdict != Verdict::Whole, "{name} of {length} bytes is whole");
            } else {
                assert!(matches!(report.verdict, Verdict::Broken(_)), "{name} of {length} bytes: {report:?}");
                assert_eq!(report.formats[0], formats[0]);
            }
        }
    }
}

#[test]
fn what_is_in_pieces_is_judged_as_what_is_not() {
    let lengths = prop::collection::vec(1..700_usize, 1..6);
    let mut runner = proptest::test_runner::TestRunner::new_with_rng(
        ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() },
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let samples = samples();
    runner
        .run(&(lengths, 1..700_usize, 0.0..1.2_f64), |(lengths, buffer, part)| {
            for (name, bytes, _) in &samples {
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    clippy::cast_precision_loss
                )]
                let length = ((bytes.len() as f64 * part) as usize).min(bytes.len());
                let bytes = &bytes[..length];
                prop_assert_eq!(report_in_pieces(bytes, &lengths, buffer), report(bytes), "{}", name);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn mutations_are_judged_without_a_panic() {
    // A fixed sequence: each run sees the same mutations.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    for (_, bytes, formats) in samples() {
        for _ in 0..200 {
            let mut bytes = bytes.clone();
            for _ in 0..=random(3) {
                let at = random(bytes.len());
                bytes[at] = u8::try_from(random(256)).unwrap();
            }
            let cut = bytes.len() - random(2) * random(bytes.len());
            let report = report(&bytes[..cut]);
            assert!(report.formats.len() <= 2);
            if formats == [DumpFormat::Rdb] && bytes != REDIS_RDB {
                assert!(report.verdict != Verdict::Whole);
            }
        }
    }
}
