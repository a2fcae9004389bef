//! Reading a secret where the configuration says that it is.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use zeroize::Zeroizing;

use super::config::SecretPlace;

/// The variable that names the folder in which systemd puts the credentials of a unit.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";
/// Where a host keeps what systemd hands over.
const CREDENTIAL_STORE: &str = "etc/credstore";
const ENCRYPTED_CREDENTIAL_STORE: &str = "etc/credstore.encrypted";
/// How long a command may take, which may ask somebody at the terminal.
const TIMEOUT: Duration = Duration::from_mins(5);
/// How often it is looked whether it has ended.
const PAUSE: Duration = Duration::from_millis(5);
/// No secret is longer; what comes behind it is not read.
const LENGTH_MAX: u64 = 64 << 10;

/// Why a secret cannot be had. Never holds any of it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Its file cannot be read.
    #[error("cannot read the secret in {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Its command cannot be started.
    #[error("cannot start {program}, which prints a secret")]
    Start {
        /// The program.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// Its command failed.
    #[error("{program}, which prints a secret, failed ({status})")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: String,
    },
    /// Its command goes on and on.
    #[error("{program}, which prints a secret, was ended after {} minutes", TIMEOUT.as_secs() / 60)]
    TimedOut {
        /// The program.
        program: String,
    },
    /// Its variable is not set.
    #[error("the variable {0}, which holds a secret, is not set here")]
    NotSet(String),
    /// Nothing is there, or no text.
    #[error("{0} holds no secret: its first line is empty, or no text")]
    Nothing(String),
    /// There is no such credential.
    #[error("there is no credential {0}: systemd handed over none, and /etc/credstore holds none")]
    NoCredential(String),
}

/// A file of this host whose content systemd hands over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its name.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Whether `systemd-creds` encrypted it.
    pub is_encrypted: bool,
}

impl Credential {
    /// Returns the file of a credential below the root folder of a host: an encrypted one if there is one.
    #[must_use]
    pub fn of_host(name: &str, root: &Path) -> Self {
        let place = |folder: &str| root.join(folder).join(name);
        let is_encrypted = place(ENCRYPTED_CREDENTIAL_STORE).exists();
        let folder = if is_encrypted { ENCRYPTED_CREDENTIAL_STORE } else { CREDENTIAL_STORE };
        Self { name: name.to_owned(), path: place(folder), is_encrypted }
    }
}

/// Returns a secret: the first line of what is at its place, never empty.
///
/// # Errors
/// See [`SecretError`].
pub fn read(
    place: &SecretPlace,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Zeroizing<String>, SecretError> {
    let bytes = match place {
        SecretPlace::File(path) => read_file(path)?,
        SecretPlace::Variable(name) => {
            let value = environment(name).ok_or_else(|| SecretError::NotSet(name.clone()))?;
            Zeroizing::new(value.into_encoded_bytes())
        }
        SecretPlace::Command(argv) => run(argv, TIMEOUT)?,
        SecretPlace::Credential(name) => {
            match environment(CREDENTIALS_DIRECTORY).filter(|folder| !folder.is_empty()) {
                Some(folder) => read_file(&Path::new(&folder).join(name))?,
                None => read_credential(&Credential::of_host(name, Path::new("/")))?,
            }
        }
    };
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match std::str::from_utf8(line) {
        Ok(text) if !text.is_empty() => Ok(Zeroizing::new(text.to_owned())),
        _ => Err(SecretError::Nothing(place.to_string())),
    }
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let read = fs::read(path).map(Zeroizing::new);
    read.map_err(|source| SecretError::File { path: path.to_owned(), source })
}

/// Reads a credential as systemd does, for who types a command that a unit would run.
fn read_credential(credential: &Credential) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let Credential { name, path, is_encrypted } = credential;
    if *is_encrypted {
        let argv = ["systemd-creds", "decrypt", &path.to_string_lossy(), "-"];
        return run(&argv.map(str::to_owned), TIMEOUT);
    }
    match read_file(path) {
        Err(SecretError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Err(SecretError::NoCredential(name.clone()))
        }
        read => read,
    }
}

