//! Compression of frames, alone or against a base, and its inverse with every check.

use zstd::zstd_safe::{self, CCtx, CParameter, DCtx, DParameter, SafeResult};

use super::super::FormatError;
use super::{Encoding, FRAME_MAX_BYTES, malformed};
use crate::crypto::seal::TAG_BYTES;

/// Greatest zstd window, as a power of two: it covers the longest base and the longest frame.
pub const WINDOW_LOG_MAX: u32 = 23;
/// Least zstd level of a delta. Below it, zstd finds too little of the base.
pub const DELTA_LEVEL_MIN: i32 = 3;

const WINDOW_LOG_MIN: u32 = 10;
/// Where base and frame together are longer, the tables of low levels no longer cover the base: without
/// long distance matching, a near-copy of 4 MiB took 3 MB at level 3, with it 6 KB in the same time.
const LONG_DELTA_BYTES: usize = 1 << 20;

/// Compresses frames, and checks each result by decoding it. Keep one for each thread: its memory is reused.
pub struct FrameEncoder {
    level: i32,
    context: CCtx<'static>,
    check: FrameDecoder,
    encoded: Vec<u8>,
    /// What the result decodes to.
    decoded: Vec<u8>,
}

impl FrameEncoder {
    /// Prepares to compress at zstd `level`.
    ///
    /// # Errors
    /// Fails if zstd gets no memory.
    pub fn new(level: i32) -> Result<Self, FormatError> {
        let mut context = CCtx::try_create().ok_or_else(out_of_memory)?;
        prepare(&mut context, level)?;
        Ok(Self { level, context, check: FrameDecoder::new()?, encoded: Vec::new(), decoded: Vec::new() })
    }

    /// Compresses `plain` alone; it stays raw where that does not shrink it. The result has room for a seal.
    ///
    /// # Errors
    /// Fails if `plain` is empty or too long, or if the result does not decode to it: then memory is faulty.
    pub fn encode(&mut self, plain: &[u8]) -> Result<(Encoding, Vec<u8>), FormatError> {
        check_plain_length(plain.len())?;
        self.reserve(plain.len());
        let windowed = self.context.set_parameter(CParameter::WindowLog(window_log(plain.len())));
        library(windowed)?;
        library(self.context.compress2(&mut self.encoded, plain))?;
        if self.encoded.len() >= plain.len() {
            return Ok((Encoding::Raw, with_room(plain)));
        }
        self.check(plain, None)?;
        Ok((Encoding::Zstd, with_room(&self.encoded)))
    }

    /// Compresses `plain` against the plain bytes of its base, one frame or two. The result has room for a seal.
    ///
    /// Returns the encoded bytes even where they are longer than `plain`; such a delta must not be stored.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_delta(&mut self, plain: &[u8], base: &[u8]) -> Result<Vec<u8>, FormatError> {
        check_plain_length(plain.len())?;
        check_plain_length(base.len())?;
        self.reserve(plain.len());
        // A context may not outlive its prefix, so that each delta needs one of its own.
        let mut context = CCtx::try_create().ok_or_else(out_of_memory)?;
        prepare(&mut context, self.level.max(DELTA_LEVEL_MIN))?;
        library(context.set_parameter(CParameter::WindowLog(window_log(plain.len() + base.len()))))?;
        let is_long = plain.len() + base.len() > LONG_DELTA_BYTES;
        library(context.set_parameter(CParameter::EnableLongDistanceMatching(is_long)))?;
        library(context.ref_prefix(base))?;
        library(context.compress2(&mut self.encoded, plain))?;
        self.check(plain, Some(base))?;
        Ok(with_room(&self.encoded))
    }

    /// Decodes what was just compressed.
    fn check(&mut self, plain: &[u8], base: Option<&[u8]>) -> Result<(), FormatError> {
        self.decoded.clear();
        match self.check.decode_zstd(&mut self.decoded, &self.encoded, plain.len(), base) {
            Ok(()) if self.decoded == plain => Ok(()),
            _ => Err(malformed(
                "what was just compressed does not decode to the same bytes; this machine may have faulty memory",
            )),
        }
    }

    fn reserve(&mut self, plain_length: usize) {
        self.encoded.clear();
        self.encoded.reserve(zstd_safe::compress_bound(plain_length));
    }
}

/// Decodes frames. Keep one for each thread: its memory is reused.
pub struct FrameDecoder {
    context: DCtx<'static>,
}

