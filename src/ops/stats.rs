//! Stats: what a store holds, what that takes, and what each series added to it.
//!
//! Everything comes from lists, manifests and the index; no pack is read.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::index::{IndexTotals, Sum};
use crate::repo::snapshots::Snapshot;
use crate::repo::{RepoError, Repository};
use crate::store::key::Prefix;
use crate::store::list_with_lengths;

/// Sums over a store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreStats {
    /// Snapshots that are not forgotten, and the bytes of their files together.
    pub snapshots: Sum,
    /// Those of them that are dumps that came compressed.
    pub compressed_dumps: Sum,
    /// Files in all snapshots.
    pub files: u64,
    /// What each series holds, by host and source.
    pub series: Vec<SeriesStats>,
    /// Packs, frames and chunks.
    pub index: IndexTotals,
    /// Objects in the store by the first segment of their keys, where there are any.
    pub objects: Vec<(Prefix, Sum)>,
}

/// Sums over the snapshots of a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesStats {
    /// The host.
    pub host: String,
    /// The source.
    pub source: String,
    /// Snapshots, and the bytes of their files together.
    pub snapshots: Sum,
    /// When the first of them began.
    pub oldest: Timestamp,
    /// When the last of them began.
    pub newest: Timestamp,
    /// Bytes of the files of the last.
    pub newest_bytes: u64,
    /// Plain bytes that were new to the store when they were made.
    pub added_bytes: u64,
    /// What these took.
    pub stored_bytes: u64,
    /// Snapshots that are dumps that came compressed.
    pub compressed_dumps: Sum,
}

impl StoreStats {
    /// Returns the plain bytes of data, each chunk once.
    #[must_use]
    pub fn unique_data(&self) -> Sum {
        let (all, more) = (self.index.data_chunks, self.index.duplicate_data_chunks);
        Sum { count: all.count.saturating_sub(more.count), bytes: all.bytes.saturating_sub(more.bytes) }
    }

    /// Returns all objects of the store.
    #[must_use]
    pub fn all_objects(&self) -> Sum {
        self.objects.iter().fold(Sum::default(), |sum, (_, more)| Sum {
            count: sum.count.saturating_add(more.count),
            bytes: sum.bytes.saturating_add(more.bytes),
        })
    }

    /// Returns about what the delta frames would take alone: as much as other data of their length.
    #[must_use]
    pub fn deltas_alone_bytes(&self) -> u64 {
        let (packs, deltas) = (self.index.data_packs.bytes, &self.index.delta_frames);
        let stored = u128::from(packs.saturating_sub(deltas.stored_bytes));
        let plain = u128::from(self.index.data_chunks.bytes.saturating_sub(deltas.plain_bytes));
        let alone = (u128::from(deltas.plain_bytes) * stored).checked_div(plain).unwrap_or(0);
        // What does not compress takes its length.
        u64::try_from(alone).unwrap_or(u64::MAX).min(deltas.plain_bytes)
    }
}

/// Sums up the store as a whole, and the series of those snapshots that `is_meant`.
///
/// # Errors
/// Fails if the store or the index cannot be read.
pub fn stats(repo: &Repository, is_meant: &dyn Fn(&Snapshot) -> bool) -> Result<StoreStats, RepoError> {
    repo.refresh()?;
    let index = match repo.index().totals().map_err(RepoError::from) {
        Err(error) if repo.mend(&error)? => repo.index().totals()?,
        totals => totals?,
    };
    let mut stats = StoreStats { index, objects: objects(repo)?, ..StoreStats::default() };
    let mut series: BTreeMap<(String, String), SeriesStats> = BTreeMap::new();
    for snapshot in repo.snapshots()? {
        let manifest = &snapshot.manifest;
        stats.snapshots.add(manifest.totals.bytes);
        stats.files = stats.files.saturating_add(manifest.totals.files);
        let compressed = manifest.dumps().any(|(_, dump)| dump.compressed);
        if compressed {
            stats.compressed_dumps.add(manifest.totals.bytes);
        }
        if !is_meant(&snapshot) {
            continue;
        }
        let key = (manifest.host.clone(), manifest.source.clone());
        let sums = series.entry(key).or_insert_with(|| SeriesStats {
            host: manifest.host.clone(),
            source: manifest.source.clone(),
            snapshots: Sum::default(),
            oldest: manifest.time,
            newest: manifest.time,
            newest_bytes: 0,
            added_bytes: 0,
            stored_bytes: 0,
            compressed_dumps: Sum::default(),
        });
        if compressed {
            sums.compressed_dumps.add(manifest.totals.bytes);
        }
        // Snapshots come oldest first.
        sums.newest = manifest.time;
        sums.newest_bytes = manifest.totals.bytes;
        sums.snapshots.add(manifest.totals.bytes);
        sums.added_bytes = sums.added_bytes.saturating_add(manifest.totals.added_bytes);
        sums.stored_bytes = sums.stored_bytes.saturating_add(manifest.totals.stored_bytes);
    }
    stats.series = series.into_values().collect();
    Ok(stats)
}

