//! From the text of a calendar expression to its values.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use super::{Calendar, CalendarError, Days, EVERY_WEEKDAY, Fault, Unit, Values};

/// So many values can be listed in one part; systemd stops reading at the same number.
pub(super) const VALUES_MAX: usize = 240;

const WEEKDAYS: [(&str, &str); 7] = [
    ("mon", "monday"),
    ("tue", "tuesday"),
    ("wed", "wednesday"),
    ("thu", "thursday"),
    ("fri", "friday"),
    ("sat", "saturday"),
    ("sun", "sunday"),
];

/// Words for whole expressions. Those behind `semiannually` and `anually` are in no manual, but systemd reads them.
const SHORTHANDS: [(&[&str], &str); 8] = [
    (&["minutely"], "*-*-* *:*:00"),
    (&["hourly"], "*-*-* *:00:00"),
    (&["daily"], "*-*-* 00:00:00"),
    (&["weekly"], "Mon *-*-* 00:00:00"),
    (&["monthly"], "*-*-01 00:00:00"),
    (&["quarterly"], "*-01,04,07,10-01 00:00:00"),
    (&["semiannually", "semi-annually", "biannually", "bi-annually"], "*-01,07-01 00:00:00"),
    (&["yearly", "annually", "anually"], "*-01-01 00:00:00"),
];

/// Reads an expression.
pub(super) fn calendar(text: &str) -> Result<Calendar, CalendarError> {
    let mut words: Vec<&str> = text.split_ascii_whitespace().collect();
    let text = words.join(" ");
    let zone = zone(&mut words)?;
    if let [word] = words[..]
        && let Some(meaning) = shorthand(word)
    {
        let parts: Vec<&str> = meaning.split(' ').collect();
        return Ok(Calendar { text, zone, ..plain(&parts)? });
    }
    Ok(Calendar { text, zone, ..plain(&words)? })
}

/// Takes the time zone from the end of an expression, if it is there.
fn zone(words: &mut Vec<&str>) -> Result<Option<TimeZone>, CalendarError> {
    let [.., before, last] = words[..] else { return Ok(None) };
    let begins_with_a_letter = last.starts_with(|c: char| c.is_ascii_alphabetic());
    // The second of two weekdays: `Mon Tue` is a mistake of another kind.
    let is_weekday = weekdays(last).is_ok() && before.starts_with(|c: char| c.is_ascii_alphabetic());
    if !begins_with_a_letter || is_weekday {
        return Ok(None);
    }
    words.pop();
    if last.eq_ignore_ascii_case("UTC") {
        return Ok(Some(TimeZone::UTC));
    }
    // Places have a slash. Names without one (`CET`) mean half of the year to systemd where they are local.
    let zone = TimeZone::get(last).ok().filter(|zone| last.contains('/') && zone.iana_name() == Some(last));
    zone.map(Some).ok_or_else(|| CalendarError::Zone(last.to_owned()))
}

fn shorthand(word: &str) -> Option<&'static str> {
    let is_named = |names: &[&str]| names.iter().any(|name| word.eq_ignore_ascii_case(name));
    SHORTHANDS.iter().find(|(names, _)| is_named(names)).map(|(_, meaning)| *meaning)
}

/// Reads weekdays, date and time, each of which may be missing, but not all.
fn plain(words: &[&str]) -> Result<Calendar, CalendarError> {
    let (first, others) = words.split_first().ok_or(CalendarError::Empty)?;
    let (weekdays, rest) = if first.starts_with(|c: char| c.is_ascii_alphabetic()) {
        (weekdays(first)?, others)
    } else {
        (EVERY_WEEKDAY, words)
    };
    let (date, time) = match rest {
        [] => (None, None),
        [time] if time.contains(':') => (None, Some(*time)),
        [date] => (Some(*date), None),
        [date, time] => (Some(*date), Some(*time)),
        [.., last] => return Err(CalendarError::Word((*last).to_owned())),
    };
    let date = date.unwrap_or("*-*-*");
    let (years, months, days) =
        date_of(date).map_err(|fault| CalendarError::Date { part: date.to_owned(), fault })?;
    let time = time.unwrap_or("00:00:00");
    let (hours, minutes, seconds) =
        time_of(time).map_err(|fault| CalendarError::Time { part: time.to_owned(), fault })?;
    Ok(Calendar { text: String::new(), weekdays, years, months, days, hours, minutes, seconds, zone: None })
}

