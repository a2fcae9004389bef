//! `yester generate`: man pages and shell completions, made from the command line itself.
//!
//! `scripts/install` and packagers call it. How a page looks is owned by `page`, what no argument says by `prose`.

mod page;
mod prose;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory, Subcommand, ValueEnum, ValueHint};
use clap_complete::{Shell, generate};

use super::context::Context;
use super::exit::CommandError;
use super::output;
use crate::human;

/// Write man pages or shell completions
#[derive(Debug, Args)]
#[command(after_help = "\
scripts/install puts both where the system looks for them.

Examples:
  yester generate man /usr/local/share/man/man1
  source <(yester generate completions bash)")]
pub(super) struct GenerateArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Write a man page for every command
    #[command(after_help = "Example:\n  yester generate man /tmp/man && man /tmp/man/yester.1")]
    Man {
        /// The directory to write them to; it is made where there is none
        #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
        folder: PathBuf,
    },
    /// Write the completions of a shell to standard output
    #[command(after_help = "\
Example:
  yester generate completions fish > ~/.config/fish/completions/yester.fish")]
    Completions {
        /// The shell
        #[arg(value_name = "SHELL", value_enum)]
        shell: KnownShell,
    },
}

/// A shell whose completions are tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KnownShell {
    Bash,
    Zsh,
    Fish,
}

/// Writes what is asked for.
pub(super) fn run(context: &Context, args: &GenerateArgs) -> Result<(), CommandError> {
    match &args.what {
        What::Man { folder } => write_man_pages(context, folder),
        What::Completions { shell } => print_completions(*shell),
    }
}

fn write_man_pages(context: &Context, folder: &Path) -> Result<(), CommandError> {
    let fail = |path: &Path, source| {
        CommandError::io(format!("cannot write man pages to {}", path.display()), source)
    };
    fs::create_dir_all(folder).map_err(|source| fail(folder, source))?;
    let mut written = 0;
    for (name, text) in man_pages() {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|source| fail(&path, source))?;
        written += 1;
    }
    context.tell(&format!("wrote {} to {}", human::counted(written, "man page"), folder.display()));
    Ok(())
}

/// Returns the page of every command, with the name of its file.
fn man_pages() -> Vec<(String, String)> {
    let mut program = super::Cli::command().disable_help_subcommand(true);
    program.build();
    let mut pages = Vec::new();
    let mut waiting = vec![&program];
    while let Some(command) = waiting.pop() {
        waiting.extend(command.get_subcommands().filter(|below| !below.is_hide_set()));
        pages.push((format!("{}.1", page::name(command)), page::render(&program, command)));
    }
    pages
}

fn print_completions(shell: KnownShell) -> Result<(), CommandError> {
    let shell = match shell {
        KnownShell::Bash => Shell::Bash,
        KnownShell::Zsh => Shell::Zsh,
        KnownShell::Fish => Shell::Fish,
    };
    // The generator writes piece by piece and panics where it cannot: only memory never refuses.
    let mut text = Vec::new();
    let mut program: Command = super::Cli::command();
    generate(shell, &mut program, "yester", &mut text);
    let mut out = std::io::stdout().lock();
    out.write_all(&text).and_then(|()| out.flush()).or_else(output::forgive_closed_pipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let pages = man_pages();
        let names: Vec<_> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for command in super::super::Cli::command().get_subcommands() {
            let name = format!("yester-{}.1", command.get_name());
            assert!(names.contains(&name.as_str()), "{name} is not among {names:?}");
        }
        assert!(names.contains(&"yester.1") && names.contains(&"yester-generate-man.1"), "{names:?}");
    }

    #[test]
    fn pages_name_every_option_of_their_command() {
        for command in super::super::Cli::command().get_subcommands() {
            let name = format!("yester-{}.1", command.get_name());
            let (_, page) = man_pages().into_iter().find(|(found, _)| *found == name).unwrap();
            let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
            for option in shown.filter_map(|argument| argument.get_long()) {
                let escaped = format!("\\-\\-{}", option.replace('-', "\\-"));
                assert!(page.contains(&escaped), "{name} does not name --{option}");
            }
        }
    }
}
