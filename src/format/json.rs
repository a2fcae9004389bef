//! The JSON forms of values that `config`, key slots and manifests share.
//!
//! Each form is the only one that is accepted for its value: what is read is held against what would be written.

use std::fmt::Display;
use std::str::FromStr;

use data_encoding::{BASE64, HEXLOWER};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::FormatError;

/// Decodes `bytes`, at most `max_bytes` of them, with nothing behind the value.
pub(super) fn decode<T: DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
    max_bytes: usize,
) -> Result<T, FormatError> {
    if bytes.len() > max_bytes {
        return Err(FormatError::malformed(what, format!("it has more than {max_bytes} bytes")));
    }
    serde_json::from_slice(bytes).map_err(|error| malformed(what, &error))
}

/// Says that a value cannot be written, or is not what was read.
pub(super) fn malformed(what: &'static str, error: &serde_json::Error) -> FormatError {
    FormatError::malformed(what, error.to_string())
}

/// A value that is written as its text: an id, or a time (RFC 3339, UTC).
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<T>(pub(super) T);

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T: Display + FromStr<Err: Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let value: T = text.parse().map_err(D::Error::custom)?;
        if value.to_string() == text {
            Ok(Self(value))
        } else {
            Err(D::Error::custom(format!("{text:?} is not the canonical form of {value}")))
        }
    }
}

/// Bytes of a fixed number, as lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hex<const N: usize>(pub(super) [u8; N]);

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXLOWER.encode(&self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| D::Error::custom(format!("not {N} bytes in hexadecimal digits")))
    }
}

/// Bytes of any number, as base64.
#[derive(Debug, Clone)]
pub(super) struct Base64(pub(super) Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64.decode(text.as_bytes()).map(Self).map_err(D::Error::custom)
    }
}

/// A byte string that people read: a JSON string where it is UTF-8, else `{"b64": "…"}`.
#[derive(Debug, Clone)]
pub(super) struct RawText(pub(super) Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum RawTextForm<T> {
    Text(T),
    Encoded { b64: Base64 },
}

impl Serialize for RawText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => RawTextForm::Text(text).serialize(serializer),
            Err(_) => {
                let b64 = Base64(self.0.clone());
                RawTextForm::<&str>::Encoded { b64 }.serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for RawText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match RawTextForm::<String>::deserialize(deserializer)? {
            RawTextForm::Text(text) => Ok(Self(text.into_bytes())),
            RawTextForm::Encoded { b64 } if std::str::from_utf8(&b64.0).is_err() => Ok(Self(b64.0)),
            RawTextForm::Encoded { .. } => Err(D::Error::custom("b64 stands for what is UTF-8")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::SlotId;

    fn read<T: DeserializeOwned>(text: &str) -> Result<T, FormatError> {
        decode("test", text.as_bytes(), 1000)
    }

    #[test]
    fn each_value_has_one_form() {
        assert!(read::<Text<SlotId>>(r#""00010203fcfdfeff""#).is_ok());
        assert!(read::<Text<SlotId>>(r#""00010203FCFDFEFF""#).is_err());
        assert!(read::<Text<jiff::Timestamp>>(r#""2026-11-21T05:31:06Z""#).is_ok());
        assert!(read::<Text<jiff::Timestamp>>(r#""2026-11-21T06:31:06+01:00""#).is_err());
        assert!(read::<Hex<2>>(r#""00ff""#).is_ok());
        for bad in [r#""00fF""#, r#""00""#, r#""00ff00""#] {
            assert!(read::<Hex<2>>(bad).is_err(), "{bad}");
        }
        assert!(read::<RawText>(r#"{"b64":"/w=="}"#).is_ok());
        for bad in [r#"{"b64":"YQ=="}"#, r#"{"b64":"/w"}"#, r#"{"b64":"/x=="}"#, "{}", "1"] {
            assert!(read::<RawText>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_stands_behind_a_value_and_sizes_are_capped() {
        assert!(read::<Hex<2>>(r#""00ff" x"#).is_err());
        assert!(decode::<Hex<2>>("test", br#""00ff""#, 5).is_err());
    }

    proptest! {
        #[test]
        fn byte_strings_survive(bytes: Vec<u8>, text: String) {
            for value in [bytes, text.into_bytes()] {
                let written = serde_json::to_string(&RawText(value.clone())).unwrap();
                prop_assert_eq!(serde_json::from_str::<RawText>(&written).unwrap().0, value);
            }
        }
    }
}
