//! What `yester ingest` leaves out: the options, with the patterns in the order of the command line.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches, ValueHint, value_parser};

use crate::cli::exit::CommandError;
use crate::human;
use crate::ops::ingest::exclude::{ExcludeOptions, Marker, OtherFileSystems};
use crate::ops::patterns::{ExcludePatterns, ExcludePatternsBuilder};
use crate::path::Name;

/// Ids of the two arguments that give patterns.
const PATTERN: &str = "exclude";
const PATTERN_FILE: &str = "exclude_from";

/// Options that leave something out.
#[derive(Debug, Args)]
#[command(next_help_heading = "What is left out")]
pub(super) struct ExcludeArgs {
    #[command(flatten)]
    patterns: PatternArgs,
    /// Keep only CACHEDIR.TAG of directories that are marked as caches by it
    #[arg(long)]
    exclude_caches: bool,
    /// Of a directory that holds a NAME keep only that; may be repeated
    #[arg(long, value_name = "NAME")]
    exclude_if_present: Vec<OsString>,
    /// Leave out files of more bytes, as in 500M or 2G
    #[arg(long, value_name = "SIZE", value_parser = human::parse_bytes)]
    exclude_larger_than: Option<u64>,
    /// Keep other file systems below a PATH as empty directories
    #[arg(short = 'x', long)]
    one_file_system: bool,
}

impl ExcludeArgs {
    /// Tells whether any of them was given.
    pub(super) fn are_given(&self) -> bool {
        !self.patterns.0.is_empty()
            || self.exclude_caches
            || !self.exclude_if_present.is_empty()
            || self.exclude_larger_than.is_some()
            || self.one_file_system
    }

    /// Reads the files of patterns, and returns what is to be left out.
    pub(super) fn options(&self) -> Result<ExcludeOptions, CommandError> {
        let mut markers = Vec::new();
        if self.exclude_caches {
            markers.push(Marker::CacheTag);
        }
        for name in &self.exclude_if_present {
            markers.push(Marker::Named(Name::new(name.as_bytes())?));
        }
        Ok(ExcludeOptions {
            patterns: self.patterns.read()?,
            markers,
            larger_than_bytes: self.exclude_larger_than,
            other_file_systems: if self.one_file_system {
                OtherFileSystems::LeftOut
            } else {
                OtherFileSystems::Entered
            },
        })
    }
}

/// Patterns, and files of patterns, as they were given: the last one that matches decides, so that their order
/// counts. clap derives no order across two options.
#[derive(Debug, Clone, Default)]
struct PatternArgs(Vec<PatternArg>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum PatternArg {
    Pattern(OsString),
    File(PathBuf),
}

impl PatternArgs {
    fn read(&self) -> Result<ExcludePatterns, CommandError> {
        let mut builder = ExcludePatternsBuilder::default();
        for given in &self.0 {
            match given {
                PatternArg::Pattern(pattern) => builder.add("--exclude", pattern)?,
                PatternArg::File(path) => {
                    let shown = crate::path::escape(path.as_os_str().as_bytes());
                    let content = std::fs::read(path).map_err(|source| {
                        CommandError::io(format!("cannot read the patterns in {shown}"), source)
                    })?;
                    builder.add_lines(&shown, &content)?;
                }
            }
        }
        Ok(builder.finish()?)
    }
}

impl Args for PatternArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        command
            .arg(
                Arg::new(PATTERN)
                    .short('e')
                    .long("exclude")
                    .value_name("PATTERN")
                    .action(ArgAction::Append)
                    .value_parser(value_parser!(OsString))
                    .help("Leave out what matches, as in .gitignore; may be repeated"),
            )
            .arg(
                Arg::new(PATTERN_FILE)
                    .long("exclude-from")
                    .visible_alias("exclude-file")
                    .value_name("FILE")
                    .action(ArgAction::Append)
                    .value_parser(value_parser!(PathBuf))
                    .value_hint(ValueHint::FilePath)
                    .help("Take patterns from the lines of a file; may be repeated"),
            )
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for PatternArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let places = |id| matches.indices_of(id).into_iter().flatten();
        let patterns = matches.get_many::<OsString>(PATTERN).into_iter().flatten();
        let files = matches.get_many::<PathBuf>(PATTERN_FILE).into_iter().flatten();
        let mut given: Vec<(usize, PatternArg)> = places(PATTERN)
            .zip(patterns.map(|pattern| PatternArg::Pattern(pattern.clone())))
            .chain(places(PATTERN_FILE).zip(files.map(|file| PatternArg::File(file.clone()))))
            .collect();
        given.sort_by_key(|(place, _)| *place);
        Ok(Self(given.into_iter().map(|(_, argument)| argument).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::ErrorKind;

    fn parse(arguments: &[&str]) -> ExcludeArgs {
        let command = ExcludeArgs::augment_args(clap::Command::new("test").no_binary_name(true));
        ExcludeArgs::from_arg_matches(&command.try_get_matches_from(arguments).unwrap()).unwrap()
    }

    #[test]
    fn patterns_keep_the_order_of_the_command_line() {
        let pattern = |text: &str| PatternArg::Pattern(text.into());
        let file = |text: &str| PatternArg::File(text.into());
        let arguments = ["-e", "a", "--exclude-from", "1", "--exclude=b", "--exclude-file", "2", "-ec"];
        assert_eq!(
            parse(&arguments).patterns.0,
            [pattern("a"), file("1"), pattern("b"), file("2"), pattern("c")]
        );
        assert_eq!(parse(&[]).patterns.0, []);
    }

    #[test]
    fn a_wrong_pattern_is_named() {
        let error = parse(&["--exclude", "[a"]).options().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        let error = parse(&["--exclude-from", "/nonexistent/list"]).options().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
    }
}
