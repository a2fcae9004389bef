//! The bytes of a store: pure encoders and decoders, no I/O. The specification is `docs/format.md`.
//!
//! Decoders trust nothing: every declared size is capped before it is allocated, exactly one encoding of a
//! value is accepted, and a violated rule is a [`FormatError`], never a panic.

pub mod cbor;
pub mod collection;
pub mod config;
pub mod content;
pub mod frame;
pub mod header;
pub mod index_object;
mod json;
pub mod keys;
pub mod pack;
pub mod snapshot;
pub mod tree;
#[cfg(test)]
mod vectors;

/// Why bytes are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The bytes break a rule of the format; the text says which.
    #[error("{what} is malformed: {why}")]
    Malformed {
        /// The thing that was decoded.
        what: &'static str,
        /// The rule that was broken.
        why: String,
    },
    /// The bytes are of a version or carry a feature that this program does not know.
    #[error("{what} needs a newer yester: {why}")]
    TooNew {
        /// The thing that was decoded.
        what: &'static str,
        /// What is not known.
        why: String,
    },
    /// Authentication failed: the bytes were changed, or belong elsewhere, or the key is another one.
    #[error("{what} is damaged or was altered: its seal does not open")]
    Seal {
        /// The thing that was opened.
        what: &'static str,
    },
    /// The keys at hand cannot do this, or the cryptographic library failed; says nothing about the bytes.
    #[error("cannot seal or open {what}")]
    Keys {
        /// The thing that was to be sealed or opened.
        what: &'static str,
        /// What stands against it.
        source: crate::crypto::CryptoError,
    },
}

impl FormatError {
    pub(crate) fn malformed(what: &'static str, why: impl Into<String>) -> Self {
        Self::Malformed { what, why: why.into() }
    }
}
