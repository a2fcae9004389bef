//! What is printed: data on standard output, everything for people on standard error.

use std::io::{self, IsTerminal, Write};

use data_encoding::BASE64;
use serde::Serialize;
use serde_json::{Value, json};

use super::exit::CommandError;

/// Tells whether standard error is a terminal that wants colour.
pub(super) fn stderr_has_colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes one line for people to standard error.
pub(super) fn tell(line: &str) {
    // Nobody is left to hear that standard error is closed.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes text to standard output. That its reader has gone is no error: it has seen enough.
pub(super) fn print(text: &str) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).or_else(forgive_closed_pipe)
}

/// Writes one JSON document and a line end to standard output.
pub(super) fn print_json(document: &impl Serialize) -> Result<(), CommandError> {
    let text = serde_json::to_string_pretty(document)
        .map_err(|source| CommandError::io("cannot encode the answer", io::Error::other(source)))?;
    print(&(text + "\n"))
}

/// Turns a failed write to standard output into the command's error, unless its reader has gone.
pub(super) fn forgive_closed_pipe(error: io::Error) -> Result<(), CommandError> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(CommandError::io("cannot write to standard output", error)),
    }
}

/// Returns raw bytes as JSON: a string, or `{"b64": …}` where they are not UTF-8.
pub(super) fn json_bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "b64": BASE64.encode(bytes) }),
    }
}

/// How a column of a table is aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows of text in aligned columns.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Starts a table with the given headings.
    pub(super) fn new(headings: &[(&str, Align)]) -> Self {
        Self {
            columns: headings.iter().map(|(_, align)| *align).collect(),
            rows: vec![headings.iter().map(|(heading, _)| (*heading).to_owned()).collect()],
        }
    }

    /// Appends a row; cells beyond the headings are dropped.
    pub(super) fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// Returns the lines, two spaces between columns, none at their ends.
    pub(super) fn render(&self) -> String {
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max())
            .map(Option::unwrap_or_default)
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&self.columns).zip(&widths).map(|((cell, align), column_width)| {
                let padding = " ".repeat(column_width.saturating_sub(width(cell)));
                match align {
                    Align::Left => format!("{cell}{padding}"),
                    Align::Right => format!("{padding}{cell}"),
                }
            });
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

fn width(cell: &str) -> usize {
    cell.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&[("name", Align::Left), ("size", Align::Right), ("note", Align::Left)]);
        table.push(vec!["müde".into(), "5".into(), String::new()]);
        table.push(vec!["a".into(), "12345".into(), "x".into()]);
        assert_eq!(table.render(), "name   size  note\nmüde      5\na     12345  x\n");
    }

    #[test]
    fn names_that_are_not_utf8_survive_json() {
        assert_eq!(json_bytes("etc/ä".as_bytes()), json!("etc/ä"));
        assert_eq!(json_bytes(b"\xff"), json!({"b64": "/w=="}));
    }
}
