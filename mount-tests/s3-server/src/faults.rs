//! What goes wrong, and when: rules of a test, and chance with a seed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::objects::Lie;
use crate::request::{Operation, Request};

/// One thing that goes wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is not carried out, but answered so.
    Refuse {
        /// The status.
        status: u16,
        /// S3's code of the error.
        code: &'static str,
        /// Its message.
        message: &'static str,
    },
    /// It is sent to the region where the bucket is said to be, as AWS does.
    Elsewhere(&'static str),
    /// It is refused because its clock and that of the server are said to differ.
    ClockSkew,
    /// The connection is closed, and nothing carried out.
    CloseBefore,
    /// It is carried out, and the connection closed before the reply.
    CloseAfter,
    /// The reply announces the whole body, and ends with the connection in its middle.
    CutBody,
    /// One bit in the middle of the body is wrong.
    FlipBit,
    /// It is not carried out, but answered with a document that tells an error, and status 200.
    ErrorInOk,
    /// A page of a listing ends after so many keys, and says that there are no more.
    ShortListing {
        /// How many.
        keys: usize,
    },
    /// A listing shows the bucket as it was so many creations and deletions ago.
    StaleListing {
        /// How many.
        changes: u64,
    },
    /// The condition of a put is ignored: it overwrites.
    IgnoreCondition,
    /// Nothing comes until [`Faults::release`]; then it is carried out.
    Hang,
    /// The first half of the body comes, and the other after [`Faults::release`].
    HangInBody,
    /// It takes so much longer.
    Delay(Duration),
}

impl Fault {
    /// `503 SlowDown`
    #[must_use]
    pub fn slow_down() -> Self {
        Self::Refuse { status: 503, code: "SlowDown", message: "Please reduce your request rate." }
    }

    /// `500 InternalError`
    #[must_use]
    pub fn internal_error() -> Self {
        let message = "We encountered an internal error. Please try again.";
        Self::Refuse { status: 500, code: "InternalError", message }
    }

    /// `403 AccessDenied`
    #[must_use]
    pub fn access_denied() -> Self {
        Self::Refuse { status: 403, code: "AccessDenied", message: "Access Denied" }
    }

    /// `400 ExpiredToken`
    #[must_use]
    pub fn expired_token() -> Self {
        Self::Refuse { status: 400, code: "ExpiredToken", message: "The provided token has expired." }
    }

    /// `404 NoSuchBucket`
    #[must_use]
    pub fn no_such_bucket() -> Self {
        Self::Refuse { status: 404, code: "NoSuchBucket", message: "The specified bucket does not exist" }
    }

    /// `409 ConditionalRequestConflict`
    #[must_use]
    pub fn conflict() -> Self {
        let message =
            "The conditional request cannot succeed due to a conflicting operation against this resource.";
        Self::Refuse { status: 409, code: "ConditionalRequestConflict", message }
    }

    /// Returns the name of its kind, under which it is counted.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Refuse { code, .. } => code,
            Self::Elsewhere(_) => "PermanentRedirect",
            Self::ClockSkew => "RequestTimeTooSkewed",
            Self::CloseBefore => "close before",
            Self::CloseAfter => "close after",
            Self::CutBody => "cut body",
            Self::FlipBit => "flip bit",
            Self::ErrorInOk => "error in 200",
            Self::ShortListing { .. } => "short listing",
            Self::StaleListing { .. } => "stale listing",
            Self::IgnoreCondition => "ignore condition",
            Self::Hang => "hang",
            Self::HangInBody => "hang in body",
            Self::Delay(_) => "delay",
        }
    }

    /// Tells whether it can happen to a request for this.
    fn concerns(&self, operation: Operation) -> bool {
        match self {
            Self::CutBody | Self::HangInBody => matches!(operation, Operation::Get | Operation::List),
            Self::FlipBit => operation == Operation::Get,
            Self::ShortListing { .. } | Self::StaleListing { .. } => operation == Operation::List,
            Self::IgnoreCondition | Self::Refuse { code: "ConditionalRequestConflict", .. } => {
                operation == Operation::Put
            }
            // Nobody reads the body of the others.
            Self::ErrorInOk => matches!(operation, Operation::Put | Operation::Get | Operation::List),
            _ => true,
        }
    }

    pub(crate) fn lie(&self) -> Option<Lie> {
        match *self {
            Self::ShortListing { keys } => Some(Lie::Short { keys }),
            Self::StaleListing { changes } => Some(Lie::Stale { changes }),
            Self::IgnoreCondition => Some(Lie::Unconditional),
            _ => None,
        }
    }
}

type Test = dyn Fn(&Request) -> bool + Send + Sync;

/// Which requests something happens to.
#[derive(Clone)]
pub struct When {
    operation: Option<Operation>,
    key_part: String,
    test: Option<Arc<Test>>,
    after: u64,
    times: u64,
}

impl When {
    /// Every request.
    #[must_use]
    pub fn always() -> Self {
        Self { operation: None, key_part: String::new(), test: None, after: 0, times: u64::MAX }
    }

    /// Every request for an operation.
    #[must_use]
    pub fn on(operation: Operation) -> Self {
        Self { operation: Some(operation), ..Self::always() }
    }

    /// Of these, the ones whose key (or prefix, of listings) has this part.
    #[must_use]
    pub fn key(mut self, part: &str) -> Self {
        part.clone_into(&mut self.key_part);
        self
    }

