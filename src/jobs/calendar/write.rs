//! A calendar expression in the words of those who start what is due: systemd's timers, and cron.

use std::collections::BTreeSet;

use super::{Calendar, Days, EVERY_WEEKDAY, YEARS};

const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

impl Calendar {
    /// Returns the expression for the lines `OnCalendar=` of a timer, of which there may be several.
    ///
    /// Not as it was written: systemd 252 goes wrong with repetitions that lead beyond the end of a day, and stops the
    /// timer on days at which clocks are set (`4/8:00`). With the same values as a range or a list it does not. Nor
    /// does it read every list of days that are counted from the end of the month; each range is a line of its own.
    #[must_use]
    pub fn to_systemd(&self) -> Vec<String> {
        let weekdays: Vec<_> = (0..7).filter(|day| self.has_weekday(*day)).map(|day| WEEKDAYS[day]).collect();
        let weekdays = if weekdays.len() == 7 { String::new() } else { weekdays.join(",") + " " };
        let years = list(&self.years, YEARS, 2);
        let months = list(&self.months, 1..=12, 2);
        let time =
            [list(&self.hours, 0..=23, 2), list(&self.minutes, 0..=59, 2), list(&self.seconds, 0..=59, 2)]
                .join(":");
        let zone = self.zone.as_ref().and_then(|zone| zone.iana_name());
        let zone = zone.map_or_else(String::new, |name| format!(" {name}"));
        let days = match &self.days {
            Days::FromStart(days) => vec![format!("-{}", list(days, 1..=31, 2))],
            Days::FromEnd(days) if days.len() == 31 => vec!["-*".to_owned()],
            Days::FromEnd(days) => runs(days).into_iter().map(|run| format!("~{}", run.text(2))).collect(),
        };
        days.into_iter().map(|days| format!("{weekdays}{years}-{months}{days} {time}{zone}")).collect()
    }

    /// Returns the five fields of a crontab that mean exactly the same, in local time; `None` if there are none: cron
    /// knows no seconds, years, zones, or days from the end of the month, and takes a weekday *or* a day of the month.
    #[must_use]
    pub fn to_cron(&self) -> Option<String> {
        let Days::FromStart(days) = &self.days else { return None };
        let is_exact = self.zone.is_none()
            && self.seconds.iter().eq([&0])
            && self.years.iter().copied().eq(YEARS)
            && (self.weekdays == EVERY_WEEKDAY || days.len() == 31);
        // Weekdays count from Sunday.
        let weekdays: BTreeSet<i16> = (0..7)
            .zip([6, 0, 1, 2, 3, 4, 5])
            .filter(|(_, day)| self.has_weekday(*day))
            .map(|(from_sunday, _)| from_sunday)
            .collect();
        is_exact.then(|| {
            let (minutes, hours) = (list(&self.minutes, 0..=59, 1), list(&self.hours, 0..=23, 1));
            let (days, months) = (list(days, 1..=31, 1), list(&self.months, 1..=12, 1));
            format!("{minutes} {hours} {days} {months} {}", list(&weekdays, 0..=6, 1)).replace("..", "-")
        })
    }

    /// Tells whether it names a weekday, of which Monday is 0.
    fn has_weekday(&self, day: usize) -> bool {
        self.weekdays >> day & 1 == 1
    }
}

/// Values with the same distance between each two.
struct Run {
    first: i16,
    last: i16,
    step: i16,
}

impl Run {
    fn text(&self, digits: usize) -> String {
        let Self { first, last, step } = self;
        match step {
            _ if first == last => format!("{first:0digits$}"),
            1 => format!("{first:0digits$}..{last:0digits$}"),
            step => format!("{first:0digits$}..{last:0digits$}/{step}"),
        }
    }
}

/// Returns values as they are written: `*` for all that there are, ranges, or a list.
fn list<V: Copy + Ord + Into<i16>>(
    values: &BTreeSet<V>,
    all: impl Iterator<Item = i16>,
    digits: usize,
) -> String {
    if values.iter().map(|value| (*value).into()).eq(all) {
        return "*".to_owned();
    }
    runs(values).iter().map(|run| run.text(digits)).collect::<Vec<_>>().join(",")
}

/// Splits values into runs. Of two values each is one by itself, since that is what people write.
fn runs<V: Copy + Ord + Into<i16>>(values: &BTreeSet<V>) -> Vec<Run> {
    let values: Vec<i16> = values.iter().map(|value| (*value).into()).collect();
    let mut rest = &values[..];
    let mut runs = Vec::new();
    while let Some(&first) = rest.first() {
        let step = rest.get(1).map_or(1, |second| second - first);
        let length = 1 + rest.windows(2).take_while(|pair| pair[1] - pair[0] == step).count();
        let length = if length < 3 { 1 } else { length };
        runs.push(Run { first, last: rest[length - 1], step });
        rest = &rest[length..];
    }
    runs
}
