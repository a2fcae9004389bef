//! What the server promises, tried with the client library that the store uses.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests say what they expect by failing")]

use std::future::Future;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, StalledStreamProtectionConfig};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode, StorageClass};

use super::*;

fn server() -> Server {
    Server::start("bucket").unwrap()
}

fn client(server: &Server) -> Client {
    client_of(server, ACCESS_KEY, SECRET_KEY)
}

fn client_of(server: &Server, access_key: &str, secret_key: &str) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(server.url())
        .region(Region::new(REGION))
        .credentials_provider(Credentials::new(access_key, secret_key, None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .force_path_style(true)
        .build();
    Client::from_conf(config)
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), future).await.expect("it hangs") })
}

fn put(client: &Client, key: &str, bytes: &[u8]) -> PutObjectFluentBuilder {
    client.put_object().bucket("bucket").key(key).body(ByteStream::from(bytes.to_vec()))
}

/// Returns status and code of a refusal.
fn refused<T: std::fmt::Debug, E: ProvideErrorMetadata + std::fmt::Debug>(
    result: Result<T, SdkError<E>>,
) -> (u16, String) {
    let error = result.unwrap_err();
    let status = error.raw_response().unwrap_or_else(|| panic!("no reply: {error:?}")).status().as_u16();
    (status, error.code().unwrap_or("").to_owned())
}

async fn get(client: &Client, key: &str, range: Option<&str>) -> Result<Vec<u8>, String> {
    let request = client.get_object().bucket("bucket").key(key).set_range(range.map(str::to_owned));
    let reply = request.send().await.map_err(|error| format!("{:?}", error.code()))?;
    let body = reply.body.collect().await.map_err(|error| format!("{error:?}"))?;
    Ok(body.to_vec())
}

/// Lists to the end, by pages of so many keys.
async fn keys(client: &Client, prefix: &str, page: i32) -> Vec<String> {
    let request = client.list_objects_v2().bucket("bucket").prefix(prefix).max_keys(page);
    let mut pages = request.into_paginator().send();
    let mut keys = Vec::new();
    while let Some(page) = pages.next().await {
        keys.extend(page.unwrap().contents().iter().map(|object| object.key().unwrap().to_owned()));
    }
    keys
}

/// Bytes that do not repeat soon.
fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56).to_le_bytes()[0]).collect()
}

#[test]
fn of_racing_conditional_puts_one_wins_and_its_bytes_stay() {
    let server = server();
    wait(async {
        for round in 0..20 {
            let key = format!("race/{round}");
            let racers: Vec<_> = (0..16_u8)
                .map(|racer| {
                    // Clients of their own, so that each has its own connection.
                    let put = put(&client(&server), &key, &vec![racer; 50_000]).if_none_match("*");
                    tokio::spawn(put.send())
                })
                .collect();
            let mut winners = Vec::new();
            for (racer, task) in (0_u8..).zip(racers) {
                match task.await.unwrap() {
                    Ok(_) => winners.push(racer),
                    Err(error) => assert_eq!(error.code(), Some("PreconditionFailed"), "{error:?}"),
                }
            }
            assert_eq!(winners.len(), 1, "{winners:?}");
            assert_eq!(server.read("bucket", &key).unwrap(), vec![winners[0]; 50_000]);
        }
    });
}

#[test]
fn a_put_without_a_condition_replaces() {
    let server = server();
    let client = client(&server);
    wait(async {
        put(&client, "k", b"old").send().await.unwrap();
        assert_eq!(
            refused(put(&client, "k", b"new").if_none_match("*").send().await),
            (412, "PreconditionFailed".into())
        );
        put(&client, "k", b"newer").send().await.unwrap();
        assert_eq!(get(&client, "k", None).await.unwrap(), b"newer");
    });
}

