//! Tests of content lists.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const CHUNK_MAX: u32 = 4 << 20;

/// Any content that follows the rules.
pub(in crate::format) fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        prop::collection::vec(item(), 0..=INLINE_MAX_ITEMS).prop_map(|items| Content::Inline(merged(items))),
        (any::<[u8; 32]>(), 0..=FILE_MAX_BYTES)
            .prop_map(|(node, length)| Content::List { node: ChunkId::from_bytes(node), length }),
    ]
}

fn item() -> impl Strategy<Value = ContentItem> {
    let data = (any::<[u8; 32]>(), 1..=CHUNK_MAX);
    prop_oneof![
        3 => data.prop_map(|(id, length)| ContentItem::Data(ChunkId::from_bytes(id), length)),
        1 => (1..=u64::from(u32::MAX)).prop_map(ContentItem::Hole),
    ]
}

fn node() -> impl Strategy<Value = ListNode> {
    let child = (any::<[u8; 32]>().prop_map(ChunkId::from_bytes), 1..1_u64 << 40);
    prop_oneof![
        prop::collection::vec(item(), 1..40).prop_map(|items| ListNode::Items(merged(items))),
        (1..=NODE_MAX_LEVEL, prop::collection::vec(child, 1..40))
            .prop_map(|(level, children)| ListNode::Children { level, children }),
    ]
}

fn merged(items: Vec<ContentItem>) -> Vec<ContentItem> {
    let mut merged: Vec<ContentItem> = Vec::new();
    for item in items {
        match (merged.last_mut(), item) {
            (Some(ContentItem::Hole(before)), ContentItem::Hole(length)) => *before += length,
            _ => merged.push(item),
        }
    }
    merged
}

fn data(number: u64) -> ContentItem {
    ContentItem::Data(id(&number.to_le_bytes()), 1 + u32::try_from(number % 1000).unwrap())
}

fn id(bytes: &[u8]) -> ChunkId {
    ChunkId::from_bytes(*blake3::hash(bytes).as_bytes())
}

type Nodes = HashMap<ChunkId, Vec<u8>>;

fn build(items: impl IntoIterator<Item = ContentItem>) -> (Content, Nodes) {
    let mut nodes = Nodes::new();
    let mut emit = |bytes: Vec<u8>| {
        let id = id(&bytes);
        nodes.insert(id, bytes);
        Ok::<_, FormatError>(id)
    };
    let mut builder = ContentBuilder::new();
    for item in items {
        builder.push(item, &mut emit).unwrap();
    }
    let content = builder.finish(&mut emit).unwrap();
    (content, nodes)
}

/// Returns the pieces below a node of `level`, checking what each node says of those below it.
fn walk(nodes: &Nodes, id: ChunkId, level: Option<u8>) -> Vec<ContentItem> {
    match ListNode::decode(&nodes[&id]).unwrap() {
        ListNode::Items(items) => {
            assert!(level.is_none_or(|level| level == 0));
            items
        }
        ListNode::Children { level: own, children } => {
            assert!(level.is_none_or(|level| level == own));
            let below = |(node, length): (ChunkId, u64)| {
                let items = walk(nodes, node, Some(own - 1));
                assert_eq!(items.iter().map(ContentItem::length).sum::<u64>(), length);
                items
            };
            children.into_iter().flat_map(below).collect()
        }
    }
}

fn items_of(content: &Content, nodes: &Nodes) -> Vec<ContentItem> {
    match content {
        Content::Inline(items) => items.clone(),
        Content::List { node, .. } => walk(nodes, *node, None),
    }
}

#[test]
fn short_lists_stay_inline() {
    assert_eq!(build([]).0, Content::Inline(vec![]));
    let (content, nodes) = build((0..INLINE_MAX_ITEMS as u64).map(data));
    assert_eq!(content, Content::Inline((0..INLINE_MAX_ITEMS as u64).map(data).collect()));
    assert!(nodes.is_empty());
    let (content, nodes) = build((0..=INLINE_MAX_ITEMS as u64).map(data));
    assert!(matches!(content, Content::List { .. }));
    assert_eq!(items_of(&content, &nodes).len(), INLINE_MAX_ITEMS + 1);
}

#[test]
fn holes_merge_and_are_no_pieces_of_their_own() {
    let holes = [1, 2, 3].map(ContentItem::Hole);
    assert_eq!(build(holes).0, Content::Inline(vec![ContentItem::Hole(6)]));
    let many = std::iter::repeat_n(ContentItem::Hole(1), 10_000);
    assert_eq!(build(many).0, Content::Inline(vec![ContentItem::Hole(10_000)]));
}

/// The cut rule is part of the format: another root here would end deduplication with older lists.
#[test]
fn the_cut_rule_is_frozen() {
    let (content, nodes) = build((0..20_000).map(data));
    let Content::List { node, length } = content else { unreachable!() };
    assert_eq!(length, (0..20_000).map(|number| data(number).length()).sum::<u64>());
    assert_eq!(nodes.len(), 131);
    assert_eq!(node.to_string(), "efffaa37bf7a8f6c485cd31383068a2d1a5e48d4444ad9fa7373138b90c7c747");
}

