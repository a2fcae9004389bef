//! `yester config check` says what a run would fail of, and what to do about it.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use super::host::{CRON, Host, NEEDS, Redis, replace, s3};
use crate::harness::{Lab, Need, Ran, can, succeed};
use crate::postgres::Postgres;

/// Writes a configuration in which `/` is the host's laboratory.
fn configured(text: &str) -> Host {
    let host = Host::new();
    let mut text = text.to_owned();
    replace(&mut text, "\"/", &format!("\"{}", host.text("")));
    host.configure(&text);
    host
}

/// Returns what was found: the state, the subject and the rest of each line, with advice after it.
fn findings(ran: &Ran) -> Vec<(String, String, String)> {
    let document: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    let checks = document["checks"].as_array().unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let found = |check: &serde_json::Value| {
        let advice: Vec<String> = check["advice"].as_array().unwrap().iter().map(text).collect();
        let told = format!("{} | {}", text(&check["message"]), advice.join(" | "));
        (text(&check["state"]), text(&check["subject"]), told)
    };
    checks.iter().map(found).collect()
}

/// Expects that something of this state was found of a subject, in these words.
#[track_caller]
fn told(found: &[(String, String, String)], state: &str, subject: &str, words: &[&str]) {
    let fits = |(its_state, its_subject, message): &(String, String, String)| {
        its_state == state && its_subject == subject && words.iter().all(|word| message.contains(word))
    };
    assert!(found.iter().any(fits), "{state} {subject} {words:?} is not in {found:#?}");
}

#[test]
fn all_mistakes_of_the_file_are_told_at_once() {
    let lab = Lab::empty();
    let file = lab.path("config.toml");
    fs::write(
        &file,
        "schedul = \"daily\"\n[store.a]\nurl = \"a\"\n[source.b]\npaths = [\"/etc\"]\nkeep = {}\n",
    )
    .unwrap();
    let path = file.to_str().unwrap();
    let ran = lab.run(["--config", path, "config", "check"]);
    let expected = [
        format!("{path}:1: schedul: there is no such key; is it schedule?"),
        format!("{path}:3: store.a.url: \"a\" does not begin with /"),
        format!(
            "{path}:6: source.b.keep: it keeps nothing; say how many, as in {{ daily = 7, weekly = 4, monthly = 12 }}"
        ),
    ];
    assert_eq!(ran.fails(2).lines().collect::<Vec<_>>(), expected);
    let ran = lab.run(["--config", path, "config", "check", "--json"]);
    ran.fails(2);
    let document: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(
        (&document["problems"][0]["line"], &document["problems"][0]["key"]),
        (&1.into(), &"schedul".into())
    );
    assert!(lab.run(["--config", "/nonexistent", "config", "check"]).fails(1).contains("cannot read"));
}

#[test]
fn a_new_host_is_led_to_its_first_run() {
    if !can(&NEEDS) {
        return;
    }
    let host = configured(
        "schedule = \"*-*-* 03:30\"\nkey-file = \"/etc/yester/key\"\n[store.local]\nurl = \"/srv/backup/store\"\n\
         [store.drawer]\nurl = \"/media/drawer/store\"\ncopy-from = \"local\"\n\
         [store.usb]\nurl = \"/media/usb/store\"\ncopy-from = \"local\"\nremovable = true\n\
         [source.files]\npaths = [\"/files\"]\n[metrics]\ntextfile = \"/srv/y.prom\"\n",
    );
    host.write("files/a", "a");
    let ran = host.cron(&["config", "check"]);
    let text = ran.succeeds();
    let line = format!("create it: yester --config {} --store local init", host.config().display());
    assert!(text.contains(&line), "{text}");
    // The line works as it stands, but for where the state is.
    let words: Vec<&str> = line.split(' ').skip(5).collect();
    assert_eq!(words, ["--store", "local", "init"]);
    host.cron(&words).succeeds();
    let found = findings(&host.cron(&["config", "check", "--json"]));
    told(&found, "ok", "store local", &["opens and can be written", " free, "]);
    told(
        &found,
        "warning",
        "store drawer",
        &["no store at", "mount the disk there", "--store drawer init --like local"],
    );
    told(&found, "ok", "store usb", &["need not be"]);
    told(&found, "ok", "source files", &["due next at 20", "03:30:00"]);
    told(&found, "ok", "metrics", &["y.prom"]);
    told(&found, "ok", "clock", &[]);
    assert!(!found.iter().any(|(state, ..)| state == "problem"), "{found:#?}");
    assert!(
        fs::read_dir(host.lab.path("srv/backup/store/probe")).is_ok_and(|mut left| left.next().is_none())
    );
}

