//! Reading ahead in the packs of a store over a network.
//!
//! Readers ask for a frame at a time. From a distant store each request takes long and costs money, so one request brings
//! what lies behind the frame as well: little at first, more the longer a pack is read in order, and the next part comes
//! while the last one is used. What was brought is kept within a bound. All else passes through as it is.
//!
//! A pack never changes, so what was brought stays right; it may be given for a while after the pack is gone.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crossbeam_channel::{Receiver, Sender};

use super::key::{ObjectKey, Prefix};
use super::traffic::Traffic;
use super::{Creation, ObjectInfo, ObjectStore, Payload, StoreError};

/// Bytes that the first request in a part of a pack brings, and the most that one does.
const WINDOW_MIN: u64 = 512 << 10;
const WINDOW_MAX: u64 = 4 << 20;
/// Of what lies between a part and a read behind it, so much is brought with what is read.
const GAP_MAX: u64 = 1 << 20;
/// Bytes that are kept.
const KEPT_BYTES: u64 = 32 << 20;
/// Threads that bring what comes next.
const THREADS: usize = 4;

/// A store whose packs are read ahead.
pub struct ReadAhead {
    shared: Arc<Shared>,
    /// Parts that are worth having soon.
    jobs: Sender<Part>,
}

struct Shared {
    inner: Arc<dyn ObjectStore>,
    state: Mutex<State>,
}

/// What is here or on its way.
#[derive(Default)]
struct State {
    packs: HashMap<ObjectKey, Pack>,
    kept_bytes: u64,
    /// Counts uses, so that what was not used for longest can go.
    clock: u64,
}

/// Parts of one pack that do not overlap.
#[derive(Default)]
struct Pack {
    parts: Vec<Part>,
    /// The length of the pack, once a request met its end.
    length: Option<u64>,
}

/// A part of a pack that is here or on its way.
#[derive(Clone)]
struct Part {
    key: ObjectKey,
    range: Range<u64>,
    used: u64,
    arrival: Arc<Arrival>,
}

/// Where those wait who want a part.
#[derive(Default)]
struct Arrival {
    state: Mutex<Arriving>,
    arrived: Condvar,
}

#[derive(Clone, Default)]
enum Arriving {
    #[default]
    Coming,
    Here(Arc<Vec<u8>>),
    /// Whoever wants it reads it for himself, and learns why it failed.
    Failed,
}

impl Arrival {
    fn settle(&self, outcome: Arriving) {
        *lock(&self.state) = outcome;
        self.arrived.notify_all();
    }

    fn wait(&self) -> Option<Arc<Vec<u8>>> {
        let state = lock(&self.state);
        let is_coming = |state: &mut Arriving| matches!(state, Arriving::Coming);
        match &*self.arrived.wait_while(state, is_coming).unwrap_or_else(PoisonError::into_inner) {
            Arriving::Here(bytes) => Some(Arc::clone(bytes)),
            Arriving::Coming | Arriving::Failed => None,
        }
    }

    fn is_settled(&self) -> bool {
        !matches!(*lock(&self.state), Arriving::Coming)
    }
}

/// How a read is answered.
struct Plan {
    /// The parts that hold the range between them, each with whether whoever asks has to bring it.
    parts: Vec<(Part, bool)>,
    /// What is worth bringing meanwhile.
    next: Option<Part>,
}

impl State {
    /// Finds the parts that hold a range, and books those that nobody has asked for yet.
    fn plan(&mut self, key: &ObjectKey, range: &Range<u64>) -> Plan {
        self.clock += 1;
        let clock = self.clock;
        let pack = self.packs.entry(key.clone()).or_default();
        let (mut parts, mut position) = (Vec::new(), range.start);
        while position < range.end {
            if let Some(part) = pack.parts.iter_mut().find(|part| part.range.contains(&position)) {
                part.used = clock;
                position = part.range.end;
                parts.push((part.clone(), false));
            } else {
                let part = pack.book(key, position, range.end, clock);
                position = part.range.end;
                parts.push((part, true));
            }
        }
        // The second half of the last part is being read: it is time for what comes behind.
        let next = match parts.last() {
            Some((last, false)) if range.end > last.range.start.midpoint(last.range.end) => {
                let behind = last.range.end;
                let is_known = pack.parts.iter().any(|part| part.range.start == behind);
                let is_there = pack.length.is_none_or(|length| behind < length);
                (is_there && !is_known).then(|| pack.book(key, behind, behind + 1, clock))
            }
            _ => None,
        };
        Plan { parts, next }
    }

