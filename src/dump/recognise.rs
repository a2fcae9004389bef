//! What a stream is, by its first bytes.

use super::DumpFormat;
use super::mongo;
use super::pg_custom;
use super::tar;

/// So many bytes are enough to recognise anything.
pub(super) const BEGINNING_BYTES: usize = 512;

/// First bytes of a gzip member.
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b, 8];

/// First bytes of a zstd frame.
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Line that MariaDB's tools write before anything else.
const SANDBOX_LINE: &[u8] = b"/*M!999999\\- enable the sandbox mode */";

/// How messages begin that end up in a pipe in place of a dump.
const MESSAGES: [&[u8]; 11] = [
    b"pg_dump: ",
    b"pg_dumpall: ",
    b"pg_basebackup: ",
    b"mysqldump: ",
    b"mariadb-dump: ",
    b"redis-cli: ",
    b"Could not connect to Redis",
    b"Error: No such container",
    b"Error: no container",
    b"Error response from daemon",
    b"Error from server",
];

/// What a stream looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looks {
    /// Like a dump or an archive.
    Dump(DumpFormat),
    /// Like what a tool says when it fails.
    Message,
    /// Like nothing that is known.
    Unknown,
}

/// Tells what a stream is that begins with `beginning`: [`BEGINNING_BYTES`] of it, or all of it. A stream that ends
/// within the first bytes of a format is a dump of that format, cut short.
pub(super) fn recognise(beginning: &[u8]) -> Looks {
    let format = match beginning {
        [] => return Looks::Unknown,
        bytes if begins(bytes, GZIP_MAGIC) => DumpFormat::Gzip,
        bytes if begins(bytes, pg_custom::MAGIC) => DumpFormat::PgCustom,
        bytes if is_zstd(bytes) => DumpFormat::Zstd,
        bytes if begins(bytes, mongo::MAGIC) => DumpFormat::MongoArchive,
        bytes if is_rdb(bytes) => DumpFormat::Rdb,
        bytes if is_pg_sql(bytes) => DumpFormat::PgSql,
        bytes if is_mysql(bytes) => DumpFormat::MySql,
        bytes if is_sqlite(bytes) => DumpFormat::SqliteSql,
        bytes if tar::looks_like_header(bytes) => DumpFormat::Tar,
        bytes if MESSAGES.iter().any(|message| bytes.starts_with(message)) => return Looks::Message,
        _ => return Looks::Unknown,
    };
    Looks::Dump(format)
}

/// Tells whether `bytes` begin with a zstd frame, or with short skippable frames and then one.
fn is_zstd(mut bytes: &[u8]) -> bool {
    while let [0x50..=0x5f, 0x2a, 0x4d, 0x18, a, b, c, d, rest @ ..] = bytes {
        let length = usize::try_from(u32::from_le_bytes([*a, *b, *c, *d])).unwrap_or(usize::MAX);
        let Some(behind) = rest.get(length..) else { return false };
        bytes = behind;
    }
    begins(bytes, ZSTD_MAGIC)
}

fn is_rdb(bytes: &[u8]) -> bool {
    begins(bytes, b"REDIS") && bytes.iter().skip(5).take(4).all(u8::is_ascii_digit)
}

fn is_pg_sql(bytes: &[u8]) -> bool {
    let titles = [&b"-- PostgreSQL database dump"[..], b"-- PostgreSQL database cluster dump"];
    after_line(bytes, b"--").is_some_and(|rest| titles.iter().any(|title| begins(rest, title)))
}

fn is_mysql(bytes: &[u8]) -> bool {
    if SANDBOX_LINE.starts_with(bytes) {
        return true;
    }
    let rest = match bytes.strip_prefix(SANDBOX_LINE) {
        Some(rest) => after_line(rest.strip_prefix(b" ").unwrap_or(rest), b""),
        None => Some(bytes),
    };
    let titles = [&b"-- MySQL dump "[..], b"-- MariaDB dump "];
    rest.is_some_and(|rest| titles.iter().any(|title| begins(rest, title)))
}

fn is_sqlite(bytes: &[u8]) -> bool {
    after_line(bytes, b"PRAGMA foreign_keys=OFF;").is_some_and(|rest| begins(rest, b"BEGIN TRANSACTION;"))
}

/// Tells whether `bytes`, which reach to the end of the stream if they are short, begin with `text` or with as much
/// of it as the stream has.
fn begins(bytes: &[u8], text: &[u8]) -> bool {
    bytes.starts_with(text) || text.starts_with(bytes)
}

/// Returns what follows the first line of `bytes`, if that is `line` or as much of it as the stream has.
fn after_line<'a>(bytes: &'a [u8], line: &[u8]) -> Option<&'a [u8]> {
    let Some(rest) = bytes.strip_prefix(line) else { return line.starts_with(bytes).then_some(&[]) };
    match rest {
        [] | [b'\r'] => Some(&[]),
        [b'\n', rest @ ..] | [b'\r', b'\n', rest @ ..] => Some(rest),
        _ => None,
    }
}
