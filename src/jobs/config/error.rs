//! What is wrong with a configuration file, each thing with its line and key.

use std::fmt;
use std::path::PathBuf;

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no such file, or it cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It says what cannot be.
    #[error("{}:{}", path.display(), describe(problems))]
    Wrong {
        /// The file.
        path: PathBuf,
        /// All that is wrong, at least one thing, in the order of the lines.
        problems: Vec<Problem>,
    },
}

impl ConfigError {
    /// Returns everything that is wrong with what the file says; nothing if it could not be read.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Read { .. } => &[],
            Self::Wrong { problems, .. } => problems,
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// The key, such as `source.shop.keep`; empty where the file is no TOML.
    pub key: String,
    /// What is wrong with it, and what it could be.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, key, message } = self;
        if key.is_empty() { write!(f, "{line}: {message}") } else { write!(f, "{line}: {key}: {message}") }
    }
}

fn describe(problems: &[Problem]) -> String {
    match problems {
        [] => "it is wrong".to_owned(),
        [one] => one.to_string(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}
