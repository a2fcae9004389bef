//! The headers of archive members: a `ustar` block, after a pax extended header for what does not fit in it.
//!
//! Pure bytes. Crate `tar` lays out the blocks; pax records are written here, since the crate's own writer takes
//! no sparse files and its numbers that are too large become a GNU extension where pax has a record for them.
//! See POSIX.1-2017, "pax Interchange Format"; GNU tar's manual, appendix "Sparse Formats", for sparse files.

use tar::{EntryType, Header};

use super::acl;
use crate::format::tree::{Attributes, Device, Time};

/// Everything in an archive is a multiple of this.
pub(super) const BLOCK_BYTES: u64 = 512;
const NANOSECONDS: i128 = 1_000_000_000;
/// A name of an owner or group ends with a zero byte in its field of 32.
const OWNER_MAX_BYTES: usize = 31;

/// An extended attribute: its name and its value.
pub(super) type NamedValue = (Vec<u8>, Vec<u8>);

/// What stands in an archive under one path.
#[derive(Debug, Clone)]
pub(super) struct Member<'a> {
    /// Its path, relative, without a `/` at its end.
    pub(super) path: &'a [u8],
    pub(super) attributes: &'a Attributes,
    pub(super) xattrs: &'a [NamedValue],
    pub(super) kind: MemberKind<'a>,
}

/// What a member is.
#[derive(Debug, Clone, Copy)]
pub(super) enum MemberKind<'a> {
    /// A file of which every byte follows.
    File {
        bytes: u64,
    },
    /// A file of which a map of its data follows, and the data.
    Sparse {
        archived_bytes: u64,
        real_bytes: u64,
    },
    Directory,
    /// A symbolic link to this target.
    Symlink(&'a [u8]),
    /// Another name of the member with this path.
    HardLink(&'a [u8]),
    Fifo,
    CharDevice(Device),
    BlockDevice(Device),
}

impl MemberKind<'_> {
    fn entry_type(self) -> EntryType {
        match self {
            Self::File { .. } | Self::Sparse { .. } => EntryType::Regular,
            Self::Directory => EntryType::Directory,
            Self::Symlink(_) => EntryType::Symlink,
            Self::HardLink(_) => EntryType::Link,
            Self::Fifo => EntryType::Fifo,
            Self::CharDevice(_) => EntryType::Char,
            Self::BlockDevice(_) => EntryType::Block,
        }
    }

    /// Returns how many bytes follow the headers, padding not counted.
    pub(super) fn archived_bytes(self) -> u64 {
        match self {
            Self::File { bytes } => bytes,
            Self::Sparse { archived_bytes, .. } => archived_bytes,
            _ => 0,
        }
    }
}

/// Returns the headers of a member, whole blocks.
pub(super) fn encode(member: &Member<'_>) -> Vec<u8> {
    let mut records = Records::default();
    let block = main_block(member, &mut records);
    let records = records.finish();
    let mut bytes = Vec::new();
    if !records.is_empty() {
        bytes.extend_from_slice(extended_block(member.path, records.len() as u64).as_bytes());
        bytes.extend_from_slice(&records);
        let padding = padding(records.len() as u64);
        bytes.extend((0..padding).map(|_| 0));
    }
    bytes.extend_from_slice(block.as_bytes());
    bytes
}

/// Returns how many bytes are missing to a whole block.
pub(super) fn padding(length: u64) -> u64 {
    (BLOCK_BYTES - length % BLOCK_BYTES) % BLOCK_BYTES
}

