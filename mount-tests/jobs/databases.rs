//! All databases of a PostgreSQL server, or some: what comes along, under which names, and that it can be restored.

use std::path::Path;

use super::host::{Host, NEEDS, is_silent};
use crate::harness::{Need, can, succeed};
use crate::postgres::Postgres;

/// Names as people do give them, with the names of their files.
const DATABASES: [(&str, &str); 5] = [
    ("postgres", "postgres.dump"),
    ("shop", "shop.dump"),
    ("Shop", "Shop.dump"),
    ("it's \"odd\" = 100% \\", "it's \"odd\" = 100%25 \\.dump"),
    ("Umsätze/2026", "Umsätze%2F2026.dump"),
];

/// Makes a database that differs from others by its number.
fn fill(postgres: &Postgres, name: &str, number: usize) {
    if name != "postgres" {
        succeed(postgres.client("createdb").args(["--", name]));
    }
    let table = format!("CREATE TABLE orders AS SELECT generate_series(1, {number}) AS id");
    succeed(connected(postgres, "psql", name).args(["-q", "-c", &table]));
}

/// Prepares a program on a database of any name.
fn connected(postgres: &Postgres, program: &str, database: &str) -> std::process::Command {
    let quoted = database.replace('\\', "\\\\").replace('\'', "\\'");
    let mut command = postgres.client(program);
    command.args(["-d", &format!("dbname='{quoted}'")]);
    command
}

/// Returns the names in a folder of a mount.
fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn sorted(names: impl IntoIterator<Item = &'static str>) -> Vec<String> {
    let mut names: Vec<_> = names.into_iter().map(str::to_owned).collect();
    names.sort();
    names
}

#[test]
fn all_databases_come_along_whatever_their_names() {
    if !can(&NEEDS) || !can(&[Need::Postgres, Need::Fuse]) {
        return;
    }
    let postgres = Postgres::start();
    for (number, (name, _)) in DATABASES.into_iter().enumerate() {
        fill(&postgres, name, 100 + number);
    }
    succeed(postgres.client("createdb").arg("closed"));
    postgres.query("postgres", "ALTER DATABASE closed ALLOW_CONNECTIONS false; CREATE ROLE clerk");

    let host = Host::new();
    let root = host.text("");
    let socket = postgres.socket().display();
    let server = format!("postgres = \"host={socket} user=postgres dbname=postgres\"\n");
    let some = [DATABASES[3].0, "shop"];
    host.configure(&format!(
        "schedule = \"daily\"\nretries = 0\nkey-file = \"{root}etc/yester/key\"\nverify = false\ngc = false\n\
         [store.local]\nurl = \"{root}srv/backup/store\"\n\
         [source.every]\n{server}databases = \"all\"\n\
         [source.some]\n{server}databases = {some:?}\nglobals = false\n"
    ));
    host.init("local");
    is_silent(&host.cron(&["run", "--all"]));
    // A database that is new since.
    fill(&postgres, "late", 7);
    is_silent(&host.cron(&["run", "--all"]));

    let config = host.config();
    let mount = host.lab.mount(&["--config", config.to_str().unwrap(), "--store", "local"]);
    let snapshots = host.snapshots("local", "every");
    assert_eq!(snapshots.len(), 2);
    let every = mount.path("sources/every/latest");
    let expected = || DATABASES.map(|(_, file)| file).into_iter().chain(["globals.sql"]);
    assert_eq!(files(&every), sorted(expected().chain(["late.dump"])));
    assert_eq!(files(&mount.path("sources/some/latest")), sorted([DATABASES[3].1, "shop.dump"]));
    let first = snapshots[0]["id"].as_str().unwrap();
    let listed = host.cron(&["--store", "local", "ls", first]).succeeds();
    assert!(listed.contains("shop.dump") && !listed.contains("late.dump"), "{listed}");
    assert!(std::fs::read_to_string(every.join("globals.sql")).unwrap().contains("CREATE ROLE clerk"));

    let late = [("late", "late.dump")];
    for (number, (name, file)) in DATABASES.iter().chain(&late).enumerate() {
        let copy = format!("copy{number}");
        succeed(postgres.client("createdb").arg(&copy));
        succeed(postgres.client("pg_restore").args(["-j2", "-d", &copy]).arg(every.join(file)));
        let sum = "SELECT count(*), sum(id) FROM orders";
        let mut original = connected(&postgres, "psql", name);
        assert_eq!(postgres.query(&copy, sum), succeed(original.args(["-qAtc", sum])), "{name}");
    }
}
