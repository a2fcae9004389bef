//! Reads a stream into the session: a snapshot of one file.

use std::io::Read;

use jiff::Timestamp;

use super::exclude::ExcludedStats;
use super::failures::{Failures, ReadError};
use super::file::ContentWriter;
use super::metadata::OwnerNames;
use super::{IngestError, IngestOptions, Taken};
use crate::crypto::hash::ChunkKind;
use crate::format::content::Content;
use crate::format::snapshot::SnapshotTotals;
use crate::format::tree::{Attributes, Entry, EntryKind, Time, TreeBuilder};
use crate::path::Name;
use crate::progress::{Event, Progress};
use crate::repo::Repository;
use crate::repo::session::SessionWriter;

/// Permissions of the one file: a dump is nobody else's business.
const FILE_MODE: u16 = 0o600;
/// Permissions of the directory around it.
const DIRECTORY_MODE: u16 = 0o700;

/// Reads `reader` to its end as the file `name`.
pub(super) fn take(
    repo: &Repository,
    session: &SessionWriter,
    name: &Name,
    mut reader: impl Read,
    options: &IngestOptions,
    progress: &dyn Progress,
) -> Result<Taken, IngestError> {
    let (content, bytes) = read(repo, session, &mut reader, progress).map_err(|error| match error {
        ReadError::File(source) => IngestError::Read(name.to_string(), source),
        ReadError::Fatal(error) => error,
    })?;
    check_size(name, bytes, options)?;
    snapshot_of(repo, session, name, content, bytes)
}

/// Stores all that `reader` yields; returns the content and the number of bytes.
pub(super) fn read(
    repo: &Repository,
    session: &SessionWriter,
    reader: &mut impl Read,
    progress: &dyn Progress,
) -> Result<(Content, u64), ReadError> {
    let mut writer = ContentWriter::new(repo, session);
    writer.append_observed(reader, &mut |bytes| progress.event(Event::Done { files: 0, bytes }))?;
    writer.finish()
}

/// Refuses what is too little to be a backup.
pub(super) fn check_size(name: &Name, bytes: u64, options: &IngestOptions) -> Result<(), IngestError> {
    let min_bytes = options.min_bytes;
    if bytes < min_bytes {
        return Err(IngestError::TooSmall { name: name.to_string(), bytes, min_bytes });
    }
    Ok(())
}

/// Builds the tree around one file.
pub(super) fn snapshot_of(
    repo: &Repository,
    session: &SessionWriter,
    name: &Name,
    content: Content,
    bytes: u64,
) -> Result<Taken, IngestError> {
    let now = Timestamp::now();
    let (seconds, nanoseconds) = (now.as_second(), u32::try_from(now.subsec_nanosecond()).unwrap_or(0));
    let time = Time { seconds, nanoseconds };
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mut owners = OwnerNames::default();
    let file_attributes = Attributes {
        mode: FILE_MODE,
        uid,
        gid,
        user: owners.user(uid),
        group: owners.group(gid),
        mtime: time,
        ctime: time,
        btime: None,
        xattrs: Vec::new(),
    };
    let root_attributes = Attributes { mode: DIRECTORY_MODE, ..file_attributes.clone() };
    let entry =
        Entry { name: name.clone(), attributes: file_attributes, link: None, kind: EntryKind::File(content) };
    let mut emit = |page: Vec<u8>| session.add(ChunkKind::Tree, &page).map_err(IngestError::from);
    let mut builder = TreeBuilder::new(repo.keys().ids().clone());
    builder.push(entry, &mut emit)?;
    let root = builder.finish(&mut emit)?;
    let totals = SnapshotTotals { files: 1, bytes, ..SnapshotTotals::default() };
    let paths = vec![name.as_bytes().to_vec()];
    let (failures, excluded) = (Failures::default(), ExcludedStats::default());
    Ok(Taken { paths, root_attributes, root, totals, failures, excluded, dump: None })
}
