//! `yester ls`: lists what a snapshot holds.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::Args;

use super::context::Context;
use super::entries::{Damage, Form, Records, Sizes, document, long_line, path_text};
use super::exit::{CommandError, ErrorKind};
use super::output::forgive_closed_pipe;
use crate::ops::list::{ListError, Recursion, list};
use crate::path::TreePath;

/// List what a snapshot holds
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  yester ls latest:system /etc/ssh -l\n  yester ls 3fa92c11 -R --json")]
pub(super) struct LsArgs {
    /// The snapshot: the beginning of its id, latest:SOURCE, latest, or a time
    #[arg(value_name = "SNAP")]
    snapshot: String,
    /// What to list
    #[arg(value_name = "PATH", default_value = "/")]
    path: OsString,
    /// List everything below, too
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Show modes, owners, sizes and times
    #[arg(short, long)]
    long: bool,
    /// With --long: show sizes in the unit that fits
    #[arg(short = 'H', long, requires = "long")]
    human_readable: bool,
    /// Write raw paths, each ended by a zero byte, for xargs -0
    #[arg(short = '0', long, conflicts_with = "long")]
    print0: bool,
}

/// Lists the entries, each as soon as it is read.
pub(super) fn run(context: &Context, args: &LsArgs) -> Result<(), CommandError> {
    let path = TreePath::parse(args.path.as_bytes())?;
    let form = Form::of(context, if args.print0 { Form::Paths } else { Form::Lines })?;
    let repo = context.open()?;
    let snapshot = repo.find_snapshot(&args.snapshot)?;
    let recursion = if args.recursive { Recursion::All } else { Recursion::Children };
    let sizes = if args.human_readable { Sizes::Human } else { Sizes::Bytes };
    let found = list(&repo, &snapshot, &path, recursion)?;
    let (mut records, mut damage) = (Records::new(form), Damage::default());
    for found in found {
        match found {
            Ok((path, entry)) => {
                let line = || match args.long {
                    true => long_line(&path, &entry, sizes),
                    false => path_text(&path, &entry),
                };
                if let Err(error) = records.push(&path, line, || document(&path, &entry)) {
                    return forgive_closed_pipe(error);
                }
            }
            Err(error @ ListError::Damaged { .. }) => damage.add(error),
            Err(error) => return Err(error.into()),
        }
    }
    records.finish().or_else(forgive_closed_pipe)?;
    damage.outcome("listed")
}

impl From<ListError> for CommandError {
    fn from(error: ListError) -> Self {
        match error {
            ListError::Repo(error) => Self::from(error),
            ListError::Damaged { .. } => Self::new(ErrorKind::Damaged, error)
                .hint("run `yester verify` to learn which snapshots and files this touches"),
            ListError::NotFound { .. } => {
                Self::new(ErrorKind::Failed, error).hint("`yester ls SNAP PATH` shows what there is")
            }
            ListError::NotAFile { .. } => Self::new(ErrorKind::Failed, error)
                .hint("`yester ls SNAP PATH` lists it, and `yester restore` brings it back"),
            ListError::Output { .. } | ListError::Thread { .. } => Self::new(ErrorKind::Failed, error),
        }
    }
}
