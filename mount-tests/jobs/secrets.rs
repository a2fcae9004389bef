//! Passwords and passphrases are nowhere but where the configuration says: not in process lists, not in what is
//! printed or logged, not in the journal, and not in any file that a run writes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::host::{CRON, Host, NEEDS, Redis, all_bytes, mongo_archive};
use crate::harness::{Need, Ran, can, succeed};
use crate::postgres::Postgres;

/// The passwords of the three databases and the passphrase of the store.
const SECRETS: [&str; 4] = ["pg-hunter2-a", "redis-hunter2-b", "mongo-hunter2-c", "store-hunter2-d"];

/// Becomes what is to be done in the container, after a while in which others may look at the command line.
const DOCKER: &str = "sleep 0.2\nshift 3\nexec \"$@\"";

/// Reads its options as mongodump does, and writes its archive format; where it is told to fail, it shows its address.
const MONGODUMP: &str = "for word; do case $word in
    --config=*) read -r line <\"${word#--config=}\" ;;
    --uri=*) line=\"uri: \\\"${word#--uri=}\\\"\" ;;
esac; done
sleep 0.2
case $line in
    *@broken/*) echo \"Failed: cannot reach $line\" >&2; exit 1 ;;
    'uri: \"mongodb://me:mongo-hunter2-c@'*) cat \"${0%/bin/*}/archive\" ;;
    *) echo 'no such user' >&2; exit 1 ;;
esac";

/// Looks at all command lines until it is told to end; returns those with a secret, and how many it saw.
fn watch_processes(ends: &AtomicBool) -> (Vec<String>, usize) {
    let (mut found, mut seen) = (Vec::new(), 0);
    while !ends.load(Ordering::SeqCst) {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let line = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            seen += usize::from(line.contains("mongodump"));
            if SECRETS.iter().any(|secret| line.contains(secret)) {
                found.push(line.replace('\0', " "));
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    (found, seen)
}

fn has_secret(bytes: &[u8]) -> Option<&'static str> {
    let finder = |secret: &&&str| memchr::memmem::find(bytes, secret.as_bytes()).is_some();
    SECRETS.iter().find(finder).copied()
}

#[test]
fn secrets_are_nowhere_to_be_seen() {
    if !can(&NEEDS) || !can(&[Need::Postgres, Need::Tool("redis-server")]) {
        return;
    }
    let postgres = Postgres::start();
    succeed(postgres.client("createdb").arg("shop"));
    postgres.query("shop", "CREATE TABLE orders AS SELECT generate_series(1, 1000) AS id");
    let socket = postgres.socket().display();
    let host = Host::new();
    let redis = Redis::start(&host.lab.path("redis"), Some(SECRETS[1]));
    redis.fill(100);
    host.program("bin/docker", DOCKER);
    host.program("bin/mongodump", MONGODUMP);
    host.write("archive", mongo_archive(100));
    host.write_private("etc/yester/pass", &format!("{}\n", SECRETS[3]));
    let root = host.text("");
    let exec = format!("exec = [\"{root}bin/docker\", \"exec\", \"-i\", \"db\"]\n");
    let [pg, rd, mg, _] = SECRETS;
    let port = redis.port;
    let mut text = format!(
        "schedule = \"daily\"\nretries = 0\npassphrase = {{ file = \"{root}etc/yester/pass\" }}\n\
         [store.local]\nurl = \"{root}srv/backup/store\"\n\
         [metrics]\ntextfile = \"{root}srv/yester.prom\"\n"
    );
    for (suffix, exec) in [("", ""), ("-exec", exec.as_str())] {
        text.push_str(&format!(
            "[source.pg{suffix}]\npostgres = \"postgresql://postgres:{pg}@/shop?host={socket}\"\ndatabases = \"all\"\n{exec}\
             [source.pg-words{suffix}]\npostgres = \"host={socket} user=postgres password={pg} dbname=shop\"\n{exec}\
             [source.redis{suffix}]\nredis = \"redis://:{rd}@127.0.0.1:{port}\"\n{exec}\
             [source.mongo{suffix}]\nmongodb = \"mongodb://me:{mg}@mongo/scandy\"\n{exec}\
             [source.bad-pg{suffix}]\npostgres = \"postgresql://postgres:{pg}@/absent?host={socket}\"\n{exec}\
             [source.bad-redis{suffix}]\nredis = \"redis://:{rd}x@127.0.0.1:{port}\"\n{exec}\
             [source.bad-mongo{suffix}]\nmongodb = \"mongodb://me:{mg}@broken/scandy\"\n{exec}"
        ));
    }
    host.configure(&text);
    host.init("local");

    let path = format!("{}:/usr/bin:/bin", host.text("bin"));
    let mut environment: Vec<(&str, &str)> = CRON.to_vec();
    environment.extend([("PATH", path.as_str()), ("YESTER_LOG", "trace")]);
    let ends = AtomicBool::new(false);
    let (ran, (found, seen)) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch_processes(&ends));
        let ran = Ran::of(&mut host.command(&environment, &["run", "--all", "--verbose", "--verbose"]));
        ends.store(true, Ordering::SeqCst);
        (ran, watcher.join().unwrap())
    });
    let said = ran.fails(3);
    assert!(seen > 10, "only {seen} command lines were seen");
    assert!(found.is_empty(), "{found:#?}");
    assert_eq!(has_secret(said.as_bytes()), None, "{said}");
    let runs = host.runs("ingest");
    assert_eq!(runs.len(), 14);
    for run in &runs {
        assert_eq!(run.snapshot.is_none(), run.source.starts_with("bad-"), "{run:?}");
    }
    // That it shows its address is seen, without what is secret in it.
    assert!(said.contains("Failed: cannot reach"), "{said}");
    for folder in ["state", "cache", "srv"] {
        let bytes = all_bytes(&host.lab.path(folder));
        assert!(!bytes.is_empty(), "{folder}");
        assert_eq!(has_secret(&bytes), None, "{folder}");
    }
    assert_eq!(fs::metadata(host.lab.path("state/journal.sqlite")).unwrap().mode() & 0o077, 0);
    // Asked for as JSON, and told what is wrong: the same.
    for arguments in
        [&["run", "bad-mongo", "bad-redis", "bad-pg", "--json"][..], &["--json", "run", "bad-pg-exec"]]
    {
        let ran = Ran::of(&mut host.command(&environment, arguments));
        assert_eq!(has_secret(&ran.stdout).or(has_secret(ran.fails(1).as_bytes())), None);
    }
}
