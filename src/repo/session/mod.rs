//! A writer's session: from its open mark to its commit. Chunks go in, packs and index objects come out.
//!
//! ```text
//! add() ─ grouper ─► encoders (threads) ─► packer (thread) ─► uploader (thread)
//!         frames      find bases, compress   seal, spool        packs, then index objects, progress marks
//! ```
//! Every arrow is a bounded queue, so `add` blocks when the store is slower than the source.

mod bases;
mod copied;
mod encode;
mod grouper;
mod marks;
mod packer;
mod trail;
mod upload;
mod usable;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use jiff::Timestamp;

#[cfg(test)]
use super::flaw::Flaw;
use super::frames::FrameReader;
use super::{RepoError, Repository};
use crate::crypto::hash::{ChunkKind, IdKeys};
use crate::crypto::secrets::{DomainKeys, Writer, WriterClass};
use crate::format::frame::FrameChunk;
use crate::format::pack::PACK_TARGET_BYTES;
use crate::format::snapshot::{Manifest, SnapshotObject};
use crate::id::{ChunkId, PackId, SessionId};
use crate::index::{CachedObject, FrameRecord, FrameRef, Index, NewObject, PackRow};
use crate::process::boot_clock;
use crate::store::key::ObjectKey;
use crate::store::{Creation, ObjectStore, Payload};
use bases::Lineage;
use grouper::{FrameJob, Grouper, Sharing};
use packer::FinishedPack;
use trail::Trail;
use usable::UsableChunks;

/// Plain bytes that a frame of small chunks aims at.
pub const FRAME_TARGET_BYTES: usize = 256 << 10;
/// A session that is older than this, by a clock that counts sleep, does not commit.
const COMMIT_DEADLINE: Duration = Duration::from_hours(7 * 24);

/// How a session writes.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// The source that is written, for the session's mark.
    pub source: String,
    /// Level of zstd.
    pub level: i32,
    /// Threads that encode frames, at least 1.
    pub threads: usize,
    /// Plain bytes that a frame of small chunks aims at.
    pub frame_target_bytes: usize,
    /// Length at which a pack takes no further frame.
    pub pack_target_bytes: u64,
    /// An index object is written when the packs that wait for one hold this many chunks, so that memory does not grow
    /// with the number of small files: until then the session remembers them.
    pub chunks_per_index_object: usize,
    /// Whether frames are encoded against similar ones.
    pub deltas: Deltas,
    /// Packs that this session does not rely on, besides those that are about to be deleted.
    pub avoid: HashSet<PackId>,
    /// Whether it relies on packs that were found damaged or missing.
    pub damaged: DamagedPacks,
}

/// Whether a session relies on packs that this host found damaged or missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DamagedPacks {
    /// It stores anew what they hold.
    Avoid,
    /// It takes them for what they are: nothing that it could store anew is at hand.
    Keep,
}

/// Whether a session writes delta frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deltas {
    /// Every frame is encoded alone, and none is looked at for later deltas.
    Never,
    /// A frame of data that resembles a stored one is encoded against that, if it pays.
    WherePays,
}

impl SessionOptions {
    /// Returns the defaults for a source.
    #[must_use]
    pub fn new(source: &str) -> Self {
        Self {
            source: source.to_owned(),
            level: 3,
            threads: std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
            frame_target_bytes: FRAME_TARGET_BYTES,
            pack_target_bytes: PACK_TARGET_BYTES,
            chunks_per_index_object: upload::CHUNKS_PER_INDEX_OBJECT,
            deltas: Deltas::WherePays,
            avoid: HashSet::new(),
            damaged: DamagedPacks::Avoid,
        }
    }
}

/// What a session wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionStats {
    /// Chunks that were added, known ones included.
    pub chunks: u64,
    /// Chunks that were new to the store.
    pub new_chunks: u64,
    /// Plain bytes of new chunks.
    pub added_bytes: u64,
    /// Bytes of the packs that were written.
    pub stored_bytes: u64,
    /// Packs that were written.
    pub packs: u64,
    /// Frames that were stored as a delta.
    pub deltas: DeltaStats,
}

