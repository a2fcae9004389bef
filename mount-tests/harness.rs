//! What the tests share: a laboratory with a store of its own, runs of the binary, mounts, and what is needed.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use yester::journal::{Journal, Run};

use crate::postgres::Release;

/// The binary under test.
pub(crate) const YESTER: &str = env!("CARGO_BIN_EXE_yester");

/// More than the few pages of a tree that a backup adds where no content is new: directories above a laboratory
/// change while other tests come and go.
pub(crate) const FEW_PAGES_BYTES: u64 = 2000;

/// Something a test cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Root,
    Fuse,
    Postgres,
    /// PostgreSQL 18, server and clients, below `target`.
    Postgres18,
    /// The Python environment of `mount-tests/reader.py`.
    Reader,
    /// What the system knows of time zones.
    TimeZones,
    Tool(&'static str),
}

/// Tells whether everything is there. If not, says so where people see it, or fails where `CI=true`.
pub(crate) fn can(needs: &[Need]) -> bool {
    let missing: Vec<_> = needs.iter().filter(|need| !is_there(**need)).collect();
    if missing.is_empty() {
        return true;
    }
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let message = format!("{test} cannot run here: it needs {missing:?}; scripts/test installs what it can");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{message}");
    // Not by a macro: what those print is shown for failed tests only.
    std::io::stderr().write_all(format!("SKIPPED: {message}\n").as_bytes()).unwrap();
    false
}

fn is_there(need: Need) -> bool {
    match need {
        Need::Root => rustix::process::geteuid().is_root(),
        Need::Fuse => {
            fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").is_ok()
                && is_there(Need::Tool("fusermount3"))
        }
        Need::Postgres => Release::Debian.programs().is_some(),
        Need::Postgres18 => Release::Eighteen.programs().is_some(),
        Need::Reader => crate::frozen::python().is_file(),
        Need::TimeZones => Path::new("/usr/share/zoneinfo/Europe/Berlin").is_file(),
        Need::Tool(name) => std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).is_file())),
    }
}

/// A temporary folder with a store, a key file, and local folders of its own.
pub(crate) struct Lab {
    folder: TempDir,
    /// What commands find in their environment besides.
    environment: Vec<(&'static str, String)>,
}

impl Lab {
    /// Makes an empty laboratory.
    pub(crate) fn empty() -> Self {
        Self::equipped(Vec::new())
    }

    /// Makes an empty laboratory whose commands find this in their environment: a store elsewhere, for one.
    pub(crate) fn equipped(environment: Vec<(&'static str, String)>) -> Self {
        let folder = tempfile::Builder::new().prefix("yester-test-").tempdir().unwrap();
        Self { folder, environment }
    }

    /// Makes a laboratory with a new encrypted store, opened by a key file.
    pub(crate) fn new() -> Self {
        let lab = Self::empty();
        lab.run(["init"]).succeeds();
        lab
    }

    /// Returns a path in the laboratory.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the store's folder.
    pub(crate) fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// Prepares a run of the binary in this laboratory, untouched by the surrounding environment.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(YESTER);
        for variable in [
            "YESTER_PASSPHRASE",
            "YESTER_PASSPHRASE_FILE",
            "YESTER_PASSPHRASE_COMMAND",
            "YESTER_LOG",
            "COLUMNS",
            "TZ",
        ] {
            command.env_remove(variable);
        }
        command
            .args(arguments)
            .env("YESTER_STORE", self.store())
            .env("YESTER_KEY_FILE", self.path("key"))
            .env("CACHE_DIRECTORY", self.path("cache"))
            .env("STATE_DIRECTORY", self.path("state"))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    /// Runs the binary to its end.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Ran {
        Ran::of(&mut self.command(arguments))
    }

    /// Returns the processes that serve a mount in this laboratory.
    pub(crate) fn servers(&self) -> Vec<Pid> {
        let folder = self.folder.path().to_str().unwrap();
        let serves = |entry: &fs::DirEntry| {
            // Processes come and go while they are listed.
            let line = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            let mut words = line.split('\0').skip(1);
            words.next() == Some("mount") && words.any(|word| word.starts_with(folder))
        };
        let found = fs::read_dir("/proc").unwrap().flatten().filter(serves);
        found.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)).collect()
    }

    /// Forgets what this host knows of the store.
    pub(crate) fn cool(&self) {
        for folder in ["cache", "state"] {
            let _ = fs::remove_dir_all(self.path(folder));
        }
    }

    /// Mounts the store at `mnt` in the laboratory.
    pub(crate) fn mount<'a>(&'a self, arguments: &[&str]) -> Mount<'a> {
        let mountpoint = self.path("mnt");
        fs::create_dir_all(&mountpoint).unwrap();
        let mounted = Mount { lab: self, mountpoint };
        let mut command = self.command(["mount"]);
        Ran::of(command.arg(&mounted.mountpoint).args(arguments)).succeeds();
        mounted
    }

    /// Returns the journal's runs, newest first.
    pub(crate) fn runs(&self) -> Vec<Run> {
        Journal::open(&self.path("state/journal.sqlite")).unwrap().recent(100).unwrap()
    }

    /// Returns the listed snapshots, as `--json` gives them.
    pub(crate) fn snapshots(&self) -> Vec<serde_json::Value> {
        self.run(["snapshots", "--json"]).json().as_array().unwrap().clone()
    }
}

/// A mount that ends with its test.
pub(crate) struct Mount<'a> {
    lab: &'a Lab,
    mountpoint: PathBuf,
}

