//! How a command ends: the kinds of errors, their exit codes, their hints, and how they are printed.
//!
//! The one place where errors of the library are mapped to what scripts and people see.

use std::io::Write;

use crate::crypto::CryptoError;
use crate::ops::ingest::IngestError;
use crate::path::PathError;
use crate::repo::RepoError;
use crate::repo::keys::KeyError;
use crate::store::location::LocationError;
use crate::store::{StoreError, StoreErrorKind};

/// The exit codes, as the help text shows them.
pub(super) const HELP: &str = "\
Exit codes: 0 done; 1 failed; 2 usage; 3 done in part; 10 no store there; 11 busy; 12 wrong
passphrase or key; 13 damage found.

The passphrase comes from YESTER_PASSPHRASE, YESTER_PASSPHRASE_FILE (a file's first line),
YESTER_PASSPHRASE_COMMAND (the output of a shell command), or a prompt.

Example:
  export YESTER_STORE=/srv/backup
  yester init
  yester ingest /etc
  yester mount /mnt/yester";

/// Every exit code with what it means, for the manual.
pub(super) const CODES: [(u8, &str); 8] = [
    (0, "Done."),
    (1, "Failed. What is in the store already is as it was."),
    (2, "Usage: the command line is wrong. Nothing was done."),
    (
        3,
        "Done in part: some files could not be read or restored, changed meanwhile, or were kept, or a dump is not \
         whole. They are named.",
    ),
    (10, "There is no store there."),
    (11, "Busy: somebody else is using what is needed."),
    (12, "The passphrase or key is wrong, absent, or an ingest-only one, which is not for this."),
    (13, "Damage was found. It is named; `yester verify` says what it touches."),
];

/// What kind of failure ends a command; each has one exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorKind {
    /// Anything that has no code of its own.
    Failed,
    /// The command line asks for something that cannot be.
    Usage,
    /// Some of the work was done.
    Partial,
    /// There is no store where one was expected.
    NoStore,
    /// Somebody else is using what is needed.
    Busy,
    /// The passphrase or key does not open the store.
    WrongKey,
    /// Something in the store is damaged or missing.
    Damaged,
}

impl ErrorKind {
    /// Returns the exit code.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Partial => 3,
            Self::NoStore => 10,
            Self::Busy => 11,
            Self::WrongKey => 12,
            Self::Damaged => 13,
        }
    }
}

/// Why a command failed: a kind, the chain of causes, and what the user can do.
#[derive(Debug)]
pub(super) struct CommandError {
    kind: ErrorKind,
    source: anyhow::Error,
    hints: Vec<String>,
    exit: Exit,
}

/// How the end of a command shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// By the message, the hints and the kind's code.
    Told,
    /// By this code alone: another process has told the rest.
    Silent(u8),
}

impl CommandError {
    /// Describes a failure.
    pub(super) fn new(kind: ErrorKind, source: impl Into<anyhow::Error>) -> Self {
        Self { kind, source: source.into(), hints: Vec::new(), exit: Exit::Told }
    }

    /// Describes a failure in words.
    pub(super) fn message(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self::new(kind, anyhow::Error::msg(message.into()))
    }

    /// Describes a command line that cannot be followed.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::message(ErrorKind::Usage, message)
    }

    /// Describes a failed operation of the system on something.
    pub(super) fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        Self::new(ErrorKind::Failed, anyhow::Error::new(source).context(what.into()))
    }

    /// Ends with `code` and prints nothing: another process has told the user.
    pub(super) fn silent(code: u8) -> Self {
        let mut error = Self::message(ErrorKind::Failed, "told by another process");
        error.exit = Exit::Silent(code);
        error
    }

    /// Puts what was attempted before the causes.
    pub(super) fn context(mut self, attempted: impl Into<String>) -> Self {
        self.source = self.source.context(attempted.into());
        self
    }

    /// Adds what the user can do about it.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds hints, if there are any.
    pub(super) fn hints<T: Into<String>>(mut self, hints: impl IntoIterator<Item = T>) -> Self {
        self.hints.extend(hints.into_iter().map(Into::into));
        self
    }

    /// Returns the kind.
    pub(super) fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Prints the chain of causes and the hints to standard error, once, and returns the exit code.
    pub(super) fn report(&self) -> u8 {
        if let Exit::Silent(code) = self.exit {
            return code;
        }
        let mut text = format!("yester: {:#}\n", self.source);
        for hint in &self.hints {
            text.push_str("hint: ");
            text.push_str(hint);
            text.push('\n');
        }
        // Without a standard error there is only the exit code.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
        self.kind.code()
    }
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        let (kind, hint) = (store_error_kind(error.kind()), store_error_hint(&error));
        Self::new(kind, error).hints(hint)
    }
}

