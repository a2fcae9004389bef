//! Trees: the entries of a directory and the rules that each of them follows.
//!
//! Owns the types and their rules. Their CBOR is `wire`'s, pages are `page`'s, and how pages are cut is
//! `builder`'s.

mod builder;
mod page;
#[cfg(test)]
mod tests;
mod wire;

use super::content::Content;
use crate::id::ChunkId;
use crate::path::Name;

pub use builder::TreeBuilder;
pub use page::{Page, PageRef};
pub use wire::{decode_attributes, encode_attributes};

/// Most bytes of an encoded page.
pub const PAGE_MAX_BYTES: usize = 64 << 10;
/// A page is not cut by content before it has this many entries.
pub const PAGE_MIN_ENTRIES: usize = 16;
/// Greatest level of a page.
pub const PAGE_MAX_LEVEL: u8 = 8;
/// A value longer than this is stored as a chunk of kind tree (spilled).
pub const SPILL_BYTES: usize = 4 << 10;
/// Most bytes of a spilled value: what one chunk can hold.
pub const SPILLED_MAX_BYTES: u32 = 4 << 20;
/// Most bytes of a symbolic link's target.
pub const SYMLINK_MAX_BYTES: usize = 4095;
/// Most bytes of the name of an extended attribute, an owner or a group.
pub const LABEL_MAX_BYTES: usize = 255;
/// Most extended attributes of one entry.
pub const XATTRS_MAX: usize = 4096;

const MODE_MAX: u16 = 0o7777;
const NANOSECONDS: u32 = 1_000_000_000;

/// A time stamp as the file system gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    /// Seconds since 1970, negative before.
    pub seconds: i64,
    /// 0 to 999,999,999, always forward from `seconds`.
    pub nanoseconds: u32,
}

/// A value that stands in its entry, or in a chunk of kind tree where it is long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// At most [`SPILL_BYTES`].
    Inline(Vec<u8>),
    /// A longer one.
    Spilled {
        /// The chunk that holds it.
        chunk: ChunkId,
        /// Its length, 1 to [`SPILLED_MAX_BYTES`].
        length: u32,
    },
}

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xattr {
    /// Full name (`user.…`, `system.posix_acl_access`, …), 1 to 255 bytes, no zero byte.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Value,
}

/// A device number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// What an entry is, with what only that kind has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// 0: a regular file. Its size is that of its content.
    File(Content),
    /// 1: a directory.
    Directory(TreeRef),
    /// 2: a symbolic link and its target, 1 to 4,095 bytes without a zero byte.
    Symlink(Vec<u8>),
    /// 3.
    Fifo,
    /// 4.
    CharDevice(Device),
    /// 5.
    BlockDevice(Device),
    /// 6.
    Socket,
}

/// A directory's pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeRef {
    /// The topmost page.
    pub page: ChunkId,
    /// Entries of this directory (not of those below it).
    pub entries: u64,
    /// Bytes of the regular files that are entries of this directory.
    pub bytes: u64,
}

/// Several names of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkGroup {
    /// The same for all names of one file in one snapshot, different for others.
    pub group: u64,
    /// How many names the file had, at least 2.
    pub links: u32,
}

/// The metadata that every kind of entry has, and the root of a snapshot too.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// Permission bits, set-id and sticky bits: the low 12 bits of `st_mode`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Name of the owner where the host knew one.
    pub user: Option<Vec<u8>>,
    /// Name of the group where the host knew one.
    pub group: Option<Vec<u8>>,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// Creation, where the file system knows it.
    pub btime: Option<Time>,
    /// Extended attributes sorted by name, without duplicates; ACLs are among them.
    pub xattrs: Vec<Xattr>,
}

impl Attributes {
    /// Checks the rules that all attributes follow, decoded or about to be encoded.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.mode > MODE_MAX {
            return Err("a mode has more than 12 bits");
        }
        let times = [Some(self.mtime), Some(self.ctime), self.btime];
        if times.iter().flatten().any(|time| time.nanoseconds >= NANOSECONDS) {
            return Err("a time has a billion nanoseconds or more");
        }
        if [&self.user, &self.group].into_iter().flatten().any(|name| !is_string(name, LABEL_MAX_BYTES)) {
            return Err("the name of an owner or group is empty, too long or holds a zero byte");
        }
        if self.xattrs.len() > XATTRS_MAX {
            return Err("there are too many extended attributes");
        }
        if !self.xattrs.iter().map(|xattr| &xattr.name).is_sorted_by(|before, after| before < after) {
            return Err("extended attributes are not strictly sorted");
        }
        self.xattrs.iter().try_for_each(Xattr::check)
    }
}

impl Xattr {
    fn check(&self) -> Result<(), &'static str> {
        if !is_string(&self.name, LABEL_MAX_BYTES) {
            return Err("the name of an extended attribute is empty, too long or holds a zero byte");
        }
        match &self.value {
            Value::Inline(bytes) if bytes.len() > SPILL_BYTES => Err("a long value was not spilled"),
            Value::Spilled { length: 0, .. } => Err("an empty value was spilled"),
            Value::Spilled { length, .. } if *length > SPILLED_MAX_BYTES => {
                Err("a spilled value is too long")
            }
            _ => Ok(()),
        }
    }
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: Name,
    /// Metadata.
    pub attributes: Attributes,
    /// Several names of one file; never on directories.
    pub link: Option<LinkGroup>,
    /// What it is.
    pub kind: EntryKind,
}

impl Entry {
    /// Returns `st_size`: bytes of a file, length of a symlink's target, 0 otherwise.
    #[must_use]
    pub fn size(&self) -> u64 {
        match &self.kind {
            EntryKind::File(content) => content.length(),
            EntryKind::Symlink(target) => target.len() as u64,
            _ => 0,
        }
    }

    /// Returns what the entry adds to the bytes of its directory.
    pub(super) fn file_bytes(&self) -> u64 {
        if matches!(self.kind, EntryKind::File(_)) { self.size() } else { 0 }
    }

    /// Checks the rules that every entry follows, decoded or about to be encoded.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        self.attributes.check()?;
        match (&self.kind, self.link) {
            (EntryKind::Directory(_), Some(_)) => return Err("a directory has several names"),
            (_, Some(LinkGroup { links: 0..=1, .. })) => return Err("a link group has fewer than two names"),
            _ => {}
        }
        match &self.kind {
            EntryKind::File(content) => content.check(),
            EntryKind::Symlink(target) if !is_string(target, SYMLINK_MAX_BYTES) => {
                Err("the target of a symbolic link is empty, too long or holds a zero byte")
            }
            _ => Ok(()),
        }
    }
}

/// Tells whether `bytes` are 1 to `maximum` bytes without a zero byte.
fn is_string(bytes: &[u8], maximum: usize) -> bool {
    (1..=maximum).contains(&bytes.len()) && !bytes.contains(&0)
}
