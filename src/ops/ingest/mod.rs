//! Ingest: writes a backup of file trees, of a stream, or of what commands write.
//!
//! ```text
//! walk (thread) ──events in tree order──► assemble (caller) ─► tree pages
//!      └── files ──► readers (threads) ──contents──┘
//! ```
//! The session below compresses, seals and stores on threads of its own. A plan walks in the same way and only
//! counts.

mod ahead;
mod assemble;
mod batch;
mod blocks;
mod command;
pub mod exclude;
mod failures;
mod file;
pub(in crate::ops) mod known;
mod metadata;
mod part;
pub mod pipe;
pub mod plan;
mod selection;
mod stream;
mod walk;

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::fs::{Mode, OFlags};

use exclude::{ExcludeOptions, ExcludedStats, ListMounts};

use crate::dump::{DumpReport, Treatment, Verdict};
use crate::format::FormatError;
use crate::format::snapshot::{Completeness, Manifest, MarkState, Output, SnapshotTotals};
use crate::format::tree::{Attributes, TreeRef};
use crate::id::SnapshotId;
use crate::path::{Name, escape};
use crate::progress::Progress;
use crate::repo::session::{Deltas, SessionOptions, SessionStats, SessionWriter};
use crate::repo::{RepoError, Repository};
pub use command::CommandLine;
use stream::verdict::{self, TakenDump};

/// What is backed up.
pub enum Input {
    /// File trees.
    Paths(Vec<PathBuf>),
    /// A stream, stored as one file.
    Stream {
        /// The file's name in the snapshot.
        name: Name,
        /// Read to its end.
        reader: Box<dyn Read + Send>,
    },
    /// The output of commands that run one after the other, each stored as one file; committed only if all of them
    /// exit with 0. At least one, and each file has a name of its own.
    Commands(Vec<CommandLine>),
}

/// How it is backed up.
#[derive(Debug, Clone)]
pub struct IngestOptions {
    /// Name of the source.
    pub source: String,
    /// Name of the host.
    pub host: String,
    /// Tags, in any order.
    pub tags: Vec<String>,
    /// When what is backed up was as it is, if not now.
    pub time: Option<Timestamp>,
    /// What becomes of the snapshot once it is committed.
    pub protection: Protection,
    /// Level of zstd.
    pub level: i32,
    /// Threads that compress, and threads that read files.
    pub threads: usize,
    /// Whether similar data is stored as differences.
    pub deltas: Deltas,
    /// How streams and what commands write are looked at.
    pub treatment: Treatment,
    /// A stream, or file trees together, of fewer bytes are not committed; each command has a bound of its own.
    pub min_bytes: u64,
    /// Folders that are left out with all below them: those of the store and of the program itself.
    pub left_out: Vec<PathBuf>,
    /// What else is left out below given paths.
    pub exclude: ExcludeOptions,
    /// Says what is mounted: below a given path, mounts of this program and of the kernel's own file systems are
    /// kept as empty directories.
    pub list_mounts: ListMounts,
}

/// Whether a snapshot may be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protection {
    /// By whatever policy does.
    #[default]
    None,
    /// By none, until somebody ends that.
    Protected,
}

/// What came of it.
#[derive(Debug)]
pub struct IngestStats {
    /// The committed snapshot.
    pub manifest: Manifest,
    /// What was written to the store.
    pub session: SessionStats,
    /// What could not be read, or changed while it was read; one sentence each, safe for terminals. At most 10,000.
    pub failures: Vec<String>,
    /// The number of all paths that failed.
    pub failed: u64,
    /// What was left out on purpose.
    pub excluded: ExcludedStats,
    /// What became of the snapshot, as it was asked for.
    pub protection: Protection,
    /// What was found out about a stream, or about what each command wrote; nothing for file trees.
    pub dumps: Vec<FileDump>,
    /// Time from the first look at the source to the commit.
    pub elapsed: Duration,
}

/// What was found out about a file that came as a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDump {
    /// Its name in the snapshot.
    pub name: Name,
    /// Its length.
    pub bytes: u64,
    /// What it is, and whether it is whole.
    pub report: DumpReport,
}

