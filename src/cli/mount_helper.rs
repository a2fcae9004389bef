//! Being called as `mount(8)` calls its helpers: from fstab, by autofs, by a systemd mount unit, or by hand.
//!
//! ```text
//! mount.fuse runs:    yester STORE MOUNTPOINT -o OPTIONS
//! mount runs:         mount.yester STORE MOUNTPOINT [-sfnv] [-o OPTIONS] [-t TYPE]      (or mount.fuse.yester)
//! ```
//!
//! Such a call becomes the arguments of `yester mount`, so that everything below it is the same. What fstab says
//! to others, or what holds for this mount anyway, is passed over; what nobody knows is refused by name.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::exit::{CommandError, ErrorKind};

/// Options of ours, in the spelling of the command line.
const WITH_VALUE: [&str; 9] = [
    "key-file",
    "passphrase-file",
    "snapshot",
    "for",
    "cache-size",
    "threads",
    "connections",
    "limit-download",
    "store-timeout",
];
const FLAGS: [&str; 2] = ["allow-other", "ignore-permissions"];

/// Options that mean nothing here: they are for `mount(8)` or systemd, or the mount is so in any case. It stays
/// read-only under `rw`, which `mount(8)` adds to every line that does not say `ro`.
const PASSED_OVER: [&str; 41] = [
    "async",
    "atime",
    "auto",
    "comment",
    "default-permissions",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "group",
    "helper",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "-netdev",
    "noatime",
    "noauto",
    "nodev",
    "nodiratime",
    "nofail",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nouser",
    "owner",
    "relatime",
    "ro",
    "rw",
    "silent",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "uhelper",
    "user",
    "users",
    "nosymfollow",
];

/// `mount(8)`: incorrect invocation.
const MOUNT_USAGE: u8 = 1;
/// `mount(8)`: mount failure.
const MOUNT_FAILURE: u8 = 32;

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// A command of ours, as it stands.
    Command(Vec<OsString>),
    /// A mount by `mount(8)`, as a command of ours.
    Helper(Vec<OsString>),
    /// A rehearsal (`mount -f`): all is well with the options, and nothing is to be done.
    Rehearsal,
}

/// Reads a command line, the program's name first. Errors are those of a helper.
pub(super) fn read(arguments: Vec<OsString>) -> Result<Call, CommandError> {
    let is_helper = arguments.first().is_some_and(|program| names_a_helper(program));
    if is_helper || has_the_shape(&arguments) {
        Request::parse(arguments.into_iter().skip(1))?.translate()
    } else {
        Ok(Call::Command(arguments))
    }
}

/// Returns the arguments of this process, without the program's name, in which a helper's are translated.
pub(super) fn own_arguments() -> Vec<OsString> {
    match read(std::env::args_os().collect()) {
        Ok(Call::Command(arguments) | Call::Helper(arguments)) => arguments.into_iter().skip(1).collect(),
        Ok(Call::Rehearsal) | Err(_) => Vec::new(),
    }
}

/// Returns what `mount(8)` understands of an exit code of ours.
pub(super) fn exit_code(code: u8) -> u8 {
    match code {
        0 => 0,
        code if code == ErrorKind::Usage.code() => MOUNT_USAGE,
        _ => MOUNT_FAILURE,
    }
}

fn names_a_helper(program: &OsStr) -> bool {
    let name = Path::new(program).file_name().unwrap_or_default();
    name == "mount.yester" || name == "mount.fuse.yester"
}

/// No command holds a `/`, and a store and a mount point nearly always do.
fn has_the_shape(arguments: &[OsString]) -> bool {
    let is_place = |argument: &OsString| {
        let bytes = argument.as_bytes();
        bytes.contains(&b'/') && !bytes.starts_with(b"-")
    };
    matches!(arguments, [_, store, mountpoint, ..] if is_place(store) && is_place(mountpoint))
}

/// A call by `mount(8)`, taken apart.
#[derive(Debug, Default)]
struct Request {
    places: Vec<OsString>,
    options: Vec<Vec<u8>>,
    /// `-s`: unknown options are passed over.
    sloppy: bool,
    /// `-f`: nothing is mounted.
    rehearsal: bool,
    /// `-v`: people want to read more.
    verbose: bool,
}

