//! Which snapshots of one series a policy keeps, and why. Pure: nothing is read or written.

use std::collections::HashSet;

use jiff::{Span, Timestamp, Zoned};

use crate::repo::snapshots::Snapshot;

/// What to keep of a series. Each rule keeps by itself; a snapshot that none keeps is forgotten.
///
/// A rule of the calendar keeps the last snapshot of each of the latest so many hours, days … that have one. All of
/// them count in local time, whose days may have 23 or 25 hours.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// So many of the latest.
    pub last: u32,
    /// The last of each hour.
    pub hourly: u32,
    /// The last of each day.
    pub daily: u32,
    /// The last of each week, which begins on Monday.
    pub weekly: u32,
    /// The last of each month.
    pub monthly: u32,
    /// The last of each year.
    pub yearly: u32,
    /// All that are at most so much older than the latest that counts.
    pub within: Option<Span>,
    /// All that have one of these tags.
    pub tags: Vec<String>,
    /// Suspicious ones that are older than this are kept by none of these rules.
    pub suspicious_within: Option<Span>,
}

impl Policy {
    /// Tells whether it has no rule, and so would keep the latest alone.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.within.is_none() && self.tags.is_empty() && CALENDAR.iter().all(|rule| (rule.count)(self) == 0)
    }
}

/// Why a snapshot is kept. The numbers count from the latest, which is 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// One of the latest.
    Last(u32),
    /// The last of an hour.
    Hourly(u32),
    /// The last of a day.
    Daily(u32),
    /// The last of a week.
    Weekly(u32),
    /// The last of a month.
    Monthly(u32),
    /// The last of a year.
    Yearly(u32),
    /// Young enough.
    Within,
    /// It has this tag.
    Tag(String),
    /// It is protected.
    Protected,
    /// The latest good one, which is kept in any case; of a series without a good one, the latest.
    Latest,
    /// Others were named.
    NotNamed,
}

/// Returns why each of the snapshots of a series is kept, in their order; no reason means that it is not.
///
/// Protected ones are kept beside the others, as if they were not there. Suspicious ones that nobody accepted, and
/// those that claim to be of the future, are counted by the same rules apart, so that they push nothing out. The
/// latest good one that is not of the future is always kept; if there is none, the latest good one, or else the
/// latest.
///
/// `now` is the local time: days are those of its zone.
///
/// # Errors
/// Fails if the calendar ends, that is, with a span that leads before the year -9999.
pub fn decide(policy: &Policy, snapshots: &[Snapshot], now: &Zoned) -> Result<Vec<Vec<Reason>>, jiff::Error> {
    let mut all: Vec<Judged<'_>> = snapshots.iter().enumerate().map(Judged::new(now)).collect();
    all.sort_by_key(|judged| std::cmp::Reverse((judged.snapshot.manifest.time, judged.snapshot.manifest.id)));
    for group in [Group::Counted, Group::Future, Group::Suspicious] {
        let mut members: Vec<_> = all.iter_mut().filter(|judged| judged.group == group).collect();
        apply(policy, &mut members)?;
    }
    if let Some(span) = policy.suspicious_within {
        let oldest = now.checked_sub(span)?;
        let is_old = |judged: &&mut Judged<'_>| judged.group == Group::Suspicious && judged.time < oldest;
        all.iter_mut().filter(is_old).for_each(|judged| judged.reasons.clear());
    }
    for judged in all.iter_mut().filter(|judged| judged.group == Group::Protected) {
        judged.reasons.push(Reason::Protected);
    }
    if let Some(latest) = latest(&mut all, now.timestamp())
        && latest.reasons.is_empty()
    {
        latest.reasons.push(Reason::Latest);
    }
    all.sort_by_key(|judged| judged.position);
    Ok(all.into_iter().map(|judged| judged.reasons).collect())
}

/// Tells whether a snapshot takes a place that the rules give to others: neither protected nor suspicious, nor of the
/// future.
#[must_use]
pub fn counts(snapshot: &Snapshot, now: Timestamp) -> bool {
    Group::of(snapshot, now) == Group::Counted
}

/// Snapshots that rules count together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    /// Those of which the next one takes the place of an older one.
    Counted,
    /// Those that no rule is asked for.
    Protected,
    /// Those that are not known to be good.
    Suspicious,
    /// Those whose writer had a clock that is ahead: they would be the latest for long.
    Future,
}

