//! How packs, frames and chunk lists stand in their columns, and back.

use rusqlite::types::ValueRef;
use rusqlite::{Row, Rows};

use super::error::bad_row;
use super::wrapped_key::PackKeys;
use super::{FrameRef, PackRecord, PackRow};
use crate::crypto::hash::ChunkKind;
use crate::crypto::secrets::{Writer, WriterClass};
use crate::format::frame::{DeltaBase, Encoding, Features, FrameChunk, FrameEntry};
use crate::format::header::{HeaderHash, ObjectKind};
use crate::id::{ChunkId, FrameId, PackId, WriterId};

/// Bits of a frame's key that hold its number; a pack has at most 2^16 frames.
const NUMBER_BITS: u32 = 16;
/// Bytes of one chunk in a chunk list: kind, id, length (little endian).
pub(super) const CHUNK_BYTES: usize = 1 + ChunkId::LEN + 4;

/// The columns of `packs` that [`read_pack`] takes, in its order.
pub(super) const PACK_COLUMNS: &str =
    "id, pack_id, kind, bytes, class, writer_id, host, header_hash, header_bytes, key";
/// The columns of `frames` that [`read_frame_entry`] takes, in its order.
pub(super) const FRAME_COLUMNS: &str = "id, offset, stored, encoding, base, features, chunks";

/// The key of the frame's row, or nothing if no pack has so many frames.
pub(super) fn frame_key(frame: FrameRef) -> Option<i64> {
    (frame.number >> NUMBER_BITS == 0).then(|| first_frame_key(frame.pack) | i64::from(frame.number))
}

/// The lowest key that a frame of this pack can have.
pub(super) fn first_frame_key(pack: PackRow) -> i64 {
    pack.0 << NUMBER_BITS
}

/// The highest key that a frame of this pack can have.
pub(super) fn last_frame_key(pack: PackRow) -> i64 {
    first_frame_key(pack) | ((1 << NUMBER_BITS) - 1)
}

/// Undoes [`frame_key`].
pub(super) fn frame_ref(key: i64) -> FrameRef {
    let number = u32::from(u16::from_le_bytes([key.to_le_bytes()[0], key.to_le_bytes()[1]]));
    FrameRef { pack: PackRow(key >> NUMBER_BITS), number }
}

/// What a chunk is searched by: 47 bits of its id, which SQLite stores in 6 bytes.
pub(super) fn chunk_prefix(id: &ChunkId) -> i64 {
    prefix(id.as_bytes())
}

/// What a frame is searched by: 47 bits of its id.
pub(super) fn frame_prefix(id: &FrameId) -> i64 {
    prefix(id.as_bytes())
}

/// What a frame is searched by when a similar one is wanted: 47 bits of each of its super-features.
pub(super) fn feature_prefixes(features: &Features) -> [i64; 3] {
    features.0.map(prefix_of_number)
}

fn prefix(id: &[u8; 32]) -> i64 {
    let (first, _) = id.split_first_chunk().unwrap_or((&[0; 8], &[]));
    prefix_of_number(u64::from_be_bytes(*first))
}

fn prefix_of_number(number: u64) -> i64 {
    (number >> 17).cast_signed()
}

/// Encodes a chunk list.
pub(super) fn encode_chunks(chunks: &[FrameChunk]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(chunks.len() * CHUNK_BYTES);
    for chunk in chunks {
        bytes.push(match chunk.kind {
            ChunkKind::Data => 0,
            ChunkKind::Tree => 1,
            ChunkKind::List => 2,
        });
        bytes.extend_from_slice(chunk.id.as_bytes());
        bytes.extend_from_slice(&chunk.length.to_le_bytes());
    }
    bytes
}

/// Decodes a chunk list one by one, without allocating.
pub(super) fn decode_chunks(bytes: &[u8]) -> impl Iterator<Item = rusqlite::Result<FrameChunk>> {
    let (chunks, rest) = bytes.as_chunks::<CHUNK_BYTES>();
    let torn = (!rest.is_empty() || chunks.is_empty()).then(|| Err(bad_row("chunk list")));
    chunks.iter().map(decode_chunk).chain(torn)
}

fn decode_chunk(bytes: &[u8; CHUNK_BYTES]) -> rusqlite::Result<FrameChunk> {
    let parts = || {
        let (kind, rest) = bytes.split_first()?;
        let (id, length) = rest.split_first_chunk()?;
        let kind = match kind {
            0 => ChunkKind::Data,
            1 => ChunkKind::Tree,
            2 => ChunkKind::List,
            _ => return None,
        };
        let length = u32::from_le_bytes(length.try_into().ok()?);
        Some(FrameChunk { kind, id: ChunkId::from_bytes(*id), length })
    };
    parts().ok_or_else(|| bad_row("chunk"))
}

/// The columns of a frame: encoding, base, features.
pub(super) fn encoding_columns(entry: &FrameEntry) -> (u8, Option<Vec<u8>>, Option<Vec<u8>>) {
    let features =
        entry.features.map(|features| features.0.iter().flat_map(|one| one.to_le_bytes()).collect());
    match entry.encoding {
        Encoding::Raw => (0, None, features),
        Encoding::Zstd => (1, None, features),
        Encoding::Delta { base } => (2, Some(base.to_bytes()), features),
    }
}

