//! Streams and commands that are dumps: what is stored of them, and which of them count.

use super::*;
use crate::dump::{DumpFormat, Verdict};
use crate::format::snapshot::DumpCheck;
use crate::id::SessionId;

fn stream(bytes: &[u8]) -> Input {
    let reader = Box::new(std::io::Cursor::new(bytes.to_vec()));
    Input::Stream { name: Name::new(b"dump").unwrap(), reader }
}

fn take(repo: &Repository, bytes: &[u8]) -> IngestStats {
    ingest(repo, stream(bytes), &options(), &Silent).unwrap()
}

fn stored(repo: &Repository, stats: &IngestStats) -> Vec<u8> {
    bytes(repo, &entry(repo, stats, Path::new("dump")).unwrap())
}

fn latest(repo: &Repository) -> Option<SessionId> {
    repo.find_snapshot("latest:test").ok().map(|snapshot| snapshot.manifest.id)
}

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(b"streams").finalize_xof().fill(&mut bytes);
    bytes
}

/// An archive in pg_dump's custom format, version 1.14, as it comes through a pipe or from a file.
struct Archive {
    bytes: Vec<u8>,
    /// Where the offset field of each entry with data stands, and where its data begins.
    offsets: Vec<(usize, usize)>,
}

impl Archive {
    /// Builds one with a table for each of `tables`, uncompressed.
    fn new(tables: &[&[u8]]) -> Self {
        let mut archive = Self { bytes: b"PGDMP\x01\x0e\x00\x04\x08\x01".to_vec(), offsets: Vec::new() };
        // No compression; 2026-11-21, 05:31:06, no summer time.
        [0, 6, 31, 5, 21, 10, 126, 0].into_iter().for_each(|number| archive.number(number));
        ["shop", "15.8", "15.8"].into_iter().for_each(|text| archive.text(Some(text)));
        archive.number(i32::try_from(tables.len()).unwrap() + 1);
        archive.entry(1, "ENCODING", "ENCODING", 3);
        let mut fields = Vec::new();
        for (number, _) in (2..).zip(tables) {
            archive.entry(number, &format!("table{number}"), "TABLE DATA", 1);
            fields.push(archive.bytes.len() - 9);
        }
        for (number, data) in (2..).zip(tables) {
            archive.offsets.push((fields.remove(0), archive.bytes.len()));
            archive.bytes.push(1);
            archive.number(number);
            for piece in data.chunks(4096) {
                archive.number(i32::try_from(piece.len()).unwrap());
                archive.bytes.extend(piece);
            }
            archive.number(0);
        }
        archive
    }

    fn number(&mut self, number: i32) {
        self.bytes.push(u8::from(number < 0));
        self.bytes.extend(number.unsigned_abs().to_le_bytes());
    }

    fn text(&mut self, text: Option<&str>) {
        self.number(text.map_or(-1, |text| i32::try_from(text.len()).unwrap()));
        self.bytes.extend(text.unwrap_or_default().as_bytes());
    }

    /// Appends an entry whose offset has the given flag.
    fn entry(&mut self, number: i32, tag: &str, description: &str, flag: u8) {
        self.number(number);
        self.number(i32::from(flag == 1));
        ["0", "0", tag, description].into_iter().for_each(|text| self.text(Some(text)));
        self.number(if flag == 1 { 3 } else { 2 });
        // Definition, removal, copy statement, namespace, tablespace, access method, owner, object ids.
        let texts = [Some(""), Some(""), None, Some("public"), Some(""), Some(""), Some("me"), Some("false")];
        texts.into_iter().for_each(|text| self.text(text));
        // No dependencies.
        self.text(None);
        self.bytes.push(flag);
        self.bytes.extend([0; 8]);
    }

    /// Returns it as pg_dump writes it into a file.
    fn with_offsets(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for (field, offset) in &self.offsets {
            bytes[*field] = 2;
            bytes[field + 1..field + 9].copy_from_slice(&(*offset as u64).to_le_bytes());
        }
        bytes
    }
}

#[test]
fn a_stream_of_no_known_format_is_kept_unchecked() {
    let test = TestStore::new();
    let repo = test.open();
    let stats = take(&repo, b"lines of a log\n");
    let dump = stats.manifest.dump.as_ref().unwrap();
    assert_eq!((dump.formats.len(), dump.check, dump.compressed), (0, DumpCheck::Unchecked, false));
    assert_eq!(stats.manifest.completeness, Completeness::Complete);
    assert_eq!(latest(&repo), Some(stats.manifest.id));
    let of_command = ingest(&repo, command("echo lines of a log"), &options(), &Silent).unwrap();
    assert_eq!(of_command.manifest.dump.as_ref(), Some(dump));
    let found = repo.find_snapshot(&of_command.manifest.id.to_string()).unwrap();
    assert_eq!(found.manifest.dump.as_ref(), Some(dump), "it is committed with the snapshot");
}

#[test]
fn file_trees_are_no_dumps() {
    let setting = Setting::new();
    setting.write("file", b"x");
    let stats = setting.ingest(&setting.test.open(), &Silent);
    assert_eq!((stats.manifest.dump, stats.dumps), (None, Vec::new()));
}

