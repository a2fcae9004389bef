//! What yester says of dumps that come compressed: what that costs, once, and what to do.

use std::process::Command;

use data_encoding::HEXLOWER;

use super::{assert_whole, feed};
use crate::harness::{Lab, Need, can, noise};

/// Makes an SQL dump of over two megabytes, which compress to more than one.
fn sql() -> Vec<u8> {
    let mut script = "CREATE TABLE notes (text);\nBEGIN;\n".to_owned();
    for row in noise(5, 80 * 16_000).chunks(80) {
        script += &format!("INSERT INTO notes VALUES (x'{}');\n", HEXLOWER.encode(row));
    }
    script += "COMMIT;\n.dump\n";
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
        assert_eq!(ran.stderr.matches("advice: ").count(), 1, "{}", ran.stderr);
        assert!(ran.stderr.contains(&format!("leave {program} out")), "{}", ran.stderr);
        let document = feed(&mut lab.command(["ingest", "--as", "notes.sql", "--json"]), &packed).json();
        assert_whole(&document, &[format, "sqlite-sql"]);
        assert_eq!(document["dump"]["compressed"], true);
        assert!(document["advice"].as_str().unwrap().contains(program), "{document}");
        let stats = lab.run(["stats", "--json"]).json();
        assert_eq!(stats["compressed_dumps"]["count"], 2, "{stats}");
        assert!(lab.run(["stats"]).succeeds().contains("2 dumps"));
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
        assert!(document["advice"].is_null(), "{document}");
        let ran = feed(&mut lab.command(["ingest", "--as", "notes.sql"]), dump);
        ran.succeeds();
        assert!(!ran.stderr.contains("advice"), "{}", ran.stderr);
    }
}
