//! What files say, and that install and remove touch those of yester alone.

use std::{fs, io};

use super::*;

/// Remembers what it was asked to run, and fails where told to.
#[derive(Default)]
struct Recorder {
    calls: Vec<String>,
    fails: bool,
}

impl Runner for Recorder {
    fn run(&mut self, program: &str, arguments: &[&str]) -> io::Result<()> {
        self.calls.push(format!("{program} {}", arguments.join(" ")));
        if self.fails { Err(io::Error::other("no bus")) } else { Ok(()) }
    }
}

/// A root folder with systemd at work and a cron.
fn host() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for folder in [SYSTEMD_FOLDER, CRON_FOLDER, SYSTEMD_RUNS] {
        fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    fs::create_dir_all(root.path().join("usr/sbin")).unwrap();
    fs::write(root.path().join("usr/sbin/cron"), "").unwrap();
    root
}

fn credential(name: &str, path: &str) -> Credential {
    Credential { name: name.to_owned(), path: path.into(), is_encrypted: false }
}

fn options(schedules: &[&str]) -> ScheduleOptions {
    ScheduleOptions {
        program: "/usr/local/bin/yester".into(),
        config: "/etc/yester/yester.toml".into(),
        schedules: schedules.iter().map(|text| text.parse().unwrap()).collect(),
        writable: vec!["/srv/backup".into()],
        status_writable: Vec::new(),
        credentials: Vec::new(),
        random_delay: SignedDuration::ZERO,
        low_priority: false,
        runs_commands: false,
        uses_tmp: false,
        mail_to: "root".to_owned(),
    }
}

/// Returns the text of the file of this name.
fn text(name: &str, options: &ScheduleOptions) -> String {
    let scheduler = if name.starts_with("yester-") { Scheduler::Systemd } else { Scheduler::Cron };
    let files = files(scheduler, options).unwrap();
    files.into_iter().find(|file| file.path.ends_with(name)).unwrap().text
}

fn line<'a>(text: &'a str, start: &str) -> &'a str {
    text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start} in\n{text}"))
}

#[test]
fn a_timer_comes_when_anything_is_due() {
    let daily = options(&["02:30", "Mon..Fri *:0/20", "02:30:00", "4/8:00 Europe/Berlin"]);
    let timer = text("yester-run.timer", &daily);
    let lines: Vec<_> = timer.lines().filter(|line| line.starts_with("OnCalendar=")).collect();
    assert_eq!(
        lines,
        [
            "OnCalendar=*-*-* 02:30:00",
            "OnCalendar=*-*-* 04..20/8:00:00 Europe/Berlin",
            "OnCalendar=Mon,Tue,Wed,Thu,Fri *-*-* *:00..40/20:00",
        ]
    );
    assert!(timer.contains("\nPersistent=true\n") && !timer.contains("RandomizedDelaySec"));
    let spread = ScheduleOptions { random_delay: SignedDuration::from_mins(10), ..daily };
    assert!(text("yester-run.timer", &spread).contains("\nRandomizedDelaySec=600s\nFixedRandomDelay=true\n"));
}

#[test]
fn services_name_what_they_need() {
    let service = text("yester-run.service", &options(&["daily"]));
    assert!(service.starts_with(MARK));
    assert_eq!(
        line(&service, "ExecStart="),
        "ExecStart=/usr/local/bin/yester --config /etc/yester/yester.toml run"
    );
    assert_eq!(line(&service, "ReadWritePaths="), "ReadWritePaths=-/srv/backup");
    assert!(service.contains("\nPrivateTmp=true\n") && service.contains("\nNoNewPrivileges=true\n"));
    assert!(!service.contains("\nNice=") && !service.contains("LoadCredential"));
    let status = text("yester-status.service", &options(&["daily"]));
    assert!(line(&status, "ExecStart=").ends_with(" --config /etc/yester/yester.toml status --alert"));
    assert!(!status.contains("ReadWritePaths="), "{status}");

    let mail = Credential { is_encrypted: true, ..credential("mail", "/etc/credstore.encrypted/mail") };
    let other = ScheduleOptions {
        low_priority: true,
        runs_commands: true,
        uses_tmp: true,
        credentials: vec![credential("pass", "/root/50%"), mail],
        ..options(&["daily"])
    };
    let service = text("yester-run.service", &other);
    assert!(service.contains("\nNice=10\nIOSchedulingClass=idle\n"));
    assert!(service.contains("\nLoadCredential=pass:/root/50%%\n"));
    assert!(service.contains("\nLoadCredentialEncrypted=mail:/etc/credstore.encrypted/mail\n"));
    assert!(!service.contains("NoNewPrivileges=true") && !service.contains("\nPrivateTmp="));
    assert!(service.contains("\nReadWritePaths=/tmp /var/tmp\n"));
}

