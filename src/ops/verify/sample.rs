//! Which packs a verification of a part takes, and how much of a store was verified when.
//!
//! States are kept in the journal of this host, for each place of a store by itself: what is whole on one disk need
//! not be whole in a copy on another. (Disks that take turns at one place are told apart by nothing.) Where there is
//! no journal, packs are drawn at random, so that many runs still come to all of them.

use std::collections::hash_map::{HashMap, RandomState};
use std::fmt;
use std::hash::BuildHasher;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::id::PackId;
use crate::journal::{Journal, JournalError, PackState, StorePlace};
use crate::progress::{Event, Progress, error_chain};

/// Packs that are recorded together: each record is made durable by itself.
const RECORD_PACKS: usize = 32;
/// One hundred percent.
const WHOLE: u32 = 1_000_000;

/// A share of the stored bytes: more than nothing, at most everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(u32);

impl Share {
    /// Returns a share of so many millionths; nothing unless these are 1 to a million.
    #[must_use]
    pub fn from_millionths(millionths: u32) -> Option<Self> {
        (1..=WHOLE).contains(&millionths).then_some(Self(millionths))
    }

    /// Returns the share of `bytes`, rounded up.
    fn of(self, bytes: u64) -> u64 {
        let share = (u128::from(bytes) * u128::from(self.0)).div_ceil(WHOLE.into());
        u64::try_from(share).unwrap_or(u64::MAX)
    }
}

impl FromStr for Share {
    type Err = String;

    /// Parses a share as people write it: `5%`, `5`, `0.5%`.
    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("{text:?} is not a share such as 5% or 0.5%, more than 0 and at most 100");
        let number = text.strip_suffix('%').unwrap_or(text);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(fraction) || fraction.len() > 4 {
            return Err(refuse());
        }
        // A percent is ten thousand millionths.
        let millionths = format!("{whole}{fraction:0<4}").parse().ok();
        millionths.and_then(Self::from_millionths).ok_or_else(refuse)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = format!("{}.{:04}", self.0 / 10_000, self.0 % 10_000);
        write!(f, "{}%", percent.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// How much of a store's packs was verified, by this run and by earlier ones of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PackCoverage {
    /// Packs in the store.
    pub packs: u64,
    /// Bytes they take.
    pub bytes: u64,
    /// Packs that this run took.
    pub packs_taken: u64,
    /// Bytes they take.
    pub bytes_taken: u64,
    /// Packs that were never found whole from this host.
    pub packs_never: u64,
    /// When the one of the others was last found whole for which that is longest ago.
    pub oldest: Option<Timestamp>,
}

/// When packs were last found whole, and which of them were not: read from the journal, and added to it.
pub(super) struct PackTimes<'a> {
    journal: Option<&'a Journal>,
    place: StorePlace,
    progress: &'a dyn Progress,
    known: Mutex<Known>,
    random: RandomState,
    has_complained: AtomicBool,
}

#[derive(Default)]
struct Known {
    states: HashMap<PackId, PackState>,
    /// Found whole by this run and not recorded yet.
    whole: Vec<PackId>,
    /// Found damaged by this run, or not readable, and not recorded yet.
    suspect: Vec<PackId>,
}

/// The packs that a sample reads.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// The share: those that waited longest.
    pub(super) share: Vec<PackId>,
    /// On top of it, those that were not whole when they were read last. Within the share they would be the longest
    /// waiting for ever, and keep all others from their turn.
    pub(super) suspect: Vec<PackId>,
}

impl<'a> PackTimes<'a> {
    /// Reads what the journal knows. A journal that fails is reported, and never keeps a store from being verified.
    pub(super) fn read(journal: Option<&'a Journal>, place: StorePlace, progress: &'a dyn Progress) -> Self {
        let mut times = Self {
            journal,
            place,
            progress,
            known: Mutex::default(),
            random: RandomState::new(),
            has_complained: AtomicBool::new(false),
        };
        if let Some(journal) = journal {
            match journal.verified_packs(&times.place) {
                Ok(mut states) => {
                    // A clock that was wrong once must not spare packs from being verified for years.
                    let now = Timestamp::now();
                    for state in states.values_mut() {
                        state.whole = state.whole.filter(|time| *time <= now);
                    }
                    times.known = Mutex::new(Known { states, ..Known::default() });
                }
                Err(error) => times.complain(&error),
            }
        }
        times
    }

    /// Forgets packs that are not listed any more.
    pub(super) fn retain(&self, is_listed: impl Fn(&PackId) -> bool) {
        let mut known = self.lock();
        let gone: Vec<PackId> = known.states.keys().filter(|id| !is_listed(id)).copied().collect();
        for id in &gone {
            known.states.remove(id);
        }
        drop(known);
        self.write(|journal| journal.forget_packs(&self.place, &gone));
    }

