//! The rules of CBOR in a store: one encoding of a value, nothing behind it, and bounds on everything declared.
//!
//! Owns the canonical check and the reader and writer that the codecs of this layer share. What the values
//! mean and which rules they follow is left to those codecs.

use std::convert::Infallible;

use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

use super::FormatError;

/// Deepest nesting of arrays that is accepted.
pub const MAX_DEPTH: usize = 16;

/// Most elements for which room is made before they were seen.
const RESERVE_MAX: usize = 256;

/// How a codec reports to [`encode`]; writing to memory never fails.
pub(super) type Encoded = Result<(), minicbor::encode::Error<Infallible>>;

/// What codecs write to.
pub(super) type CborWriter<'a> = Encoder<&'a mut Vec<u8>>;

/// Checks that `bytes` are exactly one CBOR item in the only form that a store holds.
///
/// Heads are in their shortest form, lengths definite, texts UTF-8; there are no tags, maps, floating-point
/// numbers or simple values but `false`, `true` and `null`; arrays nest at most [`MAX_DEPTH`] deep. Needs
/// memory for the nesting alone, whatever the bytes declare.
///
/// # Errors
/// Says of `what` which rule was broken.
pub fn check_canonical(what: &'static str, bytes: &[u8]) -> Result<(), FormatError> {
    let malformed = |why| FormatError::malformed(what, why);
    let mut rest = bytes;
    let mut missing = vec![1_u64];
    while let Some(items) = missing.last_mut() {
        if *items == 0 {
            missing.pop();
            continue;
        }
        *items -= 1;
        match take_head(&mut rest).map_err(malformed)? {
            Head::Scalar => {}
            Head::Bytes(length) => {
                take(&mut rest, length).map_err(malformed)?;
            }
            Head::Text(length) => {
                let text = take(&mut rest, length).map_err(malformed)?;
                std::str::from_utf8(text).map_err(|_| malformed("a text is not UTF-8"))?;
            }
            Head::Array(items) => {
                if missing.len() > MAX_DEPTH {
                    return Err(malformed("arrays are nested too deep"));
                }
                missing.push(items);
            }
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(malformed("bytes stand behind the value")) }
}

/// Returns the CBOR that `write` produces.
pub(super) fn encode(write: impl FnOnce(&mut CborWriter<'_>) -> Encoded) -> Vec<u8> {
    let mut bytes = Vec::new();
    match write(&mut Encoder::new(&mut bytes)) {
        Ok(()) => bytes,
        Err(error) => unreachable!("a vector takes every byte: {error}"),
    }
}

/// Writes `value`, or `null` where there is none.
pub(super) fn write_optional<T>(
    writer: &mut CborWriter<'_>,
    value: Option<&T>,
    write: impl FnOnce(&mut CborWriter<'_>, &T) -> Encoded,
) -> Encoded {
    match value {
        Some(value) => write(writer, value),
        None => writer.null()?.ok(),
    }
}

/// Writes `values` as an array.
pub(super) fn write_list<T>(
    writer: &mut CborWriter<'_>,
    values: &[T],
    mut write: impl FnMut(&mut CborWriter<'_>, &T) -> Encoded,
) -> Encoded {
    writer.array(values.len() as u64)?;
    values.iter().try_for_each(|value| write(writer, value))
}

/// Reads canonical CBOR field by field; every error names what is read.
pub(super) struct CborReader<'b> {
    what: &'static str,
    decoder: Decoder<'b>,
}

impl<'b> CborReader<'b> {
    /// Checks that `bytes` are canonical and starts at their beginning.
    pub(super) fn new(what: &'static str, bytes: &'b [u8]) -> Result<Self, FormatError> {
        check_canonical(what, bytes)?;
        Ok(Self { what, decoder: Decoder::new(bytes) })
    }

    /// Returns an error about what is read.
    pub(super) fn malformed(&self, why: impl Into<String>) -> FormatError {
        FormatError::malformed(self.what, why)
    }

    /// Reads a record: an array of at least `known` fields. Those behind them belong to a later version of
    /// the format and are skipped.
    pub(super) fn record<T>(
        &mut self,
        known: u64,
        read: impl FnOnce(&mut Self) -> Result<T, FormatError>,
    ) -> Result<T, FormatError> {
        let fields = self.array()?;
        let unknown = fields
            .checked_sub(known)
            .ok_or_else(|| self.malformed(format!("a record has {fields} fields instead of {known}")))?;
        let value = read(self)?;
        for _ in 0..unknown {
            let skipped = self.decoder.skip();
            self.checked(skipped)?;
        }
        Ok(value)
    }

    /// Reads an array of `minimum` to `maximum` elements.
    pub(super) fn list<T>(
        &mut self,
        minimum: usize,
        maximum: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, FormatError>,
    ) -> Result<Vec<T>, FormatError> {
        let count = self.array()?;
        let count =
            usize::try_from(count).ok().filter(|count| (minimum..=maximum).contains(count)).ok_or_else(
                || self.malformed(format!("a list has {count} elements, not {minimum} to {maximum}")),
            )?;
        let mut values = Vec::with_capacity(count.min(RESERVE_MAX));
        for _ in 0..count {
            values.push(read(self)?);
        }
        Ok(values)
    }

    /// Reads a value, or `null` as none.
    pub(super) fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, FormatError>,
    ) -> Result<Option<T>, FormatError> {
        if self.next_is(Type::Null)? { self.null().map(|()| None) } else { read(self).map(Some) }
    }

    /// Reads `null`.
    pub(super) fn null(&mut self) -> Result<(), FormatError> {
        let read = self.decoder.null();
        self.checked(read)
    }

    /// Tells whether an array comes next.
    pub(super) fn next_is_array(&mut self) -> Result<bool, FormatError> {
        self.next_is(Type::Array)
    }

    /// Reads an unsigned number.
    pub(super) fn u8(&mut self) -> Result<u8, FormatError> {
        let read = self.decoder.u8();
        self.checked(read)
    }

    /// Reads an unsigned number.
    pub(super) fn u16(&mut self) -> Result<u16, FormatError> {
        let read = self.decoder.u16();
        self.checked(read)
    }

    /// Reads an unsigned number.
    pub(super) fn u32(&mut self) -> Result<u32, FormatError> {
        let read = self.decoder.u32();
        self.checked(read)
    }

    /// Reads an unsigned number.
    pub(super) fn u64(&mut self) -> Result<u64, FormatError> {
        let read = self.decoder.u64();
        self.checked(read)
    }

    /// Reads a signed number.
    pub(super) fn i64(&mut self) -> Result<i64, FormatError> {
        let read = self.decoder.i64();
        self.checked(read)
    }

    /// Reads a byte string of `minimum` to `maximum` bytes.
    pub(super) fn bytes(&mut self, minimum: usize, maximum: usize) -> Result<&'b [u8], FormatError> {
        let read = self.decoder.bytes();
        let bytes = self.checked(read)?;
        self.check_length(bytes.len(), minimum, maximum)?;
        Ok(bytes)
    }

    /// Reads a byte string of exactly `N` bytes.
    pub(super) fn array_of<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let read = self.decoder.bytes();
        let bytes = self.checked(read)?;
        bytes.try_into().map_err(|_| self.malformed(format!("{} bytes stand where {N} belong", bytes.len())))
    }

    /// Reads a text of `minimum` to `maximum` bytes.
    pub(super) fn text(&mut self, minimum: usize, maximum: usize) -> Result<&'b str, FormatError> {
        let read = self.decoder.str();
        let text = self.checked(read)?;
        self.check_length(text.len(), minimum, maximum)?;
        Ok(text)
    }

    fn array(&mut self) -> Result<u64, FormatError> {
        let read = self.decoder.array();
        self.checked(read)?.ok_or_else(|| self.malformed("an array has no definite length"))
    }

    fn next_is(&mut self, expected: Type) -> Result<bool, FormatError> {
        let found = self.decoder.datatype();
        self.checked(found).map(|found| found == expected)
    }

    fn check_length(&self, length: usize, minimum: usize, maximum: usize) -> Result<(), FormatError> {
        if (minimum..=maximum).contains(&length) {
            return Ok(());
        }
        Err(self.malformed(format!("a value has {length} bytes, not {minimum} to {maximum}")))
    }

    fn checked<T>(&self, result: Result<T, minicbor::decode::Error>) -> Result<T, FormatError> {
        result.map_err(|error| self.malformed(error.to_string()))
    }
}

