//! Copies of snapshots in a second store, so that the loss of one store is not the loss of the backups.
//!
//! Each copy is an ordinary session of the store that is copied to: it opens its mark, looks at what it may rely on,
//! brings what is missing, and commits, so that nothing else about a store changes and a collector treats it as it
//! treats every other session. A copy has an id of its own, and its manifest names its origin: so copying again, on, or
//! back makes nothing twice. What a copy that was interrupted has brought is named by index objects, and the next one
//! finds it.
//!
//! Within a domain, packs are copied as they are ([`packs`]); into another one, everything is read, cut and sealed anew
//! ([`reseal`]).

pub(in crate::ops) mod packs;
mod reseal;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use jiff::Zoned;

use super::forget::ForgetPlan;
use super::forget::policy::Policy;
use crate::format::FormatError;
use crate::format::config::Encryption;
use crate::format::snapshot::{Manifest, MarkState};
use crate::id::{PackId, SnapshotId};
use crate::progress::{Event, Progress, error_chain};
use crate::repo::readers::Hold;
use crate::repo::session::{SessionOptions, SessionWriter};
use crate::repo::snapshots::Snapshot;
use crate::repo::{RepoError, Repository, whole};
use crate::store::StoreErrorKind;
use crate::store::key::ObjectKey;
use packs::PackCopier;
use reseal::Resealer;

/// How snapshots are copied.
#[derive(Debug, Clone, Copy)]
pub struct CopyOptions {
    /// Level of zstd, for what is written anew.
    pub level: i32,
    /// Threads that compress, at least 1.
    pub threads: usize,
    /// Whether what was copied is read once more.
    pub read_back: ReadBack,
}

/// Whether packs are read back before the snapshot that needs them is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadBack {
    /// The store must show each with its length.
    Lengths,
    /// Every byte is read, and must have the hash that the pack's name is.
    Bytes,
}

/// What a copy would do.
#[derive(Debug, Clone, Default)]
pub struct CopyPlan {
    /// Snapshots to copy, oldest first.
    pub missing: Vec<Snapshot>,
    /// Those that the other store has, as themselves or as copies, forgotten there or not.
    pub present: Vec<Snapshot>,
    /// Those that the other store lacks and would not keep.
    pub unkept: Vec<Snapshot>,
}

impl CopyPlan {
    /// Looks which of `snapshots` a store lacks; all of them where there is no store yet.
    ///
    /// # Errors
    /// Fails if its snapshots cannot be listed.
    pub fn new(destination: Option<&Repository>, mut snapshots: Vec<Snapshot>) -> Result<Self, CopyError> {
        let known = match destination {
            Some(destination) => identities(destination).map_err(CopyError::Destination)?,
            None => BTreeSet::new(),
        };
        snapshots.sort_by_key(|snapshot| (snapshot.manifest.time, snapshot.manifest.id));
        let is_known = |snapshot: &Snapshot| {
            known.contains(&snapshot.manifest.id) || known.contains(&snapshot.manifest.identity())
        };
        let (present, missing) = snapshots.into_iter().partition(is_known);
        Ok(Self { missing, present, unkept: Vec::new() })
    }

    /// Leaves out what the other store would forget again, which a collection there would make room for again and
    /// again.
    ///
    /// `policy` says what is kept of the series of a snapshot; all is where it says nothing. What is there counts.
    ///
    /// # Errors
    /// Fails if the snapshots there cannot be listed, or a policy leads out of the calendar.
    pub fn leave_out_unkept<'p>(
        &mut self,
        destination: Option<&Repository>,
        policy: impl Fn(&Manifest) -> Option<&'p Policy>,
        now: &Zoned,
    ) -> Result<(), CopyError> {
        let there =
            destination.map_or(Ok(Vec::new()), Repository::snapshots).map_err(CopyError::Destination)?;
        let all = there.into_iter().chain(self.missing.iter().cloned()).collect();
        let plan = ForgetPlan::by_policies(all, policy, now).map_err(CopyError::Calendar)?;
        let unkept: BTreeSet<_> = plan.forgotten().map(|snapshot| snapshot.manifest.id).collect();
        let missing = std::mem::take(&mut self.missing).into_iter();
        (self.unkept, self.missing) = missing.partition(|snapshot| unkept.contains(&snapshot.manifest.id));
        Ok(())
    }
}

