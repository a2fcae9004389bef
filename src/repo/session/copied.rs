//! What comes into a session as it is: frames and whole packs that were written before, here or in another store of the
//! domain; and commits of what another store holds.

use std::collections::HashSet;
use std::fs::File;

use super::grouper::{FrameJob, FrameWork};
use super::packer::FinishedPack;
use super::{RepoError, SessionStats, SessionWriter, SettledSession, bases, lock, send};
use crate::crypto::secrets::WriterClass;
use crate::format::frame::{DELTA_CHAIN_MAX, FrameChunk, FrameEntry};
use crate::format::index_object::IndexedPack;
use crate::format::snapshot::Manifest;
use crate::id::{FrameId, PackId, SessionId};

impl SessionWriter {
    /// Tells whether a collection may delete a pack, as far as it was known when the session began. Such a pack must not
    /// come under the same name again: for who knows of the collection, it is gone.
    #[must_use]
    pub fn is_leaving(&self, pack: &PackId) -> bool {
        self.shared.gone.contains(pack)
    }

    /// Tells whether the store holds a frame that others may stand on, down to those that stand on none.
    ///
    /// # Errors
    /// Fails if the index does.
    pub fn holds_frame(&self, id: &FrameId) -> Result<bool, RepoError> {
        let (frame, lineage) = bases::base_lineage(&self.shared, id, 0)?;
        Ok(frame.is_some() && lineage.deltas() <= DELTA_CHAIN_MAX)
    }

    /// Adds a frame as it is: `encoded` is what lay under its seal, and what it stands on has to be in the store as well.
    /// Nothing is looked up: its chunks are added even if they lie elsewhere.
    ///
    /// # Errors
    /// As for [`Self::add`].
    pub fn add_frame(&self, entry: FrameEntry, encoded: Vec<u8>) -> Result<(), RepoError> {
        let FrameEntry { encoding, features, chunks, .. } = entry;
        let work = FrameWork::Copy { encoding, features, encoded };
        self.send_whole(FrameJob { order: 0, step: None, chunks, work })
    }

    /// Adds chunks as one frame, so that what stands on a frame of just these finds it. Nothing is looked up.
    ///
    /// # Errors
    /// As for [`Self::add`].
    pub fn add_as_frame(&self, chunks: Vec<FrameChunk>, plain: Vec<u8>) -> Result<(), RepoError> {
        self.send_whole(FrameJob::new(chunks, plain))
    }

    fn send_whole(&self, job: FrameJob) -> Result<(), RepoError> {
        let mut state = lock(&self.state);
        let mut fresh = lock(&self.shared.fresh);
        for chunk in &job.chunks {
            state.stats.chunks += 1;
            fresh.insert(chunk.id);
        }
        drop(fresh);
        send(&self.shared, &mut state, job)
    }

    /// Adds a whole pack of this domain, whose bytes lie in `file` and have its id.
    ///
    /// # Errors
    /// [`RepoError::SessionFailed`] after a failure of the session's threads, which [`Self::abandon`] returns.
    pub fn add_pack(&self, file: File, pack: IndexedPack) -> Result<(), RepoError> {
        // The word of an ingest-only writer says nothing of the chunks of others.
        if pack.writer.class == WriterClass::Full {
            let mut fresh = lock(&self.shared.fresh);
            fresh.extend(pack.directory.frames.iter().flat_map(|frame| &frame.chunks).map(|chunk| chunk.id));
        }
        // Cloned, so that nobody waits for the lock while the queue is full.
        let packs = lock(&self.packs).clone().ok_or(RepoError::SessionFailed)?;
        packs.send(FinishedPack { file, pack }).map_err(|_| RepoError::SessionFailed)
    }
}

impl SettledSession {
    /// Returns the id of the session and of its snapshot.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.shared.id
    }

    /// Returns the packs that were written, with their lengths.
    #[must_use]
    pub fn packs(&self) -> &[(PackId, u64)] {
        &self.packs
    }

    /// Creates the snapshot as a copy of `manifest`, which is of another store: all of it stays, but for the id, and its
    /// tree packs, of which those are left that this store has.
    ///
    /// # Errors
    /// As for [`Self::commit`].
    pub fn commit_copy(self, mut manifest: Manifest) -> Result<(Manifest, SessionStats), RepoError> {
        manifest.origin = Some(manifest.identity());
        let mut tree_packs = Vec::new();
        let mut seen = HashSet::new();
        for pack in manifest.tree_packs.iter().chain(&self.tree_packs) {
            if seen.insert(*pack) && self.shared.index.names(pack)? {
                tree_packs.push(*pack);
            }
        }
        manifest.tree_packs = tree_packs;
        self.commit_as_it_is(manifest)
    }
}
