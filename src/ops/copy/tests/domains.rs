//! Copies between domains: all that people see stays.

use super::*;
use crate::format::content::ContentItem;
use crate::format::tree::{EntryKind, Value};
use crate::path::TreePath;
use crate::repo::content::{ContentReader, Piece};
use crate::repo::tree::Node;

/// All that can be seen of a snapshot: each path with its attributes, and what a file holds, with its holes.
fn portrait(store: &Fixture, manifest: &Manifest) -> Vec<(TreePath, String)> {
    let mut seen = Vec::new();
    let mut waiting = vec![(TreePath::root(), manifest.root)];
    seen.push((TreePath::root(), attributes_of(store, &manifest.root_attributes)));
    while let Some((path, tree)) = waiting.pop() {
        for entry in store.repo.entries(&tree, None) {
            let entry = entry.unwrap();
            let path = path.join(&entry.name);
            let kind = match &entry.kind {
                EntryKind::Directory(tree) => {
                    waiting.push((path.clone(), *tree));
                    format!("directory of {} with {} bytes", tree.entries, tree.bytes)
                }
                EntryKind::File(content) => content_of(store, content),
                other => format!("{other:?}"),
            };
            let text = format!("{} {:?} {kind}", attributes_of(store, &entry.attributes), entry.link);
            seen.push((path, text));
        }
    }
    seen.sort();
    seen
}

fn attributes_of(store: &Fixture, attributes: &crate::format::tree::Attributes) -> String {
    let mut plain = attributes.clone();
    for xattr in &mut plain.xattrs {
        xattr.value = Value::Inline(store.repo.value(&xattr.value).unwrap());
    }
    format!("{plain:?}")
}

fn content_of(store: &Fixture, content: &crate::format::content::Content) -> String {
    let reader = ContentReader::new(content);
    let mut hasher = blake3::Hasher::new();
    let mut holes = Vec::new();
    let mut offset = 0;
    while let Some(Piece { offset: start, item }) = reader.piece_at(&store.repo, offset).unwrap() {
        match item {
            ContentItem::Hole(length) => holes.push(start..start + length),
            ContentItem::Data(_, length) => {
                let mut bytes = vec![0; length as usize];
                assert_eq!(reader.read_at(&store.repo, start, &mut bytes).unwrap(), bytes.len());
                hasher.update(&bytes);
            }
        }
        offset = start + item.length();
    }
    format!("{} bytes {} holes {holes:?}", reader.length(), hasher.finalize())
}

#[test]
fn what_people_see_stays_byte_for_byte() {
    let (first, second) = (Fixture::new(), Fixture::new());
    assert_ne!(first.repo.config().domain, second.repo.config().domain);
    let large = noise(77, 3 << 20);
    let snapshot = first.commit(|maker| {
        let mut entries = every_kind(maker);
        entries.push(maker.file("large", &large));
        let mut spilled = maker.file("spilled", b"spilled");
        let value = noise(5, 9000);
        maker.spill(&mut spilled, "user.long", &value);
        entries.push(spilled);
        entries
    });
    first.repo.mark(snapshot.manifest.id, MarkState::Protected).unwrap();
    let stats = copy_all(&first, &second);
    assert!(stats.resealed_bytes > 3 << 20 && stats.whole_packs == 0, "{stats:?}");
    let copy = copy_of(&second, &snapshot);
    assert!(copy.marks.protected);
    assert_eq!(portrait(&second, &copy.manifest), portrait(&first, &snapshot.manifest));
    let Manifest { root, tree_packs, root_attributes, .. } = copy.manifest.clone();
    let expected = Manifest {
        id: copy.manifest.id,
        origin: Some(snapshot.manifest.id),
        root,
        tree_packs,
        root_attributes,
        ..snapshot.manifest.clone()
    };
    assert_eq!(copy.manifest, expected);
    assert_ne!(root.page, snapshot.manifest.root.page);
    let path = TreePath::parse(b"large").unwrap();
    let Some(Node::Entry(entry)) = second.repo.find_path(&copy.manifest, &path).unwrap() else { panic!() };
    let EntryKind::File(content) = &entry.kind else { panic!() };
    let pieces = std::iter::successors(Some(0), |offset| {
        let piece = ContentReader::new(content).piece_at(&second.repo, *offset).unwrap()?;
        Some(piece.offset + piece.item.length())
    });
    assert!(pieces.count() < 60, "it was cut anew, and not as it was");
    Acknowledged::default().judge(&second);
}

#[test]
fn what_did_not_change_is_read_once() {
    let (first, second) = (Fixture::new(), Fixture::new());
    let one = commit(&first, 0..10);
    let two = commit(&first, 0..11);
    let stats = copy_all(&first, &second);
    assert_eq!((stats.copied.len(), stats.resealed_bytes), (2, 11 * 40_000));
    let all: Vec<u64> = (0..11).collect();
    assert_eq!(copy_all(&second, &first).copied.len(), 0, "and back");
    judge(&second, &[(&one, &all[..10]), (&two, &all)]);
}

#[test]
fn damage_is_not_copied_between_domains_either() {
    let (first, second) = (Fixture::new(), Fixture::new());
    let one = commit(&first, [1]);
    let lost = commit(&first, [2]);
    let pack = first.pack_of(ChunkKind::Data, &noise(2, 40_000)[..5000]);
    first.memory.delete(&pack).unwrap();
    let stats = copy_all(&first, &second);
    assert_eq!(stats.damaged.iter().map(|(manifest, _)| manifest.id).collect::<Vec<_>>(), [lost.manifest.id]);
    judge(&second, &[(&one, &[1])]);
}
