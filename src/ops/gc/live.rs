//! What is needed: the chunks that snapshots reach, and the frames that these stand on.
//!
//! A chunk may have several homes. Of those of full writers, one outside the packs that are to go is taken, so that
//! only what lies nowhere else keeps a pack from going; where there are none, all those of ingest-only writers and in
//! damaged packs are. A store may hold ten million chunks: a chunk takes one bit, and a
//! frame four bytes.

use std::collections::{HashMap, HashSet};

use fixedbitset::FixedBitSet;

use crate::crypto::secrets::WriterClass;
use crate::format::frame::{DELTA_CHAIN_MAX, DeltaBase, Encoding, FrameEntry};
use crate::format::snapshot::Manifest;
use crate::id::{ChunkId, FrameId, PackId};
use crate::index::{ChunkPlace, FrameRef, PackRow};
use crate::ops::reach::{self, Below};
#[cfg(test)]
use crate::repo::flaw::Flaw;
use crate::repo::{RepoError, Repository};

/// Which packs may hold what is needed.
#[derive(Debug, Clone, Default)]
pub(in crate::ops) struct Homes {
    /// Packs that the store lists. What an index object names and nobody can read is no home.
    pub(in crate::ops) listed: HashSet<PackId>,
    /// Packs that another collection may delete.
    pub(in crate::ops) gone: HashSet<PackId>,
    /// Packs that are to go, if what they hold lies elsewhere as well.
    pub(in crate::ops) leaving: HashSet<PackId>,
}

/// Who vouches for what a pack holds, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Word {
    /// A full writer.
    Full,
    /// An ingest-only writer: what its chunks are called may be false, which shows when they are read.
    IngestOnly,
}

/// Whether a pack may be taken for a home, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// It stays.
    Stays,
    /// It is to go, unless it is needed.
    Leaves,
    /// It was found damaged: what is left of it may be all that there is.
    Damaged,
    /// Nothing in it may be relied on.
    Gone,
}

/// What is needed of a pack.
#[derive(Debug, Clone)]
pub(in crate::ops) struct LivePack {
    /// The position of each frame's first chunk among all chunks of the pack, and behind the last one.
    first: Box<[u32]>,
    chunks: FixedBitSet,
    /// Frames on which others stand, so that they have to stay as they are.
    bases: FixedBitSet,
    /// Frames of which anything is needed.
    frames: FixedBitSet,
}

impl LivePack {
    fn new(counts: &[u32]) -> Self {
        let mut first = Vec::with_capacity(counts.len() + 1);
        let mut chunks: u32 = 0;
        first.push(0);
        for count in counts {
            chunks = chunks.saturating_add(*count);
            first.push(chunks);
        }
        Self {
            first: first.into(),
            chunks: FixedBitSet::with_capacity(chunks as usize),
            bases: FixedBitSet::with_capacity(counts.len()),
            frames: FixedBitSet::with_capacity(counts.len()),
        }
    }

    /// Tells whether others stand on a frame.
    pub(in crate::ops) fn is_base(&self, frame: u32) -> bool {
        self.bases.contains(frame as usize)
    }

    /// Tells whether anything of a frame is needed.
    pub(in crate::ops) fn needs(&self, frame: u32) -> bool {
        self.frames.contains(frame as usize)
    }

    /// Tells whether a chunk of a frame is needed.
    pub(in crate::ops) fn needs_chunk(&self, frame: u32, position: u32) -> bool {
        self.bit(frame, position).is_some_and(|bit| self.chunks.contains(bit))
    }

    /// Tells whether a frame is copied as it is where its pack is written anew: others stand on it, or most of it is
    /// needed.
    pub(in crate::ops) fn stays_whole(&self, frame: u32, entry: &FrameEntry) -> bool {
        self.is_base(frame) || self.needed_bytes(frame, entry) > u64::from(entry.stored_length) / 2
    }

    /// Returns the stored bytes of a frame that writing its pack anew would give back.
    pub(in crate::ops) fn dead_bytes(&self, frame: u32, entry: &FrameEntry) -> u64 {
        let stored = u64::from(entry.stored_length);
        if self.stays_whole(frame, entry) { 0 } else { stored - self.needed_bytes(frame, entry) }
    }

    /// Returns the stored bytes of the chunks of a frame that are needed.
    fn needed_bytes(&self, frame: u32, entry: &FrameEntry) -> u64 {
        let stored = u64::from(entry.stored_length);
        let needed = (0..).zip(&entry.chunks).filter(|(position, _)| self.needs_chunk(frame, *position));
        let needed: u64 = needed.map(|(_, chunk)| u64::from(chunk.length)).sum();
        stored.saturating_mul(needed).checked_div(entry.plain_length() as u64).unwrap_or(stored).min(stored)
    }