#[test]
fn ranges_are_those_of_http() {
    let server = server();
    let client = client(&server);
    wait(async {
        let bytes = noise(1_000_000);
        put(&client, "k", &bytes).send().await.unwrap();
        put(&client, "empty", b"").send().await.unwrap();
        assert_eq!(get(&client, "k", None).await.unwrap(), bytes);
        assert_eq!(get(&client, "k", Some("bytes=10-19")).await.unwrap(), bytes[10..20]);
        assert_eq!(get(&client, "k", Some("bytes=300000-899999")).await.unwrap(), bytes[300_000..900_000]);
        assert_eq!(get(&client, "k", Some("bytes=999990-")).await.unwrap(), bytes[999_990..]);
        assert_eq!(get(&client, "k", Some("bytes=999990-2000000")).await.unwrap(), bytes[999_990..]);
        assert_eq!(get(&client, "k", Some("bytes=-7")).await.unwrap(), bytes[999_993..]);
        assert_eq!(get(&client, "empty", None).await.unwrap(), b"");
        let ranged =
            |key: &str, range: &str| client.get_object().bucket("bucket").key(key).range(range).send();
        assert_eq!(refused(ranged("k", "bytes=1000000-1000001").await), (416, "InvalidRange".into()));
        assert_eq!(refused(ranged("empty", "bytes=0-0").await), (416, "InvalidRange".into()));
        assert_eq!(refused(ranged("empty", "bytes=-5").await), (416, "InvalidRange".into()));
        let reply = ranged("k", "bytes=5-9").await.unwrap();
        assert_eq!(reply.content_range(), Some("bytes 5-9/1000000"));
        assert_eq!(reply.content_length(), Some(5));
    });
}

#[test]
fn what_is_absent_is_told() {
    let server = server();
    let client = client(&server);
    wait(async {
        put(&client, "k", b"123").send().await.unwrap();
        let head = |bucket: &str, key: &str| client.head_object().bucket(bucket).key(key).send();
        assert_eq!(head("bucket", "k").await.unwrap().content_length(), Some(3));
        assert_eq!(refused(head("bucket", "absent").await).0, 404);
        assert_eq!(get(&client, "absent", None).await.unwrap_err(), "Some(\"NoSuchKey\")");
        let delete = |key: &str| client.delete_object().bucket("bucket").key(key).send();
        delete("k").await.unwrap();
        delete("k").await.unwrap();
        assert_eq!(refused(head("bucket", "k").await).0, 404);
        let elsewhere = client.get_object().bucket("elsewhere").key("k").send().await;
        assert_eq!(refused(elsewhere), (404, "NoSuchBucket".into()));
        let elsewhere = client.list_objects_v2().bucket("elsewhere").send().await;
        assert_eq!(refused(elsewhere), (404, "NoSuchBucket".into()));
        let elsewhere = client.put_object().bucket("elsewhere").key("k").send().await;
        assert_eq!(refused(elsewhere), (404, "NoSuchBucket".into()));
        assert_eq!(refused(client.head_bucket().bucket("elsewhere").send().await).0, 404);
        client.create_bucket().bucket("elsewhere").send().await.unwrap();
        client.head_bucket().bucket("elsewhere").send().await.unwrap();
        client.get_bucket_location().bucket("elsewhere").send().await.unwrap();
    });
}

#[test]
fn listings_are_sorted_whole_and_paged() {
    let server = server();
    let client = client(&server);
    wait(async {
        let mut expected: Vec<String> = (0..2_345).map(|number| format!("p/ab/{number}")).collect();
        expected.extend(["p/ab.json".into(), "p/ab-1/x".into(), "p/ab_Z".into()]);
        for key in expected.iter().rev() {
            server.write("bucket", key, key.as_bytes()).unwrap();
        }
        server.write("bucket", "o", b"").unwrap();
        server.write("bucket", "q", b"").unwrap();
        expected.sort();
        assert_eq!(keys(&client, "p/", 1000).await, expected);
        assert_eq!(keys(&client, "p/", 17).await, expected);
        assert_eq!(keys(&client, "p/ab/23", 100).await.len(), 56);
        assert_eq!(keys(&client, "", 999).await.len(), expected.len() + 2);
        assert_eq!(keys(&client, "r", 10).await.len(), 0);
        let page =
            client.list_objects_v2().bucket("bucket").prefix("p/").max_keys(5_000).send().await.unwrap();
        assert_eq!((page.key_count(), page.is_truncated()), (Some(1000), Some(true)));
        assert_eq!(page.contents()[0].size(), Some(i64::try_from(expected[0].len()).unwrap()));
        let page = client.list_objects_v2().bucket("bucket").max_keys(0).send().await.unwrap();
        assert_eq!((page.key_count(), page.is_truncated()), (Some(0), Some(false)));
        let page = client.list_objects_v2().bucket("bucket").start_after("p/ab_Z").send().await.unwrap();
        assert_eq!(page.contents()[0].key(), Some("q"));
        let lost = client.list_objects_v2().bucket("bucket").continuation_token("?").send().await;
        assert_eq!(refused(lost), (400, "InvalidArgument".into()));
    });
}