fn store_error_kind(kind: StoreErrorKind) -> ErrorKind {
    match kind {
        StoreErrorKind::NotAStore => ErrorKind::NoStore,
        StoreErrorKind::NotFound | StoreErrorKind::Truncated => ErrorKind::Damaged,
        StoreErrorKind::Full
        | StoreErrorKind::ReadOnly
        | StoreErrorKind::Denied
        | StoreErrorKind::Unavailable => ErrorKind::Failed,
    }
}

fn store_error_hint(error: &StoreError) -> Option<&'static str> {
    if error.advice().is_some() {
        return error.advice();
    }
    match error.kind() {
        StoreErrorKind::NotAStore => Some("check --store: a store is a directory made by `yester init`"),
        StoreErrorKind::NotFound | StoreErrorKind::Truncated => Some(
            "run `yester verify` to learn which snapshots this touches, and `yester repair` to bring back what can be",
        ),
        StoreErrorKind::Full => Some(
            "nothing that was committed is lost; make room where the store is and run the same command again",
        ),
        StoreErrorKind::ReadOnly => {
            Some("reading works: snapshots, ls, cat, find, log, diff, restore, export, mount, stats, verify")
        }
        StoreErrorKind::Denied => Some("run as the user that owns the store, or give this user the right"),
        StoreErrorKind::Unavailable => None,
    }
}

impl From<RepoError> for CommandError {
    fn from(error: RepoError) -> Self {
        let (kind, hint) = (repo_error_kind(&error), repo_error_hint(&error));
        Self::new(kind, error).hints(hint)
    }
}

fn repo_error_kind(error: &RepoError) -> ErrorKind {
    match error {
        RepoError::NoStore(_) | RepoError::NotMounted { .. } => ErrorKind::NoStore,
        RepoError::WrongKey(_)
        | RepoError::NoCredential(_)
        | RepoError::IngestOnly(_)
        | RepoError::OtherHost { .. }
        | RepoError::OtherDomain(_) => ErrorKind::WrongKey,
        RepoError::Crypto(CryptoError::WrongKey | CryptoError::IngestOnly | CryptoError::NotAKey(_)) => {
            ErrorKind::WrongKey
        }
        RepoError::Damaged { .. }
        | RepoError::MissingChunk(_)
        | RepoError::MissingBase(_)
        | RepoError::NoKeySlot(_)
        | RepoError::UnknownCollection { .. } => ErrorKind::Damaged,
        RepoError::NoFreeMark(_) | RepoError::NoFreeIndexName(_) => ErrorKind::Busy,
        RepoError::Store(error) => store_error_kind(error.kind()),
        RepoError::StoreExists(_)
        | RepoError::Replaced { .. }
        | RepoError::TooNew { .. }
        | RepoError::Encode { .. }
        | RepoError::NoSnapshot(_)
        | RepoError::Collected(_)
        | RepoError::AmbiguousSnapshot { .. }
        | RepoError::ForgottenSnapshot { .. }
        | RepoError::NoForgotten(_)
        | RepoError::AmbiguousForgotten { .. }
        | RepoError::OnlySuspicious { .. }
        | RepoError::Fenced { .. }
        | RepoError::SessionFailed
        | RepoError::StaleIndex
        | RepoError::ShortListing { .. }
        | RepoError::Index(_)
        | RepoError::Crypto(_)
        | RepoError::Random(_)
        | RepoError::Local { .. } => ErrorKind::Failed,
    }
}