#[test]
fn odd_paths_are_quoted_for_each() {
    let odd = ScheduleOptions {
        config: "/etc/o'dd $HOME/100% \"x\".toml".into(),
        writable: vec!["/srv/my store/%i".into()],
        ..options(&["daily"])
    };
    let service = text("yester-run.service", &odd);
    assert!(line(&service, "ExecStart=").ends_with(r#" --config "/etc/o'dd $$HOME/100%% \"x\".toml" run"#));
    assert_eq!(line(&service, "ReadWritePaths="), r#"ReadWritePaths="-/srv/my store/%%i""#);
    let crontab = text("yester", &odd);
    assert!(
        line(&crontab, "0 0").ends_with(r#" --config '/etc/o'\''dd $HOME/100\% "x".toml' run"#),
        "{crontab}"
    );
    for path in ["relative", "/etc/two\nlines"] {
        let wrong = ScheduleOptions { config: path.into(), ..options(&["daily"]) };
        for scheduler in [Scheduler::Systemd, Scheduler::Cron] {
            assert!(
                matches!(files(scheduler, &wrong), Err(ScheduleError::Path(named)) if named == Path::new(path))
            );
        }
    }
}

#[test]
fn cron_runs_at_what_it_can_express() {
    let exact = text("yester", &options(&["02:30", "weekly", "02:30:00"]));
    let runs: Vec<_> = exact.lines().filter(|line| line.ends_with(" run")).collect();
    let run = "/usr/local/bin/yester --config /etc/yester/yester.toml run";
    let expected = [
        format!("0 0 * * 1  root  {run}"),
        format!("30 2 * * *  root  {run}"),
        format!("@reboot  root  sleep 120; {run}"),
    ];
    assert_eq!(runs, expected);
    assert!(exact.contains("\nMAILTO=root\n"));
    assert!(line(&exact, "*/15").ends_with(" status --alert"));

    let others = ScheduleOptions {
        random_delay: SignedDuration::from_mins(5),
        low_priority: true,
        ..options(&["02:30", "*-*~1 04:00", "03:00 UTC"])
    };
    let often = text("yester", &others);
    assert_eq!(often.matches("*/5 * * * *").count(), 1, "{often}");
    assert!(line(&often, "30 2").contains("sleep \"$(shuf -n 1 -i 0-300)\"; ionice -c 3 nice -n 10 /usr"));
    assert!(!often.contains("@reboot"));
}

#[test]
fn what_cannot_be_written_is_refused() {
    let none = ScheduleOptions { schedules: Vec::new(), ..options(&[]) };
    assert!(matches!(files(Scheduler::Systemd, &none), Err(ScheduleError::NothingScheduled)));
    let secret =
        |name: &str| ScheduleOptions { credentials: vec![credential(name, "/x")], ..options(&["daily"]) };
    assert!(matches!(files(Scheduler::Cron, &secret("pass")), Err(ScheduleError::CredentialOfCron(_))));
    for name in ["", ".", "a b", "a:b", "a\nUser=x"] {
        assert!(
            matches!(files(Scheduler::Systemd, &secret(name)), Err(ScheduleError::Credential(_))),
            "{name:?}"
        );
    }
    let mail = ScheduleOptions { mail_to: "a\n* * * * * root x".to_owned(), ..options(&["daily"]) };
    assert!(matches!(files(Scheduler::Cron, &mail), Err(ScheduleError::MailTo(_))));
}

#[test]
fn installing_twice_changes_nothing() {
    let (root, mut runner) = (host(), Recorder::default());
    let changes = install(Scheduler::Systemd, &options(&["daily"]), root.path(), &mut runner).unwrap();
    assert_eq!((changes.written.len(), changes.unchanged.len(), changes.active), (4, 0, true));
    let calls = ["systemctl daemon-reload", "systemctl enable --now yester-run.timer yester-status.timer"];
    assert_eq!(runner.calls, calls);
    let again = install(Scheduler::Systemd, &options(&["daily"]), root.path(), &mut runner).unwrap();
    assert_eq!((again.written.len(), &again.unchanged), (0, &changes.written));
    let other = install(Scheduler::Systemd, &options(&["weekly"]), root.path(), &mut runner).unwrap();
    assert_eq!(other.written, [root.path().join(SYSTEMD_FOLDER).join("yester-run.timer")]);
    let left: Vec<_> = fs::read_dir(root.path().join(SYSTEMD_FOLDER)).unwrap().collect();
    assert_eq!(left.len(), 4, "{left:?}");
}

#[test]
fn one_scheduler_takes_the_place_of_the_other() {
    let (root, mut runner) = (host(), Recorder::default());
    assert_eq!(Scheduler::of_host(root.path()), Scheduler::Systemd);
    install(Scheduler::Systemd, &options(&["daily"]), root.path(), &mut runner).unwrap();
    runner.calls.clear();
    let changes = install(Scheduler::Cron, &options(&["daily"]), root.path(), &mut runner).unwrap();
    assert_eq!((changes.written.len(), changes.removed.len(), changes.active), (1, 4, true));
    let calls = ["systemctl disable --now yester-run.timer yester-status.timer", "systemctl daemon-reload"];
    assert_eq!(runner.calls, calls);
    assert_eq!(fs::read_dir(root.path().join(SYSTEMD_FOLDER)).unwrap().count(), 0);

    runner.calls.clear();
    let changes = remove(root.path(), &mut runner).unwrap();
    assert_eq!(changes.removed, [root.path().join("etc/cron.d/yester")]);
    assert_eq!(remove(root.path(), &mut runner).unwrap(), Changes::default());
    assert_eq!(runner.calls, Vec::<String>::new());
}

#[test]
fn where_systemd_does_not_run_it_is_told_nothing() {
    let (root, mut runner) = (host(), Recorder::default());
    fs::remove_dir(root.path().join(SYSTEMD_RUNS)).unwrap();
    assert_eq!(Scheduler::of_host(root.path()), Scheduler::Cron);
    let changes = install(Scheduler::Systemd, &options(&["daily"]), root.path(), &mut runner).unwrap();
    assert_eq!((changes.written.len(), changes.active), (4, false));
    assert_eq!(remove(root.path(), &mut runner).unwrap().removed.len(), 4);
    assert_eq!(runner.calls, Vec::<String>::new());
    fs::remove_dir(root.path().join(CRON_FOLDER)).unwrap();
    let error = install(Scheduler::Cron, &options(&["daily"]), root.path(), &mut runner).unwrap_err();
    assert!(matches!(error, ScheduleError::NoFolder(folder) if folder.ends_with("etc/cron.d")));
}

#[test]
fn what_others_wrote_stays() {
    for scheduler in [Scheduler::Systemd, Scheduler::Cron] {
        for name in scheduler.names() {
            let (root, mut runner) = (host(), Recorder::default());
            let path = root.path().join(scheduler.folder()).join(name);
            fs::write(&path, "# my own\n").unwrap();
            for result in [
                install(Scheduler::Systemd, &options(&["daily"]), root.path(), &mut runner),
                install(Scheduler::Cron, &options(&["daily"]), root.path(), &mut runner),
                remove(root.path(), &mut runner),
            ] {
                assert!(matches!(result, Err(ScheduleError::Foreign(foreign)) if foreign == path));
            }
            assert_eq!(fs::read_to_string(&path).unwrap(), "# my own\n");
            let count = |folder| fs::read_dir(root.path().join(folder)).unwrap().count();
            assert_eq!((count(SYSTEMD_FOLDER) + count(CRON_FOLDER), runner.calls.len()), (1, 0));
            // A masked unit.
            fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink("/dev/null", &path).unwrap();
            assert!(matches!(remove(root.path(), &mut runner), Err(ScheduleError::Foreign(_))));
        }
    }
}

#[test]
fn a_failure_of_systemd_can_be_made_good() {
    let (root, mut runner) = (host(), Recorder { fails: true, ..Recorder::default() });
    let error = install(Scheduler::Systemd, &options(&["daily"]), root.path(), &mut runner).unwrap_err();
    assert_eq!(
        error.to_string(),
        "systemctl daemon-reload failed; the files are written, and the command may be given again"
    );
    runner.fails = false;
    let changes = install(Scheduler::Systemd, &options(&["daily"]), root.path(), &mut runner).unwrap();
    assert_eq!((changes.unchanged.len(), changes.active), (4, true));
}

#[test]
fn programs_say_why_they_fail() {
    assert!(Programs.run("true", &[]).is_ok());
    let error = Programs.run("sh", &["-c", "echo one >&2; echo two >&2; exit 3"]).unwrap_err();
    assert_eq!(error.to_string(), "two (exit status: 3)");
    assert_eq!(Programs.run("/nonexistent", &[]).unwrap_err().kind(), io::ErrorKind::NotFound);
}
