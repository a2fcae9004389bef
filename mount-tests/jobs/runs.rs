//! What goes wrong in a run stays where it is: with one source, one store, one worker.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use s3_server::{Server, ServerOptions};
use yester::journal::RunOutcome;

use super::host::{CRON, Host, NEEDS, is_silent, replace, s3};
use crate::harness::{Process, YESTER, can, eventually, is_running, noise};

/// A host with one store, and a source `good` among those that are given.
fn host(sources: &str) -> Host {
    let host = Host::new();
    let mut text = format!(
        "schedule = \"daily\"\nkey-file = \"/etc/yester/key\"\nretries = 0\nretry-delay = \"0\"\n\
         [store.local]\nurl = \"/srv/backup/store\"\n{sources}[source.good]\npaths = [\"/good\"]\n"
    );
    replace(&mut text, "\"/", &format!("\"{}", host.text("")));
    host.configure(&text);
    host.write("good/file", noise(1, 10_000));
    host
}

fn host_with_store(sources: &str) -> Host {
    let host = host(sources);
    host.init("local");
    host
}

/// Returns the process that a script wrote down.
fn pid_in(file: PathBuf) -> Pid {
    eventually("the command has begun", || fs::read_to_string(&file).is_ok_and(|text| text.ends_with('\n')));
    Pid::from_raw(fs::read_to_string(&file).unwrap().trim().parse().unwrap()).unwrap()
}

#[test]
fn a_command_of_a_source_that_is_yester_itself_is_a_run_of_its_own() {
    if !can(&NEEDS) {
        return;
    }
    let host = host_with_store("[source.nested]\ncommand = [\"/bin/nested\"]\n");
    let config = host.text("etc/yester/config.toml");
    host.program("bin/nested", &format!("{YESTER} --config {config} -q verify >&2\necho whole"));
    host.cron(&["run", "nested"]).succeeds();
    let runs = host.runs("ingest");
    assert_eq!((runs.len(), runs[0].outcome, runs[0].snapshot.is_some()), (1, RunOutcome::Succeeded, true));
    assert!(!host.runs("verify").is_empty());
}

#[test]
fn a_source_that_fails_fails_alone() {
    if !can(&NEEDS) {
        return;
    }
    let host = host_with_store(
        "[source.bad]\ncommand = [\"/bin/bad\"]\nafter = [\"/bin/after\"]\non-failure = [\"/bin/tell\"]\n\
         [source.refused]\ncommand = [\"true\"]\nbefore = [\"/bin/bad\"]\non-failure = [\"/bin/tell\"]\n",
    );
    host.program("bin/bad", "echo half\necho 'no connection' >&2\nexit 4");
    let told = "echo \"$0 $YESTER_SOURCE $YESTER_OUTCOME $YESTER_MESSAGE\" >>\"${0%/bin/*}/told\"";
    host.program("bin/after", told);
    host.program("bin/tell", told);

    let ran = host.cron(&["run", "--all"]);
    let said = ran.fails(3);
    assert!(
        said.contains("ingest bad") && said.contains("FAILED") && said.contains("no connection"),
        "{said}"
    );
    assert!(said.contains("before ("), "{said}");
    assert!(!said.contains("ingest good"), "{said}");
    assert_eq!(host.snapshots("local", "good").len(), 1);
    assert!(host.snapshots("local", "bad").is_empty() && host.snapshots("local", "refused").is_empty());
    let told = fs::read_to_string(host.lab.path("told")).unwrap();
    let bin = host.text("bin/");
    let told: Vec<&str> = told.lines().map(|line| line.strip_prefix(&bin).unwrap()).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].starts_with("after bad failed ") && told[1].starts_with("tell bad failed "), "{told:?}");
    assert!(told[2].starts_with("tell refused failed before ("), "{told:?}");
    let outcomes: Vec<_> = host.runs("ingest").into_iter().map(|run| (run.source, run.outcome)).collect();
    let expected =
        [("bad", RunOutcome::Failed), ("refused", RunOutcome::Failed), ("good", RunOutcome::Succeeded)];
    assert_eq!(outcomes, expected.map(|(source, outcome)| (source.to_owned(), outcome)));
    // Who looks at three in the morning sees why, not only that.
    assert!(host.runs("ingest")[0].message.ends_with(": no connection"), "{:?}", host.runs("ingest"));
    assert!(host.cron(&["status"]).text().contains("no connection"));

    let ran = host.cron(&["run", "bad"]);
    assert!(ran.fails(1).contains("the backup failed"));
    assert!(host.cron(&["run", "absent"]).fails(2).contains("no source \"absent\""));
}

