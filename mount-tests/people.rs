//! What people meet around the program: its installation, its manual, its completions, and its messages.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Lab, Need, Ran, YESTER, can, succeed};

/// An installation of the binary under test below a folder of the laboratory.
struct Installed {
    lab: Lab,
}

impl Installed {
    fn new() -> Self {
        let installed = Self { lab: Lab::empty() };
        installed.script(&["--binary", YESTER]).succeeds();
        installed
    }

    fn script(&self, arguments: &[&str]) -> Ran {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/install");
        Ran::of(Command::new(script).arg("--destdir").arg(self.lab.path("root")).args(arguments))
    }

    fn path(&self, below: &str) -> PathBuf {
        self.lab.path("root").join(below)
    }

    fn pages(&self) -> Vec<PathBuf> {
        let folder = fs::read_dir(self.path("usr/local/share/man/man1")).unwrap();
        folder.map(|entry| entry.unwrap().path()).collect()
    }

    /// Returns everything that is no directory, as paths from the root, sorted.
    fn files(&self) -> Vec<String> {
        let root = self.lab.path("root");
        let found = succeed(Command::new("find").arg(&root).args(["!", "-type", "d", "-printf", "%P\n"]));
        let mut files: Vec<_> = found.lines().map(str::to_owned).collect();
        files.sort();
        files
    }
}

/// Returns the commands that `yester --help` lists.
fn commands() -> Vec<String> {
    let help = succeed(Command::new(YESTER).arg("--help"));
    let list = help.split_once("Commands:\n").unwrap().1.split_once("\n\n").unwrap().0;
    let names = list.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    let names: Vec<_> = names.map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert!(names.len() > 10, "{names:?}");
    names.into_iter().filter(|name| name != "help").collect()
}

#[test]
fn everything_is_installed_and_removed_again() {
    let installed = Installed::new();
    let files = installed.files();
    for wanted in [
        "usr/local/bin/yester",
        "usr/local/share/bash-completion/completions/yester",
        "usr/local/share/zsh/site-functions/_yester",
        "usr/local/share/fish/vendor_completions.d/yester.fish",
        "usr/local/share/man/man1/yester.1",
        "usr/sbin/mount.fuse.yester",
    ] {
        assert!(files.iter().any(|file| file == wanted), "{wanted} is not in {files:#?}");
    }
    let mode = fs::metadata(installed.path("usr/local/bin/yester")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    let helper = fs::read_link(installed.path("usr/sbin/mount.fuse.yester")).unwrap();
    assert_eq!(helper, Path::new("/usr/local/bin/yester"));
    // A page of a command that is gone does not outlive the next installation.
    fs::write(installed.path("usr/local/share/man/man1/yester-gone.1"), "").unwrap();
    installed.script(&["--binary", YESTER]).succeeds();
    assert_eq!(installed.files(), files);
    installed.script(&["--uninstall"]).succeeds();
    assert_eq!(installed.files(), Vec::<String>::new());
}

#[test]
fn a_folder_of_ones_own_needs_no_system() {
    let installed = Installed { lab: Lab::empty() };
    let told = installed.script(&["--prefix", "/home/me/.local", "--binary", YESTER]).succeeds();
    assert!(told.contains("mount helper  none"), "{told}");
    let files = installed.files();
    assert!(files.iter().all(|file| file.starts_with("home/me/.local/")), "{files:#?}");
    for wrong in [&["--prefix"][..], &["--prefix", "relative"], &["--frobnicate"]] {
        let ran = installed.script(wrong);
        assert!(ran.fails(1).contains("error:"), "{wrong:?}");
    }
}

#[test]
fn every_command_has_a_man_page_that_renders_cleanly() {
    let installed = Installed::new();
    let pages = installed.pages();
    for command in commands() {
        let name = format!("yester-{command}.1");
        assert!(pages.iter().any(|page| page.ends_with(&name)), "{name} is not in {pages:?}");
    }
    if !can(&[Need::Tool("groff")]) {
        return;
    }
    for page in &pages {
        let ran = typeset(page);
        let shown = ran.succeeds();
        assert_eq!(ran.stderr, "", "{}", page.display());
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "GLOBAL OPTIONS", "EXIT STATUS", "SEE ALSO"] {
            assert!(shown.lines().any(|line| line == section), "{section} is not in {}", page.display());
        }
    }
}

#[test]
fn man_pages_pass_the_strictest_reader() {
    if !can(&[Need::Tool("mandoc")]) {
        return;
    }
    // Errors and worse; that pages carry no date is a warning to it.
    let installed = Installed::new();
    let found = succeed(Command::new("mandoc").args(["-T", "lint", "-W", "error"]).args(installed.pages()));
    assert_eq!(found, "");
}

#[test]
fn examples_in_the_manual_are_those_of_the_help_texts() {
    if !can(&[Need::Tool("groff")]) {
        return;
    }
    let installed = Installed::new();
    let mut compared = 0;
    for command in commands() {
        let help = succeed(Command::new(YESTER).args([&command, "--help"]));
        let examples = help.split_once("\nExample:\n").or_else(|| help.split_once("\nExamples:\n"));
        let Some((_, examples)) = examples else { continue };
        let page = installed.path(&format!("usr/local/share/man/man1/yester-{command}.1"));
        let shown = typeset(&page).succeeds();
        for example in examples.lines().filter_map(|line| line.strip_prefix("  ")) {
            assert!(
                shown.lines().any(|line| line.trim() == example.trim()),
                "{example:?} is not in:\n{shown}"
            );
            compared += 1;
        }
    }
    assert!(compared > 10, "only {compared} examples were found");
}

