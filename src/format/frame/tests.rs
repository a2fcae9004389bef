//! Tests of frames: their compression, their seal, and their entries in a directory.

use proptest::prelude::*;

use super::super::cbor;
use super::*;
use crate::crypto::hash::IdKeys;

const BASE: FrameId = FrameId::from_bytes([0xba; 32]);
const DELTA_OF_BASE: Encoding = Encoding::Delta { base: DeltaBase::one(BASE) };

/// Any entry that follows the rules.
pub(in crate::format) fn entry(kinds: &'static [ChunkKind]) -> impl Strategy<Value = FrameEntry> {
    let chunk = (prop::sample::select(kinds), any::<[u8; 32]>(), 2..10_000_u32)
        .prop_map(|(kind, id, length)| FrameChunk { kind, id: ChunkId::from_bytes(id), length });
    let encoding = prop_oneof![
        Just(Encoding::Raw),
        Just(Encoding::Zstd),
        any::<[u8; 32]>().prop_map(|base| Encoding::Delta { base: FrameId::from_bytes(base).into() }),
        any::<[[u8; 32]; 2]>().prop_map(|bases| {
            let [first, second] = bases.map(FrameId::from_bytes);
            Encoding::Delta { base: DeltaBase::pair(first, second) }
        }),
    ];
    let features = prop::option::of(any::<[u64; 3]>().prop_map(Features));
    (encoding, features, prop::collection::vec(chunk, 1..5), any::<prop::sample::Index>()).prop_map(
        |(encoding, features, chunks, length)| {
            let plain_length = chunks.iter().map(|chunk| chunk.length as usize).sum::<usize>();
            let encoded =
                if encoding == Encoding::Raw { plain_length } else { 1 + length.index(plain_length - 1) };
            let stored_length = u32::try_from(encoded + TAG_BYTES).unwrap();
            FrameEntry { stored_length, encoding, features, chunks }
        },
    )
}

fn encoded_entry(entry: &FrameEntry) -> Vec<u8> {
    cbor::encode(|writer| entry.write(writer))
}

fn decoded_entry(bytes: &[u8]) -> Result<FrameEntry, FormatError> {
    FrameEntry::read(&mut CborReader::new("frame entry", bytes)?)
}

fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

fn text(length: usize) -> Vec<u8> {
    (0..).flat_map(|row: u32| format!("{row}\trow {}\n", row % 97).into_bytes()).take(length).collect()
}

/// A dictionary of zstd is more than raw content, and a base may look like one.
#[test]
fn a_base_that_looks_like_a_dictionary_is_none() {
    let base = [&[0x37, 0xa4, 0x30, 0xec][..], &text(50_000)].concat();
    let plain = [&base[..40_000], b"and more"].concat();
    let delta = encode_delta(&plain, &base).unwrap();
    assert!(delta.len() < 100, "{} bytes", delta.len());
    assert!(decode(DELTA_OF_BASE, &delta, plain.len(), Some(&base)).unwrap() == plain);
}

#[test]
fn seals_bind_both_bases_in_their_order() {
    let (key, header) = (SealKey::from_bytes(&[1; 32]), HeaderHash([2; 32]));
    let other = FrameId::from_bytes([0xcd; 32]);
    let pair = |first, second| Encoding::Delta { base: DeltaBase::pair(first, second) };
    let mut sealed = b"encoded".to_vec();
    seal(&key, &header, 3, pair(BASE, other), &mut sealed).unwrap();
    for wrong in [pair(other, BASE), pair(BASE, BASE), DELTA_OF_BASE] {
        assert!(open(&key, &header, 3, wrong, &mut sealed.clone()).is_err());
    }
    assert_eq!(open(&key, &header, 3, pair(BASE, other), &mut sealed).unwrap(), b"encoded");
}

