//! Where the key of a store comes from: a key file, a passphrase in the environment, or a prompt.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::IsTerminal;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use super::exit::{CommandError, ErrorKind};
use crate::crypto::slot::{Credential, FileKey};
use crate::crypto::{CryptoError, ingest_key};
use crate::jobs::config::{KeyPlace, SecretPlace};
use crate::jobs::secret;

/// The variables that give a passphrase, in the order in which they count.
const PASSPHRASE: &str = "YESTER_PASSPHRASE";
const PASSPHRASE_FILE: &str = "YESTER_PASSPHRASE_FILE";
const PASSPHRASE_COMMAND: &str = "YESTER_PASSPHRASE_COMMAND";

/// The variables that hold or lead to a passphrase.
pub(super) const SECRET_VARIABLES: [&str; 3] = [PASSPHRASE, PASSPHRASE_FILE, PASSPHRASE_COMMAND];

/// Where a key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeySource {
    /// A file that `init --key-file` made, or one that holds a recovery key.
    KeyFile(PathBuf),
    /// The passphrase itself, in a variable.
    Variable(OsString),
    /// The first line of a file.
    File(PathBuf),
    /// What a shell command prints.
    Command(OsString),
    /// A passphrase whose place the configuration names.
    Configured(SecretPlace),
    /// The person at the terminal.
    Prompt,
}

impl KeySource {
    /// Returns where the key of this run comes from: the key file first, then the environment, then a prompt.
    pub(super) fn find(key_file: Option<&Path>) -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        key_file
            .map(|path| Self::KeyFile(path.to_owned()))
            .or_else(|| variable(PASSPHRASE).map(Self::Variable))
            .or_else(|| variable(PASSPHRASE_FILE).map(|path| Self::File(path.into())))
            .or_else(|| variable(PASSPHRASE_COMMAND).map(Self::Command))
            .unwrap_or(Self::Prompt)
    }

    /// Returns where the key of a configured store comes from.
    pub(super) fn of(key: &KeyPlace) -> Self {
        match key {
            KeyPlace::KeyFile(path) => Self::KeyFile(path.clone()),
            KeyPlace::Passphrase(place) => Self::Configured(place.clone()),
        }
    }

    /// Tells whether this is the file of an ingest-only key. One that cannot be read is for whoever opens the store to
    /// say.
    pub(super) fn is_ingest_only(&self) -> bool {
        let Self::KeyFile(path) = self else { return false };
        let text = std::fs::read_to_string(path).map(Zeroizing::new);
        text.is_ok_and(|text| ingest_key::looks_like(&text))
    }

    /// Returns how people gave this key; nothing for a prompt, which is only a way to ask.
    pub(super) fn configured(&self) -> Option<String> {
        match self {
            Self::KeyFile(path) => Some(format!("the key file {}", path.display())),
            Self::Variable(_) => Some(PASSPHRASE.to_owned()),
            Self::File(_) => Some(PASSPHRASE_FILE.to_owned()),
            Self::Command(_) => Some(PASSPHRASE_COMMAND.to_owned()),
            Self::Configured(place) => Some(format!("{place} of the configuration")),
            Self::Prompt => None,
        }
    }

    /// Returns the key, asking for it if need be.
    pub(super) fn credential(&self, question: &str) -> Result<Credential, CommandError> {
        match self {
            Self::KeyFile(path) => read_key_file(path),
            _ => self.passphrase(question).and_then(credential_of),
        }
    }

    /// Returns the passphrase, never empty.
    pub(super) fn passphrase(&self, question: &str) -> Result<Zeroizing<String>, CommandError> {
        let text = match self {
            Self::Variable(value) => utf8(value.as_encoded_bytes())?,
            Self::File(path) => first_line(&read_secret(path)?)?,
            Self::Command(command) => first_line(&run_command(command)?)?,
            Self::Configured(place) => secret::read(place, &|name| std::env::var_os(name))
                .map_err(|source| CommandError::new(ErrorKind::WrongKey, source))?,
            Self::KeyFile(_) | Self::Prompt => prompt(question)?,
        };
        if text.is_empty() {
            let source = self.configured().unwrap_or_else(|| "the terminal".to_owned());
            return Err(CommandError::message(
                ErrorKind::WrongKey,
                format!("the passphrase from {source} is empty"),
            ));
        }
        Ok(text)
    }
}

/// Returns what a text opens: the text of a key file, a recovery key or an ingest-only key as such, everything else as
/// a passphrase.
fn credential_of(text: Zeroizing<String>) -> Result<Credential, CommandError> {
    if FileKey::looks_like(&text) || ingest_key::looks_like(&text) {
        return parse_key(&text).map_err(|source| CommandError::new(ErrorKind::WrongKey, source));
    }
    Ok(Credential::Passphrase(text))
}

fn parse_key(text: &str) -> Result<Credential, CryptoError> {
    if ingest_key::looks_like(text) {
        return ingest_key::parse(text).map(Credential::IngestOnly);
    }
    FileKey::parse(text).map(Credential::FileKey)
}

