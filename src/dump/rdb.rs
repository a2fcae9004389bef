//! The check of a Redis database file: its end mark, and the checksum behind it.
//!
//! ```text
//! "REDIS" and version (4 digits) │ … │ 0xFF │ CRC-64 of all before it (8 bytes) │ mark (40 bytes)
//! ```
//! The mark is random and hexadecimal. `redis-cli --rdb -` leaves it there when the server sent the file as it made
//! it (`repl-diskless-sync`). Source: `rdb.c`, `replication.c` and `redis-cli.c` of Redis 7.

use super::Verdict;
use super::inspection::{Check, Finding};
use crc::{CRC_64_REDIS, Crc, Digest, Table};

static CRC64: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_REDIS);

/// Magic and version.
const HEADER_BYTES: usize = 9;

/// Versions below have no checksum.
const CHECKSUM_SINCE: u32 = 5;

const CHECKSUM_BYTES: usize = 8;
const MARK_BYTES: usize = 40;

/// Byte before the checksum.
const END: u8 = 0xff;

/// End mark, checksum and the mark behind it: what is summed up only when it is known to be none of them.
const TAIL_BYTES: usize = 1 + CHECKSUM_BYTES + MARK_BYTES;

/// The check of a Redis database file.
pub(super) struct RdbCheck {
    header: Vec<u8>,
    /// Sums up all but the tail.
    digest: Digest<'static, u64, Table<16>>,
    tail: Vec<u8>,
}

impl RdbCheck {
    /// Prepares to check a file.
    pub(super) fn new() -> Self {
        Self { header: Vec::new(), digest: CRC64.digest(), tail: Vec::with_capacity(2 * TAIL_BYTES) }
    }

    fn verdict(self) -> Verdict {
        let version = std::str::from_utf8(self.header.get(5..).unwrap_or_default()).unwrap_or_default();
        let Some(version) = version.parse::<u32>().ok().filter(|_| self.header.len() == HEADER_BYTES) else {
            return Verdict::Broken("it is cut short within its header".to_owned());
        };
        if version < CHECKSUM_SINCE {
            return Verdict::Unchecked(format!("its version, {version}, has no checksum"));
        }
        let end_of_tail = self.tail.len();
        let with_mark = end_of_tail.checked_sub(MARK_BYTES).filter(|at| is_mark(&self.tail[*at..]));
        let sums =
            [Some(end_of_tail), with_mark].into_iter().flatten().filter_map(|end| self.sum_before(end));
        let mut ends_well = false;
        for (computed, stored) in sums {
            if computed == stored {
                return Verdict::Whole;
            }
            if stored == 0 {
                return Verdict::Unchecked("it has no checksum (rdbchecksum no)".to_owned());
            }
            ends_well = true;
        }
        let reason = if ends_well { "its checksum does not match its content" } else { "it is cut short" };
        Verdict::Broken(reason.to_owned())
    }

    /// Returns the checksum of what is before the stored one, and that, if the file ends at `end` of the tail.
    fn sum_before(&self, end: usize) -> Option<(u64, u64)> {
        let at = end.checked_sub(CHECKSUM_BYTES)?;
        let stored = self.tail.get(at..end)?.try_into().ok().map(u64::from_le_bytes)?;
        let summed = self.tail.get(..at)?;
        if summed.last() != Some(&END) {
            return None;
        }
        let mut digest = self.digest.clone();
        digest.update(summed);
        Some((digest.finalize(), stored))
    }
}

impl Check for RdbCheck {
    fn feed(&mut self, bytes: &[u8]) {
        let missing = HEADER_BYTES - self.header.len();
        self.header.extend_from_slice(bytes.get(..missing).unwrap_or(bytes));
        let Some(settled) = bytes.len().checked_sub(TAIL_BYTES) else {
            self.tail.extend_from_slice(bytes);
            let settled = self.tail.len().saturating_sub(TAIL_BYTES);
            self.digest.update(&self.tail[..settled]);
            self.tail.drain(..settled);
            return;
        };
        self.digest.update(&self.tail);
        self.digest.update(&bytes[..settled]);
        self.tail.clear();
        self.tail.extend_from_slice(&bytes[settled..]);
    }

    fn finish(self: Box<Self>) -> Finding {
        self.verdict().into()
    }
}

/// Tells whether `bytes` look like the mark that a server puts behind a file that it sends while it makes it.
fn is_mark(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
