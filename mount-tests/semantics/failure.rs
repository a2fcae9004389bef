//! What a mount does without its store.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::{NEEDS, copy_of, snapshot_of};
use crate::harness::{can, noise};

const FILE_BYTES: usize = 600_000;

#[test]
fn s42_without_the_store_reading_fails_soon_and_works_again_with_it() {
    if !can(&NEEDS) {
        return;
    }
    let (lab, tree) = snapshot_of(|tree| {
        for number in 0..8_u64 {
            fs::write(tree.join(number.to_string()), noise(number, FILE_BYTES)).unwrap();
        }
    });
    let mount = lab.mount(&[]);
    let copy = copy_of(&mount, &tree);
    let first = fs::read(copy.join("0")).unwrap();
    // The server has the store's directory open, so that only what is in it can go.
    let (packs, elsewhere) = (lab.store().join("packs"), lab.path("elsewhere"));
    fs::rename(&packs, &elsewhere).unwrap();
    let read = |number: usize| fs::read(copy.join(number.to_string()));
    let began = Instant::now();
    let failed = (1..8).filter(|number| refused(read(*number), *number)).count();
    assert!(failed > 0, "not everything is in caches");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(fs::read_dir(mount.path("snapshots")).unwrap().count(), 1, "the last list is shown");
    assert!(fs::read(copy.join("0")).unwrap() == first, "what the kernel holds can be read");
    fs::rename(&elsewhere, &packs).unwrap();
    for number in 0..8 {
        assert!(read(number).unwrap() == noise(number as u64, FILE_BYTES), "{number}");
    }
}

/// Tells whether a read failed as it must; one that did not must be right.
fn refused(result: std::io::Result<Vec<u8>>, number: usize) -> bool {
    match result {
        Ok(bytes) => {
            assert!(bytes == noise(number as u64, FILE_BYTES));
            false
        }
        Err(error) => {
            assert_eq!(Errno::from_io_error(&error), Some(Errno::IO));
            true
        }
    }
}

#[test]
fn s43_a_mount_ends_without_its_store() {
    if !can(&NEEDS) {
        return;
    }
    let (lab, tree) = snapshot_of(|tree| fs::write(tree.join("file"), "x").unwrap());
    let mount = lab.mount(&[]);
    fs::rename(lab.store(), lab.path("elsewhere")).unwrap();
    let _ = fs::read(copy_of(&mount, &tree).join("file"));
    lab.run([Path::new("umount"), &mount.path("")]).succeeds();
    assert!(!mount.is_listed());
}
