//! Several commands in one snapshot: what they are given, what is stored, and when nothing is.

use zeroize::Zeroizing;

use super::*;
use crate::format::snapshot::{Dump, DumpCheck};

const SECRET: &str = "hunter2";

const SQL: &str = "--\n-- PostgreSQL database cluster dump\n--\n\nSELECT 1;\n\n--\n-- PostgreSQL database cluster dump complete\n--\n\n";

fn line(name: &str, script: &str) -> CommandLine {
    let argv = ["sh", "-c", script].map(OsString::from).to_vec();
    CommandLine::new(Name::new(name.as_bytes()).unwrap(), argv)
}

fn take(repo: &Repository, lines: Vec<CommandLine>) -> Result<IngestStats, IngestError> {
    ingest(repo, Input::Commands(lines), &options(), &Silent)
}

fn stored(repo: &Repository, stats: &IngestStats, name: &str) -> Vec<u8> {
    bytes(repo, &entry(repo, stats, Path::new(name)).unwrap())
}

#[test]
fn each_command_becomes_a_file_of_one_snapshot() {
    let test = TestStore::new();
    let repo = test.open();
    let stats = take(&repo, vec![line("z.sql", "echo one"), line("a.sql", &format!("printf '%s' '{SQL}'"))]);
    let stats = stats.unwrap();
    assert_eq!(stored(&repo, &stats, "z.sql"), b"one\n");
    assert_eq!(stored(&repo, &stats, "a.sql"), SQL.as_bytes());
    let manifest = &stats.manifest;
    assert_eq!(manifest.paths, [b"z.sql".to_vec(), b"a.sql".to_vec()], "in the order in which they ran");
    assert_eq!(manifest.command, Some(vec![b"sh".to_vec(), b"-c".to_vec(), b"echo one".to_vec()]));
    assert_eq!((manifest.totals.files, manifest.totals.bytes), (2, 4 + SQL.len() as u64));
    assert_eq!(manifest.completeness, Completeness::Complete);
    let outputs = |get: fn(&Dump) -> DumpCheck| -> Vec<_> {
        manifest.outputs.iter().map(|output| (output.name.as_slice(), get(&output.dump))).collect()
    };
    let expected = [(&b"z.sql"[..], DumpCheck::Unchecked), (b"a.sql", DumpCheck::Whole)];
    assert_eq!(outputs(|dump| dump.check), expected);
    assert_eq!(manifest.outputs[0].command, manifest.command.clone().unwrap());
    assert_eq!(manifest.dump.as_ref(), Some(&manifest.outputs[0].dump), "what is unchecked is worse");
    let found: Vec<_> = stats.dumps.iter().map(|dump| (dump.name.to_string(), dump.bytes)).collect();
    assert_eq!(found, [("z.sql".to_owned(), 4), ("a.sql".to_owned(), SQL.len() as u64)]);
    let committed = repo.find_snapshot(&manifest.id.to_string()).unwrap();
    assert_eq!(committed.manifest, *manifest);
}

#[test]
fn one_command_is_stored_as_ever() {
    let test = TestStore::new();
    let stats = take(&test.open(), vec![line("one", "echo one")]).unwrap();
    assert!(stats.manifest.outputs.is_empty() && stats.manifest.dump.is_some());
}

#[test]
fn the_worst_file_says_how_good_the_snapshot_is() {
    let test = TestStore::new();
    let repo = test.open();
    let whole = line("whole.sql", &format!("printf '%s' '{SQL}'"));
    let cut = line("cut.sql", &format!("printf '%s' '{}'", &SQL[..SQL.len() / 2]));
    let last = line("last", "echo of no known format");
    let stats = take(&repo, vec![whole, cut, last]).unwrap();
    assert_eq!(stats.manifest.completeness, Completeness::Suspicious);
    let dump = stats.manifest.dump.as_ref().unwrap();
    assert_eq!((dump.check, dump), (DumpCheck::Broken, &stats.manifest.outputs[1].dump));
    assert!(repo.find_snapshot("latest:test").is_err(), "it is never the latest");
    assert_eq!(stored(&repo, &stats, "last"), b"of no known format\n", "all is kept");
}

