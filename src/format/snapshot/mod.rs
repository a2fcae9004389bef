//! Snapshots, tombstones, and the marks of sessions and snapshots: small sealed JSON objects.
//!
//! This file owns what they mean and which rules they keep; the names of their fields in a store are in `stored`.

mod stored;

use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::stored::{StoredMark, StoredSessionMark, StoredSnapshot};
use super::FormatError;
use super::header::{ObjectKeys, ObjectKind, open_object, seal_object};
use super::json;
use super::tree::{Attributes, TreeRef};
use crate::crypto::seal::SealKey;
use crate::crypto::secrets::{DomainKeys, HOST_MAX_BYTES, Writer, WriterClass};
use crate::id::{PackId, SessionId};
use crate::path::Name;
use crate::process::Process;

/// Longest name of a source in bytes.
pub const SOURCE_MAX_BYTES: usize = 100;
/// Longest tag in bytes.
pub const TAG_MAX_BYTES: usize = 255;
/// Most bytes of a mark of a session or of a snapshot.
pub const MARK_MAX_BYTES: usize = 64 << 10;

/// Whether all of a source came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completeness {
    /// Everything did.
    Complete,
    /// Some files could not be read; the snapshot says how many.
    Partial,
    /// A recognised dump that is not whole: never `latest` before it is accepted.
    Suspicious,
}

/// Sums over a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SnapshotTotals {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Everything else.
    pub others: u64,
    /// Bytes of regular files; hard links count once.
    pub bytes: u64,
    /// Plain bytes that were new to the store.
    pub added_bytes: u64,
    /// Bytes that the new packs take.
    pub stored_bytes: u64,
    /// Files that could not be read.
    pub failed_files: u64,
}

/// What was found out about a stream while it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump {
    /// What it was recognised as, outermost first (`gzip`, then `pg-custom`); none if it was not.
    pub formats: Vec<String>,
    /// Whether it is whole.
    pub check: DumpCheck,
    /// Why it is not, or was not checked; empty for one that is whole.
    pub reason: String,
    /// Whether most of it came compressed, so that the store can neither deduplicate nor delta-compress it.
    pub compressed: bool,
    /// How many offsets were filled in that the dump command could not write into a pipe.
    pub filled_offsets: u64,
}

/// Whether a stream is whole, by the rules of its format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DumpCheck {
    /// It has everything up to its own end.
    Whole,
    /// Its format is not known, or it was not to be checked.
    Unchecked,
    /// It is cut short or damaged.
    Broken,
}

/// One of several commands of one snapshot, and what it wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The name of the file in the root. Raw bytes.
    pub name: Vec<u8>,
    /// The command, argument by argument.
    pub command: Vec<Vec<u8>>,
    /// What was found out about the file.
    pub dump: Dump,
}

/// One committed backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The snapshot's id: that of its session.
    pub id: SessionId,
    /// When its session began, or the time that its source is said to be of.
    pub time: jiff::Timestamp,
    /// When it was committed by the writer's clock.
    pub finished: jiff::Timestamp,
    /// Name of the source, `[A-Za-z0-9._-]+`.
    pub source: String,
    /// Name of the host.
    pub host: String,
    /// Tags, sorted, without duplicates.
    pub tags: Vec<String>,
    /// What was given: absolute paths for trees, the `--as` name for streams, the names of all files for several
    /// commands. Raw bytes.
    pub paths: Vec<Vec<u8>>,
    /// The command whose output this is, argument by argument, where there was one; the first of several.
    pub command: Option<Vec<Vec<u8>>>,
    /// Whether all came in.
    pub completeness: Completeness,
    /// Metadata of the root directory itself.
    pub root_attributes: Attributes,
    /// The root directory.
    pub root: TreeRef,
    /// Tree packs that this session wrote or used, so that a distant reader can begin with them.
    pub tree_packs: Vec<PackId>,
    /// Sums.
    pub totals: SnapshotTotals,
    /// What was found out about a stream; nothing for file trees, and in snapshots of older programs. Of several files
    /// that commands wrote, the first of the worst.
    pub dump: Option<Dump>,
    /// Each command and its file, in the order in which they ran, where there were several.
    pub outputs: Vec<Output>,
    /// Version of the program that wrote it.
    pub program: String,
    /// The id of the snapshot that this one is a copy of, where it was made first; nothing for one that is no copy.
    pub origin: Option<SessionId>,
}

