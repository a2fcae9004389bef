//! A Bloom filter over the chunks of the index: rules out most unknown chunks without reading the file.
//!
//! It never rules out a chunk that is there, though other processes add rows to the same file. Pack rows are
//! numbered upwards and never twice, so the filter knows up to which number it is complete, and asks the file
//! each time whether that is still the highest one. Rows that went only make it less sharp.
//!
//! Building it reads the whole table of chunks, so it is built once enough lookups were in vain: a mount, which
//! asks for what exists, never pays for it. Ten million chunks take 15 MB of memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, TryLockError};

use fastbloom::BloomFilter;
use rusqlite::{Connection, TransactionBehavior};

use super::PackRow;
use super::rows::{chunk_prefix, decode_chunks, for_each_row, last_frame_key};

/// How many lookups in vain make even a small filter worth its price.
pub(super) const MISSES_BEFORE_BUILDING: u64 = 16_384;
/// How many chunks the filter takes in at the price of one lookup in vain (measured: 0.3 µs and 20 µs).
const CHUNKS_PER_MISS: u64 = 64;
/// Share of unknown chunks that are looked up nevertheless.
const FALSE_POSITIVES: f64 = 0.01;

/// The filter, built when it is needed.
pub(super) struct Filter {
    built: RwLock<Option<Built>>,
    misses: AtomicU64,
    /// The filter is built when this many lookups were in vain.
    due: AtomicU64,
}

/// What the file held at one moment, as far as pack rows tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    /// Where pack rows began to count: another one means another file.
    first_pack: i64,
    /// The highest pack row; one below the first if there is none.
    newest_pack: i64,
}

struct Built {
    /// All rows of this extent are in the filter.
    extent: Extent,
    bloom: BloomFilter,
    chunks: u64,
    capacity: u64,
}

impl Filter {
    pub(super) fn new(misses_before_building: u64) -> Self {
        let due = AtomicU64::new(misses_before_building);
        Self { built: RwLock::new(None), misses: AtomicU64::new(0), due }
    }

    /// Takes note of a lookup in vain.
    pub(super) fn note_miss(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    /// Forgets all rows.
    pub(super) fn clear(&self) {
        *self.built.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Tells whether no row of `chunks` has this prefix. `false` says nothing.
    pub(super) fn rules_out(&self, connection: &mut Connection, prefix: i64) -> rusqlite::Result<bool> {
        if self.misses.load(Ordering::Relaxed) < self.due.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let extent = read_extent(connection)?;
        if let Some(answer) = self.ask(extent, prefix) {
            return Ok(answer);
        }
        match self.built.try_write() {
            Ok(built) if built.is_none() && !self.is_worth_building(connection)? => return Ok(false),
            Ok(mut built) => *built = Some(bring_up_to_date(connection, built.take())?),
            Err(TryLockError::Poisoned(poisoned)) => *poisoned.into_inner() = None,
            // Another thread is at it; meanwhile the file answers.
            Err(TryLockError::WouldBlock) => return Ok(false),
        }
        Ok(self.ask(extent, prefix).unwrap_or(false))
    }

    /// Compares the price of building with that of the lookups in vain so far; puts it off if it is higher.
    fn is_worth_building(&self, connection: &Connection) -> rusqlite::Result<bool> {
        let due = count_chunks(connection, PackRow(0))? / CHUNKS_PER_MISS;
        self.due.fetch_max(due, Ordering::Relaxed);
        Ok(self.misses.load(Ordering::Relaxed) >= due)
    }

    /// Returns whether the filter rules `prefix` out, or nothing if it does not cover `extent`.
    fn ask(&self, extent: Extent, prefix: i64) -> Option<bool> {
        let built = self.built.try_read().ok()?;
        let built = built.as_ref()?;
        let covered =
            built.extent.first_pack == extent.first_pack && built.extent.newest_pack >= extent.newest_pack;
        covered.then(|| !built.bloom.contains(&prefix))
    }
}

fn read_extent(connection: &Connection) -> rusqlite::Result<Extent> {
    connection
        .prepare_cached("SELECT first_pack, coalesce((SELECT max(id) FROM packs), first_pack - 1) FROM meta")?
        .query_row([], |row| Ok(Extent { first_pack: row.get(0)?, newest_pack: row.get(1)? }))
}

/// Adds what is new to `old`, or builds the filter from all rows where that does not fit.
fn bring_up_to_date(connection: &mut Connection, old: Option<Built>) -> rusqlite::Result<Built> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
    let extent = read_extent(&transaction)?;
    if let Some(mut built) = old.filter(|built| built.extent.first_pack == extent.first_pack) {
        let after = PackRow(built.extent.newest_pack);
        built.chunks += count_chunks(&transaction, after)?;
        if built.chunks <= built.capacity {
            add_frames(&transaction, after, PackRow(extent.newest_pack), &mut built.bloom)?;
            built.extent = extent;
            return Ok(built);
        }
    }
    let chunks = count_chunks(&transaction, PackRow(0))?;
    let capacity = chunks + chunks / 4 + 1024;
    let expected = usize::try_from(capacity).unwrap_or(usize::MAX);
    // A fixed seed will do: nobody without the domain's key can choose chunk ids.
    let mut bloom = BloomFilter::with_false_pos(FALSE_POSITIVES).seed(&0).expected_items(expected);
    let mut statement = transaction.prepare_cached("SELECT prefix FROM chunks")?;
    for_each_row(statement.query([])?, |row| {
        bloom.insert(&row.get::<_, i64>(0)?);
        Ok(())
    })?;
    Ok(Built { extent, bloom, chunks, capacity })
}

fn count_chunks(connection: &Connection, after: PackRow) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT coalesce(sum(chunks), 0) FROM packs WHERE id > ?1")?
        .query_row([after.0], |row| row.get(0))
}

fn add_frames(
    connection: &Connection,
    after: PackRow,
    last: PackRow,
    bloom: &mut BloomFilter,
) -> rusqlite::Result<()> {
    let range = [last_frame_key(after) + 1, last_frame_key(last)];
    let mut statement = connection.prepare_cached("SELECT chunks FROM frames WHERE id BETWEEN ?1 AND ?2")?;
    for_each_row(statement.query(range)?, |row| {
        for chunk in decode_chunks(row.get_ref(0)?.as_blob()?) {
            bloom.insert(&chunk_prefix(&chunk?.id));
        }
        Ok(())
    })
}
