//! The encoder threads: compress frames, alone or against a stored one, and check what came out.

use crossbeam_channel::{Receiver, Sender};

use super::bases::{self, Base};
use super::grouper::FrameJob;
use super::{Deltas, RepoError, Shared, lock};
use crate::crypto::hash::ChunkKind;
use crate::crypto::secrets::WriterClass;
use crate::format::FormatError;
use crate::format::frame::{Encoding, Features, FrameChunk, FrameEncoder};
use crate::similarity::super_features;

/// A delta of at most this part of its plain bytes is kept without a look at what the frame would take alone.
const SMALL_DELTA_DIVISOR: usize = 8;
/// Any other delta is kept if it takes at most this part of what the frame takes alone.
const DELTA_GAIN: usize = 2;

/// A frame that is ready to be sealed.
pub(super) struct EncodedFrame {
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
    let FrameJob { chunks, plain } = job;
    let features = features_of(shared, &chunks, &plain);
    if let Some(features) = &features
        && let Some(base) = bases::find(shared, features)?
    {
        return encode_with_base(shared, encoder, chunks, &plain, *features, &base);
    }
    let (encoding, encoded) = encoder.encode(&plain).map_err(encode_error)?;
    Ok(EncodedFrame { encoding, encoded, features, chunks })
}

/// Encodes against the base, and alone too unless the delta is small; keeps what pays.
fn encode_with_base(
    shared: &Shared,
    encoder: &mut FrameEncoder,
    chunks: Vec<FrameChunk>,
    plain: &[u8],
    features: Features,
    base: &Base,
) -> Result<EncodedFrame, RepoError> {
    let delta = encoder.encode_delta(plain, base.frame.plain()).map_err(encode_error)?;
    let mut alone_bytes = base.estimate_alone(plain.len() as u64);
    if delta.len() > plain.len() / SMALL_DELTA_DIVISOR {
        let (encoding, encoded) = encoder.encode(plain).map_err(encode_error)?;
        if delta.len() > encoded.len() / DELTA_GAIN {
            return Ok(EncodedFrame { encoding, encoded, features: Some(features), chunks });
        }
        alone_bytes = encoded.len() as u64;
    }
    let mut deltas = lock(&shared.deltas);
    deltas.frames += 1;
    deltas.plain_bytes += plain.len() as u64;
    deltas.stored_bytes += delta.len() as u64;
    deltas.alone_bytes += alone_bytes;
    let encoding = Encoding::Delta { base: base.id };
    Ok(EncodedFrame { encoding, encoded: delta, features: None, chunks })
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
