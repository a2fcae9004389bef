//! What a collection of garbage says: packs that are condemned, and what may go in the end.
//!
//! ```text
//! magic 'YSTRGCOL'            8 bytes
//! body                        CBOR: [store id, number, stage, seconds, [pack id, …], [snapshot id, …]]
//! signature                   64 bytes: Ed25519 over "yester collection 1\n" ‖ body
//! ```
//! It is signed and not sealed: whoever may write has to know which packs are about to go, and an ingest-only key opens
//! nothing. The body names its place, so that no collection of another store of the domain, or of another number, can be
//! put there.

use jiff::Timestamp;

use super::FormatError;
use super::cbor::{self, CborReader};
use super::header::crypto;
use crate::crypto::secrets::DomainKeys;
use crate::id::{PackId, SnapshotId, StoreId};

const WHAT: &str = "collection";
const MAGIC: &[u8; 8] = b"YSTRGCOL";
const SIGNED_PREFIX: &[u8] = b"yester collection 1\n";
const SIGNATURE_BYTES: usize = 64;
/// Characters of a snapshot id.
const SNAPSHOT_ID_BYTES: usize = 49;

/// Most packs of one collection.
pub const COLLECTION_MAX_PACKS: usize = 1 << 20;
/// Most snapshots of one collection.
pub const COLLECTION_MAX_SNAPSHOTS: usize = 1 << 20;

/// How far a collection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Packs are about to be deleted: nobody may begin to rely on them.
    Condemned,
    /// It is decided what may be deleted.
    Final,
}

impl Stage {
    /// Both, in their order.
    pub const ALL: [Self; 2] = [Self::Condemned, Self::Final];

    /// Returns the end of its key.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Condemned => "condemned",
            Self::Final => "final",
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Condemned => 1,
            Self::Final => 2,
        }
    }
}

/// What lies under `gc/<n>.condemned` or `gc/<n>.final`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// The store that it is of.
    pub store: StoreId,
    /// Its number.
    pub number: u32,
    /// Which of the two it is.
    pub stage: Stage,
    /// When, by the collector's clock, to the second.
    pub time: Timestamp,
    /// The packs, sorted, each once.
    pub packs: Vec<PackId>,
    /// Forgotten snapshots that are gone from now on, sorted, each once; none before the end.
    pub snapshots: Vec<SnapshotId>,
}

impl Collection {
    /// Most bytes of such an object.
    pub const MAX_BYTES: u64 = 128 << 20;

    /// Encodes and signs.
    ///
    /// # Errors
    /// Fails if a rule is broken, or without the full keys.
    pub fn seal(&self, keys: &DomainKeys) -> Result<Vec<u8>, FormatError> {
        self.check()?;
        let body = cbor::encode(|writer| {
            writer.array(6)?.bytes(self.store.as_bytes())?.u32(self.number)?.u8(self.stage.code())?;
            writer.i64(self.time.as_second())?;
            cbor::write_list(writer, &self.packs, |writer, pack| writer.bytes(pack.as_bytes())?.ok())?;
            cbor::write_list(writer, &self.snapshots, |writer, id| writer.str(&id.to_string())?.ok())
        });
        let signature = keys.sign(&signed(&body)).map_err(|source| crypto(WHAT, source))?;
        Ok([MAGIC.as_slice(), &body, &signature].concat())
    }

    /// Opens what lies under the key of this number and stage in this store.
    ///
    /// # Errors
    /// [`FormatError::Seal`] if the signature is not the domain's, [`FormatError::Malformed`] if a rule is broken or it
    /// belongs elsewhere.
    pub fn open(
        store: StoreId,
        number: u32,
        stage: Stage,
        keys: &DomainKeys,
        bytes: &[u8],
    ) -> Result<Self, FormatError> {
        let body = verified_body(keys, bytes)?;
        let (code, collection) = CborReader::new(WHAT, body)?.record(6, |reader| {
            let store = StoreId::from_bytes(reader.array_of()?);
            let number = reader.u32()?;
            let code = reader.u8()?;
            let seconds = reader.i64()?;
            let time =
                Timestamp::from_second(seconds).map_err(|error| reader.malformed(error.to_string()))?;
            let packs =
                reader.list(0, COLLECTION_MAX_PACKS, |reader| reader.array_of().map(PackId::from_bytes))?;
            let snapshots = reader.list(0, COLLECTION_MAX_SNAPSHOTS, |reader| {
                let text = reader.text(SNAPSHOT_ID_BYTES, SNAPSHOT_ID_BYTES)?;
                text.parse().map_err(|_| reader.malformed("a snapshot has no id"))
            })?;
            Ok((code, Self { store, number, stage, time, packs, snapshots }))
        })?;
        if code != stage.code() || collection.number != number || collection.store != store {
            return Err(malformed("it belongs elsewhere"));
        }
        collection.check()?;
        Ok(collection)
    }

