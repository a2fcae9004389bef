//! What is decided before an entry is touched: what becomes of what stands in its place, and what its owner and
//! mode are to be. Restoring and planning ask here alike.

use std::io;

use rustix::fs::{FileType, Stat};

use super::Overwrite;
use super::attributes::{Identity, owner_of, permitted_mode};
use super::owners::{Owners, Ownership};
use super::target::{Directory, inode_of, is_directory};
use crate::format::tree::{Device, Entry, EntryKind, Time};

/// The steps of nanoseconds in which file systems keep times.
const TIME_STEPS: [u32; 5] = [1, 100, 1_000, 10_000_000, 1_000_000_000];

/// The earliest seconds that file systems hold, and the latest: those of 32 bits, of ext4 and of XFS. Where one is
/// given a time beyond, it keeps these.
const EARLIEST: [i64; 2] = [0, -(1 << 31)];
const LATEST: [i64; 4] = [(1 << 31) - 1, (1 << 32) - 1, 0x3_7fff_ffff, 16_299_260_424];

/// How one restore decides.
pub(super) struct Policy {
    /// What becomes of what is there.
    pub overwrite: Overwrite,
    /// As whom the restore runs.
    pub identity: Identity,
    /// To whom things belong.
    pub owners: Owners,
}

/// What is to be done for an entry, by what stands in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing is there: it is made.
    New,
    /// Something is there and is replaced.
    Replace,
    /// The same is there already: this inode of this device.
    Unchanged((u64, u64)),
    /// Something else is there and is kept.
    Kept,
    /// A directory is there, which is never removed.
    DirectoryInTheWay,
}

impl Policy {
    /// Prepares to decide as this process.
    pub(super) fn new(overwrite: Overwrite, ownership: Ownership) -> Self {
        Self { overwrite, identity: Identity::current(), owners: Owners::of_this_host(ownership) }
    }

    /// Decides on `entry`, which is no directory, in `directory`.
    pub(super) fn judge(&self, directory: &Directory, entry: &Entry) -> io::Result<Verdict> {
        let Some(stat) = directory.stat(&entry.name)? else { return Ok(Verdict::New) };
        if is_directory(&stat) {
            return Ok(Verdict::DirectoryInTheWay);
        }
        Ok(match self.overwrite {
            Overwrite::Always => Verdict::Replace,
            _ if self.is_same(directory, &stat, entry) => Verdict::Unchanged(inode_of(&stat)),
            Overwrite::IfChanged => Verdict::Replace,
            Overwrite::Never => Verdict::Kept,
        })
    }

    /// Tells whether what is there looks the same. A look at the content would cost as much as restoring it.
    fn is_same(&self, directory: &Directory, stat: &Stat, entry: &Entry) -> bool {
        let attributes = &entry.attributes;
        let owner = self.owners.owner_of(attributes);
        let same_owner = owner.is_none_or(|owner| stat.st_uid == owner.uid && stat.st_gid == owner.gid);
        let same_time = is_same_time(attributes.mtime, stat)
            || (is_even_second_before(attributes.mtime, stat) && directory.is_fat());
        let mode = permitted_mode(attributes, owner, Some(owner_of(stat)));
        let same_mode = stat.st_mode & 0o7777 == u32::from(mode);
        let is = |kind| FileType::from_raw_mode(stat.st_mode) == kind;
        let is_device = |kind, device: Device| {
            is(kind) && same_mode && stat.st_rdev == rustix::fs::makedev(device.major, device.minor)
        };
        let same_kind = match &entry.kind {
            EntryKind::File(_) => {
                is(FileType::RegularFile) && u64::try_from(stat.st_size) == Ok(entry.size()) && same_mode
            }
            EntryKind::Symlink(target) => {
                is(FileType::Symlink) && directory.read_link(&entry.name).is_ok_and(|found| found == *target)
            }
            EntryKind::Fifo => is(FileType::Fifo) && same_mode,
            EntryKind::Socket => is(FileType::Socket) && same_mode,
            EntryKind::CharDevice(device) => is_device(FileType::CharacterDevice, *device),
            EntryKind::BlockDevice(device) => is_device(FileType::BlockDevice, *device),
            EntryKind::Directory(_) => false,
        };
        same_owner && same_time && same_kind
    }
}

/// Tells whether a file has the time that its file system would have kept of `wanted`.
fn is_same_time(wanted: Time, found: &Stat) -> bool {
    let (seconds, kept) = (wanted.seconds, found.st_mtime);
    let is_clamped = seconds < kept && EARLIEST.contains(&kept) || seconds > kept && LATEST.contains(&kept);
    let same_step =
        |step: &u32| u64::from(wanted.nanoseconds - wanted.nanoseconds % step) == found.st_mtime_nsec;
    is_clamped || seconds == kept && TIME_STEPS.iter().any(same_step)
}

/// Tells whether a file has the time that a file system with steps of two seconds would have kept of `wanted`.
fn is_even_second_before(wanted: Time, found: &Stat) -> bool {
    found.st_mtime_nsec == 0 && found.st_mtime == wanted.seconds - wanted.seconds.rem_euclid(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_the_same_as_far_as_the_file_system_keeps_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut stat = rustix::fs::stat(folder.path()).unwrap();
        let mut same = |seconds, nanoseconds, kept, kept_nanoseconds| {
            (stat.st_mtime, stat.st_mtime_nsec) = (kept, kept_nanoseconds);
            is_same_time(Time { seconds, nanoseconds }, &stat)
        };
        for kept in [123_456_789, 123_456_700, 123_456_000, 120_000_000, 0] {
            assert!(same(7, 123_456_789, 7, kept), "{kept}");
        }
        assert!(!same(7, 123_456_789, 7, 123_456_790) && !same(7, 123_456_789, 8, 0));
        assert!(!same(8, 0, 7, 0) && !same(7, 0, 7, 1));
        assert!(same(i64::MAX / 4, 5, 0x3_7fff_ffff, 0) && same(-5, 5, 0, 0));
        assert!(!same(5_000_000_000, 5, 4_999_999_999, 0) && !same(5, 0, 0, 0));
        (stat.st_mtime, stat.st_mtime_nsec) = (-6, 0);
        let is_even = |seconds| is_even_second_before(Time { seconds, nanoseconds: 5 }, &stat);
        assert_eq!([-7, -6, -5, -4].map(is_even), [false, true, true, false]);
    }
}
