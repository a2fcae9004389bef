//! Mounts that others make: `mount(8)`, by hand and by fstab, and autofs.
//!
//! `mount(8)` takes the environment's PATH away, so that these tests run in mount namespaces of their own, in which
//! the binary lies where `mount(8)` looks.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use rustix::process::{Signal, kill_process};

use crate::harness::{Lab, Need, Process, Ran, YESTER, can, eventually};

const NEEDS: [Need; 3] = [Need::Root, Need::Fuse, Need::Tool("mount.fuse3")];

/// What every script begins with.
const PRELUDE: &str = r#"
mount -t tmpfs none /usr/local/bin
ln -s "$YESTER" /usr/local/bin/yester
cd "$LAB"
"#;

/// Names that a shell, fstab and option lists each stumble over.
const STORE: &str = "my store";
const KEY: &str = "k,ey";

/// Ends what a script left running in its namespace.
struct Servers<'a>(&'a Lab);

impl Drop for Servers<'_> {
    fn drop(&mut self) {
        for server in self.0.servers() {
            let _ = kill_process(server, Signal::KILL);
        }
    }
}

/// Makes a store with a snapshot of one file, `greeting`.
fn lab_with_greeting() -> Lab {
    let lab = Lab::empty();
    let run = |arguments: &[&str]| {
        let mut command = lab.command(arguments);
        Ran::of(command.env("YESTER_STORE", lab.path(STORE)).env("YESTER_KEY_FILE", lab.path(KEY)))
            .succeeds();
    };
    run(&["init"]);
    run(&["ingest", "--as", "greeting", "--", "echo", "hello"]);
    fs::create_dir(lab.path("m nt")).unwrap();
    lab
}

/// Prepares a script in a namespace of its own.
fn script(lab: &Lab, text: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-euc", &format!("{PRELUDE}{text}")])
        .env("LAB", lab.store().parent().unwrap())
        .env("YESTER", YESTER)
        .env("CACHE_DIRECTORY", lab.path("cache"))
        .env("STATE_DIRECTORY", lab.path("state"));
    for variable in ["YESTER_STORE", "YESTER_KEY_FILE", "YESTER_PASSPHRASE", "NOTIFY_SOCKET"] {
        command.env_remove(variable);
    }
    command
}

fn run(lab: &Lab, text: &str) -> Ran {
    let _servers = Servers(lab);
    Ran::of(&mut script(lab, text))
}

/// Writes a line of fstab, with the escapes that it needs.
fn write_fstab(lab: &Lab, options: &str) {
    let field = |name: &str| lab.path(name).to_str().unwrap().replace(' ', "\\040");
    let line = format!("{} {} fuse.yester {options} 0 0\n", field(STORE), field("m nt"));
    fs::write(lab.path("fstab"), line).unwrap();
}

#[test]
fn s50_a_line_of_fstab_mounts() {
    if !can(&NEEDS) {
        return;
    }
    let lab = lab_with_greeting();
    let key = lab.path(KEY);
    let options = format!(
        "defaults,user,noauto,nofail,_netdev,x-systemd.automount,comment=backups,key-file=\"{}\",cache_size=16M",
        key.display()
    );
    write_fstab(&lab, &options);
    let ran = run(
        &lab,
        r#"
        mount --fstab fstab "m nt"
        cat "m nt/latest/greeting"
        findmnt -no FSTYPE,OPTIONS "m nt"
        umount "m nt"
        "#,
    );
    let shown = ran.succeeds();
    let (greeting, mount) = shown.split_once('\n').unwrap();
    assert_eq!((greeting, ran.stderr.as_str()), ("hello", ""), "mount(8) says nothing where all is well");
    assert!(mount.starts_with("fuse.yester"), "{mount}");
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(mount.split([' ', ',']).any(|word| word == option), "{option} of `defaults,user`: {mount}");
    }
    eventually("the server has ended", || lab.servers().is_empty());
}

#[test]
fn s51_mount_takes_all_options_in_both_spellings() {
    if !can(&NEEDS) {
        return;
    }
    let lab = lab_with_greeting();
    let ran = run(
        &lab,
        r#"
        cp k,ey key
        echo "$(cat key)" > passphrase
        try() {
            mount -t fuse.yester -o "$1" "$LAB/my store" "$LAB/m nt"
            cat "m nt/$2"
            findmnt -no OPTIONS "m nt"
            umount "m nt"
        }
        try 'ro,key-file=k\,ey,snapshot=latest' greeting
        try 'key_file="k,ey",allow_other' latest/greeting
        try "passphrase-file=$LAB/passphrase,for=daemon,threads=1" latest/greeting
        try 'key-file=key,allow-other,ignore-permissions,noexec' latest/greeting
        "#,
    );
    let shown = ran.succeeds();
    let lines: Vec<&str> = shown.lines().collect();
    let [_, one, _, two, _, three, _, four] = lines.as_slice() else { panic!("{shown}") };
    assert!(lines.iter().step_by(2).all(|line| *line == "hello"), "{shown}");
    let has = |options: &str, option: &str| options.split(',').any(|word| word == option);
    assert!(!has(one, "allow_other") && has(one, "default_permissions") && !has(one, "noexec"), "{one}");
    assert!(has(two, "allow_other") && has(two, "default_permissions"), "{two}");
    assert!(has(three, "allow_other") && has(three, "default_permissions"), "{three}");
    assert!(has(four, "allow_other") && !has(four, "default_permissions") && has(four, "noexec"), "{four}");
}