/// Returns the ids of all snapshots of a store, forgotten ones included, and of their origins.
fn identities(repo: &Repository) -> Result<BTreeSet<SnapshotId>, RepoError> {
    let mut snapshots = repo.snapshots()?;
    snapshots.append(&mut repo.forgotten_snapshots()?);
    Ok(snapshots.iter().flat_map(|snapshot| [snapshot.manifest.id, snapshot.manifest.identity()]).collect())
}

/// What a copy did.
#[derive(Debug, Clone, Default)]
pub struct CopyStats {
    /// Each snapshot that was copied: its id where it came from, and the copy.
    pub copied: Vec<(SnapshotId, Manifest)>,
    /// Snapshots that were not copied since something they need is damaged, and what.
    pub damaged: Vec<(Manifest, String)>,
    /// Snapshots that somebody else copied meanwhile.
    pub overtaken: u64,
    /// Packs that were copied as they are.
    pub whole_packs: u64,
    /// Frames that were copied into new packs.
    pub frames: u64,
    /// Plain bytes that were sealed anew, between domains.
    pub resealed_bytes: u64,
    /// Packs that were written, copied or new.
    pub written_packs: u64,
    /// Their bytes.
    pub written_bytes: u64,
    /// Packs that were read back.
    pub read_back: u64,
}

