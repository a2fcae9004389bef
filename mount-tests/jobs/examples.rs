//! The examples of the documentation, each run two nights in a row against the real thing, as cron runs it and with an
//! empty environment.
//!
//! What is changed in them: every path lies in a laboratory, the S3 server is that of the tests, and ports and sockets
//! are theirs. `docker` and `kubectl` are stand-ins that drop their own words and become what follows; `mongodump` is
//! one that writes its archive format. PostgreSQL and Redis are real.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use s3_server::Server;
use yester::journal::RunOutcome;

use super::host::{CRON, Host, NEEDS, Redis, is_silent, mongo_archive, replace, s3};
use crate::harness::{Need, Ran, can, noise, succeed};
use crate::postgres::Postgres;

/// A host with an example.
struct Example {
    host: Host,
    text: String,
    /// The stores, and the sources of each with so many snapshots after the second night.
    stores: &'static [&'static str],
    sources: &'static [&'static str],
}

impl Example {
    fn new(name: &str, stores: &'static [&'static str], sources: &'static [&'static str]) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/examples/{name}.toml"));
        let mut example =
            Self { host: Host::new(), text: fs::read_to_string(path).unwrap(), stores, sources };
        let root = example.host.lab.path("x").parent().unwrap().to_str().unwrap().to_owned();
        example.replace("\"/", &format!("\"{root}/"));
        example
    }

    #[track_caller]
    fn replace(&mut self, from: &str, to: &str) {
        replace(&mut self.text, from, to);
    }

    /// Starts the server with the buckets.
    fn with_s3(&mut self, buckets: &[&str]) -> Server {
        let (server, credentials) = s3(buckets);
        self.host.write_private("etc/yester/s3-credentials", &credentials);
        let region = "region           = \"eu-central-1\"";
        self.replace(region, &format!("{region}\nendpoint = \"{}\"", server.url()));
        server
    }

    /// Makes the stand-in for a program that starts others elsewhere; `skip` drops its own words.
    fn stand_in(&mut self, program: &str, skip: &str, environment: &str) {
        let path =
            self.host.program(&format!("bin/{program}"), &format!("{skip}\n{environment} exec \"$@\""));
        self.replace(&format!("[\"{program}\""), &format!("[\"{path}\""));
    }

    /// Writes the configuration and makes the stores, those of copies like the first one.
    fn install(&self) {
        self.host.configure(&self.text);
        for folder in ["media/backup", "media/usb", "var/lib/prometheus/node-exporter"] {
            fs::create_dir_all(self.host.lab.path(folder)).unwrap();
        }
        self.host.write_private("etc/yester/pagerduty", "0123456789abcdef0123456789abcdef\n");
        let (first, copies) = self.stores.split_first().unwrap();
        self.host.init(first);
        for copy in copies {
            self.host.cron(&["--store", copy, "init", "--like", first]).succeeds();
        }
    }

    /// Runs both nights: `change` is what happens on the day between them.
    fn two_nights(&self, change: impl FnOnce()) {
        self.two_nights_with(&[], change);
    }

    fn two_nights_with(&self, arguments: &[&str], change: impl FnOnce()) {
        let night = |environment| {
            let arguments: Vec<&str> = ["run", "--all"].iter().chain(arguments).copied().collect();
            is_silent(&Ran::of(&mut self.host.command(environment, &arguments)));
        };
        night(CRON);
        change();
        night(&[]);
        self.are_as_they_should();
    }

    /// Expects that both nights did all that there was to do.
    fn are_as_they_should(&self) {
        let runs = self.host.lab.runs();
        assert!(runs.iter().all(|run| run.outcome == RunOutcome::Succeeded), "{runs:#?}");
        for source in self.sources {
            let nights: Vec<_> =
                self.host.runs("ingest").into_iter().filter(|run| run.source == *source).collect();
            assert_eq!(nights.len(), 2, "{source}");
            let (first, second) = (&nights[0], &nights[1]);
            assert!(first.added_bytes >= first.bytes / 2, "{source}: {first:?}");
            // What differs, and the chunk around it.
            assert!(second.added_bytes < second.bytes / 4 + 300_000, "{source}: {second:?}");
            let id = second.snapshot.unwrap().hex();
            for store in self.stores {
                let there = self.host.snapshots(store, source);
                let is_second = |snapshot: &serde_json::Value| {
                    snapshot["id"] == id.as_str() || snapshot["origin"] == id.as_str()
                };
                assert!(is_second(there.last().unwrap()), "{source} in {store}: {there:#?}");
            }
        }
        let done = |operation| self.host.runs(operation).len();
        assert!(done("forget") >= 2, "retention was applied");
        assert_eq!(done("copy"), 2 * (self.stores.len() - 1));
    }
}

