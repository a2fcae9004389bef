//! Super-features held against the definition of the format, and what they find.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const ROW_BYTES: usize = 100;
const FRAME_BYTES: usize = 256 << 10;

/// The definition, word for word: one hash after the other, each from its own 64 bytes.
fn defined(plain: &[u8]) -> Option<[u64; 3]> {
    let mut stream = vec![0; 8 * (256 + 24)];
    blake3::Hasher::new().update(b"yester 1 similarity").finalize_xof().fill(&mut stream);
    let word = |number: usize| u64::from_le_bytes(stream[8 * number..][..8].try_into().unwrap());
    let gear: Vec<_> = (0..256).map(|byte| u128::from(word(byte))).collect();
    let modulus = 1_u128 << 64;
    let hash = |window: &[u8]| -> u128 {
        (0..).zip(window.iter().rev()).map(|(age, byte)| gear[usize::from(*byte)] << age).sum::<u128>()
            % modulus
    };
    let samples: Vec<_> = plain.windows(64).map(hash).filter(|sample| sample >> 57 == 0).collect();
    if plain.len() < 4096 || samples.is_empty() {
        return None;
    }
    let feature = |number: usize| {
        let (factor, addend) = (word(256 + 2 * number) | 1, word(257 + 2 * number));
        let values = samples.iter().map(|x| (x * u128::from(factor) + u128::from(addend)) % modulus);
        u64::try_from(values.max().unwrap()).unwrap()
    };
    let super_feature = |group: usize| {
        let features: Vec<u8> = (0..4).flat_map(|one| feature(4 * group + one).to_le_bytes()).collect();
        u64::from_le_bytes(blake3::hash(&features).as_bytes()[..8].try_into().unwrap())
    };
    Some([0, 1, 2].map(super_feature))
}

fn noise(seed: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Numbers that look random (the generator `xorshift64*`).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}

/// Writes a line of a table as a dump shows it: tabs, few words, numbers, zeros to the right length.
fn write_row(row: &mut [u8], numbers: &mut Numbers) {
    const WORDS: [&str; 8] = ["open", "paid", "shipped", "returned", "north", "south", "monthly", "priority"];
    let [a, b, c, d] = [(); 4].map(|()| numbers.next());
    let words = [(); 4].map(|()| WORDS[numbers.below(WORDS.len())]);
    let line =
        format!("{a}\t{}\t{}\t2026-11-21\t{}.50\t{}\t{b}\t{c}{d}", words[0], words[1], a % 997, words[2]);
    row.fill(b'0');
    for (at, byte) in row.iter_mut().zip(line.bytes()) {
        *at = byte;
    }
    if let Some(last) = row.last_mut() {
        *last = b'\n';
    }
}

fn table(numbers: &mut Numbers) -> Vec<u8> {
    let mut frame = vec![0; FRAME_BYTES];
    frame.chunks_mut(ROW_BYTES).for_each(|row| write_row(row, numbers));
    frame
}

fn shared(one: &[u64; 3], other: &[u64; 3]) -> usize {
    one.iter().zip(other).filter(|(one, other)| one == other).count()
}

#[test]
fn constants_are_frozen() {
    let Constants { gear, transforms } = &*CONSTANTS;
    assert_eq!((gear[0], gear[255]), (0xb69f_6ada_e139_cf80, 0x0708_777d_c3fa_da61));
    let [first, last] = [transforms[0][0], transforms[2][3]];
    assert_eq!((first.factor, first.addend), (0xe9a0_8715_d3a1_333d, 0x6a04_f492_87c4_d032));
    assert_eq!((last.factor, last.addend), (0xb271_11fe_b2fb_eaad, 0xc776_b4ed_5332_608d));
}

#[test]
fn values_are_frozen() {
    let numbers: Vec<u8> = (0..32_768_u64).flat_map(|number| (number * 251 % 65_521).to_le_bytes()).collect();
    let expected = [0xf70f_28d8_3888_f745, 0x0714_6c78_0e44_79f0, 0xbe4f_827c_3543_1ae3];
    assert_eq!(super_features(&numbers), Some(expected));
    let expected = [0xfdd0_c97c_3e92_5f6c, 0xdc9a_4564_29fe_f78b, 0x7f93_f9fa_604f_3b89];
    assert_eq!(super_features(&noise("features", 8192)), Some(expected));
    assert_eq!(super_features(&b"all work and no play\n".repeat(1000)), None);
}

#[test]
fn short_and_uniform_frames_have_none() {
    let bytes = noise("short", SIMILARITY_MIN_BYTES);
    assert_eq!(super_features(&[]), None);
    assert_eq!(super_features(&bytes[1..]), None);
    assert!(super_features(&bytes).is_some());
    // All hashes are the same, and samples for the few bytes whose hash happens to be one.
    let sampled = |byte: &u8| super_features(&vec![*byte; SIMILARITY_MIN_BYTES]).is_some();
    assert_eq!((0..=255).filter(sampled).collect::<Vec<u8>>(), [36, 160, 175, 195]);
}

#[test]
fn frames_with_scattered_changes_are_found() {
    let mut numbers = Numbers(1);
    let mut frame = table(&mut numbers);
    let rows = FRAME_BYTES / ROW_BYTES;
    let mut last = super_features(&frame).unwrap();
    let mut found = 0;
    for _ in 0..200 {
        for _ in 0..rows * 15 / 1000 {
            let row = numbers.below(rows);
            write_row(&mut frame[row * ROW_BYTES..][..ROW_BYTES], &mut numbers);
        }
        let changed = super_features(&frame).unwrap();
        found += usize::from(shared(&last, &changed) > 0);
        last = changed;
    }
    assert!(found >= 194, "only {found} of 200");
}

#[test]
fn frames_of_other_content_are_not() {
    let mut numbers = Numbers(2);
    let mut seen = BTreeSet::new();
    for number in 0..30 {
        let plain =
            if number % 3 == 0 { noise(&format!("{number}"), FRAME_BYTES) } else { table(&mut numbers) };
        for feature in super_features(&plain).unwrap() {
            assert!(seen.insert(feature), "frame {number} has a super-feature of another");
        }
    }
}

#[test]
fn what_is_moved_within_a_frame_matters_little() {
    let mut numbers = Numbers(3);
    let plain = table(&mut numbers);
    let (first, second) = plain.split_at(FRAME_BYTES / 3);
    let moved = [b"a line before\n", second, first].concat();
    assert!(shared(&super_features(&plain).unwrap(), &super_features(&moved).unwrap()) > 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn lanes_make_no_difference(
        seed in any::<u64>(),
        length in SIMILARITY_MIN_BYTES - 2..3 * SIMILARITY_MIN_BYTES,
        alphabet in 1..=255_u8,
    ) {
        let mut plain = noise(&seed.to_string(), length);
        plain.iter_mut().for_each(|byte| *byte %= alphabet);
        prop_assert_eq!(super_features(&plain), defined(&plain));
    }
}

#[test]
fn rounds_make_no_difference() {
    for length in [ROUND_BYTES + REACH - 1, ROUND_BYTES + REACH, ROUND_BYTES + REACH + 1, 2 * ROUND_BYTES] {
        let plain = noise("rounds", length);
        assert_eq!(super_features(&plain), defined(&plain), "{length} bytes");
    }
}
