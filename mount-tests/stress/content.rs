//! What is backed up: small trees and a dump, of which a little changes from version to version. The content is a function
//! of seed, writer and version, so that any snapshot can be compared with what it should hold, whoever committed it and
//! whether or not that was ever reported.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Writers from here on store a stream instead of a tree.
pub(crate) const FIRST_STREAM: u64 = 6;
/// The name of a stream.
pub(crate) const STREAM: &str = "dump";
const SMALL_FILES: u64 = 14;
const DUMP_BLOCKS: u64 = 12;
const DUMP_BLOCK_BYTES: usize = 20_000;

/// Files by their paths.
pub(crate) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Returns what one version of a writer's source holds.
pub(crate) fn files(seed: u64, writer: u64, version: u64) -> Files {
    if writer >= FIRST_STREAM {
        return Files::from([(PathBuf::from(STREAM), dump(seed, writer, version))]);
    }
    let mut files = Files::from([(PathBuf::from("data/table"), dump(seed, writer, version))]);
    for file in 0..SMALL_FILES {
        // Every third file changes by itself, and all of the others are the same for all writers.
        let is_own = file % 3 == 0;
        let owner = if is_own { writer } else { 1000 };
        let change = if is_own { (version + file) / (1 + file % 5) } else { version / 16 };
        let length = 300 + usize::try_from(file * file * 40).unwrap();
        let name = PathBuf::from(format!("folder-{}/file-{file}", file % 4));
        files.insert(name, noise(&[seed, owner, file, change], length));
    }
    files
}

/// A file of blocks, of which one or two change in each version: what deltas are for.
fn dump(seed: u64, writer: u64, version: u64) -> Vec<u8> {
    let blocks = 0..DUMP_BLOCKS;
    blocks
        .flat_map(|block| {
            let change = (version + block) / DUMP_BLOCKS;
            noise(&[seed, writer, 100 + block, change], DUMP_BLOCK_BYTES)
        })
        .collect()
}

/// Returns bytes that are the same for the same names; half of them compress.
fn noise(names: &[u64], length: usize) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    for name in names {
        hasher.update(&name.to_le_bytes());
    }
    let mut bytes = vec![0; length];
    hasher.finalize_xof().fill(&mut bytes);
    for word in bytes.chunks_mut(32).skip(1).step_by(2) {
        word.fill(b' ');
    }
    bytes
}

/// Writes files below `folder`, those alone that differ from what is there.
pub(crate) fn write(folder: &Path, files: &Files) {
    for (name, bytes) in files {
        let path = folder.join(name);
        if fs::read(&path).is_ok_and(|there| there == *bytes) {
            continue;
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// Reads all files below `folder`.
pub(crate) fn read(folder: &Path) -> Files {
    let mut files = Files::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(&below).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                let name = entry.path().strip_prefix(folder).unwrap().to_owned();
                files.insert(name, fs::read(entry.path()).unwrap());
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_differs_from_the_one_before_in_a_little() {
        for writer in [0, FIRST_STREAM] {
            let (one, other) = (files(1, writer, 7), files(1, writer, 8));
            assert_eq!(one, files(1, writer, 7), "it is the same every time");
            assert!(one != other && one.keys().eq(other.keys()));
            let bytes = |files: &Files| files.values().flatten().copied().collect::<Vec<u8>>();
            let (one, other) = (bytes(&one), bytes(&other));
            let changed = one.iter().zip(&other).filter(|(one, other)| one != other).count();
            assert!(changed < one.len() / 5, "{changed} of {} bytes", one.len());
        }
        assert_ne!(files(1, 0, 7), files(2, 0, 7));
    }
}
