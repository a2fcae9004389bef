//! Walks the data blocks of an archive, to find where the data of each entry begins and whether all of it is there.

use std::collections::HashMap;

use super::head::decode_int;
use super::label::count;
use super::{
    BLOCK_DATA, BLOCK_HEADER_BYTES, BLOCK_LARGE_OBJECTS, DataOffset, DataState, Head, INT_BYTES, TocEntry,
};

/// Bytes of an integer with its sign byte.
const NUMBER_BYTES: usize = 1 + INT_BYTES;

/// Walks the data blocks behind a head, in pieces of any size.
///
/// What it says depends on the bytes alone, never on how they were split.
#[derive(Debug)]
pub struct BlockWalk {
    /// Entries that have data, in the order of the table of contents.
    expected: Vec<Expected>,
    /// Where an entry stands in `expected`; `None` if it has no data.
    places: HashMap<i64, Option<usize>>,
    found: Vec<DataOffset>,
    state: State,
    /// Bytes of the current piece that are still to come.
    skip: u64,
    /// The first bytes of a number or block header that a split cut.
    pending: Pending,
    position: u64,
}

/// An entry whose data must be there.
#[derive(Debug)]
struct Expected {
    label: String,
    large_objects: bool,
    found: bool,
}

/// What comes next.
#[derive(Debug)]
enum State {
    /// The header of a block, or the end.
    Header,
    /// The number of a large object, or 0.
    Object { place: usize },
    /// The length of a piece, or 0.
    Piece { place: usize, large_object: bool },
    /// Nothing: all data was there, and something stands behind it.
    Behind { start: u64 },
    /// Nothing: it is damaged.
    Damaged(String),
}

#[derive(Debug, Default)]
struct Pending {
    bytes: [u8; BLOCK_HEADER_BYTES],
    length: usize,
}