/// Makes the database of an example, with so many orders.
fn database(postgres: &Postgres, name: &str) {
    succeed(postgres.client("createdb").arg(name));
    postgres.query(
        name,
        "CREATE TABLE orders AS SELECT id, md5(id::text) || md5((id * 7)::text) AS note
             FROM generate_series(1, 40000) AS id;
         ALTER TABLE orders ADD PRIMARY KEY (id)",
    );
}

/// Changes the last of the orders.
fn work(postgres: &Postgres, name: &str) {
    postgres.query(name, "INSERT INTO orders SELECT id, 'new' FROM generate_series(40001, 40100) AS id");
}

/// Restores a dump and expects all orders in it.
fn is_restored(postgres: &Postgres, name: &str, dump: &Path) {
    succeed(postgres.client("createdb").arg("restored"));
    succeed(postgres.client("pg_restore").args(["-j2", "-d", "restored"]).arg(dump));
    let count = "SELECT count(*), md5(string_agg(note, ',' ORDER BY id)) FROM orders";
    assert_eq!(postgres.query("restored", count), postgres.query(name, count));
    assert!(postgres.query("restored", count).starts_with("40100|"));
}

/// Returns the assignments of shell by which programs find a server.
fn environment_of(postgres: &Postgres) -> String {
    let mut probe = Command::new("true");
    postgres.connect(&mut probe);
    let set = probe.get_envs().filter_map(|(name, value)| Some((name.to_str()?, value?.to_str()?)));
    set.map(|(name, value)| format!("{name}='{value}'")).collect::<Vec<_>>().join(" ")
}

/// Drops `exec -i CONTAINER`.
const DOCKER: &str = "[ \"$1 $2\" = 'exec -i' ] || exit 64\nshift 3";
/// Drops everything up to `--`.
const KUBECTL: &str = "while [ \"$1\" != -- ]; do shift; done\nshift";

#[test]
fn the_point_of_sale() {
    if !can(&NEEDS) {
        return;
    }
    let example = Example::new("pos", &["local"], &["pos", "settings"]);
    let host = &example.host;
    host.program("opt/pos/bin/pos-export", "[ \"$1\" = --json ] && cat \"${0%/bin/*}/records\"");
    let records = |count: u64| -> String {
        (0..count)
            .map(|id| format!("{{\"id\": {id}, \"total\": {}}}\n", id.wrapping_mul(7_919_773) % 9973))
            .collect()
    };
    host.write("opt/pos/records", records(120_000));
    host.write("etc/pos/till.conf", noise(1, 50_000));
    example.install();
    example.two_nights(|| host.write("opt/pos/records", records(120_500)));
    assert!(host.newest("local", "pos", "pos.json") == records(120_500).into_bytes());
    assert!(host.newest("local", "settings", &host.text("etc/pos/till.conf")) == noise(1, 50_000));
}

#[test]
fn the_call_centre() {
    if !can(&NEEDS) || !can(&[Need::Postgres, Need::Fuse, Need::Tool("redis-server")]) {
        return;
    }
    let postgres = Postgres::start();
    database(&postgres, "callcentre");
    let mut example =
        Example::new("callcentre", &["primary", "secondary"], &["callcentre", "cache", "files"]);
    let server = example.with_s3(&["acme-backups", "acme-backups-2"]);
    let redis = Redis::start(&example.host.lab.path("redis"), None);
    redis.fill(260_000);
    example.replace("127.0.0.1:6379", &format!("127.0.0.1:{}", redis.port));
    example.stand_in("docker", DOCKER, &environment_of(&postgres));
    let host = &example.host;
    host.write("opt/callcentre/config/app.ini", noise(2, 40_000));
    host.write("opt/callcentre/config/app.log", "left out");
    host.write("opt/callcentre/dashboards/calls.json", noise(3, 40_000));
    example.install();
    example.two_nights(|| {
        work(&postgres, "callcentre");
        succeed(redis.client().args(["set", "visitors", "7"]));
    });
    assert!(!server.keys("acme-backups-2", "store/packs").unwrap().is_empty());
    let saved = host.newest("secondary", "cache", "cache.rdb");
    assert_eq!(Redis::keys_of(&host.lab.path("other"), &saved), 260_001);
    let listed = host.cron(&["--store", "primary", "ls", "latest:files", "--recursive"]).succeeds();
    assert!(listed.contains("calls.json") && !listed.contains("app.log"), "{listed}");
    let globals = host.newest("primary", "callcentre", "globals.sql");
    assert!(String::from_utf8(globals).unwrap().contains("CREATE ROLE postgres"));
    let config = host.config();
    let mount = host.lab.mount(&["--config", config.to_str().unwrap(), "--store", "secondary"]);
    is_restored(&postgres, "callcentre", &mount.path("sources/callcentre/latest/callcentre.dump"));
}

