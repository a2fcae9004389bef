//! The check of a custom-format archive of pg_dump: collects its head, walks its data, and fills the offsets in.
//!
//! How heads and blocks look is `pg_custom`'s.

use super::inspection::Finding;
use super::pg_custom::{self, BlockWalk, Head, HeadParse, HeadReader};
use super::{Treatment, Verdict};

/// Longest table of contents that is held back.
const HEAD_MAX_BYTES: usize = 64 * 1024 * 1024;

const HEAD_CUT_SHORT: &str = "it is cut short within its table of contents";

/// The check of an archive.
pub(super) struct CustomCheck {
    stage: Stage,
}

enum Stage {
    /// The head has not ended yet.
    Head { bytes: Vec<u8>, reader: HeadReader },
    /// The head is known.
    Data { bytes: Vec<u8>, head: Head, walk: BlockWalk },
    /// No head was made out.
    Settled(Verdict),
}

impl CustomCheck {
    /// Prepares to check an archive.
    pub(super) fn new() -> Self {
        Self { stage: Stage::Head { bytes: Vec::new(), reader: HeadReader::default() } }
    }

    /// Takes the next bytes.
    pub(super) fn feed(&mut self, fed: &[u8]) {
        match &mut self.stage {
            Stage::Head { bytes, .. } => {
                bytes.extend_from_slice(fed);
                self.read_on();
            }
            Stage::Data { walk, .. } => walk.feed(fed),
            Stage::Settled(_) => {}
        }
    }

    /// Tells whether the head is known, or that there is none.
    pub(super) fn is_settled(&self) -> bool {
        !matches!(self.stage, Stage::Head { .. })
    }

    /// Makes do with what has come as the head.
    pub(super) fn settle(&mut self) {
        self.read_on();
        if !self.is_settled() {
            self.stage = Stage::Settled(Verdict::Broken(HEAD_CUT_SHORT.to_owned()));
        }
    }

    /// Returns the length of the head, once it is known.
    pub(super) fn head_length(&self) -> usize {
        if let Stage::Data { head, .. } = &self.stage { head.length } else { 0 }
    }

    /// Returns the head, what was found, and how many offsets were filled in.
    pub(super) fn finish(mut self, treatment: Treatment) -> (Vec<u8>, Finding, u64) {
        self.settle();
        match self.stage {
            Stage::Data { bytes, head, walk } => {
                let compressed = head.compressed;
                let (bytes, verdict, filled) = match filled(&bytes, &head, walk) {
                    Ok((filled, count)) if treatment == Treatment::CheckAndComplete => {
                        (filled, Verdict::Whole, count)
                    }
                    Ok(_) => (bytes, Verdict::Whole, 0),
                    Err(reason) => (bytes, Verdict::Broken(reason), 0),
                };
                (bytes, Finding { compressed, ..verdict.into() }, filled)
            }
            Stage::Settled(verdict) => (Vec::new(), verdict.into(), 0),
            Stage::Head { .. } => (Vec::new(), Verdict::Broken(HEAD_CUT_SHORT.to_owned()).into(), 0),
        }
    }

    fn read_on(&mut self) {
        let Stage::Head { bytes, reader } = &mut self.stage else { return };
        match reader.read(bytes) {
            HeadParse::NeedMore if bytes.len() > HEAD_MAX_BYTES => {
                let reason = "its table of contents is longer than 64 MiB";
                self.stage = Stage::Settled(Verdict::Unchecked(reason.to_owned()));
            }
            HeadParse::NeedMore => {}
            HeadParse::Unknown(reason) => self.stage = Stage::Settled(Verdict::Unchecked(reason)),
            HeadParse::Broken(reason) => self.stage = Stage::Settled(Verdict::Broken(reason)),
            HeadParse::Head(head) => {
                let mut bytes = std::mem::take(bytes);
                let mut walk = BlockWalk::new(&head);
                walk.feed(bytes.get(head.length..).unwrap_or_default());
                bytes.truncate(head.length);
                bytes.shrink_to_fit();
                self.stage = Stage::Data { bytes, head, walk };
            }
        }
    }
}

/// Returns the head with the offsets that the walk found, and how many were missing.
fn filled(bytes: &[u8], head: &Head, walk: BlockWalk) -> Result<(Vec<u8>, u64), String> {
    let offsets = walk.finish()?;
    let mut filled = bytes.to_vec();
    let count = pg_custom::fill_offsets(&mut filled, head, &offsets)?;
    Ok((filled, count))
}