/// Why nothing was committed.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// A path that was given cannot be backed up at all.
    #[error("cannot back up {path}")]
    Path {
        /// The path, safe for terminals.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// The stream or the output of the command broke off.
    #[error("cannot read {0}")]
    Read(String, #[source] io::Error),
    /// What was to be run makes no snapshot: nothing was started.
    #[error("cannot run the commands: {0}")]
    Commands(String),
    /// The command cannot be started.
    #[error("cannot start {0}")]
    Start(String, #[source] io::Error),
    /// The command failed, so what it wrote is no backup.
    #[error("{command} failed ({status}); no snapshot was made")]
    CommandFailed {
        /// The command, safe for terminals.
        command: String,
        /// How it ended.
        status: String,
    },
    /// What came is too little to be a backup.
    #[error("{}; no snapshot was made", describe_too_small(name, *bytes, *min_bytes))]
    TooSmall {
        /// The file's name in the snapshot.
        name: String,
        /// What came.
        bytes: u64,
        /// What was expected at least.
        min_bytes: u64,
    },
    /// A dump that came whole, and whose head was completed, does not look like it where it is stored.
    #[error("{name} was stored, but does not read back as the dump that came: {why}; no snapshot was made")]
    ReadBack {
        /// The file's name in the snapshot.
        name: String,
        /// What does not fit.
        why: String,
    },
    /// What was stored cannot be read back.
    #[error("{0} was stored, but cannot be read back; no snapshot was made")]
    Unreadable(String, #[source] RepoError),
    /// So many files are open at once that no more can be.
    #[error("cannot read {path}: no more files can be opened")]
    OpenFiles {
        /// What was to be opened, safe for terminals.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The snapshot was made, but it cannot be protected.
    #[error("snapshot {} was made, but cannot be protected", .0.short())]
    NotProtected(SnapshotId, #[source] RepoError),
    /// The user or the system asked to stop.
    #[error("interrupted; no snapshot was made")]
    Interrupted,
    /// A value is beyond the limits of the format.
    #[error("cannot store what was read")]
    Format(#[from] FormatError),
    /// The store, the index or the session failed.
    #[error("cannot write the backup")]
    Repo(#[from] RepoError),
}

/// Writes one backup and commits it as a snapshot.
///
/// Files that cannot be read, or that change meanwhile, are named in the statistics and make the snapshot
/// partial; a stream that is recognised and not whole makes it suspicious. Everything else that goes wrong is an
/// error, and then nothing is committed; but for [`IngestError::NotProtected`], which says so.
///
/// # Errors
/// See [`IngestError`]. What was written so far stays usable for the next ingest.
pub fn ingest(
    repo: &Repository,
    input: Input,
    options: &IngestOptions,
    progress: &dyn Progress,
) -> Result<IngestStats, IngestError> {
    repo.require_host(&options.host)?;
    let started = Instant::now();
    let time = options.time.unwrap_or_else(Timestamp::now);
    let commands: Vec<Vec<Vec<u8>>> = match &input {
        Input::Commands(lines) => {
            command::check(lines)?;
            lines.iter().map(CommandLine::words).collect()
        }
        Input::Paths(_) | Input::Stream { .. } => Vec::new(),
    };
    let session_options = SessionOptions {
        level: options.level,
        threads: options.threads,
        deltas: options.deltas,
        ..SessionOptions::new(&options.source)
    };
    let finish = |session: SessionWriter, taken: Result<Taken, IngestError>| match taken {
        Ok(taken) => commit(repo, session, taken, options, time, &commands, started),
        Err(error) => Err(end_after(session, error)),
    };
    match input {
        Input::Paths(given) => {
            let selection = selection::Selection::new(&given, &options.left_out)?;
            let attempt = || {
                let session = SessionWriter::open(repo, session_options.clone())?;
                let taken = assemble::take_paths(repo, &session, &selection, options, progress);
                finish(session, taken.and_then(|taken| require_bytes(taken, &given, options.min_bytes)))
            };
            match attempt() {
                // Files can be read again, so that a damaged index costs time and no backup.
                Err(IngestError::Repo(error)) if repo.mend(&error)? => attempt(),
                ended => ended,
            }
        }
        Input::Stream { name, reader } => {
            let session = SessionWriter::open(repo, session_options)?;
            let taken = stream::take(repo, &session, &name, reader, options, progress);
            finish(session, taken).inspect_err(|error| mend_for_next(repo, error))
        }
        Input::Commands(lines) => {
            let session = SessionWriter::open(repo, session_options)?;
            let taken = command::take(repo, &session, &lines, options, progress);
            finish(session, taken).inspect_err(|error| mend_for_next(repo, error))
        }
    }
}

/// Refuses file trees that are too small to be a backup: a disk that is not mounted leaves an empty folder.
fn require_bytes(taken: Taken, given: &[PathBuf], min_bytes: u64) -> Result<Taken, IngestError> {
    let bytes = taken.totals.bytes;
    if bytes >= min_bytes {
        return Ok(taken);
    }
    let names: Vec<String> = given.iter().map(|path| escape(path.as_os_str().as_encoded_bytes())).collect();
    Err(IngestError::TooSmall { name: names.join(", "), bytes, min_bytes })
}

fn describe_too_small(name: &str, bytes: u64, min_bytes: u64) -> String {
    match bytes {
        0 => format!("{name} is empty"),
        _ => format!("{name} has {bytes} bytes, fewer than the {min_bytes} that are expected"),
    }
}

/// What was read.
struct Taken {
    /// What was given: resolved paths, or the names of the files that came as streams.
    paths: Vec<Vec<u8>>,
    root_attributes: Attributes,
    root: TreeRef,
    totals: SnapshotTotals,
    failures: failures::Failures,
    excluded: ExcludedStats,
    /// What was found out about each of these files, in the same order.
    dumps: Vec<TakenDump>,
}

/// Opens `/`, and makes sure of what the walk needs.
fn open_root() -> Result<OwnedFd, IngestError> {
    metadata::check_proc()
        .map_err(|source| IngestError::Path { path: "/proc/self/fd".to_owned(), source })?;
    rustix::fs::open("/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| IngestError::Path { path: "/".to_owned(), source: error.into() })
}

/// Lets the session finish what is under way, so that the next ingest finds it, and returns the error to tell.
fn end_after(session: SessionWriter, error: IngestError) -> IngestError {
    match (error, session.abandon()) {
        // The failure of the session's threads is why the source could not be read to its end.
        (IngestError::Repo(RepoError::SessionFailed), Err(cause)) => IngestError::Repo(cause),
        (error, _) => error,
    }
}

/// Mends a damaged index for the next ingest, since a stream cannot be read again.
fn mend_for_next(repo: &Repository, error: &IngestError) {
    if let IngestError::Repo(cause) | IngestError::Unreadable(_, cause) = error {
        // Should this fail, too, the first error says more.
        let _ = repo.mend(cause);
    }
}

fn commit(
    repo: &Repository,
    session: SessionWriter,
    taken: Taken,
    options: &IngestOptions,
    time: Timestamp,
    commands: &[Vec<Vec<u8>>],
    started: Instant,
) -> Result<IngestStats, IngestError> {
    let mut tags = options.tags.clone();
    tags.sort();
    tags.dedup();
    let is_broken = |dump: &TakenDump| matches!(dump.file.report.verdict, Verdict::Broken(_));
    let completeness = match taken.failures.count {
        _ if taken.dumps.iter().any(is_broken) => Completeness::Suspicious,
        0 => Completeness::Complete,
        _ => Completeness::Partial,
    };
    let manifest = Manifest {
        id: session.id(),
        time,
        finished: time,
        source: options.source.clone(),
        host: options.host.clone(),
        tags,
        paths: taken.paths,
        command: commands.first().cloned(),
        completeness,
        root_attributes: taken.root_attributes,
        root: taken.root,
        tree_packs: Vec::new(),
        totals: taken.totals,
        dump: verdict::worst(&taken.dumps),
        outputs: outputs(commands, &taken.dumps),
        program: concat!("yester ", env!("CARGO_PKG_VERSION")).to_owned(),
        origin: None,
    };
    let settled = session.settle()?;
    taken.dumps.iter().try_for_each(|dump| dump.check_stored(repo))?;
    let (manifest, session) = settled.commit(manifest)?;
    if options.protection == Protection::Protected {
        let id = manifest.id;
        repo.mark(id, MarkState::Protected).map_err(|source| IngestError::NotProtected(id, source))?;
    }
    Ok(IngestStats {
        manifest,
        session,
        failures: taken.failures.told,
        failed: taken.failures.count,
        excluded: taken.excluded,
        protection: options.protection,
        dumps: taken.dumps.into_iter().map(|dump| dump.file).collect(),
        elapsed: started.elapsed(),
    })
}

/// Returns what a manifest says of each command and its file: nothing if there is only one.
fn outputs(commands: &[Vec<Vec<u8>>], dumps: &[TakenDump]) -> Vec<Output> {
    if commands.len() < 2 {
        return Vec::new();
    }
    let output = |(command, dump): (&Vec<_>, &TakenDump)| {
        let name = dump.file.name.as_bytes().to_vec();
        Output { name, command: command.clone(), dump: dump.stored() }
    };
    commands.iter().zip(dumps).map(output).collect()
}

#[cfg(test)]
mod tests;
