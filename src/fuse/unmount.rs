//! Ending mounts: our own, and those that another process serves or served once.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use super::MountError;
use super::mountinfo::{self, Device};

/// How an unmount went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnmountOutcome {
    /// Nobody used it: it is gone.
    Clean,
    /// It was in use: it is gone from the tree, and ends when its last user closes what is open.
    Detached,
}

/// Unmounts the yester mount at `mountpoint`, whichever process serves it, or served it until it died.
///
/// # Errors
/// Fails if there is no yester mount, or this user may not unmount it.
pub fn unmount_path(mountpoint: &Path) -> Result<UnmountOutcome, MountError> {
    let failed = || MountError::system("unmount", mountpoint);
    let path = resolve(mountpoint).map_err(failed())?;
    let mount = mountinfo::find(&path).map_err(failed())?;
    if mount.is_none_or(|mount| !mount.is_ours()) {
        return Err(MountError::NotMounted(mountpoint.display().to_string()));
    }
    if unmount(&path, UnmountFlags::empty()).is_ok() {
        return Ok(UnmountOutcome::Clean);
    }
    take_away(&path).map_err(failed())?;
    Ok(UnmountOutcome::Detached)
}

/// Takes our mount out of the tree, busy or not. Does nothing if it is gone, or another one lies over it: the
/// kernel would take that one.
pub(super) fn detach(mountpoint: &Path, device: Device) -> Result<(), MountError> {
    let failed = || MountError::system("unmount", mountpoint);
    let top = mountinfo::find(mountpoint).map_err(failed())?;
    if top.is_none_or(|mount| mount.device != device) {
        return Ok(());
    }
    take_away(mountpoint).map_err(failed())
}

/// Takes the topmost mount at `path` out of the tree, busy or not.
pub(super) fn take_away(path: &Path) -> io::Result<()> {
    unmount(path, UnmountFlags::DETACH)
}

/// Makes a mount point absolute without asking the mounted file system, which may be dead.
pub(super) fn resolve(mountpoint: &Path) -> io::Result<PathBuf> {
    match (mountpoint.parent(), mountpoint.file_name()) {
        (Some(parent), Some(name)) => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            let path = parent.canonicalize()?.join(name);
            let is_link = std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink());
            if is_link { path.canonicalize() } else { Ok(path) }
        }
        _ => mountpoint.canonicalize(),
    }
}

/// Unmounts by the system call, or by `fusermount3` where this user may not use the call.
fn unmount(path: &Path, flags: UnmountFlags) -> io::Result<()> {
    match rustix::mount::unmount(path, flags | UnmountFlags::NOFOLLOW) {
        Err(Errno::PERM) => fusermount(path, flags),
        result => Ok(result?),
    }
}

fn fusermount(path: &Path, flags: UnmountFlags) -> io::Result<()> {
    let mut command = Command::new("fusermount3");
    command.arg("-u");
    if flags.contains(UnmountFlags::DETACH) {
        command.arg("-z");
    }
    let output = command.arg("--").arg(path).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(unmount_path(folder.path()), Err(MountError::NotMounted(_))));
        assert!(matches!(unmount_path(Path::new("/proc")), Err(MountError::NotMounted(_))));
        assert!(matches!(unmount_path(Path::new("/")), Err(MountError::NotMounted(_))));
        let proc_device = Device::of(Path::new("/proc")).unwrap();
        assert!(detach(Path::new("/"), proc_device).is_ok());
    }

    #[test]
    fn links_and_relative_parts_lead_to_the_mount_point() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().canonicalize().unwrap().join("target");
        std::fs::create_dir(&target).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert_eq!(resolve(&link).unwrap(), target);
        assert_eq!(resolve(&target.join("../target/")).unwrap(), target);
    }
}
