//! The target of a restore: directories held by their descriptors, so that nothing is made outside of it.
//!
//! Every operation takes one component below an open directory and follows no symbolic link, whatever lies in
//! the target already and whatever the store says. What is new gets a temporary name first and its own name
//! last, so that a name never stands for half a file. What an entry contains is the caller's business.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use data_encoding::HEXLOWER;
use rustix::fs::{AtFlags, Dev, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::path::{Name, TreePath};

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const CONFINED: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// What happens to something that already bears the name of a new entry. A directory is never removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    /// It stays, and the new entry is not made.
    Keep,
    /// The new entry takes its place.
    Replace,
}

/// Whether a directory was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was made now, with mode 0700.
    Made,
    /// It was there.
    Found,
}

/// How an entry came to its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placed {
    /// It has it.
    Done,
    /// Something else has it and was to be kept.
    NameTaken,
}

/// An open directory: the target, or one below it.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
}

/// A descriptor of something new in the target, for setting its attributes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Handle<'a> {
    /// A regular file or a directory, open.
    Open(BorrowedFd<'a>),
    /// Anything else: a descriptor of the inode itself that can neither read nor write.
    Inode(BorrowedFd<'a>),
}

/// A new entry under a temporary name; removed again unless it is placed.
#[derive(Debug)]
pub(super) struct Staged<'a> {
    directory: &'a Directory,
    temporary: String,
    fd: OwnedFd,
    regular: bool,
    placed: bool,
}

/// A node that has no content.
#[derive(Debug, Clone, Copy)]
pub(super) enum Node<'a> {
    /// A symbolic link to these bytes.
    Symlink(&'a [u8]),
    /// A fifo or a socket.
    Special(FileType),
    /// A device, with its number.
    Device(FileType, Dev),
}

impl Directory {
    /// Opens the target, making it and what is missing above it. Links on the way to it are the operator's own.
    pub(super) fn create_target(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        let flags = DIRECTORY.difference(OFlags::NOFOLLOW);
        Ok(Self { fd: rustix::fs::open(path, flags, Mode::empty())? })
    }

    /// Opens the directory `name`. Anything else of that name, a symbolic link above all, is an error.
    pub(super) fn open_child(&self, name: &Name) -> io::Result<Self> {
        let opened = match rustix::fs::openat2(&self.fd, name.as_bytes(), DIRECTORY, Mode::empty(), CONFINED)
        {
            // Some sandboxes refuse openat2. For one component without a slash, O_NOFOLLOW says the same.
            Err(Errno::NOSYS | Errno::PERM) => {
                rustix::fs::openat(&self.fd, name.as_bytes(), DIRECTORY, Mode::empty())
            }
            other => other,
        };
        Ok(Self { fd: opened? })
    }

    /// Opens the directory at `path` below this one, component by component.
    pub(super) fn open_path(&self, path: &TreePath) -> io::Result<Self> {
        let mut directory = Self { fd: self.fd.try_clone()? };
        for name in path.components() {
            directory = directory.open_child(name)?;
        }
        Ok(directory)
    }

