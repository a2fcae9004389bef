//! Which instants an expression means: the search for the next and for the last of them.
//!
//! An expression matches *local* times of day. Of those that match, the ones that clocks skip are no instants, and
//! those that come twice are the first of the two. So later local times are later instants, and the search may go
//! by local time: from where `time` stands, over years, months, days and times of day that match, in order.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use super::{Calendar, Days};

const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// Returns the first instant after `time`.
pub(super) fn next_after(calendar: &Calendar, time: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let mut from = match second_time_around(time, zone) {
        Some(change) => change.before.to_datetime(change.at),
        None => whole_second(time, zone)?.checked_add(SECOND).ok()?,
    };
    loop {
        match instant(first_from(calendar, from)?, zone)? {
            Local::Comes(instant) => return Some(instant),
            Local::Skipped(change) => from = change.after.to_datetime(change.at),
        }
    }
}

/// Returns the last instant at or before `time`.
pub(super) fn last_at(calendar: &Calendar, time: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let mut until = match second_time_around(time, zone) {
        Some(change) => change.before.to_datetime(change.at).checked_sub(SECOND).ok()?,
        None => whole_second(time, zone)?,
    };
    loop {
        match instant(last_until(calendar, until)?, zone)? {
            Local::Comes(instant) => return Some(instant),
            Local::Skipped(change) => {
                until = change.before.to_datetime(change.at).checked_sub(SECOND).ok()?;
            }
        }
    }
}

/// A moment at which clocks are set.
struct Change {
    at: Timestamp,
    before: Offset,
    after: Offset,
}

/// What becomes of a local time.
enum Local {
    Comes(Timestamp),
    /// Clocks are set forward over it.
    Skipped(Change),
}

fn instant(local: DateTime, zone: &TimeZone) -> Option<Local> {
    match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
            Some(Local::Comes(offset.to_timestamp(local).ok()?))
        }
        AmbiguousOffset::Gap { before, .. } => {
            // As if clocks had not been set, this is an instant after the change.
            Some(Local::Skipped(last_change(before.to_timestamp(local).ok()?, zone)?))
        }
    }
}

/// Returns the change of clocks because of which the local time of `time` comes twice, if this is the second time.
fn second_time_around(time: Timestamp, zone: &TimeZone) -> Option<Change> {
    match zone.to_ambiguous_timestamp(zone.to_datetime(time)).offset() {
        AmbiguousOffset::Fold { after, .. } if zone.to_offset(time) == after => last_change(time, zone),
        _ => None,
    }
}

/// Returns the last change of clocks at or before `time`. Not all that is listed of a zone changes them.
fn last_change(time: Timestamp, zone: &TimeZone) -> Option<Change> {
    zone.preceding(time.checked_add(SECOND).ok()?).find_map(|transition| {
        let (at, after) = (transition.timestamp(), transition.offset());
        let before = zone.to_offset(at.checked_sub(SECOND).ok()?);
        (before != after).then_some(Change { at, before, after })
    })
}

fn whole_second(time: Timestamp, zone: &TimeZone) -> Option<DateTime> {
    zone.to_datetime(time).with().subsec_nanosecond(0).build().ok()
}

/// Returns the first local time at or after `from` that matches.
fn first_from(calendar: &Calendar, from: DateTime) -> Option<DateTime> {
    if let Some(time) = first_time(calendar, from.time())
        && matches_date(calendar, from.date())
    {
        return Some(from.date().to_datetime(time));
    }
    let date = first_date(calendar, from.date().tomorrow().ok()?)?;
    Some(date.to_datetime(first_time(calendar, Time::midnight())?))
}

/// Returns the last local time at or before `until` that matches.
fn last_until(calendar: &Calendar, until: DateTime) -> Option<DateTime> {
    if let Some(time) = last_time(calendar, until.time())
        && matches_date(calendar, until.date())
    {
        return Some(until.date().to_datetime(time));
    }
    let date = last_date(calendar, until.date().yesterday().ok()?)?;
    Some(date.to_datetime(last_time(calendar, Time::MAX)?))
}

fn matches_date(calendar: &Calendar, date: Date) -> bool {
    calendar.years.contains(&date.year())
        && calendar.months.contains(&date.month())
        && dates_of(calendar, date.year(), date.month()).contains(&date)
}

/// Returns the first date at or after `from` that matches. Looks at no more than the months that match.
fn first_date(calendar: &Calendar, from: Date) -> Option<Date> {
    calendar.years.range(from.year()..).find_map(|year| {
        let month = if *year == from.year() { from.month() } else { 1 };
        calendar
            .months
            .range(month..)
            .find_map(|month| dates_of(calendar, *year, *month).into_iter().find(|date| *date >= from))
    })
}

/// Returns the last date at or before `until` that matches. Looks at no more than the months that match.
fn last_date(calendar: &Calendar, until: Date) -> Option<Date> {
    calendar.years.range(..=until.year()).rev().find_map(|year| {
        let month = if *year == until.year() { until.month() } else { 12 };
        calendar
            .months
            .range(..=month)
            .rev()
            .find_map(|month| dates_of(calendar, *year, *month).into_iter().rev().find(|date| *date <= until))
    })
}

/// Returns the dates of a month whose day and weekday match, in order.
fn dates_of(calendar: &Calendar, year: i16, month: i8) -> Vec<Date> {
    let Ok(first) = Date::new(year, month, 1) else { return Vec::new() };
    let length = first.days_in_month();
    let days: Vec<i8> = match &calendar.days {
        Days::FromStart(days) => days.iter().copied().collect(),
        Days::FromEnd(days) => days.iter().rev().map(|day| length - day + 1).collect(),
    };
    let is_due = |date: &Date| calendar.weekdays >> date.weekday().to_monday_zero_offset() & 1 == 1;
    // A day that the month does not have is no date.
    days.into_iter().filter_map(|day| Date::new(year, month, day).ok()).filter(is_due).collect()
}

/// Returns the first time of day at or after `from` that matches.
fn first_time(calendar: &Calendar, from: Time) -> Option<Time> {
    calendar.hours.range(from.hour()..).find_map(|hour| {
        let minute = if *hour == from.hour() { from.minute() } else { 0 };
        calendar.minutes.range(minute..).find_map(|minute| {
            let is_now = (*hour, *minute) == (from.hour(), from.minute());
            let second = calendar.seconds.range(if is_now { from.second() } else { 0 }..).next()?;
            Time::new(*hour, *minute, *second, 0).ok()
        })
    })
}

/// Returns the last time of day at or before `until` that matches.
fn last_time(calendar: &Calendar, until: Time) -> Option<Time> {
    calendar.hours.range(..=until.hour()).rev().find_map(|hour| {
        let minute = if *hour == until.hour() { until.minute() } else { 59 };
        calendar.minutes.range(..=minute).rev().find_map(|minute| {
            let is_now = (*hour, *minute) == (until.hour(), until.minute());
            let second = calendar.seconds.range(..=if is_now { until.second() } else { 59 }).next_back()?;
            Time::new(*hour, *minute, *second, 0).ok()
        })
    })
}
