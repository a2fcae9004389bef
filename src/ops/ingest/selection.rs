//! Which paths are backed up: those that were given, with every directory above them.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

use super::IngestError;
use crate::path::{Name, escape};

/// Bytes of paths that a snapshot names. A list from a file can be far longer than a manifest may be; then the
/// directories above them are named.
const PATHS_MAX_BYTES: usize = 1 << 20;

/// The part of the file system that is backed up, as a tree from `/` down.
pub(super) struct Selection {
    root: Branch,
    paths: Vec<PathBuf>,
    unreachable: Vec<String>,
    left_out: HashSet<(u64, u64)>,
}

/// Something that was given, or a directory that leads to it.
#[derive(Default)]
pub(super) struct Branch {
    extent: Extent,
    children: BTreeMap<Name, Branch>,
}

/// How much of a directory is taken.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// Only what leads to given paths.
    #[default]
    Towards,
    /// Everything from here down: it was given.
    Whole,
}

impl Selection {
    /// Resolves the given paths. Symbolic links on the way are followed; a given path that is one itself is backed
    /// up as a link, unless a `/` stands behind it. A path that cannot be reached is set aside as a failure, as
    /// long as another one can be read.
    ///
    /// # Errors
    /// Fails if nothing that was given can be read, or if a path lies in a folder that is left out.
    pub(super) fn new(given: &[PathBuf], left_out: &[PathBuf]) -> Result<Self, IngestError> {
        // One that does not exist (yet) cannot be met on the way.
        let left_out: HashSet<(u64, u64)> = left_out
            .iter()
            .filter_map(|path| path.metadata().ok())
            .map(|found| (found.dev(), found.ino()))
            .collect();
        let mut selection =
            Self { root: Branch::default(), paths: Vec::new(), unreachable: Vec::new(), left_out };
        let mut refused = None;
        let mut readable = false;
        for path in given {
            let refusal = match resolve(path) {
                Ok(resolved) => {
                    let refusal = check_readable(&resolved).err();
                    selection.add(resolved)?;
                    refusal
                }
                Err(error) => {
                    let shown = escape(path.as_os_str().as_bytes());
                    selection.unreachable.push(format!("cannot read {shown}: {error}"));
                    Some(error)
                }
            };
            match refusal {
                None => readable = true,
                Some(error) => refused = refused.or(Some((path, error))),
            }
        }
        // A snapshot with nothing in it would be the latest one, and look like a backup.
        if let Some((path, source)) = refused.filter(|_| !readable) {
            return Err(IngestError::Path { path: escape(path.as_os_str().as_bytes()), source });
        }
        selection.paths.sort();
        selection.paths.dedup();
        Ok(selection)
    }

    /// Returns the selection below `/`.
    pub(super) fn root(&self) -> &Branch {
        &self.root
    }

    /// Returns the resolved paths as raw bytes, sorted; directories above them where they are too many.
    pub(super) fn paths(&self) -> Vec<Vec<u8>> {
        shorten(self.paths.clone(), PATHS_MAX_BYTES)
            .into_iter()
            .map(|path| path.into_os_string().into_vec())
            .collect()
    }

    /// Returns what was given and cannot be reached; one sentence each, safe for terminals.
    pub(super) fn unreachable(&self) -> &[String] {
        &self.unreachable
    }

    /// Tells whether a directory is left out, by device and inode.
    pub(super) fn leaves_out(&self, device: u64, inode: u64) -> bool {
        self.left_out.contains(&(device, inode))
    }

