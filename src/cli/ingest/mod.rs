//! `yester ingest`: writes a backup of paths, of standard input, or of a command's output.

mod configured;
mod dump;
mod exclude;
mod input;
mod report;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;

use super::context::{Context, host_name, validate_label};
use super::exit::CommandError;
use super::process;
use super::record::Record;
use crate::dump::Treatment;
use crate::format::snapshot::Completeness;
use crate::fuse::list_mounts;
use crate::human;
use crate::journal::{RunEnd, RunOutcome};
use crate::ops::ingest::plan::plan;
use crate::ops::ingest::{IngestError, IngestOptions, IngestStats, Input, Protection, ingest};
use crate::progress::error_chain;
use crate::repo::session::Deltas;
use exclude::ExcludeArgs;

/// What copies of recent packs take on the disk, where the store is distant and nobody says otherwise.
const BASE_CACHE_BYTES: u64 = 2 << 30;

/// Back up files, standard input, or the output of a command
#[derive(Debug, Args)]
#[command(after_help = "\
A pattern with a `/` before its end is anchored at `/` of this host; any other matches a name at
any depth, with a `/` at its end a directory only. The last pattern that matches decides, and `!`
before it takes back in. A PATH itself is always taken: all this counts below it. There, these
are never taken: the store, yester's folders and mounts, and what the kernel makes up, as in
/proc and /sys.

The snapshot of a command is kept only if the command exits with 0 and wrote something. What
cannot be read, vanishes or changes meanwhile is named, and the rest is kept: exit code 3.
Nothing is kept if not one PATH can be read.

Dumps of pg_dump, MySQL, SQLite, Redis and MongoDB are recognised, and so are tar, gzip and zstd.
One that is cut short or damaged is kept as a suspicious snapshot, which is never `latest`: exit
code 3. In a piped `pg_dump -Fc`, the offsets are filled in that pg_restore -j needs; --verbatim
changes nothing.

Examples:
  yester ingest / -x --exclude-caches --exclude '/var/tmp/*' --exclude '*.iso'
  yester ingest /etc /home --source system --exclude-from /etc/yester.exclude --dry-run -v
  yester ingest --as shop.dump -- pg_dump -Fc -Z0 shop
  journalctl -o export | yester ingest --as journal")]
pub(super) struct IngestArgs {
    /// Files and directories
    #[arg(value_name = "PATH", conflicts_with = "stream_name")]
    #[arg(required_unless_present_any = ["stream_name", "files_from", "files_from0", "configured"])]
    paths: Vec<PathBuf>,
    /// Store standard input, or what CMD prints, as a file of this name
    #[arg(long = "as", value_name = "NAME", id = "stream_name")]
    stream_name: Option<OsString>,
    /// Back up what the configuration says of SOURCE
    #[arg(long, value_name = "SOURCE", conflicts_with_all = [
        "paths", "stream_name", "source", "host", "time", "files_from", "files_from0", "dry_run", "command",
    ])]
    configured: Option<String>,
    /// What this backs up [default: the name of --as, or the only PATH with `-` for `/`]
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// The host that this belongs to [default: this machine's name]
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Attach a tag; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Protect the snapshot, so that no rule of `yester forget` forgets it
    #[arg(long)]
    protect: bool,
    /// Say that this is how it was at TIME, such as 2026-11-21T05:31:06Z, not now: for older backups
    #[arg(long, value_name = "TIME", value_parser = human::parse_past_time)]
    time: Option<Timestamp>,
    /// Keep no snapshot of a stream or command that gave fewer bytes
    #[arg(long, value_name = "SIZE", value_parser = human::parse_bytes, default_value = "1")]
    min_size: u64,
    /// Take further PATHs from the lines of a file, byte for byte; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "stream_name")]
    files_from: Vec<PathBuf>,
    /// Likewise, with a zero byte after each PATH, as from `find -print0`
    #[arg(long, value_name = "FILE", conflicts_with = "stream_name")]
    files_from0: Vec<PathBuf>,
    /// Store a dump exactly as it comes: fill in nothing that pg_dump could not write into a pipe
    #[arg(long, requires = "stream_name")]
    verbatim: bool,
    /// Store nothing as a difference to what is similar
    #[arg(long)]
    no_delta: bool,
    /// Disk for copies of the packs written last: where the store is slow to read, store differences only to what
    /// is in them [default: 2G for a store over a network]
    #[arg(long, value_name = "SIZE", value_parser = human::parse_bytes, conflicts_with = "no_delta")]
    base_cache: Option<u64>,
    /// Say what would be backed up, and write nothing
    #[arg(short = 'n', long, conflicts_with = "stream_name")]
    dry_run: bool,
    /// The command, after `--`
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
    // Last: what follows would stand below its heading.
    #[command(flatten)]
    exclude: ExcludeArgs,
}

