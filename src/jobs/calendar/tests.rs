//! What expressions mean, what is said of wrong ones, and what holds of all.

use std::time::{Duration, Instant};

use jiff::civil::DateTime;
use proptest::prelude::*;

use super::*;

fn berlin() -> TimeZone {
    TimeZone::get("Europe/Berlin").unwrap()
}

fn calendar(text: &str) -> Calendar {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn error(text: &str) -> String {
    text.parse::<Calendar>().expect_err(text).to_string()
}

fn utc(text: &str) -> Timestamp {
    text.parse::<DateTime>().unwrap().to_zoned(TimeZone::UTC).unwrap().timestamp()
}

/// Returns the next so many times in UTC, as `2026-01-01T00:00:00`.
fn next(count: usize, text: &str, after: &str, zone: &TimeZone) -> Vec<String> {
    let calendar = calendar(text);
    let next = |time: &Timestamp| calendar.next_after(*time, zone);
    std::iter::successors(next(&utc(after)), next)
        .take(count)
        .map(|time| time.to_string().trim_end_matches('Z').to_owned())
        .collect()
}

#[test]
fn times_follow_each_other() {
    let next = |text, after| next(2, text, after, &TimeZone::UTC);
    assert_eq!(next("daily", "2026-11-22T12:00:00"), ["2026-11-23T00:00:00", "2026-11-24T00:00:00"]);
    assert_eq!(next("daily", "2026-11-23T00:00:00"), ["2026-11-24T00:00:00", "2026-11-25T00:00:00"]);
    assert_eq!(next("Fri..Sat 22:30", "2026-11-22T12:00:00"), ["2026-11-27T22:30:00", "2026-11-28T22:30:00"]);
    assert_eq!(next("*-*~1 04:00", "2028-01-31T04:00:00"), ["2028-02-29T04:00:00", "2028-03-31T04:00:00"]);
    assert_eq!(next("Mon *-05~07/1", "2026-01-01T00:00:00"), ["2026-05-25T00:00:00", "2027-05-31T00:00:00"]);
    assert_eq!(next("*-*~1..7/3", "2026-02-20T00:00:00"), ["2026-02-22T00:00:00", "2026-02-25T00:00:00"]);
    assert_eq!(next("*-02-29", "2095-01-01T00:00:00"), ["2096-02-29T00:00:00", "2104-02-29T00:00:00"]);
    assert_eq!(next("8..18/5:15", "2026-01-01T09:00:00"), ["2026-01-01T13:15:00", "2026-01-01T18:15:00"]);
    assert_eq!(next("*:*:10/25", "2026-01-01T23:59:20"), ["2026-01-01T23:59:35", "2026-01-02T00:00:10"]);
    assert_eq!(next("quarterly", "2026-08-01T00:00:00"), ["2026-10-01T00:00:00", "2027-01-01T00:00:00"]);
    assert_eq!(
        next("2199-12-31 23:59:58/1", "2026-01-01T00:00:00"),
        ["2199-12-31T23:59:58", "2199-12-31T23:59:59"]
    );
}

#[test]
fn a_zone_of_its_own_goes_before() {
    let times = next(1, "12:00 Asia/Kolkata", "2026-01-01T00:00:00", &berlin());
    assert_eq!(times, ["2026-01-01T06:30:00"]);
    assert_eq!(next(1, "12:00 utc", "2026-01-01T00:00:00", &berlin()), ["2026-01-01T12:00:00"]);
}

#[test]
fn what_clocks_skip_in_spring_is_skipped() {
    let next = |count, text, after| next(count, text, after, &berlin());
    assert_eq!(next(2, "02:30", "2026-03-28T00:00:00"), ["2026-03-28T01:30:00", "2026-03-30T00:30:00"]);
    assert_eq!(next(2, "*:30", "2026-03-29T00:00:00"), ["2026-03-29T00:30:00", "2026-03-29T01:30:00"]);
    let last = |text: &str, at| calendar(text).last_at(utc(at), &berlin()).unwrap();
    assert_eq!(last("02:30", "2026-03-29T12:00:00"), utc("2026-03-28T01:30:00"));
    assert_eq!(last("*:*:*", "2026-03-29T01:00:00"), utc("2026-03-29T01:00:00"));
    assert_eq!(last("*:*:59", "2026-03-29T01:00:58"), utc("2026-03-29T00:59:59"));
}

#[test]
fn what_comes_twice_in_autumn_counts_once() {
    let next = |count, text, after| next(count, text, after, &berlin());
    assert_eq!(next(2, "02:30", "2026-10-24T12:00:00"), ["2026-10-25T00:30:00", "2026-10-26T01:30:00"]);
    assert_eq!(next(3, "*:30", "2026-10-24T23:00:00")[1..], ["2026-10-25T00:30:00", "2026-10-25T02:30:00"]);
    // During the second time around, too.
    assert_eq!(next(1, "*:30", "2026-10-25T01:10:00"), ["2026-10-25T02:30:00"]);
    let last = |text: &str, at| calendar(text).last_at(utc(at), &berlin()).unwrap();
    assert_eq!(last("02:30", "2026-10-25T01:30:00"), utc("2026-10-25T00:30:00"));
    assert_eq!(last("*:30", "2026-10-25T01:10:00"), utc("2026-10-25T00:30:00"));
}

#[test]
fn a_success_is_good_until_the_next_time() {
    let hours = |text: &str, at| calendar(text).interval_at(utc(at), &berlin()).map(|time| time.as_hours());
    assert_eq!(hours("02:30", "2026-11-22T12:00:00"), Some(24));
    assert_eq!(hours("02:30", "2026-10-25T12:00:00"), Some(25));
    assert_eq!(hours("02:30", "2026-03-29T12:00:00"), Some(47));
    assert_eq!(hours("Mon..Fri 22:00", "2026-11-22T12:00:00"), Some(72));
    assert_eq!(hours("2030-01-01", "2026-11-22T12:00:00"), None);
    assert_eq!(hours("2020-01-01", "2026-11-22T12:00:00"), None);
}

#[test]
fn several_expressions_are_due_together() {
    let schedule = Schedule::new(vec![calendar("Mon..Fri 22:00"), calendar("Sun 04:00")]).unwrap();
    let sunday = utc("2026-11-22T12:00:00");
    assert_eq!(schedule.last_at(sunday, &TimeZone::UTC), Some(utc("2026-11-22T04:00:00")));
    assert_eq!(schedule.next_after(sunday, &TimeZone::UTC), Some(utc("2026-11-23T22:00:00")));
    assert_eq!(schedule.interval_at(sunday, &TimeZone::UTC), Some(SignedDuration::from_hours(42)));
    assert_eq!(schedule.to_string(), "Mon..Fri 22:00; Sun 04:00");
    assert_eq!(Schedule::new(Vec::new()), Err(CalendarError::Empty));
}

#[test]
fn what_never_comes_is_known_at_once() {
    let now = utc("2026-11-22T12:00:00");
    for text in ["*-02-30", "2020-01-01", "*-02,04,06,09,11-31 *:*:*", "Mon 2026-11-22"] {
        let calendar = calendar(text);
        let started = Instant::now();
        assert_eq!(calendar.next_after(now, &berlin()), None, "{text}");
        // Far more than it takes, for machines that are busy.
        assert!(started.elapsed() < Duration::from_millis(100), "{text}: {:?}", started.elapsed());
    }
    assert_eq!(calendar("2020-01-01").last_at(now, &TimeZone::UTC), Some(utc("2020-01-01T00:00:00")));
    assert_eq!(calendar("*-02-30").last_at(now, &TimeZone::UTC), None);
    assert_eq!(calendar("daily").next_after(Timestamp::MAX, &berlin()), None);
    assert_eq!(calendar("daily").last_at(Timestamp::MIN, &berlin()), None);
    // Samoa left out a whole day.
    let apia = TimeZone::get("Pacific/Apia").unwrap();
    let skipped = calendar("2011-12-30 *:*:*");
    let started = Instant::now();
    assert_eq!(skipped.next_after(utc("2011-12-01T00:00:00"), &apia), None);
    assert_eq!(skipped.last_at(now, &apia), None);
    assert!(started.elapsed() < Duration::from_millis(100), "{:?}", started.elapsed());
}

#[test]
fn errors_name_the_part_and_how_to_write_it() {
    for (text, message) in [
        ("", "a schedule needs a date or a time of day, as in \"daily\" or \"Mon..Fri 22:00\""),
        ("25:00", "\"25:00\" is no time of day: hours go from 0 to 23"),
        ("Mon 10:60", "\"10:60\" is no time of day: minutes go from 0 to 59"),
        ("10:00:99999999999", "\"10:00:99999999999\" is no time of day: seconds go from 0 to 59"),
        ("*-13-1", "\"*-13-1\" is no date: months go from 1 to 12"),
        ("2200-1-1", "\"2200-1-1\" is no date: years go from 1970 to 2199"),
        ("*-*~29", "\"*-*~29\" is no date: days before the end of a month go from 1, the last one, to 28"),
        ("18..8:00", "\"18..8:00\" is no time of day: a range goes up, as in \"8..18\""),
        ("*:0/0", "\"*:0/0\" is no time of day: a repetition is at least 1, as in \"0/15\""),
        ("*:30/30", "\"*:30/30\" is no time of day: it does not repeat, since minutes end with 59"),
        ("*/2:00", "\"*/2:00\" is no time of day: \"*\" stands alone; write \"0/2\" for every second hour"),
        ("*-*-*/2", "\"*-*-*/2\" is no date: \"*\" stands alone; write \"1/2\" for every second day"),
        ("10:00:00.5", "\"10:00:00.5\" is no time of day: fractions of a second are not supported"),
        (
            "*-*-*T10:00",
            "\"*-*-*T10:00\" is no time of day: write \"2026-12-31 02:30\", \"*-*-1\" or \"02:30\", for instance",
        ),
        ("02:", "\"02:\" is no time of day: \"\" is no number"),
        (
            "Mond",
            "\"Mond\" is no schedule: write \"hourly\", \"daily\", \"Mon..Fri 22:00\" or \"*-*-1 04:30\", for instance",
        ),
        (
            "Fri..Mon",
            "\"Fri..Mon\" is no range of weekdays: a week goes from Mon to Sun, so write \"Sat,Sun,Mon\" or \"Mon..Fri\"",
        ),
        (
            "daily CEST",
            "\"CEST\" is no time zone known here: write \"UTC\" or a place, as in \"Europe/Berlin\"",
        ),
        (
            "daily europe/berlin",
            "\"europe/berlin\" is no time zone known here: write \"UTC\" or a place, as in \"Europe/Berlin\"",
        ),
    ] {
        assert_eq!(error(text), message, "{text}");
    }
    assert!(error("Mon,Foo 10:00").starts_with("\"Foo\" is no weekday: "));
    assert!(error("@1234").contains("seconds since 1970"));
    assert!(error("1").starts_with("\"1\" is no date: write "));
    let many = vec!["1"; parse::VALUES_MAX + 1].join(",");
    assert!(error(&format!("{many}:00")).contains("more than 240 values"));
}

#[test]
fn expressions_are_shown_as_they_were_written() {
    assert_eq!(calendar("  Mon..fri   *-*-*  2:30 ").to_string(), "Mon..fri *-*-* 2:30");
    assert_eq!(calendar("DAILY\nUTC").to_string(), "DAILY UTC");
}

#[test]
fn timers_are_given_what_systemd_understands() {
    let lines = |text: &str| calendar(text).to_systemd();
    assert_eq!(lines("daily"), ["*-*-* 00:00:00"]);
    assert_eq!(
        lines("sat,mon..wed 4/8:30 Europe/Berlin"),
        ["Mon,Tue,Wed,Sat *-*-* 04..20/8:30:00 Europe/Berlin"]
    );
    assert_eq!(lines("*-*~28/3 1,2:0/15"), ["*-*~01..28/3 01,02:00..45/15:00"]);
    assert_eq!(lines("*-2~1,2,9"), ["*-02~01 00:00:00", "*-02~02 00:00:00", "*-02~09 00:00:00"]);
    assert_eq!(lines("2026/2-*~*"), ["2026..2198/2-*-* 00:00:00"]);
}

#[test]
fn cron_is_given_what_it_can_say() {
    let fields = |text: &str| calendar(text).to_cron();
    for (text, expected) in [
        ("02:30", "30 2 * * *"),
        ("Mon..Fri,Sun 8..18:0/15", "0-45/15 8-18 * * 0-5"),
        ("weekly", "0 0 * * 1"),
        ("quarterly", "0 0 1 1-10/3 *"),
        ("*-*-1,15 4:05", "5 4 1,15 * *"),
        ("Sat,Sun *-12-* *:59", "59 * * 12 0,6"),
    ] {
        assert_eq!(fields(text).as_deref(), Some(expected), "{text}");
    }
    for text in ["2:30:15", "2:30 UTC", "2027-*-* 2:30", "*-*~1 2:30", "Sun *-*-1..7 2:30"] {
        assert_eq!(fields(text), None, "{text}");
    }
}

/// Expressions of all kinds, most of which come again and again.
fn expressions() -> impl Strategy<Value = String> {
    let weekdays = prop_oneof![Just(String::new()), "(Mon|Tue\\.\\.Thu|Sat,Sun) "];
    let date = prop_oneof![
        Just(String::new()),
        Just("*-*-* ".to_owned()),
        (1..=12, 1..=28).prop_map(|(month, day)| format!("{month}-{day} ")),
        (1..=6, 1..=6).prop_map(|(first, step)| format!("*-*-{first}/{step} ")),
        (2..=20).prop_map(|day| format!("*-*~{day}/1 ")),
        (2020..=2030).prop_map(|year| format!("{year}-*-* ")),
    ];
    let part = |high: u32| {
        prop_oneof![
            Just("*".to_owned()),
            (0..high).prop_map(|value| value.to_string()),
            (0..high / 2, 1..high / 2).prop_map(|(first, step)| format!("{first}/{step}")),
            (0..high / 2, 1..high / 2).prop_map(move |(first, more)| format!("{first}..{}", first + more)),
        ]
    };
    let zone = prop_oneof![4 => Just(""), 1 => Just(" UTC"), 1 => Just(" America/New_York")];
    (weekdays, date, part(24), part(60), part(60), zone).prop_map(
        |(weekdays, date, hour, minute, second, zone)| {
            format!("{weekdays}{date}{hour}:{minute}:{second}{zone}")
        },
    )
}

/// Instants around the years of the expressions, often near those at which clocks are set.
fn instants() -> impl Strategy<Value = Timestamp> {
    let around = |base: Timestamp, range: i64| {
        (-range..range).prop_map(move |by| base + SignedDuration::from_millis(by))
    };
    prop_oneof![
        around(utc("2026-03-29T01:00:00"), 5_000_000),
        around(utc("2026-10-25T01:00:00"), 9_000_000),
        around(utc("2026-06-15T12:00:00"), 100_000_000_000),
    ]
}

/// Tells whether cron would start something, by `crontab(5)`.
fn cron_matches(fields: &str, time: &jiff::Zoned) -> bool {
    let now = [time.minute(), time.hour(), time.day(), time.month(), time.weekday().to_sunday_zero_offset()];
    fields.split(' ').zip(now).all(|(field, now)| {
        field.split(',').any(|item| {
            let (range, step) = item.split_once('/').unwrap_or((item, "1"));
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = if range == "*" { ("0", "59") } else { (first, last) };
            let (first, last): (i8, i8) = (first.parse().unwrap(), last.parse().unwrap());
            (first..=last).contains(&now) && (now - first) % step.parse::<i8>().unwrap() == 0
        })
    })
}

proptest! {
    #[test]
    fn next_and_last_belong_together(text in expressions(), time in instants()) {
        let (calendar, zone) = (calendar(&text), berlin());
        let nanosecond = SignedDuration::from_nanos(1);
        if let Some(last) = calendar.last_at(time, &zone) {
            prop_assert!(last <= time);
            prop_assert_eq!(calendar.next_after(last - nanosecond, &zone), Some(last));
            prop_assert_eq!(calendar.next_after(last, &zone), calendar.next_after(time, &zone));
        }
        if let Some(next) = calendar.next_after(time, &zone) {
            prop_assert!(next > time);
            prop_assert_eq!(calendar.last_at(next, &zone), Some(next));
            prop_assert_eq!(calendar.last_at(next - nanosecond, &zone), calendar.last_at(time, &zone));
        }
    }

    #[test]
    fn cron_means_the_same(text in expressions().prop_map(|text| text.replace(":*", ":0")), days in 0..3000_i64) {
        let Some(fields) = calendar(&text).to_cron() else { return Ok(()) };
        let start = utc("2026-01-01T00:00:00") + SignedDuration::from_hours(24 * days);
        for minute in 0..3 * 24 * 60 {
            let time = start + SignedDuration::from_mins(minute);
            let due = calendar(&text).last_at(time, &TimeZone::UTC) == Some(time);
            prop_assert_eq!(cron_matches(&fields, &time.to_zoned(TimeZone::UTC)), due, "{} at {}", fields, time);
        }
    }

    #[test]
    fn what_is_shown_reads_the_same(text in expressions()) {
        let calendar = calendar(&text);
        prop_assert_eq!(calendar.to_string().parse(), Ok(calendar));
    }

    #[test]
    fn nothing_panics(text in "[MonTueday ,.:~/*@0-9-]{0,20}", time in instants()) {
        if let Ok(calendar) = text.parse::<Calendar>() {
            let _ = calendar.next_after(time, &berlin());
            let _ = calendar.last_at(time, &berlin());
        }
    }
}
