//! systemd is content with the units that are written for it.

use std::fs;
use std::path::Path;
use std::process::Command;

use jiff::SignedDuration;
use yester::jobs::schedule::{ScheduleOptions, Scheduler, files};
use yester::jobs::secret::Credential;

use crate::harness::{Need, YESTER, can};

#[test]
fn systemd_is_content_with_units() {
    if !can(&[Need::Tool("systemd-analyze")]) {
        return;
    }
    for (runs_commands, uses_tmp) in [(false, false), (true, true)] {
        let options = ScheduleOptions {
            program: YESTER.into(),
            config: "/etc/odd name's 100%/$HOME \"x\\y\".toml".into(),
            schedules: ["daily", "Mon..Fri 4/8:30 Europe/Berlin", "*-*~1,2,9", "*:0/20"]
                .map(|text| text.parse().unwrap())
                .into(),
            writable: vec!["/srv/my store/100%".into(), "/srv/\"quoted\"\\".into(), "/srv/$x".into()],
            status_writable: vec!["/var/lib/node exporter".into()],
            credentials: vec![
                Credential {
                    name: "pass".to_owned(),
                    path: "/root/pass word:50%".into(),
                    is_encrypted: false,
                },
                Credential { name: "mail".to_owned(), path: "/root/mail".into(), is_encrypted: true },
            ],
            random_delay: SignedDuration::from_mins(20),
            low_priority: true,
            runs_commands,
            uses_tmp,
            mail_to: "root".to_owned(),
        };
        let folder = tempfile::tempdir().unwrap();
        for file in files(Scheduler::Systemd, &options).unwrap() {
            fs::write(folder.path().join(file.path.file_name().unwrap()), file.text).unwrap();
        }
        verify(folder.path(), "");
        // The test can fail: a mistake is seen.
        let timer = folder.path().join("yester-run.timer");
        let text = fs::read_to_string(&timer).unwrap().replace("OnCalendar=", "OnCalendar=x");
        fs::write(&timer, text).unwrap();
        verify(folder.path(), "Failed to parse calendar specification");
    }
}

/// Lets systemd look at all units of a folder. It says nothing if nothing is expected.
fn verify(folder: &Path, expected: &str) {
    let units = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(units).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{said}");
}
