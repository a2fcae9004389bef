//! Keyed hashes: how chunks, frames and tree pages are named and cut.

use std::fmt;

use zeroize::Zeroizing;

use super::derive;
use crate::id::{ChunkId, FrameId};

/// What a chunk holds; part of its id, so that data can never pass for metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChunkKind {
    /// Bytes of a file.
    Data,
    /// A page of a directory, or a value that spilled out of an entry.
    Tree,
    /// A node of a long content list.
    List,
}

impl ChunkKind {
    /// Returns the byte that stands for this kind in a store.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Tree => 1,
            Self::List => 2,
        }
    }

    /// Returns the kind that `code` stands for, or nothing.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Data),
            1 => Some(Self::Tree),
            2 => Some(Self::List),
            _ => None,
        }
    }
}

/// The keys that name things. Every key holder has them, ingest-only ones included.
#[derive(Clone)]
pub struct IdKeys {
    chunk: Zeroizing<[u8; 32]>,
    frame: Zeroizing<[u8; 32]>,
    tree: Zeroizing<[u8; 32]>,
}

impl IdKeys {
    /// Derives the three naming keys from the domain's id key.
    #[must_use]
    pub fn new(id_key: &[u8; 32]) -> Self {
        Self {
            chunk: Zeroizing::new(*id_key),
            frame: derive("yester 1 frame id", &[id_key]),
            tree: derive("yester 1 tree page", &[id_key]),
        }
    }

    /// Returns the id of a chunk.
    #[must_use]
    pub fn chunk_id(&self, kind: ChunkKind, plain: &[u8]) -> ChunkId {
        let mut hasher = blake3::Hasher::new_keyed(&self.chunk);
        hasher.update(&[kind.code()]).update(plain);
        ChunkId::from_bytes(*hasher.finalize().as_bytes())
    }

    /// Returns the id of a frame that holds `chunks` (id and plain length), in order.
    #[must_use]
    pub fn frame_id(&self, chunks: impl IntoIterator<Item = (ChunkId, u32)>) -> FrameId {
        let mut hasher = blake3::Hasher::new_keyed(&self.frame);
        for (id, length) in chunks {
            hasher.update(id.as_bytes()).update(&length.to_le_bytes());
        }
        FrameId::from_bytes(*hasher.finalize().as_bytes())
    }

    /// Returns the hash that decides whether a page of `level` may end after `name`.
    #[must_use]
    pub fn page_cut(&self, level: u8, name: &[u8]) -> u64 {
        let mut hasher = blake3::Hasher::new_keyed(&self.tree);
        hasher.update(&[level]).update(name);
        let [a, b, c, d, e, f, g, h, ..] = *hasher.finalize().as_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// Returns the id key itself, which the key of the local cache derives from.
    pub(super) fn expose(&self) -> &[u8; 32] {
        &self.chunk
    }
}

impl fmt::Debug for IdKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdKeys(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> IdKeys {
        IdKeys::new(&std::array::from_fn(|i| u8::try_from(i).unwrap()))
    }

    #[test]
    fn kinds_have_one_code_each() {
        for kind in [ChunkKind::Data, ChunkKind::Tree, ChunkKind::List] {
            assert_eq!(ChunkKind::from_code(kind.code()), Some(kind));
        }
        assert_eq!(ChunkKind::from_code(3), None);
    }

    #[test]
    fn hashes_are_frozen() {
        let keys = keys();
        let chunk = |kind| keys.chunk_id(kind, b"abc").to_string();
        let empty = keys.chunk_id(ChunkKind::Data, b"");
        let frame = keys.frame_id([(keys.chunk_id(ChunkKind::Data, b"abc"), 3), (empty, 0)]);
        let pages = [keys.page_cut(0, b"abc"), keys.page_cut(1, b"abc")].map(|hash| format!("{hash:016x}"));
        assert_eq!(
            chunk(ChunkKind::Data),
            "a72547c98dfc4c63c93596444ac9a83c822580bd0ce8c0a5bfd19f647edd7f18"
        );
        assert_eq!(
            chunk(ChunkKind::Tree),
            "703b5b6e935e6e9a89c80d3fc98fed47c660048e7a31c2b21c3a11155203a712"
        );
        assert_eq!(
            chunk(ChunkKind::List),
            "9e1e763533237ecc6f9a989a3cf0d9c27f58a3bd64b439842291d369f3681399"
        );
        assert_eq!(frame.to_string(), "ad2e7aa43deff518ec40410d59909e48a293d17795de204afac60704956d66b9");
        assert_eq!(pages, ["7795b022e5b63525", "37f9efcc35714c38"]);
    }

    #[test]
    fn the_kind_is_part_of_the_id() {
        let keys = keys();
        assert_ne!(keys.chunk_id(ChunkKind::Data, b"\x01abc"), keys.chunk_id(ChunkKind::Tree, b"abc"));
        assert_ne!(keys.chunk_id(ChunkKind::Data, b"abc"), keys.chunk_id(ChunkKind::List, b"abc"));
    }

    #[test]
    fn debug_output_shows_no_key() {
        assert_eq!(format!("{:?}", keys()), "IdKeys(..)");
    }
}
