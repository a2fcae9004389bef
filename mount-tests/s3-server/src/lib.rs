//! An S3 server for tests and benchmarks, which keeps what S3 promises and fails as it is told.
//!
//! The protocol (XML, signatures, chunked uploads) is that of the crate `s3s`. What S3 promises beyond it is kept by
//! `storage` and `objects`: a conditional put is atomic, readers and listings see whole objects alone, an upload with a
//! wrong checksum leaves nothing. `front` stands before both and speaks HTTP: it counts, and does what [`Faults`]
//! tell it to, so that a client meets on its connection what it would meet in a bad hour of a real one.
//!
//! [`Server`] runs it in threads of its own. The program `s3-server` is a thin shell around it for scripts.
//!
//! What it does not have: multipart uploads, versions, and keys that S3 alone would take
//! (`a//b`, `../a`, or both `a` and `a/b`). It says so with `NotImplemented`.

mod counts;
mod faults;
mod front;
mod objects;
mod reply;
mod request;
mod rights;
mod server;
mod storage;

#[cfg(test)]
mod tests;

pub use counts::{Counted, Counts};
pub use faults::{Fault, Faults, Rule, When};
pub use request::{Operation, Request};
pub use rights::Rights;
pub use server::{ACCESS_KEY, REGION, SECRET_KEY, Server, ServerOptions};
