//! Packs: header ‖ frames ‖ sealed directory ‖ trailer. The transfer unit.
//!
//! ```text
//! header            see `header`
//! frame 0 … n-1     sealed, back to back
//! directory         CBOR, sealed (Part::Directory, number 0, aad = header hash)
//! trailer           16 bytes: directory length (u64 le) ‖ magic 'YSTRPACK'; a locator only
//! ```
//! What one frame is and how it is sealed is `frame`'s.

use super::FormatError;
use super::cbor::{self, CborReader};
use super::frame::{FRAME_MAX_BYTES, FrameEntry};
use super::header::{Header, HeaderHash, ObjectKind, crypto};
use crate::crypto::hash::ChunkKind;
use crate::crypto::seal::{Part, SealKey, TAG_BYTES};
use crate::crypto::secrets::DomainKeys;

/// A pack takes no further frame once it is this long.
pub const PACK_TARGET_BYTES: u64 = 64 << 20;
/// Most frames of a pack.
pub const PACK_MAX_FRAMES: usize = 65_536;
/// Most bytes of a sealed directory.
pub const DIRECTORY_MAX_BYTES: usize = 16 << 20;
/// Length of the trailer.
pub const TRAILER_BYTES: usize = 16;
/// Most bytes of a whole pack: the target, the frame that passed it, and what stands around them.
pub const PACK_MAX_BYTES: u64 = PACK_TARGET_BYTES
    + (Header::MAX_BYTES + FRAME_MAX_BYTES + TAG_BYTES + DIRECTORY_MAX_BYTES + TRAILER_BYTES) as u64;

/// The last bytes of every pack.
pub const PACK_MAGIC: &[u8; 8] = b"YSTRPACK";

/// The directory of a pack: its frames in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directory {
    /// The frames, in the order in which they lie.
    pub frames: Vec<FrameEntry>,
}

impl Directory {
    /// Encodes as CBOR.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        cbor::encode(|writer| {
            writer.array(1)?;
            cbor::write_list(writer, &self.frames, |writer, frame| frame.write(writer))
        })
    }

    /// Decodes and checks every rule: caps, non-empty frames, sums, kinds.
    ///
    /// # Errors
    /// Refuses what breaks a rule of directories.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes.len() + TAG_BYTES > DIRECTORY_MAX_BYTES {
            return Err(FormatError::malformed("pack directory", "it is too long"));
        }
        let mut reader = CborReader::new("pack directory", bytes)?;
        reader.record(1, |reader| {
            let frames = reader.list(0, PACK_MAX_FRAMES, FrameEntry::read)?;
            Ok(Self { frames })
        })
    }

    /// Returns the bytes that the frames take in the pack.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.frames.iter().map(|frame| u64::from(frame.stored_length)).sum()
    }

    /// Checks that a pack of this kind may hold these chunks: data apart from metadata.
    pub(super) fn check_kind(&self, kind: ObjectKind) -> Result<(), FormatError> {
        let is_data = |kind| matches!(kind, ChunkKind::Data);
        let belongs = |chunk_kind| match kind {
            ObjectKind::DataPack => is_data(chunk_kind),
            ObjectKind::TreePack => !is_data(chunk_kind),
            _ => false,
        };
        if self.frames.iter().flat_map(|frame| &frame.chunks).all(|chunk| belongs(chunk.kind)) {
            return Ok(());
        }
        Err(FormatError::malformed("pack directory", "a chunk lies in a pack of another kind"))
    }
}

/// Seals a directory and appends the trailer: what ends a pack.
///
/// # Errors
/// Refuses a directory that readers would refuse for its length or number of frames.
pub fn seal_directory(
    key: &SealKey,
    header: &HeaderHash,
    directory: &Directory,
) -> Result<Vec<u8>, FormatError> {
    let mut bytes = directory.encode();
    if directory.frames.len() > PACK_MAX_FRAMES || bytes.len() + TAG_BYTES > DIRECTORY_MAX_BYTES {
        return Err(FormatError::malformed("pack directory", "it is too long"));
    }
    key.seal(Part::Directory, 0, &header.0, &mut bytes).map_err(|source| crypto("pack directory", source))?;
    append_trailer(&mut bytes, PACK_MAGIC);
    Ok(bytes)
}

/// Reads a whole pack's layout: header and directory. The caller has checked the PackId of `bytes` before.
///
/// # Errors
/// Refuses what is no pack, was altered, or is longer or shorter than its directory says.
pub fn open_pack(keys: &DomainKeys, bytes: &[u8]) -> Result<OpenedPack, FormatError> {
    open_parts(keys, bytes, bytes, bytes.len() as u64)
}

