//! The command line: one file a command, its arguments and its function.
//!
//! Owns everything that touches terminal, environment and process: where the store and its key come from, what is
//! printed, and exit codes. What the commands do is owned by `ops`, `vfs` and `fuse`.

mod accept;
mod background;
mod cat;
mod config;
mod configuration;
mod context;
mod copy;
mod credentials;
mod diff;
mod entries;
mod exit;
mod export;
mod find;
mod folders;
mod forget;
mod gc;
mod generate;
mod ingest;
mod init;
mod key;
mod log;
mod logging;
mod ls;
mod mount;
mod mount_helper;
mod network;
mod output;
mod patterns;
mod place;
mod present;
mod process;
mod progress;
mod protect;
mod record;
mod repair;
mod report;
mod restore;
mod run;
mod schedule;
mod second;
mod select;
mod snapshots;
mod stats;
mod status;
mod systemd;
mod traffic;
mod umount;
mod verify;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use context::{Context, GlobalArgs};
use exit::CommandError;
use mount_helper::Call;

/// Versioned backups that mount. Mount yesterday.
#[derive(Debug, Parser)]
#[command(name = "yester", version, max_term_width = 100, propagate_version = false)]
#[command(subcommand_required = true, arg_required_else_help = true, after_help = exit::HELP)]
struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::InitArgs),
    Ingest(ingest::IngestArgs),
    Snapshots(snapshots::SnapshotsArgs),
    Ls(ls::LsArgs),
    Find(find::FindArgs),
    Log(log::LogArgs),
    Diff(diff::DiffArgs),
    Cat(cat::CatArgs),
    Export(export::ExportArgs),
    Restore(restore::RestoreArgs),
    Mount(mount::MountArgs),
    Umount(umount::UmountArgs),
    Verify(verify::VerifyArgs),
    Accept(accept::AcceptArgs),
    Forget(forget::ForgetArgs),
    Protect(protect::ProtectArgs),
    Gc(gc::GcArgs),
    Copy(copy::CopyArgs),
    Repair(repair::RepairArgs),
    Run(run::RunArgs),
    Report(report::ReportArgs),
    Status(status::StatusArgs),
    Stats(stats::StatsArgs),
    Schedule(schedule::ScheduleArgs),
    Config(config::ConfigArgs),
    Key(key::KeyArgs),
    Generate(generate::GenerateArgs),
}

/// Runs one command line, the program's name first, and returns its exit code: that of `mount(8)` where this is
/// how the program was called.
///
/// Errors are printed to standard error here, once, with what to do about them.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let code = match mount_helper::read(arguments.into_iter().collect()) {
        Ok(Call::Command(arguments)) => run_command(arguments),
        Ok(Call::Helper(arguments)) => mount_helper::exit_code(run_command(arguments)),
        Ok(Call::Rehearsal) => 0,
        Err(error) => mount_helper::exit_code(error.report()),
    };
    ExitCode::from(code)
}

fn run_command(arguments: Vec<OsString>) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // A closed standard output leaves nobody to tell.
            let _ = error.print();
            return if error.use_stderr() { exit::ErrorKind::Usage.code() } else { 0 };
        }
    };
    logging::start(&cli.global);
    match dispatch(cli) {
        Ok(()) => 0,
        Err(error) => error.report(),
    }
}

fn dispatch(cli: Cli) -> Result<(), CommandError> {
    let context = Context::new(cli.global)?;
    match cli.command {
        Command::Init(args) => init::run(&context, args),
        Command::Ingest(args) => ingest::run(&context, args),
        Command::Snapshots(args) => snapshots::run(&context, &args),
        Command::Ls(args) => ls::run(&context, &args),
        Command::Find(args) => find::run(&context, &args),
        Command::Log(args) => log::run(&context, &args),
        Command::Diff(args) => diff::run(&context, &args),
        Command::Cat(args) => cat::run(&context, &args),
        Command::Export(args) => export::run(&context, &args),
        Command::Restore(args) => restore::run(&context, &args),
        Command::Mount(args) => mount::run(&context, &args),
        Command::Umount(args) => umount::run(&context, &args),
        Command::Verify(args) => verify::run(&context, &args),
        Command::Accept(args) => accept::run(&context, &args),
        Command::Forget(args) => forget::run(&context, &args),
        Command::Protect(args) => protect::run(&context, &args),
        Command::Gc(args) => gc::run(&context, &args),
        Command::Copy(args) => copy::run(&context, &args),
        Command::Repair(args) => repair::run(&context, &args),
        Command::Report(args) => report::run(&context, &args),
        Command::Run(args) => run::run(&context, args),
        Command::Status(args) => status::run(&context, &args),
        Command::Stats(args) => stats::run(&context, &args),
        Command::Schedule(args) => schedule::run(&context, args),
        Command::Config(args) => config::run(&context, &args),
        Command::Key(args) => key::run(&context, &args),
        Command::Generate(args) => generate::run(&context, &args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
