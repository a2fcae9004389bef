//! Listings that leave keys out or lag behind, though S3 promises neither.

use s3_server::{Fault, Operation, When};

use super::{BUCKET, Site};

/// Collecting garbage looks twice, so that one listing which lies condemns nothing for good.
#[test]
fn no_single_listing_makes_a_collection_lose_anything() {
    for fault in [
        Fault::ShortListing { keys: 0 },
        Fault::ShortListing { keys: 1 },
        Fault::StaleListing { changes: 12 },
    ] {
        let site = Site::new();
        for version in 1..6 {
            site.ingest(version);
        }
        site.run(&["forget", "--keep-last", "3", "--source", "tree", "--force"]).succeeds();
        site.acknowledged.borrow_mut().retain(|_, version| *version > 2);
        let mut nth = 0;
        loop {
            let rule = site.server.faults().add(When::on(Operation::List).after(nth).times(1), fault.clone());
            // It succeeds or stops: what counts is what is left.
            let _ = site.run(&["gc", "--grace", "0", "--wait", "0"]);
            let has_met_it = rule.hits() > 0;
            site.server.faults().clear();
            site.run(&["verify"]).succeeds();
            if !has_met_it {
                break;
            }
            nth += 1;
        }
        assert!((8..100).contains(&nth), "a collection lists {nth} times");
        site.is_whole();
    }
}

#[test]
fn a_backup_that_sees_an_old_listing_stores_more_and_is_whole() {
    let site = Site::new();
    for (version, changes) in (1..).zip([0, 1, 2, 5, 20]) {
        site.server.faults().add(When::on(Operation::List), Fault::StaleListing { changes });
        site.ingest(version);
        site.server.faults().clear();
    }
    site.is_whole();
}

#[test]
fn a_reader_from_whom_index_objects_are_kept_says_so() {
    let site = Site::new();
    for version in 1..4 {
        site.ingest(version);
    }
    let short = Fault::ShortListing { keys: 1 };
    site.server.faults().add(When::on(Operation::List).key("/index/"), short);
    site.lab.cool();
    let target = site.lab.path("missing");
    let ran = site.run(&["restore", "latest", "--to", target.to_str().unwrap()]);
    assert!(ran.fails(13).contains("is in no pack of the store"), "{}", ran.stderr);
    site.is_whole();
    assert_eq!(site.server.keys(BUCKET, "backups/snapshots/").unwrap().len(), 4);
}
