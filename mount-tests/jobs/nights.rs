//! Many nights in a row, by a clock of their own: what is kept, when garbage is collected, and nights that do not come.

use std::collections::BTreeSet;
use std::fs;

use jiff::ToSpan;
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use s3_server::Server;
use serde_json::Value;
use yester::journal::{Journal, Run};

use super::host::{Host, NEEDS, is_silent, replace, s3};
use super::sinks::{Request, WebSink};
use crate::harness::{Need, can, noise, sized_packs};

const NIGHT_NEEDS: [Need; 2] = [Need::Tool("faketime"), Need::TimeZones];

/// A Monday. Clocks are set on the thirteenth day after it.
const FIRST: Date = date(2025, 3, 17);
/// What is new in the shop every night.
const NEW_BYTES: usize = 300_000;

/// A host that backs up a shop and a till every night to a directory; `more` is a part of its configuration.
fn host(more: impl FnOnce(&Host) -> String) -> Host {
    let host = Host::new();
    let root = host.text("");
    host.configure(&format!(
        "schedule = \"03:30\"\nkeep = {{ daily = 3, weekly = 2 }}\nkey-file = \"{root}etc/yester/key\"\n\
         verify = false\nretries = 0\n\
         [store.local]\nurl = \"{root}srv/backup/local\"\n\
         [source.shop]\ncommand = [\"cat\", \"{root}shop\"]\n\
         [source.till]\ncommand = [\"cat\", \"{root}till\"]\nkeep = {{ daily = 5 }}\n{}",
        more(&host)
    ));
    host.cron_at("2025-03-16 20:00:00", &["--store", "local", "init"]).succeeds();
    host
}

/// A second store in a bucket, with a policy of its own.
fn second(host: &Host, server: &Server, credentials: &str) -> String {
    host.write_private("etc/yester/s3", credentials);
    format!(
        "[store.second]\nurl = \"s3://acme/second\"\nendpoint = \"{}\"\nregion = \"us-east-1\"\n\
         credentials-file = \"{}\"\ncopy-from = \"local\"\nkeep = {{ weekly = 3 }}\n",
        server.url(),
        host.text("etc/yester/s3")
    )
}

/// What the shop has on a day, so that of each snapshot it can be told whether it has what it should.
fn of_day(day: Date) -> Vec<u8> {
    noise(u64::try_from(day.day_of_year()).unwrap(), NEW_BYTES)
}

/// Does what a timer does at night: backs up what is due.
fn night(host: &Host, day: Date) {
    host.write("shop", of_day(day));
    host.write("till", format!("closed on {day}"));
    is_silent(&host.cron_at(&format!("{day} 03:30:07"), &["run"]));
}

/// Returns the days of a list of snapshots.
fn days(snapshots: &[Value]) -> Vec<String> {
    snapshots.iter().map(|snapshot| snapshot["time"].as_str().unwrap()[..10].to_owned()).collect()
}

fn kept(host: &Host, store: &str, source: &str) -> Vec<String> {
    days(&host.snapshots(store, source))
}

/// Returns the days of what was forgotten and not collected.
fn forgotten(host: &Host, store: &str, source: &str) -> Vec<String> {
    let ran = host.cron(&["--store", store, "snapshots", "--forgotten", "--source", source, "--json"]);
    days(ran.json().as_array().unwrap())
}

/// Returns all that was recorded of an operation, oldest first.
fn recorded(host: &Host, operation: &str) -> Vec<Run> {
    let mut runs = Journal::open(&host.lab.path("state/journal.sqlite")).unwrap().recent(10_000).unwrap();
    runs.retain(|run| run.operation == operation);
    runs.reverse();
    runs
}

/// Returns the days on which the garbage of a store was collected.
fn collections(host: &Host, place: &str) -> Vec<String> {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let runs = recorded(host, "gc").into_iter().filter(|run| run.place == place);
    runs.map(|run| run.started.to_zoned(zone.clone()).date().to_string()).collect()
}

