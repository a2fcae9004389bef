//! Replies that are not what was stored: cut short, changed, or an error that calls itself a success.

use std::fs;

use rustix::io::Errno;
use s3_server::{Fault, Operation, When};

use super::{BUCKET, Site, tree_of};
use crate::harness::{Need, can, copy_of};

#[test]
fn cut_bodies_are_read_again() {
    let site = Site::new();
    site.ingest(1);
    site.ingest(2);
    site.server.faults().at_random(7, 3, &[Fault::CutBody]);
    site.lab.cool();
    site.run(&["verify"]).succeeds();
    site.ingest(3);
    assert!(site.server.faults().injected()["cut body"] > 3);
    site.is_whole();
}

#[test]
fn an_error_that_calls_itself_a_success_is_none() {
    let site = Site::new();
    site.ingest(1);
    site.server.faults().at_random(8, 4, &[Fault::ErrorInOk]);
    site.ingest(2);
    site.lab.cool();
    site.run(&["verify"]).succeeds();
    site.ingest(3);
    assert!(site.server.faults().injected()["error in 200"] > 3);
    site.is_whole();
}

#[test]
fn wrong_bytes_are_never_taken_for_right_ones() {
    let site = Site::new();
    site.ingest(1);
    let always = site.server.faults().add(When::on(Operation::Get).key("/packs/"), Fault::FlipBit);
    site.lab.cool();
    let target = site.lab.path("wrong");
    let ran = site.run(&["restore", "latest", "--to", target.to_str().unwrap()]);
    let said = ran.fails(13);
    assert!(said.contains("damaged"), "{said}");
    assert!(always.hits() > 0);
    site.is_whole();
}

#[test]
fn a_bit_that_flips_on_the_way_does_not_stay() {
    let site = Site::new();
    site.ingest(1);
    for part in ["/config/", "/keys/", "/snapshots/", "/index/"] {
        let rule = site.server.faults().add(When::on(Operation::Get).key(part).times(1), Fault::FlipBit);
        site.lab.cool();
        // Its checksum comes with an object that is read whole.
        site.run(&["verify"]).succeeds();
        assert_eq!(rule.hits(), 1, "{part}");
    }
    // Of a pack, parts are read: what is wrong is told by its seal or its hash, and it is read once more.
    let rule = site.server.faults().add(When::on(Operation::Get).key("/packs/").times(1), Fault::FlipBit);
    site.lab.cool();
    site.run(&["verify"]).succeeds();
    assert_eq!(rule.hits(), 1);
    site.is_whole();
}

#[test]
fn a_mount_does_not_keep_what_came_wrong() {
    if !can(&[Need::Root, Need::Fuse]) {
        return;
    }
    let site = Site::new();
    site.ingest(1);
    site.lab.cool();
    let mount = site.lab.mount(&[]);
    let copy = copy_of(&mount.path("sources/tree/latest"), &site.tree());
    let names: Vec<_> =
        fs::read_dir(copy.join("folder")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let rule = site.server.faults().add(When::on(Operation::Get).key("/packs/").times(1), Fault::FlipBit);
    for name in &names {
        match fs::read(name) {
            Err(error) => assert_eq!(Errno::from_io_error(&error), Some(Errno::IO)),
            Ok(bytes) => {
                let name = format!("folder/{}", name.file_name().unwrap().to_str().unwrap());
                assert!(bytes == tree_of(1)[&name], "wrong bytes of {name}");
            }
        }
    }
    assert_eq!(rule.hits(), 1);
    for name in &names {
        fs::read(name).unwrap();
    }
    drop(mount);
    site.is_whole();
}

#[test]
fn what_is_damaged_in_the_bucket_is_named() {
    let site = Site::new();
    site.ingest(1);
    let packs = site.server.keys(BUCKET, "backups/packs/").unwrap();
    let sized = packs.iter().map(|key| (site.server.read(BUCKET, key).unwrap(), key));
    let (mut bytes, key) = sized.max_by_key(|(bytes, _)| bytes.len()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    site.server.write(BUCKET, key, &bytes).unwrap();
    let ran = site.run(&["verify"]);
    let said = format!("{}{}", ran.fails(13), String::from_utf8_lossy(&ran.stdout));
    assert!(said.contains(&key[key.len() - 64..][..8]), "{said}");
    bytes[middle] ^= 1;
    site.server.write(BUCKET, key, &bytes).unwrap();
    let _ = fs::remove_dir_all(site.lab.path("restored"));
    site.is_whole();
}
