//! `yester umount`: ends a mount.

use std::path::PathBuf;

use clap::Args;

use super::context::Context;
use super::exit::CommandError;
use crate::fuse::{UnmountOutcome, unmount_path};

/// End a mount, busy or not
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  yester umount /mnt/yester")]
pub(super) struct UmountArgs {
    /// Where it is mounted
    #[arg(value_name = "MOUNTPOINT")]
    mountpoint: PathBuf,
}

/// Ends a mount.
pub(super) fn run(context: &Context, args: &UmountArgs) -> Result<(), CommandError> {
    let mountpoint = &args.mountpoint;
    match unmount_path(mountpoint)? {
        UnmountOutcome::Clean => {}
        UnmountOutcome::Detached => context.tell(&format!(
            "{} was in use: it is gone from the file tree, and ends when its last user closes it",
            mountpoint.display()
        )),
    }
    Ok(())
}