#[test]
fn what_does_not_shrink_stays_raw() {
    let mut encoder = FrameEncoder::new(3).unwrap();
    for plain in [noise(0, 1), noise(1, 300_000)] {
        assert_eq!(encoder.encode(&plain).unwrap(), (Encoding::Raw, plain.clone()));
        assert_eq!(decode(Encoding::Raw, &plain, plain.len(), None).unwrap(), plain);
    }
    let plain = text(256 << 10);
    let (encoding, encoded) = encoder.encode(&plain).unwrap();
    assert_eq!(encoding, Encoding::Zstd);
    assert!(encoded.len() < plain.len() / 3);
    assert!(encoded.capacity() >= encoded.len() + TAG_BYTES);
}

#[test]
fn the_longest_frame_and_base_work_at_every_level() {
    let base = noise(0, FRAME_MAX_BYTES);
    let mut plain = base.clone();
    plain.rotate_left(100_000);
    let mut encoder = FrameEncoder::new(3).unwrap();
    let delta = encoder.encode_delta(&plain, &base).unwrap();
    assert!(delta.len() < 10_000, "{}", delta.len());
    assert_eq!(decode(DELTA_OF_BASE, &delta, plain.len(), Some(&base)).unwrap(), plain);
    let plain = text(FRAME_MAX_BYTES);
    for level in [-5, 1, 3] {
        let (encoding, encoded) = encode(&plain, level).unwrap();
        assert_eq!(decode(encoding, &encoded, plain.len(), None).unwrap(), plain);
    }
    assert!(encode(&vec![0; FRAME_MAX_BYTES + 1], 3).is_err());
    assert!(encode(&[], 3).is_err());
}

#[test]
fn a_near_copy_takes_next_to_nothing() {
    let base = noise(0, 256 << 10);
    let mut plain = base.clone();
    plain[1000] ^= 1;
    plain.splice(100_000..100_000, *b"a few new bytes");
    let delta = encode_delta(&plain, &base).unwrap();
    assert!(delta.len() < 200, "{}", delta.len());
    assert_eq!(decode(DELTA_OF_BASE, &delta, plain.len(), Some(&base)).unwrap(), plain);
}

#[test]
fn a_base_belongs_to_deltas_alone() {
    let (base, plain) = (text(10_000), text(9_000));
    let delta = encode_delta(&plain, &base).unwrap();
    let (encoding, encoded) = encode(&plain, 3).unwrap();
    assert!(decode(DELTA_OF_BASE, &delta, plain.len(), None).is_err());
    assert!(decode(encoding, &encoded, plain.len(), Some(&base)).is_err());
    assert!(decode(Encoding::Raw, &plain, plain.len(), Some(&base)).is_err());
    let wrong = decode(DELTA_OF_BASE, &delta, plain.len(), Some(&noise(0, base.len())));
    assert!(wrong.map_or(true, |decoded| decoded != plain), "a wrong base must not give the right bytes");
}

#[test]
fn only_one_zstd_frame_of_the_declared_length_decodes() {
    let plain = text(10_000);
    let (encoding, encoded) = encode(&plain, 3).unwrap();
    for length in [0, plain.len() - 1, plain.len() + 1, FRAME_MAX_BYTES + 1, usize::MAX] {
        assert!(decode(encoding, &encoded, length, None).is_err());
        assert!(decode(Encoding::Raw, &plain, length, None).is_err());
    }
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 0];
    for bytes in
        [[&encoded[..], &encoded].concat(), [&encoded[..], &skippable].concat(), skippable.to_vec(), vec![]]
    {
        assert!(decode(encoding, &bytes, plain.len(), None).is_err());
    }
    for length in 0..encoded.len() {
        assert!(decode(encoding, &encoded[..length], plain.len(), None).is_err());
    }
}

