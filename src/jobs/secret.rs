//! Reading a secret where the configuration says that it is.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use super::config::SecretPlace;

/// The folder in which systemd puts the credentials of a unit.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

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
    /// Nothing is there, or no text.
    #[error("{0} holds no secret: its first line is empty, or no text")]
    Nothing(String),
    /// systemd has handed over no credentials.
    #[error("there is no credential {0}: systemd hands those to units alone that name them")]
    NoCredential(String),
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
            Zeroizing::new(environment(name).unwrap_or_default().into_encoded_bytes())
        }
        SecretPlace::Command(argv) => run(argv)?,
        SecretPlace::Credential(name) => {
            let folder = environment(CREDENTIALS_DIRECTORY).filter(|folder| !folder.is_empty());
            let folder = folder.ok_or_else(|| SecretError::NoCredential(name.clone()))?;
            read_file(&Path::new(&folder).join(name))?
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

fn run(argv: &[String]) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let (program, arguments) =
        argv.split_first().ok_or_else(|| SecretError::Nothing("a command".to_owned()))?;
    let start = |source| SecretError::Start { program: program.clone(), source };
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(start)?;
    let bytes = Zeroizing::new(output.stdout);
    if output.status.success() {
        return Ok(bytes);
    }
    Err(SecretError::Failed { program: program.clone(), status: output.status.to_string() })
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
        let nowhere = read(&SecretPlace::Credential("pass".to_owned()), &|_| None).unwrap_err();
        assert!(matches!(nowhere, SecretError::NoCredential(_)));
    }
}
