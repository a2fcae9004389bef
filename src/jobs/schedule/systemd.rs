//! The units of systemd: a service that runs what is due, one that looks whether all is well, and their timers.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;

use super::{ScheduleError, ScheduleOptions, absolute};
use crate::jobs::secret::Credential;

/// Services go before the timers that start them.
pub(super) const NAMES: [&str; 4] =
    ["yester-run.service", "yester-status.service", "yester-run.timer", "yester-status.timer"];
/// What is enabled.
pub(super) const TIMERS: [&str; 2] = ["yester-run.timer", "yester-status.timer"];

const CHANGES: &str = "# Changes belong elsewhere: systemctl edit";

/// Returns the units in the order of their names, without their first lines.
pub(super) fn texts(options: &ScheduleOptions) -> Result<[String; 4], ScheduleError> {
    Ok([run_service(options)?, status_service(options)?, run_timer(options), status_timer()])
}

fn run_service(options: &ScheduleOptions) -> Result<String, ScheduleError> {
    let mut text = format!(
        "{CHANGES} yester-run.service

[Unit]
Description=Back up what is due (yester)
# No RequiresMountsFor=: where one disk is missing, the others are still written to, and somebody is told.
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart={} run
# Every backup has a timeout of its own.
TimeoutStartSec=infinity
",
        command(options)?
    );
    if options.low_priority {
        text.push_str("# Processor and disk go to others first.\nNice=10\nIOSchedulingClass=idle\n");
    }
    text.push_str(&environment(options)?);
    text.push_str(&confinement(options, &options.writable)?);
    Ok(text)
}

fn status_service(options: &ScheduleOptions) -> Result<String, ScheduleError> {
    Ok(format!(
        "{CHANGES} yester-status.service

[Unit]
Description=Look whether backups are well, and tell who should know (yester)

[Service]
Type=oneshot
ExecStart={} status --alert
# A channel that hangs must not keep the next one from being tried.
TimeoutStartSec=10min
{}{}",
        command(options)?,
        environment(options)?,
        confinement(options, &options.status_writable)?
    ))
}

fn run_timer(options: &ScheduleOptions) -> String {
    let calendars = options.schedules.iter().flat_map(|schedule| schedule.calendars());
    let lines: BTreeSet<_> = calendars.flat_map(|calendar| calendar.to_systemd()).collect();
    let mut text = format!(
        "{CHANGES} yester-run.timer\n\n[Unit]\nDescription=Back up what is due (yester)\n\n[Timer]\n"
    );
    for line in lines {
        let _ = writeln!(text, "OnCalendar={line}");
    }
    text.push_str(
        "# What was missed while the machine was off is done when it is on again, and so is what was cut off then.
Persistent=true\nOnBootSec=2min\nAccuracySec=1s\n",
    );
    let delay_secs = options.random_delay.as_secs();
    if delay_secs > 0 {
        let _ = writeln!(
            text,
            "# Hosts begin at different times, but each of them always at the same, so that no interval is longer.
RandomizedDelaySec={delay_secs}s\nFixedRandomDelay=true"
        );
    }
    text.push_str("\n[Install]\nWantedBy=timers.target\n");
    text
}

fn status_timer() -> String {
    format!(
        "{CHANGES} yester-status.timer

[Unit]
Description=Look whether backups are well (yester)

[Timer]
# After a start, what was missed has a quarter of an hour to begin.
OnBootSec=15min
OnUnitInactiveSec=15min

[Install]
WantedBy=timers.target
"
    )
}

fn command(options: &ScheduleOptions) -> Result<String, ScheduleError> {
    // Commands know variables; `$$` is a dollar sign.
    let word = |text: &str| word(&text.replace('$', "$$"));
    Ok(format!("{} --config {}", word(absolute(&options.program)?), word(absolute(&options.config)?)))
}

/// Returns a word as units read it: `%` begins a specifier, and what is special is quoted.
fn word(text: &str) -> String {
    let text = text.replace('%', "%%");
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%$~".contains(c);
    if text.chars().all(is_plain) {
        return text;
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Returns the folders, the home and the secrets of a service.
fn environment(options: &ScheduleOptions) -> Result<String, ScheduleError> {
    let mut text = "StateDirectory=yester
StateDirectoryMode=0700
CacheDirectory=yester
CacheDirectoryMode=0700
# psql, redis-cli and S3 look for passwords there, and systemd sets no HOME for root.
Environment=HOME=/root
"
    .to_owned();
    for Credential { name, path, is_encrypted } in &options.credentials {
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.starts_with('.') || !name.chars().all(is_of_name) {
            return Err(ScheduleError::Credential(name.clone()));
        }
        let setting = if *is_encrypted { "LoadCredentialEncrypted" } else { "LoadCredential" };
        let _ = writeln!(text, "{setting}={name}:{}", absolute(path)?.replace('%', "%%"));
    }
    Ok(text)
}

/// Returns what a service may not do.
fn confinement(options: &ScheduleOptions, writable: &[PathBuf]) -> Result<String, ScheduleError> {
    let mut text = "# Everything can be read, for everything may be a source: so no ProtectHome=, no PrivateDevices=, and no
# bounds to what capabilities can read. Written are cache, state, and what is named here.
ProtectSystem=strict
"
    .to_owned();
    for path in writable {
        // A disk that is not there must not keep the service from starting.
        let _ = writeln!(text, "ReadWritePaths={}", word(&format!("-{}", absolute(path)?)));
    }
    text.push_str(if options.uses_tmp {
        "# A source, a store or a socket lies there: no PrivateTmp=.\nReadWritePaths=/tmp /var/tmp\n"
    } else {
        "PrivateTmp=true\n"
    });
    text.push_str(
        "ProtectKernelTunables=true
ProtectKernelLogs=true
ProtectControlGroups=true
ProtectHostname=true
LockPersonality=true
RestrictRealtime=true
SystemCallArchitectures=native
",
    );
    text.push_str(if options.runs_commands {
        "# Commands of the configuration may need more: sudo gains rights by a set-user-ID bit, which NoNewPrivileges= would
# ignore; docker and lvcreate load modules and open devices. What they write to is missing above: ReadWritePaths=
# may be added.
"
    } else {
        "# The configuration has no commands of its own, such as sudo. What root changes users with (runuser, setpriv) needs no
# more than this. No ProtectKernelModules=, which would hide /usr/lib/modules from backups.
NoNewPrivileges=true
ProtectClock=true
RestrictSUIDSGID=true
RestrictNamespaces=true
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
CapabilityBoundingSet=~CAP_SYS_MODULE CAP_SYS_BOOT CAP_SYS_TIME CAP_SYS_RAWIO CAP_SYS_PTRACE CAP_NET_ADMIN CAP_BPF
"
    });
    Ok(text)
}
