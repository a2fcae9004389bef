//! `yester ingest`: writes a backup of paths, of standard input, or of a command's output.

use std::ffi::OsString;
use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use clap::Args;

use super::context::{Context, host_name, validate_label};
use super::exit::{CommandError, ErrorKind};
use super::record::Record;
use super::{human, output, snapshots};
use crate::format::snapshot::{Completeness, is_source_name};
use crate::journal::{RunEnd, RunOutcome};
use crate::ops::ingest::{IngestError, IngestOptions, IngestStats, Input, ingest};
use crate::path::Name;
use crate::progress::error_chain;

/// Back up files, standard input, or the output of a command
#[derive(Debug, Args)]
#[command(after_help = "\
The snapshot of a command is kept only if the command exits with 0 and wrote something. Files that
cannot be read are named, and the rest is kept: exit code 3.

Examples:
  yester ingest /etc /home --source system
  yester ingest --as shop.dump -- pg_dump -Fc -Z0 shop
  journalctl -o export | yester ingest --as journal")]
pub(super) struct IngestArgs {
    /// Files and directories
    #[arg(value_name = "PATH", conflicts_with = "stream_name", required_unless_present = "stream_name")]
    paths: Vec<PathBuf>,
    /// Store standard input, or what CMD prints, as a file of this name
    #[arg(long = "as", value_name = "NAME", id = "stream_name")]
    stream_name: Option<OsString>,
    /// What this backs up [default: the name of --as, or the only PATH with `-` for `/`]
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// The host that this belongs to [default: this machine's name]
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Attach a tag; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Keep no snapshot of a stream or command that gave fewer bytes
    #[arg(long, value_name = "SIZE", value_parser = human::parse_bytes, default_value = "1")]
    min_size: u64,
    /// The command, after `--`
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Writes a backup.
pub(super) fn run(context: &Context, args: IngestArgs) -> Result<(), CommandError> {
    let options = ingest_options(context, &args)?;
    let input = input(args)?;
    let repo = context.open()?;
    let reporter = context.reporter();
    let record = Record::begin(context, repo.config().store, "ingest", &options.source);
    let stats = ingest(&repo, input, &options, &reporter);
    reporter.finish();
    record.finish(&run_end(&stats));
    let stats = stats?;
    report(context, &stats)?;
    match stats.manifest.completeness {
        Completeness::Complete | Completeness::Suspicious => Ok(()),
        Completeness::Partial => Err(partial(&stats)),
    }
}

/// Returns what the journal keeps of a run.
fn run_end(stats: &Result<IngestStats, IngestError>) -> RunEnd {
    match stats {
        Ok(stats) => RunEnd {
            outcome: match stats.manifest.completeness {
                Completeness::Complete => RunOutcome::Succeeded,
                Completeness::Partial | Completeness::Suspicious => RunOutcome::Partial,
            },
            snapshot: Some(stats.manifest.id),
            bytes: stats.manifest.totals.bytes,
            added_bytes: stats.session.added_bytes,
            message: stats.failures.first().cloned().unwrap_or_default(),
        },
        Err(error) => RunEnd {
            outcome: RunOutcome::Failed,
            snapshot: None,
            bytes: 0,
            added_bytes: 0,
            message: error_chain(error),
        },
    }
}

fn ingest_options(context: &Context, args: &IngestArgs) -> Result<IngestOptions, CommandError> {
    let source = match &args.source {
        Some(source) => source.clone(),
        None => default_source(args)?,
    };
    validate_source(&source)?;
    let host = match &args.host {
        Some(host) => host.clone(),
        None => host_name()?,
    };
    validate_label("host name", &host)?;
    let mut tags = args.tags.clone();
    tags.iter().try_for_each(|tag| validate_label("tag", tag))?;
    tags.sort();
    tags.dedup();
    Ok(IngestOptions {
        source,
        host,
        tags,
        level: context.level(),
        threads: context.threads(),
        min_bytes: args.min_size,
        left_out: vec![
            context.location()?.path().to_owned(),
            context.folders().cache.clone(),
            context.folders().state.clone(),
        ],
    })
}

fn input(args: IngestArgs) -> Result<Input, CommandError> {
    let Some(name) = args.stream_name else {
        if !args.command.is_empty() {
            return Err(CommandError::usage("a command needs a name for what it prints")
                .hint("yester ingest --as NAME -- CMD"));
        }
        let paths = args.paths.iter().map(|path| absolute(path)).collect::<Result<_, _>>()?;
        return Ok(Input::Paths(paths));
    };
    let name = Name::new(name.as_bytes())?;
    if !args.command.is_empty() {
        return Ok(Input::Command { name, argv: args.command });
    }
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(CommandError::usage("standard input is a terminal, and nothing is piped in")
            .hint("pipe something in, or give a command: yester ingest --as NAME -- CMD"));
    }
    let file = stdin.as_fd().try_clone_to_owned().map(File::from);
    let reader = file.map_err(|source| CommandError::io("cannot read standard input", source))?;
    Ok(Input::Stream { name, reader: Box::new(reader) })
}

