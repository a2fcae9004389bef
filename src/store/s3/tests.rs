//! The store against a server that answers as S3 does, and fails as it is told.

use std::error::Error;
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::Credentials;
use aws_sdk_s3::config::{Region, SharedCredentialsProvider};
use s3_server::{ACCESS_KEY, Fault, Operation, REGION, Rights, SECRET_KEY, Server, When};

use super::*;
use crate::id::PackId;
use crate::store::retry::Patience;
use crate::store::{conformance, probe};

const BUCKET: &str = "bucket";

fn server() -> Server {
    Server::start(BUCKET).unwrap()
}

fn connect_as(server: &Server, place: &str, options: S3Options, secret: &str) -> S3Store {
    let credentials = Credentials::new(ACCESS_KEY, secret, None, None, "tests");
    let sdk = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .endpoint_url(server.url())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build();
    let place = S3Place::parse(place).unwrap();
    S3Store::with(place, options, Runtime::start().unwrap(), &sdk, Some(server.url()))
}

/// Connects with a patience of two seconds, of which a request may be silent for half a second.
fn connect(server: &Server) -> S3Store {
    let options = S3Options { patience: Patience::new(Duration::from_secs(2)), ..S3Options::default() };
    connect_as(server, "bucket/store", options, SECRET_KEY)
}

fn key(number: u32) -> ObjectKey {
    ObjectKey::config(number)
}

fn pack() -> ObjectKey {
    ObjectKey::pack(&PackId::from_bytes([7; 32]))
}

fn put(store: &S3Store, key: &ObjectKey, bytes: &[u8]) -> Result<Creation, StoreError> {
    store.create(key, Payload::Bytes(bytes))
}

fn listed(store: &S3Store, prefix: Prefix) -> Result<usize, StoreError> {
    let mut count = 0;
    store.list(prefix, &mut |_| count += 1).map(|()| count)
}

