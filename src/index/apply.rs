//! Rows of index objects: how they come in and how they go.
//!
//! An object comes and goes in one transaction, alone or with others. The tables that are searched by id are in random
//! order, so their rows are changed in sorted batches: a batch visits each page once, and memory stays bounded.

use std::collections::BTreeSet;

use rusqlite::{OptionalExtension, Transaction};

use super::rows::{
    chunk_prefix, class_column, decode_chunks, decode_features, encode_chunks, encoding_columns,
    feature_prefixes, first_frame_key, for_each_row, frame_prefix, kind_column, last_frame_key,
};
use super::{Index, IndexError, PackRow};
use crate::crypto::hash::IdKeys;
use crate::format::frame::{Features, FrameChunk};
use crate::format::header::ObjectKind;
use crate::format::index_object::{IndexObject, IndexedPack};
use crate::format::pack::PACK_MAX_FRAMES;

/// Small index objects go together, until so many chunks are removed by one transaction.
const CHUNKS_RETRACTED_AT_ONCE: u64 = 1 << 17;
/// Rows of a batch, of chunks and of super-features: 16 MiB of memory each.
pub(super) const BATCH_ROWS: usize = 1 << 20;

// A frame that holds a chunk twice, or two chunks of one prefix, has one row for both; likewise features.
pub(super) const INSERT_FEATURE: &str =
    "INSERT INTO features (prefix, frame) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
const INSERT_CHUNK: &str = "INSERT INTO chunks (prefix, frame) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
const INSERT_NAME: &str = "INSERT INTO frame_names (prefix, frame) VALUES (?1, ?2)";
const DELETE_FEATURE: &str = "DELETE FROM features WHERE prefix = ?1 AND frame = ?2";
const DELETE_CHUNK: &str = "DELETE FROM chunks WHERE prefix = ?1 AND frame = ?2";
const DELETE_NAME: &str = "DELETE FROM frame_names WHERE prefix = ?1 AND frame = ?2";

impl Index {
    /// Returns the store keys of the index objects whose rows are here.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is damaged.
    pub fn applied(&self) -> Result<BTreeSet<String>, IndexError> {
        self.pool.read(|connection| {
            connection
                .prepare_cached("SELECT key FROM index_objects")?
                .query_map([], |row| row.get(0))?
                .collect()
        })
    }

    /// Adds the rows of an index object, in one transaction. Does nothing if they are here.
    ///
    /// What the object supersedes stays: the caller retracts it.
    ///
    /// # Errors
    /// Fails if the file cannot be written or is damaged, or if the object lists what no pack can be.
    pub fn apply(&self, store_key: &str, object: &IndexObject) -> Result<(), IndexError> {
        self.apply_all([(store_key, object)])
    }

    /// Adds the rows of index objects as [`Self::apply`] does, all in one transaction: for many small ones that is far
    /// cheaper.
    ///
    /// # Errors
    /// As [`Self::apply`]; then none is added.
    pub fn apply_all<'a>(
        &self,
        objects: impl IntoIterator<Item = (&'a str, &'a IndexObject)> + Clone,
    ) -> Result<(), IndexError> {
        objects.clone().into_iter().flat_map(|(_, object)| &object.packs).try_for_each(check_pack)?;
        self.pool.write(|transaction| {
            let mut batch = Batch::new(Change::Insert);
            for (store_key, object) in objects {
                let added = transaction
                    .prepare_cached("INSERT INTO index_objects (key) VALUES (?1) ON CONFLICT DO NOTHING")?
                    .execute([store_key])?;
                if added == 0 {
                    continue;
                }
                let number = transaction.last_insert_rowid();
                for pack in &object.packs {
                    let row = self.insert_pack(transaction, number, pack)?;
                    insert_frames(transaction, &self.ids, row, pack, &mut batch)?;
                    batch.flush_if_full(transaction)?;
                }
            }
            batch.flush(transaction)
        })
    }

    /// Removes all rows of index objects that are gone from the store. Unknown ones do not matter.
    ///
    /// # Errors
    /// Fails if the file cannot be written or is damaged.
    pub fn retract(&self, store_keys: &[String]) -> Result<(), IndexError> {
        let mut left = store_keys.iter();
        while !left.as_slice().is_empty() {
            self.pool.write(|transaction| {
                let mut batch = Batch::new(Change::Delete);
                let mut chunks = 0;
                for store_key in left.by_ref() {
                    chunks += retract_one(transaction, &self.ids, store_key, &mut batch)?;
                    if chunks >= CHUNKS_RETRACTED_AT_ONCE {
                        break;
                    }
                }
                batch.flush(transaction)
            })?;
        }
        Ok(())
    }

    fn insert_pack(
        &self,
        transaction: &Transaction<'_>,
        object: i64,
        pack: &IndexedPack,
    ) -> rusqlite::Result<PackRow> {
        let chunks: usize = pack.directory.frames.iter().map(|frame| frame.chunks.len()).sum();
        transaction
            .prepare_cached(
                "INSERT INTO packs (object, pack_id, kind, bytes, class, writer_id, host, header_hash,
                                    header_bytes, key, chunks)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute((
                object,
                pack.id.as_bytes(),
                kind_column(pack.kind),
                pack.bytes,
                class_column(pack.writer.class),
                pack.writer.id.as_bytes(),
                &pack.writer.host,
                pack.header_hash.0,
                pack.header_bytes,
                self.pack_keys.wrap(&pack.id, &pack.key)?,
                chunks,
            ))?;
        Ok(PackRow(transaction.last_insert_rowid()))
    }
}

