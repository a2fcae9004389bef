//! Keys of objects: what each kind of object is called, and never a name that could leave the store.
//!
//! This file owns the layout of a store, both ways: constructors make the key of an object, and parsers
//! (`as_pack` …) accept exactly the keys that the constructors make.

use std::fmt;
use std::str::FromStr;

use crate::format::collection::Stage;
use crate::id::{PackId, SessionId, SlotId};

/// The first segment of a key, with its slash: the sort of object that a listing is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Prefix {
    /// What kind of store this is.
    Config,
    /// Key slots.
    Keys,
    /// Packs.
    Packs,
    /// Index objects.
    Index,
    /// Open and progress marks of sessions.
    Sessions,
    /// Snapshots and the tombstones of fenced sessions.
    Snapshots,
    /// Marks on snapshots.
    Marks,
    /// What a collection condemned.
    Gc,
    /// What an interrupted [probe](super::probe) left; it may be deleted at any time.
    Probe,
}

impl Prefix {
    /// Every prefix.
    pub const ALL: [Self; 9] = [
        Self::Config,
        Self::Keys,
        Self::Packs,
        Self::Index,
        Self::Sessions,
        Self::Snapshots,
        Self::Marks,
        Self::Gc,
        Self::Probe,
    ];

    /// Returns the text, which ends in a slash.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config/",
            Self::Keys => "keys/",
            Self::Packs => "packs/",
            Self::Index => "index/",
            Self::Sessions => "sessions/",
            Self::Snapshots => "snapshots/",
            Self::Marks => "marks/",
            Self::Gc => "gc/",
            Self::Probe => "probe/",
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The key of an object: 1 to 4 segments of `[A-Za-z0-9._-]{1,100}` joined by `/`.
///
/// No segment starts or ends with a dot, so that none is special to a file system or lost by one, and the first
/// is never `tmp`, where local stores write what is no object yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// Validates a key.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let valid = text.split('/').all(is_segment)
            && text.split('/').count() <= 4
            && text.split('/').next() != Some("tmp");
        valid.then(|| Self(text.to_owned()))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Tells whether a listing of `prefix` shows this key.
    #[must_use]
    pub fn has_prefix(&self, prefix: Prefix) -> bool {
        self.0.starts_with(prefix.as_str())
    }

    /// Makes `config/<n>.json`.
    #[must_use]
    pub fn config(number: u32) -> Self {
        Self(format!("config/{number}.json"))
    }

    /// Makes `keys/<id>.<copy>.json`.
    #[must_use]
    pub fn key_slot(id: SlotId, copy: u8) -> Self {
        Self(format!("keys/{id}.{copy}.json"))
    }

    /// Makes `packs/<2 hex>/<pack id>`.
    #[must_use]
    pub fn pack(id: &PackId) -> Self {
        let [first, ..] = id.as_bytes();
        Self(format!("packs/{first:02x}/{id}"))
    }

    /// Makes `index/<session id>.<n>`.
    #[must_use]
    pub fn index(session: SessionId, number: u32) -> Self {
        Self(format!("index/{session}.{number}"))
    }

    /// Makes `sessions/<session id>.<n>`.
    #[must_use]
    pub fn session(session: SessionId, number: u32) -> Self {
        Self(format!("sessions/{session}.{number}"))
    }

    /// Makes `snapshots/<session id>`.
    #[must_use]
    pub fn snapshot(session: SessionId) -> Self {
        Self(format!("snapshots/{session}"))
    }

    /// Makes `marks/<session id>.<n>`.
    #[must_use]
    pub fn mark(session: SessionId, number: u32) -> Self {
        Self(format!("marks/{session}.{number}"))
    }

    /// Makes `gc/<n>.condemned` or `gc/<n>.final`.
    #[must_use]
    pub fn gc(number: u32, stage: Stage) -> Self {
        Self(format!("gc/{number}.{}", stage.as_str()))
    }

    /// Makes `probe/<32 hex>`.
    #[must_use]
    pub fn probe(nonce: u128) -> Self {
        Self(format!("probe/{nonce:032x}"))
    }

    /// Returns the number of a `config` object.
    #[must_use]
    pub fn as_config(&self) -> Option<u32> {
        decimal(self.below(Prefix::Config)?.strip_suffix(".json")?)
    }

