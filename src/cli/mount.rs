//! `yester mount`: shows snapshots as a file system.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use nix::unistd::User;

use super::background::{self, Parent};
use super::context::Context;
use super::exit::{CommandError, ErrorKind};
use super::location::Location;
use crate::fuse::{self, Audience, MountError, MountOptions, Permissions};
use crate::repo::Repository;
use crate::vfs::{Ownership, RootView, Vfs, VfsOptions};

/// Show the snapshots as a read-only file system
#[derive(Debug, Args)]
#[command(after_help = "\
Returns when the mount is ready, and serves it in the background. Every snapshot is there, under
snapshots/, sources/, hosts/ and tags/; new ones appear by themselves.

Examples:
  yester mount /mnt/yester
  cp -a /mnt/yester/sources/etc/latest/etc/hosts /tmp/
  pg_restore -d shop /mnt/yester/sources/shop/latest/shop.dump
  yester umount /mnt/yester")]
pub(super) struct MountArgs {
    /// An empty directory
    #[arg(value_name = "MOUNTPOINT")]
    mountpoint: PathBuf,
    /// Make this snapshot the root of the mount
    #[arg(long, value_name = "SNAP")]
    snapshot: Option<String>,
    /// Show everything as this user's, and let in only this user and root
    #[arg(long = "for", value_name = "USER", conflicts_with_all = ["allow_other", "ignore_permissions"])]
    user: Option<String>,
    /// Let all users in, as far as owners and modes allow
    #[arg(long)]
    allow_other: bool,
    /// Let whoever may enter read everything, whatever owners and modes say
    #[arg(long)]
    ignore_permissions: bool,
    /// Serve until the mount ends, for supervisors; tells systemd when it is ready
    #[arg(long)]
    foreground: bool,
}

/// Mounts, in the background unless told otherwise.
pub(super) fn run(context: &Context, args: &MountArgs) -> Result<(), CommandError> {
    let location = context.location()?;
    if let Some(parent) = Parent::find()? {
        return serve_for(parent, context, args, &location);
    }
    let mountpoint = find_mountpoint(&args.mountpoint)?;
    let ownership = ownership(args)?;
    if args.foreground {
        let mounted = mount(context.open()?, context, args, ownership, &location)?;
        explain(context, args, &location, &mountpoint);
        background::notify_systemd();
        mounted.wait()?;
        return Ok(());
    }
    background::start_child(&context.key_source(), &format!("passphrase of {location}"))?;
    explain(context, args, &location, &mountpoint);
    Ok(())
}

fn serve_for(
    mut parent: Parent,
    context: &Context,
    args: &MountArgs,
    location: &Location,
) -> Result<(), CommandError> {
    let configured = parent.configured();
    let repo = context.open_with(location, configured.as_deref(), &mut || parent.credential())?;
    let log = background::open_log(&context.folders().state)?;
    let mounted = mount(repo, context, args, ownership(args)?, location)?;
    if let Err(error) = parent.leave(&log) {
        mounted.unmount()?;
        return Err(error);
    }
    mounted.wait()?;
    Ok(())
}

fn mount(
    repo: Repository,
    context: &Context,
    args: &MountArgs,
    ownership: Ownership,
    location: &Location,
) -> Result<fuse::MountedFs, CommandError> {
    let root = match &args.snapshot {
        Some(name) => RootView::Snapshot(Box::new(repo.find_snapshot(name)?.manifest)),
        None => RootView::All,
    };
    let options = VfsOptions { root, ownership, prefetch_threads: context.threads() };
    let vfs = Vfs::new(Arc::new(repo), options)?;
    let everyone = args.allow_other || args.user.is_some();
    let options = MountOptions {
        audience: if everyone { Audience::Everyone } else { Audience::Mounter },
        permissions: if args.ignore_permissions { Permissions::Ignored } else { Permissions::Checked },
        fsname: location.to_string(),
    };
    Ok(fuse::mount(Arc::new(vfs), &find_mountpoint(&args.mountpoint)?, &options)?)
}

fn find_mountpoint(path: &Path) -> Result<PathBuf, CommandError> {
    let fail = |source| {
        CommandError::io(format!("cannot mount at {}", path.display()), source)
            .hint(format!("make an empty directory: mkdir -p {}", path.display()))
    };
    let found = path.canonicalize().map_err(fail)?;
    if found.is_dir() { Ok(found) } else { Err(fail(std::io::ErrorKind::NotADirectory.into())) }
}

fn ownership(args: &MountArgs) -> Result<Ownership, CommandError> {
    let Some(name) = &args.user else { return Ok(Ownership::AsStored) };
    match User::from_name(name) {
        Ok(Some(user)) => Ok(Ownership::Of { uid: user.uid.as_raw(), gid: user.gid.as_raw() }),
        Ok(None) => Err(CommandError::usage(format!("there is no user {name:?} on this machine"))),
        Err(error) => Err(CommandError::io(format!("cannot look up the user {name:?}"), error.into())),
    }
}

fn explain(context: &Context, args: &MountArgs, location: &Location, mountpoint: &Path) {
    let mountpoint = mountpoint.display();
    let root = match args.snapshot {
        Some(_) => mountpoint.to_string(),
        None => format!("{mountpoint}/sources/SOURCE/latest"),
    };
    context.tell(&format!("{location} is mounted at {mountpoint}"));
    context.tell(&format!("  copy back:  cp -a {root}/PATH ."));
    context.tell(&format!("  a dump:     pg_restore -d DATABASE {root}/FILE"));
    context.tell(&format!("  end it:     yester umount {mountpoint}"));
}

impl From<MountError> for CommandError {
    fn from(error: MountError) -> Self {
        let (kind, hint) = match &error {
            MountError::System { source, .. } => match source.kind() {
                std::io::ErrorKind::ResourceBusy => (ErrorKind::Busy, None),
                std::io::ErrorKind::NotFound => {
                    (ErrorKind::Failed, Some("is fuse3 installed, and /dev/fuse there?"))
                }
                std::io::ErrorKind::PermissionDenied => (
                    ErrorKind::Failed,
                    Some("without root, --allow-other and --for need user_allow_other in /etc/fuse.conf"),
                ),
                _ => (ErrorKind::Failed, None),
            },
            MountError::NotMounted(_) => (ErrorKind::Failed, None),
        };
        Self::new(kind, error).hints(hint)
    }
}