/// Reads `Mon..Wed,Sat`, also with a comma at the end, and with the `-` of old for ranges.
fn weekdays(word: &str) -> Result<u8, CalendarError> {
    let list = word.strip_suffix(',').unwrap_or(word);
    let mut bits = 0;
    for item in list.split(',') {
        let (first, last) = item.split_once("..").or_else(|| item.split_once('-')).unwrap_or((item, item));
        let (first, last) = match (weekday(first), weekday(last)) {
            (Some(first), Some(last)) => (first, last),
            _ if list == item && first == last => return Err(CalendarError::Word(word.to_owned())),
            (None, _) => return Err(CalendarError::Weekday(first.to_owned())),
            (_, None) => return Err(CalendarError::Weekday(last.to_owned())),
        };
        if first > last {
            return Err(CalendarError::WeekdayRange(item.to_owned()));
        }
        bits |= (first..=last).fold(0, |bits, day| bits | 1 << day);
    }
    Ok(bits)
}

fn weekday(name: &str) -> Option<usize> {
    let is_named =
        |(short, long): &(&str, &str)| name.eq_ignore_ascii_case(short) || name.eq_ignore_ascii_case(long);
    WEEKDAYS.iter().position(is_named)
}

/// Reads year, month and day, or month and day. A `~` before the day counts from the end of the month.
fn date_of(date: &str) -> Result<(BTreeSet<i16>, Values, Days), Fault> {
    if date.starts_with('@') {
        return Err(Fault::Instant);
    }
    let at = date.rfind(['-', '~']).ok_or(Fault::Shape)?;
    let (before, day) = (&date[..at], &date[at + 1..]);
    let (year, month) = before.split_once('-').unwrap_or(("*", before));
    if month.contains('-') || before.contains('~') {
        return Err(Fault::Shape);
    }
    let days = if date[at..].starts_with('~') {
        Days::FromEnd(small(values(day, Unit::Day, Count::FromEnd)?))
    } else {
        Days::FromStart(small(values(day, Unit::Day, Count::FromStart)?))
    };
    let month = values(month, Unit::Month, Count::FromStart)?;
    Ok((values(year, Unit::Year, Count::FromStart)?, small(month), days))
}

/// Reads hours and minutes, and maybe seconds.
fn time_of(time: &str) -> Result<(Values, Values, Values), Fault> {
    if time.contains(['-', '~']) {
        return Err(Fault::Shape);
    }
    let parts: Vec<&str> = time.split(':').collect();
    let (hour, minute, second) = match parts[..] {
        [hour, minute] => (hour, minute, "0"),
        [hour, minute, second] => (hour, minute, second),
        _ => return Err(Fault::Shape),
    };
    let read = |list, unit| values(list, unit, Count::FromStart).map(small);
    Ok((read(hour, Unit::Hour)?, read(minute, Unit::Minute)?, read(second, Unit::Second)?))
}

/// Returns values of any part but years, none of which is larger than 59.
fn small(values: BTreeSet<i16>) -> Values {
    values.into_iter().filter_map(|value| i8::try_from(value).ok()).collect()
}

/// Where values are counted from, and so which way they repeat: towards the end, or down to the last day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    FromStart,
    FromEnd,
}

