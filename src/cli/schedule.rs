//! `yester schedule`: has this host start `yester run` when something is due.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::context::Context;
use super::exit::{CommandError, ErrorKind};
use super::output;
use crate::jobs::schedule::{self, Changes, Programs, ScheduleError, ScheduleOptions, Scheduler};

/// Have this host start `yester run` when something is due
#[derive(Debug, Args)]
#[command(after_help = "\
What is written follows from the configuration: install it again after a change of schedules,
stores or sources. Beside the runs, `yester status --alert` is started every 15 minutes; it
notices runs that do not come.

Examples:
  yester schedule show
  yester schedule install
  yester schedule install --cron --mail-to ops@example.com")]
pub(super) struct ScheduleArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Write and enable timers of systemd, or a file in /etc/cron.d
    #[command(after_help = "\
May be given again at any time. A file that is not from yester is never overwritten. Timers take
the place of the file for cron, and the other way round.

Example:
  yester schedule install --systemd")]
    Install {
        #[command(flatten)]
        how: HowArgs,
        #[command(flatten)]
        root: RootArgs,
    },
    /// Disable and remove what install wrote
    #[command(after_help = "Example:\n  yester schedule remove")]
    Remove {
        #[command(flatten)]
        root: RootArgs,
    },
    /// Print what install would write
    #[command(after_help = "Example:\n  yester schedule show --cron")]
    Show {
        #[command(flatten)]
        how: HowArgs,
    },
}

#[derive(Debug, Args)]
struct HowArgs {
    /// Timers of systemd [default where systemd runs]
    #[arg(long, conflicts_with = "cron")]
    systemd: bool,
    /// A file in /etc/cron.d [default where systemd does not run]
    #[arg(long)]
    cron: bool,
    /// Who gets mail from cron
    #[arg(long, value_name = "ADDRESS", default_value = "root")]
    mail_to: String,
}

#[derive(Debug, Args)]
struct RootArgs {
    /// The root folder of the host, for images that are prepared elsewhere
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

/// Shows, installs or removes what starts runs.
pub(super) fn run(context: &Context, args: ScheduleArgs) -> Result<(), CommandError> {
    match args.what {
        What::Install { how, root } => {
            let scheduler = how.scheduler(&root.root);
            let changes = schedule::install(scheduler, &options(context, how)?, &root.root, &mut Programs)?;
            for path in &changes.unchanged {
                context.tell(&format!("{} is so already", path.display()));
            }
            report(context, &changes)?;
            if !changes.active {
                context.tell(match scheduler {
                    Scheduler::Systemd => {
                        "systemd does not run here: enable yester-run.timer and yester-status.timer where it does"
                    }
                    Scheduler::Cron => "there is no cron here: install it, or nothing starts runs",
                });
            }
            Ok(())
        }
        What::Remove { root } => {
            let changes = schedule::remove(&root.root, &mut Programs)?;
            if changes.removed.is_empty() {
                context.tell("nothing was installed");
            }
            report(context, &changes)
        }
        What::Show { how } => show(context, how),
    }
}

fn show(context: &Context, how: HowArgs) -> Result<(), CommandError> {
    let scheduler = how.scheduler(Path::new("/"));
    let files = schedule::files(scheduler, &options(context, how)?)?;
    if context.json() {
        let documents: Vec<_> =
            files.iter().map(|file| json!({"path": file.path, "text": file.text})).collect();
        return output::print_json(&documents);
    }
    let texts: Vec<_> =
        files.iter().map(|file| format!("# {}\n{}", file.path.display(), file.text)).collect();
    output::print(&texts.join("\n"))
}

fn report(context: &Context, changes: &Changes) -> Result<(), CommandError> {
    for path in &changes.removed {
        context.tell(&format!("removed {}", path.display()));
    }
    for path in &changes.written {
        context.tell(&format!("wrote {}", path.display()));
    }
    if context.json() {
        let Changes { written, unchanged, removed, active } = changes;
        return output::print_json(
            &json!({"written": written, "unchanged": unchanged, "removed": removed, "active": active}),
        );
    }
    Ok(())
}

fn options(context: &Context, how: HowArgs) -> Result<ScheduleOptions, CommandError> {
    let config = context.configuration()?;
    let unknown = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| CommandError::io(format!("cannot tell where {what} is"), error)
    };
    let path = std::path::absolute(context.config_path()).map_err(unknown("the configuration"))?;
    let program = std::env::current_exe().map_err(unknown("this program"))?;
    Ok(ScheduleOptions::of(config, path, program, how.mail_to))
}

impl HowArgs {
    fn scheduler(&self, root: &Path) -> Scheduler {
        match (self.systemd, self.cron) {
            (true, _) => Scheduler::Systemd,
            (_, true) => Scheduler::Cron,
            _ => Scheduler::of_host(root),
        }
    }
}

impl From<ScheduleError> for CommandError {
    fn from(error: ScheduleError) -> Self {
        let kind = match error {
            ScheduleError::NothingScheduled
            | ScheduleError::Path(_)
            | ScheduleError::Credential(_)
            | ScheduleError::CredentialOfCron(_)
            | ScheduleError::MailTo(_)
            | ScheduleError::NoFolder(_) => ErrorKind::Usage,
            ScheduleError::Foreign(_) | ScheduleError::File { .. } | ScheduleError::Command { .. } => {
                ErrorKind::Failed
            }
        };
        Self::new(kind, error)
    }
}
