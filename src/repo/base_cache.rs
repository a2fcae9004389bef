//! Copies of packs that this host wrote lately, so that a base for deltas need not be fetched from a distant store.
//!
//! Each is a file under the pack's id, byte for byte what the store has, sealed as it is. So nothing here has to be
//! trusted: whoever opens a frame of it finds out whether it is the right one, and what is missing, short or damaged
//! is as good as not there. Which packs are kept and which bases they make possible is left to the session.

#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, linkat};
use tempfile::{Builder, TempPath};

use super::{RepoError, local};
use crate::format::pack::PACK_MAGIC;
use crate::id::PackId;

/// The time of last use is as exact as this: a file is touched no more often.
const TOUCH_INTERVAL: Duration = Duration::from_mins(1);
/// A file without a pack's name is being written, or was left behind by a process that died longer ago than this.
const ABANDONED_AFTER: Duration = Duration::from_hours(1);
const COPY_BYTES: usize = 256 << 10;

/// The kept packs of one store, up to a bound. Several processes may use one folder at the same time.
#[derive(Debug)]
pub struct BaseCache {
    folder: PathBuf,
    bound_bytes: u64,
}

impl BaseCache {
    /// Opens the folder, or makes it, and removes what is too much.
    ///
    /// # Errors
    /// Fails if the folder cannot be made.
    pub fn open(folder: &Path, bound_bytes: u64) -> Result<Self, RepoError> {
        local::make_folder(folder)?;
        let cache = Self { folder: folder.to_owned(), bound_bytes };
        cache.remove_surplus();
        Ok(cache)
    }

    /// Keeps a pack of so many bytes, which lies whole in `file`, and lets those go that were not used for longest.
    ///
    /// The file must not change any more: where possible, it gets a second name and is not copied. A pack that cannot
    /// be kept is left out.
    pub fn put(&self, id: &PackId, file: &File, bytes: u64) {
        if bytes > self.bound_bytes {
            return;
        }
        if let Err(error) = self.try_put(id, file, bytes) {
            tracing::debug!("cannot keep pack {id} for deltas: {error}");
        }
        self.remove_surplus();
    }

    /// Returns a range of the bytes of a pack, if it is here and as long as that.
    #[must_use]
    pub fn get(&self, id: &PackId, range: Range<u64>) -> Option<Vec<u8>> {
        let file = self.open_pack(id)?;
        let length = range.end.checked_sub(range.start)?;
        if range.end > file.metadata().ok()?.len() {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        file.read_exact_at(&mut bytes, range.start).ok()?;
        touch(&file);
        Some(bytes)
    }

    /// Tells whether a pack is here, as far as its end tells.
    #[must_use]
    pub fn holds(&self, id: &PackId) -> bool {
        self.open_pack(id).is_some_and(|file| ends_as_pack(&file).unwrap_or(false))
    }

    fn try_put(&self, id: &PackId, file: &File, bytes: u64) -> io::Result<()> {
        if file.metadata()?.len() != bytes {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "its file has another length"));
        }
        let temporary = self.link(file).or_else(|_| self.copy(file, bytes))?;
        File::open(&temporary)?.set_modified(SystemTime::now())?;
        temporary.persist(self.path(id)).map_err(|error| error.error)
    }

    /// Gives a file that has no name one in the folder.
    fn link(&self, file: &File) -> io::Result<TempPath> {
        let open_file = format!("/proc/self/fd/{}", file.as_raw_fd());
        let link = |path: &Path| Ok(linkat(CWD, &open_file, CWD, path, AtFlags::SYMLINK_FOLLOW)?);
        Ok(Builder::new().make_in(&self.folder, link)?.into_temp_path())
    }

    fn copy(&self, file: &File, bytes: u64) -> io::Result<TempPath> {
        let mut copy = Builder::new().tempfile_in(&self.folder)?;
        let mut buffer = vec![0; COPY_BYTES];
        let mut offset = 0;
        while offset < bytes {
            let wanted = usize::try_from(bytes - offset).map_or(COPY_BYTES, |rest| rest.min(COPY_BYTES));
            file.read_exact_at(&mut buffer[..wanted], offset)?;
            copy.write_all(&buffer[..wanted])?;
            offset += wanted as u64;
        }
        Ok(copy.into_temp_path())
    }

    fn path(&self, id: &PackId) -> PathBuf {
        self.folder.join(id.to_string())
    }

    fn open_pack(&self, id: &PackId) -> Option<File> {
        File::open(self.path(id)).ok()
    }

    /// Removes packs until the bound holds, those first that were not used for longest, and what was abandoned.
    /// Other processes may be at it too, so a file that is gone does not matter.
    fn remove_surplus(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let mut packs = Vec::new();
        let mut bytes: u64 = 0;
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            if is_pack_name(&entry.file_name()) {
                bytes = bytes.saturating_add(metadata.len());
                packs.push((used, entry.path(), metadata.len()));
            } else if used.elapsed().is_ok_and(|age| age > ABANDONED_AFTER) {
                let _ = fs::remove_file(entry.path());
            }
        }
        packs.sort_unstable();
        for (_, path, length) in packs {
            if bytes <= self.bound_bytes {
                return;
            }
            let _ = fs::remove_file(path);
            bytes = bytes.saturating_sub(length);
        }
    }
}

fn is_pack_name(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.parse::<PackId>().is_ok())
}

/// A file that was cut short, or whose bytes a power cut has lost, has another end.
fn ends_as_pack(file: &File) -> io::Result<bool> {
    let mut end = [0; PACK_MAGIC.len()];
    let Some(start) = file.metadata()?.len().checked_sub(end.len() as u64) else { return Ok(false) };
    file.read_exact_at(&mut end, start)?;
    Ok(end == *PACK_MAGIC)
}

/// Notes that a pack was used now.
fn touch(file: &File) {
    let used = file.metadata().and_then(|metadata| metadata.modified());
    // A time in the future has no age, and is set right.
    let is_recent = used.is_ok_and(|used| used.elapsed().is_ok_and(|age| age < TOUCH_INTERVAL));
    if !is_recent {
        let _ = file.set_modified(SystemTime::now());
    }
}