#[test]
fn what_fails_keeps_the_rest_from_starting_and_from_being_kept() {
    let test = TestStore::new();
    let repo = test.open();
    let folder = tempfile::tempdir().unwrap();
    let third = folder.path().join("third");
    let fails = |second: CommandLine| {
        let lines =
            vec![line("a", "echo one"), second, line("c", &format!("echo c | tee {}", third.display()))];
        take(&repo, lines).unwrap_err()
    };
    let error = fails(line("b", "echo half; exit 3"));
    assert_eq!(error.to_string(), "sh -c echo half; exit 3 failed (exit code 3); no snapshot was made");
    let error = fails(line("b", "true"));
    assert_eq!(error.to_string(), "b is empty; no snapshot was made");
    let error = fails(CommandLine { min_bytes: 100, ..line("b", "echo two") });
    assert!(matches!(&error, IngestError::TooSmall { name, bytes: 4, min_bytes: 100 } if name == "b"));
    let absent = CommandLine { argv: vec!["/nonexistent/pg_dump".into()], ..line("b", "") };
    assert!(matches!(fails(absent), IngestError::Start(command, _) if command == "/nonexistent/pg_dump"));
    assert!(!third.exists());
    assert!(repo.snapshots().unwrap().is_empty());
    take(&repo, vec![line("a", "echo one"), line("b", "echo two")]).unwrap();
}

#[test]
fn commands_that_cannot_lie_side_by_side_write_nothing() {
    let test = TestStore::new();
    let repo = test.open();
    let before = test.store_keys();
    for lines in [Vec::new(), vec![line("a", "echo one"), line("a", "echo two")]] {
        assert!(matches!(take(&repo, lines), Err(IngestError::Commands(_))));
    }
    assert_eq!(test.store_keys(), before);
}

#[test]
fn secrets_come_by_environment_and_input_and_are_not_told() {
    let test = TestStore::new();
    let repo = test.open();
    let with_secrets = |script: &str| CommandLine {
        environment: vec![("PGPASSWORD".into(), Zeroizing::new(SECRET.to_owned()))],
        input: Some(Zeroizing::new(SECRET.as_bytes().to_vec())),
        ..line("out", script)
    };
    let stats = take(&repo, vec![with_secrets("echo $PGPASSWORD; cat")]).unwrap();
    assert_eq!(stored(&repo, &stats, "out"), format!("{SECRET}\n{SECRET}").as_bytes());
    let told = format!("{stats:?}");
    assert!(!told.contains(SECRET), "{told}");
    // The next command is given neither.
    let stats = take(&repo, vec![with_secrets("echo 1"), line("next", "echo $PGPASSWORD; cat")]).unwrap();
    assert_eq!(stored(&repo, &stats, "next"), b"\n");

    let broken = CommandLine {
        environment: vec![("A\0".into(), Zeroizing::new(SECRET.to_owned()))],
        ..line("out", "true")
    };
    for line in [with_secrets("exit 1"), with_secrets("kill -9 $$"), with_secrets("true"), broken] {
        let error = take(&repo, vec![line]).unwrap_err();
        let told = format!("{error} {error:?} {}", crate::progress::error_chain(&error));
        assert!(!told.contains(SECRET) && !told.contains("104, 117"), "{told}");
    }
}

#[test]
fn input_may_be_long_and_need_not_be_read() {
    let test = TestStore::new();
    let repo = test.open();
    let long: Vec<u8> = (0..5_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
    let given = |name: &str, script: &str| CommandLine {
        input: Some(Zeroizing::new(long.clone())),
        ..line(name, script)
    };
    // More than any pipe holds, on its way in and out; not read at all; read in part; opened once more.
    let stats = take(
        &repo,
        vec![
            given("all", "cat"),
            given("none", "echo none"),
            given("part", "head -c 3"),
            given("again", "cat /dev/stdin"),
        ],
    );
    let stats = stats.unwrap();
    assert!(stored(&repo, &stats, "all") == long);
    assert_eq!(stored(&repo, &stats, "none"), b"none\n");
    assert_eq!(stored(&repo, &stats, "part"), &long[..3]);
    assert!(stored(&repo, &stats, "again") == long);
    let empty = CommandLine { input: Some(Zeroizing::new(Vec::new())), ..line("out", "cat; echo x") };
    assert_eq!(stored(&repo, &take(&repo, vec![empty]).unwrap(), "out"), b"x\n");
}
