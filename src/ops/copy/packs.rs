//! Copies within a domain: packs as they are, or the frames of them that are needed.
//!
//! What a snapshot needs is found as a collector finds it ([`Marker`]), so that a copy brings all that a collector would
//! keep: bases of deltas, and every home that only ingest-only writers vouch for.
//!
//! A pack keeps its name, which is the hash of its bytes. Where a collection of the other store has named that pack, it
//! must not come back under that name: for everybody who reads what lies under `gc/`, it is gone, and the next collection
//! takes it out of the index. So the session asks what its own listing of `gc/` said, and such a pack's frames are
//! written into new packs, which have other names. The same is done where less than half of a pack is needed, and where
//! an object of that name is there and is not what its name says.

use std::collections::{HashMap, HashSet};

use super::{CopyError, CopyStats};
use crate::format::snapshot::Manifest;
use crate::id::{FrameId, PackId};
use crate::index::{FrameRecord, PackRecord, PackRow};
use crate::ops::gc::live::{Homes, LivePack, Marker};
use crate::progress::{Event, Progress};
use crate::repo::session::SessionWriter;
use crate::repo::whole::WholePack;
use crate::repo::{RepoError, Repository};
use crate::store::key::Prefix;
use crate::store::list_with_lengths;

/// A pack of which at least this part is needed is copied as it is.
const WHOLE_DIVISOR: u64 = 2;

/// Brings packs into sessions.
pub(super) struct PackCopier<'a> {
    source: &'a Repository,
    destination: &'a Repository,
    /// What all snapshots need that were looked at since damage was met last.
    needed: Marker<'a>,
    /// Packs that the store that is copied to has, with their lengths.
    listed: HashMap<PackId, u64>,
    /// Frames that were written into new packs.
    written: HashSet<FrameId>,
}

impl<'a> PackCopier<'a> {
    /// Looks at what both stores have.
    pub(super) fn new(source: &'a Repository, destination: &'a Repository) -> Result<Self, CopyError> {
        source.refresh().map_err(CopyError::Source)?;
        destination.refresh().map_err(CopyError::Destination)?;
        let listed = list_packs(destination).map_err(CopyError::Destination)?;
        distrust_lost(destination, &listed).map_err(CopyError::Destination)?;
        let needed = marker(source).map_err(CopyError::Source)?;
        Ok(Self { source, destination, needed, listed, written: HashSet::new() })
    }

    /// Finds what a snapshot needs.
    ///
    /// # Errors
    /// [`CopyError::Source`] with damage if it is not whole.
    pub(super) fn find(&mut self, manifest: &Manifest) -> Result<(), CopyError> {
        let found = self.needed.snapshot(manifest).map_err(CopyError::Source);
        if found.is_err() {
            // What was taken before belongs to other snapshots, and part of it to none.
            self.begin_anew()?;
        }
        found
    }

    /// Brings everything that was found and that the store lacks.
    pub(super) fn fill(
        &mut self,
        session: &SessionWriter,
        stats: &mut CopyStats,
        progress: &dyn Progress,
    ) -> Result<(), CopyError> {
        let filled = self.fill_all(session, stats, progress);
        if let Err(error) = &filled {
            if let CopyError::Source(error @ RepoError::Damaged { .. }) = error {
                let pack: Vec<PackId> = error.damaged_pack().into_iter().collect();
                self.source.index().distrust(&pack).map_err(source_error)?;
            }
            self.begin_anew()?;
        }
        filled
    }

    /// Takes note of packs that were found in the store.
    pub(super) fn wrote(&mut self, packs: &[(PackId, u64)]) -> Result<(), CopyError> {
        self.listed.extend(packs.iter().copied());
        let ids: Vec<PackId> = packs.iter().map(|(id, _)| *id).collect();
        self.destination.index().trust(&ids).map_err(|error| CopyError::Destination(error.into()))
    }

    fn begin_anew(&mut self) -> Result<(), CopyError> {
        self.source.refresh().map_err(CopyError::Source)?;
        self.needed = marker(self.source).map_err(CopyError::Source)?;
        self.written.clear();
        Ok(())
    }

    fn fill_all(
        &mut self,
        session: &SessionWriter,
        stats: &mut CopyStats,
        progress: &dyn Progress,
    ) -> Result<(), CopyError> {
        let index = self.source.index();
        // In the order in which they came, so that what stands on others comes behind them.
        let mut rows: Vec<PackRow> = self.needed.packs().keys().copied().collect();
        rows.sort_unstable();
        for row in rows {
            let Some(live) = self.needed.packs().get(&row) else { continue };
            let pack =
                index.pack(row).map_err(source_error)?.ok_or(CopyError::Source(RepoError::StaleIndex))?;
            if self.is_there(session, &pack)? {
                continue;
            }
            let frames = index.frames_of(row).map_err(source_error)?;
            let mut missing = Vec::new();
            for frame in frames.into_iter().filter(|frame| live.needs(frame.number)) {
                if !self.holds(session, live, &frame)? {
                    missing.push(frame);
                }
            }
            let bytes: u64 = missing.iter().map(|frame| u64::from(frame.entry.stored_length)).sum();
            if missing.is_empty() {
                continue;
            }
            if self.may_come_whole(session, &pack) && bytes >= pack.bytes / WHOLE_DIVISOR {
                self.copy_whole(session, &pack)?;
                stats.whole_packs += 1;
                progress.event(Event::Done { files: 0, bytes: pack.bytes });
            } else {
                stats.frames += missing.len() as u64;
                self.copy_frames(session, missing)?;
                progress.event(Event::Done { files: 0, bytes });
            }
        }
        Ok(())
    }

