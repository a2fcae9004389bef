//! Copies between domains: everything is read, and cut, named and sealed anew with the keys of the other store.
//!
//! What people see stays byte for byte: names, attributes, holes, hard links, and the content of every file.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::Arc;

use super::{CopyError, CopyStats};
use crate::chunker::Chunker;
use crate::crypto::hash::ChunkKind;
use crate::format::content::{Content, ContentBuilder, ContentItem, ListNode};
use crate::format::snapshot::Manifest;
use crate::format::tree::{Attributes, Entry, EntryKind, TreeBuilder, TreeRef, Value};
use crate::id::ChunkId;
use crate::ops::ingest::known;
use crate::progress::{Event, Progress};
use crate::repo::content::{ContentReader, Piece};
use crate::repo::session::SessionWriter;
use crate::repo::tree::TreeReader;
use crate::repo::{RepoError, Repository};

/// Contents that are remembered, so that what did not change from one snapshot to the next is read once.
const CONTENTS_KEPT: usize = 1 << 20;

/// Brings snapshots of another domain into sessions.
pub(super) struct Resealer<'a> {
    source: &'a Repository,
    destination: &'a Repository,
    /// What contents became, by the hash of what names them in the store that is copied from.
    known: HashMap<blake3::Hash, Content>,
}

/// A directory that is being copied.
struct OpenDirectory<'a> {
    /// Its own entry; nothing for the root.
    entry: Option<Entry>,
    left: TreeReader<'a>,
    builder: TreeBuilder,
}

impl<'a> Resealer<'a> {
    pub(super) fn new(source: &'a Repository, destination: &'a Repository) -> Self {
        Self { source, destination, known: HashMap::new() }
    }

    /// Brings a snapshot; returns its manifest with the root that it has now.
    pub(super) fn fill(
        &mut self,
        session: &SessionWriter,
        manifest: &Manifest,
        stats: &mut CopyStats,
        progress: &dyn Progress,
    ) -> Result<Manifest, CopyError> {
        let root_attributes = self.attributes(session, manifest.root_attributes.clone())?;
        let mut open = vec![self.open(None, &manifest.root)];
        let mut root = None;
        while let Some(directory) = open.last_mut() {
            let Some(entry) = directory.left.next() else {
                root = self.close(session, &mut open)?;
                continue;
            };
            let mut entry = entry.map_err(CopyError::Source)?;
            entry.attributes = self.attributes(session, entry.attributes)?;
            match &entry.kind {
                EntryKind::Directory(tree) => {
                    let tree = *tree;
                    open.push(self.open(Some(entry), &tree));
                    continue;
                }
                EntryKind::File(content) => {
                    let bytes = content.length();
                    entry.kind = EntryKind::File(self.content(session, content, stats)?);
                    progress.event(Event::Done { files: 1, bytes });
                }
                _ => {}
            }
            directory.builder.push(entry, &mut |page| add(session, ChunkKind::Tree, &page))?;
        }
        let root = root.ok_or(CopyError::Destination(RepoError::SessionFailed))?;
        Ok(Manifest { root, root_attributes, ..manifest.clone() })
    }

