//! What a configuration says, and what is said of its mistakes.

use super::*;

/// As the documentation shows it.
const WHOLE: &str = r#"
schedule  = "*-*-* 03:30"
keep      = { daily = 7, weekly = 4, monthly = 12 }
key-file  = "/etc/yester/key"
preflight = { disk-free = "10%", inodes-free = "5%" }

[store.local]
url = "/backup/store"
[store.offsite]
url = "s3://acme-backups/store"
storage-class = "STANDARD_IA"
copy-from = "local"
keep = { monthly = 24 }

[source.callcentre]
postgres = "callcentre"
exec     = ["docker", "exec", "-i", "cc-db"]
[source.cache]
redis    = "redis://127.0.0.1:6379"
[source.inventory]
mongodb  = "mongodb://backup@mongo/scandy"
[source.assets]
paths    = ["/opt/mms/config", "/opt/mms/uploads"]
exclude  = ["*.tmp"]
before   = ["systemctl", "reload", "mms"]
[source.pos]
command  = ["pos-export", "--json"]
output   = "pos.json"
min-size = "1 MiB"
keep     = { daily = 30 }

[alert.pager]
pagerduty = { key-file = "/etc/yester/pagerduty" }
on = ["critical"]
after = "30m"
[alert.mail]
smtp = "smtp://mail:587"
to   = ["ops@example.com"]
on   = ["critical", "warning", "recovered"]
[alert.hook]
webhook = "https://example.com/hook"
on = ["critical"]

[rules]
failures = { warning = 1, critical = 3 }
max-age  = { warning = "interval + 25%", critical = "interval * 2" }
slower   = { info = "50%" }
shrunk   = { warning = "50%" }
success-rate = { window = "7d", warning = "95%" }
verify-failed = "critical"
disk-used = { warning = "90%" }
copy-behind = { warning = "2 intervals" }
max-duration = { warning = "30m" }

[metrics]
textfile = "/var/lib/prometheus/node-exporter/yester.prom"
aliases  = true
"#;

fn parse(text: &str) -> Result<Config, Vec<String>> {
    Config::parse(text, Path::new("/etc/yester/config.toml"))
        .map_err(|error| error.problems().iter().map(ToString::to_string).collect())
}

#[test]
fn the_documented_configuration_is_read() {
    let config = parse(WHOLE).unwrap();
    assert_eq!(config.rules, Rules::default());
    let names: Vec<_> = config.sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["callcentre", "cache", "inventory", "assets", "pos"]);
    assert_eq!(config.first_store().unwrap().name, "local");
    let offsite = config.store("offsite").unwrap();
    assert!(offsite.location.is_distant() && offsite.keep.or(None).unwrap().monthly == 24);
    assert_eq!(offsite.key, Some(KeyPlace::KeyFile("/etc/yester/key".into())));
    assert_eq!(config.sources_in(offsite).count(), 5);
    assert_eq!(config.copy_schedule(offsite).unwrap().calendars().len(), 5);
    let pos = config.source("pos").unwrap();
    assert_eq!((pos.min_bytes, pos.keep.as_ref().unwrap().daily), (1 << 20, 30));
    assert_eq!(config.source("cache").unwrap().keep.as_ref().unwrap().weekly, 4);
    assert_eq!(config.alerts[0].on, BTreeSet::from([Severity::Critical]));
    assert!(!config.alerts[0].recovered && config.alerts[1].recovered);
    assert_eq!(config.alerts[0].after, SignedDuration::from_mins(30));
}

#[test]
fn the_examples_are_valid_as_they_stand() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples");
    for name in ["pos", "callcentre", "booking", "assets", "inventory"] {
        let config = Config::read(&folder.join(name).with_extension("toml"));
        let config = config.unwrap_or_else(|error| panic!("{name}: {:#?}", error.problems()));
        assert!(config.source(name).is_some() || name == "assets", "{name}");
        assert!(
            config.sources.iter().all(|source| source.schedule.is_some() && source.keep.is_some()),
            "{name}"
        );
        assert!(!config.alerts.is_empty(), "{name}");
    }
}

