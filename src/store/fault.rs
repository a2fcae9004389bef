//! A store that fails as it is told, for tests of every layer.
//!
//! [`FaultStore`] wraps any store. It records each call, so that a test can count requests and bytes, and lets
//! a script decide call by call what goes wrong. It can also die: then nothing works any more until it is
//! revived, as for a process that crashed in the middle of its work. Without a script it changes nothing.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::key::{ObjectKey, Prefix};
use super::{Creation, ObjectInfo, ObjectStore, Payload, StoreError, StoreErrorKind};

/// An operation of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// [`ObjectStore::create`]
    Create,
    /// [`ObjectStore::get`]
    Get,
    /// [`ObjectStore::size`]
    Size,
    /// [`ObjectStore::list`]
    List,
    /// [`ObjectStore::delete`]
    Delete,
}

impl Operation {
    /// Tells whether the operation changes the store.
    #[must_use]
    pub const fn is_mutating(self) -> bool {
        matches!(self, Self::Create | Self::Delete)
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Get => "read",
            Self::Size => "find",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }
}

/// One call of a store, as a script and a test see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What was called.
    pub operation: Operation,
    /// The key, or the prefix of a listing.
    pub object: String,
    /// The range of a [`ObjectStore::get`], if it had one.
    pub range: Option<Range<u64>>,
    /// How many calls of the same operation were recorded before.
    pub earlier: usize,
}

/// What goes wrong with a call.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Nothing is done, and the call fails.
    Fail(StoreErrorKind),
    /// The call is carried out, but its reply is lost and it fails: a time-out after the commit.
    FailAfter(StoreErrorKind),
    /// A listing visits at most so many objects, and fails.
    FailListingAfter(usize, StoreErrorKind),
    /// A listing leaves this object out and says that it is complete.
    LeaveOut(ObjectKey),
    /// A read returns only so many bytes, without an error: a reply cut short that nobody noticed.
    Truncate(usize),
    /// A read returns the bit of this number, counted from the lowest of the first byte, inverted; numbers
    /// beyond the end wrap around.
    FlipBit(usize),
    /// The call waits until the gate is released, and is then carried out.
    Block(Arc<Gate>),
    /// The call is carried out after so long, as in a distant store.
    Delay(Duration),
}

type Script = Box<dyn FnMut(&Call) -> Option<Fault> + Send>;

/// A store around another one, whose calls fail as a script says.
pub struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    requests_at_once: Option<usize>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    script: Option<Script>,
    /// Mutating operations until death, if it is to die.
    mutations_left: Option<usize>,
}

impl FaultStore {
    /// Wraps a store; at first, every call passes.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, requests_at_once: None, state: Mutex::default() }
    }

    /// Wraps a store, and says that so many requests are worth having under way at once, as of a distant one.
    #[must_use]
    pub fn distant(inner: Arc<dyn ObjectStore>, requests_at_once: usize) -> Self {
        Self { requests_at_once: Some(requests_at_once), ..Self::new(inner) }
    }

    /// Lets `script` decide about every further call, in place of any script before; `None` lets it pass.
    ///
    /// The script is called by one thread at a time, and must not call this store.
    pub fn script(&self, script: impl FnMut(&Call) -> Option<Fault> + Send + 'static) {
        self.state().script = Some(Box::new(script));
    }

    /// Lets every further call pass.
    pub fn clear_script(&self) {
        self.state().script = None;
    }

    /// Dies once `mutations` further creations and deletions were carried out: every later call fails.
    pub fn die_after(&self, mutations: usize) {
        self.state().mutations_left = Some(mutations);
    }

    /// Ends death, or the countdown to it.
    pub fn revive(&self) {
        self.state().mutations_left = None;
    }

    /// Returns the calls recorded so far, those that failed among them.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// Returns how many calls of an operation were recorded.
    #[must_use]
    pub fn count(&self, operation: Operation) -> usize {
        count(&self.state().calls, operation)
    }

    /// Forgets the recorded calls; counting starts anew.
    pub fn clear_calls(&self) {
        self.state().calls.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A script that panics fails its test already; the other threads' messages would only hide that.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a call, and returns the fault that is left to apply to its result.
    fn begin(
        &self,
        operation: Operation,
        object: &str,
        range: Option<Range<u64>>,
    ) -> Result<Option<Fault>, StoreError> {
        let fault = {
            let mut state = self.state();
            let earlier = count(&state.calls, operation);
            let call = Call { operation, object: object.to_owned(), range, earlier };
            state.calls.push(call.clone());
            if state.mutations_left == Some(0) {
                return Err(failure(StoreErrorKind::Unavailable, operation, object, "the store is dead"));
            }
            let fault = state.script.as_mut().and_then(|script| script(&call));
            if let Some(Fault::Fail(kind)) = fault {
                return Err(failure(kind, operation, object, "failed by a script"));
            }
            if let Some(left) = state.mutations_left.as_mut().filter(|_| operation.is_mutating()) {
                *left -= 1;
            }
            fault
        };
        match fault {
            Some(Fault::Block(gate)) => {
                gate.wait().map_err(|error| StoreError::from_io(operation.as_str(), object.into(), error))?;
                Ok(None)
            }
            Some(Fault::Delay(time)) => {
                std::thread::sleep(time);
                Ok(None)
            }
            other => Ok(other),
        }
    }
}

