//! Tests of the whole reader, on small dumps that the real tools wrote (PostgreSQL 15.18, MariaDB 10.11, SQLite 3.40,
//! Redis 7.0), on an archive after what mongodump 100 writes, and on tar archives that are made here.

use super::tar::RECOGNISED_BYTES;
use super::{DumpFormat, DumpReader, DumpReport, Treatment, Verdict};
use proptest::prelude::*;
use std::io::{self, Read, Write as _};

const POSTGRES_SQL: &[u8] = include_bytes!("fixtures/postgres.sql");
const CLUSTER_SQL: &[u8] = include_bytes!("fixtures/cluster.sql");
const POSTGRES_TAR_GZ: &[u8] = include_bytes!("fixtures/postgres.tar.gz");
const MARIADB_SQL: &[u8] = include_bytes!("fixtures/mariadb.sql");
const SQLITE_SQL: &[u8] = include_bytes!("fixtures/sqlite.sql");
const MONGO_ARCHIVE: &[u8] = include_bytes!("fixtures/mongo.archive");
const REDIS_RDB: &[u8] = include_bytes!("fixtures/redis.rdb");
const REDIS_PIPED_RDB: &[u8] = include_bytes!("fixtures/redis-piped.rdb");

/// What is said of a stream that went through a terminal.
const CHANGED: &str = "a terminal changed its line ends (docker exec -t, kubectl exec -t or ssh -t), or Windows did; dump without -t";

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
        header.set_mode(0o644);
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
    use DumpFormat::{Gzip, MongoArchive, MySql, PgSql, Rdb, SqliteSql, Tar, Zstd};
    let two_members = [gzip(&POSTGRES_SQL[..900]), gzip(&POSTGRES_SQL[900..])].concat();
    let frames = [zstd_skippable(b"x"), zstd(&SQLITE_SQL[..70]), zstd(&SQLITE_SQL[70..])].concat();
    vec![
        ("pg_dump", POSTGRES_SQL.to_vec(), vec![PgSql]),
        ("pg_dumpall", CLUSTER_SQL.to_vec(), vec![PgSql]),
        ("mariadb-dump", MARIADB_SQL.to_vec(), vec![MySql]),
        ("sqlite3", SQLITE_SQL.to_vec(), vec![SqliteSql]),
        ("redis", REDIS_RDB.to_vec(), vec![Rdb]),
        ("mongodump --archive", MONGO_ARCHIVE.to_vec(), vec![MongoArchive]),
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
        // A shorter part may be the beginning of anything.
        let recognised = match formats[0] {
            DumpFormat::Tar => RECOGNISED_BYTES,
            DumpFormat::Zstd if bytes.starts_with(&[0x50]) => 13,
            _ => 1,
        };
        // Comments begin dumps of more than one kind of database.
        let named = recognised.max(4);
        for length in 0..bytes.len() {
            let report = report(&bytes[..length]);
            if length < recognised {
                assert!(report.verdict != Verdict::Whole, "{name} of {length} bytes is whole");
                continue;
            }
            assert!(matches!(report.verdict, Verdict::Broken(_)), "{name} of {length} bytes: {report:?}");
            assert!(
                length < named || report.formats[0] == formats[0],
                "{name} of {length} bytes: {report:?}"
            );
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

#[test]
fn short_files_are_no_archives() {
    for bytes in
        [&[b' '; 200][..], &[b'0'; 200], &[&[1], &[0; 199][..]].concat(), &[&b"list"[..], &[0; 300]].concat()]
    {
        assert!(matches!(report(bytes).verdict, Verdict::Unchecked(_)), "{bytes:?}");
    }
}

/// A dump of a schema has no data that such a line could begin.
#[test]
fn a_function_may_speak_of_copying() {
    let function = "CREATE FUNCTION f() RETURNS void AS $$\nCOPY t FROM stdin;\n$$;\n\n";
    let head = "--\n-- PostgreSQL database dump\n--\n\n\\restrict word\n\n";
    let end = "--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict word\n\n";
    let dump = [head, function, end].concat();
    assert_eq!(report(dump.as_bytes()), whole(&[DumpFormat::PgSql], false));
    for length in head.len()..dump.len() - 1 {
        assert!(matches!(report(&dump.as_bytes()[..length]).verdict, Verdict::Broken(_)), "{length}");
    }
}

#[test]
fn logs_are_no_error_messages() {
    assert!(matches!(report(b"Error: 3 of 100 rows are odd\n").verdict, Verdict::Unchecked(_)));
    assert!(matches!(report(b"Error: No such container: shop-db\n").verdict, Verdict::Broken(_)));
}

#[test]
fn sql_dumps_may_follow_each_other() {
    let old = without_restrict(POSTGRES_SQL);
    assert_eq!(report(&old), whole(&[DumpFormat::PgSql], false));
    let globals = [
        &b"--\n-- PostgreSQL database cluster dump\n--\n\nSET x = on;\n\n--\n"[..],
        b"-- PostgreSQL database cluster dump complete\n--\n\n",
    ]
    .concat();
    for second in [POSTGRES_SQL, &old, CLUSTER_SQL] {
        let both = [&globals, second].concat();
        assert_eq!(report(&both), whole(&[DumpFormat::PgSql], false));
        assert_eq!(report(&both[..globals.len()]).verdict, Verdict::Whole);
        for length in globals.len() + 1..both.len() {
            let fooled = second == old && report(&both[..length]).verdict == Verdict::Whole;
            // Before \restrict, a function that holds the closing comment looked like the end.
            let within_function = both[..length].ends_with(b"complete\n--\n\n");
            assert!(!fooled || within_function, "{length} bytes are whole");
        }
    }
    assert_eq!(reason(&[POSTGRES_SQL, b"VACUUM;\n"].concat()), "something else follows its closing comment");
    assert_eq!(report(&[POSTGRES_SQL, b"-- by nightly.sh\n"].concat()).verdict, Verdict::Whole);
}

#[test]
fn lines_of_data_are_no_comments() {
    let closing = "--\n-- PostgreSQL database dump complete\n--\n\n";
    let opening = "--\n-- PostgreSQL database dump\n--\n\nCOPY public.t (\"a b\") FROM stdin;\n";
    assert_eq!(reason(format!("{opening}{closing}").as_bytes()), "it ends amid the data of a table");
    assert_eq!(report(format!("{opening}{closing}\\.\n\n{closing}").as_bytes()).verdict, Verdict::Whole);
    let wide: Vec<_> = (0..1600).map(|n| format!("\"{}{n}\"", "c".repeat(59))).collect();
    let opening = opening.replace("\"a b\"", &wide.join(", "));
    assert_eq!(reason(format!("{opening}{closing}").as_bytes()), "it ends amid the data of a table");
}

#[test]
fn a_dump_within_a_value_opens_nothing() {
    let value = "INSERT INTO t VALUES ('\n-- PostgreSQL database cluster dump\n\\restrict b\n');\n";
    let closing = "--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict a\n\n";
    let dump = format!("--\n-- PostgreSQL database dump\n--\n\n\\restrict a\n\n{value}{closing}");
    assert_eq!(report(dump.as_bytes()).verdict, Verdict::Whole);
    assert!(matches!(
        report(dump.replace("unrestrict a", "unrestrict b").as_bytes()).verdict,
        Verdict::Broken(_)
    ));
}

#[test]
fn the_last_lines_of_other_sql_dumps_count() {
    let undated = [&MARIADB_SQL[..MARIADB_SQL.len() - " on 2026-11-21 12:07:37\n".len()], b"\n"].concat();
    assert!(undated.ends_with(b"\n-- Dump completed\n"));
    assert_eq!(report(&undated).verdict, Verdict::Whole);
    let mysql = b"-- MySQL dump 10.13  Distrib 8.0.40, for Linux (x86_64)\n--\n";
    assert_eq!(reason(mysql), "it ends without mysqldump's closing comment, -- Dump completed");
    assert_eq!(report(&[&mysql[..], b"-- Dump completed on 2026-11-21\n"].concat()).verdict, Verdict::Whole);
    let failed = [&SQLITE_SQL[..SQLITE_SQL.len() - 8], b"ROLLBACK; -- due to errors\n"].concat();
    assert_eq!(reason(&failed), "sqlite3 met errors while it dumped");
    assert_eq!(reason(&SQLITE_SQL[..SQLITE_SQL.len() - 9]), "it ends without its final COMMIT");
}

#[test]
fn redis_files_need_their_checksum() {
    let mut unsummed = REDIS_RDB.to_vec();
    let end = unsummed.len();
    unsummed[end - 8..].fill(0);
    let unchecked = Verdict::Unchecked("it has no checksum (rdbchecksum no)".to_owned());
    assert_eq!(report(&unsummed).verdict, unchecked);
    assert!(matches!(report(&unsummed[..end - 1]).verdict, Verdict::Broken(_)));
    assert_eq!(reason(&REDIS_RDB[..100]), "it is cut short");
    let mut damaged = REDIS_RDB.to_vec();
    damaged[100] ^= 1;
    assert_eq!(reason(&damaged), "its checksum does not match its content");
    assert_eq!(
        report(b"REDIS0003\xfe\0\xff").verdict,
        Verdict::Unchecked("its version, 3, has no checksum".to_owned())
    );
    assert_eq!(reason(b"REDIS"), "it is cut short within its header");
    let file = REDIS_PIPED_RDB.len() - 40;
    for length in 9..REDIS_PIPED_RDB.len() {
        let is_whole = report(&REDIS_PIPED_RDB[..length]).verdict == Verdict::Whole;
        assert_eq!(is_whole, length == file, "{length}");
    }
}

#[test]
fn compressed_streams_need_their_own_end_and_a_whole_content() {
    let packed = gzip(POSTGRES_SQL);
    assert_eq!(reason(&packed[..packed.len() - 1]), "its gzip stream is cut short");
    assert_eq!(report(&[&packed[..], &[0; 1000]].concat()).verdict, Verdict::Whole);
    assert_eq!(reason(&[&packed[..], &[0, 1]].concat()), "something else follows its gzip stream");
    assert_eq!(reason(&[&packed[..], b"x"].concat()), "something else follows its gzip stream");
    for at in packed.len() - 8..packed.len() {
        let mut damaged = packed.clone();
        damaged[at] ^= 1;
        assert_eq!(reason(&damaged), "its gzip stream is damaged", "byte {at}");
    }
    for pack in [gzip, zstd] {
        let half = pack(&POSTGRES_SQL[..600]);
        assert_eq!(reason(&half), "it ends without pg_dump's closing comment");
        let message = pack(b"pg_dump: error: connection to server failed\n");
        assert_eq!(
            reason(&message),
            "it is an error message, not a dump: pg_dump: error: connection to server failed"
        );
        assert!(reason(&pack(b"")).ends_with("stream holds nothing"));
        let twice = report(&pack(&gzip(b"a")));
        assert_eq!(twice.formats.len(), 2);
        assert!(matches!(twice.verdict, Verdict::Unchecked(_)));
        assert!(twice.compressed);
    }
}

#[test]
fn zstd_streams_are_read_frame_by_frame() {
    let packed = zstd(POSTGRES_SQL);
    assert_eq!(report(&[&packed[..], &zstd_skippable(b"seek table")].concat()).verdict, Verdict::Whole);
    assert_eq!(reason(&packed[..packed.len() - 1]), "its zstd stream is cut short");
    assert_eq!(reason(&[&packed[..], b"garbage"].concat()), "its zstd stream is damaged");
    let mut damaged = packed.clone();
    let end = damaged.len();
    damaged[end - 1] ^= 1;
    assert_eq!(reason(&damaged), "its zstd stream is damaged");
    // A frame whose window is 2 GiB: magic, descriptor, window descriptor, an empty last block.
    let wide = [0x28, 0xb5, 0x2f, 0xfd, 0, 21 << 3, 1, 0, 0];
    assert!(matches!(report(&wide).verdict, Verdict::Unchecked(reason) if reason.contains("128 MiB")));
}

#[test]
fn every_dialect_of_tar_is_walked() {
    let end = vec![0; 1024];
    let content = vec![b'x'; 1300];
    let binary_size = member(
        |header| header.as_mut_bytes()[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 20]),
        &content,
    );
    // The size in the header is wrong; that of the pax header counts.
    let pax = [
        member(
            |header| header.set_entry_type(tar::EntryType::XHeader),
            b"30 GNU.sparse.realsize=999999\n13 size=1300\n",
        ),
        member(|header| header.set_size(0), &content),
    ]
    .concat();
    let directory = member(
        |header| {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_size(4096);
        },
        b"",
    );
    let link_without = member(
        |header| {
            header.set_entry_type(tar::EntryType::Link);
            header.set_size(1300);
        },
        b"",
    );
    let link_with = member(|header| header.set_entry_type(tar::EntryType::Link), &content);
    let mut sparse = member(
        |header| {
            header.set_entry_type(tar::EntryType::GNUSparse);
            header.as_mut_bytes()[482] = 1;
            header.set_size(700);
        },
        b"",
    );
    let mut map = vec![0; 1024];
    map[504] = 1;
    sparse.extend([map, vec![b'x'; 1024]].concat());
    for (name, member) in [
        ("binary", binary_size),
        ("pax", pax),
        ("directory", directory),
        ("link", link_without),
        ("link with content", link_with),
        ("sparse", sparse),
    ] {
        let archive = [&member, &archive()[..], &member, &end].concat();
        let archive = [&archive[..], &archive, &[0; 8192]].concat();
        assert_eq!(report(&archive), whole(&[DumpFormat::Tar], false), "{name}");
        for length in (512..member.len()).step_by(257) {
            assert!(matches!(report(&archive[..length]).verdict, Verdict::Broken(_)), "{name} {length}");
        }
    }
}

#[test]
fn damaged_archives_are_found() {
    let archive = archive();
    let end = archive.len();
    assert_eq!(
        reason(&archive[..end - 512]),
        "it ends without the two blocks of zeros at the end of an archive"
    );
    assert_eq!(reason(&archive[..1300]), "it is cut short within orders.csv");
    assert_eq!(reason(&archive[..1536]), "it ends without the two blocks of zeros at the end of an archive");
    let mut damaged = archive.clone();
    damaged[512 + 100] ^= 1;
    assert_eq!(reason(&damaged), "it is damaged within or behind empty");
    assert_eq!(reason(&[&archive[..], &[0; 511]].concat()), "its length is no multiple of 512 bytes");
    assert_eq!(reason(&[&archive[..], &[1; 512]].concat()), "something else follows its end");
    assert_eq!(reason(&[&archive[..end - 512], &archive].concat()), "a single block of zeros stands amid it");
    let escaped = member(|header| header.set_path("a\x1b[31m").unwrap(), b"x");
    assert_eq!(reason(&escaped[..600]), "it is cut short within a\\u{1b}[31m");
}

#[test]
fn error_messages_are_no_dumps() {
    for message in [
        "pg_dump: error: connection failed",
        "pg_dumpall: error: x",
        "mysqldump: Got error: 2002",
        "mariadb-dump: Got error: 1049",
        "redis-cli: x",
        "Could not connect to Redis at 127.0.0.1:1: Connection refused",
        "Error: No such container: db",
        "Error response from daemon: container is not running",
    ] {
        assert_eq!(
            reason(format!("{message}\nmore\n").as_bytes()),
            format!("it is an error message, not a dump: {message}")
        );
        assert!(report(message.as_bytes()).formats.is_empty());
        let long = [message.as_bytes(), &vec![b' '; 64 * 1024]].concat();
        assert_eq!(report(&long).verdict, Verdict::Unchecked("its format is not known".to_owned()));
    }
    let wild = format!("pg_dump: \x1b]0;\u{202e}{}", "é".repeat(300));
    let shown = reason(wild.as_bytes());
    assert!(shown.ends_with(&format!("pg_dump: \\u{{1b}}]0;\\u{{202e}}{}", "é".repeat(106))), "{shown}");
    assert_eq!(report(b"").verdict, Verdict::Unchecked("its format is not known".to_owned()));
    assert_eq!(report(&[0; 4096]).verdict, Verdict::Unchecked("its format is not known".to_owned()));
}

#[test]
fn changed_line_ends_are_named() {
    for (name, bytes, formats) in samples() {
        let line_feeds = memchr::memchr_iter(b'\n', &bytes).count();
        let is_text = matches!(formats[0], DumpFormat::PgSql | DumpFormat::MySql | DumpFormat::SqliteSql);
        if line_feeds >= 4 || is_text {
            assert_eq!(reason(&with_crlf(&bytes)), CHANGED, "{name}");
            let report = report_in_pieces(&with_crlf(&bytes), &[1], 1);
            assert_eq!(report.verdict, Verdict::Broken(CHANGED.to_owned()), "{name}");
        } else if line_feeds > 0 {
            assert!(!reason(&with_crlf(&bytes)).contains("terminal"), "{name}");
        }
    }
    assert_eq!(reason(&with_crlf(&POSTGRES_SQL[..700])), CHANGED);
    // Inside of what was compressed behind the terminal.
    assert_eq!(reason(&gzip(&with_crlf(POSTGRES_SQL))), CHANGED);
    // Some lines of a sound dump may end so.
    let some = [&with_crlf(&POSTGRES_SQL[..300])[..], &POSTGRES_SQL[300..]].concat();
    assert_eq!(report(&some).verdict, Verdict::Whole);
    // An archive of such text is cut short, and not changed.
    let text = member(|_| {}, &b"a\r\n".repeat(400));
    assert_eq!(reason(&text[..1000]), "it is cut short within member");
}