/// Runs a command and returns what it prints. It stays in the group of this process, so that it may use the terminal.
fn run(argv: &[String], timeout: Duration) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let (program, arguments) =
        argv.split_first().ok_or_else(|| SecretError::Nothing("a command".to_owned()))?;
    let start = |source| SecretError::Start { program: program.clone(), source };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(start)?;
    let output = child.stdout.take();
    let (sender, receiver) = bounded(1);
    thread::spawn(move || {
        let mut bytes = Zeroizing::new(Vec::new());
        // What cannot be read is missing: then nothing is there.
        let _ = output.map(|output| output.take(LENGTH_MAX).read_to_end(&mut bytes));
        // Who waited long enough has gone.
        let _ = sender.send(bytes);
    });
    let deadline = Instant::now() + timeout;
    let status = loop {
        match child.try_wait().map_err(start)? {
            Some(status) => break status,
            None if Instant::now() < deadline => thread::sleep(PAUSE),
            None => {
                // Who has ended meanwhile needs no signal.
                let _ = child.kill().and_then(|()| child.wait());
                return Err(SecretError::TimedOut { program: program.clone() });
            }
        }
    };
    if status.success() {
        // What it left behind may hold the pipe open.
        return receiver
            .recv_deadline(deadline)
            .map_err(|_| SecretError::TimedOut { program: program.clone() });
    }
    Err(SecretError::Failed { program: program.clone(), status: status.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_first_lines() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("pass"), "hunter2\r\nmore").unwrap();
        fs::write(folder.path().join("empty"), "\nhunter2").unwrap();
        let environment = |name: &str| match name {
            "SECRET" => Some("hunter2".into()),
            "CREDENTIALS_DIRECTORY" => Some(folder.path().into()),
            _ => None,
        };
        let words = |text: &str| text.split(' ').map(str::to_owned).collect();
        for place in [
            SecretPlace::File(folder.path().join("pass")),
            SecretPlace::Variable("SECRET".to_owned()),
            SecretPlace::Command(words("echo hunter2")),
            SecretPlace::Credential("pass".to_owned()),
        ] {
            assert_eq!(*read(&place, &environment).unwrap(), "hunter2", "{place}");
        }
        for place in [
            SecretPlace::File(folder.path().join("empty")),
            SecretPlace::File(folder.path().join("absent")),
            SecretPlace::Variable("OTHER".to_owned()),
            SecretPlace::Command(words("false")),
            SecretPlace::Command(words("/nonexistent/program hunter2")),
            SecretPlace::Credential("absent".to_owned()),
        ] {
            let error = read(&place, &environment).unwrap_err();
            let told = crate::progress::error_chain(&error);
            assert!(!told.contains("hunter2"), "{told}");
        }
        let nowhere = read(&SecretPlace::Credential("yester-of-no-host".to_owned()), &|_| None).unwrap_err();
        assert!(matches!(nowhere, SecretError::NoCredential(_)));
    }

    #[test]
    fn a_credential_is_taken_from_where_the_host_keeps_it() {
        let root = tempfile::tempdir().unwrap();
        let of_host = || Credential::of_host("pass", root.path());
        assert_eq!((of_host().path, of_host().is_encrypted), (root.path().join("etc/credstore/pass"), false));
        assert!(matches!(read_credential(&of_host()), Err(SecretError::NoCredential(_))));
        fs::create_dir_all(root.path().join("etc/credstore")).unwrap();
        fs::write(of_host().path, "hunter2").unwrap();
        assert_eq!(*read_credential(&of_host()).unwrap(), b"hunter2");
        fs::create_dir_all(root.path().join("etc/credstore.encrypted")).unwrap();
        fs::write(root.path().join("etc/credstore.encrypted/pass"), "").unwrap();
        assert!(of_host().is_encrypted && of_host().path.ends_with("etc/credstore.encrypted/pass"));
    }

    #[test]
    fn a_command_that_hangs_is_ended() {
        let argv = ["sleep", "600"].map(str::to_owned);
        let error = run(&argv, Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, SecretError::TimedOut { program } if program == "sleep"));
    }
}
