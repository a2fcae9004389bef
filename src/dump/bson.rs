//! The fields of a BSON document that say something here. Source: bsonspec.org, version 1.1.

/// The shortest document: its length, and the zero at its end.
pub(super) const DOCUMENT_MIN_BYTES: usize = 5;

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A text, without the zero at its end.
    Text(&'a [u8]),
    /// A truth value.
    Bool(bool),
    /// A number without a fraction.
    Integer(i64),
    /// Anything else.
    Other,
}

/// Hands each field of a document to `take`, but none of the documents within; returns nothing if it is none.
pub(super) fn each_field<'a>(document: &'a [u8], take: &mut dyn FnMut(&'a [u8], Value<'a>)) -> Option<()> {
    let (length, rest) = integer(document)?;
    if usize::try_from(length) != Ok(document.len()) {
        return None;
    }
    let (end, mut rest) = rest.split_last()?;
    if *end != 0 {
        return None;
    }
    while let Some((kind, behind)) = rest.split_first() {
        let (name, behind) = terminated(behind)?;
        let (value, behind) = value(*kind, behind)?;
        take(name, value);
        rest = behind;
    }
    Some(())
}

/// Returns the value of a field of a kind, and what follows it.
fn value(kind: u8, bytes: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let other = |rest| Some((Value::Other, rest));
    match kind {
        // A text; code, a symbol.
        0x02 | 0x0d | 0x0e => {
            let (text, rest) = text(bytes)?;
            Some((if kind == 0x02 { Value::Text(text) } else { Value::Other }, rest))
        }
        // A document, an array, code with a document: their length counts itself.
        0x03 | 0x04 | 0x0f => {
            let length = usize::try_from(integer(bytes)?.0).ok()?;
            if length < DOCUMENT_MIN_BYTES {
                return None;
            }
            other(bytes.get(length..)?)
        }
        // Bytes, behind their length and their kind.
        0x05 => {
            let (length, rest) = integer(bytes)?;
            other(rest.get(usize::try_from(length).ok()?.checked_add(1)?..)?)
        }
        0x08 => match bytes.split_first()? {
            (flag @ 0..=1, rest) => Some((Value::Bool(*flag == 1), rest)),
            _ => None,
        },
        0x10 => integer(bytes).map(|(number, rest)| (Value::Integer(number.into()), rest)),
        0x12 => {
            let (number, rest) = bytes.split_first_chunk()?;
            Some((Value::Integer(i64::from_le_bytes(*number)), rest))
        }
        // A regular expression and its options.
        0x0b => other(terminated(terminated(bytes)?.1)?.1),
        // A reference: a text, and an object id.
        0x0c => other(text(bytes)?.1.get(12..)?),
        // Nothing at all: undefined, null, the least and the greatest key.
        0x06 | 0x0a | 0x7f | 0xff => other(bytes),
        0x07 => other(bytes.get(12..)?),
        // A number with a fraction, a time, a time stamp.
        0x01 | 0x09 | 0x11 => other(bytes.get(8..)?),
        0x13 => other(bytes.get(16..)?),
        _ => None,
    }
}

fn integer(bytes: &[u8]) -> Option<(i32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((i32::from_le_bytes(*number), rest))
}

/// Returns a text, whose length counts the zero at its end.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = integer(bytes)?;
    let (text, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    match text.split_last()? {
        (0, text) => Some((text, rest)),
        _ => None,
    }
}

/// Returns what stands before the next zero, and what follows that.
fn terminated(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, bytes)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn document(fields: &[u8]) -> Vec<u8> {
        let length = i32::try_from(fields.len() + DOCUMENT_MIN_BYTES).unwrap();
        [&length.to_le_bytes()[..], fields, &[0]].concat()
    }

    fn fields(document: &[u8]) -> Option<Vec<(&[u8], Value<'_>)>> {
        let mut fields = Vec::new();
        each_field(document, &mut |name, value| fields.push((name, value)))?;
        Some(fields)
    }

    #[test]
    fn every_kind_of_value_is_passed() {
        let kinds: [(u8, &[u8], Value<'_>); 21] = [
            (0x01, &[1; 8], Value::Other),
            (0x02, b"\x03\0\0\0ab\0", Value::Text(b"ab")),
            (0x03, b"\x05\0\0\0\0", Value::Other),
            (0x04, b"\x0c\0\0\0\x100\0\x01\0\0\0\0", Value::Other),
            (0x05, b"\x02\0\0\0\x80ab", Value::Other),
            (0x06, b"", Value::Other),
            (0x07, &[1; 12], Value::Other),
            (0x08, &[0], Value::Bool(false)),
            (0x08, &[1], Value::Bool(true)),
            (0x09, &[1; 8], Value::Other),
            (0x0a, b"", Value::Other),
            (0x0b, b"a+\0i\0", Value::Other),
            (0x0c, b"\x02\0\0\0a\x00123456789012", Value::Other),
            (0x0d, b"\x01\0\0\0\0", Value::Other),
            (0x0f, b"\x0e\0\0\0\x01\0\0\0\0\x05\0\0\0\0", Value::Other),
            (0x10, &[0xff; 4], Value::Integer(-1)),
            (0x11, &[1; 8], Value::Other),
            (0x12, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Value::Integer(-2)),
            (0x13, &[1; 16], Value::Other),
            (0x7f, b"", Value::Other),
            (0xff, b"", Value::Other),
        ];
        let end = (&b"end"[..], Value::Bool(true));
        for (kind, bytes, value) in kinds {
            let field = [&[kind], &b"name\0"[..], bytes].concat();
            let whole = document(&[&field[..], b"\x08end\0\x01"].concat());
            assert_eq!(fields(&whole), Some(vec![(&b"name"[..], value), end]), "{kind:#x}");
            for length in 1..field.len() {
                assert_eq!(fields(&document(&field[..length])), None, "{kind:#x} of {length} bytes");
            }
        }
        assert_eq!(fields(&document(b"")), Some(Vec::new()));
    }

    #[test]
    fn what_is_no_document_is_none() {
        for bytes in [
            &b""[..],
            b"\x05\0\0\0",
            b"\x05\0\0\0\x01",
            b"\x06\0\0\0\0",
            b"\x05\0\0\0\0\0",
            &document(b"\x42name\0"),
            &document(b"\x08name\0\x02"),
            &document(b"\x02name\0\0\0\0\0"),
            &document(b"\x02name\0\xff\xff\xff\xff"),
            &document(b"\x03name\0\x04\0\0\0"),
            &document(b"\x05name\0\xff\xff\xff\x7f\0"),
        ] {
            assert_eq!(fields(bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = fields(&bytes);
            let _ = fields(&document(&bytes));
        }
    }
}
