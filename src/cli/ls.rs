//! `yester ls`: lists what a snapshot holds.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::context::Context;
use super::exit::{CommandError, ErrorKind};
use super::output::{forgive_closed_pipe, json_bytes};
use super::{human, output};
use crate::format::tree::{Attributes, Device, Entry, EntryKind, Time};
use crate::ops::list::{ListError, Recursion, list};
use crate::path::{TreePath, escape};

/// List what a snapshot holds
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  yester ls latest:system /etc/ssh\n  yester ls 3fa92c11 -R --json")]
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
}

/// Lists the entries, each as soon as it is read.
pub(super) fn run(context: &Context, args: &LsArgs) -> Result<(), CommandError> {
    let path = TreePath::parse(args.path.as_bytes())?;
    let repo = context.open()?;
    let snapshot = repo.find_snapshot(&args.snapshot)?;
    let recursion = if args.recursive { Recursion::All } else { Recursion::Children };
    let mut lines = Lines::new(context.json(), args.long);
    let mut damaged = None;
    for found in list(&repo, &snapshot, &path, recursion)? {
        match found {
            Ok((path, entry)) => {
                if let Err(error) = lines.push(&path, &entry) {
                    return forgive_closed_pipe(error);
                }
            }
            Err(error @ ListError::Damaged { .. }) => {
                output::tell(&format!("yester: {:#}", anyhow::Error::new(error)));
                damaged = Some(damaged.unwrap_or(0_u64).saturating_add(1));
            }
            Err(error) => return Err(error.into()),
        }
    }
    lines.finish().or_else(forgive_closed_pipe)?;
    match damaged {
        None => Ok(()),
        Some(number) => Err(CommandError::message(
            ErrorKind::Damaged,
            format!("{} could not be listed", human::counted(number, "place")),
        )),
    }
}

/// Writes entries as they come: a line each, or the elements of one JSON array.
struct Lines {
    out: io::BufWriter<io::StdoutLock<'static>>,
    json: bool,
    long: bool,
    is_first: bool,
}

impl Lines {
    fn new(json: bool, long: bool) -> Self {
        Self { out: io::BufWriter::new(io::stdout().lock()), json, long, is_first: true }
    }

    fn push(&mut self, path: &TreePath, entry: &Entry) -> io::Result<()> {
        if self.json {
            let opening = if self.is_first { "[\n  " } else { ",\n  " };
            write!(self.out, "{opening}{}", document(path, entry))?;
        } else if self.long {
            writeln!(self.out, "{}", long_line(path, entry))?;
        } else {
            writeln!(self.out, "{path}{}", if is_directory(entry) { "/" } else { "" })?;
        }
        self.is_first = false;
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        match (self.json, self.is_first) {
            (true, true) => writeln!(self.out, "[]")?,
            (true, false) => writeln!(self.out, "\n]")?,
            (false, _) => {}
        }
        self.out.flush()
    }
}

fn is_directory(entry: &Entry) -> bool {
    matches!(entry.kind, EntryKind::Directory(_))
}

fn long_line(path: &TreePath, entry: &Entry) -> String {
    let attributes = &entry.attributes;
    let owner = owner(attributes.user.as_deref(), attributes.uid);
    let group = owner_of_group(attributes);
    let size = match &entry.kind {
        EntryKind::CharDevice(device) | EntryKind::BlockDevice(device) => device_text(*device),
        EntryKind::Directory(tree) => tree.entries.to_string(),
        _ => entry.size().to_string(),
    };
    let target = match &entry.kind {
        EntryKind::Symlink(target) => format!(" -> {}", escape(target)),
        _ => String::new(),
    };
    let links = entry.link.map_or(1, |link| link.links);
    format!(
        "{}{} {links:>2} {owner:<8} {group:<8} {size:>12} {} {path}{target}",
        kind_letter(&entry.kind),
        mode_text(attributes.mode),
        time_text(attributes.mtime)
    )
}

fn owner(name: Option<&[u8]>, id: u32) -> String {
    name.map_or_else(|| id.to_string(), escape)
}

fn owner_of_group(attributes: &Attributes) -> String {
    owner(attributes.group.as_deref(), attributes.gid)
}