impl ObjectStore for FaultStore {
    fn create(&self, key: &ObjectKey, payload: Payload<'_>) -> Result<Creation, StoreError> {
        let fault = self.begin(Operation::Create, key.as_str(), None)?;
        end(self.inner.create(key, payload), fault.as_ref(), Operation::Create, key.as_str())
    }

    fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Vec<u8>, StoreError> {
        let fault = self.begin(Operation::Get, key.as_str(), range.clone())?;
        let mut bytes = end(self.inner.get(key, range), fault.as_ref(), Operation::Get, key.as_str())?;
        match fault {
            Some(Fault::Truncate(length)) => bytes.truncate(length),
            Some(Fault::FlipBit(bit)) => flip_bit(&mut bytes, bit),
            _ => {}
        }
        Ok(bytes)
    }

    fn size(&self, key: &ObjectKey) -> Result<u64, StoreError> {
        let fault = self.begin(Operation::Size, key.as_str(), None)?;
        end(self.inner.size(key), fault.as_ref(), Operation::Size, key.as_str())
    }

    fn list(&self, prefix: Prefix, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        let fault = self.begin(Operation::List, prefix.as_str(), None)?;
        if let Some(Fault::LeaveOut(key)) = &fault {
            return self.inner.list(prefix, &mut |object| {
                if object.key != *key {
                    visit(object);
                }
            });
        }
        let Some(Fault::FailListingAfter(most, kind)) = fault else {
            let listed = self.inner.list(prefix, visit);
            return end(listed, fault.as_ref(), Operation::List, prefix.as_str());
        };
        let mut visited = 0;
        self.inner.list(prefix, &mut |object| {
            if visited < most {
                visit(object);
            }
            visited += 1;
        })?;
        Err(failure(kind, Operation::List, prefix.as_str(), "the listing broke off"))
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let fault = self.begin(Operation::Delete, key.as_str(), None)?;
        end(self.inner.delete(key), fault.as_ref(), Operation::Delete, key.as_str())
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn requests_at_once(&self) -> usize {
        self.requests_at_once.unwrap_or_else(|| self.inner.requests_at_once())
    }
}

/// Holds calls back until a test lets them go.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    arrived: usize,
    open: bool,
}

impl Gate {
    /// No test waits longer than this: a forgotten gate is a failure, not a hang.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// Creates a closed gate.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Lets everyone pass, from now on.
    pub fn release(&self) {
        self.lock().open = true;
        self.changed.notify_all();
    }

    /// Waits until `calls` calls in all have come to the gate.
    ///
    /// # Errors
    /// Fails if they have not after half a minute.
    pub fn wait_for_arrivals(&self, calls: usize) -> io::Result<()> {
        self.wait_until(self.lock(), |state| state.arrived >= calls)
    }

    fn wait(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.arrived += 1;
        self.changed.notify_all();
        self.wait_until(state, |state| state.open)
    }

