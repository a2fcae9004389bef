//! Lookups: chunks, frames and packs.
//!
//! Where several index objects name one pack, its rows of the lowest number stand for all of them, so that
//! caches keyed by [`FrameRef`] hold a frame once. What lies in a pack that is distrusted comes last.

use std::collections::HashSet;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row};

use super::error::bad_row;
use super::rows::{
    FRAME_COLUMNS, PACK_COLUMNS, chunk_prefix, decode_chunks, first_frame_key, for_each_row, frame_key,
    frame_prefix, frame_ref, last_frame_key, read_frame_entry, read_pack,
};
use super::{ChunkHome, FrameRecord, FrameRef, Index, IndexError, NeighbourHome, PackRecord, PackRow};
use crate::format::frame::FrameChunk;
use crate::id::{ChunkId, FrameId, PackId};

/// Packs that [`Index::packs`] reads at a time.
const PACKS_PAGE: u32 = 512;

impl Index {
    /// Returns all homes of a chunk, in order of frame, those in distrusted packs last; none if it is unknown.
    ///
    /// A delta frame can be a home. Cheap for unknown chunks: a filter in memory rules most of them out.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is damaged.
    pub fn homes(&self, id: &ChunkId) -> Result<Vec<ChunkHome>, IndexError> {
        self.look_up(id, |home, _| Ok(home))
    }

    /// Returns the frames of a chunk's homes, in the order of [`Self::homes`], each with all its chunks.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is damaged.
    pub fn neighbours(&self, id: &ChunkId) -> Result<Vec<NeighbourHome>, IndexError> {
        self.look_up(id, |home, row| {
            let chunks = decode_chunks(row.get_ref(1)?.as_blob()?).collect::<rusqlite::Result<_>>()?;
            let is_delta = row.get_ref(3)? != ValueRef::Null;
            Ok(NeighbourHome { frame: home.frame, chunks, is_delta })
        })
    }

