//! Frames that resemble each other: what is found by super-features.
//!
//! Only frames of data that have features are in the table: those on which a delta may be based.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Transaction};

use super::apply::{BATCH_ROWS, INSERT_FEATURE, execute_sorted};
use super::rows::{decode_features, feature_prefixes, for_each_row, frame_ref};
use super::{FrameRef, Index, IndexError, PackRow};
use crate::format::frame::Features;

/// Frames that are offered at most.
const OFFERED_MAX: usize = 8;
/// Rows that are looked at for one super-feature, the newest first: what very many frames share says little.
const ROWS_PER_FEATURE: usize = 64;

/// A frame that shares super-features with the one that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimilarFrame {
    /// Where it is.
    pub frame: FrameRef,
    /// How many of the three super-features are the same, at least 1.
    pub matches: u8,
}

impl Index {
    /// Returns frames that resemble one with these features: those that share most first, then the newest; at
    /// most eight.
    ///
    /// They are data, deltas among them, and not of ingest-only writers. Of features that very many frames have, the
    /// newest frames are considered.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is damaged.
    pub fn similar_frames(&self, features: &Features) -> Result<Vec<SimilarFrame>, IndexError> {
        self.pool.read(|connection| {
            let mut found: Vec<SimilarFrame> = Vec::new();
            for key in candidates(connection, features)? {
                let Some(similar) = confirm(connection, key, features)? else { continue };
                if found.iter().all(|other| other.frame != similar.frame) {
                    found.push(similar);
                }
                if found.len() == OFFERED_MAX {
                    break;
                }
            }
            found.sort_unstable_by_key(|similar| (similar.matches, similar.frame));
            found.reverse();
            Ok(found)
        })
    }
}

/// Returns the keys of frames that seem to share features, in the order in which they are wanted.
fn candidates(connection: &Connection, features: &Features) -> rusqlite::Result<Vec<i64>> {
    let mut newest = connection
        .prepare_cached("SELECT frame FROM features WHERE prefix = ?1 ORDER BY frame DESC LIMIT ?2")?;
    let mut one =
        connection.prepare_cached("SELECT count(*) FROM features WHERE prefix = ?1 AND frame = ?2")?;
    let prefixes = feature_prefixes(features);
    let mut shared: BTreeMap<i64, [bool; 3]> = BTreeMap::new();
    for (place, prefix) in prefixes.iter().enumerate() {
        for_each_row(newest.query((prefix, ROWS_PER_FEATURE))?, |row| {
            shared.entry(row.get(0)?).or_default()[place] = true;
            Ok(())
        })?;
    }
    // Old frames with a rare feature may have a common one too, beyond the rows that were looked at.
    for (place, prefix) in prefixes.iter().enumerate() {
        if shared.values().filter(|places| places[place]).count() < ROWS_PER_FEATURE {
            continue;
        }
        for (key, places) in shared.iter_mut().filter(|(_, places)| !places[place]) {
            places[place] = one.query_row((prefix, key), |row| row.get(0))?;
        }
    }
    let count = |places: [bool; 3]| places.into_iter().filter(|is_shared| *is_shared).count();
    let mut keys: Vec<_> = shared.into_iter().map(|(key, places)| (count(places), key)).collect();
    keys.sort_unstable();
    Ok(keys.into_iter().rev().map(|(_, key)| key).collect())
}

/// Compares the features of a frame in full. Of the rows that a pack has, the lowest stands for all, as in lookups.
fn confirm(connection: &Connection, key: i64, features: &Features) -> rusqlite::Result<Option<SimilarFrame>> {
    let row: Option<(i64, Vec<u8>)> = connection
        .prepare_cached(
            "SELECT (SELECT min(id) FROM packs WHERE pack_id = named.pack_id), frames.features
             FROM frames JOIN packs AS named ON named.id = frames.id >> 16
             WHERE frames.id = ?1 AND named.class = 1",
        )?
        .query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((pack, stored)) = row else { return Ok(None) };
    let stored = decode_features(&stored)?;
    let matches =
        features.0.iter().zip(stored.0).fold(0, |count, (one, other)| count + u8::from(*one == other));
    let frame = FrameRef { pack: PackRow(pack), number: frame_ref(key).number };
    Ok((matches > 0).then_some(SimilarFrame { frame, matches }))
}

/// Fills the table from all frames: for files that were made before there was one.
pub(super) fn fill_features(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare(
        "SELECT frames.id, frames.features FROM frames JOIN packs ON packs.id = frames.id >> 16
         WHERE frames.features IS NOT NULL AND packs.kind = 1",
    )?;
    let mut batch = Vec::new();
    for_each_row(statement.query([])?, |row| {
        let (key, features) = (row.get(0)?, decode_features(row.get_ref(1)?.as_blob()?)?);
        batch.extend(feature_prefixes(&features).map(|prefix| (prefix, key)));
        if batch.len() >= BATCH_ROWS {
            execute_sorted(transaction, INSERT_FEATURE, &mut batch)
        } else {
            Ok(())
        }
    })?;
    execute_sorted(transaction, INSERT_FEATURE, &mut batch)
}
