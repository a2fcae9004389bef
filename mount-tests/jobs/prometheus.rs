//! Prometheus reads what a run writes, by the rules of the examples, and its Alertmanager tells of it.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::alerts::Host;
use super::sinks::serve;
use crate::harness::{Need, Process, can, in_a_while};

const RULES: &str = "docs/examples/alerts.rules.yml";

/// Both servers. The host's web server hears of what is critical, and of its end.
struct Servers<'a> {
    host: &'a Host,
    told: Vec<Value>,
    _processes: [Process; 2],
}

impl<'a> Servers<'a> {
    fn start(host: &'a Host) -> Self {
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join(RULES);
        // Nothing has to hold for a while before it is told.
        assert!(!fs::read_to_string(&rules).unwrap().contains(" for:"));
        let [prometheus, alertmanager] = [(); 2].map(|()| free_port());
        let metrics = serve(host.lab.path("yester.prom"));
        let hook = host.web.url("/hook");
        fs::write(
            host.lab.path("prometheus.yml"),
            format!(
                "global: {{ scrape_interval: 2s, evaluation_interval: 1s }}\nrule_files: [{rules:?}]\n\
                 alerting: {{ alertmanagers: [{{ static_configs: [{{ targets: ['127.0.0.1:{alertmanager}'] }}] }}] }}\n\
                 scrape_configs:\n  - job_name: node\n    \
                 static_configs: [{{ targets: ['127.0.0.1:{metrics}'] }}]\n"
            ),
        )
        .unwrap();
        fs::write(
            host.lab.path("alertmanager.yml"),
            format!(
                "route:\n  receiver: nobody\n  group_by: [alertname, source]\n  group_wait: 0s\n  \
                 group_interval: 1s\n  routes:\n    - {{ matchers: ['severity=critical'], receiver: hook }}\n\
                 receivers:\n  - name: nobody\n  - name: hook\n    \
                 webhook_configs: [{{ url: {hook:?}, send_resolved: true }}]\n"
            ),
        )
        .unwrap();
        let option = |name: &str, file: &str| format!("--{name}={}", host.lab.path(file).display());
        let serve = |program: &str, port: u16, options: &[String]| {
            let mut command = Command::new(program);
            // What it writes is read by nobody, and a pipe is soon full.
            command.args(["--log.level=error", &format!("--web.listen-address=127.0.0.1:{port}")]);
            let process = Process::start(command.args(options).stdin(Stdio::null()));
            in_a_while(program, || TcpStream::connect(("127.0.0.1", port)).is_ok());
            process
        };
        let told = [
            option("config.file", "alertmanager.yml"),
            option("storage.path", "alertmanager"),
            "--cluster.listen-address=".to_owned(),
        ];
        let asked = [option("config.file", "prometheus.yml"), option("storage.tsdb.path", "prometheus")];
        let alertmanager = serve("prometheus-alertmanager", alertmanager, &told);
        let prometheus = serve("prometheus", prometheus, &asked);
        Self { host, told: Vec::new(), _processes: [alertmanager, prometheus] }
    }

    /// Waits until the last that was told of has this status, and returns it.
    fn wait(&mut self, status: &str) -> Value {
        in_a_while(status, || {
            let arrived = self.host.web.take("/hook");
            self.told.extend(
                arrived.iter().flat_map(|message| message.json()["alerts"].as_array().unwrap().clone()),
            );
            self.told.last().is_some_and(|told| told["status"] == status)
        });
        self.told.last().unwrap().clone()
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn prometheus_has_its_alertmanager_tell_of_three_failures_and_of_their_end() {
    if !can(&["prometheus", "prometheus-alertmanager"].map(Need::Tool)) {
        return;
    }
    let host = Host::new(|lab, _| format!("[metrics]\ntextfile = {:?}\n", lab.path("yester.prom")));
    // One that was never backed up is too old, which is critical as well.
    host.back_up(true);
    let mut servers = Servers::start(&host);
    for _ in 0..3 {
        host.back_up(false);
    }
    let fired = servers.wait("firing");
    let label = |name: &str| fired["labels"][name].as_str().unwrap().to_owned();
    assert_eq!(["severity", "source", "host"].map(label), ["critical", "shop", "db1"], "{fired:#}");
    assert_eq!(fired["annotations"]["summary"], "3 backups of shop on db1 in a row have failed.");
    assert_eq!(fired["annotations"]["action"], "On db1: yester status");

    host.back_up(true);
    let resolved = servers.wait("resolved");
    assert_eq!(resolved["fingerprint"], fired["fingerprint"]);
    for told in servers.told {
        assert_eq!(told["labels"]["alertname"], "BackupFailsAgainAndAgain", "{told:#}");
    }
}
