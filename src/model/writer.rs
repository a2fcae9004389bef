//! Sessions that write.

use super::World;
use super::flaw::Flaw;
use super::set::Set;
use super::store::{Content, Decision, Pack, Session};

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Plan {
    /// Commits a snapshot of these chunks. Those that are new become differences to others, if these are usable.
    Backup { chunks: Set, bases: Set },
    /// Commits the chunks of a forgotten snapshot anew, if all of them are usable.
    Undo { chunks: Set },
    /// Stores chunks once more, so that the packs where they lie can go; commits nothing.
    Repack { chunks: Set },
}

impl Plan {
    fn chunks(self) -> Set {
        match self {
            Self::Backup { chunks, .. } | Self::Undo { chunks } | Self::Repack { chunks } => chunks,
        }
    }
}

/// Chunks from here on are metadata, which goes to a pack of its own.
pub(super) const METADATA: u8 = 8;
/// What its number has more than that of the session's other pack.
const METADATA_PACK: Pack = 8;

/// What a session does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum WriterStep {
    /// Puts its open mark.
    Open,
    /// Lists `gc/`.
    ListGc,
    /// Lists `index/`, knowing what is gone.
    ListIndex { gone: Set },
    /// Puts packs with what is new, knowing what is usable.
    PutPacks { usable: Set },
    /// Puts the index object that names them.
    PutIndex { packs: Set },
    /// Creates its snapshot, unless there is something.
    Commit,
    /// Reads back what became of a commit whose answer was lost.
    ReadBack,
    /// Nothing: the snapshot is acknowledged.
    Done,
    /// Nothing: it was refused, or it died.
    Failed,
}

/// A session that writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Writer {
    pub(super) plan: Plan,
    pub(super) session: Session,
    /// The first pack that it puts, if it has to.
    pub(super) pack: Pack,
    pub(super) step: WriterStep,
}

impl Writer {
    pub(super) fn wants_snapshot(&self) -> bool {
        !matches!(self.plan, Plan::Repack { .. })
    }

    pub(super) fn has_begun(&self) -> bool {
        self.step != WriterStep::Open
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.step, WriterStep::Done | WriterStep::Failed)
    }
}

/// Takes the next step of a writer.
pub(super) fn advance(world: &mut World, number: usize, flaw: Option<Flaw>) {
    let Some(mut writer) = world.writers.get(number).copied() else { return };
    writer.step = match writer.step {
        WriterStep::Open if flaw == Some(Flaw::OpensAfterListing) => {
            WriterStep::ListIndex { gone: gone(world, flaw) }
        }
        WriterStep::Open => {
            world.store.sessions = world.store.sessions.with(writer.session);
            WriterStep::ListGc
        }
        WriterStep::ListGc => WriterStep::ListIndex { gone: gone(world, flaw) },
        WriterStep::ListIndex { gone } => {
            world.store.sessions = world.store.sessions.with(writer.session);
            WriterStep::PutPacks { usable: world.store.named().without(gone) }
        }
        WriterStep::PutPacks { usable } => put_packs(world, &writer, usable, flaw),
        WriterStep::PutIndex { packs } => {
            world.store.index.insert(writer.session, packs);
            WriterStep::Commit
        }
        WriterStep::Commit => commit(world, &writer, flaw),
        WriterStep::ReadBack => match world.store.snapshots.get(&writer.session) {
            None => WriterStep::Commit,
            Some(Decision::Commit(_)) => WriterStep::Done,
            Some(Decision::Tombstone) => refused(&writer, flaw),
        },
        ended @ (WriterStep::Done | WriterStep::Failed) => ended,
    };
    world.writers[number] = writer;
}

/// Packs that a listing of `gc/` rules out.
fn gone(world: &World, flaw: Option<Flaw>) -> Set {
    let collections = world.store.gc.values().filter(|collection| match collection.verdict {
        Some(_) => flaw != Some(Flaw::ReliesOnDead),
        None => flaw != Some(Flaw::ReliesOnCondemned),
    });
    collections.fold(Set::EMPTY, |all, collection| all.or(collection.gone()))
}

fn put_packs(world: &mut World, writer: &Writer, usable: Set, flaw: Option<Flaw>) -> WriterStep {
    let wanted = writer.plan.chunks();
    let known = world.contents.readable(usable, wanted);
    let content = match writer.plan {
        Plan::Undo { .. } if known != wanted && flaw != Some(Flaw::UndoesUnchecked) => {
            return WriterStep::Failed;
        }
        Plan::Repack { .. } if known != wanted => return WriterStep::Failed,
        Plan::Undo { .. } => return WriterStep::Commit,
        Plan::Repack { chunks } => Content { chunks, bases: Set::EMPTY },
        Plan::Backup { .. } if known == wanted => return WriterStep::Commit,
        Plan::Backup { bases, .. } => {
            let chunks = wanted.without(known);
            let may_stand =
                flaw == Some(Flaw::StandsOnUnusable) || world.contents.readable(usable, bases) == bases;
            let stands = may_stand && bases.and(chunks).is_empty();
            Content { chunks, bases: if stands { bases } else { Set::EMPTY } }
        }
    };
    let mut packs = Set::EMPTY;
    let metadata = Set::of(content.chunks.iter().filter(|chunk| *chunk >= METADATA));
    for (pack, chunks) in
        [(writer.pack, content.chunks.without(metadata)), (writer.pack + METADATA_PACK, metadata)]
    {
        if !chunks.is_empty() {
            world.contents.0.insert(pack, Content { chunks, ..content });
            packs = packs.with(pack);
        }
    }
    world.store.packs = world.store.packs.or(packs);
    WriterStep::PutIndex { packs }
}

fn commit(world: &mut World, writer: &Writer, flaw: Option<Flaw>) -> WriterStep {
    let decision = match writer.plan {
        // It has stored what others need, and wants no snapshot.
        Plan::Repack { .. } => Decision::Tombstone,
        Plan::Backup { chunks, .. } | Plan::Undo { chunks } => Decision::Commit(chunks),
    };
    let is_free = !world.store.snapshots.contains_key(&writer.session);
    if is_free || flaw == Some(Flaw::CommitsOverTombstone) {
        world.store.snapshots.insert(writer.session, decision);
        return WriterStep::Done;
    }
    refused(writer, flaw)
}

fn refused(writer: &Writer, flaw: Option<Flaw>) -> WriterStep {
    let is_content =
        matches!(writer.plan, Plan::Repack { .. }) || flaw == Some(Flaw::TakesTombstoneForCommit);
    if is_content { WriterStep::Done } else { WriterStep::Failed }
}
