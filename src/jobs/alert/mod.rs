//! Who is told of what is wrong, and that it is over.
//!
//! Owns incidents' way to people: each is told once for each severity to whom the configuration says, and its end to
//! those who heard of its beginning. What does not arrive is tried again the next time, and told to the others. What is
//! wrong is `health`'s to say; the journal remembers who was told.

mod decide;
mod message;
mod send;
#[cfg(test)]
mod tests;

use std::ffi::OsString;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::config::{AlertConfig, Channel, Config};
use super::health::{Finding, Health, UNDELIVERED, undelivered_finding};
use crate::journal::{Incident, Journal, JournalError, Notice, NoticesLock, Observation};
use decide::Event;
use message::Message;

/// The end of an incident is told for so long; later, nobody waits for it.
const TOLD_AFTER: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What is around: who speaks, and where secrets and clocks are.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// The host that speaks.
    pub host: &'a str,
    /// The user that speaks, for the address of mail.
    pub user: &'a str,
    /// The variables of the environment.
    pub environment: &'a dyn Fn(&str) -> Option<OsString>,
    /// What the clocks of people show.
    pub zone: &'a TimeZone,
}

/// What telling came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlertStats {
    /// Messages that arrived.
    pub sent: u64,
    /// Alerts that did not, each with why; without any secret.
    pub failed: Vec<(String, String)>,
}

/// How far a few messages came.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Delivery {
    /// So many of the first ones arrived.
    delivered: usize,
    /// Why the next did not.
    failure: Option<String>,
}

type Deliver<'a> = dyn Fn(&AlertConfig, &[Message]) -> Delivery + 'a;

/// Takes over what is wrong, and tells whoever is to be told and was not yet. To do so again tells nothing again.
///
/// The lock is to be older than the health: what another process has found to be over meanwhile would begin anew.
///
/// # Errors
/// Fails if the journal cannot be read or written. That an alert does not arrive is no error, but is in what is
/// returned.
pub fn evaluate(
    config: &Config,
    journal: &Journal,
    health: &Health,
    now: Timestamp,
    surroundings: &Surroundings<'_>,
    _lock: &NoticesLock,
) -> Result<AlertStats, JournalError> {
    let deliver = |alert: &AlertConfig, messages: &[Message]| send::deliver(alert, messages, surroundings);
    Evaluation { config, journal, now, surroundings, deliver: &deliver }.run(health)
}

/// Sends a test message by every alert. Returns each with why it did not arrive, without any secret.
#[must_use]
pub fn test(
    config: &Config,
    now: Timestamp,
    surroundings: &Surroundings<'_>,
) -> Vec<(String, Result<(), String>)> {
    let test = |alert: &AlertConfig| {
        let delivery = send::deliver(alert, &[Message::test(surroundings.host, now)], surroundings);
        (alert.name.clone(), delivery.failure.map_or(Ok(()), Err))
    };
    config.alerts.iter().map(test).collect()
}

/// What a dead man's switch is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ping<'a> {
    /// A run begins.
    Start,
    /// A run ended well: its summary.
    Success(&'a str),
    /// A run ended otherwise: its summary.
    Failure(&'a str),
}

/// Tells every dead man's switch of a run. One that cannot be told is found to be `undelivered`.
///
/// # Errors
/// Fails if the journal cannot be written.
pub fn ping(
    config: &Config,
    journal: &Journal,
    ping: Ping<'_>,
    now: Timestamp,
    surroundings: &Surroundings<'_>,
) -> Result<AlertStats, JournalError> {
    let mut stats = AlertStats::default();
    for alert in &config.alerts {
        let Channel::Healthchecks { url } = &alert.channel else { continue };
        match send::ping(url, ping, surroundings) {
            Ok(()) => {
                stats.sent += 1;
                journal.record_delivered(&alert.name)?;
            }
            Err(why) => {
                journal.record_undelivered(&alert.name, &why, now)?;
                stats.failed.push((alert.name.clone(), why));
            }
        }
    }
    Ok(stats)
}

struct Evaluation<'a> {
    config: &'a Config,
    journal: &'a Journal,
    now: Timestamp,
    surroundings: &'a Surroundings<'a>,
    deliver: &'a Deliver<'a>,
}

