//! Whole dumps of every format become the latest; no dump that is cut short does, wherever it is cut.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;
use yester::chunker::ChunkerParams;
use yester::dump::Treatment;
use yester::format::snapshot::{Completeness, DumpCheck, Manifest};
use yester::ops::ingest::exclude::ExcludeOptions;
use yester::ops::ingest::{IngestOptions, Input, Protection, ingest};
use yester::path::Name;
use yester::progress::Silent;
use yester::repo::Repository;
use yester::repo::open::{CreateOptions, LocalFolders, OpenOptions};
use yester::repo::session::Deltas;
use yester::store::memory::MemoryStore;

use super::samples::{self, Sample};
use super::{assert_whole, feed, latest};
use crate::harness::{Lab, Need, can, noise};
use crate::postgres::{Postgres, Release};

/// Random places at which each dump is cut.
const CUTS: usize = 100;
/// So many of them go through the binary as well.
const CUTS_BY_BINARY: usize = 3;

#[test]
fn no_part_of_a_dump_of_debians_postgres_becomes_the_latest() {
    if can(&[Need::Root, Need::Postgres]) {
        let samples = samples::of_postgres(&Postgres::start());
        check(&samples);
    }
}

#[test]
fn no_part_of_a_dump_of_postgres_18_becomes_the_latest() {
    if can(&[Need::Root, Need::Postgres18]) {
        let samples = samples::of_postgres(&Postgres::start_release(Release::Eighteen));
        check(&samples);
    }
}

#[test]
fn no_part_of_any_other_dump_becomes_the_latest() {
    let tools = ["gzip", "zstd", "tar", "sqlite3", "redis-server", "redis-cli"];
    if can(&tools.map(Need::Tool)) {
        check(&samples::of_others(&Lab::empty()));
    }
}

#[test]
fn a_whole_gzip_stream_of_half_a_dump_is_half_a_dump() {
    if !can(&[Need::Tool("gzip"), Need::Tool("zstd"), Need::Tool("sqlite3")]) {
        return;
    }
    let sql = samples::sqlite();
    let lab = Lab::new();
    for program in ["gzip", "zstd"] {
        let packed = |bytes: &[u8]| feed(Command::new(program).arg("-c"), bytes).stdout;
        let by_binary = |bytes: &[u8]| feed(&mut lab.command(["ingest", "--as", "notes.sql.gz"]), bytes);
        by_binary(&packed(&sql)).succeeds();
        let half = by_binary(&packed(&sql[..sql.len() / 2]));
        half.fails(3);
        assert!(latest(&lab, "notes.sql.gz") == packed(&sql));
    }
}

#[test]
fn bytes_of_no_known_format_are_kept_as_good() {
    let lab = Lab::new();
    for bytes in [&b"no dump at all\n"[..], &noise(8, 100_000)] {
        let document = feed(&mut lab.command(["ingest", "--as", "file", "--json"]), bytes).json();
        assert_eq!(
            (&document["state"], &document["dump"]["check"]),
            (&"complete".into(), &"unchecked".into())
        );
        assert!(latest(&lab, "file") == bytes);
    }
}

fn check(samples: &[Sample]) {
    for sample in samples {
        by_library(sample);
        by_binary(sample);
    }
}

/// Returns random places behind which something is needed, the first and the last of them included.
fn cuts(sample: &Sample) -> BTreeSet<usize> {
    let possible = sample.needed - sample.recognised;
    let random = noise(sample.needed as u64, 8 * CUTS);
    let random = random.chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
    let places = random.map(|number| sample.recognised + usize::try_from(number >> 1).unwrap() % possible);
    places.chain([sample.recognised, sample.needed - 1]).collect()
}

/// Cuts everywhere: a process for each would take a minute.
fn by_library(sample: &Sample) {
    let gate = Gate::new();
    let whole = gate.ingest(&sample.bytes);
    let dump = whole.dump.unwrap();
    assert_eq!(dump.formats, sample.formats, "{}", sample.name);
    assert_eq!((dump.check, dump.reason.as_str()), (DumpCheck::Whole, ""), "{}", sample.name);
    assert_eq!(whole.completeness, Completeness::Complete, "{}", sample.name);

    let good = |cut: &usize| gate.ingest(&sample.bytes[..*cut]).completeness != Completeness::Suspicious;
    let passed: Vec<usize> = cuts(sample).into_iter().filter(good).collect();
    assert!(
        passed.is_empty(),
        "{}: of {} bytes, these many are good: {passed:?}",
        sample.name,
        sample.needed
    );
}

fn by_binary(sample: &Sample) {
    let lab = Lab::new();
    let document = feed(&mut lab.command(["ingest", "--as", "dump", "--json"]), &sample.bytes).json();
    assert_whole(&document, sample.formats);
    let good = latest(&lab, "dump");
    for cut in cuts(sample).into_iter().step_by(CUTS / CUTS_BY_BINARY).take(CUTS_BY_BINARY) {
        let ran = feed(&mut lab.command(["ingest", "--as", "dump"]), &sample.bytes[..cut]);
        ran.fails(3);
        assert!(ran.stderr.contains("yester accept"), "{}: {}", sample.name, ran.stderr);
        assert!(latest(&lab, "dump") == good, "{}: cut at {cut}, and the latest", sample.name);
    }
}

/// A store in memory for dumps.
struct Gate {
    repo: Repository,
    _folders: TempDir,
}

impl Gate {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let options = CreateOptions { credentials: Vec::new(), chunker: ChunkerParams::DEFAULT };
        Repository::create(store.as_ref(), &options).unwrap();
        let folders = tempfile::tempdir().unwrap();
        let options = OpenOptions {
            folders: LocalFolders {
                cache: folders.path().join("cache"),
                state: folders.path().join("state"),
            },
            host: "host".to_owned(),
            cache_bytes: 16 << 20,
            base_cache_bytes: None,
        };
        let repo = Repository::open(store, &options, &mut || Ok(None)).unwrap();
        Self { repo, _folders: folders }
    }

    fn ingest(&self, bytes: &[u8]) -> Manifest {
        let options = IngestOptions {
            source: "dump".to_owned(),
            host: "host".to_owned(),
            tags: Vec::new(),
            time: None,
            protection: Protection::None,
            level: 1,
            threads: 1,
            deltas: Deltas::Never,
            treatment: Treatment::CheckAndComplete,
            min_bytes: 1,
            left_out: Vec::new(),
            exclude: ExcludeOptions::default(),
            list_mounts: || Ok(Vec::new()),
        };
        let reader = Box::new(Cursor::new(bytes.to_vec()));
        let input = Input::Stream { name: Name::new(b"dump").unwrap(), reader };
        ingest(&self.repo, input, &options, &Silent).unwrap().manifest
    }
}