    /// Opens the directory `name` and makes it where it is missing; `existing` says what becomes of something
    /// else that has this name.
    pub(super) fn create_child(&self, name: &Name, existing: Existing) -> io::Result<(Self, Origin)> {
        match rustix::fs::mkdirat(&self.fd, name.as_bytes(), Mode::RWXU) {
            Ok(()) => return Ok((self.open_child(name)?, Origin::Made)),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let is_directory = self.stat(name)?.is_some_and(|stat| is_directory(&stat));
        if is_directory || existing == Existing::Keep {
            return Ok((self.open_child(name)?, Origin::Found));
        }
        rustix::fs::unlinkat(&self.fd, name.as_bytes(), AtFlags::empty())?;
        rustix::fs::mkdirat(&self.fd, name.as_bytes(), Mode::RWXU)?;
        Ok((self.open_child(name)?, Origin::Made))
    }

    /// Returns the metadata of what bears `name`, links not followed; nothing if nothing does.
    pub(super) fn stat(&self, name: &Name) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.fd, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the target of the symbolic link `name`.
    pub(super) fn read_link(&self, name: &Name) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(&self.fd, name.as_bytes(), Vec::new())?.into_bytes())
    }

    /// Makes an empty regular file that only its owner can read.
    pub(super) fn stage_file(&self) -> io::Result<Staged<'_>> {
        let temporary = temporary_name()?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, &temporary, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(Staged { directory: self, temporary, fd, regular: true, placed: false })
    }

    /// Makes a node without content that only its owner can use.
    pub(super) fn stage_node(&self, node: Node<'_>) -> io::Result<Staged<'_>> {
        let temporary = temporary_name()?;
        let mode = Mode::RUSR | Mode::WUSR;
        match node {
            Node::Symlink(target) => rustix::fs::symlinkat(target, &self.fd, &temporary)?,
            Node::Special(kind) => rustix::fs::mknodat(&self.fd, &temporary, kind, mode, 0)?,
            Node::Device(kind, device) => rustix::fs::mknodat(&self.fd, &temporary, kind, mode, device)?,
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.fd, &temporary, flags, Mode::empty()) {
            Ok(fd) => Ok(Staged { directory: self, temporary, fd, regular: false, placed: false }),
            Err(error) => {
                let _ = rustix::fs::unlinkat(&self.fd, &temporary, AtFlags::empty());
                Err(error.into())
            }
        }
    }

    /// Gives the file `source` of the directory `from` the further name `name` here.
    pub(super) fn link(
        &self,
        from: &Self,
        source: &Name,
        name: &Name,
        existing: Existing,
    ) -> io::Result<Placed> {
        let link =
            |to: &[u8]| rustix::fs::linkat(&from.fd, source.as_bytes(), &self.fd, to, AtFlags::empty());
        match link(name.as_bytes()) {
            Ok(()) => return Ok(Placed::Done),
            Err(Errno::EXIST) if existing == Existing::Keep => return Ok(Placed::NameTaken),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let temporary = temporary_name()?;
        link(temporary.as_bytes())?;
        let renamed = rustix::fs::renameat(&self.fd, &temporary, &self.fd, name.as_bytes());
        // A rename between two names of one file does nothing and leaves both.
        let _ = rustix::fs::unlinkat(&self.fd, &temporary, AtFlags::empty());
        renamed?;
        Ok(Placed::Done)
    }

    /// Returns the handle for setting the attributes of the directory.
    pub(super) fn handle(&self) -> Handle<'_> {
        Handle::Open(self.fd.as_fd())
    }
}

