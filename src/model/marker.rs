//! Those who mark snapshots: `forget` and `protect`. Neither has a session of its own.

use super::World;
use super::flaw::Flaw;
use super::set::Set;
use super::store::Session;

/// What shall be said of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Wish {
    Forget,
    Protect,
}

/// What a marker does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum MarkerStep {
    /// Lists `gc/`, `marks/` and `snapshots/`.
    Look,
    /// Creates the mark.
    Say,
    /// Lists them again.
    LookAgain,
    /// Nothing: it was acknowledged.
    Done,
    /// Nothing: it was refused.
    Refused,
}

/// Somebody who marks one snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Marker {
    pub(super) wish: Wish,
    pub(super) snapshot: Session,
    pub(super) step: MarkerStep,
}

impl Marker {
    /// Tells whether it can take a step: not before its snapshot is there.
    pub(super) fn can_act(&self, world: &World) -> bool {
        match self.step {
            MarkerStep::Look => world.store.has_snapshot(self.snapshot),
            MarkerStep::Say | MarkerStep::LookAgain => true,
            MarkerStep::Done | MarkerStep::Refused => false,
        }
    }
}

/// Takes the next step of a marker.
pub(super) fn advance(world: &mut World, number: usize, flaw: Option<Flaw>) {
    let Some(mut marker) = world.markers.get(number).copied() else { return };
    let is_there = world.store.has_snapshot(marker.snapshot);
    let marks = &mut world.store.marks;
    let snapshot = Set::EMPTY.with(marker.snapshot);
    let is_forgotten = marks.forgotten.has(marker.snapshot);
    marker.step = match (marker.step, marker.wish) {
        (MarkerStep::Look, Wish::Forget) if marks.protected.has(marker.snapshot) => MarkerStep::Refused,
        // To keep what is forgotten takes an undo.
        (MarkerStep::Look, Wish::Protect) if is_forgotten && flaw != Some(Flaw::ProtectsForgotten) => {
            MarkerStep::Refused
        }
        (MarkerStep::Look, _) => MarkerStep::Say,
        (MarkerStep::Say, Wish::Forget) => {
            marks.forgotten = marks.forgotten.or(snapshot);
            MarkerStep::Done
        }
        (MarkerStep::Say, Wish::Protect) => {
            marks.protected = marks.protected.or(snapshot);
            match flaw {
                Some(Flaw::ProtectsForgotten | Flaw::ProtectsUnchecked) => MarkerStep::Done,
                _ => MarkerStep::LookAgain,
            }
        }
        // Whoever forgot it meanwhile did not know better, and a collector may not, either.
        (MarkerStep::LookAgain, _) if is_forgotten || !is_there => MarkerStep::Refused,
        (MarkerStep::LookAgain, _) => MarkerStep::Done,
        (ended @ (MarkerStep::Done | MarkerStep::Refused), _) => ended,
    };
    world.markers[number] = marker;
}