impl Request {
    fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, CommandError> {
        let mut request = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_bytes() {
                [b'-', letters @ ..] if !letters.is_empty() => request.letters(letters, &mut arguments)?,
                _ => request.places.push(argument),
            }
        }
        Ok(request)
    }

    /// Reads a cluster of option letters; the value of one that has a value ends it.
    fn letters(
        &mut self,
        letters: &[u8],
        arguments: &mut impl Iterator<Item = OsString>,
    ) -> Result<(), CommandError> {
        let mut letters = letters.iter();
        while let Some(letter) = letters.next() {
            match letter {
                b's' => self.sloppy = true,
                b'f' => self.rehearsal = true,
                b'v' => self.verbose = true,
                b'n' | b'r' | b'w' => {}
                b'o' | b't' | b'N' => {
                    let attached = letters.as_slice();
                    let value = match attached {
                        [] => arguments.next().map(OsString::into_vec).unwrap_or_default(),
                        attached => attached.to_vec(),
                    };
                    if *letter == b'o' {
                        self.options.extend(split(&value));
                    }
                    return Ok(());
                }
                other => {
                    let option = crate::path::escape(&[*other]);
                    return Err(wrong_call(format!("a mount has no option -{option}")));
                }
            }
        }
        Ok(())
    }

    /// Returns the call as `yester mount`.
    fn translate(self) -> Result<Call, CommandError> {
        let [store, mountpoint] = self.places.as_slice() else {
            return Err(wrong_call("a mount needs a store and a mount point".to_owned())
                .hint("mount -t fuse.yester STORE MOUNTPOINT -o OPTIONS"));
        };
        let mut arguments: Vec<OsString> = ["yester", "mount"].map(OsString::from).into();
        arguments.push(with_value("store", store.as_bytes()));
        arguments.push(if self.verbose { "--verbose" } else { "--terse" }.into());
        let mut noexec = false;
        for option in &self.options {
            match Meaning::of(option)? {
                Meaning::Argument(argument) => arguments.push(argument),
                Meaning::Exec => noexec = false,
                Meaning::NoExec => noexec = true,
                Meaning::Nothing => {}
                Meaning::Unknown if self.sloppy => {}
                Meaning::Unknown => return Err(unknown(option)),
            }
        }
        if noexec {
            arguments.push("--noexec".into());
        }
        arguments.push("--".into());
        arguments.push(mountpoint.clone());
        Ok(if self.rehearsal { Call::Rehearsal } else { Call::Helper(arguments) })
    }
}

/// What one option of `-o` means.
enum Meaning {
    /// This argument of `yester mount`.
    Argument(OsString),
    /// Programs may be run; the last word on this counts.
    Exec,
    /// Programs may not be run.
    NoExec,
    /// Nothing to us.
    Nothing,
    /// Nothing to anybody.
    Unknown,
}

impl Meaning {
    /// Both `_` and `-` are right, as in `allow_other` and `key-file`.
    fn of(option: &[u8]) -> Result<Self, CommandError> {
        let (name, value) = match option.iter().position(|byte| *byte == b'=') {
            Some(at) => {
                let (name, rest) = option.split_at(at);
                (name, rest.get(1..))
            }
            None => (option, None),
        };
        let name = String::from_utf8_lossy(name).replace('_', "-");
        let name = name.as_str();
        Ok(match value {
            Some(value) if WITH_VALUE.contains(&name) => Self::Argument(with_value(name, &plain(value))),
            None if WITH_VALUE.contains(&name) => {
                let message = format!("the mount option {name:?} needs a value");
                return Err(wrong_call(message).hint(format!("write {name}=VALUE")));
            }
            None if FLAGS.contains(&name) => Self::Argument(format!("--{name}").into()),
            None if name == "exec" => Self::Exec,
            None if name == "noexec" => Self::NoExec,
            _ if PASSED_OVER.contains(&name) || is_comment(name) => Self::Nothing,
            _ => Self::Unknown,
        })
    }
}

/// `x-systemd.automount`, `X-mount.mkdir` and the like are for others.
fn is_comment(name: &str) -> bool {
    name.starts_with("x-") || name.starts_with("X-")
}

fn with_value(name: &str, value: &[u8]) -> OsString {
    let mut argument = OsString::from(format!("--{name}="));
    argument.push(OsStr::from_bytes(value));
    argument
}

