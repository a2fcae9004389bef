//! `yester config`: what is wrong with the configuration, and with what it names.

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use super::context::Context;
use super::exit::{CommandError, ErrorKind};
use super::present::{Present, Tested};
use super::run::search_path;
use super::{output, record};
use crate::jobs::check::{CheckOptions, Finding, State, check};
use crate::jobs::config::{Config, ConfigError, Problem};
use crate::jobs::probe::Answer;
use crate::repo::RepoError;
use crate::repo::open::absent;
use crate::store::probe;

/// How long to wait for the answer of a store or a server.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Check the configuration
#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say what is wrong with the configuration and with what it names, and what to do
    #[command(after_help = "\
First the file: everything that is wrong with it, with line and key. Then what it names, all at
once and each for a while: whether every store is there, opens and can be written, and has room;
whether the server of every source answers; programs, paths, hooks, rights of files, secrets, the
clock, and when everything is due. A store that is still to be made is no problem. Nothing is
backed up, and nobody is told anything without --send-test-alert.

Exit code 1 if a run would fail, 2 if the file is wrong.

Examples:
  yester config check
  yester --config new.toml config check --json
  yester config check --send-test-alert")]
    Check {
        /// Send a test message by every alert as well
        #[arg(long)]
        send_test_alert: bool,
    },
    /// Open the store and write to it what is deleted again, and print how it is: a worker of other commands
    #[command(hide = true)]
    Probe,
}

/// Checks the configuration, or a store for it.
pub(super) fn run(context: &Context, args: &ConfigArgs) -> Result<(), CommandError> {
    match args.what {
        What::Check { send_test_alert } => {
            check_all(context, if send_test_alert { Alerts::Tested } else { Alerts::Looked })
        }
        What::Probe => probe_store(context),
    }
}

/// What is done about alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alerts {
    /// What they need is looked at.
    Looked,
    /// A test message is sent by each.
    Tested,
}

fn check_all(context: &Context, alerts: Alerts) -> Result<(), CommandError> {
    if let Err(ConfigError::Wrong { problems, .. }) = Config::read(context.config_path()) {
        return Err(tell_mistakes(context, &problems)?);
    }
    let mut config = context.configuration()?.clone();
    config.path = std::path::absolute(&config.path)
        .map_err(|source| CommandError::io("cannot tell where the configuration is", source))?;
    let mut findings = check(&Arc::new(config), &options(context)?);
    if alerts == Alerts::Tested {
        findings.extend(send_tests(context)?);
    }
    if context.json() {
        output::print_json(&document(context, &[], &findings))?;
    } else {
        output::print(&text(&findings))?;
    }
    let problems = findings.iter().filter(|finding| finding.state == State::Problem).count();
    match problems {
        0 => Ok(()),
        1 => Err(CommandError::message(ErrorKind::Failed, "there is a problem; it is named above")),
        _ => Err(CommandError::message(
            ErrorKind::Failed,
            format!("there are {problems} problems; they are named above"),
        )),
    }
}

fn options(context: &Context) -> Result<CheckOptions, CommandError> {
    // What cannot be read is told by the run that needs it, not by the clock.
    let journal = record::open_journal(context).ok();
    let newest = journal.and_then(|journal| journal.recent(1).ok()).and_then(|runs| runs.into_iter().next());
    Ok(CheckOptions {
        now: Timestamp::now(),
        newest_run: newest.map(|run| run.started),
        zone: TimeZone::try_system().unwrap_or(TimeZone::UTC),
        path: search_path(std::env::var_os("PATH")),
        environment: Arc::new(|name| std::env::var_os(name)),
        program: std::env::current_exe()
            .map_err(|source| CommandError::io("cannot find this program's own file", source))?,
        root: "/".into(),
        worker_options: context.options_of_workers(),
        timeout: TIMEOUT,
    })
}

/// Sends a test message by every alert.
fn send_tests(context: &Context) -> Result<Vec<Finding>, CommandError> {
    let journal = record::open_journal(context)?;
    let tested = Present::new(context, &journal)?.test_alerts()?;
    let finding = |(name, outcome): Tested| {
        let (state, message) = match outcome {
            Ok(()) => (State::Ok, "a test message was sent".to_owned()),
            Err(why) => (State::Problem, format!("a test message did not arrive: {why}")),
        };
        Finding { state, subject: format!("alert {name}"), message, advice: Vec::new() }
    };
    Ok(tested.into_iter().map(finding).collect())
}

/// Prints what is wrong with the file; returns how the command ends.
fn tell_mistakes(context: &Context, problems: &[Problem]) -> Result<CommandError, CommandError> {
    if context.json() {
        output::print_json(&document(context, problems, &[]))?;
    }
    let file = context.config_path().display();
    problems.iter().for_each(|problem| output::tell(&format!("{file}:{problem}")));
    Ok(CommandError::silent(ErrorKind::Usage.code()))
}

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { state, subject, message, advice } in findings {
        text.push_str(&format!("{:<8} {subject}: {message}\n", state.word()));
        advice.iter().for_each(|advice| text.push_str(&format!("           {advice}\n")));
    }
    text
}

fn document(context: &Context, problems: &[Problem], findings: &[Finding]) -> serde_json::Value {
    let problem =
        |problem: &Problem| json!({ "line": problem.line, "key": problem.key, "message": problem.message });
    let finding = |finding: &Finding| {
        json!({
            "state": finding.state.word(),
            "subject": finding.subject,
            "message": finding.message,
            "advice": finding.advice,
        })
    };
    json!({
        "file": context.config_path().display().to_string(),
        "problems": problems.iter().map(problem).collect::<Vec<_>>(),
        "checks": findings.iter().map(finding).collect::<Vec<_>>(),
    })
}

/// Opens the store, and tries whether it can be written.
fn probe_store(context: &Context) -> Result<(), CommandError> {
    let repo = match context.open_as_writer(None) {
        Ok(repo) => repo,
        Err(error) if error.kind() == ErrorKind::NoStore => {
            let place = context.location()?.to_string();
            // Where one was seen before, something is wrong.
            return match absent(&context.folders().state, &place)? {
                RepoError::NotMounted { .. } => Err(error),
                _ => output::print(&Answer::Absent.to_string()),
            };
        }
        Err(error) => return Err(error),
    };
    if repo.require_full().is_err() {
        // Such a host may create nothing but what its backups need.
        let full_key_hosts = repo.full_key_hosts();
        return output::print(&Answer::IngestOnly { full_key_hosts }.to_string());
    }
    if !probe::current_listing(repo.store())? {
        return Err(CommandError::message(
            ErrorKind::Failed,
            "the store does not list what was just written",
        )
        .hint("is there a cache or a replica in front of it? garbage must not be collected there"));
    }
    output::print(&Answer::Writable.to_string())
}
