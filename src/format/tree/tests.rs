//! Tests of trees: entries, pages, and how pages are cut.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::crypto::hash::{ChunkKind, IdKeys};
use crate::format::FormatError;
use crate::format::content::tests::content;

fn ids() -> IdKeys {
    IdKeys::new(&[7; 32])
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn chunk_id() -> impl Strategy<Value = ChunkId> {
    any::<[u8; 32]>().prop_map(ChunkId::from_bytes)
}

fn label() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(1..=255_u8, 1..12)
}

fn time() -> impl Strategy<Value = Time> {
    (any::<i64>(), 0..NANOSECONDS).prop_map(|(seconds, nanoseconds)| Time { seconds, nanoseconds })
}

fn value() -> impl Strategy<Value = Value> {
    let spilled = (chunk_id(), 1..=SPILLED_MAX_BYTES);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Value::Inline),
        spilled.prop_map(|(chunk, length)| Value::Spilled { chunk, length }),
    ]
}

fn xattrs() -> impl Strategy<Value = Vec<Xattr>> {
    let map = prop::collection::btree_map(label(), value(), 0..4);
    map.prop_map(|map| map.into_iter().map(|(name, value)| Xattr { name, value }).collect())
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let owner = (any::<u32>(), any::<u32>(), prop::option::of(label()), prop::option::of(label()));
    let times = (time(), time(), prop::option::of(time()));
    (0..=MODE_MAX, owner, times, xattrs()).prop_map(
        |(mode, (uid, gid, user, group), (mtime, ctime, btime), xattrs)| Attributes {
            mode,
            uid,
            gid,
            user,
            group,
            mtime,
            ctime,
            btime,
            xattrs,
        },
    )
}

fn kind() -> impl Strategy<Value = EntryKind> {
    let device = (any::<u32>(), any::<u32>()).prop_map(|(major, minor)| Device { major, minor });
    let tree = (chunk_id(), any::<u64>(), any::<u64>());
    prop_oneof![
        content().prop_map(EntryKind::File),
        tree.prop_map(|(page, entries, bytes)| EntryKind::Directory(TreeRef { page, entries, bytes })),
        label().prop_map(EntryKind::Symlink),
        Just(EntryKind::Fifo),
        device.clone().prop_map(EntryKind::CharDevice),
        device.prop_map(EntryKind::BlockDevice),
        Just(EntryKind::Socket),
    ]
}

fn entry(name: Name) -> impl Strategy<Value = Entry> {
    let link = prop::option::of((any::<u64>(), 2..=u32::MAX));
    (attributes(), link, kind()).prop_map(move |(attributes, link, kind)| {
        let is_directory = matches!(kind, EntryKind::Directory(_));
        let link = link.filter(|_| !is_directory).map(|(group, links)| LinkGroup { group, links });
        Entry { name: name.clone(), attributes, link, kind }
    })
}

