//! What must be true of a store after anything that disturbs it: one function for every such test.

use std::collections::BTreeMap;

use super::gc::{self, GcOptions, OtherWriters};
use super::reach::{self, Below};
use super::restore::fixture::{Fixture, noise};
use super::verify::{Scope, VerifyOptions, verify};
use crate::crypto::hash::ChunkKind;
use crate::format::frame::FrameEntry;
use crate::format::snapshot::Manifest;
use crate::format::tree::EntryKind;
use crate::id::{PackId, SnapshotId};
use crate::path::{Name, TreePath};
use crate::progress::Silent;
use crate::repo::Repository;
use crate::repo::content::ContentReader;
use crate::repo::tree::Node;

/// What was acknowledged: the snapshots whose commit was reported, and the files in the root of each.
#[derive(Debug, Clone, Default)]
pub(in crate::ops) struct Acknowledged {
    snapshots: BTreeMap<SnapshotId, BTreeMap<String, Vec<u8>>>,
}

impl Acknowledged {
    /// Takes note of a commit that was reported.
    pub(in crate::ops) fn commit(
        &mut self,
        id: SnapshotId,
        files: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) {
        self.snapshots.insert(id, files.into_iter().collect());
    }

    /// Takes note that somebody began to forget a snapshot: whether it is there does not matter any more.
    pub(in crate::ops) fn forget(&mut self, id: SnapshotId) {
        self.snapshots.remove(&id);
    }

    /// Judges the store of `fixture`, as its host sees it and as one that never saw it.
    pub(in crate::ops) fn judge(&self, fixture: &Fixture) {
        let cold = fixture.on_another_host();
        cold.repo.refresh_strictly().unwrap();
        fixture.repo.refresh_strictly().unwrap();
        assert_eq!(rows(&cold.repo), rows(&fixture.repo), "a cold index is another one than the live one");
        for repo in [&cold.repo, &fixture.repo] {
            self.all_are_whole(repo);
        }
        let options = VerifyOptions { threads: 1, journal: None };
        let verified = verify(&cold.repo, Scope::All, &options, &Silent).unwrap();
        assert_eq!(verified.damaged, []);
        work_goes_on(fixture);
    }

    fn all_are_whole(&self, repo: &Repository) {
        let snapshots = repo.snapshots().unwrap();
        for (id, files) in &self.snapshots {
            let snapshot = snapshots.iter().find(|snapshot| snapshot.manifest.id == *id);
            let snapshot = snapshot.unwrap_or_else(|| panic!("{id} was acknowledged and is gone"));
            for (name, content) in files {
                assert_eq!(read(repo, &snapshot.manifest, name), *content, "{id}: {name}");
            }
        }
        for snapshot in &snapshots {
            let mut read = |kind: ChunkKind, id: &_| repo.chunk(kind, id).map(|_| Below::Visit);
            reach::each_chunk(repo, &snapshot.manifest, &mut read).unwrap();
        }
    }
}

/// Reads a file in the root of a snapshot.
pub(in crate::ops) fn read(repo: &Repository, manifest: &Manifest, name: &str) -> Vec<u8> {
    let path = TreePath::root().join(&Name::new(name.as_bytes()).unwrap());
    let Some(Node::Entry(entry)) = repo.find_path(manifest, &path).unwrap() else {
        panic!("{name} is not in snapshot {}", manifest.id)
    };
    let EntryKind::File(content) = &entry.kind else { panic!("{name} is no file") };
    let reader = ContentReader::new(content);
    let mut bytes = vec![0; usize::try_from(reader.length()).unwrap()];
    assert_eq!(reader.read_at(repo, 0, &mut bytes).unwrap(), bytes.len());
    bytes
}

/// Returns all that an index says of frames.
fn rows(repo: &Repository) -> BTreeMap<PackId, Vec<FrameEntry>> {
    let mut packs = Vec::new();
    repo.index().packs(&mut |row, pack| packs.push((pack.id, row))).unwrap();
    let frames = |row| repo.index().frames_of(row).unwrap().into_iter().map(|frame| frame.entry).collect();
    packs.into_iter().map(|(id, row)| (id, frames(row))).collect()
}

/// Shows that the next backup and the next collection work.
fn work_goes_on(fixture: &Fixture) {
    let next = fixture.on_another_host();
    let bytes = noise(0xffff_ffff, 30_000);
    let snapshot = next.commit(|maker| vec![maker.file("next", &bytes)]);
    let options = GcOptions {
        grace: gc::GRACE,
        wait: std::time::Duration::ZERO,
        writers: OtherWriters::Any,
        threads: 1,
    };
    gc::collect(&next.repo, &options, &Silent).unwrap();
    assert_eq!(read(&next.repo, &snapshot.manifest, "next"), bytes);
}
