//! Cuts a stream into content-defined chunks (FastCDC, 2020 variant, seeded per domain).
//!
//! Where chunks end depends on the bytes, the parameters and the seed alone, never on how the bytes were read. Cut
//! points are frozen: another cut would store everything again. The algorithm: W. Xia et al., "The Design of Fast
//! Content-Defined Chunking for Data Deduplication Based Storage Systems", IEEE TPDS 2020.

use std::borrow::Cow;
use std::io::{self, Read};
use std::sync::Arc;

use fastcdc::v2020::{Normalization, cut_gear, get_gear_with_seed, select_masks};

/// Least size that a chunk parameter may have.
pub const CHUNK_MIN_BYTES: u32 = 64;
/// Largest chunk that any parameters may ask for: one that fills a frame.
pub const CHUNK_MAX_BYTES: u32 = 4 << 20;

/// What the first read of a file asks for; most files are smaller.
const FIRST_READ_BYTES: usize = 64 << 10;

/// Sizes of the chunks of a store, in bytes. All even, minimum < average < maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkerParams {
    /// No chunk but the last of a file is smaller.
    pub min_bytes: u32,
    /// What the cut rule aims at.
    pub average_bytes: u32,
    /// No chunk is larger.
    pub max_bytes: u32,
}

impl ChunkerParams {
    /// 64 KiB, 256 KiB, 1 MiB.
    pub const DEFAULT: Self = Self { min_bytes: 64 << 10, average_bytes: 256 << 10, max_bytes: 1 << 20 };

    /// Tells why these are no parameters: an odd size, one out of range, or a wrong order.
    ///
    /// # Errors
    /// [`ChunkerError::Params`].
    pub fn check(self) -> Result<(), ChunkerError> {
        let sizes = [self.min_bytes, self.average_bytes, self.max_bytes];
        let even = sizes.iter().all(|size| size.is_multiple_of(2));
        let ordered = CHUNK_MIN_BYTES <= self.min_bytes
            && self.min_bytes < self.average_bytes
            && self.average_bytes < self.max_bytes
            && self.max_bytes <= CHUNK_MAX_BYTES;
        if even && ordered { Ok(()) } else { Err(ChunkerError::Params(sizes)) }
    }
}

/// Why nothing can be cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkerError {
    /// Minimum, average and maximum size break the rules of [`ChunkerParams`].
    #[error(
        "chunk sizes {}, {} and {} bytes are not even, rising, and between {CHUNK_MIN_BYTES} and {CHUNK_MAX_BYTES}",
        .0[0], .0[1], .0[2]
    )]
    Params([u32; 3]),
}

/// The parameters and seeded tables of a domain's chunker: made once, shared by all files.
#[derive(Debug)]
pub struct ChunkerSetup {
    min_bytes: usize,
    average_bytes: usize,
    max_bytes: usize,
    mask_small: u64,
    mask_large: u64,
    gear: Cow<'static, [u64]>,
    gear_shifted: Cow<'static, [u64]>,
}

impl ChunkerSetup {
    /// Makes the tables for `seed`.
    ///
    /// # Errors
    /// Refuses parameters that break their rules.
    pub fn new(params: ChunkerParams, seed: u64) -> Result<Self, ChunkerError> {
        params.check()?;
        let average_bytes = params.average_bytes as usize;
        let (mask_small, mask_large) = select_masks(average_bytes, Normalization::Level1);
        let (gear, gear_shifted) = get_gear_with_seed(seed);
        Ok(Self {
            min_bytes: params.min_bytes as usize,
            average_bytes,
            max_bytes: params.max_bytes as usize,
            mask_small,
            mask_large,
            gear,
            gear_shifted,
        })
    }

    /// Cuts a whole file that lies in memory, without copying: the same chunks that [`Chunker`] makes of it.
    #[cfg(test)]
    fn split<'a>(&'a self, mut whole: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        std::iter::from_fn(move || {
            let (chunk, rest) = whole.split_at_checked(self.cut(whole))?;
            whole = rest;
            (!chunk.is_empty()).then_some(chunk)
        })
    }

    /// Returns the length of the first chunk of `ahead`: all that is left of a file, or at least the maximum of it.
    fn cut(&self, ahead: &[u8]) -> usize {
        let (_, length) = cut_gear(
            ahead,
            self.min_bytes,
            self.average_bytes,
            self.max_bytes,
            self.mask_small,
            self.mask_large,
            self.mask_small << 1,
            self.mask_large << 1,
            &self.gear,
            &self.gear_shifted,
        );
        length
    }
}