/// Splits options at commas, as `mount(8)` does: not inside of double quotes, and not behind a backslash.
fn split(options: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = vec![Vec::new()];
    let (mut quoted, mut before) = (false, 0);
    for byte in options {
        quoted ^= *byte == b'"';
        match parts.last_mut() {
            Some(part) if *byte != b',' || quoted || before == b'\\' => part.push(*byte),
            _ => parts.push(Vec::new()),
        }
        before = *byte;
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// Returns a value without the quotes around it and the backslashes before commas.
fn plain(value: &[u8]) -> Vec<u8> {
    if let [b'"', inner @ .., b'"'] = value {
        return inner.to_vec();
    }
    let escapes = |at: usize| value.get(at) == Some(&b'\\') && value.get(at + 1) == Some(&b',');
    value.iter().enumerate().filter(|(at, _)| !escapes(*at)).map(|(_, byte)| *byte).collect()
}

fn unknown(option: &[u8]) -> CommandError {
    let known: Vec<_> = WITH_VALUE.iter().map(|name| format!("{name}=")).collect();
    wrong_call(format!("the mount option \"{}\" is not known", crate::path::escape(option)))
        .hint(format!("besides those of mount(8) there are {}", known.join(", ")))
        .hint(format!("and, without a value, {}", FLAGS.join(", ")))
}

fn wrong_call(message: String) -> CommandError {
    CommandError::usage(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &[&str]) -> Result<Call, CommandError> {
        read(line.iter().map(OsString::from).collect())
    }

    fn translated(line: &[&str]) -> Vec<String> {
        match call(line).unwrap() {
            Call::Helper(arguments) => {
                arguments.into_iter().map(|word| word.into_string().unwrap()).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Returns what options become, or the message that refuses them.
    fn options(text: &str) -> Result<Vec<String>, String> {
        match call(&["yester", "/store", "/mnt", "-o", text]) {
            Ok(Call::Helper(words)) => {
                let words: Vec<_> = words.into_iter().map(|word| word.into_string().unwrap()).collect();
                Ok(words[4..words.len() - 2].to_vec())
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(format!("{error:?}")),
        }
    }

    #[test]
    fn a_helper_is_known_by_its_name_or_its_shape() {
        let expected = ["yester", "mount", "--store=/srv/b", "--terse", "--", "/mnt"];
        for line in [
            &["yester", "/srv/b", "/mnt"][..],
            &["/sbin/mount.yester", "/srv/b", "/mnt", "-o", "rw"],
            &["mount.fuse.yester", "/srv/b", "/mnt", "-n", "-o", "ro", "-t", "fuse.yester"],
            &["mount.yester", "-sn", "/srv/b", "-oro,auto", "/mnt"],
        ] {
            assert_eq!(translated(line), expected, "{line:?}");
        }
        for line in [
            &["yester"][..],
            &["yester", "mount", "/mnt"],
            &["yester", "cat", "latest", "/etc/hosts"],
            &["yester", "/srv/b"],
            &["yester", "--store=/srv/b", "/mnt"],
        ] {
            let words = line.iter().map(OsString::from).collect();
            assert_eq!(call(line).unwrap(), Call::Command(words));
        }
    }

    #[test]
    fn a_call_without_two_places_is_refused() {
        for line in [&["mount.yester"][..], &["mount.yester", "/a"], &["mount.yester", "/a", "/b", "/c"]] {
            assert_eq!(call(line).unwrap_err().kind(), ErrorKind::Usage, "{line:?}");
        }
        assert!(call(&["yester", "/a", "/b", "-x"]).is_err());
    }

    #[test]
    fn what_fstab_says_to_others_is_passed_over() {
        let fstab =
            "rw,noatime,dev,suid,user,nofail,_netdev,x-systemd.automount,X-mount.mkdir,comment=a b,user=x";
        assert_eq!(options(fstab).unwrap(), [""; 0]);
        assert_eq!(options("").unwrap(), [""; 0]);
    }

    #[test]
    fn options_have_two_spellings() {
        let expected = ["--allow-other", "--key-file=/k", "--ignore-permissions", "--cache-size=1G"];
        for text in [
            "allow_other,key_file=/k,ignore_permissions,cache_size=1G",
            "allow-other,,key-file=/k,rw,ignore-permissions,cache-size=1G",
        ] {
            assert_eq!(options(text).unwrap(), expected);
        }
        let rest = "for=postgres,snapshot=latest:etc,threads=3,passphrase-file=/p q";
        let expected = ["--for=postgres", "--snapshot=latest:etc", "--threads=3", "--passphrase-file=/p q"];
        assert_eq!(options(rest).unwrap(), expected);
    }

    #[test]
    fn values_may_hold_commas() {
        for text in ["rw,key-file=\"/a,b\",ro", "key-file=/a\\,b"] {
            assert_eq!(options(text).unwrap(), ["--key-file=/a,b"]);
        }
        assert_eq!(options("key-file=/a=b\\c").unwrap(), ["--key-file=/a=b\\c"]);
    }

    #[test]
    fn the_last_word_on_execution_counts() {
        assert_eq!(options("user,noexec").unwrap(), ["--noexec"]);
        assert_eq!(options("noexec,exec").unwrap(), [""; 0]);
    }

    #[test]
    fn unknown_options_are_refused_by_name() {
        for text in ["frobnicate", "allow_other=1", "ro,frobnicate=2", "allow_others"] {
            let refused = options(text).unwrap_err();
            assert!(refused.contains("is not known") && refused.contains("allow-other"), "{refused}");
        }
        assert!(options("key-file").unwrap_err().contains("needs a value"));
        assert!(call(&["yester", "/s", "/m", "-s", "-o", "frobnicate"]).is_ok());
    }

    #[test]
    fn a_rehearsal_checks_and_does_nothing() {
        assert_eq!(call(&["mount.yester", "/s", "/m", "-f"]).unwrap(), Call::Rehearsal);
        assert!(call(&["mount.yester", "/s", "/m", "-f", "-o", "frobnicate"]).is_err());
    }

    #[test]
    fn names_that_are_not_utf8_arrive_whole() {
        let raw = OsString::from_vec(b"key-file=/\xff".to_vec());
        let line = ["yester", "/s", "/m", "-o"].map(OsString::from).into_iter().chain([raw]);
        let Call::Helper(words) = read(line.collect()).unwrap() else { panic!("no helper") };
        assert!(words.contains(&OsString::from_vec(b"--key-file=/\xff".to_vec())));
    }

    #[test]
    fn exit_codes_are_those_of_mount() {
        assert_eq!([0, 1, 2, 10, 11, 13].map(exit_code), [0, 32, 1, 32, 32, 32]);
    }
}
