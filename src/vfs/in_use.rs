//! Snapshots that somebody reads through the mount, so that no collector of this host takes them from under the reader.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::time::{ClockId, clock_gettime};

use crate::format::snapshot::Manifest;
use crate::repo::readers::Hold;
use crate::repo::{RepoError, Repository};

/// Seconds after which it is noted anew that a snapshot is read.
const NOTED_AGAIN: u64 = 3600;

/// A snapshot as all its directories share it.
#[derive(Debug)]
pub(super) struct MountedSnapshot {
    manifest: Arc<Manifest>,
    /// When it was noted last that it is read, by a clock that begins above 0; 0 before the first time.
    noted: AtomicU64,
}

impl MountedSnapshot {
    pub(super) fn new(manifest: Arc<Manifest>) -> Self {
        Self { manifest, noted: AtomicU64::new(0) }
    }

    /// Notes that it is read, now and then. Cheap enough for every request.
    pub(super) fn note_use(&self, repo: &Repository) {
        let now = coarse_seconds();
        let noted = self.noted.load(Ordering::Relaxed);
        if noted == 0 || now.saturating_sub(noted) >= NOTED_AGAIN {
            self.noted.store(now, Ordering::Relaxed);
            repo.hold(self.manifest.id, Hold::ForADay);
        }
    }

    /// Says whether an error in reading it comes of a collection elsewhere.
    pub(super) fn explain(&self, repo: &Repository, error: RepoError) -> RepoError {
        repo.explain(self.manifest.id, error)
    }
}

impl Deref for MountedSnapshot {
    type Target = Manifest;

    fn deref(&self) -> &Manifest {
        &self.manifest
    }
}

fn coarse_seconds() -> u64 {
    u64::try_from(clock_gettime(ClockId::MonotonicCoarse).tv_sec).unwrap_or(0).saturating_add(1)
}
