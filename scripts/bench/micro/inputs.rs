//! What the benchmarks work on: rows of a dump, source files, noise. The same bytes in every run.

use std::fmt::Write as _;

/// Plain bytes of a usual frame.
pub(crate) const FRAME_BYTES: usize = 256 << 10;

const WORDS: usize = 1000;
const SYLLABLES: [&str; 16] =
    ["ta", "re", "con", "sel", "mi", "no", "ver", "da", "lo", "ship", "or", "der", "in", "ex", "pa", "ge"];

/// Random numbers that follow from their seed (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.number() % limit
    }

    /// Returns what may stand for a keyed hash.
    pub(crate) fn id(&mut self) -> [u8; 32] {
        std::array::from_fn(|_| self.number().to_le_bytes()[7])
    }
}

/// Which of two dumps of one database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Night {
    First,
    /// One row in 200 has another note than in the first.
    Second,
}

/// Returns the beginning of a dump: rows of a table of orders, with tabs between the columns.
pub(crate) fn dump(bytes: usize, night: Night) -> Vec<u8> {
    let words = Words::new();
    let mut text = String::with_capacity(bytes + 256);
    for row in 0.. {
        if text.len() >= bytes {
            break;
        }
        let mut random = Random::new(row << 8);
        let [day, cents, customer] = [28, 100_000, 5000].map(|limit| random.below(limit));
        write!(text, "{row}\t{customer}\t2026-11-{:02}\t{}.{:02}\t", day + 1, cents / 100, cents % 100)
            .unwrap();
        text.push_str(["open", "paid", "shipped", "returned"][words.place(&mut random, 4)]);
        if night == Night::Second && row % 200 == 0 {
            random = Random::new(!row);
        }
        for _ in 0..random.below(12) + 4 {
            write!(text, " {}", words.any(&mut random)).unwrap();
        }
        text.push('\n');
    }
    text.truncate(bytes);
    text.into_bytes()
}

/// Returns source files of 128 bytes to 64 KiB, small ones as often as large ones on a logarithmic scale.
pub(crate) fn source_files(count: u64) -> Vec<Vec<u8>> {
    let file = |number| {
        let mut random = Random::new(number);
        let step = 128_u64 << random.below(9);
        source(number, usize::try_from(step + random.below(step)).unwrap())
    };
    (0..count).map(file).collect()
}

/// Returns one source file.
pub(crate) fn source(number: u64, bytes: usize) -> Vec<u8> {
    let words = Words::new();
    let mut random = Random::new(!number);
    let mut text = format!("//! File {number}.\n\nuse std::{};\n", words.any(&mut random));
    while text.len() < bytes {
        let [a, b, c] = [(); 3].map(|()| words.any(&mut random));
        match random.below(6) {
            0 => writeln!(
                text,
                "}}\n\n/// Returns the {a} of its {b}.\npub fn {a}_{b}(&self, {c}: u64) -> Result<u64> {{"
            ),
            1 => writeln!(text, "    let {a} = self.{b}({c})?;"),
            2 => writeln!(text, "    if {a}.is_{b}() {{\n        return Err(Error::{c});\n    }}"),
            3 => writeln!(text, "    // The {a} {b} depends on {c}."),
            4 => writeln!(text, "    self.{a}.insert({}, {b}.{c}());", random.below(1000)),
            _ => writeln!(text, "    assert_eq!({a}.{b}, {c}::{b});"),
        }
        .unwrap();
    }
    text.truncate(bytes);
    text.into_bytes()
}

/// Returns bytes that nothing compresses.
pub(crate) fn noise(bytes: usize) -> Vec<u8> {
    let mut random = Random::new(0);
    std::iter::repeat_with(|| random.number().to_le_bytes()).flatten().take(bytes).collect()
}

/// Returns the usual frames with their names: of a dump, of source files, of what is compressed already.
pub(crate) fn frames() -> [(&'static str, Vec<u8>); 3] {
    let mut files = source_files(100).concat();
    files.truncate(FRAME_BYTES);
    assert_eq!(files.len(), FRAME_BYTES);
    [("dump", dump(FRAME_BYTES, Night::First)), ("source", files), ("noise", noise(FRAME_BYTES))]
}

/// Made-up words, of which the first are used most.
struct Words(Vec<String>);

impl Words {
    fn new() -> Self {
        let mut random = Random::new(7);
        let mut word = || {
            let syllables = 0..random.below(3) + 1;
            syllables.map(|_| SYLLABLES[usize::try_from(random.below(16)).unwrap()]).collect()
        };
        Self((0..WORDS).map(|_| word()).collect())
    }

    fn any(&self, random: &mut Random) -> &str {
        &self.0[self.place(random, self.0.len())]
    }

    /// Returns a place below `limit`, low ones more often.
    fn place(&self, random: &mut Random, limit: usize) -> usize {
        let limit = limit as u64;
        let drawn = random.below(limit) * random.below(limit) / limit;
        usize::try_from(drawn).unwrap()
    }
}
