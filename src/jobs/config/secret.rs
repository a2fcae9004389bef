//! Where a secret is kept: the configuration names the place, and never holds the secret itself.

use std::fmt;
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::reader::{Item, Section};

/// The place of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretPlace {
    /// The first line of a file.
    File(PathBuf),
    /// A variable of the environment.
    Variable(String),
    /// What a command prints first: the program and its arguments, at least the program.
    Command(Vec<String>),
    /// A credential that systemd hands to the unit, by its name.
    Credential(String),
}

impl fmt::Display for SecretPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Variable(name) => write!(f, "the variable {name}"),
            Self::Command(argv) => write!(f, "the command {}", argv.first().map_or("", String::as_str)),
            Self::Credential(name) => write!(f, "the credential {name}"),
        }
    }
}

/// What opens a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPlace {
    /// A key file, or one that holds a recovery key.
    KeyFile(PathBuf),
    /// A passphrase.
    Passphrase(SecretPlace),
}

/// The address of a server, which may hold a password: never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Zeroizing<String>);

impl Address {
    pub(super) fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    /// Returns it, with what is secret in it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address(..)")
    }
}

/// A text that may be a secret, such as the address of a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// It stands in the file.
    Plain(String),
    /// It is kept elsewhere.
    Secret(SecretPlace),
}

impl SecretPlace {
    /// Reads `{ file | env | command | credential = … }`.
    pub(super) fn read(item: &Item<'_>) -> Option<Self> {
        let section = item.section_like("{ file = \"/etc/yester/secret\" }")?;
        let places = [
            section.item("file").map(|item| item.path().map(Self::File)),
            section.item("env").map(|item| item.text().map(|name| Self::Variable(name.to_owned()))),
            section.item("command").map(|item| item.texts().map(Self::Command)),
            section.item("credential").map(|item| item.parse(credential).map(Self::Credential)),
        ];
        section.finish();
        let mut given = places.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(place), None) => place,
            _ => {
                item.report("it says where a secret is, by one of file, env, command and credential");
                None
            }
        }
    }
}

impl Text {
    /// Reads text in quotes, or the place of a secret.
    pub(super) fn read(item: &Item<'_>) -> Option<Self> {
        if item.is_text() {
            return item.text().map(|text| Self::Plain(text.to_owned()));
        }
        SecretPlace::read(item).map(Self::Secret)
    }
}

impl KeyPlace {
    /// Reads `key-file` or `passphrase` of a table that may have either.
    pub(super) fn read(section: &Section<'_>) -> Option<Self> {
        let file = section.item("key-file");
        let passphrase = section.item("passphrase");
        match (file, passphrase) {
            (Some(_), Some(passphrase)) => {
                passphrase.report("there is a key-file as well; one of them opens the store");
                None
            }
            (Some(file), None) => file.path().map(Self::KeyFile),
            (None, Some(passphrase)) => SecretPlace::read(&passphrase).map(Self::Passphrase),
            (None, None) => None,
        }
    }
}

/// A name of a file in a folder that systemd makes.
fn credential(name: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if !name.is_empty() && name != "." && name != ".." && name.bytes().all(is_plain) {
        return Ok(name.to_owned());
    }
    Err(format!("{name:?} is no name of a credential: letters, digits, `.`, `_` and `-`"))
}