impl Evaluation<'_> {
    fn run(&self, health: &Health) -> Result<AlertStats, JournalError> {
        self.forget_removed_alerts()?;
        // Which alerts do not arrive is asked anew below.
        let found = health.findings.iter().filter(|finding| finding.rule != UNDELIVERED);
        self.observe(&found.cloned().collect::<Vec<_>>(), &|rule| rule != UNDELIVERED)?;
        let mut stats = AlertStats::default();
        // What one alert cannot tell is for others to tell, and so is that it can again: rounds, until one changes
        // nothing. The first one finds out which alerts do not arrive.
        for round in 0..self.config.alerts.len() * 4 + 2 {
            let undelivered = self.journal.undelivered()?;
            let found: Vec<Finding> =
                undelivered.iter().map(|alert| undelivered_finding(alert, self.surroundings.zone)).collect();
            self.observe(&found, &|rule| rule == UNDELIVERED)?;
            let known = (stats.sent, stats.failed.len(), undelivered);
            self.tell(&mut stats, round == 0)?;
            if round > 0 && known == (stats.sent, stats.failed.len(), self.journal.undelivered()?) {
                break;
            }
        }
        Ok(stats)
    }

    /// Tells what is to be told, by every alert that did not fail before.
    fn tell(&self, stats: &mut AlertStats, is_first: bool) -> Result<(), JournalError> {
        let since = self.now.saturating_sub(TOLD_AFTER).unwrap_or(Timestamp::UNIX_EPOCH);
        let incidents = self.journal.incidents(since)?;
        for alert in &self.config.alerts {
            if is_switch(alert) || has_failed(stats, &alert.name) {
                continue;
            }
            let due = incidents.iter().filter_map(|(incident, told)| {
                let event = decide::decide(alert, incident, told, self.now)?;
                let is_certain = event == Event::Ended || !self.may_arrive(incident, stats);
                is_certain.then(|| (incident, Message::new(self.surroundings.host, incident, event)))
            });
            let (incidents, messages): (Vec<_>, Vec<_>) = due.unzip();
            if messages.is_empty() {
                if !is_first {
                    // Nothing waits for this one any more.
                    self.journal.record_delivered(&alert.name)?;
                }
                continue;
            }
            let delivery = (self.deliver)(alert, &messages);
            for (incident, message) in incidents.iter().zip(&messages).take(delivery.delivered) {
                let notice = Notice { alert: alert.name.clone(), gravity: message.told() };
                self.journal.record_notice(incident.id, &notice, self.now)?;
                stats.sent += 1;
            }
            match delivery.failure {
                None => self.journal.record_delivered(&alert.name)?,
                Some(why) => {
                    self.journal.record_undelivered(&alert.name, &why, self.now)?;
                    stats.failed.push((alert.name.clone(), why));
                }
            }
        }
        Ok(())
    }

    /// Tells whether an incident says that an alert does not arrive which may well arrive by now: it was not tried yet.
    fn may_arrive(&self, incident: &Incident, stats: &AlertStats) -> bool {
        let is_tried_here = |alert: &AlertConfig| alert.name == incident.subject && !is_switch(alert);
        incident.rule == UNDELIVERED
            && self.config.alerts.iter().any(is_tried_here)
            && !has_failed(stats, &incident.subject)
    }

    fn observe<'a>(&self, found: &'a [Finding], concerns: &dyn Fn(&str) -> bool) -> Result<(), JournalError> {
        let observation = |finding: &'a Finding| Observation {
            rule: finding.rule,
            subject: &finding.subject,
            gravity: decide::gravity(finding.severity),
            text: &finding.text,
        };
        let found: Vec<Observation<'_>> = found.iter().map(observation).collect();
        self.journal.observe(&found, concerns, self.now)
    }

    fn forget_removed_alerts(&self) -> Result<(), JournalError> {
        for undelivered in self.journal.undelivered()? {
            if !self.config.alerts.iter().any(|alert| alert.name == undelivered.alert) {
                self.journal.record_delivered(&undelivered.alert)?;
            }
        }
        Ok(())
    }
}

/// Tells whether an alert is told of runs alone.
fn is_switch(alert: &AlertConfig) -> bool {
    matches!(alert.channel, Channel::Healthchecks { .. })
}

fn has_failed(stats: &AlertStats, alert: &str) -> bool {
    stats.failed.iter().any(|(name, _)| name == alert)
}
