//! The check of an archive of mongodump: each collection that it names comes to its end, with the right checksum.
//!
//! ```text
//! magic (4 bytes) │ header │ collection │ … │ FF FF FF FF       what it holds
//! name            │ document │ … │ FF FF FF FF                  a part of a collection; parts take turns
//! name, EOF, CRC  │ FF FF FF FF                                 the end of a collection
//! ```
//! All but the magic and the marks are BSON documents. The checksum of a collection is the CRC-64 of all its documents,
//! with the polynomial of ECMA-182 as Go and XZ compute it. What mongorestore refuses is broken here. Source:
//! `common/archive` of mongo-tools, with its `spec.md`; its rules and the checksum were held against an archive of
//! mongodump 100.5.2.

use std::collections::BTreeMap;
use std::mem;

use super::Verdict;
use super::bson::{self, Value};
use super::inspection::{Check, Finding};
use crate::path;
use crc::{CRC_64_XZ, Crc, Digest, Table};

/// First bytes of an archive.
pub(super) const MAGIC: &[u8] = &[0x6d, 0xe2, 0x99, 0x81];

static CRC64: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_XZ);

/// Ends what a document's length cannot begin.
const MARK: [u8; 4] = [0xff; 4];

/// The only version of the format so far.
const VERSION: &[u8] = b"0.1";

/// The longest document that a server makes: 16 MiB, and 16 KiB for what it adds itself.
const DOCUMENT_MAX_BYTES: usize = (16 << 20) + (16 << 10);

/// The names of collections are kept up to so many bytes together, which is more than any server copes with.
const NAMES_MAX_BYTES: usize = 32 << 20;

/// So much of a name is shown.
const NAME_SHOWN_BYTES: usize = 120;

/// What the collection is called that holds the data of a time series, before its name.
const BUCKETS: &[u8] = b"system.buckets.";

type Sum = Digest<'static, u64, Table<16>>;

/// The check of an archive of mongodump.
pub(super) struct MongoCheck {
    place: Place,
    /// The beginning of a length or a mark.
    number: Vec<u8>,
    /// How many bytes of the document are still to come; none between two.
    missing: usize,
    /// The document, where it has to be understood.
    document: Vec<u8>,
    /// By name: that of the database, a dot, that of the collection.
    collections: BTreeMap<Vec<u8>, Collection>,
    names_bytes: usize,
    /// Whether a collection came to its end without a checksum.
    lacks_sums: bool,
    /// Why it cannot be read on.
    failure: Option<Verdict>,
}

/// Where in the archive the next bytes belong.
enum Place {
    /// The magic.
    Magic,
    /// The document that describes the archive.
    Header,
    /// The collections that it holds.
    Collections,
    /// Between two parts: the only place at which an archive may end.
    Between,
    /// Documents of a collection, summed up to here.
    Part(Vec<u8>, Sum),
    /// Behind the document that ends a collection.
    End(Vec<u8>),
}

/// What came of a collection.
struct Collection {
    /// Whether its data may come under the name of its buckets.
    is_time_series: bool,
    state: State,
}

enum State {
    Announced,
    Open(Sum),
    Ended,
}

impl MongoCheck {
    /// Prepares to check an archive.
    pub(super) fn new() -> Self {
        Self {
            place: Place::Magic,
            number: Vec::with_capacity(MARK.len()),
            missing: 0,
            document: Vec::new(),
            collections: BTreeMap::new(),
            names_bytes: 0,
            lacks_sums: false,
            failure: None,
        }
    }

    /// Takes some of `bytes`, of which there are some, and returns the rest.
    fn take<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Verdict> {
        if self.missing > 0 {
            let (piece, rest) = bytes.split_at(self.missing.min(bytes.len()));
            self.take_piece(piece)?;
            return Ok(rest);
        }
        let lacking = MARK.len() - self.number.len();
        let (piece, rest) = bytes.split_at(lacking.min(bytes.len()));
        self.number.extend_from_slice(piece);
        if let Ok(number) = <[u8; 4]>::try_from(self.number.as_slice()) {
            self.number.clear();
            self.take_number(number)?;
        }
        Ok(rest)
    }