/// What a head announces.
enum Head {
    Scalar,
    Bytes(u64),
    Text(u64),
    Array(u64),
}

fn take_head(rest: &mut &[u8]) -> Result<Head, &'static str> {
    let first = take_array::<1>(rest)?[0];
    let (major, info) = (first >> 5, first & 31);
    if major == 7 {
        return if matches!(info, 20..=22) { Ok(Head::Scalar) } else { Err("a simple value is not allowed") };
    }
    let (argument, shortest) = match info {
        0..=23 => (u64::from(info), 0),
        24 => (u64::from(take_array::<1>(rest)?[0]), 24),
        25 => (u64::from(u16::from_be_bytes(take_array(rest)?)), 1 << 8),
        26 => (u64::from(u32::from_be_bytes(take_array(rest)?)), 1 << 16),
        27 => (u64::from_be_bytes(take_array(rest)?), 1 << 32),
        _ => return Err("a length is not definite"),
    };
    if argument < shortest {
        return Err("a number is not in its shortest form");
    }
    match major {
        0 | 1 => Ok(Head::Scalar),
        2 => Ok(Head::Bytes(argument)),
        3 => Ok(Head::Text(argument)),
        4 => Ok(Head::Array(argument)),
        5 => Err("a map is not allowed"),
        _ => Err("a tag is not allowed"),
    }
}