/// Makes the block of the member itself; what does not fit in it goes to `records`.
fn main_block(member: &Member<'_>, records: &mut Records) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(member.kind.entry_type());
    if let Some(fields) = header.as_ustar_mut() {
        let attributes = member.attributes;
        name(fields, member, records);
        number(&mut fields.mode, attributes.mode.into(), || {});
        number(&mut fields.uid, attributes.uid.into(), || records.add_number("uid", attributes.uid.into()));
        number(&mut fields.gid, attributes.gid.into(), || records.add_number("gid", attributes.gid.into()));
        let size = member.kind.archived_bytes();
        number(&mut fields.size, size, || records.add_number("size", size));
        time(&mut fields.mtime, attributes.mtime, records);
        owner(&mut fields.uname, "uname", attributes.user.as_deref(), records);
        owner(&mut fields.gname, "gname", attributes.group.as_deref(), records);
        let device = match member.kind {
            MemberKind::CharDevice(device) | MemberKind::BlockDevice(device) => device,
            _ => Device { major: 0, minor: 0 },
        };
        let mut half = |field: &mut [u8; 8], key: &str, value: u32| {
            number(field, value.into(), || records.add_number(key, value.into()));
        };
        half(&mut fields.dev_major, "SCHILY.devmajor", device.major);
        half(&mut fields.dev_minor, "SCHILY.devminor", device.minor);
    }
    xattrs(member.xattrs, records);
    header.set_cksum();
    header
}

fn extended_block(path: &[u8], bytes: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::XHeader);
    if let Some(fields) = header.as_ustar_mut() {
        // Shown by readers that know no pax, and used by none.
        put(&mut fields.name, &stand_in(b"PaxHeaders/", path));
        number(&mut fields.mode, 0o644, || {});
        number(&mut fields.uid, 0, || {});
        number(&mut fields.gid, 0, || {});
        number(&mut fields.size, bytes, || {});
        number(&mut fields.mtime, 0, || {});
    }
    header.set_cksum();
    header
}

fn name(fields: &mut tar::UstarHeader, member: &Member<'_>, records: &mut Records) {
    match member.kind {
        MemberKind::Sparse { real_bytes, .. } => {
            records.add("GNU.sparse.major", b"1");
            records.add("GNU.sparse.minor", b"0");
            records.add_text("GNU.sparse.name", member.path);
            records.add_number("GNU.sparse.realsize", real_bytes);
            // A reader that cannot undo it must not take the map for the file.
            put(&mut fields.name, &stand_in(b"GNUSparseFile.0/", member.path));
        }
        MemberKind::Directory => {
            let path = [member.path, b"/"].concat();
            path_fields(fields, &path, records);
        }
        MemberKind::Symlink(target) | MemberKind::HardLink(target) => {
            path_fields(fields, member.path, records);
            if !put(&mut fields.linkname, target) {
                records.add_text("linkpath", target);
            }
        }
        _ => path_fields(fields, member.path, records),
    }
}

/// Puts a path in its field, or in two fields joined by a `/`. These take raw bytes with every reader; of a pax
/// record readers want to know the character set.
fn path_fields(fields: &mut tar::UstarHeader, path: &[u8], records: &mut Records) {
    if put(&mut fields.name, path) {
        return;
    }
    let can_split = |at: &usize| {
        let rest = path.len() - at - 1;
        path.get(*at) == Some(&b'/') && (1..=fields.name.len()).contains(&rest)
    };
    let split = (1..path.len().min(fields.prefix.len() + 1)).rev().find(can_split);
    if let Some((prefix, rest)) = split.and_then(|at| path.split_at_checked(at)) {
        put(&mut fields.prefix, prefix);
        put(&mut fields.name, rest.get(1..).unwrap_or_default());
        return;
    }
    records.add_text("path", path);
    put(&mut fields.name, &stand_in(b"", path));
}

/// Returns a name that fits a header for what has its real name in a record.
fn stand_in(folder: &[u8], path: &[u8]) -> Vec<u8> {
    let last = path.rsplit(|byte| *byte == b'/').find(|part| !part.is_empty()).unwrap_or(b"-");
    let room = 100 - folder.len();
    [folder, last.get(..room).unwrap_or(last)].concat()
}

/// Puts bytes in a field if they fit, and tells whether they do.
fn put(field: &mut [u8], bytes: &[u8]) -> bool {
    match field.get_mut(..bytes.len()) {
        Some(start) => {
            start.copy_from_slice(bytes);
            true
        }
        None => false,
    }
}

