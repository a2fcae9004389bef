//! How a man page looks: the sections of one command, from its arguments and help texts.

use clap::{Arg, Command};
use roff::{Inline, Roff, bold, italic, roman};

use super::prose;
use crate::cli::exit;

/// Pages carry no date, so that the same version always gives the same bytes.
const NO_DATE: &str = "\"\"";

/// Returns the name of a command's page: `yester-ingest`.
pub(super) fn name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

/// Returns the page of `command`, which is `program` or one of its subcommands; both are built.
pub(super) fn render(program: &Command, command: &Command) -> String {
    let is_program = name(program) == name(command);
    let help = Help::parse(&command.get_after_help().map(ToString::to_string).unwrap_or_default());
    let mut page = Roff::new();
    let version = format!("yester {}", program.get_version().unwrap_or_default());
    let title = name(command).to_uppercase();
    page.control("TH", [title.as_str(), "1", NO_DATE, &version, "yester manual"]);
    // Options and paths are not to be hyphenated, nor examples stretched.
    page.control("nh", []).control("ad", ["l"]);
    section(&mut page, "NAME");
    page.text([roman(format!("{} - {}", name(command), about(command)))]);
    synopsis(&mut page, command);
    section(&mut page, "DESCRIPTION");
    if is_program {
        blocks(&mut page, &parse_blocks(prose::DESCRIPTION));
    } else {
        let mut description = parse_blocks(&long_about(command));
        description.extend(help.description);
        blocks(&mut page, &description);
    }
    commands(&mut page, command);
    arguments(&mut page, program, command);
    if is_program {
        named_sections(&mut page, prose::SECTIONS);
        table(&mut page, "ENVIRONMENT", prose::ENVIRONMENT);
        table(&mut page, "FILES", prose::FILES);
    }
    exit_status(&mut page);
    if !help.examples.is_empty() {
        section(&mut page, "EXAMPLES");
        blocks(&mut page, &help.examples);
    }
    see_also(&mut page, program, command);
    page.render()
}

/// A piece of text: filled by the reader's terminal, or left as it is.
#[derive(Debug, PartialEq, Eq)]
enum Block {
    Paragraph(String),
    Preformatted(Vec<String>),
}

/// What stands below the options in a help text.
#[derive(Debug, PartialEq, Eq)]
struct Help {
    description: Vec<Block>,
    examples: Vec<Block>,
}

impl Help {
    /// Parts a help text: everything from the line `Example:` or `Examples:` on are examples.
    fn parse(text: &str) -> Self {
        let is_heading = |line: &str| matches!(line, "Example:" | "Examples:");
        let lines: Vec<&str> = text.lines().collect();
        let end = lines.iter().position(|line| is_heading(line)).unwrap_or(lines.len());
        let (description, examples) = lines.split_at(end);
        Self {
            description: parse_blocks(&description.join("\n")),
            examples: parse_blocks(&examples.get(1..).unwrap_or_default().join("\n")),
        }
    }
}

/// Parts text into paragraphs, between empty lines, and into lines that are indented and stay as they are.
fn parse_blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut new_paragraph = true;
    for line in text.lines() {
        if line.trim().is_empty() {
            new_paragraph = true;
            continue;
        }
        match (line.strip_prefix("  "), blocks.last_mut()) {
            (Some(kept), Some(Block::Preformatted(lines))) => {
                if new_paragraph {
                    lines.push(String::new());
                }
                lines.push(kept.to_owned());
            }
            (Some(kept), _) => blocks.push(Block::Preformatted(vec![kept.to_owned()])),
            (None, Some(Block::Paragraph(paragraph))) if !new_paragraph => {
                paragraph.push('\n');
                paragraph.push_str(line);
            }
            (None, _) => blocks.push(Block::Paragraph(line.to_owned())),
        }
        new_paragraph = false;
    }
    blocks
}

fn section(page: &mut Roff, title: &str) {
    page.control("SH", [title]);
}