/// Returns the whole chain of causes.
fn told(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[test]
fn conforms() {
    let server = server();
    conformance::check(|name| {
        Box::new(connect_as(&server, &format!("bucket/{name}"), S3Options::default(), SECRET_KEY))
    });
}

#[test]
fn a_whole_bucket_conforms_too() {
    let server = server();
    conformance::check(|name| {
        server.create_bucket(name).unwrap();
        Box::new(connect_as(&server, name, S3Options::default(), SECRET_KEY))
    });
}

#[test]
fn conforms_where_the_server_has_neither_conditions_nor_checksums() {
    let server = server();
    server.faults().add(When::on(Operation::Put), Fault::IgnoreCondition);
    let has_checksum = When::always().that(|request| request.header("x-amz-checksum-crc32c").is_some());
    let refused = server.faults().add(has_checksum, Fault::access_denied());
    conformance::check_unconditional(|name| {
        let place = format!("bucket/{name}");
        let store = connect_as(&server, &place, S3Options::default(), SECRET_KEY);
        Box::new(S3Store { checksums: false, ..store })
    });
    assert_eq!(refused.hits(), 0);
}

/// By `scripts/conformance`, which starts servers that others wrote and gives each an empty bucket.
#[test]
#[ignore = "needs a server that scripts/conformance starts"]
fn a_server_of_others_conforms() {
    let bucket = std::env::var("CONFORMANCE_BUCKET").expect("CONFORMANCE_BUCKET names an empty bucket");
    let fresh = |name: &str| {
        let place = S3Place::parse(&format!("{bucket}/{name}")).unwrap();
        S3Store::connect(place, S3Options::default()).unwrap()
    };
    if probe::conditional_create(&fresh("probed")).unwrap() {
        eprintln!("it creates conditionally");
        conformance::check(|name| Box::new(fresh(name)));
    } else {
        eprintln!("it does not create conditionally");
        conformance::check_unconditional(|name| Box::new(fresh(name)));
    }
}

#[test]
fn long_listings_have_all_pages() {
    let (server, mut expected) = (server(), 0);
    let store = connect(&server);
    for number in 0..2_345 {
        server.write(BUCKET, &format!("store/sessions/s.{number}"), b"x").unwrap();
        expected += 1;
    }
    server.write(BUCKET, "store/sessions/what is this?", b"x").unwrap();
    server.write(BUCKET, "store-2/sessions/s.1", b"x").unwrap();
    assert_eq!(listed(&store, Prefix::Sessions).unwrap(), expected);
    assert_eq!(server.counts().now().of(Operation::List), 3);
}

#[test]
fn what_passes_is_sent_again_and_counted() {
    let server = server();
    let store = connect(&server);
    for (operation, fault) in [
        (Operation::Put, Fault::slow_down()),
        (Operation::Put, Fault::internal_error()),
        (Operation::Put, Fault::conflict()),
        (Operation::Put, Fault::CloseBefore),
        (Operation::Put, Fault::CloseAfter),
        (Operation::Put, Fault::ErrorInOk),
        (Operation::Put, Fault::Hang),
        (Operation::Get, Fault::slow_down()),
        (Operation::Get, Fault::CloseAfter),
        (Operation::Get, Fault::CutBody),
        (Operation::Get, Fault::ErrorInOk),
        (Operation::Get, Fault::Hang),
        (Operation::Get, Fault::HangInBody),
        (Operation::List, Fault::slow_down()),
        (Operation::List, Fault::CutBody),
        (Operation::List, Fault::ErrorInOk),
        (Operation::Head, Fault::internal_error()),
        (Operation::Head, Fault::CloseBefore),
        (Operation::Delete, Fault::internal_error()),
        (Operation::Delete, Fault::CloseAfter),
    ] {
        let rule = server.faults().add(When::on(operation).times(1), fault.clone());
        let retries = store.traffic().unwrap().retries;
        let what = format!("{fault:?} on {operation:?}");
        assert_eq!(put(&store, &key(1), b"abcdef").expect(&what), Creation::Created, "{what}");
        assert_eq!(store.get(&key(1), Some(1..5)).expect(&what), b"bcde", "{what}");
        assert_eq!(store.get(&key(1), None).expect(&what), b"abcdef", "{what}");
        assert_eq!(store.size(&key(1)).expect(&what), 6, "{what}");
        assert_eq!(listed(&store, Prefix::Config).expect(&what), 1, "{what}");
        store.delete(&key(1)).expect(&what);
        assert_eq!(listed(&store, Prefix::Config).expect(&what), 0, "{what}");
        assert_eq!(rule.hits(), 1, "{what}");
        assert_eq!(store.traffic().unwrap().retries, retries + 1, "{what}");
        server.faults().release();
        server.faults().clear();
    }
}

#[test]
fn an_error_that_calls_itself_a_success_is_not_the_object() {
    let server = server();
    let store = connect(&server);
    put(&store, &key(1), b"abcdef").unwrap();
    let reads: [&dyn Fn() -> Result<Vec<u8>, StoreError>; 3] =
        [&|| store.get(&key(1), None), &|| store.get(&key(1), Some(0..6)), &|| {
            store.get_within(&key(1), 0..100)
        }];
    for read in reads {
        let rule = server.faults().add(When::on(Operation::Get).times(1), Fault::ErrorInOk);
        assert_eq!(read().unwrap(), b"abcdef");
        assert_eq!(rule.hits(), 1);
    }
}

#[test]
fn what_stays_is_told_at_once_with_advice() {
    let server = server();
    let store = connect(&server);
    put(&store, &key(1), b"a").unwrap();
    for (fault, kind, part, advice) in [
        (Fault::access_denied(), StoreErrorKind::Denied, "AccessDenied", "right"),
        (Fault::expired_token(), StoreErrorKind::Denied, "ExpiredToken", "expired"),
        (Fault::no_such_bucket(), StoreErrorKind::NotAStore, "NoSuchBucket", "bucket's name"),
        (Fault::Elsewhere("eu-north-1"), StoreErrorKind::NotAStore, "PermanentRedirect", "AWS_REGION"),
        (Fault::ClockSkew, StoreErrorKind::Unavailable, "RequestTimeTooSkewed", "clock"),
    ] {
        server.faults().add(When::on(Operation::Get), fault.clone());
        let error = store.get(&key(1), None).unwrap_err();
        assert_eq!(error.kind(), kind, "{}", told(&error));
        assert!(told(&error).contains(part), "{}", told(&error));
        assert!(error.advice().is_some_and(|text| text.contains(advice)), "{fault:?}: {:?}", error.advice());
        server.faults().clear();
    }
    assert_eq!(store.get(&key(1), None).unwrap(), b"a");
}

#[test]
fn patience_ends() {
    let server = server();
    let options = S3Options { patience: Patience::new(Duration::from_millis(400)), ..S3Options::default() };
    let store = connect_as(&server, "bucket/store", options, SECRET_KEY);
    for fault in [Fault::slow_down(), Fault::Hang, Fault::CloseBefore] {
        server.faults().add(When::always(), fault);
        let error = store.get(&key(1), None).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert!(told(&error).contains("tried "), "{}", told(&error));
        server.faults().release();
        server.faults().clear();
    }
    let gone = connect_as(&server, "bucket/store", store.options.clone(), SECRET_KEY);
    drop(server);
    let error = gone.get(&key(1), None).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.advice().is_some_and(|text| text.contains("AWS_ENDPOINT_URL")), "{}", told(&error));
}

/// An upload over a slow line takes longer than the patience of its store, and is sent again when it breaks off.
#[test]
fn what_comes_forward_costs_no_patience() {
    let server = server();
    let patience = Patience::new(Duration::from_millis(800));
    let options = S3Options { patience, upload_limit: Some(200_000), ..S3Options::default() };
    let store = connect_as(&server, "bucket/store", options, SECRET_KEY);
    let bytes = vec![7; 400_000];
    let rule = server.faults().add(When::on(Operation::Put).times(1), Fault::CloseAfter);
    let begun = Instant::now();
    assert_eq!(put(&store, &key(1), &bytes).unwrap(), Creation::Created);
    assert_eq!(rule.hits(), 1);
    assert!(begun.elapsed() > Duration::from_millis(1600), "{:?}", begun.elapsed());
}

