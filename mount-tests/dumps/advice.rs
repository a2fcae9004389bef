//! What yester says of dumps that come compressed: what that costs, once, and what to do.

use std::process::Command;

use super::{assert_whole, feed};
use crate::harness::{Lab, Need, can};

/// Makes an SQL dump of more than two megabytes that compress to more than one.
fn sql() -> Vec<u8> {
    let script = "CREATE TABLE notes (text);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 16000)
            INSERT INTO notes SELECT hex(randomblob(80)) FROM n;
        \n.dump\n";
    feed(Command::new("sqlite3").arg(":memory:"), script.as_bytes()).stdout
}

#[test]
fn a_compressed_dump_is_told_what_it_costs() {
    if !can(&[Need::Tool("sqlite3"), Need::Tool("gzip"), Need::Tool("zstd")]) {
        return;
    }
    let sql = sql();
    for (program, format) in [("gzip", "gzip"), ("zstd", "zstd")] {
        let packed = feed(Command::new(program).arg("-c"), &sql).stdout;
        assert!(packed.len() > 1_100_000, "{}", packed.len());
        let lab = Lab::new();
        let ran = feed(&mut lab.command(["ingest", "--as", "notes.sql"]), &packed);
        ran.succeeds();
        let advice = ran.stderr.lines().filter(|line| line.contains("without compression")).count();
        assert_eq!(advice, 1, "{}", ran.stderr);
        let document = feed(&mut lab.command(["ingest", "--as", "notes.sql", "--json"]), &packed).json();
        assert_whole(&document, &[format, "sqlite-sql"]);
        assert_eq!(document["dump"]["compressed"], true);
        assert!(document["advice"].to_string().contains("compress"), "{document}");
        let stats = lab.run(["stats"]).succeeds();
        assert!(stats.contains("compressed dump") || stats.contains("without compression"), "{stats}");
    }
}

#[test]
fn a_plain_dump_and_a_small_one_are_told_nothing() {
    if !can(&[Need::Tool("sqlite3"), Need::Tool("gzip")]) {
        return;
    }
    let sql = sql();
    let small = feed(Command::new("sqlite3").arg(":memory:"), b"CREATE TABLE notes (text);\n.dump\n").stdout;
    let packed = feed(Command::new("gzip").arg("-c"), &small).stdout;
    for (dump, formats) in [(&sql, &["sqlite-sql"][..]), (&packed, &["gzip", "sqlite-sql"])] {
        let lab = Lab::new();
        let document = feed(&mut lab.command(["ingest", "--as", "notes.sql", "--json"]), dump).json();
        assert_whole(&document, formats);
        let advice = document["advice"].as_array().map_or(0, Vec::len);
        assert_eq!(advice, 0, "{document}");
        let ran = feed(&mut lab.command(["ingest", "--as", "notes.sql"]), dump);
        ran.succeeds();
        assert!(!ran.stderr.contains("without compression"), "{}", ran.stderr);
    }
}
