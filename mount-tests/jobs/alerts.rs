//! What goes wrong is noticed: alerts by the real binary to real servers, what `status` and `report` say, and rules of
//! Prometheus on the metrics that a run writes.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use jiff::Timestamp;
use serde_json::Value;

use super::sinks::{MailSink, WebSink};
use crate::harness::{Lab, Need, Ran, can, succeed};

/// What must be seen nowhere but in its own file and at PagerDuty.
const KEY: &str = "R0UT1NGKEYTHATISSECRET";

/// A host with a source `shop`, which is good as long as there is a file `good`.
pub(super) struct Host {
    pub(super) lab: Lab,
    pub(super) web: WebSink,
}

impl Host {
    /// Makes one with these further tables in its configuration.
    pub(super) fn new(more: impl FnOnce(&Lab, &WebSink) -> String) -> Self {
        let (lab, web) = (Lab::new(), WebSink::start());
        let (store, key) = (lab.store(), lab.path("key"));
        let good = lab.path("good");
        let config = format!(
            "host = \"db1\"\nschedule = \"daily\"\nretries = 0\nkey-file = {key:?}\ngc = false\nverify = false\n\
             [store.local]\nurl = {store:?}\n\
             [source.shop]\ncommand = [\"cat\", {good:?}]\noutput = \"shop.txt\"\n{}",
            more(&lab, &web)
        );
        fs::write(lab.path("config.toml"), config).unwrap();
        Self { lab, web }
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let config = self.lab.path("config.toml");
        let mut command = self.lab.command(["--config", config.to_str().unwrap()]);
        command.args(arguments);
        command
    }

    pub(super) fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.command(arguments))
    }

    /// Backs up, and expects that it is good or not.
    #[track_caller]
    pub(super) fn back_up(&self, is_good: bool) -> Ran {
        let good = self.lab.path("good");
        if is_good {
            fs::write(good, "all that is sold").unwrap();
        } else {
            let _ = fs::remove_file(good);
        }
        let ran = self.run(&["run", "shop"]);
        if is_good {
            ran.succeeds();
        } else {
            ran.fails(1);
        }
        ran
    }

    /// Runs a command so much later.
    fn later(&self, offset: &str, arguments: &[&str]) -> Ran {
        let later = self.command(arguments);
        let mut command = Command::new("faketime");
        command.args(["-f", offset]).arg(later.get_program()).args(later.get_args());
        for (name, value) in later.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Ran::of(&mut command)
    }

    /// Runs a script of bash in a network of its own; `$@` is yester with the configuration. Servers that it starts end
    /// with it.
    pub(super) fn in_a_network(&self, script: &str) -> Ran {
        let yester = self.command(&[]);
        let mut command = Command::new("unshare");
        command.args(["--net", "--pid", "--fork", "--kill-child", "bash", "-c"]);
        command.arg(format!("{NETWORK}{script}")).arg("bash").arg(self.lab.path(""));
        command.arg(yester.get_program()).args(yester.get_args());
        for (name, value) in yester.get_envs() {
            value.map(|value| command.env(name, value));
        }
        Ran::of(&mut command)
    }

    /// Returns what a rule says, by `status --json`.
    pub(super) fn finding(&self, status: &Ran, rule: &str) -> Option<Value> {
        let status: Value = serde_json::from_slice(&status.stdout).unwrap();
        status["findings"].as_array().unwrap().iter().find(|finding| finding["rule"] == rule).cloned()
    }
}

fn pager(lab: &Lab, web: &WebSink) -> String {
    let key = lab.path("pagerduty");
    fs::write(&key, KEY).unwrap();
    let url = web.url("/pagerduty");
    format!("[alert.pager]\npagerduty = {{ key-file = {key:?}, url = {url:?} }}\non = [\"critical\"]\n")
}

