//! The rules of stores.

use super::*;
use RunOutcome::{Failed, Running, Succeeded, Unfinished};

const OFFSITE: &str = "[store.offsite]\nurl = \"/srv/offsite\"\ncopy-from = \"local\"\n";

impl Past {
    fn store(&mut self, name: &str) -> &mut StoreHistory {
        self.history.stores.entry(name.to_owned()).or_default()
    }

    fn copied(&mut self, started: &str) {
        let started = self.at(started);
        self.store("offsite").last_copied = Some(run("copy", "", started, Succeeded, 60, 1));
    }
}

#[test]
fn a_failed_verification_holds_until_one_succeeds() {
    let mut past = Past::new("", "");
    let mut verified = |time: &str, outcome| {
        let started = past.at(time);
        past.store("local").verified.insert(0, run("verify", "", started, outcome, 60, 1));
        past.found("verify-failed", "2026-11-22 12:00")
    };
    assert_eq!(verified("2026-11-17 04:00", Succeeded), None);
    assert_eq!(verified("2026-11-18 04:00", Failed), CRITICAL);
    assert_eq!(verified("2026-11-19 04:00", Unfinished), CRITICAL);
    assert_eq!(verified("2026-11-20 04:00", Running), CRITICAL);
    assert_eq!(verified("2026-11-21 04:00", Succeeded), None);
    assert_eq!(verified("2026-11-22 04:00", Unfinished), None);
}

#[test]
fn verifications_can_be_a_warning_or_nothing() {
    for (rule, expected) in [("\"warning\"", WARNING), ("false", None)] {
        let mut past = Past::new("", &format!("[rules]\nverify-failed = {rule}\n"));
        let started = past.at("2026-11-20 04:00");
        past.store("local").verified.push(run("verify", "", started, Failed, 60, 1));
        assert_eq!(past.found("verify-failed", "2026-11-22 12:00"), expected);
        assert!(past.health(started).stores[0].verify_failed);
    }
}

#[test]
fn a_store_that_is_gone_is_graver_than_one_that_never_was() {
    let mut past = Past::new("", &format!("{OFFSITE}[store.drawer]\nurl = \"/d\"\nremovable = true\n"));
    past.store("drawer").is_missing = true;
    assert_eq!(past.found("missing", "2026-11-22 12:00"), None, "it may be away");
    past.store("offsite").is_missing = true;
    let found = past.finding("missing", past.at("2026-11-22 12:00")).unwrap();
    assert_eq!(Some(found.severity), WARNING);
    assert!(found.text.contains("`yester --store offsite init --like local` makes it"), "{}", found.text);
    past.copied("2026-11-20 03:32");
    assert_eq!(past.found("missing", "2026-11-22 12:00"), CRITICAL);
    assert!(past.health(past.at("2026-11-22 12:00")).stores[2].is_missing);
}

#[test]
fn a_disk_is_full_at_nine_tenths() {
    let mut past = Past::new("", "");
    for (free_bytes, expected) in [(101, None), (100, WARNING), (0, WARNING), (2000, None)] {
        past.store("local").disk = Some(DiskSpace { total_bytes: 1000, free_bytes });
        assert_eq!(past.found("disk-used", "2026-11-22 12:00"), expected, "{free_bytes}");
    }
    past.store("local").disk = Some(DiskSpace { total_bytes: 0, free_bytes: 0 });
    assert_eq!(past.found("disk-used", "2026-11-22 12:00"), None);
    past.store("local").disk = Some(DiskSpace { total_bytes: u64::MAX, free_bytes: 1 });
    assert_eq!(past.found("disk-used", "2026-11-22 12:00"), WARNING);
}

#[test]
fn a_copy_is_behind_after_two_intervals() {
    let mut past = Past::new("schedule = \"03:30\"", OFFSITE);
    past.ran("2026-11-18 03:30", Succeeded);
    past.copied("2026-11-18 03:32");
    assert_eq!(past.found("copy-behind", "2026-11-30 00:00"), None, "it has everything");
    assert_eq!(past.health(past.at("2026-11-19 00:00")).stores[1].behind["shop"], 0);
    for day in [19, 20] {
        past.ran(&format!("2026-11-{day} 03:30"), Succeeded);
    }
    past.ran("2026-11-21 03:30", Failed);
    // The oldest that is missing ended at 03:31 on the 19th.
    assert_eq!(past.found("copy-behind", "2026-11-21 03:30:59"), None);
    assert_eq!(past.found("copy-behind", "2026-11-21 03:31"), WARNING);
    let health = past.health(past.at("2026-11-21 03:31"));
    assert_eq!((health.stores[1].behind["shop"], health.stores[1].worst), (2, WARNING));
    past.copied("2026-11-21 04:00");
    assert_eq!(past.found("copy-behind", "2026-11-30 00:00"), None);
}

