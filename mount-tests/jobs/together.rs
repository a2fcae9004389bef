//! How a run shares the machine: sources at the same time, and everything else first.

use std::fs;

use super::host::{Host, NEEDS, is_silent};
use crate::harness::{Need, can};

/// Writes down how many run at once, and comes to its end once its partner has begun as well.
const MEETS: &str = r#"
name=$1 partner=$2
cd "${0%/bin/*}"
mkdir -p met running
: >"running/$name"
ls running | wc -l >>seen
: >"met/$name"
until [ -e "met/$partner" ]; do sleep 0.05; done
rm "running/$name"
echo "$name met $partner"
"#;

fn host(head: &str, sources: &str) -> Host {
    let host = Host::new();
    let root = host.text("");
    host.configure(&format!(
        "schedule = \"daily\"\nretries = 0\nkey-file = \"{root}etc/yester/key\"\nverify = false\ngc = false\n{head}\n\
         [store.local]\nurl = \"{root}srv/backup/store\"\n{}",
        sources.replace("\"/bin", &format!("\"{root}bin"))
    ));
    host.init("local");
    host
}

#[test]
fn so_many_sources_are_backed_up_at_once() {
    if !can(&NEEDS) {
        return;
    }
    let pairs = [("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")];
    let source = |(name, partner)| {
        format!("[source.{name}]\ncommand = [\"/bin/meets\", {name:?}, {partner:?}]\noutput = \"x\"\n")
    };
    // One after the other, the first would wait for the second until its time is over.
    let host = host("jobs = 2\ntimeout = \"5m\"", &pairs.map(source).concat());
    host.program("bin/meets", MEETS);
    is_silent(&host.cron(&["run", "--all"]));
    for (name, partner) in pairs {
        assert_eq!(host.newest("local", name, "x"), format!("{name} met {partner}\n").into_bytes());
    }
    let seen = fs::read_to_string(host.lab.path("seen")).unwrap();
    let most = seen.lines().map(|line| line.trim().parse::<u32>().unwrap()).max();
    assert_eq!(most, Some(2), "{seen}");
}

/// Says of itself and of the worker, which is its parent, how they are served.
const SERVED: &str = r#"
for pid in $$ $PPID; do
    echo "nice $(sed 's/.*) //' "/proc/$pid/stat" | cut -d ' ' -f 17), $(ionice -p "$pid")"
done
"#;

#[test]
fn everything_else_goes_first_where_that_is_asked_for() {
    if !can(&NEEDS) || !can(&[Need::Tool("ionice"), Need::Tool("nice")]) {
        return;
    }
    let source = "[source.served]\ncommand = [\"/bin/served\"]\n";
    let ours = rustix::process::getpriority_process(None).unwrap();
    let said = |head| {
        let host = host(head, source);
        host.program("bin/served", SERVED);
        is_silent(&host.cron(&["run", "--all"]));
        String::from_utf8(host.newest("local", "served", "served")).unwrap()
    };
    let line = format!("nice {}, idle\n", (ours + 10).min(19));
    assert_eq!(said("low-priority = true"), line.repeat(2));
    let usual = said("");
    assert!(usual.lines().all(|line| line.starts_with(&format!("nice {ours}, "))), "{usual}");
    assert!(!usual.contains("idle"), "{usual}");
}
