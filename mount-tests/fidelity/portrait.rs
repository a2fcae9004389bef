//! What a tree looks like to system calls: read by descriptors, so that no path is too long, and compared.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

/// What a copy may take more than the original, in units of 512 bytes: tables of extents, a block of attributes.
const BLOCKS_SLACK: u64 = 16;

/// One name of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    kind: FileType,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, u64),
    device: u64,
    target: Option<Vec<u8>>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Of a file.
    content: Option<FileContent>,
    blocks: u64,
    links: u64,
    inode: u64,
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileContent {
    bytes: u64,
    /// Where it has data: begins and ends.
    data: Vec<(u64, u64)>,
    /// Of the data.
    hash: blake3::Hash,
}

/// All names of a tree.
pub(crate) struct Portrait(BTreeMap<Vec<u8>, Node>);

/// What a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copy {
    /// The backup itself, which tells how many names a file had.
    Mounted,
    /// Files that were made anew: names outside of the tree are not among them.
    Restored,
    /// Files that were made from a tar stream, which holds no sockets.
    Unpacked,
}

impl Portrait {
    /// Looks at everything below `root`, and at `root` itself, which is called `.`.
    pub(crate) fn of(root: &Path) -> Self {
        let mut nodes = BTreeMap::new();
        let directory: OwnedFd = File::open(root).unwrap().into();
        nodes.insert(b".".to_vec(), look(directory.as_fd(), b"."));
        walk(&directory, b".", &mut nodes);
        Self(nodes)
    }

    /// Returns the number of names.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the number of 512-byte units that the data of all files takes at least.
    pub(crate) fn data_blocks(&self) -> u64 {
        let data = |node: &Node| node.content.as_ref().map_or(0, |content| bytes_of(&content.data));
        self.distinct().map(|node| data(node).div_ceil(512)).sum()
    }

    /// Returns the sum of the sizes of all files, each counted once.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.distinct().filter_map(|node| node.content.as_ref()).map(|content| content.bytes).sum()
    }

    /// Returns every node once, whatever names it has.
    fn distinct(&self) -> impl Iterator<Item = &Node> {
        let mut seen = std::collections::BTreeSet::new();
        self.0.values().filter(move |node| seen.insert(node.inode))
    }

    /// Expects a copy to be the same.
    #[track_caller]
    pub(crate) fn assert_same(&self, copy: &Self, what: Copy) {
        let differences = self.differences(copy, what);
        let shown: Vec<_> = differences.iter().take(30).map(String::as_str).collect();
        assert!(shown.is_empty(), "{} differences, {what:?}:\n{}", differences.len(), shown.join("\n"));
    }

    fn differences(&self, copy: &Self, what: Copy) -> Vec<String> {
        let mut differences = Vec::new();
        for (path, original) in &self.0 {
            let name = path.escape_ascii();
            match copy.0.get(path) {
                Some(found) => {
                    compare(original, found, &mut |why| differences.push(format!("{name}: {why}")))
                }
                None if what == Copy::Unpacked && original.kind == FileType::Socket => {}
                None => differences.push(format!("{name}: missing")),
            }
        }
        for path in copy.0.keys().filter(|path| !self.0.contains_key(*path)) {
            differences.push(format!("{}: not in the original", path.escape_ascii()));
        }
        let (groups, found) = (self.link_groups(), copy.link_groups());
        for (first, names) in &groups {
            if found.get(first) != Some(names) && copy.0.contains_key(*first) {
                differences.push(format!("{}: its other names differ", first.escape_ascii()));
            }
        }
        for (path, original) in self.0.iter().filter(|(_, node)| node.kind != FileType::Directory) {
            let inside = groups.values().find(|names| names.contains(&path.as_slice())).map_or(1, Vec::len);
            let expected = if what == Copy::Mounted { original.links } else { inside as u64 };
            if let Some(found) = copy.0.get(path).filter(|found| found.links != expected) {
                let name = path.escape_ascii();
                differences.push(format!("{name}: {} links instead of {expected}", found.links));
            }
        }
        differences
    }

    /// Returns all names of each node that has several, by the first of them.
    fn link_groups(&self) -> BTreeMap<&[u8], Vec<&[u8]>> {
        let mut by_inode: BTreeMap<u64, Vec<&[u8]>> = BTreeMap::new();
        for (path, node) in self.0.iter().filter(|(_, node)| node.kind != FileType::Directory) {
            by_inode.entry(node.inode).or_default().push(path);
        }
        let several = by_inode.into_values().filter(|names| names.len() > 1);
        several.filter_map(|names| Some((*names.first()?, names))).collect()
    }
}

