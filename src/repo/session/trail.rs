//! The trail: where in the store's packs the frames of this session lead.
//!
//! A stream that was stored before comes again in the same order, and sessions pack frames in the order of their
//! stream. So a frame that resembles nothing as a whole, because it was cut at other places, most likely holds what
//! follows the base of the frame before it.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex};

use super::{RepoError, Shared, lock};
use crate::format::frame::FRAME_MAX_BYTES;
use crate::index::{FrameRecord, FrameRef};

/// Frames in a row that may follow the trail without one that resembles a stored frame: what is new leads nowhere.
const GUESSES_MAX: u8 = 8;
/// Steps that are kept. Encoders are never that far apart.
const STEPS_KEPT: usize = 4096;
/// A stored frame of which at most this part is wanted is left out.
const SLIVER_DIVISOR: u64 = 16;

/// A place among the frames of a stored pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) frame: FrameRef,
    /// Plain bytes of the frame that lie before the place.
    pub(super) offset: u64,
    /// Steps since a frame was found by its features.
    guesses: u8,
}

impl Place {
    /// Returns the place behind `bytes` that resemble a stored frame.
    pub(super) fn behind(frame: FrameRef, record: &FrameRecord, bytes: u64) -> Self {
        let base_bytes = record.entry.plain_length() as u64;
        // A frame of a quarter less than its base is the first part of one that was cut in two, and one of a quarter
        // more has a part of what follows the base.
        if bytes < base_bytes / 4 * 3 {
            return Self { frame, offset: bytes, guesses: 0 };
        }
        let more_bytes = bytes.saturating_sub(base_bytes);
        if more_bytes > base_bytes / 4 {
            return Self { frame: next(frame), offset: more_bytes, guesses: 0 };
        }
        Self { frame: next(frame), offset: 0, guesses: 0 }
    }
}

/// Where each frame of data led, in the order of the stream.
#[derive(Default)]
pub(super) struct Trail {
    steps: Mutex<BTreeMap<u64, Option<Place>>>,
    taken: Condvar,
}

impl Trail {
    /// Returns where the frame before number `step` led; waits until that is known.
    fn before(&self, step: u64) -> Option<Place> {
        let previous = step.checked_sub(1)?;
        let mut steps = lock(&self.steps);
        loop {
            if let Some(place) = steps.get(&previous) {
                return *place;
            }
            if steps.first_key_value().is_some_and(|(oldest, _)| *oldest > previous) {
                return None;
            }
            steps = self.taken.wait(steps).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}

/// The step of one frame. It is taken when this is dropped, whatever happens, since others wait for it.
pub(super) struct Step<'a> {
    trail: &'a Trail,
    number: u64,
    place: Option<Place>,
}

impl<'a> Step<'a> {
    /// Begins the step of frame `number`. The numbers of a session's frames of data have no gap.
    pub(super) fn begin(trail: &'a Trail, number: u64) -> Self {
        Self { trail, number, place: None }
    }

    /// Says that the frame was found by its features, and where it leads.
    pub(super) fn found(&mut self, place: Place) {
        self.place = Some(place);
    }

    /// Returns the one or two stored frames that most likely hold the next `bytes`; none where no trail leads here.
    pub(super) fn guess(&mut self, shared: &Shared, bytes: u64) -> Result<Vec<FrameRef>, RepoError> {
        let Some(place) = self.trail.before(self.number).filter(|place| place.guesses < GUESSES_MAX) else {
            return Ok(Vec::new());
        };
        let (covering, end) = covering(shared, place, bytes)?;
        self.place = end.map(|end| Place { guesses: place.guesses + 1, ..end });
        Ok(widest_pair(&covering))
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        let mut steps = lock(&self.trail.steps);
        steps.insert(self.number, self.place);
        while steps.len() > STEPS_KEPT {
            steps.pop_first();
        }
        self.trail.taken.notify_all();
    }
}

/// A stored frame and how much of it is wanted.
struct Covering {
    frame: FrameRef,
    plain_bytes: u64,
    wanted_bytes: u64,
}

/// Returns the frames that hold `bytes` from `place` on, and the place behind them, if the pack goes on that far.
fn covering(shared: &Shared, place: Place, bytes: u64) -> Result<(Vec<Covering>, Option<Place>), RepoError> {
    let (mut covering, mut at, mut rest) = (Vec::new(), place, bytes);
    while rest > 0 {
        let Some(record) = shared.index.frame(at.frame)? else { return Ok((covering, None)) };
        let plain_bytes = record.entry.plain_length() as u64;
        let wanted_bytes = rest.min(plain_bytes.saturating_sub(at.offset));
        covering.push(Covering { frame: at.frame, plain_bytes, wanted_bytes });
        rest -= wanted_bytes;
        at = if at.offset + wanted_bytes < plain_bytes {
            Place { offset: at.offset + wanted_bytes, ..at }
        } else {
            Place { frame: next(at.frame), offset: 0, ..at }
        };
    }
    Ok((covering, Some(at)))
}

/// Returns the neighbours of which most is wanted, or the one where that is enough.
fn widest_pair(covering: &[Covering]) -> Vec<FrameRef> {
    let all: u64 = covering.iter().map(|one| one.wanted_bytes).sum();
    let useful = |one: &&Covering| one.wanted_bytes > all / SLIVER_DIVISOR;
    let fits = |group: &[Covering]| {
        group.iter().map(|one| one.plain_bytes).sum::<u64>() <= FRAME_MAX_BYTES as u64
            && group.iter().all(|one| useful(&one))
    };
    let wanted = |group: &&[Covering]| group.iter().map(|one| one.wanted_bytes).sum::<u64>();
    let groups = covering.windows(2).chain(covering.windows(1)).filter(|group| fits(group));
    let widest = groups.max_by_key(wanted).unwrap_or_default();
    widest.iter().map(|one| one.frame).collect()
}

fn next(frame: FrameRef) -> FrameRef {
    FrameRef { number: frame.number.saturating_add(1), ..frame }
}
