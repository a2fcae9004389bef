//! What the commands do, as library calls: options in, statistics out, progress to whoever listens.

pub mod accept;
pub mod compare;
pub mod copy;
pub mod diff;
pub mod export;
pub mod find;
pub mod forget;
pub mod gc;
pub mod history;
pub mod ingest;
pub mod list;
#[cfg(test)]
mod oracle;
pub mod patterns;
pub mod protect;
pub mod reach;
pub mod repair;
pub mod restore;
pub mod stats;
pub mod verify;
pub mod versions;
