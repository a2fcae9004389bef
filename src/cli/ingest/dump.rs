//! What `yester ingest` says of dumps: what they are, whether they are whole, and what would make the next ones cheaper.

use crate::cli::exit::{CommandError, ErrorKind};
use crate::dump::{DumpFormat, DumpReport, Verdict};
use crate::human;
use crate::ops::ingest::{FileDump, IngestStats};

/// A compressed dump of fewer bytes costs too little to speak of.
const ADVICE_MIN_BYTES: u64 = 1_000_000;

/// Returns what each file is that is not broken, a line each; with its name where there are several.
pub(super) fn good(dumps: &[FileDump]) -> Vec<String> {
    let good = dumps.iter().filter(|dump| !is_broken(dump));
    good.map(|dump| match dumps {
        [_] => describe(&dump.report),
        _ => format!("{}: {}", dump.name, describe(&dump.report)),
    })
    .collect()
}

/// Returns what those files are that are broken, with their names, in a line.
pub(super) fn broken(dumps: &[FileDump]) -> String {
    let broken = dumps.iter().filter(|dump| is_broken(dump));
    let told: Vec<_> = broken.map(|dump| format!("{} is {}", dump.name, describe(&dump.report))).collect();
    told.join("; ")
}

/// Returns what the journal keeps of files of which some are broken.
pub(super) fn journal_message(dumps: &[FileDump]) -> String {
    match dumps {
        [dump] => describe(&dump.report),
        _ => broken(dumps),
    }
}

fn is_broken(dump: &FileDump) -> bool {
    matches!(dump.report.verdict, Verdict::Broken(_))
}

/// Returns what a stream is and whether it is whole.
fn describe(report: &DumpReport) -> String {
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
    CommandError::message(ErrorKind::Partial, broken(&stats.dumps))
        .hint(format!("it is kept as snapshot {id}, which is never `latest`: repeat the dump"))
        .hint(format!("if it is good all the same: yester accept {id}"))
}

/// Returns what compressed content costs and what to do about it, a line each, for each file for which that pays.
pub(super) fn advice(dumps: &[FileDump]) -> Vec<[String; 2]> {
    let pays = dumps.iter().filter(|dump| dump.report.compressed && dump.bytes > ADVICE_MIN_BYTES);
    pays.map(|dump| {
        let subject = if dumps.len() == 1 { "this dump".to_owned() } else { dump.name.to_string() };
        advice_for(&subject, dump.report.formats.first().copied())
    })
    .collect()
}

fn advice_for(subject: &str, format: Option<DumpFormat>) -> [String; 2] {
    let remedy = match format {
        Some(DumpFormat::PgCustom) => "dump with -Z0 (pg_dump -Fc -Z0)",
        Some(DumpFormat::Gzip) => "leave gzip out",
        Some(DumpFormat::Zstd) => "leave zstd out",
        _ => "let it come uncompressed",
    };
    [
        format!("{subject} is compressed, so the next one will be stored anew as a whole;"),
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
    use crate::path::Name;

    fn file(name: &str, bytes: u64, report: DumpReport) -> FileDump {
        FileDump { name: Name::new(name.as_bytes()).unwrap(), bytes, report }
    }

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
    fn several_files_have_a_line_each_and_broken_ones_are_told_together() {
        let whole = || report(&[DumpFormat::PgCustom], Verdict::Whole, 0);
        let cut = || report(&[DumpFormat::PgSql], Verdict::Broken("it is cut short".into()), 0);
        let one = [file("a\x1b", 1, whole())];
        assert_eq!(good(&one), ["a custom-format dump of pg_dump, whole"]);
        let one = [file("a\x1b", 1, cut())];
        assert_eq!(good(&one), [""; 0]);
        assert_eq!(broken(&one), "a\\u{1b} is an SQL dump of PostgreSQL, not whole: it is cut short");
        assert_eq!(journal_message(&one), "an SQL dump of PostgreSQL, not whole: it is cut short");
        let several =
            [file("a", 1, whole()), file("b", 1, cut()), file("c", 1, whole()), file("d", 1, cut())];
        let told = ["a: a custom-format dump of pg_dump, whole", "c: a custom-format dump of pg_dump, whole"];
        assert_eq!(good(&several), told);
        let told = "b is an SQL dump of PostgreSQL, not whole: it is cut short; \
                    d is an SQL dump of PostgreSQL, not whole: it is cut short";
        assert_eq!((broken(&several).as_str(), journal_message(&several).as_str()), (told, told));
    }

    #[test]
    fn advice_is_for_large_compressed_files() {
        let packed = || DumpReport { compressed: true, ..report(&[DumpFormat::Gzip], Verdict::Whole, 0) };
        let large = ADVICE_MIN_BYTES + 1;
        assert!(advice(&[file("a", ADVICE_MIN_BYTES, packed())]).is_empty());
        let told = advice(&[file("a", large, packed())]);
        assert!(told.len() == 1 && told[0][0].starts_with("this dump is compressed"), "{told:?}");
        let plain = report(&[DumpFormat::PgSql], Verdict::Whole, 0);
        let told = advice(&[file("a", large, packed()), file("b", large, plain), file("c", large, packed())]);
        let subjects: Vec<_> = told.iter().map(|lines| lines[0].split(' ').next().unwrap()).collect();
        assert_eq!(subjects, ["a", "c"]);
    }

    #[test]
    fn advice_fits_the_format_and_the_screen() {
        for (format, part) in [
            (Some(DumpFormat::PgCustom), "-Fc -Z0"),
            (Some(DumpFormat::Gzip), "leave gzip out"),
            (Some(DumpFormat::Zstd), "leave zstd out"),
            (None, "uncompressed"),
        ] {
            let lines = advice_for("this dump", format);
            assert!(lines[1].contains(part), "{lines:?}");
            assert!(lines.iter().all(|line| line.len() + "advice: ".len() <= 100), "{lines:?}");
        }
    }
}
