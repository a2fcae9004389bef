//! Garbage collection: gives back the space of what no snapshot needs, while others write.
//!
//! The protocol is that of `docs/format.md` §12, and its steps have the names that they have in the model, which
//! `src/model/collector.rs` holds: condemn, list sessions, settle, mark, decide, list index, replace, supersede, delete
//! packs, end, expire. Any number of collectors may run at once, and each may die or sleep at any step: who comes next goes
//! on with what the objects under `gc/` say.
//!
//! [`plan`] decides what is worth doing, `mark` and `live` find what is needed, `repack` moves what is left of packs that
//! are mostly dead, `settle` waits for writers, `replace` sees to index objects, and `expire` to what is too old.

mod expire;
pub(in crate::ops) mod live;
mod mark;
pub mod plan;
mod repack;
pub(in crate::ops) mod replace;
mod settle;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::format::collection::{Collection, Stage};
use crate::id::{PackId, SnapshotId};
use crate::process::boot_clock;
use crate::progress::Progress;
#[cfg(test)]
use crate::repo::flaw::Flaw;
use crate::repo::{RepoError, Repository, parallel};
use crate::store::key::{ObjectKey, Prefix};
use crate::store::{Creation, ObjectInfo, StoreErrorKind, probe};
use mark::Heard;
use plan::GcPlan;
use settle::{list_sessions, settle};

pub use settle::WaitedFor;

/// The grace period, unless another one is asked for: so long what was forgotten can be brought back.
pub const GRACE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// A collection is begun anew so often, in all, if other collectors are faster.
const ATTEMPTS_MAX: usize = 5;
/// A collector that is older than this decides nothing and deletes no pack: what it heard may be forgotten by then.
const DECISION_DEADLINE: Duration = Duration::from_hours(7 * 24);

/// How garbage is collected.
#[derive(Debug, Clone)]
pub struct GcOptions {
    /// A snapshot goes once it has been forgotten for so long, by the clock of who forgot it.
    pub grace: SignedDuration,
    /// How long sessions are waited for that may not have seen what was condemned.
    pub wait: Duration,
    /// Whether other hosts may write.
    pub writers: OtherWriters,
    /// Threads that write packs anew, at least 1.
    pub threads: usize,
}

/// Who may write while garbage is collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherWriters {
    /// Anybody; the store decides races, and is asked first whether it can.
    Any,
    /// Nobody but this host, says the operator.
    None,
}

/// What a collection did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcStats {
    /// Packs that were deleted.
    pub deleted_packs: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// Packs whose needed frames were written anew.
    pub rewritten_packs: u64,
    /// Bytes of the packs that these were written to.
    pub written_bytes: u64,
    /// Forgotten snapshots that are gone now.
    pub dropped_snapshots: u64,
    /// Forgotten snapshots that stay for now: their grace period is not over, or they are being read.
    pub in_grace: u64,
    /// Index objects that were replaced.
    pub replaced_objects: u64,
    /// Sessions that have to end before more can be deleted. The next collection goes on.
    pub waiting_for: Vec<WaitedFor>,
}

/// Why garbage was not collected. Nothing that is needed was deleted.
#[derive(Debug, thiserror::Error)]
pub enum GcError {
    /// The store does not keep the clause that all rests on.
    #[error("{0} lets several writers create the same object, so that nobody can tell who committed")]
    Unconditional(String),
    /// The store lists something else than what is there.
    #[error("{0} does not list what was just created there, so that nobody can tell what is needed")]
    StaleListing(String),
    /// A snapshot needs what is nowhere, or what cannot be read.
    #[error("snapshot {snapshot} is not whole, and nothing is deleted while anything is missing")]
    NotWhole {
        /// The first digits of its id.
        snapshot: String,
        /// What is missing.
        source: RepoError,
    },
    /// The collector slept for days.
    #[error("this collection is older than seven days, and decides and deletes nothing more")]
    TooOld,
    /// No number is left for another collection.
    #[error("gc/ holds an object with the highest number that there is")]
    NoNumber,
    /// The store or the index failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

/// Fails if a collector has slept for so long that what it knows may be forgotten.
fn require_young(started: Duration) -> Result<(), GcError> {
    let is_young = boot_clock().saturating_sub(started) <= DECISION_DEADLINE;
    if is_young { Ok(()) } else { Err(GcError::TooOld) }
}

/// Collects garbage: ends what other collectors left, then does what `plan` of a fresh look at the store says.
///
/// # Errors
/// See [`GcError`]. Whatever it is, the next collection goes on where this one ended.
pub fn collect(repo: &Repository, options: &GcOptions, progress: &dyn Progress) -> Result<GcStats, GcError> {
    let location = || repo.store().location();
    repo.config()
        .require_collectable()
        .map_err(|source| RepoError::TooNew { location: location(), source })?;
    if options.writers == OtherWriters::Any
        && !probe::conditional_create(repo.store()).map_err(RepoError::from)?
    {
        return Err(GcError::Unconditional(location()));
    }
    if !probe::current_listing(repo.store()).map_err(RepoError::from)? {
        return Err(GcError::StaleListing(location()));
    }
    let started = boot_clock();
    let mut collector = Collector { repo, options, progress, started, stats: GcStats::default() };
    let mut attempts = 1;
    loop {
        let before = collector.stages()?;
        match collector.collect() {
            Err(error) if attempts < ATTEMPTS_MAX && collector.was_overtaken(&error, &before)? => {
                tracing::debug!("another collector was faster, and this one begins anew: {error}");
                attempts += 1;
            }
            ended => return ended.map(|()| collector.stats),
        }
    }
}

/// How far a collection came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finished {
    /// To its end.
    Ended,
    /// Some sessions have to end first.
    Waits,
}

