//! `yester export`: writes a snapshot, or paths of it, to standard output as a tar archive.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use clap::Args;

use super::context::Context;
use super::exit::{CommandError, ErrorKind};
use super::output;
use super::patterns::exclude_patterns;
use crate::human;
use crate::ops::export::{ExportError, ExportOptions, ExportStats, export};
use crate::path::TreePath;
use crate::repo::readers::Hold;

/// Write a snapshot, or paths of it, to standard output as a tar archive
#[derive(Debug, Args)]
#[command(after_help = "\
The archive is in POSIX's pax format. GNU tar and bsdtar restore all of it as root, hard links,
holes, ACLs and extended attributes too; sockets are named and left out. Paths are relative
(etc/hosts); a PATH comes with the directories above it.

Bytes that are damaged in the store are zeros in the archive. The file is named, with where they
are, and the exit code is 13: never use such a file as it is. `yester restore` names what it can
read of such a file NAME.partial.

Examples:
  yester export latest:system > /media/usb/system.tar
  yester export latest:system /etc --exclude '*.bak' | ssh new-host \\
    \"tar -C /mnt -xp --acls --xattrs --xattrs-include='*'\"")]
pub(super) struct ExportArgs {
    /// The snapshot: the beginning of its id, latest:SOURCE, latest, or a time
    #[arg(value_name = "SNAP")]
    snapshot: String,
    /// What to export [default: everything]
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
    /// Leave out what matches, in the syntax of .gitignore; may be repeated
    #[arg(long = "exclude", value_name = "PATTERN")]
    excludes: Vec<OsString>,
}

/// Writes the archive.
pub(super) fn run(context: &Context, args: &ExportArgs) -> Result<(), CommandError> {
    let options = options(args)?;
    if context.json() {
        return Err(CommandError::usage(
            "standard output takes the archive, which leaves no place for --json",
        )
        .hint("leave out --json"));
    }
    let stdout = io::stdout();
    if stdout.is_terminal() {
        return Err(CommandError::usage("standard output is a terminal, which cannot take an archive")
            .hint("write it to a file or a pipe: yester export SNAP > FILE.tar"));
    }
    // The standard handle would look for line ends and copy what comes behind the last one.
    let file = stdout.as_fd().try_clone_to_owned().map(File::from);
    let mut out = file.map_err(|source| CommandError::io("cannot write to standard output", source))?;
    let repo = context.open()?;
    let snapshot = repo.find_snapshot(&args.snapshot)?;
    repo.hold(snapshot.manifest.id, Hold::WhileAlive);
    let reporter = context.reporter();
    let exported = export(&repo, &snapshot, &options, &mut out, &reporter);
    reporter.finish();
    let stats = exported?;
    report(context, &stats);
    if stats.failed == 0 {
        return Ok(());
    }
    let hint = (left_unnamed(&stats) == 0).then_some("what is not named above is whole");
    Err(CommandError::message(
        ErrorKind::Damaged,
        format!(
            "{} in the archive are not as they were backed up, because the store is damaged",
            human::counted(stats.failed, "path")
        ),
    )
    .hints(hint)
    .hint("another snapshot may hold these files whole; `yester verify` tells what else is damaged"))
}

fn options(args: &ExportArgs) -> Result<ExportOptions, CommandError> {
    Ok(ExportOptions {
        paths: args.paths.iter().map(|path| TreePath::parse(path.as_bytes())).collect::<Result<_, _>>()?,
        excludes: exclude_patterns(&args.excludes)?,
    })
}

/// Returns how many failures are counted only.
fn left_unnamed(stats: &ExportStats) -> u64 {
    stats.failed.saturating_sub(u64::try_from(stats.failures.len()).unwrap_or(u64::MAX))
}

fn report(context: &Context, stats: &ExportStats) {
    for failure in &stats.failures {
        output::tell(&format!("damaged: {}: {}", failure.path, failure.reason));
    }
    let unnamed = left_unnamed(stats);
    if unnamed > 0 {
        output::tell(&format!("damaged: and {} more", human::counted(unnamed, "path")));
    }
    for path in &stats.sockets {
        context.tell(&format!("left out: {path}: an archive cannot hold a socket"));
    }
    let named = u64::try_from(stats.sockets.len()).unwrap_or(u64::MAX);
    if stats.sockets_left_out > named {
        context.tell(&format!("left out: {} more", human::counted(stats.sockets_left_out - named, "socket")));
    }
    context.tell(&format!(
        "exported {} ({}) as an archive of {} in {}, {}",
        human::counted(stats.files, "file"),
        human::bytes(stats.bytes),
        human::bytes(stats.archive_bytes),
        human::duration(stats.elapsed),
        human::rate(stats.archive_bytes, stats.elapsed)
    ));
}

impl From<ExportError> for CommandError {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Repo(error) => Self::from(error),
            ExportError::List(error) => Self::from(error),
            ExportError::Output { .. } => {
                Self::new(ErrorKind::Failed, error).hint("what was written is not a whole archive")
            }
            ExportError::Thread { .. } => Self::new(ErrorKind::Failed, error),
        }
    }
}
