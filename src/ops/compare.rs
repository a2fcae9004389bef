//! What differs between two entries, content and metadata apart: what find, log and diff call another version.

use crate::crypto::hash::{ChunkKind, IdKeys};
use crate::format::tree::{Attributes, Entry, EntryKind, Value, Xattr};

/// Something in which two entries can differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aspect {
    /// One is a file and the other a directory, or the like.
    Kind,
    /// The bytes of a file, the target of a symbolic link, the number of a device. Two files of the same bytes count as
    /// different where one has a hole and the other stored zeros.
    Content,
    /// What a directory holds. Only the history of one path asks for this: a diff looks into the directory.
    Below,
    /// Permissions.
    Mode,
    /// Owner or group, as number or name.
    Owner,
    /// The time of the last change of the content.
    Mtime,
    /// Extended attributes, ACLs among them.
    Xattrs,
    /// How many names the file has.
    Links,
    /// The time of the last change of the inode.
    Ctime,
    /// The time of creation.
    Btime,
}

/// Which metadata counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetadataScope {
    /// None.
    Nothing,
    /// What somebody set: all but ctime and btime, which nobody can set, and the mtime of directories, which moves
    /// whenever a name comes or goes.
    Usual,
    /// All of it.
    Everything,
}

/// Returns in what two entries differ, in the order of [`Aspect`]; nothing if they are the same.
///
/// The numbers of link groups never count: they follow the inode and the device, which change when a disk moves.
#[must_use]
pub fn compare(ids: &IdKeys, before: &Entry, after: &Entry, scope: MetadataScope) -> Vec<Aspect> {
    let mut aspects = Vec::new();
    if std::mem::discriminant(&before.kind) != std::mem::discriminant(&after.kind) {
        aspects.push(Aspect::Kind);
    } else if !has_same_content(&before.kind, &after.kind) {
        aspects.push(Aspect::Content);
    }
    if scope == MetadataScope::Nothing {
        return aspects;
    }
    let (one, other) = (&before.attributes, &after.attributes);
    let links = |entry: &Entry| entry.link.map_or(1, |link| link.links);
    let are_directories = is_directory(before) && is_directory(after);
    let all = scope == MetadataScope::Everything;
    let differences = [
        (Aspect::Mode, one.mode != other.mode),
        (Aspect::Owner, !has_same_owner(one, other)),
        (Aspect::Mtime, one.mtime != other.mtime && (all || !are_directories)),
        (Aspect::Xattrs, !has_same_xattrs(ids, &one.xattrs, &other.xattrs)),
        (Aspect::Links, links(before) != links(after)),
        (Aspect::Ctime, all && one.ctime != other.ctime),
        (Aspect::Btime, all && one.btime != other.btime),
    ];
    aspects.extend(differences.into_iter().filter(|(_, differs)| *differs).map(|(aspect, _)| aspect));
    aspects
}

fn is_directory(entry: &Entry) -> bool {
    matches!(entry.kind, EntryKind::Directory(_))
}

/// Compares two of one kind. All files of a store are cut alike, so that equal bytes have equal lists.
fn has_same_content(one: &EntryKind, other: &EntryKind) -> bool {
    matches!((one, other), (EntryKind::Directory(_), EntryKind::Directory(_))) || one == other
}

fn has_same_owner(one: &Attributes, other: &Attributes) -> bool {
    (one.uid, one.gid, &one.user, &one.group) == (other.uid, other.gid, &other.user, &other.group)
}

fn has_same_xattrs(ids: &IdKeys, one: &[Xattr], other: &[Xattr]) -> bool {
    one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .all(|(one, other)| one.name == other.name && has_same_value(ids, &one.value, &other.value))
}

