//! The guide under test: what its chapters tell people to type is typed here.
//!
//! Every block of a chapter that begins with three backticks and `sh run` is run, in order, by one shell that ends at
//! the first failure. More words in that line are programs that the block needs; it is left out where one is missing.
//! The shell has the machine's files for itself: `/srv`, `/mnt` and `/root` are empty, and what it writes to `/etc`,
//! `/usr` and `/var` is gone afterwards. Its processes and network are its own as well.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::{Lab, Need, YESTER, can, succeed};
use crate::postgres::Postgres;

/// Makes the surroundings, then runs what follows as `$LAB/chapter`.
const SURROUNDINGS: &str = r#"
set -euo pipefail
for folder in /srv /mnt /root; do
    mount -t tmpfs -o mode=755 tmpfs "$folder"
done
mkdir "$LAB/over"
mount -t tmpfs tmpfs "$LAB/over"
for folder in /etc /usr /var; do
    mkdir -p "$LAB/over$folder/upper" "$LAB/over$folder/work"
    mount -t overlay -o "lowerdir=$folder,upperdir=$LAB/over$folder/upper,workdir=$LAB/over$folder/work" \
        overlay "$folder"
done
rm -rf /var/lib/yester /var/cache/yester
"$LAB/checkout/scripts/install" --binary "$LAB/yester" >&2
hash -r
export HOME=/root
cd /root
"#;

/// What the first chapter leaves behind, for those that build on it.
const FIRST_BACKUP: &str = r#"
export YESTER_STORE=/srv/backup YESTER_KEY_FILE=/root/yester.key
mkdir -p /srv/shop/uploads /srv/shop/cache /mnt/yester
echo 'debug = off' >/srv/shop/settings.ini
head -c 300000 /dev/urandom >/srv/shop/uploads/logo.png
echo 'order 1' >/srv/shop/uploads/orders.csv
echo 'worth nothing' >/srv/shop/cache/page.html
yester --quiet init >/dev/null
yester --quiet ingest /srv/shop --source shop
yester --quiet ingest /etc --source etc
"#;

/// A block of a chapter.
struct Block {
    /// Whether people are to type it as it stands; otherwise the tests read it only.
    run: bool,
    needs: Vec<String>,
    text: String,
}

fn guide_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide")
}

fn chapters() -> Vec<PathBuf> {
    let entries = fs::read_dir(guide_folder()).unwrap();
    let mut chapters: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    chapters.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    chapters.sort();
    chapters
}

/// Returns the fenced blocks of a text.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match line.trim_start().strip_prefix("```") {
            Some(_) if inside => inside = false,
            Some(info) => {
                let mut words = info.split(' ').skip(1);
                let run = words.next() == Some("run");
                blocks.push(Block { run, needs: words.map(str::to_owned).collect(), text: String::new() });
                inside = true;
            }
            None if inside => blocks.last_mut().unwrap().text.push_str(&format!("{line}\n")),
            None => {}
        }
    }
    assert!(!inside, "a block is not closed");
    blocks
}

/// Runs a chapter after `before`, with the given variables.
fn run_chapter(name: &str, before: &str, variables: &[(&str, String)]) {
    let lab = Lab::empty();
    let chapter = fs::read_to_string(guide_folder().join(name)).unwrap();
    assert!(!chapter.contains(" /tmp/"), "{name}: the folder of the tests is not the reader's own");
    let mut script = format!("{SURROUNDINGS}\n{before}\nset -x\n");
    let mut ran = 0;
    for block in blocks(&chapter).into_iter().filter(|block| block.run) {
        let needs: Vec<Need> = block.needs.iter().map(|tool| Need::Tool(tool.clone().leak())).collect();
        if can(&needs) {
            script.push_str(&block.text);
            ran += 1;
        }
    }
    assert!(ran > 0, "{name} has nothing to run");
    fs::copy(YESTER, lab.path("yester")).unwrap();
    fs::create_dir(lab.path("checkout")).unwrap();
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    succeed(Command::new("cp").arg("-r").arg(scripts).arg(lab.path("checkout")));
    fs::write(lab.path("script"), script).unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc"])
        .args(["timeout", "300", "bash"])
        .arg(lab.path("script"))
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LAB", lab.path(""))
        .envs(variables.iter().map(|(name, value)| (*name, value)))
        .current_dir("/")
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{name}:\n{shown}\n{}", String::from_utf8_lossy(&output.stderr));
}

const NEEDS: [Need; 3] = [Need::Root, Need::Fuse, Need::Tool("unshare")];

#[test]
fn a_first_backup() {
    if can(&NEEDS) {
        run_chapter("first-backup.md", "", &[]);
    }
}

#[test]
fn mounting_and_restoring() {
    if can(&NEEDS) {
        run_chapter("mount-and-restore.md", FIRST_BACKUP, &[]);
    }
}

#[test]
fn excluding() {
    if can(&NEEDS) {
        run_chapter("exclude.md", FIRST_BACKUP, &[]);
    }
}

#[test]
fn backing_up_by_cron() {
    if can(&NEEDS) {
        run_chapter("cron.md", FIRST_BACKUP, &[]);
    }
}

#[test]
fn noticing_what_is_wrong() {
    if can(&NEEDS) {
        run_chapter("alerts.md", FIRST_BACKUP, &[]);
    }
}

#[test]
fn configuring() {
    if can(&NEEDS) {
        run_chapter("configuration.md", "", &[]);
    }
}

#[test]
fn thinning_out() {
    if can(&NEEDS) {
        run_chapter("retention.md", FIRST_BACKUP, &[]);
    }
}

