//! Which paths are backed up: those that were given, with every directory above them.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::IngestError;
use crate::path::{Name, escape};

/// The part of the file system that is backed up, as a tree from `/` down.
pub(super) struct Selection {
    root: Branch,
    paths: Vec<PathBuf>,
    left_out: HashSet<(u64, u64)>,
}

/// One directory of a selection, or something that was given whole.
#[derive(Default)]
pub(super) enum Branch {
    /// Everything from here down.
    #[default]
    Whole,
    /// Only what leads to given paths.
    Towards(BTreeMap<Name, Branch>),
}

impl Selection {
    /// Resolves the given paths. Symbolic links on the way are followed; a given path that is one itself is backed
    /// up as a link, unless a `/` stands behind it.
    ///
    /// # Errors
    /// Fails if a given path does not exist, cannot be reached, or lies in a folder that is left out.
    pub(super) fn new(given: &[PathBuf], left_out: &[PathBuf]) -> Result<Self, IngestError> {
        // One that does not exist (yet) cannot be met on the way.
        let left_out: HashSet<(u64, u64)> = left_out
            .iter()
            .filter_map(|path| path.metadata().ok())
            .map(|found| (found.dev(), found.ino()))
            .collect();
        let mut root = Branch::Towards(BTreeMap::new());
        let mut paths = Vec::new();
        for path in given {
            let resolved = resolve(path)
                .map_err(|source| IngestError::Path { path: escape(path.as_os_str().as_bytes()), source })?;
            let inside = resolved
                .ancestors()
                .filter_map(|above| above.symlink_metadata().ok())
                .any(|above| left_out.contains(&(above.dev(), above.ino())));
            if inside {
                let why = "it belongs to the store or to yester itself, which are never backed up";
                return Err(IngestError::Path {
                    path: escape(resolved.as_os_str().as_bytes()),
                    source: io::Error::new(io::ErrorKind::InvalidInput, why),
                });
            }
            let mut names = Vec::new();
            for component in resolved.components().skip(1) {
                let name =
                    Name::new(component.as_os_str().as_bytes()).map_err(|error| IngestError::Path {
                        path: escape(resolved.as_os_str().as_bytes()),
                        source: io::Error::new(io::ErrorKind::InvalidInput, error),
                    })?;
                names.push(name);
            }
            root.include(&names);
            paths.push(resolved);
        }
        paths.sort();
        paths.dedup();
        Ok(Self { root, paths, left_out })
    }

    /// Returns the selection below `/`.
    pub(super) fn root(&self) -> &Branch {
        &self.root
    }

    /// Returns the resolved paths as raw bytes, sorted.
    pub(super) fn paths(&self) -> Vec<Vec<u8>> {
        self.paths.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect()
    }

    /// Tells whether a directory is left out, by device and inode.
    pub(super) fn leaves_out(&self, device: u64, inode: u64) -> bool {
        self.left_out.contains(&(device, inode))
    }
}

impl Branch {
    fn include(&mut self, names: &[Name]) {
        let Some((first, rest)) = names.split_first() else {
            *self = Self::Whole;
            return;
        };
        if let Self::Towards(children) = self {
            children.entry(first.clone()).or_insert_with(|| Self::Towards(BTreeMap::new())).include(rest);
        }
    }
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
    fn a_whole_directory_swallows_what_is_below_it() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(base.join("a/b")).unwrap();
        let selection = Selection::new(&[base.join("a/b"), base.join("a")], &[]).unwrap();
        let mut branch = selection.root();
        for component in base.join("a").components().skip(1) {
            let Branch::Towards(children) = branch else { panic!("whole too early") };
            assert_eq!(children.len(), 1);
            branch = &children[&Name::new(component.as_os_str().as_bytes()).unwrap()];
        }
        assert!(matches!(branch, Branch::Whole));
    }

    #[test]
    fn a_given_link_is_taken_as_a_link_unless_a_slash_follows() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        std::fs::create_dir(base.join("real")).unwrap();
        std::os::unix::fs::symlink("real", base.join("link")).unwrap();
        assert_eq!(resolve(&base.join("link")).unwrap(), base.join("link"));
        assert_eq!(resolve(&base.join("link/")).unwrap(), base.join("real"));
        assert_eq!(resolve(&base.join("link/../link")).unwrap(), base.join("link"));
        assert!(resolve(&base.join("absent")).is_err());
    }
}
