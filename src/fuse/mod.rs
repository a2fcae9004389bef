//! The kernel's side of a mount: making one, serving it, ending it.
//!
//! `adapter` and `convert` translate between fuser and [`Vfs`]; what a mount shows is decided there, not here. Nothing
//! here goes to the background or prints: that is the command line's.

mod adapter;
mod awake;
mod convert;
mod mountinfo;
mod place;
mod unmount;

use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, select};
use fuser::{BackgroundSession, Config, INodeNo, MountOption, Notifier, Session, SessionACL};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::vfs::{PageCache, Vfs};
use adapter::{AccessLists, Adapter};

pub use mountinfo::list_mounts;
pub use place::prepare;
pub use unmount::{UnmountOutcome, unmount_path};

/// Subtype of the mounts, as in `fuse.yester`.
const SUBTYPE: &str = "yester";

/// Threads for each core that take requests from the kernel and answer them: half of them wait for a disk while the
/// others decode.
const EVENT_LOOPS_PER_CORE: usize = 2;

/// What the kernel reads ahead of a stream. More makes random access through `mmap` read several times what
/// it needs; less halves the speed of streams.
const KERNEL_READAHEAD_KIB: u32 = 512;

/// How long the threads get to end once the mount is detached.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// Who may enter a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// The user who mounted, and nobody else: root alone where root mounted.
    Mounter,
    /// All users, each as far as the files' modes let them (with [`crate::vfs::Ownership::Of`]: that user and
    /// root). Without root, `user_allow_other` must stand in `/etc/fuse.conf`.
    Everyone,
}

/// Who decides about access to single files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permissions {
    /// The kernel, by owner, group and mode.
    Checked,
    /// Nobody: whoever may enter reads everything.
    Ignored,
}

/// Whether programs in a mount may be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Execution {
    /// By whom the files' modes let, but never with the rights of set-id bits.
    Allowed,
    /// By nobody.
    Forbidden,
}

/// How a view is mounted.
#[derive(Debug, Clone)]
pub struct MountOptions {
    /// Who may enter.
    pub audience: Audience,
    /// Whether modes hold.
    pub permissions: Permissions,
    /// Whether programs may be run.
    pub execution: Execution,
    /// What `df` and `mount` name as the source: the store's location.
    pub fsname: String,
    /// How many requests at once the store is worth: so many of those who answer may wait for it, and others still answer.
    pub store_requests: usize,
}

/// Why a mount cannot be made or ended.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A system call or `fusermount3` refused.
    #[error("cannot {operation} {mountpoint}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// Where.
        mountpoint: String,
        /// The refusal.
        #[source]
        source: std::io::Error,
    },
    /// There is no directory that can be used.
    #[error("cannot mount at {mountpoint}")]
    Place {
        /// Where.
        mountpoint: String,
        /// The refusal.
        #[source]
        source: std::io::Error,
    },
    /// Nothing of ours is mounted there.
    #[error("{0} is not a yester mount")]
    NotMounted(String),
    /// A mount of ours is served there.
    #[error("a yester mount is already served at {0}")]
    InUse(String),
    /// A mount would hide what is there.
    #[error("cannot mount at {0}: the directory is not empty")]
    NotEmpty(String),
}

impl MountError {
    fn system(operation: &'static str, mountpoint: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let mountpoint = mountpoint.display().to_string();
        move |source| Self::System { operation, mountpoint, source }
    }
}

/// Why a mount ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountEnd {
    /// Somebody unmounted it.
    Unmounted,
    /// SIGTERM, SIGINT or SIGHUP asked this process to end.
    Signalled,
}

/// A mount that threads of this process serve.
pub struct MountedFs {
    /// Never dropped: fuser 0.18 would unmount whatever lies at the mount point by then.
    _session: ManuallyDrop<BackgroundSession>,
    /// Disconnected when the last event loop has ended.
    ended: Receiver<()>,
    signals: Signals,
    mountpoint: PathBuf,
    device: mountinfo::Device,
}

