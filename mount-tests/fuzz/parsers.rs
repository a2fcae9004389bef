//! The parsers of dumps and what they use, taken from the main package as they are.

#[path = "../../src/dump/mod.rs"]
pub mod dump;
#[path = "../../src/path.rs"]
pub mod path;
