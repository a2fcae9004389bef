//! The checks of compressed streams: decompresses them in pieces, and looks at what they hold.

use super::inspection::{Check, Depth, Finding, Inspection};
use super::{Treatment, Verdict};
use flate2::{Decompress, FlushDecompress, Status};
use zstd::zstd_safe::{DCtx, InBuffer, OutBuffer};

/// Bytes decompressed at once.
const OUTPUT_BYTES: usize = 128 * 1024;

/// What zstd answers if a frame needs a window of more than 128 MiB: `ZSTD_error_frameParameter_windowTooLarge`.
const ZSTD_WINDOW_TOO_LARGE: usize = 0_usize.wrapping_sub(16);

/// Decompresses a stream in pieces.
pub(super) trait Decode {
    /// What it is called in messages.
    const NAME: &str;

    /// Takes some of `input`, and writes some of what it holds to `output`.
    ///
    /// # Errors
    /// The verdict, if the stream cannot be read on.
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, Verdict>;

    /// Tells whether the stream may end here.
    fn is_at_end(&self) -> bool;
}

/// What a step took and gave.
pub(super) struct Step {
    taken: usize,
    given: usize,
}

/// The check of a compressed stream.
pub(super) struct CompressedCheck<D> {
    decoder: D,
    output: Vec<u8>,
    inner: Inspection,
    failure: Option<Verdict>,
}

impl<D: Decode> CompressedCheck<D> {
    /// Prepares to check a stream.
    pub(super) fn new(decoder: D) -> Self {
        let inner = Inspection::new(Depth::Inner, Treatment::Verbatim);
        Self { decoder, output: vec![0; OUTPUT_BYTES], inner, failure: None }
    }

    fn decode(&mut self, mut input: &[u8]) -> Result<(), Verdict> {
        loop {
            let step = self.decoder.step(input, &mut self.output)?;
            self.inner.feed(self.output.get(..step.given).unwrap_or_default());
            input = input.get(step.taken..).unwrap_or_default();
            // A full buffer may have left something behind.
            if input.is_empty() && step.given < self.output.len() {
                return Ok(());
            }
            if step.taken == 0 && step.given == 0 && !self.decoder.is_at_end() {
                return Err(damaged::<D>());
            }
        }
    }
}

impl<D: Decode> Check for CompressedCheck<D> {
    fn feed(&mut self, bytes: &[u8]) {
        if self.failure.is_none() && !bytes.is_empty() {
            self.failure = self.decode(bytes).err();
        }
    }

    fn finish(self: Box<Self>) -> Finding {
        let holds_nothing = self.inner.bytes() == 0;
        let (_, inner) = self.inner.finish();
        let verdict = match (self.failure, inner.verdict) {
            (Some(failure), _) => failure,
            _ if !self.decoder.is_at_end() => Verdict::Broken(format!("its {} stream is cut short", D::NAME)),
            _ if holds_nothing => Verdict::Broken(format!("its {} stream holds nothing", D::NAME)),
            // Its own end is all that is known of a stream that holds something unknown.
            (None, Verdict::Unchecked(_)) if inner.formats.is_empty() => Verdict::Whole,
            (None, verdict) => verdict,
        };
        Finding { compressed: true, inner: inner.formats, ..verdict.into() }
    }
}

fn damaged<D: Decode>() -> Verdict {
    Verdict::Broken(format!("its {} stream is damaged", D::NAME))
}

/// Decompresses gzip: all members, and zeros behind them. Source: RFC 1952.
pub(super) struct Gzip {
    stage: GzipStage,
}

enum GzipStage {
    /// Before the first member.
    Start,
    /// Within a member.
    Member(Decompress),
    /// Behind a member.
    Between,
    /// Within zeros behind the last member.
    Padding,
}

impl Gzip {
    /// The largest window of the format, as a power of two.
    const WINDOW_LOG: u8 = 15;

    /// Prepares to decompress a stream.
    pub(super) fn new() -> Self {
        Self { stage: GzipStage::Start }
    }
}

impl Decode for Gzip {
    const NAME: &str = "gzip";

    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, Verdict> {
        let Some(first) = input.first().filter(|_| !matches!(self.stage, GzipStage::Member(_))) else {
            return self.inflate(input, output);
        };
        match (&self.stage, first) {
            (GzipStage::Start, _) | (GzipStage::Between, 0x1f) => {
                self.stage = GzipStage::Member(Decompress::new_gzip(Self::WINDOW_LOG));
                self.inflate(input, output)
            }
            _ if input.iter().all(|byte| *byte == 0) => {
                self.stage = GzipStage::Padding;
                Ok(Step { taken: input.len(), given: 0 })
            }
            _ => Err(Verdict::Broken("something else follows its gzip stream".to_owned())),
        }
    }

    fn is_at_end(&self) -> bool {
        matches!(self.stage, GzipStage::Between | GzipStage::Padding)
    }
}

impl Gzip {
    /// Decompresses more of a member; nothing outside of one.
    fn inflate(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, Verdict> {
        let GzipStage::Member(member) = &mut self.stage else { return Ok(Step { taken: 0, given: 0 }) };
        let (taken, given) = (member.total_in(), member.total_out());
        let status =
            member.decompress(input, output, FlushDecompress::None).map_err(|_| damaged::<Self>())?;
        let step = Step {
            taken: usize::try_from(member.total_in() - taken).unwrap_or(input.len()),
            given: usize::try_from(member.total_out() - given).unwrap_or(output.len()),
        };
        if status == Status::StreamEnd {
            self.stage = GzipStage::Between;
        }
        Ok(step)
    }
}

/// Decompresses zstd: all frames, and those to be skipped. Source: RFC 8878.
pub(super) struct Zstd {
    /// Nothing if there is no memory for it.
    context: Option<DCtx<'static>>,
    at_end: bool,
}

impl Zstd {
    /// Prepares to decompress a stream.
    pub(super) fn new() -> Self {
        Self { context: DCtx::try_create(), at_end: false }
    }
}

impl Decode for Zstd {
    const NAME: &str = "zstd";

    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, Verdict> {
        let Some(context) = &mut self.context else {
            return Err(Verdict::Unchecked("there is no memory to decompress it".to_owned()));
        };
        // Between frames, a step without input would ask for the next one.
        if input.is_empty() && self.at_end {
            return Ok(Step { taken: 0, given: 0 });
        }
        let (mut input, mut output) = (InBuffer::around(input), OutBuffer::around(output));
        match context.decompress_stream(&mut output, &mut input) {
            Ok(expected) => self.at_end = expected == 0,
            Err(ZSTD_WINDOW_TOO_LARGE) => {
                let reason = "its zstd window is larger than the 128 MiB that are decompressed with";
                return Err(Verdict::Unchecked(reason.to_owned()));
            }
            Err(_) => return Err(damaged::<Self>()),
        }
        Ok(Step { taken: input.pos(), given: output.pos() })
    }

    fn is_at_end(&self) -> bool {
        self.at_end
    }
}
