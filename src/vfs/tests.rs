//! Whole views over a store in memory.

use super::inodes::ROOT_INODE;
use super::support::{Sandbox, Sketch, attributes, contents, directory, file, find, names, noise, read_some};
use super::{Lifetime, Lookup, NodeKind, Ownership, RootView, Seek, Statistics, Vfs, VfsError, Visit};
use crate::format::tree::{Attributes, Device, EntryKind, Value, Xattr};

fn target(vfs: &Vfs, path: &str) -> String {
    String::from_utf8(vfs.read_link(find(vfs, path).inode).unwrap()).unwrap()
}

#[test]
fn a_snapshot_is_found_under_every_view() {
    let sandbox = Sandbox::new();
    let manifest = sandbox.commit("etc", directory([("hosts", file("127.0.0.1 localhost"))]));
    let vfs = sandbox.all();
    assert_eq!(names(&vfs, ""), ["hosts", "latest", "snapshots", "sources", "tags"]);
    let name = names(&vfs, "snapshots").remove(0);
    assert!(name.ends_with(&manifest.id.short()), "{name}");
    assert_eq!(contents(&vfs, &format!("snapshots/{name}/hosts"), 7), b"127.0.0.1 localhost");
    assert_eq!(target(&vfs, "latest"), format!("snapshots/{name}"));
    assert_eq!(target(&vfs, "sources/etc/latest"), format!("../../snapshots/{name}"));
    assert_eq!(target(&vfs, &format!("hosts/here/etc/{name}")), format!("../../../snapshots/{name}"));
}

#[test]
fn one_snapshot_can_be_the_root() {
    let sandbox = Sandbox::new();
    let manifest = sandbox.commit("etc", directory([("a", directory([("b", file("deep"))]))]));
    let vfs = sandbox.only(&manifest);
    assert_eq!(names(&vfs, ""), ["a"]);
    assert_eq!(contents(&vfs, "a/b", 100), b"deep");
    let root = vfs.attributes(ROOT_INODE).unwrap();
    assert_eq!((root.mode, root.uid, root.lifetime), (0o755, 10, Lifetime::Unlimited));
    assert_eq!(vfs.statistics().unwrap(), Statistics { bytes: 10_000, files: 6 });
}

#[test]
fn the_size_of_a_store_is_known_at_once_on_a_host_that_never_saw_it() {
    let mut sandbox = Sandbox::new();
    sandbox.commit("etc", directory([("file", Sketch::File(noise(50_000, 3)))]));
    let known = sandbox.all().statistics().unwrap();
    assert!(known.bytes > 50_000, "{known:?}");
    sandbox.reopen();
    assert_eq!(sandbox.all().statistics().unwrap(), known);
}

#[test]
fn what_is_committed_later_appears() {
    let sandbox = Sandbox::new();
    sandbox.commit("etc", directory([]));
    let vfs = sandbox.all();
    assert_eq!(names(&vfs, "snapshots").len(), 1);
    sandbox.commit("etc", directory([]));
    std::thread::sleep(super::listing::LISTING_LIFETIME);
    assert_eq!(names(&vfs, "snapshots").len(), 2);
}

#[test]
fn a_position_in_a_view_counts_in_the_list_that_was_being_read() {
    let sandbox = Sandbox::new();
    sandbox.commit("middle", directory([]));
    let vfs = sandbox.all();
    let sources = find(&vfs, "sources");
    let begun = read_some(&vfs, sources.inode, 0, 2);
    sandbox.commit("first", directory([]));
    std::thread::sleep(super::listing::LISTING_LIFETIME);
    assert_eq!(names(&vfs, "sources"), ["first", "middle"]);
    assert_ne!(find(&vfs, "sources").mtime, sources.mtime, "or the kernel would keep the list");
    let rest = read_some(&vfs, sources.inode, begun[1].1, 10);
    assert_eq!(rest.into_iter().map(|(name, _)| name).collect::<Vec<_>>(), ["middle"]);
}

