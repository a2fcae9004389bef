//! The CBOR of entries and attributes. Rules beyond the form are checked by the types themselves.

use super::super::FormatError;
use super::super::cbor::{self, CborReader, CborWriter, Encoded};
use super::super::content::Content;
use super::{
    Attributes, Device, Entry, EntryKind, LABEL_MAX_BYTES, LinkGroup, PAGE_MAX_BYTES, SPILL_BYTES,
    SYMLINK_MAX_BYTES, Time, TreeRef, Value, XATTRS_MAX, Xattr,
};
use crate::id::ChunkId;
use crate::path::{NAME_MAX_BYTES, Name};

/// Encodes one attribute record alone: what a manifest carries for the root of its snapshot.
#[must_use]
pub fn encode_attributes(attributes: &Attributes) -> Vec<u8> {
    cbor::encode(|writer| write_attributes(writer, attributes))
}

/// Decodes what [`encode_attributes`] made.
///
/// # Errors
/// Refuses what breaks a rule of attributes.
pub fn decode_attributes(bytes: &[u8]) -> Result<Attributes, FormatError> {
    let mut reader = CborReader::new("attribute record", bytes)?;
    if bytes.len() > PAGE_MAX_BYTES {
        return Err(reader.malformed("it is too long"));
    }
    let attributes = read_attributes(&mut reader)?;
    attributes.check().map_err(|why| reader.malformed(why))?;
    Ok(attributes)
}

/// Writes `[name, kind, attributes, link / null, detail / null]`.
pub(super) fn write_entry(writer: &mut CborWriter<'_>, entry: &Entry) -> Encoded {
    writer.array(5)?.bytes(entry.name.as_bytes())?.u8(kind_number(&entry.kind))?;
    write_attributes(writer, &entry.attributes)?;
    cbor::write_optional(writer, entry.link.as_ref(), |writer, link| {
        writer.array(2)?.u64(link.group)?.u32(link.links)?.ok()
    })?;
    match &entry.kind {
        EntryKind::File(content) => content.write(writer),
        EntryKind::Directory(tree) => write_tree_ref(writer, tree),
        EntryKind::Symlink(target) => writer.bytes(target)?.ok(),
        EntryKind::CharDevice(device) | EntryKind::BlockDevice(device) => {
            writer.array(2)?.u32(device.major)?.u32(device.minor)?.ok()
        }
        EntryKind::Fifo | EntryKind::Socket => writer.null()?.ok(),
    }
}

/// Reads what [`write_entry`] wrote, and checks it.
pub(super) fn read_entry(reader: &mut CborReader<'_>) -> Result<Entry, FormatError> {
    let entry = reader.record(5, |reader| {
        let name = read_name(reader)?;
        let kind = reader.u8()?;
        let attributes = read_attributes(reader)?;
        let link = reader.optional(read_link)?;
        Ok(Entry { name, attributes, link, kind: read_detail(reader, kind)? })
    })?;
    entry.check().map_err(|why| reader.malformed(format!("entry {}: {why}", entry.name)))?;
    Ok(entry)
}

/// Reads the name of an entry.
pub(super) fn read_name(reader: &mut CborReader<'_>) -> Result<Name, FormatError> {
    let bytes = reader.bytes(1, NAME_MAX_BYTES)?;
    Name::new(bytes).map_err(|error| reader.malformed(error.to_string()))
}

/// Writes `[page, entries, bytes]`.
pub(super) fn write_tree_ref(writer: &mut CborWriter<'_>, tree: &TreeRef) -> Encoded {
    writer.array(3)?.bytes(tree.page.as_bytes())?.u64(tree.entries)?.u64(tree.bytes)?.ok()
}

/// Reads what [`write_tree_ref`] wrote.
pub(super) fn read_tree_ref(reader: &mut CborReader<'_>) -> Result<TreeRef, FormatError> {
    reader.record(3, |reader| {
        Ok(TreeRef { page: read_id(reader)?, entries: reader.u64()?, bytes: reader.u64()? })
    })
}

fn kind_number(kind: &EntryKind) -> u8 {
    match kind {
        EntryKind::File(_) => 0,
        EntryKind::Directory(_) => 1,
        EntryKind::Symlink(_) => 2,
        EntryKind::Fifo => 3,
        EntryKind::CharDevice(_) => 4,
        EntryKind::BlockDevice(_) => 5,
        EntryKind::Socket => 6,
    }
}