#[test]
fn listings_are_grouped() {
    let server = server();
    let client = client(&server);
    for key in ["p/a", "p/b/1", "p/b/2", "p/b/3", "p/c", "p/d/1", "q/1"] {
        server.write("bucket", key, b"").unwrap();
    }
    wait(async {
        for page in [1, 2, 3, 10] {
            let request =
                client.list_objects_v2().bucket("bucket").prefix("p/").delimiter("/").max_keys(page);
            let mut pages = request.into_paginator().send();
            let (mut keys, mut groups) = (Vec::new(), Vec::new());
            while let Some(found) = pages.next().await {
                let found = found.unwrap();
                assert!(found.key_count().unwrap() <= page);
                keys.extend(found.contents().iter().map(|object| object.key().unwrap().to_owned()));
                groups.extend(found.common_prefixes().iter().map(|group| group.prefix().unwrap().to_owned()));
            }
            assert_eq!((keys.join(" "), groups.join(" ")), ("p/a p/c".into(), "p/b/ p/d/".into()));
        }
    });
}

#[test]
fn checksums_are_verified_before_anything_is_stored_and_given_back() {
    let server = server();
    let client = client(&server);
    let bytes = noise(300_000);
    wait(async {
        for algorithm in [ChecksumAlgorithm::Crc32C, ChecksumAlgorithm::Crc32, ChecksumAlgorithm::Sha256] {
            let key = format!("header/{algorithm}");
            put(&client, &key, &bytes).checksum_algorithm(algorithm.clone()).send().await.unwrap();
            // A stream that cannot be rewound has its checksum behind it.
            let key = format!("trailer/{algorithm}");
            let copy = bytes.clone();
            let stream = SdkBody::retryable(move || {
                SdkBody::from_body_1_x(http_body_util::Full::new(copy.clone().into()))
            });
            let request = client.put_object().bucket("bucket").key(&key).body(ByteStream::new(stream));
            let length = i64::try_from(bytes.len()).unwrap();
            request.content_length(length).checksum_algorithm(algorithm).send().await.unwrap();
            assert_eq!(server.read("bucket", &key).unwrap(), bytes);
        }
        let trailers =
            server.counts().log().iter().filter(|put| put.header("x-amz-trailer").is_some()).count();
        assert!(trailers >= 3, "{trailers} with trailers");
        let get = client.get_object().bucket("bucket").key("trailer/CRC32C");
        let reply = get.clone().checksum_mode(ChecksumMode::Enabled).send().await.unwrap();
        assert!(reply.checksum_crc32_c().is_some());
        assert_eq!(reply.body.collect().await.unwrap().to_vec(), bytes);
        // The checksum is of the whole object, so a part has none.
        let part = get.range("bytes=0-9").checksum_mode(ChecksumMode::Enabled).send().await.unwrap();
        assert!(part.checksum_crc32_c().is_none());
        let wrong = put(&client, "wrong", &bytes).checksum_crc32_c("AAAAAA==").send().await;
        assert_eq!(refused(wrong), (400, "BadDigest".into()));
        let wrong = put(&client, "wrong", &bytes).content_md5("1B2M2Y8AsgTpgAmY7PhCfg==").send().await;
        assert_eq!(refused(wrong), (400, "BadDigest".into()));
        assert_eq!(server.keys("bucket", "wrong").unwrap().len(), 0);
    });
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing() {
    let server = server();
    let client = client(&server);
    wait(put(&client, "whole", b"x").send()).unwrap();
    let signed = server.counts().log().pop().unwrap();
    // The same request again, whose body never ends.
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let mut head = "PUT /bucket/whole?x-id=PutObject HTTP/1.1\r\n".to_owned();
    for (name, value) in &signed.headers {
        head += &format!("{name}: {}\r\n", value.to_str().unwrap());
    }
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(b"\r\n1\r\n").unwrap();
    drop(stream);
    let started = Instant::now();
    while server.counts().now().of(Operation::Put) < 2 && started.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(server.keys("bucket", "").unwrap(), ["whole"]);
    assert_eq!(server.read("bucket", "whole").unwrap(), b"x");
}

#[test]
fn classes_and_encryption_are_kept() {
    let server = server();
    let client = client(&server);
    wait(async {
        let request = put(&client, "k", b"x").storage_class(StorageClass::StandardIa);
        request.server_side_encryption(aws_sdk_s3::types::ServerSideEncryption::Aes256).send().await.unwrap();
        let head = client.head_object().bucket("bucket").key("k").send().await.unwrap();
        assert_eq!(head.storage_class(), Some(&StorageClass::StandardIa));
        assert_eq!(head.server_side_encryption().unwrap().as_str(), "AES256");
        let page = client.list_objects_v2().bucket("bucket").send().await.unwrap();
        assert_eq!(page.contents()[0].storage_class().unwrap().as_str(), "STANDARD_IA");
    });
}

#[test]
fn signatures_are_checked() {
    let server = server();
    wait(async {
        let stranger = put(&client_of(&server, "AKIDSTRANGER", SECRET_KEY), "k", b"x").send().await;
        assert_eq!(refused(stranger), (403, "InvalidAccessKeyId".into()));
        let guesser = put(&client_of(&server, ACCESS_KEY, "guess"), "k", &noise(3_000_000)).send().await;
        assert_eq!(refused(guesser), (403, "SignatureDoesNotMatch".into()));
    });
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(b"GET /bucket?list-type=2 HTTP/1.1\r\nhost: s3\r\nconnection: close\r\n\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 403") && reply.contains("AccessDenied"), "{reply}");
    assert_eq!(server.keys("bucket", "").unwrap().len(), 0);
}

