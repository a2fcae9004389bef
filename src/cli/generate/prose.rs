//! What the page of the whole program says beyond its arguments.
//!
//! Empty lines part paragraphs, two spaces at the start of a line keep it as it is, backticks make text bold.

/// What the program is for.
pub(super) const DESCRIPTION: &str = "\
`yester` keeps versioned backups of file trees, streams and database dumps in a store: a directory that
`yester init` makes. Backups are cut into chunks, deduplicated, compressed and encrypted, and only what is
new is stored. Every backup is a snapshot, and whole. Snapshots can be mounted, listed, compared, restored
and verified at any time, also while others are being written; nothing in a store is ever overwritten.

The store and one of its keys are all that is needed to get everything back, on any machine.

Standard output carries data only. Everything for people goes to standard error.";

/// What holds for all commands.
pub(super) const SECTIONS: &[(&str, &str)] = &[
    (
        "STORES AND KEYS",
        "\
The store is named by `--store` or `YESTER_STORE`: a path, a `file://` or `s3://` URL, or the name of a store of
the configuration; where neither is given, the first one of the configuration is meant. Only `yester init` and
`yester copy` ever make one.

The key comes from the first of these that is there: `--key-file`; what the configuration says of the store;
`YESTER_KEY_FILE`; `YESTER_PASSPHRASE`; `YESTER_PASSPHRASE_FILE`; `YESTER_PASSPHRASE_COMMAND`; a prompt on the terminal. The recovery key that
`yester init` prints works wherever a passphrase does. A store without encryption is refused where a
passphrase or key is configured.",
    ),
    (
        "NAMES OF SNAPSHOTS",
        "\
Where a command wants a snapshot (SNAP), these name one:

  3fa92c11                       the beginning of its id, four digits at least
  latest:SOURCE                  the newest one of a source on this host
  latest:HOST/SOURCE             the newest one of a source on another host
  latest                         the newest one, where the store has a single series
  2026-11-21T06:59:52Z           its time
  2026-11-21T06-59-52Z-3fa92c11   its name in a mount",
    ),
];

/// The variables of the environment.
pub(super) const ENVIRONMENT: &[(&str, &str)] = &[
    ("YESTER_STORE", "The store, if `--store` is not given."),
    ("YESTER_CONFIG", "The configuration, if `--config` is not given."),
    ("YESTER_KEY_FILE", "The key file, if `--key-file` is not given."),
    ("YESTER_PASSPHRASE", "The passphrase itself."),
    ("YESTER_PASSPHRASE_FILE", "A file whose first line is the passphrase."),
    ("YESTER_PASSPHRASE_COMMAND", "A command for `sh -c` that prints the passphrase."),
    (
        "YESTER_LOG",
        "What is logged, in place of `-v` and `-q`: a level, or levels of modules, such as `yester::repo=debug`.",
    ),
    ("NO_COLOR", "If it is not empty, nothing is coloured."),
    (
        "CACHE_DIRECTORY, STATE_DIRECTORY",
        "The folders of caches and of state. systemd sets them for units with `CacheDirectory=` and \
         `StateDirectory=`.",
    ),
    ("XDG_CACHE_HOME, XDG_STATE_HOME", "For users other than root: where these folders lie, as `yester`."),
];

/// The files beside the store.
pub(super) const FILES: &[(&str, &str)] = &[
    (
        "/etc/yester/config.toml, ~/.config/yester/config.toml",
        "The configuration: of the machine, and of a user other than root, which counts first.",
    ),
    (
        "/var/cache/yester, ~/.cache/yester",
        "What this host knows of its stores, for root and for others. It may be deleted at any time, and is made \
         anew.",
    ),
    (
        "/var/lib/yester, ~/.local/state/yester",
        "What this host must remember: which stores it has seen, and the journal of its runs.",
    ),
    ("mount.log", "In the state folder: what went wrong in mounts that run in the background."),
];

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;
    use crate::cli::credentials::SECRET_VARIABLES;

    #[test]
    fn every_variable_of_an_option_is_explained() {
        let program = Cli::command();
        let helps =
            program.get_arguments().filter_map(|argument| argument.get_help().map(ToString::to_string));
        let taken: Vec<String> = helps
            .filter_map(|help| Some(help.split_once("[env: ")?.1.split_once(']')?.0.to_owned()))
            .collect();
        assert_eq!(taken, ["YESTER_STORE", "YESTER_KEY_FILE", "YESTER_CONFIG"]);
        for name in taken.iter().map(String::as_str).chain(SECRET_VARIABLES) {
            assert!(ENVIRONMENT.iter().any(|(explained, _)| *explained == name), "{name}");
        }
    }
}
