//! What is told: one message for each incident, in words for people and as JSON for programs.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::decide::{self, Event};
use crate::human;
use crate::jobs::config::Severity;
use crate::jobs::health::clock;
use crate::journal::{Gravity, Incident};

/// Longest key that PagerDuty takes.
const KEY_MAX: usize = 255;

/// What one message tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// Nothing for a test.
    pub(super) event: Option<Event>,
    pub(super) host: String,
    pub(super) rule: String,
    pub(super) subject: String,
    pub(super) severity: Severity,
    pub(super) began: Timestamp,
    pub(super) ended: Option<Timestamp>,
    pub(super) text: String,
}

impl Message {
    pub(super) fn new(host: &str, incident: &Incident, event: Event) -> Self {
        Self {
            event: Some(event),
            host: host.to_owned(),
            rule: incident.rule.clone(),
            subject: incident.subject.clone(),
            severity: decide::severity(incident.gravity),
            began: incident.began,
            ended: incident.ended,
            text: incident.text.clone(),
        }
    }

    /// Makes one that says that messages arrive.
    pub(super) fn test(host: &str, now: Timestamp) -> Self {
        Self {
            event: None,
            host: host.to_owned(),
            rule: "test".to_owned(),
            subject: "test".to_owned(),
            severity: Severity::Info,
            began: now,
            ended: None,
            text: "This is a test of yester: alerts from this host arrive here. Nothing is wrong.".to_owned(),
        }
    }

    /// Returns what was told once this arrived: how grave it is, or nothing for its end.
    pub(super) fn told(&self) -> Option<Gravity> {
        (self.event != Some(Event::Ended)).then(|| decide::gravity(self.severity))
    }

    /// Returns the word that stands before everything: the severity, or that it is over.
    pub(super) fn state(&self) -> &'static str {
        match self.event {
            None => "test",
            Some(Event::Ended) => "over",
            Some(Event::Began | Event::Graver) => self.severity.word(),
        }
    }

    /// Returns the message in one line: `db1: critical: shop (failures)`.
    pub(super) fn title(&self) -> String {
        let Self { host, subject, rule, .. } = self;
        if self.event.is_none() {
            format!("{host}: test")
        } else {
            format!("{host}: {}: {subject} ({rule})", self.state())
        }
    }

    /// Returns what it says below its title.
    pub(super) fn body(&self, zone: &TimeZone) -> String {
        match self.ended {
            Some(ended) => format!("Over since {}. Before: {}", clock(ended, zone), self.text),
            None => self.text.clone(),
        }
    }

    /// Returns what tells an incident from others, the same from its beginning to its end.
    pub(super) fn key(&self) -> String {
        let key = format!("yester/{}/{}/{}", self.host, self.rule, self.subject);
        if key.len() <= KEY_MAX { key } else { format!("yester/{}", blake3::hash(key.as_bytes()).to_hex()) }
    }

    /// Returns it for programs. `text` says it all, since that is what chat servers show.
    pub(super) fn document(&self, zone: &TimeZone) -> Value {
        let event = match self.event {
            None => "test",
            Some(Event::Began) => "began",
            Some(Event::Graver) => "graver",
            Some(Event::Ended) => "ended",
        };
        json!({
            "event": event,
            "key": self.key(),
            "host": self.host,
            "rule": self.rule,
            "subject": self.subject,
            "severity": self.severity.word(),
            "began": human::time(self.began),
            "ended": self.ended.map(human::time),
            "text": format!("{}. {}", self.title(), self.body(zone)),
        })
    }

    /// Returns it as an event of PagerDuty, without its key.
    pub(super) fn pagerduty_event(&self, zone: &TimeZone) -> Value {
        if self.event == Some(Event::Ended) {
            return json!({ "event_action": "resolve", "dedup_key": self.key() });
        }
        // PagerDuty takes 1,024 characters.
        let summary: String = format!("{}. {}", self.title(), self.body(zone)).chars().take(1000).collect();
        json!({
            "event_action": "trigger",
            "dedup_key": self.key(),
            "client": "yester",
            "payload": {
                "summary": summary,
                "source": self.host,
                "severity": self.severity.word(),
                "timestamp": human::time(self.began),
                "component": self.subject,
                "class": self.rule,
                "group": "yester",
            },
        })
    }
}

/// Returns the subject of a mail with several messages, at least one.
pub(super) fn mail_subject(messages: &[Message]) -> String {
    if let [one] = messages {
        return format!("[yester] {}", one.title());
    }
    let counted = ["critical", "warning", "info", "over"].into_iter().filter_map(|state| {
        let count = messages.iter().filter(|message| message.state() == state).count();
        (count > 0).then(|| format!("{count} {state}"))
    });
    let host = messages.first().map_or("", |message| &message.host);
    format!("[yester] {host}: {}", counted.collect::<Vec<_>>().join(", "))
}

/// Returns the text of a mail with several messages.
pub(super) fn mail_text(messages: &[Message], zone: &TimeZone) -> String {
    let paragraph = |message: &Message| {
        let began = clock(message.began, zone);
        format!("{}\n\n{}\n\nFirst seen: {began}\n", message.title(), message.body(zone))
    };
    let host = messages.first().map_or("", |message| &message.host);
    let mut text = messages.iter().map(paragraph).collect::<Vec<_>>().join("\n----\n\n");
    text.push_str(&format!("\n--\nyester on {host}. `yester status` says how everything is.\n"));
    text
}