/// What lies under `snapshots/<sid>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotObject {
    /// A commit.
    Manifest(Box<Manifest>),
    /// A fence: this session can never commit.
    Tombstone {
        /// When it was fenced, by the fencer's clock.
        time: jiff::Timestamp,
    },
}

impl SnapshotObject {
    /// Most bytes of such an object.
    pub const MAX_BYTES: u64 = 16 << 20;

    /// Seals for `snapshots/<id>`.
    ///
    /// # Errors
    /// Fails if a rule is broken, the object is too large, or `keys` cannot write as `writer`.
    pub fn seal(&self, id: SessionId, keys: &DomainKeys, writer: &Writer) -> Result<Vec<u8>, FormatError> {
        self.seal_keeping_key(id, keys, writer).map(|(bytes, _)| bytes)
    }

    /// Seals as [`Self::seal`] does, and returns the object's key as well: a writer that holds an ingest-only key learns
    /// it at no other time.
    ///
    /// # Errors
    /// As for [`Self::seal`].
    pub fn seal_keeping_key(
        &self,
        id: SessionId,
        keys: &DomainKeys,
        writer: &Writer,
    ) -> Result<(Vec<u8>, SealKey), FormatError> {
        self.check(id, writer)?;
        SNAPSHOT.seal_keeping_key(keys, writer, &snapshot_key(id), &StoredSnapshot::from(self))
    }

    /// Opens what lies under `snapshots/<id>`.
    ///
    /// The id inside must be the same, and an ingest-only writer's host must be the manifest's.
    ///
    /// # Errors
    /// [`FormatError::Seal`] if it was not sealed for this place, [`FormatError::Malformed`] if a rule is broken.
    pub fn open(id: SessionId, keys: &impl ObjectKeys, bytes: &[u8]) -> Result<(Writer, Self), FormatError> {
        let (writer, stored) = SNAPSHOT.open::<StoredSnapshot>(keys, &snapshot_key(id), bytes)?;
        let object = Self::try_from(stored)?;
        object.check(id, &writer)?;
        Ok((writer, object))
    }

    fn check(&self, id: SessionId, writer: &Writer) -> Result<(), FormatError> {
        match self {
            Self::Manifest(manifest) => manifest.check(id, writer),
            Self::Tombstone { .. } if writer.class == WriterClass::IngestOnly => {
                Err(SNAPSHOT.broken("an ingest-only writer fenced a session"))
            }
            Self::Tombstone { time } => SNAPSHOT.check_time(*time),
        }
    }
}

impl Manifest {
    /// Returns the id that all copies of the snapshot have in common: its own, or that of its origin.
    #[must_use]
    pub fn identity(&self) -> SessionId {
        self.origin.unwrap_or(self.id)
    }

    /// Returns what was found out about each file that came as a stream, with its name where there are several.
    pub fn dumps(&self) -> impl Iterator<Item = (Option<&[u8]>, &Dump)> {
        let single = self.dump.iter().filter(|_| self.outputs.is_empty()).map(|dump| (None, dump));
        single.chain(self.outputs.iter().map(|output| (Some(output.name.as_slice()), &output.dump)))
    }

    fn check(&self, id: SessionId, writer: &Writer) -> Result<(), FormatError> {
        if self.id != id {
            return Err(SNAPSHOT.broken(format!("its id is {}, its place that of {id}", self.id)));
        }
        // Either may be the earlier one, since a clock may be set back while a session runs.
        SNAPSHOT.check_time(self.time)?;
        SNAPSHOT.check_time(self.finished)?;
        SNAPSHOT.check_source(&self.source)?;
        if !is_host_name(&self.host) {
            return Err(SNAPSHOT.broken(format!("{:?} is not the name of a host", self.host)));
        }
        if writer.class == WriterClass::IngestOnly && writer.host != self.host {
            let why =
                format!("an ingest-only writer of host {:?} wrote for host {:?}", writer.host, self.host);
            return Err(SNAPSHOT.broken(why));
        }
        if let Some(tag) = self.tags.iter().find(|tag| !is_tag(tag)) {
            return Err(SNAPSHOT.broken(format!("{tag:?} is not a tag")));
        }
        if !self.tags.is_sorted_by(|before, after| before < after) {
            return Err(SNAPSHOT.broken("its tags are not sorted, or one stands twice"));
        }
        let packs: BTreeSet<_> = self.tree_packs.iter().collect();
        if packs.len() != self.tree_packs.len() {
            return Err(SNAPSHOT.broken("a tree pack stands twice"));
        }
        Ok(())
    }
}

