//! What is left out below given paths: by patterns, by marker files, by size, and at mount points.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags};

use super::metadata::FileStat;
use crate::ops::patterns::{ExcludePatterns, PathKind};
use crate::path::Name;

/// The file that marks a directory as a cache, and how it begins: <https://bford.info/cachedir/>.
const CACHE_TAG: &[u8] = b"CACHEDIR.TAG";
const CACHE_SIGNATURE: &[u8; 43] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// The type of our own mounts.
const OWN_FILE_SYSTEM: &str = "fuse.yester";

/// The type of what an automounter waits at.
const AUTOMOUNTER: &str = "autofs";

/// Types of file systems that hold no files of their own: the kernel makes them up, or they show what lies
/// elsewhere. An automounter is among them, so that nothing is mounted for the sake of a backup; of what it mounted
/// already the walk takes notice.
const SYSTEM_FILE_SYSTEMS: [&str; 28] = [
    AUTOMOUNTER,
    "binder",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fuse.gvfsd-fuse",
    "fuse.lxcfs",
    "fuse.portal",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nfsd",
    "nsfs",
    "proc",
    "pstore",
    "resctrl",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "smackfs",
    "sysfs",
    "tracefs",
];

/// What is left out below the given paths. What is given itself is always taken.
#[derive(Debug, Clone)]
pub struct ExcludeOptions {
    /// Patterns on paths from `/` down.
    pub patterns: ExcludePatterns,
    /// A directory that holds one of these keeps it, and nothing else.
    pub markers: Vec<Marker>,
    /// Regular files of more bytes.
    pub larger_than_bytes: Option<u64>,
    /// What becomes of mount points.
    pub other_file_systems: OtherFileSystems,
}

impl Default for ExcludeOptions {
    /// Leaves out nothing that was not asked for.
    fn default() -> Self {
        Self {
            patterns: ExcludePatterns::none(),
            markers: Vec::new(),
            larger_than_bytes: None,
            other_file_systems: OtherFileSystems::Entered,
        }
    }
}

/// What marks a directory whose content is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Marker {
    /// A file `CACHEDIR.TAG` that begins as the specification says.
    CacheTag,
    /// Anything of this name.
    Named(Name),
}

/// What becomes of other file systems that are mounted below a given path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherFileSystems {
    /// Their files are taken, too.
    Entered,
    /// Their mount points are taken as empty directories.
    LeftOut,
}

/// A file system that is mounted somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPoint {
    /// The absolute path, as raw bytes.
    pub path: Vec<u8>,
    /// The type, as `/proc/self/mountinfo` has it: `ext4`, `fuse.sshfs`.
    pub file_system: String,
}

/// Asks the system what is mounted; where several lie over each other, the topmost comes last.
pub type ListMounts = fn() -> io::Result<Vec<MountPoint>>;

/// How much was left out. A directory counts once, whatever lies below it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExcludedStats {
    /// Files and directories that a pattern matched.
    pub patterns: u64,
    /// Directories whose content was left out because of a marker.
    pub marked: u64,
    /// Files that were too large.
    pub larger: u64,
    /// Mount points of other file systems.
    pub file_systems: u64,
    /// Mount points of file systems that the system makes up.
    pub system: u64,
    /// The store, folders of the program itself, and its mounts.
    pub own: u64,
}

impl ExcludedStats {
    /// Counts one.
    pub(super) fn add(&mut self, exclusion: &Exclusion) {
        let count = match exclusion {
            Exclusion::Pattern => &mut self.patterns,
            Exclusion::Marked(_) => &mut self.marked,
            Exclusion::Larger => &mut self.larger,
            Exclusion::OtherFileSystem => &mut self.file_systems,
            Exclusion::System(_) => &mut self.system,
            Exclusion::Own => &mut self.own,
        };
        *count += 1;
    }
}

/// Why something is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Exclusion {
    Pattern,
    /// Its content, because of this file in it.
    Marked(Name),
    Larger,
    OtherFileSystem,
    /// A file system of this type.
    System(String),
    Own,
}

impl Exclusion {
    /// Returns the reason in words.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Pattern => "it matches a pattern".to_owned(),
            Self::Marked(name) => format!("its content, because of {name} in it"),
            Self::Larger => "it is too large".to_owned(),
            Self::OtherFileSystem => "another file system is mounted there".to_owned(),
            Self::System(file_system) => format!("{file_system} is mounted there"),
            Self::Own => "it belongs to yester itself".to_owned(),
        }
    }
}

/// Decides what is left out.
pub(super) struct Rules<'a> {
    options: &'a ExcludeOptions,
    list_mounts: ListMounts,
    /// Types by mount point; nothing before they were first needed.
    mounts: Option<HashMap<Vec<u8>, String>>,
}

