//! The kernel's page cache, as far as it can be given what it did not ask for.

use std::sync::OnceLock;

/// The kernel's cache of what files hold.
pub trait PageCache: Send + Sync {
    /// Offers the kernel bytes of a file: whole pages, or what reaches to the end of the file. It does nothing if it
    /// does not know the file.
    fn store(&self, inode: u64, offset: u64, bytes: &[u8]);
}

/// The page cache of a mount, once it is mounted and if its kernel may be given pages.
#[derive(Default)]
pub(super) struct Pages(OnceLock<Box<dyn PageCache>>);

impl Pages {
    pub(super) fn attach(&self, pages: Box<dyn PageCache>) {
        // A second one would be for the same mount.
        let _ = self.0.set(pages);
    }

    pub(super) fn get(&self) -> Option<&dyn PageCache> {
        self.0.get().map(Box::as_ref)
    }
}
