//! What is installed for systemd, under a systemd that runs: one of its own, in namespaces of its own, over the files
//! of this machine, of which it changes none.

use std::fs;
use std::process::Command;

use super::host::{Host, NEEDS};
use crate::harness::{Need, Process, Ran, YESTER, can, in_a_while};

/// Puts a layer over the root folder and what a machine has at its start into it, then becomes its first process.
/// `$1`: an empty folder, `$2`: yester.
const BOOT: &str = r#"
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
cd "$1"
mkdir upper work root
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
cd root
touch usr/local/bin/yester
mount --bind "$2" usr/local/bin/yester
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t tmpfs tmpfs sys/fs/cgroup
mount -t cgroup2 cgroup2 sys/fs/cgroup
for folder in run tmp dev; do mount -t tmpfs tmpfs "$folder"; done
mkdir dev/pts dev/shm
mount -t devpts devpts dev/pts -o newinstance,ptmxmode=666
for device in null zero full random urandom tty; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
ln -s /proc/self/fd dev/fd
# Timers and services of this machine are none of its business.
rm -rf etc/systemd/system/*.wants etc/cron.d/yester var/lib/yester var/cache/yester
mkdir old
pivot_root . old
umount -l /old
# As a machine has it: what is mounted for a service comes from elsewhere.
mount --make-rshared /
export container=test
exec chroot . /usr/lib/systemd/systemd --system --unit=basic.target --log-target=journal >/dev/null 2>&1
"#;

/// A machine that systemd has started.
struct Machine {
    process: Process,
}

impl Machine {
    fn boot(host: &Host) -> Self {
        let folder = host.lab.path("machine");
        fs::create_dir(&folder).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--uts", "--ipc", "--net", "--cgroup", "--kill-child"]);
        command.args(["sh", "-c", BOOT, "sh"]).arg(folder).arg(YESTER);
        let machine = Self { process: Process::start(&mut command) };
        in_a_while("systemd has started", || {
            let state = machine.first_process().map(|_| machine.run("systemctl is-system-running"));
            state.is_some_and(|ran| ["running\n", "degraded\n"].contains(&ran.text().as_str()))
        });
        machine
    }

    /// Returns its first process, once that is systemd.
    fn first_process(&self) -> Option<String> {
        let pid = self.process.pid().as_raw_nonzero();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        let first = children.split_whitespace().next()?.to_owned();
        (fs::read_to_string(format!("/proc/{first}/comm")).ok()? == "systemd\n").then_some(first)
    }

    /// Runs a script as root, as from a terminal.
    fn run(&self, script: &str) -> Ran {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.first_process().unwrap()]);
        command.args(["--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--root", "--wd"]);
        command.args(["env", "-i", "HOME=/root", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]);
        command.args(["sh", "-ec", script]);
        Ran::of(&mut command)
    }

    fn snapshots(&self, source: &str) -> usize {
        let ran = self.run(&format!("yester snapshots --source {source} --json"));
        ran.json().as_array().unwrap().len()
    }
}

const CONFIGURATION: &str = r#"
mkdir -p /etc/credstore.encrypted /etc/yester /srv/shop
chmod 700 /etc/credstore.encrypted
echo "correct horse" | systemd-creds encrypt --with-key=host --name=store - /etc/credstore.encrypted/store
echo goods >/srv/shop/stock
cat >/etc/yester/config.toml <<'END'
schedule = "daily"
retries  = 0
[store.local]
url        = "/srv/backup"
passphrase = { credential = "store" }
[source.shop]
paths = ["/srv/shop"]
END
yester init
"#;

/// When the timer would have started a run, had the machine been on.
const MISSED: &str = "mkdir -p /var/lib/systemd/timers && touch -d '2 days ago' /var/lib/systemd/timers/stamp-yester-run.timer";

#[test]
fn timers_start_runs() {
    if !can(&[&NEEDS[..], &[Need::Tool("systemd-analyze"), Need::Tool("nsenter")]].concat()) {
        return;
    }
    let host = Host::new();
    let machine = Machine::boot(&host);
    machine.run(CONFIGURATION).succeeds();

    // What was missed while the machine was off is made up for, with a passphrase that only systemd can read.
    machine.run(MISSED).succeeds();
    machine.run("yester config check && yester schedule install").succeeds();
    in_a_while("what was missed is backed up", || machine.snapshots("shop") == 1);
    in_a_while("the run has ended", || {
        machine.run("systemctl show --property=ActiveState,Result yester-run.service").text()
            == "Result=success\nActiveState=inactive\n"
    });
    let said = machine.run("journalctl --quiet --output=cat _COMM=yester");
    assert_eq!(said.succeeds(), "", "a run has nothing to say where all is well");

    // What is due often comes often, and what fails is seen by systemd.
    machine
        .run(
            "printf '[source.clock]\ncommand = [\"date\"]\nschedule = \"*:*:0/3\"\n\
             [source.broken]\ncommand = [\"false\"]\nschedule = \"*:*:0/3\"\n' >>/etc/yester/config.toml
             yester schedule install",
        )
        .succeeds();
    in_a_while("timers come again and again", || machine.snapshots("clock") >= 2);
    assert_eq!(machine.snapshots("shop"), 1);
    in_a_while("the failure is in the log", || {
        machine.run("journalctl --quiet --output=cat _COMM=yester").text().contains("ingest broken")
    });
    in_a_while("the unit has failed", || {
        machine.run("systemctl is-failed yester-run.service").text() == "failed\n"
    });
    machine.run("systemctl start yester-status.service").succeeds();

    machine.run("yester schedule remove").succeeds();
    let timers = machine.run("systemctl list-timers --all --no-legend");
    assert!(!timers.succeeds().contains("yester"), "{}", timers.text());
}
