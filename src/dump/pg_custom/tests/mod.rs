//! Archives that pg_dump wrote, and archives made here piece by piece: whole, cut, split, damaged.

use super::*;

mod build;
mod damage;
mod heads;
mod stored;
mod walks;

/// The same small database, dumped into a pipe and to a file by the same pg_dump, seconds apart. It has rows with
/// CR LF in them, an empty table with quotes and a line feed in its name, a sequence, a materialized view, and large
/// objects of which one is empty and one has an id above 2,147,483,647.
struct Pair {
    name: &'static str,
    piped: &'static [u8],
    file: &'static [u8],
    version: (u8, u8),
    compressed: bool,
    /// What has data, in the order of the table of contents.
    data: &'static [&'static str],
}

macro_rules! pair {
    ($name:literal, $version:expr, $compressed:expr, $data:expr) => {
        Pair {
            name: $name,
            piped: include_bytes!(concat!("../fixtures/", $name, "-piped.dump")),
            file: include_bytes!(concat!("../fixtures/", $name, "-file.dump")),
            version: $version,
            compressed: $compressed,
            data: $data,
        }
    };
}

const TABLES: [&str; 3] = ["TABLE DATA a \"b\"\\nü", "TABLE DATA users", "TABLE DATA sales.orders"];
const ONE_OF_LARGE_OBJECTS: [&str; 4] = [TABLES[0], TABLES[1], TABLES[2], "BLOBS"];
const TWO_OF_LARGE_OBJECTS: [&str; 5] =
    [TABLES[0], TABLES[1], TABLES[2], "BLOBS 90001..3000000000", "BLOBS 90003"];

const PAIRS: [Pair; 4] = [
    pair!("pg15", (1, 14), false, &ONE_OF_LARGE_OBJECTS),
    pair!("pg16-zstd", (1, 15), true, &ONE_OF_LARGE_OBJECTS),
    pair!("pg18", (1, 16), false, &TWO_OF_LARGE_OBJECTS),
    pair!("pg18-gzip", (1, 16), true, &TWO_OF_LARGE_OBJECTS),
];

/// Returns an archive with the seven integers of its time stamp made zero.
fn without_time(bytes: &[u8]) -> Vec<u8> {
    let start = if bytes[6] < 15 { 11 + 5 } else { 11 + 1 };
    let mut masked = bytes.to_vec();
    masked[start..start + 7 * 5].fill(0);
    masked
}

fn head_of(bytes: &[u8]) -> Head {
    match parse_head(bytes) {
        HeadParse::Head(head) => head,
        other => panic!("{other:?}"),
    }
}

/// Walks what stands behind a head, in one piece.
fn walk(head: &Head, bytes: &[u8]) -> Result<Vec<DataOffset>, String> {
    let mut walk = BlockWalk::new(head);
    walk.feed(&bytes[head.length..]);
    walk.finish()
}

/// Does with a whole archive what is done with a stream; returns how many offsets were filled in.
fn complete(bytes: &mut [u8]) -> Result<u64, String> {
    let head = match parse_head(bytes) {
        HeadParse::Head(head) => head,
        HeadParse::NeedMore => return Err("it ends within its head".to_owned()),
        HeadParse::Unknown(why) | HeadParse::Broken(why) => return Err(why),
    };
    let offsets = walk(&head, bytes)?;
    fill_offsets(bytes, &head, &offsets)
}

/// Random numbers that are the same in every run (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }
}

#[test]
fn a_piped_dump_becomes_what_pg_dump_writes_to_a_file() {
    for pair in PAIRS {
        let mut bytes = pair.piped.to_vec();
        assert_ne!(without_time(&bytes), without_time(pair.file), "{}", pair.name);
        assert_eq!(complete(&mut bytes).unwrap(), pair.data.len() as u64, "{}", pair.name);
        assert_eq!(without_time(&bytes), without_time(pair.file), "{}", pair.name);
    }
}

#[test]
fn a_dump_that_pg_dump_wrote_to_a_file_stays_as_it_is() {
    for pair in PAIRS {
        let mut bytes = pair.file.to_vec();
        assert_eq!(complete(&mut bytes), Ok(0), "{}", pair.name);
        assert_eq!(bytes, pair.file, "{}", pair.name);
    }
}

#[test]
fn a_head_says_what_the_archive_is_and_what_has_data() {
    for pair in PAIRS {
        let head = head_of(pair.piped);
        assert_eq!((head.version, head.compressed), (pair.version, pair.compressed), "{}", pair.name);
        assert_eq!((head.int_bytes, head.offset_bytes), (4, 8));
        let with_data = head.entries.iter().filter(|entry| entry.data == DataState::NotSet);
        let labels: Vec<_> = with_data.map(|entry| entry.label.as_str()).collect();
        assert_eq!(labels, pair.data, "{}", pair.name);
        let set =
            head_of(pair.file).entries.into_iter().filter(|entry| matches!(entry.data, DataState::At(_)));
        assert_eq!(set.count(), pair.data.len(), "{}", pair.name);
    }
}
