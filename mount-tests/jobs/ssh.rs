//! Databases of another host, by way of ssh: what it makes of words, and where passwords go.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::host::{Host, NEEDS, Redis, is_silent};
use crate::harness::{Need, Process, can, eventually, succeed};
use crate::postgres::Postgres;

/// A server of ssh that lets in who has the key of the laboratory `$1`, at port `$2`. Root's home is its own.
const SERVER: &str = r#"
set -e
mount --bind "$1/home" "$(getent passwd root | cut -d: -f6)"
exec dropbear -F -s -r "$1/host-key" -P "$1/dropbear.pid" -p "127.0.0.1:$2"
"#;

/// Starts the server, and returns it with the words that start a program there, as a list of TOML.
fn server(host: &Host) -> (Process, String) {
    let key = host.text("key-of-ssh");
    succeed(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &key]));
    host.write_private("home/.ssh/authorized_keys", &fs::read_to_string(format!("{key}.pub")).unwrap());
    fs::set_permissions(host.lab.path("home/.ssh"), fs::Permissions::from_mode(0o700)).unwrap();
    succeed(Command::new("dropbearkey").args(["-t", "ed25519", "-f", &host.text("host-key")]));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", SERVER, "sh"]).arg(host.lab.path("")).arg(port.to_string());
    let process = Process::start(&mut command);
    eventually("there is a server of ssh", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let words = [
        "ssh",
        "-q",
        "-F/dev/null",
        "-oBatchMode=yes",
        "-oStrictHostKeyChecking=no",
        "-oUserKnownHostsFile=/dev/null",
        "-i",
        &key,
        "-p",
        &port.to_string(),
        "root@127.0.0.1",
    ];
    (process, format!("{words:?}"))
}

#[test]
fn databases_are_backed_up_through_ssh() {
    let tools = ["dropbear", "dropbearkey", "ssh", "ssh-keygen", "redis-server", "redis-cli"];
    if !can(&NEEDS) || !can(&[Need::Postgres]) || !can(&tools.map(Need::Tool)) {
        return;
    }
    let name = "it's \"odd\" $HOME; echo";
    let postgres = Postgres::start();
    succeed(postgres.client("createdb").args(["--", name]));
    let host = Host::new();
    let redis = Redis::start(&host.lab.path("redis"), Some("hunter2$HOME;"));
    redis.fill(10);

    let (_server, exec) = server(&host);
    let (root, socket) = (host.text(""), postgres.socket().display());
    host.configure(&format!(
        "schedule = \"daily\"\nretries = 0\nkey-file = \"{root}etc/yester/key\"\n\
         [store.local]\nurl = \"{root}srv/backup/store\"\n\
         [source.shop]\npostgres = \"host={socket} user=postgres\"\ndatabases = [{name:?}]\nexec = {exec}\n\
         [source.cache]\nredis = \"redis://:hunter2%24HOME%3B@127.0.0.1:{}\"\nexec = {exec}\n",
        redis.port
    ));
    host.init("local");
    let checked = host.cron(&["config", "check"]).succeeds();
    assert!(checked.contains("pg_dump is not older") && !checked.contains("problem"), "{checked}");
    is_silent(&host.cron(&["run", "--all"]));
    let dump = host.newest("local", "shop", &format!("{name}.dump"));
    assert!(dump.starts_with(b"PGDMP"));
    let saved = host.newest("local", "cache", "cache.rdb");
    assert_eq!(Redis::keys_of(&host.lab.path("other"), &saved), 10);
}
