//! Numbers, times and sizes as people read and write them.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

use crate::path::escape;

/// Returns a time in UTC, ending in `Z`, to the second.
#[must_use]
pub fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Returns a time as the clocks of a zone show it, with how far they are from UTC, to the second.
#[must_use]
pub fn local_time(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

/// Returns a long time in its largest unit of which there are two at least: `25 days`, `36 hours`.
#[must_use]
pub fn rough(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().unsigned_abs();
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute")];
    let (unit, noun) = units.into_iter().find(|(unit, _)| seconds >= 2 * unit).unwrap_or((1, "second"));
    counted(seconds / unit, noun)
}

/// Returns a number of bytes in decimal units, such as `1.09 GB`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    indicatif::DecimalBytes(bytes).to_string()
}

/// Returns a number with thousands separators.
#[must_use]
pub fn count(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

/// Returns a number and its noun, in the plural unless there is one.
#[must_use]
pub fn counted(number: u64, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", count(number))
}

/// Returns a duration: `0.42 s`, `12.3 s`, `3 m 20 s`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 10.0 {
        format!("{seconds:.2} s")
    } else if seconds < 120.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{} m {} s", duration.as_secs() / 60, duration.as_secs() % 60)
    }
}

/// Returns how many bytes a second `bytes` in `duration` are, such as `88.1 MB/s`.
#[must_use]
pub fn rate(bytes: u64, duration: Duration) -> String {
    let milliseconds = duration.as_millis().max(1);
    let rate = u128::from(bytes).saturating_mul(1000) / milliseconds;
    format!("{}/s", self::bytes(u64::try_from(rate).unwrap_or(u64::MAX)))
}

/// Parses a size as people write it: `4096`, `64K`, `1.5GiB`; units are powers of 1,024.
///
/// # Errors
/// Refuses what is no size.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let refuse = || format!("{text:?} is not a size such as 4096, 64K or 1G");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let (_, unit) = text.split_at(digits.len());
    let shift = match unit.to_ascii_lowercase().trim_end_matches("ib") {
        "" | "b" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(refuse()),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let unit_bytes = 1_u64 << shift;
    // Without this check a plus sign would pass.
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if fraction.is_empty() || fraction.len() > 6 || !is_number(whole) || !is_number(fraction) {
        return Err(refuse());
    }
    let whole: u64 = whole.parse().map_err(|_| refuse())?;
    let parts: u64 = fraction.parse().map_err(|_| refuse())?;
    let scale = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| refuse())?);
    let extra = u128::from(unit_bytes) * u128::from(parts) / scale;
    whole
        .checked_mul(unit_bytes)
        .and_then(|bytes| bytes.checked_add(u64::try_from(extra).ok()?))
        .ok_or_else(refuse)
}

/// Parses a time that is over, with its distance from UTC, as RFC 3339 has it. Those before 1970 cannot be stored.
///
/// # Errors
/// Refuses what is no time, or one to come.
pub fn parse_past_time(text: &str) -> Result<Timestamp, String> {
    let time: Timestamp = text.parse().map_err(|_| {
        format!("{text:?} is not a time such as 2026-11-21T05:31:06Z or 2026-11-21T06:31:06+01:00")
    })?;
    match time {
        time if time > Timestamp::now() => Err("it lies in the future".to_owned()),
        time if time < Timestamp::UNIX_EPOCH => Err("it lies before 1970".to_owned()),
        time => Ok(time),
    }
}

/// Parses a time as people write it: `7d`, `12h`, `0`. A day has 24 hours.
///
/// # Errors
/// Refuses what is no time, and what has no fixed length, such as a month.
pub fn parse_duration(text: &str) -> Result<SignedDuration, String> {
    if text == "0" {
        return Ok(SignedDuration::ZERO);
    }
    let span: Option<Span> = text.parse().ok();
    let duration = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    duration
        .filter(|duration| !duration.is_negative())
        .ok_or_else(|| format!("{text:?} is not a time such as 7d, 12h, 10m or 0"))
}