/// Reads `*`, or a list of values, ranges and repetitions. Never returns none.
fn values(list: &str, unit: Unit, count: Count) -> Result<BTreeSet<i16>, Fault> {
    let (low, high) = unit.bounds();
    if list == "*" {
        return Ok((low..=high).collect());
    }
    if list.split(',').count() > VALUES_MAX {
        return Err(Fault::TooMany);
    }
    let items = list.split(',').map(|item| item_of(item, unit, count)).collect::<Result<BTreeSet<_>, _>>()?;
    if count == Count::FromEnd {
        fits_systemd(&items)?;
    }
    let mut set = BTreeSet::new();
    for (first, last, step) in items {
        match (last, count) {
            (Some(last), _) => set.extend((first..=last).step_by(step)),
            (None, Count::FromStart) => set.extend((first..=high).step_by(step)),
            (None, Count::FromEnd) => set.extend((low..=first).rev().step_by(step)),
        }
    }
    Ok(set)
}

/// Holds a list of days before the end of the month against what systemd 252 reads, which is three less for each item
/// but the first. What it does not read it leaves out of a timer, with no more than a warning.
fn fits_systemd(items: &BTreeSet<(i16, Option<i16>, usize)>) -> Result<(), Fault> {
    for ((first, last, _), highest) in items.iter().zip((0..=28).rev().step_by(3)) {
        if (*first).max(last.unwrap_or(0)) > highest {
            return Err(Fault::ListFromEnd);
        }
    }
    Ok(())
}

/// Reads `a`, `a..b`, `a/step` or `a..b/step`: the first value, the last one unless it is that of the part, the step.
fn item_of(item: &str, unit: Unit, count: Count) -> Result<(i16, Option<i16>, usize), Fault> {
    let (range, step) = match item.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (item, None),
    };
    if range.contains('*') {
        return Err(Fault::Star(unit));
    }
    let (first, last) = range.split_once("..").map_or((range, None), |(first, last)| (first, Some(last)));
    let (first, last) = (number(first, unit)?, last.map(|last| number(last, unit)).transpose()?);
    // A range of one second is none to systemd either.
    let is_empty_range = unit == Unit::Second && step.is_none() && last == Some(first);
    if is_empty_range || last.is_some_and(|last| last < first) {
        return Err(Fault::Backwards);
    }
    let first = bounded(first, unit, count)?;
    let Some(step) = step else {
        let last = last.map_or(Ok(first), |last| bounded(last, unit, count))?;
        return Ok((first, Some(last), 1));
    };
    let step = count_of(step, unit)?;
    if step == 0 {
        return Err(Fault::RepeatsByZero);
    }
    // What a range comes to at last must be there, whatever it was written to end with.
    let last = last.map(|last| bounded(last - (last - i32::from(first)) % step, unit, count)).transpose()?;
    let (low, high) = unit.bounds();
    let room = match count {
        Count::FromStart => high - first,
        Count::FromEnd => first - low,
    };
    if last.is_none() && step > i32::from(room) {
        return Err(match count {
            Count::FromStart => Fault::NeverRepeats(unit),
            Count::FromEnd => Fault::NeverRepeatsFromEnd,
        });
    }
    Ok((first, last, usize::try_from(step).unwrap_or(usize::MAX)))
}

/// Holds a number against the bounds of what it counts.
fn bounded(number: i32, unit: Unit, count: Count) -> Result<i16, Fault> {
    let ((low, high), fault) = match count {
        Count::FromStart => (unit.bounds(), Fault::Range(unit)),
        // Every month has so many.
        Count::FromEnd => ((1, 28), Fault::RangeFromEnd),
    };
    i16::try_from(number).ok().filter(|value| (low..=high).contains(value)).ok_or(fault)
}

/// Reads a number, and years of two digits as systemd does.
fn number(text: &str, unit: Unit) -> Result<i32, Fault> {
    Ok(match (count_of(text, unit)?, unit) {
        (year @ 0..70, Unit::Year) => year + 2000,
        (year @ 70..100, Unit::Year) => year + 1900,
        (number, _) => number,
    })
}

/// Reads digits. What is too large for any part comes out as large.
fn count_of(text: &str, unit: Unit) -> Result<i32, Fault> {
    if unit == Unit::Second && text.contains('.') {
        return Err(Fault::Fraction);
    }
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Fault::Number(text.to_owned()));
    }
    Ok(text.parse().unwrap_or(i32::MAX))
}