#[test]
fn a_copy_that_began_before_a_backup_ended_has_not_got_it() {
    let mut past = Past::new("schedule = \"03:30\"", OFFSITE);
    past.run("shop", past.at("2026-11-18 03:30"), Succeeded, 3600, 1);
    past.copied("2026-11-18 04:00");
    assert_eq!(past.found("copy-behind", "2026-11-20 04:30"), WARNING);
    past.copied("2026-11-18 04:31");
    assert_eq!(past.found("copy-behind", "2026-11-20 04:30"), None);
}

#[test]
fn a_disk_that_comes_once_a_week_has_two() {
    let more = format!("{OFFSITE}removable = true\nschedule = \"Mon 09:00\"\n");
    let mut past = Past::new("schedule = \"03:30\"", &more);
    past.copied("2026-11-02 09:00");
    past.ran("2026-11-03 03:30", Succeeded);
    assert_eq!(past.found("copy-behind", "2026-11-17 03:30:59"), None);
    assert_eq!(past.found("copy-behind", "2026-11-17 03:31"), WARNING);
    let told = past.finding("copy-behind", past.at("2026-11-17 03:31")).unwrap().text;
    assert!(told.contains("Attach /srv/offsite and run `yester run`"), "{told}");
}

#[test]
fn copies_keep_up_across_changes_of_the_clock() {
    // What was made before the short night and the long one may wait for two of them.
    for (schedule, made, hours) in [
        ("03:30", "2026-03-28 03:30", 2 * 23),
        ("02:30", "2026-03-28 02:30", 2 * 47),
        ("03:30", "2026-10-24 03:30", 2 * 25),
        ("02:30", "2026-10-25 02:30", 2 * 25),
    ] {
        let mut past = Past::in_berlin(&format!("schedule = \"{schedule}\""), OFFSITE);
        past.copied(made);
        past.ran(made, Succeeded);
        let limit = past.at(made) + SignedDuration::from_mins(60 * hours + 1);
        assert_eq!(past.severity("copy-behind", limit - SignedDuration::from_secs(1)), None, "{made}");
        assert_eq!(past.severity("copy-behind", limit), WARNING, "{made}");
    }
}

#[test]
fn a_store_that_is_new_in_the_configuration_has_time_to_catch_up() {
    let mut past = Past::new("schedule = \"03:30\"", OFFSITE);
    past.ran("2026-11-01 03:30", Succeeded);
    past.history.configured = Some(past.at("2026-11-20 12:00"));
    assert_eq!(past.found("copy-behind", "2026-11-22 11:59"), None);
    assert_eq!(past.found("copy-behind", "2026-11-22 12:00"), WARNING);
}

#[test]
fn what_is_not_chosen_is_not_missing() {
    let other =
        "schedule = \"03:30\"\n[source.etc]\npaths = [\"/etc\"]\ntags = [\"far\"]\nschedule = \"03:30\"";
    for (select, missing) in [
        ("select = { sources = [\"etc\"] }", vec![("etc", 3)]),
        ("select = { tags = [\"far\"] }", vec![("etc", 3)]),
        ("select = { last = 1 }", vec![("etc", 1), ("shop", 1)]),
        ("", vec![("etc", 3), ("shop", 3)]),
    ] {
        let mut past = Past::new(other, &format!("{OFFSITE}{select}\n"));
        for day in 1..=3 {
            let started = past.at(&format!("2026-11-0{day} 03:30"));
            past.run("shop", started, Succeeded, 60, 1);
            past.run("etc", started, Succeeded, 60, 1);
        }
        let health = past.health(past.at("2026-11-10 00:00"));
        let found: Vec<_> =
            health.stores[1].behind.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!(found, missing, "{select}");
    }
}