    fn wait_until(
        &self,
        state: MutexGuard<'_, GateState>,
        condition: impl Fn(&GateState) -> bool,
    ) -> io::Result<()> {
        let (_state, timeout) = self
            .changed
            .wait_timeout_while(state, Self::PATIENCE, |state| !condition(state))
            .unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(calls: &[Call], operation: Operation) -> usize {
    calls.iter().filter(|call| call.operation == operation).count()
}

fn end<T>(
    result: Result<T, StoreError>,
    fault: Option<&Fault>,
    operation: Operation,
    object: &str,
) -> Result<T, StoreError> {
    match fault {
        Some(Fault::FailAfter(kind)) => Err(failure(*kind, operation, object, "the reply was lost")),
        _ => result,
    }
}

fn failure(kind: StoreErrorKind, operation: Operation, object: &str, why: &'static str) -> StoreError {
    StoreError::new(kind, operation.as_str(), object.to_owned(), Some(io::Error::other(why)))
}

fn flip_bit(bytes: &mut [u8], bit: usize) {
    let index = (bit / 8).checked_rem(bytes.len()).unwrap_or(0);
    if let Some(byte) = bytes.get_mut(index) {
        *byte ^= 1 << (bit % 8);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::store::conformance;
    use crate::store::memory::MemoryStore;

    fn key(number: u32) -> ObjectKey {
        ObjectKey::config(number)
    }

    fn put(store: &dyn ObjectStore, number: u32) -> Result<Creation, StoreError> {
        store.create(&key(number), Payload::Bytes(b"abcd"))
    }

    fn listed(store: &dyn ObjectStore) -> (usize, Result<(), StoreError>) {
        let mut count = 0;
        let result = store.list(Prefix::Config, &mut |_| count += 1);
        (count, result)
    }

    fn wrapped() -> FaultStore {
        FaultStore::new(Arc::new(MemoryStore::new()))
    }

    /// Returns a script that applies one fault to every call of one operation.
    fn always(operation: Operation, fault: Fault) -> impl FnMut(&Call) -> Option<Fault> + Send {
        move |call| (call.operation == operation).then(|| fault.clone())
    }

    #[test]
    fn conforms_without_a_script() {
        conformance::check(|_| Box::new(wrapped()));
    }

    #[test]
    fn calls_are_recorded() {
        let store = wrapped();
        put(&store, 1).unwrap();
        put(&store, 2).unwrap();
        store.get(&key(1), Some(1..3)).unwrap();
        assert_eq!(store.count(Operation::Create), 2);
        let calls = store.calls();
        assert_eq!(calls[1].earlier, 1);
        assert_eq!(calls[2].object, "config/1.json");
        assert_eq!(calls[2].range, Some(1..3));
        store.clear_calls();
        assert!(store.calls().is_empty());
    }

    #[test]
    fn failures_come_before_or_after_the_commit() {
        let store = wrapped();
        store.script(|call| match call.earlier {
            0 => Some(Fault::Fail(StoreErrorKind::Full)),
            1 => Some(Fault::FailAfter(StoreErrorKind::Unavailable)),
            _ => None,
        });
        assert_eq!(put(&store, 1).unwrap_err().kind(), StoreErrorKind::Full);
        assert_eq!(listed(&store).0, 0);
        assert_eq!(put(&store, 1).unwrap_err().kind(), StoreErrorKind::Unavailable);
        assert_eq!(put(&store, 1).unwrap(), Creation::AlreadyExists);
    }

    #[test]
    fn reads_are_damaged() {
        let store = wrapped();
        put(&store, 1).unwrap();
        store.script(always(Operation::Get, Fault::Truncate(2)));
        assert_eq!(store.get(&key(1), None).unwrap(), b"ab");
        store.script(always(Operation::Get, Fault::FlipBit(8 + 1)));
        assert_eq!(store.get(&key(1), None).unwrap(), b"a`cd");
        store.script(always(Operation::Get, Fault::FlipBit(32)));
        assert_eq!(store.get(&key(1), None).unwrap(), b"`bcd");
        assert_eq!(store.get(&key(1), Some(0..0)).unwrap(), b"");
        store.clear_script();
        assert_eq!(store.get(&key(1), None).unwrap(), b"abcd");
    }

    #[test]
    fn listings_break_off() {
        let store = wrapped();
        for number in 0..3 {
            put(&store, number).unwrap();
        }
        store.script(always(Operation::List, Fault::FailListingAfter(2, StoreErrorKind::Unavailable)));
        let (count, result) = listed(&store);
        assert_eq!(count, 2);
        assert_eq!(result.unwrap_err().kind(), StoreErrorKind::Unavailable);
    }

    #[test]
    fn listings_leave_out_what_they_are_told_to() {
        let store = wrapped();
        put(&store, 1).unwrap();
        put(&store, 2).unwrap();
        store.script(always(Operation::List, Fault::LeaveOut(key(1))));
        assert_eq!(listed(&store).0, 1);
    }

    #[test]
    fn death_is_final_until_revived() {
        let store = wrapped();
        store.die_after(2);
        assert_eq!(put(&store, 1).unwrap(), Creation::Created);
        assert!(listed(&store).1.is_ok());
        store.delete(&key(9)).unwrap();
        assert!(put(&store, 2).is_err());
        assert!(listed(&store).1.is_err());
        assert!(store.size(&key(1)).is_err());
        store.revive();
        assert_eq!(store.size(&key(1)).unwrap(), 4);
        assert_eq!(put(&store, 2).unwrap(), Creation::Created);
    }

    #[test]
    fn calls_wait_at_a_gate() {
        let (store, gate) = (wrapped(), Gate::new());
        store.script(always(Operation::Create, Fault::Block(Arc::clone(&gate))));
        thread::scope(|scope| {
            let writer = scope.spawn(|| put(&store, 1));
            gate.wait_for_arrivals(1).unwrap();
            assert_eq!(listed(&store).0, 0);
            gate.release();
            assert_eq!(writer.join().unwrap().unwrap(), Creation::Created);
        });
        assert_eq!(listed(&store).0, 1);
    }
}
