//! Why a node of a view cannot be used. The mapping to errno is the adapter's.

use crate::repo::RepoError;

/// Why an operation on a view failed. Callers match on the variants.
#[derive(Debug, thiserror::Error)]
pub enum VfsError {
    /// The inode number was never given out, or was forgotten since.
    #[error("inode {0:#x} is not in use")]
    Stale(u64),
    /// What stood there is gone: a view whose last snapshot was forgotten.
    #[error("there is no {0}")]
    NotFound(String),
    /// No snapshot can hold such a name; it says how many bytes it has.
    #[error("a name of {0} bytes is too long")]
    NameTooLong(usize),
    /// A directory is needed here.
    #[error("{0} is not a directory")]
    NotADirectory(String),
    /// A file is needed here, and this is a directory.
    #[error("{0} is a directory")]
    IsADirectory(String),
    /// A symbolic link is needed here.
    #[error("{0} is not a symbolic link")]
    NotALink(String),
    /// A regular file is needed here, and this is a device, a pipe or a socket.
    #[error("{0} is not a regular file")]
    NotAFile(String),
    /// The node has no extended attribute of this name.
    ///
    /// It carries no path: programs ask for attributes of every file that they list, and mostly there are none.
    #[error("it has no such extended attribute")]
    NoAttribute,
    /// The store did not yield what the node is made of.
    #[error("cannot read {path}")]
    Unreadable {
        /// The node.
        path: String,
        /// What is wrong with the store.
        #[source]
        source: Box<RepoError>,
    },
}

impl VfsError {
    /// Returns a conversion of store errors that names the node at `path`.
    pub(super) fn unreadable(path: impl FnOnce() -> String) -> impl FnOnce(RepoError) -> Self {
        move |source| Self::Unreadable { path: path(), source: Box::new(source) }
    }
}