/// Reads the key of a key file, which may be an ingest-only one.
pub(super) fn read_key_file(path: &Path) -> Result<Credential, CommandError> {
    let bytes = read_secret(path).map_err(|error| {
        error
            .hint("--key-file and YESTER_KEY_FILE name it; without them a passphrase is asked for")
            .hint("the recovery key that `yester init` printed works as a passphrase")
    })?;
    let text = first_line(&bytes)?;
    parse_key(&text).map_err(|source| {
        let source =
            anyhow::Error::new(source).context(format!("cannot use the key file {}", path.display()));
        CommandError::new(ErrorKind::WrongKey, source)
    })
}

fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    let fail = |source| {
        let source = anyhow::Error::new(source).context(format!("cannot read {}", path.display()));
        CommandError::new(ErrorKind::WrongKey, source)
    };
    let bytes = Zeroizing::new(fs::read(path).map_err(fail)?);
    if fs::metadata(path).map_err(fail)?.permissions().mode() & 0o077 != 0 {
        tracing::warn!("{} can be read by others; run: chmod 600 {0}", path.display());
    }
    Ok(bytes)
}

fn run_command(command: &OsStr) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    let fail = |why: String| {
        CommandError::message(ErrorKind::WrongKey, format!("{PASSPHRASE_COMMAND} failed: {why}"))
    };
    let output = Command::new("sh")
        .arg("-c")
        .arg(command)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| fail(error.to_string()))?;
    let bytes = Zeroizing::new(output.stdout);
    if output.status.success() { Ok(bytes) } else { Err(fail(output.status.to_string())) }
}

fn first_line(bytes: &[u8]) -> Result<Zeroizing<String>, CommandError> {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    utf8(line.strip_suffix(b"\r").unwrap_or(line))
}

fn utf8(bytes: &[u8]) -> Result<Zeroizing<String>, CommandError> {
    std::str::from_utf8(bytes)
        .map(|text| Zeroizing::new(text.to_owned()))
        .map_err(|_| CommandError::message(ErrorKind::WrongKey, "the passphrase is not UTF-8"))
}

/// Tells whether there is a person to ask.
pub(super) fn can_prompt() -> bool {
    // Standard input may carry the backup; the prompt itself reads the terminal.
    std::io::stderr().is_terminal() && fs::OpenOptions::new().read(true).write(true).open("/dev/tty").is_ok()
}

/// Asks the person at the terminal, without showing what is typed.
pub(super) fn prompt(question: &str) -> Result<Zeroizing<String>, CommandError> {
    if !can_prompt() {
        return Err(CommandError::message(
            ErrorKind::WrongKey,
            "the store is encrypted, and no passphrase or key was given",
        )
        .hint(format!("set {PASSPHRASE}, {PASSPHRASE_FILE} or {PASSPHRASE_COMMAND}, or give --key-file")));
    }
    rpassword::prompt_password(format!("{question}: "))
        .map(Zeroizing::new)
        .map_err(|source| CommandError::io("cannot read the passphrase from the terminal", source))
}

/// Makes a key file with a fresh key, readable by its owner alone; fails if there is one already.
pub(super) fn create_key_file(path: &Path) -> Result<FileKey, CommandError> {
    let key = FileKey::random().map_err(|source| CommandError::new(ErrorKind::Failed, source))?;
    write_key_file(path, &key.to_text())?;
    Ok(key)
}

/// Writes the text of a key to a new file that its owner alone can read; fails if there is one already.
pub(super) fn write_key_file(path: &Path, text: &str) -> Result<(), CommandError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;

    let fail = |source: std::io::Error| {
        let hint = match source.kind() {
            std::io::ErrorKind::NotFound => Some("its directory must exist"),
            std::io::ErrorKind::AlreadyExists => {
                Some("nothing was changed; choose another name, or move it away")
            }
            _ => None,
        };
        CommandError::io(format!("cannot create the key file {}", path.display()), source).hints(hint)
    };
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(fail)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.sync_all())
        .map_err(fail)
}

/// Asks for a new passphrase twice.
pub(super) fn prompt_twice(question: &str) -> Result<Zeroizing<String>, CommandError> {
    let first = prompt(question)?;
    if !first.is_empty() && *first != *prompt("the same again")? {
        return Err(CommandError::message(ErrorKind::Failed, "the two passphrases are not the same"));
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_is_the_first_line() {
        for (bytes, text) in [(&b"secret\n"[..], "secret"), (b"a b\r\nc", "a b"), (b"", ""), (b" x ", " x ")]
        {
            assert_eq!(*first_line(bytes).unwrap(), text);
        }
        assert!(first_line(b"\xff").is_err());
    }

    #[test]
    fn a_failing_command_gives_no_passphrase() {
        let source = KeySource::Command("echo secret; exit 3".into());
        assert_eq!(source.passphrase("?").unwrap_err().kind(), ErrorKind::WrongKey);
        assert_eq!(*KeySource::Command("echo 'a b'".into()).passphrase("?").unwrap(), "a b");
        assert!(KeySource::Command("true".into()).passphrase("?").is_err());
    }

    #[test]
    fn a_key_file_counts_before_the_environment() {
        let path = Path::new("/etc/yester.key");
        assert_eq!(KeySource::find(Some(path)), KeySource::KeyFile(path.to_owned()));
    }
}
