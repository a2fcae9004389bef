//! A model of the protocol by which sessions commit and collectors delete, checked by `stateright`.
//!
//! It has the objects of a store ([`store`]), sessions that write ([`writer`]), people who forget and protect
//! ([`marker`]) and collectors ([`collector`]). Each step lists one kind of objects, or creates or deletes some;
//! between two steps anything may happen, and writers and collectors may die after it. These are taken as one step,
//! though they are several: a marker's look at three kinds, the listing of sessions and of what decides them, the packs
//! that are put or deleted together, and the snapshots, the marks and the `.final` objects that expire together.
//! Whether a writer is slow or dead is nobody's knowledge, so a tombstone may come at any time. Time is left out but
//! for this: what is kept for 30 days is kept until nobody sleeps who began before.
//!
//! What shall hold is in [`properties`]; [`flaw::Flaw`] lists what makes it fail, and [`scenarios`] what it begins
//! with. [`replay`] holds the real code to it.

mod collector;
mod flaw;
mod marker;
mod properties;
mod replay;
mod scenarios;
mod set;
mod store;
mod writer;

use stateright::{Checker, HasDiscoveries, Model, Property};

use collector::{COLLECTORS_MAX, Collector, CollectorStep};
use flaw::Flaw;
use marker::Marker;
use scenarios::Scenario;
use set::Set;
use store::{Contents, Session, Store};
use writer::{Writer, WriterStep};

/// All there is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    store: Store,
    contents: Contents,
    writers: Vec<Writer>,
    markers: Vec<Marker>,
    collectors: Vec<Collector>,
    /// How many may still die.
    deaths: u8,
    /// Answers to commits that may still be lost.
    losses: u8,
}

/// What may happen next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Action {
    Write(usize),
    /// A commit whose answer is lost.
    CommitUnheard(usize),
    WriterDies(usize),
    Mark(usize),
    Collect(usize),
    Condemn(usize, Set),
    Settle(usize, Session),
    /// It begins anew: any collector may go on with what another one left.
    CollectorDies(usize),
}

impl Model for Scenario {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![self.begin()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for (number, writer) in world.writers.iter().enumerate().filter(|(_, writer)| !writer.has_ended()) {
            actions.push(Action::Write(number));
            if writer.step == WriterStep::Commit && world.losses > 0 {
                actions.push(Action::CommitUnheard(number));
            }
            if writer.has_begun() && world.deaths > 0 {
                actions.push(Action::WriterDies(number));
            }
        }
        let markers = world.markers.iter().enumerate().filter(|(_, marker)| marker.can_act(world));
        actions.extend(markers.map(|(number, _)| Action::Mark(number)));
        for (number, collector) in world.collectors.iter().enumerate() {
            match &collector.step {
                CollectorStep::Rest => continue,
                CollectorStep::Condemn { .. } => {
                    let sets = self.condemnable(world.store.packs).into_iter();
                    actions.extend(sets.map(|packs| Action::Condemn(number, packs)));
                }
                CollectorStep::Settle { open, .. } if !open.is_empty() => {
                    actions.extend(open.iter().map(|session| Action::Settle(number, session)));
                }
                _ => actions.push(Action::Collect(number)),
            }
            if collector.step != CollectorStep::Begin && world.deaths > 0 {
                actions.push(Action::CollectorDies(number));
            }
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::Write(number) => writer::advance(&mut world, number, self.flaw),
            Action::CommitUnheard(number) => {
                writer::advance(&mut world, number, self.flaw);
                world.writers[number].step = WriterStep::ReadBack;
                world.losses -= 1;
            }
            Action::WriterDies(number) => {
                world.writers[number].step = WriterStep::Failed;
                world.deaths -= 1;
            }
            Action::Mark(number) => marker::advance(&mut world, number, self.flaw),
            Action::Collect(number) => collector::advance(&mut world, number, self.flaw),
            Action::Condemn(number, packs) => collector::condemn(&mut world, number, packs),
            Action::Settle(number, session) => collector::settle(&mut world, number, session, self.flaw),
            Action::CollectorDies(number) => {
                world.collectors[number].step = CollectorStep::Begin;
                world.collectors[number].session += COLLECTORS_MAX;
                world.deaths -= 1;
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let safety = [
            Property::always("snapshots are whole", |_, world: &World| {
                properties::snapshots_are_whole(world)
            }),
            Property::always("what was acknowledged is there", |_, world: &World| {
                properties::acknowledged_is_there(world)
            }),
            Property::always("what was protected is there", |_, world: &World| {
                properties::protected_is_there(world)
            }),
        ];
        let others = [
            Property::always("a lone collector leaves no garbage", |_, world: &World| {
                properties::can_be_cleaned(world)
            }),
            Property::sometimes("something is deleted", |_, world: &World| {
                world.contents.0.keys().any(|pack| !world.store.packs.has(*pack))
            }),
        ];
        // A flaw is to be found by what it loses.
        safety.into_iter().chain(others.into_iter().filter(|_| self.flaw.is_none())).collect()
    }
}

mod tests {
    use std::io::Write;

    use super::*;

    const THREADS: usize = 2;

    #[test]
    fn nothing_is_lost_and_garbage_goes() {
        let mut states = 0;
        for scenario in scenarios::all() {
            let checker = scenario.clone().checker().threads(THREADS).spawn_bfs().join();
            println!("{}: {} states", scenario.name, checker.unique_state_count());
            checker.assert_properties();
            states += checker.unique_state_count();
        }
        // Past the test's own capture: a model that shrank to nothing would pass, too.
        let _ = writeln!(std::io::stderr(), "the model of the protocol holds in {states} states");
    }

    #[test]
    fn each_flaw_is_found() {
        let scenarios = scenarios::all();
        let missed: Vec<_> = Flaw::ALL.into_iter().filter(|flaw| !is_found(*flaw, &scenarios)).collect();
        assert!(missed.is_empty(), "these make no difference: {missed:?}");
    }

    fn is_found(flaw: Flaw, scenarios: &[Scenario]) -> bool {
        let scenario = scenarios.iter().find(|scenario| scenario.shows.contains(&flaw));
        let flawed = scenario.unwrap_or_else(|| panic!("no scenario shows {flaw:?}")).clone().with(flaw);
        let checker = flawed.clone().checker().threads(THREADS).finish_when(HasDiscoveries::AnyFailures);
        let discovery = checker.spawn_bfs().join().discoveries().into_iter().next();
        let Some((property, path)) = discovery else { return false };
        println!(
            "{flaw:?}: after {} steps of \"{}\" not: {property}",
            path.into_actions().len(),
            flawed.name
        );
        true
    }
}
