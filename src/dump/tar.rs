//! The check of a tar archive: the sums of its headers, and its end.
//!
//! ```text
//! { header (512 bytes) │ content, filled up to 512 bytes }* │ two blocks of zeros │ zeros, or another archive
//! ```
//! All dialects are walked alike: ustar, GNU (long names, sparse files, sizes in binary), pax. Source: POSIX.1-2017,
//! pax; the manuals of GNU tar 1.34 and libarchive 3.6.

use super::Verdict;
use super::inspection::{Check, Finding};
use crate::path;

const BLOCK_BYTES: usize = 512;

/// The length of the first field of a header.
const NAME_BYTES: usize = 100;

/// An archive cut shorter is not recognised: it has nothing but a name.
pub(super) const RECOGNISED_BYTES: usize = 124;

/// Where a header holds its own sum.
const SUM: std::ops::Range<usize> = 148..156;

/// Where a header of POSIX tells what it is.
const MAGIC: std::ops::Range<usize> = 257..262;

/// The check of an archive.
pub(super) struct TarCheck {
    /// The beginning of a block.
    block: Vec<u8>,
    /// Bytes to pass over, up to the end of a block.
    skip: u64,
    /// Records of a pax header, which are being passed over.
    records: Option<Records>,
    /// The size that a pax header gives for the next file.
    size: Option<u64>,
    next: Next,
    /// The name in the last header.
    name: String,
    damage: Option<String>,
}

/// What a block may be.
#[derive(Clone, Copy)]
enum Next {
    /// A header, or the first block of the end.
    Header,
    /// The same, or so many bytes of content: hard links have a size, and some writers let them have content.
    HeaderOrContent(u64),
    /// More of the map of a sparse file, before so many bytes of content.
    SparseMap(u64),
    /// The second block of the end.
    SecondOfEnd,
    /// Zeros, or a header of another archive.
    Anything,
}

impl TarCheck {
    /// Prepares to check an archive.
    pub(super) fn new() -> Self {
        Self {
            block: Vec::with_capacity(BLOCK_BYTES),
            skip: 0,
            records: None,
            size: None,
            next: Next::Header,
            name: String::new(),
            damage: None,
        }
    }

    fn take_block(&mut self, block: &[u8]) {
        let is_zero = block.iter().all(|byte| *byte == 0);
        match self.next {
            Next::SparseMap(content) => {
                let more = block.get(504).is_some_and(|flag| *flag != 0);
                self.next = if more { self.next } else { Next::Header };
                self.skip = if more { 0 } else { padded(content) };
            }
            Next::SecondOfEnd | Next::Anything if is_zero => self.next = Next::Anything,
            Next::Header | Next::HeaderOrContent(_) if is_zero => self.next = Next::SecondOfEnd,
            Next::SecondOfEnd => self.damage = Some("a single block of zeros stands amid it".to_owned()),
            Next::HeaderOrContent(content) if !has_its_sum(block) => {
                self.next = Next::Header;
                self.skip = padded(content) - BLOCK_BYTES as u64;
            }
            Next::Header | Next::HeaderOrContent(_) | Next::Anything => self.take_header(block),
        }
    }

    fn take_header(&mut self, block: &[u8]) {
        if !has_its_sum(block) {
            self.damage = Some(match self.next {
                Next::Anything => "something else follows its end".to_owned(),
                _ if self.name.is_empty() => "its first header is damaged".to_owned(),
                _ => format!("it is damaged within or behind {}", self.name),
            });
            return;
        }
        self.name = path::escape(block[..100].split(|byte| *byte == 0).next().unwrap_or_default());
        let Some(own_size) = number(&block[124..136]) else {
            self.damage = Some(format!("the size of {} is no number", self.name));
            return;
        };
        self.next = Next::Header;
        match block[156] {
            b'x' | b'X' => {
                self.records = (own_size > 0).then(|| Records::new(own_size));
                self.skip = padded(own_size);
            }
            // Names too long for a header, and what holds for all files: the size of the next file stays.
            b'g' | b'L' | b'K' => self.skip = padded(own_size),
            kind => self.take_file(kind, self.size.unwrap_or(own_size), block),
        }
    }

