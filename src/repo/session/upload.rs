//! The uploader thread: has packs put into the store, several at a time where that pays, then puts the index objects
//! that name them, and keeps the session's progress marks coming.

use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::packer::FinishedPack;
use super::{RepoError, Shared, Uploaded, lock, no_thread};
use crate::format::header::ObjectKind;
use crate::format::index_object::{IndexObject, IndexedPack};
use crate::store::key::ObjectKey;
use crate::store::{Creation, Payload};

/// A progress mark is due this often; a session without one for 24 hours may be fenced.
const MARK_INTERVAL: Duration = Duration::from_hours(1);
/// An index object is written when this many packs wait for one, so that an interrupted session leaves little behind
/// that the next one cannot use.
const PACKS_PER_INDEX_OBJECT: usize = 8;
/// An index object is tried under so many names while others take them.
const NAMES_TRIED: usize = 16;
/// The default of [`super::SessionOptions::chunks_per_index_object`].
pub(super) const CHUNKS_PER_INDEX_OBJECT: usize = 1 << 16;

/// At most so many packs are on their way at the same time, each in a spool file until it is there.
const UPLOADS_MAX: usize = 4;

/// Uploads packs until the packer ends. Returns what was written, or nothing after a failure.
pub(super) fn run(shared: &Shared, packs: &Receiver<FinishedPack>) -> Option<Uploaded> {
    // A disk is no faster for being asked twice, and a distant store has others to serve as well.
    let uploads = (shared.store.requests_at_once() / 2).clamp(1, UPLOADS_MAX);
    let (sender, stored) = crossbeam_channel::bounded(uploads);
    let uploaded = thread::scope(|scope| {
        for _ in 0..uploads {
            let sender = sender.clone();
            thread::Builder::new()
                .name("upload".to_owned())
                .spawn_scoped(scope, move || put_packs(shared, packs, &sender))
                .map_err(|source| no_thread("upload", source))?;
        }
        drop(sender);
        let uploader = Uploader {
            shared,
            waiting: Vec::new(),
            waiting_chunks: 0,
            index_objects: 0,
            uploaded: Uploaded::default(),
        };
        uploader.drain(stored)
    });
    uploaded.map_err(|error| shared.fail(error)).ok()
}

/// Puts packs into the store, one after the other, until there are no more or the session failed.
fn put_packs(shared: &Shared, packs: &Receiver<FinishedPack>, stored: &Sender<IndexedPack>) {
    for pack in packs {
        if lock(&shared.failure).is_some() {
            return;
        }
        let put = put_pack(shared, pack);
        // Whoever names them ended first only if it failed, and it has said why.
        let went_well = put.map(|pack| stored.send(pack).is_ok()).unwrap_or_else(|error| {
            shared.fail(error);
            false
        });
        if !went_well {
            return;
        }
    }
}

fn put_pack(shared: &Shared, finished: FinishedPack) -> Result<IndexedPack, RepoError> {
    shared.require_young()?;
    let FinishedPack { file, pack } = finished;
    let payload = Payload::File { file: &file, bytes: pack.bytes };
    shared.store.create(&ObjectKey::pack(&pack.id), payload)?;
    if let Some(bases) = &shared.frames.bases
        && pack.kind == ObjectKind::DataPack
    {
        bases.put(&pack.id, &file, pack.bytes);
    }
    Ok(pack)
}

struct Uploader<'a> {
    shared: &'a Shared,
    /// Uploaded packs that no index object names yet.
    waiting: Vec<IndexedPack>,
    waiting_chunks: usize,
    index_objects: u32,
    uploaded: Uploaded,
}

impl Uploader<'_> {
    fn drain(mut self, stored: Receiver<IndexedPack>) -> Result<Uploaded, RepoError> {
        let mut marks = 0;
        let mut due = Instant::now() + MARK_INTERVAL;
        loop {
            match stored.recv_deadline(due) {
                Ok(pack) => self.take_note(pack)?,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if Instant::now() >= due {
                marks += 1;
                self.shared.put_mark(marks)?;
                due = Instant::now() + MARK_INTERVAL;
            }
        }
        self.write_index_object()?;
        Ok(self.uploaded)
    }

    /// Takes note of a pack that is in the store, and names those that wait to be named if they are many.
    fn take_note(&mut self, pack: IndexedPack) -> Result<(), RepoError> {
        self.uploaded.packs += 1;
        self.uploaded.all.push((pack.id, pack.bytes));
        self.uploaded.stored_bytes += pack.bytes;
        if pack.kind == ObjectKind::TreePack {
            self.uploaded.tree_packs.push(pack.id);
        }
        self.waiting_chunks += pack.directory.frames.iter().map(|frame| frame.chunks.len()).sum::<usize>();
        self.waiting.push(pack);
        let is_due = self.waiting.len() >= PACKS_PER_INDEX_OBJECT
            || self.waiting_chunks >= self.shared.options.chunks_per_index_object;
        if is_due { self.write_index_object() } else { Ok(()) }
    }

    fn write_index_object(&mut self) -> Result<(), RepoError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.waiting_chunks = 0;
        let mut packs = std::mem::take(&mut self.waiting);
        packs.sort_by_key(|pack| pack.id);
        let object = IndexObject { supersedes: Vec::new(), packs };
        let shared = self.shared;
        shared.require_young()?;
        let key = self.put(&object)?;
        shared.index.apply(key.as_str(), &object)?;
        // The index knows these chunks now, so the session need not remember them.
        let mut fresh = lock(&shared.fresh);
        for chunk in
            object.packs.iter().flat_map(|pack| &pack.directory.frames).flat_map(|frame| &frame.chunks)
        {
            fresh.remove(&chunk.id);
        }
        Ok(())
    }

    /// Puts an index object under the next name that is free. A host that may only create objects can take the names of
    /// sessions that it sees, and a snapshot whose packs no index object names would be lost on others.
    fn put(&mut self, object: &IndexObject) -> Result<ObjectKey, RepoError> {
        let shared = self.shared;
        for _ in 0..NAMES_TRIED {
            let key = ObjectKey::index(shared.id, self.index_objects);
            self.index_objects += 1;
            let bytes = object
                .seal(&shared.keys, &shared.writer, key.as_str())
                .map_err(|source| RepoError::Encode { object: key.to_string(), source })?;
            match shared.store.create(&key, Payload::Bytes(&bytes))? {
                Creation::Created => return Ok(key),
                // Our own, where a reply was lost and the request sent once more.
                Creation::AlreadyExists if shared.store.get(&key, None)? == bytes => return Ok(key),
                Creation::AlreadyExists => tracing::warn!("{key} was put by somebody else"),
            }
        }
        Err(RepoError::NoFreeIndexName(shared.id.to_string()))
    }
}
