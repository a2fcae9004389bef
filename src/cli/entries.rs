//! How entries of snapshots are shown: what ls, find, log and diff share.
//!
//! Owns the words and columns for entries, the stream of records on standard output, and how damage that a list
//! meets is told.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::context::Context;
use super::exit::{CommandError, ErrorKind};
use super::output;
use super::output::json_bytes;
use crate::format::tree::{Attributes, Device, Entry, EntryKind, Time};
use crate::human;
use crate::ops::versions::VersionsError;
use crate::path::{TreePath, escape};

/// What a list is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A line each.
    Lines,
    /// One JSON array.
    Json,
    /// Raw paths, each ended by a zero byte.
    Paths,
}

impl Form {
    /// Returns the form that was asked for: JSON takes the place of lines, and is refused with raw paths.
    pub(super) fn of(context: &Context, wanted: Self) -> Result<Self, CommandError> {
        match (context.json(), wanted) {
            (true, Self::Paths) => Err(CommandError::usage("--json and --print0 cannot be used together")),
            (true, _) => Ok(Self::Json),
            (false, wanted) => Ok(wanted),
        }
    }
}

/// Writes records to standard output as they come.
pub(super) struct Records {
    out: BufWriter<StdoutLock<'static>>,
    form: Form,
    number: u64,
    is_watched: bool,
}

impl Records {
    /// Starts to write.
    pub(super) fn new(form: Form) -> Self {
        let stdout = io::stdout().lock();
        // A person who watches wants each line when it is found.
        let is_watched = stdout.is_terminal();
        Self { out: BufWriter::new(stdout), form, number: 0, is_watched }
    }

    /// Writes one record in the form that was chosen.
    pub(super) fn push(
        &mut self,
        path: &TreePath,
        line: impl FnOnce() -> String,
        document: impl FnOnce() -> Value,
    ) -> io::Result<()> {
        match self.form {
            Form::Lines => writeln!(self.out, "{}", line())?,
            Form::Json => {
                let opening = if self.number == 0 { "[\n  " } else { ",\n  " };
                write!(self.out, "{opening}{}", document())?;
            }
            Form::Paths => {
                self.out.write_all(b"/")?;
                self.out.write_all(&path.to_bytes())?;
                self.out.write_all(b"\0")?;
            }
        }
        self.number += 1;
        if self.is_watched { self.out.flush() } else { Ok(()) }
    }

    /// Returns how many records were written.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Ends the document.
    pub(super) fn finish(mut self) -> io::Result<()> {
        match (self.form, self.number) {
            (Form::Json, 0) => writeln!(self.out, "[]")?,
            (Form::Json, _) => writeln!(self.out, "\n]")?,
            (Form::Lines | Form::Paths, _) => {}
        }
        self.out.flush()
    }
}

/// The damage that a list met on its way.
#[derive(Debug, Default)]
pub(super) struct Damage {
    places: u64,
}

impl Damage {
    /// Tells of a place that is damaged.
    pub(super) fn add(&mut self, error: impl std::error::Error + Send + Sync + 'static) {
        output::tell(&format!("yester: {:#}", anyhow::Error::new(error)));
        self.places += 1;
    }

    /// Fails if there was any; `what` says what could not be done.
    pub(super) fn outcome(&self, what: &str) -> Result<(), CommandError> {
        if self.places == 0 {
            return Ok(());
        }
        let message = format!("{} could not be {what}", human::counted(self.places, "place"));
        Err(CommandError::message(ErrorKind::Damaged, message)
            .hint("run `yester verify` to learn which snapshots and files this touches"))
    }
}

/// How sizes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sizes {
    /// In bytes.
    Bytes,
    /// In the unit that fits.
    Human,
}

/// Returns a path as lists show it: with a `/` behind directories.
pub(super) fn path_text(path: &TreePath, entry: &Entry) -> String {
    if is_directory(entry) && !path.is_root() { format!("{path}/") } else { path.to_string() }
}

/// Returns ` -> target` for symbolic links, and nothing for others.
pub(super) fn target_text(entry: &Entry) -> String {
    match &entry.kind {
        EntryKind::Symlink(target) => format!(" -> {}", escape(target)),
        _ => String::new(),
    }
}

/// Returns a line as `ls -l` writes it.
pub(super) fn long_line(path: &TreePath, entry: &Entry, sizes: Sizes) -> String {
    let attributes = &entry.attributes;
    let size = match (&entry.kind, sizes) {
        (EntryKind::Directory(tree), _) => tree.entries.to_string(),
        (EntryKind::CharDevice(device) | EntryKind::BlockDevice(device), _) => device_text(*device),
        (_, Sizes::Bytes) => entry.size().to_string(),
        (_, Sizes::Human) => human::bytes(entry.size()),
    };
    let links = entry.link.map_or(1, |link| link.links);
    format!(
        "{}{} {links:>2} {:<8} {:<8} {size:>12} {} {path}{}",
        kind_letter(&entry.kind),
        mode_text(attributes.mode),
        user_text(attributes),
        group_text(attributes),
        time_text(attributes.mtime),
        target_text(entry)
    )
}

/// Returns the size of a file as people read it, the number of a device, and `-` for what has neither.
pub(super) fn size_text(entry: &Entry) -> String {
    match &entry.kind {
        EntryKind::File(_) => human::bytes(entry.size()),
        EntryKind::CharDevice(device) | EntryKind::BlockDevice(device) => device_text(*device),
        _ => "-".to_owned(),
    }
}

/// Returns a time as people read it. Times outside what a calendar can say are seconds since 1970.
pub(super) fn time_text(time: Time) -> String {
    Timestamp::new(time.seconds, 0).map_or_else(|_| format!("@{}", time.seconds), human::time)
}

/// Returns `owner:group`.
pub(super) fn owner_text(attributes: &Attributes) -> String {
    format!("{}:{}", user_text(attributes), group_text(attributes))
}

/// Returns the word for a kind, as programs read it.
pub(super) fn kind_word(kind: &EntryKind) -> &'static str {
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

/// Returns what an entry is, as programs read it.
pub(super) fn document(path: &TreePath, entry: &Entry) -> Value {
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

fn is_directory(entry: &Entry) -> bool {
    matches!(entry.kind, EntryKind::Directory(_))
}

fn user_text(attributes: &Attributes) -> String {
    attributes.user.as_deref().map_or_else(|| attributes.uid.to_string(), escape)
}

fn group_text(attributes: &Attributes) -> String {
    attributes.group.as_deref().map_or_else(|| attributes.gid.to_string(), escape)
}

fn device_text(device: Device) -> String {
    format!("{},{}", device.major, device.minor)
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

impl From<VersionsError> for CommandError {
    fn from(error: VersionsError) -> Self {
        match error {
            VersionsError::Repo(error) => Self::from(error),
            VersionsError::Damaged { .. } => Self::new(ErrorKind::Damaged, error)
                .hint("run `yester verify` to learn which snapshots and files this touches"),
            VersionsError::NotFound { .. } => Self::new(ErrorKind::Failed, error)
                .hint("`yester find NAME` looks for a name in all snapshots"),
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
