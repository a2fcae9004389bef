//! Why a schedule cannot be installed or removed.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a schedule cannot be written, installed or removed.
#[derive(Debug, Error)]
pub enum ScheduleError {
    /// No schedule is configured.
    #[error("nothing is ever due: give the configuration a schedule, such as schedule = \"02:30\"")]
    NothingScheduled,
    /// A path that units and crontabs cannot name.
    #[error(
        "{0:?} cannot be named in a unit or a crontab: use an absolute path of UTF-8 without control characters"
    )]
    Path(PathBuf),
    /// A name that is no credential.
    #[error("{0:?} is no name of a credential: use letters, digits, \".\", \"_\" and \"-\"")]
    Credential(String),
    /// cron hands over no secrets.
    #[error("cron hands over no credential {0:?}: name a file instead (file = \"/path\"), or use systemd")]
    CredentialOfCron(String),
    /// Who should get mail is no address.
    #[error("{0:?} is no address for mail from cron: use letters, digits and \"@._+-\"")]
    MailTo(String),
    /// A file that somebody else wrote.
    #[error("{0:?} is not from yester, and stays as it is: move it away first")]
    Foreign(PathBuf),
    /// A folder that belongs to the scheduler is not there.
    #[error("there is no folder {0:?}: choose a scheduler that is installed here, --systemd or --cron")]
    NoFolder(PathBuf),
    /// A file cannot be read, written or removed.
    #[error("cannot {what} {path:?}")]
    File {
        /// What was tried: `read`, `write` or `remove`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program of the system failed.
    #[error("{command} failed; the files are written, and the command may be given again")]
    Command {
        /// With its arguments.
        command: String,
        /// Why.
        source: io::Error,
    },
}