impl BlockWalk {
    /// Prepares to walk what follows `head`.
    #[must_use]
    pub fn new(head: &Head) -> Self {
        let mut expected = Vec::new();
        let mut places = HashMap::with_capacity(head.entries.len());
        for TocEntry { dump_id, label, data, large_objects, .. } in &head.entries {
            let place = (*data != DataState::None).then_some(expected.len());
            if place.is_some() {
                let (label, large_objects) = (label.clone(), *large_objects);
                expected.push(Expected { label, large_objects, found: false });
            }
            places.insert(*dump_id, place);
        }
        Self {
            expected,
            places,
            found: Vec::new(),
            state: State::Header,
            skip: 0,
            pending: Pending::default(),
            position: head.length as u64,
        }
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        let end = self.position.saturating_add(bytes.len() as u64);
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.skip > 0 {
                let skipped = usize::try_from(self.skip).map_or(rest.len(), |skip| skip.min(rest.len()));
                self.skip -= skipped as u64;
                self.position += skipped as u64;
                rest = rest.get(skipped..).unwrap_or_default();
                continue;
            }
            rest = match self.state {
                State::Header => self.take(rest, Self::take_header),
                State::Object { place } => self.take(rest, |walk, number, start| {
                    walk.take_object(place, number, start);
                }),
                State::Piece { place, large_object } => self.take(rest, |walk, number, start| {
                    walk.take_length(place, large_object, number, start);
                }),
                State::Behind { .. } | State::Damaged(_) => break,
            };
        }
        self.position = end;
    }

    /// Takes the next `N` bytes at once, or as many of them as are there; returns what is behind them.
    fn take<'a, const N: usize>(
        &mut self,
        bytes: &'a [u8],
        then: impl FnOnce(&mut Self, [u8; N], u64),
    ) -> &'a [u8] {
        let start = self.position.saturating_sub(self.pending.length as u64);
        if self.pending.length == 0
            && let Some((whole, rest)) = bytes.split_first_chunk::<N>()
        {
            self.position += N as u64;
            then(self, *whole, start);
            return rest;
        }
        let missing = N.saturating_sub(self.pending.length).min(bytes.len());
        let (taken, rest) = bytes.split_at(missing);
        for &byte in taken {
            if let Some(slot) = self.pending.bytes.get_mut(self.pending.length) {
                *slot = byte;
                self.pending.length += 1;
            }
        }
        self.position += taken.len() as u64;
        if self.pending.length >= N
            && let Some(whole) = self.pending.bytes.first_chunk::<N>().copied()
        {
            self.pending.length = 0;
            then(self, whole, start);
        }
        rest
    }

    fn take_header(&mut self, header: [u8; BLOCK_HEADER_BYTES], start: u64) {
        let [kind, number @ ..] = header;
        let place = decode_int(number).and_then(|id| Some((id, *self.places.get(&id)?)));
        let large_objects = match kind {
            BLOCK_DATA => Some(false),
            BLOCK_LARGE_OBJECTS => Some(true),
            _ => None,
        };
        let at = count(start);
        let whole = self.found.len() == self.expected.len();
        self.state = match (large_objects, place) {
            (Some(large_objects), Some((dump_id, Some(place)))) => {
                self.begin_block(DataOffset { dump_id, offset: start }, place, large_objects)
            }
            _ if whole => State::Behind { start },
            (None, _) => State::Damaged(format!("at byte {at} a data block should begin, and does not")),
            (_, Some((id, _))) => {
                State::Damaged(format!("at byte {at} begins data of entry {id}, which should have none"))
            }
            (_, None) => State::Damaged(format!(
                "at byte {at} begins data of an entry that its table of contents does not have"
            )),
        };
    }

    fn begin_block(&mut self, offset: DataOffset, place: usize, large_objects: bool) -> State {
        let Some(expected) = self.expected.get_mut(place) else { return State::Header };
        let (label, at) = (&expected.label, count(offset.offset));
        if expected.found {
            return State::Damaged(format!("the data of {label} is there twice, at byte {at} again"));
        }
        if expected.large_objects != large_objects {
            let (is, should) =
                if large_objects { ("large objects", "rows") } else { ("rows", "large objects") };
            return State::Damaged(format!(
                "the data of {label} at byte {at} are {is} and should be {should}"
            ));
        }
        expected.found = true;
        self.found.push(offset);
        if large_objects { State::Object { place } } else { State::Piece { place, large_object: false } }
    }

    fn take_object(&mut self, place: usize, number: [u8; NUMBER_BYTES], start: u64) {
        self.state = match decode_int(number) {
            Some(0) => State::Header,
            Some(_) => State::Piece { place, large_object: true },
            None => self.damaged(place, start),
        };
    }

    fn take_length(&mut self, place: usize, large_object: bool, number: [u8; NUMBER_BYTES], start: u64) {
        match decode_int(number).map(u64::try_from) {
            Some(Ok(0)) if large_object => self.state = State::Object { place },
            Some(Ok(0)) => self.state = State::Header,
            Some(Ok(length)) => self.skip = length,
            Some(Err(_)) | None => self.state = self.damaged(place, start),
        }
    }

    fn damaged(&self, place: usize, start: u64) -> State {
        State::Damaged(format!("the data of {} is damaged at byte {}", self.label(place), count(start)))
    }

    fn label(&self, place: usize) -> &str {
        self.expected.get(place).map_or("", |expected| expected.label.as_str())
    }

    /// Returns where the data of each entry begins, in order of appearance, if the archive is whole: the data of
    /// every entry of the table of contents is there once, and the last block ends exactly at the end.
    ///
    /// # Errors
    /// A sentence that says what is missing or wrong.
    pub fn finish(self) -> Result<Vec<DataOffset>, String> {
        let at = count(self.position);
        match &self.state {
            State::Damaged(why) => return Err(why.clone()),
            State::Behind { start } => return Err(behind(self.position.saturating_sub(*start))),
            State::Object { place } | State::Piece { place, .. } => {
                return Err(format!("it ends within the data of {}, after {at} bytes", self.label(*place)));
            }
            State::Header => {}
        }
        let mut missing = self.expected.iter().filter(|expected| !expected.found);
        match (missing.next(), missing.count(), self.pending.length) {
            (None, _, 0) => Ok(self.found),
            (None, _, pending) => Err(behind(pending as u64)),
            (Some(first), 0, _) => Err(format!("the data of {} is missing", first.label)),
            (Some(first), others, _) => {
                let others = if others == 1 {
                    "1 other entry".to_owned()
                } else {
                    format!("{} others", count(others as u64))
                };
                Err(format!(
                    "the data of {} and of {others} is missing: it ends after {at} bytes",
                    first.label
                ))
            }
        }
    }
}

fn behind(bytes: u64) -> String {
    let (stand, noun) = if bytes == 1 { ("stands", "byte") } else { ("stand", "bytes") };
    format!("{} {noun} {stand} behind its last block", count(bytes))
}
