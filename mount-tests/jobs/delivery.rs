//! Messages that need a login, and what services are told in which words.

use std::fs;

use super::alerts::{Host, NETWORK_NEEDS};
use super::sinks::Request;
use crate::harness::can;

/// What the server knows, and what it does not; then as AUTH PLAIN says them for `ops@acme.org`.
const PASSWORDS: [&str; 3] = ["right-hunter2", "wrong-hunter3", "other-hunter4"];
const ENCODED: [&str; 3] = [
    "AG9wc0BhY21lLm9yZwByaWdodC1odW50ZXIy",
    "AG9wc0BhY21lLm9yZwB3cm9uZy1odW50ZXIz",
    "AG9wc0BhY21lLm9yZwBvdGhlci1odW50ZXI0",
];

/// Mail servers that take nothing without TLS and a login; one begins with TLS. They repeat a password that they
/// refuse, one password for good, the other as if it were to pass.
const SERVERS: &str = r#"
/usr/bin/python3 - <<'END' &
import ssl, threading
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import AuthResult

def login(server, session, envelope, mechanism, data):
    user, password = data.login.decode(), data.password.decode()
    open("logins", "a").write(f"{user} {password}\n")
    if (user, password) == ("ops@acme.org", "right-hunter2"):
        return AuthResult(success=True)
    code = "454 4.7.0" if password == "other-hunter4" else "535 5.7.8"
    return AuthResult(success=False, handled=False, message=f"{code} no such password: {password}")

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("tls.crt", "tls.key")
def serve(port, **more):
    Controller(Mailbox(f"mail-{port}"), hostname="10.9.9.9", port=port, authenticator=login,
               auth_required=True, **more).start()
serve(587, tls_context=context, require_starttls=True)
serve(465, ssl_context=context, auth_require_tls=False)
threading.Event().wait()
END
await 587 465
export SSL_CERT_FILE="$PWD/tls.crt" YESTER_LOG=trace
is_at() { [ "$(find mail-587/new mail-465/new -type f | wc -l)" = "$1" ]; }
"$@" run shop && exit 1
is_at 2
echo good >good
echo wrong-hunter3 >password
"$@" run shop
"$@" status --json >status.json && exit 1
echo other-hunter4 >password
"$@" status --alert
"$@" status && exit 1
is_at 2
echo right-hunter2 >password
"$@" status --alert
is_at 4
"#;

#[test]
fn a_mail_server_that_wants_a_login_gets_it_and_nobody_else() {
    if !can(&NETWORK_NEEDS) {
        return;
    }
    let host = Host::new(|lab, _| {
        let (password, told) = (lab.path("password"), lab.path("told"));
        fs::write(&password, format!("{}\n", PASSWORDS[0])).unwrap();
        let mail = |name: &str, scheme: &str| {
            format!(
                "[alert.{name}]\nsmtp = \"{scheme}://ops@acme.org@10.9.9.9\"\npassword = {{ file = {password:?} }}\n\
                 to = [\"ops@example.com\"]\n"
            )
        };
        let script = format!("cat >>'{}'", told.display());
        let own = format!("[alert.own]\ncommand = [\"sh\", \"-c\", {script:?}]\n");
        mail("mail", "smtp") + &mail("wrapped", "smtps") + &own
    });
    let ran = host.in_a_network(SERVERS);
    let said = ran.succeeds() + &ran.stderr;
    for status in [535, 454] {
        let expected = format!("10.9.9.9: the server refused the login ({status})");
        assert!(said.contains(&expected), "{expected}: {said}");
    }
    let status = fs::read_to_string(host.lab.path("status.json")).unwrap();
    assert!(status.contains("undelivered"), "{status}");
    let told = fs::read_to_string(host.lab.path("told")).unwrap();
    let count = |rule: &str, event: &str| {
        let is_of = |line: &&str| {
            let message: serde_json::Value = serde_json::from_str(line).unwrap();
            message["rule"] == rule && message["event"] == event
        };
        told.lines().filter(is_of).count()
    };
    // Of both servers, once each.
    assert_eq!((count("undelivered", "began"), count("undelivered", "ended")), (2, 2), "{told}");
    assert_eq!((count("failures", "began"), count("failures", "ended")), (1, 1), "{told}");

    let journal = fs::read(host.lab.path("state/journal.sqlite")).unwrap();
    let journal = String::from_utf8_lossy(&journal).into_owned();
    for (place, text) in [("said", said), ("status", status), ("told", told), ("journal", journal)] {
        for secret in PASSWORDS.iter().chain(&ENCODED) {
            assert!(!text.contains(secret), "{secret} in what was {place}: {text}");
        }
    }
    let logins = fs::read_to_string(host.lab.path("logins")).unwrap();
    assert!(PASSWORDS.iter().all(|password| logins.contains(password)), "{logins}");
    for folder in ["mail-587/new", "mail-465/new"] {
        let mails = fs::read_dir(host.lab.path(folder)).unwrap();
        let mut mails: Vec<_> = mails.map(|mail| fs::read_to_string(mail.unwrap().path()).unwrap()).collect();
        mails.sort_by_key(|mail| mail.contains("over: "));
        assert!(mails[0].contains("Subject: [yester] db1: warning: shop (failures)"), "{}", mails[0]);
        assert!(mails[1].contains("Subject: [yester] db1: over: shop (failures)"), "{}", mails[1]);
    }
}

