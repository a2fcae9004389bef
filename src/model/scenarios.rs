//! What the model begins with. Each scenario is small enough to be checked to the end, and together they meet all that
//! may come together.

use super::World;
use super::collector::{Collector, CollectorStep};
use super::flaw::Flaw;
use super::marker::{Marker, MarkerStep, Wish};
use super::set::Set;
use super::store::{Content, Contents, Decision, Pack, Session, Store};
use super::writer::{METADATA, Plan, Writer, WriterStep};

/// What lies in the store, and who is there.
#[derive(Debug, Clone, Default)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// Flaws that lose something here.
    pub(super) shows: &'static [Flaw],
    /// Packs, numbered from 0, each with the session whose index object names it.
    packs: Vec<(Content, Session)>,
    /// Snapshots of these sessions; one that has none never ended.
    snapshots: Vec<(Session, Set)>,
    writers: Vec<Plan>,
    markers: Vec<(Wish, Session)>,
    collectors: usize,
    /// How often each collector runs.
    runs: u8,
    deaths: u8,
    losses: u8,
    /// What collectors condemn, where it is not any set of packs.
    condemned: Option<Set>,
    pub(super) flaw: Option<Flaw>,
}

impl Scenario {
    /// The same with one step taken wrong.
    pub(super) fn with(self, flaw: Flaw) -> Self {
        Self { flaw: Some(flaw), ..self }
    }

    /// Returns the sets of packs that a collector may condemn.
    pub(super) fn condemnable(&self, packs: Set) -> Vec<Set> {
        match self.condemned {
            Some(condemned) => vec![condemned.and(packs)],
            None => packs.parts().chain([Set::EMPTY]).collect(),
        }
    }

    pub(super) fn begin(&self) -> World {
        let (mut store, mut contents) = (Store::default(), Contents::default());
        for (pack, (content, session)) in (0..).zip(&self.packs) {
            contents.0.insert(pack, *content);
            store.packs = store.packs.with(pack);
            store.sessions = store.sessions.with(*session);
            let named = store.index.entry(*session).or_default();
            *named = named.with(pack);
        }
        for (session, chunks) in &self.snapshots {
            store.snapshots.insert(*session, Decision::Commit(*chunks));
        }
        let first = u8::try_from(self.packs.len()).unwrap_or(u8::MAX);
        let writer = |(number, plan): (Pack, &Plan)| Writer {
            plan: *plan,
            session: first + number,
            pack: first + number,
            step: WriterStep::Open,
        };
        let collector =
            |number: u8| Collector { step: CollectorStep::Begin, runs: self.runs, session: 20 + number };
        let marker = |(wish, snapshot): &(Wish, Session)| Marker {
            wish: *wish,
            snapshot: *snapshot,
            step: MarkerStep::Look,
        };
        World {
            store,
            contents,
            writers: (0..).zip(&self.writers).map(writer).collect(),
            markers: self.markers.iter().map(marker).collect(),
            collectors: (0..).map(collector).take(self.collectors).collect(),
            deaths: self.deaths,
            losses: self.losses,
        }
    }
}

const A: u8 = 0;
const B: u8 = 1;
const C: u8 = 2;

fn set<const N: usize>(items: [u8; N]) -> Set {
    Set::of(items)
}

fn plain<const N: usize>(chunks: [u8; N]) -> Content {
    Content { chunks: set(chunks), bases: Set::EMPTY }
}

fn backup<const N: usize>(chunks: [u8; N]) -> Plan {
    Plan::Backup { chunks: set(chunks), bases: Set::EMPTY }
}

