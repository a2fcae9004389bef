//! The rules of health: what is worth telling, and how grave it is.

use std::fmt;
use std::str::FromStr;

use jiff::SignedDuration;

use super::reader::{Item, Section};
use super::values;
use crate::human;

/// How grave something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// To be looked at in working hours.
    Warning,
    /// To be looked at now.
    Critical,
}

impl Severity {
    /// Returns the word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Severity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Info, Self::Warning, Self::Critical]
            .into_iter()
            .find(|severity| severity.word() == text)
            .ok_or_else(|| format!("{text:?} is none of info, warning and critical"))
    }
}

/// From where on something is of which severity; a rule without any is switched off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Levels<T> {
    /// From here on info.
    pub info: Option<T>,
    /// From here on a warning.
    pub warning: Option<T>,
    /// From here on critical.
    pub critical: Option<T>,
}

impl<T> Levels<T> {
    /// Returns the gravest severity whose threshold `reached` says is reached, with the threshold.
    pub fn worst(&self, reached: impl Fn(&T) -> bool) -> Option<(Severity, &T)> {
        let levels = [
            (Severity::Critical, &self.critical),
            (Severity::Warning, &self.warning),
            (Severity::Info, &self.info),
        ];
        levels
            .into_iter()
            .filter_map(|(severity, threshold)| Some((severity, threshold.as_ref()?)))
            .find(|(_, threshold)| reached(threshold))
    }

    fn none() -> Self {
        Self { info: None, warning: None, critical: None }
    }
}

/// An age as a multiple of the interval between two backups, plus a fixed time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age {
    /// Percent of the interval: 200 is twice as long. 0 for an age that is fixed.
    pub interval_percent: u32,
    /// Added to it.
    pub plus: SignedDuration,
}

impl Age {
    /// Returns how long this is where backups come in such intervals.
    #[must_use]
    pub fn within(self, interval: SignedDuration) -> SignedDuration {
        let seconds = i128::from(interval.as_secs()) * i128::from(self.interval_percent) / 100;
        let share = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
        share.saturating_add(self.plus)
    }

    /// Tells whether it depends on a schedule.
    #[must_use]
    pub fn is_relative(self) -> bool {
        self.interval_percent > 0
    }
}

impl FromStr for Age {
    type Err = String;

    /// Parses `interval`, `interval + 25%`, `interval + 2h`, `interval * 2`, `2 intervals` or `25h`.
    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || {
            format!(
                "{text:?} is no age such as \"interval + 25%\", \"interval * 2\", \"2 intervals\" or \"25h\""
            )
        };
        let relative = |percent| Self { interval_percent: percent, plus: SignedDuration::ZERO };
        let words: Vec<&str> = text.split_whitespace().collect();
        let times = |text: &str| parse_times(text).ok_or_else(refuse);
        match words.as_slice() {
            ["interval"] => Ok(relative(100)),
            ["interval", "*", number] => times(number).map(relative),
            [number, "interval" | "intervals"] => times(number).map(relative),
            ["interval", "+", more] if more.ends_with('%') => {
                values::percent(more, 10_000).map(|percent| relative(100 + percent)).map_err(|_| refuse())
            }
            ["interval", "+", more @ ..] if !more.is_empty() => {
                let plus = human::parse_duration(&more.join(" ")).map_err(|_| refuse())?;
                Ok(Self { interval_percent: 100, plus })
            }
            _ => {
                let plus = human::parse_duration(text).map_err(|_| refuse())?;
                if plus.is_zero() { Err(refuse()) } else { Ok(Self { interval_percent: 0, plus }) }
            }
        }
    }
}

/// Parses a number such as `2` or `1.5` as percent.
fn parse_times(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 2 {
        return None;
    }
    let percent: u32 = format!("{whole}{part:0<2}").parse().ok()?;
    (1..=10_000).contains(&percent).then_some(percent)
}

/// The rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// So many failures in a row.
    pub failures: Levels<u32>,
    /// The last backup is as old as that.
    pub max_age: Levels<Age>,
    /// So many percent slower than the median of the last 14.
    pub slower: Levels<u32>,
    /// So many percent smaller than what is normal.
    pub shrunk: Levels<u32>,
    /// Fewer percent than that succeeded.
    pub success_rate: Levels<u32>,
    /// Over so long.
    pub success_window: SignedDuration,
    /// What a failed verification is; nothing switches that off.
    pub verify_failed: Option<Severity>,
    /// What a backup is that lacks something; nothing switches that off.
    pub partial: Option<Severity>,
    /// So many percent of a disk are used.
    pub disk_used: Levels<u32>,
    /// What was not copied yet is as old as that.
    pub copy_behind: Levels<Age>,
    /// A backup took longer.
    pub max_duration: Levels<SignedDuration>,
}