fn names(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Name>> {
    let name =
        prop::collection::vec(any::<u8>(), 1..8).prop_filter_map("no name", |bytes| Name::new(&bytes).ok());
    prop::collection::btree_set(name, count).prop_map(|names| names.into_iter().collect())
}

fn page() -> impl Strategy<Value = Page> {
    let entries = names(0..6).prop_flat_map(|names| names.into_iter().map(entry).collect::<Vec<_>>());
    let pages =
        (names(1..6), chunk_id(), 1..=u64::MAX, any::<u64>()).prop_map(|(names, page, entries, bytes)| {
            let tree = TreeRef { page, entries, bytes };
            names.into_iter().map(|last_name| PageRef { last_name, tree }).collect()
        });
    prop_oneof![
        entries.prop_map(Page::Entries),
        (1..=PAGE_MAX_LEVEL, pages).prop_map(|(level, pages)| Page::Pages { level, pages }),
    ]
}

fn file(name: Name, length: u64) -> Entry {
    use crate::format::content::ContentItem;
    let content = Content::Inline(if length == 0 { vec![] } else { vec![ContentItem::Hole(length)] });
    Entry { name, attributes: Attributes::default(), link: None, kind: EntryKind::File(content) }
}

fn numbered(numbers: impl Iterator<Item = u64>) -> Vec<Entry> {
    numbers.map(|number| file(name(&format!("file-{number:06}")), number)).collect()
}

/// Breaks a rule.
type Change = Box<dyn Fn(&mut Entry)>;
type Pages = HashMap<ChunkId, Vec<u8>>;

fn build(entries: impl IntoIterator<Item = Entry>) -> Result<(TreeRef, Pages), FormatError> {
    let ids = ids();
    let mut pages = Pages::new();
    let mut emit = |bytes: Vec<u8>| {
        let id = ids.chunk_id(ChunkKind::Tree, &bytes);
        pages.insert(id, bytes);
        Ok::<_, FormatError>(id)
    };
    let mut builder = TreeBuilder::new(ids.clone());
    for entry in entries {
        builder.push(entry, &mut emit)?;
    }
    let tree = builder.finish(&mut emit)?;
    Ok((tree, pages))
}

/// Returns the entries below a page, checking levels, sums and last names on the way.
fn walk(pages: &Pages, tree: &TreeRef, level: Option<u8>) -> Vec<Entry> {
    let entries = match Page::decode(&pages[&tree.page]).unwrap() {
        Page::Entries(entries) => {
            assert!(level.is_none_or(|level| level == 0));
            entries
        }
        Page::Pages { level: own, pages: below } => {
            assert!(level.is_none_or(|level| level == own));
            let below = below.into_iter().flat_map(|page| {
                let entries = walk(pages, &page.tree, Some(own - 1));
                assert_eq!(entries.last().unwrap().name, page.last_name);
                entries
            });
            below.collect()
        }
    };
    assert_eq!(tree.entries, entries.len() as u64);
    assert_eq!(tree.bytes, entries.iter().map(Entry::file_bytes).sum::<u64>());
    entries
}

fn level_of(pages: &Pages, tree: &TreeRef) -> u8 {
    match Page::decode(&pages[&tree.page]).unwrap() {
        Page::Entries(_) => 0,
        Page::Pages { level, .. } => level,
    }
}

#[test]
fn an_empty_directory_is_one_empty_page() {
    let (tree, pages) = build([]).unwrap();
    assert_eq!((tree.entries, tree.bytes, pages.len()), (0, 0, 1));
    assert_eq!(pages[&tree.page], [0x82, 0x00, 0x80]);
}

#[test]
fn no_level_is_superfluous() {
    for count in [1, PAGE_MIN_ENTRIES as u64 - 1] {
        let (tree, pages) = build(numbered(0..count)).unwrap();
        assert_eq!((pages.len(), level_of(&pages, &tree)), (1, 0));
    }
    // The directory ends right where its first page does.
    let cut = (0..)
        .find(|n| ids().page_cut(0, format!("file-{n:06}").as_bytes()).is_multiple_of(128) && *n >= 15)
        .unwrap();
    let (tree, pages) = build(numbered(0..cut + 1)).unwrap();
    assert_eq!((pages.len(), level_of(&pages, &tree)), (1, 0));
    let (tree, pages) = build(numbered(0..cut + 2)).unwrap();
    assert_eq!((pages.len(), level_of(&pages, &tree)), (3, 1));
}

/// The cut rule is part of the format: another root here would end deduplication with older trees.
#[test]
fn the_cut_rule_is_frozen() {
    let (tree, pages) = build(numbered(0..50_000)).unwrap();
    assert_eq!((tree.entries, tree.bytes), (50_000, 1_249_975_000));
    assert_eq!((pages.len(), level_of(&pages, &tree)), (350, 2));
    assert_eq!(tree.page.to_string(), "61d0ba7dd416b4e5b0539e1820c0547e2ac25e417a9ca6d98bafeadee97a3792");
}

#[test]
fn pages_end_where_the_rule_says_and_nowhere_else() {
    let (tree, pages) = build(numbered(0..10_000)).unwrap();
    assert_eq!(walk(&pages, &tree, None), numbered(0..10_000));
    let last = name("file-009999");
    for bytes in pages.values() {
        let (level, names): (u8, Vec<Name>) = match Page::decode(bytes).unwrap() {
            Page::Entries(entries) => (0, entries.into_iter().map(|entry| entry.name).collect()),
            Page::Pages { level, pages } => (level, pages.into_iter().map(|page| page.last_name).collect()),
        };
        for (index, name) in names.iter().enumerate() {
            let cut =
                index + 1 >= PAGE_MIN_ENTRIES && ids().page_cut(level, name.as_bytes()).is_multiple_of(128);
            assert_eq!(cut || *name == last, index + 1 == names.len(), "{name} on level {level}");
        }
    }
}

#[test]
fn one_new_name_changes_a_few_pages() {
    let (_, before) = build(numbered(0..10_000)).unwrap();
    let mut entries = numbered(0..10_000);
    entries.insert(5_000, file(name("file-004999x"), 1));
    let (tree, after) = build(entries.clone()).unwrap();
    assert_eq!(walk(&after, &tree, None), entries);
    let new = after.keys().filter(|id| !before.contains_key(id)).count();
    assert!(new <= 6, "{new} of {} pages are new", after.len());
}

#[test]
fn long_entries_end_a_page_before_its_limit() {
    let long = |number: u64| {
        let target = vec![b'x'; SYMLINK_MAX_BYTES];
        Entry { kind: EntryKind::Symlink(target), ..file(name(&format!("{number:01000}")), 0) }
    };
    let (tree, pages) = build((0..100).map(long)).unwrap();
    assert_eq!(walk(&pages, &tree, None), (0..100).map(long).collect::<Vec<_>>());
    let lengths: Vec<_> = pages.values().map(Vec::len).collect();
    assert!(lengths.iter().all(|length| *length <= PAGE_MAX_BYTES));
    assert!(lengths.iter().any(|length| *length > PAGE_MAX_BYTES - 6_000));
}

#[test]
fn sums_of_huge_sparse_files_saturate() {
    let huge = ["a", "b", "c"].map(|text| file(name(text), i64::MAX as u64));
    assert_eq!(build(huge).unwrap().0.bytes, u64::MAX);
}

#[test]
fn entries_that_readers_would_refuse_are_not_built() {
    let entry = || file(name("b"), 1);
    let with = |change: &dyn Fn(&mut Entry)| {
        let mut entry = entry();
        change(&mut entry);
        let refused = build([entry.clone()]).map(drop).unwrap_err().to_string();
        let decoded = Page::decode(&Page::Entries(vec![entry]).encode()).unwrap_err().to_string();
        (refused, decoded)
    };
    let xattr = |name: &[u8], value| Xattr { name: name.to_vec(), value };
    let empty = || Value::Inline(vec![]);
    let id = ChunkId::from_bytes([1; 32]);
    let time = Time { seconds: 0, nanoseconds: NANOSECONDS };
    let changes: Vec<(&str, Change)> = vec![
        ("mode", Box::new(|entry| entry.attributes.mode = 0o10000)),
        ("nanoseconds", Box::new(move |entry| entry.attributes.btime = Some(time))),
        ("nanoseconds", Box::new(move |entry| entry.attributes.mtime = time)),
        ("two names", Box::new(|entry| entry.link = Some(LinkGroup { group: 0, links: 1 }))),
        ("zero byte", Box::new(|entry| entry.kind = EntryKind::Symlink(b"a\0b".to_vec()))),
        ("zero byte", Box::new(|entry| entry.attributes.user = Some(b"a\0b".to_vec()))),
        (
            "sorted",
            Box::new(move |entry| entry.attributes.xattrs = vec![xattr(b"b", empty()), xattr(b"a", empty())]),
        ),
        (
            "sorted",
            Box::new(move |entry| entry.attributes.xattrs = vec![xattr(b"a", empty()), xattr(b"a", empty())]),
        ),
        (
            "too long",
            Box::new(move |entry| {
                entry.attributes.xattrs =
                    vec![xattr(b"a", Value::Spilled { chunk: id, length: SPILLED_MAX_BYTES + 1 })];
            }),
        ),
        (
            "empty",
            Box::new(move |entry| {
                entry.attributes.xattrs = vec![xattr(b"a", Value::Spilled { chunk: id, length: 0 })];
            }),
        ),
    ];
    for (why, change) in changes {
        let (refused, decoded) = with(&*change);
        assert!(refused.contains(why), "{refused}");
        assert!(decoded.contains(why), "{decoded}");
    }
    let mut directory = entry();
    directory.kind = EntryKind::Directory(TreeRef { page: id, entries: 0, bytes: 0 });
    directory.link = Some(LinkGroup { group: 0, links: 2 });
    assert!(build([directory]).is_err());
    let mut long = entry();
    let value = || Value::Inline(vec![0; SPILL_BYTES]);
    long.attributes.xattrs = (b'a'..=b'z').map(|letter| xattr(&[letter], value())).collect();
    assert!(build([long]).unwrap_err().to_string().contains("too long for a page"));
}

#[test]
fn unsorted_and_duplicate_names_are_refused() {
    for names in [["b", "a"], ["a", "a"]] {
        let entries = || names.map(|text| file(name(text), 1));
        assert!(build(entries()).unwrap_err().to_string().contains("out of order"));
        let page = Page::Entries(entries().into()).encode();
        assert!(Page::decode(&page).unwrap_err().to_string().contains("sorted"));
        let tree = TreeRef { page: ChunkId::from_bytes([1; 32]), entries: 1, bytes: 1 };
        let pages = names.map(|text| PageRef { last_name: name(text), tree }).into();
        let page = Page::Pages { level: 1, pages }.encode();
        assert!(Page::decode(&page).unwrap_err().to_string().contains("sorted"));
    }
}

#[test]
fn inner_pages_that_break_a_rule_are_refused() {
    let tree = TreeRef { page: ChunkId::from_bytes([1; 32]), entries: 1, bytes: 1 };
    let page = |level, tree| {
        let pages = vec![PageRef { last_name: name("a"), tree }];
        Page::decode(&Page::Pages { level, pages }.encode())
    };
    assert!(page(PAGE_MAX_LEVEL, tree).is_ok());
    assert!(page(PAGE_MAX_LEVEL + 1, tree).is_err());
    assert!(page(1, TreeRef { entries: 0, ..tree }).is_err());
    assert!(Page::decode(&Page::Pages { level: 1, pages: vec![] }.encode()).is_err());
}

#[test]
fn other_encodings_of_a_page_are_refused() {
    let valid = Page::Entries(vec![file(name("a"), 0)]).encode();
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    assert_eq!(hex(&valid), "82008185416100890000 00f6f6820000820000f680f6820080".replace(' ', ""));
    let replaced = |from: &str, to: &str| {
        let changed = hex(&valid).replacen(from, to, 1);
        assert_ne!(changed, hex(&valid));
        Page::decode(&data_encoding::HEXLOWER.decode(changed.as_bytes()).unwrap())
    };
    replaced("820080", "83008000").expect("a field of a later version is skipped");
    let others = [
        ("8200", "821800"),
        ("4161", "580161"),
        ("0081", "009f"),
        ("4161", "6161"),
        ("4161", "40"),
        ("4161", "412f"),
        ("4161", "4100"),
        ("4161", "412e"),
        ("416100", "416107"),
        ("820080", "820280"),
        ("820080", "8200a0"),
    ];
    for (from, to) in others {
        assert!(replaced(from, to).is_err(), "{from} as {to}");
    }
    assert!(Page::decode(&[&valid[..], &[0]].concat()).is_err());
    let long = file(name("a"), 1);
    let many =
        Page::Entries((0..3000).map(|n| Entry { name: name(&format!("{n:04}")), ..long.clone() }).collect());
    assert!(Page::decode(&many.encode()).unwrap_err().to_string().contains("too long"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn pages_round_trip(page in page()) {
        prop_assert_eq!(Page::decode(&page.encode()).unwrap(), page);
    }

    #[test]
    fn attributes_round_trip(attributes in attributes()) {
        prop_assert_eq!(decode_attributes(&encode_attributes(&attributes)).unwrap(), attributes);
    }

    #[test]
    fn altered_pages_have_one_encoding(page in page(), at: prop::sample::Index, flip in 1..=255_u8) {
        let mut bytes = page.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(page) = Page::decode(&bytes) {
            prop_assert_eq!(page.encode(), bytes);
        }
    }

    #[test]
    fn any_bytes_decode_without_a_panic(bytes: Vec<u8>) {
        let _ = Page::decode(&bytes);
        let _ = decode_attributes(&bytes);
    }

    #[test]
    fn what_is_built_is_what_was_pushed(names in names(0..300), length in 0..100_u64) {
        let entries: Vec<_> = names.into_iter().map(|name| file(name, length)).collect();
        let (tree, pages) = build(entries.clone()).unwrap();
        prop_assert_eq!(walk(&pages, &tree, None), entries);
    }
}
