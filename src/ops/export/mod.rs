//! Export: writes a snapshot, or parts of it, as a tar archive.
//!
//! The archive is in the pax format of POSIX, with what GNU tar, bsdtar and star agreed on for what POSIX leaves
//! out: sparse files ([`sparse`]), ACLs ([`acl`]) and extended attributes ([`header`]). One thread walks the
//! snapshot and reads ([`walk`], [`file`]), and hands the bytes to the one that writes ([`outlet`]).
//!
//! A header says how long a file is before its bytes are read. Where these are damaged, zeros take their place,
//! so that what follows can still be found; the file is among the failures.

mod acl;
mod file;
mod header;
mod outlet;
mod sparse;
#[cfg(test)]
mod tests;
mod walk;

use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use super::list::ListError;
use super::patterns::ExcludePatterns;
use crate::path::TreePath;
use crate::progress::{Event, Progress};
use crate::repo::snapshots::Snapshot;
use crate::repo::{RepoError, Repository};
use outlet::Outlet;
use walk::{Exporter, Stop};

/// Most failures, and most things left out, that are kept one by one; beyond, they are only counted.
pub const NAMED_MAX: usize = 10_000;

/// What goes into an archive.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// Paths, each with all that is below it and with the directories above it; everything if there are none.
    pub paths: Vec<TreePath>,
    /// What is left out.
    pub excludes: ExcludePatterns,
}

/// Something that the archive lacks or holds only in part, because the store is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportFailure {
    /// Its path in the snapshot.
    pub path: TreePath,
    /// What is wrong with it, as one sentence for people.
    pub reason: String,
}

/// What came of an export.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExportStats {
    /// Regular files written; each name of a file counts.
    pub files: u64,
    /// Directories written.
    pub directories: u64,
    /// Symbolic links, fifos and devices written.
    pub others: u64,
    /// Bytes of the files, holes included; hard links count once.
    pub bytes: u64,
    /// Bytes of the archive.
    pub archive_bytes: u64,
    /// How many sockets there were, which an archive cannot hold; `sockets` holds the first [`NAMED_MAX`].
    pub sockets_left_out: u64,
    /// Where they are.
    pub sockets: Vec<TreePath>,
    /// How many failures there were; `failures` holds the first [`NAMED_MAX`].
    pub failed: u64,
    /// What is damaged, in the order of the archive.
    pub failures: Vec<ExportFailure>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Why an archive was not written to its end.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The snapshot does not hold what was asked for, and nothing was written; or it cannot be listed.
    #[error(transparent)]
    List(#[from] ListError),
    /// Whoever reads the archive took no more.
    #[error("cannot write the archive")]
    Output {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The system gives no thread.
    #[error("cannot start a thread to read ahead")]
    Thread {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The store cannot be read, for another reason than damage.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

/// Writes a tar archive of a snapshot to `output`, with paths relative to its root, which itself is left out.
///
/// Takes bounded memory, but for one path for each file with several names of which not all were met.
///
/// # Errors
/// Fails as [`ExportError`] says; what was written until then is not a whole archive. Damage is not an error: it
/// is among the failures.
pub fn export(
    repo: &Repository,
    snapshot: &Snapshot,
    options: &ExportOptions,
    output: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<ExportStats, ExportError> {
    let started = Instant::now();
    let listers = walk::listers(repo, snapshot, &options.paths)?;
    if options.paths.is_empty() && options.excludes.is_empty() {
        let totals = &snapshot.manifest.totals;
        progress.event(Event::Found { files: totals.files, bytes: totals.bytes });
        progress.event(Event::FoundAll);
    }
    let (sender, blocks) = bounded(outlet::BLOCKS_AHEAD);
    let mut stats = thread::scope(|scope| -> Result<ExportStats, ExportError> {
        let exporter = Exporter::new(repo, &options.excludes, progress, Outlet::new(sender));
        let reader = thread::Builder::new()
            .name("export".into())
            .spawn_scoped(scope, move || exporter.run(snapshot, listers))
            .map_err(|source| ExportError::Thread { source })?;
        let written = outlet::write_blocks(&blocks, output);
        // The other thread ends at its next block if nobody takes it.
        drop(blocks);
        let read = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (written, read) {
            (_, Err(Stop::Repo(error))) => Err(error.into()),
            (_, Err(Stop::List(error))) => Err(error.into()),
            (Err(source), _) => Err(ExportError::Output { source }),
            (Ok(()), Err(Stop::HungUp)) => {
                Err(ExportError::Output { source: io::ErrorKind::BrokenPipe.into() })
            }
            (Ok(()), Ok(stats)) => Ok(stats),
        }
    })?;
    stats.elapsed = started.elapsed();
    Ok(stats)
}
