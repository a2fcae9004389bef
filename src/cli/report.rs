//! `yester report`: what a month was like.

use clap::{Args, ValueEnum};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::context::Context;
use super::exit::{CommandError, ErrorKind};
use super::{output, record};
use crate::jobs::report::{Month, Report, render};

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Markdown,
    Html,
}

/// Report what a month was like: backups, growth, verifications, incidents
#[derive(Debug, Args)]
#[command(after_help = "\
Says what this host's journal knows, by the sources and stores of the configuration. Opens no
store.

Examples:
  yester report --month last
  yester report --month 2026-10 --format html > backups-2026-10.html")]
pub(super) struct ReportArgs {
    /// The month, such as 2026-10; `this`, or `last`
    #[arg(long, value_name = "MONTH", default_value = "this")]
    month: String,
    /// How it is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "markdown")]
    format: Format,
}

/// Writes a report.
pub(super) fn run(context: &Context, args: &ReportArgs) -> Result<(), CommandError> {
    if context.json() {
        return Err(
            CommandError::usage("a report is for people").hint("`yester status --json` is for programs")
        );
    }
    let config = context.configuration()?;
    let zone = TimeZone::try_system().unwrap_or(TimeZone::UTC);
    let now = Timestamp::now();
    let today = now.to_zoned(zone.clone()).date();
    let month = Month::of(parse_month(&args.month, today)?, &zone)
        .map_err(|source| CommandError::new(ErrorKind::Usage, source))?;
    let journal = record::open_journal(context)?;
    let report = Report::read(&journal, config, month, &context.configured_host()?, now)?;
    output::print(&match args.format {
        Format::Markdown => render::markdown(&report, &zone),
        Format::Html => render::html(&report, &zone),
    })
}

/// Returns a day of a month.
fn parse_month(text: &str, today: Date) -> Result<Date, CommandError> {
    match text {
        "this" => Ok(today),
        "last" => Ok(today.first_of_month().saturating_sub(1.day())),
        _ => format!("{text}-01").parse().map_err(|_| {
            CommandError::usage(format!("{text:?} is no month"))
                .hint("give one such as 2026-10, `this` or `last`")
        }),
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn months_are_named_or_numbered() {
        let today = date(2026, 1, 31);
        assert_eq!(parse_month("this", today).unwrap(), today);
        assert_eq!(parse_month("last", today).unwrap(), date(2025, 12, 31));
        assert_eq!(parse_month("2026-10", today).unwrap(), date(2026, 10, 1));
        for text in ["", "2026", "10", "2026-13", "October"] {
            assert_eq!(parse_month(text, today).unwrap_err().kind(), ErrorKind::Usage, "{text}");
        }
    }
}