/// Writes a backup.
pub(super) fn run(context: &Context, args: IngestArgs) -> Result<(), CommandError> {
    let source = args.configured.as_deref().map(|name| configured::find(context, name)).transpose()?;
    let mut options = ingest_options(context, &args)?;
    let input = match source {
        Some(source) => configured::prepare(source, &mut options)?,
        None => input::input(&args)?,
    };
    if let Input::Paths(_) = input {
        // A command that is run would inherit that, and some cannot cope with it.
        process::raise_open_files();
    }
    let repo = context.open_as_writer(base_cache_bytes(context, &args)?)?;
    if args.host.is_none() && repo.is_ingest_only() {
        // Whatever this machine is called: the key speaks for one host.
        options.host.clone_from(&repo.writer().host);
    }
    repo.require_host(&options.host)?;
    let reporter = context.reporter();
    match &input {
        Input::Paths(paths) if args.dry_run => {
            let plan = plan(&repo, paths, &options, &reporter);
            reporter.finish();
            let plan = plan?;
            report::planned(context, &plan, &options)?;
            return if plan.failed == 0 { Ok(()) } else { Err(report::partial_plan(&plan)) };
        }
        _ => {}
    }
    let record = Record::begin(
        context,
        repo.config().store,
        &context.location()?.to_string(),
        "ingest",
        &options.source,
    );
    let stats = ingest(&repo, input, &options, &reporter);
    reporter.finish();
    record.measure(&repo, &context.location()?.to_string());
    record.finish(&run_end(&stats));
    let stats = stats?;
    report::done(context, &stats)?;
    match stats.manifest.completeness {
        Completeness::Complete => Ok(()),
        Completeness::Partial => Err(report::partial(&stats)),
        Completeness::Suspicious => Err(dump::suspicious(&stats)),
    }
}

/// Returns the bound for local copies of recent packs: from a store over a network, nothing is fetched for differences.
fn base_cache_bytes(context: &Context, args: &IngestArgs) -> Result<Option<u64>, CommandError> {
    let is_distant = context.location()?.is_distant();
    Ok(args.base_cache.or_else(|| (is_distant && !args.no_delta).then_some(BASE_CACHE_BYTES)))
}

/// Returns what the journal keeps of a run.
fn run_end(stats: &Result<IngestStats, IngestError>) -> RunEnd {
    match stats {
        Ok(stats) => RunEnd {
            outcome: match stats.manifest.completeness {
                Completeness::Complete => RunOutcome::Succeeded,
                Completeness::Partial => RunOutcome::Partial,
                Completeness::Suspicious => RunOutcome::Suspicious,
            },
            snapshot: Some(stats.manifest.id),
            bytes: stats.manifest.totals.bytes,
            added_bytes: stats.session.added_bytes,
            message: match stats.manifest.completeness {
                Completeness::Suspicious => dump::journal_message(&stats.dumps),
                Completeness::Complete | Completeness::Partial => {
                    stats.failures.first().cloned().unwrap_or_default()
                }
            },
        },
        Err(error) => RunEnd {
            outcome: RunOutcome::Failed,
            snapshot: match error {
                IngestError::NotProtected(id, _) => Some(*id),
                _ => None,
            },
            bytes: 0,
            added_bytes: 0,
            message: error_chain(error),
        },
    }
}

fn ingest_options(context: &Context, args: &IngestArgs) -> Result<IngestOptions, CommandError> {
    let host = match (&args.host, &args.configured) {
        (Some(host), _) => host.clone(),
        (None, Some(_)) => context.configured_host()?,
        (None, None) => host_name()?,
    };
    validate_label("host name", &host)?;
    let mut tags = args.tags.clone();
    tags.iter().try_for_each(|tag| validate_label("tag", tag))?;
    tags.sort();
    tags.dedup();
    Ok(IngestOptions {
        source: match &args.configured {
            Some(name) => name.clone(),
            None => input::source(args)?,
        },
        host,
        tags,
        time: args.time,
        protection: if args.protect { Protection::Protected } else { Protection::None },
        level: context.level(),
        threads: context.threads(),
        deltas: if args.no_delta { Deltas::Never } else { Deltas::WherePays },
        treatment: if args.verbatim { Treatment::Verbatim } else { Treatment::CheckAndComplete },
        // File trees that are named here may be empty.
        min_bytes: if args.stream_name.is_some() { args.min_size } else { 0 },
        left_out: left_out(context)?,
        exclude: args.exclude.options()?,
        list_mounts,
    })
}

/// Returns the folders of yester itself, which no backup holds.
fn left_out(context: &Context) -> Result<Vec<PathBuf>, CommandError> {
    let location = context.location()?;
    let folders = context.folders();
    let own = [location.directory(), Some(&folders.cache), Some(&folders.state)];
    Ok(own.into_iter().flatten().map(Path::to_path_buf).collect())
}
