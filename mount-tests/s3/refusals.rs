//! Servers that refuse: for ever, so that people must do something, or for a while.

use std::time::{Duration, Instant};

use s3_server::{Fault, Operation, Rights, When};

use super::Site;

/// Expects that a command fails at once and says this.
#[track_caller]
fn says(site: &Site, arguments: &[&str], code: i32, parts: &[&str]) {
    let started = Instant::now();
    let ran = site.run(arguments);
    let said = ran.fails(code);
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
    assert!(started.elapsed() < Duration::from_secs(4), "it was tried again and again");
}

#[test]
fn a_wrong_bucket_is_named() {
    let site = Site::new();
    site.ingest(1);
    let elsewhere = ["--store", "s3://acme-backup/backups"];
    for command in ["snapshots", "init"] {
        let parts = ["NoSuchBucket", "hint: check the bucket's name"];
        says(&site, &[&[command], &elsewhere[..]].concat(), 10, &parts);
    }
    says(&site, &["snapshots", "--store", "s3://acme/other"], 10, &["s3://acme/other", "yester init"]);
    site.is_whole();
}

#[test]
fn missing_credentials_are_asked_for() {
    let site = Site::new();
    let mut command = site.command(&["snapshots"]);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let started = Instant::now();
    let ran = crate::harness::Ran::of(&mut command);
    let said = ran.fails(1);
    assert!(said.contains("no credentials") && said.contains("hint: set AWS_ACCESS_KEY_ID"), "{said}");
    assert!(started.elapsed() < Duration::from_secs(4));
    assert_eq!(site.server.counts().log().iter().filter(|request| request.status == Some(403)).count(), 0);
}

#[test]
fn wrong_credentials_are_told_from_missing_rights() {
    let site = Site::new();
    for (variable, code) in
        [("AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch"), ("AWS_ACCESS_KEY_ID", "InvalidAccessKeyId")]
    {
        let ran = crate::harness::Ran::of(site.command(&["snapshots"]).env(variable, "AKIDOTHER"));
        let said = ran.fails(1);
        assert!(said.contains(code) && said.contains("hint: check AWS_ACCESS_KEY_ID"), "{said}");
    }
}

#[test]
fn credentials_that_expire_in_the_middle_lose_what_was_not_acknowledged_alone() {
    let site = Site::new();
    site.ingest(1);
    // Of the requests of an ingest, one after the other is the first with old credentials.
    for first in [0, 4, 7, 9, 10] {
        site.server.faults().add(When::always().after(first), Fault::expired_token());
        let ran = site.try_ingest(first + 2);
        let said = ran.fails(1);
        assert!(
            said.contains("ExpiredToken") && said.contains("hint: the credentials have expired"),
            "{said}"
        );
        site.server.faults().clear();
    }
    site.is_whole();
}

#[test]
fn without_the_right_to_list_nothing_looks_empty() {
    let site = Site::new();
    site.ingest(1);
    site.server.set_rights(Rights::all().without(Operation::List));
    for arguments in [&["snapshots"][..], &["verify"], &["gc"], &["stats"]] {
        says(&site, arguments, 1, &["AccessDenied", "s3:ListBucket", "hint: "]);
    }
    let said = site.try_ingest(2).fails(1).to_owned();
    assert!(said.contains("s3:ListBucket"), "{said}");
    site.server.set_rights(Rights::all());
    site.is_whole();
}

/// As with object lock, default retention or credentials that may put, get and list alone.
#[test]
fn without_the_right_to_delete_everything_works_but_collecting() {
    let site = Site::empty();
    site.server.set_rights(Rights::all().without(Operation::Delete));
    site.run(&["init"]).succeeds();
    for version in 1..5 {
        site.ingest(version);
    }
    for arguments in [
        &["snapshots"][..],
        &["verify"],
        &["stats"],
        &["ls", "latest"],
        &["protect", "latest"],
        &["forget", "--keep-last", "2", "--source", "tree", "--force"],
        &["key", "list"],
    ] {
        site.run(arguments).succeeds();
    }
    let ran = site.run(&["gc", "--grace", "0", "--wait", "0"]);
    let said = ran.fails(1);
    assert!(said.contains("AccessDenied") && said.contains("s3:DeleteObject"), "{said}");
    assert!(said.contains("hint: "), "{said}");
    // A collection that stopped there hurts nobody.
    site.ingest(5);
    site.run(&["verify"]).succeeds();
    site.server.set_rights(Rights::all());
    site.run(&["gc", "--grace", "0", "--wait", "0"]).succeeds();
    // What was forgotten is gone.
    site.acknowledged.borrow_mut().retain(|_, version| *version > 2);
    site.is_whole();
}

#[test]
fn a_wrong_clock_is_told_as_such() {
    let site = Site::new();
    site.ingest(1);
    site.server.faults().add(When::always(), Fault::ClockSkew);
    says(&site, &["snapshots"], 1, &["RequestTimeTooSkewed", "hint: the clock of this machine"]);
    site.is_whole();
}

#[test]
fn a_bucket_in_another_region_is_told_as_such() {
    let site = Site::new();
    site.server.faults().add(When::always(), Fault::Elsewhere("eu-west-1"));
    says(&site, &["snapshots"], 10, &["another region", "AWS_REGION"]);
}

/// A minute of 503 is as many refusals of each request; how long each is waited for is tried where it is decided.
#[test]
fn a_while_of_refusals_is_waited_for() {
    let site = Site::new();
    site.ingest(1);
    for (operation, fault) in [
        (Operation::Put, Fault::slow_down()),
        (Operation::Get, Fault::internal_error()),
        (Operation::List, Fault::slow_down()),
        (Operation::Put, Fault::conflict()),
        (Operation::Get, Fault::CloseBefore),
    ] {
        let rule = site.server.faults().add(When::on(operation).times(5), fault);
        site.ingest(2);
        site.lab.cool();
        site.run(&["verify"]).succeeds();
        assert!(rule.hits() >= 4, "{operation}: {} refusals", rule.hits());
        site.server.faults().clear();
    }
    site.is_whole();
}

#[test]
fn a_server_that_is_busy_for_ever_is_given_up() {
    let site = Site::new();
    site.ingest(1);
    site.server.faults().add(When::always(), Fault::slow_down());
    let started = Instant::now();
    let ran = site.run(&["snapshots"]);
    let said = ran.fails(1);
    assert!(said.contains("SlowDown") && said.contains("tried"), "{said}");
    assert!((Duration::from_secs(2)..Duration::from_secs(15)).contains(&started.elapsed()));
    site.is_whole();
}