#[test]
fn s52_mount_hears_what_is_wrong() {
    if !can(&NEEDS) {
        return;
    }
    let lab = lab_with_greeting();
    let ran = run(
        &lab,
        r#"
        try() { code=0; mount -t fuse.yester -o "$2" "$1" "$LAB/m nt" || code=$?; echo "$code"; }
        try "$LAB/my store" key-file=k\\,ey,frobnicate=1
        try "$LAB/my store" key-file
        try "$LAB/absent" key-file=k\\,ey
        try "$LAB/my store" key-file=/dev/null
        touch "m nt/file"
        try "$LAB/my store" key-file=k\\,ey
        rm "m nt/file"
        try "$LAB/my store" key-file=k\\,ey
        try "$LAB/my store" key-file=k\\,ey
        umount "m nt"
        "#,
    );
    assert_eq!(
        ran.succeeds().split_whitespace().collect::<Vec<_>>(),
        ["1", "1", "32", "32", "32", "0", "32"]
    );
    for message in [
        "option \"frobnicate=1\" is not known",
        "needs a value",
        "no yester store",
        "is not empty",
        "already served",
    ] {
        assert!(ran.stderr.contains(message), "{message:?} in:\n{}", ran.stderr);
    }
}

#[test]
fn the_binary_can_be_a_helper_by_its_name() {
    if !can(&NEEDS) {
        return;
    }
    let lab = lab_with_greeting();
    let ran = run(
        &lab,
        r#"
        mount -t tmpfs none "$(realpath /sbin)"
        for name in yester fuse.yester; do
            ln -s "$YESTER" "/sbin/mount.$name"
            mount -t "$name" -o key-file=k\\,ey "$LAB/my store" "$LAB/m nt"
            cat "m nt/latest/greeting"
            umount "m nt"
            mount -f -t "$name" "$LAB/my store" "$LAB/m nt"
            ls "m nt"
            rm "/sbin/mount.$name"
        done
        "#,
    );
    assert_eq!(ran.succeeds(), "hello\nhello\n");
    let helper = lab.path("mount.yester");
    symlink(YESTER, &helper).unwrap();
    let mut refused = Command::new(&helper);
    let refused = Ran::of(refused.args([lab.path(STORE), lab.path("m nt")]).args(["-o", "key-file=a,what"]));
    assert!(refused.fails(1).contains("\"what\" is not known"), "{}", refused.stderr);
}

#[test]
fn s53_autofs_mounts_on_demand_and_unmounts_what_is_idle() {
    let tools = [Need::Tool("automount"), Need::Tool("nsenter")];
    if !can(&NEEDS) || !can(&tools) {
        return;
    }
    let lab = lab_with_greeting();
    fs::rename(lab.path(STORE), lab.store()).unwrap();
    fs::rename(lab.path(KEY), lab.path("key")).unwrap();
    let path = |name: &str| lab.path(name).to_str().unwrap().to_owned();
    let map = format!("yester -fstype=fuse.yester,key-file={} :{}\n", path("key"), path("store"));
    fs::write(lab.path("auto.map"), map).unwrap();
    fs::write(lab.path("auto.master"), format!("{} file:{} --timeout=1\n", path("auto"), path("auto.map")))
        .unwrap();
    let _servers = Servers(&lab);
    let daemon = r#"exec automount --foreground --pid-file "$LAB/automount.pid" "$LAB/auto.master""#;
    let automount = Process::start(&mut script(&lab, daemon));
    let inside = |command: &[&str]| -> Option<String> {
        let target = automount.pid().to_string();
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--mount", "--target", &target, "timeout", "30"]).args(command);
        let output = nsenter.output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    };
    let greeting = path("auto/yester/latest/greeting");
    eventually("autofs is there", || inside(&["mountpoint", "-q", &path("auto")]).is_some());
    for _ in 0..2 {
        assert!(lab.servers().is_empty(), "nobody asked yet");
        assert_eq!(inside(&["cat", &greeting]).as_deref(), Some("hello\n"));
        assert_eq!(lab.servers().len(), 1);
        eventually("the idle mount has ended", || lab.servers().is_empty());
    }
    automount.signal(Signal::TERM);
    automount.end().succeeds();
}

#[test]
fn the_examples_for_systemd_are_right() {
    if !can(&[Need::Tool("systemd-analyze")]) {
        return;
    }
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/semantics.md");
    let document = fs::read_to_string(document).unwrap();
    let lab = Lab::empty();
    let mut units = Vec::new();
    for block in document.split("```ini\n# /etc/systemd/system/").skip(1) {
        let (name, rest) = block.split_once('\n').unwrap();
        let text = rest.split_once("```").unwrap().0.replace("/usr/local/bin/yester", YESTER);
        fs::write(lab.path(name), text).unwrap();
        units.push(lab.path(name));
    }
    assert_eq!(units.len(), 3);
    let verified = Ran::of(Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&units));
    verified.succeeds();
    let complaints: Vec<_> = verified.stderr.lines().filter(|line| line.contains("yester")).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}