    fn take_file(&mut self, kind: u8, size: u64, block: &[u8]) {
        self.size = None;
        match kind {
            b'1' if size > 0 => self.next = Next::HeaderOrContent(size),
            // Links, devices, directories and pipes have no content, whatever their size.
            b'1'..=b'6' => {}
            b'S' if block[482] != 0 => self.next = Next::SparseMap(size),
            _ => self.skip = padded(size),
        }
    }

    /// Passes over as many of `bytes` as is due, and returns the rest.
    fn pass_over<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let length = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
        let (passed, rest) = bytes.split_at(length);
        self.skip -= length as u64;
        if let Some(records) = &mut self.records {
            records.feed(passed);
            if self.skip == 0 {
                self.size = records.size.or(self.size);
                self.records = None;
            }
        }
        rest
    }
}

impl Check for TarCheck {
    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.damage.is_none() {
            if self.skip > 0 {
                bytes = self.pass_over(bytes);
                continue;
            }
            let missing = BLOCK_BYTES - self.block.len();
            let (taken, rest) = bytes.split_at(missing.min(bytes.len()));
            self.block.extend_from_slice(taken);
            bytes = rest;
            if self.block.len() == BLOCK_BYTES {
                let mut block = std::mem::take(&mut self.block);
                self.take_block(&block);
                block.clear();
                self.block = block;
            }
        }
    }

    fn finish(self: Box<Self>) -> Finding {
        // An archive of text files with such line ends is no damage, and may be cut short.
        let mut line_ends_explain = false;
        let verdict = if let Some(reason) = self.damage {
            line_ends_explain = true;
            Verdict::Broken(reason)
        } else if self.skip > 0 || matches!(self.next, Next::SparseMap(_)) {
            Verdict::Broken(format!("it is cut short within {}", self.name))
        } else if !self.block.is_empty() {
            line_ends_explain = matches!(self.next, Next::Anything);
            Verdict::Broken("its length is no multiple of 512 bytes".to_owned())
        } else if matches!(self.next, Next::Anything) {
            Verdict::Whole
        } else {
            Verdict::Broken("it ends without the two blocks of zeros at the end of an archive".to_owned())
        };
        Finding { line_ends_explain, ..verdict.into() }
    }
}

/// Reads the records of a pax header, each of which begins with its length: `20 size=12345678901\n`.
struct Records {
    /// Bytes of the header that have not come.
    left: u64,
    /// The length of the record, as far as its digits have come.
    length: u64,
    /// Bytes of the record that have not come, once the length is known.
    record_left: Option<u64>,
    /// Digits of the length and the space behind them.
    digits: u64,
    /// The beginning of the record: more than the name and the number take.
    beginning: Vec<u8>,
    size: Option<u64>,
}

impl Records {
    const BEGINNING_BYTES: usize = 32;

    fn new(left: u64) -> Self {
        Self { left, length: 0, record_left: None, digits: 0, beginning: Vec::new(), size: None }
    }

    fn feed(&mut self, bytes: &[u8]) {
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        self.left -= length as u64;
        let mut bytes = &bytes[..length];
        while let Some((first, rest)) = bytes.split_first() {
            let Some(left) = self.record_left else {
                self.take_digit(*first);
                bytes = rest;
                continue;
            };
            let (record, rest) = bytes.split_at(usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len()));
            let kept = record.len().min(Self::BEGINNING_BYTES - self.beginning.len());
            self.beginning.extend_from_slice(&record[..kept]);
            self.record_left = Some(left - record.len() as u64);
            self.end_record();
            bytes = rest;
        }
    }

    fn take_digit(&mut self, byte: u8) {
        self.digits += 1;
        if byte.is_ascii_digit() {
            self.length = self.length.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
        } else {
            // Whatever is no length makes an empty record: what is behind is read on as one.
            self.record_left = Some(self.length.saturating_sub(self.digits));
            self.end_record();
        }
    }

    fn end_record(&mut self) {
        if self.record_left != Some(0) {
            return;
        }
        if let Some(value) = self.beginning.strip_prefix(b"size=") {
            let value = std::str::from_utf8(value.trim_ascii_end()).unwrap_or_default();
            self.size = value.parse().ok().or(self.size);
        }
        self.beginning.clear();
        self.record_left = None;
        self.length = 0;
        self.digits = 0;
    }
}

