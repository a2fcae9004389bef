//! Makes entries of directories, stores what they need, and notes what is expected of them.

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::{BASE64, HEXLOWER};
use serde_json::{Value as Json, json};

use crate::crypto::hash::{ChunkKind, IdKeys};
use crate::format::FormatError;
use crate::format::content::{Content, ContentBuilder, ContentItem, ListNode};
use crate::format::tree::{
    Attributes, Entry, EntryKind, LinkGroup, Page, PageRef, Time, TreeBuilder, TreeRef, Value, Xattr,
};
use crate::id::ChunkId;
use crate::path::Name;

/// Bytes of the chunks that files are cut into, so that a few bytes make several.
const CHUNK_BYTES: usize = 4096;
const MTIME: Time = Time { seconds: 1_700_000_000, nanoseconds: 123_456_789 };

/// A part of a file.
#[derive(Clone, Copy)]
pub(super) enum Piece<'a> {
    Data(&'a [u8]),
    Hole(usize),
}

/// Where the value of an extended attribute stands.
#[derive(Clone, Copy)]
pub(super) enum Stands {
    InEntry,
    InChunk,
}

/// Stores what entries need, by a function that takes chunks.
pub(super) struct Maker<'a> {
    pub(super) ids: IdKeys,
    pub(super) add: &'a dyn Fn(ChunkKind, &[u8]) -> ChunkId,
}

