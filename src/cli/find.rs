//! `yester find`: finds paths in all snapshots, or in some.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;

use clap::{Args, ValueEnum};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::context::Context;
use super::entries::{Damage, Form, Records, document, path_text, size_text, target_text, time_text};
use super::exit::{CommandError, ErrorKind};
use super::output::forgive_closed_pipe;
use super::select::{SnapshotFilter, set_document, sort_by_series, span};
use crate::format::tree::Time;
use crate::human;
use crate::ops::find::{FindOptions, FoundPath, LetterCase, NamePattern, NamePatternError, WantedKind, find};
use crate::ops::versions::{Variant, VersionsError};
use crate::path::TreePath;
use crate::repo::Repository;
use crate::repo::snapshots::Snapshot;

/// Find paths in all snapshots, by name, kind, size or time
#[derive(Debug, Args)]
#[command(after_help = "\
Prints a line for each version of a path in each series of snapshots: size, time of the last
change, the first and the last snapshot that hold it, how many do, and the path. A pattern with a
/ is matched from the root, and ** stands for any number of directories. All filters must hold.
To find nothing is no failure.

TIME is a date, a date and time in UTC, an RFC 3339 time, or an age such as 90m, 12h, 2d or 3w.

Examples:
  yester find 'invoice*.pdf' --newer 30d
  yester find '/var/**/*.log' --source system --size +100M --json")]
pub(super) struct FindArgs {
    /// The name, with * ? [a-z] {a,b}; the whole path if it holds a / [default: every path]
    #[arg(value_name = "PATTERN")]
    pattern: Option<String>,
    /// Let ASCII letters of the other case match
    #[arg(short, long)]
    ignore_case: bool,
    /// Only what is at or below this path
    #[arg(long, value_name = "PATH", default_value = "/")]
    path: OsString,
    /// Only entries of this kind
    #[arg(long = "kind", value_enum, value_name = "KIND", value_delimiter = ',')]
    kinds: Vec<Kind>,
    /// Only files of this size: +10M larger, -10M smaller, 4096 exactly; twice for a range
    #[arg(long = "size", value_name = "[+-]SIZE", value_parser = parse_sizes, allow_hyphen_values = true)]
    sizes: Vec<RangeInclusive<u64>>,
    /// Only what was last changed at this time or later
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    newer: Option<Time>,
    /// Only what was last changed before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    older: Option<Time>,
    /// Only this snapshot: the beginning of its id, latest:SOURCE, latest, or a time; may be repeated
    #[arg(long = "snapshot", value_name = "SNAP")]
    snapshots: Vec<String>,
    #[command(flatten)]
    filter: SnapshotFilter,
    /// Write raw paths, once each, each ended by a zero byte, for xargs -0
    #[arg(short = '0', long)]
    print0: bool,
}

/// Kinds of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    #[value(alias = "f")]
    File,
    #[value(alias = "d")]
    Directory,
    #[value(alias = "l")]
    Symlink,
    Fifo,
    Socket,
    Device,
}

/// Prints what is found, as soon as it is.
pub(super) fn run(context: &Context, args: &FindArgs) -> Result<(), CommandError> {
    let options = options(args)?;
    let form = Form::of(context, if args.print0 { Form::Paths } else { Form::Lines })?;
    let repo = context.open()?;
    let snapshots = chosen(&repo, args)?;
    let (mut records, mut damage) = (Records::new(form), Damage::default());
    let mut finder = find(&repo, &snapshots, &options)?;
    for found in finder.by_ref() {
        match found {
            Ok(found) => {
                if let Err(error) = show(&mut records, form, &snapshots, &found) {
                    return forgive_closed_pipe(error);
                }
            }
            Err(error @ VersionsError::Damaged { .. }) => damage.add(error),
            Err(error) => return Err(error.into()),
        }
    }
    tracing::info!("{} pages of directories were read", finder.stats().pages_read);
    if records.number() == 0 {
        let number = u64::try_from(snapshots.len()).unwrap_or(u64::MAX);
        context.tell(&format!("nothing was found in {}", human::counted(number, "snapshot")));
    }
    records.finish().or_else(forgive_closed_pipe)?;
    damage.outcome("searched")
}

fn options(args: &FindArgs) -> Result<FindOptions, CommandError> {
    let case = if args.ignore_case { LetterCase::Ignored } else { LetterCase::Exact };
    let pattern = args.pattern.as_deref().map(|text| NamePattern::new(text, case)).transpose()?;
    let kind = |kind: &Kind| match kind {
        Kind::File => WantedKind::File,
        Kind::Directory => WantedKind::Directory,
        Kind::Symlink => WantedKind::Symlink,
        Kind::Fifo => WantedKind::Fifo,
        Kind::Socket => WantedKind::Socket,
        Kind::Device => WantedKind::Device,
    };
    Ok(FindOptions {
        path: TreePath::parse(args.path.as_bytes())?,
        pattern,
        kinds: args.kinds.iter().map(kind).collect(),
        sizes: args.sizes.clone(),
        newer: args.newer,
        older: args.older,
    })
}

