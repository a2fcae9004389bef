//! PostgreSQL: `pg_dump -Fc -Z0` for each database, and `pg_dumpall --globals-only`.

use std::io::Write;
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use super::url::{self, ServerUrl};
use super::{Program, Questions, SourceError, address};
use crate::jobs::config::{Databases, Postgres, SourceConfig};
use crate::ops::ingest::CommandLine;
use crate::path::escape;

/// All databases that can be connected to, but for templates.
const LIST: &str =
    "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname";
/// The longest list of databases that is read.
const LIST_MAX_BYTES: usize = 1 << 20;

/// How a server is reached, with the password apart.
struct Connection {
    target: Target,
    password: Option<Zeroizing<String>>,
}

enum Target {
    /// The name of a database of the server that libpq finds by itself.
    Database(String),
    /// `host=… service=…`.
    Keywords(String),
    Url(Box<ServerUrl>),
}

/// Returns the commands that dump a server: uncompressed, so that the store can tell what is new.
pub(super) fn command_lines(
    source: &SourceConfig,
    postgres: &Postgres,
) -> Result<Vec<CommandLine>, SourceError> {
    let connection = Connection::parse(postgres.connection.expose()).map_err(|why| address(source, why))?;
    let dump = |database: Option<&str>, file: &str| {
        let target = connection.to(database);
        let program = connection.program("pg_dump", &["-Fc", "-Z0", "-d", &target]);
        program.line(source, &format!("{file}.dump"), source.min_bytes)
    };
    let databases = match &postgres.databases {
        Databases::Connected => None,
        Databases::Named(names) => Some(names.clone()),
        Databases::All => Some(list(source, &connection)?),
    };
    let mut lines = match databases {
        None => vec![dump(None, &source.name)?],
        Some(names) => names.iter().map(|name| dump(Some(name), name)).collect::<Result<_, _>>()?,
    };
    if postgres.globals {
        let target = connection.to(None);
        let program = connection.program("pg_dumpall", &["--globals-only", "-d", &target]);
        lines.push(program.line(source, "globals.sql", 1)?);
    }
    Ok(lines)
}

/// Returns what tells the release of `pg_dump`, and what asks the server for its own.
pub(super) fn questions(source: &SourceConfig, postgres: &Postgres) -> Result<Questions, SourceError> {
    let connection = Connection::parse(postgres.connection.expose()).map_err(|why| address(source, why))?;
    let version = Program { argv: ["pg_dump", "--version"].map(str::to_owned).into(), secret: None };
    let target = connection.to(None);
    let server = connection.program("psql", &["-X", "-A", "-t", "-d", &target, "-c", "SHOW server_version"]);
    Ok(Questions {
        version: Some(version.line(source, "version", 0)?),
        server: Some(server.line(source, "server", 0)?),
    })
}

/// Returns the password in a connection.
pub(super) fn password(connection: &str) -> Option<Zeroizing<String>> {
    Connection::parse(connection).ok()?.password
}

/// Asks the server for its databases.
fn list(source: &SourceConfig, connection: &Connection) -> Result<Vec<String>, SourceError> {
    let target = connection.to(None);
    let program = connection.program("psql", &["-X", "-A", "-t", "-0", "-d", &target, "-c", LIST]);
    let (argv, environment, input) = program.start(source);
    let failed = |why: String| SourceError::List { source_name: source.name.clone(), why };
    let (program, arguments) = argv.split_first().ok_or_else(|| failed("there is no program".to_owned()))?;
    let start = |error| SourceError::Start(escape(program.as_encoded_bytes()), error);
    let mut child = Command::new(program)
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (name, value.as_str())))
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    if let (Some(mut pipe), Some(input)) = (child.stdin.take(), &input) {
        // A line, which fits into the pipe; whoever does not read it says why by its end.
        let _ = pipe.write_all(input);
    }
    let output = child.wait_with_output().map_err(start)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next_back().map_or_else(|| output.status.to_string(), str::to_owned);
        return Err(failed(escape(said.as_bytes())));
    }
    if output.stdout.len() > LIST_MAX_BYTES {
        return Err(failed("its list of databases is too long".to_owned()));
    }
    let text = String::from_utf8(output.stdout).map_err(|_| failed("a name is no UTF-8".to_owned()))?;
    let names: Vec<String> = text.split('\0').map(str::to_owned).filter(|name| !name.is_empty()).collect();
    if names.is_empty() { Err(failed("there are none".to_owned())) } else { Ok(names) }
}

