//! Identifiers of everything in a store, each a type of its own, and their text forms.
//!
//! How an id is computed is owned by `crypto` (keyed hashes) and `format`; this file only holds the values.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;

/// A text that is not an identifier of the expected form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {what}: {text:?}")]
pub struct ParseIdError {
    what: &'static str,
    text: String,
}

impl ParseIdError {
    fn new(what: &'static str, text: &str) -> Self {
        Self { what, text: text.chars().take(80).collect() }
    }
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $len:expr, $what:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length of the identifier in bytes.
            pub const LEN: usize = $len;

            /// Wraps raw bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// Returns the raw bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Returns the identifier in `bytes`, or nothing if their number is wrong.
            #[must_use]
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                HEXLOWER
                    .decode(text.as_bytes())
                    .ok()
                    .and_then(|bytes| Self::from_slice(&bytes))
                    .ok_or_else(|| ParseIdError::new($what, text))
            }
        }
    };
}

id_type!(
    /// Names a chunk: BLAKE3 keyed with the domain's id key, of its kind byte and plain bytes.
    ChunkId, 32, "chunk id"
);
id_type!(
    /// Names a frame: keyed BLAKE3 of its ordered list of chunk ids and lengths.
    FrameId, 32, "frame id"
);
id_type!(
    /// Names a pack: BLAKE3 of its stored bytes. Anyone can check it without a key.
    PackId, 32, "pack id"
);
id_type!(
    /// Names a key domain. Stores of one domain share their keys.
    DomainId, 16, "domain id"
);
id_type!(
    /// Names one store, wherever it is mounted or copied to.
    StoreId, 16, "store id"
);
id_type!(
    /// Names a key slot.
    SlotId, 8, "key slot id"
);
id_type!(
    /// Names one writing installation of a host; part of every object it makes.
    WriterId, 16, "writer id"
);

macro_rules! random_id {
    ($($name:ident),*) => {$(
        impl $name {
            /// Returns a fresh identifier from the system's random source.
            ///
            /// # Errors
            /// Fails if the system has no randomness to give.
            pub fn random() -> Result<Self, getrandom::Error> {
                let mut bytes = [0; Self::LEN];
                getrandom::fill(&mut bytes)?;
                Ok(Self(bytes))
            }
        }
    )*};
}
random_id!(DomainId, StoreId, SlotId, WriterId);

/// Names a session, and the snapshot that it commits: 128 random bits behind a UTC time prefix.
///
/// The text form is `20261121T053106Z-0123456789abcdef0123456789abcdef`. The time is a hint for people
/// and listings and proves nothing. It lies between the years 0 and 9999.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    /// Seconds since 1970, UTC.
    seconds: i64,
    random: [u8; 16],
}

/// A committed snapshot is named by the session that created it.
pub type SnapshotId = SessionId;

const SESSION_TIME_FORMAT: &str = "%Y%m%dT%H%M%SZ";

impl SessionId {
    /// Returns a fresh session id for a session that begins at `time`.
    ///
    /// # Errors
    /// Fails if the system has no randomness to give.
    pub fn random(time: jiff::Timestamp) -> Result<Self, getrandom::Error> {
        let mut random = [0; 16];
        getrandom::fill(&mut random)?;
        Ok(Self { seconds: time.as_second().clamp(0, 253_402_300_799), random })
    }

    /// Returns the random part as 32 hexadecimal digits: what people type, or a prefix of it.
    #[must_use]
    pub fn hex(&self) -> String {
        HEXLOWER.encode(&self.random)
    }

    /// Returns the first eight hexadecimal digits of the random part, for lists and path names.
    #[must_use]
    pub fn short(&self) -> String {
        self.hex().chars().take(8).collect()
    }

    /// Returns the time prefix.
    #[must_use]
    pub fn time(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_second(self.seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.time().strftime(SESSION_TIME_FORMAT), self.hex())
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

impl FromStr for SessionId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let parse = || -> Option<Self> {
            let (time, hex) = text.split_once('-')?;
            let random = HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok()?;
            let seconds = jiff::civil::DateTime::strptime(SESSION_TIME_FORMAT, time)
                .ok()?
                .to_zoned(jiff::tz::TimeZone::UTC)
                .ok()?
                .timestamp()
                .as_second();
            let id = Self { seconds, random };
            (seconds >= 0 && id.to_string() == text).then_some(id)
        };
        parse().ok_or_else(|| ParseIdError::new("session id", text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_text_form() {
        let id = SlotId::from_bytes([0, 1, 2, 3, 0xfc, 0xfd, 0xfe, 0xff]);
        assert_eq!(id.to_string(), "00010203fcfdfeff");
        assert_eq!("00010203fcfdfeff".parse(), Ok(id));
        assert!("00010203FCFDFEFF".parse::<SlotId>().is_err());
        assert!("00010203fcfdfe".parse::<SlotId>().is_err());
    }

    #[test]
    fn session_ids_keep_their_time() {
        let text = "20261121T053106Z-0123456789abcdef0123456789abcdef";
        let id: SessionId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(id.short(), "01234567");
        assert_eq!(id.time().to_string(), "2026-11-21T05:31:06Z");
        for bad in ["", "x", "20261121T053106Z-01", "20261321T053106Z-0123456789abcdef0123456789abcdef"] {
            assert!(bad.parse::<SessionId>().is_err(), "{bad}");
        }
    }
}
