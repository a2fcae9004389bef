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

#[cfg(test)]
pub(super) mod testing {
    use std::time::Duration;

    use crossbeam_channel::{Receiver, Sender, unbounded};

    use super::PageCache;

    /// No test waits longer than this for what it is given.
    pub(in crate::vfs) const PATIENCE: Duration = Duration::from_secs(30);

    /// What was handed over: an inode, an offset, and bytes.
    type Handed = (u64, u64, Vec<u8>);

    /// Keeps what it is given.
    #[derive(Clone)]
    pub(in crate::vfs) struct Kept {
        given: Sender<Handed>,
        kept: Receiver<Handed>,
    }

    impl Default for Kept {
        fn default() -> Self {
            let (given, kept) = unbounded();
            Self { given, kept }
        }
    }

    impl Kept {
        /// Returns what it was given since it was asked last.
        pub(in crate::vfs) fn take(&self) -> Vec<Handed> {
            self.kept.try_iter().collect()
        }

        /// Returns the first thing that it was given since it was asked last; waits for it if need be.
        pub(in crate::vfs) fn wait(&self) -> Handed {
            self.kept.recv_timeout(PATIENCE).unwrap()
        }
    }

    impl PageCache for Kept {
        fn store(&self, inode: u64, offset: u64, bytes: &[u8]) {
            self.given.send((inode, offset, bytes.to_vec())).unwrap();
        }
    }
}