    fn open(&self, entry: Option<Entry>, tree: &TreeRef) -> OpenDirectory<'a> {
        let builder = TreeBuilder::new(self.destination.keys().ids().clone());
        OpenDirectory { entry, left: self.source.entries(tree, None), builder }
    }

    /// Ends the innermost directory, and puts it into the one around it; returns the root in the end.
    fn close(
        &self,
        session: &SessionWriter,
        open: &mut Vec<OpenDirectory<'a>>,
    ) -> Result<Option<TreeRef>, CopyError> {
        let Some(directory) = open.pop() else { return Ok(None) };
        let tree = directory.builder.finish(&mut |page| add(session, ChunkKind::Tree, &page))?;
        let (Some(mut entry), Some(around)) = (directory.entry, open.last_mut()) else {
            return Ok(Some(tree));
        };
        entry.kind = EntryKind::Directory(tree);
        around.builder.push(entry, &mut |page| add(session, ChunkKind::Tree, &page))?;
        Ok(None)
    }

    /// Stores long values of attributes anew.
    fn attributes(
        &self,
        session: &SessionWriter,
        mut attributes: Attributes,
    ) -> Result<Attributes, CopyError> {
        for xattr in &mut attributes.xattrs {
            if let Value::Spilled { length, .. } = xattr.value {
                let bytes = self.source.value(&xattr.value).map_err(CopyError::Source)?;
                xattr.value = Value::Spilled { chunk: add(session, ChunkKind::Tree, &bytes)?, length };
            }
        }
        Ok(attributes)
    }

    /// Returns what the content of a file is in the other store; reads it if that is not known, or not to be relied on.
    fn content(
        &mut self,
        session: &SessionWriter,
        content: &Content,
        stats: &mut CopyStats,
    ) -> Result<Content, CopyError> {
        let name = name_of(content);
        if let Some(known) = self.known.get(&name)
            && known::is_usable(self.destination, session, known).map_err(CopyError::Destination)?
        {
            return Ok(known.clone());
        }
        let resealed = self.read_content(session, content, stats)?;
        if self.known.len() >= CONTENTS_KEPT {
            self.known.clear();
        }
        self.known.insert(name, resealed.clone());
        Ok(resealed)
    }

    fn read_content(
        &self,
        session: &SessionWriter,
        content: &Content,
        stats: &mut CopyStats,
    ) -> Result<Content, CopyError> {
        let reader = ContentReader::new(content);
        let mut builder = ContentBuilder::new();
        let mut emit = |node: Vec<u8>| add(session, ChunkKind::List, &node);
        let mut offset = 0;
        while let Some(Piece { offset: start, item }) =
            reader.piece_at(self.source, offset).map_err(CopyError::Source)?
        {
            if let ContentItem::Hole(length) = item {
                builder.push(ContentItem::Hole(length), &mut emit)?;
                offset = start + length;
                continue;
            }
            let mut island = Island { repo: self.source, reader: &reader, offset, failure: Cell::new(None) };
            let mut chunker = Chunker::new(&mut island, Arc::clone(self.destination.chunker()));
            let mut chunks = Vec::new();
            let ended = loop {
                match chunker.next_chunk() {
                    Ok(Some(plain)) => {
                        let added = if chunker.is_done() {
                            session.add(ChunkKind::Data, &plain)
                        } else {
                            session.add_inner(&plain)
                        };
                        let id = added.map_err(CopyError::Destination)?;
                        chunks.push(ContentItem::Data(id, u32::try_from(plain.len()).unwrap_or(u32::MAX)));
                    }
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
                for chunk in chunks.drain(..) {
                    builder.push(chunk, &mut emit)?;
                }
            };
            drop(chunker);
            ended.map_err(|error| CopyError::Source(island.failed(error)))?;
            stats.resealed_bytes += island.offset - offset;
            if island.offset == offset {
                // What is said to lie here and gives nothing would be asked for again and again.
                return Err(CopyError::Source(island.failed(io::ErrorKind::UnexpectedEof.into())));
            }
            offset = island.offset;
        }
        builder.finish(&mut emit)
    }
}

/// Reads what lies between two holes of a file.
struct Island<'a> {
    repo: &'a Repository,
    reader: &'a ContentReader,
    offset: u64,
    failure: Cell<Option<RepoError>>,
}

impl Island<'_> {
    /// Returns why it could not be read.
    fn failed(&self, error: io::Error) -> RepoError {
        self.failure.take().unwrap_or(RepoError::Local {
            operation: "read",
            path: "what is to be copied".to_owned(),
            source: error,
        })
    }

    fn read_piece(&self, buffer: &mut [u8]) -> Result<usize, RepoError> {
        let Some(piece) = self.reader.piece_at(self.repo, self.offset)? else { return Ok(0) };
        let ContentItem::Data(_, length) = piece.item else { return Ok(0) };
        let left = piece.offset + u64::from(length) - self.offset;
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = buffer.get_mut(..wanted).unwrap_or_default();
        self.reader.read_at(self.repo, self.offset, buffer)
    }
}

impl Read for Island<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.read_piece(buffer) {
            Ok(bytes) => {
                self.offset += bytes as u64;
                Ok(bytes)
            }
            Err(error) => {
                self.failure.set(Some(error));
                Err(io::Error::other("the store that is copied from failed"))
            }
        }
    }
}

/// Returns the hash of what names a content.
fn name_of(content: &Content) -> blake3::Hash {
    match content {
        Content::Inline(items) => blake3::hash(&ListNode::Items(items.clone()).encode()),
        Content::List { node, length } => {
            blake3::hash(&[node.as_bytes().as_slice(), &length.to_le_bytes()].concat())
        }
    }
}

fn add(session: &SessionWriter, kind: ChunkKind, plain: &[u8]) -> Result<ChunkId, CopyError> {
    session.add(kind, plain).map_err(CopyError::Destination)
}