/// Returns the snapshots to search: those that are named, or all, as far as the filter lets them pass.
fn chosen(repo: &Repository, args: &FindArgs) -> Result<Vec<Snapshot>, CommandError> {
    let mut snapshots = if args.snapshots.is_empty() {
        repo.snapshots()?
    } else {
        args.snapshots.iter().map(|name| repo.find_snapshot(name)).collect::<Result<_, _>>()?
    };
    snapshots.retain(|snapshot| args.filter.matches(&snapshot.manifest));
    sort_by_series(&mut snapshots);
    Ok(snapshots)
}

fn show(records: &mut Records, form: Form, snapshots: &[Snapshot], found: &FoundPath) -> std::io::Result<()> {
    let path = &found.path;
    // A raw path says nothing of versions.
    let number = if form == Form::Paths { 1 } else { found.versions.len() };
    found.versions.iter().take(number).try_for_each(|version| {
        records.push(path, || line(path, version, snapshots), || version_document(path, version, snapshots))
    })
}

fn line(path: &TreePath, version: &Variant, snapshots: &[Snapshot]) -> String {
    let set = &version.snapshots;
    format!(
        "{:>10}  {:<20}  {:<18} {:>4}  {}{}",
        size_text(&version.entry),
        time_text(version.entry.attributes.mtime),
        span(snapshots, set.first(), set.last()),
        set.len(),
        path_text(path, &version.entry),
        target_text(&version.entry)
    )
}

fn version_document(path: &TreePath, version: &Variant, snapshots: &[Snapshot]) -> Value {
    let mut document = document(path, &version.entry);
    if let Some(map) = document.as_object_mut() {
        map.insert("snapshots".to_owned(), set_document(snapshots, &version.snapshots));
    }
    document
}

/// Parses `+10M`, `-10M` or `4096`.
fn parse_sizes(text: &str) -> Result<RangeInclusive<u64>, String> {
    if let Some(size) = text.strip_prefix('+') {
        let bytes = human::parse_bytes(size)?;
        return bytes
            .checked_add(1)
            .map(|least| least..=u64::MAX)
            .ok_or_else(|| format!("{text} is too large"));
    }
    if let Some(size) = text.strip_prefix('-') {
        let bytes = human::parse_bytes(size)?;
        return bytes
            .checked_sub(1)
            .map(|most| 0..=most)
            .ok_or_else(|| "no file is smaller than 0".to_owned());
    }
    human::parse_bytes(text).map(|bytes| bytes..=bytes)
}

fn parse_time(text: &str) -> Result<Time, String> {
    parse_time_at(text, Timestamp::now())
}

fn parse_time_at(text: &str, now: Timestamp) -> Result<Time, String> {
    let refuse = || format!("{text:?} is not a time such as 2026-11-20, 2026-11-20T08:00:00Z or 2d");
    let time = if let Some(age) = age(text) {
        now.checked_sub(age).map_err(|_| refuse())?
    } else if let Ok(time) = text.parse::<Timestamp>() {
        time
    } else {
        let time: DateTime = text.parse().map_err(|_| refuse())?;
        time.to_zoned(TimeZone::UTC).map_err(|_| refuse())?.timestamp()
    };
    let nanoseconds = time.as_nanosecond();
    Ok(Time {
        seconds: i64::try_from(nanoseconds.div_euclid(1_000_000_000)).map_err(|_| refuse())?,
        nanoseconds: u32::try_from(nanoseconds.rem_euclid(1_000_000_000)).map_err(|_| refuse())?,
    })
}

/// Reads `90m`, `12h`, `2d` or `3w`.
fn age(text: &str) -> Option<SignedDuration> {
    let seconds = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return None,
    };
    let digits = text.get(..text.len().checked_sub(1)?)?;
    let number: i64 = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
    number.checked_mul(seconds).map(SignedDuration::from_secs)
}

impl From<NamePatternError> for CommandError {
    fn from(error: NamePatternError) -> Self {
        Self::new(ErrorKind::Usage, error).hint("put a \\ before * ? [ and { that stand for themselves")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_ranges() {
        assert_eq!(parse_sizes("+1K"), Ok(1025..=u64::MAX));
        assert_eq!(parse_sizes("-1K"), Ok(0..=1023));
        assert_eq!(parse_sizes("4096"), Ok(4096..=4096));
        for text in ["", "+", "-", "-0", "++1", "1 K", "x"] {
            assert!(parse_sizes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_dates_or_ages() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        for (text, time) in [
            ("2026-11-20", "2026-11-20T00:00:00Z"),
            ("2026-11-20T08:30:00", "2026-11-20T08:30:00Z"),
            ("2026-11-20 08:30", "2026-11-20T08:30:00Z"),
            ("2026-11-20T08:30:00+02:00", "2026-11-20T06:30:00Z"),
            ("90m", "2026-11-21T10:30:00Z"),
            ("12h", "2026-11-21T00:00:00Z"),
            ("2d", "2026-11-19T12:00:00Z"),
            ("1w", "2026-11-14T12:00:00Z"),
        ] {
            assert_eq!(time_text(parse_time_at(text, now).unwrap()), time, "{text}");
        }
        let before = parse_time_at("1969-12-31T23:59:59.5Z", now);
        assert_eq!(before, Ok(Time { seconds: -1, nanoseconds: 500_000_000 }));
        for text in ["", "d", "-2d", "2y", "tomorrow", "2026-13-01", "99999999999999999d", "9999999999w", "ä"]
        {
            assert!(parse_time_at(text, now).is_err(), "{text}");
        }
    }
}