impl Staged<'_> {
    /// Returns the descriptor of the content; only a regular file has one that can be written.
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Returns the handle for setting the attributes.
    pub(super) fn handle(&self) -> Handle<'_> {
        if self.regular { Handle::Open(self.fd.as_fd()) } else { Handle::Inode(self.fd.as_fd()) }
    }

    /// Gives the entry its name, atomically.
    pub(super) fn place(mut self, name: &Name, existing: Existing) -> io::Result<Placed> {
        let (directory, temporary) = (&self.directory.fd, &self.temporary);
        let placed = match existing {
            Existing::Replace => rustix::fs::renameat(directory, temporary, directory, name.as_bytes()),
            Existing::Keep => {
                let flags = RenameFlags::NOREPLACE;
                rustix::fs::renameat_with(directory, temporary, directory, name.as_bytes(), flags)
            }
        };
        match placed {
            Ok(()) => self.placed = true,
            Err(Errno::EXIST) if existing == Existing::Keep => return Ok(Placed::NameTaken),
            // The file system has no RENAME_NOREPLACE; a link does not replace either.
            Err(Errno::INVAL | Errno::NOSYS) if existing == Existing::Keep => {
                return self.place_by_link(name);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(Placed::Done)
    }

    fn place_by_link(self, name: &Name) -> io::Result<Placed> {
        let directory = &self.directory.fd;
        match rustix::fs::linkat(directory, &self.temporary, directory, name.as_bytes(), AtFlags::empty()) {
            Ok(()) => Ok(Placed::Done),
            Err(Errno::EXIST) => Ok(Placed::NameTaken),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if !self.placed {
            let _ = rustix::fs::unlinkat(&self.directory.fd, &self.temporary, AtFlags::empty());
        }
    }
}

/// Tells whether a stat is that of a directory.
pub(super) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn temporary_name() -> io::Result<String> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(format!(".yester-{}.partial", HEXLOWER.encode(&random)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).unwrap()
    }

    fn target() -> (tempfile::TempDir, Directory) {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::create_target(&folder.path().join("new/target")).unwrap();
        (folder, directory)
    }

    #[test]
    fn a_symlink_in_place_of_a_directory_is_never_followed() {
        let (folder, target) = target();
        let outside = folder.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let planted = folder.path().join("new/target/etc");
        symlink(&outside, &planted).unwrap();

        assert!(target.open_child(&name("etc")).is_err());
        assert!(target.create_child(&name("etc"), Existing::Keep).is_err());
        assert!(target.open_path(&TreePath::parse(b"etc/ssh").unwrap()).is_err());
        assert!(fs::symlink_metadata(&planted).unwrap().is_symlink());

        let (etc, origin) = target.create_child(&name("etc"), Existing::Replace).unwrap();
        assert_eq!(origin, Origin::Made);
        etc.stage_file().unwrap().place(&name("passwd"), Existing::Keep).unwrap();
        assert!(folder.path().join("new/target/etc/passwd").exists());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn a_symlink_in_place_of_a_file_is_replaced_not_written_through() {
        let (folder, target) = target();
        let outside = folder.path().join("outside");
        fs::write(&outside, b"mine").unwrap();
        let planted = folder.path().join("new/target/file");
        symlink(&outside, &planted).unwrap();

        let kept = target.stage_file().unwrap().place(&name("file"), Existing::Keep).unwrap();
        assert_eq!(kept, Placed::NameTaken);
        assert!(fs::symlink_metadata(&planted).unwrap().is_symlink());

        let staged = target.stage_file().unwrap();
        rustix::io::write(staged.file(), b"theirs").unwrap();
        assert_eq!(staged.place(&name("file"), Existing::Replace).unwrap(), Placed::Done);
        assert_eq!(fs::read(&outside).unwrap(), b"mine");
        assert_eq!(fs::read(&planted).unwrap(), b"theirs");
    }

    #[test]
    fn a_directory_is_never_replaced_by_a_file() {
        let (folder, target) = target();
        target.create_child(&name("d"), Existing::Keep).unwrap();
        assert!(target.stage_file().unwrap().place(&name("d"), Existing::Replace).is_err());
        assert!(folder.path().join("new/target/d").is_dir());
    }

    #[test]
    fn what_is_not_placed_leaves_nothing_behind() {
        let (folder, target) = target();
        drop(target.stage_file().unwrap());
        drop(target.stage_node(Node::Symlink(b"nowhere")).unwrap());
        drop(target.stage_node(Node::Special(FileType::Fifo)).unwrap());
        assert_eq!(fs::read_dir(folder.path().join("new/target")).unwrap().count(), 0);
    }

    #[test]
    fn links_join_directories_and_spare_what_is_to_be_kept() {
        let (folder, target) = target();
        let (a, _) = target.create_child(&name("a"), Existing::Keep).unwrap();
        let (b, _) = target.create_child(&name("b"), Existing::Keep).unwrap();
        a.stage_file().unwrap().place(&name("one"), Existing::Keep).unwrap();
        assert_eq!(b.link(&a, &name("one"), &name("two"), Existing::Keep).unwrap(), Placed::Done);
        assert_eq!(b.link(&a, &name("one"), &name("two"), Existing::Keep).unwrap(), Placed::NameTaken);
        assert_eq!(b.link(&a, &name("one"), &name("two"), Existing::Replace).unwrap(), Placed::Done);
        assert_eq!(b.stat(&name("two")).unwrap().unwrap().st_nlink, 2);
        assert_eq!(fs::read_dir(folder.path().join("new/target/b")).unwrap().count(), 1);
    }
}
