//! The list of snapshots as it changes: asked for again when somebody looks, at most once a second, and never
//! at the price of a reader who waits for an unavailable store.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::lock;
use super::views::ViewDirectory;
use crate::repo::RepoError;

/// How long a list is shown without looking for a newer one.
pub(super) const LISTING_LIFETIME: Duration = Duration::from_secs(1);

/// How long a reader waits for a newer list, counted from the start of the attempt.
const PATIENCE: Duration = Duration::from_secs(1);

/// Lists that are kept for who is still reading them.
const PAST_GENERATIONS: usize = 8;

/// Counts the lists that were shown.
pub(super) type Generation = u64;

/// The views over all snapshots.
#[derive(Debug, Clone)]
pub(super) struct Views {
    pub(super) generation: Generation,
    pub(super) root: Arc<ViewDirectory>,
    /// Files, directories and everything else of all snapshots.
    pub(super) files: u64,
}

/// Lists the snapshots anew; returns nothing where nothing changed.
pub(super) type LoadViews = Box<dyn FnMut() -> Result<Option<Views>, RepoError> + Send>;

/// The newest known views. A thread of its own does the waiting.
pub(super) struct Listing {
    shared: Arc<Shared>,
    wake: Sender<()>,
}

struct Shared {
    state: Mutex<State>,
    finished: Condvar,
}

struct State {
    views: Views,
    /// What was shown before, the last one first.
    past: VecDeque<Views>,
    checked: Instant,
    /// When the attempt that is under way began.
    started: Option<Instant>,
}

impl Listing {
    /// Starts with `views`, and a thread that calls `load` on demand.
    pub(super) fn start(views: Views, load: LoadViews) -> std::io::Result<Self> {
        let state = State { views, past: VecDeque::new(), checked: Instant::now(), started: None };
        let shared = Arc::new(Shared { state: Mutex::new(state), finished: Condvar::new() });
        let (wake, woken) = bounded(1);
        let inner = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("yester-listing".to_owned())
            .spawn(move || follow(&inner, &woken, load))?;
        Ok(Self { shared, wake })
    }

    /// Returns the newest views that can be had within [`PATIENCE`].
    pub(super) fn current(&self) -> Views {
        let mut state = lock(&self.shared.state);
        if state.checked.elapsed() < LISTING_LIFETIME {
            return state.views.clone();
        }
        let started = *state.started.get_or_insert_with(Instant::now);
        // A full queue means that the thread is about to look anyway.
        let _ = self.wake.try_send(());
        let left = PATIENCE.saturating_sub(started.elapsed());
        let (state, _) = self
            .shared
            .finished
            .wait_timeout_while(state, left, |state| state.started.is_some())
            .unwrap_or_else(PoisonError::into_inner);
        state.views.clone()
    }

    /// Returns the views of a generation, the present one included, unless that was long ago.
    pub(super) fn past(&self, generation: Generation) -> Option<Views> {
        let state = lock(&self.shared.state);
        let mut known = std::iter::once(&state.views).chain(&state.past);
        known.find(|views| views.generation == generation).cloned()
    }

    /// Returns the views that are known, without looking for newer ones.
    pub(super) fn known(&self) -> Views {
        lock(&self.shared.state).views.clone()
    }
}

impl State {
    fn show(&mut self, views: Views) {
        let shown = std::mem::replace(&mut self.views, views);
        self.past.truncate(PAST_GENERATIONS - 1);
        self.past.push_front(shown);
    }
}

/// Loads whenever somebody asks, until the listing is dropped.
fn follow(shared: &Shared, woken: &Receiver<()>, mut load: LoadViews) {
    while woken.recv().is_ok() {
        if lock(&shared.state).started.is_none() {
            continue;
        }
        let loaded = catch_unwind(AssertUnwindSafe(&mut load));
        let mut state = lock(&shared.state);
        match loaded {
            Ok(Ok(Some(views))) => state.show(views),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot list the snapshots again");
            }
            Err(_) => tracing::error!("listing the snapshots again failed because of a bug"),
        }
        state.checked = Instant::now();
        state.started = None;
        shared.finished.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn views(files: u64) -> Views {
        Views { generation: 0, root: Arc::default(), files }
    }

    fn outdated(load: LoadViews) -> Listing {
        let listing = Listing::start(views(1), load).unwrap();
        lock(&listing.shared.state).checked = Instant::now() - LISTING_LIFETIME;
        listing
    }

    #[test]
    fn a_reader_sees_what_was_committed_since() {
        let listing = outdated(Box::new(|| Ok(Some(views(2)))));
        assert_eq!(listing.current().files, 2);
    }

    #[test]
    fn a_list_that_was_shown_is_kept_for_who_is_still_reading_it() {
        let mut generation = 0;
        let listing = outdated(Box::new(move || {
            generation += 1;
            Ok(Some(Views { generation, ..views(generation + 1) }))
        }));
        let files_of = |generation| listing.past(generation).map(|views| views.files);
        for generation in 1..=PAST_GENERATIONS as u64 {
            lock(&listing.shared.state).checked = Instant::now() - LISTING_LIFETIME;
            assert_eq!(listing.current().generation, generation);
            assert_eq!((files_of(generation), files_of(0)), (Some(generation + 1), Some(1)));
        }
        lock(&listing.shared.state).checked = Instant::now() - LISTING_LIFETIME;
        listing.current();
        assert_eq!((files_of(0), files_of(1)), (None, Some(2)));
    }

    #[test]
    fn a_young_list_is_not_asked_for_again() {
        let listing = Listing::start(views(1), Box::new(|| Ok(Some(views(2))))).unwrap();
        assert_eq!(listing.current().files, 1);
    }

    #[test]
    fn a_failure_keeps_the_old_list() {
        let listing = outdated(Box::new(|| Err(RepoError::NoSnapshot("gone".to_owned()))));
        assert_eq!(listing.current().files, 1);
        assert!(lock(&listing.shared.state).checked.elapsed() < LISTING_LIFETIME);
    }

    #[test]
    fn a_bug_keeps_the_old_list_until_the_next_attempt() {
        let mut attempts = 0;
        let listing = outdated(Box::new(move || {
            attempts += 1;
            assert!(attempts > 1, "meant to fail");
            Ok(Some(views(2)))
        }));
        assert_eq!(listing.current().files, 1);
        lock(&listing.shared.state).checked = Instant::now() - LISTING_LIFETIME;
        assert_eq!(listing.current().files, 2);
    }

    #[test]
    fn a_hanging_store_costs_a_reader_one_short_wait_and_the_next_none() {
        let (release, blocked) = bounded::<()>(0);
        let listing = outdated(Box::new(move || {
            // Whoever waited for the store would not wait for ever.
            let _ = blocked.recv_timeout(10 * PATIENCE);
            Ok(Some(views(2)))
        }));
        let waits = [2 * PATIENCE, PATIENCE / 2].map(|most| {
            let before = Instant::now();
            assert_eq!(listing.current().files, 1);
            (before.elapsed(), most)
        });
        assert!(waits.iter().all(|(waited, most)| waited < most), "{waits:?}");
        drop(release);
    }
}