#[test]
fn windows_beyond_the_limit_are_refused() {
    // A frame of one raw block of one byte, with a window descriptor and a content size of four bytes.
    let frame = |window: u8| {
        let head = [0x28, 0xb5, 0x2f, 0xfd, 0x80, window, 1, 0, 0, 0];
        [&head[..], &[0x09, 0, 0, b'x']].concat()
    };
    let decoded =
        |log: u8, mantissa: u8| decode(Encoding::Zstd, &frame(((log - 10) << 3) | mantissa), 1, None);
    assert_eq!(decoded(10, 0).unwrap(), b"x");
    assert_eq!(decoded(23, 0).unwrap(), b"x");
    assert!(decoded(23, 1).is_err());
    assert!(decoded(24, 0).is_err());
}

#[test]
fn a_reused_encoder_works_like_a_fresh_one() {
    let mut encoder = FrameEncoder::new(3).unwrap();
    let mut decoder = FrameDecoder::new().unwrap();
    let base = text(50_000);
    for plain in [text(100_000), noise(0, 5_000), text(10), text(30_000)] {
        let (encoding, encoded) = encoder.encode(&plain).unwrap();
        assert_eq!((encoding, encoded.clone()), encode(&plain, 3).unwrap());
        assert_eq!(decoder.decode(encoding, &encoded, plain.len(), None).unwrap(), plain);
        let delta = encoder.encode_delta(&plain, &base).unwrap();
        assert_eq!(decoder.decode(DELTA_OF_BASE, &delta, plain.len(), Some(&base)).unwrap(), plain);
        assert!(decoder.decode(Encoding::Zstd, b"no frame", 10, None).is_err());
    }
}

#[test]
fn a_seal_binds_the_frame_to_its_place() {
    let (key, header) = (SealKey::from_bytes(&[1; 32]), HeaderHash([2; 32]));
    let mut stored = b"encoded".to_vec();
    seal(&key, &header, 7, DELTA_OF_BASE, &mut stored).unwrap();
    let opens = |key: &SealKey, header, number, encoding| {
        let mut stored = stored.clone();
        open(key, &header, number, encoding, &mut stored).is_ok_and(|encoded| encoded == b"encoded")
    };
    assert!(opens(&key, header, 7, DELTA_OF_BASE));
    assert!(!opens(&SealKey::from_bytes(&[0; 32]), header, 7, DELTA_OF_BASE));
    assert!(!opens(&key, HeaderHash([0; 32]), 7, DELTA_OF_BASE));
    assert!(!opens(&key, header, 8, DELTA_OF_BASE));
    assert!(!opens(&key, header, 7, Encoding::Zstd));
    assert!(!opens(&key, header, 7, Encoding::Delta { base: FrameId::from_bytes([0; 32]).into() }));
}

#[test]
fn entries_that_break_a_rule_are_refused() {
    let chunk = |length| FrameChunk { kind: ChunkKind::Data, id: ChunkId::from_bytes([1; 32]), length };
    let refusal = |stored_length, encoding, features, chunks| {
        let entry = FrameEntry { stored_length, encoding, features, chunks };
        decoded_entry(&encoded_entry(&entry)).map(drop).map_err(|error| error.to_string())
    };
    let features = Some(Features([1, 2, 3]));
    assert_eq!(refusal(116, Encoding::Raw, features, vec![chunk(100)]), Ok(()));
    assert_eq!(refusal(115, Encoding::Zstd, features, vec![chunk(100)]), Ok(()));
    assert_eq!(refusal(17, DELTA_OF_BASE, None, vec![chunk(100)]), Ok(()));
    let broken = [
        (refusal(115, Encoding::Raw, None, vec![chunk(100)]), "another length"),
        (refusal(116, Encoding::Zstd, None, vec![chunk(100)]), "no shorter"),
        (refusal(u32::MAX, DELTA_OF_BASE, None, vec![chunk(100)]), "no shorter"),
        (refusal(16, Encoding::Zstd, None, vec![chunk(100)]), "no room"),
        (refusal(0, Encoding::Zstd, None, vec![chunk(100)]), "no room"),
        (refusal(17, Encoding::Zstd, None, vec![]), "0 elements"),
        (refusal(17, Encoding::Zstd, None, vec![chunk(100), chunk(0)]), "empty"),
        (refusal(17, Encoding::Zstd, None, vec![chunk(u32::MAX), chunk(u32::MAX)]), "too long"),
    ];
    for (refusal, why) in broken {
        assert!(refusal.clone().unwrap_err().contains(why), "{refusal:?}");
    }
    let bytes = encoded_entry(&FrameEntry {
        stored_length: 17,
        encoding: Encoding::Zstd,
        features: None,
        chunks: vec![chunk(100)],
    });
    assert_eq!(bytes[..6], [0x85, 0x11, 0x01, 0xf6, 0xf6, 0x81]);
    for (position, value) in [(2, 0x02), (2, 0x03), (3, 0x01), (7, 0x03), (0, 0x84)] {
        let mut changed = bytes.clone();
        changed[position] = value;
        assert!(decoded_entry(&changed).is_err(), "{position}");
    }
}