fn device_text(device: Device) -> String {
    format!("{},{}", device.major, device.minor)
}

/// Times outside what a calendar can say are shown as seconds since 1970.
fn time_text(time: Time) -> String {
    Timestamp::new(time.seconds, 0).map_or_else(|_| format!("@{}", time.seconds), human::time)
}

fn kind_letter(kind: &EntryKind) -> char {
    match kind {
        EntryKind::File(_) => '-',
        EntryKind::Directory(_) => 'd',
        EntryKind::Symlink(_) => 'l',
        EntryKind::Fifo => 'p',
        EntryKind::CharDevice(_) => 'c',
        EntryKind::BlockDevice(_) => 'b',
        EntryKind::Socket => 's',
    }
}

fn kind_word(kind: &EntryKind) -> &'static str {
    match kind {
        EntryKind::File(_) => "file",
        EntryKind::Directory(_) => "directory",
        EntryKind::Symlink(_) => "symlink",
        EntryKind::Fifo => "fifo",
        EntryKind::CharDevice(_) => "char_device",
        EntryKind::BlockDevice(_) => "block_device",
        EntryKind::Socket => "socket",
    }
}

/// Returns permissions as `ls -l` shows them: `rwxr-sr-t`.
fn mode_text(mode: u16) -> String {
    let triple = |shift: u16, special: bool, letters: (char, char)| {
        let bits = mode >> shift;
        let execute = match (bits & 1 != 0, special) {
            (true, false) => 'x',
            (false, false) => '-',
            (true, true) => letters.0,
            (false, true) => letters.1,
        };
        [if bits & 4 != 0 { 'r' } else { '-' }, if bits & 2 != 0 { 'w' } else { '-' }, execute]
    };
    [
        triple(6, mode & 0o4000 != 0, ('s', 'S')),
        triple(3, mode & 0o2000 != 0, ('s', 'S')),
        triple(0, mode & 0o1000 != 0, ('t', 'T')),
    ]
    .iter()
    .flatten()
    .collect()
}

fn document(path: &TreePath, entry: &Entry) -> Value {
    let attributes = &entry.attributes;
    let mut document = json!({
        "path": json_bytes(&path.to_bytes()),
        "kind": kind_word(&entry.kind),
        "mode": format!("{:04o}", attributes.mode),
        "uid": attributes.uid,
        "gid": attributes.gid,
        "user": attributes.user.as_deref().map(json_bytes),
        "group": attributes.group.as_deref().map(json_bytes),
        "size": entry.size(),
        "mtime": { "seconds": attributes.mtime.seconds, "nanoseconds": attributes.mtime.nanoseconds },
    });
    let Some(map) = document.as_object_mut() else { return document };
    match &entry.kind {
        EntryKind::Symlink(target) => {
            map.insert("target".to_owned(), json_bytes(target));
        }
        EntryKind::CharDevice(device) | EntryKind::BlockDevice(device) => {
            map.insert("device".to_owned(), device_text(*device).into());
        }
        EntryKind::Directory(tree) => {
            map.insert("entries".to_owned(), tree.entries.into());
        }
        EntryKind::File(_) | EntryKind::Fifo | EntryKind::Socket => {}
    }
    if let Some(link) = entry.link {
        map.insert("links".to_owned(), link.links.into());
    }
    document
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
            ListError::NotAFile { .. } | ListError::Output { .. } | ListError::Thread { .. } => {
                Self::new(ErrorKind::Failed, error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_read_as_in_ls() {
        for (mode, text) in [
            (0o755, "rwxr-xr-x"),
            (0o4755, "rwsr-xr-x"),
            (0o2640, "rw-r-S---"),
            (0o1777, "rwxrwxrwt"),
            (0, "---------"),
        ] {
            assert_eq!(mode_text(mode), text);
        }
    }

    #[test]
    fn times_out_of_the_calendar_are_still_shown() {
        assert_eq!(time_text(Time { seconds: 0, nanoseconds: 5 }), "1970-01-01T00:00:00Z");
        assert_eq!(time_text(Time { seconds: i64::MAX, nanoseconds: 0 }), format!("@{}", i64::MAX));
    }
}
