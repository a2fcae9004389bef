//! A damaged pack on a mount: reading fails where it must, works where it can, and never gives wrong bytes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::harness::{Lab, Need, can, noise, succeed};

const FILES: u64 = 6;
const FILE_BYTES: usize = 2_000_000;

#[test]
fn damage_is_an_error_of_the_files_it_touches() {
    if !can(&[Need::Root, Need::Fuse]) {
        return;
    }
    let lab = Lab::new();
    let tree = lab.path("tree");
    fs::create_dir(&tree).unwrap();
    for number in 0..FILES {
        fs::write(tree.join(number.to_string()), noise(number + 50, FILE_BYTES)).unwrap();
    }
    lab.run([Path::new("ingest"), &tree, Path::new("--source"), Path::new("s")]).succeeds();
    let pack = largest_object(&lab.store().join("packs"));
    flip_middle(&pack);
    lab.cool();

    let mount = lab.mount(&[]);
    let copy = mount.path("sources/s/latest").join(tree.strip_prefix("/").unwrap());
    let read = |number: u64| -> io::Result<()> {
        let bytes = fs::read(copy.join(number.to_string()))?;
        assert!(bytes == noise(number + 50, FILE_BYTES), "wrong bytes of file {number}");
        Ok(())
    };
    let failed: Vec<u64> = (0..FILES)
        .filter(|number| {
            let result = read(*number);
            if let Err(error) = &result {
                assert_eq!(Errno::from_io_error(error), Some(Errno::IO));
            }
            result.is_err()
        })
        .collect();
    assert!(matches!(failed.len(), 1 | 2), "one frame touches two files at most: {failed:?}");
    assert_eq!(fs::read_dir(&copy).unwrap().count(), 6, "directories are elsewhere");
    let log = fs::read_to_string(lab.path("state/mount.log")).unwrap();
    assert!(log.contains("damaged"), "{log}");

    flip_middle(&pack);
    for number in 0..FILES {
        read(number).unwrap();
    }
}

fn largest_object(folder: &Path) -> PathBuf {
    let mut find = std::process::Command::new("find");
    let listed = succeed(find.arg(folder).args(["-type", "f", "-printf", "%s %p\\n"]));
    let sized = listed.lines().filter_map(|line| line.split_once(' '));
    sized.max_by_key(|(size, _)| size.parse::<u64>().unwrap()).unwrap().1.into()
}

/// Flips a bit in the middle, where frames are.
fn flip_middle(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}
