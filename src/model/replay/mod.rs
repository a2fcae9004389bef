//! Replays what the real code did to a store as steps of the model.
//!
//! Sessions, markers and collectors of the real code work on a store that writes down each listing, creation and deletion
//! ([`record`]). Each of these is then taken as the step that the model has for it, or as a part of one; after each, the
//! store of the model must hold what the real one held, and what the model promises must be true of it. So the code
//! takes the steps in the order of the model, and decides what the model decides.
//!
//! Two things of the real code are no steps of the model, and do no harm there: the first mark of a collector, which only
//! guesses what to condemn; and a session that leaves a tombstone of its own where it gives up, which is as if a collector
//! had fenced it. What is kept for 30 days is kept: nobody replays for so long.

mod names;
mod record;
mod traces;

use std::collections::{BTreeMap, HashMap};

use super::World;
use super::collector::{self, Collector, CollectorStep, Expiry};
use super::marker::{Marker, MarkerStep, Wish};
use super::properties;
use super::set::Set;
use super::store::{Collection, Contents, Decision, Session, Store, Verdict};
use super::writer::{self, Plan, Writer, WriterStep};
use crate::crypto::secrets::DomainKeys;
use crate::format::collection::{self, Stage};
use crate::format::snapshot::{Mark, MarkState, SnapshotObject};
use crate::id::{ChunkId, SessionId, StoreId};
use crate::store::key::{ObjectKey, Prefix};
use names::Names;
use record::{Actor, Event, What};

/// What is known of a record besides what it says.
struct Known<'a> {
    keys: &'a DomainKeys,
    store: StoreId,
    /// Who collects.
    collectors: &'a [Actor],
    /// The chunks that each snapshot needs, by its session, and whether it brings back another one.
    snapshots: &'a HashMap<SessionId, (Vec<ChunkId>, Purpose)>,
}

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Backup,
    Undo,
}

/// A replay, as far as it came.
struct Replay<'a> {
    known: &'a Known<'a>,
    names: Names,
    world: World,
    /// What the real store holds, in the words of the model.
    real: Store,
    /// The session that an actor has open, and the collector that it is.
    sessions: HashMap<Actor, Session>,
    collectors: HashMap<Actor, usize>,
    /// The numbers that the model has for index objects of collectors.
    replacements: HashMap<ObjectKey, Session>,
}

/// Replays a record; returns how many events were steps of the model.
fn replay(events: &[Event], known: &Known<'_>) -> usize {
    let collector = |number: u8| Collector { step: CollectorStep::Begin, runs: 1, session: 20 + number };
    let world = World {
        store: Store::default(),
        contents: Contents::default(),
        writers: Vec::new(),
        markers: Vec::new(),
        collectors: (0..).map(collector).take(2 * known.collectors.len()).collect(),
        deaths: 0,
        losses: 0,
    };
    let mut replay = Replay {
        known,
        names: Names::of(events, known.keys),
        world,
        real: Store::default(),
        sessions: HashMap::new(),
        // Every second one prefers the newest home of a chunk. That is where the real one writes anew what is needed, and it
        // prefers what stays.
        collectors: known.collectors.iter().copied().zip((1..).step_by(2)).collect(),
        replacements: HashMap::new(),
    };
    let mut steps = 0;
    for event in events {
        let before = replay.world.clone();
        replay.event(event);
        steps += usize::from(replay.world != before);
        if replay.is_between_steps() {
            assert_eq!(replay.world.store, replay.comparable(), "after {}", event.what);
        }
        assert!(properties::snapshots_are_whole(&replay.world), "after {}", event.what);
        assert!(properties::acknowledged_is_there(&replay.world), "after {}", event.what);
    }
    steps
}