    /// Returns packs that add up to the share of all bytes, one at least: those first that waited longest. Those
    /// that were not whole come on top.
    pub(super) fn choose(&self, share: Share, packs: impl Iterator<Item = (PackId, u64)>) -> Chosen {
        let known = self.lock();
        let mut chosen = Chosen::default();
        let mut ordered = Vec::new();
        let mut all: u64 = 0;
        for (id, bytes) in packs {
            all = all.saturating_add(bytes);
            let state = known.states.get(&id).copied().unwrap_or_default();
            if state.is_suspect {
                chosen.suspect.push(id);
            } else {
                ordered.push((state.whole, self.random.hash_one(id), id, bytes));
            }
        }
        drop(known);
        ordered.sort_unstable();
        let wanted = share.of(all);
        let mut taken: u64 = 0;
        for (_, _, id, bytes) in ordered {
            if taken >= wanted && !chosen.share.is_empty() {
                break;
            }
            taken = taken.saturating_add(bytes);
            chosen.share.push(id);
        }
        chosen
    }

    /// Notes that a pack was found whole.
    pub(super) fn found_whole(&self, id: PackId) {
        let mut known = self.lock();
        known.states.insert(id, PackState { whole: Some(Timestamp::now()), is_suspect: false });
        known.whole.push(id);
        self.record(known, RECORD_PACKS);
    }

    /// Notes that a pack was damaged, or could not be read.
    pub(super) fn found_suspect(&self, id: PackId) {
        let mut known = self.lock();
        known.states.entry(id).or_default().is_suspect = true;
        known.suspect.push(id);
        self.record(known, RECORD_PACKS);
    }

    /// Records what was not recorded yet.
    pub(super) fn flush(&self) {
        self.record(self.lock(), 1);
    }

    /// Completes `coverage` with what is known of the packs of the store.
    pub(super) fn cover(&self, packs: impl Iterator<Item = PackId>, coverage: &mut PackCoverage) {
        let known = self.lock();
        for id in packs {
            match known.states.get(&id).and_then(|state| state.whole) {
                None => coverage.packs_never += 1,
                Some(time) => {
                    coverage.oldest = Some(coverage.oldest.map_or(time, |oldest| oldest.min(time)));
                }
            }
        }
    }

    /// Records what is not recorded yet, if these are `least` packs or more.
    fn record(&self, mut known: MutexGuard<'_, Known>, least: usize) {
        if known.whole.len() + known.suspect.len() < least {
            return;
        }
        let (whole, suspect) = (std::mem::take(&mut known.whole), std::mem::take(&mut known.suspect));
        drop(known);
        self.write(|journal| {
            journal.record_whole(&self.place, &whole, Timestamp::now())?;
            journal.record_suspect(&self.place, &suspect)
        });
    }

    fn write(&self, write: impl FnOnce(&Journal) -> Result<(), JournalError>) {
        if let Some(Err(error)) = self.journal.map(write) {
            self.complain(&error);
        }
    }

    fn complain(&self, error: &JournalError) {
        if self.has_complained.swap(true, Ordering::Relaxed) {
            return;
        }
        let text = format!("it is not remembered which packs were verified: {}", error_chain(error));
        self.progress.event(Event::Warning(&text));
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::progress::Silent;

    fn place() -> StorePlace {
        StorePlace { store: crate::id::StoreId::from_bytes([1; 16]), location: "here".into() }
    }

    fn id(number: u64) -> PackId {
        PackId::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes())
    }

    fn percent(percent: u32) -> Share {
        Share::from_millionths(percent * 10_000).unwrap()
    }