impl Maker<'_> {
    /// Makes an entry of any kind but file and directory.
    #[expect(clippy::unused_self, reason = "recipes make all of their entries alike")]
    pub(super) fn entry(&self, name: impl AsRef<[u8]>, kind: EntryKind) -> Made {
        Made::new(name.as_ref(), kind)
    }

    pub(super) fn file(&self, name: impl AsRef<[u8]>, bytes: &[u8]) -> Made {
        let pieces: Vec<_> = bytes.chunks(CHUNK_BYTES).map(Piece::Data).collect();
        self.pieces(name, &pieces)
    }

    /// Makes a file of these pieces.
    pub(super) fn pieces(&self, name: impl AsRef<[u8]>, pieces: &[Piece<'_>]) -> Made {
        let mut builder = ContentBuilder::new();
        for item in self.items(pieces) {
            builder.push(item, &mut self.emit(ChunkKind::List)).unwrap();
        }
        let content = builder.finish(&mut self.emit(ChunkKind::List)).unwrap();
        Made { sha256: Some(sha256(&whole(pieces))), ..Made::new(name.as_ref(), EntryKind::File(content)) }
    }

    /// Makes a file whose list has nodes that no writer cuts so, on three levels.
    pub(super) fn hand_cut_file(&self, name: &str, pieces: &[Piece<'_>]) -> Made {
        let mut emit = self.emit(ChunkKind::List);
        let mut nodes: Vec<(ChunkId, u64)> = Vec::new();
        for items in self.items(pieces).chunks(3) {
            let length = items.iter().map(ContentItem::length).sum();
            nodes.push((emit(ListNode::Items(items.to_vec()).encode()).unwrap(), length));
        }
        for level in 1.. {
            if let [(node, length)] = nodes[..] {
                let content = Content::List { node, length };
                let sha256 = Some(sha256(&whole(pieces)));
                return Made { sha256, ..Made::new(name.as_bytes(), EntryKind::File(content)) };
            }
            let above = nodes.chunks(2).map(|children| {
                let length = children.iter().map(|(_, length)| *length).sum();
                let node = ListNode::Children { level, children: children.to_vec() };
                (emit(node.encode()).unwrap(), length)
            });
            nodes = above.collect();
        }
        unreachable!("two nodes become one")
    }

    pub(super) fn directory(&self, name: impl AsRef<[u8]>, children: Vec<Made>) -> Made {
        let (tree, children) = self.tree(children);
        Made { children, ..Made::new(name.as_ref(), EntryKind::Directory(tree)) }
    }

    /// Makes a directory with pages that no writer cuts so, on several levels.
    pub(super) fn hand_cut_directory(&self, name: &str, children: Vec<Made>) -> Made {
        let children = sorted(children);
        let mut pages = Vec::new();
        for few in children.chunks(2) {
            let entries: Vec<Entry> = few.iter().map(|made| made.entry.clone()).collect();
            let (count, bytes) = (entries.len() as u64, entries.iter().map(Entry::size).sum());
            let last_name = entries[entries.len() - 1].name.clone();
            let page = (self.add)(ChunkKind::Tree, &Page::Entries(entries).encode());
            pages.push(PageRef { last_name, tree: TreeRef { page, entries: count, bytes } });
        }
        for level in 1.. {
            if let [root] = &pages[..] {
                return Made { children, ..Made::new(name.as_bytes(), EntryKind::Directory(root.tree)) };
            }
            let above = pages.chunks(3).map(|below| {
                let page = Page::Pages { level, pages: below.to_vec() };
                let entries = below.iter().map(|page| page.tree.entries).sum();
                let bytes = below.iter().map(|page| page.tree.bytes).sum();
                let page = (self.add)(ChunkKind::Tree, &page.encode());
                PageRef {
                    last_name: below[below.len() - 1].last_name.clone(),
                    tree: TreeRef { page, entries, bytes },
                }
            });
            pages = above.collect();
        }
        unreachable!("two pages become one")
    }

    /// Makes a directory of one entry, as a later version may write it: the entry and the page have one more field.
    pub(super) fn later_directory(&self, name: &str, child: Made) -> Made {
        let mut page = Page::Entries(vec![child.entry.clone()]).encode();
        assert_eq!(page[..4], [0x82, 0x00, 0x81, 0x85]);
        (page[0], page[3]) = (0x83, 0x86);
        // The entry's is the text "new", the page's is the list of 1 and 2.
        page.extend_from_slice(b"\x63new\x82\x01\x02");
        let tree =
            TreeRef { page: (self.add)(ChunkKind::Tree, &page), entries: 1, bytes: child.entry.size() };
        Made { children: vec![child], ..Made::new(name.as_bytes(), EntryKind::Directory(tree)) }
    }

    /// Stores the pages of a directory; returns its entries in order, too.
    pub(super) fn tree(&self, children: Vec<Made>) -> (TreeRef, Vec<Made>) {
        let children = sorted(children);
        let mut builder = TreeBuilder::new(self.ids.clone());
        for child in &children {
            builder.push(child.entry.clone(), &mut self.emit(ChunkKind::Tree)).unwrap();
        }
        (builder.finish(&mut self.emit(ChunkKind::Tree)).unwrap(), children)
    }

    /// Makes the value of an extended attribute.
    fn value(&self, bytes: &[u8], stands: Stands) -> Value {
        match stands {
            Stands::InEntry => Value::Inline(bytes.to_vec()),
            Stands::InChunk => {
                let chunk = (self.add)(ChunkKind::Tree, bytes);
                Value::Spilled { chunk, length: u32::try_from(bytes.len()).unwrap() }
            }
        }
    }

    fn items(&self, pieces: &[Piece<'_>]) -> Vec<ContentItem> {
        let item = |piece: &Piece<'_>| match *piece {
            Piece::Hole(bytes) => ContentItem::Hole(bytes as u64),
            Piece::Data(bytes) => {
                ContentItem::Data((self.add)(ChunkKind::Data, bytes), u32::try_from(bytes.len()).unwrap())
            }
        };
        pieces.iter().map(item).collect()
    }

    fn emit(&self, kind: ChunkKind) -> impl FnMut(Vec<u8>) -> Result<ChunkId, FormatError> {
        move |bytes| Ok((self.add)(kind, &bytes))
    }
}

/// An entry, and what cannot be seen in it.
#[derive(Clone)]
pub(super) struct Made {
    entry: Entry,
    sha256: Option<String>,
    /// The extended attributes as JSON: name, length and SHA-256 of the value.
    xattrs: Vec<Json>,
    children: Vec<Self>,
}

impl Made {
    fn new(name: &[u8], kind: EntryKind) -> Self {
        let mode = if matches!(kind, EntryKind::Directory(_)) { 0o755 } else { 0o644 };
        let attributes = Attributes {
            mode,
            user: Some(b"root".to_vec()),
            mtime: MTIME,
            ctime: Time { seconds: 1_700_000_001, nanoseconds: 0 },
            btime: Some(Time { seconds: 1_600_000_000, nanoseconds: 999_999_999 }),
            ..Attributes::default()
        };
        let entry = Entry { name: Name::new(name).unwrap(), attributes, link: None, kind };
        Self { entry, sha256: None, xattrs: Vec::new(), children: Vec::new() }
    }

    pub(super) fn mode(mut self, mode: u16) -> Self {
        self.entry.attributes.mode = mode;
        self
    }

    pub(super) fn mtime(mut self, seconds: i64, nanoseconds: u32) -> Self {
        self.entry.attributes.mtime = Time { seconds, nanoseconds };
        self.entry.attributes.btime = None;
        self
    }

    pub(super) fn owner(mut self, uid: u32, gid: u32, user: &[u8], group: &[u8]) -> Self {
        let attributes = &mut self.entry.attributes;
        (attributes.uid, attributes.gid) = (uid, gid);
        (attributes.user, attributes.group) = (Some(user.to_vec()), Some(group.to_vec()));
        self
    }

    pub(super) fn link(mut self, group: u64, links: u32) -> Self {
        self.entry.link = Some(LinkGroup { group, links });
        self
    }

    /// Adds an extended attribute; names must rise.
    pub(super) fn xattr(mut self, maker: &Maker<'_>, name: &str, value: &[u8], stands: Stands) -> Self {
        self.xattrs.push(json!([name, value.len(), sha256(value)]));
        let xattr = Xattr { name: name.into(), value: maker.value(value, stands) };
        self.entry.attributes.xattrs.push(xattr);
        self
    }

    /// Appends what is expected of this entry and those below it.
    pub(super) fn describe(&self, above: &[u8], lines: &mut Vec<Json>) {
        let attributes = &self.entry.attributes;
        let path = [above, self.entry.name.as_bytes()].concat();
        let mut line = json!({
            "path": shown(&path),
            "kind": kind_word(&self.entry.kind),
            "mode": format!("{:04o}", attributes.mode),
            "uid": attributes.uid,
            "gid": attributes.gid,
            "user": attributes.user.as_deref().map(shown),
            "group": attributes.group.as_deref().map(shown),
            "size": self.entry.size(),
            "mtime": { "seconds": attributes.mtime.seconds, "nanoseconds": attributes.mtime.nanoseconds },
        });
        match &self.entry.kind {
            EntryKind::Symlink(target) => line["target"] = shown(target),
            EntryKind::CharDevice(device) | EntryKind::BlockDevice(device) => {
                line["device"] = format!("{},{}", device.major, device.minor).into();
            }
            EntryKind::Directory(tree) => line["entries"] = tree.entries.into(),
            EntryKind::File(_) | EntryKind::Fifo | EntryKind::Socket => {}
        }
        if let Some(link) = self.entry.link {
            line["links"] = link.links.into();
            line["link_group"] = format!("{:016x}", link.group).into();
        }
        if let Some(sha256) = &self.sha256 {
            line["sha256"] = sha256.as_str().into();
        }
        if !self.xattrs.is_empty() {
            line["xattrs"] = self.xattrs.clone().into();
        }
        lines.push(line);
        for child in &self.children {
            child.describe(&[&path[..], b"/"].concat(), lines);
        }
    }
}

/// Returns bytes as JSON shows them: a text, or base64 of what is none.
pub(super) fn shown(bytes: &[u8]) -> Json {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "b64": BASE64.encode(bytes) }),
    }
}

/// Returns bytes that do not compress and differ for each seed.
pub(super) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn kind_word(kind: &EntryKind) -> &'static str {
    match kind {
        EntryKind::File(_) => "file",
        EntryKind::Directory(_) => "directory",
        EntryKind::Symlink(_) => "symlink",
        EntryKind::Fifo => "fifo",
        EntryKind::CharDevice(_) => "char_device",
        EntryKind::BlockDevice(_) => "block_device",
        EntryKind::Socket => "socket",
    }
}

fn sorted(mut children: Vec<Made>) -> Vec<Made> {
    children.sort_by(|one, other| one.entry.name.cmp(&other.entry.name));
    children
}

fn whole(pieces: &[Piece<'_>]) -> Vec<u8> {
    let bytes = |piece: &Piece<'_>| match *piece {
        Piece::Data(bytes) => bytes.to_vec(),
        Piece::Hole(length) => vec![0; length],
    };
    pieces.iter().flat_map(bytes).collect()
}

fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(digest(&SHA256, bytes).as_ref())
}
