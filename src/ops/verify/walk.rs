//! Walks the trees of snapshots: every chunk they need must be somewhere, and what is not is named by its files.
//!
//! Pages that are whole, with everything below them, are walked once for all snapshots that share them. Pages
//! with damage below them are walked for each snapshot again, since every snapshot's files are to be named, and
//! so are pages of which another parent says something else: what a parent says of a page must be true as well.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use super::claim::{NodeClaim, PageClaim, Step};
use super::report::DamageId;
use super::{Run, add};
use crate::crypto::hash::ChunkKind;
use crate::format::content::{Content, ContentItem, ListNode};
use crate::format::frame::FrameChunk;
use crate::format::snapshot::Manifest;
use crate::format::tree::{Attributes, Entry, EntryKind, Value};
use crate::id::{ChunkId, SnapshotId};
use crate::index::{FrameRef, NeighbourHome};
use crate::path::TreePath;
use crate::progress::error_chain;
use crate::repo::RepoError;

/// Chunks that are remembered because they lie beside one that was looked up. Files that lie side by side were stored
/// side by side, and a lookup costs more than all else that is done for a file.
const BESIDE_MAX: usize = 1 << 14;

/// Walks snapshots and remembers what is whole.
pub(super) struct Walker<'a> {
    run: &'a Run<'a>,
    /// Claims that hold and below which all is whole, by their hashes: with a random key, no two come up alike.
    whole: HashSet<u64>,
    hasher: RandomState,
    /// One frame for each chunk that was met.
    frames: BTreeSet<FrameRef>,
    /// Chunks in frames that are not bad, with their lengths.
    beside: HashMap<ChunkId, (FrameRef, u32)>,
}

/// A page that is being walked.
struct OpenPage {
    claim: u64,
    directory: TreePath,
    steps: std::vec::IntoIter<Step>,
    is_whole: bool,
}

impl<'a> Walker<'a> {
    /// Starts with nothing known.
    pub(super) fn new(run: &'a Run<'a>) -> Self {
        Self {
            run,
            whole: HashSet::new(),
            hasher: RandomState::new(),
            frames: BTreeSet::new(),
            beside: HashMap::new(),
        }
    }

    /// Returns the frames that hold everything that was met, trees included.
    pub(super) fn into_frames(self) -> BTreeSet<FrameRef> {
        self.frames
    }