#[test]
fn one_more_piece_changes_a_few_nodes() {
    let (_, before) = build((0..20_000).map(data));
    let more = (0..10_000).chain([1_000_000]).chain(10_000..20_000);
    let (content, after) = build(more.clone().map(data));
    assert_eq!(items_of(&content, &after), more.map(data).collect::<Vec<_>>());
    let new = after.keys().filter(|id| !before.contains_key(id)).count();
    assert!(new <= 6, "{new} of {} nodes are new", after.len());
}

#[test]
fn a_node_ends_at_its_greatest_length_where_no_id_cuts_it() {
    let uncut = ContentItem::Data(ChunkId::from_bytes([1; 32]), 1);
    let (content, nodes) = build(std::iter::repeat_n(uncut, 3 * NODE_MAX_ITEMS + 1));
    assert_eq!(nodes.len(), 3, "three equal nodes, the last piece and their parent");
    assert_eq!(items_of(&content, &nodes).len(), 3 * NODE_MAX_ITEMS + 1);
    let cut = ContentItem::Data(ChunkId::from_bytes([0; 32]), 1);
    let (content, nodes) = build(std::iter::repeat_n(cut, 4 * NODE_MIN_ITEMS));
    assert_eq!(nodes.len(), 2, "four equal nodes and their parent");
    assert_eq!(items_of(&content, &nodes).len(), 4 * NODE_MIN_ITEMS);
}

#[test]
fn what_readers_would_refuse_is_not_built() {
    let mut emit = |_| Ok::<_, FormatError>(id(b""));
    for items in [
        vec![ContentItem::Hole(0)],
        vec![ContentItem::Data(id(b""), 0)],
        vec![ContentItem::Data(id(b""), CHUNK_MAX + 1)],
        vec![ContentItem::Hole(FILE_MAX_BYTES), ContentItem::Hole(1)],
    ] {
        let mut builder = ContentBuilder::new();
        assert!(items.into_iter().any(|item| builder.push(item, &mut emit).is_err()));
    }
}

fn refusal(node: &ListNode) -> String {
    ListNode::decode(&node.encode()).unwrap_err().to_string()
}

#[test]
fn nodes_that_break_a_rule_are_refused() {
    use ContentItem::{Data, Hole};
    let children = |level, lengths: &[u64]| ListNode::Children {
        level,
        children: lengths.iter().map(|n| (id(b""), *n)).collect(),
    };
    assert!(refusal(&ListNode::Items(vec![])).contains("0 elements"));
    assert!(refusal(&ListNode::Items(vec![Data(id(b""), 1); NODE_MAX_ITEMS + 1])).contains("1025 elements"));
    assert!(refusal(&ListNode::Items(vec![Hole(0)])).contains("empty"));
    assert!(refusal(&ListNode::Items(vec![Data(id(b""), 0)])).contains("empty"));
    assert!(refusal(&ListNode::Items(vec![Data(id(b""), u32::MAX)])).contains("too long"));
    assert!(refusal(&ListNode::Items(vec![Hole(1), Hole(1)])).contains("not merged"));
    assert!(refusal(&ListNode::Items(vec![Hole(u64::MAX), Data(id(b""), 1)])).contains("overflow"));
    assert!(refusal(&ListNode::Items(vec![Hole(u64::MAX)])).contains("too long"));
    assert!(refusal(&children(1, &[])).contains("0 elements"));
    assert!(refusal(&children(9, &[1])).contains("level"));
    assert!(refusal(&children(1, &[1, 0])).contains("nothing"));
    assert!(refusal(&children(1, &[u64::MAX, 1])).contains("overflow"));
}

#[test]
fn other_encodings_of_a_node_are_refused() {
    let bytes = ListNode::Items(vec![ContentItem::Hole(7)]).encode();
    assert_eq!(bytes, [0x82, 0x00, 0x81, 0x07]);
    ListNode::decode(&[0x83, 0x00, 0x81, 0x07, 0x00]).expect("a field of a later version is skipped");
    for other in [
        &[0x82, 0x00, 0x81, 0x18, 0x07][..],
        &[0x82, 0x18, 0x00, 0x81, 0x07],
        &[0x82, 0x00, 0x9f, 0x07, 0xff],
        &[0x82, 0x00, 0x81, 0x07, 0x00],
        &[0x81, 0x00],
        &[0x82, 0x00, 0x81, 0x27],
        &[0x82, 0x00, 0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ] {
        assert!(ListNode::decode(other).is_err(), "{other:02x?}");
    }
}

proptest! {
    #[test]
    fn nodes_round_trip(node in node()) {
        prop_assert_eq!(ListNode::decode(&node.encode()).unwrap(), node);
    }

    #[test]
    fn altered_nodes_have_one_encoding(node in node(), at: prop::sample::Index, flip in 1..=255_u8) {
        let mut bytes = node.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(node) = ListNode::decode(&bytes) {
            prop_assert_eq!(node.encode(), bytes);
        }
    }

    #[test]
    fn any_bytes_decode_without_a_panic(bytes: Vec<u8>) {
        let _ = ListNode::decode(&bytes);
    }

    #[test]
    fn what_is_built_is_what_was_pushed(items in prop::collection::vec(item(), 0..200)) {
        let (content, nodes) = build(items.clone());
        prop_assert_eq!(content.length(), items.iter().map(ContentItem::length).sum::<u64>());
        prop_assert_eq!(items_of(&content, &nodes), merged(items));
    }
}