fn compare(original: &Node, found: &Node, tell: &mut dyn FnMut(String)) {
    let mut same = |what: &str, original: &dyn std::fmt::Debug, found: &dyn std::fmt::Debug| {
        let (original, found) = (format!("{original:?}"), format!("{found:?}"));
        if original != found {
            tell(format!("{what} is {found:.300} instead of {original:.300}"));
        }
    };
    same("kind", &original.kind, &found.kind);
    same("mode", &format!("{:04o}", original.mode), &format!("{:04o}", found.mode));
    same("owner", &original.owner, &found.owner);
    same("mtime", &original.mtime, &found.mtime);
    same("device", &original.device, &found.device);
    same("target", &original.target, &found.target);
    same("content", &original.content, &found.content);
    let names =
        |node: &Node| node.xattrs.keys().map(|name| name.escape_ascii().to_string()).collect::<Vec<_>>();
    same("attributes", &names(original), &names(found));
    for (name, value) in &original.xattrs {
        same(&name.escape_ascii().to_string(), &Some(value), &found.xattrs.get(name));
    }
    if let Some(FileContent { data: islands, .. }) = &found.content {
        if found.blocks > original.blocks + BLOCKS_SLACK {
            tell(format!("takes {} blocks instead of {}", found.blocks, original.blocks));
        }
        if found.blocks * 512 < bytes_of(islands) {
            tell(format!("takes {} blocks, less than its data", found.blocks));
        }
    }
}

fn bytes_of(islands: &[(u64, u64)]) -> u64 {
    islands.iter().map(|(start, end)| end - start).sum()
}

fn walk(directory: &OwnedFd, path: &[u8], nodes: &mut BTreeMap<Vec<u8>, Node>) {
    for entry in Dir::read_from(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let node = look(directory.as_fd(), name);
        let below = [path, b"/", name].concat();
        if node.kind == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = rustix::fs::openat(directory, name, flags, Mode::empty()).unwrap();
            walk(&opened, &below, nodes);
        }
        nodes.insert(below, node);
    }
}

fn look(directory: BorrowedFd<'_>, name: &[u8]) -> Node {
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    let kind = FileType::from_raw_mode(stat.st_mode);
    let target = (kind == FileType::Symlink)
        .then(|| rustix::fs::readlinkat(directory, name, Vec::new()).unwrap().into_bytes());
    if let Some(target) = &target {
        assert_eq!(
            u64::try_from(stat.st_size).unwrap(),
            target.len() as u64,
            "size of {}",
            name.escape_ascii()
        );
    }
    let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
    Node {
        kind,
        mode: stat.st_mode & 0o7777,
        owner: (stat.st_uid, stat.st_gid),
        mtime: (stat.st_mtime, stat.st_mtime_nsec),
        device: if is_device { stat.st_rdev } else { 0 },
        target,
        xattrs: xattrs(directory, name),
        content: (kind == FileType::RegularFile).then(|| content(directory, name)),
        blocks: u64::try_from(stat.st_blocks).unwrap(),
        links: stat.st_nlink,
        inode: stat.st_ino,
    }
}

fn xattrs(directory: BorrowedFd<'_>, name: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let path = [format!("/proc/self/fd/{}/", directory.as_raw_fd()).as_bytes(), name].concat();
    let mut names = vec![0; rustix::fs::llistxattr_query(path.as_slice()).unwrap()];
    if names.is_empty() {
        return BTreeMap::new();
    }
    let length = rustix::fs::llistxattr(path.as_slice(), names.as_mut_slice()).unwrap();
    names.truncate(length);
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; rustix::fs::lgetxattr_query(path.as_slice(), name).unwrap()];
            if !value.is_empty() {
                let read = rustix::fs::lgetxattr(path.as_slice(), name, value.as_mut_slice()).unwrap();
                assert_eq!(read, value.len());
            }
            (name.to_vec(), value)
        })
        .collect()
}

fn content(directory: BorrowedFd<'_>, name: &[u8]) -> FileContent {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(directory, name, flags, Mode::empty()).unwrap());
    let bytes = file.metadata().unwrap().len();
    let data = islands(&file);
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    for (start, end) in &data {
        let mut at = *start;
        while at < *end {
            let wanted = usize::try_from((end - at).min(1 << 20)).unwrap();
            let piece = buffer.get_mut(..wanted).unwrap();
            file.read_exact_at(piece, at).unwrap();
            hasher.update(piece);
            at += wanted as u64;
        }
    }
    FileContent { bytes, data, hash: hasher.finalize() }
}

/// Returns where a file has data.
pub(crate) fn islands(file: &File) -> Vec<(u64, u64)> {
    let mut islands = Vec::new();
    let mut end = 0;
    loop {
        match rustix::fs::seek(file, SeekFrom::Data(end)) {
            Ok(start) => {
                end = rustix::fs::seek(file, SeekFrom::Hole(start)).unwrap();
                islands.push((start, end));
            }
            Err(Errno::NXIO) => return islands,
            Err(error) => panic!("cannot seek for data: {error}"),
        }
    }
}
