//! Reads the head of an archive. Where its data lies is the walk's to find.

use super::label::{count, entry_label};
use super::{
    DataState, Head, HeadParse, INT_BYTES, MAGIC, OFFSET_BYTES, OFFSET_NO_DATA, OFFSET_NOT_SET, OFFSET_SET,
    TocEntry,
};

/// Bytes of the magic, the version, the sizes and the format.
const START_BYTES: usize = MAGIC.len() + 6;

/// Names of the seven parts of a time stamp and the least and greatest value of each.
const TIME_PARTS: [(&str, i64, i64); 7] = [
    ("second", 0, 61),
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day", 1, 31),
    ("month", 0, 11),
    ("year", 0, i32::MAX as i64),
    ("summer time", -1, 1),
];

/// Why a piece of the head could not be read.
enum Stop {
    NeedMore,
    Unknown(String),
    Broken(String),
}

impl Stop {
    /// Says of damage what it damages.
    fn within(self, what: &str) -> Self {
        match self {
            Self::Broken(why) => Self::Broken(format!("{what} is damaged ({why})")),
            other => other,
        }
    }
}

/// Reads the head of an archive from its first bytes.
///
/// A caller that gets more bytes step by step takes a [`HeadReader`], which reads no entry twice.
#[must_use]
pub fn parse_head(bytes: &[u8]) -> HeadParse {
    HeadReader::default().read(bytes)
}

/// Reads the head of an archive whose first bytes come step by step.
#[derive(Debug, Clone, Default)]
pub struct HeadReader {
    start: Option<Start>,
    position: usize,
    entries: Vec<TocEntry>,
}

/// What stands before the entries.
#[derive(Debug, Clone, Copy)]
struct Start {
    minor: u8,
    compressed: bool,
    entries: usize,
}

impl HeadReader {
    /// Reads on. `bytes` are all bytes of the archive so far: what was given before, and more behind it.
    ///
    /// After anything else than [`HeadParse::NeedMore`] the reader begins anew.
    pub fn read(&mut self, bytes: &[u8]) -> HeadParse {
        let parse = match self.try_read(bytes) {
            Ok(head) => HeadParse::Head(head),
            Err(Stop::NeedMore) => return HeadParse::NeedMore,
            Err(Stop::Unknown(why)) => HeadParse::Unknown(why),
            Err(Stop::Broken(why)) => HeadParse::Broken(why),
        };
        *self = Self::default();
        parse
    }

    fn try_read(&mut self, bytes: &[u8]) -> Result<Head, Stop> {
        let mut cursor = Cursor { bytes, position: self.position };
        let start = match self.start {
            Some(start) => start,
            None => {
                let start = read_start(&mut cursor).map_err(|stop| stop.within("its head"))?;
                self.position = cursor.position;
                *self.start.insert(start)
            }
        };
        while self.entries.len() < start.entries {
            let entry = read_entry(&mut cursor, start.minor).map_err(|stop| {
                let (number, all) = (count(self.entries.len() as u64 + 1), count(start.entries as u64));
                stop.within(&format!("entry {number} of {all} in its table of contents"))
            })?;
            self.entries.push(entry);
            self.position = cursor.position;
        }
        let entries = std::mem::take(&mut self.entries);
        check_unique(&entries)?;
        Ok(Head {
            length: self.position,
            version: (1, start.minor),
            compressed: start.compressed,
            int_bytes: INT_BYTES,
            offset_bytes: OFFSET_BYTES,
            entries,
        })
    }
}

fn read_start(cursor: &mut Cursor<'_>) -> Result<Start, Stop> {
    let minor = read_version(cursor)?;
    let compressed = if minor < 15 {
        match cursor.int()? {
            level @ -1..=9 => level != 0,
            level => return Err(cursor.broken(&format!("compression level {level}"))),
        }
    } else {
        match cursor.byte()? {
            method @ 0..=3 => method != 0,
            method => return Err(Stop::Unknown(format!("compression method {method} is not known"))),
        }
    };
    for (name, least, greatest) in TIME_PARTS {
        let value = cursor.int()?;
        if !(least..=greatest).contains(&value) {
            return Err(cursor.broken(&format!("{name} {value} in its time stamp")));
        }
    }
    for _ in ["database", "version of the server", "version of pg_dump"] {
        cursor.string()?;
    }
    let entries =
        usize::try_from(cursor.int()?).map_err(|_| cursor.broken("a negative number of entries"))?;
    Ok(Start { minor, compressed, entries })
}

/// Reads what says how the rest is to be read, and returns the minor version.
fn read_version(cursor: &mut Cursor<'_>) -> Result<u8, Stop> {
    let shown = cursor.bytes.len().min(MAGIC.len());
    if cursor.bytes.get(..shown) != MAGIC.get(..shown) {
        return Err(Stop::Unknown("it does not begin with PGDMP".to_owned()));
    }
    let Some(&[major, minor, revision, int_bytes, offset_bytes, format]) =
        cursor.take(START_BYTES)?.get(MAGIC.len()..).and_then(|rest| rest.first_chunk())
    else {
        return Err(Stop::NeedMore);
    };
    if major != 1 || !matches!(minor, 14..=16) || revision != 0 {
        let version = format!("archive version {major}.{minor}-{revision}");
        return Err(Stop::Unknown(format!("{version} is not known, only 1.14, 1.15 and 1.16 are")));
    }
    match format {
        1 => {}
        3 => {
            return Err(Stop::Unknown(
                "it is the table of contents of a tar archive, without data".to_owned(),
            ));
        }
        5 => {
            return Err(Stop::Unknown(
                "it is the table of contents of a directory dump, without data".to_owned(),
            ));
        }
        other => return Err(Stop::Unknown(format!("archive format {other} is not known"))),
    }
    if usize::from(int_bytes) != INT_BYTES || usize::from(offset_bytes) != OFFSET_BYTES {
        let sizes = format!("its integers take {int_bytes} bytes and its offsets {offset_bytes}");
        return Err(Stop::Unknown(format!("{sizes}, only {INT_BYTES} and {OFFSET_BYTES} are known")));
    }
    Ok(minor)
}

