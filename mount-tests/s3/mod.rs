//! The real binary on S3: a server of the tests that fails as it is told, once for each thing that goes wrong with real
//! ones. Each time the program recovers and says nothing, or fails and says what to do; and what it acknowledged before
//! restores byte for byte afterwards.

mod bodies;
mod creations;
mod hosts;
mod listings;
mod refusals;
mod silence;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use s3_server::Server;

use crate::harness::{Lab, Ran, copy_of, noise};

pub(crate) const BUCKET: &str = "acme";

/// How long commands try again. A request may be silent for a quarter of it.
const TIMEOUT: &str = "6s";

/// A server with a store, and a host that uses it.
struct Site {
    server: Server,
    lab: Lab,
    /// What was backed up in which snapshot, by its id.
    acknowledged: RefCell<BTreeMap<String, u64>>,
}

impl Site {
    /// Makes a new store.
    fn new() -> Self {
        let site = Self::empty();
        site.run(&["init"]).succeeds();
        site
    }

    /// Makes an empty bucket.
    fn empty() -> Self {
        let server = Server::start(BUCKET).unwrap();
        let mut environment = server.environment();
        environment.push(("YESTER_STORE", format!("s3://{BUCKET}/backups")));
        Self { server, lab: Lab::equipped(environment), acknowledged: RefCell::default() }
    }

    /// Prepares a command, which is not patient.
    fn command(&self, arguments: &[&str]) -> Command {
        self.command_within(arguments, TIMEOUT)
    }

    /// Prepares a command that tries again for so long.
    fn command_within(&self, arguments: &[&str], timeout: &str) -> Command {
        self.lab.command(arguments.iter().chain(&["--store-timeout", timeout]))
    }

    /// Runs a command to its end.
    fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.command(arguments))
    }

    /// Returns the tree that is backed up.
    fn tree(&self) -> PathBuf {
        self.lab.path("tree")
    }

    /// Prepares to back up a version of the tree, of which a little is new.
    fn ingest_command(&self, version: u64, timeout: &str) -> Command {
        let tree = self.tree();
        for (name, bytes) in tree_of(version) {
            let path = tree.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let arguments = ["ingest", "--json", "--source", "tree", tree.to_str().unwrap()];
        self.command_within(&arguments, timeout)
    }

    /// Backs up a version of the tree, and takes note of it if that is acknowledged.
    fn try_ingest(&self, version: u64) -> Ran {
        let ran = Ran::of(&mut self.ingest_command(version, TIMEOUT));
        self.heard(&ran, version);
        ran
    }

    /// Takes note of what an ingest said.
    fn heard(&self, ran: &Ran, version: u64) {
        if let Ok(said) = serde_json::from_slice::<serde_json::Value>(&ran.stdout) {
            self.acknowledged.borrow_mut().insert(said["id"].as_str().unwrap().to_owned(), version);
        }
    }

    /// Backs up a version of the tree.
    #[track_caller]
    fn ingest(&self, version: u64) {
        self.try_ingest(version).succeeds();
    }

    /// Ends all faults; then a host that knows nothing of the store restores everything that was acknowledged, and the next
    /// backup works.
    #[track_caller]
    fn is_whole(&self) {
        self.server.faults().clear();
        self.lab.cool();
        for (id, version) in self.acknowledged.borrow().iter() {
            let target = self.lab.path("restored");
            self.run(&["restore", id, "--to", target.to_str().unwrap()]).succeeds();
            for (name, bytes) in tree_of(*version) {
                assert!(
                    fs::read(copy_of(&target, &self.tree()).join(&name)).unwrap() == bytes,
                    "{name} of {id}"
                );
            }
            fs::remove_dir_all(&target).unwrap();
        }
        self.run(&["verify"]).succeeds();
        let next = 1 + self.acknowledged.borrow().values().max().unwrap_or(&0);
        self.ingest(next);
        self.run(&["gc", "--grace", "0", "--wait", "0"]).succeeds();
        self.run(&["verify"]).succeeds();
    }
}

/// Returns the files of a version of the tree.
fn tree_of(version: u64) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for number in 0..8 {
        // One file in two is new in each version.
        let change = (version + number) / 2;
        files.insert(format!("folder/{number}"), noise(number * 1000 + change, 150_000));
    }
    files
}
