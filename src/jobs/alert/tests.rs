//! Who is told what and when, on a faked clock and by a channel that keeps what it is given.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::jobs::config::Severity;
use crate::jobs::health::Finding;

/// A host with alerts, whose messages are kept.
struct Host {
    _folder: tempfile::TempDir,
    journal: Journal,
    config: Config,
    /// `alert: title` of each message that arrived.
    arrived: RefCell<Vec<String>>,
    /// The alerts that do not arrive.
    broken: RefCell<BTreeSet<&'static str>>,
}

const ALERTS: &str = r#"
[store.local]
url = "/srv/backup"
[alert.pager]
pagerduty = { key-file = "/etc/yester/pagerduty" }
on = ["critical"]
[alert.mail]
smtp = "smtp://mail"
to = ["ops@example.com"]
on = ["critical", "warning", "recovered"]
[alert.hook]
webhook = "https://example.com/hook"
on = ["critical", "warning"]
"#;

fn minute(minute: i64) -> Timestamp {
    Timestamp::from_second(minute * 60).unwrap()
}

fn finding(rule: &'static str, subject: &str, severity: Severity) -> Finding {
    Finding { rule, subject: subject.into(), severity, text: format!("{subject} is ill.") }
}

impl Host {
    fn new(alerts: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.sqlite")).unwrap();
        let config = Config::parse(alerts, Path::new("/etc/yester/config.toml")).unwrap();
        let (arrived, broken) = (RefCell::default(), RefCell::default());
        Self { _folder: folder, journal, config, arrived, broken }
    }

    /// Evaluates at a minute, and returns what arrived, sorted.
    fn evaluate(&self, at: i64, findings: &[Finding]) -> Vec<String> {
        let health = Health { sources: Vec::new(), stores: Vec::new(), findings: findings.to_vec() };
        let deliver = |alert: &AlertConfig, messages: &[Message]| {
            if self.broken.borrow().contains(alert.name.as_str()) {
                return Delivery { delivered: 0, failure: Some("it is broken".into()) };
            }
            let titles = messages.iter().map(|message| format!("{}: {}", alert.name, message.title()));
            self.arrived.borrow_mut().extend(titles);
            Delivery { delivered: messages.len(), failure: None }
        };
        let surroundings =
            Surroundings { host: "db1", user: "root", environment: &|_| None, zone: &TimeZone::UTC };
        let evaluation = Evaluation {
            config: &self.config,
            journal: &self.journal,
            now: minute(at),
            surroundings: &surroundings,
            deliver: &deliver,
        };
        evaluation.run(&health).unwrap();
        let mut arrived = self.arrived.take();
        arrived.sort();
        arrived
    }

    fn is_broken(&self, alerts: impl IntoIterator<Item = &'static str>) {
        *self.broken.borrow_mut() = alerts.into_iter().collect();
    }
}

#[test]
fn three_failures_are_one_warning_and_one_critical_and_a_success_ends_both() {
    let host = Host::new(ALERTS);
    let failures = |severity| [finding("failures", "shop", severity)];
    let first = host.evaluate(0, &failures(Severity::Warning));
    assert_eq!(first, ["hook: db1: warning: shop (failures)", "mail: db1: warning: shop (failures)"]);
    assert_eq!(host.evaluate(1, &failures(Severity::Warning)), [""; 0], "told once");
    assert_eq!(
        host.evaluate(2, &failures(Severity::Critical)),
        [
            "hook: db1: critical: shop (failures)",
            "mail: db1: critical: shop (failures)",
            "pager: db1: critical: shop (failures)",
        ]
    );
    assert_eq!(host.evaluate(3, &failures(Severity::Critical)), [""; 0]);
    // The hook does not want to hear of it; an event of PagerDuty would stay open.
    let over = ["mail: db1: over: shop (failures)", "pager: db1: over: shop (failures)"];
    assert_eq!(host.evaluate(4, &[]), over);
    assert_eq!(host.evaluate(5, &[]), [""; 0]);
    // The next time is another incident.
    assert_eq!(host.evaluate(6, &failures(Severity::Warning)).len(), 2);
}

#[test]
fn the_end_is_told_to_those_who_heard_of_the_beginning() {
    let host = Host::new(ALERTS);
    assert_eq!(host.evaluate(0, &[finding("max-age", "shop", Severity::Warning)]).len(), 2);
    assert_eq!(host.evaluate(1, &[]), ["mail: db1: over: shop (max-age)"]);
    // Nobody wants to hear of what is only worth knowing, nor of its end.
    assert_eq!(host.evaluate(2, &[finding("slower", "shop", Severity::Info)]), [""; 0]);
    assert_eq!(host.evaluate(3, &[]), [""; 0]);
}

#[test]
fn what_passes_by_itself_is_not_told_to_those_who_wait() {
    let host = Host::new(&ALERTS.replace("on = [\"critical\"]", "on = [\"critical\"]\nafter = \"30m\""));
    let critical = [finding("failures", "shop", Severity::Critical)];
    let pager = |at, findings: &[Finding]| {
        host.evaluate(at, findings).into_iter().filter(|told| told.starts_with("pager")).collect::<Vec<_>>()
    };
    assert_eq!(pager(0, &critical), [""; 0]);
    assert_eq!(pager(29, &[]), [""; 0]);
    assert_eq!(pager(60, &critical), [""; 0], "it began anew");
    assert_eq!(pager(89, &critical), [""; 0]);
    assert_eq!(pager(90, &critical), ["pager: db1: critical: shop (failures)"]);
    assert_eq!(pager(91, &[]), ["pager: db1: over: shop (failures)"]);
}