/// Every kind of chunk.
pub(in crate::format) const KINDS: &[ChunkKind] = &[ChunkKind::Data, ChunkKind::Tree, ChunkKind::List];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn frames_round_trip(plain in prop::collection::vec(0..4_u8, 1..3_000), level in -3..6) {
        let (encoding, encoded) = encode(&plain, level).unwrap();
        prop_assert_eq!(decode(encoding, &encoded, plain.len(), None).unwrap(), plain);
    }

    #[test]
    fn altered_frames_decode_without_a_panic(at: prop::sample::Index, flip in 1..=255_u8) {
        let plain = text(3_000);
        let (encoding, mut encoded) = encode(&plain, 3).unwrap();
        let at = at.index(encoded.len());
        encoded[at] ^= flip;
        if let Ok(decoded) = decode(encoding, &encoded, plain.len(), None) {
            prop_assert_eq!(decoded.len(), plain.len());
        }
    }

    #[test]
    fn any_bytes_decode_without_a_panic(bytes: Vec<u8>, length in 0..1_000_usize) {
        let _ = decode(Encoding::Zstd, &bytes, length, None);
        let _ = decode(DELTA_OF_BASE, &bytes, length, Some(b"base"));
        let _ = decoded_entry(&bytes);
    }

    #[test]
    fn entries_round_trip(entry in entry(KINDS)) {
        prop_assert_eq!(decoded_entry(&encoded_entry(&entry)).unwrap(), entry);
    }
}

/// What a base is made of.
#[derive(Debug, Clone, Copy)]
enum Material {
    Noise,
    Text,
    OneByte,
    /// Noise behind the first bytes of a zstd dictionary, which a base is not.
    DictionaryMagic,
}

/// How a frame is made from its base.
#[derive(Debug, Clone, Copy)]
enum Kinship {
    Unrelated,
    Same,
    Prefix,
    Extension,
    Edited,
    Rotated,
    Shuffled,
    Repeated,
}

/// A base, a frame and another base of the same length, none byte of which is that of the first.
#[derive(Debug, Clone)]
struct Pair {
    base: Vec<u8>,
    plain: Vec<u8>,
    other: Vec<u8>,
}

/// Any pair of frames of at most `length_max` bytes.
fn pair(length_max: usize) -> impl Strategy<Value = Pair> {
    let material = prop::sample::select(vec![
        Material::Noise,
        Material::Text,
        Material::OneByte,
        Material::DictionaryMagic,
    ]);
    let kinship = prop::sample::select(vec![
        Kinship::Unrelated,
        Kinship::Same,
        Kinship::Prefix,
        Kinship::Extension,
        Kinship::Edited,
        Kinship::Rotated,
        Kinship::Shuffled,
        Kinship::Repeated,
    ]);
    let length = prop_oneof![1 => Just(1), 1 => Just(length_max), 6 => 1..=length_max];
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..40_usize, 0..40_usize), 1..20);
    (material, kinship, length, any::<u8>(), edits).prop_map(
        move |(material, kinship, length, seed, edits)| {
            let mut base = match material {
                Material::Noise | Material::DictionaryMagic => noise(seed, length),
                Material::Text => text(length),
                Material::OneByte => vec![seed; length],
            };
            if let Material::DictionaryMagic = material {
                let magic = [0x37, 0xa4, 0x30, 0xec];
                base.splice(..length.min(4), magic.into_iter().take(length));
            }
            let mut plain = derived(&base, kinship, seed, &edits);
            plain.truncate(length_max);
            let other = base.iter().map(|byte| !byte).collect();
            Pair { base, plain, other }
        },
    )
}