    /// Takes what stands where a document begins or a mark.
    fn take_number(&mut self, number: [u8; 4]) -> Result<(), Verdict> {
        if matches!(self.place, Place::Magic) {
            self.place = Place::Header;
            return if number == MAGIC { Ok(()) } else { Err(self.damaged()) };
        }
        if number == MARK {
            return self.take_mark();
        }
        let length = usize::try_from(i32::from_le_bytes(number)).unwrap_or_default();
        if !(bson::DOCUMENT_MIN_BYTES..=DOCUMENT_MAX_BYTES).contains(&length) {
            return Err(self.damaged());
        }
        match &mut self.place {
            Place::Part(_, sum) => sum.update(&number),
            Place::End(name) => return Err(goes_on(name)),
            _ => self.document.extend_from_slice(&number),
        }
        self.missing = length - number.len();
        Ok(())
    }

    /// Takes a mark, which ends what is under way.
    fn take_mark(&mut self) -> Result<(), Verdict> {
        match mem::replace(&mut self.place, Place::Between) {
            Place::Collections | Place::End(_) => Ok(()),
            Place::Part(name, sum) => {
                if let Some(collection) = self.collections.get_mut(&name) {
                    collection.state = State::Open(sum);
                }
                Ok(())
            }
            place @ (Place::Magic | Place::Header | Place::Between) => {
                self.place = place;
                Err(self.damaged())
            }
        }
    }

    /// Takes a piece of a document.
    fn take_piece(&mut self, piece: &[u8]) -> Result<(), Verdict> {
        self.missing -= piece.len();
        match &mut self.place {
            Place::Part(_, sum) => {
                sum.update(piece);
                let ends_well = self.missing > 0 || piece.last() == Some(&0);
                return if ends_well { Ok(()) } else { Err(self.damaged()) };
            }
            _ => self.document.extend_from_slice(piece),
        }
        if self.missing > 0 {
            return Ok(());
        }
        let document = mem::take(&mut self.document);
        match self.place {
            Place::Header => self.take_header(&document),
            Place::Collections => self.take_collection(&document),
            _ => self.take_name(&document),
        }
    }

    /// Takes the document that describes the archive.
    fn take_header(&mut self, document: &[u8]) -> Result<(), Verdict> {
        let mut version = None;
        let read = bson::each_field(document, &mut |name, value| {
            if let (b"version", Value::Text(text)) = (name, value) {
                version = Some(text);
            }
        });
        match (read, version) {
            (Some(()), Some(VERSION)) => {
                self.place = Place::Collections;
                Ok(())
            }
            (Some(()), Some(version)) => {
                Err(Verdict::Unchecked(format!("its version, {}, is not known", shown(version))))
            }
            _ => Err(self.damaged()),
        }
    }

    /// Takes a document that announces a collection.
    fn take_collection(&mut self, document: &[u8]) -> Result<(), Verdict> {
        let announced = Named::read(document).ok_or_else(|| self.damaged())?;
        let Named { name, is_time_series, .. } = announced;
        self.collection(name)?.is_time_series |= is_time_series;
        Ok(())
    }

    /// Takes a document that names the collection of a part, or ends one.
    fn take_name(&mut self, document: &[u8]) -> Result<(), Verdict> {
        let Named { name, ends, sum: expected, .. } = Named::read(document).ok_or_else(|| self.damaged())?;
        let collection = self.collection(name.clone())?;
        let sum = match mem::replace(&mut collection.state, State::Ended) {
            State::Announced => CRC64.digest(),
            State::Open(sum) => sum,
            State::Ended => return Err(goes_on(&name)),
        };
        if !ends {
            self.place = Place::Part(name, sum);
            return Ok(());
        }
        match expected {
            // Written as a signed number, of which every bit counts.
            Some(expected) if expected.cast_unsigned() == sum.finalize() => {}
            Some(_) => {
                let why = format!("the checksum of {} does not match its documents", shown(&name));
                return Err(Verdict::Broken(why));
            }
            None => self.lacks_sums = true,
        }
        self.place = Place::End(name);
        Ok(())
    }

    /// Returns a collection, which is new if it was not announced.
    fn collection(&mut self, name: Vec<u8>) -> Result<&mut Collection, Verdict> {
        if !self.collections.contains_key(&name) {
            self.names_bytes += name.len();
            if self.names_bytes > NAMES_MAX_BYTES {
                return Err(Verdict::Unchecked(
                    "it holds too many collections to follow them all".to_owned(),
                ));
            }
        }
        let new = || Collection { is_time_series: false, state: State::Announced };
        Ok(self.collections.entry(name).or_insert_with(new))
    }

