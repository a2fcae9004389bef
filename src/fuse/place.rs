//! The place of a new mount: what a dead server left there is taken away, and a place that is taken is refused.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam_channel::bounded;
use rustix::io::Errno;

use super::MountError;
use super::mountinfo::{self, Mount};
use super::unmount;

/// How long a server gets to show that it lives. One that is only slow is not taken for dead.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);

/// Makes a mount point ready and returns its whole path. A mount of ours whose server died is detached first.
///
/// # Errors
/// Fails if a mount of ours is served there, or there is no empty directory.
pub fn prepare(mountpoint: &Path) -> Result<PathBuf, MountError> {
    let failed = || |source| MountError::Place { mountpoint: mountpoint.display().to_string(), source };
    let path = unmount::resolve(mountpoint).map_err(failed())?;
    // Several may lie on top of each other.
    while let Some(mount) = mountinfo::find(&path).map_err(failed())?.filter(Mount::is_ours) {
        if !is_dead(&path) {
            return Err(MountError::InUse(mountpoint.display().to_string()));
        }
        // By its device: meanwhile another process may have mounted anew at this place.
        unmount::detach(&path, mount.device)?;
        tracing::warn!("the mount at {} had lost its server and was taken away", mountpoint.display());
    }
    // What lies in the directory would be out of sight, which nobody wants who did not say so.
    let mut entries = std::fs::read_dir(&path).map_err(failed())?;
    match entries.next() {
        None => Ok(path),
        Some(_) => Err(MountError::NotEmpty(mountpoint.display().to_string())),
    }
}

/// Tells whether nobody serves the mount at `path` any more. The kernel answers for a dead server at once; a
/// live one that hangs must not hang this process, so that a thread asks.
fn is_dead(path: &Path) -> bool {
    let (sender, answer) = bounded(1);
    let path = path.to_owned();
    let ask = move || {
        let _ = sender.send(rustix::fs::statvfs(&path).map(drop));
    };
    let asked = std::thread::Builder::new().name("yester-ask".to_owned()).spawn(ask);
    let gone = |error| matches!(error, Errno::NOTCONN | Errno::CONNABORTED);
    asked.is_ok() && matches!(answer.recv_timeout(ANSWER_PATIENCE), Ok(Err(error)) if gone(error))
}

impl Mount {
    /// Tells whether it is one of this program.
    pub(super) fn is_ours(&self) -> bool {
        self.fstype.strip_prefix("fuse.") == Some(super::SUBTYPE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_directory_is_a_place_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("mnt");
        std::fs::create_dir(&place).unwrap();
        assert_eq!(prepare(&place).unwrap(), place.canonicalize().unwrap());
        let refused = prepare(folder.path()).unwrap_err();
        assert!(matches!(refused, MountError::NotEmpty(_)), "{refused}");
        std::fs::write(place.join("file"), "").unwrap();
        for path in [place.join("file"), place.join("absent")] {
            assert!(matches!(prepare(&path), Err(MountError::Place { .. })));
        }
        let over_another = prepare(Path::new("/proc"));
        assert!(matches!(over_another, Err(MountError::NotEmpty(_))));
    }

    #[test]
    fn what_answers_is_not_dead() {
        assert!(!is_dead(Path::new("/proc")));
        assert!(!is_dead(Path::new("/no/such/place")));
    }
}