impl<'a> Rules<'a> {
    pub(super) fn new(options: &'a ExcludeOptions, list_mounts: ListMounts) -> Self {
        Self { options, list_mounts, mounts: None }
    }

    /// Tells whether a pattern matches.
    pub(super) fn match_path(&self, path: &[u8], kind: PathKind) -> bool {
        self.options.patterns.exclude_bytes(path, kind)
    }

    /// Tells whether a file is too large.
    pub(super) fn is_too_large(&self, file_type: FileType, bytes: u64) -> bool {
        file_type == FileType::RegularFile
            && self.options.larger_than_bytes.is_some_and(|limit| bytes > limit)
    }

    /// Tells why a directory is kept empty if it is a mount point. `device` is that of the directory above.
    ///
    /// Files that something is mounted on are taken: containers have `/etc/hosts` so.
    pub(super) fn at_directory(
        &mut self,
        path: &[u8],
        stat: &FileStat,
        device: u64,
    ) -> io::Result<Option<Exclusion>> {
        let differs = stat.device != device;
        // A subvolume has a device of its own and is no mount point.
        if stat.mount_root.unwrap_or(differs)
            && let Some(exclusion) = self.at_mount(path)?
        {
            return Ok(Some(exclusion));
        }
        let crosses = differs || stat.mount_root == Some(true);
        Ok((crosses && self.stays()).then_some(Exclusion::OtherFileSystem))
    }

    /// Tells why what does not even answer a look is left out if it is a mount point.
    pub(super) fn at_unreachable(&mut self, path: &[u8]) -> io::Result<Option<Exclusion>> {
        // A directory that may be listed and not be searched has nothing but such names: no asking for each.
        let mounts = self.loaded_mounts()?;
        let Some(file_system) = mounts.get(path) else { return Ok(None) };
        let exclusion = judge(file_system);
        Ok(exclusion.or_else(|| self.stays().then_some(Exclusion::OtherFileSystem)))
    }

