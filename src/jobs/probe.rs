//! Asking a worker how a store is: whether it is there, opens and can be written, and what its key is good for.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::config::{Config, StoreConfig};
use super::outside::{self, End, Ended};
use crate::path::escape;

/// How a store is, as the worker prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// There is none, and none that was there before.
    Absent,
    /// It was opened and written to.
    Writable,
    /// It was opened by an ingest-only key, and nothing was written.
    IngestOnly {
        /// Hosts that write to it with the full key, as far as that can be told.
        full_key_hosts: BTreeSet<String>,
    },
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("absent\n"),
            Self::Writable => f.write_str("writable\n"),
            Self::IngestOnly { full_key_hosts } => {
                f.write_str("ingest-only\n")?;
                full_key_hosts.iter().try_for_each(|host| writeln!(f, "{host}"))
            }
        }
    }
}

impl Answer {
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        match lines.next()? {
            "absent" => Some(Self::Absent),
            "writable" => Some(Self::Writable),
            "ingest-only" => Some(Self::IngestOnly { full_key_hosts: lines.map(str::to_owned).collect() }),
            _ => None,
        }
    }
}

/// How workers are started that answer.
pub(super) struct Probe<'a> {
    /// This program.
    pub(super) program: &'a Path,
    /// The configuration that names the store.
    pub(super) config: &'a Config,
    /// Options of every command that are handed on to it.
    pub(super) worker_options: &'a [OsString],
    /// Where it looks for programs that print secrets.
    pub(super) path: &'a OsStr,
    /// How long to wait for the answer.
    pub(super) timeout: Duration,
}

impl Probe<'_> {
    /// Asks how a store is; how the worker ended if it gives no answer.
    pub(super) fn ask(&self, store: &StoreConfig) -> io::Result<Result<Answer, Ended>> {
        let mut command = Command::new(self.program);
        command.arg("--config").arg(&self.config.path).args(["--quiet", "--store", &store.name]);
        command.args(self.worker_options);
        if !self.worker_options.iter().any(|option| option == "--store-timeout") {
            // So that the worker says itself what does not answer.
            command.arg("--store-timeout").arg(format!("{}s", self.timeout.as_secs().max(2) / 2));
        }
        command.args(["config", "probe"]);
        command.env("PATH", self.path).env_remove("YESTER_STORE").env_remove("YESTER_CONFIG");
        let ended = outside::ask(&mut command, None, self.timeout)?;
        let answer = if ended.end == End::Exited(0) { Answer::parse(&ended.output) } else { None };
        Ok(answer.ok_or(ended))
    }
}

/// Returns the hosts that have the full key, as a part of a sentence.
pub(super) fn holders(full_key_hosts: &BTreeSet<String>) -> String {
    if full_key_hosts.is_empty() {
        return "a host that has the full key".to_owned();
    }
    let names: Vec<String> = full_key_hosts.iter().map(|host| escape(host.as_bytes())).collect();
    format!("a host that has the full key, such as {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_they_are_printed() {
        let full_key_hosts = ["db1", "backup"].map(str::to_owned).into();
        for answer in [
            Answer::Absent,
            Answer::Writable,
            Answer::IngestOnly { full_key_hosts },
            Answer::IngestOnly { full_key_hosts: BTreeSet::new() },
        ] {
            assert_eq!(Answer::parse(&answer.to_string()), Some(answer));
        }
        assert_eq!([Answer::parse(""), Answer::parse("something else")], [None, None]);
    }
}
