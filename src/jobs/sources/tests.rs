//! What is run for each kind of source, and which way its password goes.

use std::path::Path;

use super::*;
use crate::jobs::config::Config;

fn source(table: &str) -> SourceConfig {
    let text = format!("[store.a]\nurl = \"/a\"\n[source.db]\n{table}\n");
    Config::parse(&text, Path::new("/c")).unwrap().sources.remove(0)
}

/// Returns what is run for a source, a line for each command, and then what it is given in secret.
fn told(table: &str) -> Vec<String> {
    let mut told = Vec::new();
    for line in command_lines(&source(table)).unwrap() {
        let words: Vec<_> = line.argv.iter().map(|word| word.to_str().unwrap()).collect();
        told.push(format!("{}: {}", crate::path::escape(line.name.as_bytes()), words.join(" ")));
        assert!(!told.last().unwrap().contains("hunter2"), "{told:?}");
        assert!(!format!("{line:?}").contains("hunter2"));
        told.extend(line.environment.iter().map(|(name, value)| format!("{}={}", name.display(), **value)));
        told.extend(line.input.map(|input| format!("< {}", String::from_utf8_lossy(&input))));
    }
    told
}

#[test]
fn databases_are_dumped_uncompressed_with_globals() {
    assert_eq!(
        told("postgres = \"shop\""),
        [
            "db.dump: pg_dump -w -Fc -Z0 -d dbname='shop'",
            "globals.sql: pg_dumpall -w --globals-only -d dbname='shop'"
        ]
    );
    assert_eq!(
        told("postgres = \"service=shop\"\nglobals = false\ndatabases = [\"a\", \"it's\", \"b/c\"]"),
        [
            "a.dump: pg_dump -w -Fc -Z0 -d service='shop' dbname='a'",
            "it's.dump: pg_dump -w -Fc -Z0 -d service='shop' dbname='it\\'s'",
            "b%2Fc.dump: pg_dump -w -Fc -Z0 -d service='shop' dbname='b/c'"
        ]
    );
}

#[test]
fn passwords_of_postgres_go_by_the_environment() {
    for connection in [
        "postgresql://me:hunter2@h:5433/shop?sslmode=require",
        "postgresql://me@h:5433/shop?password=hunter2&sslmode=require",
        "postgresql://me:%68unter2@h:5433/shop?sslmode=require",
    ] {
        assert_eq!(
            told(&format!("postgres = \"{connection}\"\nglobals = false")),
            [
                "db.dump: pg_dump -w -Fc -Z0 -d postgresql://me@h:5433/shop?sslmode=require",
                "PGPASSWORD=hunter2"
            ],
            "{connection}"
        );
    }
    assert_eq!(
        told("postgres = \"host=h password='hunter2' user = me dbname=shop\"\nglobals = false"),
        ["db.dump: pg_dump -w -Fc -Z0 -d host='h' user='me' dbname='shop'", "PGPASSWORD=hunter2"]
    );
    assert_eq!(
        told("postgres = \"postgres://me:hunter2@h\"\nglobals = false\ndatabases = [\"a b\"]")[0],
        "a b.dump: pg_dump -w -Fc -Z0 -d postgres://me@h/a%20b"
    );
}

#[test]
fn behind_a_prefix_a_shell_reads_the_password() {
    let told = told(
        "postgres = \"postgres://me:hunter2@h/shop\"\nglobals = false\nexec = [\"docker\", \"exec\", \"-i\", \"c\"]",
    );
    assert_eq!(
        told,
        [
            "db.dump: docker exec -i c sh -c IFS= read -r PGPASSWORD && export PGPASSWORD && exec \"$@\" sh \
             pg_dump -w -Fc -Z0 -d postgres://me@h/shop",
            "< hunter2\n"
        ]
    );
}

#[test]
fn what_goes_through_ssh_is_quoted_for_the_shell_there() {
    let told = told(
        "postgres = \"host=h password=hunter2 dbname='my shop'\"\nglobals = false\nexec = [\"ssh\", \"db1\"]",
    );
    let script = "IFS= read -r PGPASSWORD && export PGPASSWORD && exec \"$@\"";
    let sent = told[0].strip_prefix("db.dump: ssh db1 ").unwrap();
    assert_eq!(
        shlex::split(sent).unwrap(),
        ["sh", "-c", script, "sh", "pg_dump", "-w", "-Fc", "-Z0", "-d", "host='h' dbname='my shop'"]
    );
    assert_eq!(told[1], "< hunter2\n");
}

