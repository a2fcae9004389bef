//! Puts the files of a schedule where they belong, and takes them away again.
//!
//! All files are looked at before any is touched, and each is written whole or not at all. There is one schedule on a
//! host: installing that of one scheduler takes the other's away, so that nothing runs twice.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{MARK, SYSTEMD_RUNS, ScheduleError, ScheduleFile, ScheduleOptions, Scheduler, files, systemd};

/// Programs of cron, below the root.
const CRONS: [&str; 4] = ["usr/sbin/cron", "usr/sbin/crond", "usr/bin/crond", "usr/sbin/fcron"];

/// Runs programs of the system.
pub trait Runner {
    /// Runs a program to its end.
    ///
    /// # Errors
    /// Fails with what the program said if it cannot be run, or exits with another code than 0.
    fn run(&mut self, program: &str, arguments: &[&str]) -> io::Result<()>;
}

/// Runs the programs of this host.
#[derive(Debug, Clone, Copy)]
pub struct Programs;

impl Runner for Programs {
    fn run(&mut self, program: &str, arguments: &[&str]) -> io::Result<()> {
        let output = Command::new(program).args(arguments).stdin(Stdio::null()).output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        // Of several lines the last says why.
        let said = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        Err(io::Error::other(format!("{} ({})", said.trim(), output.status)))
    }
}

/// What was done to the files and the scheduler of a host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Files that are new or have changed.
    pub written: Vec<PathBuf>,
    /// Files that were so already.
    pub unchanged: Vec<PathBuf>,
    /// Files that were taken away.
    pub removed: Vec<PathBuf>,
    /// Whether the scheduler is at work with them now: cron is wherever it is installed, systemd is told where it runs.
    pub active: bool,
}

/// Writes the files of a scheduler below `root` and tells systemd, if it runs there.
///
/// May be done again at any time. After an error the files that were written stay, and it can be done again.
///
/// # Errors
/// Fails if the files cannot be made (see [`files`]), if one of them is somebody else's, and if they cannot be written
/// or systemd be told.
pub fn install(
    scheduler: Scheduler,
    options: &ScheduleOptions,
    root: &Path,
    runner: &mut dyn Runner,
) -> Result<Changes, ScheduleError> {
    let files = files(scheduler, options)?;
    let folder = root.join(scheduler.folder());
    if !folder.is_dir() {
        return Err(ScheduleError::NoFolder(folder));
    }
    let existing = ours(scheduler, root)?;
    let other = match scheduler {
        Scheduler::Systemd => Scheduler::Cron,
        Scheduler::Cron => Scheduler::Systemd,
    };
    let active = match scheduler {
        Scheduler::Cron => CRONS.iter().any(|program| root.join(program).exists()),
        Scheduler::Systemd => is_running(root),
    };
    let mut changes = Changes { active, ..Changes::default() };
    let of_other = ours(other, root)?;
    // On this host, what starts runs is not taken away for what cannot.
    if changes.active || root != Path::new("/") {
        take_away(other, &of_other, root, runner, &mut changes)?;
    }
    for ScheduleFile { path, text } in files {
        let path = below(root, &path);
        if existing.iter().any(|(name, content)| *name == path && *content == text) {
            changes.unchanged.push(path);
        } else {
            write(&path, &text).map_err(|source| failure("write", &path, source))?;
            changes.written.push(path);
        }
    }
    if scheduler == Scheduler::Systemd && changes.active {
        systemctl(runner, &["daemon-reload"])?;
        systemctl(runner, &[&["enable", "--now"], &systemd::TIMERS[..]].concat())?;
    }
    Ok(changes)
}

/// Takes away what [`install`] wrote, whichever scheduler it was for, and tells systemd, if it runs there.
///
/// # Errors
/// Fails if one of the files is somebody else's, in which case none is taken away, and if they cannot be removed or
/// systemd be told.
pub fn remove(root: &Path, runner: &mut dyn Runner) -> Result<Changes, ScheduleError> {
    let (units, crontab) = (ours(Scheduler::Systemd, root)?, ours(Scheduler::Cron, root)?);
    let mut changes = Changes::default();
    take_away(Scheduler::Systemd, &units, root, runner, &mut changes)?;
    take_away(Scheduler::Cron, &crontab, root, runner, &mut changes)?;
    Ok(changes)
}

/// Tells whether [`install`] has written files here, for whichever scheduler.
#[must_use]
pub fn is_installed(root: &Path) -> bool {
    let found = |scheduler| ours(scheduler, root).is_ok_and(|files| !files.is_empty());
    found(Scheduler::Systemd) || found(Scheduler::Cron)
}

/// Returns the files of a scheduler that are there, with their content.
fn ours(scheduler: Scheduler, root: &Path) -> Result<Vec<(PathBuf, String)>, ScheduleError> {
    let mut found = Vec::new();
    for name in scheduler.names() {
        let path = root.join(scheduler.folder()).join(name);
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(failure("read", &path, source)),
        };
        // A link is how units are masked, or brought from elsewhere.
        let content = if metadata.is_file() { fs::read(&path) } else { Ok(Vec::new()) };
        let content = content.map_err(|source| failure("read", &path, source))?;
        match String::from_utf8(content) {
            Ok(text) if text.starts_with(MARK) => found.push((path, text)),
            _ => return Err(ScheduleError::Foreign(path)),
        }
    }
    Ok(found)
}

fn take_away(
    scheduler: Scheduler,
    files: &[(PathBuf, String)],
    root: &Path,
    runner: &mut dyn Runner,
    changes: &mut Changes,
) -> Result<(), ScheduleError> {
    if files.is_empty() {
        return Ok(());
    }
    let tells_systemd = scheduler == Scheduler::Systemd && is_running(root);
    if tells_systemd {
        // Of an installation that was cut off some may be missing, and systemd knows nothing of those.
        let is_there = |timer: &&str| files.iter().any(|(path, _)| path.ends_with(timer));
        let timers: Vec<&str> = systemd::TIMERS.into_iter().filter(is_there).collect();
        if !timers.is_empty() {
            systemctl(runner, &[&["disable", "--now"], &timers[..]].concat())?;
        }
    }
    // Timers go before the services that they start: the other way round than they came.
    for (path, _) in files.iter().rev() {
        fs::remove_file(path).map_err(|source| failure("remove", path, source))?;
        changes.removed.push(path.clone());
    }
    if tells_systemd {
        systemctl(runner, &["daemon-reload"])?;
    }
    Ok(())
}

fn is_running(root: &Path) -> bool {
    root.join(SYSTEMD_RUNS).is_dir()
}

fn systemctl(runner: &mut dyn Runner, arguments: &[&str]) -> Result<(), ScheduleError> {
    let command = || format!("systemctl {}", arguments.join(" "));
    runner.run("systemctl", arguments).map_err(|source| ScheduleError::Command { command: command(), source })
}

/// Writes a file that all can read, whole or not at all.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    // Neither cron nor systemd looks at names with a dot in front.
    let mut file = tempfile::Builder::new().prefix(".yester-").tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}

/// Returns where an absolute path lies below a root folder.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn failure(what: &'static str, path: &Path, source: io::Error) -> ScheduleError {
    ScheduleError::File { what, path: path.to_owned(), source }
}