/// Shows a page as plain text, wide enough for every example, with all warnings.
fn typeset(page: &Path) -> Ran {
    let plain = ["-ww", "-man", "-Tutf8", "-P-c", "-P-b", "-P-u", "-P-o", "-rLL=120n"];
    Ran::of(Command::new("groff").args(plain).arg(page))
}

/// Returns what bash offers for the last of some words.
fn bash_offers(installed: &Installed, words: &[&str]) -> Vec<String> {
    let script = r#"
        set -euo pipefail
        source "$1"
        shift
        complete -p yester >/dev/null
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _yester yester "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let file = installed.path("usr/local/share/bash-completion/completions/yester");
    let offered = succeed(Command::new("bash").args(["-c", script, "bash"]).arg(file).args(words));
    offered.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_and_options() {
    let installed = Installed::new();
    let offered = bash_offers(&installed, &["yester", ""]);
    for command in commands() {
        assert!(offered.contains(&command), "{command} is not in {offered:?}");
    }
    assert_eq!(bash_offers(&installed, &["yester", "snap"]), ["snapshots"]);
    assert_eq!(bash_offers(&installed, &["yester", "ingest", "--sour"]), ["--source"]);
    assert_eq!(bash_offers(&installed, &["yester", "restore", "latest:x", "--overw"]), ["--overwrite"]);
}

#[test]
fn zsh_and_fish_accept_their_completions() {
    let installed = Installed::new();
    if can(&[Need::Tool("zsh")]) {
        let file = installed.path("usr/local/share/zsh/site-functions/_yester");
        succeed(Command::new("zsh").arg("-n").arg(file));
    }
    if can(&[Need::Tool("fish")]) {
        let file = installed.path("usr/local/share/fish/vendor_completions.d/yester.fish");
        let script = format!("source {}; complete -C 'yester snap'", file.display());
        let home = installed.lab.path("home");
        let offered = succeed(Command::new("fish").args(["--no-config", "-c", &script]).env("HOME", home));
        assert!(offered.starts_with("snapshots\t"), "{offered}");
    }
}

#[test]
fn nobody_is_asked_again_where_nobody_can_be_asked() {
    let lab = Lab::new();
    let mut command = lab.command(["snapshots"]);
    // Without a controlling terminal, whatever the tests themselves were started from.
    let mut alone = Command::new("setsid");
    alone.arg("--wait").arg(command.get_program()).args(command.get_args());
    alone.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    for variable in ["YESTER_PASSPHRASE", "YESTER_PASSPHRASE_FILE", "YESTER_PASSPHRASE_COMMAND"] {
        alone.env_remove(variable);
    }
    let ran = Ran::of(alone.env_remove("YESTER_KEY_FILE"));
    let error = ran.fails(12);
    assert!(error.starts_with("yester: the store is encrypted"), "{error}");
    assert!(!error.contains("try again"), "{error}");
    // An empty variable is none.
    let ran = Ran::of(command.env("YESTER_KEY_FILE", "").env("YESTER_PASSPHRASE", "wrong"));
    let error = ran.fails(12);
    assert!(error.contains("this was tried: YESTER_PASSPHRASE"), "{error}");
}

#[test]
fn messages_say_what_to_do_next() {
    let lab = Lab::new();
    let missing = lab.path("missing");
    let missing = missing.to_str().unwrap();
    let file = lab.path("file");
    fs::write(&file, "content").unwrap();
    let cases: [(&[&str], i32, &str); 7] = [
        (&["snapshots", "--key-file", missing], 12, "works as a passphrase"),
        (&["snapshots", "--key-file", file.to_str().unwrap()], 12, "begins with YESTERKEY1"),
        (&["snapshots", "--store", missing], 10, "yester init"),
        (&["snapshots", "--store", file.to_str().unwrap()], 10, "a directory made by `yester init`"),
        (&["init"], 1, "choose another directory"),
        (&["init", missing, "--no-encryption"], 2, "unset YESTER_KEY_FILE"),
        (&["cat", "latest:nothing", "/file"], 1, "`yester snapshots` lists what there is"),
    ];
    for (arguments, code, expected) in cases {
        let ran = lab.run(arguments);
        let error = ran.fails(code);
        assert!(error.contains(expected), "{arguments:?}: {error}");
        assert!(error.lines().all(|line| !line.ends_with('.')), "{error}");
    }
    let none = lab.run(["snapshots"]);
    assert!(none.stderr.contains("there are no snapshots yet"), "{}", none.stderr);
    lab.run(["ingest", file.to_str().unwrap(), "--source", "file"]).succeeds();
    let none = lab.run(["snapshots", "--source", "other"]);
    assert!(none.stderr.contains("none of the 1 snapshots"), "{}", none.stderr);
}

#[test]
fn lines_of_a_log_file_carry_their_time() {
    let lab = Lab::new();
    fs::set_permissions(lab.path("key"), fs::Permissions::from_mode(0o644)).unwrap();
    let ran = lab.run(["snapshots"]);
    assert!(ran.stderr.starts_with("warning: "), "{}", ran.stderr);
    let log = fs::File::create(lab.path("log")).unwrap();
    assert!(lab.command(["snapshots"]).stderr(log).status().unwrap().success());
    let logged = fs::read_to_string(lab.path("log")).unwrap();
    let (time, rest) = logged.split_once(' ').unwrap();
    assert!(time.ends_with('Z') && rest.starts_with("warning: "), "{logged}");
}