fn objects(repo: &Repository) -> Result<Vec<(Prefix, Sum)>, RepoError> {
    let mut found = Vec::new();
    for prefix in Prefix::ALL {
        let mut sum = Sum::default();
        list_with_lengths(repo.store(), prefix, &mut |_, bytes| sum.add(bytes))?;
        if sum.count > 0 {
            found.push((prefix, sum));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::restore::fixture::{Fixture, noise};
    use crate::store::{ObjectStore, Payload};

    #[test]
    fn sums_are_those_of_what_was_committed() {
        let mut fixture = Fixture::new();
        let empty = stats(&fixture.repo, &|_| true).unwrap();
        assert_eq!(
            (empty.snapshots, empty.series.len(), empty.unique_data()),
            (Sum::default(), 0, Sum::default())
        );
        let content = noise(1, 12_000);
        let first = fixture.commit(|maker| vec![maker.file("a", &content)]);
        let second = fixture.commit(|maker| vec![maker.file("a", &content), maker.file("b", b"more")]);
        // As a host that has to learn everything from the store.
        fixture.reopen();
        let stats = stats(&fixture.repo, &|_| true).unwrap();
        assert_eq!((stats.snapshots.count, stats.files), (2, 3));
        assert_eq!(stats.unique_data(), Sum { count: 4, bytes: 12_004 });
        assert_eq!(stats.index.duplicate_data_chunks, Sum::default());
        assert!(stats.index.tree_chunks.count >= 2, "{stats:?}");
        let [series] = &stats.series[..] else { panic!("{:?}", stats.series) };
        assert_eq!((series.oldest, series.newest), (first.manifest.time, second.manifest.time));
        assert_eq!(
            series.added_bytes,
            first.manifest.totals.added_bytes + second.manifest.totals.added_bytes
        );
        let of = |prefix| stats.objects.iter().find(|(found, _)| *found == prefix).unwrap().1;
        assert_eq!(of(Prefix::Snapshots).count, 2);
        let packs = of(Prefix::Packs);
        assert_eq!(packs.bytes, stats.index.data_packs.bytes + stats.index.tree_packs.bytes);
        assert_eq!(packs.count, 4);
        assert!(stats.all_objects().bytes > packs.bytes);
    }

    #[test]
    fn what_two_hosts_store_at_once_is_counted_as_stored_twice() {
        let fixture = Fixture::new();
        let other = fixture.on_another_host();
        let content = noise(2, 4000);
        fixture.commit(|maker| vec![maker.file("a", &content)]);
        // The other begins before the first has told what it stored.
        let key = fixture.keys(Prefix::Index).remove(0);
        let bytes = fixture.memory.get(&key, None).unwrap();
        fixture.memory.delete(&key).unwrap();
        other.commit(|maker| vec![maker.file("a", &content)]);
        fixture.memory.create(&key, Payload::Bytes(&bytes)).unwrap();
        let stats = stats(&fixture.repo, &|_| true).unwrap();
        assert_eq!(stats.index.duplicate_data_chunks, Sum { count: 1, bytes: 4000 });
        assert_eq!(stats.unique_data(), Sum { count: 1, bytes: 4000 });
    }

    #[test]
    fn series_are_those_that_are_meant() {
        let fixture = Fixture::new();
        let first = fixture.commit(|maker| vec![maker.file("a", b"a")]);
        fixture.commit(|maker| vec![maker.file("a", b"b")]);
        let only_first = stats(&fixture.repo, &|snapshot| snapshot.manifest.id == first.manifest.id).unwrap();
        assert_eq!((only_first.snapshots.count, only_first.series[0].snapshots.count), (2, 1));
        assert!(stats(&fixture.repo, &|_| false).unwrap().series.is_empty());
    }
}