#[test]
fn three_failures_in_a_row_raise_one_critical_alert_and_a_success_resolves_it() {
    if !can(&[Need::Tool("aiosmtpd")]) {
        return;
    }
    let mut mail = None;
    let host = Host::new(|lab, web| {
        let mail = mail.insert(MailSink::start(lab));
        let metrics = lab.path("yester.prom");
        format!(
            "{}[alert.mail]\nsmtp = {:?}\nto = [\"ops@example.com\", \"boss@example.com\"]\n\
             on = [\"critical\", \"warning\", \"recovered\"]\n[metrics]\ntextfile = {metrics:?}\naliases = true\n",
            pager(lab, web),
            mail.url()
        )
    });
    let mail = mail.unwrap();
    let mut said = String::new();

    said += &host.back_up(false).stderr;
    assert_eq!(mail.subjects(), ["[yester] db1: warning: shop (failures)"]);
    host.run(&["status"]).fails(1);
    said += &host.back_up(false).stderr;
    assert_eq!(mail.subjects(), [""; 0]);
    assert!(host.web.take("/pagerduty").is_empty());
    said += &host.back_up(false).stderr;
    let mails = mail.take();
    assert_eq!(mails.len(), 1, "{mails:?}");
    for line in ["Subject: [yester] db1: critical: shop (failures)", "To: ops@example.com, boss@example.com"]
    {
        assert!(mails[0].contains(line), "{}", mails[0]);
    }
    assert!(mails[0].contains("3 backups in a row have failed"), "{}", mails[0]);
    let events = host.web.take("/pagerduty");
    assert_eq!(events.len(), 1, "{events:?}");
    let event = events[0].json();
    assert_eq!(
        (&event["event_action"], &event["payload"]["severity"]),
        (&"trigger".into(), &"critical".into())
    );
    assert_eq!(
        (&event["routing_key"], &event["dedup_key"]),
        (&KEY.into(), &"yester/db1/failures/shop".into())
    );
    let status = host.run(&["status"]);
    status.fails(2);
    said += &String::from_utf8(status.stdout).unwrap();
    host.run(&["status", "--alert"]).succeeds();
    assert!(host.web.take("/pagerduty").is_empty() && mail.take().is_empty());

    said += &host.back_up(true).stderr;
    let event = host.web.take("/pagerduty").remove(0).json();
    assert_eq!(
        (&event["event_action"], &event["dedup_key"]),
        (&"resolve".into(), &"yester/db1/failures/shop".into())
    );
    assert_eq!(mail.subjects(), ["[yester] db1: over: shop (failures)"]);
    host.run(&["status", "--alert"]).succeeds();
    assert!(host.web.take("/pagerduty").is_empty() && mail.take().is_empty());

    let report = host.run(&["report"]).succeeds();
    assert!(report.contains("1 of 4 backups succeeded (25.0%)"), "{report}");
    assert!(report.contains("| shop | failures | 3 backups in a row have failed"), "{report}");
    said += &report;
    said += &fs::read_to_string(host.lab.path("yester.prom")).unwrap();
    said += &String::from_utf8_lossy(&fs::read(host.lab.path("state/journal.sqlite")).unwrap());
    assert!(!said.contains(KEY), "the key of PagerDuty is seen");
}

#[test]
fn no_backup_in_time_is_told_though_nothing_ran() {
    if !can(&[Need::Tool("faketime")]) {
        return;
    }
    let host = Host::new(|_, web| format!("[alert.hook]\nwebhook = {:?}\n", web.url("/hook")));
    host.back_up(true);
    let alert = |offset| host.later(offset, &["status", "--alert"]);
    assert_eq!(alert("+10h").succeeds(), "");
    assert!(host.web.take("/hook").is_empty());
    // Two days and a quarter: nobody can tell how long it is to the next midnight from here, but not longer.
    let told = alert("+54h");
    told.succeeds();
    assert_eq!(told.stderr, "");
    let message = host.web.take("/hook").remove(0).json();
    assert_eq!((&message["rule"], &message["subject"]), (&"max-age".into(), &"shop".into()));
    assert!(message["text"].as_str().unwrap().contains("There is no good backup since"), "{message}");
    assert!(message["text"].as_str().unwrap().contains("`yester run shop` backs up now"), "{message}");
    assert_eq!(alert("+55h").succeeds(), "");
    assert!(host.web.take("/hook").is_empty());
    let status = host.later("+55h", &["status", "--json"]);
    status.fails(2);
    assert_eq!(host.finding(&status, "max-age").unwrap()["severity"], "critical");
}