/// Symbolic links stay as they are; only where `..` climbs out of one does the system have to say where to.
fn absolute(path: &Path) -> Result<PathBuf, CommandError> {
    let climbs = path.components().any(|component| component == Component::ParentDir);
    let found = if climbs { path.canonicalize() } else { std::path::absolute(path) };
    found.map_err(|source| CommandError::io(format!("cannot find {}", path.display()), source))
}

fn default_source(args: &IngestArgs) -> Result<String, CommandError> {
    let derived = match (&args.stream_name, args.paths.as_slice()) {
        (Some(name), _) => name.to_string_lossy().into_owned(),
        (None, [path]) => {
            let path = absolute(path)?.to_string_lossy().trim_matches('/').replace('/', "-");
            if path.is_empty() { "root".to_owned() } else { path }
        }
        (None, _) => {
            return Err(CommandError::usage("several paths need a name for what they back up")
                .hint("give --source NAME"));
        }
    };
    if is_source_name(&derived) {
        return Ok(derived);
    }
    Err(CommandError::usage(format!(
        "no name of a source follows from {:?}",
        crate::path::escape(derived.as_bytes())
    ))
    .hint("give --source NAME, made of letters, digits, `.`, `_` and `-`"))
}

fn validate_source(source: &str) -> Result<(), CommandError> {
    if is_source_name(source) {
        return Ok(());
    }
    Err(CommandError::usage(format!("{source:?} is not a valid name of a source"))
        .hint("letters, digits, `.`, `_` and `-`, at most 100, and neither `.` nor `..`"))
}

fn report(context: &Context, stats: &IngestStats) -> Result<(), CommandError> {
    for failure in &stats.failures {
        output::tell(&format!("not backed up: {failure}"));
    }
    summarise(context, stats);
    if !context.json() {
        return Ok(());
    }
    let mut document = snapshots::document(&stats.manifest);
    document.insert("new_chunks".to_owned(), stats.session.new_chunks.into());
    document.insert("packs".to_owned(), stats.session.packs.into());
    document.insert("elapsed_seconds".to_owned(), stats.elapsed.as_secs_f64().into());
    document.insert("peak_memory_bytes".to_owned(), peak_memory_bytes().into());
    document.insert("failures".to_owned(), stats.failures.clone().into());
    output::print_json(&document)
}

fn summarise(context: &Context, stats: &IngestStats) {
    let manifest = &stats.manifest;
    let totals = &manifest.totals;
    context.tell(&format!(
        "snapshot {} of {} on {}, {}",
        manifest.id.short(),
        manifest.source,
        manifest.host,
        human::time(manifest.time)
    ));
    context.tell(&format!(
        "  {}, {}: {} new, {} stored",
        human::counted(totals.files, "file"),
        human::bytes(totals.bytes),
        human::bytes(stats.session.added_bytes),
        human::bytes(stats.session.stored_bytes)
    ));
    let memory =
        peak_memory_bytes().map(|bytes| format!(", peak memory {}", human::bytes(bytes))).unwrap_or_default();
    context.tell(&format!(
        "  {}, {}{memory}",
        human::duration(stats.elapsed),
        human::rate(totals.bytes, stats.elapsed)
    ));
}

fn partial(stats: &IngestStats) -> CommandError {
    CommandError::message(
        ErrorKind::Partial,
        format!(
            "{} could not be backed up; snapshot {} holds the rest",
            human::counted(stats.failed, "file"),
            stats.manifest.id.short()
        ),
    )
}

/// Returns the most memory this process had at once, where the system tells.
fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_plain_words() {
        for good in ["shop", "shop.dump", "etc-ssh", "A_1", "..."] {
            assert!(validate_source(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "ä", &"x".repeat(256)] {
            assert!(validate_source(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_become_absolute_without_following_links() {
        assert_eq!(absolute(Path::new("/etc/./ssh/")).unwrap(), Path::new("/etc/ssh"));
        assert_eq!(absolute(Path::new("/usr/../")).unwrap(), Path::new("/"));
        assert!(absolute(Path::new("x")).unwrap().is_absolute());
    }

    #[test]
    fn this_process_uses_some_memory() {
        assert!(peak_memory_bytes().unwrap() > 1 << 20);
    }
}