impl Replay<'_> {
    fn event(&mut self, event: &Event) {
        match &event.what {
            What::Listed(prefix) => self.listed(event.actor, *prefix),
            What::Created(key, bytes) => self.created(event.actor, key, bytes),
            What::Refused(key) => self.refused(event.actor, key),
            What::Deleted(key) => self.deleted(event.actor, key),
            What::Ended => self.ended(event.actor),
        }
    }

    fn listed(&mut self, actor: Actor, prefix: Prefix) {
        if let Some(session) = self.sessions.get(&actor).copied() {
            let awaited = match self.writer(session).step {
                WriterStep::ListGc => Some(Prefix::Gc),
                WriterStep::ListIndex { .. } => Some(Prefix::Index),
                _ => None,
            };
            if awaited == Some(prefix) {
                self.write(session);
            }
            return;
        }
        let Some(number) = self.collectors.get(&actor).copied() else { return };
        match (&self.world.collectors[number].step, prefix) {
            // Before it has condemned anything it may look as often as it likes: the last look counts.
            (CollectorStep::Begin | CollectorStep::Condemn { .. } | CollectorStep::Expire(_), Prefix::Gc) => {
                self.world.collectors[number].step = CollectorStep::Begin;
                self.collect(number);
            }
            (CollectorStep::ListSessions { .. }, Prefix::Sessions) => self.collect(number),
            (CollectorStep::Settle { open, .. }, Prefix::Marks) => {
                for session in open.iter() {
                    assert!(
                        self.real.snapshots.contains_key(&session),
                        "it did not wait for session {session}"
                    );
                    collector::settle(&mut self.world, number, session, None);
                }
                self.collect(number);
                self.collect(number);
            }
            (CollectorStep::Mark { heard, .. }, prefix) if heard.awaits() == prefix => self.collect(number),
            (CollectorStep::ListIndex { .. }, Prefix::Index) => {
                self.collect(number);
                self.skip_what_does_nothing(number);
            }
            _ => {}
        }
    }

    fn created(&mut self, actor: Actor, key: &ObjectKey, bytes: &[u8]) {
        if let Some((id, 0)) = key.as_session() {
            self.opened(actor, id);
        } else if key.as_pack().is_some() {
            self.real.packs = self.real.packs.with(self.names.pack(key));
        } else if let Some((id, _)) = key.as_index() {
            self.index_put(actor, key, self.names.session(id));
        } else if let Some(id) = key.as_snapshot() {
            let (_, object) = SnapshotObject::open(id, self.known.keys, bytes).unwrap();
            self.decided(actor, id, &object);
        } else if let Some((id, number)) = key.as_mark() {
            let (_, mark) = Mark::open(id, number, self.known.keys, bytes).unwrap();
            self.marked(id, mark.state);
        } else if let Some((number, stage)) = key.as_gc() {
            let (keys, store) = (self.known.keys, self.known.store);
            let said = collection::Collection::open(store, number, stage, keys, bytes).unwrap();
            self.collection_put(actor, &said);
        }
    }

    fn opened(&mut self, actor: Actor, id: SessionId) {
        let session = self.names.session(id).unwrap();
        let plan = match self.known.snapshots.get(&id) {
            Some((chunks, Purpose::Backup)) => {
                Plan::Backup { chunks: self.names.chunks(chunks), bases: Set::EMPTY }
            }
            Some((chunks, Purpose::Undo)) => Plan::Undo { chunks: self.names.chunks(chunks) },
            None => Plan::Repack { chunks: self.written_by(session) },
        };
        assert_eq!(usize::from(session), self.world.writers.len());
        self.world.writers.push(Writer { plan, session, pack: session, step: WriterStep::Open });
        self.sessions.insert(actor, session);
        self.real.sessions = self.real.sessions.with(session);
        self.write(session);
    }

    /// Returns the chunks in the packs of a session.
    fn written_by(&self, session: Session) -> Set {
        let packs = [session, session + writer::METADATA];
        packs.into_iter().filter_map(|pack| self.names.content(pack)).fold(Set::EMPTY, Set::or)
    }

    fn index_put(&mut self, actor: Actor, key: &ObjectKey, session: Option<Session>) {
        let named = self.names.named(key);
        let Some(session) = session else {
            let number = self.collectors[&actor];
            let replacement = self.world.collectors[number].session;
            self.replacements.insert(key.clone(), replacement);
            self.real.index.insert(replacement, named);
            return self.collect(number);
        };
        self.real.index.insert(session, named);
        // Its packs, which are one step.
        self.write(session);
        for pack in named.iter() {
            let content = self.world.contents.0.get(&pack).map(|content| content.chunks);
            assert_eq!(content, self.names.content(pack), "pack {pack} holds something else");
        }
        self.write(session);
    }

    fn decided(&mut self, actor: Actor, id: SessionId, object: &SnapshotObject) {
        let session = self.names.session(id).unwrap();
        let decision = match object {
            SnapshotObject::Manifest(_) => Decision::Commit(self.names.chunks(&self.known.snapshots[&id].0)),
            SnapshotObject::Tombstone { .. } => Decision::Tombstone,
        };
        self.real.snapshots.insert(session, decision);
        if self.sessions.get(&actor) != Some(&session) {
            return self.settled(actor, session);
        }
        self.sessions.remove(&actor);
        if let WriterStep::PutPacks { .. } = self.writer(session).step {
            // It had nothing to write.
            self.write(session);
        }
        match (self.writer(session).plan, decision) {
            (Plan::Backup { .. } | Plan::Undo { .. }, Decision::Tombstone) => {
                self.world.writers[usize::from(session)].step = WriterStep::Failed;
                self.world.store.snapshots.entry(session).or_insert(Decision::Tombstone);
            }
            _ => self.write(session),
        }
    }

    /// A collector found a session decided, or has fenced it.
    fn settled(&mut self, actor: Actor, session: Session) {
        let number = self.collectors[&actor];
        collector::settle(&mut self.world, number, session, None);
    }

    fn refused(&mut self, actor: Actor, key: &ObjectKey) {
        let Some(session) = key.as_snapshot().and_then(|id| self.names.session(id)) else { return };
        if self.sessions.get(&actor) != Some(&session) {
            return self.settled(actor, session);
        }
        self.sessions.remove(&actor);
        if let WriterStep::PutPacks { .. } = self.writer(session).step {
            self.write(session);
        }
        self.write(session);
        assert_eq!(self.writer(session).step, WriterStep::Failed, "it was fenced");
    }

    fn marked(&mut self, id: SessionId, state: MarkState) {
        let session = self.names.session(id).unwrap();
        for marks in [&mut self.real.marks, &mut self.world.store.marks] {
            match state {
                MarkState::Forgotten => marks.forgotten = marks.forgotten.with(session),
                MarkState::Protected => marks.protected = marks.protected.with(session),
                _ => panic!("the model has no such mark"),
            }
        }
        let wish = if state == MarkState::Forgotten { Wish::Forget } else { Wish::Protect };
        self.world.markers.push(Marker { wish, snapshot: session, step: MarkerStep::Done });
    }

    fn collection_put(&mut self, actor: Actor, said: &collection::Collection) {
        let number = u8::try_from(said.number).unwrap();
        let packs = self.names.packs(&said.packs);
        let collector = self.collectors[&actor];
        match said.stage {
            Stage::Condemned => {
                self.real.gc.insert(number, Collection { condemned: packs, verdict: None, is_done: false });
                collector::condemn(&mut self.world, collector, packs);
            }
            Stage::Final => {
                let snapshots = said.snapshots.iter().map(|id| self.names.session(*id).unwrap());
                let verdict = Verdict { packs, snapshots: Set::of(snapshots) };
                self.real.gc.get_mut(&number).unwrap().verdict = Some(verdict);
                self.collect(collector);
            }
        }
    }

    fn deleted(&mut self, actor: Actor, key: &ObjectKey) {
        if [Prefix::Sessions, Prefix::Snapshots, Prefix::Marks].iter().any(|prefix| key.has_prefix(*prefix)) {
            self.world.collectors[self.collectors[&actor]].step = CollectorStep::Expire(Expiry::Begin);
        }
        let real = &mut self.real;
        if key.as_pack().is_some() {
            real.packs = real.packs.without(Set::of([self.names.pack(key)]));
        } else if let Some((id, _)) = key.as_session() {
            real.sessions = real.sessions.without(Set::of(self.names.session(id)));
        } else if let Some(id) = key.as_snapshot() {
            real.snapshots.remove(&self.names.session(id).unwrap());
        } else if let Some((id, _)) = key.as_mark() {
            let gone = Set::of(self.names.session(id));
            real.marks.forgotten = real.marks.forgotten.without(gone);
            real.marks.protected = real.marks.protected.without(gone);
        } else if let Some((id, _)) = key.as_index() {
            let session = self.replacements.get(key).copied().or(self.names.session(id)).unwrap();
            real.index.remove(&session);
            self.collect(self.collectors[&actor]);
        } else if let Some((number, Stage::Condemned)) = key.as_gc() {
            let collector = self.collectors[&actor];
            real.gc.get_mut(&u8::try_from(number).unwrap()).unwrap().is_done = true;
            self.skip_what_does_nothing(collector);
            while !matches!(self.world.collectors[collector].step, CollectorStep::Expire(_)) {
                self.collect(collector);
            }
        }
    }

    /// A collector is done: what it expired is one step after the other.
    fn ended(&mut self, actor: Actor) {
        let number = self.collectors[&actor];
        let tombstones: BTreeMap<_, _> = self.world.store.snapshots.clone();
        let tombstones = tombstones.into_iter().filter(|(_, decision)| *decision == Decision::Tombstone);
        let finals = self.world.store.gc.clone();
        if !matches!(self.world.collectors[number].step, CollectorStep::Settle { .. }) {
            self.world.collectors[number].step = CollectorStep::Expire(Expiry::Begin);
            while matches!(self.world.collectors[number].step, CollectorStep::Expire(_)) {
                self.collect(number);
            }
        }
        // Thirty days are not over.
        self.world.store.snapshots.extend(tombstones);
        self.world.store.gc = finals;
        self.world.collectors[number].step = CollectorStep::Begin;
    }

    /// Takes the steps of a collector in which it changes nothing.
    fn skip_what_does_nothing(&mut self, number: usize) {
        loop {
            match &self.world.collectors[number].step {
                CollectorStep::Replace { rest, .. } if rest.is_empty() => self.collect(number),
                CollectorStep::Supersede { old, .. } if old.is_empty() => self.collect(number),
                _ => return,
            }
        }
    }

    /// Tells whether all that was done belongs to steps that are over.
    fn is_between_steps(&self) -> bool {
        let in_the_middle = |collector: &Collector| {
            matches!(
                collector.step,
                CollectorStep::Supersede { .. }
                    | CollectorStep::DeletePacks { .. }
                    | CollectorStep::Expire(_)
            )
        };
        let puts_packs = |writer: &Writer| matches!(writer.step, WriterStep::PutPacks { .. });
        !self.world.collectors.iter().any(in_the_middle) && !self.world.writers.iter().any(puts_packs)
    }

    /// Returns what the real store holds, with what the model remembers of collections that are done.
    fn comparable(&self) -> Store {
        let mut real = self.real.clone();
        for (number, collection) in &mut real.gc {
            if let Some(remembered) = self.world.store.gc.get(number).filter(|_| collection.is_done) {
                collection.condemned = remembered.condemned;
            }
        }
        real
    }

    fn writer(&self, session: Session) -> &Writer {
        &self.world.writers[usize::from(session)]
    }

    fn write(&mut self, session: Session) {
        writer::advance(&mut self.world, usize::from(session), None);
    }

    fn collect(&mut self, number: usize) {
        collector::advance(&mut self.world, number, None);
    }
}