/// Reads the layout of a pack of `length` bytes from its beginning, which must hold the header, and its end, which
/// must hold the directory. The two may overlap.
///
/// # Errors
/// As [`open_pack`].
pub fn open_parts(
    keys: &DomainKeys,
    beginning: &[u8],
    end: &[u8],
    length: u64,
) -> Result<OpenedPack, FormatError> {
    let (header, header_hash, header_bytes) = Header::decode(beginning)?;
    if !matches!(header.kind, ObjectKind::DataPack | ObjectKind::TreePack) {
        return Err(FormatError::malformed("pack", "it is an object of another kind"));
    }
    let key = header.open(header.kind, keys)?;
    let (before, sealed) = split_trailer("pack", end, PACK_MAGIC, DIRECTORY_MAX_BYTES)?;
    let mut sealed = sealed.to_vec();
    let opened = key
        .open(Part::Directory, 0, &header_hash.0, &mut sealed)
        .map_err(|source| crypto("pack directory", source))?;
    let directory = Directory::decode(opened)?;
    directory.check_kind(header.kind)?;
    let behind_frames = (end.len() - before.len()) as u64;
    let parts = [header_bytes as u64, directory.stored_bytes(), behind_frames];
    if parts.iter().try_fold(0_u64, |sum, part| sum.checked_add(*part)) != Some(length) {
        return Err(FormatError::malformed("pack", "its length is not that of its frames"));
    }
    Ok(OpenedPack { header, header_hash, header_bytes, key, directory })
}

/// What [`open_pack`] found.
pub struct OpenedPack {
    /// The header.
    pub header: Header,
    /// Its hash.
    pub header_hash: HeaderHash,
    /// Length of the header: where frame 0 begins.
    pub header_bytes: usize,
    /// The pack's key.
    pub key: SealKey,
    /// The directory, checked to fit the pack's length exactly.
    pub directory: Directory,
}

/// Appends the trailer that locates the last sealed part of an object: all of `part`.
pub(super) fn append_trailer(part: &mut Vec<u8>, magic: &[u8; 8]) {
    let length = part.len() as u64;
    part.extend_from_slice(&length.to_le_bytes());
    part.extend_from_slice(magic);
}

