//! Frozen objects of garbage collections. They are signed, not sealed, so that the same value has the same bytes.

use super::{Recipe, SETS, frozen, keys_of};
use crate::crypto::secrets::DomainKeys;
use crate::format::FormatError;
use crate::format::collection::{Collection, Stage};
use crate::id::{PackId, StoreId};

/// The store and number of both.
const STORE: StoreId = StoreId::from_bytes([0x50; 16]);
const NUMBER: u32 = 7;

/// Returns the files of this module.
pub(super) fn recipes() -> Vec<(String, Recipe)> {
    let stages = SETS.into_iter().flat_map(|set| Stage::ALL.map(|stage| (set, stage)));
    let recipe = |(set, stage): (&'static str, Stage)| -> (String, Recipe) {
        let make = move || collection(stage).seal(&keys_of(set)).unwrap();
        (name(set, stage), Box::new(make))
    };
    stages.map(recipe).collect()
}

fn name(set: &str, stage: Stage) -> String {
    format!("{set}.gc-{}", stage.as_str())
}

/// Two packs are condemned; one of them may go, and a snapshot is gone.
fn collection(stage: Stage) -> Collection {
    let packs = [1, 2].map(|byte| PackId::from_bytes([byte; 32]));
    let (packs, snapshots) = match stage {
        Stage::Condemned => (packs.to_vec(), Vec::new()),
        Stage::Final => {
            (packs[1..].to_vec(), vec!["20261121T053106Z-0123456789abcdef0123456789abcdef".parse().unwrap()])
        }
    };
    let time = "2026-11-22T05:31:06Z".parse().unwrap();
    Collection { store: STORE, number: NUMBER, stage, time, packs, snapshots }
}

fn open(keys: &DomainKeys, stage: Stage, bytes: &[u8]) -> Result<Collection, FormatError> {
    Collection::open(STORE, NUMBER, stage, keys, bytes)
}

#[test]
fn frozen_collections_open_and_none_of_their_bytes_may_change() {
    for set in SETS {
        let keys = keys_of(set);
        for stage in Stage::ALL {
            let bytes = frozen(&name(set, stage));
            assert_eq!(open(&keys, stage, &bytes).unwrap(), collection(stage));
            assert_eq!(collection(stage).seal(&keys).unwrap(), bytes);
            for position in 0..bytes.len() {
                let mut altered = bytes.clone();
                altered[position] ^= 1;
                assert!(open(&keys, stage, &altered).is_err(), "{set} {stage:?}: byte {position}");
            }
        }
    }
}