    fn verdict(self) -> Verdict {
        if let Some(failure) = self.failure {
            return failure;
        }
        let is_between = self.missing == 0 && self.number.is_empty();
        match &self.place {
            Place::Magic | Place::Header | Place::Collections => {
                Verdict::Broken("it is cut short before its first collection".to_owned())
            }
            Place::Part(name, _) | Place::End(name) => {
                Verdict::Broken(format!("it is cut short within {}", shown(name)))
            }
            Place::Between if !is_between => {
                Verdict::Broken("it is cut short between two collections".to_owned())
            }
            Place::Between => self.verdict_at_end(),
        }
    }

    /// Returns the verdict on an archive that ends where one may end.
    fn verdict_at_end(&self) -> Verdict {
        let mut unfinished =
            self.collections.iter().filter(|(name, collection)| !self.has_ended(name, collection));
        if let Some((first, _)) = unfinished.next() {
            let more = match unfinished.count() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            return Verdict::Broken(format!("it ends before the end of {}{more}", shown(first)));
        }
        if self.lacks_sums {
            return Verdict::Unchecked("its collections have no checksums".to_owned());
        }
        Verdict::Whole
    }

    /// Tells whether the data of a collection came to its end. That of a time series may lie in its buckets.
    fn has_ended(&self, name: &[u8], collection: &Collection) -> bool {
        let ended = |collection: &Collection| matches!(collection.state, State::Ended);
        let in_buckets = || {
            let dot = memchr::memchr(b'.', name)?;
            let (database, name) = name.split_at(dot + 1);
            self.collections.get(&[database, BUCKETS, name].concat())
        };
        ended(collection)
            || collection.is_time_series
                && matches!(collection.state, State::Announced)
                && in_buckets().is_some_and(ended)
    }

    /// Returns the verdict on what is of no meaning where it stands.
    fn damaged(&self) -> Verdict {
        Verdict::Broken(match &self.place {
            Place::Part(name, _) | Place::End(name) => format!("it is damaged within {}", shown(name)),
            Place::Magic | Place::Header | Place::Collections => {
                "it is damaged before its first collection".to_owned()
            }
            Place::Between => "it is damaged between two collections".to_owned(),
        })
    }
}

impl Check for MongoCheck {
    fn feed(&mut self, mut bytes: &[u8]) {
        while self.failure.is_none() && !bytes.is_empty() {
            match self.take(bytes) {
                Ok(rest) => bytes = rest,
                Err(failure) => self.failure = Some(failure),
            }
        }
    }

    fn finish(self: Box<Self>) -> Finding {
        self.verdict().into()
    }
}

/// What a document says that names a collection.
struct Named {
    name: Vec<u8>,
    is_time_series: bool,
    /// Whether it ends the collection.
    ends: bool,
    /// The checksum of the collection, if it has one.
    sum: Option<i64>,
}

impl Named {
    fn read(document: &[u8]) -> Option<Self> {
        let (mut database, mut collection): (Option<&[u8]>, Option<&[u8]>) = (None, None);
        let (mut is_time_series, mut ends, mut sum) = (false, false, None);
        bson::each_field(document, &mut |name, value| match (name, value) {
            (b"db", Value::Text(text)) => database = Some(text),
            (b"collection", Value::Text(text)) => collection = Some(text),
            (b"type", Value::Text(text)) => is_time_series = text == b"timeseries",
            (b"EOF", Value::Bool(flag)) => ends = flag,
            (b"CRC", Value::Integer(number)) => sum = Some(number),
            _ => {}
        })?;
        // The log of changes belongs to no database, and its name is empty.
        let (database, collection) = (database?, collection.filter(|name| !name.is_empty())?);
        Some(Self { name: [database, b".", collection].concat(), is_time_series, ends, sum })
    }
}

/// Returns the verdict on a collection of which more comes when it has ended.
fn goes_on(name: &[u8]) -> Verdict {
    Verdict::Broken(format!("{} goes on behind its end", shown(name)))
}

/// Returns a name, safe for terminals, its end cut if it is long.
fn shown(name: &[u8]) -> String {
    let name = name.strip_prefix(b".").unwrap_or(name);
    match name.get(..NAME_SHOWN_BYTES) {
        Some(beginning) if beginning.len() < name.len() => format!("{}…", path::escape(beginning)),
        _ => path::escape(name),
    }
}

#[cfg(test)]
mod tests;
