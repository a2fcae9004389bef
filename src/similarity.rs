//! Similarity: super-features, by which a frame finds a stored one that it resembles.
//!
//! ```text
//! every byte ──► gear hash ──► 1 in 128 is a sample ──► 12 linear transforms ──► 12 maxima ──► 3 hashes of 4 each
//! ```
//! What they are is part of the store's format, since directories carry them; how they are looked up is the
//! index's, and what is done with a frame that was found the session's. Source of the method: P. Shilane et al.,
//! "WAN Optimized Replication of Backup Datasets Using Stream-Informed Delta Compression", FAST 2012.

#[cfg(test)]
mod tests;

use std::hint::cold_path;
use std::sync::LazyLock;

/// Frames below this have no features: a delta saves too little of them.
pub const SIMILARITY_MIN_BYTES: usize = 4 << 10;

/// What all constants come from.
const LABEL: &[u8] = b"yester 1 similarity";
const SUPER_FEATURES: usize = 3;
/// Features that make one super-feature.
const GROUP: usize = 4;
/// A hash below this is a sample: its 7 topmost bits are zero.
const SAMPLE_LIMIT: u64 = 1 << 57;
/// How many bytes before its own a hash depends on: what is shifted farther is gone. The first bytes of a frame have
/// fewer before them, and no hash.
const REACH: usize = 63;
/// Parts of a frame that are hashed side by side, since each hash has to wait for the one before it.
const LANES: usize = 4;
/// Bytes that are hashed between two rounds of transforms: bounds the memory for samples.
const ROUND_BYTES: usize = 64 << 10;

/// What each value of a byte adds to the hash.
type Gear = [u64; 256];

/// A sample x becomes x · factor + addend, modulo 2^64.
#[derive(Debug, Clone, Copy)]
struct Transform {
    factor: u64,
    addend: u64,
}

type Transforms = [[Transform; GROUP]; SUPER_FEATURES];
type Features = [[u64; GROUP]; SUPER_FEATURES];

struct Constants {
    gear: Gear,
    transforms: Transforms,
}

static CONSTANTS: LazyLock<Constants> = LazyLock::new(|| {
    let mut output = blake3::Hasher::new().update(LABEL).finalize_xof();
    let mut next = || {
        let mut bytes = [0; 8];
        output.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    };
    let gear = std::array::from_fn(|_| next());
    let mut group = || std::array::from_fn(|_| Transform { factor: next() | 1, addend: next() });
    Constants { gear, transforms: std::array::from_fn(|_| group()) }
});

/// Computes the three super-features of the plain bytes of a frame; nothing for one that is shorter than
/// [`SIMILARITY_MIN_BYTES`], or so uniform that it has no sample.
///
/// Two frames resemble each other if any of the three is equal, and the more so the more are.
#[must_use]
pub fn super_features(plain: &[u8]) -> Option<[u64; 3]> {
    if plain.len() < SIMILARITY_MIN_BYTES {
        return None;
    }
    let Constants { gear, transforms } = &*CONSTANTS;
    let mut features = None;
    let mut samples = Vec::with_capacity(ROUND_BYTES / 16);
    for start in (0..plain.len() - REACH).step_by(ROUND_BYTES) {
        let end = plain.len().min(start + REACH + ROUND_BYTES);
        sample(gear, &plain[start..end], &mut samples);
        raise(&mut features, transforms, &samples);
        samples.clear();
    }
    features.map(|features| features.map(mix))
}

/// Hashes all but the first [`REACH`] bytes of `bytes`, and collects the samples.
// By itself, its loop fits the registers: inlined, it takes a third longer.
#[inline(never)]
fn sample(gear: &Gear, bytes: &[u8], samples: &mut Vec<u64>) {
    let part = (bytes.len() - REACH) / LANES;
    let starts = [0, 1, 2, 3].map(|lane| REACH + lane * part);
    let [first, second, third, fourth] = starts.map(|start| &bytes[start..][..part]);
    let [mut a, mut b, mut c, mut d] = starts.map(|start| hash_before(gear, bytes, start));
    for (((&e, &f), &g), &h) in first.iter().zip(second).zip(third).zip(fourth) {
        a = roll(gear, a, e);
        keep(samples, a);
        b = roll(gear, b, f);
        keep(samples, b);
        c = roll(gear, c, g);
        keep(samples, c);
        d = roll(gear, d, h);
        keep(samples, d);
    }
    // The parts are equal; up to three bytes are left behind them.
    for &byte in &bytes[REACH + LANES * part..] {
        d = roll(gear, d, byte);
        keep(samples, d);
    }
}

/// Returns what a hash at `position`, at least [`REACH`], takes over from the bytes before.
fn hash_before(gear: &Gear, bytes: &[u8], position: usize) -> u64 {
    bytes[position - REACH..position].iter().fold(0, |hash, byte| roll(gear, hash, *byte))
}

/// Moves the hash on by one byte.
fn roll(gear: &Gear, hash: u64, byte: u8) -> u64 {
    (hash << 1).wrapping_add(gear[usize::from(byte)])
}

/// Collects the hash if it is a sample.
fn keep(samples: &mut Vec<u64>, hash: u64) {
    if hash < SAMPLE_LIMIT {
        // Laid out of the way, so that the usual path runs straight on: a fifth faster.
        cold_path();
        samples.push(hash);
    }
}

/// Raises each feature to the greatest value that its transform makes of a sample.
fn raise(features: &mut Option<Features>, transforms: &Transforms, samples: &[u64]) {
    if samples.is_empty() {
        return;
    }
    let features = features.get_or_insert_default();
    for (feature, transform) in features.as_flattened_mut().iter_mut().zip(transforms.as_flattened()) {
        let Transform { factor, addend } = *transform;
        let values = samples.iter().map(|sample| sample.wrapping_mul(factor).wrapping_add(addend));
        *feature = values.fold(*feature, u64::max);
    }
}

/// Makes one super-feature of its features.
fn mix(features: [u64; GROUP]) -> u64 {
    let mut bytes = [0; 8];
    let input = features.map(u64::to_le_bytes);
    blake3::Hasher::new().update(input.as_flattened()).finalize_xof().fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