    fn add(&mut self, resolved: PathBuf) -> Result<(), IngestError> {
        let refuse = |source| IngestError::Path { path: escape(resolved.as_os_str().as_bytes()), source };
        let inside = resolved
            .ancestors()
            .filter_map(|above| above.symlink_metadata().ok())
            .any(|above| self.left_out.contains(&(above.dev(), above.ino())));
        if inside {
            let why = "it belongs to the store or to yester itself, which are never backed up";
            return Err(refuse(io::Error::new(io::ErrorKind::InvalidInput, why)));
        }
        let names = resolved
            .components()
            .skip(1)
            .map(|component| Name::new(component.as_os_str().as_bytes()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| refuse(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        self.root.include(&names);
        self.paths.push(resolved);
        Ok(())
    }
}

impl Branch {
    /// Something below which nothing was given.
    pub(super) const NOTHING: &'static Self = &Self { extent: Extent::Towards, children: BTreeMap::new() };

    /// Returns how much of the directory is taken.
    pub(super) fn extent(&self) -> Extent {
        self.extent
    }

    /// Returns what lies below and is given, or leads to it. Below something whole it counts only where that is
    /// left out.
    pub(super) fn children(&self) -> &BTreeMap<Name, Self> {
        &self.children
    }

    fn include(&mut self, names: &[Name]) {
        match names.split_first() {
            None => self.extent = Extent::Whole,
            Some((first, rest)) => self.children.entry(first.clone()).or_default().include(rest),
        }
    }
}

/// Fails if this user may not look into a directory or read a file.
fn check_readable(path: &Path) -> io::Result<()> {
    let file_type = path.symlink_metadata()?.file_type();
    let access = if file_type.is_dir() {
        Access::READ_OK | Access::EXEC_OK
    } else if file_type.is_file() {
        Access::READ_OK
    } else {
        return Ok(());
    };
    match accessat(CWD, path, access, AtFlags::EACCESS) {
        Err(error @ (Errno::ACCESS | Errno::PERM)) => Err(error.into()),
        // Whatever else there is will be seen when it is read.
        _ => Ok(()),
    }
}

/// Replaces paths by the directories above them until all together have at most `max_bytes`. They are sorted.
fn shorten(mut paths: Vec<PathBuf>, max_bytes: usize) -> Vec<PathBuf> {
    while paths.len() > 1 && paths.iter().map(|path| path.as_os_str().len()).sum::<usize>() > max_bytes {
        for path in &mut paths {
            path.pop();
        }
        paths.sort();
        paths.dedup();
    }
    paths
}

fn resolve(path: &Path) -> io::Result<PathBuf> {
    let bytes = path.as_os_str().as_bytes();
    let names_target = bytes.ends_with(b"/") || bytes.ends_with(b"/.") || path.file_name().is_none();
    if names_target {
        return path.canonicalize();
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let resolved = parent.canonicalize()?.join(path.file_name().unwrap_or(OsStr::new("")));
    resolved.symlink_metadata()?;
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_below_a_given_one_is_given_too() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(base.join("a/b/c")).unwrap();
        let selection = Selection::new(&[base.join("a/b/c"), base.join("a")], &[]).unwrap();
        let mut extents = Vec::new();
        let mut branch = selection.root();
        for component in base.join("a/b/c").components().skip(1) {
            assert_eq!(branch.children().len(), 1);
            branch = &branch.children()[&Name::new(component.as_os_str().as_bytes()).unwrap()];
            extents.push(branch.extent());
        }
        assert_eq!(extents.split_off(extents.len() - 3), [Extent::Whole, Extent::Towards, Extent::Whole]);
        assert!(extents.iter().all(|extent| *extent == Extent::Towards));
    }

    #[test]
    fn one_path_of_several_may_be_missing() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        let absent = base.join("absent");
        let selection = Selection::new(&[absent.clone(), base.clone()], &[]).unwrap();
        assert_eq!(selection.paths(), [base.as_os_str().as_bytes()]);
        assert_eq!(selection.unreachable().len(), 1);
        assert!(selection.unreachable()[0].contains("absent"), "{:?}", selection.unreachable());
        assert!(matches!(Selection::new(&[absent.clone(), absent], &[]), Err(IngestError::Path { .. })));
    }

    #[test]
    fn a_long_list_of_paths_is_told_by_the_directories_above() {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        let long = paths(&["/srv/a/1", "/srv/a/2", "/srv/b/1"]);
        assert_eq!(shorten(long.clone(), 24), long);
        assert_eq!(shorten(long.clone(), 23), paths(&["/srv/a", "/srv/b"]));
        assert_eq!(shorten(long, 5), paths(&["/srv"]));
    }

    #[test]
    fn a_given_link_is_taken_as_a_link_unless_a_slash_follows() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        std::fs::create_dir(base.join("real")).unwrap();
        std::os::unix::fs::symlink("real", base.join("link")).unwrap();
        assert_eq!(resolve(&base.join("link")).unwrap(), base.join("link"));
        assert_eq!(resolve(&base.join("link/")).unwrap(), base.join("real"));
        assert_eq!(resolve(&base.join("link/.")).unwrap(), base.join("real"));
        assert_eq!(resolve(&base.join("real/../link")).unwrap(), base.join("link"));
        assert_eq!(resolve(&base.join("real/..")).unwrap(), base);
        assert_eq!(resolve(&base.join("link/../link")).unwrap(), base.join("link"));
        assert!(resolve(&base.join("absent")).is_err());
    }
}