#[test]
fn an_alert_that_does_not_arrive_is_told_by_another_and_tried_again() {
    let host = Host::new(|lab, web| {
        let (secret, dead) = (lab.path("hook"), web.url("/dead"));
        // Nobody listens on port 1, and the path is a secret.
        fs::write(&secret, format!("http://127.0.0.1:1/services/{KEY}\n")).unwrap();
        format!(
            "[alert.broken]\nwebhook = {{ file = {secret:?} }}\n[alert.chat]\nntfy = {:?}\n\
             [alert.dead]\nhealthchecks = {dead:?}\n",
            web.url("/chat")
        )
    });
    let ran = host.back_up(false);
    assert!(ran.stderr.contains("broken"), "{}", ran.stderr);
    assert!(ran.stderr.contains("cannot reach 127.0.0.1:1"), "{}", ran.stderr);
    let told = host.web.take("/chat");
    let titles: Vec<_> = told
        .iter()
        .flat_map(|request| &request.headers)
        .filter(|line| line.to_ascii_lowercase().starts_with("title:"))
        .collect();
    assert!(titles[0].ends_with("db1: warning: shop (failures)"), "{titles:?}");
    assert!(titles[1].ends_with("db1: warning: broken (undelivered)"), "{titles:?}");
    let status = host.run(&["status", "--json"]);
    status.fails(1);
    let finding = host.finding(&status, "undelivered").unwrap();
    for text in [finding["text"].as_str().unwrap(), &ran.stderr, &told[1].body] {
        assert!(text.contains("127.0.0.1:1") && !text.contains(KEY), "{text}");
    }
    // The dead man's switch hears of every run.
    let pings: Vec<_> = host.web.take("/dead").into_iter().map(|request| request.path).collect();
    assert_eq!(pings, ["/dead/start", "/dead/fail"]);

    fs::write(host.lab.path("hook"), host.web.url("/hook")).unwrap();
    host.run(&["status", "--alert"]).succeeds();
    assert_eq!(host.web.take("/hook").remove(0).json()["subject"], "shop");
    assert_eq!(host.web.take("/chat").len(), 1, "that it arrives again");
    let ran = host.back_up(true);
    assert_eq!(host.web.take("/dead").pop().unwrap().path, "/dead");
    assert!(!ran.stderr.contains(KEY), "{}", ran.stderr);
}

/// What a network of its own needs.
pub(super) const NETWORK_NEEDS: [Need; 5] =
    [Need::Root, Need::Tool("aiosmtpd"), Need::Tool("openssl"), Need::Tool("unshare"), Need::Tool("ip")];

/// Makes an address that is not this machine's loopback, and a certificate for it, in the laboratory's folder.
const NETWORK: &str = r#"
set -euo pipefail
cd "$1"; shift
ip link set lo up
ip address add 10.9.9.9/32 dev lo
openssl req -x509 -newkey rsa:2048 -nodes -keyout tls.key -out tls.crt -days 2 -subj /CN=sink \
    -addext subjectAltName=IP:10.9.9.9 -addext basicConstraints=critical,CA:FALSE 2>/dev/null
await() {
    for port; do
        until (: </dev/tcp/10.9.9.9/$port) 2>/dev/null; do sleep 0.05; done
    done
}
"#;

