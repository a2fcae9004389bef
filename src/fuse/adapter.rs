//! Translates fuser's calls into calls of [`Vfs`], and its answers into replies.
//!
//! Each request is answered on the event loop that took it, since handing it to another thread costs more than most
//! answers do; there are enough loops for some to wait for the store. The kernel opens and closes files and directories
//! without asking, where it can. Whatever would change something is answered with EROFS.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use crossbeam_channel::Sender;
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl,
    ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::awake::Wakefulness;
use super::convert::{absent, file_attr, file_type, refuse, seek_of, time_to_live};
use crate::path::NAME_MAX_BYTES;
use crate::vfs::{Lookup, Vfs, VfsError, Visit};

/// Background requests that the kernel keeps under way; its default of 16 starves fast readers.
const MAX_BACKGROUND: u16 = 64;

/// Unit of `f_blocks`.
const STATFS_BLOCK_BYTES: u32 = 4096;
/// Longest name that `statfs` promises: what a snapshot may hold, and the kernel's protocol carries.
const STATFS_NAME_BYTES: u32 = {
    assert!(NAME_MAX_BYTES == 1024);
    1024
};

/// Numbers are never used for two nodes, so one generation is enough.
const GENERATION: Generation = Generation(0);

/// What the kernel does with the POSIX access control lists among the extended attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AccessLists {
    /// They decide about access, together with the modes.
    Enforced,
    /// They are attributes like others.
    Shown,
}

/// A [`Vfs`] as fuser wants it.
pub(super) struct Adapter {
    vfs: Arc<Vfs>,
    lists: AccessLists,
    /// Whether the kernel opens files without asking once it was told so.
    opens_files: bool,
    /// Whether it opens directories so.
    opens_directories: bool,
    /// Keeps cores awake while requests come thick, where that helps.
    wakefulness: Option<Wakefulness>,
    /// Dropped with the adapter when the last event loop ends; nothing is ever sent.
    _serving: Sender<()>,
}

impl Adapter {
    /// Returns an adapter to `vfs`. It drops `serving` when the mount has ended.
    pub(super) fn new(vfs: Arc<Vfs>, lists: AccessLists, serving: Sender<()>) -> Self {
        let (opens_files, opens_directories) = (false, false);
        Self {
            vfs,
            lists,
            opens_files,
            opens_directories,
            wakefulness: Wakefulness::start(),
            _serving: serving,
        }
    }

    /// Has a request answered. One that panics is answered with EIO when its reply is dropped; the event loop is
    /// needed for the next one.
    fn serve(&self, answer: impl FnOnce(&Vfs)) {
        if let Some(wakefulness) = &self.wakefulness {
            wakefulness.request();
        }
        if catch_unwind(AssertUnwindSafe(|| answer(&self.vfs))).is_err() {
            tracing::error!("a request failed because of a bug");
        }
    }
}

