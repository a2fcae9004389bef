//! Whether a source can be read: its programs, its server, its paths and its hooks.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{CheckOptions, Finding};
use crate::human;
use crate::jobs::config::{Paths, SourceConfig, SourceKind};
use crate::jobs::outside::{self, End};
use crate::jobs::sources;
use crate::ops::ingest::CommandLine;
use crate::path::escape;
use crate::progress::error_chain;

/// Lines that are shown of what a program said.
const SAID_LINES: usize = 3;

/// Checks a source, without backing it up.
pub(super) fn check(subject: &str, source: &SourceConfig, options: &CheckOptions) -> Vec<Finding> {
    let mut findings = match &source.kind {
        SourceKind::Paths(paths) => readable(subject, paths),
        SourceKind::Command { argv, .. } => program(subject, argv, options).into_iter().collect(),
        _ => server(subject, source, options),
    };
    let hooks = [("before", &source.before), ("after", &source.after), ("on-failure", &source.on_failure)];
    for (name, argv) in hooks {
        let missing = argv.as_ref().and_then(|argv| program(subject, argv, options));
        findings
            .extend(missing.map(|found| Finding { message: format!("{name}: {}", found.message), ..found }));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(subject, what_is_there(source)));
    }
    findings.push(next(subject, source, options));
    findings
}

fn what_is_there(source: &SourceConfig) -> String {
    match &source.kind {
        SourceKind::Postgres(_) => "its server answers, and pg_dump is not older".to_owned(),
        SourceKind::Redis(_) | SourceKind::Mongodb { .. } => "its server answers".to_owned(),
        SourceKind::Paths(_) => "its paths are there".to_owned(),
        SourceKind::Command { .. } => "its command is there".to_owned(),
    }
}

/// Tells when it is backed up next.
fn next(subject: &str, source: &SourceConfig, options: &CheckOptions) -> Finding {
    let Some(schedule) = &source.schedule else {
        return Finding::warning(subject, "it has no schedule, so that only `yester run NAME` backs it up")
            .advise("add schedule = \"daily\", here or for all");
    };
    match schedule.next_after(options.now, &options.zone) {
        Some(time) => {
            let local = time.to_zoned(options.zone.clone());
            Finding::ok(subject, format!("is due next at {}", local.strftime("%Y-%m-%d %H:%M:%S %Z")))
        }
        None => Finding::warning(subject, "its schedule is over: it is never due again"),
    }
}

fn readable(subject: &str, paths: &Paths) -> Vec<Finding> {
    let unreadable = |path: &PathBuf| {
        let tried = match fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() => fs::read_dir(path).map(drop),
            Ok(found) if found.is_file() => fs::File::open(path).map(drop),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        let error = tried.err()?;
        let finding = Finding::problem(subject, format!("cannot read {}: {error}", path.display()));
        Some(finding.advise("correct paths, mount what belongs there, or run as a user who may read it"))
    };
    paths.paths.iter().filter_map(unreadable).collect()
}

/// Says that a program is not there.
pub(super) fn program(subject: &str, argv: &[String], options: &CheckOptions) -> Option<Finding> {
    let name = argv.first()?;
    if find(name, &options.path).is_some() {
        return None;
    }
    let message = if name.contains('/') {
        format!("{name} is no program that can be executed")
    } else {
        format!("there is no program {name} in {}", options.path.display())
    };
    Some(Finding::problem(subject, message).advise("install it, or give its path"))
}

/// Finds a program as the system does.
fn find(name: &str, path: &OsStr) -> Option<PathBuf> {
    let is_program = |path: &Path| {
        fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| is_program(path));
    }
    std::env::split_paths(path).map(|folder| folder.join(name)).find(|path| is_program(path))
}