    fn bit(&self, frame: u32, position: u32) -> Option<usize> {
        let [first, end] = self.first.get(frame as usize..=frame as usize + 1)? else { return None };
        first.checked_add(position).filter(|bit| bit < end).map(|bit| bit as usize)
    }

    /// Takes a chunk; tells whether its frame is new.
    fn take_chunk(&mut self, frame: u32, position: u32) -> bool {
        if let Some(bit) = self.bit(frame, position) {
            self.chunks.insert(bit);
        }
        self.take_frame(frame)
    }

    /// Takes a base; tells whether the frame is new.
    fn take_base(&mut self, frame: u32) -> bool {
        if (frame as usize) < self.bases.len() {
            self.bases.insert(frame as usize);
        }
        self.take_frame(frame)
    }

    fn take_frame(&mut self, frame: u32) -> bool {
        (frame as usize) < self.frames.len() && !self.frames.put(frame as usize)
    }
}

/// Finds what snapshots need.
pub(in crate::ops) struct Marker<'a> {
    repo: &'a Repository,
    homes: Homes,
    standings: HashMap<PackRow, (Word, Standing)>,
    packs: HashMap<PackRow, LivePack>,
    /// Deltas that stand on others, and whether all that they stand on can be read.
    resolved: HashMap<FrameRef, bool>,
}

impl<'a> Marker<'a> {
    pub(in crate::ops) fn new(repo: &'a Repository, homes: Homes) -> Self {
        Self { repo, homes, standings: HashMap::new(), packs: HashMap::new(), resolved: HashMap::new() }
    }

    /// Takes everything that a snapshot needs.
    ///
    /// # Errors
    /// [`RepoError::MissingChunk`] if a chunk has no home, or a failure of the store or the index.
    pub(in crate::ops) fn snapshot(&mut self, manifest: &Manifest) -> Result<(), RepoError> {
        let repo = self.repo;
        reach::each_chunk(repo, manifest, &mut |_, id| self.chunk(id))
    }

    /// Returns what is needed of each pack so far.
    pub(in crate::ops) fn packs(&self) -> &HashMap<PackRow, LivePack> {
        &self.packs
    }

    /// Returns what is needed of each pack; those of which nothing is are not there.
    pub(in crate::ops) fn into_packs(self) -> HashMap<PackRow, LivePack> {
        self.packs
    }

    fn chunk(&mut self, id: &ChunkId) -> Result<Below, RepoError> {
        let places = self.repo.index().places(id)?;
        let is_taken = |place: &ChunkPlace| {
            let pack = self.packs.get(&place.frame.pack);
            pack.is_some_and(|pack| pack.needs_chunk(place.frame.number, place.position))
        };
        // What was taken before stays where it was found.
        if places.iter().any(is_taken) {
            return Ok(Below::Skip);
        }
        let mut best: Option<(Standing, ChunkPlace)> = None;
        let mut doubtful = Vec::new();
        for place in places {
            let (word, standing) = self.standing(place.frame.pack)?;
            let is_better = best.as_ref().is_none_or(|(other, _)| standing < *other);
            if standing == Standing::Gone || !is_better || !self.resolves(place.frame, place.base, 0)? {
                continue;
            }
            match word {
                Word::Full if standing != Standing::Damaged => best = Some((standing, place)),
                Word::Full | Word::IngestOnly => doubtful.push(place),
            }
        }
        // Where ingest-only writers alone have a chunk, each has stored it for itself, and one that lies must not be what
        // stays of all; likewise where a chunk lies in damaged packs alone, nobody knows in which of them it is whole.
        let homes = best.map_or(doubtful, |(_, place)| vec![place]);
        if homes.is_empty() {
            return Err(RepoError::MissingChunk(*id));
        }
        for place in homes {
            if self.pack(place.frame.pack)?.take_chunk(place.frame.number, place.position) {
                self.take_bases(place.base)?;
            }
        }
        Ok(Below::Visit)
    }

    /// Takes the frames that a delta stands on, down to those that stand on none.
    fn take_bases(&mut self, base: Option<DeltaBase>) -> Result<(), RepoError> {
        #[cfg(test)]
        if Flaw::ForgetsBases.is_back() {
            return Ok(());
        }
        for id in base.iter().flat_map(DeltaBase::frames) {
            let (frame, below) = self.base(&id, 0)?.ok_or(RepoError::MissingBase(id))?;
            if self.pack(frame.pack)?.take_base(frame.number) {
                self.take_bases(below)?;
            }
        }
        Ok(())
    }