#[test]
fn credentials_and_rights_are_named() {
    let server = server();
    let wrong = connect_as(&server, "bucket/store", S3Options::default(), "wrong");
    let error = listed(&wrong, Prefix::Config).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Denied);
    assert!(error.advice().is_some_and(|text| text.contains("AWS_SECRET_ACCESS_KEY")));
    let store = connect(&server);
    put(&store, &key(1), b"a").unwrap();
    server.set_rights(Rights::all().without(Operation::Delete));
    assert_eq!(store.delete(&key(1)).unwrap_err().kind(), StoreErrorKind::Denied);
    server.set_rights(Rights::all().without(Operation::List));
    assert_eq!(listed(&store, Prefix::Config).unwrap_err().kind(), StoreErrorKind::Denied);
    assert_eq!(store.get(&key(1), None).unwrap(), b"a");
}

#[test]
fn a_server_that_ignores_the_condition_is_found_out_and_keeps_what_it_has() {
    let server = server();
    let store = connect(&server);
    server.faults().add(When::on(Operation::Put), Fault::IgnoreCondition);
    assert!(!probe::conditional_create(&store).unwrap());
    assert_eq!(put(&store, &key(1), b"first").unwrap(), Creation::Created);
    assert_eq!(put(&store, &key(1), b"second").unwrap(), Creation::AlreadyExists);
    assert_eq!(store.get(&key(1), None).unwrap(), b"first");
}

#[test]
fn listings_of_the_past_are_found_out() {
    let server = server();
    let store = connect(&server);
    assert!(probe::current_listing(&store).unwrap());
    server.faults().add(When::on(Operation::List), Fault::StaleListing { changes: 1 });
    assert!(!probe::current_listing(&store).unwrap());
}

#[test]
fn the_probe_answers_though_replies_are_lost() {
    let server = server();
    let store = connect(&server);
    server.faults().add(When::on(Operation::Put).times(3), Fault::CloseAfter);
    assert!(probe::conditional_create(&store).unwrap());
}

#[test]
fn a_pack_that_was_sent_twice_is_one() {
    let server = server();
    let store = connect(&server);
    server.faults().add(When::on(Operation::Put).times(1), Fault::CloseAfter);
    put(&store, &pack(), b"sealed").unwrap();
    assert_eq!(store.get(&pack(), None).unwrap(), b"sealed");
    // Its name says what is in it, so that nobody asks whether it is there.
    assert_eq!(server.counts().now().of(Operation::Head), 0);
}

#[test]
fn speed_has_a_bound_in_both_directions() {
    let server = server();
    let limit = Some(400_000);
    let options = S3Options { upload_limit: limit, download_limit: limit, ..S3Options::default() };
    let store = connect_as(&server, "bucket/store", options, SECRET_KEY);
    let bytes = vec![1; 100_000];
    let begun = Instant::now();
    put(&store, &pack(), &bytes).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(200), "{:?}", begun.elapsed());
    let begun = Instant::now();
    assert!(store.get(&pack(), None).unwrap() == bytes);
    assert!(begun.elapsed() >= Duration::from_millis(200), "{:?}", begun.elapsed());
    let traffic = store.traffic().unwrap();
    assert_eq!((traffic.sent_bytes, traffic.received_bytes), (100_000, 100_000));
}

#[test]
fn requests_at_a_time_have_a_bound() {
    let server = server();
    let options = S3Options { connections: 3, ..S3Options::default() };
    let store = connect_as(&server, "bucket/store", options, SECRET_KEY);
    server.faults().add(When::on(Operation::Head), Fault::Hang);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let store = &store;
            scope.spawn(move || store.size(&key(number)));
        }
        while server.faults().hanging() < 3 {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(server.faults().hanging(), 3);
        server.faults().clear();
        server.faults().release();
    });
}

#[test]
fn replies_are_the_ranges_that_were_asked_for() {
    let check = |range: Range<u64>, rest, length, header| {
        check_range(&range, rest, length, header).map_err(|failure| failure.kind)
    };
    let (all, some) = (Rest::MustBeThere, Rest::MayBeMissing);
    assert_eq!(check(2..5, all, 3, Some("bytes 2-4/10")), Ok(()));
    assert_eq!(check(2..15, some, 8, Some("bytes 2-9/10")), Ok(()));
    assert_eq!(check(2..15, all, 8, Some("bytes 2-9/10")), Err(StoreErrorKind::Truncated));
    assert_eq!(check(12..15, some, 0, Some("bytes */10")), Err(StoreErrorKind::Truncated));
    assert_eq!(check(0..10, all, 10, None), Ok(()));
    for (range, length, header) in [
        (2..5, 2, Some("bytes 2-4/10")),
        (2..5, 10, None),
        (2..5, 3, None),
        (0..5, 10, None),
        (2..5, 3, Some("bytes 2-4/*")),
    ] {
        assert_eq!(check(range.clone(), all, length, header), Err(StoreErrorKind::Unavailable), "{range:?}");
    }
}