/// Why snapshots could not be copied. Those that were committed before stay.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The store that is copied from cannot be read.
    #[error("cannot read from the store that is copied from")]
    Source(#[source] RepoError),
    /// The store that is copied to cannot be read or written.
    #[error("cannot copy to the other store")]
    Destination(#[source] RepoError),
    /// A pack does not come back as it was written.
    #[error("pack {pack} was copied to {location}, and is not there as it was written")]
    ReadBack {
        /// The pack.
        pack: PackId,
        /// The store.
        location: String,
    },
    /// What is sealed would lie open.
    #[error("the store at {0} is not encrypted, and the one that is copied from is")]
    Plain(String),
    /// What a policy asks for is before all days that there are.
    #[error("a policy leads out of the calendar")]
    Calendar(#[source] jiff::Error),
    /// Both are one store.
    #[error("{0} and {1} are the same store")]
    SameStore(String, String),
    /// It was copied, and its marks were not.
    #[error("snapshot {0} was copied, but what its marks say was not")]
    NotMarked(String, #[source] RepoError),
}

impl From<FormatError> for CopyError {
    fn from(source: FormatError) -> Self {
        Self::Destination(RepoError::Encode { object: "a tree".to_owned(), source })
    }
}

/// Refuses what would not be a copy, or not a safe one.
///
/// # Errors
/// [`CopyError::SameStore`], [`CopyError::Plain`].
pub fn check(source: &Repository, destination: &Repository) -> Result<(), CopyError> {
    if source.config().store == destination.config().store {
        return Err(CopyError::SameStore(source.store().location(), destination.store().location()));
    }
    let encryptions = (source.config().encryption, destination.config().encryption);
    if encryptions == (Encryption::Sealed, Encryption::None) {
        return Err(CopyError::Plain(destination.store().location()));
    }
    Ok(())
}

/// Copies the snapshots that a plan names, oldest first. Each is committed by itself; one that needs what is damaged is
/// left out, and told.
///
/// # Errors
/// See [`CopyError`]; damage in the store that is copied from is in the result.
pub fn copy(
    source: &Repository,
    destination: &Repository,
    plan: &CopyPlan,
    options: &CopyOptions,
    progress: &dyn Progress,
) -> Result<CopyStats, CopyError> {
    check(source, destination)?;
    let mut filler = match source.config().domain == destination.config().domain {
        true => Filler::Packs(Box::new(PackCopier::new(source, destination)?)),
        false => Filler::Content(Resealer::new(source, destination)),
    };
    let mut stats = CopyStats::default();
    for snapshot in &plan.missing {
        let id = snapshot.manifest.id;
        // A collector on this host shall not take it meanwhile.
        source.readers().hold(id, Hold::WhileAlive).map_err(CopyError::Source)?;
        progress.event(Event::Working(snapshot.display_name().as_bytes()));
        let mut may_move = true;
        let copied = loop {
            let damaged = source.index().distrusted().len();
            match copy_one(destination, &mut filler, snapshot, options, &mut stats, progress) {
                // A collector may have moved it since it was looked up; what is missing then is missing.
                Err(CopyError::Source(error)) if may_move && may_have_moved(&error) => may_move = false,
                // One more pack is known to be damaged, and what it holds may lie elsewhere as well.
                Err(CopyError::Source(error))
                    if error.is_damage() && source.index().distrusted().len() > damaged => {}
                ended => break ended,
            }
        };
        match copied {
            Ok(()) => {}
            Err(CopyError::Source(error)) if error.is_damage() => {
                let why = error_chain(&source.explain(id, error));
                progress.event(Event::Warning(&format!("snapshot {} was not copied: {why}", id.short())));
                stats.damaged.push((snapshot.manifest.clone(), why));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(stats)
}

/// Tells whether an error may only mean that packs were moved while they were looked for.
fn may_have_moved(error: &RepoError) -> bool {
    match error {
        RepoError::StaleIndex | RepoError::MissingChunk(_) | RepoError::MissingBase(_) => true,
        RepoError::Store(error) => error.kind() == StoreErrorKind::NotFound,
        _ => false,
    }
}

/// What brings a snapshot into a session.
enum Filler<'a> {
    Packs(Box<PackCopier<'a>>),
    Content(Resealer<'a>),
}

fn copy_one(
    destination: &Repository,
    filler: &mut Filler<'_>,
    snapshot: &Snapshot,
    options: &CopyOptions,
    stats: &mut CopyStats,
    progress: &dyn Progress,
) -> Result<(), CopyError> {
    let manifest = &snapshot.manifest;
    let session_options = SessionOptions {
        level: options.level,
        threads: options.threads,
        ..SessionOptions::new(&manifest.source)
    };
    if let Filler::Packs(packs) = filler {
        packs.find(manifest)?;
    }
    let session = SessionWriter::open(destination, session_options).map_err(CopyError::Destination)?;
    let filled = match filler {
        Filler::Packs(packs) => packs.fill(&session, stats, progress).map(|()| manifest.clone()),
        Filler::Content(resealer) => resealer.fill(&session, manifest, stats, progress),
    };
    let manifest = match filled {
        Ok(manifest) => manifest,
        // Of a failure of the session itself, its threads know more.
        Err(error) => match session.abandon() {
            Err(cause) if matches!(error, CopyError::Destination(RepoError::SessionFailed)) => {
                return Err(CopyError::Destination(cause));
            }
            _ => return Err(error),
        },
    };
    let settled = session.settle().map_err(CopyError::Destination)?;
    for (pack, bytes) in settled.packs() {
        check_written(destination, pack, *bytes, options.read_back, stats)?;
    }
    if let Filler::Packs(packs) = filler {
        packs.wrote(settled.packs())?;
    }
    if identities(destination).map_err(CopyError::Destination)?.contains(&manifest.identity()) {
        stats.overtaken += 1;
        return Ok(());
    }
    let said =
        [(snapshot.marks.protected, MarkState::Protected), (snapshot.marks.accepted, MarkState::Accepted)];
    let say = |id| {
        let mut said = said.into_iter().filter(|(is_said, _)| *is_said);
        said.try_for_each(|(_, state)| destination.mark(id, state).map(drop))
    };
    // Before the commit, so that no death in between leaves a copy that is not protected; and after it, since a
    // collector deletes marks that belong to no snapshot.
    say(settled.id()).map_err(CopyError::Destination)?;
    let (copy, _) = settled.commit_copy(manifest).map_err(CopyError::Destination)?;
    let id = copy.id;
    stats.copied.push((snapshot.manifest.id, copy));
    say(id).map_err(|error| CopyError::NotMarked(id.short(), error))
}

/// Asks the store for a pack that was just written: nothing is committed on the word of a request alone.
fn check_written(
    destination: &Repository,
    pack: &PackId,
    bytes: u64,
    read_back: ReadBack,
    stats: &mut CopyStats,
) -> Result<(), CopyError> {
    let store = destination.store();
    let key = ObjectKey::pack(pack);
    stats.written_packs += 1;
    stats.written_bytes += bytes;
    let mut is_there = store.size(&key).map_err(|error| CopyError::Destination(error.into()))? == bytes;
    if is_there && read_back == ReadBack::Bytes {
        is_there = whole::is_whole(store, pack).map_err(CopyError::Destination)?;
        stats.read_back += 1;
    }
    if is_there {
        return Ok(());
    }
    destination.index().distrust(&[*pack]).map_err(|error| CopyError::Destination(error.into()))?;
    Err(CopyError::ReadBack { pack: *pack, location: store.location() })
}
