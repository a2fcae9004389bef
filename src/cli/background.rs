//! A mount in the background: a second process of this program that serves while the first one returns.
//!
//! A process with threads must not fork, so the parent runs its own binary again. The two talk over the
//! child's standard input and output until the mount is ready; a key travels there alone, never in arguments
//! or environment. Until then the child writes its errors to the parent's standard error itself.
//!
//! ```text
//! parent → child   {"configured": …}    how a key was configured, so that the child can name it
//! child → parent   credential           the store is encrypted: send a key
//! parent → child   {"passphrase": …} or {"key": …}
//! child → parent   ready                the mount is there
//! ```

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::credentials::{KeySource, SECRET_VARIABLES};
use super::exit::{CommandError, ErrorKind};
use crate::crypto::slot::{Credential, FileKey};
use crate::repo::RepoError;

/// Set in the environment of the child, which recognises itself by it.
const CHILD_VARIABLE: &str = "YESTER_MOUNT_CHILD";
/// A log that has grown beyond this is begun anew.
const LOG_MAX_BYTES: u64 = 1 << 20;

/// The first line that the parent sends.
#[derive(Serialize, Deserialize)]
struct Greeting {
    configured: Option<String>,
}

/// A key on its way to the child.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SentKey {
    Passphrase(String),
    Key(String),
}

impl Drop for SentKey {
    fn drop(&mut self) {
        match self {
            Self::Passphrase(text) | Self::Key(text) => text.zeroize(),
        }
    }
}

/// How a child gets its key.
pub(super) struct KeyPath<'a> {
    /// Where the key comes from.
    pub(super) source: &'a KeySource,
    /// How people configured it; nothing if they are to be asked.
    pub(super) configured: Option<String>,
    /// What they are asked.
    pub(super) question: &'a str,
}

/// Starts the child with these arguments and helps it until the mount is ready.
pub(super) fn start_child(arguments: &[OsString], key: &KeyPath<'_>) -> Result<(), CommandError> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("yester").args(arguments).env(CHILD_VARIABLE, "1");
    for variable in SECRET_VARIABLES {
        command.env_remove(variable);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|source| CommandError::io("cannot start the process that serves the mount", source))?;
    match attend(&mut child, key) {
        Ok(Attended::Ready) => Ok(()),
        Ok(Attended::Ended) => Err(CommandError::silent(exit_code(&mut child))),
        Err(error) => {
            // Its standard input has ended with the conversation, so that it ends without a word.
            let _ = child.wait();
            Err(error)
        }
    }
}

/// How the child's start went.
enum Attended {
    Ready,
    Ended,
}

fn attend(child: &mut Child, key: &KeyPath<'_>) -> Result<Attended, CommandError> {
    let (Some(mut to_child), Some(from_child)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(CommandError::message(
            ErrorKind::Failed,
            "cannot talk to the process that serves the mount",
        ));
    };
    let mut alive = send(&mut to_child, &Greeting { configured: key.configured.clone() });
    for line in BufReader::new(from_child).lines() {
        match line.as_deref() {
            Ok("ready") => return Ok(Attended::Ready),
            Ok("credential") if alive => {
                let key = match key.source.credential(key.question)? {
                    Credential::Passphrase(text) => SentKey::Passphrase(text.as_str().to_owned()),
                    Credential::FileKey(key) => SentKey::Key(key.to_text().as_str().to_owned()),
                    Credential::IngestOnly(keys) => {
                        let host = keys.ingest_writer().map(|writer| writer.host.clone());
                        return Err(RepoError::IngestOnly(host.unwrap_or_default()).into());
                    }
                };
                alive = send(&mut to_child, &key);
            }
            _ => break,
        }
    }
    Ok(Attended::Ended)
}

/// Sends one line; tells whether the child still listens. Why it does not, its exit code says.
fn send(to_child: &mut ChildStdin, message: &impl Serialize) -> bool {
    let Ok(mut text) = serde_json::to_string(message).map(Zeroizing::new) else { return false };
    text.push('\n');
    to_child.write_all(text.as_bytes()).and_then(|()| to_child.flush()).is_ok()
}

