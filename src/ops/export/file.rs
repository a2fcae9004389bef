//! Writes a regular file into an archive: header, map where it has holes, and bytes.

use super::header::{BLOCK_BYTES, Member, MemberKind};
use super::sparse::{self, Layout, MapSize, Regions};
use super::walk::{Exporter, Stop, Taken};
use crate::format::content::{Content, ContentItem};
use crate::format::tree::Attributes;
use crate::id::ChunkId;
use crate::ops::list::{for_each_item, read_chunk};
use crate::path::TreePath;
use crate::progress::{Event, error_chain};
use crate::repo::RepoError;
use crate::repo::content::ContentReader;

/// Most damaged places of a file that a message names.
const PLACES_NAMED: usize = 8;

/// Places of a file that cannot be read, neighbours joined.
#[derive(Default)]
struct Gaps {
    places: Vec<(u64, u64)>,
    more: u64,
    bytes: u64,
    why: String,
}

impl Gaps {
    fn add(&mut self, start: u64, end: u64, error: &RepoError) {
        self.bytes += end - start;
        let is_full = self.places.len() == PLACES_NAMED;
        match self.places.last_mut() {
            Some((_, last)) if self.more == 0 && *last == start => *last = end,
            _ if is_full => self.more += 1,
            _ => self.places.push((start, end)),
        }
        if self.why.is_empty() {
            self.why = error_chain(error);
        }
    }

    fn sentence(&self, length: u64) -> Option<String> {
        if self.places.is_empty() {
            return None;
        }
        let mut places: Vec<String> =
            self.places.iter().map(|(start, end)| format!("{start} to {}", end - 1)).collect();
        if self.more > 0 {
            places.push(format!("and {} more", self.more));
        }
        let places = places.join(", ");
        Some(format!(
            "{} of its {length} bytes are zeros in the archive ({places}): {}",
            self.bytes, self.why
        ))
    }
}

impl Exporter<'_> {
    /// Writes a file; leaves it out if the list of its pieces cannot be read, and says so.
    pub(super) fn file(
        &mut self,
        path: &TreePath,
        bytes: &[u8],
        attributes: &Attributes,
        content: &Content,
    ) -> Result<Taken, Stop> {
        let reader = ContentReader::new(content);
        let layout = match sparse::layout(self.repo, &reader) {
            Ok(layout) => layout,
            Err(error) if error.is_damage() => {
                self.fail(path, format!("it is left out: {}", error_chain(&error)));
                return Ok(Taken::No);
            }
            Err(error) => return Err(error.into()),
        };
        let xattrs = self.xattrs(path, attributes)?;
        let kind = match layout {
            Layout::Dense => MemberKind::File { bytes: reader.length() },
            Layout::Sparse(size) => {
                MemberKind::Sparse { archived_bytes: size.archived_bytes(), real_bytes: reader.length() }
            }
        };
        self.header(&Member { path: bytes, attributes, xattrs: &xattrs, kind })?;
        let promised = self.outlet.bytes().saturating_add(kind.archived_bytes());
        let mut gaps = Gaps::default();
        let written = match layout {
            Layout::Dense => self.dense(&reader, &mut gaps),
            Layout::Sparse(size) => self.sparse(&reader, size, promised, &mut gaps),
        };
        match written {
            // The list was whole a moment ago: the store is failing right now.
            Err(Stop::Repo(error)) if error.is_damage() => {
                let why = error_chain(&error);
                self.fail(path, format!("its end is zeros in the archive: {why}"));
            }
            written => written?,
        }
        // The last region of a sparse file may end with zeros of the hole behind it.
        self.outlet.write_zeros(promised.saturating_sub(self.outlet.bytes()))?;
        self.pad()?;
        if let Some(sentence) = gaps.sentence(reader.length()) {
            self.fail(path, sentence);
        }
        self.stats.bytes += reader.length();
        self.done_file();
        Ok(Taken::Yes)
    }

    fn dense(&mut self, reader: &ContentReader, gaps: &mut Gaps) -> Result<(), Stop> {
        for_each_item(self.repo, reader, 0..reader.length(), &mut |start, item| match item {
            ContentItem::Hole(length) => Ok(self.outlet.write_zeros(length)?),
            ContentItem::Data(id, length) => self.data(start, &id, length, gaps),
        })
    }

    /// Writes the map and the regions.
    fn sparse(
        &mut self,
        reader: &ContentReader,
        size: MapSize,
        promised: u64,
        gaps: &mut Gaps,
    ) -> Result<(), Stop> {
        self.outlet.write(format!("{}\n", size.entries).as_bytes())?;
        sparse::for_each_region(self.repo, reader, &mut |region| {
            Ok::<_, Stop>(self.outlet.write(sparse::map_lines(region).as_bytes())?)
        })?;
        let data_begins = promised.saturating_sub(size.data_bytes());
        self.outlet.write_zeros(data_begins.saturating_sub(self.outlet.bytes()))?;
        let mut regions = Regions::new(reader.length());
        // How far the region that is being written has got.
        let mut reached: Option<u64> = None;
        for_each_item(self.repo, reader, 0..reader.length(), &mut |start, item| {
            let (id, length) = match item {
                ContentItem::Data(id, length) => (id, length),
                ContentItem::Hole(length) => {
                    self.progress.event(Event::Done { files: 0, bytes: length });
                    return Ok(());
                }
            };
            let end = start.saturating_add(length.into());
            if let (Some(finished), Some(before)) = (regions.push(start, end), reached) {
                self.outlet.write_zeros(finished.end.saturating_sub(before))?;
                reached = None;
            }
            let from = reached.unwrap_or(start - start % BLOCK_BYTES);
            self.outlet.write_zeros(start.saturating_sub(from))?;
            reached = Some(end);
            self.data(start, &id, length, gaps)
        })
    }

    /// Writes a chunk, or zeros in its place.
    fn data(&mut self, start: u64, id: &ChunkId, length: u32, gaps: &mut Gaps) -> Result<(), Stop> {
        let bytes = u64::from(length);
        match read_chunk(self.repo, id, length) {
            Ok(chunk) => self.outlet.write_chunk(chunk)?,
            Err(error) if error.is_damage() => {
                gaps.add(start, start.saturating_add(bytes), &error);
                self.outlet.write_zeros(bytes)?;
            }
            Err(error) => return Err(error.into()),
        }
        self.progress.event(Event::Done { files: 0, bytes });
        Ok(())
    }
}
