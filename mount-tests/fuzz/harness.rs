//! What holds of the dump parsers whatever bytes they are given. The tests and the fuzz targets share it.

use std::cell::Cell;
use std::io::{self, Read};

use yester::dump::pg_custom::{self, BlockWalk, DataOffset, DataState, Head, HeadParse};
use yester::dump::{DumpFormat, DumpReader, DumpReport, Treatment, Verdict};

use super::dice::Dice;

/// Most bytes that a reader takes before it hands some on: the longest table of contents, and a piece of what follows.
pub(crate) const HELD_BACK_MAX: usize = 65 << 20;

/// Most characters of a sentence that goes into a manifest and onto a terminal.
const SENTENCE_MAX: usize = 1000;

/// What became of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// What is to be stored: the head, then what was read.
    pub(crate) stored: Vec<u8>,
    /// What was found out.
    pub(crate) report: DumpReport,
}

/// A stream that comes in random pieces or in the largest possible ones, and counts what was taken of it.
struct Pieces<'a> {
    rest: &'a [u8],
    dice: Option<Dice>,
    taken: &'a Cell<usize>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut length = self.rest.len().min(buffer.len());
        if let Some(dice) = &mut self.dice
            && length > 0
        {
            if dice.below(8) == 0 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            length = dice.length(length);
        }
        let (piece, rest) = self.rest.split_at(length);
        buffer[..length].copy_from_slice(piece);
        self.rest = rest;
        self.taken.set(self.taken.get() + length);
        Ok(length)
    }
}

/// Reads a stream to its end, in pieces that `dice` decides, or in one.
pub(crate) fn read_all(bytes: &[u8], treatment: Treatment, mut dice: Option<Dice>) -> Outcome {
    let taken = Cell::new(0);
    let pieces = Pieces { rest: bytes, dice: dice.clone(), taken: &taken };
    let mut reader = DumpReader::open(pieces, treatment).expect("a stream without errors is opened");
    let mut body = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        assert!(
            taken.get() - body.len() <= HELD_BACK_MAX,
            "{} bytes are held back",
            taken.get() - body.len()
        );
        let room = dice.as_mut().map_or(buffer.len(), |dice| dice.length(buffer.len()));
        match reader.read(&mut buffer[..room]) {
            Ok(0) => break,
            Ok(length) => body.extend_from_slice(&buffer[..length]),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::Interrupted),
        }
    }
    let (mut stored, report) = reader.finish();
    stored.extend_from_slice(&body);
    Outcome { stored, report }
}

/// Holds a stream against everything that is promised of any stream.
pub(crate) fn check_stream(bytes: &[u8]) -> DumpReport {
    let mut dice = Dice::of(bytes);
    let verbatim = read_all(bytes, Treatment::Verbatim, None);
    assert!(verbatim.stored == bytes, "verbatim is not what came");
    assert_eq!(verbatim.report.filled_offsets, 0, "verbatim, and yet filled in");
    let completed = read_all(bytes, Treatment::CheckAndComplete, None);
    let unfilled = DumpReport { filled_offsets: 0, ..completed.report.clone() };
    assert_eq!(unfilled, verbatim.report, "the verdict hangs on the treatment");
    check_report(&completed.report, bytes);
    check_filled(bytes, &completed);
    for treatment in [Treatment::Verbatim, Treatment::CheckAndComplete] {
        let whole = if treatment == Treatment::Verbatim { &verbatim } else { &completed };
        let split = read_all(bytes, treatment, Some(Dice::new(dice.next())));
        assert_eq!(split.report, whole.report, "the report hangs on how the stream is split");
        assert!(split.stored == whole.stored, "what is stored hangs on how the stream is split");
    }
    if completed.report.verdict == Verdict::Whole && completed.report.formats[0] == DumpFormat::PgCustom {
        // Other formats may be whole more than once: a second member, a second dump, more zeros.
        let cuts = [dice.below(bytes.len()), dice.below(bytes.len()), bytes.len() - 1];
        for cut in cuts {
            let prefix = read_all(&bytes[..cut], Treatment::CheckAndComplete, None).report;
            assert_ne!(prefix.verdict, Verdict::Whole, "{cut} of {} bytes are whole", bytes.len());
        }
    }
    completed.report
}

/// Checks that a report agrees with itself and can be shown.
fn check_report(report: &DumpReport, bytes: &[u8]) {
    match &report.verdict {
        Verdict::Whole => assert!(!report.formats.is_empty() && !bytes.is_empty(), "nothing is whole"),
        Verdict::Unchecked(why) | Verdict::Broken(why) => check_sentence(why),
    }
    assert!(report.formats.len() <= 2, "{:?}", report.formats);
    assert!(!report.compressed || !report.formats.is_empty(), "compressed, and yet not recognised");
}

/// Checks that a sentence is one, and safe to show.
fn check_sentence(sentence: &str) {
    assert!(!sentence.is_empty(), "an empty sentence");
    assert!(sentence.chars().count() <= SENTENCE_MAX, "{} bytes of a sentence", sentence.len());
    assert!(!sentence.chars().any(char::is_control), "control characters in {sentence:?}");
}

