//! Reads streams into the session: a snapshot of a file for each.
//!
//! What a dump needs at its beginning may be known at its end only. So chunks are stored as they come, and the list
//! of them is put together last. What is a whole dump is for [`crate::dump`] to say; [`verdict`] has what follows.

mod items;
pub(super) mod verdict;

use std::io::Read;

use jiff::Timestamp;

use super::exclude::ExcludedStats;
use super::failures::{Failures, ReadError};
use super::file::{self, ContentWriter};
use super::metadata::OwnerNames;
use super::{FileDump, IngestError, IngestOptions, Taken};
use crate::crypto::hash::ChunkKind;
use crate::dump::{DumpReader, DumpReport, Treatment};
use crate::format::content::Content;
use crate::format::snapshot::SnapshotTotals;
use crate::format::tree::{Attributes, Entry, EntryKind, Time, TreeBuilder};
use crate::path::Name;
use crate::progress::{Event, Progress};
use crate::repo::Repository;
use crate::repo::session::SessionWriter;
use items::{ITEMS_IN_MEMORY, ItemSpool};
use verdict::{Completed, TakenDump};

/// Permissions of a file: a dump is nobody else's business.
const FILE_MODE: u16 = 0o600;
/// Permissions of the directory around them.
const DIRECTORY_MODE: u16 = 0o700;

/// What was stored of a stream.
pub(super) struct Streamed {
    content: Content,
    /// Its length.
    bytes: u64,
    /// How many of these were held back until the end, and completed then.
    completed_head_bytes: usize,
    report: DumpReport,
}

/// A stream that came to its end, as a file of the snapshot.
pub(super) struct StreamFile {
    name: Name,
    streamed: Streamed,
    /// When it came to its end.
    time: Timestamp,
}

impl StreamFile {
    /// Gives a stream that just ended its name.
    ///
    /// # Errors
    /// [`IngestError::TooSmall`] if it has fewer bytes than `min_bytes`: that is no backup.
    pub(super) fn new(name: &Name, streamed: Streamed, min_bytes: u64) -> Result<Self, IngestError> {
        let bytes = streamed.bytes;
        if bytes < min_bytes {
            return Err(IngestError::TooSmall { name: name.to_string(), bytes, min_bytes });
        }
        Ok(Self { name: name.clone(), streamed, time: Timestamp::now() })
    }
}

/// Reads `reader` to its end as the only file, `name`.
pub(super) fn take(
    repo: &Repository,
    session: &SessionWriter,
    name: &Name,
    reader: impl Read,
    options: &IngestOptions,
    progress: &dyn Progress,
) -> Result<Taken, IngestError> {
    let streamed = read(repo, session, reader, options, progress).map_err(|error| match error {
        ReadError::File(source) => IngestError::Read(name.to_string(), source),
        ReadError::Fatal(error) => error,
    })?;
    let file = StreamFile::new(name, streamed, options.min_bytes)?;
    snapshot_of(repo, session, vec![file])
}

/// Stores all that `reader` yields, and finds out what it is.
pub(super) fn read(
    repo: &Repository,
    session: &SessionWriter,
    reader: impl Read,
    options: &IngestOptions,
    progress: &dyn Progress,
) -> Result<Streamed, ReadError> {
    let mut dump = DumpReader::open(reader, options.treatment)?;
    let items = ItemSpool::new(repo.spool(), ITEMS_IN_MEMORY);
    let items = store_body(repo, session, &mut dump, items, progress)?;
    let (head, report) = dump.finish();
    let (content, bytes) = join(repo, session, &head, items, progress)?;
    let completed_head_bytes = match options.treatment {
        Treatment::CheckAndComplete => head.len(),
        Treatment::Verbatim => 0,
    };
    Ok(Streamed { content, bytes, completed_head_bytes, report })
}

/// Stores what is not held back, as it comes, and keeps the list of it.
fn store_body(
    repo: &Repository,
    session: &SessionWriter,
    body: &mut impl Read,
    mut items: ItemSpool,
    progress: &dyn Progress,
) -> Result<ItemSpool, ReadError> {
    file::store_chunks(repo, session, body, &mut |id, length| {
        items.push(id, length).map_err(IngestError::from)?;
        progress.event(Event::Done { files: 0, bytes: length.into() });
        Ok(())
    })?;
    Ok(items)
}

/// Stores the head, and puts the body behind it; returns the content and the number of bytes.
fn join(
    repo: &Repository,
    session: &SessionWriter,
    mut head: &[u8],
    items: ItemSpool,
    progress: &dyn Progress,
) -> Result<(Content, u64), ReadError> {
    let mut writer = ContentWriter::new(repo, session);
    let head_bytes = writer.append(&mut head)?;
    progress.event(Event::Done { files: 0, bytes: head_bytes });
    items.replay(&mut |item| writer.push(item))?;
    writer.finish()
}