#[test]
fn attributes_are_those_that_were_stored() {
    let sandbox = Sandbox::new();
    let device = EntryKind::BlockDevice(Device { major: 8, minor: 1 });
    let manifest = sandbox.commit(
        "etc",
        directory([
            ("device", Sketch::Raw(attributes(0o660), device)),
            ("file", Sketch::Raw(attributes(0o4711), EntryKind::Fifo)),
            ("link", Sketch::Symlink("elsewhere")),
            ("text", file("12345")),
        ]),
    );
    let vfs = sandbox.only(&manifest);
    let text = find(&vfs, "text");
    assert_eq!((text.mode, text.uid, text.gid, text.size, text.blocks), (0o644, 10, 20, 5, 1));
    assert_eq!((text.links, text.mtime.nanoseconds, text.lifetime), (1, 5, Lifetime::Unlimited));
    assert_eq!(find(&vfs, "device").kind, NodeKind::BlockDevice(Device { major: 8, minor: 1 }));
    assert_eq!(find(&vfs, "file").mode, 0o4711);
    assert_eq!((target(&vfs, "link"), find(&vfs, "link").size), ("elsewhere".to_owned(), 9));
    assert!(matches!(vfs.read_link(text.inode), Err(VfsError::NotALink(_))));
    assert!(matches!(vfs.lookup(text.inode, b"x"), Err(VfsError::NotADirectory(_))));
    assert!(matches!(vfs.read(ROOT_INODE, 0, &mut []), Err(VfsError::IsADirectory(_))));
    assert!(matches!(vfs.read(find(&vfs, "device").inode, 0, &mut []), Err(VfsError::NotAFile(_))));
    assert!(matches!(
        vfs.read_directory(text.inode, 0, &mut |_| Visit::Full),
        Err(VfsError::NotADirectory(_))
    ));
}

#[test]
fn an_absent_name_is_absent_for_ever_inside_a_snapshot_only() {
    let sandbox = Sandbox::new();
    sandbox.commit("etc", directory([]));
    let vfs = sandbox.all();
    let snapshots = find(&vfs, "snapshots");
    assert_eq!(vfs.lookup(snapshots.inode, b"none").unwrap(), Lookup::Absent(Lifetime::Brief));
    let inside = find(&vfs, &format!("snapshots/{}", names(&vfs, "snapshots").remove(0)));
    assert_eq!(inside.lifetime, Lifetime::Brief);
    assert_eq!(vfs.lookup(inside.inode, b"none").unwrap(), Lookup::Absent(Lifetime::Unlimited));
}

#[test]
fn hard_links_share_an_inode_within_a_snapshot() {
    let sandbox = Sandbox::new();
    let root = || {
        directory([
            ("a", Sketch::Linked(9, b"same".to_vec())),
            ("b", directory([("c", Sketch::Linked(9, b"same".to_vec()))])),
            ("d", file("same")),
        ])
    };
    let (first, second) = (sandbox.commit("etc", root()), sandbox.commit("etc", root()));
    let vfs = sandbox.only(&first);
    let (a, c, d) = (find(&vfs, "a"), find(&vfs, "b/c"), find(&vfs, "d"));
    assert_eq!((a.inode, a.links), (c.inode, 2));
    assert_ne!(a.inode, d.inode);
    assert_ne!(a.inode, find(&sandbox.only(&second), "a").inode);
    assert_eq!(a.inode, find(&sandbox.only(&first), "a").inode);
    let label = vfs.node(c.inode).unwrap().label();
    assert!(label.ends_with(":/a"), "a message names a path that exists: {label}");
}

#[test]
fn reads_cross_chunks_lists_and_holes() {
    let sandbox = Sandbox::new();
    let (head, tail) = (noise(300_000, 1), noise(5_000, 2));
    let pieces = vec![Ok(head.clone()), Err(1 << 20), Ok(tail.clone()), Err(10_000)];
    let manifest = sandbox.commit("big", directory([("sparse", Sketch::Pieces(pieces))]));
    let vfs = sandbox.only(&manifest);
    let expected = [head, vec![0; 1 << 20], tail, vec![0; 10_000]].concat();
    for step in [4096, 100_003, 4 << 20] {
        assert!(contents(&vfs, "sparse", step) == expected, "{step}");
    }
    let node = find(&vfs, "sparse");
    assert_eq!((node.size, node.blocks), (expected.len() as u64, 305_000_u64.div_ceil(512)));
    assert_eq!(vfs.seek(node.inode, 5, Seek::Hole).unwrap(), Some(300_000));
    assert_eq!(vfs.seek(node.inode, 300_000, Seek::Data).unwrap(), Some(300_000 + (1 << 20)));
    assert_eq!(vfs.seek(node.inode, node.size - 1, Seek::Data).unwrap(), None);
    assert_eq!(vfs.read(node.inode, node.size + 1, &mut [0; 8]).unwrap(), 0);
}

#[test]
fn a_large_directory_is_read_from_any_position() {
    let sandbox = Sandbox::new();
    let entries = (0..3000).map(|n| (format!("file-{n:05}"), Sketch::File(Vec::new()))).collect();
    let manifest = sandbox.commit("many", Sketch::Directory(entries));
    let vfs = sandbox.only(&manifest);
    let all = names(&vfs, "");
    assert_eq!(all.len(), 3000);
    assert!(all.is_sorted());
    for position in [2999, 0, 1500, 511, 512, 1024] {
        let found = read_some(&vfs, ROOT_INODE, position + 2, 1);
        assert_eq!(found, [(format!("file-{position:05}"), position + 3)]);
    }
    assert_eq!(read_some(&vfs, ROOT_INODE, 3002, 1), []);
    assert_eq!(read_some(&vfs, ROOT_INODE, u64::MAX / 2, 1), []);
    assert_eq!(read_some(&vfs, ROOT_INODE, 0, 3)[..2], [(".".to_owned(), 1), ("..".to_owned(), 2)]);
}