    /// Returns the id and copy of a key slot.
    #[must_use]
    pub fn as_key_slot(&self) -> Option<(SlotId, u8)> {
        numbered(self.below(Prefix::Keys)?.strip_suffix(".json")?)
    }

    /// Returns the id of a pack.
    #[must_use]
    pub fn as_pack(&self) -> Option<PackId> {
        let (_, id) = self.below(Prefix::Packs)?.split_once('/')?;
        let id = id.parse().ok()?;
        (Self::pack(&id) == *self).then_some(id)
    }

    /// Returns the session and number of an index object.
    #[must_use]
    pub fn as_index(&self) -> Option<(SessionId, u32)> {
        numbered(self.below(Prefix::Index)?)
    }

    /// Returns the session and number of an open mark (0) or progress mark (1, 2, …).
    #[must_use]
    pub fn as_session(&self) -> Option<(SessionId, u32)> {
        numbered(self.below(Prefix::Sessions)?)
    }

    /// Returns the session that a snapshot or tombstone decides.
    #[must_use]
    pub fn as_snapshot(&self) -> Option<SessionId> {
        self.below(Prefix::Snapshots)?.parse().ok()
    }

    /// Returns the snapshot and number of a mark.
    #[must_use]
    pub fn as_mark(&self) -> Option<(SessionId, u32)> {
        numbered(self.below(Prefix::Marks)?)
    }

    /// Returns the number and stage of a collection's object.
    #[must_use]
    pub fn as_gc(&self) -> Option<(u32, Stage)> {
        let (number, stage) = self.below(Prefix::Gc)?.split_once('.')?;
        let stage = Stage::ALL.into_iter().find(|known| known.as_str() == stage)?;
        Some((decimal(number)?, stage))
    }

