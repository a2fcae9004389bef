//! Sums over all that the index knows: packs, frames, chunks, and how often chunks are stored.
//!
//! Where several index objects name one pack, it counts once, by its row of the lowest number, as in lookups.

use std::collections::{HashMap, HashSet};

use rusqlite::Connection;

use super::error::bad_row;
use super::rows::{chunk_prefix, decode_chunks, for_each_row};
use super::{Index, IndexError};
use crate::crypto::hash::ChunkKind;
use crate::id::ChunkId;

/// A number of things and what they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    /// How many there are.
    pub count: u64,
    /// Their bytes together.
    pub bytes: u64,
}

impl Sum {
    /// Adds one of so many bytes.
    pub fn add(&mut self, bytes: u64) {
        self.count = self.count.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// Frames of one sort: how many there are, and what they take and hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FrameSums {
    /// Number of frames.
    pub count: u64,
    /// Bytes of the chunks in them.
    pub plain_bytes: u64,
    /// Bytes that they take in packs.
    pub stored_bytes: u64,
}

/// Sums over all packs of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IndexTotals {
    /// Packs of data.
    pub data_packs: Sum,
    /// Packs of metadata.
    pub tree_packs: Sum,
    /// Frames of data that are no deltas, and all frames of metadata.
    pub base_frames: FrameSums,
    /// Frames that are stored as a difference to another one.
    pub delta_frames: FrameSums,
    /// Chunks of data with their plain bytes, each once for each frame that holds it.
    pub data_chunks: Sum,
    /// Chunks of metadata: pages of directories, lists of pieces, long values.
    pub tree_chunks: Sum,
    /// Chunks that are stored once more: two hosts that store the same at the same time do not know of each other.
    pub duplicate_data_chunks: Sum,
    /// The same for metadata.
    pub duplicate_tree_chunks: Sum,
}

impl Index {
    /// Sums up everything, in bounded memory.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is damaged.
    pub fn totals(&self) -> Result<IndexTotals, IndexError> {
        self.pool.read(|connection| {
            // Everything is seen at one moment.
            let transaction = connection.transaction()?;
            let mut totals = IndexTotals::default();
            let hidden = hidden_packs(&transaction)?;
            sum_packs(&transaction, &mut totals)?;
            sum_frames(&transaction, &hidden, &mut totals)?;
            sum_duplicates(&transaction, &hidden, &mut totals)?;
            Ok(totals)
        })
    }

    /// Returns what all packs take.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is damaged.
    pub fn pack_bytes(&self) -> Result<u64, IndexError> {
        self.pool.read(|connection| {
            let mut totals = IndexTotals::default();
            sum_packs(connection, &mut totals)?;
            Ok(totals.data_packs.bytes.saturating_add(totals.tree_packs.bytes))
        })
    }
}

/// Returns the rows of packs for which another row stands. There are few: index objects are superseded soon.
fn hidden_packs(connection: &Connection) -> rusqlite::Result<HashSet<i64>> {
    let sql = "SELECT id FROM packs WHERE id NOT IN (SELECT min(id) FROM packs GROUP BY pack_id)";
    connection.prepare_cached(sql)?.query_map([], |row| row.get(0))?.collect()
}

fn sum_packs(connection: &Connection, totals: &mut IndexTotals) -> rusqlite::Result<()> {
    // Of a group, SQLite takes the other columns from the row that has the minimum.
    let sql = "SELECT kind, bytes, min(id) FROM packs GROUP BY pack_id";
    for_each_row(connection.prepare_cached(sql)?.query([])?, |row| {
        match row.get(0)? {
            1_u8 => totals.data_packs.add(row.get(1)?),
            2 => totals.tree_packs.add(row.get(1)?),
            _ => return Err(bad_row("pack kind")),
        }
        Ok(())
    })
}

fn sum_frames(
    connection: &Connection,
    hidden: &HashSet<i64>,
    totals: &mut IndexTotals,
) -> rusqlite::Result<()> {
    let sql = "SELECT id >> 16, stored, encoding, chunks FROM frames";
    for_each_row(connection.prepare_cached(sql)?.query([])?, |row| {
        if hidden.contains(&row.get(0)?) {
            return Ok(());
        }
        let mut plain_bytes: u64 = 0;
        for chunk in decode_chunks(row.get_ref(3)?.as_blob()?) {
            let chunk = chunk?;
            plain_bytes = plain_bytes.saturating_add(chunk.length.into());
            chunks_of(chunk.kind, &mut totals.data_chunks, &mut totals.tree_chunks).add(chunk.length.into());
        }
        let frames = match row.get(2)? {
            2_u8 => &mut totals.delta_frames,
            _ => &mut totals.base_frames,
        };
        frames.count += 1;
        frames.plain_bytes = frames.plain_bytes.saturating_add(plain_bytes);
        frames.stored_bytes = frames.stored_bytes.saturating_add(row.get(1)?);
        Ok(())
    })
}

fn chunks_of<'a>(kind: ChunkKind, data: &'a mut Sum, tree: &'a mut Sum) -> &'a mut Sum {
    match kind {
        ChunkKind::Data => data,
        ChunkKind::Tree | ChunkKind::List => tree,
    }
}

/// Walks the table of chunks in its order, in which those that may be the same stand together.
fn sum_duplicates(
    connection: &Connection,
    hidden: &HashSet<i64>,
    totals: &mut IndexTotals,
) -> rusqlite::Result<()> {
    let mut statement =
        connection.prepare_cached("SELECT prefix, frame FROM chunks ORDER BY prefix, frame")?;
    let mut group: (i64, Vec<i64>) = (-1, Vec::new());
    for_each_row(statement.query([])?, |row| {
        let (prefix, frame): (i64, i64) = (row.get(0)?, row.get(1)?);
        if hidden.contains(&(frame >> 16)) {
            return Ok(());
        }
        if prefix != group.0 {
            sum_group(connection, &group.1, group.0, totals)?;
            group = (prefix, Vec::new());
        }
        group.1.push(frame);
        Ok(())
    })?;
    sum_group(connection, &group.1, group.0, totals)
}

/// Compares in full the chunks of `frames` that are searched by the same prefix.
fn sum_group(
    connection: &Connection,
    frames: &[i64],
    prefix: i64,
    totals: &mut IndexTotals,
) -> rusqlite::Result<()> {
    if frames.len() < 2 {
        return Ok(());
    }
    let mut statement = connection.prepare_cached("SELECT chunks FROM frames WHERE id = ?1")?;
    let mut homes: HashMap<ChunkId, u64> = HashMap::new();
    for frame in frames {
        for_each_row(statement.query([frame])?, |row| {
            for chunk in decode_chunks(row.get_ref(0)?.as_blob()?) {
                let chunk = chunk?;
                if chunk_prefix(&chunk.id) != prefix {
                    continue;
                }
                let before = homes.entry(chunk.id).or_default();
                if *before > 0 {
                    let (data, tree) = (&mut totals.duplicate_data_chunks, &mut totals.duplicate_tree_chunks);
                    chunks_of(chunk.kind, data, tree).add(chunk.length.into());
                }
                *before += 1;
            }
            Ok(())
        })?;
    }
    Ok(())
}