fn repo_error_hint(error: &RepoError) -> Option<String> {
    let hint = match error {
        RepoError::NoStore(_) => "check --store, or create a store there with `yester init`",
        RepoError::WrongKey(_) => "the recovery key that `yester init` printed works as a passphrase",
        RepoError::IngestOnly(_) => {
            "to read, to decide on snapshots or to manage keys, use a full key: passphrase, key file or recovery key"
        }
        RepoError::OtherHost { .. } => {
            "leave --host out, or have a key made for that host: `yester key export --host HOST`"
        }
        RepoError::OtherDomain(_) => {
            "check --store and --key-file: this key was exported from a store of another domain"
        }
        RepoError::NoFreeIndexName(_) => {
            "nothing was committed; somebody who can write to the store takes names of sessions: see who can"
        }
        RepoError::NoKeySlot(_) => "if there is a copy of the store, copy its keys/ folder back",
        RepoError::Damaged { .. } | RepoError::MissingChunk(_) | RepoError::MissingBase(_) => {
            "run `yester verify` to learn which snapshots this touches, and `yester repair` to bring back what can be"
        }
        RepoError::TooNew { .. } => "nothing was changed; install a newer yester and run it again",
        RepoError::UnknownCollection { .. } => {
            "a newer yester may know it; if nobody uses one here, it is rubbish: `yester repair --discard-unreadable`"
        }
        RepoError::NoSnapshot(_) => {
            "`yester snapshots` lists what there is; latest:SOURCE or the first digits of an id name one"
        }
        RepoError::AmbiguousSnapshot { .. } | RepoError::AmbiguousForgotten { .. } => {
            "give one of these names"
        }
        RepoError::ForgottenSnapshot { .. } => {
            "`yester forget --undo ID` brings it back while no garbage collection has taken it"
        }
        RepoError::NoForgotten(_) => "`yester snapshots --forgotten` lists what can be brought back",
        RepoError::StoreExists(_) => "use it as it is, or choose another directory; nothing was changed",
        RepoError::Local { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            "make room there, or set CACHE_DIRECTORY to a folder on another file system"
        }
        RepoError::OnlySuspicious { .. } => {
            "its id reads it as it is; if it is good after all, `yester accept ID` lets latest mean it"
        }
        RepoError::ShortListing { .. } => {
            "run the same command again; if it stays so, give the address of the store itself, not that of a cache or replica"
        }
        RepoError::StaleIndex | RepoError::NoFreeMark(_) => "run the same command again",
        RepoError::Fenced { .. } => "run the same command again; what was written already is used again",
        RepoError::NotMounted { .. } => {
            "its disk may not be mounted; if that store is gone for good, `yester init --new` makes another one there"
        }
        RepoError::Replaced { pin, .. } => return Some(format!("if that is as it should be, delete {pin}")),
        RepoError::Index(error) if error.is_corrupt() => {
            "the index is only a copy of what the store knows: run the same command again, and if that fails, too, \
             delete this host's cache folder"
        }
        RepoError::Encode { .. } => "nothing was committed; check this machine's memory if it happens again",
        RepoError::Store(error) => return store_error_hint(error).map(str::to_owned),
        _ => return None,
    };
    Some(hint.to_owned())
}

impl From<KeyError> for CommandError {
    fn from(error: KeyError) -> Self {
        let (kind, hint) = match &error {
            KeyError::Repo(below) => (repo_error_kind(below), repo_error_hint(below)),
            other => (ErrorKind::Failed, key_error_hint(other).map(str::to_owned)),
        };
        Self::new(kind, error).hints(hint)
    }
}

fn key_error_hint(error: &KeyError) -> Option<&'static str> {
    match error {
        KeyError::Plain(_) => Some("keys come with a store that was created without --no-encryption"),
        KeyError::TooMany => Some("`yester key list` shows them; `yester key remove ID` makes room"),
        KeyError::OpensAlready(_) => Some("nothing was changed; choose another one"),
        KeyError::NoSlot(_) => Some("`yester key list` shows the ids"),
        KeyError::Last(_) => Some("nothing was changed; add another key first: `yester key add`"),
        KeyError::InUse(_) => {
            Some("nothing was changed; open the store with another key, or give --force if that one is known")
        }
        KeyError::Unproven(_) => {
            Some("the keys that were there still open the store; remove the new one, and try again")
        }
        KeyError::OldStays { .. } => Some(
            "both open the store now; who may delete in the store removes the old one: `yester key remove ID`",
        ),
        KeyError::Repo(_) => None,
    }
}