/// Builds the tree around the files.
pub(super) fn snapshot_of(
    repo: &Repository,
    session: &SessionWriter,
    files: Vec<StreamFile>,
) -> Result<Taken, IngestError> {
    let paths = files.iter().map(|file| file.name.as_bytes().to_vec()).collect();
    let root_attributes = Attributes { mode: DIRECTORY_MODE, ..own_attributes(Timestamp::now()) };
    let mut totals = SnapshotTotals::default();
    let (mut entries, mut dumps) = (Vec::new(), Vec::new());
    for StreamFile { name, streamed, time } in files {
        let Streamed { content, bytes, completed_head_bytes: head_bytes, report } = streamed;
        totals.files += 1;
        totals.bytes = totals.bytes.saturating_add(bytes);
        let completed = (head_bytes > 0).then(|| Completed { content: content.clone(), head_bytes });
        dumps.push(TakenDump { file: FileDump { name: name.clone(), bytes, report }, completed });
        let attributes = Attributes { mode: FILE_MODE, ..own_attributes(time) };
        entries.push(Entry { name, attributes, link: None, kind: EntryKind::File(content) });
    }
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    let mut emit = |page: Vec<u8>| session.add(ChunkKind::Tree, &page).map_err(IngestError::from);
    let mut builder = TreeBuilder::new(repo.keys().ids().clone());
    entries.into_iter().try_for_each(|entry| builder.push(entry, &mut emit))?;
    let root = builder.finish(&mut emit)?;
    let (failures, excluded) = (Failures::default(), ExcludedStats::default());
    Ok(Taken { paths, root_attributes, root, totals, failures, excluded, dumps })
}

/// Returns the attributes of what we made at a time.
fn own_attributes(time: Timestamp) -> Attributes {
    let (seconds, nanoseconds) = (time.as_second(), u32::try_from(time.subsec_nanosecond()).unwrap_or(0));
    let time = Time { seconds, nanoseconds };
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mut owners = OwnerNames::default();
    Attributes {
        mode: 0,
        uid,
        gid,
        user: owners.user(uid),
        group: owners.group(gid),
        mtime: time,
        ctime: time,
        btime: None,
        xattrs: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::{DumpFormat, Verdict};
    use crate::progress::Silent;
    use crate::repo::content::ContentReader;
    use crate::repo::session::SessionOptions;
    use crate::repo::testing::TestStore;

    fn noise(seed: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
        bytes
    }

    /// Stores a head and a body with a list that spills after so many chunks, and reads it back.
    fn store(test: &TestStore, head: &[u8], body: &[u8], in_memory: usize) -> (Content, Vec<u8>) {
        let repo = test.open();
        let session = SessionWriter::open(&repo, SessionOptions::new("test")).unwrap();
        let stored = (|| {
            let items = ItemSpool::new(repo.spool(), in_memory);
            let items = store_body(&repo, &session, &mut &*body, items, &Silent)?;
            join(&repo, &session, head, items, &Silent)
        })();
        let Ok((content, length)) = stored else { panic!("it cannot be stored") };
        session.settle().map(drop).unwrap();
        let reader = ContentReader::new(&content);
        assert_eq!((reader.length(), length), (length, (head.len() + body.len()) as u64));
        let mut bytes = vec![0; head.len() + body.len()];
        assert_eq!(reader.read_at(&repo, 0, &mut bytes).unwrap(), bytes.len());
        (content, bytes)
    }

    #[test]
    fn the_head_stands_before_the_body_and_a_spilled_list_is_the_same() {
        let (test, body) = (TestStore::new(), noise(1, 6 << 20));
        for head in [Vec::new(), b"a short head".to_vec(), noise(2, 2 << 20)] {
            let (content, bytes) = store(&test, &head, &body, ITEMS_IN_MEMORY);
            assert!(bytes == [&head[..], &body[..]].concat(), "{} bytes of head", head.len());
            let (spilled, _) = store(&test, &head, &body, 3);
            assert_eq!(content, spilled);
        }
    }

    #[test]
    fn a_head_alone_and_nothing_at_all_are_stored_too() {
        assert_eq!(store(&TestStore::new(), b"", b"", 3).1, b"");
        assert_eq!(store(&TestStore::new(), b"head", b"", 3).1, b"head");
    }

    /// A head that was put in the wrong place, or an offset that is not that of the data.
    #[test]
    fn a_completed_dump_that_is_none_where_it_is_stored_is_refused() {
        let test = TestStore::new();
        let (content, _) = store(&test, b"PGDMP, but no more", b"and a body", 3);
        let formats = vec![DumpFormat::PgCustom];
        let report = DumpReport { formats, verdict: Verdict::Whole, compressed: false, filled_offsets: 1 };
        let taken = |report: &DumpReport, head_bytes| {
            let name = Name::new(b"shop.dump").unwrap();
            let file = FileDump { name, bytes: 28, report: report.clone() };
            TakenDump { file, completed: Some(Completed { content: content.clone(), head_bytes }) }
        };
        let repo = test.open();
        for head_bytes in [5, 18, 1 << 40] {
            let refused = taken(&report, head_bytes).check_stored(&repo);
            let Err(IngestError::ReadBack { name, .. }) = refused else {
                panic!("{head_bytes}: {refused:?}")
            };
            assert_eq!(name, "shop.dump");
        }
        // What is kept as suspicious need not fit.
        let broken = DumpReport { verdict: Verdict::Broken("why".to_owned()), ..report };
        assert!(taken(&broken, 5).check_stored(&repo).is_ok());
    }
}
