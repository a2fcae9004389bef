//! One byte is flipped in every region of every object of a store: `verify` finds it, and no reader is ever
//! given wrong bytes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use crate::harness::{Lab, noise, succeed};

/// Where the fields of a sealed object's header begin, up to the host's name: see `format::header`.
const HEADER_FIELDS: [usize; 8] = [0, 8, 9, 10, 11, 12, 28, 44];
/// Where the host's name begins; behind it lie the encapsulated key (32 bytes) and the sealed key (48).
const HOST: usize = 45;
/// Length of the trailer of packs and index objects: a length and a magic.
const TRAILER_BYTES: usize = 16;
/// Places between header and trailer that are tried; the store is small enough for each part to get some.
const SAMPLES: usize = 24;

#[test]
fn flipped_bytes_are_found_and_never_read() {
    let lab = Lab::new();
    let source = lab.path("source");
    fs::create_dir(&source).unwrap();
    // Frames of several small chunks and of a single one, compressed and raw, and a list that spills.
    for number in 0..40 {
        fs::write(source.join(format!("small{number}")), format!("{number} ").repeat(500)).unwrap();
    }
    fs::write(source.join("noise"), noise(5, 700_000)).unwrap();
    fs::write(source.join("text"), "the same line again\n".repeat(20_000)).unwrap();
    lab.run(["ingest", source.to_str().unwrap(), "--source", "flips"]).succeeds();

    let objects = objects(&lab.store());
    let kinds: BTreeSet<_> = objects.iter().filter_map(|object| object.components().next()).collect();
    assert_eq!(kinds.len(), 6, "config, keys, packs, index, sessions, snapshots: {objects:?}");
    let half = objects.len() / 2;
    let (first, second) = objects.split_at(half);
    thread::scope(|scope| {
        for (worker, part) in [first, second].into_iter().enumerate() {
            let (lab, source) = (&lab, &source);
            scope.spawn(move || flip_all(lab, source, &format!("worker{worker}"), part));
        }
    });
}

/// Returns the paths of all objects, relative to the store.
fn objects(store: &Path) -> Vec<PathBuf> {
    let listed = succeed(
        Command::new("find")
            .args([".", "-type", "f", "-not", "-path", "./tmp/*", "-printf", "%P\\n"])
            .current_dir(store),
    );
    let mut objects: Vec<PathBuf> = listed.lines().map(PathBuf::from).collect();
    objects.sort();
    objects
}

/// Works on a copy of the store of its own.
fn flip_all(lab: &Lab, source: &Path, worker: &str, objects: &[PathBuf]) {
    let folder = lab.path(worker);
    fs::create_dir(&folder).unwrap();
    let store = folder.join("store");
    succeed(Command::new("cp").arg("-a").args([&lab.store(), &store]));
    for object in objects {
        let path = store.join(object);
        let whole = fs::read(&path).unwrap();
        for offset in offsets(object, &whole) {
            let mut flipped = whole.clone();
            flipped[offset] ^= 1;
            replace(&path, &flipped);
            check(lab, source, &folder, &format!("{} at {offset}", object.display()));
        }
        replace(&path, &whole);
    }
}

/// Returns a place in every region of an object.
fn offsets(object: &Path, bytes: &[u8]) -> BTreeSet<usize> {
    let last = bytes.len() - 1;
    let mut offsets: BTreeSet<usize> = (0..SAMPLES).map(|sample| last * sample / (SAMPLES - 1)).collect();
    let is_sealed = object.extension().is_none_or(|extension| extension != "json");
    if is_sealed {
        let host_end = HOST + usize::from(bytes[HOST - 1]);
        offsets.extend(HEADER_FIELDS);
        offsets.extend([HOST, host_end, host_end + 31, host_end + 32, host_end + 79, host_end + 80]);
        let trailer = bytes.len() - TRAILER_BYTES;
        offsets.extend([trailer - 1, trailer, trailer + 7, trailer + 8, last]);
    }
    offsets.retain(|offset| *offset <= last);
    offsets
}

/// Runs `verify` and `restore` on a host that never saw the store.
fn check(lab: &Lab, source: &Path, folder: &Path, flip: &str) {
    let run = |arguments: &[&str]| {
        for name in ["cache", "state"] {
            let _ = fs::remove_dir_all(folder.join(name));
        }
        let output = lab
            .command(arguments)
            .env("YESTER_STORE", folder.join("store"))
            .env("CACHE_DIRECTORY", folder.join("cache"))
            .env("STATE_DIRECTORY", folder.join("state"))
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, error) = run(&["verify"]);
    let is_newer_version = flip.starts_with("config/") && error.contains("newer yester");
    assert!(code == Some(13) || is_newer_version, "{flip}: verify exits with {code:?}\n{error}");

    let target = folder.join("restored");
    let _ = fs::remove_dir_all(&target);
    let (code, error) = run(&["restore", "latest", "--to", target.to_str().unwrap()]);
    let restored = target.join(source.strip_prefix("/").unwrap());
    let mut missing = 0;
    for entry in fs::read_dir(source).unwrap() {
        let entry = entry.unwrap();
        match fs::read(restored.join(entry.file_name())) {
            Ok(bytes) => {
                assert!(bytes == fs::read(entry.path()).unwrap(), "{flip}: wrong bytes were restored")
            }
            Err(_) => missing += 1,
        }
    }
    assert!(missing == 0 || code != Some(0), "{flip}: {missing} files are missing without a word\n{error}");
}

/// Replaces an object's bytes, which the store keeps read-only.
fn replace(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}
