//! Puts whose outcome nobody hears of, and conditions that a server does not keep.

use s3_server::{Fault, Operation, When};

use super::{BUCKET, Site};

#[test]
fn replies_that_are_lost_after_the_deed_do_not_matter() {
    let site = Site::new();
    for (version, part) in (1..).zip(["/sessions/", "/packs/", "/index/", "/snapshots/"]) {
        let rule = site.server.faults().add(When::on(Operation::Put).key(part).times(1), Fault::CloseAfter);
        site.ingest(version);
        assert_eq!(rule.hits(), 1, "{part}");
    }
    assert_eq!(site.server.keys(BUCKET, "backups/snapshots/").unwrap().len(), 4);
    let rule = site.server.faults().add(When::on(Operation::Put).key("/marks/").times(1), Fault::CloseAfter);
    site.run(&["protect", "latest"]).succeeds();
    assert_eq!(rule.hits(), 1);
    let rule = site.server.faults().add(When::on(Operation::Put).times(1), Fault::CloseAfter);
    site.run(&["gc", "--grace", "0", "--wait", "0"]).succeeds();
    assert_eq!(rule.hits(), 1);
    site.is_whole();
}

#[test]
fn a_store_is_created_though_replies_are_lost() {
    let site = Site::empty();
    let part =
        |part| site.server.faults().add(When::on(Operation::Put).key(part).times(1), Fault::CloseAfter);
    let rules = [part("/keys/"), part("/config/")];
    site.run(&["init"]).succeeds();
    assert_eq!(rules.map(|rule| rule.hits()), [1, 1]);
    let said = site.run(&["init"]);
    assert!(said.fails(1).contains("nothing was changed"), "{}", said.stderr);
    site.is_whole();
}

#[test]
fn where_conditions_are_ignored_nothing_is_collected() {
    let site = Site::new();
    site.server.faults().add(When::on(Operation::Put), Fault::IgnoreCondition);
    for version in 1..4 {
        site.ingest(version);
    }
    site.run(&["forget", "--keep-last", "1", "--source", "tree", "--force"]).succeeds();
    let before = site.server.keys(BUCKET, "backups/packs/").unwrap();
    let ran = site.run(&["gc", "--grace", "0", "--wait", "0"]);
    let said = ran.fails(1);
    assert!(said.contains("--exclusive"), "{said}");
    assert_eq!(site.server.keys(BUCKET, "backups/packs/").unwrap(), before);
    site.run(&["gc", "--grace", "0", "--wait", "0", "--exclusive"]).succeeds();
    site.acknowledged.borrow_mut().retain(|_, version| *version == 3);
    site.is_whole();
}