/// Cuts what a reader yields into chunks.
pub struct Chunker<R> {
    reader: R,
    setup: Arc<ChunkerSetup>,
    /// What was read and not yet returned begins at `start`.
    buffer: Vec<u8>,
    start: usize,
    at_end: bool,
}

impl<R: Read> Chunker<R> {
    /// Starts at the reader's position.
    pub fn new(reader: R, setup: Arc<ChunkerSetup>) -> Self {
        Self { reader, setup, buffer: Vec::new(), start: 0, at_end: false }
    }

    /// Returns the next chunk, or nothing at the end.
    ///
    /// # Errors
    /// Those of the reader; an interrupted read is repeated.
    pub fn next_chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.fill()?;
        let ahead = self.buffer.get(self.start..).unwrap_or_default();
        let length = self.setup.cut(ahead);
        let chunk = match ahead.get(..length) {
            None | Some([]) => return Ok(None),
            Some(_) if self.at_end && self.start == 0 && length == self.buffer.len() => {
                let mut whole = std::mem::take(&mut self.buffer);
                whole.shrink_to_fit();
                return Ok(Some(whole));
            }
            Some(chunk) => chunk.to_vec(),
        };
        self.start += length;
        Ok(Some(chunk))
    }

    /// Tells whether the chunk that was returned last is known to be the last one.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.at_end && self.start == self.buffer.len()
    }

    /// Reads until the buffer holds a largest chunk, or all that is left.
    fn fill(&mut self) -> io::Result<()> {
        let max_bytes = self.setup.max_bytes;
        if self.at_end || self.buffer.len() - self.start >= max_bytes {
            return Ok(());
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.reserve(FIRST_READ_BYTES.min(max_bytes));
        // Twice the maximum, so that what lies ahead is moved to the front once in several chunks only.
        let wanted = 2 * max_bytes - self.buffer.len();
        let read = self.reader.by_ref().take(wanted as u64).read_to_end(&mut self.buffer)?;
        self.at_end = read < wanted;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use fastcdc::v2020::FastCDC;
    use proptest::prelude::*;

    use super::*;

    const SEED: u64 = 0x0123_4567_89ab_cdef;
    const SMALL: ChunkerParams = ChunkerParams { min_bytes: 64, average_bytes: 256, max_bytes: 1024 };

    fn setup(params: ChunkerParams) -> Arc<ChunkerSetup> {
        Arc::new(ChunkerSetup::new(params, SEED).unwrap())
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(b"chunker").finalize_xof().fill(&mut bytes);
        bytes
    }

    fn chunks<R: Read>(reader: R, params: ChunkerParams) -> Vec<Vec<u8>> {
        let mut chunker = Chunker::new(reader, setup(params));
        std::iter::from_fn(|| chunker.next_chunk().unwrap()).collect()
    }

    fn lengths(chunks: &[Vec<u8>]) -> Vec<usize> {
        chunks.iter().map(Vec::len).collect()
    }

    /// Yields a few bytes a read, and is interrupted now and then.
    struct ShortReads<'a> {
        bytes: &'a [u8],
        lengths: std::iter::Cycle<std::slice::Iter<'a, usize>>,
    }

    impl Read for ShortReads<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match *self.lengths.next().unwrap() {
                0 => Err(io::ErrorKind::Interrupted.into()),
                length => {
                    let length = length.min(buffer.len());
                    self.bytes.read(&mut buffer[..length])
                }
            }
        }
    }

    #[test]
    fn cut_points_are_frozen() {
        let found = lengths(&chunks(&noise(8 << 20)[..], ChunkerParams::DEFAULT));
        let expected = [
            286983, 396105, 280716, 366919, 641093, 339783, 495698, 423859, 306236, 318301, 459577, 417440,
            278312, 384674, 74589, 303654, 331314, 498847, 393974, 274473, 264351, 66179, 572804, 212727,
        ];
        assert_eq!(found, expected);
        assert_eq!(found.iter().sum::<usize>(), 8 << 20);
    }

    #[test]
    fn chunks_are_those_of_the_library() {
        let bytes = noise((4 << 20) + 1);
        let ChunkerParams { min_bytes, average_bytes, max_bytes } = ChunkerParams::DEFAULT;
        let [min, average, max] = [min_bytes, average_bytes, max_bytes].map(|size| size as usize);
        let expected: Vec<_> =
            FastCDC::with_level_and_seed(&bytes, min, average, max, Normalization::Level1, SEED)
                .map(|chunk| chunk.length)
                .collect();
        assert_eq!(lengths(&chunks(&bytes[..], ChunkerParams::DEFAULT)), expected);
    }

    #[test]
    fn another_seed_cuts_elsewhere() {
        let bytes = noise(1 << 20);
        let cuts = |seed| {
            let setup = ChunkerSetup::new(SMALL, seed).unwrap();
            setup.split(&bytes).map(<[u8]>::len).collect::<Vec<_>>()
        };
        assert_ne!(cuts(1), cuts(2));
    }

    #[test]
    fn cuts_return_to_their_places_after_an_insertion() {
        let bytes = noise(1 << 16);
        let shifted = [b"new", &bytes[..]].concat();
        let (before, after) = (chunks(&bytes[..], SMALL), chunks(&shifted[..], SMALL));
        let shared = before.iter().filter(|chunk| after.contains(chunk)).count();
        assert!(shared + 5 > before.len(), "{shared} of {}", before.len());
    }

    #[test]
    fn a_short_file_is_one_chunk_and_an_empty_one_has_none() {
        assert_eq!(chunks(io::empty(), SMALL), Vec::<Vec<u8>>::new());
        for length in [1, 63, 64] {
            let bytes = noise(length);
            assert_eq!(chunks(&bytes[..], SMALL), [&bytes[..]]);
            assert_eq!(setup(SMALL).split(&bytes).collect::<Vec<_>>(), [&bytes[..]]);
        }
    }

    #[test]
    fn bytes_without_a_cut_make_chunks_of_the_maximum() {
        assert_eq!(lengths(&chunks(&[0; 2500][..], SMALL)), [1024, 1024, 452]);
    }

    #[test]
    fn a_failed_read_is_reported_and_loses_nothing() {
        struct Failing(u32);
        impl Read for Failing {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                match self.0 {
                    1 => {
                        buffer[..3].copy_from_slice(b"abc");
                        Ok(3)
                    }
                    2 => Err(io::Error::other("gone")),
                    _ => Ok(0),
                }
            }
        }
        let mut chunker = Chunker::new(Failing(0), setup(SMALL));
        assert_eq!(chunker.next_chunk().unwrap_err().to_string(), "gone");
        assert_eq!(chunker.next_chunk().unwrap(), Some(b"abc".to_vec()));
        assert_eq!(chunker.next_chunk().unwrap(), None);
    }

    #[test]
    fn bad_parameters_are_refused() {
        let of = |min_bytes, average_bytes, max_bytes| ChunkerParams { min_bytes, average_bytes, max_bytes };
        for params in [
            of(62, 256, 1024),
            of(65, 256, 1024),
            of(64, 255, 1024),
            of(64, 256, 1023),
            of(256, 256, 1024),
            of(64, 1024, 1024),
            of(64, 256, (4 << 20) + 2),
            of(0, 0, 0),
        ] {
            assert!(ChunkerSetup::new(params, SEED).is_err(), "{params:?}");
        }
        for params in [ChunkerParams::DEFAULT, SMALL, of(64, 66, 68), of(64, (4 << 20) - 2, 4 << 20)] {
            assert!(ChunkerSetup::new(params, SEED).is_ok(), "{params:?}");
        }
    }

    proptest! {
        #[test]
        fn how_bytes_are_read_does_not_matter(
            length in 0_usize..8000,
            reads in prop::collection::vec(0_usize..700, 1..20),
            zeros in 0_usize..8000,
        ) {
            let mut bytes = noise(length);
            let zeros = zeros.min(length);
            bytes[..zeros].fill(0);
            let expected = chunks(&bytes[..], SMALL);
            let lengths = [&reads[..], &[1]].concat();
            let short = ShortReads { bytes: &bytes, lengths: lengths.iter().cycle() };
            prop_assert_eq!(&chunks(short, SMALL), &expected);
            let setup = setup(SMALL);
            prop_assert!(setup.split(&bytes).eq(expected.iter().map(Vec::as_slice)));
            prop_assert_eq!(expected.concat(), bytes);
            for (position, chunk) in expected.iter().enumerate() {
                prop_assert!(chunk.len() <= 1024 && (chunk.len() >= 64 || position + 1 == expected.len()));
            }
        }
    }
}