#[test]
fn rights_are_kept() {
    let server = server();
    let admin = client(&server);
    server.set_user("AKIDWRITER", "w", Rights::all().without(Operation::Delete).without(Operation::List));
    server.set_user("AKIDREADER", "r", Rights::read_only());
    server.set_user("AKIDPART", "p", Rights::all().without_under(Operation::Get, "secret/"));
    let denied = (403, "AccessDenied".to_owned());
    wait(async {
        put(&admin, "k", b"x").send().await.unwrap();
        let writer = client_of(&server, "AKIDWRITER", "w");
        put(&writer, "secret/l", b"x").send().await.unwrap();
        assert_eq!(refused(writer.delete_object().bucket("bucket").key("k").send().await), denied);
        assert_eq!(refused(writer.list_objects_v2().bucket("bucket").send().await), denied);
        assert_eq!(refused(writer.head_bucket().bucket("bucket").send().await).0, 403);
        // Who may not list does not learn what is absent.
        assert_eq!(refused(writer.get_object().bucket("bucket").key("absent").send().await), denied);
        let reader = client_of(&server, "AKIDREADER", "r");
        assert_eq!(refused(put(&reader, "m", &noise(2_000_000)).send().await), denied);
        assert_eq!(refused(reader.delete_object().bucket("bucket").key("k").send().await), denied);
        assert_eq!(keys(&reader, "", 10).await, ["k", "secret/l"]);
        let part = client_of(&server, "AKIDPART", "p");
        assert_eq!(get(&part, "k", None).await.unwrap(), b"x");
        assert_eq!(refused(part.get_object().bucket("bucket").key("secret/l").send().await), denied);
        assert_eq!(refused(part.head_object().bucket("bucket").key("secret/l").send().await).0, 403);
    });
}

#[test]
fn refusals_look_as_those_of_aws() {
    let server = server();
    let client = client(&server);
    wait(async {
        for (fault, status, code) in [
            (Fault::slow_down(), 503, "SlowDown"),
            (Fault::internal_error(), 500, "InternalError"),
            (Fault::access_denied(), 403, "AccessDenied"),
            (Fault::expired_token(), 400, "ExpiredToken"),
            (Fault::no_such_bucket(), 404, "NoSuchBucket"),
            (Fault::conflict(), 409, "ConditionalRequestConflict"),
            (Fault::ClockSkew, 403, "RequestTimeTooSkewed"),
            (Fault::Elsewhere("eu-west-1"), 301, "PermanentRedirect"),
        ] {
            let rule = server.faults().add(When::on(Operation::Put).times(1), fault);
            // More than one read of the connection takes: the reply comes all the same.
            assert_eq!(refused(put(&client, "k", &noise(5_000_000)).send().await), (status, code.into()));
            assert_eq!(rule.hits(), 1);
        }
        assert_eq!(server.keys("bucket", "").unwrap().len(), 0);
        put(&client, "k", b"x").send().await.unwrap();
    });
}