impl Group {
    fn of(snapshot: &Snapshot, now: Timestamp) -> Self {
        if snapshot.marks.protected {
            Self::Protected
        } else if !snapshot.may_be_latest() {
            Self::Suspicious
        } else if snapshot.manifest.time > now {
            Self::Future
        } else {
            Self::Counted
        }
    }
}

/// A snapshot, and what is found out about it.
struct Judged<'a> {
    /// Its place in the series as it was given.
    position: usize,
    snapshot: &'a Snapshot,
    group: Group,
    /// Its time by local clocks.
    time: Zoned,
    reasons: Vec<Reason>,
}

impl<'a> Judged<'a> {
    fn new(now: &Zoned) -> impl Fn((usize, &'a Snapshot)) -> Self {
        |(position, snapshot)| Self {
            position,
            snapshot,
            group: Group::of(snapshot, now.timestamp()),
            time: snapshot.manifest.time.to_zoned(now.time_zone().clone()),
            reasons: Vec::new(),
        }
    }
}

/// Returns the snapshot that is kept in any case, of all from the newest to the oldest.
fn latest<'all, 'a>(all: &'all mut [Judged<'a>], now: Timestamp) -> Option<&'all mut Judged<'a>> {
    let is_good = |judged: &Judged<'_>| judged.snapshot.may_be_latest();
    let is_past = |judged: &Judged<'_>| judged.snapshot.manifest.time <= now;
    let position = all
        .iter()
        .position(|judged| is_good(judged) && is_past(judged))
        .or_else(|| all.iter().position(is_good))
        .unwrap_or(0);
    all.get_mut(position)
}

/// Applies all rules to a group of snapshots, the newest first.
fn apply(policy: &Policy, group: &mut [&mut Judged<'_>]) -> Result<(), jiff::Error> {
    for rule in &CALENDAR {
        let (mut seen, mut kept) = (HashSet::new(), 0);
        for (nth, judged) in group.iter_mut().enumerate() {
            // Where clocks are set back over midnight, a day goes on after the next one began.
            if kept < (rule.count)(policy) && seen.insert((rule.period)(&judged.time, nth)) {
                kept += 1;
                judged.reasons.push((rule.reason)(kept));
            }
        }
    }
    let newest = group.first().map(|judged| judged.time.clone());
    if let (Some(span), Some(newest)) = (policy.within, newest) {
        let oldest = newest.checked_sub(span)?;
        for judged in group.iter_mut().filter(|judged| judged.time >= oldest) {
            judged.reasons.push(Reason::Within);
        }
    }
    for judged in group.iter_mut() {
        let tags = judged.snapshot.manifest.tags.iter().filter(|tag| policy.tags.contains(tag));
        judged.reasons.extend(tags.cloned().map(Reason::Tag));
    }
    Ok(())
}

/// A rule that keeps the last snapshot of so many periods.
struct Rule {
    count: fn(&Policy) -> u32,
    /// What tells a period from those before and after it; the second argument counts the snapshots from the newest.
    period: fn(&Zoned, usize) -> Period,
    reason: fn(u32) -> Reason,
}

/// A period of the calendar, or one snapshot.
type Period = (i64, i64, i64);

const CALENDAR: [Rule; 6] = [
    Rule {
        count: |policy| policy.last,
        period: |_, nth| (i64::try_from(nth).unwrap_or(i64::MAX), 0, 0),
        reason: Reason::Last,
    },
    // An hour that comes twice, when clocks are set back, is two hours.
    Rule {
        count: |policy| policy.hourly,
        period: |time, _| (day(time), time.hour().into(), time.offset().seconds().into()),
        reason: Reason::Hourly,
    },
    Rule { count: |policy| policy.daily, period: |time, _| (day(time), 0, 0), reason: Reason::Daily },
    Rule {
        count: |policy| policy.weekly,
        period: |time, _| {
            let week = time.date().iso_week_date();
            (week.year().into(), week.week().into(), 0)
        },
        reason: Reason::Weekly,
    },
    Rule {
        count: |policy| policy.monthly,
        period: |time, _| (time.year().into(), time.month().into(), 0),
        reason: Reason::Monthly,
    },
    Rule {
        count: |policy| policy.yearly,
        period: |time, _| (time.year().into(), 0, 0),
        reason: Reason::Yearly,
    },
];

fn day(time: &Zoned) -> i64 {
    i64::from(time.year()) * 366 + i64::from(time.day_of_year())
}

#[cfg(test)]
mod tests;
