//! Dumps of real databases through the real binary: what is filled in, what is refused, what is advised.
//!
//! The parsers have tests of their own beside them; here the programs that write and read dumps have the last word.

mod advice;
mod gate;
mod restore;
mod samples;
mod terminal;

use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::thread;

use serde_json::Value;

use crate::harness::{Lab, Ran, succeed};
use crate::postgres::Postgres;

/// Runs a command with `input` on its standard input.
fn feed(command: &mut Command, input: &[u8]) -> Ran {
    let line = format!("{command:?}");
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    thread::scope(|scope| {
        // Filters write while they read.
        scope.spawn(move || match stdin.write_all(input) {
            // What it said and how it ended tells more.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            written => written.unwrap(),
        });
        Ran::from_output(line, child.wait_with_output().unwrap())
    })
}

/// Runs a command that must succeed; returns the bytes of its standard output, which is a pipe.
#[track_caller]
fn output_of(command: &mut Command) -> Vec<u8> {
    let ran = Ran::of(command);
    ran.succeeds();
    ran.stdout
}

/// Returns the newest good dump of the source `name`, which is the file `name`.
#[track_caller]
fn latest(lab: &Lab, name: &str) -> Vec<u8> {
    output_of(&mut lab.command(["cat", &format!("latest:{name}"), name]))
}

/// Expects a stream to be recognised as `formats`, and to be whole.
#[track_caller]
fn assert_whole(document: &Value, formats: &[&str]) {
    let dump = &document["dump"];
    assert_eq!(dump["formats"], serde_json::json!(formats), "{document}");
    assert_eq!(dump["check"], "whole", "{document}");
    assert_eq!(document["state"], "complete", "{document}");
}

/// Makes a database `shop` with what dumps stumble over: names, large objects, an empty table, a sequence, a
/// foreign key, and text that looks like the end of a dump.
fn make_shop(postgres: &Postgres, orders: usize) {
    let lines = orders / 10;
    let objects = orders / 20;
    let large = orders * 4;
    succeed(postgres.client("createdb").arg("shop"));
    postgres.query(
        "shop",
        &format!(
            r#"
CREATE SCHEMA "Odd Schémà";
CREATE TABLE "Odd Schémà"."lines; -- not 'dropped'" (id int PRIMARY KEY, "sel""ect" text, "back\slash" bytea);
INSERT INTO "Odd Schémà"."lines; -- not 'dropped'"
    SELECT id, repeat(E'\u20AC\t\n\\' || id, 5), decode(md5(id::text), 'hex')
    FROM generate_series(1, {lines}) AS id;
CREATE TABLE empty (id int, note text);
CREATE TABLE orders (
    id int PRIMARY KEY, line int REFERENCES "Odd Schémà"."lines; -- not 'dropped'", note text
);
INSERT INTO orders SELECT id, 1 + id % {lines}, md5(id::text) FROM generate_series(1, {orders}) AS id;
CREATE INDEX ON orders (note);
CREATE SEQUENCE numbers START 41;
SELECT nextval('numbers');
CREATE FUNCTION nothing_ends_here() RETURNS text LANGUAGE sql AS $$
--
-- PostgreSQL database dump complete
--
SELECT 'no'
$$;
SELECT count(lo_from_bytea(0, decode(repeat(md5(id::text), 1 + id % 7), 'hex')))
    FROM generate_series(1, {objects}) AS id;
SELECT lo_from_bytea(0, decode(string_agg(md5(id::text), ''), 'hex')) FROM generate_series(1, {large}) AS id;
"#
        ),
    );
}

/// Questions whose answers must be the same in a restored `shop`.
const QUESTIONS: [&str; 8] = [
    "SELECT count(*), sum(hashtextextended(orders::text, 0)) FROM orders",
    r#"SELECT count(*), sum(hashtextextended(l::text, 0)) FROM "Odd Schémà"."lines; -- not 'dropped'" AS l"#,
    "SELECT count(*) FROM empty",
    "SELECT count(*), sum(hashtextextended(encode(lo_get(oid), 'hex'), 0)) FROM pg_largeobject_metadata",
    "SELECT last_value, is_called FROM numbers",
    "SELECT string_agg(conname || contype::text, ' ' ORDER BY conname) FROM pg_constraint WHERE conrelid > 16383",
    "SELECT string_agg(indexdef, ' ' ORDER BY indexdef) FROM pg_indexes WHERE schemaname <> 'pg_catalog'",
    "SELECT prosrc FROM pg_proc WHERE proname = 'nothing_ends_here'",
];
