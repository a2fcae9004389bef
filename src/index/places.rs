//! What collecting garbage asks: in which frames a chunk lies, how many chunks the frames of a pack have, and what the
//! index objects name.

use super::rows::{
    CHUNK_BYTES, decode_chunks, first_frame_key, for_each_row, frame_ref, last_frame_key, read_base,
};
use super::{FrameRef, Index, IndexError, PackRow};
use crate::format::frame::DeltaBase;
use crate::id::{ChunkId, PackId};

/// Where a chunk lies, for who decides what stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkPlace {
    /// The frame.
    pub frame: FrameRef,
    /// Its position among the chunks of the frame.
    pub position: u32,
    /// What the frame stands on, if it is a delta.
    pub base: Option<DeltaBase>,
}

/// An index object whose rows are here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// Its key in the store.
    pub key: String,
    /// The packs that it names.
    pub packs: Vec<PackId>,
    /// Chunks in all of them.
    pub chunks: u64,
}

impl Index {
    /// Returns all places of a chunk, in order of frame; none if it is unknown.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is damaged.
    pub fn places(&self, id: &ChunkId) -> Result<Vec<ChunkPlace>, IndexError> {
        self.look_up(id, |home, row| {
            let mut position = 0;
            for chunk in decode_chunks(row.get_ref(1)?.as_blob()?) {
                if chunk?.id == *id {
                    break;
                }
                position += 1;
            }
            Ok(ChunkPlace { frame: home.frame, position, base: read_base(row.get_ref(3)?)? })
        })
    }

    /// Returns how many chunks each frame of a pack has, in order; none if its row is gone.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is damaged.
    pub fn chunk_counts(&self, pack: PackRow) -> Result<Vec<u32>, IndexError> {
        self.pool.read(|connection| {
            let mut counts = Vec::new();
            let mut statement = connection.prepare_cached(
                "SELECT id, length(chunks) / ?3 FROM frames WHERE id BETWEEN ?1 AND ?2 ORDER BY id",
            )?;
            let rows = statement.query((first_frame_key(pack), last_frame_key(pack), CHUNK_BYTES))?;
            for_each_row(rows, |row| {
                let number = frame_ref(row.get(0)?).number as usize;
                // Frames have no gaps; where a damaged file has one, an empty frame says so.
                counts.resize(number, 0);
                counts.push(row.get(1)?);
                Ok(())
            })?;
            Ok(counts)
        })
    }

    /// Returns all index objects, in the order in which they came.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is damaged.
    pub fn listed_objects(&self) -> Result<Vec<ListedObject>, IndexError> {
        self.pool.read(|connection| {
            let mut objects: Vec<(i64, ListedObject)> = connection
                .prepare_cached("SELECT id, key FROM index_objects ORDER BY id")?
                .query_map([], |row| {
                    Ok((row.get(0)?, ListedObject { key: row.get(1)?, packs: Vec::new(), chunks: 0 }))
                })?
                .collect::<rusqlite::Result<_>>()?;
            let mut statement =
                connection.prepare_cached("SELECT object, pack_id, chunks FROM packs ORDER BY object, id")?;
            let mut position = 0;
            for_each_row(statement.query([])?, |row| {
                let object: i64 = row.get(0)?;
                while objects.get(position).is_some_and(|(id, _)| *id < object) {
                    position += 1;
                }
                if let Some((id, listed)) = objects.get_mut(position)
                    && *id == object
                {
                    listed.packs.push(PackId::from_bytes(row.get(1)?));
                    listed.chunks += row.get::<_, u64>(2)?;
                }
                Ok(())
            })?;
            Ok(objects.into_iter().map(|(_, listed)| listed).collect())
        })
    }
}
