//! The custom format of pg_dump: its head with the table of contents, and the walk over its data blocks.
//!
//! pg_dump writes the table of contents first, without knowing where the data will begin, and writes it once more
//! at the end, with the offsets, if it can seek. Into a pipe it cannot, and pg_restore then searches the whole
//! archive for each entry. The parts here find the offsets of such a stream while it passes ([`BlockWalk`]) and
//! patch them into the head that was held back ([`fill_offsets`]): every field has a fixed size, so the result is
//! what pg_dump would have written to a file. The walk also shows whether the archive is whole, which pg_restore
//! does not ask. What is inside the data (compressed or not) is not looked at.
//!
//! # Layout
//!
//! Sources: `pg_backup_archiver.c` (`WriteHead`, `WriteToc`, `WriteInt`, `WriteStr`, `WriteOffset`) and
//! `pg_backup_custom.c` of PostgreSQL 12 to 18, held against dumps of PostgreSQL 14.23, 15.18, 16.15, 17.11 and 18.6:
//! what was filled in here equals what the same pg_dump writes to a file, byte for byte but for the time stamp.
//!
//! ```text
//! archive  = head, block*                         nothing stands between blocks, nothing behind the last
//! head     = "PGDMP", major, minor, revision, bytes of an integer (4), bytes of an offset (8),
//!            format (1 custom, 3 tar, 5 directory),
//!            compression,                         an integer (level) in 1.14, a byte (method) from 1.15
//!            7 integers                           second, minute, hour, day, month from 0, year - 1900, summer time
//!            3 strings                            database, version of the server, version of pg_dump
//!            integer, entry*                      how many entries, and they
//! entry    = integer dump id (from 1), integer 1 if it has data or else 0,
//!            string table oid, string oid, string tag, string description, integer section (1 to 4),
//!            5 strings                            definition, drop, copy, namespace, tablespace
//!            string table access method,          1.14 is the first to have it
//!            integer relation kind,               from 1.16 only
//!            string owner, string "true" or "false",
//!            string*, NULL                        dump ids it depends on, as decimal digits
//!            offset
//! block    = 1, integer dump id, piece*, integer 0                               data of one entry
//!          | 3, integer dump id, (integer oid, piece*, integer 0)*, integer 0    its large objects
//! piece    = integer length (from 1), bytes
//! integer  = sign (1 if negative, or else 0), 4 bytes of its magnitude, lowest first
//! string   = integer length, bytes                or the integer -1 for NULL
//! offset   = 1 not set | 2 set | 3 no data, and 8 bytes, lowest first
//! ```
//!
//! | archive version | PostgreSQL | what it brought |
//! |---|---|---|
//! | 1.14 | 12 to 15 | table access method |
//! | 1.15 | 16 | method of compression (0 none, 1 gzip, 2 lz4, 3 zstd) in place of its level |
//! | 1.16 | 17, 18 | relation kind; several entries of large objects instead of one |
//!
//! Without compression each row is a piece of its own; with it, pieces have up to some kilobytes. An object id
//! above 2,147,483,647 is written as a negative integer. The description of an entry is `BLOBS` exactly if its
//! block is one of large objects. pg_dump writes blocks in the order of the table of contents; pg_restore, once
//! there are offsets, takes any order, and so does the walk.

mod fill;
mod head;
mod label;
mod walk;

pub use fill::{check_stored, fill_offsets};
pub use head::{HeadReader, parse_head};
pub use walk::BlockWalk;

/// The first bytes of an archive.
pub const MAGIC: &[u8; 5] = b"PGDMP";

/// Bytes of an integer, without its sign byte.
const INT_BYTES: usize = 4;
/// Bytes of an offset, without its flag byte.
const OFFSET_BYTES: usize = 8;

/// Flag of an offset that nobody filled in.
const OFFSET_NOT_SET: u8 = 1;
/// Flag of an offset that counts.
const OFFSET_SET: u8 = 2;
/// Flag of an entry without data.
const OFFSET_NO_DATA: u8 = 3;

/// Type byte of a block with the data of one entry.
const BLOCK_DATA: u8 = 1;
/// Type byte of a block with large objects.
const BLOCK_LARGE_OBJECTS: u8 = 3;
/// Bytes of a block's beginning: its type, and the entry it belongs to.
const BLOCK_HEADER_BYTES: usize = 2 + INT_BYTES;

/// What became of an attempt to read a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadParse {
    /// The bytes end before the table of contents does.
    NeedMore,
    /// It is no archive of a version that is known; a sentence says why.
    Unknown(String),
    /// It is damaged; a sentence says how.
    Broken(String),
    /// It is whole.
    Head(Head),
}

/// The head of an archive: everything before its first data block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Its length in bytes.
    pub length: usize,
    /// Version of the archive format: (1, 14).
    pub version: (u8, u8),
    /// Whether the data is compressed.
    pub compressed: bool,
    /// Bytes of an integer, without its sign byte.
    pub int_bytes: usize,
    /// Bytes of an offset, without its flag byte.
    pub offset_bytes: usize,
    /// The table of contents. Dump ids are positive, and none is there twice.
    pub entries: Vec<TocEntry>,
}

/// One entry of the table of contents, as far as its data is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TocEntry {
    /// Its number in the archive.
    pub dump_id: i64,
    /// What it is and its name, for messages: `TABLE DATA orders`. Printable, and never long.
    pub label: String,
    /// What the table of contents says of its data.
    pub data: DataState,
    /// Whether its data are large objects.
    pub large_objects: bool,
    /// Where its offset field (flag byte first) stands in the head.
    pub field: usize,
}

/// What the table of contents says of an entry's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataState {
    /// It has none.
    None,
    /// It has some, and nobody knows where.
    NotSet,
    /// Its first block begins at this offset of the archive.
    At(u64),
}

/// Where the data of an entry begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataOffset {
    /// The entry.
    pub dump_id: i64,
    /// Offset of its block's type byte in the archive.
    pub offset: u64,
}

#[cfg(test)]
mod tests;