#[test]
fn a_piped_archive_is_stored_as_pg_dump_writes_it_into_a_file() {
    let test = TestStore::new();
    let repo = test.open();
    let archive = Archive::new(&[&noise(3_000_000), b"", &noise(5000)]);
    let stats = take(&repo, &archive.bytes);
    assert_eq!(stats.dumps[0].report.verdict, Verdict::Whole);
    let dump = stats.manifest.dump.as_ref().unwrap();
    assert_eq!((&dump.formats[..], dump.check), (&["pg-custom".to_owned()][..], DumpCheck::Whole));
    assert_eq!((dump.filled_offsets, dump.compressed, dump.reason.as_str()), (3, false, ""));
    assert_eq!(stats.manifest.totals.bytes, archive.bytes.len() as u64);
    assert!(stored(&repo, &stats) == archive.with_offsets());

    // From a file there is nothing to fill in.
    let stats = take(&repo, &archive.with_offsets());
    let dump = stats.manifest.dump.as_ref().unwrap();
    assert_eq!((dump.check, dump.filled_offsets), (DumpCheck::Whole, 0));
    assert!(stored(&repo, &stats) == archive.with_offsets());
}

#[test]
fn verbatim_stores_what_came() {
    let test = TestStore::new();
    let repo = test.open();
    let archive = Archive::new(&[b"some rows", b"more rows"]);
    let options = IngestOptions { treatment: Treatment::Verbatim, ..options() };
    let stats = ingest(&repo, stream(&archive.bytes), &options, &Silent).unwrap();
    let dump = stats.manifest.dump.as_ref().unwrap();
    assert_eq!((dump.check, dump.filled_offsets), (DumpCheck::Whole, 0));
    assert_eq!(stored(&repo, &stats), archive.bytes);
}

#[test]
fn a_dump_that_is_cut_short_is_kept_and_never_latest() {
    let test = TestStore::new();
    let repo = test.open();
    let archive = Archive::new(&[&noise(20_000), &noise(500)]).bytes;
    let compressed = zstd::encode_all(&noise(20_000)[..], 3).unwrap();
    let mut good = None;
    for whole in [&archive, &compressed] {
        for part in [whole.len() - 1, whole.len() / 2, 64] {
            let stats = take(&repo, &whole[..part]);
            assert_eq!(stats.manifest.completeness, Completeness::Suspicious, "{:?}", stats.dumps);
            let dump = stats.manifest.dump.as_ref().unwrap();
            assert_eq!(dump.check, DumpCheck::Broken);
            assert!(!dump.reason.is_empty());
            assert_eq!(stored(&repo, &stats), whole[..part], "what came is there");
            assert_eq!(latest(&repo), good, "{part} of {}", whole.len());
        }
        good = Some(take(&repo, whole).manifest.id);
        assert_eq!(latest(&repo), good);
    }
}

#[test]
fn compressed_dumps_are_known_as_such() {
    let test = TestStore::new();
    let repo = test.open();
    let stats = take(&repo, &zstd::encode_all(&noise(20_000)[..], 3).unwrap());
    let report = &stats.dumps[0].report;
    assert_eq!((report.formats.first(), report.compressed), (Some(&DumpFormat::Zstd), true));
    assert!(stats.manifest.dump.unwrap().compressed);
    let stats = crate::ops::stats::stats(&repo, &|_| true).unwrap();
    assert_eq!((stats.compressed_dumps.count, stats.series[0].compressed_dumps.count), (1, 1));
}

/// How the command ended, and how much came, say more than its output does.
#[test]
fn the_gate_comes_last() {
    let test = TestStore::new();
    let repo = test.open();
    let folder = tempfile::tempdir().unwrap();
    let cut = folder.path().join("cut");
    let archive = Archive::new(&[&noise(5000)]).bytes;
    fs::write(&cut, &archive[..archive.len() - 1]).unwrap();
    let cat = format!("cat {}", cut.display());
    let failed = ingest(&repo, command(&format!("{cat}; exit 3")), &options(), &Silent);
    assert!(matches!(failed, Err(IngestError::CommandFailed { .. })));
    let Input::Commands(mut lines) = command(&cat) else { unreachable!() };
    lines[0].min_bytes = 1 << 20;
    let short = ingest(&repo, Input::Commands(lines), &options(), &Silent);
    assert!(matches!(short, Err(IngestError::TooSmall { .. })));
    assert_eq!(repo.snapshots().unwrap().len(), 0);
    let stats = ingest(&repo, command(&cat), &options(), &Silent).unwrap();
    assert_eq!(stats.manifest.completeness, Completeness::Suspicious);
}

/// What was read from the pipe is gone, so that only the store can tell whether the completed dump is there.
#[test]
fn a_completed_dump_that_does_not_read_back_is_no_snapshot() {
    let test = TestStore::new();
    let faulty = Arc::new(FaultStore::new(Arc::clone(&test.store) as Arc<dyn ObjectStore>));
    let repo = test.open_through(Arc::clone(&faulty) as Arc<dyn ObjectStore>);
    let archive = Archive::new(&[&noise(50_000)]).bytes;
    faulty.script(|call| {
        let is_pack = call.operation == Operation::Get && call.object.starts_with("packs/");
        is_pack.then_some(Fault::FlipBit(12_345))
    });
    let failed = ingest(&repo, stream(&archive), &options(), &Silent);
    assert!(matches!(failed, Err(IngestError::Unreadable(..))), "{failed:?}");
    assert_eq!(repo.snapshots().unwrap().len(), 0);
    let verbatim = IngestOptions { treatment: Treatment::Verbatim, ..options() };
    ingest(&repo, stream(&archive), &verbatim, &Silent).unwrap();
    assert_eq!(repo.snapshots().unwrap().len(), 1);
}