/// Servers with that certificate: `$1 …` is run twice, once as it is and once with the certificate among the trusted
/// ones.
const ENCRYPTED: &str = r#"
/usr/bin/aiosmtpd -n -l 10.9.9.9:25 --tlscert tls.crt --tlskey tls.key -c aiosmtpd.handlers.Mailbox mail &
/usr/bin/python3 - <<'END' &
import http.server, ssl
class Sink(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        open("hook.json", "ab").write(self.rfile.read(int(self.headers["Content-Length"])) + b"\n")
        self.send_response(200)
        self.end_headers()
server = http.server.HTTPServer(("10.9.9.9", 443), Sink)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("tls.crt", "tls.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
END
await 25 443
"$@" run shop && exit 1
SSL_CERT_FILE="$PWD/tls.crt" "$@" status --alert
"#;

#[test]
fn messages_travel_encrypted_to_those_who_can_be_trusted() {
    if !can(&NETWORK_NEEDS) {
        return;
    }
    let host = Host::new(|_, _| {
        "[alert.hook]\nwebhook = \"https://10.9.9.9/hook\"\n\
         [alert.mail]\nsmtp = \"smtp://10.9.9.9\"\nto = [\"ops@example.com\"]\n"
            .to_owned()
    });
    let ran = host.in_a_network(ENCRYPTED);
    ran.succeeds();
    assert!(ran.stderr.contains("cannot reach 10.9.9.9: invalid peer certificate"), "{}", ran.stderr);
    let told = fs::read_to_string(host.lab.path("hook.json")).unwrap();
    assert!(told.contains("shop (failures)"), "{told}");
    // The mail server takes nothing that is not encrypted, and nobody needs to know it to get a mail.
    assert_eq!(fs::read_dir(host.lab.path("mail/new")).unwrap().count(), 3, "{}", ran.stderr);
}

#[test]
fn rules_of_prometheus_fire_on_what_a_run_writes() {
    if !can(&[Need::Tool("promtool")]) {
        return;
    }
    let host =
        Host::new(|lab, _| format!("[metrics]\ntextfile = {:?}\naliases = true\n", lab.path("yester.prom")));
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    // Nothing is verified here, and the disk is as full as it is.
    let fired = || &host.fired() - &names(&["BackupNotVerified", "BackupStoreFull"]);
    host.back_up(false);
    let late = ["BackupTooOld", "LastSuccessfulBackupTooOld", "BackupLastSuccessTooOld"];
    let failed = ["BackupFailed", "BackupStatusFailed"];
    assert_eq!(fired(), names(&[late.as_slice(), &failed].concat()));
    host.back_up(true);
    assert_eq!(fired(), names(&[]));
    let metrics = host.lab.path("yester.prom");
    let text = fs::read_to_string(&metrics).unwrap();
    let labels = "{store=\"local\",host=\"db1\"}";
    let mut damaged = text.clone();
    for name in ["yester_verify_failed", "backup_verification_failed"] {
        damaged = damaged.replace(&format!("{name}{labels} 0"), &format!("{name}{labels} 1"));
    }
    fs::write(&metrics, damaged).unwrap();
    assert_eq!(fired(), names(&["BackupDamaged", "BackupVerificationFailed"]));
}

impl Host {
    /// Returns the alerts of the example rules that fire on the metrics as they are.
    ///
    /// promtool evaluates rules at times from 0 on. What yester wrote is moved to where it is three days after that, so
    /// that 0, for never, is older than any limit.
    fn fired(&self) -> BTreeSet<String> {
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples/alerts.rules.yml");
        let metrics = self.lab.path("yester.prom");
        let file = fs::File::open(&metrics).unwrap();
        succeed(Command::new("promtool").args(["check", "metrics"]).stdin(file));
        let back = Timestamp::now().as_second() - 72 * 3600;
        let mut series = String::new();
        for line in fs::read_to_string(metrics).unwrap().lines().filter(|line| !line.starts_with('#')) {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let value: f64 = value.parse().unwrap();
            let value = if sample.contains("timestamp") && value > 0.0 { value - back as f64 } else { value };
            writeln!(series, "      - {{ series: '{sample}', values: '{value}x73' }}").unwrap();
        }
        // It is said of each that it does not fire, so that promtool lists those that do.
        let text = fs::read_to_string(&rules).unwrap();
        let alerts = text.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
        let expected: Vec<_> =
            alerts.map(|alert| format!("      - {{ alertname: {alert}, eval_time: 72h }}")).collect();
        let test = format!(
            "rule_files: [{rules:?}]\nevaluation_interval: 1h\ntests:\n  - interval: 1h\n    \
             input_series:\n{series}    alert_rule_test:\n{}\n",
            expected.join("\n")
        );
        let path = self.lab.path("test.yml");
        fs::write(&path, test).unwrap();
        let output = Command::new("promtool").args(["test", "rules"]).arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        let fired = said.split("Labels:{alertname=\"").skip(1);
        let fired: BTreeSet<_> = fired.map(|rest| rest.split('"').next().unwrap().to_owned()).collect();
        assert_eq!(output.status.success(), fired.is_empty(), "{said}");
        fired
    }
}