#[test]
fn what_hangs_is_ended() {
    if !can(&NEEDS) {
        return;
    }
    let host = host_with_store("[source.slow]\ncommand = [\"/bin/slow\"]\ntimeout = \"2s\"\nretries = 5\n");
    host.program("bin/slow", "echo $$ >\"${0%/bin/*}/pid\"\nsleep 600");
    let started = Instant::now();
    let ran = host.cron(&["run", "--all"]);
    let said = ran.fails(3);
    assert!(said.contains("took longer than 2"), "{said}");
    assert!(started.elapsed() < Duration::from_secs(60));
    let pid = pid_in(host.lab.path("pid"));
    eventually("what it started has ended", || !is_running(pid));
    assert_eq!(host.snapshots("local", "good").len(), 1);
    let slow = &host.runs("ingest")[0];
    assert_eq!((slow.outcome, slow.source.as_str()), (RunOutcome::Failed, "slow"));
    assert!(slow.message.contains("took longer"), "{slow:?}");
}

#[test]
fn what_fails_after_a_backup_is_recorded_with_it() {
    if !can(&NEEDS) {
        return;
    }
    let host = host_with_store("[source.left]\npaths = [\"/good\"]\nafter = [\"false\"]\n");
    let ran = host.cron(&["run", "--all"]);
    assert!(ran.fails(3).contains("after (false) failed: exit code 1"), "{}", ran.stderr);
    let left = &host.runs("ingest")[0];
    assert_eq!(left.outcome, RunOutcome::Partial);
    assert!(left.snapshot.is_some() && left.message.contains("after (false) failed"), "{left:?}");
    let status = host.cron(&["status"]);
    status.fails(1);
    assert!(status.text().contains("was done in part: after (false) failed"), "{}", status.text());
}

#[test]
fn a_folder_on_which_nothing_is_mounted_is_no_backup() {
    if !can(&NEEDS) {
        return;
    }
    let host = host_with_store("[source.disk]\npaths = [\"/disk\"]\n");
    host.write("disk/file", "data");
    host.cron(&["run", "disk"]).succeeds();
    fs::remove_file(host.lab.path("disk/file")).unwrap();
    let ran = host.cron(&["run", "disk"]);
    assert!(ran.fails(1).contains("disk is empty; no snapshot was made"), "{}", ran.stderr);
    assert_eq!(host.snapshots("local", "disk").len(), 1);
    let mut text = fs::read_to_string(host.config()).unwrap();
    replace(&mut text, "/disk\"]\n", "/disk\"]\nmin-size = \"0\"\n");
    host.configure(&text);
    host.cron(&["run", "disk"]).succeeds();
}