/// Tells whether a stream that begins with `bytes` looks like an archive. One that ends within its first header does
/// from [`RECOGNISED_BYTES`] on.
pub(super) fn looks_like_header(bytes: &[u8]) -> bool {
    match bytes.get(..BLOCK_BYTES) {
        Some(block) => block.get(MAGIC) == Some(b"ustar") || has_its_sum(block),
        None => begins_like_header(bytes),
    }
}

/// Tells whether a short stream begins with a name, filled up with zeros, and a mode, an owner and a group, of which
/// some writers leave the latter two empty.
fn begins_like_header(bytes: &[u8]) -> bool {
    let Some((name, numbers)) =
        bytes.get(..RECOGNISED_BYTES).and_then(|bytes| bytes.split_at_checked(NAME_BYTES))
    else {
        return false;
    };
    let mut fill = name.iter().skip_while(|byte| **byte != 0);
    let has_name = name[0] != 0 && fill.all(|byte| *byte == 0);
    let mode = &numbers[..8];
    let has_mode = mode.iter().any(u8::is_ascii_digit) && matches!(mode.last(), Some(0 | b' '));
    has_name && has_mode && numbers.chunks(8).all(|field| number(field).is_some())
}

/// Tells whether a header holds its sum; its bytes may have been summed up as signed ones.
fn has_its_sum(block: &[u8]) -> bool {
    let Some(stored) = block.get(SUM).and_then(number) else { return false };
    let (mut unsigned, mut signed) = (0_i64, 0_i64);
    for (at, byte) in block.iter().enumerate() {
        let byte = if SUM.contains(&at) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    i64::try_from(stored).is_ok_and(|stored| stored == unsigned || stored == signed)
}

/// Reads a number of a header: octal digits, or binary behind a byte of 0x80.
fn number(field: &[u8]) -> Option<u64> {
    if let [0x80, bytes @ ..] = field {
        return bytes.iter().try_fold(0_u64, |sum, byte| Some(sum.checked_mul(256)? | u64::from(*byte)));
    }
    let field = field.split(|byte| *byte == 0).next().unwrap_or_default().trim_ascii();
    field.iter().try_fold(0_u64, |sum, byte| match byte {
        b'0'..=b'7' => sum.checked_mul(8)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

/// Returns a size filled up to whole blocks.
fn padded(size: u64) -> u64 {
    size.checked_next_multiple_of(BLOCK_BYTES as u64).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_any_length_take_bounded_memory() {
        let mut records = Records::new(u64::MAX);
        records.feed(b"99999999999999999999999 path=");
        for _ in 0..100 {
            records.feed(&[b'x'; 100_000]);
        }
        assert!(records.beginning.capacity() <= 2 * Records::BEGINNING_BYTES);
        assert_eq!(records.size, None);
    }

    #[test]
    fn records_are_read_whatever_pieces_they_come_in() {
        let bytes = b"19 path=size=123456\n20 size=12345678901\n11 mtime=1\n";
        for length in 1..bytes.len() {
            let mut records = Records::new(bytes.len() as u64);
            bytes.chunks(length).for_each(|piece| records.feed(piece));
            assert_eq!(records.size, Some(12_345_678_901));
        }
    }

    #[test]
    fn numbers_are_octal_or_binary() {
        assert_eq!(number(b"00000000017\0"), Some(15));
        assert_eq!(number(b"  17 \0  "), Some(15));
        assert_eq!(number(&[0x80, 0, 1, 0]), Some(256));
        assert_eq!(number(&[0xff; 12]), None);
        assert_eq!(number(&[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(number(b"00000000018\0"), None);
    }
}
