//! The encoder threads: compress frames, alone or against a stored one, and check what came out.

use crossbeam_channel::{Receiver, Sender};

use super::bases::{self, Ladder};
use super::grouper::{FrameJob, FrameWork};
use super::trail::Step;
use super::{Deltas, RepoError, Shared, lock};
use crate::crypto::hash::ChunkKind;
use crate::crypto::secrets::WriterClass;
use crate::format::FormatError;
use crate::format::frame::{DeltaBase, Encoding, Features, FrameChunk, FrameEncoder};
use crate::similarity::super_features;

/// Bases that are tried for one frame.
const TRIES_MAX: usize = 4;

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
    let _ends_the_session = FailOnPanic(shared);
    if let Err(error) = encode_all(shared, jobs, frames) {
        shared.fail(error);
    }
}

/// Ends the session where an encoder panics: the others would wait for its frame.
struct FailOnPanic<'a>(&'a Shared);

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(RepoError::SessionFailed);
        }
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
    let FrameJob { order, step, chunks, work } = job;
    let plain = match work {
        FrameWork::Encode(plain) => plain,
        FrameWork::Copy { encoding, features, encoded } => {
            return Ok(EncodedFrame { order, encoding, encoded, features, chunks });
        }
    };
    let step = step.map(|number| Step::begin(&shared.trail, number));
    let features = features_of(shared, &chunks, &plain);
    let delta = match (features, step) {
        (Some(features), Some(mut step)) => {
            let mut ladders = bases::find(shared, &features, plain.len() as u64, &mut step)?;
            // Others wait for the step, and encoding takes long.
            drop(step);
            if !ladders.is_empty() && is_stored(shared, &chunks)? {
                ladders.clear();
            }
            delta(shared, encoder, &plain, &ladders)?
        }
        _ => None,
    };
    let (encoding, encoded) = match delta {
        Some((base, encoded)) => (Encoding::Delta { base }, encoded),
        None => encoder.encode(&plain).map_err(encode_error)?,
    };
    Ok(EncodedFrame { order, encoding, encoded, features, chunks })
}

/// Tells whether another session stored the same frame meanwhile: a delta to it, or to what stands on it, would stand on
/// itself.
fn is_stored(shared: &Shared, chunks: &[FrameChunk]) -> Result<bool, RepoError> {
    let id = shared.keys.ids().frame_id(chunks.iter().map(|chunk| (chunk.id, chunk.length)));
    Ok(!shared.index.frames_by_id(&id)?.is_empty())
}

/// Encodes against one base after the other until a delta is small enough for its chain.
fn delta(
    shared: &Shared,
    encoder: &mut FrameEncoder,
    plain: &[u8],
    ladders: &[Ladder],
) -> Result<Option<(DeltaBase, Vec<u8>)>, RepoError> {
    let plain_bytes = plain.len() as u64;
    let mut tries = 0;
    for ladder in ladders {
        // A base further down resembles the frame less.
        let mut least_bytes = 1;
        for candidate in ladder {
            let max_bytes = candidate.delta_bytes_max(plain_bytes);
            if max_bytes < least_bytes {
                continue;
            }
            if tries == TRIES_MAX {
                return Ok(None);
            }
            let Some(base) = candidate.read(shared)? else { continue };
            tries += 1;
            let encoded = encoder.encode_delta(plain, &base.plain()).map_err(encode_error)?;
            least_bytes = encoded.len() as u64;
            if least_bytes <= max_bytes {
                let mut deltas = lock(&shared.deltas);
                deltas.frames += 1;
                deltas.plain_bytes += plain_bytes;
                deltas.stored_bytes += least_bytes;
                deltas.alone_bytes += candidate.estimate_alone(plain_bytes);
                return Ok(Some((base.ids, encoded)));
            }
        }
    }
    Ok(None)
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
