//! The look at one stream: recognises it, hands it to the check of its format, and sums up what was found.
//!
//! What a compressed stream holds is a stream of its own, looked at in the same way, one level deep.

use super::compressed::{CompressedCheck, Gzip, Zstd};
use super::custom::CustomCheck;
use super::line_ends::{self, LineEnds};
use super::mongo::MongoCheck;
use super::rdb::RdbCheck;
use super::recognise::{self, Looks};
use super::sql::{self, PgSqlCheck, TailCheck};
use super::tar::TarCheck;
use super::{DumpFormat, DumpReport, Treatment, Verdict};
use crate::path;

/// A longer stream is no error message, whatever it begins with.
const MESSAGE_MAX_BYTES: u64 = 64 * 1024;

/// So much of the first line of an error message is shown.
const MESSAGE_SHOWN_CHARACTERS: usize = 120;

/// With fewer line feeds in a binary stream, each of them may follow a carriage return by chance.
const CHANGED_LINE_FEEDS_MIN: u64 = 4;

/// The check of one format. It takes a stream from its first byte on, in pieces of any size.
pub(super) trait Check {
    /// Takes the next bytes.
    fn feed(&mut self, bytes: &[u8]);

    /// Returns what was found, at the end of the stream.
    fn finish(self: Box<Self>) -> Finding;
}

/// What a check found.
#[derive(Debug)]
pub(super) struct Finding {
    /// Whether the stream is whole.
    pub(super) verdict: Verdict,
    /// Whether it came compressed.
    pub(super) compressed: bool,
    /// What is inside, outermost first.
    pub(super) inner: Vec<DumpFormat>,
    /// Whether changed line ends would explain a verdict other than that it is whole.
    pub(super) line_ends_explain: bool,
}

impl From<Verdict> for Finding {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, compressed: false, inner: Vec::new(), line_ends_explain: true }
    }
}

/// How deep a stream lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// It is what is ingested.
    Outer,
    /// It was decompressed.
    Inner,
}

/// A look at one stream.
pub(super) struct Inspection {
    depth: Depth,
    treatment: Treatment,
    bytes: u64,
    line_ends: LineEnds,
    stage: Stage,
}

enum Stage {
    /// Nothing is known yet.
    Beginning(Vec<u8>),
    /// Nothing known, or an error message, of which the beginning is kept.
    Unrecognised(Vec<u8>),
    /// An archive of pg_dump, the only format with a head.
    Custom(Box<CustomCheck>),
    /// Anything else.
    Other(DumpFormat, Box<dyn Check + Send>),
}

impl Inspection {
    /// Prepares to look at a stream.
    pub(super) fn new(depth: Depth, treatment: Treatment) -> Self {
        let stage = Stage::Beginning(Vec::new());
        Self { depth, treatment, bytes: 0, line_ends: LineEnds::default(), stage }
    }

