//! A report as Markdown, and as a page of HTML that needs nothing else.

use std::fmt::Write;

use jiff::tz::TimeZone;

use super::{Report, SourceReport, StoreReport, Tally};
use crate::human;
use crate::jobs::health::{clock, why};
use crate::journal::{Incident, Run};

/// More failures of a source than that are counted, not listed.
const FAILURES_MAX: usize = 50;
/// What stands in a cell that has nothing to say.
const NOTHING: &str = "–";

/// A part of a report.
enum Block {
    Heading(String),
    Paragraph(String),
    Table { headings: Vec<&'static str>, rows: Vec<Vec<String>> },
}

/// Returns a report as Markdown.
#[must_use]
pub fn markdown(report: &Report, zone: &TimeZone) -> String {
    let mut text = format!("# {}\n", plain(&title(report)));
    for block in blocks(report, zone) {
        // Writing to a string cannot fail.
        let _ = match block {
            Block::Heading(heading) => writeln!(text, "\n## {}", plain(&heading)),
            Block::Paragraph(paragraph) => writeln!(text, "\n{}", plain(&paragraph)),
            Block::Table { headings, rows } => {
                let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
                let head = line(headings.iter().map(|heading| plain(heading)).collect());
                let rule = line(headings.iter().map(|_| "---".to_owned()).collect());
                let body: String =
                    rows.iter().map(|row| line(row.iter().map(|cell| plain(cell)).collect())).collect();
                write!(text, "\n{head}{rule}{body}")
            }
        };
    }
    text
}

/// Returns a report as a page of HTML.
#[must_use]
pub fn html(report: &Report, zone: &TimeZone) -> String {
    let title = escape(&title(report));
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<style>\n\
         body {{ font: 15px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; }}\n\
         table {{ border-collapse: collapse; }}\n\
         th, td {{ border-bottom: 1px solid #ccc; padding: .2em .8em .2em 0; text-align: left; vertical-align: top; }}\n\
         </style>\n<h1>{title}</h1>\n"
    );
    for block in blocks(report, zone) {
        let _ = match block {
            Block::Heading(heading) => writeln!(text, "<h2>{}</h2>", escape(&heading)),
            Block::Paragraph(paragraph) => writeln!(text, "<p>{}</p>", escape(&paragraph)),
            Block::Table { headings, rows } => {
                let cells = |tag: &str, cells: &mut dyn Iterator<Item = String>| {
                    cells.map(|cell| format!("<{tag}>{cell}</{tag}>")).collect::<String>()
                };
                let head = cells("th", &mut headings.iter().map(|heading| escape(heading)));
                let row = |row: &Vec<String>| {
                    format!("<tr>{}</tr>\n", cells("td", &mut row.iter().map(|cell| escape(cell))))
                };
                let body: String = rows.iter().map(row).collect();
                write!(text, "<table>\n<tr>{head}</tr>\n{body}</table>\n")
            }
        };
    }
    text.push_str("</html>\n");
    text
}

fn title(report: &Report) -> String {
    format!("Backups of {} in {}", report.host, report.month.name())
}

fn blocks(report: &Report, zone: &TimeZone) -> Vec<Block> {
    let mut blocks = vec![Block::Paragraph(summary(report, zone)), Block::Heading("Sources".to_owned())];
    blocks.push(Block::Table {
        headings: vec!["source", "good", "success", "size", "grown", "new data", "longest", "last good"],
        rows: report.sources.iter().map(|source| source_row(source, zone)).collect(),
    });
    blocks.push(Block::Heading("Stores".to_owned()));
    blocks.push(Block::Table {
        headings: vec!["store", "place", "takes", "verified", "copied to", "garbage collected"],
        rows: report.stores.iter().map(|store| store_row(store, zone)).collect(),
    });
    blocks.push(Block::Heading("What was wrong".to_owned()));
    blocks.push(if report.incidents.is_empty() {
        let runs: u64 = report.sources.iter().map(|source| source.runs).sum();
        let text = if runs == 0 { "There was no backup." } else { "Nothing was found to be wrong." };
        Block::Paragraph(text.to_owned())
    } else {
        Block::Table {
            headings: vec!["began", "ended", "what", "rule", "how it was told"],
            rows: report.incidents.iter().map(|incident| incident_row(incident, zone)).collect(),
        }
    });
    let failed: Vec<Vec<String>> =
        report.sources.iter().flat_map(|source| failure_rows(source, zone)).collect();
    if !failed.is_empty() {
        blocks.push(Block::Heading("Backups that failed".to_owned()));
        blocks.push(Block::Table { headings: vec!["source", "began", "why"], rows: failed });
    }
    blocks
}

fn summary(report: &Report, zone: &TimeZone) -> String {
    let sum = |number: fn(&SourceReport) -> u64| report.sources.iter().map(number).sum::<u64>();
    let (runs, good) = (sum(|source| source.runs), sum(|source| source.good));
    let verified = report.stores.iter().map(|store| store.verified.runs).sum();
    let rate = percent(good, runs);
    format!(
        "{} of {} succeeded ({rate}), with {} of new data; {} in all. Written at {}.",
        human::count(good),
        human::counted(runs, "backup"),
        human::bytes(sum(|source| source.added_bytes)),
        human::counted(verified, "verification"),
        clock(report.written, zone)
    )
}

fn source_row(source: &SourceReport, zone: &TimeZone) -> Vec<String> {
    let grown = source.bytes.map(|(first, last)| {
        if last >= first {
            format!("+{}", human::bytes(last - first))
        } else {
            format!("-{}", human::bytes(first - last))
        }
    });
    vec![
        source.name.clone(),
        format!("{} of {}", human::count(source.good), human::count(source.runs)),
        percent(source.good, source.runs),
        or_nothing(source.bytes.map(|(_, last)| human::bytes(last))),
        or_nothing(grown),
        human::bytes(source.added_bytes),
        or_nothing(source.longest.and_then(|time| time.try_into().ok()).map(human::duration)),
        or_nothing(source.last_good.map(|time| clock(time, zone))),
    ]
}

fn store_row(store: &StoreReport, zone: &TimeZone) -> Vec<String> {
    let tally = |tally: &Tally| {
        let failed = match tally.failed {
            0 => String::new(),
            failed => format!(", {} failed", human::count(failed)),
        };
        let last = tally.last_good.map(|time| format!("; last {}", clock(time, zone))).unwrap_or_default();
        format!("{} ×{failed}, {}{last}", human::count(tally.runs), human::bytes(tally.bytes))
    };
    vec![
        store.name.clone(),
        store.location.clone(),
        or_nothing(store.bytes.map(human::bytes)),
        tally(&store.verified),
        or_nothing(store.copied.as_ref().map(tally)),
        tally(&store.collected),
    ]
}

fn incident_row(incident: &Incident, zone: &TimeZone) -> Vec<String> {
    vec![
        clock(incident.began, zone),
        incident.ended.map_or_else(|| "goes on".to_owned(), |time| clock(time, zone)),
        incident.subject.clone(),
        incident.rule.clone(),
        incident.text.clone(),
    ]
}

fn failure_rows(source: &SourceReport, zone: &TimeZone) -> Vec<Vec<String>> {
    let row = |run: &Run| {
        vec![source.name.clone(), clock(run.started, zone), why(run.outcome, run.message.clone())]
    };
    let mut rows: Vec<_> = source.failed.iter().take(FAILURES_MAX).map(row).collect();
    let rest = source.failed.len().saturating_sub(FAILURES_MAX);
    if rest > 0 {
        rows.push(vec![
            source.name.clone(),
            NOTHING.to_owned(),
            format!("and {} more", human::count(rest as u64)),
        ]);
    }
    rows
}

fn percent(part: u64, all: u64) -> String {
    if all == 0 {
        return NOTHING.to_owned();
    }
    // Rounded down: 100 % is all.
    let tenths = u128::from(part) * 1000 / u128::from(all);
    format!("{}.{}%", tenths / 10, tenths % 10)
}

fn or_nothing(text: Option<String>) -> String {
    text.unwrap_or_else(|| NOTHING.to_owned())
}

/// Returns text that Markdown takes as it is, in one line.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\r' | '\t' => plain.push(' '),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '<' | '>' | '#' | '|' | '~' => {
                plain.push('\\');
                plain.push(letter);
            }
            letter => plain.push(letter),
        }
    }
    plain
}

/// Returns text that HTML takes as it is.
fn escape(text: &str) -> String {
    let letter = |letter: char| match letter {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        letter => letter.to_string(),
    };
    text.chars().map(letter).collect()
}