    /// Looks for a chunk; `make` gets each home with its row: key and chunk list of the frame, id of the pack, base.
    pub(super) fn look_up<T>(
        &self,
        id: &ChunkId,
        make: impl Fn(ChunkHome, &Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, IndexError> {
        self.pool.read(|connection| {
            let prefix = chunk_prefix(id);
            if self.filter.rules_out(connection, prefix)? {
                return Ok(Vec::new());
            }
            let mut homes = Distinct::default();
            let mut statement = connection.prepare_cached(
                "SELECT frames.id, frames.chunks, packs.pack_id, frames.base
                 FROM chunks JOIN frames ON frames.id = chunks.frame JOIN packs ON packs.id = chunks.frame >> 16
                 WHERE chunks.prefix = ?1 ORDER BY chunks.frame",
            )?;
            for_each_row(statement.query([prefix])?, |row| {
                let frame = frame_ref(row.get(0)?);
                if let Some((offset, length)) = find_chunk(row.get_ref(1)?.as_blob()?, id)? {
                    let home = make(ChunkHome { frame, offset, length }, row)?;
                    homes.add(PackId::from_bytes(row.get(2)?), frame.number, home);
                }
                Ok(())
            })?;
            let homes = homes.into_items(&self.distrust.lock());
            if homes.is_empty() {
                self.filter.note_miss();
            }
            Ok(homes)
        })
    }

    /// Returns a frame, or nothing if its row is gone.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is damaged.
    pub fn frame(&self, frame: FrameRef) -> Result<Option<FrameRecord>, IndexError> {
        let Some(key) = frame_key(frame) else { return Ok(None) };
        self.pool.read(|connection| {
            let sql = format!("SELECT {FRAME_COLUMNS} FROM frames WHERE id = ?1");
            let found = connection.prepare_cached(&sql)?.query_row([key], read_frame_entry).optional()?;
            let Some((_, offset, entry)) = found else { return Ok(None) };
            let pack = self.find_pack(connection, frame.pack)?;
            Ok(pack.map(|pack| FrameRecord { pack, number: frame.number, offset, entry }))
        })
    }

    /// Returns all frames of that id, in order, those in distrusted packs last.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is damaged.
    pub fn frames_by_id(&self, id: &FrameId) -> Result<Vec<FrameRef>, IndexError> {
        self.pool.read(|connection| {
            let mut found = Distinct::default();
            let mut statement = connection.prepare_cached(
                "SELECT frames.id, frames.chunks, packs.pack_id
                 FROM frame_names JOIN frames ON frames.id = frame_names.frame
                                  JOIN packs ON packs.id = frame_names.frame >> 16
                 WHERE frame_names.prefix = ?1 ORDER BY frame_names.frame",
            )?;
            for_each_row(statement.query([frame_prefix(id)])?, |row| {
                let frame = frame_ref(row.get(0)?);
                let chunks = decode_chunks(row.get_ref(1)?.as_blob()?);
                let chunks: Vec<FrameChunk> = chunks.collect::<rusqlite::Result<_>>()?;
                if self.ids.frame_id(chunks.iter().map(|chunk| (chunk.id, chunk.length))) == *id {
                    found.add(PackId::from_bytes(row.get(2)?), frame.number, frame);
                }
                Ok(())
            })?;
            Ok(found.into_items(&self.distrust.lock()))
        })
    }

    /// Returns the frames of one pack in order; none if its row is gone.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is damaged.
    pub fn frames_of(&self, pack: PackRow) -> Result<Vec<FrameRecord>, IndexError> {
        self.pool.read(|connection| {
            let Some(record) = self.find_pack(connection, pack)? else { return Ok(Vec::new()) };
            let sql = format!("SELECT {FRAME_COLUMNS} FROM frames WHERE id BETWEEN ?1 AND ?2 ORDER BY id");
            connection
                .prepare_cached(&sql)?
                .query_map([first_frame_key(pack), last_frame_key(pack)], |row| {
                    let (frame, offset, entry) = read_frame_entry(row)?;
                    Ok(FrameRecord { pack: record.clone(), number: frame.number, offset, entry })
                })?
                .collect()
        })
    }

    /// Returns a pack, or nothing if its row is gone.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is damaged.
    pub fn pack(&self, row: PackRow) -> Result<Option<PackRecord>, IndexError> {
        self.pool.read(|connection| self.find_pack(connection, row))
    }

    /// Tells whether an index object names a pack.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is damaged.
    pub fn names(&self, id: &PackId) -> Result<bool, IndexError> {
        self.pool.read(|connection| {
            connection
                .prepare_cached("SELECT 1 FROM packs WHERE pack_id = ?1 LIMIT 1")?
                .exists([id.as_bytes()])
        })
    }

    /// Returns the pack of that id and its row.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is damaged.
    pub fn pack_by_id(&self, id: &PackId) -> Result<Option<(PackRow, PackRecord)>, IndexError> {
        self.pool.read(|connection| {
            let sql = format!("SELECT {PACK_COLUMNS} FROM packs WHERE pack_id = ?1 ORDER BY id LIMIT 1");
            connection
                .prepare_cached(&sql)?
                .query_row([id.as_bytes()], |row| read_pack(row, &self.pack_keys))
                .optional()
        })
    }

    /// Visits every pack once, in order of id, in bounded memory. `visit` may ask the index; packs that come or
    /// go meanwhile may be missed.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is damaged.
    pub fn packs(&self, visit: &mut dyn FnMut(PackRow, PackRecord)) -> Result<(), IndexError> {
        // Of a group, SQLite takes the other columns from the row that has the minimum.
        let columns = PACK_COLUMNS.replacen("id", "min(id)", 1);
        let sql = format!(
            "SELECT {columns} FROM packs WHERE pack_id > ?1 GROUP BY pack_id ORDER BY pack_id LIMIT {PACKS_PAGE}"
        );
        let mut after: Vec<u8> = Vec::new();
        loop {
            let page: Vec<(PackRow, PackRecord)> = self.pool.read(|connection| {
                connection
                    .prepare_cached(&sql)?
                    .query_map([&after], |row| read_pack(row, &self.pack_keys))?
                    .collect()
            })?;
            let Some((_, last)) = page.last() else { return Ok(()) };
            after = last.id.as_bytes().to_vec();
            for (row, pack) in page {
                visit(row, pack);
            }
        }
    }

    fn find_pack(&self, connection: &Connection, row: PackRow) -> rusqlite::Result<Option<PackRecord>> {
        let sql = format!("SELECT {PACK_COLUMNS} FROM packs WHERE id = ?1");
        connection
            .prepare_cached(&sql)?
            .query_row([row.0], |row| read_pack(row, &self.pack_keys).map(|(_, pack)| pack))
            .optional()
    }
}

/// Collects what was found in several packs, once for each pack and frame.
struct Distinct<T> {
    seen: Vec<(PackId, u32)>,
    items: Vec<T>,
}

impl<T> Default for Distinct<T> {
    fn default() -> Self {
        Self { seen: Vec::new(), items: Vec::new() }
    }
}

impl<T> Distinct<T> {
    /// A chunk has few homes, so that a list is searched faster than a set.
    fn add(&mut self, pack: PackId, number: u32, item: T) {
        if !self.seen.contains(&(pack, number)) {
            self.seen.push((pack, number));
            self.items.push(item);
        }
    }

    /// Returns the items, those in distrusted packs last.
    fn into_items(self, distrusted: &HashSet<PackId>) -> Vec<T> {
        if distrusted.is_empty() {
            return self.items;
        }
        let found = self.seen.iter().map(|(pack, _)| distrusted.contains(pack)).zip(self.items);
        let (last, mut first): (Vec<_>, Vec<_>) = found.partition(|(is_distrusted, _)| *is_distrusted);
        first.extend(last);
        first.into_iter().map(|(_, item)| item).collect()
    }
}

/// Finds a chunk in a chunk list: its offset and length in the plain frame.
fn find_chunk(list: &[u8], id: &ChunkId) -> rusqlite::Result<Option<(u32, u32)>> {
    let mut offset: u32 = 0;
    for chunk in decode_chunks(list) {
        let chunk = chunk?;
        if chunk.id == *id {
            return Ok(Some((offset, chunk.length)));
        }
        offset = offset.checked_add(chunk.length).ok_or_else(|| bad_row("chunk list"))?;
    }
    Ok(None)
}