#[test]
fn what_does_not_arrive_is_tried_again_and_told_to_the_others() {
    let host = Host::new(ALERTS);
    let warning = [finding("failures", "shop", Severity::Warning)];
    host.is_broken(["mail"]);
    let told = host.evaluate(0, &warning);
    assert_eq!(told, ["hook: db1: warning: mail (undelivered)", "hook: db1: warning: shop (failures)"]);
    assert_eq!(host.evaluate(1, &warning), [""; 0]);
    let undelivered = host.journal.undelivered().unwrap();
    assert_eq!((undelivered[0].since, undelivered[0].attempts), (minute(0), 2));
    host.is_broken([]);
    assert_eq!(host.evaluate(2, &warning), ["mail: db1: warning: shop (failures)"]);
    assert_eq!(host.journal.undelivered().unwrap(), []);
    let open = host.journal.incidents(minute(3)).unwrap();
    assert_eq!(open.iter().map(|(incident, _)| incident.rule.as_str()).collect::<Vec<_>>(), ["failures"]);
}

#[test]
fn alerts_that_all_fail_end_the_round() {
    let host = Host::new(ALERTS);
    host.is_broken(["mail", "hook", "pager"]);
    let critical = [finding("failures", "shop", Severity::Critical)];
    assert_eq!(host.evaluate(0, &critical), [""; 0]);
    assert_eq!(host.journal.undelivered().unwrap().len(), 3);
    host.is_broken(["mail", "hook"]);
    // PagerDuty hears of what is critical alone, and not that mail is broken.
    assert_eq!(host.evaluate(1, &critical), ["pager: db1: critical: shop (failures)"]);
    host.is_broken([]);
    assert_eq!(
        host.evaluate(2, &critical),
        ["hook: db1: critical: shop (failures)", "mail: db1: critical: shop (failures)"]
    );
}

#[test]
fn what_is_over_before_it_arrived_is_not_told_any_more() {
    let host = Host::new(ALERTS);
    host.is_broken(["mail", "hook", "pager"]);
    host.evaluate(0, &[finding("failures", "shop", Severity::Critical)]);
    host.is_broken([]);
    assert_eq!(host.evaluate(1, &[]), [""; 0]);
    assert_eq!(host.journal.undelivered().unwrap(), []);
}

#[test]
fn an_end_that_does_not_arrive_is_tried_for_a_week() {
    let host = Host::new(ALERTS);
    host.evaluate(0, &[finding("failures", "shop", Severity::Critical)]);
    host.is_broken(["pager"]);
    let week = 7 * 24 * 60;
    host.evaluate(10, &[]);
    assert_eq!(host.journal.undelivered().unwrap()[0].alert, "pager");
    host.is_broken([]);
    assert_eq!(host.evaluate(10 + week, &[])[..1], ["mail: db1: over: pager (undelivered)"][..]);
}

#[test]
fn a_switch_for_dead_men_is_told_of_runs_alone() {
    let host = Host::new(&format!("{ALERTS}[alert.dead]\nhealthchecks = \"https://h/uuid\"\n"));
    host.journal.record_undelivered("dead", "no answer", minute(0)).unwrap();
    host.journal.record_undelivered("removed", "no answer", minute(0)).unwrap();
    let told = host.evaluate(1, &[]);
    assert_eq!(told, ["hook: db1: warning: dead (undelivered)", "mail: db1: warning: dead (undelivered)"]);
    // Only a ping that arrives ends that; an alert that is no more is forgotten.
    let left: Vec<_> = host.journal.undelivered().unwrap().into_iter().map(|alert| alert.alert).collect();
    assert_eq!(left, ["dead"]);
}

#[test]
fn a_message_says_the_same_to_people_and_programs() {
    let host = Host::new(ALERTS);
    host.evaluate(0, &[finding("failures", "shop", Severity::Critical)]);
    host.evaluate(90, &[]);
    let incident = host.journal.incidents(minute(0)).unwrap().remove(0).0;
    let message = Message::new("db1", &incident, Event::Ended);
    let document = message.document(&TimeZone::UTC);
    let expected = serde_json::json!({
        "event": "ended", "key": "yester/db1/failures/shop", "host": "db1", "rule": "failures", "subject": "shop",
        "severity": "critical", "began": "1970-01-01T00:00:00Z", "ended": "1970-01-01T01:30:00Z",
        "text": "db1: over: shop (failures). Over since 1970-01-01 01:30 UTC. Before: shop is ill.",
    });
    assert_eq!(document, expected);
    let event = message.pagerduty_event(&TimeZone::UTC);
    assert_eq!(event, serde_json::json!({"event_action": "resolve", "dedup_key": document["key"]}));
    let began = Message { ended: None, event: Some(Event::Began), ..message };
    let event = began.pagerduty_event(&TimeZone::UTC);
    assert_eq!((&event["dedup_key"], &event["payload"]["severity"]), (&document["key"], &"critical".into()));
    let long = Message { subject: "x".repeat(300), ..began.clone() };
    assert!(long.key().len() <= 255 && long.key() != began.key());
    let mails = [began.clone(), long];
    assert_eq!(message::mail_subject(&mails[..1]), "[yester] db1: critical: shop (failures)");
    assert_eq!(message::mail_subject(&mails), "[yester] db1: 2 critical");
    assert!(
        message::mail_text(&mails[..1], &TimeZone::UTC)
            .contains("\n\nshop is ill.\n\nFirst seen: 1970-01-01")
    );
}
