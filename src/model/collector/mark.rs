//! The second mark: what is needed, from fresh listings.

use super::CollectorStep;
use crate::model::World;
use crate::model::flaw::Flaw;
use crate::model::set::Set;
use crate::model::store::{Number, Session, Verdict};
use crate::store::key::Prefix;

/// What the listings of a mark said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(in crate::model) struct Heard {
    forgotten: Option<Set>,
    commits: Option<Vec<(Session, Set)>>,
    gone: Option<Verdict>,
}

impl Heard {
    /// Returns what is listed next.
    pub(in crate::model) fn awaits(&self) -> Prefix {
        match self {
            Self { forgotten: None, .. } => Prefix::Marks,
            Self { commits: None, .. } => Prefix::Snapshots,
            Self { gone: None, .. } => Prefix::Gc,
            Self { .. } => Prefix::Index,
        }
    }
}

/// Takes the next listing of a mark, and marks after the last one.
pub(super) fn listen(
    world: &World,
    number: Number,
    condemned: Set,
    heard: Heard,
    prefers_oldest: bool,
    flaw: Option<Flaw>,
) -> CollectorStep {
    let store = &world.store;
    let heard = match heard {
        Heard { forgotten: None, .. } => Heard { forgotten: Some(store.marks.forgets()), ..heard },
        Heard { commits: None, .. } if flaw == Some(Flaw::TakesErrorForEmpty) => {
            Heard { commits: Some(Vec::new()), ..heard }
        }
        Heard { commits: None, .. } => Heard { commits: Some(store.commits()), ..heard },
        Heard { gone: None, .. } => {
            let relies_on_all = flaw == Some(Flaw::ReliesOnOthersDead);
            let packs = if relies_on_all { Set::EMPTY } else { store.gone_by_others(Some(number)) };
            Heard { gone: Some(Verdict { packs, ..store.verdicts() }), ..heard }
        }
        Heard { forgotten: Some(forgotten), commits: Some(commits), gone: Some(gone) } => {
            let usable = store.named().without(gone.packs);
            let dropped = forgotten.or(gone.snapshots);
            return match live(world, &commits, dropped, usable, prefers_oldest, flaw) {
                Some(live) => {
                    // What another collection deletes is none of this one's business.
                    let packs = condemned.without(live).without(gone.packs);
                    let commits = Set::of(commits.iter().map(|(session, _)| *session));
                    let snapshots = match flaw {
                        Some(Flaw::DropsWhatMarksSay) => Set::EMPTY,
                        _ => commits.and(forgotten).without(gone.snapshots),
                    };
                    CollectorStep::Decide { number, verdict: Verdict { packs, snapshots } }
                }
                // Nothing is deleted while anything is missing.
                None => CollectorStep::Rest,
            };
        }
    };
    CollectorStep::Mark { number, condemned, heard }
}

/// Returns the packs that all snapshots but those `dropped` need, or nothing if a chunk cannot be resolved.
pub(in crate::model) fn live(
    world: &World,
    commits: &[(Session, Set)],
    dropped: Set,
    usable: Set,
    prefers_oldest: bool,
    flaw: Option<Flaw>,
) -> Option<Set> {
    let kept = commits.iter().filter(|(session, _)| !dropped.has(*session));
    let mut wanted: Vec<u8> = kept.flat_map(|(_, chunks)| chunks.iter()).collect();
    let (mut live, mut seen) = (Set::EMPTY, Set::EMPTY);
    while let Some(chunk) = wanted.pop() {
        if seen.has(chunk) {
            continue;
        }
        seen = seen.with(chunk);
        // Collectors that prefer different homes are the worst case.
        let mut homes = world.contents.homes(usable, chunk);
        let home = if prefers_oldest { homes.next() } else { homes.next_back() }?;
        live = live.with(home);
        if flaw != Some(Flaw::ForgetsBases) {
            wanted.extend(world.contents.0.get(&home)?.bases.iter());
        }
    }
    Some(live)
}
