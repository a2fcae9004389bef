//! Keys and sealing: what a domain's secrets are, how they derive, and how bytes are sealed and opened.
//!
//! Knows nothing of objects or their layout; `format` says what is sealed and with which associated data.

mod armor;
pub mod hash;
pub mod ingest_key;
pub mod seal;
pub mod secrets;
pub mod slot;

use zeroize::Zeroizing;

/// Why a key or a sealed value cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CryptoError {
    /// The seal does not open: other bytes, another key, or other associated data.
    #[error("the seal does not open")]
    Open,
    /// No secret of this host can open what other writers sealed: it holds an ingest-only key.
    #[error("this key can write backups but not read them")]
    IngestOnly,
    /// A writer that this key cannot write as, or that cannot exist.
    #[error("cannot write as host {host:?}: {why}")]
    Writer {
        /// Name of the writer's host.
        host: String,
        /// What stands against it.
        why: &'static str,
    },
    /// The passphrase or key file is not one of this key slot.
    #[error("wrong passphrase or key")]
    WrongKey,
    /// The parameters of a key slot are outside what is accepted.
    #[error("the key slot asks for parameters that are not accepted: {0}")]
    Parameters(String),
    /// A text is not a key: mistyped, cut or of another kind.
    #[error("not a yester key: {0}")]
    NotAKey(String),
    /// The system has no randomness to give, or the cryptographic library failed.
    #[error("the cryptographic library failed: {0}")]
    Library(String),
}

/// Derives a key from the concatenation of `parts` (BLAKE3 key derivation, which keeps contexts apart).
fn derive(context: &str, parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(part);
    }
    Zeroizing::new(*hasher.finalize().as_bytes())
}

/// Draws bytes from the system's random source.
fn random_bytes<const N: usize>() -> Result<Zeroizing<[u8; N]>, CryptoError> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(&mut *bytes).map_err(|error| CryptoError::Library(error.to_string()))?;
    Ok(bytes)
}