/// Mounts `vfs` and serves it by threads of this process. When it returns, a `stat` of the mount point works,
/// and SIGTERM, SIGINT and SIGHUP no longer kill the process: [`MountedFs::wait`] takes them.
///
/// # Errors
/// Fails as [`prepare`] does, or if mounting is not allowed.
pub fn mount(vfs: Arc<Vfs>, mountpoint: &Path, options: &MountOptions) -> Result<MountedFs, MountError> {
    let failed = |operation| MountError::system(operation, mountpoint);
    let mountpoint = prepare(mountpoint)?;
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(failed("take signals for"))?;
    let (serving, ended) = bounded(0);
    let adapter = Adapter::new(Arc::clone(&vfs), access_lists(options), serving);
    let session = Session::new(adapter, &mountpoint, &config(options)).map_err(failed("mount at"))?;
    if clears_what_lies_behind_the_end() {
        vfs.attach(Box::new(KernelPages(session.notifier())));
    }
    let session = ManuallyDrop::new(session.spawn().map_err(failed("serve"))?);
    let device = mountinfo::Device::of(&mountpoint).map_err(|source| {
        // Nothing that this process says later would be heard if the mount stayed: it would be a dead one.
        let _ = unmount::take_away(&mountpoint);
        failed("look at")(source)
    })?;
    raise_readahead(device);
    Ok(MountedFs { _session: session, ended, signals, mountpoint, device })
}

impl MountedFs {
    /// Waits until the mount ends: unmounted from outside, or detached, busy or not, because of a signal. The
    /// process should exit then, which cuts off whoever still has files open.
    ///
    /// # Errors
    /// Fails if the mount cannot be detached.
    pub fn wait(mut self) -> Result<MountEnd, MountError> {
        let handle = self.signals.handle();
        let (sender, signalled) = bounded(1);
        let watch = move || {
            if self.signals.forever().next().is_some() {
                let _ = sender.send(());
            }
        };
        std::thread::Builder::new()
            .name("yester-signals".to_owned())
            .spawn(watch)
            .map_err(MountError::system("watch for signals at", &self.mountpoint))?;
        let end = select! {
            recv(self.ended) -> _ => MountEnd::Unmounted,
            recv(signalled) -> _ => MountEnd::Signalled,
        };
        handle.close();
        if end == MountEnd::Signalled {
            detach(&self.mountpoint, self.device, &self.ended)?;
        }
        Ok(end)
    }

    /// Unmounts, busy or not, and waits a moment for the threads to end.
    ///
    /// # Errors
    /// Fails if the mount cannot be detached.
    pub fn unmount(self) -> Result<(), MountError> {
        detach(&self.mountpoint, self.device, &self.ended)
    }
}

fn detach(mountpoint: &Path, device: mountinfo::Device, ended: &Receiver<()>) -> Result<(), MountError> {
    unmount::detach(mountpoint, device)?;
    // Who still has files open keeps the threads alive: the end of the process is theirs, too.
    let _ = ended.recv_timeout(END_PATIENCE);
    Ok(())
}

/// Tells whether this kernel clears the rest of the last page of a file that it is handed. Older ones would show whoever
/// maps the file what lay there before (CVE-2024-44947).
fn clears_what_lies_behind_the_end() -> bool {
    let system = rustix::system::uname();
    kernel_version(&system.release().to_string_lossy()) >= Some((6, 11))
}

/// Reads the first two numbers of a kernel's release.
fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The page cache of the kernel, for one mount.
struct KernelPages(Notifier);

impl PageCache for KernelPages {
    fn store(&self, inode: u64, offset: u64, bytes: &[u8]) {
        if let Err(error) = self.0.store(INodeNo(inode), offset, bytes) {
            tracing::debug!(%error, "the kernel did not take the bytes of a file");
        }
    }
}