/// Puts a number in its field; one that is too large becomes the largest there, and `record` says what it is.
fn number(field: &mut [u8], value: u64, record: impl FnOnce()) {
    let digits = field.len() - 1;
    let most = (1_u64 << (3 * digits)) - 1;
    if value > most {
        record();
    }
    put(field, format!("{:0digits$o}\0", value.min(most)).as_bytes());
}

fn time(field: &mut [u8; 12], time: Time, records: &mut Records) {
    let whole = u64::try_from(time.seconds).ok().filter(|_| time.nanoseconds == 0);
    let seconds = u64::try_from(time.seconds).unwrap_or(0);
    let mut fits = whole.is_some();
    number(field, seconds, || fits = false);
    if !fits {
        records.add("mtime", decimal(time).as_bytes());
    }
}

/// Returns a time as a decimal number: half a second before 1970 is `-0.500000000`.
fn decimal(time: Time) -> String {
    let total = i128::from(time.seconds) * NANOSECONDS + i128::from(time.nanoseconds);
    let sign = if total < 0 { "-" } else { "" };
    let (seconds, nanoseconds) = (total.abs() / NANOSECONDS, total.abs() % NANOSECONDS);
    if nanoseconds == 0 { format!("{sign}{seconds}") } else { format!("{sign}{seconds}.{nanoseconds:09}") }
}

fn owner(field: &mut [u8; 32], key: &str, name: Option<&[u8]>, records: &mut Records) {
    let name = name.unwrap_or_default();
    if name.len() > OWNER_MAX_BYTES || !put(field, name) {
        records.add_text(key, name);
    }
}

fn xattrs(xattrs: &[NamedValue], records: &mut Records) {
    for (name, value) in xattrs {
        // Readers take ACLs as text; GNU tar without `--acls` takes them as attributes.
        if let (Some(key), Some(text)) = (acl::record_key(name), acl::text(value)) {
            records.add(key, text.as_bytes());
        }
        records.add_raw(&[b"SCHILY.xattr.", &*attribute_key(name)].concat(), value);
    }
}

/// Returns the name of an attribute as the end of a key, which `=` would end too early. GNU tar reads `%3D` as
/// `=` and `%25` as `%`.
fn attribute_key(name: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len());
    for (at, byte) in name.iter().enumerate() {
        let looks_encoded = || matches!(name.get(at + 1..at + 3), Some(b"25" | b"3D"));
        match byte {
            b'=' => key.extend_from_slice(b"%3D"),
            b'%' if looks_encoded() => key.extend_from_slice(b"%25"),
            _ => key.push(*byte),
        }
    }
    key
}

/// The records of a pax extended header.
#[derive(Default)]
struct Records {
    bytes: Vec<u8>,
    /// Whether a name among them is no UTF-8, which all names in records are otherwise taken for.
    has_raw_names: bool,
}

impl Records {
    fn add(&mut self, key: &str, value: &[u8]) {
        self.add_raw(key.as_bytes(), value);
    }

    fn add_number(&mut self, key: &str, value: u64) {
        self.add(key, value.to_string().as_bytes());
    }

    fn add_text(&mut self, key: &str, value: &[u8]) {
        self.has_raw_names |= std::str::from_utf8(value).is_err();
        self.add(key, value);
    }

    fn add_raw(&mut self, key: &[u8], value: &[u8]) {
        append_record(&mut self.bytes, key, value);
    }

    fn finish(self) -> Vec<u8> {
        if !self.has_raw_names {
            return self.bytes;
        }
        let mut bytes = Vec::with_capacity(self.bytes.len() + 32);
        append_record(&mut bytes, b"hdrcharset", b"BINARY");
        bytes.extend_from_slice(&self.bytes);
        bytes
    }
}

/// Appends `LENGTH KEY=VALUE` and a line end, where the length counts its own digits.
fn append_record(bytes: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let digits = |number: usize| number.checked_ilog10().unwrap_or(0) as usize + 1;
    let mut length = rest + digits(rest);
    if digits(length) > digits(rest) {
        length = rest + digits(length);
    }
    bytes.extend_from_slice(length.to_string().as_bytes());
    for part in [b" ", key, b"=", value, b"\n"] {
        bytes.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests;