    fn check(&self) -> Result<(), FormatError> {
        if self.packs.len() > COLLECTION_MAX_PACKS || self.snapshots.len() > COLLECTION_MAX_SNAPSHOTS {
            return Err(malformed("it lists too much"));
        }
        if !self.packs.is_sorted_by(|before, after| before < after) {
            return Err(malformed("its packs are not strictly sorted"));
        }
        if !self.snapshots.is_sorted_by(|before, after| before < after) {
            return Err(malformed("its snapshots are not strictly sorted"));
        }
        if self.stage == Stage::Condemned && !self.snapshots.is_empty() {
            return Err(malformed("it drops snapshots before the end"));
        }
        Ok(())
    }
}

/// Returns the body once its signature was checked: nothing of it is decoded before.
fn verified_body<'a>(keys: &DomainKeys, bytes: &'a [u8]) -> Result<&'a [u8], FormatError> {
    if bytes.len() as u64 > Collection::MAX_BYTES {
        return Err(malformed("it is too long"));
    }
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| malformed("it does not begin like one"))?;
    let (body, signature) =
        rest.split_last_chunk::<SIGNATURE_BYTES>().ok_or_else(|| malformed("it is cut short"))?;
    keys.verify(&signed(body), signature).map_err(|source| crypto(WHAT, source))?;
    Ok(body)
}

fn signed(body: &[u8]) -> Vec<u8> {
    [SIGNED_PREFIX, body].concat()
}

fn malformed(why: &'static str) -> FormatError {
    FormatError::malformed(WHAT, why)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::vectors::{encrypted_keys, public_keys};

    const STORE: StoreId = StoreId::from_bytes([0x50; 16]);

    fn collection() -> Collection {
        Collection {
            store: STORE,
            number: 7,
            stage: Stage::Final,
            time: "2026-11-22T05:31:06Z".parse().unwrap(),
            packs: vec![PackId::from_bytes([1; 32]), PackId::from_bytes([2; 32])],
            snapshots: vec!["20261121T053106Z-0123456789abcdef0123456789abcdef".parse().unwrap()],
        }
    }

    fn open(bytes: &[u8]) -> Result<Collection, FormatError> {
        Collection::open(STORE, 7, Stage::Final, &encrypted_keys(), bytes)
    }

    proptest! {
        #[test]
        fn collections_round_trip(
            number in any::<u32>(),
            seconds in 0_i64..1 << 35,
            packs in prop::collection::btree_set(any::<[u8; 32]>(), 0..20),
        ) {
            let packs = packs.into_iter().map(PackId::from_bytes).collect();
            let time = Timestamp::from_second(seconds).unwrap();
            let stage = Stage::Condemned;
            let one = Collection { number, stage, time, packs, snapshots: Vec::new(), ..collection() };
            let bytes = one.seal(&encrypted_keys()).unwrap();
            prop_assert_eq!(Collection::open(STORE, number, stage, &encrypted_keys(), &bytes).unwrap(), one);
        }
    }

    #[test]
    fn what_was_altered_is_refused() {
        let bytes = collection().seal(&encrypted_keys()).unwrap();
        assert_eq!(open(&bytes).unwrap(), collection());
        for position in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[position] ^= 1;
            assert!(open(&altered).is_err(), "byte {position}");
            assert!(open(&bytes[..position]).is_err(), "cut at {position}");
        }
        assert!(open(&[bytes, vec![0]].concat()).is_err());
    }

    #[test]
    fn it_counts_in_its_own_place_alone() {
        let bytes = collection().seal(&encrypted_keys()).unwrap();
        let refused = |store, number, stage, keys: &DomainKeys| {
            Collection::open(store, number, stage, keys, &bytes).unwrap_err().to_string()
        };
        let keys = encrypted_keys();
        let elsewhere = "collection is malformed: it belongs elsewhere";
        assert_eq!(refused(StoreId::from_bytes([0x51; 16]), 7, Stage::Final, &keys), elsewhere);
        assert_eq!(refused(STORE, 8, Stage::Final, &keys), elsewhere);
        assert_eq!(refused(STORE, 7, Stage::Condemned, &keys), elsewhere);
        let altered = "collection is damaged or was altered: its seal does not open";
        assert_eq!(refused(STORE, 7, Stage::Final, &public_keys()), altered);
    }

    #[test]
    fn rules_hold_for_writers_too() {
        let [first, second] = [PackId::from_bytes([1; 32]), PackId::from_bytes([2; 32])];
        for (broken, why) in [
            (Collection { packs: vec![second, first], ..collection() }, "not strictly sorted"),
            (Collection { packs: vec![first, first], ..collection() }, "not strictly sorted"),
            (Collection { stage: Stage::Condemned, ..collection() }, "before the end"),
        ] {
            let error = broken.seal(&encrypted_keys()).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
