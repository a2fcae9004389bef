//! The JSON of snapshots and marks: the names of fields here are those in a store.
//!
//! Fields are only ever added, and a field that is added is optional; so programs of any age read each other's.

use serde::{Deserialize, Serialize};

use super::{
    Completeness, Dump, DumpCheck, Manifest, Mark, MarkState, Output, SessionMark, SnapshotObject,
    SnapshotTotals,
};
use crate::format::FormatError;
use crate::format::json::{Base64, RawText, Text};
use crate::format::tree::{TreeRef, decode_attributes, encode_attributes};
use crate::id::{ChunkId, PackId, SessionId};
use crate::process::Process;

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(super) enum StoredSnapshot {
    Manifest(Box<StoredManifest>),
    Tombstone { time: Text<jiff::Timestamp> },
}

#[derive(Serialize, Deserialize)]
pub(super) struct StoredManifest {
    id: Text<SessionId>,
    time: Text<jiff::Timestamp>,
    finished: Text<jiff::Timestamp>,
    source: String,
    host: String,
    tags: Vec<String>,
    paths: Vec<RawText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command: Option<Vec<RawText>>,
    completeness: StoredCompleteness,
    root: StoredRoot,
    tree_packs: Vec<Text<PackId>>,
    totals: StoredTotals,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dump: Option<StoredDump>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    outputs: Vec<StoredOutput>,
    program: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<Text<SessionId>>,
}

#[derive(Serialize, Deserialize)]
struct StoredDump {
    formats: Vec<String>,
    check: StoredDumpCheck,
    reason: String,
    compressed: bool,
    filled_offsets: u64,
}

