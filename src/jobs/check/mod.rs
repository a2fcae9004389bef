//! What `yester config check` tries: whether a run would find what it needs, and what to do where it would not.
//!
//! Nothing is backed up, and what is written to try whether it can be is deleted where this host may delete. Everything
//! is tried at once and each thing for a while, so that one dead host does not hide what is wrong elsewhere.

mod files;
mod source;
mod store;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::config::Config;
use crate::human;

/// How grave something is that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// As it should be.
    Ok,
    /// A run does its work, but somebody should look.
    Warning,
    /// A run would fail.
    Problem,
}

impl State {
    /// Returns the word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How grave it is.
    pub state: State,
    /// What it is about, such as `store local`.
    pub subject: String,
    /// What it is; holds no secret.
    pub message: String,
    /// What to do about it, one thing each.
    pub advice: Vec<String>,
}

impl Finding {
    fn new(state: State, subject: &str, message: impl Into<String>) -> Self {
        Self { state, subject: subject.to_owned(), message: message.into(), advice: Vec::new() }
    }

    fn ok(subject: &str, message: impl Into<String>) -> Self {
        Self::new(State::Ok, subject, message)
    }

    fn warning(subject: &str, message: impl Into<String>) -> Self {
        Self::new(State::Warning, subject, message)
    }

    fn problem(subject: &str, message: impl Into<String>) -> Self {
        Self::new(State::Problem, subject, message)
    }

    fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice.push(advice.into());
        self
    }
}

/// Looks up a variable of the environment.
pub type Environment = Arc<dyn Fn(&str) -> Option<OsString> + Send + Sync>;

/// What a check has to know of its surroundings.
#[derive(Clone)]
pub struct CheckOptions {
    /// What time it is.
    pub now: Timestamp,
    /// When the newest run of the journal began.
    pub newest_run: Option<Timestamp>,
    /// Whose time is shown.
    pub zone: TimeZone,
    /// Where runs look for programs.
    pub path: OsString,
    /// Where secrets may be.
    pub environment: Environment,
    /// This program, which is run to open stores.
    pub program: PathBuf,
    /// The root folder of the host.
    pub root: PathBuf,
    /// Options of every command that are handed on to it.
    pub worker_options: Vec<OsString>,
    /// How long to wait for an answer.
    pub timeout: Duration,
}

/// Returns what is wrong with who may read and write the configuration; nothing if all is well.
#[must_use]
pub fn exposure(config: &Config) -> Option<Finding> {
    files::configuration(config).into_iter().find(|finding| finding.state == State::Problem)
}

type Task = Box<dyn FnOnce(&Config, &CheckOptions) -> Vec<Finding> + Send>;

/// Tries everything that a configuration names. What was found is in the order of the file.
#[must_use]
pub fn check(config: &Arc<Config>, options: &CheckOptions) -> Vec<Finding> {
    let tasks = tasks(config);
    let subjects: Vec<String> = tasks.iter().map(|(subject, _)| subject.clone()).collect();
    let (sender, receiver) = unbounded();
    for (number, (_, task)) in tasks.into_iter().enumerate() {
        let (sender, config, options) = (sender.clone(), Arc::clone(config), options.clone());
        // Not in a scope: what hangs in a dead network file system stays behind. Without a thread nobody answers.
        let _ = std::thread::Builder::new().name("check".to_owned()).spawn(move || {
            // Who waited long enough has gone.
            let _ = sender.send((number, task(&config, &options)));
        });
    }
    drop(sender);
    let mut answers: Vec<Option<Vec<Finding>>> = vec![None; subjects.len()];
    // A source is asked two things.
    let deadline = Instant::now() + options.timeout * 3;
    while let Ok((number, findings)) = receiver.recv_deadline(deadline) {
        if let Some(answer) = answers.get_mut(number) {
            *answer = Some(findings);
        }
    }
    let silent = |subject: &str| {
        let waited = human::duration(options.timeout * 3);
        vec![
            Finding::problem(subject, format!("nothing answered within {waited}"))
                .advise("is a file system or a server there that does not answer?"),
        ]
    };
    let each = subjects.iter().zip(answers);
    each.flat_map(|(subject, answer)| answer.unwrap_or_else(|| silent(subject))).collect()
}

fn tasks(config: &Config) -> Vec<(String, Task)> {
    let mut tasks: Vec<(String, Task)> = vec![
        ("configuration".to_owned(), Box::new(|config, _| files::configuration(config))),
        ("clock".to_owned(), Box::new(files::clock)),
    ];
    for store in &config.stores {
        let (subject, store) = (format!("store {}", store.name), store.clone());
        let found = subject.clone();
        tasks.push((subject, Box::new(move |config, options| store::check(&found, &store, config, options))));
    }
    for source in &config.sources {
        let (subject, source) = (format!("source {}", source.name), source.clone());
        let found = subject.clone();
        tasks.push((subject, Box::new(move |_, options| source::check(&found, &source, options))));
    }
    for alert in &config.alerts {
        let (subject, alert) = (format!("alert {}", alert.name), alert.clone());
        let found = subject.clone();
        tasks.push((subject, Box::new(move |_, options| vec![files::alert(&found, &alert, options)])));
    }
    tasks.push(("schedule".to_owned(), Box::new(|_, options| vec![files::schedule(&options.root)])));
    if config.metrics.is_some() {
        tasks.push(("metrics".to_owned(), Box::new(|config, _| files::metrics(config))));
    }
    tasks
}