thread_local! {
    /// What is read goes through it to the kernel; it keeps its size from request to request.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Answers a request for an attribute or for the names of all: its size where `size` is 0.
fn reply_xattr(result: Result<Vec<u8>, VfsError>, size: u32, reply: ReplyXattr) {
    match result.map(|bytes| (u32::try_from(bytes.len()), bytes)) {
        Ok((Ok(length), _)) if size == 0 => reply.size(length),
        Ok((Ok(length), bytes)) if length <= size => reply.data(&bytes),
        Ok(_) => reply.error(Errno::ERANGE),
        Err(error) => reply.error(refuse(&error)),
    }
}

fn reply_lookup(found: Result<Lookup, VfsError>, reply: ReplyEntry) {
    match found {
        Ok(Lookup::Found(attributes)) => {
            reply.entry(&time_to_live(attributes.lifetime), &file_attr(&attributes), GENERATION);
        }
        Ok(Lookup::Absent(lifetime)) => reply.entry(&time_to_live(lifetime), &absent(), GENERATION),
        Err(error) => reply.error(refuse(&error)),
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = [
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_CACHE_SYMLINKS,
            // Views change, and their times with them; nothing else has a time that does.
            InitFlags::FUSE_AUTO_INVAL_DATA,
        ];
        let enforced = self.lists == AccessLists::Enforced;
        for capability in wanted.into_iter().chain(enforced.then_some(InitFlags::FUSE_POSIX_ACL)) {
            if config.add_capabilities(capability).is_err() {
                tracing::debug!(?capability, "the kernel lacks a capability");
            }
        }
        let known = config.capabilities();
        self.opens_files = known.contains(InitFlags::FUSE_NO_OPEN_SUPPORT);
        self.opens_directories = known.contains(InitFlags::FUSE_NO_OPENDIR_SUPPORT);
        if config.set_max_background(MAX_BACKGROUND).is_err() {
            tracing::debug!("the kernel's number of background requests stays as it is");
        }
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.serve(|vfs| reply_lookup(vfs.lookup(parent.0, name.as_bytes()), reply));
    }

    fn forget(&self, _request: &Request, inode: INodeNo, lookups: u64) {
        self.vfs.forget(inode.0, lookups);
    }

    fn getattr(&self, _request: &Request, inode: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        self.serve(|vfs| match vfs.attributes(inode.0) {
            Ok(attributes) => reply.attr(&time_to_live(attributes.lifetime), &file_attr(&attributes)),
            Err(error) => reply.error(refuse(&error)),
        });
    }

    fn readlink(&self, _request: &Request, inode: INodeNo, reply: ReplyData) {
        self.serve(|vfs| match vfs.read_link(inode.0) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(refuse(&error)),
        });
    }

    /// ENOSYS says that there is nothing to do here, for this file and all others: the kernel does not ask again, and
    /// keeps what was read.
    fn open(&self, _request: &Request, _inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            reply.error(Errno::EROFS);
        } else if self.opens_files {
            reply.error(Errno::ENOSYS);
        } else {
            reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
        }
    }

    fn read(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.serve(|vfs| {
            BUFFER.with_borrow_mut(|buffer| {
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                if buffer.len() < size {
                    buffer.resize(size, 0);
                }
                let (buffer, _) = buffer.split_at_mut(size);
                match vfs.read(inode.0, offset, buffer) {
                    Ok(read) => reply.data(buffer.get(..read).unwrap_or_default()),
                    Err(error) => reply.error(refuse(&error)),
                }
            });
        });
    }

    /// Nothing is ever written; the kernel does not ask again.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    /// As for files: the kernel keeps lists of names, and drops one when the time of its directory is another.
    fn opendir(&self, _request: &Request, _inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        if self.opens_directories {
            reply.error(Errno::ENOSYS);
        } else {
            reply.opened(FileHandle(0), FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE);
        }
    }

    fn readdir(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        self.serve(|vfs| {
            let result = vfs.read_directory(inode.0, offset, &mut |item| {
                let name = OsStr::from_bytes(item.name);
                visit(reply.add(INodeNo(item.inode), item.cookie, file_type(item.kind), name))
            });
            match result {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(refuse(&error)),
            }
        });
    }

    fn readdirplus(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        self.serve(|vfs| {
            let result = vfs.read_directory_plus(inode.0, offset, &mut |item, attributes| {
                let lifetime = time_to_live(attributes.lifetime);
                let (inode, name) = (INodeNo(item.inode), OsStr::from_bytes(item.name));
                visit(reply.add(inode, item.cookie, name, &lifetime, &file_attr(attributes), GENERATION))
            });
            match result {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(refuse(&error)),
            }
        });
    }

    fn statfs(&self, _request: &Request, _inode: INodeNo, reply: ReplyStatfs) {
        self.serve(|vfs| match vfs.statistics() {
            Ok(statistics) => {
                let blocks = statistics.bytes.div_ceil(u64::from(STATFS_BLOCK_BYTES));
                let unit = STATFS_BLOCK_BYTES;
                reply.statfs(blocks, 0, 0, statistics.files, 0, unit, STATFS_NAME_BYTES, unit);
            }
            Err(error) => reply.error(refuse(&error)),
        });
    }

    fn getxattr(&self, _: &Request, inode: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.serve(|vfs| reply_xattr(vfs.xattr(inode.0, name.as_bytes()), size, reply));
    }

    fn listxattr(&self, _request: &Request, inode: INodeNo, size: u32, reply: ReplyXattr) {
        self.serve(|vfs| reply_xattr(vfs.xattr_names(inode.0), size, reply));
    }

    fn lseek(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let (Some(seek), Ok(offset)) = (seek_of(whence), u64::try_from(offset)) else {
            return reply.error(Errno::EINVAL);
        };
        self.serve(|vfs| match vfs.seek(inode.0, offset, seek) {
            Ok(Some(found)) => match i64::try_from(found) {
                Ok(found) => reply.offset(found),
                Err(_) => reply.error(Errno::EOVERFLOW),
            },
            Ok(None) => reply.error(Errno::ENXIO),
            Err(error) => reply.error(refuse(&error)),
        });
    }

    /// Asked only where permissions are ignored: everything may be read.
    fn access(&self, _request: &Request, _inode: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        if mask.contains(AccessFlags::W_OK) { reply.error(Errno::EROFS) } else { reply.ok() }
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _command: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn setattr(
        &self,
        _: &Request,
        _: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.error(Errno::EROFS);
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: INodeNo,
        _: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EROFS);
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _offset: u64,
        _data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::EROFS);
    }

    fn create(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        reply.error(Errno::EROFS);
    }

    fn setxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: &[u8], _: i32, _: u32, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn fallocate(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, _: u64, _: i32, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::EROFS);
    }
}