/// Splits an object into what stands before its last sealed part, and that part; its trailer says how long it is.
pub(super) fn split_trailer<'a>(
    what: &'static str,
    bytes: &'a [u8],
    magic: &[u8; 8],
    maximum: usize,
) -> Result<(&'a [u8], &'a [u8]), FormatError> {
    let malformed = |why| FormatError::malformed(what, why);
    let (rest, found) = bytes.split_last_chunk::<8>().ok_or_else(|| malformed("it is cut"))?;
    if found != magic {
        return Err(malformed("its trailer is missing"));
    }
    let (rest, length) = rest.split_last_chunk::<8>().ok_or_else(|| malformed("it is cut"))?;
    usize::try_from(u64::from_le_bytes(*length))
        .ok()
        .filter(|length| *length <= maximum)
        .and_then(|length| rest.len().checked_sub(length))
        .and_then(|start| rest.split_at_checked(start))
        .ok_or_else(|| malformed("its trailer declares a wrong length"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::frame::{self, Encoding, FrameChunk};
    use super::super::vectors::{
        PlainFrame, build_pack, data_frames, encrypted_keys, public_keys, tree_frames, writer,
    };
    use super::*;
    use crate::id::ChunkId;

    fn chunk(kind: ChunkKind, length: u32) -> FrameChunk {
        FrameChunk { kind, id: ChunkId::from_bytes([1; 32]), length }
    }

    fn raw_frame(length: u32) -> FrameEntry {
        let chunks = vec![chunk(ChunkKind::Data, length)];
        FrameEntry { stored_length: length + 16, encoding: Encoding::Raw, features: None, chunks }
    }

    fn data_pack() -> Vec<u8> {
        build_pack(&encrypted_keys(), &writer(), ObjectKind::DataPack, &data_frames())
    }

    #[test]
    fn no_byte_of_a_layout_may_change() {
        let (keys, pack) = (encrypted_keys(), data_pack());
        let directory = open_pack(&keys, &pack).unwrap();
        let frames = directory.header_bytes
            ..directory.header_bytes + usize::try_from(directory.directory.stored_bytes()).unwrap();
        for position in (0..pack.len()).filter(|position| !frames.contains(position)) {
            let mut altered = pack.clone();
            altered[position] ^= 1;
            assert!(open_pack(&keys, &altered).is_err(), "{position}");
        }
        for length in (0..pack.len()).step_by(7) {
            assert!(open_pack(&keys, &pack[..length]).is_err(), "{length}");
        }
        assert!(open_pack(&public_keys(), &pack).is_err());
    }

    #[test]
    fn a_pack_has_exactly_the_length_of_its_parts() {
        let (keys, pack) = (encrypted_keys(), data_pack());
        let header_bytes = open_pack(&keys, &pack).unwrap().header_bytes;
        let mut longer = pack.clone();
        longer.insert(header_bytes, 0);
        assert!(open_pack(&keys, &longer).err().unwrap().to_string().contains("length"));
        let mut shorter = pack;
        shorter.remove(header_bytes);
        assert!(open_pack(&keys, &shorter).err().unwrap().to_string().contains("length"));
    }

    #[test]
    fn a_pack_is_known_by_its_beginning_and_its_end() {
        let (keys, pack) = (encrypted_keys(), data_pack());
        let whole = open_pack(&keys, &pack).unwrap();
        let stored = usize::try_from(whole.directory.stored_bytes()).unwrap();
        let (beginning, end) = (&pack[..whole.header_bytes], &pack[whole.header_bytes + stored..]);
        let length = pack.len() as u64;
        assert_eq!(open_parts(&keys, beginning, end, length).unwrap().directory, whole.directory);
        assert!(open_parts(&keys, beginning, end, length - 1).is_err());
        assert!(open_parts(&keys, beginning, &end[1..], length).is_err());
        assert!(open_parts(&keys, &beginning[1..], end, length).is_err());
    }

    #[test]
    fn trailers_locate_nothing_outside_the_pack() {
        for length in [0, 1, u64::MAX, DIRECTORY_MAX_BYTES as u64 + 1] {
            let mut pack = data_pack();
            let at = pack.len() - TRAILER_BYTES;
            pack[at..at + 8].copy_from_slice(&length.to_le_bytes());
            assert!(open_pack(&encrypted_keys(), &pack).is_err(), "{length}");
        }
    }

    #[test]
    fn data_and_metadata_lie_apart() {
        let keys = encrypted_keys();
        let open =
            |kind, frames: &[PlainFrame]| open_pack(&keys, &build_pack(&keys, &writer(), kind, frames)).err();
        assert!(open(ObjectKind::TreePack, &tree_frames()).is_none());
        assert!(open(ObjectKind::DataPack, &tree_frames()).unwrap().to_string().contains("another kind"));
        assert!(open(ObjectKind::TreePack, &data_frames()).unwrap().to_string().contains("another kind"));
        assert!(open(ObjectKind::Index, &[]).unwrap().to_string().contains("another kind"));
    }

    #[test]
    fn directories_that_break_a_rule_are_refused() {
        let valid = Directory { frames: vec![raw_frame(5)] }.encode();
        assert_eq!(valid[..2], [0x81, 0x81]);
        assert!(Directory::decode(&[&valid[..], &[0]].concat()).unwrap_err().to_string().contains("behind"));
        assert!(
            Directory::decode(&[&[0x82], &valid[1..], &[0x00]].concat()).is_ok(),
            "a later version's field"
        );
        assert!(
            Directory::decode(&[&[0x98, 0x01], &valid[1..]].concat())
                .unwrap_err()
                .to_string()
                .contains("shortest")
        );
        assert!(
            Directory::decode(&[&[0x9f], &valid[1..], &[0xff]].concat())
                .unwrap_err()
                .to_string()
                .contains("definite")
        );
        let many = Directory { frames: vec![raw_frame(5); PACK_MAX_FRAMES + 1] };
        assert!(Directory::decode(&many.encode()).unwrap_err().to_string().contains("65537 elements"));
        let frame = FrameEntry {
            stored_length: 17,
            encoding: Encoding::Zstd,
            features: None,
            chunks: vec![chunk(ChunkKind::Data, 1); 500_000],
        };
        let long = Directory { frames: vec![frame] };
        assert!(Directory::decode(&long.encode()).unwrap_err().to_string().contains("too long"));
        let (_, hash, key) = Header::create(ObjectKind::DataPack, &encrypted_keys(), &writer()).unwrap();
        for refused in [many, long] {
            assert!(seal_directory(&key, &hash, &refused).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn directories_round_trip(
            frames in prop::collection::vec(frame::tests::entry(frame::tests::KINDS), 0..6),
        ) {
            let directory = Directory { frames };
            prop_assert_eq!(Directory::decode(&directory.encode()).unwrap(), directory);
        }

        #[test]
        fn altered_directories_have_one_encoding(
            frames in prop::collection::vec(frame::tests::entry(frame::tests::KINDS), 1..4),
            at: prop::sample::Index,
            flip in 1..=255_u8,
        ) {
            let mut bytes = Directory { frames }.encode();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            if let Ok(directory) = Directory::decode(&bytes) {
                prop_assert_eq!(directory.encode(), bytes);
            }
        }

        #[test]
        fn any_bytes_open_without_a_panic(bytes: Vec<u8>) {
            let _ = Directory::decode(&bytes);
            let _ = open_pack(&encrypted_keys(), &bytes);
            let _ = split_trailer("pack", &[&bytes[..], PACK_MAGIC].concat(), PACK_MAGIC, DIRECTORY_MAX_BYTES);
        }
    }
}