pub(super) fn all() -> Vec<Scenario> {
    let one = Scenario { collectors: 1, runs: 1, ..Scenario::default() };
    vec![
        Scenario {
            name: "writers use what is forgotten meanwhile",
            shows: &[
                Flaw::OpensAfterListing,
                Flaw::ReliesOnCondemned,
                Flaw::ReliesOnDead,
                Flaw::CommitsOverTombstone,
                Flaw::TakesTombstoneForCommit,
                Flaw::WaitsForNobody,
                Flaw::LeavesNoTombstone,
                Flaw::ListsSessionsTooEarly,
                Flaw::MarksOnce,
                Flaw::TakesErrorForEmpty,
                Flaw::DropsFinal,
                Flaw::DropsTombstones,
            ],
            packs: vec![(plain([A, B]), 0)],
            snapshots: vec![(0, set([A, B]))],
            markers: vec![(Wish::Forget, 0)],
            writers: vec![backup([A, C]), backup([A])],
            deaths: 1,
            losses: 1,
            ..one.clone()
        },
        Scenario {
            name: "writers go on where another one died",
            shows: &[Flaw::ReliesOnOthersDead, Flaw::DropsFinalOfNamed],
            packs: vec![(plain([A]), 0)],
            writers: vec![backup([A, B]), backup([B])],
            deaths: 1,
            runs: 2,
            ..one.clone()
        },
        Scenario {
            name: "two collectors, and a chunk in two packs",
            shows: &[Flaw::OverrulesFinal],
            packs: vec![(plain([A]), 0), (plain([A, B]), 1)],
            snapshots: vec![(0, set([A])), (1, set([B]))],
            markers: vec![(Wish::Forget, 1)],
            collectors: 2,
            runs: 2,
            ..one.clone()
        },
        Scenario {
            name: "two collectors and a writer",
            packs: vec![(plain([A]), 0), (plain([A, B]), 1)],
            snapshots: vec![(0, set([A]))],
            markers: vec![(Wish::Forget, 0)],
            writers: vec![backup([A, B])],
            collectors: 2,
            ..one.clone()
        },
        Scenario {
            name: "index objects that name several packs",
            shows: &[Flaw::SupersedesFirst],
            packs: vec![(plain([A]), 0), (plain([B]), 0), (plain([A, C]), 1)],
            snapshots: vec![(0, set([B])), (1, set([C]))],
            markers: vec![(Wish::Forget, 1)],
            writers: vec![backup([A, B])],
            ..one.clone()
        },
        Scenario {
            name: "differences",
            shows: &[Flaw::StandsOnUnusable, Flaw::ForgetsBases],
            packs: vec![(plain([A]), 0), (Content { chunks: set([B]), bases: set([A]) }, 1)],
            snapshots: vec![(0, set([A])), (1, set([B]))],
            markers: vec![(Wish::Forget, 0), (Wish::Forget, 1)],
            writers: vec![
                Plan::Backup { chunks: set([C]), bases: set([B]) },
                Plan::Backup { chunks: set([A]), bases: set([B]) },
            ],
            ..one.clone()
        },
        Scenario {
            name: "a snapshot is forgotten and brought back",
            shows: &[Flaw::UndoesUnchecked],
            packs: vec![(plain([A]), 0)],
            snapshots: vec![(0, set([A]))],
            markers: vec![(Wish::Forget, 0)],
            writers: vec![Plan::Undo { chunks: set([A]) }, Plan::Undo { chunks: set([A]) }],
            runs: 2,
            deaths: 1,
            ..one.clone()
        },
        Scenario {
            name: "repacking",
            packs: vec![(plain([A, B]), 0)],
            snapshots: vec![(0, set([A]))],
            writers: vec![Plan::Repack { chunks: set([A]) }, backup([A])],
            collectors: 2,
            ..one.clone()
        },
        Scenario {
            name: "a snapshot is forgotten and protected at once",
            shows: &[Flaw::ProtectsForgotten, Flaw::ProtectsUnchecked, Flaw::DropsFinalFirst],
            packs: vec![(plain([A]), 0), (plain([B]), 1)],
            snapshots: vec![(0, set([A])), (1, set([B]))],
            markers: vec![(Wish::Forget, 0), (Wish::Protect, 0), (Wish::Forget, 1)],
            runs: 3,
            deaths: 1,
            ..one.clone()
        },
        Scenario {
            name: "a new snapshot is forgotten before its session heard of it",
            shows: &[Flaw::DropsWhatMarksSay],
            writers: vec![backup([A]), backup([A])],
            markers: vec![(Wish::Forget, 0)],
            losses: 1,
            runs: 2,
            ..one.clone()
        },
        Scenario {
            name: "a fenced session names its packs late",
            shows: &[Flaw::SharesReplacement],
            packs: vec![(plain([A]), 0), (plain([B]), 0)],
            snapshots: vec![(0, set([B]))],
            writers: vec![backup([C, METADATA]), backup([METADATA])],
            collectors: 2,
            // The first pack that is there, and the first of the first writer.
            condemned: Some(set([0, 2])),
            ..one
        },
    ]
}
