//! The checks of SQL dumps: they end with what the tool writes last.
//!
//! pg_dump's closing comment may also stand in its data, so that its dumps are followed line by line. What the others
//! write last is looked for at the end alone: mysqldump writes no line feed within a value.

use super::Verdict;
use super::inspection::{Check, Finding};

/// So much of a line is kept while its end has not come. The longest line that matters begins the data of a table: it
/// names up to 1,600 columns of up to 63 bytes, in quotes.
const LINE_KEPT_BYTES: usize = 256 * 1024;

/// So much of the end of a dump is kept, where only its last line counts.
const TAIL_BYTES: usize = 512;

/// The check of what pg_dump and pg_dumpall write.
///
/// Newer ones begin with `\restrict` and a random word, and end with `\unrestrict` and the same word, which no data
/// can hold. Between the two, nothing else is taken for the end.
#[derive(Default)]
pub(super) struct PgSqlCheck {
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    /// Whether a dump of a whole cluster was opened and not closed.
    in_cluster: bool,
    /// Whether a dump of one database was opened and not closed.
    in_database: bool,
    /// Whether the lines are data of a table.
    in_data: bool,
    /// The word behind `\restrict`.
    restricted: Option<Vec<u8>>,
    /// What came since the last closing comment, if that is nothing of weight.
    closing: Option<Closing>,
}

#[derive(Default)]
struct Closing {
    /// Lines of two dashes: one closes the comment, the next one would open another.
    dashes: u64,
    /// Whether an empty line came last but for comments.
    blank: bool,
}

impl PgSqlCheck {
    /// Prepares to check a dump.
    pub(super) fn new() -> Self {
        Self::default()
    }

    fn take_line(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some(word) = line.strip_prefix(b"\\unrestrict ")
            && self.restricted.as_deref() == Some(word)
        {
            self.restricted = None;
            if std::mem::take(&mut self.in_data) {
                // What looked like the beginning of data, in the body of a function, had no end, and hid the comment.
                self.in_database = false;
                self.closing = Some(Closing { dashes: 1, blank: false });
            }
            self.closing.iter_mut().for_each(|closing| closing.blank = false);
        } else if self.in_data {
            self.in_data = line != b"\\.";
        } else if line.is_empty() {
            self.closing.iter_mut().for_each(|closing| closing.blank = true);
        } else if line.starts_with(b"--") {
            self.take_comment(line);
        } else {
            self.closing = None;
            if let Some(word) = line.strip_prefix(b"\\restrict ") {
                self.restricted.get_or_insert_with(|| word.to_vec());
            } else {
                self.in_data = line.starts_with(b"COPY ") && line.ends_with(b" FROM stdin;");
            }
        }
    }

    /// Takes a comment. One that opens a dump inside of another, as the data of tables may hold, does not count.
    fn take_comment(&mut self, line: &[u8]) {
        match line {
            b"--" => self.closing.iter_mut().for_each(|closing| closing.dashes += 1),
            b"-- PostgreSQL database dump" if self.restricted.is_none() => {
                self.in_database = true;
                self.closing = None;
            }
            b"-- PostgreSQL database cluster dump" if self.restricted.is_none() && !self.in_database => {
                self.in_cluster = true;
                self.closing = None;
            }
            b"-- PostgreSQL database dump complete" => {
                self.in_database = false;
                self.closing = Some(Closing::default());
            }
            b"-- PostgreSQL database cluster dump complete" if !self.in_database => {
                self.in_cluster = false;
                self.closing = Some(Closing::default());
            }
            _ => {}
        }
    }

    fn verdict(&self) -> Verdict {
        let reason = match &self.closing {
            _ if self.in_data => "it ends amid the data of a table",
            _ if self.in_database => "it ends without pg_dump's closing comment",
            _ if self.in_cluster => "it ends without pg_dumpall's closing comment",
            _ if self.restricted.is_some() => "it ends without pg_dump's closing \\unrestrict line",
            None => "something else follows its closing comment",
            // Every version writes an empty line last, so that not a byte is missing where one is.
            Some(closing) if self.line.is_empty() && closing.blank && closing.dashes % 2 == 1 => {
                return Verdict::Whole;
            }
            Some(_) => "it is cut short within its closing comment",
        };
        Verdict::Broken(reason.to_owned())
    }
}

impl Check for PgSqlCheck {
    fn feed(&mut self, bytes: &[u8]) {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            if self.line.is_empty() {
                // As long as a line that comes in pieces, so that these make no difference.
                self.take_line(&bytes[start..end.min(start + LINE_KEPT_BYTES)]);
            } else {
                keep(&mut self.line, &bytes[start..end]);
                let mut line = std::mem::take(&mut self.line);
                self.take_line(&line);
                line.clear();
                self.line = line;
            }
            start = end + 1;
        }
        keep(&mut self.line, &bytes[start..]);
    }

    fn finish(self: Box<Self>) -> Finding {
        self.verdict().into()
    }
}

/// Appends to the beginning of a line as much as is kept of one.
fn keep(line: &mut Vec<u8>, bytes: &[u8]) {
    let length = bytes.len().min(LINE_KEPT_BYTES.saturating_sub(line.len()));
    line.extend_from_slice(&bytes[..length]);
}

/// The check of a dump of which only the last line counts.
pub(super) struct TailCheck {
    tail: Vec<u8>,
    verdict: fn(&[u8]) -> Verdict,
}

impl TailCheck {
    /// Prepares to check a dump; `verdict` is given the last line, or nothing if that has no end.
    pub(super) fn new(verdict: fn(&[u8]) -> Verdict) -> Self {
        Self { tail: Vec::new(), verdict }
    }
}

impl Check for TailCheck {
    fn feed(&mut self, bytes: &[u8]) {
        let last = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
        let superfluous = (self.tail.len() + last.len()).saturating_sub(TAIL_BYTES);
        self.tail.drain(..superfluous.min(self.tail.len()));
        self.tail.extend_from_slice(last);
    }

    fn finish(self: Box<Self>) -> Finding {
        let lines = self.tail.strip_suffix(b"\n").unwrap_or_default();
        let mut lines =
            lines.rsplit(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        (self.verdict)(lines.find(|line| !line.is_empty()).unwrap_or_default()).into()
    }
}

/// Returns the verdict on a dump of mysqldump or mariadb-dump by its last line.
pub(super) fn end_of_mysql(line: &[u8]) -> Verdict {
    if line == b"-- Dump completed" || line.starts_with(b"-- Dump completed on ") {
        return Verdict::Whole;
    }
    Verdict::Broken("it ends without mysqldump's closing comment, -- Dump completed".to_owned())
}

/// Returns the verdict on what SQLite's `.dump` wrote by its last line.
pub(super) fn end_of_sqlite(line: &[u8]) -> Verdict {
    if line == b"COMMIT;" {
        return Verdict::Whole;
    }
    let failed = line.starts_with(b"ROLLBACK;");
    let reason =
        if failed { "sqlite3 met errors while it dumped" } else { "it ends without its final COMMIT" };
    Verdict::Broken(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endless_lines_take_bounded_memory() {
        let mut sql = PgSqlCheck::new();
        let mut tail = TailCheck::new(end_of_mysql);
        for _ in 0..100 {
            sql.feed(&[b'x'; 100_000]);
            tail.feed(&[b'x'; 100_000]);
        }
        assert!(sql.line.capacity() <= 2 * LINE_KEPT_BYTES);
        assert!(tail.tail.capacity() <= 2 * TAIL_BYTES);
    }
}
