//! What `yester ingest` says of a dump: what it is, whether it is whole, and what would make the next one cheaper.

use crate::cli::exit::{CommandError, ErrorKind};
use crate::dump::{DumpFormat, DumpReport, Verdict};
use crate::human;
use crate::ops::ingest::IngestStats;
use crate::path::escape;

/// A compressed dump of fewer bytes costs too little to speak of.
const ADVICE_MIN_BYTES: u64 = 1_000_000;

/// Returns what a stream is and whether it is whole.
pub(super) fn describe(report: &DumpReport) -> String {
    let (state, why) = match &report.verdict {
        Verdict::Whole => ("whole", ""),
        Verdict::Unchecked(why) => ("unchecked", why.as_str()),
        // What is of no format is broken for another reason than its end.
        Verdict::Broken(why) if report.formats.is_empty() => ("not good", why.as_str()),
        Verdict::Broken(why) => ("not whole", why.as_str()),
    };
    let mut text = label(report);
    if !text.is_empty() {
        text.push_str(", ");
    }
    text.push_str(state);
    if !why.is_empty() {
        text.push_str(": ");
        text.push_str(&human::reason(why));
    }
    if report.filled_offsets > 0 {
        let offsets = human::counted(report.filled_offsets, "offset");
        text.push_str(&format!("; {offsets} filled in for pg_restore -j"));
    }
    text
}

/// Returns how an ingest ends whose dump is not whole.
pub(super) fn suspicious(stats: &IngestStats) -> CommandError {
    let id = stats.manifest.id.short();
    let name = stats.manifest.paths.first().map(|name| escape(name)).unwrap_or_default();
    let what = stats.dump.as_ref().map(describe).unwrap_or_default();
    CommandError::message(ErrorKind::Partial, format!("{name} is {what}"))
        .hint(format!("it is kept as snapshot {id}, which is never `latest`: repeat the dump"))
        .hint(format!("if it is good all the same: yester accept {id}"))
}

/// Returns what compressed content costs and what to do about it, a line each, where that pays.
pub(super) fn advice(stats: &IngestStats) -> Option<[String; 2]> {
    let report = stats.dump.as_ref()?;
    let pays = report.compressed && stats.manifest.totals.bytes > ADVICE_MIN_BYTES;
    pays.then(|| advice_for(report.formats.first().copied()))
}

fn advice_for(format: Option<DumpFormat>) -> [String; 2] {
    let remedy = match format {
        Some(DumpFormat::PgCustom) => "dump with -Z0 (pg_dump -Fc -Z0)",
        Some(DumpFormat::Gzip) => "leave gzip out",
        Some(DumpFormat::Zstd) => "leave zstd out",
        _ => "let it come uncompressed",
    };
    [
        "this dump is compressed, so the next one will be stored anew as a whole;".to_owned(),
        format!("{remedy}, and the store compresses better than that"),
    ]
}

/// Returns what it is, innermost first: `an SQL dump of PostgreSQL in a gzip stream`; nothing if that is not known.
fn label(report: &DumpReport) -> String {
    let labels: Vec<&str> = report.formats.iter().rev().map(|format| format.label()).collect();
    labels.join(" in ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(formats: &[DumpFormat], verdict: Verdict, filled_offsets: u64) -> DumpReport {
        DumpReport { formats: formats.to_vec(), verdict, compressed: false, filled_offsets }
    }

    #[test]
    fn dumps_are_described_in_a_line() {
        use DumpFormat::{Gzip, PgCustom, PgSql};
        use Verdict::{Broken, Unchecked, Whole};

        let cases = [
            (report(&[PgCustom], Whole, 0), "a custom-format dump of pg_dump, whole"),
            (
                report(&[PgCustom], Whole, 5),
                "a custom-format dump of pg_dump, whole; 5 offsets filled in for pg_restore -j",
            ),
            (
                report(&[Gzip, PgSql], Broken("its end\nis missing".into()), 0),
                "an SQL dump of PostgreSQL in a gzip stream, not whole: its end\\nis missing",
            ),
            (
                report(&[], Unchecked("it is of no known format".into()), 0),
                "unchecked: it is of no known format",
            ),
            (
                report(&[], Broken("it is an error message: a\\x1bb".into()), 0),
                "not good: it is an error message: a\\x1bb",
            ),
            (report(&[], Unchecked(String::new()), 0), "unchecked"),
        ];
        for (report, expected) in cases {
            assert_eq!(describe(&report), expected);
        }
    }

    #[test]
    fn advice_fits_the_format_and_the_screen() {
        for (format, part) in [
            (Some(DumpFormat::PgCustom), "-Fc -Z0"),
            (Some(DumpFormat::Gzip), "leave gzip out"),
            (Some(DumpFormat::Zstd), "leave zstd out"),
            (None, "uncompressed"),
        ] {
            let lines = advice_for(format);
            assert!(lines[1].contains(part), "{lines:?}");
            assert!(lines.iter().all(|line| line.len() + "advice: ".len() <= 100), "{lines:?}");
        }
    }
}