/// What to do where a dump that was stored is not what came.
const READ_BACK_HINT: &str = "this machine may be faulty: run the same command again, and check its memory if it \
     happens again; --verbatim stores the dump untouched";

impl From<IngestError> for CommandError {
    fn from(error: IngestError) -> Self {
        let (kind, hint) = match &error {
            IngestError::Repo(below) => (repo_error_kind(below), repo_error_hint(below)),
            IngestError::TooSmall { bytes: 0, .. } => {
                (ErrorKind::Failed, Some("is a disk not mounted? `--min-size 0`, or `min-size` in a configuration, keeps what is empty, too".to_owned()))
            }
            IngestError::TooSmall { .. } => {
                (ErrorKind::Failed, Some("`--min-size`, or `min-size` in a configuration, says how little is still a backup".to_owned()))
            }
            IngestError::ReadBack { .. } => (ErrorKind::Failed, Some(READ_BACK_HINT.to_owned())),
            IngestError::Unreadable(_, below) => (repo_error_kind(below), repo_error_hint(below)),
            IngestError::NotProtected(id, below) => {
                (repo_error_kind(below), Some(format!("`yester protect {}` tries again", id.short())))
            }
            IngestError::OpenFiles { .. } => (
                ErrorKind::Failed,
                Some("each level of a deep tree takes one: allow more with `ulimit -n`".to_owned()),
            ),
            _ => (ErrorKind::Failed, None),
        };
        Self::new(kind, error).hints(hint)
    }
}

impl From<LocationError> for CommandError {
    fn from(error: LocationError) -> Self {
        let (kind, hint) = match &error {
            LocationError::Sftp => (
                ErrorKind::Usage,
                Some("a store can be any directory, for instance one that is mounted from elsewhere"),
            ),
            LocationError::WorkingDirectory(..) => (ErrorKind::Failed, None),
            _ => (ErrorKind::Usage, None),
        };
        Self::new(kind, error).hints(hint)
    }
}

impl From<PathError> for CommandError {
    fn from(error: PathError) -> Self {
        Self::new(ErrorKind::Usage, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_and_manual_name_every_code() {
        use ErrorKind::{Busy, Damaged, Failed, NoStore, Partial, Usage, WrongKey};

        let listed = HELP.split("\n\n").next().unwrap_or_default().replace('\n', " ");
        for kind in [Failed, Usage, Partial, NoStore, Busy, WrongKey, Damaged] {
            assert!(listed.contains(&format!("{} ", kind.code())), "{kind:?} is not in the help text");
            assert!(CODES.iter().any(|(code, _)| *code == kind.code()), "{kind:?} is not in the manual");
        }
    }

    #[test]
    fn codes_are_the_documented_ones() {
        let cases = [
            (RepoError::NoStore("/x".into()), 10),
            (RepoError::WrongKey("/x".into()), 12),
            (RepoError::NoCredential("/x".into()), 12),
            (RepoError::IngestOnly("db1".into()), 12),
            (RepoError::OtherHost { own: "db1".into(), asked: "db2".into() }, 12),
            (RepoError::OtherDomain("/x".into()), 12),
            (RepoError::Damaged { object: "pack 1".into(), source: None }, 13),
            (RepoError::NoSnapshot("x".into()), 1),
            (RepoError::OnlySuspicious { name: "latest:x".into(), newest: "y".into() }, 1),
            (RepoError::NoFreeMark("x".into()), 11),
            (RepoError::Store(StoreError::new(StoreErrorKind::NotAStore, "open", "/x".into(), None)), 10),
        ];
        for (error, code) in cases {
            let text = error.to_string();
            assert_eq!(CommandError::from(error).kind().code(), code, "{text}");
        }
    }
}
