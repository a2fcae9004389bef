//! What is run to back up a source: the programs of databases, and how they are given their passwords.
//!
//! A password never stands on a command line, where every user of the machine can read it. A program that is started
//! directly finds it in its environment; one that is started through another (`docker exec`, `ssh`) gets a shell that
//! reads it from standard input first. What goes through ssh is quoted for the shell at the other end.

mod postgres;
mod url;

use std::ffi::OsString;
use std::io;
use std::path::Path;

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
        SourceKind::Mongodb { uri, oplog } => {
            let more: &[&str] = if *oplog { &["--oplog"] } else { &[] };
            let line = mongodump(source, uri.expose(), more, &format!("{}.archive", source.name))?;
            Ok(vec![CommandLine { min_bytes: source.min_bytes, ..line }])
        }
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

/// Returns what is to be asked of a source; nothing for file trees and commands.
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
        SourceKind::Mongodb { uri, .. } => {
            // Of a collection that is not there mongodump dumps nothing, once it has logged in and looked for it.
            let mut more = vec!["--collection=yester-config-check"];
            let url = ServerUrl::parse(uri.expose()).map_err(|why| address(source, why))?;
            if url.path.is_empty() {
                more.push("--db=admin");
            }
            let version =
                Program { argv: ["mongodump", "--version"].map(str::to_owned).into(), secret: None };
            Ok(Questions {
                version: Some(version.line(source, "version", 0)?),
                server: Some(mongodump(source, uri.expose(), &more, "server")?),
            })
        }
        SourceKind::Paths(_) | SourceKind::Command { .. } => Ok(Questions::default()),
    }
}

/// Returns the passwords of a source, which are to be in nothing that its programs are heard to say.
#[must_use]
pub fn passwords(source: &SourceConfig) -> Vec<Zeroizing<String>> {
    let of_url = |text: &str| {
        let url = ServerUrl::parse(text).ok();
        // mongodump is given the address as it was written, and may repeat it so.
        url.map_or([None, None], |url| [url.password, url.raw_password])
    };
    let found = match &source.kind {
        SourceKind::Postgres(postgres) => [postgres::password(postgres.connection.expose()), None],
        SourceKind::Redis(url) | SourceKind::Mongodb { uri: url, .. } => of_url(url.expose()),
        SourceKind::Paths(_) | SourceKind::Command { .. } => [None, None],
    };
    found.into_iter().flatten().filter(|password| !password.is_empty()).collect()
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
        match self.secret {
            None => (behind(&source.exec, self.argv), Vec::new(), None),
            Some((name, secret)) if source.exec.is_empty() => {
                (behind(&source.exec, self.argv), vec![(name.into(), secret)], None)
            }
            Some((name, secret)) => {
                let script = format!("IFS= read -r {name} && export {name} && exec \"$@\"");
                let shell = ["sh", "-c", &script, "sh"].map(str::to_owned);
                let argv = behind(&source.exec, shell.into_iter().chain(self.argv).collect());
                let mut input = Zeroizing::new(secret.as_bytes().to_vec());
                input.push(b'\n');
                (argv, Vec::new(), Some(input))
            }
        }
    }
}

/// Returns the words that start a program behind a prefix. ssh hands them to a shell as one line, which takes it apart
/// again: they are quoted for that. The words of the prefix stand as they were written.
fn behind(prefix: &[String], argv: Vec<String>) -> Vec<OsString> {
    let is_ssh = prefix.first().is_some_and(|program| Path::new(program).file_name() == Some("ssh".as_ref()));
    let word = |word: String| match shlex::try_quote(&word) {
        Ok(quoted) if is_ssh => quoted.into_owned(),
        _ => word,
    };
    prefix.iter().cloned().chain(argv.into_iter().map(word)).map(OsString::from).collect()
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

/// Returns a `mongodump` that writes an archive. The address goes to standard input as a file of options where it has a
/// password: there is no variable for it.
fn mongodump(
    source: &SourceConfig,
    uri: &str,
    more: &[&str],
    name: &str,
) -> Result<CommandLine, SourceError> {
    let url = ServerUrl::parse(uri).map_err(|why| address(source, why))?;
    let mut argv: Vec<String> =
        ["mongodump", "--archive"].iter().chain(more).map(|word| (*word).to_owned()).collect();
    let mut input = None;
    if url.password.is_some() {
        // A JSON string is a YAML string.
        let quoted = serde_json::Value::from(uri).to_string();
        input = Some(Zeroizing::new(format!("uri: {quoted}\n").into_bytes()));
        argv.push("--config=/dev/stdin".to_owned());
    } else {
        argv.push(format!("--uri={uri}"));
    }
    let line = CommandLine::new(file_name(source, name)?, behind(&source.exec, argv));
    Ok(CommandLine { input, min_bytes: 0, ..line })
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
