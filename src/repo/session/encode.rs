//! The encoder threads: compress frames, alone or against a stored one, and check what came out.

use crossbeam_channel::{Receiver, Sender};

use super::bases::{self, CHAIN_WRITTEN, Candidate};
use super::grouper::FrameJob;
use super::trail::Step;
use super::{Deltas, RepoError, Shared, lock};
use crate::crypto::hash::ChunkKind;
use crate::crypto::secrets::WriterClass;
use crate::format::FormatError;
use crate::format::frame::{DeltaBase, Encoding, Features, FrameChunk, FrameEncoder};
use crate::similarity::super_features;

/// A delta of at most this part of its plain bytes is kept without a look at what the frame would take alone.
const SMALL_DELTA_DIVISOR: usize = 8;
/// Any other delta is kept if it takes at most this part of what the frame takes alone.
const DELTA_GAIN: usize = 2;

/// Bases that are tried for one frame.
const TRIES_MAX: usize = 3;

/// A frame that is ready to be sealed.
pub(super) struct EncodedFrame {
    /// Its place in the order of the session's frames.
    pub(super) order: u64,
    pub(super) encoding: Encoding,
    pub(super) encoded: Vec<u8>,
    pub(super) features: Option<Features>,
    pub(super) chunks: Vec<FrameChunk>,
}

/// Encodes frames until the queue of jobs closes or the packer ends.
pub(super) fn run(shared: &Shared, jobs: &Receiver<FrameJob>, frames: &Sender<EncodedFrame>) {
    if let Err(error) = encode_all(shared, jobs, frames) {
        shared.fail(error);
    }
}

fn encode_all(
    shared: &Shared,
    jobs: &Receiver<FrameJob>,
    frames: &Sender<EncodedFrame>,
) -> Result<(), RepoError> {
    let mut encoder = FrameEncoder::new(shared.options.level).map_err(encode_error)?;
    for job in jobs {
        let frame = encode(shared, &mut encoder, job)?;
        if frames.send(frame).is_err() {
            // The packer ended first, and has said why.
            break;
        }
    }
    Ok(())
}

fn encode(shared: &Shared, encoder: &mut FrameEncoder, job: FrameJob) -> Result<EncodedFrame, RepoError> {
    let FrameJob { order, step, chunks, plain } = job;
    let step = step.map(|number| Step::begin(&shared.trail, number));
    let features = features_of(shared, &chunks, &plain);
    let best = match (features, step) {
        (Some(features), Some(mut step)) => {
            let candidates = bases::find(shared, &features, plain.len() as u64, &mut step)?;
            // Others wait for the step, and encoding takes long.
            drop(step);
            best_delta(shared, encoder, &plain, &candidates)?
        }
        _ => None,
    };
    let alone = |encoder: &mut FrameEncoder| encoder.encode(&plain).map_err(encode_error);
    let Some(mut delta) = best else {
        let (encoding, encoded) = alone(encoder)?;
        return Ok(EncodedFrame { order, encoding, encoded, features, chunks });
    };
    if delta.encoded.len() > plain.len() / SMALL_DELTA_DIVISOR {
        let (encoding, encoded) = alone(encoder)?;
        if delta.encoded.len() > encoded.len() / DELTA_GAIN {
            return Ok(EncodedFrame { order, encoding, encoded, features, chunks });
        }
        delta.alone_bytes = encoded.len() as u64;
    }
    let mut deltas = lock(&shared.deltas);
    deltas.frames += 1;
    deltas.plain_bytes += plain.len() as u64;
    deltas.stored_bytes += delta.encoded.len() as u64;
    deltas.alone_bytes += delta.alone_bytes;
    let encoding = Encoding::Delta { base: delta.base };
    // Who has features is a base for others, and the last of a chain is none.
    let features = features.filter(|_| delta.chain < CHAIN_WRITTEN);
    Ok(EncodedFrame { order, encoding, encoded: delta.encoded, features, chunks })
}

/// A frame that was encoded against a base.
struct Delta {
    base: DeltaBase,
    encoded: Vec<u8>,
    /// Deltas of its chain, itself included.
    chain: u8,
    /// What the frame would take alone.
    alone_bytes: u64,
}

/// Encodes against one candidate after the other until a delta is small enough for its chain; returns that one, or the
/// smallest of all.
fn best_delta(
    shared: &Shared,
    encoder: &mut FrameEncoder,
    plain: &[u8],
    candidates: &[Candidate],
) -> Result<Option<Delta>, RepoError> {
    let (mut best, mut chain_limit, mut tries): (Option<Delta>, u8, usize) = (None, u8::MAX, 0);
    for candidate in candidates {
        if tries == TRIES_MAX {
            break;
        }
        if candidate.deltas >= chain_limit {
            continue;
        }
        let Some(base) = candidate.read(shared)? else { continue };
        tries += 1;
        let encoded = encoder.encode_delta(plain, &base.plain()).map_err(encode_error)?;
        let alone_bytes = candidate.estimate_alone(plain.len() as u64);
        let delta = Delta { base: base.ids, encoded, chain: candidate.deltas + 1, alone_bytes };
        if delta.encoded.len() <= plain.len() / chain_divisor(delta.chain) {
            return Ok(Some(delta));
        }
        chain_limit = candidate.deltas;
        if best.as_ref().is_none_or(|best| delta.encoded.len() < best.encoded.len()) {
            best = Some(delta);
        }
    }
    Ok(best)
}

/// Returns which part of its plain bytes a delta may take at the end of a chain of so many. A long chain is for small
/// changes: where they add up, the next delta begins further down and is a better base for the nights to come.
fn chain_divisor(chain: u8) -> usize {
    match chain {
        0 | 1 => SMALL_DELTA_DIVISOR,
        2 => 16,
        _ => 64,
    }
}

/// Returns the features of a frame that may become a delta or a base: of data, by a writer that can read. Metadata is
/// read in every walk of a mount, and stays fast to read.
fn features_of(shared: &Shared, chunks: &[FrameChunk], plain: &[u8]) -> Option<Features> {
    let is_data = chunks.iter().all(|chunk| chunk.kind == ChunkKind::Data);
    let can_read = shared.writer.class == WriterClass::Full;
    let is_wanted = shared.options.deltas == Deltas::WherePays && is_data && can_read;
    is_wanted.then(|| super_features(plain).map(Features)).flatten()
}

fn encode_error(source: FormatError) -> RepoError {
    RepoError::Encode { object: "a frame".to_owned(), source }
}