fn blocks(page: &mut Roff, blocks: &[Block]) {
    for (number, block) in blocks.iter().enumerate() {
        match block {
            Block::Paragraph(text) => {
                if number > 0 {
                    page.control("PP", []);
                }
                page.text(inlines(text));
            }
            Block::Preformatted(lines) => {
                // An empty line before it, but none between a heading and it.
                if number > 0 {
                    page.control("PP", []);
                }
                page.control("RS", ["4"]).control("EX", []);
                for line in lines {
                    page.text([roman(line)]);
                }
                // The end of an example switches hyphenation on again.
                page.control("EE", []).control("nh", []).control("RE", []);
            }
        }
    }
}

/// What stands between backticks is bold.
fn inlines(text: &str) -> Vec<Inline> {
    let part = |(number, part): (usize, &str)| if number % 2 == 0 { roman(part) } else { bold(part) };
    text.split('`').enumerate().map(part).collect()
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

/// Returns the whole first help text, with the full stop that clap takes away.
fn long_about(command: &Command) -> String {
    let mut text = command.get_long_about().map_or_else(|| about(command), ToString::to_string);
    if !text.ends_with('.') {
        text.push('.');
    }
    text
}

fn synopsis(page: &mut Roff, command: &Command) {
    section(page, "SYNOPSIS");
    let usage = command.clone().render_usage().to_string();
    let program = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let forms = usage.trim_start_matches("Usage:").lines().map(str::trim).filter(|form| !form.is_empty());
    for (number, form) in forms.enumerate() {
        if number > 0 {
            page.control("br", []);
        }
        match form.strip_prefix(program) {
            Some(rest) => page.text([bold(program), roman(rest)]),
            None => page.text([roman(form)]),
        };
    }
}

fn commands(page: &mut Roff, command: &Command) {
    let mut below = command.get_subcommands().filter(|below| !below.is_hide_set()).peekable();
    if below.peek().is_none() {
        return;
    }
    section(page, "COMMANDS");
    for command in below {
        page.control("TP", []);
        page.text([bold(name(command)), roman("(1)")]);
        page.text([roman(about(command))]);
    }
}

fn arguments(page: &mut Roff, program: &Command, command: &Command) {
    let all: Vec<&Arg> = command.get_arguments().filter(|argument| !argument.is_hide_set()).collect();
    let (globals, own): (Vec<&Arg>, Vec<&Arg>) =
        all.into_iter().partition(|argument| argument.is_global_set());
    let (positionals, options): (Vec<&Arg>, Vec<&Arg>) =
        own.into_iter().partition(|argument| argument.is_positional());
    for (title, arguments) in [("ARGUMENTS", positionals), ("OPTIONS", options)] {
        if !arguments.is_empty() {
            section(page, title);
            arguments.into_iter().for_each(|argument| describe(page, argument));
        }
    }
    section(page, "GLOBAL OPTIONS");
    if name(program) == name(command) {
        globals.into_iter().for_each(|argument| describe(page, argument));
        return;
    }
    page.text([roman("These are described in "), bold(name(program)), roman("(1):")]);
    let mut line = Vec::new();
    for (number, name) in globals.into_iter().filter_map(Arg::get_long).enumerate() {
        line.extend([roman(if number > 0 { ", " } else { "" }), bold(format!("--{name}"))]);
    }
    line.push(roman("."));
    page.text(line);
}

fn describe(page: &mut Roff, argument: &Arg) {
    page.control("TP", []);
    page.text(heading(argument));
    let help = argument.get_long_help().or_else(|| argument.get_help());
    let mut text = help.map(ToString::to_string).unwrap_or_default();
    if !text.is_empty() && !text.ends_with(['.', ']', ')']) {
        text.push('.');
    }
    page.text(inlines(&text));
    if takes_values(argument) {
        describe_values(page, argument);
    }
}

fn describe_values(page: &mut Roff, argument: &Arg) {
    let all = argument.get_possible_values();
    let values: Vec<_> = all.iter().filter(|value| !value.is_hide_set()).collect();
    let defaults: Vec<_> =
        argument.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    if !values.is_empty() {
        let names: Vec<_> = values.iter().map(|value| value.get_name()).collect();
        page.text([roman(format!("One of {}.", names.join(", ")))]);
    }
    if !defaults.is_empty() && !argument.is_hide_default_value_set() {
        page.text([roman("The default is "), bold(defaults.join(", ")), roman(".")]);
    }
    for value in values.iter().filter(|value| value.get_help().is_some()) {
        let help = value.get_help().map(ToString::to_string).unwrap_or_default();
        page.control("RS", []).control("TP", []);
        page.text([bold(value.get_name())]);
        page.text(inlines(&help));
        page.control("RE", []);
    }
}

fn takes_values(argument: &Arg) -> bool {
    argument.get_num_args().is_some_and(|range| range.takes_values())
}

fn heading(argument: &Arg) -> Vec<Inline> {
    if argument.is_positional() {
        return vec![italic(argument.to_string())];
    }
    let mut line = Vec::new();
    line.extend(argument.get_short().map(|short| bold(format!("-{short}"))));
    if let Some(long) = argument.get_long() {
        if !line.is_empty() {
            line.push(roman(", "));
        }
        line.push(bold(format!("--{long}")));
    }
    if takes_values(argument) {
        let names = argument.get_value_names().unwrap_or_default();
        let names = names.iter().map(|name| name.to_string()).collect::<Vec<_>>().join(" ");
        let may_be_absent = argument.get_num_args().is_some_and(|range| range.min_values() == 0);
        if may_be_absent {
            line.extend([roman("["), italic(format!("={names}")), roman("]")]);
        } else {
            line.extend([roman(" "), italic(names)]);
        }
    }
    line
}

fn named_sections(page: &mut Roff, sections: &[(&str, &str)]) {
    for (title, text) in sections {
        section(page, title);
        blocks(page, &parse_blocks(text));
    }
}

fn table(page: &mut Roff, title: &str, rows: &[(&str, &str)]) {
    section(page, title);
    for (term, text) in rows {
        page.control("TP", []);
        page.text([bold(*term)]);
        page.text(inlines(text));
    }
}

fn exit_status(page: &mut Roff) {
    section(page, "EXIT STATUS");
    for (code, meaning) in exit::CODES {
        page.control("TP", ["6"]);
        page.text([bold(code.to_string())]);
        page.text(inlines(meaning));
    }
}

fn see_also(page: &mut Roff, program: &Command, command: &Command) {
    let mut names: Vec<&str> =
        command.get_subcommands().filter(|below| !below.is_hide_set()).map(name).collect();
    if name(program) != name(command) {
        names.insert(0, name(program));
    }
    section(page, "SEE ALSO");
    let mut line = Vec::new();
    for (number, name) in names.iter().enumerate() {
        line.extend([roman(if number > 0 { ", " } else { "" }), bold(*name), roman("(1)")]);
    }
    page.text(line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_texts_fall_into_paragraphs_and_examples() {
        let help = Help::parse("One\ntwo.\n\nPatterns:\n  *.log\n  !a\n\nExamples:\n  a b\n\n  c\n");
        assert_eq!(
            help.description,
            [
                Block::Paragraph("One\ntwo.".into()),
                Block::Paragraph("Patterns:".into()),
                Block::Preformatted(vec!["*.log".into(), "!a".into()]),
            ]
        );
        assert_eq!(help.examples, [Block::Preformatted(vec!["a b".into(), String::new(), "c".into()])]);
    }

    #[test]
    fn examples_keep_their_lines() {
        let mut command = Command::new("p")
            .subcommand(Command::new("c").about("Do").after_help("Notes.\n\nExample:\n  a -x 'b'\n  .c\\d"));
        command.build();
        let below = command.get_subcommands().next().unwrap();
        let page = render(&command, below);
        let expected = ".EX\na \\-x \\*(Aqb\\*(Aq\n\\&.c\\\\d\n.EE\n.nh\n";
        assert!(page.contains(expected), "{page}");
    }

    #[test]
    fn options_show_values_and_defaults() {
        let long = Arg::new("level").short('l').long("level").value_name("N").default_value("3");
        let mut command = Command::new("p").arg(long.help("How hard"));
        command.build();
        let page = render(&command, &command);
        for part in ["\\fB\\-l\\fR, \\fB\\-\\-level\\fR \\fIN\\fR", "How hard.", "\\fB3\\fR"] {
            assert!(page.contains(part), "{part} is not in {page}");
        }
    }
}