impl FrameDecoder {
    /// Prepares to decode.
    ///
    /// # Errors
    /// Fails if zstd gets no memory.
    pub fn new() -> Result<Self, FormatError> {
        let mut context = DCtx::try_create().ok_or_else(out_of_memory)?;
        library(context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)))?;
        Ok(Self { context })
    }

    /// Decodes `encoded` to exactly `plain_length` bytes. `base` must be given exactly for deltas.
    ///
    /// A delta that is given another base than its own may decode to garbage without an error: the caller
    /// re-hashes its chunks.
    ///
    /// # Errors
    /// Refuses anything but one zstd frame of the declared length, and a length above [`FRAME_MAX_BYTES`].
    pub fn decode(
        &mut self,
        encoding: Encoding,
        encoded: &[u8],
        plain_length: usize,
        base: Option<&[u8]>,
    ) -> Result<Vec<u8>, FormatError> {
        let mut plain = Vec::new();
        self.decode_into(&mut plain, encoding, encoded, plain_length, base)?;
        Ok(plain)
    }

    /// Decodes as [`Self::decode`] does, into a buffer, whose content is unspecified after a failure.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn decode_into(
        &mut self,
        plain: &mut Vec<u8>,
        encoding: Encoding,
        encoded: &[u8],
        plain_length: usize,
        base: Option<&[u8]>,
    ) -> Result<(), FormatError> {
        check_plain_length(plain_length)?;
        plain.clear();
        match (encoding, base) {
            (Encoding::Raw, None) if encoded.len() == plain_length => {
                plain.extend_from_slice(encoded);
                Ok(())
            }
            (Encoding::Raw, None) => Err(malformed("its raw bytes have another length than its chunks")),
            (Encoding::Zstd, None) | (Encoding::Delta { .. }, Some(_)) => {
                self.decode_zstd(plain, encoded, plain_length, base)
            }
            (Encoding::Raw | Encoding::Zstd, Some(_)) => Err(malformed("it is no delta but a base is given")),
            (Encoding::Delta { .. }, None) => Err(malformed("it is a delta and its base is missing")),
        }
    }

    /// Decodes into an empty buffer.
    fn decode_zstd(
        &mut self,
        plain: &mut Vec<u8>,
        encoded: &[u8],
        plain_length: usize,
        base: Option<&[u8]>,
    ) -> Result<(), FormatError> {
        check_zstd_frame(encoded, plain_length)?;
        plain.reserve_exact(plain_length);
        match base {
            None => library(self.context.decompress(plain, encoded))?,
            Some(base) if base.starts_with(&zstd_safe::MAGIC_DICTIONARY.to_le_bytes()) => {
                // As a dictionary, this would be taken for more than raw content; and a context may not outlive its
                // prefix, so that it takes one of its own.
                let mut context = Self::new()?.context;
                library(context.ref_prefix(base))?;
                library(context.decompress(plain, encoded))?
            }
            Some(base) => library(self.context.decompress_using_dict(plain, encoded, base))?,
        };
        if plain.len() == plain_length { Ok(()) } else { Err(malformed("it decodes to another length")) }
    }
}

/// Compresses one frame; see [`FrameEncoder::encode`].
///
/// # Errors
/// As [`FrameEncoder::encode`].
pub fn encode(plain: &[u8], level: i32) -> Result<(Encoding, Vec<u8>), FormatError> {
    FrameEncoder::new(level)?.encode(plain)
}

/// Compresses one delta at the least level of deltas; see [`FrameEncoder::encode_delta`].
///
/// # Errors
/// As [`FrameEncoder::encode_delta`].
pub fn encode_delta(plain: &[u8], base: &[u8]) -> Result<Vec<u8>, FormatError> {
    FrameEncoder::new(DELTA_LEVEL_MIN)?.encode_delta(plain, base)
}

/// Decodes one frame; see [`FrameDecoder::decode`].
///
/// # Errors
/// As [`FrameDecoder::decode`].
pub fn decode(
    encoding: Encoding,
    encoded: &[u8],
    plain_length: usize,
    base: Option<&[u8]>,
) -> Result<Vec<u8>, FormatError> {
    FrameDecoder::new()?.decode(encoding, encoded, plain_length, base)
}

fn prepare(context: &mut CCtx<'_>, level: i32) -> Result<(), FormatError> {
    library(context.set_parameter(CParameter::CompressionLevel(level)))?;
    library(context.set_parameter(CParameter::ContentSizeFlag(true)))?;
    // The seal authenticates what is stored, and what is encoded is decoded and compared.
    library(context.set_parameter(CParameter::ChecksumFlag(false)))?;
    Ok(())
}

/// Returns the least window that covers `bytes`, as a power of two.
fn window_log(bytes: usize) -> u32 {
    bytes.next_power_of_two().trailing_zeros().clamp(WINDOW_LOG_MIN, WINDOW_LOG_MAX)
}

fn check_plain_length(length: usize) -> Result<(), FormatError> {
    if (1..=FRAME_MAX_BYTES).contains(&length) {
        return Ok(());
    }
    Err(malformed(format!("it has {length} plain bytes, not 1 to {FRAME_MAX_BYTES}")))
}

/// Checks that `encoded` is exactly one zstd frame that declares `plain_length` and a window within the limit.
fn check_zstd_frame(encoded: &[u8], plain_length: usize) -> Result<(), FormatError> {
    let length = zstd_safe::find_frame_compressed_size(encoded);
    if library(length)? != encoded.len() {
        return Err(malformed("bytes stand behind its zstd frame"));
    }
    let declared = zstd_safe::get_frame_content_size(encoded).ok().flatten();
    if declared != Some(plain_length as u64) {
        return Err(malformed("its zstd frame declares another length"));
    }
    // RFC 8878, 3.1.1.1: a frame descriptor after the magic number, and a window descriptor after that
    // unless the segment is single, whose window is the content. One-shot decoding does not check it.
    let (Some(descriptor), Some(window)) = (encoded.get(4), encoded.get(5)) else {
        return Err(malformed("its zstd frame is cut"));
    };
    let single_segment = descriptor & 0x20 != 0;
    let window_exponent = 10 + u32::from(window >> 3) + u32::from(window & 7 != 0);
    if !single_segment && window_exponent > WINDOW_LOG_MAX {
        return Err(malformed("its zstd window is too large"));
    }
    Ok(())
}

/// Copies `encoded` to a vector that a seal can be appended to without moving it.
fn with_room(encoded: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(encoded.len() + TAG_BYTES);
    bytes.extend_from_slice(encoded);
    bytes
}

fn library(result: SafeResult) -> Result<usize, FormatError> {
    result.map_err(|code| malformed(format!("zstd: {}", zstd_safe::get_error_name(code))))
}

fn out_of_memory() -> FormatError {
    malformed("zstd gets no memory")
}