    fn below(&self, prefix: Prefix) -> Option<&str> {
        self.0.strip_prefix(prefix.as_str())
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_segment(text: &str) -> bool {
    (1..=100).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && !text.starts_with('.')
        && !text.ends_with('.')
}

/// Parses `<id>.<n>`.
fn numbered<I: FromStr, N: FromStr + fmt::Display>(text: &str) -> Option<(I, N)> {
    let (id, number) = text.split_once('.')?;
    Some((id.parse().ok()?, decimal(number)?))
}

/// Parses a number in its only form: without sign or leading zeros.
fn decimal<N: FromStr + fmt::Display>(text: &str) -> Option<N> {
    text.parse().ok().filter(|number: &N| number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    const SESSION: &str = "20261121T053106Z-0123456789abcdef0123456789abcdef";

    fn key(text: &str) -> ObjectKey {
        ObjectKey::parse(text).unwrap_or_else(|| panic!("{text} is a key"))
    }

    #[test]
    fn keys_cannot_leave_the_store() {
        let long = "x".repeat(101);
        let slashed = format!("index/{long}");
        for bad in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "../a",
            "a/..",
            "a/.b",
            "a/b.",
            "a b",
            "a\0",
            "a\\b",
            "ä",
            "a/b/c/d/e",
            "tmp",
            "tmp/a",
            &long,
            &slashed,
        ] {
            assert_eq!(ObjectKey::parse(bad), None, "{bad:?}");
        }
        for good in ["a", "a/b/c/d", "packs/tmp", "tmp2/a", "A-Z_0.9/x", &"x".repeat(100)] {
            assert_eq!(key(good).as_str(), good);
        }
    }

    #[test]
    fn keys_look_as_specified() {
        let session: SessionId = SESSION.parse().unwrap();
        let pack = PackId::from_bytes([0x0f; 32]);
        assert_eq!(ObjectKey::config(12).as_str(), "config/12.json");
        assert_eq!(
            ObjectKey::key_slot(SlotId::from_bytes([1; 8]), 1).as_str(),
            "keys/0101010101010101.1.json"
        );
        assert_eq!(ObjectKey::pack(&pack).as_str(), format!("packs/0f/{}", "0f".repeat(32)));
        assert_eq!(ObjectKey::index(session, 3).as_str(), format!("index/{SESSION}.3"));
        assert_eq!(ObjectKey::session(session, 0).as_str(), format!("sessions/{SESSION}.0"));
        assert_eq!(ObjectKey::snapshot(session).as_str(), format!("snapshots/{SESSION}"));
        assert_eq!(ObjectKey::mark(session, 7).as_str(), format!("marks/{SESSION}.7"));
        assert_eq!(ObjectKey::gc(2, Stage::Condemned).as_str(), "gc/2.condemned");
        assert_eq!(ObjectKey::gc(2, Stage::Final).as_str(), "gc/2.final");
        assert_eq!(ObjectKey::probe(255).as_str(), format!("probe/{}ff", "0".repeat(30)));
    }

    #[test]
    fn parsers_accept_only_the_one_form() {
        for bad in
            ["config/01.json", "config/-1.json", "config/1", "config/4294967296.json", "config/x/1.json"]
        {
            assert_eq!(key(bad).as_config(), None, "{bad}");
        }
        assert_eq!(key(&format!("packs/00/{}", "0f".repeat(32))).as_pack(), None);
        assert_eq!(key(&format!("packs/0F/{}", "0F".repeat(32))).as_pack(), None);
        assert_eq!(key("packs/0f/x").as_pack(), None);
        assert_eq!(key("keys/0101010101010101.256.json").as_key_slot(), None);
        assert_eq!(key(&format!("index/{SESSION}")).as_index(), None);
        assert_eq!(key(&format!("index/{SESSION}.1")).as_mark(), None);
        assert_eq!(key(&format!("snapshots/{SESSION}.1")).as_snapshot(), None);
        assert_eq!(key("gc/1.finale").as_gc(), None);
        assert_eq!(key("gc/1").as_gc(), None);
    }

    #[test]
    fn prefixes_divide_the_keys() {
        for prefix in Prefix::ALL {
            let object = key(&format!("{prefix}x"));
            let seen: Vec<_> = Prefix::ALL.into_iter().filter(|other| object.has_prefix(*other)).collect();
            assert_eq!(seen, [prefix]);
        }
    }

    proptest! {
        #[test]
        fn constructed_keys_are_parsed_back(
            seconds in 0..253_402_300_799_i64, pack in any::<[u8; 32]>(), slot in any::<[u8; 8]>(),
            number in any::<u32>(), copy in any::<u8>(), nonce in any::<u128>(),
        ) {
            let session = SessionId::random(jiff::Timestamp::from_second(seconds).unwrap()).unwrap();
            let (pack, slot) = (PackId::from_bytes(pack), SlotId::from_bytes(slot));
            prop_assert_eq!(ObjectKey::config(number).as_config(), Some(number));
            prop_assert_eq!(ObjectKey::key_slot(slot, copy).as_key_slot(), Some((slot, copy)));
            prop_assert_eq!(ObjectKey::pack(&pack).as_pack(), Some(pack));
            prop_assert_eq!(ObjectKey::index(session, number).as_index(), Some((session, number)));
            prop_assert_eq!(ObjectKey::session(session, number).as_session(), Some((session, number)));
            prop_assert_eq!(ObjectKey::mark(session, number).as_mark(), Some((session, number)));
            prop_assert_eq!(ObjectKey::snapshot(session).as_snapshot(), Some(session));
            for stage in Stage::ALL {
                prop_assert_eq!(ObjectKey::gc(number, stage).as_gc(), Some((number, stage)));
            }
            for made in [
                ObjectKey::config(number), ObjectKey::key_slot(slot, copy), ObjectKey::pack(&pack),
                ObjectKey::index(session, number), ObjectKey::session(session, number),
                ObjectKey::mark(session, number),
                ObjectKey::snapshot(session), ObjectKey::gc(number, Stage::Final), ObjectKey::probe(nonce),
            ] {
                prop_assert_eq!(ObjectKey::parse(made.as_str()), Some(made));
            }
        }

        #[test]
        fn any_text_is_a_key_or_not(text in "[a-z./_A-Z0-9 -]{0,40}") {
            if let Some(key) = ObjectKey::parse(&text) {
                prop_assert_eq!(key.as_str(), &text);
                prop_assert!(!text.split('/').any(|segment| segment.is_empty() || segment.starts_with('.')));
            }
        }
    }
}