fn take<'b>(rest: &mut &'b [u8], length: u64) -> Result<&'b [u8], &'static str> {
    let (taken, after) = usize::try_from(length)
        .ok()
        .and_then(|length| rest.split_at_checked(length))
        .ok_or("it ends in the middle of a value")?;
    *rest = after;
    Ok(taken)
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], &'static str> {
    let (taken, after) = rest.split_first_chunk().ok_or("it ends in the middle of a value")?;
    *rest = after;
    Ok(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(bytes: &[u8]) -> String {
        check_canonical("value", bytes).unwrap_err().to_string()
    }

    #[test]
    fn canonical_values_pass() {
        let values: [&[u8]; 9] = [
            &[0x00],
            &[0x17],
            &[0x18, 0x18],
            &[0x19, 0x01, 0x00],
            &[0x1b, 0, 0, 0, 1, 0, 0, 0, 0],
            &[0x20],
            &[0x82, 0x41, 0xff, 0x61, b'a'],
            &[0x83, 0xf4, 0xf5, 0xf6],
            &[0x80],
        ];
        for value in values {
            check_canonical("value", value).unwrap();
        }
    }

    #[test]
    fn long_forms_are_refused() {
        let long: [&[u8]; 6] = [
            &[0x18, 0x17],
            &[0x19, 0x00, 0xff],
            &[0x1a, 0, 0, 0xff, 0xff],
            &[0x1b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
            &[0x58, 0x01, 0xff],
            &[0x98, 0x01, 0x00],
        ];
        for bytes in long {
            assert!(refusal(bytes).contains("shortest form"), "{bytes:02x?}");
        }
    }

    #[test]
    fn indefinite_lengths_are_refused() {
        for bytes in [&[0x9f, 0xff][..], &[0x5f, 0xff], &[0x7f, 0xff], &[0x1c]] {
            assert!(refusal(bytes).contains("definite"), "{bytes:02x?}");
        }
    }

    #[test]
    fn trailing_and_missing_bytes_are_refused() {
        assert!(refusal(&[0x00, 0x00]).contains("behind"));
        for bytes in
            [&[][..], &[0x81], &[0x42, 0x00], &[0x19, 0x01], &[0x5b, 255, 255, 255, 255, 255, 255, 255, 255]]
        {
            assert!(refusal(bytes).contains("ends in the middle"), "{bytes:02x?}");
        }
    }

    #[test]
    fn kinds_of_values_without_use_are_refused() {
        for bytes in [&[0xa0][..], &[0xc1, 0x00], &[0xf7], &[0xf9, 0, 0], &[0xe0], &[0xf8, 0xff], &[0xff]] {
            assert!(refusal(bytes).contains("not allowed"), "{bytes:02x?}");
        }
        assert!(refusal(&[0x61, 0xff]).contains("UTF-8"));
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| [vec![0x81; depth - 1], vec![0x80]].concat();
        check_canonical("value", &nested(MAX_DEPTH)).unwrap();
        assert!(refusal(&nested(MAX_DEPTH + 1)).contains("deep"));
        assert!(refusal(&vec![0x81; 1 << 20]).contains("deep"));
    }

    #[test]
    fn fields_of_later_versions_are_skipped() {
        let bytes = [0x83, 0x01, 0x82, 0x02, 0x80, 0x61, b'x'];
        let mut reader = CborReader::new("value", &bytes).unwrap();
        assert_eq!(reader.record(1, CborReader::u8).unwrap(), 1);
        let mut reader = CborReader::new("value", &bytes).unwrap();
        assert!(reader.record(4, CborReader::u8).is_err());
    }

    #[test]
    fn declared_counts_are_bounded() {
        let bytes = [0x83, 0x01, 0x02, 0x03];
        let list = |minimum, maximum| {
            CborReader::new("value", &bytes).unwrap().list(minimum, maximum, CborReader::u8)
        };
        assert_eq!(list(0, 3).unwrap(), [1, 2, 3]);
        assert!(list(0, 2).is_err());
        assert!(list(4, 9).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_checked_without_a_panic(bytes: Vec<u8>) {
            let _ = check_canonical("value", &bytes);
        }
    }
}