    /// Of these, the ones that pass a test.
    #[must_use]
    pub fn that(mut self, test: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Self {
        self.test = Some(Arc::new(test));
        self
    }

    /// Not the first so many of these.
    #[must_use]
    pub fn after(mut self, requests: u64) -> Self {
        self.after = requests;
        self
    }

    /// At most so many of these.
    #[must_use]
    pub fn times(mut self, requests: u64) -> Self {
        self.times = requests;
        self
    }

    fn meets(&self, request: &Request) -> bool {
        self.operation.is_none_or(|operation| operation == request.operation)
            && request.key.contains(&self.key_part)
            && self.test.as_ref().is_none_or(|test| test(request))
    }
}

impl fmt::Debug for When {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, key_part, after, times, .. } = self;
        write!(formatter, "{times} requests for {operation:?} of *{key_part}* after {after}")
    }
}

/// A fault that was asked for; it stays until it is removed.
#[derive(Debug, Clone)]
pub struct Rule {
    when: When,
    fault: Fault,
    /// Requests that it is about.
    met: Arc<AtomicU64>,
    hits: Arc<AtomicU64>,
}

impl Rule {
    /// Returns how often it happened.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    fn strikes(&self, request: &Request) -> bool {
        if !self.when.meets(request) || !self.fault.concerns(request.operation) {
            return false;
        }
        let nth = self.met.fetch_add(1, Ordering::Relaxed);
        let strikes = nth >= self.when.after && nth - self.when.after < self.when.times;
        self.hits.fetch_add(u64::from(strikes), Ordering::Relaxed);
        strikes
    }
}

/// All that goes wrong at a server.
#[derive(Debug)]
pub struct Faults {
    plan: Mutex<Plan>,
    hanging: AtomicUsize,
    releases: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Plan {
    rules: Vec<Rule>,
    chance: Option<Chance>,
    injected: BTreeMap<&'static str, u64>,
}

#[derive(Debug)]
struct Chance {
    seed: u64,
    one_in: u64,
    faults: Vec<Fault>,
    requests: u64,
}

impl Faults {
    pub(crate) fn new() -> Self {
        Self { plan: Mutex::default(), hanging: AtomicUsize::new(0), releases: watch::Sender::new(0) }
    }

    /// Makes something go wrong from now on. Of several rules that are about a request, the oldest has its way.
    pub fn add(&self, when: When, fault: Fault) -> Rule {
        let rule = Rule { when, fault, met: Arc::default(), hits: Arc::default() };
        self.plan().rules.push(rule.clone());
        rule
    }

    /// Ends what a rule does.
    pub fn remove(&self, rule: &Rule) {
        self.plan().rules.retain(|other| !Arc::ptr_eq(&other.met, &rule.met));
    }

    /// Lets one in so many requests, on average, meet one of these. The same seed chooses the same for the n-th request.
    pub fn at_random(&self, seed: u64, one_in: u64, faults: &[Fault]) {
        self.plan().chance =
            Some(Chance { seed, one_in: one_in.max(1), faults: faults.to_vec(), requests: 0 });
    }

    /// Ends all rules and chance, and lets what hangs go on. The counts stay.
    pub fn clear(&self) {
        let mut plan = self.plan();
        plan.rules.clear();
        plan.chance = None;
        drop(plan);
        self.release();
    }

    /// Returns how many faults of each kind happened.
    #[must_use]
    pub fn injected(&self) -> BTreeMap<&'static str, u64> {
        self.plan().injected.clone()
    }

    /// Returns how many requests hang now.
    #[must_use]
    pub fn hanging(&self) -> usize {
        self.hanging.load(Ordering::Relaxed)
    }

    /// Lets all requests go on that hang now.
    pub fn release(&self) {
        self.releases.send_modify(|releases| *releases += 1);
    }

    /// Returns what happens to a request, and counts it.
    pub(crate) fn choose(&self, request: &Request) -> Option<Fault> {
        let mut plan = self.plan();
        let ruled = plan.rules.iter().find(|rule| rule.strikes(request)).map(|rule| rule.fault.clone());
        let fault = ruled.or_else(|| plan.chance.as_mut()?.choose(request.operation))?;
        *plan.injected.entry(fault.kind()).or_default() += 1;
        Some(fault)
    }

    /// Waits for the next release.
    pub(crate) async fn hang(self: Arc<Self>) {
        let mut releases = self.releases.subscribe();
        let _counted = Hanging::new(&self.hanging);
        let _ = releases.changed().await;
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Chance {
    fn choose(&mut self, operation: Operation) -> Option<Fault> {
        self.requests += 1;
        let number = mixed(self.seed ^ mixed(self.requests));
        if !number.is_multiple_of(self.one_in) {
            return None;
        }
        let possible: Vec<&Fault> = self.faults.iter().filter(|fault| fault.concerns(operation)).collect();
        let place = mixed(number) % (possible.len() as u64).max(1);
        possible.get(usize::try_from(place).ok()?).map(|fault| (*fault).clone())
    }
}

/// Mixes the bits of a number (splitmix64).
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Counts a request that hangs, until it goes on or its client gives up.
struct Hanging<'a>(&'a AtomicUsize);

impl<'a> Hanging<'a> {
    fn new(hanging: &'a AtomicUsize) -> Self {
        hanging.fetch_add(1, Ordering::Relaxed);
        Self(hanging)
    }
}

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
