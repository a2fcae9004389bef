//! `yester restore`: brings a snapshot, or paths of it, back. What is told of it is `report`'s.

mod report;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::context::Context;
use super::exit::{CommandError, ErrorKind};
use super::patterns::exclude_patterns;
use super::process;
use crate::ops::restore::{Overwrite, Ownership, RestoreError, RestoreOptions, Verification, plan, restore};
use crate::path::TreePath;
use crate::repo::readers::Hold;
use report::PlanLines;

/// Bring a snapshot, or paths of it, back
#[derive(Debug, Args)]
#[command(after_help = "\
What is damaged, refused or kept is named, and the rest is restored: exit code 13 for damage, 3
for the others. What could be read of a damaged file becomes NAME.partial, and NAME.partial.gaps
says what is missing of it. Nothing is ever written outside the target, and what is restored is
on the disk when the command ends. If it is interrupted, run it again with --overwrite
if-changed. If it was killed, or the power failed, .yester-*.new files may be left, which can be
removed.

Owners go by name if root restores, so that files follow a user whose number is another one here.
A whole system that is restored from a rescue disk wants --ownership by-number.

Examples:
  yester restore latest:system --to /mnt/disk --ownership by-number
  yester restore 3fa92c11 /etc/ssh --to / --overwrite if-changed --dry-run -v
  yester restore latest:system /srv/www --to /tmp/www --strip-components 2 --exclude '*.log'")]
pub(super) struct RestoreArgs {
    /// The snapshot: the beginning of its id, latest:SOURCE, latest, or a time
    #[arg(value_name = "SNAP")]
    snapshot: String,
    /// What to restore [default: everything]
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
    /// The directory below which everything is restored, at its own path
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Replace files that are there already: never, if size, time, mode or owner differ, or always
    #[arg(long, value_enum, value_name = "WHEN", default_value = "never")]
    overwrite: When,
    /// Leave out what matches below a PATH, as in .gitignore; may be repeated
    #[arg(long = "exclude", value_name = "PATTERN")]
    exclude: Vec<OsString>,
    /// Leave off the first N directories of every path
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    strip_components: u16,
    /// Give files to the stored names, the stored numbers, or whoever restores [default: by-name for
    /// root, none for others]
    #[arg(long, value_enum, value_name = "HOW")]
    ownership: Option<Owners>,
    /// Read every restored file back from the disk and compare it with the snapshot
    #[arg(long, conflicts_with = "dry_run")]
    verify: bool,
    /// Only say what would be done; with -v, of every entry
    #[arg(long, short = 'n')]
    dry_run: bool,
}

/// When a file that is there already is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum When {
    Never,
    IfChanged,
    Always,
}

/// To whom restored files belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Owners {
    ByName,
    ByNumber,
    None,
}

/// Restores, or says what would be restored.
pub(super) fn run(context: &Context, args: &RestoreArgs) -> Result<(), CommandError> {
    let paths =
        args.paths.iter().map(|path| TreePath::parse(path.as_bytes())).collect::<Result<Vec<_>, _>>()?;
    let options = restore_options(context, args)?;
    process::raise_open_files();
    let repo = context.open()?;
    let snapshot = repo.find_snapshot(&args.snapshot)?;
    repo.hold(snapshot.manifest.id, Hold::WhileAlive);
    if args.dry_run {
        let mut lines = PlanLines::new(context);
        let stats = plan(&repo, &snapshot, &paths, &options, &mut |path, action| lines.push(path, action))?;
        return report::planned(context, &stats, &args.to, lines);
    }
    let stop =
        process::told_to_end().map_err(|source| CommandError::io("cannot listen for signals", source))?;
    let options = RestoreOptions { stop, threads: context.reading_threads(&repo), ..options };
    let reporter = context.reporter();
    let restored = restore(&repo, &snapshot, &paths, &options, &reporter);
    reporter.finish();
    report::restored(context, &restored?, &options)
}

fn restore_options(context: &Context, args: &RestoreArgs) -> Result<RestoreOptions, CommandError> {
    let is_root = rustix::process::geteuid().is_root();
    Ok(RestoreOptions {
        target: args.to.clone(),
        overwrite: match args.overwrite {
            When::Never => Overwrite::Never,
            When::IfChanged => Overwrite::IfChanged,
            When::Always => Overwrite::Always,
        },
        ownership: match args.ownership {
            Some(Owners::ByName) => Ownership::ByName,
            Some(Owners::ByNumber) => Ownership::ByNumber,
            Some(Owners::None) => Ownership::Restorer,
            None if is_root => Ownership::ByName,
            None => Ownership::Restorer,
        },
        exclude: exclude_patterns(&args.exclude)?,
        strip_components: args.strip_components.into(),
        verification: if args.verify { Verification::ReadBack } else { Verification::None },
        threads: context.threads(),
        stop: Arc::default(),
    })
}

impl From<RestoreError> for CommandError {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Repo(error) => Self::from(error),
            RestoreError::NotInSnapshot { .. } => {
                Self::new(ErrorKind::Failed, error).hint("`yester ls SNAP PATH` shows what there is")
            }
            RestoreError::StripMixes { .. } => Self::new(ErrorKind::Usage, error)
                .hint("name one directory to restore, or strip off fewer")
                .hint("nothing was restored"),
            RestoreError::Interrupted => Self::new(ErrorKind::Failed, error)
                .hint("run it again with --overwrite if-changed: what is there is not read again"),
            RestoreError::StripLeavesNothing { .. } | RestoreError::StripsAsked { .. } => {
                Self::new(ErrorKind::Usage, error).hint("strip off fewer; nothing was restored")
            }
            RestoreError::Full { .. } => Self::new(ErrorKind::Partial, error).hint(
                "make room and run it again with --overwrite if-changed: what is there is not read again",
            ),
            RestoreError::Target { .. } | RestoreError::Thread { .. } => Self::new(ErrorKind::Failed, error),
        }
    }
}