/// What the delta frames of a session are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeltaStats {
    /// Number of delta frames.
    pub frames: u64,
    /// Their plain bytes.
    pub plain_bytes: u64,
    /// What they take in packs.
    pub stored_bytes: u64,
    /// What they would take alone, as far as their bases tell.
    pub alone_bytes: u64,
}

/// Frames that wait to be encoded, or for one before them, for each encoder: what the packer holds back is bounded so.
const FRAMES_UNDER_WAY: usize = 16;
/// So often whoever waits for a permit looks whether the session failed.
const FAILURE_INTERVAL: Duration = Duration::from_millis(100);

/// What all threads of a session share.
struct Shared {
    id: SessionId,
    store: Arc<dyn ObjectStore>,
    keys: DomainKeys,
    writer: Writer,
    index: Arc<Index>,
    frames: Arc<FrameReader>,
    options: SessionOptions,
    /// When it began, by the clock since boot.
    started: Duration,
    /// Packs that a garbage collection may delete, as far as it was known when the session began.
    gone: HashSet<PackId>,
    /// Packs that were looked at; no id for those that may not be relied on, whatever becomes known of them.
    trusted: Mutex<HashMap<PackRow, Option<PackId>>>,
    /// Packs that were looked at, and whether reading them takes a distant store.
    distant: Mutex<HashMap<PackRow, bool>>,
    /// The delta frames so far.
    deltas: Mutex<DeltaStats>,
    /// Chains of stored deltas that were looked at.
    lineages: Mutex<HashMap<FrameRef, Lineage>>,
    trail: Trail,
    /// Chunks that were added and are not in the index yet.
    fresh: Mutex<HashSet<ChunkId>>,
    /// The first failure of any thread.
    failure: Mutex<Option<RepoError>>,
}

impl Shared {
    /// Keeps the first failure; the others follow from it.
    fn fail(&self, error: RepoError) {
        lock(&self.failure).get_or_insert(error);
    }

    /// Tells whether what is in a pack may be relied on. Packs of ingest-only writers are relied on by nobody but
    /// themselves: the names of their chunks prove nothing.
    fn is_trusted(&self, row: PackRow) -> Result<bool, RepoError> {
        let known = lock(&self.trusted).get(&row).copied();
        let trusted = match known {
            Some(known) => known,
            None => {
                let pack = self.index.pack(row)?.filter(|pack| {
                    let is_vouched_for = pack.writer.class == WriterClass::Full || pack.writer == self.writer;
                    is_vouched_for && !self.gone.contains(&pack.id) && !self.options.avoid.contains(&pack.id)
                });
                *lock(&self.trusted).entry(row).or_insert(pack.map(|pack| pack.id))
            }
        };
        // Damage may be found at any time.
        Ok(trusted.is_some_and(|pack| {
            self.options.damaged == DamagedPacks::Keep || !self.index.is_distrusted(&pack)
        }))
    }

    /// Fails if the session is too old to name packs or to commit: what it relies on may be forgotten by then.
    fn require_young(&self) -> Result<(), RepoError> {
        let is_young = boot_clock().saturating_sub(self.started) <= COMMIT_DEADLINE;
        if is_young { Ok(()) } else { Err(self.fenced("it is older than seven days")) }
    }

    fn fenced(&self, why: &'static str) -> RepoError {
        RepoError::Fenced { session: self.id.to_string(), why }
    }

    /// Tells whether a pack lies in a distant store alone. To fetch a base from there takes longer than it saves.
    fn is_distant(&self, row: PackRow, id: &PackId) -> bool {
        let Some(bases) = &self.frames.bases else { return false };
        *lock(&self.distant).entry(row).or_insert_with(|| !bases.holds(id))
    }
}

