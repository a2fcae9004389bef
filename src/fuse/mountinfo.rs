//! What the kernel says is mounted where.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::ops::ingest::exclude::MountPoint;

/// The device number of a mounted file system: two mounts never share one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Device {
    major: u32,
    minor: u32,
}

impl Device {
    /// Returns the device that the file at `path` lies on.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let device = std::fs::metadata(path)?.dev();
        Ok(Self { major: rustix::fs::major(device), minor: rustix::fs::minor(device) })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) device: Device,
    pub(super) mountpoint: PathBuf,
    pub(super) fstype: String,
}

/// Returns the mount that is seen at `mountpoint`: the last one where several lie on top of each other.
pub(super) fn find(mountpoint: &Path) -> io::Result<Option<Mount>> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    Ok(parse(&table).filter(|mount| mount.mountpoint == mountpoint).last())
}

/// Returns everything that is mounted; where several lie on top of each other, the topmost comes last.
///
/// # Errors
/// Fails if `/proc` cannot be read.
pub fn list_mounts() -> io::Result<Vec<MountPoint>> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    let mounts = parse(&table).map(|mount| MountPoint {
        path: mount.mountpoint.into_os_string().into_encoded_bytes(),
        file_system: mount.fstype,
    });
    Ok(mounts.collect())
}

/// Parses the format of `proc_pid_mountinfo(5)`; skips lines that are not of it.
fn parse(table: &[u8]) -> impl Iterator<Item = Mount> {
    table.split(|byte| *byte == b'\n').filter_map(parse_line)
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let (major, minor) = std::str::from_utf8(fields.nth(2)?).ok()?.split_once(':')?;
    let device = Device { major: major.parse().ok()?, minor: minor.parse().ok()? };
    let mountpoint = PathBuf::from(OsStr::from_bytes(&unescape(fields.nth(1)?)));
    let fstype = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(Mount { device, mountpoint, fstype: String::from_utf8_lossy(fstype).into_owned() })
}

/// Undoes `\040` and the like.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| *first == b'\\').and_then(octal);
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    bytes
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
        31 22 0:44 / /mnt/my\\040backup ro,nosuid,nodev,relatime - fuse.yester /srv/store ro,user_id=0\n\
        32 31 0:45 / /mnt/my\\040backup rw shared:2 master:3 - tmpfs none rw\n\
        not a line\n";

    #[test]
    fn mount_points_are_unescaped() {
        let mounts: Vec<_> = parse(TABLE).collect();
        assert_eq!(mounts.len(), 3);
        assert_eq!(mounts[1].mountpoint, Path::new("/mnt/my backup"));
        assert_eq!(mounts[1].fstype, "fuse.yester");
        assert_eq!(mounts[1].device.to_string(), "0:44");
        assert_eq!(mounts[2].fstype, "tmpfs");
    }

    #[test]
    fn only_whole_escapes_are_undone() {
        assert_eq!(unescape(b"a\\134b\\11"), b"a\\b\\11");
        assert_eq!(unescape(b"\\999"), b"\\999");
    }

    #[test]
    fn the_root_is_found_with_its_device() {
        let root = find(Path::new("/")).unwrap().unwrap();
        assert!(!root.fstype.is_empty());
        assert!(Device::of(Path::new("/proc")).unwrap() != root.device);
        assert_eq!(find(Path::new("/no/such/mount")).unwrap(), None);
    }
}
