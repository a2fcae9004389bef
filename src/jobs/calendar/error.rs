//! What is wrong with a calendar expression: which part, why, and how to write it.

use std::fmt;

use thiserror::Error;

use super::parse::VALUES_MAX;

/// Why a calendar expression cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CalendarError {
    /// There is none, or nothing but a time zone.
    #[error("a schedule needs a date or a time of day, as in \"daily\" or \"Mon..Fri 22:00\"")]
    Empty,
    /// A word that is none of a calendar.
    #[error(
        "{0:?} is no schedule: write \"hourly\", \"daily\", \"Mon..Fri 22:00\" or \"*-*-1 04:30\", for instance"
    )]
    Word(String),
    /// A word among weekdays that is none.
    #[error("{0:?} is no weekday: write Mon, Tue, Wed, Thu, Fri, Sat or Sun, as in \"Mon..Thu,Sat 22:00\"")]
    Weekday(String),
    /// A range of weekdays that is none.
    #[error(
        "{0:?} is no range of weekdays: a week goes from Mon to Sun, so write \"Sat,Sun,Mon\" or \"Mon..Fri\""
    )]
    WeekdayRange(String),
    /// A date that is none.
    #[error("{part:?} is no date: {fault}")]
    Date {
        /// As it was written.
        part: String,
        /// Why.
        fault: Fault,
    },
    /// A time of day that is none.
    #[error("{part:?} is no time of day: {fault}")]
    Time {
        /// As it was written.
        part: String,
        /// Why.
        fault: Fault,
    },
    /// A time zone that this host does not know.
    #[error("{0:?} is no time zone known here: write \"UTC\" or a place, as in \"Europe/Berlin\"")]
    Zone(String),
}

/// What is wrong with a date or a time of day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It has too few parts, too many, or others.
    Shape,
    /// Something that is no number.
    Number(String),
    /// A number out of bounds.
    Range(Unit),
    /// The number of a day, counted from the end of the month.
    RangeFromEnd,
    /// A list of days, counted from the end of the month, that systemd does not read.
    ListFromEnd,
    /// A range that leads down.
    Backwards,
    /// A repetition of nothing.
    RepeatsByZero,
    /// A repetition that leads out of bounds at once.
    NeverRepeats(Unit),
    /// A repetition from the end of the month that leads out of it at once.
    NeverRepeatsFromEnd,
    /// `*` with something beside it.
    Star(Unit),
    /// A list that is longer than anybody needs, or systemd reads.
    TooMany,
    /// A fraction of a second.
    Fraction,
    /// The seconds of a clock that counts since 1970.
    Instant,
}

/// What a number of an expression counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// From 1970 to 2199.
    Year,
    /// From 1 to 12.
    Month,
    /// From 1 to 31.
    Day,
    /// From 0 to 23.
    Hour,
    /// From 0 to 59.
    Minute,
    /// From 0 to 59.
    Second,
}

impl Unit {
    /// Returns the lowest and the highest value.
    pub(super) fn bounds(self) -> (i16, i16) {
        match self {
            Self::Year => (*super::YEARS.start(), *super::YEARS.end()),
            Self::Month => (1, 12),
            Self::Day => (1, 31),
            Self::Hour => (0, 23),
            Self::Minute | Self::Second => (0, 59),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Year => "year",
            Self::Month => "month",
            Self::Day => "day",
            Self::Hour => "hour",
            Self::Minute => "minute",
            Self::Second => "second",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape => f.write_str("write \"2026-12-31 02:30\", \"*-*-1\" or \"02:30\", for instance"),
            Self::Number(text) => write!(f, "{text:?} is no number"),
            Self::Range(unit) => {
                let (low, high) = unit.bounds();
                write!(f, "{}s go from {low} to {high}", unit.name())
            }
            Self::RangeFromEnd => {
                f.write_str("days before the end of a month go from 1, the last one, to 28")
            }
            Self::ListFromEnd => {
                f.write_str("systemd does not read such a list; write several schedules instead")
            }
            Self::Backwards => f.write_str("a range goes up, as in \"8..18\""),
            Self::RepeatsByZero => f.write_str("a repetition is at least 1, as in \"0/15\""),
            Self::NeverRepeats(unit) => {
                let (_, high) = unit.bounds();
                write!(f, "it does not repeat, since {}s end with {high}", unit.name())
            }
            Self::NeverRepeatsFromEnd => {
                f.write_str("it does not repeat, since the month ends; \"~7/1\" means the last seven days")
            }
            Self::Star(unit) => {
                let (low, _) = unit.bounds();
                write!(f, "\"*\" stands alone; write \"{low}/2\" for every second {}", unit.name())
            }
            Self::TooMany => {
                write!(f, "it lists more than {VALUES_MAX} values; write ranges, as in \"8..18\"")
            }
            Self::Fraction => f.write_str("fractions of a second are not supported"),
            Self::Instant => {
                f.write_str("seconds since 1970 are not supported; write it as \"2026-12-31 02:30 UTC\"")
            }
        }
    }
}
