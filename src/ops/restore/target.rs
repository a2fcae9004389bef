//! The target of a restore: directories held by their descriptors, so that nothing is made outside of it.
//!
//! Every operation takes one component below an open directory and follows no symbolic link, whatever lies in
//! the target already and whatever the store says. What is new gets a temporary name first and its own name
//! last, so that a name never stands for half a file. What an entry contains is the caller's business.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use data_encoding::HEXLOWER;
use rustix::fs::{AtFlags, CWD, Dev, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::path::Name;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// What `statfs` calls FAT.
const FAT_MAGIC: rustix::fs::FsWord = 0x4d44;
const INODE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
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
    /// It was made now, with mode 0700, in the place of something else.
    Replaced,
    /// It was there.
    Found,
}

/// A directory below another one, ready to be filled.
#[derive(Debug)]
pub(super) struct Child {
    /// It.
    pub directory: Directory,
    /// Whether it was there before.
    pub origin: Origin,
    /// The mode it had, if its owner had to be let in first; for setting it again.
    pub closed_mode: Option<u16>,
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
        // Of something else that stands there, the system says that it exists, which is only half of it.
        std::fs::create_dir_all(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => io::ErrorKind::NotADirectory.into(),
            _ => error,
        })?;
        let flags = DIRECTORY.difference(OFlags::NOFOLLOW);
        Ok(Self { fd: rustix::fs::open(path, flags, Mode::empty())? })
    }

    /// Opens the target as it is; nothing if there is none.
    pub(super) fn open_target(path: &Path) -> io::Result<Option<Self>> {
        match rustix::fs::open(path, DIRECTORY.difference(OFlags::NOFOLLOW), Mode::empty()) {
            Ok(fd) => Ok(Some(Self { fd })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
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
    pub(super) fn open_path(&self, path: &[Name]) -> io::Result<Self> {
        let mut directory = Self { fd: self.fd.try_clone()? };
        for name in path {
            directory = directory.open_child(name)?;
        }
        Ok(directory)
    }

    /// Opens the directory `name` and makes it where it is missing; `existing` says what becomes of something
    /// else that has this name.
    ///
    /// A directory of `uid` that shuts out its own owner is opened up; rights do not stand in root's way.
    pub(super) fn create_child(&self, name: &Name, existing: Existing, uid: u32) -> io::Result<Child> {
        let made = |directory, origin| Child { directory, origin, closed_mode: None };
        match rustix::fs::mkdirat(&self.fd, name.as_bytes(), Mode::RWXU) {
            Ok(()) => return Ok(made(self.open_made(name)?, Origin::Made)),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let is_directory = self.stat(name)?.is_some_and(|stat| is_directory(&stat));
        if is_directory || existing == Existing::Keep {
            let closed_mode = if uid == 0 { None } else { self.let_owner_in(name, uid)? };
            return Ok(Child { directory: self.open_child(name)?, origin: Origin::Found, closed_mode });
        }
        rustix::fs::unlinkat(&self.fd, name.as_bytes(), AtFlags::empty())?;
        rustix::fs::mkdirat(&self.fd, name.as_bytes(), Mode::RWXU)?;
        Ok(made(self.open_made(name)?, Origin::Replaced))
    }

    /// Opens the directory `name` that was just made; fails if another one stands there meanwhile.
    fn open_made(&self, name: &Name) -> io::Result<Self> {
        let opened = self.open_child(name)?;
        self.check_made(opened.fd.as_fd(), FileType::Directory)?;
        Ok(opened)
    }

    /// Fails unless `fd`, opened by a name that was just made, is what was made. Whoever else may rename things in
    /// this directory could have put something of somebody else there, to have its owner and mode changed.
    fn check_made(&self, fd: BorrowedFd<'_>, kind: FileType) -> io::Result<()> {
        let above = rustix::fs::fstat(&self.fd)?;
        let own = rustix::process::geteuid().as_raw();
        let is_shared = above.st_mode & 0o022 != 0 && above.st_mode & 0o1000 == 0;
        if (above.st_uid == own || above.st_uid == 0) && !is_shared {
            return Ok(());
        }
        let found = rustix::fs::fstat(fd)?;
        let is_intact = if found.st_uid == own {
            kind != FileType::Directory || found.st_mode & 0o5777 == Mode::RWXU.as_raw_mode()
        } else {
            // Some file systems give everything to one user. Who plants his own in his own directory gains nothing.
            found.st_uid == above.st_uid
        };
        let is_one = kind == FileType::Directory || found.st_nlink == 1;
        if FileType::from_raw_mode(found.st_mode) == kind && is_intact && is_one {
            return Ok(());
        }
        Err(io::Error::other("something else was put in its place meanwhile"))
    }

    /// Gives `uid` all rights to its own directory `name`; returns the mode that this changed.
    fn let_owner_in(&self, name: &Name, uid: u32) -> io::Result<Option<u16>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name.as_bytes(), flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        let mode = Mode::from_raw_mode(stat.st_mode) & Mode::from_raw_mode(0o7777);
        if stat.st_uid != uid || mode.contains(Mode::RWXU) {
            return Ok(None);
        }
        rustix::fs::chmod(inode_path(fd.as_fd()), mode | Mode::RWXU)?;
        Ok(u16::try_from(mode.as_raw_mode()).ok())
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
        match self.open_node(&temporary, node.kind()) {
            Ok(fd) => Ok(Staged { directory: self, temporary, fd, regular: false, placed: false }),
            Err(error) => {
                let _ = rustix::fs::unlinkat(&self.fd, &temporary, AtFlags::empty());
                Err(error)
            }
        }
    }

    /// Opens the node `temporary` that was just made; fails if something else stands there meanwhile.
    fn open_node(&self, temporary: &str, kind: FileType) -> io::Result<OwnedFd> {
        let fd = rustix::fs::openat(&self.fd, temporary, INODE, Mode::empty())?;
        self.check_made(fd.as_fd(), kind)?;
        Ok(fd)
    }

    /// Opens the inode that bears `name`, a symbolic link itself, for linking to it.
    pub(super) fn open_inode(&self, name: &Name) -> io::Result<OwnedFd> {
        Ok(rustix::fs::openat(&self.fd, name.as_bytes(), INODE, Mode::empty())?)
    }

    /// Gives an inode that is open the further name `name` here.
    pub(super) fn link(&self, inode: BorrowedFd<'_>, name: &Name, existing: Existing) -> io::Result<Placed> {
        let source = inode_path(inode);
        let link = |to: &[u8]| rustix::fs::linkat(CWD, &source, &self.fd, to, AtFlags::SYMLINK_FOLLOW);
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

    /// Returns the number of the file system, and a descriptor of its own that stands for it.
    pub(super) fn file_system(&self) -> io::Result<(u64, OwnedFd)> {
        Ok((rustix::fs::fstat(&self.fd)?.st_dev, self.fd.try_clone()?))
    }

    /// Tells whether it lies on a FAT file system, which keeps times in steps of two seconds.
    pub(super) fn is_fat(&self) -> bool {
        rustix::fs::fstatfs(&self.fd).is_ok_and(|found| found.f_type == FAT_MAGIC)
    }

    /// Returns the handle for setting the attributes of the directory.
    pub(super) fn handle(&self) -> Handle<'_> {
        Handle::Open(self.fd.as_fd())
    }
}

impl Node<'_> {
    fn kind(self) -> FileType {
        match self {
            Self::Symlink(_) => FileType::Symlink,
            Self::Special(kind) | Self::Device(kind, _) => kind,
        }
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

    /// Returns its device and inode.
    pub(super) fn inode(&self) -> io::Result<(u64, u64)> {
        Ok(inode_of(&rustix::fs::fstat(&self.fd)?))
    }

    /// Gives the entry its name, atomically. Where the name is taken another one may be tried.
    pub(super) fn place(&mut self, name: &Name, existing: Existing) -> io::Result<Placed> {
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

    fn place_by_link(&self, name: &Name) -> io::Result<Placed> {
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

/// Names an inode that is held by a descriptor which takes no direct calls. The kernel resolves this path to the
/// inode itself, even where it is a symbolic link.
pub(super) fn inode_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Returns the device and the inode of a stat.
pub(super) fn inode_of(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Tells whether a stat is that of a directory.
pub(super) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn temporary_name() -> io::Result<String> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(format!(".yester-{}.new", HEXLOWER.encode(&random)))
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
        assert!(target.create_child(&name("etc"), Existing::Keep, 0).is_err());
        assert!(target.open_path(&[name("etc"), name("ssh")]).is_err());
        assert!(fs::symlink_metadata(&planted).unwrap().is_symlink());

        let etc = target.create_child(&name("etc"), Existing::Replace, 0).unwrap();
        assert_eq!(etc.origin, Origin::Replaced);
        etc.directory.stage_file().unwrap().place(&name("passwd"), Existing::Keep).unwrap();
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

        let mut staged = target.stage_file().unwrap();
        rustix::io::write(staged.file(), b"theirs").unwrap();
        assert_eq!(staged.place(&name("file"), Existing::Replace).unwrap(), Placed::Done);
        assert_eq!(fs::read(&outside).unwrap(), b"mine");
        assert_eq!(fs::read(&planted).unwrap(), b"theirs");
    }

    #[test]
    fn a_directory_is_never_replaced_by_a_file() {
        let (folder, target) = target();
        target.create_child(&name("d"), Existing::Keep, 0).unwrap();
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
    fn what_somebody_puts_in_the_place_of_a_new_name_is_not_taken_for_it() {
        use std::os::unix::fs::PermissionsExt;
        let (folder, target) = target();
        let path = |name: &str| folder.path().join("new/target").join(name);
        // Others may rename things here.
        fs::set_permissions(path(""), fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(path("secret"), b"").unwrap();
        fs::hard_link(path("secret"), path("planted")).unwrap();
        symlink("nowhere", path("link")).unwrap();
        fs::hard_link(path("link"), path("second link")).unwrap();
        fs::create_dir(path("open")).unwrap();
        fs::set_permissions(path("open"), fs::Permissions::from_mode(0o755)).unwrap();
        for kind in [FileType::Fifo, FileType::Symlink] {
            assert!(target.open_node("planted", kind).is_err());
            assert!(target.open_node("link", kind).is_err());
        }
        assert!(target.open_made(&name("open")).is_err());

        let staged =
            [Node::Symlink(b"nowhere"), Node::Special(FileType::Fifo)].map(|node| target.stage_node(node));
        assert!(staged.iter().all(Result::is_ok), "{staged:?}");
        fs::set_permissions(path(""), fs::Permissions::from_mode(0o2777)).unwrap();
        assert_eq!(target.create_child(&name("new"), Existing::Keep, 0).unwrap().origin, Origin::Made);
        // Where nobody else may do that, a file system may well have modes of its own.
        fs::set_permissions(path(""), fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(target.open_made(&name("open")).is_ok());
    }

    #[test]
    fn links_join_directories_and_spare_what_is_to_be_kept() {
        let (folder, target) = target();
        let a = target.create_child(&name("a"), Existing::Keep, 0).unwrap().directory;
        let b = target.create_child(&name("b"), Existing::Keep, 0).unwrap().directory;
        a.stage_file().unwrap().place(&name("one"), Existing::Keep).unwrap();
        let one = a.open_inode(&name("one")).unwrap();
        let link = |existing| b.link(one.as_fd(), &name("two"), existing).unwrap();
        assert_eq!(link(Existing::Keep), Placed::Done);
        assert_eq!(link(Existing::Keep), Placed::NameTaken);
        assert_eq!(link(Existing::Replace), Placed::Done);
        assert_eq!(b.stat(&name("two")).unwrap().unwrap().st_nlink, 2);
        assert_eq!(fs::read_dir(folder.path().join("new/target/b")).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_that_shuts_out_its_owner_is_opened_up() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let (folder, target) = target();
        let closed = folder.path().join("new/target/closed");
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o1050)).unwrap();
        let owner = fs::metadata(&closed).unwrap().uid();
        assert_eq!(target.let_owner_in(&name("closed"), owner + 1).unwrap(), None);
        assert_eq!(target.let_owner_in(&name("closed"), owner).unwrap(), Some(0o1050));
        assert_eq!(fs::metadata(&closed).unwrap().mode() & 0o7777, 0o1750);
        assert_eq!(target.let_owner_in(&name("closed"), owner).unwrap(), None);
        symlink("closed", folder.path().join("new/target/link")).unwrap();
        assert!(target.let_owner_in(&name("link"), owner).is_err());
    }
}