#[derive(Serialize, Deserialize)]
struct StoredOutput {
    name: RawText,
    command: Vec<RawText>,
    dump: StoredDump,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredDumpCheck {
    Whole,
    Unchecked,
    Broken,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredCompleteness {
    Complete,
    Partial,
    Suspicious,
}

#[derive(Serialize, Deserialize)]
struct StoredRoot {
    page: Text<ChunkId>,
    entries: u64,
    bytes: u64,
    attributes: Base64,
}

#[derive(Serialize, Deserialize)]
struct StoredTotals {
    files: u64,
    directories: u64,
    others: u64,
    bytes: u64,
    added_bytes: u64,
    stored_bytes: u64,
    failed_files: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct StoredSessionMark {
    time: Text<jiff::Timestamp>,
    source: String,
    pid: u32,
    #[serde(default, skip_serializing_if = "is_unknown")]
    start: i64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    boot: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_unknown(start: &i64) -> bool {
    *start == 0
}

#[derive(Serialize, Deserialize)]
pub(super) struct StoredMark {
    time: Text<jiff::Timestamp>,
    state: StoredMarkState,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredMarkState {
    Forgotten,
    Restored,
    Protected,
    Unprotected,
    Accepted,
}

impl From<&SnapshotObject> for StoredSnapshot {
    fn from(object: &SnapshotObject) -> Self {
        match object {
            SnapshotObject::Manifest(manifest) => Self::Manifest(Box::new(manifest.as_ref().into())),
            SnapshotObject::Tombstone { time } => Self::Tombstone { time: Text(*time) },
        }
    }
}

impl TryFrom<StoredSnapshot> for SnapshotObject {
    type Error = FormatError;

    fn try_from(stored: StoredSnapshot) -> Result<Self, FormatError> {
        match stored {
            StoredSnapshot::Manifest(manifest) => Ok(Self::Manifest(Box::new((*manifest).try_into()?))),
            StoredSnapshot::Tombstone { time } => Ok(Self::Tombstone { time: time.0 }),
        }
    }
}

impl From<&Manifest> for StoredManifest {
    fn from(manifest: &Manifest) -> Self {
        Self {
            id: Text(manifest.id),
            time: Text(manifest.time),
            finished: Text(manifest.finished),
            source: manifest.source.clone(),
            host: manifest.host.clone(),
            tags: manifest.tags.clone(),
            paths: to_raw_texts(&manifest.paths),
            command: manifest.command.as_deref().map(to_raw_texts),
            completeness: manifest.completeness.into(),
            root: StoredRoot {
                page: Text(manifest.root.page),
                entries: manifest.root.entries,
                bytes: manifest.root.bytes,
                attributes: Base64(encode_attributes(&manifest.root_attributes)),
            },
            tree_packs: manifest.tree_packs.iter().copied().map(Text).collect(),
            totals: manifest.totals.into(),
            dump: manifest.dump.clone().map(StoredDump::from),
            outputs: manifest.outputs.iter().cloned().map(StoredOutput::from).collect(),
            program: manifest.program.clone(),
            origin: manifest.origin.map(Text),
        }
    }
}

impl TryFrom<StoredManifest> for Manifest {
    type Error = FormatError;

    fn try_from(stored: StoredManifest) -> Result<Self, FormatError> {
        let StoredRoot { page, entries, bytes, attributes } = stored.root;
        Ok(Self {
            id: stored.id.0,
            time: stored.time.0,
            finished: stored.finished.0,
            source: stored.source,
            host: stored.host,
            tags: stored.tags,
            paths: from_raw_texts(stored.paths),
            command: stored.command.map(from_raw_texts),
            completeness: stored.completeness.into(),
            root_attributes: decode_attributes(&attributes.0)?,
            root: TreeRef { page: page.0, entries, bytes },
            tree_packs: stored.tree_packs.into_iter().map(|pack| pack.0).collect(),
            totals: stored.totals.into(),
            dump: stored.dump.map(Dump::from),
            outputs: stored.outputs.into_iter().map(Output::from).collect(),
            program: stored.program,
            origin: stored.origin.map(|origin| origin.0),
        })
    }
}

impl From<&SessionMark> for StoredSessionMark {
    fn from(mark: &SessionMark) -> Self {
        let Process { pid, start, boot } = mark.process.clone();
        Self { time: Text(mark.time), source: mark.source.clone(), pid, start, boot }
    }
}

impl From<StoredSessionMark> for SessionMark {
    fn from(stored: StoredSessionMark) -> Self {
        let process = Process { pid: stored.pid, start: stored.start, boot: stored.boot };
        Self { time: stored.time.0, source: stored.source, process }
    }
}

impl From<&Mark> for StoredMark {
    fn from(mark: &Mark) -> Self {
        Self { time: Text(mark.time), state: mark.state.into() }
    }
}

impl From<StoredMark> for Mark {
    fn from(stored: StoredMark) -> Self {
        Self { time: stored.time.0, state: stored.state.into() }
    }
}

/// Converts between a type of the format and its stored twin that has the same variants or fields.
macro_rules! twins {
    (enum $plain:ident, $stored:ident: $($variant:ident)*) => {
        impl From<$plain> for $stored {
            fn from(plain: $plain) -> Self {
                match plain { $($plain::$variant => Self::$variant,)* }
            }
        }

        impl From<$stored> for $plain {
            fn from(stored: $stored) -> Self {
                match stored { $($stored::$variant => Self::$variant,)* }
            }
        }
    };
    (struct $plain:ident, $stored:ident: $($field:ident)*) => {
        impl From<$plain> for $stored {
            fn from(plain: $plain) -> Self {
                let $plain { $($field),* } = plain;
                Self { $($field),* }
            }
        }

        impl From<$stored> for $plain {
            fn from(stored: $stored) -> Self {
                let $stored { $($field),* } = stored;
                Self { $($field),* }
            }
        }
    };
}
twins!(enum Completeness, StoredCompleteness: Complete Partial Suspicious);
twins!(enum MarkState, StoredMarkState: Forgotten Restored Protected Unprotected Accepted);
twins!(enum DumpCheck, StoredDumpCheck: Whole Unchecked Broken);
twins!(struct SnapshotTotals, StoredTotals:
    files directories others bytes added_bytes stored_bytes failed_files);

impl From<Dump> for StoredDump {
    fn from(dump: Dump) -> Self {
        let Dump { formats, check, reason, compressed, filled_offsets } = dump;
        Self { formats, check: check.into(), reason, compressed, filled_offsets }
    }
}

impl From<StoredDump> for Dump {
    fn from(stored: StoredDump) -> Self {
        let StoredDump { formats, check, reason, compressed, filled_offsets } = stored;
        Self { formats, check: check.into(), reason, compressed, filled_offsets }
    }
}

impl From<Output> for StoredOutput {
    fn from(output: Output) -> Self {
        let Output { name, command, dump } = output;
        Self { name: RawText(name), command: to_raw_texts(&command), dump: dump.into() }
    }
}

impl From<StoredOutput> for Output {
    fn from(stored: StoredOutput) -> Self {
        let StoredOutput { name, command, dump } = stored;
        Self { name: name.0, command: from_raw_texts(command), dump: dump.into() }
    }
}

fn to_raw_texts(texts: &[Vec<u8>]) -> Vec<RawText> {
    texts.iter().cloned().map(RawText).collect()
}

fn from_raw_texts(texts: Vec<RawText>) -> Vec<Vec<u8>> {
    texts.into_iter().map(|text| text.0).collect()
}
