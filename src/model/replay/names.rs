//! The small numbers that the model has for what the real store calls by ids.

use std::collections::{BTreeMap, HashMap};

use super::record::{Event, What};
use crate::crypto::hash::ChunkKind;
use crate::crypto::secrets::DomainKeys;
use crate::format::header::ObjectKind;
use crate::format::index_object::IndexObject;
use crate::id::{ChunkId, PackId, SessionId};
use crate::model::set::Set;
use crate::model::store::{Pack, Session};
use crate::model::writer::METADATA;
use crate::store::key::ObjectKey;

/// Numbers for sessions, packs and chunks, in the order in which they came.
#[derive(Default)]
pub(super) struct Names {
    sessions: HashMap<SessionId, Session>,
    packs: HashMap<PackId, Pack>,
    chunks: HashMap<ChunkId, u8>,
    /// What each pack holds.
    contents: BTreeMap<Pack, Set>,
    /// The packs that each index object names.
    named: HashMap<ObjectKey, Set>,
}

impl Names {
    /// Gives a number to everything that occurs in a record.
    pub(super) fn of(events: &[Event], keys: &DomainKeys) -> Self {
        let mut names = Self::default();
        for event in events {
            let What::Created(key, bytes) = &event.what else { continue };
            if let Some((session, 0)) = key.as_session() {
                let number = u8::try_from(names.sessions.len()).unwrap();
                assert!(number < METADATA, "the model has no more numbers");
                names.sessions.insert(session, number);
            } else if let Some((session, _)) = key.as_index() {
                names.index_object(key, session, &IndexObject::open(keys, key.as_str(), bytes).unwrap().1);
            }
        }
        names
    }

    fn index_object(&mut self, key: &ObjectKey, session: SessionId, object: &IndexObject) {
        let mut named = Set::EMPTY;
        for pack in &object.packs {
            let number = match (self.packs.get(&pack.id), self.sessions.get(&session)) {
                (Some(known), _) => *known,
                (None, Some(session)) if pack.kind == ObjectKind::DataPack => *session,
                (None, Some(session)) => session + METADATA,
                (None, None) => panic!("{key} names a pack that nobody wrote"),
            };
            self.packs.insert(pack.id, number);
            named = named.with(number);
            let chunks = pack.directory.frames.iter().flat_map(|frame| &frame.chunks);
            let chunks = Set::of(chunks.map(|chunk| self.number_chunk(chunk.kind, chunk.id)));
            self.contents.insert(number, chunks);
        }
        self.named.insert(key.clone(), named);
    }

    fn number_chunk(&mut self, kind: ChunkKind, id: ChunkId) -> u8 {
        let first = if kind == ChunkKind::Data { 0 } else { METADATA };
        let range = first..first + METADATA;
        let used = self.chunks.values().filter(|number| range.contains(*number)).count();
        let next = first + u8::try_from(used).unwrap();
        let number = *self.chunks.entry(id).or_insert(next);
        assert!(range.contains(&number), "the model has no more numbers");
        number
    }

    pub(super) fn session(&self, id: SessionId) -> Option<Session> {
        self.sessions.get(&id).copied()
    }

    pub(super) fn pack(&self, key: &ObjectKey) -> Pack {
        self.packs[&key.as_pack().unwrap()]
    }

    pub(super) fn packs(&self, ids: &[PackId]) -> Set {
        Set::of(ids.iter().map(|id| self.packs[id]))
    }

    pub(super) fn chunks(&self, ids: &[ChunkId]) -> Set {
        Set::of(ids.iter().map(|id| self.chunks[id]))
    }

    /// Returns the packs that an index object names.
    pub(super) fn named(&self, key: &ObjectKey) -> Set {
        self.named[key]
    }

    /// Returns what a pack holds; nothing if there was none of this number.
    pub(super) fn content(&self, pack: Pack) -> Option<Set> {
        self.contents.get(&pack).copied()
    }
}