fn read_detail(reader: &mut CborReader<'_>, kind: u8) -> Result<EntryKind, FormatError> {
    match kind {
        0 => Content::read(reader).map(EntryKind::File),
        1 => read_tree_ref(reader).map(EntryKind::Directory),
        2 => reader.bytes(1, SYMLINK_MAX_BYTES).map(|target| EntryKind::Symlink(target.to_vec())),
        3 => reader.null().map(|()| EntryKind::Fifo),
        4 => read_device(reader).map(EntryKind::CharDevice),
        5 => read_device(reader).map(EntryKind::BlockDevice),
        6 => reader.null().map(|()| EntryKind::Socket),
        _ => Err(reader.malformed(format!("{kind} is no kind of entry"))),
    }
}

fn read_device(reader: &mut CborReader<'_>) -> Result<Device, FormatError> {
    reader.record(2, |reader| Ok(Device { major: reader.u32()?, minor: reader.u32()? }))
}

fn read_link(reader: &mut CborReader<'_>) -> Result<LinkGroup, FormatError> {
    reader.record(2, |reader| Ok(LinkGroup { group: reader.u64()?, links: reader.u32()? }))
}

/// Writes `[mode, uid, gid, user / null, group / null, mtime, ctime, btime / null, [[name, value]…]]`.
fn write_attributes(writer: &mut CborWriter<'_>, attributes: &Attributes) -> Encoded {
    writer.array(9)?.u16(attributes.mode)?.u32(attributes.uid)?.u32(attributes.gid)?;
    for name in [&attributes.user, &attributes.group] {
        cbor::write_optional(writer, name.as_ref(), |writer, name| writer.bytes(name)?.ok())?;
    }
    write_time(writer, &attributes.mtime)?;
    write_time(writer, &attributes.ctime)?;
    cbor::write_optional(writer, attributes.btime.as_ref(), write_time)?;
    cbor::write_list(writer, &attributes.xattrs, |writer, xattr| {
        writer.array(2)?.bytes(&xattr.name)?;
        match &xattr.value {
            Value::Inline(bytes) => writer.bytes(bytes)?.ok(),
            Value::Spilled { chunk, length } => writer.array(2)?.bytes(chunk.as_bytes())?.u32(*length)?.ok(),
        }
    })
}

fn read_attributes(reader: &mut CborReader<'_>) -> Result<Attributes, FormatError> {
    reader.record(9, |reader| {
        Ok(Attributes {
            mode: reader.u16()?,
            uid: reader.u32()?,
            gid: reader.u32()?,
            user: read_label(reader)?,
            group: read_label(reader)?,
            mtime: read_time(reader)?,
            ctime: read_time(reader)?,
            btime: reader.optional(read_time)?,
            xattrs: reader.list(0, XATTRS_MAX, read_xattr)?,
        })
    })
}

fn read_label(reader: &mut CborReader<'_>) -> Result<Option<Vec<u8>>, FormatError> {
    reader.optional(|reader| reader.bytes(1, LABEL_MAX_BYTES).map(<[u8]>::to_vec))
}

fn read_xattr(reader: &mut CborReader<'_>) -> Result<Xattr, FormatError> {
    reader.record(2, |reader| {
        let name = reader.bytes(1, LABEL_MAX_BYTES)?.to_vec();
        let value = if reader.next_is_array()? {
            reader
                .record(2, |reader| Ok(Value::Spilled { chunk: read_id(reader)?, length: reader.u32()? }))?
        } else {
            Value::Inline(reader.bytes(0, SPILL_BYTES)?.to_vec())
        };
        Ok(Xattr { name, value })
    })
}

/// Writes `[seconds, nanoseconds]`.
fn write_time(writer: &mut CborWriter<'_>, time: &Time) -> Encoded {
    writer.array(2)?.i64(time.seconds)?.u32(time.nanoseconds)?.ok()
}

fn read_time(reader: &mut CborReader<'_>) -> Result<Time, FormatError> {
    reader.record(2, |reader| Ok(Time { seconds: reader.i64()?, nanoseconds: reader.u32()? }))
}

fn read_id(reader: &mut CborReader<'_>) -> Result<ChunkId, FormatError> {
    reader.array_of().map(ChunkId::from_bytes)
}
