//! Tests through the real binary, real mounts and a real PostgreSQL, and of the shape of the code.
//!
//! They need root, FUSE and PostgreSQL; where something is missing they say so and step aside, unless `CI=true`
//! asks them to fail.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests say what they expect by failing")]

mod accept;
mod cli;
mod commands;
mod copy;
mod deltas;
mod diff;
mod dumps;
mod export;
mod failures;
mod fidelity;
mod find;
mod flips;
mod forget;
mod frozen;
mod fuzz;
mod gc;
mod guide;
mod harness;
mod index;
mod ingest_selection;
mod jobs;
mod journal;
mod keys;
mod layering;
mod main_job;
mod mount_damage;
mod mount_helper;
mod mount_life;
mod mount_rights;
mod people;
mod postgres;
mod repair;
mod restore;
mod s3;
mod scale;
mod semantics;
mod stats;
mod trees;
mod verify_sample;
