//! The encoder threads: compress frames and check what came out.

use crossbeam_channel::{Receiver, Sender};

use super::grouper::FrameJob;
use super::{RepoError, Shared};
use crate::format::FormatError;
use crate::format::frame::{Encoding, FrameChunk, FrameEncoder};

/// A frame that is ready to be sealed.
pub(super) struct EncodedFrame {
    pub(super) encoding: Encoding,
    pub(super) encoded: Vec<u8>,
    pub(super) chunks: Vec<FrameChunk>,
}

/// Encodes frames until the queue of jobs closes or the packer ends.
pub(super) fn run(shared: &Shared, jobs: &Receiver<FrameJob>, frames: &Sender<EncodedFrame>) {
    if let Err(source) = encode_all(shared.options.level, jobs, frames) {
        shared.fail(RepoError::Encode { object: "a frame".to_owned(), source });
    }
}

fn encode_all(
    level: i32,
    jobs: &Receiver<FrameJob>,
    frames: &Sender<EncodedFrame>,
) -> Result<(), FormatError> {
    let mut encoder = FrameEncoder::new(level)?;
    for job in jobs {
        let (encoding, encoded) = encoder.encode(&job.plain)?;
        let frame = EncodedFrame { encoding, encoded, chunks: job.chunks };
        if frames.send(frame).is_err() {
            // The packer ended first, and has said why.
            break;
        }
    }
    Ok(())
}