#[test]
fn redis_and_mongodb_are_dumped_to_standard_output() {
    assert_eq!(
        told("redis = \"redis://127.0.0.1:6379\""),
        ["db.rdb: redis-cli -h 127.0.0.1 -p 6379 --rdb -"]
    );
    assert_eq!(
        told("redis = \"rediss://me:hunter2@[::1]:7000/0\""),
        ["db.rdb: redis-cli -h ::1 -p 7000 --user me --tls --rdb -", "REDISCLI_AUTH=hunter2"]
    );
    assert_eq!(
        told("mongodb = \"mongodb://backup@mongo/scandy\""),
        ["db.archive: mongodump --archive --uri=mongodb://backup@mongo/scandy"]
    );
    assert_eq!(
        told(
            "mongodb = \"mongodb://me:hunter2@mongo/scandy\"\noplog = true\nexec = [\"docker\", \"exec\", \"-i\", \"db\"]"
        ),
        [
            "db.archive: docker exec -i db mongodump --archive --oplog --config=/dev/stdin",
            "< uri: \"mongodb://me:hunter2@mongo/scandy\"\n"
        ]
    );
}

#[test]
fn wrong_addresses_are_told_without_their_passwords() {
    for table in [
        "postgres = \"postgres://me:hunter2%@h\"",
        "postgres = \"password='hunter2\"",
        "redis = \"redis://:hunter2%zz@h\"",
    ] {
        let error = command_lines(&source(table)).unwrap_err();
        assert!(
            matches!(error, SourceError::Address { .. }) && !error.to_string().contains("hunter2"),
            "{error}"
        );
    }
}

#[test]
fn passwords_are_known_as_they_are_and_as_they_were_written() {
    let found = passwords(&source("mongodb = \"mongodb://me:hunter%40@h/x\""));
    assert_eq!(found.iter().map(|password| password.as_str()).collect::<Vec<_>>(), ["hunter@", "hunter%40"]);
    assert_eq!(passwords(&source("postgres = \"postgres://me:hunter%40@h/x\"")).len(), 1);
    assert!(passwords(&source("redis = \"redis://h\"")).is_empty());
}

#[test]
fn a_command_is_run_as_it_is() {
    let lines = command_lines(&source(
        "command = [\"pos-export\", \"--json\"]\noutput = \"pos.json\"\nmin-size = \"1 MiB\"",
    ))
    .unwrap();
    assert_eq!((lines.len(), lines[0].min_bytes), (1, 1 << 20));
    assert_eq!(lines[0].name.as_bytes(), b"pos.json");
}

#[test]
fn servers_are_asked_without_passwords_on_the_command_line() {
    let asked = |table: &str| {
        let questions = questions(&source(table)).unwrap();
        let words = |line: Option<CommandLine>| {
            let line = line?;
            let words: Vec<_> = line.argv.iter().map(|word| word.to_str().unwrap().to_owned()).collect();
            let has_secret = !line.environment.is_empty() || line.input.is_some();
            Some((words.join(" "), has_secret))
        };
        (words(questions.version), words(questions.server))
    };
    let (version, server) = asked("postgres = \"postgres://me:hunter2@h/shop\"");
    assert_eq!(version, Some(("pg_dump --version".to_owned(), false)));
    let query = "psql -w -X -A -t -d postgres://me@h/shop -c SHOW server_version";
    assert_eq!(server, Some((query.to_owned(), true)));
    let (_, server) = asked("redis = \"redis://:hunter2@h\"\nexec = [\"ssh\", \"db1\"]");
    let (words, has_secret) = server.unwrap();
    assert!(words.ends_with("redis-cli -h h PING") && !words.contains("hunter2") && has_secret, "{words}");
    let (version, server) = asked("mongodb = \"mongodb://me:hunter2@h/x\"");
    assert_eq!(version, Some(("mongodump --version".to_owned(), false)));
    let question = "mongodump --archive --collection=yester-config-check";
    assert_eq!(server, Some((format!("{question} --config=/dev/stdin"), true)));
    let (_, server) = asked("mongodb = \"mongodb://h\"");
    assert_eq!(server, Some((format!("{question} --db=admin --uri=mongodb://h"), false)));
    assert_eq!(asked("paths = [\"/etc\"]"), (None, None));
}