/// Reads a time of hours or longer. Whoever comes from restic means months by `6m`, and would keep six minutes.
///
/// # Errors
/// Refuses what is shorter, and what is no time.
pub fn parse_span(text: &str) -> Result<Span, String> {
    let span: Span = text.parse().map_err(|_| format!("{text:?} is not a time such as 30d, 8w or 1y6mo"))?;
    let is_fine = span.get_minutes() != 0
        || span.get_seconds() != 0
        || span.get_milliseconds() != 0
        || span.get_microseconds() != 0
        || span.get_nanoseconds() != 0;
    match span {
        _ if is_fine => Err("hours are the shortest; months are mo, as in 6mo".to_owned()),
        span if span.is_positive() => Ok(span),
        _ => Err("it has to be longer than nothing".to_owned()),
    }
}

/// Returns what the check of a dump says, fit for a terminal. The names in it may be escaped already, so that backslashes
/// stay what they are.
#[must_use]
pub fn reason(text: &str) -> String {
    escape(text.as_bytes()).replace("\\\\", "\\")
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;

    use super::*;

    #[test]
    fn sizes_are_read_in_powers_of_1024() {
        for (text, bytes) in
            [("0", 0), ("4096", 4096), ("64K", 65_536), ("64k", 65_536), ("64KiB", 65_536), ("1.5G", 3 << 29)]
        {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "K", "1.", ".5", "-1", "1X", "1 K", "99999999999T", "1.2.3", "1.1234567K", "+1"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_say_how_far_they_are_from_utc() {
        let expected: Timestamp = "2025-11-21T05:31:06Z".parse().unwrap();
        for text in ["2025-11-21T05:31:06Z", "2025-11-21 06:31:06+01:00"] {
            assert_eq!(parse_past_time(text).as_ref(), Ok(&expected), "{text}");
        }
        for text in
            ["", "2025-11-21", "2025-11-21T05:31:06", "yesterday", "2999-01-01T00:00Z", "1969-12-31T00:00Z"]
        {
            assert!(parse_past_time(text).is_err(), "{text}");
        }
        assert_eq!(local_time(expected, &TimeZone::fixed(jiff::tz::offset(1))), "2025-11-21T06:31:06+01:00");
    }

    #[test]
    fn durations_and_rates_are_short() {
        assert_eq!(duration(Duration::from_millis(420)), "0.42 s");
        assert_eq!(duration(Duration::from_secs(200)), "3 m 20 s");
        assert_eq!(rate(5_000_000, Duration::from_secs(2)), "2.50 MB/s");
        assert_eq!(counted(1, "file"), "1 file");
        for (seconds, expected) in
            [(1, "1 second"), (119, "119 seconds"), (86_400, "24 hours"), (864_000, "10 days")]
        {
            assert_eq!(rough(SignedDuration::from_secs(seconds)), expected);
        }
        assert_eq!(counted(70_114, "file"), "70,114 files");
    }

    #[test]
    fn durations_are_exact() {
        for (text, seconds) in
            [("0", 0), ("0d", 0), ("7d", 604_800), ("12h", 43_200), ("10m", 600), ("1w", 604_800)]
        {
            assert_eq!(parse_duration(text), Ok(SignedDuration::from_secs(seconds)), "{text}");
        }
        for text in ["", "7", "-1d", "1mo", "1y", "x"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_to_keep_are_of_hours_at_least() {
        for (text, expected) in
            [("30d", 30.days()), ("1y6mo", 1.year().months(6)), ("36h", 36.hours()), ("8 weeks", 8.weeks())]
        {
            assert_eq!(parse_span(text).unwrap().fieldwise(), expected.fieldwise(), "{text}");
        }
        for text in ["6m", "30s", "1d12m", "1h 1ns"] {
            assert!(parse_span(text).unwrap_err().contains("6mo"), "{text}");
        }
        for text in ["", "30", "x", "0d", "-3d", "3d ago"] {
            assert!(parse_span(text).is_err(), "{text}");
        }
    }
}