/// Whose collection comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condemned {
    /// There is none.
    Nothing,
    /// This collector's own.
    ByThis(u32),
    /// That of another collector, which was first.
    ByAnother(u32),
}

struct Collector<'a> {
    repo: &'a Repository,
    options: &'a GcOptions,
    progress: &'a dyn Progress,
    started: Duration,
    stats: GcStats,
}

impl Collector<'_> {
    fn collect(&mut self) -> Result<(), GcError> {
        loop {
            let collections = self.repo.collections()?;
            let condemned = if let Some(number) = collections.unfinished() {
                Condemned::ByAnother(number)
            } else {
                let plan = GcPlan::new(self.repo, self.options, self.progress)?;
                self.stats.in_grace = plan.in_grace;
                self.condemn(&plan, collections.next_number())?
            };
            let number = match condemned {
                Condemned::Nothing => break,
                Condemned::ByThis(number) | Condemned::ByAnother(number) => number,
            };
            if self.finish(number)? == Finished::Waits {
                return Ok(());
            }
            if let Condemned::ByThis(_) = condemned {
                break;
            }
        }
        self.tidy()
    }

    /// Lists what lies under `gc/`: every step of a collection shows there.
    fn stages(&self) -> Result<BTreeSet<ObjectKey>, GcError> {
        let mut keys = BTreeSet::new();
        let mut visit = |object: ObjectInfo| {
            keys.insert(object.key);
        };
        self.repo.store().list(Prefix::Gc, &mut visit).map_err(RepoError::from)?;
        Ok(keys)
    }

    /// Tells whether what failed was done meanwhile by another collector, which has moved what this one was about to
    /// read. While nobody else collects, what is missing is missing.
    fn was_overtaken(&self, error: &GcError, before: &BTreeSet<ObjectKey>) -> Result<bool, GcError> {
        let may_have_been = match error {
            GcError::Repo(RepoError::StaleIndex) => return Ok(true),
            GcError::NotWhole { .. } => true,
            GcError::Repo(RepoError::Store(error)) => error.kind() == StoreErrorKind::NotFound,
            _ => false,
        };
        Ok(may_have_been && self.stages()? != *before)
    }

    /// Writes anew what is needed of packs that are to go, and condemns these and all that are dead, by the collection of
    /// this number.
    ///
    /// The number comes from a listing in which every collection was done. So there is never more than one that is not: of
    /// two, each would take for gone what the other one names.
    fn condemn(&mut self, plan: &GcPlan, number: Option<u32>) -> Result<Condemned, GcError> {
        if plan.is_empty() {
            return Ok(Condemned::Nothing);
        }
        let mut packs: BTreeSet<PackId> = plan.dead.iter().map(|pack| pack.id).collect();
        if !plan.rewritten.is_empty() {
            let (rewritten, stats) = repack::rewrite(self.repo, plan, self.options.threads, self.progress)?;
            self.stats.rewritten_packs = rewritten.len() as u64;
            self.stats.written_bytes = stats.stored_bytes;
            packs.extend(rewritten);
        }
        if packs.is_empty() && plan.snapshots.is_empty() {
            return Ok(Condemned::Nothing);
        }
        let number = number.ok_or(GcError::NoNumber)?;
        // One that was begun since may be done by now, and its number be free again: nobody looks at what is condemned by it.
        let is_last = self.repo.collections()?.next_number() == Some(number);
        let condemned = packs.into_iter().collect();
        if is_last && self.put(number, Stage::Condemned, condemned, Vec::new())? == Creation::Created {
            return Ok(Condemned::ByThis(number));
        }
        Ok(Condemned::ByAnother(number))
    }

    /// Creates an object of a collection, unless another collector was faster: then its own counts.
    fn put(
        &self,
        number: u32,
        stage: Stage,
        packs: Vec<PackId>,
        snapshots: Vec<SnapshotId>,
    ) -> Result<Creation, GcError> {
        let store = self.repo.config().store;
        let time = Timestamp::now();
        let collection = Collection { store, number, stage, time, packs, snapshots };
        Ok(self.repo.put_collection(&collection)?)
    }

    /// Brings a collection to its end, whoever began it.
    fn finish(&mut self, number: u32) -> Result<Finished, GcError> {
        let Some(condemned) = self.condemned_by(number)? else { return Ok(Finished::Ended) };
        if self.decided_by(number)?.is_none() {
            let open = list_sessions(self.repo.store())?;
            self.stats.waiting_for = settle(self.repo, open, self.options, self.progress)?;
            if !self.stats.waiting_for.is_empty() {
                return Ok(Finished::Waits);
            }
            self.decide(number, condemned)?;
        }
        let Some(decided) = self.decided_by(number)? else { return Ok(Finished::Ended) };
        self.replace()?;
        self.delete_packs(&decided)?;
        self.end(number)?;
        Ok(Finished::Ended)
    }

    /// Marks what is needed, and says what may go: the rest of what was condemned.
    fn decide(&self, number: u32, condemned: Vec<PackId>) -> Result<(), GcError> {
        let heard = Heard::listen(self.repo, self.options.grace)?;
        let gone = heard.collections.gone_by_others(number);
        let leaving: HashSet<PackId> = condemned.iter().copied().collect();
        let live = heard.mark(self.repo, &gone, &leaving, self.progress)?;
        let mut needed = HashSet::new();
        for row in live.keys() {
            needed.extend(self.repo.index().pack(*row).map_err(RepoError::from)?.map(|pack| pack.id));
        }
        #[cfg(test)]
        if Flaw::MarksOnce.is_back() {
            needed.clear();
        }
        let packs = condemned.into_iter().filter(|id| !needed.contains(id) && !gone.contains(id)).collect();
        require_young(self.started)?;
        self.put(number, Stage::Final, packs, heard.dropped.into_iter().collect())?;
        Ok(())
    }

    /// Replaces the index objects that name what is dead.
    fn replace(&mut self) -> Result<(), GcError> {
        self.repo.refresh_strictly()?;
        let dead = self.repo.collections()?.dead_packs();
        self.stats.replaced_objects += replace::replace(self.repo, &dead, replace::CHUNKS_PER_OBJECT)?;
        Ok(())
    }

    fn delete_packs(&mut self, decided: &Collection) -> Result<(), GcError> {
        let store = self.repo.store();
        let started = self.started;
        let delete = |id: &PackId| {
            // A pack may come back under its name, by a copy, once nothing under gc/ names it any more: no sooner than in
            // thirty days, and who slept for so long must not take it for the one that was to go.
            require_young(started)?;
            let key = ObjectKey::pack(id);
            let bytes = match store.size(&key) {
                Ok(bytes) => bytes,
                // Another collector was here, and has counted it.
                Err(error) if error.kind() == StoreErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(GcError::from(RepoError::from(error))),
            };
            store.delete(&key).map_err(RepoError::from)?;
            Ok(Some(bytes))
        };
        let packs = decided.packs.iter().map(|id| (id, 0));
        let stats = &mut self.stats;
        parallel::in_order(store.requests_at_once(), u64::MAX, packs, delete, |deleted| {
            stats.deleted_packs += u64::from(deleted.is_some());
            stats.deleted_bytes += deleted.unwrap_or(0);
            Ok(())
        })
    }

    fn end(&self, number: u32) -> Result<(), GcError> {
        self.repo.store().delete(&ObjectKey::gc(number, Stage::Condemned)).map_err(RepoError::from)?;
        #[cfg(test)]
        if Flaw::DropsFinal.is_back() {
            self.repo.store().delete(&ObjectKey::gc(number, Stage::Final)).map_err(RepoError::from)?;
        }
        Ok(())
    }

    /// Sees to what late sessions left, and to what is too old.
    fn tidy(&mut self) -> Result<(), GcError> {
        self.replace()?;
        self.stats.dropped_snapshots += expire::expire(self.repo)?;
        Ok(())
    }

    fn condemned_by(&self, number: u32) -> Result<Option<Vec<PackId>>, GcError> {
        Ok(self.repo.collections()?.condemned(number).map(|collection| collection.packs.clone()))
    }

    fn decided_by(&self, number: u32) -> Result<Option<Collection>, GcError> {
        Ok(self.repo.collections()?.decided(number).cloned())
    }
}