/// What a session leaves behind if it ends without a commit: a tombstone, so that no collector has to wait for it.
struct Undecided {
    id: SessionId,
    store: Arc<dyn ObjectStore>,
    keys: DomainKeys,
    writer: Writer,
    is_decided: bool,
}

impl Drop for Undecided {
    fn drop(&mut self) {
        // Those who can only write cannot decide anything either; a collector waits until they were silent for a day.
        if !self.is_decided
            && self.writer.class == WriterClass::Full
            && let Err(error) = marks::put_tombstone(self.store.as_ref(), &self.keys, &self.writer, self.id)
        {
            tracing::debug!("session {} ends without a tombstone: {error}", self.id);
        }
    }
}

/// A running session. Methods may be called from any thread; they block when the queues are full.
pub struct SessionWriter {
    shared: Arc<Shared>,
    undecided: Undecided,
    ids: IdKeys,
    state: Mutex<State>,
    /// Chunks whose only homes turned out to be damaged: they are stored again.
    distrusted: Mutex<HashSet<ChunkId>>,
    /// Chunks of frames that were found usable. None stops to be while the session's mark lies in the store.
    usable: Mutex<UsableChunks>,
    threads: Vec<JoinHandle<()>>,
    /// For packs that come as they are; nothing once the session ends.
    packs: Mutex<Option<Sender<FinishedPack>>>,
    /// Taken when the session ends.
    uploader: Option<JoinHandle<Option<Uploaded>>>,
}

struct State {
    /// None once the session ends.
    jobs: Option<Sender<FrameJob>>,
    /// One for each frame that may be under way; the packer gives them back.
    permits: Receiver<()>,
    data: Grouper,
    /// For chunks from the middle of a file.
    inner: Grouper,
    metadata: Grouper,
    /// Frames that were handed to the encoders, and those of data among them.
    frames: u64,
    data_frames: u64,
    stats: SessionStats,
}

/// What the uploader leaves behind.
#[derive(Default)]
struct Uploaded {
    packs: u64,
    stored_bytes: u64,
    tree_packs: Vec<PackId>,
    /// All packs, with their lengths.
    all: Vec<(PackId, u64)>,
}

impl SessionWriter {
    /// Announces the session in the store, *then* looks at what may be used, and starts the threads. The order
    /// is what keeps a garbage collection from condemning what this session relies on.
    ///
    /// # Errors
    /// [`RepoError::TooNew`] if this program must not write here; [`RepoError::UnknownCollection`] if it cannot tell what
    /// is about to be deleted.
    pub fn open(repo: &Repository, options: SessionOptions) -> Result<Self, RepoError> {
        repo.config
            .require_writable()
            .map_err(|source| RepoError::TooNew { location: repo.store.location(), source })?;
        // Before the mark, so that a refused session leaves nothing behind; after it, because that order counts.
        repo.collections()?;
        let started = boot_clock();
        let mut shared = Shared {
            id: SessionId::random(Timestamp::now())?,
            store: Arc::clone(&repo.store),
            keys: repo.keys.clone(),
            writer: repo.writer.clone(),
            index: Arc::clone(&repo.index),
            frames: Arc::clone(&repo.frames),
            options,
            started,
            gone: HashSet::new(),
            trusted: Mutex::default(),
            distant: Mutex::default(),
            deltas: Mutex::default(),
            lineages: Mutex::default(),
            trail: Trail::default(),
            fresh: Mutex::default(),
            failure: Mutex::default(),
        };
        let undecided = Undecided {
            id: shared.id,
            store: Arc::clone(&shared.store),
            keys: shared.keys.clone(),
            writer: shared.writer.clone(),
            is_decided: false,
        };
        shared.put_mark(0)?;
        shared.gone = repo.collections()?.gone_packs();
        #[cfg(test)]
        if Flaw::ReliesOnCondemned.is_back() {
            shared.gone.clear();
        }
        let shared = Arc::new(shared);
        repo.refresh()?;

        let encoder_count = shared.options.threads.max(1);
        let (job_sender, jobs) = crossbeam_channel::bounded(2 * encoder_count);
        let (frame_sender, frames) = crossbeam_channel::bounded(2 * encoder_count);
        let (pack_sender, packs) = crossbeam_channel::bounded(1);
        let mut threads = Vec::new();
        for _ in 0..encoder_count {
            let (shared, jobs, frame_sender) = (Arc::clone(&shared), jobs.clone(), frame_sender.clone());
            threads.push(spawn("encoder", move || encode::run(&shared, &jobs, &frame_sender))?);
        }
        // The queue of frames must close when the last encoder ends.
        drop((jobs, frame_sender));
        let spool = repo.spool.clone();
        let packer_shared = Arc::clone(&shared);
        let (returned, permits) = crossbeam_channel::bounded(FRAMES_UNDER_WAY * encoder_count);
        while returned.try_send(()).is_ok() {}
        let output = packer::Output { packs: pack_sender.clone(), permits: returned };
        threads.push(spawn("packer", move || packer::run(&packer_shared, &spool, &frames, &output))?);
        let uploader_shared = Arc::clone(&shared);
        let uploader = Some(spawn("uploader", move || upload::run(&uploader_shared, &packs))?);
        let frame_target_bytes = shared.options.frame_target_bytes;
        let state = Mutex::new(State {
            jobs: Some(job_sender),
            permits,
            data: Grouper::new(frame_target_bytes, Sharing::Any),
            inner: Grouper::new(frame_target_bytes, Sharing::Neighbours),
            metadata: Grouper::new(frame_target_bytes, Sharing::Any),
            frames: 0,
            data_frames: 0,
            stats: SessionStats::default(),
        });
        Ok(Self {
            ids: repo.keys.ids().clone(),
            shared,
            undecided,
            state,
            distrusted: Mutex::default(),
            usable: Mutex::default(),
            threads,
            packs: Mutex::new(Some(pack_sender)),
            uploader,
        })
    }

