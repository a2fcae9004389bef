//! A damaged pack on a mount: reading fails where it must, works where it can, and never gives wrong bytes.

use std::fs;
use std::io;
use std::path::Path;

use rustix::io::Errno;

use crate::harness::{Lab, Need, can, copy_of, flip_largest_pack, flip_middle, noise};

const FILES: u64 = 6;
const FILE_BYTES: usize = 2_000_000;

#[test]
fn s44_damage_is_an_error_of_the_files_it_touches() {
    if !can(&[Need::Root, Need::Fuse]) {
        return;
    }
    let lab = Lab::new();
    let tree = lab.path("tree");
    fs::create_dir(&tree).unwrap();
    // One by one, so that no two share a frame.
    for number in 0..FILES {
        fs::write(tree.join(number.to_string()), noise(number + 50, FILE_BYTES)).unwrap();
        lab.run([Path::new("ingest"), &tree, Path::new("--source"), Path::new("s")]).succeeds();
    }
    let pack = flip_largest_pack(&lab.store());
    lab.cool();

    let mount = lab.mount(&[]);
    let copy = copy_of(&mount.path("sources/s/latest"), &tree);
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
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(fs::read_dir(&copy).unwrap().count(), 6, "directories are elsewhere");
    let log = fs::read_to_string(lab.path("state/mount.log")).unwrap();
    assert!(log.contains("damaged"), "{log}");

    flip_middle(&pack);
    for number in 0..FILES {
        read(number).unwrap();
    }
}