    /// Takes the next bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.line_ends.feed(bytes);
        match &mut self.stage {
            Stage::Beginning(beginning) => {
                let missing = recognise::BEGINNING_BYTES - beginning.len();
                let (first, rest) = bytes.split_at(missing.min(bytes.len()));
                beginning.extend_from_slice(first);
                if beginning.len() == recognise::BEGINNING_BYTES {
                    self.recognise();
                    self.check(rest);
                }
            }
            _ => self.check(bytes),
        }
    }

    /// Returns how many bytes came.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Tells whether it is known what the stream is and how long its head is.
    pub(super) fn is_settled(&self) -> bool {
        match &self.stage {
            Stage::Beginning(_) => false,
            Stage::Custom(custom) => custom.is_settled(),
            Stage::Unrecognised(_) | Stage::Other(..) => true,
        }
    }

    /// Settles, with what is there, what the stream is and how long its head is.
    pub(super) fn settle(&mut self) {
        if matches!(self.stage, Stage::Beginning(_)) {
            self.recognise();
        }
        if let Stage::Custom(custom) = &mut self.stage {
            custom.settle();
        }
    }

    /// Returns the length of the head, which `finish` returns; 0 if the format has none.
    pub(super) fn head_length(&self) -> usize {
        if let Stage::Custom(custom) = &self.stage { custom.head_length() } else { 0 }
    }

    /// Returns, at the end of the stream, its head and what was found.
    pub(super) fn finish(mut self) -> (Vec<u8>, DumpReport) {
        self.settle();
        let (format, finding, head, filled_offsets) = match self.stage {
            Stage::Beginning(beginning) | Stage::Unrecognised(beginning) => {
                let verdict = unrecognised(&beginning, self.bytes);
                let report =
                    DumpReport { formats: Vec::new(), verdict, compressed: false, filled_offsets: 0 };
                return (Vec::new(), report);
            }
            Stage::Custom(custom) => {
                let (head, finding, filled) = custom.finish(self.treatment);
                (DumpFormat::PgCustom, finding, head, filled)
            }
            Stage::Other(format, check) => (format, check.finish(), Vec::new(), 0),
        };
        let changed = line_ends_changed(format, &finding, &self.line_ends);
        let verdict = if changed { Verdict::Broken(line_ends::CHANGED.to_owned()) } else { finding.verdict };
        let mut formats = vec![format];
        formats.extend(finding.inner);
        (head, DumpReport { formats, verdict, compressed: finding.compressed, filled_offsets })
    }

    /// Recognises the stream by its beginning, which the check takes first.
    fn recognise(&mut self) {
        let Stage::Beginning(beginning) = &mut self.stage else { return };
        let beginning = std::mem::take(beginning);
        match recognise::recognise(&beginning) {
            Looks::Dump(format) => {
                self.stage = self.stage_of(format);
                self.check(&beginning);
            }
            Looks::Message | Looks::Unknown => self.stage = Stage::Unrecognised(beginning),
        }
    }

    fn stage_of(&self, format: DumpFormat) -> Stage {
        let check: Box<dyn Check + Send> = match format {
            DumpFormat::PgCustom => return Stage::Custom(Box::new(CustomCheck::new())),
            DumpFormat::PgSql => Box::new(PgSqlCheck::new()),
            DumpFormat::MySql => Box::new(TailCheck::new(sql::end_of_mysql)),
            DumpFormat::SqliteSql => Box::new(TailCheck::new(sql::end_of_sqlite)),
            DumpFormat::Rdb => Box::new(RdbCheck::new()),
            DumpFormat::MongoArchive => Box::new(MongoCheck::new()),
            DumpFormat::Tar => Box::new(TarCheck::new()),
            DumpFormat::Gzip | DumpFormat::Zstd if self.depth == Depth::Inner => Box::new(NotLookedInto),
            DumpFormat::Gzip => Box::new(CompressedCheck::new(Gzip::new())),
            DumpFormat::Zstd => Box::new(CompressedCheck::new(Zstd::new())),
        };
        Stage::Other(format, check)
    }

    fn check(&mut self, bytes: &[u8]) {
        match &mut self.stage {
            Stage::Beginning(_) | Stage::Unrecognised(_) => {}
            Stage::Custom(custom) => custom.feed(bytes),
            Stage::Other(_, check) => check.feed(bytes),
        }
    }
}

/// Stands in for the check of what is compressed once more inside a compressed stream.
struct NotLookedInto;

impl Check for NotLookedInto {
    fn feed(&mut self, _bytes: &[u8]) {}

    fn finish(self: Box<Self>) -> Finding {
        Verdict::Unchecked("it is compressed twice, and only the outer stream is checked".to_owned()).into()
    }
}

/// Returns the verdict on a stream of `bytes` bytes that no format claims.
fn unrecognised(beginning: &[u8], bytes: u64) -> Verdict {
    if recognise::recognise(beginning) != Looks::Message || bytes >= MESSAGE_MAX_BYTES {
        return Verdict::Unchecked("its format is not known".to_owned());
    }
    let line = beginning.split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
    let shown: String = String::from_utf8_lossy(line).chars().take(MESSAGE_SHOWN_CHARACTERS).collect();
    Verdict::Broken(format!("it is an error message, not a dump: {}", path::escape(shown.as_bytes())))
}

/// Tells whether a terminal changed the line ends of a stream. SQL is text, so that a stream of nothing but changed
/// line ends is enough; a binary stream must be damaged as well, or an archive of pg_dump beyond recognition.
fn line_ends_changed(format: DumpFormat, finding: &Finding, line_ends: &LineEnds) -> bool {
    match format {
        DumpFormat::PgSql | DumpFormat::MySql | DumpFormat::SqliteSql => line_ends.are_changed(1),
        DumpFormat::PgCustom
        | DumpFormat::Rdb
        | DumpFormat::MongoArchive
        | DumpFormat::Tar
        | DumpFormat::Gzip
        | DumpFormat::Zstd => {
            let is_damaged = match finding.verdict {
                Verdict::Whole => false,
                Verdict::Unchecked(_) => format == DumpFormat::PgCustom,
                Verdict::Broken(_) => true,
            };
            is_damaged && finding.line_ends_explain && line_ends.are_changed(CHANGED_LINE_FEEDS_MIN)
        }
    }
}