    /// Returns the id of the session and of its snapshot.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.shared.id
    }

    /// Tells whether a chunk is usable in the store or was written by this session.
    ///
    /// # Errors
    /// Fails if the index does.
    pub fn contains(&self, id: &ChunkId) -> Result<bool, RepoError> {
        if lock(&self.shared.fresh).contains(id) {
            return Ok(true);
        }
        if lock(&self.distrusted).contains(id) {
            return Ok(false);
        }
        let changes = self.shared.index.distrust_changes();
        if lock(&self.usable).contains(id, changes) {
            return Ok(true);
        }
        for home in self.shared.index.neighbours(id)? {
            if self.shared.is_trusted(home.frame.pack)? && bases::stands(&self.shared, &home)? {
                lock(&self.usable).add(home.chunks.iter().map(|chunk| chunk.id), changes);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes note that a chunk cannot be read from the store, so that it is stored again when it is added.
    pub fn distrust(&self, id: ChunkId) {
        lock(&self.distrusted).insert(id);
    }

    /// Adds a chunk unless it is there; returns its id.
    ///
    /// # Errors
    /// Fails if the index does, or with [`RepoError::SessionFailed`] after a failure of the session's threads, which
    /// [`Self::abandon`] returns.
    pub fn add(&self, kind: ChunkKind, plain: &[u8]) -> Result<ChunkId, RepoError> {
        self.add_and_group(kind, plain, |state, chunk| match kind {
            // The end of a file goes with what waits of its middle.
            ChunkKind::Data if !state.inner.is_empty() => {
                let [before, full] = state.inner.add(chunk, plain);
                [before, full, state.inner.finish()]
            }
            ChunkKind::Data => with_none(state.data.add(chunk, plain)),
            ChunkKind::Tree | ChunkKind::List => with_none(state.metadata.add(chunk, plain)),
        })
    }

    /// Adds a chunk of data, as [`Self::add`] does, of a file that goes on behind it.
    ///
    /// # Errors
    /// As for [`Self::add`].
    pub fn add_inner(&self, plain: &[u8]) -> Result<ChunkId, RepoError> {
        self.add_and_group(ChunkKind::Data, plain, |state, chunk| with_none(state.inner.add(chunk, plain)))
    }

    /// Adds a stored frame as it is, with what it stands on: whatever stands on it finds it in its new place. Nothing is
    /// looked up: its chunks are added even if they lie elsewhere.
    ///
    /// # Errors
    /// As [`FrameReader::read_frame`], with every chunk re-hashed, and as [`Self::add`].
    pub fn copy_frame(&self, record: &FrameRecord) -> Result<(), RepoError> {
        let encoded = self.shared.frames.encoded_frame(record)?;
        self.add_frame(record.entry.clone(), encoded)
    }

    fn add_and_group(
        &self,
        kind: ChunkKind,
        plain: &[u8],
        group: impl FnOnce(&mut State, FrameChunk) -> [Option<FrameJob>; 3],
    ) -> Result<ChunkId, RepoError> {
        let id = self.ids.chunk_id(kind, plain);
        let known = self.contains(&id)?;
        let mut state = lock(&self.state);
        state.stats.chunks += 1;
        // Another thread may have added the same chunk since it was looked up.
        if known || !lock(&self.shared.fresh).insert(id) {
            return Ok(id);
        }
        lock(&self.distrusted).remove(&id);
        state.stats.new_chunks += 1;
        state.stats.added_bytes += plain.len() as u64;
        let chunk = FrameChunk { kind, id, length: u32::try_from(plain.len()).unwrap_or(u32::MAX) };
        for job in group(&mut state, chunk).into_iter().flatten() {
            send(&self.shared, &mut state, job)?;
        }
        Ok(id)
    }

    /// Writes everything out, packs first, then the index objects that name them. What was added can be read through
    /// the repository from here on, and what is left to do is to commit it.
    ///
    /// # Errors
    /// Any failure of the session's threads.
    pub fn settle(mut self) -> Result<SettledSession, RepoError> {
        let (stats, uploaded) = self.flush()?;
        let Self { shared, undecided, .. } = self;
        let Uploaded { tree_packs, all, .. } = uploaded;
        Ok(SettledSession { shared, undecided, stats, tree_packs, packs: all })
    }

    /// Settles and commits at once; see [`Self::settle`] and [`SettledSession::commit`].
    ///
    /// # Errors
    /// As these two.
    pub fn commit(self, manifest: Manifest) -> Result<(Manifest, SessionStats), RepoError> {
        self.settle()?.commit(manifest)
    }

    /// Ends without a snapshot. What was written stays usable for the next session.
    ///
    /// # Errors
    /// Any failure of the session's threads.
    pub fn abandon(mut self) -> Result<SessionStats, RepoError> {
        self.flush().map(|(stats, _)| stats)
    }

    /// Sends the last frames, waits for all threads, and returns what they wrote; the first failure of any
    /// of them, if there was one.
    fn flush(&mut self) -> Result<(SessionStats, Uploaded), RepoError> {
        let mut stats = {
            let mut state = lock(&self.state);
            let last = [state.inner.finish(), state.data.finish(), state.metadata.finish()];
            for job in last.into_iter().flatten() {
                // A queue that is closed was closed by a failure, which is told below.
                let _ = send(&self.shared, &mut state, job);
            }
            state.jobs = None;
            state.stats
        };
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                self.shared.fail(RepoError::SessionFailed);
            }
        }
        lock(&self.packs).take();
        let uploaded = self.uploader.take().and_then(|uploader| uploader.join().ok()).flatten();
        #[cfg(test)]
        if Flaw::IgnoresFailures.is_back() {
            return Ok((stats, uploaded.unwrap_or_default()));
        }
        if let Some(error) = lock(&self.shared.failure).take() {
            return Err(error);
        }
        let uploaded = uploaded.ok_or(RepoError::SessionFailed)?;
        stats.packs = uploaded.packs;
        stats.stored_bytes = uploaded.stored_bytes;
        stats.deltas = *lock(&self.shared.deltas);
        Ok((stats, uploaded))
    }
}

