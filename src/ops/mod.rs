//! What the commands do, as library calls: options in, statistics out, progress to whoever listens.

pub mod ingest;
pub mod list;
pub mod restore;
pub mod verify;
