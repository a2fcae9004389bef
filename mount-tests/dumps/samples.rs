//! One dump of each format that is recognised, made by the program that people make it with; only what mariadb-dump
//! writes is put together here, and what mongodump writes lies among the samples of the fuzzing.

use std::fs;
use std::process::Command;

use super::{feed, make_shop, output_of};
use crate::harness::{Lab, Process, eventually, noise, succeed};
use crate::postgres::Postgres;

/// A whole dump.
pub(super) struct Sample {
    pub(super) name: &'static str,
    /// What it is to be recognised as, outermost first.
    pub(super) formats: &'static [&'static str],
    pub(super) bytes: Vec<u8>,
    /// So many bytes are needed: without the rest, nothing is lost.
    pub(super) needed: usize,
    /// A shorter part could be the beginning of anything.
    pub(super) recognised: usize,
}

impl Sample {
    fn new(name: &'static str, formats: &'static [&'static str], bytes: Vec<u8>) -> Self {
        let needed = bytes.len();
        Self { name, formats, bytes, needed, recognised: 1 }
    }

    /// A text needs no line feeds at its end.
    fn text(name: &'static str, formats: &'static [&'static str], bytes: Vec<u8>) -> Self {
        let needed = bytes.trim_ascii_end().len();
        Self { name, formats, bytes, needed, recognised: 1 }
    }

    /// A tar archive ends with two blocks of zeros; others may follow, up to a whole record.
    fn tar(name: &'static str, bytes: Vec<u8>) -> Self {
        let zeros = bytes.iter().rev().take_while(|byte| **byte == 0).count();
        let needed = (bytes.len() - zeros).next_multiple_of(512) + 1024;
        // The first field of an archive is the name of a file, which tells nothing.
        Self { name, formats: &["tar"], bytes, needed, recognised: 124 }
    }
}

/// No server wrote this one either.
const MONGO: &[u8] = include_bytes!("../fuzz/samples/mongo.archive");

/// Returns what the programs of a release write.
pub(super) fn of_postgres(postgres: &Postgres) -> Vec<Sample> {
    make_shop(postgres, 1000);
    let dump = |options: &[&str]| output_of(postgres.client("pg_dump").args(options).arg("shop"));
    let globals = output_of(postgres.client("pg_dumpall").arg("--globals-only"));
    vec![
        Sample::new("pg_dump -Fc -Z0", &["pg-custom"], dump(&["-Fc", "-Z0"])),
        Sample::new("pg_dump -Fc", &["pg-custom"], dump(&["-Fc"])),
        Sample::tar("pg_dump -Ft", dump(&["-Ft"])),
        Sample::text("pg_dump", &["pg-sql"], dump(&[])),
        Sample::text("pg_dumpall", &["pg-sql"], output_of(&mut postgres.client("pg_dumpall"))),
        Sample::text("pg_dumpall --globals-only", &["pg-sql"], globals),
    ]
}

/// Returns what programs make that need no PostgreSQL.
pub(super) fn of_others(lab: &Lab) -> Vec<Sample> {
    let sql = sqlite();
    let packed = |program: &str| feed(Command::new(program).arg("-c"), &sql).stdout;
    let mut samples = vec![
        Sample::new("gzip", &["gzip", "sqlite-sql"], packed("gzip")),
        Sample::new("zstd", &["zstd", "sqlite-sql"], packed("zstd")),
        Sample::tar("GNU tar", tar(lab)),
        mysql(),
        Sample::new("mongodump --archive", &["mongo-archive"], MONGO.to_vec()),
    ];
    samples.extend(redis(lab));
    samples.push(Sample::text("sqlite3 .dump", &["sqlite-sql"], sql));
    samples
}

/// What `.dump` of SQLite's shell says of a small database.
pub(super) fn sqlite() -> Vec<u8> {
    let script = "CREATE TABLE notes (id INTEGER PRIMARY KEY, text);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
            INSERT INTO notes SELECT i, 'COMMIT; ' || i * i FROM n;
        CREATE INDEX by_text ON notes (text);
        \n.dump\n";
    feed(Command::new("sqlite3").arg(":memory:"), script.as_bytes()).stdout
}

/// What GNU tar writes of a few files; the last one ends with no zeros.
fn tar(lab: &Lab) -> Vec<u8> {
    let folder = lab.path("tree");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("noise"), noise(3, 40_000)).unwrap();
    fs::write(folder.join("blank"), vec![0; 30_000]).unwrap();
    fs::write(folder.join("n".repeat(150)), "a long name").unwrap();
    fs::write(folder.join("empty"), "").unwrap();
    output_of(Command::new("tar").args(["--sort=name", "-cf", "-", "tree"]).current_dir(lab.path("")))
}

/// Returns what a Redis server saves, and what it sends to a client.
fn redis(lab: &Lab) -> [Sample; 2] {
    let folder = lab.path("redis");
    fs::create_dir(&folder).unwrap();
    let socket = folder.join("socket");
    let mut server = Command::new("redis-server");
    // It would wait for more replicas before it sends its data, and the client is none.
    server
        .args(["--repl-diskless-sync-delay", "0", "--port", "0", "--save", "", "--unixsocket"])
        .arg(&socket)
        .arg("--dir")
        .arg(&folder);
    let server = Process::start(&mut server);
    let client = || {
        let mut command = Command::new("redis-cli");
        command.arg("-s").arg(&socket);
        command
    };
    eventually("Redis answers", || client().arg("ping").output().unwrap().stdout.starts_with(b"PONG"));
    let fill = "for i = 1, 1000 do
            redis.call('set', 'key' .. i, 'value ' .. i * i)
            redis.call('hset', 'hash', i, i * i)
            redis.call('zadd', 'sorted', i, 'member' .. i)
            redis.call('rpush', 'list', i)
        end
        redis.call('set', 'long', string.rep('the same again ', 1000))";
    succeed(client().args(["eval", fill, "0"]));
    let sent = output_of(client().args(["--rdb", "-"]));
    // What was sent is saved in the background, and only one thing at a time.
    eventually("Redis saves", || client().arg("save").output().unwrap().stdout.starts_with(b"OK"));
    drop(server);
    let saved = fs::read(folder.join("dump.rdb")).unwrap();
    let mut sent = Sample::new("redis-cli --rdb -", &["rdb"], sent);
    // Behind what a server sends without a file of its own, the client leaves the 40 characters that ended it.
    sent.needed -= if sent.bytes[sent.needed - 40..].iter().all(u8::is_ascii_hexdigit) { 40 } else { 0 };
    [Sample::new("redis-server's SAVE", &["rdb"], saved), sent]
}

/// No server wrote this one: it is a stand-in, with the first and last lines as mariadb-dump 10.11 writes them.
fn mysql() -> Sample {
    let mut text = String::from(
        "/*M!999999\\- enable the sandbox mode */ \n\
         -- MariaDB dump 10.19  Distrib 10.11.14-MariaDB, for debian-linux-gnu (x86_64)\n\
         --\n\
         -- Host: localhost    Database: shop\n\
         -- ------------------------------------------------------\n\
         -- Server version\t10.11.14-MariaDB-0+deb12u2\n\
         \n\
         /*!40101 SET @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT */;\n\
         CREATE TABLE `orders` (`id` int(11) NOT NULL, `note` text);\n",
    );
    for number in 0..3000 {
        text += &format!("INSERT INTO `orders` VALUES ({number},'-- Dump completed {}');\n", number * number);
    }
    text += "/*!40111 SET SQL_NOTES=@OLD_SQL_NOTES */;\n\n-- Dump completed";
    let needed = text.len();
    text += " on 2026-11-21 12:00:00\n";
    Sample { name: "mariadb-dump", formats: &["mysql-sql"], bytes: text.into_bytes(), needed, recognised: 1 }
}