#[test]
fn connections_close_before_or_after_the_deed() {
    let server = server();
    let client = client(&server);
    wait(async {
        server.faults().add(When::on(Operation::Put).key("before").times(1), Fault::CloseBefore);
        server.faults().add(When::on(Operation::Put).key("after").times(1), Fault::CloseAfter);
        let bytes = noise(3_000_000);
        for key in ["before", "after"] {
            let error = put(&client, key, &bytes).send().await.unwrap_err();
            assert!(error.raw_response().is_none(), "{error:?}");
        }
        assert_eq!(server.keys("bucket", "").unwrap(), ["after"]);
        assert_eq!(server.read("bucket", "after").unwrap(), bytes);
        assert_eq!(server.counts().log().last().unwrap().status, None);
    });
}

#[test]
fn bodies_are_cut_changed_and_replaced() {
    let server = server();
    let client = client(&server);
    wait(async {
        let bytes = noise(2_000_000);
        put(&client, "k", &bytes).send().await.unwrap();
        let once = || When::on(Operation::Get).times(1);
        server.faults().add(once(), Fault::CutBody);
        let reply = client.get_object().bucket("bucket").key("k").send().await.unwrap();
        assert_eq!(reply.content_length(), Some(2_000_000));
        assert!(reply.body.collect().await.is_err());
        server.faults().add(once(), Fault::FlipBit);
        let changed = get(&client, "k", Some("bytes=0-")).await.unwrap();
        let differ: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != changed[*at]).collect();
        assert_eq!(differ, [1_000_000]);
        assert_eq!(bytes[1_000_000] ^ changed[1_000_000], 1);
        // With the checksum of the whole, the client finds out.
        server.faults().add(once(), Fault::FlipBit);
        assert!(get(&client, "k", None).await.is_err());
        server.faults().add(once(), Fault::ErrorInOk);
        assert!(
            String::from_utf8(get(&client, "k", None).await.unwrap())
                .unwrap()
                .contains("<Code>InternalError")
        );
        assert_eq!(get(&client, "k", None).await.unwrap(), bytes);
    });
    let injected = server.faults().injected();
    assert_eq!(
        injected.into_iter().collect::<Vec<_>>(),
        [("cut body", 1), ("error in 200", 1), ("flip bit", 2)]
    );
}

#[test]
fn listings_lie() {
    let server = server();
    let client = client(&server);
    wait(async {
        for key in ["a", "b", "c", "d"] {
            put(&client, key, b"x").send().await.unwrap();
        }
        client.delete_object().bucket("bucket").key("b").send().await.unwrap();
        let rule = server.faults().add(When::on(Operation::List), Fault::ShortListing { keys: 2 });
        assert_eq!(keys(&client, "", 100).await, ["a", "c"]);
        server.faults().remove(&rule);
        for (changes, expected) in [(0, "a c d"), (1, "a b c d"), (2, "a b c"), (4, "a"), (9, "")] {
            let rule = server.faults().add(When::on(Operation::List), Fault::StaleListing { changes });
            assert_eq!(keys(&client, "", 1).await.join(" "), expected, "{changes} changes ago");
            server.faults().remove(&rule);
        }
        assert_eq!(keys(&client, "", 100).await, ["a", "c", "d"]);
    });
}

#[test]
fn conditions_are_ignored() {
    let server = server();
    let client = client(&server);
    wait(async {
        put(&client, "k", b"first").if_none_match("*").send().await.unwrap();
        server.faults().add(When::on(Operation::Put), Fault::IgnoreCondition);
        put(&client, "k", b"second").if_none_match("*").send().await.unwrap();
        assert_eq!(server.read("bucket", "k").unwrap(), b"second");
    });
}