/// Reads a row of [`FRAME_COLUMNS`]: the frame, its offset in the pack, and its entry.
pub(super) fn read_frame_entry(row: &Row<'_>) -> rusqlite::Result<(FrameRef, u64, FrameEntry)> {
    let encoding = match (row.get(3)?, read_base(row.get_ref(4)?)?) {
        (0_u8, None) => Encoding::Raw,
        (1, None) => Encoding::Zstd,
        (2, Some(base)) => Encoding::Delta { base },
        _ => return Err(bad_row("encoding")),
    };
    let features = match row.get_ref(5)? {
        ValueRef::Null => None,
        value => Some(decode_features(value.as_blob()?)?),
    };
    let chunks = decode_chunks(row.get_ref(6)?.as_blob()?).collect::<rusqlite::Result<_>>()?;
    let entry = FrameEntry { stored_length: row.get(2)?, encoding, features, chunks };
    Ok((frame_ref(row.get(0)?), row.get(1)?, entry))
}

/// Reads the column of bases; nothing for a frame that is no delta.
pub(super) fn read_base(value: ValueRef<'_>) -> rusqlite::Result<Option<DeltaBase>> {
    let Some(bytes) = value.as_blob_or_null()? else { return Ok(None) };
    DeltaBase::from_bytes(bytes).map(Some).ok_or_else(|| bad_row("base"))
}

/// Decodes the column of features.
pub(super) fn decode_features(bytes: &[u8]) -> rusqlite::Result<Features> {
    let (features, rest) = bytes.as_chunks::<8>();
    match features {
        [a, b, c] if rest.is_empty() => Ok(Features([*a, *b, *c].map(u64::from_le_bytes))),
        _ => Err(bad_row("features")),
    }
}

/// Column value of a pack's kind, or nothing for objects that are no packs.
pub(super) fn kind_column(kind: ObjectKind) -> Option<u8> {
    match kind {
        ObjectKind::DataPack => Some(1),
        ObjectKind::TreePack => Some(2),
        ObjectKind::Index | ObjectKind::SessionMark | ObjectKind::Snapshot | ObjectKind::Mark => None,
    }
}

/// Column value of a writer's class.
pub(super) fn class_column(class: WriterClass) -> u8 {
    match class {
        WriterClass::Full => 1,
        WriterClass::IngestOnly => 2,
    }
}

/// Reads a row of [`PACK_COLUMNS`].
pub(super) fn read_pack(row: &Row<'_>, keys: &PackKeys) -> rusqlite::Result<(PackRow, PackRecord)> {
    let id = PackId::from_bytes(row.get(1)?);
    let kind = match row.get(2)? {
        1_u8 => ObjectKind::DataPack,
        2 => ObjectKind::TreePack,
        _ => return Err(bad_row("pack kind")),
    };
    let class = match row.get(4)? {
        1_u8 => WriterClass::Full,
        2 => WriterClass::IngestOnly,
        _ => return Err(bad_row("writer class")),
    };
    let record = PackRecord {
        id,
        kind,
        bytes: row.get(3)?,
        writer: Writer { class, host: row.get(6)?, id: WriterId::from_bytes(row.get(5)?) },
        header_hash: HeaderHash(row.get(7)?),
        header_bytes: row.get(8)?,
        key: keys.unwrap(&id, row.get_ref(9)?.as_blob()?)?,
    };
    Ok((PackRow(row.get(0)?), record))
}

/// Runs `visit` on every row.
pub(super) fn for_each_row(
    mut rows: Rows<'_>,
    mut visit: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    while let Some(row) = rows.next()? {
        visit(row)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn frame_keys_round_trip(pack in 1..1_i64 << 46, number in 0..1_u32 << 16) {
            let frame = FrameRef { pack: PackRow(pack), number };
            let key = frame_key(frame).unwrap();
            prop_assert!((first_frame_key(frame.pack)..=last_frame_key(frame.pack)).contains(&key));
            prop_assert_eq!(frame_ref(key), frame);
        }

        #[test]
        fn chunk_lists_round_trip(list in proptest::collection::vec((0..3_usize, any::<[u8; 32]>(), any::<u32>()), 1..20)) {
            let chunks: Vec<_> = list
                .into_iter()
                .map(|(kind, id, length)| FrameChunk {
                    kind: [ChunkKind::Data, ChunkKind::Tree, ChunkKind::List][kind],
                    id: ChunkId::from_bytes(id),
                    length,
                })
                .collect();
            let bytes = encode_chunks(&chunks);
            prop_assert_eq!(decode_chunks(&bytes).collect::<rusqlite::Result<Vec<_>>>().unwrap(), chunks);
            prop_assert!(decode_chunks(&bytes[1..]).any(|chunk| chunk.is_err()));
        }
    }

    #[test]
    fn frames_beyond_a_pack_have_no_key() {
        assert_eq!(frame_key(FrameRef { pack: PackRow(1), number: 1 << 16 }), None);
    }

    #[test]
    fn prefixes_take_six_bytes() {
        let largest = chunk_prefix(&ChunkId::from_bytes([0xff; 32]));
        assert_eq!(largest, (1 << 47) - 1);
    }
}
