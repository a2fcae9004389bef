//! A command line whose output is backed up. Names what is secret of it, and shows none of that.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;

use zeroize::Zeroizing;

use super::super::IngestError;
use crate::path::{Name, escape};

/// A command, what it is given, and the file that its output becomes.
pub struct CommandLine {
    /// The file's name in the snapshot.
    pub name: Name,
    /// The program and its arguments; at least the program. Shown and stored: holds no secrets.
    pub argv: Vec<OsString>,
    /// Variables besides our own. Their values are secrets: never shown, never stored.
    pub environment: Vec<(OsString, Zeroizing<String>)>,
    /// What it reads from standard input, a secret as well; nothing is `/dev/null`.
    pub input: Option<Zeroizing<Vec<u8>>>,
    /// An output of fewer bytes is no backup.
    pub min_bytes: u64,
}

impl CommandLine {
    /// Returns a command that is given nothing, and writes at least a byte.
    #[must_use]
    pub fn new(name: Name, argv: Vec<OsString>) -> Self {
        Self { name, argv, environment: Vec::new(), input: None, min_bytes: 1 }
    }

    /// Returns the program and its arguments, safe for terminals.
    pub(super) fn describe(&self) -> String {
        let words: Vec<String> = self.argv.iter().map(|word| escape(word.as_encoded_bytes())).collect();
        words.join(" ")
    }

    /// Returns the program and its arguments, as they are stored.
    pub(in super::super) fn words(&self) -> Vec<Vec<u8>> {
        self.argv.iter().map(|word| word.as_encoded_bytes().to_vec()).collect()
    }
}

impl fmt::Debug for CommandLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variables: Vec<_> = self.environment.iter().map(|(name, _)| name).collect();
        formatter
            .debug_struct("CommandLine")
            .field("name", &self.name)
            .field("argv", &self.argv)
            .field("environment", &variables)
            .field("has_input", &self.input.is_some())
            .field("min_bytes", &self.min_bytes)
            .finish()
    }
}

/// Tells whether the outputs of these commands can lie side by side.
///
/// # Errors
/// [`IngestError::Commands`] if there is no command, one of them is empty, or two files would have one name.
pub(in super::super) fn check(lines: &[CommandLine]) -> Result<(), IngestError> {
    if lines.is_empty() {
        return Err(IngestError::Commands("no command was given".to_owned()));
    }
    let mut names = HashSet::new();
    for line in lines {
        if line.argv.is_empty() {
            return Err(IngestError::Commands(format!("nothing was given to run for {}", line.name)));
        }
        if !names.insert(line.name.as_bytes()) {
            let name = &line.name;
            return Err(IngestError::Commands(format!(
                "two of them would write {name}; name one differently"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, argv: &[&str]) -> CommandLine {
        CommandLine::new(Name::new(name.as_bytes()).unwrap(), argv.iter().map(OsString::from).collect())
    }

    #[test]
    fn secrets_are_not_shown() {
        let line = CommandLine {
            environment: vec![("PGPASSWORD".into(), Zeroizing::new("hunter2".to_owned()))],
            input: Some(Zeroizing::new(b"hunter3".to_vec())),
            ..line("shop.dump", &["pg_dump", "a b\x1b"])
        };
        let shown = format!("{line:?} {line:#?} {}", line.describe());
        assert!(!shown.contains("hunter") && !shown.contains("104"), "{shown}");
        assert!(shown.contains("PGPASSWORD") && shown.contains("shop.dump"), "{shown}");
        assert!(shown.ends_with("pg_dump a b\\u{1b}"), "{shown}");
    }

    #[test]
    fn commands_need_a_program_and_names_of_their_own() {
        let why = |lines: &[CommandLine]| check(lines).map_err(|error| error.to_string());
        assert_eq!(why(&[line("a", &["x"]), line("b", &["x"])]), Ok(()));
        let told = "cannot run the commands: no command was given";
        assert_eq!(why(&[]), Err(told.to_owned()));
        let told = "cannot run the commands: nothing was given to run for b";
        assert_eq!(why(&[line("a", &["x"]), line("b", &[])]), Err(told.to_owned()));
        let told = "cannot run the commands: two of them would write a; name one differently";
        assert_eq!(why(&[line("a", &["x"]), line("b", &["x"]), line("a", &["y"])]), Err(told.to_owned()));
    }
}
