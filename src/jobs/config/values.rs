//! Values that several tables of a configuration have: names, schedules, policies.

use jiff::{SignedDuration, Span};

use super::reader::Item;
use crate::format::snapshot::is_source_name;
use crate::human;
use crate::jobs::calendar::{Calendar, Schedule};
use crate::ops::forget::policy::Policy;

/// Parses a name of a store, source or alert.
pub(super) fn name(text: &str) -> Result<String, String> {
    if is_source_name(text) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is no name: letters, digits, `.`, `_` and `-`, at most 100"))
}

/// Reads a schedule: an expression, or a list of some.
pub(super) fn schedule(item: &Item<'_>) -> Option<Schedule> {
    let parse = |text: &str| text.parse::<Calendar>().map_err(|error| error.to_string());
    let items = if item.is_list() { item.list()? } else { return item.parse(parse).map(Schedule::from) };
    let calendars: Option<Vec<Calendar>> = items.iter().map(|item| item.parse(parse)).collect();
    Schedule::new(calendars?).map_err(|error| item.report(error.to_string())).ok()
}

/// Returns a schedule that this program names itself.
pub(super) fn fixed(text: &'static str) -> Schedule {
    let calendar: Calendar = text.parse().unwrap_or_else(|_| unreachable!("{text} is an expression"));
    Schedule::from(calendar)
}

/// Reads what `false` switches off and what else has a default.
pub(super) fn switchable<T>(
    item: Option<Item<'_>>,
    default: Option<T>,
    read: impl FnOnce(&Item<'_>) -> Option<T>,
) -> Option<T> {
    match item {
        Some(item) if item.is_off() => None,
        Some(item) => read(&item),
        None => default,
    }
}

/// Reads a policy: `{ daily = 7, weekly = 4, within = "30d" }`.
pub(super) fn keep(item: &Item<'_>) -> Option<Policy> {
    let section = item.section_like("{ daily = 7, weekly = 4 }")?;
    let number = |name| section.item(name).and_then(|item| item.number(1..=100_000)).unwrap_or_default();
    let policy = Policy {
        last: number("last"),
        hourly: number("hourly"),
        daily: number("daily"),
        weekly: number("weekly"),
        monthly: number("monthly"),
        yearly: number("yearly"),
        within: section.parse("within", span),
        tags: section.item("tags").and_then(|item| item.texts()).unwrap_or_default(),
        ..Policy::default()
    };
    if section.finish() && policy.is_empty() {
        item.report("it keeps nothing; say how many, as in { daily = 7, weekly = 4, monthly = 12 }");
    }
    Some(policy)
}

/// Parses a time that may be months.
pub(super) fn span(text: &str) -> Result<Span, String> {
    human::parse_span(text)
}

/// Parses how long something may take, which is more than nothing.
pub(super) fn limit(text: &str) -> Result<SignedDuration, String> {
    match human::parse_duration(text)? {
        SignedDuration::ZERO => Err("it has to be longer than nothing".to_owned()),
        limit => Ok(limit),
    }
}

/// Parses a share of a whole such as `90%`, in percent; `most` is the largest.
pub(super) fn percent(text: &str, most: u32) -> Result<u32, String> {
    let refuse = || format!("{text:?} is no share such as 50%, from 1% to {most}%");
    let digits = text.strip_suffix('%').ok_or_else(refuse)?.trim_end();
    let number: u32 = digits.parse().map_err(|_| refuse())?;
    if (1..=most).contains(&number) { Ok(number) } else { Err(refuse()) }
}