impl Mount<'_> {
    /// Returns a path in the mount.
    pub(crate) fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.mountpoint.join(below)
    }

    /// Returns the process that serves the mount.
    #[track_caller]
    pub(crate) fn server(&self) -> Pid {
        let mut servers = self.lab.servers();
        assert_eq!(servers.len(), 1, "processes that serve {}", self.mountpoint.display());
        servers.remove(0)
    }

    /// Tells whether the kernel lists a mount there.
    pub(crate) fn is_listed(&self) -> bool {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        table.lines().any(|line| line.split(' ').nth(4) == self.mountpoint.to_str())
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = self.lab.command(["umount"]).arg(&self.mountpoint).output();
        // Where that failed, the test has failed already: leave nothing behind.
        let _ = Command::new("umount").arg("-l").arg(&self.mountpoint).stderr(Stdio::null()).status();
        if std::thread::panicking() {
            for server in self.lab.servers() {
                let _ = kill_process(server, Signal::KILL);
            }
        }
    }
}

/// A process that ends with its test.
pub(crate) struct Process(Child);

impl Process {
    /// Starts it, and keeps what it writes to standard error.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Returns its number.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for its end by itself.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ran {
        eventually("the process has ended", || self.0.try_wait().unwrap().is_some());
        let mut stderr = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let code = self.0.wait().unwrap().code();
        Ran { line: "a process".to_owned(), code, stdout: Vec::new(), stderr }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Tells whether a process runs; one that only waits to be reaped does not.
pub(crate) fn is_running(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

/// Expects something to become true soon.
#[track_caller]
pub(crate) fn eventually(what: &str, happened: impl FnMut() -> bool) {
    within(Duration::from_secs(20), what, happened);
}

/// Expects something to become true that takes a while by itself.
#[track_caller]
pub(crate) fn in_a_while(what: &str, happened: impl FnMut() -> bool) {
    within(Duration::from_secs(180), what, happened);
}

#[track_caller]
fn within(limit: Duration, what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !happened() {
        assert!(Instant::now() < deadline, "{what}: this did not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A folder on which a file system of its own is mounted until the end of the test.
pub(crate) struct SystemMount(PathBuf);

impl SystemMount {
    /// Mounts with `mount ARGUMENTS FOLDER`.
    pub(crate) fn new(arguments: &[&str], folder: PathBuf) -> Self {
        fs::create_dir_all(&folder).unwrap();
        let mounted = Self(folder);
        succeed(Command::new("mount").args(arguments).arg(&mounted.0));
        mounted
    }
}

impl Drop for SystemMount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).stderr(Stdio::null()).status();
    }
}

/// How a run of the binary ended.
#[derive(Debug)]
pub(crate) struct Ran {
    line: String,
    code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ran {
    /// Runs a command to its end.
    pub(crate) fn of(command: &mut Command) -> Self {
        let line = format!("{command:?}");
        Self::from_output(line, command.output().unwrap())
    }

    /// Takes over the output of a command that ended.
    pub(crate) fn from_output(line: String, output: Output) -> Self {
        Self {
            line,
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Expects success; returns standard output as text, which is lossy where it is none.
    #[track_caller]
    pub(crate) fn succeeds(&self) -> String {
        assert_eq!(self.code, Some(0), "{}\n{}", self.line, self.stderr);
        self.text()
    }

    /// Returns standard output as text, whatever the exit code.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Expects an exit code; returns standard error.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{}\n{}", self.line, self.stderr);
        &self.stderr
    }

    /// Expects success and one JSON document on standard output.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.succeeds()).unwrap()
    }
}

/// Returns where a restore, a mount or an archive below `root` has what is `path` on this host.
pub(crate) fn copy_of(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap())
}

/// Flips a bit in the middle of the largest pack of a store, where frames are; returns the pack.
pub(crate) fn flip_largest_pack(store: &Path) -> PathBuf {
    let (_, pack) = sized_packs(store).into_iter().max().unwrap();
    flip_middle(&pack);
    pack
}

/// Flips a bit in the middle of a file; a second time makes it whole again.
pub(crate) fn flip_middle(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    // Objects are read-only.
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Returns the packs of a store with their lengths.
pub(crate) fn sized_packs(store: &Path) -> Vec<(u64, PathBuf)> {
    let mut find = Command::new("find");
    let listed = succeed(find.arg(store.join("packs")).args(["-type", "f", "-printf", "%s %p\\n"]));
    let sized = listed.lines().filter_map(|line| line.split_once(' '));
    sized.map(|(size, path)| (size.parse().unwrap(), path.into())).collect()
}

/// Runs a command that must succeed; returns its standard output.
#[track_caller]
pub(crate) fn succeed(command: &mut Command) -> String {
    Ran::of(command).succeeds()
}

/// Expects that two trees are the same in content, names and all metadata that `rsync` knows.
///
/// `diff` does not compare special files, so that `special` is left to `rsync` alone.
#[track_caller]
pub(crate) fn assert_same_trees(expected: &Path, found: &Path) {
    let diff = succeed(
        Command::new("diff").args(["-r", "--no-dereference", "-x", "special"]).args([expected, found]),
    );
    assert_eq!(diff, "");
    let slash = |path: &Path| {
        let mut text = path.as_os_str().to_owned();
        text.push("/");
        text
    };
    let differences =
        succeed(Command::new("rsync").args(["-aHAXnci", "--delete"]).args([slash(expected), slash(found)]));
    assert_eq!(differences, "");
}

/// Returns bytes that compress badly and are the same every time.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