/// A session that wrote everything but its snapshot. Dropped, it leaves what it wrote to the next session.
pub struct SettledSession {
    shared: Arc<Shared>,
    undecided: Undecided,
    stats: SessionStats,
    tree_packs: Vec<PackId>,
    packs: Vec<(PackId, u64)>,
}

impl SettledSession {
    /// Creates the snapshot: this is the commit. `manifest` gets this session's id, and its new and stored bytes and
    /// its tree packs beside those that it names already, as one does whose tree an older session wrote.
    ///
    /// # Errors
    /// [`RepoError::Fenced`] if a collection gave this session up; else any failure of the store.
    pub fn commit(mut self, mut manifest: Manifest) -> Result<(Manifest, SessionStats), RepoError> {
        let stats = self.stats;
        manifest.finished = Timestamp::now();
        manifest.totals.added_bytes = manifest.totals.added_bytes.saturating_add(stats.added_bytes);
        manifest.totals.stored_bytes = manifest.totals.stored_bytes.saturating_add(stats.stored_bytes);
        manifest.tree_packs.append(&mut self.tree_packs);
        self.commit_as_it_is(manifest)
    }

    /// Creates the snapshot; of `manifest`, only the id is replaced.
    fn commit_as_it_is(self, mut manifest: Manifest) -> Result<(Manifest, SessionStats), RepoError> {
        let Self { shared, mut undecided, stats, .. } = self;
        manifest.id = shared.id;
        shared.require_young()?;
        let object = SnapshotObject::Manifest(Box::new(manifest.clone()));
        let (bytes, object_key) = object
            .seal_keeping_key(shared.id, &shared.keys, &shared.writer)
            .map_err(|source| RepoError::Encode { object: format!("snapshot {}", shared.id), source })?;
        let key = ObjectKey::snapshot(shared.id);
        let create = || shared.store.create(&key, Payload::Bytes(&bytes));
        // The reply may have been lost after the commit. Creating once more tells whether something is there,
        // and makes it durable; what is there decides.
        let outcome = create().or_else(|_| create())?;
        undecided.is_decided = true;
        #[cfg(test)]
        if Flaw::CommitsOverTombstone.is_back() {
            return Ok((manifest, stats));
        }
        if outcome == Creation::AlreadyExists && shared.store.get(&key, None)? != bytes {
            return Err(shared.fenced("a garbage collection gave it up"));
        }
        let copy = NewObject { store_key: key.to_string(), object: CachedObject { bytes, key: object_key } };
        if shared.keys.ingest_writer().is_some()
            && let Err(error) = shared.index.cache_objects(&[copy])
        {
            // It is committed; this host alone will not list it, since it cannot read it back.
            tracing::warn!("snapshot {} is not noted in the local index: {error}", shared.id);
        }
        Ok((manifest, stats))
    }
}

fn with_none([first, second]: [Option<FrameJob>; 2]) -> [Option<FrameJob>; 3] {
    [first, second, None]
}

/// Hands a frame to the encoders, in order. That it cannot says little: [`SessionWriter::flush`] has the reason.
fn send(shared: &Shared, state: &mut State, mut job: FrameJob) -> Result<(), RepoError> {
    // A frame that is missing for ever, since its encoder failed, gives no permit back.
    while state.permits.recv_timeout(FAILURE_INTERVAL).is_err() {
        if lock(&shared.failure).is_some() {
            return Err(RepoError::SessionFailed);
        }
    }
    job.order = state.frames;
    state.frames += 1;
    if job.is_new_data() {
        job.step = Some(state.data_frames);
        state.data_frames += 1;
    }
    let sent = state.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
    if sent { Ok(()) } else { Err(RepoError::SessionFailed) }
}

fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, RepoError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(|source| no_thread(name, source))
}

fn no_thread(name: &str, source: std::io::Error) -> RepoError {
    RepoError::Local { operation: "start the thread", path: name.to_owned(), source }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
