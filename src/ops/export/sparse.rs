//! How the bytes of a file lie in an archive: all of them, or those outside its holes and a map of where they go.
//!
//! Sparse files are in GNU's format 1.0. GNU tar begins each region of data with a new block, and bsdtar does not;
//! regions of whole blocks are the same for both, so a region takes zeros of the holes beside it.

use super::header::{BLOCK_BYTES, padding};
use crate::format::content::ContentItem;
use crate::ops::list::for_each_item;
use crate::repo::content::ContentReader;
use crate::repo::{RepoError, Repository};

/// Data of a sparse file: whole blocks from the start of one, but for the end of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) start: u64,
    pub(super) end: u64,
}

/// Joins pieces of data that come in order to regions. Never holds more than one.
pub(super) struct Regions {
    file_bytes: u64,
    open: Option<Region>,
}

impl Regions {
    pub(super) fn new(file_bytes: u64) -> Self {
        Self { file_bytes, open: None }
    }

    /// Takes a piece of data; returns the region before it if the piece begins a new one.
    pub(super) fn push(&mut self, start: u64, end: u64) -> Option<Region> {
        let region = Region {
            start: start - start % BLOCK_BYTES,
            end: end.saturating_add(padding(end)).min(self.file_bytes),
        };
        match &mut self.open {
            Some(open) if region.start <= open.end => {
                open.end = open.end.max(region.end);
                None
            }
            open => open.replace(region),
        }
    }

    /// Returns the last region.
    pub(super) fn finish(self) -> Option<Region> {
        self.open
    }
}

/// How the bytes of a file lie in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// One after the other.
    Dense,
    /// In regions, after a map of them.
    Sparse(MapSize),
}

/// The sizes of a map and of what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct MapSize {
    pub(super) entries: u64,
    /// Bytes of the lines for the entries.
    lines_bytes: u64,
    data_bytes: u64,
}

impl MapSize {
    /// Returns the bytes of the map, whole blocks.
    fn map_bytes(self) -> u64 {
        let bytes = self.lines_bytes + digits(self.entries) + 1;
        bytes + padding(bytes)
    }

    /// Returns the bytes of all regions.
    pub(super) fn data_bytes(self) -> u64 {
        self.data_bytes
    }

    /// Returns the bytes of map and data.
    pub(super) fn archived_bytes(self) -> u64 {
        self.map_bytes().saturating_add(self.data_bytes)
    }

    fn add(&mut self, region: Region) {
        self.entries += 1;
        self.lines_bytes += map_lines(region).len() as u64;
        self.data_bytes += region.end - region.start;
    }
}

/// Returns the two lines of a region in a map.
pub(super) fn map_lines(region: Region) -> String {
    format!("{}\n{}\n", region.start, region.end - region.start)
}

/// Walks the list of a file's pieces, without reading them, and says how they lie in an archive.
pub(super) fn layout(repo: &Repository, reader: &ContentReader) -> Result<Layout, RepoError> {
    let mut size = MapSize::default();
    let holes = for_each_region(repo, reader, &mut |region| {
        size.add(region);
        Ok::<_, RepoError>(())
    })?;
    Ok(if holes > 0 { Layout::Sparse(size) } else { Layout::Dense })
}

/// Visits the entries of a file's map: its regions, and an empty one at its end where it ends in a hole, which
/// tells readers how far the file goes. Returns the number of holes.
pub(super) fn for_each_region<E: From<RepoError>>(
    repo: &Repository,
    reader: &ContentReader,
    visit: &mut dyn FnMut(Region) -> Result<(), E>,
) -> Result<u64, E> {
    let length = reader.length();
    let mut holes = 0;
    let mut regions = Regions::new(length);
    for_each_item(repo, reader, 0..length, &mut |start, item| match item {
        ContentItem::Hole(_) => {
            holes += 1;
            Ok(())
        }
        ContentItem::Data(..) => {
            let finished = regions.push(start, start.saturating_add(item.length()));
            finished.map_or(Ok(()), &mut *visit)
        }
    })?;
    let last = regions.finish();
    if let Some(last) = last {
        visit(last)?;
    }
    if last.is_none_or(|last| last.end < length) {
        visit(Region { start: length, end: length })?;
    }
    Ok(holes)
}

fn digits(number: u64) -> u64 {
    u64::from(number.checked_ilog10().unwrap_or(0)) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regions(file_bytes: u64, pieces: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let mut regions = Regions::new(file_bytes);
        let mut found: Vec<_> = pieces.iter().filter_map(|(start, end)| regions.push(*start, *end)).collect();
        found.extend(regions.finish());
        found.iter().map(|region| (region.start, region.end)).collect()
    }

    #[test]
    fn regions_are_whole_blocks_and_never_meet() {
        assert_eq!(regions(10_000, &[]), []);
        assert_eq!(regions(10_000, &[(0, 700), (700, 900)]), [(0, 1024)]);
        assert_eq!(regions(10_000, &[(600, 700), (2048, 2049)]), [(512, 1024), (2048, 2560)]);
        // The second begins in the block in which the first ends, or right behind it.
        assert_eq!(regions(10_000, &[(600, 700), (1000, 1100)]), [(512, 1536)]);
        assert_eq!(regions(10_000, &[(600, 700), (1030, 1100)]), [(512, 1536)]);
        assert_eq!(regions(10_000, &[(9999, 10_000)]), [(9728, 10_000)]);
    }

    #[test]
    fn maps_take_the_bytes_that_are_announced() {
        let mut size = MapSize::default();
        let mut lines = String::new();
        for number in 0..1000 {
            let region = Region { start: number * 4096, end: number * 4096 + 512 };
            size.add(region);
            lines.push_str(&map_lines(region));
        }
        let bytes = lines.len() as u64 + 5;
        assert_eq!(size.map_bytes(), bytes + padding(bytes));
        assert_eq!(size.archived_bytes(), size.map_bytes() + 512_000);
    }
}