/// Tells whether a text can name a source: 1 to 100 of `A-Z a-z 0-9 . _ -`, but not `.` or `..`.
#[must_use]
pub fn is_source_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    text.len() <= SOURCE_MAX_BYTES && text.bytes().all(allowed) && Name::new(text.as_bytes()).is_ok()
}

/// Tells whether a text can name a host: 1 to 255 bytes that can name a directory of a mount, too.
#[must_use]
pub fn is_host_name(text: &str) -> bool {
    text.len() <= HOST_MAX_BYTES && Name::new(text.as_bytes()).is_ok()
}

/// Tells whether a text can be a tag: 1 to 255 bytes that can name a directory of a mount, too.
#[must_use]
pub fn is_tag(text: &str) -> bool {
    text.len() <= TAG_MAX_BYTES && Name::new(text.as_bytes()).is_ok()
}

/// A mark of a session: 0 opens it, later ones show that it lives. Under `sessions/<sid>.<n>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionMark {
    /// When, by the writer's clock.
    pub time: jiff::Timestamp,
    /// The source that is written.
    pub source: String,
    /// The process that writes, for who waits for it on the same host.
    pub process: Process,
}

impl SessionMark {
    /// Seals for `sessions/<sid>.<n>`.
    ///
    /// # Errors
    /// Fails if a rule is broken, or `keys` cannot write as `writer`.
    pub fn seal(
        &self,
        session: SessionId,
        number: u32,
        keys: &DomainKeys,
        writer: &Writer,
    ) -> Result<Vec<u8>, FormatError> {
        self.check()?;
        SESSION_MARK.seal(
            keys,
            writer,
            &format!("sessions/{session}.{number}"),
            &StoredSessionMark::from(self),
        )
    }

    /// Opens.
    ///
    /// # Errors
    /// [`FormatError::Seal`] if it was not sealed for this place, [`FormatError::Malformed`] if a rule is broken.
    pub fn open(
        session: SessionId,
        number: u32,
        keys: &impl ObjectKeys,
        bytes: &[u8],
    ) -> Result<(Writer, Self), FormatError> {
        let key = format!("sessions/{session}.{number}");
        let (writer, stored) = SESSION_MARK.open::<StoredSessionMark>(keys, &key, bytes)?;
        let mark = Self::from(stored);
        mark.check()?;
        Ok((writer, mark))
    }

    fn check(&self) -> Result<(), FormatError> {
        SESSION_MARK.check_time(self.time)?;
        SESSION_MARK.check_source(&self.source)
    }
}

/// What a mark says of its snapshot, on one of three axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkState {
    /// To be collected after the grace period.
    Forgotten,
    /// Forgetting was undone.
    Restored,
    /// Never to be forgotten.
    Protected,
    /// Protection ended.
    Unprotected,
    /// A suspicious snapshot that is good after all.
    Accepted,
}

/// What all marks of a snapshot say together: on each axis, what the highest-numbered mark of that axis says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks {
    /// It was forgotten, and not restored since. Ask [`Self::is_forgotten`] whether that counts.
    pub forgotten: bool,
    /// It was protected, and not unprotected since.
    pub protected: bool,
    /// It was accepted.
    pub accepted: bool,
}

impl Marks {
    /// Takes in what the mark with the next higher number says: it counts more than those before it on its axis, and
    /// changes nothing on the others.
    pub fn add(&mut self, state: MarkState) {
        match state {
            MarkState::Forgotten => self.forgotten = true,
            MarkState::Restored => self.forgotten = false,
            MarkState::Protected => self.protected = true,
            MarkState::Unprotected => self.protected = false,
            MarkState::Accepted => self.accepted = true,
        }
    }

    /// Tells whether the snapshot is gone for those who list and may be collected: forgotten, and not protected.
    ///
    /// Two hosts may say both at once, and only keeping can be undone.
    #[must_use]
    pub fn is_forgotten(self) -> bool {
        self.forgotten && !self.protected
    }

    /// Tells whether another mark of this state would change nothing.
    #[must_use]
    pub fn say(self, state: MarkState) -> bool {
        let mut then = self;
        then.add(state);
        then == self
    }
}

impl FromIterator<MarkState> for Marks {
    /// Joins the states of all marks of a snapshot, that with the lowest number first.
    fn from_iter<I: IntoIterator<Item = MarkState>>(states: I) -> Self {
        let mut marks = Self::default();
        states.into_iter().for_each(|state| marks.add(state));
        marks
    }
}

