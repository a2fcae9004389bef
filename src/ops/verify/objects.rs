//! Verifies the small objects: config, key slots, index objects, snapshots, marks and collections. Each is opened.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::report::DamageId;
use super::{Run, VerifyError, add};
use crate::crypto::secrets::Writer;
use crate::format::FormatError;
use crate::format::collection::Collection;
use crate::format::config::Config;
use crate::format::index_object::IndexObject;
use crate::format::keys::KeySlot;
use crate::format::snapshot::{Manifest, Mark, MarkState, Marks, SessionMark, SnapshotObject};
use crate::id::{SlotId, SnapshotId};
use crate::progress::{Event, error_chain};
use crate::repo::index_objects::not_its_own;
use crate::repo::slots::SLOT_COPIES;
use crate::repo::{RepoError, parallel};
use crate::store::key::{ObjectKey, Prefix};
use crate::store::{ObjectInfo, StoreErrorKind};

const PREFIXES: [Prefix; 7] = [
    Prefix::Config,
    Prefix::Keys,
    Prefix::Index,
    Prefix::Sessions,
    Prefix::Snapshots,
    Prefix::Marks,
    Prefix::Gc,
];

/// What was opened and is needed later.
#[derive(Default)]
struct Opened {
    manifests: Mutex<BTreeMap<SnapshotId, Manifest>>,
    marks: Mutex<BTreeMap<SnapshotId, BTreeMap<u32, MarkState>>>,
    slots: Mutex<BTreeMap<SlotId, BTreeMap<u8, KeySlot>>>,
}

/// Verifies all small objects; returns the manifests of the snapshots that are not forgotten, oldest first.
pub(super) fn verify(run: &Run<'_>) -> Result<Vec<Manifest>, VerifyError> {
    let mut listed = Vec::new();
    for prefix in PREFIXES {
        run.repo.store().list(prefix, &mut |object| listed.push(object)).map_err(RepoError::from)?;
    }
    let opened = Opened::default();
    let threads = run.threads.max(run.repo.store().requests_at_once());
    parallel::each(threads, listed, |object| verify_object(run, &opened, &object))?;
    compare_slots(run, opened.slots.into_inner().unwrap_or_else(PoisonError::into_inner));
    let marks = opened.marks.into_inner().unwrap_or_else(PoisonError::into_inner);
    let is_forgotten = |id: &SnapshotId| {
        let states = marks.get(id).into_iter().flat_map(BTreeMap::values);
        states.copied().collect::<Marks>().is_forgotten()
    };
    let manifests = opened.manifests.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(manifests.into_iter().filter(|(id, _)| !is_forgotten(id)).map(|(_, manifest)| manifest).collect())
}

fn verify_object(run: &Run<'_>, opened: &Opened, object: &ObjectInfo) -> Result<(), RepoError> {
    let key = &object.key;
    let Some(length) = object.size(run.repo.store()).map_err(RepoError::from)? else { return Ok(()) };
    add(&run.counts.objects, 1);
    let snapshot = key.as_snapshot();
    if length > most_bytes(key) {
        let what = format!("it is {length} bytes long, more than such an object can be");
        lost(run, snapshot, run.report.damage(key.as_str(), what));
        return Ok(());
    }
    let bytes = match run.repo.store().get(key, None).map_err(RepoError::from) {
        Ok(bytes) => bytes,
        // A collector has deleted it since it was listed.
        Err(RepoError::Store(error)) if error.kind() == StoreErrorKind::NotFound && may_go(key) => {
            return Ok(());
        }
        Err(error) if error.is_damage() => {
            lost(run, snapshot, run.report.damage(key.as_str(), error_chain(&error)));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    add(&run.counts.bytes_read, bytes.len() as u64);
    match open(run, opened, key, &bytes) {
        Ok(Known::Yes) => {}
        Ok(Known::Index(writer, object)) => {
            if let Some(pack) = run.repo.false_claims(&writer, &object)?.first() {
                run.report.damage(key.as_str(), not_its_own(pack).to_string());
            }
        }
        Ok(Known::No) => {
            run.progress.event(Event::Warning(&format!("{key} is nothing that this version knows")));
        }
        Err(error) => lost(run, snapshot, run.report.damage(key.as_str(), error_chain(&error))),
    }
    Ok(())
}

fn lost(run: &Run<'_>, snapshot: Option<SnapshotId>, damage: DamageId) {
    if let Some(snapshot) = snapshot {
        run.report.loses(damage, snapshot);
    }
}

fn most_bytes(key: &ObjectKey) -> u64 {
    match key {
        key if key.as_index().is_some() => IndexObject::MAX_BYTES,
        key if key.as_gc().is_some() => Collection::MAX_BYTES,
        _ => SnapshotObject::MAX_BYTES,
    }
}

/// Tells whether collectors delete objects of this kind.
fn may_go(key: &ObjectKey) -> bool {
    !key.has_prefix(Prefix::Config) && !key.has_prefix(Prefix::Keys)
}

/// Whether an object is of a kind that this version knows.
enum Known {
    Yes,
    /// An index object, of which more can be said with the packs that it lists.
    Index(Writer, Box<IndexObject>),
    No,
}

fn open(run: &Run<'_>, opened: &Opened, key: &ObjectKey, bytes: &[u8]) -> Result<Known, FormatError> {
    let keys = run.repo.keys();
    if key.as_config().is_some() {
        let config = Config::open(keys, bytes)?;
        if config.store != run.repo.config().store {
            return Err(FormatError::malformed("the config object", "it is of another store"));
        }
    } else if let Some((slot, copy)) = key.as_key_slot() {
        let decoded = KeySlot::decode(bytes)?;
        if decoded.id != slot || decoded.domain != keys.domain() {
            return Err(FormatError::malformed("the key slot", "it belongs elsewhere"));
        }
        let mut slots = opened.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry(slot).or_default().insert(copy, decoded);
    } else if key.as_index().is_some() {
        let (writer, object) = IndexObject::open(keys, key.as_str(), bytes)?;
        return Ok(Known::Index(writer, Box::new(object)));
    } else if let Some((session, number)) = key.as_session() {
        SessionMark::open(session, number, keys, bytes)?;
    } else if let Some(id) = key.as_snapshot() {
        if let (_, SnapshotObject::Manifest(manifest)) = SnapshotObject::open(id, keys, bytes)? {
            opened.manifests.lock().unwrap_or_else(PoisonError::into_inner).insert(id, *manifest);
        }
    } else if let Some((snapshot, number)) = key.as_mark() {
        let (_, mark) = Mark::open(snapshot, number, keys, bytes)?;
        let mut marks = opened.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.entry(snapshot).or_default().insert(number, mark.state);
    } else if let Some((number, stage)) = key.as_gc() {
        Collection::open(run.repo.config().store, number, stage, keys, bytes)?;
    } else {
        return Ok(Known::No);
    }
    Ok(Known::Yes)
}

/// A slot must have both its copies, and they must be the same: with one left, the next damage locks people out.
fn compare_slots(run: &Run<'_>, slots: BTreeMap<SlotId, BTreeMap<u8, KeySlot>>) {
    for (slot, copies) in slots {
        let first = copies.values().next();
        for copy in 0..SLOT_COPIES {
            let key = ObjectKey::key_slot(slot, copy);
            match copies.get(&copy) {
                Some(found) if Some(found) == first => {}
                Some(_) => {
                    run.report.damage(key.as_str(), "it differs from its other copy");
                }
                None => {
                    run.report.damage(key.as_str(), "this copy of the key slot is missing or damaged");
                }
            }
        }
    }
}
