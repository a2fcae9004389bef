//! yester: a versioned backup store that mounts. *Mount yesterday.*
//!
//! Backups are cut into chunks, grouped into compressed and sealed frames, and stored in packs in an
//! object store. Any snapshot can be mounted read-only as a filesystem.
//!
//! The modules stand in layer order: each imports only what stands above it. `mount-tests/layering.rs`
//! enforces this. Start reading at [`format`] for the bytes of a store, at [`repo`] for how they are
//! read and written, and at [`ops`] for what the commands do with them.

// Layer 0: value types, keys, processes, and how the library reports.
pub mod crypto;
pub mod human;
pub mod id;
pub mod path;
pub mod process;
pub mod progress;
pub mod recent;
pub mod uncached;
// Layer 1: the bytes of the store, where they lie, and what dumps look like.
pub mod chunker;
pub mod dump;
pub mod format;
pub mod similarity;
pub mod store;
// Layer 2: local databases.
pub mod index;
pub mod journal;
// Layer 3: a store that was opened with its key.
pub mod repo;
// Layer 4: what can be done with it.
pub mod ops;
pub mod vfs;
// Layer 5: the kernel's side of a mount.
pub mod fuse;
// Layer 6: what happens by itself.
pub mod jobs;
// Layer 7: the command line.
pub mod cli;
// For tests: how sessions and collectors work together.
#[cfg(test)]
mod model;
