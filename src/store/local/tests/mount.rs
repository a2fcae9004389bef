//! File systems made for one test, and what a test does on a machine that cannot give it any.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::mount::UnmountFlags;
use tempfile::{NamedTempFile, TempDir};

/// A file system of its own, mounted until dropped.
pub(super) struct Mount {
    directory: TempDir,
    image: Option<NamedTempFile>,
}

impl Mount {
    pub(super) fn device(mkfs: &str, options: &[&str]) -> Option<Self> {
        able(mkfs, Self::try_device(mkfs, options))
    }

    pub(super) fn try_device(mkfs: &str, options: &[&str]) -> Result<Self, String> {
        let image = NamedTempFile::new().unwrap();
        image.as_file().set_len(64 << 20).unwrap();
        run(mkfs, &[options, &[image.path().to_str().unwrap()]].concat())?;
        Self::image(image)
    }

    pub(super) fn tmpfs(options: &str) -> Option<Self> {
        able("tmpfs", Self::new(&["-t", "tmpfs", "-o", options, "tmpfs"], None))
    }

    fn image(image: NamedTempFile) -> Result<Self, String> {
        let path = image.path().to_str().unwrap().to_owned();
        Self::new(&["-o", "loop", &path], Some(image))
    }

    fn new(arguments: &[&str], image: Option<NamedTempFile>) -> Result<Self, String> {
        let directory = tempfile::tempdir().unwrap();
        run("mount", &[&["--no-mtab"], arguments, &[directory.path().to_str().unwrap()]].concat())?;
        Ok(Self { directory, image })
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Mounts a copy of what has reached the device, which is what the next boot would find.
    pub(super) fn after_power_loss(&self) -> Self {
        let copy = NamedTempFile::new().unwrap();
        fs::copy(self.image.as_ref().unwrap().path(), copy.path()).unwrap();
        Self::image(copy).unwrap()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a file that a failing test still holds open must not keep the mount. Not by `umount`, which
        // fails at times because the kernel released the loop device before it.
        let unmounted = rustix::mount::unmount(self.path(), UnmountFlags::DETACH);
        assert!(unmounted.is_ok() || std::thread::panicking(), "{unmounted:?}");
    }
}

/// Returns what a test needs of the machine; without it, says so, and fails where that must not be.
pub(super) fn able<T>(what: &str, outcome: Result<T, String>) -> Option<T> {
    let why = match outcome {
        Ok(thing) => return Some(thing),
        Err(why) => why,
    };
    eprintln!("NOT TESTED: needs root, a loop device and a file system of {what}: {why}");
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{what}: {why}");
    None
}

pub(super) fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output =
        Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}