fn visit(is_full: bool) -> Visit {
    if is_full { Visit::Full } else { Visit::Taken }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use crossbeam_channel::bounded;
    use fuser::{Config, Session, SessionACL};

    use super::*;
    use crate::repo::testing::TestStore;
    use crate::vfs::{Ownership, RootView, VfsOptions};

    const FUSE_READLINK: u32 = 5;
    const FUSE_INIT: u32 = 26;
    const FUSE_DESTROY: u32 = 38;

    /// The link with a bug.
    const BUGGY: INodeNo = INodeNo(7);

    /// Reads links through the buffer.
    struct Links(Adapter);

    impl Filesystem for Links {
        fn readlink(&self, _request: &Request, inode: INodeNo, reply: ReplyData) {
            self.0.serve(|_| {
                BUFFER.with_borrow_mut(|buffer| {
                    buffer.clear();
                    assert_ne!(inode, BUGGY, "meant to fail");
                    buffer.extend_from_slice(b"target");
                    reply.data(buffer);
                });
            });
        }
    }

    fn links() -> Links {
        let test = TestStore::new();
        let options = VfsOptions { root: RootView::All, ownership: Ownership::AsStored, prefetch_threads: 0 };
        Links(Adapter {
            vfs: Arc::new(Vfs::new(Arc::new(test.open()), options).unwrap()),
            lists: AccessLists::Shown,
            opens_files: false,
            opens_directories: false,
            wakefulness: None,
            _serving: bounded(0).0,
        })
    }

    /// Asks as the kernel does; returns an error's number, which is negative, or 0, and the bytes of the answer.
    fn ask(device: &mut UnixStream, opcode: u32, inode: INodeNo, arguments: &[u8]) -> (i32, Vec<u8>) {
        let length = u32::try_from(40 + arguments.len()).unwrap();
        let mut request = [length.to_ne_bytes(), opcode.to_ne_bytes()].concat();
        // The number of the request, the inode, and who asks.
        for number in [1, inode.0, 0, 0] {
            request.extend_from_slice(&u64::to_ne_bytes(number));
        }
        request.extend_from_slice(arguments);
        device.write_all(&request).unwrap();
        let mut header = [[0; 4]; 4];
        for number in &mut header {
            device.read_exact(number).unwrap();
        }
        let [length, error, ..] = header;
        let mut bytes = vec![0; usize::try_from(u32::from_ne_bytes(length)).unwrap() - 16];
        device.read_exact(&mut bytes).unwrap();
        (i32::from_ne_bytes(error), bytes)
    }

    /// A socket stands in for `/dev/fuse`, and one event loop serves all requests.
    #[test]
    fn a_request_that_panics_is_answered_with_eio_and_the_next_one_is_served() {
        let (mut device, served) = UnixStream::pair().unwrap();
        device.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let event_loop = std::thread::spawn(move || {
            Session::from_fd(links(), served.into(), SessionACL::All, Config::default())?.run()
        });
        let version = [7_u32, 31, 0, 0].map(u32::to_ne_bytes).concat();
        assert_eq!(ask(&mut device, FUSE_INIT, INodeNo(0), &version).0, 0);
        for _ in 0..2 {
            assert_eq!(ask(&mut device, FUSE_READLINK, BUGGY, &[]), (-Errno::EIO.code(), Vec::new()));
            assert_eq!(ask(&mut device, FUSE_READLINK, INodeNo(8), &[]), (0, b"target".to_vec()));
        }
        assert_eq!(ask(&mut device, FUSE_DESTROY, INodeNo(0), &[]).0, 0);
        event_loop.join().unwrap().unwrap();
    }
}
