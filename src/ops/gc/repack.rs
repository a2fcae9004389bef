//! Writing anew what is needed of packs of which little is needed, or that are small: an ordinary session that never
//! commits. The packs themselves go afterwards, as any others do.

use std::collections::HashSet;

use super::GcError;
use super::live::LivePack;
use super::plan::{GcPlan, PlannedPack};
use crate::id::PackId;
use crate::index::FrameRecord;
use crate::progress::{Event, Progress, error_chain};
use crate::repo::frames::FrameCheck;
use crate::repo::session::{SessionOptions, SessionStats, SessionWriter};
use crate::repo::{RepoError, Repository};

/// The source that the session names.
const SOURCE: &str = "gc";

/// Writes anew what is needed; returns the packs of which all of it was, and what was written.
///
/// # Errors
/// Any failure of the store. A pack that is damaged is left alone.
pub(super) fn rewrite(
    repo: &Repository,
    plan: &GcPlan,
    threads: usize,
    progress: &dyn Progress,
) -> Result<(Vec<PackId>, SessionStats), GcError> {
    let avoid: HashSet<_> = plan.dead.iter().chain(&plan.rewritten).map(|pack| pack.id).collect();
    let options = SessionOptions { threads, avoid, ..SessionOptions::new(SOURCE) };
    let session = SessionWriter::open(repo, options)?;
    let mut rewritten = Vec::new();
    let bytes = plan.rewritten.iter().map(|pack| pack.bytes).sum();
    progress.event(Event::Found { files: plan.rewritten.len() as u64, bytes });
    // In the order in which they came: what was stored together stays together.
    let mut packs: Vec<&PlannedPack> = plan.rewritten.iter().collect();
    packs.sort_by_key(|pack| pack.row);
    for pack in packs {
        match rewrite_pack(repo, &session, plan, pack) {
            Ok(()) => rewritten.push(pack.id),
            Err(RepoError::SessionFailed) => break,
            Err(error) if error.is_damage() => {
                let why = error_chain(&error);
                progress
                    .event(Event::Warning(&format!("pack {} is damaged and stays as it is: {why}", pack.id)));
            }
            Err(error) => return Err(error.into()),
        }
        progress.event(Event::Done { files: 1, bytes: pack.bytes });
    }
    Ok((rewritten, session.abandon()?))
}

fn rewrite_pack(
    repo: &Repository,
    session: &SessionWriter,
    plan: &GcPlan,
    pack: &PlannedPack,
) -> Result<(), RepoError> {
    let Some(row) = pack.row else { return Ok(()) };
    let Some(live) = plan.live.get(&row) else { return Ok(()) };
    let frames = repo.index().frames_of(row)?;
    if frames.is_empty() {
        return Err(RepoError::StaleIndex);
    }
    for frame in frames.iter().filter(|frame| live.needs(frame.number)) {
        if live.stays_whole(frame.number, &frame.entry) {
            session.copy_frame(frame)?;
        } else {
            add_chunks(repo, session, live, frame)?;
        }
    }
    Ok(())
}

/// Adds the chunks of a frame that are needed, as if they were new.
fn add_chunks(
    repo: &Repository,
    session: &SessionWriter,
    live: &LivePack,
    frame: &FrameRecord,
) -> Result<(), RepoError> {
    let decoded = repo.frames().read_frame(frame, FrameCheck::Rehash)?;
    let mut rest = decoded.plain();
    for (position, chunk) in (0..).zip(&frame.entry.chunks) {
        let (plain, behind) = rest.split_at_checked(chunk.length as usize).ok_or(RepoError::StaleIndex)?;
        rest = behind;
        if live.needs_chunk(frame.number, position) {
            session.add(chunk.kind, plain)?;
        }
    }
    Ok(())
}
