//! Change detection: what the last ingest of a series saw of each regular file.
//!
//! A row holds all files of one directory, since ingest asks for a directory at a time; 70,000 files lie in
//! some 8,000 directories. The encoding is CBOR and local to this file.

use std::collections::HashMap;

use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};
use rusqlite::Error::ToSqlConversionFailure;
use rusqlite::{OptionalExtension, Transaction};

use super::error::bad_row;
use super::{Index, IndexError, KnownDirectory, KnownFile};
use crate::format::content::{Content, ContentItem};
use crate::format::tree::Time;
use crate::id::ChunkId;

impl Index {
    /// Returns the known files of one directory by name.
    ///
    /// `series` is any text that names host and source.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is damaged.
    pub fn known_files(
        &self,
        series: &str,
        directory: &[u8],
    ) -> Result<HashMap<Vec<u8>, KnownFile>, IndexError> {
        self.pool.read(|connection| {
            let files: Option<HashMap<_, _>> = connection
                .prepare_cached(
                    "SELECT files FROM known_files JOIN series ON series.id = known_files.series
                     WHERE series.name = ?1 AND directory = ?2",
                )?
                .query_row((series, directory), |row| decode_files(row.get_ref(0)?.as_blob()?))
                .optional()?;
            Ok(files.unwrap_or_default())
        })
    }

    /// Replaces what is known of the given directories, in one transaction. A directory without files is
    /// forgotten; directories that are not given stay as they are.
    ///
    /// # Errors
    /// Fails if the file cannot be written or is damaged.
    pub fn remember_files(&self, series: &str, batch: &[KnownDirectory]) -> Result<(), IndexError> {
        self.pool.write(|transaction| {
            let series = series_row(transaction, series)?;
            let mut replace = transaction.prepare_cached(
                "INSERT INTO known_files (series, directory, files) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET files = excluded.files",
            )?;
            let mut forget =
                transaction.prepare_cached("DELETE FROM known_files WHERE series = ?1 AND directory = ?2")?;
            for (directory, files) in batch {
                if files.is_empty() {
                    forget.execute((series, directory))?;
                } else {
                    replace.execute((series, directory, encode_files(files)?))?;
                }
            }
            Ok(())
        })
    }

    /// Forgets every directory of a series for which `keep` answers no: what an ingest did not meet again.
    ///
    /// # Errors
    /// Fails if the file cannot be written or is damaged.
    pub fn retain_known_directories(
        &self,
        series: &str,
        keep: &dyn Fn(&[u8]) -> bool,
    ) -> Result<(), IndexError> {
        self.pool.write(|transaction| {
            let series = series_row(transaction, series)?;
            let mut select =
                transaction.prepare_cached("SELECT id, directory FROM known_files WHERE series = ?1")?;
            let mut gone: Vec<i64> = Vec::new();
            let mut rows = select.query([series])?;
            while let Some(row) = rows.next()? {
                if !keep(row.get_ref(1)?.as_blob()?) {
                    gone.push(row.get(0)?);
                }
            }
            let mut forget = transaction.prepare_cached("DELETE FROM known_files WHERE id = ?1")?;
            gone.into_iter().try_for_each(|id| forget.execute([id]).map(drop))
        })
    }
}

fn series_row(transaction: &Transaction<'_>, name: &str) -> rusqlite::Result<i64> {
    transaction
        .prepare_cached("INSERT INTO series (name) VALUES (?1) ON CONFLICT DO NOTHING")?
        .execute([name])?;
    transaction.prepare_cached("SELECT id FROM series WHERE name = ?1")?.query_row([name], |row| row.get(0))
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct FileRow {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    name: Vec<u8>,
    #[n(1)]
    bytes: u64,
    #[n(2)]
    mtime: (i64, u32),
    #[n(3)]
    ctime: (i64, u32),
    #[n(4)]
    inode: u64,
    #[n(5)]
    content: ContentRow,
}

#[derive(Encode, Decode)]
enum ContentRow {
    #[n(0)]
    Inline(#[n(0)] Vec<ItemRow>),
    #[n(1)]
    List(#[n(0)] ByteArray<{ ChunkId::LEN }>, #[n(1)] u64),
}

#[derive(Encode, Decode)]
enum ItemRow {
    #[n(0)]
    Data(#[n(0)] ByteArray<{ ChunkId::LEN }>, #[n(1)] u32),
    #[n(1)]
    Hole(#[n(0)] u64),
}

fn encode_files(files: &[(Vec<u8>, KnownFile)]) -> rusqlite::Result<Vec<u8>> {
    let rows: Vec<FileRow> = files.iter().map(|(name, file)| to_row(name, file)).collect();
    minicbor::to_vec(rows).map_err(|error| ToSqlConversionFailure(error.to_string().into()))
}

fn decode_files(bytes: &[u8]) -> rusqlite::Result<HashMap<Vec<u8>, KnownFile>> {
    let rows: Vec<FileRow> = minicbor::decode(bytes).map_err(|_| bad_row("list of known files"))?;
    Ok(rows.into_iter().map(from_row).collect())
}

fn to_row(name: &[u8], file: &KnownFile) -> FileRow {
    FileRow {
        name: name.to_vec(),
        bytes: file.bytes,
        mtime: (file.mtime.seconds, file.mtime.nanoseconds),
        ctime: (file.ctime.seconds, file.ctime.nanoseconds),
        inode: file.inode,
        content: match &file.content {
            Content::Inline(items) => ContentRow::Inline(items.iter().map(to_item).collect()),
            Content::List { node, length } => ContentRow::List((*node.as_bytes()).into(), *length),
        },
    }
}

fn to_item(item: &ContentItem) -> ItemRow {
    match item {
        ContentItem::Data(id, length) => ItemRow::Data((*id.as_bytes()).into(), *length),
        ContentItem::Hole(length) => ItemRow::Hole(*length),
    }
}

fn from_row(row: FileRow) -> (Vec<u8>, KnownFile) {
    let time = |(seconds, nanoseconds)| Time { seconds, nanoseconds };
    let content = match row.content {
        ContentRow::Inline(items) => Content::Inline(items.into_iter().map(from_item).collect()),
        ContentRow::List(node, length) => Content::List { node: ChunkId::from_bytes(node.into()), length },
    };
    let file = KnownFile {
        bytes: row.bytes,
        mtime: time(row.mtime),
        ctime: time(row.ctime),
        inode: row.inode,
        content,
    };
    (row.name, file)
}

fn from_item(item: ItemRow) -> ContentItem {
    match item {
        ItemRow::Data(id, length) => ContentItem::Data(ChunkId::from_bytes(id.into()), length),
        ItemRow::Hole(length) => ContentItem::Hole(length),
    }
}