    /// Forgets a part that is not to be kept.
    fn remove(&mut self, part: &Part) {
        let Some(pack) = self.packs.get_mut(&part.key) else { return };
        let before = pack.parts.len();
        pack.parts.retain(|other| !Arc::ptr_eq(&other.arrival, &part.arrival));
        if pack.parts.len() < before && part.arrival.is_settled() {
            self.kept_bytes = self.kept_bytes.saturating_sub(part.range.end - part.range.start);
        }
        if pack.parts.is_empty() {
            self.packs.remove(&part.key);
        }
    }

    /// Forgets what was not used for longest, until what is kept is within the bound.
    fn shrink(&mut self) {
        while self.kept_bytes > KEPT_BYTES {
            let settled =
                self.packs.values().flat_map(|pack| &pack.parts).filter(|part| part.arrival.is_settled());
            let Some(oldest) = settled.min_by_key(|part| part.used).cloned() else { return };
            self.remove(&oldest);
        }
    }
}

impl Pack {
    /// Books a part that holds `start`, which none does, and goes to `end` at least or to the next part.
    ///
    /// One that goes on behind another one is twice as long. Readers ahead of each other ask for what lies a little further
    /// on before the gap: it is brought with it.
    fn book(&mut self, key: &ObjectKey, start: u64, end: u64, clock: u64) -> Part {
        let before = self.parts.iter().map(|part| &part.range).filter(|range| range.end <= start);
        let before = before.max_by_key(|range| range.end).filter(|range| start - range.end <= GAP_MAX);
        let (start, window) = match before {
            Some(range) => (range.end, ((range.end - range.start) * 2).clamp(WINDOW_MIN, WINDOW_MAX)),
            None => (start, WINDOW_MIN),
        };
        let next = self.parts.iter().map(|part| part.range.start).filter(|next| *next > start).min();
        let wanted = end.max(start.saturating_add(window));
        // What the end of the pack cuts off is asked for all the same if somebody wants it: the store tells him.
        let wanted = self.length.map_or(wanted, |length| wanted.min(length.max(end)));
        let end = next.map_or(wanted, |next| wanted.min(next));
        let part = Part { key: key.clone(), range: start..end, used: clock, arrival: Arc::default() };
        self.parts.push(part.clone());
        part
    }
}

impl Shared {
    /// Brings a part that was booked.
    fn bring(&self, part: &Part) -> Result<(), StoreError> {
        let asked = part.range.end - part.range.start;
        match self.inner.get_within(&part.key, part.range.clone()) {
            Ok(bytes) => {
                let mut state = lock(&self.state);
                if let Some(pack) = state.packs.get_mut(&part.key)
                    && pack.parts.iter().any(|other| Arc::ptr_eq(&other.arrival, &part.arrival))
                {
                    if (bytes.len() as u64) < asked {
                        pack.length = Some(part.range.start + bytes.len() as u64);
                    }
                    state.kept_bytes += asked;
                }
                part.arrival.settle(Arriving::Here(Arc::new(bytes)));
                state.shrink();
                Ok(())
            }
            Err(error) => {
                lock(&self.state).remove(part);
                part.arrival.settle(Arriving::Failed);
                Err(error)
            }
        }
    }

    fn bring_ahead(&self, part: &Part) {
        if let Err(error) = self.bring(part) {
            tracing::debug!("cannot read ahead: {error}");
        }
    }
}

impl ReadAhead {
    /// Reads ahead in `inner`.
    ///
    /// # Errors
    /// Fails if threads cannot be started.
    pub fn new(inner: Arc<dyn ObjectStore>) -> io::Result<Self> {
        let shared = Arc::new(Shared { inner, state: Mutex::default() });
        let (jobs, receiver) = crossbeam_channel::bounded(THREADS);
        for _ in 0..THREADS {
            let (shared, receiver): (_, Receiver<Part>) = (Arc::clone(&shared), receiver.clone());
            // Not waited for at the end: one that hangs on the network must not hold up anybody.
            thread::Builder::new()
                .name("read-ahead".to_owned())
                .spawn(move || receiver.iter().for_each(|part| shared.bring_ahead(&part)))?;
        }
        Ok(Self { shared, jobs })
    }

