//! Whether an alert is to tell of an incident now. Pure.

use jiff::Timestamp;

use crate::jobs::config::{AlertConfig, Channel, Severity};
use crate::jobs::health::UNDELIVERED;
use crate::journal::{Gravity, Incident, Notice};

/// What is told of an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// It is there, and has not been told by this alert.
    Began,
    /// It is graver than this alert has told.
    Graver,
    /// It is over.
    Ended,
}

/// Returns what an alert has to tell of an incident now, given what was told: each severity once, and the end to those
/// who heard of the beginning.
pub(super) fn decide(
    alert: &AlertConfig,
    incident: &Incident,
    told: &[Notice],
    now: Timestamp,
) -> Option<Event> {
    // That it does not arrive is what an alert itself cannot tell.
    if incident.rule == UNDELIVERED && incident.subject == alert.name {
        return None;
    }
    let told = || told.iter().filter(|notice| notice.alert == alert.name);
    let gravest = told().filter_map(|notice| notice.gravity).max();
    if incident.ended.is_some() {
        // An event of PagerDuty stays open until it is told.
        let wants = alert.recovered || matches!(alert.channel, Channel::PagerDuty { .. });
        let is_told = told().any(|notice| notice.gravity.is_none());
        return (wants && gravest.is_some() && !is_told).then_some(Event::Ended);
    }
    let holds = now.duration_since(incident.since) >= alert.after;
    let is_news = gravest.is_none_or(|gravest| gravest < incident.gravity);
    if !alert.on.contains(&severity(incident.gravity)) || !holds || !is_news {
        return None;
    }
    Some(if gravest.is_none() { Event::Began } else { Event::Graver })
}

/// Returns a severity as the journal has it.
pub(super) fn gravity(severity: Severity) -> Gravity {
    Gravity::new(match severity {
        Severity::Info => 1,
        Severity::Warning => 2,
        Severity::Critical => 3,
    })
}

/// Returns a severity that the journal has.
pub(super) fn severity(gravity: Gravity) -> Severity {
    match gravity.number() {
        ..=1 => Severity::Info,
        2 => Severity::Warning,
        _ => Severity::Critical,
    }
}