/// Asks the program that dumps, and the server.
fn server(subject: &str, source: &SourceConfig, options: &CheckOptions) -> Vec<Finding> {
    let questions = match sources::questions(source) {
        Ok(questions) => questions,
        Err(error) => return vec![Finding::problem(subject, error_chain(&error))],
    };
    let line = questions.version.as_ref().or(questions.server.as_ref());
    let first = line.and_then(|line| line.argv.first()).and_then(|word| word.to_str()).unwrap_or_default();
    if let Some(finding) = program(subject, &[first.to_owned()], options) {
        return vec![finding];
    }
    let ask = |line: Option<CommandLine>| line.map(|line| ask(source, &line, options)).transpose();
    let answers = ask(questions.version).and_then(|version| Ok((version, ask(questions.server)?)));
    let (version, server) = match answers {
        Ok(answers) => answers,
        Err(why) => return vec![Finding::problem(subject, why).advise(advice(source))],
    };
    match (&source.kind, version, server) {
        (SourceKind::Postgres(_), Some(version), Some(server)) => {
            older(subject, &version, &server).into_iter().collect()
        }
        (SourceKind::Redis(_), _, Some(answer)) if answer.trim() != "PONG" => {
            let answer = escape(answer.trim().as_bytes());
            vec![Finding::problem(subject, format!("its server answers {answer:?}")).advise(advice(source))]
        }
        _ => Vec::new(),
    }
}

fn advice(source: &SourceConfig) -> &'static str {
    match (&source.kind, source.exec.is_empty()) {
        (_, false) => "does exec name a container or a host that runs, and has it this program?",
        (SourceKind::Postgres(_), _) => "is the server up, and may this user log in? try: psql -w -d …",
        (SourceKind::Redis(_), _) => "is the server up, and is the password right? try: redis-cli -h … PING",
        _ => "is the server up, and may this user log in? are MongoDB's database tools installed?",
    }
}

/// Runs a question; returns what was printed, or why there is no answer.
fn ask(source: &SourceConfig, line: &CommandLine, options: &CheckOptions) -> Result<String, String> {
    let (program, arguments) = line.argv.split_first().ok_or("there is no program")?;
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", &options.path);
    command.envs(line.environment.iter().map(|(name, value)| (name, value.as_str())));
    let input = line.input.as_ref().map(|input| input.as_slice());
    let ended = outside::ask(&mut command, input, options.timeout)
        .map_err(|error| format!("cannot start {}: {error}", escape(program.as_encoded_bytes())))?;
    let name = escape(program.as_encoded_bytes());
    let secrets = sources::passwords(source);
    let hide = |text: &str| {
        secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
    };
    match ended.end {
        End::Exited(0) => Ok(hide(&ended.output)),
        End::TimedOut => Err(format!("{name} did not answer within {}", human::duration(options.timeout))),
        end => {
            let log = hide(&ended.log());
            let said: Vec<String> = log
                .lines()
                .map(|line| escape(line.trim().as_bytes()))
                .filter(|line| !line.is_empty())
                .take(SAID_LINES)
                .collect();
            Err(if said.is_empty() { format!("{name} failed: {end}") } else { said.join("; ") })
        }
    }
}

/// Says that pg_dump would refuse its server.
fn older(subject: &str, version: &str, server: &str) -> Option<Finding> {
    let (ours, theirs) = (release(version)?, release(server)?);
    (ours < theirs).then(|| {
        Finding::problem(
            subject,
            format!("pg_dump is of release {ours}, its server of {theirs}, which it refuses"),
        )
        .advise(format!("install postgresql-client-{theirs}, or run the server's own pg_dump by exec"))
    })
}

/// Returns the first number of a text that says which release something is: `pg_dump (PostgreSQL) 15.8 (Debian …)`.
fn release(text: &str) -> Option<u32> {
    let word =
        text.split_whitespace().find(|word| word.starts_with(|letter: char| letter.is_ascii_digit()))?;
    let digits = word.split(|letter: char| !letter.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared() {
        assert_eq!(release("pg_dump (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)\n"), Some(15));
        assert_eq!(release("17devel"), Some(17));
        assert_eq!(release("none"), None);
        assert_eq!(older("x", "pg_dump (PostgreSQL) 16.1", "15.8"), None);
        let finding = older("x", "pg_dump (PostgreSQL) 9.6", "15.8").unwrap();
        assert!(finding.advice[0].contains("postgresql-client-15"), "{finding:?}");
    }

    #[test]
    fn programs_are_found_as_the_system_does() {
        assert_eq!(find("sh", OsStr::new("/nonexistent:/bin")), Some("/bin/sh".into()));
        assert_eq!(find("/bin/sh", OsStr::new("")), Some("/bin/sh".into()));
        for absent in ["no-such-program", "/etc/passwd", "/bin"] {
            assert_eq!(find(absent, OsStr::new("/bin")), None, "{absent}");
        }
    }
}
