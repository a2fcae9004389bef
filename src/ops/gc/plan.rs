//! Planning: which packs are worth deleting, and which are worth writing anew first. Reads only.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};

use super::live::LivePack;
use super::mark::Heard;
use super::settle::{OpenSession, list_sessions};
use super::{GcError, GcOptions};
use crate::format::collection::COLLECTION_MAX_PACKS;
use crate::format::header::ObjectKind;
use crate::id::{PackId, SnapshotId};
use crate::index::PackRow;
use crate::progress::Progress;
use crate::repo::{RepoError, Repository};
use crate::store::key::ObjectKey;

/// A pack with fewer bytes is small.
const SMALL_BYTES: u64 = 4 << 20;
/// So many small packs are joined, however little is in them.
const SMALL_MIN: usize = 64;
/// A pack is written anew once that gives back this part of it.
const PACK_DIVISOR: u64 = 2;
/// Beyond it, so many packs are written anew that the others hold at most this part of garbage.
const STORE_DIVISOR: u64 = 10;

/// What a collection would do.
#[derive(Debug, Clone, Default)]
pub struct GcPlan {
    /// Forgotten snapshots that go.
    pub snapshots: BTreeSet<SnapshotId>,
    /// Forgotten snapshots that stay for now: their grace period is not over, or they are being read.
    pub in_grace: u64,
    /// Packs of which nothing is needed.
    pub dead: Vec<PlannedPack>,
    /// Packs of which little is needed, or that are small: what is needed of them is written anew first.
    pub rewritten: Vec<PlannedPack>,
    /// Packs that stay, and their bytes.
    pub kept_packs: u64,
    /// Bytes of the packs that stay.
    pub kept_bytes: u64,
    /// What is needed of the packs that are to be written anew.
    pub(super) live: HashMap<PackRow, LivePack>,
}

/// A pack that is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedPack {
    /// The pack.
    pub id: PackId,
    /// Its row in the index; nothing where no index object names it.
    pub(super) row: Option<PackRow>,
    /// Its whole length.
    pub bytes: u64,
    /// Bytes of it that are given back: all, or what writing anew what is needed of it leaves out.
    pub dead_bytes: u64,
}

impl GcPlan {
    /// Looks at the whole store.
    ///
    /// # Errors
    /// As a collection itself: see [`GcError`].
    pub fn new(repo: &Repository, options: &GcOptions, progress: &dyn Progress) -> Result<Self, GcError> {
        let open = list_sessions(repo.store())?;
        let heard = Heard::listen(repo, options.grace)?;
        let (gone, dead) = (heard.collections.gone_packs(), heard.collections.dead_packs());
        // What is condemned and not decided may be needed after all, by who is waited for.
        let undecided = gone.difference(&dead).copied().collect();
        let live = heard.mark(repo, &dead, &undecided, progress)?;
        let named_by_open = packs_of(repo, &open)?;
        let in_grace = heard.in_grace();
        let mut plan = Self { snapshots: heard.dropped, in_grace, ..Self::default() };
        let mut small: [Vec<PlannedPack>; 2] = Default::default();
        let mut large = Vec::new();
        let mut named = HashSet::new();
        for (row, pack) in indexed_packs(repo)? {
            named.insert(pack.id);
            // What another collection names is its business; so are packs that nobody can read.
            let Some(bytes) = heard.packs.get(&pack.id).copied().filter(|_| !gone.contains(&pack.id)) else {
                continue;
            };
            let dead_bytes = live.get(&row).map_or(Ok(bytes), |live| dead_bytes(repo, row, live))?;
            let planned = PlannedPack { id: pack.id, row: Some(row), bytes, dead_bytes };
            if named_by_open.contains(&pack.id) {
                plan.keep(&planned);
            } else if !live.contains_key(&row) {
                plan.dead.push(planned);
            } else if dead_bytes >= bytes / PACK_DIVISOR {
                plan.rewritten.push(planned);
            } else if bytes < SMALL_BYTES {
                small[usize::from(pack.kind == ObjectKind::TreePack)].push(planned);
            } else {
                large.push(planned);
            }
        }
        for packs in small {
            large.append(&mut plan.join_small(packs));
        }
        plan.keep_cleanest(large);
        // What no index object names may be on its way into one, as long as anybody writes.
        if open.is_empty() {
            let unnamed = heard.packs.iter().filter(|(id, _)| !named.contains(id) && !gone.contains(id));
            plan.dead.extend(unnamed.map(|(id, bytes)| PlannedPack {
                id: *id,
                row: None,
                bytes: *bytes,
                dead_bytes: *bytes,
            }));
        }
        plan.dead.truncate(COLLECTION_MAX_PACKS / 2);
        plan.rewritten.truncate(COLLECTION_MAX_PACKS / 2);
        let rewritten: HashSet<_> = plan.rewritten.iter().filter_map(|pack| pack.row).collect();
        plan.live = live.into_iter().filter(|(row, _)| rewritten.contains(row)).collect();
        Ok(plan)
    }

