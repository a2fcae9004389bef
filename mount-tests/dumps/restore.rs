//! pg_dump's custom format through a pipe: stored as pg_dump writes it into a file, and restored as fast.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use super::{QUESTIONS, assert_whole, feed, latest, make_shop, output_of};
use crate::harness::{Lab, Need, Ran, can, succeed};
use crate::postgres::{Postgres, Release};

/// What a restore may seek in a file of any size.
const SEEKS_MAX: u64 = 1000;

#[test]
fn a_piped_dump_of_debians_postgres_is_the_one_of_a_file() {
    piped_dumps_are_those_of_files(Release::Debian, &[]);
}

#[test]
fn a_piped_dump_of_postgres_18_is_the_one_of_a_file() {
    piped_dumps_are_those_of_files(Release::Eighteen, &["--statistics"]);
}

fn piped_dumps_are_those_of_files(release: Release, more: &[&str]) {
    if !can(&[Need::Root, Need::Fuse, release.need()]) {
        return;
    }
    let postgres = Postgres::start_release(release);
    // Over a thousand large objects: PostgreSQL 17 and newer divide their data among several entries.
    make_shop(&postgres, 24_000);
    for (number, compression) in [&["-Z0"][..], &[]].into_iter().enumerate() {
        let options = [&["-Fc"], compression, more].concat();
        let lab = Lab::new();
        let written = lab.path("written.dump");
        succeed(postgres.client("pg_dump").args(&options).arg("-f").arg(&written).arg("shop"));
        stored_as_written(&postgres, &lab, &options, &written);
        restores_from_the_mount(&postgres, &lab, &written, number);
    }
}

/// Ingests what `pg_dump` writes into a pipe: as a command, from standard input, and verbatim.
fn stored_as_written(postgres: &Postgres, lab: &Lab, options: &[&str], written: &Path) {
    let written = without_time(&fs::read(written).unwrap());
    let compressed = !options.contains(&"-Z0");

    let mut ingest = lab.command(["ingest", "--as", "shop.dump", "--json", "--"]);
    postgres.connect(ingest.arg(postgres.program("pg_dump")).args(options).arg("shop"));
    let document = Ran::of(&mut ingest).json();
    assert_whole(&document, &["pg-custom"]);
    // Two tables of three have rows, and the large objects have an entry as well; an empty one has its end.
    assert!(document["dump"]["filled_offsets"].as_u64().unwrap() >= 4, "{document}");
    assert_eq!(document["dump"]["compressed"], compressed, "{document}");
    assert_eq!(document["bytes"], written.len() as u64);
    assert_eq!(document["advice"].to_string().contains("-Z0"), compressed, "{document}");
    assert!(
        without_time(&latest(lab, "shop.dump")) == written,
        "{options:?}: not what pg_dump writes to a file"
    );

    let mut dump =
        postgres.client("pg_dump").args(options).arg("shop").stdout(Stdio::piped()).spawn().unwrap();
    let mut ingest = lab.command(["ingest", "--as", "stdin.dump"]);
    succeed(ingest.stdin(dump.stdout.take().unwrap()));
    assert!(dump.wait().unwrap().success());
    assert!(
        without_time(&latest(lab, "stdin.dump")) == written,
        "{options:?}: standard input is another matter"
    );

    let piped = output_of(postgres.client("pg_dump").args(options).arg("shop"));
    assert!(without_time(&piped) != written, "pg_dump writes offsets into a pipe: what is this good for?");
    let mut ingest = lab.command(["ingest", "--as", "verbatim.dump", "--verbatim", "--json"]);
    let document = feed(&mut ingest, &piped).json();
    assert_whole(&document, &["pg-custom"]);
    assert_eq!(document["dump"]["filled_offsets"], 0, "{document}");
    assert!(latest(lab, "verbatim.dump") == piped, "{options:?}: verbatim is not");
    // Whoever has a dump with offsets already gets the same back.
    let own = output_of(&mut lab.command(["cat", "latest:shop.dump", "shop.dump"]));
    let document = feed(&mut lab.command(["ingest", "--as", "again.dump", "--json"]), &own).json();
    assert_whole(&document, &["pg-custom"]);
    assert!(latest(lab, "again.dump") == own);
}