impl Default for Rules {
    fn default() -> Self {
        let relative = |percent| Some(Age { interval_percent: percent, plus: SignedDuration::ZERO });
        Self {
            failures: Levels { warning: Some(1), critical: Some(3), info: None },
            max_age: Levels { warning: relative(125), critical: relative(200), info: None },
            slower: Levels { info: Some(50), ..Levels::none() },
            shrunk: Levels { warning: Some(50), ..Levels::none() },
            success_rate: Levels { warning: Some(95), ..Levels::none() },
            success_window: SignedDuration::from_hours(7 * 24),
            verify_failed: Some(Severity::Critical),
            partial: Some(Severity::Warning),
            disk_used: Levels { warning: Some(90), ..Levels::none() },
            copy_behind: Levels { warning: relative(200), ..Levels::none() },
            max_duration: Levels { warning: Some(SignedDuration::from_mins(30)), ..Levels::none() },
        }
    }
}

impl Rules {
    /// Reads a table of rules; those that it does not name are as `base` has them.
    pub(super) fn read(section: Section<'_>, base: &Self) -> Self {
        let percent = |most| move |item: &Item<'_>| item.parse(|text| values::percent(text, most));
        let age = |item: &Item<'_>| item.parse(str::parse);
        let mut success_window = base.success_window;
        let success_rate = match section.item("success-rate") {
            Some(item) if !item.is_off() => match item.section() {
                Some(below) => {
                    success_window =
                        below.parse("window", human::parse_duration).unwrap_or(base.success_window);
                    levels_of(below, percent(100))
                }
                None => base.success_rate.clone(),
            },
            Some(_) => Levels::none(),
            None => base.success_rate.clone(),
        };
        let rules = Self {
            failures: levels(&section, "failures", &base.failures, |item| item.number(1..=1000)),
            max_age: levels(&section, "max-age", &base.max_age, age),
            slower: levels(&section, "slower", &base.slower, percent(10_000)),
            shrunk: levels(&section, "shrunk", &base.shrunk, percent(100)),
            success_rate,
            success_window,
            verify_failed: values::switchable(section.item("verify-failed"), base.verify_failed, |item| {
                item.parse(str::parse)
            }),
            partial: values::switchable(section.item("partial"), base.partial, |item| item.parse(str::parse)),
            disk_used: levels(&section, "disk-used", &base.disk_used, percent(100)),
            copy_behind: levels(&section, "copy-behind", &base.copy_behind, age),
            max_duration: levels(&section, "max-duration", &base.max_duration, |item| {
                item.parse(human::parse_duration)
            }),
        };
        section.finish();
        rules
    }
}

/// Reads `{ warning = …, critical = … }`, or `false`.
fn levels<T: Clone>(
    section: &Section<'_>,
    name: &'static str,
    base: &Levels<T>,
    read: impl Fn(&Item<'_>) -> Option<T>,
) -> Levels<T> {
    match section.item(name) {
        None => base.clone(),
        Some(item) if item.is_off() => Levels::none(),
        Some(item) => item
            .section_like("{ warning = …, critical = … }")
            .map_or_else(|| base.clone(), |section| levels_of(section, read)),
    }
}

fn levels_of<T>(section: Section<'_>, read: impl Fn(&Item<'_>) -> Option<T>) -> Levels<T> {
    let level = |name| section.item(name).and_then(|item| read(&item));
    let levels = Levels { info: level("info"), warning: level("warning"), critical: level("critical") };
    section.finish();
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_intervals_or_times() {
        let hours = SignedDuration::from_hours;
        for (text, of_a_day) in [
            ("interval", hours(24)),
            ("interval + 25%", hours(30)),
            ("interval * 2", hours(48)),
            ("interval * 1.5", hours(36)),
            ("2 intervals", hours(48)),
            ("interval + 2h", hours(26)),
            ("25h", hours(25)),
            ("2d", hours(48)),
        ] {
            assert_eq!(text.parse::<Age>().unwrap().within(hours(24)), of_a_day, "{text}");
        }
        for text in
            ["", "interval +", "interval * x", "interval * -1", "interval - 1h", "0", "x intervals", "+25%"]
        {
            assert!(text.parse::<Age>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_gravest_level_that_is_reached_counts() {
        let rules = Rules::default();
        let severity =
            |failures| rules.failures.worst(|from| failures >= *from).map(|(severity, _)| severity);
        assert_eq!(severity(0), None);
        assert_eq!(severity(1), Some(Severity::Warning));
        assert_eq!(severity(2), Some(Severity::Warning));
        assert_eq!(severity(3), Some(Severity::Critical));
    }
}