/// Makes a frame from its base; `edits` are places with the lengths of what goes and of what comes instead.
fn derived(
    base: &[u8],
    kinship: Kinship,
    seed: u8,
    edits: &[(prop::sample::Index, usize, usize)],
) -> Vec<u8> {
    let mut plain = base.to_vec();
    let place = edits[0].0.index(base.len());
    match kinship {
        Kinship::Unrelated => return noise(!seed, 1 + place),
        Kinship::Same => {}
        Kinship::Prefix => plain.truncate(1 + place),
        Kinship::Extension => plain.extend(noise(!seed, 1 + place)),
        Kinship::Edited => {
            for (at, gone, new) in edits {
                let at = at.index(plain.len());
                let end = plain.len().min(at + gone);
                plain.splice(at..end, noise(seed, *new));
                plain.push(b'\n');
            }
        }
        Kinship::Rotated => plain.rotate_left(place),
        Kinship::Shuffled => {
            let mut blocks: Vec<&[u8]> = base.chunks(1 + base.len() / 16).collect();
            blocks.sort_by_key(|block| blake3::hash(block).to_hex());
            plain = blocks.concat();
        }
        Kinship::Repeated => plain.extend_from_slice(&base[place..]),
    }
    plain
}

/// Holds a pair against what deltas promise: with its base a delta decodes to its frame, with another one at most to
/// something whose chunks have other ids.
fn holds(pair: &Pair, level: i32) -> Result<(), TestCaseError> {
    let Pair { base, plain, other } = pair;
    let mut encoder = FrameEncoder::new(level).unwrap();
    let mut decoder = FrameDecoder::new().unwrap();
    let (_, alone) = encoder.encode(plain).unwrap();
    let delta = encoder.encode_delta(plain, base).unwrap();
    let decoded = decoder.decode(DELTA_OF_BASE, &delta, plain.len(), Some(base)).unwrap();
    prop_assert!(decoded == *plain, "another frame came back");

    let keys = IdKeys::new(&[7; 32]);
    let id = keys.chunk_id(ChunkKind::Data, plain);
    for wrong in [other, &other[..1 + other.len() / 2].to_vec(), &noise(0, 1)] {
        let Ok(decoded) = decoder.decode(DELTA_OF_BASE, &delta, plain.len(), Some(wrong)) else { continue };
        prop_assert_eq!(decoded.len(), plain.len());
        // Only a delta that takes nothing from its base does without it, and so gains nothing by it.
        let has_its_id = keys.chunk_id(ChunkKind::Data, &decoded) == id;
        prop_assert!(
            !has_its_id || delta.len() + 100 >= alone.len() / 2,
            "a wrong base gave the right chunk"
        );
    }
    let decoded = decoder.decode(DELTA_OF_BASE, &delta, plain.len(), Some(base)).unwrap();
    prop_assert!(decoded == *plain, "the decoder remembers another base");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_pair_round_trips_and_a_wrong_base_is_noticed(pair in pair(20_000), level in -2..6) {
        holds(&pair, level)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn the_longest_pairs_round_trip_and_a_wrong_base_is_noticed(pair in pair(FRAME_MAX_BYTES)) {
        holds(&pair, DELTA_LEVEL_MIN)?;
    }
}