#[test]
fn a_store_that_is_gone_is_told() {
    if !can(&NEEDS) {
        return;
    }
    let host = host("");
    let told = |code| {
        let status = host.cron(&["status"]);
        status.fails(code);
        status.text().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(told(1).contains("There is no store at"), "it is still to be made");
    host.init("local");
    host.cron(&["run", "--all"]).succeeds();
    host.cron(&["status"]).succeeds();
    fs::rename(host.lab.path("srv/backup/store"), host.lab.path("srv/away")).unwrap();
    fs::create_dir(host.lab.path("srv/backup/store")).unwrap();
    assert!(told(2).contains("its disk may not be mounted"));
    let refused = host.cron(&["init"]);
    assert!(refused.fails(10).contains("yester init --new"), "{}", refused.stderr);
    host.cron(&["init", "--new"]).succeeds();
    host.cron(&["run", "--all"]).succeeds();
}

#[test]
fn what_was_killed_is_made_up_for() {
    if !can(&NEEDS) {
        return;
    }
    let host = host_with_store("[source.slow]\ncommand = [\"/bin/slow\"]\n");
    host.program(
        "bin/slow",
        "cd \"${0%/bin/*}\"\n[ -e pid ] && exec echo done\necho $PPID >pid\nexec sleep 30",
    );
    let run = Process::start(&mut host.command(CRON, &["run", "--all"]));
    let worker = pid_in(host.lab.path("pid"));
    // The worker goes on without who started it, and is no failure as long as it does.
    run.signal(Signal::KILL);
    drop(run);
    assert_eq!(host.runs("ingest")[0].outcome, RunOutcome::Running);
    rustix::process::kill_process(worker, Signal::KILL).unwrap();
    eventually("the worker has ended", || !is_running(worker));
    assert_eq!(host.runs("ingest")[0].outcome, RunOutcome::Unfinished);
    is_silent(&host.cron(&["run"]));
    assert_eq!(host.snapshots("local", "slow").len(), 1);
}

#[test]
fn what_somebody_accepts_did_not_fail() {
    if !can(&NEEDS) {
        return;
    }
    let host = host_with_store("[source.cut]\ncommand = [\"/bin/cut\"]\noutput = \"cut.sql\"\n");
    host.program("bin/cut", "printf -- '--\\n-- PostgreSQL database dump\\n--\\n\\nSELECT 1;\\n'");
    host.cron(&["run", "cut"]).fails(3);
    assert_eq!(host.runs("ingest")[0].outcome, RunOutcome::Suspicious);
    host.cron(&["status"]).fails(1);
    let id = host.snapshots("local", "cut")[0]["id"].as_str().unwrap().to_owned();
    host.cron(&["accept", &id]).succeeds();
    let status = host.cron(&["status"]).succeeds();
    assert!(status.contains("All is well."), "{status}");
}

#[test]
fn what_fails_is_tried_again() {
    if !can(&NEEDS) {
        return;
    }
    let host = host_with_store("[source.moody]\ncommand = [\"/bin/moody\"]\nretries = 2\n");
    host.program(
        "bin/moody",
        "cd \"${0%/bin/*}\"\necho x >>tried\n[ \"$(wc -l <tried)\" -gt 2 ] && echo good",
    );
    is_silent(&host.cron(&["run", "--all"]));
    let runs = host.runs("ingest");
    assert_eq!((runs.len(), runs[0].outcome), (2, RunOutcome::Succeeded), "{runs:?}");
    assert_eq!(host.newest("local", "moody", "moody"), b"good\n");

    host.program("bin/moody", "exit 1");
    let ran = host.cron(&["run", "moody"]);
    assert!(ran.fails(1).contains("tried 3 times"), "{}", ran.stderr);
}

#[test]
fn runs_do_not_overlap() {
    if !can(&NEEDS) {
        return;
    }
    let host = host_with_store("[source.slow]\ncommand = [\"/bin/slow\"]\n");
    host.program(
        "bin/slow",
        "cd \"${0%/bin/*}\"\necho $$ >pid\nuntil [ -e go ]; do sleep 0.05; done\necho done",
    );
    let first = Process::start(&mut host.command(CRON, &["run", "slow"]));
    pid_in(host.lab.path("pid"));
    let refused = host.cron(&["run", "good", "--wait", "0"]);
    assert!(refused.fails(11).contains("another run goes on, as process "), "{}", refused.stderr);
    let second = Process::start(&mut host.command(CRON, &["run", "good"]));
    std::thread::sleep(Duration::from_millis(500));
    assert!(host.snapshots("local", "good").is_empty());
    host.write("go", "");
    is_silent(&first.end());
    is_silent(&second.end());
    assert_eq!(host.snapshots("local", "good").len(), 1);
}

#[test]
fn a_killed_worker_is_a_failure_and_nothing_else() {
    if !can(&NEEDS) {
        return;
    }
    let host = host_with_store("[source.victim]\ncommand = [\"/bin/victim\"]\n");
    host.program("bin/victim", "kill -9 $PPID");
    let ran = host.cron(&["run", "--all"]);
    assert!(ran.fails(3).contains("was killed by signal 9"), "{}", ran.stderr);
    let runs = host.runs("ingest");
    assert_eq!(runs.len(), 2);
    assert_eq!((runs[0].outcome, runs[1].outcome), (RunOutcome::Failed, RunOutcome::Succeeded));
    assert!(runs[0].message.contains("signal 9"), "{:?}", runs[0]);
}

#[test]
fn a_run_that_is_told_to_end_ends_what_it_started() {
    if !can(&NEEDS) {
        return;
    }
    let host = host_with_store("[source.slow]\ncommand = [\"/bin/slow\"]\n");
    host.program("bin/slow", "echo $$ >\"${0%/bin/*}/pid\"\nsleep 600");
    let run = Process::start(&mut host.command(CRON, &["run", "--all"]));
    let pid = pid_in(host.lab.path("pid"));
    run.signal(Signal::TERM);
    let ran = run.end();
    assert!(ran.fails(1).contains("interrupted"), "{}", ran.stderr);
    eventually("what it started has ended", || !is_running(pid));
    assert!(host.snapshots("local", "good").is_empty());
    // Like a machine that goes down in the middle of a night: it is made up for.
    assert_eq!(host.runs("ingest")[0].outcome, RunOutcome::Unfinished);
    host.program("bin/slow", "echo done");
    is_silent(&host.cron(&["run"]));
    assert_eq!(host.snapshots("local", "slow").len(), 1);
}

#[test]
fn a_store_that_is_not_there_is_never_made() {
    if !can(&NEEDS) {
        return;
    }
    let host = host("");
    let ran = host.cron(&["run", "--all"]);
    let said = ran.fails(1);
    assert!(said.contains(&host.text("srv/backup/store")) && said.contains("the backup failed"), "{said}");
    assert!(said.contains("yester init"), "{said}");
    assert!(!host.lab.path("srv/backup/store").exists());
    assert_eq!(host.runs("ingest")[0].outcome, RunOutcome::Failed);
}

#[test]
fn an_outage_of_the_second_store_is_made_up_for() {
    if !can(&NEEDS) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (server, credentials) = s3(&["unused"]);
    drop(server);
    let start = |listen| {
        let options =
            ServerOptions { folder: Some(folder.path().into()), listen, ..ServerOptions::default() };
        Server::start_with(&options).unwrap()
    };
    let server = start(None);
    server.create_bucket("acme").unwrap();
    let address = server.address();
    let host = Host::new();
    host.write_private("etc/yester/s3", &credentials);
    host.write("good/file", noise(1, 10_000));
    let root = host.text("");
    host.configure(&format!(
        "schedule = \"daily\"\nkey-file = \"{root}etc/yester/key\"\n\
         [store.local]\nurl = \"{root}srv/backup/store\"\n\
         [store.second]\nurl = \"s3://acme/store\"\ncopy-from = \"local\"\nregion = \"us-east-1\"\n\
         endpoint = \"http://{address}\"\ncredentials-file = \"{root}etc/yester/s3\"\nstore-timeout = \"1s\"\n\
         [source.good]\npaths = [\"{root}good\"]\n"
    ));
    host.init("local");
    host.cron(&["--store", "second", "init", "--like", "local"]).succeeds();
    is_silent(&host.cron(&["run", "--all"]));

    drop(server);
    host.write("good/file", noise(2, 10_000));
    let ran = host.cron(&["run", "--all"]);
    ran.succeeds();
    assert!(ran.stderr.contains("copy second") && ran.stderr.contains("FAILED"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("ingest good"), "{}", ran.stderr);
    assert_eq!(host.newest("local", "good", &host.text("good/file")), noise(2, 10_000));

    let server = start(Some(address));
    // Nothing is due but what the second store lacks.
    is_silent(&host.cron(&["run"]));
    assert_eq!(host.runs("ingest").len(), 2);
    assert_eq!(host.newest("second", "good", &host.text("good/file")), noise(2, 10_000));
    let asked = server.counts().log().len();
    is_silent(&host.cron(&["run"]));
    assert_eq!(server.counts().log().len(), asked, "nothing is due any more");
}

#[test]
fn a_host_that_may_only_write_leaves_the_rest_to_another() {
    if !can(&NEEDS) {
        return;
    }
    let host = host_with_store("");
    let name = host_name();
    let key = host.text("etc/yester/ingest-key");
    // Whoever writes with the full key leaves its name.
    host.cron(&[
        "--store",
        "local",
        "ingest",
        "--quiet",
        "--source",
        "other",
        "--host",
        "backup1",
        "/etc/hostname",
    ])
    .succeeds();
    host.cron(&["--store", "local", "key", "export", "--host", &name, "--output", &key]).succeeds();
    let mut text = fs::read_to_string(host.config()).unwrap();
    replace(
        &mut text,
        "etc/yester/key\"",
        "etc/yester/ingest-key\"\nkeep = { daily = 1 }\ngc = \"minutely\"",
    );
    host.configure(&text);
    let checked = host.cron(&["config", "check"]).succeeds();
    assert!(checked.contains("opens by an ingest-only key"), "{checked}");
    assert!(checked.contains(&format!("a host that has the full key, such as {name}")), "{checked}");
    is_silent(&host.cron(&["run", "--all"]));
    is_silent(&host.cron(&["run", "--all"]));
    let ran = host.cron(&["run", "--all", "--verbose"]);
    ran.succeeds();
    for operation in ["forget local", "verify local", "gc local"] {
        let line =
            ran.stderr.lines().position(|line| line.starts_with(operation) && line.contains("left out"));
        let why = line.and_then(|line| ran.stderr.lines().nth(line + 1)).unwrap_or_default();
        assert!(why.contains(&name) && why.contains("full key"), "{operation}: {}", ran.stderr);
        assert_eq!(why.contains(&format!("such as {name}")), operation == "gc local", "{}", ran.stderr);
    }
    assert!(host.runs("forget").is_empty() && host.runs("gc").is_empty());
    assert_eq!(host.snapshots("local", "good").len(), 3);
}

/// Returns this machine's name.
fn host_name() -> String {
    crate::harness::succeed(&mut std::process::Command::new("hostname")).trim().to_owned()
}