/// Checks that nothing but missing offsets was filled in, and that the result needs none and reads well.
fn check_filled(bytes: &[u8], completed: &Outcome) {
    let Outcome { stored, report } = completed;
    assert_eq!(stored != bytes, report.filled_offsets > 0, "filled in, and yet the same, or the reverse");
    if report.filled_offsets == 0 {
        return;
    }
    assert_eq!(report.verdict, Verdict::Whole, "filled into what is not whole");
    assert_eq!(stored.len(), bytes.len());
    let HeadParse::Head(head) = pg_custom::parse_head(bytes) else { panic!("filled in without a head") };
    check_difference(bytes, stored, &head);
    let again = read_all(stored, Treatment::CheckAndComplete, None);
    assert_eq!(again.report, DumpReport { filled_offsets: 0, ..report.clone() }, "once was not enough");
    assert!(again.stored == *stored, "the second time is another");
    let read_back =
        pg_custom::check_stored(head.length, &mut |offset, length| read_at(stored, offset, length));
    assert_eq!(read_back, Ok(Ok(())), "what was filled in does not read back");
}

/// Checks that two versions of an archive differ in the offset fields of entries without an offset alone.
fn check_difference(before: &[u8], after: &[u8], head: &Head) {
    let missing: Vec<_> = head.entries.iter().filter(|entry| entry.data == DataState::NotSet).collect();
    for (at, _) in before.iter().zip(after).enumerate().filter(|(_, (before, after))| before != after) {
        let is_field =
            missing.iter().any(|entry| (entry.field..=entry.field + head.offset_bytes).contains(&at));
        assert!(is_field, "byte {at} changed, which is in no offset");
    }
}

/// Reads as from a stored file, and refuses to read a lot.
fn read_at(bytes: &[u8], offset: u64, length: usize) -> Result<Vec<u8>, String> {
    if length > HELD_BACK_MAX {
        return Err(format!("{length} bytes are asked for at once"));
    }
    let begin = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    Ok(bytes[begin..begin + length.min(bytes.len() - begin)].to_vec())
}

/// Holds the parser of archives against everything that is promised of it.
pub(crate) fn check_archive(bytes: &[u8]) {
    let mut dice = Dice::of(bytes);
    check_read_back(bytes, dice.below(bytes.len() + 2));
    let head = match pg_custom::parse_head(bytes) {
        HeadParse::Head(head) => head,
        HeadParse::NeedMore => return,
        HeadParse::Unknown(why) | HeadParse::Broken(why) => return check_sentence(&why),
    };
    check_head(bytes, &head, &mut dice);
    check_read_back(bytes, head.length);
    let body = &bytes[head.length..];
    let whole = walked(&head, body, None);
    assert_eq!(walked(&head, body, Some(&mut dice)), whole, "the walk hangs on how the archive is split");
    match whole {
        Err(why) => check_sentence(&why),
        Ok(offsets) => check_offsets(bytes, &head, &offsets),
    }
}

fn check_read_back(bytes: &[u8], head_length: usize) {
    let mut read = |offset, length| read_at(bytes, offset, length);
    match pg_custom::check_stored(head_length, &mut read) {
        Ok(Ok(())) => {}
        Ok(Err(why)) => check_sentence(&why),
        Err(why) => panic!("{why}"),
    }
}

/// Checks that a head lies where it says, and that it is the same with less and with more behind it.
fn check_head(bytes: &[u8], head: &Head, dice: &mut Dice) {
    assert!(head.length <= bytes.len(), "a head longer than the archive");
    for entry in &head.entries {
        assert!(entry.field + head.offset_bytes < head.length, "an offset outside of the head");
        check_sentence(&format!("{:?}", entry.label));
    }
    let exactly = pg_custom::parse_head(&bytes[..head.length]);
    assert!(matches!(&exactly, HeadParse::Head(again) if again == head), "{exactly:?}");
    for cut in [dice.below(head.length), head.length - 1] {
        let less = pg_custom::parse_head(&bytes[..cut]);
        assert!(matches!(less, HeadParse::NeedMore), "{cut} of {} bytes: {less:?}", head.length);
    }
}

fn walked(head: &Head, body: &[u8], dice: Option<&mut Dice>) -> Result<Vec<DataOffset>, String> {
    let mut walk = BlockWalk::new(head);
    match dice {
        None => walk.feed(body),
        Some(dice) => {
            let mut rest = body;
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(dice.length(rest.len()));
                walk.feed(piece);
                rest = after;
            }
        }
    }
    walk.finish()
}

/// Checks that the offsets of a whole archive fit, and fill in what is missing.
fn check_offsets(bytes: &[u8], head: &Head, offsets: &[DataOffset]) {
    for offset in offsets {
        let begins_behind_the_head =
            offset.offset >= head.length as u64 && offset.offset < bytes.len() as u64;
        assert!(begins_behind_the_head, "{offset:?}");
    }
    let mut filled = bytes[..head.length].to_vec();
    let count = match pg_custom::fill_offsets(&mut filled, head, offsets) {
        Ok(count) => count,
        Err(why) => return check_sentence(&why),
    };
    let missing = head.entries.iter().filter(|entry| entry.data == DataState::NotSet).count();
    assert!(count <= missing as u64, "{count} offsets were filled in, and {missing} missing");
    check_difference(&bytes[..head.length], &filled, head);
    let HeadParse::Head(again) = pg_custom::parse_head(&filled) else { panic!("no head any more") };
    for offset in offsets {
        let entry = again.entries.iter().find(|entry| entry.dump_id == offset.dump_id);
        assert_eq!(entry.map(|entry| entry.data), Some(DataState::At(offset.offset)), "{offset:?}");
    }
}
