//! `yester cat`: writes one file of a snapshot to standard output.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use clap::Args;

use super::context::Context;
use super::exit::CommandError;
use super::output::forgive_closed_pipe;
use crate::ops::list::{self, ListError};
use crate::path::TreePath;
use crate::repo::readers::Hold;

/// Write one file of a snapshot to standard output
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  yester cat latest:shop shop.dump | pg_restore -l")]
pub(super) struct CatArgs {
    /// The snapshot: the beginning of its id, latest:SOURCE, latest, or a time
    #[arg(value_name = "SNAP")]
    snapshot: String,
    /// The file in the snapshot
    #[arg(value_name = "PATH")]
    path: OsString,
}

/// Writes the file.
pub(super) fn run(context: &Context, args: &CatArgs) -> Result<(), CommandError> {
    let path = TreePath::parse(args.path.as_bytes())?;
    let repo = context.open()?;
    let snapshot = repo.find_snapshot(&args.snapshot)?;
    repo.hold(snapshot.manifest.id, Hold::WhileAlive);
    // The standard handle would look for line ends and copy what comes behind the last one.
    let stdout = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    let mut out = stdout.map_err(|source| CommandError::io("cannot write to standard output", source))?;
    match list::cat(&repo, &snapshot, &path, &mut out) {
        Ok(_) => Ok(()),
        Err(ListError::Output { source, .. }) => forgive_closed_pipe(source),
        Err(error) => Err(error.into()),
    }
}