    /// Tells whether all that a frame stands on can be read, with `above` deltas above it.
    fn resolves(&mut self, frame: FrameRef, base: Option<DeltaBase>, above: u8) -> Result<bool, RepoError> {
        let Some(base) = base else { return Ok(true) };
        if let Some(known) = self.resolved.get(&frame) {
            return Ok(*known);
        }
        let mut resolves = above < DELTA_CHAIN_MAX;
        for id in base.frames() {
            resolves = resolves && self.base(&id, above + 1)?.is_some();
        }
        // What was too long only because of what lies above may do by itself.
        if resolves || above == 0 {
            self.resolved.insert(frame, resolves);
        }
        Ok(resolves)
    }

    /// Returns the best frame of an id, and what it stands on.
    fn base(&mut self, id: &FrameId, above: u8) -> Result<Option<(FrameRef, Option<DeltaBase>)>, RepoError> {
        let mut best: Option<((Word, Standing), FrameRef, Option<DeltaBase>)> = None;
        for frame in self.repo.index().frames_by_id(id)? {
            let Some(record) = self.repo.index().frame(frame)? else { continue };
            let below = match record.entry.encoding {
                Encoding::Delta { base } => Some(base),
                Encoding::Raw | Encoding::Zstd => None,
            };
            let standing = self.standing(frame.pack)?;
            let is_better = best.as_ref().is_none_or(|(other, ..)| standing < *other);
            if standing.1 != Standing::Gone && is_better && self.resolves(frame, below, above)? {
                best = Some((standing, frame, below));
            }
        }
        Ok(best.map(|(_, frame, below)| (frame, below)))
    }

    fn standing(&mut self, row: PackRow) -> Result<(Word, Standing), RepoError> {
        if let Some(known) = self.standings.get(&row) {
            return Ok(*known);
        }
        let pack = self.repo.index().pack(row)?;
        let word = match &pack {
            Some(pack) if pack.writer.class == WriterClass::Full => Word::Full,
            _ => Word::IngestOnly,
        };
        let standing = match pack.map(|pack| pack.id) {
            Some(id) if !self.homes.listed.contains(&id) || self.homes.gone.contains(&id) => Standing::Gone,
            Some(id) if self.repo.index().is_distrusted(&id) => Standing::Damaged,
            Some(id) if self.homes.leaving.contains(&id) => Standing::Leaves,
            Some(_) => Standing::Stays,
            None => Standing::Gone,
        };
        self.standings.insert(row, (word, standing));
        Ok((word, standing))
    }

    fn pack(&mut self, row: PackRow) -> Result<&mut LivePack, RepoError> {
        use std::collections::hash_map::Entry;
        Ok(match self.packs.entry(row) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(LivePack::new(&self.repo.index().chunk_counts(row)?)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hash::ChunkKind;
    use crate::format::frame::FrameChunk;

    fn entry(lengths: &[u32]) -> FrameEntry {
        let chunk = |length| FrameChunk { kind: ChunkKind::Data, id: ChunkId::from_bytes([0; 32]), length };
        let chunks = lengths.iter().map(|length| chunk(*length)).collect();
        FrameEntry { stored_length: 50, encoding: Encoding::Zstd, features: None, chunks }
    }

    #[test]
    fn chunks_of_frames_are_kept_apart() {
        let mut pack = LivePack::new(&[2, 1, 3]);
        assert!(pack.take_chunk(0, 1) && pack.take_chunk(2, 0), "two frames");
        assert!(!pack.take_chunk(2, 2), "the same frame");
        let needed: Vec<_> = [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1), (2, 2)]
            .map(|(frame, position)| pack.needs_chunk(frame, position))
            .into();
        assert_eq!(needed, [false, true, false, true, false, true]);
        assert_eq!([0, 1, 2].map(|frame| pack.needs(frame)), [true, false, true]);
        assert!(!pack.needs_chunk(0, 2) && !pack.needs_chunk(3, 0), "there are none");
    }

    #[test]
    fn what_writing_anew_gives_back() {
        let mut pack = LivePack::new(&[2, 2]);
        assert_eq!(pack.dead_bytes(0, &entry(&[75, 25])), 50, "all of it");
        pack.take_chunk(0, 1);
        assert_eq!(pack.dead_bytes(0, &entry(&[75, 25])), 38, "three quarters");
        assert_eq!(pack.dead_bytes(0, &entry(&[25, 75])), 0, "it is copied with the rest");
        pack.take_base(1);
        assert_eq!(pack.dead_bytes(1, &entry(&[75, 25])), 0, "a base stays as it is");
    }

    #[test]
    fn what_is_out_of_range_is_left_alone() {
        let mut pack = LivePack::new(&[1]);
        assert!(!pack.take_chunk(7, 0) && !pack.take_base(7) && !pack.take_chunk(u32::MAX, u32::MAX));
        assert!(!pack.needs(7) && !pack.is_base(7));
    }
}
