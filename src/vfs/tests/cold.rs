//! Mounts on a host with an empty cache: what they read of the store before they answer, and what keeps nobody waiting.

use std::sync::Arc;

use super::*;
use crate::format::snapshot::Manifest;
use crate::store::fault::{Call, Fault, Gate, Operation};

const SNAPSHOTS: usize = 12;

/// A store to which each of many snapshots added a file, and the last of them.
fn world() -> (Sandbox, Manifest) {
    let sandbox = Sandbox::new();
    let commit = |number: usize| {
        sandbox.commit(
            "etc",
            directory([("own", file(&format!("the file of {number}"))), ("same", file("same"))]),
        )
    };
    let mut commits: Vec<_> = (0..SNAPSHOTS).map(commit).collect();
    (sandbox, commits.remove(SNAPSHOTS - 1))
}

fn gets<'a>(calls: &'a [Call], prefix: &str) -> Vec<&'a Call> {
    let is_meant = |call: &&Call| call.operation == Operation::Get && call.object.starts_with(prefix);
    calls.iter().filter(is_meant).collect()
}

#[test]
fn one_snapshot_is_mounted_by_its_manifest_and_read_by_what_it_needs_of_the_index() {
    let (mut sandbox, last) = world();
    let observed = sandbox.reopen_observed();
    observed.clear_calls();
    let manifest = sandbox.repo.find_snapshot(&last.id.hex()).unwrap().manifest;
    let vfs = sandbox.only(&manifest);
    vfs.attributes(ROOT_INODE).unwrap();
    let calls = observed.calls();
    assert_eq!(gets(&calls, "snapshots/").len(), 1);
    assert_eq!(gets(&calls, "").len(), 1, "{calls:?}");

    // All but what its own session wrote hangs, and nobody waits for it.
    let gate = Gate::new();
    let closed = Arc::clone(&gate);
    observed.script(move |call| {
        let is_held = call.object.starts_with("index/2") && !call.object.contains(&last.id.to_string());
        is_held.then(|| Fault::Block(Arc::clone(&closed)))
    });
    let text = format!("the file of {}", SNAPSHOTS - 1);
    assert_eq!(contents(&vfs, "own", 100), text.as_bytes());
    let calls = observed.calls();
    let index = gets(&calls, "index/");
    assert!(index[0].object.contains(&manifest.id.to_string()), "{index:?}");
    assert!(index.len() <= 2, "what was under way is the most: {index:?}");
    assert_eq!(gets(&calls, "packs/").len(), 2, "a page and a file");
    gate.release();
}

#[test]
fn all_snapshots_are_shown_while_the_index_comes() {
    let (mut sandbox, last) = world();
    let observed = sandbox.reopen_observed();
    let gate = Gate::new();
    let closed = Arc::clone(&gate);
    observed.script(move |call| {
        let is_held = call.operation == Operation::Get && call.object.starts_with("index/");
        is_held.then(|| Fault::Block(Arc::clone(&closed)))
    });
    let vfs = sandbox.all();
    gate.wait_for_arrivals(1).unwrap();
    let shown = names(&vfs, "snapshots");
    assert_eq!(shown.len(), SNAPSHOTS);
    let name = shown.iter().find(|name| name.ends_with(&last.id.short())).unwrap();
    std::thread::scope(|scope| {
        let read = scope.spawn(|| contents(&vfs, &format!("snapshots/{name}/same"), 100));
        gate.release();
        assert_eq!(read.join().unwrap(), b"same");
    });
}
