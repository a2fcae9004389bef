//! `yester mount`: shows snapshots as a file system.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use nix::unistd::User;

use super::background::{self, KeyPath, Parent};
use super::context::Context;
use super::credentials::KeySource;
use super::exit::{CommandError, ErrorKind};
use super::systemd::{self, State};
use super::{mount_helper, process};
use crate::fuse::{self, Audience, Execution, MountError, MountOptions, Permissions};
use crate::repo::Repository;
use crate::store::location::Location;
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
  yester umount /mnt/yester

A line of /etc/fstab, whose options are those of mount(8) and key-file=, passphrase-file=,
snapshot=, for=, cache-size=, threads=, allow_other, ignore_permissions:
  /srv/backup  /mnt/yester  fuse.yester  key-file=/root/yester.key,noauto  0  0")]
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
    /// Let nobody run programs from the mount
    #[arg(long)]
    noexec: bool,
    /// Take the passphrase from the first line of this file
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Serve until the mount ends, for supervisors; tells systemd when it is ready
    #[arg(long)]
    foreground: bool,
    /// Say only what is wrong: whoever called will tell the rest
    #[arg(long, hide = true)]
    terse: bool,
}

/// Mounts, in the background unless told otherwise.
pub(super) fn run(context: &Context, args: &MountArgs) -> Result<(), CommandError> {
    let location = context.location()?;
    if let Some(parent) = Parent::find()? {
        return serve_for(parent, context, args, &location);
    }
    // What is wrong with the mount point should be known before anybody types a passphrase.
    let mountpoint = fuse::prepare(&args.mountpoint)?;
    let ownership = ownership(args)?;
    let source = key_source(context, args, &location);
    let configured = match &args.passphrase_file {
        Some(path) => Some(format!("the passphrase file {}", path.display())),
        None => source.configured(),
    };
    let question = format!("passphrase of {location}");
    if args.foreground {
        let ask = &mut || source.credential(&question);
        let repo = context.open_with(&location, configured.as_deref(), ask)?;
        let mounted = mount(repo, context, args, ownership, &location)?;
        explain(context, args, &location, &mountpoint);
        systemd::notify(State::Ready);
        let ended = mounted.wait();
        systemd::notify(State::Stopping);
        ended?;
        return Ok(());
    }
    let key = KeyPath { source: &source, configured, question: &question };
    background::start_child(&mount_helper::own_arguments(), &key)?;
    explain(context, args, &location, &mountpoint);
    Ok(())
}

/// Returns where the key comes from: a file that was named for this mount counts first.
fn key_source(context: &Context, args: &MountArgs, location: &Location) -> KeySource {
    args.passphrase_file.clone().map_or_else(|| context.key_source_of(location), KeySource::File)
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
    process::raise_open_files();
    let root = match &args.snapshot {
        Some(name) => RootView::Snapshot(Box::new(repo.find_snapshot(name)?.manifest)),
        None => RootView::All,
    };
    let options = VfsOptions { root, ownership, prefetch_threads: context.reading_threads(&repo) };
    let store_requests = repo.store().requests_at_once();
    let vfs = Vfs::new(Arc::new(repo), options)?;
    let everyone = args.allow_other || args.user.is_some();
    let options = MountOptions {
        audience: if everyone { Audience::Everyone } else { Audience::Mounter },
        permissions: if args.ignore_permissions { Permissions::Ignored } else { Permissions::Checked },
        execution: if args.noexec { Execution::Forbidden } else { Execution::Allowed },
        fsname: location.to_string(),
        store_requests,
    };
    Ok(fuse::mount(Arc::new(vfs), &args.mountpoint, &options)?)
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
    if args.terse {
        return;
    }
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
                io::ErrorKind::ResourceBusy => (ErrorKind::Busy, None),
                io::ErrorKind::NotFound => {
                    (ErrorKind::Failed, Some("is fuse3 installed, and /dev/fuse there?"))
                }
                io::ErrorKind::PermissionDenied => (
                    ErrorKind::Failed,
                    Some(
                        "without root, /dev/fuse must be open to all, and --allow-other and --for need \
                         user_allow_other in /etc/fuse.conf",
                    ),
                ),
                _ => (ErrorKind::Failed, None),
            },
            MountError::Place { source, .. } => match source.kind() {
                io::ErrorKind::NotADirectory => {
                    (ErrorKind::Failed, Some("a file stands there; a mount needs an empty directory"))
                }
                io::ErrorKind::NotFound => {
                    (ErrorKind::Failed, Some("make an empty directory there with mkdir -p"))
                }
                _ => (ErrorKind::Failed, None),
            },
            MountError::NotMounted(_) => {
                (ErrorKind::Failed, Some("`findmnt -t fuse.yester` lists the mounts that there are"))
            }
            MountError::InUse(_) => {
                (ErrorKind::Busy, Some("end it with `yester umount`, or mount at another directory"))
            }
            MountError::NotEmpty(_) => {
                (ErrorKind::Failed, Some("a mount would hide what is in it; make an empty directory"))
            }
        };
        Self::new(kind, error).hints(hint)
    }
}