#[test]
fn twenty_nights_leave_what_was_asked_for() {
    if !can(&NEEDS) || !can(&NIGHT_NEEDS) {
        return;
    }
    let (server, credentials) = s3(&["acme"]);
    let host = host(|host| second(host, &server, &credentials));
    host.cron_at("2025-03-16 20:00:00", &["--store", "second", "init", "--like", "local"]).succeeds();
    for number in 0..20 {
        let day = FIRST.checked_add(number.days()).unwrap();
        night(&host, day);
        if day == date(2025, 3, 21) {
            let arguments = ["run", "shop", "--tag", "before-update", "--protect"];
            is_silent(&host.cron_at("2025-03-21 12:00:00", &arguments));
            // Nothing is due any more on that day.
            is_silent(&host.cron_at("2025-03-21 12:30:00", &["run"]));
        }
    }
    assert_eq!(recorded(&host, "ingest").len(), 2 * 20 + 1);
    // The last of the week before, the last three days, and what is protected.
    let protected = "2025-03-21";
    let [third, fourth, fifth] = ["2025-04-03", "2025-04-04", "2025-04-05"];
    assert_eq!(kept(&host, "local", "shop"), [protected, "2025-03-30", third, fourth, fifth]);
    assert_eq!(kept(&host, "local", "till"), ["2025-04-01", "2025-04-02", third, fourth, fifth]);
    assert_eq!(kept(&host, "second", "shop"), [protected, "2025-03-23", "2025-03-30", fifth]);
    assert_eq!(kept(&host, "second", "till"), ["2025-03-23", "2025-03-30", fifth]);
    let places = [host.text("srv/backup/local"), "s3://acme/second".to_owned()];
    for (store, place) in ["local", "second"].into_iter().zip(&places) {
        // At first because there was never one, and then once a week.
        assert_eq!(collections(&host, place), ["2025-03-17", "2025-03-24", "2025-03-31"], "{store}");
        // What the last collection could not take yet: it was forgotten less than a week before.
        let waiting: BTreeSet<_> = forgotten(&host, store, "shop").into_iter().collect();
        assert!(!waiting.is_empty() && !waiting.contains("2025-03-17"), "{store}: {waiting:?}");
    }

    // Ten days later all that was forgotten before is collected.
    let local =
        || sized_packs(&host.lab.path("srv/backup/local")).iter().map(|(bytes, _)| *bytes).sum::<u64>();
    let full = local();
    let last = "2025-04-15";
    night(&host, last.parse().unwrap());
    assert_eq!(kept(&host, "local", "shop"), [protected, fourth, fifth, last]);
    assert_eq!(forgotten(&host, "local", "shop"), ["2025-03-30", third]);
    assert_eq!(forgotten(&host, "local", "till"), ["2025-04-01"]);
    assert_eq!(kept(&host, "second", "shop"), [protected, "2025-03-30", fifth, last]);
    assert_eq!(forgotten(&host, "second", "till"), ["2025-03-23"]);
    let objects = server.keys("acme", "second/packs").unwrap();
    let bucket = objects.iter().map(|key| server.read("acme", key).unwrap().len() as u64).sum();
    let one = NEW_BYTES as u64;
    for (place, bytes, snapshots) in [(&places[0], local(), 6), (&places[1], bucket, 5)] {
        assert_eq!(collections(&host, place).len(), 4, "{place}");
        assert!((snapshots * one..(snapshots + 1) * one).contains(&bytes), "{place} has {bytes} bytes");
    }
    assert!(local() < full, "there were {full} bytes");

    for store in ["local", "second"] {
        host.cron(&["--store", store, "verify"]).succeeds();
        for snapshot in host.snapshots(store, "shop") {
            let (id, day) = (snapshot["id"].as_str().unwrap(), &snapshot["time"].as_str().unwrap()[..10]);
            let ran = host.cron(&["--store", store, "cat", id, "shop"]);
            ran.succeeds();
            assert!(ran.stdout == of_day(day.parse().unwrap()), "{day} in {store}");
        }
    }
}