/// Whether a value spills depends on its neighbours, so that one value may stand in both forms.
fn has_same_value(ids: &IdKeys, one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Inline(bytes), Value::Spilled { chunk, .. })
        | (Value::Spilled { chunk, .. }, Value::Inline(bytes)) => {
            ids.chunk_id(ChunkKind::Tree, bytes) == *chunk
        }
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tree::{Device, LinkGroup, Time};
    use crate::ops::restore::fixture::{Fixture, entry, linked, with_xattr};

    fn differ(change: impl FnOnce(&mut Entry), scope: MetadataScope) -> Vec<Aspect> {
        let fixture = Fixture::new();
        let before = linked(entry("x", 0o644, EntryKind::Fifo), 1, 2);
        let mut after = before.clone();
        change(&mut after);
        compare(fixture.repo.keys().ids(), &before, &after, scope)
    }

    #[test]
    fn every_aspect_is_told() {
        use MetadataScope::{Everything, Usual};
        let later = Time { seconds: 1, nanoseconds: 0 };
        assert_eq!(differ(|_| {}, Everything), []);
        assert_eq!(differ(|entry| entry.attributes.mode = 0o600, Usual), [Aspect::Mode]);
        assert_eq!(differ(|entry| entry.attributes.gid = 77, Usual), [Aspect::Owner]);
        assert_eq!(differ(|entry| entry.attributes.user = Some(b"u".into()), Usual), [Aspect::Owner]);
        assert_eq!(differ(|entry| entry.attributes.mtime = later, Usual), [Aspect::Mtime]);
        assert_eq!(
            differ(|entry| *entry = with_xattr(entry.clone(), "user.a", b"1"), Usual),
            [Aspect::Xattrs]
        );
        assert_eq!(differ(|entry| entry.link = None, Usual), [Aspect::Links]);
        assert_eq!(differ(|entry| entry.kind = EntryKind::Socket, Usual), [Aspect::Kind]);
        assert_eq!(differ(|entry| entry.attributes.mode = 0o600, MetadataScope::Nothing), []);
    }

    #[test]
    fn what_nobody_can_set_counts_only_if_asked_for() {
        let set = |entry: &mut Entry| {
            entry.attributes.ctime.seconds = 5;
            entry.attributes.btime = Some(Time::default());
        };
        assert_eq!(differ(set, MetadataScope::Usual), []);
        assert_eq!(differ(set, MetadataScope::Everything), [Aspect::Ctime, Aspect::Btime]);
        let regroup = |entry: &mut Entry| entry.link = Some(LinkGroup { group: 99, links: 2 });
        assert_eq!(differ(regroup, MetadataScope::Everything), []);
    }

    #[test]
    fn targets_and_devices_are_content() {
        let fixture = Fixture::new();
        let ids = fixture.repo.keys().ids();
        let of =
            |before, after| compare(ids, &entry("x", 0, before), &entry("x", 0, after), MetadataScope::Usual);
        let (one, other) = (EntryKind::Symlink(b"a".into()), EntryKind::Symlink(b"b".into()));
        assert_eq!(of(one, other), [Aspect::Content]);
        let device = |minor| EntryKind::BlockDevice(Device { major: 8, minor });
        assert_eq!(of(device(1), device(2)), [Aspect::Content]);
        assert_eq!(of(device(1), EntryKind::CharDevice(Device { major: 8, minor: 1 })), [Aspect::Kind]);
    }

    #[test]
    fn a_value_is_the_same_wherever_it_stands() {
        let fixture = Fixture::new();
        let ids = fixture.repo.keys().ids();
        let inline = with_xattr(entry("x", 0, EntryKind::Fifo), "user.a", b"value");
        let mut spilled = inline.clone();
        let place = |bytes: &[u8]| Value::Spilled { chunk: ids.chunk_id(ChunkKind::Tree, bytes), length: 5 };
        spilled.attributes.xattrs[0].value = place(b"value");
        assert_eq!(compare(ids, &inline, &spilled, MetadataScope::Usual), []);
        spilled.attributes.xattrs[0].value = place(b"other");
        assert_eq!(compare(ids, &spilled, &inline, MetadataScope::Usual), [Aspect::Xattrs]);
    }
}