    fn read(&self, key: &ObjectKey, range: &Range<u64>) -> Result<Vec<u8>, StoreError> {
        let Plan { parts, next } = lock(&self.shared.state).plan(key, range);
        if let Some(next) = next
            && self.jobs.try_send(next.clone()).is_err()
        {
            // All are busy: whoever needs it brings it.
            lock(&self.shared.state).remove(&next);
            next.arrival.settle(Arriving::Failed);
        }
        let mut read = Vec::with_capacity(usize::try_from(range.end - range.start).unwrap_or(0).min(1 << 20));
        for (part, is_ours) in parts {
            if is_ours {
                self.shared.bring(&part)?;
            }
            let wanted = range.start.max(part.range.start)..range.end.min(part.range.end);
            let bytes = part.arrival.wait();
            match bytes.as_ref().and_then(|bytes| slice(bytes, part.range.start, &wanted)) {
                Some(bytes) => read.extend_from_slice(bytes),
                // It failed, or the pack ends before: the store says so.
                None => read.extend(self.shared.inner.get(key, Some(wanted))?),
            }
        }
        Ok(read)
    }
}

impl ObjectStore for ReadAhead {
    fn create(&self, key: &ObjectKey, payload: Payload<'_>) -> Result<Creation, StoreError> {
        self.shared.inner.create(key, payload)
    }

    fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Vec<u8>, StoreError> {
        match range {
            Some(range) if key.has_prefix(Prefix::Packs) && range.start < range.end => self.read(key, &range),
            range => self.shared.inner.get(key, range),
        }
    }

    fn get_within(&self, key: &ObjectKey, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.shared.inner.get_within(key, range)
    }

    fn size(&self, key: &ObjectKey) -> Result<u64, StoreError> {
        self.shared.inner.size(key)
    }

    fn list(&self, prefix: Prefix, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        self.shared.inner.list(prefix, visit)
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.forget(key);
        self.shared.inner.delete(key)
    }

    fn forget(&self, key: &ObjectKey) {
        let mut state = lock(&self.shared.state);
        let parts = state.packs.get(key).map(|pack| pack.parts.clone()).unwrap_or_default();
        parts.iter().for_each(|part| state.remove(part));
    }

    fn requests_at_once(&self) -> usize {
        self.shared.inner.requests_at_once()
    }

    fn location(&self) -> String {
        self.shared.inner.location()
    }

    fn traffic(&self) -> Option<Traffic> {
        self.shared.inner.traffic()
    }
}