#[test]
fn the_booking_system() {
    if !can(&NEEDS) || !can(&[Need::Postgres, Need::Fuse]) {
        return;
    }
    let postgres = Postgres::start();
    database(&postgres, "booking");
    let mut example = Example::new("booking", &["bucket", "disk"], &["booking", "manifests"]);
    let _server = example.with_s3(&["acme-booking"]);
    example.stand_in("kubectl", KUBECTL, &environment_of(&postgres));
    let host = &example.host;
    host.write("opt/booking/manifests/app.yaml", noise(4, 30_000));
    example.install();
    example.two_nights(|| work(&postgres, "booking"));
    let config = host.config();
    let mount = host.lab.mount(&["--config", config.to_str().unwrap(), "--store", "disk"]);
    is_restored(&postgres, "booking", &mount.path("sources/booking/latest/booking.dump"));
}

#[test]
fn the_asset_management() {
    if !can(&NEEDS) || !can(&[Need::Postgres, Need::Tool("runuser")]) {
        return;
    }
    let postgres = Postgres::start();
    database(&postgres, "mms");
    let mut example = Example::new("assets", &["local", "drawer", "offsite"], &["database", "files"]);
    let _server = example.with_s3(&["acme-assets"]);
    let socket = environment_of(&postgres).split('\'').nth(1).map(PathBuf::from).unwrap();
    example.replace("\"mms\"", &format!("\"host={} dbname=mms\"", socket.display()));
    let host = &example.host;
    host.program("opt/mms/bin/mms", "echo \"$@\" >> \"${0%/bin/*}/flushed\"");
    host.write("opt/mms/config/mms.conf", noise(5, 20_000));
    host.write("opt/mms/uploads/photo", noise(6, 900_000));
    host.write("opt/mms/uploads/half.tmp", "left out");
    host.write("opt/mms/uploads/cache/page", "left out");
    example.install();
    // What is protected stays, whatever the policy says.
    example.two_nights_with(&["--tag", "before-update", "--protect"], || {
        work(&postgres, "mms");
        example.host.write("opt/mms/uploads/second", noise(7, 100_000));
    });
    let host = &example.host;
    assert_eq!(fs::read_to_string(host.lab.path("opt/mms/flushed")).unwrap(), "flush\nflush\n");
    assert_eq!(host.snapshots("local", "files").len(), 2);
    let target = host.text("restored");
    host.cron(&["--store", "drawer", "restore", "latest:files", "--to", &target]).succeeds();
    let found = PathBuf::from(format!("{target}{}", host.text("opt/mms")));
    assert!(fs::read(found.join("uploads/second")).unwrap() == noise(7, 100_000));
    assert!(!found.join("uploads/half.tmp").exists() && !found.join("uploads/cache").exists());
    host.write("mms.dump", host.newest("offsite", "database", "database.dump"));
    is_restored(&postgres, "mms", &host.lab.path("mms.dump"));
}

#[test]
fn the_inventory() {
    if !can(&NEEDS) {
        return;
    }
    let mut example = Example::new("inventory", &["local", "usb", "cloud"], &["inventory", "uploads"]);
    let _server = example.with_s3(&["acme-inventory"]);
    let path = example.host.text("bin");
    example.stand_in("docker", DOCKER, &format!("PATH={path}:$PATH"));
    let host = &example.host;
    let words =
        "[ \"$*\" = '--archive --uri=mongodb://backup@localhost/scandy' ] || { echo \"$*\" >&2; exit 1; }";
    host.program("bin/mongodump", &format!("{words}\ncat \"${{0%/bin/*}}/archive\""));
    host.write("archive", mongo_archive(60_000));
    host.write("srv/inventory/uploads/item.jpg", noise(8, 300_000));
    example.install();
    example.two_nights(|| host.write("archive", mongo_archive(60_010)));
    assert!(host.newest("usb", "inventory", "inventory.archive") == mongo_archive(60_010));
    assert!(
        host.newest("cloud", "uploads", &host.text("srv/inventory/uploads/item.jpg")) == noise(8, 300_000)
    );
}