fn header(request: &Request, name: &str) -> String {
    let is_named = |line: &&String| line.to_ascii_lowercase().starts_with(&format!("{name}: "));
    let line = request.headers.iter().find(is_named);
    line.and_then(|line| line.split_once(": ")).map_or(String::new(), |(_, value)| value.to_owned())
}

#[test]
fn services_are_told_in_their_own_words() {
    const TOKEN: &str = "tk_hunter5";
    let host = Host::new(|lab, web| {
        let (token, dead) = (lab.path("ntfy"), lab.path("dead"));
        fs::write(&token, format!("{TOKEN}\n")).unwrap();
        fs::write(&dead, web.url("/ping/uuid?rid=1")).unwrap();
        format!(
            "[alert.phone]\nntfy = {:?}\ntoken = {{ file = {token:?} }}\n\
             [alert.dead-man]\nhealthchecks = {{ file = {dead:?} }}\n\
             [rules]\nsuccess-rate = false\n",
            web.url("/topic")
        )
    });
    let phone = || {
        let told = host.web.take("/topic").into_iter().map(|request| {
            assert_eq!(header(&request, "authorization"), format!("Bearer {TOKEN}"));
            format!("{}: {}", header(&request, "priority"), header(&request, "title"))
        });
        told.collect::<Vec<_>>()
    };
    let pings = || -> Vec<_> {
        host.web.take("/ping").into_iter().map(|request| (request.path, request.body)).collect()
    };
    let mut said = String::new();

    said += &host.back_up(true).stderr;
    let told = pings();
    assert_eq!(told[0], ("/ping/uuid/start?rid=1".to_owned(), String::new()));
    assert_eq!(told[1].0, "/ping/uuid?rid=1");
    assert!(told[1].1.contains("shop"), "{told:?}");
    assert_eq!((told.len(), phone().len()), (2, 0));

    for expected in [Some("high: db1: warning"), None, Some("urgent: db1: critical")] {
        said += &host.back_up(false).stderr;
        let told = pings();
        let paths: Vec<_> = told.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["/ping/uuid/start?rid=1", "/ping/uuid/fail?rid=1"]);
        assert!(told[1].1.contains("ingest shop") && told[1].1.contains("FAILED"), "{told:?}");
        let expected = expected.map(|words| format!("{words}: shop (failures)"));
        assert_eq!(phone(), expected.into_iter().collect::<Vec<_>>());
    }
    said += &host.back_up(true).stderr;
    assert_eq!(phone(), ["default: db1: over: shop (failures)"]);
    assert_eq!(pings().pop().unwrap().0, "/ping/uuid?rid=1");
    // A look at health is no run.
    host.run(&["status", "--alert"]).succeeds();
    assert!(pings().is_empty());
    assert!(!said.contains(TOKEN) && !said.contains("uuid"), "{said}");
}
