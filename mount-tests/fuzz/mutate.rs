//! Changes to a sample such as damage, bad luck and malice make, aimed at what parsers stumble over.

#![expect(clippy::ptr_arg, reason = "all mutations have one type, and some change the length")]

use super::dice::Dice;

/// Numbers at the edges of what fits, and some that ask for a lot of memory.
const NUMBERS: [u64; 12] = [
    0,
    1,
    0x7f,
    0xff,
    0xffff,
    0x1000_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffff,
];

/// A change of some bytes, with another sample at hand.
type Change = fn(&mut Vec<u8>, &[u8], &mut Dice);

const CHANGES: [Change; 12] = [
    flip,
    set_byte,
    cut,
    remove,
    duplicate,
    insert,
    splice,
    set_number,
    grow_length,
    through_a_terminal,
    append,
    swap,
];

/// Returns `sample` after one to four changes.
pub(crate) fn mutated(sample: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    for _ in 0..=dice.below(4) {
        if bytes.is_empty() {
            bytes.push(dice.byte());
        }
        dice.one_of(&CHANGES)(&mut bytes, other, dice);
    }
    bytes
}

/// Returns a random range of `length` bytes, most often a short one.
fn range(length: usize, dice: &mut Dice) -> std::ops::Range<usize> {
    let begin = dice.below(length + 1);
    let longest = if dice.below(3) == 0 { length - begin } else { (length - begin).min(16) };
    begin..begin + dice.below(longest + 1)
}

fn flip(bytes: &mut Vec<u8>, _other: &[u8], dice: &mut Dice) {
    let at = dice.below(bytes.len());
    bytes[at] ^= 1 << dice.below(8);
}

fn set_byte(bytes: &mut Vec<u8>, _other: &[u8], dice: &mut Dice) {
    let at = dice.below(bytes.len());
    bytes[at] = dice.one_of(&[0, 1, 2, 3, 4, 8, 0x7f, 0x80, 0xff, b'\n', b'\r', b'-', b'$']);
}

fn cut(bytes: &mut Vec<u8>, _other: &[u8], dice: &mut Dice) {
    bytes.truncate(dice.below(bytes.len()));
}

fn remove(bytes: &mut Vec<u8>, _other: &[u8], dice: &mut Dice) {
    bytes.drain(range(bytes.len(), dice));
}

fn duplicate(bytes: &mut Vec<u8>, _other: &[u8], dice: &mut Dice) {
    let copied = bytes[range(bytes.len(), dice)].to_vec();
    let at = dice.below(bytes.len() + 1);
    bytes.splice(at..at, copied);
}

fn insert(bytes: &mut Vec<u8>, _other: &[u8], dice: &mut Dice) {
    let at = dice.below(bytes.len() + 1);
    let new: Vec<u8> = (0..dice.below(20)).map(|_| dice.byte()).collect();
    bytes.splice(at..at, new);
}

fn splice(bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    let gone = range(bytes.len(), dice);
    let new = other[range(other.len(), dice)].to_vec();
    bytes.splice(gone, new);
}

/// Writes a number over what is there, as formats write theirs.
fn set_number(bytes: &mut Vec<u8>, _other: &[u8], dice: &mut Dice) {
    let number = dice.one_of(&NUMBERS);
    let mut field = match dice.below(5) {
        0 => number.to_be_bytes().to_vec(),
        1 => number.to_be_bytes()[4..].to_vec(),
        // An integer of pg_dump: its sign, then its bytes, least first.
        2 => [&[dice.one_of(&[0, 1])], &number.to_le_bytes()[..4]].concat(),
        // A size in the header of a tar archive.
        3 => format!("{:011o}\0", number & 0o77_777_777_777).into_bytes(),
        _ => number.to_le_bytes()[..4].to_vec(),
    };
    let at = dice.below(bytes.len());
    field.truncate(bytes.len() - at);
    bytes[at..at + field.len()].copy_from_slice(&field);
}

/// Adds to a byte that may be part of a length.
fn grow_length(bytes: &mut Vec<u8>, _other: &[u8], dice: &mut Dice) {
    let small: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] < 0x20).collect();
    if !small.is_empty() {
        let at = dice.one_of(&small);
        bytes[at] = bytes[at].wrapping_add(dice.one_of(&[1, 2, 0x10, 0x7f, 0xff]));
    }
}

fn through_a_terminal(bytes: &mut Vec<u8>, _other: &[u8], _dice: &mut Dice) {
    *bytes = bytes
        .iter()
        .flat_map(|byte| if *byte == b'\n' { &b"\r\n"[..] } else { std::slice::from_ref(byte) })
        .copied()
        .collect();
}

fn append(bytes: &mut Vec<u8>, other: &[u8], _dice: &mut Dice) {
    bytes.extend_from_slice(other);
}

fn swap(bytes: &mut Vec<u8>, _other: &[u8], dice: &mut Dice) {
    let middle = range(bytes.len(), dice);
    bytes[middle.start..].rotate_left(middle.len());
}
