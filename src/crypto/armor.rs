//! The text form of keys that people and machines pass on: base32 behind a prefix, with a checksum.

use data_encoding::{BASE32_NOPAD, DecodeKind};
use zeroize::Zeroizing;

use super::CryptoError;

const CHECKSUM_BYTES: usize = 4;
const GROUP_CHARACTERS: usize = 5;

/// Returns `PREFIX-XXXXX-…`: base32 of `bytes` and the first 4 bytes of their BLAKE3, in groups that people can type.
pub(super) fn encode(prefix: &str, bytes: &[u8]) -> Zeroizing<String> {
    let bytes = Zeroizing::new([bytes, &checksum(bytes)].concat());
    let digits = Zeroizing::new(BASE32_NOPAD.encode(&bytes));
    // Reserved at once, so that growing leaves no copy of the key behind.
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + 2 * digits.len()));
    text.push_str(prefix);
    for (position, digit) in digits.chars().enumerate() {
        if position % GROUP_CHARACTERS == 0 {
            text.push('-');
        }
        text.push(digit);
    }
    text
}

/// Returns the bytes behind digits: what follows the prefix of a normal text.
pub(super) fn decode(digits: &str) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
    let not_a_key = |why: &str| CryptoError::NotAKey(why.to_owned());
    let bytes = BASE32_NOPAD.decode(digits.as_bytes()).map_err(|error| match error.kind {
        // The bits of it that carry nothing must be zero.
        DecodeKind::Trailing => not_a_key("its last character was mistyped"),
        DecodeKind::Length if digits.is_ascii() => not_a_key("it is cut short"),
        _ => not_a_key("it holds a character other than A to Z and 2 to 7"),
    })?;
    let mut bytes = Zeroizing::new(bytes);
    let length = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or_else(|| not_a_key("it is cut short"))?;
    match bytes.split_at_checked(length) {
        Some((key, sum)) if *sum == checksum(key) => {}
        _ => return Err(not_a_key("its checksum is wrong, so a character was mistyped")),
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// Returns how many digits stand for so many bytes.
pub(super) fn digits_of(bytes: usize) -> usize {
    BASE32_NOPAD.encode_len(bytes + CHECKSUM_BYTES)
}

/// Drops what people may type otherwise. Reserved at once, so that growing leaves no copy of the key behind.
pub(super) fn normalize(text: &str) -> Zeroizing<String> {
    let mut normal = Zeroizing::new(String::with_capacity(text.len()));
    let kept = text.chars().filter(|character| !character.is_whitespace() && *character != '-');
    normal.extend(kept.map(|character| character.to_ascii_uppercase()));
    normal
}

fn checksum(key: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let [a, b, c, d, ..] = *blake3::hash(key).as_bytes();
    [a, b, c, d]
}
