//! What the kernel is handed, or finds decoded, before it asks for it.

use crossbeam_channel::unbounded;

use super::super::pages::testing::{Kept, PATIENCE};
use super::super::support::{Sandbox, Sketch, contents, directory, file, find, list, noise};

fn files() -> Sketch {
    directory([("x", file("1")), ("y", file("22")), ("z", file("333"))])
}

#[test]
fn who_read_files_of_two_directories_is_handed_those_of_the_third_when_it_was_listed() {
    let sandbox = Sandbox::new();
    let root = directory([("a", files()), ("b", files()), ("c", files())]);
    let vfs = sandbox.only(&sandbox.commit("etc", root));
    let kept = Kept::default();
    vfs.attach(Box::new(kept.clone()));
    for path in ["a", "b"] {
        list(&vfs, path);
        contents(&vfs, &format!("{path}/x"), 100);
    }
    let listed = list(&vfs, "c");
    // The first one is left to be asked for.
    assert_eq!(kept.wait(), (listed[1], 0, b"22".to_vec()));
    assert_eq!(kept.wait(), (listed[2], 0, b"333".to_vec()));
}

#[test]
fn who_reads_a_second_file_of_a_directory_is_handed_those_behind_it() {
    let sandbox = Sandbox::new();
    let vfs = sandbox.only(&sandbox.commit("etc", directory([("a", files())])));
    let kept = Kept::default();
    vfs.attach(Box::new(kept.clone()));
    let listed = list(&vfs, "a");
    contents(&vfs, "a/x", 100);
    contents(&vfs, "a/y", 100);
    assert_eq!(kept.wait(), (listed[2], 0, b"333".to_vec()));
}

#[test]
fn who_reads_at_random_is_handed_what_stands_around() {
    let sandbox = Sandbox::new();
    let bytes = noise(1 << 20, 1);
    let manifest = sandbox.commit("db", directory([("dump", Sketch::File(bytes.clone()))]));
    let vfs = sandbox.only(&manifest);
    let kept = Kept::default();
    vfs.attach(Box::new(kept.clone()));
    let inode = find(&vfs, "dump").inode;
    assert_eq!(vfs.read(inode, 700_001, &mut [0; 10]).unwrap(), 10);
    let (handed, offset, piece) = kept.wait();
    let start = usize::try_from(offset).unwrap();
    let range = start..start + piece.len();
    assert!(handed == inode && range.start < 700_001 && range.end > 700_011, "{range:?} of {handed}");
    assert!(bytes[range] == piece);
}

/// What lies a mebibyte into the pack is far behind the end of both reads.
#[test]
fn who_reads_a_file_from_its_start_finds_the_rest_decoded() {
    let mut sandbox = Sandbox::new();
    let manifest = sandbox.commit("db", directory([("dump", Sketch::File(noise(2 << 20, 1)))]));
    let store = sandbox.reopen_observed();
    let (asked, requests) = unbounded();
    store.script(move |call| {
        let _ = asked.send(call.range.as_ref().map_or(0, |range| range.start));
        None
    });
    let vfs = sandbox.only(&manifest);
    let inode = find(&vfs, "dump").inode;
    let mut buffer = vec![0; 128 << 10];
    for offset in [0, 128 << 10] {
        assert_eq!(vfs.read(inode, offset, &mut buffer).unwrap(), buffer.len());
    }
    while requests.recv_timeout(PATIENCE).unwrap() < 1 << 20 {}
}