fn read_entry(cursor: &mut Cursor<'_>, minor: u8) -> Result<TocEntry, Stop> {
    let dump_id = cursor.int()?;
    if dump_id < 1 {
        return Err(cursor.broken(&format!("number {dump_id}")));
    }
    let has_data = match cursor.int()? {
        0 => false,
        1 => true,
        other => return Err(cursor.broken(&format!("mark {other} for data"))),
    };
    for _ in ["table oid", "oid"] {
        let oid = cursor.string()?;
        if !oid.is_some_and(is_number) {
            return Err(cursor.broken("an oid that is no number"));
        }
    }
    let tag = cursor.string()?.unwrap_or_default();
    let description = cursor.string()?.unwrap_or_default();
    let section = cursor.int()?;
    if !(1..=4).contains(&section) {
        return Err(cursor.broken(&format!("section {section}")));
    }
    for _ in ["definition", "drop", "copy"] {
        cursor.string()?;
    }
    let namespace = cursor.string()?;
    for _ in ["tablespace", "table access method"] {
        cursor.string()?;
    }
    if minor >= 16 {
        cursor.int()?;
    }
    cursor.string()?; // the owner
    if !matches!(cursor.string()?, Some(b"false" | b"true")) {
        return Err(cursor.broken("neither true nor false for oids"));
    }
    while let Some(dependency) = cursor.string()? {
        if !is_number(dependency) {
            return Err(cursor.broken("a dependency that is no number"));
        }
    }
    let field = cursor.position;
    let data = read_offset(cursor)?;
    if has_data == (data == DataState::None) {
        return Err(cursor.broken("an offset that contradicts its mark for data"));
    }
    let label = entry_label(description, namespace, tag);
    Ok(TocEntry { dump_id, label, data, large_objects: description == b"BLOBS", field })
}

fn read_offset(cursor: &mut Cursor<'_>) -> Result<DataState, Stop> {
    let flag = cursor.byte()?;
    let mut offset = [0; OFFSET_BYTES];
    offset.copy_from_slice(cursor.take(OFFSET_BYTES)?);
    match flag {
        OFFSET_NOT_SET => Ok(DataState::NotSet),
        OFFSET_SET => Ok(DataState::At(u64::from_le_bytes(offset))),
        OFFSET_NO_DATA => Ok(DataState::None),
        other => Err(cursor.broken(&format!("mark {other} for its offset"))),
    }
}

fn is_number(digits: &[u8]) -> bool {
    !digits.is_empty() && digits.len() <= 10 && digits.iter().all(u8::is_ascii_digit)
}

fn check_unique(entries: &[TocEntry]) -> Result<(), Stop> {
    let mut ids: Vec<i64> = entries.iter().map(|entry| entry.dump_id).collect();
    ids.sort_unstable();
    match ids.windows(2).find(|pair| matches!(pair, [first, second] if first == second)) {
        Some(pair) => {
            let id = pair.first().copied().unwrap_or_default();
            Err(Stop::Broken(format!("its table of contents has two entries of number {id}")))
        }
        None => Ok(()),
    }
}

/// Returns the value of an integer: its sign byte, then its magnitude. `None` for what pg_dump never writes.
pub(super) fn decode_int(bytes: [u8; 1 + INT_BYTES]) -> Option<i64> {
    let [sign, a, b, c, d] = bytes;
    let magnitude = i64::from(u32::from_le_bytes([a, b, c, d]));
    match sign {
        0 if magnitude <= i64::from(i32::MAX) => Some(magnitude),
        1 if (1..=-i64::from(i32::MIN)).contains(&magnitude) => Some(-magnitude),
        _ => None,
    }
}

/// A place in the bytes of a head.
struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Stop> {
        let end = self.position.checked_add(length).ok_or(Stop::NeedMore)?;
        let taken = self.bytes.get(self.position..end).ok_or(Stop::NeedMore)?;
        self.position = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        self.take(1)?.first().copied().ok_or(Stop::NeedMore)
    }

    fn int(&mut self) -> Result<i64, Stop> {
        let bytes = self.take(1 + INT_BYTES)?.first_chunk().ok_or(Stop::NeedMore)?;
        decode_int(*bytes).ok_or_else(|| self.broken("a number with an impossible sign"))
    }

    fn string(&mut self) -> Result<Option<&'a [u8]>, Stop> {
        match self.int()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length)
                    .map_err(|_| self.broken(&format!("a string of {length} bytes")))?;
                self.take(length).map(Some)
            }
        }
    }

    /// Says what was found, and where it ends.
    fn broken(&self, found: &str) -> Stop {
        Stop::Broken(format!("{found} before byte {}", count(self.position as u64)))
    }
}