    /// Returns the names, in order, on the way to what an automounter has mounted below `path`, if `exclusion` is
    /// that it waits there.
    pub(super) fn mounted_below(&mut self, path: &[u8], exclusion: &Exclusion) -> io::Result<Vec<Name>> {
        if !matches!(exclusion, Exclusion::System(file_system) if file_system == AUTOMOUNTER) {
            return Ok(Vec::new());
        }
        // It mounts and unmounts all the time.
        self.mounts = None;
        let below = |mount: &Vec<u8>| {
            let rest = mount.strip_prefix(path)?.strip_prefix(b"/")?;
            Name::new(rest.split(|byte| *byte == b'/').next()?).ok()
        };
        let mut names: Vec<Name> = self.loaded_mounts()?.keys().filter_map(below).collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Returns the names of the markers in a directory, given all its names in order.
    pub(super) fn find_markers(&self, directory: &OwnedFd, names: &[Name]) -> Vec<Name> {
        let mut found = Vec::new();
        for marker in &self.options.markers {
            let wanted = match marker {
                Marker::CacheTag => CACHE_TAG,
                Marker::Named(name) => name.as_bytes(),
            };
            let Ok(place) = names.binary_search_by(|name| name.as_bytes().cmp(wanted)) else { continue };
            if *marker != Marker::CacheTag || is_cache_tag(directory) {
                found.extend(names.get(place).cloned());
            }
        }
        found
    }

    /// Tells whether a directory that holds something of this name may be marked by it.
    pub(super) fn may_be_marker(&self, name: &Name) -> bool {
        self.options.markers.iter().any(|marker| match marker {
            Marker::CacheTag => name.as_bytes() == CACHE_TAG,
            Marker::Named(wanted) => name == wanted,
        })
    }

    /// Tells whether directories need not be asked for markers.
    pub(super) fn have_no_markers(&self) -> bool {
        self.options.markers.is_empty()
    }

    fn stays(&self) -> bool {
        self.options.other_file_systems == OtherFileSystems::LeftOut
    }

    /// Judges what is mounted at `path`. Asks the system anew about a mount point that it does not know: a backup
    /// takes hours, and somebody may mount something meanwhile.
    fn at_mount(&mut self, path: &[u8]) -> io::Result<Option<Exclusion>> {
        if !self.loaded_mounts()?.contains_key(path) {
            self.mounts = None;
        }
        Ok(self.loaded_mounts()?.get(path).and_then(|file_system| judge(file_system)))
    }

    fn loaded_mounts(&mut self) -> io::Result<&HashMap<Vec<u8>, String>> {
        let mounts = match self.mounts.take() {
            Some(mounts) => mounts,
            None => (self.list_mounts)()?.into_iter().map(|mount| (mount.path, mount.file_system)).collect(),
        };
        Ok(self.mounts.insert(mounts))
    }
}

/// Tells why a file system of this type is never entered.
fn judge(file_system: &str) -> Option<Exclusion> {
    if file_system == OWN_FILE_SYSTEM {
        Some(Exclusion::Own)
    } else if SYSTEM_FILE_SYSTEMS.contains(&file_system) {
        Some(Exclusion::System(file_system.to_owned()))
    } else {
        None
    }
}

/// Tells whether the cache tag of a directory begins as it should. One that cannot be read marks nothing.
fn is_cache_tag(directory: &OwnedFd) -> bool {
    // A FIFO of that name must not keep the backup waiting.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let Ok(file) = rustix::fs::openat(directory, CACHE_TAG, flags, Mode::empty()) else { return false };
    let mut beginning = [0; CACHE_SIGNATURE.len()];
    File::from(file).read_exact(&mut beginning).is_ok() && beginning == *CACHE_SIGNATURE
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn list() -> io::Result<Vec<MountPoint>> {
        let mount = |path: &str, file_system: &str| MountPoint {
            path: path.as_bytes().to_vec(),
            file_system: file_system.to_owned(),
        };
        Ok(vec![
            mount("/proc", "proc"),
            mount("/mnt", "ext4"),
            mount("/mnt", "fuse.yester"),
            mount("/srv", "autofs"),
            mount("/srv", "nfs4"),
            mount("/net", "autofs"),
            mount("/net/bob", "nfs4"),
            mount("/net/alice/music", "nfs4"),
            mount("/net/alice", "nfs4"),
            mount("/nets/carol", "nfs4"),
        ])
    }

    fn mount_root(device: u64) -> FileStat {
        let folder = tempfile::tempdir().unwrap();
        let open = std::fs::File::open(folder.path()).unwrap();
        FileStat { device, mount_root: Some(true), ..FileStat::of(open.as_fd()).unwrap() }
    }

    #[test]
    fn mount_points_are_judged_by_what_lies_on_top() {
        let options = ExcludeOptions::default();
        let mut rules = Rules::new(&options, list);
        let mut at = |path: &str| rules.at_directory(path.as_bytes(), &mount_root(2), 1).unwrap();
        assert_eq!(at("/proc"), Some(Exclusion::System("proc".to_owned())));
        assert_eq!(at("/mnt"), Some(Exclusion::Own));
        assert_eq!(at("/srv"), None);
        assert_eq!(at("/elsewhere"), None);
        let plain = FileStat { mount_root: Some(false), ..mount_root(1) };
        assert_eq!(rules.at_directory(b"/proc", &plain, 1).unwrap(), None, "a directory hidden by nothing");
    }

    #[test]
    fn what_an_automounter_has_mounted_is_found() {
        let options = ExcludeOptions::default();
        let mut rules = Rules::new(&options, list);
        let waits = rules.at_directory(b"/net", &mount_root(2), 1).unwrap().unwrap();
        let names = rules.mounted_below(b"/net", &waits).unwrap();
        assert_eq!(names, [Name::new(b"alice").unwrap(), Name::new(b"bob").unwrap()]);
        assert_eq!(rules.mounted_below(b"/net", &Exclusion::Pattern).unwrap(), []);
    }

    #[test]
    fn one_file_system_ends_at_devices_and_at_mount_points() {
        let options =
            ExcludeOptions { other_file_systems: OtherFileSystems::LeftOut, ..ExcludeOptions::default() };
        let mut rules = Rules::new(&options, list);
        let bound = mount_root(1);
        let subvolume = FileStat { mount_root: Some(false), ..mount_root(2) };
        let plain = FileStat { device: 1, ..subvolume };
        for (stat, expected) in [
            (bound, Some(Exclusion::OtherFileSystem)),
            (subvolume, Some(Exclusion::OtherFileSystem)),
            (plain, None),
        ] {
            assert_eq!(rules.at_directory(b"/home", &stat, 1).unwrap(), expected);
        }
        assert_eq!(rules.at_unreachable(b"/srv").unwrap(), Some(Exclusion::OtherFileSystem));
        assert_eq!(rules.at_unreachable(b"/home").unwrap(), None);
    }

    #[test]
    fn a_cache_tag_needs_its_signature() {
        let folder = tempfile::tempdir().unwrap();
        let tag = folder.path().join("CACHEDIR.TAG");
        let directory = OwnedFd::from(std::fs::File::open(folder.path()).unwrap());
        for (content, expected) in [
            (&b"Signature: 8a477f597d28d172789f06886806bc55\n# made by a test\n"[..], true),
            (CACHE_SIGNATURE, true),
            (b"Signature: 8a477f597d28d172789f06886806bc5", false),
            (b"signature: 8a477f597d28d172789f06886806bc55", false),
            (b"", false),
        ] {
            std::fs::write(&tag, content).unwrap();
            assert_eq!(is_cache_tag(&directory), expected, "{content:?}");
        }
        std::fs::remove_file(&tag).unwrap();
        assert!(!is_cache_tag(&directory));
    }
}
