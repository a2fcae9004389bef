//! Packs that are damaged or missing: brought back whole from the other store; else, what is left of them is written anew,
//! and they are taken out of the index.

use std::collections::HashSet;

use super::{BadPack, ReadPacks, RepairError, RepairOptions, RepairPlan, RepairStats, tell};
use crate::crypto::hash::ChunkKind;
use crate::format::frame::FrameChunk;
use crate::id::{ChunkId, PackId};
use crate::index::FrameRecord;
use crate::ops::copy::packs::list_packs;
use crate::ops::gc::replace;
use crate::progress::{Event, Progress, error_chain};
use crate::repo::collections::Collections;
use crate::repo::read::Chunk;
use crate::repo::session::{SessionOptions, SessionWriter};
use crate::repo::whole::{self, WholePack};
use crate::repo::{RepoError, Repository};
use crate::store::key::ObjectKey;
use crate::store::{Payload, StoreErrorKind};

/// The source that the session names that writes anew what is left.
const SOURCE: &str = "repair";

/// Finds packs that are not what index objects say, and those that none names.
pub(super) fn survey(
    repo: &Repository,
    options: &RepairOptions,
    progress: &dyn Progress,
    plan: &mut RepairPlan,
) -> Result<(), RepairError> {
    // What does not open under gc/ says nothing of any pack.
    let collections = match repo.collections() {
        Ok(collections) => collections,
        Err(RepoError::UnknownCollection { .. }) => Collections::default(),
        Err(error) => return Err(error.into()),
    };
    let (gone, dead) = (collections.gone_packs(), collections.dead_packs());
    let listed = list_packs(repo)?;
    // This host may remember what index objects said that do not open any more, and no other host does.
    let is_unreadable = |key: &str| plan.index_objects.iter().any(|bad| bad.key.as_str() == key);
    let objects = repo.index().listed_objects().map_err(RepoError::from)?;
    let readable = objects.into_iter().filter(|object| !is_unreadable(&object.key));
    let named: HashSet<PackId> = readable.flat_map(|object| object.packs).collect();
    let mut to_read = Vec::new();
    repo.index()
        .packs(&mut |_, pack| match listed.get(&pack.id) {
            _ if dead.contains(&pack.id) => {}
            None => plan.packs.push(BadPack { id: pack.id, what: "it is missing" }),
            Some(bytes) if *bytes != pack.bytes => {
                plan.packs.push(BadPack { id: pack.id, what: "it has another length" });
            }
            Some(bytes) if options.read == ReadPacks::All || repo.index().is_distrusted(&pack.id) => {
                to_read.push((pack.id, *bytes));
            }
            Some(_) => {}
        })
        .map_err(RepoError::from)?;
    plan.unnamed = listed.keys().filter(|id| !named.contains(id) && !gone.contains(id)).copied().collect();
    plan.unnamed.sort_unstable();
    let bytes = to_read.iter().map(|(_, bytes)| bytes).sum();
    progress.event(Event::Found { files: to_read.len() as u64, bytes });
    progress.event(Event::FoundAll);
    for (id, bytes) in to_read {
        match whole::is_whole(repo.store(), &id) {
            Ok(true) => repo.index().trust(&[id]).map_err(RepoError::from)?,
            Ok(false) => plan.packs.push(BadPack { id, what: "its bytes do not have its hash" }),
            // Collected since it was listed.
            Err(RepoError::Store(error)) if error.kind() == StoreErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        plan.packs_read += 1;
        progress.event(Event::Done { files: 1, bytes });
    }
    let bad: Vec<PackId> = plan.packs.iter().map(|pack| pack.id).collect();
    repo.index().distrust(&bad).map_err(RepoError::from)?;
    Ok(())
}

/// Brings packs back, or what is left of them.
pub(super) fn bring_back(
    repo: &Repository,
    from: Option<&Repository>,
    plan: &RepairPlan,
    options: &RepairOptions,
    stats: &mut RepairStats,
    progress: &dyn Progress,
) -> Result<(), RepairError> {
    let dead = repo.collections()?.dead_packs();
    let (mut lost, mut unnamed) = (Vec::new(), Vec::new());
    for BadPack { id, .. } in plan.packs.iter().filter(|pack| !dead.contains(&pack.id)) {
        match whole::is_whole(repo.store(), id) {
            // Somebody else has repaired it; or the first time, it was damaged on its way.
            Ok(true) => {
                repo.index().trust(&[*id]).map_err(RepoError::from)?;
                stats.whole_packs.push(*id);
                continue;
            }
            Ok(false) => {}
            Err(RepoError::Store(error)) if error.kind() == StoreErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        match from.map(|from| fetch(repo, from, id)).transpose()?.flatten() {
            Some(pack) => {
                put_back(repo, id, &pack)?;
                stats.restored_packs.push(*id);
                if !repo.index().names(id).map_err(RepoError::from)? {
                    unnamed.push(pack.describe(repo.keys())?);
                }
            }
            None => lost.push(*id),
        }
    }
    // What named them does not open any more.
    if !unnamed.is_empty() {
        stats.named_packs += unnamed.len() as u64;
        replace::put_instead(repo, unnamed, &[])?;
    }
    if lost.is_empty() {
        return Ok(());
    }
    rescue(repo, from, &lost, options, stats, progress)?;
    stats.lost_packs = lost;
    Ok(())
}

/// Fetches a pack from the other store; nothing if it has no such pack, or none that is whole.
fn fetch(repo: &Repository, from: &Repository, id: &PackId) -> Result<Option<WholePack>, RepairError> {
    match WholePack::fetch(from.store(), id, repo.spool()) {
        Ok(pack) => Ok(Some(pack)),
        Err(error) if error.is_damage() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Puts a pack in the place of what lies there, which was read twice and is not the pack. The good bytes are here.
fn put_back(repo: &Repository, id: &PackId, pack: &WholePack) -> Result<(), RepairError> {
    let (store, key) = (repo.store(), ObjectKey::pack(id));
    store.delete(&key).map_err(RepoError::from)?;
    // If somebody else was faster, the look below tells whether that is the pack.
    store.create(&key, Payload::File { file: pack.file(), bytes: pack.bytes() }).map_err(RepoError::from)?;
    if !whole::is_whole(store, id)? {
        let source =
            crate::format::FormatError::malformed("a pack", "what was put back does not have its hash");
        return Err(RepoError::Damaged { object: key.to_string(), source: Some(source) }.into());
    }
    repo.index().trust(&[*id]).map_err(RepoError::from)?;
    Ok(())
}

/// Writes anew what is left of packs, and takes them out of the index.
fn rescue(
    repo: &Repository,
    from: Option<&Repository>,
    lost: &[PackId],
    options: &RepairOptions,
    stats: &mut RepairStats,
    progress: &dyn Progress,
) -> Result<(), RepairError> {
    let avoid: HashSet<PackId> = lost.iter().copied().collect();
    let session_options = SessionOptions {
        level: options.level,
        threads: options.threads,
        avoid: avoid.clone(),
        ..SessionOptions::new(SOURCE)
    };
    let session = SessionWriter::open(repo, session_options)?;
    for id in lost {
        let rescued = rescue_pack(repo, from, &session, id, stats);
        match rescued {
            Ok(()) => {}
            Err(RepoError::SessionFailed) => break,
            Err(error) => return Err(error.into()),
        }
        tell(progress, &format!("pack {id} cannot be brought back, and is taken out of the index"));
    }
    // Undecided until the packs are out: a collector that condemned what was just written, since the lost packs hold it as
    // well, waits for this session, and then finds it nowhere else.
    let settled = session.settle()?;
    repo.refresh_strictly()?;
    replace::replace(repo, &avoid, replace::CHUNKS_PER_OBJECT)
        .map_err(|error| RepairError::Replace(Box::new(error)))?;
    repo.index().trust(lost).map_err(RepoError::from)?;
    drop(settled);
    Ok(())
}

fn rescue_pack(
    repo: &Repository,
    from: Option<&Repository>,
    session: &SessionWriter,
    id: &PackId,
    stats: &mut RepairStats,
) -> Result<(), RepoError> {
    let Some((row, _)) = repo.index().pack_by_id(id)? else { return Ok(()) };
    for frame in repo.index().frames_of(row)? {
        if is_elsewhere(repo, session, &frame)? {
            continue;
        }
        match repo.frames().encoded_frame(&frame) {
            Ok(encoded) => {
                session.add_frame(frame.entry, encoded)?;
                stats.rescued_frames += 1;
            }
            Err(error) if error.is_damage() => {
                tracing::debug!("a frame of pack {id} is lost: {}", error_chain(&error));
                gather(repo, from, session, &frame.entry.chunks, stats)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Tells whether all of a frame is in other packs, and the frame as such, which others may stand on.
fn is_elsewhere(repo: &Repository, session: &SessionWriter, frame: &FrameRecord) -> Result<bool, RepoError> {
    for chunk in &frame.entry.chunks {
        if !session.contains(&chunk.id)? {
            return Ok(false);
        }
    }
    let chunks = frame.entry.chunks.iter().map(|chunk| (chunk.id, chunk.length));
    session.holds_frame(&repo.keys().ids().frame_id(chunks))
}

/// Makes a frame anew of what other packs and the other store have of it: as it was if all of it is found, so that what
/// stands on it can be read again.
fn gather(
    repo: &Repository,
    from: Option<&Repository>,
    session: &SessionWriter,
    chunks: &[FrameChunk],
    stats: &mut RepairStats,
) -> Result<(), RepoError> {
    let mut found = Vec::new();
    let mut missing = 0;
    for chunk in chunks {
        match find(repo, from, chunk.kind, &chunk.id)? {
            Some(plain) if plain.len() == chunk.length as usize => found.push((chunk.kind, plain)),
            _ => missing += 1,
        }
    }
    if missing == 0 {
        let plain = found.iter().flat_map(|(_, plain)| plain.iter().copied()).collect();
        stats.rescued_frames += 1;
        return session.add_as_frame(chunks.to_vec(), plain);
    }
    stats.lost_chunks += missing;
    for (kind, plain) in found {
        session.add(kind, &plain)?;
    }
    Ok(())
}

/// Looks for a chunk here, and then in the other store; what comes from there is hashed once more.
fn find(
    repo: &Repository,
    from: Option<&Repository>,
    kind: ChunkKind,
    id: &ChunkId,
) -> Result<Option<Chunk>, RepoError> {
    for store in std::iter::once(repo).chain(from) {
        match store.chunk(kind, id) {
            Ok(chunk) if repo.keys().ids().chunk_id(kind, &chunk) == *id => return Ok(Some(chunk)),
            Ok(_) => {}
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
