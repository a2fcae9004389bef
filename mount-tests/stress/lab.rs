//! A folder with a store, and hosts that use it: each with a cache, a state folder and so a writer id of its own.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};

use s3_server::Server;
use serde_json::Value;
use tempfile::TempDir;

/// Returns the binary under test.
fn binary() -> &'static OsStr {
    static BINARY: OnceLock<std::ffi::OsString> = OnceLock::new();
    BINARY.get_or_init(|| {
        std::env::var_os("STRESS_YESTER").unwrap_or_else(|| env!("CARGO_BIN_EXE_yester").into())
    })
}

/// Tells whether a program is there. If not, says so where people see it, or fails where `CI=true`.
pub(crate) fn can(program: &str, is_there: bool) -> bool {
    if !is_there {
        let message =
            format!("a stress test cannot run here: it needs {program}; scripts/test installs what it can");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{message}");
        std::io::stderr().write_all(format!("SKIPPED: {message}\n").as_bytes()).unwrap();
    }
    is_there
}

/// Tells whether a program is in the path.
pub(crate) fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

/// A folder with a store and its key. It is kept if a test fails in it.
pub(crate) struct Lab {
    folder: Option<TempDir>,
    path: PathBuf,
    /// Where the store is, if it is not in the folder.
    server: Option<Server>,
    /// What every host finds in its environment besides.
    environment: Arc<Vec<(&'static str, String)>>,
}

impl Lab {
    /// Makes a new encrypted store, opened by a key file.
    pub(crate) fn new() -> Self {
        let lab = Self::empty();
        lab.host("init").run(&["init"]).succeeds();
        lab
    }

    /// Makes a folder without a store.
    pub(crate) fn empty() -> Self {
        let folder = tempfile::Builder::new().prefix("yester-stress-").tempdir().unwrap();
        let path = folder.path().to_owned();
        Self { folder: Some(folder), path, server: None, environment: Arc::default() }
    }

    /// Makes a new encrypted store in a bucket of a server of its own.
    pub(crate) fn over_network() -> Self {
        let mut lab = Self::empty();
        let (folder, listen) = (Some(lab.store()), None);
        fs::create_dir(lab.store()).unwrap();
        let options = s3_server::ServerOptions { folder, listen, ..s3_server::ServerOptions::default() };
        let server = Server::start_with(&options).unwrap();
        server.create_bucket("stress").unwrap();
        let mut environment = server.environment();
        environment.push(("YESTER_STORE", "s3://stress/store".to_owned()));
        lab.environment = Arc::new(environment);
        lab.server = Some(server);
        lab.host("init").run(&["init"]).succeeds();
        lab
    }

    /// Returns the server where the store is, if it is not in the folder.
    pub(crate) fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path.join("store")
    }

    /// Returns a host, with what it remembers of earlier runs.
    pub(crate) fn host(&self, name: &str) -> Host {
        Host { lab: self.path.clone(), name: name.to_owned(), environment: Arc::clone(&self.environment) }
    }

    /// Makes a host forget everything.
    pub(crate) fn cool(&self, name: &str) {
        let _ = fs::remove_dir_all(self.path.join("hosts").join(name));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            println!("what failed is kept in {}", folder.keep().display());
        }
    }
}

/// One host.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    lab: PathBuf,
    name: String,
    environment: Arc<Vec<(&'static str, String)>>,
}

impl Host {
    /// Returns the folder that holds its cache and state.
    pub(crate) fn folder(&self) -> PathBuf {
        self.lab.join("hosts").join(&self.name)
    }

    /// Returns the folder of what it backs up.
    pub(crate) fn source(&self) -> PathBuf {
        self.lab.join("sources").join(&self.name)
    }

    /// Sets the environment of a run.
    pub(crate) fn equip<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        for variable in
            ["YESTER_PASSPHRASE", "YESTER_PASSPHRASE_FILE", "YESTER_PASSPHRASE_COMMAND", "YESTER_LOG"]
        {
            command.env_remove(variable);
        }
        command
            .env("YESTER_STORE", self.lab.join("store"))
            .env("YESTER_KEY_FILE", self.lab.join("key"))
            .env("CACHE_DIRECTORY", self.folder().join("cache"))
            .env("STATE_DIRECTORY", self.folder().join("state"))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
    }

    /// Prepares a run of the binary.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = Command::new(binary());
        self.equip(command.args(arguments));
        if !self.environment.is_empty() {
            // A request that hangs is given up after a quarter of this.
            command.args(["--store-timeout", "20s"]);
        }
        command
    }

    /// Prepares a run of the binary as the last words of another command.
    pub(crate) fn command_under<A: AsRef<OsStr>>(
        &self,
        program: &str,
        words: &[String],
        arguments: &[A],
    ) -> Command {
        let mut command = Command::new(program);
        self.equip(command.args(words).arg(binary()).args(arguments));
        command
    }

    /// Runs the binary to its end.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Ran {
        Running::start(self.command(arguments)).end()
    }
}

/// A process and where its output goes: files, so that it never waits for a reader.
pub(crate) struct Running {
    line: String,
    pub(crate) child: Child,
    stdout: File,
    stderr: File,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let (stdout, stderr) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        command.stdout(stdout.try_clone().unwrap()).stderr(stderr.try_clone().unwrap());
        let line = format!("{command:?}");
        Self { line, child: command.spawn().unwrap(), stdout, stderr }
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ran {
        let status = self.child.wait().unwrap();
        self.ended(status.code())
    }

    /// Takes note of an end that somebody else waited for.
    pub(crate) fn ended(mut self, code: Option<i32>) -> Ran {
        let read = |file: &mut File| {
            let mut bytes = Vec::new();
            file.rewind().unwrap();
            file.read_to_end(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Ran { line: self.line, code, stdout: read(&mut self.stdout), stderr: read(&mut self.stderr) }
    }
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) line: String,
    /// None if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Expects success.
    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        assert_eq!(self.code, Some(0), "{}\n{}", self.line, self.stderr);
        self
    }

    /// Returns the document on standard output.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{}: {error}\n{}", self.line, self.stdout))
    }
}
