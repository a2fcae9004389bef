//! How readers come to know more of a store: index objects are brought while somebody waits for what is in them, those
//! first that most likely have it.
//!
//! One thread brings them for all who wait; whoever waits looks again whenever some are in. It ends when nobody waits any
//! more, and what it has not brought by then is left for the next one who misses something. So a host with an empty cache
//! reads of a large index what it needs, and never says that a chunk is missing before everything was looked at.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::RepoError;
use super::index_objects::{Brought, Damaged, Haste, IndexObjects, ListedObject};
use crate::id::{SessionId, SnapshotId};
use crate::progress::error_chain;

/// What was listed longer ago is listed anew: it may be gone.
const LISTED_FOR: Duration = Duration::from_mins(10);

/// What those who wait for index objects share. Dropping it ends the thread after what is under way.
pub(super) struct Feed {
    shared: Arc<Shared>,
}

/// What is new to one who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// The index knows more than before.
    Came,
    /// Everything was brought that a listing showed which began after the wait did, and after the one told before.
    LookedThrough(Brought),
}

struct Shared {
    objects: Arc<IndexObjects>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// The snapshot that was read last.
    preferred: Option<SessionId>,
    /// What was listed and is not brought yet, the next one first.
    coming: VecDeque<ListedObject>,
    listed: Instant,
    /// Those who wait.
    waiting: usize,
    /// How often something was put into the index.
    applied: u64,
    /// Listings that began.
    begun: u64,
    /// The one that is being brought, and whether all of it was there so far.
    current: Option<(u64, Brought)>,
    /// The last one of which everything was brought, and whether all of it was there.
    done: u64,
    done_brought: Brought,
    /// The listing up to which somebody wants all brought who does not wait for it.
    followed: u64,
    runs: bool,
    failure: Option<RepoError>,
}

impl Feed {
    pub(super) fn new(objects: Arc<IndexObjects>) -> Self {
        let state = State {
            preferred: None,
            coming: VecDeque::new(),
            listed: Instant::now(),
            waiting: 0,
            applied: 0,
            begun: 0,
            current: None,
            done: 0,
            done_brought: Brought::All,
            followed: 0,
            runs: false,
            failure: None,
        };
        Self { shared: Arc::new(Shared { objects, state: Mutex::new(state), changed: Condvar::new() }) }
    }

    /// Takes note that a snapshot is about to be read: what its session wrote is brought first.
    pub(super) fn prefer(&self, id: SnapshotId) {
        let mut state = self.shared.lock();
        if state.preferred != Some(id) {
            state.preferred = Some(id);
            state.coming.make_contiguous().sort_by_cached_key(|object| rank(object, Some(id)));
        }
    }

    /// Begins to wait for something that the index does not know.
    pub(super) fn wait(&self) -> Wait<'_> {
        let mut state = self.shared.lock();
        state.waiting += 1;
        Wait { shared: &self.shared, applied: state.applied, next: state.begun + 1 }
    }

    /// Waits until what is followed is brought, at most so long. What failed is not waited for.
    pub(super) fn wait_until_followed(&self, patience: Duration) {
        let state = self.shared.lock();
        let comes = |state: &mut State| state.runs && state.followed > state.done;
        // Who was not told in time takes what there is.
        let _ = self.shared.changed.wait_timeout_while(state, patience, comes);
    }

    /// Has everything brought that the store lists from now on. Returns at once; what fails is left to those who miss
    /// something.
    pub(super) fn follow(&self) {
        let mut state = self.shared.lock();
        state.followed = state.begun + 1;
        if let Err(error) = self.shared.start(&mut state) {
            tracing::warn!(
                "the index is brought up to date only where something is missed: {}",
                error_chain(&error)
            );
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.followed = 0;
        state.give_up();
    }
}

/// One who waits.
pub(super) struct Wait<'a> {
    shared: &'a Arc<Shared>,
    /// What was in the index when it looked last.
    applied: u64,
    /// The listing that it wants to see the end of.
    next: u64,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.shared.lock().waiting -= 1;
    }
}