/// A mark of a snapshot, under `marks/<sid>.<n>`; the highest n of its axis counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// When, by the marker's clock.
    pub time: jiff::Timestamp,
    /// What it says.
    pub state: MarkState,
}

impl Mark {
    /// Seals for `marks/<sid>.<n>`.
    ///
    /// # Errors
    /// Fails if a rule is broken, or `keys` cannot write as `writer`.
    pub fn seal(
        &self,
        snapshot: SessionId,
        number: u32,
        keys: &DomainKeys,
        writer: &Writer,
    ) -> Result<Vec<u8>, FormatError> {
        self.check(writer)?;
        MARK.seal(keys, writer, &format!("marks/{snapshot}.{number}"), &StoredMark::from(self))
    }

    /// Opens.
    ///
    /// # Errors
    /// [`FormatError::Seal`] if it was not sealed for this place, [`FormatError::Malformed`] if a rule is broken.
    pub fn open(
        snapshot: SessionId,
        number: u32,
        keys: &impl ObjectKeys,
        bytes: &[u8],
    ) -> Result<(Writer, Self), FormatError> {
        let (writer, stored) = MARK.open::<StoredMark>(keys, &format!("marks/{snapshot}.{number}"), bytes)?;
        let mark = Self::from(stored);
        mark.check(&writer)?;
        Ok((writer, mark))
    }

    /// A host that was taken over must not be able to have backups deleted, so its marks can only keep them.
    fn check(&self, writer: &Writer) -> Result<(), FormatError> {
        MARK.check_time(self.time)?;
        if writer.class == WriterClass::IngestOnly && self.state != MarkState::Protected {
            return Err(MARK.broken("an ingest-only writer can protect a snapshot and nothing else"));
        }
        Ok(())
    }
}

/// What the three kinds of objects have in common.
struct Form {
    kind: ObjectKind,
    max_bytes: usize,
}

const SNAPSHOT: Form = Form { kind: ObjectKind::Snapshot, max_bytes: 16 << 20 };
const SESSION_MARK: Form = Form { kind: ObjectKind::SessionMark, max_bytes: MARK_MAX_BYTES };
const MARK: Form = Form { kind: ObjectKind::Mark, max_bytes: MARK_MAX_BYTES };

impl Form {
    fn seal(
        &self,
        keys: &DomainKeys,
        writer: &Writer,
        store_key: &str,
        value: &impl Serialize,
    ) -> Result<Vec<u8>, FormatError> {
        self.seal_keeping_key(keys, writer, store_key, value).map(|(object, _)| object)
    }

    fn seal_keeping_key(
        &self,
        keys: &DomainKeys,
        writer: &Writer,
        store_key: &str,
        value: &impl Serialize,
    ) -> Result<(Vec<u8>, SealKey), FormatError> {
        let name = self.kind.name();
        let body = serde_json::to_vec(value).map_err(|error| json::malformed(name, &error))?;
        let (object, key) = seal_object(self.kind, keys, writer, store_key, &body)?;
        self.check_length(&object)?;
        Ok((object, key))
    }

    fn open<T: DeserializeOwned>(
        &self,
        keys: &impl ObjectKeys,
        store_key: &str,
        bytes: &[u8],
    ) -> Result<(Writer, T), FormatError> {
        self.check_length(bytes)?;
        let (writer, body) = open_object(self.kind, keys, store_key, bytes)?;
        Ok((writer, json::decode(self.kind.name(), &body, self.max_bytes)?))
    }

    fn check_length(&self, object: &[u8]) -> Result<(), FormatError> {
        if object.len() > self.max_bytes {
            return Err(self.broken(format!("it has more than {} bytes", self.max_bytes)));
        }
        Ok(())
    }

    fn check_time(&self, time: jiff::Timestamp) -> Result<(), FormatError> {
        if time < jiff::Timestamp::UNIX_EPOCH {
            return Err(self.broken(format!("its time {time} lies before 1970")));
        }
        Ok(())
    }

    fn check_source(&self, source: &str) -> Result<(), FormatError> {
        if !is_source_name(source) {
            return Err(self.broken(format!("{source:?} is not the name of a source")));
        }
        Ok(())
    }

    fn broken(&self, why: impl Into<String>) -> FormatError {
        FormatError::malformed(self.kind.name(), why)
    }
}

fn snapshot_key(id: SessionId) -> String {
    format!("snapshots/{id}")
}

#[cfg(test)]
mod tests;
