//! Waiting for sessions that may not have seen what was condemned, and fencing those that seem to be dead.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::{GcOptions, OtherWriters};
use crate::format::snapshot::SessionMark;
use crate::id::SessionId;
use crate::path::escape;
use crate::progress::{Event, Progress};
use crate::repo::{RepoError, Repository};
use crate::store::key::{ObjectKey, Prefix};
use crate::store::{ObjectStore, StoreErrorKind};

/// A session that gave no sign of life for so long is fenced.
const SILENCE_MAX: SignedDuration = SignedDuration::from_hours(24);
/// How often a session is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A session that may still commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OpenSession {
    /// Its id.
    pub(super) id: SessionId,
    /// The highest number of its marks.
    mark: u32,
}

/// A session that is waited for, as people know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitedFor {
    /// Its id.
    pub session: SessionId,
    /// The host that writes; empty if that cannot be read.
    pub host: String,
    /// What is backed up; empty if that cannot be read.
    pub source: String,
    /// When it last gave a sign of life, by its own clock; nothing if that cannot be read.
    pub seen: Option<Timestamp>,
}

/// Lists the sessions that may still commit: `sessions/` first, and then what decides them.
pub(super) fn list_sessions(store: &dyn ObjectStore) -> Result<Vec<OpenSession>, RepoError> {
    let mut open: BTreeMap<SessionId, u32> = BTreeMap::new();
    store.list(Prefix::Sessions, &mut |object| {
        if let Some((id, number)) = object.key.as_session() {
            let mark = open.entry(id).or_default();
            *mark = number.max(*mark);
        }
    })?;
    store.list(Prefix::Snapshots, &mut |object| {
        if let Some(id) = object.key.as_snapshot() {
            open.remove(&id);
        }
    })?;
    Ok(open.into_iter().map(|(id, mark)| OpenSession { id, mark }).collect())
}

/// Waits until each of the sessions is decided. One that gave no sign of life for a day, or whose process on this host is
/// gone, gets a tombstone where its snapshot would lie: whichever of the two is there first stays. Returns those that are
/// not decided when the time to wait is over.
pub(super) fn settle(
    repo: &Repository,
    mut open: Vec<OpenSession>,
    options: &GcOptions,
    progress: &dyn Progress,
) -> Result<Vec<WaitedFor>, RepoError> {
    let started = Instant::now();
    let mut told = false;
    loop {
        let mut waited_for = Vec::new();
        let mut undecided = Vec::new();
        for mut session in open {
            if is_decided(repo.store(), session.id)? {
                continue;
            }
            match look(repo, &mut session, options.writers)? {
                Some(waits) => {
                    waited_for.push(waits);
                    undecided.push(session);
                }
                None => repo.fence(session.id)?,
            }
        }
        open = undecided;
        if open.is_empty() || started.elapsed() >= options.wait {
            return Ok(waited_for);
        }
        if let Some(first) = waited_for.first().filter(|_| !told) {
            told = true;
            let (source, host) = (&first.source, escape(first.host.as_bytes()));
            let others = match open.len() - 1 {
                0 => String::new(),
                others => format!(", and {others} more"),
            };
            let what = format!("waiting for a backup that began before: {source} on {host}{others}");
            progress.event(Event::Warning(&what));
        }
        thread::sleep(LOOK_INTERVAL.min(options.wait.saturating_sub(started.elapsed())));
    }
}

fn is_decided(store: &dyn ObjectStore, session: SessionId) -> Result<bool, RepoError> {
    match store.size(&ObjectKey::snapshot(session)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == StoreErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Looks for signs of life of a session; returns what is known of it, or nothing if it seems to be dead. Marks that do
/// not open say no more than the time in the session's id.
fn look(
    repo: &Repository,
    session: &mut OpenSession,
    writers: OtherWriters,
) -> Result<Option<WaitedFor>, RepoError> {
    let now = Timestamp::now();
    let (number, opened) = repo.last_session_mark(session.id, session.mark)?;
    session.mark = number;
    let Some((writer, SessionMark { time, source, process })) = opened else {
        let waits = WaitedFor { session: session.id, host: String::new(), source: String::new(), seen: None };
        let is_dead = writers == OtherWriters::None || now.duration_since(session.id.time()) > SILENCE_MAX;
        return Ok((!is_dead).then_some(waits));
    };
    let is_of_this_host = writer.id == repo.writer().id;
    let is_dead = match writers {
        _ if is_of_this_host && process.is_gone() => true,
        OtherWriters::None => !is_of_this_host,
        OtherWriters::Any => now.duration_since(time) > SILENCE_MAX,
    };
    let waits = WaitedFor { session: session.id, host: writer.host, source, seen: Some(time) };
    Ok((!is_dead).then_some(waits))
}