    #[test]
    fn shares_are_percents() {
        for (text, millionths) in [
            ("5%", 50_000),
            ("5", 50_000),
            ("0.5%", 5000),
            ("100", 1_000_000),
            ("0.0001", 1),
            ("05.50%", 55_000),
        ] {
            assert_eq!(text.parse::<Share>(), Ok(Share::from_millionths(millionths).unwrap()), "{text}");
        }
        for text in ["", "%", "0", "0%", "100.0001", "101%", "-5", "5.", ".5", "1e1", "5%%", "0.00001", "x"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_share_is_rounded_up_and_never_more_than_all() {
        assert_eq!(Share::from_millionths(0), None);
        assert_eq!(Share::from_millionths(WHOLE + 1), None);
        assert_eq!(percent(5).of(100), 5);
        assert_eq!(percent(5).of(101), 6);
        assert_eq!(percent(100).of(u64::MAX), u64::MAX);
        assert_eq!(Share::from_millionths(1).unwrap().of(0), 0);
    }

    #[test]
    fn those_that_waited_longest_come_first() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.sqlite")).unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        journal.record_whole(&place(), &[id(1)], at(300)).unwrap();
        journal.record_whole(&place(), &[id(2)], at(100)).unwrap();
        journal.record_whole(&place(), &[id(3)], at(200)).unwrap();
        let in_ten_years = Timestamp::now() + jiff::SignedDuration::from_hours(87_600);
        journal.record_whole(&place(), &[id(4)], in_ten_years).unwrap();
        journal.record_whole(&place(), &[id(9)], at(1)).unwrap();
        let times = PackTimes::read(Some(&journal), place(), &Silent);
        times.retain(|pack| *pack != id(9));
        assert!(!journal.verified_packs(&place()).unwrap().contains_key(&id(9)));
        let packs = || (1..=4).map(|number| (id(number), 10));
        assert_eq!(times.choose(percent(1), packs()).share, [id(4)], "its time cannot be true");
        assert_eq!(times.choose(percent(100), packs()).share, [id(4), id(2), id(3), id(1)]);
        let mut coverage = PackCoverage::default();
        times.cover(packs().map(|(id, _)| id), &mut coverage);
        assert_eq!((coverage.packs_never, coverage.oldest), (1, Some(at(100))));
        times.found_whole(id(4));
        assert_eq!(times.choose(percent(26), packs()).share, [id(2), id(3)]);
        times.flush();
        let read_again = PackTimes::read(Some(&journal), place(), &Silent);
        assert_eq!(read_again.choose(percent(26), packs()).share, [id(2), id(3)]);
    }

    #[test]
    fn what_was_not_whole_comes_on_top_until_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.sqlite")).unwrap();
        let packs = || (1..=4).map(|number| (id(number), 10));
        let times = PackTimes::read(Some(&journal), place(), &Silent);
        (1..=3).for_each(|number| times.found_whole(id(number)));
        times.found_suspect(id(2));
        times.found_suspect(id(4));
        times.flush();
        let times = PackTimes::read(Some(&journal), place(), &Silent);
        let chosen = times.choose(percent(100), packs());
        assert_eq!((chosen.share.len(), chosen.suspect), (2, vec![id(2), id(4)]));
        assert_eq!(times.choose(percent(1), packs()).share.len(), 1);
        let mut coverage = PackCoverage::default();
        times.cover(packs().map(|(id, _)| id), &mut coverage);
        assert_eq!(coverage.packs_never, 1, "when a damaged pack was whole is still known");
        times.found_whole(id(4));
        assert_eq!(times.choose(percent(1), packs()).suspect, [id(2)]);
    }

    #[test]
    fn without_a_journal_every_pack_has_its_chance() {
        let packs = || (0..4).map(|number| (id(number), 10));
        let first = |_| PackTimes::read(None, place(), &Silent).choose(percent(1), packs()).share[0];
        let met: std::collections::BTreeSet<_> = (0..400).map(first).collect();
        assert_eq!(met.len(), 4);
    }

    #[test]
    fn a_journal_that_fails_is_reported_and_nothing_else() {
        #[derive(Default)]
        struct Warnings(Mutex<Vec<String>>);
        impl Progress for Warnings {
            fn event(&self, event: Event<'_>) {
                if let Event::Warning(text) = event {
                    self.0.lock().unwrap().push(text.to_owned());
                }
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.sqlite")).unwrap();
        let warnings = Warnings::default();
        let times = PackTimes::read(Some(&journal), place(), &warnings);
        journal.forget_the_table_of_packs();
        times.found_whole(id(1));
        times.flush();
        times.found_whole(id(2));
        times.flush();
        assert_eq!(times.choose(percent(1), [(id(1), 10), (id(3), 10)].into_iter()).share, [id(3)]);
        let warnings = warnings.0.into_inner().unwrap();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with("it is not remembered which packs were verified: "), "{warnings:?}");
    }

    proptest! {
        #[test]
        fn twenty_samples_of_five_percent_meet_every_pack_and_take_no_more_than_they_must(
            sizes in proptest::collection::vec(1..1_000_000_u64, 1..200),
            damaged in proptest::collection::btree_set(0..200_u64, 0..5),
        ) {
            let packs = || (0..).zip(&sizes).map(|(number, bytes)| (id(number), *bytes));
            let bytes: HashMap<PackId, u64> = packs().collect();
            let is_damaged: std::collections::HashSet<PackId> = damaged.into_iter().map(id).collect();
            let times = PackTimes::read(None, place(), &Silent);
            let mut met: std::collections::HashSet<PackId> = std::collections::HashSet::new();
            for second in 1..=20 {
                let chosen = times.choose(percent(5), packs()).share;
                let total: u64 = chosen.iter().map(|id| bytes[id]).sum();
                let last = chosen.last().map_or(0, |id| bytes[id]);
                let wanted = percent(5).of(sizes.iter().sum());
                let is_all = chosen.len() == sizes.len() - times.choose(percent(5), packs()).suspect.len();
                prop_assert!((total >= wanted || is_all) && total - last < wanted);
                let whole = Some(Timestamp::from_second(second).unwrap());
                let state = |id: &PackId| PackState { whole, is_suspect: is_damaged.contains(id) };
                met.extend(chosen.iter().copied());
                times.lock().states.extend(chosen.into_iter().map(|id| (id, state(&id))));
            }
            prop_assert_eq!(met.len(), sizes.len());
        }
    }
}