#[test]
fn what_a_run_would_fail_of_is_told() {
    if !can(&NEEDS) {
        return;
    }
    let host = configured(
        "schedule = \"daily\"\nkey-file = \"/etc/yester/key\"\npreflight = { disk-free = \"99%\" }\n\
         [store.local]\nurl = \"/srv/backup/store\"\n\
         [store.wrong]\nurl = \"/srv/backup/wrong\"\ncopy-from = \"local\"\nkey-file = \"/etc/yester/other\"\n\
         [source.absent]\npaths = [\"/files\", \"/absent\"]\n\
         [source.export]\ncommand = [\"no-such-export\"]\nbefore = [\"/files/plain\"]\nschedule = \"2020-01-01\"\n\
         [source.mongo]\nmongodb = \"mongodb://me:hunter2@localhost/x\"\nexec = [\"no-such-docker\", \"exec\"]\n\
         [alert.pager]\npagerduty = { key-file = \"/etc/yester/pagerduty\" }\n\
         [alert.tell]\ncommand = [\"no-such-teller\"]\n\
         [metrics]\ntextfile = \"/absent/y.prom\"\n",
    );
    host.write("files/plain", "no program");
    host.init("local");
    host.cron(&["--store", "wrong", "--key-file", &host.text("etc/yester/third"), "init"]).succeeds();
    fs::copy(host.lab.path("etc/yester/key"), host.lab.path("etc/yester/other")).unwrap();
    for path in ["etc/yester/config.toml", "etc/yester/other"] {
        fs::set_permissions(host.lab.path(path), fs::Permissions::from_mode(0o644)).unwrap();
    }
    let ran = host.cron(&["config", "check", "--json"]);
    assert!(ran.fails(1).contains("problems"), "{}", ran.stderr);
    let found = findings(&ran);
    told(&found, "problem", "configuration", &["holds passwords", "chmod 600"]);
    let run = host.cron(&["run", "absent"]);
    assert!(
        run.stderr.contains("holds passwords and can be read by others; run: chmod 600"),
        "{}",
        run.stderr
    );
    told(&found, "problem", "store local", &["less than 99%", "[preflight]"]);
    told(&found, "problem", "store wrong", &["key"]);
    told(&found, "problem", "store wrong", &["can be read by others", "chmod 600"]);
    told(&found, "problem", "source absent", &["cannot read", "/absent"]);
    told(&found, "problem", "source export", &["no program no-such-export in /"]);
    told(&found, "problem", "source export", &["before: ", "no program that can be executed"]);
    told(&found, "warning", "source export", &["never due again"]);
    told(&found, "problem", "source mongo", &["no program no-such-docker"]);
    told(&found, "problem", "alert pager", &["cannot read the secret in", "nobody would be told"]);
    told(&found, "problem", "alert tell", &["no program no-such-teller"]);
    told(&found, "problem", "metrics", &["cannot write to"]);
    assert!(!ran.stderr.contains("hunter2") && !String::from_utf8_lossy(&ran.stdout).contains("hunter2"));
    fs::set_permissions(host.config(), fs::Permissions::from_mode(0o666)).unwrap();
    told(
        &findings(&host.cron(&["config", "check", "--json"])),
        "problem",
        "configuration",
        &["written by others"],
    );
    // A disk that is not mounted is no new store.
    fs::rename(host.lab.path("srv/backup/store"), host.lab.path("srv/backup/away")).unwrap();
    let found = findings(&host.cron(&["config", "check", "--json"]));
    assert!(
        !found.iter().any(|(_, subject, told)| subject == "store local" && told.contains("create it")),
        "{found:#?}"
    );
    told(&found, "problem", "store local", &["mounted"]);
}