impl Connection {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            let mut url = ServerUrl::parse(text)?;
            let mut password = url.password.take();
            url.raw_password = None;
            if let Some(query) = url.query.take() {
                let (secret, rest): (Vec<&str>, Vec<&str>) =
                    query.split('&').partition(|part| part.starts_with("password="));
                if let Some(secret) = secret.last().and_then(|part| part.strip_prefix("password=")) {
                    password = Some(Zeroizing::new(url::decode(secret)?));
                }
                url.query = (!rest.is_empty()).then(|| rest.join("&"));
            }
            return Ok(Self { target: Target::Url(Box::new(url)), password });
        }
        if text.contains('=') {
            let (keywords, password) = take_password(text)?;
            return Ok(Self { target: Target::Keywords(keywords), password });
        }
        Ok(Self { target: Target::Database(text.to_owned()), password: None })
    }

    /// Returns what `-d` takes: the connection, to another database if one is given. Holds no password.
    fn to(&self, database: Option<&str>) -> String {
        match (&self.target, database) {
            (Target::Database(name), None) => format!("dbname={}", quote(name)),
            (Target::Database(_), Some(database)) => format!("dbname={}", quote(database)),
            (Target::Keywords(keywords), None) => keywords.clone(),
            // Of a keyword that comes twice, the second counts.
            (Target::Keywords(keywords), Some(database)) => format!("{keywords} dbname={}", quote(database)),
            (Target::Url(url), database) => {
                let login = url.raw_user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
                let path = database.map_or_else(|| url.path.clone(), url::encode);
                let query = url.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
                format!("{}://{login}{}/{path}{query}", url.scheme, url.hosts)
            }
        }
    }

    /// Prepares a program of PostgreSQL, which is never to ask for a password.
    fn program(&self, name: &str, arguments: &[&str]) -> Program {
        let argv = [name, "-w"].iter().chain(arguments).map(|word| (*word).to_owned()).collect();
        Program { argv, secret: self.password.clone().map(|password| ("PGPASSWORD", password)) }
    }
}

/// Writes a value as libpq reads it.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Takes `password=…` out of a list of keywords and values.
fn take_password(text: &str) -> Result<(String, Option<Zeroizing<String>>), &'static str> {
    let mut rest = text.trim();
    let (mut kept, mut password) = (Vec::new(), None);
    while !rest.is_empty() {
        let (keyword, after) = rest.split_once('=').ok_or("a keyword is not followed by = and a value")?;
        let keyword = keyword.trim();
        let (value, tail) = take_value(after.trim_start())?;
        if keyword == "password" {
            password = Some(Zeroizing::new(value));
        } else {
            kept.push(format!("{keyword}={}", quote(&value)));
        }
        rest = tail.trim_start();
    }
    Ok((kept.join(" "), password))
}

/// Reads a value, in quotes or up to a space; returns what follows it.
fn take_value(text: &str) -> Result<(String, &str), &'static str> {
    let (is_quoted, body) = match text.strip_prefix('\'') {
        Some(body) => (true, body),
        None => (false, text),
    };
    let mut value = String::new();
    let mut letters = body.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            '\'' if is_quoted => return Ok((value, body.get(at + 1..).unwrap_or_default())),
            letter if !is_quoted && letter.is_whitespace() => {
                return Ok((value, body.get(at..).unwrap_or_default()));
            }
            letter => value.push(letter),
        }
    }
    if is_quoted { Err("a quote is not closed") } else { Ok((value, "")) }
}