fn exit_code(child: &mut Child) -> u8 {
    let code = child.wait().ok().and_then(|status| status.code());
    code.and_then(|code| u8::try_from(code).ok())
        .filter(|code| *code != 0)
        .unwrap_or(ErrorKind::Failed.code())
}

/// The child's side of the conversation.
pub(super) struct Parent {
    configured: Option<String>,
    lines: io::Lines<BufReader<io::Stdin>>,
}

impl Parent {
    /// Returns the parent if this process is such a child.
    pub(super) fn find() -> Result<Option<Self>, CommandError> {
        if std::env::var_os(CHILD_VARIABLE).is_none() {
            return Ok(None);
        }
        let mut lines = BufReader::new(io::stdin()).lines();
        let greeting: Greeting = receive(&mut lines)?;
        Ok(Some(Self { configured: greeting.configured, lines }))
    }

    /// Returns how a key was configured; nothing if people are to be asked.
    pub(super) fn configured(&self) -> Option<String> {
        self.configured.clone()
    }

    /// Asks the parent for a key.
    pub(super) fn credential(&mut self) -> Result<Credential, CommandError> {
        say("credential")?;
        let key: SentKey = receive(&mut self.lines)?;
        match &key {
            SentKey::Passphrase(text) => Ok(Credential::Passphrase(Zeroizing::new(text.clone()))),
            SentKey::Key(text) => FileKey::parse(text)
                .map(Credential::FileKey)
                .map_err(|source| CommandError::new(ErrorKind::WrongKey, source)),
        }
    }

    /// Tells the parent that the mount is there, and lets go of everything that ties this process to it.
    ///
    /// Only now: until the mount is there, autofs lets no process through to the mount point but those of the
    /// process group that mounts. All others wait for the mount, as a child of another group would for itself.
    pub(super) fn leave(self, log: &File) -> Result<(), CommandError> {
        rustix::process::setsid()
            .map_err(|source| CommandError::io("cannot leave the terminal", source.into()))?;
        say("ready")?;
        let fail = |source: io::Error| CommandError::io("cannot let go of the terminal", source);
        let null = OpenOptions::new().read(true).write(true).open("/dev/null").map_err(fail)?;
        rustix::stdio::dup2_stdin(&null).map_err(|error| fail(error.into()))?;
        rustix::stdio::dup2_stdout(&null).map_err(|error| fail(error.into()))?;
        rustix::stdio::dup2_stderr(log).map_err(|error| fail(error.into()))?;
        // The working directory of the parent must not be kept from being unmounted.
        rustix::process::chdir("/").map_err(|error| fail(error.into()))
    }
}

/// Opens the log of mounts in the state folder: what goes wrong in the background is found there.
pub(super) fn open_log(state: &Path) -> Result<File, CommandError> {
    let path = state.join("mount.log");
    let fail = |source| CommandError::io(format!("cannot open the log {}", path.display()), source);
    let begin_anew = path.metadata().is_ok_and(|metadata| metadata.len() > LOG_MAX_BYTES);
    let mut options = OpenOptions::new();
    options.create(true).mode(0o600).append(true);
    let log = options.open(&path).map_err(fail)?;
    if begin_anew {
        log.set_len(0).map_err(fail)?;
    }
    Ok(log)
}

fn say(word: &str) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{word}").and_then(|()| out.flush()).map_err(|_| parent_gone())
}

fn receive<T: for<'de> Deserialize<'de>>(
    lines: &mut io::Lines<BufReader<io::Stdin>>,
) -> Result<T, CommandError> {
    let line = lines.next().and_then(Result::ok).map(Zeroizing::new).ok_or_else(parent_gone)?;
    serde_json::from_str(&line).map_err(|_| parent_gone())
}

/// The parent has ended, and has said why.
fn parent_gone() -> CommandError {
    CommandError::silent(ErrorKind::Failed.code())
}
