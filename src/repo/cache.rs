//! What was decoded lately: frames, the places of their chunks, and pages of directories.
//!
//! Frames are decoded once for many waiters.

use std::sync::Arc;

use quick_cache::sync::Cache;
use quick_cache::{UnitWeighter, Weighter};

use super::RepoError;
use super::frames::DecodedFrame;
use crate::format::tree::Page;
use crate::id::ChunkId;
use crate::index::{ChunkHome, FrameRef};
use crate::recent;

/// Frames of this size are expected; only the number of slots follows from it.
const EXPECTED_FRAME_BYTES: u64 = 256 << 10;
/// Places of chunks are kept for this many of them; the neighbours of a small file are wanted next.
const HOMES: u64 = 64 << 10;
/// Entries of decoded pages that are kept together.
const PAGE_ENTRIES: u64 = 32 << 10;
/// Entries that a page is expected to have; only the number of slots follows from it.
const EXPECTED_PAGE_ENTRIES: u64 = 64;

#[derive(Clone)]
struct ByBytes;

impl Weighter<FrameRef, Arc<DecodedFrame>> for ByBytes {
    fn weight(&self, _frame: &FrameRef, decoded: &Arc<DecodedFrame>) -> u64 {
        decoded.memory_bytes()
    }
}

#[derive(Clone)]
struct ByEntries;

impl Weighter<ChunkId, Arc<Page>> for ByEntries {
    fn weight(&self, _id: &ChunkId, page: &Arc<Page>) -> u64 {
        let entries = match page.as_ref() {
            Page::Entries(entries) => entries.len(),
            Page::Pages { pages, .. } => pages.len(),
        };
        1 + entries as u64
    }
}

/// Keeps what was decoded lately.
pub(super) struct DecodedCache {
    frames: Cache<FrameRef, Arc<DecodedFrame>, ByBytes>,
    homes: Cache<ChunkId, ChunkHome>,
    pages: Cache<ChunkId, Arc<Page>, ByEntries>,
}

impl DecodedCache {
    /// Makes an empty cache whose frames take at most `bytes`.
    pub(super) fn new(bytes: u64) -> Self {
        Self {
            frames: recent::cache(bytes, EXPECTED_FRAME_BYTES, ByBytes),
            homes: recent::cache(HOMES, 1, UnitWeighter),
            pages: recent::cache(PAGE_ENTRIES, EXPECTED_PAGE_ENTRIES, ByEntries),
        }
    }

    /// Returns the frame if it is here.
    pub(super) fn kept_frame(&self, frame: &FrameRef) -> Option<Arc<DecodedFrame>> {
        self.frames.get(frame)
    }

    /// Returns the frame, decoding it with `load` if it is not here. While one caller decodes, others wait
    /// for its result; a failure is not kept.
    pub(super) fn frame(
        &self,
        frame: FrameRef,
        load: impl FnOnce() -> Result<DecodedFrame, RepoError>,
    ) -> Result<Arc<DecodedFrame>, RepoError> {
        self.frames.get_or_insert_with(&frame, || load().map(Arc::new))
    }

    /// Returns where a chunk was found, if a frame that holds it was decoded lately.
    pub(super) fn home(&self, id: &ChunkId) -> Option<ChunkHome> {
        self.homes.get(id)
    }

    /// Keeps where a chunk is.
    pub(super) fn keep_home(&self, id: ChunkId, home: ChunkHome) {
        self.homes.insert(id, home);
    }

    /// Returns a page that was decoded lately.
    pub(super) fn page(&self, id: &ChunkId) -> Option<Arc<Page>> {
        self.pages.get(id)
    }

    /// Keeps a decoded page.
    pub(super) fn keep_page(&self, id: ChunkId, page: Arc<Page>) {
        self.pages.insert(id, page);
    }
}