    /// Walks one snapshot and notes what damage touches in it.
    pub(super) fn snapshot(&mut self, manifest: &Manifest) -> Result<(), RepoError> {
        add(&self.run.counts.snapshots, 1);
        let snapshot = manifest.id;
        let root = TreePath::root();
        let damage = self.attributes(&manifest.root_attributes)?;
        self.touch(snapshot, &root, &damage);
        let mut stack = Vec::new();
        self.enter(&mut stack, snapshot, &PageClaim::topmost(&manifest.root), root)?;
        while let Some(page) = stack.last_mut() {
            match page.steps.next() {
                None => leave(&mut self.whole, &mut stack),
                Some(Step::Page(claim)) => {
                    let directory = page.directory.clone();
                    self.enter(&mut stack, snapshot, &claim, directory)?;
                }
                Some(Step::Entry(entry)) => {
                    let damage = self.entry(&entry)?;
                    if !damage.is_empty() {
                        page.is_whole = false;
                        self.touch(snapshot, &page.directory.join(&entry.name), &damage);
                    }
                    if let EntryKind::Directory(tree) = &entry.kind {
                        let directory = page.directory.join(&entry.name);
                        self.enter(&mut stack, snapshot, &PageClaim::topmost(tree), directory)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Opens a page and puts it on the stack, unless it is known to be whole, cannot be read or is not as claimed.
    fn enter(
        &mut self,
        stack: &mut Vec<OpenPage>,
        snapshot: SnapshotId,
        claim: &PageClaim,
        directory: TreePath,
    ) -> Result<(), RepoError> {
        let hash = self.hasher.hash_one(claim);
        if self.whole.contains(&hash) {
            return Ok(());
        }
        match self.read(ChunkKind::Tree, &claim.page, |bytes| claim.steps(bytes))? {
            Ok(steps) => {
                stack.push(OpenPage { claim: hash, directory, steps: steps.into_iter(), is_whole: true });
            }
            Err(damage) => {
                self.run.report.touches(damage, snapshot, &directory);
                if let Some(above) = stack.last_mut() {
                    above.is_whole = false;
                }
            }
        }
        Ok(())
    }

    /// Returns what is damaged of an entry itself: its attributes and content.
    fn entry(&mut self, entry: &Entry) -> Result<BTreeSet<DamageId>, RepoError> {
        let mut damage = self.attributes(&entry.attributes)?;
        match &entry.kind {
            EntryKind::File(Content::Inline(items)) => self.items(items, &mut damage)?,
            EntryKind::File(Content::List { node, length }) => {
                let claim = NodeClaim { node: *node, length: *length, level: None };
                self.list(&claim, &mut damage)?;
            }
            _ => {}
        }
        Ok(damage)
    }

    fn attributes(&mut self, attributes: &Attributes) -> Result<BTreeSet<DamageId>, RepoError> {
        let mut damage = BTreeSet::new();
        for xattr in &attributes.xattrs {
            if let Value::Spilled { chunk, length } = &xattr.value {
                damage.extend(self.chunk(chunk, Some(*length))?);
            }
        }
        Ok(damage)
    }

    fn items(&mut self, items: &[ContentItem], damage: &mut BTreeSet<DamageId>) -> Result<(), RepoError> {
        for item in items {
            if let ContentItem::Data(id, length) = item {
                damage.extend(self.chunk(id, Some(*length))?);
            }
        }
        Ok(())
    }

    /// Walks a node of a content list. Levels only go down, which bounds the recursion.
    fn list(&mut self, claim: &NodeClaim, damage: &mut BTreeSet<DamageId>) -> Result<(), RepoError> {
        let hash = self.hasher.hash_one(claim);
        if self.whole.contains(&hash) {
            return Ok(());
        }
        let node = match self.read(ChunkKind::List, &claim.node, |bytes| claim.decode(bytes))? {
            Ok(node) => node,
            Err(why) => {
                damage.insert(why);
                return Ok(());
            }
        };
        let mut below = BTreeSet::new();
        match node {
            ListNode::Items(items) => self.items(&items, &mut below)?,
            ListNode::Children { level, children } => {
                for (node, length) in children {
                    self.list(&NodeClaim { node, length, level: level.checked_sub(1) }, &mut below)?;
                }
            }
        }
        if below.is_empty() {
            self.whole.insert(hash);
        }
        damage.append(&mut below);
        Ok(())
    }

    /// Reads and decodes a chunk of metadata; returns the damage where that fails.
    fn read<T>(
        &mut self,
        kind: ChunkKind,
        id: &ChunkId,
        decode: impl FnOnce(&[u8]) -> Result<T, String>,
    ) -> Result<Result<T, DamageId>, RepoError> {
        if let Some(damage) = self.chunk(id, None)? {
            return Ok(Err(damage));
        }
        match self.run.repo.chunk(kind, id) {
            Ok(chunk) => Ok(decode(&chunk).map_err(|what| self.run.report.bad_chunk(id, what))),
            Err(error) if error.is_damage() => Ok(Err(self.run.report.bad_chunk(id, error_chain(&error)))),
            Err(error) => Err(error),
        }
    }

    /// Looks where a chunk is; returns the damage if it is nowhere, or nowhere whole.
    fn chunk(&mut self, id: &ChunkId, length: Option<u32>) -> Result<Option<DamageId>, RepoError> {
        if let Some((frame, found)) = self.beside.get(id)
            && length.is_none_or(|length| length == *found)
        {
            self.frames.insert(*frame);
            return Ok(None);
        }
        let homes = self.run.repo.index().neighbours(id)?;
        let Some(NeighbourHome { frame, chunks, .. }) = homes.first() else {
            return Ok(Some(self.run.report.bad_chunk(id, "it is in no pack of the store")));
        };
        let found = chunks.iter().find(|chunk| chunk.id == *id);
        if length.is_some_and(|length| found.is_none_or(|found| found.length != length)) {
            let what = "it has another length than the file that needs it says";
            return Ok(Some(self.run.report.bad_chunk(id, what)));
        }
        self.frames.insert(*frame);
        if !self.run.report.is_bad(*frame) {
            self.keep_beside(*frame, chunks);
        }
        Ok(self.run.report.why_all_bad(homes.iter().map(|home| home.frame)))
    }

    fn keep_beside(&mut self, frame: FrameRef, chunks: &[FrameChunk]) {
        if self.beside.len() + chunks.len() > BESIDE_MAX {
            self.beside.clear();
        }
        self.beside.extend(chunks.iter().map(|chunk| (chunk.id, (frame, chunk.length))));
    }

    fn touch(&self, snapshot: SnapshotId, path: &TreePath, damage: &BTreeSet<DamageId>) {
        for one in damage {
            self.run.report.touches(*one, snapshot, path);
        }
    }
}

/// Takes a finished page off the stack, and remembers it if all below it is whole.
fn leave(whole: &mut HashSet<u64>, stack: &mut Vec<OpenPage>) {
    let Some(page) = stack.pop() else { return };
    if page.is_whole {
        whole.insert(page.claim);
    } else if let Some(above) = stack.last_mut() {
        above.is_whole = false;
    }
}