/// Restores from a mount by two processes, lists, and restores one table.
fn restores_from_the_mount(postgres: &Postgres, lab: &Lab, written: &Path, number: usize) {
    lab.cool();
    let mount = lab.mount(&[]);
    let dump = mount.path("sources/shop.dump/latest/shop.dump");
    let list = |path: &Path| {
        let listed = succeed(postgres.client("pg_restore").arg("-l").arg(path));
        listed.lines().filter(|line| !line.starts_with(';')).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(list(&dump), list(written));

    let all = format!("all{number}");
    succeed(postgres.client("createdb").arg(&all));
    succeed(postgres.client("pg_restore").args(["-e", "-j2", "-d", &all]).arg(&dump));
    for question in QUESTIONS {
        assert_eq!(postgres.query(&all, question), postgres.query("shop", question), "{question}");
    }

    let one = format!("one{number}");
    succeed(postgres.client("createdb").arg(&one));
    succeed(postgres.client("pg_restore").args(["-e", "-d", &one, "-t", "orders"]).arg(&dump));
    assert_eq!(postgres.query(&one, QUESTIONS[0]), postgres.query("shop", QUESTIONS[0]));
    assert_eq!(postgres.query(&one, "SELECT to_regclass('empty') IS NULL"), "t\n");
}

/// Returns an archive with zeros for the time of its making: seven integers in its header, and all that differs
/// between two runs.
fn without_time(archive: &[u8]) -> Vec<u8> {
    assert_eq!(&archive[..5], b"PGDMP");
    let integer = 1 + usize::from(archive[8]);
    let is_old = (archive[5], archive[6]) < (1, 15);
    // Behind the magic: three bytes of version, lengths of integers and offsets, the format, the compression.
    let start = 11 + if is_old { integer } else { 1 };
    let mut masked = archive.to_vec();
    masked[start..start + 7 * integer].fill(0);
    masked
}

#[test]
fn a_restore_of_a_piped_dump_of_debians_postgres_seeks_little() {
    restore_seeks_little(Release::Debian);
}

#[test]
fn a_restore_of_a_piped_dump_of_postgres_18_seeks_little() {
    restore_seeks_little(Release::Eighteen);
}

/// Without offsets, pg_restore looks for each table's data from the start: it seeks over every row before.
fn restore_seeks_little(release: Release) {
    if !can(&[Need::Root, Need::Fuse, release.need(), Need::Tool("strace")]) {
        return;
    }
    let postgres = Postgres::start_release(release);
    succeed(postgres.client("createdb").arg("big"));
    postgres.query(
        "big",
        "CREATE TABLE one AS SELECT id, (
             SELECT string_agg(md5((id * 100 + word)::text), ' ') FROM generate_series(1, 40) AS word
         ) AS words FROM generate_series(1, 20000) AS id;
         CREATE TABLE two AS SELECT * FROM one",
    );
    let lab = Lab::new();
    let ingest = |arguments: &[&str]| -> Value {
        let mut command = lab.command(["ingest", "--json", "--as"]);
        command.args(arguments).arg("--").arg(postgres.program("pg_dump"));
        postgres.connect(command.args(["-Fc", "-Z0", "big"]));
        Ran::of(&mut command).json()
    };
    let document = ingest(&["big.dump"]);
    assert_whole(&document, &["pg-custom"]);
    assert!(document["bytes"].as_u64().unwrap() > 50_000_000, "{document}");
    assert_eq!(document["dump"]["filled_offsets"], 2);
    assert_whole(&ingest(&["raw.dump", "--verbatim"]), &["pg-custom"]);

    let mount = lab.mount(&[]);
    let seeks = |name: &str| {
        let database = name.trim_end_matches(".dump");
        succeed(postgres.client("createdb").arg(format!("new_{database}")));
        let table = lab.path("seeks");
        let mut strace = std::process::Command::new("strace");
        strace.args(["--seccomp-bpf", "-f", "-c", "-e", "trace=lseek", "-o"]).arg(&table);
        strace.arg(postgres.program("pg_restore")).args(["-e", "-j2", "-d", &format!("new_{database}")]);
        postgres.connect(strace.arg(mount.path(format!("sources/{name}/latest/{name}"))));
        succeed(&mut strace);
        let sums = "SELECT sum(hashtextextended(one::text, 0)) FROM one
                    UNION ALL SELECT sum(hashtextextended(two::text, 0)) FROM two";
        assert_eq!(postgres.query(&format!("new_{database}"), sums), postgres.query("big", sums));
        let table = fs::read_to_string(table).unwrap();
        let calls = table.lines().find(|line| line.ends_with(" lseek"));
        let calls = calls.expect("pg_restore seeks at least once");
        calls.split_whitespace().nth(3).unwrap().parse::<u64>().unwrap()
    };
    let (filled, verbatim) = (seeks("big.dump"), seeks("raw.dump"));
    assert!(filled < SEEKS_MAX, "{filled} seeks");
    assert!(verbatim >= 10 * filled, "{filled} seeks with offsets, {verbatim} without");
}