/// Returns a range of a pack from a part of it that begins at `start`, if the part has all of it.
fn slice<'a>(bytes: &'a [u8], start: u64, range: &Range<u64>) -> Option<&'a [u8]> {
    let from = usize::try_from(range.start.checked_sub(start)?).ok()?;
    let to = usize::try_from(range.end.checked_sub(start)?).ok()?;
    bytes.get(from..to)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PackId;
    use crate::store::fault::{Fault, FaultStore, Operation};
    use crate::store::memory::MemoryStore;
    use crate::store::{StoreErrorKind, conformance};

    const PACK_BYTES: usize = 20 << 20;

    fn pack() -> ObjectKey {
        ObjectKey::pack(&PackId::from_bytes([1; 32]))
    }

    fn content() -> Vec<u8> {
        (0..=250).cycle().take(PACK_BYTES).collect()
    }

    fn ahead() -> (Arc<FaultStore>, ReadAhead) {
        let inner = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
        inner.create(&pack(), Payload::Bytes(&content())).unwrap();
        inner.clear_calls();
        let ahead = ReadAhead::new(Arc::clone(&inner) as Arc<dyn ObjectStore>).unwrap();
        (inner, ahead)
    }

    #[test]
    fn conforms() {
        conformance::check(|_| Box::new(ReadAhead::new(Arc::new(MemoryStore::new())).unwrap()));
    }

    #[test]
    fn reading_in_order_takes_few_requests_and_gives_every_byte() {
        let ((inner, ahead), content) = (ahead(), content());
        let frame = 100_001;
        for start in (0..PACK_BYTES).step_by(frame) {
            let end = (start + frame).min(PACK_BYTES);
            assert!(ahead.get(&pack(), Some(start as u64..end as u64)).unwrap() == content[start..end]);
        }
        // 0.5, 1 and 2 MiB, then 4 each; one more may have met the end.
        assert!(inner.count(Operation::Get) <= 9, "{}", inner.count(Operation::Get));
    }

    #[test]
    fn readers_ahead_of_each_other_leave_no_gaps() {
        let ((inner, ahead), content) = (ahead(), content());
        let frame = 100_001;
        // Of four frames in a row, the last one is wanted first.
        let starts: Vec<usize> = (0..PACK_BYTES - frame).step_by(frame).collect();
        for start in starts.chunks(4).flat_map(|four| four.iter().rev()) {
            let (start, end) = (*start, *start + frame);
            assert!(ahead.get(&pack(), Some(start as u64..end as u64)).unwrap() == content[start..end]);
        }
        // Before the first four nothing is known of a reader.
        assert!(inner.count(Operation::Get) <= 12, "{}", inner.count(Operation::Get));
        let read: u64 = inner
            .calls()
            .into_iter()
            .filter_map(|call| call.range)
            .map(|range| range.end - range.start)
            .sum();
        assert!(read <= PACK_BYTES as u64 + WINDOW_MAX, "{read}");
    }

    #[test]
    fn reading_here_and_there_brings_little() {
        let (inner, ahead) = ahead();
        for start in [9 << 20, 1 << 20, 15 << 20, 5 << 20_u64] {
            ahead.get(&pack(), Some(start..start + 1000)).unwrap();
        }
        assert_eq!(inner.count(Operation::Get), 4);
        let ranges = inner.calls().into_iter().filter_map(|call| call.range);
        assert!(ranges.into_iter().all(|range| range.end - range.start == WINDOW_MIN));
        // What was brought is not asked for again.
        ahead.get(&pack(), Some((9 << 20) + 500..(9 << 20) + 2000)).unwrap();
        assert_eq!(inner.count(Operation::Get), 4);
    }

    #[test]
    fn many_readers_share_what_comes() {
        let ((inner, ahead), content) = (ahead(), content());
        thread::scope(|scope| {
            for reader in 0..8_usize {
                let (ahead, content) = (&ahead, &content);
                scope.spawn(move || {
                    for start in (reader * 50_000..PACK_BYTES - 50_000).step_by(400_000) {
                        let range = start as u64..start as u64 + 50_000;
                        assert!(ahead.get(&pack(), Some(range)).unwrap() == content[start..start + 50_000]);
                    }
                });
            }
        });
        assert!(inner.count(Operation::Get) <= 60, "{}", inner.count(Operation::Get));
        assert!(lock(&ahead.shared.state).kept_bytes <= KEPT_BYTES);
    }

    #[test]
    fn what_is_kept_is_bounded_and_can_be_forgotten() {
        let (inner, ahead) = ahead();
        for number in 2..12 {
            let key = ObjectKey::pack(&PackId::from_bytes([number; 32]));
            inner.create(&key, Payload::Bytes(&content())).unwrap();
            for start in (0..PACK_BYTES as u64).step_by(1 << 20) {
                ahead.get(&key, Some(start..start + 1)).unwrap();
            }
            assert!(lock(&ahead.shared.state).kept_bytes <= KEPT_BYTES + WINDOW_MAX);
        }
        ahead.get(&pack(), Some(0..1)).unwrap();
        inner.clear_calls();
        ahead.get(&pack(), Some(0..1)).unwrap();
        assert_eq!(inner.count(Operation::Get), 0);
        ahead.forget(&pack());
        ahead.get(&pack(), Some(0..1)).unwrap();
        assert_eq!(inner.count(Operation::Get), 1);
    }

    #[test]
    fn failures_are_told_and_not_kept() {
        let (inner, ahead) = ahead();
        inner.script(|call| {
            (call.operation == Operation::Get).then_some(Fault::Fail(StoreErrorKind::Unavailable))
        });
        let error = ahead.get(&pack(), Some(0..1)).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        inner.clear_script();
        assert_eq!(ahead.get(&pack(), Some(0..1)).unwrap(), [0]);
    }
}