/// Refuses what the columns cannot hold, so that nothing of a malformed object reaches them.
fn check_pack(pack: &IndexedPack) -> Result<(), IndexError> {
    let unfit = |why| Err(IndexError::Unfit { pack: pack.id, why });
    if kind_column(pack.kind).is_none() {
        return unfit("it is no pack");
    }
    if pack.directory.frames.len() > PACK_MAX_FRAMES {
        return unfit("it has too many frames");
    }
    if pack.directory.frames.iter().any(|frame| frame.chunks.is_empty()) {
        return unfit("a frame of it is empty");
    }
    if i64::try_from(pack.bytes).is_err() {
        return unfit("it is too long");
    }
    Ok(())
}

fn insert_frames(
    transaction: &Transaction<'_>,
    ids: &IdKeys,
    row: PackRow,
    pack: &IndexedPack,
    batch: &mut Batch,
) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO frames (id, offset, stored, encoding, base, features, chunks)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let mut offset = u64::from(pack.header_bytes);
    for (key, frame) in (first_frame_key(row)..).zip(&pack.directory.frames) {
        let (encoding, base, features) = encoding_columns(frame);
        let chunks = encode_chunks(&frame.chunks);
        statement.execute((key, offset, frame.stored_length, encoding, base, features, chunks))?;
        let features = frame.features.as_ref().filter(|_| pack.kind == ObjectKind::DataPack);
        batch.add(ids, key, &frame.chunks, features);
        offset += u64::from(frame.stored_length);
    }
    Ok(())
}

/// Removes the rows of an index object, those in `batch` with it; returns how many chunks it had.
fn retract_one(
    transaction: &Transaction<'_>,
    ids: &IdKeys,
    store_key: &str,
    batch: &mut Batch,
) -> rusqlite::Result<u64> {
    let object: Option<i64> = transaction
        .prepare_cached("SELECT id FROM index_objects WHERE key = ?1")?
        .query_row([store_key], |row| row.get(0))
        .optional()?;
    let Some(object) = object else { return Ok(0) };
    let packs: Vec<(i64, u64)> = transaction
        .prepare_cached("SELECT id, chunks FROM packs WHERE object = ?1")?
        .query_map([object], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (pack, _) in &packs {
        delete_frames(transaction, ids, PackRow(*pack), batch)?;
        batch.flush_if_full(transaction)?;
    }
    transaction.prepare_cached("DELETE FROM packs WHERE object = ?1")?.execute([object])?;
    transaction.prepare_cached("DELETE FROM index_objects WHERE id = ?1")?.execute([object])?;
    Ok(packs.iter().map(|(_, chunks)| chunks).sum())
}

fn delete_frames(
    transaction: &Transaction<'_>,
    ids: &IdKeys,
    pack: PackRow,
    batch: &mut Batch,
) -> rusqlite::Result<()> {
    let range = [first_frame_key(pack), last_frame_key(pack)];
    let mut statement =
        transaction.prepare_cached("SELECT id, chunks, features FROM frames WHERE id BETWEEN ?1 AND ?2")?;
    for_each_row(statement.query(range)?, |row| {
        let chunks: Vec<_> = decode_chunks(row.get_ref(1)?.as_blob()?).collect::<rusqlite::Result<_>>()?;
        // Those of metadata have no row, and nothing is lost by looking.
        let features = row.get_ref(2)?.as_blob_or_null()?.map(decode_features).transpose()?;
        batch.add(ids, row.get(0)?, &chunks, features.as_ref());
        Ok(())
    })?;
    transaction.prepare_cached("DELETE FROM frames WHERE id BETWEEN ?1 AND ?2")?.execute(range)?;
    Ok(())
}

/// What happens to the rows of a batch.
#[derive(Debug, Clone, Copy)]
enum Change {
    Insert,
    Delete,
}

/// Rows of the tables that are searched by id or feature, as (prefix, frame key).
struct Batch {
    change: Change,
    chunks: Vec<(i64, i64)>,
    frames: Vec<(i64, i64)>,
    features: Vec<(i64, i64)>,
}

impl Batch {
    fn new(change: Change) -> Self {
        Self { change, chunks: Vec::new(), frames: Vec::new(), features: Vec::new() }
    }

    fn add(&mut self, ids: &IdKeys, frame_key: i64, chunks: &[FrameChunk], features: Option<&Features>) {
        let id = ids.frame_id(chunks.iter().map(|chunk| (chunk.id, chunk.length)));
        self.frames.push((frame_prefix(&id), frame_key));
        self.chunks.extend(chunks.iter().map(|chunk| (chunk_prefix(&chunk.id), frame_key)));
        let prefixes = features.map(feature_prefixes).into_iter().flatten();
        self.features.extend(prefixes.map(|prefix| (prefix, frame_key)));
    }

    fn flush_if_full(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let rows = self.chunks.len().max(self.features.len());
        if rows >= BATCH_ROWS { self.flush(transaction) } else { Ok(()) }
    }

    fn flush(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let (chunk, name, feature) = match self.change {
            Change::Insert => (INSERT_CHUNK, INSERT_NAME, INSERT_FEATURE),
            Change::Delete => (DELETE_CHUNK, DELETE_NAME, DELETE_FEATURE),
        };
        execute_sorted(transaction, chunk, &mut self.chunks)?;
        execute_sorted(transaction, name, &mut self.frames)?;
        execute_sorted(transaction, feature, &mut self.features)
    }
}

/// Executes a statement for each row, in order, and forgets the rows.
pub(super) fn execute_sorted(
    transaction: &Transaction<'_>,
    sql: &str,
    rows: &mut Vec<(i64, i64)>,
) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(sql)?;
    rows.sort_unstable();
    for row in rows.drain(..) {
        statement.execute(row)?;
    }
    Ok(())
}
