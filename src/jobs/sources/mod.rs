//! What is run to back up a source: the programs of databases, and how they are given their passwords.
//!
//! A password never stands on a command line, where every user of the machine can read it. A program that is started
//! directly finds it in its environment; one that is started through another (`docker exec`, `ssh`) gets a shell that
//! reads it from standard input first.

mod postgres;
mod url;

use std::ffi::OsString;
use std::io;

use zeroize::Zeroizing;

use super::config::{SourceConfig, SourceKind};
use crate::ops::ingest::CommandLine;
use crate::path::{Name, PathError};
use url::ServerUrl;

/// Why it is not known what to run.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// What the configuration names is no address.
    #[error("cannot read the address of {source_name}: {why}")]
    Address {
        /// The source.
        source_name: String,
        /// What is wrong with it; never holds a password.
        why: &'static str,
    },
    /// The list of databases cannot be had.
    #[error("cannot list the databases of {source_name} with psql: {why}")]
    List {
        /// The source.
        source_name: String,
        /// What psql said, or how it ended.
        why: String,
    },
    /// A program cannot be started.
    #[error("cannot start {0}")]
    Start(String, #[source] io::Error),
    /// A name cannot be that of a file.
    #[error("cannot name a file of {0}")]
    FileName(String, #[source] PathError),
}

/// Returns the commands that back up a source, one for each file of the snapshot; none for file trees.
///
/// Asks the server for its databases where all of them are to be backed up.
///
/// # Errors
/// See [`SourceError`].
pub fn command_lines(source: &SourceConfig) -> Result<Vec<CommandLine>, SourceError> {
    match &source.kind {
        SourceKind::Postgres(postgres) => postgres::command_lines(source, postgres),
        SourceKind::Redis(url) => redis(source, url.expose()).map(|line| vec![line]),
        SourceKind::Mongodb { uri, oplog } => mongodb(source, uri.expose(), *oplog).map(|line| vec![line]),
        SourceKind::Command { argv, output } => {
            let argv = argv.iter().map(OsString::from).collect();
            let line = CommandLine::new(file_name(source, output)?, argv);
            Ok(vec![CommandLine { min_bytes: source.min_bytes, ..line }])
        }
        SourceKind::Paths(_) => Ok(Vec::new()),
    }
}

/// What finds out whether a source can be backed up, without backing it up.
#[derive(Debug, Default)]
pub struct Questions {
    /// Prints which release the program is that dumps.
    pub version: Option<CommandLine>,
    /// Asks the server for something that it tells who may log in; what it prints depends on the kind of the source.
    pub server: Option<CommandLine>,
}

/// Returns what is to be asked of a source; nothing for file trees and commands. Tools for MongoDB that ask a server are
/// not where `mongodump` is, so that its server is not asked.
///
/// # Errors
/// See [`SourceError`].
pub fn questions(source: &SourceConfig) -> Result<Questions, SourceError> {
    match &source.kind {
        SourceKind::Postgres(postgres) => postgres::questions(source, postgres),
        SourceKind::Redis(url) => {
            let server = redis_program(source, url.expose(), &["PING"])?.line(source, "server", 0)?;
            Ok(Questions { version: None, server: Some(server) })
        }
        SourceKind::Mongodb { .. } => {
            let program =
                Program { argv: ["mongodump", "--version"].map(str::to_owned).into(), secret: None };
            Ok(Questions { version: Some(program.line(source, "version", 0)?), server: None })
        }
        SourceKind::Paths(_) | SourceKind::Command { .. } => Ok(Questions::default()),
    }
}

/// Returns the passwords of a source, which are to be in nothing that its programs are heard to say.
#[must_use]
pub fn passwords(source: &SourceConfig) -> Vec<Zeroizing<String>> {
    let found = match &source.kind {
        SourceKind::Postgres(postgres) => postgres::password(postgres.connection.expose()),
        SourceKind::Redis(url) => ServerUrl::parse(url.expose()).ok().and_then(|url| url.password),
        SourceKind::Mongodb { uri, .. } => ServerUrl::parse(uri.expose()).ok().and_then(|url| url.password),
        SourceKind::Paths(_) | SourceKind::Command { .. } => None,
    };
    found.into_iter().filter(|password| !password.is_empty()).collect()
}

/// A program of a database, before it is known how it is started.
struct Program {
    argv: Vec<String>,
    /// A variable with a secret.
    secret: Option<(&'static str, Zeroizing<String>)>,
}

impl Program {
    /// Returns the command that writes the file `name`, started by the prefix of the source.
    fn line(self, source: &SourceConfig, name: &str, min_bytes: u64) -> Result<CommandLine, SourceError> {
        let (argv, environment, input) = self.start(source);
        Ok(CommandLine { environment, input, min_bytes, ..CommandLine::new(file_name(source, name)?, argv) })
    }

    /// Returns what to start, and by which way the secret goes there.
    fn start(self, source: &SourceConfig) -> (Vec<OsString>, Environment, Option<Zeroizing<Vec<u8>>>) {
        let prefix = source.exec.iter();
        let words = |argv: Vec<String>| prefix.clone().cloned().chain(argv).map(OsString::from).collect();
        match self.secret {
            None => (words(self.argv), Vec::new(), None),
            Some((name, secret)) if source.exec.is_empty() => {
                (words(self.argv), vec![(name.into(), secret)], None)
            }
            Some((name, secret)) => {
                let script = format!("IFS= read -r {name} && export {name} && exec \"$@\"");
                let shell = ["sh", "-c", &script, "sh"].map(str::to_owned);
                let argv = words(shell.into_iter().chain(self.argv).collect());
                let mut input = Zeroizing::new(secret.as_bytes().to_vec());
                input.push(b'\n');
                (argv, Vec::new(), Some(input))
            }
        }
    }
}

/// Variables with secrets.
type Environment = Vec<(OsString, Zeroizing<String>)>;

fn redis(source: &SourceConfig, text: &str) -> Result<CommandLine, SourceError> {
    let program = redis_program(source, text, &["--rdb", "-"])?;
    program.line(source, &format!("{}.rdb", source.name), source.min_bytes)
}

fn redis_program(source: &SourceConfig, text: &str, arguments: &[&str]) -> Result<Program, SourceError> {
    let url = ServerUrl::parse(text).map_err(|why| address(source, why))?;
    let mut argv = vec!["redis-cli".to_owned()];
    let mut option = |name: &str, value: Option<String>| {
        argv.extend(value.into_iter().flat_map(|value| [name.to_owned(), value]));
    };
    option("-h", url.host);
    option("-p", url.port);
    option("--user", url.user.filter(|user| !user.is_empty()));
    if url.scheme == "rediss" {
        argv.push("--tls".to_owned());
    }
    argv.extend(arguments.iter().map(|word| (*word).to_owned()));
    Ok(Program { argv, secret: url.password.map(|password| ("REDISCLI_AUTH", password)) })
}

/// The address goes to standard input as a file of options where it has a password: mongodump has no variable for it.
fn mongodb(source: &SourceConfig, uri: &str, oplog: bool) -> Result<CommandLine, SourceError> {
    let has_password = uri
        .split_once("://")
        .and_then(|(_, rest)| rest.split(['/', '?']).next())
        .and_then(|authority| authority.rsplit_once('@'))
        .is_some_and(|(user, _)| user.contains(':'));
    let mut argv: Vec<OsString> = source.exec.iter().map(OsString::from).collect();
    argv.extend(["mongodump", "--archive"].map(OsString::from));
    if oplog {
        argv.push("--oplog".into());
    }
    let mut input = None;
    if has_password {
        // A JSON string is a YAML string.
        let quoted = serde_json::Value::from(uri).to_string();
        input = Some(Zeroizing::new(format!("uri: {quoted}\n").into_bytes()));
        argv.push("--config=/dev/stdin".into());
    } else {
        argv.push(format!("--uri={uri}").into());
    }
    let line = CommandLine::new(file_name(source, &format!("{}.archive", source.name))?, argv);
    Ok(CommandLine { input, min_bytes: source.min_bytes, ..line })
}

fn address(source: &SourceConfig, why: &'static str) -> SourceError {
    SourceError::Address { source_name: source.name.clone(), why }
}

fn file_name(source: &SourceConfig, name: &str) -> Result<Name, SourceError> {
    // A database may have any name.
    let name = name.replace('%', "%25").replace('/', "%2F");
    Name::new(name.as_bytes()).map_err(|error| SourceError::FileName(source.name.clone(), error))
}

#[cfg(test)]
mod tests;
