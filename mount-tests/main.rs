//! Tests through the real binary, real mounts and a real PostgreSQL, and of the shape of the code.
//!
//! They need root, FUSE and PostgreSQL; where something is missing they say so and step aside, unless `CI=true`
//! asks them to fail.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests say what they expect by failing")]

mod cli;
mod commands;
mod failures;
mod flips;
mod harness;
mod index;
mod journal;
mod layering;
mod main_job;
mod mount_damage;
mod mount_life;
mod mount_view;
mod postgres;
mod trees;
