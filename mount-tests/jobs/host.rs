//! A host with a configuration of its own, whose runs find what cron gives them and nothing else.
//!
//! Runs happen in a mount namespace in which `/var/lib` and `/var/cache` are the laboratory's: the machine's own state
//! stays out of it.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use jiff::Timestamp;
use jiff::civil::DateTime;
use s3_server::Server;
use yester::journal::Run;

use crate::harness::{Lab, Need, Process, Ran, YESTER, eventually, succeed};

/// What every test needs that has a host.
pub(super) const NEEDS: [Need; 2] = [Need::Root, Need::Tool("unshare")];

/// All that cron gives.
pub(super) const CRON: &[(&str, &str)] =
    &[("HOME", "/root"), ("LOGNAME", "root"), ("SHELL", "/bin/sh"), ("PATH", "/usr/bin:/bin")];

/// Puts a laboratory's folders where the state and the caches of root are, then becomes `$2 …`.
const NAMESPACE: &str = r#"
set -e
for folder in lib cache; do
    mount -t tmpfs tmpfs "/var/$folder"
    mkdir "/var/$folder/yester"
done
mount --bind "$1/state" /var/lib/yester
mount --bind "$1/cache" /var/cache/yester
shift
exec "$@"
"#;

/// A host.
pub(super) struct Host {
    pub(super) lab: Lab,
}

impl Host {
    /// Makes a host without a configuration.
    pub(super) fn new() -> Self {
        let lab = Lab::empty();
        for folder in ["state", "cache", "bin", "etc/yester", "srv/backup"] {
            fs::create_dir_all(lab.path(folder)).unwrap();
        }
        // What runs as another user has to come through.
        fs::set_permissions(lab.path(""), fs::Permissions::from_mode(0o711)).unwrap();
        Self { lab }
    }

    /// Returns a path on this host, as a text.
    pub(super) fn text(&self, path: &str) -> String {
        self.lab.path(path).to_str().unwrap().to_owned()
    }

    pub(super) fn config(&self) -> PathBuf {
        self.lab.path("etc/yester/config.toml")
    }

    /// Writes the configuration.
    pub(super) fn configure(&self, text: &str) {
        self.write_private("etc/yester/config.toml", text);
    }

