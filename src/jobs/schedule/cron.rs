//! The file for `/etc/cron.d`.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::{ScheduleError, ScheduleOptions, absolute};

/// Without a dot: cron passes over names that have one.
pub(super) const NAME: &str = "yester";

/// For schedules that cron cannot express.
const OFTEN: &str = "*/5 * * * *";

/// Returns the file, without its first line.
pub(super) fn text(options: &ScheduleOptions) -> Result<String, ScheduleError> {
    if let Some(credential) = options.credentials.first() {
        return Err(ScheduleError::CredentialOfCron(credential.name.clone()));
    }
    let is_of_address = |c: char| c.is_ascii_alphanumeric() || "@._+-".contains(c);
    if options.mail_to.is_empty() || !options.mail_to.chars().all(is_of_address) {
        return Err(ScheduleError::MailTo(options.mail_to.clone()));
    }
    let program =
        format!("{} --config {}", word(absolute(&options.program)?), word(absolute(&options.config)?));
    let program = if options.low_priority { format!("ionice -c 3 nice -n 10 {program}") } else { program };
    let delay = match options.random_delay.as_secs() {
        0 => String::new(),
        seconds => format!("sleep \"$(shuf -n 1 -i 0-{seconds})\"; "),
    };

    let calendars = options.schedules.iter().flat_map(|schedule| schedule.calendars());
    let fields: BTreeSet<_> =
        calendars.map(|calendar| calendar.to_cron().ok_or(calendar)).map(Result::ok).collect();
    let mut text = format!(
        "SHELL=/bin/sh\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nMAILTO={}\n\n",
        options.mail_to
    );
    text.push_str("# Runs do what is due, and nothing else.\n");
    for fields in fields.iter().flatten() {
        let _ = writeln!(text, "{fields}  root  {delay}{program} run");
    }
    if fields.contains(&None) {
        text.push_str("# A schedule that cron cannot express: most of these runs find nothing to do.\n");
        let _ = writeln!(text, "{OFTEN}  root  {program} run");
    } else {
        text.push_str("# What was missed while the machine was off.\n");
        let _ = writeln!(text, "@reboot  root  sleep 120; {program} run");
    }
    text.push_str("# Notices runs that fail, and those that do not come at all.\n");
    let _ = writeln!(text, "*/15 * * * *  root  {program} status --alert");
    Ok(text)
}

/// Returns a word for the shell in a crontab, where `%` would be the end of the line.
fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@".contains(c);
    if text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''")).replace('%', "\\%")
}