#[test]
fn all_mistakes_are_told_with_line_and_key() {
    let text = r#"schedul = "daily"
keep = { daly = 7 }

[store.local]
url = "backup"
[store.other]
url = "/srv/other"
copy-from = "locl"

[source.a]
postgres = "a"
redis = "redis://h"
[source.b]
schedule = "25:00"
paths = ["relative"]
[source.c]
command = ["x"]
store = "nowhere"
timeout = "soon"
[alert.x]
webhook = "example.com"
on = ["always"]
[rules]
max-age = { warning = "interval - 1h" }
"#;
    let told = parse(text).unwrap_err();
    insta::assert_snapshot!(told.join("\n"), @r#"
    1: schedul: there is no such key; is it schedule?
    2: keep.daly: there is no such key; is it daily?
    5: store.local.url: "backup" does not begin with /
    8: store.other.copy-from: there is no store "locl"
    10: source.a: it says what is backed up, by one of postgres, redis, mongodb, paths and command
    14: source.b.schedule: "25:00" is no time of day: hours go from 0 to 23
    15: source.b.paths: "relative" does not begin with /
    18: source.c.store: there is no store "nowhere"
    19: source.c.timeout: "soon" is not a time such as 7d, 12h, 10m or 0
    21: alert.x.webhook: it is an address that begins with https:// or http://
    22: alert.x.on: "always" is none of info, warning and critical, or recovered
    24: rules.max-age.warning: "interval - 1h" is no age such as "interval + 25%", "interval * 2", "2 intervals" or "25h"
    "#);
}

#[test]
fn a_mistyped_kind_is_named() {
    let told =
        parse("[store.a]\nurl = \"/a\"\n[source.s]\npath = \"/srv\"\nexclude = [\"x\"]\n").unwrap_err();
    assert_eq!(
        told,
        [
            "3: source.s: it says what is backed up, by one of postgres, redis, mongodb, paths and command",
            "4: source.s.path: there is no such key; is it paths?"
        ]
    );
}

#[test]
fn a_backup_has_some_time() {
    let told = parse("timeout = \"0\"\n[store.a]\nurl = \"/a\"\n").unwrap_err();
    assert_eq!(told, ["1: timeout: it has to be longer than nothing"]);
}

#[test]
fn what_is_no_toml_is_told_with_its_line() {
    let told = parse("[store.local]\nurl = /backup\n").unwrap_err();
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("2: "), "{told:?}");
}

#[test]
fn a_store_cannot_be_a_copy_of_itself() {
    let text = "[store.a]\nurl = \"/a\"\n[store.b]\nurl = \"/b\"\ncopy-from = \"c\"\n\
                [store.c]\nurl = \"/c\"\ncopy-from = \"b\"\n";
    let told = parse(text).unwrap_err();
    assert_eq!(told[0], "5: store.b.copy-from: this leads back to the store itself");
}

#[test]
fn two_stores_are_in_two_places() {
    let told = parse("[store.a]\nurl = \"/a\"\n[store.b]\nurl = \"/a\"\ncopy-from = \"a\"\n").unwrap_err();
    assert_eq!(told, ["4: store.b.url: another store is at /a as well"]);
}

#[test]
fn all_can_be_kept_where_others_keep_less() {
    let text = "keep = { daily = 7 }\n[store.a]\nurl = \"/a\"\n\
                [store.b]\nurl = \"/b\"\ncopy-from = \"a\"\nkeep = false\n\
                [store.c]\nurl = \"/c\"\ncopy-from = \"a\"\nkeep = { monthly = 3 }\n\
                [source.s]\npaths = [\"/etc\"]\n[source.t]\npaths = [\"/srv\"]\nkeep = false\n";
    let config = parse(text).unwrap();
    let kept = |store: &str, source: &str| {
        let policy = config.store(store).unwrap().keep.or(config.source(source).unwrap().keep.as_ref())?;
        Some((policy.daily, policy.monthly))
    };
    assert_eq!([kept("a", "s"), kept("b", "s"), kept("c", "s")], [Some((7, 0)), None, Some((0, 3))]);
    assert_eq!([kept("a", "t"), kept("b", "t"), kept("c", "t")], [None, None, Some((0, 3))]);
}

#[test]
fn rules_of_a_source_change_those_of_all() {
    let text = "[store.a]\nurl = \"/a\"\n[rules]\nshrunk = false\n[source.s]\npaths = [\"/etc\"]\n\
                rules = { max-duration = { warning = \"2h\" } }\n";
    let config = parse(text).unwrap();
    let rules = &config.source("s").unwrap().rules;
    assert_eq!(rules.shrunk.worst(|_| true), None);
    assert_eq!(rules.max_duration.warning, Some(SignedDuration::from_hours(2)));
    assert_eq!(config.rules.max_duration.warning, Some(SignedDuration::from_mins(30)));
}

#[test]
fn passwords_are_in_no_message() {
    for line in ["redis = \"rediss:/u:hunter2@h\"", "mongodb = \"http://u:hunter2@h\""] {
        let told = parse(&format!("[store.a]\nurl = \"/a\"\n[source.s]\n{line}\n")).unwrap_err();
        assert!(!told.is_empty() && !told.join("").contains("hunter2"), "{told:?}");
    }
    let told = parse("[store.a]\nurl = \"/a\"\n[alert.m]\nsmtp = \"smtp://u:hunter2@h\"\nto = [\"a@b\"]\n");
    assert!(!told.unwrap_err().join("").contains("hunter2"));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}", at in 0_usize..2000, cut in 0_usize..40) {
        let _ = parse(&text);
        // The documented one, with something else in it.
        let start = (0..=at.min(WHOLE.len())).rev().find(|at| WHOLE.is_char_boundary(*at)).unwrap();
        let end = (start + cut).min(WHOLE.len());
        let _ = parse(&format!("{}{text}{}", &WHOLE[..start], &WHOLE[end..]));
    }
}