#[test]
fn copying_and_repairing() {
    if can(&NEEDS) {
        run_chapter("copies.md", FIRST_BACKUP, &[]);
    }
}

#[test]
fn finding_and_comparing() {
    if can(&NEEDS) {
        run_chapter("find-and-compare.md", FIRST_BACKUP, &[]);
    }
}

#[test]
fn databases() {
    if !can(&NEEDS) || !can(&[Need::Postgres]) {
        return;
    }
    let postgres = Postgres::start();
    succeed(postgres.client("createdb").arg("shop"));
    postgres.query(
        "shop",
        "CREATE TABLE orders AS SELECT id, md5(id::text) AS note FROM generate_series(1, 1000) AS id;
         CREATE TABLE users AS SELECT id, 'user ' || id AS name FROM generate_series(1, 100) AS id",
    );
    let mut probe = Command::new("true");
    postgres.connect(&mut probe);
    let variables: Vec<(&str, String)> = probe
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_str()?, value?.to_str()?.to_owned())))
        .collect();
    let before = format!("{FIRST_BACKUP}{OTHER_SERVERS}");
    run_chapter("databases.md", &before, &variables);
}

/// The servers that the chapter on databases asks, where their programs are.
const OTHER_SERVERS: &str = r#"
ip link set lo up
if command -v redis-server >/dev/null; then
    (cd / && redis-server --port 6379 --bind 127.0.0.1 --save '' --daemonize yes >/dev/null)
    until redis-cli ping >/dev/null 2>&1; do sleep 0.05; done
    redis-cli set visitors 7 >/dev/null
fi
if command -v sqlite3 >/dev/null; then
    mkdir -p /srv/app
    sqlite3 /srv/app/app.db 'CREATE TABLE notes (text); INSERT INTO notes VALUES (1), (2)'
fi
"#;

#[test]
fn every_chapter_is_tested_and_listed() {
    let tests = fs::read_to_string(file!()).unwrap();
    let index = fs::read_to_string(guide_folder().join("README.md")).unwrap();
    for chapter in chapters() {
        let name = chapter.file_name().unwrap().to_str().unwrap();
        if name == "README.md" {
            continue;
        }
        let text = fs::read_to_string(&chapter).unwrap();
        assert!(index.contains(&format!("({name})")), "{name} is not in the list of chapters");
        if blocks(&text).iter().any(|block| block.run) {
            assert!(tests.contains(&format!("run_chapter(\"{name}\"")), "{name} is not tested");
        }
    }
}

#[test]
fn links_lead_somewhere() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    for page in chapters().into_iter().chain([readme]) {
        let text = fs::read_to_string(&page).unwrap();
        for (_, rest) in text.match_indices("](").map(|(at, _)| text.split_at(at + 2)) {
            let target = rest.split(')').next().unwrap().split('#').next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let found = page.parent().unwrap().join(target);
            assert!(found.exists(), "{} links to {target}, which is not there", page.display());
        }
    }
}

#[test]
fn every_option_in_the_guide_exists() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for chapter in chapters() {
        let text = fs::read_to_string(&chapter).unwrap();
        for line in text.lines() {
            for (command, options) in commands_in(line) {
                if options.is_empty() {
                    continue;
                }
                let help = help_of(&command);
                checked += options.len();
                let is_known =
                    |option: &&String| help.split([' ', ',', '=', '[']).any(|word| word == *option);
                let unknown = options.iter().filter(|option| !is_known(option));
                wrong.extend(
                    unknown.map(|option| format!("{}: yester {command} {option}", chapter.display())),
                );
            }
        }
    }
    assert!(checked > 20, "only {checked} options were found");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Returns the help text of a command; of one that is not there, that of the program.
fn help_of(command: &str) -> String {
    let output = Command::new(YESTER).args([command, "--help"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the runs of yester in a line of shell, each with its command and its long options up to `--`.
fn commands_in(line: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for part in line.split(['|', ';', '&', '(', ')', '`']) {
        let mut words =
            part.split_whitespace().skip_while(|word| *word != "yester" && !word.ends_with("/yester"));
        if words.next().is_none() {
            continue;
        }
        let words: Vec<&str> = words.take_while(|word| *word != "--").collect();
        let is_command = |word: &&&str| word.starts_with(|c: char| c.is_ascii_lowercase());
        let Some(command) = words.iter().find(is_command) else { continue };
        let options = words.iter().filter(|word| word.starts_with("--"));
        let options = options.map(|option| option.split('=').next().unwrap().to_owned()).collect();
        found.push(((*command).to_owned(), options));
    }
    found
}

#[test]
fn blocks_and_commands_are_told_apart() {
    let text = "text\n```sh run psql\na\nb\n```\nmore\n```sh\nc\n```\n```text\nd\n```\n";
    let found = blocks(text);
    let seen: Vec<_> = found.iter().map(|block| (block.run, block.text.as_str())).collect();
    assert_eq!(seen, [(true, "a\nb\n"), (false, "c\n"), (false, "d\n")]);
    assert_eq!(found[0].needs, ["psql"]);
    let commands = commands_in("x=$(yester ls a --long) && yester ingest --as b --tag=c -- pg_dump --jobs 2");
    let expected = [("ls", vec!["--long"]), ("ingest", vec!["--as", "--tag"])];
    for ((command, options), (name, wanted)) in commands.iter().zip(expected) {
        assert_eq!(
            (command.as_str(), options.iter().map(String::as_str).collect::<Vec<_>>()),
            (name, wanted)
        );
    }
    assert_eq!(commands.len(), 2);
}