fn config(options: &MountOptions) -> Config {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::RO,
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::FSName(fsname(&options.fsname)),
        // As a plain option it reaches the kernel even where no fusermount3 is involved.
        MountOption::CUSTOM(format!("subtype={SUBTYPE}")),
    ];
    if options.permissions == Permissions::Checked {
        config.mount_options.push(MountOption::DefaultPermissions);
    }
    if options.execution == Execution::Forbidden {
        config.mount_options.push(MountOption::NoExec);
    }
    config.acl = match options.audience {
        Audience::Mounter => SessionACL::Owner,
        Audience::Everyone => SessionACL::All,
    };
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    config.n_threads = Some((EVENT_LOOPS_PER_CORE * cores).max(options.store_requests + cores));
    config
}

/// Returns whether the kernel is to enforce stored access control lists. Where only the mounting user enters it
/// would cost a request a file, and keep nobody out: that user has the key, or is root.
fn access_lists(options: &MountOptions) -> AccessLists {
    match (options.audience, options.permissions) {
        (Audience::Everyone, Permissions::Checked) => AccessLists::Enforced,
        (Audience::Mounter, _) | (_, Permissions::Ignored) => AccessLists::Shown,
    }
}

/// Returns a name that cannot be taken for further options, since options are joined by commas.
fn fsname(location: &str) -> String {
    let replaced = |c: char| match c {
        ',' => "%2C".to_owned(),
        '\\' => "%5C".to_owned(),
        c if c.is_control() => "?".to_owned(),
        c => c.to_string(),
    };
    location.chars().map(replaced).collect()
}

/// Raises the kernel's readahead of this mount. Only root may; without it streams are slower, nothing else.
fn raise_readahead(device: mountinfo::Device) {
    let path = format!("/sys/class/bdi/{device}/read_ahead_kb");
    if let Err(error) = std::fs::write(&path, KERNEL_READAHEAD_KIB.to_string()) {
        tracing::debug!(path, %error, "the kernel's readahead stays as it is");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> MountOptions {
        MountOptions {
            audience: Audience::Mounter,
            store_requests: 1,
            permissions: Permissions::Checked,
            execution: Execution::Allowed,
            fsname: "/srv/backup,allow_other".to_owned(),
        }
    }

    #[test]
    fn the_name_of_a_store_cannot_carry_options() {
        let config = config(&options());
        assert!(config.mount_options.contains(&MountOption::FSName("/srv/backup%2Callow_other".to_owned())));
        assert_eq!(fsname("a\\b\nc"), "a%5Cb?c");
    }

    #[test]
    fn releases_of_kernels_are_compared_by_their_numbers() {
        assert_eq!(kernel_version("6.1.0-25-amd64"), Some((6, 1)));
        assert_eq!(kernel_version("6.18.44-fc-v595"), Some((6, 18)));
        assert_eq!(kernel_version("7.0-rc1"), Some((7, 0)));
        assert_eq!(kernel_version("unknown"), None);
    }

    #[test]
    fn mounts_are_read_only_and_private_unless_asked_otherwise() {
        let private = config(&options());
        for option in
            [MountOption::RO, MountOption::NoSuid, MountOption::NoDev, MountOption::DefaultPermissions]
        {
            assert!(private.mount_options.contains(&option), "{option:?}");
        }
        assert!(!private.mount_options.contains(&MountOption::NoExec));
        assert_eq!(private.acl, SessionACL::Owner);
        let open = config(&MountOptions {
            audience: Audience::Everyone,
            permissions: Permissions::Ignored,
            execution: Execution::Forbidden,
            ..options()
        });
        assert_eq!(open.acl, SessionACL::All);
        assert!(open.mount_options.contains(&MountOption::NoExec));
        assert!(!open.mount_options.contains(&MountOption::DefaultPermissions));
    }

    #[test]
    fn access_control_lists_hold_where_others_enter_by_modes() {
        let lists = |audience, permissions| {
            access_lists(&MountOptions { audience, permissions, ..options() }) == AccessLists::Enforced
        };
        assert!(lists(Audience::Everyone, Permissions::Checked));
        // The kernel would check modes, too.
        assert!(!lists(Audience::Everyone, Permissions::Ignored));
        assert!(!lists(Audience::Mounter, Permissions::Checked));
    }
}