#[test]
fn what_a_store_of_copies_does_not_keep_is_not_copied_to_it() {
    if !can(&NEEDS) || !can(&NIGHT_NEEDS) {
        return;
    }
    // The first store keeps far more than the second one, whose collections once made room for it again.
    let host = host(|host| {
        let url = host.text("srv/backup/second");
        format!("[store.second]\nurl = {url:?}\ncopy-from = \"local\"\nkeep = {{ weekly = 1 }}\n")
    });
    let mut text = fs::read_to_string(host.config()).unwrap();
    replace(&mut text, "keep = { daily = 3, weekly = 2 }", "keep = { daily = 30 }");
    host.configure(&text);
    host.cron_at("2025-03-16 20:00:00", &["--store", "second", "init", "--like", "local"]).succeeds();
    for number in 0..16 {
        night(&host, FIRST.checked_add(number.days()).unwrap());
    }
    assert_eq!(collections(&host, &host.text("srv/backup/second")).last().unwrap(), "2025-03-31");
    assert_eq!(kept(&host, "local", "shop").len(), 16);
    assert_eq!(kept(&host, "second", "shop"), ["2025-04-01"]);
    let copies = recorded(&host, "copy");
    assert_eq!(copies.len(), 16);
    for copy in copies {
        let bytes = copy.added_bytes;
        assert!(bytes < 2 * NEW_BYTES as u64, "{bytes} bytes in the night of {}", copy.started);
    }
    let asked = ["--store", "local", "copy", "--to", "second", "--dry-run", "--json"];
    let missing = |more: &[&str]| {
        let plan = host.cron_at("2025-04-01 12:00:00", &[&asked, more].concat()).json();
        (plan["missing"].as_array().unwrap().len(), plan["unkept"].as_u64().unwrap())
    };
    let (all, none) = missing(&[]);
    assert!(all > 5 && none == 0, "{all} {none}");
    assert_eq!(missing(&["--kept"]), (0, all as u64));
    let elsewhere = host.text("elsewhere");
    let refused = host.cron(&["--store", "local", "copy", "--to", &elsewhere, "--kept", "--dry-run"]);
    assert!(refused.fails(2).contains("has no store at"), "{}", refused.stderr);
}

#[test]
fn nights_that_do_not_come_are_told_of_once() {
    if !can(&NEEDS) || !can(&NIGHT_NEEDS) {
        return;
    }
    let web = WebSink::start();
    let host = host(|_| format!("[alert.hook]\nwebhook = {:?}\n", web.url("/hook")));
    let told = || {
        let words = |request: Request| {
            let message = request.json();
            ["event", "severity", "rule", "subject"]
                .map(|name| message[name].as_str().unwrap().to_owned())
                .join(" ")
        };
        let mut told: Vec<_> = web.take("/hook").into_iter().map(words).collect();
        told.sort();
        told
    };
    let look = |time: &str| {
        is_silent(&host.cron_at(time, &["status", "--alert"]));
        told()
    };
    let late = |words: &str| ["shop", "till"].map(|source| format!("{words} max-age {source}"));
    night(&host, FIRST);
    assert_eq!(told(), [""; 0]);
    // The next night does not come, and a quarter of a day later that is too long.
    assert_eq!(look("2025-03-18 09:15:00"), [""; 0]);
    assert_eq!(look("2025-03-18 09:45:00"), late("began warning"));
    assert_eq!(look("2025-03-18 10:00:00"), [""; 0]);
    assert_eq!(look("2025-03-20 12:00:00"), late("graver critical"));
    assert_eq!(look("2025-03-20 12:15:00"), [""; 0]);
    host.cron_at("2025-03-20 12:20:00", &["status"]).fails(2);
    // The machine is on again, and makes up for it.
    is_silent(&host.cron_at("2025-03-20 12:30:00", &["run"]));
    assert_eq!(told(), late("ended critical"));
    assert_eq!(look("2025-03-20 12:45:00"), [""; 0]);
    host.cron_at("2025-03-20 12:50:00", &["status"]).succeeds();
}