#[test]
fn readdirplus_counts_a_lookup_of_what_was_taken() {
    let sandbox = Sandbox::new();
    let manifest = sandbox.commit("etc", directory([("a", file("1")), ("b", file("22"))]));
    let vfs = sandbox.only(&manifest);
    let mut seen = Vec::new();
    vfs.read_directory_plus(ROOT_INODE, 0, &mut |item, attributes| {
        if item.name == b"b" {
            return Visit::Full;
        }
        seen.push((item.name.to_vec(), attributes.inode, attributes.size));
        Visit::Taken
    })
    .unwrap();
    let (_, inode, size) = seen.pop().unwrap();
    assert_eq!((vfs.attributes(inode).unwrap().size, size), (1, 1));
    assert_eq!(vfs.inodes.len(), 2);
    vfs.forget(inode, 1);
    assert!(matches!(vfs.attributes(inode), Err(VfsError::Stale(_))));
    assert_eq!(vfs.inodes.len(), 1);
}

#[test]
fn children_outlive_forgotten_directories() {
    let sandbox = Sandbox::new();
    let manifest = sandbox.commit("etc", directory([("a", directory([("b", file("deep"))]))]));
    let vfs = sandbox.only(&manifest);
    let (above, below) = (find(&vfs, "a"), find(&vfs, "a/b"));
    vfs.forget(above.inode, 2);
    assert!(matches!(vfs.attributes(above.inode), Err(VfsError::Stale(_))));
    assert_eq!(vfs.attributes(below.inode).unwrap(), below);
}

#[test]
fn extended_attributes_are_listed_and_read() {
    let sandbox = Sandbox::new();
    let value = |bytes: &[u8]| Value::Inline(bytes.to_vec());
    let xattrs = vec![
        Xattr { name: b"security.capability".to_vec(), value: value(&[1, 0, 2]) },
        Xattr { name: b"user.note".to_vec(), value: value(b"") },
    ];
    let attributes = Attributes { xattrs, ..attributes(0o644) };
    let manifest = sandbox.commit("etc", directory([("pipe", Sketch::Raw(attributes, EntryKind::Fifo))]));
    let vfs = sandbox.only(&manifest);
    let inode = find(&vfs, "pipe").inode;
    assert_eq!(vfs.xattr_names(inode).unwrap(), b"security.capability\0user.note\0");
    assert_eq!(vfs.xattr(inode, b"security.capability").unwrap(), [1, 0, 2]);
    assert_eq!(vfs.xattr(inode, b"user.note").unwrap(), b"");
    assert!(matches!(vfs.xattr(inode, b"user.other"), Err(VfsError::NoAttribute)));
    assert_eq!(vfs.xattr_names(ROOT_INODE).unwrap(), b"");
}

#[test]
fn a_view_for_one_user_shows_everything_as_that_users() {
    let sandbox = Sandbox::new();
    let manifest = sandbox.commit("etc", directory([("text", file("secret"))]));
    let owner = Ownership::Of { uid: 70, gid: 71 };
    let vfs = sandbox.view(RootView::Snapshot(Box::new(manifest)), owner);
    let (root, text) = (vfs.attributes(ROOT_INODE).unwrap(), find(&vfs, "text"));
    assert_eq!((root.mode, root.uid, root.gid), (0o500, 70, 71));
    assert_eq!((text.mode, text.uid, text.gid), (0o400, 70, 71));
}

#[test]
fn what_the_store_lost_is_unreadable_and_the_rest_is_not() {
    let sandbox = Sandbox::new();
    let lost = crate::format::content::Content::Inline(vec![crate::format::content::ContentItem::Data(
        crate::id::ChunkId::from_bytes([7; 32]),
        5,
    )]);
    let root = directory([
        ("lost", Sketch::Raw(attributes(0o644), EntryKind::File(lost))),
        ("whole", file("still here")),
    ]);
    let manifest = sandbox.commit("etc", root);
    let vfs = sandbox.only(&manifest);
    assert_eq!(contents(&vfs, "whole", 100), b"still here");
    let inode = find(&vfs, "lost").inode;
    let mut buffer = [0; 5];
    let error = vfs.read(inode, 0, &mut buffer).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read {}:/lost", manifest.id.short()));
    assert_eq!(buffer, [0; 5]);
}

mod cold;
mod handing_over;