#[test]
fn what_hangs_hangs_until_it_is_released() {
    let server = server();
    let client = client(&server);
    let hanging = |wanted: usize| {
        let server = &server;
        async move {
            while server.faults().hanging() != wanted {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    };
    wait(async {
        let bytes = noise(1_000_000);
        put(&client, "k", &bytes).send().await.unwrap();
        for fault in [Fault::Hang, Fault::HangInBody] {
            server.faults().add(When::on(Operation::Get), fault);
            let read = tokio::spawn({
                let client = client.clone();
                async move { get(&client, "k", None).await }
            });
            hanging(1).await;
            assert!(!read.is_finished());
            server.faults().clear();
            assert_eq!(read.await.unwrap().unwrap(), bytes);
            // A client that gives up is noticed.
            server.faults().add(When::on(Operation::Get), Fault::Hang);
            let given_up = tokio::time::timeout(Duration::from_millis(50), get(&client, "k", None)).await;
            assert!(given_up.is_err());
            hanging(0).await;
            server.faults().clear();
        }
    });
}

#[test]
fn chance_is_the_same_for_a_seed() {
    let kinds = [Fault::slow_down(), Fault::CloseBefore, Fault::CutBody, Fault::ShortListing { keys: 0 }];
    let run = |seed| {
        let server = server();
        server.faults().at_random(seed, 4, &kinds);
        let client = client(&server);
        let kinds = wait(async {
            for number in 0..100 {
                let _ = put(&client, &number.to_string(), b"x").send().await;
            }
            server.counts().log().iter().map(|request| request.fault).collect::<Vec<_>>()
        });
        let injected: u64 = server.faults().injected().values().sum();
        assert_eq!(injected, kinds.iter().flatten().count() as u64);
        kinds
    };
    let first = run(1);
    assert_eq!(first, run(1));
    assert_ne!(first, run(2));
    let hit = first.iter().flatten().count();
    assert!((10..=45).contains(&hit), "{hit} of 100");
    // What can happen to reading alone did not happen to puts.
    assert!(first.iter().flatten().all(|kind| ["SlowDown", "close before"].contains(kind)));
}

#[test]
fn everything_is_counted() {
    let server = server();
    let client = client(&server);
    wait(async {
        put(&client, "k", &noise(100_000)).send().await.unwrap();
        get(&client, "k", Some("bytes=0-999")).await.unwrap();
        let _ = get(&client, "absent", None).await;
        keys(&client, "", 10).await;
    });
    let counted = server.counts().now();
    assert_eq!(
        (counted.of(Operation::Put), counted.of(Operation::Get), counted.of(Operation::List)),
        (1, 2, 1)
    );
    // Chunks of an upload have heads, and listings and errors are documents.
    assert!((100_000..101_000).contains(&counted.received_bytes), "{counted}");
    assert!((1_300..3_000).contains(&counted.sent_bytes), "{counted}");
    let log = server.counts().log();
    let told: Vec<_> =
        log.iter().map(|request| (request.operation, request.key.as_str(), request.status)).collect();
    assert_eq!(
        told[..3],
        [
            (Operation::Put, "k", Some(200)),
            (Operation::Get, "k", Some(206)),
            (Operation::Get, "absent", Some(404)),
        ]
    );
    assert_eq!(log[1].range.as_deref(), Some("bytes=0-999"));
    let ask = |method: &str| {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        write!(stream, "{method} /_counts HTTP/1.1\r\nhost: s3\r\nconnection: close\r\n\r\n").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    };
    assert!(ask("GET").contains(r#"{"put":1,"get":2,"#), "{}", ask("GET"));
    ask("DELETE");
    assert_eq!(server.counts().now().total(), 0);
}

#[test]
fn a_folder_outlives_its_server() {
    let folder = tempfile::tempdir().unwrap();
    let options = ServerOptions { folder: Some(folder.path().to_owned()), ..ServerOptions::default() };
    let first = Server::start_with(&options).unwrap();
    first.create_bucket("bucket").unwrap();
    first.write("bucket", "a/b/c", b"x").unwrap();
    first.write("bucket", "d", b"yz").unwrap();
    let again = ServerOptions { listen: Some(first.address()), ..options };
    drop(first);
    let second = Server::start_with(&again).unwrap();
    assert_eq!(second.keys("bucket", "").unwrap(), ["a/b/c", "d"]);
    assert_eq!(wait(get(&client(&second), "d", None)).unwrap(), b"yz");
}

#[test]
fn keys_that_are_no_paths_are_refused() {
    let server = server();
    let client = client(&server);
    wait(async {
        put(&client, "a", b"x").send().await.unwrap();
        put(&client, "c/d", b"x").send().await.unwrap();
        for key in ["a/b", "c", "a//b", "e/../f", "/g"] {
            let (status, code) = refused(put(&client, key, b"y").send().await);
            assert_eq!((status, code.as_str()), (501, "NotImplemented"), "{key}");
        }
        assert_eq!(keys(&client, "", 10).await, ["a", "c/d"]);
    });
}
