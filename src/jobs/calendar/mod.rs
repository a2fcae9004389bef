//! When something is due: calendar expressions as systemd writes them (`OnCalendar`), and lists of them.
//!
//! The specification is `systemd.time(7)`, section "CALENDAR EVENTS", and the answers are those of systemd 252. What
//! is left out is what no backup needs: fractions of a second, `@` with seconds since 1970, and abbreviations of time
//! zones (`CEST`), which are good for half a year only. What is done better is what systemd 252 does wrong, by its own
//! manual and later versions: a repetition such as `4/8` that leads beyond the end of a day, hour or month may make it
//! miss the first value of the next one.
//!
//! Where clocks are set, an expression means this. A time of day that is skipped in spring is skipped: a backup at
//! 02:30 does not run on that day. A time of day that comes twice in autumn counts once, the first time it comes.

mod error;
mod parse;
mod search;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

pub use error::{CalendarError, Fault, Unit};

/// The years an expression can name, as in systemd. Nothing is ever due outside of them.
const YEARS: std::ops::RangeInclusive<i16> = 1970..=2199;
/// The weekdays of an expression that names none.
const EVERY_WEEKDAY: u8 = 0b111_1111;

/// A calendar expression: `daily`, `Mon..Fri *-*-* 22:00`, `*-*~1 04:00 UTC`.
///
/// Has at least one value for each of its parts, each within the bounds of the part. It may still never be due:
/// `*-02-30`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    /// As it was written, with single spaces between its parts.
    text: String,
    /// One bit for each weekday, the lowest for Monday.
    weekdays: u8,
    years: BTreeSet<i16>,
    months: Values,
    days: Days,
    hours: Values,
    minutes: Values,
    seconds: Values,
    /// `None` leaves it to who asks.
    zone: Option<TimeZone>,
}

/// The values of one part of an expression, all that there are for `*`. Never empty.
type Values = BTreeSet<i8>;

/// The days of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Days {
    /// Counted from the first of the month, which is 1.
    FromStart(Values),
    /// Counted from the last of the month, which is 1.
    FromEnd(Values),
}

impl Calendar {
    /// Returns the first time strictly after `time`; `None` if there is none before the year 2200.
    ///
    /// `zone` is that of the expression where it names none.
    #[must_use]
    pub fn next_after(&self, time: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        search::next_after(self, time, self.zone.as_ref().unwrap_or(zone))
    }

    /// Returns the latest time at or before `time`; `None` if there is none since 1970.
    #[must_use]
    pub fn last_at(&self, time: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        search::last_at(self, time, self.zone.as_ref().unwrap_or(zone))
    }

    /// Returns how long a success at `time` is good for: from [`last_at`](Self::last_at) to
    /// [`next_after`](Self::next_after).
    #[must_use]
    pub fn interval_at(&self, time: Timestamp, zone: &TimeZone) -> Option<SignedDuration> {
        Some(self.next_after(time, zone)?.duration_since(self.last_at(time, zone)?))
    }
}

impl FromStr for Calendar {
    type Err = CalendarError;

    fn from_str(text: &str) -> Result<Self, CalendarError> {
        parse::calendar(text)
    }
}

impl fmt::Display for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// One calendar expression or several, any of which makes something due. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    calendars: Vec<Calendar>,
}

impl Schedule {
    /// Makes one of several expressions.
    ///
    /// # Errors
    /// [`CalendarError::Empty`] if there is none.
    pub fn new(calendars: Vec<Calendar>) -> Result<Self, CalendarError> {
        if calendars.is_empty() { Err(CalendarError::Empty) } else { Ok(Self { calendars }) }
    }

    /// Returns the expressions, at least one.
    #[must_use]
    pub fn calendars(&self) -> &[Calendar] {
        &self.calendars
    }

    /// Returns the first time strictly after `time`; `None` if there is none before the year 2200.
    ///
    /// `zone` is that of the expressions that name none.
    #[must_use]
    pub fn next_after(&self, time: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        self.calendars.iter().filter_map(|calendar| calendar.next_after(time, zone)).min()
    }

    /// Returns the latest time at or before `time`; `None` if there is none since 1970.
    #[must_use]
    pub fn last_at(&self, time: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        self.calendars.iter().filter_map(|calendar| calendar.last_at(time, zone)).max()
    }

    /// Returns how long a success at `time` is good for: from [`last_at`](Self::last_at) to
    /// [`next_after`](Self::next_after).
    #[must_use]
    pub fn interval_at(&self, time: Timestamp, zone: &TimeZone) -> Option<SignedDuration> {
        Some(self.next_after(time, zone)?.duration_since(self.last_at(time, zone)?))
    }
}

impl From<Calendar> for Schedule {
    fn from(calendar: Calendar) -> Self {
        Self { calendars: vec![calendar] }
    }
}

impl FromStr for Schedule {
    type Err = CalendarError;

    /// Reads a single expression.
    fn from_str(text: &str) -> Result<Self, CalendarError> {
        text.parse::<Calendar>().map(Self::from)
    }
}

impl fmt::Display for Schedule {
    /// Writes the expressions with `; ` between them, since commas are part of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, calendar) in self.calendars.iter().enumerate() {
            if number > 0 {
                f.write_str("; ")?;
            }
            calendar.fmt(f)?;
        }
        Ok(())
    }
}
