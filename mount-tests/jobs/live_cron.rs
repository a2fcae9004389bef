//! Debian's own cron starts what `yester schedule install` wrote for it.
//!
//! It runs in namespaces of mounts and of processes in which its tables, its mail program and what says that it runs
//! are the laboratory's, by a clock on which a second is a minute. What it starts has the clock of the machine.

use std::fs;
use std::process::Command;

use yester::journal::RunOutcome;

use super::host::{Host, NEEDS};
use crate::harness::{Need, Process, Ran, YESTER, can, in_a_while};

/// Puts what cron looks at where it looks for it, then becomes `$2 …`. The real folders of tables are never written to.
const NAMESPACE: &str = r#"
set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /dev/shm
mount --bind "$1/cron.d" /etc/cron.d
mount --bind "$1/spool" /var/spool/cron
mount --bind /dev/null /etc/crontab
[ -e "$1/sbin/cron" ] || cp "$(command -v cron)" "$1/sbin/cron"
mount --bind "$1/sbin" /usr/sbin
shift
exec "$@"
"#;

/// Every five minutes, as the runs of a schedule that cron cannot express.
const TICKS: &str = "*/5 * * * *  root  echo tick >>";

struct CronHost {
    host: Host,
}

impl CronHost {
    /// Makes a host on which `shop` is backed up by a schedule, as long as there is a file `good`.
    fn new(schedule: &str) -> Self {
        let host = Host::new();
        for folder in ["cron.d", "spool/crontabs", "mail"] {
            fs::create_dir_all(host.lab.path(folder)).unwrap();
        }
        let root = host.text("");
        // Keeps each mail in a file of its own, which has its name once it is whole.
        let keep =
            format!("mail=$(mktemp \"{root}mail/XXXXXX\")\ncat >\"$mail\"\nmv \"$mail\" \"$mail.whole\"");
        host.program("sbin/sendmail", &keep);
        host.configure(&format!(
            "schedule = {schedule:?}\nretries = 0\nkey-file = \"{root}etc/yester/key\"\n\
             [store.local]\nurl = \"{root}srv/backup/store\"\n\
             [source.shop]\ncommand = [\"cat\", \"{root}good\"]\noutput = \"shop.txt\"\n"
        ));
        host.write("good", "all that is sold");
        host.init("local");
        Self { host }
    }

    fn within(&self, program: &[&str]) -> Command {
        let mut command = self.host.program_here("sh");
        command.args(["-c", NAMESPACE, "sh"]).arg(self.host.lab.path("")).args(program);
        command
    }

    fn schedule(&self, action: &str) -> Ran {
        let config = self.host.text("etc/yester/config.toml");
        let path = "PATH=/usr/bin:/bin";
        let ran =
            Ran::of(&mut self.within(&["env", "-i", path, YESTER, "--config", &config, "schedule", action]));
        ran.succeeds();
        ran
    }

    /// Returns the table that was installed.
    fn table(&self) -> Option<String> {
        fs::read_to_string(self.host.lab.path("cron.d/yester")).ok()
    }

    /// Starts cron at a time of its clock.
    fn start(&self, time: &str) -> Process {
        let (path, clock) = ("PATH=/usr/sbin:/usr/bin:/bin", format!("@{time} x60"));
        Process::start(&mut self.within(&[
            // With a namespace of processes, what cron started ends with it.
            "unshare",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "env",
            "-i",
            path,
            "TZ=UTC",
            "faketime",
            "-f",
            &clock,
            "cron",
            "-f",
        ]))
    }

    /// Counts the backups that ended so.
    fn count(&self, outcome: RunOutcome) -> usize {
        self.host.runs("ingest").iter().filter(|run| run.outcome == outcome).count()
    }

    fn mails(&self) -> Vec<String> {
        let entries = fs::read_dir(self.host.lab.path("mail")).unwrap().map(|entry| entry.unwrap().path());
        let whole = entries.filter(|path| path.extension().is_some());
        whole.map(|path| fs::read_to_string(path).unwrap()).collect()
    }

    /// Waits until it was twice time for what cron starts every five minutes.
    fn pass(&self) {
        let ticks = || fs::read_to_string(self.host.lab.path("ticks")).unwrap_or_default().lines().count();
        let before = ticks();
        in_a_while("cron goes on", || ticks() >= before + 2);
    }
}

const CRON_NEEDS: [Need; 2] = [Need::Tool("cron"), Need::Tool("faketime")];

#[test]
fn cron_starts_the_night() {
    if !can(&NEEDS) || !can(&CRON_NEEDS) {
        return;
    }
    let cron = CronHost::new("03:30");
    cron.schedule("install");
    assert!(cron.table().unwrap().contains("\n30 3 * * *  root  "), "{:?}", cron.table());
    let daemon = cron.start("2025-03-17 03:27:00");
    in_a_while("cron has started a backup", || cron.count(RunOutcome::Succeeded) == 1);
    drop(daemon);
    assert_eq!(cron.host.newest("local", "shop", "shop.txt"), b"all that is sold");
    assert_eq!(cron.mails(), [""; 0]);
}

#[test]
fn cron_sends_what_went_wrong_and_nothing_else() {
    if !can(&NEEDS) || !can(&CRON_NEEDS) {
        return;
    }
    // More often than cron can say: it starts a run every five minutes, which are five seconds here.
    let cron = CronHost::new("*:*:*");
    cron.host.write("cron.d/ticks", format!("{TICKS} {}\n", cron.host.text("ticks")));
    cron.schedule("install");
    let _daemon = cron.start("2025-03-17 12:00:00");
    in_a_while("cron starts runs", || cron.count(RunOutcome::Succeeded) >= 2);
    fs::remove_file(cron.host.lab.path("good")).unwrap();
    in_a_while("cron sends mails", || cron.mails().len() >= 2);
    cron.host.write("good", "all that is sold again");
    let good = cron.count(RunOutcome::Succeeded);
    in_a_while("backups are good again", || cron.count(RunOutcome::Succeeded) >= good + 2);

    cron.schedule("remove");
    assert_eq!(cron.table(), None);
    // What it had begun before comes to its end.
    cron.pass();
    in_a_while("no run goes on", || cron.count(RunOutcome::Unfinished) == 0);
    let backups = cron.host.runs("ingest").len();
    cron.pass();
    assert_eq!(cron.host.runs("ingest").len(), backups);

    // One mail for each run that failed, and none for the others, nor for looks at health.
    in_a_while("all mails are there", || cron.mails().len() >= cron.count(RunOutcome::Failed));
    let mails = cron.mails();
    assert_eq!(mails.len(), cron.count(RunOutcome::Failed), "{mails:#?}");
    for mail in mails {
        let (head, body) = mail.split_once("\n\n").unwrap();
        assert!(head.contains("\nTo: root\n") && head.contains(" run\n"), "{mail}");
        assert!(body.contains("ingest shop") && body.contains("FAILED"), "{mail}");
        assert!(body.contains("good: No such file or directory"), "{mail}");
    }
    assert_eq!(cron.host.newest("local", "shop", "shop.txt"), b"all that is sold again");
}