    /// Tells whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.snapshots.is_empty() && self.dead.is_empty() && self.rewritten.is_empty()
    }

    fn keep(&mut self, pack: &PlannedPack) {
        self.kept_packs += 1;
        self.kept_bytes += pack.bytes;
    }

    /// Joins small packs of one kind if what comes out is not small, or if there are many; else returns them.
    fn join_small(&mut self, packs: Vec<PlannedPack>) -> Vec<PlannedPack> {
        let live_bytes: u64 = packs.iter().map(|pack| pack.bytes.saturating_sub(pack.dead_bytes)).sum();
        if packs.len() > 1 && (live_bytes >= SMALL_BYTES || packs.len() >= SMALL_MIN) {
            self.rewritten.extend(packs);
            return Vec::new();
        }
        packs
    }

    /// Keeps packs, but for those that hold most garbage where it would be too much in all.
    fn keep_cleanest(&mut self, mut packs: Vec<PlannedPack>) {
        let mut dead_bytes: u64 = packs.iter().map(|pack| pack.dead_bytes).sum();
        let mut bytes: u64 = packs.iter().map(|pack| pack.bytes).sum();
        packs.sort_by_key(|pack| Reverse(pack.dead_bytes.saturating_mul(1000) / pack.bytes.max(1)));
        for pack in packs {
            if dead_bytes > bytes / STORE_DIVISOR && pack.dead_bytes > 0 {
                dead_bytes -= pack.dead_bytes;
                bytes -= pack.bytes;
                self.rewritten.push(pack);
            } else {
                self.keep(&pack);
            }
        }
    }
}

/// Returns the packs that index objects of these sessions name.
fn packs_of(repo: &Repository, sessions: &[OpenSession]) -> Result<HashSet<PackId>, RepoError> {
    let sessions: HashSet<_> = sessions.iter().map(|session| session.id).collect();
    let is_theirs = |key: &str| {
        let session = ObjectKey::parse(key).and_then(|key| key.as_index()).map(|(session, _)| session);
        session.is_some_and(|session| sessions.contains(&session))
    };
    let objects = repo.index().listed_objects()?.into_iter();
    Ok(objects.filter(|object| is_theirs(&object.key)).flat_map(|object| object.packs).collect())
}

/// A pack that an index object names.
struct IndexedPack {
    id: PackId,
    kind: ObjectKind,
}

fn indexed_packs(repo: &Repository) -> Result<Vec<(PackRow, IndexedPack)>, RepoError> {
    let mut packs = Vec::new();
    repo.index().packs(&mut |row, pack| packs.push((row, IndexedPack { id: pack.id, kind: pack.kind })))?;
    Ok(packs)
}

/// Returns what writing a pack anew would give back.
fn dead_bytes(repo: &Repository, row: PackRow, live: &LivePack) -> Result<u64, RepoError> {
    let frames = repo.index().frames_of(row)?;
    Ok(frames.iter().map(|frame| live.dead_bytes(frame.number, &frame.entry)).sum())
}
