//! What starts `yester run` when something is due: timers of systemd, or a file of cron.
//!
//! Owns their texts, and which files they are; [`install`] puts them where they belong. What is due when is left to
//! `yester run`, which may be started at any time, and twice: so a timer needs to come at least when something is due.
//! Beside it, `yester status --alert` is started every 15 minutes. It notices runs that do not come at all.

mod configured;
mod cron;
mod error;
mod install;
mod systemd;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use jiff::SignedDuration;

use crate::jobs::calendar::Schedule;
use crate::jobs::secret::Credential;

pub use error::ScheduleError;
pub use install::{Changes, Programs, Runner, install, is_installed, remove};

/// The first line of every file. What does not begin with it is never overwritten or removed.
const MARK: &str = "# Written by `yester schedule install`, taken away by `yester schedule remove`.\n";
/// The folders of the files, below the root.
const SYSTEMD_FOLDER: &str = "etc/systemd/system";
const CRON_FOLDER: &str = "etc/cron.d";
/// Where systemd says that it runs, below the root.
const SYSTEMD_RUNS: &str = "run/systemd/system";

/// What starts programs at certain times on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduler {
    /// Timers of systemd.
    Systemd,
    /// cron, by a file in `/etc/cron.d`.
    Cron,
}

impl Scheduler {
    /// Returns that of the host whose root folder this is: systemd where it runs, else cron.
    #[must_use]
    pub fn of_host(root: &Path) -> Self {
        if root.join(SYSTEMD_RUNS).is_dir() { Self::Systemd } else { Self::Cron }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Systemd => SYSTEMD_FOLDER,
            Self::Cron => CRON_FOLDER,
        }
    }

    /// Returns the names of its files, those that go before others first.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Systemd => &systemd::NAMES,
            Self::Cron => &[cron::NAME],
        }
    }
}

/// What the files say. Paths are absolute.
#[derive(Debug, Clone)]
pub struct ScheduleOptions {
    /// The program to start.
    pub program: PathBuf,
    /// Its configuration file.
    pub config: PathBuf,
    /// When something is due. Not empty.
    pub schedules: Vec<Schedule>,
    /// Folders that runs write to, beside cache and state: stores, the folder of the metrics. Of one that does not
    /// exist yet, the folder that it will be made in.
    pub writable: Vec<PathBuf>,
    /// Of these, those that `yester status` writes to.
    pub status_writable: Vec<PathBuf>,
    /// Secrets that systemd hands over.
    pub credentials: Vec<Credential>,
    /// A run begins at most so much later, so that hosts with the same schedule do not begin at once.
    pub random_delay: SignedDuration,
    /// Whether to leave processor and disk to others.
    pub low_priority: bool,
    /// Whether the configuration has commands of its own: sources, hooks, alerts, passwords.
    pub runs_commands: bool,
    /// Whether a source, a store or a server's socket lies in `/tmp` or `/var/tmp`, or a source contains them: a
    /// service that has a `/tmp` of its own would back up that one.
    pub uses_tmp: bool,
    /// Who gets mail from cron.
    pub mail_to: String,
}

/// One file as it belongs below the root folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleFile {
    /// Where it belongs: an absolute path.
    pub path: PathBuf,
    /// Its whole content.
    pub text: String,
}

/// Returns the files of a scheduler, which [`install`] would write.
///
/// # Errors
/// Fails if nothing is due ever, and for paths, names and addresses that cannot be written in such files.
pub fn files(scheduler: Scheduler, options: &ScheduleOptions) -> Result<Vec<ScheduleFile>, ScheduleError> {
    if options.schedules.is_empty() {
        return Err(ScheduleError::NothingScheduled);
    }
    let texts = match scheduler {
        Scheduler::Systemd => systemd::texts(options)?.to_vec(),
        Scheduler::Cron => vec![cron::text(options)?],
    };
    let folder = Path::new("/").join(scheduler.folder());
    let with_name = scheduler.names().iter().zip(texts);
    Ok(with_name
        .map(|(name, text)| ScheduleFile { path: folder.join(name), text: MARK.to_owned() + &text })
        .collect())
}

/// Returns a path as text, if it is one that lines of a file can hold.
fn absolute(path: &Path) -> Result<&str, ScheduleError> {
    let text = path.to_str().filter(|text| text.starts_with('/') && !text.contains(char::is_control));
    text.ok_or_else(|| ScheduleError::Path(path.to_owned()))
}
