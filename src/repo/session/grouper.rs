//! Groups chunks into frames: small neighbours share one, a large chunk goes alone.
//!
//! Small chunks from the middle of a large file keep their place among its large ones. Were they put together with
//! others from further on, each night would put other ones together, and their frames would resemble nothing.

use crate::crypto::hash::ChunkKind;
use crate::format::frame::{Encoding, Features, FrameChunk};

/// A frame of small chunks holds at most this many: whoever looks one of them up reads the list of all.
const FRAME_CHUNKS_MAX: usize = 512;

/// A frame that is to be stored.
pub(super) struct FrameJob {
    /// Its place in the order of the session's frames; set when it is handed to the encoders.
    pub(super) order: u64,
    /// Its place in the order of the session's new frames of data, if it is one.
    pub(super) step: Option<u64>,
    /// Its chunks in order.
    pub(super) chunks: Vec<FrameChunk>,
    /// What is to be done for it.
    pub(super) work: FrameWork,
}

/// What is to be done for a frame.
pub(super) enum FrameWork {
    /// It is new: these are the bytes of its chunks, back to back.
    Encode(Vec<u8>),
    /// It lies in the store already, and is copied as it is.
    Copy {
        /// How it is encoded.
        encoding: Encoding,
        /// Its super-features, if it has any.
        features: Option<Features>,
        /// What lies under its seal.
        encoded: Vec<u8>,
    },
}

impl FrameJob {
    pub(super) fn new(chunks: Vec<FrameChunk>, plain: Vec<u8>) -> Self {
        Self { order: 0, step: None, chunks, work: FrameWork::Encode(plain) }
    }

    /// Tells whether it is a new frame of data.
    pub(super) fn is_new_data(&self) -> bool {
        let is_new = matches!(self.work, FrameWork::Encode(_));
        is_new && self.chunks.iter().all(|chunk| chunk.kind == ChunkKind::Data)
    }
}

/// Which small chunks share a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Any, so that frames are full.
    Any,
    /// Those with no large chunk between them, so that frames follow each other as their chunks do.
    Neighbours,
}

/// Fills one frame after the other with chunks in the order in which they come.
pub(super) struct Grouper {
    target_bytes: usize,
    sharing: Sharing,
    chunks: Vec<FrameChunk>,
    plain: Vec<u8>,
}

impl Grouper {
    pub(super) fn new(target_bytes: usize, sharing: Sharing) -> Self {
        Self { target_bytes, sharing, chunks: Vec::new(), plain: Vec::new() }
    }

    /// Takes a chunk and returns the frames that are full now: the one before it, and the chunk's own.
    pub(super) fn add(&mut self, chunk: FrameChunk, plain: &[u8]) -> [Option<FrameJob>; 2] {
        if plain.len() > self.target_bytes / 2 {
            let before = if self.sharing == Sharing::Neighbours { self.finish() } else { None };
            return [before, Some(FrameJob::new(vec![chunk], plain.to_vec()))];
        }
        let is_full =
            self.plain.len() + plain.len() > self.target_bytes || self.chunks.len() == FRAME_CHUNKS_MAX;
        let full = if is_full { self.finish() } else { None };
        self.chunks.push(chunk);
        self.plain.extend_from_slice(plain);
        [full, None]
    }

    /// Tells whether no frame is being filled.
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Returns the frame that is being filled, if it holds anything.
    pub(super) fn finish(&mut self) -> Option<FrameJob> {
        if self.chunks.is_empty() {
            return None;
        }
        let plain = std::mem::replace(&mut self.plain, Vec::with_capacity(self.target_bytes));
        Some(FrameJob::new(std::mem::take(&mut self.chunks), plain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ChunkId;

    /// Returns the bytes of a frame that is full.
    fn plain(job: Option<FrameJob>) -> Vec<u8> {
        match job.unwrap().work {
            FrameWork::Encode(plain) => plain,
            FrameWork::Copy { .. } => panic!("nothing was copied"),
        }
    }

    fn chunk(length: u32) -> FrameChunk {
        FrameChunk { kind: ChunkKind::Data, id: ChunkId::from_bytes([0; 32]), length }
    }

    #[test]
    fn small_chunks_share_a_frame_and_large_ones_do_not() {
        let mut grouper = Grouper::new(100, Sharing::Any);
        assert!(grouper.add(chunk(40), &[1; 40]).iter().all(Option::is_none));
        let [before, alone] = grouper.add(chunk(51), &[2; 51]);
        assert!(before.is_none());
        assert_eq!(plain(alone), [2; 51]);
        assert!(grouper.add(chunk(50), &[3; 50]).iter().all(Option::is_none));
        let [full, alone] = grouper.add(chunk(11), &[4; 11]);
        assert_eq!(full.unwrap().chunks.len(), 2);
        assert!(alone.is_none());
        assert_eq!(plain(grouper.finish()), [4; 11]);
        assert!(grouper.finish().is_none());
    }

    #[test]
    fn neighbours_keep_their_order() {
        let mut grouper = Grouper::new(100, Sharing::Neighbours);
        for byte in [1, 2] {
            assert!(grouper.add(chunk(40), &[byte; 40]).iter().all(Option::is_none));
        }
        let [before, alone] = grouper.add(chunk(51), &[3; 51]);
        assert_eq!(plain(before), [[1; 40], [2; 40]].concat());
        assert_eq!(plain(alone), [3; 51]);
        assert!(grouper.finish().is_none());
    }

    /// Files of a few bytes once shared frames of 37,000, and each lookup read a list of more than a megabyte.
    #[test]
    fn tiny_chunks_fill_a_frame_by_their_number() {
        let mut grouper = Grouper::new(FRAME_CHUNKS_MAX * 100, Sharing::Any);
        for _ in 0..FRAME_CHUNKS_MAX {
            assert!(grouper.add(chunk(7), &[1; 7]).iter().all(Option::is_none));
        }
        let [full, alone] = grouper.add(chunk(7), &[2; 7]);
        assert_eq!(full.unwrap().chunks.len(), FRAME_CHUNKS_MAX);
        assert!(alone.is_none());
        assert_eq!(plain(grouper.finish()), [2; 7]);
    }
}