#[test]
fn servers_are_asked() {
    if !can(&NEEDS) || !can(&[Need::Postgres, Need::Tool("redis-server")]) {
        return;
    }
    let postgres = Postgres::start();
    succeed(postgres.client("createdb").arg("shop"));
    let socket = postgres.socket().display();
    let host = Host::new();
    let redis = Redis::start(&host.lab.path("redis"), Some("hunter2"));
    let (server, credentials) = s3(&["acme"]);
    host.write_private("etc/yester/s3", &credentials);
    host.write_private(
        "etc/yester/s3-wrong",
        "[default]\naws_access_key_id = x\naws_secret_access_key = y\n",
    );
    // It refuses what is newer than it.
    host.program(
        "bin/old",
        "case $1 in pg_dump) echo 'pg_dump (PostgreSQL) 9.6.1' ;; *) exec \"$@\" ;; esac",
    );
    let root = host.text("");
    let (url, port) = (server.url(), redis.port);
    let bucket = format!("region = \"us-east-1\"\nendpoint = \"{url}\"\ncopy-from = \"local\"\n");
    host.configure(&format!(
        "schedule = \"daily\"\nkey-file = \"{root}etc/yester/key\"\n[store.local]\nurl = \"{root}srv/backup/store\"\n\
         [store.new]\nurl = \"s3://acme/new\"\ncredentials-file = \"{root}etc/yester/s3\"\n{bucket}\
         [store.bucket]\nurl = \"s3://acme/store\"\ncredentials-file = \"{root}etc/yester/s3\"\n{bucket}\
         [store.denied]\nurl = \"s3://acme/other\"\ncredentials-file = \"{root}etc/yester/s3-wrong\"\n{bucket}\
         [source.shop]\npostgres = \"host={socket} user=postgres dbname=shop\"\n\
         [source.nobody]\npostgres = \"postgres://nobody:hunter2@/shop?host={socket}\"\n\
         [source.old]\npostgres = \"host={socket} user=postgres dbname=shop\"\nexec = [\"{root}bin/old\"]\n\
         [source.cache]\nredis = \"redis://:hunter2@127.0.0.1:{port}\"\n\
         [source.closed]\nredis = \"redis://:hunter3@127.0.0.1:{port}\"\n"
    ));
    host.init("local");
    host.cron(&["--store", "bucket", "init", "--like", "local"]).succeeds();
    let ran = host.cron(&["config", "check", "--json"]);
    ran.fails(1);
    let found = findings(&ran);
    told(&found, "warning", "store new", &["no store at s3://acme/new yet", "--store new init --like local"]);
    told(&found, "ok", "store bucket", &["opens and can be written"]);
    told(&found, "problem", "store denied", &[]);
    told(&found, "ok", "source shop", &["pg_dump is not older"]);
    told(&found, "problem", "source nobody", &["role \"nobody\" does not exist", "psql"]);
    told(&found, "problem", "source old", &["release 9", "postgresql-client-"]);
    told(&found, "ok", "source cache", &["answers"]);
    told(&found, "problem", "source closed", &["is the password right"]);
    let said = [&ran.stdout[..], ran.stderr.as_bytes()].concat();
    assert!(!String::from_utf8_lossy(&said).contains("hunter"), "{found:#?}");
}

#[test]
fn a_dead_host_does_not_hang_the_rest() {
    if !can(&NEEDS) || !can(&[Need::Postgres]) {
        return;
    }
    // It takes connections and never answers.
    let dead = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = dead.local_addr().unwrap().port();
    let host = configured(&format!(
        "key-file = \"/etc/yester/key\"\nschedule = \"daily\"\n[store.local]\nurl = \"/srv/backup/store\"\n\
         [source.dead]\npostgres = \"host=127.0.0.1 port={port} user=x dbname=x\"\n[source.files]\npaths = [\"/etc\"]\n"
    ));
    host.init("local");
    let started = Instant::now();
    let ran = Ran::of(&mut host.command(CRON, &["config", "check", "--json"]));
    ran.fails(1);
    assert!(started.elapsed() < Duration::from_secs(55), "{:?}", started.elapsed());
    let found = findings(&ran);
    told(&found, "problem", "source dead", &["did not answer within"]);
    told(&found, "ok", "source files", &["paths are there"]);
}

#[test]
fn test_messages_are_sent_where_somebody_asks_for_them() {
    if !can(&NEEDS) {
        return;
    }
    let host = configured(
        "schedule = \"daily\"\nkey-file = \"/etc/yester/key\"\n[store.local]\nurl = \"/srv/backup/store\"\n\
         [alert.told]\ncommand = [\"/bin/tell\"]\n[alert.deaf]\ncommand = [\"/bin/fail\"]\n",
    );
    host.program("bin/tell", "cat >>\"${0%/bin/*}/told\"");
    host.program("bin/fail", "exit 1");
    host.init("local");
    let told_to = host.lab.path("told");
    host.cron(&["config", "check"]).succeeds();
    assert!(!told_to.exists());
    let ran = host.cron(&["config", "check", "--send-test-alert", "--json"]);
    ran.fails(1);
    let found = findings(&ran);
    told(&found, "ok", "alert told", &["a test message was sent"]);
    told(&found, "problem", "alert deaf", &["did not arrive"]);
    assert!(fs::read_to_string(told_to).unwrap().contains("This is a test of yester"));
}