    /// Writes a file that its owner alone may read.
    pub(super) fn write_private(&self, path: &str, text: &str) {
        self.write(path, text);
        fs::set_permissions(self.lab.path(path), fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(super) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.lab.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Writes a program of shell.
    pub(super) fn program(&self, path: &str, script: &str) -> String {
        self.write(path, format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(self.lab.path(path), fs::Permissions::from_mode(0o755)).unwrap();
        self.text(path)
    }

    /// Prepares a command of yester with the configuration, in this environment and no other.
    pub(super) fn command(&self, environment: &[(&str, &str)], arguments: &[&str]) -> Command {
        self.started_by(&[], environment, arguments)
    }

    /// Prepares a command of yester that is started by another one.
    fn started_by(&self, starter: &[&str], environment: &[(&str, &str)], arguments: &[&str]) -> Command {
        let mut command = self.program_here("env");
        command.arg("-i").args(environment.iter().map(|(name, value)| format!("{name}={value}")));
        command.args(starter).args([YESTER, "--config"]).arg(self.config()).args(arguments);
        command
    }

    /// Prepares a program that finds the state and the caches of this host where root has its own.
    pub(super) fn program_here(&self, program: &str) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", NAMESPACE, "sh"]).arg(self.lab.path("")).arg(program);
        command.stdin(Stdio::null()).current_dir("/");
        command
    }

    /// Runs yester as cron does.
    pub(super) fn cron(&self, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.command(CRON, arguments))
    }

    /// Runs yester as cron does, at a time of Berlin: `2025-03-17 03:30:05`.
    pub(super) fn cron_at(&self, time: &str, arguments: &[&str]) -> Ran {
        let time: DateTime = time.parse().unwrap();
        let time = time.in_tz("Europe/Berlin").unwrap().timestamp();
        // So much off for all processes of a run: the clock of each would begin anew at a time.
        let offset = format!("{:+}", time.as_second() - Timestamp::now().as_second());
        // What is waited for is waited for by real time.
        let zone = [("TZ", "Europe/Berlin"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
        let environment = [CRON, &zone].concat();
        Ran::of(&mut self.started_by(&["faketime", "-f", &offset], &environment, arguments))
    }

    /// Makes a store that the configuration names, opened by the configured key, which is made if need be.
    pub(super) fn init(&self, store: &str) {
        self.cron(&["--store", store, "init"]).succeeds();
    }

    /// Returns the snapshots of a source in a store.
    pub(super) fn snapshots(&self, store: &str, source: &str) -> Vec<serde_json::Value> {
        let ran = self.cron(&["--store", store, "snapshots", "--source", source, "--json"]);
        ran.json().as_array().unwrap().clone()
    }

    /// Returns the journal's runs of an operation, oldest first.
    pub(super) fn runs(&self, operation: &str) -> Vec<Run> {
        let mut runs = self.lab.runs();
        runs.retain(|run| run.operation == operation);
        runs.reverse();
        runs
    }

    /// Returns a file of the newest snapshot of a source.
    pub(super) fn newest(&self, store: &str, source: &str, file: &str) -> Vec<u8> {
        let ran = self.cron(&["--store", store, "cat", &format!("latest:{source}"), file]);
        ran.succeeds();
        ran.stdout
    }
}

/// Expects that a run had nothing to say.
#[track_caller]
pub(super) fn is_silent(ran: &Ran) {
    assert_eq!((ran.succeeds().as_str(), ran.stderr.as_str()), ("", ""));
}

/// Replaces what a text has, once or more often.
#[track_caller]
pub(super) fn replace(text: &mut String, from: &str, to: &str) {
    assert!(text.contains(from), "{from:?} is not in the example");
    *text = text.replace(from, to);
}

/// Starts a server of S3 with some buckets, and returns it with the text of a file of credentials.
pub(super) fn s3(buckets: &[&str]) -> (Server, String) {
    let (first, rest) = buckets.split_first().unwrap();
    let server = Server::start(first).unwrap();
    rest.iter().for_each(|bucket| server.create_bucket(bucket).unwrap());
    let value = |name| {
        let environment = server.environment();
        environment.into_iter().find(|(found, _)| *found == name).unwrap().1
    };
    let credentials = format!(
        "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        value("AWS_ACCESS_KEY_ID"),
        value("AWS_SECRET_ACCESS_KEY")
    );
    (server, credentials)
}

/// A Redis server, on a port of its own.
pub(super) struct Redis {
    _process: Process,
    pub(super) port: u16,
    password: Option<&'static str>,
}

impl Redis {
    pub(super) fn start(folder: &Path, password: Option<&'static str>) -> Self {
        fs::create_dir_all(folder).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Command::new("redis-server");
        // It would wait for more replicas before it sends its data.
        server.args(["--repl-diskless-sync-delay", "0", "--bind", "127.0.0.1", "--save", "", "--port"]);
        server.arg(port.to_string()).arg("--dir").arg(folder);
        if let Some(password) = password {
            // From a file: a test looks for this in the command lines of all processes.
            let file = folder.join("redis.conf");
            fs::write(&file, format!("requirepass {password}\n")).unwrap();
            server = Command::new("redis-server");
            server.arg(file).args(["--repl-diskless-sync-delay", "0", "--bind", "127.0.0.1", "--save", ""]);
            server.args(["--port", &port.to_string(), "--dir"]).arg(folder);
        }
        let redis = Self { _process: Process::start(&mut server), port, password };
        eventually("Redis answers", || {
            redis.client().arg("ping").output().unwrap().stdout.starts_with(b"PONG")
        });
        redis
    }

    pub(super) fn client(&self) -> Command {
        let mut client = Command::new("redis-cli");
        client.args(["-p", &self.port.to_string()]);
        if let Some(password) = self.password {
            client.env("REDISCLI_AUTH", password);
        }
        client
    }

    /// Sets so many keys: not many more, and the server would store all of them in another order.
    pub(super) fn fill(&self, keys: u32) {
        let script = format!("for i = 1, {keys} do redis.call('set', 'key' .. i, 'value ' .. i * i) end");
        succeed(self.client().args(["eval", &script, "0"]));
    }

    /// Counts the keys of a file that it saved, by another server.
    pub(super) fn keys_of(folder: &Path, saved: &[u8]) -> u64 {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("dump.rdb"), saved).unwrap();
        let other = Self::start(folder, None);
        succeed(other.client().arg("dbsize")).trim().parse().unwrap()
    }
}

/// An archive as mongodump writes it, made here: MongoDB's tools are not to be had where the tests run.
pub(super) fn mongo_archive(documents: u64) -> Vec<u8> {
    let document = |fields: &[Vec<u8>]| {
        let fields = fields.concat();
        let length = i32::try_from(fields.len() + 5).unwrap();
        [&length.to_le_bytes()[..], &fields, &[0]].concat()
    };
    let text = |name: &str, value: &str| {
        let length = i32::try_from(value.len() + 1).unwrap().to_le_bytes();
        [&b"\x02"[..], name.as_bytes(), &[0], &length, value.as_bytes(), &[0]].concat()
    };
    let flag = |name: &str, value: bool| [&b"\x08"[..], name.as_bytes(), &[0, u8::from(value)]].concat();
    let long = |name: &str, value: u64| [&b"\x12"[..], name.as_bytes(), &[0], &value.to_le_bytes()].concat();
    let head = |is_end: bool, sum: u64| {
        let names = [text("db", "scandy"), text("collection", "items")].concat();
        document(&[names, flag("EOF", is_end), long("CRC", sum)])
    };
    let mark = [0xff_u8; 4];
    let version = document(&[text("version", "0.1"), text("tool_version", "100.10.0")]);
    let names = [text("db", "scandy"), text("collection", "items"), text("metadata", "{}")].concat();
    let announced = document(&[names, text("type", "collection")]);
    let content: Vec<u8> = (0..documents)
        .flat_map(|id| document(&[long("_id", id), text("note", &format!("item {:x}", id * id * 7919))]))
        .collect();
    // CRC-64 as XZ computes it.
    let sum = !content.iter().fold(u64::MAX, |sum, byte| {
        (0..8).fold(sum ^ u64::from(*byte), |sum, _| (sum >> 1) ^ ((sum & 1) * 0xc96c_5795_d787_0f42))
    });
    let magic = [0x6d, 0xe2, 0x99, 0x81];
    [&magic[..], &version, &announced, &mark, &head(false, 0), &content, &mark, &head(true, sum), &mark]
        .concat()
}

/// Returns all bytes of the files below a folder.
pub(super) fn all_bytes(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            bytes.extend(all_bytes(&path));
        } else if let Ok(mut file) = fs::File::open(&path) {
            // Files come and go.
            let _ = file.read_to_end(&mut bytes);
        }
    }
    bytes
}