    /// Tells whether the session may rely on a pack of this name as a whole: an index object names it, no collection does,
    /// it is there in its length, and nobody found it damaged.
    fn is_there(&self, session: &SessionWriter, pack: &PackRecord) -> Result<bool, CopyError> {
        let index = self.destination.index();
        Ok(self.listed.get(&pack.id) == Some(&pack.bytes)
            && !session.is_leaving(&pack.id)
            && !index.is_distrusted(&pack.id)
            && index.names(&pack.id).map_err(|error| CopyError::Destination(error.into()))?)
    }

    /// Tells whether an object of this pack's name can be put: it must be whole here, and what lies there already must be
    /// what its name says, as far as is known.
    fn may_come_whole(&self, session: &SessionWriter, pack: &PackRecord) -> bool {
        let fits = match self.listed.get(&pack.id) {
            None => true,
            Some(bytes) => *bytes == pack.bytes && !self.destination.index().is_distrusted(&pack.id),
        };
        fits && !session.is_leaving(&pack.id) && !self.source.index().is_distrusted(&pack.id)
    }

    /// Tells whether the store has what is needed of a frame elsewhere: its chunks, and the frame as such if others stand
    /// on it.
    fn holds(
        &self,
        session: &SessionWriter,
        live: &LivePack,
        frame: &FrameRecord,
    ) -> Result<bool, CopyError> {
        for (position, chunk) in (0..).zip(&frame.entry.chunks) {
            if live.needs_chunk(frame.number, position)
                && !session.contains(&chunk.id).map_err(CopyError::Destination)?
            {
                return Ok(false);
            }
        }
        if !live.is_base(frame.number) {
            return Ok(true);
        }
        let id = self.frame_id(frame);
        Ok(self.written.contains(&id) || session.holds_frame(&id).map_err(CopyError::Destination)?)
    }

    fn copy_whole(&self, session: &SessionWriter, pack: &PackRecord) -> Result<(), CopyError> {
        let fetched = WholePack::fetch(self.source.store(), &pack.id, self.destination.spool())
            .map_err(CopyError::Source)?;
        let described = fetched.describe(self.source.keys()).map_err(CopyError::Source)?;
        session.add_pack(fetched.into_file(), described).map_err(CopyError::Destination)
    }

    fn copy_frames(&mut self, session: &SessionWriter, frames: Vec<FrameRecord>) -> Result<(), CopyError> {
        for frame in frames {
            let encoded = self.source.frames().encoded_frame(&frame).map_err(CopyError::Source)?;
            self.written.insert(self.frame_id(&frame));
            session.add_frame(frame.entry, encoded).map_err(CopyError::Destination)?;
        }
        Ok(())
    }

    fn frame_id(&self, frame: &FrameRecord) -> FrameId {
        self.source.keys().ids().frame_id(frame.entry.chunks.iter().map(|chunk| (chunk.id, chunk.length)))
    }
}

fn marker(source: &Repository) -> Result<Marker<'_>, RepoError> {
    let listed = list_packs(source)?.into_keys().collect();
    let gone = source.collections()?.dead_packs();
    Ok(Marker::new(source, Homes { listed, gone, leaving: HashSet::new() }))
}

/// Lists the packs of a store, with their lengths.
pub(in crate::ops) fn list_packs(repo: &Repository) -> Result<HashMap<PackId, u64>, RepoError> {
    let mut packs = HashMap::new();
    list_with_lengths(repo.store(), Prefix::Packs, &mut |key, bytes| {
        packs.extend(key.as_pack().map(|id| (id, bytes)));
    })?;
    Ok(packs)
}

/// Distrusts packs that index objects name and that the store does not list in their length; returns them, but for those
/// that a collection has taken.
pub(in crate::ops) fn distrust_lost(
    repo: &Repository,
    listed: &HashMap<PackId, u64>,
) -> Result<Vec<PackId>, RepoError> {
    let dead = repo.collections()?.dead_packs();
    let mut lost = Vec::new();
    repo.index().packs(&mut |_, pack| {
        if listed.get(&pack.id) != Some(&pack.bytes) && !dead.contains(&pack.id) {
            lost.push(pack.id);
        }
    })?;
    repo.index().distrust(&lost)?;
    Ok(lost)
}

fn source_error(error: crate::index::IndexError) -> CopyError {
    CopyError::Source(error.into())
}