impl Wait<'_> {
    /// Waits until there is news.
    ///
    /// # Errors
    /// Fails if the store cannot be listed or read, or the index not be written.
    pub(super) fn news(&mut self) -> Result<News, RepoError> {
        let mut state = self.shared.lock();
        loop {
            if state.applied > self.applied {
                self.applied = state.applied;
                return Ok(News::Came);
            }
            if state.done >= self.next {
                self.next = state.done + 1;
                return Ok(News::LookedThrough(state.done_brought));
            }
            if let Some(failure) = state.failure.take() {
                return Err(failure);
            }
            self.shared.start(&mut state)?;
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the thread unless it runs.
    fn start(self: &Arc<Self>, state: &mut State) -> Result<(), RepoError> {
        if state.runs {
            return Ok(());
        }
        let shared = Arc::clone(self);
        std::thread::Builder::new()
            .name("yester-index".to_owned())
            .spawn(move || run(&shared))
            .map_err(failed)?;
        state.runs = true;
        Ok(())
    }

    /// Brings what is listed, and lists, as long as somebody wants it.
    fn serve(&self) -> Result<(), RepoError> {
        loop {
            let brought = self.bring()?;
            let mut state = self.lock();
            if let Some((_, so_far)) = &mut state.current {
                *so_far = so_far.and(brought);
            }
            if !state.is_wanted() {
                state.runs = false;
                return Ok(());
            }
            if !state.coming.is_empty() {
                continue;
            }
            if let Some((number, brought)) = state.current.take() {
                (state.done, state.done_brought) = (number, brought);
                self.changed.notify_all();
                // Those who wait look once more, and ask for another listing if that was not enough.
                if state.followed <= number {
                    state.runs = false;
                    return Ok(());
                }
            }
            state.begun += 1;
            let preferred = state.preferred;
            drop(state);
            let mut new = self.objects.list_new()?;
            new.sort_by_cached_key(|object| rank(object, preferred));
            let mut state = self.lock();
            state.coming = new.into();
            state.current = Some((state.begun, Brought::All));
            state.listed = Instant::now();
        }
    }

    /// Brings what is coming, as long as somebody wants it.
    fn bring(&self) -> Result<Brought, RepoError> {
        let next = || {
            let mut state = self.lock();
            if state.is_wanted() { state.coming.pop_front() } else { None }
        };
        self.objects.bring(std::iter::from_fn(next), Damaged::LeftOut, Haste::First, &mut || {
            self.lock().applied += 1;
            self.changed.notify_all();
        })
    }
}

impl State {
    fn is_wanted(&self) -> bool {
        self.waiting > 0 || self.followed > self.done
    }

    /// Forgets what was listed.
    fn give_up(&mut self) {
        self.coming.clear();
        self.current = None;
    }
}

/// The thread.
fn run(shared: &Shared) {
    {
        let mut state = shared.lock();
        state.failure = None;
        if state.listed.elapsed() > LISTED_FOR {
            state.give_up();
        }
    }
    let served = catch_unwind(AssertUnwindSafe(|| shared.serve()));
    let served = served.unwrap_or_else(|_| Err(failed(io::Error::other("it ended because of a bug"))));
    let Err(error) = served else { return };
    let mut state = shared.lock();
    state.runs = false;
    // Nobody knows how much of it was brought: the next one lists anew.
    state.give_up();
    if state.waiting > 0 {
        state.failure = Some(error);
    } else {
        tracing::warn!("the index was not brought up to date: {}", error_chain(&error));
    }
    state.followed = 0;
    shared.changed.notify_all();
}

fn failed(source: io::Error) -> RepoError {
    RepoError::Local { operation: "run the thread for", path: "the local index".to_owned(), source }
}

/// The order in which index objects are brought for who reads a snapshot: those of its own session, which name the packs of
/// its trees, the last one with the root first; then older sessions, on whose chunks it stands, the newest first; and
/// then younger ones, which have none of its chunks but those that a collection has moved.
fn rank((key, _): &ListedObject, preferred: Option<SnapshotId>) -> (u8, Reverse<Option<(SessionId, u32)>>) {
    let Some((session, number)) = key.as_index() else { return (3, Reverse(None)) };
    let kinship = match preferred {
        Some(preferred) if session == preferred => 0,
        Some(preferred) if session > preferred => 2,
        _ => 1,
    };
    (kinship, Reverse(Some((session, number))))
}

#[cfg(test)]
mod tests;
